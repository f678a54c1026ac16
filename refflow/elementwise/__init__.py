"""Maps of one number."""

from .affine import Affine
from .exp import Exp
from .normal_cdf import NormalCDF
from .power import Power
from .sigmoid import Sigmoid
from .softplus import Softplus
from .tanh import Tanh
from .weibull_cdf import WeibullCDF

__all__ = ["Affine", "Exp", "NormalCDF", "Power", "Sigmoid", "Softplus", "Tanh", "WeibullCDF"]
