"""The points at which a page is certified: drawn from its declaration or its `examples`, from a seed derived from its name.

Every page gets, for each dtype and side (forward: events z; inverse: events x),
    hard cases  its own, with their reasons
    limits      for a scalar page with moderate parameters, the finite ends of its set themselves, where an event may lie:
                the truth is a limit (`refflow.truth.ends`); a page that is only certified at moderate events meets them in its
                hard cases alone
    ends        0, +-1, the ends of its set or of the range, the numbers of its hard cases, and the neighbouring floats of each
    moderate    events, parameters and cotangents of magnitude 2^-4 .. 2^4: half of the drawn points, so that conditioning
                hides nothing
    reach       events up to 2^10 (float32: 2^7), where an exponential has left the floats
    wide        events from the smallest subnormal number to 2^1000 (2^126), parameters and cotangents 2^+-60 (2^+-20)
    binades     for a scalar page, two points in every binade of the range, of either sign or counted from either end
                of its set; the second of each has wide parameters.  A page that declares a `straight_far_out` meets one point in a
                binade, in turn with wide parameters, and every 16th binade beyond the range of its parameters; a page whose
                inverse is a solver meets one point in every binade
    exhaustive  the worst of the float32 numbers that `validation.exhaustive` has seen
    breaks      where a piecewise page is less smooth, and the neighbouring floats, on either side of the map
    switches    the floats beside which a comparison in the page's own code changes its result (`validation.points.switches`); for a
                scalar page the next floats too, and, unless the page is slow, the image of a switch of the other side with its
                neighbours
    opposite    for a page with a field whose members may be scaled, which log-dets multiply: D in {4, 8} and scales whose product
                is near 1, so that the sum of their logarithms cancels
    solver      for a page whose inverse is a solver: of many drawn events those that move most, in units of the inverse, when
                the solver is content with a root of half its digits (`validation.points.solvers`)
    image       the rounded truth of the other side: near the ends of the set, or where wide parameters move the
                interesting events to
All other events are members of the page's open domain or codomain.

Vectors and matrices have sizes D in {1, 2, 3, 8}; cotangents are drawn for D <= 3: of the image alone, of the log-det alone,
and both, in turn.  A page with a matrix field draws its
parameters from 2^+-10, where matrices are row scale x well-conditioned x column scale.

A page with components is drawn by its own `examples`, including small networks, at small events: for larger events a network's
outputs overflow where the map does not, and saturated log-scales, which no longer depend on anything, cancel in their sum.
Such a page, and one that declares itself `moderate` and says why, is certified only at moderate events.

A conditioner has only a forward side.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import Counter

import numpy as np
from flint import ctx

from refflow.accuracy.drawing import (OPTIONAL, Point, binade, drawn_event, drawn_fields, example, has_examples, image_shape,
                                      is_scaled, set_of, with_cotangents, with_opposite_scales)
from refflow.accuracy.quantities import forward_quantities, inverse_quantities
from refflow.core import Bijector, Inverse, RandomSource, has_components, tree
from refflow.core.boundary import LETTERS
from refflow.core.declarations import Field, Plain
from refflow.truth.ends import is_end
from refflow.truth.engine import FIRST_DIGITS, TruthNotFound
from refflow.truth.measure import claims_of_kind, truth_at_x, truth_at_z

from .recorded import exhaustive_points
from .solvers import moved_by_a_loose_solver
from .switches import modules_of, switches

EVENTS = {"moderate": {"float64": (-4, 4), "float32": (-4, 4)},         # exponents of 2
          "reach": {"float64": (-10, 10), "float32": (-7, 7)},
          "wide": {"float64": (-1074, 1000), "float32": (-149, 126)}}
PARAMETERS = {"float64": 60, "float32": 20}
MODERATE = 4
MODERATE_BINADES, LOSING = (-5, 7), range(2, 6)
FAR = 16
BINADE, WIDE_BINADE = "a binade", "a binade, wide parameters"
BREAK, LIMIT = "a break", "an end of its set: a limit"
LIMITS = 9                                          # bijectors whose ends are tried
SIZES = (1, 2, 2, 3, 3, 8)                          # the D that are drawn, evenly
SMALL_SIZES = (1, 2, 2, 3)                          # of a conditioner's axes
IMAGE_SIZES = (1, 2, 2, 3, 4)                       # of an axis of an image
LARGEST_WITH_COTANGENT = 3
SMALL_IMAGE = 8                                     # entries up to which an image or sequence with more channels gets them too
SMALL_SEQUENCE = 18                                 # the same for a sequence of few positions
BREAKS, BREAKS_OF_ONE = 12, 3                       # bijectors whose breaks are tried, and how many breaks of each
SWITCH, SWITCH_IMAGE = "beside a switch of its code", "beside the image of a switch of its code"
SWITCHED = {"scalar": 8, "slow": 3, "other": 2}     # values whose switches are tried
SWITCHES_OF_ONE, IMAGES_OF_ONE = 3, 1
LADDER = 20                                         # exponents up to which every binade is asked for switches
OPPOSITE, OPPOSITES, OPPOSITE_SIZES = "opposite scales", 16, (4, 8)
LOOSE, LOOSE_VALUES, LOOSE_EVENTS, LOOSEST = "where a loose solver errs most", 25, 16, 6
# Numbers of drawn points, for each dtype and side.
COUNTS = {"bijector": {"scalar": 600, "line": 300, "structured": 400, "image": 400, "composed": 100,
                       "moderate": 120},
          "conditioner": {"scalar": 400, "structured": 200, "image": 100, "composed": 100, "moderate": 100},
          "density": {"scalar": 400, "structured": 400, "image": 400}, "scale": {"scalar": 600, "structured": 600},
          "parametrisation": {"structured": 400, "moderate": 120}}
# kind: (range of the event's magnitudes, are parameters and cotangents wide?)
KINDS = {"moderate": ("moderate", False), "reach": ("reach", False), "wide event": ("wide", False),
         "wide parameters": ("moderate", True), "wide": ("wide", True),
         "image": ("reach", False), "image, wide parameters": ("moderate", True)}


def points(page, dtype, side) -> list[Point]:
    """All points of one page, dtype and side, the same ones every time."""
    return Draw(page, dtype, side).points()


def is_small(event):
    """Does an event have few enough entries for cotangents?"""
    if event.ndim == 2 and event.shape[1] <= LARGEST_WITH_COTANGENT and event.size <= SMALL_SEQUENCE:
        return True
    return max(event.shape, default=1) <= LARGEST_WITH_COTANGENT or event.ndim > 1 and event.size <= SMALL_IMAGE


class Draw:
    """The generator of one page's points."""

    def __init__(self, page, dtype, side):
        self.page, self.dtype, self.side = page, np.dtype(dtype), side
        seed = hashlib.sha256(f"{page.__name__} {self.dtype} {side}".encode()).digest()
        self.source = RandomSource(np.random.default_rng(list(seed)))
        self.one_sided, self.network = page.kind != "bijector", page.kind == "conditioner"
        self.composed, self.turn = has_examples(page) and has_components(page), 0
        self.moderate = self.composed or page.moderate

    def points(self):
        return [*self.hard_points(), *(() if self.moderate else self.end_points()), *self.drawn_points(), *self.break_points(),
                *(() if self.moderate else self.binade_points()), *self.limit_points(),
                *exhaustive_points(self.page, self.dtype, self.side), *self.switch_points(), *self.opposite_points(),
                *self.solver_points()]

    # -- three kinds of points ----------------------------------------------------------------------------------------

    def hard_points(self):
        """The hard cases, as far as they lie in the dtype's certified range."""
        for case in self.page.hard_cases:
            for written in case.z if self.side == "forward" else case.x:
                event = self.cast(written)
                D = event.shape[0 if event.ndim == 3 else -1] if event.ndim else 1      # channels, or entries
                f = self.of_case(case, D)
                if f is not None and is_end(f, self.side, event):
                    reason = case.reason if event == written else f"{case.reason}; {self.dtype} rounds {written} to this end"
                    yield from (self.at_end(f, event, case.name, reason) for _ in range(3))
                yield from self.point(f, event, False, case.name, case.reason)

    def of_case(self, case, D):
        """The page with the fields of a hard case; what it refuses is said with the case's name."""
        try:
            return self.given(case.params, D)
        except ValueError as refused:
            raise ValueError(f"hard case {case.name!r} of {self.page.__name__} in {self.dtype}: {refused}") from refused

    def end_points(self):
        """Special numbers and their neighbouring floats, as scalars or among the entries of a moderate event."""
        for wide in (False, True):
            for number in self.special_numbers():
                f, shape = self.value(wide)
                event = self.event(f, shape, "moderate")
                if not set_of(f, self.side).rank:
                    event = np.where(self.source.booleans(shape, 0.5 if shape else 1), number, event)
                    yield from self.point(f, event, wide, "", "beside a special number")

    def limit_points(self):
        """The finite ends of the set, with moderate parameters and cotangents near 1; of a page that is not moderate itself."""
        for _ in range(LIMITS if not (self.one_sided or self.moderate) and self.page.event_ndim == (0, 0) else 0):
            f, _ = self.value(False)
            where = set_of(f, self.side)
            for end in (where.lower, where.upper):
                if is_end(f, self.side, self.cast(end)):
                    yield self.at_end(f, self.cast(end), "", LIMIT)

    def at_end(self, f, end, case, reason):
        return self.with_one_of(with_cotangents(Point(f, self.side, end, case=case, reason=reason), self.source, 1))

    def break_points(self):
        """The breaks of drawn bijectors, or their images, and the neighbouring floats; for a scalar page."""
        if self.one_sided or self.page.breaks is Bijector.breaks or self.page.event_ndim != (0, 0):
            return
        for i in range(BREAKS):
            wide = i % 2 == 1
            f, _ = self.value(wide)
            breaks = self.cast((f if self.side == "forward" else Inverse(f)).breaks())
            for number in breaks[self.source.orders((len(breaks),))[:BREAKS_OF_ONE]]:
                below, above = (np.nextafter(number, self.dtype.type(end)) for end in (-np.inf, np.inf))
                for event in (below, number, above):
                    yield from self.point(f, event, wide, "", BREAK if event == number else "a float beside a break")

    def switch_points(self):
        """The floats beside switches of the code of drawn values; a search prefers places that have been asked less."""
        asked, other = Counter(), "inverse" if self.side == "forward" else "forward"
        slow = self.page.straight_far_out or self.is_solved or self.moderate
        alone = getattr(self.page, "event_ndim", None) == (0, 0)
        for i in range(SWITCHED["other" if not alone else "slow" if slow else "scalar"]):
            wide = i % 2 == 1 and not self.moderate
            f, shape = self.value(wide)
            for event, entry, pair in self.switches_of(f, self.side, shape, asked, SWITCHES_OF_ONE):
                for number in pair if shape else beside(*pair):
                    yield from self.point(f, with_entry(event, entry, number), wide, "", SWITCH)
            fast = alone and not slow and not self.one_sided
            for _, _, (below, _) in self.switches_of(f, other, shape, asked, IMAGES_OF_ONE) if fast else ():
                image = self.image_of(f, other, below, shape)
                for number in () if image is None else beside(image, image):
                    yield from self.point(f, number, wide, "", SWITCH_IMAGE)

    def switches_of(self, f, side, shape, asked, count):
        """(event, entry, two neighbouring floats): with one or the other in that entry, a comparison has other results."""
        where = set_of(f, side)
        if where.rank or shape and not where.alike or not np.prod(shape):
            return
        event = self.event_of(f, side, shape, "moderate")
        event, entry = np.ldexp(event, -2) if self.composed else event, self.source.choice(range(int(np.prod(shape))))
        found = switches(self.answer(f, side, event, entry), self.ladders(where, side), self.source, modules_of(f))
        for place in sorted(found, key=asked.__getitem__)[:count]:
            asked[place] += 1
            yield event, entry, self.source.choice(found[place])

    def answer(self, f, side, event, entry):
        """A function that asks all methods of one side at events that differ in one entry."""
        def ask(numbers):
            events = np.stack([with_entry(event, entry, number) for number in numbers])
            bars = self.ones(f, side, event.shape, len(numbers))
            if self.one_sided:
                claims_of_kind(f, events, bars)
            else:
                quantities = forward_quantities if side == "forward" else inverse_quantities
                quantities(f, events, bars, np.ones(len(numbers), self.dtype))

        return ask

    def ones(self, f, side, shape, count):
        """The cotangents of `count` images, all 1."""
        return np.ones((count, *image_shape(f, side, shape)), self.dtype)

    def ladders(self, where, side):
        """Increasing members of a set of numbers, in every binade near 1 and in every `FAR`-th one elsewhere.

        Between the negative and the positive ones of a page that is only asked near 1 lies what it need not answer.
        """
        solved = self.is_solved and side == "inverse"
        low, high = EVENTS["moderate" if self.moderate else "reach" if solved else "wide"][self.dtype.name]
        exponents = [e - 2 * self.composed for e in range(low, high) if abs(e) <= LADDER or e % FAR == 0]
        drawn = [event for e in exponents for event in binade(where, self.source, self.dtype, e)]
        numbers = np.unique(np.array(drawn, self.dtype))
        return [numbers[numbers < 0], numbers[numbers > 0]] if self.moderate or solved else [numbers]

    def opposite_points(self):
        """Events of vectors or images, with fields whose numbers, or rows, have opposite scales."""
        scaled = any(map(is_scaled, self.page.declared.values()))
        if not scaled or self.moderate or self.network or self.page.event_ndim == (0, 0):
            return
        for i in range(OPPOSITES):
            f, shape = self.value(False, 1, OPPOSITE_SIZES[i % 2:][:1])
            if shape:
                f = with_opposite_scales(f, self.source, PARAMETERS[self.dtype.name] - 1)
                yield from self.point(f, self.opposite_event(f, shape), False, "", OPPOSITE)

    def opposite_event(self, f, shape):
        return self.event(f, shape, "moderate")

    def solver_points(self):
        """Events that a loose solver would move most, of a page whose inverse is a solver."""
        if not self.is_solved or self.side == "forward" or self.dtype != np.float64:
            return
        found = []
        for _ in range(LOOSE_VALUES):
            f, shape = self.value(False)
            where, z_shape = set_of(f, "forward"), image_shape(f, "inverse", shape)
            events = [np.ldexp(self.event_of(f, "forward", z_shape, "moderate"), -2 * self.composed) for _ in range(LOOSE_EVENTS)]
            found += [(moved, len(found), f, x) for moved, x in [moved_by_a_loose_solver(f, np.array(events))] if moved > 0]
        for _, _, f, x in sorted(found, reverse=True)[:LOOSEST]:
            yield from self.point(f, x, False, "", LOOSE)

    @property
    def is_solved(self):
        """Is the page's inverse a solver?  (A page may leave that to its values.)"""
        return getattr(self.page, "solver", False) is True

    def binade_points(self):
        """Two points in every binade, counted from every end of the set, or from a drawn end if f's fields move the ends.

        A page with a `straight_far_out`, and a page whose inverse is a solver, which costs as much, get one of these.
        """
        one = self.page.straight_far_out or self.is_solved
        for exponent in self.binades():
            for wide in (exponent % 2 == 1,) if one else (False, True):
                f, shape = self.value(wide)
                where = set_of(f, self.side)
                if shape or where.rank:
                    return
                for event in binade(where, self.source, self.dtype, exponent):
                    yield from self.point(f, np.asarray(event), wide, "", BINADE if not wide else WIDE_BINADE)

    def binades(self):
        """The exponents of all binades; of a page that is a line beyond its parameters' range, every `FAR`-th one there."""
        low, high = EVENTS["wide"][self.dtype.name]
        reach = PARAMETERS[self.dtype.name] + MODERATE
        return [e for e in range(low, high) if not self.page.straight_far_out or abs(e) <= reach or e % FAR in (0, 1)]

    def moderate_points(self):
        """Points in every moderate binade from every end, most where exponentials are lost next to 1, and moderate parameters.

        A page with a `straight_far_out` loses no exponentials; it gets a point in every second one, as does a page that is moderate.
        """
        losing = () if self.page.straight_far_out else LOSING
        for exponent in range(*MODERATE_BINADES, 2 if self.page.straight_far_out or self.page.moderate else 1):
            f, shape = self.value(False)
            if shape or set_of(f, self.side).rank:
                return
            for event in binade(set_of(f, self.side), self.source, self.dtype, exponent, 4 if exponent in losing else 1):
                yield from self.point(f, np.asarray(event), False, "", BINADE)

    def drawn_points(self):
        rank = len(self.value(False)[1])
        by_rank = "line" if self.page.straight_far_out else "scalar" if not rank else "structured" if rank == 1 else "image"
        size = "composed" if self.composed else "moderate" if self.moderate else by_rank
        for kind in itertools.islice(itertools.cycle(self.rhythm()), COUNTS[self.page.kind][size]):
            magnitudes, wide = KINDS[kind]
            f, shape = self.value(wide)
            if self.composed and not self.network and not set_of(f, self.side).rank:
                event = np.ldexp(self.event(f, shape, magnitudes), -2)
            else:
                event = (self.image if kind.startswith("image") else self.drawn_event)(f, shape, magnitudes)
            yield from self.point(f, event, wide, "", kind)

    def rhythm(self):
        """Half of the points are moderate; a map without an inverse does not take images."""
        if self.moderate:
            return ["moderate"]
        others = [kind for kind in KINDS if kind != "moderate" and not (self.one_sided and kind.startswith("image"))]
        return [kind for other in others for kind in ("moderate", other)]

    def point(self, f, event, wide, case, reason):
        """The point with drawn cotangents: of the image, of the log-det, and both, in turn.

        None if the event is not inside the set, or if a component has an empty matrix, whose shape cannot be read from the
        nested lists that definitions receive.
        """
        if f is None or event is None or not belongs(set_of(f, self.side), event):
            return
        if self.composed and any(array.size == 0 for array in arrays(f)):
            return
        point = Point(f, self.side, event.astype(self.dtype), case=case, reason=reason)
        if is_small(event):
            point = with_cotangents(point, self.source, PARAMETERS[self.dtype.name] if wide else MODERATE)
            point = point if point.log_det_bar is None else self.with_one_of(point)
        yield point

    def with_one_of(self, point):
        """The point with one of its two cotangents, or both, in turn."""
        of_image, of_log_det = self.alone()
        return point.changed(image_bar=point.image_bar * of_image, log_det_bar=point.log_det_bar * of_log_det)

    def alone(self):
        """Which of two cotangents are given: the first, the second, both, in turn."""
        self.turn += 1
        return tuple(self.dtype.type(self.turn % 3 != missing) for missing in (1, 2))

    # -- values -------------------------------------------------------------------------------------------------------

    def value(self, wide, moderate=MODERATE, sizes=SIZES):
        """A value with drawn parameters, and the shape of its events on this side."""
        spread = PARAMETERS[self.dtype.name] if wide else moderate
        while True:
            D = self.source.choice(sizes)
            try:
                if has_examples(self.page):
                    f, shape = example(self.page, self.source, self.dtype)
                    shapes = shape, None if self.one_sided else image_shape(f, "forward", shape)
                else:
                    f = self.bijector(self.plain_values(), spread, D)
                    shapes = self.event_shapes(f, D)
            except ValueError:              # a size that this page refuses
                continue
            if self.one_sided or all(np.prod(shape) for shape in shapes):
                return f, shapes[self.side == "inverse"]

    def given(self, params, D):
        """The page with the fields of a hard case and all others drawn; None if float32 does not certify one of them."""
        fields = {}
        for key, value in params.items():
            field = self.page.declared[key]
            real = isinstance(field, Field) and not field.constant and value is not None
            if real and not self.certifies(np.asarray(value, np.float64)):
                return None
            fields[key] = self.cast(value) if real else value
        return self.bijector(fields, MODERATE, D, optional=0)

    def bijector(self, given, spread, D, optional=OPTIONAL):
        """The page with the given fields and all others drawn."""
        fields = drawn_fields(self.page, self.source, self.dtype, spread, lambda letter: self.size(letter, D), given,
                              optional=optional)
        f = self.page(**{key: value for key, value in fields.items() if value is not None or key in given})
        return f.astype(self.dtype) if f.dtype else f

    def size(self, letter, D):
        """D; for a network's rectangular matrices, images and kernels, separate sizes."""
        own = self.network and (letter == "M" or self.page.event_ndim[0] > 1)
        return self.source.choice(SMALL_SIZES) if own else D

    def certifies(self, value):
        """Hard cases are written for float64; parameters that float32 does not certify are left out there."""
        size, limit = np.abs(value[value != 0]), 2.0 ** PARAMETERS["float32"]
        return self.dtype == np.float64 or bool(np.all((size <= limit) & (size >= 1 / limit)))

    def plain_values(self):
        """The plain fields of one of the hard cases: the page's own list of possible values."""
        plain = [{k: v for k, v in case.params.items() if isinstance(self.page.declared[k], Plain)}
                 for case in self.page.hard_cases]
        return self.source.choice(plain) if plain else {}

    # -- events -------------------------------------------------------------------------------------------------------

    def event_shapes(self, f, D):
        """(shape of z, shape of x), by the letters that f's fields know.

        If they know none, x has size D along each axis; z of three axes, and events of networks, have small sizes of
        their own.
        """
        letters = f.event_shape or LETTERS[f.event_ndim[0]]
        if self.network:
            shape = f.fixed_shape or tuple(f.dims.get(letter) or self.source.choice(SMALL_SIZES) for letter in letters)
            return tuple(shape), tuple(f.output_shape(shape))
        if any(letter in f.dims for letter in letters) or len(letters) == 3:
            small = [2, 2, 2] if f.dims else [self.source.choice(IMAGE_SIZES) for _ in letters]
            shape = tuple(f.dims.get(letter, size) for letter, size in zip(letters, small))
            return shape, tuple(f.output_shape(shape))
        shape = (D,) * f.event_ndim[1]
        return tuple(f.input_shape(shape)), shape

    def special_numbers(self):
        """0, +-1, the ends of the set or of the range, the numbers of the hard cases; each with its neighbours."""
        where, largest = set_of(self.value(False)[0], self.side), 2.0 ** EVENTS["wide"][self.dtype.name][1]
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
        if magnitudes == "wide" and shape and not set_of(f, self.side).rank and self.source.chance(0.5):
            low, high = EVENTS["wide"][self.dtype.name]
            scale = self.source.count(low + MODERATE, high - MODERATE - 1)
            return np.ldexp(self.event(f, shape, "moderate"), scale)
        return self.event(f, shape, magnitudes)

    def event(self, f, shape, magnitudes):
        return self.event_of(f, self.side, shape, magnitudes)

    def event_of(self, f, side, shape, magnitudes):
        """An event of one side."""
        low, high = EVENTS[magnitudes][self.dtype.name]
        spread = min(high, PARAMETERS[self.dtype.name]) if set_of(f, side).rank else (low, high)
        return drawn_event(self.source, f, side, shape, self.dtype, spread)

    def image(self, f, shape, magnitudes):
        """The rounded truth of the other map at one of its own events; None if there is none."""
        other = "inverse" if self.side == "forward" else "forward"
        return self.image_of(f, other, self.event_of(f, other, image_shape(f, self.side, shape), magnitudes), shape)

    def image_of(self, f, other, event, shape):
        """The rounded truth of the other map at an event; None if there is none."""
        if not belongs(set_of(f, other), event):
            return None
        try:
            truth = (truth_at_z if other == "forward" else truth_at_x)(f, event)
        except TruthNotFound:
            return None
        with ctx.workdps(FIRST_DIGITS[self.dtype.name]):
            return self.cast([float(v.mid()) for v in truth[other].value]).reshape(shape)

    def cast(self, values):
        with np.errstate(over="ignore", under="ignore"):
            return np.asarray(values, np.float64).astype(self.dtype)


def beside(below, above):
    """Two neighbouring floats, or one twice, and the floats beside them, from the lowest."""
    return [np.nextafter(below, below.dtype.type(-np.inf)), *dict.fromkeys((below[()], above[()])),
            np.nextafter(above, above.dtype.type(np.inf))]


def with_entry(event, entry, number):
    """The event with another number in one entry, counted along all axes."""
    moved = np.array(event)
    moved.reshape(-1)[entry] = number
    return moved


def arrays(value):
    """The fields of a value and its components."""
    return [array for _, owner in tree.walk(value) for array in tree.arrays(owner).values()]


def belongs(where, event):
    """Is the event finite and inside the open set?"""
    return bool(np.isfinite(event).all() and where.members(event, event.ndim).all())
