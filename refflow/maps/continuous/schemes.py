"""Explicit Runge-Kutta schemes: how they step from `z` at time `t` to `t + h`, for `dz/dt = v(z, t)`.

With stages `i = 1, ..., s`, the velocities `k_i` and the step are
    k_i = v(z + h sum_(j < i) a_ij k_j, t + c_i h)
    z + h sum_i b_i k_i
A sum of `s` velocities that are nearly equal errs by `s` roundings of the sum of their sizes, which is `sum_i |b_i|` times its own:
    s sum_i |b_i|                                                                   (1)
roundings of itself.  It is 4 for the classical scheme, and 48 for Tsitouras'.
A scheme is of order `p` if its step differs from the exact one by a multiple of `h^(p + 1)`.
"""

from __future__ import annotations

from fractions import Fraction
from typing import NamedTuple

import numpy as np


class Scheme(NamedTuple):
    """`a`: the rows a_i1, ..., a_i(i-1); `b`, `c`: one number for each stage; all of them exact; `order`: p."""

    order: int
    c: tuple
    a: tuple
    b: tuple

    def terms(self):
        """How many roundings of its own size a step errs by."""
        return len(self.b) * float(sum(map(abs, self.b)))                           # (1)

    def increment(self, m, v, z, t, h):
        """What a step from a list z at time t adds to it, in numbers of m, for a velocity v(z, t)."""
        a, b, c = [list(map(exact(m), row)) for row in self.a], list(map(exact(m), self.b)), list(map(exact(m), self.c))
        k = []
        for row, c_i in zip(a, c):
            y = [z_d + h * sum(a_ij * k_j[d] for a_ij, k_j in zip(row, k)) for d, z_d in enumerate(z)]
            k.append(v(y, t + c_i * h))
        return [h * sum(b_i * k_i[d] for b_i, k_i in zip(b, k)) for d in range(len(z))]

    def floats(self):
        """(a, b, c) as arrays, a with zeros where it has no number."""
        a = np.zeros((len(self.b), len(self.b)))
        for i, row in enumerate(self.a):
            a[i, :i] = [float(one) for one in row]
        return a, np.array([float(one) for one in self.b]), np.array([float(one) for one in self.c])


def exact(m):
    """A fraction in the numbers of m."""
    return lambda number: m.mpf(number.numerator) / number.denominator


def scheme(order, rows, b):
    """A scheme from its rows "a_i1 a_i2 ...", with c_i their sums."""
    a = tuple(tuple(map(Fraction, row.split())) for row in rows)
    return Scheme(order, tuple(sum(row, Fraction(0)) for row in a), a, tuple(map(Fraction, b.split())))


SCHEMES = {
    "euler": scheme(1, [""], "1"),
    "midpoint": scheme(2, ["", "1/2"], "0 1"),
    "heun": scheme(2, ["", "1"], "1/2 1/2"),
    "rk4": scheme(4, ["", "1/2", "0 1/2", "0 0 1"], "1/6 1/3 1/3 1/6"),
    "three-eighths": scheme(4, ["", "1/3", "-1/3 1", "1 -1 1"], "1/8 3/8 3/8 1/8"),
    "dopri5": scheme(5, ["", "1/5", "3/40 9/40", "44/45 -56/15 32/9", "19372/6561 -25360/2187 64448/6561 -212/729",
                         "9017/3168 -355/33 46732/5247 49/176 -5103/18656"], "35/384 0 500/1113 125/192 -2187/6784 11/84"),
    "tsit5": scheme(5, ["", "0.161", "-0.008480655492356989 0.335480655492357",
                        "2.8971530571054935 -6.359448489975075 4.3622954328695815",
                        "5.325864828439257 -11.748883564062828 7.4955393428898365 -0.09249506636175525",
                        "5.86145544294642 -12.92096931784711 8.159367898576159 -0.071584973281401 -0.028269050394068383"],
                    "0.09646076681806523 0.01 0.4798896504144996 1.379008574103742 -3.290069515436081 2.324710524099774"),
}
