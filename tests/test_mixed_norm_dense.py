"""A dense layer with a bounded norm from p to q: the norms against vectors that try to exceed them, columns and rows alone, planted bugs."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import Dense, MixedNormDense
from refflow.laws.conditioner_laws import NetworkPoints, run_network_laws
from refflow.maps.conditioners.mixed_norm_dense import ORDERS
from refflow.maps.conditioners.spectral_dense import Bounded

RNG = np.random.default_rng(11)
W = RNG.standard_normal((4, 3))
B = RNG.standard_normal(4)


def stretched(V, p, q):
    """The most that many vectors and those at which the largest is known, corners and unit vectors, are stretched from p to q."""
    p, q = float(p), float(q)
    rows = V / np.linalg.norm(V, axis=1, keepdims=True)
    signs = np.where(np.arange(8)[:, None] >> np.arange(3) & 1, 1.0, -1.0)
    tried = np.concatenate((RNG.standard_normal((1000, 3)), np.eye(3), signs, rows))
    return (np.linalg.norm(tried @ V.T, q, axis=1) / np.linalg.norm(tried, p, axis=1)).max()


@pytest.mark.parametrize(("p", "q"), ORDERS)
@pytest.mark.parametrize("local", [False, True])
def test_no_vector_is_stretched_by_more_and_one_by_as_much(p, q, local):
    net = MixedNormDense(W, B, p, q, local, coefficient=0.25)
    assert stretched(net.jacobian(np.ones(3)), p, q) == pytest.approx(0.25, rel=2.0**-45)
    wide = net.replace(coefficient=1e6)
    assert np.array_equal(wide.jacobian(np.ones(3)), W)
    assert wide.bounded().s.max() == pytest.approx(stretched(W, p, q), rel=2.0**-45)


@pytest.mark.parametrize(("p", "q", "axis", "r"), [("1", "2", 0, 2), ("1", "inf", 0, np.inf), ("2", "inf", 1, 2), ("inf", "inf", 1, 1)])
def test_each_column_or_row_is_bounded_alone(p, q, axis, r):
    coefficient = np.median(np.linalg.norm(W, r, axis))
    V = MixedNormDense(W, B, p, q, True, coefficient).jacobian(np.ones(3))
    assert np.allclose(np.linalg.norm(V, r, axis), np.minimum(np.linalg.norm(W, r, axis), coefficient), rtol=2.0**-48)


@pytest.mark.parametrize("local", [False, True])
def test_weights_of_zeros_and_of_a_column_of_zeros(local):
    for p, q in ORDERS:
        for given in (np.zeros((4, 3)), W * [1.0, 0.0, 1.0], W * [[1.0], [0.0], [1.0], [1.0]]):
            net = MixedNormDense(given, B, p, q, local, 0.25)
            h, pullback = net.vjp(np.ones(3))
            assert np.isfinite(h).all() and np.isfinite(pullback(np.ones(4))[1]["W"]).all()


def test_weights_of_a_batch_are_bounded_by_themselves():
    for p, q in ORDERS:
        stacked = MixedNormDense(np.stack([W, 10 * W]), B, p, q, coefficient=0.9)
        each = [MixedNormDense(s * W, B, p, q, coefficient=0.9) for s in (1, 10)]
        assert np.allclose(stacked.forward(np.ones((2, 3))), [net.forward(np.ones(3)) for net in each], rtol=2.0**-45)
        assert np.allclose(stacked.vjp(np.ones((2, 3)))[1](np.ones((2, 4)))[1]["W"],
                           [net.vjp(np.ones(3))[1](np.ones(4))[1]["W"] for net in each], rtol=2.0**-40)


def test_a_large_coefficient_makes_it_a_dense_layer():
    net, dense, a = MixedNormDense(W, B, coefficient=1e6), Dense(W, B), RNG.standard_normal((2, 3))
    assert np.array_equal(net.forward(a), dense.forward(a)) and net.lipschitz() == dense.lipschitz()


def without_the_norm(self, V_bar, k=0):
    """The norm is taken for a constant."""
    return V_bar * np.where(self.s > self.c, self.c / self.s, 1)


PLANTED = {"pullback is the gradient": (Bounded, "of_weights", without_the_norm),
           "it stretches by no more than it says": (MixedNormDense, "lipschitz", lambda self: self.coefficient)}


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize("law", PLANTED)
def test_a_planted_bug_is_found(law, local, monkeypatch):
    monkeypatch.setattr(*PLANTED[law])
    net = MixedNormDense(W, B, "1", "inf", local, 0.25)
    points = NetworkPoints(net, RNG.standard_normal((2, 3)), RNG.standard_normal((2, 4)))
    with pytest.raises(AssertionError) as caught:
        run_network_laws(net, points, lambda name: name == law)
    assert law in str(caught.value), str(caught.value)
