r"""The Gaussians that a flow starts from, and the Gaussians that it is compared with.

For rows: a Gaussian with the mean and standard deviation of every column and with the correlations C, shrunk if that makes
held-out rows more likely:
    L L^T = (1 - a) C + a I,   a in {0, 0.003, ..., 1}                              (1)
For rows with a context c, linear regression: C is the covariance of what a linear function of c leaves of the columns, in units
of their standard deviations, and in place of I stands its diagonal:
    y = W c + b + L eps                                                             (2)

For images of at most FULL entries: the same.  For larger images: a Gaussian that predicts every entry from the entries
before it, in the order of rows, columns and channels, with weights w that are the same at all positions i; m is the mean of
a channel, and also the value outside the image:
    y_ci = m_c + sum_n w_cn (y_n - m_n) + e,   e ~ N(0, s_c^2)                      (3)
where n runs over all channels of the pixels BEFORE i, and over the channels before c at i.  Its Jacobian dy/de has
determinant 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..core import Chain, Flow
from ..core.arrays import parts
from ..fast.flows import in_parts
from ..maps.densities import StandardNormal
from ..maps.normalization import ActNorm
from ..models.gaussian import linear_mean, lower_triangular

SHRINKAGE = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
# Of a number of the size of a column's largest one, in units of u = eps/2: 1 for its rounding, 2 for the difference from the mean and the
# quotient, and up to 5 for the mean and the sums.  Columns that are exact sums, up to 40 of up to 10^6 rows, have reached 1.3 eps.
ROUNDING = 4 * np.finfo(np.float64).eps
SINGULAR = 1e-10                        # the share of a column's variance that the columns before it must leave unexplained
FULL = 512
BEFORE = ((0, -1), (0, -2), (-1, -2), (-1, -1), (-1, 0), (-1, 1), (-1, 2), (-2, -1), (-2, 0), (-2, 1))     # (rows, columns)


# -- rows -------------------------------------------------------------------------------------------------------------

def standardised(x):
    """[the map from columns of mean 0 and variance 1 to the columns of x]."""
    return [ActNorm(np.ones(x.shape[1])).inverse_initialised(x, None)]


def correlated(x, shrinkage, context=None):
    """[L of (1), with a context the map of (2), the map to the columns of x], or None if the rows of x lie in a hyperplane."""
    units, mean = standardised(x), []
    t, diagonal = units[0].inverse(x), np.eye(x.shape[1])
    if context is not None:
        mean = [regression(t, context)]                                             # (2)
        t = mean[0].at(context=context).inverse(t)
        diagonal = np.diag((t * t).mean(0))
    try:
        L = np.linalg.cholesky((1 - shrinkage) * (t.T @ t) / len(t) + shrinkage * diagonal)         # (1)
    except np.linalg.LinAlgError:
        return None
    return [lower_triangular(L), *mean, *units] if np.diag(L).min() ** 2 > SINGULAR else None


def regression(t, context):
    """The map y = e + W c + b of the smallest sum of squares of e."""
    one = np.ones((len(t), 1))
    found = np.linalg.lstsq(np.concatenate([context, one], 1), t, rcond=None)[0].T
    return linear_mean(found[:, :-1].copy(), found[:, -1].copy())                   # (2)


@dataclass(frozen=True)
class Dependent:
    """A column that is a linear function of columns `of` before it: up to rounding if `exact`, with slope 1 if `equal`."""

    column: int
    of: list
    exact: bool
    equal: bool


def dependent_column(x) -> Dependent | None:
    """The first column of x that the columns before it determine up to SINGULAR of its variance, or None."""
    if correlated(x, 0) is not None:
        return None
    t = standardised(x)[0].inverse(x)
    left = np.diag(np.linalg.qr(t, mode="r")) ** 2 / len(t)
    j = int(np.argmax(left <= SINGULAR)) if (left <= SINGULAR).any() else len(left)
    if not 0 < j < t.shape[1]:
        return None
    w = np.linalg.lstsq(t[:, :j], t[:, j], rcond=None)[0]
    size = np.abs(x).max(0) / x.std(0)
    rounding = ROUNDING * (size[j] + np.abs(w) @ size[:j])
    of = [int(k) for k in np.flatnonzero(np.abs(w) > max(1e-6, rounding))]
    exact = np.sqrt(np.mean((t[:, j] - t[:, :j] @ w) ** 2)) <= rounding
    return Dependent(j, of, bool(exact), len(of) == 1 and np.array_equal(x[:, j], x[:, of[0]]))


def gaussian_start(x, held_out, context=None, held_out_context=None):
    """The stages of the Gaussian whose shrinkage (1) makes held-out rows most likely; without such rows, the smallest one."""
    starts = [stages for a in SHRINKAGE if (stages := correlated(x, a, context)) is not None]
    if held_out is None:
        return starts[0]
    return max(starts, key=lambda stages: log_probs(normal(stages), held_out, held_out_context).mean())


def log_probs(flow, x, context=None):
    """log p(x_i), or log p(x_i | c_i), of each row."""
    if context is None:
        return in_parts(flow.log_prob, flow, x)
    return in_parts(lambda x, c: flow.at(context=c).log_prob(x), flow, x, context)


def normal(stages) -> Flow:
    return Flow(Chain(stages), StandardNormal(len(stages[-1].scale)))


# -- images -----------------------------------------------------------------------------------------------------------

def gaussian_of_images(train, held_out):
    """(log density of images, or None if an entry is constant; a description of the Gaussian)."""
    if train[0].size > FULL:
        density = neighbours(train.astype(np.float64))
        return lambda y: density.log_prob(y.astype(np.float64)), "linear prediction from neighbours"
    if not np.ptp(train, 0).all():
        return None, "there is none: an entry is constant"

    def rows(y):
        return y.reshape(len(y), -1).astype(np.float64)

    density = normal(gaussian_start(rows(train), None if held_out is None else rows(held_out)))
    return lambda y: density.log_prob(rows(y)), "a shrunk covariance"


@dataclass(frozen=True)
class Neighbours:
    """(3): `means` and `variances` of the channels, `weights` a list of vectors."""

    means: np.ndarray
    weights: list
    variances: np.ndarray

    def log_prob(self, y):
        total = 0.0
        for c, (w, variance) in enumerate(zip(self.weights, self.variances)):
            predictors, entry = predictors_of(y, self.means, c)
            e = entry - predictors @ w                                              # (3)
            total = total - (e * e / variance + math.log(2 * math.pi * variance)).sum((1, 2)) / 2      # (3)
        return total


def predictors_of(y, means, c):
    """((N, H, W, n), (N, H, W)): y_n - m of (3), and y_c - m_c."""
    d = y - means[:, None, None]
    _, C, H, W = d.shape
    padded = np.pad(d, ((0, 0), (0, 0), (2, 0), (2, 2)))
    shifted = [padded[:, k, 2 + i:2 + i + H, 2 + j:2 + j + W] for k in range(C) for i, j in BEFORE]
    return np.stack(shifted + [d[:, k] for k in range(c)], -1), d[:, c]


def neighbours(y):
    """The Gaussian of (3) that makes images y most likely."""
    means, weights, variances = y.mean((0, 2, 3)), [], []
    for c in range(y.shape[1]):
        gram, products, squares = 0.0, 0.0, 0.0
        for part in parts(y):
            predictors, entry = predictors_of(part, means, c)
            F, t = predictors.reshape(-1, predictors.shape[-1]), entry.ravel()
            gram, products, squares = gram + F.T @ F, products + F.T @ t, squares + t @ t
        w = np.linalg.lstsq(gram, products, rcond=None)[0]
        weights.append(w)
        variances.append((squares - 2 * w @ products + w @ gram @ w) / (y.size // y.shape[1]))
    return Neighbours(means, weights, np.array(variances))
