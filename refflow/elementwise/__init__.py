"""Maps of one number."""

from .affine import Affine
from .tanh import Tanh
