"""zuko 1.6.0, as adapters: `refflow check zuko`.

Its transforms are torch's, with call_and_ladj(x) -> (y, log|det dy/dx|); they are called what zuko calls them.  Splines and
affine maps are asked at their raw numbers, see `shared.numbers`; couplings and autoregressive maps with the network of
`shared.networks` in the place of their own.

Documented choices, not defects: the inverse of `GaussianizationTransform`, of the polynomials and of `MNN` is a bisection on
[-10, 10] to 1e-6, and the mean of the former is drawn towards 0 by 1e-6; only their forward is asked, of the former at moderate numbers.

`FreeFormJacobianTransform` is asked with a tolerance that every step meets, by which it takes one step of Dormand and Prince; its
gradient is a step of the adjoint equation, and its log-det is integrated: neither is of that step.

Left out: `UnconstrainedMonotonicTransform`, whose integral is a sum over nodes.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import zuko
from zuko import transforms as t

import refflow
from refflow.maps.coupling import Family, additive_family, affine_family
from refflow.maps.elementwise import CONVENTIONS, AbsScale, ScaledAffine
from refflow.maps.parametrisations import (BERNSTEIN_POLYNOMIALS, SPLINES, Entries, Free, LocationScale, MatrixEntries, PerField, PerPart,
                                           Premultiplied, Reshaped)

from ..oracle import adapter
from .shared import pinned, summed
from .shared.networks import PASSES, SIZE, autoregressive, connects, coupling
from .shared.numbers import raw, splines
from .shared.torch import Network, declaring, holding, second_entry, values
from .shared.velocity import NET, Velocity

version = pinned("zuko", "1.6.0")
declare = declaring("zuko.transforms.")
declare_flow = declaring("zuko.")
BINS = 5


def directions(transform):
    return transform.call_and_ladj, transform.inv.call_and_ladj


def spline(p):
    parts = torch.split(raw(p), [BINS, BINS, BINS - 1])
    return [second_entry(summed(call)) for call in directions(t.MonotonicRQSTransform(*parts))]


def circular_shift(p):
    """Half a turn of [-B, B]."""
    return directions(t.CircularShiftTransform(p["stages"]["0"]["ends"][1].item()))


declare("Affine", "IdentityTransform", lambda p: directions(t.IdentityTransform()), fixed=["shift", "scale"],
        params={"shift": lambda shift: shift == 0, "scale": lambda scale: scale == 1})
declare("Affine", "AdditiveTransform", lambda p: directions(t.AdditiveTransform(p["shift"])), fixed=["scale"],
        params={"scale": lambda scale: scale == 1})
declare("Softsign", "SoftclipTransform [bound=1]", lambda p: directions(t.SoftclipTransform(1.0)))
declare(refflow.Chain([refflow.CircularShift(ends=[-3.0, 3.0], turns=0.5)]), "CircularShiftTransform", circular_shift,
        gradients=False)
declare("Sin", "SinTransform", lambda p: directions(t.SinTransform()))
declare("Cos", "CosTransform", lambda p: directions(t.CosTransform()))
declare(refflow.Chain([refflow.SignedPower(1.5)]), "SignedPowerTransform",
        lambda p: directions(t.SignedPowerTransform(p["stages"]["0"]["exponent"].log())))
declare("Permutation", "PermutationTransform", lambda p: directions(t.PermutationTransform(torch.from_numpy(p["order"]))))
for like, composite in splines(refflow.RationalQuadraticSpline, SPLINES["zuko"](BINS)):
    declare(composite, f"MonotonicRQSTransform [{like} numbers]", spline)


def affine(p):
    scale, shift = raw(p)
    return [second_entry(summed(call)) for call in directions(t.MonotonicAffineTransform(shift, scale))]


def gaussianization(p):
    """rate = exp(scale), and scale is 0: other rates are exponentials only up to a rounding."""
    inner = p["stages"]["0"]
    return t.GaussianizationTransform(inner["bias"], torch.zeros_like(inner["bias"])).call_and_ladj, None


for like, composite in splines(ScaledAffine, LocationScale(CONVENTIONS["zuko"])):
    declare(composite, f"MonotonicAffineTransform [{like} numbers]", affine)
declare(refflow.Chain([refflow.Gaussianization(rate=[1.0, 1.0, 1.0], bias=[0.5, -1.0, 0.25])]), "GaussianizationTransform",
        gaussianization, gradients=False)


# -- polynomials ------------------------------------------------------------------------------------------------------

def polynomial(make):
    """A polynomial of raw numbers; its inverse is a bisection."""
    return lambda p: (make(p["h"]).call_and_ladj, None)


def squares(h):
    """Three polynomials of degree 4; the shift comes last."""
    return t.ComposedTransform(t.SOSPolynomialTransform(h[:-1].reshape(3, 5)), t.AdditiveTransform(h[-1]))


declare("SumOfSquares", "SOSPolynomialTransform", polynomial(squares), parametrisation="zuko")
declare("BernsteinPolynomial", "BernsteinTransform", polynomial(t.BernsteinTransform), parametrisation="zuko BernsteinTransform")


def bounded(p):
    """At moderate numbers: uneven ones make steps that round to 0."""
    return second_entry(summed(t.BoundedBernsteinTransform(raw(p)[None]).call_and_ladj)), None


like, composite = next(splines(refflow.BernsteinPolynomial, BERNSTEIN_POLYNOMIALS["zuko BPF"](8)))
declare(composite, f"BoundedBernsteinTransform [{like} numbers]", bounded)


# -- couplings, autoregressive maps -----------------------------------------------------------------------------------

def shifted(h):
    return t.DependentTransform(t.AdditiveTransform(h), 1)


def generic_coupling(p):
    return directions(t.CouplingTransform(lambda a: shifted(Network(p)(a)), torch.from_numpy(PASSES)))


def generic_autoregressive(p):
    return directions(t.AutoregressiveTransform(lambda x: shifted(Network(p, connects(SIZE, 1))(x)), SIZE))


def coupled(**settings):
    """Entries marked in its mask pass."""

    def build(p):
        module = zuko.flows.coupling.GeneralCouplingTransform(SIZE, mask=torch.from_numpy(PASSES), **settings)
        module.hyper = Network(p)
        return directions(module())

    return build


def in_order(count, of=zuko.flows.autoregressive.MaskedAutoregressiveTransform, **settings):
    """An autoregressive map, alone or as the one map of a flow."""

    def build(p):
        module = of(SIZE, **settings)
        module = module.transform.transforms[0] if isinstance(module, zuko.flows.Flow) else module
        module.hyper = Network(p, connects(SIZE, count))
        return directions(module())

    return build


AFFINE = affine_family(CONVENTIONS["zuko"], ("shift", "scale"))
FEW = Family(refflow.RationalQuadraticSpline, SPLINES["zuko"](2))
declare(coupling(additive_family(), tanh=True), "CouplingTransform [AdditiveTransform]", generic_coupling)
declare(autoregressive(additive_family(), tanh=True), "AutoregressiveTransform [AdditiveTransform]", generic_autoregressive)
declare_flow(coupling(additive_family(), tanh=True), "flows.GeneralCouplingTransform [AdditiveTransform]",
             coupled(univariate=t.AdditiveTransform, shapes=[()]))
declare_flow(coupling(AFFINE, tanh=True), "flows.GeneralCouplingTransform", coupled())
declare_flow(autoregressive(AFFINE, tanh=True), "flows.MaskedAutoregressiveTransform", in_order(2))
declare_flow(coupling(FEW, tanh=True), "flows.GeneralCouplingTransform [MonotonicRQSTransform]",
             coupled(univariate=t.MonotonicRQSTransform, shapes=[(2,), (2,), (1,)]))
declare_flow(autoregressive(FEW, tanh=True), "flows.NSF", in_order(FEW.size, zuko.flows.NSF, transforms=1, bins=2))


# -- monotone networks ------------------------------------------------------------------------------------------------

UNITS, SIGNAL = (2, 2), np.array([[0.5, -1.25], [-0.75, 0.25]])     # units of each layer, and the weights of two signals
RAW = np.array([0.75, -1.5, 0.25, -0.5, 1.0, 0.125, 1.25, -0.5, 0.5, -1.0, 0.75, 1.5, -0.25])      # a number for each of `magnitudes`


def magnitudes(layers, units):
    """The fields from raw weights, whose magnitudes they are, and from biases."""
    def of(count):
        return Entries(AbsScale(), count)

    hidden = Reshaped(of((layers - 1) * units * units), (layers - 1, units, units))
    return PerPart(("rate", "bias", "weights", "hidden", "shift"),
                   (of(units), MatrixEntries(layers, units), of(units), hidden, PerField(("shift",), (Free(),))))


def filled(network, h, signal):
    """zuko's network with raw numbers in the order of `magnitudes`, and with the weights of its signals."""
    a, b_1, b_2, v, W, t = torch.split(h, [2, 2, 2, 2, 4, 1])
    layers = (torch.cat([a[:, None], signal.to(h.dtype)], 1), b_1), (W.reshape(2, 2), b_2), (v[None], t)
    for layer, (weight, bias) in zip(list(network)[::2], layers):
        holding(layer, weight=weight, bias=bias)


def monotone(p):
    module = zuko.flows.neural.MNN(signal=0, hidden_features=UNITS)
    filled(module.network, raw(p), torch.zeros(2, 0))
    return second_entry(summed(module(raw(p)[:0]).call_and_ladj)), None


def monotone_in_order(p):
    """The network of every entry is the same, and sees a signal of its own."""
    module = zuko.flows.NAF(SIZE, transforms=1, signal=2, network={"hidden_features": UNITS}).transform.transforms[0]
    module.hyper = Network(p, connects(SIZE, 2))
    filled(module.univariate.network, torch.from_numpy(RAW).to(module.hyper.bias.dtype), torch.from_numpy(SIGNAL))
    return module().call_and_ladj, None


for like, composite in splines(refflow.MonotoneNetwork, magnitudes(2, 2)):
    declare_flow(composite, f"flows.neural.MNN [{like} numbers]", monotone)
signals = np.zeros((RAW.size, 2))
signals[2:4] = np.abs(SIGNAL)                       # into the first biases
declare_flow(autoregressive(Family(refflow.MonotoneNetwork, Premultiplied(magnitudes(2, 2), signals, RAW)), tanh=True), "flows.NAF",
             monotone_in_order)


# -- on the circle ----------------------------------------------------------------------------------------------------

class Turned(torch.nn.Module):
    """A network that reads the entries after half a turn."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(t.CircularShiftTransform(math.pi)(x))


def circular_in_order(p):
    module = zuko.flows.NCSF(SIZE, transforms=1, bins=2).transform.transforms[0]
    module.hyper = Turned(Network({"net": p["stages"]["1"]["net"]}, connects(SIZE, FEW.size)))
    return directions(module())


def circular_spline(p):
    """Equal bins; the raw number of the slope at the knot between them."""
    zeros = p["stages"]["1"]["slopes"].new_zeros(2)
    return directions(zuko.flows.spline.CircularRQSTransform(zeros, zeros, zeros.new_tensor([RAW_SLOPE])))


RAW_SLOPE = 0.5
slope = math.exp(RAW_SLOPE / (1 + RAW_SLOPE / math.log(1000)))
turn = refflow.CircularShift(ends=[-math.pi, math.pi], turns=0.5)
of_circle = SPLINES["zuko"](2, math.pi)
on_circle = Family(refflow.RationalQuadraticSpline, of_circle.replace(constants=(("tails", "none"),)))
declare_flow(refflow.Chain([refflow.Independent(turn, 1), autoregressive(on_circle, tanh=True)]), "flows.NCSF", circular_in_order,
             fixed=["stages.0.inner.ends", "stages.0.inner.turns"])
declare_flow(refflow.Chain([turn, refflow.RationalQuadraticSpline([-math.pi, 0.0, math.pi], [-math.pi, 0.0, math.pi], [1.0, slope, 1.0],
                                                                  "none")]),
             "flows.spline.CircularRQSTransform", circular_spline, gradients=False)


# -- linear -----------------------------------------------------------------------------------------------------------

def lower_upper(p):
    """L with the free diagonal, and U: the transposed factors of the page."""
    inner = p["stages"]["0"]["inner"]
    return directions(t.LULinearTransform(inner["upper"].T + torch.diag(inner["scale"]) + inner["lower"].T))


A = np.array([[0.0, -0.5, 0.25], [0.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
plu = refflow.PLULinear(order=[0, 1, 2], lower=[[0, 0, 0], [0.5, 0, 0], [-0.25, 2, 0]], scale=[1.0, -0.5, 3.0], shift=None,
                        upper=[[0, 1.5, -0.5], [0, 0, 0.75], [0, 0, 0]])
declare(refflow.Chain([refflow.Transposed(plu)]), "LULinearTransform", lower_upper)
declare(refflow.Chain([refflow.RotationLinear(A)]), "RotationTransform", lambda p: directions(t.RotationTransform(p["stages"]["0"]["A"])))


# -- compositions -----------------------------------------------------------------------------------------------------

class Given(zuko.lazy.LazyTransform):
    """A transform that depends on no context."""

    def __init__(self, transform):
        super().__init__()
        self.transform = transform

    def forward(self, c=None):
        return self.transform


vector = refflow.Affine(shift=[1.0, 0.5, 0.25], scale=[1.0, 1.0, 1.0])
shift = refflow.Affine(shift=0.5, scale=1.0)
declare(refflow.Chain([shift, refflow.Softsign()]), "ComposedTransform",
        lambda p: directions(t.ComposedTransform(t.AdditiveTransform(p["stages"]["0"]["shift"]), t.SoftclipTransform(1.0))),
        fixed=["stages.0.scale"])
declare(refflow.Independent(vector, 1), "DependentTransform",
        lambda p: directions(t.DependentTransform(t.AdditiveTransform(p["inner"]["shift"]), 1)), fixed=["inner.scale"])
declare_flow(refflow.Inverse(shift), "lazy.LazyInverse",
             lambda p: directions(zuko.lazy.LazyInverse(Given(t.AdditiveTransform(p["inner"]["shift"])))()), fixed=["inner.scale"])


# -- in time ----------------------------------------------------------------------------------------------------------

@adapter(refflow.DiscreteFlow(NET, "dopri5", 1, 0.25, 0.75), theirs="zuko.transforms.FreeFormJacobianTransform [one step]")
def free_form(p, z):
    net = {"net": {"layers": {key: {name: torch.from_numpy(v) for name, v in layer.items()} for key, layer in p["net"]["layers"].items()}}}
    return {"forward": values(t.FreeFormJacobianTransform(Velocity(net), 0.25, 0.75, atol=math.inf)(torch.from_numpy(z)))}
