"""A picture that moves: frames over the values of one parameter, what they have in common stored once."""

from __future__ import annotations

from html import escape

import numpy as np

from .drawing import STYLE, Drawing, plain

FRAMES = 21


class Slider:
    """Drawings of one size for each value of a parameter; without script, the middle one stands still."""

    def __init__(self, name, values, drawings):
        if len(values) != len(drawings) or not drawings:
            raise ValueError(f"Slider: drawings must be as many as values, and one at least; they are {len(drawings)} and {len(values)}")
        self.name, self.values, self.drawings = name, [float(value) for value in values], list(drawings)
        self.middle = self.drawings[len(self.drawings) // 2]

    def svg(self, style=""):
        """All frames in one element: what all share, then a group for each frame, of which one is shown."""
        shared = set.intersection(*(set(drawing.parts) for drawing in self.drawings))
        middle = len(self.drawings) // 2
        frames = "".join(f'<g class="frame"{"" if i == middle else " style=" + chr(34) + "display:none" + chr(34)}>'
                         f'{"".join(part for part in drawing.parts if part not in shared)}</g>'
                         for i, drawing in enumerate(self.drawings))
        common = "".join(part for part in self.middle.parts if part in shared)
        most = max(self.drawings, key=lambda drawing: drawing.height)
        return Drawing((common, frames), self.middle.label, most.height, most.width).svg(style)

    def _repr_svg_(self):
        return self.middle.svg(STYLE)

    def save(self, path, force=False):
        self.middle.save(path, force)

    def _repr_html_(self):
        return f"<style>{STYLE}</style>{self.html()}"

    def html(self):
        """For a page: the picture, and a slider that a script unhides; `data-values` are what it shows beside the name."""
        values = " ".join(plain(value) for value in self.values)
        middle = len(self.values) // 2
        return (f'<div class="slider" data-values="{values}">{self.svg()}<label hidden="hidden"><span>{escape(self.name)} = '
                f'<output>{plain(self.values[middle])}</output></span> <input type="range" min="0" max="{len(self.values) - 1}" '
                f'value="{middle}"/></label></div>')


def slider(name, values, draw) -> Slider:
    """`draw(value)` for each of the values of a parameter."""
    values = np.asarray(values, float)
    return Slider(name, values, [draw(value) for value in values])
