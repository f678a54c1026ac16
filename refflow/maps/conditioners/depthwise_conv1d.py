r"""Depthwise convolution of signals, `(C, T) -> (C, T)`: every channel has one kernel of its own.

The map.  With kernels `W` of `(C, K)`, whose entries stand `d` apart (the dilation), and `b` a number for each channel,
    h_c(t) = b_c + sum_k W_ck a_c(t + d k - p),   p = (d (K-1))//2                  (1)
Positions outside the signal are read as 0.  As `p` is rounded down, a kernel reads one position more after `t` than before
it if `d (K-1)` is odd.  With a sequence mask, `a` is 0 at invalid positions, and so is `h`.
    dh_c(t)/da_c(t') = W_ck   where t' = t + d k - p for a k, and 0 elsewhere       (2)

The reverse rule.  With `h_bar` 0 at invalid positions,
    a_bar_c(t') = sum_k W_ck h_bar_c(t' - d k + p)                                  (3)
    W_bar_ck = sum_t h_bar_c(t) a_c(t + d k - p),   b_bar_c = sum_t h_bar_c(t)      (4)
and `a_bar` is 0 at invalid positions.

Source: Chollet, arXiv:1610.02357, for images; for signals, Kaiser, Gomez & Chollet, arXiv:1706.03059.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, plain, real, refusal, sequence_mask
from ...core.rules import count
from ...core.arithmetic import unit_scaled
from ...core.arrays import masked, masked_jacobian
from .conv1d import held_to_mask


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def read(W, T, dilation, mask):
        """(t, k, t + d k - p) of all positions that are read."""
        K, valid = W.shape[1], range(T) if mask is None else np.flatnonzero(mask)
        p = dilation * (K - 1) // 2
        return [(t, k, t + dilation * k - p) for t in valid for k in range(K) if t + dilation * k - p in valid]

    def forward(a, W, b, dilation, mask):
        h = (0 * a.T + b).T                                                         # (1)
        for t, k, s in textbook.read(W, a.shape[1], dilation, mask):
            h[:, t] += W[:, k] * a[:, s]                                            # (1)
        return h if mask is None else h * mask

    def jacobian(a, W, b, dilation, mask):
        J, c = np.zeros((*a.shape, *a.shape), a.dtype), np.arange(len(a))
        for t, k, s in textbook.read(W, a.shape[1], dilation, mask):
            J[c, t, c, s] = W[:, k]                                                 # (2)
        return J.reshape(a.size, a.size)

    def vjp(a, W, b, dilation, mask, h_bar):
        a_bar, W_bar = 0 * a, 0 * W
        for t, k, s in textbook.read(W, a.shape[1], dilation, mask):
            a_bar[:, s] += W[:, k] * h_bar[:, t]                                    # (3)
            W_bar[:, k] += h_bar[:, t] * a[:, s]                                    # (4)
        valid = h_bar if mask is None else h_bar[:, mask]
        return a_bar, {"W": W_bar, "b": valid.sum(1)}                               # (4)


r"""In floating point.

In (1) and (4), a partial sum may overflow where the sum does not.  For `2^-e a_c`, whose largest entry is in `[1/2, 1)`, it does
not:
    sum_k W_ck a_c(t + d k - p) = 2^e sum_k W_ck (2^-e a_c)(t + d k - p)            (5)
    sum_t h_bar_c(t) a_c(t + d k - p) = 2^e sum_t h_bar_c(t) (2^-e a_c)(t + d k - p)        (6)
"""


@conditioner(source="arXiv:1706.03059", textbook=textbook)
class DepthwiseConv1d(Conditioner):
    """h_c = W_c * a_c + b_c for each channel; a, h (*batch, C, T), W (C, K), b (C,).

    `dilation`: how far apart the entries of a kernel stand, an int >= 1; `mask`: the valid positions, (*batch, T).
    """

    W: Array = real("C", "K")
    b: Array = real("C", default=0.0)
    dilation: int = plain(1, count())
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)
    event_shape = ("C", "T")

    def _validate(self):
        if not self.W.shape[-1]:
            raise ValueError(f"DepthwiseConv1d: kernels must have at least one entry, not shape {self.W.shape[-2:]}")
        super()._validate()

    def output_shape(self, shape):
        if len(shape) != 2 or shape[0] != self.W.shape[-2]:
            raise ValueError(f"its events have C={self.W.shape[-2]} channels")
        held_to_mask(self.mask, shape[1])
        return shape

    def depends(self, shape):
        offsets = np.arange(shape[1]) - np.arange(shape[1])[:, None]
        return np.kron(np.eye(shape[0], dtype=bool), np.isin(offsets, self.steps()))

    # -- the map ------------------------------------------------------------------------------------------------------

    def steps(self):
        """d k - p for each k."""
        K = self.W.shape[-1]
        return self.dilation * np.arange(K) - self.dilation * (K - 1) // 2

    def reads(self, signals, way=1):
        """For each k the signals moved by way (d k - p), 0 beyond their ends."""
        T, moved = signals.shape[-1], []
        for step in way * self.steps():
            first, last = max(0, -step), min(T, T - step)
            part = np.zeros_like(signals)
            part[..., first:max(first, last)] = signals[..., first + step:max(first, last) + step]
            moved.append(part)
        return moved

    def correlated(self, signals, way=1):
        return sum(self.W[..., k, None] * part for k, part in enumerate(self.reads(signals, way)))

    def convolved(self, a):
        h = self.correlated(a)                                                      # (1)
        if not np.isfinite(h).all():
            smaller, e = unit_scaled(a)                                             # (5)
            h = np.where(np.isfinite(h), h, np.ldexp(self.correlated(smaller), e))  # (5)
        return masked(h + self.b[..., None], self.mask)                             # (1)

    def forward(self, a):
        return self.convolved(a)                                                    # (1) (5)

    def jacobian(self, a):
        C, T = a.shape[-2:]
        J, c = np.zeros((*a.shape[:-2], C, T, C, T), self.W.dtype), np.arange(C)[:, None]
        for k, step in enumerate(self.steps()):
            t = np.arange(max(0, -step), min(T, T - step))
            J[..., c, t, c, t + step] = self.W[..., k, None]                        # (2)
        return masked_jacobian(J.reshape(*a.shape[:-2], C * T, C * T), self.mask)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def kernels_bar(self, a, h_bar):
        return np.stack([(h_bar * part).sum(-1) for part in self.reads(a)], -1)     # (4)

    def vjp(self, a):
        def pullback(h_bar):
            h_bar = masked(h_bar, self.mask)
            W_bar = self.kernels_bar(a, h_bar)
            if not np.isfinite(W_bar).all():
                smaller, e = unit_scaled(a)                                         # (6)
                W_bar = np.where(np.isfinite(W_bar), W_bar, np.ldexp(self.kernels_bar(smaller, h_bar), e))      # (6)
            a_bar = masked(self.correlated(h_bar, -1), self.mask)                   # (3)
            return a_bar, {"W": W_bar, "b": h_bar.sum(-1)}                          # (4)

        return self.convolved(a), pullback                                          # (1) (5)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Dilated", "a kernel with gaps, which reaches beyond both ends", z=[[[1.0, 2.0, 4.0, 8.0], [3.0, 0.5, -1.0, 2.0]]],
             W=[[1.0, 10.0, 100.0], [0.5, 0.25, -1.0]], b=[0.5, 0.0], dilation=2),
        case("Wide", "the dilation is larger than the signal: only the middle entry reads it", z=[[[1.0, 2.0]]],
             W=[[1.0, 10.0, 100.0]], b=[0.0], dilation=3),
        case("Even", "an even kernel reads one position more after than before", z=[[[1.0, 2.0, 4.0]]], W=[[1.0, 10.0]],
             b=[0.0]),
        case("Point", "kernels of one entry: a scale for each channel", z=[[[1.0, 2.0], [3.0, 5.0]]], W=[[0.5], [-1.0]],
             b=[0.0, 1.0]),
        case("Masked", "an invalid position is not read, whatever it holds, and h is 0 there", z=[[[1.0, 2.0**100, 4.0]]],
             W=[[1.0, 10.0, 100.0]], b=[0.5], mask=[True, False, True]),
        case("NothingValid", "h is 0 everywhere", z=[[[1.0, 2.0]]], W=[[1.0]], b=[0.5], mask=[False, False]),
        case("Cancelling", "the terms nearly cancel", z=[[[1.0, 1.0, 1.0]]], W=[[1e5, -1e5, 1e-5]], b=[0.0]),
        case("Huge", "a partial sum overflows, the sum does not", z=[[[2.0**123, 2.0**123]], [[2.0**1005, 2.0**1005]]],
             W=[[0.0, 2.0**20, 2.0**-1 - 2.0**20]], b=[0.0]),
        case("HugeBoth", "terms of a kernel's cotangent overflow, both ways",
             z=[[[s, -s, s], [-s, s, 0.0], [0.0, s, s], [s, 0.0, s]] for s in (1.5 * 2.0**127, 1.5 * 2.0**1023)],
             W=[[2.0**-8, 2.0**-9, 2.0**-8]] * 4, b=[0.0] * 4),
        case("Subnormal", "an event of subnormal numbers", z=[[[2.0**-1070, 2.0**-1074]]], W=[[3.0, 1.0, 0.3]], b=[0.0]),
    )
    refused = (
        refusal("kernels must have at least one entry", W=[[]]),
        refusal("kernels must have at least one entry", W=np.ones((2, 1, 0))),
        refusal("have C=1", [[1.0], [2.0]], W=[[1.0]]),
    )
