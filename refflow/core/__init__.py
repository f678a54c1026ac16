"""Contract, fields, sets, composition."""

from __future__ import annotations

from .bijector import REGISTRY, Bijector, bijector, over_event, over_positions
from .compose import Chain, Independent, Inverse
from .fields import Array, Value, child, children, plain
from .sets import (constant, context, correlation_cholesky, interval, invertible, nonzero, permutation, positive, real,
                   simplex, strictly_lower, strictly_upper)
from .words import case, halves, join, log_2, log_abs_product
