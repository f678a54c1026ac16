"""Where libraries lose digits: the mechanism of each true alarm that numbers show, with one of the library's numbers.

An alarm is true by what `judged` finds at its failing point.  A row says why: of its maps, these quantities are lost.  The true
number of a row is not written, but computed from the equation of the map.
"""

from __future__ import annotations

import fnmatch
from dataclasses import dataclass

import numpy as np

from .judged import judgements

INF = np.inf
LINE, HALF_LINE, UNIT = [-INF, INF], [0.0, INF], [0.0, 1.0]
IMAGE, ORIGIN, SCORE, SCORE_BACK, SLOPE = "forward", "inverse", "log_det", "inverse_log_det", "slope"
THERE, BACK = (IMAGE, SCORE, SLOPE), (ORIGIN, SCORE_BACK)


@dataclass(frozen=True)
class Example:
    """A number that the library gives: of a map in a dtype at parameters, a quantity at an event."""

    name: str
    quantity: str
    event: object
    given: object
    parameters: tuple = ()
    domain: tuple = ()
    codomain: tuple = ()
    dtype: str = "float64"

    def judgement(self, library):
        """The worst entry of the number, held to the truth."""
        where = {"parameters": self.parameters, "domain": self.domain or LINE, "codomain": self.codomain or LINE}
        return max(judgements(library, self.name, self.dtype, self.quantity, self.event, self.given, where), key=lambda one: one.C)


@dataclass(frozen=True)
class Loss:
    """Why numbers of a library are wrong.  `maps`: (patterns of their names, quantities)."""

    library: str
    text: str
    maps: tuple
    example: Example
    seed: int = 0                       # at which one of the maps alarms

    def explains(self, name, quantity):
        return any(quantity in quantities and any(fnmatch.fnmatchcase(name, pattern) for pattern in names)
                   for names, quantities in self.maps)


def loss_of(library, name, quantity):
    """The loss that explains a wrong number, or None."""
    return next((loss for loss in LOSSES if loss.library == library and loss.explains(name, quantity)), None)


def quantile_is(F):
    """The quantities of a quantile function and of the distribution function whose inverse it is."""
    return ((F + ".icdf",), THERE), ((F + ".cdf",), BACK)


def function_is(F):
    """The same of a distribution function."""
    return ((F + ".cdf",), THERE), ((F + ".icdf",), BACK)


LOSSES = [
    Loss("torch", "softplus is the identity from 20 on, and loses exp(-z)",
         ((("SoftplusTransform",), (IMAGE,)), (("SoftplusTransform", "SigmoidTransform"), (SCORE, SCORE_BACK))),
         Example("SoftplusTransform", IMAGE, 26.0, 26.0, (), LINE, HALF_LINE)),
    Loss("torch", "the last part is 1 minus the others, which cancels near 0", ((("StickBreakingTransform",), (IMAGE,)),),
         Example("StickBreakingTransform", IMAGE, [0.0, 8.0, 0.0],
                 [0.25, 0.7494971752166748, 0.00025141239166259766, 0.00025141239166259766], dtype="float32")),
    Loss("torch", "rows are closed by the root of 1 minus squares, which cancels near 0", ((("CorrCholeskyTransform",), (IMAGE, SLOPE)),),
         Example("CorrCholeskyTransform", IMAGE, [0.0, 8.0, 0.0], [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.9999997615814209, 0.0,
                                                                   0.0006905339541845024], dtype="float32")),
    Loss("torch", "the normal distribution function is (1 + erf)/2, which cancels in the left tail",
         (*function_is("Normal"), *function_is("LogNormal"),
          (("CumulativeDistributionTransform(Normal)", "special.ndtr, special.ndtri"), THERE)),
         Example("Normal.cdf", IMAGE, -7.0, 1.2798095916366492e-12, (0.0, 1.0), LINE, UNIT)),
    Loss("torch", "the normal quantile is erfinv(2 q - 1), and 2 q - 1 has no more digits than 1 near q = 0",
         (*quantile_is("Normal"), *quantile_is("LogNormal"), (("CumulativeDistributionTransform(Normal)",), BACK)),
         Example("Normal.icdf", IMAGE, 1e-16, -8.209536151601387, (0.0, 1.0), UNIT, LINE)),
    Loss("torch", "the left tail of Laplace is 1/2 - 1/2 (1 - exp), which cancels", function_is("Laplace"),
         Example("Laplace.cdf", IMAGE, -13.0, 1.1301647034889228e-06, (0.0, 1.0), LINE, UNIT)),
    Loss("torch", "the quantile of Laplace is a logarithm of 1 - 2 |q - 1/2|, which has no more digits than 1 near q = 0",
         quantile_is("Laplace"), Example("Laplace.icdf", IMAGE, 1e-16, -36.04365338911715, (0.0, 1.0), UNIT, LINE)),
    Loss("torch", "probabilities of Gumbel are clamped to what Uniform takes", (*function_is("Gumbel"), *quantile_is("Gumbel")),
         Example("Gumbel.icdf", IMAGE, 1e-290, -6.563003850181985, (0.0, 1.0), UNIT, LINE)),
    Loss("torch", "the log-density has log(1 + z^2), whose square overflows", ((("Cauchy.cdf", "HalfCauchy.cdf"), (SCORE,)),
                                                                             (("Cauchy.icdf", "HalfCauchy.icdf"), (SCORE_BACK,))),
         Example("Cauchy.cdf", SCORE, 1e200, -INF, (0.0, 1.0), LINE, UNIT)),
    Loss("torch", "the distribution function of Cauchy is atan(z)/pi + 1/2, which cancels in the left tail", function_is("Cauchy"),
         Example("Cauchy.cdf", IMAGE, -1e8, 3.1830988400649574e-09, (0.0, 1.0), LINE, UNIT)),
    Loss("torch", "the quantile of Cauchy is tan(pi (q - 1/2)), and q - 1/2 has no more digits than 1 near q = 0", quantile_is("Cauchy"),
         Example("Cauchy.icdf", IMAGE, 1e-290, -1.633123935319537e+16, (0.0, 1.0), UNIT, LINE)),
    Loss("torch", "the distribution function is 1 - exp, which cancels near 0",
         (*function_is("Exponential"), *function_is("Weibull"), (("CumulativeDistributionTransform(Weibull)",), THERE)),
         Example("Exponential.cdf", IMAGE, 1e-12, 9.999778782798785e-13, (1.0,), HALF_LINE, UNIT)),
    Loss("torch", "the quantile is a logarithm of 1 - q, which has no more digits than 1 near q = 0",
         (*quantile_is("Weibull"), (("CumulativeDistributionTransform(Weibull)",), BACK)),
         Example("Weibull.icdf", IMAGE, 1e-16, 1.0536712127723509e-08, (1.0, 2.0), UNIT, HALF_LINE)),
    Loss("torch", "the distribution function is twice the one of the whole line minus 1, which cancels near 0",
         (*function_is("HalfNormal"), *function_is("HalfCauchy")),
         Example("HalfNormal.cdf", IMAGE, 1e-12, 7.978062654956375e-13, (1.0,), HALF_LINE, UNIT)),
    Loss("torch", "the quantile is the one of the whole line at (q + 1)/2, which rounds to 1, and to 1/2",
         (*quantile_is("HalfNormal"), *quantile_is("HalfCauchy")),
         Example("HalfCauchy.icdf", IMAGE, 1e-12, 1.5709359715030878e-12, (1.0,), UNIT, HALF_LINE)),
    Loss("torch", "powers of 1 minus a power stand in both directions: 1 - z has no more digits than 1 near 0",
         (*function_is("Kumaraswamy"), *quantile_is("Kumaraswamy")),
         Example("Kumaraswamy.cdf", IMAGE, 1e-16, 1.1102230246251565e-16, (1.0, 1.0), UNIT, UNIT)),
    Loss("torch", "an exponential stands between an affine map and a logarithm: it overflows, or has few digits as a subnormal number",
         ((("ComposeTransform of four",), (*THERE, *BACK)),),
         Example("ComposeTransform of four", IMAGE, -740.0, -739.9974206648909, (0.0, 1.0, 1.0))),
    Loss("scipy", "the log-density is the logarithm of a density that underflows, or has a power that overflows",
         ((("*.cdf", "*.ppf"), (SCORE, SCORE_BACK)),), Example("laplace.cdf", SCORE, 1000.0, -INF, (0.0, 1.0), LINE, UNIT)),
    Loss("scipy", "the quantile of t is infinite where it is beyond 1e40 or so", ((("t.ppf",), THERE), (("t.cdf",), BACK)),
         Example("t.ppf", IMAGE, 1e-290, INF, (8.0,), UNIT, LINE)),
    Loss("scipy", "the quantile of F is not a number at tiny probabilities", ((("f.ppf",), THERE), (("f.cdf",), BACK)),
         Example("f.cdf", ORIGIN, 1e-290, np.nan, (8.0, 8.0), HALF_LINE, UNIT)),
    Loss("scipy", "the quantile of genlogistic has a power that overflows", ((("genlogistic.ppf",), THERE), (("genlogistic.cdf",), BACK)),
         Example("genlogistic.ppf", IMAGE, 1e-290, INF, (0.7,), UNIT, LINE), seed=1),
    Loss("scipy", "the quantile of exponweib is a logarithm of 1 less a root of q, which rounds to 1",
         ((("exponweib.ppf",), THERE), (("exponweib.cdf",), BACK)),
         Example("exponweib.ppf", IMAGE, 1 - 2.0**-53, INF, (4.0, 1.0), UNIT, HALF_LINE), seed=2),
    Loss("scipy", "the search for the quantile of beta stops before it is found, at tiny probabilities",
         ((("beta.ppf",), THERE), (("beta.cdf",), BACK)),
         Example("beta.cdf", ORIGIN, 1e-100, 2.9865309607453103e-32, (2.876425761695059, 2.994342325600385), UNIT, UNIT), seed=5),
    Loss("scipy", "ndtri_exp loses three digits in the far tail", ((("special.log_ndtr, special.ndtri_exp",), BACK),),
         Example("special.log_ndtr, special.ndtri_exp", ORIGIN, -500007.8266948122, -1000.0000000006112, (), LINE, [-INF, 0.0])),
]
