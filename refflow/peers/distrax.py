"""distrax 0.1.9, as adapters: `refflow check distrax`.

forward_and_log_det and inverse_and_log_det of its bijectors, which lead from latents to data.  Splines are asked at their raw
numbers, see `shared.numbers`; couplings with a network of one layer, see `shared.networks`.
"""

from __future__ import annotations

import distrax
import jax.numpy as jnp
import numpy as np

import refflow
from refflow.maps.coupling import Family, additive_family, affine_family
from refflow.maps.elementwise import ExpScale
from refflow.maps.parametrisations import SPLINES
from refflow.models.gaussian import lower_triangular

from .shared import pinned
from .shared.jax import compiled, declaring, second_entry
from .shared.networks import PASSES, alone, coupling, layer_of, of_stage, outputs
from .shared.numbers import raw, splines

version = pinned("distrax", "0.1.9")
declare = declaring("distrax.")
BINS, BOUND = 5, 3.0
SHIFT, SCALE = ["stages.0.shift"], ["stages.0.scale"]


def both(bijector):
    return bijector.forward_and_log_det, bijector.inverse_and_log_det


def affine(p):
    return distrax.ScalarAffine(p["shift"], p["scale"])


def spline(mode):
    """At an end where the slope is 1, the number of the slope is not read."""
    return compiled(lambda p: [second_entry(call) for call in both(distrax.RationalQuadraticSpline(raw(p), -BOUND, BOUND, mode))])


def lu(p):
    """The page's lower and upper triangles in one matrix, whose order is the identity."""
    return both(distrax.LowerUpperTriangularAffine(p["lower"] + p["upper"] + jnp.diag(p["scale"]), p["shift"]))


def triangular(p):
    """The page has a unit lower triangle times the diagonal."""
    return both(distrax.TriangularLinear((p["lower"] + jnp.eye(3, dtype=p["lower"].dtype)) * p["scale"]))


def split_coupling(p):
    return both(distrax.SplitCoupling(1, 1, outputs(p), lambda h: distrax.Block(distrax.Shift(h), 1)))


def masked_coupling(inner, size):
    """Its network sees the whole event, with 0 at the entries that do not pass, and gives numbers for every entry."""
    def build(p):
        W, b = (part.reshape(2, size, -1) for part in layer_of(p))
        whole = jnp.zeros((3, size, 3), W.dtype).at[1:, :, 0].set(W[..., 0])
        bias = jnp.zeros((3, size), b.dtype).at[1:].set(b[..., 0])
        return both(distrax.MaskedCoupling(jnp.asarray(PASSES), lambda a: jnp.einsum("kpj,...j->...kp", whole, a) + bias, inner))

    return compiled(build)


def spline_family(mode):
    return Family(refflow.RationalQuadraticSpline, SPLINES["distrax"](BINS, -BOUND, BOUND, mode))


DIAGONAL = np.array([1.0, 2.0, 0.5])
U, V = np.array([[0.5, -1.0], [1.0, 0.25], [-0.5, 2.0]]), np.array([[1.0, 0.5], [-0.25, 1.5], [0.75, 1.0]])
L = np.array([[0.75, 0, 0], [0.5, -1.5, 0], [-0.25, 3, 2.0]])
INNER = refflow.Affine(scale=1.5, shift=-0.25)

declare(alone(refflow.Affine()), "Lambda", lambda p: both(distrax.Lambda(lambda z: z)), fixed=SHIFT + SCALE)
declare(alone(refflow.Affine(shift=0.75)), "Shift", of_stage(lambda p: both(distrax.Shift(p["shift"]))), fixed=SCALE)
declare("Affine", "ScalarAffine", lambda p: both(affine(p)), broadcast=True)
declare("Sigmoid", "Sigmoid", lambda p: both(distrax.Sigmoid()))
declare(alone(refflow.GumbelCDF()), "GumbelCDF", lambda p: both(distrax.GumbelCDF()), fixed=["stages.0.loc", "stages.0.scale"])
declare("Tanh", "Tanh", lambda p: both(distrax.Tanh()))
declare("DenseLinear", "UnconstrainedAffine", lambda p: both(distrax.UnconstrainedAffine(p["W"], p["shift"])))
declare(alone(refflow.ActNorm(scale=[0.75, -1.5, 2.0])), "DiagLinear", of_stage(lambda p: both(distrax.DiagLinear(p["scale"]))),
        fixed=["stages.0.bias"])
declare(alone(lower_triangular(L)), "TriangularLinear", of_stage(triangular), fixed=["stages.0.upper", *SHIFT])
declare(alone(refflow.PLULinear(order=[0, 1, 2], lower=[[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], shift=[0.5, -1, 2],
                                upper=[[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]], scale=[0.75, -1.5, 2.0])),
        "LowerUpperTriangularAffine", of_stage(lu))
declare(alone(refflow.LowRankLinear(DIAGONAL, U, V)), "DiagPlusLowRankLinear",
        of_stage(lambda p: both(distrax.DiagPlusLowRankLinear(p["diagonal"], p["U"], p["V"]))))
declare(refflow.Chain([INNER, refflow.Affine(scale=-0.5, shift=3.0)]), "Chain",
        lambda p: both(distrax.Chain([affine(p["stages"]["1"]), affine(p["stages"]["0"])])))
declare(refflow.Inverse(INNER), "Inverse", lambda p: both(distrax.Inverse(affine(p["inner"]))))
declare(refflow.Independent(INNER, 1), "Block", lambda p: both(distrax.Block(affine(p["inner"]), 1)))
for mode in ("unconstrained", "identity"):
    for like, page in splines(refflow.RationalQuadraticSpline, SPLINES["distrax"](BINS, -BOUND, BOUND, mode)):
        declare(page, f"RationalQuadraticSpline [{mode}, {like} numbers]", spline(mode))
declare(coupling(additive_family()), "SplitCoupling [Shift]", split_coupling, fixed=())
declare(coupling(affine_family(ExpScale())), "MaskedCoupling [ScalarAffine]",
        masked_coupling(lambda h: distrax.ScalarAffine(h[..., 1], log_scale=h[..., 0]), 2), fixed=())
for mode in ("identity", "circular"):
    declare(coupling(spline_family(mode), weights=False), f"MaskedCoupling [RationalQuadraticSpline, {mode}]",
            masked_coupling(lambda h, mode=mode: distrax.RationalQuadraticSpline(h, -BOUND, BOUND, mode), 3 * BINS + 1))
