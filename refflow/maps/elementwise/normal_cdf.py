r"""Normal cumulative distribution function, `R -> (0, 1)`.

With the standard normal density `phi(t) = exp(-t^2/2)/sqrt(2 pi)` and its integral `Phi`:
    t = d/scale,   d = z - loc,   scale > 0                                         (1)
    x = Phi(t)                                                                      (2)
      = h^2 M(-t)/sqrt(2 pi),     h = exp(-(t/2)^2)     far below                   (3)
    z = loc + scale Phi^-1(x)                                                       (4)
    dx/dz = phi(t)/scale = h^2/(sqrt(2 pi) scale)                                   (5)
    log|dx/dz| = -t^2/2 - log(sqrt(2 pi) scale)                                     (6)

Far below, from -37 (-12 in float32), the library's `Phi` is subnormal.  In (3) and (5) each `h` holds half of the exponent,
because a product `h (h c)` keeps its digits as long as it does not underflow: `exp(-t^2/2)` and the library's `Phi` become
subnormal, or 0, before they meet the factor that makes them larger. For the same reason `t^2/2` in (6) is `t (t/2)`, and
everything below is written in `d`, which is finite where `t` overflows.

Mills' ratio `M(a) = Phi(-a)/phi(a)` is the integral of `(2/pi)^(1/2) exp(-s^2/2) a/(a^2 + s^2)` over `s > 0`. The midpoint
rule with step `1/2` errs by the residue at its pole `s = i a`, and by `e^-79` otherwise:
    M(a) = sum_k w_k/(a + s_k^2/a) + sqrt(2 pi) exp(a^2/2)/(1 + exp(4 pi a))        (7)
    s_k = (k + 1/2)/2,   w_k = exp(-s_k^2/2)/sqrt(2 pi),   k = 0 .. 16              (8)
Nothing in (7) cancels. The residue is below `e^-40 M` from `a = 4` on, and beyond `a = 4 pi` there is none, so it is
omitted from 4 on. (scipy.special.erfcx, the same function, errs by up to 8 units of rounding.)

The inverse's derivative scale/phi(t), `t = Phi^-1(x)`, is `exp(t^2/2)` in the centre, but in the tails that would carry `t^2`
times the error of `t`. With `p = min(x, 1 - x)`, the tail probability, which is exact:
    1/phi(t) = sqrt(2 pi) exp(t^2/2)                    for p >= 1/4                (9)
             = M(|t|)/p                                 for p <  1/4                (10)
    log|dz/dx| = log(scale/phi(t))                                                  (11)
               = log(scale M) - log p                   where scale M/p overflows   (12)
In (12) `-log p` is beyond 600 (70 in float32) and `|log(scale M)|` below 50 (20): nothing cancels.

Reverse rule, from (2), (6) and `dt/dz = -dt/dloc = 1/scale, dt/dscale = -t/scale = -d/scale^2, l = log_det`:
    z_bar     = x_bar h^2/(sqrt(2 pi) scale) - l_bar d/scale^2                      (13)
    loc_bar   = -z_bar                                                              (14)
    scale_bar = -x_bar h^2 d/(sqrt(2 pi) scale^2) + l_bar d^2/scale^3 - l_bar/scale  (15)
and for the inverse map, whose log-det has the derivative t/phi(t) in `x`, from (4) and (11):
    x_bar     = (z_bar scale + l_bar t)/phi(t)                                      (16)
    loc_bar   = z_bar                                                               (17)
    scale_bar = z_bar t + l_bar/scale                                               (18)
At the ends of (0, 1), where `t` is infinite, a cotangent 0 makes its term 0.

Source: NIST DLMF 7.1, 7.7.1 and 7.8; for (7), the trapezoidal rule with its residue, Hunter & Regan, Mathematics of
Computation 26 (1972).
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from ...core import Array, Bijector, bijector, case, interval, positive, real
from ...core.arithmetic import times

ROOT_TWO_PI = math.sqrt(2 * math.pi)
FAR = {np.dtype(np.float64): -37, np.dtype(np.float32): -12}                        # where Phi is still a normal number
NODES = [(k + 0.5) / 2 for k in range(17)]                                          # (8)
WEIGHTS = [math.exp(-s * s / 2) * math.sqrt(0.5 / math.pi) for s in NODES]          # (8)


def mills_ratio(a):
    """M(a) = Phi(-a)/phi(a) for a >= 0."""
    terms = (w / (a + s * s / a) for s, w in zip(reversed(NODES), reversed(WEIGHTS)))
    residue = ROOT_TWO_PI * np.exp(a * a / 2) / (1 + np.exp(4 * math.pi * a))
    return sum(terms) + np.where(a < 4, residue, 0)                                 # (7)


def lower_tail(t):
    """Phi(t) far below."""
    h = np.exp(-(t / 2) ** 2)
    return h * (h * (mills_ratio(-t) / ROOT_TWO_PI))                                # (3)


@bijector(source="DLMF 7.1", domain=real, codomain=interval(0, 1), increasing=True)
class NormalCDF(Bijector):
    """x = Phi((z - loc)/scale)."""

    loc: Array = real(default=0.0)
    scale: Array = positive(default=1.0)
    event_ndim = (0, 0)

    @staticmethod
    def definition(m, z, loc, scale):
        return m.ncdf((z - loc) / scale)                                            # (1) (2)

    def forward(self, z):
        return self.image((z - self.loc) / self.scale)                              # (1)

    def image(self, t):
        x = np.asarray(scipy.special.ndtr(t))                                       # (2)
        tail = np.flatnonzero(t < FAR[x.dtype])
        if tail.size:
            x.reshape(-1)[tail] = lower_tail(np.reshape(t, -1)[tail])               # (3)
        return x

    def inverse(self, x):
        return self.loc + self.scale * scipy.special.ndtri(x)                       # (4)

    def log_det(self, z):
        return self.log_slope((z - self.loc) / self.scale)                          # (1)

    def log_slope(self, t):
        log_slope = t * (t / -2)
        log_slope -= np.log(ROOT_TWO_PI * self.scale)                               # (6)
        return log_slope

    def forward_and_log_det(self, z):
        t = (z - self.loc) / self.scale                                             # (1)
        return self.image(t), self.log_slope(t)

    def slope(self, z):
        t = (z - self.loc) / self.scale                                             # (1)
        h = np.exp(-(t / 2) ** 2)
        return h / (ROOT_TWO_PI * self.scale) * h                                   # (5)

    def reciprocal_density(self, x):
        """t = Phi^-1(x), and g and p with 1/phi(t) = g/p; at the ends of (0, 1) that is inf."""
        t, p = scipy.special.ndtri(x), np.minimum(x, 1 - x)
        tail = (p < 0.25) & (p > 0)
        g = np.where(tail, mills_ratio(np.abs(t)), ROOT_TWO_PI * np.exp(t * t / 2)) # (9) (10)
        return t, g, np.where(tail, p, 1)

    def inverse_and_log_det(self, x):
        _, g, p = self.reciprocal_density(x)
        ratio = self.scale * g / p
        far = np.log(self.scale * g) - np.log(p)                                    # (12)
        return self.inverse(x), np.where(np.isfinite(ratio), np.log(ratio), far)    # (11)

    def vjp(self, z):
        d = z - self.loc                                                            # (1)
        h = np.exp(-(d / self.scale / 2) ** 2)

        def pullback(x_bar, log_det_bar):
            c = x_bar / (ROOT_TWO_PI * self.scale)
            l_1 = log_det_bar / self.scale
            l_2 = l_1 / self.scale
            z_bar = c * h * h - l_2 * d                                             # (13)
            scale_bar = l_2 / self.scale * d * d - l_1 - c / self.scale * h * (h * d)   # (15)
            return z_bar, {"loc": -z_bar, "scale": scale_bar}                       # (14)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        t, g, p = self.reciprocal_density(x)

        def pullback(z_bar, log_det_bar):
            x_bar = times(z_bar * self.scale + times(log_det_bar, t), g) / p        # (16)
            scale_bar = times(z_bar, t) + log_det_bar / self.scale                  # (18)
            return x_bar, {"loc": z_bar, "scale": scale_bar}                        # (17)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Subnormal", "x is subnormal: the library's Phi is 0 or has few digits", z=[-37.6, -38.2, -38.4],
             loc=0.0, scale=1.0),
        case("SubnormalSlope", "exp(-t^2/2) is subnormal or 0, dx/dz is not", z=[-2.0**-60 * 38.5, 2.0**-60 * 39.5],
             loc=0.0, scale=2.0**-60),
        case("Saturated", "x rounds to 1, the slope does not round to 0", z=[8.3, 20.0, 37.0], loc=0.0, scale=1.0),
        case("Overflow", "t overflows, x and the cotangents of x do not", z=[-2.0**1000, 2.0**1000], loc=0.0,
             scale=2.0**-60),
        case("LargeScale", "t^2 overflows, the log-det's gradient l d/scale^2 does not", z=[2.0**600, -2.0**900], loc=0.0,
             scale=2.0**60),
        case("Switch", "(2) and (3) meet, and the library's forms", z=[end for number in (-1.0, -1.5, -12.0, -37.0) for end in
             (np.nextafter(number, -99), number, np.nextafter(number, 0))], loc=0.0, scale=1.0),
        case("Cancels", "the library's Phi is 1/2 minus nearly as much", z=[-1.3994658318333284, -1.3368578663354023], loc=0.0,
             scale=1.0),
        case("CancelsMore", "its largest error in 150,000 draws of scale and z", z=[-2.61412635698131], loc=0.0,
             scale=1.8691485640973708),
        case("Turning", "d log-det/dscale = (t^2 - 1)/scale cancels",
             z=[np.nextafter(1, 0), 1.0, np.nextafter(1, 2)], loc=0.0, scale=1.0),
        case("Cancelling", "z and loc agree in all digits but the last", z=[np.nextafter(3, 4)], loc=3.0, scale=2.0**-50),
        case("UnitDensity", "log-det passes through 0", z=[1e-9, 0.5], loc=0.0, scale=0.3989422804014327),
        case("Tails", "1/phi(t) as exp(t^2/2) loses t^2 units; next to 0 scale M/p overflows",
             x=[5e-324, 2.0**-1022, 1e-100, np.nextafter(1, 0)], loc=0.0, scale=2.0**60),
        case("Median", "Phi^-1 passes through 0", x=[np.nextafter(0.5, 0), 0.5, np.nextafter(0.5, 1)], loc=0.0, scale=1.0),
        case("Quartiles", "(9) and (10) meet",
             x=[np.nextafter(0.25, 0), 0.25, 0.75, np.nextafter(0.75, 1)], loc=0.0, scale=1.0),
    )
