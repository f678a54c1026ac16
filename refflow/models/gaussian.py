r"""The normal density with a full covariance, as a flow:

    x = L z,   z ~ N(0, I),   L lower triangular with a positive diagonal           (1)
"""

from __future__ import annotations

import numpy as np

from ..core import Flow
from ..maps.densities import StandardNormal
from ..maps.linear import PLULinear


def lower_triangular(L) -> PLULinear:
    """The map (1): L = (the unit lower triangle) diag(L)."""
    D, scale = len(L), np.diag(L).copy()
    return PLULinear(np.arange(D), np.tril(L / scale, -1), np.zeros((D, D)), scale, np.zeros(D))       # (1)


def gaussian(D, rng) -> Flow:
    """The flow (1) with L = I, to be trained."""
    return Flow(lower_triangular(np.eye(D)), StandardNormal(D))
