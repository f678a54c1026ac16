"""Conditioners: the networks that parameterise couplings and autoregressive maps."""

from .activations import GELU, ReLU, SiLU, SoftplusActivation, TanhActivation
from .contextual import Contextual
from .dense import Dense
from .dropout import Dropout
from .initialisers import kaiming_normal, kaiming_uniform, uniform, xavier_normal, xavier_uniform, zero
from .layer_norm import LayerNorm
from .network import dense_network
from .residual import Residual
from .sequential import Sequential
from .weight_norm import WeightNormDense

__all__ = ["Contextual", "Dense", "Dropout", "GELU", "LayerNorm", "ReLU", "Residual", "Sequential", "SiLU",
           "SoftplusActivation", "TanhActivation", "WeightNormDense", "dense_network", "kaiming_normal", "kaiming_uniform",
           "uniform", "xavier_normal", "xavier_uniform", "zero"]
