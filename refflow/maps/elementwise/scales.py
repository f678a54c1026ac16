r"""Scales: the conventions by which libraries turn an unconstrained number s into a positive scale sigma.

Every convention is written as a product whose exponent is kept apart, and so is the slope of its logarithm:
    sigma = m exp(w),   d(log sigma)/ds = n exp(q)                                  (1)
so that products with an event keep their digits where sigma itself leaves the floats.  With e = max(-E, min(w, E)),
exp(E) safely inside the floats,
    z m exp(w) = z (m exp(e)) h h,   h = exp((w - e)/2)                             (2)
a product that is 0 with z or m though h be infinite.

Reverse rules of x = z sigma with L = <x_bar, x> + l_bar log sigma, and of z = y/sigma with L = <z_bar, z> - l_bar log sigma,
where p is s or one of the convention's own parameters, and d(log sigma)/dp = n exp(q):
    p_bar =  x_bar z m n exp(w + q) + l_bar n exp(q)                                (3)
    p_bar = -(z_bar y (n/m) exp(q - w) + l_bar n exp(q))                            (4)

The conventions.  t = exp(-|v|), L = log(1 + t), softplus v = max(v, 0) + L, sigmoid v = exp(min(v, 0)) / (1 + t).

ExpScale:           log sigma = s + offset                                          (5)
ClampedExpScale:    log sigma = min(max(s, low), high)                              (6)
    with slope 1 between low and high, and beyond them 0, or 1 where the gradient is declared to pass through.      (7)
TanhExpScale:       log sigma = clamp tanh v,   v = rate s                          (8)
    slope = rate clamp 4 exp(-2|v|) / (1 + exp(-2|v|))^2                            (9)
RescaledTanhExpScale:   log sigma = gain tanh s + shift,    gain one number, or one for each channel        (10)
    with slope (9) for clamp = gain, rate = 1, and slopes tanh s in gain, 1 in shift.       (11)
ArctanExpScale:     log sigma = c arctan s,   c = clamp factor,   slope = c / (1 + s^2)     (12)
SoftclipExpScale:   log sigma = s / (1 + a),   a = |s|/b,   b = -log low,   slope = 1 / (1 + a)^2       (13)
    sigma = low^(-sign s) exp(-sign(s) b / (1 + a))         for a > 1               (14)
DoubleExpScale:     log sigma = b (exp(v) - 1),   v = rate s,   b = -log low,   slope = b rate exp(v)   (15)
    sigma = low exp(b exp v)                                for exp(v) < 1/2        (16)
FlooredExpScale:    sigma = floor + (1 - floor) exp(v),   v = rate s                (17)
                          = (1 - floor + floor exp(-v)) exp(v)                      (18)
    log sigma = log(1 + (1 - floor) (exp(v) - 1))           for |v| <= 1            (19)
    slope = (1 - floor) rate exp(v) / sigma                                         (20)
SigmoidScale:       sigma = floor + sigmoid v,   v = s + offset                     (21)
    log sigma = min(v, 0) - L                               for floor = 0           (22)
              = log(1 + (floor - sigmoid(-v)))              for v > 0               (23)
    slope = sigmoid(-v) for floor = 0, else sigmoid(v) sigmoid(-v) / sigma = t / ((1 + t)^2 sigma)      (24)
ReciprocalSigmoidScale: sigma = 1 / sigmoid v = (1 + t) exp(max(-v, 0)),   v = s + offset,  slope = -sigmoid(-v)    (25)
SoftplusScale:      sigma = min(gain softplus v + floor, ceiling),   v = rate s     (26)
                          = gain (L/t) exp(v)               for floor = 0, v < 0    (27)
    log sigma = log gain + log softplus v + log(1 + floor / (gain softplus v))                                      (28)
                where gain softplus v > floor > 0 or softplus v is near 1, log softplus v there being
                log(1 + (max(v, 0) + (log 2 - 1) + log(1 + (exp(-|v|) - 1)/2)))
    slope = gain rate sigmoid(v) / sigma, 0 beyond the ceiling                      (29)
CentredSoftplusScale:   sigma = floor + softplus v,   v = s + c,   c = log(exp(1 - floor) - 1),   1 at s = 0       (30)
    log sigma = log(1 + log(1 + p (exp(s) - 1))),   p = sigmoid c = 1 - exp(floor - 1),   for |s| <= 1              (31)
    slope = sigmoid(v) / sigma                                                      (32)

(14) and (16) keep the large constant b out of the exponent, where its rounding would be felt although sigma no longer
depends on s.  (19), (23) and (31) keep the digits of a logarithm near 0; (31) is softplus(s + c) - softplus(c) inside.
Constants of the sources (floors, offsets, clamps) are fields, with the source's number as default; they are not trained.
`CONVENTIONS` lists who uses which.
"""

from __future__ import annotations

from math import exp, expm1, inf, log

import numpy as np

from ...core import Array, Value, plain, real
from ...core.boundary import of_event, own_function, published, reducing, vjp_of_event
from ...core.declarations import Field
from ...core.values import declare, shown
from ...core.sets import positive

__all__ = ["CONVENTIONS", "Scale"]

SAFE = {np.dtype(np.float64): 600, np.dtype(np.float32): 70}   # exp(E) and a cotangent of 2^60 (2^20) stay normal


def scaled(z, m, w):
    """z m exp(w)."""
    E = SAFE[np.result_type(z, w)]
    if (np.abs(w) <= E).all():
        return z * (m * np.exp(w))
    e = np.minimum(np.maximum(w, -E), E)
    h = np.exp((w - e) / 2)
    return np.where((z == 0) | (m == 0), 0, z * (m * np.exp(e)) * h * h)            # (2)


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
        return scaled(z, self.m * n, self.w + q)

    def log_slope_times(self, z):
        """z d(log sigma)/ds."""
        return scaled(z, *self.convention.log_slope(self.s))

    def slopes(self):
        return {"s": self.convention.log_slope(self.s), **self.convention.field_slopes(self.s)}

    def cotangents(self, z, x_bar, l_bar):
        """(s_bar, params_bar) of <x_bar, z sigma> + <l_bar, log sigma>."""
        return self._split({p: scaled(z, x_bar * self.m * n, self.w + q) + scaled(l_bar, n, q)
                            for p, (n, q) in self.slopes().items()})                # (3)

    def inverse_cotangents(self, y, z_bar, l_bar):
        """(s_bar, params_bar) of <z_bar, y / sigma> - <l_bar, log sigma>."""
        return self._split({p: -(scaled(y, z_bar * (n / self.m), q - self.w) + scaled(l_bar, n, q))
                            for p, (n, q) in self.slopes().items()})                # (4)

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
    `log_slope(s)` -> (n, q) with d(log sigma)/ds = n exp(q), and `field_slopes(s)` -> {field: (n, q)} if it has parameters.
    `rules` say what its constants must be.
    """

    letters = "s"
    event_ndim = (0, 0)
    event_shape = None
    domain, codomain = real, positive
    gains = None                        # parameters of channels: those of a convention that is not elementwise
    rules: tuple = ()
    hard_cases = ()

    def output_shape(self, shape):
        return shape

    def input_shape(self, shape):
        return shape

    def _validate(self):
        super()._validate()
        for key, (holds, rule) in self.rules:
            value = float(getattr(self, key))
            if not holds(value):
                raise ValueError(f"{type(self).__name__}: {key} {rule}; {key} = {value}")
            self._set(key, value)

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
    """Refuse a convention with parameters of channels where there are none."""
    if getattr(scale, "gains", None) is not None:
        raise ValueError(f"{name}: scale must be elementwise; gains of channels are for AffineCoupling alone")


VJP_DOC = """((sigma, log_sigma), pullback); `pullback(sigma_bar, log_sigma_bar)` -> (s_bar, params_bar)."""


def scale(page):
    """Declare a page: a convention."""
    page = declare(page)
    for name, doc in (("forward", "sigma(s)."), ("log", "log sigma(s).")):
        setattr(page, name, published(own_function(page, name), of_event(0), doc))
    page.vjp = published(reducing(own_function(page, "vjp")), vjp_of_event(0, "sigma_bar", "log_sigma_bar"), VJP_DOC)
    return page


FINITE = (lambda v: -inf < v < inf, "must be finite")
ABOVE_0 = (lambda v: 0 < v < inf, "must be finite and > 0")
POSITIVE = (lambda v: v > 0, "must be > 0")
AT_LEAST_0 = (lambda v: 0 <= v < inf, "must be finite and >= 0")
BELOW_1 = (lambda v: 0 < v < 1, "must be in (0, 1)")


def sigmoid(v):
    t = np.exp(-np.abs(v))
    return np.exp(np.minimum(v, 0)) / (1 + t)


@scale
class ExpScale(Scale):
    """sigma = exp(s + offset)."""

    offset: float = plain(0.0)
    rules = (("offset", FINITE),)

    @staticmethod
    def definition(m, s, offset):
        return m.exp(s + offset)                                                    # (5)

    def evaluate(self, s):
        w = s + self.offset                                                         # (5)
        return 1, w, w

    def log_slope(self, s):
        return 1, np.zeros_like(s)


@scale
class ClampedExpScale(Scale):
    """sigma = exp(min(max(s, low), high)).

    `straight_through`: the gradient of s passes the clamp as if it were not there, and is not the derivative beyond it.
    """

    low: float = plain(-5.0)
    high: float = plain(3.0)
    straight_through: bool = plain(False)
    rules = (("low", FINITE), ("high", FINITE))

    def _validate(self):
        super()._validate()
        if not self.low < self.high:
            raise ValueError(f"ClampedExpScale: low must be < high; low = {self.low}, high = {self.high}")

    @staticmethod
    def definition(m, s, low, high, straight_through):
        if s < low:
            return m.exp(m.mpf(low))                                                # (6)
        if s > high:
            return m.exp(m.mpf(high))                                               # (6)
        return m.exp(s)                                                             # (6)

    def evaluate(self, s):
        w = np.minimum(np.maximum(s, self.low), self.high)                          # (6)
        return 1, w, w

    def log_slope(self, s):
        inside = (s >= self.low) & (s <= self.high) | self.straight_through
        return inside.astype(s.dtype), np.zeros_like(s)                             # (7)


def tanh_slope(v):
    """(n, q) of d(tanh v)/dv."""
    a = np.abs(v)
    return 4 / (1 + np.exp(-2 * a)) ** 2, -2 * a


@scale
class TanhExpScale(Scale):
    """sigma = exp(clamp tanh(rate s)), in (exp(-clamp), exp(clamp))."""

    clamp: float = plain(2.0)
    rate: float = plain(1.0)
    rules = (("clamp", ABOVE_0), ("rate", ABOVE_0))

    @staticmethod
    def definition(m, s, clamp, rate):
        return m.exp(clamp * m.tanh(rate * s))                                      # (8)

    def evaluate(self, s):
        w = self.clamp * np.tanh(self.rate * s)                                     # (8)
        return 1, w, w

    def log_slope(self, s):
        n, q = tanh_slope(self.rate * s)
        return self.rate * self.clamp * n, q                                        # (9)


@scale
class RescaledTanhExpScale(Scale):
    """sigma = exp(gain tanh(s) + shift), gain and shift being trained; `shift` may be None, 0 and no parameter.

    `gain` is one number for all s; or None, and `gains` (C,) has one for each channel of s (*batch, C), which in an
    `AffineCoupling` are the channels in which b has entries.  A port of RealNVP normalises the gain of each channel as a
    weight, g v / |v|.  Of a single number v that is g or -g: v has the gradient 0 and keeps its sign, so that the gain is
    a free number, trained alike.
    """

    gain: Array = Field(real, (), default=1.0, optional=True)
    shift: Array = Field(real, (), optional=True)
    gains: Array = Field(real, ("C",), optional=True)

    event_ndim = property(lambda self: (0, 0) if self.gains is None else (1, 1))
    event_shape = property(lambda self: None if self.gains is None else ("C",))

    def _validate(self):
        super()._validate()
        if (self.gain is None) == (self.gains is None):
            raise ValueError(f"RescaledTanhExpScale: gain must be None where gains are given, and there alone; "
                             f"gain = {shown(self.gain)}, gains = {shown(self.gains)}")

    @staticmethod
    def definition(m, s, gain, shift, gains):
        def sigma(s, gain):
            w = gain * m.tanh(s)
            return m.exp(w if shift is None else w + shift)                         # (10)

        return sigma(s, gain) if gains is None else [sigma(*channel) for channel in zip(s, gains)]

    def gain_of(self):
        """The gain of each s."""
        return self.gain if self.gains is None else self.gains

    def evaluate(self, s):
        w = self.gain_of() * np.tanh(s)
        w = w if self.shift is None else w + self.shift                             # (10)
        return 1, w, w

    def log_slope(self, s):
        n, q = tanh_slope(s)
        return self.gain_of() * n, q                                                # (9)

    def field_slopes(self, s):
        t, nothing = np.tanh(s), np.zeros_like(s)
        slopes = {"gain": t, "shift": np.ones_like(s), "gains": t}                  # (11)
        return {key: (slope, nothing) for key, slope in slopes.items() if getattr(self, key) is not None}


@scale
class ArctanExpScale(Scale):
    """sigma = exp(clamp factor arctan s); the source's 0.636 is nearly 2/pi."""

    clamp: float = plain(2.0)
    factor: float = plain(0.636)
    rules = (("clamp", ABOVE_0), ("factor", ABOVE_0))

    @staticmethod
    def definition(m, s, clamp, factor):
        return m.exp(m.atan(s) * clamp * factor)                                    # (12)

    def evaluate(self, s):
        w = self.clamp * self.factor * np.arctan(s)                                 # (12)
        return 1, w, w

    def log_slope(self, s):
        return self.clamp * self.factor / (1 + s * s), np.zeros_like(s)             # (12)


@scale
class SoftclipExpScale(Scale):
    """sigma = exp(s / (1 + |s / log low|)), in (low, 1/low)."""

    low: float = plain(1e-3)
    rules = (("low", BELOW_1),)

    @staticmethod
    def definition(m, s, low):
        return m.exp(s / (1 + abs(s / m.log(low))))                                 # (13)

    def evaluate(self, s):
        b = -log(self.low)
        a = np.abs(s) / b
        log_sigma = s / (1 + a)                                                     # (13)
        far, side = a > 1, np.sign(s)
        m = np.where(far, np.where(s > 0, 1 / self.low, self.low).astype(s.dtype), 1)
        return m, np.where(far, -side * (b / (1 + a)), log_sigma), log_sigma        # (14)

    def log_slope(self, s):
        a = np.abs(s) / -log(self.low)
        return 1 / (1 + a) ** 2, np.zeros_like(s)                                   # (13)


@scale
class DoubleExpScale(Scale):
    """sigma = low^(1 - exp(rate s)), in (low, inf)."""

    low: float = plain(1e-3)
    rate: float = plain(0.01)
    rules = (("low", BELOW_1), ("rate", ABOVE_0))

    @staticmethod
    def definition(m, s, low, rate):
        return m.exp(-m.log(low) * m.expm1(rate * s))                               # (15)

    def evaluate(self, s):
        b, v = -log(self.low), self.rate * s
        far = v < -log(2)
        log_sigma = b * np.expm1(v)                                                 # (15)
        m = np.where(far, s.dtype.type(self.low), s.dtype.type(1))
        return m, np.where(far, b * np.exp(v), log_sigma), log_sigma                # (16)

    def log_slope(self, s):
        return -log(self.low) * self.rate, self.rate * s                            # (15)


@scale
class FlooredExpScale(Scale):
    """sigma = floor + (1 - floor) exp(rate s), 1 at s = 0."""

    floor: float = plain(1e-10)
    rate: float = plain(0.5)
    rules = (("floor", BELOW_1), ("rate", ABOVE_0))

    @staticmethod
    def definition(m, s, floor, rate):
        return floor + (1 - m.mpf(floor)) * m.exp(rate * s)                         # (17)

    def evaluate(self, s):
        rest, v = 1 - self.floor, self.rate * s
        t, up = np.exp(-np.abs(v)), v > 0
        m = np.where(up, rest + self.floor * t, self.floor + rest * t)              # (17) (18)
        w = np.maximum(v, 0)
        near = np.log1p(rest * np.expm1(np.minimum(v, 1)))                          # (19)
        return m, w, np.where(np.abs(v) <= 1, near, np.log(m) + w)

    def log_slope(self, s):
        m, _, _ = self.evaluate(s)
        return (1 - self.floor) * self.rate / m, np.minimum(self.rate * s, 0)       # (20)


@scale
class SigmoidScale(Scale):
    """sigma = floor + sigmoid(s + offset), in (floor, 1 + floor)."""

    offset: float = plain(2.0)
    floor: float = plain(0.0)
    rules = (("offset", FINITE), ("floor", AT_LEAST_0))

    @staticmethod
    def definition(m, s, offset, floor):
        return floor + 1 / (1 + m.exp(-(s + offset)))                               # (21)

    def evaluate(self, s):
        v = s + self.offset
        t = np.exp(-np.abs(v))
        w = np.minimum(v, 0)
        if self.floor == 0:
            return 1 / (1 + t), w, w - np.log1p(t)                                  # (21) (22)
        sigma = self.floor + np.exp(w) / (1 + t)                                    # (21)
        above = np.log1p(self.floor - t / (1 + t))                                  # (23)
        return sigma, np.zeros_like(s), np.where(v > 0, above, np.log(sigma))

    def log_slope(self, s):
        v = s + self.offset
        t = np.exp(-np.abs(v))
        if self.floor == 0:
            return 1 / (1 + t), np.minimum(-v, 0)                                   # (24)
        return 1 / ((1 + t) ** 2 * (self.floor + sigmoid(v))), -np.abs(v)           # (24)


@scale
class ReciprocalSigmoidScale(Scale):
    """sigma = 1 / sigmoid(s + offset), in (1, inf)."""

    offset: float = plain(2.0)
    rules = (("offset", FINITE),)

    @staticmethod
    def definition(m, s, offset):
        return 1 + m.exp(-(s + offset))                                             # (25)

    def evaluate(self, s):
        v = s + self.offset
        t = np.exp(-np.abs(v))
        w = np.maximum(-v, 0)
        return 1 + t, w, np.log1p(t) + w                                            # (25)

    def log_slope(self, s):
        v = s + self.offset
        return -1 / (1 + np.exp(-np.abs(v))), np.minimum(-v, 0)                     # (25)


@scale
class SoftplusScale(Scale):
    """sigma = min(gain softplus(rate s) + floor, ceiling); constant, with gradient 0, beyond the ceiling."""

    floor: float = plain(0.0)
    ceiling: float = plain(inf)
    gain: float = plain(1.0)
    rate: float = plain(1.0)
    rules = (("floor", AT_LEAST_0), ("ceiling", POSITIVE), ("gain", ABOVE_0), ("rate", ABOVE_0))

    def _validate(self):
        super()._validate()
        if not self.floor < self.ceiling:
            raise ValueError(f"SoftplusScale: floor must be < ceiling; floor = {self.floor}, ceiling = {self.ceiling}")

    @staticmethod
    def definition(m, s, floor, ceiling, gain, rate):
        sigma = floor + gain * m.log1p(m.exp(rate * s))                             # (26)
        return m.mpf(ceiling) if ceiling < inf and sigma > ceiling else sigma

    def evaluate(self, s):
        v = self.rate * s
        t = np.exp(-np.abs(v))
        soft = np.maximum(v, 0) + np.log1p(t)
        m, w = self.floor + self.gain * soft, np.zeros_like(s)                      # (26)
        if self.floor == 0:
            below = v < 0
            m, w = np.where(below, self.gain * log1p_ratio(t), m), np.minimum(v, 0)     # (27)
        near = (soft >= 0.5) & (soft <= 2)
        excess = np.maximum(v, 0) + (log(2) - 1 + np.log1p(np.expm1(-np.abs(v)) / 2))
        log_soft = np.where(near, np.log1p(excess), np.log(soft)) + log(self.gain)
        above = log_soft + np.log1p(self.floor / (self.gain * soft))                # (28)
        log_sigma = np.where(near | (self.gain * soft > self.floor) & (self.floor > 0), above, np.log(m) + w)
        if self.ceiling == inf:
            return m, w, log_sigma
        beyond = self.beyond(s)
        return (np.where(beyond, self.ceiling, m).astype(s.dtype), np.where(beyond, 0, w),
                np.where(beyond, log(self.ceiling), log_sigma).astype(s.dtype))

    def beyond(self, s):
        """Where the ceiling is exceeded."""
        v = self.rate * s
        return self.floor + self.gain * (np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))) > self.ceiling

    def log_slope(self, s):
        v = self.rate * s
        t = np.exp(-np.abs(v))
        soft = np.maximum(v, 0) + np.log1p(t)
        if self.floor == 0:
            n = self.rate / ((1 + t) * np.where(v < 0, log1p_ratio(t), soft))       # (29)
            q = np.zeros_like(s)
        else:
            n, q = self.gain * self.rate / ((1 + t) * (self.floor + self.gain * soft)), np.minimum(v, 0)    # (29)
        return (n, q) if self.ceiling == inf else (np.where(self.beyond(s), 0, n), q)


def log1p_ratio(t):
    """log(1 + t) / t for 0 <= t <= 1; 1 at 0."""
    return np.where(t == 0, 1, np.log1p(t) / t)


@scale
class CentredSoftplusScale(Scale):
    """sigma = floor + softplus(s + c) with c such that sigma is 1 at s = 0."""

    floor: float = plain(1e-2)
    rules = (("floor", BELOW_1),)

    @staticmethod
    def definition(m, s, floor):
        return floor + m.log1p(m.exp(s + m.log(m.expm1(1 - m.mpf(floor)))))         # (30)

    def evaluate(self, s):
        v = s + log(expm1(1 - self.floor))
        sigma = self.floor + np.maximum(v, 0) + np.log1p(np.exp(-np.abs(v)))        # (30)
        p = 1 - exp(self.floor - 1)
        near = np.log1p(np.log1p(p * np.expm1(np.minimum(s, 1))))                   # (31)
        return sigma, np.zeros_like(s), np.where(np.abs(s) <= 1, near, np.log(sigma))

    def log_slope(self, s):
        v = s + log(expm1(1 - self.floor))
        t = np.exp(-np.abs(v))
        return 1 / ((1 + t) * (self.floor + np.maximum(v, 0) + np.log1p(t))), np.minimum(v, 0)      # (32)


CONVENTIONS = {
    "exp": ExpScale(),                                          # TFP RealNVP and MAF, normflows, bijx, SurVAE, glow-tts
    "TFP Glow exit": ExpScale(offset=2.0),
    "TFP MADE": ClampedExpScale(straight_through=True),
    "Pyro, NumPyro": ClampedExpScale(straight_through=True),
    "TFP MADE, gradient clamped": ClampedExpScale(),
    "FrEIA TANH": TanhExpScale(),
    "FrEIA SIGMOID": TanhExpScale(rate=0.5),                    # 2 (sigmoid(s) - 1/2) = tanh(s/2)
    "FrEIA ATAN": ArctanExpScale(),
    "FrEIA AllInOne": TanhExpScale(),                           # its net is scaled by 1/10 as a whole
    "FrEIA AllInOne, older": TanhExpScale(rate=0.5),            # 2 tanh(s/2)
    "FrEIA AllInOne global": SoftplusScale(gain=0.2, rate=0.5),     # 0.1 softplus of beta 1/2
    "RealNVP": RescaledTanhExpScale(1.0, 0.0),
    "zuko": SoftclipExpScale(),
    "TFP Glow, openai/glow": SigmoidScale(),
    "Pyro stable": SigmoidScale(),                              # and a gated shift: `GatedLocationScale`
    "FlowTorch sigmoid": SigmoidScale(offset=0.0),
    "InvertibleNetworks": SigmoidScale(offset=0.0),
    "nflows coupling, normflows AR": SigmoidScale(floor=1e-3),
    "glow-tts sigmoid_scale": SigmoidScale(floor=1e-6),
    "normflows sigmoid": ReciprocalSigmoidScale(),
    "FlowTorch": SoftplusScale(),
    "nflows AR": SoftplusScale(floor=1e-3),
    "nflows general": SoftplusScale(floor=1e-3, ceiling=3.0),
    "FlowJAX": CentredSoftplusScale(),
    "torchflows": FlooredExpScale(),
    "torchflows SafeAffine": FlooredExpScale(floor=0.1),
    "torchflows Affine2": DoubleExpScale(),
}
