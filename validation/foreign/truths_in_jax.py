"""The equations of maps of NumPyro, TensorFlow Probability, distrax, FlowJAX and bijx, for `truths`."""

from __future__ import annotations

from mpmath import mp, mpf

from .truths import Equation, below, cauchy, distributions, exp, laplace, log_sum, logistic, normal, scaled, stick_breaking


def kumaraswamy(z, a, b):
    return below(-b * mp.log1p(-(z**a)))


def gompertz(z, c, rate):
    return below(c * mp.expm1(rate * z)) if rate * z < 10**6 else mpf(1)


def gumbel(t):
    return exp(-exp(-t))


def asymmetric_laplace(z, a, b, k):
    """Its scales are b k on the left of a, and b/k on the right."""
    if z < a:
        return k**2 / (1 + k**2) * exp((z - a) / (b * k))
    return 1 - exp(-(z - a) * k / b) / (1 + k**2)


def sinh_arcsinh(z, a, c):
    """Its multiplier makes 2 the image of 2 where a = 0."""
    return mp.sinh((mp.asinh(z) + a) * c) * 2 / mp.sinh(mp.asinh(2) * c)


def sinh_arcsinh_cdf(x, a, c):
    return normal(mp.sinh(mp.asinh(x * mp.sinh(mp.asinh(2) * c) / 2) / c - a))


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


def sigmoid_of_affine(z, a, c):
    return logistic(a + c * z)


NUMPYRO = distributions(("cdf", "quantile"), {
    "Normal": scaled(normal), "Cauchy": scaled(cauchy), "Laplace": scaled(laplace), "Logistic": scaled(logistic), "Gumbel": scaled(gumbel),
    "SoftLaplace": scaled(lambda t: 2 / mp.pi * mp.atan(exp(t))), "AsymmetricLaplace": asymmetric_laplace,
    "Exponential": lambda z, a: below(a * z), "HalfNormal": lambda z, a: mp.erf(z / (a * mp.sqrt(2))),
    "HalfCauchy": lambda z, a: 2 * mp.atan(z / a) / mp.pi, "Weibull": lambda z, a, k: below((z / a) ** k), "Gompertz": gompertz,
    "LogNormal": lambda z, a, b: normal((mp.log(z) - a) / b),
}) | {
    "AffineTransform": Equation(lambda z, a, c: a + c * z), "ExpTransform": Equation(exp), "ExpTransform.inv": Equation(mp.log),
    "PowerTransform": Equation(lambda z, a: z**a), "SigmoidTransform": Equation(logistic), "SoftplusTransform": Equation(log_sum),
    "ComposeTransform": Equation(sigmoid_of_affine), "biject_to(interval)": Equation(lambda z: 4 * logistic(z) - 1),
    "biject_to(less_than)": Equation(lambda z: mpf(1) / 2 - exp(z)), "OrderedTransform": Equation(ordered, vector=True),
    "SimplexToOrderedTransform after StickBreaking": Equation(simplex_to_ordered, vector=True),
}

TFP = distributions(("cdf", "quantile"), {
    "SinhArcsinh": sinh_arcsinh_cdf, "LogLogistic": lambda z, a, c: logistic((mp.log(z) - a) / c),
    "JohnsonSU": lambda z, a, c: normal(a + c * mp.asinh(z)),
}) | {
    "Exp": Equation(exp), "Expm1": Equation(lambda z: -below(-z) if z < 0 else mp.expm1(z)), "Softplus": Equation(log_sum),
    "Softsign": Equation(lambda z: z / (1 + abs(z))), "Sinh": Equation(mp.sinh), "Tanh": Equation(mp.tanh), "Sigmoid": Equation(logistic),
    "NormalCDF": Equation(normal), "Log": Equation(mp.log), "Log1p": Equation(mp.log1p), "Square": Equation(lambda z: z * z),
    "Reciprocal": Equation(lambda z: 1 / z), "Power": Equation(lambda z: z**3), "SoftClip": Equation(soft_clip),
    "Softplus [hinge_softness]": Equation(lambda z, a: a * log_sum(z / a)), "SinhArcsinh of two": Equation(sinh_arcsinh),
    "LambertWTail": Equation(lambert_w_tail), "GumbelCDF": Equation(scaled(gumbel)),
    "WeibullCDF": Equation(lambda z, a, k: below((z / a) ** k)), "FrechetCDF": Equation(lambda z, a, k: exp(-((z / a) ** -k))),
    "KumaraswamyCDF": Equation(kumaraswamy), "MoyalCDF": Equation(scaled(lambda t: mp.erfc(exp(-t / 2) / mp.sqrt(2)))),
    "RayleighCDF": Equation(lambda z, a: below((z / a) ** 2 / 2)), "GompertzCDF": Equation(gompertz),
    "Ascending": Equation(ordered, vector=True),
}

DISTRAX = {
    "ScalarAffine": Equation(lambda z, a, c: a + c * z), "ScalarAffine [log_scale]": Equation(lambda z, a, c: a + mp.exp(c) * z),
    "Sigmoid": Equation(logistic), "Tanh": Equation(mp.tanh), "Inverse(Tanh)": Equation(mp.atanh), "GumbelCDF": Equation(gumbel),
    "Lambda(sinh)": Equation(mp.sinh), "Block(Sigmoid)": Equation(lambda z: [logistic(t) for t in z], vector=True),
}

FLOWJAX = {
    "Exp": Equation(exp), "SoftPlus": Equation(log_sum), "Tanh": Equation(mp.tanh), "Sigmoid": Equation(logistic),
    "Power": Equation(lambda z, a: z**a), "Invert(Exp)": Equation(mp.log),
    "Chain(Affine, Tanh)": Equation(lambda z, a, c: mp.tanh(a + c * z)),
}

BIJX = {
    "GaussianCDF": Equation(scaled(normal)), "Power": Equation(lambda z, a: z**a), "BetaStretch": Equation(beta_stretch),
    "Sigmoid": Equation(logistic), "Tanh": Equation(mp.tanh), "Exponential": Equation(exp), "SoftPlus": Equation(log_sum),
    "Sinh": Equation(mp.sinh), "Tan": Equation(lambda z: -mp.cot(mp.pi * z)), "CubicRational": Equation(cubic_rational),
    "SinhConjugation": Equation(sinh_conjugation), "CubicConjugation": Equation(cubic_conjugation),
    "Chain(AffineLinear, Tanh)": Equation(lambda z, a, c: mp.tanh(a + mp.exp(c) * z)), "Inverse(Exponential)": Equation(mp.log),
}

EQUATIONS_IN_JAX = {(library, name): equation for library, of in {"numpyro": NUMPYRO, "tfp": TFP, "distrax": DISTRAX, "flowjax": FLOWJAX,
                                                                  "bijx": BIJX}.items() for name, equation in of.items()}
