"""nflows 0.14, as adapters: `refflow check nflows`.

Its forward and inverse return (image, log_det) of a batch of rows.  They are called what nflows calls them: Tanh's forward is
tanh.  Splines are asked at their raw numbers, see `shared.numbers`; couplings and autoregressive maps with the network of
`shared.networks` in the place of their own.

Scales that a module makes of raw numbers are given to it as they are.

A documented choice, not a defect: the inverse of `Sigmoid` clamps at its argument eps.
"""

from __future__ import annotations

import numpy as np
import torch
from nflows import transforms as t
from nflows.transforms.autoregressive import AutoregressiveTransform
from nflows.transforms.coupling import CouplingTransform
from nflows.transforms.nonlinearities import CauchyCDF, CauchyCDFInverse

import refflow
from refflow.maps.coupling import Family, additive_family, affine_family
from refflow.maps.elementwise import CONVENTIONS, ScaledAffine, SigmoidScale
from refflow.maps.parametrisations import (CUBIC_SPLINES, LINEAR_SPLINES, QUADRATIC_SPLINES, SPLINES, IntervalEntries, PerPart,
                                           Premultiplied, SoftmaxKnots)

from .shared import pinned
from .shared.networks import PASSES, SIZE, autoregressive, connects, coupling, network_of
from .shared.numbers import raw, splines
from .shared.torch import Network, declaring, holding, rows_of, second_entry, shifting

version = pinned("nflows", "0.14")
declare = declaring("nflows.transforms.")
BINS, BOUND = 5, 3.0


def scalar(module):
    return rows_of(module)


def vector(module):
    return rows_of(module, 1)


def image(module):
    return rows_of(module, 3)


def positive(scale):
    return scale > 0


def first(p):
    return p["stages"]["0"]


declare("Tanh", "Tanh", lambda p: scalar(t.Tanh()))
declare("Sigmoid", "Sigmoid [temperature=1]", lambda p: scalar(t.Sigmoid()))
declare(refflow.Inverse(refflow.Sigmoid()), "Logit [temperature=1]", lambda p: scalar(t.Logit()))
declare("LeakyReLU", "LeakyReLU", lambda p: scalar(t.LeakyReLU(float(p["negative_slope"]))), fixed=["negative_slope"])
declare(refflow.Chain([refflow.CauchyCDF()]), "nonlinearities.CauchyCDF", lambda p: scalar(CauchyCDF()),
        fixed=["stages.0.loc", "stages.0.scale"])
declare(refflow.Inverse(refflow.CauchyCDF()), "nonlinearities.CauchyCDFInverse", lambda p: scalar(CauchyCDFInverse()),
        fixed=["inner.loc", "inner.scale"])


def log_tanh(p):
    return t.LogTanh(float(first(p)["cut_point"]))


def with_its_slope(p):
    """alpha and beta for which neither value nor slope jumps."""
    module = log_tanh(p)
    module.alpha = module.cut_point / np.cosh(module.cut_point) ** 2
    module.beta = np.exp(module.inv_cut_point / module.alpha) / module.cut_point
    return module


for name, make in {"LogTanh": log_tanh, "LogTanh [alpha and beta given]": with_its_slope}.items():
    declare(refflow.Chain([refflow.LogTanh()]), name, lambda p, make=make: scalar(make(p)), fixed=["stages.0.cut_point"])
declare("Affine", "PointwiseAffineTransform", lambda p: scalar(t.PointwiseAffineTransform(p["shift"], p["scale"])),
        params={"scale": positive})
declare("Affine", "AffineTransform", lambda p: scalar(t.AffineTransform(p["shift"], p["scale"])), params={"scale": positive})
declare("Affine", "IdentityTransform", lambda p: scalar(t.IdentityTransform()), fixed=["shift", "scale"],
        params={"shift": lambda shift: shift == 0, "scale": lambda scale: scale == 1})
declare("Permutation", "Permutation", lambda p: vector(t.Permutation(torch.from_numpy(p["order"]))))
declare("Permutation", "RandomPermutation [order given]",
        lambda p: vector(holding(t.RandomPermutation(len(p["order"])), _permutation=torch.from_numpy(p["order"]))))
declare(refflow.Chain([refflow.Permutation([3, 2, 1, 0])]), "ReversePermutation", lambda p: vector(t.ReversePermutation(4)))
declare("Squeeze", "SqueezeTransform", lambda p: image(t.SqueezeTransform(p["factor"])),
        params={"factor": lambda factor: factor > 1, "order": lambda order: order == "interleaved"})


def gated(p):
    """The gate's number is the context, one for each row."""
    module, s = t.GatedLinearUnit(), first(p)["s"]

    def of(call):
        return lambda event: call(event.reshape(-1, 1), s.expand(event.numel(), 1))

    def shaped(call):
        def both(event):
            found, log_det = of(call)(event)
            return found.reshape(event.shape), log_det.reshape(event.shape)

        return both

    return shaped(module.forward), shaped(module.inverse)


declare(refflow.Chain([ScaledAffine(s=0.5, scale=SigmoidScale(offset=0.0), shift=0.0)]), "GatedLinearUnit", gated,
        fixed=["stages.0.shift"])


# -- splines ----------------------------------------------------------------------------------------------------------

def spline_of(module, names, counts):
    """The second entry through a spline module whose numbers are cut from the raw ones."""

    def build(p):
        parts = torch.split(raw(p), counts)
        made = holding(module(), **{name: part[None] for name, part in zip(names, parts)})
        return second_entry(made.forward), second_entry(made.inverse)

    return build


NAMES = ["unnormalized_widths", "unnormalized_heights", "unnormalized_derivatives"]
ENDS = ["unnorm_derivatives_left", "unnorm_derivatives_right"]
SETTINGS = {"num_bins": BINS, "tails": "linear", "tail_bound": BOUND}
KINDS = {
    "RationalQuadratic": (SPLINES, NAMES, [BINS, BINS, BINS - 1]),
    "Linear": (LINEAR_SPLINES, ["unnormalized_pdf"], [BINS]),
    "Cubic": (CUBIC_SPLINES, [*NAMES[:2], *ENDS], [BINS, BINS, 1, 1]),
}
for kind, (conventions, names, counts) in KINDS.items():
    for like, composite in splines(getattr(refflow, f"{kind}Spline"), conventions["nflows"](BINS, BOUND)):
        declare(composite, f"Piecewise{kind}CDF [{like} numbers]", spline_of(
            lambda kind=kind: getattr(t, f"Piecewise{kind}CDF")([1], **SETTINGS), names, counts))


def zeros():
    """The heights at the five knots that raw numbers 0 of four bins give, and the page's spline with them.

    nflows makes the end heights from the inner ones, and then divides all by the area.
    """
    inner = np.log(2) + 1e-3
    end = inner * 5 / 7
    slopes = np.array([end, inner, inner, inner, end]) / (0.25 * end + 0.75 * inner)
    slopes = 1e-3 + (1 - 1e-3) * slopes
    return refflow.QuadraticSpline(input_knots=[-1.0, -0.5, 0.0, 0.5, 1.0], slopes=slopes, start=-1.0)


def equal_bins(p):
    module = t.PiecewiseQuadraticCDF([1], num_bins=4, tails="linear")
    numbers = first(p)["start"].new_zeros(1, 4)
    return scalar(holding(module, unnormalized_widths=numbers, unnormalized_heights=numbers[:, :3]))


declare(refflow.Chain([zeros()]), "PiecewiseQuadraticCDF [numbers 0]", equal_bins, gradients=False)


# -- couplings, autoregressive maps -----------------------------------------------------------------------------------

def coupled(kind, **settings):
    """A coupling; entries marked in its mask are transformed."""
    return lambda p: vector(kind((~PASSES).astype(int), lambda inputs, outputs: Network(p), **settings))


def in_order(kind, count, **settings):
    """An autoregressive map, whose network is masked."""

    def build(p):
        module = kind(features=SIZE, hidden_features=4, **settings)
        module.autoregressive_net = Network(p, connects(SIZE, count))
        return vector(module)

    return build


def shifted_in_order(p):
    return vector(shifting(AutoregressiveTransform)(Network(p, connects(SIZE, 1))))


OF_COUPLINGS, OF_ORDER = CONVENTIONS["nflows coupling, normflows AR"], CONVENTIONS["nflows AR"]
declare(refflow.AdditiveCoupling(PASSES, network_of(PASSES, 1, tanh=True)), "AdditiveCouplingTransform", coupled(t.AdditiveCouplingTransform))
declare(coupling(affine_family(OF_COUPLINGS, ("shift", "scale")), "halves", tanh=True), "AffineCouplingTransform",
        coupled(t.AffineCouplingTransform))
declare(coupling(additive_family(), tanh=True), "coupling.CouplingTransform [x + h of each entry]", coupled(shifting(CouplingTransform)))
declare(autoregressive(affine_family(OF_ORDER), tanh=True), "MaskedAffineAutoregressiveTransform",
        in_order(t.MaskedAffineAutoregressiveTransform, 2))
declare(autoregressive(additive_family(), tanh=True), "autoregressive.AutoregressiveTransform [x + h of each entry]",
        shifted_in_order)

FEW = {"num_bins": 2, "tails": "linear", "tail_bound": BOUND}
FAMILIES = {kind: Family(getattr(refflow, f"{kind}Spline"), conventions["nflows"](2, BOUND)) for kind, conventions in {
    "Linear": LINEAR_SPLINES, "Quadratic": QUADRATIC_SPLINES, "Cubic": CUBIC_SPLINES, "RationalQuadratic": SPLINES}.items()}
def without_inverse(build):
    """Of linear and quadratic splines, whose inverse is a finding already: that of `PiecewiseLinearCDF`, of `PiecewiseQuadraticCDF`."""
    return lambda p: (build(p)[0], None)


for kind, family in FAMILIES.items():
    build = coupled(getattr(t, f"Piecewise{kind}CouplingTransform"), **FEW)
    declare(coupling(family, tanh=True), f"Piecewise{kind}CouplingTransform",
            without_inverse(build) if kind in ("Linear", "Quadratic") else build)
for kind in ("Quadratic", "RationalQuadratic"):
    build = in_order(getattr(t, f"MaskedPiecewise{kind}AutoregressiveTransform"), FAMILIES[kind].size, **FEW)
    declare(autoregressive(FAMILIES[kind], tanh=True), f"MaskedPiecewise{kind}AutoregressiveTransform",
            without_inverse(build) if kind == "Quadratic" else build)


def on_unit_interval(*maps, names=("input_knots", "output_knots", "end_slopes")):
    """A map to the fields of a spline that ends at 0 and 1, which these two have in an autoregressive map."""
    return PerPart(names[:len(maps)], maps, (("tails", "none"),))


KNOTS = SoftmaxKnots(3, 0.0, 1.0, 1e-3)
EQUAL = Premultiplied(SoftmaxKnots(3, 0.0, 1.0), np.zeros((3, 0)))
WITH_ENDS = {"Linear": on_unit_interval(EQUAL, SoftmaxKnots(3, 0.0, 1.0)),
             "Cubic": on_unit_interval(KNOTS, KNOTS, IntervalEntries(2, 0.0, 3.0))}
for kind, fields in WITH_ENDS.items():
    build = in_order(getattr(t, f"MaskedPiecewise{kind}AutoregressiveTransform"), fields.size, num_bins=3)
    declare(autoregressive(Family(getattr(refflow, f"{kind}Spline"), fields), tanh=True), f"MaskedPiecewise{kind}AutoregressiveTransform",
            without_inverse(build) if kind == "Linear" else build)


# -- linear -----------------------------------------------------------------------------------------------------------

class LULinear(t.LULinear):
    """The diagonal itself, in the place of a softplus of raw numbers."""

    upper_diag = None


class OneByOneConvolution(t.OneByOneConvolution):
    """Likewise."""

    upper_diag = None


class SVDLinear(t.SVDLinear):
    """Likewise."""

    diagonal = None


def naive(p):
    module = t.linear.NaiveLinear(len(p["shift"]))
    return vector(holding(module, _weight=p["W"], bias=p["shift"]))


def lu(module, p, **more):
    """The entries below and above the diagonals, in the module's order."""
    lower, upper = p["lower"][module.lower_indices], p["upper"][module.upper_indices]
    return holding(module, lower_entries=lower, upper_entries=upper, upper_diag=p["scale"], **more)


def convolution(p):
    """Its channels are permuted before the triangles; the page permutes the rows after them."""
    inner = p["stages"]["1"]["inner"]
    module = lu(OneByOneConvolution(3), inner, bias=inner["shift"])
    module.permutation._permutation = torch.tensor(ORDER)
    return image(module)


def reflecting(module, stage):
    """A module with the vectors of the page, of which the last one reflects first."""
    return holding(module, q_vectors=stage["vectors"].flip(0))


def qr(p):
    triangle, module = first(p), t.QRLinear(4, 2)
    reflecting(module.orthogonal, p["stages"]["1"])
    return vector(holding(module, upper_entries=triangle["upper"][np.triu_indices(4, 1)], log_upper_diag=triangle["scale"].log(),
                          bias=p["stages"]["2"]["inner"]["shift"]))


def svd(p):
    right, diagonal, left, shift = (p["stages"][i] for i in "0123")
    module = SVDLinear(4, 2)
    reflecting(module.orthogonal_2, right)
    reflecting(module.orthogonal_1, left)
    return vector(holding(module, diagonal=diagonal["scale"], bias=shift["inner"]["shift"]))


VECTORS = np.array([[1.0, 0.5, 1.0, -1.5], [1.0, -1.0, 0.25, 0.0]])
ORDER = [2, 0, 1]
SHIFT = refflow.Independent(refflow.Affine(shift=[0.5, -1.0, 0.25, 2.0], scale=[1.0] * 4), 1)
SCALES = np.array([1.0, 0.5, 3.0, 0.25])
TRIANGLES: dict[str, list] = {"lower": [[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], "upper": [[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]],
                              "scale": [1.0, 0.5, 3.0], "shift": [0.5, -1.0, 0.25]}
plu = refflow.PLULinear(order=[0, 1, 2], **TRIANGLES)
upper = [[0, 1.5, -0.5, 1], [0, 0, 0.75, -2], [0, 0, 0, 0.25], [0, 0, 0, 0]]
declare("DenseLinear", "NaiveLinear", naive)
declare(refflow.Chain([plu]), "LULinear [diagonal given]", lambda p: vector(lu(LULinear(3), first(p), bias=first(p)["shift"])))
declare(refflow.Chain([refflow.Pointwise(refflow.Permutation(ORDER)), refflow.Pointwise(plu)]), "OneByOneConvolution [diagonal given]",
        convolution)
declare(refflow.Chain([refflow.HouseholderLinear(VECTORS)]), "HouseholderSequence",
        lambda p: vector(reflecting(t.HouseholderSequence(4, 2), first(p))))
declare(refflow.Chain([*refflow.qr_linear(VECTORS, upper, SCALES).stages, SHIFT]), "QRLinear", qr,
        fixed=["stages.0.lower", "stages.2.inner.scale"])
declare(refflow.Chain([*refflow.svd_linear(VECTORS, SCALES, VECTORS[::-1]).stages, SHIFT]), "SVDLinear [diagonal given]", svd,
        fixed=["stages.1.bias", "stages.3.inner.scale"])


# -- normalisation ----------------------------------------------------------------------------------------------------

class BatchNorm(t.BatchNorm):
    """The gain itself, in the place of a softplus of raw numbers."""

    weight = None


def batch_norm(p):
    module = BatchNorm(len(p["gain"]), eps=p["eps"])
    return vector(holding(module, weight=p["gain"], bias=p["bias"], running_mean=p["mean"], running_var=p["var"]))


def activation_norm(p):
    """Its scale is an exponential of the logarithm."""
    return vector(holding(t.ActNorm(3), log_scale=first(p)["scale"].log(), shift=first(p)["bias"]))


declare(refflow.Chain([refflow.ActNorm(scale=[1.0, 0.5, 3.0], bias=[0.5, -1.0, 0.25])]), "ActNorm", activation_norm)
declare("BatchNorm", "BatchNorm [weight given]", batch_norm,
        params={"gain": positive, "rank": lambda rank: rank == 1, "passes": lambda passes: not np.any(passes),
                "statistics": lambda statistics: statistics == "running"})


# -- compositions -----------------------------------------------------------------------------------------------------

def affine(p):
    return t.PointwiseAffineTransform(p["shift"], p["scale"])


def multiscale(p):
    """Of four channels, the last two go through another map."""
    inner = p["stages"]["1"]["rest"]["stages"]["0"]["inner"]
    module = t.MultiscaleCompositeTransform(2)
    module.add_transform(affine(inner), module.add_transform(affine(first(p)["inner"]), (4, 1, 1)))
    return rows_of(module, (3, 1))


one, other = refflow.Affine(shift=0.5, scale=0.75), refflow.Affine(shift=-1.0, scale=2.5)


def of_channels(shift, scale):
    return refflow.Independent(refflow.Affine(shift=np.reshape(shift, (-1, 1, 1)), scale=np.reshape(scale, (-1, 1, 1))), 3)


of_all, of_kept = of_channels([0.5, 1.0, -1.0, 0.0], [2.0, 0.25, 0.75, 1.5]), of_channels([0.25, -1.0], [3.0, 0.5])
declare(refflow.Chain([one, refflow.Sigmoid()]), "CompositeTransform",
        lambda p: scalar(t.CompositeTransform([affine(first(p)), t.Sigmoid()])))
declare(refflow.Inverse(one), "InverseTransform", lambda p: scalar(t.InverseTransform(affine(p["inner"]))))
declare(refflow.Chain([one, other, refflow.Inverse(one)]), "CompositeCDFTransform [affine maps]",
        lambda p: scalar(t.CompositeCDFTransform(affine(first(p)), affine(p["stages"]["1"]))), gradients=False)
to_vector = refflow.Chain([of_kept, refflow.Reshape((2, 1, 1), (2,))])
declare(refflow.Chain([of_all, refflow.FactorOut([False, False, True, True], to_vector)]),
        "MultiscaleCompositeTransform", multiscale)
