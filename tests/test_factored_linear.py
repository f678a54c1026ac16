"""Linear maps with the parameters of a form: reflections, low rank, exponentials, triangles, QR and singular values."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
import scipy.linalg

import refflow
from refflow import (CayleyLinear, CayleyOrthogonal, Chain, DenseLinear, ExponentialLinear, HouseholderLinear, HouseholderProduct,
                     LowRankLinear, RotationLinear, qr_linear, svd_linear, triangular_linear)
from refflow.maps.linear import cayley, exponential, reflections, rotation

ULP = np.finfo(np.float64).eps


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def matrix(f, D):
    return f.jacobian(np.zeros(D))


def unorthogonal(Q):
    """|Q^T Q - I| in units of rounding."""
    return np.abs(Q.mT @ Q - np.eye(Q.shape[-1])).max() / ULP


def slopes(f, side, event, bars, step=2.0**-20):
    """Central differences of L by all parameters of f; NaN by what must stay 0, as the other half of a triangle."""
    vector = f.ravel()

    def loss(moved):
        (image, log_det), _ = getattr(f.unravel(moved), side)(event)
        return (bars[0] * image).sum() + (bars[1] * log_det).sum()

    def slope(one):
        try:
            return (loss(vector + step * one) - loss(vector - step * one)) / (2 * step)
        except ValueError:
            return np.nan

    return np.array([slope(one) for one in np.eye(len(vector))])


def flat(bars):
    return np.concatenate([flat(bar) if isinstance(bar, dict) else np.ravel(bar) for bar in bars.values()])


FORMS = {
    "reflections": lambda: HouseholderLinear(normal(1, 2, 3)),
    "low rank": lambda: LowRankLinear(normal(1, 3), normal(2, 3, 2), normal(3, 3, 2)),
    "exponential": lambda: ExponentialLinear(normal(1, 3, 3)),
    "rotation": lambda: RotationLinear(normal(1, 3, 3)),
    "Cayley": lambda: CayleyLinear(normal(1, 3, 3)),
    "lower triangle": lambda: triangular_linear(np.tril(normal(1, 3, 3), -1), normal(2, 3)),
    "upper triangle": lambda: triangular_linear(np.triu(normal(1, 3, 3), 1), normal(2, 3), lower=False),
    "QR": lambda: qr_linear(normal(1, 2, 3), np.triu(normal(2, 3, 3), 1), normal(3, 3)),
    "singular values": lambda: svd_linear(normal(1, 2, 3), np.abs(normal(2, 3)), normal(3, 3, 3)),
}


def wrong(f, side):
    """How far the cotangents of all parameters are from differences, over a batch."""
    event, bars = normal(4, 5, 3), (normal(5, 5, 3), normal(6, 5))
    _, pullback = getattr(f, side)(event)
    found = flat(pullback(*bars)[1])
    return np.nanmax(np.abs(found - slopes(f, side, event, bars))) / np.abs(found).max()


@pytest.mark.parametrize("side", ["vjp", "inverse_vjp"])
@pytest.mark.parametrize("form", FORMS)
def test_all_parameters_have_gradients(form, side):
    assert wrong(FORMS[form](), side) < 1e-8


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_of_parameters_is_a_stack_of_singles(form):
    f, z = FORMS[form](), normal(4, 3)
    g = refflow.core.tree.mapped(f, lambda path, field, held, _: held if field.constant else np.stack([held, held]))
    x, log_det = g.forward_and_log_det(z)
    np.testing.assert_allclose(x, np.stack([f.forward(z)] * 2), rtol=1e-12)
    np.testing.assert_allclose(log_det, [f.log_det(z)] * 2, rtol=1e-13, atol=1e-15)


# -- reflections ------------------------------------------------------------------------------------------------------

def test_reflections_are_the_product_of_their_parametrisation():
    """In the other order; both stand on one algebra."""
    V = normal(1, 3, 4)
    fields, _ = HouseholderProduct(4, 3).vjp(V[::-1].ravel())
    np.testing.assert_allclose(matrix(HouseholderLinear(V), 4), fields["Q"], atol=2 * ULP)


def test_the_sizes_of_vectors_do_not_count():
    """|v|^2 neither overflows nor underflows; a power of two changes no digit."""
    V, z = normal(1, 3, 4), normal(2, 4)
    for sizes in ((2.0**900, 2.0**-900, 1.0), (2.0**-1000, 2.0**-1000, 2.0**1000)):
        assert np.array_equal(HouseholderLinear(V * np.array(sizes)[:, None]).forward(z), HouseholderLinear(V).forward(z))


def test_an_unscaled_vector_is_found(monkeypatch):
    monkeypatch.setattr(reflections, "unit_scaled", lambda v: (v, 0))
    with pytest.raises(AssertionError), np.errstate(all="ignore"):
        test_the_sizes_of_vectors_do_not_count()


def test_a_vector_of_zeros_is_refused():
    with pytest.raises(ValueError, match=r"HouseholderLinear: vectors must be finite and not all 0; vectors\[1\]"):
        HouseholderLinear([[1.0, 2.0], [0.0, 0.0]])


# -- low rank ---------------------------------------------------------------------------------------------------------

def test_low_rank_is_the_dense_matrix():
    d, U, V, z = normal(1, 4), normal(2, 4, 2), normal(3, 4, 2), normal(4, 5, 4)
    f, dense = LowRankLinear(d, U, V), DenseLinear(np.diag(d) + U @ V.T, None)
    for method in ("forward", "inverse", "log_det", "jacobian"):
        np.testing.assert_allclose(getattr(f, method)(z), getattr(dense, method)(z), rtol=1e-12)


def test_a_sum_that_cancels_is_refused():
    with pytest.raises(ValueError, match=r"LowRankLinear: I \+ V\^T diag\(diagonal\)\^-1 U must be finite and invertible"):
        LowRankLinear([2.0, 1.0], [[1.0], [0.0]], [[-2.0], [0.0]])
    with pytest.raises(ValueError, match=r"its pivots\[1\] are \[0\.\]"):
        LowRankLinear([2.0, 1.0], [[1.0], [0.0]], [[[1.0], [0.0]], [[-2.0], [0.0]]])


def test_a_small_diagonal_keeps_its_digits():
    """W^-1 is 2^-20 of diag(d)^-1 here; without pairs the difference in Woodbury's identity loses as much."""
    f = LowRankLinear([2.0**-20], [[1.0]], [[1.0]])
    assert f.inverse([3.0])[0] == 3 / (1 + 2.0**-20)


# -- exponentials -----------------------------------------------------------------------------------------------------

def test_the_exponential_of_a_nilpotent_matrix_is_exact():
    A = np.array([[0.0, 2.0**20], [0.0, 0.0]])
    assert np.array_equal(matrix(ExponentialLinear(A), 2), np.eye(2) + A)


def test_the_exponential_is_that_of_scipy():
    A = normal(1, 4, 4)
    np.testing.assert_allclose(matrix(ExponentialLinear(A), 4), scipy.linalg.expm(A), rtol=1e-12)


@pytest.mark.parametrize("angle", [1.0, 1024.0, 1e5, 1e6, 2.0**39])
def test_the_definition_of_an_exponential_holds_for_large_matrices(angle):
    """More digits do not help a series that is too short: both precisions would agree on the same wrong number."""
    with mpmath.workdps(80):
        cosine, sine = mpmath.cos(angle), mpmath.sin(angle)
        for row, expected in zip(exponential.exponential_of(mpmath.mp, [[0, mpmath.mpf(angle)], [mpmath.mpf(-angle), 0]]),
                                 ((cosine, sine), (-sine, cosine))):
            assert max(abs(found - true) for found, true in zip(row, expected)) < 1e-50


@pytest.mark.parametrize("page", [RotationLinear, CayleyLinear])
def test_a_rotation_is_orthogonal_however_large_its_parameters(page):
    for size in (1.0, 2.0**10, 2.0**40):
        assert unorthogonal(matrix(page(size * normal(1, 5, 5)), 5)) < 4


class Plain(np.ndarray):
    """An array in the place of a pair."""

    high = property(lambda self: np.asarray(self))


@pytest.mark.parametrize("page, module", [(RotationLinear, exponential), (CayleyLinear, cayley)])
def test_a_rotation_without_pairs_is_found(page, module, monkeypatch):
    monkeypatch.setattr(module, "pair", lambda v: np.asarray(getattr(v, "high", v)).view(Plain))
    if module is cayley:
        monkeypatch.setattr(cayley, "inverse_and_pivots", lambda A: (np.linalg.inv(A), None))
    assert unorthogonal(matrix(page(2.0**40 * normal(1, 5, 5)), 5)) > 100


@pytest.mark.parametrize("side", ["vjp", "inverse_vjp"])
@pytest.mark.parametrize("page", [RotationLinear, CayleyLinear])
def test_a_gradient_that_overflows_is_0_on_the_diagonal(page, side):
    _, pullback = getattr(page(normal(1, 2, 2)), side)(np.array([2.0**1000, 2.0**999]))
    _, of_A = pullback(np.array([2.0**60, 2.0**50]), 0.0)
    assert np.array_equal(np.abs(of_A["A"]), [[0, np.inf], [np.inf, 0]]) and of_A["A"][0, 1] == -of_A["A"][1, 0]


@pytest.mark.parametrize("page, module, name", [(RotationLinear, rotation, "derivative"), (CayleyLinear, cayley, "outer")])
def test_a_power_that_comes_in_early_is_found(page, module, name, monkeypatch):
    late = getattr(module, name)

    def early(*given):
        found, e = late(*given)
        with np.errstate(all="ignore"):
            return np.ldexp(found, e), 0

    monkeypatch.setattr(module, name, early)
    with pytest.raises(AssertionError):
        test_a_gradient_that_overflows_is_0_on_the_diagonal(page, "vjp")


def test_events_of_different_sizes_share_a_gradient():
    """The powers of two of a batch differ; the sum over it is that of the largest."""
    z, x_bar = normal(1, 2, 3) * np.array([[2.0**200], [2.0**-300]]), normal(2, 2, 3)
    for f in (RotationLinear(normal(3, 3, 3)), CayleyLinear(normal(3, 3, 3))):
        alone, both = f.vjp(z[0])[1](x_bar[0], 0.0)[1]["A"], f.vjp(z)[1](x_bar, np.zeros(2))[1]["A"]
        np.testing.assert_allclose(both, alone, rtol=1e-14)


def test_a_cayley_map_is_that_of_the_numbers_below_the_diagonal():
    """CayleyOrthogonal gives the same matrix of a strict lower triangle."""
    numbers, lower = normal(1, 3), np.zeros((3, 3))
    lower[np.tril_indices(3, -1)] = numbers
    np.testing.assert_allclose(matrix(CayleyLinear(lower), 3), CayleyOrthogonal(np.eye(3)).forward(numbers), atol=2 * ULP)


# -- compositions -----------------------------------------------------------------------------------------------------

def test_factored_forms():
    """The whole, and its log-det."""
    V, upper, d, z = normal(1, 3, 4), np.triu(normal(2, 4, 4), 1), normal(3, 4), normal(4, 5, 4)
    Q = matrix(HouseholderLinear(V), 4)
    for f, W in ((qr_linear(V, upper, d), Q @ (upper + np.diag(d))), (svd_linear(V, d, V[::-1]), Q @ np.diag(d) @ Q.T)):
        assert isinstance(f, Chain)
        np.testing.assert_allclose(f.forward(z), z @ W.T, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(f.inverse(f.forward(z)), z, rtol=1e-11, atol=1e-11)
        np.testing.assert_allclose(f.log_det(z), np.log(np.abs(d)).sum(), rtol=1e-13)


def test_triangles():
    triangle, d, z = normal(1, 3, 3), normal(2, 3), normal(3, 5, 3)
    for lower, strict in ((True, np.tril(triangle, -1)), (False, np.triu(triangle, 1))):
        for scale in (d, np.ones(3)):
            f, W = triangular_linear(strict, scale, lower), strict + np.diag(scale)
            np.testing.assert_allclose(f.forward(z), z @ W.T, rtol=1e-12, atol=1e-14)
            np.testing.assert_allclose(f.log_det(z), np.log(np.abs(scale)).sum(), rtol=1e-13, atol=1e-15)
        with pytest.raises(ValueError, match="PLULinear: upper"):
            triangular_linear(strict, d, not lower)


def test_a_wrong_pullback_is_found(monkeypatch):
    """The cotangent of a vector that keeps its part along the vector, and one of an exponential that is not its adjoint."""
    pulled, derivative = reflections.Reflections.pulled, exponential.derivative

    def unprojected(self, steps, G, exponents=0):
        event_bar, bars = pulled(self, steps, G, exponents)
        return event_bar, bars + self.units

    monkeypatch.setattr(reflections.Reflections, "pulled", unprojected)
    monkeypatch.setattr(exponential, "derivative", lambda A, left, right: derivative(A.mT, left, right))
    for form in ("reflections", "QR", "singular values", "exponential"):
        assert wrong(FORMS[form](), "vjp") > 1e-3
