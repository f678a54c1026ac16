r"""Normalisation by the root mean square of the entries of an event.

The map.  With the mean square `v` of the `N` entries of `a`,
    v = 1/N sum_j a_j^2                                                             (1)
    r = (v + eps)^(-1/2),   n = r a                                                 (2)
    h = gain n                                                                      (3)
    dh_i/da_j = gain_i r (delta_ij - n_i n_j / N)                                   (4)
`eps > 0` comes from the source and is not a parameter.  Unlike layer normalisation, it subtracts no mean and adds no bias.

The reverse rule.  From (3) and (4), where mean is the mean over the entries,
    gain_bar = h_bar n                                                              (5)
    g = gain h_bar                                                                  (6)
    a_bar = r (g - n mean(n g))                                                     (7)
The unit of error is normwise: (7) projects onto the orthogonal complement of `n`, and if one entry of `a` outweighs all others, its
own `a_bar` is a small difference of large numbers.

Source: Zhang & Sennrich, arXiv:1910.07467.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, conditioner, plain, real
from ...core.rules import ABOVE_0
from ...core.arithmetic import unit_scaled
from .layer_norm import mean


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def normalised(a, eps):
        """r and n."""
        v = (a ** 2).sum() / len(a)                                                 # (1)
        r = 1 / np.sqrt(v + eps)                                                    # (2)
        return r, r * a                                                             # (2)

    def forward(a, gain, eps):
        return gain * textbook.normalised(a, eps)[1]                                # (3)

    def jacobian(a, gain, eps):
        (r, n), one = textbook.normalised(a, eps), np.eye(len(a), dtype=a.dtype)
        return (gain * r * (one - np.outer(n, n) / len(a)).T).T                     # (4)

    def vjp(a, gain, eps, h_bar):
        (r, n), g = textbook.normalised(a, eps), gain * h_bar                       # (6)
        return r * (g - n * (n * g).sum() / len(a)), {"gain": h_bar * n}            # (5) (7)


r"""In floating point.

In (1), squares overflow, or vanish against `eps`, long before `a` does.  Let `a = 2^e a'` with its largest entry in `[1/2, 1)` (if
`a` is 0, `e` is the exponent of `eps`), and let `k` be the larger of `e` and half the exponent of `eps`:
    r = 2^-k r',   r' = (4^(e-k) v' + 4^-k eps)^(-1/2)                              (8)
    n = 2^(e-k) r' a'                                                               (9)
The scaling is exact.  In (8), neither term under the root overflows, and one is at least `1/(4 N)`.

In (7), the difference cancels for a single entry, where `n^2 = 1 - eps r^2`:
    a_bar = r g eps r^2                                     for N = 1               (10)
"""


@conditioner(source="arXiv:1910.07467", normwise=True, textbook=textbook)
class RMSNorm(Conditioner):
    """h = gain a / sqrt(mean a^2 + eps); a, gain (*batch, N), eps > 0 a plain number."""

    gain: Array = real("N")
    eps: float = plain(1e-6, ABOVE_0)
    event_shape = ("N",)

    fixed_shape = property(lambda self: self.gain.shape[-1:])

    def output_shape(self, shape):
        if shape != self.fixed_shape:
            raise ValueError(f"its events have N={self.fixed_shape[0]} entries")
        return shape

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        a, r, _, shift = self.normalised(a)
        return np.ldexp(self.gain * (r * a), shift)                                 # (3) (9)

    def normalised(self, a):
        """(a', r', k, e - k) of (8) and (9)."""
        a, e = unit_scaled(a)                                                       # (8)
        fraction, exponent = math.frexp(self.eps)                                   # (8)
        half = (exponent + 1) // 2
        e = np.where(a.any(-1, keepdims=True), e, half)
        k = np.maximum(e, half)
        eps = np.ldexp(a.dtype.type(fraction), exponent - 2 * k)                    # (8)
        return a, 1 / np.sqrt(np.ldexp(mean(a * a), 2 * (e - k)) + eps), k, e - k   # (1) (2) (8)

    def jacobian(self, a):
        state = (part[..., None, :] for part in self.normalised(a))
        return self.projected(self.gain[..., None] * np.eye(a.shape[-1], dtype=a.dtype), *state)        # (4)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def projected(self, g, a, r, k, shift):
        """(7) of the cotangents g."""
        if g.shape[-1] == 1:
            fraction, exponent = math.frexp(self.eps)                               # (10)
            return np.ldexp(g * r * fraction * r * r, exponent - 3 * k)             # (8) (10)
        n = np.ldexp(r * a, shift)                                                  # (2) (9)
        return np.ldexp(r * (g - n * mean(n * g)), -k)                              # (7) (8)

    def vjp(self, a):
        a, r, k, shift = self.normalised(a)

        def pullback(h_bar):
            gain_bar = np.ldexp(h_bar * (r * a), shift)                             # (5) (9)
            return self.projected(self.gain * h_bar, a, r, k, shift), {"gain": gain_bar}        # (6) (7)

        return np.ldexp(self.gain * (r * a), shift), pullback                       # (3) (9)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Alone", "N = 1: (7) cancels", z=[[3.0], [-2.0**-20]], gain=[2.0]),
        case("Zero", "a is 0: h is 0, and the Jacobian is diagonal", z=[[0.0, 0.0]], gain=[1.0, -2.0]),
        case("One", "one entry outweighs the others", z=[[2.0**30, 1.0, -1.0]], gain=[1.0, 1.0, 1.0]),
        case("Huge", "a^2 overflows, and so does its sum", z=[[2.0**1000, -2.0**1000, 2.0**999]], gain=[1.0, 1.0, 1.0]),
        case("Subnormal", "a^2 vanishes beside eps, h does not", z=[[5e-324, 2.0**-1070, 0.0]], gain=[1.0, 1.0, 2.0**20]),
        case("AlongItself", "the cotangent is a multiple of a: (7) is 0 but for eps", z=[[1.0, 2.0]], gain=[1.0, 1.0], eps=1e-14),
    )
