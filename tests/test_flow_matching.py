"""Flow matching: paths against their definitions, the gradient against differences, and the flow that it trains."""

import itertools

import numpy as np
import pytest

from refflow import Affine, Chain, Dense, DiscreteFlow, Flow, Inverse, StandardNormal
from refflow.core.tree import flatten, nest
from refflow.models import cnf, realnvp
from refflow.training import LBFGS, Adam, Cosine, TrainingError
from refflow.training.flow_matching import PATHS, fit_flow_matching, matching_vjp, optimal_transport

RNG = np.random.default_rng(11)
X_0, X_1, NOISE = RNG.normal(size=(3, 6, 2))
T = RNG.random((6, 1))
SHORT = 2.0**-17


@pytest.mark.parametrize("path", PATHS)
def test_a_point_moves_with_its_velocity(path):
    """With the same noise, u is the derivative of x_t by t."""
    def at(t):
        return PATHS[path](X_0, X_1, t, NOISE, 0.3)

    difference = (at(T + SHORT)[0] - at(T - SHORT)[0]) / (2 * SHORT)
    np.testing.assert_allclose(at(T)[1], difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("path", PATHS)
def test_a_path_leads_from_noise_to_data(path):
    times = 2.0**-50, 1 - 2.0**-50
    ends = [PATHS[path](X_0, X_1, np.full((6, 1), t), X_0 if path == "conditional" else NOISE, 0.0)[0] for t in times]
    np.testing.assert_allclose(ends, [X_0, X_1], atol=2.0**-46)


def test_the_printed_velocities_are_ours():
    sigma, w = 0.3, 0.7
    x_t, u = PATHS["conditional"](X_0, X_1, T, NOISE, sigma)
    np.testing.assert_allclose(u, (X_1 - w * x_t) / (1 - w * T), rtol=2.0**-40)
    x_t, u = PATHS["schroedinger bridge"](X_0, X_1, T, NOISE, sigma)
    mean = (1 - T) * X_0 + T * X_1
    np.testing.assert_allclose(u, (1 - 2 * T) / (2 * T * (1 - T)) * (x_t - mean) + X_1 - X_0, rtol=2.0**-38)


def test_the_transport_is_the_best_of_all_orders():
    def cost(order):
        return ((X_0 - X_1[list(order)])**2).sum()

    assert cost(optimal_transport(X_0, X_1)) == min(map(cost, itertools.permutations(range(6))))


def test_the_gradient_is_that_of_the_loss():
    net = cnf(RNG, 2, (4,)).bijector.inner.net
    net = net.replace(**nest({path: array + RNG.normal(size=array.shape) for path, array in flatten(net.params())}))
    x_t, u = PATHS["independent"](X_0, X_1, T, NOISE, 0.1)
    _, pullback = matching_vjp(net, x_t, T, u)
    way = {path: RNG.normal(size=array.shape) for path, array in flatten(net.params())}

    def loss(h):
        moved = net.replace(**nest({path: array + h * way[path] for path, array in flatten(net.params())}))
        return matching_vjp(moved, x_t, T, u)[0]

    given = sum((bar * way[path]).sum() for path, bar in flatten(pullback()))
    np.testing.assert_allclose(given, (loss(SHORT) - loss(-SHORT)) / (2 * SHORT), rtol=1e-7)


def moons(n):
    angle, left = RNG.random(n) * np.pi, RNG.random(n) < 0.5
    x = np.where(left[:, None], np.stack([np.cos(angle), np.sin(angle)], -1), np.stack([1 - np.cos(angle), 0.5 - np.sin(angle)], -1))
    return x + 0.1 * RNG.normal(size=(n, 2))


def test_of_a_line_of_data_the_velocity_is_known():
    """For data N(m, s^2) and the conditional path, x_t is N(t m, t^2 s^2 + (1 - t)^2), so that the flow is x = m + s z."""
    x = 2.0 + 0.5 * np.random.default_rng(1).normal(size=(2000, 1))
    flow = cnf(np.random.default_rng(2), 1, (16, 16))
    rng = np.random.default_rng(3)
    found = fit_flow_matching(flow, x, steps=1000, batch_size=512, optimiser=Adam(1e-2), schedule=Cosine(1000), rng=rng).flow
    z = np.array([[-1.5], [0.0], [1.5]])
    np.testing.assert_allclose(found.bijector.forward(z), x.mean() + x.std() * z, atol=0.06)


def test_training_lowers_the_loss_held_out_and_repeats_its_bits():
    x = moons(400)
    flow = cnf(np.random.default_rng(0), 2, (16, 16), steps=4)
    one, other = (fit_flow_matching(flow, x, steps=120, optimiser=Adam(1e-2), rng=np.random.default_rng(4)) for _ in range(2))
    losses = one.history["validation_loss"]
    assert losses[-1] < losses[0] - 0.2
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(flatten(one.flow.params()), flatten(other.flow.params())))


def test_a_resumed_fit_has_the_bits_of_one_that_went_on():
    x, flow = moons(200), cnf(np.random.default_rng(0), 2, (8,), steps=2)
    states = []

    def keep(info, made):
        states.append(info["state"]() if info["step"] == 10 else None)

    whole = fit_flow_matching(flow, x, steps=20, batch_size=50, rng=np.random.default_rng(4), callback=keep, transport=True)
    again = fit_flow_matching(flow, x, steps=20, batch_size=50, rng=np.random.default_rng(4), resume=states[9], transport=True)
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(flatten(whole.flow.params()), flatten(again.flow.params())))


def test_stages_behind_the_flow_stay():
    """What is trained is the velocity alone, in the units of the stages behind it."""
    inner = cnf(np.random.default_rng(0), 2, (8,), steps=2)
    flow = Flow(Chain([inner.bijector, Affine(shift=[3.0, -1.0], scale=[2.0, 0.5])]), inner.base)
    x = np.random.default_rng(1).normal(size=(300, 2)) * [2.0, 0.5] + [3.0, -1.0]
    found = fit_flow_matching(flow, x, steps=30, rng=np.random.default_rng(2)).flow
    assert found.bijector.stages[1].equals(flow.bijector.stages[1])
    assert not found.bijector.stages[0].equals(flow.bijector.stages[0])


@pytest.mark.parametrize("change, message", [
    ({"path": "straight"}, "path must be one of conditional, independent"), ({"sigma": -1.0}, "sigma must be a number >= 0"),
    ({"rng": None}, "rng must be a numpy.random.Generator"), ({"optimiser": LBFGS()}, "LBFGS needs a loss without noise"),
    ({"flow": realnvp(RNG, 2, (8,), 2)}, "flow must be of a StandardNormal through a DiscreteFlow"),
    ({"flow": Flow(DiscreteFlow(Dense(np.zeros((2, 3))), "euler", 2, 1.0, 0.0), StandardNormal(2))}, "noise must be at time 0"),
    ({"validation": 0.0, "patience": 3}, "patience needs validation data"), ({"batch_size": 0}, "batch_size must be an int >= 1")])
def test_refused(change, message):
    given = {"flow": cnf(RNG, 2, (8,), steps=2), "x": moons(20), "steps": 1, "rng": np.random.default_rng(0)} | change
    with pytest.raises(ValueError, match=message):
        fit_flow_matching(given.pop("flow"), given.pop("x"), **given)


def test_a_loss_that_overflows_ends_training_with_the_best_flow():
    flow = cnf(RNG, 2, (8,), steps=2)
    with pytest.raises(TrainingError, match="the loss is inf; a velocity on the way is too large"):
        fit_flow_matching(flow, 1e200 * moons(20), steps=3, validation=0, rng=np.random.default_rng(0))


def test_a_flow_forwards_in_time_is_taken_too():
    flow = Flow(DiscreteFlow(cnf(RNG, 2, (8,)).bijector.inner.net, "midpoint", 4), StandardNormal(2))
    found = fit_flow_matching(flow, moons(50), steps=2, rng=np.random.default_rng(0)).flow
    assert isinstance(found.bijector, DiscreteFlow) and not isinstance(found.bijector, Inverse)
