r"""The Gaussian that flows of the command line start from and are held against.

Of the mean and standard deviation of every column and, shrunk where that makes held-out rows more likely, the correlations
C:
    L L^T = (1 - a) C + a I,   a in {0, 0.003, ..., 1}                              (1)
"""

from __future__ import annotations

import math

import numpy as np

from ..core import Chain, Flow
from ..maps.densities import StandardNormal
from ..maps.linear import PLULinear
from ..maps.normalization import ActNorm

SHRINKAGE = (0.0, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
SINGULAR = 1e-10                        # of a column's variance, what the columns before it must leave over
CHUNK = 4096                            # rows whose densities are computed at once


def linear(L) -> PLULinear:
    """x = L z for a lower triangular L."""
    D, scale = len(L), np.diag(L).copy()
    return PLULinear(np.arange(D), np.tril(L / scale, -1), np.zeros((D, D)), scale, np.zeros(D))


def gaussian(D, rng) -> Flow:
    """A normal density with a full covariance, which starts as the identity."""
    return Flow(linear(np.eye(D)), StandardNormal(D))


def standardised(x):
    """[the map from columns of mean 0 and variance 1 to those of x]."""
    return [ActNorm(np.ones(x.shape[1])).inverse_initialised(x, None)]


def correlated(x, shrinkage):
    """[L of (1), the map to the columns of x], None where the columns of x lie in a plane."""
    units = standardised(x)
    t = units[0].inverse(x)
    try:
        L = np.linalg.cholesky((1 - shrinkage) * (t.T @ t) / len(t) + shrinkage * np.eye(x.shape[1]))       # (1)
    except np.linalg.LinAlgError:
        return None
    return [linear(L), *units] if np.diag(L).min() ** 2 > SINGULAR else None


def gaussian_start(x, held_out):
    """The stages of the Gaussian whose shrinkage (1) makes held-out rows most likely; without such rows the smallest."""
    starts = [stages for a in SHRINKAGE if (stages := correlated(x, a)) is not None]
    if held_out is None:
        return starts[0]
    return max(starts, key=lambda stages: log_prob_of(normal(stages), held_out).mean())


def normal(stages) -> Flow:
    return Flow(Chain(stages), StandardNormal(len(stages[-1].scale)))


def log_prob_of(flow, x):
    """The log densities of rows, a part of them at a time."""
    return np.concatenate([flow.log_prob(x[i:i + CHUNK]) for i in range(0, len(x), CHUNK)])


def likelihood(log_prob, D):
    """Mean log-likelihood of rows in nats, and bits for each column."""
    mean = float(np.mean(log_prob))
    return {"nats": mean, "bits_per_dim": -mean / (D * math.log(2))}
