"""Words of the splines: the bin in which an event lies, the values at its ends, and the adjoint.

Knots and the values at knots have shape (*parameter batch, K+1); events have the full batch.
"""

from __future__ import annotations

import numpy as np


def bin_of(knots, event):
    """The index k of the bin [knots_k, knots_(k+1)) that holds an event; the last bin includes both its ends."""
    return (event[..., None] >= knots[..., 1:-1]).sum(-1)


def at_ends(values, k):
    """(values_k, values_(k+1)) of each event's bin."""
    values = np.broadcast_to(values, k.shape + values.shape[-1:])
    return tuple(np.take_along_axis(values, i[..., None], -1)[..., 0] for i in (k, k + 1))


def at_knots(k, lower_bar, upper_bar, count):
    """Cotangents of `count` values, (*batch, count): the cotangents at the ends of each event's bin, 0 elsewhere."""
    knot = np.arange(count)
    zero = lower_bar.dtype.type(0)
    return np.where(knot == k[..., None], lower_bar[..., None], np.where(knot == k[..., None] + 1, upper_bar[..., None], zero))


def tails(knots, event):
    """(below, above): marks of the events beyond the first and the last knot."""
    return event < knots[..., 0], event > knots[..., -1]
