r"""Integral of a sum of squared polynomials, `R -> R`.

The map.  With a shift `t`, a least slope `d > 0`, and polynomials with the coefficients `a_kl`,
    x = t + d z + sum_k int_0^z p_k(u)^2 du,   p_k(u) = sum_l a_kl u^l
      = t + d z + sum_k sum_l sum_m a_kl a_km z^(l + m + 1)/(l + m + 1)             (1)
    dx/dz = g = d + sum_k p_k(z)^2                                                  (2)
    log|dx/dz| = log g                                                              (3)
`d` acts as the square of one more polynomial, a constant.  Without it, `g` would be 0 at a common zero of the others.  Since the
slope is at least `d`, `x - t` is at least `d |z|` in size.  For the inverse map, a bisection finds the root `z`, which lies between
    0   and   (x - t)/d                                                             (4)
    log|dz/dx| = -log g   at the root                                               (5)

The reverse rule.  From (1), (2) and (3), with the cotangent `l_bar` of (3),
    z_bar = x_bar g + l_bar g'/g,   g' = 2 sum_k p_k(z) p_k'(z)                     (6)
    a_kl_bar = 2 x_bar z^(l+1) q_kl + 2 l_bar p_k z^l/g,   q_kl = sum_m a_km z^m/(l + m + 1)        (7)
    d_bar = x_bar z + l_bar/g                                                       (8)
    t_bar = x_bar                                                                   (9)
For the inverse map, whose log-det has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar g'/g)/g                                                  (10)
and the fields have the cotangents (7) to (9) with the signs of `x_bar` and `l_bar` reversed.   (11)

Source: Jaini, Selby and Yu, Sum-of-Squares Polynomial Flow, arXiv:1905.02325, without a least slope; zuko has one.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Bijector, bijector, case, pair, positive, real, stacked
from ...core.arrays import doubled, rounded
from ..elementwise.solve import newton_step, root_above_floor


class textbook:
    """(1) to (11) as they are printed, for one event."""

    def letters(z, coefficients, slope_floor):
        """The powers z^l, p_k, g and g'."""
        n = range(coefficients.shape[1])
        powers = np.array([z ** l for l in n])
        p = coefficients @ powers                                                   # (1)
        p_prime = coefficients @ np.array([l * z ** (l - 1) if l > 0 else 0 for l in n])
        return powers, p, slope_floor + np.sum(p ** 2), 2 * np.sum(p * p_prime)     # (2) (6)

    def integrals(z, coefficients):
        """The integrals of u^(l + m) from 0 to z."""
        n = range(coefficients.shape[1])
        return np.array([[z ** (l + m + 1) / (l + m + 1) for m in n] for l in n])

    def forward(z, coefficients, slope_floor, shift):
        squares = coefficients @ textbook.integrals(z, coefficients) * coefficients
        return shift + slope_floor * z + np.sum(squares)                            # (1)

    def inverse(x, coefficients, slope_floor, shift):
        end = (x - shift) / slope_floor                                             # (4)
        below, above = min(0, end), max(0, end)                                     # (4)
        z = (below + above) / 2
        while below < z < above:
            lower = textbook.forward(z, coefficients, slope_floor, shift) < x
            below, above = (z, above) if lower else (below, z)
            z = (below + above) / 2
        return z

    def slope(z, coefficients, slope_floor, shift):
        return textbook.letters(z, coefficients, slope_floor)[2]                    # (2)

    def log_det(z, coefficients, slope_floor, shift):
        return np.log(textbook.slope(z, coefficients, slope_floor, shift))          # (3)

    def inverse_log_det(x, coefficients, slope_floor, shift):
        z = textbook.inverse(x, coefficients, slope_floor, shift)
        return -textbook.log_det(z, coefficients, slope_floor, shift)               # (5)

    def vjp(z, coefficients, slope_floor, shift, x_bar, l_bar):
        powers, p, g, g_prime = textbook.letters(z, coefficients, slope_floor)
        z_bar = x_bar * g + l_bar * g_prime / g                                     # (6)
        of_x = 2 * x_bar * coefficients @ textbook.integrals(z, coefficients)
        a_bar = of_x + 2 * l_bar * np.outer(p, powers) / g                          # (7)
        return z_bar, {"coefficients": a_bar, "slope_floor": x_bar * z + l_bar / g, "shift": x_bar}         # (8) (9)

    def inverse_vjp(x, coefficients, slope_floor, shift, z_bar, l_bar):
        z = textbook.inverse(x, coefficients, slope_floor, shift)
        _, _, g, g_prime = textbook.letters(z, coefficients, slope_floor)
        x_bar = (z_bar - l_bar * g_prime / g) / g                                   # (10)
        return x_bar, textbook.vjp(z, coefficients, slope_floor, shift, -x_bar, -l_bar)[1]          # (11)


r"""In floating point.

In (1) to (11), `p_k` loses digits near its zeros, and `g` near the zeros of all `p_k`.  Everything is computed in float64, for
float32 too, and rounded once.                                                      (12)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases.

In (1), the antiderivative adds terms of both signs, which may cancel.  With `b_kl = a_kl z^l`, the integral is `z` times the
integral of `(sum_l b_kl s^l)^2` over `[0, 1]`.  In the Legendre polynomials of this interval,
`s^l = sum_j (2 j + 1) L_lj P_j(2 s - 1)`, and the integral of `P_j(2 s - 1)^2` is `1/(2 j + 1)`; so it is a sum of squares:
    x = t + z (d + sum_k sum_j (2 j + 1) h_kj^2),   h_kj = sum_(l >= j) L_lj b_kl   (13)
    L_lj = 1/(l + 1) prod_(i=1)^j (l + 1 - i)/(l + 1 + i)                           (14)

In (4), `(x - t)/d` may overflow where `z` does not.  The quotient `y` of `z` and this bound solves
    y (1 + sum_k sum_j (2 j + 1) h_kj^2/d) = 1,   z = y (x - t)/d                   (15)
or, where `(x - t)/d` overflows, between 0 and the largest float; `z` is infinite if it is beyond.

In (5), (10) and (11), the rounding of `z` counts, since `g` may be many times the mean slope `(x - t)/z`.  So one step of
Newton's method takes the root `z` of the solver to
    z - (f(z) - x)/g                                                                (16)
where `f(z) - x`, and all that follows for the inverse map, is computed with pairs of floats, of twice the digits.
"""


@bijector(source="arXiv:1905.02325", domain=real, codomain=real, increasing=True, solver=True, moderate=True, textbook=textbook)
class SumOfSquares(Bijector):
    """x = shift + slope z + sum_k int_0^z (sum_l coefficients_kl u^l)^2 du; the inverse uses a bracketing solver.

    The coefficients have shape (*batch, K, R+1), for K polynomials of degree R.  The source has no term `slope z`.
    """

    coefficients: Array = real("K", "R+1")
    slope_floor: Array = positive(default=1e-3)
    shift: Array = real(default=0.0)
    event_ndim = (0, 0)
    terms = property(lambda self: self.coefficients.shape[-1] * self.coefficients.shape[-2])        # in its sums

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.image(self.values(z)).astype(z.dtype)

    def log_det(self, z):
        return np.log(self.values(z).g).astype(z.dtype)                            # (3)

    def forward_and_log_det(self, z):
        v = self.values(z)
        return rounded((self.image(v), np.log(v.g)), z.dtype)                       # (3)

    def slope(self, z):
        return self.values(z).g.astype(z.dtype)                                    # (2)

    def inverse(self, x):
        return self.root(x).z.astype(x.dtype)

    def inverse_and_log_det(self, x):
        v = self.root(x)
        return rounded((v.z, -np.log(v.g.high)), x.dtype)            # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.values(z)

        def pullback(x_bar, log_det_bar):
            z_bar = x_bar * v.g + log_det_bar * v.bend                              # (6)
            return rounded((z_bar, v.bars(*doubled(x_bar, log_det_bar))), z.dtype)  # (12)

        return rounded((self.image(v), np.log(v.g)), z.dtype), pullback             # (3)

    def inverse_vjp(self, x):
        v = self.root(x)

        def pullback(z_bar, log_det_bar):
            x_bar = (z_bar - log_det_bar * v.bend) / v.g                            # (10)
            return rounded((x_bar, v.bars(-x_bar, -log_det_bar)), x.dtype)

        return rounded((v.z, -np.log(v.g.high)), x.dtype), pullback  # (3)

    # -- in floating point --------------------------------------------------------------------------------------------

    def values(self, z):
        return Letters(*doubled(self.coefficients, self.slope_floor, z))            # (12)

    def image(self, v):
        return np.float64(self.shift) + v.z * v.mean_slope()                        # (13)

    def root(self, x):
        """The letters at the root, as pairs."""
        a, d, t, x = doubled(self.coefficients, self.slope_floor, self.shift, x)    # (12)
        target, floors = (v.ravel() for v in np.broadcast_arrays(x - t, d))
        polynomials = np.broadcast_to(a, x.shape + a.shape[-2:]).reshape(-1, *a.shape[-2:])

        z = root_above_floor(lambda z, i: Letters(polynomials[i], floors[i], z).mean_slope(), target, floors)   # (15)
        v = Letters(a, d, pair(z.reshape(x.shape)))
        return Letters(a, d, newton_step(v.z, (v.z * v.mean_slope() - (pair(x) - t)) / v.g))    # (16)

    @classmethod
    def examples(cls, source):
        size = source.choice(((1, 1), (1, 2), (2, 2), (1, 3)))      # K, R + 1: truths of polynomials of many terms are slow
        return cls(real.draw(source, size), positive.draw(source, ()), real.draw(source, ())), ()

    hard_cases = (
        case("Line", "polynomials of degree 0: the log-det is constant", z=[0.25, -7.0], x=[0.5, -3.0], coefficients=[[1.0]],
             slope_floor=0.5, shift=1.0),
        case("Zero", "x is the shift", z=[0.0, 1e-300], x=[0.0, 5e-324], coefficients=[[1.0, -2.0], [0.5, 3.0]], shift=0.0),
        case("ZeroOfAll", "the only polynomial is 0 there: the slope is the floor", z=[0.5, 0.5 + 2.0**-30], x=[0.25, 1 / 6],
             coefficients=[[1.0, -2.0]], slope_floor=1e-3),
        case("Legendre", "a polynomial that is orthogonal to all others: the terms of its antiderivative cancel", z=[1.0, -1.0],
             x=[0.5, 1.0], coefficients=[[-1.0, 12.0, -30.0, 20.0]], slope_floor=2.0**-10),
        case("Root", "cotangents of the log-det need the step of Newton's method from the root", x=[1.8655526252979566] * 2,
             coefficients=[[1.0, -20.0, 90.0, -140.0, 70.0]], slope_floor=0.0625, shift=0.0),
        case("Nothing", "all coefficients are 0: a line", z=[2.0, -3.0], x=[2.0, -3.0], coefficients=[[0.0, 0.0]],
             slope_floor=1.0),
        case("Large", "the highest power is all that counts", z=[1e6, -1e6], x=[1e40, -1e40],
             coefficients=[[1.0, 0.5, 0.25], [0.0, 2.0, 1.0]]),
    )


class Letters:
    """The letters at z (*batch), an array or pairs, with a (*batch, K, R+1) and d (*batch), all of float64."""

    def __init__(self, a, d, z):
        self.a, self.d, self.z = np.moveaxis(a, -1, 0), d, z
        z = z[..., None]
        self.powers = [z * 0 + 1]
        for _ in self.a[1:]:
            self.powers.append(self.powers[-1] * z)
        self.b = [a_l * z_l for a_l, z_l in zip(self.a, self.powers)]
        self.p = sum(self.b)                                                        # (1)
        self.g = d + (self.p * self.p).sum(-1)                                      # (2)

    def mean_slope(self):
        """(x - t)/z."""
        total = self.d
        for j in range(len(self.b)):
            h = sum(legendre(b_l, l, j) for l, b_l in enumerate(self.b) if l >= j)  # (13)
            total = total + (2 * j + 1) * (h * h).sum(-1)                           # (13)
        return total

    @property
    def bend(self):
        """g'/g."""
        p_prime = sum(l * a_l * z_l for l, a_l, z_l in zip(range(1, len(self.a)), self.a[1:], self.powers))
        return 2 * (self.p * p_prime).sum(-1) / self.g if len(self.a) > 1 else 0 * self.g               # (6)

    def bars(self, x_bar, l_bar):
        """The cotangents of the fields."""
        of_x, of_l, terms = x_bar * self.z, l_bar / self.g, []
        for l, z_l in enumerate(self.powers):
            q = sum(b_m / (l + m + 1) for m, b_m in enumerate(self.b))              # (7)
            terms.append(2 * z_l * (of_x[..., None] * q + of_l[..., None] * self.p))            # (7)
        return {"coefficients": stacked(terms), "slope_floor": of_x + of_l, "shift": x_bar}        # (7) (8) (9)


def legendre(b_l, l, j):
    """L_lj b_l."""
    steps = range(1, j + 1)
    return b_l * math.prod(l + 1 - i for i in steps) / ((l + 1) * math.prod(l + 1 + i for i in steps))          # (14)

