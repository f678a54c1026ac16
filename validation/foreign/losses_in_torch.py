"""Where nflows and FrEIA lose digits, for `losses`."""

from __future__ import annotations

from .losses import BACK, IMAGE, INF, LINE, LOSSES, ORIGIN, SCORE, SCORE_BACK, SLOPE, THERE, UNIT, Example, Loss

FLAT = (0.0,) * 5

LOSSES += [
    Loss("nflows", "1 - tanh^2 cancels, and is 0 from 19.1 on (float32: 9.1)", ((("Tanh",), (SCORE, SCORE_BACK)),),
         Example("Tanh", SCORE, [30.0], -INF, (), LINE, [-1.0, 1.0])),
    Loss("nflows", "the logarithm of the negative slope is a float32 constant", ((("LeakyReLU",), (SCORE, SCORE_BACK)),),
         Example("LeakyReLU", SCORE, [-1.0], -4.605170249938965)),
    Loss("nflows", "the distribution function of Cauchy is atan(z)/pi + 1/2, which cancels in the left tail",
         ((("CauchyCDF",), (IMAGE, SLOPE)), (("CauchyCDFInverse",), (ORIGIN,))),
         Example("CauchyCDF", IMAGE, [-1e8], [3.1830988400649574e-09], (), LINE, UNIT)),
    Loss("nflows", "the quantile of Cauchy is tan(pi (q - 1/2)), and q - 1/2 has no more digits than 1 near q = 0",
         ((("CauchyCDF",), BACK), (("CauchyCDFInverse",), THERE)),
         Example("CauchyCDF", ORIGIN, [1e-290], [-1.633123935319537e+16], (), LINE, UNIT)),
    Loss("nflows", "the log-density has log(1 + z^2), whose square overflows",
         ((("CauchyCDF",), (SCORE,)), (("CauchyCDFInverse",), (SCORE_BACK,))),
         Example("CauchyCDF", SCORE, [1e200], -INF, (), LINE, UNIT)),
    Loss("nflows", "the inverse of the linear spline has knots of a float32 linspace, and the last one is moved by the 1e-6 that the "
                   "search for a bin writes into it", ((("splines.linear_spline",), BACK),),
         Example("splines.linear_spline", ORIGIN, [0.9], [0.8999995059629943], FLAT, UNIT, UNIT)),
    Loss("nflows", "the inverse of the quadratic spline is (-b + root(b^2 - 4 a c))/(2 a), which cancels where a or c is small",
         ((("splines.quadratic_spline",), BACK),),
         Example("splines.quadratic_spline", ORIGIN, [1e-30], [0.0], (*FLAT, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0), UNIT, UNIT)),
    Loss("nflows", "the inverse of the cubic spline is a sum of roots by Cardano's formula and a shift, which cancels near a knot",
         ((("splines.cubic_spline",), BACK),),
         Example("splines.cubic_spline", ORIGIN, [1e-16], [9.71445146547012e-17], (*FLAT, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0), UNIT, UNIT)),
    Loss("freia", "the log-det is the logarithm of 1/((1 + exp z)(1 + exp -z)), whose exponentials overflow",
         ((("InvertibleSigmoid",), (SCORE, SCORE_BACK, SLOPE)),), Example("InvertibleSigmoid", SCORE, [1000.0], -INF, (), LINE, UNIT)),
    Loss("freia", "rev=True returns the log-det of the forward map", ((("LearnedElementwiseScaling",), (SCORE_BACK,)),),
         Example("LearnedElementwiseScaling", SCORE_BACK, [1.0], 0.5, (0.5,))),
]
