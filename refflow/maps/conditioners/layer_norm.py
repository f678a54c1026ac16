r"""Layer normalisation over the entries of an event.

The map.  With the mean `mu` and the variance `v` of the `N` entries of `a`,
    mu = 1/N sum_j a_j                                                              (1)
    d = a - mu,   v = 1/N sum_j d_j^2                                               (2)
    r = (v + eps)^(-1/2),   n = r d                                                 (3)
    h = gain n + bias                                                               (4)
    dh_i/da_j = gain_i r (delta_ij - 1/N - n_i n_j / N)                             (5)
`eps > 0` comes from the source and is not a parameter.

The reverse rule.  From (4) and (5), where mean is the mean over the entries,
    gain_bar = h_bar n       bias_bar = h_bar                                       (6)
    g = gain h_bar,   c = g - mean g                                                (7)
    a_bar = r (c - n mean(n c))                                                     (8)
The unit of error is normwise: (8) projects onto the orthogonal complement of 1 and `n`, and if one entry of `a` outweighs all
others, its own `a_bar` is a small difference of large numbers.

Source: Ba, Kiros & Hinton, arXiv:1607.06450.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Array, Conditioner, case, conditioner, plain, real
from ...core.rules import ABOVE_0
from ...core.arithmetic import unit_scaled


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def standardised(a, eps):
        """r and n."""
        mu = a.sum() / len(a)                                                       # (1)
        d = a - mu                                                                  # (2)
        v = (d ** 2).sum() / len(a)                                                 # (2)
        r = 1 / np.sqrt(v + eps)                                                    # (3)
        return r, r * d                                                             # (3)

    def forward(a, gain, bias, eps):
        _, n = textbook.standardised(a, eps)
        return gain * n + bias                                                      # (4)

    def jacobian(a, gain, bias, eps):
        (r, n), N, one = textbook.standardised(a, eps), len(a), np.eye(len(a), dtype=a.dtype)
        return (gain * r * (one - (1 + np.outer(n, n)) / N).T).T                # (5)

    def vjp(a, gain, bias, eps, h_bar):
        (r, n), g = textbook.standardised(a, eps), gain * h_bar                     # (7)
        c = g - g.sum() / len(a)                                                    # (7)
        a_bar = r * (c - n * (n * c).sum() / len(a))                                # (8)
        return a_bar, {"gain": h_bar * n, "bias": h_bar}                            # (6)


r"""In floating point.

In (2), the rounding of `mu` is large compared with `d` where entries are nearly equal.  The mean of the computed `d` is this
rounding, exactly up to the rounding of `d` itself, and is subtracted:
    d <- d - 1/N sum_j d_j                                                          (9)

In (1) to (3), sums and squares overflow, or vanish against `eps`, long before `a` does.  Let `d = 2^e d'` with its largest entry
in `[1/2, 1)` (if `d` is 0, `e` is the exponent of `eps`), and let `k` be the larger of `e` and half the exponent of `eps`:
    r = 2^-k r',   r' = (4^(e-k) v' + 4^-k eps)^(-1/2)                              (10)
    n = 2^(e-k) r' d'                                                               (11)
The scaling is exact.  In (10), neither term under the root overflows, and one is at least `1/(4 N)`.

In (8), the difference cancels for two entries, where `n = +-(1 - eps r^2)^(1/2)` and `c = +-c_1`:
    a_bar = r c eps r^2                                     for N = 2               (12)
"""


@conditioner(source="arXiv:1607.06450", normwise=True, textbook=textbook)
class LayerNorm(Conditioner):
    """h = gain (a - mean a) / sqrt(var a + eps) + bias; a, gain, bias (*batch, N), eps > 0 a plain number."""

    gain: Array = real("N")
    bias: Array = real("N", default=0.0)
    eps: float = plain(1e-5, ABOVE_0)
    event_shape = ("N",)

    fixed_shape = property(lambda self: self.gain.shape[-1:])

    def output_shape(self, shape):
        if shape != self.fixed_shape:
            raise ValueError(f"its events have N={self.fixed_shape[0]} entries")
        return shape

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        d, r, _, shift = self.standardised(a)
        return np.ldexp(self.gain * (r * d), shift) + self.bias                     # (4) (11)

    def standardised(self, a):
        """(d', r', k, e - k) of (10) and (11)."""
        a, e = unit_scaled(a)                                                       # (10)
        d = a - mean(a)                                                             # (1) (2)
        d, e = unit_scaled(d - mean(d), e)                                          # (9) (10)
        fraction, exponent = math.frexp(self.eps)                                   # (10)
        half = (exponent + 1) // 2
        e = np.where(d.any(-1, keepdims=True), e, half)
        k = np.maximum(e, half)
        eps = np.ldexp(d.dtype.type(fraction), exponent - 2 * k)                    # (10)
        return d, 1 / np.sqrt(np.ldexp(mean(d * d), 2 * (e - k)) + eps), k, e - k   # (2) (3) (10)

    def jacobian(self, a):
        state = (part[..., None, :] for part in self.standardised(a))
        g = self.gain[..., None] * np.eye(a.shape[-1], dtype=a.dtype)
        return self.projected(g, *state)                                            # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def projected(self, g, d, r, k, shift):
        """(8) of the cotangents g."""
        c = g - mean(g)                                                             # (7)
        if g.shape[-1] == 2:
            fraction, exponent = math.frexp(self.eps)                               # (12)
            return np.ldexp(c * r * fraction * r * r, exponent - 3 * k)             # (10) (12)
        n = np.ldexp(r * d, shift)                                                  # (3) (11)
        return np.ldexp(r * (c - n * mean(n * c)), -k)                              # (8) (10)

    def vjp(self, a):
        d, r, k, shift = self.standardised(a)
        h = np.ldexp(self.gain * (r * d), shift) + self.bias                        # (4) (11)

        def pullback(h_bar):
            gain_bar = np.ldexp(h_bar * (r * d), shift)                             # (6) (11)
            return self.projected(self.gain * h_bar, d, r, k, shift), {"gain": gain_bar, "bias": h_bar}     # (6) (7)

        return h, pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Alone", "N = 1: h is the bias, the Jacobian 0", z=[[3.0]], gain=[2.0], bias=[-1.0]),
        case("Pair", "N = 2: (8) cancels", z=[[1.0, 2.0], [-5.0, 3.0]], gain=[1.0, 0.5], bias=[0.0, 0.0]),
        case("Equal", "d is 0", z=[[0.3, 0.3, 0.3], [2.0**900, 2.0**900, 2.0**900], [0.0, 0.0, 0.0]], gain=[1.0, 2.0, 3.0],
             bias=[0.0, 0.0, 1.0]),
        case("PairOfSizes", "N = 2: d is far below root eps", z=[[-1.0038771506515332e-05, -4.203895392974451e-45]],
             gain=[-0.15937452018260956, -14.207457542419434], bias=[0.0, 0.0]),
        case("NearlyEqual", "the rounding of mu is large beside d", z=[[1.0, 1.0 + 2.0**-20, 1.0 - 2.0**-21]],
             gain=[1.0, 2.0, 3.0], bias=[0.0, 0.0, 0.0], eps=1e-14),
        case("One", "one entry outweighs the others", z=[[2.0**30, 1.0, -1.0]], gain=[1.0, 1.0, 1.0], bias=[0.0, 0.0, 0.0]),
        case("Huge", "d^2 overflows, and so does the sum of a", z=[[2.0**1000, -2.0**1000, 2.0**999]], gain=[1.0, 1.0, 1.0],
             bias=[0.0, 0.0, 0.0]),
        case("Subnormal", "d^2 vanishes beside eps, h does not", z=[[5e-324, 2.0**-1070, 0.0]], gain=[1.0, 1.0, 2.0**20],
             bias=[0.0, 0.0, 0.0]),
    )


def mean(values):
    """The mean over the last axis, kept."""
    return values.mean(-1, keepdims=True)
