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
OF_PARAMETERS, MOVED = "pullback is the gradient by the parameters", "all laws at moved parameters"
MEMBER = "the image is in the codomain"
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
    | of("torch", "the quantile of Cauchy is tan(pi (q - 1/2)): in float32 at 0.0047538280 it is -163.88267, and -163.88164 is true, 105 "
                  "roundings away", (["Cauchy.cdf"], SINGLE, [FORTH]), seed=4)
    | of("torch", "the distribution function is taken through maps that decrease as 1/2 - (u - 1/2), which cancels near 0: at moved "
                  "parameters of Gumbel it is 0 at -9 in float32, and 1.68e-12 is true", (["Gumbel.cdf"], SINGLE, [MOVED]), seed=5)
    | of("freia", "the log-det is expanded to the length of a tensor that is empty: an empty batch raises",
         (["AllInOneBlock", "AllInOneBlock [GIN]", "AllInOneBlock [permute_soft]", "AllInOneBlock [Householder]",
           "AllInOneBlock [reverse_permutation]", "AllInOneBlock of images", "Fixed1x1Conv", "HaarDownsampling",
           "HaarDownsampling [rebalance]", "HaarUpsampling", "Flatten", "SequenceINN of AllInOneBlock",
           "SequenceINN of AllInOneBlock [permute_soft]"], BOTH, [EMPTY]))
    | of("freia", "the rotation is a FloatTensor: of a module in float64 it is orthogonal to 1e-8 alone, and its log-det is taken as 0",
         (["AllInOneBlock [permute_soft]", "SequenceINN of AllInOneBlock [permute_soft]"], DOUBLE,
          [BACK, FORTH, DIFFERENCES, GRADIENT, MINUS]))
    | of("freia", "Haar's upsampling divides its argument in place, which torch refuses where a gradient is asked",
         (["HaarDownsampling", "HaarUpsampling"], BOTH, [WRITTEN]), (["HaarUpsampling"], BOTH, [GRADIENT, PULLBACK]))
    | of("zuko", NO_EMPTY_BATCH,
         (["AdditiveTransform", "MonotonicAffineTransform", "MonotonicRQSTransform of vectors", "ComposedTransform",
           "AutoregressiveTransform", "CouplingTransform", "flows.NSF", "flows.MAF", "flows.MAF of 8 [randperm]", "flows.NICE",
           "flows.RealNVP", "flows.SOSPF", "flows.NAF"], BOTH, [EMPTY]))
    | of("nflows", "the inverse refuses 1 and -1, to which images round", (["Tanh"], BOTH, [BACK]))
    | of("nflows", "the logarithm of the negative slope is a float32 constant, as the losses of LeakyReLU show",
         (["CompositeTransform of LogTanh and LeakyReLU"], DOUBLE, [DIFFERENCES, GRADIENT]))
    | of("nflows", "softplus is the identity from 20 on, and loses exp(-z): at moved parameters the log-det at [-16, 0] is "
                   "-21.306888977, and -21.306888978396 is true",
         (["Sigmoid [learn_temperature]"], DOUBLE, [MOVED]), seed=1)
    | of("distrax", "XLA's log1p is off by 88 units of rounding near 0.41: the inverse at 0.40854102156721994 is -0.37000000000000977, and "
                    "-0.37 is true; in some batches alone", (["Block(Sigmoid)"], DOUBLE, [BACK]), seed=1)
    | of("nflows", "the minimum of an empty batch is asked, or its entries are reshaped by -1: it raises",
         (["CauchyCDFInverse", "splines.linear_spline", "PiecewiseLinearCouplingTransform", "splines.quadratic_spline",
           "PiecewiseQuadraticCouplingTransform", "splines.cubic_spline", "PiecewiseCubicCouplingTransform",
           "splines.rational_quadratic_spline", "PiecewiseRationalQuadraticCouplingTransform", "MultiscaleCompositeTransform",
           "PiecewiseRationalQuadraticCouplingTransform [apply_unconditional_transform]",
           "CompositeTransform of LULinear and spline couplings"], BOTH, [EMPTY]), (["CompositeCDFTransform"], DOUBLE, [EMPTY]))
    | of("nflows", "the linear spline's inverse uses other knots than its forward, as the losses of splines.linear_spline show",
         (["PiecewiseLinearCDF", "PiecewiseLinearCouplingTransform"], DOUBLE, [BACK, FORTH, MINUS]),
         (["PiecewiseLinearCDF"], SINGLE, [BACK, MINUS]))
    | of("nflows", "the inverse of the quadratic spline cancels, as the losses of splines.quadratic_spline show",
         (["PiecewiseQuadraticCouplingTransform"], SINGLE, [WIDER]))
    | of("nflows", "a spline stands between the distribution function of Cauchy and its quantile, which have the losses of CauchyCDF",
         (["CompositeCDFTransform"], DOUBLE, [BACK, FORTH, INTEGRAL, MINUS, FINITE]))
    | of("normflows", "an empty batch is reshaped by -1, which raises",
         (["AffineCouplingBlock [checkerboard]", "CoupledRationalQuadraticSpline", "NormalizingFlow of splines"], BOTH, [EMPTY]))
    | of("normflows", "the sum of log-dets is a float32 tensor whatever the flow is",
         (["NormalizingFlow of MaskedAffineFlow", "NormalizingFlow of splines", "NormalizingFlow of couplings"], DOUBLE,
          [SCORE, SAMPLES, DIFFERENCES, GRADIENT, MINUS]),
         (["NormalizingFlow of MaskedAffineFlow", "NormalizingFlow of splines"], DOUBLE, [OF_PARAMETERS]),
         (["NormalizingFlow of MaskedAffineFlow"], DOUBLE, [MOVED]))
    | of("normflows", "the sum of log-dets is a float32 tensor whatever the flow is: so is its gradient at moved parameters",
         (["NormalizingFlow of couplings"], DOUBLE, [MOVED]), seed=1)
    | of("normflows", "the scale exp(s) is 0 where s < -104, such as -12261 at an entry of 137271: the inverse is 0/0",
         (["NormalizingFlow of couplings"], SINGLE, [BACK]), seed=1)
    | of("normflows", "an entry that passes is added to 0 times exp(s) of its own, which is not a number where exp(s) overflows",
         (["NormalizingFlow of MaskedAffineFlow"], DOUBLE, [TAILS, FINITE]))
    | of("normflows", "the same at tails in float32", (["NormalizingFlow of MaskedAffineFlow"], SINGLE, [TAILS]), seed=1)
    | of("normflows", "the width of a bin is the difference of two rounded edges: where it is 0.0089, the log-det of the spline is "
                      "-5.8881102 in float32, and -5.8881333 is true, 56 units away",
         (["AutoregressiveRationalQuadraticSpline"], SINGLE, [WIDER]))
    | of("numpyro", "atan(z)/pi + 1/2 is -1.1e-17 at -1e200: pi is rounded", (["Cauchy.cdf"], DOUBLE, [MEMBER]))
    | of("bijx", "1 - tanh^2 cancels, as the losses of Tanh show: so do the gradients of its logarithm",
         (["Chain(AffineLinear, Tanh)"], DOUBLE, [OF_PARAMETERS]))
    | of("bijx", "the scale exp(s) is 0 where s < -746: its logarithm, whose truth is s, is -inf, and the inverse is 0/0",
         (["realnvp_flow"], DOUBLE, [MOVED]))
)
