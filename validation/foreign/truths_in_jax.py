"""The equations of maps of NumPyro, TensorFlow Probability, distrax, FlowJAX and bijx, for `truths`."""

from __future__ import annotations

from dataclasses import replace

from mpmath import mp, mpf

from .truths import (EQUATIONS, TANH, Equation, below, cauchy, distributions, exp, gumbel, laplace, log_sum, logistic, normal, of, plain,
                     secant, standard, stick_breaking)


def asymmetric_laplace(z, a, b, k):
    """Its scales are b k on the left of a, and b/k on the right."""
    if z < a:
        return k**2 / (1 + k**2) * exp((z - a) / (b * k))
    return 1 - exp(-(z - a) * k / b) / (1 + k**2)


def sinh_arcsinh(z, a, c):
    """Its multiplier makes 2 the image of 2 where a = 0."""
    return mp.sinh((mp.asinh(z) + a) * c) * 2 / mp.sinh(mp.asinh(2) * c)


def soft_clip(z, a, c):
    return a + c - log_sum(c - log_sum(z - a)) * c / log_sum(c)


def lambert_w_tail(z, a, c, e):
    u = (z - a) / c
    return a + c * u * exp(e * u * u / 2)


def ordered(z):
    found = [z[0]]
    for t in z[1:]:
        found.append(found[-1] + exp(t))
    return found


def simplex_to_ordered(z, a):
    parts, below_it, found = stick_breaking(z), mpf(0), []
    for k in range(len(z)):
        below_it += parts[k]
        found.append(a + mp.log(below_it / sum(parts[k + 1:])))
    return found


def sinh_conjugation(z, loc, alpha, beta, mu, nu):
    return loc + alpha * mp.asinh(mp.exp(mu) * (mp.exp(nu) * mp.sinh((z - loc) / alpha) + beta))


def cubic_conjugation(z, loc, beta, a, b):
    """g^-1(g(z) + beta), g(t) = a t + b t^3, which rises."""
    y = a * (z - loc) + b * (z - loc) ** 3 + beta
    # t = 2 root(a/(3 b)) sinh(s): a t + b t^3 = 2 a root(a/(3 b)) sinh(3 s)/3
    root = mp.sqrt(a / (3 * b))
    return loc + 2 * root * mp.sinh(mp.asinh(3 * y / (2 * a * root)) / 3)


def cubic_rational(z, loc, alpha, beta):
    t = z - loc
    return loc + t + alpha * t / (1 + beta * t * t)


def beta_stretch(z, a):
    return 1 / (1 + ((1 - z) / z) ** a)


def affine(z, a, c):
    return a + c * z


def power(z, a):
    return z**a


GUMBEL = of(gumbel, standard)
WEIBULL = of(below, lambda z, a, k: (z / a) ** k)
GOMPERTZ = of(below, lambda z, c, rate: c * (exp(rate * z) - 1 if rate * z > 1 else mp.expm1(rate * z)))
HALF_NORMAL = Equation(lambda z, a: mp.erf(z / (a * mp.sqrt(2))), lambda z, a: mp.log(2 / mp.pi) / 2 - mp.log(a) - (z / a) ** 2 / 2)
LOGISTIC, SOFTPLUS = of(logistic, plain), Equation(log_sum, lambda z: -log_sum(-z))

NUMPYRO = distributions(("cdf", "quantile"), {
    "Normal": of(normal, standard), "Cauchy": of(cauchy, standard), "Laplace": of(laplace, standard), "Logistic": of(logistic, standard),
    "Gumbel": GUMBEL, "SoftLaplace": of(secant, standard), "AsymmetricLaplace": asymmetric_laplace,
    "Exponential": of(below, lambda z, a: a * z), "HalfNormal": HALF_NORMAL, "HalfCauchy": lambda z, a: 2 * mp.atan(z / a) / mp.pi,
    "Weibull": WEIBULL, "Gompertz": GOMPERTZ, "LogNormal": of(normal, lambda z, a, b: (mp.log(z) - a) / b),
}) | {
    "AffineTransform": Equation(affine), "ExpTransform": Equation(exp), "ExpTransform.inv": Equation(mp.log),
    "PowerTransform": Equation(power), "SigmoidTransform": LOGISTIC, "SoftplusTransform": SOFTPLUS,
    "ComposeTransform": of(logistic, affine), "biject_to(interval)": Equation(lambda z: 4 * logistic(z) - 1),
    "biject_to(less_than)": Equation(lambda z: mpf(1) / 2 - exp(z)), "OrderedTransform": Equation(ordered, vector=True),
    "SimplexToOrderedTransform after StickBreaking": Equation(simplex_to_ordered, vector=True),
}

TFP = distributions(("cdf", "quantile"), {
    "SinhArcsinh": of(normal, lambda x, a, c: mp.sinh(mp.asinh(x * mp.sinh(mp.asinh(2) * c) / 2) / c - a)),
    "LogLogistic": of(logistic, lambda z, a, c: (mp.log(z) - a) / c), "JohnsonSU": of(normal, lambda z, a, c: a + c * mp.asinh(z)),
}) | {
    "Exp": Equation(exp), "Expm1": Equation(lambda z: -below(-z) if z < 0 else mp.expm1(z), lambda z: z), "Softplus": SOFTPLUS,
    "Softsign": Equation(lambda z: z / (1 + abs(z)), lambda z: -2 * mp.log1p(abs(z))), "Sinh": Equation(mp.sinh), "Tanh": TANH,
    "Sigmoid": LOGISTIC, "NormalCDF": of(normal, plain), "Log": Equation(mp.log), "Log1p": Equation(mp.log1p),
    "Square": Equation(lambda z: z * z), "Reciprocal": Equation(lambda z: 1 / z), "Power": Equation(lambda z: z**3),
    "SoftClip": Equation(soft_clip), "Softplus [hinge_softness]": Equation(lambda z, a: a * log_sum(z / a), lambda z, a: -log_sum(-z / a)),
    "SinhArcsinh of two": Equation(sinh_arcsinh), "LambertWTail": Equation(lambert_w_tail), "GumbelCDF": GUMBEL, "WeibullCDF": WEIBULL,
    "FrechetCDF": Equation(lambda z, a, k: exp(-((z / a) ** -k))),
    "KumaraswamyCDF": of(below, lambda z, a, b: -b * mp.log1p(-(z**a))),
    "MoyalCDF": Equation(lambda z, a, b: mp.erfc(exp(-standard(z, a, b) / 2) / mp.sqrt(2))),
    "RayleighCDF": of(below, lambda z, a: (z / a) ** 2 / 2), "GompertzCDF": GOMPERTZ, "Ascending": Equation(ordered, vector=True),
}

DISTRAX = {
    "ScalarAffine": Equation(affine), "ScalarAffine [log_scale]": Equation(lambda z, a, c: a + mp.exp(c) * z),
    "Sigmoid": LOGISTIC, "Tanh": TANH, "Inverse(Tanh)": replace(TANH, inverse=True),
    "GumbelCDF": of(gumbel, plain), "Lambda(sinh)": Equation(mp.sinh),
    "Block(Sigmoid)": Equation(lambda z: [logistic(t) for t in z], vector=True),
}

FLOWJAX = {
    "Exp": Equation(exp), "SoftPlus": SOFTPLUS, "Tanh": TANH, "Sigmoid": LOGISTIC, "Power": Equation(power),
    "Invert(Exp)": Equation(mp.log), "Chain(Affine, Tanh)": of(mp.tanh, affine),
}

BIJX = {
    "GaussianCDF": of(normal, standard), "Power": Equation(power), "BetaStretch": Equation(beta_stretch), "Sigmoid": LOGISTIC, "Tanh": TANH,
    "Exponential": Equation(exp), "SoftPlus": SOFTPLUS, "Sinh": Equation(mp.sinh), "Tan": replace(of(cauchy, plain), inverse=True),
    "CubicRational": Equation(cubic_rational), "SinhConjugation": Equation(sinh_conjugation),
    "CubicConjugation": Equation(cubic_conjugation), "Chain(AffineLinear, Tanh)": of(mp.tanh, lambda z, a, c: a + mp.exp(c) * z),
    "Inverse(Exponential)": Equation(mp.log),
}

EQUATIONS.update({(library, name): equation for library, of_library in {"numpyro": NUMPYRO, "tfp": TFP, "distrax": DISTRAX,
                                                                       "flowjax": FLOWJAX, "bijx": BIJX}.items()
                  for name, equation in of_library.items()})
