r"""Convolution of images with normalised kernels, `(C, H, W) -> (M, H, W)`.

The map.  The kernels of one output, all their entries together, have a direction `v_m` and, if there is a gain, a length `g_m`;
without a gain the length is 1:
    u_m = v_m / |v_m|,   W_m = g_m u_m                                              (1)
    h = W * a + b,   the convolution of `Conv2d`, with its padding                  (2)
    dh_m(y, x)/da_c(y', x') = W_m,c,y'-y+p,x'-x+q, where there is such a W, else 0          (3)
where `p` and `q` are defined as in `Conv2d`.

The reverse rule.  The pullback of (2) at `W` gives `a_bar`, `W_bar` and `b_bar`.  From (1), as in `WeightNormDense`,
    g_bar_m = <W_bar_m, u_m>,   v_bar_m = g_m / |v_m| (W_bar_m - u_m <W_bar_m, u_m>)        (4)
The unit of error is normwise, as for `WeightNormDense`.

Source: Salimans & Kingma, arXiv:1602.07868; without gain, Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, conditioner, plain, real, refusal
from ...core.rules import one_of
from ...core.declarations import Field
from ...core.sets import nonzero_bank
from .conv2d import PADDINGS, Convolution, bias_bar, checked_channels, output_of, over_batch, with_bias
from .weight_norm import Directions


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def kernels(v, g):
        """The lengths of v, u and W."""
        lengths = np.sqrt((v ** 2).sum((1, 2, 3)))
        u = (v.T / lengths).T                                                       # (1)
        return lengths, u, u if g is None else (g * u.T).T                          # (1)

    def with_border(a, v, padding):
        """What is read: the image, its border and the channel that marks the border."""
        (C, H, W), (N, I, J) = a.shape, v.shape[1:]
        p, q, image = (I - 1) // 2, (J - 1) // 2, np.zeros((N, H + I - 1, W + J - 1), a.dtype)
        image += padding == "ones" or np.arange(N)[:, None, None] == C
        image[:, p:p + H, q:q + W] = 0
        image[:C, p:p + H, q:q + W] = a
        return image

    def windows(a, v):
        """(y, x, the window of what is read)."""
        I, J = v.shape[2:]
        return [(y, x, np.s_[:, y:y + I, x:x + J]) for y, x in np.ndindex(a.shape[1:])]

    def forward(a, v, g, b, padding):
        (_, _, W), image = textbook.kernels(v, g), textbook.with_border(a, v, padding)
        h = np.zeros((len(v), *a.shape[1:]), v.dtype)
        for y, x, window in textbook.windows(a, v):
            h[:, y, x] = (W * image[window]).sum((1, 2, 3)) + (0 if b is None else b)           # (2)
        return h

    def jacobian(a, v, g, b, padding):
        (_, _, W), image = textbook.kernels(v, g), textbook.with_border(a, v, padding)
        J = np.zeros((len(v), *a.shape[1:], *image.shape), v.dtype)
        for y, x, window in textbook.windows(a, v):
            J[:, y, x][:, *window] = W                                              # (3)
        return textbook.inside(J, a, v).reshape(len(v) * a[0].size, a.size)

    def inside(image, a, v):
        """Without the border."""
        (C, H, W), (I, J) = a.shape, v.shape[2:]
        p, q = (I - 1) // 2, (J - 1) // 2
        return image[..., :C, p:p + H, q:q + W]

    def vjp(a, v, g, b, padding, h_bar):
        (lengths, u, W), image = textbook.kernels(v, g), textbook.with_border(a, v, padding)
        W_bar, image_bar = 0 * W, 0 * image
        for y, x, window in textbook.windows(a, v):
            W_bar += np.multiply.outer(h_bar[:, y, x], image[window])               # (2)
            image_bar[window] += (h_bar[:, y, x] * W.T).T.sum(0)                    # (2)
        along, factor = (W_bar * u).sum((1, 2, 3)), (1 if g is None else g) / lengths           # (4)
        bars = {"v": (factor * (W_bar.T - along * u.T)).T}                          # (4)
        bars |= {} if g is None else {"g": along}                                   # (4)
        return textbook.inside(image_bar, a, v), bars if b is None else bars | {"b": h_bar.sum((1, 2))}     # (2)


def as_rows(bank):
    """(..., M, N, I, J) as (..., M, N I J)."""
    return bank.reshape(*bank.shape[:-3], math.prod(bank.shape[-3:]))


def pulled_back(directions, convolution, a, h_bar):
    """(a_bar, {"v": v_bar, "g": g_bar}) of a convolution whose kernels have these directions."""
    a_bar, W_bar, k = scaled_pullback(convolution, a, h_bar)                        # (7)
    bars = directions.pullback(as_rows(W_bar), k)                                   # (4) (5) (7)
    return a_bar, {**bars, "v": bars["v"].reshape(W_bar.shape)}


def scaled_pullback(convolution, a, h_bar):
    """(a_bar, 2^-k W_bar, k); k is 0 unless products with W_bar might overflow."""
    a_bar, W_bar = convolution.pullback(a, h_bar)
    k = 0
    if not np.abs(W_bar).max(initial=0) < np.sqrt(np.finfo(W_bar.dtype).max):
        k = int(np.frexp(np.abs(h_bar).max())[1] + np.frexp(np.abs(a).max())[1])    # (7)
        _, W_bar = convolution.pullback(a, np.ldexp(h_bar, -k))                     # (7)
    return a_bar, W_bar, k



r"""In floating point.

In (1) and (4), squares of the entries of `v_m` may overflow or vanish where `|v_m|` does not.  With the largest entry of
`2^-e v_m` in `[1/2, 1)`, none does:
    |v_m| = 2^e s_m,   s_m = |2^-e v_m|,   u_m = 2^-e v_m / s_m                     (5)

In (2), a partial sum may overflow where the sum does not, and likewise in the pullback.  For `2^-e a`, whose largest entry is in
`[1/2, 1)`, it does not, as in `Conv2d`:
    W * a = 2^e (W * 2^-e a),   W_bar(a) = 2^e W_bar(2^-e a)                        (6)

In (4), a product with `W_bar` may overflow where the cotangents do not.  With `k` the sum of the exponents of the largest entries
of `h_bar` and of `a`, it does not:
    W_bar(h_bar) = 2^k W_bar(2^-k h_bar)                                            (7)
"""


@conditioner(source="arXiv:1602.07868", normwise=True, textbook=textbook)
class WeightNormConv2d(Conditioner):
    """h = W * a + b with kernels W_m = g_m v_m / |v_m|, or v_m / |v_m| if g is None.

    v (M, C, I, J); g (M,) or None; b (M,) or None; `padding` as for `Conv2d`; with "edge", v is (M, C+1, I, J).
    """

    v: Array = nonzero_bank("M", "N", "I", "J")
    g: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    b: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    padding: str = plain("zeros", one_of(*PADDINGS))
    event_ndim = (3, 3)
    event_shape = ("C", "H", "W")

    def _validate(self):
        self.dims["C"] = checked_channels(self, self.v.shape[-4:])
        super()._validate()

    def output_shape(self, shape):
        return output_of(self.v.shape[-4:], self.dims["C"], shape)

    # -- the map ------------------------------------------------------------------------------------------------------

    def directions(self):
        return Directions(as_rows(self.v), self.g)                                  # (1) (5)

    def convolution(self, directions, a):
        return Convolution(over_batch(self.kernels(directions), a), self.padding)

    def kernels(self, directions):
        rows = directions.weights()                                                 # (1)
        return rows.reshape(*rows.shape[:-1], *self.v.shape[-3:])

    def forward(self, a):
        return with_bias(self.convolution(self.directions(), a).forward(a), self.b)     # (2) (6)

    def jacobian(self, a):
        return self.convolution(self.directions(), a).jacobian(a)                   # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        directions = self.directions()
        convolution = self.convolution(directions, a)

        def pullback(h_bar):
            a_bar, bars = pulled_back(directions, convolution, a, h_bar)            # (4) (6) (7)
            return a_bar, {**bars, **bias_bar(h_bar, self.b)}

        return with_bias(convolution.forward(a), self.b), pullback                  # (2) (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Number", "a single weight: v_bar is 0", z=[[[[3.0]]]], v=[[[[-0.3]]]], g=[2.0], b=[0.7]),
        case("NoGain", "kernels of length 1", z=[[[[1.0, 2.0], [-1.0, 0.5]]]], v=[[[[3.0, -4.0, 1.0]]], [[[1.0, 1.0, 2.0]]]],
             g=None, b=None),
        case("NoLength", "a gain of 0: v has no gradient, g has", z=[[[[1.0, -2.0]]]], v=[[[[3.0, 4.0, 1.0]]]], g=[0.0],
             b=[1.0]),
        case("Edge", "the border's kernel is part of the direction", z=[[[[1.0, 2.0]]]],
             v=[[[[3.0, -4.0, 1.0]], [[1.0, 2.0, 2.0]]]], g=[0.5], b=None, padding="edge"),
        case("Ones", "a border of ones", z=[[[[1.0, 2.0]]]], v=[[[[3.0, -4.0, 1.0]]]], g=None, b=None, padding="ones"),
        case("Huge", "the gain makes a cotangent of W overflow, the length of v does not", b=None, g=[2.0**24],
             z=[[[[2.0**106]], [[1.0]]], [[[2.0**1002]], [[1.0]]]], v=[[[[2.0**-6]], [[2.0**24]]]]),
        case("Outweighed", "one entry of v outweighs the others", z=[[[[1.0, 1.0]]]], v=[[[[2.0**20, 1.0, 1.0]]]], g=[1.0],
             b=None),
    )
    refused = (
        refusal("have C=1", [[[1.0]], [[2.0]]], v=[[[[1.0]]]], g=None, b=None),
    )
