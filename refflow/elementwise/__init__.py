"""Maps of one number."""

from .affine import Affine
from .exp import Exp
from .power import Power
from .sigmoid import Sigmoid
from .softplus import Softplus
from .tanh import Tanh
