"""Contract, declarations, sets, composition."""

from __future__ import annotations

from .arithmetic import exact_product, exact_sum, log_abs_product
from .bijector import Bijector, bijector, over_event
from .boundary import over_positions
from .compose import Chain, Independent, Inverse
from .conditioner import Conditioner, conditioner
from .declarations import Array, child, children, plain
from .density import Density, density
from .flow import Flow
from .pairs import chosen, pair, stacked
from .registry import REGISTRY, chapter, has_components, of_kind
from .sets import (cholesky_factor, constant, context, correlation_cholesky, extended_real, increasing, interval, invertible,
                   nonzero, orthogonal, permutation, positive, real, sequence_mask, simplex, strictly_lower, strictly_upper)
from .source import Plainest, RandomSource, Source
from .values import Value
from .words import case, halves, join, log_2, refusal
