"""torchflows 1.2.1, as adapters: `refflow check torchflows`.

Its transformers take the event and raw parameters h; they are asked at their raw numbers, see `shared.numbers`, and couplings and
autoregressive layers with the network of `shared.networks` in the place of their own.

What it calls inverse leads from latents to data; planar, radial and Sylvester layers have nothing else.  Planar and Sylvester layers
have a sigmoid, 1/2 + tanh(a/2)/2: they are asked less a shift.  Nothing keeps a planar layer invertible: it is asked where it is.

Triangular matrices have their diagonal, actnorms and scales their scale, and sigmoidal transformers their rates, biases and weights
in the place of numbers from which the library makes them.  The inverse of the latter is a bisection on [-10, 10]: their forward is
asked.  `AffineInverseMaskedAutoregressive` is asked without the floor of its scale, by which it divides.  `Cubic` has no inverse.

A continuous flow is asked where its solver has fixed steps, with a velocity given; its log-det is an estimate by random noise, and is
not asked.

Left out: the unconstrained monotonic network, whose integral is a sum over nodes.
"""

from __future__ import annotations

import numpy as np
import refflow
import torch
from torchflows.bijections.base import BijectiveComposition
from torchflows.bijections.continuous.base import ContinuousBijection, HutchinsonTimeDerivative
from torchflows.bijections.continuous.ddnf import DDNF
from torchflows.bijections.finite.autoregressive import architectures, layers, layers_base
from torchflows.bijections.finite.autoregressive.transformers.combination.sigmoid import (DeepDenseSigmoid, DeepSigmoid,
                                                                                          DenseSigmoidInnerTransform, Sigmoid)
from torchflows.bijections.finite.autoregressive.transformers.linear.affine import Affine, SafeAffine, Shift
from torchflows.bijections.finite.autoregressive.transformers.linear.convolution import Invertible1x1ConvolutionTransformer
from torchflows.bijections.finite.autoregressive.transformers.linear.matrix import LUTransformer
from torchflows.bijections.finite.autoregressive.transformers.spline.cubic import Cubic
from torchflows.bijections.finite.autoregressive.transformers.spline.linear import Linear
from torchflows.bijections.finite.autoregressive.transformers.spline.linear_rational import LinearRational
from torchflows.bijections.finite.autoregressive.transformers.spline.rational_quadratic import RationalQuadratic
from torchflows.bijections.finite.matrix.decomposition import LUMatrix, QRMatrix
from torchflows.bijections.finite.matrix.identity import IdentityMatrix
from torchflows.bijections.finite.matrix.orthogonal import HouseholderProductMatrix
from torchflows.bijections.finite.matrix.permutation import PermutationMatrix, RandomPermutationMatrix, ReversePermutationMatrix
from torchflows.bijections.finite.matrix.triangular import (LowerTriangularInvertibleMatrix,
                                                            NonTrainableLowerTriangularInvertibleMatrix,
                                                            UpperTriangularInvertibleMatrix)
from torchflows.bijections.finite.multiscale import base as multiscale
from torchflows.bijections.finite.residual import planar, radial, sylvester

from refflow.maps.coupling import Family, additive_family, affine_family
from refflow.maps.elementwise import CONVENTIONS, CentredSoftplusScale, ExpScale, ScaledAffine, ScaledShift
from refflow.maps.parametrisations import (CUBIC_SPLINES, SPLINES, Entries, Free, IntervalEntries, KnotSlopes, LocationScale, PerPart,
                                           Premultiplied, SoftmaxKnots, SoftmaxWeights)
from refflow.models.gaussian import lower_triangular

from ..oracle import adapter
from .shared import by_rows, pinned
from .shared.networks import SIZE, autoregressive, connects, coupling, network_of
from .shared.numbers import raw, splines, vectors
from .shared.torch import Network, declaring, holding, rows_of, second_entry
from .shared.velocity import NET, stepped

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
def linear_rational(bins, bound):
    """Heights start from the widths; in h, middles stand before slopes, and the last number does not matter."""
    knots = SoftmaxKnots(bins, -bound, bound, 2 * bound * 1e-2)
    fields = PerPart(("input_knots", "output_knots", "slopes", "middles"),
                     (knots, knots, KnotSlopes(CentredSoftplusScale(floor=1e-5), bins), IntervalEntries(bins, 0.0, 1.0)),
                     (("tails", "identity"),))
    widths, heights, middles, slopes = np.split(np.eye(4 * bins)[:-1], [bins, 2 * bins, 3 * bins])
    return Premultiplied(fields, np.concatenate([widths, widths + heights / 100, slopes / 100, middles]))


for like, composite in splines(refflow.LinearRationalSpline, linear_rational(BINS, 3.0)):
    declare(composite, f"LinearRational [{like} numbers]", transformer_of(LinearRational((1,), boundary=3.0, n_bins=BINS)))
def linear_spline(bins, bound):
    """Equal bins, as the numbers of widths are 0, which are the module's; the numbers of heights are divided by 1000."""
    knots = SoftmaxKnots(bins, -bound, bound, 2 * bound * 1e-3)
    return PerPart(("input_knots", "output_knots"), (Premultiplied(knots, np.zeros((bins, 0))), Premultiplied(knots, np.eye(bins) / 1000)),
                   (("tails", "identity"),))


def with_equal_bins(p):
    return transformer_of(holding(Linear((1,), boundary=3.0), u_x=torch.zeros_like(raw(p).detach())))(p)


for like, composite in splines(refflow.LinearSpline, linear_spline(8, 3.0)):
    declare(composite, f"spline.Linear [equal bins, {like} numbers]", with_equal_bins)
def cubic_spline(bins):
    """Heights start from the widths; the page's slopes at the ends are made of the last two numbers."""
    fields = CUBIC_SPLINES["nflows"](bins, 1.0)
    widths, heights, ends = np.split(np.eye(fields.size), [bins, 2 * bins])
    return Premultiplied(fields, np.concatenate([widths, widths + heights / 1000, ends]))


def only_forward(build):
    return lambda p: (build(p)[0], None)


for like, composite in splines(refflow.CubicSpline, cubic_spline(8)):
    declare(composite, f"spline.Cubic [{like} numbers]", only_forward(transformer_of(Cubic((1,)))))
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


def coupled(kind, directions=("forward", "inverse"), edges=None, changed=lambda module: module, **settings):
    """The first half passes; the module may be `changed`."""

    def build(p):
        module = kind((len(HALVES),), transformer_kwargs=settings, coupling_kwargs={"edge_list": edges})
        module.conditioner_transform = Network(p)
        return rows_of(changed(module), 1, *directions)

    return build


def in_order(kind, count, directions=("forward", "inverse"), changed=lambda module: module, **settings):
    def build(p):
        p = p.get("inner", p)
        module = kind((SIZE,), transformer_kwargs=settings)
        module.conditioner_transform = PerEntry(Network(p, connects(SIZE, count)))
        return rows_of(changed(module), 1, *directions)

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


declare_of(coupling(additive_family(), passes=HALVES, tanh=True), "autoregressive.layers_base.CouplingBijection [Shift]",
           coupled(lambda shape, **settings: layers_base.CouplingBijection(shape, Shift, **settings)))
declare_of(autoregressive(additive_family(), tanh=True), "autoregressive.layers_base.MaskedAutoregressiveBijection [Shift]",
           in_order(lambda shape, **settings: layers_base.MaskedAutoregressiveBijection(shape, Shift, **settings), 1))
declare_of(coupling(AFFINE, passes=HALVES, tanh=True), "autoregressive.conditioning.coupling_masks.GraphicalCoupling",
           coupled(layers.AffineCoupling, edges=[(0, 2), (1, 3), (0, 3)]))
DIVIDED = Family(ScaledShift, Premultiplied(LocationScale(ExpScale()), [[-0.5, 0.0], [0.0, -1.0]]))
declare_of(autoregressive(DIVIDED, tanh=True), "autoregressive.layers.AffineInverseMaskedAutoregressive [min_scale=0]",
           in_order(layers.AffineInverseMaskedAutoregressive, 2, BACKWARDS, min_scale=0.0))
LINEAR = Family(refflow.LinearRationalSpline, linear_rational(2, 3.0))
declare_of(coupling(LINEAR, passes=HALVES, tanh=True), "autoregressive.layers.LRSCoupling", coupled(layers.LRSCoupling, **FEW))
declare_of(autoregressive(LINEAR, tanh=True), "autoregressive.layers.LRSForwardMaskedAutoregressive",
           in_order(layers.LRSForwardMaskedAutoregressive, LINEAR.size, **FEW))
declare_of(refflow.Inverse(autoregressive(SPLINE, tanh=True)), "autoregressive.layers.RQSInverseMaskedAutoregressive",
           in_order(layers.RQSInverseMaskedAutoregressive, SPLINE.size, **FEW))


# -- fields in the place of raw numbers -------------------------------------------------------------------------------

class GivenTerms(Sigmoid):
    """Rates, biases and weights, in the place of what it makes of raw numbers."""

    def extract_parameters(self, h):
        return [field.expand(len(h), -1) for field in (*self.fields, self.fields[-1].log())]


class PlainTerms(Sigmoid):
    """Rates by softplus, weights by softmax, in the place of its own ways."""

    def extract_parameters(self, h):
        rates, bias, logits = h.chunk(3, -1)
        return torch.nn.functional.softplus(rates), bias, logits.softmax(-1), logits.log_softmax(-1)


def plain_terms(module):
    module.transformer.components = [PlainTerms(module.transformer.event_shape, hidden_dim=2)]
    return module


def each_entry(transformer, count):
    """A transformer of one entry, at raw numbers 0."""
    def of(call):
        return lambda event: by_rows(lambda rows: call(rows, rows.new_zeros(*rows.shape, count)), event, 0)

    return of(transformer.forward), of(transformer.inverse)


def sigmoids(inner):
    made = GivenTerms((1,), hidden_dim=3)
    made.fields = [inner[name] for name in ("rate", "bias", "weights")]
    return made


def deep_sigmoid(p):
    made = DeepSigmoid((1,), n_hidden_layers=2, hidden_dim=3)
    made.components = [sigmoids(inner) for inner in p["stages"].values()]
    return each_entry(made, 18)[0], None


class GivenLayer(DenseSigmoidInnerTransform):
    """Rates, biases and the weights of both means, in the place of what it makes of raw numbers."""

    def extract_parameters(self, h):
        a, b, w, u = (field.expand(*h.shape[:2], *field.shape) for field in self.fields)
        return a, b, w, w.log(), u, u.log()


def dense_layers(inner):
    """A layer of one entry for each layer of the page, with a row of `rate`, `bias` and the matrices that lead to it and from it."""
    units = inner["rate"].shape[-1]
    averaging = [inner["rate"].new_ones(units, 1), *inner["averaging"]]
    mixing = [*inner["mixing"], inner["weights"][None]]
    made = [GivenLayer(u.shape[1], len(w), 1) for u, w in zip(averaging, mixing)]
    for layer, *fields in zip(made, inner["rate"], inner["bias"], mixing, averaging):
        layer.fields = fields
    return made


def deep_dense_sigmoid(p):
    made = DeepDenseSigmoid((1,), n_hidden_layers=1)
    made.components[0].layers = torch.nn.ModuleList(dense_layers(p["stages"]["0"]))
    return each_entry(made, made.n_parameters_per_element)[0], None


dense = refflow.DenseSigmoid(rate=[[0.5, 1.0], [1.5, 0.75]], bias=[[0.5, -1.0], [0.25, 0.0]], mixing=[[[0.5, 0.5], [0.25, 0.75]]],
                             averaging=[[[0.75, 0.25], [0.5, 0.5]]], weights=[0.25, 0.75])
terms = [refflow.DeepSigmoid([0.25, 0.25, 0.5], [0.5, 1.0, 2.0], [0.5, -1.0, 0.25]),
         refflow.DeepSigmoid([0.5, 0.25, 0.25], [1.0, 1.5, 0.75], [0.0, 0.5, -2.0])]
SIGMOIDS = Family(refflow.DeepSigmoid, PerPart(("rate", "bias", "weights"), (Entries(refflow.SoftplusScale(), 2), Entries(Free(), 2),
                                                                            SoftmaxWeights(2))))
ONE = {"changed": plain_terms, "n_hidden_layers": 1, "hidden_dim": 2}
declare_of(coupling(SIGMOIDS, passes=HALVES, tanh=True), "autoregressive.layers.DeepSigmoidalCoupling [softplus, softmax]",
           only_forward(coupled(layers.DeepSigmoidalCoupling, **ONE)))
declare_of(autoregressive(SIGMOIDS, tanh=True), "autoregressive.layers.DeepSigmoidalForwardMaskedAutoregressive [softplus, softmax]",
           only_forward(in_order(layers.DeepSigmoidalForwardMaskedAutoregressive, 6, **ONE)))
declare(refflow.Chain(terms), "DeepSigmoid [rates, biases and weights given]", deep_sigmoid)
declare(refflow.Chain([dense]), "DeepDenseSigmoid [rates, biases and weights given]", deep_dense_sigmoid)


# -- matrices, shifts -------------------------------------------------------------------------------------------------

def reflections(p):
    """The last vector of the page reflects first."""
    return rows_of(holding(HouseholderProductMatrix((4,), n_factors=2), v=p["stages"]["0"]["vectors"].flip(0)), 1)


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
declare_of(refflow.Chain([refflow.HouseholderLinear(VECTORS)]), "matrix.orthogonal.HouseholderProductMatrix", reflections)
declare_of("Permutation", "matrix.permutation.PermutationMatrix", of_order)
declare_of(refflow.Chain([refflow.Permutation(ORDER)]), "matrix.permutation.RandomPermutationMatrix [order given]", drawn_order)
declare_of(refflow.Chain([refflow.Permutation([3, 2, 1, 0])]), "matrix.permutation.ReversePermutationMatrix",
           lambda p: rows_of(ReversePermutationMatrix((4,)), 1))
declare_of(refflow.Independent(refflow.Affine(), 1), "matrix.identity.IdentityMatrix", lambda p: rows_of(IdentityMatrix((3,)), 1),
           fixed=["inner.shift", "inner.scale"])
declare_of(refflow.Independent(refflow.Affine(shift=[0.5, -1.0, 0.25], scale=[1.0] * 3), 1), "autoregressive.layers.ElementwiseShift",
           elementwise_shift, fixed=["inner.scale"])


# -- triangles, scales ------------------------------------------------------------------------------------------------

class Lower(LowerTriangularInvertibleMatrix):
    """The diagonal itself, in the place of an exponential of raw numbers."""

    def constrain_diagonal_elements(self, u):
        return self.diagonal

    def log_det_project(self):
        return self.diagonal.log().sum()


def lower_matrix(L):
    size = len(L)
    made = holding(Lower((size,)), off_diagonal_elements=L[tuple(np.tril_indices(size, -1))])
    made.diagonal = L.diagonal()
    return made


def whole(p):
    """The page has a unit lower triangle times the diagonal."""
    inner = p["stages"]["0"]
    return (inner["lower"].tril(-1) + torch.eye(SIZE, dtype=inner["scale"].dtype)) * inner["scale"]


def upper_matrix(U):
    made = UpperTriangularInvertibleMatrix((len(U),))
    made.lower = lower_matrix(U.T)
    return made


def upper_of(inner):
    return inner["upper"].triu(1) + torch.diag(inner["scale"])


def lower_upper(p):
    inner = p["stages"]["0"]
    made = LUMatrix((SIZE,))
    holding(made.lower, off_diagonal_elements=inner["lower"][tuple(np.tril_indices(SIZE, -1))])
    made.upper = upper_matrix(upper_of(inner))
    return rows_of(made, 1)


def numbers_of(inner):
    """The matrices of the page, in the place of what the transformer makes of raw numbers."""
    lower = inner["lower"].tril(-1) + torch.eye(SIZE, dtype=inner["scale"].dtype)
    return lambda h: (lower, upper_of(inner), inner["scale"].log().expand(len(h), -1))


def lu_transformer(p):
    made = holding(LUTransformer((SIZE,)), extract_matrices=numbers_of(p["stages"]["0"]))
    return without_numbers(made, 1)


def convolution(p):
    made = Invertible1x1ConvolutionTransformer((SIZE, 2, 2))
    made.invertible_linear.extract_matrices = numbers_of(p["inner"])
    return without_numbers(made, 3)


def without_numbers(made, event_ndim):
    """A transformer that reads no raw numbers."""
    def of(call):
        return lambda event: by_rows(lambda rows: call(rows, rows.new_zeros(len(rows), 1)), event, event_ndim)

    return of(made.forward), of(made.inverse)


def at_scale(made, p, name="constrain_scale"):
    """A layer at a scale, in the place of what it makes of raw numbers."""
    inner = p["inner"].get("inner", p["inner"])
    setattr(made.transformer, name, lambda u: inner["scale"].expand(u.shape))
    columns = [inner["scale"], torch.as_tensor(inner["shift"])][:made.value.shape[-1]]              # the first is not read
    return holding(made, value=torch.stack(columns, -1))


def orthogonal_upper(p):
    made = QRMatrix((SIZE,))
    holding(made.orthogonal, v=p["stages"]["1"]["vectors"])
    made.upper = upper_matrix(upper_of(p["stages"]["0"]))
    return rows_of(made, 1)


def squeezed(p):
    return rows_of(multiscale.Squeeze((1, 2, 2)), 3)


plu = refflow.PLULinear(order=[0, 1, 2], lower=[[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], scale=[1.0, 0.5, 3.0], shift=None,
                        upper=[[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]])
triangle = lower_triangular(np.array([[0.5, 0, 0], [0.25, 2, 0], [-1.5, 3, 0.75]]))
vector = refflow.Independent(refflow.Affine(shift=[0.5, -1.0, 0.25], scale=[0.5, 2.0, 3.0]), 1)
NO_SHIFT = ["stages.0.shift", "stages.0.upper", "stages.0.order"]
declare_of(refflow.Chain([triangle]), "matrix.triangular.LowerTriangularInvertibleMatrix [diagonal given]",
           lambda p: rows_of(lower_matrix(whole(p)), 1), fixed=NO_SHIFT)
declare_of(refflow.Chain([triangle]), "matrix.triangular.NonTrainableLowerTriangularInvertibleMatrix",
           lambda p: rows_of(NonTrainableLowerTriangularInvertibleMatrix(whole(p)), 1), fixed=NO_SHIFT)
declare_of(refflow.Chain([refflow.PLULinear([0, 1, 2], np.zeros((3, 3)), plu.upper, plu.scale, None)]),
           "matrix.triangular.UpperTriangularInvertibleMatrix [diagonal given]",
           lambda p: rows_of(upper_matrix(upper_of(p["stages"]["0"])), 1), fixed=["stages.0.lower"])
declare_of(refflow.Chain([plu]), "matrix.decomposition.LUMatrix [diagonal given]", lower_upper)
declare_of(refflow.qr_linear([[1.0, 2.0, -1.5]], plu.upper, plu.scale), "matrix.decomposition.QRMatrix [diagonal given]",
           orthogonal_upper, fixed=["stages.0.lower"])
declare(refflow.Chain([plu]), "linear.matrix.LUTransformer [matrices given]", lu_transformer)
declare(refflow.Pointwise(plu), "linear.convolution.Invertible1x1ConvolutionTransformer [matrices given]", convolution)
declare_of(vector, "autoregressive.layers.ElementwiseAffine [scale given]",
           lambda p: rows_of(at_scale(layers.ElementwiseAffine((SIZE,)), p), 1))
declare_of(refflow.Inverse(vector), "autoregressive.layers.ActNorm [scale given]",
           lambda p: rows_of(at_scale(layers.ActNorm((SIZE,)), p), 1))
declare_of(refflow.Independent(refflow.Affine(scale=[0.5, 2.0, 3.0], shift=[0.0] * 3), 1),
           "autoregressive.layers.ElementwiseScale [scale given]",
           lambda p: rows_of(at_scale(layers.ElementwiseScale((SIZE,)), p, "constrain_alpha"), 1),
           fixed=["inner.shift"])
declare_of("Squeeze", "multiscale.base.Squeeze", squeezed,
           params={"factor": lambda factor: factor == 2, "order": lambda order: order == "blocks"})


# -- compositions, images ---------------------------------------------------------------------------------------------

def composed(p):
    shift = holding(layers.ElementwiseShift((SIZE,)), value=p["stages"]["1"]["inner"]["shift"][:, None])
    drawn = RandomPermutationMatrix((SIZE,))
    drawn.forward_permutation, drawn.inverse_permutation = torch.tensor(ORDER), torch.argsort(torch.tensor(ORDER))
    return rows_of(BijectiveComposition([drawn, shift]), 1)


def nice(p):
    made, stages = architectures.NICE((4,), n_layers=1), p["stages"]
    made.layers[2].conditioner_transform = Network(stages["2"])
    for i in (0, 3, 4, 5):
        at_scale(made.layers[i], stages[str(i)])
    return rows_of(made, 1)


def multiscale_of_two(p):
    """Without couplings, and with an affine map of the part that is kept."""
    made = multiscale.MultiscaleBijection((1, 2, 2), Shift, n_blocks=2, n_checkerboard_layers=0, n_channel_wise_layers=0)
    fields = {name: field.reshape(2, 1, 1) for name, field in p["stages"]["1"]["parts"]["1"]["inner"].items()}
    made.small_bijection = at_scale(layers.ElementwiseAffine((2, 1, 1)), {"inner": fields})
    return rows_of(made, 3)


class Flat(torch.nn.Module):
    """A network of the vector that an image is, in C order."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, inputs, context=None):
        return self.network(inputs.flatten(1))


def image_coupling(kind, passes):
    """An additive coupling of images of this shape, by a network of their passing entries."""
    def build(p):
        made = kind(passes.shape, transformer_class=Shift)
        made.conditioner_transform = Flat(Network(p))
        return rows_of(made, 3)

    return build


CHECKERBOARD = np.arange(4).reshape(1, 2, 2) % 2 == 1
CHANNELS = np.array([True, False])[:, None, None] & np.ones((1, 1, 2), bool)
declare_of(refflow.Chain([refflow.Permutation(ORDER), refflow.Independent(refflow.Affine(shift=[0.5, -1.0, 0.25], scale=[1.0] * 3), 1)]),
           "BijectiveComposition", composed, fixed=["stages.1.inner.scale"])


def of_four(turns):
    """An affine map of four entries; each stage has one of its own."""
    return refflow.Independent(refflow.Affine(shift=np.roll([0.5, -1.0, 0.25, 1.0], turns), scale=np.roll([0.5, 2.0, 3.0, 1.5], turns)), 1)


declare_of(refflow.Chain([of_four(0), refflow.Permutation([3, 2, 1, 0]), coupling(additive_family(), passes=HALVES, tanh=True),
                          refflow.Inverse(of_four(1)), of_four(2), refflow.Inverse(of_four(3))]),
           "autoregressive.architectures.NICE [n_layers=1, scales given]", nice)
flat = refflow.Reshape((1, 2, 2), (4,))
parts = [refflow.Independent(refflow.Affine(shift=[0.0, 0.0], scale=[1.0, 1.0]), 1),
         refflow.Independent(refflow.Affine(shift=[0.5, -1.0], scale=[2.0, 0.75]), 1)]
declare_of(refflow.Chain([flat, refflow.Concatenate(parts, (2, 2)), refflow.Inverse(flat)]), "multiscale.base.MultiscaleBijection [affine]",
           multiscale_of_two, fixed=[f"stages.1.parts.0.inner.{name}" for name in ("shift", "scale")])
declare_of(coupling(additive_family(), passes=CHECKERBOARD, tanh=True), "multiscale.base.CheckerboardCoupling [Shift]",
           image_coupling(multiscale.CheckerboardCoupling, CHECKERBOARD))
declare_of(coupling(additive_family(), passes=CHANNELS, tanh=True), "multiscale.base.ChannelWiseCoupling [Shift]",
           image_coupling(multiscale.ChannelWiseCoupling, CHANNELS))


# -- continuous flows -------------------------------------------------------------------------------------------------

def deep_diffeomorphic(velocity, z):
    module = DDNF((2,), n_steps=4)
    module.f.forward_model = velocity
    return by_rows(module.inverse, z)[0]


def of_one_step(velocity, z):
    """The default solver, without a step size."""
    return by_rows(ContinuousBijection((2,), HutchinsonTimeDerivative(velocity), end_time=0.25).inverse, z)[0]


adapter(refflow.DiscreteFlow(NET, "euler", 4, 0.0, 1.0), theirs="torchflows.bijections.continuous.ddnf.DDNF [4 steps]")(
    stepped(deep_diffeomorphic))
adapter(refflow.DiscreteFlow(NET, "three-eighths", 1, 0.0, 0.25), theirs="torchflows.bijections.continuous.base.ContinuousBijection [one step]")(
    stepped(of_one_step))
