"""Maps and densities of numbers: a graph between two densities, plain curves, a density over samples."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from .drawing import Drawing, Scale, aside, dots, line, path, short, stretches, text, under

POINTS = 201
SHARE = 0.99                            # of the probability that is inside a window
QUANTILES = np.arange(1, 10) / 10
LEFT, RIGHT, TOP, FLOOR, BASE = 98, 352, 14, 186, 244          # the graph, and the line on which the base density stands
SIDE, DEEP = 44, 46                     # the line on which the density of the image stands, and how far either reaches
FULL = 0.97                             # the share of the probability at which a density may be higher than its drawing


def base_of(domain):
    """(quantile function, density) on a set of numbers: normal on a line, exponential on a half-line, uniform on an interval."""
    lower, upper = float(domain.lower), float(domain.upper)
    if np.isfinite(lower) and np.isfinite(upper):
        return lambda q: lower + q * (upper - lower), lambda z: np.full(np.shape(z), 1 / (upper - lower))
    if np.isfinite(lower):
        return lambda q: lower - np.log1p(-q), lambda z: np.exp(lower - z)
    if np.isfinite(upper):
        return lambda q: upper + np.log(q), lambda z: np.exp(z - upper)
    return special.ndtri, lambda z: np.exp(-z * z / 2) / math.sqrt(2 * math.pi)


def numbers(f, domain=None, image=None) -> Drawing:
    """The graph of a bijector of numbers, a base density on its domain, and the density p exp(-log det) that it becomes.

    The window of z is the middle 99 % of the probability, that of x too, unless `image` = (lower, upper) is given.
    """
    quantile, density = base_of(domain or f.domain)
    z = window_of(quantile, np.asarray(f.breaks(), float).ravel() if hasattr(f, "breaks") else np.zeros(0))
    x, log_det = f.forward_and_log_det(z)
    base = density(z)
    carried = base * np.exp(-log_det)                                           # (1)
    middle = f.forward(quantile(np.linspace((1 - SHARE) / 2, (1 + SHARE) / 2, POINTS)))
    low, high = image or (float(middle.min()), float(middle.max()))
    across, up = Scale(z[0], z[-1], LEFT, RIGHT), Scale(low, high, FLOOR, TOP)
    marked, images = quantile(QUANTILES), f.forward(quantile(QUANTILES))
    breaks = np.array([b for b in np.unique(f.breaks()) if z[0] <= b <= z[-1]]) if hasattr(f, "breaks") else np.zeros(0)
    parts = [under(across, BASE), aside(up, SIDE), text(RIGHT, BASE + 30, "z", "up"), text(LEFT, TOP - 3, "x"),
             path("".join(f"M{short(a)} {BASE}V{short(b)}H{SIDE}" for a, b in zip(across.at(marked), up.at(images))), "thin"),
             standing(across.at(z), base, BASE, -1), standing(up.at(x), carried, SIDE, 1, upright=True)]
    parts += [path(line(np.stack([across.at(z[run]), up.at(x[run])], -1))) for run in runs(x)]
    parts.append(path(dots(np.stack([across.at(breaks), up.at(f.forward(breaks))], -1)), "dots") if len(breaks) else "")
    label = (f"The graph of {named(f)}, the base density below it, and at the left the density that the map makes of it; "
             "nine quantiles are carried across.")
    return Drawing(tuple(filter(None, parts)), label, BASE + 34, numbers={
        "z": z, "x": x, "base": base, "carried": carried, "quantiles": marked, "images": images, "breaks": breaks})


def window_of(quantile, breaks):
    """Numbers from one end of the window to the other, equally spaced, equally probable, and on both sides of each break."""
    equal = quantile(np.linspace((1 - SHARE) / 2, (1 + SHARE) / 2, POINTS))
    near = np.concatenate([breaks, np.nextafter(breaks, -np.inf), np.nextafter(breaks, np.inf)])
    inside = near[(near > equal[0]) & (near < equal[-1])]
    return np.unique(np.concatenate([equal, np.linspace(equal[0], equal[-1], POINTS)[1:-1], inside]))


def runs(x):
    """Slices of x between its jumps: a map that rises where it is smooth falls only where it jumps, and the other way round."""
    steps = np.diff(x)
    way = np.sign(np.median(steps)) or 1.0
    ends = [0, *(np.flatnonzero(steps * way < 0) + 1), len(x)]
    return [slice(a, b) for a, b in zip(ends, ends[1:]) if b > a]


def standing(along, density, floor, way, upright=False):
    """A density that stands on a line, in the order of `along`."""
    finite = np.isfinite(density)
    full = min(density[finite].max(), 1.15 * np.quantile(density[finite], FULL))
    height = floor + way * DEEP * np.minimum(np.where(finite, density, np.inf) / full, 1.08)
    order = np.argsort(along, kind="stable")
    outline = np.stack([along, height], -1)[order]
    outline = np.concatenate([[[outline[0, 0], floor]], outline, [[outline[-1, 0], floor]]])
    return path(line(outline[:, ::-1] if upright else outline), "heap")


def named(f):
    return type(f).__name__


def curve(*functions, window=(-4.0, 4.0), names=(), argument="z") -> Drawing:
    """One or several functions of an array, over one window, with gaps where they are not finite.

    Among several names, a stroke before each is drawn as its curve.
    """
    if not functions:
        raise ValueError("curve: functions must have at least one; there is none")
    left, right = window
    z = np.linspace(left, right, POINTS)
    values = [np.broadcast_to(function(z), z.shape) for function in functions]
    finite = np.isfinite(values)
    if not finite.any():
        raise ValueError(f"curve: functions must be finite somewhere between {left:g} and {right:g}")
    low, high = np.min(values, where=finite, initial=np.inf), np.max(values, where=finite, initial=-np.inf)
    low, high = (low, high) if high > low else (low - 1, high + 1)
    across, up = Scale(left, right, SIDE + 6, RIGHT), Scale(low, high, FLOOR, TOP)
    parts = [under(across, FLOOR + 8), aside(up, SIDE), text(RIGHT, FLOOR + 38, argument, "up")]
    kinds = ["", "mass", "axis"]
    for i, value in enumerate(values):
        graph = np.stack([across.at(z), up.at(value)], -1)
        parts.append(path("".join(line(graph[first:last]) for first, last in stretches(finite[i])), kinds[i % 3]))
    lefts = SIDE + 16 + 90 * np.arange(len(names))
    parts += [path(line(np.array([[x, TOP - 6], [x + 16, TOP - 6]])), kinds[i % 3]) for i, x in enumerate(lefts) if len(names) > 1]
    parts += [text(x + (20 if len(names) > 1 else 0), TOP - 2, name) for x, name in zip(lefts, names)]
    said = ", ".join(names) or ("a function" if len(functions) == 1 else f"{len(functions)} functions")
    return Drawing(tuple(parts), f"The graph of {said} from {window[0]:g} to {window[1]:g}.", FLOOR + 42,
                   numbers={"z": z, "values": values})
