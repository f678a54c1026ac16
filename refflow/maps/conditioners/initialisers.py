r"""Initial weights, drawn with an explicit Generator.

For an array of shape `(n_out, n_in, *kernel)`,
    fan_in = n_in prod(kernel)     fan_out = n_out prod(kernel)                     (1)
    uniform             U(-bound, bound)                                            (2)
    kaiming_normal      N(0, 2 / fan_in)                                            (3)
    kaiming_uniform     U(-bound, bound),   bound = (6 / fan_in)^(1/2)              (4)
    xavier_normal       N(0, 2 / (fan_in + fan_out))                                (5)
    xavier_uniform      U(-bound, bound),   bound = (6 / (fan_in + fan_out))^(1/2)  (6)
`U(-bound, bound)` has variance `bound^2/3`, so (3) and (4) have the same variance, and so do (5) and (6).  Kaiming's keeps
the second moment of activations constant from layer to layer after ReLU, whose output has half the second moment of its input;
Xavier's is the compromise between doing so forwards and backwards if the activation is near the identity.

Source: (3) (4) He, Zhang, Ren & Sun, arXiv:1502.01852, section 2.2; (5) (6) Glorot & Bengio, AISTATS 2010, section 4.2.1.
"""

from __future__ import annotations

import math

import numpy as np

from ...core.arrays import FLOATS

__all__ = ["kaiming_normal", "kaiming_uniform", "uniform", "xavier_normal", "xavier_uniform", "zero"]


def fans(shape):
    """(fan_in, fan_out).  ValueError for fewer than two axes."""
    if len(shape) < 2:
        raise ValueError(f"initialisers: shape must be (out, in, *kernel), not {tuple(shape)}")
    kernel = math.prod(shape[2:])
    if shape[1] * kernel == 0:
        return 1, 1                                                                 # there is nothing to draw
    return shape[1] * kernel, shape[0] * kernel                                     # (1)


def checked(rng, dtype):
    if not isinstance(rng, np.random.Generator):
        raise ValueError(f"initialisers: rng must be a numpy.random.Generator, not {type(rng).__name__}")
    if np.dtype(dtype) not in FLOATS:
        raise ValueError(f"initialisers: dtype must be float32 or float64, not {np.dtype(dtype)}")


def uniform(rng, shape, bound, dtype=np.float64):
    """U(-bound, bound)."""
    checked(rng, dtype)
    if not 0 <= bound < math.inf:
        raise ValueError(f"uniform: bound must be finite and >= 0, not {bound!r}")
    return rng.uniform(-bound, bound, shape).astype(dtype)                          # (2)


def normal(rng, shape, std, dtype):
    checked(rng, dtype)
    return (std * rng.standard_normal(shape)).astype(dtype)


def kaiming_normal(rng, shape, dtype=np.float64):
    """N(0, 2 / fan_in)."""
    return normal(rng, shape, math.sqrt(2 / fans(shape)[0]), dtype)                 # (3)


def kaiming_uniform(rng, shape, dtype=np.float64):
    """U(-bound, bound), bound = sqrt(6 / fan_in)."""
    return uniform(rng, shape, math.sqrt(6 / fans(shape)[0]), dtype)                # (4)


def xavier_normal(rng, shape, dtype=np.float64):
    """N(0, 2 / (fan_in + fan_out))."""
    return normal(rng, shape, math.sqrt(2 / sum(fans(shape))), dtype)               # (5)


def xavier_uniform(rng, shape, dtype=np.float64):
    """U(-bound, bound), bound = sqrt(6 / (fan_in + fan_out))."""
    return uniform(rng, shape, math.sqrt(6 / sum(fans(shape))), dtype)              # (6)


def zero(rng, shape, dtype=np.float64):
    """0: at the start, the layer's output is its bias."""
    checked(rng, dtype)
    return np.zeros(shape, dtype)
