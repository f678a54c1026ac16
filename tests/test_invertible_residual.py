"""Invertible residual blocks: laws, the digits of a small log-det, the root from everywhere, planted mistakes, refusals."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from tallies import check_laws_by_seeds, points_at
from refflow import InvertibleResidual
from refflow.core import RandomSource
from refflow.laws.bijector_laws import run_laws
from refflow.maps.conditioners import (BijectorLayer, Dense, Dropout, ReLU, Residual, Sequential, SiLU, SoftplusActivation, TanhActivation,
                                       Times)
from refflow.maps.elementwise import Affine
from refflow.maps.residual import invertible_residual
from refflow.maps.residual.invertible_residual import Block, residual, root

DTYPES = (np.float32, np.float64)


def drawn(rng, dtype=np.float64):
    """A block, and points of events of moderate size."""
    f, shape = InvertibleResidual.examples(RandomSource(rng))
    f = f.astype(dtype)
    return points_at(f, (1.5 * rng.standard_normal((6, *shape))).astype(dtype), rng, dtype)


def network(rng, D, hidden, bound, middle=TanhActivation):
    """Two dense layers whose product of norms is the bound, and whose first layer is steep."""
    first, last = rng.standard_normal((hidden, D)), rng.standard_normal((D, hidden))
    first *= 4 / np.linalg.norm(first, 2)
    last *= bound / 4 / np.linalg.norm(last, 2)
    return Sequential((Dense(first, rng.standard_normal(hidden)), middle(), Dense(last, rng.standard_normal(D))))


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: d.__name__)
def test_laws(dtype):
    check_laws_by_seeds(6, lambda rng: drawn(rng, dtype))


@pytest.mark.parametrize("size", [2.0**-6, 2.0**-17, 2.0**-26])
def test_a_small_jacobian_keeps_the_digits_of_the_log_det(size):
    """The logarithm of the determinant of the rounded I + J has lost them."""
    rng, lost = np.random.default_rng(0), 0
    for D in (1, 2, 3, 5):
        W = size * rng.standard_normal((D, D)) / D
        with mpmath.workdps(60):
            true = mpmath.log(mpmath.det(mpmath.eye(D) + mpmath.matrix(W.tolist())))
            unit = 2.0**-53 * np.abs(W).sum()
            off = abs(InvertibleResidual(Dense(W, np.zeros(D))).log_det(np.ones(D)) - true) / unit
            lost = max(lost, abs(np.linalg.slogdet(np.eye(D) + W)[1] - true) / unit)
        assert off < 3
    assert lost > 0.1 / size


@pytest.mark.parametrize("bound", [0.125, 0.9, 1 - 2.0**-7])
@pytest.mark.parametrize("middle", [TanhActivation, SoftplusActivation])
def test_the_root_is_found_from_everywhere(bound, middle):
    rng = np.random.default_rng(3)
    f = InvertibleResidual(network(rng, 4, 8, bound, middle))
    z = rng.standard_normal((50, 4)) * 3
    assert np.abs(f.inverse(f.forward(z)) - z).max() < 2.0**-50 / (1 - bound)
    far = 2.0**40 * rng.standard_normal((5, 4))
    assert np.allclose(f.inverse(f.forward(far)), far, rtol=2.0**-50, atol=0)


@pytest.mark.parametrize("start", [0.02, 0.001, -0.01])
def test_every_step_leaves_less_than_the_bound_says(start, monkeypatch):
    """The network's Jacobian is asked once at each step; until rounding is left."""
    right, met = Sequential.jacobian, []
    monkeypatch.setattr(Sequential, "jacobian", lambda self, a: met.append(a) or right(self, a))
    net, x = Sequential((Dense([[32.0]], [0.0]), TanhActivation(), Dense([[-0.03]], [0.0]))), np.array([start])
    root(net, x)
    left = [abs(float(residual(net, z, x)[0])) for z in met]
    assert len(left) > 3 and left[-1] < 2.0**-50
    assert all(after <= net.lipschitz() * before * (1 + 2.0**-20) for before, after in zip(left, left[1:]) if after > 2.0**-50)


def test_where_newtons_steps_lead_nowhere_the_other_step_finds_the_root(monkeypatch):
    right, f = Dense.jacobian, InvertibleResidual(network(np.random.default_rng(2), 3, 6, 0.75))
    z = np.random.default_rng(0).standard_normal((5, 3))
    x = f.forward(z)
    monkeypatch.setattr(Dense, "jacobian", lambda self, a: -3 * right(self, a))
    assert np.abs(f.inverse(x) - z).max() < 2.0**-48


def test_a_nearly_flat_map_takes_few_steps(monkeypatch):
    """Newton's whole step leads too far; the steps of the source would be thousands."""
    net, met = Sequential((Dense([[1.0]], [0.0]), TanhActivation(), Dense([[2.0**-14 - 1]], [0.0]))), []
    right = invertible_residual.residual
    monkeypatch.setattr(invertible_residual, "residual", lambda *given: met.append(given) or right(*given))
    z = InvertibleResidual(net).inverse([2.0**-20])
    assert len(met) < 60 and abs(right(net, z, 2.0**-20)[0]) < 2.0**-54


PLANTED = {
    "log_det": lambda self: np.log1p(np.trace(self.J, axis1=-2, axis2=-1)),             # of the first order
    "M": lambda self: np.linalg.inv(self.dx),                                           # not transposed
}


@pytest.mark.parametrize("name, wrong", PLANTED.items())
def test_a_planted_mistake_is_found(name, wrong, monkeypatch):
    monkeypatch.setattr(Block, name, wrong)
    rng, said = np.random.default_rng(5), ""
    for _ in range(4):
        try:
            p = drawn(rng)
            run_laws(p.f, p)
        except AssertionError as error:
            said += str(error)
    assert said


def test_a_planted_iteration_is_found(monkeypatch):
    """The inverse is where a single step leads."""
    monkeypatch.setattr(invertible_residual, "root", lambda net, x: x - net.forward(x))
    p = drawn(np.random.default_rng(0))
    with pytest.raises(AssertionError, match="inverse of forward"):
        run_laws(p.f, p)


def test_what_has_no_bound_below_1_is_refused():
    contracting = network(np.random.default_rng(0), 2, 3, 0.5)
    for net, message in (
            (Residual(contracting), "net must have a Lipschitz bound < 1, not 1.5"),
            (Times(contracting, -2.5), r"net must have a Lipschitz bound < 1, not 1\.2"),
            (Sequential((contracting, BijectorLayer(Affine(0.5)))), "BijectorLayer has no lipschitz"),
            (Sequential((contracting, ReLU())), "net must be differentiable everywhere")):
        with pytest.raises(ValueError, match=f"InvertibleResidual: {message}" if "no lips" not in message else message):
            InvertibleResidual(net)
    with pytest.raises(ValueError, match="net must keep the size of an event"):
        InvertibleResidual(Dense([[0.5, 0.0]], [0.0])).forward([1.0, 2.0])
    f = InvertibleResidual(contracting)
    with pytest.raises(ValueError, match="Lipschitz bound < 1, not"):
        f.unravel(100 * f.ravel())


def test_dropout_and_silu_may_stand_in_the_network():
    net = Sequential((Dense([[0.5, 0.25], [0.0, 0.5]], [0.0, 1.0]), SiLU(), Dropout([True, False], 0.25),
                      Dense([[0.5, 0.5], [0.25, 0.5]], [0.0, 0.0])))
    f, z = InvertibleResidual(net), np.array([[1.0, -2.0], [0.5, 3.0]])
    assert np.allclose(f.inverse(f.forward(z)), z, rtol=0, atol=2.0**-50)
    assert np.allclose(f.log_det(z), np.linalg.slogdet(f.jacobian(z))[1], rtol=0, atol=2.0**-50)
