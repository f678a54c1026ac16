"""The equations of foreign maps for mpmath, and what follows from them to 50 digits: values, inverses, log-dets, slopes, their units.

Only x = F(z; parameters) is believed, a transcription of what the library's documentation says.  Digits are doubled from 800 on, until two
answers agree to 50: formulas may cancel, and derivatives are differences.  With u the unit roundoff and c
the size of an entry of z, |z| where 0 is a declared end, else max(|z|, min(1, width)), the units are as in the laws,

    U_x = u (|x| lambda + c |dx/dz| + sum_p |dx/dp p|)                                                  (1)
    U_l = u (|l| + lambda + c |dl/dz| + sum_p |dl/dp p|)                                                (2)

and of the inverse at x the same, with c lambda for |x| lambda, and with the change by U_x.  lambda is the rounding of an exponent:
1 + |log|z|| + |log|x||, where 0 is a declared end, and log(max(|.|/64, 1)) in place of a term where it is not.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable

import mpmath
import numpy as np
from mpmath import mp, mpf

DIGITS = (800, 1600, 3200)
AGREE = 50
CLAMP = mpf(2) ** 1100                  # beyond it, exp leaves the numbers of every dtype, and of mpmath
STEPS = 200                             # of the search for a root between neighbouring floats, at most


class Unknown(ArithmeticError):
    """There is no truth of this quantity at this event."""


# -- equations --------------------------------------------------------------------------------------------------------

def exp(t):
    if t < -CLAMP:
        return mpf(0)
    return mp.exp(min(t, mpf(10) ** 7))


def below(t):
    """1 - exp(-t)"""
    return -mp.expm1(-t) if t < CLAMP else mpf(1)


def normal(t):
    return mp.erfc(-t / mp.sqrt(2)) / 2


def logistic(t):
    return 1 / (1 + exp(-t)) if t > 0 else exp(t) / (1 + exp(t))


def laplace(t):
    return exp(t) / 2 if t < 0 else 1 - exp(-t) / 2


def cauchy(t):
    return mp.acot(-t) / mp.pi if t < 0 else mpf(1) / 2 + mp.atan(t) / mp.pi


def gumbel(t):
    return exp(-exp(-t))


def secant(t):
    return 2 / mp.pi * mp.atan(exp(t))


def student(z, n):
    tail = mp.betainc(n / 2, mpf(1) / 2, 0, n / (n + z * z), regularized=True) / 2
    return tail if z < 0 else 1 - tail


def log_student(z, n):
    return mp.loggamma((n + 1) / 2) - mp.loggamma(n / 2) - mp.log(n * mp.pi) / 2 - (n + 1) / 2 * mp.log1p(z * z / n)


def fisher(z, m, n):
    return mp.betainc(m / 2, n / 2, 0, m * z / (m * z + n), regularized=True)


def log_fisher(z, m, n):
    return (m * mp.log(m / n) + (m - 2) * mp.log(z) - (m + n) * mp.log1p(m * z / n)) / 2 - log_beta(m / 2, n / 2)


def log_beta(a, b):
    return mp.loggamma(a) + mp.loggamma(b) - mp.loggamma(a + b)


def gamma(z, a):
    return mp.gammainc(a, 0, z, regularized=True) if z < 10**6 else 1 - mp.gammainc(a, z, mp.inf, regularized=True)


def log_sum(t):
    """log(1 + exp(t))"""
    return mp.log1p(exp(t)) if t < 0 else t + mp.log1p(exp(-t))


def stick_breaking(z):
    left, found = mpf(1), []
    for k, t in enumerate(z):
        part = logistic(t - mp.log(len(z) - k))
        found.append(left * part)
        left *= 1 - part
    return [*found, left]


def correlation_cholesky(z):
    size = int((1 + (1 + 8 * len(z)) ** 0.5) / 2)
    rows, k = [], 0
    for i in range(size):
        left, row = mpf(1), []
        for _ in range(i):
            row.append(mp.tanh(z[k]) * left)
            left *= mp.sech(z[k])
            k += 1
        rows += [*row, left, *[mpf(0)] * (size - i - 1)]
    return rows


@dataclass(frozen=True)
class Equation:
    """x = F(z, *parameters), of numbers or, if `vector`, of lists; `inverse`: the map of the library is the inverse of F.

    `log_slope`: log|dx/dz| where 1 - F has more digits than F, so that differences of F have none.
    """

    F: Callable
    log_slope: Callable | None = None
    inverse: bool = False
    vector: bool = False


OUTER = {                               # log|d outer/dt|
    below: lambda t: -t, laplace: lambda t: -abs(t) - mp.log(2), cauchy: lambda t: -mp.log(mp.pi) - mp.log1p(t * t),
    normal: lambda t: -t * t / 2 - mp.log(2 * mp.pi) / 2, logistic: lambda t: -log_sum(t) - log_sum(-t),
    mp.tanh: lambda t: 2 * (mp.log(2) - abs(t) - log_sum(-2 * abs(t))),
    gumbel: lambda t: -t - exp(-t), secant: lambda t: mp.log(2 / mp.pi) - abs(t) - mp.log1p(exp(-2 * abs(t))),
}


def of(outer, inner):
    """outer(inner(z)); of a distribution function, inner carries the parameters."""
    def log_slope(z, *p):
        t = inner(z, *p)
        return OUTER[outer](t) + mp.log(abs(derivative(lambda v: inner(v, *p), z)))

    return Equation(lambda z, *p: outer(inner(z, *p)), log_slope)


def standard(z, a, b):
    return (z - a) / b


def plain(z):
    return z


TANH = of(mp.tanh, plain)


def distributions(suffixes, table):
    """A distribution function and its quantile, under two suffixes."""
    return {f"{name}.{suffix}": replace(e if isinstance(e, Equation) else Equation(e), inverse=inverse)
            for name, e in table.items() for suffix, inverse in zip(suffixes, (False, True))}


SCIPY = distributions(("cdf", "ppf"), {
    "norm": of(normal, standard), "logistic": of(logistic, standard), "cauchy": of(cauchy, standard), "laplace": of(laplace, standard),
    "gumbel_r": of(gumbel, standard), "gumbel_l": of(below, lambda z, a, b: exp((z - a) / b)), "hypsecant": of(secant, standard),
    "genlogistic": Equation(lambda z, c: exp(-c * log_sum(-z)), lambda z, c: mp.log(c) - (c + 1) * log_sum(-z) - z),
    "t": Equation(student, log_student), "johnsonsu": of(normal, lambda z, a, b: a + b * mp.asinh(z)),
    "loggamma": Equation(lambda z, c: gamma(exp(z), c), lambda z, c: c * z - exp(z) - mp.loggamma(c)),
    "exponpow": of(below, lambda z, b: mp.expm1(z**b)), "expon": of(below, lambda z: z),
    "gamma": Equation(gamma, lambda z, a: (a - 1) * mp.log(z) - z - mp.loggamma(a)),
    "chi2": Equation(lambda z, n: gamma(z / 2, n / 2), lambda z, n: (n / 2 - 1) * mp.log(z / 2) - z / 2 - mp.loggamma(n / 2) - mp.log(2)),
    "lognorm": of(normal, lambda z, s: mp.log(z) / s), "weibull_min": of(below, lambda z, c: z**c),
    "invweibull": of(gumbel, lambda z, c: c * mp.log(z)), "halfcauchy": lambda z: 2 * mp.atan(z) / mp.pi,
    "halflogistic": Equation(lambda z: mp.tanh(z / 2), lambda z: mp.log(2) - log_sum(z) - log_sum(-z)),
    "rayleigh": of(below, lambda z: z * z / 2),
    "maxwell": Equation(lambda z: gamma(z * z / 2, mpf(3) / 2), lambda z: mp.log(2 / mp.pi) / 2 + 2 * mp.log(z) - z * z / 2),
    "fisk": lambda z, c: 1 / (1 + z**-c), "burr12": of(below, lambda z, c, d: d * mp.log1p(z**c)),
    "lomax": of(below, lambda z, c: c * mp.log1p(z)),
    "invgamma": Equation(lambda z, a: mp.gammainc(a, 1 / z, mp.inf, regularized=True),
                         lambda z, a: -(a + 1) * mp.log(z) - 1 / z - mp.loggamma(a)),
    "f": Equation(fisher, log_fisher), "loglaplace": of(laplace, lambda z, c: c * mp.log(z)),
    "gompertz": of(below, lambda z, c: c * mp.expm1(z)),
    "exponweib": Equation(lambda z, a, c: below(z**c) ** a,
                          lambda z, a, c: mp.log(a * c) + (a - 1) * mp.log(below(z**c)) - z**c + (c - 1) * mp.log(z)),
    "pareto": of(below, lambda z, b: b * mp.log(z)),
    "beta": lambda z, a, b: mp.betainc(a, b, 0, z, regularized=True), "powerlaw": lambda z, a: z**a,
    "arcsine": lambda z: 2 / mp.pi * mp.asin(mp.sqrt(z)), "johnsonsb": of(normal, lambda z, a, b: a + b * (mp.log(z) - mp.log1p(-z))),
    "bradford": lambda z, c: mp.log1p(c * z) / mp.log1p(c), "uniform": lambda z: z,
}) | {
    "special.ndtr, special.ndtri": of(normal, lambda z: z), "special.log_ndtr, special.ndtri_exp": Equation(lambda z: mp.log(normal(z))),
    "special.erf, special.erfinv": Equation(mp.erf), "special.erfc, special.erfcinv": Equation(mp.erfc),
    "special.expit, special.logit": of(logistic, lambda z: z), "special.gammainc, special.gammaincinv": Equation(gamma),
    "special.betainc, special.betaincinv": Equation(lambda z, a, b: mp.betainc(a, b, 0, z, regularized=True)),
    "special.boxcox, special.inv_boxcox": Equation(lambda z, a: mp.expm1(a * mp.log(z)) / a),
}

WEIBULL = of(below, lambda z, a, k: (z / a) ** k)
TORCH = distributions(("cdf", "icdf"), {
    "Normal": of(normal, standard), "Cauchy": of(cauchy, standard), "Laplace": of(laplace, standard),
    "Gumbel": of(gumbel, standard), "Exponential": of(below, lambda z, a: a * z), "Weibull": WEIBULL,
    "LogNormal": of(normal, lambda z, a, b: (mp.log(z) - a) / b),
    "HalfNormal": Equation(lambda z, a: mp.erf(z / (a * mp.sqrt(2))), lambda z, a: mp.log(2 / mp.pi) / 2 - mp.log(a) - (z / a) ** 2 / 2),
    "HalfCauchy": lambda z, a: 2 * mp.atan(z / a) / mp.pi, "Kumaraswamy": of(below, lambda z, a, b: -b * mp.log1p(-(z**a))),
    "Pareto": of(below, lambda z, a, k: k * mp.log(z / a)),
}) | {
    "CumulativeDistributionTransform(Normal)": of(normal, standard), "CumulativeDistributionTransform(Weibull)": WEIBULL,
    "Gamma.cdf": Equation(lambda z, a, b: gamma(b * z, a), lambda z, a, b: a * mp.log(b) + (a - 1) * mp.log(z) - b * z - mp.loggamma(a)),
    "special.ndtr, special.ndtri": of(normal, lambda z: z), "special.expit, special.logit": of(logistic, lambda z: z),
    "SigmoidTransform": of(logistic, lambda z: z), "erf, erfinv": Equation(mp.erf), "TanhTransform": Equation(mp.tanh),
    "atan, tan": Equation(mp.atan), "sinh, asinh": Equation(mp.sinh), "expm1, log1p": Equation(mp.expm1),
    "SoftplusTransform": Equation(log_sum, lambda z: -log_sum(-z)), "ExpTransform.inv": Equation(mp.log),
    "ComposeTransform of four": Equation(lambda z, a, b, c: c * (a + b * z)),
    "AffineTransform.inv": Equation(standard), "PowerTransform.inv": Equation(lambda z, a: mp.exp(mp.log(z) / a)),
    "StickBreakingTransform": Equation(stick_breaking, vector=True), "CorrCholeskyTransform": Equation(correlation_cholesky, vector=True),
}

EQUATIONS = {("scipy", name): equation for name, equation in SCIPY.items()} | {("torch", name): e for name, e in TORCH.items()}


# -- what follows from them -------------------------------------------------------------------------------------------

def derivative(g, v):
    """Of a function of one number, by a central difference that has a quarter of the digits."""
    h = mp.ldexp(abs(v) or mpf(1), -mp.prec // 4)
    return (g(v + h) - g(v - h)) / (2 * h)


def size(of, p):
    """sum_p |d of/dp p|"""
    return sum((abs(derivative(lambda v, i=i: of(*p[:i], v, *p[i + 1:]), p[i]) * p[i]) for i in range(len(p))), mpf(0))


@dataclass
class Map:
    """F on its own side: z between `lower` and `upper`; `ends` of both sides say where 0 is a declared end."""

    F: Callable
    given_slope: Callable | None
    p: list
    domain: list
    codomain: list

    def log_slope(self, z, *p):
        if self.given_slope is not None:
            return self.given_slope(z, *p)
        slope = abs(derivative(lambda v: self.F(v, *p), z))
        return mp.log(slope) if slope else -mp.inf

    def c(self, v, where):
        low, high = where
        return abs(v) if 0.0 in where else max(abs(v), min(mpf(1), mpf(high) - mpf(low)))

    def rounding(self, z, x):
        def term(v, where):
            return (abs(mp.log(abs(v))) if v else 0) if 0.0 in where else mp.log(max(abs(v) / 64, 1))

        return 1 + term(z, self.domain) + term(x, self.codomain)

    def origin(self, x):
        """z with F(z) = x: between neighbouring floats, which are found by halving."""
        low, high = (ordinal(end) for end in self.domain)
        rises = self.F(self.anchor * mpf("1.001"), *self.p) > self.F(self.anchor, *self.p)
        while high - low > 1:
            middle = (low + high) // 2
            above = self.F(mpf(number(middle)), *self.p) > x
            low, high = (low, middle) if above == rises else (middle, high)
        ends = number(low), number(high)
        if not np.isfinite(ends).all() or ends == (0.0, self.domain[1]) or low == 0 == self.domain[0]:
            raise Unknown("the inverse is an end, or beyond all floats")
        found = mp.findroot(lambda v: self.F(v, *self.p) - x, tuple(map(mpf, ends)), solver="anderson", tol=mpf(10) ** (-mp.dps),
                            maxsteps=STEPS, verify=False)
        if not abs(self.F(found, *self.p) - x) <= abs(x) * mpf(10) ** -(2 * AGREE):
            raise Unknown("the root is not found to 100 digits")
        return found

    @property
    def anchor(self):
        low, high = map(mpf, self.domain)
        return (low + high) / 2 if mp.isfinite(low) and mp.isfinite(high) else low + 1 if mp.isfinite(low) else mpf("0.7")

    # -- (value, unit/u) of each quantity ------------------------------------------------------------------------------

    def forward(self, z):
        x = self.F(z, *self.p)
        slope = derivative(lambda v: self.F(v, *self.p), z)
        return x, abs(x) * self.rounding(z, x) + abs(slope) * self.c(z, self.domain) + size(lambda *p: self.F(z, *p), self.p)

    def log_det(self, z):
        l = self.log_slope(z, *self.p)
        if not mp.isfinite(l):
            return l, mpf(1)
        bend = derivative(lambda v: self.log_slope(v, *self.p), z)
        rounded = abs(l) + self.rounding(z, self.F(z, *self.p))
        return l, rounded + abs(bend) * self.c(z, self.domain) + size(lambda *p: self.log_slope(z, *p), self.p)

    def inverse(self, x):
        z = self.origin(x)
        slope = abs(derivative(lambda v: self.F(v, *self.p), z))
        return z, self.c(z, self.domain) * (1 + self.rounding(z, x)) + (abs(x) * self.rounding(z, x)
                                                                  + size(lambda *p: self.F(z, *p), self.p)) / slope

    def inverse_log_det(self, x):
        z = self.origin(x)
        l = self.log_slope(z, *self.p)
        slope = derivative(lambda v: self.F(v, *self.p), z)
        bend = derivative(lambda v: self.log_slope(v, *self.p), z)
        by_p = size(lambda *p: self.log_slope(z, *p), self.p) + abs(bend / slope) * size(lambda *p: self.F(z, *p), self.p)
        return -l, abs(l) + self.rounding(z, x) + abs(bend) * (self.c(z, self.domain) + abs(x) * self.rounding(z, x) / abs(slope)) + by_p


class Inverse:
    """The same of the inverse map, whose forward is F's inverse."""

    def __init__(self, of):
        self.forward, self.inverse = of.inverse, of.forward
        self.log_det, self.inverse_log_det = of.inverse_log_det, of.log_det


class Vectors:
    """x = F(z) of lists: images and slopes."""

    def __init__(self, F):
        self.F = F

    def moved(self, g, z, j):
        return lambda v: mp.matrix(g([*z[:j], v, *z[j + 1:]]))

    def forward(self, z):
        x = self.F(z)
        J = self.slope(z)[0]
        k = len(z)
        return x, [abs(x[i]) + sum(abs(J[i * k + j]) * max(abs(z[j]), 1) for j in range(k)) for i in range(len(x))]

    def slopes(self, z):
        columns = [derivative(self.moved(self.F, z, j), z[j]) for j in range(len(z))]
        return [column[i] for i in range(len(columns[0])) for column in columns]

    def log_det(self, z):
        def of(z):
            return mp.log(abs(mp.det(square(self.slopes(z)))))

        l = of(z)
        return [l], [abs(l) + len(z) + sum(abs(derivative(lambda v, j=j: of([*z[:j], v, *z[j + 1:]]), z[j])) * max(abs(z[j]), 1)
                                           for j in range(len(z)))]

    def slope(self, z):
        J = self.slopes(z)
        bends = [derivative(self.moved(self.slopes, z, j), z[j]) for j in range(len(z))]
        return J, [abs(J[i]) + sum(abs(bend[i]) * max(abs(v), 1) for bend, v in zip(bends, z)) for i in range(len(J))]


def square(entries):
    """A matrix of its entries, row by row.  Raises Unknown if they are not as many as a square has."""
    size = round(len(entries) ** 0.5)
    if size * size != len(entries):
        raise Unknown("the Jacobian is not square")
    return mp.matrix([entries[k * size:(k + 1) * size] for k in range(size)])


def map_of(library, name, parameters, domain, codomain):
    equation, p = EQUATIONS[library, name], [mpf(float(np.ravel(value)[0])) for value in parameters]
    if equation.vector:
        return Vectors(lambda z: equation.F(z, *p))
    sides = (codomain, domain) if equation.inverse else (domain, codomain)
    of = Map(equation.F, equation.log_slope, p, *sides)
    return Inverse(of) if equation.inverse else of


def truth(library, name, quantity, event, parameters, domain, codomain):
    """(the true values, their units over u), lists of mpmath's numbers that are right to 50 digits.  Raises Unknown."""
    before = None
    for digits in DIGITS:
        with mp.workdps(digits):
            of = map_of(library, name, parameters, domain, codomain)
            log_of_slope = quantity == "slope" and not isinstance(of, Vectors)
            ask = getattr(of, "log_det" if log_of_slope else quantity, None)
            if ask is None:
                raise Unknown(f"there is no truth of {quantity} of vectors")
            flat = [mpf(v) for v in np.ravel(event).tolist()]
            try:
                found = ask(flat if isinstance(of, Vectors) else flat[0])
            except (ValueError, ZeroDivisionError, OverflowError, mpmath.libmp.NoConvergence) as error:
                raise Unknown(f"{type(error).__name__}: {error}") from error
            values, units = (part if isinstance(part, list) else [part] for part in found)
            if before is not None and all(close(one, other, len(values) > 1) for one, other in zip(values, before)):
                return values, units
            before = values
    raise Unknown("no two precisions agree to 50 digits")


def close(one, other, zeros):
    """Do two numbers agree to 50 digits?  Two zeros do not tell whether digits were left, except among the entries of a matrix."""
    if not (mp.isfinite(one) and mp.isfinite(other)):
        return False
    if one == other == 0:
        return zeros
    return abs(one - other) <= abs(other) * mpf(10) ** -AGREE


def ordinal(value):
    """The place of a float in their order."""
    bits = int(np.float64(value).view(np.int64))
    return bits if bits >= 0 else -(bits & (2**63 - 1))


def number(place):
    return float(np.int64(place).view(np.float64)) if place >= 0 else -float(np.int64(-place).view(np.float64))
