"""Layers and masks from a `Source`: used to draw pages with components."""

from __future__ import annotations

from .conv1d import Conv1d
from .conv2d import Conv2d
from .dense import Dense
from .gelu import GELU
from .relu import ReLU
from .silu import SiLU
from .softplus_activation import SoftplusActivation
from .tanh_activation import TanhActivation

ACTIVATIONS = (ReLU, TanhActivation, GELU, SiLU, SoftplusActivation)
WIDTHS = (1, 2, 2, 3)
LEAST = -4                      # weights of 2^-4 and more


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


def split(source, least=1):
    """(mask, number of entries that pass, number that do not), with at least the given number of the latter."""
    size = source.count(least + 1, 3)
    passing = source.count(1, size - least)
    return source.orders((size,)) < passing, passing, size - passing
