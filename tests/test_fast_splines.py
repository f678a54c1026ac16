"""Tuned rational-quadratic splines are the page's: values, log-slopes, cotangents, and where the page takes over."""

from __future__ import annotations

import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from refflow import autoregressive_nsf, nsf
from refflow.fast import splines, tuned
from refflow.fast.autoregressive import UnitByUnit
from refflow.fast.couplings import Workspace
from refflow.maps.conditioners import Dense, Sequential, dense_network
from refflow.maps.coupling import Coupling, Family, masks
from refflow.maps.elementwise import SoftplusScale
from refflow.maps.parametrisations import SPLINES, KnotSlopes, SoftmaxKnots, spline_fields
from refflow.maps.splines import RationalQuadraticSpline
from refflow.training import LikelihoodGradient, Unconstrained

UNEQUAL = spline_fields(SoftmaxKnots(4, -1.0, 2.0, 0.01, 0.5), SoftmaxKnots(4, -3.0, 0.5, 0.02, 0.5),
                        KnotSlopes(SoftplusScale(floor=0.1, gain=0.5, rate=2.0), 4, (0.5, 2.0)))
MAPS = {"nflows": SPLINES["nflows"](8, 3.0, 64), "normflows": SPLINES["normflows"](), "one bin": SPLINES["nflows"](1, 2.0),
        "two bins": SPLINES["nflows"](2, 1.0), "unequal": UNEQUAL}


def drawn(name, dtype, spread=1.0):
    """(family, h, z, x_bar, log_det_bar), with events at the ends, beside them and beyond.

    There is none at an inner knot, where rounding decides to which bin it belongs, unless the knots are exact.
    """
    family, rng = Family(RationalQuadraticSpline, MAPS[name]), np.random.default_rng(0)
    h = (spread * rng.standard_normal((40, 3, family.size))).astype(dtype)
    low, high = family.map.maps[0].low, family.map.maps[0].high
    z = (2.5 * rng.standard_normal((40, 3))).astype(dtype)
    z[0], z[1] = (low, high, 0.5 * (low + high)), (np.nextafter(low, -9), np.nextafter(high, 9), high)
    return family, h, z, *rng.standard_normal((2, 40, 3)).astype(dtype)


def quantities(f, fields_pullback, z, x_bar, log_det_bar):
    (x, log_slopes), pullback = f.vjp(z)
    z_bar, fields_bar = pullback(x_bar, log_det_bar)
    return x, log_slopes, z_bar, fields_pullback(fields_bar)[0]


def compared(name, dtype, spread=1.0):
    """The largest differences of each quantity from the page, as parts of the largest one, in roundings."""
    family, h, *given = drawn(name, dtype, spread)
    f = splines.Splines(family, h, lambda h: family.at_values(h, 1))
    page = quantities(*family.at_values(h, 1), *given)
    found = quantities(f, f.fields_pullback, *given)
    assert [a.dtype for a in found] == [dtype] * 4 and [a.shape for a in found] == [a.shape for a in page]
    return [np.abs(a - b).max() / max(np.abs(b).max(), 1) / np.finfo(dtype).eps for a, b in zip(found, page)]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("name", MAPS)
def test_they_are_the_page(name, dtype):
    assert max(compared(name, dtype)) < 4000


EXACT = spline_fields(SoftmaxKnots(4, -1.0, 1.0, 2.0**-6, 1.0), SoftmaxKnots(4, -3.0, 0.5, 0.02, 1.0),
                      KnotSlopes(SoftplusScale(floor=0.1), 4, (0.5, 2.0)))


def compared_at_knots(where, dtype):
    """The largest differences from the page, as there, at or one float beside knots that are exact, since bins are equal."""
    family, rng = Family(RationalQuadraticSpline, EXACT), np.random.default_rng(0)
    h = rng.standard_normal((40, 5, family.size)).astype(dtype)
    h[..., :4] = 0
    knots = np.linspace(-1, 1, 5, dtype=dtype)
    page, pullback = family.at_values(h, 1)
    assert np.all(page.input_knots == knots)
    z = np.broadcast_to(np.nextafter(knots, dtype(where)) if where else knots, (40, 5))
    bars = rng.standard_normal((2, 40, 5)).astype(dtype)
    f = splines.Splines(family, h, lambda h: family.at_values(h, 1))
    return [np.abs(found - expected).max() / max(np.abs(expected).max(), 1) / np.finfo(dtype).eps for found, expected
            in zip(quantities(f, f.fields_pullback, z, *bars), quantities(page, pullback, z, *bars))]


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("where", [-9, 0, 9], ids=["before", "at", "after"])
def test_a_knot_belongs_to_the_bin_on_its_right(dtype, where):
    """The second derivative of a spline jumps at a knot, and with it the cotangents."""
    assert max(compared_at_knots(where, dtype)) < 400


def test_numbers_that_are_large_are_left_to_the_page():
    with np.errstate(all="ignore"):                             # as inside of all methods of a flow
        assert compared("nflows", np.float64, 400) == compared("nflows", np.float32, 50) == [0, 0, 0, 0]


@pytest.mark.parametrize("old, new", [
    ("np.multiply(passed, factor * start, out=A_i[:-1])", "np.multiply(~passed, factor * start, out=A_i[:-1])"),
    ("+= factor * size", "+= factor * start"), ("(e_1 * (g_bar * tt + r_bar * q))", "(e_1 * g_bar * tt)"),
    ("- 2 * f * d_0 * g_bar", "+ 2 * f * d_0 * g_bar"), ("np.where(inside, z_bar, x_bar)", "z_bar"),
    ("+ 2 * g_bar * q + r_bar", "+ r_bar"), ("inner = c * V[0, :-1]", "inner = c * V[0, 1:]")])
def test_a_planted_bug_is_found(old, new, monkeypatch):
    plant(old, new, monkeypatch)
    with np.errstate(all="ignore"):
        assert not max(compared("unequal", np.float64)) < 1e6


def test_a_knot_in_the_other_bin_is_found(monkeypatch):
    plant("u >= inner", "u > inner", monkeypatch)
    differences = compared_at_knots(0, np.float64)
    assert max(differences[:2]) < 400 and min(differences[2:]) > 1e12       # values are continuous there


def plant(old, new, monkeypatch):
    text = inspect.getsource(splines)
    assert text.count(old) == 1
    made = dict(vars(splines))
    exec(text.replace(old, new).replace("from .", "from refflow.fast.").replace("refflow.fast..", "refflow."), made)
    monkeypatch.setattr(splines, "Splines", made["Splines"])


# -- which maps they are ----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name, changes", [("zuko", {}), ("distrax", {"boundary_slopes": "unconstrained"}), ("FlowJAX 17", {})])
def test_other_conventions_are_left_to_the_page(name, changes):
    family = Family(RationalQuadraticSpline, SPLINES[name](4, **changes))
    assert not splines.is_spline(family) and all(splines.is_spline(Family(RationalQuadraticSpline, f)) for f in MAPS.values())


def moved(flow):
    space = Unconstrained(flow)
    return space.value_at(space.vector + 0.2 * np.random.default_rng(1).standard_normal(space.vector.size))


@pytest.mark.parametrize("model, settings", [
    (nsf, {}), (nsf, {"context": 2}), (nsf, {"unconditional": False}), (autoregressive_nsf, {}),
    (autoregressive_nsf, {"context": 2})])
def test_gradients_of_flows(model, settings):
    """By stored and by reconstructed activations, and by the page."""
    rng = np.random.default_rng(2)
    flow = moved(model(rng, 3, 6, 1, 2, 4, **settings))
    x, b = rng.standard_normal((30, 3)), rng.standard_normal(30)
    context = rng.standard_normal((30, 2)) if settings.get("context") else None
    own = flow if context is None else flow.at(context=context)
    log_prob, pullback = own.log_prob_vjp(x)
    space = Unconstrained(flow)
    expected = space.gradient(space.vector, pullback(b)[1])
    for memory in ("stored", "reversible"):
        found, params_bar = LikelihoodGradient(memory)(flow, x, b, context)
        assert np.allclose(found, log_prob, rtol=1e-10)
        assert np.allclose(space.gradient(space.vector, params_bar), expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_numbers_of_a_network_that_are_large_are_left_to_the_page():
    """Where plain exponentials would overflow, in the pass that training takes."""
    rng = np.random.default_rng(2)
    flow = nsf(rng, 3, 6, 1, 2, 4)
    space = Unconstrained(flow)
    flow = space.value_at(space.vector + 200 * rng.standard_normal(space.vector.size))
    x, b = rng.standard_normal((30, 3)), rng.standard_normal(30)
    log_prob, pullback = flow.log_prob_vjp(x)
    expected = space.gradient(space.vector, pullback(b)[1])
    for memory in ("stored", "reversible"):
        found, params_bar = LikelihoodGradient(memory)(flow, x, b)
        assert np.array_equal(found, log_prob) and np.isfinite(found).all()
        assert np.allclose(space.gradient(space.vector, params_bar), expected, rtol=1e-12)


def test_what_is_stored_stays_until_the_same_stage_is_stored_again():
    """An event that is only passed on does not overwrite it, nor does another stage's."""
    rng = np.random.default_rng(3)
    stages = moved(nsf(rng, 3, 6, 1, 2, 4)).bijector.inner.stages
    stage = next(stage for stage in stages if isinstance(stage, Coupling))
    space, x, other = Workspace(), *rng.standard_normal((2, 20, 3))
    steps = [splines.TunedSplineCoupling(stage, 0, "stage", number, space) for number in (1, 2)]

    def gradients(pullback):
        found = {}
        sums = SimpleNamespace(add=found.__setitem__, add_product=lambda path, g, v: found.__setitem__(path, g @ v))
        return [pullback(np.ones((20, 3)), np.ones(20), sums), *found.values()]

    expected = gradients(steps[0].stored(x)[1])
    (_, pullback) = steps[0].stored(x)
    steps[0].forward(other)
    steps[1].stored(other)
    assert all(map(np.array_equal, gradients(pullback), expected)) and len(expected) > 4


def test_which_networks_are_residual():
    rng = np.random.default_rng(0)
    cases = ({"residual": True}, True), ({}, True), ({"activation": "tanh"}, False), ({"layer_norm": True}, False)
    for settings, wanted in cases:
        assert splines.is_residual(dense_network(rng, (2, 4, 4, 3), **settings)) is wanted, settings
    batch = Sequential([Dense(np.ones((5, 3, 2)), np.zeros((5, 3)))])
    assert not splines.is_residual(batch) and splines.is_residual(Sequential([Dense(np.ones((3, 2)), np.zeros(3))]))


def test_which_maps_are_exchanged():
    kinds = [type(stage) for stage in tuned(nsf(np.random.default_rng(0), 3, 4, 1, 1)).bijector.inner.stages]
    assert kinds.count(splines.SplineCoupling) == 2
    flow = tuned(autoregressive_nsf(np.random.default_rng(0), 3, 4, 1, 1))
    assert UnitByUnit in [type(stage) for stage in flow.bijector.inner.stages]
    net = dense_network(np.random.default_rng(0), (1, 3, 2 * UNEQUAL.size))
    halves = Coupling(masks.halves(3), net, Family(RationalQuadraticSpline, UNEQUAL))
    z = np.random.default_rng(1).standard_normal((5, 3))
    (x, log_det), pullback = tuned(halves).vjp(z)
    (x_2, log_det_2), pullback_2 = halves.vjp(z)
    bars = np.ones((5, 3)), np.ones(5)
    assert np.allclose(x, x_2) and np.allclose(log_det, log_det_2) and np.allclose(pullback(*bars)[0], pullback_2(*bars)[0])
    for (key, one), (_, other) in zip(*(sorted(p(*bars)[1]["net"]["layers"]["2"].items()) for p in (pullback, pullback_2))):
        assert np.allclose(one, other), key
