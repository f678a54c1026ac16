"""The numbers used for the truth: balls, dual numbers over balls, and the namespace that definitions call m.

A ball (python-flint `arb`) is a midpoint and a proved radius, with unbounded exponents.  Derivatives are exact: dual
numbers over balls, nested once per order of differentiation.  Functions and matrix operations are given with their
derivatives, each in the form that does not cancel.

A dual number carries its partials by all inputs along, so that each operation costs a product for each input.  At one level,
RECORDED, a number instead remembers the operands that it was made of, and `gradient` goes back over them once.
"""

from __future__ import annotations

import heapq
import itertools
from numbers import Integral

from flint import arb, arb_mat


RECORDED = 2                                        # the level of derivatives that go backwards


class Ambiguous(ArithmeticError):
    """A ball is too wide to decide a comparison."""


# ---------------------------------------------------------------- dual numbers

class Dual:
    """value + sum_j partials[j] e_j with e_j e_k = 0, where the e_j belong to one `level`.

    Values and partials are balls or duals of lower level, so a dual of level 2 over level 1 carries second derivatives.
    For a dual, anything of lower level is a constant.  Absent partials are 0.  Level 0 is a bare ball: a constant that
    refuses an ambiguous comparison.  At the level RECORDED an e_j is an input or the result of an operation.
    """

    __slots__ = ("value", "partials", "level")

    def __init__(self, value, partials, level):
        self.value, self.partials, self.level = value, partials, level

    def __add__(self, other):
        level, u, du, v, dv = aligned(self, other)
        return linear(level, u + v, (du, 1), (dv, 1))

    def __sub__(self, other):
        level, u, du, v, dv = aligned(self, other)
        return linear(level, u - v, (du, 1), (dv, -1))

    def __mul__(self, other):
        level, u, du, v, dv = aligned(self, other)
        return linear(level, u * v, (du, v), (dv, u))

    def __truediv__(self, other):
        level, u, du, v, dv = aligned(self, other)
        q = u / v
        return linear(level, q, (du, 1 / v if du else 0), (dv, -q / v if dv else 0))

    def __pow__(self, p):
        """d x^p = p x^(p-1) dx + x^p log x dp; an integer p allows x <= 0, and log x is not touched unless p varies."""
        if isinstance(p, (int, float)) and p == int(p):
            p = int(p)
            slope = p * self.value ** (p - 1) if p and self.partials else 0
            return linear(self.level, self.value ** p, (self.partials, slope))
        level, u, du, v, dv = aligned(self, p)
        y = u ** v
        return linear(level, y, (du, v * u ** (v - 1) if du else 0), (dv, y * apply("log", u) if dv else 0))

    def __abs__(self):
        return self * sign(self)

    def __neg__(self):
        return self * -1

    def __pos__(self):
        return self

    __radd__, __rmul__ = __add__, __mul__
    __rsub__ = lambda self, other: constant(other) - self
    __rtruediv__ = lambda self, other: constant(other) / self
    __rpow__ = lambda self, other: constant(other) ** self
    __lt__ = lambda self, other: sign(self - other) < 0
    __le__ = lambda self, other: sign(self - other) <= 0
    __gt__ = lambda self, other: sign(self - other) > 0
    __ge__ = lambda self, other: sign(self - other) >= 0
    __eq__ = lambda self, other: sign(self - other) == 0     # type: ignore[operator]
    __bool__ = lambda self: sign(self) != 0
    __hash__ = None     # type: ignore[assignment]


def ball(x):
    """The exact ball of a Python number."""
    return x if type(x) is arb else arb(int(x) if isinstance(x, Integral) else float(x))


def constant(x):
    return x if type(x) is Dual else Dual(ball(x), {}, 0)


def level_of(x):
    return x.level if type(x) is Dual else 0


def seen_from(level, x):
    """(value, partials) of x as a dual of `level`, which is at least its own."""
    if type(x) is not Dual:
        return x, {}
    if x.level == level:
        return x.value, x.partials
    return (x if x.level else x.value), {}


def aligned(a, b):
    """(level, value and partials of a, value and partials of b), both seen from the higher level."""
    if type(b) is not Dual:
        return a.level, a.value, a.partials, ball(b), {}
    if a.level == b.level:
        return a.level, a.value, a.partials, b.value, b.partials
    level = max(a.level, b.level)
    return level, *seen_from(level, a), *seen_from(level, b)


def linear(level, value, *terms):
    """The dual with this value and partials sum c dp, over the terms (dp, c)."""
    total = {}
    for partials, c in terms:
        if partials:
            more = scaled(partials, c)
            total = summed(total, more) if total else more
    return Dual(value, {Result(total): 1} if level == RECORDED and total else total, level)


def scaled(partials, c):
    """The partials times c; the number 1 costs no product."""
    if type(c) is int and c == 1:
        return partials
    return {j: c if type(p) is int and p == 1 else p * c for j, p in partials.items()}


def summed(a, b):
    """The sums of partials."""
    total = dict(a)
    for j, p in b.items():
        total[j] = total[j] + p if j in total else p
    return total


class Result:
    """The result of an operation, with its partials by its operands; later results have higher numbers."""

    __slots__ = ("partials", "number")
    numbers = itertools.count()

    def __init__(self, partials):
        self.partials, self.number = partials, next(self.numbers)


def gradient(x):
    """{input: partial} of a dual of the level RECORDED: every result gives way to its operands, the latest first."""
    total, results = {}, []

    def add(partials, c):
        for j, p in scaled(partials, c).items():
            if type(j) is Result and j not in total:
                heapq.heappush(results, (-j.number, j))
            total[j] = total[j] + p if j in total else p

    add(seen_from(RECORDED, x)[1], 1)
    while results:
        _, latest = heapq.heappop(results)
        add(latest.partials, total.pop(latest))
    return total


def mid_ball(x):
    """The ball at the bottom of nested duals."""
    while type(x) is Dual:
        x = x.value
    return ball(x)


def sign(x):
    x = mid_ball(x)
    if x > 0:
        return 1
    if x < 0:
        return -1
    if x == 0:
        return 0
    raise Ambiguous("a branch of the definition")


# ---------------------------------------------------------------- the namespace m

def method(name):
    return lambda x: getattr(x, name)()


def root_pi():
    return arb.pi().sqrt()


# name: (value on a ball, derivative from x and y = f(x)), each in the form that does not cancel.
RULES = {
    "exp": (method("exp"), lambda x, y: y),
    "expm1": (method("expm1"), lambda x, y: apply("exp", x)),
    "log": (method("log"), lambda x, y: 1 / x),
    "log1p": (method("log1p"), lambda x, y: 1 / (1 + x)),
    "sqrt": (method("sqrt"), lambda x, y: 1 / (2 * y)),
    "sinh": (method("sinh"), lambda x, y: apply("cosh", x)),
    "cosh": (method("cosh"), lambda x, y: apply("sinh", x)),
    "tanh": (method("tanh"), lambda x, y: apply("sech", x) ** 2),
    "sech": (method("sech"), lambda x, y: -y * apply("tanh", x)),
    "sin": (method("sin"), lambda x, y: apply("cos", x)),
    "cos": (method("cos"), lambda x, y: -apply("sin", x)),
    "tan": (method("tan"), lambda x, y: 1 + y * y),
    "asin": (method("asin"), lambda x, y: 1 / apply("sqrt", (1 - x) * (1 + x))),
    "acos": (method("acos"), lambda x, y: -1 / apply("sqrt", (1 - x) * (1 + x))),
    "atan": (method("atan"), lambda x, y: 1 / (1 + x * x)),
    "asinh": (method("asinh"), lambda x, y: 1 / apply("sqrt", 1 + x * x)),
    "acosh": (method("acosh"), lambda x, y: 1 / apply("sqrt", (x - 1) * (x + 1))),
    "atanh": (method("atanh"), lambda x, y: 1 / ((1 - x) * (1 + x))),
    "erf": (method("erf"), lambda x, y: apply("exp", -x * x) * (2 / root_pi())),
    "erfc": (method("erfc"), lambda x, y: apply("exp", -x * x) * (-2 / root_pi())),
    "erfinv": (method("erfinv"), lambda x, y: apply("exp", y * y) * (root_pi() / 2)),
    "ncdf": (lambda x: (-x / arb(2).sqrt()).erfc() / 2,
             lambda x, y: apply("exp", -x * x / 2) / (arb(2).sqrt() * root_pi())),
    "sign": (lambda x: arb(sign(x)), lambda x, y: 0),
    "loggamma": (method("lgamma"), lambda x, y: apply("digamma", x)),
    "digamma": (method("digamma"), lambda x, y: apply("trigamma", x)),
    "trigamma": (lambda x: arb(2).zeta(x), lambda x, y: -2 * apply("zeta3", x)),
    "zeta3": (lambda x: arb(3).zeta(x), lambda x, y: -3 * apply("zeta4", x)),
    "zeta4": (lambda x: arb(4).zeta(x), None),
}


def apply(name, x):
    value, slope = RULES[name]
    if type(x) is not Dual:
        return value(x)
    y = apply(name, x.value)
    return linear(x.level, y, (x.partials, slope(x.value, y) if x.partials else 0))


class Namespace:
    """The namespace that a definition calls m: the elementary functions, with mpmath's names."""

    pi = property(lambda self: constant(arb.pi()))
    mpf = staticmethod(constant)
    fabs = staticmethod(lambda x: abs(constant(x)))
    power = staticmethod(lambda x, p: constant(x) ** p)
    fsum = staticmethod(lambda terms: sum(terms, constant(0)))

    @staticmethod
    def fprod(factors):
        product = constant(1)
        for factor in factors:
            product = product * factor
        return product

    def __getattr__(self, name):
        if name not in RULES:
            raise AttributeError(f"the namespace of a definition has no {name!r}")
        return lambda x: apply(name, constant(x))


m = Namespace()


# ---------------------------------------------------------------- matrices of nested duals

def split(matrix):
    """A matrix of duals as (level, its value, {variable: {(row, column): partial}})."""
    level = max((level_of(entry) for row in matrix for entry in row), default=0)
    value, partials = [], {}
    for i, row in enumerate(matrix):
        seen = [seen_from(level, entry) for entry in row]
        value.append([v for v, _ in seen])
        for k, (_, dv) in enumerate(seen):
            for s, p in dv.items():
                partials.setdefault(s, {})[i, k] = p
    return level, value, partials


def inverse(matrix):
    """M^-1, with d(M^-1) = -M^-1 dM M^-1."""
    level, value, partials = split(matrix)
    if not level:
        try:
            return arb_mat(value).inv().tolist()
        except ZeroDivisionError:       # singular, or not yet known to be invertible
            return [[arb.nan()] * len(matrix)] * len(matrix)
    W, n = inverse(value), range(len(matrix))
    return [[linear(level, W[a][b], *(({s: p * W[k][b]}, -W[a][i]) for s, dM in partials.items()
                                      for (i, k), p in dM.items())) for b in n] for a in n]


def log_abs_det(matrix):
    """log|det M|, with d log|det M| = tr(M^-1 dM)."""
    level, value, partials = split(matrix)
    if not level:
        return abs(arb_mat(value).det()).log()
    W = inverse(value)
    return linear(level, log_abs_det(value),
                  *(({s: p}, W[k][i]) for s, dM in partials.items() for (i, k), p in dM.items()))
