r"""Concatenated rectifier of images, `(C, H, W) -> (2 C, H, W)` or, with a constant channel `M`, `(2 C + 1, H, W)`.

The map.  One half of the channels holds the positive parts of `factor a`, the other half the negative parts:
    h_k     = max(factor a_k, 0)               k = 1, ..., C                        (1)
    h_(C+k) = max(-factor a_k, 0)                                                   (2)
    h_(2C+1) = M                               1 where M holds, else 0              (3)
    dh_k/da_k = factor where factor a_k > 0,   dh_(C+k)/da_k = -factor where factor a_k < 0, all else 0     (4)
with the subgradient 0 at 0.

The reverse rule.  From (4), where a bracket is 1 if its inequality holds, else 0,
    a_bar_k = factor (h_bar_k [factor a_k > 0] - h_bar_(C+k) [factor a_k < 0])      (5)

Source: Shang, Sohn, Almeida & Lee, arXiv:1603.05201; with `M`, a coupling's mask, Dinh, Sohl-Dickstein & Bengio,
arXiv:1605.08803.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, conditioner, constant, plain, refusal
from ...core.rules import NOT_0


@conditioner(source="arXiv:1603.05201", smooth=False)
class ConcatenatedReLU(Conditioner):
    """h = max([factor a, -factor a, M], 0); `channel`: M (H, W), a boolean array, or None; `factor` a number, not 0."""

    channel: Array = constant("H", "W", optional=True)
    factor: float = plain(1.0, NOT_0)
    event_ndim = (3, 3)

    def output_shape(self, shape):
        C, *size = shape
        if self.channel is not None and tuple(size) != self.channel.shape:
            raise ValueError(f"its channel is for images of {self.channel.shape[0]} x {self.channel.shape[1]} pixels")
        return (2 * C + (self.channel is not None), *size)

    def depends(self, shape):
        own = np.eye(math.prod(shape), dtype=bool)
        constant = np.zeros((0 if self.channel is None else self.channel.size, len(own)), bool)
        return np.concatenate((own, own, constant))

    @staticmethod
    def definition(m, a, channel, factor):
        def rectified(sign):
            return [[[sign * factor * v if sign * factor * v > 0 else 0 * v for v in row] for row in image] for image in a]

        last = [] if channel is None else [[[m.mpf(int(v)) for v in row] for row in channel]]       # (3)
        return rectified(1) + rectified(-1) + last                                  # (1) (2)

    def forward(self, a):
        C, v = a.shape[-3], self.factor * a
        h = np.empty((*a.shape[:-3], 2 * C + (self.channel is not None), *a.shape[-2:]), a.dtype)
        np.maximum(v, 0, out=h[..., :C, :, :])                                      # (1)
        np.maximum(-v, 0, out=h[..., C:2 * C, :, :])                                # (2)
        if self.channel is not None:
            h[..., -1, :, :] = self.channel                                         # (3)
        return h

    def slopes(self, a):
        """(of h_k, of h_(C+k)) in a_k."""
        v = a if self.factor > 0 else -a                                # has the sign of factor a, which may itself round to 0
        return self.factor * (v > 0).astype(a.dtype), -self.factor * (v < 0).astype(a.dtype)        # (4)

    def jacobian(self, a):
        batch, n = a.shape[:-3], math.prod(a.shape[-3:])
        J = np.zeros((*batch, 2 * n + (0 if self.channel is None else self.channel.size), n), a.dtype)
        i = np.arange(n)
        for start, slope in zip((0, n), self.slopes(a)):
            J[..., start + i, i] = slope.reshape(*batch, n)                         # (4)
        return J

    def vjp(self, a):
        def pullback(h_bar):
            C = a.shape[-3]
            up, down = self.slopes(a)
            return h_bar[..., :C, :, :] * up + h_bar[..., C:2 * C, :, :] * down, {}         # (5)

        return self.forward(a), pullback

    hard_cases = (
        case("Zero", "the kink: the gradient is 0", z=[[[[0.0, -0.0]]]]),
        case("Channel", "a constant channel behind the others", z=[[[[1.0, -2.0]], [[-3.0, 4.0]]]], channel=[[True, False]],
             factor=2.0),
        case("Negative", "a factor below 0 exchanges the halves", z=[[[[1.0, -2.0]]]], factor=-0.5),
        case("Tiny", "the smallest numbers on both sides of the kink", z=[[[[5e-324, -5e-324]]]]),
    )
    refused = (
        refusal("have W=2", [[[1.0]]], channel=[[True, False]]),
    )
