"""Layers and masks from a `Source`: used to draw pages with components."""

from __future__ import annotations

import numpy as np

from .conv1d import Conv1d
from .conv2d import Conv2d
from .dense import Dense
from .gelu import GELU
from .masked_dense import MaskedDense
from .relu import ReLU
from .silu import SiLU
from .softplus_activation import SoftplusActivation
from .tanh_activation import TanhActivation

ACTIVATIONS = (ReLU, TanhActivation, GELU, SiLU, SoftplusActivation)
WIDTHS = (1, 2, 2, 3)
LEAST = -4                      # weights of 2^-4 and more
SECOND_OF_TWO = [[False, False], [True, False]] * 2     # two outputs for each of two entries; the second sees the first
CIRCLE = [[False, True, False, False, False], [False, False, True, True, False], [False, False, True, False, False],
          [False, False, False, False, True], [False, True, False, False, False]]      # 1 on 3 on 4 on 1, before 0, after 2


def weights(source, shape, high=0):
    return source.signed(shape, min(LEAST, high - 4), high)


def dense(source, rows, columns, high=0):
    """A dense layer with weights and biases up to 2^high."""
    return Dense(weights(source, (rows, columns), high), weights(source, (rows,), high))


def convolution(source, outputs, inputs):
    """A convolution with kernels of 1 x 1 pixels."""
    return Conv2d(weights(source, (outputs, inputs, 1, 1)), weights(source, (outputs,)))


def signal_convolution(source, outputs, inputs, size):
    """A convolution of signals with kernels of `size` entries."""
    return Conv1d(weights(source, (outputs, inputs, size)), weights(source, (outputs,)))


def activation(source):
    return source.choice(ACTIVATIONS)()


def after(order, layout="halves"):
    """A masked layer with two outputs for each of three entries, which see only the entries before it in the order."""
    place, repeated = np.argsort(order), {"halves": np.tile, "interleaved": np.repeat}[layout]
    own, W = repeated(place, 2), np.cos(np.arange(18)).reshape(6, 3)
    return MaskedDense(W, own[:, None] > place, W[:, 0])


def split(source, least=1):
    """(mask, number of entries that pass, number that do not, at least `least`)."""
    size = source.count(least + 1, 3)
    passing = source.count(1, size - least)
    return source.orders((size,)) < passing, passing, size - passing
