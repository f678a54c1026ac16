"""Reversible schemes: what they give on pairs, what they do not give on single points, and gradients that keep no states."""

import tracemalloc

import numpy as np
import pytest

from refflow import Dense, DiscreteFlow, ReversibleFlow, Sequential, TanhActivation
from refflow.maps.continuous.schemes import SCHEMES

RNG = np.random.default_rng(5)
NET = Sequential((Dense(RNG.normal(size=(6, 4)), RNG.normal(size=6)), TanhActivation(), Dense(RNG.normal(size=(3, 6)))))
Y, PAIRS = RNG.normal(size=(5, 3)), RNG.normal(size=(5, 6))
ALL = ("reversible-heun", "leapfrog", *SCHEMES)


def flow(scheme, n, coupling=None):
    """From 0 to 1/2.  The product of all couplings does not depend on n."""
    return ReversibleFlow(NET, scheme, n, 0.0, 0.5, coupling or (0.75 ** (1 / n) if scheme in SCHEMES else -1.0))


def started(scheme, y, t):
    """Pairs whose second half follows from the first: another estimate of the point, or its velocity."""
    return np.hstack([y, NET.forward(np.hstack([y, np.full((len(y), 1), t)])) if scheme == "leapfrog" else y])


@pytest.mark.parametrize("scheme, coupling", [*[(name, None) for name in ALL], ("leapfrog", -0.75), ("leapfrog", 0.75)])
def test_pairs_come_back_and_their_log_det_is_the_jacobians(scheme, coupling):
    f = flow(scheme, 4, coupling)
    x, log_det = f.forward_and_log_det(PAIRS)
    z, other = f.inverse_and_log_det(x)
    assert np.abs(z - PAIRS).max() <= 2.0**-52 * (8 + f.terms) * np.abs(PAIRS).max()
    np.testing.assert_allclose(log_det, 4 * 3 * np.log(abs(f.coupling)), rtol=2.0**-50)
    np.testing.assert_allclose(np.linalg.slogdet(f.jacobian(PAIRS))[1], log_det, rtol=0, atol=2.0**-44)
    assert np.array_equal(other, -log_det)


@pytest.mark.parametrize("scheme", ALL)
def test_the_first_half_converges_with_the_order_of_the_scheme(scheme):
    """From a second half that follows from the first."""
    right, order = DiscreteFlow(NET, "dopri5", 128, 0.0, 0.5).forward(Y), SCHEMES[scheme].order if scheme in SCHEMES else 2

    def error(n):
        return np.abs(flow(scheme, n).forward(started(scheme, Y, 0.0))[:, :3] - right).max()

    assert np.log2(error(16) / error(32)) > order - 0.5


@pytest.mark.parametrize("scheme", ALL)
def test_the_way_back_from_the_first_half_alone_misses_the_start(scheme):
    """By h^4 for the two schemes of order 2 that are their own way back, else by h^p or h^(p + 1), whichever power is odd."""
    def missed(n):
        f = flow(scheme, n)
        x = f.forward(started(scheme, Y, 0.0))[:, :3]
        return np.abs(f.inverse(started(scheme, x, 0.5))[:, :3] - Y).max()

    power = SCHEMES[scheme].order // 2 * 2 + 1 if scheme in SCHEMES else 4
    assert 2.0**(power - 0.5) < missed(16) / missed(32) < 2.0**(power + 0.5)


@pytest.mark.parametrize("scheme", ALL)
def test_the_log_det_of_pairs_is_not_that_of_the_first_half(scheme):
    """Of the first half, it comes near that of the flow."""
    of_w = NET.jacobian(np.hstack([Y, np.zeros((5, 1))]))[..., :3] if scheme == "leapfrog" else np.eye(3)
    right = DiscreteFlow(NET, "dopri5", 32, 0.0, 0.5).log_det(Y)

    def error(n):
        J = flow(scheme, n).jacobian(started(scheme, Y, 0.0))
        return np.abs(np.linalg.slogdet(J[:, :3, :3] + J[:, :3, 3:] @ of_w)[1] - right).max()

    assert error(16) / error(32) > 2.0**0.5 and error(32) < 0.1
    assert np.abs(flow(scheme, 32).log_det(PAIRS) - right).max() > 0.5


def peak(f, pairs):
    """The most bytes that a gradient holds at a time."""
    tracemalloc.start()
    (x, log_det), pullback = f.vjp(pairs)
    pullback(np.ones_like(x), np.zeros_like(log_det))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most


@pytest.mark.parametrize("scheme", ("reversible-heun", "leapfrog", "rk4"))
def test_gradients_keep_no_pairs(scheme, monkeypatch):
    pairs = RNG.normal(size=(2000, 6))
    peak(flow(scheme, 64), pairs)                           # what is made once
    assert peak(flow(scheme, 256), pairs) < 1.25 * peak(flow(scheme, 64), pairs)
    monkeypatch.setattr(ReversibleFlow, "misses", lambda *_: True)
    assert peak(flow(scheme, 256), pairs) > 2 * peak(flow(scheme, 64), pairs)


def test_pairs_are_kept_where_the_way_back_loses_them(monkeypatch):
    """The coupling 1/2 multiplies roundings by 2^40 on the way back."""
    f, bar = ReversibleFlow(NET, "rk4", 40, 0.0, 1.0, 0.5), RNG.normal(size=PAIRS.shape)
    right = np.vecmat(bar, f.jacobian(PAIRS))

    def error():
        _, pullback = f.vjp(PAIRS)
        return np.abs(pullback(bar, np.zeros(len(PAIRS)))[0] - right).max() / np.abs(right).max()

    assert error() < 2.0**-44
    monkeypatch.setattr(ReversibleFlow, "misses", lambda *_: False)
    assert error() > 2.0**-30
