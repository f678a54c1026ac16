"""The errors of a page and of its printed equation over the floats."""

from __future__ import annotations

import numpy as np

from .drawing import WIDTH, Drawing, dots, path, short, text
from .graphs import named
from ..accuracy import floats

LEFT, RIGHT, TOP, FLOOR, GAP = 40, 352, 34, 190, 8
LEAST, ORDINARY, MOST = 1e-2, 1e3, 1e12         # units: at the floor; at the top, unless errors are larger; at the top at most
RIGHT_UP_TO = 4                                 # units: with no larger error, an equation needs no picture
QUANTITIES = {"log_det": "log-determinant", "forward": "value"}
POWERS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")


def errors(f) -> Drawing | None:
    """Of the log-det of a bijector of numbers that has a textbook, or else of its value, in float32; None if both equations serve."""
    for quantity in QUANTITIES:
        if f.event_ndim[0] == 0 and hasattr(f.textbook, quantity):
            stretches = floats.errors(f, quantity)
            if max(stretch.textbook.max() for stretch in stretches) > RIGHT_UP_TO:
                return drawn(f, quantity, stretches)
    return None


def drawn(f, quantity, stretches):
    found = {kind: np.concatenate([getattr(stretch, kind) for stretch in stretches]) for kind in ("events", "textbook", "page")}
    finite = np.concatenate([found["textbook"], found["page"], [ORDINARY]])
    up = Up(min(finite[np.isfinite(finite)].max(), MOST))
    scale = (RIGHT - LEFT - GAP * (len(stretches) - 1)) / sum(np.ptp(stretch.exponents) for stretch in stretches)
    parts, left = [up.axis()], float(LEFT)
    for stretch in stretches:
        far = stretch.exponents - stretch.exponents[0] if stretch.way > 0 else stretch.exponents[-1] - stretch.exponents
        places = left + scale * far
        parts.append(along(stretch, left, scale))
        parts += [path(dots(np.stack([places, up.at(units)], -1)), kind) for units, kind in
                  ((stretch.textbook, 'dots mass" style="stroke-width:4'), (stretch.page, 'dots" style="stroke-width:2.5'))]
        left += scale * np.ptp(stretch.exponents) + GAP
    parts += [path(dots([(LEFT + 6, 8)]), "dots"), text(LEFT + 14, 12, "page"),
              path(dots([(LEFT + 66, 8)]), "dots mass"), text(LEFT + 74, 12, "equation as printed")]
    label = (f"The errors of the {QUANTITIES[quantity]} of {named(f)} in float32, in units of rounding, over the events: of the page, and "
             "of the equation as it is printed.")
    return Drawing(tuple(filter(None, parts)), label, FLOOR + 24, numbers=found | {"quantity": quantity})


class Up:
    """The logarithmic axis of errors; what is not a number stands above it."""

    def __init__(self, most):
        self.floor, self.top = np.log10(LEAST), np.log10(most)

    def at(self, units):
        share = (np.log10(np.clip(units, LEAST, 10**self.top)) - self.floor) / (self.top - self.floor)
        return np.where(np.isinf(units), TOP - 12, FLOOR - share * (FLOOR - TOP))

    def axis(self):
        powers = range(0, int(self.top) + 1, 2 if self.top < 7 else 4)
        heights = [float(self.at(10.0**k)) for k in powers]
        words = "".join(text(LEFT - 6, height + 4, power(10, k), "up") for k, height in zip(powers, heights))
        marks = "".join(f"M{LEFT} {short(height)}h-4" for height in heights)
        return path(f"M{LEFT} {FLOOR}V{TOP}{marks}", "axis") + words + text(LEFT - 6, TOP - 8, "∞", "up")


def along(stretch, left, scale):
    """The axis of one stretch, with ticks at some powers of 2."""
    first, last = stretch.exponents[[0, -1]]
    powers = [k for k in (-20, 0, 20) if first <= k <= last and (k or not stretch.end)]
    places = [left + scale * (k - first if stretch.way > 0 else last - k) for k in powers]
    sign = "−" if stretch.way < 0 else "+" if stretch.end else ""
    end = f"{stretch.end:.3g}".replace("-", "−") if stretch.end else ""
    words = "".join(text(min(place, WIDTH - 34 if end else place), FLOOR + 17, f"{end}{sign}{power(2, k)}", "across")
                    for place, k in zip(places, powers))
    return path(f"M{short(left)} {FLOOR}h{short(scale * (last - first))}" + "".join(f"M{short(place)} {FLOOR}v4" for place in places), "axis") + words


def power(base, exponent):
    return f"{base}{str(exponent).translate(POWERS)}" if exponent else "1"
