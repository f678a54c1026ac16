"""torchflows 1.2.1, as adapters: `refflow check torchflows`.

Its transformers take the event and raw parameters h; they are asked at their raw numbers, see `shared.numbers`.

What it calls inverse leads from latents to data; planar, radial and Sylvester layers have nothing else.  Planar and Sylvester layers
have a sigmoid, 1/2 + tanh(a/2)/2: they are asked less a shift.  Nothing keeps a planar layer invertible: it is asked where it is.
"""

from __future__ import annotations

import refflow
import torch
from torchflows.bijections.finite.autoregressive.transformers.linear.affine import Affine, SafeAffine
from torchflows.bijections.finite.autoregressive.transformers.spline.rational_quadratic import RationalQuadratic
from torchflows.bijections.finite.residual import planar, radial, sylvester

from refflow.maps.elementwise import CONVENTIONS, ScaledAffine
from refflow.maps.parametrisations import SPLINES, LocationScale

from .shared import pinned
from .shared.numbers import raw, splines, vectors
from .shared.torch import declaring, holding, rows_of, second_entry

version = pinned("torchflows", "1.2.1")
declare = declaring("torchflows.bijections.finite.autoregressive.transformers.")
declare_layer = declaring("torchflows.bijections.finite.residual.")
BINS = 5


def transformer_of(module):
    def build(p):
        h = raw(p)

        def of(call):
            return second_entry(lambda rows: call(rows, h.expand(*rows.shape, -1)))

        return of(module.forward), of(module.inverse)

    return build


for like, coupling in splines(refflow.RationalQuadraticSpline, SPLINES["torchflows"](BINS, 3.0)):
    declare(coupling, f"RationalQuadratic [{like} numbers]", transformer_of(RationalQuadratic((1,), boundary=3.0, n_bins=BINS)))
for name, module in {"torchflows": Affine, "torchflows SafeAffine": SafeAffine}.items():
    for like, coupling in splines(ScaledAffine, LocationScale(CONVENTIONS[name])):
        declare(coupling, f"{module.__name__} [{like} numbers]", transformer_of(module((1,))))


# -- planar, radial, Sylvester ----------------------------------------------------------------------------------------

class Radial(radial.Radial):
    """alpha itself, in the place of a softplus of a raw number."""

    alpha = None


def planar_layer(p):
    w, u, b = vectors(p["h"], 2)
    forward, _ = rows_of(holding(planar.Planar(tuple(w.shape)), w=w, u=u, b=b[0]), 1, "inverse")

    def less_shift(z):
        x, log_det = forward(z)
        return x - u / 2, log_det

    return less_shift, None


def radial_layer(p):
    module = holding(Radial(tuple(p["centre"].shape)), z0=p["centre"], alpha=p["alpha"], beta=p["slack"] - p["alpha"])
    return rows_of(module, 1, "inverse")[0], None


def sylvester_layer(p):
    """As many units as entries, and the page's triangles."""
    inner = p["stages"]["0"]
    R = inner["R"] + torch.diag((inner["slack"] - 1) / inner["diagonal"])
    S = inner["S"] + torch.diag(inner["diagonal"])
    module = sylvester.PermutationSylvester((len(S),), m=len(S))
    forward, _ = rows_of(holding(module, compute_u=lambda: 2 * R, compute_w=lambda: 2 * S, b=2 * inner["b"]), 1, "inverse")

    def less_shift(z):
        x, log_det = forward(z)
        return x - R.sum(-1), log_det

    return less_shift, None


triangles = refflow.Sylvester(R=[[0, 0.5], [0, 0]], S=[[0, -1.5], [0, 0]], diagonal=[0.5, -0.25], b=[0.5, -1.0], slack=[1.25, 0.625])
declare_layer(refflow.Chain([triangles]), "sylvester.PermutationSylvester [triangles given, less R/2]", sylvester_layer,
              gradients=False)
declare_layer("Planar", "planar.Planar [less u/2]", planar_layer, parametrisation="torchflows")
declare_layer("Radial", "radial.Radial [alpha given]", radial_layer)
