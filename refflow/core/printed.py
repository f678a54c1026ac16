"""The printed equation of a page as its definition: what its textbook says of one event, in the numbers of a definition.

A page without a `definition` of its own has its textbook's forward, log_prob or fields, with `Numbers` in the place of NumPy and
SciPy: elementary functions come from m, all else is NumPy's, on arrays of `Number`.  Events and fields come as nested lists, and
so does what it gives.

A textbook is written for floats.  Four rules let it run on the numbers of the truth:
    arrays          a number on the left of an array leaves the operation to the array
    numbers near 1  1 + w, exp w, tanh w and powers of such numbers remember w, exp w - 1 and so on; x - 1, 1 - x and log x use it.
                    Without it, a printed 1 - exp(-y) has no digits at a closed end y = 0
    masks           x times False is 0 and has no derivatives
    moduli          the derivative of |x| at 0 is that from above, as pages have it
"""

from __future__ import annotations

import functools
import types

import numpy as np

FUNCTIONS = {"bijector": "forward", "conditioner": "forward", "scale": "forward", "density": "log_prob", "parametrisation": "fields"}


def printed(page, m, event, *given, **fields):
    """What the textbook of a page says of an event."""
    function = getattr(with_numbers(page.textbook, Numbers(m)), FUNCTIONS[page.kind])
    event = list(event) if isinstance(event, tuple) else event
    return bare(function(*(seen(m, held) for held in (event, *given)), **{key: seen(m, held) for key, held in fields.items()}))


def with_numbers(cls, namespace):
    """A class of functions whose code sees `namespace` in the place of NumPy and SciPy."""
    made, functions = type(cls.__name__, (), {}), {}
    for name, function in vars(cls).items():
        if isinstance(function, types.FunctionType):
            known = function.__globals__ | {"np": namespace, "scipy": namespace, cls.__name__: made}
            functions[name] = types.FunctionType(function.__code__, known, name, function.__defaults__)
    for name, function in functions.items():
        setattr(made, name, remembering(function) if name == "inverse" else function)
    return made


def remembering(inverse):
    """An inverse that is computed once for one event: it may be a bisection, and its log-det and vjp ask for it again."""
    last = [None, None]

    def remembered(x, *fields, **named):
        if last[0] is not x:
            last[:] = x, inverse(x, *fields, **named)
        return last[1]

    return remembered


def seen(m, held):
    """What a textbook sees of an event or a field: arrays of numbers, components, and other things as they are."""
    if hasattr(held, "definition"):
        return Component(m, held)
    if isinstance(held, list) and held and hasattr(held[0], "definition"):
        return tuple(Component(m, one) for one in held)
    if isinstance(held, list):
        array = np.array(held)
        return numbers(m, array) if array.dtype == object else array
    return Number(m, held) if is_real(held) else held


def is_real(held):
    """A number of m, or a float; whole numbers stay as they are."""
    return isinstance(held, float) or hasattr(held, "__truediv__") and not isinstance(held, (int, np.generic, np.ndarray))


def numbers(m, array):
    return np.frompyfunc(functools.partial(Number, m), 1, 1)(array)


def bare(held):
    """Nested lists without the rules of this module."""
    if isinstance(held, dict):
        return {key: bare(one) for key, one in held.items()}
    if isinstance(held, np.ndarray):
        return bare(held.tolist())
    return [bare(one) for one in held] if isinstance(held, (list, tuple)) else value_of(held)


class Component:
    """A component, whose results are arrays of numbers."""

    def __init__(self, m, f):
        self.m, self.f = m, f

    def __getattr__(self, name):
        return seen(self.m, getattr(self.f, name))

    def forward(self, event):
        return seen(self.m, self.f.definition(self.m, bare(event)))

    def log(self, s):
        """Of a scale, whose definition is of one number."""
        return np.frompyfunc(lambda one: log(self.forward(one)), 1, 1)(s)


# -- numbers ----------------------------------------------------------------------------------------------------------

def value_of(x):
    return x.value if isinstance(x, Number) else x


def is_one(x):
    return isinstance(x, (int, float, np.number)) and x == 1


def operator(function):
    """An operator of a number, which leaves an operation with an array to the array."""
    @functools.wraps(function)
    def applied(self, other):
        return NotImplemented if isinstance(other, np.ndarray) else function(self, other)

    return applied


class Number:
    """A number of a definition; `less_1`, where it is known, gives the number less 1 with all its digits."""

    __hash__ = None     # type: ignore[assignment]

    def __init__(self, m, value, less_1=None):
        self.m, self.value, self.less_1 = m, m.mpf(value), less_1

    def of(self, value, less_1=None):
        """Another number of the same kind."""
        return Number(self.m, value, less_1)

    @operator
    def __add__(self, other):
        return self.of(self.value + value_of(other), (lambda: self) if is_one(other) else None)

    @operator
    def __sub__(self, other):
        return self.less_1() if is_one(other) and self.less_1 else self.of(self.value - value_of(other))

    @operator
    def __rsub__(self, other):
        if is_one(other):
            return -self.less_1() if self.less_1 else self.of(1 - self.value, lambda: -self)
        return self.of(value_of(other) - self.value)

    @operator
    def __mul__(self, other):
        if isinstance(other, (bool, np.bool_)):
            return self if other else self.of(0)
        return self.of(self.value * value_of(other))

    @operator
    def __truediv__(self, other):
        return self.of(self.value / value_of(other))

    @operator
    def __rtruediv__(self, other):
        return self.of(value_of(other) / self.value)

    @operator
    def __pow__(self, p):
        return self.of(self.value ** value_of(p), self.less_1 and (lambda: power_less_1(self, p)))

    @operator
    def __rpow__(self, other):
        return self.of(value_of(other) ** self.value)

    def __neg__(self):
        return self.of(-self.value)

    def __abs__(self):
        return self if self >= 0 else -self

    def __bool__(self):
        return bool(self.value)

    __radd__, __rmul__ = __add__, __mul__
    __lt__ = operator(lambda self, other: self.value < value_of(other))
    __le__ = operator(lambda self, other: self.value <= value_of(other))
    __gt__ = operator(lambda self, other: self.value > value_of(other))
    __ge__ = operator(lambda self, other: self.value >= value_of(other))
    __eq__ = operator(lambda self, other: self.value == value_of(other))     # type: ignore[assignment]


def power_less_1(x, p):
    """x^p - 1: for a whole p, which allows x <= 0, (x - 1) (1 + x + ... + x^(p-1)); else exp(p log x) - 1."""
    if isinstance(p, (int, float, np.number)) and p == int(p):
        less_1 = x.less_1() * sum((x ** k for k in range(abs(int(p)))), 0)
        return less_1 if p >= 0 else -less_1 / x ** -p
    return x.of(x.m.expm1(value_of(p) * x.m.log1p(x.less_1().value)))


# -- functions --------------------------------------------------------------------------------------------------------

def exp(x):
    return x.of(x.m.exp(x.value), lambda: x.of(x.m.expm1(x.value)))


def log(x):
    return x.of(x.m.log1p(x.less_1().value) if x.less_1 else x.m.log(x.value))


def tanh(x):
    return x.of(x.m.tanh(x.value), lambda: -2 / (exp(2 * x) + 1))


def sqrt(x):
    return x.of(x.m.sqrt(x.value), x.less_1 and (lambda: power_less_1(x, x.m.mpf(1) / 2)))


def ndtri(x):
    return x.of(x.m.sqrt(2) * x.m.erfinv((2 * x - 1).value))


def of_m(name):
    return lambda x: x.of(getattr(x.m, name)(x.value))


class Numbers:
    """NumPy and SciPy, with the elementary functions of the truth."""

    pi = property(lambda self: Number(self.m, self.m.pi))
    special = property(lambda self: self)

    def __init__(self, m):
        self.m = m

    def __getattr__(self, name):
        return functools.partial(self.of_each, ELEMENTARY[name]) if name in ELEMENTARY else getattr(np, name)

    def of_each(self, function, x):
        """A function of a number, or of each entry of an array, which may be a plain one."""
        return np.frompyfunc(lambda one: function(one if isinstance(one, Number) else Number(self.m, one)), 1, 1)(x)


ELEMENTARY = {name: of_m(name) for name in ("sinh", "cosh", "sin", "cos", "tan", "erf")} | {
    "arctan": of_m("atan"), "arcsinh": of_m("asinh"), "gammaln": of_m("loggamma"), "ndtr": of_m("ncdf"),
    "exp": exp, "log": log, "tanh": tanh, "sqrt": sqrt, "ndtri": ndtri}
