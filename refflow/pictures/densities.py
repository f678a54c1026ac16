"""Densities of one number or two, alone or with samples."""

from __future__ import annotations

import numpy as np

from .drawing import WIDTH, Drawing, Scale, aside, dots, path, short, stretches, text, under
from .graphs import FLOOR, POINTS, RIGHT, SIDE, TOP, line
from .planes import SHADES

BARS, SQUARES = 40, 32
TALL = 240


def density(p, samples=None, window=None) -> Drawing:
    """A density with `log_prob` or a function of an array, of one number or of two; `samples` as bars or as dots.

    For two numbers, `window` is ((left, right), (bottom, top)); without one, it holds the middle 99 % of the samples, or the square
    to 3 from 0.
    """
    values = (lambda x: np.exp(p.log_prob(x))) if hasattr(p, "log_prob") else p
    shape = getattr(p, "event_shape", None)
    if shape == (2,) or np.ndim(window) == 2 or np.ndim(samples) == 2 and np.shape(samples)[1] == 2:
        return of_two(values, samples, window)
    return of_one(values if shape != (1,) else lambda x: values(x[..., None]), samples, window)


def of_one(values, samples, window):
    low, high = window or (np.quantile(samples, (0.005, 0.995)) if samples is not None else (-4.0, 4.0))
    x = np.linspace(low, high, POINTS)
    p = values(x)
    bars, edges = np.histogram(samples, BARS, (low, high)) if samples is not None else (np.zeros(0), np.zeros(1))
    bars = bars / (np.size(samples) * np.diff(edges)) if samples is not None else bars
    across, up = Scale(low, high, SIDE + 6, RIGHT), Scale(0.0, max(p.max(), bars.max(initial=0)), FLOOR, TOP)
    tops = up.at(bars)
    steps = "".join(f"M{short(a)} {FLOOR}V{short(top)}H{short(b)}V{FLOOR}z"
                    for a, b, top in zip(across.at(edges[:-1]), across.at(edges[1:]), tops))
    curve = line(np.stack([across.at(x), up.at(p)], -1))
    drawn = path(curve, "mass") if samples is not None else path(f"{curve}V{FLOOR}H{short(across.at(low))}z", "heap")
    parts = (under(across, FLOOR), aside(up, SIDE), path(steps, "under"), drawn, text(RIGHT, FLOOR + 30, "x", "up"))
    over = " over a histogram of samples" if samples is not None else ""
    return Drawing(tuple(filter(None, parts)), f"A density of one number{over}, from {low:.3g} to {high:.3g}.", FLOOR + 34,
                   numbers={"x": x, "density": p, "bars": bars, "edges": edges})


def of_two(values, samples, window):
    if window is None:
        window = np.quantile(samples, (0.005, 0.995), 0).T if samples is not None else ((-3.0, 3.0), (-3.0, 3.0))
    (left, right), (bottom, top) = window
    scale = min((WIDTH - SIDE - 6) / (right - left), TALL / (top - bottom))
    across = Scale(left, right, SIDE, SIDE + scale * (right - left))
    up = Scale(bottom, top, TOP + scale * (top - bottom), TOP)
    edges = np.linspace(left, right, SQUARES + 1), np.linspace(bottom, top, SQUARES + 1)
    middles = [(edge[1:] + edge[:-1]) / 2 for edge in edges]
    p = values(np.stack(np.meshgrid(*middles, indexing="ij"), -1))
    level = np.ceil(SHADES * np.sqrt(p / p.max()) - 0.5).astype(int)
    parts = [under(across, up.first), aside(up, SIDE - 2)]
    for shade in range(1, SHADES + 1):
        steps = "".join(strip(across.at(edges[0][[i, i + 1]]), up.at(edges[1][[first, last]]))
                        for i, row in enumerate(level == shade) for first, last in stretches(row))
        parts.append(path(steps, f'under" style="fill-opacity:{0.85 * shade / SHADES:.2f}'))
    if samples is not None:
        inside = samples[((samples >= [left, bottom]) & (samples <= [right, top])).all(-1)]
        parts.append(path(dots(np.stack([across.at(inside[:, 0]), up.at(inside[:, 1])], -1)), 'dots" style="stroke-width:2'))
    return Drawing(tuple(filter(None, parts)), "A density in the plane, darker where it is higher"
                   + (", and samples as dots." if samples is not None else "."), up.first + 22,
                   numbers={"x": middles[0], "y": middles[1], "density": p})


def strip(across, up):
    return f"M{short(across[0])} {short(up[0])}H{short(across[1])}V{short(up[1])}H{short(across[0])}z"
