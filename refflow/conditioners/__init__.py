"""Conditioners: the networks that parameterise couplings and autoregressive maps."""

from .activations import GELU, ReLU, SiLU, SoftplusActivation, TanhActivation
from .bijector_layer import BijectorLayer
from .concatenated_relu import ConcatenatedReLU
from .contextual import Contextual
from .conv2d import Conv2d
from .dense import Dense
from .dropout import Dropout
from .image_context import ImageContext
from .initialisers import kaiming_normal, kaiming_uniform, uniform, xavier_normal, xavier_uniform, zero
from .layer_norm import LayerNorm
from .network import dense_network
from .residual import Residual
from .sequential import Sequential
from .skip_sum import SkipSum
from .weight_norm import WeightNormDense
from .weight_norm_conv2d import WeightNormConv2d

__all__ = ["BijectorLayer", "ConcatenatedReLU", "Contextual", "Conv2d", "Dense", "Dropout", "GELU", "ImageContext",
           "LayerNorm", "ReLU", "Residual", "Sequential", "SiLU", "SkipSum", "SoftplusActivation", "TanhActivation",
           "WeightNormConv2d", "WeightNormDense", "dense_network", "kaiming_normal", "kaiming_uniform", "uniform",
           "xavier_normal", "xavier_uniform", "zero"]
