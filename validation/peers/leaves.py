"""The leaves of the book on which each finding is shown: the maps that it is about, by hand, for the code of a finding names several."""

from __future__ import annotations

LEAVES = {
    "Affine": (
        "torch: AffineTransform counts one scale for a whole event",
        "normflows: transforms.Shift writes to its input",
        "normflows: constant log-dets are one number for a batch",
        "distreqx: ScalarAffine's log-det has the shape of its scale, not of the event",
        "freia: LearnedElementwiseScaling's inverse has the log-det of its forward",
        "freia: LearnedElementwiseScaling does not start at init_scale",
    ),
    "AffineCoupling": (
        "surjectors: the log-dets of affine layers pass through exp",
        "bayesflow: CouplingFlow does not pass transform_kwargs to an affine transform",
    ),
    "Autoregressive": (
        "surjectors: the log-dets of affine layers pass through exp",
        "torchflows: the log-det of an autoregressive inverse is taken at other points",
        "pyro: AffineAutoregressive has no inverse in float64",
        "pyro: A log-scale far beyond its clamp is not clamped",
        "flowtorch: DenseAutoregressive takes the sum of a shape for the number of entries",
    ),
    "BernsteinPolynomial": (
        "zuko: BoundedBernsteinTransform jumps at its bounds",
    ),
    "BlockAutoregressive": (
        "pyro: BlockAutoregressive's log-det divides by another norm than its map",
        "pyro: BlockAutoregressive's log-det is of other weights than its map",
    ),
    "CauchyCDF": (
        "torch: the CDF of Cauchy is 0 in its left tail, and its log-det is infinite far out",
        "nflows: CauchyCDF ignores its location and its scale",
    ),
    "CentredSoftmax": (
        "tfp: A Dirichlet through the inverse of SoftmaxCentered has the mass sqrt 3",
    ),
    "Chain": (
        "torch: a scale after StickBreakingTransform counts one dimension too many",
        "normflows: Composite adds log-dets in float32",
        "flowtorch: Compose raises with an Invert among its bijectors",
        "flowtorch: Compose adds log-dets of entries to log-dets of vectors",
    ),
    "ClampedExpScale": (
        "pyro: A log-scale far beyond its clamp is not clamped",
        "flowtorch: A log-scale far beyond its clamp is not clamped",
    ),
    "CorrelationCholesky": (
        "numpyro: CorrCholeskyTransform of float32 raises where float64 is enabled",
    ),
    "CubicSpline": (
        "torchflows: Cubic raises in the first and in the last bin",
    ),
    "DeepSigmoid": (
        "pyro: The log-dets of Polynomial and NeuralAutoregressive add 1e-8",
        "torchflows: the sigmoidal transformers have the log-det of no map",
    ),
    "DenseLinear": (
        "nflows: NaiveLinear has no inverse with a torch of today",
    ),
    "Dirichlet": (
        "tfp: A Dirichlet through the inverse of SoftmaxCentered has the mass sqrt 3",
    ),
    "ELUTransform": (
        "pyro: ELUTransform's inverse adds 1e-8",
        "flowtorch: ELU's inverse adds 1e-8",
    ),
    "Gaussianization": (
        "zuko: GaussianizationTransform saturates at 4.89",
    ),
    "GlowActNorm": (
        "normflows: constant log-dets are one number for a batch",
    ),
    "GumbelCDF": (
        "torch: the CDF of Gumbel rounds its tails away and raises there",
    ),
    "Inverse": (
        "bijx: CondInverse has no method invert",
        "flowtorch: Invert has the log-det of the map that it inverts",
        "flowtorch: Compose raises with an Invert among its bijectors",
    ),
    "InvertibleResidual": (
        "normflows: Residual's inverse stops before it has the root",
        "normflows: Residual's log-det loses the digits of a small Jacobian",
    ),
    "LKJCholesky": (
        "tfp: An LKJ through its own default bijector has the mass pi",
    ),
    "LambertWTail": (
        "tfp: LambertWTail's log-det is NaN beyond 26",
    ),
    "LeakyReLU": (
        "nflows: LeakyReLU's log-det is a float32 constant",
        "freia: InvAutoAct has neither of its slopes at 0",
    ),
    "LeakyTanh": (
        "flowjax: LeakyTanh's inverse loses two digits near 0.414",
    ),
    "LinearRationalSpline": (
        "pyro: Spline evaluates the wrong bin within 1e-6 above a knot",
        "pyro: Spline's slope at its end knots is 0.999",
        "torchflows: LinearRational's log-det has an eps that its map has not",
        "flowtorch: Spline evaluates the wrong bin within 1e-6 above a knot",
        "flowtorch: Spline's slope at its end knots is 0.999",
    ),
    "LinearSpline": (
        "nflows: PiecewiseLinearCDF's inverse uses other knots than its forward",
    ),
    "LogTanh": (
        "nflows: LogTanh's slope jumps at its cut point",
    ),
    "MaskedDense": (
        "surjectors: MADE takes one axis of batches alone",
    ),
    "NormalCDF": (
        "torch: the normal quantile in float32 is -inf from 1.5e-8 down",
    ),
    "OpenInterval": (
        "pymc: Interval with numbers as bounds has a float32 constant in its log-det",
    ),
    "OrthogonalLinear": (
        "bayesflow: OrthogonalPermutation counts all positions in the log-det of each",
    ),
    "PLULinear": (
        "torchflows: LUMatrix raises in float64",
    ),
    "Planar": (
        "pyro: Planar loses its constraint to rounding",
        "normflows: Planar loses its constraint to rounding",
        "flowjax: Planar loses its constraint to rounding",
        "normflows: Planar is infinite or NaN for large w^T u",
        "normflows: Planar with leaky_relu has a slope of float32 digits",
        "flowjax: Planar is not the map of the appendix that it cites",
        "flowjax: Planar takes negative slopes at which it folds space",
        "flowjax: Planar with a negative slope up to 1 is right, and its inverse",
        "torchflows: Planar folds space where w^T u < -4",
    ),
    "Pointwise": (
        "freia: Fixed1x1Conv multiplies by the transpose of its matrix",
        "torchflows: the 1x1 convolution counts one pixel",
    ),
    "QuadraticSpline": (
        "nflows: PiecewiseQuadraticCDF jumps in density at the tails",
        "nflows: PiecewiseQuadraticCDF has no inverse where two heights are equal",
    ),
    "Radial": (
        "pyro: Radial is right",
        "pyro: Radial loses its constraint to rounding",
        "normflows: Radial loses its constraint to rounding",
        "normflows: Radial lets alpha be 0",
        "torchflows: Radial has the log-det of neither map",
    ),
    "RationalQuadraticSpline": (
        "pyro: Spline evaluates the wrong bin within 1e-6 above a knot",
        "pyro: Spline's slope at its end knots is 0.999",
        "bijx: the gradient of MonotoneRQSpline is halved at a knot and quartered at an end",
        "bijx: MonotoneRQSpline does not use its min_bin_width, min_bin_height and min_slope",
        "torchflows: RationalQuadratic with raw numbers 0 is not the identity",
        "pzflow: the spline's gradient is NaN beyond twice its bound",
        "transformers: the VITS spline raises if no input lies inside the bound",
        "piper: the VITS spline passes a batch that lies in the tails",
        "flowtorch: Spline evaluates the wrong bin within 1e-6 above a knot",
        "flowtorch: The inverse of a quadratic Spline raises for inputs beyond its bound",
        "flowtorch: Spline's slope at its end knots is 0.999",
        "bayesflow: SplineTransform does not start at its default domain",
    ),
    "RayleighCDF": (
        "tfp: RayleighCDF's inverse log-det has a float32 constant",
    ),
    "RotationLinear": (
        "zuko: RotationTransform's gradient loses digits where its cotangent is large",
    ),
    "RowNormalisedCorrelation": (
        "tfp: An LKJ through its own default bijector has the mass pi",
    ),
    "Sigmoid": (
        "torch: softplus is linear above 20, as documented; SigmoidTransform's log-det inherits it",
        "nflows: Sigmoid's inverse clamps at its eps",
        "normflows: transforms.Logit is not the map of its docstring",
        "distrax: Sigmoid is exp below -9",
        "distrax: the gradient of Sigmoid's log-det is NaN in the tails",
        "distreqx: Sigmoid is exp below -9",
        "distreqx: the gradient of Sigmoid's log-det is NaN in the tails",
        "bijx: the log-dets of Sigmoid and Tanh are -inf in the tails",
        "freia: InvertibleSigmoid sums its log-det over one axis",
        "freia: InvertibleSigmoid's log-det is -inf from 89 on in float32",
        "tfp: Sigmoid and Softplus are right in the tails, the gradient of Sigmoid's log-det too",
        "tfp: Sigmoid's gradient and Softplus's inverse log-det are 0 above 37",
        "numpyro: SoftplusTransform and SigmoidTransform's log-det are right above 20",
        "flowjax: Sigmoid and SoftPlus are right in the tails",
        "pymc: logodds' log-det is -inf from 37 on",
        "bayesflow: Log-dets of transforms of data are functions of the data, which saturates",
    ),
    "SimplexToOrdered": (
        "numpyro: SimplexToOrderedTransform takes the last part as 1 minus the others",
        "pyro: SimplexToOrderedTransform takes the last part as 1 minus the others",
    ),
    "SinhArcsinh": (
        "tfp: SinhArcsinh is NaN, and its log-det -inf, for heavy tails",
    ),
    "Softplus": (
        "torch: softplus is linear above 20, as documented; SigmoidTransform's log-det inherits it",
        "pzflow: InvSoftplus overflows and cancels",
        "tfp: Sigmoid and Softplus are right in the tails, the gradient of Sigmoid's log-det too",
        "tfp: Sigmoid's gradient and Softplus's inverse log-det are 0 above 37",
        "numpyro: SoftplusTransform and SigmoidTransform's log-det are right above 20",
        "flowjax: Sigmoid and SoftPlus are right in the tails",
        "bayesflow: The log-det of Constrain with one bound is -inf from 710 on",
    ),
    "Softsign": (
        "zuko: SoftclipTransform is right everywhere",
        "tfp: The gradients of WeibullCDF and Softsign are 0 far out",
        "tfp: Softsign's inverse log-det has lost two digits near -0.41",
    ),
    "Squeeze": (
        "nflows: SqueezeTransform has no inverse but for an even factor",
        "freia: HaarDownsampling's inverse writes to its input",
    ),
    "StickBreaking": (
        "torch: StickBreakingTransform clips its log-det",
        "torch: StickBreakingTransform takes the last part as 1 minus the others",
        "torch: a scale after StickBreakingTransform counts one dimension too many",
        "tfp: IteratedSigmoidCentered's log-det is -inf far out, and its last part is 1 minus the others",
        "numpyro: StickBreakingTransform takes the last part as 1 minus the others",
        "numpyro: StickBreakingTransform's log-det and gradient are infinite far out",
    ),
    "SumOfSquares": (
        "pyro: The log-dets of Polynomial and NeuralAutoregressive add 1e-8",
        "pyro: Polynomial moved to float64 integrates with thirds of float32",
    ),
    "Sylvester": (
        "pyro: Sylvester's log-det is not the determinant of its map",
        "torchflows: Sylvester layers with the number of units that they choose raise",
    ),
    "Tanh": (
        "torch: TanhTransform's log-det near 0 has an absolute error of an ulp of 1",
        "nflows: Tanh's log-det is -inf from 19.1 on",
        "distreqx: Tanh's log-det near 0 has an absolute error of an ulp of 1",
        "bijx: the log-dets of Sigmoid and Tanh are -inf in the tails",
        "tfp: Tanh's log-det loses its digits near 0",
    ),
    "UnitVector": (
        "tfp: UnitVector's log-det has a constant of float32",
    ),
    "WeibullCDF": (
        "tfp: The gradients of WeibullCDF and Softsign are 0 far out",
    ),
    "WishartCholesky": (
        "tfp: The default bijector of WishartTriL reaches no variance below 0.48",
    ),
    "stochastic_durations": (
        "transformers: VITS' stochastic durations are trained in another order than they are sampled in",
    ),
}
WITHOUT = (                             # of maps that have no leaf
    "surjectors: sample_and_log_prob has the sign of a funnel's decoder wrong",
    "surjectors: the autoregressive funnels join their entries along the batch",
    "surjectors: RationalQuadraticSplineMaskedAutoregressiveInferenceFunnel raises",
    "bijx: FreeTheoryScaling raises if its mass is a parameter",
)
