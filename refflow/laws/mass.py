r"""The integral of a density over its support.

With z = T(y), y ~ N(c, B B^T), T from R^d onto the domain, x = f(z), and R from R^d onto the chart of the codomain,
    1 = int N(y(x(t))) |dy/dz| |dz/dx| |dx/dt| dt,   x = R(t)                                   (1)
for any c and B.  The choice from t -> y at a point t = s,
    c = y(s),   B_i = (y(s + h e_i/2) - y(s - h e_i/2)) / 2                                     (2)
puts the mass where f is neither flat nor a step, and half the slope keeps x(t) inside the floats.  s is 0 or, if floats of z
are too far apart there for the integral to converge, the image of y = 0.  h is 1 or, if f is so steep
that B_i is lost against c, the first power of 2 for which it is not.  Since y is rounded by about u |c|, B^-1 (y - c), which
is up to REACH, is off by u |c| / |B|, and the density by their product, which must be below the tolerance of convergence:
    REACH u |c| / |w B_i| <= CONVERGED,   w the narrowest of WIDTHS, in some entry              (3)
In one dimension Gauss-Legendre rules are summed over pieces of the t axis: from one standard deviation of y to the next,
divided at the breaks of f, where derivatives jump.  A piece is halved until its halves agree with it; by arsinh t,
and in any case, if its ends differ by orders of magnitude, where all nodes of a rule may miss the mass.  The error is their
disagreement, plus the mass where one float of x or of z stands for a range of y over which the normal density changes:
    doubt = density min(1, REACH r),   r = u (|x| |dy/dx| + |z| |dy/dz|) / |B|                  (4)
and the mass by which the ends are off, as images of y = c -+ REACH B that are rounded,
    r exp(-REACH^2/2) / sqrt(2 pi)                                                              (5)
In two dimensions the trapezoidal rule converges exponentially in t, after t = m + A s with the mean m and the covariance A A^T
of R^-1(f(T(y))); maps with breaks are not integrated in two dimensions.
"""

from __future__ import annotations

import itertools

import numpy as np
import scipy

from ..accuracy.kappa import flat, with_leaf
from ..core import Bijector, Chain, Independent, Inverse
from ..core.tree import flatten, walk

REACH = 6.5                 # standard deviations of y: N(0, 1) has 1e-10 of its mass beyond
COUNT = 48
NODES = scipy.special.roots_legendre(20)
MOST_PIECES = 4096
WIDTHS = (1, 0.25, 0.0625)  # of the latent normal: a curved map is nearly straight over the narrower ones
CONVERGED = 1e-6
SEEN = REACH * 2.0**-53 / (CONVERGED * min(WIDTHS))         # (3)


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


class Volume:
    """Another R, by the own volume of its set."""

    def __init__(self, R, where):
        self.R, self.where, self.back = R, where, R.back

    def member(self, t):
        x, log_chart = self.R.member(t)
        return x, log_chart + self.where.log_ratio(x)[0]


def chart_of(where, p):
    """R for a codomain, or None if none is known."""
    if where.thin:
        R = {"simplex": Simplex(), "correlation_cholesky": Correlation() if p.event_out == (2, 2) else None}.get(where.name)
        return Volume(R, where) if R and where.measure == "intrinsic" else R
    return Scalars(where, p.event_out) if where.rank == 0 and where.alike else None


def grid(lower, upper, count):
    """(points (count^d, d), volume of a cell) of the box between two corners."""
    lines = [np.linspace(a, b, count) for a, b in zip(lower, upper)]
    return np.stack(np.meshgrid(*lines, indexing="ij"), -1).reshape(-1, len(lines)), np.prod([t[1] - t[0] for t in lines])


def lost_mass(p):
    """The mass beyond REACH, and the rounding of densities whose logarithms are up to REACH^2 / 2."""
    return p.size_in * (2 * float(scipy.special.ndtr(-REACH)) + p.C * 2.0**-53 * REACH**2)


def total_mass(p):
    """(integral of the density of the first event's bijector, error estimate).

    None without a chart to integrate in, or if the map jumps, as on a circle; an error of inf if no latent normal converges.
    """
    if any(getattr(value, "jumps", False) for _, value in walk(p.f)):
        return None
    view, domain = p.g, p.f.domain
    for path, value in flatten(p.g.params()):
        view = with_leaf(view, path, value[:1])
    R = chart_of(view.codomain, p)
    if R is None or domain.rank or not domain.alike or p.size_in == 0 or p.size_in > 1 and has_breaks(p.f):
        return None
    with np.errstate(all="ignore"):
        try:
            normals = latent_normals(view, p, R)
            first = next(normals)
        except ValueError:      # a chain whose image is smaller than the codomain of its last stage
            return None
        integrated = in_pieces if p.size_in == 1 else on_a_grid
        tried = (integrated(view, p, R, (centre, B * width)) for centre, B in itertools.chain((first,), normals)
                 if np.isfinite(centre).all() and np.isfinite(B).all() and np.linalg.det(B) != 0 for width in WIDTHS)
        return next((found for found in tried if found[1] <= CONVERGED), (np.nan, np.inf))


def has_breaks(f):
    """Does f, a component, or a family's class declare breaks?"""
    pages = [page for _, value in walk(f) for page in (type(value), *vars(value).values()) if isinstance(page, type)]
    own = [page.breaks for page in pages if issubclass(page, Bijector) and page not in (Chain, Independent, Inverse)]
    return any(breaks is not Bijector.breaks for breaks in own)


def in_pieces(view, p, R, latent):
    """(integral, error estimate) for one latent normal in one dimension, by Gauss-Legendre rules on pieces of t."""
    centre, B = latent
    z, _ = onto(p.f.domain, centre + np.linspace(-REACH, REACH, 2 * int(REACH) + 2)[:, None] @ B)
    breaks = np.ravel(view.breaks())
    breaks = breaks[(breaks > z.min()) & (breaks < z.max())].reshape(-1, 1)
    t = np.sort(R.back(view.forward(np.concatenate((z, breaks)).reshape(-1, *p.event_in))), 0)
    if not np.isfinite(t).all():
        return np.nan, np.inf

    def rule(lower, upper):
        nodes = lower + (upper - lower) * (NODES[0] + 1) / 2
        found = density(view, p, R, latent, nodes.reshape(-1, 1), True)[:2]
        return [(values.reshape(nodes.shape) * NODES[1] * (upper - lower) / 2).sum(-1, keepdims=True) for values in found]

    lower, upper, total = t[:-1], t[1:], 0.0
    error = (density(view, p, R, latent, t[[0, -1]], True)[2] * np.exp(-REACH**2 / 2) / np.sqrt(2 * np.pi)).sum()        # (5)
    whole, _ = rule(lower, upper)
    while len(whole):
        middle, apart = halved(lower, upper)
        (first, doubt), (second, more) = rule(lower, middle), rule(middle, upper)
        off = np.abs(first + second - whole)
        wide = ((off > CONVERGED**2)[:, 0] | apart) & (len(whole) < MOST_PIECES)
        total, error = total + (first + second)[~wide].sum(), error + (off + doubt + more)[~wide].sum()         # (4)
        lower, upper = (np.concatenate((a[wide], b[wide])) for a, b in ((lower, middle), (middle, upper)))
        whole = np.concatenate((first[wide], second[wide]))
    return float(total), float(error)


def halved(lower, upper):
    """(the middle of two ends, are they so far apart that agreement means nothing?); then by arsinh t."""
    areas = np.arcsinh(lower), np.arcsinh(upper)
    apart = areas[1] - areas[0] > 4
    return np.where(apart, np.sinh((areas[0] + areas[1]) / 2), (lower + upper) / 2), apart[:, 0]


def on_a_grid(view, p, R, latent):
    """(integral, error estimate) for one latent normal, by the trapezoidal rule."""
    (centre, B), d = latent, p.size_in
    e, _ = grid([-REACH] * d, [REACH] * d, 14)
    z, _ = onto(p.f.domain, centre + e @ B.T)
    t = R.back(view.forward(z.reshape(-1, *p.event_in)))
    if not np.isfinite(t).all():
        return np.nan, np.inf
    weights = np.exp(-(e * e).sum(-1) / 2)
    weights = weights / weights.sum()
    mean = weights @ t
    deviations = np.sqrt(weights @ (t - mean) ** 2)     # divided out first: their ratio may exceed the available digits
    r = (t - mean) / deviations
    correlations = r.T @ (r * weights[:, None])
    root = np.linalg.cholesky(correlations) if np.linalg.eigvalsh(correlations).min() > 0 else np.eye(d)
    A, s = deviations[:, None] * root, np.linalg.solve(root, r.T).T
    half, full = (integral(view, p, R, latent, mean, A, s.min(0), s.max(0), n) for n in (COUNT, 2 * COUNT))
    return full, abs(full - half)


def latent_of(view, p, x):
    """y of events x."""
    z = view.inverse(x)
    return back(p.f.domain, flat(z, (len(z),)))


def latent_normals(view, p, R):
    """c and B of (2) for both s."""
    yield latent_normal(view, p, R, np.zeros(p.size_in))
    middle, _ = onto(p.f.domain, np.zeros((1, p.size_in)))
    yield latent_normal(view, p, R, R.back(view.forward(middle.reshape(-1, *p.event_in)))[0])


def latent_normal(view, p, R, s):
    """c and B of (2)."""
    centre = latent_of(view, p, R.member(s[None])[0])[0]
    return centre, np.stack([column(view, p, R, s, centre, e) for e in np.eye(p.size_in)], -1)


def column(view, p, R, s, centre, direction):
    """B_i of (2)."""
    def between(h):
        up, down = latent_of(view, p, R.member(np.stack((s + h * direction / 2, s - h * direction / 2)))[0])
        return (up - down) / 2                                                                  # (2)

    h, found = 1.0, between(1.0)
    while not seen(found, centre) and np.isfinite(longer := between(2 * h)).all():
        h, found = 2 * h, longer
    return found


def seen(found, centre):
    """Is the step visible when added to the centre, in some entry?  A step that is not finite need not be longer."""
    return not np.isfinite(found).all() or bool(((found != 0) & (np.abs(found) >= SEEN * np.abs(centre))).any())     # (3)


def integral(view, p, R, latent, mean, A, lower, upper, count):
    s, cell = grid(lower, upper, count)
    return float(density(view, p, R, latent, mean + s @ A.T).sum() * cell * abs(np.linalg.det(A)))


def density(view, p, R, latent, t, doubted=False):
    """The integrand of (1), 0 where it is not finite; where `doubted`, in one dimension, with the doubt and r of (4)."""
    (centre, B), (x, log_chart) = latent, R.member(t)
    z, log_det = view.inverse_and_log_det(x)
    y = back(p.f.domain, flat(z, (len(x),)))
    e, log_stretch = np.linalg.solve(B, (y - centre).T).T, onto(p.f.domain, y)[1].sum(-1)
    log_normal = -(e * e).sum(-1) / 2 - e.shape[-1] / 2 * np.log(2 * np.pi) - np.log(abs(np.linalg.det(B)))
    values = np.exp(log_normal - log_stretch + log_det + log_chart)                             # (1)
    values = np.where(np.isfinite(values), values, 0)
    if not doubted:
        return values
    slopes = np.abs(flat(x, (len(x),)))[:, 0] * np.exp(log_det - log_stretch) + np.abs(flat(z, (len(z),)))[:, 0] * np.exp(-log_stretch)
    r = 2.0**-53 * slopes / np.abs(B[0, 0])
    return values, values * np.minimum(1, REACH * r), r                                         # (4)
