"""The exact flow of a velocity, against flows that have a formula."""

import mpmath
import numpy as np
import pytest

from refflow import Conv2d, Dense, Sequential, TanhActivation
from refflow.maps.continuous import exact
from refflow.maps.continuous.exact import exact_flow

DTYPES = (np.float64, np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


class Logistic:
    """The velocity z (1 - z), whatever the time."""

    event_ndim = (1, 1)

    def output_shape(self, shape):
        return (shape[0] - 1,)

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
def test_the_flow_of_the_logistic_equation(dtype, end, rng):
    z = rng.uniform(0.01, 0.99, (12, 1)).astype(dtype)
    x, log_det, _ = exact_flow(Logistic(), z, 0.0, end)
    with mpmath.workdps(50):
        for one, of_x, of_l in zip(z[:, 0], x[:, 0], log_det):
            w, grown = mpmath.mpf(float(one)), mpmath.exp(end)
            below = 1 - w + w * grown
            assert units(of_x, w * grown / below, max(one, of_x, grown / below**2 * one)) <= 4.5
            assert units(of_l, end - 2 * mpmath.log(below), abs(end)) <= 4.5        # |tr A| is at most 1


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("seed", [7, 12, 44, 51])
def test_the_flow_of_a_linear_velocity_is_the_exponential_of_its_matrix(dtype, seed):
    """Where the scheme's weights, of both signs, multiplied the rates themselves, the log-det of the seed 51 erred by 10 units."""
    D, rng = 3, np.random.default_rng(seed)
    weight, bias = rng.normal(size=(D, D + 1)).astype(dtype), rng.normal(size=D).astype(dtype)
    z = rng.normal(size=(5, D)).astype(dtype)
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
            assert max(units(of_x[d], true[d], size) for d in range(D)) <= 2.5          # half by the end's rounding; 1.8 in 60 draws
            assert units(of_l, 1.25 * mpmath.fsum(trace), 1.25 * sum(map(abs, trace))) <= 2.5


def test_many_steps_lose_no_more_than_one(rng):
    """dz/dt = tanh z has sinh z = e^t sinh z_0; 2^11 steps would err by dozens of roundings if each step's were left."""
    net, z = Sequential((Dense([[1.0, 0.0]], [0.0]), TanhActivation())), rng.uniform(1.0, 2.0, (8, 1))
    x, log_det, _ = exact.steps_of(exact.LogDensity(net, z.shape), z, 0.0, 1.0, 2**11)
    with mpmath.workdps(50):
        for one, of_x, of_l in zip(z[:, 0], x[:, 0], log_det):
            true = mpmath.asinh(mpmath.e * mpmath.sinh(float(one)))
            assert units(of_x, true, of_x) <= 2
            assert units(of_l, 1 + mpmath.log(mpmath.cosh(float(one)) / mpmath.cosh(true)), 1) <= 2


def test_the_way_back_is_the_inverse(rng):
    net = Sequential((Dense(rng.normal(size=(6, 3)), rng.normal(size=6)), TanhActivation(), Dense(rng.normal(size=(2, 6)))))
    z = rng.normal(size=(5, 2))
    x, there, _ = exact_flow(net, z, 0.0, 1.0)
    again, back, _ = exact_flow(net, x, 1.0, 0.0)
    moves = 2.0**-20 * np.eye(2)                    # how far an error of x moves z and the log-det of the way back
    moved, turned, _ = exact_flow(net, x[:, None] + moves, 1.0, 0.0)
    error = 2 * np.finfo(float).eps * np.maximum(np.abs(x), np.abs(z)).max(-1)
    assert (np.abs(again - z).max(-1) <= error * (1 + 2.0**20 * np.abs(moved - again[:, None]).sum((1, 2)))).all()
    assert (np.abs(there + back) <= error * (1 + 2.0**20 * np.abs(turned - back[:, None]).sum(1)) + np.finfo(float).eps * 8).all()
    assert np.abs(x - z).max() > 0.1


def test_the_steps_are_doubled_until_the_error_is_below_the_unit():
    slow, fast = [exact_flow(Dense([[speed, 0.0]], [0.0]), np.array([[1.0]]), 0.0, 1.0) for speed in (-0.125, -20.0)]
    assert slow[2] == 2 * exact.FEWEST < fast[2]
    half = exact.steps_of(exact.LogDensity(Dense([[-20.0, 0.0]], [0.0]), (1, 1)), np.array([[1.0]]), 0.0, 1.0, exact.FEWEST)[0]
    assert abs(half[0, 0] - np.exp(-20)) > 1e3 * abs(fast[0][0, 0] - np.exp(-20))


def test_a_flow_that_carries_neighbours_apart_ends_where_roundings_are_left():
    """On the stable line of a saddle, what the first steps round grows by e^9."""
    c, s = 0.6, 0.8
    M = 9 * np.array([[s * s - c * c, -2 * c * s], [-2 * c * s, c * c - s * s]])
    z = np.array([c, s])
    x, log_det, steps = exact_flow(Dense(np.pad(M, [(0, 0), (0, 1)]), [0.0, 0.0]), z, 0.0, 1.0)
    with mpmath.workdps(50):
        true = mpmath.expm(mpmath.matrix(M.tolist())) * mpmath.matrix(z.tolist())
    assert max(abs(float(of_x - of_true)) for of_x, of_true in zip(x, true)) < 4 * np.exp(9) * np.finfo(float).eps
    assert abs(log_det) < 18 * np.finfo(float).eps and steps < exact.MOST


def test_differences_that_grow_are_not_taken_for_roundings():
    """At first the steps are so long that the scheme is unstable."""
    x, _, _ = exact_flow(Dense([[-200.0, 0.0]], [0.0]), [1.0], 0.0, 1.0)
    assert abs(x[0] - np.exp(-200)) < np.finfo(float).eps


def test_a_velocity_that_is_too_fast_is_refused():
    with pytest.raises(ArithmeticError, match="4096 steps from 0.0 to 1.0 are too few"):
        exact_flow(Dense([[-1e6, 0.0]], [0.0]), np.array([[1.0]]), 0.0, 1.0)


# -- what is given ----------------------------------------------------------------------------------------------------

TURN = Dense([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]], [0.0, 0.0])


def test_a_point_and_a_batch_of_any_shape(rng):
    z = rng.normal(size=(2, 3, 2))
    x, log_det, _ = exact_flow(TURN, z, 0.0, 1.0)
    assert x.shape == z.shape and log_det.shape == (2, 3)
    one, of_one, _ = exact_flow(TURN, z[1, 2].tolist(), 0, 1)
    np.testing.assert_allclose(one, x[1, 2], rtol=1e-15)
    assert one.shape == (2,) and np.shape(of_one) == ()
    whole, _, _ = exact_flow(TURN, np.array([1, 0]), 0, 1)
    np.testing.assert_allclose(whole, [np.cos(1), np.sin(1)], rtol=1e-15)


def test_no_points_have_no_images():
    x, log_det, _ = exact_flow(TURN, np.zeros((0, 2)), 0.0, 1.0)
    assert x.shape == (0, 2) and log_det.shape == (0,)


@pytest.mark.parametrize("net, z, start, end, message", [
    (TURN, [1.0, np.nan], 0.0, 1.0, r"exact_flow: z must be finite; z\[1\] = nan"),
    (TURN, [[0.0, 1.0], [np.inf, 0.0]], 0.0, 1.0, r"exact_flow: z must be finite; z\[1, 0\] = inf"),
    (TURN, 1.0, 0.0, 1.0, r"exact_flow: z must have at least 1 axes, not shape \(\)"),
    (TURN, [1.0, 2.0, 3.0], 0.0, 1.0, r"exact_flow: z has event shape \(3,\): its events have N=3 entries"),
    (Dense([[1.0, 0.0]], [0.0]), [[1.0]], np.nan, 1.0, "exact_flow: start must be finite, not nan"),
    (Dense([[1.0, 0.0]], [0.0]), [[1.0]], 0.0, "1", "exact_flow: end must be finite, not '1'"),
    (Dense([[1.0, 0.0, 0.0]], [0.0]), [1.0, 2.0], 0.0, 1.0, r"its net must give 2 entries from 2 entries and the time, not 1"),
    (TURN, ["a", "b"], 0.0, 1.0, "exact_flow: z must be float32 or float64"),
    (Conv2d(np.zeros((1, 1, 1, 1)), np.zeros(1)), [1.0], 0.0, 1.0, r"exact_flow: net must be of vectors, event ranks \(1, 1\), not \(3, 3\)")])
def test_what_has_no_flow_is_refused(net, z, start, end, message):
    with pytest.raises(ValueError, match=message):
        exact_flow(net, z, start, end)
