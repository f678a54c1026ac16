"""Numbers of about twice the digits of a float, as unevaluated sums of two floats."""

from __future__ import annotations

import numpy as np

from .arithmetic import exact_product, split_sum


class Pair:
    """The number `high + low`, where `high` is the rounded sum; entry by entry, for arrays of one shape.

    +, -, *, / with pairs, arrays and numbers, indexing and `sum` work as for arrays, so that lines written for arrays run on
    pairs.  The error of an operation is a few u^2, relative to its result, or to the larger number of a sum (Dekker).  Where a
    product leaves the range in which its error is known, the pair is only as good as its rounded number.
    """

    __array_ufunc__ = None                          # array * pair is the pair's to compute

    def __init__(self, high, low=0.0):
        total = high + low
        number = np.isfinite(total)                 # elsewhere the pair has left the floats, and is its rounded number
        self.high, self.low = np.where(number, total, high), np.where(number, low - (total - high), 0)

    shape = property(lambda self: self.high.shape)

    def astype(self, dtype):
        """The nearest floats of a dtype."""
        return self.high.astype(dtype)

    def __getitem__(self, index):
        return Pair(self.high[index], self.low[index])

    def __neg__(self):
        return Pair(-self.high, -self.low)

    def __add__(self, other):
        a, b = self, pair(other)
        total, error = split_sum(a.high, b.high)
        return Pair(total, error + (a.low + b.low))

    def __mul__(self, other):
        a, b = self, pair(other)
        product, error = exact_product(a.high, b.high)
        return Pair(product, error + (a.high * b.low + a.low * b.high))

    def __truediv__(self, other):
        a, b = self, pair(other)
        quotient = a.high / b.high
        product, error = exact_product(quotient, b.high)
        rest = (a.high - product - error) + (a.low - quotient * b.low)
        return Pair(quotient, rest / b.high)

    def __rtruediv__(self, other):
        return pair(other) / self

    def __sub__(self, other):
        return self + -pair(other)

    def __rsub__(self, other):
        return -self + other

    __radd__, __rmul__ = __add__, __mul__

    def reshaped(self, shape):
        return Pair(self.high.reshape(shape), self.low.reshape(shape))

    def sum(self, axis):
        """The sum over one axis."""
        high, low = (np.moveaxis(v, axis, 0) for v in (self.high, self.low))
        total = Pair(np.zeros(high.shape[1:], high.dtype))
        for part in zip(high, low):
            total = total + Pair(*part)
        return total


def exp(v):
    """The exponential of an array, or of a pair v with a relative error of a few hundred u^2 (1 + |v|)."""
    if not isinstance(v, Pair):
        return np.exp(v)
    k, e = reduced(v)
    half = np.floor(k / 2).astype(int)
    e, first, second = 1 + e, np.ldexp(1.0, half), np.ldexp(1.0, k.astype(int) - half)
    return Pair(e.high * first * second, e.low * first * second)


def expm1(v):
    """exp(v) - 1 of a pair, with the relative error of `exp`, also where v is small."""
    k, e = reduced(v)
    return chosen(k == 0, e, exp(v) - 1)


def reduced(v):
    """(k, e) with exp(v) = 2^k (1 + e), for a pair v.

    It is `k log 2 + 64 r` with `|64 r| <= log(2)/2`.  Taylor's sum gives `e = exp(r) - 1`, and as r doubles, e becomes
    `e (2 + e)`.  Terms below u e are sums of floats.
    """
    v = chosen(np.abs(v.high) < BEYOND, v, np.clip(v.high, -BEYOND, BEYOND))
    k = np.rint(v.high / LOG_2.high)
    r = (v - k * LOG_2) / 64
    e = 0.0
    for i in range(TERMS, 0, -1):
        e = (r if i <= PAIRED_TERMS else r.high) * (1 + e) / i
    for _ in range(6):
        e = e * (2 + e)
    return k, e


def log(v):
    """The logarithm of an array, or of a pair: that of `high`, and a step towards the root of `exp` with its second term."""
    if not isinstance(v, Pair):
        return np.log(v)
    first = pair(np.log(v.high))
    step = v * exp(-first) - 1
    return first + step - step * step / 2


def nearest(v):
    """The nearest floats: the rounded number of a pair, an array as it is."""
    return v.high if isinstance(v, Pair) else v


def taken(v, order):
    """The entries of an array or a pair in an order along the last axis."""
    if isinstance(v, Pair):
        return Pair(taken(v.high, order), taken(v.low, order))
    return np.take_along_axis(v, order, -1)


def pair(v) -> Pair:
    """An array or a number as a pair; a pair as it is."""
    if isinstance(v, Pair):
        return v
    exact = object.__new__(Pair)
    exact.high = np.asarray(v, np.float64)
    exact.low = np.zeros_like(exact.high)
    return exact


def stacked(parts) -> Pair | np.ndarray:
    """Arrays, or pairs, along a new last axis."""
    if isinstance(parts[0], Pair):
        return Pair(*(np.stack(halves, -1) for halves in zip(*((v.high, v.low) for v in parts))))
    return np.stack(parts, -1)


def chosen(where, a, b) -> Pair | np.ndarray:
    """a where marked, elsewhere b: pairs if one of them is a pair, else arrays."""
    if not isinstance(a, Pair) and not isinstance(b, Pair):
        return np.where(where, a, b)
    a, b = pair(a), pair(b)
    return Pair(np.where(where, a.high, b.high), np.where(where, a.low, b.low))


BEYOND = 2000.0                                     # its exponential is infinite, that of -BEYOND is 0
TERMS, PAIRED_TERMS = 13, 7                         # r^13/13! is below u^2 for |r| <= log(2)/128, and r^7/8! below u
LOG_2 = Pair(np.float64(0.6931471805599453), np.float64(2.3190468138462996e-17))
