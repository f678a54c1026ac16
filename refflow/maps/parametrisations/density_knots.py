r"""Knots of a piecewise-linear density of area 1, which a `QuadraticSpline` integrates.

The map.  In h stand a number `h_j` for the width of each of `K = bins` bins and, after them, a number `v_k` for the height at each
knot, or only at inner knots.  Widths are parts of the interval from `low` to `high`:
    w_j = floor + (1 - K floor) p_j,   p_j = exp(rate h_j)/sum_i exp(rate h_i)      (1)
    y_k = log(1 + exp(rate v_k)) + lift   or   exp(rate v_k) + lift                 (2)
    A = sum_k c_k y_k,   c_k = (w_k + w_(k+1))/2   for k = 0, ..., K,   w_0 = w_(K+1) = 0           (3)
    d_k = least + (1 - least) y_k/A                                                 (4)
    x_k = low + (high - low) sum_(j<=k) w_j,   x_K = high,   start = low            (5)
With `tails` "identity", both end knots have the height `E`, and with sums over inner knots,
    E = (C - G)/D,   C = sum_k c_k y_k,   G = (w_1 y_1 + w_K y_(K-1))/4             (6)
    D = 1 - s/4,   s = w_1 + w_K,   A = C + E s/2                                   (7)
With `E = C/(1 - s/2)` the area would be `E`, and the slope at the end knots 1, as beyond them.  The libraries' code takes a
quarter of the end bins in place of the half: this is (6) and (7), and the density jumps at the end knots.

The reverse rule.  With `b_k` the cotangents of the slopes, sums over all knots, `y_0 = y_K = E`, and `E_bar = 0` where no knot
has the height `E`,
    A_bar = -(1 - least) sum_k b_k y_k/A^2                                          (8)
    E_bar = (1 - least) (b_0 + b_K)/A + A_bar s/2                                   (9)
    y_k_bar = (1 - least) b_k/A + A_bar c_k + E_bar (c_k - e_k)/D                   (10)
    w_j_bar = (y_(j-1) + y_j) (A_bar/2 + E_bar m_j/D) + (high - low) sum_(j<=k<K) x_k_bar       (11)
where `e_1 = w_1/4` and `e_(K-1) = w_K/4`, their sum if `K = 2`, all others are 0, and `m_j` is 1/4 for `j = 1` and `j = K`, else
1/2; from these,
    h_j_bar = rate (1 - K floor) p_j (w_j_bar - sum_i p_i w_i_bar)                  (12)
    v_k_bar = rate y_k_bar/(1 + exp(-rate v_k))   or   rate y_k_bar exp(rate v_k)   (13)

Source: Mueller, McWilliams, Rousselle, Gross and Novak, arXiv:1808.03856, on piecewise-quadratic transforms; the heights of end
knots are from Durkan, Bekasov, Murray and Papamakarios' code for Neural Spline Flows.
"""

from __future__ import annotations

from math import log

import numpy as np

from ...core import case, plain, refusal
from ...core.rules import ABOVE_0, AT_LEAST_0, FINITE, count, number, one_of
from ..elementwise.softplus_scale import log1p_ratio
from .parametrisation import Map, parametrisation
from .softmax_knots import SoftmaxKnots

FORMS = ("softplus", "exp")
TAILS = ("identity", "none")


class textbook:
    """(1) to (13) as they are printed, for one event."""

    def fields(h, bins, low, high, floor, least, form, lift, rate, tails):
        _, w = textbook.widths(h, bins, floor, rate)
        y = textbook.heights(h, w, bins, form, lift, rate, tails)
        slopes = least + (1 - least) * y / np.sum(textbook.factors(w) * y)          # (3) (4)
        knots = np.array([low, *(low + (high - low) * np.cumsum(w[:-1])), high])    # (5)
        return {"input_knots": knots, "slopes": slopes, "start": low}

    def vjp(h, bins, low, high, floor, least, form, lift, rate, tails, input_knots_bar, slopes_bar, start_bar):
        (p, w), b = textbook.widths(h, bins, floor, rate), slopes_bar
        y, c = textbook.heights(h, w, bins, form, lift, rate, tails), textbook.factors(w)
        A = np.sum(c * y)                                                           # (3)
        A_bar = -(1 - least) * np.sum(b * y) / A**2                                 # (8)
        y_bar, w_bar = (1 - least) * b / A + A_bar * c, (y[:-1] + y[1:]) * A_bar / 2        # (10) (11)
        if tails == "identity":
            of_y, of_w = textbook.slopes_of_end(w, y, c)
            E_bar = y_bar[0] + y_bar[-1]                                            # (9)
            y_bar, w_bar = y_bar[1:-1] + E_bar * of_y, w_bar + E_bar * of_w         # (10) (11)
        w_bar = w_bar + (high - low) * np.array([np.sum(input_knots_bar[j:-1]) for j in range(1, bins + 1)])        # (11)
        h_bar, e = rate * (1 - bins * floor) * p * (w_bar - np.sum(p * w_bar)), np.exp(rate * h[bins:])     # (12)
        v_bar = rate * y_bar * (e / (1 + e) if form == "softplus" else e)           # (13)
        return np.concatenate([h_bar, v_bar]), {}

    def widths(h, bins, floor, rate):
        """p, w."""
        e = np.exp(rate * h[:bins])
        return e / np.sum(e), floor + (1 - bins * floor) * e / np.sum(e)            # (1)

    def heights(h, w, bins, form, lift, rate, tails):
        """y at all knots."""
        e = np.exp(rate * h[bins:])
        y = (np.log(1 + e) if form == "softplus" else e) + lift                     # (2)
        if tails == "none":
            return y
        C, G = np.sum((w[:-1] + w[1:]) * y) / 2, (w[0] * y[0] + w[-1] * y[-1]) / 4  # (6)
        E = (C - G) / (1 - (w[0] + w[-1]) / 4)                                      # (6) (7)
        return np.array([E, *y, E])

    def factors(w):
        """c at all knots."""
        return np.concatenate([w[:1], w[:-1] + w[1:], w[-1:]]) / 2                  # (3)

    def slopes_of_end(w, y, c):
        """dE/dy at inner knots, dE/dw."""
        D, e, m = 1 - (w[0] + w[-1]) / 4, 0 * c[1:-1], 0 * w + 1 / 2                # (7)
        e[0] += w[0] / 4                                                            # (10)
        e[-1] += w[-1] / 4                                                          # (10)
        m[0] = m[-1] = 1 / 4                                                        # (11)
        return (c[1:-1] - e) / D, (y[:-1] + y[1:]) * m / D                          # (10) (11)


r"""In floating point.

In (1) to (13), everything is computed in float64, for float32 too, and rounded once.

In (2), an exponential may overflow, or all heights may underflow.  With `u = rate v_k` and `t = exp(-|u|)`,
    y_k/A = (f y_k)/(f A),   f = exp(-max_k (rate v_k)), or a power of 2            (14)
    log(1 + exp u) = u + log1p(t)                           for u > 0
                   = exp(u) (log1p(t)/t)                    for u <= 0              (15)
Derivatives have differences of heights and of widths.  A height near `v = 0` is kept as `r + g`, where `r` is the height at
`v = 0` and `g` is small; widths are kept in the same way.  Their differences keep their digits.  For `|u| <= 1`,
    r = log 2 + lift,   g = log1p((exp(u) - 1)/2)   or   r = 1 + lift,   g = exp(u) - 1         (16)

In (6), `C - G` cancels.  No term of the following does:
    C - G = I + G,   I = sum_(0<j<K-1) w_(j+1) (y_j + y_(j+1))/2                    (17)

In (10), the first two terms have in common the part of `y_k` itself, which cancels.  From here on, sums over knots leave out the
end knots, and cotangents lack the factor `(1 - least)/A^2`.  With `B = b_0 + b_K` and `T = sum_k b_k y_k`,
    y_k_bar = sum_(i != k) y_i (b_k a_i - b_i a_k) + B (c_k G - e_k C)/D            (18)
    a_k = c_k + (c_k - e_k) s/(2 D)                                                 (19)
where for `k = 1`, and likewise at the other end,
    8 (c_1 G - e_1 C) = w_2 (w_K - w_1) y_(K-1) + w_1 (w_2 - w_(K-1)) (y_(K-1) - y_2)
                        - w_1 ((w_(K-1) + w_3) y_2 + 2 sum_(2<k<K-1) c_k y_k)       (20)
For K = 3 only the first term remains, for K = 2 none.  Without the height `E`, `B = 0`, sums are over all knots, and `a = c`.

In (12), two `w_j_bar` have in common the part of a height that their bins share, and it cancels.  The page `softmax_knots`
has the part of the input knots.  The part of the slopes is, with `P_j` the derivatives of `A`, and `Q_j` the derivatives of `E`
at a fixed `E/A`, times `A`,
    h_j_bar = rate (1 - K floor) p_j sum_i p_i (B (Q_j - Q_i) - T (P_j - P_i))      (21)
    P_j = (y_(j-1) + y_j) q_j,   q_j = 1/2 + s/(8 D), or 1/2 + s/(4 D) inside       (22)
    Q_j = (y_(j-1) + y_j) q_j,   q_j = -I/(4 D), or G/(2 D) inside                  (23)
Without the height `E`, `q_j = 1/2`.  Bins 1 and K are not inside; inside, `q_j` is larger by `s/(8 D)` or `(2 G + I)/(4 D)`.
Neighbouring bins share a height, which must not be part of a difference:
    P_j - P_i = q_j ((y_(j-1) - y_i) + (y_j - y_(i-1))) + (q_j - q_i) (y_(i-1) + y_i)           (24)
if `i` is not inside or both are.  Its terms cancel otherwise, and `P_j - P_i` is `-(P_i - P_j)` there.  The difference of an
inner height and `E`, which may nearly be equal, is
    D (y_k - E) = sum_(0<j<K-1) w_(j+1) (y_k - (y_j + y_(j+1))/2) + (w_1 (y_k - y_1) + w_K (y_k - y_(K-1)))/4 + s y_k/2     (25)

In (13), a slope of a height may be subnormal where its product with a cotangent is not.  Its exponent is halved:
    1/(1 + exp(-u)) = q q/(1 + t),   q = exp(min(u, 0)/2),   and   exp u = q q,   q = exp(u/2)  (26)
"""


@parametrisation(source="nflows, SurVAE", textbook=textbook)
class DensityKnots(Map):
    """`input_knots`, `slopes`, both (K+1), and `start` of a `QuadraticSpline` from `low` to `high`, K = `bins`.

    `floor`: the least width, as a part of the interval; `least`: the least slope; `form`: the function that makes heights
    positive; `lift`: a number added to them; `tails`: "identity", with equal heights at the end knots, or "none", with a number
    for each.  Raises ValueError for bins < 1, or < 2 with tails, high <= low, and floors that do not fit.
    """

    bins: int = plain(rule=count())
    low: float = plain(-1.0, FINITE)
    high: float = plain(1.0, FINITE)
    floor: float = plain(1e-3, AT_LEAST_0)
    least: float = plain(1e-3, number(0, 1, low_included=True))
    form: str = plain("softplus", one_of(*FORMS))
    lift: float = plain(0.0, AT_LEAST_0)
    rate: float = plain(1.0, ABOVE_0)
    tails: str = plain("identity", one_of(*TAILS))
    names = ("input_knots", "slopes", "start")

    size = property(lambda self: 2 * self.bins + (-1 if self.tails == "identity" else 1))
    cores = property(lambda self: ((self.bins + 1,), (self.bins + 1,), ()))
    widths = property(lambda self: SoftmaxKnots(self.bins, self.low, self.high, self.floor * (self.high - self.low), self.rate))

    def _validate(self):
        super()._validate()
        if self.tails == "identity" and self.bins < 2:
            raise ValueError("DensityKnots: with tails, bins must be at least 2")
        if not self.low < self.high:
            raise ValueError(f"DensityKnots: low must be < high; low = {self.low}, high = {self.high}")
        if not self.bins * self.floor < 1:
            raise ValueError(f"DensityKnots: floor must be < 1/bins; floor = {self.floor}, bins = {self.bins}")

    @classmethod
    def examples(cls, source):
        f = cls(source.count(2, 4), form=source.choice(FORMS), lift=source.choice((0.0, 1e-3)), tails=source.choice(TAILS))
        return f, (f.size,)

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, h):
        u, v = np.split(h.astype(np.float64), [self.bins], -1)
        (knots, knots_pullback), shares, heights = self.widths.vjp(u), self.shares(u), self.heights(v)
        w, parts = self.bin_widths(*shares)
        area = JoinedEnds(w, parts, *heights[:2]) if self.tails == "identity" else FreeEnds(w, *heights[:2])
        slopes = self.least + (1 - self.least) * area.heights() / area.A[..., None]     # (4)

        def pullback(bars):
            u_bar, _ = knots_pullback({"knots": bars["input_knots"].astype(np.float64)})
            y_bar, differences = area.bars(bars["slopes"].astype(np.float64))
            factor = (1 - self.least) / area.A[..., None] / area.A[..., None]
            p = shares[0]
            of_widths = self.rate * (1 - self.bins * self.floor) * p * (differences * p[..., None, :]).sum(-1)      # (12) (21)
            root, rest = heights[2:]
            h_bar = np.concatenate([u_bar + factor * of_widths, factor * y_bar * rest * root * root], -1)        # (13) (26)
            return h_bar.astype(h.dtype), {}

        start = np.full(h.shape[:-1], self.low, h.dtype)
        return {"input_knots": knots["knots"].astype(h.dtype), "slopes": slopes.astype(h.dtype), "start": start,
                "tails": self.tails}, pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def shares(self, u):
        """(p, r, g): p of (1), and its two parts, a reference r and a remainder g."""
        r, g, _ = self.widths.weights(u)
        S = (r[0] + g).sum(-1, keepdims=True)
        return (r[0] + g) / S, r[0] / S, g / S

    def bin_widths(self, p, r, g):
        """(w, (r, g)) of (1)."""
        span = 1 - self.bins * self.floor
        return self.floor + span * p, (span * r, span * g)

    def heights(self, v):
        """(r, g, root, rest) of (2), times a factor that all heights share, so that they do not all overflow or vanish.

        root^2 rest is the slope: a subnormal slope would lose digits before it is multiplied.
        """
        a = self.rate * v
        top, near = a.max(-1, keepdims=True), np.abs(a) <= 1
        moved = np.where((top < -1) & (self.lift == 0) | (top > 2) & (self.form == "exp"), top, 0)
        small = np.expm1(np.where(near, a, 0))                                      # (16)
        if self.form == "softplus":
            t, unit = np.exp(-np.abs(a)), np.ldexp(1.0, -np.frexp(np.maximum(top, 1))[1])      # (14)
            root, rest = np.exp((np.minimum(a, 0) - moved) / 2), unit / (1 + t)     # (14) (26)
            far = (np.where(a > 0, a + np.log1p(t), root * root * log1p_ratio(t)) + self.lift) * unit       # (15)
            r, g = (log(2) + self.lift) * unit, np.log1p(small / 2) * unit          # (16)
        else:
            root, rest, unit = np.exp((a - moved) / 2), 1.0, np.exp(-np.maximum(moved, 0))        # (14) (26)
            r, g, far = (1 + self.lift) * unit, unit * small, root * root + self.lift * unit       # (16)
        return np.where(near, r, 0), np.where(near, g, far), root, self.rate * rest         # (2) (16)

    hard_cases = (
        case("Equal", "equal bins and heights: nothing depends on them", z=[[0.0] * 7], bins=3, tails="none"),
        case("EqualEnds", "equal bins and heights; both end knots have one height", bins=3, lift=1e-3,
             z=[[0.0] * 5, [0.0, 0.0, 1e-9, 1e-9, -2e-9]]),
        case("NearlyE", "narrow end bins: equal heights, and nearly equal heights of the end knots", bins=4, lift=1e-3,
             z=[[-2.0**30, 15.0, -2.0**30, 3.0, -2.0**30, -2.0**30, -2.0**30]]),
        case("NearlyEqual", "differences as small as the numbers", bins=4, tails="none",
             z=[[1e-9, 2e-9, 5e-324, 3e-9, -1e-9, 1e-20, 0.0, 2e-9, 1e-9]]),
        case("FiveEnds", "all terms of (20), and a rate", bins=5, lift=1e-3, rate=0.5,
             z=[[0.5, -1.0, 2.0, -0.25, 1.0, 1.0, -0.5, 0.75, 2.0], [0.0, 1e-9, 2e-9, 0.0, -1e-9, 1e-9, 0.0, 3e-9, 40.0]]),
        case("SmallHeights", "heights that differ by less than their rounding", bins=2,
             tails="none", z=[[0.25, -0.5, 1e-9, 0.0, -1e-9], [1e-9, 0.0, 0.0, 1e-9, 0.0]]),
        case("SmallExponentials", "the same for exponentials", bins=2, tails="none", form="exp",
             z=[[0.25, -0.5, 1e-9, 0.0, -1e-9], [1e-9, 0.0, 0.0, 1e-9, 0.0]]),
        case("One", "one bin: only its heights count", z=[[0.5, -1.0, 2.0]], bins=1, tails="none"),
        case("Two", "two bins with tails: the slopes depend on nothing", z=[[0.5, -1.0, 2.0]], bins=2, form="exp"),
        case("Steep", "one height is larger than the sum of all others", bins=3, form="exp", tails="none",
             z=[[1.0, -1.0, 0.0, -30.0, 3.0, 40.0, -700.0]]),
        case("Vanishing", "heights that all underflow", bins=2, tails="none",
             z=[[1.0, -1.0, -800.0, -801.0, -2.0**30], [0.0, 0.0, -1e300, -800.0, -3.0], [1.0, 0.5, -1.0, -1.5, -3.0]]),
        case("Large", "exponentials that overflow", z=[[700.0, -800.0, 3.0, 1e3, 900.0]], bins=2, form="exp", low=0.0,
             floor=0.25, tails="none"),
    )
    refused = (
        refusal("with tails, bins must be at least 2", bins=1),
        refusal("low must be < high", bins=2, low=1.0, high=1.0),
        refusal("floor must be < 1/bins", bins=2, floor=0.5),
    )


class FreeEnds:
    """The area of a density with a number for the height at each knot: of widths, and of heights as (r, g)."""

    def __init__(self, w, r, g):
        self.r, self.g, self.y, self.c = r, g, r + g, (widened(w, 1, 0) + widened(w, 0, 1)) / 2     # (3)
        self.A = (self.c * self.y).sum(-1)                                          # (3)

    def heights(self):
        return self.y

    def bars(self, b):
        """(y_bar of (18), the differences of (21)) before their factor."""
        T = (b * self.y).sum(-1)[..., None, None]
        return crossed(b, self.c, self.y), -T * differences(gaps(self.r, self.g), self.y, (0.5, 0.5), 0.0)      # (18) (21)


class JoinedEnds:
    """The same with a number for the height at each inner knot; `parts` are the widths as (r, g)."""

    def __init__(self, w, parts, r, g):
        self.w, self.parts, self.r, self.g, self.y, self.c = w, parts, r, g, r + g, middles(w)      # (3)
        first, last, inner = w[..., 0], w[..., -1], w[..., 1:-1]
        G, I = (first * self.y[..., 0] + last * self.y[..., -1]) / 4, (inner * middles(self.y)).sum(-1)     # (6) (17)
        self.s, self.D, self.G, self.I = first + last, 1 - (first + last) / 4, G, I     # (7)
        self.E = (I + G) / self.D                                                   # (6) (17)
        self.A = (self.c * self.y).sum(-1) + self.E * self.s / 2                    # (7)

    def heights(self):
        return np.concatenate([self.E[..., None], self.y, self.E[..., None]], -1)

    def gaps(self):
        """The differences of all heights."""
        own, w, s, D = gaps(self.r, self.g), self.w[..., None, :], self.s[..., None], self.D[..., None]
        inside, ends = (w[..., 1:-1] * middles(own)).sum(-1), w[..., 0] * own[..., 0] + w[..., -1] * own[..., -1]
        above = (inside + ends / 4 + s * self.y / 2) / D                            # (25)
        found = np.zeros((*own.shape[:-2], own.shape[-1] + 2, own.shape[-1] + 2))
        found[..., 1:-1, 1:-1] = own
        found[..., 1:-1, 0] = found[..., 1:-1, -1] = above
        found[..., 0, 1:-1] = found[..., -1, 1:-1] = -above
        return found

    def bars(self, b):
        """(y_bar of (18), the differences of (21)) before their factor."""
        inner, B = b[..., 1:-1], b[..., :1] + b[..., -1:]
        G, I, s, D = (v[..., None] for v in (self.G, self.I, self.s, self.D))
        e = np.zeros_like(self.c)
        e[..., 0] += self.w[..., 0] / 4
        e[..., -1] += self.w[..., -1] / 4
        y_bar = crossed(inner, self.c + (self.c - e) * s / (2 * D), self.y) + B * self.tilt() / D   # (18) (19)
        apart, heights = self.gaps(), self.heights()
        of_A = differences(apart, heights, (1 / 2 + s / (8 * D), 1 / 2 + s / (4 * D)), s / (8 * D))         # (22)
        of_E = differences(apart, heights, (-I / (4 * D), G / (2 * D)), (2 * G + I) / (4 * D))      # (23)
        T = (inner * self.y).sum(-1)[..., None, None]
        return y_bar, B[..., None] * of_E - T * of_A                                # (21)

    def tilt(self):
        """c_k G - e_k C."""
        tilt = self.c * self.G[..., None]
        tilt[..., 0], tilt[..., -1] = self.tilt_of_first(lambda v: v), self.tilt_of_first(lambda v: v[..., ::-1])
        return tilt if tilt.shape[-1] > 1 else np.zeros_like(tilt)                  # (20)

    def tilt_of_first(self, way):
        """(20), of arrays that are turned round for the last inner knot."""
        w, y, c, parts = way(self.w), way(self.y), way(self.c), tuple(map(way, self.parts))
        of_ends, of_next = (sum(v[..., i] - v[..., j] for v in parts) for i, j in ((-1, 0), (1, -2)))
        tilt = w[..., 1] * of_ends * y[..., -1]
        if y.shape[-1] > 2:
            higher = sum(v[..., -1] - v[..., 1] for v in (way(self.r), way(self.g)))
            rest = (w[..., -2] + w[..., 2]) * y[..., 1] + 2 * (c * y)[..., 2:-1].sum(-1)
            tilt = tilt + w[..., 0] * (of_next * higher - rest)
        return tilt / 8                                                             # (20)


def widened(v, before, after):
    """v with so many zeros around its last axis."""
    return np.pad(v, [(0, 0)] * (v.ndim - 1) + [(before, after)])


def middles(v):
    return (v[..., :-1] + v[..., 1:]) / 2


def others(v):
    """sum_(i != k) v_i."""
    zero = np.zeros_like(v[..., :1])
    before, after = np.cumsum(v, -1), np.cumsum(v[..., ::-1], -1)[..., ::-1]
    return np.concatenate([zero, before[..., :-1]], -1) + np.concatenate([after[..., 1:], zero], -1)


def crossed(b, a, y):
    """sum_(i != k) y_i (b_k a_i - b_i a_k)."""
    return b * others(a * y) - a * others(b * y)


def gaps(r, g):
    """y_k - y_i (..., k, i) for y = r + g."""
    return (r[..., :, None] - r[..., None, :]) + (g[..., :, None] - g[..., None, :])


def differences(gaps, y, q, more):
    """P_j - P_i (..., K, K) for P_j = (y_(j-1) + y_j) q_j, from the differences of all y; q: of an end bin and inside, where it
    is larger by `more`.
    """
    crossed = gaps[..., :-1, 1:] + gaps[..., 1:, :-1]
    K = crossed.shape[-1]
    inside = (np.arange(K) > 0) & (np.arange(K) < K - 1)
    of_end, of_inner, more = (np.asarray(v)[..., None] for v in (*q, more))
    own, turned = 2 * middles(y)[..., None, :], inside[:, None].astype(float) - inside
    found = np.where(inside[:, None], of_inner, of_end) * crossed + more * turned * own         # (24)
    return np.where(turned < 0, -np.swapaxes(found, -1, -2), found)
