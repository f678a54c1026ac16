r"""Convolution of images, `(C, H, W) -> (M, H, W)`, as in networks: a cross-correlation.

The map.  With kernels `W` of `(M, C, I, J)` and `b` a number for each output,
    h_m(y, x) = b_m + sum_c sum_ij W_mcij a_c(y + i - p, x + j - q),   p = (I-1)//2,   q = (J-1)//2         (1)
Positions outside the image, the border, are read as 0 (`padding` "zeros") or 1 ("ones").  With "edge" they are 0, and one more
channel, 1 on the border and 0 inside, tells the network where the image ends.  `W` is then `(M, C+1, I, J)`, unless `I = J = 1`:
then no output reads the border.

With `beta_yx,ij = 1` where `(y + i - p, x + j - q)` is on the border and else 0, (1) is a correlation with 0 outside the image
(`correlation.py`) plus a term that is independent of `a`:
    h = corr(k, a) + E beta^T + b                                                   (2)
    E_m,ij = sum_c W_mcij                for "ones",   0   for "zeros",   k = W     (3)
    E_m,ij = W_m,C,ij                    for "edge",       k = W_{m,c<C}            (4)
    dh_m(y, x)/da_c(y', x') = k_{m,c,y'-y+p,x'-x+q}   where there is such a k, else 0    (5)

The reverse rule.  In (2), `corr` is linear in `k` and in `a`.  With `h_bar` read as 0 outside the image,
    a_bar_c(y, x) = sum_m sum_ij k_mcij h_bar_m(y - i + p, x - j + q)               (6)
    k_bar_mcij = sum_yx h_bar_m(y, x) a_c(y + i - p, x + j - q)                     (7)
    E_bar_m,ij = sum_yx h_bar_m(y, x) beta_yx,ij,   b_bar_m = sum_yx h_bar_m(y, x)  (8)
and from (3) and (4),
    W_bar_mcij = k_bar_mcij   for "zeros",   k_bar_mcij + E_bar_m,ij   for "ones"   (9)
    W_bar = k_bar for c < C, E_bar for c = C           for "edge"                   (10)
where the cotangents of parameters that all events share are summed over the batch.

Source: the definition; "edge", Glow's code (Kingma & Dhariwal, arXiv:1807.03039).
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, conditioner, plain, real, refusal
from ...core.rules import one_of
from ...core.declarations import Field
from ...core.arithmetic import unit_scaled
from .correlation import Correlation

PADDINGS = ("zeros", "edge", "ones")


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def places(W, image):
        """(y, x, i, j, y + i - p, x + j - q, is it outside?) of all positions that are read."""
        (I, J), (height, width) = W.shape[2:], image
        for y, x, i, j in np.ndindex(height, width, I, J):
            v, w = y + i - (I - 1) // 2, x + j - (J - 1) // 2
            yield y, x, i, j, v, w, not (0 <= v < height and 0 <= w < width)

    def has_channel(W, padding):
        """Is there one more channel, which marks the border?"""
        return padding == "edge" and W.shape[2:] != (1, 1)

    def kernels(W, padding):
        """k and E."""
        if textbook.has_channel(W, padding):
            return W[:, :-1], W[:, -1]                                              # (4)
        return W, W.sum(1) if padding == "ones" else 0 * W.sum(1)                   # (3)

    def forward(a, W, b, padding):
        (k, E), h = textbook.kernels(W, padding), np.zeros((len(W), *a.shape[1:]), W.dtype)
        for y, x, i, j, v, w, outside in textbook.places(W, a.shape[1:]):
            h[:, y, x] += E[:, i, j] if outside else (k[:, :, i, j] * a[:, v, w]).sum(1)        # (2)
        return h if b is None else (h.T + b).T                                      # (2)

    def jacobian(a, W, b, padding):
        (k, _), J = textbook.kernels(W, padding), np.zeros((len(W), *a.shape[1:], *a.shape), W.dtype)
        for y, x, i, j, v, w, outside in textbook.places(W, a.shape[1:]):
            if not outside:
                J[:, y, x, :, v, w] = k[:, :, i, j]                                 # (5)
        return J.reshape(J[..., 0, 0, 0].size if a.size else 0, a.size)

    def vjp(a, W, b, padding, h_bar):
        k, E = textbook.kernels(W, padding)
        a_bar, k_bar, E_bar = 0 * a, 0 * k, 0 * E
        for y, x, i, j, v, w, outside in textbook.places(W, a.shape[1:]):
            if outside:
                E_bar[:, i, j] += h_bar[:, y, x]                                    # (8)
            else:
                a_bar[:, v, w] += (k[:, :, i, j].T * h_bar[:, y, x]).sum(1)         # (6)
                k_bar[:, :, i, j] += np.outer(h_bar[:, y, x], a[:, v, w])           # (7)
        if textbook.has_channel(W, padding):
            bars = {"W": np.concatenate((k_bar, E_bar[:, None]), 1)}                # (10)
        else:
            bars = {"W": k_bar + E_bar[:, None] if padding == "ones" else k_bar}    # (9)
        return a_bar, bars if b is None else bars | {"b": h_bar.sum((1, 2))}        # (8)


# -- the equations, for kernels that a page may have computed from others ----------------------------------------------

def border(size, image, dtype):
    """beta (H W, I J): does an output read from the border?"""
    y, x = (np.arange(n)[:, None] + np.arange(k) - (k - 1) // 2 for n, k in zip(image, size))
    outside = ((y < 0) | (y >= image[0]))[:, None, :, None] | ((x < 0) | (x >= image[1]))[:, None, :]
    return outside.reshape(y.shape[0] * x.shape[0], y.shape[1] * x.shape[1]).astype(dtype)


class Convolution:
    """(2) with kernels W, shared, or one for each event of the batch.

    `forward(a)` -> h without b; `pullback(a, h_bar)` -> (a_bar, W_bar).  With padding "zeros" the columns of the kernels may
    stand `dilation` apart.
    """

    def __init__(self, W, padding, dilation=1):
        self.W, self.padding, self.size, self.dilation = W, padding, W.shape[-2:], dilation
        self.has_border = padding != "zeros" and self.size != (1, 1)
        self.kernels = W[..., :-1, :, :] if padding == "edge" and self.has_border else W    # (3) (4)
        self.correlation = Correlation(self.kernels, dilation)

    def border_kernels(self):
        """E, (M, I J)."""
        E = self.W.sum(-3) if self.padding == "ones" else self.W[..., -1, :, :]     # (3) (4)
        return E.reshape(*E.shape[:-2], math.prod(self.size))

    def forward(self, a):
        h = self.correlation.forward(a)                                             # (2)
        if not np.isfinite(h).all():
            h = np.where(np.isfinite(h), h, self.scaled(a))                         # (11)
        if self.has_border:
            E_beta = self.border_kernels() @ border(self.size, a.shape[-2:], h.dtype).T
            h += E_beta.reshape(*E_beta.shape[:-1], *h.shape[-2:])                  # (2)
        return h

    def scaled(self, a):
        flat, e = unit_scaled(a.reshape(*a.shape[:-3], math.prod(a.shape[-3:])))    # (11)
        return np.ldexp(self.correlation.forward(flat.reshape(a.shape)), e[..., None, None])        # (11)

    def pullback(self, a, h_bar):
        a_bar, k_bar = self.correlation.pullback(a, h_bar)                          # (6) (7)
        if not np.isfinite(k_bar).all():
            _, e = np.frexp(np.abs(a).max())                                        # (12)
            _, smaller = self.correlation.pullback(np.ldexp(a, -e), h_bar)          # (12)
            k_bar = np.where(np.isfinite(k_bar), k_bar, np.ldexp(smaller, e))       # (12)
        if not self.has_border:
            return a_bar, k_bar                                                     # (9)
        total = h_bar if self.W.ndim > 4 else h_bar.sum(tuple(range(h_bar.ndim - 3)))
        beta = border(self.size, a.shape[-2:], h_bar.dtype)
        E_bar = (total.reshape(*total.shape[:-2], len(beta)) @ beta).reshape(*total.shape[:-2], 1, *self.size)    # (8)
        if self.padding == "ones":
            return a_bar, k_bar + E_bar                                             # (9)
        return a_bar, np.concatenate((k_bar, E_bar), -3)                            # (10)

    def jacobian(self, a):
        k, (H, W), (I, J), d = self.kernels, a.shape[-2:], self.size, self.dilation
        (M, C), p, q = k.shape[-4:-2], (I - 1) // 2, d * (J - 1) // 2
        J_a = np.zeros((*a.shape[:-3], M, H, W, C, H, W), k.dtype)
        for i in range(I):
            for j in range(J):
                y, x = (np.arange(max(0, -step), min(n, n - step)) for n, step in ((H, i - p), (W, d * j - q)))
                y, x = np.ix_(y, x)
                J_a[..., y, x, :, y + i - p, x + d * j - q] = k[..., i, j]          # (5)
        return J_a.reshape(*a.shape[:-3], M * H * W, C * H * W)


def with_bias(h, b):
    if b is not None:
        h += b[..., None, None]                                                     # (2)
    return h


def bias_bar(h_bar, b):
    return {} if b is None else {"b": h_bar.sum((-2, -1))}                          # (8)


def checked_channels(layer, kernels):
    """C of the events that kernels (M, C or C+1, I, J) take; ValueError for invalid kernels."""
    name, padding = type(layer).__name__, layer.padding
    if 0 in kernels[2:]:
        raise ValueError(f"{name}: kernels must have at least one entry, not shape {kernels}")
    C = kernels[1] - (padding == "edge" and kernels[2:] != (1, 1))
    if C < 0:
        raise ValueError(f"{name}: with padding 'edge' kernels have a channel for the border, not shape {kernels}")
    return C


def output_of(kernels, C, shape):
    """The shape of h for events of `shape`; ValueError unless they have C channels."""
    if len(shape) != 3 or shape[0] != C:
        raise ValueError(f"its images have C={C} channels")
    return (kernels[0], *shape[1:])


r"""In floating point.

In (2), a partial sum may overflow where `h` does not.  For `2^-e a`, whose largest entry is in `[1/2, 1)`, it does not:
    corr(k, a) = 2^e corr(k, 2^-e a)                                                (11)

In (7), a partial sum may overflow likewise.  One `e` serves the whole batch:
    k_bar(a) = 2^e k_bar(2^-e a)                                                    (12)
"""


@conditioner(source="arXiv:1807.03039", textbook=textbook)
class Conv2d(Conditioner):
    """h = W * a + b; a (*batch, C, H, W), h (*batch, M, H, W), W (M, C, I, J), b (M,) or None.

    `padding`: what is outside the image: "zeros", "ones", or "edge": zeros and one more channel that marks the border, for
    which W is (M, C+1, I, J) unless I = J = 1.
    """

    W: Array = real("M", "N", "I", "J")
    b: Array = Field(real, ("M",), optional=True)  # type: ignore[assignment]
    padding: str = plain("zeros", one_of(*PADDINGS))
    event_ndim = (3, 3)
    event_shape = ("C", "H", "W")

    def _validate(self):
        self.dims["C"] = checked_channels(self, self.W.shape[-4:])
        super()._validate()

    def output_shape(self, shape):
        return output_of(self.W.shape[-4:], self.dims["C"], shape)

    @staticmethod
    def definition(m, a, W, b, padding):
        C, height, width = len(a), len(a[0]), len(a[0][0])
        I, J = len(W[0][0]), len(W[0][0][0])
        p, q = (I - 1) // 2, (J - 1) // 2

        def read(c, y, x):
            inside = 0 <= y < height and 0 <= x < width
            if c == C:
                return 0 if inside else 1
            return a[c][y][x] if inside else int(padding == "ones")

        def output(k, y, x):
            return sum(k[c][i][j] * read(c, y + i - p, x + j - q)
                       for c in range(len(k)) for i in range(I) for j in range(J))

        biases = [0] * len(W) if b is None else b
        return [[[output(k, y, x) + b_m for x in range(width)] for y in range(height)] for k, b_m in zip(W, biases)]  # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def convolution(self, a):
        return Convolution(over_batch(self.W, a), self.padding)

    def forward(self, a):
        return with_bias(self.convolution(a).forward(a), self.b)                    # (2) (11)

    def jacobian(self, a):
        return self.convolution(a).jacobian(a)                                      # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        convolution = self.convolution(a)

        def pullback(h_bar):
            a_bar, W_bar = convolution.pullback(a, h_bar)                           # (6) (7) (9) (10) (12)
            return a_bar, {"W": W_bar, **bias_bar(h_bar, self.b)}                   # (8)

        return with_bias(convolution.forward(a), self.b), pullback                  # (2) (11)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Pixel", "images of one pixel: all else is border", z=[[[[3.0]]]], W=[[[[1.0, 2.0, 4.0]] * 3]] * 2,
             b=[0.5, 0.0]),
        case("PixelOnes", "the border is 1", z=[[[[3.0]]]], W=[[[[1.0, 2.0, 4.0]] * 3]], b=None, padding="ones"),
        case("PixelEdge", "the border is a channel", z=[[[[3.0]]]], W=[[[[1.0, 2.0, 4.0]] * 3, [[0.5, 1.0, 0.25]] * 3]],
             b=None, padding="edge"),
        case("Oblong", "a kernel that is larger than the image on one side", z=[[[[1.0, 2.0, 4.0]]]],
             W=[[[[1.0], [2.0], [3.0], [4.0], [5.0]]]], b=None),
        case("Even", "an even kernel reads one position more after than before", z=[[[[1.0, 2.0, 4.0]]], [[[1.0], [3.0]]]],
             W=[[[[1.0, 10.0], [100.0, 1000.0]]]], b=None),
        case("Narrow", "more channels in than out: copies are made of h_bar", z=[[[[1.0, 2.0]], [[3.0, 5.0]]]],
             W=[[[[0.5, 1.0, 2.0]], [[-1.0, 0.25, 3.0]]]], b=[1.0]),
        case("NarrowEdge", "the same with a border", z=[[[[1.0, 2.0]], [[3.0, 5.0]]]],
             W=[[[[0.5, 1.0, 2.0]], [[-1.0, 0.25, 3.0]], [[7.0, 1.0, -2.0]]]], b=[1.0], padding="edge"),
        case("Point", "kernels of one entry: a dense layer at each position, without a border",
             z=[[[[1.0, 2.0]], [[3.0, 5.0]]]], W=[[[[0.5]], [[-1.0]]]], b=None, padding="edge"),
        case("Cancelling", "the sum is small beside its terms", z=[[[[1.0, 1.0, 1.0]]]], W=[[[[1e5, -1e5, 1e-5]]]], b=None),
        case("Huge", "a partial sum overflows, the sum does not", z=[[[[2.0**123, 2.0**123]]], [[[2.0**1005, 2.0**1005]]]],
             W=[[[[0.0, 2.0**20, 2.0**-1 - 2.0**20]]]], b=None),
        case("Subnormal", "an event of subnormal numbers", z=[[[[2.0**-1070, 2.0**-1074]]]], W=[[[[3.0, 1.0, 0.3]]]],
             b=None),
    )
    refused = (
        refusal("kernels must have at least one entry", W=[[[[]]]], b=None),
        refusal("kernels must have at least one entry", W=np.ones((1, 1, 0, 1)), b=None),
        refusal("have C=1", [[[1.0]], [[2.0]]], W=[[[[1.0]]]], b=None),
        refusal("kernels have a channel for the border", W=np.ones((1, 0, 1, 2)), b=None, padding="edge"),
        refusal("have C=0", [[[1.0]]], W=np.ones((1, 1, 2, 1)), b=None, padding="edge"),
        refusal("have C=0", [[[1.0]]], W=np.ones((1, 0, 1, 1)), b=None, padding="edge"),
    )


def over_batch(W, a):
    """Kernels with a batch, over the full batch of the events."""
    return W if W.ndim == 4 else np.broadcast_to(W, a.shape[:-3] + W.shape[-4:])
