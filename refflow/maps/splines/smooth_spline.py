r"""Twice continuously differentiable rational-quadratic spline of two bins, `R -> R`.

The map.  Through three knots goes a `RationalQuadraticSpline` whose slope `d` at the inner knot makes its second derivative
continuous there.  With the widths, heights and slopes of the bins, k = 0, 1, and the slopes `a` and `b` at the end knots,
    w_k = z_(k+1) - z_k,   h_k = x_(k+1) - x_k,   s_k = h_k/w_k                     (1)
the second derivatives at the inner knot, from below and from above, are
    2 (d (d + a)/s_0 - d - s_0)/w_0,   -2 (d (d + b)/s_1 - d - s_1)/w_1
They are equal where, with the parts of the height `l_0 = h_1/(h_0 + h_1)` and `l_1 = h_0/(h_0 + h_1)`,
    d^2 + p d = q,   p = l_0 (a - s_0) + l_1 (b - s_1),   q = l_0 s_0^2 + l_1 s_1^2         (2)
On a circle the end knots are one point, with the same condition for the slope `a = b` there.  This condition minus (2) is
    (a - d)((a + d)(1/h_0 + 1/h_1) - 1/w_0 - 1/w_1) = 0
where the second factor, times `d`, is `s_0/w_0 + s_1/w_1 > 0` by (2).  So all three slopes are equal:
    2 d^2 - g d = q,   g = l_0 s_0 + l_1 s_1                                        (3)
Each equation has one positive root: its two roots have opposite signs, because `q > 0`.  With `A = 1, B = p` for (2) and
`A = 2, B = -g` for (3),
    d = (R - B)/(2 A),   R = sqrt(B^2 + 4 A q) = 2 A d + B                          (4)
In the bin of `z`, with the subscript 0 for its lower and 1 for its upper end, a rational-quadratic spline is
    t = (z - z_0)/w,   f = 1 - t,   e_0 = d_0/s,   e_1 = d_1/s                      (5)
    x = x_0 + h Y,   Y = t (t + e_0 f)/D,   D = 1 + (e_0 + e_1 - 2) t f             (6)
    dx/dz = s Q/D^2,   Q = e_1 t^2 + 2 t f + e_0 f^2,   log|dx/dz| = log(dx/dz)     (7)
The inner knot belongs to the bin above it, an end knot to its bin.  For the inverse map, (6) is a quadratic equation for `t`.  With
`y = (x - x_0)/h` and `c = e_0 + e_1 - 2`,
    t = 2 y/(m_1 + sqrt(m_1^2 + 4 m_2 y)),   m_1 = e_0 - c y,   m_2 = 1 - e_0 + c y         (8)
    z = z_0 + w t,   log|dz/dx| = -log|dx/dz|                                       (9)
Beyond the knots the spline is a line,
    x = x_0 + g_0 (z - z_0)      below the first knot                               (10)
      = x_2 + g_2 (z - z_2)      above the last                                     (11)
For `tails` "identity", `g_0 = g_2 = 1`; for "linear", these are the slopes at the end knots; for "none", the domain ends there.

The reverse rule.  From (5) to (7), the cotangents of `t`, of `e_0` and `e_1`, and of the logarithm of `1/s` are, with the cotangent
`l_bar` of `log|dx/dz|`,
    t_bar = x_bar h Q/D^2 + l_bar T,
    T = 2 (e_1 t + f - t - e_0 f)/Q - 2 (e_0 + e_1 - 2)(f - t)/D                    (12)
    e_0_bar = x_bar h t f (1 - Y)/D + l_bar (f^2/Q - 2 t f/D)                       (13)
    e_1_bar = -x_bar h t f Y/D + l_bar (t^2/Q - 2 t f/D)                            (14)
    m = e_0_bar e_0 + e_1_bar e_1 - l_bar                                           (15)
and the cotangents of the event, of the ends of its bin, and of the slopes there are
    z_bar = t_bar/w,   z_0_bar = -(f t_bar + m)/w,   z_1_bar = -(t t_bar - m)/w     (16)
    x_0_bar = x_bar (1 - Y) + m/h,   x_1_bar = x_bar Y - m/h,   d_i_bar = e_i_bar/s         (17)
The left-hand side of (2) or (3) changes with `d` at the rate `R`, by (4).  So the cotangent `d_bar` of `d` gives, with
`c_k = l_k d_bar/R`, and with `a = b = d` on a circle,
    a_bar = -c_0 d,   b_bar = -c_1 d                                                (18)
    w_0_bar = -c_0 s_0 (d + 2 s_0)/w_0,   w_1_bar = -c_1 s_1 (d + 2 s_1)/w_1        (19)
    h_0_bar = c_0 (s_0^2 + d^2 + d a)/h_0,   h_1_bar = c_1 (s_1^2 + d^2 + d b)/h_1  (20)
`w_k_bar` and `h_k_bar` go on to the knots at the ends of the bins.  In (20), the derivatives by `l_0` and `l_1` are simplified by
(2).  On a circle `d_bar` is the sum of the cotangents of all slopes, and (18) is part of (3).  Beyond the knots, from (10), and
likewise from (11), with linear tails,
    z_bar = g_0 x_bar = -z_0_bar,   x_0_bar = x_bar,   d_0_bar = x_bar (z - z_0) + l_bar/d_0        (21)
For the inverse map, whose log-det has the cotangent `l_bar`, `T/w` is the derivative of `log|dx/dz|`.  So
    x_bar = (z_bar - l_bar T/w)/(dx/dz)                                             (22)
and the fields have the cotangents (12) to (21) with the signs of `x_bar` and `l_bar` reversed.     (23)

Source: Gregory and Delbourgo, Piecewise rational quadratic interpolation to monotonic data, IMA Journal of Numerical Analysis 2
(1982), on the condition; arXiv:2604.19846, on flows of two or three bins.
"""

from __future__ import annotations

import functools
import math

import numpy as np

from ...core import Array, Bijector, bijector, case, increasing, plain, positive, tree
from ...core.arrays import doubled
from ...core.declarations import Field
from ...core.rules import one_of
from ...core.pairs import chosen, pair, stacked
from .bins import TAILS, Tails, at_ends, at_knots, between_intervals, bin_of, reached, what_is_left, within
from .rational_quadratic_spline import RationalQuadraticSpline


class textbook:
    """(1) to (23) as they are printed, for one event."""

    def bins(input_knots, output_knots, end_slopes):
        """w, h, s, l, R and the slopes at the three knots."""
        w, h = input_knots[1:] - input_knots[:-1], output_knots[1:] - output_knots[:-1]     # (1)
        s, l = h / w, h[::-1] / (h[0] + h[1])                                       # (1) (2)
        q = l[0] * s[0] ** 2 + l[1] * s[1] ** 2                                     # (2)
        if end_slopes is None:
            A, B = 2, -(l[0] * s[0] + l[1] * s[1])                                  # (3) (4)
        else:
            A, B = 1, l[0] * (end_slopes[0] - s[0]) + l[1] * (end_slopes[1] - s[1])     # (2) (4)
        R = np.sqrt(B ** 2 + 4 * A * q)                                             # (4)
        d = (R - B) / (2 * A)                                                       # (4)
        return w, h, s, l, R, [d, d, d] if end_slopes is None else [end_slopes[0], d, end_slopes[1]]

    def end(event, knots, slopes, tails):
        """The index of the end knot and the slope of the line of an event beyond all knots, else (None, None)."""
        e = 0 if event < knots[0] else 2 if event > knots[2] else None
        return e, None if e is None else slopes[e] if tails == "linear" else 1

    def letters(z, input_knots, w, s, slopes):
        """k, t, f, e_0, e_1, D, Q."""
        k = 0 if z < input_knots[1] else 1
        t, e_0, e_1 = (z - input_knots[k]) / w[k], slopes[k] / s[k], slopes[k + 1] / s[k]   # (5)
        f = 1 - t                                                                   # (5)
        D = 1 + (e_0 + e_1 - 2) * t * f                                             # (6)
        return k, t, f, e_0, e_1, D, e_1 * t ** 2 + 2 * t * f + e_0 * f ** 2        # (7)

    def forward(z, input_knots, output_knots, end_slopes, tails):
        w, h, s, l, R, slopes = textbook.bins(input_knots, output_knots, end_slopes)
        e, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            return output_knots[e] + g * (z - input_knots[e])                       # (10) (11)
        k, t, f, e_0, e_1, D, Q = textbook.letters(z, input_knots, w, s, slopes)
        return output_knots[k] + h[k] * t * (t + e_0 * f) / D                       # (6)

    def inverse(x, input_knots, output_knots, end_slopes, tails):
        w, h, s, l, R, slopes = textbook.bins(input_knots, output_knots, end_slopes)
        e, g = textbook.end(x, output_knots, slopes, tails)
        if g is not None:
            return input_knots[e] + (x - output_knots[e]) / g                       # (10) (11)
        k = 0 if x < output_knots[1] else 1
        e_0, e_1, y = slopes[k] / s[k], slopes[k + 1] / s[k], (x - output_knots[k]) / h[k]      # (5)
        c = e_0 + e_1 - 2
        m_1, m_2 = e_0 - c * y, 1 - e_0 + c * y                                     # (8)
        return input_knots[k] + w[k] * 2 * y / (m_1 + np.sqrt(m_1 ** 2 + 4 * m_2 * y))      # (8) (9)

    def slope(z, input_knots, output_knots, end_slopes, tails):
        w, h, s, l, R, slopes = textbook.bins(input_knots, output_knots, end_slopes)
        _, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            return g                                                                # (10) (11)
        k, t, f, e_0, e_1, D, Q = textbook.letters(z, input_knots, w, s, slopes)
        return s[k] * Q / D ** 2                                                    # (7)

    def log_det(z, input_knots, output_knots, end_slopes, tails):
        return np.log(textbook.slope(z, input_knots, output_knots, end_slopes, tails))      # (7)

    def inverse_log_det(x, input_knots, output_knots, end_slopes, tails):
        z = textbook.inverse(x, input_knots, output_knots, end_slopes, tails)
        return -textbook.log_det(z, input_knots, output_knots, end_slopes, tails)   # (9)

    def vjp(z, input_knots, output_knots, end_slopes, tails, x_bar, l_bar):
        w, h, s, l, R, slopes = textbook.bins(input_knots, output_knots, end_slopes)
        z_bars, x_bars, d_bars = 0 * input_knots, 0 * output_knots, 0 * input_knots
        e, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            z_bar, z_bars[e], x_bars[e] = g * x_bar, -g * x_bar, x_bar              # (21)
            if tails == "linear":
                d_bars[e] = x_bar * (z - input_knots[e]) + l_bar / g                # (21)
        else:
            k, t, f, e_0, e_1, D, Q = textbook.letters(z, input_knots, w, s, slopes)
            Y = t * (t + e_0 * f) / D                                               # (6)
            T = 2 * (e_1 * t + f - t - e_0 * f) / Q - 2 * (e_0 + e_1 - 2) * (f - t) / D     # (12)
            t_bar = x_bar * h[k] * Q / D ** 2 + l_bar * T                           # (12)
            e_0_bar = x_bar * h[k] * t * f * (1 - Y) / D + l_bar * (f ** 2 / Q - 2 * t * f / D)     # (13)
            e_1_bar = -x_bar * h[k] * t * f * Y / D + l_bar * (t ** 2 / Q - 2 * t * f / D)  # (14)
            m = e_0_bar * e_0 + e_1_bar * e_1 - l_bar                               # (15)
            z_bar, z_bars[k], z_bars[k + 1] = t_bar / w[k], -(f * t_bar + m) / w[k], -(t * t_bar - m) / w[k]        # (16)
            x_bars[k], x_bars[k + 1] = x_bar * (1 - Y) + m / h[k], x_bar * Y - m / h[k]     # (17)
            d_bars[k], d_bars[k + 1] = e_0_bar / s[k], e_1_bar / s[k]               # (17)
        a, d, b = slopes
        c = l * (np.sum(d_bars) if end_slopes is None else d_bars[1]) / R
        w_bars = -c * s * (d + 2 * s) / w                                           # (19)
        h_bars = c * (s ** 2 + d ** 2 + d * np.array([a, b])) / h                   # (20)
        z_bars[1:], x_bars[1:] = z_bars[1:] + w_bars, x_bars[1:] + h_bars           # (19) (20)
        z_bars[:-1], x_bars[:-1] = z_bars[:-1] - w_bars, x_bars[:-1] - h_bars       # (19) (20)
        bars = {"input_knots": z_bars, "output_knots": x_bars}
        return z_bar, bars if end_slopes is None else bars | {"end_slopes": d_bars[::2] - c * d}    # (18)

    def inverse_vjp(x, input_knots, output_knots, end_slopes, tails, z_bar, l_bar):
        fields = input_knots, output_knots, end_slopes, tails
        z = textbook.inverse(x, *fields)
        T_over_w, _ = textbook.vjp(z, *fields, 0, 1)
        x_bar = (z_bar - l_bar * T_over_w) / textbook.slope(z, *fields)             # (22)
        return x_bar, textbook.vjp(z, *fields, -x_bar, -l_bar)[1]                   # (23)


r"""In floating point.

In (4), `R - B` cancels for `B > 0`, and squares may leave the floats although `d` does not:
    R = hypot(B, 2 sqrt(A q)),   d = 2 q/(B + R)    for B >= 0                      (24)

In (5), `1 - t` cancels near `z_1`, and so does `1 - Y` in (13) and (17).  In (15), terms cancel:
    f = (z_1 - z)/w,   Z = 1 - Y = f (f + e_1 t)/D                                  (25)
    m = x_bar h t f (e_0 Z - e_1 Y)/D - 2 l_bar t f (1/Q + (e_0 + e_1)/D)           (26)

In (12) to (22), terms cancel where one bin is much larger than the other: its second derivative at the inner knot is a small
difference of large terms, and so are its cotangents.  Therefore (12) to (22) are computed with pairs of floats, of twice the
digits, and rounded once.  The roots of (24) and of the inverse map get their digits from a step of Newton's method in pairs,
    d - (A d^2 + B d - q)/(2 A d + B)                                               (27)
    z - (x_0 + h Y - x)/(dx/dz)                                                     (28)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases: elsewhere the cancelling terms
may be larger still.
"""


@bijector(source="arXiv:2604.19846", increasing=True, moderate=True, textbook=textbook)
class SmoothSpline(Bijector):
    """A rational-quadratic spline through (input_knots, output_knots), fields of shape (*batch, 3), with a continuous second
    derivative at the inner knot.

    `end_slopes`, (*batch, 2), are the slopes at the end knots; None if these are one point of a circle, with the same slope as
    the inner knot.  `tails`: beyond the knots the slope is 1 ("identity", the identity if end knots agree) or the slope at the
    end knot ("linear"); or there is nothing beyond them ("none"), as on a circle.  Raises ValueError for other tails.
    """

    input_knots: Array = increasing(3)
    output_knots: Array = increasing(3)
    end_slopes: Array = Field(positive, (2,), optional=True)  # type: ignore[assignment]
    tails: str = plain("identity", one_of(*TAILS))
    event_ndim = (0, 0)

    domain = property(lambda self: reached(self.input_knots, self.tails))
    codomain = property(lambda self: reached(self.output_knots, self.tails))
    two_sided, mirrored = property(between_intervals), what_is_left

    def breaks(self):
        """The input knots.  The inner knot takes its derivatives from the bin above it, an end knot from its own bin."""
        return self.input_knots

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.spline.forward(z)

    def log_det(self, z):
        return self.spline.log_det(z)

    def forward_and_log_det(self, z):
        return self.spline.forward_and_log_det(z)

    def slope(self, z):
        return self.spline.slope(z)

    def inverse(self, x):
        return self.spline.inverse(x)

    def inverse_and_log_det(self, x):
        return self.spline.inverse_and_log_det(x)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        beyond = Tails(z, self.input_knots, self.output_knots, self.bins.line_slopes(self))
        place = Place(self.bins, pair(within(self.input_knots, z)))

        def pullback(x_bar, log_det_bar):
            x_bar, log_det_bar = doubled(x_bar, log_det_bar)                        # (27)
            of_event, bars = place.bars(x_bar, log_det_bar)
            return beyond.event_bar(of_event, x_bar).astype(z.dtype), self.field_bars(place, beyond, bars, x_bar, log_det_bar)

        return self.spline.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        place = self.inverse_place(within(self.output_knots, x))
        beyond = Tails(x, self.output_knots, self.input_knots, place.v.line_slopes(self), back=True)

        def pullback(z_bar, log_det_bar):
            z_bar, log_det_bar = doubled(z_bar, log_det_bar)                        # (28)
            of_event = (z_bar - log_det_bar * place.T / place.w) / place.slope      # (22)
            _, bars = place.bars(-of_event, -log_det_bar)
            return beyond.event_bar(of_event.high, z_bar).astype(x.dtype), self.field_bars(place, beyond, bars, z_bar, log_det_bar)

        return self.spline.inverse_and_log_det(x), pullback

    def field_bars(self, place, beyond, inner, image_bar, log_det_bar):
        """The cotangents of the fields: `inner` between the end knots."""
        v, k, none = place.v, place.k, (np.zeros_like(image_bar),) * 2
        of_z, of_x, of_slopes = (at_knots(k, *ends, 3) for ends in (
            beyond.knot_bars(none, image_bar), beyond.image_bars(none, image_bar),
            beyond.slope_bars(none, image_bar, log_det_bar)))
        if beyond.back:
            of_z, of_x = of_x, of_z
        if v.circle:
            of_w, of_h, _ = v.bars(pair(of_slopes.sum(-1)))
            of_z, of_x = (stacked(with_bins(np.moveaxis(knots, -1, 0), bins)).high for knots, bins in ((of_z, of_w), (of_x, of_h)))
        bars = {"input_knots": of_z, "output_knots": of_x} | ({} if v.circle else {"end_slopes": of_slopes[..., ::2]})
        inside, dtype = beyond.inside[..., None], self.input_knots.dtype
        return {name: np.where(inside, own, bar).astype(dtype) for (name, bar), own in zip(bars.items(), inner)}

    # -- in floating point --------------------------------------------------------------------------------------------

    @functools.cached_property
    def bins(self):
        return Letters(self)

    @functools.cached_property
    def spline(self):
        return self.bins.spline(self, self.input_knots.dtype)

    def inverse_place(self, x):
        """The place of the root of an x between the end knots, by a step of Newton's method in pairs."""
        v = self.bins
        near = v.spline(self, np.float64).inverse_place(*doubled(x))                # (28)
        z = chosen(near.t <= near.f, pair(near.a) + near.z_0, near.z_1 - pair(near.b))
        place = Place(v, z, near.k)
        return Place(v, z - (place.image() - x) / place.slope, near.k)              # (28)

    @classmethod
    def examples(cls, source):
        knots = [increasing.draw(source, (3,)) for _ in range(2)]
        return cls(*knots, None if source.chance(0.25) else positive.draw(source, (2,)), source.choice(TAILS)), ()

    hard_cases = (
        case("Line", "all slopes are equal: p is 0, and the bins are straight", z=[-0.75, 0.5, 0.1, 3.0], x=[-0.75, 0.5, 0.1],
             input_knots=[-1.0, 0.0, 1.0], output_knots=[-1.0, 0.0, 1.0], end_slopes=[1.0, 1.0]),
        case("IdentityTails", "end knots agree: beyond them x is z exactly", z=[-5.0, 1e300, 3.0, np.nextafter(3, 4)],
             x=[-5.0, 3.5], input_knots=[-3.0, 0.5, 3.0], output_knots=[-3.0, -1.0, 3.0], end_slopes=[1.0, 1.0]),
        case("LinearTails", "the slopes at the end knots go on beyond them", z=[-1e300, np.nextafter(-1, -2), 3.0, 1e6],
             x=[-1e300, np.nextafter(-2, -3), 2.0, 1e6], input_knots=[-1.0, 0.0, 2.0], output_knots=[-2.0, 0.0, 1.0],
             end_slopes=[0.25, 1e-6], tails="linear"),
        case("KnotExact", "the inner knot and its neighbouring floats, on both sides",
             z=[0.3, np.nextafter(0.3, 0), np.nextafter(0.3, 1)], x=[0.7, np.nextafter(0.7, 0), np.nextafter(0.7, 1)],
             input_knots=[-1.0, 0.3, 2.0], output_knots=[-4.0, 0.7, 1.0], end_slopes=[2.0, 30.0]),
        case("SteepEnds", "p is far above the root of q: R - p would cancel", z=[0.25, 1.0, 1.5], x=[0.25, 1.0, 1.5],
             input_knots=[0.0, 1.0, 2.0], output_knots=[0.0, 1.0, 2.0], end_slopes=[1e6, 3e5]),
        case("FlatEnds", "p is negative", z=[1e-7, 0.5, 1.0, 1.75], x=[1e-13, 0.5, 1.75], input_knots=[0.0, 1.0, 2.0],
             output_knots=[0.0, 1.0, 2.0], end_slopes=[1e-6, 1e-6]),
        case("UnequalBins", "widths and heights over twelve orders of magnitude", z=[0.5e-6, 0.5, 1e-6],
             x=[-5e5, 0.5e-6, 0.0], input_knots=[0.0, 1e-6, 1.0], output_knots=[-1e6, 0.0, 1e-6], end_slopes=[1e6, 1e-6]),
        case("Circle", "one slope at all knots", z=[1e-290, 0.1, 0.25, 0.5], x=[1e-290, 0.5, 0.75],
             input_knots=[0.0, 0.25, 1.0], output_knots=[0.0, 0.75, 1.0], end_slopes=None, tails="none"),
        case("CircleTails", "lines of the slope of all knots", z=[-2.0, 3.0, 0.5], x=[-2.0, 3.0],
             input_knots=[0.0, 0.25, 1.0], output_knots=[0.0, 0.75, 1.0], end_slopes=None, tails="linear"),
        case("NoTails", "numbers next to the ends of the domain", z=[1e-290, 0.5, np.nextafter(1, 0)],
             x=[1e-290, 0.5, np.nextafter(1, 0)], input_knots=[0.0, 0.25, 1.0], output_knots=[0.0, 0.75, 1.0],
             end_slopes=[1.0, 2.0], tails="none"),
    )


class Letters:
    """The inner slope of every spline of a batch: w, h, s and l of its two bins, its end slopes a and b, d and R, as pairs."""

    def __init__(self, page):
        z, x = doubled(page.input_knots, page.output_knots)                         # (27)
        self.knots, self.circle = (z, x), page.end_slopes is None
        self.w, self.h = ([pair(v[..., k + 1]) - v[..., k] for k in (0, 1)] for v in (z, x))    # (1)
        self.s = [h / w for h, w in zip(self.h, self.w)]                            # (1)
        self.l = [h / (self.h[0] + self.h[1]) for h in self.h[::-1]]                # (2)
        if self.circle:
            A, B = 2, -self.mean(self.s)                                            # (3) (4)
        else:
            self.a, self.b = (pair(v) for v in np.moveaxis(*doubled(page.end_slopes), -1, 0))   # (27)
            A, B = 1, self.mean([self.a - self.s[0], self.b - self.s[1]])           # (2) (4)
        root = root_of(A, B.high, *(np.sqrt(l.high) * s.high for l, s in zip(self.l, self.s)))
        q = self.mean([s * s for s in self.s])                                      # (2)
        self.d = root - ((A * pair(root) + B) * root - q) / (2 * A * pair(root) + B)    # (4) (27)
        self.R = 2 * A * self.d + B                                                 # (4)
        if self.circle:
            self.a = self.b = self.d

    def mean(self, parts):
        """l_0 parts_0 + l_1 parts_1."""
        return self.l[0] * parts[0] + self.l[1] * parts[1]

    def slopes(self):
        """All three slopes, rounded."""
        return np.stack(np.broadcast_arrays(self.a.high, self.d.high, self.b.high), -1)

    def line_slopes(self, page):
        """The slopes of linear tails; None for tails of slope 1."""
        slopes = self.slopes().astype(page.input_knots.dtype)
        return (slopes[..., 0], slopes[..., 2]) if page.tails == "linear" else None

    def spline(self, page, dtype):
        """The page's spline, with slopes rounded to a dtype."""
        fields = np.broadcast_arrays(page.input_knots, page.output_knots, self.slopes())
        names = ("input_knots", "output_knots", "slopes")
        return tree.copied(page, RationalQuadraticSpline, **{name: v.astype(dtype) for name, v in zip(names, fields)})

    def bars(self, d_bar):
        """The cotangents of w, of h and of the end slopes, from the cotangent of d."""
        d, c = self.d, [l * d_bar / self.R for l in self.l]
        of_w = [-c_k * s * (d + 2 * s) / w for c_k, s, w in zip(c, self.s, self.w)]     # (19)
        of_h = [c_k * (s * s + d * d + d * end) / h for c_k, s, end, h in zip(c, self.s, (self.a, self.b), self.h)]     # (20)
        return of_w, of_h, [-c_k * d for c_k in c]                                  # (18)


def root_of(A, B, *parts):
    """d of (24), from the two parts of the root of q."""
    root_of_q = np.hypot(*parts)                                                    # (24)
    R = np.hypot(B, 2 * math.sqrt(A) * root_of_q)                                   # (4) (24)
    return np.where(B >= 0, 2 * root_of_q * (root_of_q / (np.abs(B) + R)), (R - B) / (2 * A))   # (4) (24)


class Place:
    """The letters of (5) to (17) at z, a pair, in the bin k of every event."""

    def __init__(self, v, z, k=None):
        self.v, self.z, self.k = v, z, bin_of(v.knots[0], z.high) if k is None else k
        self.lower = lower = self.k == 0
        (z_0, z_1), (self.x_0, _) = (at_ends(knots, self.k) for knots in v.knots)
        self.w, self.h, self.s = (chosen(lower, *of_bins) for of_bins in (v.w, v.h, v.s))
        d_0, d_1 = chosen(lower, v.a, v.d), chosen(lower, v.d, v.b)
        self.t, self.f, self.e = (z - z_0) / self.w, (z_1 - z) / self.w, (d_0 / self.s, d_1 / self.s)   # (5) (25)
        t, f, (e_0, e_1) = self.t, self.f, self.e
        self.D = 1 + (e_0 + e_1 - 2) * t * f                                        # (6)
        self.Y, self.Z = t * (t + e_0 * f) / self.D, f * (f + e_1 * t) / self.D     # (6) (25)
        self.Q = e_1 * t * t + 2 * t * f + e_0 * f * f                              # (7)
        self.slope = self.s * self.Q / (self.D * self.D)                            # (7)
        self.T = 2 * (e_1 * t + f - t - e_0 * f) / self.Q - 2 * (e_0 + e_1 - 2) * (f - t) / self.D  # (12)

    def image(self):
        return self.x_0 + self.h * self.Y                                           # (6)

    def bars(self, x_bar, l_bar):
        """(z_bar, the cotangents of the three knots on either side and of the two end slopes), rounded."""
        v, t, f, w, h, D, Q, (e_0, e_1) = self.v, self.t, self.f, self.w, self.h, self.D, self.Q, self.e
        of_t = x_bar * h * Q / (D * D) + l_bar * self.T                             # (12)
        of_e_0 = x_bar * h * t * f * self.Z / D + l_bar * (f * f / Q - 2 * t * f / D)   # (13) (25)
        of_e_1 = -x_bar * h * t * f * self.Y / D + l_bar * (t * t / Q - 2 * t * f / D)  # (14)
        m = x_bar * h * t * f * (e_0 * self.Z - e_1 * self.Y) / D - 2 * l_bar * t * f * (1 / Q + (e_0 + e_1) / D)   # (15) (26)
        of_a, of_d, of_b = self.placed(of_e_0 / self.s, of_e_1 / self.s)            # (17)
        of_w, of_h, through = v.bars(of_a + of_d + of_b if v.circle else of_d)
        of_z = with_bins(self.placed(-(f * of_t + m) / w, -(t * of_t - m) / w), of_w)   # (16)
        of_x = with_bins(self.placed(x_bar * self.Z + m / h, x_bar * self.Y - m / h), of_h)     # (17) (25)
        of_ends = [of_a + through[0], of_b + through[1]]                            # (18)
        return (of_t / w).high, [stacked(bars).high for bars in (of_z, of_x, of_ends)]  # (16)

    def placed(self, of_lower, of_upper):
        """Cotangents of the numbers at three knots, from the cotangents at the ends of the bin."""
        nothing = 0 * of_lower
        return [chosen(self.lower, of_lower, nothing), chosen(self.lower, of_upper, of_lower),
                chosen(self.lower, nothing, of_upper)]


def with_bins(of_knots, of_bins):
    """Cotangents of three knots, from their own and the cotangents of their two differences."""
    return [of_knots[0] - of_bins[0], of_knots[1] + of_bins[0] - of_bins[1], of_knots[2] + of_bins[1]]
