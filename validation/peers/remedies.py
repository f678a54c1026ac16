"""What would be right in the place of each finding: a formula, or one change, that the text of `refflow finding` ends with."""

from __future__ import annotations

BOTH_TAILS = "log|dx/dz| = -softplus(-z) - softplus(z), in which neither term cancels or overflows."
SMALL_LOG_COSH = ("log|dx/dz| = -2 log cosh z.  For |z| < 1/2: -2 log1p(2 sinh(z/2)^2); elsewhere: -2 (|z| + log1p(exp(-2 |z|)) - log 2).  "
                  "The first keeps all digits near 0, the second does not overflow.")
LAST_PART = ("The last part is the product of all 1 - sigmoid(z_k), and 1 - sigmoid(z) = sigmoid(-z).  So x_K = exp(-sum_k softplus(z_k)), "
             "with the shifts of the z_k as they are, and nothing cancels.")
LOGS_OF_PARTS = ("log|det| = -sum_k (softplus(-z_k) + (K - k) softplus(z_k)), from the z_k with their shifts: the logarithms of the parts "
                 "are computed before the parts underflow.")

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
    ("normflows", "transforms.Shift writes to its input"): "z = z - self.shift.",
    ("normflows", "transforms.Logit is not the map of its docstring"):
        "alpha + (1 - alpha) z and log(1 - alpha), or 1 - 2 alpha in the docstring.",
    ("zuko", "GaussianizationTransform saturates at 4.89"):
        "Phi^-1 of a mean from the smaller tail: with m = mean_i Phi(u_i) and n = mean_i Phi(-u_i), ndtri(m) where m < 1/2, and "
        "-ndtri(n) elsewhere; no factor is needed.",
    ("zuko", "BoundedBernsteinTransform jumps at its bounds"):
        "Take the line's ends at the bounds themselves, where the polynomial's value and slope are those of its end coefficients.",
    ("pyro", "Spline evaluates the wrong bin within 1e-6 above a knot"):
        "Search without a tolerance: an input at a knot may belong to either bin, one above it to the upper.",
    ("pyro", "ELUTransform's inverse adds 1e-8"): "log1p(x) for x < 0, which is finite for every x > -1.",
    ("pyro", "AffineAutoregressive has no inverse in float64"): "Start from torch.zeros_like(y).",
    ("pyro", "The log-dets of Polynomial and NeuralAutoregressive add 1e-8"):
        "Without 1e-8: log of the slope, and log(softplus(raw)) of a rate, which is the raw number below -40.",
    ("pyro", "Polynomial moved to float64 integrates with thirds of float32"): "Divide by power_mask, whose integers are exact.",
    ("pyro", "BlockAutoregressive's log-det divides by another norm than its map"):
        "Use one norm in both: log W_ij = gain + w_ij - log(|w| + 1e-8), of the same rows.",
    ("pyro", "SimplexToOrderedTransform takes the last part as 1 minus the others"): BOTH_SUMS,
    ("distrax", "Sigmoid is exp below -9"): "1/(1 + exp(-z)) for z > 0 and exp(z)/(1 + exp(z)) elsewhere, which jax.nn.sigmoid is.",
    ("distrax", "the gradient of Sigmoid's log-det is NaN in the tails"):
        BOTH_TAILS + "  Its derivative is sigmoid(-z) - sigmoid(z).",
    ("bijx", "the log-dets of Sigmoid and Tanh are -inf in the tails"): BOTH_TAILS + "  Of tanh: " + SMALL_LOG_COSH,
    ("freia", "InvertibleSigmoid sums its log-det over one axis"): "Sum over all axes but that of the batch.",
    ("freia", "InvertibleSigmoid's log-det is -inf from 89 on in float32"): BOTH_TAILS,
    ("freia", "Fixed1x1Conv multiplies by the transpose of its matrix"): "Use M as the kernel as it is.",
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
    ("tfp", "Softsign's inverse log-det has lost two digits near -0.41"): "-2 log(1 - |x|) for |x| > 1/4, where the rounding of 1 - |x| is small beside its logarithm; -2 log1p(-|x|) elsewhere.",
    ("tfp", "A Dirichlet through the inverse of SoftmaxCentered has the mass sqrt 3"):
        "Without log(K)/2 the log-det is that of coordinates, as the density of Dirichlet is.",
    ("tfp", "An LKJ through its own default bijector has the mass pi"):
        "Of R = L L^T with unit rows, log|det| = sum_i (D - i) log L_ii for i = 2 to D, by the entries below the diagonal.",
    ("tfp", "The default bijector of WishartTriL reaches no variance below 0.48"): "One softplus on the diagonal.",
    ("numpyro", "StickBreakingTransform takes the last part as 1 minus the others"): LAST_PART,
    ("numpyro", "StickBreakingTransform's log-det and gradient are infinite far out"): LOGS_OF_PARTS,
    ("numpyro", "SimplexToOrderedTransform takes the last part as 1 minus the others"): BOTH_SUMS,
    ("numpyro", "CorrCholeskyTransform of float32 raises where float64 is enabled"): "Make the zeros in the dtype of the input.",
    ("pymc", "logodds' log-det is -inf from 37 on"): BOTH_TAILS,
    ("pymc", "Interval with numbers as bounds has a float32 constant in its log-det"):
        "Make the bounds constants of the dtype of the value.",
}
