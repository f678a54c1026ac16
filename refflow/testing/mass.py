r"""The integral of a density over its support.

With z = T(y), y ~ N(0, I), T from R^d onto the domain, x = f(z), and R from R^d onto the chart of the codomain,
    1 = int N(y(x(t))) |dy/dz| |dz/dx| |dx/dt| dt,   x = R(t)                                   (1)
The trapezoidal rule converges exponentially in t, after t = m + A s with mean m and A A^T the covariance of R^-1(f(T(y))).
"""

from __future__ import annotations

import numpy as np
import scipy

from ..core import sets
from ..core.fields import flatten
from .kappa import flat, with_leaf

REACH = 6.5                 # standard deviations of y: beyond, N(0, 1) has 1e-10 of its mass
COUNTS = {1: 200, 2: 48}


def onto(where, t):
    """(member of a scalar set, log|d member/dt|) for t in R."""
    if np.isinf(where.lower) and np.isinf(where.upper):
        return t, np.zeros_like(t)
    if np.isinf(where.upper):
        return where.lower + np.exp(t), t
    if np.isinf(where.lower):
        return where.upper - np.exp(t), t
    width = where.upper - where.lower
    s, rest = scipy.special.expit(t), scipy.special.expit(-t)
    x = np.where(t < 0, where.lower + width * s, where.upper - width * rest)
    return x, np.log(width) - np.logaddexp(0, t) - np.logaddexp(0, -t)


def back(where, x):
    """t of `onto`."""
    if np.isinf(where.lower) and np.isinf(where.upper):
        return x
    if np.isinf(where.upper):
        return np.log(x - where.lower)
    if np.isinf(where.lower):
        return np.log(where.upper - x)
    return np.log(x - where.lower) - np.log(where.upper - x)


class Scalars:
    """R for sets of numbers, entry by entry."""

    def __init__(self, where, shape):
        self.where, self.shape = where, shape

    def member(self, t):
        x, log_slope = onto(self.where, t)
        return x.reshape(t.shape[:-1] + self.shape), log_slope.sum(-1)

    def back(self, x):
        return back(self.where, x.reshape(x.shape[:1] + (-1,)))


class Simplex:
    """x = softmax(t, 0), whose first K-1 entries have determinant prod x_k."""

    def member(self, t):
        log_x = np.concatenate((t, np.zeros_like(t[..., :1])), -1)
        log_x = log_x - scipy.special.logsumexp(log_x, -1, keepdims=True)
        return np.exp(log_x), log_x.sum(-1)

    def back(self, x):
        return np.log(x[..., :-1]) - np.log(x[..., -1:])


class Correlation:
    """The 2 by 2 factor with L_21 = tanh t."""

    def member(self, t):
        x = np.zeros(t.shape[:-1] + (2, 2))
        x[..., 0, 0], x[..., 1, 0], x[..., 1, 1] = 1, np.tanh(t[..., 0]), 1 / np.cosh(t[..., 0])
        return x, -2 * np.log(np.cosh(t[..., 0]))

    def back(self, x):
        return np.arcsinh(x[..., 1, 0] / x[..., 1, 1])[..., None]


def chart_of(p):
    """R for the codomain of p, or None where none is known."""
    where = p.f.codomain
    if where is sets.simplex:
        return Simplex()
    if where is sets.correlation_cholesky:
        return Correlation() if p.event_out == (2, 2) else None
    return Scalars(where, p.event_out) if where.rank == 0 and where.name != "blocks" else None


def grid(lower, upper, count):
    """(points (count^d, d), volume of a cell) of the box between two corners."""
    lines = [np.linspace(a, b, count) for a, b in zip(lower, upper)]
    return np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(lines)), np.prod([t[1] - t[0] for t in lines])


def lost_mass(p):
    """What lies beyond REACH, and the rounding of densities whose logarithms are up to REACH^2 / 2."""
    return p.size_in * (2 * float(scipy.special.ndtr(-REACH)) + p.C * 2.0**-53 * REACH**2)


def total_mass(p):
    """(integral of the density of the first event's bijector, error estimate); inf where no quadrature is tried."""
    R, d, domain = chart_of(p), p.size_in, p.f.domain
    if R is None or domain.rank or domain.name == "blocks" or d == 0:
        return np.nan, np.inf
    view = p.g
    for path, value in flatten(p.g.params()):
        view = with_leaf(view, path, value[:1])
    with np.errstate(all="ignore"):
        y, _ = grid([-REACH] * d, [REACH] * d, 14)
        z, _ = onto(domain, y)
        t = R.back(view.forward(z.reshape(-1, *p.event_in)))
        if not np.isfinite(t).all():
            return np.nan, np.inf
        weights = np.exp(-(y * y).sum(-1) / 2)
        weights = weights / weights.sum()
        mean = weights @ t
        covariance = (t - mean).T @ ((t - mean) * weights[:, None])
        A = np.linalg.cholesky(covariance) if np.linalg.eigvalsh(covariance).min() > 0 else np.eye(d)
        s = np.linalg.solve(A, (t - mean).T).T
        try:
            half, full = (integral(view, p, R, mean, A, s.min(0), s.max(0), n) for n in (COUNTS[d], 2 * COUNTS[d]))
        except ValueError:      # a chain whose image is smaller than the codomain of its last stage
            return np.nan, np.inf
    return full, abs(full - half)


def integral(view, p, R, mean, A, lower, upper, count):
    s, cell = grid(lower, upper, count)
    x, log_chart = R.member(mean + s @ A.T)
    z, log_det = view.inverse_and_log_det(x)
    z = flat(z, (len(x),))
    y = back(p.f.domain, z)
    log_latent = -(y * y).sum(-1) / 2 - y.shape[-1] / 2 * np.log(2 * np.pi) - onto(p.f.domain, y)[1].sum(-1)
    density = np.exp(log_latent + log_det + log_chart)                                          # (1)
    return float(np.where(np.isfinite(density), density, 0).sum() * cell * abs(np.linalg.det(A)))
