r"""The normal density with a full covariance, as a flow:

    x = L z,   z ~ N(0, I),   L lower triangular with a positive diagonal           (1)
and with a mean that is linear in a context `c`, as in linear regression:
    x = L z + W c + b                                                               (2)
"""

from __future__ import annotations

import numpy as np

from ..core import Chain, Flow
from ..maps.conditioners import Contextual, Dense
from ..maps.coupling import AdditiveCoupling
from ..maps.densities import StandardNormal
from ..maps.linear import PLULinear


def lower_triangular(L) -> PLULinear:
    """The map (1): L = (the unit lower triangle) diag(L)."""
    D, scale = len(L), np.diag(L).copy()
    return PLULinear(np.arange(D), np.tril(L / scale, -1), np.zeros((D, D)), scale, np.zeros(D))       # (1)


def linear_mean(W, b) -> AdditiveCoupling:
    """The map x = y + W c + b: no entry passes through, so that its network sees the context alone."""
    return AdditiveCoupling(np.zeros(len(b), bool), Contextual(Dense(W, b)))       # (2)


def gaussian(D, rng, context=0) -> Flow:
    """The flow (1) with L = I or, with a context of that many entries, (2) with W = 0 and b = 0 too; to be trained."""
    f = lower_triangular(np.eye(D))                                                 # (1)
    if context:
        f = Chain([f, linear_mean(np.zeros((D, context)), np.zeros(D))])            # (2)
    return Flow(f, StandardNormal(D))
