"""Squeezing, factoring out, maps at every position, orthogonal maps, the logit of pixels and dequantisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

import refflow
from refflow import (ActNorm, AffineCoupling, AlphaSigmoid, Chain, DenseLinear, FactorOut, Flow, Independent, Inverse,
                     OrthogonalLinear, Permutation, PLULinear, Pointwise, Reshape, Sigmoid, Softplus, Squeeze,
                     StandardNormal, Uniform, alpha_logit, bits_per_dim, dequantised, quantised, variational_bound_vjp)
from refflow.accuracy.kappa import kappa
from refflow.accuracy.points import Points
from refflow.laws import strategies
from refflow.laws.bijector_laws import run_laws
from refflow.maps.conditioners import dense_network
from refflow.maps.coupling import masks
from refflow.maps.linear import dense as dense_page
from refflow.maps.shape.squeeze import ORDERS
from refflow.training.unconstrained import Unconstrained
from refflow.truth.measure import measure

PRACTICE = Path(__file__).parents[1] / "validation" / "practice"
DTYPES = (np.float32, np.float64)


def rng(seed=0):
    return np.random.default_rng(seed)


def first(image):
    """(N, H, W, C) as (N, C, H, W)."""
    return np.moveaxis(image, -1, 1)


def rotation(size, seed=0):
    return np.linalg.qr(rng(seed).standard_normal((size, size)))[0]


def plu(size):
    g = rng(4)
    return PLULinear(g.permutation(size), np.tril(g.standard_normal((size, size)), -1),
                     np.triu(g.standard_normal((size, size)), 1), np.exp(g.standard_normal(size)), g.standard_normal(size))


# -- squeeze ----------------------------------------------------------------------------------------------------------

def test_squeeze_is_realnvp_s():
    with np.load(PRACTICE / "realnvp_tf_squeeze.npz") as file:
        x = first(file["in/x"])
        for order, name in (("interleaved", "squeeze"), ("diagonal", "ordered")):
            f = Squeeze(order=order)
            assert np.array_equal(f.forward(x), first(file[f"out/{name}"]))
            assert np.array_equal(Inverse(f).forward(first(file[f"out/{name}"])), x)
        assert np.array_equal(first(file["out/unsqueeze"]), x) and np.array_equal(first(file["out/unordered"]), x)


def test_squeeze_is_glow_s():
    with np.load(PRACTICE / "glow_squeeze_split.npz") as file:
        assert np.array_equal(Squeeze().forward(file["in/x"]), file["out/squeezed"])
        assert np.array_equal(Inverse(Squeeze()).forward(file["out/squeezed"]), file["out/unsqueezed"])


@pytest.mark.parametrize("factor", [1, 2, 3])
@pytest.mark.parametrize("order, channel", [("interleaved", lambda f, C, c, dy, dx: c * f * f + f * dy + dx),
                                            ("blocks", lambda f, C, c, dy, dx: (f * dy + dx) * C + c)])
def test_channels_of_a_squeeze(order, channel, factor):
    C, h, w = 2, 2, 3
    z = rng().standard_normal((4, C, h * factor, w * factor))
    x = Squeeze(factor, order).forward(z)
    assert x.shape == (4, C * factor**2, h, w)
    for c in range(C):
        for dy in range(factor):
            for dx in range(factor):
                assert np.array_equal(x[:, channel(factor, C, c, dy, dx)], z[:, c, dy::factor, dx::factor])


@pytest.mark.parametrize("order", ORDERS)
def test_the_first_half_of_diagonal_channels_alone_is_a_checkerboard(order):
    z = np.indices((4, 6)).sum(0)[None].astype(float) % 2
    half = Squeeze(order=order).forward(z)[:2]
    assert np.all(half == 0) == (order == "diagonal")


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=2)
@given(st.data())
def test_laws_of_a_squeeze_by_three(dtype, data):
    f = Squeeze(3, "blocks")
    run_laws(f, data.draw(strategies.points(f, dtype, count=3, event_shape=(1, 3, 3))))


@pytest.mark.parametrize("given, rule", [
    ({"factor": 0}, "Squeeze: factor must be an int >= 1, not 0"), ({"factor": 2.0}, "factor must be an int >= 1, not 2.0"),
    ({"factor": True}, "factor must be an int"), ({"order": "rows"}, "order must be one of .* not 'rows'"),
    ({"factor": 3, "order": "diagonal"}, "the order 'diagonal' is of factor 2, not 3")])
def test_bad_squeezes_are_refused(given, rule):
    with pytest.raises(ValueError, match=rule):
        Squeeze(**given)


def test_sizes_that_do_not_divide_are_refused_from_both_sides():
    with pytest.raises(ValueError, match=r"Squeeze: z has event shape \(3, 4, 5\): height and width must be multiples"):
        Squeeze().forward(np.zeros((3, 4, 5)))
    with pytest.raises(ValueError, match=r"Squeeze: x has event shape \(6, 2, 2\): its channels must be a multiple of .* 4"):
        Squeeze().inverse(np.zeros((6, 2, 2)))
    with pytest.raises(ValueError, match="its channels must be a multiple"):
        Inverse(Squeeze()).forward(np.zeros((6, 2, 2)))


# -- factoring out ----------------------------------------------------------------------------------------------------

def two_scales():
    """(4, 2, 2) images: channels 1 and 3 are factored out, then 5 of 8, with maps in between."""
    keep = np.array([True, False, True, False])
    last = Chain([Pointwise(DenseLinear(rng(2).standard_normal((3, 3)))), Reshape((3, 1, 1), (3,))])
    rest = Chain([Squeeze(), FactorOut(np.arange(8) < 3, last)])
    return FactorOut(keep, Chain([ActNorm(np.array([2.0, -0.5]), np.array([0.1, 0.2]), 3), rest]))


def test_order_of_the_latents():
    h = rng().standard_normal((5, 4, 2, 2))
    f = two_scales()
    z = f.forward(h)
    kept = h[:, [0, 2]] * np.array([2.0, -0.5])[:, None, None] + np.array([0.1, 0.2])[:, None, None]
    squeezed = kept.reshape(5, 8, 1, 1)
    W = rng(2).standard_normal((3, 3))
    assert np.array_equal(z[:, :8], h[:, [1, 3]].reshape(5, 8))
    assert np.array_equal(z[:, 8:13], squeezed[:, 3:, 0, 0])
    assert np.allclose(z[:, 13:], squeezed[:, :3, 0, 0] @ W.T, rtol=1e-14, atol=1e-14)
    assert np.allclose(f.log_det(h), np.linalg.slogdet(W)[1], rtol=1e-14)      # ActNorm's scales have product -1


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=2)
@given(st.data())
def test_laws_of_factoring_out(dtype, data):
    inner = Chain([Pointwise(DenseLinear([[1.0, -0.5], [0.75, 2.0]])), Reshape((2, 1, 1), (2,))])
    rest = Chain([ActNorm(np.array([2.0]), np.array([0.1]), 3), Squeeze(), FactorOut([True, False, False, True], inner)])
    f = FactorOut([False, True], rest).astype(dtype)
    run_laws(f, data.draw(strategies.points(f, dtype, count=3, event_shape=(2, 2, 2))))


@pytest.mark.parametrize("wrapped", [lambda f: Inverse(f), lambda f: Chain([Inverse(f), Independent(Sigmoid(), 3)]),
                                     lambda f: Inverse(Chain([Inverse(Sigmoid()), f]))])
def test_latents_are_unpacked_and_packed(wrapped):
    f = two_scales()
    flow = Flow(wrapped(f), StandardNormal(16))
    shapes = [(2, 2, 2), (5, 1, 1), (3, 1, 1)]
    assert f.latent_shapes((4, 2, 2)) == shapes and flow.latent_shapes() == shapes
    z = rng().standard_normal((3, 2, 16))
    parts = flow.unpack(z)
    assert [p.shape for p in parts] == [(3, 2, *s) for s in shapes]
    assert np.array_equal(parts[0], z[..., :8].reshape(3, 2, 2, 2, 2)) and np.array_equal(parts[2][..., 0, 0], z[..., 13:])
    assert np.array_equal(flow.pack(parts), z)
    with pytest.raises(ValueError, match=r"Flow: z must have event shape \(16,\), not shape \(3, 15\)"):
        flow.unpack(z[0, :, :15].repeat(2, 0)[:3])
    with pytest.raises(ValueError, match="Flow: its latent parts have shapes"):
        flow.pack(parts[:2])
    with pytest.raises(ValueError, match="Flow: its latent parts have shapes"):
        flow.pack([parts[0], parts[1][:1], parts[2]])


def test_other_latents_are_one_part():
    flow = Flow(refflow.Affine(np.zeros(3), np.ones(3)), StandardNormal(3))
    z = rng().standard_normal((2, 3))
    assert flow.latent_shapes() == [(3,)] and np.array_equal(flow.unpack(z)[0], z) and np.array_equal(flow.pack([z]), z)
    image = Flow(Squeeze(), StandardNormal((1, 2, 2)))
    assert image.unpack(np.zeros((3, 1, 2, 2)))[0].shape == (3, 1, 2, 2)
    assert Chain([Squeeze(), Reshape((4, 1, 1), (4,))]).latent_shapes((1, 2, 2)) == [(4, 1, 1)]


def test_factoring_out_all_but_nothing():
    f = FactorOut([True, True], Reshape((2, 1, 1), (2,)))
    z = rng().standard_normal((3, 2, 1, 1))
    assert np.array_equal(f.forward(z), z[..., 0, 0]) and np.array_equal(f.inverse(f.forward(z)), z)
    assert f.latent_shapes((2, 1, 1)) == [(2, 1, 1)]


@pytest.mark.parametrize("keep, rest, rule", [
    ([False, False], Reshape((1, 1, 1), (1,)), "keep must be one mask"),
    ([[True, False]], Reshape((1, 1, 1), (1,)), "keep must be one mask"),
    ([1.0, 0.0], Reshape((1, 1, 1), (1,)), "keep must be of dtype bool"),
    ([True, False], Squeeze(), r"rest must be a bijector of event ranks \(3, 1\), not \(3, 3\)"),
    ([True, False], 3, "rest must be a bijector"),
    ([True, False], Chain([Reshape((1, 1, 1), (1,)), Sigmoid()]), "rest must map real events to real ones, not real to")])
def test_bad_factoring_out_is_refused(keep, rest, rule):
    with pytest.raises(ValueError, match=f"FactorOut: {rule}"):
        FactorOut(keep, rest)


def test_sizes_that_do_not_fit_a_factoring_are_refused():
    f = FactorOut([True, False], Reshape((1, 2, 2), (4,)))
    with pytest.raises(ValueError, match=r"FactorOut: z has event shape \(3, 2, 2\): the fields of FactorOut have C=2"):
        f.forward(np.zeros((3, 2, 2)))
    with pytest.raises(ValueError, match=r"FactorOut: z has event shape \(2, 1, 2\)"):
        f.forward(np.zeros((2, 1, 2)))
    with pytest.raises(ValueError, match=r"FactorOut: x has event shape \(7,\): its entries must be a multiple of C=2"):
        f.inverse(np.zeros(7))
    with pytest.raises(ValueError, match=r"FactorOut: x has event shape \(6,\)"):
        f.inverse(np.zeros(6))


def test_initialisation_goes_through_a_factoring():
    stage = ActNorm(np.ones(2), np.zeros(2), 3)
    f = FactorOut([True, False, True], Chain([stage, Reshape((2, 2, 2), (8,))]))
    data = 3 * rng().standard_normal((50, 3, 2, 2)) + 1
    z = f.initialised(data, rng()).forward(data)[:, 4:].reshape(50, 2, 4)
    assert np.allclose(z.mean((0, 2)), 0, atol=1e-14) and np.allclose(z.var((0, 2)), 1, rtol=1e-13)
    h = Inverse(f).initialised(z := rng().standard_normal((50, 12)), rng()).forward(z)[:, [0, 2]]
    assert np.allclose(h.mean((0, 2, 3)), 0, atol=1e-14) and np.allclose(h.var((0, 2, 3)), 1, rtol=1e-13)


# -- maps at every position -------------------------------------------------------------------------------------------

def network(sizes, context=0):
    return dense_network(rng(6), sizes, "tanh", context=context, zero_last=False)


def softplus_of_dense(size):
    return Chain([DenseLinear(rng(5).standard_normal((size, size))), Softplus()])


INNER = {"dense": lambda: DenseLinear(rng(3).standard_normal((3, 3)), np.array([0.5, -0.5, 1.0])), "plu": lambda: plu(3),
         "orthogonal": lambda: OrthogonalLinear(rotation(3)), "permutation": lambda: Permutation([2, 0, 1]),
         "coupling": lambda: AffineCoupling(masks.halves(3), network((1, 5, 4))),
         "softplus": lambda: softplus_of_dense(3)}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", INNER)
def test_laws_of_pointwise_maps(name, dtype):
    @settings(max_examples=3)
    @given(st.data())
    def every_law(data):
        f = Pointwise(INNER[name](), 2 if name in ("plu", "coupling") else 3).astype(dtype)
        shape = (3, 2) if f.rank == 2 else (3, 1, 2)
        run_laws(f, data.draw(strategies.points(f, dtype, count=6, event_shape=shape)))

    every_law()


@pytest.mark.parametrize("dtype", DTYPES)
def test_laws_of_a_saturated_coupling(dtype):
    """Log-dets of two positions, and their derivatives in the weights, cancel; slopes of tanh underflow in float32."""
    f, g = Pointwise(INNER["coupling"](), 2).astype(dtype), rng(2)
    z = g.standard_normal((6, 3, 2)) * 100
    z[:, 0] = ([92.55754, -103.07968], [477.4663, -65.20631], [-219.40732, 118.61948], [211.21977, 434.75192], [4e3, -1e3],
               [2, -2])
    run_laws(f, Points(f, z.astype(dtype), *(g.standard_normal(s).astype(dtype) for s in (z.shape, z.shape, 6))))


def test_roundings_at_positions_do_not_cancel():
    """The net is odd: at v and -v log-dets cancel, so do their derivatives in its weights, and kappa is not 0."""
    inner, v = INNER["coupling"](), rng(1).standard_normal((5, 3)) * 50
    f, z = Pointwise(inner, 2), np.stack((v, -v), -1)
    each = kappa(inner, v)["log_det"] - np.abs(inner.log_det(v))
    assert np.allclose(f.log_det(z), 0, atol=1e-15) and np.allclose(kappa(f, z)["log_det"], 2 * each, rtol=1e-12)


@pytest.mark.parametrize("name", INNER)
@pytest.mark.parametrize("shape", [(3, 4), (3, 2, 5), (3, 0, 2)])
def test_a_pointwise_map_is_its_inner_at_each_position(name, shape):
    inner = INNER[name]()
    f, z = Pointwise(inner, len(shape)), rng(1).standard_normal((2, *shape))
    x, log_det = f.forward_and_log_det(z)
    total = np.zeros(2)
    for index in np.ndindex(shape[1:]):
        at = (slice(None), slice(None), *index)
        assert np.allclose(x[at], inner.forward(z[at]), rtol=1e-13, atol=1e-13)
        total += inner.log_det(z[at])
    assert x.shape == z.shape and np.allclose(log_det, total, rtol=1e-13, atol=1e-13)
    assert np.allclose(f.log_det(z), total, rtol=1e-13, atol=1e-13)
    assert np.allclose(f.inverse(x), z, rtol=1e-9, atol=1e-9)


def test_gradient_of_an_invertible_convolution():
    W, z = rng(3).standard_normal((4, 4)), rng(1).standard_normal((5, 4, 2, 3))
    x_bar, l_bar = rng(2).standard_normal(z.shape), rng(7).standard_normal(5)
    (x, log_det), pullback = Pointwise(DenseLinear(W)).vjp(z)
    z_bar, bars = pullback(x_bar, l_bar)
    assert np.allclose(x, np.einsum("ij,njhw->nihw", W, z), rtol=1e-13, atol=1e-13)
    assert np.allclose(log_det, 6 * np.linalg.slogdet(W)[1], rtol=1e-13)
    assert np.allclose(z_bar, np.einsum("ij,nihw->njhw", W, x_bar), rtol=1e-13, atol=1e-13)
    W_bar = np.einsum("nihw,njhw->ij", x_bar, z) + 6 * l_bar.sum() * np.linalg.inv(W).T
    assert np.allclose(bars["inner"]["W"], W_bar, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("method", ["vjp", "inverse_vjp"])
def test_one_factorisation_for_all_positions(monkeypatch, method):
    calls = []
    factored = dense_page.factored
    monkeypatch.setattr(dense_page, "factored", lambda W: calls.append(W.shape) or factored(W))
    z = rng(1).standard_normal((5, 4, 2, 3))
    (_, log_det), pullback = getattr(Pointwise(DenseLinear(rng(3).standard_normal((4, 4)))), method)(z)
    pullback(z, log_det)
    assert calls == [(4, 4)]


@pytest.mark.parametrize("make, rule", [
    (lambda: Pointwise(DenseLinear(np.eye(2)), 1), "rank must be 2 or 3, not 1"),
    (lambda: Pointwise(Squeeze()), r"inner must be a bijector of vectors, event ranks \(1, 1\), not \(3, 3\)"),
    (lambda: Pointwise("rotation"), "inner must be a bijector of vectors"),
    (lambda: Pointwise(refflow.StickBreaking()), "inner must map vectors whose entries are free, not simplex"),
    (lambda: Pointwise(DenseLinear(np.stack([np.eye(2)] * 3))), r"inner must have no batch, not \(3,\)")])
def test_bad_pointwise_maps_are_refused(make, rule):
    with pytest.raises(ValueError, match=f"Pointwise: .*{rule}"):
        make()
    with pytest.raises(ValueError, match=r"Pointwise: z has event shape \(3, 2, 2\): .*D=2"):
        Pointwise(DenseLinear(np.eye(2))).forward(np.zeros((3, 2, 2)))


# -- helpers of the matrix pages --------------------------------------------------------------------------------------

@pytest.mark.parametrize("make", [lambda: DenseLinear(rng(3).standard_normal((5, 5))),
                                  lambda: plu(5).replace(shift=np.zeros(5)), lambda: OrthogonalLinear(rotation(5))])
@pytest.mark.parametrize("power", [-600, -140, 140, 600])
def test_events_of_any_size_are_mapped_alike(make, power):
    """Moderate events are not scaled, others are: by powers of 2, so that both ways differ only in the order of sums."""
    f, z = make(), rng(1).standard_normal((7, 5))
    big = np.ldexp(z, power)
    assert np.allclose(np.ldexp(f.forward(big), -power), f.forward(z), rtol=1e-12, atol=1e-14)
    assert np.allclose(np.ldexp(f.inverse(big), -power), f.inverse(z), rtol=1e-9, atol=1e-12)
    none = np.zeros(7)
    bars, expected = f.inverse_vjp(big)[1](z, none), f.inverse_vjp(z)[1](z, none)
    assert np.allclose(bars[0], expected[0], rtol=1e-9, atol=1e-9)
    for key in set(bars[1]) - {"shift"}:
        assert np.allclose(np.ldexp(bars[1][key], -power), expected[1][key], rtol=1e-8, atol=1e-8), key


@pytest.mark.parametrize("make", [lambda: DenseLinear(rng(3).standard_normal((5, 5)), None),
                                  lambda: DenseLinear(rng(3).standard_normal((7, 5, 5)), None),
                                  lambda: plu(5).replace(shift=None)], ids=["dense", "batch of dense", "plu"])
def test_a_map_without_a_shift_is_one_whose_shift_is_0(make):
    f, z, bars = make(), rng(1).standard_normal((7, 5)), (rng(2).standard_normal((7, 5)), rng(5).standard_normal(7))
    g = f.replace(shift=np.zeros(5))
    assert np.array_equal(f.jacobian(z), g.jacobian(z)) and np.array_equal(f.log_det(z), g.log_det(z))
    for name in ("forward_and_log_det", "inverse_and_log_det"):
        assert all(np.array_equal(a, b) for a, b in zip(getattr(f, name)(z), getattr(g, name)(z)))
    for name in ("vjp", "inverse_vjp"):
        (values, pullback), (values_0, pullback_0) = getattr(f, name)(z), getattr(g, name)(z)
        assert all(np.array_equal(a, b) for a, b in zip(values, values_0))
        (z_bar, own), (z_bar_0, own_0) = pullback(*bars), pullback_0(*bars)
        assert np.array_equal(z_bar, z_bar_0) and own.keys() == own_0.keys() - {"shift"} == f.params().keys()
        assert all(np.array_equal(bar, own_0[key]) for key, bar in own.items())


@pytest.mark.parametrize("f", [DenseLinear([[2.0, 1.0], [-0.5, 3.0]], None),
                               PLULinear([1, 0], [[0.0, 0.0], [0.5, 0.0]], [[0.0, -2.0], [0.0, 0.0]], [1.5, -0.25], None)],
                         ids=["dense", "plu"])
def test_the_truth_of_a_map_without_a_shift(f):
    found = measure(f, z=[0.7, -1.1], x=[0.3, 2.5], x_bar=[1.0, -2.0], z_bar=[0.5, 1.5], log_det_bar=0.75)
    assert {"vjp.z_bar", "inverse_vjp.x_bar"} <= found.keys() and not any("shift" in name for name in found)
    assert all(C <= 4 for C, _ in found.values())


@pytest.mark.parametrize("method", ["forward", "inverse", "vjp", "inverse_vjp"])
def test_matrix_pages_leave_their_events_alone(method):
    for f in (plu(1), DenseLinear([[-2.0]], [1.0]), OrthogonalLinear([[-1.0]]), DenseLinear([[[-2.0]], [[3.0]]], [1.0])):
        z = np.array([[3.0], [4.0]])
        result = getattr(f, method)(z)
        if method.endswith("vjp"):
            bar = np.array([[1.0], [2.0]])
            result[1](bar, bar[:, 0])
            assert bar.tolist() == [[1.0], [2.0]]
        assert z.tolist() == [[3.0], [4.0]]


# -- orthogonal maps --------------------------------------------------------------------------------------------------

def test_an_orthogonal_map_against_numpy():
    Q, z = rotation(6), rng(1).standard_normal((4, 6))
    f = OrthogonalLinear(Q)
    assert np.allclose(f.forward(z), z @ Q.T, rtol=1e-14, atol=1e-14)
    assert np.allclose(f.inverse(z), np.linalg.solve(Q, z.T).T, rtol=1e-14, atol=1e-14)
    assert np.all(np.abs(f.log_det(z)) <= 6 * 2.0**-53 * 4)
    x_bar, l_bar = rng(2).standard_normal((4, 6)), rng(3).standard_normal(4)
    assert np.allclose(f.vjp(z)[1](x_bar, l_bar)[1]["Q"], x_bar.T @ z + l_bar.sum() * np.linalg.inv(Q).T, atol=1e-13)


@pytest.mark.parametrize("dtype", DTYPES)
def test_rounded_orthogonal_matrices_are_members(dtype):
    for size in (1, 2, 3, 16, 64):
        for seed in range(20):
            a = rng(seed).standard_normal((size, size)).astype(dtype)
            S = np.tril(a, -1) / 100
            cayley = np.linalg.solve(np.eye(size, dtype=dtype) + S - S.T, np.eye(size, dtype=dtype) - S + S.T)
            for Q in (np.linalg.qr(a)[0], cayley):
                f = OrthogonalLinear(Q)
                other = f.astype(np.float32 if dtype == np.float64 else np.float64)
                assert np.allclose(other.Q, Q, atol=1e-5)


@pytest.mark.parametrize("Q", [np.eye(2) * (1 + 1e-14), [[1.0, 1e-14], [0.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]],
                               [[np.nan, 0.0], [0.0, 1.0]], [[np.inf, 0.0], [0.0, 1.0]], np.full((2, 2), 1e200)])
def test_what_is_not_orthogonal_is_refused(Q):
    with pytest.raises(ValueError, match="OrthogonalLinear: Q must be orthogonal, .*; Q = "):
        OrthogonalLinear(np.asarray(Q, float))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(3, 3), (2, 4, 4)])
def test_orthogonal_matrices_are_trained_among_themselves(shape, dtype):
    start = np.linalg.qr(rng().standard_normal(shape))[0].astype(dtype)
    free = Unconstrained(OrthogonalLinear(start))
    D = shape[-1]
    assert free.vector.size == np.prod(shape[:-2], dtype=int) * D * (D - 1) // 2
    assert np.allclose(free.value_at(free.vector).Q, start, atol=8 * np.finfo(dtype).eps)
    for size in (1e-3, 1.0, 1e3):
        y = (size * rng(1).standard_normal(free.vector.size)).astype(dtype)
        Q = free.value_at(y).Q                          # a member; otherwise this raises
        assert Q.dtype == dtype and np.allclose(np.linalg.det(Q), np.linalg.det(start), rtol=1e-4)
    again = Unconstrained(OrthogonalLinear(start)).leaves[0].map.free(free.value_at(free.vector + dtype(0.25)).Q)
    assert np.allclose(again, free.vector + dtype(0.25), atol=64 * np.finfo(dtype).eps)


def test_gradient_along_orthogonal_matrices():
    weights = rng(3).standard_normal((4, 4))
    free = Unconstrained(OrthogonalLinear(rotation(4)))
    y = 0.7 * rng(1).standard_normal(6)
    gradient = free.gradient(y, {"Q": weights})
    h = 1e-5
    for i, step in enumerate(h * np.eye(6)):
        slope = ((free.value_at(y + step).Q - free.value_at(y - step).Q) * weights).sum() / (2 * h)
        assert abs(gradient[i] - slope) < 1e-8


# -- the logit of pixels ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("low, high, p_of", [(0.05, 0.95, lambda x: 0.05 + (1 - 2 * 0.05) * x),
                                             (0.05, 1.0, lambda x: 0.05 + (1 - 0.05) * x), (0.0, 1.0, lambda x: x)])
def test_alpha_logit_is_the_printed_formula_and_its_cost(low, high, p_of):
    x = (np.arange(256) + 0.5) / 256
    y, log_det = alpha_logit(low, high).forward_and_log_det(x)
    assert np.allclose(y, scipy.special.logit(p_of(x)), rtol=1e-13, atol=1e-14)
    cost = np.logaddexp(0, y) + np.logaddexp(0, -y) + np.log(high - low)
    assert np.allclose(log_det, cost, rtol=1e-13, atol=1e-14)
    if (low, high) == (0.05, 0.95):
        original = np.logaddexp(0, y) + np.logaddexp(0, -y) - np.logaddexp(0, -np.log(9.0))
        assert np.allclose(log_det, original, rtol=1e-13)
        assert np.allclose(y, scipy.special.logit(((2 * x - 1) * 0.9 + 1) / 2), rtol=1e-13, atol=1e-14)


def test_ends_of_the_alpha_sigmoid():
    f = AlphaSigmoid()
    a, b = f.ends
    assert f.inverse(np.array([a, b])).tolist() == [-np.inf, np.inf]
    assert f.forward(np.array([-1000.0, 1000.0])).tolist() == [a, b]
    beside = np.nextafter([a, b], [b, a])
    assert np.all(np.isfinite(f.inverse(beside))) and np.all(np.abs(f.inverse(beside)) > 35)
    with pytest.raises(ValueError, match="AlphaSigmoid: x must be in"):
        f.inverse(np.nextafter(a, -1))
    assert f.forward(np.float32(0.3)).dtype == np.float32 and f.inverse(np.float32(0.3)).dtype == np.float32


@pytest.mark.parametrize("low, high", [(0.5, 0.5), (0.9, 0.1), (-0.1, 0.9), (0.1, 1.1), ("0", 1.0), (np.nan, 1.0), (0.49, 0.4901),
                                       (0.26, 1.0), (0.0, 0.74)])
def test_bad_alpha_sigmoids_are_refused(low, high):
    with pytest.raises(ValueError, match="AlphaSigmoid: (low|high)"):
        AlphaSigmoid(low, high)


# -- dequantisation ---------------------------------------------------------------------------------------------------

PIXELS = rng(8).integers(0, 256, (5, 3, 4, 4)).astype(np.uint8)
ALL = np.arange(256, dtype=np.uint8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("options, lower, size", [
    ({}, lambda v: v / 256, 1 / 256), ({"low": -1.0}, lambda v: (v / 256) * 2 - 1, 2 / 256),
    ({"bins": 32, "low": -0.5, "high": 0.5}, lambda v: np.floor(v / 2 ** (8 - 5)) / 2**5 - 0.5, 1 / 32)])
def test_dequantised_pixels_are_the_papers_and_back(dtype, options, lower, size):
    """RealNVP's (v + u)/256, NICE's on [-1, 1], Glow's with 5 bits."""
    x = dequantised(np.tile(ALL, (200, 1)), rng(), dtype=dtype, **options)
    u = (x.astype(np.float64) - lower(ALL)) / size
    assert x.dtype == dtype and u.min() > 0 and u.max() < 1
    assert scipy.stats.kstest(u.ravel(), "uniform").pvalue > 1e-4
    back = quantised(x, **options)
    step = 256 // options.get("bins", 256)
    assert back.dtype == np.uint8 and np.array_equal(back, np.tile(ALL // step * step, (200, 1)))


def test_quantised_is_glow_s_postprocess():
    x = rng().normal(0, 0.7, 1000)
    for n_bits in (3, 5, 8):
        n_bins = 2**n_bits
        glow = np.clip(np.floor((x + 0.5) * n_bins) * (256.0 / n_bins), 0, 255).astype(np.uint8)
        assert np.array_equal(quantised(x, bins=n_bins, low=-0.5, high=0.5), glow)


def test_dequantisation_has_its_randomness_from_the_generator():
    assert np.array_equal(dequantised(PIXELS, rng(1)), dequantised(PIXELS, rng(1)))
    assert not np.array_equal(dequantised(PIXELS, rng(1)), dequantised(PIXELS, rng(2)))
    assert dequantised(np.array([0, 16]), rng(), levels=17).max() < 1
    assert np.array_equal(dequantised(PIXELS.astype(np.float32), rng(1)), dequantised(PIXELS, rng(1)))


@pytest.mark.parametrize("v, options, rule", [
    ([3, 256], {}, r"pixels must be integers in 0 .. 255; v\[1\] = 256"), ([[3, 0], [2, -1]], {}, r"v\[1, 1\] = -1"),
    ([0.5], {}, r"v\[0\] = 0.5"), ([np.nan], {}, r"v\[0\] = nan"), (["a"], {}, "pixels must be numbers, not <U1"),
    ([True], {}, "pixels must be numbers, not bool"), ([16], {"levels": 16}, r"0 .. 15; v\[0\] = 16"),
    ([1], {"bins": 100}, "bins must divide levels = 256, not 100"), ([1], {"bins": 0}, "bins must be an int >= 1, not 0"),
    ([1], {"levels": 2.5}, "levels must be an int"), ([1], {"low": 1.0}, "low < high, not 1.0 and 1.0"),
    ([1], {"dtype": np.float16}, "dtype must be float32 or float64"),
    ([1], {"rng": 3}, "rng must be a numpy.random.Generator")])
def test_bad_pixels_are_refused(v, options, rule):
    with pytest.raises(ValueError, match=rule):
        dequantised(v, **{"rng": rng()} | options)


def test_pixels_that_are_no_numbers_do_not_come_back():
    with pytest.raises(ValueError, match=r"quantised: x must be finite; x\[1\] = nan"):
        quantised([0.5, np.nan])


def test_bits_per_dimension():
    """The uniform density on the data's range gives 8 bits a pixel, whatever the range; the formulas of RealNVP and Glow."""
    D = 3 * 4 * 4
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (-0.5, 0.5)):
        assert np.isclose(bits_per_dim(-D * np.log(high - low), (3, 4, 4), low=low, high=high), 8, rtol=1e-14)
    cost = rng().normal(0, 100, 7)
    assert np.allclose(bits_per_dim(-cost, D), (cost + D * np.log(256)) / (D * np.log(2)), rtol=1e-13)
    objective = -np.log(32) * D - cost
    assert np.allclose(bits_per_dim(-cost, D, 32, -0.5, 0.5), -objective / (np.log(2) * D), rtol=1e-13)


def noise_flow(size, context=2):
    """q(u | v): an affine coupling that sees the context, then a sigmoid."""
    net = network((size // 2, 4, 2 * (size - size // 2)), context)
    return Flow(Chain([AffineCoupling(masks.halves(size), net), Sigmoid()]), StandardNormal(size))


def test_the_variational_bound_of_uniform_densities_is_exact():
    v = np.array([[0, 3], [1, 2]])
    bound, _ = variational_bound_vjp(Flow(refflow.Affine(0.0, 1.0), Uniform(np.zeros(2), np.ones(2))),
                                     Flow(refflow.Affine(0.0, 1.0), Uniform(np.zeros(2), np.ones(2))), v, rng(), 3, levels=4)
    assert np.allclose(bound, -2 * np.log(4), rtol=1e-14)


def test_the_variational_bound_is_below_the_probability_of_the_pixels():
    """P(k) of one pixel of 4 by quadrature; the bound of a poor q lies below it by KL(q || p(u | k))."""
    p = Flow(refflow.Affine(np.array([0.6]), np.array([0.2])), StandardNormal(1))
    q = Flow(Chain([refflow.Affine(np.array([0.4]), np.array([1.5])), Sigmoid()]), StandardNormal(1))
    for k in range(4):
        P = np.diff(scipy.stats.norm(0.6, 0.2).cdf(np.array([k, k + 1]) / 4))[0]
        bound, _ = variational_bound_vjp(p, q, np.array([k]), rng(), 20000, levels=4)
        y = np.linspace(-12, 12, 20001)
        u, log_q = scipy.special.expit(y), scipy.stats.norm(0.4, 1.5).logpdf(y) - np.log(scipy.special.expit(y)) \
            - np.log(scipy.special.expit(-y))
        integrand = (scipy.stats.norm(0.6, 0.2).logpdf((k + u) / 4) - np.log(4) - log_q) * scipy.stats.norm(0.4, 1.5).pdf(y)
        exact = scipy.integrate.trapezoid(integrand, y)
        assert exact < np.log(P) and abs(bound - exact) < 0.05


def test_gradient_of_the_variational_bound():
    v, c = rng().integers(0, 256, (3, 4)), rng(1).standard_normal((3, 2))
    p = Flow(Inverse(Chain([alpha_logit(), DenseLinear(rotation(4) * 1.5, np.full(4, 0.1))])), StandardNormal(4))
    q = noise_flow(4).at(context=c)
    weights = rng(2).standard_normal(3)

    def loss(p, q):
        return (variational_bound_vjp(p, q, v, rng(9), 2)[0] * weights).sum()

    bound, pullback = variational_bound_vjp(p, q, v, rng(9), 2)
    p_bar, q_bar = pullback(weights)
    assert bound.shape == (3,) and q_bar["context"].shape == c.shape
    h = 1e-5
    for flow, bar, other in ((p, p_bar, lambda f: loss(f, q)), (q, q_bar, lambda f: loss(p, f))):
        theta, direction = flow.ravel(), rng(3).standard_normal(flow.ravel().size)
        gradient = np.concatenate([leaf.ravel() for leaf in leaves(bar)])
        slope = (other(flow.unravel(theta + h * direction)) - other(flow.unravel(theta - h * direction))) / (2 * h)
        assert abs(gradient @ direction - slope) < 1e-6 * (1 + abs(slope))


def leaves(nested):
    return [leaf for value in nested.values() for leaf in leaves(value)] if isinstance(nested, dict) else [nested]


def test_bad_variational_dequantisation_is_refused():
    p = Flow(Inverse(alpha_logit()), StandardNormal(4))
    with pytest.raises(ValueError, match=r"q draws noise of shape \(3,\) for pixels of shape \(2, 4\)"):
        variational_bound_vjp(p, Flow(Sigmoid(), StandardNormal(3)), np.zeros((2, 4), int), rng())
    with pytest.raises(ValueError, match=r"q draws noise of shape \(3, 4\) for pixels of shape \(2, 4\)"):
        variational_bound_vjp(p, noise_flow(4).at(context=np.zeros((3, 2))), np.zeros((2, 4), int), rng())
    with pytest.raises(ValueError, match="let its bijector end in a Sigmoid"):
        variational_bound_vjp(p, Flow(refflow.Affine(0.0, 1.0), StandardNormal(4)), np.zeros(4, int), rng())
    with pytest.raises(ValueError, match="p and q must be flows"):
        variational_bound_vjp(p, StandardNormal(4), np.zeros(4, int), rng())
