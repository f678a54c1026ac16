"""Residual flows: the density written a second time, the way back, gradients, the start, bad arguments, and training by a command."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

import flows
from refflow.models import residual_flow

RNG = np.random.default_rng
X = RNG(1).standard_normal((3, 2))


def made(**given):
    return residual_flow(RNG(0), **{"size": 2, "hidden": (5, 4), "blocks": 3} | given)


def latents(flow, x):
    """(z, log-dets) by the paper's equations, with Jacobians from complex differences."""
    log_det, step = 0.0, 1e-30
    for stage in flow.bijector.inner.stages:
        def g(a, layers=stage.net.layers):
            for activation, dense in zip(layers[::2], layers[1::2]):
                a = a / (1 + np.exp(-activation.beta * a)) / 1.1
                a = a @ dense.W.T / max(1, np.linalg.norm(dense.W, 2) / dense.coefficient) + dense.b
            return a

        J = np.stack([g(x + 1j * step * e).imag / step for e in np.eye(x.shape[-1])], -1)
        log_det = log_det + np.linalg.slogdet(np.eye(x.shape[-1]) + J)[1]
        x = x + g(x)
    return x, log_det


def test_the_density_is_that_of_the_paper():
    flow = flows.moved(made(), 0.5)
    z, log_det = latents(flow, X)
    expected = -(z * z).sum(-1) / 2 - math.log(2 * math.pi) + log_det
    assert np.abs(flow.log_prob(X) - expected).max() < 2.0**-45


def test_the_way_back_and_the_log_det():
    flows.check_inverse_and_log_det(flows.moved(made(), 0.5), X)


def test_the_smallest_flow_is_of_one_number_and_one_block():
    flow = made(size=1, blocks=1, hidden=(1,))
    x = np.linspace(-3, 3, 7)[:, None]
    z = flow.bijector.inverse(x)
    assert (np.diff(z[:, 0]) > 0).all() and np.allclose(flow.bijector.forward(z), x)


def test_gradients():
    flow = flows.moved(made(), 0.3)
    flows.check_free_gradient(flow, X, rel=1e-6, abs=1e-9)
    assert flows.worst_slope(flow, X, lambda value, x: value.log_prob_vjp(x)) < 1e-7


def test_single_precision():
    flows.check_single_precision(made(dtype=np.float32), X.astype(np.float32))


def test_saved(tmp_path):
    flows.check_saved(made(), X, tmp_path / "flow.npz")


def test_the_start():
    """As in the authors' code: beta is softplus(0.5), weights and biases lie within N^(-1/2), and blocks differ."""
    flow = made()
    stages = flow.bijector.inner.stages
    assert len(stages) == 3
    for stage in stages:
        assert all(activation.beta == pytest.approx(math.log1p(math.exp(0.5))) for activation in stage.net.layers[::2])
        widths = [dense.W.shape for dense in stage.net.layers[1::2]]
        assert widths == [(5, 2), (4, 5), (2, 4)] and {dense.coefficient for dense in stage.net.layers[1::2]} == {0.9}
        for dense in stage.net.layers[1::2]:
            r = dense.W.shape[1] ** -0.5
            assert r / 2 < np.abs(dense.W).max() <= r and np.abs(dense.b).max() <= r
    assert made().equals(flow) and not stages[0].equals(stages[1])


@pytest.mark.parametrize("given, said", [
    ({"size": 0}, "size"), ({"blocks": 0}, "blocks"), ({"hidden": (0,)}, "hidden"),
    ({"coefficient": 1.0}, r"coefficient must be in \(0, 1\), not 1.0"),
    ({"coefficient": 0}, r"coefficient must be in \(0, 1\), not 0")])
def test_bad_arguments(given, said):
    with pytest.raises(ValueError, match=f"residual_flow: .*{said}"):
        made(**given)


def test_training_from_the_command_line(run):
    x = np.concatenate([RNG(2).normal(c, 0.3, (60, 2)) for c in (-1, 1)])
    np.save("x.npy", x)
    status, out, _ = run("fit", "x.npy", "--model", "residual-flow", "--hidden", "8", "--layers", 2, "--steps", 30,
                         "--learning-rate", 0.01, "--out", "flow.npz", "--json")
    after, before = (json.loads(out)[name] for name in ("after", "before"))
    assert status == 0 and after["validation"]["nats"] > before["validation"]["nats"]
