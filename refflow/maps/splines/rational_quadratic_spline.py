r"""Monotone rational-quadratic spline, `R -> R`.

Input knots `z_0 < ... < z_K`, output knots `x_0 < ... < x_K`, slopes `d_0, ..., d_K > 0` at the knots.  In the bin
`z_k <= z < z_(k+1)`, with the subscript 0 for its lower and 1 for its upper end,
    w = z_1 - z_0,   h = x_1 - x_0,   s = h / w                                     (1)
    a = z - z_0,   b = z_1 - z,   t = a / w,   f = b / w = 1 - t                    (2)
    x = x_0 + h (s t^2 + d_0 t (1 - t)) / (s + (d_1 + d_0 - 2 s) t (1 - t))         (3)
Beyond the knots the spline is a line,
    x = x_0 + g_0 (z - z_0)      below the first knot                               (4)
      = x_K + g_K (z - z_K)      above the last                                     (5)
For `tails` "identity", `g_0 = g_K = 1`: it is the identity there if the end knots agree, with a kink where the slope at an end
knot is not 1.  For "linear", `g_0 = d_0` and `g_K = d_K`.  For "none", the domain ends at the end knots.  An inner knot
belongs to the bin above it, an end knot to its bin.

The larger of `t` and `f` is taken as 1 minus the smaller, which is more accurate than a quotient.

In (3) the sums may cancel.  Written with both `t` and `f`, and with `e_0 = d_0/s` and `e_1 = d_1/s`, all terms are positive:
    A = t (t + e_0 f),   B = f (f + e_1 t),   D = A + B = (1 + (f - t)^2)/2 + (e_0 + e_1) t f        (6)
    x = x_0 + a s (t + e_0 f) / D       where A <= B                                (7)
      = x_1 - b s (f + e_1 t) / D       elsewhere: x is reached from the nearer knot         (8)
    dx/dz = s Q / D^2,   Q = e_1 t^2 + 2 t f + e_0 f^2                              (9)
    log|dx/dz| = log(s (Q/D) (1/D))                                                 (10)
The logarithm in (10) is that of a product whose exponents are kept apart: the slope may leave the floats.  All roundings of
`s`, `Q` and `D` count in full in (9) and (10), which is too much near a knot, where the slope is nearly `d_0`.  There, for
`t <= f`,
    dx/dz = d_0 (1 + r),   r = (r_Q - r_D (1 + D))/D^2      where |r_Q|, |r_D| <= 1/4                (11)
    r_Q = Q/e_0 - 1 = t (2 f (1 - e_0) + t (e_1 - e_0))/e_0,   r_D = D - 1 = (e_0 + e_1 - 2) t f     (12)
and for `t > f` with 0 and 1, `t` and `f` exchanged.  A rounding of `r_Q` or `r_D`, which are small, counts little.

Inverse.  With `p = x - x_0` and `q = x_1 - x`, `p B = q A` is quadratic in `t/f`, and
    m = p e_1 - q e_0,   R = sqrt(m^2 + 4 p q),   M = |m| + R                       (13)
    t : f = 2 p : M    for m <  0                                                   (14)
          = M : 2 q    for m >= 0: neither adds numbers of opposite sign            (15)
    z = z_0 + w t      where t <= f,   z = z_1 - w f   elsewhere                    (16)
    dz/dx = w D / R,   log|dz/dx| = -log((R/w) (1/D)), or minus the logarithm of (11)        (17)
because, from the derivative of `p B = q A`, with `a`, `b`, `p`, `q` as its variables, `dx/dz = R/(w D)`.  The exponent of
`p q`, which may underflow, is kept apart.  In (16), `w t = p (2 w/(2 p + M))` for (14), as `p` may be subnormal.

Reverse rule.  The derivatives of (3), in a form whose terms all have one sign, are
    dx/dd_0 =  a f B / D^2,   dx/dd_1 = -b t A / D^2                                (18)
    dx/dx_1 = E_1 = (t/D) (t + (e_0 + e_1) f A/D)                                   (19)
    dx/dx_0 = E_0 = (f/D) (f + (e_0 + e_1) t B/D)                                   (20)
    dx/dz_0 = -s (f/D)^2 G_0,   G_0 = e_1 t^2 + 2 t + e_0 f (1 + t)                 (21)
    dx/dz_1 = -s (t/D)^2 G_1,   G_1 = e_0 f^2 + 2 f + e_1 t (1 + f)                 (22)
(19) is the derivative with respect to `h`, through `s` too; (20) is 1 minus it, and the larger of the two is computed as 1
minus the smaller.  (21) and (22) collect those with respect to `t` and `s`.  Derivatives of log-dets are differences, whose
terms nearly cancel when slopes are far from `s`.  Over one denominator, with `t + f = 1`, the cancelling terms are gone:
every power of `e_0` and `e_1` appears once.  With the parts of `Q`,
    u_0 = e_0 f^2 / Q,   u_1 = e_1 t^2 / Q,   u_2 = 2 t f / Q,   u_0 + u_1 + u_2 = 1        (23)
the derivatives of `l = log|dx/dz|` are
    T = (e_0 + e_1)(u_1 t - u_0 f) + u_0 (f - 3 t) + u_1 (3 f - t) + (f - t)(1 + 2 t f)/Q        (24)
      = ((e_1 - 1) t - (e_0 - 1) f) D/Q - (e_0 + e_1 - 2)(f - t)      where e_0, e_1 <= 2       (25)
    V_0 = (e_0 + e_1) u_0 + e_0 f (3 t - f^2)/Q + u_1 t + (t (1 + 2 t (1 + f)) - 1)/Q                (26)
    V_1 = (e_0 + e_1) u_1 + e_1 t (3 f - t^2)/Q + u_0 f + (f (1 + 2 f (1 + t)) - 1)/Q                (27)
    dl/dz = 2 T/(w D),   dl/dz_0 = 2 f V_0/(w D),   dl/dz_1 = -2 t V_1/(w D)        (28)
    dl/dx_1 = -dl/dx_0 = c/h,   c = 2 (e_0 + e_1) t f/D + 2 t f/Q                   (29)
    dl/dd_0 = (f/s) N_0/(Q D),   N_0 = e_1 t (f^2 - 2 t^2) - e_0 t f^2 + f (f^2 - 3 t^2)             (30)
and `dl/dd_1` with 0 and 1, `t` and `f` exchanged.  (25) is the plain difference, whose terms vanish in a straight bin, while
the terms of (24) do not.
`z_bar = x_bar dx/dz + log_det_bar dl/dz`, and so for every field.                  (31)

For the inverse map, z's derivative with respect to a field is `-dz/dx` times x's, `dz/dx = D^2/(s Q)`:
    dz/dd_0 = -a f B/(s Q),   dz/dd_1 = b t A/(s Q)                                 (32)
    dz/dz_0 = f^2 G_0/Q,   dz/dz_1 = t^2 G_1/Q                                      (33)
    dz/dx_0 = -(w D/R) E_0,   dz/dx_1 = -(w D/R) E_1                                (34)
and the derivative of its log-det `n`, with `n = -l` at the root, is `-dl/dfield + (dl/dz)(dz/dx)(dx/dfield)`, where `D`
divides out; by (17), `R` has fewer roundings than `Q/D`:
    dn/dx = -2 T D/(h Q) = -2 T/R,   D/Q = h/R                                      (35)
    dn/dz_1 = -dn/dz_0 = (2 t f/w) K,
    K = (u_0 e_0 f + u_1 e_1 t + 3 e_0 e_1 t f/Q + 2 u_0 (f + 2 t) + 2 u_1 (t + 2 f) + u_2)/Q               (36)
    dn/dd_0 = (f/s) (2 u_1^2 + u_2^2 - 2 u_0 e_1 t f/Q + u_0 f (t - f)/Q + u_1 f (5 t - f)/Q)               (37)
    dn/dd_1 = (t/s) (2 u_0^2 + u_2^2 - 2 u_1 e_0 t f/Q + u_1 t (f - t)/Q + u_0 t (5 f - t)/Q)               (38)
    dn/dx_0 = (2 f/h) X_0,   dn/dx_1 = -(2 t/h) X_1                                 (39)
    X_0 = (e_0 + e_1)(u_1^2 + 2 u_1 u_2 - u_0 e_1 t f/Q - u_0 f (f - t)/Q)
          + (u_0 (1 - 3 t (f - t)) + (e_1 t/Q)(1 + 3 t f (f - t)) + (f/Q)(1 - 4 f t^2))/Q       (40)
`X_1` is `X_0` with 0 and 1, `t` and `f` exchanged.  `x_bar = z_bar dz/dx + log_det_bar dn/dx`, and so for every field.    (41)
Beyond the knots the cotangents follow from the line alone, as in `splines.bins`:
    z_bar = g_0 x_bar = -z_0_bar,   x_0_bar = x_bar,   d_0_bar = x_bar (z - z_0) + log_det_bar/d_0          (42)
for (4) with linear tails, and so for (5).

Source: Durkan, Bekasov, Murray and Papamakarios, Neural Spline Flows, arXiv:1906.04032, section 3.1; Gregory and Delbourgo,
Piecewise rational quadratic interpolation to monotonic data, IMA Journal of Numerical Analysis 2 (1982).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, increasing, log_abs_product, plain, positive, refusal
from ...core.rules import one_of
from ...core.arithmetic import product_apart
from ...core.words import numbered
from .bins import TAILS, Tails, at_ends, at_knots, bin_of, checked, reached, within


@bijector(source="arXiv:1906.04032", increasing=True, far_line=True)
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

    def _validate(self):
        checked(self)
        super()._validate()

    @staticmethod
    def definition(m, z, input_knots, output_knots, slopes, tails):
        if z < input_knots[0]:
            return output_knots[0] + (slopes[0] if tails == "linear" else 1) * (z - input_knots[0])     # (4)
        if z > input_knots[-1]:
            return output_knots[-1] + (slopes[-1] if tails == "linear" else 1) * (z - input_knots[-1])  # (5)
        k = 0
        while k < len(input_knots) - 2 and z >= input_knots[k + 1]:
            k += 1
        w, h = input_knots[k + 1] - input_knots[k], output_knots[k + 1] - output_knots[k]   # (1)
        s, t = h / w, numbered(m, (z - input_knots[k]) / w)                         # (1) (2)
        numerator = s * t * t + slopes[k] * t * (1 - t)
        denominator = s + (slopes[k + 1] + slopes[k] - 2 * s) * t * (1 - t)
        return output_knots[k] + h * numerator / denominator                        # (3)

    def breaks(self):
        """The input knots.  An inner knot takes its derivatives from the bin above it, an end knot from its own bin."""
        return self.input_knots

    # -- a bin --------------------------------------------------------------------------------------------------------

    def bin(self, k):
        """What (1) and (6) need to know of each event's bin."""
        (z_0, z_1), (x_0, x_1), (d_0, d_1) = (at_ends(v, k) for v in (self.input_knots, self.output_knots, self.slopes))
        w, h = z_1 - z_0, x_1 - x_0                                                 # (1)
        s = h / w                                                                   # (1)
        return Place(k=k, z_0=z_0, z_1=z_1, x_0=x_0, x_1=x_1, w=w, h=h, s=s, d_0=d_0, d_1=d_1, e_0=d_0 / s,
                     e_1=d_1 / s)

    def place(self, z):
        """The bin of z, and z's place in it; for events beyond the knots, the place of the nearer end knot."""
        inner = within(self.input_knots, z)
        v = self.bin(bin_of(self.input_knots, inner))
        v.beyond = Tails(z, self.input_knots, self.output_knots, self.end_slopes)   # (4) (5)
        v.a, v.b = inner - v.z_0, v.z_1 - inner                                     # (2)
        return v.at(v.a / v.w, v.b / v.w)                                           # (2)

    def inverse_place(self, x):
        """The bin of x, and the place in it of the root."""
        inner = within(self.output_knots, x)
        v = self.bin(bin_of(self.output_knots, inner))
        v.beyond = Tails(x, self.output_knots, self.input_knots, self.end_slopes, back=True)    # (4) (5)
        v.p, v.q = inner - v.x_0, v.x_1 - inner
        m = v.p * v.e_1 - v.q * v.e_0                                               # (13)
        v.R = np.hypot(m, 2 * root_of_product(v.p, v.q))                            # (13)
        M, falling = np.abs(m) + v.R, m < 0                                         # (13)
        two_p, two_q = 2 * v.p, 2 * v.q
        whole = M + np.where(falling, two_p, two_q)
        t = np.where(falling, two_p, M) / whole                                     # (14) (15)
        f = np.where(falling, M, two_q) / whole                                     # (14) (15)
        v.a = np.where(falling, v.p * (2 * v.w / whole), v.w * t)                   # (16)
        v.b = np.where(falling, v.w * f, v.q * (2 * v.w / whole))                   # (16)
        return v.at(t, f)

    @property
    def end_slopes(self):
        """The slopes of linear tails; None for tails of slope 1."""
        return (self.slopes[..., 0], self.slopes[..., -1]) if self.tails == "linear" else None

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.image(self.place(z))

    def image(self, v):
        from_below = v.x_0 + v.a * (v.s * (v.t + v.e_0 * v.f) / v.D)                # (7)
        from_above = v.x_1 - v.b * (v.s * (v.f + v.e_1 * v.t) / v.D)                # (8)
        return v.beyond.joined(np.where(v.A <= v.B, from_below, from_above))

    def log_det(self, z):
        return self.log_slope(self.place(z))

    def log_slope(self, v):
        return v.beyond.log_slope(v.log_slope(v.s, v.Q / v.D, 1 / v.D))             # (10)

    def forward_and_log_det(self, z):
        v = self.place(z)
        return self.image(v), self.log_slope(v)

    def slope(self, z):
        v = self.place(z)
        return v.beyond.slope(v.slope)                                              # (9) (11)

    # -- inverse ------------------------------------------------------------------------------------------------------

    def inverse(self, x):
        return self.origin(self.inverse_place(x))

    def origin(self, v):
        inner = np.where(v.t <= v.f, v.z_0 + v.a, v.z_1 - v.b)                      # (16)
        return v.beyond.joined(inner)

    def inverse_and_log_det(self, x):
        v = self.inverse_place(x)
        inner = -v.log_slope(v.R / v.w, 1 / v.D, v.D.dtype.type(1))                 # (17)
        return self.origin(v), v.beyond.log_slope(inner)

    # -- reverse ------------------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.place(z)

        def pullback(x_bar, log_det_bar):
            v.add_sums(v.D / v.Q)
            t, f, both, l_bar, steep = v.t, v.f, v.e_0 + v.e_1, 2 * log_det_bar / v.w, x_bar * v.s
            V_0 = both * v.u_0 + v.e_0 * f / v.Q * (3 * t - f * f) + v.u_1 * t \
                + (t * (1 + 2 * t * (1 + f)) - 1) / v.Q                             # (26)
            V_1 = both * v.u_1 + v.e_1 * t / v.Q * (3 * f - t * t) + v.u_0 * f \
                + (f * (1 + 2 * f * (1 + t)) - 1) / v.Q                             # (27)
            of_z = x_bar * v.slope + l_bar * v.T / v.D                              # (9) (28) (31)
            of_z_0 = -steep * (f / v.D) * f * (v.G_0 / v.D) + l_bar * f * V_0 / v.D     # (21) (28)
            of_z_1 = -steep * (t / v.D) * t * (v.G_1 / v.D) - l_bar * t * V_1 / v.D     # (22) (28)
            c = 2 * both * (t * f / v.D) + v.u_2                                    # (29)
            lower, upper = v.shared(x_bar)                                          # (19) (20)
            of_x_0, of_x_1 = lower - log_det_bar * c / v.h, upper + log_det_bar * c / v.h   # (29)
            N_0, N_1 = of_slope(v.e_0, v.e_1, t, f), of_slope(v.e_1, v.e_0, f, t)
            of_d_0 = x_bar * v.a * f * (v.B / v.D) / v.D + log_det_bar * f / v.s * (N_0 / v.Q / v.D)    # (18) (30)
            of_d_1 = -x_bar * v.b * t * (v.A / v.D) / v.D + log_det_bar * t / v.s * (N_1 / v.Q / v.D)   # (18) (30)
            beyond = v.beyond
            fields = {"input_knots": beyond.knot_bars((of_z_0, of_z_1), x_bar),
                      "output_knots": beyond.image_bars((of_x_0, of_x_1), x_bar),
                      "slopes": beyond.slope_bars((of_d_0, of_d_1), x_bar, log_det_bar)}    # (42)
            return beyond.event_bar(of_z, x_bar), self.whole(v, fields)

        return (self.image(v), self.log_slope(v)), pullback

    def inverse_vjp(self, x):
        v = self.inverse_place(x)

        def pullback(z_bar, log_det_bar):
            v.add_sums(v.h / v.R)                                                   # (35)
            t, f, Q = v.t, v.f, v.Q
            through = z_bar * v.w * v.D / v.R                                       # (17)
            of_x = through - 2 * log_det_bar * (v.T / v.R)                          # (35) (41)
            K = (v.u_0 * v.e_0 * f + v.u_1 * v.e_1 * t + 3 * (v.e_0 * t / Q) * v.e_1 * f + 2 * v.u_0 * (f + 2 * t)
                 + 2 * v.u_1 * (t + 2 * f) + v.u_2) / Q                             # (36)
            bent = 2 * log_det_bar / v.w * K * t * f                                # (36)
            of_z_0, of_z_1 = z_bar * f * (f * v.G_0 / Q) - bent, z_bar * t * (t * v.G_1 / Q) + bent     # (33) (36)
            n_0 = v.u_0 * f * (t - f - 2 * v.e_1 * t) / Q + v.u_1 * f * (5 * t - f) / Q + 2 * v.u_1 ** 2 + v.u_2 ** 2   # (37)
            n_1 = v.u_1 * t * (f - t - 2 * v.e_0 * f) / Q + v.u_0 * t * (5 * f - t) / Q + 2 * v.u_0 ** 2 + v.u_2 ** 2   # (38)
            of_d_0 = (-z_bar * v.a * (v.B / Q) + log_det_bar * n_0) * f / v.s       # (32) (37)
            of_d_1 = (z_bar * v.b * (v.A / Q) + log_det_bar * n_1) * t / v.s        # (32) (38)
            n_x_0 = end(2 * log_det_bar * f / v.h, v.e_0, v.e_1, t, f, v.u_0, v.u_1, v.u_2, Q)
            n_x_1 = end(2 * log_det_bar * t / v.h, v.e_1, v.e_0, f, t, v.u_1, v.u_0, v.u_2, Q)
            lower, upper = v.shared(through)                                        # (34)
            of_x_0, of_x_1 = n_x_0 - lower, -n_x_1 - upper                          # (39)
            beyond = v.beyond
            fields = {"input_knots": beyond.image_bars((of_z_0, of_z_1), z_bar),
                      "output_knots": beyond.knot_bars((of_x_0, of_x_1), z_bar),
                      "slopes": beyond.slope_bars((of_d_0, of_d_1), z_bar, log_det_bar)}    # (42)
            return beyond.event_bar(of_x, z_bar), self.whole(v, fields)

        return self.inverse_and_log_det(x), pullback

    def whole(self, v, ends):
        """Cotangents of the fields, from the cotangents at the two ends of each event's bin."""
        return {name: at_knots(v.k, *bars, self.slopes.shape[-1]) for name, bars in ends.items()}

    hard_cases = (
        case("OneBin", "K = 1: both ends of the bin are ends of the spline", z=[-1.0, 0.25, 1.0, 2.0, -3.0],
             x=[-2.0, 0.5, 3.0, 4.0, -5.0], input_knots=[-1.0, 1.0], output_knots=[-2.0, 3.0], slopes=[0.5, 4.0]),
        case("IdentityTails", "end knots agree: beyond them x is z exactly", z=[-5.0, 1e300, 3.0, np.nextafter(3, 4)],
             x=[-5.0, 3.5], input_knots=[-3.0, 0.5, 3.0], output_knots=[-3.0, -1.0, 3.0], slopes=[1.0, 0.25, 1.0]),
        case("Line", "slopes equal the bins' own: both sums of (23) cancel", z=[-0.75, 0.5, 0.1], x=[-0.75, 0.5, 0.1],
             input_knots=[-1.0, 0.0, 1.0], output_knots=[-1.0, 0.0, 1.0], slopes=[1.0, 1.0, 1.0]),
        case("KnotExact", "an inner knot, and the floats beside it, on both sides",
             z=[0.3, np.nextafter(0.3, 0), np.nextafter(0.3, 1)], x=[0.7, np.nextafter(0.7, 0), np.nextafter(0.7, 1)],
             input_knots=[-1.0, 0.3, 2.0], output_knots=[-4.0, 0.7, 1.0], slopes=[2.0, 0.01, 30.0]),
        case("RootCancels", "4 p q is lost beside m^2: the wrong branch of (14) and (15) gives 0",
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
        case("NearKnot", "the slope is nearly that of a knot, and near 1: every rounding of (9) is as large as the logarithm",
             z=[0.0037], x=[0.0037], input_knots=[0.0, 2.2], output_knots=[0.0, 1.2], slopes=[1.1, 1.1]),
        case("NearKnotBack", "the same for the inverse map: every rounding of w, R and D", z=[0.002], x=[0.002],
             input_knots=[0.0, 2.4], output_knots=[0.0, 2.1], slopes=[1.0, 0.42]),
        case("SteepKnots", "slopes far above the bin's own: in float32, squares of f/D underflow in (21), their products with "
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
        """The letters of (6) and (9) at t, f."""
        e_0, e_1, below = self.e_0, self.e_1, t <= f
        self.t, self.f = t, f = np.where(below, t, 1 - f), np.where(below, 1 - t, f)
        self.A, self.B = t * (t + e_0 * f), f * (f + e_1 * t)                       # (6)
        self.D = (1 + (f - t) ** 2) / 2 + (e_0 + e_1) * t * f                       # (6)
        self.Q = (e_1 * t * t + e_0 * f * f) + 2 * t * f                            # (9)
        return self

    @property
    def near_knot(self):
        """(marks of the places where (11) is used, its two factors)."""
        t, f, D, below = self.t, self.f, self.D, self.t <= self.f
        d, e, other = (np.where(below, *ends) for ends in ((self.d_0, self.d_1), (self.e_0, self.e_1), (self.e_1, self.e_0)))
        t, f = np.minimum(t, f), np.maximum(t, f)
        r_Q, r_D = t * (2 * f * (1 - e) + t * (other - e)) / e, (e + other - 2) * t * f     # (12)
        r = (r_Q - r_D * (1 + D)) / D ** 2                                          # (11)
        return (np.abs(r_Q) <= 0.25) & (np.abs(r_D) <= 0.25), d, 1 + r

    @property
    def slope(self):
        """dx/dz."""
        near, d, change = self.near_knot
        return np.where(near, d * change, self.s * (self.Q / self.D) / self.D)      # (9) (11)

    def log_slope(self, *factors):
        """The logarithm of dx/dz, taken of the product of the three factors or, near a knot, of the factors of (11)."""
        near, d, change = self.near_knot
        return log_abs_product(tuple(np.where(near, *pair) for pair in zip((d, change, d.dtype.type(1)), factors)))  # (10) (11)

    def shared(self, bar):
        """(bar E_0, bar E_1)."""
        t, f, D, both = self.t, self.f, self.D, self.e_0 + self.e_1
        upper = bar * (t / D) * (t + both * f * (self.A / D))                       # (19)
        lower = bar * (f / D) * (f + both * t * (self.B / D))                       # (20)
        lesser = np.abs(lower) <= np.abs(upper)
        return np.where(lesser, lower, bar - upper), np.where(lesser, bar - lower, upper)

    def add_sums(self, ratio):
        """What both pullbacks need, where `ratio` is D/Q."""
        t, f, e_0, e_1, Q = self.t, self.f, self.e_0, self.e_1, self.Q
        both, between = e_0 + e_1, (self.b - self.a) / self.w
        self.G_0 = e_1 * t * t + 2 * t + e_0 * f * (1 + t)                          # (21)
        self.G_1 = e_0 * f * f + 2 * f + e_1 * t * (1 + f)                          # (22)
        self.u_0, self.u_1, self.u_2 = u_0, u_1, _ = e_0 * f * f / Q, e_1 * t * t / Q, 2 * t * f / Q    # (23)
        bent = both * (u_1 * t - u_0 * f) + u_0 * (f - 3 * t) + u_1 * (3 * f - t) \
            + between * (1 + 2 * t * f) / Q                                         # (24)
        over_0, over_1 = e_0 - 1, e_1 - 1
        straight = (over_1 * t - over_0 * f) * ratio - (over_0 + over_1) * between      # (25)
        self.T = np.where((e_0 <= 2) & (e_1 <= 2), straight, bent)


def root_of_product(p, q):
    """sqrt(p q) for p, q >= 0, even if p q leaves the floats."""
    mantissa, exponent = product_apart(np.stack((p, q), -1))
    half = exponent // 2
    return np.ldexp(np.sqrt(np.ldexp(mantissa, exponent - 2 * half)), half)


def of_slope(e_0, e_1, t, f):
    """N_0; with exchanged arguments, N_1."""
    return e_1 * t * (f * f - 2 * t * t) - e_0 * t * f * f + f * (f * f - 3 * t * t)    # (30)


def end(bar, e_0, e_1, t, f, u_0, u_1, u_2, Q):
    """bar X_0; with exchanged arguments, bar X_1."""
    bent = bar * (e_0 + e_1) * (u_1 * (u_1 + 2 * u_2) - u_0 * (e_1 * t * f / Q) - u_0 * f * (f - t) / Q)
    rest = u_0 * (1 - 3 * t * (f - t)) + e_1 * t / Q * (1 + 3 * t * f * (f - t)) + f / Q * (1 - 4 * f * t * t)
    return bent + bar * rest / Q                                                    # (40)
