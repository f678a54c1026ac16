r"""Words of the mixtures of normal components: distribution functions and densities without their exponents.

For arguments `u_1, ..., u_K`, with `phi(t) = exp(-t^2/2)/sqrt(2 pi)` and `M(t) = Phi(-t)/phi(t)`, Mills' ratio,
    Phi(u_k) = p_k exp(L),   c_k = max(-u_k, 0),   c = min_k c_k,   L = -c^2/2      (1)
    p_k = exp(-(c_k - c)(c_k + c)/2) M(|u_k|)/sqrt(2 pi)      for u_k < 0           (2)
        = Phi(u_k)                                            for u_k >= 0          (3)
    phi(u_k) = F_k exp(N),   t = min_k |u_k|,   N = -t^2/2,
    F_k = exp(-(|u_k| - t)(|u_k| + t)/2)/sqrt(2 pi)                                 (4)
Multiplied by `exp(L)` and `exp(N)`, both would underflow.  The product `(c_k - c)(c_k + c)` keeps the digits that a difference of
squares loses.  The complement `1 - t M(t)`, from the quadrature of `normal_cdf` with its nodes `s_i` and weights `w_i`, is a sum of
one sign,
    eps(t) = 1 - t M(t) = sum_i w_i s_i^2/(t^2 + s_i^2) - t R(t),
    R(t) = sqrt(2 pi) exp(t^2/2)/(1 + exp(4 pi t))      for t < 4, else 0           (5)
If `t^2 - b^2` is known, a difference of complements is such a sum too, except its part in `R`, which is small unless `t` and `b`
are small:
    eps(b) - eps(t) = (t^2 - b^2) sum_i w_i s_i^2/((t^2 + s_i^2)(b^2 + s_i^2)) - b R(b) + t R(t)            (6)
"""

from __future__ import annotations

import math

import numpy as np
import scipy

from ..elementwise.normal_cdf import NODES, ROOT_TWO_PI, WEIGHTS, mills_ratio
from .mixture import SCALE, scaled_exp


def lower_tails(u):
    """(c, p times SCALE)."""
    c_k = np.maximum(-u, 0)
    c = c_k.min(-1)                                                                 # (1)
    below = scaled_exp(-product(c_k, c)) * mills_ratio(np.abs(u)) / ROOT_TWO_PI         # (2)
    return c, np.where(u < 0, below, SCALE * scipy.special.ndtr(u))              # (1) (3)


def densities(u):
    """(N, F times SCALE)."""
    t = np.abs(u).min(-1)
    return exponent(t), scaled_exp(-product(np.abs(u), t)) / ROOT_TWO_PI               # (4)


def exponent(c):
    """-c^2/2."""
    return -c * (c / 2)                                                             # (1) (4)


def product(t_k, t):
    """(t_k^2 - t^2)/2."""
    return np.where(t_k == t[..., None], 0, (t_k - t[..., None]) / 2 * (t_k + t[..., None]))


def mills_complement(t):
    """eps(t), for t >= 0."""
    return sum(w * s * s / (t * t + s * s) for s, w in nodes()) - residue(t)        # (5)


def complement_difference(b, t, squares):
    """eps(b) - eps(t), with squares = t^2 - b^2."""
    terms = (w * s * s / (t * t + s * s) / (b * b + s * s) for s, w in nodes())
    return squares * sum(terms) - residue(b) + residue(t)                           # (6)


def nodes():
    """The nodes and weights, the smallest terms first."""
    return zip(reversed(NODES), reversed(WEIGHTS))


def residue(t):
    """t R(t)."""
    return np.where(t < 4, t * ROOT_TWO_PI * np.exp(t * t / 2) / (1 + np.exp(4 * math.pi * t)), 0)          # (5)
