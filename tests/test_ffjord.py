"""FFJORD: its files, the solver that chooses its steps, what is integrated beside a point, and the model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from refflow import Dense, DiscreteFlow, Sequential, TanhActivation, TimeDense, TimeNetwork
from refflow.core.tree import flatten, nest
from refflow.maps.continuous import adaptive
from refflow.maps.continuous.adaptive import Adjoint, adaptive_vjp, on_grid_vjp
from refflow.maps.continuous.log_density import PENALTIES, LogDensity
from refflow.models import ffjord
from refflow.models.ffjord import ACTIVATIONS, LAYERS
from validation import original
from validation.original import comparison
from validation.original import ffjord as authors

RNG = np.random.default_rng(5)
SHORT = 2.0**-17
Z = RNG.normal(size=(4, 2))
SMOOTH = TimeNetwork((TimeDense(*(0.7 * RNG.normal(size=shape) for shape in ((3, 2), 3, 3, 3, 3))),
                      TimeDense(*(0.7 * RNG.normal(size=shape) for shape in ((2, 3), 2, 2, 2, 2)))), TanhActivation())
STILL = Sequential((Dense(np.c_[RNG.normal(size=(3, 2)), np.zeros(3)]), TanhActivation(), Dense(RNG.normal(size=(2, 3)))))     # without the time


# -- the authors' files -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", authors.FILES)
def test_the_authors_numbers(name):
    quantities, unread = authors.read(name)
    assert {quantity: value.measure for quantity, value in quantities.items() if not original.passes(value)} == {}
    assert all(one.reason == "a counter of evaluations" for one in unread)


@pytest.mark.parametrize("key, plant", [
    ("out/delta_logp", 1e-6), ("grad/chain.0.odefunc.diffeq.layers.1._hyper_gate.weight", 1e-6), ("out/accepted_steps", 1e-6),
    ("truth_grad/chain.0.odefunc.diffeq.layers.0._layer.weight", 1e-6), ("grad_adjoint/chain.0.odefunc.diffeq.layers.2._layer.bias", 1e-6),
    ("out/reverse_u", 1e-6)])
def test_a_wrong_number_is_found(key, plant):
    config, theirs = comparison.numbers("ffjord_dopri5_adaptive")
    wrong = comparison.Numbers({**theirs, key: theirs[key] * (1 + plant * np.arange(theirs[key].size).reshape(theirs[key].shape))})
    quantities, _ = comparison.read_as(authors.KINDS, config, wrong)
    assert not all(original.passes(value) for value in quantities.values())


def test_what_is_not_built_is_named():
    config, theirs = comparison.numbers("ffjord_rk4_exact")
    for change, said in (({"solver": "bosh3"}, "the solver 'bosh3' is not built"), ({"nonlinearity": "sine"}, "'sine' is not built"),
                         ({"regularization": ["l2"]}, "the penalties"), ({"divergence": "approximate"}, "there is no noise in/e")):
        with pytest.raises(ValueError, match=said):
            comparison.read_as(authors.KINDS, comparison.Config({**config, **change}), comparison.Numbers(theirs))
    quantities, unread = comparison.read_as(authors.KINDS, comparison.Config({**config, "loss": "sum(z)"}), comparison.Numbers(theirs))
    assert "gradients" not in quantities and any("of the loss 'sum(z)'" in one.reason for one in unread)


# -- steps ------------------------------------------------------------------------------------------------------------

def flowed(net, tolerance, noise=None, penalties=(), z=Z):
    system = LogDensity(net, z.shape, noise, penalties)
    solution, pullback = adaptive_vjp(system, system.state(z), 0.0, 1.0, tolerance, tolerance)
    return system, solution, pullback


@pytest.mark.parametrize("tolerance", [1e-4, 1e-7, 1e-10])
def test_a_linear_velocity_has_a_known_flow(tolerance):
    M = np.array([[0.5, -1.0], [2.0, 0.25]])
    system, solution, _ = flowed(Dense(np.c_[M, np.zeros(2)]), tolerance)
    values, vectors = np.linalg.eig(M)
    exact = ((vectors * np.exp(values)) @ np.linalg.inv(vectors)).real
    z, l, _ = system.read(solution.state)
    np.testing.assert_allclose(z, Z @ exact.T, atol=20 * tolerance)
    np.testing.assert_allclose(l, -np.trace(M), rtol=2.0**-45)
    assert solution.evaluations == 2 + 6 * (len(solution.accepted) + len(solution.rejected))


def test_steps_follow_each_other_and_the_last_one_goes_beyond_the_end():
    _, solution, _ = flowed(SMOOTH, 1e-9)
    starts, ends = np.array(solution.accepted).T
    np.testing.assert_array_equal(starts[1:], ends[:-1])
    assert starts[0] == 0 and starts[-1] < 1 <= ends[-1] and len(solution.accepted) > 5


def test_steps_that_are_taken_again_on_a_grid_give_the_same_points():
    system, solution, _ = flowed(SMOOTH, 1e-6)
    times = [t for t, _ in solution.accepted]
    again, _ = on_grid_vjp(system, system.state(Z), [*times, solution.accepted[-1][1]], "dopri5")
    short, _ = on_grid_vjp(system, system.state(Z), [*times, 1.0], "dopri5")
    assert np.abs(short.state - solution.state).max() < 1e-5 < np.abs(again.state - solution.state).max()


def test_a_step_that_errs_is_rejected():
    """A first step across a bend that is not seen at its start is too long."""
    net = Sequential((Dense([[0.0, 40.0]], [-20.0]), TanhActivation(), Dense([[3.0]], [3.0])))
    _, solution, _ = flowed(net, 1e-6, z=Z[:, :1])
    assert solution.rejected and all(0 <= t < 1 for t, _ in solution.rejected)


def test_the_steps_of_a_batch_depend_on_all_events():
    alone, together = flowed(SMOOTH, 1e-4, z=Z[:1])[1], flowed(SMOOTH, 1e-4, z=np.concatenate([Z[:1], 30 * Z[1:]]))[1]
    assert len(alone.accepted) != len(together.accepted) or not np.allclose(alone.accepted, together.accepted)


def test_backwards_in_time():
    system, solution, _ = flowed(SMOOTH, 1e-11)
    back, _ = adaptive_vjp(system, solution.state, 1.0, 0.0, 1e-11, 1e-11)
    z, l, _ = system.read(back.state)
    np.testing.assert_allclose(z, Z, atol=1e-9)
    np.testing.assert_allclose(l, 0, atol=1e-9)


def test_rates_that_are_not_finite_end_the_way():
    with pytest.raises(ArithmeticError, match="no step is short enough"), np.errstate(all="ignore"):
        flowed(Dense(np.c_[1e300 * np.ones((2, 2)), np.zeros(2)]), 1e-6)


def test_nothing_is_done_where_the_end_is_the_start():
    system = LogDensity(SMOOTH, Z.shape)
    solution, pullback = adaptive_vjp(system, system.state(Z), 0.5, 0.5, 1e-6, 1e-6)
    np.testing.assert_array_equal(solution.state, system.state(Z))
    np.testing.assert_array_equal(pullback(solution.state)[0], solution.state)


# -- gradients --------------------------------------------------------------------------------------------------------

def along(net, way, h):
    return net.replace(**nest({path: array + h * way[path] for path, array in flatten(net.params())}))


def check_gradient(of, net, rtol):
    """The pullback of (state, pullback) = of(net, z) against differences along one way of points and parameters."""
    state, pullback = of(net, Z)
    bar, way_z = np.cos(np.arange(state.size)), RNG.normal(size=Z.shape)
    way = {path: RNG.normal(size=array.shape) for path, array in flatten(net.params())}
    state_bar, params_bar = pullback(bar)
    given = (state_bar[:Z.size] * way_z.reshape(-1)).sum() + sum((one * way[path]).sum() for path, one in flatten(params_bar))
    ends = [of(along(net, way, h), Z + h * way_z)[0] @ bar for h in (SHORT, -SHORT)]
    np.testing.assert_allclose(given, (ends[0] - ends[1]) / (2 * SHORT), rtol=rtol)


@pytest.mark.parametrize("noise", [None, RNG.choice([-1.0, 1.0], Z.shape)], ids=["exact", "estimated"])
@pytest.mark.parametrize("penalties", [(), *((one,) for one in PENALTIES)], ids=lambda one: "".join(one) or "none")
@pytest.mark.parametrize("scheme", ["three-eighths", "dopri5"])
def test_the_gradient_on_a_grid_is_that_of_differences(scheme, penalties, noise):
    def of(net, z):
        system = LogDensity(net, z.shape, noise, penalties)
        solution, pullback = on_grid_vjp(system, system.state(z), [0.0, 0.3, 1.0], scheme)
        return solution.state, pullback

    check_gradient(of, SMOOTH, 1e-7)


def test_the_gradient_of_chosen_steps_is_exact_without_the_time():
    """Where the rates do not see the time, the first length's derivative meets nothing, to the error of the solver."""
    def of(net, z):
        system = LogDensity(net, z.shape)
        solution, pullback = adaptive_vjp(system, system.state(z), 0.0, 1.0, 1e-12, 1e-12)
        return solution.state, pullback

    check_gradient(of, STILL, 1e-6)


def test_the_derivative_of_the_first_length():
    """Of rates that do not see the time, against differences."""
    system = LogDensity(STILL, Z.shape)
    state, way = system.state(Z), np.append(RNG.normal(size=Z.size), np.zeros(len(Z)))

    def length(y):
        return adaptive.first_length(system, 0.0, y, system.rates_vjp(0.0, y), 1e-5, 1e-5)

    y_bar, _ = length(state)[1](1.0)
    np.testing.assert_allclose(y_bar @ way, (length(state + SHORT * way)[0] - length(state - SHORT * way)[0]) / (2 * SHORT), rtol=1e-6)


def test_the_gradient_of_a_path_with_tight_tolerances_keeps_the_first_length():
    """A finding about torchdiffeq beside rates that take the time as a number: the gradient does not become exact."""
    system, solution, pullback = flowed(SMOOTH, 1e-12)
    bar = np.ones_like(solution.state)
    times = [*(t for t, _ in solution.accepted), 1.0]
    exact, _ = on_grid_vjp(system, system.state(Z), times, "dopri5")[1](bar)
    off = np.abs(pullback(bar)[0] - exact).max()
    assert 1e-6 < off < 1e-1


def test_the_adjoint_is_the_gradient_to_the_error_of_the_solver():
    system, solution, _ = flowed(SMOOTH, 1e-11)
    bar = np.cos(np.arange(solution.state.size))
    shapes = {path: array.shape for path, array in flatten(SMOOTH.params())}
    adjoint = Adjoint(system, shapes)
    back, _ = adaptive_vjp(adjoint, adjoint.begun(solution.state, bar), 1.0, 0.0, 1e-11, 1e-11)
    y_bar, params_bar = adjoint.read(back.state)
    exact_bar, exact = on_grid_vjp(system, system.state(Z), list(np.linspace(0, 1, 33)), "dopri5")[1](bar)
    np.testing.assert_allclose(y_bar, exact_bar, atol=1e-8)
    found, wanted = dict(flatten(params_bar)), dict(flatten(exact))
    for path, one in wanted.items():
        np.testing.assert_allclose(found[path], one, atol=1e-8)


# -- what is integrated -----------------------------------------------------------------------------------------------

def test_the_mean_of_the_estimate_over_all_signs_is_the_log_density():
    """At fixed steps, the estimate is linear in e e^T, whose mean over all signs is I."""
    times = list(np.linspace(0, 1, 5))

    def change(noise):
        system = LogDensity(SMOOTH, Z.shape, noise)
        return system.read(on_grid_vjp(system, system.state(Z), times, "rk4")[0].state)[1]

    signs = [np.broadcast_to(one, Z.shape) for one in itertools.product((-1.0, 1.0), repeat=2)]
    np.testing.assert_allclose(np.mean([change(one) for one in signs], 0), change(None), rtol=2.0**-44)
    assert np.abs(change(signs[0]) - change(None)).max() > 1e-3


def test_the_change_of_the_log_density_is_the_determinant_of_the_flow():
    flow = DiscreteFlow(SMOOTH, "dopri5", 64)
    system, solution, _ = flowed(SMOOTH, 1e-11)
    z, l, _ = system.read(solution.state)
    x, log_det = flow.forward_and_log_det(Z)
    np.testing.assert_allclose(z, x, atol=1e-9)
    np.testing.assert_allclose(l, -log_det, atol=1e-9)


def test_penalties_are_their_definitions():
    system = LogDensity(SMOOTH, Z.shape, penalties=PENALTIES)
    rates, _ = system.rates_vjp(0.25, system.state(Z))
    y = np.c_[Z, np.full(4, 0.25)]
    v, A = SMOOTH.forward(y), SMOOTH.jacobian(y)[..., :2]
    root = np.sqrt(2)
    printed = [np.abs(v).mean(), np.mean([np.linalg.norm(one) / root for one in v]),
               np.mean([np.linalg.norm(a.T @ one) / root for a, one in zip(A, v)]), np.mean([np.linalg.norm(a) / 2 for a in A])]
    np.testing.assert_allclose(system.read(rates)[2], printed, rtol=2.0**-45)
    with pytest.raises(ValueError, match="penalties must be of size, speed"):
        LogDensity(SMOOTH, Z.shape, penalties=("colour",)).rates_vjp(0.0, np.zeros(13))


# -- the model --------------------------------------------------------------------------------------------------------

def moved(flow):
    return flow.replace(**nest({path: array + 0.3 * RNG.normal(size=array.shape) for path, array in flatten(flow.params())}))


def printed(params, layer, a, t):
    """A layer as the model's docstring prints it, with the time t of all events."""
    if layer == "blend":
        return (1 - t) * (a @ params["W"].T + params["b"]) + t * (a @ params["W_end"].T + params["b_end"])
    if layer == "hyper":
        first, last = (params["net"]["layers"][place] for place in "02")
        numbers = last["W"] @ np.tanh(first["W"][:, 0] * t + first["b"]) + last["b"]
        outputs = len(numbers) // (a.shape[1] + 1)
        return a @ numbers[outputs:].reshape(outputs, -1).T + numbers[:outputs]
    h = a @ params["W"].T + params["b"]
    h = h / (1 + np.exp(-(params["gate"] * t + params["gate_bias"]))) if "squash" in layer else h
    return h + params["shift"] * t if "concat" in layer else h


@pytest.mark.parametrize("layer", LAYERS)
def test_the_velocity_is_what_is_printed(layer):
    net = moved(ffjord(RNG, 2, (3,), layer, "tanh", "rk4", 2)).bijector.inner.net
    params = net.params()["layers"]
    t = 0.4
    y = printed(params["1"], layer, np.tanh(printed(params["0"], layer, Z, t)), t)
    np.testing.assert_allclose(net.forward(np.c_[Z, np.full(4, t)]), y, rtol=2.0**-44)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_density_is_that_of_the_steps(activation):
    flow = moved(ffjord(RNG, 2, (3,), "concatsquash", activation, "rk4", 4))
    inner = flow.bijector.inner
    assert (inner.start, inner.end) == (0.0, 1.0)
    z, log_det = inner.forward_and_log_det(Z)
    np.testing.assert_allclose(flow.log_prob(Z), -(z**2).sum(1) / 2 - np.log(2 * np.pi) + log_det, rtol=2.0**-44)
    np.testing.assert_allclose(flow.bijector.forward(z), Z, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_it_starts_as_the_identity(layer):
    flow = ffjord(np.random.default_rng(0), 2, (4,), layer, steps=2)
    np.testing.assert_array_equal(flow.bijector.forward(Z), Z)


@pytest.mark.parametrize("change, message", [
    ({"layer": "gated"}, "layer must be one of ignore, concat"), ({"activation": "relu"}, "activation must be one of softplus"),
    ({"scheme": "adams"}, "scheme"), ({"size": 0}, "size"), ({"steps": 0}, "steps"), ({"hidden": (0,)}, "hidden"),
    ({"end": np.inf}, "end")])
def test_refused(change, message):
    with pytest.raises(ValueError, match=message):
        ffjord(RNG, **{"size": 2, "hidden": (3,), **change})
