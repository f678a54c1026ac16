"""Alarms that are right, and that no number shows, or of maps without an equation: each with its reason and a seed that shows it.

Where digits are lost, the reason gives the library's number and the true one.  Maps with an equation have `losses` instead.  The
command tells an entry that does not alarm at its seed.
"""

from __future__ import annotations

from dataclasses import dataclass

BOTH, DOUBLE, SINGLE = ("float64", "float32"), ("float64",), ("float32",)
BACK, FORTH = "inverse of forward", "forward of inverse"
DIFFERENCES, GRADIENT = "log-det is the determinant of differences", "log-det is the determinant of the gradient"
INTEGRAL, MINUS = "images differ by the integral of the slope", "inverse log-det is minus log-det"
EMPTY, TAILS, FINITE = "an empty batch is empty", "a batch of tails is the stack of its events", "finite"
WRITTEN, PULLBACK, WIDER = "inputs are not written to", "pullback is the gradient", "float64 agrees"
SCORE, SAMPLES = "log_prob is the base and the log-det", "samples have the log_prob of their latents"


@dataclass(frozen=True)
class Reason:
    """Why an alarm is right, and a seed at which the map alarms."""

    text: str
    seed: int = 0


def of(library, text, *rows, seed=0):
    """{(library, map, dtype, law): Reason}: rows are (maps, dtypes, laws)."""
    return {(library, name, dtype, law): Reason(text, seed)
            for names, dtypes, laws in rows for name in names for dtype in dtypes for law in laws}


NO_EMPTY_BATCH = "torch's IndependentTransform reshapes to (0, -1), which raises for an empty batch"

TRUE_ALARMS = (
    of("torch", NO_EMPTY_BATCH,
         (["IndependentTransform(AffineTransform, 1)", "IndependentTransform(ExpTransform, 2)", "CatTransform",
           "IndependentTransform(StackTransform, 1)"], BOTH, [EMPTY]))
    | of("freia", "the log-det is expanded to the length of a tensor that is empty: an empty batch raises",
         (["AllInOneBlock", "AllInOneBlock [GIN]", "AllInOneBlock [permute_soft]", "AllInOneBlock [Householder]",
           "AllInOneBlock [reverse_permutation]", "Fixed1x1Conv", "HaarDownsampling", "Flatten", "SequenceINN of AllInOneBlock",
           "SequenceINN of AllInOneBlock [permute_soft]"], BOTH, [EMPTY]))
    | of("freia", "the rotation is a FloatTensor: of a module in float64 it is orthogonal to 1e-8 alone, and its log-det is taken as 0",
         (["AllInOneBlock [permute_soft]", "SequenceINN of AllInOneBlock [permute_soft]"], DOUBLE,
          [BACK, FORTH, DIFFERENCES, GRADIENT, MINUS]))
    | of("freia", "rev=True returns the log-det of the forward map: +0.134, where -0.134 is true of the inverse",
         (["LearnedElementwiseScaling"], BOTH, [MINUS]))
    | of("freia", "rev=True divides its argument in place", (["HaarDownsampling"], BOTH, [WRITTEN]))
    | of("zuko", NO_EMPTY_BATCH,
         (["AdditiveTransform", "MonotonicAffineTransform", "MonotonicRQSTransform of vectors", "ComposedTransform",
           "AutoregressiveTransform", "CouplingTransform", "flows.NSF", "flows.MAF", "flows.MAF of 8 [randperm]", "flows.NICE",
           "flows.RealNVP", "flows.SOSPF", "flows.NAF"], BOTH, [EMPTY]))
    | of("nflows", "1 - tanh^2 is 0 from 19.1 on (float32: 9.1) and has few digits before: the log-det is -inf, where -2 |z| + log 4 is "
                   "true; the inverse refuses the image 1",
         (["Tanh"], DOUBLE, [BACK, TAILS, FINITE, PULLBACK]), (["Tanh"], SINGLE, [BACK, TAILS, FINITE, WIDER]))
    | of("nflows", "log(negative slope) is a float32 constant: -4.60517024994, where -4.60517018599 is true",
         (["LeakyReLU"], DOUBLE, [DIFFERENCES, GRADIENT]))
    | of("nflows", "the minimum of an empty batch is asked, or its entries are reshaped by -1: it raises",
         (["CauchyCDFInverse", "PiecewiseLinearCDF on (0, 1)", "PiecewiseLinearCouplingTransform", "PiecewiseQuadraticCDF on (0, 1)",
           "PiecewiseQuadraticCouplingTransform", "PiecewiseCubicCDF on (0, 1)", "PiecewiseCubicCouplingTransform",
           "PiecewiseRationalQuadraticCDF on (0, 1)", "PiecewiseRationalQuadraticCouplingTransform", "MultiscaleCompositeTransform",
           "CompositeTransform of LULinear and spline couplings"], BOTH, [EMPTY]))
    | of("nflows", "the linear spline's inverse uses other knots than its forward, of a float32 linspace: f(f^-1) is off by 1e-8",
         (["PiecewiseLinearCDF", "PiecewiseLinearCDF on (0, 1)", "PiecewiseLinearCouplingTransform"], DOUBLE, [BACK, FORTH, MINUS]),
         (["PiecewiseLinearCDF on (0, 1)"], SINGLE, [MINUS]))
    | of("nflows", "the inverse of the quadratic spline is (-b + sqrt(b^2 - 4 a c))/(2 a), which cancels where a is small",
         (["PiecewiseQuadraticCouplingTransform"], SINGLE, [WIDER]))
    | of("normflows", "an empty batch is reshaped by -1, which raises",
         (["AffineCouplingBlock [checkerboard]", "CoupledRationalQuadraticSpline", "NormalizingFlow of splines"], BOTH, [EMPTY]))
    | of("normflows", "the sum of log-dets is a float32 tensor whatever the flow is",
         (["NormalizingFlow of MaskedAffineFlow", "NormalizingFlow of splines", "NormalizingFlow of couplings"], DOUBLE,
          [SCORE, SAMPLES, DIFFERENCES, GRADIENT, MINUS, PULLBACK]))
    | of("distrax", "sigmoid is exp below -9: at -10 it is 4.53999e-5, where 4.53979e-5 is true",
         (["Sigmoid", "Block(Sigmoid)"], DOUBLE, [BACK, FORTH, DIFFERENCES, GRADIENT, MINUS]))
    | of("distrax", "XLA's arctanh is off by 110 units of rounding at 0.41: 0.43561122323621904, where 0.43561122323622438 is true",
         (["Inverse(Tanh)"], DOUBLE, [BACK]))
    | of("tfp", "sqrt(2) is a float32 constant in the log-det of the inverse, which is off by 1.7e-8",
         (["RayleighCDF"], DOUBLE, [MINUS]))
    | of("numpyro", "the log-det of SimplexToOrderedTransform is taken at y, and not at y - anchor; parts are differences of sums near 1",
         (["SimplexToOrderedTransform after StickBreaking"], DOUBLE, [BACK, DIFFERENCES, GRADIENT, MINUS]))
    | of("numpyro", "the distribution function of Cauchy is 1/2 + atan(z)/pi, which cancels in the left tail",
         (["Cauchy.cdf"], DOUBLE, [FORTH]))
    | of("numpyro", "the left tail of Laplace is 1/2 - 1/2 (1 - exp): at -13 it is 1.1301647034889e-6, where 1.1301647034905e-6 is true",
         (["Laplace.cdf"], DOUBLE, [BACK, GRADIENT, MINUS]))
)
