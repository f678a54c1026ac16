"""FrEIA 0.2, as adapters: `refflow check freia`.

A module takes a list of inputs, with rev=True for the inverse, and returns a tuple of outputs and the log-det.

Left out: coupling blocks and learned orthogonal maps, whose parameters are raw numbers of networks or projections.
"""

from __future__ import annotations

import FrEIA.modules as m
import torch

import refflow

from .shared import pinned
from .shared.torch import declaring, holding, rows_of

version = pinned("FrEIA", "0.2")
declare = declaring("FrEIA.modules.")


class Directions:
    """A module's forward and its reverse as methods that return (image, log_det)."""

    def __init__(self, module):
        self.module = module

    def forward(self, rows):
        (image,), log_det = self.module([rows], rev=False)
        return image, log_det

    def inverse(self, rows):
        (image,), log_det = self.module([rows], rev=True)
        return image, log_det


def fixed_linear(p):
    return rows_of(Directions(m.FixedLinearTransform([p["shift"].shape], M=p["W"].detach(), b=p["shift"].detach())), 1)


def convolution(p):
    """Its matrix is the transpose of the page's, see the findings."""
    return rows_of(Directions(m.Fixed1x1Conv([(3, 1, 1)], M=p["inner"]["W"].detach().T)), 3)


def permuted(p):
    order = torch.from_numpy(p["order"])
    return rows_of(Directions(holding(m.PermuteRandom([(len(order),)]), perm=order, perm_inv=torch.argsort(order))), 1)


dense = refflow.DenseLinear(W=[[1.0, 0.5, -0.25], [-0.5, 2.0, 0.125], [0.75, -1.0, 1.5]], shift=None)
declare("Sigmoid", "InvertibleSigmoid", lambda p: rows_of(Directions(m.InvertibleSigmoid([(1,)]))))
declare("DenseLinear", "FixedLinearTransform", fixed_linear, gradients=False)
declare("Permutation", "PermuteRandom", permuted)
declare(refflow.Pointwise(dense), "Fixed1x1Conv [M transposed]", convolution, gradients=False)
