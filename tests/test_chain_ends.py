"""Chains in which a value between two stages has rounded to an end of its set: no answer is infinite that should not be."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from refflow import (Affine, BoxCox, CauchyCDF, Chain, Exp, ExponentialCDF, Flow, GompertzCDF, GumbelCDF, HalfCauchyCDF, Independent,
                     Inverse, LogisticCDF, NormalCDF, Power, RayleighCDF, Sigmoid, Sinh, StandardNormal, StickBreaking, Tanh, WeibullCDF,
                     moyal_cdf)
from refflow.core import compose
from refflow.core.tree import flatten

F32, F64 = np.float32, np.float64
DIGITS, STEP = 800, mpmath.mpf(10) ** -100          # exp(-40^2 / 2) has 350 zeros
FAR = np.array([0.5, 2, 5, 6, 9, 13, 17, 26, 38, 40])


# -- the truth --------------------------------------------------------------------------------------------------------

def normal_quantile(p):
    tail = min(p, 1 - p)
    y = mpmath.findroot(lambda y: mpmath.log(mpmath.ncdf(y)) - mpmath.log(tail), -mpmath.sqrt(-2 * mpmath.log(tail)))
    return y if p < 0.5 else -y


QUANTILES = {
    CauchyCDF: lambda p: -mpmath.cot(mpmath.pi * p), GumbelCDF: lambda p: -mpmath.log(-mpmath.log(p)),
    LogisticCDF: lambda p: mpmath.log(p / (1 - p)), NormalCDF: normal_quantile, WeibullCDF: lambda p: -mpmath.log(1 - p)}


def soft(y):
    """log(1 + exp(-|y|)), to 800 digits."""
    return mpmath.log1p(mpmath.exp(-abs(y))) if abs(y) < 2000 else 0


LAST = {Tanh: (lambda y: 2 * (mpmath.log(2) - abs(y) - soft(2 * y)), lambda y: mpmath.tanh(max(-2000, min(y, 2000)))),
        Sigmoid: (lambda y: -abs(y) - 2 * soft(y), None), Exp: (lambda y: y, None)}                # log-slope, image


def quantile_of(f, z):
    F, G = f.stages[0], f.stages[1].inner
    return QUANTILES[type(G)](F.definition(mpmath.mp, z, **F.params()))


def true_log_det(f, z):
    """Of a distribution function, a quantile function, and what follows."""
    with mpmath.workdps(DIGITS):
        z = mpmath.mpf(float(z))
        y, log_det = quantile_of(f, z), mpmath.log((quantile_of(f, z + STEP) - quantile_of(f, z - STEP)) / (2 * STEP))
        for stage in f.stages[2:]:
            log_slope, image = LAST[type(stage)]
            log_det, y = log_det + log_slope(y), image and image(y)
        return log_det


# -- distribution functions, quantiles and bounded maps -----------------------------------------------------------------

def chains(last):
    """Every distribution function, after it every quantile function, and then the last maps."""
    functions = CauchyCDF(), GumbelCDF(), LogisticCDF(), NormalCDF(), Sigmoid()
    return [Chain([F, Inverse(G()), *last]) for F in functions for G in QUANTILES]


def events(f, dtype):
    return np.concatenate([-FAR[::-1], FAR]).astype(dtype)


def refuse_wrong_infinities(last, dtype):
    for f in chains(last):
        z = events(f, dtype)
        log_det, (of_map, _) = f.log_det(z), f.vjp(z)
        assert np.array_equal(of_map[1], log_det, equal_nan=True)
        for i in np.flatnonzero(np.isinf(log_det)):
            true = true_log_det(f, z[i])
            assert abs(true) > np.finfo(dtype).max, f"log_det is {log_det[i]} for {mpmath.nstr(true, 6)} at {z[i]}; {f!r}"


@pytest.mark.parametrize("last", [(), (Tanh(),), (Sigmoid(),), (Tanh(), Exp())], ids=repr)
@pytest.mark.parametrize("dtype", [F32, F64], ids=lambda d: d.__name__)
def test_no_log_det_is_a_wrong_infinity(last, dtype):
    refuse_wrong_infinities(last, dtype)


@pytest.mark.parametrize("dtype", [F32, F64], ids=lambda d: d.__name__)
def test_a_wrong_infinity_is_found(dtype, monkeypatch):
    """Of a chain without two tracks, whose inner value rounds to 1: log_det is -40."""
    f, z = Chain([Tanh(), Inverse(Tanh()), Sigmoid()]), np.array([40.0], dtype)
    assert np.isnan(f.log_det(z)).all()
    monkeypatch.setattr(compose, "made_by_rounding", lambda total, inside: np.zeros(total.shape, bool))
    assert np.isinf(f.log_det(z)).all()


@pytest.mark.parametrize("last", [(), (Tanh(),), (Sigmoid(),)], ids=repr)
@pytest.mark.parametrize("pages", [(NormalCDF(), LogisticCDF()), (LogisticCDF(), NormalCDF()), (Sigmoid(), CauchyCDF()),
                                   (CauchyCDF(), NormalCDF())], ids=lambda pages: type(pages[0]).__name__)
def test_what_is_known_is_true(pages, last):
    """In both tails log_det is finite and right, and so is its gradient, here against a difference of truths."""
    f, z, h = Chain([pages[0], Inverse(pages[1]), *last]), np.array([-30.0, -1.0, 5.0, 9.0, 30.0]), 2.0**-16
    true = [float(true_log_det(f, one)) for one in z]
    slopes = [float((true_log_det(f, one + h) - true_log_det(f, one - h)) / (2 * h)) for one in z]
    (_, log_det), pullback = f.vjp(z)
    np.testing.assert_allclose(log_det, true, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(f.log_det(z.astype(F32)), np.array(true, F32), rtol=1e-6)
    np.testing.assert_allclose(pullback(np.zeros(len(z)), np.ones(len(z)))[0], slopes, rtol=1e-6)


@pytest.mark.parametrize("page, far", [(ExponentialCDF(2.0), 200.0), (RayleighCDF(2.0), 50.0), (GompertzCDF(0.5), 7.0),
                                       (HalfCauchyCDF(2.0), 1e30)], ids=lambda page: type(page).__name__)
def test_both_tails_of_a_function_of_the_half_line_are_kept(page, far):
    """Far out, where x has rounded to 1, the image is right, the log-det is its slope's, and the inverse gives z."""
    f, z = Chain([page, Inverse(NormalCDF())]), np.array([1e-9, 1.0, far])
    with mpmath.workdps(DIGITS):
        true = [float(quantile_of(f, mpmath.mpf(one))) for one in z]
        log_dets = [float(true_log_det(f, one)) for one in z]
    x, log_det = f.forward_and_log_det(z)
    assert page.forward(far) == 1
    np.testing.assert_allclose(x, true, rtol=4 * np.finfo(F64).eps)
    np.testing.assert_allclose(log_det, log_dets, rtol=1e-12)
    np.testing.assert_allclose(f.forward(z.astype(F32)), np.array(true, F32), rtol=1e-6)
    np.testing.assert_allclose(f.inverse(x), z, rtol=1e-12)
    np.testing.assert_allclose(f.vjp(z)[1](np.ones(3), np.zeros(3))[0], np.exp(log_dets), rtol=1e-12)


# -- what is said there -----------------------------------------------------------------------------------------------

LOST = [(Chain([LogisticCDF(), Inverse(NormalCDF()), Tanh()]), 800.0, F32),
        (Chain([Exp(), Inverse(Exp()), Sigmoid()]), 800.0, F64),
        (Chain([NormalCDF(), Inverse(LogisticCDF())]), 39.0, F64), (Chain([Tanh(), Inverse(Tanh()), Exp()]), 40.0, F64),
        (Chain([Exp(), Power(0.25), NormalCDF()]), 100.0, F32), (Chain([GumbelCDF(), Power(3.0), BoxCox(0.5)]), -400.0, F64),
        (Chain([Chain([Sigmoid(), Inverse(NormalCDF())]), Affine(2.0)]), -800.0, F64),
        (Inverse(Chain([Tanh(), Inverse(Tanh())])), 40.0, F64)]


@pytest.mark.parametrize("f, z, dtype", LOST, ids=str)
def test_what_rounding_made_infinite_is_not_known(f, z, dtype):
    """log_det is NaN, and its gradient; other events of a batch, and other entries, are as they are alone."""
    (_, log_det), pullback = f.vjp(dtype(z))
    assert np.isnan(log_det) and np.isnan(f.log_det(dtype(z))) and np.isnan(pullback(0.0, 1.0)[0])
    assert not any(np.isinf(bar).any() for _, bar in flatten(pullback(1.0, 0.0)[1])) and not np.isinf(pullback(1.0, 0.0)[0])
    both = np.array([z, 0.25], dtype)
    (_, of_both), pullback = f.vjp(both)
    assert np.isnan(of_both[0]) and of_both[1] == f.log_det(both[1]) and of_both.dtype == dtype
    z_bar = pullback(np.zeros(2), np.ones(2))[0]
    assert np.isnan(z_bar[0]) and z_bar[1] == f.vjp(both[1])[1](0.0, 1.0)[0] and z_bar.dtype == dtype
    z_bar = Independent(f, 1).vjp(both)[1](np.zeros(2), 1.0)[0]
    assert np.isnan(z_bar[0]) and z_bar[1] == f.vjp(both[1])[1](0.0, 1.0)[0]


@pytest.mark.parametrize("f, z, expected, dtype", [
    (Chain([Power(3.0), Exp()]), 1e110, np.inf, F64), (Chain([Exp(), Exp(), Affine(scale=0.5)]), 800.0, np.inf, F64),
    (Chain([Sinh(), Sinh()]), -1000.0, np.inf, F64), (Chain([Exp(), NormalCDF()]), 50.0, -np.inf, F32),
    (Chain([Exp(), NormalCDF()]), 100.0, -np.inf, F32), (Chain([Exp(), Sigmoid()]), 710.0, -np.inf, F64),
    (Chain([NormalCDF()]), 1e200, -np.inf, F64), (Chain([Inverse(Sigmoid())]), 1.0, np.inf, F64)], ids=str)
def test_an_infinity_stays_where_the_floats_end(f, z, expected, dtype):
    """Or where the event itself is given at an end."""
    assert f.log_det(dtype(z)) == expected and f.vjp(dtype(z))[0][1] == expected


@pytest.mark.parametrize("z", [-1430.0, -1500.0])
def test_where_the_log_det_is_beyond_the_floats_the_slope_is_0(z):
    """exp(-z/2) overflows, and the slope of the last stages is 0."""
    f = moyal_cdf()
    (x, log_det), pullback = f.vjp(np.array([z, 0.5]))
    assert x[0] == 0 and log_det[0] == -np.inf and f.jacobian(z) == 0
    assert np.array_equal(pullback(np.ones(2), np.zeros(2))[0], [0.0, f.vjp(0.5)[1](1.0, 0.0)[0]])
    assert np.isnan(pullback(np.full(2, np.nan), np.zeros(2))[0]).all()


def test_an_exact_end_between_stages_is_taken_for_a_rounded_one():
    f = Chain([Affine(scale=2.0), Inverse(Sigmoid())])
    assert np.isnan(f.log_det(0.5)) and f.forward(0.5) == np.inf


def test_an_end_of_the_simplex_has_no_float_beside_it():
    f, z = Chain([StickBreaking(), Inverse(StickBreaking())]), np.array([[800.0, 0.0], [1.0, 2.0]])
    log_det = f.log_det(z)
    assert np.isnan(log_det[0]) and abs(log_det[1]) < 1e-14


def slopes(*powers):
    """A chain of numbers whose stages have the slopes 10^k."""
    return Chain([Affine(scale=F32(10.0) ** k) for k in powers])


def test_a_cotangent_that_overflows_on_its_way_comes_from_a_smaller_one():
    """The slope of the logit at q = Phi(-13.1) overflows, and the slope of the chain is 13."""
    f, z = Chain([NormalCDF(), Inverse(LogisticCDF())]), np.array([-13.1, -1.0, -12.0], F32)
    of_f, of_two = f.vjp(z)[1](F32([1, 1, 1]), F32([0, 0, 0]))[0], f.vjp(z[1:])[1](F32([1, 1]), F32([0, 0]))[0]
    np.testing.assert_allclose(of_f, f.vjp(z.astype(F64))[1](np.ones(3), np.zeros(3))[0], rtol=1e-5)
    assert np.array_equal(of_f[1:], of_two)


@pytest.mark.parametrize("powers, of_z, of_shift", [
    ((-30, 30, 30), 1e30, np.inf), ((30, 30, -30), 1e30, 1.0), ((25, 25, 25), np.inf, np.inf), ((-30, -20, 30, 30), 1e10, np.inf),
    ((-10, -30, 5, 30, 30), 1e25, 1e35), ((-38, -38, 38, 38), np.nan, np.nan), ((38, 38, 38, -38), np.inf, 1e38)])
def test_gradients_of_slopes_of_all_sizes(powers, of_z, of_shift):
    """Where the way leaves the floats beyond their power 7/4, it is not known."""
    z_bar, params_bar = slopes(*powers).vjp(F32(0))[1](1.0, 0.0)
    np.testing.assert_allclose([z_bar, params_bar["stages"]["0"]["shift"]], [of_z, of_shift], rtol=1e-5)


# -- flows ------------------------------------------------------------------------------------------------------------

def test_log_prob_is_not_known_where_rounding_made_z_infinite():
    p, x = Flow(Chain([NormalCDF(), Inverse(LogisticCDF())]), StandardNormal(1)), np.array([[800.0], [-37.0], [0.5]])
    log_prob, pullback = p.log_prob_vjp(x)
    np.testing.assert_allclose(log_prob, [np.nan, -37.0, np.log(0.5) - np.log(2 * np.cosh(0.25) ** 2)], rtol=1e-12)
    assert np.array_equal(p.log_prob(x), log_prob, equal_nan=True)
    x_bar, params_bar = pullback(np.ones(3))
    np.testing.assert_allclose(x_bar, [[np.nan], [1.0], [-np.tanh(0.25)]], rtol=1e-12)
    assert all(np.isnan(bar) for _, bar in flatten(params_bar))
    x_bar, params_bar = pullback(np.array([0.0, 1.0, 1.0]))
    assert x_bar[0] == 0 and all(np.isfinite(bar) for _, bar in flatten(params_bar))


def test_log_prob_stays_infinite_where_z_is_beyond_the_floats():
    """And where a stage refuses the event."""
    far = Flow(Affine(scale=1e-300), StandardNormal(1))
    log_prob, pullback = far.log_prob_vjp(np.array([1e300]))
    assert log_prob == -np.inf and pullback(1.0)[0] == 0
    beyond = Flow(Chain([Sigmoid(), Affine(scale=2.0)]), StandardNormal(1))
    assert beyond.log_prob(np.array([3.0])) == -np.inf
