r"""Convolution of images with bounded norm, `(C, H, W) -> (M, H, W)`: larger kernels are divided by the norm of the convolution.

The map.  The convolution is that of `Conv2d`, with 0 outside the image.  Images `u` of `M` channels and `v` of `C` channels, of `Y` by
`X` positions, are unit vectors.  With a bound `c = coefficient`,
    K_mcij = sum_yx u_m(y, x) v_c(y + i - p, x + j - q),   p = (I-1)//2,   q = (J-1)//2         (1)
    s = <K, W>                                                                      (2)
    V = W/max(1, s/c)                                                               (3)
    h_m(y, x) = b_m + sum_c sum_ij V_mcij a_c(y + i - p, x + j - q)                 (4)
    dh_m(y, x)/da_c(y + i - p, x + j - q) = V_mcij                                  (5)
All other derivatives are 0.  By (1), `s` is the product of `u` with the convolution of `v`.  Among unit vectors, it is largest at the
singular vectors of the convolution, a linear map of images of `Y` by `X`, for its largest singular value.  There `s` is that value,
its norm, so that the norm of (4) is at most `c`.  Power iteration leads to these vectors, and raises `s`, by the convolution with `W`
and its adjoint, (7):
    v <- W^T u/|W^T u|,   u <- W v/|W v|                                            (6)
As long as `s` is less than the norm, the norm of (4) may be more than `c`.

A smaller image is a larger one with 0 around it, so that its convolution has no larger norm.  Larger images are refused, except along an
axis on which the kernels have one entry: there the convolution acts on each row, or column, alone.  So kernels of 1 by 1 need images
`u` and `v` of one position.

The reverse rule.  `u` and `v` are constants, so that `K` is the derivative of (2).  With `V_bar` the cotangent of `V`, and `h_bar` read
as 0 outside the image,
    a_bar_c(y, x) = sum_m sum_ij V_mcij h_bar_m(y - i + p, x - j + q)               (7)
    V_bar_mcij = sum_yx h_bar_m(y, x) a_c(y + i - p, x + j - q),   b_bar_m = sum_yx h_bar_m(y, x)       (8)
    W_bar = (c/s) (V_bar - <V_bar, W/s> K)    for s > c,   V_bar otherwise          (9)
Each column `A_k` of tangents becomes its convolution with `V`.  With the cotangents `H_bar_k` of these, (7) gives the cotangent of `A_k`,
and to `V_bar` is added
    sum_k sum_yx H_bar_km(y, x) A_kc(y + i - p, x + j - q)                          (10)
The unit of error is normwise, as for `SpectralDense`.

Source: Behrmann, Grathwohl, Chen, Duvenaud and Jacobsen, Invertible Residual Networks, arXiv:1811.00995, section 2.1, and Chen, Behrmann,
Duvenaud and Jacobsen, Residual Flows for Invertible Generative Modeling, arXiv:1906.02735; power iteration of convolutions, Gouk, Frank,
Pfahringer and Cree, Regularisation of Neural Networks by Enforcing Lipschitz Continuity, arXiv:1804.04368.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, conditioner, constant, plain, real, refusal
from ...core.arrays import doubled, rounded
from ...core.rules import ABOVE_0
from .conv2d import Convolution, bias_bar, checked_channels, output_of, over_batch, with_bias
from .correlation import Correlation
from .dense import largest_singular_value
from .examples import weights
from .spectral_dense import Bounded, check_lengths, power_iteration, unit
from .weight_norm_conv2d import scaled_pullback

MOST = 2**18                                    # entries of a matrix whose singular values are computed
GRID = 16                                       # frequencies for each entry of a kernel


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def windows(image, W, p, q):
        """What an output at each y and x reads."""
        (_, height, width), (I, J) = image.shape, W.shape[2:]
        padded = np.pad(image, ((0, 0), (p, I - 1 - p), (q, J - 1 - q)))
        return [[padded[:, y:y + I, x:x + J] for x in range(width)] for y in range(height)]

    def convolved(image, W, p, q):
        windows = textbook.windows(image, W, p, q)
        return np.moveaxis(np.array([[(W * window).sum((1, 2, 3)) for window in row] for row in windows]), -1, 0)

    def convolution(a, W):
        I, J = W.shape[2:]
        return textbook.convolved(a, W, (I - 1) // 2, (J - 1) // 2)

    def adjoint(h_bar, W):
        """a_bar: the convolution with kernels that are turned by half a turn."""
        I, J = W.shape[2:]
        turned = W.swapaxes(0, 1)[..., ::-1, ::-1]
        return textbook.convolved(h_bar, turned, I - 1 - (I - 1) // 2, J - 1 - (J - 1) // 2)

    def of_kernels(h_bar, a, W):
        I, J = W.shape[2:]
        windows = textbook.windows(a, W, (I - 1) // 2, (J - 1) // 2)
        return sum(np.multiply.outer(h_bar[:, y, x], window) for y, row in enumerate(windows) for x, window in enumerate(row))

    def bounded(W, u, v, coefficient):
        """s, K and V."""
        K = textbook.of_kernels(u, v, W)                                            # (1)
        s = (K * W).sum()                                                           # (2)
        return s, K, W / max(1, s / coefficient)                                    # (3)

    def forward(a, W, b, u, v, coefficient):
        V = textbook.bounded(W, u, v, coefficient)[2]
        return (textbook.convolution(a, V).T + b).T                                 # (4)

    def jacobian(a, W, b, u, v, coefficient):
        V, ones = textbook.bounded(W, u, v, coefficient)[2], np.eye(a.size, dtype=a.dtype)
        return np.stack([textbook.convolution(one.reshape(a.shape), V).ravel() for one in ones], 1)         # (5)

    def iterated(W, u, v):
        """u and v, after one step."""
        v = textbook.adjoint(u, W)                                                  # (6)
        v = v / np.sqrt((v**2).sum())                                               # (6)
        u = textbook.convolution(v, W)                                              # (6)
        return u / np.sqrt((u**2).sum()), v                                         # (6)

    def of_weights(W, u, v, coefficient, V_bar):
        s, K, _ = textbook.bounded(W, u, v, coefficient)
        if s <= coefficient:
            return V_bar                                                            # (9)
        return coefficient / s * (V_bar - (V_bar * W / s).sum() * K)                # (9)

    def vjp(a, W, b, u, v, coefficient, h_bar):
        V = textbook.bounded(W, u, v, coefficient)[2]
        V_bar = textbook.of_kernels(h_bar, a, W)                                    # (8)
        W_bar = textbook.of_weights(W, u, v, coefficient, V_bar)                    # (9)
        return textbook.adjoint(h_bar, V), {"W": W_bar, "b": h_bar.sum((1, 2))}     # (7) (8)

    def jvp(a, A_dot, W, b, u, v, coefficient, h_bar, H_bar):
        a_bar, bars = textbook.vjp(a, W, b, u, v, coefficient, h_bar)
        V, columns = textbook.bounded(W, u, v, coefficient)[2], range(A_dot.shape[-1])
        added = sum(textbook.of_kernels(H_bar[..., k], A_dot[..., k], W) for k in columns)          # (10)
        A_dot_bar = np.stack([textbook.adjoint(H_bar[..., k], V) for k in columns], -1)     # (7)
        return a_bar, A_dot_bar, bars | {"W": bars["W"] + textbook.of_weights(W, u, v, coefficient, added)}         # (9)


r"""In floating point.

In (1) to (10), sums over positions lose units in float32.  Everything is computed in float64, and rounded once.         (11)

In (9), a product with `V_bar` may overflow where the cotangents do not.  With `k` the sum of the exponents of the largest entries of
`h_bar` and of `a`, it does not, as in `WeightNormConv2d`:
    V_bar(h_bar) = 2^k V_bar(2^-k h_bar)                                            (12)
"""


@conditioner(source="arXiv:1906.02735", normwise=True, textbook=textbook)
class SpectralConv2d(Conditioner):
    """h = V * a + b, V = W/max(1, s/coefficient), with s = u . (W * v); a (*batch, C, H, W), W (M, C, I, J), b (M,), u (M, Y, X), v (C, Y, X).

    `iterated(steps)` gives the layer with the u and v of further steps of power iteration, by which s tends to the norm of the
    convolution.  H is at most Y, unless I = 1, and W at most X, unless J = 1.
    """

    W: Array = real("M", "C", "I", "J")
    b: Array = real("M")
    u: Array = constant("M", "Y", "X", dtype=np.float64)
    v: Array = constant("C", "Y", "X", dtype=np.float64)
    coefficient: float = plain(0.98, ABOVE_0)
    padding = "zeros"
    event_ndim = (3, 3)
    event_shape = ("C", "H", "W")

    def _validate(self):
        checked_channels(self, self.W.shape[-4:])
        check_lengths(self)
        super()._validate()

    def output_shape(self, shape):
        out, sides = output_of(self.W.shape[-4:], self.dims["C"], shape), self.v.shape[-2:]
        if any(side > most and size > 1 for side, most, size in zip(shape[1:], sides, self.W.shape[-2:])):
            raise ValueError(f"its images have at most Y={sides[0]} by X={sides[1]} positions")
        return out

    # -- the map ------------------------------------------------------------------------------------------------------

    def kernels(self):
        """W in float64, with a batch if u or v have one."""
        batch = np.broadcast_shapes(self.W.shape[:-4], self.u.shape[:-3], self.v.shape[:-3])
        return np.broadcast_to(self.W.astype(np.float64), batch + self.W.shape[-4:])        # (11)

    def bounded(self):
        W = self.kernels()
        images = (np.broadcast_to(image, W.shape[:-4] + image.shape[-3:]) for image in (self.v, self.u))
        _, K = Correlation(W).pullback(*images)                                     # (1)
        return Bounded(self, (K * W).sum((-4, -3, -2, -1)), K)                      # (2) (3)

    def forward(self, a):
        return self.with_weights(self.bounded().V, a)[0].astype(a.dtype)            # (4)

    def jacobian(self, a):
        return Convolution(over_batch(self.bounded().V, a), "zeros").jacobian(a).astype(a.dtype)        # (5)

    def iterated(self, steps=1):
        """The same layer with the u and v of further steps of power iteration."""
        correlation = Correlation(self.kernels())
        return power_iteration(self, correlation.forward, lambda u: correlation.pullback(self.v, u)[0], steps)          # (6)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def with_weights(self, V, a):
        """(h, the convolution), in float64."""
        a, b = doubled(a, self.b)                                                   # (11)
        convolution = Convolution(over_batch(V, a), "zeros")
        return with_bias(convolution.forward(a), b), convolution                    # (4)

    def vjp(self, a):
        at = self.bounded()
        h, convolution = self.with_weights(at.V, a)                                 # (4)

        def pullback(h_bar):
            wide, h_bar = doubled(a, h_bar)                                         # (11)
            a_bar, V_bar, k = scaled_pullback(convolution, wide, h_bar)             # (7) (8) (12)
            W_bar = at.of_weights(V_bar, k)                                         # (9) (12)
            return rounded((a_bar, {"W": W_bar, **bias_bar(h_bar, self.b)}), a.dtype)       # (8)

        return h.astype(a.dtype), pullback

    def jvp(self, a, A_dot):
        at, images = self.bounded(), stacked(a, A_dot)
        V = at.V if at.V.ndim == 4 else at.V[..., None, :, :, :, :]
        convolution = Convolution(over_batch(V, images), "zeros")
        h, H_dot = parted(convolution.forward(images))                              # (4) (5)

        def pullback(h_bar, H_bar):
            bars, V_bar, k = scaled_pullback(convolution, images, stacked(h_bar, H_bar))        # (7) (8) (10) (12)
            W_bar = at.of_weights(V_bar if V_bar.ndim == 4 else V_bar.sum(-5), k)        # (9) (12)
            return rounded((*parted(bars), {"W": W_bar, **bias_bar(h_bar.astype(np.float64), self.b)}), a.dtype)        # (8)

        return rounded((with_bias(h, self.b), H_dot), a.dtype), pullback            # (4)

    def lipschitz(self):
        """The norm of the convolution of images of Y by X, if its matrix is small; else a bound for images of all sizes.

        It is more than the coefficient where power iteration has not come to the norm.
        """
        V, image = self.bounded().V, self.v.shape[-3:]
        if math.prod(self.u.shape[-3:]) * math.prod(image) <= MOST:
            return largest_singular_value(Convolution(V, "zeros").jacobian(np.zeros(V.shape[:-4] + image)))
        return norm_of_all_sizes(V)

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        """Layers after some steps of power iteration, and images of the size of v or smaller."""
        M, C, I, J, Y, X = (source.count(1, most) for most in (2, 2, 3, 3, 3, 2))
        u, v = (unit(weights(source, (size, Y, X)), None, 3) for size in (M, C))
        net = cls(weights(source, (M, C, I, J)), weights(source, (M,)), u, v, source.choice((0.25, 0.9)))
        return net.iterated(source.count(0, 3)), (C, source.count(1, Y), X)

    hard_cases = (
        case("Number", "images and kernels of one entry: V is c or -c, and W_bar 0", z=[[[[3.0]]]], W=[[[[-3.3]]]], b=[0.7], u=[[[-1.0]]],
             v=[[[1.0]]], coefficient=0.9),
        case("Small", "a norm below the bound: the convolution", z=[[[[1.0, 2.0]]]], W=[[[[0.25, 0.5, 0.125]]]], b=[1.0],
             u=[[[0.6, 0.8]]], v=[[[0.8, 0.6]]], coefficient=0.9),
        case("Nothing", "W = 0", z=[[[[1.0, 2.0]]]], W=[[[[0.0, 0.0, 0.0]]]], b=[0.5], u=[[[0.6, 0.8]]], v=[[[0.8, 0.6]]],
             coefficient=0.9),
        case("Point", "kernels of one entry are a matrix, for images of any size", z=[[[[1.0, 2.0]], [[-3.0, 0.5]]]],
             W=[[[[3.0]], [[0.5]]], [[[0.25]], [[2.0]]]], b=[0.0, 1.0], u=[[[0.8]], [[0.6]]], v=[[[0.8]], [[0.6]]], coefficient=0.9),
        case("Smaller", "an image that is smaller than v", z=[[[[3.0]]]], W=[[[[1.0, 2.0, 4.0]]]], b=[0.5], u=[[[0.6, 0.8]]],
             v=[[[0.8, 0.6]]], coefficient=0.5),
        case("Even", "an even kernel reads one position more after than before", z=[[[[1.0, 2.0]]]], W=[[[[3.0, 5.0]]]], b=[0.0],
             u=[[[0.6, 0.8]]], v=[[[0.8, 0.6]]], coefficient=0.5),
        case("Narrow", "more channels in than out", z=[[[[1.0, 2.0]], [[3.0, 5.0]]]], W=[[[[0.5, 1.0, 2.0]], [[-1.0, 0.25, 3.0]]]], b=[1.0],
             u=[[[0.6, 0.8]]], v=[[[0.8, 0.0]], [[0.0, 0.6]]], coefficient=0.5),
        case("Against", "s < 0: nothing is divided", z=[[[[1.0, 2.0]]]], W=[[[[1.0, 2.0, 4.0]]]], b=[0.0], u=[[[0.6, 0.8]]],
             v=[[[-0.8, -0.6]]], coefficient=0.5),
        case("Outweighed", "one entry of W outweighs the others", z=[[[[1.0, 2.0]]]], W=[[[[1.0, 2.0**20, 1.0]]]], b=[0.0],
             u=[[[0.6, 0.8]]], v=[[[0.6, 0.8]]], coefficient=0.5),
        case("Huge", "V_bar overflows, and so do the products of (9), where the image has no rows for half of the kernel",
             z=[[[[2.0**100, 1.0]]], [[[2.0**1000, 1.0]]]], W=[[[[1.0, 2.0, 4.0], [1.0, 3.0, 0.5]]]], b=[0.0], u=[[[0.6, 0.8]]],
             v=[[[0.6, 0.8]]], coefficient=0.5),
    )
    refused = (
        refusal("v must be a unit vector, not of length 2.0", W=[[[[1.0]]]], b=[0.0], u=[[[1.0]]], v=[[[2.0]]]),
        refusal("kernels must have at least one entry", W=np.ones((1, 1, 0, 1)), b=[0.0], u=[[[1.0]]], v=[[[1.0]]]),
        refusal("images have at most Y=1 by X=2 positions", [[[1.0, 2.0, 3.0]]], W=[[[[1.0, 2.0]]]], b=[0.0], u=[[[0.6, 0.8]]],
                v=[[[0.6, 0.8]]]),
    )


def stacked(image, columns):
    """An image (*batch, C, H, W) and K columns (*batch, C, H, W, K), stacked as (*batch, 1+K, C, H, W), in float64."""
    image, columns = doubled(image, columns)                                        # (11)
    return np.concatenate((image[..., None, :, :, :], np.moveaxis(columns, -1, -4)), -4)


def parted(images):
    """The adjoint of `stacked`."""
    return images[..., 0, :, :, :], np.moveaxis(images[..., 1:, :, :, :], -4, -1)


def norm_of_all_sizes(V):
    """A bound of the norm of a convolution with the kernels V, whatever the size of the images.

    An image is a signal on all integers with 0 outside, which the convolution turns, frequency by frequency, by the matrix
    `G(f, g) = sum_ij V_ij exp(-2 pi sqrt(-1) (i f + j g))`.  So the largest norm of a `G` bounds the norm of the convolution.  For unit
    vectors `x` and `y`, and with a phase that centres the kernel, the real part of `y^T G x` has frequencies up to `(I-1)/2` in `f`.  Of
    such a function, the largest of the values at `N` equal steps of `f`, divided by `cos(pi (I-1)/(2 N))`, bounds all values.  Likewise
    for `g`.
    """
    sizes = V.shape[-2:]
    steps = [1 if size == 1 else GRID * size for size in sizes]
    of_rows, largest = np.fft.rfft(V, steps[0], -2), 0.0        # at -f and -g, G is the conjugate
    for f in range(of_rows.shape[-2]):
        G = np.moveaxis(np.fft.fft(of_rows[..., f, :], steps[1]), -1, 0)
        largest = max(largest, float(np.linalg.svd(G, compute_uv=False).max(initial=0)))
    return largest / math.prod(math.cos(math.pi * (size - 1) / (2 * n)) for size, n in zip(sizes, steps))
