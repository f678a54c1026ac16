"""RealNVP for vectors: the paper's equations one by one, the start, the sizes, and the refusals."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flows import check_free_gradient
from refflow import fit, realnvp
from refflow.maps.coupling import Coupling
from refflow.maps.elementwise import ExpScale
from refflow.training import Adam, Cosine, recipes


def moved(flow, rng):
    """The flow with all its parameters drawn."""
    start = flow.ravel()
    return flow.unravel(start + 0.3 * rng.standard_normal(start.size).astype(start.dtype))


def dense(layers, a):
    """A network of dense layers and tanh, from its arrays."""
    *hidden, last = [layer for layer in layers if hasattr(layer, "W")]
    for layer in hidden:
        a = np.tanh(layer.W @ a + layer.b)
    return last.W @ a + last.b


@pytest.mark.parametrize("size, hidden, couplings", [(2, (3,), 1), (3, (4, 2), 2), (5, (), 3), (6, (3,), 4)])
def test_the_density_is_the_papers(size, hidden, couplings):
    """Equations (1) to (4) of the page, one event and one coupling at a time."""
    rng = np.random.default_rng(size)
    flow = moved(realnvp(rng, size, hidden, couplings, "tanh"), rng)
    x = rng.standard_normal((4, size))
    for event, given in zip(x, flow.log_prob(x)):
        h, total = event.copy(), 0.0
        for stage in flow.bijector.inner.stages:
            scale = stage.family.map.scale
            s, t = np.split(dense(stage.net.layers, h[stage.passes]), 2)
            log_scale = float(scale.gain) * np.tanh(s) + float(scale.shift)         # (2)
            h[~stage.passes] = h[~stage.passes] * np.exp(log_scale) + t
            total += log_scale.sum()
        expected = -0.5 * (h @ h) - 0.5 * size * math.log(2 * math.pi) + total      # (3)
        assert given == pytest.approx(expected, rel=1e-12, abs=1e-12)


@pytest.mark.parametrize("size", [2, 3, 7])
def test_the_halves_change_places(size):
    stages = realnvp(np.random.default_rng(0), size, (3,), 4).bijector.inner.stages
    for first, second in zip(stages, stages[1:]):
        assert np.array_equal(first.passes, ~second.passes) and first.passes.any() and not first.passes.all()


def test_it_starts_as_the_identity():
    x = np.random.default_rng(1).standard_normal((5, 4))
    flow = realnvp(np.random.default_rng(0), 4)
    assert np.array_equal(flow.bijector.inverse(x), x) and len(flow.bijector.inner.stages) == 8
    again = realnvp(np.random.default_rng(0), 4)
    assert again.equals(flow) and not realnvp(np.random.default_rng(1), 4).equals(flow)


def test_its_settings():
    rng = np.random.default_rng(2)
    single = moved(realnvp(rng, 3, (4,), 2, "softplus", ExpScale(), dtype=np.float32), rng)
    assert single.dtype == np.float32 and single.log_prob(np.zeros(3, np.float32)).dtype == np.float32
    assert isinstance(single.bijector.inner.stages[0].family.map.scale, ExpScale)
    flow = moved(realnvp(rng, 3, (4,), 2, context=2), rng)
    c, x = rng.standard_normal((6, 2)), rng.standard_normal((6, 3))
    together = flow.at(context=c).log_prob(x)
    assert np.allclose(together, [flow.at(context=each).log_prob(event) for each, event in zip(c, x)], 1e-13)
    assert not np.allclose(together, flow.at(context=c[::-1]).log_prob(x))


def test_its_gradient():
    rng = np.random.default_rng(3)
    flow = moved(realnvp(rng, 3, (4,), 3, "tanh"), rng)
    check_free_gradient(flow, rng.standard_normal((7, 3)), most=flow.ravel().size, rel=1e-6, abs=1e-8)


def test_a_wrong_gradient_is_found(monkeypatch):
    """A coupling loses a tenth of the cotangent that it passes on."""
    right = Coupling.vjp

    def leaking(self, z):
        found, pullback = right(self, z)
        return found, lambda *bars: (lambda z_bar, params_bar: (0.9 * z_bar, params_bar))(*pullback(*bars))

    monkeypatch.setattr(Coupling, "vjp", leaking)
    with pytest.raises(AssertionError):
        test_its_gradient()


def test_it_learns_a_bent_density():
    """x_1 is normal, x_2 given x_1 is N(x_1^2, 1/16): the entropy is known, and a normal density is far worse."""
    rng = np.random.default_rng(4)

    def draw(n):
        x = rng.standard_normal(n)
        return np.stack([x, x**2 + rng.standard_normal(n) / 4], 1)

    settings = recipes.realnvp() | {"optimiser": Adam(0.01), "batch_size": 200}
    flow = fit(realnvp(rng, 2, (16,), 4, "tanh"), draw(2000), **settings, schedule=Cosine(800), steps=800, rng=rng).flow
    test = draw(4000)
    possible = -math.log(2 * math.pi * math.e) + math.log(4)
    normal = -math.log(2 * math.pi * math.e) - np.linalg.slogdet(np.cov(test.T))[1] / 2
    assert flow.log_prob(test).mean() > possible - 0.15 > normal + 1


@pytest.mark.parametrize("changes, message", [
    ({"size": 1}, "size must be an int >= 2, not 1"), ({"size": 2.0}, "size must be"), ({"size": True}, "size must be"),
    ({"couplings": 0}, "couplings must be an int >= 1"), ({"hidden": (3, 0)}, r"hidden\[1\] must be"),
    ({"hidden": 8}, "hidden must be the widths"), ({"context": -1}, "context must be"),
    ({"activation": "sine"}, "activation must be one of"), ({"rng": 3}, "rng must be"),
    ({"dtype": np.float16}, "float32 or float64")])
def test_what_it_refuses(changes, message):
    given = {"rng": np.random.default_rng(0), "size": 4} | changes
    with pytest.raises(ValueError, match=message):
        realnvp(**given)
