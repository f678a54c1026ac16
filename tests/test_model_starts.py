"""Where models start, by the equations of their pages, and the smallest sizes that they take."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refflow import (autoregressive_nsf, bnaf, bpf, circular_nsf, flow_plus_plus, gaussianization_flow, iaf, maf, naf,
                     nsf, realnvp, sospf, umnn)
from refflow.core.tree import flatten, walk
from refflow.maps.autoregressive import Autoregressive
from refflow.maps.conditioners import Contextual, Residual
from refflow.maps.coupling import Coupling
from refflow.maps.elementwise import RescaledTanhExpScale
from refflow.maps.normalization import BatchNorm
from refflow.models.gaussian import gaussian, linear_mean, lower_triangular
from refflow.models.gaussianization_flow import rotation
from refflow.models.planar import planar, radial

SMALL = 1e-3                                            # the bound of the last weights of most models


def made(builder, seed=0, **sizes):
    return builder(np.random.default_rng(seed), **sizes)


def stages_of(flow, kind):
    return [stage for _, stage in walk(flow) if isinstance(stage, kind)]


def last_of(net):
    return (net.inner if isinstance(net, Contextual) else net).layers[-1]


def is_drawn(values, bound):
    """Do many numbers look as if drawn from U(-bound, bound)?"""
    return values.size > 50 and 0.9 * bound < np.abs(values).max() <= bound and values.min() < 0 < values.max()


# -- the smallest sizes -----------------------------------------------------------------------------------------------

HIDDEN = {"hidden": (1,)}
LEAST = {
    "realnvp": (realnvp, HIDDEN | {"size": 2, "couplings": 1, "context": 0}),
    "maf": (maf, HIDDEN | {"size": 1, "layers": 1, "context": 0}),
    "iaf": (iaf, HIDDEN | {"size": 1, "layers": 1, "context": 0}),
    "naf": (naf, HIDDEN | {"size": 1, "layers": 1, "components": 1, "context": 0, "dense": 1}),
    "naf, dense": (naf, HIDDEN | {"size": 1, "layers": 1, "components": 1, "dense": 2}),
    "umnn": (umnn, HIDDEN | {"size": 1, "layers": 1, "components": 1, "context": 0}),
    "sospf": (sospf, HIDDEN | {"size": 1, "layers": 1, "components": 1, "degree": 0, "context": 0}),
    "bpf": (bpf, HIDDEN | {"size": 1, "layers": 1, "degree": 1, "context": 0}),
    "bnaf": (bnaf, {"units": (1,), "size": 1, "layers": 1}),
    "nsf": (nsf, {"size": 2, "hidden": 1, "blocks": 0, "steps": 1, "bins": 1, "context": 0}),
    "nsf-ar": (autoregressive_nsf, {"size": 1, "hidden": 1, "blocks": 0, "steps": 1, "bins": 1, "context": 0}),
    "circular-nsf": (circular_nsf, HIDDEN | {"size": 2, "couplings": 1, "bins": 1}),
    "flow++": (flow_plus_plus, HIDDEN | {"size": 2, "couplings": 1, "components": 1, "context": 0}),
    "gaussianization": (gaussianization_flow, {"size": 1, "layers": 1, "components": 1}),
}
BOUNDED = [(name, key) for name, (_, sizes) in LEAST.items() for key, least in sizes.items()
           if isinstance(least, int) and (name, key) != ("naf, dense", "dense")]


@pytest.mark.parametrize("name", LEAST)
def test_the_smallest_sizes(name):
    builder, sizes = LEAST[name]
    flow = made(builder, **sizes)
    x = np.linspace(-0.5, 0.75, 3 * sizes["size"]).reshape(3, sizes["size"])
    z, log_det = flow.bijector.inverse_and_log_det(x)
    again, back = flow.bijector.forward_and_log_det(z)
    np.testing.assert_allclose(again, x, rtol=1e-9)
    np.testing.assert_allclose(back, -log_det, atol=1e-9)


@pytest.mark.parametrize("name, key", BOUNDED)
def test_smaller_ones_are_refused(name, key):
    builder, sizes = LEAST[name]
    with pytest.raises(ValueError, match=f"^{builder.__name__}: {key} must be an int >= {sizes[key]}, not {sizes[key] - 1}"):
        made(builder, **sizes | {key: sizes[key] - 1})


def test_an_infinite_leak_is_refused():
    with pytest.raises(ValueError, match="leak must be positive and finite, not inf"):
        made(bnaf, size=2, leak=math.inf)


# -- autoregressive layers --------------------------------------------------------------------------------------------

def starts():
    """{name: (builder, sizes, the documented numbers of an entry at the start)}, in the order of the family's fields."""
    K, R, B, d = 4, 2, 5, 1 / 1000
    a = np.array([1.0, -1.0, 1.0, -1.0])
    squares = np.zeros((K, R + 1))
    squares[:, 0] = ((1 - d) / K) ** 0.5
    return {
        "umnn": (umnn, {"components": K}, [*a, *(-a * [-2, -2 / 3, 2 / 3, 2]), *np.zeros(K), math.log(1 - d), 0]),
        "sospf": (sospf, {"components": K, "degree": R}, [*squares.ravel(), 0]),
        "bpf": (bpf, {"degree": K}, [-B, *[math.log(math.exp(2 * B / K) - 1)] * K]),
        "naf": (naf, {"components": K}, np.zeros(3 * K)),
        "naf, dense": (naf, {"components": K, "dense": 2}, None),
    }


@pytest.mark.parametrize("name", starts())
@pytest.mark.parametrize("context", [0, 2])
def test_autoregressive_layers_start_as_documented(name, context):
    builder, sizes, theta = starts()[name]
    layers = stages_of(made(builder, size=5, hidden=(40,), layers=3, context=context, **sizes), Autoregressive)
    assert len(layers) == 3
    for layer in layers:
        last = last_of(layer.net)
        assert is_drawn(last.W[last.connects], SMALL) and not last.W[~last.connects].any()
        numbers = last.b.reshape(layer.family.size, 5)
        np.testing.assert_allclose(numbers, np.zeros_like(numbers) if theta is None else np.transpose([theta] * 5), rtol=1e-14)


def test_polynomials_of_sospf_are_rows():
    layer, = stages_of(made(sospf, size=2, layers=1, components=4, degree=2, hidden=(3,)), Autoregressive)
    squares, _ = layer.family.at_values(np.arange(2.0 * layer.family.size).reshape(2, -1), 1)
    assert squares.coefficients.shape == (2, 4, 3)


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_splines_start_with_slope_one_and_their_blocks_near_the_identity(blocks):
    for builder in (nsf, autoregressive_nsf):
        flow = made(builder, size=4, hidden=30, blocks=blocks, steps=2, bins=3)
        coupling = stages_of(flow, (Coupling, Autoregressive))[0]
        theta = last_of(coupling.net).b.reshape(-1, 3 * 3 - 1)
        assert not last_of(coupling.net).W.any() and not theta[:, :6].any()         # knots: all bins are equal
        np.testing.assert_allclose(np.logaddexp(0, theta[:, 6:]) + 1e-3, 1, rtol=1e-14)
        residual = stages_of(coupling.net, Residual)
        assert len(residual) == blocks
        assert all(is_drawn(block.inner.layers[-1].W, SMALL) for block in residual)


def test_the_start_of_the_authors_of_maf():
    """(6): N(0, 1/(N + 1)) for N inputs, few ones, so that the 1 shows."""
    first = stages_of(made(maf, size=3, hidden=(30_000,), layers=1, zero_last=False), Autoregressive)[0].net.layers[0]
    assert first.W[first.connects].std() == pytest.approx(1 / math.sqrt(3 + 1), rel=0.01)


def test_batch_norms_of_maf_start_as_the_identity():
    for norm in stages_of(made(maf, size=3, layers=2, batch_norm=True), BatchNorm):
        assert not norm.mean.any() and not norm.bias.any() and (norm.var == 1).all() and (norm.gain == 1).all()


# -- couplings --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("builder", [realnvp, circular_nsf, flow_plus_plus])
def test_the_first_half_passes_first(builder):
    passes = [coupling.passes.tolist() for coupling in stages_of(made(builder, size=4, couplings=4, hidden=(3,)), Coupling)]
    of_a_step = len(passes) // 4
    first, second = [True, True, False, False], [False, False, True, True]
    assert passes == [half for half in (first, second, first, second) for _ in range(of_a_step)]


def test_scales_of_realnvp_start_at_gain_one():
    for scale in stages_of(made(realnvp, size=4, couplings=2), RescaledTanhExpScale):
        assert scale.gain == 1 and scale.shift == 0


@pytest.mark.parametrize("context", [0, 2])
def test_mixtures_start_apart_and_affine_maps_at_the_identity(context):
    couplings = stages_of(made(flow_plus_plus, size=4, hidden=(30,), couplings=3, components=5, context=context), Coupling)
    assert len(couplings) == 6
    for mixture, affine in zip(couplings[::2], couplings[1::2]):
        assert is_drawn(last_of(mixture.net).W, SMALL) and not last_of(mixture.net).b.any()
        assert not last_of(affine.net).W.any() and not last_of(affine.net).b.any()


def test_circles_turn_by_half_a_turn_at_most_and_floors_are_parts_of_the_circle():
    flow = made(circular_nsf, size=60, couplings=2, bins=4, hidden=(3,))
    for coupling, shift in zip(flow.bijector.inner.stages[::2], flow.bijector.inner.stages[1::2]):
        turns = shift.inner.turns
        assert is_drawn(turns, 0.5)
        numbers = np.full((1, coupling.family.size), -1e3)
        numbers[:, [0, 4]] = 1e3                            # all of a circle for the first bin, and slopes as small as can be
        spline, _ = coupling.family.at_values(numbers, 1)
        for knots in (spline.input_knots, spline.output_knots):
            np.testing.assert_allclose(np.diff(knots)[..., 1:], 2 * math.pi * 1e-3, rtol=1e-9)
            np.testing.assert_allclose(knots[..., [0, -1]], [[-math.pi, math.pi]], rtol=1e-15)
        np.testing.assert_allclose(spline.slopes, 1e-3, rtol=1e-9)


# -- without networks -------------------------------------------------------------------------------------------------

def test_components_of_a_gaussianization_flow_start_apart():
    stages = made(gaussianization_flow, size=12, layers=3, components=6).bijector.inner.stages
    assert np.array_equal(stages[0].Q, np.eye(12)) and not np.allclose(stages[2].Q, np.eye(12))
    for marginal in stages[1::2]:
        assert (marginal.inner.rate == 1).all() and is_drawn(marginal.inner.bias, 0.1)


def test_rotations_favour_none():
    """Q of the decomposition with a positive diagonal, which is distributed as every rotation of it is."""
    Q, A = rotation(np.random.default_rng(3), 6), np.random.default_rng(3).standard_normal((6, 6))
    R = Q.T @ A
    np.testing.assert_allclose(Q.T @ Q, np.eye(6), atol=1e-14)
    np.testing.assert_allclose(np.tril(R, -1), 0, atol=1e-14)
    assert (np.diagonal(R) > 0).all()


def test_the_maps_of_a_gaussian():
    L, z = np.array([[2.0, 0.0, 0.0], [-1.0, 0.5, 0.0], [3.0, 1.5, 4.0]]), np.array([[1.0, 2.0, -3.0], [0.5, 0.25, 8.0]])
    x, log_det = lower_triangular(L).forward_and_log_det(z)
    np.testing.assert_allclose(x, z @ L.T, rtol=1e-15)
    np.testing.assert_allclose(log_det, math.log(2 * 0.5 * 4), rtol=1e-15)
    W, b, c = np.array([[1.0, 2.0], [0.0, -1.0], [3.0, 0.5]]), np.array([1.0, 2.0, 4.0]), np.array([[1.0, -1.0], [2.0, 5.0]])
    np.testing.assert_allclose(linear_mean(W, b).at(context=c).forward(z), z + c @ W.T + b, rtol=1e-15)


@pytest.mark.parametrize("context", [0, 2])
def test_a_gaussian_starts_as_a_standard_one(context):
    flow, x = gaussian(3, np.random.default_rng(0), context), np.array([[1.0, 2.0, -3.0]])
    flow = flow.at(context=np.array([[5.0, -7.0]])) if context else flow
    np.testing.assert_allclose(flow.log_prob(x), -(x * x).sum(-1) / 2 - 1.5 * math.log(2 * math.pi), rtol=1e-15)


# -- planar and radial flows ------------------------------------------------------------------------------------------

@pytest.mark.parametrize("builder", [planar, radial])
def test_planar_and_radial_flows_start_at_the_standard_normal_density(builder):
    start, *stages = made(builder, size=3).bijector.stages
    assert len(stages) == 32 and not start.inner.shift.any() and (start.inner.scale == 1).all()
    assert len({stage.ravel().tobytes() for stage in stages}) == 32
    assert {array.dtype for _, array in flatten(made(builder, size=2, layers=1, dtype=np.float32).bijector.params())} \
        == {np.dtype("float32")}
    with pytest.raises(ValueError, match=f"{builder.__name__}: layers must be "):
        made(builder, size=1, layers=0)
    assert made(builder, size=1, layers=1).event_shape == (1,)


def test_planar_maps_start_small_and_along_their_hyperplanes():
    stages = made(planar, size=4, layers=300).bijector.stages[1:]
    u, w = (np.array([getattr(stage, name) for stage in stages]) for name in "uw")
    assert 0.009 < u.std() < 0.011 and 0.9 < w.std() < 1.1 and all(stage.b == 0 and stage.slack == 1 for stage in stages)
    z = np.random.default_rng(1).standard_normal((300, 4))
    moved = np.array([stage.forward(one) - one for stage, one in zip(stages, z)])
    assert moved.any() and (np.abs(np.vecdot(w, moved)) < 1e-12).all()


def test_radial_maps_start_as_the_identity():
    stages = made(radial, size=4, layers=300).bijector.stages[1:]
    z = np.random.default_rng(1).standard_normal((7, 4))
    assert all(np.array_equal(stage.forward(z), z) and stage.alpha == 1 and stage.slack == 1 for stage in stages)
    assert 0.9 < np.array([stage.centre for stage in stages]).std() < 1.1
