"""The one rule that draws every value, by its kind, its event and its sets."""

from __future__ import annotations

import math

import numpy as np

from .densities import density
from .drawing import Drawing
from .graphs import curve, numbers
from .patterns import pattern
from .planes import plane
from ..accuracy.drawing import drawn_event, event_shapes
from ..core import Flow, RandomSource

SIZES, ENTRIES = (2, 3, 4, 6), 6        # of the axes of an event that may have any; about so many entries are shown in a pattern
LARGEST = 64                            # rows or columns that a pattern can show


def of(value, event_shape=None) -> Drawing | None:
    """The picture of a value, whose events have the given shape if several fit; None if it has none.

    A bijector of numbers is its graph between two densities, one of two free numbers a bent grid; of any other, and of networks,
    the Jacobian at a drawn event is shown.  Scales and activations are curves, densities of one number or two are densities.
    """
    kind = getattr(value, "kind", "")                   # None has none
    if isinstance(value, Flow) or kind == "density":
        return density(value) if value.event_shape in ((), (1,), (2,)) else None
    if kind == "scale" or kind == "conditioner" and value.event_ndim[0] == 0:
        return curve(value.forward, names=(type(value).__name__,))
    if kind == "bijector" and value.event_ndim[0] == 0:
        return numbers(value) if not value.domain.whole else None
    if kind not in ("bijector", "conditioner"):
        return None
    shapes = [tuple(event_shape)] if event_shape else event_shapes(value, (2, 3))
    drawn = (plane(value, shape) for shape in shapes) if kind == "bijector" else ()
    return next(filter(None, drawn), None) or jacobian(value, event_shape or middling(event_shapes(value, SIZES)))


def middling(shapes):
    return min(shapes, key=lambda shape: abs(math.prod(shape) - ENTRIES), default=None)


def jacobian(value, shape):
    """The pattern of the Jacobian at a drawn event; None if there is no such event, or it is too large to be seen."""
    if shape is None:
        return None
    source = RandomSource(np.random.default_rng(0))
    J = value.jacobian(drawn_event(source, value, "forward", shape, np.float64, 1))
    return pattern(J) if J.ndim == 2 and J.any() and max(J.shape) <= LARGEST else None
