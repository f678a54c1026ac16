r"""Density of the Cholesky factors `X` of Wishart matrices `X X^T`.

The map.  `X` and `L = cholesky` are lower triangular with a positive diagonal and `D` rows; the coordinates of `X` are its entries on
and below the diagonal.  With `n = df > D - 1` degrees of freedom and the scale `L L^T`, the entries of `T` are independent (Bartlett):
    L T = X,   k_i = n + 1 - i                                                      (1)
    T_ij ~ N(0, 1)  for j < i,   T_ii^2 ~ chi^2 with k_i degrees of freedom         (2)
    log p(X) = sum_i c_i - sum_(j < i) (T_ij^2 / 2 + (1/2) log 2 pi) - sum_i i log L_ii         (3)
    c_i = (k_i - 1) log T_ii - T_ii^2 / 2 - (k_i / 2 - 1) log 2 - log Gamma(k_i / 2)            (4)
where `sum_i i log L_ii` is the log-det of `T -> L T`.  `Flow(CholeskyOuterProduct(), WishartCholesky(n, L))` is the Wishart density, and
`Flow(Chain([CholeskyToInverseCholesky(), CholeskyOuterProduct()]), WishartCholesky(n, L))` the inverse Wishart density, with the
scale `(L L^T)^-1`.  For `n` whole, `X X^T` is distributed as a sum of `n` matrices `x x^T`, `x ~ N(0, L L^T)`.  A sample is
    X = L T,   T_ij = e_ij ~ N(0, 1)  for j < i,   T_ii = sqrt(2 G_i),   G_i ~ Gamma(k_i / 2)   (5)
It is reparameterised in `L`, and not in `n`: the distribution functions of `G` have no closed form in `n`.  A diagonal entry that rounds
to 0 is the smallest positive number.

The reverse rule.  `L dT = dX - dL T`.  With the cotangent `b` of `log p`, the cotangents `z_bar` of its `X` and `X_bar` of a sample, and
`psi` for the derivative of `log Gamma`,
    L^T W = T                                                                       (6)
    z_bar_ij = -b W_ij  for j < i,   z_bar_ii = b ((k_i - 1) / X_ii - W_ii)         (7)
    L_bar_ij = b (W T^T)_ij  for j < i,   L_bar_ii = b ((W T^T)_ii - n / L_ii)      (8)
    n_bar = b sum_i (log(T_ii^2 / 2) - psi(k_i / 2)) / 2                            (9)
    L_bar_ij = sum_k X_bar_ik T_jk  for j <= i          of (5)                      (10)

Source: Anderson (2003), "An introduction to multivariate statistical analysis", chapter 7.
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from ...core import Array, Density, case, cholesky_factor, density, positive, refusal
from ...core.arithmetic import log_abs_product, scaled, solve_lower, solve_upper
from .full_normal import solved
from .gammas import FROM, HALF_LOG_2_PI, delta, inside, log_gamma_apart, log_gamma_variables, log_of_quotient, mu

LOG_2 = math.log(2)
NEAR = 0.25                         # |r - 1| up to which (14)
TERMS = 16                          # of (14)


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def lower_solved(L, b):
        """L^-1 b."""
        y = b.copy()
        for i in range(len(b)):
            y[i] = (b[i] - sum(L[i, j] * y[j] for j in range(i))) / L[i, i]
        return y

    def letters(z, df, cholesky):
        """T, T_ii, i, k_i."""
        T, i = textbook.lower_solved(cholesky, z), np.arange(1, len(z) + 1)         # (1)
        return T, np.diagonal(T), i, df + 1 - i                                     # (1)

    def log_prob(z, df, cholesky):
        T, t, i, k = textbook.letters(z, df, cholesky)
        c = (k - 1) * np.log(t) - t * t / 2 - (k / 2 - 1) * np.log(2) - scipy.special.gammaln(k / 2)            # (4)
        D, below = len(z), np.tril(T, -1)
        normal = np.sum(below * below) / 2 + D * (D - 1) / 4 * np.log(2 * np.pi)    # (2)
        return np.sum(c) - normal - np.sum(i * np.log(np.diagonal(cholesky)))       # (3)

    def log_prob_vjp(z, df, cholesky, b):
        T, t, i, k = textbook.letters(z, df, cholesky)
        W = textbook.lower_solved(cholesky.T[::-1, ::-1], T[::-1])[::-1]            # (6)
        z_bar = b * (np.diag((k - 1) / np.diagonal(z)) - np.tril(W))                # (7)
        L_bar = b * (np.tril(W @ T.T) - np.diag(df / np.diagonal(cholesky)))        # (8)
        n_bar = b * np.sum(np.log(t * t / 2) - scipy.special.psi(k / 2)) / 2        # (9)
        return z_bar, {"df": n_bar, "cholesky": L_bar}

    def sample(e, G, df, cholesky):
        return cholesky @ (np.tril(e, -1) + np.diag(np.sqrt(2 * G)))                # (5)

    def sample_vjp(e, G, df, cholesky, X_bar):
        T = np.tril(e, -1) + np.diag(np.sqrt(2 * G))                                # (5)
        return {"cholesky": np.tril(X_bar @ T.T)}                                   # (10)


r"""In floating point.

In (4), terms of the size `k log k` leave a number near 1 where `T_ii^2` is near `k_i`.  With Stirling's formula, for `k_i >= 2`, they are
in `f`, the difference of a logarithm from its tangent:
    log Gamma(k/2) = (k/2 - 1/2) log(k/2) - k/2 + (1/2) log 2 pi + mu(k/2)          (11)
    c = (k/2) f(r) + log(sqrt(k/2) / T_ii) + log 2 - (1/2) log 2 pi - mu(k/2),   r = T_ii / sqrt k      (12)
    f(r) = 2 log r - r^2 + 1                                                        (13)
         = -q d + 2 (q^3/3 + q^5/5 + ...),   d = (r - 1)(r + 1),   q = d / (2 + d)      near r = 1      (14)

In (4), the logarithm of a small `k_i` cancels with the logarithm of a small `T_ii`, and both with others.  For `k < 1`,
    log Gamma(k/2) = log Gamma(1 + k/2) - log(k/2)                                  (15)

In (3), logarithms of large and of small numbers cancel.  They go into one quotient:
    prod_i N_i / (M_i L_ii^i),   N / M = sqrt(k/2) / T  of (12),   (k/2) / T  for k < 1,   1 else       (16)

In (9), large numbers cancel, and so do logarithms of large and of small numbers.  For `k_i >= 16`,
    log(T_ii^2 / 2) - psi(k_i / 2) = 2 log r + delta(k_i / 2),   psi(a) = log a - delta(a)      (17)
    sum_i log T_ii = log prod T_ii,   and so for r                                  (18)

In (1) and (6), columns of `T` or of `W` may overflow where a product with them does not.  They are scaled events:
    T_j = 2^(E_j) T'_j,   W_j = 2^(F_j) W'_j                                        (19)
"""


@density(source="Anderson (2003), chapter 7", textbook=textbook, support=cholesky_factor, not_reparameterised=("df",))
class WishartCholesky(Density):
    """The density of the Cholesky factors X of Wishart matrices with the scale L L^T, L = cholesky, by the entries on and below
    the diagonal.

    df (*batch) > D - 1, cholesky (*batch, D, D), X (*batch, D, D).  -inf for matrices that are not lower triangular with a positive
    diagonal.
    """

    df: Array = positive()
    cholesky: Array = cholesky_factor("D", "D")

    @property
    def event_shape(self):
        return self.dims["D"], self.dims["D"]

    def _validate(self):
        super()._validate()
        least = self.dims["D"] - 1
        if not (self.df > least).all():
            raise ValueError(f"WishartCholesky: df must exceed D - 1 = {least}; df = {self.df.min()}")

    # -- the map ------------------------------------------------------------------------------------------------------

    @staticmethod
    def definition(m, z, df, cholesky):
        T, log_prob = [], m.mpf(0)
        for i, row in enumerate(cholesky):
            T.append([(z[i][j] - m.fsum(row[l] * T[l][j] for l in range(j, i))) / row[i] for j in range(i + 1)])           # (1)
            t, k = T[i][i], df - i                                                  # (1)
            c = (k - 1) * m.log(t) - t * t / 2 - (k / 2 - 1) * m.log(2) - m.loggamma(k / 2)         # (4)
            normal = m.fsum(v * v / 2 + m.log(2 * m.pi) / 2 for v in T[i][:i])      # (2)
            log_prob = log_prob + c - normal - (i + 1) * m.log(row[i])              # (3)
        return log_prob

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_prob_vjp(self, z):
        X = z.mT                                                                    # its rows are the columns of X
        L, L_of_rows = self.cholesky, self.cholesky[..., None, :, :]
        X_ii, L_ii = (np.diagonal(v, axis1=-2, axis2=-1) for v in (z, L))
        T, E = solved(solve_lower, L_of_rows, X)                                    # (1) (19)
        below = np.triu(T, 1)
        squares = scaled((below * (below / 2)).sum(-1, keepdims=True), 2 * E)[..., 0].sum(-1)       # (19)
        k = self.degrees()
        log_prob = value(k, X_ii / L_ii, L_ii) - squares                            # (3)

        def pullback(b):
            columns = b[..., None, None]
            W, F = solved(solve_upper, L_of_rows.mT, T, E)                          # (6) (19)
            b_W, i = columns * W, np.arange(z.shape[-1])
            z_bar = np.tril(-scaled(b_W, F).mT)                                     # (7) (19)
            z_bar[..., i, i] += b[..., None] * (k - 1) / X_ii                       # (7)
            outer = np.tril(b_W[..., :, None] * T[..., None, :])
            L_bar = np.ldexp(outer, np.expand_dims(E + F, -1)).sum(-3)              # (8) (19)
            L_bar[..., i, i] -= b[..., None] * self.df[..., None] / L_ii            # (8)
            df_bar = b * slope_of_df(k, X_ii / L_ii)                             # (9)
            return z_bar, {"df": df_bar, "cholesky": L_bar}

        return log_prob, pullback

    def degrees(self):
        """k_i."""
        df = self.df[..., None]
        return df - np.arange(self.dims["D"], dtype=df.dtype)                       # (1)

    def sample_vjp(self, rng, lead):
        dtype, k, i = self.cholesky.dtype, self.degrees(), np.arange(self.dims["D"])
        T = np.tril(rng.standard_normal(size=lead + self.event_shape), -1)
        T[..., i, i] = np.exp((np.log(2) + log_gamma_variables(rng, k / 2, lead + i.shape)) / 2)
        T = T.astype(dtype)
        X = np.tril(self.cholesky @ T)                                              # (5)
        X[..., i, i] = inside(X[..., i, i], dtype)
        return X, lambda X_bar: {"cholesky": np.tril(X_bar @ T.mT)}                 # (10)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("One", "D = 1: a chi variable times a number", z=[[[2.0]], [[0.0625]]], df=1.5, cholesky=[[0.5]]),
        case("Peak", "many degrees of freedom, near the mode: terms of the size 10^16 leave 1 in (4)", z=[[[2.0**25]], [[2.0**25 + 2.0]]],
             df=2.0**50, cholesky=[[1.0]]),
        case("Few", "k_2 is small, and so is T_22: logarithms cancel in (16)", z=[[[1.0, 0.0], [0.5, 2.0**-40]]], df=1.0 + 2.0**-40,
             cholesky=[[1.0, 0.0], [0.5, 1.0]]),
        case("Stirling", "(11) begins in the second row", z=[[[2.0, 0.0], [1.0, 1.5]]], df=3.0, cholesky=[[1.0, 0.0], [0.25, 1.0]]),
        case("Tangent", "(14) ends", z=[[[2.5]], [[1.5]]], df=4.0, cholesky=[[1.0]]),
        case("Growing", "forward substitution doubles entries of T in each step, or more",
             z=[[[1.0, 0.0, 0.0], [-1.0, 1.0, 0.0], [1.0, 1.0, 1.0]]], df=4.0, cholesky=[[1.0, 0.0, 0.0], [-4.0, 1.0, 0.0], [4.0, -4.0, 1.0]]),
        case("Opposite", "the logarithms of the scales cancel", z=[np.diag([3.0e13, 1.5e15, 6.9e-16, 1.7e-14])], df=5.0,
             cholesky=np.diag([1.5e15, 3.0e13, 6.9e-16, 1.7e-14])),
        case("Whole", "k_i = 1 and 2: log Gamma is 0 or a logarithm of pi", z=[[[1.0, 0.0], [0.5, 0.5]]], df=2.0, cholesky=[[1.0, 0.0], [0.0, 1.0]]),
    )
    refused = (
        refusal("df must exceed D - 1 = 1; df = 1.0", df=1.0, cholesky=np.eye(2)),
    )


def tangent(r):
    """f(r)."""
    d = (r - 1) * (r + 1)
    q = np.where(np.abs(r - 1) <= NEAR, d / (2 + d), 0)
    series = np.zeros_like(q)
    for n in range(TERMS, 0, -1):
        series = (series + 1 / (2 * n + 1)) * q * q
    return np.where(np.abs(r - 1) <= NEAR, q * (2 * series - d), 2 * np.log(r) - d)         # (13) (14)


def value(k, t, L_ii):
    """log p without the squares of T below the diagonal."""
    a, D = k / 2, k.shape[-1]
    own, small = log_gamma_apart(a)                                                 # (15)
    direct = np.where(small, k, k - 1) * np.log(t) - t * (t / 2) - (a - 1) * LOG_2 - own          # (4) (15)
    high = np.maximum(a, 1)
    far = a * tangent(t / np.sqrt(k)) + (LOG_2 - HALF_LOG_2_PI) - mu(high)         # (11) (12)
    each = np.where(a >= 1, far, direct)
    above = np.where(a >= 1, np.sqrt(a), np.where(small, a, 1))
    below = np.where((a >= 1) | small, t, 1)
    powers = np.concatenate((np.ones(D, int), np.arange(1, D + 1)))
    above, divisors = np.broadcast_to(above, below.shape), np.concatenate((below, np.broadcast_to(L_ii, below.shape)), -1)
    normal = D * (D - 1) / 2 * HALF_LOG_2_PI
    return each.sum(-1) + log_of_quotient(above.astype(t.dtype), divisors.astype(t.dtype), powers) - normal         # (3) (16)


def slope_of_df(k, t):
    """sum_i (log(T_ii^2 / 2) - psi(k_i / 2)) / 2."""
    a = k / 2
    high = np.maximum(a, FROM)
    rest = np.where(a >= FROM, delta(high), -LOG_2 - scipy.special.psi(a))          # (9) (17)
    return log_abs_product(np.where(a >= FROM, t / np.sqrt(k), t)) + rest.sum(-1) / 2       # (17) (18)
