"""What tests of models share: parameters that are moved, gradients held against differences, and laws of every flow."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import load, save
from refflow.core import tree
from refflow.maps.autoregressive import Autoregressive
from refflow.maps.conditioners import RelativeAttention
from refflow.training import Unconstrained

RNG = np.random.default_rng


def moved(value, size=0.2, seed=5):
    """A value with all its parameters moved: as it is built, a block or a coupling changes no scale."""
    params, rng = value.ravel(), RNG(seed)
    return value.unravel(params + (size * rng.standard_normal(params.shape)).astype(params.dtype))


def with_moved_bijector(flow, size):
    return flow.replace(bijector=moved(flow.bijector, size).params())


# -- gradients --------------------------------------------------------------------------------------------------------

def worst_slope(value, x, loss, weights=(1.0, -2.0, 0.5), step=1e-6):
    """The largest difference of a gradient from a central difference, along a random direction of each parameter and of x.

    `loss(value, x)` gives (numbers, pullback); the gradients are of their sum with the weights.
    """
    weights = np.array(weights)

    def slope(turned):
        ahead, behind = ((loss(*turned(sign * step))[0] * weights).sum() for sign in (1, -1))
        return (ahead - behind) / (2 * step)

    x_bar, bars = loss(value, x)[1](weights)
    bars, held, rng, found = dict(tree.flatten(bars)), dict(tree.flatten(value.params())), RNG(2), []
    assert bars.keys() == held.keys()
    for path, array in held.items():
        turn = rng.uniform(0.5, 1, array.shape) * rng.choice((-1, 1), array.shape)
        found.append(slope(lambda by: (value.replace(**tree.nest({path: array + by * turn})), x)) - (bars[path] * turn).sum())
    turn = rng.standard_normal(x.shape)
    found.append(slope(lambda by: (value, x + by * turn)) - (x_bar * turn).sum())
    return np.abs(found).max()


def check_free_gradient(flow, x, fixed=(), most=40, **tolerance):
    """Free numbers, at most so many, against central differences of the mean log-likelihood."""
    space, count = Unconstrained(flow, fixed=fixed), len(x)
    gradient = space.gradient(space.vector, flow.log_prob_vjp(x)[1](np.full(count, 1 / count))[1])
    for i in np.unique(np.linspace(0, space.vector.size - 1, most).astype(int)):
        e = 1e-5 * (np.arange(space.vector.size) == i)
        up, down = (space.value_at(space.vector + d * e).log_prob(x).mean() for d in (1, -1))
        assert gradient[i] == pytest.approx((up - down) / 2e-5, **tolerance)


# -- laws -------------------------------------------------------------------------------------------------------------

def check_inverse_and_log_det(flow, x):
    """Of a flow whose bijector is an inverse: its Jacobian has a positive determinant."""
    z, log_det = flow.bijector.inverse_and_log_det(x)
    sign, expected = np.linalg.slogdet(flow.bijector.inner.jacobian(x))
    assert np.all(sign == 1) and np.abs(log_det - expected).max() < 1e-12
    assert np.abs(flow.bijector.forward(z) - x).max() < 1e-11


def check_single_precision(flow, x):
    log_prob = flow.log_prob(x)
    assert log_prob.dtype == np.float32
    assert np.allclose(log_prob, flow.astype(np.float64).log_prob(x.astype(np.float64)), rtol=2e-5, atol=2e-4)


def check_saved(flow, x, path):
    save(flow, path)
    again = load(path)
    assert again.equals(flow) and np.array_equal(again.log_prob(x), flow.log_prob(x))


def check_leaks_are_refused(f, without_delay):
    """An autoregressive map of tokens takes neither a network that sees its own token nor attention that sees all."""
    assert isinstance(f, Autoregressive)
    network = f.net.net.net
    seeing_all = tree.remade(network, lambda path, value: {"causal": False} if isinstance(value, RelativeAttention) else {})
    for leaking in (without_delay, seeing_all):
        with pytest.raises(ValueError, match="Autoregressive: net's dependence must be strictly triangular .* output entry \\d depends on"):
            f.replace(net=f.net.replace(net=f.net.net.replace(net=leaking)))


def tempered_attention(net, a, tau):
    """The network's outputs at `a` where every query is divided by the temperature."""
    right = RelativeAttention.vjp

    def tempered(self, a):
        q, k, v = np.split(a, 3, -2)
        return right(self, np.concatenate((q / tau, k, v), -2))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(RelativeAttention, "vjp", tempered)
        patch.setattr(RelativeAttention, "forward", lambda self, a: self.vjp(a)[0])
        return net.forward(a)
