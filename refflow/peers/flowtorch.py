"""FlowTorch 0.8, as adapters: `refflow check flowtorch`.

Its bijectors lead from latents to data.  log_abs_det_jacobian(x, y) is read as its users read it: from an image that forward or
inverse has just returned, which remembers its log-det.  Raw numbers, which a bijector keeps in tensors or makes by a network, are
given by a function in the place of these.  AffineFixed and Power have fixed numbers, without gradients.

Documented choices, not defects, as in Pyro and torch, from which the code comes: the slope of a spline at its end knots is 1 less
the floor of 1e-3; softplus is linear above 20.

The log-det of Affine, which is the same for all events, has no batch: it is broadcast here.  Compose is asked with stages of vectors
alone: it cannot add the log-dets of entries to log-dets of vectors.

Left out: the masks of its network DenseAutoregressive.
"""

from __future__ import annotations

import torch
from flowtorch import bijectors as t

import refflow
from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS, ScaledAffine
from refflow.maps.parametrisations import LINEAR_RATIONAL_SPLINES, SPLINES, LocationScale

from .shared import evaluated, pinned
from .shared.networks import SIZE, autoregressive, by_entry, masked_outputs
from .shared.numbers import raw, splines
from .shared.torch import declaring, second_entry

version = pinned("flowtorch", "0.8")
declare = declaring("flowtorch.bijectors.")
BINS = 3
COUNTS = {"linear": [BINS, BINS, BINS - 1, BINS], "quadratic": [BINS, BINS, BINS - 1]}
SCALAR, VECTOR = torch.Size([]), torch.Size([SIZE])


def directions(bijector):
    """(forward, inverse), each with the log-det that its image remembers."""
    def forward(z):
        x = bijector.forward(z)
        return x.as_subclass(torch.Tensor), lambda: bijector.log_abs_det_jacobian(z, x)

    def inverse(x):
        z = bijector.inverse(x)
        return z.as_subclass(torch.Tensor), lambda: -bijector.log_abs_det_jacobian(z, x)

    return forward, inverse


def of_entries(call):
    """With its log-dets, one for each entry, summed over the last axis."""
    def both(event):
        image, log_det = evaluated(call(event))
        return image, log_det.expand(image.shape).sum(-1)

    return both


def given(bijector, numbers):
    """A bijector whose raw numbers are numbers(x, context)."""
    del bijector._params_fn
    bijector._params_fn = numbers
    return bijector


# -- maps of single numbers -------------------------------------------------------------------------------------------

def fixed_affine(p):
    return directions(t.AffineFixed(shape=SCALAR, loc=float(p["shift"]), scale=float(p["scale"])))


def elementwise(make, counts):
    """Of a second entry, at so many raw numbers of each kind."""
    def build(p):
        parts = [part if len(part) > 1 else part[0] for part in torch.split(raw(p), counts)]
        bijector = given(make(shape=torch.Size([1])), lambda x, context: [part[None] for part in parts])
        return [second_entry(of_entries(call)) for call in directions(bijector)]

    return build


def spline(order, base=t.Spline):
    return lambda **options: base(count_bins=BINS, order=order, **options)


ORDERS = {"linear": (refflow.LinearRationalSpline, LINEAR_RATIONAL_SPLINES),
          "quadratic": (refflow.RationalQuadraticSpline, SPLINES)}
CLAMPED = CONVENTIONS["Pyro, NumPyro"]
declare("Affine", "AffineFixed", fixed_affine, fixed=["shift", "scale"])
declare("Exp", "Exp", lambda p: directions(t.Exp(shape=SCALAR)))
declare("Power", "Power", lambda p: directions(t.Power(shape=SCALAR, exponent=float(p["exponent"]))), fixed=["exponent"])
declare("Sigmoid", "Sigmoid", lambda p: directions(t.Sigmoid(shape=SCALAR)))
declare("Tanh", "Tanh", lambda p: directions(t.Tanh(shape=SCALAR)))
declare("Softplus", "Softplus", lambda p: directions(t.Softplus(shape=SCALAR)))
declare("ELUTransform", "ELU", lambda p: directions(t.ELU(shape=SCALAR)))
declare("LeakyReLU", "LeakyReLU", lambda p: directions(t.LeakyReLU(shape=SCALAR)), fixed=["negative_slope"],
        params={"negative_slope": lambda slope: abs(slope - 0.01) < 1e-9})
for like, composite in splines(ScaledAffine, LocationScale(CLAMPED, ("shift", "scale"))):
    declare(composite, f"Affine [{like} numbers]", elementwise(t.Affine, [1, 1]))
for order, (page, conventions) in ORDERS.items():
    for like, composite in splines(page, conventions["Pyro, FlowTorch"](BINS)):
        declare(composite, f"Spline [{order}, {like} numbers]", elementwise(spline(order), COUNTS[order]))


# -- maps of vectors, and what is made of other maps ------------------------------------------------------------------

def permute(order):
    return t.Permute(permutation=torch.as_tensor(order), shape=VECTOR)


def autoregressive_of(make, counts):
    def build(p):
        def numbers(x, context):
            parts = by_entry(masked_outputs(p, torch.tril)(x), *counts)
            return [part[..., 0] if max(counts) == 1 else part for part in parts]

        numbers.permutation = range(SIZE)
        return given(make(shape=VECTOR), numbers)

    return build


def composed(p):
    """The bijectors of a Compose, which makes them itself, are replaced by the same with numbers."""
    whole = t.Compose([t.Permute(permutation=torch.tensor(ORDER)), t.AffineAutoregressive()], shape=VECTOR)
    whole.bijectors[1] = autoregressive_of(t.AffineAutoregressive, [1, 1])(p["stages"]["1"])
    return directions(whole)


def inverted(p):
    affine = p["inner"]
    return directions(t.Invert(t.AffineFixed(loc=float(affine["shift"]), scale=float(affine["scale"])), shape=SCALAR))


ORDER = [2, 0, 1]
affine = affine_family(CLAMPED, ("shift", "scale"))
declare("Permutation", "Permute", lambda p: directions(permute(p["order"])))
declare(autoregressive(affine), "AffineAutoregressive",
        lambda p: directions(autoregressive_of(t.AffineAutoregressive, [1, 1])(p)))
for order, (page, conventions) in ORDERS.items():
    build = autoregressive_of(spline(order, t.SplineAutoregressive), COUNTS[order])
    declare(autoregressive(Family(page, conventions["Pyro, FlowTorch"](BINS))), f"SplineAutoregressive [{order}]",
            lambda p, build=build: directions(build(p)))
declare(refflow.Chain([refflow.Permutation(ORDER), autoregressive(affine)]), "Compose", composed)
declare(refflow.Inverse(refflow.Affine(shift=0.5, scale=-1.5)), "Invert(AffineFixed)", inverted,
        fixed=["inner.shift", "inner.scale"])
