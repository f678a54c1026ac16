"""Maps onto constrained sets: the simplex, Cholesky factors of correlation matrices."""

from .. import offered

__getattr__, __all__ = offered(__name__)
