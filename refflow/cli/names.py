"""Names that are not pages: the models, what else refflow offers, and what other people call it.

A name is found whatever its case, and without its hyphens and underscores.
"""

from __future__ import annotations

import inspect
import sys

import numpy as np

from .. import models
from ..core import Flow
from ..core.registry import REGISTRY
from ..energies import ENERGIES
from ..maps import found
from ..maps.index import HOME
from ..maps.parametrisations import conventions
from ..maps.parametrisations.conventions import TABLES
from ..models.defaults import compared
from ..oracle.points.pages import plainly
from ..report import aligned
from ..saving import load, save
from ..testing import check
from ..training import fit

MODELS = {name: getattr(models, name) for name in models.__all__ if name.islower()}
OTHERS = {"Flow": Flow, "check": check, "fit": fit, "load": load, "save": save} | ENERGIES

# what other people call it, and what it is here; every name in backticks is one of refflow's
ALIASES = {
    ("BatchNormalization", "BN"): "`BatchNorm` is the map with its statistics given; training is through `BatchStatisticsNorm`",
    ("Compose", "ComposeTransform", "Composite", "CompositeTransform"): "`Chain`",
    ("Conv1x1", "InvConv", "InvConv2d", "InvertibleConv", "Invertible1x1Conv", "InvertibleConv1x1", "OneByOneConv"):
        "`Pointwise` of a `DenseLinear`, or of a `PLULinear` as in Glow's LU parametrisation",
    ("CouplingLayer", "NeuralCoupling"):
        "`Coupling`, with any elementwise page; `AffineCoupling` and `AdditiveCoupling` are its usual cases",
    ("ActNorm2d",): "`ActNorm` with rank 3; `GlowActNorm` is the one in Glow's code",
    ("Dequantization", "UniformDequantization"): "`dequantised`, and `quantised` back",
    ("VariationalDequantization",): "`variational_bound_vjp`",
    ("ElementwiseAffine", "AffineTransform", "Shift"): "`Affine`, lifted to vectors by `Independent`",
    ("ExpTransform", "Log"): "`Exp`; the logarithm is `Inverse` of it",
    ("Flip", "Reverse", "ReversePermutation", "Shuffle", "RandomPermutation"): "`Permutation`",
    ("MultivariateNormal",): "`FullNormal`; with independent entries `DiagonalNormal`; the model `gaussian` is a flow",
    ("GaussianCDF", "Probit", "CDFTransform"): "`NormalCDF`; the probit is `Inverse` of it",
    ("GIN",): "`VolumePreservingCoupling`",
    ("GMM", "GaussianMixture", "MixtureOfGaussians"): "`NormalMixture`",
    ("InverseAutoregressiveFlow",):
        "the model `iaf`; a layer is an `Autoregressive`, whose network is `masked_dense_network`: latents to data in one pass",
    ("MaskedAutoregressiveFlow",):
        "the model `maf`; a layer is the `Inverse` of an `Autoregressive`, whose network is `masked_dense_network`: data to "
        "latents in one pass",
    ("MADE", "AutoregressiveNN"): "`masked_dense_network`, of `MaskedDense` layers",
    ("InverseTransform", "Invert"): "`Inverse`",
    ("Orthogonal", "Cayley"):
        "`CayleyLinear`, of any matrix; `OrthogonalLinear` holds the orthogonal matrix, `CayleyOrthogonal` makes one from free numbers",
    ("Householder", "HouseholderSequence"):
        "`HouseholderLinear` holds the vectors; `HouseholderProduct` makes the matrix of a network's numbers",
    ("Rotation", "RotationTransform"): "`RotationLinear`, by exp(A - A^T); `OrthogonalLinear` holds the matrix",
    ("MatrixExponential",): "`ExponentialLinear`",
    ("DiagPlusLowRankLinear", "LinearLowRank", "LowRank", "Woodbury"): "`LowRankLinear`",
    ("QR",): "`qr_linear`",
    ("SVD",): "`svd_linear`",
    ("LowerTriangular", "UpperTriangular"): "`triangular_linear`, of either triangle",
    ("IndependentTransform",): "`Independent`",
    ("Linear", "LinearLayer"): "`DenseLinear` as a bijector; `Dense` as a layer of a network",
    ("Logit", "LogitTransform"): "`Inverse` of `Sigmoid`; of pixels `alpha_logit`",
    ("LU", "LULinear", "PLU"): "`PLULinear`",
    ("MLP", "DenseNet", "ResNet", "FeedForward"): "`dense_network`, with residual connections where asked",
    ("ConvNet", "CNN"): "`Sequential` of `Conv2d` and `ReLU`",
    ("MixLogCDF", "MixtureCDF"):
        "`LogisticMixtureCDF`, or `NormalMixtureCDF`; with its logit, as in Flow++, `LogisticMixtureLogit`, the map of a "
        "`Coupling`; the model is `flow_plus_plus`",
    ("GF",): "the model `gaussianization_flow`, of `OrthogonalLinear` and `Gaussianization`",
    ("SumOfSquaresPolynomialFlow", "SOSPolynomialTransform", "SOS", "Polynomial"):
        "the model `sospf`; a layer of it is the `Inverse` of an `Autoregressive` of `SumOfSquares`",
    ("BernsteinPolynomialFlow", "BernsteinTransform", "Bernstein"):
        "the model `bpf`; a layer of it is the `Inverse` of an `Autoregressive` of `BernsteinPolynomial`",
    ("MultiScale", "Split", "SplitPrior", "Split2d"): "`FactorOut`",
    ("NormalizingFlow", "TransformedDistribution", "Transformed"): "`Flow`",
    ("RQS", "Spline", "RationalQuadratic"): "`RationalQuadraticSpline`; a `Family` of it makes a neural spline flow, `nsf`",
    ("NeuralSplineFlow", "RQNSFC"): "the model `nsf`",
    ("BlockNeuralAutoregressiveFlow",): "the model `bnaf`; a layer of it is the `Inverse` of a `BlockAutoregressive`",
    ("NeuralAutoregressiveFlow", "DSF", "DeepSigmoidalFlow"):
        "the model `naf`; a layer of it is the `Inverse` of an `Autoregressive` of `DeepSigmoid`",
    ("DDSF", "DeepDenseSigmoidalFlow", "DenseSigmoidFlow", "DeepDenseSigmoid"):
        "`DenseSigmoid`; the model is `naf` with dense layers; one layer is a `DeepSigmoid`",
    ("UMNNMAF", "UNAF", "UnconstrainedMonotonicTransform", "UnconstrainedMonotonicNeuralNetwork", "MonotonicNN"):
        "the model `umnn`; a layer of it is the `Inverse` of an `Autoregressive` of `UnconstrainedMonotonic`",
    ("MNN", "MonotonicMLP", "MonotonicNeuralNetwork"): "`MonotoneNetwork`, the map of an `Autoregressive` in zuko's NAF",
    ("NSFAR", "RQNSFAR"): "the model `autoregressive_nsf`",
    ("CircularRQS", "CircularRationalQuadraticSpline", "CircularShiftTransform", "NCSF"):
        "`RationalQuadraticSpline` without tails, with equal slopes at its ends, between two `CircularShift`; the model is "
        "`circular_nsf`",
    ("C2Spline", "SmoothRationalQuadraticSpline", "TwiceDifferentiableSpline"): "`SmoothSpline`, of two bins",
    ("LRS", "LinearRational", "RationalLinear"): "`LinearRationalSpline`",
    ("PiecewiseLinearCDF", "PiecewiseLinear"): "`LinearSpline`, without tails or with the identity beyond its knots",
    ("PiecewiseQuadraticCDF", "PiecewiseQuadratic"): "`QuadraticSpline`, the integral of a density through its knots",
    ("PiecewiseCubicCDF", "PiecewiseCubic"): "`CubicSpline`",
    ("Simplex", "SoftmaxTransform", "StickBreakingTransform"): "onto the simplex, `StickBreaking`",
    ("ILR", "IsometricLogRatio", "CLR", "CentredLogRatio"): "`Softmax`, from vectors of sum 0; after `ZeroSum` the isometric log-ratio",
    ("SumToOne",): "`SumTo1`; free vectors reach its domain by `StickBreaking` and the inverse of `SumTo1`",
    ("L1BallTransform",): "`L1Ball`",
    ("StickbreakingNormal", "StickbreakingLogistic"): "`BreakProportions`, after an entrywise `NormalCDF` or `Sigmoid`",
    ("StereographicProjection",): "`Stereographic`, TensorFlow Probability's bijector `UnitVector`",
    ("CutPoints", "SimplexToOrderedTransform"): "`SimplexToOrdered`; with an anchor, a shift after it",
    ("LKJ", "CorrCholesky", "CorrCholeskyTransform"): "`CorrelationCholesky`",
    ("PositiveDefinite", "LowerCholesky", "LowerCholeskyTransform"): "`CholeskyFactor`",
    ("StandardGaussian", "DiagGaussian", "Normal"): "`StandardNormal`; with location and scale `DiagonalNormal`",
    ("SwiGLU", "GLU"): "`GatedLinearUnit` with `SiLU`, after a `Dense` layer that makes both halves",
    ("GEGLU",): "`GatedLinearUnit` with `GELU` or `TanhGELU`",
    ("Attention", "SelfAttention", "MultiHeadAttention", "CausalAttention", "MHA"):
        "`RelativeAttention`, causal or not, with relative positions or without; of a context `CrossAttention`",
    ("GroupedQueryAttention", "GQA", "MultiQueryAttention", "MQA"): "`RepeatedHeads` before `RelativeAttention`",
    ("QKNorm", "QKNormalization", "QueryKeyNormalization"): "`QueryKeyNorm`",
    ("RoPE", "RotaryEmbedding", "RotaryPositionalEmbedding", "RotaryPositionEmbedding"):
        "`Rotary`, with the angles of `rotary_angles`, in one dimension or several",
    ("PlanarLayer", "PlanarBijection"): "`Planar`; with a leaky rectified unit `PiecewisePlanar`",
    ("RadialLayer", "RadialBijection"): "`Radial`",
}


CALLED = {plainly(name): text for names, text in ALIASES.items() for name in names}


def elsewhere(name):
    """(name, object) of what refflow offers under this name without its being a page; None if it offers nothing."""
    offered = {plainly(key): key for key in (*HOME, *MODELS, *OTHERS) if key not in REGISTRY}
    key = offered.get(plainly(name))
    return None if key is None else (key, (MODELS | OTHERS).get(key) or found(key))


def also_called(name):
    """What refflow calls it, None if the table does not have the name."""
    return CALLED.get(plainly(name))


def described(name, held) -> dict:
    """What it is, where it stands, how it is called, what it says of itself."""
    home = f"refflow.maps.{HOME[name]}" if name in HOME else held.__module__
    kind = "model" if name in MODELS else "class" if isinstance(held, type) else "function" if callable(held) else "table"
    own = inspect.getdoc(held) if callable(held) else None
    if kind == "table" and name in TABLES:
        own = "\n".join(f"{library}: {convention}" for library, convention in conventions.described(held))
    sizes = sizes_text(name) if name in MODELS else None
    texts = (own, sizes, sys.modules[home].__doc__ if name in MODELS or name in ENERGIES or own is None or kind == "table" else None)
    return {"name": name, "kind": kind, "module": home, "signature": name + (signature(held) if callable(held) else ""),
            "text": "\n\n".join(text.strip() for text in texts if text)}


def sizes_text(name):
    """The sizes of a model where none are given, in `refflow fit` and in Python; None for a model without sizes."""
    rows = [(f"--{option}", words(small), argument, words(large)) for option, small, argument, large in compared(name)]
    return aligned([("refflow fit", "default", "in Python", "default"), *rows]) if rows else None


def words(default):
    return "-" if default is inspect.Parameter.empty else ",".join(map(str, np.atleast_1d(default)))


def signature(held):
    """Names and plain defaults of the arguments."""
    given = inspect.signature(held).parameters.values()
    return "(" + ", ".join(p.name + (f"={p.default!r}" if isinstance(p.default, (bool, int, float, str, tuple, type(None))) else
                                     "" if p.default is p.empty else "=...") for p in given) + ")"
