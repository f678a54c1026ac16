r"""Rotary positions: pairs of channels, rotated by an angle for each position, `(N, T) -> (N, T)`.

The map.  The first `rotated` channels are heads of `2 P` channels each; a head's pair `i` of channels, `a_(2i)` and `a_(2i+1)`, turns
at position `t` by the angle `w_it`, which all heads share,
    h_(2i) = a_(2i) cos w_it - a_(2i+1) sin w_it                                    (1)
    h_(2i+1) = a_(2i) sin w_it + a_(2i+1) cos w_it                                  (2)
and all further channels stay as they are.  With `R_t` for the matrix of (1) and (2) at position `t`,
    dh_t/da_t = R_t,   R_t^T R_t = I,   all other blocks of dh/da are 0             (3)
Where queries and keys are rotated and values are not, the products `<R_s q, R_t k> = <q, R_s^T R_t k>` depend on the difference of two
angles alone, and so on the difference of two positions if angles are proportional to positions.

The reverse rule.  By (3), cotangents turn back:
    a_bar_(2i) = h_bar_(2i) cos w_it + h_bar_(2i+1) sin w_it                        (4)
    a_bar_(2i+1) = -h_bar_(2i) sin w_it + h_bar_(2i+1) cos w_it                     (5)

Source: Su, Lu, Pan, Murtadha, Wen & Liu, arXiv:2104.09864.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, constant, plain, refusal
from ...core.rules import count


@conditioner(source="arXiv:2104.09864")
class Rotary(Conditioner):
    """h (*batch, N, T) from a (*batch, N, T): the first `rotated` channels turn in pairs, by `angles` (P, T), constants of float64.

    `rotated`: a multiple of 2 P, at most N, such as 2 C of the 3 C channels of queries, keys and values.  ValueError otherwise.
    """

    angles: Array = constant("P", "T", dtype=np.float64)
    rotated: int = plain(rule=count())
    event_ndim = (2, 2)
    event_shape = ("N", "T")

    def _validate(self):
        super()._validate()
        if not np.isfinite(self.angles).all():
            raise ValueError("Rotary: angles must be finite")
        if not self.dims["P"] or self.rotated % (2 * self.dims["P"]):
            raise ValueError(f"Rotary: rotated must be a multiple of 2 P = {2 * self.dims['P']}, not {self.rotated}")

    def output_shape(self, shape):
        if shape[0] < self.rotated:
            raise ValueError(f"it rotates {self.rotated} channels")
        return shape

    def depends(self, shape):
        N, T = shape
        moves, pair = np.zeros((N, T), bool), np.arange(N) // 2
        moves[:self.rotated] = np.tile(np.repeat(np.sin(self.angles) != 0, 2, 0), (self.rotated // (2 * self.dims["P"]), 1))
        of_pairs = np.equal.outer(pair, pair)[:, None, :, None] & np.eye(T, dtype=bool)[:, None]
        return (of_pairs & moves[..., None, None]).reshape(N * T, N * T) | np.eye(N * T, dtype=bool)

    def depends_on_positions(self, shape):
        return np.eye(shape[1], dtype=bool)

    @staticmethod
    def definition(m, a, angles, rotated):
        h, P = [list(row) for row in a], len(angles)
        for n in range(0, rotated, 2):
            for t in range(len(a[0])):
                c, s = m.cos(m.mpf(angles[n // 2 % P][t])), m.sin(m.mpf(angles[n // 2 % P][t]))
                h[n][t] = a[n][t] * c - a[n + 1][t] * s                             # (1)
                h[n + 1][t] = a[n][t] * s + a[n + 1][t] * c                         # (2)
        return h

    def turned(self, a, back=1):
        """R a, or R^T a with back = -1."""
        cosine, sine = (f(self.angles).astype(a.dtype) for f in (np.cos, np.sin))
        P, T = cosine.shape
        pairs = a[..., :self.rotated, :].reshape(*a.shape[:-2], self.rotated // (2 * P), P, 2, T)
        first, second = pairs[..., 0, :], pairs[..., 1, :]
        h = np.array(a)
        turned = np.stack((first * cosine - second * (back * sine),                 # (1) (4)
                           first * (back * sine) + second * cosine), -2)            # (2) (5)
        h[..., :self.rotated, :] = turned.reshape(*a.shape[:-2], self.rotated, T)
        return h

    def forward(self, a):
        return self.turned(a)                                                       # (1) (2)

    def jacobian(self, a):
        N, T = a.shape[-2:]
        columns = self.turned(np.eye(N * T, dtype=a.dtype).reshape(N * T, N, T)).reshape(N * T, N * T)
        return np.broadcast_to(columns.T, (*a.shape[:-2], N * T, N * T))            # (3)

    def vjp(self, a):
        return self.turned(a), lambda h_bar: (self.turned(h_bar, -1), {})           # (4) (5)

    @classmethod
    def examples(cls, source):
        """Angles, a quarter of them 0."""
        P, T, heads = source.count(1, 2), source.count(1, 3), source.count(1, 2)
        rotated = 2 * P * heads
        angles = source.signed((P, T), -4, 4) * source.booleans((P, T), 0.75)
        return cls(angles, rotated), (rotated + source.count(0, 2), T)

    hard_cases = (
        case("Quarter", "the cosine of the angle nearest to pi/2 is 6e-17", z=[[[1.0], [2.0]]], angles=[[np.pi / 2]], rotated=2),
        case("Still", "an angle of 0: h is a", z=[[[1.0, 3.0], [2.0, -1.0]]], angles=[[0.0, 0.0]], rotated=2),
        case("Far", "a position of a million", z=[[[1.0], [2.0], [5.0]]], angles=[[1e6]], rotated=2),
        case("Heads", "two heads share their angles; the last channel stays", z=[[[1.0], [2.0], [-0.5], [3.0], [7.0]]], angles=[[0.5]],
             rotated=4),
        case("Beside", "one entry of a pair is far below the other's last digit", z=[[[2.0**60], [1.0]]], angles=[[0.75]], rotated=2),
    )
    refused = (
        refusal("angles must be finite", angles=[[0.5, np.inf]], rotated=2),
        refusal("rotated must be a multiple of 2 P = 0", angles=np.zeros((0, 1)), rotated=2),
        refusal("rotated must be a multiple of 2 P = 4", angles=[[0.5], [1.0]], rotated=2),
        refusal("it rotates 4 channels", [[1.0], [2.0]], angles=[[0.5]], rotated=4),
        refusal("have T=1", [[1.0, 1.0], [2.0, 1.0]], angles=[[0.5]], rotated=2),
    )
