r"""The gamma function where differences of its logarithms cancel, and gamma variables, shared by the densities that hold them.

For large `a`, `log Gamma(a)` and `psi(a)`, its derivative, are large where what is left of their differences is not.  So they are
written as the parts that cancel by algebra, and what remains:
    log Gamma(a) = (a - 1/2) log a - a + (1/2) log 2 pi + mu(a)                     (1)
    psi(a) = log a - delta(a)                                                       (2)
From `FROM` on, these are short sums (Whittaker & Watson, 12.33):
    mu(a) = 1/(12 a) - 1/(360 a^3) + ...,   delta(a) = 1/(2 a) + 1/(12 a^2) - ...   (3)
Gudermann's series reaches mu below; each of its terms is a sum of positive ones:
    mu(a) = mu(a + n) + sum_(j < n) g(a + j)                                        (4)
    g(a) = (a + 1/2) log(1 + 1/a) - 1 = r^2/3 + r^4/5 + ...,   r = 1/(2 a + 1)      (5)
`log Gamma` and `psi` are infinite at `a = 0`, and for a small `a` logarithms of `a` may cancel with others:
    log Gamma(a) = log Gamma(1 + a) - log a,   psi(a) = psi(1 + a) - 1/a            (6)
"""

from __future__ import annotations

import numpy as np
import scipy

from ...core.arithmetic import product_apart
from ...core.words import log_2

FROM = 8                        # where the sums (3) reach their last digit
SMALL = 0.5                     # below this, (6)
HALF_LOG_2_PI = np.log(2 * np.pi) / 2
MU = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400, 43867 / 244188, -174611 / 125400)
DELTA = (1 / 12, -1 / 120, 1 / 252, -1 / 240, 1 / 132, -691 / 32760, 1 / 12, -3617 / 8160, 43867 / 14364, -174611 / 6600)
LEAST = 1000                    # shapes from 2^-1000 on need no unit
TERMS = 17                      # of (5), for r <= 1/3


def polynomial(x, coefficients):
    total = np.zeros_like(x)
    for c in coefficients[::-1]:
        total = total * x + x.dtype.type(c)
    return total


def far_mu(a):
    """mu(a), a >= FROM."""
    return polynomial(1 / (a * a), MU) / a                                          # (3)


def mu(a):
    """mu(a), a >= 1."""
    low = np.minimum(a, FROM)
    r = 1 / (2 * (low[..., None] + np.arange(FROM - 1, dtype=a.dtype)) + 1)
    g = r * r * polynomial(r * r, [1 / (2 * k + 3) for k in range(TERMS)])          # (5)
    return np.where(a >= FROM, far_mu(np.maximum(a, FROM)), g.sum(-1) + far_mu(low + (FROM - 1)))          # (4)


def delta(a):
    """delta(a), a >= FROM."""
    return (1 / a / 2) + polynomial(1 / (a * a), DELTA) / a / a                     # (3)


def log_gamma_apart(a):
    """(log Gamma(a) without the part -log a, is that part left out?): it is below SMALL."""
    small = a < SMALL
    return scipy.special.gammaln(np.where(small, 1 + a, a)), small                  # (6)


def log_gamma_ratio(a, h):
    """log Gamma(a + h) - log Gamma(a) for h >= 0, without the part log a for a below SMALL."""
    below, _ = log_gamma_apart(np.minimum(a, FROM))
    near = scipy.special.gammaln(np.minimum(a, FROM) + h) - below
    x = np.maximum(a, FROM)
    far = (x - 0.5) * np.log1p(h / x) + h * np.log(x + h) - h + (far_mu(x + h) - far_mu(x))         # (1)
    return np.where(a >= FROM, far, near)


def psi_difference(a, h):
    """psi(a + h) - psi(a) for h >= 0."""
    x = np.maximum(a, FROM)
    far = np.log1p(h / x) - (delta(x + h) - delta(x))                               # (2)
    return np.where(a >= FROM, far, scipy.special.psi(a + h) - scipy.special.psi(a))


def log_of_quotient(above, below, powers=None):
    """log of the product of `above` over that of `below`, both along the last axis, `below` to integer powers."""
    m, e = product_apart(above)
    n, k = np.frexp(below)
    if powers is not None:
        n, carry = np.frexp(n**powers)
        k = k * powers + carry
    n, carry = product_apart(n)
    total = e - k.sum(-1) - carry
    near = np.abs(total) <= 2
    quotient = m / n
    far = np.log(quotient) + total.astype(quotient.dtype) * log_2(quotient)
    return np.where(near, np.log(np.ldexp(quotient, np.where(near, total, 0))), far)


def log_gamma_variables(rng, a, size, unit=1.0):
    """`unit` times logarithms of draws of gamma variables of the shapes a: with u uniform on (0, 1),

    Gamma(a) is distributed as Gamma(a + 1) u^(1/a), and -log u as an exponential variable.  The variable itself underflows where a
    is small.  (Marsaglia & Tsang 2000, section 6.)
    """
    a = np.asarray(a, np.float64)
    return unit * np.log(rng.standard_gamma(a + 1, size=size)) - rng.standard_exponential(size=size) / (a / unit)


def gamma_variables(rng, a, size):
    """Draws of gamma variables of the shapes a along the last axis, divided by the largest of them.

    Their logarithms, of the size 1/a, may overflow: they are multiplied by a power of 2, the unit, that keeps them finite.
    """
    _, least = np.frexp(np.asarray(a, np.float64).min(-1, keepdims=True))
    unit = np.ldexp(1.0, np.minimum(least + LEAST, 0))
    log_G = log_gamma_variables(rng, a, size, unit)
    return np.exp((log_G - log_G.max(-1, keepdims=True)) / unit)


def inside(values, dtype):
    """Positive numbers in `dtype`; where they round to 0, the smallest positive number."""
    return np.maximum(values.astype(dtype), np.finfo(dtype).smallest_subnormal)
