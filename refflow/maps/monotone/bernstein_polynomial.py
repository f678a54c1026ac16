r"""Increasing polynomial in Bernstein's basis on `[-B, B]`; with linear tails, its tangents beyond.

The map.  With `c = coefficients`, `c_0 < ... < c_K`, and the place of `z` in the interval, `B = bound`,
    s = (z + B)/(2 B),   t = (B - z)/(2 B)                                          (1)
    b_{i,n} = C_{i,n} s^i t^(n - i),   C_{i,n} = prod_(j=1)^i (n - j + 1)/j         (2)
    x = sum_i c_i b_{i,K}                                                           (3)
    dx/dz = g = K/(2 B) sum_i D_i b_{i,K-1},   D_i = c_(i + 1) - c_i   for i = 0, ..., K - 1        (4)
    log|dx/dz| = log g                                                              (5)
The basis is positive and sums to 1.  The coefficients increase, so the derivative is a sum of positive terms.  Beyond the interval,
`s`, `t` and the slope `g` belong to the nearer end.  With the distance `e` of `z` from this end, negative below,
    x = sum_i c_i b_{i,K} + g e                                                     (6)
The second derivative jumps at the ends, which belong to the interval.  Without tails the domain is the interval, and the image
runs from `c_0` to `c_K`.  Beyond these two, the inverse map is
    z = -B + (x - c_0)/g   for x < c_0,   z = B + (x - c_K)/g   for x > c_K         (7)
and between them, a bisection finds the root `z` of (3).  In both cases
    log|dz/dx| = -log g                                                             (8)

The reverse rule.  The derivative of `b_{i,K}` by `s` is `K d_i`, where `d_i` is a difference of two members of the basis of
degree `K - 1`, and a member that does not exist counts as 0:
    d_0 = -b_{0,K-1},   d_i = b_{i-1,K-1} - b_{i,K-1}   for 0 < i < K,   d_K = b_{K-1,K-1}  (9)
The slope `g` changes with `z` by the second differences of the coefficients, and not at all beyond the interval:
    dg/dz = K (K - 1)/(2 B)^2 sum_i (D_(i + 1) - D_i) b_{i,K-2}                     (10)
So from (5) and (6), with the cotangent `l_bar` of (5),
    z_bar = x_bar g + l_bar (dg/dz)/g                                               (11)
    c_i_bar = x_bar (b_{i,K} + K/(2 B) d_i e) + l_bar K/(2 B) d_i/g                 (12)
For the inverse map, whose log-det has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar (dg/dz)/g)/g                                             (13)
and the coefficients have the cotangent (12) with the signs of `x_bar` and `l_bar` reversed.    (14)

Source: Ramasinghe, Fernando, Khan and Barnes, Robust normalizing flows using Bernstein-type polynomials, arXiv:2102.03509.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Bijector, bijector, case, chosen, increasing, interval, pair, plain, real, refusal, stacked
from ...core.arrays import doubled, rounded
from ...core.rules import ABOVE_0, one_of
from ..elementwise.solve import increasing_root
from ..splines.bins import reached
from .mixture import flattened


class textbook:
    """(1) to (14) as they are printed, for one event."""

    def place(z, bound):
        """s, t and e of z, or of the nearer end."""
        inside = -bound if z < -bound else bound if z > bound else z
        return (inside + bound) / (2 * bound), (bound - inside) / (2 * bound), z - inside   # (1)

    def basis(K, s, t):
        """b_{i,K} for every i."""
        C = [1]
        for j in range(1, K + 1):
            C.append(C[-1] * (K - j + 1) / j)                                       # (2)
        return np.array([C[i] * s ** i * t ** (K - i) for i in range(K + 1)])       # (2)

    def forward(z, coefficients, bound, tails):
        s, t, e = textbook.place(z, bound)
        x = np.sum(coefficients * textbook.basis(len(coefficients) - 1, s, t))      # (3)
        return x if e == 0 else x + textbook.slope(z, coefficients, bound, tails) * e       # (6)

    def inverse(x, coefficients, bound, tails):
        fields = coefficients, bound, tails
        if x < coefficients[0]:
            return -bound + (x - coefficients[0]) / textbook.slope(-bound, *fields)     # (7)
        if x > coefficients[-1]:
            return bound + (x - coefficients[-1]) / textbook.slope(bound, *fields)      # (7)
        below, above = 0 * x - bound, 0 * x + bound
        z = (below + above) / 2
        while below < z < above:
            below, above = (z, above) if textbook.forward(z, *fields) < x else (below, z)       # (3)
            z = (below + above) / 2
        return z

    def slope(z, coefficients, bound, tails):
        s, t, _ = textbook.place(z, bound)
        K, D = len(coefficients) - 1, coefficients[1:] - coefficients[:-1]          # (4)
        return K * np.sum(D * textbook.basis(K - 1, s, t)) / (2 * bound)            # (4)

    def log_det(z, coefficients, bound, tails):
        return np.log(textbook.slope(z, coefficients, bound, tails))                # (5)

    def inverse_log_det(x, coefficients, bound, tails):
        z = textbook.inverse(x, coefficients, bound, tails)
        return -np.log(textbook.slope(z, coefficients, bound, tails))               # (8)

    def vjp(z, coefficients, bound, tails, x_bar, l_bar):
        (s, t, e), K, D = textbook.place(z, bound), len(coefficients) - 1, coefficients[1:] - coefficients[:-1]     # (4)
        g, lower = textbook.slope(z, coefficients, bound, tails), textbook.basis(K - 1, s, t)
        d = np.append(0, lower) - np.append(lower, 0)                               # (9)
        bend = K * (K - 1) * np.sum((D[1:] - D[:-1]) * textbook.basis(K - 2, s, t)) / (2 * bound) ** 2      # (10)
        z_bar = x_bar * g + l_bar * (bend if e == 0 else 0) / g                     # (11)
        c_bar = x_bar * (textbook.basis(K, s, t) + K * d * e / (2 * bound)) + l_bar * K * d / (2 * bound * g)       # (12)
        return z_bar, {"coefficients": c_bar}

    def inverse_vjp(x, coefficients, bound, tails, z_bar, l_bar):
        fields = coefficients, bound, tails
        z = textbook.inverse(x, *fields)
        bend_over_g, _ = textbook.vjp(z, *fields, 0, 1)
        x_bar = (z_bar - l_bar * bend_over_g) / textbook.slope(z, *fields)          # (13)
        return x_bar, textbook.vjp(z, *fields, -x_bar, -l_bar)[1]                   # (14)


r"""In floating point.

In (3), a root `z` near an end loses the digits of its distance from the end.  In the lower half of the curve the solver finds
`s`.  In the upper half it finds `t`, from the same equation for the coefficients `-c_(K - i)` and for `-x`.  With `v` for `s`,
and `a_i = c_i - c_0`,
    x - c_0 = sum_i a_i b_{i,K} = v sum_(i=1)^K (K a_i/i) b_{i-1,K-1}               (15)
The last sum is at least `K min_i D_i`.  So `v` lies between 0 and `L`, and the quotient `y = v/L` solves
    y sum_(i=1)^K (K a_i/i) b_{i-1,K-1}/(K min_i D_i) = 1,   v = y L,   L = (x - c_0)/(K min_i D_i)     (16)

In (3), the exact mean of the coefficients lies between `c_0` and `c_K`, but a rounded one may lie outside.  Then the nearer end is
closer to it:
    x = min(max(sum_i c_i b_{i,K}, c_0), c_K)                                       (17)

In (8), (13) and (14), the rounding of `z` is multiplied by the slope at the root over the mean slope of (15), and this quotient
may be large.  So one step of Newton's method, from the solver's root, and all that follows for the inverse map are computed with
pairs of floats, of twice the digits:
    v - (v sum_(i=1)^K (K a_i/i) b_{i-1,K-1} - (x - c_0))/(2 B g)                   (18)

In (9), the two members cancel near `s = i/K`, where `d_i` is 0.  This zero is a factor of the difference:
    d_i = -t^(K - 1)                                             for i = 0
        = s^(K - 1)                                              for i = K
        = C_i s^(i - 1) t^(K - 1 - i) (i - K s)/K                elsewhere          (19)
    i - K s = ((2 i - K) B - K z)/(2 B)                                             (20)

In (3) to (14), a sum has many roundings.  Everything is computed in float64, for float32 events too, and rounded once.    (21)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases.
"""


@bijector(source="arXiv:2102.03509", increasing=True, solver=True, moderate=True, textbook=textbook)
class BernsteinPolynomial(Bijector):
    """x = sum_i coefficients_i b_i((z + bound)/(2 bound)); the inverse uses a bracketing solver.

    The coefficients have shape (*batch, K+1).  `tails`: beyond [-bound, bound] x lies on the tangents at the ends ("linear"), or
    the domain ends there ("none").  Raises ValueError for fewer than 2 coefficients and for other tails.
    """

    coefficients: Array = increasing("K+1")
    bound: float = plain(5.0, ABOVE_0)
    tails: str = plain("linear", one_of("linear", "none"))
    event_ndim = (0, 0)
    terms = property(lambda self: self.coefficients.shape[-1])      # in its sums

    domain = property(lambda self: real if self.tails == "linear" else interval(-self.bound, self.bound))
    codomain = property(lambda self: reached(self.coefficients, "identity" if self.tails == "linear" else "none"))

    def _validate(self):
        super()._validate()
        if self.coefficients.shape[-1] < 2:
            raise ValueError("BernsteinPolynomial: coefficients must be at least 2")

    @staticmethod
    def definition(m, z, coefficients, bound, tails):
        K, B = len(coefficients) - 1, m.mpf(bound)
        inside = -B if z < -bound else B if z > bound else z
        s, t = (inside + B) / (2 * B), (B - inside) / (2 * B)                       # (1)
        x = sum(math.comb(K, i) * s ** i * t ** (K - i) * c for i, c in enumerate(coefficients))    # (2) (3)
        if -bound <= z <= bound:
            return x
        slope = sum(math.comb(K - 1, i) * s ** i * t ** (K - 1 - i) * (coefficients[i + 1] - coefficients[i])
                    for i in range(K)) * K / (2 * B)                                # (4)
        return x + slope * (z - inside)                                             # (6)

    def breaks(self):
        """The ends of the interval if there are tails: the second derivative jumps, the first is the polynomial's."""
        return np.array([-self.bound, self.bound] if self.tails == "linear" else [])

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        v, e, _ = self.values(z)
        return v.image(e).astype(z.dtype)

    def log_det(self, z):
        return np.log(self.values(z)[0].g).astype(z.dtype)                          # (5)

    def forward_and_log_det(self, z):
        v, e, _ = self.values(z)
        return rounded((v.image(e), np.log(v.g)), z.dtype)                          # (5)

    def slope(self, z):
        return self.values(z)[0].g.astype(z.dtype)                                  # (4)

    def inverse(self, x):
        return self.root(x)[0].astype(x.dtype)

    def inverse_and_log_det(self, x):
        z, v, _ = self.root(x)
        return rounded((z, -np.log(v.g.high)), x.dtype)                             # (8)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v, e, inside = self.values(z)
        zeros = [((2 * i - v.K) * v.B - v.K * inside) / (2 * v.B) for i in range(v.K + 1)]  # (20)
        bend = np.where(e == 0, v.bend(), 0)

        def pullback(x_bar, log_det_bar):
            z_bar = x_bar * v.g + log_det_bar * bend / v.g                          # (11)
            return rounded((z_bar, v.bars(e, zeros, *doubled(x_bar, log_det_bar))), z.dtype)    # (12) (21)

        return rounded((v.image(e), np.log(v.g)), z.dtype), pullback                # (5)

    def inverse_vjp(self, x):
        z, v, e = self.root(x)
        zeros = [i - v.K * v.s for i in range(v.K + 1)]
        bend = chosen(e.high == 0, v.bend(), 0 * v.g)

        def pullback(z_bar, log_det_bar):
            x_bar = (z_bar - log_det_bar * bend / v.g) / v.g                        # (13)
            return rounded((x_bar, v.bars(e, zeros, -x_bar, -log_det_bar)), x.dtype)    # (14)

        return rounded((z, -np.log(v.g.high)), x.dtype), pullback                   # (8)

    # -- in floating point --------------------------------------------------------------------------------------------

    def values(self, z):
        """The letters at z, e, and z in the interval."""
        c, z = doubled(self.coefficients, z)                                        # (21)
        B, inside = self.bound, np.clip(z, -self.bound, self.bound)
        s, t = (inside + B) / (2 * B), (B - inside) / (2 * B)                       # (1)
        return Letters(list(np.moveaxis(c, -1, 0)), B, s, t), z - inside, inside

    def root(self, x):
        """(z, the letters there, e), of pairs."""
        flat, c = flattened(*doubled(x, self.coefficients))                         # (21)
        K, c = c.shape[-1] - 1, list(c.T)
        inside, middle = np.clip(flat, c[0], c[K]), combined(c, 0.5, 0.5)
        low = inside <= middle
        level = chosen(low, pair(inside) - c[0], pair(c[K]) - inside)
        a = [chosen(low, pair(c[i]) - c[0], pair(c[K]) - c[K - i]) for i in range(1, K + 1)]    # (15)
        terms = [a_i * K / i for i, a_i in enumerate(a, 1)]                         # (15)
        least = K * np.diff(np.stack([0 * flat, *(a_i.high for a_i in a)]), axis=0).min(0)
        L = level.high / least                                                      # (16)

        def excess(y, i):
            v = y * L[i]
            return y * combined([term.high[i] for term in terms], v, 1 - v) / least[i] - 1  # (16)

        v = pair(increasing_root(excess, np.zeros_like(L), np.minimum(1 + 2.0**-10, 1 / L)) * L)    # (16)
        rise = combined([a[0], *(a_i - before for a_i, before in zip(a[1:], a))], v, 1 - v) * K
        v = v - (v * combined(terms, v, 1 - v) - level) / rise                      # (18)
        s, t = (part.reshaped(x.shape) for part in (chosen(low, v, 1 - v), chosen(low, 1 - v, v)))
        v = Letters([pair(c_i.reshape(x.shape)) for c_i in c], self.bound, s, t)
        e = (pair(x) - inside.reshape(x.shape)) / v.g                               # (7)
        z = chosen(low.reshape(x.shape), s * (2 * self.bound) - self.bound, self.bound - t * (2 * self.bound)) + e  # (7)
        return z, v, e

    @classmethod
    def examples(cls, source):
        bound, tails = source.choice((1.0, 5.0)), source.choice(("linear", "linear", "none"))
        return cls(increasing.draw(source, (source.count(2, 4),)), bound, tails), ()

    hard_cases = (
        case("Line", "K = 1: the log-det is constant, and the tangents continue it", z=[0.25, -7.0, 9.0], x=[0.5, -3.0, 4.0],
             coefficients=[-1.0, 2.0], bound=5.0),
        case("Ends", "the polynomial meets its tangents", z=[-5.0, 5.0, np.nextafter(5, 6)], x=[-2.0, 3.0, np.nextafter(3, 4)],
             coefficients=[-2.0, -0.5, 0.0, 3.0], bound=5.0),
        case("EndAtZero", "x is 0 at an end: the root keeps the digits of its distance from it", z=[-1.0 + 2.0**-50],
             x=[1e-12, 1e-9, 5e-324], coefficients=[0.0, 1.0, 4.0], bound=1.0),
        case("Middle", "a cotangent vanishes where s = i/K", z=[1e-20, 0.0], x=[0.5], coefficients=[-1.0, 0.5, 1.0], bound=1.0),
        case("Bounded", "no tails: the ends and the floats beside them", z=[np.nextafter(-1, 0), np.nextafter(1, 0), 0.5],
             x=[np.nextafter(-2, 0), np.nextafter(3, 0), 0.1], coefficients=[-2.0, -0.5, 0.25, 3.0], bound=1.0, tails="none"),
        case("Plateau", "nearly flat, far from the nearer end: the solver's last digits count, and one step of Newton's method",
             x=[0.15081618260918972, 0.05837985635558508], coefficients=[-14.4793, 0.2505, 0.267, 0.9559, 1.1717, 1.3275],
             bound=5.0),
        case("Flat", "the slope is small at an end", z=[-1.0, -0.999], x=[1e-6], coefficients=[0.0, 1e-6, 1.0], bound=1.0),
    )
    refused = (
        refusal("coefficients must be at least 2", coefficients=[1.0]),
        refusal("coefficients must be at least 2", coefficients=[[1.0], [2.0]]),
    )


class Letters:
    """The letters at a place s, t of the interval: arrays of float64, or pairs of them."""

    def __init__(self, c, B, s, t):
        self.c, self.B, self.s, self.t, self.K = c, B, s, t, len(c) - 1
        self.D = differences(c)                                                     # (4)
        self.g = combined(self.D, s, t) * self.K / (2 * B)                          # (4)

    def image(self, e):
        mean = np.clip(combined(self.c, self.s, self.t), self.c[0], self.c[-1])     # (3) (17)
        return mean + np.where(e == 0, 0, self.g * e)                               # (6)

    def bend(self):
        """dg/dz inside the interval."""
        if self.K == 1:
            return 0 * self.g
        return combined(differences(self.D), self.s, self.t) * (self.K * (self.K - 1)) / (2 * self.B) / (2 * self.B)    # (10)

    def bars(self, e, zeros, x_bar, l_bar):
        """The cotangent of the coefficients, from i - K s for each i."""
        K, s, t, of_l = self.K, powers(self.s, self.K), powers(self.t, self.K), l_bar / self.g
        d = [math.comb(K, i) * s[i - 1] * t[K - 1 - i] * zeros[i] / K for i in range(1, K)]     # (9) (19)
        to_slope = [d_i * K / (2 * self.B) for d_i in (-t[K - 1], *d, s[K - 1])]    # (9) (19)
        terms = [x_bar * (b_i + d_i * e) + of_l * d_i for b_i, d_i in zip(basis(K, self.s, self.t), to_slope)]  # (12)
        return {"coefficients": stacked(terms)}


def powers(s, K):
    """s^0, ..., s^K."""
    found = [0 * s + 1]
    for _ in range(K):
        found.append(found[-1] * s)
    return found


def basis(K, s, t):
    """b_{i,K}."""
    return [math.comb(K, i) * s_i * t_i for i, (s_i, t_i) in enumerate(zip(powers(s, K), reversed(powers(t, K))))]  # (2)


def combined(c, s, t):
    """sum_i c_i b_i."""
    return sum(c_i * b_i for c_i, b_i in zip(c, basis(len(c) - 1, s, t)))


def differences(c):
    return [after - before for before, after in zip(c, c[1:])]
