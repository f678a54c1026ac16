"""Whose memory it is: results share none with arguments, and a pullback reads no array that its caller can change.

Asked of everything that the laws are asked of: bijectors, compositions, networks, scales and densities, and of tuned maps.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

import refflow
from refflow.accuracy.points import Points
from refflow.core import RandomSource, boundary, of_kind
from refflow.core.bijector import METHODS
from refflow.core.registry import REGISTRY
from refflow.core.tree import flatten
from refflow.fast import tuned
from refflow.models.glow import classifier, labelled_vjp
from refflow.models.glow_tts import glow_tts
from refflow.models.starflow import norm_vjp
from refflow.models.stochastic_durations import stochastic_durations
from validation.questions import questions

MAPS = [one for kind in ("page", "page with components", "composite") for one in questions(kind) if one.dtype == "float64"]
NETWORKS = [one for kind in ("conditioner", "network") for one in questions(kind) if one.dtype == "float64"]
DENSITIES = [one for one in questions("density") if one.dtype == "float64"]
JUNK = 12345.678


def source():
    return RandomSource(np.random.default_rng(0))


def drawn(question):
    """What the laws take, at one draw."""
    return question.drawn(source())


def arrays(found):
    """The arrays in a result, a tuple of results, or a nested dictionary of them."""
    if isinstance(found, tuple):
        return [array for part in found for array in arrays(part)]
    return [np.asarray(array) for _, array in flatten(found) if array is not None]


def overwrite(*found):
    """What a caller may do with arrays that are its own."""
    for array in arrays(found):
        if array.flags.writeable:
            array[...] = JUNK


def hold_apart(what, results, *arguments):
    """No result shares memory with an argument or with another result."""
    results = arrays(results)
    for i, array in enumerate(results):
        for other in (*results[:i], *arguments):
            assert not np.shares_memory(array, other), f"{what}: result {i} shares memory"


def copies(bars):
    return tuple(np.array(bar) for bar in bars)


def hold_results(f, names, event):
    """Methods without a pullback."""
    for name in names:
        given = event.copy()
        hold_apart(name, getattr(f, name)(given), given)
        assert given.tobytes() == event.tobytes(), f"{name} changes its argument"


def hold_pullback(name, vjp, arguments, bars):
    """The pullback of `vjp(*arguments)` gives the same after everything that its caller can reach has been overwritten."""
    found, pullback = vjp(*copies(arguments))
    expected = [array.tobytes() for array in map(np.copy, arrays(pullback(*copies(bars))))]
    given = copies(arguments)
    found, pullback = vjp(*given)
    hold_apart(name, found, *given)
    overwrite(given, found)
    for _ in range(2):                          # the second time, its own results have been overwritten too
        given_bars = copies(bars)
        found = pullback(*given_bars)
        hold_apart(f"the pullback of {name}", found, *given_bars)
        assert [array.tobytes() for array in arrays(found)] == expected, f"the pullback of {name} has read a changed array"
        overwrite(found, given_bars)


def held_map(f, p):
    """Every method of a bijector."""
    x = f.forward(p.z)
    invertible = True
    try:
        f.inverse(x)
    except ValueError:
        invertible = False
    for name, side in METHODS.items():
        if side == 0 or invertible:
            hold_results(f, [name], x if side else p.z)
    hold_pullback("vjp", f.vjp, (p.z,), (p.x_bar, p.log_det_bar))
    if invertible:
        hold_pullback("inverse_vjp", f.inverse_vjp, (x,), (p.z_bar, p.log_det_bar))


@pytest.mark.parametrize("question", MAPS, ids=lambda one: one.name)
def test_a_bijector(question):
    held_map(*drawn(question))


@pytest.mark.parametrize("question", NETWORKS, ids=lambda one: one.name)
def test_a_network(question):
    net, p = drawn(question)
    hold_results(net, ("forward", "jacobian"), p.z)
    hold_pullback("vjp", net.vjp, (p.z,), (p.x_bar,))


@pytest.mark.parametrize("name", of_kind("scale"))
def test_a_scale(name):
    for case in REGISTRY[name].hard_cases[:2]:
        scale, s = REGISTRY[name](**case.params), np.linspace(-1.0, 1.0, 6).reshape(2, 3)
        hold_results(scale, ("forward", "log"), s)
        hold_pullback("vjp", scale.vjp, (s,), (np.cos(s), np.sin(s)))


def held_density(p, n=3):
    """Every method of a density; what draws gets a generator of the same seed each time."""
    rng = np.random.default_rng
    x = p.sample(rng(0), n)
    log_prob = p.log_prob(x)
    log_prob_bar = np.cos(np.arange(log_prob.size)).reshape(log_prob.shape)
    hold_results(p, ("log_prob",), x)
    hold_pullback("log_prob_vjp", p.log_prob_vjp, (x,), (log_prob_bar,))
    for name, bars in (("sample_vjp", (np.cos(x),)), ("sample_and_log_prob_vjp", (np.cos(x), log_prob_bar))):
        try:
            getattr(p, name)(rng(0), n)
        except ValueError:                      # a sample is not a differentiable function of its parameters
            assert p.not_reparameterised
            continue
        hold_pullback(name, lambda: getattr(p, name)(rng(0), n), (), bars)


@pytest.mark.parametrize("question", DENSITIES, ids=lambda one: one.name)
def test_a_density(question):
    held_density(*drawn(question))


FLOWS = {
    "coupling": lambda rng: refflow.models.realnvp(rng, 3, (4,), 2),
    "autoregressive": lambda rng: refflow.models.small_maf(3, rng, (4,), 2),
    "spline coupling": lambda rng: refflow.models.nsf(rng, 3, 4, 1, 2),
    "planar": lambda rng: refflow.models.small_planar(3, rng, 2),
    "radial": lambda rng: refflow.models.small_radial(3, rng, 2),
    "a view": lambda rng: refflow.Flow(refflow.Reshape((3,), (3,)), refflow.StandardNormal(3)),
}


@pytest.mark.parametrize("made", [lambda flow: flow, tuned], ids=["page", "tuned"])
@pytest.mark.parametrize("name", FLOWS)
def test_a_flow(name, made):
    held_density(made(FLOWS[name](np.random.default_rng(0))), 5)


@pytest.mark.parametrize("name", FLOWS)
def test_a_tuned_map(name):
    flow = tuned(FLOWS[name](np.random.default_rng(0)))
    held_map(flow.bijector, Points(flow.bijector, *(np.cos(k + np.arange(6.0).reshape(2, 3)) for k in range(3)), np.ones(2)))


# -- systems whose gradients have functions of their own --------------------------------------------------------------

def a_vae(rng):
    model = refflow.models.sylvester_vae(rng, 6, flow="householder", latent=4, steps=2, units=2, reflections=2, made=8, features=5)
    return model.loss_vjp, ((rng.random((3, 6)) < 0.5).astype(float), rng.standard_normal((3, 4))), (np.ones(3),)


def durations(rng):
    model = stochastic_durations(rng, 4, layers=2, couplings=2, bins=4, speaker_channels=3, detached=False)
    given = (rng.standard_normal((2, 4, 5)), np.array([5, 3]), rng.integers(1, 9, (2, 5)), rng.standard_normal((2, 2, 5)),
             rng.standard_normal((2, 3)))
    return model.bound_vjp, given, (np.ones(2),)


def speech(rng):
    model = glow_tts(rng, 11, 4, 8, filters=12, duration_filters=7, layers=1, blocks=1, hidden=8, wave_layers=1, speakers=2,
                     speaker_channels=3)
    given = (rng.integers(0, 11, (2, 4)), np.array([4, 3]), rng.standard_normal((2, 4, 10)), np.array([10, 6]), np.array([1, 0]))
    return model.terms_vjp, given, (np.array(1.0), np.array(0.5))


def a_norm(rng):
    flow = refflow.models.starflow(rng, (1, 4, 4), patch=2, channels=6, layers=(1, 1), heads=2, head_size=4, expansion=2, clip=0)
    return partial(norm_vjp, flow), (rng.standard_normal((2, 1, 4, 4)),), (np.ones(2),)


def labelled(rng):
    flow, net = refflow.models.glow(rng, (1, 4, 4), 2, 1, 3), classifier(8, 3)
    net = net.unravel(net.ravel() + 1)
    return partial(labelled_vjp, flow, net), (rng.standard_normal((3, 1, 4, 4)), np.array([0, 1, 2])), (np.ones(3), np.ones(3))


@pytest.mark.parametrize("system", [a_vae, durations, speech, a_norm, labelled])
def test_a_system(system):
    vjp, given, bars = system(np.random.default_rng(0))
    hold_pullback(system.__name__, vjp, given, bars)


def test_the_parts_of_latents_are_the_callers():
    flow = refflow.Flow(refflow.Reshape((2, 3), (6,)), refflow.StandardNormal((2, 3)))
    z = np.ones((2, 2, 3))
    hold_apart("unpack", tuple(flow.unpack(z)), z)


# -- the same with the boundary's copies taken away -------------------------------------------------------------------

def shared_results(monkeypatch):
    monkeypatch.setattr(boundary, "apart", lambda array, *others: array)


def shared_with_the_pullback(monkeypatch):
    monkeypatch.setattr(boundary, "handed_out", lambda values: values)


@pytest.mark.parametrize("plant, name, told", [
    (shared_results, "MatrixTranspose", "forward: result 0 shares memory"),
    (shared_results, "CircularShift", "the pullback of vjp: result 0 shares memory"),
    (shared_results, "GlowTTSActNorm", "the pullback of vjp: result 2 shares memory"),
    (shared_with_the_pullback, "Tanh", "the pullback of vjp has read a changed array"),
])
def test_a_boundary_that_does_not_copy_is_found(plant, name, told, monkeypatch):
    question = next(one for one in MAPS if one.name == name)
    held_map(*drawn(question))
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=told):
        held_map(*drawn(question))


class Keeps(refflow.core.Bijector):
    """Its pullback keeps the argument, and is not behind the boundary."""

    def vjp(self, z):
        return (2 * z, np.zeros(len(z))), lambda x_bar, log_det_bar: (x_bar * z, {})


def test_a_pullback_that_keeps_the_callers_array_is_found():
    z = np.ones((2, 3))
    with pytest.raises(AssertionError, match="the pullback of vjp has read a changed array"):
        hold_pullback("vjp", Keeps().vjp, (z,), (z, np.ones(2)))
