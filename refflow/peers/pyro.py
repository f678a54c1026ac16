"""Pyro 1.9.2, as adapters: `refflow check pyro`.

Its transforms are torch's, log_abs_det_jacobian(x, y) included.  Splines are asked at their raw numbers, see `shared.numbers`,
by one module that is made once for each question, as its cache holds the last pair.

Documented choices, not defects: the slope of the spline at its end knots is 1 less the floor of 1e-3 (a comment in its source
asks why), and refflow's convention of that name has it too.

Left out: planar, radial, Sylvester and neural flows, which have no inverse; Householder, MatrixExponential, Haar and discrete
cosine transforms, ELU, which have no page; what Pyro takes from torch, see `torch`.
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
from .shared.numbers import raw, splines
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


declare_constraints("pyro", declare, lambda name, ends: directions(biject_to(with_ends(getattr(constraints, name), ends))))
