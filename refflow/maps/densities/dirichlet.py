r"""Dirichlet density on the simplex.

The map.  `z` has `D` entries `z_i > 0` that sum to 1, and the volume of a region of the simplex is that of its first `D - 1` coordinates.
With `a = concentration > 0`,
    A = a_1 + ... + a_D                                                             (1)
    log p(z) = sum_i (a_i - 1) log z_i + log Gamma(A) - sum_i log Gamma(a_i)        (2)
By the own volume of the simplex, the density is smaller by the factor `sqrt D`: `Flow(IntrinsicVolume("simplex"), Dirichlet(a))`.
A sample divides independent gamma variables by their sum:
    z_i = G_i / (G_1 + ... + G_D),   G_i ~ Gamma(a_i)                               (3)
A sample is not reparameterised: its distribution functions have no closed form in `a`.  An entry that rounds to 0 is the
smallest positive number.

The reverse rule.  With the cotangent `b` of `log p`, and `psi` for the derivative of `log Gamma`, and with all `D` entries of `z` as
if they were free,
    z_bar_i = b (a_i - 1) / z_i                                                     (4)
    a_bar_i = b (log z_i + psi(A) - psi(a_i))                                       (5)

Source: Kotz, Balakrishnan & Johnson (2000), "Continuous multivariate distributions", chapter 49.
"""

from __future__ import annotations

import numpy as np
import scipy

from ...core import Array, Density, case, density, positive, refusal, simplex
from .gammas import FROM, HALF_LOG_2_PI, SMALL, delta, far_mu, gamma_variables, inside, log_gamma_apart, log_of_quotient


class textbook:
    """(1) to (5) as they are printed, for one event."""

    def log_prob(z, concentration):
        A = np.sum(concentration)                                                   # (1)
        return np.sum((concentration - 1) * np.log(z)) + scipy.special.gammaln(A) - np.sum(scipy.special.gammaln(concentration))  # (2)

    def log_prob_vjp(z, concentration, b):
        A = np.sum(concentration)                                                   # (1)
        slope = np.log(z) + scipy.special.psi(A) - scipy.special.psi(concentration)
        return b * (concentration - 1) / z, {"concentration": b * slope}            # (4) (5)

    def sample(G, concentration):
        return G / np.sum(G)                                                        # (3)


r"""In floating point.

In (2), `log Gamma` of large concentrations is of the size `a log a`, but the sum is at most of the size `a`, and of `log a` at the
mean.  With Stirling's formula for `A >= 8`, and for `a_i >= 8`, their largest parts meet in a logarithm near 0:
    log Gamma(a) = (a - 1/2) log a - a + (1/2) log 2 pi + mu(a)                     (6)
    q_i = z_i A / a_i  for a_i >= 8,   q_i = z_i A  for A >= 8 > a_i,   q_i = z_i  for A < 8          (7)
    a_i log(z_i A) - a_i - log Gamma(a_i) - log z_i
        = a_i log q_i + log(sqrt(a_i) / z_i) - (1/2) log 2 pi - mu(a_i)     for a_i >= 8
        = (a_i - 1) log q_i + log A - a_i - log Gamma(a_i)                  for A >= 8 > a_i            (8)

In (2), logarithms of small concentrations cancel with logarithms of small entries of `z`.  For `a < 1/2` they go into one quotient:
    log Gamma(a) = log Gamma(1 + a) - log a                                         (9)
    prod_i (a_i / z_i) / A                          over the small ones             (10)

In (5), large numbers cancel in the same way:
    log z_i + psi(A) - psi(a_i) = log q_i - delta(A) + delta(a_i)       for a_i >= 8,   psi(a) = log a - delta(a)
                                = log q_i - delta(A) - psi(a_i)         for A >= 8 > a_i            (11)
    psi(A) - psi(a_i) = psi(1 + A) - psi(1 + a_i) + (A - a_i) / (a_i A)     for A < 1/2            (12)
where `A - a_i` is the sum of the others.
"""


@density(source="Kotz, Balakrishnan & Johnson (2000), chapter 49", textbook=textbook, support=simplex,
         not_reparameterised=("concentration",))
class Dirichlet(Density):
    """The Dirichlet density of z on the simplex, by its first D - 1 coordinates.

    concentration (*batch, D) > 0, z (*batch, D).  -inf off the simplex.  ValueError if the concentrations' sum overflows.
    """

    concentration: Array = positive("D")

    def _validate(self):
        super()._validate()
        with np.errstate(over="ignore"):
            if not np.isfinite(self.concentration.sum(-1)).all():
                raise ValueError("Dirichlet: the sum of the concentrations overflows")

    # -- the map ------------------------------------------------------------------------------------------------------

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def log_prob_vjp(self, z):
        a = self.concentration
        A = a.sum(-1, keepdims=True)                                                # (1)
        ratio = np.where(a >= FROM, A / np.maximum(a, FROM), np.where(A >= FROM, A, 1))
        log_q = np.log(z * ratio)                                                   # (7)

        def pullback(b):
            b = b[..., None]
            return b * (a - 1) / z, {"concentration": b * (log_q + differences(a, A))}      # (4) (5) (11)

        return value(a, A, z, log_q), pullback

    def sample(self, rng, lead):
        G = gamma_variables(rng, self.concentration, lead + self.event_shape)
        return inside(G / G.sum(-1, keepdims=True), self.concentration.dtype)       # (3)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Uniform", "the density is the constant (D - 1)!, without a slope", z=[[0.25, 0.5, 0.25]], concentration=[1.0, 1.0, 1.0]),
        case("One", "D = 1: the simplex is a point", z=[[1.0]], concentration=[3.0]),
        case("Peak", "a large sum, at the mean: in (2), terms of the size 10^17 leave 17", z=[[0.5, 0.5], [0.5 + 2.0**-30, 0.5 - 2.0**-30]],
             concentration=[2.0**50, 2.0**50]),
        case("Stirling", "(6) begins", z=[[0.5, 0.5]], concentration=[8.0, np.nextafter(8, 0)]),
        case("Sum", "the sum is beyond 8, its parts are not", z=[[0.5, 0.25, 0.25]], concentration=[0.25, 4.0, 4.0]),
        case("Corners", "small concentrations and small entries: logarithms cancel in (10)", z=[[1.0, 2.0**-50], [2.0**-60, 1.0]],
             concentration=[2.0**-50, 2.0**-50]),
        case("Vertex", "an entry that is subnormal", z=[[1.0, 2.0**-1074], [1.0, 2.0**-149]], concentration=[0.5, 1.5]),
        case("Unequal", "in (12), A - a_1 is a small number", z=[[0.75, 0.25]], concentration=[2.0**-20, 2.0**-50]),
        case("Mixed", "concentrations of all sizes", z=[[0.5, 0.25, 0.25]], concentration=[2.0**40, 1.0, 2.0**-40]),
        case("Root", "log Gamma is 0 at 1 and at 2", z=[[0.5, 0.5]], concentration=[1.0 + 2.0**-40, 1.0 - 2.0**-40]),
    )
    refused = (refusal("the sum of the concentrations overflows", concentration=[1e308, 1e308]),)


def value(a, A, z, log_q):
    """log p."""
    large = A >= FROM
    (own, small), (of_sum, A_small) = log_gamma_apart(a), log_gamma_apart(A)        # (9)
    far = a * log_q + np.log(a) / 2 - np.log(z) - HALF_LOG_2_PI - far_mu(np.maximum(a, FROM))       # (6) (8)
    near = np.where(small, a, a - 1) * log_q - own                                  # (2) (9)
    beside = np.where(large, np.where(small, 0, np.log(A)) - a, 0)                  # (8)
    rest = np.where(large, HALF_LOG_2_PI + far_mu(np.maximum(A, FROM)) - np.log(A) / 2, of_sum)         # (6) (9)
    each = np.where(a >= FROM, far, near + beside)
    sum_below = np.broadcast_to(np.where(A_small, A, 1), (*z.shape[:-1], 1))
    below = np.concatenate((np.where(small, z, 1), sum_below), -1).astype(z.dtype)
    above = np.broadcast_to(np.where(small, a, 1), z.shape).astype(z.dtype)
    return each.sum(-1) + rest[..., 0] + log_of_quotient(above, below)              # (2) (10)


def differences(a, A):
    """psi(A) - psi(a), without the logarithms that are in q."""
    of_sum = np.where(A >= FROM, -delta(np.maximum(A, FROM)), scipy.special.psi(np.where(A < SMALL, 1 + A, A)))
    others = np.where(np.eye(a.shape[-1], dtype=bool), 0, a[..., None, :]).sum(-1)
    lost = np.where(A < SMALL, others / A / a, np.where(a < SMALL, 1 / a, 0))       # (12)
    of_each = np.where(a >= FROM, delta(np.maximum(a, FROM)), -scipy.special.psi(np.where(a < SMALL, 1 + a, a)))
    return of_sum + of_each + lost                                                  # (11) (12)
