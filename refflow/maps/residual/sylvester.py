r"""Sylvester flow with triangular matrices, `R^D -> R^D`: a planar flow with `D` units; unit `i` reads the entries from `i` on.

The map.  With upper triangular matrices `R` and `S` and an offset `b`, and with the slacks `c = slack > 0`,
    x = z + R t,   t_i = tanh(a_i),   a = S z + b                                   (1)
    r_ii = (c_i - 1)/s_ii                                                           (2)
The diagonal of `S` is a field without zeros, and the diagonal of `R` follows from it.  By Sylvester's identity,
    dx/dz = I + R diag(h) S,   h_i = 1 - t_i^2                                      (3)
    log|det dx/dz| = sum_i log p_i,   p_i = 1 + (c_i - 1) h_i                       (4)
For the inverse map, the product of (1) with `S` is an upper triangular system.  From the last row to the first, each row has one
unknown and a left side that increases, because its slope `p_i` is positive.  A bisection finds its root, as in `Planar`:
    a_i + (c_i - 1) t_i = y_i - sum_(j > i) g_ij t_j,   y = S x + b,   G = S R      (5)
    z = x - R t                                                                     (6)
    log|det dz/dx| = -sum_i log p_i   at the root                                   (7)
The source has an orthogonal matrix `Q` besides, `x = z + Q R tanh(S Q^T z + b)`: a chain of the inverse of `Q`, this map, and `Q`.
`OrthogonalLinear` is such a `Q`, or `Permutation` for the identity and the reversal in turn.  With fewer units than entries,
`Concatenate` leaves the other entries as they are.

The reverse rule.  From (1) and (4), with the cotangent `l_bar` of (4) and `m_i = l_bar p_i'/p_i`, `p_i' = -2 (c_i - 1) h_i t_i`,
    a_bar = h R^T x_bar + m                                                         (8)
    z_bar = x_bar + S^T a_bar,   b_bar = a_bar,   S_bar = triu(a_bar z^T, 1),   R_bar = triu(x_bar t^T, 1)          (9)
and on the diagonals, with `o_i = x_i_bar t_i`,
    s_ii_bar = a_i_bar z_i - o_i (c_i - 1)/s_ii^2                                   (10)
    c_i_bar = o_i/s_ii + l_bar h_i/p_i                                              (11)
For the inverse map, (5) gives `M da = dy - dG t` with the upper triangular `M = I + G diag(h)`.  With the cotangent `l_bar` of
(7),
    M^T a_bar = -(h R^T z_bar + m)                                                  (12)
    x_bar = z_bar + S^T a_bar,   b_bar = a_bar,   S_bar = triu(a_bar z^T, 1),   R_bar = -triu(x_bar t^T, 1)         (13)
    s_ii_bar = a_i_bar z_i + x_i_bar t_i (c_i - 1)/s_ii^2                           (14)
    c_i_bar = -x_i_bar t_i/s_ii - l_bar h_i/p_i                                     (15)

Source: van den Berg, Hasenclever, Tomczak and Welling, Sylvester Normalizing Flows, arXiv:1803.05649.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, chosen, nonzero, pair, positive, real, stacked, strictly_upper
from ...core.arrays import doubled, rounded
from ...core.pairs import log
from .hyperplane import rounded_vjp
from .planar import Letters, solved


class textbook:
    """(1) to (15) as they are printed, for one event."""

    def matrices(R, S, diagonal, slack):
        """R and S with their diagonals."""
        return R + np.diag((slack - 1) / diagonal), S + np.diag(diagonal)           # (2)

    def letters(a, slack):
        """t, h, p, and p'/p."""
        t = np.tanh(a)                                                              # (1)
        h = 1 - t**2                                                                # (3)
        p = 1 + (slack - 1) * h                                                     # (4)
        return t, h, p, -2 * (slack - 1) * h * t / p                                # (8)

    def forward(z, R, S, diagonal, b, slack):
        R, S = textbook.matrices(R, S, diagonal, slack)
        return z + R @ np.tanh(S @ z + b)                                           # (1)

    def root(x, R, S, diagonal, b, slack):
        """a."""
        R, S = textbook.matrices(R, S, diagonal, slack)
        a, G, y = 0 * x, S @ R, S @ x + b                                           # (5)
        for i in range(len(x) - 1, -1, -1):
            y_i = y[i] - np.sum(G[i, i + 1:] * np.tanh(a[i + 1:]))                  # (5)
            below, above = y_i - abs(slack[i] - 1), y_i + abs(slack[i] - 1)
            a[i] = (below + above) / 2
            while below < a[i] < above:
                lower = a[i] + (slack[i] - 1) * np.tanh(a[i]) < y_i                 # (5)
                below, above = (a[i], above) if lower else (below, a[i])
                a[i] = (below + above) / 2
        return a

    def inverse(x, R, S, diagonal, b, slack):
        a = textbook.root(x, R, S, diagonal, b, slack)
        return x - textbook.matrices(R, S, diagonal, slack)[0] @ np.tanh(a)         # (6)

    def jacobian(z, R, S, diagonal, b, slack):
        R, S = textbook.matrices(R, S, diagonal, slack)
        t = np.tanh(S @ z + b)                                                      # (1)
        return np.eye(len(z), dtype=z.dtype) + R @ np.diag(1 - t**2) @ S            # (3)

    def log_det(z, R, S, diagonal, b, slack):
        _, S = textbook.matrices(R, S, diagonal, slack)
        return np.sum(np.log(textbook.letters(S @ z + b, slack)[2]))                # (4)

    def inverse_log_det(x, R, S, diagonal, b, slack):
        return -np.sum(np.log(textbook.letters(textbook.root(x, R, S, diagonal, b, slack), slack)[2]))          # (7)

    def vjp(z, R, S, diagonal, b, slack, x_bar, l_bar):
        s, (R, S) = diagonal, textbook.matrices(R, S, diagonal, slack)
        t, h, p, bend = textbook.letters(S @ z + b, slack)
        a_bar, o = h * (R.T @ x_bar) + l_bar * bend, x_bar * t                      # (8)
        bars = {"R": np.triu(np.outer(x_bar, t), 1), "S": np.triu(np.outer(a_bar, z), 1), "b": a_bar,           # (9)
                "diagonal": a_bar * z - o * (slack - 1) / s**2, "slack": o / s + l_bar * h / p}     # (10) (11)
        return x_bar + S.T @ a_bar, bars                                            # (9)

    def inverse_vjp(x, R, S, diagonal, b, slack, z_bar, l_bar):
        a = textbook.root(x, R, S, diagonal, b, slack)
        s, (R, S), (t, h, p, bend) = diagonal, textbook.matrices(R, S, diagonal, slack), textbook.letters(a, slack)
        z, M, a_bar = x - R @ t, np.eye(len(x), dtype=x.dtype) + S @ R @ np.diag(h), -(h * (R.T @ z_bar) + l_bar * bend)    # (6) (12)
        for i in range(len(x)):
            a_bar[i] = (a_bar[i] - np.sum(M[:i, i] * a_bar[:i])) / M[i, i]          # (12)
        x_bar = z_bar + S.T @ a_bar                                                 # (13)
        bars = {"R": -np.triu(np.outer(x_bar, t), 1), "S": np.triu(np.outer(a_bar, z), 1), "b": a_bar,          # (13)
                "diagonal": a_bar * z + x_bar * t * (slack - 1) / s**2, "slack": -x_bar * t / s - l_bar * h / p}    # (14) (15)
        return x_bar, bars


r"""In floating point.

In (5), sums cancel, and rounded roots spoil the rows before them.  From (1) to (15), everything is computed with pairs of floats,
of twice the digits, as in `Planar`, for float32 too, and rounded once.          (16)
The page is certified at moderate events and parameters and at the hard cases.

In (4), logarithms of opposite sign cancel.  They are pairs, too, and
    log p_i = f - f^2/2,   f = (c_i - 1) h_i    for |f| < 2^-40                     (17)
keeps the digits of a small `f`.
"""


@bijector(source="arXiv:1803.05649", domain=real, codomain=real, solver=True, moderate=True, textbook=textbook)
class Sylvester(Bijector):
    """x = z + R tanh(S z + b) with upper triangular matrices; the inverse uses a bracketing solver, row by row.

    z and x are (*batch, D).  R and S are (D, D) and hold what is above the diagonals; the diagonal of S is `diagonal` (D,), without
    zeros, and the diagonal of R is `(slack - 1)/diagonal`.  ValueError for zeros there and for slacks that are not positive.
    """

    R: Array = strictly_upper("D", "D")
    S: Array = strictly_upper("D", "D")
    diagonal: Array = nonzero("D")
    b: Array = real("D")
    slack: Array = positive("D")
    event_ndim = (1, 1)

    @staticmethod
    def definition(m, z, R, S, diagonal, b, slack):
        D = len(z)
        a = [diagonal[i] * z[i] + sum(S[i][j] * z[j] for j in range(i + 1, D)) + b[i] for i in range(D)]        # (1)
        t = [m.tanh(a_i) for a_i in a]                                              # (1)
        r = [(slack[i] - 1) / diagonal[i] for i in range(D)]                        # (2)
        return [z[i] + r[i] * t[i] + sum(R[i][j] * t[j] for j in range(i + 1, D)) for i in range(D)]            # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward_and_log_det(self, z):
        v, at = self.of_latent(z)
        return rounded((v.moved(at.t), log_det(at)), z.dtype)                       # (1) (4)

    def jacobian(self, z):
        v, at = self.of_latent(z)
        inside = ((v.R * at.s[..., None, :])[..., :, :, None] * v.S[..., None, :, :]).sum(-2)       # (3)
        return (inside + np.eye(z.shape[-1])).astype(z.dtype)                       # (3)

    def inverse_and_log_det(self, x):
        v, at = self.of_image(x)
        return rounded((v.moved(-at.t), -log_det(at)), x.dtype)                     # (6) (7)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v, at = self.of_latent(z)

        def pullback(x_bar, log_det_bar):
            l_bar = log_det_bar[..., None]
            a_bar = at.s * times_transposed(v.R, x_bar) + l_bar * at.bend()         # (8)
            z_bar = times_transposed(v.S, a_bar) + x_bar                            # (9)
            bars = v.bars(pair(v.event), a_bar, at.t, pair(x_bar))                  # (9) (10)
            return z_bar, bars | {"slack": bars["slack"] + l_bar * at.s / at.p}     # (11)

        return rounded_vjp((v.moved(at.t), log_det(at)), pullback, z.dtype)         # (1) (4)

    def inverse_vjp(self, x):
        v, at = self.of_image(x)
        z = v.moved(-at.t)                                                          # (6)

        def pullback(z_bar, log_det_bar):
            l_bar = log_det_bar[..., None]
            right = -(at.s * times_transposed(v.R, z_bar) + l_bar * at.bend())      # (12)
            a_bar = []
            for i in range(x.shape[-1]):
                rest = sum((v.G[..., j, i] * at.s[..., i] * a_bar[j] for j in range(i)), 0 * right[..., i])     # (12)
                a_bar.append((right[..., i] - rest) / at.p[..., i])                 # (12)
            a_bar = stacked(a_bar)
            x_bar = times_transposed(v.S, a_bar) + z_bar                            # (13)
            bars = v.bars(z, a_bar, at.t, -x_bar)                                   # (13) (14)
            return x_bar, bars | {"slack": bars["slack"] - l_bar * at.s / at.p}     # (15)

        return rounded_vjp((z, -log_det(at)), pullback, x.dtype)                    # (7)

    # -- in floating point --------------------------------------------------------------------------------------------

    def of_latent(self, z):
        """The matrices and the event, and the letters at z."""
        v = Matrices(self, z)
        return v, Letters(v.c, times(v.S, v.event) + v.b)                           # (1)

    def of_image(self, x):
        """The matrices and the event, and the letters at the root."""
        v = Matrices(self, x)
        y, found = times(v.S, v.event) + v.b, []                                    # (5)
        for i in range(x.shape[-1] - 1, -1, -1):
            y_i = y[..., i]
            for j, later in enumerate(reversed(found), i + 1):
                y_i = y_i - v.G[..., i, j] * later.t                                # (5)
            found.append(solved(y_i, v.c[..., i]))                                  # (5)
        return v, Letters(v.c, stacked([at.a for at in reversed(found)]))

    @classmethod
    def examples(cls, source):
        D = source.count(1, 3)
        R, S = (strictly_upper.draw(source, (D, D), np.float64, 2) for _ in range(2))
        return cls(R, S, nonzero.draw(source, (D,), np.float64, 2), real.draw(source, (D,), np.float64, 2),
                   positive.draw(source, (D,), np.float64, 3)), (D,)

    hard_cases = (
        case("Line", "D = 1: a planar flow of one number", z=[[0.5], [-3.0]], x=[[0.25], [7.0]], R=[[0.0]], S=[[0.0]],
             diagonal=[2.0], b=[0.5], slack=[0.25]),
        case("Saturated", "h underflows in one unit", z=[[300.0, 0.5]], x=[[-300.0, 0.5]], R=[[0.0, 1.0], [0.0, 0.0]],
             S=[[0.0, 0.5], [0.0, 0.0]], diagonal=[2.0, -1.0], b=[0.5, 0.0], slack=[0.25, 3.0]),
        case("NearlySingular", "p_2 is small, and its root is handed to the first row", z=[[0.5, 2.0**-12]],
             x=[[0.25, 2.0**-20], [0.0, 0.0]], R=[[0.0, 1.0], [0.0, 0.0]], S=[[0.0, 0.5], [0.0, 0.0]], diagonal=[1.0, 1.0],
             b=[0.0, 0.0], slack=[2.0**-10, 2.0**-10]),
        case("Opposite", "the logarithms cancel", z=[[0.0, 0.0], [2.0**-20, 0.0]], x=[[0.0, 0.0], [0.5, 0.0]],
             R=[[0.0, 1.0], [0.0, 0.0]], S=[[0.0, 0.5], [0.0, 0.0]], diagonal=[1.0, 1.0], b=[0.0, 0.0], slack=[8.0, 0.125]),
        case("Volume", "all slacks are 1: the log-det is 0", z=[[0.5, -1.0]], x=[[0.5, -1.0]], R=[[0.0, 1.0], [0.0, 0.0]],
             S=[[0.0, 0.5], [0.0, 0.0]], diagonal=[1.0, -3.0], b=[0.25, 0.5], slack=[1.0, 1.0]),
    )


class Matrices:
    """An event, S, b and c in float64; R and G = S R as pairs."""

    def __init__(self, f, event):
        self.event, N, S, self.s, self.b, self.c = doubled(event, f.R, f.S, f.diagonal, f.b, f.slack)           # (16)
        one = np.eye(N.shape[-1])
        self.S, self.own = S + self.s[..., None] * one, (pair(self.c) - 1) / self.s            # (2)
        self.R = self.own[..., None] * one + N                                      # (2)
        self.G = (self.R[..., None, :, :] * self.S[..., :, :, None]).sum(-2)        # (5)

    def moved(self, t):
        """event + R t."""
        return times(self.R, t) + self.event                                        # (1)

    def bars(self, z, a_bar, t, x_bar):
        """The cotangents of all fields, as far as they are due to x, of pairs."""
        of_R, of_S = (upper(a[..., :, None] * b[..., None, :]) for a, b in ((x_bar, t), (a_bar, z)))
        o = x_bar * t
        return {"R": of_R, "S": of_S, "diagonal": a_bar * z - o * self.own / self.s, "b": a_bar, "slack": o / self.s}


def times(matrix, v):
    """The product of a matrix and a vector, as a pair."""
    return (pair(matrix) * v[..., None, :]).sum(-1)


def times_transposed(matrix, v):
    """The product of the transposed matrix and a vector, as a pair."""
    return (pair(matrix) * v[..., :, None]).sum(-2)


def upper(matrix):
    """What is above the diagonal."""
    return matrix * np.triu(np.ones(matrix.shape[-2:]), 1)


def log_det(at):
    """sum_i log p_i."""
    f = at.rise
    return chosen(np.abs(f.high) < 2.0**-40, f - f * f / 2, log(at.p)).sum(-1)      # (4) (17)
