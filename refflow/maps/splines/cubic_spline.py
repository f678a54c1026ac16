r"""Monotone cubic spline with Steffen's slopes, `R -> R`.

The map.  Given are input knots `z_0 < ... < z_K`, output knots `x_0 < ... < x_K`, and two `end_slopes` `q_0` and `q_1` in
`(0, 3)`.  Bin `k` has width, height and slope
    w_k = z_(k+1) - z_k    for k = 0, ..., K - 1,
    h_k = x_(k+1) - x_k    for k = 0, ..., K - 1,   s_k = h_k / w_k                 (1)
At an inner knot the spline has the slope of a parabola through the knot and its two neighbours, at most twice the slope of
either bin:
    d_k = min(2 s_(k-1), 2 s_k, p_k),   p_k = (s_(k-1) w_k + s_k w_(k-1)) / (w_(k-1) + w_k)         (2)
At an end knot its slope is a multiple of the bin's own:
    d_0 = q_0 s_0,   d_K = q_1 s_(K-1)                                              (3)
In the bin `z_k <= z < z_(k+1)`, with the subscript 0 for its lower and 1 for its upper end,
    t = (z - z_0)/w,   A = d_0 + d_1 - 2 s,   B = 3 s - 2 d_0 - d_1                 (4)
    x = x_0 + w (d_0 t + B t^2 + A t^3)                                             (5)
    dx/dz = m = d_0 + 2 B t + 3 A t^2,   log|dx/dz| = log m                         (6)
`x` is increasing, since `d_0 < 3 s` and `d_1 < 3 s` keep `m` positive.  An inner knot belongs to the bin above it, an end knot to
its bin.  For the inverse map, a bisection finds the root `z` of (5) between `z_0` and `z_1`, and
    log|dz/dx| = -log m                                                             (7)
Beyond the knots the spline is a line of slope `g`.  With `e = 0` below the first knot and `e = K` above the last,
    x = x_e + g (z - z_e)                                                           (8)
    z = z_e + (x - x_e)/g                                                           (9)
For `tails` "identity", `g` is 1; for "linear", it is `d_e`; for "none", the domain ends at the end knots.

The reverse rule.  From (4) to (6), with the cotangent `l_bar` of `log|dx/dz|`,
    m_bar = l_bar/m,   t_bar = x_bar w m + m_bar (2 B + 6 A t)                      (10)
    s_bar = x_bar w (3 t^2 - 2 t^3) + 6 m_bar (t - t^2)                             (11)
    d_0_bar = x_bar w (t - 2 t^2 + t^3) + m_bar (1 - 4 t + 3 t^2),
    d_1_bar = x_bar w (t^3 - t^2) + m_bar (3 t^2 - 2 t)                             (12)
    w_bar = x_bar (d_0 t + B t^2 + A t^3) - t t_bar/w                               (13)
    z_bar = t_bar/w = -z_0_bar,   x_0_bar = x_bar                                   (14)
The slopes at the ends of the bin pass their cotangents on.  If the least of the three in (2) is `2 s_(k-1)` or `2 s_k`, this
`s` receives `2 d_k_bar`.  If it is `p_k`, both bins receive
    s_(k-1)_bar = d_k_bar w_k/(w_(k-1) + w_k),   s_k_bar = d_k_bar w_(k-1)/(w_(k-1) + w_k),
    w_(k-1)_bar = d_k_bar (s_k - p_k)/(w_(k-1) + w_k),   w_k_bar = d_k_bar (s_(k-1) - p_k)/(w_(k-1) + w_k)          (15)
From (3), and likewise at the other end,
    q_0_bar = s_0 d_0_bar,   s_0_bar = q_0 d_0_bar                                  (16)
With all that a bin has received, (1) gives the cotangents at its ends, which are added to (14):
    z_(k+1)_bar = -z_k_bar = w_k_bar - s_k s_k_bar/w_k,   x_(k+1)_bar = -x_k_bar = s_k_bar/w_k      (17)
Beyond the knots, from (8), where `d_e_bar` is 0 unless the tails are linear,
    z_bar = g x_bar,   z_e_bar = -g x_bar,   x_e_bar = x_bar,   d_e_bar = x_bar (z - z_e) + l_bar/g         (18)
and `d_e_bar` is passed on by (16) and (17).  For the inverse map, whose log-det has the cotangent `l_bar`, let `dl/dz` be the
derivative of `log|dx/dz|`, which is `z_bar` of (14) for `x_bar = 0` and `l_bar = 1`.  Then
    x_bar = (z_bar - l_bar dl/dz)/(dx/dz)                                           (19)
and the fields have the cotangents (10) to (18) with the signs of `x_bar` and `l_bar` reversed.     (20)

Source: Durkan, Bekasov, Murray and Papamakarios, Cubic-Spline Flows, arXiv:1906.02145; Steffen, A simple method for monotonic
interpolation in one dimension, Astronomy and Astrophysics 239 (1990).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, increasing, interval, plain
from ...core.rules import one_of
from ...core.words import intermediate
from ..elementwise.solve import increasing_root
from .bins import TAILS, Tails, at_bins, at_ends, between_intervals, bin_of, checked, reached, what_is_left, within


class textbook:
    """(1) to (20) as they are printed, for one event."""

    def bins(z, x, end_slopes):
        """w_k, s_k, p_k and d_k of the knots z and x."""
        (q_0, q_1), K = end_slopes, len(z) - 1
        w = z[1:] - z[:-1]                                                          # (1)
        h = x[1:] - x[:-1]                                                          # (1)
        s = h / w                                                                   # (1)
        p = (s[:-1] * w[1:] + s[1:] * w[:-1]) / (w[:-1] + w[1:])                    # (2)
        inner = [min(2 * s[k - 1], 2 * s[k], p[k - 1]) for k in range(1, K)]
        d = [q_0 * s[0], *inner, q_1 * s[K - 1]]                                    # (2) (3)
        return w, s, p, d

    def end(event, knots, d, tails):
        """The index of the end knot and the slope of the line of an event beyond all knots, else (None, None)."""
        e = 0 if event < knots[0] else -1 if event > knots[-1] else None
        return e, None if e is None else d[e] if tails == "linear" else 1

    def bin(event, knots):
        """The index of the lower knot of an event's bin."""
        k = 0
        while k < len(knots) - 2 and event >= knots[k + 1]:
            k += 1
        return k

    def letters(z, input_knots, w, s, d):
        """w, d_0, t, A, B of the bin of z."""
        k = textbook.bin(z, input_knots)
        z_0, w, s, d_0, d_1 = input_knots[k], w[k], s[k], d[k], d[k + 1]
        t = (z - z_0) / w                                                           # (4)
        A, B = d_0 + d_1 - 2 * s, 3 * s - 2 * d_0 - d_1                             # (4)
        return w, d_0, t, A, B

    def forward(z, input_knots, output_knots, end_slopes, tails):
        w, s, _, d = textbook.bins(input_knots, output_knots, end_slopes)
        e, g = textbook.end(z, input_knots, d, tails)
        if g is not None:
            z_e, x_e = input_knots[e], output_knots[e]
            return x_e + g * (z - z_e)                                              # (8)
        x_0 = output_knots[textbook.bin(z, input_knots)]
        w, d_0, t, A, B = textbook.letters(z, input_knots, w, s, d)
        return x_0 + w * (d_0 * t + B * t ** 2 + A * t ** 3)                        # (5)

    def inverse(x, input_knots, output_knots, end_slopes, tails):
        w, s, _, d = textbook.bins(input_knots, output_knots, end_slopes)
        e, g = textbook.end(x, output_knots, d, tails)
        if g is not None:
            z_e, x_e = input_knots[e], output_knots[e]
            return z_e + (x - x_e) / g                                              # (9)
        k = textbook.bin(x, output_knots)
        below, above = input_knots[k], input_knots[k + 1]
        z = (below + above) / 2
        while below < z < above:
            low = textbook.forward(z, input_knots, output_knots, end_slopes, tails) < x     # (5)
            below, above = (z, above) if low else (below, z)
            z = (below + above) / 2
        return z

    def slope(z, input_knots, output_knots, end_slopes, tails):
        w, s, _, d = textbook.bins(input_knots, output_knots, end_slopes)
        _, g = textbook.end(z, input_knots, d, tails)
        if g is not None:
            return g                                                                # (8)
        w, d_0, t, A, B = textbook.letters(z, input_knots, w, s, d)
        return d_0 + 2 * B * t + 3 * A * t ** 2                                     # (6)

    def log_det(z, input_knots, output_knots, end_slopes, tails):
        m = textbook.slope(z, input_knots, output_knots, end_slopes, tails)
        return np.log(m)                                                            # (6)

    def inverse_log_det(x, input_knots, output_knots, end_slopes, tails):
        z = textbook.inverse(x, input_knots, output_knots, end_slopes, tails)
        m = textbook.slope(z, input_knots, output_knots, end_slopes, tails)
        return -np.log(m)                                                           # (7)

    def vjp(z, input_knots, output_knots, end_slopes, tails, x_bar, l_bar):
        widths, s, p, d = textbook.bins(input_knots, output_knots, end_slopes)
        z_bars, x_bars, d_bars, w_bars, s_bars = 0 * input_knots, 0 * output_knots, 0 * input_knots, 0 * widths, 0 * s
        e, g = textbook.end(z, input_knots, d, tails)
        if g is not None:
            z_e = input_knots[e]
            z_bar, z_e_bar, x_e_bar = g * x_bar, -g * x_bar, x_bar                  # (18)
            d_e_bar = x_bar * (z - z_e) + l_bar / g                                 # (18)
            z_bars[e], x_bars[e], d_bars[e] = z_e_bar, x_e_bar, d_e_bar if tails == "linear" else 0
        else:
            w, d_0, t, A, B = textbook.letters(z, input_knots, widths, s, d)
            m = d_0 + 2 * B * t + 3 * A * t ** 2                                    # (6)
            m_bar = l_bar / m                                                       # (10)
            t_bar = x_bar * w * m + m_bar * (2 * B + 6 * A * t)                     # (10)
            s_bar = x_bar * w * (3 * t ** 2 - 2 * t ** 3) + 6 * m_bar * (t - t ** 2)        # (11)
            d_0_bar = x_bar * w * (t - 2 * t ** 2 + t ** 3) + m_bar * (1 - 4 * t + 3 * t ** 2)      # (12)
            d_1_bar = x_bar * w * (t ** 3 - t ** 2) + m_bar * (3 * t ** 2 - 2 * t)  # (12)
            w_bar = x_bar * (d_0 * t + B * t ** 2 + A * t ** 3) - t * t_bar / w     # (13)
            z_bar, z_0_bar, x_0_bar = t_bar / w, -t_bar / w, x_bar                  # (14)
            k = textbook.bin(z, input_knots)
            z_bars[k], x_bars[k], w_bars[k], s_bars[k], d_bars[k:k + 2] = z_0_bar, x_0_bar, w_bar, s_bar, (d_0_bar, d_1_bar)
        w = widths
        for k in range(1, len(w)):
            if d[k] == p[k - 1]:
                both = w[k - 1] + w[k]
                s_bars[k - 1] += d_bars[k] * w[k] / both                            # (15)
                s_bars[k] += d_bars[k] * w[k - 1] / both                            # (15)
                w_bars[k - 1] += d_bars[k] * (s[k] - p[k - 1]) / both               # (15)
                w_bars[k] += d_bars[k] * (s[k - 1] - p[k - 1]) / both               # (15)
            else:
                s_bars[k - 1 if s[k - 1] <= s[k] else k] += 2 * d_bars[k]           # (2)
        s_bars[0] += end_slopes[0] * d_bars[0]                                      # (16)
        s_bars[-1] += end_slopes[1] * d_bars[-1]                                    # (16)
        w_bars, h_bars = w_bars - s * s_bars / w, s_bars / w                        # (17)
        z_bars[1:], x_bars[1:] = z_bars[1:] + w_bars, x_bars[1:] + h_bars           # (17)
        z_bars[:-1], x_bars[:-1] = z_bars[:-1] - w_bars, x_bars[:-1] - h_bars       # (17)
        q_bars = np.array([s[0] * d_bars[0], s[-1] * d_bars[-1]])                   # (16)
        return z_bar, {"input_knots": z_bars, "output_knots": x_bars, "end_slopes": q_bars}

    def inverse_vjp(x, input_knots, output_knots, end_slopes, tails, z_bar, l_bar):
        fields = input_knots, output_knots, end_slopes, tails
        z = textbook.inverse(x, *fields)
        dl_dz, _ = textbook.vjp(z, *fields, 0, 1)
        x_bar = (z_bar - l_bar * dl_dz) / textbook.slope(z, *fields)                # (19)
        return x_bar, textbook.vjp(z, *fields, -x_bar, -l_bar)[1]                   # (20)


r"""In floating point.

In (4), `1 - t` cancels near `z_1`:
    a = z - z_0,   b = z_1 - z,   t = a/w = 1 - f    for t <= f,   f = b/w = 1 - t    for t > f         (21)

In (2), the products with widths may leave the floats where the slopes in units of the bin's own, `e_0 = d_0/s` and `e_1 = d_1/s`,
do not.  With `r = s_b/s` and `o = w_b/w` for the bin before,
    e_0 = min(2 r, 2, (r + o)/(1 + o)),   or q_0 at an end knot                     (22)
and likewise for `e_1` with the bin after.

In (5), `A` and `B` may be negative, and `x_0` may be much larger than `x` where `x_1` is nearer.  With both `t` and `f`, all terms
of `Y` and of `1 - Y` are positive, and the nearer knot is the start:
    Y = e_0 t f^2 + u_1 t^2 f + t^3,   1 - Y = e_1 f t^2 + u_0 f^2 t + f^3,   u_0 = 3 - e_0,   u_1 = 3 - e_1        (23)
    x = x_0 + h Y      where t <= f,   x = x_1 - h (1 - Y)      elsewhere           (24)

In (6), the terms cancel where `A` or `B` is negative.  The terms of
    m = s S,   S = e_0 f^2 + e_1 t^2 - 2 v t f,   v = e_0 - u_1 = e_1 - u_0         (25)
are positive for `v <= 0`.  For `v > 0` they nearly cancel where both slopes are near 3, and there
    S = (f sqrt(e_0) - t sqrt(e_1))^2 + 2 t f (u_0 v + u_1 e_1)/(sqrt(e_0 e_1) + v)                 (26)

In (7), a root `z` near a knot loses the digits of its distance from the knot.  A solver finds the smaller of `t` and `f`, from (23) and
`y = (x - x_0)/h`; for `t`, which is at most 1/2,
    y / (e_0 + 7/4) <= t <= min(5 y / e_0, y^(1/3), 1/2)                            (27)
This bracket is widened to allow for the rounding of its ends.

In (10) to (17), the terms that a knot receives through `t`, `s`, `w` and both slopes cancel.  By (22), `e_0` depends on quotients
of widths and of heights alone.  With `E` and `F` its derivatives,
    de_0/dlog w = -de_0/dlog w_b = E_0,   de_0/dlog h_b = -de_0/dlog h = F_0        (28)
and `D_0 = e_0 - E_0`, `G_0 = e_0 - F_0`, in which terms have cancelled,
    E_0 = F_0 = 2 r,   D_0 = G_0 = 0                                      for 2 r   (29)
    E_0 = F_0 = 0,   D_0 = G_0 = 2                                        for 2     (30)
    E_0 = (r (1 + 2 o) - o)/(1 + o)^2,   D_0 = o (2 + o - r)/(1 + o)^2,
    F_0 = r/(1 + o),   G_0 = o/(1 + o)                                    for p     (31)
and `E_0 = F_0 = 0` at an end knot, where `e_0` is a field.  With
    S_0 = f (f - 2 t),   S_1 = t (t - 2 f),   S' = 2 t c_0 - 2 f c_1,
    c_0 = e_0 + 2 e_1 - 3 = 2 e_1 - u_0 = (e_0 - 1) + 2 (e_1 - 1),   c_1 = e_1 + 2 e_0 - 3          (32)
    S_D = D_0 S_0 + D_1 S_1 + 6 t f = D_0 f^2 + D_1 t^2 + 2 (3 - D_0 - D_1) t f     (33)
and `S_G` in the same way, the derivatives of `x` and of `l = log|dx/dz|` are, for fields of the bin,
    dx/dz_0 = -s f B_0,   B_0 = S + t f E_0 - t^2 E_1 = e_0 f^2 + D_1 t^2 + (E_0 - 2 v) t f              (34)
    dx/dz_1 = -s t B_1,   B_1 = S - f^2 E_0 + t f E_1 = e_1 t^2 + D_0 f^2 + (E_1 - 2 v) t f              (35)
    dx/dx_0 = f^3 + (3 - G_0) f^2 t + G_1 f t^2,   dx/dx_1 = t^3 + (3 - G_1) t^2 f + G_0 t f^2 = 1 - dx/dx_0        (36)
    dl/dz = S'/(w S),   dl/dz_0 = L_0/(w S),   L_0 = S_D - f S',   dl/dz_1 = -L_1/(w S),   L_1 = S_D + t S'             (37)
    dl/dx_1 = -dl/dx_0 = S_G/(h S)                                                  (38)
and for the slopes at its ends,
    dx/de_0 = h t f^2,   dx/de_1 = -h t^2 f,   dl/de_0 = S_0/S,   dl/de_1 = S_1/S   (39)
By (28) the bins before and after get the cotangents of `e_0` and `e_1`; at an end knot `end_slopes` get them.  Where both ends
are end knots or as in (30), each of `S_D`, `S_G`, `B_0` and `B_1` is `S`.  In `L_1`, too, constants cancel for slopes 2:
    L_1 = 2 (f - t) + D_1 S_1 + 2 e_1 t (2 t - f)      for (30) at the lower end
        = D_0 S_0 + 2 e_0 S_1 + 4 t                    at the upper end
        = 2 (f - 2 t)^2                                at both                      (40)

In (19) and (20), the two parts of the log-det's cotangent cancel.  The derivatives of `z` and of `n = log|dz/dx|` are
    dz/dz_0 = f B_0/S,   dz/dz_1 = t B_1/S                                          (41)
    dz/dx_0 = -(dx/dx_0)/(s S),   dz/dx_1 = -(dx/dx_1)/(s S)                        (42)
    dz/de_0 = -w t f^2/S,   dz/de_1 = w t^2 f/S                                     (43)
    dn/dx = -S'/(h S^2)                                                             (44)
    dn/de_0 = N_0/S^2,   N_0 = f (e_1 t^2 (2 t - f) + f (2 u_0 t^2 - e_0 f^2))      (45)
    dn/de_1 = N_1/S^2,   N_1 = t (e_0 f^2 (2 f - t) + t (2 u_1 f^2 - e_1 t^2))      (46)
    dn/dz_1 = -dn/dz_0 = (S^2 + E_0 N_0 + E_1 N_1)/(w S^2)                          (47)
    dn/dx_0 = (S^2 + S' (1 - Y) + F_0 N_0 + F_1 N_1)/(h S^2)                        (48)
    dn/dx_1 = -(S^2 - S' Y + F_0 N_0 + F_1 N_1)/(h S^2)                             (49)
Terms cancel in these numerators.  In general
    S^2 + E_0 N_0 + E_1 N_1 = 2 t f R - D_0 N_0 - D_1 N_1,
    R = e_0^2 f (t - 2 f) + e_1^2 t (f - 2 t) + e_0 e_1 (4 t f - f^2 - t^2)
        + 3 e_0 f (2 f - 3 t) + 3 e_1 t (2 t - 3 f) + 18 t f                        (50)
    S^2 + S' (1 - Y) + F_0 N_0 + F_1 N_1 = 2 f Q_0 - G_0 N_0 - G_1 N_1,
    Q_0 = 3 e_1 t^3 + 3 u_0 f t^2 + (2 u_0 - e_1) f^2 t - c_1 f^3    (51)
and where `E_0 = F_0 = 0`, as at an end knot, where `u_0` may be small,
    S^2 + E_1 N_1 = f R_1 - D_1 N_1,   P = e_0 f + 2 u_0 t,
    R_1 = f P^2 + e_1 t (2 P (t - 2 f) + e_0 f (2 f - t) + 6 t f) + 2 e_1^2 t^2 (f - 2 t)           (52)
    S^2 + S' (1 - Y) + F_1 N_1 = f H_0 - G_1 N_1,
    H_0 = 2 e_1 u_0 t^3 + (2 u_0^2 + e_0 e_1) f t^2 + (4 u_0 - 2 e_1) f^2 t + J_0 f^3,
    J_0 = (e_0 - 2)^2 - 2 (e_1 - 1) = 2 u_1 - e_0 (4 - e_0)                         (53)
For (49), and where `E_1 = F_1 = 0`, 0 and 1, and `t` and `f`, are exchanged.
"""


@bijector(source="arXiv:1906.02145", increasing=True, straight_far_out=True, solver=True, textbook=textbook)
class CubicSpline(Bijector):
    """A monotone cubic spline through (input_knots, output_knots), fields of shape (*batch, K+1), with Steffen's slopes at
    inner knots; the inverse uses a bracketing solver.

    `end_slopes`, (*batch, 2), are the slopes at the end knots in units of the end bins' own, between 0 and 3.  `tails`: beyond
    the knots the slope is 1 ("identity", the identity if end knots agree) or the slope at the end knot ("linear"); or there is
    nothing beyond them ("none").  Raises ValueError for K < 1 and for other tails.
    """

    input_knots: Array = increasing("K+1")
    output_knots: Array = increasing("K+1")
    end_slopes: Array = interval(0, 3)(2)
    tails: str = plain("identity", one_of(*TAILS))
    event_ndim = (0, 0)

    domain = property(lambda self: reached(self.input_knots, self.tails))
    codomain = property(lambda self: reached(self.output_knots, self.tails))
    two_sided, mirrored = property(between_intervals), what_is_left

    def _validate(self):
        checked(self)
        super()._validate()

    @staticmethod
    def definition(m, z, input_knots, output_knots, end_slopes, tails):
        K = len(input_knots) - 1
        w = [input_knots[k + 1] - input_knots[k] for k in range(K)]                 # (1)
        s = [(output_knots[k + 1] - output_knots[k]) / w[k] for k in range(K)]      # (1)

        def slope(k):
            if k in (0, K):
                return end_slopes[0] * s[0] if k == 0 else end_slopes[1] * s[-1]    # (3)
            p = (s[k - 1] * w[k] + s[k] * w[k - 1]) / (w[k - 1] + w[k])             # (2)
            if p <= 2 * s[k - 1] and p <= 2 * s[k]:
                return p                                                            # (2)
            return 2 * s[k - 1] if s[k - 1] <= s[k] else 2 * s[k]                   # (2)

        if z < input_knots[0]:
            return output_knots[0] + (slope(0) if tails == "linear" else 1) * (z - input_knots[0])  # (8) (9)
        if z > input_knots[K]:
            return output_knots[K] + (slope(K) if tails == "linear" else 1) * (z - input_knots[K])  # (8) (9)
        k = 0
        while k < K - 1 and z >= input_knots[k + 1]:
            k += 1
        d_0, d_1, t = slope(k), slope(k + 1), intermediate(m, (z - input_knots[k]) / w[k])  # (4)
        cubic = d_0 * t + (3 * s[k] - 2 * d_0 - d_1) * t * t + (d_0 + d_1 - 2 * s[k]) * t * t * t
        return output_knots[k] + w[k] * cubic                                       # (5)

    def breaks(self):
        """The input knots.  An inner knot takes its derivatives from the bin above it, an end knot from its own bin."""
        return self.input_knots

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.image(self.place(z))

    def image(self, v):
        return v.beyond.joined(np.where(v.t <= v.f, v.x_0 + v.h * v.Y, v.x_1 - v.h * v.rest))   # (5) (24)

    def log_det(self, z):
        return self.log_slope(self.place(z))

    def log_slope(self, v):
        return v.beyond.log_slope(np.log(v.s * v.S))                                # (6) (25)

    def forward_and_log_det(self, z):
        v = self.place(z)
        return self.image(v), self.log_slope(v)

    def slope(self, z):
        v = self.place(z)
        return v.beyond.slope(v.s * v.S)                                            # (6) (25)

    def inverse(self, x):
        return self.origin(self.inverse_place(x))

    def origin(self, v):
        return v.beyond.joined(np.where(v.t <= v.f, v.z_0 + v.w * v.t, v.z_1 - v.w * v.f))  # (21)

    def inverse_and_log_det(self, x):
        v = self.inverse_place(x)
        return self.origin(v), v.beyond.log_slope(-np.log(v.s * v.S))               # (7)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.place(z)

        def pullback(x_bar, log_det_bar):
            t, f, S = v.t, v.f, v.S
            of_w, rise = log_det_bar / (v.w * S), log_det_bar / (v.h * S) * v.S_G
            of_z = x_bar * v.s * S + of_w * v.S_slope                               # (14) (25) (37)
            of_z_0 = -x_bar * v.s * f * v.B_0 + of_w * v.L_0                        # (17) (34) (37)
            of_z_1 = -x_bar * v.s * t * v.B_1 - of_w * v.L_1                        # (17) (35) (37)
            to_x_0, to_x_1 = v.to_x                                                 # (36)
            of_x_0, of_x_1 = x_bar * to_x_0 - rise, x_bar * to_x_1 + rise           # (17) (36) (38)
            of_e_0 = x_bar * v.h * t * f * f + log_det_bar / S * v.S_0              # (12) (39)
            of_e_1 = -x_bar * v.h * t * t * f + log_det_bar / S * v.S_1             # (12) (39)
            bars = self.bars(v, (x_bar, log_det_bar), (of_z_0, of_z_1), (of_x_0, of_x_1), (of_e_0, of_e_1))
            return v.beyond.event_bar(of_z, x_bar), bars

        return (self.image(v), self.log_slope(v)), pullback

    def inverse_vjp(self, x):
        v = self.inverse_place(x)

        def pullback(z_bar, log_det_bar):
            t, f, S, e_0, e_1, u_0, u_1 = v.t, v.f, v.S, v.e_0, v.e_1, v.u_0, v.u_1
            (first, second), through, of_S = v.ends, z_bar / (v.s * S), log_det_bar / S     # (7)
            N_0 = f * (e_1 * t * t * (2 * t - f) + f * (2 * u_0 * t * t - e_0 * f * f)) / S     # (45)
            N_1 = t * (e_0 * f * f * (2 * f - t) + t * (2 * u_1 * f * f - e_1 * t * t)) / S     # (46)
            wide = of_S / v.w * v.from_widths(N_0, N_1)                             # (47)
            of_z_0, of_z_1 = z_bar * f * v.B_0 / S - wide, z_bar * t * v.B_1 / S + wide     # (20) (41) (47)
            bent_0, bent_1 = first.G * N_0, second.G * N_1
            to_0 = from_height(t, f, first, second, v.c_1, bent_0 * S) / S - bent_1     # (48)
            to_1 = from_height(f, t, second, first, v.c_0, bent_1 * S) / S - bent_0     # (49)
            of_x = through - of_S / v.h * v.S_slope / S                             # (19) (44)
            to_x_0, to_x_1 = v.to_x                                                 # (36)
            of_x_0 = -through * to_x_0 + of_S / v.h * to_0                          # (20) (42) (48)
            of_x_1 = -through * to_x_1 - of_S / v.h * to_1                          # (20) (42) (49)
            of_e_0 = -z_bar * v.w * t * f * (f / S) + of_S * N_0                    # (20) (43) (45)
            of_e_1 = z_bar * v.w * t * f * (t / S) + of_S * N_1                     # (20) (43) (46)
            bars = self.bars(v, (z_bar, log_det_bar), (of_z_0, of_z_1), (of_x_0, of_x_1), (of_e_0, of_e_1))
            return v.beyond.event_bar(of_x, z_bar), bars

        return self.inverse_and_log_det(x), pullback

    def bars(self, v, given, of_z, of_x, of_e):
        """Cotangents of the fields, from the cotangents at the ends of each event's bin and of its slopes e_0, e_1."""
        beyond, count, zero = v.beyond, self.input_knots.shape[-1], given[0].dtype.type(0)
        of_inputs, of_outputs = (beyond.image_bars, beyond.knot_bars) if beyond.back else (beyond.knot_bars, beyond.image_bars)
        of_e = [np.where(beyond.inside, bar, zero) for bar in of_e]

        def of_tail(size):
            """The cotangent of a factor of the tail's slope, where `size` is the factor."""
            return zero if beyond.g is None else np.where(beyond.inside, zero, beyond.slope_bar(*given, beyond.g / size))

        def at_all_knots(ends, size, inner, beyond_bin):
            """One field of knots: the ends of the bin, the slope of a tail, the bins before and after."""
            tail = inner * of_tail(size)
            found = at_bins(v.k, ends[0] + tail, count) + at_bins(v.k + 1, ends[1] - tail, count)   # (18)
            before, after = beyond_bin
            return (found + at_bins(v.k - 1, -before, count) + at_bins(v.k, before, count)  # (28)
                    + at_bins(v.k + 1, -after, count) + at_bins(v.k + 2, after, count))     # (28)

        of_w = [-bar * (end.E / end.w) for bar, end in zip(of_e, v.ends)]           # (28)
        of_h = [bar * (end.F / end.h) for bar, end in zip(of_e, v.ends)]            # (28)
        ends = [np.where(end.outer, bar, zero) + np.where(there, of_tail(end.e), zero)
                for bar, end, there in zip(of_e, v.ends, (beyond.below, beyond.above))]     # (16) (18)
        return {"input_knots": at_all_knots(of_inputs(of_z, given[0]), v.w, 1, of_w),
                "output_knots": at_all_knots(of_outputs(of_x, given[0]), v.h, -1, of_h), "end_slopes": np.stack(ends, -1)}

    # -- in floating point --------------------------------------------------------------------------------------------

    @property
    def line_slopes(self):
        """The slopes of linear tails; None for tails of slope 1."""
        if self.tails != "linear":
            return None
        s = np.diff(self.output_knots) / np.diff(self.input_knots)                  # (1)
        return self.end_slopes[..., 0] * s[..., 0], self.end_slopes[..., 1] * s[..., -1]    # (3)

    def bin(self, k):
        """The letters of (25) and (28) for each event's bin and its neighbours."""
        last = self.input_knots.shape[-1] - 2
        (z_0, z_1), (x_0, x_1) = at_ends(self.input_knots, k), at_ends(self.output_knots, k)
        w, h = z_1 - z_0, x_1 - x_0                                                 # (1)
        v = Place(k=k, z_0=z_0, z_1=z_1, x_0=x_0, x_1=x_1, w=w, h=h, s=h / w)       # (1)
        v.ends = [self.end(v, np.maximum(k - 1, 0), k == 0, 0), self.end(v, np.minimum(k + 1, last), k == last, 1)]
        v.e_0, v.e_1 = (end.e for end in v.ends)
        v.slope_only = v.ends[0].slope_only & v.ends[1].slope_only
        v.u_0, v.u_1 = 3 - v.e_0, 3 - v.e_1                                         # (23)
        v.v = np.where(v.e_0 <= v.e_1, v.e_0 - v.u_1, v.e_1 - v.u_0)                # (6) (25)
        return v

    def end(self, v, k, outer, side):
        """One end of the bin; k is the index of the bin beyond, unless the end is an `outer` one."""
        (z_0, z_1), (x_0, x_1) = at_ends(self.input_knots, k), at_ends(self.output_knots, k)
        return End(v.w, v.h, z_1 - z_0, x_1 - x_0, outer, np.broadcast_to(self.end_slopes[..., side], outer.shape))

    def place(self, z):
        """The bin of z, and z's place in it; for events beyond the knots, the place of the nearer end knot."""
        inner = within(self.input_knots, z)
        v = self.bin(bin_of(self.input_knots, inner))
        v.beyond = Tails(z, self.input_knots, self.output_knots, self.line_slopes)  # (8) (9)
        a, b = inner - v.z_0, v.z_1 - inner
        return v.at(a <= b, np.minimum(a, b) / v.w)                                 # (21)

    def inverse_place(self, x):
        """The bin of x, and the place in it of the root."""
        inner = within(self.output_knots, x)
        v = self.bin(bin_of(self.output_knots, inner))
        v.beyond = Tails(x, self.output_knots, self.input_knots, self.line_slopes, back=True)   # (8) (9)
        y, rest = (inner - v.x_0) / v.h, (v.x_1 - inner) / v.h
        lower = 8 * y <= 4 + v.e_0 - v.e_1                                          # (23) at t = 1/2
        e, e_far = np.where(lower, v.e_0, v.e_1), np.where(lower, v.e_1, v.e_0)
        return v.at(lower, smaller_root(np.where(lower, y, rest), np.where(lower, rest, y), e, e_far))

    hard_cases = (
        case("OneBin", "K = 1: both slopes are fields", z=[-1.0, 0.25, 1.0, 2.0, -3.0], x=[-2.0, 0.5, 3.0, 4.0, -5.0],
             input_knots=[-1.0, 1.0], output_knots=[-2.0, 3.0], end_slopes=[0.5, 2.5]),
        case("IdentityTails", "end knots agree: beyond them x is z exactly", z=[-5.0, 1e300, 3.0, np.nextafter(3, 4)],
             x=[-5.0, 3.5], input_knots=[-3.0, 0.5, 3.0], output_knots=[-3.0, -1.0, 3.0], end_slopes=[1.0, 1.0]),
        case("LinearTails", "the slopes at the end knots go on beyond them", z=[-1e300, np.nextafter(-1, -2), 3.0, 1e6],
             x=[-1e300, np.nextafter(-2, -3), 2.0, 1e6], input_knots=[-1.0, 0.0, 2.0], output_knots=[-2.0, 0.0, 1.0],
             end_slopes=[0.25, 2.5], tails="linear"),
        case("AllInTails", "a batch without an event between the knots", z=[-3.0, 4.0], x=[-3.0, 4.0],
             input_knots=[-1.0, 1.0], output_knots=[0.0, 0.5], end_slopes=[1e-6, 2.5], tails="linear"),
        case("NoTails", "the floats beside the ends of the domain", z=[np.nextafter(0, 1), 0.5, np.nextafter(1, 0)],
             x=[np.nextafter(0, 1), 0.5, np.nextafter(1, 0)], input_knots=[0.0, 0.25, 1.0], output_knots=[0.0, 0.75, 1.0],
             end_slopes=[1.0, 0.5], tails="none"),
        case("Line", "equal bins and slopes: every power of t but the first vanishes", z=[-0.75, 0.5, 0.1], x=[-0.75, 0.5, 0.1],
             input_knots=[-1.0, 0.0, 1.0], output_knots=[-1.0, 0.0, 1.0], end_slopes=[1.0, 1.0]),
        case("KnotExact", "an inner knot, and the floats beside it, on both sides",
             z=[0.3, np.nextafter(0.3, 0), np.nextafter(0.3, 1)], x=[0.7, np.nextafter(0.7, 0), np.nextafter(0.7, 1)],
             input_knots=[-1.0, 0.3, 2.0], output_knots=[-4.0, 0.7, 1.0], end_slopes=[2.0, 0.01]),
        case("NearlyFlat", "both slopes nearly 3: S is nearly 3 (f - t)^2", z=[0.5, 0.4999, 0.25], x=[0.5, 0.4999, 0.4],
             input_knots=[0.0, 1.0], output_knots=[0.0, 1.0], end_slopes=[2.999, 2.9999]),
        case("FlatEnds", "slopes near 0: the root is nearly a cube or a square root", z=[1e-7, 0.5, 1 - 1e-7],
             x=[1e-13, 0.5, 1 - 1e-13], input_knots=[0.0, 1.0], output_knots=[0.0, 1.0], end_slopes=[1e-6, 1e-6]),
        case("UnequalBins", "widths and heights over twelve orders of magnitude: all three slopes of (2)",
             z=[1e-7, 0.5e-6, 0.5, 5e5], x=[-1e-3, -5e5, 0.5e-6, 0.5], input_knots=[0.0, 1e-6, 1.0, 1e6],
             output_knots=[-1e6, 0.0, 1e-6, 1.0], end_slopes=[1.0, 2.0]),
        case("LongBinBeyond", "e_0 is 2 and e_1 nearly 1: what is left of J_0 is 2 (1 - e_1)", z=[1e-12, 0.5], x=[1e-12, 0.5],
             input_knots=[-1.0, 0.0, 1.0, 1e8], output_knots=[-10.0, 0.0, 1.0, 3e8], end_slopes=[1.0, 1.0]),
        case("FarTail", "the step from the end knot times a cotangent leaves the floats, a cotangent of a knot does not",
             z=[-2.3e37, 5e36], x=[-2.5e37], input_knots=[-3.334955, -0.71155953, 0.2659539, 0.6431366],
             output_knots=[-1.6042991, -0.5103452, 3.653712, 7.258398], end_slopes=[2.361669, 0.9902412], tails="linear"),
        case("BesideTheKnotAbove", "dx/dx_1 is 1, and the cube of a rounded t is not", z=[-2.0**-13, -1e-9],
             x=[-1e-6], input_knots=[-5e5, -5.17, 5e-5, 12.7], output_knots=[-0.0149, -0.0086, 0.0621, 0.2205],
             end_slopes=[0.028, 0.119]),
        case("NearerKnot", "x_0 is much larger than x: it must be reached from x_1", z=[1 - 1e-12, np.nextafter(1, 0)],
             x=[-1e-12, -1e-300], input_knots=[-1.0, 1.0], output_knots=[-1e6, 0.0], end_slopes=[1.0, 1.0]),
    )


class End:
    """One end of each event's bin: the slope e there in units of the bin's own, and its derivatives E and F, and D and G."""

    def __init__(self, w, h, w_beyond, h_beyond, outer, given):
        self.w, self.h, self.outer = w_beyond, h_beyond, outer
        r, o = (h_beyond / w_beyond) / (h / w), w_beyond / w
        p = (r + o) / (1 + o)                                                       # (2) (22)
        steep, flat = (p > 2) & ~outer & (r > 1), (p > 2 * r) & ~outer & (r <= 1)
        zero, two = np.zeros_like(r), np.full_like(r, 2)
        self.steep, self.slope_only = steep, steep | outer

        def choice(at_end, for_flat, for_steep, else_):
            return np.where(outer, at_end, np.where(flat, for_flat, np.where(steep, for_steep, else_)))

        self.e = choice(given, 2 * r, two, p)                                       # (3) (22)
        self.E = choice(zero, 2 * r, zero, (r * (1 + 2 * o) - o) / (1 + o) / (1 + o))   # (29) (30) (31)
        self.excess = choice(given - 1, 2 * r - 1, two - 1, (r - 1) / (1 + o))      # e - 1
        self.D = choice(given, zero, two, o * ((2 + o - r) / (1 + o)) / (1 + o))    # (29) (30) (31)
        self.F = choice(zero, 2 * r, zero, r / (1 + o))                             # (29) (30) (31)
        self.G = choice(given, zero, two, o / (1 + o))                              # (29) (30) (31)


class Place:
    """A place in a bin: the letters of the equations, for every event."""

    def __init__(self, **bin):
        vars(self).update(bin)

    def at(self, lower, near):
        """`near` is the smaller of t and f: t where `lower`; the larger one is 1 - near."""
        t, f = self.t, self.f = np.where(lower, near, 1 - near), np.where(lower, 1 - near, near)
        self.S_0, self.S_1 = f * (f - 2 * t), t * (t - 2 * f)                       # (32)
        self.Y = cubic(t, f, self.e_0, self.u_1)                                    # (23)
        self.rest = cubic(f, t, self.e_1, self.u_0)                                 # (23)
        return self

    @property
    def S(self):
        t, f, e_0, e_1, v = self.t, self.f, self.e_0, self.e_1, self.v
        plain = e_0 * f * f + e_1 * t * t - 2 * v * t * f                           # (6) (25)
        square = (f * np.sqrt(e_0) - t * np.sqrt(e_1)) ** 2
        bent = (self.u_0 * v + self.u_1 * e_1) / (np.sqrt(e_0 * e_1) + v)
        return np.where(v <= 0, plain, square + 2 * t * f * bent)                   # (6) (26)

    @property
    def S_slope(self):
        """S'."""
        return 2 * self.t * self.c_0 - 2 * self.f * self.c_1                        # (32)

    @property
    def c_0(self):
        return self.beyond_3(*self.ends, self.u_0)                                  # (32)

    @property
    def c_1(self):
        return self.beyond_3(*self.ends[::-1], self.u_1)                            # (32)

    def beyond_3(self, first, second, u_0):
        """c_0; with exchanged arguments, c_1."""
        return np.where(np.abs(second.excess) < 0.5, first.excess + 2 * second.excess, 2 * second.e - u_0)  # (32)

    @property
    def L_0(self):
        return last_sum(self.f, self.t, *self.ends[::-1], self.S_D - self.f * self.S_slope)     # (37)

    @property
    def L_1(self):
        return last_sum(self.t, self.f, *self.ends, self.S_D + self.t * self.S_slope)   # (37)

    def with_parts(self, part_0, part_1):
        """S with a part of each of e_0 and e_1 in its place; S itself where neither slope depends on the bin."""
        t, f, larger = self.t, self.f, np.maximum(part_0, part_1)
        rest = 3 - larger - np.minimum(part_0, part_1)
        return np.where(self.slope_only, self.S, part_0 * f * f + part_1 * t * t + 2 * rest * t * f)    # (33)

    @property
    def S_D(self):
        return self.with_parts(*(end.D for end in self.ends))

    @property
    def S_G(self):
        return self.with_parts(*(end.G for end in self.ends))

    @property
    def B_0(self):
        t, f, (first, second) = self.t, self.f, self.ends
        return np.where(self.slope_only, self.S, self.e_0 * f * f + second.D * t * t + (first.E - 2 * self.v) * t * f)  # (34)

    @property
    def B_1(self):
        t, f, (first, second) = self.t, self.f, self.ends
        return np.where(self.slope_only, self.S, self.e_1 * t * t + first.D * f * f + (second.E - 2 * self.v) * t * f)  # (35)

    def from_widths(self, N_0, N_1):
        """The quotient of (47) times w S, from N_0/S and N_1/S."""
        t, f, e_0, e_1, (first, second) = self.t, self.f, self.e_0, self.e_1, self.ends
        R = (e_0 * e_0 * f * (t - 2 * f) + e_1 * e_1 * t * (f - 2 * t) + e_0 * e_1 * (4 * t * f - f * f - t * t)
             + 3 * e_0 * f * (2 * f - 3 * t) + 3 * e_1 * t * (2 * t - 3 * f) + 18 * t * f)  # (50)
        inner = 2 * t * f * R / self.S - first.D * N_0 - second.D * N_1             # (50)
        below = f * one_end(t, f, e_0, e_1, self.u_0) / self.S - second.D * N_1     # (52)
        above = t * one_end(f, t, e_1, e_0, self.u_1) / self.S - first.D * N_0      # (52)
        alone = np.where(second.slope_only, self.S, below)
        return np.where(first.slope_only, alone, np.where(second.slope_only, above, inner))

    @property
    def to_x(self):
        """dx/dx_0 and dx/dx_1, whose sum is 1: the larger one is 1 minus the other."""
        G_0, G_1 = (end.G for end in self.ends)
        to_0, to_1 = cubic(self.f, self.t, G_1, 3 - G_0), cubic(self.t, self.f, G_0, 3 - G_1)   # (36)
        lower = to_0 <= to_1
        return np.where(lower, to_0, 1 - to_1), np.where(lower, 1 - to_0, to_1)     # (36)


def cubic(t, f, e_0, u_1):
    """Y; with exchanged arguments, 1 - Y."""
    return t * (e_0 * f * f + u_1 * t * f + t * t)                                  # (23)


def one_end(t, f, e_0, e_1, u_0):
    """R_1; with exchanged arguments, the same for an end knot above."""
    P = e_0 * f + 2 * u_0 * t                                                       # (52)
    bent = 2 * P * (t - 2 * f) + e_0 * f * (2 * f - t) + 6 * t * f
    return f * P * P + e_1 * t * bent + 2 * e_1 * e_1 * t * t * (f - 2 * t)         # (52)


def from_height(t, f, first, second, c_1, bent_0):
    """2 f Q_0 - G_0 N_0 or f H_0; with exchanged arguments, the same for (49)."""
    e_0, e_1, u_0 = first.e, second.e, 3 - first.e
    Q_0 = 3 * e_1 * t**3 + 3 * u_0 * f * t * t + (2 * u_0 - e_1) * f * f * t - c_1 * f**3   # (51)
    J_0 = np.where(e_1 > 2, 2 * (3 - e_1) - e_0 * (4 - e_0), (e_0 - 2) ** 2 - 2 * second.excess)    # (53)
    H_0 = (2 * e_1 * u_0 * t**3 + (2 * u_0 * u_0 + e_0 * e_1) * f * t * t + (4 * u_0 - 2 * e_1) * f * f * t
           + J_0 * f**3)
    return np.where(first.slope_only, f * H_0, 2 * f * Q_0 - bent_0)


def last_sum(t, f, first, second, whole):
    """L_1; with exchanged arguments, L_0."""
    of_first = first.D * f * (f - 2 * t) + 2 * first.e * t * (t - 2 * f)
    of_second = second.D * t * (t - 2 * f) + 2 * second.e * t * (2 * t - f)
    one = np.where(second.steep, of_first + 4 * t, whole)                           # (40)
    return np.where(first.steep, np.where(second.steep, 2 * (f - 2 * t) ** 2, 2 * (f - t) + of_second), one)    # (40)


def smaller_root(y, rest, e, e_far):
    """t <= 1/2 with Y = y or, if that is the smaller number, with 1 - Y = rest."""
    shape, dtype = y.shape, y.dtype
    y, rest, e, e_far = (v.reshape(-1) for v in np.broadcast_arrays(y, rest, e, e_far))
    inner, wide, other = y > 0, dtype.type(1 + 2.0**-8), (4 + e - e_far) / 16
    y, rest = np.where(inner, y, other), np.where(inner, rest, 1 - other)           # at y = 0 the solver gets another problem

    def excess(t, i):
        below = cubic(t, 1 - t, e[i], 3 - e_far[i]) - y[i]                          # (23)
        return np.where(y[i] <= rest[i], below, rest[i] - cubic(1 - t, t, e_far[i], 3 - e[i]))  # (23)

    lower = y / (e + dtype.type(1.75)) / wide                                       # (27)
    upper = np.minimum(np.minimum(5 * y / e, np.cbrt(y)), dtype.type(0.5)) * wide   # (27)
    found = increasing_root(excess, lower, upper)
    return np.where(inner, found, 0).reshape(shape)
