"""TensorFlow Probability on JAX (tfp-nightly), as adapters: `refflow check tfp`.

Its forward_log_det_jacobian(z, event_ndims) is log_det here.  Where x has more entries than free numbers, its inverse is a
function of the chart, as in `torch`.

Conventions that differ without being defects:
- a log-det that is the same for several events of a batch may have axes of 1 or none for these: it is broadcast here;
- a Python number given to a bijector is rounded to float32, whatever the event is: an array keeps its digits;
- FillTriangular takes the entries of a triangle in the order of a spiral, here reordered;
- a masked autoregressive flow goes from x to z in one pass, z = (x - shift) exp(-log_scale);
- MatrixInverseTriL raises under jax.jit, and is not compiled here;
- RationalQuadraticSpline raises there unless shapes are known as numbers, as they are here inside other maps; alone it is not compiled;
- the power of PowerTransform is a Python number.

Left out: maps that TensorFlow alone has (BatchNormalization, DiscreteCosineTransform, Glow with all that it is made of), and the
default bijector of WishartTriL, which is not onto: its diagonal is softplus of softplus and stays above log 2.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from tensorflow_probability.substrates import jax as tfp

import refflow
from refflow.maps.coupling import Family, additive_family, affine_family
from refflow.maps.elementwise import ExpScale
from refflow.maps.parametrisations import SPLINES, LocationScale, Premultiplied
from refflow.models.gaussian import lower_triangular

from .shared import pinned
from .shared.constraints import declare_constraints
from .shared.jax import compiled, declaring, evaluated
from .shared.networks import alone, autoregressive, coupling, masked_outputs, of_stage, outputs

tfb, tfd = tfp.bijectors, tfp.distributions
version = pinned("tfp-nightly", "0.26.0.dev20261027")
declare = declaring("tfp.bijectors.")


def both(bijector, event_ndim=0, image_ndim=None):
    """(forward, inverse) with log-dets for each event, whose axes are counted."""
    image_ndim = event_ndim if image_ndim is None else image_ndim

    def forward(z):
        x = bijector.forward(z)
        return x, lambda: of_batch(bijector.forward_log_det_jacobian(z, event_ndim), x, image_ndim)

    def inverse(x):
        z = bijector.inverse(x)
        return z, lambda: of_batch(bijector.inverse_log_det_jacobian(x, image_ndim), z, event_ndim)

    return forward, inverse


def of_batch(log_det, image, image_ndim):
    return jnp.broadcast_to(log_det, image.shape[:image.ndim - image_ndim])


def affine(p):
    return tfb.Chain([tfb.Shift(p["shift"]), tfb.Scale(p["scale"])])


declare("Affine", "Chain[Shift, Scale]", lambda p: both(affine(p)), broadcast=True)
declare("Exp", "Exp", lambda p: both(tfb.Exp()))
declare("LambertWTail", "LambertWTail", compiled(lambda p: both(tfb.LambertWTail(shift=0.0, scale=1.0, tailweight=p["tailweight"]))),
        gradients=False)
declare("NormalCDF", "NormalCDF [after Scale and Shift]", lambda p: both(
    tfb.Chain([tfb.NormalCDF(), tfb.Scale(1 / p["scale"]), tfb.Shift(-p["loc"])])),
    params={"scale": lambda scale: np.frexp(scale)[0] == 0.5})              # a power of two, so that 1/scale is exact
declare("Power", "Power", lambda p: both(tfb.Power(jnp.asarray(p["exponent"]))), gradients=False)
declare("Sigmoid", "Sigmoid", lambda p: both(tfb.Sigmoid()))
declare("SinhArcsinh", "SinhArcsinh", compiled(lambda p: both(tfb.SinhArcsinh(p["skewness"], p["tailweight"]))))
declare("Sinh", "Sinh", lambda p: both(tfb.Sinh()))
declare(alone(refflow.SignedPower(-1.0)), "Reciprocal", lambda p: both(tfb.Reciprocal()), fixed=["stages.0.exponent"])
declare("Softplus", "Softplus", lambda p: both(tfb.Softplus()))
declare("Softsign", "Softsign", lambda p: both(tfb.Softsign()))
declare("Tanh", "Tanh", lambda p: both(tfb.Tanh()))
declare("WeibullCDF", "WeibullCDF", compiled(lambda p: both(tfb.WeibullCDF(p["scale"], p["concentration"]))))
declare("Expm1", "Expm1", lambda p: both(tfb.Expm1()))
declare("Expm1", "Log1p", lambda p: both(tfb.Log1p()), direction="inverse")
declare("GumbelCDF", "GumbelCDF", compiled(lambda p: both(tfb.GumbelCDF(p["loc"], p["scale"]))))
declare("KumaraswamyCDF", "KumaraswamyCDF", compiled(lambda p: both(tfb.KumaraswamyCDF(p["concentration1"], p["concentration0"]))))
declare("Ordered", "Ascending", lambda p: both(tfb.Ascending(), 1))
declare("Permutation", "Permute", lambda p: both(tfb.Permute(p["order"]), 1))
declare("MatrixTranspose", "Transpose", lambda p: both(tfb.Transpose([1, 0]), 2))
declare("CholeskyOuterProduct", "CholeskyOuterProduct", compiled(lambda p: both(tfb.CholeskyOuterProduct(), 2)), chart_gradient=True)
declare("CholeskyToInverseCholesky", "CholeskyToInvCholesky", compiled(lambda p: both(tfb.CholeskyToInvCholesky(), 2)),
        chart_gradient=True)
declare("TriangularInverse", "MatrixInverseTriL", lambda p: both(tfb.MatrixInverseTriL(), 2), chart_gradient=True)
declare("Stereographic", "UnitVector", compiled(lambda p: both(tfb.UnitVector(), 1)), chart_gradient=True)
declare("StickBreaking", "IteratedSigmoidCentered", compiled(lambda p: both(tfb.IteratedSigmoidCentered(), 1)), chart_gradient=True)


# -- with fields of our choice ----------------------------------------------------------------------------------------

def spline(p):
    """Widths and heights are exact differences of these knots; the slopes at the ends are 1."""
    widths, heights = jnp.diff(p["input_knots"]), jnp.diff(p["output_knots"])
    return both(tfb.RationalQuadraticSpline(widths, heights, p["slopes"][1:-1], range_min=-4.0))


def lu(p):
    packed = p["lower"] + p["upper"] + jnp.diag(p["scale"])
    return tfb.ScaleMatvecLU(packed, jnp.asarray(np.argsort(ORDER)))


def of_positions(bijector):
    """Of events (channels, positions): TFP's channels are last."""
    def moved(call):
        def of(event):
            image, log_det = call(jnp.swapaxes(event, -1, -2))
            return jnp.swapaxes(image, -1, -2), log_det

        return of

    forward, inverse = both(bijector, 2)
    return moved(forward), moved(inverse)


def cholesky_factor(p):
    """The page's row by row, from and to the order of a spiral."""
    bijector = tfb.FillScaleTriL(diag_bijector=tfb.Exp(), diag_shift=None)
    forward, inverse = both(bijector, 1, 2)

    def from_spiral(L):
        z, log_det = inverse(L)
        return z[..., places(z.shape[-1])], log_det

    return lambda z: forward(z[..., np.argsort(places(z.shape[-1]))]), from_spiral


def places(size):
    """Where the entries of a triangle, row by row, stand in the spiral."""
    matrix = np.asarray(tfp.math.fill_triangular(jnp.arange(size)))
    return matrix[np.tril_indices(len(matrix))]


def triangular(p):
    """The page has a unit lower triangle times the diagonal."""
    return both(tfb.ScaleMatvecTriL((p["lower"] + jnp.eye(3, dtype=p["lower"].dtype)) * p["scale"]), 1)


def given(make, *numbers):
    """At numbers that are not fields of the composite, in the dtype of the event."""
    def direction(side):
        return lambda event: both(make(*(jnp.asarray(number, event.dtype) for number in numbers)))[side](event)

    return compiled(lambda p: (direction(0), direction(1)))


def declare_named(f, name, make, *numbers):
    """A composition whose stages' fields are not the library's, without gradients."""
    declare(alone(f), name, given(make, *numbers), gradients=False)


def blockwise(p):
    return both(tfb.Blockwise([tfb.Exp(), affine(p["parts"]["1"]["inner"])], block_sizes=[1, 3]), 1)


def on_diagonal(p):
    return both(tfb.TransformDiagonal(tfb.Exp()), 2)


def real_nvp(with_scale):
    def build(p):
        def shift_and_log_scale(a, *_, **__):
            h = outputs(p, 2)(a)
            return h[..., -1], h[..., 0] if with_scale else None

        return both(tfb.RealNVP(num_masked=1, shift_and_log_scale_fn=shift_and_log_scale), 1)

    return compiled(build)


def recipe(h):
    """The spline of TFP's documentation on [-1, 1]."""
    def bins(u):
        return jax.nn.softmax(u) * (2 - BINS * 1e-3) + 1e-3

    return tfb.RationalQuadraticSpline(bins(h[..., :BINS]), bins(h[..., BINS:2 * BINS]), jax.nn.softplus(h[..., 2 * BINS:]) + 1e-3,
                                       range_min=-1)


def with_known_shapes(make):
    """`make(params)`, compiled.  What is computed of shapes alone is computed while it is traced."""
    def known(call):
        def run(event):
            with jax.ensure_compile_time_eval():
                return evaluated(call(event))

        return run

    return compiled(lambda p: tuple(map(known, make(p))))


def spline_coupling(p):
    return both(tfb.RealNVP(num_masked=1, bijector_fn=lambda a, *_, **__: recipe(outputs(p, 2)(a))), 1)


def masked(p):
    """The numbers of each entry; masked weights have no effect."""
    return masked_outputs(p["inner"], jnp.tril, 3)


def masked_autoregressive(p):
    def shift_and_log_scale(x, **_):
        h = masked(p)(x)
        return h[..., 1], h[..., 0]

    return both(tfb.MaskedAutoregressiveFlow(shift_and_log_scale_fn=shift_and_log_scale), 1)


def spline_autoregressive(p):
    return both(tfb.MaskedAutoregressiveFlow(bijector_fn=lambda x, **_: tfb.Invert(recipe(masked(p)(x))), unroll_loop=True), 1)


BINS, LOW, HIGH = 3, -1.0, 2.0
ORDER = [2, 0, 1]
KNOTS = [f"stages.0.{name}" for name in ("input_knots", "output_knots", "slopes")]      # their ends are numbers to it
SHIFT, SCALE = ["stages.0.shift"], ["stages.0.scale"]
INNER = refflow.Affine(scale=1.5, shift=-0.25)
L = [[0.75, 0, 0], [0.5, -1.5, 0], [-0.25, 3, 2.0]]
AFFINE = ["shift", "scale"]
knots = refflow.RationalQuadraticSpline(input_knots=[-4.0, -2.5, -0.5, 1.0, 4.0], output_knots=[-4.0, -3.0, 0.5, 0.75, 4.0],
                                        slopes=[1.0, 0.25, 3.0, 0.125, 1.0])
plu = refflow.PLULinear(order=ORDER, lower=[[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], shift=None,
                        upper=[[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]], scale=[0.75, -1.5, 2.0])
splines = Family(refflow.RationalQuadraticSpline, SPLINES["TFP"](BINS))
to_latents = Family(refflow.ScaledShift, Premultiplied(LocationScale(ExpScale(), ("scale", "shift")), -np.eye(2)))
declare(alone(refflow.Affine()), "Identity", lambda p: both(tfb.Identity()), fixed=SHIFT + SCALE)
declare(alone(refflow.Affine(shift=0.75)), "Shift", of_stage(lambda p: both(tfb.Shift(p["shift"]))), fixed=SCALE)
declare(alone(refflow.Affine(scale=-1.5)), "Scale", of_stage(lambda p: both(tfb.Scale(p["scale"]))), fixed=SHIFT)
declare(refflow.Inverse(refflow.Exp()), "Log", lambda p: both(tfb.Log()))
declare(alone(refflow.Power(2.0)), "Square", lambda p: both(tfb.Square()), fixed=["stages.0.exponent"])
declare(alone(refflow.OpenInterval([LOW, HIGH])), "GeneralizedPareto [concentration=-0.5]",
        given(lambda low, high, shape: tfb.GeneralizedPareto(low, (high - low) / 2, shape), LOW, HIGH, -0.5), fixed=["stages.0.ends"])
declare_named(refflow.Inverse(refflow.BoxCox(0.5)), "PowerTransform [power=0.5]", lambda: tfb.PowerTransform(0.5))
declare_named(refflow.softplus_clip(LOW, HIGH), "SoftClip", tfb.SoftClip, LOW, HIGH)
declare_named(refflow.moyal_cdf(0.25, 2.0), "MoyalCDF", tfb.MoyalCDF, 0.25, 2.0)
declare_named(refflow.gompertz_cdf(1.5, 0.25), "GompertzCDF", tfb.GompertzCDF, 0.25, 1.5)
declare_named(refflow.frechet_cdf(0.25, 1.5, 2.0), "FrechetCDF", tfb.FrechetCDF, 0.25, 1.5, 2.0)
for shape in (0.5, -2.0):
    declare_named(refflow.generalised_extreme_value_cdf(0.25, 2.0, shape), f"GeneralizedExtremeValueCDF [concentration={shape}]",
                  tfb.GeneralizedExtremeValueCDF, 0.25, 2.0, shape)
declare_named(refflow.rayleigh_cdf(1.5), "RayleighCDF", tfb.RayleighCDF, 1.5)
declare("CholeskyFactor", "FillScaleTriL [diag_bijector=Exp]", cholesky_factor, chart_gradient=True)
declare(alone(knots), "RationalQuadraticSpline", of_stage(spline), fixed=KNOTS)
declare(alone(plu), "ScaleMatvecLU", of_stage(lambda p: both(lu(p), 1)))
declare(refflow.Pointwise(plu, 2), "ScaleMatvecLU [of each position]", lambda p: of_positions(lu(p["inner"])))
declare(alone(refflow.ActNorm(scale=[0.75, -1.5, 2.0])), "ScaleMatvecDiag",
        of_stage(lambda p: both(tfb.ScaleMatvecDiag(p["scale"]), 1)), fixed=["stages.0.bias"])
declare(alone(lower_triangular(np.array(L))), "ScaleMatvecTriL", of_stage(triangular), fixed=["stages.0.upper", *SHIFT])
declare(alone(refflow.HouseholderLinear([[0.5, -1.0, 0.5, 1.5]])), "Householder",
        of_stage(lambda p: both(tfb.Householder(p["vectors"][0]), 1)))
declare(alone(refflow.PLULinear(np.arange(4), np.tril(np.ones((4, 4)), -1), np.zeros((4, 4)), np.ones(4), None)), "Cumsum",
        lambda p: both(tfb.Cumsum(), 1), fixed=[f"stages.0.{name}" for name in ("lower", "upper", "scale")])
declare(refflow.Reshape((2, 3), (6,)), "Reshape", lambda p: both(tfb.Reshape((6,), (2, 3)), 2, 1))
declare(refflow.Concatenate([refflow.Exp(), INNER], (1, 3)), "Blockwise", blockwise)
declare(refflow.Chain([refflow.Reshape((2, 2), (4,)), refflow.Permutation([0, 3, 1, 2]),
                       refflow.Concatenate([refflow.Exp(), refflow.Affine()], (2, 2)), refflow.Permutation([0, 2, 3, 1]),
                       refflow.Reshape((4,), (2, 2))]),
        "TransformDiagonal", on_diagonal, fixed=[f"stages.2.parts.1.inner.{name}" for name in AFFINE])
declare(refflow.Chain([refflow.Exp(), INNER]), "Chain[Shift, Scale, Exp]",
        lambda p: both(tfb.Chain([affine(p["stages"]["1"]), tfb.Exp()])))
declare(refflow.Inverse(INNER), "Invert", lambda p: both(tfb.Invert(affine(p["inner"]))))
declare(coupling(additive_family()), "RealNVP [log_scale=None]", real_nvp(False), fixed=())
declare(coupling(affine_family(ExpScale())), "RealNVP", real_nvp(True), fixed=())
declare(coupling(splines, weights=False), "RealNVP [bijector_fn=RationalQuadraticSpline]", with_known_shapes(spline_coupling))
declare(refflow.Inverse(autoregressive(to_latents)), "MaskedAutoregressiveFlow", compiled(masked_autoregressive), fixed=())
declare(refflow.Inverse(autoregressive(splines, weights=False)), "MaskedAutoregressiveFlow [bijector_fn=RationalQuadraticSpline]",
        with_known_shapes(spline_autoregressive), fixed=["inner.net.W"])


# -- the constraints: the default bijectors of distributions ----------------------------------------------------------

def distribution(name, ends, dtype):
    """An example of a distribution by its name, whose support has these ends."""
    zero, one, lower, upper = (jnp.asarray(value, dtype) for value in (0, 1, *(ends or (0, 1))))
    examples = {"Normal": (zero, one), "Gamma": (one, one), "LogNormal": (zero, one), "InverseGamma": (one, one), "Beta": (one, one),
                "HalfCauchy": (lower, one), "Pareto": (one, lower), "Uniform": (lower, upper), "VonMises": (zero, one),
                "Dirichlet": (jnp.ones(3, dtype),), "CholeskyLKJ": (3, one), "LKJ": (3, one)}
    return getattr(tfd, name)(*examples[name])


def default_bijector(name, ends):
    def direction(side):
        def call(event):
            bijector = distribution(name, ends, event.dtype).experimental_default_event_space_bijector()
            return both(bijector, bijector.forward_min_event_ndims, bijector.inverse_min_event_ndims)[side](event)

        return call

    return direction(0), direction(1)


declare_constraints("tfp", declare, default_bijector)
