r"""Normal cumulative distribution function, `R -> (0, 1)`.

The map.  With the standard normal density `phi(t) = exp(-t^2/2)/sqrt(2 pi)` and its integral `Phi`,
    x = Phi(t),   t = (z - loc)/scale,   scale > 0                                  (1)
    z = loc + scale t,   t = Phi^-1(x)                                              (2)
    dx/dz = phi(t)/scale                                                            (3)
    log|dx/dz| = -t^2/2 - log(sqrt(2 pi) scale)                                     (4)
    log|dz/dx| = t^2/2 + log(sqrt(2 pi) scale)                                      (5)

The reverse rule.  `dt/dz = -dt/dloc = 1/scale` and `dt/dscale = -t/scale`.  With the cotangent `l_bar` of (4),
    z_bar = x_bar phi(t)/scale - l_bar t/scale                                      (6)
    loc_bar = -z_bar                                                                (7)
    scale_bar = -x_bar t phi(t)/scale + l_bar (t^2 - 1)/scale                       (8)
For the inverse map, `dt/dx = 1/phi(t)`, and with the cotangent `l_bar` of (5),
    x_bar = (z_bar scale + l_bar t)/phi(t)                                          (9)
    loc_bar = z_bar                                                                 (10)
    scale_bar = z_bar t + l_bar/scale                                               (11)

Source: NIST DLMF 7.1, 7.7.1 and 7.8; for (14), the trapezoidal rule with its residue, Hunter & Regan, Mathematics of
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
NODES = [(k + 0.5) / 2 for k in range(17)]                                          # (15)
WEIGHTS = [math.exp(-s * s / 2) * math.sqrt(0.5 / math.pi) for s in NODES]          # (15)


class textbook:
    """(1) to (11) as they are printed, for one event."""

    def phi(t):
        return np.exp(-t**2 / 2) / (2 * np.pi) ** 0.5

    def forward(z, loc, scale):
        return scipy.special.ndtr((z - loc) / scale)                                # (1)

    def inverse(x, loc, scale):
        return loc + scale * scipy.special.ndtri(x)                                 # (2)

    def slope(z, loc, scale):
        return textbook.phi((z - loc) / scale) / scale                              # (3)

    def log_det(z, loc, scale):
        t = (z - loc) / scale                                                       # (1)
        return -(t**2) / 2 - np.log((2 * np.pi) ** 0.5 * scale)                     # (4)

    def inverse_log_det(x, loc, scale):
        return scipy.special.ndtri(x) ** 2 / 2 + np.log((2 * np.pi) ** 0.5 * scale)         # (5)

    def vjp(z, loc, scale, x_bar, l_bar):
        t = (z - loc) / scale                                                       # (1)
        phi = textbook.phi(t)
        z_bar = x_bar * phi / scale - l_bar * t / scale                             # (6)
        scale_bar = -x_bar * t * phi / scale + l_bar * (t**2 - 1) / scale           # (8)
        return z_bar, {"loc": -z_bar, "scale": scale_bar}                           # (7)

    def inverse_vjp(x, loc, scale, z_bar, l_bar):
        t = scipy.special.ndtri(x)                                                  # (2)
        x_bar = (z_bar * scale + l_bar * t) / textbook.phi(t)                       # (9)
        return x_bar, {"loc": z_bar, "scale": z_bar * t + l_bar / scale}            # (10) (11)


r"""In floating point.

In (1) and (3), the library's `Phi` and `exp(-t^2/2)` are subnormal, or 0, where their product with a large factor is not.  A
product `h (h c)` keeps its digits as long as it does not underflow, so each `h` holds half of the exponent:
    Phi(t) = h^2 M(-t)/sqrt(2 pi),   h = exp(-(t/2)^2)    for t < -37 (-12 in float32)      (12)
    phi(t)/scale = h^2/(sqrt(2 pi) scale)                                           (13)
Mills' ratio `M(a) = Phi(-a)/phi(a)` is the integral of `(2/pi)^(1/2) exp(-s^2/2) a/(a^2 + s^2)` over `s > 0`.  The midpoint
rule with step `1/2` errs by the residue at the integrand's pole `s = i a`, and by `e^-79` otherwise:
    M(a) = sum_k w_k/(a + s_k^2/a) + sqrt(2 pi) exp(a^2/2)/(1 + exp(4 pi a))        (14)
    s_k = (k + 1/2)/2,   w_k = exp(-s_k^2/2)/sqrt(2 pi),   k = 0 .. 16              (15)
Nothing in (14) cancels.  From `a = 4` on, the residue, which is the last term of (14), is below `e^-40 M` and is omitted.
(`scipy.special.erfcx`, the same function up to scales, errs by up to 8 units of rounding.)

In (4), `t^2` overflows where `t^2/2` does not:
    t^2/2 = t (t/2)                                                                 (16)

In (5) and (9), `exp(t^2/2)` carries `t^2` times the relative error of `t`: too much in the tails.  With the tail probability
`p = min(x, 1 - x)`, which is exact,
    1/phi(t) = sqrt(2 pi) exp(t^2/2)                    for p >= 1/4                (17)
             = M(|t|)/p                                 for p <  1/4                (18)
    log|dz/dx| = log(scale/phi(t))                                                  (19)
               = log(scale M) - log p                   where scale M/p overflows   (20)
For a moderate scale, with `|log(scale M)|` below 50 (20 in float32), `-log p` is there beyond 600 (60 in float32): nothing cancels.

In (6) and (8), `t` may overflow where its products with cotangents do not.  `d = z - loc` is finite:
    z_bar = x_bar h^2/(sqrt(2 pi) scale) - l_bar d/scale^2                          (21)
    scale_bar = -x_bar h^2 d/(sqrt(2 pi) scale^2) + l_bar d^2/scale^3 - l_bar/scale         (22)

In (9) and (11), `t` is infinite at the ends of (0, 1): a cotangent 0 makes its term 0.                         (23)
"""


@bijector(source="DLMF 7.1", domain=real, codomain=interval(0, 1), increasing=True, symmetric=True, textbook=textbook)
class NormalCDF(Bijector):
    """x = Phi((z - loc)/scale)."""

    loc: Array = real(default=0.0)
    scale: Array = positive(default=1.0)
    event_ndim = (0, 0)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.image((z - self.loc) / self.scale)                              # (1)

    def inverse(self, x):
        return self.loc + self.scale * scipy.special.ndtri(x)                       # (2)

    def log_det(self, z):
        return self.log_slope((z - self.loc) / self.scale)                          # (1)

    def forward_and_log_det(self, z):
        t = (z - self.loc) / self.scale                                             # (1)
        return self.image(t), self.log_slope(t)

    def slope(self, z):
        t = (z - self.loc) / self.scale                                             # (1)
        h = np.exp(-(t / 2) ** 2)                                                   # (13)
        return h / (ROOT_TWO_PI * self.scale) * h                                   # (3) (13)

    def inverse_and_log_det(self, x):
        _, g, p = self.reciprocal_density(x)
        ratio = self.scale * g / p
        far = np.log(self.scale * g) - np.log(p)                                    # (20)
        return self.inverse(x), np.where(np.isfinite(ratio), np.log(ratio), far)    # (5) (19)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        d = z - self.loc                                                            # (1)
        h = np.exp(-(d / self.scale / 2) ** 2)                                      # (13)

        def pullback(x_bar, log_det_bar):
            c = x_bar / (ROOT_TWO_PI * self.scale)
            l_1 = log_det_bar / self.scale
            l_2 = l_1 / self.scale
            z_bar = c * h * h - l_2 * d                                             # (6) (21)
            scale_bar = l_2 / self.scale * d * d - l_1 - c / self.scale * h * (h * d)       # (8) (22)
            return z_bar, {"loc": -z_bar, "scale": scale_bar}                       # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        t, g, p = self.reciprocal_density(x)

        def pullback(z_bar, log_det_bar):
            x_bar = times(z_bar * self.scale + times(log_det_bar, t), g) / p        # (9) (23)
            scale_bar = times(z_bar, t) + log_det_bar / self.scale                  # (11) (23)
            return x_bar, {"loc": z_bar, "scale": scale_bar}                        # (10)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def image(self, t):
        x = np.asarray(scipy.special.ndtr(t))                                       # (1)
        tail = np.flatnonzero(t < FAR[x.dtype])
        if tail.size:
            x.reshape(-1)[tail] = lower_tail(np.reshape(t, -1)[tail])               # (12)
        return x

    def log_slope(self, t):
        log_slope = t * (t / -2)                                                    # (16)
        log_slope -= np.log(ROOT_TWO_PI * self.scale)                               # (4)
        return log_slope

    def reciprocal_density(self, x):
        """t = Phi^-1(x), and g and p with 1/phi(t) = g/p; at the ends of (0, 1) that is inf."""
        t, p = scipy.special.ndtri(x), np.minimum(x, 1 - x)
        tail = (p < 0.25) & (p > 0)
        g = np.where(tail, mills_ratio(np.abs(t)), ROOT_TWO_PI * np.exp(t * t / 2))         # (17) (18)
        return t, g, np.where(tail, p, 1)

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
        case("Switch", "(1) and (12) meet, and the library's forms", z=[end for number in (-1.0, -1.5, -12.0, -37.0) for end in
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
        case("Quartiles", "(17) and (18) meet",
             x=[np.nextafter(0.25, 0), 0.25, 0.75, np.nextafter(0.75, 1)], loc=0.0, scale=1.0),
    )


def mills_ratio(a):
    """M(a) = Phi(-a)/phi(a) for a >= 0."""
    terms = (w / (a + s * s / a) for s, w in zip(reversed(NODES), reversed(WEIGHTS)))
    residue = ROOT_TWO_PI * np.exp(a * a / 2) / (1 + np.exp(4 * math.pi * a))
    return sum(terms) + np.where(a < 4, residue, 0)                                 # (14)


def lower_tail(t):
    """Phi(t) far below."""
    h = np.exp(-(t / 2) ** 2)
    return h * (h * (mills_ratio(-t) / ROOT_TWO_PI))                                # (12)
