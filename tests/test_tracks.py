"""Chains through an interval: both tails have all digits, whatever stands between, beside and around their maps."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from refflow import (ActNorm, Affine, CauchyCDF, Chain, Exp, ExponentialCDF, Flow, Gaussianization, GompertzCDF,
                     Independent, Inverse, LogisticCDF, LogisticMixtureCDF, LogisticMixtureLogit, NormalCDF, NormalMixtureCDF,
                     RayleighCDF, Sigmoid, StandardNormal, Tanh, WeibullCDF)
from refflow.accuracy.kappa import kappa
from refflow.core.tracks import Run
from refflow.core.tree import flatten
from refflow.maps.elementwise.named import log_normal_cdf

F32, F64 = np.float32, np.float64
FAR = np.array([-30.0, -9.0, -2.0, -0.1, 0.3, 1.0, 5.0, 8.5, 12.0, 36.0])


def pulled(f, z, side=0):
    """Image, log-det, and the cotangents of z and of the parameters for cotangents 1 and 2."""
    (x, log_det), pullback = f.inverse_vjp(z) if side else f.vjp(z)
    z_bar, params_bar = pullback(np.ones_like(x), 2 * np.ones_like(log_det))
    return x, log_det, z_bar, dict(flatten(params_bar))


def runs(f):
    return [step for _, step, _ in f.steps[0] if isinstance(step, Run)]


# -- what there was no digit of ---------------------------------------------------------------------------------------

def test_both_tails_of_float32():
    f = Chain([LogisticCDF(), Inverse(NormalCDF()), Tanh()])
    x, log_det, z_bar, _ = pulled(f, F32([17, -17]))
    assert x.dtype == log_det.dtype == z_bar.dtype == F32
    np.testing.assert_allclose(x, [0.99995588, -0.99995588], rtol=1e-7)
    np.testing.assert_allclose(log_det, [-11.046916, -11.046916], rtol=1e-6)
    assert np.array_equal(f.forward(F32([17, -17])), x) and z_bar[0] < 0 < z_bar[1]


def test_a_density_far_out():
    p = Flow(Chain([NormalCDF(), Inverse(LogisticCDF())]), StandardNormal(1))
    log_prob, pullback = p.log_prob_vjp(np.array([[37.0], [-37.0]]))
    np.testing.assert_allclose(log_prob, [-37, -37], rtol=1e-14)
    np.testing.assert_allclose(pullback(np.ones(2))[0], [[-1], [1]], rtol=1e-13)


def test_the_logit_of_a_normal_probability():
    f = Chain([NormalCDF(), Inverse(Sigmoid())])
    _, log_det, z_bar, _ = pulled(f, F32([5, 14]))
    np.testing.assert_allclose(log_det, [1.6460601, 2.6440960], rtol=1e-6)
    np.testing.assert_allclose(f.vjp(F32([5, 14]))[1](np.zeros(2), np.ones(2))[0], [0.18650249, 0.07071763], rtol=1e-5)


# -- one map that is known from elsewhere -----------------------------------------------------------------------------

WEIGHTS, LOC, SCALE = np.array([0.2, 0.5, 0.3]), np.array([-1.0, 2.0, 0.5]), np.array([0.5, 1.0, 0.8])


def agree(found, expected):
    """Quantiles beyond 30 deviations are met: a gradient there loses 30^2 units of rounding."""
    for a, b, digits in zip(found[:3], expected[:3], (1e-12, 1e-12, 1e-11)):
        np.testing.assert_allclose(a, b, rtol=digits, atol=digits)


@pytest.mark.parametrize("side", [0, 1])
def test_a_mixture_and_the_logit_are_the_mixture_of_the_logit(side):
    f, g = Chain([LogisticMixtureCDF(WEIGHTS, LOC, SCALE), Inverse(Sigmoid())]), LogisticMixtureLogit(WEIGHTS, LOC, SCALE)
    for z in FAR * 9:
        found, expected = pulled(f, z, side), pulled(g, z, side)
        agree(found, expected)
        for name in ("weights", "loc", "scale"):
            np.testing.assert_allclose(found[3]["stages", "0", name], expected[3][name,], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("side", [0, 1])
def test_equal_normals_and_the_quantile_are_gaussianization(side):
    """The rate is 1/scale, the bias -loc/scale."""
    rate, bias = np.array([0.5, 1.0, 2.0]), np.array([0.3, -1.0, 0.0])
    f = Chain([NormalMixtureCDF(np.full(3, 1 / 3), -bias / rate, 1 / rate), Inverse(NormalCDF())])
    g = Gaussianization(rate, bias)
    for z in FAR:
        found, expected = pulled(f, z, side), pulled(g, z, side)
        agree(found, expected)
        loc_bar, scale_bar = (found[3]["stages", "0", name] for name in ("loc", "scale"))
        of_bias = -loc_bar / rate
        of_rate = bias / rate**2 * loc_bar - scale_bar / rate**2
        np.testing.assert_allclose(of_bias, expected[3]["bias",], rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(of_rate, expected[3]["rate",], rtol=1e-9, atol=1e-9)


# -- both tails -------------------------------------------------------------------------------------------------------

SYMMETRIC = [(F, G) for F in (Sigmoid, LogisticCDF, NormalCDF, CauchyCDF) for G in (LogisticCDF, NormalCDF, CauchyCDF)]


def made(page, loc, scale, dtype):
    return page() if page is Sigmoid else page(dtype(loc), dtype(scale))


@pytest.mark.parametrize("dtype", [F32, F64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("F, G", SYMMETRIC, ids=lambda page: page.__name__)
def test_the_upper_tail_is_the_lower_tail_of_the_mirrored_chain(F, G, dtype):
    """Bit by bit, parameters included, from both sides."""
    f, mirrored = (Chain([made(F, way * 0.25, 1.25, dtype), Inverse(made(G, way * 0.5, 1.5, dtype)), Affine(scale=0.5)])
                   for way in (1, -1))
    for z in FAR.astype(dtype):
        found, there = pulled(f, z), pulled(mirrored, -z)
        assert there[0] == -found[0] and there[1] == found[1] and np.isfinite(found[1])
        (_, of_f), (_, of_mirrored) = f.vjp(z), mirrored.vjp(-z)
        for bars in ((1.0, 0.0), (0.0, 1.0)):
            (z_bar, bars_f), (other, bars_mirrored) = of_f(*bars), of_mirrored(-bars[0], bars[1])
            assert np.array_equal(z_bar, -other, equal_nan=True)
            for (path, bar), (_, again) in zip(flatten(bars_f), flatten(bars_mirrored)):
                assert np.array_equal(bar, -again if path[-1] in ("loc", "shift") else again, equal_nan=True), path


def test_each_track_counts():
    """The median is on the lower track, and a middle that is not used makes no NaN."""
    f = Chain([NormalCDF(), Inverse(LogisticCDF())])
    x, log_det, z_bar, bars = pulled(f, np.array([0.0, 37.0, -37.0]))
    assert x[0] == 0 and x[1] == -x[2] and log_det[1] == log_det[2] and np.isfinite(list(bars.values())).all()


@pytest.mark.parametrize("dtype", [F32, F64], ids=lambda d: d.__name__)
@pytest.mark.parametrize("page, far", [
    (NormalCDF(), 39.0), (NormalCDF(), 38.0), (NormalCDF(), -39.0), (NormalCDF(), -38.0), (LogisticCDF(), 740.0),
    (LogisticCDF(), -740.0), (ExponentialCDF(), 740.0), (ExponentialCDF(), 750.0), (WeibullCDF(), 740.0), (WeibullCDF(), 900.0),
    (GompertzCDF(0.5), 8.0), (GompertzCDF(0.5), 80.0), (RayleighCDF(2.0), 1e30)], ids=repr)
def test_where_the_tail_underflows_nothing_is_known(page, far, dtype):
    """A tail that is 0 or subnormal gives NaN.  Another event of the batch keeps the numbers that it has alone."""
    f = Chain([page, Inverse(LogisticCDF())])
    z = np.array([far, 0.5], dtype)
    (x, log_det), pullback = f.vjp(z)
    of_image, of_log_det = pullback(np.ones(2, dtype), np.zeros(2, dtype)), pullback(np.zeros(2, dtype), np.ones(2, dtype))
    found = np.array([x, log_det, f.forward(z), f.log_det(z), of_image[0], of_log_det[0]])
    assert np.isnan(found[:, 0]).all() and np.isfinite(found[:, 1]).all()
    assert pullback(np.zeros(2, dtype), np.zeros(2, dtype))[0][0] == 0
    (x, log_det), pullback = f.vjp(dtype(0.5))
    assert np.array_equal(found[:, 1], [x, log_det, x, log_det, pullback(1.0, 0.0)[0], pullback(0.0, 1.0)[0]])


@pytest.mark.parametrize("page, last", [(NormalCDF(), 37.5), (LogisticCDF(), 708.0), (ExponentialCDF(), 708.0), (WeibullCDF(), 708.0)],
                         ids=repr)
def test_up_to_there_it_is_known(page, last):
    x = Chain([page, Inverse(LogisticCDF())]).forward(last)
    true = norm.logsf(last) if isinstance(page, NormalCDF) else -last
    np.testing.assert_allclose(x, -true, rtol=4 * np.finfo(F64).eps)


def test_a_subnormal_event_keeps_its_own_digits():
    f = Chain([Sigmoid(), Inverse(Sigmoid())])
    assert np.array_equal(f.inverse(f.forward(np.array([5e-324, 0.0]))), [0.0, 0.0])
    g = Chain([ExponentialCDF(2.0), Inverse(ExponentialCDF(1.0))])
    assert np.array_equal(g.forward(np.array([5e-324, 1e-310])), [1e-323, 2e-310])


# -- alone, and beside others -----------------------------------------------------------------------------------------

@pytest.mark.parametrize("f", [
    Chain([NormalCDF(0.25, 1.25), Inverse(LogisticCDF(-0.5, 2.0))]),
    Chain([Affine(0.5, 2.0), Sigmoid(), Inverse(NormalCDF()), Tanh()]),
    Chain([LogisticMixtureCDF(WEIGHTS, LOC, SCALE), Inverse(Sigmoid())])], ids=lambda f: type(f.stages[0]).__name__)
@pytest.mark.parametrize("side", [0, 1])
def test_alone_in_a_batch_in_a_vector_and_with_parameters_of_its_own(f, side):
    events = FAR if side == 0 else f.forward(FAR)
    alone = [pulled(f, event, side) for event in events]
    batch, vector = pulled(f, events, side), pulled(Independent(f, 1), events, side)
    assert all(np.array_equal(batch[k], [one[k] for one in alone]) for k in (0, 1, 2))
    assert np.array_equal(vector[0], batch[0]) and np.array_equal(vector[2], batch[2])
    np.testing.assert_allclose(vector[1], batch[1].sum(), rtol=1e-12)
    own = f.replace(stages=tuple(with_batch(stage, len(FAR)) for stage in f.stages))
    spread = pulled(own, events, side)
    assert all(np.array_equal(spread[k], batch[k]) for k in (0, 1, 2))
    for path, bar in spread[3].items():
        np.testing.assert_allclose(bar, [one[3][path] for one in alone], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(batch[3][path], bar.sum(0), rtol=1e-10, atol=1e-10)


def with_batch(f, count):
    """A map with its parameters repeated along a first axis."""
    if isinstance(f, Inverse):
        return Inverse(with_batch(f.inner, count))
    return f.replace(**{key: np.stack(count * [value]) for key, value in f.params().items()})


def test_one_page_may_be_both_ends():
    """Its cotangents are the sum of what both ends say; there and back, that is nothing but the scale's."""
    page = NormalCDF(0.5, 2.0)
    f, two = Chain([page, Inverse(page)]), Chain([page, Inverse(NormalCDF(0.5, 2.0))])
    for z in FAR:
        (x, log_det, _, bars), (_, _, _, apart) = pulled(f, z), pulled(two, z)
        np.testing.assert_allclose([x, log_det], [z, 0], rtol=1e-12, atol=1e-11)
        for name in ("loc", "scale"):
            assert bars["stages", "0", name] == apart["stages", "0", name] + apart["stages", "1", "inner", name]


# -- whatever is around them ------------------------------------------------------------------------------------------

PLAIN = Chain([NormalCDF(), Inverse(LogisticCDF(0.5)), Tanh()])


@pytest.mark.parametrize("f, prefix", [
    (Chain([Chain([NormalCDF()]), Inverse(LogisticCDF(0.5)), Tanh()]), ("stages", "1", "inner")),
    (Chain([Chain([NormalCDF(), Inverse(LogisticCDF(0.5))]), Tanh()]), ("stages", "0", "stages", "1", "inner")),
    (Chain([NormalCDF(), Inverse(Chain([Inverse(Tanh()), LogisticCDF(0.5)]))]), ("stages", "1", "inner", "stages", "1")),
    (Inverse(Chain([Inverse(Tanh()), LogisticCDF(0.5), Inverse(NormalCDF())])), ("inner", "stages", "1"))], ids=range(4))
def test_nested_chains_are_taken_apart(f, prefix):
    for z in FAR:
        found, expected = pulled(f, z), pulled(PLAIN, z)
        assert found[:3] == expected[:3]
        assert found[3][*prefix, "loc"] == expected[3]["stages", "1", "inner", "loc"]


def test_log_normal_quantiles_need_it():
    f = Chain([log_normal_cdf(), Inverse(NormalCDF())])
    np.testing.assert_allclose(f.forward(np.exp(FAR[1:-1])), FAR[1:-1], rtol=1e-12)


@pytest.mark.parametrize("f", [
    Chain([ActNorm(np.ones(10), np.zeros(10)), NormalCDF(), Inverse(LogisticCDF(0.5)), Tanh()]),
    Chain([Independent(Chain([NormalCDF()]), 1), Independent(Inverse(LogisticCDF(0.5)), 1), Tanh()]),
    Chain([Independent(Chain([Affine(), NormalCDF()]), 1), Inverse(LogisticCDF(0.5)), Independent(Chain([Tanh()]), 1)])],
    ids=range(3))
def test_lifted_maps_are_read_through(f):
    found, expected = pulled(f, FAR), pulled(Independent(PLAIN, 1), FAR)
    assert len(runs(f)) == 1 and np.array_equal(found[0], expected[0]) and np.array_equal(found[2], expected[2])
    assert np.isclose(found[1], expected[1], rtol=1e-13)
    assert {path for path, _ in flatten(f.params())} == set(found[3])
    np.testing.assert_allclose(f.jacobian(FAR), Independent(PLAIN, 1).jacobian(FAR), rtol=1e-12)


def test_other_chains_have_their_stages_as_steps():
    for f in (Chain([Affine(), Tanh()]), Chain([Sigmoid(), Affine()]), Chain([Inverse(Sigmoid()), Sigmoid()]),
              Chain([NormalCDF(), Affine(), Inverse(Sigmoid())])):
        assert [step for _, step, _ in f.steps[0]] == list(f.stages) and not f.has_runs


def test_only_stages_of_a_run_are_taken_apart():
    kept = Chain([Exp(), Inverse(Exp())])
    f = Chain([kept, Chain([Affine(), NormalCDF()]), Inverse(Sigmoid())])
    paths = [path for path, _, _ in f.steps[0]]
    assert f.steps[0][0][1] is kept and paths == [("stages", "0"), ("stages", "1", "stages", "0"), ()]


def test_the_jacobian_of_a_run():
    f = Chain([NormalCDF(), Inverse(Sigmoid())])
    np.testing.assert_allclose(np.log(f.jacobian(FAR)[:, 0, 0]), f.log_det(FAR), rtol=1e-12, atol=1e-12)


def test_what_a_run_hands_on_counts_in_kappa():
    """x = log q moves by 1 where q moves by its own size, on either track; beyond the floats of f(z), kappa is known as well."""
    f, z = Chain([LogisticCDF(), Inverse(Sigmoid())]), np.array([30.0, -30.0])
    found = kappa(f, z)["forward"]
    np.testing.assert_allclose(found, 30 + 30 + 30 + 1, rtol=1e-5)
