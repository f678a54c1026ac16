r"""The law of parametrisations: a batch of vectors of numbers gives the fields and cotangents of each.

With `fields(h)` and the pullback `fields*`, for vectors `h_i` (P,) and cotangents `bar_i` of their fields,
    fields(h)_i = fields(h_i),   fields*(bar)_i = fields*(bar_i)        for i = 1 .. B  (1)
A vector that is refused by itself is refused in a batch, by its index, and the others are asked without it.
The certificate holds the values at single vectors.  `run_parametrisation_laws(f, dtype, source)` asks this and the laws of
values.
"""

from __future__ import annotations

import numpy as np

from ..core import Value
from ..core.arrays import at_index
from .bijector_laws import run_value_laws
from .law import Broken, asked, every, law

LAWS: dict = {}
BATCH, SPREAD = (2, 3), 2           # of h, and its magnitudes: 2^-2 to 2^2
ROOM = 16                           # units of rounding of the largest entry: a batch may sum in another order


@law("a batch gives the fields of each", LAWS)
def batch(f, drawn):
    """(1)."""
    h, bars = drawn[0].copy(), drawn[1]
    accepted = [i for i in np.ndindex(BATCH) if refusal_of(f, h[i]) is None]
    refused = [i for i in np.ndindex(BATCH) if i not in accepted]
    if refused:
        found, first = refusal_of(f, h), at_index("h", refused[0])
        if found is None or first not in found:
            raise Broken(f"{first} is refused by itself, the batch is {found or 'accepted'}; {f!r}")
    if not accepted:
        return
    for i in refused:
        h[i] = h[accepted[0]]
    fields, pullback = f.vjp(h)
    components = {name: {} for name, part in fields.items() if isinstance(part, Value)}     # handed on, as their cotangents are
    h_bar, _ = pullback(bars | components)
    for i in np.ndindex(BATCH):
        own, own_pullback = f.vjp(h[i])
        own_bars = {name: bar[i] for name, bar in bars.items()} | components
        alike(f, "h_bar", h_bar[i], own_pullback(own_bars)[0], h.dtype)
        for name, core in zip(f.names, f.cores):
            alike(f, name, np.broadcast_to(fields[name], BATCH + core)[i], own[name], h.dtype)


def refusal_of(f, h):
    """What f says of an h that it refuses, else None."""
    try:
        f.vjp(h)
    except ValueError as found:
        return str(found)
    return None


def alike(f, what, given, own, dtype):
    given, own = (np.asarray(v, np.float64) for v in (given, own))
    off = np.abs(given - own).max(initial=0)
    if not off <= ROOM * float(np.finfo(dtype).eps) * np.abs(own).max(initial=0):
        raise Broken(f"{what} is {own.tolist()} by itself, {given.tolist()} in a batch; {f!r}")


def run_parametrisation_laws(f, dtype, source, wanted=every) -> dict:
    """Ask all laws, or those wanted; AssertionError with one line for each that is broken."""
    run_value_laws(f, wanted)
    unchecked, dtype = f.unchecked(np.dtype(dtype)), np.dtype(dtype)
    h = source.signed((*BATCH, f.size), -SPREAD, SPREAD).astype(dtype)
    bars = {name: source.signed((*BATCH, *core), -SPREAD, SPREAD).astype(dtype) for name, core in zip(f.names, f.cores)}
    with np.errstate(all="ignore"):
        return asked(((name, check, unchecked, (h, bars)) for name, check in LAWS.items()), wanted)
