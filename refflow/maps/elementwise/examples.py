"""Conventions, orders and layouts from a `Source`: used to draw affine maps and couplings."""

from __future__ import annotations

from .scale_conventions import CONVENTIONS


def convention(source, own=1 / 3):
    """One of the scales; with the probability `own`, one that has parameters of its own.

    Scales with a straight-through gradient are left out: beyond the clamp it is not a derivative.
    """
    with_own = source.chance(own)
    return source.choice([scale for scale in CONVENTIONS.values()
                          if bool(scale.params()) == with_own and not getattr(scale, "straight_through", False)])


def layout(source):
    return {"layout": source.choice(["halves", "interleaved"])}


def order(source):
    return {"order": source.choice([("scale", "shift"), ("shift", "scale")])}
