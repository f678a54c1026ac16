r"""Dense layer with a bounded norm from p to q, `R^N -> R^M`: larger weights are divided by it.

The map.  The norm of `W` from `p` to `q` is the largest `|W a|_q/|a|_p`.  From 1, it is at a unit vector, and so the norm of a column;
to infinity, an entry of `W a` is largest, and so it is the dual norm of a row.  Let `n` be the norms of order `r` of the columns of
`A`: for `p = 1`, `A = W` and `r = q`; else `A = W^T`, with `r = 2` for `p = 2`, `r = 1` for an infinite `p`.
    n_j = sum_i |A_ij|   for r = 1                                                  (1)
    n_j = sqrt(sum_i A_ij^2)   for r = 2                                            (2)
    n_j = max_i |A_ij|   for r > 2                                                  (3)
    s = max_j n_j                                                                   (4)
With a bound `c = coefficient`, all weights are divided by one number,
    V = W/max(1, s/c)                                                               (5)
or, if `local`, each column of `A` by its own; then `V = B`, or `V = B^T` if `A = W^T`, with
    B_ij = A_ij/max(1, n_j/c)                                                       (6)
In both cases the norm of `V` is at most `c`.
    h = V a + b                                                                     (7)
    dh/da = V                                                                       (8)

The reverse rule.  With `V_bar` the cotangent of `V`,
    a_bar = V^T h_bar     V_bar = h_bar a^T     b_bar = h_bar                       (9)
Let `D` be the derivative of (4) by `W`.  In the column of `A` with the largest norm, it is the derivative of the norm: `sign(A_ij)` for
`r = 1`, `A_ij/n_j` for `r = 2`, and for an infinite `r` the sign of the largest entry, and 0 for the others.  In other columns it is 0.  So
    W_bar = (c/s) (V_bar - <V_bar, W/s> D)    for s > c,   V_bar otherwise          (10)
If `local`, (10) holds in each column of `A`, with its `n_j` for `s`, and `D` the derivative of this norm.  Tangents `A_dot` become
`V A_dot`.  Their cotangent `H_bar` adds to (9)
    A_dot_bar = V^T H_bar     V_bar = H_bar A_dot^T                                 (11)
The unit of error is normwise, as for `SpectralDense`.

Source: the code of Chen, Behrmann, Duvenaud and Jacobsen, Residual Flows for Invertible Generative Modeling, arXiv:1906.02735.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, plain, real, refusal
from ...core.rules import ABOVE_0, FLAG, one_of
from .examples import WIDTHS, weights
from .spectral_dense import Bounded, SpectralDense

ORDERS = {("1", "1"): 1, ("1", "2"): 2, ("1", "inf"): np.inf, ("2", "inf"): 2, ("inf", "inf"): 1}       # r, for p and q


class textbook:
    """(1) to (11) as they are printed, for one event."""

    def order(p, q):
        """Is A = W, and r."""
        return p == "1", {"1": {"1": 1, "2": 2, "inf": np.inf}[q], "2": 2, "inf": 1}[p]

    def norms(A, r):
        if r == 1:
            n = np.abs(A).sum(0)                                                    # (1)
            return n
        if r == 2:
            n = np.sqrt((A**2).sum(0))                                              # (2)
            return n
        n = np.max(np.abs(A), 0)                                                    # (3)
        return n

    def bounded(W, p, q, local, coefficient):
        of_columns, r = textbook.order(p, q)
        A = W if of_columns else W.T
        n = textbook.norms(A, r)
        if local:
            B = A / np.array([max(1, n_j / coefficient) for n_j in n])              # (6)
            return B if of_columns else B.T
        s = np.max(n)                                                               # (4)
        V = W / max(1, s / coefficient)                                             # (5)
        return V

    def forward(a, W, b, p, q, local, coefficient):
        return textbook.bounded(W, p, q, local, coefficient) @ a + b                # (7)

    def jacobian(a, W, b, p, q, local, coefficient):
        return textbook.bounded(W, p, q, local, coefficient)                        # (8)

    def of_norm(A, n, r):
        """The derivative of the norm of one column."""
        if r == 2:
            return A / n
        return np.sign(A) * (r == 1 or np.abs(A) == n)

    def of_column(A, n, D, c, V_bar):
        """W_bar of weights A with one norm."""
        return c / n * (V_bar - (V_bar * A / n).sum() * D) if n > c else V_bar      # (10)

    def of_weights(W, p, q, local, coefficient, V_bar):
        of_columns, r = textbook.order(p, q)
        A, A_bar = (W, V_bar) if of_columns else (W.T, V_bar.T)
        n = textbook.norms(A, r)
        if local:
            columns = [textbook.of_column(A[:, j], n[j], textbook.of_norm(A[:, j], n[j], r), coefficient, A_bar[:, j]) for j in range(len(n))]
            A_bar = np.stack(columns, 1)
        else:
            D, j = 0 * A, np.argmax(n)
            D[:, j] = textbook.of_norm(A[:, j], n[j], r)
            A_bar = textbook.of_column(A, n[j], D, coefficient, A_bar)
        return A_bar if of_columns else A_bar.T

    def vjp(a, W, b, p, q, local, coefficient, h_bar):
        V_bar = np.outer(h_bar, a)                                                  # (9)
        a_bar = textbook.bounded(W, p, q, local, coefficient).T @ h_bar             # (9)
        return a_bar, {"W": textbook.of_weights(W, p, q, local, coefficient, V_bar), "b": h_bar}        # (9)

    def jvp(a, A_dot, W, b, p, q, local, coefficient, h_bar, H_bar):
        a_bar, bars = textbook.vjp(a, W, b, p, q, local, coefficient, h_bar)
        V_bar = H_bar @ A_dot.T                                                     # (11)
        A_dot_bar = textbook.bounded(W, p, q, local, coefficient).T @ H_bar         # (11)
        return a_bar, A_dot_bar, bars | {"W": bars["W"] + textbook.of_weights(W, p, q, local, coefficient, V_bar)}


r"""In floating point.

In (1) to (11), sums lose units in float32.  Everything is computed in float64, and rounded once, as in `SpectralDense`.           (12)
"""


@conditioner(source="arXiv:1906.02735", normwise=True, textbook=textbook)
class MixedNormDense(Conditioner):
    """h = V a + b, V = W/max(1, s/coefficient), with the norm s of W from p to q; W (M, N), b (M,).

    `p` and `q` are "1", "2" or "inf": p is 1, or q infinite.  If `local`, each column of W is divided by its own norm, or, unless p is 1,
    each row.
    """

    W: Array = real("M", "N")
    b: Array = real("M", default=0.0)
    p: str = plain("inf", one_of("1", "2", "inf"))
    q: str = plain("inf", one_of("1", "2", "inf"))
    local: bool = plain(False, FLAG)
    coefficient: float = plain(0.98, ABOVE_0)
    event_shape = ("N",)

    fixed_shape = property(lambda self: self.W.shape[-1:])
    output_shape = SpectralDense.output_shape

    def _validate(self):
        super()._validate()
        if (self.p, self.q) not in ORDERS:
            raise ValueError(f"MixedNormDense: p must be 1 or q inf, not p={self.p} and q={self.q}")

    # -- the map ------------------------------------------------------------------------------------------------------

    def bounded(self):
        axis, r = -2 if self.p == "1" else -1, ORDERS[self.p, self.q]
        W = self.W.astype(np.float64)                                               # (12)
        n = np.linalg.norm(W, r, axis, keepdims=True)                               # (1) (2) (3)
        if r == 2:
            D = W / np.where(n > 0, n, 1)
        else:
            D = np.sign(W) * (one_hot(np.abs(W), axis) if r == np.inf else 1)
        if self.local:
            return Bounded(self, n.squeeze(axis), D, (axis,))                       # (6)
        return Bounded(self, n.max((-2, -1)), D * one_hot(n, -3 - axis))            # (4) (5)

    forward, jacobian = SpectralDense.forward, SpectralDense.jacobian               # (7) (8)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    vjp, jvp = SpectralDense.vjp, SpectralDense.jvp                                 # (9) (10) (11)

    def lipschitz(self):
        """The largest singular value of V, in the 2-norm, which may be more than the coefficient."""
        return SpectralDense.lipschitz(self)

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        M, N, (p, q) = source.choice(WIDTHS), source.choice(WIDTHS), source.choice(tuple(ORDERS))
        return cls(weights(source, (M, N)), weights(source, (M,)), p, q, source.chance(0.5), source.choice((0.25, 0.9))), (N,)

    hard_cases = (
        case("Number", "N = M = 1: V is c or -c, and W_bar 0", z=[[3.0]], W=[[-3.3]], b=[0.7], p="1", q="2", coefficient=0.9),
        case("Nothing", "W = 0", z=[[1.0, 2.0]], W=[[0.0, 0.0]], b=[0.5], p="1", q="1", coefficient=0.9),
        case("Row", "the largest row is divided by its sum", z=[[1.0, 2.0, -1.0]], W=[[0.3, -4.0, 1.0], [2.0, 2.0, 0.5]], b=[0.5, 0.0]),
        case("OneRow", "one row is divided, the other one is not", z=[[1.0, 2.0]], W=[[0.25, -0.5], [2.0, 2.0]], b=[0.5, 0.0],
             p="2", local=True),
        case("Largest", "the largest entry alone has no cotangent", z=[[1.0, 2.0]], W=[[0.25, -3.0], [2.0, 2.5]], b=[0.5, 0.0],
             p="1", q="inf"),
        case("Column", "a column of zeros beside the largest one", z=[[1.0, 2.0]], W=[[0.0, -3.0], [0.0, 2.5]], b=[0.5, 0.0], p="1", q="2"),
        case("Outweighed", "an entry of a column outweighs the others", z=[[1.0, 2.0]], W=[[2.0**20, 1.0], [1.0, 2.0]], b=[0.0, 0.0],
             p="1", q="2", local=True, coefficient=0.5),
        case("Huge", "V_bar overflows, and so do the products of (10)", z=[[2.0**100, 1.0], [2.0**1000, 1.0]], W=[[3.0, 0.5], [0.25, 2.0]],
             b=[0.0, 0.0], coefficient=0.9),
    )
    refused = (
        refusal("p must be 1 or q inf, not p=2 and q=2", W=[[1.0]], b=[0.0], p="2", q="2"),
    )


def one_hot(x, axis):
    """1 at the first of the largest entries along an axis, and 0 elsewhere."""
    places = np.expand_dims(np.arange(x.shape[axis]), -1 if axis == -2 else -2)
    return places == x.argmax(axis, keepdims=True)
