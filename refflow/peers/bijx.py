"""bijx 1.3.2, as adapters: `refflow check bijx`.

fwd, rev and log_jac of its scalar bijections, without the log-density that they usually carry; of other maps, what they take
from a log-density of 0.  Raw parameters are replaced by the page's fields.  A coupling's network is one layer, see
`shared.networks`; the numbers of a spline inside stand in the order of their names: heights, slopes, widths.
"""

from __future__ import annotations

import bijx
import jax.numpy as jnp
import numpy as np
from bijx.bijections.splines import rational_quadratic_spline
from flax import nnx

import refflow
from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import ExpScale
from refflow.maps.parametrisations import SPLINES

from .shared import pinned
from .shared.jax import compiled, declaring, second_entry
from .shared.networks import PASSES, alone, coupling, of_stage, outputs
from .shared.numbers import raw, splines

version = pinned("bijx", "1.3.2")
declare = declaring("bijx.")
BINS = 5


def both(bijection):
    def forward(z):
        x = bijection.fwd(z)
        return x, lambda: bijection.log_jac(z, x)

    def inverse(x):
        z = bijection.rev(x)
        return z, lambda: -bijection.log_jac(z, x)

    return forward, inverse


def carried(bijection, event_ndim=0, image_ndim=None):
    """The same of a map that has only forward and reverse, from what they take from a log-density."""
    def direction(call, ndim):
        def of(event):
            image, log_density = call(event, jnp.zeros(event.shape[:event.ndim - ndim], event.dtype))
            return image, -log_density

        return of

    return direction(bijection.forward, event_ndim), direction(bijection.reverse, event_ndim if image_ndim is None else image_ndim)


def spline(p):
    parts = jnp.split(raw(p), [BINS, 2 * BINS])
    return [second_entry(lambda z, inverse=inverse: rational_quadratic_spline(z, *parts, inverse=inverse))
            for inverse in (False, True)]


def spline_module(p):
    made = bijx.MonotoneRQSpline(BINS, rngs=nnx.Rngs(0))
    made.widths, made.heights, made.slopes = map(given, jnp.split(raw(p), [BINS, 2 * BINS]))
    return [second_entry(call) for call in carried(made)]


def given(value):
    return nnx.Param(value)


def affine(p):
    return bijx.AffineLinear(given(p["scale"]), given(p["shift"]), transform_scale=None)


def scanned(p):
    """Both stages as one map whose parameters are stacked."""
    stages = [p["stages"][i] for i in "01"]
    return bijx.ScanChain(affine({name: jnp.stack([stage[name] for stage in stages]) for name in ("scale", "shift")}))


def general_coupling(inner, places=slice(None)):
    """`places` orders an entry's numbers by the names of the parameters inside."""
    template = bijx.ModuleReconstructor(inner)

    def build(p):
        net = outputs(p, units=2)
        return carried(bijx.GeneralCouplingLayer(lambda a, **_: net(a)[..., places], MASK, template), 1)

    return compiled(build)


def complex_scaling(p):
    """Of complex numbers, whose two parts are an event here."""
    dtype = p["shift"].dtype
    made = bijx.ComplexScaling((), scale=given(jnp.asarray(LOG_SCALE, dtype)), phase=given(jnp.asarray(PHASE, dtype)))

    def direction(call):
        def of(pair):
            image, log_density = call(pair[..., 0] + 1j * pair[..., 1], jnp.zeros(pair.shape[:-1], pair.dtype))
            return jnp.stack([image.real, image.imag], -1), -log_density

        return of

    return direction(made.forward), direction(made.reverse)


def spectrum(p):
    return carried(bijx.SpectrumScaling(jnp.asarray(SPECTRUM, p["shift"].dtype)), 1)


def circulant(spectrum):
    """Its matrix on four entries."""
    a, b, c = spectrum
    kernel = np.array([a + 2 * b + c, a - c, a - 2 * b + c, a - c]) / 4
    return kernel[(np.arange(4)[:, None] - np.arange(4)) % 4]


MASK = bijx.BinaryMask.from_boolean_mask(~PASSES)                   # True where an entry is transformed
LOG_SCALE, PHASE = 0.5, 0.75
SPECTRUM = (2.0, 1.0, 0.5)                                          # so that every entry of the matrix is exact
ROTATION = np.exp(LOG_SCALE) * np.array([[np.cos(PHASE), -np.sin(PHASE)], [np.sin(PHASE), np.cos(PHASE)]])
MASS = 0.25
SHIFT, SCALE, MATRIX = ["stages.0.shift"], ["stages.0.scale"], ["stages.0.W"]
INNER = refflow.Affine(scale=1.5, shift=-0.25)
TWO = refflow.Chain([INNER, refflow.Affine(scale=0.5, shift=3.0)])

declare("Affine", "AffineLinear [transform_scale=None]", lambda p: both(affine(p)), params={"scale": lambda scale: scale > 0})
declare(alone(refflow.Affine(shift=0.75)), "Shift", of_stage(lambda p: both(bijx.Shift(given(p["shift"])))), fixed=SCALE)
declare(alone(refflow.Affine(scale=-1.5)), "Scaling", of_stage(lambda p: both(bijx.Scaling(given(p["scale"])))), fixed=SHIFT)
declare("Exp", "Exponential", lambda p: both(bijx.Exponential()))
declare("Power", "Power [transform_exponent=None]", lambda p: both(bijx.Power(given(p["exponent"]), transform_exponent=None)))
declare("NormalCDF", "GaussianCDF [transform_scale=None]", lambda p: both(bijx.GaussianCDF(
    given(p["scale"]), given(p["loc"]), transform_scale=None)))
declare("Sigmoid", "Sigmoid", lambda p: both(bijx.Sigmoid()))
declare("Softplus", "SoftPlus", lambda p: both(bijx.SoftPlus()))
declare("Tanh", "Tanh", lambda p: both(bijx.Tanh()))
declare("Sinh", "Sinh", lambda p: both(bijx.Sinh()))
declare(refflow.Inverse(refflow.CauchyCDF()), "Tan", lambda p: both(bijx.Tan()), fixed=["inner.loc", "inner.scale"])
declare(refflow.Chain([refflow.Inverse(refflow.Sigmoid()), refflow.Affine(scale=1.5), refflow.Sigmoid()]),
        "BetaStretch [transform_a=None]", lambda p: both(bijx.BetaStretch(given(p["stages"]["1"]["scale"]), transform_a=None)),
        fixed=["stages.1.shift"])
(_, moderate), (_, uneven) = splines(refflow.RationalQuadraticSpline, SPLINES["bijx"](BINS))
declare(moderate, "MonotoneRQSpline [moderate numbers]", compiled(spline_module))
declare(uneven, "rational_quadratic_spline [uneven numbers]", compiled(spline))
declare(alone(refflow.DenseLinear(ROTATION, np.zeros(2))), "ComplexScaling", of_stage(complex_scaling), fixed=MATRIX + SHIFT)
declare(alone(refflow.DenseLinear(circulant(SPECTRUM), np.zeros(4))), "SpectrumScaling", of_stage(spectrum), fixed=MATRIX + SHIFT)
declare(alone(refflow.DenseLinear(circulant(1 / np.sqrt(MASS + np.array([0.0, 2.0, 4.0]))), np.zeros(4))), "FreeTheoryScaling",
        lambda p: carried(bijx.FreeTheoryScaling(MASS, (4,)), 1), fixed=MATRIX + SHIFT)
declare(refflow.Reshape((2, 3), (6,)), "Reshape", lambda p: carried(bijx.Reshape((2, 3), (6,)), 2, 1))
declare(refflow.Reshape((3,), (3, 1)), "ExpandDims", lambda p: carried(bijx.ExpandDims(), 1, 2))
declare(refflow.Reshape((3, 1), (3,)), "SqueezeDims", lambda p: carried(bijx.SqueezeDims(), 2, 1))
declare(TWO, "Chain", lambda p: carried(bijx.Chain(affine(p["stages"]["0"]), affine(p["stages"]["1"]))))
declare(TWO, "ScanChain", compiled(lambda p: carried(scanned(p))))
declare(refflow.Inverse(INNER), "Inverse", lambda p: carried(bijx.Inverse(affine(p["inner"]))))
declare(refflow.Inverse(INNER), "CondInverse", compiled(lambda p: carried(bijx.CondInverse(affine(p["inner"])))))
declare(coupling(affine_family(ExpScale())), "GeneralCouplingLayer [AffineLinear]",
        general_coupling(bijx.AffineLinear(rngs=nnx.Rngs(0))), fixed=())
declare(coupling(Family(refflow.RationalQuadraticSpline, SPLINES["bijx"](BINS)), weights=False),
        "GeneralCouplingLayer [MonotoneRQSpline]",
        general_coupling(bijx.MonotoneRQSpline(BINS, rngs=nnx.Rngs(0)), np.r_[BINS:3 * BINS - 1, :BINS]))
