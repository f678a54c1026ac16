"""Distributions of SciPy: a distribution function with the log-density as its log-det, and a quantile.

Only distributions whose quantile is a formula or a special function are asked: the others' is found to a tolerance.
"""

from __future__ import annotations

import functools

import numpy as np
from scipy import special, stats

from .entry import DOUBLE, HALF_LINE, UNIT, entry, normal, positive, uniform

SHAPE = uniform(0.5, 3)
LINE = None


def wrapped(build, parameters, free):
    forward, inverse = (lambda z, side=side: build(*parameters)[side](z) for side in (0, 1))
    return {"forward": forward, "inverse": inverse, "parameters": parameters if free else None}


one = functools.partial(entry, "numpy", wrapped, dtypes=DOUBLE)


def both(of, support, *shapes):
    """(distribution function, quantile) with the log-dets that the log-density gives.

    A quantile may round to the end 1 of a bounded support, where the log-density is infinite: it has no log-det.
    """
    def quantile(q):
        x = of.ppf(q, *shapes)
        return x if support == UNIT else (x, -of.logpdf(x, *shapes))

    return lambda x: (of.cdf(x, *shapes), of.logpdf(x, *shapes)), quantile


def of_distribution(name, support, *draws):
    """Two maps: a distribution function and its quantile."""
    of = getattr(stats, name)
    yield one(f"{name}.cdf", lambda *p: both(of, support, *p), *draws, domain=support, codomain=UNIT)
    yield one(f"{name}.ppf", lambda *p: both(of, support, *p)[::-1], *draws, domain=UNIT, codomain=support)


def function(forward, inverse):
    return lambda: (forward, inverse)


DISTRIBUTIONS = {
    "norm": (LINE, normal(), positive()), "logistic": (LINE, normal(), positive()), "cauchy": (LINE, normal(), positive()),
    "laplace": (LINE, normal(), positive()), "gumbel_r": (LINE, normal(), positive()), "gumbel_l": (LINE, normal(), positive()),
    "hypsecant": (LINE, normal(), positive()), "genlogistic": (LINE, SHAPE), "t": (LINE, uniform(2, 9)),
    "johnsonsu": (LINE, normal(), positive()), "loggamma": (LINE, SHAPE), "exponpow": (HALF_LINE, SHAPE),
    "expon": (HALF_LINE,), "gamma": (HALF_LINE, SHAPE), "chi2": (HALF_LINE, uniform(1, 9)), "lognorm": (HALF_LINE, SHAPE),
    "weibull_min": (HALF_LINE, SHAPE), "invweibull": (HALF_LINE, SHAPE), "halfcauchy": (HALF_LINE,), "halflogistic": (HALF_LINE,),
    "rayleigh": (HALF_LINE,), "maxwell": (HALF_LINE,), "fisk": (HALF_LINE, SHAPE), "burr12": (HALF_LINE, SHAPE, SHAPE),
    "lomax": (HALF_LINE, SHAPE), "invgamma": (HALF_LINE, SHAPE), "f": (HALF_LINE, uniform(2, 9), uniform(2, 9)),
    "loglaplace": (HALF_LINE, SHAPE), "gompertz": (HALF_LINE, SHAPE), "exponweib": (HALF_LINE, SHAPE, SHAPE),
    "pareto": ((1, np.inf), SHAPE), "beta": (UNIT, SHAPE, SHAPE), "powerlaw": (UNIT, SHAPE), "arcsine": (UNIT,),
    "johnsonsb": (UNIT, normal(), positive()), "bradford": (UNIT, SHAPE), "uniform": (UNIT,),
}


def maps():
    for name, (support, *draws) in DISTRIBUTIONS.items():
        yield from of_distribution(name, support, *draws)
    yield one("special.ndtr, special.ndtri", function(special.ndtr, special.ndtri), codomain=UNIT)
    yield one("special.log_ndtr, special.ndtri_exp", function(special.log_ndtr, special.ndtri_exp), codomain=(-np.inf, 0))
    yield one("special.erf, special.erfinv", function(special.erf, special.erfinv), codomain=(-1, 1))
    yield one("special.erfc, special.erfcinv", function(special.erfc, special.erfcinv), codomain=(0, 2))
    yield one("special.expit, special.logit", function(special.expit, special.logit), codomain=UNIT)
    yield one("special.gammainc, special.gammaincinv", lambda a: (
        lambda z: special.gammainc(a, z), lambda x: special.gammaincinv(a, x)), SHAPE, domain=HALF_LINE, codomain=UNIT)
    yield one("special.betainc, special.betaincinv", lambda a, b: (
        lambda z: special.betainc(a, b, z), lambda x: special.betaincinv(a, b, x)), SHAPE, SHAPE, domain=UNIT, codomain=UNIT)
    yield one("special.boxcox, special.inv_boxcox", lambda a: (
        lambda z: special.boxcox(z, a), lambda x: special.inv_boxcox(x, a)), SHAPE, domain=HALF_LINE)
