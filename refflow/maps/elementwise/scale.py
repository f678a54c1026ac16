r"""Scales: conventions by which libraries turn an unconstrained number `s` into a positive scale `sigma`.

Every convention, and the slope of its logarithm, is written as a product whose exponent is kept apart:
    sigma = m exp(w),   d(log sigma)/ds = n exp(q)                                  (1)
so that products with an event keep their digits where `sigma` itself leaves the floats.  With `e = max(-E, min(w, E))`,
where `exp(E)` is safely inside the floats,
    z m exp(w) = z (m exp(e)) h h,   h = exp((w - e)/2)                             (2)
The product is 0 if `z` or a factor of `m` is 0, even if `h` is infinite.  If `m` is not moderate either, exponents of 2 are
added separately from the mantissas, so that no partial product overflows or loses digits where the whole does not.  Products
are computed in float64, for float32 too: NumPy's exponential of float32 errs by several units.

Reverse rules of `x = z sigma` with `L = <x_bar, x> + l_bar log sigma`, and of `z = y/sigma` with
`L = <z_bar, z> - l_bar log sigma`, where `p` is `s` or one of the convention's own parameters, and
`d(log sigma)/dp = n exp(q)`:
    p_bar =  x_bar z m n exp(w + q) + l_bar n exp(q)                                (3)
    p_bar = -(z_bar y (n/m) exp(q - w) + l_bar n exp(q))                            (4)
Where the terms of (3) cancel, the rounding of a large exponent would be an error of one of them alone.  So in (3), and likewise
in (4), a factor restores what the exponent has lost:
    exp(w + q) = (1 + r) exp(v),   w + q = v + r,   v rounded                       (5)
Where both terms are infinite, with opposite signs, (6) finds the sign of the larger one:
    p_bar = n exp(q) (g + l_bar),   g = x_bar z m exp(w)                            (6)

Constants of the sources (floors, offsets, clamps) are fields, with the source's number as default; they are not trained.  The
unit of error does not contain their roundings, so the pages keep the digits that these roundings would cost.
"""

from __future__ import annotations

import functools
from math import exp

import numpy as np

from ...core import Value, positive, real
from ...core.arithmetic import split_sum
from ...core.boundary import of_event, own_function, published, reducing, vjp_of_event
from ...core.pairs import pair
from ...core.registry import registered
from ...core.values import declare

__all__ = ["Scale"]

SAFE = {np.dtype(np.float64): 600, np.dtype(np.float32): 70}   # exp(E) and a cotangent of 2^60 (2^20) stay normal
FAR = 2.0**30                                                           # 1 + FAR^2 rounds to FAR^2
BEYOND = 2.0**20                                                        # the rounding r of a smaller v keeps 1 + r positive
LARGE = 8                                                               # an exponent beyond it has a rounding that matters
NORMAL = 2.0**1000                                                      # it and its inverse are normal


def scaled(z, m, w):
    """z m exp(w); m may be a tuple of factors."""
    dtype = np.result_type(z, w)
    z, w, *factors = (np.asarray(v, np.float64) for v in (z, w, *as_factors(m)))
    m, reach, limit = functools.reduce(np.multiply, factors), largest(w), SAFE[w.dtype]
    if reach <= limit and is_moderate(m, factors, NORMAL / exp(reach)):
        return (z * (m * np.exp(w))).astype(dtype, copy=False)
    e = np.minimum(np.maximum(w, -limit), limit)
    h, mantissa, exponent = np.exp((w - e) / 2), 1, 0
    for factor in (z, *factors, np.exp(e), h, h):
        part, k = np.frexp(factor)
        mantissa, exponent = mantissa * part, exponent + k
    return np.where(vanishing((z, *factors)), 0, np.ldexp(mantissa, exponent)).astype(dtype, copy=False)        # (2)


def as_factors(m):
    return m if isinstance(m, tuple) else (m,)


def largest(w):
    """The largest |w_i|."""
    return max(w.max(initial=0), -w.min(initial=0))


def is_moderate(m, factors, limit):
    """Does a product of factors lie between 1/limit and limit wherever none of them is 0?"""
    size = np.abs(m)
    if size.max(initial=1) <= limit and size.min(initial=1) >= 1 / limit:
        return True
    return bool(np.all((size <= limit) & (size >= 1 / limit) | vanishing(factors)))


def vanishing(factors):
    """Marks where one of the factors is 0."""
    return functools.reduce(np.logical_or, (np.equal(factor, 0) for factor in factors))


def shifted(s, offset):
    """(v, r) with s + offset = v + r, where v is rounded; the offset may be a pair of floats.

    A constant is not an input, and the unit of error does not contain the rounding r, which an exponential would magnify:
    exp(s + offset) = (1 + r) exp(v).
    """
    if offset == 0:
        return s, 0.0
    offset = pair(offset)
    total, r = split_sum(s.astype(np.float64, copy=False), offset.high)
    v = total.astype(s.dtype, copy=False)
    return v, lost(v, (total - v) + (r + offset.low))


def summed(w, q):
    """(v, r) with w + q = v + r, where v is rounded."""
    v, r = split_sum(w, q)
    return v, lost(v, r)


def lost(v, r):
    """The lost part r of the rounded exponent v, or 0 where exp(v) is 0 or infinite whatever multiplies it."""
    return (r if largest(v) < BEYOND else np.where(np.abs(v) < BEYOND, r, 0)).astype(v.dtype, copy=False)


def logistic(s, offset):
    """(m, w, t) of v = s + offset: sigmoid v = m exp(w), w = min(v, 0), t = exp(-|v|)."""
    v, r = shifted(s, offset)
    t = np.exp(-np.abs(v))
    t = t - t * r * np.sign(v)
    return np.where(v < 0, 1 + r, 1) / (1 + t), np.minimum(v, 0), t


def parted(constant, dtype):
    """(c, r): a constant's nearest float of a dtype, and the rest, which matters where c is an exponent."""
    c = dtype.type(constant)
    return c, dtype.type(constant - float(c))


class Sigma:
    """The scale of one array s: products, quotients and cotangents, each intermediate computed once."""

    def __init__(self, convention, s):
        self.convention, self.s = convention, s
        self.m, self.w, self.log = convention.evaluate(s)                           # (1)

    def times(self, z):
        """z sigma."""
        return scaled(z, self.m, self.w)

    def quotient(self, y):
        """y / sigma."""
        return scaled(y, 1 / self.m, -self.w)

    def slope_times(self, z):
        """z d(sigma)/ds."""
        n, q = self.convention.log_slope(self.s)
        v, r = summed(self.w, q)
        return scaled(z, (self.m, *as_factors(n), 1 + r), v)                        # (5)

    def log_slope_times(self, z):
        """z d(log sigma)/ds."""
        return scaled(z, *self.convention.log_slope(self.s))

    def slopes(self):
        return {"s": self.convention.log_slope(self.s), **self.convention.field_slopes(self.s)}

    def cotangents(self, z, x_bar, l_bar):
        """(s_bar, params_bar) of <x_bar, z sigma> + <l_bar, log sigma>."""
        return self._split(self._cotangents(z, x_bar, l_bar, lambda n: (self.m, n), self.w))        # (3)

    def inverse_cotangents(self, y, z_bar, l_bar):
        """(s_bar, params_bar) of <z_bar, y / sigma> - <l_bar, log sigma>."""
        return self._split(self._cotangents(y, -z_bar, -l_bar, lambda n: (n / self.m,), -self.w))   # (4)

    def _cotangents(self, event, bar, l_bar, by_m, w):
        """{p: bar event m n exp(w + q) + l_bar n exp(q)}, where `by_m` gives the factors of m n."""
        bars = {}
        for p, (n, q) in self.slopes().items():
            (first, *others), (v, r) = as_factors(n), summed(w, q)
            others += [1 + r] if largest(v) > LARGE else []                         # (5)
            bars[p] = scaled(event, (bar, *by_m(first), *others), v) + scaled(l_bar, n, q)
            opposite = np.isnan(bars[p])
            if opposite.any():
                g = scaled(event, (bar, *by_m(1)), w)
                bars[p] = np.where(opposite, scaled(g + l_bar, n, q), bars[p])      # (6)
        return bars

    def log_cotangents(self, l_bar):
        """(s_bar, params_bar) of <l_bar, log sigma>."""
        return self._split({p: scaled(l_bar, n, q) for p, (n, q) in self.slopes().items()})

    def _split(self, bars):
        return bars.pop("s"), self.convention.reduce(bars)


class Scale(Value):
    """sigma = sigma(s) > 0, elementwise.

    `forward(s)` -> sigma
    `log(s)` -> log sigma
    `vjp(s)` -> ((sigma, log_sigma), pullback); `pullback(sigma_bar, log_sigma_bar)` -> (s_bar, params_bar)

    A page writes `definition(m, s, **fields)` -> sigma, `evaluate(s)` -> (m, w, log sigma) with sigma = m exp(w),
    `log_slope(s)` -> (n, q) with d(log sigma)/ds = n exp(q), where n is an array or a tuple of factors, and
    `field_slopes(s)` -> {field: (n, q)} if it has parameters.
    """

    kind = "scale"
    letters = "s"
    source = ""
    normwise = False
    event_ndim = (0, 0)
    event_shape = None
    domain, codomain = real, positive
    gains = None  # type: np.ndarray | None  # parameters of channels: for a convention that is not elementwise
    hard_cases = ()  # type: tuple

    def output_shape(self, shape):
        return shape

    def input_shape(self, shape):
        return shape

    def at_values(self, s):
        """The `Sigma` of an array s."""
        return Sigma(self, s)

    def forward(self, s):
        return self.at_values(s).times(np.ones_like(s))

    def log(self, s):
        return np.broadcast_to(self.evaluate(s)[2], s.shape)

    def vjp(self, s):
        sigma = self.at_values(s)
        one = np.ones_like(s)
        values = sigma.times(one), np.broadcast_to(sigma.log, s.shape)
        return values, lambda sigma_bar, log_sigma_bar: sigma.cotangents(one, sigma_bar, log_sigma_bar)

    def field_slopes(self, s):
        return {}


def elementwise(name, scale):
    """Refuse a convention with parameters for channels if there are no channels."""
    if getattr(scale, "gains", None) is not None:
        raise ValueError(f"{name}: scale must be elementwise; only a Coupling knows an entry's channel, which gains need")


VJP_DOC = """((sigma, log_sigma), pullback); `pullback(sigma_bar, log_sigma_bar)` -> (s_bar, params_bar)."""


def scale(*, source="", register=True, **facts):
    """Declare a page: a convention, who uses it, and facts about it."""

    def publish(page):
        page = declare(page)
        for fact, held in {"source": source, **facts}.items():
            setattr(page, fact, held)
        for name, doc in (("forward", "sigma(s)."), ("log", "log sigma(s).")):
            setattr(page, name, published(own_function(page, name), of_event(0), doc))
        page.vjp = published(reducing(own_function(page, "vjp")), vjp_of_event(0, "sigma_bar", "log_sigma_bar"), VJP_DOC)
        return registered(page) if register else page

    return publish

