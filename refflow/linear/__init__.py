"""Linear maps of vectors."""

from .dense import DenseLinear
from .permutation import Permutation
from .plu import PLULinear
