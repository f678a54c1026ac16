"""Adaptive solvers of other libraries, held to the exact flow by what their tolerances promise.

    python -m validation.solvers            asks the libraries that are installed, and writes tables/solvers.md

A solver that chooses its steps is not a map of one event: its steps depend on the whole batch.  It is held to `ContinuousFlow` with an
allowance that its tolerances give.  A step promises an error of each number of the state `y` of at most `atol + rtol |y|`, in a norm
over the whole batch: a root mean square of `n` numbers, or their maximum.  So the error of a step in one event's `z`, of `D` entries, and
in its log-det `l` is at most
    e_z = c_z (atol + rtol R),   e_l = c_l (atol + rtol w T S)/w                    (1)
with `c` the square root of `n` for a root mean square, and of the number of the event's own entries for a maximum; `T` the time that
passes; `w` what the library multiplies `l` by before it is integrated.  The velocity is `v = U tanh(W (z, t) + b) + c`, and with the
columns `W_z` of `z`, rows `w_k` of these, columns `u_k` of `U`, and `H` units,
    R = max|z| + T (|U| H^(1/2) + |c|)    is the largest entry on the way,
    S = sum_k |<u_k, w_k>|                bounds the trace of the Jacobian,
    L = |U| |W_z|                         bounds its norm,
    M = 4/(3 3^(1/2)) sum_k |<u_k, w_k>| |w_k|       bounds the trace's gradient, as |tanh''| <= 4/(3 3^(1/2))
The error of a step grows by at most `exp(L T)` until the end, so that after `N` steps
    E_z = N exp(L T) e_z,   E_l = N e_l + T M E_z                                   (2)
and the way back from there misses the start by at most `E_z` of its own steps and `exp(L T) E_z` of those before.       (3)
Nothing here is fitted.  `N` is bounded by the velocities asked for, over those that a step needs; an interpolation at the end counts as a
step.  Rounding is not counted: tolerances stay far above it.

Declared of every adaptive solver: an event alone has other digits than in a batch, within the allowances of both.  Declared of fixed
steps of an order p: the way back misses the start by a multiple of `h^q`, where `q` is the odd one of p and p + 1.       (4)
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np

from refflow import ContinuousFlow
from refflow.maps.conditioners import Dense, Sequential, TanhActivation
from refflow.maps.continuous.adaptive import adaptive_vjp
from refflow.maps.continuous.log_density import LogDensity

TABLE = Path(__file__).parent / "tables" / "solvers.md"
RNG = np.random.default_rng(1)
NET = Sequential((Dense(RNG.normal(size=(4, 3)), RNG.normal(size=4)), TanhActivation(), Dense(RNG.normal(size=(2, 4)) / 2, RNG.normal(size=2))))
START, END, EVENTS = 0.25, 0.75, 2 * RNG.normal(size=(5, 2))
TOLERANCES = 1e-4, 1e-6, 1e-8, 1e-10
ORDERS = {"euler": 1, "midpoint": 2, "heun2": 2, "rk4": 4}                # of torchdiffeq's fixed steps


class Solver(NamedTuple):
    """`solve(z, start, end, tolerance)` -> (x, log_det, velocities asked for); what (1) needs to know of it."""

    solve: object
    of_a_step: int
    mean: bool                  # a root mean square, not a maximum
    weight: float = 1.0         # of l


class Row(NamedTuple):
    """What a solver was asked: (error, allowed) of three quantities, and of an event alone against the batch."""

    tolerance: float
    z: tuple
    log_det: tuple
    back: tuple
    alone: tuple

    @property
    def passes(self):
        return all(error <= allowed for error, allowed in (self.z, self.log_det, self.back, self.alone))


def norm(A):
    return float(np.linalg.norm(A, 2))


def allowances(solver, z, tolerance, evaluations, span):
    """(E_z, E_l, exp(L T))."""
    into, out = NET.layers[0], NET.layers[2]
    w, U = into.W[:, :z.shape[-1]], out.W
    products = np.abs((U.T * w).sum(1))
    R = np.abs(z).max() + span * (norm(U) * len(w)**0.5 + norm(out.b[:, None]))
    S, L = products.sum(), norm(U) * norm(w)
    M = 4 / (3 * 3**0.5) * (products * np.linalg.norm(w, axis=1)).sum()
    c_z, c_l = (z.size**0.5, len(z)**0.5) if solver.mean else (z.shape[-1]**0.5, 1.0)
    e_z = c_z * tolerance * (1 + R)                                                 # (1)
    e_l = c_l * tolerance * (1 + solver.weight * span * S) / solver.weight          # (1)
    N, growth = evaluations / solver.of_a_step + 1, np.exp(L * span)
    E_z = N * growth * e_z                                                          # (2)
    return E_z, N * e_l + span * M * E_z, growth                                    # (2)


def asked(solver, tolerance, z=EVENTS, start=START, end=END):
    """The Row of a solver at a tolerance."""
    span = abs(end - start)
    true, true_log_det = ContinuousFlow(NET, start, end).forward_and_log_det(z)
    x, log_det, evaluations = solver.solve(z, start, end, tolerance)
    E_z, E_l, growth = allowances(solver, z, tolerance, evaluations, span)
    again, _, evaluations = solver.solve(x, end, start, tolerance)
    of_back, _, _ = allowances(solver, x, tolerance, evaluations, span)
    apart, allowed = 0.0, 0.0
    for i in range(len(z)):
        alone, _, evaluations = solver.solve(z[i:i + 1], start, end, tolerance)
        apart = max(apart, farthest(alone - x[i:i + 1]))
        allowed = max(allowed, E_z + allowances(solver, z[i:i + 1], tolerance, evaluations, span)[0])
    return Row(tolerance, (farthest(x - true), E_z), (float(np.abs(log_det - true_log_det).max()), E_l),
               (farthest(again - z), of_back + growth * E_z), (apart, allowed))             # (3)


def farthest(difference):
    return float(np.linalg.norm(difference, axis=-1).max())


def reversal_order(there_and_back, z=EVENTS, steps=16):
    """By how many powers of h the way back misses; `there_and_back(z, steps)`."""
    missed = [farthest(there_and_back(z, n) - z) for n in (steps, 2 * steps)]
    return float(np.log2(missed[0] / missed[1]))


# -- solvers ----------------------------------------------------------------------------------------------------------

def own(z, start, end, tolerance):
    system = LogDensity(NET, z.shape)
    found, _ = adaptive_vjp(system, system.state(z), start, end, tolerance, tolerance)
    x, l, _ = system.read(found.state)
    return x, -l, found.evaluations


def in_torch(z):
    """(rates(t, z) -> (v, tr A), a list that counts them, z as a tensor)."""
    import torch

    from refflow.peers.shared.velocity import Velocity

    layers = {key: {name: torch.from_numpy(value) for name, value in layer.items()} for key, layer in NET.params()["layers"].items()}
    velocity, count = Velocity({"net": {"layers": layers}}), []

    def rates(t, state):
        count.append(t)
        with torch.enable_grad():
            y = state[0].detach().requires_grad_()
            v = velocity(t, y)
            trace = sum(torch.autograd.grad(v[..., i].sum(), y, retain_graph=True)[0][..., i] for i in range(v.shape[-1]))
        return v.detach(), trace

    return velocity, rates, count, torch.from_numpy(z)


def torchdiffeq(z, start, end, tolerance):
    import torch
    from torchdiffeq import odeint

    _, rates, count, z = in_torch(z)
    times = torch.tensor([start, end], dtype=z.dtype)
    x, l = odeint(rates, (z, z.new_zeros(len(z))), times, method="dopri5", atol=tolerance, rtol=tolerance)
    return x[-1].numpy(), l[-1].numpy(), len(count)


def zuko(z, start, end, tolerance):
    from zuko.transforms import FreeFormJacobianTransform

    velocity, _, count, z = in_torch(z)

    def counted(t, y):
        count.append(t)
        return velocity(t, y)

    x, l = FreeFormJacobianTransform(counted, start, end, atol=tolerance, rtol=tolerance).call_and_ladj(z)
    return x.detach().numpy(), l.detach().numpy(), len(count)


def there_and_back(method):
    """By fixed steps of torchdiffeq."""
    import torch
    from torchdiffeq import odeint

    def both(z, steps):
        velocity, _, _, x = in_torch(z)
        for times in ([START, END], [END, START]):
            x = odeint(velocity, x, torch.tensor(times, dtype=x.dtype), method=method, options={"step_size": (END - START) / steps})[-1]
        return x.detach().numpy()

    return both


LIBRARIES = {"torchdiffeq": ("odeint [method=dopri5]", Solver(torchdiffeq, 6, True)),
             "zuko": ("FreeFormJacobianTransform", Solver(zuko, 7, False, 1e-2))}


# -- the table --------------------------------------------------------------------------------------------------------

def table(found, orders):
    """`found`: {name: rows}; `orders`: {name: (declared, measured)}."""
    lines = ["# Solvers of other libraries", "", "`python -m validation.solvers` holds them to the exact flow: error / allowance by the tolerance, "
             "which [solvers.py](../solvers.py) derives.", "", "| solver | atol = rtol | x | log-det | there and back | alone against in a batch |",
             "|" + " --- |" * 6]
    for name, rows in found.items():
        for row in rows:
            cells = (f"{error:.1e} / {allowed:.1e}" + ("" if error <= allowed else " **too much**")
                     for error, allowed in (row.z, row.log_det, row.back, row.alone))
            lines.append(f"| `{name}` | {row.tolerance:.0e} | " + " | ".join(cells) + " |")
    lines += ["", "The way back by fixed steps of length h misses the start by a multiple of h to the power", "", "| steps | declared | measured |",
              "|" + " --- |" * 3]
    lines += [f"| `{name}` | {declared} | {measured:.2f} |" for name, (declared, measured) in orders.items()]
    return "\n".join(lines) + "\n"


def main(arguments=None):
    argparse.ArgumentParser(prog="python -m validation.solvers", description=__doc__.split("\n", maxsplit=1)[0]).parse_args(arguments)
    here = {library: of for library, of in LIBRARIES.items() if importlib.util.find_spec(library)}
    if not here:
        print(f"none of {', '.join(LIBRARIES)} is installed", file=sys.stderr)
        return 2
    found = {f"{library} {name}": [asked(solver, tolerance) for tolerance in TOLERANCES] for library, (name, solver) in here.items()}
    orders = {f"torchdiffeq {method}": (p + 1 - p % 2, reversal_order(there_and_back(method))) for method, p in ORDERS.items()
              if "torchdiffeq" in here}                                             # (4)
    TABLE.write_text(table(found, orders), encoding="utf-8")
    print(TABLE.read_text(encoding="utf-8"))
    return int(not all(row.passes for rows in found.values() for row in rows)
               or any(abs(measured - declared) > 0.5 for declared, measured in orders.values()))


if __name__ == "__main__":
    sys.exit(main())
