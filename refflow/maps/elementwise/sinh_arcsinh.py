r"""Sinh-arcsinh, `R -> R`: skewness `k` and tail weight `t > 0`, normalised so that `x = 2` where `z = 2`, if `k = 0`.

The map.  With `k = skewness`, `t = tailweight` and `A = arsinh 2`,
    x = m sinh v,   v = s t,   s = arsinh z + k,   m = 2/sinh(A t)                  (1)
    z = sinh(v/t - k),   v = arsinh(x/m)                                            (2)
    dx/dz = m t cosh v / c,   c = sqrt(1 + z^2)                                     (3)
    log|dx/dz| = log(m t) + log cosh v - log c                                      (4)
    log|dz/dx| = -log(m t) - log cosh v + log c    at z of (2)                      (5)
`t = 1, k = 0` is the identity.

The reverse rule.  With `b = A coth(A t)`, `dm/dt = -b m`; and `dv/dz = t/c`, `dv/dk = t`, `dv/dt = s`.  With the cotangent
`l_bar` of (4), and with `l'` for the derivative of (4) by `z`,
    z_bar = x_bar m t cosh v / c + l_bar l',   l' = (t tanh v - z/c)/c              (6)
    k_bar = x_bar m t cosh v + l_bar t tanh v                                       (7)
    t_bar = x_bar m (s cosh v - b sinh v) + l_bar (1/t - b + s tanh v)              (8)
For the inverse map, whose log-det (5) has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar l') / (dx/dz)                                            (9)
and the cotangents of the fields are (7) and (8), with the signs of `x_bar` and `l_bar` reversed.               (10)

Source: Jones and Pewsey, Sinh-arcsinh distributions, Biometrika 96 (2009); the factor `m` is TensorFlow Probability's.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Bijector, bijector, case, log_abs_product, positive, real
from ...core.arithmetic import times
from ...core.arrays import doubled, rounded

A = math.asinh(2)
EXCESS = 0.6140335286150151                         # A sqrt(5)/2 - 1, correctly rounded
LIFT = 2.0**64                                      # subnormal numbers times this are normal


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def factor(tailweight):
        """A and m."""
        A = np.arcsinh(np.full_like(tailweight, 2))
        return A, 2 / np.sinh(A * tailweight)                                       # (1)

    def letters(z, skewness, tailweight):
        """m, s, v, c and l'."""
        t, (_, m) = tailweight, textbook.factor(tailweight)
        s, c = np.arcsinh(z) + skewness, np.sqrt(1 + z**2)                          # (1) (3)
        v = s * t                                                                   # (1)
        return m, s, v, c, (t * np.tanh(v) - z / c) / c                             # (6)

    def forward(z, skewness, tailweight):
        m, _, v, _, _ = textbook.letters(z, skewness, tailweight)
        return m * np.sinh(v)                                                       # (1)

    def inverse(x, skewness, tailweight):
        _, m = textbook.factor(tailweight)
        return np.sinh(np.arcsinh(x / m) / tailweight - skewness)                   # (2)

    def slope(z, skewness, tailweight):
        m, _, v, c, _ = textbook.letters(z, skewness, tailweight)
        return m * tailweight * np.cosh(v) / c                                      # (3)

    def log_det(z, skewness, tailweight):
        m, _, v, c, _ = textbook.letters(z, skewness, tailweight)
        return np.log(m * tailweight) + np.log(np.cosh(v)) - np.log(c)              # (4)

    def inverse_log_det(x, skewness, tailweight):
        z = textbook.inverse(x, skewness, tailweight)
        return -textbook.log_det(z, skewness, tailweight)                           # (5)

    def vjp(z, skewness, tailweight, x_bar, l_bar):
        t, (A, _) = tailweight, textbook.factor(tailweight)
        m, s, v, c, dl = textbook.letters(z, skewness, tailweight)
        b, sinh, cosh, tanh = A / np.tanh(A * t), np.sinh(v), np.cosh(v), np.tanh(v)
        z_bar = x_bar * m * t * cosh / c + l_bar * dl                               # (6)
        k_bar = x_bar * m * t * cosh + l_bar * t * tanh                             # (7)
        t_bar = x_bar * m * (s * cosh - b * sinh) + l_bar * (1 / t - b + s * tanh)  # (8)
        return z_bar, {"skewness": k_bar, "tailweight": t_bar}

    def inverse_vjp(x, skewness, tailweight, z_bar, l_bar):
        z = textbook.inverse(x, skewness, tailweight)
        *_, dl = textbook.letters(z, skewness, tailweight)
        x_bar = (z_bar - l_bar * dl) / textbook.slope(z, skewness, tailweight)      # (9)
        return x_bar, textbook.vjp(z, skewness, tailweight, -x_bar, -l_bar)[1]      # (10)


r"""In floating point.

In (1) to (10), the roundings of many factors and terms add up.  So everything is computed in float64, for float32 too, and
rounded once.                                                                                                   (11)

In (1), `v` and both hyperbolic sines may leave the floats where `x` does not.  The sines are
`sinh v = s t E(2|v|) exp|v|` and `sinh(A t) = A t E(2 A t) exp(A t)`.  In their quotient, `t` cancels, and one exponential is left:
    E(y) = (1 - exp(-y))/y,   E(0) = 1                                              (12)
    x = X h i,   X = (2 s/A) E(2|v|)/E(2 A t),   h i = exp(D),   D = (|s| - A) t    (13)
`i` is 1 for `|D| <= 40`, and `h = i` beyond.  A large exponential may overflow where its product does not, so the other factors
stand between `h` and `i`.  For small `a = A t` and `v`, `x` is nearly `2 s/A`, but each factor of (13) is rounded:
    x = (2 s/A) (1 + (c_v - c_a)/(1 + c_a))    for a <= 2 and |v| <= 1              (14)
    c_a = sinh(a)/a - 1 = (a^2/6)(1 + (a^2/20)(1 + (a^2/42)(1 + ...)))              (15)
where the difference from 1 is small, and so are its roundings.

In (2), `y = x/m` may be subnormal, or overflow, where `z` does neither:
    y = x/m = x (1 - exp(-2 A t)) K^2/4,   K = exp(A t/2)                           (16)
    z = sinh p,   p = T - k,   T = v/t = arsinh(y)/t                                (17)
      T = x (A/2) (1 + c_a) arsinh(y)/y             for t <= 1 and |y| < 1          (18)
      T = A + delta/t,   delta = v - A t            for t > 1 and |y| >= 1          (19)
    delta = log(|x|/2) + log(1 - exp(-2 A t)) + log(1 + (sqrt(1 + 1/y^2) - 1)/2)    (20)
(18) keeps its digits where `y` is subnormal, and (19) where `y` overflows; (19) is for `x > 0`, and `T` has the sign of `x`.

In (3), (6) and (7), `cosh v` and `z^2` may overflow where the slope does not.  As in (13) and (14), with `w = arsinh z`,
    dx/dz = N h i / cosh w,   N = (1 + exp(-2|v|))/(A E(2 A t)),   c = cosh w       (21)
          = (2/A) (1 + (2 sinh^2(v/2) - c_a)/(1 + c_a)) / cosh w    for a <= 2 and |v| <= 1         (22)
Where `i = 1`, `cosh w` divides `N h`; elsewhere its square root divides each of `h` and `i`.

In (4), the hyperbolic cosines may overflow where their logarithms do not:
    log|dx/dz| = D - log cosh w + log N                                             (23)
    log cosh w = log(1 + 2 sinh^2(w/2))              for |w| <= 1
               = |w| + log((1 + exp(-2|w|))/2)       for |w| >  1                   (24)
For small tail weights, `D` and `log N` cancel in (23): in their sum, `log(m t cosh v)`, the first power of `t` is gone.  There
    log|dx/dz| = log(2/A) - log(1 + c_a) + log cosh v - log cosh w      for a <= 1  (25)
The terms of (23) and (25) cancel near the identity, where the derivatives of the log-det are as small as its value.  There the
log-det is computed from small numbers: with `e = t - 1`, addition theorems for `cosh(w + d)` and `sinh(A + A e)` give
    log|dx/dz| = log(1 + ((1 + e) r_v - r_e)/(1 + e + r_e))      for |e| <= 1 and |d| <= 1          (26)
    r_v = tanh w sinh d + 2 sinh^2(d/2),   d = v - w = s e + k                      (27)
    r_e = sinh(A t)/sinh A - t = (A sqrt(5)/2 - 1) e + (sqrt(5)/2) (sinh(A e) - A e) + 2 sinh^2(A e/2)     (28)

In (5), the same forms hold at `w = p, s = T`.  Where (19) is used, `D = (|T| - A) t` has lost the digits of `delta`.
There `D + log N` is the logarithm of one product, whose exponents are kept apart:
    D + log N = log(|x| t (1 + exp(-2|v|)) (1 + sqrt(1 + 1/y^2))/2)                 (29)

In (8), `s coth v`, `b` and `1/t` are nearly the same when `t` is small.  `s coth v - 1/t` is `phi(v)/t`, and `b - 1/t` is
`phi(A t)/t`, with
    phi(a) = a coth a - 1 = a^2/(3 + a^2/(5 + a^2/(7 + ...)))      for |a| < 1      (30)
                          = |a| - 1 + f(a),   f(a) = 2|a|/(exp(2|a|) - 1)           (31)
    t_bar = x_bar x (phi(v) - phi(A t))/t + l_bar (v tanh v - phi(A t))/t           (32)
For a large `A t`, the `D` of (13) keeps the digits that a difference of two large numbers loses:
    phi(v) - phi(A t) = D + f(v) - f(A t),   v tanh v - phi(v) = 1 - 2 v/sinh(2 v)      for |v|, A t >= 1   (33)

In (9), `dx/dz = m t cosh v / cosh p` and `m cosh v = sqrt(x^2 + m^2)`, whose parts may leave the floats where `x_bar` does not:
    x_bar = z_bar dz/dx + l_bar (tanh p - t rho)/(t sqrt(x^2 + m^2)),   rho = tanh v = y/sqrt(1 + y^2)      (34)
    dz/dx = cosh p / (t sqrt(x^2 + m^2)) = g^2 H M C^2,
    g = 1,   H = cosh p   for |p| <= 40,   g = exp(|p|/2),   H = (1 + exp(-2|p|))/2   beyond                (35)
    1/(t sqrt(x^2 + m^2)) = M C^2,   M = (A/2) E(2 A t)/sqrt(1 + y^2),   C = K      for |y| < 1             (36)
                                     M = (A/2) (1 + c_a)/sqrt(1 + y^2),   C = 1     for |y| < 1 and t <= 1  (37)
                                     M = 1/(t sqrt(1 + 1/y^2)),   C = 1/sqrt|x|     for |y| >= 1            (38)

In (10), the terms of (7) and (8) cancel with the parts of `x_bar`.  With the derivative `R` of `T` with respect to `t`,
    k_bar = -z_bar cosh p - l_bar tanh p                                            (39)
    t_bar = (z_bar cosh p + l_bar tanh p) R + l_bar Q/t                             (40)
    R = (rho/t) (phi(A t) - phi(v))/t                                               (41)
    Q = phi(A t)/(1 + y^2) - rho^2                       for |y| <  1
      = (phi(A t) + 1)/(1 + y^2) - 1                     for |y| >= 1               (42)
where `rho/t` is `T` if `1 + v^2` rounds to 1.  A subnormal `T` is written as the product of `x` and its factor in (16) or (18).
`A t` may be large and `delta` small, so where (19) is used,
    phi(A t) - phi(v) = f(A t) - f(v) - delta                                       (43)
"""


@bijector(source="Jones & Pewsey 2009", domain=real, codomain=real, increasing=True, textbook=textbook)
class SinhArcsinh(Bijector):
    """x = 2 sinh((arsinh z + skewness) tailweight) / sinh(tailweight arsinh 2)."""

    skewness: Array = real()
    tailweight: Array = positive()
    event_ndim = (0, 0)

    @staticmethod
    def inverse_definition(m, x, skewness, tailweight):
        y = x * m.sinh(m.asinh(2) * tailweight) / 2                                 # (16)
        return m.sinh(m.asinh(y) / tailweight - skewness)                           # (17)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        f, wide = doubled(self, z)                                                  # (11)
        _, _, X, h, i, _, _ = f.letters_at(wide)
        return rounded(X * h * i, z.dtype)                                          # (1) (13)

    def inverse(self, x):
        f, wide = doubled(self, x)                                                  # (11)
        _, _, p, _, _ = f.place(wide)
        return rounded(np.sinh(p), x.dtype)                                         # (2) (17)

    def slope(self, z):
        f, wide = doubled(self, z)                                                  # (11)
        return rounded(f.steep(wide, f.letters_at(wide))(np.ones_like(wide)), z.dtype)    # (3)

    def log_det(self, z):
        f, wide = doubled(self, z)                                                  # (11)
        s, _, _, _, _, _, D = f.letters_at(wide)
        return rounded(f.log_slope(np.arcsinh(wide), s, f.log_cosh_part(s, D)), z.dtype)    # (4)

    def inverse_and_log_det(self, x):
        f, wide = doubled(self, x)                                                  # (11)
        return rounded(f.origin_and_log_det(wide), x.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        f, wide = doubled(self, z)                                                  # (11)
        images, pullback = f.pulling_back(wide)
        return rounded(images, z.dtype), lambda *bars: rounded(pullback(*doubled(*bars)), z.dtype)    # (11)

    def inverse_vjp(self, x):
        f, wide = doubled(self, x)                                                  # (11)
        origins, pullback = f.inverse_pulling_back(wide)
        return rounded(origins, x.dtype), lambda *bars: rounded(pullback(*doubled(*bars)), x.dtype)    # (11)

    def pulling_back(self, z):
        """((x, log_det), pullback) of (6) to (8)."""
        t, w, letters = self.tailweight, np.hypot(1, z), self.letters_at(z)         # (3) (21)
        s, v, X, h, i, N_h, D = letters
        steep, tanh, far = self.steep(z, letters), np.tanh(v), (np.abs(v) >= 1) & (A * t >= 1)
        rise = np.where(far, D + f(v) - f(A * t), phi(v) - phi(A * t))              # (33)
        bend = np.where(far, rise + 1 - 2 * v / np.sinh(2 * v), v * tanh - phi(A * t))      # (33)

        def pullback(x_bar, log_det_bar):
            z_bar = steep(x_bar) + log_det_bar * (t * tanh - z / w) / w             # (6)
            k_bar = times(x_bar, N_h, i) + log_det_bar * t * tanh                   # (7) (21)
            grown = times(x_bar, rise / t, h, X, i)
            t_bar = grown + log_det_bar * bend / t                                  # (8) (32)
            return z_bar, {"skewness": k_bar, "tailweight": t_bar}

        return (X * h * i, self.log_slope(np.arcsinh(z), s, self.log_cosh_part(s, D))), pullback    # (13)

    def inverse_pulling_back(self, x):
        """((z, log_det), pullback) of (9) and (10)."""
        t = self.tailweight
        y, T, p, delta, far = self.place(x)
        M, C = self.scales(x, y)
        v, phi_A, tanh, beyond = T * t, phi(A * t), np.tanh(p), np.abs(p) > 40      # (17)
        g = np.where(beyond, np.exp(np.abs(p) / 2), 1)                              # (35)
        H = np.where(beyond, (1 + np.exp(-2 * np.abs(p))) / 2, np.cosh(p))          # (35)
        rho = np.where(np.abs(y) < 1, y / np.hypot(1, y), np.copysign(1 / np.hypot(1, 1 / y), y))   # (34)
        less = np.where(far, f(A * t) - f(v) - delta, phi_A - phi(v))               # (43)
        K, tiny = np.exp(A * t / 2), (x != 0) & (np.abs(x) < np.finfo(x.dtype).tiny) & (np.abs(y) < 1)      # (16)
        of_x = np.where(t <= 1, self.shallow(np.ones_like(x)) / K, K * -np.expm1(-2 * A * t) / (4 * t))     # (16) (18)
        flat = np.where(v * v < np.finfo(x.dtype).eps, T, rho / t)                  # (41)
        R = np.where(tiny, x * LIFT, flat), np.where(tiny, K, 1), np.where(tiny, of_x, 1), less / t     # (41)
        last = np.where(tiny, x.dtype.type(1 / LIFT), x.dtype.type(1))
        Q = np.where(np.abs(y) < 1, phi_A / (1 + y * y) - rho * rho, (phi_A + 1) / (1 + y * y) - 1)         # (42)

        def pullback(z_bar, log_det_bar):
            bent = log_det_bar * (tanh - t * rho)                                   # (34)
            apart = times(z_bar, g * C, H * M, g * C) + times(bent, C, M, C)        # (9) (34) (35)
            joint = times(times(z_bar, g, H, g) + bent, C, M, C)                    # (9) (34) (35)
            x_bar = np.where(C >= 1, joint, apart)
            k_bar = -times(z_bar, g, H, g) - log_det_bar * tanh                     # (10) (39)
            bent = log_det_bar * Q / t
            t_bar = times(z_bar, g, H, *R, g, last) + times(log_det_bar, *R, tanh, last) + bent         # (10) (40)
            return x_bar, {"skewness": k_bar, "tailweight": t_bar}

        return self.origin_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def letters_at(self, z):
        """s, v, X, h, i, N h and D."""
        t, s = self.tailweight, np.arcsinh(z) + self.skewness                       # (1)
        v, E_A, D = s * t, E(2 * A * t), (np.abs(s) - A) * t                        # (1) (13)
        far, shallow = np.abs(D) > 40, (A * t <= 2) & (np.abs(v) <= 1)
        i = np.where(far, np.exp(D / 2), 1)                                         # (13)
        h = np.where(far, i, np.exp(D))                                             # (13)
        X, N_h = 2 * s / A * E(2 * np.abs(v)) / E_A, h * (1 + np.exp(-2 * np.abs(v))) / (A * E_A)   # (13) (21)
        c_a, small = sinh_excess(np.minimum(A * t, 2)), np.minimum(np.abs(v), 1)
        X_near = s / (A / 2) * (1 + (sinh_excess(small) - c_a) / (1 + c_a))         # (14)
        N_near = (1 + (2 * np.sinh(small / 2) ** 2 - c_a) / (1 + c_a)) / (A / 2)    # (22)
        return s, v, np.where(shallow, X_near, X), np.where(shallow, 1, h), i, np.where(shallow, N_near, N_h), D

    def steep(self, z, letters):
        """The function bar -> bar dx/dz."""
        _, _, _, _, i, N_h, _ = letters
        cosh_w = np.hypot(1, z)                                                     # (3) (21)
        j = np.where(i == 1, 1, np.sqrt(cosh_w))
        return lambda bar: times(bar, N_h / np.where(i == 1, cosh_w, j), i / j)     # (21)

    def place(self, x):
        """y, T, p, delta, and marks of the events where (19) is used."""
        t, K = self.tailweight, np.exp(A * self.tailweight / 2)                     # (16)
        share = -np.expm1(-2 * A * t)                                               # (16)
        shallow = self.shallow(x)
        y = np.where(t <= 1, shallow * t, np.where(x == 0, x, x * K / 4 * (share * K)))     # (16)
        log_half = np.where(np.abs(x) < 1, np.log(np.abs(x)) - math.log(2), np.log(np.abs(x) / 2))
        delta = log_half + (np.log(share) + np.log1p((np.hypot(1, 1 / y) - 1) / 2))         # (20)
        far, near = (t > 1) & (np.abs(y) >= 1), (t <= 1) & (np.abs(y) < 1)
        sign, step = np.copysign(x.dtype.type(1), x), delta / t
        T = np.where(far, sign * (A + step), np.where(near, shallow * arsinh_ratio(y), np.arcsinh(y) / t))      # (17) (18) (19)
        return y, T, np.where(far, sign * step + (sign * A - self.skewness), T - self.skewness), delta, far     # (17) (19)

    def shallow(self, x):
        """y/t for t <= 1."""
        return x * (A / 2) * (1 + sinh_excess(A * np.minimum(self.tailweight, 1)))  # (18)

    def scales(self, x, y):
        """M and C."""
        t, inside = self.tailweight, np.abs(y) < 1
        flat = np.where(t <= 1, self.shallow(np.ones_like(x)), A / 2 * E(2 * A * t)) / np.hypot(1, y)       # (36) (37)
        M = np.where(inside, flat, 1 / (t * np.hypot(1, 1 / y)))                    # (38)
        return M, np.where(inside, np.where(t <= 1, 1, np.exp(A * t / 2)), 1 / np.sqrt(np.abs(x)))  # (36) (37) (38)

    def log_cosh_part(self, s, D):
        """D + log N."""
        t = self.tailweight
        return D + np.log((1 + np.exp(-2 * np.abs(s * t))) / (A * E(2 * A * t)))    # (21) (23)

    def log_slope(self, w, s, part):
        """log|dx/dz|, where `part` is D + log N."""
        t, v = self.tailweight, s * self.tailweight
        a, log_cosh_w = np.minimum(A * t, 1), log_cosh(w)
        shallow = math.log(2 / A) - np.log1p(sinh_excess(a)) + log_cosh(v) - log_cosh_w     # (25)
        e = t - 1
        d = s * e + self.skewness                                                   # (27)
        near = (np.abs(e) <= 1) & (np.abs(d) <= 1)
        d, e = np.where(near, d, 0), np.where(near, e, 0)
        r_v = np.tanh(w) * np.sinh(d) + 2 * np.sinh(d / 2) ** 2                     # (27)
        r_e = EXCESS * e + math.sqrt(5) / 2 * (A * e) * sinh_excess(A * e) + 2 * np.sinh(A * e / 2) ** 2        # (28)
        small = np.log1p(((1 + e) * r_v - r_e) / (1 + e + r_e))                     # (26)
        return np.where(A * t <= 1, shallow, np.where(near, small, part - log_cosh_w))      # (23)

    def origin_and_log_det(self, x):
        """z and log|dz/dx|."""
        y, T, p, _, far = self.place(x)
        t = self.tailweight
        q = np.exp(-2 * np.abs(T * t))
        factors = np.broadcast_arrays(x, t, (1 + q) * (1 + np.hypot(1, 1 / y)) / 2)    # (29)
        elsewhere = self.log_cosh_part(T, (np.abs(T) - A) * t)
        part = np.where(far, log_abs_product(np.stack(factors, -1)), elsewhere)     # (29)
        w = T - self.skewness                       # rounded with T: in (26) the two roundings nearly cancel
        return np.sinh(p), -self.log_slope(w, T, part)                              # (5)

    hard_cases = (
        case("Identity", "x is z, and the log-det is 0", z=[1.0, -3.0, 2.0**1000], x=[1.0, -3.0, 2.0**1000], skewness=0.0,
             tailweight=1.0),
        case("Fixed", "x = 2 for every tail weight", z=[2.0, np.nextafter(2, 3)], x=[2.0, np.nextafter(2, 3)], skewness=0.0,
             tailweight=1e6),
        case("SmallTail", "v is subnormal, x is not; the cotangent of t is a difference of nearly equal numbers",
             z=[2.0**-1010, 0.5, -30.0], x=[2.0**-1010, 0.5, -30.0], skewness=0.0, tailweight=2.0**-60),
        case("Steep", "the hyperbolic sines overflow in turn", z=[1.9, 2.5, -1e-3], x=[1e-290, 1e290, -3.0], skewness=0.0,
             tailweight=1000.0),
        case("SlopeOnly", "h^2 overflows, dx/dz does not", z=[2.0**1000], x=[2.0**1000], skewness=0.0, tailweight=1.5),
        case("Skewed", "arsinh z and the skewness cancel", z=[-30.0, -np.sinh(4.0)], x=[1e-9, 0.5], skewness=4.0,
             tailweight=0.5),
        case("Zero", "both sines are 0 together", z=[0.0], x=[0.0], skewness=0.0, tailweight=2.5),
        case("FarBelow", "log|x| - log 2 rounds twice", x=[-7.769333145371585e298], skewness=-0.09204216463881723,
             tailweight=1.110282620249627),
        case("ShallowBesideSkewed", "x vanishes beside a skewness of 2^41", x=[6.202452922285722e-308],
             skewness=3508652289446.7856, tailweight=3.467675100575893e-18),
    )


def E(y):
    """(1 - exp(-y))/y for y >= 0."""
    return np.where(y == 0, 1, -np.expm1(-y) / y)                                   # (12)


def f(a):
    """a coth a - |a|."""
    return 2 * np.abs(a) / np.expm1(2 * np.abs(a))                                  # (31)


def phi(a):
    """a coth a - 1."""
    square, below = np.minimum(a * a, 1), np.abs(a) < 1
    quotient = np.zeros_like(square)
    for odd in range(23, 1, -2):
        quotient = square / (odd + quotient)                                        # (30)
    return np.where(below, quotient, np.abs(a) - 1 + f(a))                          # (31)


def arsinh_ratio(y):
    """arsinh(y)/y."""
    return np.where(y == 0, 1, np.arcsinh(y) / y)


def sinh_excess(a):
    """sinh(a)/a - 1, for |a| <= 2."""
    total = np.zeros_like(a)
    for product in (506, 420, 342, 272, 210, 156, 110, 72, 42, 20, 6):
        total = a * a / product * (1 + total)                                       # (15)
    return total


def log_cosh(w):
    """log cosh w."""
    near = 2 * np.sinh(np.minimum(np.abs(w), 1) / 2) ** 2
    far = np.abs(w) + np.log1p(np.exp(-2 * np.abs(w))) - math.log(2)                # (24)
    return np.where(np.abs(w) <= 1, np.log1p(near), far)                            # (24)
