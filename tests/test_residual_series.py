"""The estimates of a log-det by series: theorems that hold to rounding when all noise, or all numbers of terms, are summed."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from refflow import InvertibleResidual
from refflow.core.tree import flatten
from refflow.maps.conditioners import Dense, Sequential, TanhActivation
from refflow.maps.residual import series
from refflow.maps.residual.series import neumann_gradient, power_series_vjp, roulette_weights, truncation_bound

D, TERMS = 4, 12
RNG = np.random.default_rng(0)
Z = RNG.standard_normal((3, D))
HADAMARD = np.array([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
SIGNS = np.array(list(itertools.product([-1.0, 1.0], repeat=D))).T
NOISES = {"all signs": SIGNS, "the rows of a Hadamard matrix": HADAMARD, "scaled unit vectors": 2 * np.eye(D)}


def block(bound=0.8):
    first, last = RNG.standard_normal((6, D)), RNG.standard_normal((D, 6))
    layers = Dense(first / np.linalg.norm(first, 2), RNG.standard_normal(6)), TanhActivation(), Dense(
        bound * last / np.linalg.norm(last, 2), RNG.standard_normal(D))
    return Sequential(layers)


NET = block()


def exact_series(net, z, weights):
    """The series with exact traces."""
    J, power, S = net.jacobian(z), np.eye(D), 0
    for k, w in enumerate(weights, 1):
        power = power @ J
        S = S + w * (-1) ** (k + 1) / k * np.trace(power, axis1=-2, axis2=-1)
    return S


def near(given, wanted, off=1e-14):
    given, wanted = dict(flatten({"": given})), dict(flatten({"": wanted}))
    assert list(given) == list(wanted)
    return all(np.abs(given[key] - wanted[key]).max() < off for key in wanted)


@pytest.mark.parametrize("name", NOISES)
def test_the_mean_over_noise_is_the_series_of_traces(name):
    weights = np.linspace(1, 2, TERMS)
    S, _ = power_series_vjp(NET, Z, NOISES[name], weights)
    assert near(S, exact_series(NET, Z, weights))
    single, _ = power_series_vjp(NET, Z, SIGNS[:, :1], weights)
    assert not near(single, S, 1e-2)                            # so the law cannot hold by accident


def test_the_gradient_is_that_of_differences():
    weights, noise, bar = np.linspace(1, 2, TERMS), RNG.standard_normal((D, 2)), np.array([1.0, -0.5, 2.0])
    z_bar, net_bar = power_series_vjp(NET, Z, noise, weights)[1](bar)
    step, vector = 2.0**-18, NET.ravel()
    bars = np.concatenate([leaf.ravel() for _, leaf in flatten(net_bar)])
    for _ in range(4):
        along, of_z = RNG.standard_normal(vector.size), RNG.standard_normal(Z.shape)
        ends = [bar @ power_series_vjp(NET.unravel(vector + s * along), Z + s * of_z, noise, weights)[0] for s in (step, -step)]
        assert abs((ends[0] - ends[1]) / (2 * step) - bars @ along - (z_bar * of_z).sum()) < 1e-8


def test_the_roulette_telescopes():
    """The mean of the weights over the number of terms is 1, of the estimates the series: with the rest of the numbers at the last one."""
    most = 60
    for p in (0.5, 0.25):
        chances = [p * (1 - p) ** (n - 1) for n in range(1, most)] + [(1 - p) ** (most - 1)]
        mean, of_estimates = np.zeros(2 + most), 0.0
        for n, chance in enumerate(chances, 1):
            w = roulette_weights(2, n, lambda k: (1 - p) ** (k - 1))        # noqa: B023
            assert len(w) == 2 + n and (w[:3] == 1).all()
            mean[:2 + n] += chance * w
            of_estimates = of_estimates + chance * exact_series(NET, Z, w)
        assert near(mean, np.ones(2 + most), 1e-13) and near(of_estimates, exact_series(NET, Z, np.ones(2 + most)), 1e-14)


@pytest.mark.parametrize("name", NOISES)
def test_neumanns_mean_is_the_gradient_of_the_series(name):
    bar = np.array([1.0, -0.5, 2.0])
    found = neumann_gradient(NET, Z, NOISES[name], np.ones(TERMS), bar)
    wanted = power_series_vjp(NET, Z, NOISES[name], np.ones(TERMS))[1](bar)
    assert all(near(*pair) for pair in zip(found, wanted))
    single = neumann_gradient(NET, Z, SIGNS[:, :1], np.ones(TERMS), bar)
    assert not near(single[0], wanted[0], 1e-4)


def test_neumanns_series_ends_in_the_gradient_of_the_log_det():
    bar = np.array([1.0, -0.5, 2.0])
    z_bar, net_bar = neumann_gradient(NET, Z, HADAMARD, np.ones(200), bar)
    of_z, bars = InvertibleResidual(NET).vjp(Z)[1](np.zeros_like(Z), bar)
    assert near(z_bar, of_z) and near(net_bar, bars["net"])


@pytest.mark.parametrize("bound", [0.5, 0.9])
def test_what_is_left_out_is_within_its_bound(bound):
    net = block(bound)
    log_det, L = InvertibleResidual(net).log_det(Z), net.lipschitz()
    for terms in (1, 2, 5, 10):
        assert (np.abs(log_det - exact_series(net, Z, np.ones(terms))) <= truncation_bound(D, L, terms)).all()
    scaled = Dense(-bound * np.eye(D), np.zeros(D))                         # nearly as far off as it may be
    off = np.abs(InvertibleResidual(scaled).log_det(Z) - exact_series(scaled, Z, np.ones(5)))
    assert (off > 0.5 * truncation_bound(D, bound, 5) * (1 - bound)).all()


def test_a_planted_sum_is_found(monkeypatch):
    """The pullback of the last product alone."""
    monkeypatch.setattr(series, "total", lambda nested: nested[0])
    bar = np.ones(3)
    found = power_series_vjp(NET, Z, HADAMARD, np.ones(TERMS))[1](bar)
    assert not near(found[1], neumann_gradient(NET, Z, HADAMARD, np.ones(TERMS), bar)[1])
