r"""Squeeze: blocks of pixels become channels (RealNVP: Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803, section 3.6).

The map.  An image `z` of `(C, H, W)` becomes `x` of `(C f^2, H/f, W/f)`, `f = factor`.  In the block of pixels at `(i, j)`, the
pixel at `(dy, dx)` inside it, `0 <= dy, dx < f`, goes to channel `k` of
    x_{k,i,j} = z_{c, f i + dy, f j + dx}                                           (1)
    k = c f^2 + f dy + dx           interleaved: RealNVP and Glow, as torch's pixel_unshuffle               (2)
    k = (f dy + dx) C + c           blocks: TensorFlow's space_to_depth             (3)
    k = n(dy, dx) C + c             diagonal, f = 2: RealNVP before it factors out half of the channels     (4)
with `n(0, 0) = 0, n(1, 1) = 1, n(0, 1) = 2, n(1, 0) = 3`: the first half of the channels holds the diagonals of the blocks.
The map moves entries and changes none of them, and the inverse moves them back:
    dx/dz = a permutation matrix,   log|det| = 0                                    (5)
    z_{c, f i + dy, f j + dx} = x_{k,i,j}                                           (6)

The reverse rule.  The transpose of a permutation matrix is its inverse, so that cotangents move back as entries do:
    z_bar_{c, f i + dy, f j + dx} = x_bar_{k,i,j},   of the inverse map read from right to left     (7)
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, plain, real, refusal
from ...core.rules import count, one_of
from ...core.sets.rearranged import put_back, rearranged

ORDERS = ("interleaved", "blocks", "diagonal")
DIAGONAL = (0, 3, 1, 2)                 # f dy + dx of the n-th block


def channel(order, factor, C, c, dy, dx):
    """k of (2), (3) or (4)."""
    if order == "interleaved":
        return c * factor**2 + factor * dy + dx                                     # (2)
    n = factor * dy + dx
    return (DIAGONAL.index(n) if order == "diagonal" else n) * C + c                # (3) (4)


def origin(order, factor, C, k):
    """(c, dy, dx) of a channel k."""
    for c in range(C):
        for dy in range(factor):
            for dx in range(factor):
                if channel(order, factor, C, c, dy, dx) == k:
                    return c, dy, dx


@bijector(source="arXiv:1605.08803", domain=real, codomain=real, constant_log_det=True)
class Squeeze(Bijector):
    """Each block of factor x factor pixels as channels: z (*batch, C, H, W), x (*batch, C factor^2, H/factor, W/factor).

    `order` of the channels: "interleaved", "blocks" or, for factor 2, "diagonal".  `Inverse(Squeeze())` unsqueezes.
    ValueError for another order, a factor that is not an int >= 1, a height or width that factor does not divide, and
    for channels of x that factor^2 does not divide.
    """

    factor: int = plain(2, count())
    order: str = plain("interleaved", one_of(*ORDERS))
    event_ndim = (3, 3)

    def _validate(self):
        if self.order == "diagonal" and self.factor != 2:
            raise ValueError(f"Squeeze: the order 'diagonal' is of factor 2, not {self.factor}")
        super()._validate()

    def image_of(self, where, side=0):
        """The same entries in other places."""
        if not where.thin:
            return super().image_of(where, side)
        there, back = (f"{word} by {self.factor}, {self.order}" for word in ("squeezed", "unsqueezed")[::1 - 2 * side])
        before = put_back(where, back)
        if before is not None or where.member_ndim > 3:
            return before
        shape, own = (self.input_shape, self.output_shape)[side], self.unchecked_copy
        return rearranged(where, there, 3, shape, *(own.inverse, own.forward)[::1 - 2 * side])

    def output_shape(self, shape):
        C, H, W = shape
        f = self.factor
        if H % f or W % f:
            raise ValueError(f"height and width must be multiples of factor = {f}")
        return C * f * f, H // f, W // f

    def input_shape(self, shape):
        C, H, W = shape
        f = self.factor
        if C % (f * f):
            raise ValueError(f"its channels must be a multiple of factor^2 = {f * f}")
        return C // (f * f), H * f, W * f

    @staticmethod
    def definition(m, z, factor, order):
        C, f = len(z), factor
        pixels = [origin(order, f, C, k) for k in range(C * f * f)]
        return [[[z[c][f * i + dy][f * j + dx] for j in range(len(z[c][0]) // f)]
                 for i in range(len(z[c]) // f)] for c, dy, dx in pixels]           # (1)

    @staticmethod
    def inverse_definition(m, x, factor, order):
        C, f = len(x) // factor**2, factor
        return [[[x[channel(order, f, C, c, row % f, column % f)][row // f][column // f]
                  for column in range(len(x[0][0]) * f)] for row in range(len(x[0]) * f)] for c in range(C)]        # (6)

    def forward(self, z):
        f = self.factor
        *batch, C, H, W = z.shape
        b, h, w = len(batch), H // f, W // f
        blocks = z.reshape(*batch, C, h, f, w, f)                       # axes c, i, dy, j, dx
        if self.order == "interleaved":
            axes = (0, 2, 4, 1, 3)                                                  # (1) (2)
        else:
            axes = (2, 4, 0, 1, 3)                                                  # (1) (3)
        x = blocks.transpose(*range(b), *(b + a for a in axes))
        if self.order == "diagonal":
            x = x.reshape(*batch, f * f, C, h, w)[..., DIAGONAL, :, :, :]           # (4)
        return x.reshape(*batch, C * f * f, h, w)

    def inverse(self, x):
        f = self.factor
        *batch, K, h, w = x.shape
        b, C = len(batch), K // (f * f)
        if self.order == "interleaved":
            blocks, axes = x.reshape(*batch, C, f, f, h, w), (0, 3, 1, 4, 2)
        else:
            blocks, axes = x.reshape(*batch, f * f, C, h, w), (2, 3, 0, 4, 1)
            if self.order == "diagonal":
                blocks = blocks[..., np.argsort(DIAGONAL), :, :, :]
            blocks = blocks.reshape(*batch, f, f, C, h, w)
        return blocks.transpose(*range(b), *(b + a for a in axes)).reshape(*batch, C, h * f, w * f)     # (6)

    def log_det(self, z):
        return np.zeros(z.shape[:-3], z.dtype)                                      # (5)

    def jacobian(self, z):
        size = int(np.prod(z.shape[-3:]))
        moved = self.forward(np.arange(size).reshape(z.shape[-3:])).ravel()
        J = (moved[:, None] == np.arange(size)).astype(z.dtype)                     # (5)
        return np.broadcast_to(J, (*z.shape[:-3], size, size))

    def vjp(self, z):
        return self.forward_and_log_det(z), lambda x_bar, log_det_bar: (self.inverse(x_bar), {})        # (7)

    def inverse_vjp(self, x):
        return self.inverse_and_log_det(x), lambda z_bar, log_det_bar: (self.forward(z_bar), {})        # (7)

    hard_cases = (
        case("OneBlock", "the four pixels of one block: the order of the channels is all there is",
             z=[[[[1.0, 2.0], [3.0, 4.0]]]], x=[[[[1.0]], [[2.0]], [[3.0]], [[4.0]]]], order="interleaved"),
        case("TwoChannels", "interleaved and blocks differ from two channels on",
             z=[[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]],
             x=[[[[1.0]], [[2.0]], [[3.0]], [[4.0]], [[5.0]], [[6.0]], [[7.0]], [[8.0]]]], order="blocks"),
        case("Diagonals", "the diagonal of the block comes first: (0, 0), (1, 1), (0, 1), (1, 0)",
             z=[[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]],
             x=[[[[1.0]], [[2.0]], [[3.0]], [[4.0]], [[5.0]], [[6.0]], [[7.0]], [[8.0]]]], order="diagonal"),
        case("Wide", "height and width differ: rows and columns are not exchanged",
             z=[[[[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]]],
             x=[[[[1.0, 5.0]], [[2.0, 6.0]], [[3.0, 7.0]], [[4.0, 8.0]]]]),
        case("Three", "blocks of nine pixels", z=[[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]]],
             x=[[[[1.0]], [[2.0]], [[3.0]], [[4.0]], [[5.0]], [[6.0]], [[7.0]], [[8.0]], [[9.0]]]], factor=3),
    )
    refused = (
        refusal("the order 'diagonal' is of factor 2", factor=3, order="diagonal"),
        refusal("z ", [[[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]]]),
    )
