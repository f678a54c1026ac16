"""FrEIA 0.2, as adapters: `refflow check freia`.

A module takes a list of inputs, with rev=True for the inverse, and returns a tuple of outputs and the log-det.  A documented choice,
not a defect: a log-det that is 0, or fixed, may be a number.  It is asked as a log-det of each row.

Coupling blocks are asked with the network of `shared.networks` in the place of their own; a block of two couplings is a chain of two.
Reflections have vectors whose matrix is exact.  Left out: `InvAutoFC` and `InvAutoConv2D`, whose inverse is approximate.
"""

from __future__ import annotations

import FrEIA.framework
import FrEIA.modules as m
import numpy as np
import torch

import refflow
from refflow.maps.conditioners import Contextual, Dense
from refflow.maps.coupling import Coupling, affine_family
from refflow.maps.elementwise import CONVENTIONS
from refflow.models.all_in_one import all_in_one

from .shared import pinned
from .shared.networks import SIZE, coupling, layer, network_of
from .shared.torch import Network, declaring, holding, rows_of

version = pinned("FrEIA", "0.2")
declare = declaring("FrEIA.modules.")
declare_framework = declaring("FrEIA.framework.")


class Directions:
    """A module's forward and its reverse as methods that return (image, log_det)."""

    def __init__(self, module):
        self.module = module

    def forward(self, rows):
        (image,), log_det = self.module([rows], rev=False)
        return image, of_rows(log_det, image)

    def inverse(self, rows):
        (image,), log_det = self.module([rows], rev=True)
        return image, of_rows(log_det, image)


def of_rows(log_det, image):
    return log_det if torch.is_tensor(log_det) else image.new_full((len(image),), float(log_det))


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


# -- elementwise ------------------------------------------------------------------------------------------------------

def two_slopes(kind, **alphas):
    """Slopes 2 and 1/2, of positive and of negative numbers, by their logarithms."""

    def build(p):
        alpha = p["stages"]["1"]["scale"].log()
        module = holding(kind([(1,)]), **{name: (sign * alpha)[None, None] for name, sign in alphas.items()})
        return rows_of(Directions(module))

    return build


def scaled(p):
    return rows_of(Directions(holding(m.LearnedElementwiseScaling([(3,)]), s=p["stages"]["0"]["inner"]["scale"].log()[None])), 1)


def normalised(stage):
    module = holding(m.ActNorm([(3,)]), scale=stage["scale"].log()[None], bias=stage["bias"][None])
    module.init_on_next_batch = False
    return module


norm = refflow.ActNorm(scale=[1.0, 0.5, 3.0], bias=[0.5, -1.0, 0.25])
leaky = refflow.Chain([refflow.LeakyReLU(0.25), refflow.Affine(shift=0.0, scale=2.0)])
ACTIVATIONS = {"InvAutoAct": {"alpha": 1}, "InvAutoActFixed": {"alpha": 1}, "InvAutoActTwoSided": {"alpha_pos": 1, "alpha_neg": -1}}
for name, alphas in ACTIVATIONS.items():
    declare(leaky, name, two_slopes(getattr(m, name), **alphas), gradients=False)
declare(refflow.Chain([refflow.Independent(refflow.Affine(shift=[0.0] * 3, scale=[1.0, 0.5, 3.0]), 1)]), "LearnedElementwiseScaling",
        scaled, fixed=["stages.0.inner.shift"])
declare(refflow.Chain([norm]), "ActNorm [initialised]", lambda p: rows_of(Directions(normalised(p["stages"]["0"])), 1))


# -- couplings --------------------------------------------------------------------------------------------------------

class Half(torch.nn.Module):
    """One half of a network's numbers."""

    def __init__(self, network, half):
        super().__init__()
        self.network, self.half = network, half

    def forward(self, inputs):
        return self.network(inputs).chunk(2, 1)[self.half]


def unmade(inputs, outputs):
    """In the place of networks that are given later."""
    return torch.nn.Identity()


def networks(p):
    """Of the coupling of the first half, and of the second."""
    return Network(p["stages"]["0"]), Network(p["stages"]["1"])


def block(kind, networks_of, **settings):
    """A block of two couplings of four entries."""

    def build(p):
        module = kind([(4,)], subnet_constructor=unmade, **settings)
        for name, network in networks_of(*networks(p)).items():
            setattr(module, name, network)
        return rows_of(Directions(module), 1)

    return build


def pair(first, second):
    return {"subnet2": first, "subnet1": second}


def apart(first, second):
    """Scales and shifts by networks of their own."""
    return {"subnet_s2": Half(first, 0), "subnet_t2": Half(first, 1), "subnet_s1": Half(second, 0), "subnet_t1": Half(second, 1)}


def one_sided(p):
    module = m.AffineCouplingOneSided([(4,)], subnet_constructor=unmade)
    module.subnet = Network(p)
    return rows_of(Directions(module), 1)


class Given(torch.nn.Module):
    """A module at a condition."""

    def __init__(self, module, condition):
        super().__init__()
        self.module, self.condition = module, condition

    def forward(self, inputs, rev=False):
        return self.module(inputs, c=[self.condition.expand(len(inputs[0]), -1)], rev=rev)


def conditional(p):
    inner = p["net"]["inner"]
    module = m.ConditionalAffineTransform([(SIZE,)], [(2,)], subnet_constructor=unmade)
    module.subnet = torch.nn.Identity()
    module.subnet.forward = lambda c: c @ inner["W"].T + inner["b"]
    return rows_of(Directions(Given(module, p["context"])), 1)


def all_in(**settings):
    """The coupling, the scales of all entries and the permutation."""

    def build(p):
        first, second = p["stages"]["0"]["net"]["net"], p["stages"]["1"]["inner"]
        module = m.AllInOneBlock([(4,)], subnet_constructor=unmade, **settings)
        W = torch.from_numpy(p["stages"]["2"]["W"])
        module.subnet = Network({"net": first})
        given = {} if settings.get("gin_block") else {"global_scale": second["s"][None]}
        return rows_of(Directions(holding(module, w_perm=W, w_perm_inv=W.T, global_offset=second["shift"][None], **given)), 1)

    return build


HALVES = np.array([True, True, False, False])
W = np.eye(4)[[2, 0, 3, 1]]


def twice(coupling):
    """The first half by the second, then the second half by the new first."""
    return refflow.Chain([coupling(~HALVES), coupling(HALVES)])


def affine_by(name):
    return lambda passes: coupling(affine_family(CONVENTIONS[f"FrEIA {name}"]), "halves", passes, tanh=True)


def volume_preserving(passes):
    return refflow.VolumePreservingCoupling(passes, network_of(passes, 2, tanh=True), CONVENTIONS["FrEIA ATAN"])


declare(twice(lambda passes: refflow.AdditiveCoupling(passes, network_of(passes, 1, tanh=True))), "NICECouplingBlock",
        block(m.NICECouplingBlock, lambda first, second: {"F": first, "G": second}))
declare(twice(affine_by("ATAN")), "RNVPCouplingBlock", block(m.RNVPCouplingBlock, apart))
for name in ("ATAN", "TANH", "SIGMOID"):
    declare(twice(affine_by(name)), f"GLOWCouplingBlock [{name}]", block(m.GLOWCouplingBlock, pair, clamp_activation=name))
declare(twice(volume_preserving), "GINCouplingBlock", block(m.GINCouplingBlock, pair))
declare(affine_by("ATAN")(HALVES), "AffineCouplingOneSided", one_sided)
declare(Coupling(np.zeros(SIZE, bool), Contextual(Dense(*layer(2 * SIZE, 2))),
                 affine_family(CONVENTIONS["FrEIA ATAN"])).at(context=np.array([1.0, 0.5])), "ConditionalAffineTransform", conditional)
declare(all_in_one(network_of(HALVES, 2, tanh=True), W, offset=np.array([0.5, -1.0, 0.25, 0.0])).inner, "AllInOneBlock", all_in(),
        fixed=["stages.2.W", "stages.2.shift"])
declare(all_in_one(network_of(HALVES, 2, tanh=True), W, gin=True).inner, "AllInOneBlock [gin_block]", all_in(gin_block=True),
        fixed=["stages.2.W", "stages.2.shift", "stages.1.inner.scale"])


# -- orthogonal maps --------------------------------------------------------------------------------------------------

class OrthogonalTransform(m.OrthogonalTransform):
    """The logarithms of its scales themselves, in the place of their clamped ones."""

    def _log_e(self, s):
        return s


def orthogonal(p):
    Q, shift, scale = torch.from_numpy(p["stages"]["0"]["Q"]), *(p["stages"][i]["inner"] for i in "12")  # type: ignore[misc]
    module = OrthogonalTransform([(4,)])
    return rows_of(Directions(holding(module, weights=Q.T, bias=shift["shift"][None], scaling=scale["scale"].log()[None])), 1)


def reflections(p):
    return rows_of(Directions(holding(m.HouseholderPerm([(4,)], n_reflections=2), Vs=p["stages"]["0"]["vectors"].flip(0))), 1)


VECTORS = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, -1.0, 0.0, 0.0]])
H = [np.eye(4) - 2 * np.outer(v, v) / (v @ v) for v in VECTORS]
rotation = refflow.OrthogonalLinear(H[1] @ H[0])
shifts = refflow.Independent(refflow.Affine(shift=[0.5, -1.0, 0.25, 2.0], scale=[1.0] * 4), 1)
scales = refflow.Independent(refflow.Affine(shift=[0.0] * 4, scale=[1.0, 0.5, 3.0, 0.25]), 1)
declare(refflow.Chain([rotation, shifts, scales]), "OrthogonalTransform [scales given]", orthogonal,
        fixed=["stages.0.Q", "stages.1.inner.scale", "stages.2.inner.shift"])
declare(refflow.Chain([refflow.HouseholderLinear(VECTORS)]), "HouseholderPerm", reflections)


# -- shapes -----------------------------------------------------------------------------------------------------------

class OfShape(torch.nn.Module):
    """A module for inputs of whatever shape, or one whose outputs have it."""

    def __init__(self, kind, factor=None):
        super().__init__()
        self.kind, self.factor = kind, factor

    def forward(self, inputs, rev=False):
        c, h, w = inputs[0].shape[1:]
        there = (c, h, w) if not rev else (c // 4, 2 * h, 2 * w) if self.factor == 2 else (4 * c, h // 2, w // 2)
        return self.kind([there]).to(inputs[0].dtype)([inputs[0].clone()], rev=rev)


def resized(kind, factor):
    """Downsampling has the factor 2, upsampling 1/2; a copy, because an inverse writes to its input."""
    return lambda p: rows_of(Directions(OfShape(kind, factor)), 3)


def reshaped(kind, **settings):
    return lambda p: rows_of(Directions(kind([(2, 3)], **settings)), (2, 1))


haar = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
wavelets = refflow.Chain([refflow.Squeeze(2), refflow.Pointwise(refflow.OrthogonalLinear(haar))])
declare(refflow.Chain([refflow.Squeeze(2)]), "IRevNetDownsampling", resized(m.IRevNetDownsampling, 2))
declare(refflow.Inverse(refflow.Squeeze(2)), "IRevNetUpsampling", resized(m.IRevNetUpsampling, 0.5))
declare(wavelets, "HaarDownsampling [of a copy]", resized(m.HaarDownsampling, 2), fixed=["stages.1.inner.Q"])
declare(refflow.Inverse(wavelets), "HaarUpsampling [of a copy]", resized(m.HaarUpsampling, 0.5), fixed=["inner.stages.1.inner.Q"])
declare(refflow.Reshape((2, 3), (6,)), "Reshape", reshaped(m.Reshape, output_dims=(6,)))
declare(refflow.Reshape((2, 3), (6,)), "Flatten", reshaped(m.Flatten))


# -- compositions -----------------------------------------------------------------------------------------------------

def sequence(p):
    net = FrEIA.framework.SequenceINN(3, force_tuple_output=True)
    net.append(m.ActNorm)
    net.append(m.PermuteRandom)
    order = torch.tensor(ORDER)
    net.module_list[0] = normalised(p["stages"]["0"])
    net.module_list[1] = holding(net.module_list[1], perm=order, perm_inv=torch.argsort(order))
    return rows_of(Directions(net), 1)


ORDER = [2, 0, 1]
declare_framework(refflow.Chain([norm, refflow.Permutation(ORDER)]), "SequenceINN", sequence)
