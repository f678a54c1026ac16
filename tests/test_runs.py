"""Runs against the truth: in both tails of a chain through an interval, images, log-dets and all gradients have their digits."""

from __future__ import annotations

import functools

import mpmath
import numpy as np
import pytest
import scipy

from refflow import (Chain, CubicSpline, GumbelCDF, Independent, Inverse, KumaraswamyCDF, LinearRationalSpline, LinearSpline,
                     LogisticCDF, NormalCDF, QuadraticSpline, RationalQuadraticSpline, SmoothSpline, WeibullCDF)
from refflow.core import tracks
from refflow.core.tracks import Run
from refflow.core.tree import flatten
from refflow.maps.splines import bins

F32, F64 = np.float32, np.float64
DIGITS, STEP = 350, mpmath.mpf(2) ** -300

# -- the truth --------------------------------------------------------------------------------------------------------

def normal_quantile(p, loc, scale):
    """By Newton's method, from the float nearest to it."""
    tail = min(p, 1 - p)
    y = mpmath.mpf(float(scipy.special.ndtri_exp(float(mpmath.log(tail)))))
    for _ in range(5):
        y -= (mpmath.log(mpmath.ncdf(y)) - mpmath.log(tail)) * mpmath.ncdf(y) / mpmath.npdf(y)
    return loc + scale * (y if p < 0.5 else -y)


QUANTILES = {
    NormalCDF: normal_quantile, LogisticCDF: lambda p, loc, scale: loc + scale * mpmath.log(p / (1 - p)),
    GumbelCDF: lambda p, loc, scale: loc - scale * mpmath.log(-mpmath.log(p)),
    WeibullCDF: lambda p, scale, concentration: scale * (-mpmath.log(1 - p)) ** (1 / concentration),
    KumaraswamyCDF: lambda p, concentration1, concentration0:
        (1 - (1 - p) ** (1 / concentration0)) ** (1 / concentration1)}


def plain_of(page):
    return {key: getattr(page, key) for key in page.declared if key not in page.params()}


def image(f, z, numbers):
    """x, from z and the parameters {path: number or list}."""
    for i, stage in enumerate(f.stages):
        inner = isinstance(stage, Inverse)
        page, prefix = (stage.inner, ("stages", str(i), "inner")) if inner else (stage, ("stages", str(i)))
        own = {path[-1]: held for path, held in numbers.items() if path[:-1] == prefix}
        z = QUANTILES[type(page)](z, **own) if inner else page.definition(mpmath.mp, z, **own, **plain_of(page))
    return z


@functools.cache
def truth(f, z):
    """x, log|dx/dz|, and both gradients, {path: array} with z at (), by differences of 350-digit numbers."""
    with mpmath.workdps(DIGITS):
        z = mpmath.mpf(float(z))
        given = {path: exact(held) for path, held in flatten(f.params())}

        def pair(z, numbers):
            above, below = (image(f, z + step, numbers) for step in (STEP, -STEP))
            return (above + below) / 2, mpmath.log((above - below) / (2 * STEP))

        def slopes(moved):
            above, below = moved(STEP), moved(-STEP)
            return [float((a - b) / (2 * STEP)) for a, b in zip(above, below)]

        x, log_det = pair(z, given)
        gradients = {(): slopes(lambda step: pair(z + step, given))}
        for path, held in given.items():
            if isinstance(held, list):
                gradients[path] = np.transpose([slopes(lambda step: pair(z, given | {path: moved(held, k, step)}))
                                                for k in range(len(held))])
            else:
                gradients[path] = slopes(lambda step: pair(z, given | {path: held + step}))
        return float(x), float(log_det), gradients


def exact(held):
    return [mpmath.mpf(float(v)) for v in held] if held.ndim else mpmath.mpf(float(held))


def moved(held, k, step):
    return [v + step * (i == k) for i, v in enumerate(held)]


# -- the chains -------------------------------------------------------------------------------------------------------

KNOTS, IMAGES, SLOPES = [0.0, 0.25, 0.625, 1.0], [0.0, 0.5, 0.75, 1.0], [0.5, 2.0, 0.25, 1.5]
SPLINES = [LinearSpline(KNOTS, IMAGES, "none"), RationalQuadraticSpline(KNOTS, IMAGES, SLOPES, "none"),
           LinearRationalSpline(KNOTS, IMAGES, SLOPES, [0.25, 0.5, 0.875], "none"),
           CubicSpline(KNOTS, IMAGES, [0.5, 2.0], "none"), SmoothSpline([0.0, 0.25, 1.0], [0.0, 0.75, 1.0], [0.5, 2.0], "none"),
           SmoothSpline([0.0, 0.25, 1.0], [0.0, 0.75, 1.0], None, "none")]
GUMBEL, WEIBULL, KUMARASWAMY = GumbelCDF(0.25, 1.5), WeibullCDF(2.0, 0.625), KumaraswamyCDF(2.5, 5.0)
NORMAL, LOGISTIC = NormalCDF(-0.25, 1.25), LogisticCDF(0.5, 2.0)

# (distribution functions, events in both tails)
FIRST = [(GUMBEL, [-6.0, -3.0, 1.0, 6.0, 40.0, 120.0]), (WEIBULL, [1e-30, 1e-5, 1.0, 9.0, 200.0, 900.0]),
         (KUMARASWAMY, [1e-20, 0.15625, 0.6875, 0.9375, 1 - 2.0**-20]), (NORMAL, [-14.0, -6.0, -0.125, 3.0, 7.0, 14.0])]
LAST = [NORMAL, LOGISTIC, GumbelCDF(-0.5, 0.75), WeibullCDF(0.5, 1.75), KumaraswamyCDF(0.75, 0.5)]
ENDS = [(Chain([F, Inverse(G)]), z) for F, z in FIRST for G in LAST if F is not G]
BETWEEN = [(Chain([NORMAL, h, Inverse(LOGISTIC)]), FIRST[3][1]) for h in (KUMARASWAMY, Inverse(KUMARASWAMY), *SPLINES)] + \
          [(Chain([WEIBULL, SPLINES[1], KUMARASWAMY, Inverse(GUMBEL)]), FIRST[1][1]),
           (Chain([SPLINES[2], Inverse(LOGISTIC)]), [1e-20, 0.15625, 0.6875, 0.9375, 1 - 2.0**-20])]
ROOM = {F32: 2.0**-22, F64: 2.0**-37}       # relative errors: of one rounding or two; of t^2 of them, far out


def named(f):
    return "-".join(type(getattr(stage, "inner", stage)).__name__ for stage in f.stages) if isinstance(f, Chain) else ""


def gradients(f, event, side=0):
    """As in `truth`, by the pullback; on side 1 of the inverse."""
    (image, log_det), pullback = f.inverse_vjp(event) if side else f.vjp(event)
    found = {}
    for bars in ((1.0, 0.0), (0.0, 1.0)):
        event_bar, bars = pullback(*bars)
        for path, bar in [((), event_bar), *flatten(bars)]:
            found[path] = found.get(path, ()) + (bar,)
    return image, log_det, found


def refuse_lost_digits(f, z, dtype):
    f, z = f.astype(dtype), dtype(z)
    assert any(isinstance(step, Run) for _, step, _ in f.steps[0])
    (x, log_det, found), (true_x, true_log_det, true) = gradients(f, z), truth(f, z)
    assert x.dtype == log_det.dtype == dtype and (f.forward(z), f.log_det(z)) == (x, log_det)
    near("x", x, true_x, dtype)
    near("log_det", log_det, true_log_det, dtype)
    for path, bars in found.items():
        for of, bar, expected in zip(("x", "log_det"), bars, true[path]):
            near(f"gradient of {of} by {'.'.join(path) or 'z'}", bar, expected, dtype)


def near(name, found, expected, dtype):
    """To all digits of the number, of a vector's largest, or of the terms of size 1 that cancel in it, which are float64."""
    room = ROOM[dtype] * np.abs(expected).max() + ROOM[F64]
    held = np.abs(expected) < np.finfo(dtype).max
    assert (np.abs(found - expected) <= room)[held].all(), f"{name}: {found} for {expected}"


@pytest.mark.parametrize("dtype", [F32, F64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("f, events", ENDS + BETWEEN, ids=lambda x: named(x))
def test_all_digits_in_both_tails(f, events, dtype):
    for z in events:
        refuse_lost_digits(f, z, dtype)


# -- planted bugs -----------------------------------------------------------------------------------------------------

def by_the_last_number(z, v, first, others):
    for leaf in others[:-1]:
        v = leaf.page.inverse(v) if leaf.side else leaf.page.forward(v)
    return v > 0.5


def in_their_own_order(spline):
    return WHAT_IS_LEFT(spline)[0], lambda bars: bars


def of_another_sign(spline):
    return WHAT_IS_LEFT(spline)[0], lambda bars: {key: bar[..., ::-1] for key, bar in bars.items()}


WHAT_IS_LEFT = bins.what_is_left
STEEP = [Chain([NORMAL, LinearSpline(knots, images, "none"), Inverse(LOGISTIC)])
         for knots, images in (([0.0, 2.0**-30, 1.0], [0.0, 0.75, 1.0]), ([0.0, 1 - 2.0**-30, 1.0], [0.0, 0.25, 1.0]))]


@pytest.mark.parametrize("f, z", [(STEEP[0], -7.79), (STEEP[1], 7.29)], ids=["lower", "upper"])
def test_steep_splines_keep_the_digits_of_the_nearer_end(f, z, monkeypatch):
    """The last number alone would say that the other end is nearer: at 2^-31 from an end, it is near the middle."""
    v = f.stages[0].unchecked(F64)
    assert 2.0**-32 < min(v.forward(F64(z)), v.complement(F64(z))) < 2.0**-30
    refuse_lost_digits(f, z, F64)
    monkeypatch.setattr(tracks, "nearer_an_upper_end", by_the_last_number)
    with pytest.raises(AssertionError, match="^x: "):
        refuse_lost_digits(f, z, F64)


@pytest.mark.parametrize("bug", [in_their_own_order, of_another_sign])
@pytest.mark.parametrize("spline", SPLINES, ids=lambda f: type(f).__name__)
def test_wrong_cotangents_of_what_is_left_are_caught(spline, bug, monkeypatch):
    monkeypatch.setattr(type(spline), "mirrored", bug)
    with pytest.raises(AssertionError, match="^gradient of x by stages.1"):
        refuse_lost_digits(Chain([NORMAL, spline, Inverse(LOGISTIC)]), 3.0, F64)


@pytest.mark.parametrize("places", [("input_knots", "middles"), ("output_knots", "middles"), ("input_knots", "output_knots")])
def test_a_place_that_is_not_taken_from_the_end_is_caught(places, monkeypatch):
    monkeypatch.setattr(bins, "PLACES", places)
    with pytest.raises(AssertionError):
        refuse_lost_digits(Chain([NORMAL, SPLINES[2], Inverse(LOGISTIC)]), 3.0, F64)


def cotangents_exchanged(self):
    found, own = MIRRORED(self)
    return found, lambda bars: dict(zip(("concentration0", "concentration1"), own(bars).values()))


MIRRORED = KumaraswamyCDF.mirrored


@pytest.mark.parametrize("h", [KUMARASWAMY, Inverse(KUMARASWAMY)], ids=repr)
def test_exchanged_cotangents_are_caught(h, monkeypatch):
    monkeypatch.setattr(KumaraswamyCDF, "mirrored", cotangents_exchanged)
    with pytest.raises(AssertionError, match="^gradient of x by stages.1"):
        refuse_lost_digits(Chain([NORMAL, h, Inverse(LOGISTIC)]), 3.0, F64)


# -- alone, in batches, and from the other side -----------------------------------------------------------------------

MIDDLES = [*SPLINES, *map(Inverse, SPLINES), KUMARASWAMY, Inverse(KUMARASWAMY)]


@pytest.mark.parametrize("h", MIDDLES, ids=repr)
def test_a_batch_is_its_events(h):
    """Both tracks in one array, and in one vector; cotangents of parameters add up."""
    f, z = Chain([NORMAL, h, Inverse(LOGISTIC)]), np.array(FIRST[3][1])
    alone, together, vector = [gradients(f, one) for one in z], gradients(f, z), gradients(Independent(f, 1), z)
    for k in (0, 1):
        assert np.array_equal(together[k], [one[k] for one in alone])
    for path, bars in together[2].items():
        for k, bar in enumerate(bars):
            each = np.array([one[2][path][k] for one in alone])
            np.testing.assert_allclose(bar, each.sum(0) if path else each, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(vector[2][("inner", *path) if path else ()][k], bar, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("h", MIDDLES, ids=repr)
def test_there_and_back(h):
    """From the other side, all gradients are those of the inverse map."""
    f = Chain([NORMAL, h, Inverse(LOGISTIC)])
    for z in FIRST[3][1]:
        x, log_det, of_f = gradients(f, z)
        again, back, of_inverse = gradients(f, x, 1)
        near("x", again, z, F64)
        near("log_det", back, -log_det, F64)
        slope, bent = of_f[()]
        for path, (of_z, of_log_det) in of_inverse.items():
            by_x, by_l = of_f[path]
            near(f"gradient of z by {path}", of_z, (-by_x if path else 1.0) / slope, F64)
            near(f"gradient of log_det by {path}", of_log_det, bent * by_x / slope - by_l if path else -bent / slope, F64)


def test_every_number_may_have_its_own_spline():
    """Their ends are arrays of the same numbers."""
    knots, images = np.array([KNOTS, IMAGES, KNOTS]), np.array([IMAGES, KNOTS, IMAGES])
    z = np.array([3.0, -6.0, 7.0])
    x = Chain([NORMAL, LinearSpline(knots, images, "none"), Inverse(LOGISTIC)]).forward(z)
    each = [Chain([NORMAL, LinearSpline(a, b, "none"), Inverse(LOGISTIC)]).forward(v) for a, b, v in zip(knots, images, z)]
    assert np.array_equal(x, each) and np.isfinite(x).all()


def test_other_splines_are_in_no_run():
    """These do not lead between intervals (0, b); the upper end of a quadratic one is a sum, whose rounding is all that is left there."""
    symmetric, from_2 = LinearSpline([-1.0, 1.0], [-1.0, 1.0], "none"), LinearSpline([0.0, 2.0], [0.0, 1.0], "none")
    quadratic = QuadraticSpline([0.0, 1.0], [1.0, 1.0], 0.0, "none")
    assert not any(h.two_sided for h in (LinearSpline(KNOTS, IMAGES), symmetric, quadratic)) and from_2.two_sided
    assert not any(Chain([NORMAL, h, Inverse(LOGISTIC)]).has_runs for h in (quadratic, symmetric))
    assert [type(step) for _, step, _ in Chain([NORMAL, from_2, Inverse(LOGISTIC)]).steps[0]] == [NormalCDF, Run]
