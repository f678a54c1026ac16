r"""Knots and slopes of a spline that is free to move and to grow, as in FrEIA: bins by a softplus above a floor.

The map.  In h stand a shift of the first input knot, one of the first output knot, a number for the width of each of `K` bins,
one for its height, and one for the slope at each inner knot.  For a first knot's shift `a` and the numbers `n_0, ..., n_(K-1)` of
widths or heights,
    z_0 = low + a,   z_k = z_0 + w_0 + ... + w_(k-1)                                (1)
    w_j = floor + log(1 + E exp n_j),   E = exp(span) - 1,   span = width - floor   (2)
    d_k = log(1 + (e - 1) exp n_k)          at inner knots, `e = exp 1`             (3)
    d_0 = d_K = H/W                         with the sums of heights and of widths  (4)
so that at `n = 0` every bin has the width `width`, and every slope is 1.  Beyond the knots the spline is a line of slope (4).

The reverse rule.  With `g_j = dw_j/dn_j` and `D = d_0_bar + d_K_bar`,
    g_j = E exp(n_j)/(1 + E exp n_j)                                                (5)
    a_bar = sum_k z_k_bar                                                           (6)
    n_j_bar = g_j (sum_{k>j} z_k_bar - D H/W^2)             for a width             (7)
            = g_j (sum_{k>j} x_k_bar + D/W)                 for a height            (8)
            = g_j d_k_bar                                   for a slope, with `E = e - 1`       (9)
"""

from __future__ import annotations

from math import expm1, log

import numpy as np

from ...core import case, plain, refusal
from ...core.pairs import pair
from ..elementwise.scale import scaled
from .parametrisation import Map, parametrisation


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def fields(h, bins, low, width, floor):
        w, u = np.split(floor + textbook.grown(h[2:2 + 2 * bins], width - floor), 2)        # (2)
        z, x = (low + a + np.array([0, *np.cumsum(sizes)]) for a, sizes in ((h[0], w), (h[1], u)))          # (1)
        end, inner = np.sum(u) / np.sum(w), textbook.grown(h[2 + 2 * bins:], 1)     # (3) (4)
        return {"input_knots": z, "output_knots": x, "slopes": np.array([end, *inner, end])}

    def vjp(h, bins, low, width, floor, input_knots_bar, output_knots_bar, slopes_bar):
        numbers, z_bar, x_bar = h[2:2 + 2 * bins], input_knots_bar, output_knots_bar
        w, u = np.split(floor + textbook.grown(numbers, width - floor), 2)          # (2)
        g, f = np.split(textbook.gate(numbers, width - floor), 2)                   # (5)
        W, H, D = np.sum(w), np.sum(u), slopes_bar[0] + slopes_bar[-1]
        of_widths = g * (textbook.after(z_bar) - D * H / W**2)                      # (7)
        of_heights = f * (textbook.after(x_bar) + D / W)                            # (8)
        of_slopes = textbook.gate(h[2 + 2 * bins:], 1) * slopes_bar[1:-1]           # (9)
        return np.concatenate([[np.sum(z_bar), np.sum(x_bar)], of_widths, of_heights, of_slopes]), {}       # (6)

    def grown(h, span):
        """log(1 + E exp h)."""
        return np.log(1 + (np.exp(span) - 1) * np.exp(h))                           # (2) (3)

    def gate(h, span):
        """g."""
        e = (np.exp(span) - 1) * np.exp(h)
        return e / (1 + e)                                                          # (5)

    def after(bar):
        """sum_{k>j} bar_k for j = 0 .. K-1."""
        return np.array([np.sum(bar[j:]) for j in range(1, len(bar))])


r"""In floating point.

In (2) and (3), `E` and `exp h` may overflow.  With `v = h + span`, or `v = h + 1` for (3), and with
`p = E/(1 + E) = 1 - exp(-span)`, nothing overflows in
    log(1 + E exp h) = log(1 + p exp v)                     for v <= -log p
                     = v + log(p + exp(-v))                 for v > -log p          (10)

In (1), `low` and the widths may cancel.  So the constants `c_j`, which are `floor` for `h_j < -1, v <= -log p`, else `width`,
are summed in pairs of floats, apart from the rest:
    z_k = (low + sum_{j<k} c_j) + a + sum_{j<k} (w_j - c_j)                         (11)
    w_j - width = log(1 + p (exp(h_j) - 1))                 for |h_j| <= 1          (12)
                = h_j + log(p + exp(-v))                    elsewhere, for v > -log p       (13)

In (5), a slope may underflow where its product with a cotangent does not.  Its exponent is kept apart, with `t = exp(-|v|)`:
    g_j = 1/(1 + t/p)                                       for v > 0
        = p/(1 + p t) exp(v)                                for v <= 0              (14)
"""


@parametrisation(source="FrEIA", textbook=textbook)
class SoftplusSpline(Map):
    """`input_knots`, `output_knots` and `slopes`, each (K+1), K = `bins`; linear tails.

    `low`: the first knots at h = 0; `width`: a bin's width and height at h = 0; `floor`: the least.  ValueError for bins < 1
    and unless 0 < floor < width.
    """

    bins: int = plain()
    low: float = plain(-3.0)
    width: float = plain(6.0)
    floor: float = plain(0.1)
    names = ("input_knots", "output_knots", "slopes")

    size = property(lambda self: 3 * self.bins + 1)
    cores = property(lambda self: ((self.bins + 1,),) * 3)

    def _validate(self):
        super()._validate()
        if self.bins < 1 or not 0 < self.floor < self.width:
            raise ValueError(f"SoftplusSpline: bins must be at least 1, and 0 < floor < width; they are {self.bins}, "
                             f"{self.floor} and {self.width}")

    @classmethod
    def examples(cls, source):
        f = cls(source.count(1, 2), *source.choice(((-3.0, 6.0, 0.1), (-1.0, 0.5, 0.25))))
        return f, (f.size,)

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, h):
        K = self.bins
        (z, W, g), (x, H, f) = (self.side(h[..., i:i + 1], h[..., 2 + i * K:2 + (i + 1) * K]) for i in (0, 1))
        free = h[..., 2 + 2 * K:]
        slopes = np.concatenate([H / W, grown(free, 1.0), H / W], -1)               # (3) (4)

        def pullback(bars):
            z_bar, x_bar, d_bar = (bars[name] for name in self.names)
            D = d_bar[..., :1] + d_bar[..., -1:]
            of_widths = scaled(after(z_bar), *g) - scaled(D, (H, 1 / W, 1 / W, g[0]), g[1])     # (7) (14)
            of_heights = scaled(after(x_bar) + D / W, *f)                           # (8) (14)
            of_slopes = scaled(d_bar[..., 1:-1], *gate(free, 1.0))                  # (9) (14)
            return np.concatenate([z_bar.sum(-1, keepdims=True), x_bar.sum(-1, keepdims=True), of_widths, of_heights,
                                   of_slopes], -1), {}                              # (6)

        return {"input_knots": z, "output_knots": x, "slopes": slopes, "tails": "linear"}, pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def side(self, a, numbers):
        """(knots, sum of the sizes, (m, w) with the derivatives of the sizes m exp(w))."""
        span = self.width - self.floor
        up, below, above = split(numbers, span)
        w = self.floor + grown(numbers, span)                                       # (2)
        near = np.log1p(-expm1(-span) * np.expm1(np.minimum(numbers, 1)))           # (12)
        least = (numbers < -1) & ~up
        rest = np.where(least, below, np.where(up, numbers + above, below - span))  # (10) (13)
        rest = from_first(np.where(np.abs(numbers) <= 1, near, rest))
        constants = from_first(~least) * pair(self.width) + from_first(least) * pair(self.floor)
        knots = (self.low + constants).astype(a.dtype) + a + rest                   # (11)
        return knots, w.sum(-1, keepdims=True), gate(numbers, span)

    hard_cases = (
        case("Still", "at h = 0 knots and slopes are simple numbers", z=[[0.0] * 7], bins=2),
        case("AtZero", "a knot near 0: low and its shift cancel", z=[[3.0, -1e-9, 0.0, 0.0], [3.0 + 2.0**-40, 1.0, -2.0, 5.0]],
             bins=1),
        case("Wide", "exp(width) is beyond the floats", z=[[0.5, -1.0, 1.1, -1.1], [1.0, 0.5, -900.0, -1001.0]], bins=1,
             width=1000.0),
        case("AtFloors", "a knot near 0: low, a floor and a width cancel", z=[[0.0, 0.0, -104.0, 0.0, 0.0, -12.0, 0.0]], bins=2,
             low=-1.1208, width=1.1077, floor=0.01315),
        case("Floors", "bins that are the floor, slopes that vanish", z=[[1.0, 2.0, -50.0, -800.0, 700.0, -40.0, -740.0]],
             bins=2),
    )
    refused = (
        refusal("bins must be at least 1", bins=0),
        refusal("0 < floor < width", bins=1, floor=0.0),
        refusal("0 < floor < width", bins=1, width=0.5, floor=0.5),
    )


def split(h, span):
    """(marks of v > -log p, log(1 + p exp v), log(p + exp(-v)))."""
    v, p = h + span, -expm1(-span)                                                  # (10)
    end = -log(p)
    return v > end, np.log1p(p * np.exp(np.minimum(v, end))), np.log(p + np.exp(-np.maximum(v, end)))     # (10)


def grown(h, span):
    """log(1 + E exp h)."""
    up, below, above = split(h, span)
    return np.where(up, h + span + above, below)                                    # (10)


def gate(h, span):
    """(m, w) with E exp(h)/(1 + E exp h) = m exp(w)."""
    v, t, p = h + span, np.exp(-np.abs(h + span)), -expm1(-span)                     # (14)
    return np.where(v > 0, 1 / (1 + t / p), p / (1 + p * t)).astype(h.dtype), np.minimum(v, 0)   # (14)


def from_first(v):
    """sum_{j<k} v_j for k = 0 .. K."""
    return np.concatenate([np.zeros_like(v[..., :1]), v], -1).cumsum(-1)


def after(bar):
    """sum_{k>j} bar_k for j = 0 .. K-1."""
    return np.cumsum(bar[..., :0:-1], -1)[..., ::-1]
