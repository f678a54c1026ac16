"""Where libraries in JAX lose digits, for `losses`."""

from __future__ import annotations

import numpy as np

from .losses import BACK, HALF_LINE, IMAGE, INF, LINE, LOSSES, ORIGIN, SCORE, SCORE_BACK, SLOPE, THERE, UNIT, Example, Loss

STANDARD, ONE = (0.0, 1.0), (1.0,)


def function_is(*names):
    """The quantities of distribution functions, and of the quantiles whose inverses they are."""
    return (tuple(f"{name}.cdf" for name in names), THERE), (tuple(f"{name}.quantile" for name in names), BACK)


def quantile_is(*names):
    return (tuple(f"{name}.quantile" for name in names), THERE), (tuple(f"{name}.cdf" for name in names), BACK)


def scores(*names):
    """The log-dets of distribution functions, which their quantiles have, too."""
    return (tuple(f"{name}.cdf" for name in names), (SCORE, SLOPE)), (tuple(f"{name}.quantile" for name in names), (SCORE_BACK, SCORE))


NO_TAIL = "1 - tanh^2 cancels, and is 0 from 19.1 on (float32: 9.1)"
POWERED = "the log-det is the logarithm of a z^a/z, and a z^a overflows"

LOSSES += [
    Loss("numpyro", POWERED, ((("PowerTransform",), (SCORE, SCORE_BACK)),),
         Example("PowerTransform", SCORE, 9e157, INF, (1.95,), HALF_LINE, HALF_LINE)),
    Loss("numpyro", "sums of parts near 1 have no digits left of 1 minus them, which the logit asks",
         ((("SimplexToOrderedTransform after StickBreaking",), (IMAGE, SLOPE)),),
         Example("SimplexToOrderedTransform after StickBreaking", IMAGE, [0.0, 40.0], [-0.6931471805599454, INF], (0.0,))),
    Loss("numpyro", "the log-det is taken at y, and not at y - anchor", ((("SimplexToOrderedTransform after StickBreaking",), (SCORE,)),),
         Example("SimplexToOrderedTransform after StickBreaking", SCORE, [0.5, 0.5], 0.10205450469342381, (0.5,))),
    Loss("numpyro", "the log-density has log(1 + z^2), whose square overflows", scores("Cauchy", "HalfCauchy"),
         Example("Cauchy.cdf", SCORE, 1e200, -INF, STANDARD, LINE, UNIT)),
    Loss("numpyro", "the distribution function of Cauchy is atan(z)/pi + 1/2, which cancels in the left tail", function_is("Cauchy"),
         Example("Cauchy.cdf", IMAGE, -1e8, 3.183098831072382e-09, STANDARD, LINE, UNIT)),
    Loss("numpyro", "the quantile of Cauchy is tan(pi (q - 1/2)), and q - 1/2 has no more digits than 1 near q = 0", quantile_is("Cauchy"),
         Example("Cauchy.quantile", IMAGE, 1e-16, -1978937966095219.0, STANDARD, UNIT, LINE)),
    Loss("numpyro", "XLA's log1p is off by 60 units of rounding at -0.41, and by less below", quantile_is("Exponential"),
         Example("Exponential.quantile", IMAGE, 0.41, 0.5151454862761281, (1.024240250839623,), UNIT, HALF_LINE), seed=1),
    Loss("numpyro", "the left tail of Laplace is 1/2 - 1/2 (1 - exp), which cancels", function_is("Laplace"),
         Example("Laplace.cdf", IMAGE, -13.0, 1.1301647034889228e-06, STANDARD, LINE, UNIT)),
    Loss("numpyro", "the quantile of Laplace is a logarithm of 1 - 2 |q - 1/2|, which has no more digits than 1 near q = 0",
         quantile_is("Laplace"), Example("Laplace.quantile", IMAGE, 1e-16, -36.04365338911715, STANDARD, UNIT, LINE)),
    Loss("numpyro", "the distribution function is twice the one of the whole line minus 1, which cancels near 0",
         function_is("HalfNormal", "HalfCauchy"), Example("HalfNormal.cdf", IMAGE, 1e-12, 7.978062654956375e-13, ONE, HALF_LINE, UNIT)),
    Loss("numpyro", "the quantile is the one of the whole line at (q + 1)/2, which rounds to 1, and to 1/2",
         quantile_is("HalfNormal", "HalfCauchy"),
         Example("HalfNormal.quantile", IMAGE, 1e-12, 1.2534255576721637e-12, ONE, UNIT, HALF_LINE)),
    Loss("numpyro", "the distribution function is 1 - exp, which cancels near 0", function_is("Weibull", "Exponential"),
         Example("Weibull.cdf", IMAGE, 1e-16, 1.1102230246251565e-16, (1.0, 1.0), HALF_LINE, UNIT)),
    Loss("flowjax", POWERED, ((("Power",), (SCORE, SCORE_BACK)),), Example("Power", SCORE, 1.2e154, INF, (2.0,), HALF_LINE, HALF_LINE)),
    Loss("bijx", "the log-det of the sigmoid is the logarithm of 1 - its image, which is 0 from 37 on (float32: 17)",
         ((("Sigmoid",), (SCORE, SCORE_BACK, SLOPE)),), Example("Sigmoid", SCORE, 40.0, -INF, (), LINE, UNIT)),
    Loss("bijx", NO_TAIL, ((("Tanh", "Chain(AffineLinear, Tanh)"), (SCORE, SCORE_BACK, SLOPE)),),
         Example("Tanh", SCORE, 30.0, -INF, (), LINE, [-1.0, 1.0])),
    Loss("bijx", "the quantile of Cauchy is tan(pi (q - 1/2)), and q - 1/2 has no more digits than 1 near q = 0",
         ((("Tan",), (*THERE, *BACK)),), Example("Tan", IMAGE, 1e-16, -1978937966095219.0, (), UNIT, LINE)),
    Loss("bijx", "Cardano's formula has sixth powers of the image, which overflow, and cancels", ((("CubicRational",), BACK),),
         Example("CubicRational", ORIGIN, 1e80, np.nan, (0.0, 1.0, 1.0))),
    Loss("bijx", "squares and cubes of the latent overflow",
         ((("CubicRational",), (SCORE, SLOPE)), (("CubicConjugation",), (*THERE, *BACK))),
         Example("CubicRational", SCORE, 1e200, np.nan, (0.0, 1.0, 1.0))),
    Loss("distrax", "the sigmoid is exp(z) below -9, without the rest exp(2 z)", ((("Sigmoid", "Block(Sigmoid)"), (IMAGE, SLOPE, *BACK)),),
         Example("Sigmoid", IMAGE, -10.0, 4.5399929762484854e-05, (), LINE, UNIT)),
    Loss("tfp", "the distance from the upper end stands for the one from the lower end, near which it has no digits left",
         ((("SoftClip",), (*THERE, *BACK)),), Example("SoftClip", ORIGIN, 1e-17, -INF, (0.0, 1.0), LINE, UNIT)),
    Loss("tfp", "the root of 2 is a float32 constant in the log-det of the inverse", ((("RayleighCDF",), (SCORE_BACK,)),),
         Example("RayleighCDF", SCORE_BACK, 0.5, 0.529830067685076, ONE, HALF_LINE, UNIT)),
    Loss("distrax", "XLA's arctanh is off by 110 units of rounding at 0.41", ((("Inverse(Tanh)",), (IMAGE,)), (("Tanh",), (ORIGIN,))),
         Example("Inverse(Tanh)", IMAGE, 0.41, 0.43561122323621904, (), [-1.0, 1.0], LINE)),
    Loss("tfp", "squares of the image overflow, in the inverse and in the log-det that is taken from it",
         ((("LambertWTail",), (SCORE, SLOPE, *BACK)),), Example("LambertWTail", ORIGIN, 1e200, np.nan, (0.0, 1.0, 0.25))),
    Loss("tfp", "the inverse has 1 minus a power of 1 - q, which cancels near 0", ((("KumaraswamyCDF",), BACK),),
         Example("KumaraswamyCDF", ORIGIN, 1e-12, 5.000444502911711e-13, (1.0, 2.0), UNIT, UNIT)),
]
