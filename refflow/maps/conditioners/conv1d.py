r"""Convolution of signals, `(C, T) -> (M, T)`, as in networks: a cross-correlation.

The map.  With kernels `W` of `(M, C, K)`, whose entries stand `d` apart (the dilation), and `b` a number for each output,
    h_m(t) = b_m + sum_c sum_k W_mck a_c(t + d k - p),   p = (d (K-1))//2           (1)
Positions outside the signal are read as 0.  As `p` is rounded down, a kernel reads one position more after `t` than before
`t` if `d (K-1)` is odd.  With a sequence mask, `a` is 0 at invalid positions, and so is `h`.
    dh_m(t)/da_c(t') = W_mck   where t' = t + d k - p for a k, and 0 elsewhere      (2)
A signal is an image of one row, and the sum in (1) is a correlation, `corr(W, a)`, which `correlation.py` computes.

The reverse rule.  With `h_bar` 0 at invalid positions,
    a_bar_c(t') = sum_m sum_k W_mck h_bar_m(t' - d k + p)                           (3)
    W_bar_mck = sum_t h_bar_m(t) a_c(t + d k - p),   b_bar_m = sum_t h_bar_m(t)     (4)
and `a_bar` is 0 at invalid positions.  The cotangents of parameters that all events share are summed over the batch.

Source: the definition; the dilation, van den Oord et al., arXiv:1609.03499.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, plain, real, refusal, sequence_mask
from ...core.rules import count
from ...core.arrays import masked, masked_jacobian
from ...core.declarations import Field
from .conv2d import Convolution, bias_bar, with_bias


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def read(W, T, dilation, mask):
        """(t, k, t + d k - p) of all positions that are read."""
        K, valid = W.shape[2], range(T) if mask is None else np.flatnonzero(mask)
        p = dilation * (K - 1) // 2
        return [(t, k, t + dilation * k - p) for t in valid for k in range(K) if t + dilation * k - p in valid]

    def valid(h, mask):
        """h, 0 at invalid positions."""
        return h if mask is None else h * mask

    def forward(a, W, b, dilation, mask):
        h = np.zeros((len(W), a.shape[1]), W.dtype)
        for t, k, s in textbook.read(W, a.shape[1], dilation, mask):
            h[:, t] += (W[:, :, k] * a[:, s]).sum(1)                                # (1)
        return h if b is None else textbook.valid((h.T + b).T, mask)                # (1)

    def jacobian(a, W, b, dilation, mask):
        J = np.zeros((len(W), a.shape[1], *a.shape), W.dtype)
        for t, k, s in textbook.read(W, a.shape[1], dilation, mask):
            J[:, t, :, s] = W[:, :, k]                                              # (2)
        return J.reshape(len(W) * a.shape[1], a.size)

    def vjp(a, W, b, dilation, mask, h_bar):
        a_bar, W_bar = 0 * a, 0 * W
        for t, k, s in textbook.read(W, a.shape[1], dilation, mask):
            a_bar[:, s] += (W[:, :, k].T * h_bar[:, t]).sum(1)                      # (3)
            W_bar[:, :, k] += np.outer(h_bar[:, t], a[:, s])                        # (4)
        b_bar = textbook.valid(h_bar, mask).sum(1)                                  # (4)
        return a_bar, {"W": W_bar} if b is None else {"W": W_bar, "b": b_bar}


# -- the equations, for kernels that a page may have computed from others ----------------------------------------------

def row(signals, mask=None):
    """Signals or kernels (..., C, T) as images (..., C, 1, T) of one row, 0 at invalid positions."""
    return masked(signals, mask)[..., None, :]


def signal(images, mask=None):
    """The reverse."""
    return masked(images[..., 0, :], mask)


def convolution(W, dilation, a):
    """corr(W, .) for images of one row, with kernels W (M, C, K), or one bank for each event of the batch of a."""
    W = row(W)
    return Convolution(W if W.ndim == 4 else np.broadcast_to(W, a.shape[:-2] + W.shape[-4:]), "zeros", dilation)


def affine(correlation, a, b, mask):
    """corr(W, a) + b for images of one row, as signals that are 0 at invalid positions."""
    return signal(with_bias(correlation.forward(a), b), mask)                       # (1) (5)


def checked(layer, kernels):
    """ValueError for kernels (M, C, K) without an entry."""
    if not kernels[2]:
        raise ValueError(f"{type(layer).__name__}: kernels must have at least one entry, not shape {kernels}")


def output_of(layer, kernels, shape):
    """The shape of h for events of `shape`; ValueError unless they have C channels, and the mask's number of positions."""
    if len(shape) != 2 or shape[0] != kernels[1]:
        raise ValueError(f"its events have C={kernels[1]} channels")
    held_to_mask(layer.mask, shape[1])
    return kernels[0], shape[1]


def held_to_mask(mask, T):
    """ValueError unless events of T positions fit a mask."""
    if mask is not None and mask.shape[-1] != T:
        raise ValueError(f"its mask has T={mask.shape[-1]} positions")


r"""In floating point.

In (1), a partial sum may overflow where `h` does not.  For `2^-e a`, whose largest entry is in `[1/2, 1)`, it does not, as in
`Conv2d`:
    corr(W, a) = 2^e corr(W, 2^-e a)                                                (5)

In (4), a partial sum of `W_bar` may overflow likewise.  One `e` serves the whole batch:
    W_bar(a) = 2^e W_bar(2^-e a)                                                    (6)
"""


@conditioner(source="arXiv:1609.03499", textbook=textbook)
class Conv1d(Conditioner):
    """h = W * a + b; a (*batch, C, T), h (*batch, M, T), W (M, C, K), b (M,) or None.

    `dilation`: how far apart the entries of a kernel stand, an int >= 1; `mask`: the valid positions, (*batch, T).
    """

    W: Array = real("M", "C", "K")
    b: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    dilation: int = plain(1, count())
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    def _validate(self):
        checked(self, self.W.shape[-3:])
        super()._validate()

    def output_shape(self, shape):
        return output_of(self, self.W.shape[-3:], shape)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        return affine(convolution(self.W, self.dilation, a), row(a), self.b, self.mask)     # (1) (5)

    def jacobian(self, a):
        return masked_jacobian(convolution(self.W, self.dilation, a).jacobian(row(a)), self.mask)       # (2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        correlation, a = convolution(self.W, self.dilation, a), row(a)

        def pullback(h_bar):
            h_bar = row(h_bar, self.mask)
            a_bar, W_bar = correlation.pullback(a, h_bar)                           # (3) (4) (6)
            return signal(a_bar, self.mask), {"W": signal(W_bar), **bias_bar(h_bar, self.b)}    # (4)

        return affine(correlation, a, self.b, self.mask), pullback                  # (1) (5)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Dilated", "a kernel with gaps, which reaches beyond both ends", z=[[[1.0, 2.0, 4.0, 8.0]]],
             W=[[[1.0, 10.0, 100.0]], [[0.5, 0.25, -1.0]]], b=[0.5, 0.0], dilation=2),
        case("Wide", "the dilation is larger than the signal: only the middle entry reads it", z=[[[1.0, 2.0]]],
             W=[[[1.0, 10.0, 100.0]]], b=None, dilation=3),
        case("Even", "an even kernel reads one position more after than before", z=[[[1.0, 2.0, 4.0]]],
             W=[[[1.0, 10.0]]], b=None),
        case("EvenDilated", "with an even dilation, as far after as before", z=[[[1.0, 2.0, 4.0]]], W=[[[1.0, 10.0]]], b=None,
             dilation=2),
        case("Narrow", "more channels in than out: copies are made of h_bar", z=[[[1.0, 2.0], [3.0, 5.0]]],
             W=[[[0.5, 1.0], [-1.0, 0.25]]], b=[1.0]),
        case("Point", "kernels of one entry: a dense layer at each position", z=[[[1.0, 2.0], [3.0, 5.0]]],
             W=[[[0.5], [-1.0]]], b=None),
        case("Masked", "an invalid position is not read, whatever it holds, and h is 0 there", z=[[[1.0, 2.0**100, 4.0]]],
             W=[[[1.0, 10.0, 100.0]], [[0.5, 0.25, -1.0]]], b=[0.5, 2.0], mask=[True, False, True]),
        case("NothingValid", "h is 0 everywhere", z=[[[1.0, 2.0]]], W=[[[1.0]]], b=[0.5], mask=[False, False]),
        case("Cancelling", "the terms nearly cancel", z=[[[1.0, 1.0, 1.0]]], W=[[[1e5, -1e5, 1e-5]]], b=None),
        case("Huge", "a partial sum overflows, the sum does not", z=[[[2.0**123, 2.0**123]], [[2.0**1005, 2.0**1005]]],
             W=[[[0.0, 2.0**20, 2.0**-1 - 2.0**20]]], b=None),
        case("Subnormal", "an event of subnormal numbers", z=[[[2.0**-1070, 2.0**-1074]]], W=[[[3.0, 1.0, 0.3]]], b=None),
    )
    refused = (
        refusal("kernels must have at least one entry", W=[[[]]], b=None),
        refusal("have C=1", [[1.0], [2.0]], W=[[[1.0]]], b=None),
    )
