"""Tuned networks of tokens are their pages: attention in blocks of queries, GELU by its logit, norms, whole networks, gradients.

Bounds are first order: each counts the roundings of a sum of so many terms, times the sum of the terms' absolute values.
"""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest
from scipy.special import ndtr

from refflow.core import tree
from refflow.fast import transformers
from refflow.fast.transformers import Room, TunedNetwork, are_plain, attention_vjp, far, gelu, normalised_vjp, of_heads, rows_vjp
from refflow.maps.conditioners import (GELU, ClassEmbedding, Delay, Dense, LayerNorm, LearnedPositions, Positionwise, RelativeAttention,
                                       ReshapedNetwork, Residual, Sequential, TanhActivation, transformer)

RNG, DTYPES = np.random.default_rng, [np.float64, np.float32]


def unit(dtype):
    return np.finfo(dtype).eps / 2


def unchecked(layer, dtype):
    return layer.unchecked(np.dtype(dtype))


# -- attention --------------------------------------------------------------------------------------------------------

def attention_with_bounds(heads, T, d, dtype, size=1.0):
    """[(ours, the page's, bound)] of h and of the cotangents of queries, keys and values."""
    layer, rng = unchecked(RelativeAttention(heads=heads, causal=True), dtype), RNG(0)
    a = (size * rng.standard_normal((2, T, 3 * heads * d))).astype(dtype)
    h_bar = rng.standard_normal((2, T, heads * d)).astype(dtype)
    (h, pullback), (page_h, page_pullback) = attention_vjp(layer, a, Room()), layer.vjp(a.mT)
    a_bar, page_bar = pullback(h_bar)[0], page_pullback(h_bar.mT)[0].mT
    q, k, v = np.abs(of_heads(a.astype(float), heads))
    g, root = np.abs(h_bar.astype(float).reshape(2, T, heads, d).swapaxes(1, 2)), d**0.5
    P = layer.attention(*(part.mT for part in of_heads(a, heads)[:2])).astype(float)
    u, seen = unit(dtype), np.tril(np.ones((T, T)))
    s = (d + 4) * (q @ k.mT * seen).max(-1, keepdims=True) / root + T + 6           # in u, the relative error of P
    c = P * (g @ v.mT + (P * (g @ v.mT)).sum(-1, keepdims=True)) / root
    of_c = (2 * s + 2 * T + d + 12) * c
    bounds = [(s + T) * (P @ v), of_c @ k, of_c.mT @ q, ((s + T) * P).mT @ g]
    ours = [h.reshape(2, T, heads, d).swapaxes(1, 2), *of_heads(a_bar, heads)]
    pages = [page_h.mT.reshape(2, T, heads, d).swapaxes(1, 2), *of_heads(page_bar, heads)]
    return [(*pair, 2 * u * bound) for *pair, bound in zip(ours, pages, bounds)]


def attention_is_the_page_s(*given):
    return all((np.abs(one - other) <= bound).all() for one, other, bound in attention_with_bounds(*given))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 3, 4, 64])
@pytest.mark.parametrize("size", [1e-3, 1.0, 4.0])
def test_attention_in_blocks_is_its_page(rows, size, dtype, monkeypatch):
    """For blocks of one query, of a number that divides the tokens or not, and of all."""
    monkeypatch.setattr(transformers, "ROWS", rows)
    assert attention_is_the_page_s(2, 8, 4, dtype, size) and attention_is_the_page_s(1, 1, 2, dtype, size)


def test_a_saturated_query():
    """Where one weight is all but 1, the derivative of the scores is a small difference: it keeps the digits of its page."""
    layer = unchecked(RelativeAttention(heads=1, causal=True), np.float64)
    a, h_bar = np.array([[0.0, 1.0, 1e8], [6.0, 5.0, 1e8 + 1]]), np.ones((2, 1))
    ours, pages = attention_vjp(layer, a, Room())[1](h_bar)[0], layer.vjp(a.mT)[1](h_bar.mT)[0].mT
    np.testing.assert_allclose(ours[:, :2], pages[:, :2], rtol=1e-7)


def test_memory_grows_with_the_tokens():
    """Not with their square: T T numbers are never held."""
    layer, T = unchecked(RelativeAttention(heads=1, causal=True), np.float32), 2048
    a, h_bar = RNG(0).standard_normal((T, 6)).astype(np.float32), np.ones((T, 2), np.float32)
    tracemalloc.start()
    attention_vjp(layer, a, Room())[1](h_bar)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * T * T / 4


def other_mask(monkeypatch, k):
    monkeypatch.setattr(transformers.np, "triu", lambda A, _: np.where(np.arange(len(A)) - np.arange(len(A))[:, None] >= k, A, 0))


def other_root(monkeypatch):
    """Scores divided by half of the root of d."""
    right = transformers.scores
    monkeypatch.setattr(transformers, "scores", lambda q, k: 2 * right(q, k))


def late_block(monkeypatch):
    """The keys of the block alone."""
    right = transformers.blocks_of
    monkeypatch.setattr(transformers, "blocks_of", lambda T: [(rows, rows) for rows, _ in right(T)])


@pytest.mark.parametrize("plant", [lambda m: other_mask(m, 2), lambda m: other_mask(m, 0), other_root, late_block])
def test_wrong_attention_shows(plant, monkeypatch):
    monkeypatch.setattr(transformers, "ROWS", 4)
    assert attention_is_the_page_s(2, 8, 4, np.float64)
    plant(monkeypatch)
    with np.errstate(all="ignore"):
        assert not attention_is_the_page_s(2, 8, 4, np.float64)


# -- GELU and norms ---------------------------------------------------------------------------------------------------

def sloped(a):
    return gelu(a, np.empty_like(a), np.empty_like(a))


def gelu_errors(a):
    """The errors of h, in u max(|a|, 1), and of the slope, in u."""
    (h, slope), x = sloped(a), a.astype(float)
    of_h, of_slope = h - x * ndtr(x), slope - (ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi))
    assert np.array_equal(h, gelu(a, np.empty_like(a)))
    return np.abs(of_h / np.maximum(np.abs(x), 1)).max() / 2.0**-24, np.abs(of_slope).max() / 2.0**-24


def grid():
    largest = float(np.finfo(np.float32).max)
    ends = [2.0**-149, -2.0**-149, 0.0, -0.0, 1e19, -1e19, 2.0**63.9, -2.0**63.9, largest, -largest]
    return np.concatenate((np.linspace(-20, 20, 400001), np.linspace(-6, 6, 400001), ends)).astype(np.float32)


def test_gelu_is_within_its_bounds():
    ends = np.array([-np.inf, np.nan, np.inf], np.float32)
    with np.errstate(all="ignore"):
        of_h, of_slope = gelu_errors(grid())
        assert of_h <= 4 and of_slope <= 6
        assert np.array_equal(gelu(ends, np.empty_like(ends)), [np.nan, np.nan, np.inf], equal_nan=True)


def test_the_polynomial_is_the_best():
    """By the theorem on alternation: of 7 coefficients, the error has its largest size at 8 points, with signs in turn.

    In coefficients of float32, up to a third.
    """
    a = np.sqrt(30) * np.sin(np.linspace(1e-3, np.pi / 2, 20001))
    error = np.maximum(a, 1) * (1 / (1 + np.exp(a * np.polyval(np.float64(transformers.MINUS_LOGIT)[::-1], a * a))) - ndtr(a))
    signs = np.sign(error[np.abs(error) > 2 / 3 * np.abs(error).max()])
    assert 1 + np.count_nonzero(np.diff(signs)) >= 8


@pytest.mark.parametrize("i", range(len(transformers.MINUS_LOGIT)))
def test_each_coefficient_counts(i, monkeypatch):
    """A tenth off."""
    wrong = list(transformers.MINUS_LOGIT)
    wrong[i] = wrong[i] * np.float32(1.1)
    monkeypatch.setattr(transformers, "MINUS_LOGIT", wrong)
    with np.errstate(all="ignore"):
        of_h, of_slope = gelu_errors(grid())
    assert of_h > 4 and of_slope > 6


def test_gelu_in_parts():
    a = RNG(0).standard_normal((3, transformers.AT_ONCE)).astype(np.float32)
    h, slope = sloped(a)
    for row, of_row, slope_of_row in zip(a, h, slope):
        assert np.array_equal(np.stack(sloped(row)), [of_row, slope_of_row])


def norm_and_event(exponent, dtype, eps, N=8):
    rng, largest = RNG(0), np.finfo(dtype).maxexp - 10
    norm = LayerNorm(rng.normal(size=N).astype(dtype), rng.normal(size=N).astype(dtype), eps).unchecked(np.dtype(dtype))
    a = np.ldexp(rng.normal(size=(20, N)) + rng.normal(size=(20, 1)), min(exponent, largest)).astype(dtype)
    return norm, a, rng.normal(size=a.shape).astype(dtype)


def norm_distances(norm, a, h_bar):
    """How far h and all cotangents are from the page's, in roundings of the largest number."""
    (h, pullback), (page_h, page_pullback) = normalised_vjp(norm, a, Room()), norm.vjp(a)
    (a_bar, bars), (page_bar, page_bars) = pullback(h_bar), page_pullback(h_bar)
    pairs = (h, page_h), (a_bar, page_bar), *((bars[key], page_bars[key]) for key in ("gain", "bias"))
    assert all(one.dtype == other.dtype and one.shape == other.shape for one, other in pairs)
    return [np.abs(one - other).max() / max(np.abs(other).max(), np.finfo(a.dtype).tiny) / (2 * unit(a.dtype)) for one, other in pairs]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("exponent", [-200, -70, -60, 0, 45, 51, 60, 100, 600])
@pytest.mark.parametrize("eps", [1e-5, 2.0**-110, 2.0**-145])
@pytest.mark.parametrize("N", [2, 8])
def test_a_normalisation_is_its_page(exponent, eps, dtype, N):
    """Where squares overflow or vanish too, and for two entries, where the pullback cancels."""
    with np.errstate(all="ignore"):
        assert max(norm_distances(*norm_and_event(exponent, dtype, eps, N))) < 4 * N


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_rounding_of_a_large_mean(dtype):
    """It counts as if the event had been rounded."""
    norm, a, h_bar = norm_and_event(0, dtype, 1e-5)
    for mean in (1e2, 1e4):
        assert max(norm_distances(norm, a + dtype(mean), h_bar)) < 16 * mean


@pytest.mark.parametrize("bug", ["variance", "range"])
def test_a_wrong_normalisation_shows(bug, monkeypatch):
    right = transformers.standardised
    if bug == "variance":
        monkeypatch.setattr(transformers, "standardised", lambda *given: tuple(part * 7 / 8 for part in right(*given)))
    else:
        monkeypatch.setattr(transformers, "are_plain", lambda squares, eps: True)
    with np.errstate(all="ignore"):
        assert not max(norm_distances(*norm_and_event(600 if bug == "range" else 0, np.float64, 1e-5))) < 32


def test_squares_are_plain_far_inside_the_floats():
    assert are_plain(np.ones(1), 2.0**-100) and not are_plain(np.ones(1), 2.0**-101)
    assert not are_plain(np.array([1.0, 2.0**100]), 1e-5) and are_plain(np.array([1.0, 2.0**99]), 1e-5) and are_plain([], 1e-5)


# -- networks ---------------------------------------------------------------------------------------------------------

def network(dtype=np.float64, C=8, T=5, classes=0, activation=GELU(), layers=2):
    """A causal transformer between dense layers, all weights drawn."""
    rng, F = RNG(0), 3
    of_class = ()
    if classes:
        embedding = ClassEmbedding(rng.standard_normal((classes, C)), np.full(classes, 1 / classes))
        of_class = embedding, Residual(embedding.replace(E=embedding.E + 1))
    net = Sequential((Positionwise(Dense(rng.standard_normal((C, F)), rng.standard_normal(C))),
                      LearnedPositions(rng.standard_normal((C, T + 1))), *of_class,
                      transformer(rng, C, 2, layers, 2, causal=True, activation=activation), Residual(LearnedPositions(np.ones((C, T)))),
                      Positionwise(Dense(rng.standard_normal((2 * F, C)) / C, rng.standard_normal(2 * F))), Delay()))
    vector = net.ravel()
    net = net.unravel(vector + 0.1 * rng.standard_normal(vector.shape))
    return unchecked(ReshapedNetwork(net, (F, T)).astype(dtype), dtype)


def results(net, a, h_bar):
    """[h, a_bar, all parameters' cotangents] in the order of `params()`."""
    h, pullback = net.vjp(a)
    a_bar, bars = pullback(h_bar)
    bars = dict(tree.flatten(bars))
    return [h, a_bar, *(bars[path] for path, _ in tree.flatten(net.params()))]


def distance(net, shape=(4,), scale=1.0, size=1.0):
    """In roundings of the largest number of each result."""
    (F, T), rng = net.shape, RNG(1)
    a, h_bar = (size * rng.standard_normal((*shape, F * T))).astype(net.dtype), scale * rng.standard_normal((*shape, 2 * F * T))
    with np.errstate(all="ignore"):
        ours, pages = (results(f, a, h_bar.astype(net.dtype)) for f in (tree.copied(net, TunedNetwork, rooms=[]), net))
    assert all(one.shape == other.shape and one.dtype == other.dtype for one, other in zip(ours, pages, strict=True))
    if not all(np.isfinite(other).all() for other in pages):
        return 0.0 if all(np.array_equal(one, other, equal_nan=True) for one, other in zip(ours, pages)) else np.inf
    return max(np.abs(one - other).max(initial=0) / max(np.abs(other).max(initial=0), np.finfo(net.dtype).tiny)
               for one, other in zip(ours, pages)) / (2 * unit(net.dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("given", [{}, {"classes": 3}, {"C": 4, "T": 1}, {"activation": TanhActivation()}, {"layers": 1}], ids=str)
def test_networks_are_their_pages(given, dtype):
    assert distance(network(dtype, **given)) < 32


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 3)])
def test_batches(shape):
    assert distance(network(), shape) < 32


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.0, 2.0**-100, 2.0**-60, 2.0**60, 2.0**100])
def test_cotangents_of_any_size(scale, dtype):
    assert distance(network(dtype), scale=scale) < 32


@pytest.mark.parametrize("size", [2.0**40, 2.0**100, 2.0**126])
def test_what_leaves_the_plain_range_is_the_page_s(size):
    """Scores beyond the digits of their differences, normalisations whose squares overflow, and sums that do."""
    assert distance(network(np.float32), size=size) < 32


def far_scores():
    """How far a layer is from its page where two scores above 2^52 differ by 1.25."""
    q, layer = 1.25 * 2.0**32, RelativeAttention(causal=True)
    a = np.array([[q, 2.0**20, 1.0], [q, 2.0**20 + 2.0**-32, -1.0]])
    return np.abs(rows_vjp(unchecked(layer, np.float64), a, Room())[0] - layer.forward(a.T).T).max()


@pytest.mark.parametrize("dtype", DTYPES)
def test_how_large_scores_may_be(dtype):
    """d |q| |k| u is 1/32 where an error of one score may be 1/32."""
    q, k = np.full((3, 4), 2.0**5, dtype), np.full((3, 4), 2.0**-14 / unit(dtype), dtype)
    assert far(q, k) and not far(q, k * dtype(0.99)) and far(q, k * dtype(np.nan)) and far(q, k * dtype(np.inf))


def test_far_scores_are_left_to_the_page(monkeypatch):
    assert far_scores() == 0
    monkeypatch.setattr(transformers, "far", lambda q, k: False)
    assert far_scores() > 0.05


def test_a_pullback_serves_twice():
    """It lets go of what it has used, and computes it again."""
    net = tree.copied(network(), TunedNetwork, rooms=[])
    pullback, h_bar = net.vjp(np.ones((1, 15)))[1], np.ones((1, 30))
    (a_bar, bars), (again, bars_again) = pullback(h_bar), pullback(h_bar)
    assert np.array_equal(a_bar, again)
    for (_, one), (_, other) in zip(tree.flatten(bars), tree.flatten(bars_again), strict=True):
        assert np.array_equal(one, other)


def flattened(found):
    a_bar, bars = found
    return [a_bar, *(bar for _, bar in tree.flatten(bars))]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 0, 1), (1, 0, 1), (0, 1, 0, 1), (1,)], ids=str)
def test_pullbacks_share_rooms_and_no_numbers(order, dtype):
    """In whatever order they are called, again or not at all; and what they gave stays as it was."""
    net, rooms = network(dtype), []
    ours = tree.copied(net, TunedNetwork, rooms=rooms)
    for batch in ((4, 4), (4, 2), (4, 4)):
        events = [RNG(i).standard_normal((count, 15)).astype(dtype) for i, count in enumerate(batch)]
        bars = [RNG(i + 2).standard_normal((count, 30)).astype(dtype) for i, count in enumerate(batch)]
        alone = [tree.copied(net, TunedNetwork, rooms=[]).vjp(a) for a in events]
        asked = [ours.vjp(a) for a in events]
        given = [(i, flattened(asked[i][1](bars[i]))) for i in order]
        for i, (h, pullback) in enumerate(alone):
            assert np.array_equal(asked[i][0], h) and np.array_equal(ours.forward(events[i]), h)
            wanted = flattened(pullback(bars[i]))
            assert all(np.array_equal(one, other) for j, found in given if j == i for one, other in zip(found, wanted, strict=True))
    assert 0 < len({id(room) for room in rooms}) == len(rooms) <= 2


def test_a_pass_without_a_pullback_keeps_what_residual_layers_add_to():
    """Also those inside others, whose input is the outer one's too."""
    inner = [Residual(Positionwise(Dense(RNG(i).standard_normal((3, 3))))) for i in range(5)]
    net = Sequential((inner[0], Residual(Sequential((inner[1], inner[2]))), Residual(Residual(inner[3])), inner[4]))
    net = unchecked(ReshapedNetwork(net, (3, 2)), np.float64)
    a, ours = RNG(5).standard_normal((2, 6)), tree.copied(net, TunedNetwork, rooms=[])
    assert np.array_equal(ours.forward(a), ours.vjp(a)[0]) and np.abs(ours.forward(a) - net.forward(a)).max() < 1e-13


@pytest.mark.parametrize("shape", [(3, 1), (1, 3), (3, 2)])
def test_results_are_not_in_a_room(shape):
    """Also where rows of one token, or of one channel, are the signal as they stand."""
    net = Sequential((Residual(Positionwise(Dense(RNG(0).standard_normal((shape[0],) * 2)))),))
    net = tree.copied(unchecked(ReshapedNetwork(net, shape), np.float64), TunedNetwork, rooms=[])
    a = RNG(1).standard_normal((2, math.prod(shape)))
    h, pullback = net.vjp(a)
    results = h, pullback(a)[0], net.forward(a)
    assert net.rooms and not any(np.shares_memory(one, array) for one in results for array in net.rooms[0].arrays)


def test_the_next_step_uses_the_same_arrays():
    net, kept = tree.copied(network(), TunedNetwork, rooms=[]), []
    for count in (3, 3, 2):
        net.vjp(np.ones((count, 15)))[1](np.ones((count, 30)))
        room, = net.rooms
        kept.append([id(array) for array in room.arrays])
    assert kept[0] == kept[1] and all(len(array) == 2 for array in room.arrays) and len(kept[2]) == len(kept[0]) > 10


def test_a_layer_that_stands_twice():
    """Its cotangents are added."""
    shared = Residual(Positionwise(Dense(RNG(0).standard_normal((3, 3)))))
    net = unchecked(ReshapedNetwork(Sequential((shared, shared, RelativeAttention(causal=True), Delay())), (3, 4)), np.float64)
    a, h_bar = RNG(1).standard_normal((2, 12)), RNG(2).standard_normal((2, 4))
    for (path, one), (other_path, other) in zip(*(tree.flatten(f.vjp(a)[1](h_bar)[1]) for f in (tree.copied(net, TunedNetwork, rooms=[]), net))):
        assert path == other_path and np.abs(one - other).max() < 1e-14


def test_a_wrong_network_shows(monkeypatch):
    """A residual branch whose cotangent is the branch's alone."""
    right = transformers.residual_vjp

    def residual_vjp(net, a, room):
        h, pullback = right(net, a, room)

        def wrong(h_bar):
            a_bar, bars = pullback(h_bar)
            return a_bar - h_bar, bars

        return h, wrong

    monkeypatch.setattr(transformers, "residual_vjp", residual_vjp)
    assert distance(network()) > 1e6
