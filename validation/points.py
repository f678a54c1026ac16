"""The points at which a page is certified: drawn from its declaration alone, from a seed made of its name.

Every page gets, for each dtype and side (forward: events z; inverse: events x),
    hard cases  its own, with their reasons
    ends        0, +-1, the ends of its set or of the range, the numbers of its hard cases, and the floats beside each
    moderate    events, parameters and cotangents of magnitude 2^-4 .. 2^4: half of the drawn points, so that conditioning
                hides nothing
    reach       events up to 2^10 (float32: 2^7), where an exponential has left the floats
    wide        events from the smallest subnormal number to 2^1000 (2^126), parameters and cotangents 2^+-60 (2^+-20)
    breaks      where a piecewise page is less smooth, and the floats beside, on either side of the map
    image       the rounded truth of the other side: near the ends of the set, or where wide parameters move the
                interesting events to
Events are members of the page's open domain or codomain: on its boundary the truth may be infinite.

Vectors and matrices have sizes D in {1, 2, 3, 8}; cotangents are drawn for D <= 3.  A page with a matrix field draws its
parameters from 2^+-10, matrices being row scale x well-conditioned x column scale.
"""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from flint import ctx

from refflow.core import Bijector, Inverse
from refflow.core.boundary import LETTERS
from refflow.core.declarations import bind, Field, letter_of, Plain, size_of

from .measure import truth_at_x, truth_at_z
from .truth import FIRST_DIGITS, TruthNotFound

EVENTS = {"moderate": {"float64": (-4, 4), "float32": (-4, 4)},         # exponents of 2
          "reach": {"float64": (-10, 10), "float32": (-7, 7)},
          "wide": {"float64": (-1074, 1000), "float32": (-149, 126)}}
PARAMETERS = {"float64": 60, "float32": 20}
MATRICES, MODERATE = 10, 4
SIZES = (1, 2, 2, 3, 3, 8)                          # the D that are drawn, evenly
IMAGE_SIZES = (1, 2, 2, 3, 4)                       # of an axis of an image
LARGEST_WITH_COTANGENT = 3
SMALL_IMAGE = 8                                     # entries with which an image of more channels has one too
BREAKS, BREAKS_OF_ONE = 12, 3                       # bijectors whose breaks are met, and how many of each
COUNTS = {"scalar": 600, "structured": 400}         # of drawn points, for each dtype and side
# kind: (range of the event's magnitudes, are parameters and cotangents wide?)
KINDS = {"moderate": ("moderate", False), "reach": ("reach", False), "wide event": ("wide", False),
         "wide parameters": ("moderate", True), "wide": ("wide", True),
         "image": ("reach", False), "image, wide parameters": ("moderate", True)}
RHYTHM = [kind for other in KINDS if other != "moderate" for kind in ("moderate", other)]


@dataclass(frozen=True, eq=False)
class Point:
    """A bijector, an event of its forward ("forward": z) or inverse map ("inverse": x), and cotangents or None."""

    f: Any
    side: str
    event: np.ndarray
    image_bar: np.ndarray | None
    log_det_bar: np.ndarray | None
    case: str
    reason: str


def points(page, dtype, side) -> list[Point]:
    """All points of one page, dtype and side, always the same ones."""
    return Draw(page, dtype, side).points()


def is_small(event):
    """Has an event few enough entries for cotangents?"""
    return max(event.shape, default=1) <= LARGEST_WITH_COTANGENT or event.ndim == 3 and event.size <= SMALL_IMAGE


class Draw:
    """The generator of one page's points."""

    def __init__(self, page, dtype, side):
        self.page, self.dtype, self.side = page, np.dtype(dtype), side
        seed = hashlib.sha256(f"{page.__name__} {self.dtype} {side}".encode()).digest()
        self.rng = np.random.default_rng(list(seed))
        self.chosen = set()                 # the optional fields that are drawn

    def points(self):
        return [*self.hard_points(), *self.end_points(), *self.drawn_points(), *self.break_points()]

    # -- three kinds of points ----------------------------------------------------------------------------------------

    def hard_points(self):
        """The hard cases, as far as the dtype has them in its certified range."""
        for case in self.page.hard_cases:
            for event in case.z if self.side == "forward" else case.x:
                event = self.cast(event)
                D = event.shape[0 if event.ndim == 3 else -1] if event.ndim else 1      # channels, or entries
                f = self.bijector(case.params, MODERATE, D)
                yield from self.point(f, event, False, case.name, case.reason)

    def end_points(self):
        """Special numbers and the floats beside them, as scalars or among the entries of a moderate event."""
        for wide in (False, True):
            for number in self.special_numbers():
                f, shape = self.drawn_bijector(wide)
                event = self.event(f, shape, "moderate")
                if not set_of(f, self.side).rank:
                    event = np.where(self.rng.random(shape) < (0.5 if shape else 2), number, event)
                    yield from self.point(f, event, wide, "", "beside a special number")

    def break_points(self):
        """The breaks of drawn bijectors, or their images, and the floats beside; of a page of one number."""
        if self.page.kind != "bijector" or self.page.breaks is Bijector.breaks or self.page.event_ndim != (0, 0):
            return
        for i in range(BREAKS):
            wide = i % 2 == 1
            f, _ = self.drawn_bijector(wide)
            breaks = self.cast((f if self.side == "forward" else Inverse(f)).breaks())
            for number in breaks[self.rng.permutation(len(breaks))[:BREAKS_OF_ONE]]:
                below, above = (np.nextafter(number, self.dtype.type(end)) for end in (-np.inf, np.inf))
                for event in (below, number, above):
                    yield from self.point(f, event, wide, "", "a break, or a float beside it")

    def drawn_points(self):
        kind_of_page = "structured" if self.drawn_bijector(False)[1] else "scalar"
        for i in range(COUNTS[kind_of_page]):
            kind = RHYTHM[i % len(RHYTHM)]
            magnitudes, wide = KINDS[kind]
            f, shape = self.drawn_bijector(wide)
            make = self.image if kind.startswith("image") else self.drawn_event
            yield from self.point(f, make(f, shape, magnitudes), wide, "", kind)

    def point(self, f, event, wide, case, reason):
        """The point with drawn cotangents, one of which is sometimes 0; none where the event is not inside the set."""
        if f is None or event is None or not belongs(set_of(f, self.side), event):
            return
        image_bar = log_det_bar = None
        if is_small(event):
            spread = PARAMETERS[self.dtype.name] if wide else MODERATE
            shape = image_shape(f, self.side, event.shape)
            image_bar, log_det_bar = self.signed(shape, -spread, spread), self.signed((), -spread, spread)
            alone = self.rng.integers(8)
            image_bar, log_det_bar = image_bar * self.dtype.type(alone != 0), log_det_bar * self.dtype.type(alone != 1)
        yield Point(f, self.side, event.astype(self.dtype), image_bar, log_det_bar, case, reason)

    # -- bijectors ----------------------------------------------------------------------------------------------------

    def drawn_bijector(self, wide):
        """A bijector with drawn parameters, and the shape of its events on this side."""
        spread = PARAMETERS[self.dtype.name] if wide else MODERATE
        while True:
            D = int(self.rng.choice(SIZES))
            f = self.with_optional_fields(spread, D)
            try:
                shapes = self.event_shapes(f, D)
            except ValueError:              # a size that this page refuses
                continue
            if all(np.prod(shape) for shape in shapes):
                return f, shapes[self.side == "inverse"]

    def with_optional_fields(self, spread, D):
        """The page with drawn fields, those that are not usual there or not; a context and what has no shape are not."""
        optional = [key for key, field in self.page.declared.items() if isinstance(field, Field) and not field.usual
                    and key != "context" and (field.shape or not field.constant)]
        self.chosen = {key for key in optional if self.rng.random() < 0.7}
        f = self.bijector(self.plain_values(), spread, D)
        self.chosen = set()
        return f

    def bijector(self, given, spread, D):
        """The page with the given fields and all others drawn; None where float32 does not certify a given number."""
        fields, dims = {}, {}
        for key, value in given.items():
            field = self.page.declared[key]
            if value is None:
                fields[key] = None
                continue
            real = isinstance(field, Field) and not field.constant
            fields[key] = self.cast(value) if real else value
            if real and not self.certifies(fields[key]):
                return None
            if isinstance(field, Field):
                core = np.shape(value)
                for symbol, size in zip(field.shape, core[len(core) - len(field.shape):]):
                    bind(symbol, size, dims)
        for key, field in self.page.declared.items():
            if isinstance(field, Field) and key not in fields and (field.usual or key in self.chosen):
                fields[key] = self.field(field, spread, dims, D)
        f = self.page(**fields)
        return f.astype(self.dtype) if f.dtype else f

    def field(self, field, spread, dims, D):
        shape = []
        for symbol in field.shape:
            if size_of(symbol, dims) is None:
                dims[letter_of(symbol)] = D
            shape.append(size_of(symbol, dims))
        drawn = field.set.draw(self.rng, tuple(shape), self.spread_of_page(spread))
        return drawn.astype(field.dtype) if field.constant else self.cast(drawn)

    def spread_of_page(self, spread):
        """A matrix has scales on both sides: a moderate one has half the spread of a number."""
        if not any(isinstance(field, Field) and field.set.rank == 2 for field in self.page.declared.values()):
            return spread
        return MODERATE / 2 if spread == MODERATE else MATRICES

    def certifies(self, value):
        """Hard cases are written for float64; parameters that float32 does not certify are left out there."""
        size, limit = np.abs(value[value != 0]), 2.0 ** PARAMETERS["float32"]
        return self.dtype == np.float64 or bool(np.all((size <= limit) & (size >= 1 / limit)))

    def plain_values(self):
        """The plain fields of one of the hard cases: the page's own list of what they can be."""
        plain = [{k: v for k, v in case.params.items() if isinstance(self.page.declared[k], Plain)}
                 for case in self.page.hard_cases]
        return plain[self.rng.integers(len(plain))] if plain else {}

    # -- events -------------------------------------------------------------------------------------------------------

    def event_shapes(self, f, D):
        """(shape of z, shape of x), by the letters that f's fields know.

        Where they know none, x has size D along each axis; z of three axes has small sizes, of their own.
        """
        letters = f.event_shape or LETTERS[f.event_ndim[0]]
        if any(letter in f.dims for letter in letters) or len(letters) == 3:
            small = [2, 2, 2] if f.dims else self.rng.choice(IMAGE_SIZES, 3)
            shape = tuple(f.dims.get(letter, int(size)) for letter, size in zip(letters, small))
            return shape, tuple(f.output_shape(shape))
        shape = (D,) * f.event_ndim[1]
        return tuple(f.input_shape(shape)), shape

    def special_numbers(self):
        """0, +-1, the ends of the set or of the range, the numbers of the hard cases; each with its neighbours."""
        where, largest = set_of(self.drawn_bijector(False)[0], self.side), 2.0 ** EVENTS["wide"][self.dtype.name][1]
        numbers = [0.0, 1.0, -1.0, max(where.lower, -largest), min(where.upper, largest)]
        for case in self.page.hard_cases:
            for event in case.z if self.side == "forward" else case.x:
                numbers += self.cast(event).ravel().tolist()
        numbers = np.unique(np.array(numbers, self.dtype))
        below, above = (np.nextafter(numbers, self.dtype.type(end)) for end in (-np.inf, np.inf))
        everything = np.unique(np.concatenate((below, numbers, above)))
        return everything[np.abs(everything) <= largest]

    def drawn_event(self, f, shape, magnitudes):
        """Entries of independent magnitudes, or sometimes, of wide ones, a moderate event scaled as a whole."""
        if magnitudes == "wide" and shape and not set_of(f, self.side).rank and self.rng.random() < 0.5:
            low, high = EVENTS["wide"][self.dtype.name]
            return np.ldexp(self.event(f, shape, "moderate"), self.rng.integers(low + MODERATE, high - MODERATE))
        return self.event(f, shape, magnitudes)

    def event(self, f, shape, magnitudes):
        """An event in f's domain or codomain."""
        where, (low, high) = set_of(f, self.side), EVENTS[magnitudes][self.dtype.name]
        if where.rank:
            return self.cast(where.draw(self.rng, shape, min(high, PARAMETERS[self.dtype.name])))
        return self.from_interval(where.lower, where.upper, shape, low, high)

    def from_interval(self, lower, upper, shape, low, high):
        """Numbers whose distance from 0 or from a finite end of (lower, upper) is 2^low .. 2^high, in the dtype."""
        ends = [(end, direction) for end, direction in ((lower, 1), (upper, -1)) if np.isfinite(end)]
        if lower < 0 < upper:
            ends += [(0.0, 1), (0.0, -1)]
        if np.isfinite(upper - lower):
            high = min(high, int(np.floor(np.log2(upper - lower))) - 1)
        numbers = []
        for _ in range(int(np.prod(shape))):
            end, direction = ends[self.rng.integers(len(ends))]
            step = np.spacing(self.dtype.type(abs(end)))
            nearest = max(low, int(np.log2(step)) - 1) if end else low
            numbers.append(self.dtype.type(end) + direction * self.magnitude((), nearest, high))
        numbers = np.array(numbers, self.dtype).reshape(shape)
        inner = np.nextafter(self.dtype.type([lower, upper]), self.dtype.type([upper, lower]))
        return np.clip(numbers, *inner)

    def image(self, f, shape, magnitudes):
        """The rounded truth of the other map at one of its own events; None where there is none."""
        other = "inverse" if self.side == "forward" else "forward"
        origin = copy.copy(self)            # the same random numbers go on
        origin.side = other
        event = origin.drawn_event(f, image_shape(f, self.side, shape), magnitudes)
        if not belongs(set_of(f, other), event):
            return None
        try:
            truth = (truth_at_z if other == "forward" else truth_at_x)(f, event)
        except TruthNotFound:
            return None
        with ctx.workdps(FIRST_DIGITS[self.dtype.name]):
            return self.cast([float(v.mid()) for v in truth[other].value]).reshape(shape)

    # -- numbers ------------------------------------------------------------------------------------------------------

    def magnitude(self, shape, low, high):
        """m 2^e, 1 <= m < 2 with all bits drawn, e evenly from low .. high - 1."""
        mantissa = 1 + self.rng.random(shape)
        return self.cast(np.ldexp(mantissa, self.rng.integers(low, max(high, low + 1), shape)))

    def signed(self, shape, low, high):
        return self.magnitude(shape, low, high) * self.rng.choice([-1, 1], shape).astype(self.dtype)

    def cast(self, values):
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(values, np.float64).astype(self.dtype)


def set_of(f, side):
    return f.domain if side == "forward" else f.codomain


def belongs(where, event):
    """Is the event finite and inside the open set?"""
    return bool(np.isfinite(event).all() and where.members(event, event.ndim).all())


def image_shape(f, side, shape):
    return tuple(f.output_shape(shape) if side == "forward" else f.input_shape(shape))
