"""refflow sample FLOW: draw rows, or images, from a flow."""

from __future__ import annotations

import math
import os

import numpy as np

from .kinds import opened
from .options import add_flow, add_seed, add_table_out, count, rate, writes_a_file
from ..core.arrays import in_parts
from ..maps.densities import StandardNormal
from ..oracle import CannotRun
from ..report import json_text


def add_command(commands):
    one = commands.add_parser("sample", help="draw rows from a flow")
    add_flow(one)
    one.add_argument("--n", type=count, default=1, help="how many rows (1)")
    one.add_argument("--temperature", type=rate, default=1.0, metavar="T", help="latents times T (1)")
    add_table_out(one)
    add_seed(one)
    writes_a_file(one, run)


def run(options):
    flow, data, _ = opened(options.flow)
    data.refuse_samples(options)
    refuse_beyond_memory(options.n, flow)
    y = drawn(flow, np.random.default_rng(options.seed), options.n, options.temperature)
    data.write_samples(options, y)
    if options.json:
        report = {"flow": options.flow, "seed": options.seed, "n": options.n, "temperature": options.temperature}
        report |= data.note() | {"out": options.out}
        print(json_text(report | ({} if options.out else {"rows": data.samples(y).tolist()}), indent=None))
    return 0


def refuse_beyond_memory(n, flow):
    """Refuse more samples than the machine could hold."""
    if not hasattr(os, "sysconf"):
        return
    needed, there = 8 * n * math.prod(flow.event_shape), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise CannotRun(f"--n {n}: these are {needed / 1e9:.3g} GB, and this machine has {there / 1e9:.3g} GB of memory; draw "
                        "fewer at a time, each with its own --seed")


def drawn(flow, rng, n, temperature=1.0):
    """n samples, their latents, which must be standard normal, times the temperature."""
    if temperature != 1 and not isinstance(flow.base, StandardNormal):
        raise CannotRun(f"--temperature: the base of the flow must be StandardNormal, not {type(flow.base).__name__}")
    z = flow.base.sample(rng, n)
    return in_parts(flow.bijector.forward, z * z.dtype.type(temperature))
