"""Maps of two free numbers: a grid shaded by its density and the same cells bent; outlines; densities in the plane."""

from __future__ import annotations

import dataclasses
from typing import Callable

import numpy as np

from ..core import real, simplex
from .drawing import WIDTH, Drawing, line, path, short, text
from .graphs import base_of, named

CELLS = 16
REACH = 2.4                             # of a grid on the plane, in standard deviations
GAP, TALLEST, TOP = 16, 190, 22
SHADES = 16
BRIGHT = 0.95                           # the share of the cells whose density is below full shade
KEPT = (0.01, 0.99)                     # what a window holds of the corners of bent cells, either way


@dataclasses.dataclass(frozen=True)
class View:
    """How a set of dimension 2 is seen: `project(members)` -> (points of the plane, depth or None), and the outline of the whole."""

    project: Callable
    outline: np.ndarray | None = None


TRIANGLE = np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(0.75)]])
LEVEL = np.array([[1.0, -1.0, 0.0], [1.0, 1.0, -2.0]]) / np.sqrt([[2.0], [6.0]])        # a basis of the vectors whose sum is 0
CIRCLE = np.stack([np.cos(np.linspace(0, 2 * np.pi, 61)), np.sin(np.linspace(0, 2 * np.pi, 61))], -1)
TURN = np.array([[0.8, -0.6, 0.0], [0.15, 0.2, np.sqrt(0.9375)]])                       # across and up, seen from the side
PLANE = View(lambda x: (x, None))
VIEWS = {"simplex": View(lambda x: (x @ TRIANGLE, None), TRIANGLE), "zero_sum": View(lambda x: (x @ LEVEL.T, None)),
         "sphere": View(lambda x: (x @ TURN.T, x @ np.cross(*TURN)), CIRCLE)}


def view_of(where, shape):
    """The view of a set whose members have this shape, or None if it has no view."""
    if shape == (2,) and not where.thin:
        return PLANE
    return VIEWS.get(where.name) if shape == (3,) else None


def grid_of(where, shape, count):
    """((count + 1)^2 members, their densities up to a factor) of a set of dimension 2, or None."""
    if shape == (3,) and where.name == "zero_sum":
        flat, density = grid_of(real, (2,), count)
        return flat @ LEVEL, density
    if shape == (3,) and where.name == "simplex":
        a, b = np.meshgrid(*[np.linspace(0.01, 0.99, count + 1)] * 2, indexing="ij")
        return np.stack([a * (1 - b), a * b, 1 - a], -1), np.ones(a.shape)
    if shape == (2,) and where.name == "subsimplex":
        x, density = grid_of(simplex, (3,), count)
        return x[..., :2], density
    if shape != (2,) or where.thin or where.rank:
        return None
    quantile, density = base_of(where)
    low, high = (-REACH, REACH) if not np.isfinite([where.lower, where.upper]).any() else quantile(np.array([1e-6, 1 - 1e-6]))
    if np.isinf(where.upper) and np.isfinite(where.lower):
        high = where.lower + 2 * REACH
    z = np.stack(np.meshgrid(*[np.linspace(low, high, count + 1)] * 2, indexing="ij"), -1)
    return z, density(z).prod(-1)


def plane(f, event_shape=None) -> Drawing | None:
    """A grid on f's domain and the same cells bent, each shaded by its density; None if one of the sets has no view.

    Both panels have one scale, and one shade for one density, if both are the plane: what a map stretches, it pales.
    """
    shape = tuple(event_shape or f.event_shape or (2,))
    image_shape = tuple(f.output_shape(shape))
    before, after, grid = view_of(f.domain, shape), view_of(f.codomain, image_shape), grid_of(f.domain, shape, 2 * CELLS)
    if before is None or after is None or grid is None:
        return None
    z, density = grid
    x, log_det = f.forward_and_log_det(z)
    middles, carried = (p[1::2, 1::2] for p in (density, density * np.exp(-log_det)))
    cells = [cells_of(view, members) for view, members in ((before, z), (after, x))]
    most = middles.max(), np.quantile(carried, BRIGHT)
    full = (max(most),) * 2 if before is after is PLANE else most
    windows = [window(view, seen) for view, (seen, _) in zip((before, after), cells)]
    parts, height = [], 0.0
    for (left, scale), view, (seen, shown), shares, (low, high), name in zip(
            placed(windows, before is after is PLANE), (before, after), cells, (middles / full[0], carried / full[1]), windows, "zx"):
        def at(points, left=left, scale=scale, low=low, high=high):
            return np.stack([left + scale * (points[..., 0] - low[0]), TOP + scale * (high[1] - points[..., 1])], -1)

        box = at(np.stack([low, high]))
        parts += [text(left, TOP - 7, name), *shaded(at(seen), shares, shown, box)]
        parts.append(path(line(at(view.outline), closed=True), "axis") if view.outline is not None else "")
        height = max(height, *box[:, 1])
    if before is after is PLANE:
        left, scale = placed(windows, True)[1]
        parts += [path(f"M{short(left)} {short(height + 12)}v-4v2h{short(scale)}v-2v4", "axis"), text(left + scale + 6, height + 14, "1")]
    label = f"A grid, and what {named(f)} makes of it; cells are darker where the density is higher."
    return Drawing(tuple(filter(None, parts)), label, height + 20, numbers={
        "z": z, "x": x, "density": middles, "carried": carried, "cells": tuple(seen for seen, _ in cells),
        "scales": tuple(scale for _, scale in placed(windows, before is after is PLANE))})


def cells_of(view, members):
    """((n, n, 4, 2) corners as they are seen, (n, n) marks of the cells on the near side) of (2 n + 1)^2 members."""
    points, depth = view.project(members)
    corners = points[::2, ::2]
    near = np.ones((len(corners) - 1,) * 2, bool) if depth is None else depth[1::2, 1::2] >= 0
    return np.stack([corners[:-1, :-1], corners[1:, :-1], corners[1:, 1:], corners[:-1, 1:]], -2), near


def window(view, seen):
    """(lower left, upper right) of what is drawn."""
    if view.outline is not None:
        return view.outline.min(0), view.outline.max(0)
    points = seen.reshape(-1, 2)
    low, high = np.quantile(points, KEPT, 0)
    room = 0.25 * (high - low)
    return np.maximum(low - room, points.min(0)), np.minimum(high + room, points.max(0))


def placed(windows, together):
    """[(left edge, pixels for a unit)] of panels side by side."""
    sizes = np.array([high - low for low, high in windows])
    room = WIDTH - 8 - GAP * (len(sizes) - 1)
    if together:
        scales = np.full(len(sizes), min(room / sizes[:, 0].sum(), TALLEST / sizes[:, 1].max()))
    else:
        scales = np.minimum(room / len(sizes) / sizes[:, 0], TALLEST / sizes[:, 1])
    widths = scales * sizes[:, 0]
    starts = 4 + (room - widths.sum()) / 2 + np.concatenate([[0], np.cumsum(widths + GAP)[:-1]])
    return list(zip(starts.tolist(), scales.tolist()))


def shaded(cells, shares, shown, box):
    """A path for each shade; a cell with a corner outside the box is left out."""
    (left, bottom), (right, top) = box
    inside = (np.abs(cells - [(left + right) / 2, (top + bottom) / 2]) <= np.array([right - left, bottom - top]) / 2 + 0.6).all((-1, -2))
    level = np.ceil(SHADES * np.sqrt(np.clip(shares, 0, 1))).astype(int)
    for shade in range(SHADES + 1):
        chosen = cells[(level == shade) & shown & inside]
        yield path("".join(map(cell, np.round(chosen, 1))), f'cells" fill-opacity="{0.9 * shade / SHADES:.2f}') if len(chosen) else ""


def cell(corners):
    """The steps of one cell: its first corner, and the way from corner to corner."""
    ways = "".join(f"{short(dx)} {short(dy)}" if i == 0 else f" {short(dx)} {short(dy)}" for i, (dx, dy) in enumerate(np.diff(corners, axis=0)))
    return f"M{short(corners[0, 0])} {short(corners[0, 1])}l{ways}z".replace(" -", "-")


def polygons(*given, titles=()) -> Drawing:
    """Closed outlines of the plane in panels side by side, all at one scale."""
    outlines = [np.asarray(outline, float) for outline in given]
    windows = [(outline.min(0), outline.max(0)) for outline in outlines]
    parts, height = [], 0.0
    for (left, scale), outline, (low, high), title in zip(
            placed(windows, True), outlines, windows, [*titles, *[""] * len(outlines)]):
        points = np.stack([left + scale * (outline[:, 0] - low[0]), TOP + scale * (high[1] - outline[:, 1])], -1)
        parts += [path(line(points, closed=True), "under"), path(line(points, closed=True), "mass"), text(left, TOP - 7, title)]
        height = max(height, points[:, 1].max())
    return Drawing(tuple(parts), f"{len(outlines)} outlines in the plane at one scale.", height + 10,
                   numbers={"outlines": outlines, "scales": [scale for _, scale in placed(windows, True)]})
