"""The exact flow of a velocity, against flows that have a formula."""

import mpmath
import numpy as np
import pytest

from refflow import Dense, Sequential, TanhActivation
from refflow.maps.continuous import exact
from refflow.maps.continuous.exact import exact_flow

RNG = np.random.default_rng(7)
DTYPES = (np.float64, np.float32)


class Logistic:
    """The velocity z (1 - z), whatever the time."""

    def unchecked(self, dtype):
        return self

    def jvp(self, y, tangents):
        z = y[:, :1]
        return (z * (1 - z), (1 - 2 * z)[:, :, None] * tangents[:, :1]), None


def units(given, true, size):
    """How many roundings of its size a number is off."""
    return float(abs(mpmath.mpf(float(given)) - true) / mpmath.mpf(float(size)) / (float(np.finfo(given.dtype).eps) / 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("end", [0.25, 3.0, -2.0])
def test_the_flow_of_the_logistic_equation(dtype, end):
    z = RNG.uniform(0.01, 0.99, (12, 1)).astype(dtype)
    x, log_det, _ = exact_flow(Logistic(), z, 0.0, end)
    with mpmath.workdps(50):
        for one, of_x, of_l in zip(z[:, 0], x[:, 0], log_det):
            w, grown = mpmath.mpf(float(one)), mpmath.exp(end)
            below = 1 - w + w * grown
            assert units(of_x, w * grown / below, max(one, of_x, grown / below**2 * one)) <= 4.5
            assert units(of_l, end - 2 * mpmath.log(below), abs(end)) <= 4.5        # |tr A| is at most 1


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_flow_of_a_linear_velocity_is_the_exponential_of_its_matrix(dtype):
    D = 3
    weight, bias = RNG.normal(size=(D, D + 1)).astype(dtype), RNG.normal(size=D).astype(dtype)
    z = RNG.normal(size=(5, D)).astype(dtype)
    x, log_det, _ = exact_flow(Dense(weight, bias), z, 0.5, 1.75)
    with mpmath.workdps(50):
        M = mpmath.zeros(D + 2)                     # of (z, t, 1)
        for i in range(D):
            for j in range(D + 1):
                M[i, j] = float(weight[i, j])
            M[i, D + 1] = float(bias[i])
        M[D, D + 1] = 1
        of_all, of_sizes = mpmath.expm(M * 1.25), mpmath.expm(M.apply(abs) * 1.25)
        trace = [float(weight[i, i]) for i in range(D)]
        for one, of_x, of_l in zip(z, x, log_det):
            true = of_all * mpmath.matrix([*map(float, one), 0.5, 1])
            size = max((of_sizes * mpmath.matrix([*map(abs, map(float, one)), 0.5, 1]))[:D])
            assert max(units(of_x[d], true[d], size) for d in range(D)) <= 4 + D / 2
            assert units(of_l, 1.25 * mpmath.fsum(trace), 1.25 * sum(map(abs, trace))) <= 4.5


def test_many_steps_lose_no_more_than_one():
    """dz/dt = tanh z has sinh z = e^t sinh z_0; 2^11 steps would err by dozens of roundings if each step's were left."""
    net, z = Sequential((Dense([[1.0, 0.0]], [0.0]), TanhActivation())), RNG.uniform(1.0, 2.0, (8, 1))
    x, log_det, _ = exact.steps_of(exact.LogDensity(net, z.shape), z, 0.0, 1.0, 2**11)
    with mpmath.workdps(50):
        for one, of_x, of_l in zip(z[:, 0], x[:, 0], log_det):
            true = mpmath.asinh(mpmath.e * mpmath.sinh(float(one)))
            assert units(of_x, true, of_x) <= 2
            assert units(of_l, 1 + mpmath.log(mpmath.cosh(float(one)) / mpmath.cosh(true)), 1) <= 2


def test_the_way_back_is_the_inverse():
    net = Sequential((Dense(RNG.normal(size=(6, 3)), RNG.normal(size=6)), TanhActivation(), Dense(RNG.normal(size=(2, 6)))))
    z = RNG.normal(size=(5, 2))
    x, there, _ = exact_flow(net, z, 0.0, 1.0)
    again, back, _ = exact_flow(net, x, 1.0, 0.0)
    assert np.abs(again - z).max() < 2.0**-48 and np.abs(there + back).max() < 2.0**-48
    assert np.abs(x - z).max() > 0.1


def test_the_steps_are_doubled_until_the_error_is_below_the_unit():
    slow, fast = [exact_flow(Dense([[speed, 0.0]], [0.0]), np.array([[1.0]]), 0.0, 1.0) for speed in (-0.125, -20.0)]
    assert slow[2] == 2 * exact.FEWEST < fast[2]
    half = exact.steps_of(exact.LogDensity(Dense([[-20.0, 0.0]], [0.0]), (1, 1)), np.array([[1.0]]), 0.0, 1.0, exact.FEWEST)[0]
    assert abs(half[0, 0] - np.exp(-20)) > 1e3 * abs(fast[0][0, 0] - np.exp(-20))


def test_a_velocity_that_is_too_fast_is_refused():
    with pytest.raises(ArithmeticError, match="4096 steps from 0.0 to 1.0 are too few"):
        exact_flow(Dense([[-1e6, 0.0]], [0.0]), np.array([[1.0]]), 0.0, 1.0)
