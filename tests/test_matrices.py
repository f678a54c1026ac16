"""Matrices as compositions: positive definite ones, correlations, sums of 0, rows and columns on simplexes."""

import mpmath
import numpy as np
import pytest

from refflow import (CayleyOrthogonal, Chain, CholeskyFactor, CholeskyOuterProduct, CholeskyToInverseCholesky, CorrelationCholesky,
                     CorrelationOuterProduct, Flow, Independent, IntrinsicVolume, Inverse, MatrixTranspose, Permutation, RectangularCholeskyFactor,
                     RowNormalisedCorrelation, Softmax, Squeeze,
                     StandardNormal, StickBreaking, StrictTriangle, TriangularInverse, ZeroSum, ZeroSumMatrix)
from refflow.core import RandomSource, sets
from refflow.maps.constrained.biject_to import biject_to
from refflow.training.unconstrained import Onto

FREE = {D: np.linspace(-0.9, 1.1, D * (D + 1) // 2) for D in (1, 2, 4)}


def held(f, z):
    """(x, log_det) of a chain whose log-det is its Jacobian's and whose inverse comes back."""
    x, log_det = f.forward_and_log_det(z)
    assert f.codomain.first_outside(x) is None
    assert np.isclose(np.linalg.slogdet(f.square(f.jacobian(z), z, x))[1], log_det, atol=1e-10)
    back, inverse_log_det = f.inverse_and_log_det(x)
    assert np.allclose(back, z, atol=1e-9) and np.isclose(inverse_log_det, -log_det, atol=1e-9)
    return x, log_det


@pytest.mark.parametrize("D", FREE)
def test_a_positive_definite_matrix_is_a_composition(D):
    """Stan, cov_matrix: the log-det of 2^D prod_i L_ii^(D - i + 2), the factor map's L_ii included; NumPyro's is the same sum."""
    z = FREE[D]
    f = Chain([CholeskyFactor(), CholeskyOuterProduct()])
    S, log_det = held(f, z)
    L = np.linalg.cholesky(S)
    i = np.arange(1, D + 1)
    assert np.allclose(np.tril(L, -1)[np.tril_indices(D, -1)], z[[n for n in range(len(z)) if n not in i * (i + 1) // 2 - 1]])
    assert f.codomain.same(sets.positive_definite)
    assert np.isclose(log_det, D * np.log(2) + ((D - i + 2) * np.log(np.diagonal(L))).sum())


@pytest.mark.parametrize("D", FREE)
def test_a_correlation_matrix_is_a_composition(D):
    """Stan, corr_matrix: in partial correlations p_ij = tanh z_ij, i > j, the log-det of prod (1 - p_ij^2)^((D - j + 1)/2)."""
    z = np.linspace(-0.9, 1.1, D * (D - 1) // 2)
    f = Chain([CorrelationCholesky(), CorrelationOuterProduct()])
    R, log_det = held(f, z)
    _, j = np.tril_indices(D, -1)
    assert f.codomain.same(sets.correlation) and np.array_equal(np.diagonal(R), np.ones(D))
    assert np.isclose(log_det, ((D - j) / 2 * np.log(1 - np.tanh(z) ** 2)).sum())
    assert np.allclose(np.linalg.cholesky(R), CorrelationCholesky().forward(z))


def test_the_own_volume_of_correlation_matrices():
    """A correlation r of two numbers moves two entries."""
    f = Chain([CorrelationCholesky(), CorrelationOuterProduct(), IntrinsicVolume("correlation")])
    assert np.isclose(f.log_det([0.3]), np.log1p(-np.tanh(0.3) ** 2) + np.log(2) / 2)
    assert f.codomain.same(sets.correlation.intrinsic)


def test_a_density_on_correlation_matrices():
    """D = 2: the density of r = tanh z, with z normal."""
    flow = Flow(Chain([CorrelationCholesky(), CorrelationOuterProduct()]), StandardNormal(1))
    R = np.array([[1.0, 0.6], [0.6, 1.0]])
    z = np.arctanh(0.6)
    assert np.isclose(flow.log_prob(R), -z**2 / 2 - np.log(2 * np.pi) / 2 - np.log(1 - 0.36))
    assert flow.log_prob(2 * R) == -np.inf
    with pytest.raises(ValueError, match="must be symmetric and positive definite with ones on the diagonal"):
        flow.bijector.inverse(2 * R)


def test_a_correlation_matrix_is_not_any_positive_definite_matrix():
    with pytest.raises(ValueError, match="acts on positive_definite alone, and what arrives is correlation"):
        Chain([CorrelationCholesky(), CorrelationOuterProduct(), Inverse(CholeskyOuterProduct())])


@pytest.mark.parametrize("D", FREE)
def test_inverses_of_factors(D):
    """TensorFlow Probability's log-dets, and its composition S -> S^-1."""
    L, i = CholeskyFactor().forward(FREE[D]), np.arange(1, D + 1)
    X, log_det = TriangularInverse().forward_and_log_det(L)
    assert np.allclose(X @ L, np.eye(D)) and np.isclose(log_det, -(D + 1) * np.log(np.diagonal(L)).sum())
    M, log_det = CholeskyToInverseCholesky().forward_and_log_det(L)
    assert np.allclose(M @ M.T @ L @ L.T, np.eye(D)) and np.allclose(M, np.linalg.cholesky(np.linalg.inv(L @ L.T)))
    sizes = [CholeskyOuterProduct().log_det(A) - (D + 1) * np.log(np.diagonal(A)).sum() for A in (L, M)]
    assert np.isclose(log_det, sizes[0] - sizes[1])
    assert np.allclose(CholeskyToInverseCholesky().forward(M), L) and np.isclose(log_det, (i * np.log(np.diagonal(M) / np.diagonal(L))).sum())


def test_the_factor_of_an_inverse_does_not_square_the_condition():
    """S with the condition 2^60 is singular in floats; the factor, from L, keeps its digits."""
    L = np.array([[1.0, 0.0], [1.0, 2.0**-30]])
    with mpmath.workdps(60):
        S = mpmath.matrix(L.tolist()) * mpmath.matrix(L.tolist()).T
        right = np.array(mpmath.cholesky(S**-1).tolist(), float)
    given = CholeskyToInverseCholesky().forward(L)
    assert np.linalg.norm(given - right) < 1e-15 * np.linalg.norm(right)
    assert np.linalg.matrix_rank(L @ L.T) == 1


@pytest.mark.parametrize("where, D, size", [(sets.positive_definite, 3, 6), (sets.correlation, 3, 3), (sets.correlation, 1, 0)],
                         ids=["positive_definite", "correlation", "one"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda d: d.__name__)
def test_free_numbers_of_matrices(where, D, size, dtype):
    """biject_to is a chain of the pages that the set names, and training moves its free vectors."""
    members = where.draw(RandomSource(np.random.default_rng(0)), (4, D, D), dtype, 1)
    f, leaf = biject_to(where, members), Onto(members, where)
    assert isinstance(f, Chain) and f.codomain.same(where)
    y = leaf.free(members)
    assert y.shape == (4 * size,) and y.dtype == dtype
    again = leaf.constrained(y + 1)
    assert not where.outside(again).any() and again.dtype == dtype
    v_bar, h = np.linspace(-1, 2, again.size).reshape(again.shape), 2.0**-12
    given, wide = leaf.pullback(y, v_bar.astype(dtype)), Onto(members.astype(np.float64), where)
    start = wide.free(members.astype(np.float64))
    slopes = [((wide.constrained(start + h * e) - wide.constrained(start - h * e)) * v_bar).sum() / (2 * h) for e in np.eye(len(y))]
    assert np.allclose(given, slopes, rtol=1e-4, atol=1e-4)


def test_rows_divided_by_their_norms():
    """TensorFlow Probability's example, its inverse log-det, and correlation matrices by this chart."""
    f = RowNormalisedCorrelation()
    L, log_det = f.forward_and_log_det([2.0, 2.0, 1.0])
    assert np.allclose(L, [[1, 0, 0], [0.5**0.5 * 1.2649110640673518, 0.4472135954999579, 0], [2 / 6**0.5, 1 / 6**0.5, 1 / 6**0.5]])
    diagonal = np.diagonal(L)
    assert np.isclose(log_det, (np.arange(2, 5) * np.log(diagonal)).sum())
    assert np.isclose(np.linalg.slogdet(f.square(f.jacobian([2.0, 2.0, 1.0]), np.array([2.0, 2.0, 1.0]), L))[1], log_det)
    held(Chain([f, CorrelationOuterProduct()]), np.array([2.0, 2.0, 1.0]))


def test_matrices_whose_rows_and_columns_sum_to_0():
    """An isometry; the sum over columns after ZeroSum along rows is refused, since what arrives is thin."""
    z = np.array([[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]])
    x, log_det = held(ZeroSumMatrix(), z)
    assert x.shape == (3, 4) and np.allclose(x.sum(0), 0) and np.allclose(x.sum(1), 0)
    assert log_det == 0 and np.isclose((x * x).sum(), (z * z).sum())
    assert np.allclose(x, ZeroSum().forward(ZeroSum().forward(z).T).T)
    with pytest.raises(ValueError, match="what arrives is of lower dimension"):
        Chain([Independent(ZeroSum(), 1), Independent(ZeroSum(), 1)])


def test_a_row_stochastic_matrix_is_a_composition():
    """Each row on the simplex; what arrives is the set simplex with an event axis more."""
    f, z = Independent(StickBreaking(), 1), np.array([[0.3, -0.2], [0.1, 1.0], [-1.0, 0.5], [2.0, 0.0]])
    x, log_det = held(f, z)
    assert x.shape == (4, 3) and np.allclose(x.sum(-1), 1) and f.codomain.same(sets.simplex)
    assert np.isclose(log_det, StickBreaking().log_det(z).sum())
    held(Chain([f, Independent(Permutation([2, 0, 1]), 1)]), z)


# (K-1, n) free numbers; and isometric log-ratios of each column
COLUMNS = {"sticks": Chain([MatrixTranspose(), StickBreaking(), MatrixTranspose()]),
           "isometric": Chain([MatrixTranspose(), Chain([ZeroSum(), Softmax()]), MatrixTranspose()])}


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_stochastic_matrix_is_a_composition(name):
    """Each column is what the map of rows makes of a column of free numbers; the log-det is a finite-difference determinant."""
    f, z = COLUMNS[name], np.array([[0.3, 0.1, -1.0, 2.0], [-0.2, 1.0, 0.5, 0.0]])
    x, log_det = held(f, z)
    column = f.stages[1].inner
    assert x.shape == (3, 4) and np.allclose(x.sum(0), 1) and (x > 0).all()
    assert np.allclose(x.T, [column.forward(v) for v in z.T]) and np.isclose(log_det, sum(column.log_det(v) for v in z.T))
    assert f.domain is sets.real and repr(f.codomain) == "simplex, transposed"
    h = 2.0**-17
    steps = h * np.eye(z.size).reshape(-1, *z.shape)
    J = np.array([(f.forward(z + step) - f.forward(z - step))[:-1].ravel() for step in steps]).T / (2 * h)
    assert np.isclose(np.linalg.slogdet(J)[1], log_det, atol=1e-8)
    rows = Chain([f, MatrixTranspose()])
    assert rows.codomain is sets.simplex and np.array_equal(rows.forward(z), x.T)
    assert Chain([Inverse(f), f]).codomain.same(f.codomain)
    with pytest.raises(ValueError, match="x must have entries >= 0 that sum to 1"):
        f.inverse(1.5 * x)


def test_the_own_volume_of_column_stochastic_matrices():
    """It is that of the coordinates times the root of K for each column, and another measure of the same members."""
    rows, z = [MatrixTranspose(), StickBreaking()], np.array([[0.3, 0.1, 0.5], [-0.2, 1.0, -0.7]])
    charted, own = Chain([*rows, MatrixTranspose()]), Chain([*rows, IntrinsicVolume(), MatrixTranspose()])
    _, log_det = held(own, z)
    assert np.isclose(log_det - charted.log_det(z), 3 * np.log(3) / 2)
    assert own.codomain.measure == "intrinsic" and not own.codomain.same(charted.codomain)


@pytest.mark.parametrize("stages, z, image", [
    ([CholeskyFactor(), CholeskyOuterProduct()], [0.3, -0.2, 0.7], sets.positive_definite),
    ([CorrelationCholesky(), CorrelationOuterProduct()], [0.3, -0.2, 0.7], sets.correlation),
    ([CholeskyFactor(), CholeskyOuterProduct(), IntrinsicVolume("positive_definite")], [0.3, -0.2, 0.7],
     sets.positive_definite.intrinsic),
    ([CayleyOrthogonal(np.eye(3))], [0.3, -0.2, 0.7], sets.turned(np.eye(3))),
    ([CayleyOrthogonal(-np.eye(3))], [0.3, -0.2, 0.7], sets.turned(-np.eye(3))),
    ([ZeroSumMatrix()], [[1.0, -2.0, 0.5], [3.0, 0.25, -1.0]], sets.zero_sum_matrix),
    ([StrictTriangle()], [0.3, -0.2, 0.7], sets.strictly_upper), ([StrictTriangle(), MatrixTranspose()], [0.3, -0.2, 0.7],
                                                                  sets.strictly_lower),
    ([CholeskyFactor()], [0.3, -0.2, 0.7], None), ([CholeskyFactor(), MatrixTranspose()], [0.3, -0.2, 0.7], sets.cholesky_factor)])
def test_transposes_of_sets_of_matrices(stages, z, image):
    f = Chain([*stages, MatrixTranspose()])
    x, log_det = held(f, np.array(z))
    assert np.array_equal(x, Chain(stages).forward(z).T) and np.isclose(log_det, Chain(stages).log_det(z))
    assert repr(f.codomain) == "cholesky_factor, transposed" if image is None else f.codomain.same(image)
    assert f.codomain.first_outside(x) is None


def test_the_transpose_of_a_rotation_is_the_one_back():
    f = Chain([CayleyOrthogonal(np.eye(3)), MatrixTranspose(), Inverse(CayleyOrthogonal(np.eye(3)))])
    z = np.array([0.3, -0.2, 0.7])
    assert np.allclose(f.forward(z), -z) and np.isclose(f.log_det(z), 0)


def test_what_is_transposed_is_another_set():
    with pytest.raises(ValueError, match="IntrinsicVolume acts on simplex alone, and what arrives is simplex, transposed"):
        Chain([Independent(StickBreaking(), 1), MatrixTranspose(), IntrinsicVolume()])
    with pytest.raises(ValueError, match="what arrives is of lower dimension"):
        Chain([Independent(StickBreaking(), 2), Squeeze(), MatrixTranspose()])


def factor_of_stan(z, M, N):
    """(L, log-det) of cholesky_factor_cov[M, N], entry by entry as its manual lays them."""
    L, log_det, position = np.zeros((M, N)), 0.0, 0
    for row in range(N):
        for column in range(row):
            L[row, column] = z[position]
            position += 1
        L[row, row] = np.exp(z[position])
        log_det += z[position]
        position += 1
    for row in range(N, M):
        for column in range(N):
            L[row, column] = z[position]
            position += 1
    assert position == len(z)
    return L, log_det


@pytest.mark.parametrize("M, N", [(1, 1), (4, 1), (4, 2), (5, 3), (3, 3)])
def test_rectangular_factors_are_the_ones_of_stan(M, N):
    z = np.linspace(-0.9, 1.1, N * (N + 1) // 2 + (M - N) * N)
    f = RectangularCholeskyFactor(N)
    L, log_det = held(f, z)
    expected, expected_log_det = factor_of_stan(z, M, N)
    assert np.array_equal(L, expected) and np.isclose(log_det, expected_log_det)
    assert f.codomain.basis(L, 2).shape == (M * N, len(z)) and np.linalg.matrix_rank(L @ L.T) == N
    if M == N:
        assert np.array_equal(L, CholeskyFactor().forward(z)) and log_det == CholeskyFactor().log_det(z)
    h = 2.0**-17
    J = np.array([(f.forward(z + step) - f.forward(z - step))[np.tri(M, N, dtype=bool)] for step in h * np.eye(len(z))]).T / (2 * h)
    assert np.isclose(np.linalg.slogdet(J)[1], log_det, atol=1e-8)


def test_the_set_of_rectangular_factors():
    where = sets.rectangular_cholesky_factor
    members = where.draw(RandomSource(np.random.default_rng(0)), (6, 5, 3))
    f = biject_to(where, members)
    assert f.equals(RectangularCholeskyFactor(3)) and np.allclose(f.forward(f.inverse(members)), members)
    assert where.first_outside(members) is None and where.outside(members.mT).all() and where.outside(-members).all()
    wide = np.eye(3)[:2]
    assert where.outside(wide)
    for wrong in (wide, np.eye(4)[:, :2]):
        with pytest.raises(ValueError, match="must have 3 columns, and at least as many rows"):
            f.inverse(wrong)
    with pytest.raises(ValueError, match="0 above the diagonal and positive on it"):
        f.inverse(-members)
    with pytest.raises(ValueError, match="RectangularCholeskyFactor: columns must be an int >= 1"):
        RectangularCholeskyFactor(0)
    with pytest.raises(ValueError, match="acts on cholesky_factor alone, and what arrives is rectangular_cholesky_factor"):
        Chain([f, CholeskyOuterProduct()])
