r"""Integral of a positive network of one hidden layer of ReLUs, `R -> R`, without quadrature.

The map.  With `a = rate`, `b = bias`, `v = weights` and `c = offset`, each of either sign, a least slope `d = slope_floor > 0` and
`t = shift`,
    n(u) = c + sum_k v_k r_k(u),   r_k(u) = max(a_k u + b_k, 0)                     (1)
    dx/dz = g(z),   g(u) = d + E(n(u)),
    E(n) = 1 + n    for n >= 0
         = exp(n)   for n < 0                                                       (2)
    x = t + int_0^z g(u) du                                                         (3)
`E` is ELU plus 1 and positive, so `x` rises with `z`.  `n` is linear between the knots `-b_k/a_k` of its units; a unit whose `a_k` is 0
is constant, without a knot.  So the integral is a sum of integrals of lines and of exponentials of lines, and this page computes it
exactly.

The sources replace the integral by a sum over nodes: Clenshaw and Curtis's nodes in the authors' code, Gauss and Legendre's in
other libraries.  With `N` nodes `y_j` on [0, 1] and weights `w_j`, `t + z sum_j w_j g(z y_j)` is a map of its own.  Its derivative
is not `g(z)`, which these libraries nevertheless give as its slope; and it need not be monotone, because its nodes move across the
knots as `z` moves.  (3) is monotone for all parameters, and its slope is `g`.  The sources have no least slope.  Without it, the
image is bounded on a side on which `n` falls to -inf, and no `z` leads to numbers beyond the bound.

The knots between 0 and `z`, and the zeros at which `n` changes its sign between knots, divide the way from 0 to `z` into pieces.
On the piece from `p` to `q`, with `on_k = 1` for the units that are active there, else 0, and `n_p` and `n_q` for `n` at its ends,
    n = alpha + beta u,   alpha = c + sum_k v_k b_k on_k,   beta = sum_k v_k a_k on_k       (4)
    int_p^q E(n) du = (q - p) (1 + (n_p + n_q)/2)                         for n >= 0
                    = (exp(n_q) - exp(n_p))/beta                          for n <= 0                (5)
    int_p^q E'(n) du = q - p,   int_p^q E'(n) u du = (q^2 - p^2)/2        for n >= 0
    int_p^q E'(n) du = (exp(n_q) - exp(n_p))/beta,
    int_p^q E'(n) u du = (q exp(n_q) - p exp(n_p) - int_p^q E'(n) du)/beta        for n <= 0        (6)
If `beta` is 0, `exp(n)` is constant.  Finally,
    log|dx/dz| = log g(z)                                                           (7)
For the inverse map, a bisection finds the root `z`.  Because the slope is at least `d`, it lies between
    0   and   (x - t)/d                                                             (8)
    log|dz/dx| = -log g(z)   at the root                                            (9)

The reverse rule.  From (1) to (3), with the cotangent `l_bar` of (7), and with integrals from 0 to `z`, or over the part of that
way on which unit `k` is active, `r_k > 0`,
    c_bar = x_bar int E' du + l_bar E'(n(z))/g                                      (10)
    v_k_bar = x_bar int E' r_k du + l_bar E'(n(z)) r_k(z)/g                         (11)
    b_k_bar = v_k (x_bar int_(r_k > 0) E' du + l_bar E'(n(z)) [r_k(z) > 0]/g)       (12)
    a_k_bar = v_k (x_bar int_(r_k > 0) E' u du + l_bar E'(n(z)) [r_k(z) > 0] z/g)   (13)
    d_bar = x_bar z + l_bar/g,   t_bar = x_bar                                      (14)
    z_bar = x_bar g + l_bar g'/g,   g' = E'(n(z)) sum_k v_k a_k [r_k(z) > 0]        (15)
For the inverse map, whose log-det has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar g'/g)/g                                                  (16)
and the fields have the cotangents (10) to (14) with the signs of `x_bar` and `l_bar` reversed.     (17)

Source: Wehenkel and Louppe, Unconstrained Monotonic Neural Networks, arXiv:1908.05164, with quadrature, any number of hidden
layers, and no least slope.
"""

from __future__ import annotations

import functools

import numpy as np

from ...core import Array, Bijector, bijector, case, chosen, pair, positive, real, stacked
from ...core.arrays import doubled, rounded
from ...core.pairs import Pair, exp, nearest, taken
from ..elementwise.solve import newton_step, root_above_floor

SIZES = (1, 2, 2, 3)                                # of K in examples


class textbook:
    """(1) to (17) as they are printed, for one event."""

    def at(u, rate, bias, weights, offset, slope_floor):
        """r, which units are active, E'(n) and g."""
        on = rate * u + bias > 0
        r = (rate * u + bias) * on                                                  # (1)
        n = offset + np.sum(weights * r)                                            # (1)
        return r, on, 1 if n >= 0 else np.exp(n), slope_floor + (1 + n if n >= 0 else np.exp(n))        # (2)

    def pieces(z, rate, bias, weights, offset):
        """[(p, q, alpha, beta, which units are active)] from 0 to z."""
        knots = sorted((-b / a for a, b in zip(rate, bias) if a != 0), key=abs)
        ends, found = [0 * z, *(m for m in knots if 0 < m * z < z * z), z], []
        for p, q in zip(ends, ends[1:]):
            on = rate * (p + q) / 2 + bias > 0
            alpha, beta = offset + np.sum(weights * bias * on), np.sum(weights * rate * on)     # (4)
            zero = p if beta == 0 else -alpha / beta
            inner = [zero] if (zero - p) * (q - zero) > 0 else []
            found += [(*way, alpha, beta, on) for way in zip([p, *inner], [*inner, q])]
        return found

    def integrals(p, q, alpha, beta):
        """The integrals of E(n), E'(n) and E'(n) u from p to q."""
        n_p, n_q = alpha + beta * p, alpha + beta * q                               # (4)
        if n_p + n_q >= 0:
            return (q - p) * (1 + (n_p + n_q) / 2), q - p, (q * q - p * p) / 2      # (5) (6)
        if beta == 0:
            return np.exp(alpha) * (q - p), np.exp(alpha) * (q - p), np.exp(alpha) * (q * q - p * p) / 2
        whole = (np.exp(n_q) - np.exp(n_p)) / beta                                  # (5)
        return whole, whole, (q * np.exp(n_q) - p * np.exp(n_p) - whole) / beta     # (6)

    def forward(z, rate, bias, weights, offset, slope_floor, shift):
        pieces = textbook.pieces(z, rate, bias, weights, offset)
        return shift + slope_floor * z + sum(textbook.integrals(*piece)[0] for *piece, _ in pieces)         # (3)

    def inverse(x, rate, bias, weights, offset, slope_floor, shift):
        end = (x - shift) / slope_floor                                             # (8)
        below, above = min(0, end), max(0, end)                                     # (8)
        z = (below + above) / 2
        while below < z < above:
            lower = textbook.forward(z, rate, bias, weights, offset, slope_floor, shift) < x
            below, above = (z, above) if lower else (below, z)
            z = (below + above) / 2
        return z

    def slope(z, rate, bias, weights, offset, slope_floor, shift):
        return textbook.at(z, rate, bias, weights, offset, slope_floor)[3]          # (2)

    def log_det(z, rate, bias, weights, offset, slope_floor, shift):
        return np.log(textbook.slope(z, rate, bias, weights, offset, slope_floor, shift))           # (7)

    def inverse_log_det(x, rate, bias, weights, offset, slope_floor, shift):
        z = textbook.inverse(x, rate, bias, weights, offset, slope_floor, shift)
        return -textbook.log_det(z, rate, bias, weights, offset, slope_floor, shift)                # (9)

    def vjp(z, rate, bias, weights, offset, slope_floor, shift, x_bar, l_bar):
        r, on, rise, g = textbook.at(z, rate, bias, weights, offset, slope_floor)
        parts = [(textbook.integrals(*piece), active) for *piece, active in textbook.pieces(z, rate, bias, weights, offset)]
        whole, of_l = sum(of_1 for (_, of_1, _), _ in parts), l_bar * rise / g
        of_b = sum(of_1 * active for (_, of_1, _), active in parts)
        of_a = sum(of_u * active for (_, _, of_u), active in parts)
        return x_bar * g + of_l * np.sum(weights * rate * on), {                    # (15)
            "rate": weights * (x_bar * of_a + of_l * on * z),                       # (13)
            "bias": weights * (x_bar * of_b + of_l * on),                           # (12)
            "weights": x_bar * (rate * of_a + bias * of_b) + of_l * r,              # (11)
            "offset": x_bar * whole + of_l,                                         # (10)
            "slope_floor": x_bar * z + l_bar / g, "shift": x_bar}                   # (14)

    def inverse_vjp(x, rate, bias, weights, offset, slope_floor, shift, z_bar, l_bar):
        z = textbook.inverse(x, rate, bias, weights, offset, slope_floor, shift)
        _, on, rise, g = textbook.at(z, rate, bias, weights, offset, slope_floor)
        x_bar = (z_bar - l_bar * rise * np.sum(weights * rate * on) / g) / g        # (15) (16)
        return x_bar, textbook.vjp(z, rate, bias, weights, offset, slope_floor, shift, -x_bar, -l_bar)[1]   # (17)


r"""In floating point.

In (1) to (17), `n` may cancel.  Everything is computed in float64, for float32 too, and rounded once.  In `r_k = a_k (u - m_k)`,
with the knot `m_k = -b_k/a_k`, a unit is exactly 0 at its own knot, whatever its rounding.  At `z` itself, `r_k` is computed in
pairs of floats, which have the right sign next to a knot.  Units with `a_k = 0` are constant.                     (18)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases.

In (5) and (6), the differences cancel for a small `beta`.  On a piece, `n` goes linearly from `n_p` to `n_q`, and so does `r_k`.
With the mean of a function that goes linearly from `f_p` to `f_q`, times `E'`,
    int_p^q E'(n) f du = (q - p) (W_p f_p + W_q f_q)                                (19)
    W_p = W_q = 1/2                                                 for n >= 0,
    W_p = exp(n_p) phi(n_q - n_p),   W_q = exp(n_q) phi(n_p - n_q)                  for n <= 0  (20)
    phi(y) = (exp(y) - 1 - y)/y^2 = sum_(i >= 0) y^i/prod_(j = 1)^(i + 2) j         (21)
a trapezoidal rule whose weights make it exact.  All terms are positive.  (21) is summed to `y^27` for `|y| < 1`, where the rest
is below `2^-110`; elsewhere (20) is
    W_p = (exp(n_q) - exp(n_p) (1 + y))/y^2,   y = n_q - n_p                        (22)
(22) cannot overflow: where `y^2` does, two divisions replace one.  Then
    int_p^q E(n) du = (q - p) e,   e = W_p + W_q  for n <= 0,   1 + (n_p + n_q)/2  for n >= 0       (23)

In (3), the inverse map needs the mean slope `(x - t)/z`, whose digits a difference would lose.  So `z` is a factor:
    x = t + z (d + sum (q - p)/z e)                                                 (24)

In (7), a rounded sum near 1 has few digits of its logarithm.  With ELU as `E - 1`,
    log|dx/dz| = log(1 + (d + ELU(n(z))))      for n >= -1/2,   log(d + exp(n(z)))      elsewhere   (25)

In (8), `(x - t)/d` may overflow where `z` does not.  The quotient `y` of `z` and this bound solves
    y (1 + sum (q - p)/z e/d) = 1,   z = y (x - t)/d                                (26)
or, where `(x - t)/d` overflows, between 0 and the largest float; `z` is infinite if it is beyond.

In (9), (16) and (17), the rounding of `z` counts, since `g` may be many times the mean slope `(x - t)/z`.  So one step of
Newton's method takes the root `z` of the solver to
    z - (f(z) - x)/g(z)                                                             (27)
where `f(z) - x`, and all that follows for the inverse map, is computed with pairs of floats, of twice the digits.
"""


@bijector(source="arXiv:1908.05164", domain=real, codomain=real, increasing=True, solver=True, moderate=True, textbook=textbook)
class UnconstrainedMonotonic(Bijector):
    """x = shift + int_0^z (slope_floor + 1 + ELU(offset + sum_k weights_k ReLU(rate_k u + bias_k))) du, exactly.

    The inverse uses a bracketing solver.  The source has no slope_floor, and sums over nodes in place of the integral.
    """

    rate: Array = real("K")
    bias: Array = real("K")
    weights: Array = real("K")
    offset: Array = real(default=0.0)
    slope_floor: Array = positive(default=1e-3)
    shift: Array = real(default=0.0)
    event_ndim = (0, 0)
    rounded_breaks = True                                           # knots and zeros of n are quotients
    terms = property(lambda self: self.rate.shape[-1] + 1)          # in its sums

    @staticmethod
    def definition(m, z, rate, bias, weights, offset, slope_floor, shift):
        units = list(zip(rate, bias, weights))
        active = [b > 0 or b == 0 and a * z > 0 for a, b, _ in units]
        passed = [k for k, (a, b, _) in enumerate(units) if b * (a * z + b) < 0]
        passed.sort(key=functools.cmp_to_key(lambda i, j: farther(units[i], units[j])))
        ends = [(0, 1), *((-units[k][1], units[k][0]) for k in passed), (z, 1)]     # quotients of two numbers
        x = shift + slope_floor * z                                                 # (2) (3)
        for p, q, k in zip(ends, ends[1:], [*passed, None]):
            alpha = offset + sum(v * b for (_, b, v), on in zip(units, active) if on)           # (1)
            beta = sum(v * a for (a, _, v), on in zip(units, active) if on)         # (1)
            x = x + integral(m, alpha, beta, p, q)                                  # (3)
            if k is not None:
                active[k] = not active[k]
        return x

    def breaks(self):
        """Its knots, where the second derivative jumps, and the zeros of n, where the third does.

        At a knot the unit is not active; at a zero of n, both sides have the same second derivative.
        """
        with np.errstate(all="ignore"):
            a, b, v, c = np.broadcast_arrays(*doubled(self.rate, self.bias, self.weights, self.offset[..., None]))  # (18)
            knots = np.where(a == 0, np.inf, -b / a)
            return np.concatenate((np.where(a == 0, np.nan, knots), zeros(a, b, v, c[..., :1], knots)), -1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.image(self.values(z)).astype(z.dtype)

    def log_det(self, z):
        return self.values(z).log_slope().astype(z.dtype)

    def forward_and_log_det(self, z):
        v = self.values(z)
        return rounded((self.image(v), v.log_slope()), z.dtype)

    def slope(self, z):
        return self.values(z).g.astype(z.dtype)                                     # (2)

    def inverse(self, x):
        return self.root(x).z.astype(x.dtype)

    def inverse_and_log_det(self, x):
        v = self.root(x)
        return rounded((v.z, -v.log_slope()), x.dtype)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.values(z)

        def pullback(x_bar, log_det_bar):
            z_bar = x_bar * v.g + log_det_bar * v.bend                              # (15)
            return rounded((z_bar, v.bars(*doubled(x_bar, log_det_bar))), z.dtype)  # (18)

        return rounded((self.image(v), v.log_slope()), z.dtype), pullback

    def inverse_vjp(self, x):
        v = self.root(x)

        def pullback(z_bar, log_det_bar):
            x_bar = (z_bar - log_det_bar * v.bend) / v.g                            # (16)
            return rounded((x_bar, v.bars(-x_bar, -log_det_bar)), x.dtype)

        return rounded((v.z, -v.log_slope()), x.dtype), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def values(self, z):
        return Letters(*doubled(self.rate, self.bias, self.weights, self.offset, self.slope_floor, z))  # (18)

    def image(self, v):
        return np.float64(self.shift) + v.z * v.mean_slope()                        # (24)

    def root(self, x):
        """The letters at the root, as pairs."""
        *given, d, t, x = doubled(self.rate, self.bias, self.weights, self.offset, self.slope_floor, self.shift, x)  # (18)
        target, floors = (v.ravel() for v in np.broadcast_arrays(x - t, d))
        fields = [np.broadcast_to(v, x.shape + v.shape[v.ndim - core:]).reshape(-1, *v.shape[v.ndim - core:])
                  for v, core in zip(given, (1, 1, 1, 0))]

        def mean_slope(z, i):
            return Letters(*(v[i] for v in fields), floors[i], z).mean_slope()

        z = root_above_floor(mean_slope, target, floors)                            # (26)
        v = Letters(*given, d, pair(z.reshape(x.shape)))
        return Letters(*given, d, newton_step(v.z, (v.z * v.mean_slope() - (pair(x) - t)) / v.g))           # (27)

    @classmethod
    def examples(cls, source):
        K = source.choice(SIZES)
        vectors = (real.draw(source, (K,)) for _ in range(3))
        return cls(*vectors, real.draw(source, ()), positive.draw(source, ()), real.draw(source, ())), ()

    hard_cases = (
        case("Line", "no unit is active: the log-det is constant", z=[0.25, -7.0], x=[0.5, -3.0], rate=[0.0], bias=[-1.0],
             weights=[1.0], offset=0.5, slope_floor=0.25, shift=1.0),
        case("Zero", "x is the shift", z=[0.0, 1e-300], x=[0.0, 5e-324], rate=[1.0, -2.0], bias=[1.0, 0.5], weights=[-1.0, 3.0],
             offset=-0.5, slope_floor=1e-3, shift=0.0),
        case("Knot", "an end of the way is a knot; beside it the unit is on", z=[-0.5, np.nextafter(-0.5, 0)], x=[0.25, -0.5],
             rate=[2.0, 1.0], bias=[1.0, 2.0], weights=[3.0, -2.0], offset=0.25, slope_floor=0.125, shift=0.0),
        case("Decay", "the exponential has vanished, the least slope alone is left", z=[50.0, 1e6], x=[2.0, 40.0], rate=[1.0],
             bias=[0.0], weights=[-1.0], offset=0.0, slope_floor=1e-3, shift=0.0),
        case("NearOne", "the slope is near 1, its logarithm near 0", z=[0.5, -0.25], x=[0.5], rate=[2.0**-30], bias=[2.0**-31],
             weights=[-1.0], offset=-(2.0**-30), slope_floor=2.0**-32, shift=0.0),
        case("Crossing", "n is linear and changes its sign within a piece", z=[3.0, -3.0], x=[2.0, -2.0], rate=[1.0],
             bias=[8.0], weights=[1.0], offset=-8.5, slope_floor=0.5, shift=0.0),
        case("Steep", "a slope that is far larger than the mean slope", z=[8.0], x=[20.0], rate=[1.0, 4.0], bias=[-7.75, 1.0],
             weights=[256.0, -2.0], offset=0.0, slope_floor=1e-3, shift=0.0),
    )


def farther(one, other):
    """The order of two knots -b/a by their distances from 0."""
    d = abs(one[1] * other[0]) - abs(other[1] * one[0])
    return (d > 0) - (d < 0)


def integral(m, alpha, beta, p, q):
    """The integral of E(alpha + beta u) from p to q, which are quotients of two numbers."""
    n_p, n_q = ((alpha * under + beta * over) / under for over, under in (p, q))    # (1)
    p, q = (over / under for over, under in (p, q))
    if n_p >= 0 and n_q >= 0:
        return (q - p) * (1 + (n_p + n_q) / 2)                                      # (2)
    if n_p <= 0 and n_q <= 0:
        return (q - p) * m.exp(alpha) if beta == 0 else (m.exp(n_q) - m.exp(n_p)) / beta            # (2)
    to_zero, from_zero = -n_p / beta, n_q / beta
    if n_p > 0:
        return to_zero * (1 + n_p / 2) + (m.exp(n_q) - 1) / beta                    # (2)
    return (1 - m.exp(n_p)) / beta + from_zero * (1 + n_q / 2)                      # (2)


def zeros(a, b, v, c, knots):
    """The zero of n between each two neighbouring knots, and outside them; NaN where there is none."""
    rank, i = np.argsort(np.argsort(knots, -1), -1)[..., None, :], np.arange(a.shape[-1] + 1)[:, None]
    end = np.full_like(c, np.inf)
    ends = np.concatenate((-end, np.sort(knots, -1), end), -1)
    a, b, v = (w[..., None, :] for w in (a, b, v))
    on = np.where(a == 0, b > 0, np.where(a > 0, i > rank, i <= rank)).astype(float)
    found = (-((pair(v) * b * on).sum(-1) + c) / (pair(v) * a * on).sum(-1)).high   # (1)
    return np.where(np.isfinite(found) & (ends[..., :-1] < found) & (found < ends[..., 1:]), found, np.nan)


class Letters:
    """The letters at z (*batch), an array or a pair, with a, b, v of (*batch, K), and c and d, all of float64."""

    def __init__(self, a, b, v, c, d, z):
        self.a, self.b, self.v, self.c, self.d, self.z = a, b, v, c, d, z
        at_z = pair(z)[..., None] * a + b                                           # (1)
        self.r = positive_part(at_z if isinstance(z, Pair) else at_z.high)          # (1)
        self.n = c + (v * self.r).sum(-1)                                           # (1)
        self.rise, on = rise(self.n), nearest(self.r) > 0
        self.g = d + value(self.n)                                                  # (2)
        rise_of_n = (pair(v) * np.where(on, a, 0)).sum(-1)                          # (15)
        self.bend = self.rise * (rise_of_n if isinstance(z, Pair) else rise_of_n.high) / self.g     # (15)
        self.on = on.astype(float)

    @functools.cached_property
    def parts(self):
        return Pieces(self.a, self.b, self.v, self.c, self.z).parts()

    def mean_slope(self):
        """(x - t)/z."""
        z = self.z[..., None]
        total = self.d + sum((part.length / z * part.mean()).sum(-1) for part in self.parts)        # (24)
        return chosen(nearest(self.z) == 0, self.g, total)

    def log_slope(self):
        n, d = nearest(self.n), self.d
        below = np.minimum(n, 0)
        near = np.log1p(d + np.where(n < 0, np.expm1(below), n))                    # (25)
        return np.where(n >= -0.5, near, np.log(d + np.exp(below)))                 # (25)

    def bars(self, x_bar, l_bar):
        """The cotangents of the fields."""
        of_l, l_bar = l_bar * self.rise / self.g, l_bar / self.g
        whole, moment, on, on_moment = (sum(parts) for parts in zip(*(part.integrals() for part in self.parts)))        # (19)

        def total(integral, at_end):
            return x_bar[..., None] * integral + of_l[..., None] * at_end

        return {"rate": self.v * total(on_moment, self.z[..., None] * self.on),     # (13)
                "bias": self.v * total(on, self.on), "weights": total(moment, self.r),          # (12) (11)
                "offset": x_bar * whole + of_l, "slope_floor": x_bar * self.z + l_bar, "shift": x_bar}      # (10) (14)


class Pieces:
    """The way from 0 to z in K + 1 pieces, some of them empty: their ends on a last axis, r of (*batch, ends, K)."""

    def __init__(self, a, b, v, c, z):
        moving, at_z = a != 0, z[..., None]
        knots = -((pair(b) if isinstance(z, Pair) else b) / np.where(moving, a, 1))
        size, reach = np.sign(nearest(at_z)) * nearest(knots), np.abs(nearest(at_z))
        inside = moving & (size > 0) & (size < reach)
        order = np.argsort(np.where(inside, size, np.inf), -1)
        places = taken(chosen(inside, knots, at_z + 0 * knots), order)
        self.ends = stacked([0 * z, *(places[..., i] for i in range(a.shape[-1])), z])
        away = (self.ends[..., :, None] - knots[..., None, :]) * a[..., None, :]
        self.r = positive_part(chosen(moving[..., None, :], away, b[..., None, :] + 0 * away))      # (1)
        self.n = c[..., None] + (v[..., None, :] * self.r).sum(-1)                  # (1)

    def parts(self):
        """Each piece up to the zero of n, or the whole piece, and each piece from there on, or an empty one."""
        n_p, n_q = self.n[..., :-1], self.n[..., 1:]
        crossing = nearest(n_p) * nearest(n_q) < 0
        f = chosen(crossing, n_p / (n_p - n_q), 1 + 0 * n_p)
        ends, length = (self.ends[..., :-1], self.ends[..., 1:]), self.ends[..., 1:] - self.ends[..., :-1]
        r = self.r[..., :-1, :], self.r[..., 1:, :]
        n_m, end_m = chosen(crossing, 0 * n_p, n_q), ends[0] * (1 - f) + ends[1] * f
        r_m = r[0] * (1 - f)[..., None] + r[1] * f[..., None]
        return (Part(length * f, (ends[0], end_m), (n_p, n_m), (r[0], r_m)),
                Part(length * (1 - f), (end_m, ends[1]), (n_m, n_q), (r_m, r[1])))


class Part:
    """Pieces on which n keeps its sign, with the values of u, n and r at both ends."""

    def __init__(self, length, ends, n, r):
        self.length, self.ends, self.n, self.r = length, ends, n, r
        self.below = nearest(n[0]) + nearest(n[1]) < 0
        curved = trapezoid(*(negative_part(n_i) for n_i in n))
        self.W = tuple(chosen(self.below, W_i, 0.5 + 0 * W_i) for W_i in curved)    # (20)

    def mean(self):
        """e."""
        return chosen(self.below, self.W[0] + self.W[1], 1 + (self.n[0] + self.n[1]) / 2)           # (23)

    def integrals(self):
        """The integrals of E', of E' r_k, and of E' and E' u where r_k > 0, over all pieces."""
        weights = [self.length * W_i for W_i in self.W]
        both, moment = weights[0] + weights[1], weights[0] * self.ends[0] + weights[1] * self.ends[1]           # (19)
        active = (nearest(self.r[0]) + nearest(self.r[1]) > 0).astype(float)
        of_r = (weights[0][..., None] * self.r[0] + weights[1][..., None] * self.r[1]).sum(-2)      # (19)
        return both.sum(-1), of_r, (both[..., None] * active).sum(-2), (moment[..., None] * active).sum(-2)


def positive_part(v):
    return chosen(nearest(v) > 0, v, 0 * v)


def negative_part(v):
    return chosen(nearest(v) < 0, v, 0 * v)


def value(n):
    return chosen(nearest(n) < 0, exp(negative_part(n)), 1 + n)                     # (2)


def rise(n):
    """E'."""
    return exp(negative_part(n))                                                    # (2)


def trapezoid(n_p, n_q):
    """The weights at both ends where n <= 0."""
    y, E_p, E_q = n_q - n_p, exp(n_p), exp(n_q)
    near = np.abs(nearest(y)) < 1
    small, large = chosen(near, y, 0 * y), chosen(near, 1 + 0 * y, y)
    far = tuple(over_square(v, large) for v in (E_q - E_p * (1 + large), E_p - E_q * (1 - large)))          # (22)
    return chosen(near, E_p * phi(small), far[0]), chosen(near, E_q * phi(-small), far[1])          # (20)


def over_square(v, y):
    """v/y^2, where y^2 may overflow."""
    return chosen(np.abs(nearest(y)) < 2.0**500, v / (y * y), v / y / y)


def phi(y):
    """(21) for |y| < 1; since 19! > 1/u, all factors y after the 19th are rounded."""
    total = 1 + 0 * y
    for i in range(29, 2, -1):
        total = 1 + (y if i <= 19 else nearest(y)) * total / i                      # (21)
    return total / 2
