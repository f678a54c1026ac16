r"""Monotone rational-quadratic spline, `R -> R`.

The map.  Given are input knots `z_0 < ... < z_K`, output knots `x_0 < ... < x_K`, and slopes `d_0, ..., d_K > 0` at the knots.
In the bin `z_k <= z < z_(k+1)`, with the subscript 0 for its lower and 1 for its upper end,
    w = z_1 - z_0,   h = x_1 - x_0,   s = h/w                                       (1)
    t = (z - z_0)/w,   f = 1 - t                                                    (2)
    x = x_0 + h alpha/beta,   alpha = s t^2 + d_0 t f,   beta = s + c t f,   c = d_0 + d_1 - 2 s        (3)
    dx/dz = s^2 gamma/beta^2,   gamma = d_1 t^2 + 2 s t f + d_0 f^2                 (4)
    log|dx/dz| = 2 log s + log gamma - 2 log beta                                   (5)
Here `t` is the source's `xi`, and `d` its `delta`.  The slope is positive: all terms of `gamma` are, and since `t^2 + f^2 = 1 - 2 t f`,
so are both terms of `beta = s (t^2 + f^2) + (d_0 + d_1) t f`.  Bins are half-open: an inner knot belongs to the bin above it, and the last
bin also contains `z_K`.  For the inverse map, (3) is a quadratic equation for `t`.  With `p = x - x_0`,
    m_2 t^2 + m_1 t = s p,   m_2 = h (s - d_0) + p c,   m_1 = h d_0 - p c,
    t = 2 s p/(m_1 + sqrt(m_1^2 + 4 m_2 s p))                                       (6)
    z = z_0 + w t,   log|dz/dx| = -log|dx/dz|                                       (7)
Of its two roots, (6) is the one in the bin: `m_2 t^2 + m_1 t - s p` is `beta` times the difference between (3) at `t` and the given `x`,
which grows with `t`.  So its derivative `2 m_2 t + m_1` is positive at that root: the positive root of the discriminant.
Beyond the knots the spline is a line of slope `g`.  With `e = 0` below the first knot and `e = K` above the last,
    x = x_e + g (z - z_e)                                                           (8)
    z = z_e + (x - x_e)/g                                                           (9)
For `tails` "identity", `g` is 1: the line is the identity if the end knots agree, with a kink where the slope at an end knot is
not 1.  For "linear", `g` is `d_e`.  For "none", the domain ends at the end knots.

The reverse rule.  From (3) to (5), with the cotangent `l_bar` of (5),
    alpha_bar = x_bar h/beta,   beta_bar = -x_bar h alpha/beta^2 - 2 l_bar/beta,   gamma_bar = l_bar/gamma      (10)
    t_bar = alpha_bar (2 s t + d_0 (f - t)) + beta_bar c (f - t) + 2 gamma_bar (d_1 t + s (f - t) - d_0 f)      (11)
    s_bar = alpha_bar t^2 + beta_bar (1 - 2 t f) + 2 gamma_bar t f + 2 l_bar/s      (12)
    d_0_bar = (alpha_bar + beta_bar) t f + gamma_bar f^2,   d_1_bar = beta_bar t f + gamma_bar t^2      (13)
From (1) and (2),
    h_bar = x_bar alpha/beta + s_bar/w,   w_bar = -(t t_bar + s s_bar)/w            (14)
    z_bar = t_bar/w,   z_0_bar = -w_bar - t_bar/w,   z_1_bar = w_bar,   x_0_bar = x_bar - h_bar,   x_1_bar = h_bar      (15)
Beyond the knots the cotangents follow from (8) alone, and that of `d_e` is 0 unless the tails are linear:
    z_bar = g x_bar,   z_e_bar = -g x_bar,   x_e_bar = x_bar,   d_e_bar = x_bar (z - z_e) + l_bar/g         (16)
For the inverse map, whose log-det has the cotangent `l_bar`, let `dl/dz` be the derivative of (5), which is `z_bar` of (15)
for `x_bar = 0` and `l_bar = 1`.  Then
    x_bar = (z_bar - l_bar dl/dz)/(dx/dz)                                           (17)
and the fields have the cotangents (12) to (16) for `-x_bar` and `-l_bar` in the place of `x_bar` and `l_bar`.     (18)

Source: Durkan, Bekasov, Murray and Papamakarios, Neural Spline Flows, arXiv:1906.04032, section 3.1; Gregory and Delbourgo,
Piecewise rational quadratic interpolation to monotonic data, IMA Journal of Numerical Analysis 2 (1982).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, increasing, log_abs_product, plain, positive, refusal
from ...core.rules import one_of
from ...core.arithmetic import product_apart
from ...core.words import intermediate
from .bins import TAILS, Tails, at_ends, at_knots, between_intervals, bin_of, checked, reached, what_is_left, within


class textbook:
    """(1) to (18) as they are printed, for one event."""

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

    def ends(k, input_knots, output_knots, slopes):
        """z_0, x_0, w, h, s, d_0, d_1 of bin k."""
        z_0, z_1, x_0, x_1 = input_knots[k], input_knots[k + 1], output_knots[k], output_knots[k + 1]
        w, h = z_1 - z_0, x_1 - x_0                                                 # (1)
        s = h / w                                                                   # (1)
        return z_0, x_0, w, h, s, slopes[k], slopes[k + 1]

    def letters(z, input_knots, output_knots, slopes):
        """x_0, w, h, s, d_0, d_1, t, f, c, alpha, beta, gamma."""
        z_0, x_0, w, h, s, d_0, d_1 = textbook.ends(textbook.bin(z, input_knots), input_knots, output_knots, slopes)
        t = (z - z_0) / w                                                           # (2)
        f, c = 1 - t, d_0 + d_1 - 2 * s                                             # (2) (3)
        alpha, beta = s * t ** 2 + d_0 * t * f, s + c * t * f                       # (3)
        gamma = d_1 * t ** 2 + 2 * s * t * f + d_0 * f ** 2                         # (4)
        return x_0, w, h, s, d_0, d_1, t, f, c, alpha, beta, gamma

    def forward(z, input_knots, output_knots, slopes, tails):
        e, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            z_e, x_e = input_knots[e], output_knots[e]
            return x_e + g * (z - z_e)                                              # (8)
        x_0, w, h, s, d_0, d_1, t, f, c, alpha, beta, gamma = textbook.letters(z, input_knots, output_knots, slopes)
        return x_0 + h * alpha / beta                                               # (3)

    def inverse(x, input_knots, output_knots, slopes, tails):
        e, g = textbook.end(x, output_knots, slopes, tails)
        if g is not None:
            z_e, x_e = input_knots[e], output_knots[e]
            return z_e + (x - x_e) / g                                              # (9)
        z_0, x_0, w, h, s, d_0, d_1 = textbook.ends(textbook.bin(x, output_knots), input_knots, output_knots, slopes)
        p, c = x - x_0, d_0 + d_1 - 2 * s                                           # (3)
        m_2, m_1 = h * (s - d_0) + p * c, h * d_0 - p * c                           # (6)
        t = 2 * s * p / (m_1 + np.sqrt(m_1 ** 2 + 4 * m_2 * s * p))                 # (6)
        return z_0 + w * t                                                          # (7)

    def slope(z, input_knots, output_knots, slopes, tails):
        _, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            return g                                                                # (8)
        x_0, w, h, s, d_0, d_1, t, f, c, alpha, beta, gamma = textbook.letters(z, input_knots, output_knots, slopes)
        return s ** 2 * gamma / beta ** 2                                           # (4)

    def log_det(z, input_knots, output_knots, slopes, tails):
        _, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            return np.log(g)                                                        # (8)
        x_0, w, h, s, d_0, d_1, t, f, c, alpha, beta, gamma = textbook.letters(z, input_knots, output_knots, slopes)
        return 2 * np.log(s) + np.log(gamma) - 2 * np.log(beta)                     # (5)

    def inverse_log_det(x, input_knots, output_knots, slopes, tails):
        z = textbook.inverse(x, input_knots, output_knots, slopes, tails)
        return -textbook.log_det(z, input_knots, output_knots, slopes, tails)       # (7)

    def vjp(z, input_knots, output_knots, slopes, tails, x_bar, l_bar):
        z_bars, x_bars, d_bars = 0 * input_knots, 0 * output_knots, 0 * slopes
        bars = {"input_knots": z_bars, "output_knots": x_bars, "slopes": d_bars}
        e, g = textbook.end(z, input_knots, slopes, tails)
        if g is not None:
            z_bar, z_e_bar, x_e_bar = g * x_bar, -g * x_bar, x_bar                  # (16)
            z_e = input_knots[e]
            d_e_bar = x_bar * (z - z_e) + l_bar / g                                 # (16)
            z_bars[e], x_bars[e], d_bars[e] = z_e_bar, x_e_bar, d_e_bar if tails == "linear" else 0
            return z_bar, bars
        x_0, w, h, s, d_0, d_1, t, f, c, alpha, beta, gamma = textbook.letters(z, input_knots, output_knots, slopes)
        alpha_bar = x_bar * h / beta                                                # (10)
        beta_bar = -x_bar * h * alpha / beta ** 2 - 2 * l_bar / beta                # (10)
        gamma_bar = l_bar / gamma                                                   # (10)
        t_bar = alpha_bar * (2 * s * t + d_0 * (f - t)) + beta_bar * c * (f - t) \
            + 2 * gamma_bar * (d_1 * t + s * (f - t) - d_0 * f)                     # (11)
        s_bar = alpha_bar * t ** 2 + beta_bar * (1 - 2 * t * f) + 2 * gamma_bar * t * f + 2 * l_bar / s     # (12)
        d_0_bar = (alpha_bar + beta_bar) * t * f + gamma_bar * f ** 2               # (13)
        d_1_bar = beta_bar * t * f + gamma_bar * t ** 2                             # (13)
        h_bar, w_bar = x_bar * alpha / beta + s_bar / w, -(t * t_bar + s * s_bar) / w       # (14)
        z_bar, z_0_bar, z_1_bar = t_bar / w, -w_bar - t_bar / w, w_bar              # (15)
        x_0_bar, x_1_bar = x_bar - h_bar, h_bar                                     # (15)
        k = textbook.bin(z, input_knots)
        z_bars[k:k + 2], x_bars[k:k + 2], d_bars[k:k + 2] = (z_0_bar, z_1_bar), (x_0_bar, x_1_bar), (d_0_bar, d_1_bar)
        return z_bar, bars

    def inverse_vjp(x, input_knots, output_knots, slopes, tails, z_bar, l_bar):
        knots = input_knots, output_knots, slopes, tails
        z = textbook.inverse(x, *knots)
        dl_dz, _ = textbook.vjp(z, *knots, 0, 1)
        x_bar = (z_bar - l_bar * dl_dz) / textbook.slope(z, *knots)                 # (17)
        return x_bar, textbook.vjp(z, *knots, -x_bar, -l_bar)[1]                    # (18)


r"""In floating point.

In (2), 1 minus the smaller of `t` and `f` has fewer roundings than a quotient for the larger one:
    a = z - z_0,   b = z_1 - z,   t = a/w = 1 - f    for t <= f,   f = b/w = 1 - t    for t > f         (19)

In (3), `beta` cancels where `c < 0`, and `x` itself where the nearer knot is `x_1`.  After division by `s`, with both `t` and
`f`, and with `e_0 = d_0/s` and `e_1 = d_1/s`, all terms are positive, and the nearer knot is the start:
    A = alpha/s = t (t + e_0 f),   B = f (f + e_1 t),   D = beta/s = A + B = (1 + (f - t)^2)/2 + (e_0 + e_1) t f        (20)
    x = x_0 + a s (t + e_0 f)/D       where A <= B                                  (21)
      = x_1 - b s (f + e_1 t)/D       elsewhere                                     (22)

In (4) and (5), the slope may leave the floats, and the logarithms in (5) cancel where it is near 1.  Exponents are kept apart
in the product whose logarithm is taken:
    dx/dz = s Q/D^2,   Q = gamma/s = e_1 t^2 + 2 t f + e_0 f^2                      (23)
    log|dx/dz| = log(s (Q/D) (1/D))                                                 (24)
In (24), all roundings of `s`, `Q` and `D` count in full: too much near a knot, where the slope is nearly `d_0`.  There, for
`t <= f`,
    dx/dz = d_0 (1 + r),   r = (r_Q - r_D (1 + D))/D^2      where |r_Q|, |r_D| <= 1/4               (25)
    r_Q = Q/e_0 - 1 = t (2 f (1 - e_0) + t (e_1 - e_0))/e_0,   r_D = D - 1 = (e_0 + e_1 - 2) t f    (26)
and for `t > f` with 0 and 1, `t` and `f` exchanged.  A rounding of `r_Q` or `r_D`, which are small, counts little.

In (6), `m_1` and `m_2` cancel, and so may the denominator.  With `q = x_1 - x`, (3) is `p B = q A`, a quadratic equation for the
ratio `t : f`, and
    m = p e_1 - q e_0,   R = sqrt(m^2 + 4 p q),   M = |m| + R                       (27)
    t : f = 2 p : M    for m <  0                                                   (28)
          = M : 2 q    for m >= 0: neither adds numbers of opposite sign            (29)
    z = z_0 + w t      where t <= f,   z = z_1 - w f   elsewhere                    (30)
The exponent of `p q`, which may underflow, is kept apart.  As `p` may be subnormal, `w t = p (2 w/(2 p + M))` for (28).

In (7), `Q` and `D` of (23) have more roundings than `R`.  The derivative of `p B = q A`, with `a`, `b`, `p` and `q` as its
variables, gives `dx/dz = R/(w D)`, hence
    dz/dx = w D/R,   log|dz/dx| = -log((R/w) (1/D)), or minus the logarithm of (25)         (31)

In (11) to (15), the terms with `x_bar` cancel next to a knot.  Collected by field, all have one sign:
    dx/dd_0 =  a f B/D^2,   dx/dd_1 = -b t A/D^2                                    (32)
    dx/dx_1 = E_1 = (t/D) (t + (e_0 + e_1) f A/D)                                   (33)
    dx/dx_0 = E_0 = (f/D) (f + (e_0 + e_1) t B/D)                                   (34)
    dx/dz_0 = -s (f/D)^2 G_0,   G_0 = e_1 t^2 + 2 t + e_0 f (1 + t)                 (35)
    dx/dz_1 = -s (t/D)^2 G_1,   G_1 = e_0 f^2 + 2 f + e_1 t (1 + f)                 (36)
Since `E_0 + E_1 = 1`, the larger of the two is computed as 1 minus the smaller one.

In (11) to (15), the terms with `l_bar` cancel where slopes are far from `s`.  Over one denominator, with `t + f = 1`, the
cancelling terms are gone, and every power of `e_0` and `e_1` appears once.  With the parts of `Q`,
    u_0 = e_0 f^2/Q,   u_1 = e_1 t^2/Q,   u_2 = 2 t f/Q,   u_0 + u_1 + u_2 = 1      (37)
the derivatives of `l = log|dx/dz|` are
    T = (e_0 + e_1)(u_1 t - u_0 f) + u_0 (f - 3 t) + u_1 (3 f - t) + (f - t)(1 + 2 t f)/Q        (38)
      = ((e_1 - 1) t - (e_0 - 1) f) D/Q - (e_0 + e_1 - 2)(f - t)      where e_0, e_1 <= 2       (39)
    V_0 = (e_0 + e_1) u_0 + e_0 f (3 t - f^2)/Q + u_1 t + (t (1 + 2 t (1 + f)) - 1)/Q                (40)
    V_1 = (e_0 + e_1) u_1 + e_1 t (3 f - t^2)/Q + u_0 f + (f (1 + 2 f (1 + t)) - 1)/Q                (41)
    dl/dz = 2 T/(w D),   dl/dz_0 = 2 f V_0/(w D),   dl/dz_1 = -2 t V_1/(w D)        (42)
    dl/dx_1 = -dl/dx_0 = H/h,   H = 2 (e_0 + e_1) t f/D + 2 t f/Q                   (43)
    dl/dd_0 = (f/s) N_0/(Q D),   N_0 = e_1 t (f^2 - 2 t^2) - e_0 t f^2 + f (f^2 - 3 t^2)             (44)
and `dl/dd_1` with 0 and 1, `t` and `f` exchanged.  (39) is the plain difference, whose terms vanish in a straight bin, while
the terms of (38) do not.

In (17) and (18), the two parts of the log-det's cotangent cancel, and `D` divides out.  The derivatives of `z` are `-dz/dx`
times the derivatives of `x`, with `dz/dx = D^2/(s Q)`:
    dz/dd_0 = -a f B/(s Q),   dz/dd_1 = b t A/(s Q)                                 (45)
    dz/dz_0 = f^2 G_0/Q,   dz/dz_1 = t^2 G_1/Q                                      (46)
    dz/dx_0 = -(w D/R) E_0,   dz/dx_1 = -(w D/R) E_1                                (47)
The log-det `n` of the inverse map is `-l` at the root.  By (31), `R` has fewer roundings than `Q/D`:
    dn/dx = -2 T D/(h Q) = -2 T/R,   D/Q = h/R                                      (48)
    dn/dz_1 = -dn/dz_0 = (2 t f/w) K,
    K = (u_0 e_0 f + u_1 e_1 t + 3 e_0 e_1 t f/Q + 2 u_0 (f + 2 t) + 2 u_1 (t + 2 f) + u_2)/Q               (49)
    dn/dd_0 = (f/s) (2 u_1^2 + u_2^2 - 2 u_0 e_1 t f/Q + u_0 f (t - f)/Q + u_1 f (5 t - f)/Q)               (50)
    dn/dd_1 = (t/s) (2 u_0^2 + u_2^2 - 2 u_1 e_0 t f/Q + u_1 t (f - t)/Q + u_0 t (5 f - t)/Q)               (51)
    dn/dx_0 = (2 f/h) X_0,   dn/dx_1 = -(2 t/h) X_1                                 (52)
    X_0 = (e_0 + e_1)(u_1^2 + 2 u_1 u_2 - u_0 e_1 t f/Q - u_0 f (f - t)/Q)
          + (u_0 (1 - 3 t (f - t)) + (e_1 t/Q)(1 + 3 t f (f - t)) + (f/Q)(1 - 4 f t^2))/Q       (53)
`X_1` is `X_0` with 0 and 1, `t` and `f` exchanged.
"""


@bijector(source="arXiv:1906.04032", increasing=True, straight_far_out=True, textbook=textbook)
class RationalQuadraticSpline(Bijector):
    """A monotone rational-quadratic spline through (input_knots, output_knots) with given slopes at the knots.

    The three fields have shape (*batch, K+1).  `tails`: beyond the knots the slope is 1 ("identity", the identity if end knots
    agree) or the slope at the end knot ("linear"); or there is nothing beyond them ("none").  Raises ValueError for K < 1 and
    for other tails.
    """

    input_knots: Array = increasing("K+1")
    output_knots: Array = increasing("K+1")
    slopes: Array = positive("K+1")
    tails: str = plain("identity", one_of(*TAILS))
    event_ndim = (0, 0)

    domain = property(lambda self: reached(self.input_knots, self.tails))
    codomain = property(lambda self: reached(self.output_knots, self.tails))
    two_sided, mirrored = property(between_intervals), what_is_left

    def _validate(self):
        checked(self)
        super()._validate()

    @staticmethod
    def definition(m, z, input_knots, output_knots, slopes, tails):
        if z < input_knots[0]:
            return output_knots[0] + (slopes[0] if tails == "linear" else 1) * (z - input_knots[0])     # (8)
        if z > input_knots[-1]:
            return output_knots[-1] + (slopes[-1] if tails == "linear" else 1) * (z - input_knots[-1])  # (9)
        k = 0
        while k < len(input_knots) - 2 and z >= input_knots[k + 1]:
            k += 1
        w, h = input_knots[k + 1] - input_knots[k], output_knots[k + 1] - output_knots[k]   # (1)
        s, t = h / w, intermediate(m, (z - input_knots[k]) / w)                     # (1) (2)
        numerator = s * t * t + slopes[k] * t * (1 - t)
        denominator = s + (slopes[k + 1] + slopes[k] - 2 * s) * t * (1 - t)
        return output_knots[k] + h * numerator / denominator                        # (3)

    def breaks(self):
        """The input knots.  An inner knot takes its derivatives from the bin above it, an end knot from its own bin."""
        return self.input_knots

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.image(self.place(z))

    def log_det(self, z):
        return self.log_slope(self.place(z))

    def forward_and_log_det(self, z):
        v = self.place(z)
        return self.image(v), self.log_slope(v)

    def slope(self, z):
        v = self.place(z)
        return v.beyond.slope(v.slope)                                              # (4) (8) (9)

    def image(self, v):
        """x."""
        from_below = v.x_0 + v.a * (v.s * (v.t + v.e_0 * v.f) / v.D)                # (3) (21)
        from_above = v.x_1 - v.b * (v.s * (v.f + v.e_1 * v.t) / v.D)                # (3) (22)
        return v.beyond.joined(np.where(v.A <= v.B, from_below, from_above))        # (8) (9)

    def log_slope(self, v):
        """log|dx/dz|."""
        return v.beyond.log_slope(v.log_slope(v.s, v.Q / v.D, 1 / v.D))             # (5) (24)

    def inverse(self, x):
        return self.origin(self.inverse_place(x))

    def inverse_and_log_det(self, x):
        v = self.inverse_place(x)
        inner = -v.log_slope(v.R / v.w, 1 / v.D, v.D.dtype.type(1))                 # (7) (31)
        return self.origin(v), v.beyond.log_slope(inner)

    def origin(self, v):
        """z."""
        inner = np.where(v.t <= v.f, v.z_0 + v.a, v.z_1 - v.b)                      # (7) (30)
        return v.beyond.joined(inner)                                               # (8) (9)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.place(z)

        def pullback(x_bar, l_bar):
            v.add_sums(v.D / v.Q)
            z_bar = x_bar * v.slope + 2 * l_bar / v.w * v.T / v.D                   # (15) (42)
            knots = {"input_knots": v.beyond.knot_bars(v.input_knots_15(x_bar, l_bar), x_bar),      # (15) (16)
                     "output_knots": v.beyond.image_bars(v.output_knots_15(x_bar, l_bar), x_bar),   # (15) (16)
                     "slopes": v.beyond.slope_bars(v.slopes_13(x_bar, l_bar), x_bar, l_bar)}        # (13) (16)
            return v.beyond.event_bar(z_bar, x_bar), self.of_knots(v, knots)

        return (self.image(v), self.log_slope(v)), pullback

    def inverse_vjp(self, x):
        v = self.inverse_place(x)

        def pullback(z_bar, l_bar):
            v.add_sums(v.h / v.R)                                                   # (48)
            x_bar = z_bar * v.w * v.D / v.R - 2 * l_bar * (v.T / v.R)               # (17) (31) (48)
            knots = {"input_knots": v.beyond.image_bars(v.input_knots_18(z_bar, l_bar), z_bar),     # (16) (18)
                     "output_knots": v.beyond.knot_bars(v.output_knots_18(z_bar, l_bar), z_bar),    # (16) (18)
                     "slopes": v.beyond.slope_bars(v.slopes_18(z_bar, l_bar), z_bar, l_bar)}        # (16) (18)
            return v.beyond.event_bar(x_bar, z_bar), self.of_knots(v, knots)

        return self.inverse_and_log_det(x), pullback

    def of_knots(self, v, ends):
        """The cotangents of all knots.  `ends` holds the cotangents at both knots of the bin in which each event lies."""
        return {name: at_knots(v.k, *bars, self.slopes.shape[-1]) for name, bars in ends.items()}

    # -- in floating point --------------------------------------------------------------------------------------------

    def bin(self, k):
        """The letters of (1) and (20) for each event's bin."""
        (z_0, z_1), (x_0, x_1), (d_0, d_1) = (at_ends(v, k) for v in (self.input_knots, self.output_knots, self.slopes))
        w, h = z_1 - z_0, x_1 - x_0                                                 # (1)
        s = h / w                                                                   # (1)
        return Place(k=k, z_0=z_0, z_1=z_1, x_0=x_0, x_1=x_1, w=w, h=h, s=s, d_0=d_0, d_1=d_1, e_0=d_0 / s,
                     e_1=d_1 / s)                                                   # (20)

    def place(self, z):
        """The bin of z, and z's place in it; for events beyond the knots, the place of the nearer end knot."""
        inner = within(self.input_knots, z)
        v = self.bin(bin_of(self.input_knots, inner))
        v.beyond = Tails(z, self.input_knots, self.output_knots, self.end_slopes)   # (8) (9)
        v.a, v.b = inner - v.z_0, v.z_1 - inner                                     # (19)
        return v.at(v.a / v.w, v.b / v.w)                                           # (2) (19)

    def inverse_place(self, x):
        """The bin of x, and the place in it of the root."""
        inner = within(self.output_knots, x)
        v = self.bin(bin_of(self.output_knots, inner))
        v.beyond = Tails(x, self.output_knots, self.input_knots, self.end_slopes, back=True)    # (8) (9)
        v.p, v.q = inner - v.x_0, v.x_1 - inner
        m = v.p * v.e_1 - v.q * v.e_0                                               # (27)
        v.R = np.hypot(m, 2 * root_of_product(v.p, v.q))                            # (27)
        M, falling = np.abs(m) + v.R, m < 0                                         # (27)
        two_p, two_q = 2 * v.p, 2 * v.q
        total = M + np.where(falling, two_p, two_q)
        t = np.where(falling, two_p, M) / total                                     # (6) (28) (29)
        f = np.where(falling, M, two_q) / total                                     # (6) (28) (29)
        v.a = np.where(falling, v.p * (2 * v.w / total), v.w * t)                   # (30)
        v.b = np.where(falling, v.w * f, v.q * (2 * v.w / total))                   # (30)
        return v.at(t, f)

    @property
    def end_slopes(self):
        """The slopes of linear tails; None for tails of slope 1."""
        return (self.slopes[..., 0], self.slopes[..., -1]) if self.tails == "linear" else None

    hard_cases = (
        case("OneBin", "K = 1: both ends of the bin are ends of the spline", z=[-1.0, 0.25, 1.0, 2.0, -3.0],
             x=[-2.0, 0.5, 3.0, 4.0, -5.0], input_knots=[-1.0, 1.0], output_knots=[-2.0, 3.0], slopes=[0.5, 4.0]),
        case("IdentityTails", "end knots agree: beyond them x is z exactly", z=[-5.0, 1e300, 3.0, np.nextafter(3, 4)],
             x=[-5.0, 3.5], input_knots=[-3.0, 0.5, 3.0], output_knots=[-3.0, -1.0, 3.0], slopes=[1.0, 0.25, 1.0]),
        case("Line", "slopes equal the bins' own: both terms of (39) are 0", z=[-0.75, 0.5, 0.1], x=[-0.75, 0.5, 0.1],
             input_knots=[-1.0, 0.0, 1.0], output_knots=[-1.0, 0.0, 1.0], slopes=[1.0, 1.0, 1.0]),
        case("KnotExact", "an inner knot, and the floats beside it, on both sides",
             z=[0.3, np.nextafter(0.3, 0), np.nextafter(0.3, 1)], x=[0.7, np.nextafter(0.7, 0), np.nextafter(0.7, 1)],
             input_knots=[-1.0, 0.3, 2.0], output_knots=[-4.0, 0.7, 1.0], slopes=[2.0, 0.01, 30.0]),
        case("RootCancels", "4 p q is lost beside m^2: the wrong branch of (28) and (29) gives 0",
             z=[0.5, 1e-9, 1 - 1e-9], x=[1e-9, 0.5, 1 - 1e-9], input_knots=[0.0, 1.0], output_knots=[0.0, 1.0],
             slopes=[1e6, 1e6]),
        case("RootMiddle", "m vanishes: the slope is held by 4 p q alone", z=[0.5], x=[0.5], input_knots=[0.0, 1.0],
             output_knots=[0.0, 1.0], slopes=[1e6, 1e6]),
        case("FlatSlopes", "slopes far below the bins': a step in the middle of the bin", z=[1e-7, 0.5, 1 - 1e-7],
             x=[1e-13, 0.5, 1 - 1e-13], input_knots=[0.0, 1.0], output_knots=[0.0, 1.0], slopes=[1e-6, 1e-6]),
        case("UnequalBins", "widths and heights over twelve orders of magnitude", z=[1e-7, 0.5e-6, 0.5, 5e5],
             x=[-1e-3, -5e5, 0.5e-6, 0.5], input_knots=[0.0, 1e-6, 1.0, 1e6], output_knots=[-1e6, 0.0, 1e-6, 1.0],
             slopes=[1e6, 1e-6, 1.0, 1e-6]),
        case("NearerKnot", "x_0 is much larger than x: it must be reached from x_1", z=[1 - 1e-12, np.nextafter(1, 0)],
             x=[-1e-12, -1e-300], input_knots=[-1.0, 1.0], output_knots=[-1e6, 0.0], slopes=[1.0, 1.0]),
        case("NearKnot", "the slope is nearly that of a knot, and near 1: every rounding of (23) is as large as the logarithm",
             z=[0.0037], x=[0.0037], input_knots=[0.0, 2.2], output_knots=[0.0, 1.2], slopes=[1.1, 1.1]),
        case("NearKnotBack", "the same for the inverse map: every rounding of w, R and D", z=[0.002], x=[0.002],
             input_knots=[0.0, 2.4], output_knots=[0.0, 2.1], slopes=[1.0, 0.42]),
        case("SteepKnots", "slopes far above the bin's own: in float32, squares of f/D underflow in (35), their products with "
             "G_0 do not", z=[-0.7, -1e5, -2.5e5], x=[-3e-6, -1.6e-5], input_knots=[-2.6e5, -0.6],
             output_knots=[-1.7e-5, -1.8e-6], slopes=[1e6, 5e5]),
        case("FlatKnot", "beside a knot of small slope, E_0 underflows in float32, its product with dz/dx does not",
             z=[-1e-24, -1e-18], x=[-1e-30, -1e-24], input_knots=[-1.0, 0.0], output_knots=[-1.0, 0.0], slopes=[1.0, 1e-6]),
        case("KnotAtZero", "a subnormal distance from a knot", z=[5e-324, -5e-324], x=[5e-324, -5e-324],
             input_knots=[-1.0, 0.0, 1.0], output_knots=[-1.0, 0.0, 3.0], slopes=[1.0, 0.5, 1.0]),
        case("LinearTails", "the slopes at the end knots go on beyond them", z=[-1e300, np.nextafter(-1, -2), 3.0, 1e6],
             x=[-1e300, np.nextafter(-2, -3), 2.0, 1e6], input_knots=[-1.0, 0.0, 2.0], output_knots=[-2.0, 0.0, 1.0],
             slopes=[0.25, 3.0, 1e-6], tails="linear"),
        case("AllInTails", "a batch without an event between the knots", z=[-3.0, 4.0], x=[-3.0, 4.0],
             input_knots=[-1.0, 1.0], output_knots=[0.0, 0.5], slopes=[1e-6, 1e6], tails="linear"),
        case("NoTails", "the floats beside the ends of the domain", z=[np.nextafter(0, 1), 0.5, np.nextafter(1, 0)],
             x=[np.nextafter(0, 1), 0.5, np.nextafter(1, 0)], input_knots=[0.0, 0.25, 1.0], output_knots=[0.0, 0.75, 1.0],
             slopes=[1.0, 0.5, 2.0], tails="none"),
    )
    refused = (
        refusal("input_knots must have at least 2 entries", input_knots=[0.0], output_knots=[0.0], slopes=[1.0]),
    )


class Place:
    """A place in a bin: the letters of the equations, for every event."""

    def __init__(self, **bin):
        vars(self).update(bin)

    def at(self, t, f):
        """The letters of (20) and (23) at t, f."""
        e_0, e_1, below = self.e_0, self.e_1, t <= f
        self.t, self.f = t, f = np.where(below, t, 1 - f), np.where(below, 1 - t, f)        # (19)
        self.A, self.B = t * (t + e_0 * f), f * (f + e_1 * t)                       # (20)
        self.D = (1 + (f - t) ** 2) / 2 + (e_0 + e_1) * t * f                       # (20)
        self.Q = (e_1 * t * t + e_0 * f * f) + 2 * t * f                            # (23)
        return self

    @property
    def near_knot(self):
        """(marks of the places where (25) is used, its two factors)."""
        t, f, D, below = self.t, self.f, self.D, self.t <= self.f
        d, e, other = (np.where(below, *ends) for ends in ((self.d_0, self.d_1), (self.e_0, self.e_1), (self.e_1, self.e_0)))
        t, f = np.minimum(t, f), np.maximum(t, f)
        r_Q, r_D = t * (2 * f * (1 - e) + t * (other - e)) / e, (e + other - 2) * t * f     # (26)
        r = (r_Q - r_D * (1 + D)) / D ** 2                                          # (25)
        return (np.abs(r_Q) <= 0.25) & (np.abs(r_D) <= 0.25), d, 1 + r

    @property
    def slope(self):
        """dx/dz."""
        near, d, change = self.near_knot
        return np.where(near, d * change, self.s * (self.Q / self.D) / self.D)      # (4) (23) (25)

    def log_slope(self, *factors):
        """The logarithm of dx/dz, taken of the product of the three factors or, near a knot, of the factors of (25)."""
        near, d, change = self.near_knot
        return log_abs_product(tuple(np.where(near, *pair) for pair in zip((d, change, d.dtype.type(1)), factors)))  # (24) (25)

    def shared(self, bar):
        """(bar E_0, bar E_1)."""
        t, f, D, both = self.t, self.f, self.D, self.e_0 + self.e_1
        upper = bar * (t / D) * (t + both * f * (self.A / D))                       # (33)
        lower = bar * (f / D) * (f + both * t * (self.B / D))                       # (34)
        lesser = np.abs(lower) <= np.abs(upper)
        return np.where(lesser, lower, bar - upper), np.where(lesser, bar - lower, upper)

    def add_sums(self, ratio):
        """The quantities of both pullbacks, where `ratio` is D/Q."""
        t, f, e_0, e_1, Q = self.t, self.f, self.e_0, self.e_1, self.Q
        both, between = e_0 + e_1, (self.b - self.a) / self.w
        self.G_0 = e_1 * t * t + 2 * t + e_0 * f * (1 + t)                          # (35)
        self.G_1 = e_0 * f * f + 2 * f + e_1 * t * (1 + f)                          # (36)
        self.u_0, self.u_1, self.u_2 = u_0, u_1, _ = e_0 * f * f / Q, e_1 * t * t / Q, 2 * t * f / Q    # (37)
        bent = both * (u_1 * t - u_0 * f) + u_0 * (f - 3 * t) + u_1 * (3 * f - t) \
            + between * (1 + 2 * t * f) / Q                                         # (38)
        over_0, over_1 = e_0 - 1, e_1 - 1
        straight = (over_1 * t - over_0 * f) * ratio - (over_0 + over_1) * between      # (39)
        self.T = np.where((e_0 <= 2) & (e_1 <= 2), straight, bent)

    # -- cotangents at the two ends of the bin: of x and log|dx/dz|, then of z and log|dz/dx| --

    def input_knots_15(self, x_bar, l_bar):
        """-w_bar - t_bar/w and w_bar."""
        t, f, Q, D, both, steep, bend = self.t, self.f, self.Q, self.D, self.e_0 + self.e_1, x_bar * self.s, 2 * l_bar / self.w
        V_0 = both * self.u_0 + self.e_0 * f / Q * (3 * t - f * f) + self.u_1 * t + (t * (1 + 2 * t * (1 + f)) - 1) / Q     # (40)
        V_1 = both * self.u_1 + self.e_1 * t / Q * (3 * f - t * t) + self.u_0 * f + (f * (1 + 2 * f * (1 + t)) - 1) / Q     # (41)
        return (-steep * (f / D) * f * (self.G_0 / D) + bend * f * V_0 / D,         # (35) (42)
                -steep * (t / D) * t * (self.G_1 / D) - bend * t * V_1 / D)         # (36) (42)

    def output_knots_15(self, x_bar, l_bar):
        """x_bar - h_bar and h_bar."""
        H = 2 * (self.e_0 + self.e_1) * (self.t * self.f / self.D) + self.u_2       # (43)
        lower, upper = self.shared(x_bar)                                           # (33) (34)
        return lower - l_bar * H / self.h, upper + l_bar * H / self.h               # (43)

    def slopes_13(self, x_bar, l_bar):
        """(alpha_bar + beta_bar) t f + gamma_bar f^2 and beta_bar t f + gamma_bar t^2."""
        t, f, s, Q, D = self.t, self.f, self.s, self.Q, self.D
        N_0, N_1 = of_slope(self.e_0, self.e_1, t, f), of_slope(self.e_1, self.e_0, f, t)
        return (x_bar * self.a * f * (self.B / D) / D + l_bar * f / s * (N_0 / Q / D),      # (32) (44)
                -x_bar * self.b * t * (self.A / D) / D + l_bar * t / s * (N_1 / Q / D))     # (32) (44)

    def input_knots_18(self, z_bar, l_bar):
        """-w_bar - t_bar/w and w_bar for -x_bar, -l_bar."""
        t, f, e_0, e_1, Q, u_0, u_1 = self.t, self.f, self.e_0, self.e_1, self.Q, self.u_0, self.u_1
        K = (u_0 * e_0 * f + u_1 * e_1 * t + 3 * (e_0 * t / Q) * e_1 * f + 2 * u_0 * (f + 2 * t) + 2 * u_1 * (t + 2 * f)
             + self.u_2) / Q                                                        # (49)
        bend = 2 * l_bar / self.w * K * t * f                                       # (49)
        return z_bar * f * (f * self.G_0 / Q) - bend, z_bar * t * (t * self.G_1 / Q) + bend         # (46) (49)

    def output_knots_18(self, z_bar, l_bar):
        """x_bar - h_bar and h_bar for -x_bar, -l_bar."""
        t, f, e_0, e_1, Q, u_0, u_1, u_2 = self.t, self.f, self.e_0, self.e_1, self.Q, self.u_0, self.u_1, self.u_2
        of_n_0 = end(2 * l_bar * f / self.h, e_0, e_1, t, f, u_0, u_1, u_2, Q)      # (52)
        of_n_1 = end(2 * l_bar * t / self.h, e_1, e_0, f, t, u_1, u_0, u_2, Q)      # (52)
        lower, upper = self.shared(z_bar * self.w * self.D / self.R)                # (31) (47)
        return of_n_0 - lower, -of_n_1 - upper

    def slopes_18(self, z_bar, l_bar):
        """(alpha_bar + beta_bar) t f + gamma_bar f^2 and beta_bar t f + gamma_bar t^2 for -x_bar, -l_bar."""
        t, f, e_0, e_1, Q, u_0, u_1, u_2 = self.t, self.f, self.e_0, self.e_1, self.Q, self.u_0, self.u_1, self.u_2
        n_0 = u_0 * f * (t - f - 2 * e_1 * t) / Q + u_1 * f * (5 * t - f) / Q + 2 * u_1 ** 2 + u_2 ** 2     # (50)
        n_1 = u_1 * t * (f - t - 2 * e_0 * f) / Q + u_0 * t * (5 * f - t) / Q + 2 * u_0 ** 2 + u_2 ** 2     # (51)
        return ((-z_bar * self.a * (self.B / Q) + l_bar * n_0) * f / self.s,        # (45) (50)
                (z_bar * self.b * (self.A / Q) + l_bar * n_1) * t / self.s)         # (45) (51)


def root_of_product(p, q):
    """sqrt(p q) for p, q >= 0, even if p q leaves the floats."""
    mantissa, exponent = product_apart(np.stack((p, q), -1))                        # (27)
    half = exponent // 2
    return np.ldexp(np.sqrt(np.ldexp(mantissa, exponent - 2 * half)), half)         # (27)


def of_slope(e_0, e_1, t, f):
    """N_0; with exchanged arguments, N_1."""
    return e_1 * t * (f * f - 2 * t * t) - e_0 * t * f * f + f * (f * f - 3 * t * t)    # (44)


def end(bar, e_0, e_1, t, f, u_0, u_1, u_2, Q):
    """bar X_0; with exchanged arguments, bar X_1."""
    bent = bar * (e_0 + e_1) * (u_1 * (u_1 + 2 * u_2) - u_0 * (e_1 * t * f / Q) - u_0 * f * (f - t) / Q)
    rest = u_0 * (1 - 3 * t * (f - t)) + e_1 * t / Q * (1 + 3 * t * f * (f - t)) + f / Q * (1 - 4 * f * t * t)
    return bent + bar * rest / Q                                                    # (53)
