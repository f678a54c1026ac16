"""What would be right in the place of each finding: a formula, or one change, that the text of `refflow finding` ends with."""

from __future__ import annotations

BOTH_TAILS = "log|dx/dz| = -softplus(-z) - softplus(z), in which neither term cancels or overflows."
BOTH_TAILS_OF_SIGMOID = BOTH_TAILS + "  Its derivative is sigmoid(-z) - sigmoid(z)."
ONE_SIGMOID = "1/(1 + exp(-z)) for z > 0 and exp(z)/(1 + exp(z)) elsewhere, which jax.nn.sigmoid is."
SMALL_LOG_COSH = ("log|dx/dz| = -2 log cosh z.  For |z| < 1/2: -2 log1p(2 sinh(z/2)^2); elsewhere: -2 (|z| + log1p(exp(-2 |z|)) - log 2).  "
                  "The first keeps all digits near 0, the second does not overflow.")
LAST_PART = ("The last part is the product of all 1 - sigmoid(z_k), and 1 - sigmoid(z) = sigmoid(-z).  So x_K = exp(-sum_k softplus(z_k)), "
             "with the shifts of the z_k as they are, and nothing cancels.")
LOGS_OF_PARTS = ("log|det| = -sum_k (softplus(-z_k) + (K - k) softplus(z_k)), from the z_k with their shifts: the logarithms of the parts "
                 "are computed before the parts underflow.")

SLACK = ("Keep the slack c = softplus(w^T u) beside u_hat, and use 1 + (c - 1) h'(a) in the log-det, so that c is never found again as "
         "1 + w^T u_hat.")
RADIAL_SLACK = ("Keep alpha + beta = softplus(beta') as it is: the log-det is (D - 1) log1p(beta h) + log((r^2 + 2 r alpha + alpha (alpha + "
                "beta))/(alpha + r)^2) with h = 1/(alpha + r), which at the centre is D log((alpha + beta)/alpha).")
BOTH_SUMS = ("Sums from both ends: x_k = log(z_1 + ... + z_k) - log(z_(k+1) + ... + z_K).  Of the inverse, "
             "z_K = sigmoid(-x_(K-1)), and z_k = sigmoid(-x_(k-1)) - sigmoid(-x_k) where x_k > 0.")

REMEDIES = {
    ("torch", "AffineTransform counts one scale for a whole event"):
        "Expand log|scale| to the shape of the event before it is summed over the event's axes.",
    ("torch", "the normal quantile in float32 is -inf from 1.5e-8 down"):
        "Phi^-1(x) = ndtri(x), which does not form 2 x - 1; or -sqrt(2) erfcinv(2 x).",
    ("torch", "StickBreakingTransform clips its log-det"): LOGS_OF_PARTS,
    ("torch", "StickBreakingTransform takes the last part as 1 minus the others"): LAST_PART,
    ("torch", "TanhTransform's log-det near 0 has an absolute error of an ulp of 1"): SMALL_LOG_COSH,
    ("torch", "a scale after StickBreakingTransform counts one dimension too many"):
        "On the simplex of K entries, a scale counts K - 1 of them; or refuse a transform of all entries after one that leaves a "
        "set of lower dimension.",
    ("torch", "the CDF of Cauchy is 0 in its left tail, and its log-det is infinite far out"):
        "x = arctan2(1, -z)/pi; log dx/dz = -log pi - 2 log hypot(1, z); z = -1/tan(pi x) for x < 1/2.",
    ("torch", "the CDF of Gumbel rounds its tails away and raises there"):
        "x = exp(-exp(-z)), without the uniform variable between.",
    ("nflows", "CauchyCDF ignores its location and its scale"):
        "Keep the arguments and map (z - location)/scale, with log scale taken from the log-det; or take none.",
    ("nflows", "LeakyReLU's log-det is a float32 constant"): "Compute log(slope) in the dtype of the inputs.",
    ("nflows", "PiecewiseQuadraticCDF jumps in density at the tails"):
        "With widths w_k and unnormalised heights v_k, the area under the end bin with end height h is w_0 (h + v_1)/2: a half, where "
        "the code has a quarter.  Solve the normalised end height = 1 with it.",
    ("nflows", "PiecewiseQuadraticCDF has no inverse where two heights are equal"):
        "The root of a t^2 + b t + c = 0 in its stable form, t = -2 c/(b + sqrt(b^2 - 4 a c)), which is -c/b where a = 0.",
    ("nflows", "PiecewiseLinearCDF's inverse uses other knots than its forward"):
        "Make the knots in the dtype of the inputs, and add the tolerance of the search to a copy of them.",
    ("nflows", "Tanh's log-det is -inf from 19.1 on"): SMALL_LOG_COSH,
    ("nflows", "LogTanh's slope jumps at its cut point"):
        "alpha = c (1 - tanh(c)^2), which makes the slope alpha/z that of tanh at c, and beta = exp(tanh(c)/alpha)/c.",
    ("nflows", "NaiveLinear has no inverse with a torch of today"): "torch.linalg.solve(weight, outputs).",
    ("nflows", "SqueezeTransform has no inverse but for an even factor"): "c % self.factor ** 2 in the place of c % 4.",
    ("normflows", "transforms.Shift writes to its input"): "z = z - self.shift.",
    ("normflows", "transforms.Logit is not the map of its docstring"):
        "alpha + (1 - alpha) z and log(1 - alpha), or 1 - 2 alpha in the docstring.",
    ("zuko", "RotationTransform's gradient loses digits where its cotangent is large"):
        "In torch: divide the cotangent by a power of two near its norm before the block matrix is made, and multiply the gradient by it.",
    ("zuko", "GaussianizationTransform saturates at 4.89"):
        "Phi^-1 of a mean from the smaller tail: with m = mean_i Phi(u_i) and n = mean_i Phi(-u_i), ndtri(m) where m < 1/2, and "
        "-ndtri(n) elsewhere; no factor is needed.",
    ("zuko", "BoundedBernsteinTransform jumps at its bounds"):
        "Take the line's ends at the bounds themselves, where the polynomial's value and slope are those of its end coefficients.",
    ("pyro", "Spline evaluates the wrong bin within 1e-6 above a knot"):
        "Search without a tolerance: an input at a knot may belong to either bin, one above it to the upper.",
    ("pyro", "ELUTransform's inverse adds 1e-8"): "log1p(x) for x < 0, which is finite for every x > -1.",
    ("pyro", "AffineAutoregressive has no inverse in float64"): "Start from torch.zeros_like(y).",
    ("pyro", "A log-scale far beyond its clamp is not clamped"):
        "A function whose forward is torch.clamp and whose backward passes the cotangent on, in place of x + (clamp(x) - x).detach().",
    ("pyro", "The log-dets of Polynomial and NeuralAutoregressive add 1e-8"):
        "Without 1e-8: log of the slope, and log(softplus(raw)) of a rate, which is the raw number below -40.",
    ("pyro", "Polynomial moved to float64 integrates with thirds of float32"): "Divide by power_mask, whose integers are exact.",
    ("tfp", "RayleighCDF's inverse log-det has a float32 constant"): "Take the root of 2 in the dtype of the event.",
    ("pyro", "BlockAutoregressive's log-det divides by another norm than its map"):
        "Use one norm in both: log W_ij = gain + w_ij - log(|w| + 1e-8), of the same rows.",
    ("pyro", "SimplexToOrderedTransform takes the last part as 1 minus the others"): BOTH_SUMS,
    ("distrax", "Sigmoid is exp below -9"): ONE_SIGMOID,
    ("distrax", "the gradient of Sigmoid's log-det is NaN in the tails"): BOTH_TAILS_OF_SIGMOID,
    ("distreqx", "ScalarAffine's log-det has the shape of its scale, not of the event"):
        "jnp.broadcast_to(self.log_scale, jnp.broadcast_shapes(self.scale.shape, self.shift.shape, x.shape)), as in distrax.",
    ("distreqx", "Sigmoid is exp below -9"): ONE_SIGMOID,
    ("distreqx", "the gradient of Sigmoid's log-det is NaN in the tails"): BOTH_TAILS_OF_SIGMOID,
    ("distreqx", "Tanh's log-det near 0 has an absolute error of an ulp of 1"): SMALL_LOG_COSH,
    ("surjectors", "sample_and_log_prob has the sign of a funnel's decoder wrong"):
        "Return minus the decoder's log-density from forward: -lc in Slice, and lc - jac_det in the funnels, where jac_det is its name.",
    ("surjectors", "the autoregressive funnels join their entries along the batch"): "jnp.concatenate([y_plus, y_minus], axis=-1).",
    ("surjectors", "RationalQuadraticSplineMaskedAutoregressiveInferenceFunnel raises"):
        "Hand the parent lambda params: distrax.RationalQuadraticSpline(params, range_min, range_max).",
    ("surjectors", "MADE takes one axis of batches alone"):
        "output.reshape(*output.shape[:-1], self.input_size, self.n_params).",
    ("surjectors", "the log-dets of affine layers pass through exp"): "distrax.ScalarAffine(means, log_scale=log_scales).",
    ("bijx", "the log-dets of Sigmoid and Tanh are -inf in the tails"): BOTH_TAILS + "  Of tanh: " + SMALL_LOG_COSH,
    ("bijx", "the gradient of MonotoneRQSpline is halved at a knot and quartered at an end"):
        "jnp.where(in_bounds, inputs, 0.5) in place of the clip of inputs; a position in the bin that searchsorted finds needs none.",
    ("bijx", "MonotoneRQSpline does not use its min_bin_width, min_bin_height and min_slope"):
        "Pass the three from self to rational_quadratic_spline in apply.",
    ("bijx", "FreeTheoryScaling raises if its mass is a parameter"):
        "Keep the momenta in self.ks, compute the spectrum from self.m2.get_value(), and give SpectrumScaling the shape of the spectrum.",
    ("bijx", "CondInverse has no method invert"): "Store the flag under another name, and negate its value.",
    ("freia", "InvertibleSigmoid sums its log-det over one axis"): "Sum over all axes but that of the batch.",
    ("freia", "InvertibleSigmoid's log-det is -inf from 89 on in float32"): BOTH_TAILS,
    ("freia", "Fixed1x1Conv multiplies by the transpose of its matrix"): "Use M as the kernel as it is.",
    ("freia", "LearnedElementwiseScaling's inverse has the log-det of its forward"):
        "Sum `scale`, which has the sign of the direction, and once for each event of the batch.",
    ("freia", "LearnedElementwiseScaling does not start at init_scale"): "np.log(init_scale) * torch.ones(1, *dims_in[0]).",
    ("freia", "InvAutoAct has neither of its slopes at 0"):
        "torch.where(x >= 0, alpha, -alpha) in the place of alpha * x.sign().",
    ("freia", "HaarDownsampling's inverse writes to its input"): "x_perm = x_perm * self.fac_rev.",
    ("normflows", "Composite adds log-dets in float32"):
        "total_logabsdet = zero_log_det_like_z(inputs), which the same file has, and no addition in place.",
    ("normflows", "Planar loses its constraint to rounding"):
        "Keep softplus(w^T u) beside u_hat: 1 + w^T u_hat h' = 1 - h' + softplus(w^T u) h', in which nothing cancels.",
    ("normflows", "Planar is infinite or NaN for large w^T u"): "torch.nn.functional.softplus(t) in the place of log(1 + exp(t)).",
    ("normflows", "Planar with leaky_relu has a slope of float32 digits"):
        "torch.where(a < 0, slope, 1.0) in the dtype of z, in the place of the mask of truth values.",
    ("normflows", "Radial loses its constraint to rounding"):
        "Keep softplus(beta') itself: at the centre, log(1 + beta/alpha) = log softplus(beta') - log alpha, with a softplus "
        "that neither rounds to 0 nor overflows.",
    ("normflows", "Radial lets alpha be 0"): "alpha = exp(log_alpha), or softplus of its number.",
    ("normflows", "Residual's inverse stops before it has the root"):
        "Go on until the change itself is at most the tolerance, or until it no longer falls; z is then within |change| L/(1 - L) of the root.",
    ("normflows", "Residual's log-det loses the digits of a small Jacobian"):
        "For pairs, log1p(J_00) + log1p(J_11 - J_01 J_10/(1 + J_00)).",
    ("torchflows", "Planar folds space where w^T u < -4"):
        "The slope of the sigmoid is at most 1/4: u + (softplus(w^T u) - 4 - w^T u) w/|w|^2 in the place of u, so that w^T u > -4.",
    ("torchflows", "Radial has the log-det of neither map"):
        "r = |z - z0| over all entries, for the flow of the paper; for the code's map, the sum of the logarithms of all slopes alone.",
    ("torchflows", "Sylvester layers with the number of units that they choose raise"):
        "As many units as entries, if none is given, or matrices Q of entries times units.",
    ("torchflows", "the log-det of an autoregressive inverse is taken at other points"):
        "Keep z, invert it with h of the entries found so far, and add the log-det of the entry that each round finds; or, in the end, "
        "minus the log-det of forward at x.",
    ("torchflows", "the 1x1 convolution counts one pixel"): "Multiply the log-det of the matrix by the number of pixels.",
    ("torchflows", "the sigmoidal transformers have the log-det of no map"):
        "log dx/dz = -log d - log(1 - d) + logsumexp_k(log w_k + log a_k + log sigmoid(c_k) + log sigmoid(-c_k)), with c_k = a_k z + b_k.",
    ("normflows", "Residual's log-det in training is another number"):
        "Return the sum (-1)^(k+1) w_k/k e^T J^k e, whose powers are computed already, with the gradient of Neumann's series.",
    ("normflows", "Residual takes the log-det's cotangent of the first row for all rows"):
        "Keep the gradient of each row's log-det apart, or refuse cotangents that differ; reduce_memory=False has it right.",
    ("torchflows", "a continuous flow's log-det has no gradient"):
        "torch.autograd.grad(dz, x, e, create_graph=True), without torch.no_grad(), as the line that is commented out has it.",
    ("torchflows", "a continuous flow's penalty of the Jacobian adds itself"): "return dxdt, app_div, delta_jac.",
    ("torchflows", "a continuous flow takes one step, whatever its tolerances"):
        'Let the default be an adaptive solver, as "dopri5", or pass options={"step_size": ...} to odeint.',
    ("torchflows", "a continuous flow ends at a time of float32 digits"): "Keep end_time itself, in float64.",
    ("torchflows", "SpectralMatrix does not use its coefficient"): "self.data / torch.clamp(sigma / self.c, min=1).",
    ("torchflows", "LUMatrix raises in float64"): "Make the identity in the dtype of the parameter: torch.eye(n, dtype=..., device=...).",
    ("torchflows", "Cubic raises in the first and in the last bin"):
        "At the end knots take the slope of the only bin, or a slope from the last two raw numbers, which are not used; and give x_k the "
        "shape of x.",
    ("torchflows", "LinearRational's log-det has an eps that its map has not"):
        "2 log of the denominator itself, which is a sum of positive terms inside a bin.",
    ("pyro", "BlockAutoregressive's log-det is of other weights than its map"):
        "Take the logarithm of the row's norm once, as log(|w| + eps), for the weights and for the log-det.",
    ("torchflows", "RationalQuadratic with raw numbers 0 is not the identity"): "Pad the raw slopes with 0, as they are before c is added.",
    ("pzflow", "InvSoftplus overflows and cancels"):
        "x = max(z, 0) + log1p(exp(-|z|)), and z = x + log(-expm1(-x)).",
    ("pzflow", "the spline's gradient is NaN beyond twice its bound"):
        "Replace inputs beyond the bound by a point inside the interval, 0 for instance, before the search.",
    ("transformers", "the VITS spline raises if no input lies inside the bound"):
        "Return the inputs and log-dets of 0 where no input lies inside the bound.",
    ("transformers", "VITS' stochastic durations are trained in another order than they are sampled in"):
        "Do not exchange the channels after the affine map in the loss, as VITS does not.",
    ("tfp", "LambertWTail's log-det is NaN beyond 26"):
        "tailweight z^2/2 + log1p(tailweight z^2), from z; of the inverse, from the z that it returns.",
    ("tfp", "IteratedSigmoidCentered's log-det is -inf far out, and its last part is 1 minus the others"): LOGS_OF_PARTS + "  " + LAST_PART,
    ("tfp", "Tanh's log-det loses its digits near 0"): SMALL_LOG_COSH,
    ("tfp", "Sigmoid's gradient and Softplus's inverse log-det are 0 above 37"):
        "sigmoid(z) sigmoid(-z) in place of y (1 - y); -log(-expm1(-x)) in place of -log(1 - exp(-x)).",
    ("tfp", "SinhArcsinh is NaN, and its log-det -inf, for heavy tails"):
        "sinh(a)/sinh(b) = exp(|a| - |b|) expm1(-2 |a|)/expm1(-2 |b|), with the sign of a b: the quotient of exponentials is taken first.",
    ("tfp", "The gradients of WeibullCDF and Softsign are 0 far out"):
        "A custom gradient: exp(-z) of -expm1(-z), and 1/(1 + |z|)^2 of z/(1 + |z|), each from z.",
    ("tfp", "Softsign's inverse log-det has lost two digits near -0.41"):
        "-2 log(1 - |x|) for |x| > 1/4, where the rounding of 1 - |x| is small beside its logarithm; -2 log1p(-|x|) elsewhere.",
    ("tfp", "A Dirichlet through the inverse of SoftmaxCentered has the mass sqrt 3"):
        "Without log(K)/2 the log-det is that of coordinates, as the density of Dirichlet is.",
    ("tfp", "An LKJ through its own default bijector has the mass pi"):
        "Of R = L L^T with unit rows, log|det| = sum_i (D - i) log L_ii for i = 2 to D, by the entries below the diagonal.",
    ("tfp", "The default bijector of WishartTriL reaches no variance below 0.48"): "One softplus on the diagonal.",
    ("tfp", "UnitVector's log-det has a constant of float32"): "The logarithm of 2 in the dtype of the event.",
    ("numpyro", "StickBreakingTransform takes the last part as 1 minus the others"): LAST_PART,
    ("numpyro", "StickBreakingTransform's log-det and gradient are infinite far out"): LOGS_OF_PARTS,
    ("numpyro", "SimplexToOrderedTransform takes the last part as 1 minus the others"): BOTH_SUMS,
    ("numpyro", "CorrCholeskyTransform of float32 raises where float64 is enabled"): "Make the zeros in the dtype of the input.",
    ("pymc", "logodds' log-det is -inf from 37 on"): BOTH_TAILS,
    ("pymc", "Interval with numbers as bounds has a float32 constant in its log-det"):
        "Make the bounds constants of the dtype of the value.",
    ("pyro", "Planar loses its constraint to rounding"): SLACK,
    ("flowjax", "Planar loses its constraint to rounding"): SLACK,
    ("flowjax", "LeakyTanh's inverse loses two digits near 0.414"):
        "copysign(log1p(2 |x|/(1 - |x|))/2, x): of numbers above 0, this log1p is right to 3 ulps.",
    ("flowjax", "Planar is not the map of the appendix that it cites"): "m(t) = -1 + softplus(t).",
    ("flowjax", "Planar takes negative slopes at which it folds space"): "Refuse a negative_slope above 1.",
    ("pyro", "Radial loses its constraint to rounding"): RADIAL_SLACK,
    ("pyro", "Sylvester's log-det is not the determinant of its map"):
        "Multiply rows by the transposes of Q R and of S Q^T; then the product of 1 + h'(a_i) r_ii s_ii is the determinant.",
    ("flowtorch", "Invert has the log-det of the map that it inverts"): "-self.bijector.log_abs_det_jacobian(y, x, context).",
    ("flowtorch", "Compose raises with an Invert among its bijectors"):
        "Make the image of Invert remember a forward pass of Invert itself, with minus the log-det of the bijector inside.",
    ("flowtorch", "Compose adds log-dets of entries to log-dets of vectors"):
        "Sum the log-dets of each bijector over the axes by which the event of the composition exceeds its own, before they are added.",
    ("flowtorch", "DenseAutoregressive takes the sum of a shape for the number of entries"):
        "The product of the shape: input_shape.numel().",
    ("flowtorch", "ELU's inverse adds 1e-8"): "log1p(x) for x < 0, which is finite for every x > -1.",
    ("flowtorch", "Spline evaluates the wrong bin within 1e-6 above a knot"):
        "Search without a tolerance: an input at a knot may belong to either bin, one above it to the upper.",
    ("flowtorch", "The inverse of a quadratic Spline raises for inputs beyond its bound"):
        "Replace inputs beyond the bound by a point inside before the quadratic is solved, or assert inside the bound alone.",
    ("flowtorch", "A log-scale far beyond its clamp is not clamped"):
        "A function whose forward is torch.clamp and whose backward passes the cotangent on, in place of x + (clamp(x) - x).detach().",
    ("bayesflow", "CouplingFlow does not pass transform_kwargs to an affine transform"): "AffineTransform(**kwargs) in find_transform.",
    ("bayesflow", "OrthogonalPermutation counts all positions in the log-det of each"):
        "Broadcast log|det W| to all axes of the input but the last, without a factor.",
    ("bayesflow", "SplineTransform does not start at its default domain"): "log(exp(sinh(1)) - 1) = log(expm1(sinh(1))) as the constant.",
    ("bayesflow", "The log-det of Constrain with one bound is -inf from 710 on"): "-log(-expm1(-x)), with x the distance from the bound.",
}
