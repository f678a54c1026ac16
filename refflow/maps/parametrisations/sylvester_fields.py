r"""The fields of a Sylvester flow: one matrix for both triangles, their diagonals by tanh, and the slacks.

The map.  `h = (d, p, q, b)`, where `d` is a matrix, row by row.  `R` is `d` above the diagonal, and `S` is there what `d^T` is.  The
diagonals are
    r_i = tanh(p_i),   s_i = tanh(q_i)                                              (1)
    R_ij = d_ij  for j > i,   S_ij = d_ji  for j > i,   0 elsewhere                 (2)
    diagonal_i = s_i,   slack_i = 1 + r_i s_i                                       (3)
The page `Sylvester` has the slacks as fields and finds `r_i` from them.  Because both diagonals are inside `(-1, 1)`, the slacks
are positive.  The diagonal of `d` has no effect.

The reverse rule.  From (1) to (3),
    d_ij_bar = R_ij_bar  for j > i,   d_ji_bar = S_ij_bar  for j > i,   d_ii_bar = 0        (4)
    p_i_bar = slack_i_bar s_i (1 - r_i^2)                                           (5)
    q_i_bar = (diagonal_i_bar + slack_i_bar r_i) (1 - s_i^2)                        (6)

Source: van den Berg, Hasenclever, Tomczak and Welling, arXiv:1803.05649, and the authors' code.
"""

from __future__ import annotations

import numpy as np

from ...core import case, plain
from ...core.rules import count
from .parametrisation import Map, parametrisation


class textbook:
    """(1) to (6) as they are printed, for one event."""

    def parts(h, dimension):
        """d, r and s, and b."""
        D = dimension
        d, p, q, b = h[:D * D].reshape(D, D), h[D * D:D * D + D], h[D * D + D:D * D + 2 * D], h[D * D + 2 * D:]
        return d, np.tanh(p), np.tanh(q), b                                         # (1)

    def fields(h, dimension):
        d, r, s, b = textbook.parts(h, dimension)
        return {"R": np.triu(d, 1), "S": np.triu(d.T, 1), "diagonal": s, "b": b, "slack": 1 + r * s}        # (2) (3)

    def vjp(h, dimension, R_bar, S_bar, diagonal_bar, b_bar, slack_bar):
        _, r, s, _ = textbook.parts(h, dimension)
        d_bar = np.triu(R_bar, 1) + np.triu(S_bar, 1).T                             # (4)
        p_bar = slack_bar * s * (1 - r**2)                                          # (5)
        q_bar = (diagonal_bar + slack_bar * r) * (1 - s**2)                         # (6)
        return np.concatenate((d_bar.ravel(), p_bar, q_bar, b_bar)), {}


r"""In floating point.

In (3), `1 + r_i s_i` cancels where the signs differ, and is 0 once one tanh rounds to 1 and the other to -1.  With `P = exp(-2 |p|)` and
`Q = exp(-2 |q|)`,
    slack = 2 (1 + P Q)/((1 + P) (1 + Q))    where p q >= 0                         (7)
          = 2 (P + Q)/((1 + P) (1 + Q))      where p q < 0                          (8)

In (5) and (6), `1 - r^2` loses all digits where `r` rounds to 1:
    1 - r^2 = 4 P/(1 + P)^2                                                         (9)
The page is certified at moderate h, `2^-4` to `2^4`.
"""


@parametrisation(source="arXiv:1803.05649", moderate=True, textbook=textbook)
class SylvesterFields(Map):
    """`R` and `S` (D, D), `diagonal`, `b` and `slack` (D,) of a Sylvester flow, D = `dimension`, from D (D + 3) numbers: a matrix row
    by row, the numbers of the diagonals of R and S, and b.
    """

    dimension: int = plain(rule=count())
    names = ("R", "S", "diagonal", "b", "slack")
    terms = 2                                           # in (3)

    size = property(lambda self: self.dimension * (self.dimension + 3))
    cores = property(lambda self: ((self.dimension,) * 2,) * 2 + ((self.dimension,),) * 3)

    @classmethod
    def examples(cls, source):
        f = cls(source.count(1, 3))
        return f, (f.size,)

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, h):
        D = self.dimension
        d, p, q, b = np.split(h, [D * D, D * D + D, D * D + 2 * D], -1)
        d = d.reshape(*d.shape[:-1], D, D)
        (r, P, bend_r), (s, Q, bend_s) = letters(p), letters(q)
        slack = 2 * np.where((p < 0) == (q < 0), 1 + P * Q, P + Q) / ((1 + P) * (1 + Q))        # (3) (7) (8)

        def pullback(bars):
            d_bar = np.triu(bars["R"], 1) + np.triu(bars["S"], 1).mT                # (4)
            p_bar = bars["slack"] * s * bend_r                                      # (5)
            q_bar = (bars["diagonal"] + bars["slack"] * r) * bend_s                 # (6)
            return np.concatenate((d_bar.reshape(*p_bar.shape[:-1], D * D), p_bar, q_bar, bars["b"]), -1), {}

        return {"R": np.triu(d, 1), "S": np.triu(d.mT, 1), "diagonal": s, "b": b, "slack": slack}, pullback         # (2) (3)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Line", "D = 1: the matrix has no effect", z=[[9.0, 0.5, -0.25, 2.0]], dimension=1),
        case("Rows", "above the diagonal of the matrix and below it", z=[[1.0, 2.0, 3.0, 4.0, 0.5, -0.5, 0.25, 1.0, -1.0, 0.0]],
             dimension=2),
        case("Opposite", "both tanh round to 1, with opposite signs: the slack is not 0",
             z=[[0.0, 30.0, -40.0, 1.0], [0.0, -19.5, 20.0, 0.0]], dimension=1),
        case("Alike", "both tanh round to 1: the slack rounds to 2", z=[[0.0, 40.0, 40.0, 1.0]], dimension=1),
        case("Flat", "q = 0: the diagonal is 0, which the page `Sylvester` refuses", z=[[0.0, 0.5, 0.0, 1.0]], dimension=1),
    )


def letters(a):
    """tanh a, exp(-2 |a|) and 1 - tanh^2 a."""
    P = np.exp(-2 * np.abs(a))
    return np.tanh(a), P, 4 * P / (1 + P) ** 2                                      # (1) (9)
