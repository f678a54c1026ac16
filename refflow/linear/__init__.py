"""Linear maps of vectors."""

from .dense import DenseLinear
from .orthogonal import OrthogonalLinear
from .permutation import Permutation
from .plu import PLULinear
from .pointwise import Pointwise
from .transposed import Transposed
