r"""Increasing polynomial in Bernstein's basis on `[-B, B]`, its tangents beyond, `R -> R`.

With coefficients `theta_0 < ... < theta_K` and the place of `z` in the interval, `B = bound`,
    s = (z + B)/(2 B),   t = (B - z)/(2 B)                                          (1)
    b_i^(K) = C(K, i) s^i t^(K-i),   C(K, i) = prod_(j<=i) (K - j + 1)/j            (2)
    x = sum_i theta_i b_i^(K)                                                       (3)
    dx/dz = g = K/(2 B) sum_i D_i b_i^(K-1),   D_i = theta_(i+1) - theta_i          (4)
The basis is positive and sums to 1, and the derivative is a sum of positive terms.  Beyond the interval, with the place `s`, `t`
of the nearer end and the distance `e` of `z` from it, negative below,
    x = sum_i theta_i b_i^(K) + g e                                                 (5)
    log|dx/dz| = log g                                                              (6)
The second derivative jumps at the ends, which belong to the interval.

Inverse: beyond the coefficients `theta_0` and `theta_K`, which are the images of the ends, (5) is solved by
    z = -B + (x - theta_0)/g   for x < theta_0,   z = B + (x - theta_K)/g   for x > theta_K         (7)
Within, `s` is the root of
    sum_i (theta_i - theta_0) b_i^(K) = x - theta_0                                 (8)
in `[0, 1/2]`, found by a bracketing solver, if its left side is not below its right side at 1/2; else `t` is the root of the same
equation for `theta_K - theta_(K-i)` and `theta_K - x`.  Both sides vanish at the end, so that the distance from it keeps its digits:
    z = -B + 2 B s,   z = B - 2 B t                                                 (9)

Reverse rule.  In the difference of neighbours of the basis, which is `b_i' / K`, the zero at `s = i/K` is a factor:
    d_i = b_(i-1)^(K-1) - b_i^(K-1) = -t^(K-1)                                   for i = 0
                                    = s^(K-1)                                    for i = K
                                    = C(K, i) s^(i-1) t^(K-1-i) (i - K s)/K      elsewhere          (10)
    i - K s = ((2 i - K) B - K z)/(2 B)                                             (11)
The derivative of the log-det, 0 beyond the interval, has the second differences of the coefficients:
    dg/dz = K (K - 1)/(2 B)^2 sum_i (D_(i+1) - D_i) b_i^(K-2)                       (12)
    z_bar = x_bar g + l_bar (dg/dz)/g                                               (13)
    theta_i_bar = x_bar (b_i^(K) + K/(2 B) d_i e) + l_bar K/(2 B) d_i/g             (14)
with `l_bar = log_det_bar`, and for the inverse map, whose `s` and `t` are both known,
    i - K s = i t - (K - i) s                                                       (15)
    x_bar = (z_bar - l_bar (dg/dz)/g)/g                                             (16)
    theta_i_bar = -z_bar (b_i^(K) + K/(2 B) d_i e)/g + l_bar q_i                    (17)
    q_i = -K/(2 B) d_i/g                                         beyond the interval        (18)
        = -d(b_i^(K)/g)/dz = (b_i^(K)/g) sum_j r_j ((j - i)/s + (j + 1 - i)/t)/(2 B),
    r_j = D_j b_j^(K-1) / sum_k D_k b_k^(K-1)                    within it          (19)
The quotient rule would subtract terms that nearly cancel; in (19) only terms of `j < i` and `j >= i` have opposite signs.

Certified where events and parameters are moderate, `2^-4` to `2^4`, and at the hard cases.

Source: Ramasinghe, Fernando, Khan and Barnes, Robust normalizing flows using Bernstein-type polynomials, arXiv:2102.03509.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Bijector, bijector, case, increasing, plain, real
from .solve import increasing_root


@bijector(source="arXiv:2102.03509", domain=real, codomain=real, increasing=True, solver=True, moderate=True)
class BernsteinPolynomial(Bijector):
    """x = sum_i coefficients_i b_i((z + bound)/(2 bound)), linear beyond [-bound, bound]; the inverse uses a bracketing solver.

    The coefficients have shape (*batch, K+1).  Raises ValueError for K < 1 and unless bound > 0.
    """

    coefficients: Array = increasing("K+1")
    bound: float = plain(5.0)
    event_ndim = (0, 0)
    terms = property(lambda self: self.coefficients.shape[-1])      # in its sums
    degree = property(lambda self: self.coefficients.shape[-1] - 1)

    def _validate(self):
        given = self.bound
        if isinstance(given, bool) or not isinstance(given, (int, float, np.integer, np.floating)) or not 0 < given < np.inf:
            raise ValueError(f"BernsteinPolynomial: bound must be a positive number, not {given!r}")
        self._set("bound", float(given))
        super()._validate()
        if self.degree < 1:
            raise ValueError("BernsteinPolynomial: coefficients must be at least 2")

    @staticmethod
    def definition(m, z, coefficients, bound):
        K = len(coefficients) - 1
        inside = -m.mpf(bound) if z < -bound else m.mpf(bound) if z > bound else z
        s, t = (inside + bound) / (2 * m.mpf(bound)), (bound - inside) / (2 * m.mpf(bound))         # (1)
        x = sum(math.comb(K, i) * s ** i * t ** (K - i) * c for i, c in enumerate(coefficients))    # (2) (3)
        slope = sum(math.comb(K - 1, i) * s ** i * t ** (K - 1 - i) * (coefficients[i + 1] - coefficients[i])
                    for i in range(K)) * K / (2 * m.mpf(bound))                     # (4)
        return x if -bound <= z <= bound else x + slope * (z - inside)              # (5)

    def breaks(self):
        """The ends of the interval, where the second derivative jumps; the derivative there is the polynomial's."""
        return np.array([-self.bound, self.bound])

    # -- the basis ----------------------------------------------------------------------------------------------------

    def place(self, z):
        """s, t, e, and z in the interval."""
        inside = np.clip(z, -self.bound, self.bound)
        return (inside + self.bound) / (2 * self.bound), (self.bound - inside) / (2 * self.bound), z - inside, inside       # (1)

    def rate(self, s, t):
        """g."""
        return combined(np.diff(self.coefficients), s, t) * (self.degree / (2 * self.bound))        # (4)

    # -- forward ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        s, t, e, _ = self.place(z)
        beyond = np.where(e == 0, 0, self.rate(s, t) * e)
        return combined(self.coefficients, s, t) + beyond                           # (3) (5)

    def log_det(self, z):
        s, t, _, _ = self.place(z)
        return np.log(self.rate(s, t))                                              # (6)

    def slope(self, z):
        s, t, _, _ = self.place(z)
        return self.rate(s, t)                                                      # (4)

    # -- inverse ------------------------------------------------------------------------------------------------------

    def root(self, x):
        """(z, s, t, e), with s or t as accurate as the distance of the image from its end."""
        c = np.broadcast_to(self.coefficients, x.shape + self.coefficients.shape[-1:])
        inside, flat = np.clip(x, c[..., 0], c[..., -1]).reshape(-1), c.reshape(-1, c.shape[-1])
        up, down = flat - flat[:, :1], (flat[:, -1:] - flat)[:, ::-1]               # (8)
        half = np.full(inside.shape, 0.5, x.dtype)
        left = combined(up, half, half) >= inside - flat[:, 0]
        rises = np.where(left[:, None], up, down)
        level = np.where(left, inside - flat[:, 0], flat[:, -1] - inside)           # (8)

        def function(v, i):
            return combined(rises[i], v, 1 - v) - level[i]                          # (8)

        v = increasing_root(function, np.zeros_like(half), np.maximum(half, half * (function(half, np.arange(half.size)) < 0) * 2))
        s, t = (w.reshape(x.shape) for w in (np.where(left, v, 1 - v), np.where(left, 1 - v, v)))
        width, g = 2 * self.bound, self.rate(s, t)
        e = np.where(x < c[..., 0], x - c[..., 0], np.where(x > c[..., -1], x - c[..., -1], 0)) / g     # (7)
        return np.where(left.reshape(x.shape), -self.bound + width * s, self.bound - width * t) + e, s, t, e    # (7) (9)

    def inverse(self, x):
        return self.root(x)[0]

    def inverse_and_log_det(self, x):
        z, s, t, _ = self.root(x)
        return z, -np.log(self.rate(s, t))                                          # (6)

    # -- reverse ------------------------------------------------------------------------------------------------------

    def vjp(self, z):
        s, t, e, inside = self.place(z)
        i = np.arange(self.degree + 1, dtype=z.dtype)
        zero = ((2 * i - self.degree) * self.bound - self.degree * inside[..., None]) / (2 * self.bound)    # (11)
        g, bent, through, to_slope = self.derivatives(s, t, e, zero)

        def pullback(x_bar, log_det_bar):
            z_bar = x_bar * g + log_det_bar * bent / g                              # (13)
            theta_bar = x_bar[..., None] * through + (log_det_bar / g)[..., None] * to_slope        # (14)
            return z_bar, {"coefficients": theta_bar}

        return self.forward_and_log_det(z), pullback

    def derivatives(self, s, t, e, zero):
        """g, dg/dz, and the derivatives of x and g with respect to the coefficients; `zero` is (11)."""
        K, width = self.degree, 2 * self.bound
        bent = combined(np.diff(self.coefficients, 2), s, t) * (K * (K - 1) / width**2) if K > 1 else np.zeros_like(s)      # (12)
        to_slope = neighbours(K, s, t, zero) * (K / width)
        return self.rate(s, t), np.where(e == 0, bent, 0), basis(K, s, t) + e[..., None] * to_slope, to_slope

    def inverse_vjp(self, x):
        z, s, t, e = self.root(x)
        i = np.arange(self.degree + 1, dtype=x.dtype)
        zero = i * t[..., None] - (self.degree - i) * s[..., None]                  # (15)
        g, bent, through, to_slope = self.derivatives(s, t, e, zero)
        within = ((s > 0) & (t > 0) & (e == 0))[..., None]
        q = np.where(within, self.bent_shares(s, t, g), -to_slope / g[..., None] + (bent / g / g)[..., None] * through)     # (18)

        def pullback(z_bar, log_det_bar):
            x_bar = (z_bar - log_det_bar * bent / g) / g                            # (16)
            theta_bar = -(z_bar / g)[..., None] * through + log_det_bar[..., None] * q      # (17)
            return x_bar, {"coefficients": theta_bar}

        return (z, -np.log(g)), pullback                                            # (6)

    def bent_shares(self, s, t, g):
        """(19)."""
        K, s, t = self.degree, s[..., None], t[..., None]
        i, j = np.arange(K + 1, dtype=s.dtype)[:, None], np.arange(K, dtype=s.dtype)
        r = np.diff(self.coefficients) * basis(K - 1, s[..., 0], t[..., 0])
        r = (r / r.sum(-1, keepdims=True))[..., None, :]                            # (19)
        sums = (r * ((j - i) / s[..., None] + (j + 1 - i) / t[..., None])).sum(-1) / (2 * self.bound)
        return basis(K, s[..., 0], t[..., 0]) / g[..., None] * sums                 # (19)

    @classmethod
    def examples(cls, source):
        K = source.choice((1, 2, 3))
        return cls(increasing.draw(source, (K + 1,)), source.choice((1.0, 5.0))), ()

    hard_cases = (
        case("Line", "K = 1: the log-det is constant, and the tangents continue it", z=[0.25, -7.0, 9.0], x=[0.5, -3.0, 4.0],
             coefficients=[-1.0, 2.0], bound=5.0),
        case("Ends", "the polynomial meets its tangents", z=[-5.0, 5.0, np.nextafter(5, 6)], x=[-2.0, 3.0, np.nextafter(3, 4)],
             coefficients=[-2.0, -0.5, 0.0, 3.0], bound=5.0),
        case("EndAtZero", "x is 0 at an end: the root keeps the digits of its distance from it", z=[-1.0 + 2.0**-50],
             x=[1e-12, 1e-9], coefficients=[0.0, 1.0, 4.0], bound=1.0),
        case("Middle", "a cotangent vanishes where s = i/K", z=[1e-20, 0.0], x=[0.5], coefficients=[-1.0, 0.5, 1.0], bound=1.0),
        case("Flat", "the slope is small at an end", z=[-1.0, -0.999], x=[1e-6], coefficients=[0.0, 1e-6, 1.0], bound=1.0),
    )


def basis(K, s, t):
    """b_i^(K), along a last axis."""
    i = np.arange(K + 1, dtype=s.dtype)
    binomials = np.array([math.comb(K, k) for k in range(K + 1)], s.dtype)
    return binomials * s[..., None] ** i * t[..., None] ** (K - i)                  # (2)


def combined(coefficients, s, t):
    """sum_i c_i b_i."""
    return (coefficients * basis(coefficients.shape[-1] - 1, s, t)).sum(-1)


def neighbours(K, s, t, zero):
    """d_i, with i - K s in `zero`."""
    s, t, i = s[..., None], t[..., None], np.arange(K + 1, dtype=s.dtype)
    binomials = np.array([math.comb(K, k) for k in range(K + 1)], s.dtype)
    middle = binomials / K * s ** np.maximum(i - 1, 0) * t ** np.maximum(K - 1 - i, 0) * zero       # (10)
    return np.where(i == 0, -t ** (K - 1), np.where(i == K, s ** (K - 1), middle))  # (10)
