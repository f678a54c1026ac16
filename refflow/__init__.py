"""refflow: the reference for normalizing flows, in plain NumPy, every inverse, Jacobian and gradient by hand.

    x = f(z),   log p(x) = log pi(z) - log|det dx/dz|

Maps are values with the methods of `refflow.core.Bijector`; `Chain` composes them, `Flow` joins one to a base density.
"""

from __future__ import annotations

from .core import (REGISTRY, Chain, DiagonalNormal, Flow, FullNormal, Independent, Inverse, Logistic, NormalMixture,
                   StandardNormal, Uniform)
from .elementwise import Affine, Exp, NormalCDF, Power, Sigmoid, Softplus, Tanh, WeibullCDF
from .linear import DenseLinear, PLULinear
from .constrained import CorrelationCholesky, StickBreaking
from .normalization import ActNorm
from .shape import Concatenate, Reshape, stack

__version__ = "0.1.0"
__all__ = ["ActNorm", "Affine", "Chain", "Concatenate", "CorrelationCholesky", "DenseLinear", "DiagonalNormal", "Exp",
           "Flow", "FullNormal", "Independent", "Inverse", "Logistic", "NormalCDF", "NormalMixture", "PLULinear", "Power",
           "REGISTRY", "Reshape", "Sigmoid", "Softplus", "StandardNormal", "StickBreaking", "Tanh", "Uniform", "WeibullCDF",
           "stack"]
