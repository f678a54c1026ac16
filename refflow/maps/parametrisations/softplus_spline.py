r"""Knots and slopes of a spline that is free to move and to grow, as in FrEIA: bins by a softplus above a floor.

In h stand a shift of the first input knot, one of the first output knot, a number for the width of each of `K` bins, one for
its height, and one for the slope at each inner knot.  For a first knot's shift `a` and the numbers `h_j` of widths or heights,
    z_0 = low + a,   z_k = z_0 + sum_{j<k} w_j                                      (1)
    w_j = floor + log(1 + E exp h_j),   E = exp(width - floor) - 1                  (2)
    d_k = log(1 + (e - 1) exp h)            at inner knots, `e = exp 1`             (3)
    d_0 = d_K = H/W                         with the sums of heights and of widths  (4)
so that at `h = 0` every bin has the width `width`, and every slope is 1.  Beyond the knots the spline is a line of slope (4).

In (1), `low` and the widths may cancel, so that it is computed as
    z_k = (low + k width) + a + sum_{j<k} (w_j - width)                           (5)
    w_j - width = log(1 + p (exp(h_j) - 1)),   p = E/(1 + E)      for |h_j| <= 1    (6)
and with `log(1 + E exp h) = h + log(E + exp(-h))` for `h > 0`.

Reverse rule, with `g_j = dw_j/dh_j = E exp(h_j)/(1 + E exp h_j)`, its exponent kept apart, and `D = d_0_bar + d_K_bar`:
    a_bar = sum_k z_k_bar                                                           (7)
    h_j_bar = g_j (sum_{k>j} z_k_bar - D H/W^2)            for a width              (8)
            = g_j (sum_{k>j} x_k_bar + D/W)                for a height             (9)
            = g_j d_k_bar                                  for a slope, with `E = e - 1`        (10)
"""

from __future__ import annotations

from math import e, expm1

import numpy as np

from ...core import case, plain, refusal
from ..elementwise.scale import scaled
from .parametrisation import Map, parametrisation


@parametrisation(source="FrEIA")
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

    @staticmethod
    def definition(m, h, bins, low, width, floor):
        low, floor, width = m.mpf(low), m.mpf(floor), m.mpf(width)
        E, fields = m.exp(width - floor) - 1, {"tails": "linear"}                   # (2)
        sides = (h[0], h[2:2 + bins]), (h[1], h[2 + bins:2 + 2 * bins])
        sums = []
        for name, (a, numbers) in zip(("input_knots", "output_knots"), sides):
            w = [floor + m.log(1 + E * m.exp(h_j)) for h_j in numbers]              # (2)
            knots = [low + a]                                                       # (1)
            for w_j in w:
                knots.append(knots[-1] + w_j)                                       # (1)
            fields[name] = knots
            sums.append(m.fsum(w))
        inner = [m.log(1 + (m.exp(1) - 1) * m.exp(h_k)) for h_k in h[2 + 2 * bins:]]            # (3)
        return fields | {"slopes": [sums[1] / sums[0], *inner, sums[1] / sums[0]]}  # (4)

    def vjp(self, h):
        K = self.bins
        (z, W, g), (x, H, f) = (self.side(h[..., i:i + 1], h[..., 2 + i * K:2 + (i + 1) * K]) for i in (0, 1))
        free = h[..., 2 + 2 * K:]
        slopes = np.concatenate([H / W, grown(free, e - 1), H / W], -1)             # (3) (4)

        def pullback(bars):
            z_bar, x_bar, d_bar = (bars[name] for name in self.names)
            D = d_bar[..., :1] + d_bar[..., -1:]
            of_widths = scaled(after(z_bar) - D * (H / W) / W, *g)                  # (8)
            of_heights = scaled(after(x_bar) + D / W, *f)                           # (9)
            of_slopes = scaled(d_bar[..., 1:-1], *gate(free, e - 1))                # (10)
            return np.concatenate([z_bar.sum(-1, keepdims=True), x_bar.sum(-1, keepdims=True), of_widths, of_heights,
                                   of_slopes], -1), {}                              # (7)

        return {"input_knots": z, "output_knots": x, "slopes": slopes, "tails": "linear"}, pullback

    def side(self, a, numbers):
        """(knots, sum of the sizes, (m, w) with the derivatives of the sizes m exp(w))."""
        span = self.width - self.floor
        E, p = expm1(span), -expm1(-span)
        w = self.floor + grown(numbers, E)                                          # (2)
        near = np.log1p(p * np.expm1(np.minimum(numbers, 1)))                       # (6)
        more = np.where(np.abs(numbers) <= 1, near, grown(numbers, E) - span)
        start = (self.low + np.arange(self.bins + 1) * self.width).astype(a.dtype)
        moved = np.concatenate([np.zeros_like(a), np.cumsum(more, -1)], -1)
        return start + a + moved, w.sum(-1, keepdims=True), gate(numbers, E)        # (5)

    hard_cases = (
        case("Still", "at h = 0 knots and slopes are simple numbers", z=[[0.0] * 7], bins=2),
        case("AtZero", "a knot near 0: low and its shift cancel", z=[[3.0, -1e-9, 0.0, 0.0], [3.0 + 2.0**-40, 1.0, -2.0, 5.0]],
             bins=1),
        case("Floors", "bins that are the floor, slopes that vanish", z=[[1.0, 2.0, -50.0, -800.0, 700.0, -40.0, -740.0]],
             bins=2),
    )
    refused = (
        refusal("bins must be at least 1", bins=0),
        refusal("0 < floor < width", bins=1, floor=0.0),
        refusal("0 < floor < width", bins=1, width=0.5, floor=0.5),
    )


def grown(h, E):
    """log(1 + E exp h)."""
    up = np.maximum(h, 0)
    return np.where(h > 0, up + np.log(E + np.exp(-up)), np.log1p(E * np.exp(np.minimum(h, 0))))


def gate(h, E):
    """(m, w) with E exp(h)/(1 + E exp h) = m exp(w)."""
    q = np.exp(-np.abs(h))
    return np.where(h > 0, 1 / (1 + q / E), E / (1 + E * q)).astype(h.dtype), np.minimum(h, 0)


def after(bar):
    """sum_{k>j} bar_k for j = 0 .. K-1."""
    return np.cumsum(bar[..., :0:-1], -1)[..., ::-1]
