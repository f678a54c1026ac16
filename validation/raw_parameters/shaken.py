"""Flows whose families round: every field that a map makes of a network's numbers is multiplied by 1 + step or 1 - step.

Knots lie near each other or near an end, and a bin is their difference: how far the rounding of a knot moves an answer does not
follow from the raw parameters alone.
"""

from __future__ import annotations

import numpy as np

from refflow.core import child, plain, tree
from refflow.maps.coupling import Family
from refflow.maps.parametrisations import Map
from refflow.maps.parametrisations.parametrisation import parametrisation


@parametrisation(source="definition", register=False)
class Shaken(Map):
    """The fields of `map`, each number multiplied by 1 + step times a sign drawn from the seed."""

    map: Map = child()
    step: float = plain()
    seed: int = plain()

    size = property(lambda self: self.map.size)
    names = property(lambda self: self.map.names)
    cores = property(lambda self: self.map.cores)
    channels = property(lambda self: self.map.channels)

    def vjp(self, h):
        fields, map_pullback = self.map.vjp(h)
        rng = np.random.default_rng(self.seed)
        factors = {name: 1 + self.step * rng.choice((-1.0, 1.0), np.shape(fields[name])[-1 - len(core):])
                   for name, core in zip(self.names, self.cores)}

        def pullback(bars):
            bar, map_bar = map_pullback(bars | {name: bars[name] * factor for name, factor in factors.items()})
            return bar, {"map": map_bar}

        return fields | {name: fields[name] * factor for name, factor in factors.items()}, pullback


def shaken(flow, step, seed):
    """The flow with the fields of every family shaken."""
    return tree.remade(flow, lambda path, owner: {"map": Shaken(owner.map, step, seed + len(path))}
                       if isinstance(owner, Family) else {})
