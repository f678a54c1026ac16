"""Pyro 1.9.2, as adapters: `refflow check pyro`.

Its transforms are torch's, log_abs_det_jacobian(x, y) included.  Splines are asked at their raw numbers, see `shared.numbers`,
by one module that is made once for each question, as its cache holds the last pair.

Documented choices, not defects: the slope of the spline at its end knots is 1 less the floor of 1e-3 (a comment in its source
asks why), and refflow's convention of that name has it too.

Planar, radial and Sylvester flows have no inverse beyond the pair that was computed last; their forward is asked.  The conditional
ones are asked with raw numbers as their context.

Spline couplings are asked with `identity`: without it, the part that passes goes through a `Spline` of its own.  The exponential
of a matrix is a sum of as many terms as its user asks for: 30 are asked.  The log-det of BatchNorm stands for each entry, as its
domain is a number: it is summed here.  Its log-det and that of MatrixExponential, which are the same for all events, have no batch:
they are broadcast here.

UnitLowerCholeskyTransform and SoftplusLowerCholeskyTransform read the lower triangle of a matrix, and have no log-det: they are asked
their values at the numbers of that triangle.  BlockAutoregressive is asked with the leaky tanh of other libraries: the image of its
own tanh is bounded.

Left out: its gated and residual kinds, which have no page; what Pyro takes from torch, see `torch`.
"""

from __future__ import annotations

import numpy as np
import scipy
import torch
from pyro.distributions import constraints
from pyro.distributions import transforms as t
from pyro.distributions.transforms.block_autoregressive import eps
from pyro.distributions.transforms.householder import ConditionedHouseholder
from pyro.distributions.transforms.matrix_exponential import ConditionedMatrixExponential
from torch.distributions import biject_to as torch_biject_to

import refflow
from refflow import biject_to
from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS, ScaledAffine
from refflow.maps.parametrisations import (LINEAR_RATIONAL_SPLINES, SPLINES, Entries, Free, GatedLocationScale,
                                           PerPart, SoftmaxWeights)
from refflow.models.gaussian import lower_triangular

from .shared import by_rows, directions, evaluated, image_and_log_det, pinned, summed
from .shared.constraints import declare_constraints, with_ends
from .shared.networks import SIZE, autoregressive, block_autoregressive, block_matrix, by_entry, coupling, masked_outputs, outputs
from .shared.numbers import raw, splines, vectors
from .shared.torch import Tanh, declaring, declaring_values, holding, second_entry

version = pinned("pyro-ppl", "1.9.2")
declare = declaring("pyro.distributions.transforms.")
declare_values = declaring_values("pyro.distributions.transforms.")
BINS = 3
COUNTS = {"linear": [BINS, BINS, BINS - 1, BINS], "quadratic": [BINS, BINS, BINS - 1]}
NAMES = ("unnormalized_widths", "unnormalized_heights", "unnormalized_derivatives", "unnormalized_lambdas")


def spline_of(order):
    def build(p):
        parts = torch.split(raw(p), COUNTS[order])
        module = holding(t.Spline(1, BINS, order=order), **{name: part[None] for name, part in zip(NAMES, parts)})
        return [second_entry(summed(call)) for call in directions(module)]

    return build


ORDERS = {"linear": (refflow.LinearRationalSpline, LINEAR_RATIONAL_SPLINES),
          "quadratic": (refflow.RationalQuadraticSpline, SPLINES)}
for order, (page, conventions) in ORDERS.items():
    for like, composite in splines(page, conventions["Pyro, FlowTorch"](BINS)):
        declare(composite, f"Spline [{order}, {like} numbers]", spline_of(order))

declare("LeakyReLU", "LeakyReLUTransform", lambda p: directions(t.LeakyReLUTransform()), fixed=["negative_slope"],
        params={"negative_slope": lambda slope: abs(slope - 0.01) < 1e-9})
declare("ELUTransform", "ELUTransform", lambda p: directions(t.ELUTransform()))
declare("SignedPower", "PositivePowerTransform", lambda p: directions(t.PositivePowerTransform(p["exponent"])),
        params={"exponent": lambda exponent: exponent > 0})
declare("Ordered", "OrderedTransform", lambda p: directions(t.OrderedTransform()))
declare("Permutation", "Permute", lambda p: directions(t.Permute(torch.from_numpy(p["order"]))))
declare("Softplus", "SoftplusTransform", lambda p: directions(t.SoftplusTransform()))


# -- planar, radial, Sylvester ----------------------------------------------------------------------------------------

def only_forward(transform):
    return directions(transform)[0], None


def planar(h):
    w, u, b = vectors(h, 2)
    return b, u, w


def radial(h):
    return vectors(h, 1)


def with_fields(module, names, fields):
    return only_forward(holding(module, **dict(zip(names, fields))))


def sylvester(p):
    """Q is one reflection; the triangles are the page's."""
    inner = p["stages"]["1"]
    s, outer = inner["diagonal"], inner["slack"]
    module = t.Sylvester(len(s), 1)
    R, S = inner["R"] + torch.diag((outer - 1) / s), inner["S"] + torch.diag(s)
    return only_forward(holding(module, u_unnormed=s.new_tensor([[0.6, 0.8]]), R=lambda: R, S=lambda: S, b=inner["b"]))


PLANAR = "paper, normflows, Pyro, Bijectors.jl"
declare("Planar", "Planar", lambda p: with_fields(t.Planar(3), ("bias", "u", "w"), planar(p["h"])), parametrisation=PLANAR)
declare("Planar", "ConditionalPlanar", lambda p: only_forward(t.ConditionalPlanar(planar).condition(p["h"])), parametrisation=PLANAR)
declare("Radial", "Radial", lambda p: with_fields(t.Radial(3), ("x0", "alpha_prime", "beta_prime"), radial(p["h"])),
        parametrisation="Pyro, Bijectors.jl")
declare("Radial", "ConditionalRadial", lambda p: only_forward(t.ConditionalRadial(radial).condition(p["h"])),
        parametrisation="Pyro, Bijectors.jl")
basis = refflow.OrthogonalLinear(Q=[[0.28, -0.96], [-0.96, -0.28]])             # the reflection by (0.6, 0.8)
triangles = refflow.Sylvester(R=[[0, 0.5], [0, 0]], S=[[0, -1.5], [0, 0]], diagonal=[0.5, -0.25], b=[0.5, -1.0], slack=[1.25, 0.625])
declare(refflow.Chain([refflow.Inverse(basis), triangles, basis]), "Sylvester [as documented]", sylvester,
        fixed=["stages.0.inner.Q", "stages.2.Q"], gradients=False)


# -- linear maps, normalisation, sets ---------------------------------------------------------------------------------

def first(p):
    """The parameters of the one stage of a chain, which is how a page is asked at fields of our choice."""
    return p["stages"]["0"]


def triangular(p):
    inner = first(p)
    return directions(t.LowerCholeskyAffine(inner["shift"], (inner["lower"] + torch.eye(3)) * inner["scale"]))


def channel_permute(p):
    inner = p["inner"]
    module = t.GeneralizedChannelPermute(3)
    return directions(holding(module, LU=inner["lower"] + inner["upper"] + torch.diag(inner["scale"]),
                              permutation=torch.eye(3, dtype=inner["scale"].dtype)[ORDER]))


def normalisation(p):
    """The gain is the raw number, where that is positive, plus 1e-6."""
    inner = first(p)["inner"]
    module = holding(t.BatchNorm(3), gamma=inner["gain"] - 1e-6, beta=inner["bias"], moving_mean=inner["mean"],
                     moving_variance=inner["var"])
    return [for_each(summed(call)) for call in directions(module)]


def for_each(call):
    """With its one log-det of all events for each of them."""
    def both(event):
        image, log_det = call(event)
        return image, evaluated((image, log_det))[1].expand(event.shape[:-1])

    return both


class LessIdentity:
    """A transform to triangles with ones on the diagonal, less these."""

    def __call__(self, z):
        return t.UnitLowerCholeskyTransform()(z) - torch.eye(z.shape[-1], dtype=z.dtype)

    def inv(self, x):
        return t.UnitLowerCholeskyTransform().inv(x + torch.eye(x.shape[-1], dtype=x.dtype))


def backwards(p):
    """The vectors of the page, of which the last one reflects first."""
    return first(p)["vectors"].flip(0)


def exponential(make):
    return lambda p: [for_each(call) for call in directions(make(first(p)["A"]))]


ORDER = [2, 0, 1]
VECTORS = np.array([[1.0, 2.0, 2.0], [0.0, 3.0, -4.0]])
WEIGHTS = np.array([[0.25, -0.5, 0.125], [0.5, -0.25, 0.75], [-0.125, 0.25, 0.5]])
linear = refflow.PLULinear(order=ORDER, lower=[[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], shift=None,
                           upper=[[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]], scale=[0.75, -1.5, 2.0])
declare(refflow.Chain([refflow.OrthogonalLinear(scipy.fft.dct(np.eye(5), norm="ortho", axis=0))]), "DiscreteCosineTransform",
        lambda p: directions(t.DiscreteCosineTransform()), fixed=["stages.0.Q"])
declare(refflow.Chain([refflow.HouseholderLinear(VECTORS)]), "Householder",
        lambda p: directions(holding(t.Householder(3, 2), u_unnormed=backwards(p))))
declare(refflow.Chain([refflow.HouseholderLinear(VECTORS)]), "ConditionedHouseholder",
        lambda p: directions(ConditionedHouseholder(backwards(p))))
declare(refflow.Chain([refflow.ExponentialLinear(WEIGHTS)]), "MatrixExponential [iterations=30]",
        exponential(lambda A: holding(t.MatrixExponential(3, iterations=30), weights=A)))
declare(refflow.Chain([refflow.ExponentialLinear(WEIGHTS)]), "ConditionedMatrixExponential [iterations=30]",
        exponential(lambda A: ConditionedMatrixExponential(A, iterations=30)))
declare(refflow.Chain([lower_triangular(np.array([[0.5, 0, 0], [0.25, 2, 0], [-1.5, 3, 0.75]]))]), "LowerCholeskyAffine", triangular,
        fixed=["stages.0.order", "stages.0.upper"])
declare(refflow.Pointwise(linear), "GeneralizedChannelPermute", channel_permute, fixed=["inner.order"])
declare(refflow.Chain([refflow.Inverse(refflow.BatchNorm([1.0, -0.5, 0.25], [4.0, 0.25, 1.0], [0.5, 2.0, 1.5], [0.25, -1.0, 3.0]))]),
        "BatchNorm", normalisation)
declare(refflow.Chain([refflow.haar(4)]), "HaarTransform", lambda p: directions(t.HaarTransform()), fixed=["stages.0.Q"])
declare_values(refflow.Chain([refflow.Permutation([1, 3, 4, 0, 2, 5]), biject_to("softplus_lower_cholesky", np.eye(3), "numpyro")]),
               "SoftplusLowerCholeskyTransform", lambda: t.SoftplusLowerCholeskyTransform())
declare_values("StrictTriangle", "UnitLowerCholeskyTransform [less the identity]", LessIdentity, below=-1,
               params={"upper": lambda upper: not upper})
declare("SimplexToOrdered", "SimplexToOrderedTransform", lambda p: directions(t.SimplexToOrderedTransform()), chart_gradient=True)
declare("CholeskyOuterProduct", "CholeskyTransform", lambda p: directions(t.CholeskyTransform()), direction="inverse",
        chart_gradient=True)


# -- couplings and autoregressive maps --------------------------------------------------------------------------------

def dense(p, *counts):
    """W a + b as a `DenseNN` returns it: an array (*batch, entries count) for each kind of numbers."""
    return lambda a: [part.reshape(*part.shape[:-2], -1) for part in by_entry(outputs(p)(a), *counts)]


def masked(p, *counts):
    """As an `AutoRegressiveNN` returns it: (*batch, count, entries), without the count if it is 1 of every kind."""
    def call(a):
        parts = by_entry(masked_outputs(p, torch.tril)(a), *counts)
        return [part[..., 0] if max(counts) == 1 else part.mT for part in parts]

    call.permutation = range(SIZE)
    return call


def spline_coupling(order):
    return lambda p: directions(t.SplineCoupling(SIZE, 1, dense(p, *COUNTS[order]), BINS, order=order, identity=True))


def spline_autoregressive(order):
    return lambda p: directions(t.SplineAutoregressive(SIZE, masked(p, *COUNTS[order]), BINS, order=order))


affine = affine_family(CONVENTIONS["Pyro, NumPyro"], ("shift", "scale"))
gated = Family(ScaledAffine, GatedLocationScale(2.0, ("shift", "scale")))
declare(coupling(affine), "AffineCoupling", lambda p: directions(t.AffineCoupling(1, dense(p, 1, 1))))
declare(autoregressive(affine), "AffineAutoregressive", lambda p: directions(t.AffineAutoregressive(masked(p, 1, 1))))
declare(refflow.Inverse(autoregressive(affine)), "AffineAutoregressive.inv",
        lambda p: directions(t.AffineAutoregressive(masked(p["inner"], 1, 1)).inv))
declare(autoregressive(gated), "AffineAutoregressive [stable]",
        lambda p: directions(t.AffineAutoregressive(masked(p, 1, 1), stable=True)))
for order, (page, conventions) in ORDERS.items():
    family = Family(page, conventions["Pyro, FlowTorch"](BINS))
    declare(coupling(family), f"SplineCoupling [{order}]", spline_coupling(order))
    declare(autoregressive(family), f"SplineAutoregressive [{order}]", spline_autoregressive(order))
declare(refflow.Chain([refflow.Permutation(ORDER), autoregressive(affine)]), "ComposeTransformModule",
        lambda p: directions(t.ComposeTransformModule([t.Permute(torch.tensor(ORDER)),
                                                       t.AffineAutoregressive(masked(p["stages"]["1"], 1, 1))])))


# -- neural autoregressive maps, which have no inverse ----------------------------------------------------------------

def polynomial(p):
    """The square of the second polynomial, a constant, is the page's least slope."""
    inner = first(p)
    coefficients, slope = inner["coefficients"], inner["slope_floor"]
    constant = torch.nn.functional.pad(slope.sqrt()[None], (0, coefficients.shape[-1] - 1))
    A = torch.cat([coefficients, constant[None]])
    module = holding(t.Polynomial(lambda a: A.expand(len(a), *A.shape), 1, A.shape[1] - 1, len(A)), c=inner["shift"][None])
    module.to(slope.dtype)
    return lambda z: by_rows(lambda row: evaluated(image_and_log_det(module)(row)), z, 0), None


sigmoids = Family(refflow.DeepSigmoid, PerPart(("rate", "weights", "bias"), (
    Entries(refflow.SoftplusScale(), 3), SoftmaxWeights(3), Entries(Free(), 3))))
declare(autoregressive(sigmoids, size=1), "NeuralAutoregressive",
        lambda p: only_forward(t.NeuralAutoregressive(masked(p, 3, 3, 3), 3)))
declare(refflow.Chain([refflow.SumOfSquares([[1.0, -2.0, 0.5]], slope_floor=0.25, shift=0.5)]), "Polynomial", polynomial)

class LeakyTanh(torch.distributions.Transform):
    """x = tanh z + z/100."""

    def __call__(self, z):
        return Tanh.apply(z) + z / 100

    def log_abs_det_jacobian(self, z, x):
        e = torch.exp(-2 * z.abs())
        return torch.log(4 * e / (1 + e) ** 2 + 0.01)


def block_network(p):
    """A row of its matrix is exp(gain) w/(|w| + eps), with w the exponential of its weights within blocks."""
    layers = list(p["layers"].values())
    module = t.BlockAutoregressive(len(layers[0]["within"]), [of["within"].shape[1] for of in layers[:-1]])
    module.T = LeakyTanh()
    for of, layer in zip(layers, module.to(layers[0]["b"].dtype).layers):
        matrix, on_diagonal = block_matrix(of, torch.from_numpy)
        weights = torch.where(on_diagonal, matrix.clamp(min=1e-30).log(), matrix)
        holding(layer, _weight=weights, _diag_weight=(torch.linalg.norm(matrix, axis=-1, keepdims=True) + eps).log(), bias=of["b"])
    return only_forward(module)


declare(block_autoregressive(), "BlockAutoregressive [leaky tanh]", block_network)

declare_constraints("pyro", declare, lambda name, ends: directions(torch_biject_to(with_ends(getattr(constraints, name), ends))))
