"""A dense layer with bounded norm: power iteration, the bound that it proves, and blocks that are made of it."""

from __future__ import annotations

import numpy as np
import pytest

from refflow import Dense, InvertibleResidual, LipSwish, Sequential, SpectralDense
from refflow.laws.conditioner_laws import NetworkPoints, run_network_laws
from refflow.maps.conditioners import spectral_dense

RNG = np.random.default_rng(5)
W = RNG.standard_normal((4, 3))
B = RNG.standard_normal(4)
U = np.array([1.0, 0.0, 0.0, 0.0])
V = np.array([0.0, 1.0, 0.0])
NORM = np.linalg.norm(W, 2)


def estimate(net):
    return net.u @ net.W @ net.v


def test_power_iteration_rises_to_the_norm_from_below():
    net, last = SpectralDense(W, B, U, V, 0.9), -np.inf
    for _ in range(200):
        net, s = net.iterated(), estimate(net.iterated())
        assert last * (1 - 2.0**-50) <= s <= NORM * (1 + 2.0**-50)
        last = s
    assert last == pytest.approx(NORM, rel=2.0**-48)
    exact = SpectralDense(W, B, coefficient=0.9)
    assert np.allclose(net.jacobian(np.ones(3)), exact.jacobian(np.ones(3)), rtol=2.0**-40, atol=0)


def test_steps_of_iteration_may_be_taken_in_parts():
    net = SpectralDense(W, B, U, V)
    at_once, in_parts = net.iterated(5), net.iterated(2).iterated(3)
    assert np.array_equal(at_once.u, in_parts.u) and np.array_equal(at_once.v, in_parts.v)
    assert net.iterated(0).equals(net)


def test_the_bound_is_that_of_the_matrix_and_not_the_coefficient():
    """With u and v that are far from singular vectors, the norm is more than the coefficient."""
    assert SpectralDense(W, B, coefficient=0.9).lipschitz() == pytest.approx(0.9, rel=2.0**-50)
    few = SpectralDense(W, B, U, V, 0.9).iterated(1)
    assert few.lipschitz() == pytest.approx(0.9 * NORM / estimate(few)) and few.lipschitz() > 0.9
    small = SpectralDense(W / 100, B, coefficient=0.9)
    assert small.lipschitz() == pytest.approx(NORM / 100) and np.array_equal(small.jacobian(np.ones(3)), W / 100)


def test_a_matrix_of_zeros_leaves_its_vectors():
    net = SpectralDense(np.zeros((4, 3)), B, U, V)
    assert net.iterated(3).equals(net)


def test_iteration_needs_vectors():
    with pytest.raises(ValueError, match="SpectralDense: u and v must be given for a step of power iteration"):
        SpectralDense(W, B).iterated()


@pytest.mark.parametrize("coefficient", [0.98, 0.5])
def test_a_residual_block_takes_two_of_them(coefficient):
    net = Sequential((SpectralDense(3 * W, B, coefficient=coefficient), LipSwish(1.0),
                      SpectralDense(W.T, B[:3], coefficient=coefficient)))
    f, z = InvertibleResidual(net), RNG.standard_normal((5, 3))
    x, log_det = f.forward_and_log_det(z)
    assert np.allclose(f.inverse(x), z, rtol=0, atol=2.0**-40)
    assert np.allclose(log_det, np.linalg.slogdet(f.jacobian(z))[1], rtol=0, atol=2.0**-45)


def test_a_matrix_of_a_batch_is_bounded_by_itself():
    stacked = SpectralDense(np.stack([W, 10 * W]), B, coefficient=0.9).forward(np.ones((2, 3)))
    assert np.allclose(stacked, [SpectralDense(s * W, B, coefficient=0.9).forward(np.ones(3)) for s in (1, 10)], rtol=2.0**-45)


def test_vectors_of_a_batch_bound_the_matrix_for_each_event():
    """One matrix with vectors for each event: its cotangent is the sum of one for each pair of vectors."""
    u, v = (spectral_dense.unit(RNG.standard_normal((5, size)), None) for size in W.shape)
    a, h_bar, nets = RNG.standard_normal((5, 3)), RNG.standard_normal((5, 4)), SpectralDense(W, B, u, v, 0.1)
    W_bar = sum(SpectralDense(W, B, *given, 0.1).vjp(one)[1](bar)[1]["W"] for *given, one, bar in zip(u, v, a, h_bar))
    assert np.allclose(nets.vjp(a)[1](h_bar)[1]["W"], W_bar, rtol=2.0**-40)


def without_the_norm(self, V_bar, k=0):
    """The norm is taken for a constant."""
    return V_bar * np.where(self.s > self.c, self.c / self.s, 1)


PLANTED = {"pullback is the gradient": ("of_weights", without_the_norm),
           "it stretches by no more than it says": ("lipschitz", lambda self: self.coefficient)}


@pytest.mark.parametrize("law", PLANTED)
def test_a_planted_bug_is_found(law, monkeypatch):
    name, wrong = PLANTED[law]
    monkeypatch.setattr(SpectralDense if name == "lipschitz" else spectral_dense.Bounded, name, wrong)
    net = SpectralDense(W, B, U, V, 0.9).iterated(2)
    points = NetworkPoints(net, RNG.standard_normal((2, 3)), RNG.standard_normal((2, 4)))
    with pytest.raises(AssertionError) as caught:
        run_network_laws(net, points)
    assert law in str(caught.value), str(caught.value)


def test_without_a_bound_to_exceed_it_is_a_dense_layer():
    net, dense, a = SpectralDense(W, B, coefficient=1e6), Dense(W, B), RNG.standard_normal((2, 3))
    (h, pullback), (expected, of_dense) = net.vjp(a), dense.vjp(a)
    assert np.array_equal(h, expected)
    assert np.allclose(pullback(h)[1]["W"], of_dense(h)[1]["W"], rtol=2.0**-50)
