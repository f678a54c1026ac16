r"""The networks of VITS' stochastic duration predictor: compositions of pages for signals `(C, T)`.

With `*` a convolution, `W_i` a depthwise one of `K` entries and dilation `K^i`, `i = 0, 1, ...`, `P`, `P_i`, `P'` with kernels of
one entry, LN the normalisation of the channels at each position, and every layer with the same sequence mask,
    x_(i+1) = x_i + dropout(gelu(LN(P_i * gelu(LN(W_i * x_i)))))                    (1)
    h = P' * x_n,   x_0 = P * a + c,   where the context c is a signal, or 0        (2)
At the start, weights and biases of a layer with fan-in `f` (`initialisers.py`) are drawn as in PyTorch:
    U(-bound, bound),   bound = f^(-1/2)                                            (3)
but `P' = 0` in a coupling, which is then the spline of equal bins.

Dropout is left out as the networks are built; `with_dropout` of `speech_networks.py` puts it in.

Source: Kim, Kong & Son, arXiv:2106.06103, appendix, and their code.
"""

from __future__ import annotations

import numpy as np

from .added_signal import AddedSignal
from .depthwise_conv1d import DepthwiseConv1d
from .dropout import Dropout
from .gelu import GELU
from .layer_norm import LayerNorm
from .positionwise import Positionwise
from .residual import Residual
from .sequential import Sequential
from .speech_networks import Drawn

__all__ = ["separable_network"]

NORM_EPS = 1e-5


def separable_network(rng, inputs, channels, outputs, kernel=3, layers=3, context=False, zero=False, dtype=np.float64):
    """(2): from (inputs, T) to (outputs, T) through `layers` residual layers (1) of `channels` channels.

    `context`: a signal (channels, T) is added, filled in by `at(context=...)`; `zero`: the output starts at 0.
    """
    draw = Drawn("separable_network", rng, dtype)
    draw.counts(inputs=inputs, channels=channels, outputs=outputs, kernel=kernel, layers=layers)
    first = [draw.plain(channels, inputs, 1)] + ([AddedSignal()] if context else [])        # (2)
    last = draw.zeros(outputs, channels) if zero else draw.plain(outputs, channels, 1)      # (2)
    return Sequential((*first, *(separable_layer(draw, channels, kernel, kernel**i) for i in range(layers)), last))


def separable_layer(draw, channels, kernel, dilation):
    W, b = draw.weights(channels, 1, kernel)                                        # (3)
    wide = DepthwiseConv1d(W[:, 0], b, dilation), norm(draw, channels), GELU()
    point = draw.plain(channels, channels, 1), norm(draw, channels), GELU()
    return Residual(Sequential((*wide, *point, Dropout(True, 0.0))))                # (1)


def norm(draw, channels):
    return Positionwise(LayerNorm(np.ones(channels, draw.dtype), np.zeros(channels, draw.dtype), NORM_EPS))
