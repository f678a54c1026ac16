"""Pyro 1.9.2, as adapters: `refflow check pyro`.

Its transforms are torch's, log_abs_det_jacobian(x, y) included.  Splines are asked at their raw numbers, see `shared.numbers`,
by one module that is made once for each question, as its cache holds the last pair.

Documented choices, not defects: the slope of the spline at its end knots is 1 less the floor of 1e-3 (a comment in its source
asks why), and refflow's convention of that name has it too.

Planar, radial and Sylvester flows have no inverse beyond the pair that was computed last; their forward is asked.  The conditional
ones are asked with raw numbers as their context.

Left out: neural flows, which have no inverse; Householder, MatrixExponential, Haar and discrete cosine transforms, ELU, which have
no page; what Pyro takes from torch, see `torch`.
"""

from __future__ import annotations

import torch
from pyro.distributions import constraints
from pyro.distributions import transforms as t
from torch.distributions import biject_to

import refflow
from refflow.maps.parametrisations import LINEAR_RATIONAL_SPLINES, SPLINES

from .shared import directions, pinned, summed
from .shared.constraints import declare_constraints, with_ends
from .shared.numbers import raw, splines, vectors
from .shared.torch import declaring, holding, second_entry

version = pinned("pyro-ppl", "1.9.2")
declare = declaring("pyro.distributions.transforms.")
BINS = 5
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
    for like, coupling in splines(page, conventions["Pyro, FlowTorch"](BINS)):
        declare(coupling, f"Spline [{order}, {like} numbers]", spline_of(order))

declare("LeakyReLU", "LeakyReLUTransform", lambda p: directions(t.LeakyReLUTransform()), fixed=["negative_slope"],
        params={"negative_slope": lambda slope: abs(slope - 0.01) < 1e-9})
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

declare_constraints("pyro", declare, lambda name, ends: directions(biject_to(with_ends(getattr(constraints, name), ends))))
