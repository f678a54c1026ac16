r"""The points at which a black box is asked, and the units of error there, which come from how far its own answers spread.

Nothing is known of the box but its answers.  With `delta = max(|z|, 1)`, or less near the end of a declared domain, and u the
unit roundoff of its precision, the spread of f at a step h is the largest over random signs s,
    S_f(h) = max_s |f(z + s h) - f(z - s h)|/2                                      (1)
With E = 2^12 (2^6 in float32, 2^2 below), s the spacing of the smallest numbers, and P the spread over all parameters in the
same way,
    U_x = max(u |x|, s) + S_f(E u delta)/E + P_x                                    (2)
    U_l = u (|l| + D) + S_l(E u delta)/E + P_l                                      (3)
and of the inverse map (z, k) at x, k its log-det,
    U_z = u max(delta, |z|) + S_z(E U_x)/E + P_z                                    (4)
    U_k = u (|k| + D) + S_k(E U_x)/E + P_k                                          (5)

A box may be noisier than the rounding of its inputs explains, if it goes through numbers that are ill-conditioned.  N is the
smaller of two second differences, with steps root(u)/16 delta and an eighth of it, each the largest of eight with nearby
steps: too small for curvature to show, so that what it shows is rounding.  The steps to the two sides are not equal: the
roundings of an image near a float would cancel.  Where `N > 4 U`, `U` becomes N.  For x that is
all.  For l, z and k it may become no larger than 2^16 U, times N_x/U_x where the images are that noisy themselves: a map
whose images keep their digits, and whose inverse or log-det loses 16 bits, has a formula that cancels.

A point is asked only where answers nearby are finite, the spreads at E and E/4 agree within a factor of 2, for the
inverse too, and `16 U_z < delta/4`.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ...core.source import RandomSource
from ...report import shortened
from ..asking.arrays import as_numpy
from ..asking.whose import blame
from .black_box import BlackBox
from .black_box_charts import Frame, room_of
from .lawbook import Compared, Found, Skipped

STRETCH = {"float64": 2.0**12, "float32": 2.0**6, "float16": 2.0**2, "bfloat16": 2.0**2}        # E
SIGNS = 24
ALLOWED = 16
SIZES = np.logspace(-3, 1, 6)           # of latents
EACH = 7                                # latents of each size
MAGNITUDES = {"float64": 10, "float32": 8, "float16": 3, "bfloat16": 3}     # of events of a declared domain, 2^-m to 2^m
NEARBY = 2.0 ** (np.arange(8) / 8)      # steps of second differences, in pairs of one to either side
NOISY = 4                               # the noise in units at which it takes their place
LOST = 2.0**16                          # what noise may excuse where images keep their digits
RESOLVED = 4                            # roundings of a step, at least, where the room is narrow
# The same of members of a structured set, EACH of them.  On seven thin maps in two dtypes, six spreads of 2 find the same mistakes;
# if all are 10, five laws of 35 are skipped, since most members are then too ill-conditioned to be asked.
SPREADS = (1, 1, 2, 2, 3, 10)
SHOWN, SHOWN_OTHERS = 24, 4             # entries of an event that a text has in full; of a longer one, those that it tells by their places
REJECTED = 0.5                          # the share of points beyond which a law is skipped


class BoxPoints:
    """Latents: the given events, or normal numbers at six magnitudes, and 0, or members of the domain; with their units."""

    quiet = False                       # is noise left out, because a box in a wider dtype answers?
    least = 1 - REJECTED                # the share of points that must be asked
    ends = None                         # the points at the ends, if they are asked, too
    scale, slack = 1.0, 0.0             # of a slope, and its relative error, if a line is asked
    rough = 1e-2                        # integrals with a larger relative error of their own are rejected

    def __init__(self, box: BlackBox, seed=0, events=None):
        self.box, self.seed, self.given, self.asked = box, seed, events is not None, 0
        self.rng = np.random.default_rng(seed)
        self.z = box.held(np.reshape(events, (-1, *box.event)) if self.given else self.drawn())
        self.E, self.u, self.size = STRETCH[box.precision], box.unit, int(np.prod(box.event))

    def drawn(self):
        count, event = EACH * len(SIZES), self.box.event
        if self.box.domain is None:
            sizes = np.repeat(SIZES, EACH).reshape(-1, *(1,) * len(event))
            return np.concatenate((self.rng.standard_normal((count, *event)) * sizes, np.zeros((1, *event))))
        spread = MAGNITUDES[self.box.precision]
        if self.box.domain.rank:
            dtype = np.float64 if self.box.dtype == "float64" else np.float32
            source = RandomSource(self.rng)
            drawn = [self.box.domain.draw(source, (EACH, *event), dtype, min(by, spread)) for by in SPREADS]
            return np.concatenate(drawn).astype(np.float64)
        z = self.box.held(self.box.domain.draw(RandomSource(self.rng), (count, *event), np.float64, spread))
        return np.where(self.box.domain.outside(z), self.box.domain.anchor, z)

    # -- the answers ---------------------------------------------------------------------------------------------------

    def path(self, z, share):
        """From the simplest event to z."""
        start = self.box.plain(1)
        return start + share * (z - start)

    @cached_property
    def answer(self):
        return self.box.answer(self.z)

    @property
    def x(self):
        return self.answer[0]

    def images(self, numbers):
        """The images of numbers, flat; of events, the first entry of each image."""
        held = self.box.held(np.reshape(numbers, (-1, *self.box.event)))
        return answers(self.box.image, held).reshape(len(held), -1)[:, 0]

    @cached_property
    def log_det(self):
        """The log-dets at z.  Skipped if they are not one number for each event."""
        found = self.box.log_slope(self.z)
        if np.shape(found) != (len(self.z),):
            raise Skipped(f"the log-det has shape {np.shape(found)}")
        return found

    @property
    def scored(self):
        """Is there a log-det of the right shape?"""
        try:
            return self.box.log_det is not None and self.log_det is not None or self.log_det is not None
        except Exception as error:
            blame(error)
            return False

    @cached_property
    def finite(self):
        """Marks of the events whose images are finite."""
        return np.isfinite(self.x.reshape(len(self.z), -1)).all(-1)

    def forward_values(self, z):
        """(n, entries of x and, if it is given, the log-det)."""
        x, log_det = self.box.values(z) if self.scored else (self.box.image(z), None)
        return joined(x, log_det)

    def inverse_values(self, x):
        """(n, entries of z and, if it is given, the log-det of the inverse)."""
        z, log_det = of_inverse(self.box.answer_back, x)
        return joined(z, log_det if np.shape(log_det) == (len(x),) else None)

    @cached_property
    def back(self):
        """(z, log-det) of the inverse at the finite images; NaN elsewhere."""
        values = self.asked_where(self.inverse_values, self.x, self.finite)
        entries = values[:, :self.size].reshape(self.z.shape)
        return entries, values[:, self.size] if values.shape[1] > self.size else None

    @staticmethod
    def asked_where(function, events, marks):
        """The values of a function of the marked events; NaN for the others."""
        if not marks.any():
            raise Skipped("no image is finite")
        values = function(events[marks])
        found = np.full((len(events), *values.shape[1:]), np.nan)
        found[marks] = values
        return found

    # -- events that stay in their sets --------------------------------------------------------------------------------

    @property
    def structured(self):
        """Is the domain or the codomain a set of vectors or matrices?"""
        return any(where is not None and where.rank > 0 for where in (self.box.domain, self.box.codomain))

    @cached_property
    def frame(self):
        """Coordinates near the latents."""
        return Frame(self.box.domain, self.z)

    @cached_property
    def frame_of_images(self):
        return Frame(self.box.codomain, self.x)

    def beside(self, at, signs, step):
        """(events at + signs step, at - signs step), (2, draws, *at.shape); latents of a structured set stay in it."""
        if at is self.z and self.box.domain is not None and self.box.domain.rank:
            count = self.frame.dimensions
            t = signs.reshape(*signs.shape[:2], -1)[..., :count] * self.frame.steps(np.broadcast_to(step, signs.shape)[0])
            return np.stack((self.frame.moved(t), self.frame.moved(-t)))
        return np.stack((at + signs * step, at - signs * step))

    def rounded_aside(self, function, at, where):
        """The spread by a rounding of each entry by itself, which leaves a thin set; 0 where all of these are refused."""
        if where is None or not where.thin:
            return 0.0
        signs = np.random.default_rng(self.seed).choice([-1.0, 1.0], (SIGNS, *at.shape))
        moved = at + self.u * np.abs(at) * np.concatenate((signs, -signs))
        values = answers(function, self.box.held(moved.reshape(-1, *at.shape[1:]))).reshape(2, SIGNS, len(at), -1)
        found = np.abs(values[0] - values[1]) / 2
        return np.where(np.isfinite(found), found, 0).max(0)

    def by_coordinates(self, function, x, unit):
        """(spreads at a quarter of the steps, at the steps, marks), where units of entries of x are given: the sum over coordinates.

        A coordinate of a structured set has the unit of the entries that it moves, and as much room as they have.
        """
        frame = Frame(self.box.codomain, x)
        units = (np.abs(frame.C).mT @ unit.reshape(len(x), -1, 1))[..., 0]
        t = np.minimum(self.E * units, frame.steps(room_of(self.box.codomain, x) / 4))
        m = np.where(units > 0, t / np.where(units > 0, units, 1), self.E)
        each = np.eye(frame.dimensions)[:, None, :] * t

        def spread(share):
            moved = np.stack((frame.moved(share * each), frame.moved(-share * each)))
            values = answers(function, self.box.held(moved.reshape(-1, *x.shape[1:]))).reshape(2, frame.dimensions, len(x), -1)
            found = (np.abs(values[0] - values[1]) / (2 * share * m.T[..., None])).sum(0)
            return np.where(np.isfinite(found), found, np.inf)

        aside = self.rounded_aside(function, x, self.box.codomain)
        return spread(0.25) + aside, spread(1) + aside, (m >= RESOLVED).all(-1)

    # -- how far the answers spread -------------------------------------------------------------------------------------

    @cached_property
    def room(self):
        """How far each entry may move inside the declared domain."""
        where = self.box.domain
        if where is None:
            return np.full(self.z.shape, np.inf)
        return room_of(where, self.z) / max(self.frame.dimensions if where.rank else 1, 1)

    @cached_property
    def reach(self):
        """max(|z|, 1), or the room in the domain if that is less."""
        return np.minimum(np.maximum(np.abs(self.z), 1), self.room)

    @cached_property
    def delta(self):
        return np.minimum(np.maximum(np.abs(self.z), 1), self.room / (2 * self.E * self.u))

    def spread(self, function, at, step):
        """S of (1); many moved copies of the batch in one call."""
        count = SIGNS if at[:1].size > 1 else 1                 # of one number, all draws are the same
        signs = np.random.default_rng(self.seed).choice([-1.0, 1.0], (count, *at.shape))
        moved = self.beside(at, signs, step).reshape(-1, *at.shape[1:])
        values = answers(function, self.box.held(moved)).reshape(2, count, len(at), -1)
        found = np.abs(values[0] - values[1]).max(0) / 2
        return np.where(np.isfinite(found), found, np.inf)

    def parameter_spread(self, function, at):
        """P of (2) to (5), 0 for a box without parameters."""
        held = [as_numpy(a).copy() for a in self.box.trained()]
        rng, largest = np.random.default_rng(self.seed), 0.0
        for _ in range(SIGNS if held else 0):
            signs = [rng.choice([-1.0, 1.0], a.shape) for a in held]
            both = []
            for side in (1, -1):
                with self.box.moved([value * (1 + side * sign * self.E * self.u) for value, sign in zip(held, signs)]):
                    both.append(answers(function, at).reshape(len(at), -1))
            largest = np.maximum(largest, np.abs(both[0] - both[1]) / 2)
        return largest / self.E

    def noise(self, function):
        """N: the smaller of two second differences, each the largest of eight."""
        here = answers(function, self.z).reshape(len(self.z), -1)
        if self.quiet:
            return np.zeros(here.shape)
        count, other = len(NEARBY), NEARBY.reshape(-1, 2)[:, ::-1].ravel()
        signs = np.random.default_rng(self.seed).choice([-1.0, 1.0], (1, count // 2, *self.z.shape)).repeat(2, 1)
        steps = np.sqrt(self.u) / np.array((16, 128))[:, None] * NEARBY
        signs = (steps.reshape(2, count, *(1,) * self.z.ndim) * signs).reshape(-1, *self.z.shape)
        both = self.beside(self.z, signs, self.delta).reshape(-1, *self.box.event)
        plus, minus = answers(function, self.box.held(both)).reshape(2, 2, count // 2, 2, *here.shape) - here
        weight = (other / (NEARBY + other)).reshape(count // 2, 2, 1, 1)
        found = np.abs(2 * (weight * plus + (1 - weight) * minus[:, :, ::-1])).max((1, 2)).min(0)
        return np.where(np.isfinite(found), found, np.inf)

    def agree(self, near, far, own, noise):
        """Do spreads at two steps agree within a factor of 2, apart from rounding and noise in them?"""
        room = 2 * own + 8 * np.where(np.isfinite(noise), noise, 0) / self.E
        return (near <= 2 * far + room) & (far <= 2 * near + room)

    def own_of_forward(self, here, of_x):
        """The rounding of x, where `of_x` marks a column, and of the log-det."""
        return np.maximum(self.u * (np.abs(here) + np.where(of_x, 0, self.size)), self.box.smallest)

    def excused(self, here, of_x, noisy):
        """How many units noise may excuse."""
        return np.where(of_x, np.inf, LOST * np.maximum(noisy, 1))

    @property
    def resolution(self):
        """(how many roundings the steps of z are, marks of the events where they are enough)."""
        free = (self.room >= 2 * self.E * self.u * np.abs(self.z)).reshape(len(self.z), -1).all(-1)
        return self.E, free[:, None]

    @cached_property
    def of_forward(self):
        """(U, marks, noise in units) of x and, in the last column, of the log-det."""
        if not len(self.z):
            raise Skipped("there is no point")
        here = self.forward_values(self.z)
        of_x, (n, free) = np.arange(here.shape[1]) < self.x[0].size, self.resolution
        near, far = (self.spread(self.forward_values, self.z, share * self.E * self.u * self.delta) / (share * n)
                     for share in (0.25, 1))
        own = self.own_of_forward(here, of_x)
        aside = self.rounded_aside(self.forward_values, self.z, self.box.domain)
        near, far = near + aside, far + aside
        U = own + far + self.parameter_spread(self.forward_values, self.z)                              # (2), (3)
        noise = self.noise(self.forward_values)
        noisy = (noise[:, of_x] / U[:, of_x]).max(-1, keepdims=True, initial=0)
        U = raised(U, noise, self.excused(here, of_x, noisy))
        return U, self.agree(near, far, own, noise) & np.isfinite(U) & np.isfinite(here) & free, noisy

    @cached_property
    def relative_noise(self):
        """U_x in units of the largest entry of the image, the median, where most images are noisy; else 0.

        At 0 the images of a matrix are exact, and a step away they are not.
        """
        sizes, noisy = np.abs(self.x.reshape(len(self.z), -1)).max(-1), self.of_forward[2][:, 0] > NOISY
        share = self.of_x[0].max(-1) / np.where(sizes > 0, sizes, np.inf)
        return float(np.median(share[noisy])) if noisy.mean() > 0.5 else 0.0

    @cached_property
    def of_x(self):
        """(U_x, marks of the points that may be asked)."""
        U, smooth, _ = self.of_forward
        n = self.x[0].size
        return U[:, :n], smooth[:, :n].all(-1)

    @cached_property
    def of_log_det(self):
        if np.isnan(self.log_det[self.finite]).mean() > REJECTED:
            raise Skipped("the log-det is NaN, as the law `finite` shows")
        U, smooth, _ = self.of_forward
        return U[:, -1:], smooth.all(-1)

    def own_of_inverse(self, here, entries):
        """The rounding of z, where `entries` marks a column, and of the log-det of the inverse."""
        size = np.maximum(self.delta, np.abs(self.z)).reshape(len(here), -1)
        return self.u * np.where(entries, np.pad(size, ((0, 0), (0, here.shape[1] - self.size))), np.abs(here) + self.size)

    def steps_of_images(self, x, unit):
        """(steps of x, how many units they are, marks of the events where they are enough)."""
        return self.E * unit, self.E, True

    @property
    def narrowest(self):
        """The size of z beside which its unit must be small."""
        return np.minimum(np.maximum(self.delta, np.abs(self.z)), self.reach)

    @cached_property
    def of_inverse(self):
        """(U, marks) of z and, in the last column, of the log-det of the inverse: (4) and (5) at the images."""
        U_x, usable = self.of_x
        usable = usable & self.finite
        here = self.asked_where(self.inverse_values, self.x, usable)
        x = np.where(usable.reshape(-1, *(1,) * (self.x.ndim - 1)), self.x, self.x[int(np.argmax(usable))])
        unit = np.where(usable[:, None], U_x, 0).reshape(x.shape)
        entries = np.arange(here.shape[1]) < self.size
        own = self.own_of_inverse(here, entries)
        if self.box.codomain is not None and self.box.codomain.rank:
            near, far, enough = self.by_coordinates(self.inverse_values, x, unit)
        else:
            step, m, enough = self.steps_of_images(x, unit)
            near, far = (self.spread(self.inverse_values, x, share * step) / (share * m) for share in (0.25, 1))
        U = own + far + self.parameter_spread(self.inverse_values, x)                                   # (4), (5)
        noise = self.noise(lambda z: answers(self.inverse_values, answers(self.box.image, z)))
        U = raised(U, noise, LOST * np.maximum(self.of_forward[2], 1))
        smooth = self.agree(near, far, own, noise) & np.isfinite(U)
        narrow = ALLOWED * U[:, :self.size] < self.narrowest.reshape(len(x), -1) / 4
        return U, usable & enough & smooth.all(-1) & narrow.all(-1)

    @cached_property
    def of_z(self):
        """(U_z, marks): (4) at the image."""
        U, usable = self.of_inverse
        return U[:, :self.size], usable

    def intervals(self):
        """(left, right) ends of intervals over which slopes are integrated."""
        edges = np.unique(self.z)
        return edges[:-1], edges[1:]

    # -- the comparison -------------------------------------------------------------------------------------------------

    def held_to(self, what, given, expected, bound, usable, at=None, but="not", of="images"):
        """Found at the simplest point where |given - expected| exceeds its bound; Skipped if too few points can be asked.

        `at`: places that are not the latents, but images or, by `of`, pairs of latents.
        """
        shape = np.shape(expected)
        if not broadcasts(np.shape(given), shape):
            raise Found(f"{what} has shape {np.shape(given)}, not {shape}")
        given, expected = (np.broadcast_to(a, shape).reshape(len(usable), -1) for a in (given, expected))
        if usable.mean() < self.least:
            raise Skipped(f"{(~usable).sum()} of {len(usable)} points are too ill-conditioned to be asked")
        self.asked = max(self.asked, int(usable.sum()))
        wrong = ~((np.abs(given - expected) <= bound) | (given == expected)) & usable[:, None]
        if wrong.any():
            where = self.z if at is None else at
            i, j = min(np.argwhere(wrong), key=lambda found: (np.abs(where[found[0]]).max(), *found))
            limit = np.broadcast_to(bound, wrong.shape)[i, j]
            entry = ", ".join(str(k) for k in np.unravel_index(j, shape[1:])) if np.prod(shape[1:], dtype=int) > 1 else ""
            entry = f"entry ({entry}) of " if entry else ""
            at_latents = len(self.z) == len(usable)
            raise Found(f"{entry}{what} at {event_text(where[i])} is {float(given[i, j])!r}, {but} {float(expected[i, j])!r} +- "
                        f"{limit:.3g}", self.z[i] if at_latents else None,
                        Compared(self.z, given, expected, bound, usable, wrong) if at_latents else None,
                        **({} if at is None else {of: self.one_each(where[i], of)}))

    def one_each(self, place, of):
        """A place as a list of events, which may be several of one number."""
        shape = self.box.event if of == "latents" or len(self.z) == 0 else self.x.shape[1:]
        return np.reshape(place, (-1, *shape))


def broadcasts(shape, to):
    return len(shape) <= len(to) and all(n in (1, m) for n, m in zip(shape[::-1], to[::-1]))


def event_text(event):
    """All numbers of a short event; of a long one, the number that most entries are, and the others with their places."""
    event = np.asarray(event)
    if event.size <= SHOWN:
        return str(event.tolist())
    values, counts = np.unique(event, return_counts=True)
    usual = float(values[np.argmax(counts)])
    others = np.argwhere(event != usual)
    if len(others) > SHOWN_OTHERS:
        return shortened(str(event.tolist()), SHOWN * 4)
    told = ", ".join(f"{float(event[tuple(at)])!r} at ({', '.join(map(str, at))})" for at in others)
    return f"an event of shape {event.shape} filled with {usual!r}" + (f" but for {told}," if told else "")


def of_inverse(function, x):
    """What an inverse answers; where it raises, one law says so."""
    try:
        return function(x)
    except Exception as error:
        blame(error)
        raise Skipped(f"the inverse raised {type(error).__name__}, as the law `inverse of forward` shows") from error


def joined(values, log_det):
    flat = values.reshape(len(values), int(np.prod(values.shape[1:])))         # -1 cannot be found out for a batch of none
    return flat if log_det is None else np.concatenate((flat, np.reshape(log_det, (-1, 1))), -1)


def raised(U, noise, limit):
    """U where the answers are noisier than it says: their noise, at most `limit` U."""
    return np.where(noise > NOISY * U, np.minimum(noise, limit * U), U)


def answers(function, events):
    """The values of a function of a batch; NaN for the events that are not finite or that it refuses."""
    finite = np.isfinite(events).reshape(len(events), -1).all(-1)
    found = list(accepted(function, events if finite.all() else events[finite]))
    shape = next((value.shape[1:] for _, value in found if value is not None), ())
    values = np.full((len(events), *shape), np.nan)
    values[finite] = np.concatenate([np.full((count, *shape), np.nan) if value is None else value for count, value in found])
    return values


def accepted(function, events):
    """(how many events, their values or None) of parts of a batch: it is halved until no part has an event that is refused."""
    try:
        yield len(events), function(events)
    except Found:
        raise
    except Exception as error:
        blame(error)
        if len(events) < 2:
            yield len(events), None
            return
        half = len(events) // 2
        yield from accepted(function, events[:half])
        yield from accepted(function, events[half:])
