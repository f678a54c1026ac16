r"""Normal density with the covariance `L L^T`, where `L = cholesky` is lower triangular with a positive diagonal.

The map.  `z` is a vector of `n` entries, and `L = cholesky`; `e` is drawn from the standard normal density:
    L t = z - loc                                                                   (1)
    log p(z) = -1/2 sum t^2 - (n/2) log 2 pi - sum log L_ii                         (2)
    z = loc + L e                                   a sample                        (3)

The reverse rule.  `d(1/2 sum t^2) = t^T dt` and `L dt = dz - dloc - dL t`, so that `t^T dt = w^T (dz - dloc - dL t)` with `w` of
(4).  With the cotangent `b` of `log p`, and the cotangent `z_bar` of a sample,
    L^T w = t                                                                       (4)
    z_bar = -b w,   loc_bar = b w,   L_bar = b tril(w t^T) - b diag(1 / L_ii)       (5)
    loc_bar = z_bar,   L_bar = tril(z_bar e^T)          of (3)                      (6)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Density, case, cholesky_factor, density, real
from ...core.arithmetic import log_abs_product, scaled, solve_lower, solve_upper
from .entries import HALF_LOG_2_PI, drawn


class textbook:
    """(1) to (6) as they are printed, for one event."""

    def lower_solved(L, b):
        """L^-1 b."""
        y = b.copy()
        for i in range(len(b)):
            y[i] = (b[i] - sum(L[i, j] * y[j] for j in range(i))) / L[i, i]
        return y

    def upper_solved(U, b):
        """U^-1 b."""
        return textbook.lower_solved(U[::-1, ::-1], b[::-1])[::-1]

    def log_prob(z, loc, cholesky):
        t = textbook.lower_solved(cholesky, z - loc)                                # (1)
        return -np.sum(t * t) / 2 - len(z) / 2 * np.log(2 * np.pi) - np.sum(np.log(np.diagonal(cholesky)))          # (2)

    def log_prob_vjp(z, loc, cholesky, b):
        t = textbook.lower_solved(cholesky, z - loc)                                # (1)
        w = textbook.upper_solved(cholesky.T, t)                                    # (4)
        L_bar = b * np.tril(np.outer(w, t)) - b * np.diag(1 / np.diagonal(cholesky))        # (5)
        return -b * w, {"loc": b * w, "cholesky": L_bar}                            # (5)

    def sample(e, loc, cholesky):
        return loc + cholesky @ e                                                   # (3)

    def sample_vjp(e, loc, cholesky, z_bar):
        return {"loc": z_bar, "cholesky": np.tril(np.outer(z_bar, e))}              # (6)


r"""In floating point.

In (2), a sum of logarithms loses the digits of the largest of them; the product is taken first:
    sum log L_ii = log prod L_ii                                                    (7)

In (1) and (4), `t` or `w` may overflow where a product with them does not.  Both are solved as scaled events, which never
overflow:
    t = 2^E t',   w = 2^F w'                                                        (8)
Small entries of an event lose digits when it is scaled to its largest one, so `E` or `F` is 0 if plain substitution
stays inside the floats.
"""


@density(source="definition", textbook=textbook)
class FullNormal(Density):
    """The normal density N(loc, L L^T) of vectors, where L = cholesky is lower triangular with a positive diagonal.

    loc (*batch, D), cholesky (*batch, D, D), z (*batch, D).
    """

    loc: Array = real("D")
    cholesky: Array = cholesky_factor("D", "D")

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_prob_vjp(self, z):
        L = self.cholesky
        diagonal = np.diagonal(L, axis1=-2, axis2=-1)
        t, E = solved(solve_lower, L, z - self.loc)                                 # (1) (8)
        squares = scaled((t * (t / 2)).sum(-1, keepdims=True), 2 * E)[..., 0]       # (8)
        log_prob = -squares - z.shape[-1] * HALF_LOG_2_PI - log_abs_product(diagonal)   # (2) (7)

        def pullback(b):
            b = b[..., None]
            w, F = solved(solve_upper, L.mT, t, E)                                  # (4) (8)
            b_w = b * w
            loc_bar = scaled(b_w, F)                                                # (5) (8)
            outer = np.tril(b_w[..., :, None] * t[..., None, :])
            L_bar = np.ldexp(outer, np.expand_dims(E + F, -1))                      # (5) (8)
            i = np.arange(z.shape[-1])
            L_bar[..., i, i] -= b / diagonal                                        # (5)
            return -loc_bar, {"loc": loc_bar, "cholesky": L_bar}                    # (5)

        return log_prob, pullback

    def sample_vjp(self, rng, lead):
        e = drawn(rng.standard_normal, lead, self.event_shape, self.loc.dtype)
        z = self.loc + np.matvec(self.cholesky, e)                                  # (3)
        return z, lambda z_bar: {"loc": z_bar, "cholesky": np.tril(z_bar[..., :, None] * e[..., None, :])}  # (6)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Growing", "forward substitution doubles t in each step, or more",
             z=[[1.0, -1.0, 1.0]], loc=[0.0, 0.0, 0.0], cholesky=[[1.0, 0.0, 0.0], [-4.0, 1.0, 0.0], [4.0, -4.0, 1.0]]),
        case("Determinant", "the logarithms of the diagonal, +-20 log 2, cancel",
             z=[[1.0, 1.0]], loc=[0.0, 0.0], cholesky=[[2.0**20, 0.0], [1.0, 2.0**-20]]),
        case("Opposite", "the logarithms of four numbers cancel, and leave the rounding of each", z=[[0.0] * 4], loc=[0.0] * 4,
             cholesky=np.diag([1.5e15, 3.0e13, 6.9e-16, 1.7e-14])),
    )


def solved(solve, L, b, e=0):
    """`solve(L, b, e)`, with the exponent 0 if plain substitution stays inside the floats."""
    y, k = solve(L, b, e)
    if type(k) is int:
        return y, k
    backwards = slice(None, None, -1 if solve is solve_upper else 1)
    L, b, plain = L[..., backwards, backwards], scaled(b, e)[..., backwards], np.zeros_like(y)  # (8)
    for i in range(b.shape[-1]):
        plain[..., i] = (b[..., i] - (L[..., i, :i] * plain[..., :i]).sum(-1)) / L[..., i, i]
    plain = plain[..., backwards]
    size, limits = np.abs(plain), np.finfo(plain.dtype)                             # (8)
    inside = ((size == 0) | (size >= limits.tiny / limits.eps) & (size <= limits.max)).all(-1, keepdims=True)
    return np.where(inside, plain, y), np.where(inside, 0, k)
