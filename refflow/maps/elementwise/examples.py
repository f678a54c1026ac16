"""Conventions, orders and layouts from a `Source`: what affine maps and couplings are drawn with."""

from __future__ import annotations

from .scale_conventions import CONVENTIONS


def convention(source, own=1 / 3):
    """One of the scales; a share `own` of them have parameters of their own.

    Not one with a straight-through gradient: beyond its clamp that is no derivative.
    """
    with_own = source.chance(own)
    return source.choice([scale for scale in CONVENTIONS.values()
                          if bool(scale.params()) == with_own and not getattr(scale, "straight_through", False)])


def layout(source):
    return {"layout": source.choice(["halves", "interleaved"])}


def order(source):
    return {"order": source.choice([("scale", "shift"), ("shift", "scale")])}
