r"""Density of Lewandowski, Kurowicka & Joe (LKJ) on the Cholesky factors of correlation matrices.

The map.  `L` is lower triangular with `D` rows of norm 1 and a positive diagonal; its coordinates are the entries below the diagonal.
Row `i` has `i - 1` of them, `w` in a ball of radius 1, and `L_ii^2 = 1 - |w|^2`.  With `c = concentration > 0`, rows are independent,
and the density of row `i` is a power of `1 - |w|^2`, whose integral over the ball is known:
    h_i = (i - 1)/2   for i = 2, ..., D,   s_i = c + (D - i)/2   for i = 2, ..., D          (1)
    log p(L) = sum_(i > 1) ((D - i + 2 c - 2) log L_ii - log Z_i)                   (2)
    log Z_i = h_i log pi + log Gamma(s_i) - log Gamma(s_i + h_i)   for i = 2, ..., D        (3)
The density of `R = L L^T` by its entries below the diagonal is then proportional to `(det R)^(c - 1)`, since the log-det of
`CorrelationOuterProduct` is `sum_i (D - i) log L_ii`: `Flow(CorrelationOuterProduct(), LKJCholesky(c, D))`.
In a sample, `|w|^2` is a beta variable with the parameters `h_i` and `s_i`: it is `X/(X + Y)` for two gamma variables with these
parameters.  Half of the squared norm of a normal vector is such an `X`, and the vector also has the direction of `w`:
    (L_i1 .. L_ii) = v / |v|,   v = (e_1 .. e_(i-1), sqrt(2 G)),   e ~ N(0, I),   G ~ Gamma(s_i)        (4)
A sample is not reparameterised: the distribution functions of `G` have no closed form in `c`.  A diagonal entry that rounds to 0 is the
smallest positive number.

The reverse rule.  With the cotangent `b` of `log p`, and `psi` for the derivative of `log Gamma`, and with all entries of `L`, also those
on the diagonal, as if they were free, for `i > 1`
    L_bar_ii = b (D - i + 2 c - 2) / L_ii,   all other L_bar_ij = 0                 (5)
    c_bar = b sum_(i > 1) (2 log L_ii + psi(s_i + h_i) - psi(s_i))                  (6)

Source: Lewandowski, Kurowicka & Joe (2009), "Generating random correlation matrices based on vines and extended onion method".
"""

from __future__ import annotations

from math import log, pi

import numpy as np
import scipy

from ...core import Array, Density, case, correlation_cholesky, density, plain, positive
from ...core.arithmetic import log_abs_product
from ...core.rules import count
from .gammas import SMALL, inside, log_gamma_ratio, log_gamma_variables, log_of_quotient, psi_difference


class textbook:
    """(1) to (6) as they are printed, for one event."""

    def rows(z, concentration, dimension):
        """L_ii, D - i + 2 c - 2, h_i, s_i for i > 1."""
        i = np.arange(2, dimension + 1)
        order = dimension - i + 2 * concentration - 2
        return np.diagonal(z)[1:], order, (i - 1) / 2, concentration + (dimension - i) / 2          # (1)

    def log_prob(z, concentration, dimension):
        L, order, h, s = textbook.rows(z, concentration, dimension)
        log_Z = h * np.log(np.pi) + scipy.special.gammaln(s) - scipy.special.gammaln(s + h)         # (3)
        return np.sum(order * np.log(L) - log_Z)                                    # (2)

    def log_prob_vjp(z, concentration, dimension, b):
        L, order, h, s = textbook.rows(z, concentration, dimension)
        L_bar = 0 * z
        for i in range(1, dimension):
            L_bar[i, i] = b * order[i - 1] / L[i - 1]                               # (5)
        slope = np.sum(2 * np.log(L) + scipy.special.psi(s + h) - scipy.special.psi(s))
        return L_bar, {"concentration": b * slope}                                  # (6)

    def sample(e, G, concentration, dimension):
        """From e below the diagonal, and one G for each row but the first."""
        v = np.tril(e, -1) + np.diag(np.sqrt(2 * np.array([1, *G])))
        return v / np.sqrt(np.sum(v * v, -1))[:, None]                              # (4)


r"""In floating point.

In (3), and in (6), large numbers cancel where `c` is large.  For `s >= 8`, with `mu` and `delta` for what Stirling's formula leaves,
    log Gamma(s + h) - log Gamma(s) = (s - 1/2) log(1 + h/s) + h log(s + h) - h + mu(s + h) - mu(s)     (7)
    psi(s + h) - psi(s) = log(1 + h/s) - delta(s + h) + delta(s)                    (8)

In (2), the logarithm of a small concentration cancels with the logarithm of a small `L_DD`.  For `c < 1/2`, in the last row,
    -log Gamma(c) = log c - log Gamma(1 + c)                                        (9)
    (2 c - 2) log L_DD + log c = 2 c log L_DD + log(c / L_DD^2)                     (10)
"""


@density(source="Lewandowski, Kurowicka & Joe (2009)", textbook=textbook, support=correlation_cholesky,
         not_reparameterised=("concentration",))
class LKJCholesky(Density):
    """The LKJ density of Cholesky factors L of correlation matrices, by the entries below the diagonal.

    concentration (*batch) > 0, L (*batch, dimension, dimension).  At the concentration 1, all correlation matrices are equally likely.
    -inf for other matrices.
    """

    concentration: Array = positive()
    dimension: int = plain(rule=count())

    @property
    def event_shape(self):
        return self.dimension, self.dimension

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_prob_vjp(self, z):
        c, L = self.concentration[..., None], np.diagonal(z, axis1=-2, axis2=-1)[..., 1:]
        h, s, order = self.rows()
        small = (c < SMALL) & (np.arange(2, self.dimension + 1) == self.dimension)
        terms = np.where(small, 2 * c, order) * np.log(L) + log_gamma_ratio(s, h) - h * log(pi)     # (2) (3) (7) (10)
        above, below = (np.broadcast_to(np.where(small, v, 1), L.shape).astype(z.dtype) for v in (c, L))
        log_prob = terms.sum(-1) + log_of_quotient(above, below, 2)                 # (9) (10)

        def pullback(b):
            i, L_bar = np.arange(1, self.dimension), np.zeros_like(z)
            L_bar[..., i, i] = b[..., None] * order / L                             # (5)
            slope = 2 * log_abs_product(L) + psi_difference(s, h).sum(-1)           # (8)
            return L_bar, {"concentration": b * slope}                              # (6)

        return log_prob, pullback

    def rows(self):
        """h_i, s_i and the exponents of L_ii, i > 1."""
        c, D = self.concentration[..., None], self.dimension
        i = np.arange(2, D + 1, dtype=c.dtype)
        return (i - 1) / 2, c + (D - i) / 2, (D - i - 2) + 2 * c                    # (1)

    def sample(self, rng, lead):
        e, (_, s, _) = rng.standard_normal(size=lead + self.event_shape), self.rows()
        v, i = np.tril(e, -1), np.arange(1, self.dimension)
        v[..., 0, 0] = 1
        v[..., i, i] = np.exp((np.log(2) + log_gamma_variables(rng, s, lead + s.shape[-1:])) / 2)
        L = v / np.sqrt((v * v).sum(-1, keepdims=True))                             # (4)
        dtype, L_ii = self.concentration.dtype, np.diagonal(L, axis1=-2, axis2=-1)
        found, i = L.astype(dtype), np.arange(self.dimension)
        found[..., i, i] = inside(L_ii, dtype)
        return found

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("One", "D = 1: nothing is free", z=[[[1.0]]], concentration=2.0, dimension=1),
        case("Pair", "D = 2 at c = 1: the density of a correlation is 1/2", z=[[[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.0, 1.0]]],
             concentration=1.0, dimension=2),
        case("Three", "c = 1: the last row has no power of L_33", z=[[[1.0, 0.0, 0.0], [0.6, 0.8, 0.0], [0.0, 0.6, 0.8]]], concentration=1.0,
             dimension=3),
        case("Peak", "a large concentration: in (3), terms of the size 10^17 leave 10", z=[[[1.0, 0.0], [2.0**-27, 1.0]]], concentration=2.0**50,
             dimension=2),
        case("Stirling", "(7) begins in the last row but one", z=[[[1.0, 0.0, 0.0], [0.28, 0.96, 0.0], [0.0, 0.6, 0.8]]], concentration=7.5,
             dimension=3),
        case("Singular", "in (10), the logarithms of c and L_22^2 cancel", z=[[[1.0, 0.0], [1.0, 2.0**-30]]], concentration=2.0**-60, dimension=2),
        case("Root", "the exponent of L_22 is nearly 0", z=[[[1.0, 0.0], [0.6, 0.8]]], concentration=1.0 + 2.0**-50, dimension=2),
        case("Many", "exponents of both signs", z=[np.eye(5)], concentration=0.25, dimension=5),
    )
