r"""What libraries call a constraint, and each library's own bijector from free vectors onto it, in the pages of refflow.

A convention has the library's name, the kind of set, and the stages of the bijector: the names of pages, or functions that make a
stage for a set and its members `like`.  The first convention of a kind is the library's default for sets of this kind.

Two libraries may order the same free numbers differently, or use different bases of a plane.  A stage before the page converts them:
    z = r, row by row,  of free numbers (r_ij, j < i; r_11 .. r_DD)                 the diagonal last               (1)
    z = the lower triangle of (y_m .. y_n, y_n .. y_1) in rows of m                 a triangle as a spiral, n = m(m+1)/2    (2)
    z = r, row by row,  of free numbers r_21 .. r_D1, r_32 .. r_D2, ..              column by column                (3)
    z = Q y,   Q_jk = entry j of ZeroSum^-1(h_k)                                    another basis h_1 .. h_{K-1} of the plane   (4)
    h_k = (1, .., 1, -k, 0, .., 0) / sqrt(k (k + 1))                                Stan's basis, with k ones       (5)
    z_k = y_k + s,   s = y_1 + .. + y_{K-1}                                         softmax of (y, -s)              (6)
    L_ij = exp(t_i) r_ij for j < i,   L_ii = exp t_i            a diagonal times unit triangles         (7)
(6) holds because `softmax(y_1, .., y_{K-1}, -s) = softmax(y_1 + s, .., y_{K-1} + s, 0)`.

Sources: torch 2.13, `biject_to`; Pyro 1.9.2 and NumPyro 0.22, the same; TFP 0.26, the default event space bijectors of
distributions, whose names are the constraints' here; PyMC 5.28, `distributions.transforms`; Stan reference manual 2.36,
"Constraint transforms".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...core import Chain, Independent, Inverse, sets
from .. import found

__all__ = ["CONSTRAINTS", "Convention", "convention_of"]

EXAMPLES = {"above": (2.0, np.inf), "below": (-np.inf, 2.0), "interval": (-1.0, 3.0)}       # of ends


@dataclass(frozen=True)
class Convention:
    """A library's constraint: its name there, the kind of set, and the stages of the bijector, None for free entries."""

    name: str
    kind: str
    stages: tuple | None

    @property
    def has_ends(self):
        return self.kind in EXAMPLES

    def where(self, ends=None):
        """The set; of a kind that has them, with the ends (lower, upper), numbers or arrays."""
        if self.has_ends:
            lower, upper = (np.asarray(end, dtype=float) for end in ends)
            return sets.intervals(lower, upper)
        return OTHERS[self.kind]() if self.kind in OTHERS else getattr(sets, self.kind)

    def example(self, size=3):
        """(ends, the simplest member): a number, a vector of this size, or a matrix of this size in both directions."""
        ends = EXAMPLES.get(self.kind)
        where = self.where(ends)
        shape = SHAPES.get(self.kind, (size,) * where.rank)
        return ends, np.array(where.anchor(shape) if callable(where.anchor) else np.broadcast_to(where.anchor, shape), float)


OTHERS = {"unit": lambda: sets.interval(0, 1), "circle": lambda: sets.interval(-np.pi, np.pi), "row_stochastic": lambda: sets.simplex,
          "column_stochastic": lambda: found("MatrixTranspose")().image_of(sets.simplex)}
SHAPES = {"rectangular_cholesky_factor": (4, 3), "row_stochastic": (2, 3), "column_stochastic": (3, 2)}      # of examples


# -- stages that are made for a set and its members -------------------------------------------------------------------

def reordered(order_of):
    """Free numbers in another order: entry k is number order[k] of the library's, with `order_of(D)` for matrices D x D."""
    return lambda where, like: found("Permutation")(order_of(like.shape[-1]))


def diagonal_last(D):
    rows, columns = np.tril_indices(D)
    return np.argsort(np.argsort(rows == columns, kind="stable"))                   # (1)


def spiral(D):
    m, n = D - 1, D * (D - 1) // 2
    return np.concatenate([np.arange(m, n), np.arange(n)[::-1]]).reshape(m, m)[np.tril_indices(m)]                  # (2)


the_diagonal_last = reordered(diagonal_last)


def by_columns(D):
    rows, columns = np.tril_indices(D, -1)
    return np.argsort(np.lexsort((rows, columns)))                                  # (3)


def softplus_diagonal(where, like):
    """Numbers (r_ij, j < i; r_11 .. r_DD); the last D of them go through log(softplus(r))."""
    D = like.shape[-1]
    log_softplus = Chain([found("Softplus")(), Inverse(found("Exp")())])
    return found("Concatenate")([found("Affine")(), log_softplus], (D * (D - 1) // 2, D)) if D > 1 else log_softplus


def times_the_diagonal(where, like):
    """Numbers r_ij of the strict triangle, row by row, times exp(t_i), for the numbers t_1 .. t_D that follow them."""
    D = like.shape[-1]
    rows, _ = np.tril_indices(D, -1)
    pick = np.zeros((2 * len(rows), D), like.dtype)
    pick[2 * np.arange(len(rows)), rows] = 1                                        # (7)
    scales = found("Dense")(pick, np.zeros(len(pick), like.dtype))
    return found("Coupling")(np.arange(len(rows) + D) >= len(rows), scales, found("affine_family")(found("ExpScale")()), "interleaved")


def in_stans_basis(axis):
    """Vectors along an axis of the last two, by their numbers in the basis (5)."""
    def stage(where, like):
        K = like.shape[axis]
        steps = np.arange(1, K)
        h = (np.tri(K - 1, K) - steps[:, None] * np.eye(K - 1, K, 1)) / np.sqrt(steps * (steps + 1))[:, None]       # (5)
        return found("OrthogonalLinear")(found("ZeroSum")().inverse(h).T.astype(like.dtype))                        # (4)

    return stage


def of_rows(stage):
    return lambda where, like: Independent(stage(where, like), 1)


def against_the_sum(where, like):
    K = like.shape[-1]
    return found("DenseLinear")((np.eye(K - 1) + 1).astype(like.dtype))             # (6)


def reciprocal(where, like):
    return found("Power")(np.asarray(-1, like.dtype))


def from_the_end(where, like):
    return found("Affine")(shift=where.ends_of(like.shape)[0].astype(like.dtype))


def own_volume(where, like):
    return found("IntrinsicVolume")(where.name)


# -- the table --------------------------------------------------------------------------------------------------------

def rows(*conventions):
    return tuple(Convention(name, kind, stages) for name, kind, stages in conventions)


OF_TORCH = rows(
    ("real", "real", None),
    ("positive", "positive", ("Exp",)),
    ("nonnegative", "nonnegative", ("Exp",)),
    ("greater_than", "above", ("HalfLine",)),
    ("greater_than_eq", "above", ("HalfLine",)),
    ("less_than", "below", ("HalfLine",)),
    ("unit_interval", "unit", ("Sigmoid",)),
    ("interval", "interval", ("OpenInterval",)),
    ("half_open_interval", "interval", ("OpenInterval",)),
    ("simplex", "simplex", ("StickBreaking",)),
    ("corr_cholesky", "correlation_cholesky", ("CorrelationCholesky",)))
OF_PYRO = OF_TORCH + rows(
    ("softplus_positive", "positive", ("Softplus",)),
    ("ordered_vector", "increasing", ("Ordered",)),
    ("positive_ordered_vector", "positive_ordered", ("Ordered", "Exp")),
    ("corr_matrix", "correlation", ("CorrelationCholesky", "CorrelationOuterProduct")))
FREE_COVARIANCE = (the_diagonal_last, "CholeskyFactor", "CholeskyOuterProduct")
OF_NUMPYRO = OF_PYRO + rows(
    ("less_than_eq", "below", ("HalfLine",)),
    ("open_interval", "interval", ("OpenInterval",)),
    ("circular", "circle", ("OpenInterval",)),
    ("l1_ball", "l1_ball", ("L1Ball",)),
    ("zero_sum(1)", "zero_sum", ("ZeroSum",)),
    ("zero_sum(2)", "zero_sum_matrix", ("ZeroSumMatrix",)),
    ("lower_cholesky", "cholesky_factor", (the_diagonal_last, "CholeskyFactor")),
    ("softplus_lower_cholesky", "cholesky_factor", (softplus_diagonal, the_diagonal_last, "CholeskyFactor")),
    ("scaled_unit_lower_cholesky", "cholesky_factor",
     (softplus_diagonal, times_the_diagonal, the_diagonal_last, "CholeskyFactor")),
    ("positive_definite", "positive_definite", FREE_COVARIANCE),
    ("positive_semidefinite", "positive_definite", FREE_COVARIANCE))
OF_TFP = rows(
    ("Normal", "real", None),
    ("Gamma", "positive", ("Softplus",)),
    ("LogNormal", "positive", ("Exp",)),
    ("InverseGamma", "positive", ("Softplus", reciprocal)),
    ("HalfCauchy", "above", ("HalfLine",)),
    ("Pareto", "above", ("Softplus", from_the_end)),
    ("Beta", "unit", ("Sigmoid",)),
    ("Uniform", "interval", ("OpenInterval",)),
    ("VonMises", "circle", ("OpenInterval",)),
    ("Dirichlet", "simplex", ("CentredSoftmax", own_volume)),
    ("CholeskyLKJ", "correlation_cholesky", (reordered(spiral), "RowNormalisedCorrelation")),
    ("LKJ", "correlation", (reordered(spiral), "RowNormalisedCorrelation", "CorrelationOuterProduct")))
OF_PYMC = rows(
    ("log", "positive", ("Exp",)),
    ("log_exp_m1", "positive", ("Softplus",)),
    ("logodds", "unit", ("Sigmoid",)),
    ("Interval(lower)", "above", ("HalfLine",)),
    ("Interval(upper)", "below", ("HalfLine",)),
    ("Interval", "interval", ("OpenInterval",)),
    ("ordered", "increasing", ("Ordered",)),
    ("Ordered(positive)", "positive_ordered", ("PositiveOrdered",)),
    ("simplex", "simplex", (against_the_sum, "CentredSoftmax")),
    ("ZeroSumTransform([-1])", "zero_sum", ("ZeroSum",)),
    ("ZeroSumTransform([-2, -1])", "zero_sum_matrix", ("ZeroSumMatrix",)),
    ("CholeskyCovPacked", "cholesky_factor", ("CholeskyFactor",)))
OF_STAN = rows(
    ("real", "real", None),
    ("lower", "above", ("HalfLine",)),
    ("upper", "below", ("HalfLine",)),
    ("lower_upper", "interval", ("OpenInterval",)),
    ("ordered", "increasing", ("Ordered",)),
    ("positive_ordered", "positive_ordered", ("PositiveOrdered",)),
    ("simplex", "simplex", (in_stans_basis(-1), "ZeroSum", "Softmax")),
    ("row_stochastic_matrix", "row_stochastic", (of_rows(in_stans_basis(-1)), "ZeroSum", "Softmax")),
    ("column_stochastic_matrix", "column_stochastic",
     ("MatrixTranspose", in_stans_basis(-2), "ZeroSum", "Softmax", "MatrixTranspose")),
    ("sum_to_zero_vector", "zero_sum", (in_stans_basis(-1), "ZeroSum")),
    ("sum_to_zero_matrix", "zero_sum_matrix",
     (in_stans_basis(-1), "MatrixTranspose", in_stans_basis(-2), "MatrixTranspose", "ZeroSumMatrix")),
    ("cholesky_factor_corr", "correlation_cholesky", ("CorrelationCholesky",)),
    ("corr_matrix", "correlation", (reordered(by_columns), "CorrelationCholesky", "CorrelationOuterProduct")),
    ("cholesky_factor_cov", "cholesky_factor", ("CholeskyFactor",)),
    ("cholesky_factor_cov[M, N]", "rectangular_cholesky_factor", ("RectangularCholeskyFactor",)),
    ("cov_matrix", "positive_definite", ("CholeskyFactor", "CholeskyOuterProduct")))
CONSTRAINTS = {"torch": OF_TORCH, "pyro": OF_PYRO, "numpyro": OF_NUMPYRO, "tfp": OF_TFP, "pymc": OF_PYMC, "stan": OF_STAN}


def kind_of(where):
    """The kind of a set: by its ends, if it has ends of its own, else its name."""
    if where.name.startswith("interval"):
        lower, upper = (np.isfinite(end).all() for end in (where.each or (where.lower, where.upper)))
        ends = {(True, True): "interval", (True, False): "above", (False, True): "below"}
        return ends.get((bool(lower), bool(upper)), where.name)
    return where.name


def convention_of(constraint, library):
    """The convention of a library for a Set or for its own name of a constraint; ValueError if there is none."""
    if library not in CONSTRAINTS:
        raise ValueError(f"biject_to: library must be one of {', '.join(CONSTRAINTS)}, not {library!r}")
    of, wanted = ("name", constraint) if isinstance(constraint, str) else ("kind", kind_of(constraint))
    for convention in CONSTRAINTS[library]:
        if getattr(convention, of) == wanted:
            return convention
    known = dict.fromkeys(getattr(convention, of) for convention in CONSTRAINTS[library])
    raise ValueError(f"biject_to: {library} has no bijector for {wanted}; it has {', '.join(known)}")
