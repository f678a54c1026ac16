r"""The solution of a differential equation as a Taylor series in time, in the numbers of a definition.

For the truth, `dz/dt = v(z, t)` is solved to as many digits as are asked for.  With the coefficients of the series
`z(t + h) = sum_k z_k h^k` and `v = sum_k v_k h^k`,
    z_(k+1) = v_k/(k + 1)                                                           (1)
where `v_k` needs `z_0, ..., z_k` alone.  The network's definition, given series for numbers, tells the coefficients of its own
operations:
    (a b)_k = sum_(j <= k) a_j b_(k-j)                                              (2)
    (a/b)_k = (a_k - sum_(0 < j <= k) b_j (a/b)_(k-j))/b_0                          (3)
A function `y = f(u)` with `f' = g` follows from `y' = g(u) u'`, where `g` may be a series of `y`,
    y_k = 1/k sum_(0 < j <= k) j u_j g_(k-j)                                        (4)

A series ends where four coefficients in turn add less than `2^-200` of a point's size.  If it does not after 96, half the step is
taken.  What is left out is measured, not proved: a ball's radius holds roundings alone.
"""

from __future__ import annotations

ORDER, FEW, TINY = 96, 4, 2.0**-200


def solution(m, velocity, z, start, end):
    """z(end) of the solution with z(start) = z; `velocity(m, [*z, t])` is a network's definition."""
    t, left = m.mpf(start), m.mpf(end) - m.mpf(start)
    z = [m.mpf(entry) for entry in z]
    while left != 0:
        z, h = step(m, velocity, z, t, left)
        t, left = t + h, left - h
    return z


def step(m, velocity, z, t, h):
    """(z(t + h), h) of a step that is as long as the series can be, and at most h."""
    series = [Series(m, [entry]) for entry in z]
    rates = velocity(Functions(m), [*series, Series(m, [t, m.mpf(1)], ends=True)])
    rates = [series_of(m, rate) for rate in rates]
    size, added = sum(map(size_of, z), size_of(h)), []
    for k in range(ORDER):
        for own, rate in zip(series, rates):
            own.known.append(rate.at(k) / (k + 1))                                  # (1)
        added.append(max(size_of(own.at(k + 1)) for own in series))
        if ends(added, h, size):
            return [value(m, own, h) for own in series], h
    while not ends(added, h, size):
        h = h / 2
    return [value(m, own, h) for own in series], h


def ends(added, h, size):
    """Do the last coefficients add next to nothing?"""
    return len(added) >= FEW and all(c * size_of(h) ** k < TINY * size for k, c in list(enumerate(added, 1))[-FEW:])


def size_of(x):
    """|x|, without its derivatives."""
    while hasattr(x, "partials"):
        x = x.value
    return abs(x)


def value(m, series, h):
    total = m.mpf(0)
    for coefficient in reversed(series.known):
        total = total * h + coefficient
    return total


def series_of(m, x):
    return x if isinstance(x, Series) else Series(m, [m.mpf(x)], ends=True)


class Series:
    """Coefficients: first those that are `known`, then those that a rule gives.  If the series `ends`, all others are 0."""

    __hash__ = None     # type: ignore[assignment]

    def __init__(self, m, known, rule=None, ends=False):
        self.m, self.known, self.rule, self.ends = m, known, rule, ends

    def at(self, k):
        while len(self.known) <= k and self.rule:
            self.known.append(self.rule(len(self.known)))
        return 0 if self.ends and k >= len(self.known) else self.known[k]

    def terms(self, k):
        """How many coefficients up to k are not 0 for certain."""
        return min(k + 1, len(self.known)) if self.ends else k + 1

    def made(self, rule):
        return Series(self.m, [], rule)

    def __add__(self, other):
        other = series_of(self.m, other)
        return self.made(lambda k: self.at(k) + other.at(k))

    def __mul__(self, other):
        a, b = self, series_of(self.m, other)
        a, b = (b, a) if b.ends else (a, b)
        return self.made(lambda k: total(self.m, [a.at(j) * b.at(k - j) for j in range(a.terms(k)) if k - j < b.terms(k)]))       # (2)

    def __truediv__(self, other):
        a, b = self, series_of(self.m, other)
        found = self.made(lambda k: (a.at(k) - total(self.m, [b.at(j) * found.at(k - j) for j in range(1, b.terms(k))])) / b.at(0))
        return found                                                                # (3)

    def __pow__(self, power):
        if not (isinstance(power, int) or power == int(power)) or power < 1:
            raise TypeError(f"a series has whole powers only, not {power}")
        found = self
        for _ in range(int(power) - 1):
            found = found * self
        return found

    def integral(self, slope, first):
        """The function of this series with a first coefficient and f' = slope."""
        rule = lambda k: total(self.m, [j * self.at(j) * slope.at(k - j) for j in range(1, self.terms(k))]) / k         # (4)
        return Series(self.m, [first], rule)

    __radd__, __rmul__ = __add__, __mul__
    __neg__ = lambda self: self * -1
    __pos__ = lambda self: self
    __sub__ = lambda self, other: self + series_of(self.m, other) * -1
    __rsub__ = lambda self, other: series_of(self.m, other) - self
    __rtruediv__ = lambda self, other: series_of(self.m, other) / self


def total(m, terms):
    return sum(terms[1:], terms[0]) if terms else m.mpf(0)


class Functions:
    """The namespace m of a definition, for series."""

    def __init__(self, m):
        self.m = m

    def mpf(self, x):
        return series_of(self.m, x)

    def exp(self, u):
        y = Series(self.m, [self.m.exp(u.at(0))])
        y.rule = u.integral(y, None).rule
        return y

    def tanh(self, u):
        y = Series(self.m, [self.m.tanh(u.at(0))])
        y.rule = u.integral(1 - y * y, None).rule
        return y

    def log(self, u):
        return u.integral(1 / u, self.m.log(u.at(0)))

    def log1p(self, u):
        return u.integral(1 / (1 + u), self.m.log1p(u.at(0)))

    def sin(self, u):
        return self.of_angle(u)[0]

    def cos(self, u):
        return self.of_angle(u)[1]

    def of_angle(self, u):
        """The sine and the cosine."""
        sine, cosine = Series(self.m, [self.m.sin(u.at(0))]), Series(self.m, [self.m.cos(u.at(0))])
        sine.rule, cosine.rule = u.integral(cosine, None).rule, (-u).integral(sine, None).rule
        return sine, cosine

    def __getattr__(self, name):
        raise TypeError(f"the function {name!r} has no series here: the network's flow has no truth")
