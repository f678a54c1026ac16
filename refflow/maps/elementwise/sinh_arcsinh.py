r"""Sinh-arcsinh, `R -> R`: skewness `k` and tail weight `t > 0`, normalised so that `x = 2` where `z = 2`, if `k = 0`.

With `k = skewness`, `t = tailweight` and `A = arsinh 2`,
    x = m sinh v,   v = s t,   s = arsinh z + k                                     (1)
    m = 2 / sinh(A t)                                                               (2)
`t = 1, k = 0` is the identity.  Both hyperbolic sines may leave the floats where `x` does not, and so may `v`.  With
    E(y) = (1 - exp(-y))/y,   E(0) = 1                                              (3)
they are `sinh v = s t E(2|v|) exp|v|` and `sinh(A t) = A t E(2 A t) exp(A t)`, and
    x = X h^2,   X = (2 s/A) E(2|v|)/E(2 A t),   h = exp((|s| - A) t/2)             (4)
    dx/dz = m t cosh v / sqrt(1 + z^2) = N c^2,
    N = (1 + exp(-2|v|))/(A E(2 A t)),   c = h / sqrt(sqrt(1 + z^2))                (5)
    log|dx/dz| = (|s| - A) t + log(N / sqrt(1 + z^2))                               (6)
Near the identity the terms of (6) cancel, although its derivatives are as small as its value.  There it is computed from what
is small: with `w = arsinh z` and `e = t - 1`, addition theorems for `cosh(w + d)` and `sinh(A + A e)` give
    log|dx/dz| = log(1 + e) + log(1 + r_v) - log(1 + r_A)     for |e| <= 1/2 and |d| <= 1          (7)
    r_v = tanh w sinh d + 2 sinh^2(d/2),   d = v - w = s e + k                      (8)
    r_A = (sqrt(5)/2) sinh(A e) + 2 sinh^2(A e/2)                                   (9)
Each square may overflow where its product does not, so the other factors stand between the two.

Inverse, with
    y = x/m = x (1 - exp(-2 A t)) K^2/4,   K = exp(A t/2)                           (10)
    z = sinh p,   p = T - k,   T = v/t = arsinh(y)/t                                (11)
      T = x (A/2) E(2 A t) K^2 arsinh(y)/y          for t <= 1                      (12)
      T = A + delta/t,   delta = v - A t            for t > 1 and |y| >= 1          (13)
    delta = log(|x|/2) + log((1 - exp(-2 A t)) (1 + sqrt(1 + 1/y^2))/2)             (14)
(12) keeps its digits where `y` is subnormal, and (13) where `y` overflows; (13) is for `x > 0`, and `T` has the sign of `x`.
    dz/dx = cosh p / (t sqrt(x^2 + m^2)) = g^2 H C^2,   g = exp(|p|/2),   H = (1 + exp(-2|p|))/2            (15)
    1/(t sqrt(x^2 + m^2)) = M C^2,   M = (A/2) E(2 A t)/sqrt(1 + y^2),   C = K      for |y| < 1             (16)
                                     M = 1/(t sqrt(1 + 1/y^2)),   C = 1/sqrt|x|     for |y| >= 1            (17)
    log|dz/dx| = |p| + log(H M) + A t        for |y| < 1                            (18)
               = |p| + log(H M) - log|x|     for |y| >= 1                           (19)
with the factor `M` in (15) too.

Reverse rule.  Derivatives with respect to `t` are differences of
    phi(a) = a coth a - 1 = a^2/(3 + a^2/(5 + a^2/(7 + ...)))      for |a| < 1      (20)
                          = |a| - 1 + f(a),   f(a) = 2|a|/(exp(2|a|) - 1)           (21)
whose two terms `A coth(A t)` and `s coth v` are nearly the same when `t` is small.  From (1) and (6), `l_bar = log_det_bar`,
    z_bar = x_bar N c^2 + l_bar (t tanh v - z/sqrt(1 + z^2))/sqrt(1 + z^2)          (22)
    k_bar = x_bar N h^2 + l_bar t tanh v                                            (23)
    t_bar = x_bar x (phi(v) - phi(A t))/t + l_bar (v tanh v - phi(A t))/t           (24)
and for the inverse map, with the derivative `R` of `T` with respect to `t`,
    R = (tanh v/t) (phi(A t) - phi(v))/t,   rho = tanh v = y/sqrt(1 + y^2)          (25)
    x_bar = z_bar dz/dx + l_bar (tanh p - t rho)/(t sqrt(x^2 + m^2))                (26)
    k_bar = -z_bar cosh p - l_bar tanh p                                            (27)
    t_bar = (z_bar cosh p + l_bar tanh p) R + l_bar (phi(A t)/(1 + y^2) - rho^2)/t  (28)
where (13) gives the difference without cancellation, since `A t` may be large and `delta` small:
    phi(A t) - phi(v) = f(A t) - f(v) - delta                                       (29)

Source: Jones and Pewsey, Sinh-arcsinh distributions, Biometrika 96 (2009); the factor `m` is TensorFlow Probability's.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real

A = math.asinh(2)


@bijector(source="Jones & Pewsey 2009", domain=real, codomain=real, increasing=True)
class SinhArcsinh(Bijector):
    """x = 2 sinh((arsinh z + skewness) tailweight) / sinh(tailweight arsinh 2)."""

    skewness: Array = real()
    tailweight: Array = positive()
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, skewness, tailweight):
        v = (m.asinh(z) + skewness) * tailweight                                    # (1)
        return 2 * m.sinh(v) / m.sinh(m.asinh(2) * tailweight)                      # (1) (2)

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        _, _, X, h, _ = self.letters_at(z)
        return X * h * h                                                            # (4)

    def letters_at(self, z):
        """s, v, X, h, N."""
        t, s = self.tailweight, np.arcsinh(z) + self.skewness                       # (1)
        v, E_A = s * t, E(2 * A * t)                                                # (1)
        h = np.exp((np.abs(s) - A) * t / 2)                                         # (4)
        N = (1 + np.exp(-2 * np.abs(v))) / (A * E_A)                                # (5)
        return s, v, 2 * s / A * E(2 * np.abs(v)) / E_A, h, N                       # (4)

    def log_det(self, z):
        s, _, _, _, N = self.letters_at(z)
        return self.log_slope(z, s, N)

    def log_slope(self, z, s, N):
        w = np.hypot(1, z)
        return self.near_identity(z / w, s, (np.abs(s) - A) * self.tailweight + np.log(N / w))          # (6)

    def near_identity(self, tanh, s, elsewhere):
        """log|dx/dz|, which (7) gives near the identity."""
        e = self.tailweight - 1
        d = s * e + self.skewness                                                   # (8)
        near = (np.abs(e) <= 0.5) & (np.abs(d) <= 1)
        d, e = np.where(near, d, 0), np.where(near, e, 0)
        r_v = tanh * np.sinh(d) + 2 * np.sinh(d / 2) ** 2                           # (8)
        r_A = math.sqrt(5) / 2 * np.sinh(A * e) + 2 * np.sinh(A * e / 2) ** 2       # (9)
        return np.where(near, np.log1p(e) + np.log1p(r_v) - np.log1p(r_A), elsewhere)           # (7)

    def slope(self, z):
        _, _, _, h, N = self.letters_at(z)
        c = h / np.sqrt(np.hypot(1, z))                                             # (5)
        return c * N * c                                                            # (5)

    # -- inverse ------------------------------------------------------------------------------------------------------

    def inverse(self, x):
        _, T, _, _ = self.place(x)
        return np.sinh(T - self.skewness)                                           # (11)

    def place(self, x):
        """y, T, delta, and marks of the events where (13) is used."""
        t, K = self.tailweight, np.exp(A * self.tailweight / 2)                     # (10)
        share = -np.expm1(-2 * A * t)
        y = np.where(x == 0, x, x / 4 * K * (share * K))                            # (10)
        delta = np.log(np.abs(x) / 2) + np.log(share * (1 + np.hypot(1, 1 / y)) / 2)            # (14)
        shallow = x * (A / 2) * E(2 * A * t) * K * K * np.where(y == 0, 1, np.arcsinh(y) / y)   # (12)
        far = (t > 1) & (np.abs(y) >= 1)
        T = np.where(t <= 1, shallow, np.where(far, np.copysign(A + delta / t, x), np.arcsinh(y) / t))          # (11) (13)
        return y, T, delta, far

    def scales(self, x, y):
        """M and C."""
        t, inside = self.tailweight, np.abs(y) < 1
        M = np.where(inside, A / 2 * E(2 * A * t) / np.hypot(1, y), 1 / (t * np.hypot(1, 1 / y)))       # (16) (17)
        return M, np.where(inside, np.exp(A * t / 2), 1 / np.sqrt(np.abs(x)))       # (16) (17)

    def inverse_and_log_det(self, x):
        y, T, _, _ = self.place(x)
        M, _ = self.scales(x, y)
        p = T - self.skewness                                                       # (11)
        H = (1 + np.exp(-2 * np.abs(p))) / 2                                        # (15)
        rest = np.where(np.abs(y) < 1, A * self.tailweight, -np.log(np.abs(x)))
        elsewhere = np.abs(p) + np.log(H * M) + rest                                # (18) (19)
        return np.sinh(p), -self.near_identity(np.tanh(p), T, -elsewhere)

    # -- reverse ------------------------------------------------------------------------------------------------------

    def vjp(self, z):
        t, w = self.tailweight, np.hypot(1, z)
        s, v, X, h, N = self.letters_at(z)
        c, tanh, phi_A = h / np.sqrt(w), np.tanh(v), phi(A * t)                     # (5)

        def pullback(x_bar, log_det_bar):
            z_bar = x_bar * c * N * c + log_det_bar * (t * tanh - z / w) / w        # (22)
            k_bar = x_bar * h * N * h + log_det_bar * t * tanh                      # (23)
            grown = x_bar * (phi(v) - phi_A) / t * h * X * h
            t_bar = grown + log_det_bar * (v * tanh - phi_A) / t                    # (24)
            return z_bar, {"skewness": k_bar, "tailweight": t_bar}

        return (X * h * h, self.log_slope(z, s, N)), pullback                       # (4)

    def inverse_vjp(self, x):
        t = self.tailweight
        y, T, delta, far = self.place(x)
        M, C = self.scales(x, y)
        p, v, phi_A = T - self.skewness, T * t, phi(A * t)                          # (11)
        g, H = np.exp(np.abs(p) / 2), (1 + np.exp(-2 * np.abs(p))) / 2              # (15)
        tanh, rho = np.tanh(p), np.copysign(1 / np.hypot(1, 1 / y), y)              # (25)
        less = np.where(far, f(A * t) - f(v) - delta, phi_A - phi(v))               # (29)
        R = T * np.where(v == 0, 1, rho / v) * less / t                             # (25)

        def pullback(z_bar, log_det_bar):
            x_bar = z_bar * (g * C) * H * M * (g * C) + log_det_bar * (tanh - t * rho) * C * M * C      # (15) (26)
            k_bar = -z_bar * g * H * g - log_det_bar * tanh                         # (27)
            bent = log_det_bar * (phi_A / (1 + y * y) - rho * rho) / t
            t_bar = z_bar * R * g * H * g + log_det_bar * tanh * R + bent           # (28)
            return x_bar, {"skewness": k_bar, "tailweight": t_bar}

        return self.inverse_and_log_det(x), pullback

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
        case("Skewed", "arsinh z and the skewness cancel", z=[-30.0, -np.sinh(4.0)], x=[1e-9, 0.5], skewness=4.0, tailweight=0.5),
        case("Zero", "both sines are 0 together", z=[0.0], x=[0.0], skewness=0.0, tailweight=2.5),
    )


def E(y):
    """(1 - exp(-y))/y for y >= 0."""
    return np.where(y == 0, 1, -np.expm1(-y) / y)                                   # (3)


def f(a):
    """a coth a - |a|."""
    return 2 * np.abs(a) / np.expm1(2 * np.abs(a))                                  # (21)


def phi(a):
    """a coth a - 1."""
    square, below = np.minimum(a * a, 1), np.abs(a) < 1
    quotient = np.zeros_like(square)
    for odd in range(23, 1, -2):
        quotient = square / (odd + quotient)                                        # (20)
    return np.where(below, quotient, np.abs(a) - 1 + f(a))                          # (21)
