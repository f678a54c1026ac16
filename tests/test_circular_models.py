"""The circular neural spline flow: its density on the torus, where the circles close, its gradients, and the refusals."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from flows import check_free_gradient
from refflow import circular_nsf, load
from refflow.cli import main
from refflow.maps.conditioners import TanhActivation
from refflow.training import Adam, Unconstrained, fit

RNG, FIXED = np.random.default_rng(0), ["base", "*.ends"]


def made(seed=0, size=2, dtype=np.float64):
    return circular_nsf(np.random.default_rng(seed), size, (6,), 2, 4, "tanh", dtype)


def moved(flow, distance=0.3):
    space = Unconstrained(flow, fixed=FIXED)
    return space.value_at(space.vector + distance * np.random.default_rng(1).standard_normal(space.vector.size))


def test_it_starts_uniform_and_sampling_inverts():
    flow = made()
    x = RNG.uniform(-3, 3, (5, 2))
    assert np.allclose(flow.log_prob(x), -2 * math.log(2 * math.pi), rtol=1e-14)
    assert made().equals(flow) and not made(1).equals(flow)
    flow = moved(flow)
    z, log_det = flow.bijector.inverse_and_log_det(x)
    assert np.allclose(flow.bijector.forward(z), x, rtol=0, atol=1e-11)
    assert np.allclose(-log_det, np.linalg.slogdet(flow.bijector.jacobian(z))[1], rtol=1e-10, atol=1e-10)


def test_the_mass_on_the_torus_is_one():
    flow, n = moved(made()), 240
    middles = -math.pi + (np.arange(n) + 0.5) * 2 * math.pi / n
    x = np.stack(np.meshgrid(middles, middles), -1).reshape(-1, 2)
    assert np.exp(flow.log_prob(x)).mean() * (2 * math.pi) ** 2 == pytest.approx(1, abs=2e-4)


def test_the_circles_close():
    flow, y = moved(made()), np.linspace(-3, 3, 9)
    end = np.full(9, math.pi - 1e-9)
    for left, right in ((np.stack((-end, y), -1), np.stack((end, y), -1)), (np.stack((y, -end), -1), np.stack((y, end), -1))):
        assert np.allclose(flow.log_prob(left), flow.log_prob(right), atol=1e-6)


def test_networks_without_points_of_circles_are_caught():
    """A bare angle in place of its cosine and sine: the density then jumps where the circle closes."""
    flow = moved(made())
    coupling, *others = flow.bijector.inner.stages
    features, first, *rest = coupling.net.layers
    bare = first.replace(W=first.W[:, :1])
    planted = coupling.replace(net=coupling.net.replace(layers=(TanhActivation(), bare, *rest)))
    flow = flow.replace(bijector=flow.bijector.replace(inner=flow.bijector.inner.replace(stages=(planted, *others))))
    end = math.pi - 1e-9
    assert not np.allclose(flow.log_prob([[-end, 1.0], [1.0, -end]]), flow.log_prob([[end, 1.0], [1.0, end]]), atol=1e-3)


def test_gradients():
    check_free_gradient(moved(made()), RNG.uniform(-3, 3, (5, 2)), fixed=FIXED, rel=1e-4, abs=1e-7)


def test_it_learns_angles_that_meet_where_the_circle_closes():
    """Angles around pi, the second one near the first: better than the uniform density by far."""
    rng = np.random.default_rng(2)
    first = math.pi + 0.5 * rng.standard_normal(400)
    x = np.stack((first, first + 0.3 * rng.standard_normal(400)), -1)
    x = (x + math.pi) % (2 * math.pi) - math.pi
    found = fit(made(), x, steps=150, optimiser=Adam(0.02), rng=np.random.default_rng(3), fixed=FIXED)
    assert found.flow.log_prob(x).mean() > -2 * math.log(2 * math.pi) + 1.0


def table(path, x):
    path.write_text("\n".join(["a,b", *(f"{a!r},{b!r}" for a, b in x.tolist())]) + "\n")
    return str(path)


def test_a_table_of_angles_is_fitted_from_the_command_line(tmp_path, capsys):
    """Angles about the joint, with no scale of their own: better than a Gaussian, which sees two clusters."""
    first = math.pi + 0.4 * np.random.default_rng(5).standard_normal(300)
    x = np.stack((first, first + 0.2 * np.random.default_rng(6).standard_normal(300)), -1)
    data, out = table(tmp_path / "angles.csv", (x + math.pi) % (2 * math.pi) - math.pi), str(tmp_path / "flow.npz")
    arguments = ["--model", "circular-nsf", "--hidden", "8", "--couplings", "2", "--steps", "150", "--learning-rate", "0.02"]
    assert main(["fit", data, "--out", out, *arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["gain"]["train"]["nats"] > 0.5
    assert main(["score", out, data, "--json"]) == 0 and main(["sample", out, "--n", "5", "--json"]) == 0
    flow = load(out)
    assert flow.base.low.tolist() == [-math.pi, -math.pi] and len(flow.event_shape) == 1


@pytest.mark.parametrize("angle", [math.pi, -4.0])
def test_numbers_that_are_not_angles_are_refused(tmp_path, capsys, angle):
    data = table(tmp_path / "angles.csv", np.array([[0.5, 1.0], [1.0, angle], [2.0, 0.25]]))
    assert main(["fit", data, "--out", str(tmp_path / "flow.npz"), "--model", "circular-nsf"]) == 2
    assert f"row 3, column 2 ('b'): {angle:g} is not an angle in radians between -pi and pi" in capsys.readouterr().err


def test_single_precision_and_more_circles():
    flow = made(size=3, dtype=np.float32)
    x = flow.sample(np.random.default_rng(3), 5)
    assert flow.dtype == x.dtype == flow.log_prob(x).dtype == np.float32 and np.isfinite(flow.log_prob(x)).all()


@pytest.mark.parametrize("changes, message", [
    ({"size": 1}, "circular_nsf: size must be an int >= 2, not 1"), ({"couplings": 0}, "couplings"), ({"bins": 0}, "bins"),
    ({"hidden": "x"}, "hidden")])
def test_what_it_refuses(changes, message):
    with pytest.raises(ValueError, match=message):
        circular_nsf(np.random.default_rng(0), **{"size": 2} | changes)
