"""Maps onto constrained sets: the simplex, Cholesky factors of correlation matrices."""

from .correlation_cholesky import CorrelationCholesky
from .stick_breaking import StickBreaking
