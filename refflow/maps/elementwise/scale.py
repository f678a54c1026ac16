r"""Scales: conventions by which libraries turn an unconstrained number `s` into a positive scale `sigma`.

Every convention, and the slope of its logarithm, is written as a product whose exponent is kept apart:
    sigma = m exp(w),   d(log sigma)/ds = n exp(q)                                  (1)
so that products with an event keep their digits where `sigma` itself leaves the floats.  With `e = max(-E, min(w, E))`,
where `exp(E)` is safely inside the floats,
    z m exp(w) = z (m exp(e)) h h,   h = exp((w - e)/2)                             (2)
The product is 0 if `z` or a factor of `m` is 0, even if `h` is infinite.  If `m` is not moderate either, exponents of 2 are
added separately from the mantissas, so that no partial product overflows or loses digits where the whole does not.

Reverse rules of `x = z sigma` with `L = <x_bar, x> + l_bar log sigma`, and of `z = y/sigma` with
`L = <z_bar, z> - l_bar log sigma`, where `p` is `s` or one of the convention's own parameters, and
`d(log sigma)/dp = n exp(q)`:
    p_bar =  x_bar z m n exp(w + q) + l_bar n exp(q)                                (3)
    p_bar = -(z_bar y (n/m) exp(q - w) + l_bar n exp(q))                            (4)
The rounding of a large w + q affects only one of the terms.  Where they cancel and g is a normal number,
    p_bar = n exp(q) (g + l_bar),   g = x_bar z m exp(w)                            (5)
and in (4) likewise.

Constants of the sources (floors, offsets, clamps) are fields, with the source's number as default; they are not trained.
"""

from __future__ import annotations

import functools
from math import exp

import numpy as np

from ...core import Value, positive, real
from ...core.boundary import of_event, own_function, published, reducing, vjp_of_event
from ...core.registry import registered
from ...core.values import declare

__all__ = ["Scale"]

SAFE = {np.dtype(np.float64): 600, np.dtype(np.float32): 70}   # exp(E) and a cotangent of 2^60 (2^20) stay normal
FAR = 2.0**30                                                           # 1 + FAR^2 rounds to FAR^2
LARGE = 8                                                               # of an exponent whose rounding matters
NORMAL = {np.dtype(np.float64): 2.0**1000, np.dtype(np.float32): 2.0**120}     # these and their inverses are normal


def scaled(z, m, w):
    """z m exp(w); m may be a tuple of factors."""
    factors, dtype = as_factors(m), np.result_type(z, w)
    m, reach = functools.reduce(np.multiply, factors), largest(w)
    if reach <= SAFE[dtype] and is_moderate(m, factors, NORMAL[dtype] / exp(reach)):
        return z * (m * np.exp(w))
    e = np.minimum(np.maximum(w, -SAFE[dtype]), SAFE[dtype])
    h, mantissa, exponent = np.exp((w - e) / 2), 1, 0
    for factor in (z, *factors, np.exp(e), h, h):
        part, k = np.frexp(np.asarray(factor, dtype))
        mantissa, exponent = mantissa * part, exponent + k
    return np.where(vanishing((z, *factors)), 0, np.ldexp(mantissa, exponent))      # (2)


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
    """Marks where one of them is 0."""
    return functools.reduce(np.logical_or, (np.equal(factor, 0) for factor in factors))


def decayed(s, offset):
    """(v, exp(-|v|)) of v = s + offset.

    The offset is not an input, and the unit of error does not contain a rounding of v: the exponential is given back what v
    has lost.
    """
    v = s + offset
    e, lost = np.exp(-np.abs(v)), s - (v - offset)
    return v, e - e * lost * np.sign(v)


class Sigma:
    """The scale of one array s: products, quotients and cotangents, each intermediate computed once."""

    def __init__(self, convention, s):
        self.convention, self.s = convention, s
        self.m, self.w, self.log = convention.evaluate(s)                           # (1)

    def times(self, z):
        """z sigma."""
        return scaled(z, self.m, self.w)

    def over(self, y):
        """y / sigma."""
        return scaled(y, 1 / self.m, -self.w)

    def slope_times(self, z):
        """z d(sigma)/ds."""
        n, q = self.convention.log_slope(self.s)
        return scaled(z, (self.m, *as_factors(n)), self.w + q)

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
            (first, *others), exponent = as_factors(n), w + q
            through_event, through_log = scaled(event, (bar, *by_m(first), *others), exponent), scaled(l_bar, n, q)
            bars[p] = through_event + through_log
            if not largest(exponent) <= LARGE:
                cancelling = (np.abs(exponent) > LARGE) & (np.signbit(through_event) != np.signbit(through_log))
                g, limits = scaled(event, (bar, *by_m(1)), w), np.finfo(bars[p].dtype)
                cancelling &= (np.abs(g) >= limits.tiny) & (np.abs(g) <= limits.max) | np.isnan(bars[p])
                bars[p] = np.where(cancelling, scaled(g + l_bar, n, q), bars[p])    # (5)
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
    gains = None                        # parameters of channels: for a convention that is not elementwise
    hard_cases = ()

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


def scale(*, source="", register=True):
    """Declare a page: a convention, and who uses it."""

    def publish(page):
        page = declare(page)
        page.source = source
        for name, doc in (("forward", "sigma(s)."), ("log", "log sigma(s).")):
            setattr(page, name, published(own_function(page, name), of_event(0), doc))
        page.vjp = published(reducing(own_function(page, "vjp")), vjp_of_event(0, "sigma_bar", "log_sigma_bar"), VJP_DOC)
        return registered(page) if register else page

    return publish

