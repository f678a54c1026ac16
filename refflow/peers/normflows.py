"""normflows 1.7.3, as adapters: `refflow check normflows`.

forward leads from latents to data and inverse back; both return (image, log_det) of a batch of rows.  Linear maps and splines
hold the matrix, or the spline, of inverse: there their inverse is held against the page's forward.

Planar flows with tanh and radial flows have no inverse; their forward is asked.

Left out: `BatchNorm`, which has no inverse; residual flows, which have no page; `Permute`, which draws its order.
"""

from __future__ import annotations

import numpy as np
import torch
from normflows import flows, transforms
from normflows.utils.splines import unconstrained_rational_quadratic_spline

import refflow
from refflow.maps.parametrisations import SPLINES

from .shared import pinned
from .shared.numbers import raw, splines, vectors
from .shared.torch import declaring, holding, rows_of, second_entry

version = pinned("normflows", "1.7.3")
declare = declaring("normflows.")
BINS, BOUND = 5, 3.0


def backwards(module, event_ndim=1):
    """A module whose inverse is the page's forward."""
    return rows_of(module, event_ndim, "inverse", "forward")


declare("AlphaSigmoid", "transforms.Logit", lambda p: rows_of(transforms.Logit(p["low"])),
        params={"low": lambda low: low == 0.05, "high": lambda high: high == 0.95})


# -- elementwise ------------------------------------------------------------------------------------------------------

def periodic_shift(p):
    inner = p["stages"]["0"]
    bound = (inner["ends"][1] - inner["ends"][0]) / 2
    return rows_of(flows.PeriodicShift([0], bound, inner["turns"] * 2 * bound))


def constant_affine(p):
    s, t = p["logs"], p["bias"]
    return rows_of(holding(flows.AffineConstFlow(tuple(s.shape)), s=s[None], t=t[None]), 1)


declare(refflow.Chain([refflow.CircularShift(ends=[-3.0, 3.0], turns=0.25)]), "flows.PeriodicShift", periodic_shift)
declare("GlowTTSActNorm", "flows.AffineConstFlow", constant_affine, params={"logs": lambda logs: np.all(np.abs(logs) < 80)})


# -- splines ----------------------------------------------------------------------------------------------------------

def spline(p):
    widths, heights, slopes = torch.split(raw(p), [BINS, BINS, BINS - 1])

    def of(inverse):
        def column(event):
            each = [v.expand(*event.shape, -1) for v in (widths, heights, slopes)]
            image, log_det = unconstrained_rational_quadratic_spline(
                event, *each, inverse=inverse, tails="linear", tail_bound=BOUND)
            return image, log_det.sum(-1)

        return second_entry(column)

    return of(False), of(True)


for like, coupling in splines(refflow.RationalQuadraticSpline, SPLINES["normflows"](BINS, BOUND)):
    declare(coupling, f"utils.splines.unconstrained_rational_quadratic_spline [{like} numbers]", spline)


# -- linear -----------------------------------------------------------------------------------------------------------

def permuted(p):
    return backwards(flows.mixing._Permutation(torch.from_numpy(np.argsort(p["order"]))))


def affine_of_rows(p):
    """z @ W of rows: the page's matrix is the transpose."""
    return backwards(holding(flows.InvertibleAffine(len(p["W"]), use_lu=False), W=p["W"].T))


def convolution(p):
    """The page's matrix at every pixel."""
    return backwards(holding(flows.Invertible1x1Conv(len(p["inner"]["W"]), use_lu=False), W=p["inner"]["W"]), 3)


def lu_convolution(p):
    """Its scale is a sign times exp(log_S); the page's is 1 or -1, so that log_S = 0 is exact."""
    inner, size = p["inner"], len(p["inner"]["scale"])
    P = torch.eye(size, dtype=inner["scale"].dtype)[ORDER]
    return backwards(holding(flows.Invertible1x1Conv(size, use_lu=True), P=P, L=inner["lower"], U=inner["upper"],
                             log_S=inner["scale"].abs().log(), sign_S=inner["scale"].sign().detach(), eye=torch.eye(size)), 3)


ORDER = [2, 0, 1]
dense = refflow.DenseLinear(W=[[1.0, 0.5, -0.25], [-0.5, 2.0, 0.125], [0.75, -1.0, 1.5]], shift=None)
plu = refflow.PLULinear(order=ORDER, lower=[[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], scale=[1.0, -1.0, 1.0], shift=None,
                        upper=[[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]])
declare("Permutation", "flows.mixing._Permutation", permuted)
declare("DenseLinear", "flows.InvertibleAffine [use_lu=False]", affine_of_rows,
        params={"shift": lambda shift: not np.any(shift)}, fixed=["shift"])
declare(refflow.Pointwise(dense), "flows.Invertible1x1Conv [use_lu=False]", convolution)
declare(refflow.Pointwise(plu), "flows.Invertible1x1Conv [use_lu=True]", lu_convolution)
declare("Squeeze", "flows.Squeeze", lambda p: backwards(flows.Squeeze(), 3),
        params={"factor": lambda factor: factor == 2, "order": lambda order: order == "interleaved"})


# -- planar, radial ---------------------------------------------------------------------------------------------------

def planar(act):
    def build(p):
        w, u, b = vectors(p["h"], 2)
        return rows_of(holding(flows.Planar(tuple(w.shape), act), w=w[None], u=u[None], b=b), 1)

    return build


def radial(p):
    centre, alpha, beta = vectors(p["h"], 1)
    return rows_of(holding(flows.Radial(tuple(centre.shape)), z_0=centre[None], alpha=alpha, beta=beta), 1)


def only_forward(build):
    return lambda p: (build(p)[0], None)


declare("Planar", "flows.Planar", only_forward(planar("tanh")), parametrisation="paper, normflows, Pyro, Bijectors.jl")
declare("PiecewisePlanar", "flows.Planar [leaky_relu]", planar("leaky_relu"), parametrisation="normflows")
declare("Radial", "flows.Radial", only_forward(radial), parametrisation="normflows")
