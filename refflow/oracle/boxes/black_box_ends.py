r"""The points at the ends of a black box's domain, and the units of error there.

At moderate latents a unit is a rounding of max(|z|, 1).  Where 0 is a declared end, numbers near it have as many digits as
others, and so has a distance from it: with the size c = |z| of an entry where 0 is a declared end of the domain, else
c = max(|z|, min(1, width)), and the room that it has there,
    h = min(E u c, room/2),   n = h/(u c)                                           (1)
    U_x = max(u |x| lambda, N) + S_x(h)/n + P,   U_l = u (|l| + D lambda) + S_l(h)/n + P        (2)
with E, S and P of `black_box_points`, and the smallest normal number N, since libraries flush what is smaller.  The factor
    lambda = 1 + |log|z|| + |log|x||                                                (3)
is the rounding of an exponent, or of 1/c; a term stands there where 0 is a declared end, and is log(max(|.|/64, 1)) where it
is not.  In the same way, of the inverse,
    g = min(E U_x, room_x/2),   m = g/U_x,   U_z = u c lambda + S_z(g)/m + P        (4)
A point is compared if n and m are at least 4, the spreads at h and h/4 agree within a factor of 2, and 16 U_z is less than a
quarter of c and of the room.  Where images near a declared end 0 of the codomain are noisier, this excuses at most 2^16 U_x.

The points are near the declared ends; in the tails, up to the last finite image; 0 and tiny numbers; and, for a map of one
number, the PLACES where the log-det bends most.  A place is found by halving: of an interval, that half or the middle half is
kept over which the second difference of the log-det is the largest.  At a knot, a threshold, or a clamp it is soon the
largest of all.  The points lie 2^k spacings to either side of it.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..asking.arrays import NORMAL
from ..asking.whose import theirs
from .black_box import BlackBox
from .black_box_points import LOST, RESOLVED, BoxPoints, answers

PRECISIONS = ("float64", "float32")
TINY = {"float64": (1e-4, 1e-8, 1e-16, 1e-30, 1e-100, 1e-200, 1e-290), "float32": (1e-4, 1e-8, 1e-16, 1e-30)}
NEAR = {"float64": (1e-2, 1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 1e-16, 1e-30, 1e-60, 1e-100, 1e-200, 1e-290),
        "float32": (1e-2, 1e-3, 1e-5, 1e-7, 1e-9, 1e-12, 1e-16, 1e-30)}            # distances from a declared end
FAR = {"float64": (2.0, 9.0, 38.0, 1e2, 1e3, 1e5, 1e8, 1e12, 1e16, 1e30, 1e60, 1e100, 1e200),
       "float32": (2.0, 9.0, 13.0, 38.0, 1e2, 1e3, 1e5, 1e8, 1e12, 1e16, 1e30)}
MODERATE = {"float64": 38.0, "float32": 13.0}       # the largest entries of events of several
TO_THE_LAST = (1.0, 0.99, 0.9, 0.7, 0.5)            # shares of the last latent whose image is finite
FLOATS = 3                                          # floats next to an end that is not 0
HALVINGS = 60
EARLY = (8, 20)                                     # halvings after which a kink shows in float32, in float64
GRID, PLACES = 1024, 10
FARTHEST = 60.0                                     # number of the grid of the line
ASKEW = 0.0131                                      # by which grids miss round numbers
EVERY = 4                                           # numbers of the grid between two edges of pieces
IN_EACH = 32                                        # numbers in a piece, where many are asked
NARROWEST = 2.0**10                                 # roundings in the width of a piece
PARTS = 17                                          # edges on a line between two latents
SIDE = 8                                            # neighbours on one side of a place
SUSPECTS, ASIDE, LEAST = 24, 2, 16                  # intervals that are halved; those beside which they are seen; edges at least
DISTANCES = 2.0 ** np.arange(-7, 6, 0.25)           # from which slopes are integrated
SPACINGS = 2.0 ** np.array((0, 1, 2, 4, 7, 10, 13, 16, 20, 26))
RATIO = 1.5                                         # of the distances of the ends of an interval
NEAR_0 = 2.0**-6                                    # images that are near a declared end 0


class EndPoints(BoxPoints):
    """The given events, or latents at the ends of the domain, with the units (2) and (4)."""

    rough = 1e-8
    least = 0.0                     # at the ends, any share of the points may be too ill-conditioned

    def drawn(self):
        numbers = self.box.held(np.concatenate([self.numbers(), self.places() if self.alone else []]))
        numbers = np.unique(numbers[~self.where_outside(numbers)])
        if self.alone:
            return numbers.reshape(-1, *self.box.event)
        # all entries there, with signs of their own; and one entry alone
        shape = (len(numbers), int(np.prod(self.box.event)))
        signs = self.rng.choice([-1.0, 1.0], shape) if self.box.domain is None else np.ones(shape)
        both = np.concatenate((numbers[:, None] * signs, np.repeat(self.box.plain(1).reshape(1, -1), shape[0], 0)))
        both[np.arange(shape[0]) + shape[0], self.rng.integers(shape[1], size=shape[0])] = numbers
        return both.reshape(-1, *self.box.event)

    @property
    def alone(self):
        """Is the event one number?"""
        return int(np.prod(self.box.event)) == 1

    def where_outside(self, numbers):
        """Not members of the domain, or equal to an end after its rounding."""
        where = self.box.domain
        if where is None:
            return ~np.isfinite(numbers)
        return where.outside(numbers) | np.isin(numbers, self.box.held([where.lower, where.upper]))

    @property
    def endless(self):
        """Has the domain no finite end, as the line, and the line without 0?"""
        where = self.box.domain
        return where is None or bool(np.isinf([where.lower, where.upper]).all())

    def ends_of_domain(self):
        """[(a number from which distances are measured, a direction, the width)]."""
        if self.endless:
            return [(0.0, 1.0, np.inf), (0.0, -1.0, np.inf)]
        lower, upper = self.box.domain.lower, self.box.domain.upper
        finite = [(lower, 1.0), (upper, -1.0)]
        return [(end, way, upper - lower) for end, way in finite if np.isfinite(end)]

    def numbers(self):
        """At the ends and in the tails."""
        precision, found = self.box.precision, [0.0, 1.0, -1.0]
        for end, way, width in self.ends_of_domain():
            near = np.array(TINY[precision] if self.endless else NEAR[precision])
            far = np.array([d for d in FAR[precision] if d < width and (self.alone or d <= MODERATE[precision])])
            if np.isinf(width) and self.alone:
                far = np.concatenate((far, self.to_the_last(end, way, far)))
            found += list(end + way * np.concatenate((near[near < width / 2], far)))
            found += list(neighbours(end, way, precision)) if end else []
        return np.array(found)

    def to_the_last(self, end, way, far):
        """Distances up to the last one whose image is finite, by halving their logarithms."""
        fine = np.isfinite(self.images(end + way * far))
        if fine.all() or not fine[0]:
            return []
        low, high = np.log(far[fine].max()), np.log(far[~fine].min())
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (middle, high) if np.isfinite(self.images(end + way * np.exp(np.array([middle])))).all() else (low, middle)
        return np.exp(low) * np.array(TO_THE_LAST)

    # -- places --------------------------------------------------------------------------------------------------------

    def bending(self):
        """The functions whose second differences show a place: the log-det, and the logarithm of images beside a declared end 0.

        Without a log-det, the image.
        """
        def at(function):
            return lambda numbers: answers(function, self.box.held(np.ravel(numbers).reshape(-1, *self.box.event))).reshape(
                np.shape(numbers))

        def log_image(z):
            return np.log(np.abs(self.box.image(z)))

        return [at(self.box.log_slope if self.scored_by_box else self.box.image)] + [at(log_image)] * self.zero_ends[1]

    @property
    def scored_by_box(self):
        found = self.box.log_slope(self.box.plain(2))
        return found is not None and np.shape(found) == (2,)

    def grid(self):
        """Numbers of all sizes, and those whose images are equally far from each other."""
        found = self.numbers_of_all_sizes(GRID, FARTHEST)
        x = self.images(found)
        x = np.unique(x[np.isfinite(x)])
        if self.box.inverse is None or len(x) < GRID // 2:
            return found
        even = np.linspace(x[len(x) // 8], x[-len(x) // 8], GRID // 2)
        back = answers(self.box.origin, self.box.held(even.reshape(-1, *self.box.event))).ravel()
        return np.concatenate((found, back[np.isfinite(back)])) if np.shape(back) == np.shape(even) else found

    def numbers_of_all_sizes(self, count, farthest):
        """So many numbers of the domain: on the line, up to `farthest`."""
        ends = self.ends_of_domain()
        if self.endless or not ends:
            last = np.arcsinh(farthest)
            return np.sinh(np.linspace(-last, last, count) + ASKEW)
        end, way, width = ends[0]
        if len(ends) == 2:
            return end + width / (1 + np.exp(-np.linspace(-12, 12, count) + ASKEW))
        return end + way * np.exp(np.linspace(-12, 5, count) + ASKEW)

    @cached_property
    def edges(self):
        """Members of the domain among the numbers of the grid, in order."""
        edges = np.unique(self.box.held(self.grid()))
        return edges[~self.where_outside(edges)]

    def pieces(self):
        """(left, right) ends of pieces that cover the domain, from one place to the next; none across a place."""
        at = np.unique(np.concatenate([self.edges[::EVERY], *(np.ravel(bracket) for bracket in self.brackets)]))
        wide = self.wide(at[:-1], at[1:])
        return at[:-1][wide], at[1:][wide]

    def dense(self):
        """Numbers in all pieces, so many in each."""
        left, right = self.pieces()
        return np.unique(self.box.held((left[:, None] + (right - left)[:, None] * np.arange(IN_EACH) / IN_EACH).ravel()))

    def wide(self, left, right):
        """Marks of the intervals whose ends are many roundings apart."""
        return right - left > NARROWEST * self.u * np.maximum(np.abs(left), np.abs(right))

    def room_at(self, z):
        """How far each entry may move inside the declared domain."""
        return np.full(z.shape, np.inf) if self.box.domain is None else self.box.domain.room(z) / 2

    @cached_property
    def brackets(self):
        """For each of `bending`, (a, b): the neighbours between which it bends most, ten of them."""
        if len(self.edges) < LEAST:
            return []
        return [self.bracketed(function, self.edges) for function in self.bending()]

    def bracketed(self, function, edges):
        a, b = suspects(edges, function(edges), self.box.unit)
        a, b, score = bent_most(function, a, b, self.box.unit, self.box.held)
        first = np.sort(np.unique(np.stack((-score, a)), axis=1, return_index=True)[1][:PLACES])
        return a[first], b[first]

    def places(self):
        """Numbers around the places where the log-det bends most."""
        steps = np.concatenate((-SPACINGS[::-1], [0], SPACINGS))
        found = [(a[:, None] + steps * self.spacing(a)[:, None]).ravel() for a, _ in self.brackets]
        return np.concatenate(found) if found else np.zeros(0)

    def jumps(self, function):
        """(a, b, f(b) - f(a), the largest difference of neighbours of a, and of b, that lie on one side): at all places."""
        if not self.alone or not self.brackets:
            return np.zeros((4, 0))
        a, b = np.concatenate(self.brackets, 1)
        k = np.arange(SIDE)
        below, above = (self.box.held(at[:, None] + way * k * self.spacing(at)[:, None]) for at, way in ((a, -1), (b, 1)))
        sides = [np.abs(np.diff(function(part.reshape(-1, *self.box.event)).reshape(part.shape))).max(-1) for part in (below, above)]
        return a, b, np.subtract(*(function(at.reshape(-1, *self.box.event)).ravel() for at in (b, a))), np.maximum(*sides)

    def jumps_along_lines(self):
        """(events, jumps of the log-det there, what it moves by beside them, the log-det): by halving lines between latents.

        The lines of a map of one number are intervals; other lines join moderate latents.
        """
        log_slope = self.box.log_slope
        if self.alone and self.brackets:
            a, _, jump, beside = self.jumps(lambda z: answers(log_slope, z))
            at = a.reshape(-1, *self.box.event)
            return at, jump, beside, answers(log_slope, at)
        z = BoxPoints(self.box, self.seed).z
        start, way = z[:-1], np.diff(z, axis=0)

        def along(t):
            shape = np.shape(t)
            held = np.reshape(t, (-1, len(start), *(1,) * len(self.box.event)))
            return answers(log_slope, self.box.held(start + held * way).reshape(-1, *self.box.event)).reshape(shape)

        parts = np.linspace(0, 1, PARTS)[:-1, None] * np.ones(len(start))
        values = along(np.concatenate((parts, np.ones((1, len(start))))))
        first = np.abs(np.diff(values, 2, axis=0)).argmax(0)
        a, b = np.take_along_axis(parts, first[None], 0)[0], first / (PARTS - 1) + 2 / (PARTS - 1)
        a, b, _ = bent_most(along, a, b, self.box.unit, lambda t: t)
        step = np.maximum(b - a, 4 * self.box.unit)
        sides = [np.abs(np.diff(along(at + way * step * np.arange(SIDE)[:, None]), axis=0)).max(0) for at, way in ((a, -1), (b, 1))]
        at = self.box.held(start + a.reshape(-1, *(1,) * len(self.box.event)) * way)
        return at, along(b[None])[0] - along(a[None])[0], np.maximum(*sides), along(a[None])[0]

    def spacing(self, numbers):
        return np.spacing(np.abs(numbers).astype(self.box.precision)).astype(np.float64)

    # -- units ---------------------------------------------------------------------------------------------------------

    @property
    def zero_ends(self):
        """Is 0 a declared end of the domain; of the codomain?"""
        return tuple(where is not None and 0.0 in (where.lower, where.upper) for where in (self.box.domain, self.box.codomain))

    @cached_property
    def sizes(self):
        """c of (1)."""
        size = np.abs(self.z)
        if self.zero_ends[0]:
            return size
        width = np.inf if self.box.domain is None else self.box.domain.upper - self.box.domain.lower
        return np.maximum(size, min(1.0, width))

    @cached_property
    def rounding(self):
        return self.rounding_of(self.x)

    def rounding_of(self, x):
        """lambda of (3) of every event, the largest of its entries."""
        def of(values, zero_end):
            size = np.abs(values).reshape(len(self.z), -1)
            logs = np.abs(np.log(np.where(size > 0, size, 1))) if zero_end else np.log(np.maximum(size / 64, 1))
            return np.where(np.isfinite(logs), logs, 0).max(-1, keepdims=True)

        return 1 + of(self.z, self.zero_ends[0]) + of(x, self.zero_ends[1])

    @cached_property
    def delta(self):
        """h of (1), over E u."""
        return np.minimum(self.sizes, self.room / (2 * self.E * self.u))

    @cached_property
    def resolution(self):
        """n of (1), the least of the entries of an event."""
        n = (self.E * self.delta / self.sizes).reshape(len(self.z), -1).min(-1, keepdims=True)
        return n, n >= RESOLVED

    def own_of_forward(self, here, of_x):
        return np.where(of_x, np.maximum(self.u * np.abs(here) * self.rounding, NORMAL[self.box.precision]),
                        self.u * (np.abs(here) + self.size * self.rounding))

    def unit_away(self, way):
        """U_x of a map of one number as in (2), from steps to one side alone, so that a jump on the other side is not in it."""
        step = (self.E * self.u * self.delta).ravel()
        x, aside = (answers(self.box.image, self.box.held(z.reshape(self.z.shape))).ravel() for z in
                    (self.z, self.z.ravel() + way * step))
        own = np.maximum(self.u * np.abs(x) * self.rounding_of(x)[:, 0], NORMAL[self.box.precision])
        return own + np.abs(aside - x) / self.resolution[0].ravel()

    def excused(self, here, of_x, noisy):
        near_0 = self.zero_ends[1] & (np.abs(here) < NEAR_0)
        return np.where(of_x, np.where(near_0, LOST, np.inf), LOST * np.maximum(noisy, 1))

    def own_of_inverse(self, here, entries):
        size = np.pad(self.sizes.reshape(len(here), -1), ((0, 0), (0, here.shape[1] - self.size)))
        return self.u * np.where(entries, size * self.rounding, np.abs(here) + self.size * self.rounding)

    def steps_of_images(self, x, unit):
        where = self.box.codomain
        step = np.minimum(self.E * unit, np.inf if where is None else np.maximum(where.room(x), 0) / 2)
        m = np.where(unit > 0, step / unit, self.E).reshape(len(x), -1).min(-1, keepdims=True)
        return step, m, (m >= RESOLVED)[:, 0]

    @property
    def narrowest(self):
        return np.minimum(self.sizes, self.room)


    def nearest_end(self, z):
        """The end of the domain from which a distance is measured; on the line, 0."""
        ends = np.array([end for end, _, _ in self.ends_of_domain()])
        return ends[np.abs(z[..., None] - ends).argmin(-1)]

    def intervals(self):
        """From a distance to one and a half of it."""
        z = np.unique(self.z)
        if not self.given:
            further = (end + way * DISTANCES[DISTANCES < width / 2] for end, way, width in self.ends_of_domain())
            z = np.unique(np.concatenate([z, *further]))
        end = self.nearest_end(z)
        other = end + RATIO * (z - end)
        left, right = np.minimum(z, other), np.maximum(z, other)
        inside = (left < right) & (self.nearest_end(other) == end) & ~self.where_outside(other)
        return left[inside], right[inside]

    def path(self, z, share):
        """From the anchor to z, so that the logarithm of the distance from the nearest end changes evenly; on the line, from +-1."""
        end = self.nearest_end(z)
        start = 1.0 if self.endless else np.maximum(np.abs(self.box.domain.anchor - end), np.finfo(float).tiny)
        distance = np.where(z == end, start, np.abs(z - end))
        along = np.log(start) + share * (np.log(distance) - np.log(start))
        return np.where(share == 1, z, end + np.sign(z - end) * np.exp(along))


def reversed_box(box, event):
    """The inverse as a box, for events of the codomain."""
    def back(z, *passed):
        answer, own = theirs(box.forward, z, *passed), None if box.log_det is None else theirs(box.log_det, z, *passed)
        return answer if own is None or isinstance(answer, tuple) else (answer, own)

    return BlackBox(box.inverse, back, event=event, parameters=box.parameters, dtype=box.dtype, backend=box.backend,
                    domain=box.codomain, codomain=box.domain, flush_to_zero=box.flush_to_zero, accumulation=box.accumulation)


def suspects(edges, values, unit):
    """(left, right) of the intervals over which values bend most, by themselves and beside those a few intervals away."""
    second = np.abs(values[:-2] - 2 * values[1:-1] + values[2:])
    second = np.where(np.isfinite(second), second, np.inf)
    around = np.pad(np.where(np.isfinite(second), second, 0), ASIDE + 1, mode="edge")
    count = len(second)
    beside = np.max([around[ASIDE + 1 + k:][:count] for k in (-ASIDE - 1, -ASIDE, ASIDE, ASIDE + 1)], 0)
    sharp = second / (beside + unit * (1 + np.abs(np.where(np.isfinite(values), values, 0))[1:-1]))
    chosen = np.unique([np.argsort(-one, kind="stable")[:SUSPECTS] for one in (second, sharp)])
    return edges[chosen], edges[chosen + 2]


def bent_most(function, left, right, unit, held):
    """(a, b, score): in each interval, the neighbours between which a function bends most, by 60 halvings, and how much.

    `held` rounds numbers to the dtype.  The score is in units of rounding of the function, the largest of two early intervals and of the last.
    """
    a, b, score = np.array(left), np.array(right), np.zeros(len(left))
    for k in range(HALVINGS):
        points = held(np.stack((a, a + (b - a) / 4, a + (b - a) / 2, a + 3 * (b - a) / 4, b)))
        values = function(points)
        second = np.abs(values[:-2] - 2 * values[1:-1] + values[2:])
        second = np.where(np.isfinite(second), second, np.inf)
        if k in (*EARLY, HALVINGS - 1):
            score = np.maximum(score, second.max(0) / (unit * (1 + np.abs(np.where(np.isfinite(values), values, 0)).max(0))))
        best = second.argmax(0)
        a, b = (np.take_along_axis(points, best[None] + step, 0)[0] for step in (0, 2))
    return a, b, score


def neighbours(end, way, precision):
    """The floats next to an end, inside."""
    found, dtype = [], np.dtype(precision).type
    for _ in range(FLOATS):
        found.append(np.nextafter(dtype(found[-1] if found else end), dtype(way * np.inf)))
    return np.array(found, np.float64)
