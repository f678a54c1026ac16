"""torchdiffeq 0.2.5, as adapters: `refflow check torchdiffeq`.

With a fixed step, a solver is the map `DiscreteFlow` of its scheme: `rk4` is the 3/8 rule, not the classical scheme.  What it integrates
for a log-density is not the log-det of the scheme, and the way back in time is not its inverse; neither is asked.

Left out: `heun3`, `explicit_adams` and `implicit_adams`, whose schemes `DiscreteFlow` does not have.
"""

from __future__ import annotations

import torch
from torchdiffeq import odeint

import refflow

from ..oracle import adapter
from .shared import pinned
from .shared.velocity import NET, stepped

version = pinned("torchdiffeq", "0.2.5")
SCHEMES = {"euler": "euler", "midpoint": "midpoint", "heun2": "heun", "rk4": "three-eighths"}
START, END, STEPS = 0.25, 0.75, 4


def in_steps(method):
    def solve(velocity, z):
        times = torch.tensor([START, END], dtype=z.dtype)
        return odeint(velocity, z, times, method=method, options={"step_size": (END - START) / STEPS})[-1]

    return stepped(solve)


for method, scheme in SCHEMES.items():
    adapter(refflow.DiscreteFlow(NET, scheme, STEPS, START, END), theirs=f"torchdiffeq.odeint [method={method}]")(in_steps(method))
