r"""Monotone linear-rational spline, `R -> R`: two quotients of lines in every bin.

The map.  Given are input knots `z_0 < ... < z_K`, output knots `x_0 < ... < x_K`, slopes `d_0, ..., d_K > 0` at the knots and,
for each bin, the fraction `0 < lambda < 1` of its width at which its two pieces meet, in `middles`.  With the subscripts 0 and 1
for the lower and the upper end of the bin `z_k <= z < z_(k+1)`,
    w = z_1 - z_0,   h = x_1 - x_0,   s = h / w,   t = (z - z_0) / w                (1)
The knots have the weights `v_0 = 1` and `v_1`, and between them there is a knot `x_m` with the weight `v_m`:
    v_1 = sqrt(d_0/d_1),   v_m = (lambda d_0 + (1 - lambda) v_1 d_1) / s            (2)
    x_m = ((1 - lambda) x_0 + lambda v_1 x_1) / v,   v = 1 - lambda + lambda v_1    (3)
In each piece `x` is the weighted mean of the images of its ends `a` and `b`,
    a = 0,   b = m   for t <= lambda,   a = m,   b = 1   elsewhere,
    u_a = lambda - t   for t <= lambda
        = 1 - t        elsewhere,
    u_b = t            for t <= lambda
        = t - lambda   elsewhere                                                    (4)
    x = (v_a x_a u_a + v_b x_b u_b) / N,   N = v_a u_a + v_b u_b                    (5)
    dx/dz = v_a v_b (x_b - x_a) u / (w N^2),   u = u_a + u_b                        (6)
    log|dx/dz| = log v_a + log v_b + log(x_b - x_a) + log u - log w - 2 log N       (7)
The slope is continuous, with the values `d_0` and `d_1` at the knots.  An inner knot belongs to the bin above it, an end knot to
its bin, a middle to the piece below it.  For the inverse map, (5) is linear in `t`.  In the lower piece, where `x <= x_m`,
`t = u_b` and `u = lambda`; in the upper piece, `t = lambda + u_b` and `u = 1 - lambda`.  In both,
    u_b = u v_a (x - x_a) / (v_a (x - x_a) + v_b (x_b - x))                         (8)
    z = z_0 + w t,   log|dz/dx| = -log|dx/dz|                                       (9)
Beyond the knots the spline is a line,
    x = x_0 + g_0 (z - z_0)      below the first knot                               (10)
      = x_K + g_K (z - z_K)      above the last                                     (11)
For `tails` "identity", `g_0 = g_K = 1`; for "linear", `g_0 = d_0` and `g_K = d_K`; for "none", the domain ends at the end knots.

The reverse rule.  From (5) and (7), with the cotangent `l_bar` of (7),
    v_a_bar = x_bar u_a (x_a - x)/N + l_bar (1/v_a - 2 u_a/N),   x_a_bar = x_bar v_a u_a/N - l_bar/(x_b - x_a)      (12)
    v_b_bar = x_bar u_b (x_b - x)/N + l_bar (1/v_b - 2 u_b/N),   x_b_bar = x_bar v_b u_b/N + l_bar/(x_b - x_a)      (13)
    u_a_bar = x_bar v_a (x_a - x)/N + l_bar (1/u - 2 v_a/N),   u_b_bar = x_bar v_b (x_b - x)/N + l_bar (1/u - 2 v_b/N)      (14)
    t_bar = u_b_bar - u_a_bar,   lambda_bar = u_a_bar in the lower piece, -u_b_bar in the upper piece       (15)
The middle knot passes its cotangents on by (2) and (3).  With the cotangents of one letter added,
    x_0_bar = x_m_bar (1 - lambda)/v,   x_1_bar = x_m_bar lambda v_1/v              (16)
    lambda_bar = x_m_bar (v_1 (x_1 - x_m) + x_m - x_0)/v + v_m_bar (d_0 - v_1 d_1)/s        (17)
    v_1_bar = x_m_bar lambda (x_1 - x_m)/v + v_m_bar (1 - lambda) d_1/s             (18)
    d_0_bar = v_m_bar lambda/s + v_1_bar v_1/(2 d_0),   d_1_bar = v_m_bar (1 - lambda) v_1/s - v_1_bar v_1/(2 d_1)  (19)
    s_bar = -v_m_bar v_m/s,   h_bar = s_bar/w,   w_bar = -(l_bar + t t_bar + s s_bar)/w     (20)
    z_bar = t_bar/w,   z_0_bar = -w_bar - t_bar/w,   z_1_bar = w_bar,   x_0_bar = -h_bar,   x_1_bar = h_bar         (21)
Beyond the knots the cotangents follow from the line alone: from (10), and likewise from (11), with linear tails,
    z_bar = g_0 x_bar = -z_0_bar,   x_0_bar = x_bar,   d_0_bar = x_bar (z - z_0) + l_bar/d_0        (22)
For the inverse map, whose log-det has the cotangent `l_bar`, let `dl/dz` be the derivative of (7), which is `z_bar` of (21)
for `x_bar = 0` and `l_bar = 1`.  Then
    x_bar = (z_bar - l_bar dl/dz)/(dx/dz)                                           (23)
and the fields have the cotangents (12) to (22) with the signs of `x_bar` and `l_bar` reversed.     (24)

Source: Dolatabadi, Erfani and Leckie, Invertible Generative Modeling using Linear Rational Splines, arXiv:2001.05168; Fuhr and
Kallay, Monotone linear rational spline interpolation, Computer Aided Geometric Design 9 (1992).
"""

from __future__ import annotations

import numpy as np

from ...core import (Array, Bijector, bijector, case, exact_product, exact_sum, increasing, interval, log_abs_product, plain,
                     positive)
from ...core.rules import one_of
from ...core.words import intermediate
from .bins import (TAILS, Tails, at_bins, at_ends, at_knots, between_intervals, bin_of, checked, of_bins, reached,
                    what_is_left, within)

NEAR = 16                       # in units of rounding: how near a middle (36) is evaluated without rounding


class textbook:
    """(1) to (24) as they are printed, for one event; `tau` is lambda."""

    def end(event, knots, slopes, tails):
        """The index of the end knot and the slope of the line of an event beyond all knots, else (None, None)."""
        e = 0 if event < knots[0] else -1 if event > knots[-1] else None
        return e, None if e is None else slopes[e] if tails == "linear" else 1

    def bin(event, knots):
        """The index of the lower knot of an event's bin."""
        k = 0
        while k < len(knots) - 2 and event >= knots[k + 1]:
            k += 1
        return k

    def middle(k, input_knots, output_knots, slopes, middles):
        """w, s, v_1, v_m, v, x_m."""
        w, h = input_knots[k + 1] - input_knots[k], output_knots[k + 1] - output_knots[k]           # (1)
        s, tau, v_1 = h / w, middles[k], np.sqrt(slopes[k] / slopes[k + 1])         # (1) (2)
        v_m, v = (tau * slopes[k] + (1 - tau) * v_1 * slopes[k + 1]) / s, 1 - tau + tau * v_1       # (2) (3)
        return w, s, v_1, v_m, v, ((1 - tau) * output_knots[k] + tau * v_1 * output_knots[k + 1]) / v       # (3)

    def ends(lower, k, output_knots, v_1, v_m, x_m):
        """v_a, x_a, v_b, x_b."""
        return (1, output_knots[k], v_m, x_m) if lower else (v_m, x_m, v_1, output_knots[k + 1])    # (4)

    def piece(z, input_knots, output_knots, slopes, middles):
        """k, w, t, the weights and images of the ends, u_a, u_b, N."""
        k = textbook.bin(z, input_knots)
        w, s, v_1, v_m, v, x_m = textbook.middle(k, input_knots, output_knots, slopes, middles)
        t, tau = (z - input_knots[k]) / w, middles[k]                               # (1)
        u_a, u_b = (tau - t, t) if t <= tau else (1 - t, t - tau)                   # (4)
        v_a, x_a, v_b, x_b = textbook.ends(t <= tau, k, output_knots, v_1, v_m, x_m)
        return k, w, t, v_a, x_a, v_b, x_b, u_a, u_b, v_a * u_a + v_b * u_b         # (5)

    def forward(z, input_knots, output_knots, slopes, middles, tails):
        e, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            return output_knots[e] + g * (z - input_knots[e])                       # (10) (11)
        k, w, t, v_a, x_a, v_b, x_b, u_a, u_b, N = textbook.piece(z, input_knots, output_knots, slopes, middles)
        return (v_a * x_a * u_a + v_b * x_b * u_b) / N                              # (5)

    def inverse(x, input_knots, output_knots, slopes, middles, tails):
        e, g = textbook.end(x, output_knots, slopes, tails)
        if g is not None:
            return input_knots[e] + (x - output_knots[e]) / g                       # (10) (11)
        k = textbook.bin(x, output_knots)
        w, s, v_1, v_m, v, x_m = textbook.middle(k, input_knots, output_knots, slopes, middles)
        v_a, x_a, v_b, x_b = textbook.ends(x <= x_m, k, output_knots, v_1, v_m, x_m)
        u = middles[k] if x <= x_m else 1 - middles[k]
        u_b = u * v_a * (x - x_a) / (v_a * (x - x_a) + v_b * (x_b - x))             # (8)
        return input_knots[k] + w * (u_b if x <= x_m else middles[k] + u_b)         # (9)

    def slope(z, input_knots, output_knots, slopes, middles, tails):
        _, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            return g                                                                # (10) (11)
        k, w, t, v_a, x_a, v_b, x_b, u_a, u_b, N = textbook.piece(z, input_knots, output_knots, slopes, middles)
        return v_a * v_b * (x_b - x_a) * (u_a + u_b) / (w * N ** 2)                 # (6)

    def log_det(z, input_knots, output_knots, slopes, middles, tails):
        _, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            return np.log(g)                                                        # (10) (11)
        k, w, t, v_a, x_a, v_b, x_b, u_a, u_b, N = textbook.piece(z, input_knots, output_knots, slopes, middles)
        return np.log(v_a) + np.log(v_b) + np.log(x_b - x_a) + np.log(u_a + u_b) - np.log(w) - 2 * np.log(N)        # (7)

    def inverse_log_det(x, input_knots, output_knots, slopes, middles, tails):
        z = textbook.inverse(x, input_knots, output_knots, slopes, middles, tails)
        return -textbook.log_det(z, input_knots, output_knots, slopes, middles, tails)      # (9)

    def vjp(z, input_knots, output_knots, slopes, middles, tails, x_bar, l_bar):
        z_bars, x_bars, d_bars, tau_bars = 0 * input_knots, 0 * output_knots, 0 * slopes, 0 * middles
        bars = {"input_knots": z_bars, "output_knots": x_bars, "slopes": d_bars, "middles": tau_bars}
        e, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            z_bars[e], x_bars[e] = -g * x_bar, x_bar                                # (22)
            if tails == "linear":
                d_bars[e] = x_bar * (z - input_knots[e]) + l_bar / g                # (22)
            return g * x_bar, bars                                                  # (22)
        k, w, t, v_a, x_a, v_b, x_b, u_a, u_b, N = textbook.piece(z, input_knots, output_knots, slopes, middles)
        x, u = textbook.forward(z, input_knots, output_knots, slopes, middles, tails), u_a + u_b
        v_a_bar = x_bar * u_a * (x_a - x) / N + l_bar * (1 / v_a - 2 * u_a / N)     # (12)
        v_b_bar = x_bar * u_b * (x_b - x) / N + l_bar * (1 / v_b - 2 * u_b / N)     # (13)
        x_a_bar = x_bar * v_a * u_a / N - l_bar / (x_b - x_a)                       # (12)
        x_b_bar = x_bar * v_b * u_b / N + l_bar / (x_b - x_a)                       # (13)
        u_a_bar = x_bar * v_a * (x_a - x) / N + l_bar * (1 / u - 2 * v_a / N)       # (14)
        u_b_bar = x_bar * v_b * (x_b - x) / N + l_bar * (1 / u - 2 * v_b / N)       # (14)
        t_bar, tau, lower = u_b_bar - u_a_bar, middles[k], t <= middles[k]          # (15)
        tau_bars[k] = u_a_bar if lower else -u_b_bar                                # (15)
        x_bars[k if lower else k + 1] = x_a_bar if lower else x_b_bar
        x_m_bar, v_m_bar, v_1_bar = (x_b_bar, v_b_bar, 0) if lower else (x_a_bar, v_a_bar, v_b_bar)
        w, s, v_1, v_m, v, x_m = textbook.middle(k, input_knots, output_knots, slopes, middles)
        (x_0, x_1), (d_0, d_1) = output_knots[k:k + 2], slopes[k:k + 2]
        x_bars[k] += x_m_bar * (1 - tau) / v                                        # (16)
        x_bars[k + 1] += x_m_bar * tau * v_1 / v                                    # (16)
        tau_bars[k] += x_m_bar * (v_1 * (x_1 - x_m) + x_m - x_0) / v + v_m_bar * (d_0 - v_1 * d_1) / s      # (17)
        v_1_bar += x_m_bar * tau * (x_1 - x_m) / v + v_m_bar * (1 - tau) * d_1 / s  # (18)
        d_bars[k] = v_m_bar * tau / s + v_1_bar * v_1 / (2 * d_0)                   # (19)
        d_bars[k + 1] = v_m_bar * (1 - tau) * v_1 / s - v_1_bar * v_1 / (2 * d_1)   # (19)
        s_bar = -v_m_bar * v_m / s                                                  # (20)
        h_bar, w_bar = s_bar / w, -(l_bar + t * t_bar + s * s_bar) / w              # (20)
        z_bars[k], z_bars[k + 1] = -w_bar - t_bar / w, w_bar                        # (21)
        x_bars[k], x_bars[k + 1] = x_bars[k] - h_bar, x_bars[k + 1] + h_bar         # (21)
        return t_bar / w, bars                                                      # (21)

    def inverse_vjp(x, input_knots, output_knots, slopes, middles, tails, z_bar, l_bar):
        fields = input_knots, output_knots, slopes, middles, tails
        z = textbook.inverse(x, *fields)
        dl_dz, _ = textbook.vjp(z, *fields, 0, 1)
        x_bar = (z_bar - l_bar * dl_dz) / textbook.slope(z, *fields)                # (23)
        return x_bar, textbook.vjp(z, *fields, -x_bar, -l_bar)[1]                   # (24)


r"""In floating point.

In (4) and (5), `1 - t` and `lambda - t` cancel, `x` may be much smaller than the two images whose mean it is, and `x_m` is
rounded.  The upper piece is the lower one seen from the other end, so one form without `x_m` serves both.  From now on, `z_0`,
`x_0` and `d_0` belong to the knot at which the piece ends, and `z_1`, `x_1` and `d_1` to the other end of the bin.  `lambda` is
the fraction on the side of the piece; `w`, `h`, `a`, `b`, `p`, `q` are distances; `i = 1` for a lower and `i = -1` for an upper
piece.  With
    a = |z - z_0|,   b = |z_1 - z|,   t = a / w,   f = b / w,   c = 1 - lambda      (25)
    y = lambda - t = f - c                                                          (26)
    e = d_0 / s,   r = sqrt(d_0 d_1) / s,   m = c r + lambda e,   N = y + m t       (27)
(5) is
    x = x_0 + i a d_0 lambda / N            where e lambda t <= y + c r t           (28)
      = x_1 - i h (y + c r t) / N           elsewhere: x is reached from the nearer knot            (29)
In (26), the form with the smaller of `lambda` and `c` is used.

In (6) and (7), differences of rounded images and sums of logarithms cancel:
    dx/dz = d_0 (lambda/N)^2,   log|dx/dz| = log(d_0 (lambda/N) (lambda/N))         (30)
Near the knot all roundings of `N` would count in (30).  There
    dx/dz = d_0 / (1 + R)^2,   log|dx/dz| = log d_0 - 2 log(1 + R),   R = t (m - 1)/lambda      for |R| <= 1/4          (31)

In (8), `x - x_m` cancels near the middle.  With `p = |x - x_0|`, `q = |x_1 - x|` and `M = s m`,
    P = p / w,   V = (lambda d_0 q - c s r p) / h,   L = V + P                      (32)
    z = z_0 + i lambda p / L                where f is the larger                   (33)
      = z_1 - i w (V + c P) / L             elsewhere                               (34)
    dz/dx = d_0 (lambda/L)^2,   log|dz/dx| = log(d_0 (lambda/L) (lambda/L))
          = 1 / (d_0 (1 + R)^2)             for |R| <= 1/4,   R = p (s - M)/(h lambda d_0)            (35)

In (4) and (8), a rounded middle may put an event into the wrong piece, where the derivatives of the log-det differ.  At the
middle `V = 0`.  Pieces are told apart without rounding: by the signs of
    z - z_0 - lambda (z_1 - z_0),   p^2 (1 - lambda)^2 d_1 - q^2 lambda^2 d_0       (36)
in the letters of (1), with `p` and `q` from the bin's lower and upper end.

In (12) to (21), the terms that a field receives through `t`, `s`, `v_1`, `v_m` and `x_m` cancel.  Without the terms that cancel,
(28) gives
    dx/dz_0 = -d_0 lambda (y + t f)/N^2,   dx/dz_1 = -d_0 lambda t^2/N^2            (37)
    dx/dx_0 = (y^2 + 2 m t y + m c r t^2)/N^2,   dx/dx_1 = e lambda m t^2/N^2       (38)
    dx/dd_0 = i a lambda (y + c r t/2)/N^2,   dx/dd_1 = -i a lambda c r t d_0/(2 d_1 N^2)           (39)
    dx/dlambda = a d_0 t (r - 1)/N^2                                                (40)
(in (40), `lambda` is the field: of an upper piece, the fraction on the other side) and of `l = log|dx/dz|`,
    dl/dz = -2 i (m - 1)/(w N),   dl/dz_0 = 2 i (m - f)/(w N),   dl/dz_1 = -2 i t/(w N)             (41)
    dl/dx_0 = -2 i m t/(h N),   dl/dx_1 = 2 i m t/(h N),   dl/dlambda = 2 i t (r - 1)/(lambda N)    (42)
    dl/dd_0 = (y - lambda e t)/(d_0 N),   dl/dd_1 = -c r t/(d_1 N)                  (43)

In (23) and (24), the two parts of the log-det's cotangent cancel.  For `n = log|dz/dx|`, from (33) and (35), with `Y = p/h`,
    dz/dz_0 = (V^2 + 2 V P + c P^2)/L^2,   dz/dz_1 = lambda P^2/L^2                 (44)
    dz/dx_0 = -lambda (V + M Y q/h)/L^2,   dz/dx_1 = -lambda M Y^2/L^2              (45)
    dz/dd_0 = -i lambda p (V + c s r Y/2)/(d_0 L^2),   dz/dd_1 = i lambda p c s r Y/(2 d_1 L^2)     (46)
    dz/dlambda = p Y (s - s r)/L^2                                                  (47)
    dn/dx = -2 i (s - M)/(h L),   dn/dx_0 = 2 i (s - M q/h)/(h L),   dn/dx_1 = -2 i M Y/(h L)       (48)
    dn/dz_1 = -dn/dz_0 = 2 i P/(w L),   dn/dlambda = 2 i Y (s - s r)/(lambda L)     (49)
    dn/dd_0 = (P - lambda d_0 q/h)/(d_0 L),   dn/dd_1 = c s r Y/(d_1 L)             (50)
"""


@bijector(source="arXiv:2001.05168", increasing=True, straight_far_out=True, textbook=textbook)
class LinearRationalSpline(Bijector):
    """A monotone linear-rational spline through (input_knots, output_knots) with given slopes at the knots, fields of shape
    (*batch, K+1); `middles` (*batch, K) are the fractions of the bins' widths at which their two pieces meet.

    `tails`: beyond the knots the slope is 1 ("identity", the identity if end knots agree) or the slope at the end knot
    ("linear"); or there is nothing beyond them ("none").  Raises ValueError for K < 1 and for other tails.
    """

    input_knots: Array = increasing("K+1")
    output_knots: Array = increasing("K+1")
    slopes: Array = positive("K+1")
    middles: Array = interval(0, 1)("K")
    tails: str = plain("identity", one_of(*TAILS))
    event_ndim = (0, 0)
    rounded_breaks = True           # the middles

    domain = property(lambda self: reached(self.input_knots, self.tails))
    codomain = property(lambda self: reached(self.output_knots, self.tails))
    two_sided, mirrored = property(between_intervals), what_is_left

    def _validate(self):
        checked(self)
        super()._validate()

    @staticmethod
    def definition(m, z, input_knots, output_knots, slopes, middles, tails):
        if z < input_knots[0]:
            return output_knots[0] + (slopes[0] if tails == "linear" else 1) * (z - input_knots[0])     # (10) (11)
        if z > input_knots[-1]:
            return output_knots[-1] + (slopes[-1] if tails == "linear" else 1) * (z - input_knots[-1])  # (10) (11)
        k = 0
        while k < len(input_knots) - 2 and z >= input_knots[k + 1]:
            k += 1
        x_0, x_1, d_0, d_1, fraction = output_knots[k], output_knots[k + 1], slopes[k], slopes[k + 1], middles[k]
        w = input_knots[k + 1] - input_knots[k]                                     # (1)
        s, t = (x_1 - x_0) / w, intermediate(m, (z - input_knots[k]) / w)           # (1)
        v_1 = m.sqrt(d_0 / d_1)                                                     # (2)
        v_m = (fraction * d_0 + (1 - fraction) * v_1 * d_1) / s                     # (2)
        x_m = ((1 - fraction) * x_0 + fraction * v_1 * x_1) / (1 - fraction + fraction * v_1)   # (3)
        if t <= fraction:
            return (x_0 * (fraction - t) + v_m * x_m * t) / (fraction - t + v_m * t)    # (4) (5)
        return (v_m * x_m * (1 - t) + v_1 * x_1 * (t - fraction)) / (v_m * (1 - t) + v_1 * (t - fraction))  # (4) (5)

    def breaks(self):
        """The input knots, and the middles, rounded.  An inner knot takes its derivatives from the bin above it, an end knot
        from its own bin.
        """
        z, fraction = self.input_knots, self.middles
        w = np.diff(z)
        middles = np.where(fraction <= 0.5, z[..., :-1] + fraction * w, z[..., 1:] - (1 - fraction) * w)
        z = np.broadcast_to(z, middles.shape[:-1] + z.shape[-1:])
        return np.sort(np.concatenate((z, middles), -1), -1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.image(self.place(z))

    def image(self, v):
        nearer = v.x_0 + v.i * v.a * (v.d_0 * (v.fraction / v.N))                   # (5) (28)
        farther = v.x_1 - v.i * v.h * ((v.y + v.crt) / v.N)                         # (5) (29)
        return v.beyond.joined(np.where(v.e * v.fraction * v.t <= v.y + v.crt, nearer, farther))

    def log_det(self, z):
        return self.log_slope(self.place(z))

    def log_slope(self, v):
        return v.beyond.log_slope(v.log_of(v.d_0, v.fraction / v.N, 1))             # (7) (30) (31)

    def forward_and_log_det(self, z):
        v = self.place(z)
        return self.image(v), self.log_slope(v)

    def slope(self, z):
        v = self.place(z)
        return v.beyond.slope(v.slope)

    def inverse(self, x):
        return self.origin(self.inverse_place(x))

    def origin(self, v):
        rest = (v.V + v.c * v.P) / v.L
        nearer = v.z_0 + v.i * v.p * (v.fraction / v.L)                             # (8) (9) (33)
        return v.beyond.joined(np.where(rest >= 0.5, nearer, v.z_1 - v.i * v.w * rest))     # (8) (9) (34)

    def inverse_log_slope(self, v):
        return v.beyond.log_slope(v.log_of(v.d_0, v.fraction / v.L, -1))            # (9) (35)

    def inverse_and_log_det(self, x):
        v = self.inverse_place(x)
        return self.origin(v), self.inverse_log_slope(v)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.place(z)

        def pullback(x_bar, log_det_bar):
            t, f, e, m, N, y, fraction = v.t, v.f, v.e, v.m, v.N, v.y, v.fraction
            of_l, step = 2 * v.i * log_det_bar, v.i * x_bar * v.a
            l_w, l_h = of_l / v.w / N, of_l / v.h / N
            of_z = x_bar * v.slope - l_w * (m - 1)                                  # (21) (30) (41)
            of_z_0 = -x_bar * v.d_0 * (fraction / N) * ((y + t * f) / N) + l_w * (m - f)    # (21) (37) (41)
            of_z_1 = -x_bar * v.d_0 * (fraction / N) * (t / N) * t - l_w * t        # (21) (37) (41)
            of_x_0 = x_bar * ((y / N) ** 2 + (2 * y + v.crt) / N * (m * t / N)) - l_h * (m * t)     # (21) (38) (42)
            of_x_1 = x_bar * (e * fraction * t / N) * (m * t / N) + l_h * (m * t)   # (21) (38) (42)
            of_d_0 = step * (fraction / N) * ((y + v.crt / 2) / N)                  # (19) (39)
            of_d_0 = of_d_0 + log_det_bar / v.d_0 * ((y - fraction * e * t) / N)    # (19) (43)
            of_d_1 = -(step * v.d_0 * (fraction / N) / 2 + log_det_bar) * (v.crt / N) / v.d_1   # (19) (39) (43)
            of_middle = (x_bar * v.a * v.d_0 / N + of_l / fraction) * (t * (v.r - 1) / N)   # (17) (40) (42)
            ends = (of_z_0, of_z_1), (of_x_0, of_x_1), (of_d_0, of_d_1)
            return v.beyond.event_bar(of_z, x_bar), self.bars(v, False, x_bar, log_det_bar, ends, of_middle)

        return (self.image(v), self.log_slope(v)), pullback

    def inverse_vjp(self, x):
        v = self.inverse_place(x)

        def pullback(z_bar, log_det_bar):
            P, V, L, c, M, Y, fraction = v.P, v.V, v.L, v.c, v.M, v.Y, v.fraction
            of_n, step = 2 * v.i * log_det_bar, v.i * z_bar * v.p
            n_w, n_h = of_n / v.w / L, of_n / v.h / L
            of_x = z_bar * v.inverse_slope - n_h * (v.s - M)                        # (23) (35) (48)
            of_z_0 = z_bar * ((V / L) ** 2 + (2 * V + c * P) / L * (P / L)) - n_w * P   # (24) (44) (49)
            of_z_1 = z_bar * fraction * (P / L) ** 2 + n_w * P                      # (24) (44) (49)
            of_x_0 = -z_bar * (fraction / L) * ((V + M * Y * v.rest) / L) + n_h * (v.s - M * v.rest)    # (24) (45) (48)
            of_x_1 = -z_bar * (fraction / L) * (M * Y / L) * Y - n_h * (M * Y)      # (24) (45) (48)
            of_d_0 = (-step * (fraction / L) * ((V + v.c_root_Y / 2) / L)
                      + log_det_bar * ((P - fraction * v.d_0 * v.rest) / L)) / v.d_0    # (24) (46) (50)
            of_d_1 = (step * (fraction / L) / 2 + log_det_bar) * (v.c_root_Y / L) / v.d_1   # (24) (46) (50)
            of_middle = v.p * ((z_bar * Y / L + of_n / fraction / v.h) * ((v.s - v.root) / L))  # (24) (47) (49)
            ends = (of_z_0, of_z_1), (of_x_0, of_x_1), (of_d_0, of_d_1)
            return v.beyond.event_bar(of_x, z_bar), self.bars(v, True, z_bar, log_det_bar, ends, of_middle)

        return (self.origin(v), self.inverse_log_slope(v)), pullback

    def bars(self, v, back, image_bar, log_det_bar, ends, of_middle):
        """Cotangents of the fields.  `ends` holds the cotangents at both ends of the piece in which each event lies."""
        of_z, of_x, of_d = (v.towards(*pair) for pair in ends)
        of_inputs, of_outputs = (v.beyond.image_bars, v.beyond.knot_bars) if back else (v.beyond.knot_bars, v.beyond.image_bars)
        found = {"input_knots": of_inputs(of_z, image_bar), "output_knots": of_outputs(of_x, image_bar),
                 "slopes": v.beyond.slope_bars(of_d, image_bar, log_det_bar)}       # (22)
        of_middle, count = np.where(v.beyond.inside, of_middle, of_middle.dtype.type(0)), self.slopes.shape[-1]
        bars = {name: at_knots(v.k, *ends, count) for name, ends in found.items()}
        return bars | {"middles": at_bins(v.k, of_middle, count - 1)}

    # -- in floating point --------------------------------------------------------------------------------------------

    @property
    def end_slopes(self):
        """The slopes of linear tails; None for tails of slope 1."""
        return (self.slopes[..., 0], self.slopes[..., -1]) if self.tails == "linear" else None

    def bin(self, k):
        """(ends of the input knots, of the output knots, of the slopes, middle) of each event's bin."""
        return *(at_ends(v, k) for v in (self.input_knots, self.output_knots, self.slopes)), of_bins(self.middles, k)

    def place(self, z):
        """The piece of z, and z's place in it; for events beyond the knots, the place of the nearer end knot."""
        inner = within(self.input_knots, z)
        k = bin_of(self.input_knots, inner)
        knots, images, slopes, middle = self.bin(k)
        v = Piece(k, below_middle(inner, *knots, middle), knots, images, slopes, middle)
        v.a, v.b = v.towards(inner - knots[0], knots[1] - inner)                    # (25)
        v.t, v.f = v.a / v.w, v.b / v.w                                             # (25)
        v.y = np.where(v.fraction <= v.c, v.fraction - v.t, v.f - v.c)              # (26)
        v.e, v.r = v.d_0 / v.s, v.root / v.s                                        # (27)
        v.crt = v.c * v.r * v.t
        v.m = v.c * v.r + v.fraction * v.e                                          # (27)
        v.N = v.y + v.m * v.t                                                       # (27)
        v.R = v.t * (v.m - 1) / v.fraction                                          # (31)
        v.beyond = Tails(z, self.input_knots, self.output_knots, self.end_slopes)   # (10) (11)
        return v

    def inverse_place(self, x):
        """The piece of x, and the place in it of the root."""
        inner = within(self.output_knots, x)
        k = bin_of(self.output_knots, inner)
        knots, images, slopes, middle = self.bin(k)
        v = Piece(k, image_below_middle(inner, *images, *slopes, middle), knots, images, slopes, middle)
        v.p, v.q = v.towards(inner - images[0], images[1] - inner)
        v.Y, v.rest = v.p / v.h, v.q / v.h
        v.P, v.M = v.p / v.w, v.c * v.root + v.fraction * v.d_0                     # (27) (32)
        v.c_root_Y = v.c * v.root * v.Y
        v.V = v.fraction * v.d_0 * v.rest - v.c_root_Y                              # (32)
        v.L = v.V + v.P                                                             # (32)
        v.R = v.Y * (v.s - v.M) / (v.fraction * v.d_0)                              # (35)
        v.beyond = Tails(x, self.output_knots, self.input_knots, self.end_slopes, back=True)    # (10) (11)
        return v

    hard_cases = (
        case("OneBin", "K = 1: both ends of the bin are ends of the spline", z=[-1.0, 0.25, 1.0, 2.0, -3.0],
             x=[-2.0, 0.5, 3.0, 4.0, -5.0], input_knots=[-1.0, 1.0], output_knots=[-2.0, 3.0], slopes=[0.5, 4.0],
             middles=[0.25]),
        case("IdentityTails", "end knots agree: beyond them x is z exactly", z=[-5.0, 1e300, 3.0, np.nextafter(3, 4)],
             x=[-5.0, 3.5], input_knots=[-3.0, 0.5, 3.0], output_knots=[-3.0, -1.0, 3.0], slopes=[1.0, 0.25, 1.0],
             middles=[0.5, 0.025]),
        case("LinearTails", "the slopes at the end knots go on beyond them", z=[-1e300, np.nextafter(-1, -2), 3.0, 1e6],
             x=[-1e300, np.nextafter(-2, -3), 2.0, 1e6], input_knots=[-1.0, 0.0, 2.0], output_knots=[-2.0, 0.0, 1.0],
             slopes=[0.25, 3.0, 1e-6], middles=[0.5, 0.5], tails="linear"),
        case("AllInTails", "a batch without an event between the knots", z=[-3.0, 4.0], x=[-3.0, 4.0],
             input_knots=[-1.0, 1.0], output_knots=[0.0, 0.5], slopes=[1e-6, 1e6], middles=[0.5], tails="linear"),
        case("NoTails", "the floats beside the ends of the domain", z=[np.nextafter(0, 1), 0.5, np.nextafter(1, 0)],
             x=[np.nextafter(0, 1), 0.5, np.nextafter(1, 0)], input_knots=[0.0, 0.25, 1.0], output_knots=[0.0, 0.75, 1.0],
             slopes=[1.0, 0.5, 2.0], middles=[0.25, 0.75], tails="none"),
        case("Line", "slopes equal the bins' own: m - 1 and r - 1 are 0", z=[-0.75, 0.5, 0.1], x=[-0.75, 0.5, 0.1],
             input_knots=[-1.0, 0.0, 1.0], output_knots=[-1.0, 0.0, 1.0], slopes=[1.0, 1.0, 1.0], middles=[0.3, 0.7]),
        case("Middle", "the middle and its image, and the floats beside them, on both sides",
             z=[0.5, np.nextafter(0.5, 0), np.nextafter(0.5, 1)], x=[0.25, np.nextafter(0.25, 0), np.nextafter(0.25, 1)],
             input_knots=[0.0, 1.0], output_knots=[0.0, 1.0], slopes=[1.0, 9.0], middles=[0.5]),
        case("FlatMiddle", "the image of a middle beside which the slope is 1e-13 of the bin's, and the float above",
             x=[-7.0065868585388116e-06, -7.006586858538812e-06], input_knots=[-0.00022989807387110718, 0.00021944262783571883],
             output_knots=[-7.007688207154954e-06, 2.881674503658319e-14],
             slopes=[2.9323679752050656e-17, 0.0006299327800556147], middles=[0.9986292786537642]),
        case("RoundedMiddle", "the image of a middle, which differences of rounded numbers take for one above: cotangents in turn",
             x=[-0.10235547341177972] * 2, input_knots=[-2.6277751444605313, 0.16188552984426993],
             output_knots=[-0.40589892483116746, 2.6149976872267353], slopes=[0.8722351563745598, 10.971547223714058],
             middles=[0.28375968340645363]),
        case("KnotExact", "an inner knot, and the floats beside it, on both sides",
             z=[0.3, np.nextafter(0.3, 0), np.nextafter(0.3, 1)], x=[0.7, np.nextafter(0.7, 0), np.nextafter(0.7, 1)],
             input_knots=[-1.0, 0.3, 2.0], output_knots=[-4.0, 0.7, 1.0], slopes=[2.0, 0.01, 30.0], middles=[0.025, 0.975]),
        case("FlatSlopes", "slopes far below the bins': a step at the middle", z=[1e-7, 0.5, 1 - 1e-7],
             x=[1e-13, 0.5, 1 - 1e-13], input_knots=[0.0, 1.0], output_knots=[0.0, 1.0], slopes=[1e-6, 1e-6], middles=[0.5]),
        case("SteepSlopes", "slopes far above the bins': nearly flat at the middle", z=[0.5, 1e-9, 1 - 1e-9],
             x=[1e-9, 0.5, 1 - 1e-9], input_knots=[0.0, 1.0], output_knots=[0.0, 1.0], slopes=[1e6, 1e6], middles=[0.5]),
        case("UnequalBins", "widths and heights over twelve orders of magnitude", z=[1e-7, 0.5e-6, 0.5, 5e5],
             x=[-1e-3, -5e5, 0.5e-6, 0.5], input_knots=[0.0, 1e-6, 1.0, 1e6], output_knots=[-1e6, 0.0, 1e-6, 1.0],
             slopes=[1e6, 1e-6, 1.0, 1e-6], middles=[0.5, 0.5, 1e-3]),
        case("OnePiece", "a middle beside an end of the bin: its piece holds nearly the whole bin", z=[1 - 1e-12, 0.5, 0.25],
             x=[-1e-12, -1e-300, -1.0], input_knots=[-1.0, 1.0], output_knots=[-1e6, 0.0], slopes=[1.0, 1.0],
             middles=[1 - 1e-5]),
    )


class Piece:
    """A place in a piece: the letters of the equations, for every event."""

    def __init__(self, k, lower, knots, images, slopes, middle):
        self.k, self.lower = k, lower
        self.i = np.where(lower, middle.dtype.type(1), middle.dtype.type(-1))
        (self.z_0, self.z_1), (self.x_0, self.x_1), (self.d_0, self.d_1) = (self.towards(*v) for v in (knots, images, slopes))
        self.fraction, self.c = self.towards(middle, 1 - middle)                    # (25)
        self.w, self.h = knots[1] - knots[0], images[1] - images[0]                 # (1)
        self.s, self.root = self.h / self.w, np.sqrt(self.d_0) * np.sqrt(self.d_1)  # (1) (27)

    def towards(self, at_lower, at_upper):
        """(what belongs to the end of the piece, to the other end)."""
        return np.where(self.lower, at_lower, at_upper), np.where(self.lower, at_upper, at_lower)

    @property
    def slope(self):
        """dx/dz."""
        part = self.fraction / self.N
        return np.where(self.near, self.d_0 / (1 + self.R) ** 2, self.d_0 * part * part)    # (6) (30) (31)

    @property
    def inverse_slope(self):
        """dz/dx."""
        part = self.fraction / self.L
        return np.where(self.near, 1 / self.d_0 / (1 + self.R) ** 2, self.d_0 * part * part)    # (35)

    @property
    def near(self):
        return np.abs(self.R) <= 0.25                                               # (31) (35)

    def log_of(self, d, part, sign):
        """log(d part^2) or, near the knot, the logarithm of d^sign / (1 + R)^2."""
        near = sign * np.log(d) - 2 * np.log1p(np.where(self.near, self.R, 0))      # (31) (35)
        return np.where(self.near, near, log_abs_product(np.stack(np.broadcast_arrays(d, part, part), -1)))     # (30) (35)


def below_middle(z, z_0, z_1, middle):
    """Is z at or below the middle of its bin?"""
    w = z_1 - z_0
    found = np.where(middle <= 0.5, (z - z_0) - middle * w, (1 - middle) * w - (z_1 - z))
    near = np.abs(found) <= NEAR * np.finfo(z.dtype).eps * (np.abs(z_0) + np.abs(z_1))  # (36)
    if near.any():
        z, z_0, z_1, middle = (v[near] for v in np.broadcast_arrays(z, z_0, z_1, middle))
        found[near] = exact_sum([z, -z_0, *exact_product(middle, z_0), *exact_product(-middle, z_1)])   # (36)
    return found <= 0


def image_below_middle(x, x_0, x_1, d_0, d_1, middle):
    """The same for x.  Near the middle, the numbers of (36) are computed as pairs of floats."""
    left, right = (x - x_0) * ((1 - middle) * np.sqrt(d_1)), (x_1 - x) * (middle * np.sqrt(d_0))
    found = np.asarray(left - right)
    near = np.abs(found) <= 2.0**-10 * (left + right)
    if near.any():
        x, x_0, x_1, d_0, d_1, middle = (v[near].astype(np.float64) for v in np.broadcast_arrays(x, x_0, x_1, d_0, d_1, middle))
        zero = np.zeros_like(x)
        p, q, c = sum_apart(x, -x_0), sum_apart(x_1, -x), sum_apart(1 + zero, -middle)
        left, right = times_apart(p, c), times_apart(q, (middle, zero))
        left, right = (times_apart(times_apart(v, v), (d, zero)) for v, d in ((left, d_1), (right, d_0)))
        found[near] = (left[0] - right[0]) + (left[1] - right[1])                   # (36)
    return found <= 0


def sum_apart(a, b):
    """a + b as an exact pair (rounded sum, its error)."""
    total = a + b
    added = total - a
    return total, (a - (total - added)) + (b - added)


def times_apart(a, b):
    """The product of two pairs as a pair, with a relative error of a few 2^-106."""
    product, rest = exact_product(a[0], b[0])                                       # (36)
    return sum_apart(product, rest + (a[0] * b[1] + a[1] * b[0]))
