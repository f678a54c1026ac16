"""refflow sample FLOW: draw rows, or images, from a flow."""

from __future__ import annotations

import math
import os

import numpy as np

from ..fast.flows import FEWEST_SAMPLES, in_parts
from ..maps.densities import StandardNormal
from ..oracle import CannotRun
from ..report import json_text
from .classes import OF_GUIDANCE, add_guidance, drawn_with_guidance, refuse_guidance
from .contexts import given_contexts
from .in_time import add_schemes, along_scheme, measured_error
from .kinds import opened
from .options import add_flow, add_given, add_seed, add_threads, add_table_out, count, rate, writes_a_file


def add_command(commands):
    one = commands.add_parser("sample", help="draw rows from a flow")
    add_flow(one)
    one.add_argument("--n", type=count, default=1, help="how many rows, for each context if there are any (1)")
    add_given(one)
    add_guidance(one)
    add_schemes(one)
    one.add_argument("--temperature", type=rate, default=1.0, metavar="T", help="latents times T (1)")
    add_table_out(one)
    add_seed(one)
    add_threads(one)
    writes_a_file(one, run)


def run(options):
    flow, data, _ = opened(options.flow)
    data.refuse_samples(options)
    contexts = given_contexts(data.context, options)
    refuse_guidance(options, flow, data.context)
    refuse_beyond_memory(options, flow, 1 if contexts is None else len(contexts))
    contexts = None if contexts is None else np.repeat(contexts, options.n, 0)
    y, error = measured_error(options, [samples(options, each, data, contexts) for each in along_scheme(options, flow)])
    data.write_samples(options, y)
    if options.json:
        report = {"flow": options.flow, "seed": options.seed, "n": options.n, "temperature": options.temperature}
        report |= {} if contexts is None else {"given": options.given}
        guidance = {"guidance": options.guidance, **{key: getattr(options, key) for key in OF_GUIDANCE}}
        report |= {} if options.guidance is None else guidance
        report |= error | data.note() | {"out": options.out}
        print(json_text(report | ({} if options.out else {"rows": data.samples(y).tolist()}), indent=None))
    return 0


def samples(options, flow, data, contexts):
    """The samples of the seed, and for each of `contexts` if there are any."""
    rng = np.random.default_rng(options.seed)
    standardised = None if contexts is None else data.context.standardised(contexts)
    if options.guidance is not None:
        z = latents(flow, rng, options.n if contexts is None else len(contexts), options.temperature)
        return drawn_with_guidance(flow, z, standardised, options)
    if contexts is None:
        return drawn(flow, rng, options.n, options.temperature)
    return data.joined(drawn_given(flow, rng, standardised, options.temperature), contexts)


def refuse_beyond_memory(options, flow, contexts):
    """Refuse more samples than the machine could hold."""
    if not hasattr(os, "sysconf"):
        return
    needed = 8 * options.n * contexts * math.prod(flow.event_shape)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise CannotRun(f"--n {options.n}: these are {needed / 1e9:.3g} GB, and this machine has {there / 1e9:.3g} GB of "
                        "memory; draw fewer at a time, each with its own --seed")


def drawn(flow, rng, n, temperature=1.0):
    """n samples, their latents, which must be standard normal, times the temperature."""
    return in_parts(flow.bijector.forward, flow, latents(flow, rng, n, temperature), fewest=FEWEST_SAMPLES)


def drawn_given(flow, rng, contexts, temperature=1.0):
    """A sample for each context, (n, C)."""
    z = latents(flow, rng, len(contexts), temperature)
    return in_parts(lambda z, c: flow.at(context=c).bijector.forward(z), flow, z, contexts, fewest=FEWEST_SAMPLES)


def latents(flow, rng, n, temperature):
    if temperature != 1 and not isinstance(flow.base, StandardNormal):
        raise CannotRun(f"--temperature: the base of the flow must be StandardNormal, not {type(flow.base).__name__}")
    z = flow.base.sample(rng, n)
    return z * z.dtype.type(temperature)
