"""Flow++ and Gaussianization flows: their papers' equations one by one, the start, gradients, contexts, and the refusals."""

from __future__ import annotations

import numpy as np
import pytest
import scipy

from flows import check_free_gradient
from refflow import flow_plus_plus, gaussianization_flow

from test_autoregressive_models import moved, network, normal

MODELS = {"flow++": (flow_plus_plus, {"size": 3, "hidden": (5,), "couplings": 2, "components": 3}),
          "gaussianization": (gaussianization_flow, {"size": 3, "layers": 2, "components": 3})}
every_model = pytest.mark.parametrize("name", MODELS)


def made(name, seed=0, **settings):
    builder, given = MODELS[name]
    return builder(np.random.default_rng(seed), **given | settings)


def mixed(layers, h, passes):
    """A coupling by a mixture, (1) and (2), and its log-det."""
    u, m, s = network(layers.net, h[passes]).reshape(3, 3, -1)                      # numbers of a kind, components, entries
    w, scale = np.exp(u) / np.exp(u).sum(0), np.exp(s)
    S = 1 / (1 + np.exp(-(h[~passes] - m) / scale))
    mean = (w * S).sum(0)
    slope = (w * S * (1 - S) / scale).sum(0) / mean / (1 - mean)
    return np.log(mean / (1 - mean)), np.log(slope).sum()


def test_the_density_of_flow_plus_plus():
    rng = np.random.default_rng(1)
    flow = moved(made("flow++"), rng)
    x = rng.standard_normal((4, 3))
    for event, given in zip(x, flow.log_prob(x)):
        h, total = event.copy(), 0.0
        for mixture, affine in zip(*[iter(flow.bijector.inner.stages)] * 2):
            passes, scale = mixture.passes, affine.family.map.scale
            v, log_det = mixed(mixture, h, passes)                                  # (1) (2)
            c, t = np.split(network(affine.net, h[passes]), 2)
            log_scale = scale.gain * np.tanh(c) + scale.shift
            h[~passes] = v * np.exp(log_scale) + t                                  # (3)
            total += log_det + log_scale.sum()
        assert given == pytest.approx(normal(h) + total, rel=1e-11)                 # (4)


def test_the_density_of_a_gaussianization_flow():
    rng = np.random.default_rng(2)
    flow = moved(made("gaussianization"), rng)
    x = rng.standard_normal((4, 3))
    for event, given in zip(x, flow.log_prob(x)):
        h, total = event, 0.0
        for turn, marginal in zip(*[iter(flow.bijector.inner.stages)] * 2):
            a, c = (getattr(getattr(marginal, "inner", marginal), key) for key in ("rate", "bias"))
            u = a * (turn.Q @ h)[:, None] + c                                       # (1)
            h = scipy.special.ndtri(scipy.special.ndtr(u).mean(-1))                 # (2)
            slope = (a * np.exp(-u * u / 2)).mean(-1) / np.exp(-h * h / 2)
            total += np.log(slope).sum()
        assert given == pytest.approx(normal(h) + total, rel=1e-11)                 # (3)


@every_model
def test_round_trip_and_log_det(name):
    rng = np.random.default_rng(3)
    flow = moved(made(name), rng)
    x, f = rng.standard_normal((6, 3)), flow.bijector
    z, log_det = f.inverse_and_log_det(x)
    np.testing.assert_allclose(f.forward(z), x, rtol=0, atol=1e-11)
    np.testing.assert_allclose(-log_det, np.linalg.slogdet(f.jacobian(z))[1], rtol=1e-10, atol=1e-10)


@every_model
def test_gradients(name):
    rng = np.random.default_rng(4)
    check_free_gradient(moved(made(name), rng), rng.standard_normal((5, 3)), rel=1e-5, abs=1e-7)


def test_the_start():
    """Near the identity, and for one layer of Gaussianization too; every seed draws its own flow."""
    x = np.random.default_rng(5).standard_normal((7, 3))
    for name, near in (("flow++", 0.05), ("gaussianization", 0.15)):
        flow = made(name, **({"layers": 1} if name == "gaussianization" else {}))
        assert np.abs(flow.bijector.inverse(x) - x).max() < near
        assert made(name).equals(made(name)) and not made(name).equals(made(name, seed=1))


def test_contexts():
    rng = np.random.default_rng(6)
    flow = moved(made("flow++", context=2), rng)
    c, x = rng.standard_normal((4, 2)), rng.standard_normal((4, 3))
    together = flow.at(context=c).log_prob(x)
    assert np.allclose(together, [flow.at(context=each).log_prob(event) for each, event in zip(c, x)], 1e-11)


@every_model
def test_single_precision(name):
    flow = moved(made(name, dtype=np.float32), np.random.default_rng(7))
    x = flow.sample(np.random.default_rng(8), 5)
    assert flow.dtype == x.dtype == flow.log_prob(x).dtype == np.float32 and np.isfinite(flow.log_prob(x)).all()


@pytest.mark.parametrize("name, changes, message", [
    ("flow++", {"size": 1}, "flow_plus_plus: size must be an int >= 2, not 1"), ("flow++", {"couplings": 0}, "couplings"),
    ("flow++", {"components": 0}, "components"), ("flow++", {"hidden": "x"}, "hidden"), ("flow++", {"context": -1}, "context"),
    ("gaussianization", {"size": 0}, "gaussianization_flow: size must be an int >= 1, not 0"),
    ("gaussianization", {"layers": 0}, "layers"), ("gaussianization", {"components": 0}, "components")])
def test_what_they_refuse(name, changes, message):
    with pytest.raises(ValueError, match=message):
        made(name, **changes)
