"""normflows 1.7.3, as adapters: `refflow check normflows`.

forward leads from latents to data and inverse back; both return (image, log_det) of a batch of rows.  Linear maps and splines
hold the matrix, or the spline, of inverse: there their inverse is held against the page's forward.

Planar flows with tanh and radial flows have no inverse; their forward is asked.

Splines are asked at their raw numbers, see `shared.numbers`; couplings and autoregressive maps with the network of
`shared.networks` in the place of their own.

A residual flow is asked for pairs in evaluation, where its log-det is exact.

Left out: `BatchNorm`, whose map is of a batch, not of an event.
"""

from __future__ import annotations

import numpy as np
import normflows
import torch
from normflows import flows, transforms
from normflows.flows import neural_spline
from normflows.utils.splines import unconstrained_rational_quadratic_spline

import refflow
from refflow.maps.conditioners import Contextual, Conv2d, Dense, Sequential, TanhActivation
from refflow.maps.coupling import Coupling, Family, additive_family, affine_family
from refflow.maps.elementwise import CONVENTIONS, ExpScale
from refflow.maps.parametrisations import SPLINES

from .shared import pinned
from .shared.networks import PASSES, SIZE, autoregressive, connects, coupling, layer, network, network_of
from .shared.numbers import raw, splines, vectors
from .shared.torch import Network, Tanh, declaring, holding, rows_of, second_entry, shifting

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


def constant_affine(kind):
    """Of a module whose numbers are set, so that the first batch does not set them."""

    def build(p):
        s, t = p["logs"], p["bias"]
        module = kind(tuple(s.shape))
        module.data_dep_init_done = torch.tensor(1.0)
        return rows_of(holding(module, s=s[None], t=t[None]), 1)

    return build


class Copied(torch.nn.Module):
    """A flow that is given copies, because it writes to its input."""

    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, z):
        return self.flow.forward(z.clone())

    def inverse(self, z):
        return self.flow.inverse(z.clone())


def shift(p):
    return rows_of(Copied(transforms.Shift(-p["shift"].item())))


declare(refflow.Chain([refflow.CircularShift(ends=[-3.0, 3.0], turns=0.25)]), "flows.PeriodicShift", periodic_shift)
MODERATE = {"logs": lambda logs: np.all(np.abs(logs) < 80)}
declare("GlowTTSActNorm", "flows.AffineConstFlow", constant_affine(flows.AffineConstFlow), params=MODERATE)
declare("GlowTTSActNorm", "flows.ActNorm [initialised]", constant_affine(flows.ActNorm), params=MODERATE)
declare("Affine", "transforms.Shift [of a copy]", shift, params={"scale": lambda scale: scale == 1}, fixed=["shift", "scale"])


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


for like, composite in splines(refflow.RationalQuadraticSpline, SPLINES["normflows"](BINS, BOUND)):
    declare(composite, f"utils.splines.unconstrained_rational_quadratic_spline [{like} numbers]", spline)


def circular(p):
    """The second entry on a circle, where the slope at its last knot is the slope at its first."""
    def of(inverse):
        def column(event):
            each = [v.expand(*event.shape, -1) for v in torch.split(raw(p), BINS)]
            image, log_det = unconstrained_rational_quadratic_spline(event, *each, inverse=inverse, tails="circular", tail_bound=BOUND)
            return image, log_det.sum(-1)

        return second_entry(column)

    return of(False), of(True)


def module_of(p):
    parts = zip(NAMES, torch.split(raw(p), [BINS, BINS, BINS - 1]))
    module = neural_spline.coupling.PiecewiseRationalQuadraticCDF([1], num_bins=BINS, tails="linear", tail_bound=BOUND)
    made = holding(module, **{name: part[None] for name, part in parts})
    return second_entry(made.forward), second_entry(made.inverse)


NAMES = ["unnormalized_widths", "unnormalized_heights", "unnormalized_derivatives"]
for like, composite in splines(refflow.RationalQuadraticSpline, SPLINES["normflows"](BINS, BOUND)):
    declare(composite, f"flows.neural_spline.coupling.PiecewiseRationalQuadraticCDF [{like} numbers]", module_of)
for like, composite in splines(refflow.RationalQuadraticSpline, SPLINES["normflows"](BINS, BOUND, circular=True)):
    declare(composite, f"utils.splines.unconstrained_rational_quadratic_spline [tails=circular, {like} numbers]", circular)


# -- couplings, autoregressive maps -----------------------------------------------------------------------------------

HALVES, CHECKERBOARD, ALTERNATING = np.array([[True, True, False, False], [False, True, False, True], [True, False, True, False]])


def block(**settings):
    return lambda p: rows_of(flows.AffineCouplingBlock(Network(p), **settings), 1)


class OfList(torch.nn.Module):
    """A map of a list of two parts, as a map of the event that they make."""

    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, z):
        parts, log_det = self.flow.forward(list(z.chunk(2, 1)))
        return torch.cat(parts, 1), log_det

    def inverse(self, z):
        parts, log_det = self.flow.inverse(list(z.chunk(2, 1)))
        return torch.cat(parts, 1), log_det


class Part(torch.nn.Module):
    """The scales, or the shifts, of the last two of three entries from the first; 0 for the first."""

    def __init__(self, network, part):
        super().__init__()
        self.network, self.part = network, part

    def forward(self, z):
        return torch.nn.functional.pad(self.network(z[:, :1]).chunk(2, 1)[self.part], (1, 0))


def masked(p):
    """b is 1 where an entry passes."""
    network = Network(p)
    b = torch.from_numpy(PASSES.astype(p["net"]["layers"]["1"]["b"].detach().numpy().dtype))
    return rows_of(flows.MaskedAffineFlow(b, Part(network, 1), Part(network, 0)), 1)


class Given(torch.nn.Module):
    """A flow at a context."""

    def __init__(self, flow, context):
        super().__init__()
        self.flow, self.context = flow, context

    def forward(self, z):
        return self.flow.forward(z, self.context.expand(len(z), -1))

    def inverse(self, z):
        return self.flow.inverse(z, self.context.expand(len(z), -1))


def of_class(p):
    W, b = p["net"]["inner"]["W"], p["net"]["inner"]["b"]
    (s_cc, t_cc), (s, t) = W.chunk(2), b.chunk(2)
    module = holding(flows.CCAffineConst(SIZE, W.shape[1]), s=s[None], t=t[None], s_cc=s_cc.T, t_cc=t_cc.T)
    return rows_of(Given(module, p["context"]), 1)


def coupled(kind, passes=PASSES, **settings):
    """A coupling; entries marked in its mask are transformed."""
    mask = torch.from_numpy((~passes).astype(int))
    return lambda p: rows_of(kind(mask, lambda inputs, outputs: Network(p), **settings), 1)


def in_order(p):
    module = neural_spline.autoregressive.MaskedPiecewiseRationalQuadraticAutoregressive(SIZE, 4, **FEW)
    module.autoregressive_net = Network(p, connects(SIZE, FAMILY.size))
    return rows_of(module, 1)


def affine_in_order(p):
    module = flows.MaskedAffineAutoregressive(SIZE, 4)
    module.autoregressive_net = Network(p, connects(SIZE, 2))
    return rows_of(module, 1)


def shifted_in_order(p):
    return rows_of(shifting(flows.affine.autoregressive.Autoregressive)(Network(p, connects(SIZE, 1))), 1)


def wrapped(p):
    """Its coupling maps the entries that pass too, which is left out."""
    module = flows.CoupledRationalQuadraticSpline(4, 1, 4, **FEW)
    module.prqct.transform_net, module.prqct.unconditional_transform = Network(p), None
    return backwards(module)


def wrapped_in_order(p):
    module = flows.AutoregressiveRationalQuadraticSpline(SIZE, 1, 4, num_bins=2, tail_bound=BOUND)
    module.mprqat.autoregressive_net = Network(p, connects(SIZE, FAMILY.size))
    return backwards(module)


class WithUnread(torch.nn.Module):
    """A network's numbers for each entry, and one more that is not read."""

    def __init__(self, network, count):
        super().__init__()
        self.network, self.count = network, count

    def forward(self, inputs, context=None):
        h = self.network(inputs)
        return torch.nn.functional.pad(h.reshape(len(h), -1, self.count), (0, 1)).flatten(1)


def wrapped_circular(p):
    module = flows.CircularCoupledRationalQuadraticSpline(4, 1, 4, range(4), num_bins=2, tail_bound=BOUND)
    module.prqct.transform_net, module.prqct.unconditional_transform = WithUnread(Network(p), CIRCULAR.size), None
    return backwards(module)


def wrapped_circular_in_order(p):
    module = flows.CircularAutoregressiveRationalQuadraticSpline(SIZE, 1, 4, range(SIZE), num_bins=2, tail_bound=BOUND)
    module.mprqat.autoregressive_net = WithUnread(Network(p, connects(SIZE, CIRCULAR.size)), CIRCULAR.size)
    return backwards(module)


FEW = {"num_bins": 2, "tails": "linear", "tail_bound": BOUND}
FAMILY = Family(refflow.RationalQuadraticSpline, SPLINES["normflows"](2, BOUND))
ON_CIRCLE = SPLINES["normflows"](2, BOUND, circular=True)
CIRCULAR = Family(refflow.RationalQuadraticSpline, ON_CIRCLE.replace(constants=(("tails", "none"),)))
FIRST_SHIFT = ("shift", "scale")
SCALES = {"exp": ExpScale(), "sigmoid": CONVENTIONS["normflows sigmoid"], "sigmoid_inv": CONVENTIONS["TFP Glow, openai/glow"]}
for name, scale in SCALES.items():
    declare(coupling(affine_family(scale, FIRST_SHIFT), passes=HALVES, tanh=True), f"flows.AffineCouplingBlock [scale_map={name}]",
            block(scale_map=name))
declare(coupling(affine_family(ExpScale(), FIRST_SHIFT), passes=CHECKERBOARD, tanh=True), "flows.AffineCouplingBlock [split_mode=checkerboard]",
        block(split_mode="checkerboard"))
declare(refflow.AdditiveCoupling(HALVES, network_of(HALVES, 1, tanh=True)), "flows.AffineCoupling [scale=False]",
        lambda p: rows_of(OfList(flows.AffineCoupling(Network(p), scale=False)), 1))
declare(coupling(affine_family(ExpScale()), "halves", tanh=True), "flows.MaskedAffineFlow", masked)
declare(Coupling(np.zeros(SIZE, bool), Contextual(Dense(*layer(2 * SIZE, 2))), affine_family(ExpScale())).at(context=np.array([1.0, 0.5])),
        "flows.CCAffineConst", of_class)
declare(coupling(additive_family(), tanh=True), "flows.neural_spline.coupling.Coupling [x + h of each entry]",
        coupled(shifting(neural_spline.coupling.Coupling)))
declare(autoregressive(additive_family(), tanh=True), "flows.affine.autoregressive.Autoregressive [x + h of each entry]", shifted_in_order)
declare(autoregressive(affine_family(CONVENTIONS["nflows coupling, normflows AR"]), tanh=True), "flows.MaskedAffineAutoregressive",
        affine_in_order)
declare(coupling(FAMILY, tanh=True), "flows.neural_spline.coupling.PiecewiseRationalQuadraticCoupling",
        coupled(neural_spline.coupling.PiecewiseRationalQuadraticCoupling, **FEW))
declare(autoregressive(FAMILY, tanh=True), "flows.neural_spline.autoregressive.MaskedPiecewiseRationalQuadraticAutoregressive", in_order)
declare(coupling(FAMILY, passes=ALTERNATING, tanh=True), "flows.CoupledRationalQuadraticSpline", wrapped)
declare(autoregressive(FAMILY, tanh=True), "flows.AutoregressiveRationalQuadraticSpline", wrapped_in_order)
declare(coupling(CIRCULAR, passes=ALTERNATING, tanh=True), "flows.CircularCoupledRationalQuadraticSpline", wrapped_circular)
declare(autoregressive(CIRCULAR, tanh=True), "flows.CircularAutoregressiveRationalQuadraticSpline", wrapped_circular_in_order)


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


def lu_affine(p):
    """Likewise, for rows: the transpose of the page's matrix."""
    inner = p["stages"]["0"]["inner"]
    s, eye = inner["scale"], torch.eye(SIZE, dtype=inner["scale"].dtype)
    return backwards(holding(flows.InvertibleAffine(SIZE, use_lu=True), P=eye[ORDER], L=inner["lower"], U=inner["upper"],
                             log_S=s.abs().log(), sign_S=s.sign().detach(), eye=eye))


class Triangles(flows.mixing._LULinear):
    """The diagonal itself, in the place of a softplus of raw numbers."""

    upper_diag = None


def triangles(p):
    module = Triangles(SIZE)
    return holding(module, lower_entries=p["lower"][module.lower_indices], upper_entries=p["upper"][module.upper_indices],
                   upper_diag=p["scale"], bias=p["shift"])


def permuted_triangles(p):
    module = flows.LULinearPermute(SIZE)
    module.permutation._permutation, module.linear = torch.tensor(ORDER), triangles(p["stages"]["1"])
    return backwards(module)


def shuffled(p):
    order = torch.from_numpy(p["order"])
    return rows_of(holding(flows.Permute(len(order)), perm=order, inv_perm=torch.argsort(order)), 1)


ORDER = [2, 0, 1]
dense = refflow.DenseLinear(W=[[1.0, 0.5, -0.25], [-0.5, 2.0, 0.125], [0.75, -1.0, 1.5]], shift=None)
plu = refflow.PLULinear(order=ORDER, lower=[[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], scale=[1.0, -1.0, 1.0], shift=None,
                        upper=[[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]])
unpermuted = refflow.PLULinear(order=[0, 1, 2], lower=plu.lower, scale=[1.0, 0.5, 3.0], shift=[0.5, -1.0, 0.25], upper=plu.upper)
declare("Permutation", "flows.mixing._Permutation", permuted)
declare("Permutation", "flows.Permute [shuffle, order given]", shuffled)
declare(refflow.Chain([refflow.Permutation([2, 3, 4, 0, 1])]), "flows.Permute [swap]", lambda p: rows_of(flows.Permute(5, "swap"), 1))
declare(refflow.Chain([refflow.Transposed(plu)]), "flows.InvertibleAffine [use_lu=True]", lu_affine)
declare(refflow.Chain([unpermuted]), "flows.mixing._LULinear [diagonal given]", lambda p: rows_of(triangles(p["stages"]["0"]), 1))
declare(refflow.Chain([refflow.Permutation(ORDER), unpermuted]), "flows.LULinearPermute [diagonal given]", permuted_triangles)
declare("DenseLinear", "flows.InvertibleAffine [use_lu=False]", affine_of_rows,
        params={"shift": lambda shift: not np.any(shift)}, fixed=["shift"])
declare(refflow.Pointwise(dense), "flows.Invertible1x1Conv [use_lu=False]", convolution)
declare(refflow.Pointwise(plu), "flows.Invertible1x1Conv [use_lu=True]", lu_convolution)
declare("Squeeze", "flows.Squeeze", lambda p: backwards(flows.Squeeze(), 3),
        params={"factor": lambda factor: factor == 2, "order": lambda order: order == "interleaved"})


# -- a step of Glow, scales -------------------------------------------------------------------------------------------

class OfPixels(torch.nn.Module):
    """A convolution of one pixel, with the tanh of `shared.networks`."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, z):
        return torch.nn.functional.conv2d(Tanh.apply(z), self.layer["W"], self.layer["b"])


def glow_step(p):
    """Coupling, convolution, actnorm."""
    stages = p["stages"]
    block = flows.GlowBlock(2, 1, scale_map="exp", use_lu=False)
    block.flows[0].flows[1].param_map = OfPixels(stages["0"]["net"]["layers"]["1"])
    holding(block.flows[1], W=stages["1"]["inner"]["inner"]["W"])
    block.flows[2].data_dep_init_done = torch.tensor(1.0)
    holding(block.flows[2], s=stages["2"]["inner"]["logs"][:, None, None], t=stages["2"]["inner"]["bias"][:, None, None])
    return rows_of(block, 3)


class OfScales(torch.nn.Module):
    """A flow of two scales as a map of an image: its latents are one vector, what was factored out first."""

    def __init__(self, flow):
        super().__init__()
        self.flow = flow

    def forward(self, x):
        (kept, factored), log_det = self.flow.inverse_and_log_det(x)
        return torch.cat([factored.flatten(1), kept.flatten(1)], 1), log_det

    def inverse(self, z):
        factored, kept = z.unflatten(1, (2, 2, 1, 1)).unbind(1)
        return self.flow.forward_and_log_det([kept, factored])


def multiscale(p):
    inner = p["stages"]["0"]["inner"], p["stages"]["1"]["rest"]["stages"]["0"]["inner"]
    of_all, of_kept = [Shifting(each["shift"]) for each in inner]
    return rows_of(OfScales(normflows.MultiscaleFlow([torch.nn.Identity()] * 2, [[of_kept], [of_all]], [flows.Merge()])), (3, 1))


class Shifting(flows.Flow):
    """x = z - t for latents z: the page's direction is from data to latents."""

    def __init__(self, t):
        super().__init__()
        self.t = t

    def forward(self, z):
        return z - self.t, z.new_zeros(len(z))

    def inverse(self, x):
        return x + self.t, x.new_zeros(len(x))


def shift_of_channels(shift):
    return refflow.Independent(refflow.Affine(shift=np.reshape(shift, (-1, 1, 1)), scale=np.ones((len(shift), 1, 1))), 3)


to_vector = refflow.Chain([shift_of_channels([0.25, -1.0]), refflow.Reshape((2, 1, 1), (2,))])
pixels = refflow.DenseLinear(W=[[1.0, 0.5], [-0.25, 1.5]], shift=None)
W, b = layer(2, 1)
declare(refflow.Chain([Coupling(np.array([True, False])[:, None, None], network(Conv2d(W[..., None, None], b), tanh=True, weights=True),
                                affine_family(ExpScale(), FIRST_SHIFT)),
                       refflow.Inverse(refflow.Pointwise(pixels)),
                       refflow.Pointwise(refflow.GlowTTSActNorm(logs=[0.5, -1.0], bias=[0.25, 1.0]))]),
        "flows.GlowBlock [scale_map=exp, use_lu=False]", glow_step)
declare(refflow.Chain([shift_of_channels([0.5, 1.0, -1.0, 0.0]), refflow.FactorOut([True, True, False, False], to_vector)]),
        "MultiscaleFlow [shifts]", multiscale, fixed=["stages.0.inner.scale", "stages.1.rest.stages.0.inner.scale"])


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


# -- residual ---------------------------------------------------------------------------------------------------------

def residual(p):
    return rows_of(flows.Residual(Network(p["stages"]["0"]), reverse=False).eval(), 1)


contracting = Sequential((TanhActivation(), Dense([[0.25, -0.5], [0.375, 0.125]], [0.5, -1.0])))
declare(refflow.Chain([refflow.InvertibleResidual(contracting)]), "flows.Residual [of pairs, evaluation]", residual)


# -- compositions -----------------------------------------------------------------------------------------------------

class Scaling(flows.Flow):
    """x = exp(s) z + t with a log-det for each row, which AffineConstFlow does not give."""

    def __init__(self, s, t):
        super().__init__()
        self.s, self.t = s, t

    def forward(self, z):
        return z * torch.exp(self.s) + self.t, self.s.sum().expand(len(z))

    def inverse(self, z):
        return (z - self.t) * torch.exp(-self.s), -self.s.sum().expand(len(z))


def scaling(p):
    return Scaling(p["logs"], p["bias"])


norms = [refflow.GlowTTSActNorm(logs=[0.3, -1.1, 0.7], bias=[0.5, -1.0, 0.25]),
         refflow.GlowTTSActNorm(logs=[1.3, 0.2, -0.4], bias=[2.0, 0.0, 1.0])]
declare(refflow.Chain(norms), "flows.Composite", lambda p: rows_of(flows.Composite([scaling(p["stages"][i]) for i in "01"]), 1))
declare(refflow.Inverse(norms[0]), "flows.Reverse", lambda p: rows_of(flows.Reverse(scaling(p["inner"])), 1))
