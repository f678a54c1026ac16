"""surjectors 0.3.3, the last release for Python 3.11, as adapters: `refflow check surjectors`.

forward_and_likelihood_contribution and inverse_and_likelihood_contribution of its bijectors, which lead from latents to data:

- an autoregressive map goes from data to latents in one pass, z = (x - shift) exp(-log_scale); its network, MADE, is asked with a
  hidden layer that passes the entries on;
- LULinear has an inverse alone, z = x U L of rows, and is asked with its diagonal given, in the place of a softplus;
- a funnel with a coupling is a surjection, which drops entries, around a bijection: it is asked with the entries that it drops as the
  draw of its decoder, whose log-density is 0.

Left out: the autoregressive funnels, whose forward joins the entries along the axis of the batch, see findings.md; Slice, which does
not change the entries that stay; MLPInferenceFunnel, which has no forward, and whose map of the entries that stay is LULinear.
"""

from __future__ import annotations

import functools
from types import SimpleNamespace

import distrax
import haiku
import jax
import jax.numpy as jnp
import numpy as np
import surjectors
from surjectors.nn import MADE

import refflow
from refflow.maps.coupling import Family, additive_family, affine_family
from refflow.maps.elementwise import ExpScale
from refflow.maps.parametrisations import SPLINES, LocationScale

from .shared import by_rows, pinned
from .shared.jax import compiled, declaring
from .shared.networks import PASSES, alone, autoregressive, coupling, masked_layer, of_stage, outputs

version = pinned("surjectors", "0.3.3")
declare = declaring("surjectors.")


def both(bijector):
    return bijector.forward_and_likelihood_contribution, bijector.inverse_and_likelihood_contribution


def transformed(make, weights):
    """Both directions of the bijector of Haiku's modules that `make()` returns, with these weights."""

    def direction(side):
        call = haiku.transform(lambda event: both(make())[side](event))
        return lambda event: call.apply(weights, None, event)

    return direction(0), direction(1)


def affine(p):
    return surjectors.ScalarAffine(p["shift"], p["scale"])


def block_and_permutation(p):
    return both(surjectors.Chain([surjectors.Permutation(jnp.array(ORDER), 1), distrax.Block(affine(p["stages"]["0"]["inner"]), 1)]))


class LULinear(surjectors.LULinear):
    """The diagonal itself, in the place of a softplus of raw numbers."""

    _upper_diag = None


def lu_linear(p):
    """z = x U L is L^T U^T of columns: the page's first stage holds U, its second one L^T."""
    first, second = p["stages"]["0"]["inner"], p["stages"]["1"]
    L, U = second["upper"].T, first["upper"]

    def make():
        module = LULinear(len(U), dtype=U.dtype)
        module._upper_diag = first["scale"]
        return module

    weights = {"lower_entries": L[np.tril_indices(len(L), -1)], "upper_entries": U[np.triu_indices(len(U), 1)],
               "diag_entries": jnp.ones(len(U), U.dtype)}
    inverse = transformed(make, {"lu_linear": weights})[1]
    return (lambda event: by_rows(inverse, event)), None


# -- couplings --------------------------------------------------------------------------------------------------------

def conditioner(p, passes):
    """From the event with 0 at the entries that do not pass to numbers (3, count), 0 for the entry that passes: they have no effect."""
    net, place = outputs(p, 2), int(np.argmax(passes))

    def call(event):
        h = net(event[..., place:place + 1])
        return jnp.insert(h, place, 0, -2)

    return call


def halves(net):
    """(shifts, log-scales) of all entries, of numbers (log_scale, shift) of each."""
    def call(event):
        h = net(event)
        return jnp.concatenate([h[..., 1], h[..., 0]], -1)

    return call


def shift(h):
    return distrax.Shift(h[..., 0])


def funnel(make):
    """Both directions of a funnel that keeps two entries, with the third as the draw of its decoder, whose log-density is 0."""

    def build(p):
        def of(event):
            dropped, zeros = event[:, KEPT:], jnp.zeros(len(event), event.dtype)
            decoder = SimpleNamespace(log_prob=lambda y: zeros, sample_and_log_prob=lambda seed: (dropped, zeros))
            return make(KEPT, lambda z: decoder, conditioner(p, LAST))

        def forward(event):
            return haiku.transform(lambda: of(event).forward_and_likelihood_contribution(event[:, :KEPT])).apply({}, KEY)

        def inverse(event):
            z, log_det = of(event).inverse_and_likelihood_contribution(event)
            return jnp.concatenate([z, event[:, KEPT:]], -1), log_det

        return (lambda event: by_rows(forward, event)), (lambda event: by_rows(inverse, event))

    return compiled(build)


# -- autoregressive maps ----------------------------------------------------------------------------------------------

def made(p, count):
    """(the module, its weights): its numbers are minus the page's, which moves by them where surjectors moves back."""
    W, b = masked_layer(p["inner"], jnp.tril)
    D = W.shape[1]
    hidden = {"w": jnp.eye(D, D - 1, dtype=W.dtype), "b": jnp.zeros(D - 1, W.dtype)}
    return (lambda: MADE(D, [D - 1], count, activation=lambda h: h),
            {"made/~/masked_linear": hidden, "made/~/masked_linear_1": {"w": -W.T[:D - 1], "b": -b}})


def of_made(make, count):
    """Of rows: MADE is wrong for an event without a batch, see findings.md."""

    def build(p):
        module, weights = made(p, count)
        calls = transformed(lambda: make(module()), weights)
        return tuple(functools.partial(by_rows, call) for call in calls)

    return compiled(build)


BINS, BOUND, KEPT, ORDER, KEY = 3, 3.0, 2, [2, 0, 1], jax.random.PRNGKey(0)
LAST = PASSES[::-1]
INNER = refflow.Affine(scale=1.5, shift=-0.25)
affine_numbers = affine_family(ExpScale())
to_latents = Family(refflow.ScaledShift, LocationScale(ExpScale(), ("shift", "scale")))
splines = Family(refflow.RationalQuadraticSpline, SPLINES["distrax"](BINS, -BOUND, BOUND, "unconstrained"))
lu = refflow.Chain([refflow.triangular_linear([[0, 0, 0], [1.5, 0, 0], [-0.5, 0.75, 0]], [0.75, 1.5, 2.0]),
                    refflow.triangular_linear([[0, 0.5, -0.25], [0, 0, 2], [0, 0, 0]], [1.0, 1.0, 1.0], lower=False)])

declare(alone(INNER), "ScalarAffine", of_stage(lambda p: (affine(p).forward_and_log_det, affine(p).inverse_and_log_det)))
declare(alone(refflow.Permutation(ORDER)), "Permutation", lambda p: both(surjectors.Permutation(jnp.array(ORDER), 1)))
declare(refflow.Chain([refflow.Independent(INNER, 1), refflow.Permutation(ORDER)]), "Chain", block_and_permutation)
compiled_linear = compiled(lu_linear)
declare(lu, "LULinear [inverse, diagonal given]", lambda p: (compiled_linear(p)[0], None),
        fixed=["stages.0.inner.lower", "stages.1.lower", "stages.1.scale"])
declare(coupling(additive_family()), "MaskedCoupling [Shift]",
        compiled(lambda p: both(surjectors.MaskedCoupling(jnp.array(PASSES), conditioner(p, PASSES), shift))), fixed=())
declare(coupling(affine_numbers), "AffineMaskedCoupling",
        compiled(lambda p: both(surjectors.AffineMaskedCoupling(jnp.array(PASSES), halves(conditioner(p, PASSES))))), fixed=())
declare(coupling(splines, weights=False), "RationalQuadraticSplineMaskedCoupling", compiled(lambda p: both(
    surjectors.RationalQuadraticSplineMaskedCoupling(jnp.array(PASSES), conditioner(p, PASSES), -BOUND, BOUND))))
declare(coupling(additive_family(), passes=LAST), "MaskedCouplingInferenceFunnel [Shift, draw given]",
        funnel(lambda kept, decoder, net: surjectors.MaskedCouplingInferenceFunnel(kept, decoder, net, shift)), fixed=())
declare(coupling(affine_numbers, passes=LAST), "AffineMaskedCouplingInferenceFunnel [draw given]",
        funnel(lambda kept, decoder, net: surjectors.AffineMaskedCouplingInferenceFunnel(kept, decoder, halves(net))), fixed=())
declare(coupling(splines, passes=LAST, weights=False), "RationalQuadraticSplineMaskedCouplingInferenceFunnel [draw given]",
        funnel(lambda kept, decoder, net: surjectors.RationalQuadraticSplineMaskedCouplingInferenceFunnel(
            kept, decoder, net, -BOUND, BOUND)))
declare(refflow.Inverse(autoregressive(to_latents)), "AffineMaskedAutoregressive",
        of_made(surjectors.AffineMaskedAutoregressive, 2), fixed=())
declare(refflow.Inverse(autoregressive(additive_family())), "MaskedAutoregressive [Shift]",
        of_made(lambda module: surjectors.MaskedAutoregressive(module, shift), 1), fixed=())
