"""Drawings of numbers as SVG, by NumPy alone: what a map does to numbers, to the plane, and to a density.

    numbers(f)              a map of numbers: its graph between a base density and the density that it becomes
    plane(f)                a map of two free numbers: a grid, and the same cells bent
    pattern(J, ...)         matrices, such as Jacobians and masks
    curve(function, ...)    functions of one number
    density(p, samples)     a density of one number or two
    polygons(outline, ...)  outlines in the plane at one scale
    errors(f)               a page and its textbook over the floats
    slider(name, values, draw)      a picture for each value of a parameter
    of(value)               the picture that the one rule chooses for a value

With a base density p on the domain of f and x = f(z), the density that is drawn at x is
    p(z) exp(-log|det dx/dz|)                                                       (1)
Each function returns a `Drawing`, which a notebook shows and whose `save` writes a file.
"""

from .densities import density
from .drawing import DARK, LIGHT, RULES, STYLE, Drawing
from .floats import QUANTITIES, errors
from .moving import FRAMES, Slider, slider
from .graphs import curve, numbers
from .patterns import pattern
from .planes import plane, polygons
from .rule import of

__all__ = ["DARK", "FRAMES", "LIGHT", "QUANTITIES", "RULES", "STYLE", "Drawing", "Slider", "curve", "density", "errors", "numbers", "of",
           "pattern", "plane", "polygons", "slider"]
