"""TensorFlow Probability on JAX (tfp-nightly), as adapters: `refflow check tfp`.

Its forward_log_det_jacobian(z, event_ndims) is log_det here.  Where x has more entries than free numbers, its inverse is a
function of the chart, as in `torch`.

Conventions that differ without being defects:
- a bijector whose Jacobian is constant may return one log-det for the whole batch: it is broadcast here;
- a Python number given to a bijector is rounded to float32, whatever the event is: an array keeps its digits;
- FillTriangular takes the entries of a triangle in the order of a spiral, here reordered.

Left out: maps without a page (the Frechet, Gompertz, Gumbel, Kumaraswamy, Moyal and Rayleigh distributions and others), and the
default bijector of WishartTriL, which is not onto: its diagonal is softplus of softplus and stays above log 2.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from tensorflow_probability.substrates import jax as tfp

import refflow

from .shared import pinned
from .shared.constraints import declare_constraints
from .shared.jax import compiled, declaring

tfb, tfd = tfp.bijectors, tfp.distributions
version = pinned("tfp-nightly", "0.26.0.dev20261027")
declare = declaring("tfp.bijectors.")


def both(bijector, event_ndim=0, image_ndim=None):
    """(forward, inverse) with log-dets for each event, whose axes are counted."""
    image_ndim = event_ndim if image_ndim is None else image_ndim

    def forward(z):
        return bijector.forward(z), lambda: of_batch(bijector.forward_log_det_jacobian(z, event_ndim), z, event_ndim)

    def inverse(x):
        return bijector.inverse(x), lambda: of_batch(bijector.inverse_log_det_jacobian(x, image_ndim), x, image_ndim)

    return forward, inverse


def of_batch(log_det, event, event_ndim):
    return jnp.broadcast_to(log_det, event.shape[:event.ndim - event_ndim]) if jnp.ndim(log_det) == 0 else log_det


def shift_and(bijector, shift):
    return tfb.Chain([tfb.Shift(shift), bijector])


declare("Affine", "Chain[Shift, Scale]", lambda p: both(shift_and(tfb.Scale(p["scale"]), p["shift"])), broadcast=True)
declare("Exp", "Exp", lambda p: both(tfb.Exp()))
declare("LambertWTail", "LambertWTail", compiled(lambda p: both(tfb.LambertWTail(shift=0.0, scale=1.0, tailweight=p["tailweight"]))),
        gradients=False)
declare("NormalCDF", "Chain[NormalCDF, Shift, Scale]", lambda p: both(
    tfb.Chain([tfb.NormalCDF(), tfb.Scale(1 / p["scale"]), tfb.Shift(-p["loc"])])),
    params={"scale": lambda scale: np.frexp(scale)[0] == 0.5})              # a power of two, so that 1/scale is exact
declare("Power", "Power", lambda p: both(tfb.Power(jnp.asarray(p["exponent"]))), gradients=False)
declare("Sigmoid", "Sigmoid", lambda p: both(tfb.Sigmoid()))
declare("SinhArcsinh", "SinhArcsinh", compiled(lambda p: both(tfb.SinhArcsinh(p["skewness"], p["tailweight"]))))
declare("Softplus", "Softplus", lambda p: both(tfb.Softplus()))
declare("Softsign", "Softsign", lambda p: both(tfb.Softsign()))
declare("Tanh", "Tanh", lambda p: both(tfb.Tanh()))
declare("WeibullCDF", "WeibullCDF", compiled(lambda p: both(tfb.WeibullCDF(p["scale"], p["concentration"]))))
declare("Ordered", "Ascending", lambda p: both(tfb.Ascending(), 1))
declare("Permutation", "Permute", lambda p: both(tfb.Permute(p["order"]), 1))
declare("StickBreaking", "IteratedSigmoidCentered", compiled(lambda p: both(tfb.IteratedSigmoidCentered(), 1)), chart_gradient=True)


# -- with fields of our choice ----------------------------------------------------------------------------------------

def spline(p):
    """Widths and heights are exact differences of these knots; the slopes at the ends are 1."""
    inner = p["stages"]["0"]
    widths, heights = jnp.diff(inner["input_knots"]), jnp.diff(inner["output_knots"])
    return both(tfb.RationalQuadraticSpline(widths, heights, inner["slopes"][1:-1], range_min=-4.0))


def lu(p):
    inner = p["stages"]["0"]
    packed = inner["lower"] + inner["upper"] + jnp.diag(inner["scale"])
    return both(tfb.ScaleMatvecLU(packed, jnp.asarray(np.argsort(ORDER))), 1)


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


ORDER = [2, 0, 1]
FIELDS = [f"stages.0.{name}" for name in ("input_knots", "output_knots", "slopes")]     # their ends are numbers to it
knots = refflow.RationalQuadraticSpline(input_knots=[-4.0, -2.5, -0.5, 1.0, 4.0], output_knots=[-4.0, -3.0, 0.5, 0.75, 4.0],
                                        slopes=[1.0, 0.25, 3.0, 0.125, 1.0])
declare("CholeskyFactor", "FillScaleTriL [diag_bijector=Exp]", cholesky_factor, chart_gradient=True)
declare(refflow.Chain([knots]), "RationalQuadraticSpline", spline,
        fixed=FIELDS)
declare(refflow.Chain([refflow.PLULinear(order=ORDER, lower=[[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], shift=None,
                                         upper=[[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]], scale=[0.75, -1.5, 2.0])]),
        "ScaleMatvecLU", lu)


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
