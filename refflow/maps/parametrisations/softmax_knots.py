r"""Knots of a spline: from a first to a last knot by bins whose sizes are a softmax above a floor.

The map.  With a number `h_j` for each of `K` bins,
    p_j = exp(a_j)/sum_i exp(a_i),   a_j = rate h_j                                 (1)
    w_j = floor + (high - low - K floor) p_j                                        (2)
    x_k = low + sum_{j<k} w_j,   x_0 = low,   x_K = high                            (3)
or, in zuko, with softly clipped numbers, whose exponentials differ by a factor of at most `1/clip`,
    a_j = rate h_j r_j,   r_j = 1/(1 + |rate h_j|/b),   b = -(log clip)/2           (4)
or, in FlowJAX, with the first bin halved and its other half as a last bin, `K + 1` bins in all,
    x_k = low + w_0/2 + sum_{0<j<k} w_j   for 0 < k <= K,   x_(K+1) = high          (5)

The reverse rule.  The first and the last knot are fixed, and sums are over inner knots.  With `da_j/dh_j = rate r_j^2`, where
`r_j = 1` without (4), and with `dp_i/da_j = p_i ([i = j] - p_j)`,
    w_j_bar = sum_{k>j} x_k_bar                                                     (6)
    h_j_bar = rate r_j^2 (high - low - K floor) p_j (w_j_bar - sum_i p_i w_i_bar)   (7)
and for a bin of two halves,
    w_0_bar = sum_k x_k_bar/2                                                       (8)

Source: Durkan, Bekasov, Murray and Papamakarios, Neural Spline Flows, arXiv:1906.04032, section 3.1; (4) zuko.
"""

from __future__ import annotations

import functools
from math import log, sqrt

import numpy as np

from ...core import case, plain, refusal
from ...core.arithmetic import split_sum
from ...core.pairs import pair
from ...core.rules import ABOVE_0, AT_LEAST_0, BELOW_1, FINITE, FLAG, count, optional
from .parametrisation import Map, parametrisation

UNIT = {np.dtype(np.float64): 2.0**400, np.dtype(np.float32): 2.0**40}      # so that no e_j that counts is subnormal


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def fields(h, bins, low, high, floor, rate, clip, halved):
        p, _ = textbook.shares(h, rate, clip)
        w = floor + (high - low - bins * floor) * p                                 # (2)
        if halved:
            w = np.array([w[0] / 2, *w[1:], w[0] / 2])                              # (5)
        return {"knots": np.array([low, *(low + np.cumsum(w[:-1])), high])}         # (3)

    def vjp(h, bins, low, high, floor, rate, clip, halved, knots_bar):
        (p, r), inner = textbook.shares(h, rate, clip), knots_bar[1:-1]
        w_bar = np.array([np.sum(inner[j:]) for j in range(bins)])                  # (6)
        if halved:
            w_bar[0] = np.sum(inner) / 2                                            # (8)
        return rate * r**2 * (high - low - bins * floor) * p * (w_bar - np.sum(p * w_bar)), {}      # (7)

    def shares(h, rate, clip):
        """p, r."""
        a, r = rate * h, 1
        if clip is not None:
            r = 1 / (1 + np.abs(a) / (-np.log(clip) / 2))                           # (4)
        e = np.exp(a * r)
        return e / np.sum(e), r                                                     # (1)


r"""In floating point.

In (1), an exponential may overflow, or all of them may underflow.  `p_j` does not change if a number is added to all `a_j`, with
its roundings restored, or if all exponentials are multiplied by one number.

In (3), `low` and the sum cancel where `x_k` is near 0, and `x_k` is exactly 0 for equal bins of a symmetric interval.  Let
`e_j = c_j exp a_j` and `S = sum_j e_j`, where `c_j = 1`, or 1/2 for a half, which is a bin of its own here.  With
`V_k = sum_{j<k} e_j`, `U_k = sum_{j>=k} e_j` and `C_k = sum_{j<k} c_j`, (3) and (5) are a mean of two ends
    x_k = (low U_k + high V_k + floor (C_k U_k - (K - C_k) V_k))/S                  (9)
whose terms cancel as well.  So each `e_j` is kept in two parts, a reference, which takes few values, and a remainder,
    e_j = rho_j + g_j,   rho_j = 1,   g_j = exp(a_j) - 1           for -1 <= a_j <= 2           (10)
    rho_j = exp(s_j b),   g_j = rho_j (exp(-s_j b r_j) - 1),   s_j = sign h_j,   for r_j < 1/2 and b r_j < 1    (11)
    rho_j = 0,   g_j = exp(s_j b) exp(-s_j b r_j)                                for r_j < 1/2 and b r_j >= 1
    rho_j = 0,   g_j = exp(a_j), or exp(-64) exp(a_j + 64) for a_j < -64,   elsewhere           (12)
References take few values, so their sums are multiples of these; the sums cancel in pairs of floats, and `exp b` and `exp(-b)`
are pairs, too.  The halves of the first bin are references.

In (7), each `x_k_bar` stands in `w_j_bar` and in the mean over all bins, and these cancel where they are nearly equal.  `x_k_bar`
stands in only one term of the following form, with `R = rate (high - low - K floor)/S`,
    h_j_bar = R r_j^2 (e_j/S) (sum_{k>j} x_k_bar U_k - sum_{k<=j} x_k_bar V_k)      (13)
or, for the number of two halves, where `U'_k` and `V'_k` are the sums without them, and `e_0` is whole,
    h_0_bar = R r_0^2 (e_0/S) sum_k x_k_bar (U'_k - V'_k)/2                         (14)
"""


@parametrisation(source="arXiv:1906.04032", textbook=textbook)
class SoftmaxKnots(Map):
    """`knots` (K+1) from `low` to `high`, K = `bins`, by a softmax of rate h; every bin is at least `floor` wide.

    With `clip` in (0, 1), the logits are softly clipped, and no bin without its floor is more than 1/clip times as wide as
    another.  With `halved`, the first bin is halved and its other half is a last bin: `knots` is (K+2).  Raises ValueError for
    bins < 1, high <= low, and floors that do not fit.
    """

    bins: int = plain(rule=count())
    low: float = plain(-1.0, FINITE)
    high: float = plain(1.0, FINITE)
    floor: float = plain(0.0, AT_LEAST_0)
    rate: float = plain(1.0, ABOVE_0)
    clip: float = plain(None, optional(BELOW_1))
    halved: bool = plain(False, FLAG)
    names = ("knots",)

    size = property(lambda self: self.bins)
    cores = property(lambda self: ((self.bins + 1 + self.halved,),))

    @functools.cached_property
    def spread(self):
        """The interval's length minus all floors."""
        return float((self.high - pair(self.low) - pair(self.floor) * self.bins).high)

    @functools.cached_property
    def ends(self):
        """The factors of U and V in (9), as pairs."""
        c = np.ones(self.bins + self.halved)
        if self.halved:
            c[[0, -1]] = 0.5
        before, after = (pair(v) * self.floor for v in sides(c))
        return self.low + before, self.high - after

    def _validate(self):
        super()._validate()
        if not self.low < self.high:
            raise ValueError(f"SoftmaxKnots: low must be < high; low = {self.low}, high = {self.high}")
        if not self.bins * self.floor < self.high - self.low:
            raise ValueError(f"SoftmaxKnots: floor must be < (high - low)/bins; floor = {self.floor}, bins = {self.bins}")

    @classmethod
    def examples(cls, source):
        given = source.choice([case.params for case in cls.hard_cases])
        return cls(**given), (given["bins"],)

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, h):
        dtype, h = h.dtype, h if self.clip is None else h.astype(np.float64)    # in float32, (4) costs a unit too many
        rho, g, r = self.weights(h)
        whole, halves = rho.sum(0) + g, np.zeros((0, *g.shape), g.dtype)
        if self.halved:
            parts = np.concatenate([rho, g[None]])
            rho, g, halves = (np.concatenate([factor * v[..., :1], inside * v[..., 1:], factor * v[..., :1]], -1)
                              for v, factor, inside in ((rho, 0, 1), (g, 0, 1), (parts, 0.5, 0)))
        e, S = rho.sum(0) + g + halves.sum(0), whole.sum(-1, keepdims=True)
        V, U = sides(e)

        def pullback(bars):
            x_bar = bars["knots"]
            later = np.cumsum((x_bar * U)[..., :0:-1], -1)[..., ::-1]
            earlier = np.cumsum((x_bar * V)[..., :-1], -1)
            bar = e * (later - earlier)                                             # (13)
            if self.halved:
                tilt = sum(U - V for V, U in map(sides, (g, *rho)))
                first = whole[..., :1] * (x_bar * tilt)[..., 1:-1].sum(-1, keepdims=True) / 2       # (14)
                bar = np.concatenate([first, bar[..., 1:-1]], -1)
            return (self.rate * self.spread * bar / S / S * r * r).astype(dtype), {}        # (7) (13)

        return {"knots": self.knots((*rho, *halves), g, S).astype(dtype)}, pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def weights(self, h):
        """(rho of each kind of reference, g, r)."""
        a, unit, r, lost = self.rate * h, UNIT[h.dtype], 1, 0
        up = down = moved = np.False_
        if self.clip is None:
            top = a.max(-1, keepdims=True)
            moved = (top < -1) | (top > 2)
            a, lost = split_sum(a, np.where(moved, -top, 0))
        else:
            b = -log(self.clip) / 2
            r = 1 / (1 + np.abs(a) / b)                                             # (4)
            a, up, down = a * r, (r < 0.5) & (a > 0), (r < 0.5) & (a < 0)           # (4)
        near = (a >= -1) & (a <= 2) & ~(up | down | moved)
        far = np.exp(np.maximum(a, -64)) * unit * np.exp(np.minimum(a + 64, 0))     # (12)
        rho, g = np.where(near, h.dtype.type(unit), 0), np.where(near, unit * np.expm1(a), far + far * lost)        # (10) (12)
        if self.clip is None:
            return rho[None], g, r
        root = (sqrt(self.clip) + self.clip / pair(sqrt(self.clip))) / 2            # exp(-b)
        largest, least = unit / root, unit * root
        ends = np.stack([np.where(at, part, 0) for at, end in ((up, largest), (down, least)) for part in (end.high, end.low)])
        left, close = np.where(up, -b, b) * r, b * r < 1
        g = np.where(up | down, ends.sum(0) * np.where(close, np.expm1(left), np.exp(left)), g)     # (11) (12)
        return np.concatenate([rho[None], np.where(close, ends, 0)]), g, r

    def knots(self, references, g, S):
        """The knots from the references of each kind and the remainders."""
        (low, high), (V, U) = self.ends, sides(g)
        cancelling = sum(low * U + high * V for V, U in map(sides, references))     # (9)
        knots = (cancelling.astype(g.dtype) + low.astype(g.dtype) * U + high.astype(g.dtype) * V) / S       # (9)
        knots[..., 0], knots[..., -1] = self.low, self.high                         # (3)
        return knots

    hard_cases = (
        case("Equal", "every bin is 1/K: the middle knot is exactly 0", z=[[0.0] * 4], bins=4, low=-3.0, high=3.0, floor=6e-3),
        case("NearlyEqual", "the middle knot is as small as the logits", z=[[1e-9, 2e-9], [5e-324, 0.0]], bins=2),
        case("EqualInside", "low and high nearly cancel at a knot", z=[[0.0] * 4, [1e-18, 0.0, 0.0, 0.0]], bins=4, low=-0.1,
             high=0.3),
        case("Balanced", "bins that are lost beside the others", z=[[-50.0, 0.0, -51.0, 0.0], [0.0, -50.0, -50.0, 0.0]],
             bins=4),
        case("Narrow", "widths far below u: all from the first knot", z=[[-80.0, 0.0, 3.0], [0.0, -700.0, -701.0]], bins=3,
             low=0.0),
        case("Large", "exponentials that overflow", z=[[1000.0, 999.0, 0.0], [-2.0**60, 0.0, -2.0**1000]], bins=3, rate=0.125),
        case("Floors", "the floors take nearly all", z=[[1.0, -2.0, 3.0]], bins=3, low=-1.0, high=2.0, floor=0.875),
        case("Halved", "half a bin at either end, which balance", z=[[0.0, 0.0], [100.0, -2.0], [-3.0, 50.0]], bins=2, low=-4.0,
             high=4.0, floor=0.04, halved=True),
        case("HalvedAlone", "the halves are all there is: the middle knot does not depend on h", z=[[2.0]], bins=1,
             halved=True),
        case("One", "both ends are fixed: no knot depends on h", z=[[3.0]], bins=1, low=-5.0, high=5.0, floor=1e-3),
        case("Clipped", "logits that are all at their bounds: knots depend on what is left",
             z=[[1e6, 1e5, -1e6], [1e9, 2.0, 1e-9]], bins=3, clip=1e-3),
        case("ClippedHalfway", "logits between their bounds and 0", z=[[8.19, 0.0, -6.3], [-19.0, 1.0, 13.0]], bins=3,
             clip=1e-5),
        case("ClippedEqual", "the middle knot is 0 but for what is left of the logits", z=[[1e9, 1e8], [-1e9, -1e8]], bins=2,
             low=-5.0, high=5.0, clip=1e-3),
    )
    refused = (
        refusal("low must be < high", bins=2, low=1.0, high=1.0),
        refusal("floor must be < (high - low)/bins", bins=2, low=0.0, high=1.0, floor=0.5),
    )


def sides(v):
    """(sum_{j<k} v_j, sum_{j>=k} v_j) for k = 0 .. K."""
    zero = np.zeros_like(v[..., :1])
    below, above = np.cumsum(v, -1), np.cumsum(v[..., ::-1], -1)[..., ::-1]
    return np.concatenate([zero, below], -1), np.concatenate([above, zero], -1)
