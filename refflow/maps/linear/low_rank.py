r"""Linear map by a diagonal matrix plus one of low rank, `R^D -> R^D`.

The map.  With `d = diagonal`, whose entries are not 0, and with `U` and `V` of shape `(D, K)`,
    x = W z,   W = diag(d) + U V^T                                                  (1)
    dx/dz = W                                                                       (2)
The capacitance matrix is of shape `(K, K)`.  By the matrix determinant lemma,
    C = I + V^T diag(d)^-1 U                                                        (3)
    log|det dx/dz| = log|d_1 d_2 ... d_D det C|                                     (4)
and by Woodbury's identity,
    z = W^-1 x = diag(d)^-1 (x - U C^-1 V^T diag(d)^-1 x)                           (5)
Where `C` is invertible, so is `W`.  An event takes of the order of `D K` operations, where a dense matrix takes `D^2`.  The unit of
error is normwise, as for all matrix pages.

The reverse rule.  From (1) and `d log|det W| = tr(W^-1 dW)`, with the cotangent `l_bar` of (4),
    z_bar = W^T x_bar,   W_bar = x_bar z^T + l_bar W^-T                             (6)
    d_bar = diag(W_bar),   U_bar = W_bar V,   V_bar = W_bar^T U                     (7)
where by (5) and by `V^T diag(d)^-1 U = C - I`,
    W^-1 U = diag(d)^-1 U C^-1,   W^-T V = diag(d)^-1 V C^-T                        (8)
    (W^-1)_ii = 1/d_i - (U C^-1 V^T)_ii/d_i^2                                       (9)
For the inverse map, `dz = W^-1 (dx - dW z)`, and with the cotangent `l_bar` of its log-det, minus (4),
    x_bar = w = W^-T z_bar,   W_bar = -w z^T - l_bar W^-T                           (10)
and (7) holds.

Source: Woodbury, Inverting modified matrices (1950); Golub & Van Loan, Matrix Computations, section 2.1.4.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, chosen, log_abs_product, nonzero, pair, real, refusal
from ...core.arithmetic import scaled, unit_scaled
from ...core.arrays import at_index, doubled, rounded
from ...core.pairs import Pair, nearest, stacked
from ...core.products import solution


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def capacitance(diagonal, U, V):
        """C^-1 and |det C|, by elimination with partial pivoting."""
        K, size = U.shape[1], 1
        one = np.eye(K, dtype=U.dtype)
        rows = np.hstack((one + V.T @ (U / diagonal[:, None]), one))                # (3)
        for k in range(K):
            pivot = max(range(k, K), key=lambda i: abs(rows[i, k]))
            rows[[k, pivot]] = rows[[pivot, k]]
            size = size * abs(rows[k, k])
            rows[k] = rows[k] / rows[k, k]
            for i in range(K):
                if i != k:
                    rows[i] = rows[i] - rows[i, k] * rows[k]
        return rows[:, K:], size

    def solved(diagonal, U, V, b):
        """W^-1 b."""
        C_inverse, _ = textbook.capacitance(diagonal, U, V)
        return (b - U @ (C_inverse @ (V.T @ (b / diagonal)))) / diagonal            # (5)

    def forward(z, diagonal, U, V):
        return diagonal * z + U @ (V.T @ z)                                         # (1)

    def inverse(x, diagonal, U, V):
        return textbook.solved(diagonal, U, V, x)                                   # (5)

    def jacobian(z, diagonal, U, V):
        return np.diag(diagonal) + U @ V.T                                          # (2)

    def log_det(z, diagonal, U, V):
        _, size = textbook.capacitance(diagonal, U, V)
        return np.sum(np.log(np.abs(diagonal))) + np.log(size)                      # (4)

    def inverse_log_det(x, diagonal, U, V):
        return -textbook.log_det(x, diagonal, U, V)                                 # (4)

    def bars(diagonal, U, V, left, right, l_bar):
        """The cotangents of the fields, of W_bar = left right^T + l_bar W^-T."""
        (C_inverse, _), d = textbook.capacitance(diagonal, U, V), diagonal[:, None]
        d_bar = left * right + l_bar * (1 / diagonal - np.diagonal(U @ C_inverse @ V.T) / diagonal**2)  # (7) (9)
        return {"diagonal": d_bar, "U": np.outer(left, right @ V) + l_bar * (V / d) @ C_inverse.T,      # (7) (8)
                "V": np.outer(right, left @ U) + l_bar * (U / d) @ C_inverse}       # (7) (8)

    def vjp(z, diagonal, U, V, x_bar, l_bar):
        return textbook.forward(x_bar, diagonal, V, U), textbook.bars(diagonal, U, V, x_bar, z, l_bar)  # (6)

    def inverse_vjp(x, diagonal, U, V, z_bar, l_bar):
        w = textbook.solved(diagonal, V, U, z_bar)                                  # (10)
        return w, textbook.bars(diagonal, U, V, -w, textbook.inverse(x, diagonal, U, V), -l_bar)        # (10)


r"""In floating point.

In (3), (5) and (9), sums cancel: where `d` is small, `W^-1` may be far smaller than `diag(d)^-1`.  The more `U V^T` exceeds `d`, the more
digits are lost.  Everything is computed with pairs of floats, of twice the digits, for float32 too, and rounded once.         (11)
The page is certified at moderate parameters, `2^-4` to `2^4`, and at the hard cases: pairs make up for a ratio of `U V^T` to `d` of
up to about `2^50`.

In (4), `log|det C|` cancels the sum of the other logarithms.  The pivots `c_1, ..., c_K` of `C` and the entries of `d` are multiplied
before the logarithm is taken:
    log|det dx/dz| = log|d_1 ... d_D c_1 ... c_K|                                   (12)

In (1), (5), (6) and (10), products of pairs have their digits only while their roundings are normal numbers.  Events and cotangents
are scaled by powers of two, exactly; in a product of the two, the powers are multiplied:
    x = 2^a W z',   z = 2^a z',   x_bar z^T = 2^(a + b) x_bar' z'^T                 (13)

In (5), an event may have infinite entries after a map that reaches its limits, and differences of these are NaN.  There
    z = W^-1 x                   by the rules of floats, the inverse matrix first   (14)
gives the limits that exist.
"""


@bijector(source="Woodbury 1950", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True,
          moderate=True, textbook=textbook)
class LowRankLinear(Bijector):
    """x = (diag(diagonal) + U V^T) z; z and x (*batch, D), diagonal (D,) and not 0, U and V (D, K), each with batch axes or without.

    ValueError where the capacitance matrix, and with it the matrix, is not invertible.
    """

    diagonal: Array = nonzero("D")
    U: Array = real("D", "K")
    V: Array = real("D", "K")
    event_ndim = (1, 1)

    def _validate(self):
        super()._validate()
        if self.dims["K"] < 1:
            raise ValueError("LowRankLinear: U and V must have at least one column")
        with np.errstate(all="ignore"):
            pivots = Woodbury(self).pivots.high
        wrong = ~(np.isfinite(pivots) & (pivots != 0)).all(-1)                      # (4)
        if wrong.any():
            index = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise ValueError(f"LowRankLinear: I + V^T diag(diagonal)^-1 U must be finite and invertible; {at_index('its pivots', index)} "
                             f"are {pivots[index]}")

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.forward_and_log_det(z)[0]

    def forward_and_log_det(self, z):
        W, (z, e) = Woodbury(self), unit_scaled(z)                                  # (13)
        return scaled(W.times(z)[0].astype(z.dtype), e), W.log_det_of(z)            # (1) (4) (11)

    def log_det(self, z):
        return Woodbury(self).log_det_of(z)                                         # (4)

    def jacobian(self, z):
        return np.broadcast_to(Woodbury(self).matrix().astype(z.dtype), z.shape + z.shape[-1:])     # (2) (11)

    def inverse_and_log_det(self, x):
        W = Woodbury(self)
        z, _, e = W.undone(x)
        return scaled(z.high, e).astype(x.dtype), -W.log_det_of(x)                  # (5) (4) (13)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        W, (right, a) = Woodbury(self), unit_scaled(z)                              # (13)
        x, along = W.times(right)                                                   # (1)

        def pullback(x_bar, l_bar):
            left, b = unit_scaled(x_bar)                                            # (13)
            z_bar, across = W.transposed().times(left)                              # (6)
            bars = W.bars(left, across, right, along, a + b, l_bar)                 # (7)
            return scaled(z_bar.astype(z.dtype), b), rounded(bars, z.dtype)         # (6) (13)

        return (scaled(x.astype(z.dtype), a), W.log_det_of(z)), pullback            # (1) (13)

    def inverse_vjp(self, x):
        W = Woodbury(self)
        z, along, a = W.undone(x)                                                   # (5)

        def pullback(z_bar, l_bar):
            left, b = unit_scaled(z_bar)                                            # (13)
            w, across = W.transposed().solved(left)                                 # (10)
            bars = W.bars(-w, -across, z, along, a + b, -l_bar)                     # (7) (10)
            return scaled(w.high, b).astype(x.dtype), rounded(bars, x.dtype)        # (10) (13)

        return (scaled(z.high, a).astype(x.dtype), -W.log_det_of(x)), pullback      # (5) (13)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Line", "D = 1: the sum of two numbers", z=[[3.0]], x=[[-5.0]], diagonal=[-0.5], U=[[2.0]], V=[[0.75]]),
        case("Cancelling", "d is nearly -u v: the capacitance is near 0", z=[[3.0]], x=[[-5.0]], diagonal=[-6.0], U=[[2.0]],
             V=[[3.0 + 2.0**-16]]),
        case("SmallDiagonal", "U V^T is far larger than the diagonal: differences in (5) and (9) lose its digits",
             z=[[1.0, -1.0]], x=[[1.0, 2.0]], diagonal=[2.0**-16, -(2.0**-18)], U=[[1.0, 2.0], [0.5, -1.0]], V=[[3.0, 1.0], [1.0, 1.0]]),
        case("Along", "x lies in the columns of U, where the inverse is small", z=[[1.0, -1.0, 0.5]], x=[[4.0, -8.0, 2.0]],
             diagonal=[2.0**-10, 2.0**-12, 2.0**-10], U=[[2.0], [-4.0], [1.0]], V=[[1.0], [0.5], [3.0]]),
        case("Nothing", "U = 0: the diagonal alone", z=[[1.0, -2.0]], x=[[1.0, -2.0]], diagonal=[2.0, -0.5], U=[[0.0], [0.0]],
             V=[[1.0], [3.0]]),
        case("ZeroPivot", "the leading entry of the capacitance is 0", z=[[1.0, -2.0]], x=[[1.0, -2.0]], diagonal=[1.0, 1.0],
             U=[[-1.0, 2.0], [0.0, 1.0]], V=[[1.0, 1.0], [1.0, 0.0]]),
        case("UnitDeterminant", "the log-det is 0, where logarithms cancel", z=[[1.0, 1.0]], x=[[1.0, 1.0]], diagonal=[4.0, 4.0],
             U=[[1.0], [0.0]], V=[[-3.75], [2.0]]),
        case("Huge", "a partial sum of (1) overflows, x does not", z=[[2.0**124, 2.0**124]], x=[[2.0**124, 2.0**124]],
             diagonal=[1.0, 2.0], U=[[8.0], [1.0]], V=[[4.0], [-4.0]]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], x=[[2.0**-1070, 2.0**-1074]],
             diagonal=[3.0, 0.5], U=[[1.0], [0.3]], V=[[1.0], [-2.0]]),
    )
    refused = (
        refusal("must be finite and invertible; its pivots are [0.]", diagonal=[2.0, 1.0], U=[[1.0], [0.0]], V=[[-2.0], [5.0]]),
        refusal("its pivots[1] are [0.]", diagonal=[2.0, 1.0], U=[[[1.0], [0.0]]] * 2, V=[[[1.0], [5.0]], [[-2.0], [5.0]]]),
        refusal("its pivots are [inf]", diagonal=[1e-300, 1.0], U=[[1e300], [0.0]], V=[[1.0], [5.0]]),
        refusal("U and V must have at least one column", diagonal=[1.0], U=np.zeros((1, 0)), V=np.zeros((1, 0))),
        refusal("diagonal must be finite and not 0", diagonal=[0.0], U=[[1.0]], V=[[1.0]]),
    )


class Woodbury:
    """The matrix W of (1), from fields in float64; what is computed from them is a pair."""

    def __init__(self, f):
        self.d, self.U, self.V = doubled(f.diagonal, f.U, f.V)                         # (11)
        over = pair(self.U) / self.d[..., None]
        C = (over[..., :, None, :] * self.V[..., :, :, None]).sum(-3) + np.eye(self.U.shape[-1])        # (3)
        self.C_inverse, self.pivots = inverse_and_pivots(C)

    def transposed(self):
        """diag(d) + V U^T."""
        other = object.__new__(Woodbury)
        other.d, other.U, other.V, other.pivots = self.d, self.V, self.U, self.pivots
        other.C_inverse = swapped(self.C_inverse)
        return other

    def times(self, z):
        """W z and V^T z."""
        along = (pair(self.V) * z[..., None]).sum(-2)
        return (along[..., None, :] * self.U).sum(-1) + pair(self.d) * z, along     # (1)

    def solved(self, b):
        """z = W^-1 b and V^T z = C^-1 V^T diag(d)^-1 b."""
        first = pair(b) / self.d
        along = (self.C_inverse * (first[..., None] * self.V).sum(-2)[..., None, :]).sum(-1)
        return (pair(b) - (along[..., None, :] * self.U).sum(-1)) / self.d, along   # (5)

    def undone(self, x):
        """(z', V^T z', e) with z = 2^e z'."""
        b, e = unit_scaled(x)                                                       # (13)
        z, along = self.solved(b)                                                   # (5)
        high, e = solution(z.high, e, x, lambda: self.inverse().high)               # (14)
        return Pair(high, z.low), along, e

    def matrix(self):
        """W."""
        return outer(pair(self.U), self.V) + self.d[..., None] * np.eye(self.d.shape[-1])           # (1)

    def inverse(self):
        """W^-1 = (I - W^-1 U V^T) diag(d)^-1."""
        return (np.eye(self.d.shape[-1]) - outer(self.gain(), self.V)) / self.d[..., None, :]       # (5) (8)

    def gain(self):
        """W^-1 U."""
        return (pair(self.U)[..., :, :, None] * self.C_inverse[..., None, :, :]).sum(-2) / self.d[..., None]     # (8)

    def log_det_of(self, event):
        """The log-det at each event."""
        batch = np.broadcast_shapes(self.d.shape[:-1], self.pivots.shape[:-1])
        factors = [np.broadcast_to(v, batch + v.shape[-1:]) for v in (self.d, self.pivots.high)]
        return np.broadcast_to(log_abs_product(np.concatenate(factors, -1)), event.shape[:-1]).astype(event.dtype)       # (4) (12)

    def bars(self, left, across, right, along, e, l_bar):
        """The cotangents of the fields, of W_bar = 2^e left right^T + l_bar W^-T; across = U^T left, along = V^T right."""
        gain, gain_of_V, l = self.gain(), self.transposed().gain(), l_bar[..., None]
        each = (1 - (gain * self.V).sum(-1)) / self.d                               # (9)
        left, across, right, along = (nearest(v) for v in (left, across, right, along))
        matrix_e = e if type(e) is int else e[..., None]
        return {"diagonal": scaled(left * right, e) + l * each.high,                # (7) (13)
                "U": scaled(left[..., :, None] * along[..., None, :], matrix_e) + l[..., None] * gain_of_V.high,    # (7) (8) (13)
                "V": scaled(right[..., :, None] * across[..., None, :], matrix_e) + l[..., None] * gain.high}       # (7) (8) (13)


def outer(A, B):
    """A B^T of a pair and an array."""
    return (A[..., :, None, :] * B[..., None, :, :]).sum(-1)


def swapped(A):
    """A^T."""
    return Pair(A.high.mT, A.low.mT)


def inverse_and_pivots(A):
    """A^-1 and the pivots of A, by elimination of both sides of each pivot, which is the largest entry of its column."""
    K = A.shape[-1]
    one = np.broadcast_to(np.eye(K), A.shape)
    both, pivots, place = Pair(np.concatenate((A.high, one), -1), np.concatenate((A.low, 0 * one), -1)), [], np.arange(K)
    for k in range(K):
        largest = k + np.abs(both.high[..., k:, k]).argmax(-1)[..., None]
        order = np.where(place == k, largest, np.where(place == largest, k, place))[..., None]
        both = Pair(np.take_along_axis(both.high, order, -2), np.take_along_axis(both.low, order, -2))
        row = both[..., k:k + 1, :] / both[..., k:k + 1, k:k + 1]
        pivots.append(both[..., k, k])
        both = chosen(place[:, None] == k, row, both - both[..., :, k:k + 1] * row)
    return both[..., K:], stacked(pivots)
