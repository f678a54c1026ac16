"""Words of the mixtures: how their fields are laid out for a solver, and kept in another precision."""

from __future__ import annotations

import numpy as np


def with_unit_weights(fields):
    """The fields of a mixture after a change of precision: float32 weights must sum to 1 in float64 too."""
    return fields | {"weights": fields["weights"] / fields["weights"].sum(-1, keepdims=True)}


def flattened(x, *fields):
    """x as (n,), and fields (*batch, K) as (n, K)."""
    return x.reshape(-1), *(np.broadcast_to(v, x.shape + v.shape[-1:]).reshape(-1, v.shape[-1]) for v in fields)
