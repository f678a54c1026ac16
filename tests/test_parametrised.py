"""Pages at libraries' raw parameters: code as libraries write it passes, another convention is found, gradients are right."""

from __future__ import annotations

import numpy as np
import pytest

import refflow
from refflow.maps.parametrisations import SPLINES, Map
from refflow.oracle.points.parametrised import SIZES, TABLES, family_named, parametrised


def summed_knots(h, bound, clip=None):
    """Knots as libraries form them: sums of bins."""
    a = h if clip is None else h / (1 + np.abs(2 * h / h.dtype.type(np.log(clip))))
    bins = np.exp(a - a.max())
    knots = 2 * bound * np.concatenate([[0], np.cumsum(bins / bins.sum())]).astype(h.dtype) - bound
    knots[0], knots[-1] = -bound, bound
    return knots.astype(h.dtype)


def zuko(clip, factor=1.0):
    """A rational-quadratic spline by zuko's convention, from its documentation; `factor` multiplies the slopes' numbers."""
    def mine(params, z):
        h = params["h"]
        K = (len(h) + 1) // 3
        x, y = summed_knots(h[:K], 5.0, clip), summed_knots(h[K:2 * K], 5.0, clip)
        a = h.dtype.type(factor) * h[2 * K:]
        d = np.exp(a / (1 + np.abs(a / h.dtype.type(np.log(1e-3)))))
        f = refflow.RationalQuadraticSpline(x, y, np.concatenate([[1], d, [1]]).astype(h.dtype), tails="identity")
        return {"forward": f.forward(z), "log_det": f.log_det(z), "inverse": f.inverse}

    return mine


def test_zuko_is_right_by_sums():
    report = refflow.check(zuko(1e-3), page="RationalQuadraticSpline", parametrisation="zuko")
    assert not report.failed and len(report.passed) == 6 and max(one.error for one in report.passed) < 8
    assert {one.quantity for one in report.skipped} == {"jacobian", "inverse_log_det"} | {
        f"{side}.{name}_bar" for side, names in (("vjp", "zh"), ("inverse_vjp", "xh")) for name in names}


@pytest.mark.parametrize("wrong", [{"clip": None}, {"clip": 1e-3, "factor": 2}], ids=["unclipped", "slopes doubled"])
def test_another_convention_is_found(wrong):
    def mine(params, z):
        return {"forward": zuko(**wrong)(params, z)["forward"]}

    report = refflow.check(mine, page="RationalQuadraticSpline", parametrisation="zuko", dtypes=("float32",))
    assert {one.quantity for one in report.failed} == {"forward"}


@pytest.mark.parametrize("page, name", [(page, name) for page, table in TABLES.items() for name in list(table)[:2]])
def test_raw_parameters_have_gradients(page, name):
    """The pullback is the gradient by differences, in float64; answers keep their dtype."""
    rng = np.random.default_rng(0)
    f, events = list(parametrised(family_named(page, name), np.float64))[1]
    z, direction = np.full(events.shape[1:], 0.3125), rng.standard_normal(f.h.shape)
    (x, log_det), pullback = f.vjp(z)
    bars = np.full(z.shape, 0.75), np.array(-1.5)
    _, params_bar = pullback(*bars)
    along = [sum((bar * value).sum() for bar, value in zip(bars, f.replace(h=f.h + s * 2.0**-17 * direction).forward_and_log_det(z)))
             for s in (1, -1)]
    np.testing.assert_allclose(params_bar["h"] @ direction, (along[0] - along[1]) * 2.0**16, rtol=1e-7, atol=1e-7)
    assert np.abs(f.inverse(x) - z).max() < 1e-13 and abs(f.inverse_and_log_det(x)[1] + log_det) < 1e-12
    assert f.astype(np.float32).forward(np.float32(z)).dtype == np.float32


def test_a_map_is_taken_in_place_of_a_name():
    family = family_named("RationalQuadraticSpline", SPLINES["nflows"](3))
    assert isinstance(family.map, Map) and [f.h.size for f, _ in parametrised(family, np.float32)] == [8] * len(SIZES)


@pytest.mark.parametrize("name", SPLINES)
def test_fields_keep_the_dtype(name):
    fields, _ = SPLINES[name](4).vjp(np.ones(SPLINES[name](4).size, np.float32))
    assert {np.asarray(v).dtype for v in fields.values() if not isinstance(v, str)} == {np.dtype(np.float32)}
