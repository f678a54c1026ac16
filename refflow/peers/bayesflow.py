"""BayesFlow 2.0.12 on Keras' torch backend, as adapters: `refflow check bayesflow`.

The layers of its CouplingFlow are asked by `call`, whose forward is the page's forward, and in float32, as Keras' operations make
float32 of float64.  A coupling's numbers come from one layer, in the place of its network and projection.  The transforms of its
adapters of data are of NumPy, without gradients.  Log, Sqrt, Standardize and Constrain lead to unbounded numbers: their forward is
the page's inverse.  Their log-dets are functions of the data in both directions.

Documented choices, not defects: softplus is linear above 20, in Keras and in NumPy.  AffineTransform takes arcsinh of its number of
the scale, and no page does: it is asked with the scale given, and its couplings without arcsinh.  Constrain moves inclusive bounds
by 1e-15: it is asked with bounds that are not.

A spline's domain is the default one.  log(e - 1), which the library adds to a number of a scale or of a
slope, is taken away from it here.  The log-det of OrthogonalPermutation, which is the same for all events, has no batch: it is
broadcast here.

Left out: CouplingFlow, a chain of these layers, which returns densities; FixedPermutation, an interface; links, which have no inverse
and no log-det; its free-form models: FlowMatching, DiffusionModel, ConsistencyModel and StableConsistencyModel.
"""

from __future__ import annotations

import functools
import os

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from bayesflow.adapters import transforms as of_data
from bayesflow.networks.inference.coupling import layers, permutations, transforms
from bayesflow.networks.inference.coupling.actnorm import ActNorm

import refflow
from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import SoftplusScale
from refflow.maps.parametrisations import KnotSlopes, SoftmaxKnots, spline_fields
from refflow.oracle import adapter

from .shared import by_rows, pinned
from .shared.networks import PASSES, alone, coupling, of_stage, outputs
from .shared.numbers import raw, splines
from .shared.torch import Network, declaring, second_entry

torch.set_grad_enabled(True)                # the library disables gradients
version = pinned("bayesflow", "2.0.12")
declare = functools.partial(declaring("bayesflow.networks.inference.coupling."), dtype="float32")
BINS = 5
AFFINE = affine_family(SoftplusScale())
KNOTS = SoftmaxKnots(BINS, -3.0, 3.0, 0.1)
SPLINE = spline_fields(KNOTS, KNOTS, KnotSlopes(SoftplusScale(), BINS), "linear")
ADDED = np.log(np.e - 1)                     # by the library, to numbers of scales and slopes
WHOLE = float(np.log(np.expm1(np.sinh(1))) - np.sinh(1) * np.log(np.e - 1))      # the number of the default width


def both(call, event_ndim=1):
    """(forward, inverse) of call(rows, inverse=...)."""
    def direction(inverse):
        return lambda event: by_rows(lambda rows: call(rows, inverse=inverse), event, event_ndim)

    return direction(False), direction(True)


def with_values(layer, **values):
    """A layer that is not built, with tensors in the place of its weights."""
    for name, value in values.items():
        setattr(layer, name, value)
    return layer


# -- normalisation, linear maps, permutations -------------------------------------------------------------------------

def orthogonal(p):
    layer = with_values(permutations.OrthogonalPermutation(), weight=p["W"].T)

    def call(rows, inverse):
        image, log_det = layer.call(rows, inverse)
        return image, log_det.expand(len(rows))

    return both(call)


def swap(p):
    layer = permutations.Swap()
    layer.build((None, 5))
    return both(layer.call)


def in_order(p):
    order = torch.from_numpy(p["order"])
    return both(with_values(permutations.RandomPermutation(), forward_indices=order, inverse_indices=torch.argsort(order)).call)


MATRIX = [[0.75, -1.5, 0.25], [0.5, 1.0, -0.5], [-0.25, 0.5, 2.0]]
declare(alone(refflow.ActNorm(bias=[0.5, -1.0, 2.0], scale=[0.75, -1.5, 2.0])), "actnorm.ActNorm",
        of_stage(lambda p: both(with_values(ActNorm(), scale=p["scale"], bias=p["bias"]).call)))
declare(alone(refflow.DenseLinear(MATRIX)), "permutations.OrthogonalPermutation", of_stage(orthogonal),
        fixed=["stages.0.shift"])
declare(alone(refflow.Permutation([3, 4, 0, 1, 2])), "permutations.Swap", swap)
declare("Permutation", "permutations.RandomPermutation [order given]", in_order)


# -- transforms and couplings -----------------------------------------------------------------------------------------

def affine(p):
    def call(rows, inverse):
        return transforms.AffineTransform().call(rows, {name: p[name].expand_as(rows) for name in ("scale", "shift")}, inverse)

    return both(call, 0)


def with_domain(h):
    """Numbers of each entry, after the numbers that make the default domain."""
    domain = h.new_tensor([0.0, 0.0, WHOLE, WHOLE]).expand(*h.shape[:-1], 4)
    return torch.cat([domain, h[..., :2 * BINS], h[..., 2 * BINS:] - ADDED], -1)


def spline(p):
    """The transform makes its knots and slopes from numbers (rows, entries times numbers)."""
    transform = transforms.SplineTransform(BINS)

    def call(rows, inverse):
        numbers = transform.split_parameters(with_domain(raw(p)).expand(len(rows), -1))
        return transform.call(rows, transform.constrain_parameters(numbers), inverse)

    return [second_entry(call) for call in both(call)]


def single(transform, numbers):
    """A coupling by numbers(a), which counts as built, so that its projection is not made anew."""
    return with_values(layers.SingleCoupling(keras.layers.Identity(), transform), output_projector=numbers, built=True)


def affine_coupling(p):
    """The numbers of scales are the first half."""
    def numbers(a):
        scale, shift = outputs(p)(a).chunk(2, -1)
        return torch.cat([scale - ADDED, shift], -1)

    return single(transforms.AffineTransform(clamp=False), numbers)


def spline_coupling(p):
    network = Network(p)
    return single(transforms.SplineTransform(BINS), lambda a: with_domain(network(a).reshape(len(a), 2, -1)).flatten(-2))


def single_coupling(coupling_of):
    def build(p):
        layer = coupling_of(p)

        def call(rows, inverse):
            parts, log_det = layer.call(rows[:, :1], rows[:, 1:], inverse=inverse)
            return torch.cat(parts, -1), log_det

        return both(call)

    return build


def dual(p):
    couplings = {f"coupling{i + 1}": affine_coupling(p["stages"][str(i)]) for i in (0, 1)}
    return both(with_values(layers.DualCoupling(keras.layers.Identity()), pivot=1, **couplings).call)


declare("Affine", "transforms.AffineTransform [scale given]", affine, params={"scale": lambda scale: scale > 0})
for like, page in splines(refflow.RationalQuadraticSpline, SPLINE):
    declare(page, f"transforms.SplineTransform [default domain, {like} numbers]", spline)
declare(coupling(AFFINE, "halves"), "layers.SingleCoupling [affine, no clamp]", single_coupling(affine_coupling))
declare(coupling(Family(refflow.RationalQuadraticSpline, SPLINE), tanh=True), "layers.SingleCoupling [spline, default domain]",
        single_coupling(spline_coupling))
declare(refflow.Chain([coupling(AFFINE, "halves"), coupling(AFFINE, "halves", ~PASSES)]), "layers.DualCoupling [affine, no clamp]", dual)


# -- transforms of data -----------------------------------------------------------------------------------------------

def declare_of_data(page, name, make, direction="inverse", **options):
    def mine(params, event):
        transform = make(params)
        found = {"forward": transform(event), "inverse": lambda image: transform(image, inverse=True)}
        if transform.log_det_jac(event) is not None:
            found["log_det"] = transform.log_det_jac(event)
            found["inverse_log_det"] = lambda image: transform.log_det_jac(transform(image, inverse=True), inverse=True)
        return found

    adapter(page, theirs=f"bayesflow.adapters.transforms.{name}", direction=direction, **options)(mine)


def first(p, field):
    return p["stages"]["0"][field]


constrain = functools.partial(of_data.Constrain, inclusive="none")
declare_of_data("Exp", "Log", lambda p: of_data.Log())
declare_of_data("Expm1", "Log [p1]", lambda p: of_data.Log(p1=True))
declare_of_data(refflow.Chain([refflow.Power(2.0)]), "Sqrt", lambda p: of_data.Sqrt())
declare_of_data(refflow.Chain([refflow.Affine(scale=-1.5)]), "Scale", lambda p: of_data.Scale(first(p, "scale")), "forward")
declare_of_data(refflow.Chain([refflow.Affine(shift=0.75)]), "Shift", lambda p: of_data.Shift(first(p, "shift")), "forward")
declare_of_data("Affine", "Standardize", lambda p: of_data.Standardize(p["shift"], p["scale"]))
declare_of_data("Sigmoid", "Constrain [0 to 1]", lambda p: constrain(lower=0, upper=1))
declare_of_data("Softplus", "Constrain [above 0]", lambda p: constrain(lower=0))
declare_of_data("Exp", "Constrain [above 0, exp]", lambda p: constrain(lower=0, method="exp"))
declare_of_data(refflow.Chain([refflow.Affine(scale=-1.0), refflow.Softplus(), refflow.Affine(scale=-1.0)]), "Constrain [below 0]",
                lambda p: constrain(upper=0))
