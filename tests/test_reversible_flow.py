"""Reversible schemes: what they give on pairs, what they do not give on single points, and gradients that keep no states."""

import tracemalloc

import numpy as np
import pytest

from refflow import Dense, DiscreteFlow, ReversibleFlow, Sequential, TanhActivation
from refflow.core.source import RandomSource
from refflow.laws.bijector_laws import run_laws
from refflow.laws.strategies import points_of
from refflow.maps.continuous.schemes import SCHEMES
from refflow.maps.continuous.shear import Shear
from refflow.maps.continuous.step import Step

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


@pytest.mark.parametrize("scheme", ("reversible-heun", "leapfrog", "midpoint"))
def test_gradients_keep_no_pairs(scheme, monkeypatch):
    pairs = RNG.normal(size=(1000, 6))
    peak(flow(scheme, 32), pairs)                           # what is made once
    assert peak(flow(scheme, 128), pairs) < 1.25 * peak(flow(scheme, 32), pairs)
    monkeypatch.setattr(ReversibleFlow, "misses", lambda *_: True)
    assert peak(flow(scheme, 128), pairs) > 2 * peak(flow(scheme, 32), pairs)


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


@pytest.mark.parametrize("end", (0.0, 8.0))
def test_what_the_way_back_may_miss(end):
    """A rounding for each step, of the largest entry at either end, in each event."""
    f, far = ReversibleFlow(NET, steps=4), np.array([[0.0, 0.0], [0.0, 1.0]])
    start, ends = (np.array([[-0.25, 0.125]] * 2), np.array([[0.0625, -0.125]] * 2)), (np.full((2, 2), -end), np.zeros((2, 2)))
    most = 4 * 2.0**-51 * max(0.25, end)
    for pair in ((start[0] + most * far, start[1]), (start[0], start[1] - most * far)):
        assert not f.misses(pair, start, ends)
    for pair in ((start[0] + 1.5 * most * far, start[1]), (start[0], start[1] - 1.5 * most * far), (start[0], start[1] * np.nan)):
        assert f.misses(pair, start, ends)


def points(f, seed, dtype=np.float64):
    return points_of(RandomSource(np.random.default_rng(seed)), f.astype(dtype), np.dtype(dtype), 4, (6,))


@pytest.mark.parametrize("dtype", (np.float32, np.float64), ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("scheme", ALL)
def test_laws(scheme, dtype):
    p = points(flow(scheme, 2), 1, dtype)
    run_laws(p.f, p)


def without_the_last_division(self, a, rest):
    return a - rest if self.inverse else self.own * a + rest


def without_the_velocity(self, pair, J):
    J_a, J_b = self.in_turn(J)
    return self.in_turn((self.own * J_a + self.other * J_b, J_b))


def of_every_entry(self, z):
    return np.full(z.shape[:-1], self.steps * z.shape[-1] * np.log(abs(self.coupling)), z.dtype)


def of_one_place(self, z):
    """As if all stages asked the velocity at z."""
    return self.increment(z), lambda bar: (self.h * sum(b * self.net.vjp(self.at(z, i))[1](bar)[0] for i, b in enumerate(self.b))[..., :-1], {})


@pytest.mark.parametrize("owner, name, wrong, law", [
    (Shear, "moved", without_the_last_division, "inverse of forward"),
    (Shear, "jacobian", without_the_velocity, "jacobian is the derivative"),
    (ReversibleFlow, "log_det", of_every_entry, "log-det is slogdet of the Jacobian"),
    (Step, "increment_vjp", of_one_place, "pullback is the transposed Jacobian")], ids=lambda one: one if isinstance(one, str) else "")
def test_a_planted_mistake_is_found(owner, name, wrong, law, monkeypatch):
    monkeypatch.setattr(owner, name, wrong)
    p = points(flow("rk4", 2), 1)
    with pytest.raises(AssertionError, match=law):
        run_laws(p.f, p)
