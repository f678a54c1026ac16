"""Sets: the domains of events and the constraints of fields, one object for both; see `membership`."""

from __future__ import annotations

from .blocks import contains, product, reshaped
from .bounded_sums import l1_ball, subsimplex, what_is_left
from .constants import anything, constant, context, permutation, sequence_mask
from .correlation import correlation_cholesky
from .correlation_matrices import correlation
from .definite import positive_definite
from .invertible import invertible, orthogonal, turned
from .membership import EXPONENTS, Set
from .numbers import below, extended_real, interval, intervals, nonnegative, nonzero, positive, real
from .positive_ordered_vectors import positive_ordered
from .rectangular_factors import rectangular_cholesky_factor
from .simplexes import simplex, zero_sum
from .spheres import sphere
from .triangular import cholesky_factor, strictly_lower, strictly_upper
from .vectors import increasing, nonzero_bank, nonzero_matrix, nonzero_vector
from .zero_sum_matrices import zero_sum_matrix

# by coordinates and by own volume
TWICE_MEASURED = {where.name: where.charted for where in (simplex, correlation_cholesky, zero_sum, positive_definite, correlation)}
