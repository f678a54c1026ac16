"""What transformers are made of: causal attention and what depends on what, delays, positions, classes, rotations, norms."""

from __future__ import annotations

import numpy as np
import pytest

from refflow.core import tree
from refflow.maps.conditioners import (BijectorLayer, ClassEmbedding, Delay, Dense, GatedLinearUnit, LearnedPositions, Positionwise,
                                       PrefixedNetwork, QueryKeyNorm, RelativeAttention, RepeatedHeads, ReshapedNetwork, Residual,
                                       RMSNorm, Rotary, Sequential, SiLU, at_temperature, context_of_classes, rotary_angles, transformer)
from refflow.maps.shape import SqueezeTime

RNG = np.random.default_rng
SEES = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 1, 0], [0, 0, 1, 1]], bool)


# -- causal attention -------------------------------------------------------------------------------------------------

def attention_in_torch(a, heads, causal):
    torch = pytest.importorskip("torch")
    q, k, v = (torch.tensor(part.reshape(len(a), heads, -1, a.shape[-1])).mT.requires_grad_() for part in np.split(a, 3, 1))
    return torch, (q, k, v), torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [1, 2])
def test_attention_is_torchs(heads, causal):
    a, h_bar = RNG(0).standard_normal((3, 12, 5)), RNG(1).standard_normal((3, 4, 5))
    torch, parts, theirs = attention_in_torch(a, heads, causal)
    h, pullback = RelativeAttention(heads=heads, causal=causal).vjp(a)
    assert np.abs(h - theirs.mT.reshape(3, 4, 5).detach().numpy()).max() < 1e-15
    theirs.backward(torch.tensor(h_bar.reshape(3, heads, -1, 5)).mT)
    assert np.abs(pullback(h_bar)[0] - np.concatenate([part.grad.mT.reshape(3, 4, 5).numpy() for part in parts], 1)).max() < 2e-15


SETTINGS = {"causal": {"causal": True}, "causal, two heads": {"causal": True, "heads": 2}, "full": {}, "full, two heads": {"heads": 2},
            "blocks": {"block_length": 1}, "causal blocks": {"block_length": 1, "causal": True},
            "alone": {"block_length": 0}, "dropped": {"keep": RNG(3).random((1, 4, 4)) < 0.5, "rate": 0.5, "causal": True},
            "all of a query is dropped": {"keep": [[[False] * 4, [True] * 4, [False] * 4, [True] * 4]], "rate": 0.5},
            "relative": {"E_k": RNG(4).standard_normal((1, 3, 2)), "E_v": RNG(5).standard_normal((1, 3, 2)), "causal": True},
            "masked": {"mask": [True, False, True, True], "causal": True}, "an empty sequence": {"mask": [False] * 4},
            "seen": {"sees": np.tri(4, 4, 1, bool)[::-1]}, "seen, causal": {"sees": SEES, "causal": True, "heads": 2}}


def seen_apart(net, mask):
    """How far attention with a mask is from torch's, without the mask."""
    torch, a = pytest.importorskip("torch"), RNG(0).standard_normal((3, 6, 4))
    theirs = torch.nn.functional.scaled_dot_product_attention(*(torch.tensor(part).mT for part in np.split(a, 3, 1)),
                                                              attn_mask=torch.tensor(mask))
    return np.abs(net.forward(a) - theirs.mT.numpy()).max()


def test_a_query_sees_what_its_row_says():
    assert seen_apart(RelativeAttention(sees=SEES), SEES) < 1e-15
    assert seen_apart(RelativeAttention(sees=SEES, causal=True), SEES & np.tri(4, dtype=bool)) < 1e-15
    assert seen_apart(RelativeAttention(sees=SEES.T), SEES) > 0.1              # keys and queries exchanged


@pytest.mark.parametrize("name", SETTINGS)
def test_depends_is_where_the_jacobian_is_not_0(name):
    net = RelativeAttention(**SETTINGS[name])
    shape = (6 * net.heads, 4)
    J = net.jacobian(RNG(2).standard_normal((6, *shape)))
    assert np.array_equal((J != 0).any(0), net.depends(shape))


@pytest.mark.parametrize("net, shape", [(GatedLinearUnit(SiLU()), (6,)),
                                        (QueryKeyNorm(RMSNorm([1.0, 2.0]), RMSNorm([3.0, 0.5]), 2, 1), (8,)),
                                        (RepeatedHeads(4, 2), (8, 2)),
                                        (PrefixedNetwork(RelativeAttention(causal=True), Positionwise(Dense(np.ones((6, 1)))), 2,
                                                         np.ones((1, 2))), (6, 3))])
def test_so_is_that_of_what_stands_beside_attention(net, shape):
    J = net.jacobian(RNG(2).standard_normal((6, *shape)))
    assert np.array_equal((J != 0).any(0), net.depends(shape))


@pytest.mark.parametrize("bug", ["sees one key too many", "sees no key of its own"])
def test_a_shifted_causal_mask_is_found(bug, monkeypatch):
    right = RelativeAttention.seen
    monkeypatch.setattr(RelativeAttention, "seen", lambda self, T: right(self, T) | np.eye(T, k=1, dtype=bool)
                        if bug == "sees one key too many" else right(self, T) & ~np.eye(T, dtype=bool))
    a = RNG(0).standard_normal((1, 6, 4))
    _, _, theirs = attention_in_torch(a, 1, True)
    assert np.abs(RelativeAttention(causal=True).forward(a) - theirs.mT.reshape(1, 2, 4).detach().numpy()).max() > 0.1


def test_a_query_does_not_see_later_keys():
    """Bitwise: whatever stands after a position."""
    net, a = transformer(RNG(0), 4, 2, 2, causal=True), RNG(1).standard_normal((2, 4, 6))
    changed = np.where(np.arange(6) < 3, a, 9.0)
    assert np.array_equal(net.forward(a)[..., :3], net.forward(changed)[..., :3])
    full = transformer(RNG(0), 4, 2, 2)
    assert np.abs(full.forward(a) - full.forward(changed))[..., :3].min() > 0


# -- what depends on what, by positions ----------------------------------------------------------------------------------

def networks():
    rng = RNG(6)
    dense = Positionwise(Dense(rng.standard_normal((6, 2)), rng.standard_normal(6)))
    yield from (RelativeAttention(**given) for given in SETTINGS.values() if given.get("heads", 1) == 1)
    yield from (Delay(), dense, LearnedPositions(np.ones((6, 4))), ClassEmbedding(np.ones((2, 6)), [0.5, 0.5]),
                Rotary(rng.standard_normal((1, 4)), 4), Residual(Delay()), RepeatedHeads(4, 1), RepeatedHeads(2, 2),
                PrefixedNetwork(transformer(rng, 6, 3, 1, 2, True), Positionwise(Dense(np.ones((6, 3)))), 2),
                PrefixedNetwork(RelativeAttention(sees=np.tri(6, 6, 2, bool)[::-1]), Positionwise(Dense(np.ones((6, 3)))), 2))
    for causal in (True, False):
        net = transformer(rng, 6, 3, 2, 2, causal)
        yield from (net, Sequential((dense, net, Delay())), Sequential((dense, RelativeAttention(causal=causal), Delay())))


def test_positions_are_those_of_the_entries():
    for net in networks():
        shape = (2, 4) if isinstance(net, Sequential) and isinstance(net.layers[-1], Delay) or net.fixed_shape == (2, 4) else (6, 4)
        shape = (2, 4) if isinstance(net, Positionwise) else shape
        M, T = net.output_shape(shape)
        expected = net.depends(shape).reshape(M, T, *shape).any((0, 2))
        assert np.array_equal(net.depends_on_positions(shape), expected), net


def test_a_vector_of_tokens_depends_by_its_tokens():
    net = ReshapedNetwork(Sequential((Positionwise(Dense(np.eye(2, 3))), transformer(RNG(0), 2, causal=True), Delay())), (3, 4))
    pattern = net.depends((12,)).reshape(2, 4, 3, 4)
    assert all(np.array_equal(pattern[m, :, c], np.tri(4, k=-1, dtype=bool)) for m, c in np.ndindex(2, 3))
    a = RNG(1).standard_normal((3, 12))
    assert not net.jacobian(a)[:, ~net.depends((12,))].any()
    assert np.array_equal(net.forward(a), net.net.forward(a.reshape(3, 3, 4)).reshape(3, 8))


# -- classes ----------------------------------------------------------------------------------------------------------

def test_classes_and_the_null_class():
    E, a = RNG(0).standard_normal((3, 2)), RNG(1).standard_normal((2, 2, 4))
    given = ClassEmbedding(E).at(context=context_of_classes([2, 0], 3)).forward(a)
    assert np.array_equal(given, a + E[[2, 0]][..., None])
    free = ClassEmbedding(E).at(context=context_of_classes(None, 3)).forward(a)
    assert np.abs(free - a - E.mean(0)[:, None]).max() < 1e-15
    assert context_of_classes(np.array([[0], [1]]), 2, np.float32).dtype == np.float32
    assert context_of_classes(1, 2).tolist() == [0, 1]


@pytest.mark.parametrize("call, said", [
    (lambda: context_of_classes([0, 1, 3], 3), r"context_of_classes: labels must be in 0 .. 2; labels\[2\] = 3"),
    (lambda: context_of_classes([[0, 1], [-1, 0]], 3), r"labels\[1, 0\] = -1"),
    (lambda: context_of_classes(5, 3), "labels = 5"), (lambda: context_of_classes([0.5], 3), "labels must be integers, not float64"),
    (lambda: context_of_classes([True], 3), "labels must be integers, not bool"),
    (lambda: ClassEmbedding([[1.0]]).forward(np.ones((1, 1))), "ClassEmbedding: there is no context"),
    (lambda: LearnedPositions(np.ones((2, 3))).forward(np.ones((2, 4))), "it has vectors for N=3 positions"),
    (lambda: transformer(RNG(0), 6, 4), "transformer: channels must be a multiple of heads = 4, not 6"),
    (lambda: transformer(RNG(0), 6, layers=0), "transformer: layers must be an int >= 1, not 0"),
    (lambda: at_temperature(transformer(RNG(0), 2), -1.0), "at_temperature: temperature must be"),
    (lambda: at_temperature(RelativeAttention(), 2.0), "attention must follow a dense layer at each position; the network does not"),
    (lambda: at_temperature(Sequential((RelativeAttention(),)), 2.0), "layers.0 does not"),
    (lambda: at_temperature(Residual(RelativeAttention()), 2.0), "inner does not"),
    (lambda: Rotary([[np.inf]], 2), "Rotary: angles must be finite"), (lambda: Rotary([[0.5]], 3), "a multiple of 2 P = 2, not 3"),
    (lambda: PrefixedNetwork(BijectorLayer(SqueezeTime(2)), Positionwise(Dense([[1.0]])), 1, context=[[1.0]]).forward(np.ones((1, 3))),
     "its inner network must keep the number of positions, 4; it makes them 2"),
    (lambda: rotary_angles([0.0, 1.0], [2]), "rotary_angles: pairs must hold a number for each"),
    (lambda: rotary_angles([[0.0], [1.0]], [2]), "rotary_angles: pairs must hold a number for each"),
    (lambda: rotary_angles([0.0], [1]), "rotary_angles: pairs must hold a number for each"),
    (lambda: rotary_angles([[0.0]], [-1]), r"pairs\[0\] must be an int >= 0, not -1"),
    (lambda: rotary_angles([[0.0], [1.0]], [1, True]), r"pairs\[1\] must be an int >= 0, not True"),
    (lambda: rotary_angles([[0.0]], [1.5]), r"pairs\[0\] must be an int >= 0, not 1.5"),
])
def test_bad_input_is_refused_by_name(call, said):
    with pytest.raises(ValueError, match=said):
        call()


# -- rotations and norms --------------------------------------------------------------------------------------------------

def test_products_of_rotated_vectors_depend_on_distances_alone():
    q, k = RNG(0).standard_normal((2, 8, 1))
    turned = Rotary(rotary_angles([np.arange(6.0)], [4]), 8)
    q, k = (turned.forward(np.repeat(v, 6, 1)) for v in (q, k))
    products = q.T @ k
    assert all(np.ptp(np.diagonal(products, r)) < 1e-13 for r in range(-5, 6)) and np.ptp(products[0]) > 0.1
    assert np.allclose((q * q).sum(0), (q[:, 0] ** 2).sum(), rtol=1e-14)


def test_angles_are_products_of_positions_and_frequencies():
    """A coordinate without pairs turns nothing; the first pair of any other turns by the position itself."""
    y = np.array([[0.0, 1.0, -2.0], [3.0, 4.0, 5.0], [0.5, 0.25, 8.0]])
    angles = rotary_angles(y, [np.int64(2), 0, 3])
    frequencies = [1, 1e4 ** (-1 / 2), 1, 1e4 ** (-1 / 3), 1e4 ** (-2 / 3)]
    assert np.array_equal(angles, np.multiply(np.array(frequencies)[:, None], y[[0, 0, 2, 2, 2]])) and angles.dtype == np.float64
    assert np.array_equal(rotary_angles([[2, 4]], [2], 100), [[2, 4], [0.2, 0.4]])


def test_a_pair_is_a_complex_number_that_is_multiplied():
    angles, a = rotary_angles(RNG(0).uniform(-9, 9, (2, 5)), [1, 2], 100.0), RNG(1).standard_normal((3, 14, 5))
    assert angles.shape == (3, 5) and np.allclose(angles[2], angles[1] / 10, rtol=1e-14)
    h = Rotary(angles, 12).forward(a)
    z = (a[:, 0:12:2] + 1j * a[:, 1:12:2]) * np.exp(1j * np.tile(angles, (2, 1)))
    assert np.allclose(h[:, 0:12:2], z.real, atol=1e-14) and np.allclose(h[:, 1:12:2], z.imag, atol=1e-14)
    assert np.array_equal(h[:, 12:], a[:, 12:])


@pytest.mark.parametrize("N", [1, 2, 5])
def test_rms_norm_is_torchs(N):
    torch = pytest.importorskip("torch")
    a, gain, h_bar = RNG(0).standard_normal((4, N)), RNG(1).standard_normal(N), RNG(2).standard_normal((4, N))
    t = torch.tensor(a, requires_grad=True)
    theirs = torch.nn.functional.rms_norm(t, (N,), torch.tensor(gain), 1e-3)
    h, pullback = RMSNorm(gain, 1e-3).vjp(a)
    theirs.backward(torch.tensor(h_bar))
    assert np.allclose(h, theirs.detach(), rtol=1e-14) and np.allclose(pullback(h_bar)[0], t.grad, rtol=1e-12, atol=1e-14)


def test_a_delay_begins_with_its_start():
    a = RNG(0).standard_normal((2, 3, 4))
    h = Delay([1.0, 2.0, 3.0]).forward(a)
    assert np.array_equal(h[..., 0], [[1, 2, 3]] * 2) and np.array_equal(h[..., 1:], a[..., :-1])
    starts = np.stack((np.ones(3), np.zeros(3)))
    assert np.array_equal(Delay(starts).forward(a)[..., 0], starts) and not Delay().forward(a)[..., 0].any()


def test_a_temperature_below_1_sharpens():
    net, a = transformer(RNG(0), 4, 2), RNG(1).standard_normal((2, 4, 5))
    ours = [value for _, value in tree.walk(at_temperature(net, 0.5)) if isinstance(value, Dense)]
    theirs = [value for _, value in tree.walk(net) if isinstance(value, Dense)]
    assert np.array_equal(ours[0].W, np.concatenate((2 * theirs[0].W[:4], theirs[0].W[4:])))
    assert np.array_equal(ours[0].b, np.concatenate((2 * theirs[0].b[:4], theirs[0].b[4:])))
    assert all(mine.equals(other) for mine, other in zip(ours[1:], theirs[1:]))
    assert np.abs(at_temperature(net, 0.5).forward(a) - net.forward(a)).max() > 1e-3
