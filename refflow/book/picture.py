"""The errors of a quantity over its domain as a drawing in SVG.

Both axes are logarithmic, and their far decades are drawn closer together: a number v is drawn at arsinh(log10 v).  An event is
measured from the nearest end of its set, or from 0.
"""

from __future__ import annotations

from html import escape

import numpy as np

from ..oracle.judging.errors import FAILS, NOT_JUDGED, PASSES, Kept, Place, place_of
from ..report import number

WIDTH, HEIGHT = 390, 200
LEFT, RIGHT, TOP, BOTTOM = 40, 12, 24, 30
LOWEST, ORDINARY = 1e-2, 1e3            # errors: at the bottom, and at the top unless there are larger ones
GAP = 0.35                              # from an end, or 0, to the smallest size
TICKS = (1.0, 1e-3, 1e3, 1e-10, 1e10, 1e-30, 1e30, 1e-100, 1e100, 1e-300, 1e300, 0.1, 10.0, 1e-6, 1e6, 1e-16, 1e16, 1e-50,
         1e50, 2.0, 0.5, 5.0, 0.2)
DIGITS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
CLOSE = 1.5                             # points nearer than that cover each other


def picture(errors, letter, shown=None) -> str:
    """The drawing of an Errors record; `letter` names its events; `shown` is a finding whose input is marked."""
    points = errors.points
    if shown is not None:
        points = points + [Kept(place_of(errors, shown.input), shown.error, shown.allowed, FAILS, "the input shown")]
    across, up = Across(errors, [p.place for p in points]), Up([p.error for p in points])
    label = f"max|{letter}|" if errors.vectors else letter
    parts = [frame(across, up, label), allowance(points, across, up)]
    parts += [dots(points, across, up), *rings(points, across, up)]
    if shown is not None:
        x, y = across.at(points[-1].place), up.at(shown.error)
        parts.append(f'<circle class="shown" cx="{x:.1f}" cy="{y:.1f}" r="6"/>')
    says = f"Errors of {errors.quantity} in {errors.dtype} against {label}"
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(says)}">'
            f'{"".join(parts)}</svg>')


def squeezed(value):
    return float(np.arcsinh(np.log10(value)))       # a size is at least the smallest subnormal number


class Across:
    """The horizontal axis: places to pixels.

    A stretch with one finite end grows from it; a stretch with two grows from both to its middle.
    """

    def __init__(self, errors, places):
        self.stretches, left = [], 0.0
        for i, (lower, upper) in enumerate(errors.stretches):
            sizes = [squeezed(place.size) for place in places if place.stretch == i and 0 < place.size < np.inf] or [0.0]
            two = bool(np.isfinite([lower, upper]).all())
            most = squeezed((upper - lower) / 2) if two else max(sizes)
            half = most - min(*sizes, most) + GAP
            self.stretches.append((lower, upper, left, half, most))
            left += 2 * half if two else half
        self.scale = (WIDTH - LEFT - RIGHT) / left

    def at(self, place):
        lower, upper, left, half, most = self.stretches[place.stretch]
        far = min(max(squeezed(place.size) - most + half, 0.0), half) if place.size > 0 else 0.0
        right = left + (half if np.isinf(lower) or np.isinf(upper) else 2 * half)
        return LEFT + self.scale * (left + far if place.end < 0 else right - far)

    def ticks(self):
        """[(pixel, text)] of the candidates that touch no earlier one."""
        found = []
        for place, text in self.candidates():
            x, room = self.at(place), 3.1 * len(text) + 4
            if all(abs(x - other) > room + 3.1 * len(t) for other, t in found):
                found.append((x, text))
        return found

    def candidates(self):
        ends = [(i, end, value) for i, (lower, upper, *_) in enumerate(self.stretches)
                for end, value in ((-1, lower), (1, upper))]
        for i, end, value in ends:
            if np.isfinite(value):
                yield Place(i, end, 0.0), plain(value)
        for size in TICKS:
            for i, end, value in ends:
                _, _, _, half, most = self.stretches[i]
                if np.isfinite(value) and most - half + GAP - 0.01 <= squeezed(size) <= most:
                    yield Place(i, end, size), from_end(value, end, size)


def from_end(value, end, size):
    """A number at a distance from an end, in words: 10⁻³, −10⁻³, 1−10⁻³."""
    sign = "+" if end < 0 else "−"
    return f"{plain(value)}{sign}{plain(size)}" if value else f"{sign if end > 0 else ''}{plain(size)}"


class Up:
    """The vertical axis: errors to pixels."""

    def __init__(self, errors):
        finite = [error for error in errors if np.isfinite(error)]
        self.infinite = len(finite) < len(errors)
        self.low, self.high = squeezed(LOWEST), squeezed(min(2 * max([ORDINARY, *finite]), np.finfo(np.float64).max))
        self.top = TOP + (16 if self.infinite else 0)

    def at(self, error):
        if not np.isfinite(error):
            return TOP + 3.0
        share = (squeezed(max(error, LOWEST)) - self.low) / (self.high - self.low)
        return HEIGHT - BOTTOM - share * (HEIGHT - BOTTOM - self.top)

    def ticks(self):
        found = [(self.at(LOWEST), "0"), *([(TOP + 3.0, "∞")] if self.infinite else [])]
        for error in (1.0, 1e3, 1e6, 1e10, 1e16, 1e30, 1e100, 1e300):
            y = self.at(error)
            if y > self.top and all(abs(y - other) > 12 for other, _ in found):
                found.append((y, plain(error)))
        return found


def plain(value):
    """1, 10 and other short numbers as they are; powers of ten with an exponent."""
    if value == 0 or 1e-2 < abs(value) < 1e3:
        return f"{value:g}".replace("-", "−")
    exponent = round(np.log10(abs(value)))
    mantissa = value / 10.0**exponent
    head = "" if np.isclose(mantissa, 1) else "−" if np.isclose(mantissa, -1) else f"{mantissa:.3g}·"
    return f"{head}10{str(exponent).translate(DIGITS)}"


def frame(across, up, label):
    floor, right = HEIGHT - BOTTOM, WIDTH - RIGHT
    made = [f'<path class="axis" d="M{LEFT} {TOP - 6}V{floor}H{right}"/>']
    for x, text in across.ticks():
        made.append(f'<path class="axis" d="M{x:.1f} {floor}v4"/><text x="{min(x, WIDTH - 3 * len(text)):.1f}" '
                    f'y="{floor + 15}" class="across">{text}</text>')
    for y, text in up.ticks():
        made.append(f'<path class="axis" d="M{LEFT} {y:.1f}h-4"/>'
                    f'<text x="{LEFT - 7}" y="{y + 3.5:.1f}" class="up">{text}</text>')
    made.append(f'<text x="{right}" y="{floor + 27}" class="name">{escape(label)}</text>'
                f'<text x="{LEFT - 34}" y="{TOP - 12}">units</text>')
    return "".join(made)


def allowance(points, across, up):
    """A line at what is allowed; a band where it differs from point to point; the words stand above all points."""
    allowed = [point.allowed for point in points]
    if not allowed:
        return ""
    high, low = up.at(max(allowed)), up.at(min(allowed))
    right, says = WIDTH - RIGHT, number(min(allowed))
    says = f"{says} allowed" if min(allowed) == max(allowed) else f"{says} to {number(max(allowed))} allowed"
    return (f'<path class="band" d="M{LEFT} {low:.1f}V{high:.1f}H{right}V{low:.1f}Z"/><path class="allowed" '
            f'd="M{LEFT} {low:.1f}H{right}"/><text x="{right}" y="{TOP - 12}" class="name allowed">{says}</text>')


def dots(points, across, up):
    """The passing points; of those in one column of pixels, the worst."""
    path = "".join(f"M{x:.0f} {y:.1f}h0" for x, y, _ in apart(points, PASSES, across, up, HEIGHT))
    return f'<path class="passes" d="{path}"/>' if path else ""


def rings(points, across, up):
    """The points that fail, with their cases, and the points that are not judged."""
    for x, y, point in apart(points, FAILS, across, up, CLOSE):
        yield (f'<circle class="fails" cx="{x:.1f}" cy="{y:.1f}" r="2.5"><title>'
               f"{escape(f'{number(point.error)} units: {point.case}')}</title></circle>")
    for x, y, _ in apart(points, NOT_JUDGED, across, up, CLOSE):
        yield f'<circle class="unjudged" cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'


def apart(points, verdict, across, up, height):
    """[(x, y, point)] of one verdict: the worst point in each part of the drawing, CLOSE wide and `height` high."""
    kept = {}
    for point in sorted((p for p in points if p.verdict == verdict), key=lambda p: p.error):
        x, y = across.at(point.place), up.at(point.error)
        kept[round(x / CLOSE), round(y / height)] = x, y, point
    return list(kept.values())
