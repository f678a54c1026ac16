"""A drawing: elements of SVG with a sentence that says what they show, for a page, a notebook, or a file of its own."""

from __future__ import annotations

import dataclasses
import re
from html import escape
from os import PathLike
from pathlib import Path

import numpy as np

from ..saving import write_atomically

WIDEST = 400                            # of a view box: words of 12 px keep 11 where a page is 400 px wide
WIDTH = 360
TOLERANCE = 0.25                        # pixels by which a line may miss a point that it leaves out
LIGHT = {"soft": "#63636a", "paper": "#fffefb", "curve": "#1f5fae", "mass": "#b5480d"}
DARK = {"soft": "#a9a69e", "paper": "#17171a", "curve": "#7db3f0", "mass": "#f09a5b"}
RULES = """.drawing{font:12px system-ui,sans-serif}
.drawing text{fill:var(--soft)}.drawing .up{text-anchor:end}.drawing .across{text-anchor:middle}
.drawing path{fill:none;stroke:var(--curve);stroke-width:1.8;stroke-linejoin:round}
.drawing .axis{stroke:var(--soft);stroke-width:1}.drawing .thin{stroke:var(--soft);stroke-width:.8;stroke-opacity:.5}
.drawing .mass{stroke:var(--mass)}.drawing .under{fill:var(--mass);fill-opacity:.16;stroke:none}
.drawing .heap{fill:var(--mass);fill-opacity:.16;stroke:var(--mass);stroke-width:1.4}
.drawing .dots{stroke-width:5;stroke-linecap:round}
.drawing .cells{fill:var(--mass);stroke:var(--soft);stroke-width:.5;stroke-opacity:.6}
.drawing .squares{fill:var(--curve);stroke:none}
"""
STYLE = re.sub(r"var\(--(\w+)\)", lambda name: f"var(--{name[1]},{LIGHT[name[1]]})", RULES)


@dataclasses.dataclass(frozen=True)
class Drawing:
    """Elements of SVG in a view box; `label` says in a sentence what they show, `numbers` holds the arrays that they show."""

    parts: tuple
    label: str
    height: float
    width: float = WIDTH
    numbers: dict = dataclasses.field(default_factory=dict, repr=False)

    def __post_init__(self):
        if not 0 < self.width <= WIDEST:
            raise ValueError(f"Drawing: width must be at most {WIDEST}, or its words are too small to read; it is {self.width:g}")

    def svg(self, style=""):
        """The text of the drawing; without a style it takes `STYLE` and the colours from the page that holds it."""
        style = style and f"<style>{style}</style>"
        return (f'<svg xmlns="http://www.w3.org/2000/svg" class="drawing" viewBox="0 0 {self.width:g} {self.height:g}" '
                f'role="img" aria-label="{escape(self.label)}">{style}{"".join(self.parts)}</svg>')

    def _repr_svg_(self):
        return self.svg(STYLE)

    def save(self, path: str | PathLike[str], force: bool = False) -> None:
        """Write a file with its own colours, light and dark; a file that is there is written over only with `force`."""
        if Path(path).suffix.lower() != ".svg":
            raise ValueError(f"Drawing.save: path must end in .svg; it is {str(path)!r}")
        own = f"svg{{{colours(LIGHT)}background:var(--paper)}}@media(prefers-color-scheme:dark){{svg{{{colours(DARK)}}}}}\n"
        write_atomically(path, self.svg(own + STYLE).encode(), replace=force)


def colours(table):
    return "".join(f"--{name}:{colour};" for name, colour in table.items())


# -- elements -------------------------------------------------------------------------------------------------------------

def text(x, y, words, kind=""):
    return f'<text x="{short(x)}" y="{short(y)}"{kind and f" class={chr(34)}{kind}{chr(34)}"}>{escape(words)}</text>'


def path(steps, kind=""):
    return f'<path{kind and f" class={chr(34)}{kind}{chr(34)}"} d="{steps}"/>' if steps else ""


def short(value):
    return f"{value:.1f}".removesuffix(".0")


def line(points, closed=False):
    """The steps of a path through points, without those that lie on it."""
    points = np.asarray(points)[straightened(points)] if not closed else np.asarray(points)
    return "M" + "L".join(f"{short(x)} {short(y)}" for x, y in points) + ("z" if closed else "")


def dots(points):
    return "".join(f"M{short(x)} {short(y)}h0" for x, y in points)


def stretches(marks):
    """(first, last) of each stretch of marks; last is behind it."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], marks, [False]])))
    return edges.reshape(-1, 2)


def straightened(points):
    """Marks the points that a line needs, so that it misses no other by more than `TOLERANCE` (Douglas and Peucker)."""
    points = np.asarray(points, float)
    kept, open_parts = np.zeros(len(points), bool), [(0, len(points) - 1)]
    kept[[0, -1]] = True
    while open_parts:
        first, last = open_parts.pop()
        if last - first < 2:
            continue
        way, off = points[last] - points[first], points[first + 1:last] - points[first]
        length = np.hypot(*way)
        miss = np.abs(off[:, 0] * way[1] - off[:, 1] * way[0]) / length if length else np.hypot(*off.T)
        worst = int(np.argmax(miss))
        if miss[worst] > TOLERANCE:
            middle = first + 1 + worst
            kept[middle] = True
            open_parts += [(first, middle), (middle, last)]
    return kept


# -- axes -----------------------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Scale:
    """Numbers from `low` to `high` at pixels from `first` to `last`; what lies beyond stands at the rim."""

    low: float
    high: float
    first: float
    last: float

    def at(self, value):
        share = (np.asarray(value, float) - self.low) / (self.high - self.low)
        return self.first + np.clip(share, -0.01, 1.01) * (self.last - self.first)

    def ticks(self, most=6):
        """Round numbers inside."""
        span = (self.high - self.low) / most
        unit = 10.0 ** np.floor(np.log10(span))
        step = unit * next(k for k in (1, 2, 5, 10) if k * unit >= 0.7 * span)
        first, last = np.ceil(self.low / step - 1e-9), np.floor(self.high / step + 1e-9)
        return [float(k * step) for k in np.arange(first, last + 1)]


def plain(value):
    """A short number with a true minus sign."""
    return f"{value + 0.0:.4g}".replace("-", "−").replace("e+0", "e").replace("e−0", "e−")


def under(scale, floor):
    """Ticks of a horizontal axis whose line is at height `floor`; the margin right of it, 8, holds half of a number of two letters."""
    marks = "".join(f"M{short(scale.at(tick))} {floor:g}v4" for tick in scale.ticks())
    words = [(scale.at(tick), plain(tick)) for tick in scale.ticks()]
    words = "".join(text(min(at, scale.last + 8 - 4 * len(word)), floor + 16, word, "across") for at, word in words)
    return path(f"M{scale.first:g} {floor:g}H{scale.last:g}{marks}", "axis") + words


def aside(scale, left):
    """Ticks of a vertical axis whose line is at `left`."""
    marks = "".join(f"M{left:g} {short(scale.at(tick))}h-4" for tick in scale.ticks(4))
    words = "".join(text(left - 7, scale.at(tick) + 4, plain(tick), "up") for tick in scale.ticks(4))
    return path(f"M{left:g} {scale.first:g}V{scale.last:g}{marks}", "axis") + words
