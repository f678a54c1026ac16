"""The bijectors of libraries: names, ends, and Stan's formulas, which no library is installed for."""

import numpy as np
import pytest

from refflow.core import sets
from refflow.maps.constrained.biject_to import biject_to
from refflow.maps.constrained.conventions import CONSTRAINTS

EVERY = [(library, convention) for library, of in CONSTRAINTS.items() for convention in of]
NAMES = [f"{library} {convention.name}" for library, convention in EVERY]
RNG = np.random.default_rng(0)


def of_stan(name, like, ends=None):
    return biject_to(name, np.asarray(like, dtype=float), "stan", ends)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize(("library", "convention"), EVERY, ids=NAMES)
def test_every_bijector_reaches_its_set(library, convention, dtype):
    """The log-det too: it is the logarithm of the ratio of volumes, by differences."""
    ends, like = convention.example()
    f = biject_to(convention.name, like.astype(dtype), library, ends)
    if f is None:
        assert convention.kind == "real"
        return
    z = f.inverse(like.astype(dtype)) + RNG.uniform(-0.5, 0.5, f.inverse(like).shape).astype(dtype)
    x, where = f.forward(z), convention.where(ends)
    assert x.dtype == dtype and where.members(x, f.event_ndim[1]).all() and f.codomain.members(x, f.event_ndim[1]).all()
    assert np.abs(f.inverse(x) - z).max() < (1e-13 if dtype == "float64" else 1e-4)
    if dtype == "float64":
        step, flat = 1e-6, z.reshape(-1)
        if f.event_ndim[0] == 0:
            slope = (f.forward(z + step) - f.forward(z - step)) / (2 * step)
            assert np.abs(np.log(np.abs(slope)) - f.log_det(z)).max() < 1e-8
            return
        moved = [(f.forward((flat + e).reshape(z.shape)) - f.forward((flat - e).reshape(z.shape))).reshape(-1) / (2 * step)
                 for e in step * np.eye(flat.size)]
        square = f.codomain.dual_basis(x, f.event_ndim[1]).mT @ np.stack(moved, -1)
        assert abs(np.linalg.slogdet(square)[1] - f.log_det(z)) < 1e-8


def test_the_set_of_a_library_is_its_first_constraint_of_this_kind():
    third = np.full(3, 1 / 3)
    assert repr(biject_to(sets.simplex, third, "numpyro")) == "StickBreaking()"
    assert repr(biject_to(sets.simplex, third, "tfp")) == "Chain(stages=[CentredSoftmax(), IntrinsicVolume(where='simplex')])"
    assert repr(biject_to(sets.positive, np.ones(2), "tfp")) == "Softplus()"
    assert repr(biject_to(sets.positive, np.ones(2), "pymc")) == "Exp()"
    assert biject_to(sets.real, np.ones(2), "stan") is None


@pytest.mark.parametrize("library", [name for name in CONSTRAINTS if name != "tfp"])
def test_ends_may_be_arrays(library):
    like = np.array([0.5, 3.0, -1.0])
    lower, upper = np.array([0.0, 2.0, -4.0]), np.array([1.0, 4.0, 0.0])
    z = np.array([-1.0, 0.0, 2.0])
    sigmoid = 1 / (1 + np.exp(-z))
    between = biject_to(sets.intervals(lower, upper), like, library)
    assert np.allclose(between.forward(z), lower + (upper - lower) * sigmoid, rtol=1e-15)
    above = biject_to(sets.intervals(lower, np.full(3, np.inf)), like, library)
    assert np.allclose(above.forward(z), lower + np.exp(z), rtol=1e-15)
    below = biject_to(sets.intervals(np.full(3, -np.inf), upper), like, library)
    assert np.allclose(below.forward(z), upper - np.exp(z), rtol=1e-14)
    name = next(convention.name for convention in CONSTRAINTS[library] if convention.kind == "interval")
    assert np.array_equal(biject_to(name, like, library, ends=(lower, upper)).forward(z), between.forward(z))
    assert np.array_equal(biject_to(name, like, library, ends=(-5, upper)).inverse(like) > 0, like > (upper - 5) / 2)


def test_what_is_refused():
    third = np.full(3, 1 / 3)
    for arguments, said in ((("simplex", third), "library must say whose constraint 'simplex' is"),
                            (("simplex", third, "jax"), "library must be one of torch, pyro, numpyro, tfp, pymc, stan, not 'jax'"),
                            (("simplx", third, "torch"), "torch has no bijector for simplx; it has real, positive"),
                            ((sets.sphere, third, "stan"), "stan has no bijector for sphere; it has real, above"),
                            (("interval", third, "torch"), "'interval' of torch needs ends"),
                            (("simplex", third, "torch", (0, 1)), "'simplex' of torch has no ends"),
                            (("simplex", 2 * third, "torch"), "biject_to: like must"),
                            (("greater_than", third, "torch", (0.5, np.inf)), r"biject_to: like must be in .*; like\[0\]")):
        with pytest.raises(ValueError, match=said):
            biject_to(*arguments)


# -- Stan: the formulas of its manual, line by line ---------------------------------------------------------------------

def sum_to_zero(y):
    """From the last number to the first: each is spread over the entries before its own, and taken from its own."""
    x, total = np.zeros(len(y) + 1), 0.0
    for n in range(len(y), 0, -1):
        w = y[n - 1] / np.sqrt(n * (n + 1))
        total += w
        x[n - 1] += total
        x[n] -= w * n
    return x


def test_stans_vectors_that_sum_to_zero():
    y = RNG.normal(size=4)
    f = of_stan("sum_to_zero_vector", np.zeros(5))
    assert np.abs(f.forward(y) - sum_to_zero(y)).max() < 1e-15 and abs(f.log_det(y)) < 1e-15


def test_stans_simplex():
    y = RNG.normal(size=4)
    z = sum_to_zero(y)
    f = of_stan("simplex", np.full(5, 0.2))
    log_sum = np.log(np.exp(z).sum())
    assert np.abs(f.forward(y) - np.exp(z - log_sum)).max() < 1e-15
    assert abs(f.log_det(y) - (-5 * log_sum + 0.5 * np.log(5))) < 1e-14


def test_stans_ordered_vectors():
    y = RNG.normal(size=4)
    x = np.cumsum([y[0], *np.exp(y[1:])])
    f = of_stan("ordered", np.arange(4.0))
    assert np.abs(f.forward(y) - x).max() < 1e-15 and abs(f.log_det(y) - y[1:].sum()) < 1e-15
    f = of_stan("positive_ordered", np.arange(1.0, 5.0))
    assert np.abs(f.forward(y) - np.cumsum(np.exp(y))).max() < 1e-15 and abs(f.log_det(y) - y.sum()) < 1e-15


def factor_of_correlation(z):
    """Row by row: x_ij = z_ij sqrt(1 - sum_(j' < j) x_ij'^2)."""
    D = len(z)
    x = np.zeros((D, D))
    for i in range(D):
        for j in range(i):
            x[i, j] = z[i, j] * np.sqrt(1 - (x[i, :j] ** 2).sum())
        x[i, i] = np.sqrt(1 - (x[i, :i] ** 2).sum())
    return x


def log_det_of_factor(z, x):
    """sum_(j < i) log sqrt(1 - sum_(j' < j) x_ij'^2) + log(1 - z_ij^2)."""
    pairs = [(i, j) for i in range(len(x)) for j in range(i)]
    return sum(0.5 * np.log(1 - (x[i, :j] ** 2).sum()) + np.log(1 - z[i, j] ** 2) for i, j in pairs)


def test_stans_correlations():
    D, y = 4, RNG.normal(size=6)
    rows, columns = np.tril_indices(D, -1)
    z = np.zeros((D, D))
    z[rows, columns] = np.tanh(y)
    x, f = factor_of_correlation(z), of_stan("cholesky_factor_corr", np.eye(D))
    assert np.abs(f.forward(y) - x).max() < 1e-14 and abs(f.log_det(y) - log_det_of_factor(z, x)) < 1e-13
    pairs = [(i, j) for j in range(D) for i in range(j + 1, D)]                    # column by column
    z = np.zeros((D, D))
    z[tuple(np.transpose(pairs))] = np.tanh(y)
    x, f = factor_of_correlation(z), of_stan("corr_matrix", np.eye(D))
    assert np.abs(f.forward(y) - x @ x.T).max() < 1e-14
    canonical = sum((D - j - 2) * np.log(1 - z[i, j] ** 2) for i, j in pairs) / 2      # of partial correlations, j from 0
    assert abs(f.log_det(y) - canonical - np.log(1 - np.tanh(y) ** 2).sum()) < 1e-13


def test_stans_covariances():
    D, y = 3, RNG.normal(size=6)
    L = np.zeros((D, D))
    L[np.tril_indices(D)] = y
    diagonal = np.diagonal(L)
    L = np.tril(L, -1) + np.diag(np.exp(diagonal))
    f = of_stan("cholesky_factor_cov", np.eye(D))
    assert np.abs(f.forward(y) - L).max() < 1e-15 and abs(f.log_det(y) - diagonal.sum()) < 1e-15
    f = of_stan("cov_matrix", np.eye(D))
    k = np.arange(1, D + 1)
    assert np.abs(f.forward(y) - L @ L.T).max() < 1e-14
    assert abs(f.log_det(y) - (D * np.log(2) + ((D - k + 2) * diagonal).sum())) < 1e-14


def test_stans_stochastic_matrices():
    """Rows, or columns, are simplexes; the log-dets add up."""
    y, one = RNG.normal(size=(2, 3)), of_stan("simplex", np.full(4, 0.25))
    rows = of_stan("row_stochastic_matrix", np.full((2, 4), 0.25))
    assert np.abs(rows.forward(y) - one.forward(y)).max() < 1e-15 and abs(rows.log_det(y) - one.log_det(y).sum()) < 1e-13
    columns = of_stan("column_stochastic_matrix", np.full((4, 2), 0.25))
    assert np.abs(columns.forward(y.T) - one.forward(y).T).max() < 1e-15
    assert abs(columns.log_det(y.T) - one.log_det(y).sum()) < 1e-13


def test_stans_matrices_that_sum_to_zero():
    """The vector's map along rows, then along columns."""
    y = RNG.normal(size=(2, 3))
    x = np.apply_along_axis(sum_to_zero, 0, np.apply_along_axis(sum_to_zero, 1, y))
    f = of_stan("sum_to_zero_matrix", np.zeros((3, 4)))
    assert np.abs(f.forward(y) - x).max() < 1e-15 and abs(f.log_det(y)) < 1e-14
