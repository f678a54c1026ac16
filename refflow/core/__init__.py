"""Contract, fields, sets, composition."""

from __future__ import annotations

from .bases import DiagonalNormal, FullNormal, Logistic, NormalMixture, StandardLogistic, StandardNormal, Uniform
from .bijector import COMPOSITIONS, REGISTRY, Bijector, bijector, over_event, over_positions
from .compose import Chain, Independent, Inverse
from .conditioner import CONDITIONERS, Conditioner, conditioner
from .density import DENSITIES, Density, density
from .fields import Array, Value, child, children, plain
from .flow import Flow
from .sets import (cholesky_factor, constant, context, correlation_cholesky, extended_real, interval, invertible, nonzero,
                   orthogonal, permutation, positive, real, simplex, strictly_lower, strictly_upper)
from .words import case, halves, join, log_2, log_abs_product
