"""torchflows 1.2.1, as adapters: `refflow check torchflows`.

Its transformers take the event and raw parameters h; they are asked at their raw numbers, see `shared.numbers`, and couplings and
autoregressive layers with the network of `shared.networks` in the place of their own.

What it calls inverse leads from latents to data; planar, radial and Sylvester layers have nothing else.  Planar and Sylvester layers
have a sigmoid, 1/2 + tanh(a/2)/2: they are asked less a shift.  Nothing keeps a planar layer invertible: it is asked where it is.

Not asked yet: the other splines, the sigmoidal transformers, triangular matrices and their products, images.
"""

from __future__ import annotations

import numpy as np
import refflow
import torch
from torchflows.bijections.finite.autoregressive import layers
from torchflows.bijections.finite.autoregressive.transformers.linear.affine import Affine, SafeAffine
from torchflows.bijections.finite.autoregressive.transformers.spline.rational_quadratic import RationalQuadratic
from torchflows.bijections.finite.matrix.identity import IdentityMatrix
from torchflows.bijections.finite.matrix.orthogonal import HouseholderProductMatrix
from torchflows.bijections.finite.matrix.permutation import PermutationMatrix, RandomPermutationMatrix, ReversePermutationMatrix
from torchflows.bijections.finite.residual import planar, radial, sylvester

from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS, ScaledAffine
from refflow.maps.parametrisations import SPLINES, LocationScale

from .shared import pinned
from .shared.networks import SIZE, autoregressive, connects, coupling, network_of
from .shared.numbers import raw, splines, vectors
from .shared.torch import Network, declaring, holding, rows_of, second_entry

version = pinned("torchflows", "1.2.1")
declare = declaring("torchflows.bijections.finite.autoregressive.transformers.")
declare_layer = declaring("torchflows.bijections.finite.residual.")
declare_of = declaring("torchflows.bijections.finite.")
BINS = 5


def transformer_of(module):
    def build(p):
        h = raw(p)

        def of(call):
            return second_entry(lambda rows: call(rows, h.expand(*rows.shape, -1)))

        return of(module.forward), of(module.inverse)

    return build


for like, composite in splines(refflow.RationalQuadraticSpline, SPLINES["torchflows"](BINS, 3.0)):
    declare(composite, f"RationalQuadratic [{like} numbers]", transformer_of(RationalQuadratic((1,), boundary=3.0, n_bins=BINS)))
for name, module in {"torchflows": Affine, "torchflows SafeAffine": SafeAffine}.items():
    for like, composite in splines(ScaledAffine, LocationScale(CONVENTIONS[name])):
        declare(composite, f"{module.__name__} [{like} numbers]", transformer_of(module((1,))))


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


# -- couplings, autoregressive layers ---------------------------------------------------------------------------------

class PerEntry(torch.nn.Module):
    """The numbers of each entry on an axis of their own."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs, context=None):
        return self.network(inputs).unflatten(-1, (inputs.shape[-1], -1))


def coupled(kind, directions=("forward", "inverse"), **settings):
    """The first half passes."""

    def build(p):
        module = kind((len(HALVES),), transformer_kwargs=settings)
        module.conditioner_transform = Network(p)
        return rows_of(module, 1, *directions)

    return build


def in_order(kind, count, directions=("forward", "inverse"), **settings):
    def build(p):
        module = kind((SIZE,), transformer_kwargs=settings)
        module.conditioner_transform = PerEntry(Network(p, connects(SIZE, count)))
        return rows_of(module, 1, *directions)

    return build


BACKWARDS = ("inverse", "forward")
HALVES = np.array([True, True, False, False])
AFFINE = affine_family(CONVENTIONS["torchflows"])
SPLINE = Family(refflow.RationalQuadraticSpline, SPLINES["torchflows"](2, 3.0))
FEW = {"boundary": 3.0, "n_bins": 2}
declare_of(refflow.AdditiveCoupling(HALVES, network_of(HALVES, 1, tanh=True)), "autoregressive.layers.ShiftCoupling", coupled(layers.ShiftCoupling))
declare_of(coupling(AFFINE, passes=HALVES, tanh=True), "autoregressive.layers.AffineCoupling", coupled(layers.AffineCoupling))
declare_of(coupling(AFFINE, passes=HALVES, tanh=True), "autoregressive.layers.InverseAffineCoupling",
           coupled(layers.InverseAffineCoupling, BACKWARDS))
declare_of(coupling(SPLINE, passes=HALVES, tanh=True), "autoregressive.layers.RQSCoupling", coupled(layers.RQSCoupling, **FEW))
declare_of(autoregressive(AFFINE, tanh=True), "autoregressive.layers.AffineForwardMaskedAutoregressive",
           in_order(layers.AffineForwardMaskedAutoregressive, 2))
declare_of(autoregressive(SPLINE, tanh=True), "autoregressive.layers.RQSForwardMaskedAutoregressive",
           in_order(layers.RQSForwardMaskedAutoregressive, SPLINE.size, **FEW))


# -- matrices, shifts -------------------------------------------------------------------------------------------------

def reflections(p):
    dtype = torch.from_numpy(p["stages"]["0"]["Q"]).dtype
    return rows_of(holding(HouseholderProductMatrix((4,), n_factors=2), v=torch.tensor(VECTORS, dtype=dtype)), 1)


def of_order(p):
    return rows_of(PermutationMatrix(tuple(p["order"].shape), torch.from_numpy(p["order"])), 1)


def elementwise_shift(p):
    return rows_of(holding(layers.ElementwiseShift((3,)), value=p["inner"]["shift"][:, None]), 1)


def drawn_order(p):
    module = RandomPermutationMatrix((SIZE,))
    module.forward_permutation, module.inverse_permutation = torch.tensor(ORDER), torch.argsort(torch.tensor(ORDER))
    return rows_of(module, 1)


ORDER = [2, 0, 1]
VECTORS = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.0, 0.0]])
H = [np.eye(4) - 2 * np.outer(v, v) / (v @ v) for v in VECTORS]
declare_of(refflow.Chain([refflow.OrthogonalLinear(H[1] @ H[0])]), "matrix.orthogonal.HouseholderProductMatrix", reflections,
           fixed=["stages.0.Q"])
declare_of("Permutation", "matrix.permutation.PermutationMatrix", of_order)
declare_of(refflow.Chain([refflow.Permutation(ORDER)]), "matrix.permutation.RandomPermutationMatrix [order given]", drawn_order)
declare_of(refflow.Chain([refflow.Permutation([3, 2, 1, 0])]), "matrix.permutation.ReversePermutationMatrix",
           lambda p: rows_of(ReversePermutationMatrix((4,)), 1))
declare_of(refflow.Independent(refflow.Affine(), 1), "matrix.identity.IdentityMatrix", lambda p: rows_of(IdentityMatrix((3,)), 1),
           fixed=["inner.shift", "inner.scale"])
declare_of(refflow.Independent(refflow.Affine(shift=[0.5, -1.0, 0.25], scale=[1.0] * 3), 1), "autoregressive.layers.ElementwiseShift",
           elementwise_shift, fixed=["inner.scale"])
