r"""Radial flow, `R^D -> R^D`: each event moves towards a centre or away from it, the more the nearer it is.

The map.  With a centre, a number `alpha > 0` and a slack `c > 0`,
    x = z + q y,   q = (c - alpha)/A,   y = z - centre,   A = alpha + r,   r = sqrt(y^T y)          (1)
The source writes `beta = c - alpha`.  The slack says by how much `beta` exceeds `-alpha`.  Because it does, (1) is invertible: the
distance from the centre becomes `g r`, which increases with `r` at the slope `d > 0`.  With the direction `n = y/r`,
    dx/dz = g (I - n n^T) + d n n^T,   g = 1 + q,   d = 1 + q alpha/A               (2)
    log|det dx/dz| = (D - 1) log g + log d                                          (3)
For the inverse map, the distance `R` of `x` is `g r = r (c + r)/(alpha + r)`, a quadratic equation with one positive root:
    r = (R - c + sqrt((R - c)^2 + 4 alpha R))/2,   R = sqrt(e^T e),   e = x - centre                (4)
    z = centre + e/g                                                                (5)
    log|det dz/dx| = -(D - 1) log g - log d                                         (6)
At the centre, the graph of the log-det has the tip of a cone, so there is no derivative; there `n = 0` is taken.

The reverse rule.  With the part `X = n^T x_bar` along `n` and the rest `o = x_bar - X n`, with the cotangent `l_bar` of (3) and
its derivative `m` by `r`,
    m = -q ((D - 1)/g + 2 alpha/(A d))/A                                            (7)
    z_bar = g o + (d X + l_bar m) n                                                 (8)
    centre_bar = -q o - ((d - 1) X + l_bar m) n                                     (9)
    c_bar = r X/A + l_bar ((D - 1)/g + alpha/(A d))/A                               (10)
    alpha_bar = -g r X/A - l_bar (D - 1 + (2 alpha r + c (alpha - r))/(A^2 d))/A    (11)
For the inverse map, `dr = (A dR - r dc + g r dalpha)/(A d)`, so that with `X = n^T z_bar`, `o = z_bar - X n` and the cotangent
`l_bar` of (6),
    x_bar = o/g + ((X - l_bar m)/d) n                                               (12)
    centre_bar = (q/g) o + (((d - 1) X + l_bar m)/d) n                              (13)
    c_bar = -r X/(A d) - l_bar ((D - 1)/d + alpha (r^2 + 2 c r + alpha c)/(A^3 d^2))/A              (14)
    alpha_bar = g r X/(A d) + l_bar ((D - 1) g/d + w/(A^3 d^2))/A,   w = alpha (2 r^2 + 2 c r + c^2) - c r^2    (15)
In (14) and (15), the derivatives of (3) by `r` and by the field are written as one term, because their sum would cancel.
The unit of error is normwise: (2) adds a part along `n` and a part across it.

Source: Rezende and Mohamed, Variational Inference with Normalizing Flows, arXiv:1505.05770, section 4.1, without an
inverse; Bijectors.jl has one.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, positive, real
from ..constrained.stereographic import length


class textbook:
    """(1) to (15) as they are printed, for one event."""

    def letters(r, alpha, slack):
        """A, q, g and d."""
        A = alpha + r                                                               # (1)
        q = (slack - alpha) / A                                                     # (1)
        return A, q, 1 + q, 1 + q * alpha / A                                       # (2)

    def distance(x, centre, alpha, slack):
        R = np.sqrt(np.sum((x - centre) ** 2))                                      # (4)
        return (R - slack + np.sqrt((R - slack) ** 2 + 4 * alpha * R)) / 2          # (4)

    def forward(z, centre, alpha, slack):
        y = z - centre                                                              # (1)
        return z + textbook.letters(np.sqrt(np.sum(y**2)), alpha, slack)[1] * y     # (1)

    def inverse(x, centre, alpha, slack):
        _, _, g, _ = textbook.letters(textbook.distance(x, centre, alpha, slack), alpha, slack)
        return centre + (x - centre) / g                                            # (5)

    def jacobian(z, centre, alpha, slack):
        y = z - centre                                                              # (1)
        r = np.sqrt(np.sum(y**2))                                                   # (1)
        (_, _, g, d), n = textbook.letters(r, alpha, slack), y / r
        return np.array([[g * ((i == j) - n[i] * n[j]) + d * n[i] * n[j] for j in range(len(z))] for i in range(len(z))])    # (2)

    def sum_of_logarithms(r, D, alpha, slack):
        _, _, g, d = textbook.letters(r, alpha, slack)
        return (D - 1) * np.log(g) + np.log(d)                                      # (3)

    def log_det(z, centre, alpha, slack):
        return textbook.sum_of_logarithms(np.sqrt(np.sum((z - centre) ** 2)), len(z), alpha, slack)

    def inverse_log_det(x, centre, alpha, slack):
        return -textbook.sum_of_logarithms(textbook.distance(x, centre, alpha, slack), len(x), alpha, slack)    # (6)

    def vjp(z, centre, alpha, slack, x_bar, l_bar):
        y, D, c = z - centre, len(z), slack
        r = np.sqrt(np.sum(y**2))                                                   # (1)
        (A, q, g, d), n = textbook.letters(r, alpha, c), y / r
        X = n @ x_bar
        o, m = x_bar - X * n, -q * ((D - 1) / g + 2 * alpha / (A * d)) / A          # (7)
        centre_bar = -q * o - ((d - 1) * X + l_bar * m) * n                         # (9)
        c_bar = r * X / A + l_bar * ((D - 1) / g + alpha / (A * d)) / A             # (10)
        alpha_bar = -g * r * X / A - l_bar * (D - 1 + (2 * alpha * r + c * (alpha - r)) / (A**2 * d)) / A       # (11)
        return g * o + (d * X + l_bar * m) * n, {"centre": centre_bar, "alpha": alpha_bar, "slack": c_bar}      # (8)

    def inverse_vjp(x, centre, alpha, slack, z_bar, l_bar):
        r, e, D, c = textbook.distance(x, centre, alpha, slack), x - centre, len(x), slack
        (A, q, g, d), n = textbook.letters(r, alpha, c), e / np.sqrt(np.sum(e**2))
        X = n @ z_bar
        o, m = z_bar - X * n, -q * ((D - 1) / g + 2 * alpha / (A * d)) / A          # (7)
        centre_bar = q / g * o + ((d - 1) * X + l_bar * m) / d * n                  # (13)
        c_bar = -r * X / (A * d) - l_bar * ((D - 1) / d + alpha * (r**2 + 2 * c * r + alpha * c) / (A**3 * d**2)) / A       # (14)
        w = alpha * (2 * r**2 + 2 * c * r + c**2) - c * r**2                        # (15)
        alpha_bar = g * r * X / (A * d) + l_bar * ((D - 1) * g / d + w / (A**3 * d**2)) / A     # (15)
        return o / g + (X - l_bar * m) / d * n, {"centre": centre_bar, "alpha": alpha_bar, "slack": c_bar}      # (12)


r"""In floating point.

In (1), `y^T y` overflows where `r` does not, and `z + q y` cancels for `q` near -1.  `y` is divided by its largest entry before its
length is taken, and
    x = centre + g y    for |q| > 1/2                                               (16)
In (5), likewise, the centre may be far larger than `z`:
    z = x - (q/g) e    for |q| <= 1/2                                               (17)

In (2), `1 + q` cancels for a small `c`, and powers of `A` overflow in (7) to (15).  With the ratios of all numbers to `A`,
    rho = r/A,   tau = alpha/A,   gamma = c/A                                       (18)
    g = rho + gamma,   d = rho (1 + tau) + tau gamma,   d - 1 = q tau               (19)
and all of (7) to (15) is written in them.

In (7), (9) and (13), `q` may be subnormal where its product with a cotangent is not:
    q X = (c - alpha) X/A                                                           (20)

In (3), rounded `g` and `d` near 1 have few digits of their logarithms:
    log g = log1p(q)    for |q| <= 1/2,   log d = log1p(q tau)    for |q tau| <= 1/2                (21)

In (4), the root cancels for `R < c`, and its squares overflow.  With `S = hypot(R - c, 2 sqrt(R) sqrt(alpha))`,
    r = (R - c)/2 + S/2                 for R >= c
      = R (2 alpha/(c - R + S))         for R <  c                                  (22)
"""


@bijector(source="arXiv:1505.05770", domain=real, codomain=real, normwise=True, textbook=textbook)
class Radial(Bijector):
    """x = z + (slack - alpha)/(alpha + r) (z - centre), where r is the distance of z from the centre; the inverse is a formula.

    z and x are (*batch, D), the centre is (D,), alpha and the slack are numbers > 0.  The source's beta is `slack - alpha`.
    """

    centre: Array = real("D")
    alpha: Array = positive()
    slack: Array = positive()
    event_ndim = (1, 1)

    @staticmethod
    def inverse_definition(m, x, centre, alpha, slack):
        e = [x_i - centre_i for x_i, centre_i in zip(x, centre)]                    # (4)
        R = m.sqrt(sum(e_i * e_i for e_i in e))                                     # (4)
        r = (R - slack + m.sqrt((R - slack) * (R - slack) + 4 * alpha * R)) / 2     # (4)
        return [centre_i + e_i * (alpha + r) / (slack + r) for centre_i, e_i in zip(centre, e)]         # (5)

    def breaks(self):
        """The centre for D = 1; NaN for D > 1, where the log-det has a cone and no entry of z alone tells of it."""
        return self.centre[..., None] if self.dims["D"] == 1 else np.full(1, np.nan)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.of_latent(z).image(z)

    def log_det(self, z):
        return self.of_latent(z).log_det()

    def forward_and_log_det(self, z):
        v = self.of_latent(z)
        return v.image(z), v.log_det()

    def jacobian(self, z):
        v = self.of_latent(z)
        along = v.n[..., :, None] * v.n[..., None, :]
        return v.g[..., None] * (np.eye(z.shape[-1], dtype=z.dtype) - along) + v.d[..., None] * along       # (2)

    def inverse_and_log_det(self, x):
        v = self.of_image(x)
        return v.latent(x), -v.log_det()                                            # (6)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.of_latent(z)

        def pullback(x_bar, log_det_bar):
            X, o, l_bar, K = *v.parts(x_bar), log_det_bar[..., None], v.across  # type: ignore[misc]
            of_l = v.times_q(l_bar) * (-K / v.g - 2 * v.tau / v.d) / v.A            # (7) (18) (20)
            z_bar = v.g * o + (v.d * X + of_l) * v.n                                # (8)
            centre_bar = -v.times_q(o) - (v.times_q(X) * v.tau + of_l) * v.n        # (9) (19) (20)
            c_bar = v.rho * X + l_bar * (K / v.g + v.tau / v.d) / v.A               # (10) (18)
            bend = 2 * v.tau * v.rho + v.gamma * (v.tau - v.rho)                    # (18)
            alpha_bar = -v.g * v.rho * X - l_bar * (K + bend / v.d) / v.A           # (11) (18)
            return z_bar, {"centre": centre_bar, "alpha": alpha_bar[..., 0], "slack": c_bar[..., 0]}

        return (v.image(z), v.log_det()), pullback

    def inverse_vjp(self, x):
        v = self.of_image(x)

        def pullback(z_bar, log_det_bar):
            X, o, l_bar, K = *v.parts(z_bar), log_det_bar[..., None], v.across  # type: ignore[misc]
            of_l = v.times_q(l_bar) * (-K / v.g - 2 * v.tau / v.d) / v.A            # (7) (18) (20)
            x_bar = o / v.g + (X - of_l) / v.d * v.n                                # (12)
            centre_bar = v.times_q(o) / v.g + (v.times_q(X) * v.tau + of_l) / v.d * v.n         # (13) (19) (20)
            bend = v.tau * (v.rho * v.rho + 2 * v.gamma * v.rho + v.tau * v.gamma) / v.d        # (18)
            c_bar = -v.rho * X / v.d - l_bar * (K + bend) / v.d / v.A               # (14) (18)
            rise = v.tau * (2 * v.rho * v.rho + 2 * v.gamma * v.rho + v.gamma * v.gamma)        # (18)
            bend = (rise - v.gamma * v.rho * v.rho) / v.d                           # (18)
            alpha_bar = v.g * v.rho * X / v.d + l_bar * (K * v.g + bend) / v.d / v.A            # (15) (18)
            return x_bar, {"centre": centre_bar, "alpha": alpha_bar[..., 0], "slack": c_bar[..., 0]}

        return (v.latent(x), -v.log_det()), pullback                                # (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    def of_latent(self, z):
        y = z - self.centre                                                         # (1)
        return Letters(self, y, *length(y))

    def of_image(self, x):
        e = x - self.centre                                                         # (4)
        R, n = length(e)
        alpha, c = self.alpha[..., None], self.slack[..., None]
        S = np.hypot(R - c, 2 * np.sqrt(R) * np.sqrt(alpha))                        # (22)
        r = np.where(R >= c, (R - c) / 2 + S / 2, R * (2 * alpha / (np.maximum(c - R, 0) + S)))         # (4) (22)
        return Letters(self, e, r, n)

    hard_cases = (
        case("Line", "D = 1: nothing lies across", z=[[2.0], [-0.5]], x=[[2.0], [-0.5]], centre=[0.5], alpha=1.0, slack=0.25),
        case("Identity", "slack = alpha: the identity", z=[[1.0, -2.0]], x=[[1.0, -2.0]], centre=[0.5, 0.5], alpha=1.5, slack=1.5),
        case("NearlyIdentity", "the log-det is a small number", z=[[1.0, -2.0, 0.5]], x=[[1.0, -2.0, 0.5]], centre=[0.5, 0.5, 0.0],
             alpha=1.5, slack=1.5 + 2.0**-20),
        case("Collapsing", "q is nearly -1: near the centre, z + q y loses all digits", z=[[2.0**-10, 2.0**-12], [1.0, 2.0]],
             x=[[2.0**-30, 2.0**-31], [1.0, 2.0]], centre=[0.0, 0.0], alpha=1.0, slack=2.0**-20),
        case("Far", "the centre is far larger than z: (5) loses all digits, (17) none", z=[[0.5, -0.25]], x=[[0.5, -0.25]],
             centre=[2.0**20, 2.0**19], alpha=1.0, slack=2.0),
        case("Wide", "squares overflow", z=[[2.0**100, -(2.0**99)], [2.0**700, 1.0]], x=[[2.0**100, -(2.0**99)], [2.0**700, 1.0]],
             centre=[1.0, -1.0], alpha=2.0, slack=0.5),
        case("Near", "squares underflow", z=[[2.0**-120, 2.0**-121], [2.0**-700, 0.0]], x=[[2.0**-120, 2.0**-121], [2.0**-700, 0.0]],
             centre=[0.0, 0.0], alpha=2.0, slack=0.5),
        case("Join", "R = c: the two forms of (22) meet", x=[[3.0, 4.0], [3.0, np.nextafter(4, 0)]], centre=[0.0, 0.0], alpha=0.5,
             slack=5.0),
        case("Fallen", "q is large, q tau is small: the log-det is a small number", z=[[1.5], [3.0]], x=[[9.0], [20.0]],
             centre=[0.0], alpha=2.0**-20, slack=4.0),
        case("Switch", "|q| = 1/2: the two forms of (16) and of (21) meet", z=[[1.0, 0.0], [0.0, np.nextafter(1, 2)]],
             x=[[0.5, 0.0], [0.0, np.nextafter(0.5, 1)]], centre=[0.0, 0.0], alpha=1.0, slack=2.0**-20),
    )


class Letters:
    """The letters at an event: its difference from the centre, r, and its direction n; numbers have a last axis of 1."""

    def __init__(self, f, difference, r, n):
        alpha, c = f.alpha[..., None], f.slack[..., None]
        self.centre, self.difference, self.n, self.across = f.centre, difference, n, n.dtype.type(n.shape[-1] - 1)
        self.A = alpha + r                                                          # (1)
        self.rho, self.tau, self.gamma = r / self.A, alpha / self.A, c / self.A     # (18)
        self.beta = c - alpha
        self.q = self.beta / self.A                                                 # (1)
        self.g = self.rho + self.gamma                                              # (2) (19)
        self.d = self.rho * (1 + self.tau) + self.tau * self.gamma                  # (2) (19)
        self.near = np.abs(self.q) <= 0.5

    def image(self, z):
        return np.where(self.near, z + self.q * self.difference, self.centre + self.g * self.difference)        # (1) (16)

    def latent(self, x):
        return np.where(self.near, x - self.q / self.g * self.difference, self.centre + self.difference / self.g)       # (5) (17)

    def log_det(self):
        return (self.across * log_1_plus(self.q, self.g) + log_1_plus(self.q * self.tau, self.d))[..., 0]      # (3) (21)

    def times_q(self, bar):
        return self.beta * bar / self.A                                             # (20)

    def parts(self, bar):
        """X and o."""
        X = (self.n * bar).sum(-1, keepdims=True)
        return X, bar - X * self.n


def log_1_plus(q, g):
    """log g for g = 1 + q."""
    near = np.abs(q) <= 0.5
    return np.where(near, np.log1p(np.where(near, q, 0)), np.log(g))                # (21)
