"""Linear maps of vectors."""

from .dense import DenseLinear
from .plu import PLULinear
