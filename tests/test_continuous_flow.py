"""The exact flow of a velocity, against flows that have a formula."""

import mpmath
import numpy as np
import pytest

from refflow import (GELU, ContinuousFlow, Conv2d, Dense, DiscreteFlow, Sequential, SiLU, SoftplusActivation, Square,
                     TanhActivation)
from refflow.maps.continuous import continuous_flow, exact, taylor
from refflow.accuracy.points import Points
from refflow.core import Conditioner, conditioner
from refflow.core.tree import flatten
from refflow.laws.bijector_laws import run_laws
from refflow.truth.measure import problem
from tallies import points_at

DTYPES = (np.float64, np.float32)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@conditioner(source="Verhulst", register=False)
class Logistic(Conditioner):
    """The velocity z (1 - z), whatever the time."""

    event_shape = ("N",)

    def output_shape(self, shape):
        return (shape[0] - 1,)

    def forward(self, y):
        return y[..., :1] * (1 - y[..., :1])

    def jacobian(self, y):
        return np.stack([1 - 2 * y[..., :1], 0 * y[..., :1]], -1)

    def vjp(self, y):
        return self.forward(y), lambda h_bar: (np.concatenate([(1 - 2 * y[..., :1]) * h_bar, 0 * h_bar], -1), {})

    def jvp(self, y, tangents):
        z = y[..., :1]
        return (z * (1 - z), (1 - 2 * z)[..., None] * tangents[..., :1, :]), None


def followed(net, z, start=0.0, end=1.0):
    return ContinuousFlow(net, start, end).forward_and_log_det(z)


@pytest.fixture
def steps(monkeypatch):
    """How many steps each integral took."""
    taken = []

    def counted(*given):
        found, steps = exact.solved(*given)
        taken.append(steps)
        return found, steps

    monkeypatch.setattr(continuous_flow, "solved", counted)
    return taken


def units(given, true, size):
    """How many roundings of its size a number is off."""
    return float(abs(mpmath.mpf(float(given)) - true) / mpmath.mpf(float(size)) / (float(np.finfo(given.dtype).eps) / 2))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("end", [0.25, 3.0, -2.0])
def test_the_flow_of_the_logistic_equation(dtype, end, rng):
    z = rng.uniform(0.01, 0.99, (12, 1)).astype(dtype)
    x, log_det = followed(Logistic(), z, 0.0, end)
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
    x, log_det = followed(Dense(weight, bias), z, 0.5, 1.75)
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


def test_many_steps_lose_no_more_than_one(rng, monkeypatch):
    """dz/dt = tanh z has sinh z = e^t sinh z_0; 2^10 steps would err by dozens of roundings if each step's were left."""
    net, z = Sequential((Dense([[1.0, 0.0]], [0.0]), TanhActivation())), rng.uniform(1.0, 2.0, (8, 1))
    monkeypatch.setattr(exact, "FEWEST", 2**9)
    x, log_det = followed(net, z)
    with mpmath.workdps(50):
        for one, of_x, of_l in zip(z[:, 0], x[:, 0], log_det):
            true = mpmath.asinh(mpmath.e * mpmath.sinh(float(one)))
            assert units(of_x, true, of_x) <= 2
            assert units(of_l, 1 + mpmath.log(mpmath.cosh(float(one)) / mpmath.cosh(true)), 1) <= 2


def test_the_way_back_is_the_inverse(rng):
    net = Sequential((Dense(rng.normal(size=(6, 3)), rng.normal(size=6)), TanhActivation(), Dense(rng.normal(size=(2, 6)))))
    z = rng.normal(size=(5, 2))
    x, there = followed(net, z, 0.0, 1.0)
    again, back = followed(net, x, 1.0, 0.0)
    moves = 2.0**-20 * np.eye(2)                    # how far an error of x moves z and the log-det of the way back
    moved, turned = followed(net, x[:, None] + moves, 1.0, 0.0)
    error = 2 * np.finfo(float).eps * np.maximum(np.abs(x), np.abs(z)).max(-1)
    assert (np.abs(again - z).max(-1) <= error * (1 + 2.0**20 * np.abs(moved - again[:, None]).sum((1, 2)))).all()
    assert (np.abs(there + back) <= error * (1 + 2.0**20 * np.abs(turned - back[:, None]).sum(1)) + np.finfo(float).eps * 8).all()
    assert np.abs(x - z).max() > 0.1


def test_the_steps_are_doubled_until_the_error_is_below_the_unit(steps, monkeypatch):
    fast = Dense([[-20.0, 0.0]])
    followed(Dense([[-0.125, 0.0]]), [1.0]), followed(fast, [1.0])
    assert steps[0] == 2 * exact.FEWEST < steps[1]
    parts = [exact.Part(np.ones(1), (-1,))]
    few, _ = exact.steps_of(lambda t, state: [-20 * state[0]], parts, 0.0, 1.0, exact.FEWEST)
    assert abs(few[0].value[0] - np.exp(-20)) > 1e3 * abs(followed(fast, [1.0])[0][0] - np.exp(-20))


def test_a_flow_that_carries_neighbours_apart_ends_where_roundings_are_left(steps):
    """On the stable line of a saddle, what the first steps round grows by e^9."""
    c, s = 0.6, 0.8
    M = 9 * np.array([[s * s - c * c, -2 * c * s], [-2 * c * s, c * c - s * s]])
    z = np.array([c, s])
    x, log_det = followed(Dense(np.pad(M, [(0, 0), (0, 1)]), [0.0, 0.0]), z)
    with mpmath.workdps(50):
        true = mpmath.expm(mpmath.matrix(M.tolist())) * mpmath.matrix(z.tolist())
    assert max(abs(float(of_x - of_true)) for of_x, of_true in zip(x, true)) < 4 * np.exp(9) * np.finfo(float).eps
    assert abs(log_det) < 18 * np.finfo(float).eps and steps[0] < exact.MOST


def test_differences_that_grow_are_not_taken_for_roundings():
    """At first the steps are so long that the scheme is unstable."""
    x, _ = followed(Dense([[-200.0, 0.0]], [0.0]), [1.0], 0.0, 1.0)
    assert abs(x[0] - np.exp(-200)) < np.finfo(float).eps


def test_a_velocity_that_is_too_fast_is_refused():
    with pytest.raises(ArithmeticError, match="4096 steps from 0.0 to 1.0 are too few"):
        followed(Dense([[-1e6, 0.0]]), [1.0])


# -- what is given ----------------------------------------------------------------------------------------------------

TURN = Dense([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0]], [0.0, 0.0])


def test_a_point_and_a_batch_of_any_shape(rng):
    z = rng.normal(size=(2, 3, 2))
    x, log_det = followed(TURN, z, 0.0, 1.0)
    assert x.shape == z.shape and log_det.shape == (2, 3)
    one, of_one = followed(TURN, z[1, 2].tolist(), 0, 1)
    np.testing.assert_allclose(one, x[1, 2], rtol=1e-15)
    assert one.shape == (2,) and np.shape(of_one) == ()
    whole, _ = followed(TURN, np.array([1, 0]), 0, 1)
    np.testing.assert_allclose(whole, [np.cos(1), np.sin(1)], rtol=1e-15)


def test_no_points_have_no_images():
    x, log_det = followed(TURN, np.zeros((0, 2)), 0.0, 1.0)
    assert x.shape == (0, 2) and log_det.shape == (0,)


@pytest.mark.parametrize("net, z, start, end, message", [
    (TURN, [1.0, np.nan], 0.0, 1.0, r"ContinuousFlow: z must be finite; z\[1\] = nan"),
    (TURN, [[0.0, 1.0], [np.inf, 0.0]], 0.0, 1.0, r"ContinuousFlow: z must be finite; z\[1, 0\] = inf"),
    (TURN, 1.0, 0.0, 1.0, r"ContinuousFlow: z must have at least 1 axes, not shape \(\)"),
    (TURN, [1.0, 2.0, 3.0], 0.0, 1.0, r"ContinuousFlow: z has event shape \(3,\): its events have N=3 entries"),
    (Dense([[1.0, 0.0]], [0.0]), [[1.0]], np.nan, 1.0, "ContinuousFlow: start must be finite, not nan"),
    (Dense([[1.0, 0.0]], [0.0]), [[1.0]], 0.0, "1", "ContinuousFlow: end must be finite, not '1'"),
    (Dense([[1.0, 0.0, 0.0]], [0.0]), [1.0, 2.0], 0.0, 1.0, r"its net must give 2 entries from 2 entries and the time, not 1"),
    (TURN, ["a", "b"], 0.0, 1.0, "ContinuousFlow: z must be float32 or float64"),
    (Conv2d(np.zeros((1, 1, 1, 1)), np.zeros(1)), [1.0], 0.0, 1.0, r"ContinuousFlow: net must be of vectors, event ranks \(1, 1\), not \(3, 3\)")])
def test_what_has_no_flow_is_refused(net, z, start, end, message):
    with pytest.raises(ValueError, match=message):
        followed(net, z, start, end)


# -- gradients, and the truth -----------------------------------------------------------------------------------------

def drawn(rng, dtype):
    D, width = 2, 2
    net = Sequential((Dense(rng.normal(size=(width, D + 1)), rng.normal(size=width)), TanhActivation(), Dense(rng.normal(size=(D, width)))))
    return points_at(ContinuousFlow(net, 0.25, 0.75), rng.normal(size=(6, D)), rng, dtype)


def test_a_pullback_that_forgets_the_trace_breaks_a_law(monkeypatch):
    p = drawn(np.random.default_rng(1), np.float64)
    run_laws(p.f, p)
    right = ContinuousFlow.followed_vjp

    def wrong(self, z, start, end):
        values, pullback = right(self, z, start, end)
        return values, lambda x_bar, log_det_bar: pullback(x_bar, 0 * log_det_bar)

    monkeypatch.setattr(ContinuousFlow, "followed_vjp", wrong)
    with pytest.raises(AssertionError, match="pullback is the gradient"):
        run_laws(p.f, Points(p.f, p.z, *p.bars, p.inverse_bars[0]))


def test_gradients_are_the_limit_of_a_schemes(rng):
    """DiscreteFlow goes back through its own steps, this page along the adjoint equation; they differ by the steps' error."""
    net = Sequential((Dense(rng.normal(size=(4, 3)), rng.normal(size=4)), TanhActivation(), Dense(rng.normal(size=(2, 4)))))
    z, bars = rng.normal(size=(5, 2)), (rng.normal(size=(5, 2)), rng.normal(size=5))

    def gradient(f):
        z_bar, params_bar = f.vjp(z)[1](*bars)
        return [z_bar, *(bar for _, bar in flatten(params_bar))]

    exactly = gradient(ContinuousFlow(net))
    off = [max(np.abs(a - b).max() for a, b in zip(gradient(DiscreteFlow(net, "rk4", n)), exactly)) for n in (8, 16)]
    assert 2.0**3.5 < off[0] / off[1] < 2.0**4.5


def true(net, z, end):
    """The flow of a number from the time 0 in the numbers of mpmath."""
    p = problem(ContinuousFlow(net, 0.0, end))
    with mpmath.workdps(80):
        return p.definition(mpmath.mp, [z], **p.fields)[0]


@pytest.mark.parametrize("end, digits", [(0.125, 55), (1.0, 55)])
def test_what_a_series_leaves_out_is_below_the_truths_digits(end, digits, monkeypatch):
    """A longer series with more terms agrees, and the sines' flow has a formula."""
    net = Sequential((Dense([[1.5, 0.5]], [0.25]), TanhActivation(), Dense([[-2.0]])))

    few = true(net, 0.75, end)
    monkeypatch.setattr(taylor, "TINY", mpmath.mpf(2) ** -250)
    with mpmath.workdps(80):
        assert abs(few - true(net, 0.75, end)) < mpmath.mpf(10) ** -digits
        bare = Sequential((Dense([[1.0, 0.0]]), TanhActivation()))              # sinh z = e^t sinh z_0
        formula = mpmath.asinh(mpmath.exp(end) * mpmath.sinh(0.75))
        assert abs(true(bare, 0.75, end) - formula) < mpmath.mpf(10) ** -digits


@pytest.mark.parametrize("layer, function", [
    (SiLU(), lambda z: z / (1 + mpmath.exp(-z))), (SoftplusActivation(), lambda z: mpmath.log(1 + mpmath.exp(z))),
    (Square(), lambda z: z * z), (GELU(), None)])
def test_series_of_other_functions(layer, function):
    """Against mpmath's own series."""
    net = Sequential((Dense([[1.0, 0.0]]), layer))
    if function is None:
        with pytest.raises(TypeError, match="has no series here"):
            true(net, 0.5, 0.5)
        return
    with mpmath.workdps(60):
        solution = mpmath.odefun(lambda t, z: function(z), 0, mpmath.mpf(0.5), tol=mpmath.mpf(10) ** -40)
        assert abs(true(net, 0.5, 0.5) - solution(0.5)) < mpmath.mpf(10) ** -38
