r"""The laws of a black box: theorems that any invertible map obeys, held to how far its own answers spread.

Nothing is known of the box but its answers, so the unit of error comes from them.  With `delta = max(|z|, 1)` and u the unit
roundoff, the spread of f at a step h is the largest over random signs s,
    S_f(h) = max_s |f(z + s h) - f(z - s h)|/2                                      (1)
with E = 2^12 (2^6 in float32, 2^2 below), s the spacing of the smallest numbers, and P the spread over all parameters in the
same way,
    U_x = max(u |x|, s) + S_f(E u delta)/E + P_x                                    (2)
    U_l = u (|l| + D) + S_l(E u delta)/E + P_l                                      (3)
    U_z = u delta + S_inverse(E U_x)/E                                              (4)
A box may be noisier than its inputs' rounding explains.  N is the smaller of two second differences, with steps
root(u)/16 delta and an eighth of it, each the largest of three with nearby steps; where `N > 4 U`, `U` becomes
`min(N, 2^16 U)`.
A point is asked only where the spreads at E and E/4 agree within a factor of 2, answers nearby are finite, and `16 U_z < delta/4`.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np

from ..accuracy.differences import ridders
from .black_box import BlackBox, as_numpy, first_of, written
from .suites import SUITES

STRETCH = {"float64": 2.0**12, "float32": 2.0**6, "float16": 2.0**2, "bfloat16": 2.0**2}        # E
SIGNS = 24
ALLOWED = 16
RUNGS = {"float64": 14, "float32": 6, "float16": 0, "bfloat16": 0}
TAIL = {"float64": 38.0, "float32": 13.0, "float16": 9.0, "bfloat16": 9.0}
REJECTED = 0.5                          # the share of points beyond which a law is skipped
FIRST_STEPS = (2.0**-4, 2.0**-4 / 3)    # of two tables of differences: a kink betrays itself by their disagreement
DIFFERENCE = 1e-2                       # differences with a larger error of their own are rejected
LAWS: dict = {}
NEEDS: dict = {}
SINCE: dict = {}


class Skipped(Exception):
    """Why a law was not asked."""


class Found(AssertionError):
    """A law that is broken: at what point, what is given and what was expected; `event`: the latent there, if there is one."""

    def __init__(self, text, event=None):
        super().__init__(text)
        self.event = event


class Verdict(NamedTuple):
    """What came of one law: "pass", "FAIL" or "skip", and why."""

    law: str
    status: str
    text: str


def law(name, *needs, since=SUITES[0]):
    """Register a law under its name, and the suite it came with; without the quantities `needs` it is skipped."""
    def register(function):
        LAWS[name], NEEDS[name], SINCE[name] = function, needs, since
        return function

    return register


def run_law(name, box, seed=0, events=None):
    """Run one law on a box, at drawn latents or at `events`.  Raises Found if it is broken, Skipped if it cannot be asked."""
    lacking = [what for what in NEEDS[name] if not has(box, what)]
    if lacking:
        raise Skipped(f"no `{lacking[0]}` is given")
    with np.errstate(all="ignore"):
        LAWS[name](box, Points(box, seed, events=events))


def verdicts(box, seed=0):
    """One `Verdict` for each law."""
    return [verdict(name, box, seed) for name in LAWS]


def verdict(name, box, seed=0):
    try:
        run_law(name, box, seed)
    except Skipped as reason:
        return Verdict(name, "skip", str(reason))
    except Exception as found:
        return Verdict(name, "FAIL", str(found) if isinstance(found, Found) else f"raised {type(found).__name__}: {found}")
    return Verdict(name, "pass", "")


def has(box, what):
    if what == "parameters":
        return bool(box.trained())
    zero = np.zeros((1, *box.event))
    if what == "log_det":
        return box.log_det is not None or isinstance(box.forward(box.given(zero)), tuple)
    if what == "inverse_log_det":
        return box.inverse is not None and isinstance(box.inverse(box.given(box.image(zero))), tuple)
    return getattr(box, what) is not None


# -- points and their units -------------------------------------------------------------------------------------------

class Points:
    """Latents: the given events, or normal numbers at six magnitudes, and 0; with each quantity's unit (2) to (4)."""

    def __init__(self, box: BlackBox, seed=0, count=42, events=None):
        self.box, self.rng = box, np.random.default_rng(seed)
        sizes = np.repeat(np.logspace(-3, 1, 6), count // 6).reshape(-1, *(1,) * len(box.event))
        drawn = self.rng.standard_normal((len(sizes), *box.event)) * sizes
        drawn = np.concatenate((drawn, np.zeros((1, *box.event))))
        self.given = events is not None
        self.z = box.held(np.reshape(events, (-1, *box.event)) if self.given else drawn)
        self.E, self.u, self.axes = STRETCH[box.dtype], box.unit, tuple(range(1, self.z.ndim))
        self.size = int(np.prod(box.event))

    delta = property(lambda self: np.maximum(np.abs(self.z), 1))

    @cached_property
    def answer(self):
        return self.box.answer(self.z)

    @property
    def x(self):
        return self.answer[0]

    @cached_property
    def log_det(self):
        return self.box.log_slope(self.z)

    def spread(self, function, at, step):
        """S of (1); many moved copies of the batch in one call."""
        signs = self.rng.choice([-1.0, 1.0], (SIGNS, *at.shape))
        moved = np.concatenate((at + signs * step, at - signs * step)).reshape(-1, *at.shape[1:])
        values = answers(function, self.box.held(moved)).reshape(2, SIGNS, len(at), -1)
        found = np.abs(values[0] - values[1]).max(0) / 2
        return np.where(np.isfinite(found), found, np.inf)

    def parameter_spread(self, function):
        """P of (2) and (3), 0 for a box without parameters."""
        arrays = self.box.trained()
        held, largest = [as_numpy(a).copy() for a in arrays], 0.0
        try:
            for _ in range(SIGNS if arrays else 0):
                both = []
                signs = [self.rng.choice([-1.0, 1.0], a.shape) for a in held]
                for side in (1, -1):
                    for array, value, sign in zip(arrays, held, signs):
                        written(array, value * (1 + side * sign * self.E * self.u))
                    both.append(function(self.z).reshape(len(self.z), -1))
                largest = np.maximum(largest, np.abs(both[0] - both[1]) / 2)
        finally:
            for array, value in zip(arrays, held):
                written(array, value)
        return largest / self.E

    def noise(self, function):
        """N: the smaller of two second differences, each the largest of three."""
        def second(h):
            plus, minus = (function(self.box.held(self.z + side * h * self.delta)) for side in (1, -1))
            return np.abs(plus - 2 * here + minus).reshape(len(self.z), -1)

        here = function(self.z)
        steps = np.sqrt(self.u) * np.array((1, 1.25, 1.625))
        return np.minimum(*(np.max([second(h) for h in steps / parts], 0) for parts in (16, 128)))

    @staticmethod
    def raised(U, noise):
        """U where the answers are noisier than it says."""
        return np.where(noise > 4 * U, np.minimum(noise, 2.0**16 * U), U)

    def unit(self, function, value, terms):
        """(U, marks of the points that may be asked)."""
        near, far = (self.spread(function, self.z, E * self.u * self.delta) / E for E in (self.E / 4, self.E))
        own = np.maximum(self.u * (np.abs(value).reshape(len(self.z), -1) + terms), self.box.smallest)
        U = own + far + self.parameter_spread(function)
        U = self.raised(U, self.noise(function))
        smooth = (near <= 2 * far + 2 * U) & (far <= 2 * near + 2 * U) & np.isfinite(U)
        return U, smooth.all(-1)

    @cached_property
    def of_x(self):
        return self.unit(self.box.image, self.x, 0)

    @cached_property
    def of_log_det(self):
        return self.unit(lambda z: self.box.log_slope(z), self.log_det, self.size)

    @cached_property
    def of_z(self):
        """(U_z, marks): (4) at the image."""
        U_x, usable = self.of_x
        x = self.x.reshape(len(self.z), -1)
        step = np.where(np.isfinite(U_x), self.E * U_x, 0).reshape(self.x.shape)
        U = self.u * self.delta.reshape(x.shape[0], -1) + self.spread(self.box.origin, self.x, step) / self.E
        U = self.raised(U, self.noise(lambda z: answers(self.box.origin, answers(self.box.image, z))))
        narrow = ALLOWED * U < self.delta.reshape(U.shape) / 4
        return U, usable & narrow.all(-1)

    def held_to(self, what, given, expected, bound, usable, at=None):
        """Found at the first point where |given - expected| exceeds its bound; Skipped if too few points can be asked."""
        shape = np.shape(expected)
        given, expected = (np.broadcast_to(a, shape).reshape(len(usable), -1) for a in (given, expected))
        if usable.mean() < 1 - REJECTED:
            raise Skipped(f"{(~usable).sum()} of {len(usable)} points are too ill-conditioned to be asked")
        wrong = ~(np.abs(given - expected) <= bound) & usable[:, None]
        if wrong.any():
            where = self.z if at is None else at
            i, j = np.argwhere(wrong)[np.argmin(np.abs(where).reshape(len(where), -1).max(-1)[np.argwhere(wrong)[:, 0]])]
            limit = np.broadcast_to(bound, wrong.shape)[i, j]
            wrong, right = float(given[i, j]), float(expected[i, j])
            raise Found(f"{what} at {where[i].tolist()} is {wrong!r}, not {right!r} +- {limit:.3g}", self.z[i])


def answers(function, events):
    """The values of a function of a batch; NaN for the events that it refuses."""
    try:
        return function(events)
    except Exception:
        found = []
        for event in events:
            try:
                found.append(function(event[None])[0])
            except Exception:
                found.append(np.nan)
        shape = next((np.shape(value) for value in found if np.ndim(value)), ())
        return np.stack([np.broadcast_to(value, shape) for value in found])


# -- the laws ---------------------------------------------------------------------------------------------------------

@law("inverse of forward", "inverse")
def inverse_of_forward(box, p):
    """The inverse of f(z) is z: a bijector has one latent for each image."""
    U, usable = p.of_z
    p.held_to("inverse(forward(z))", box.origin(p.x), p.z, ALLOWED * U, usable)


@law("forward of inverse", "inverse")
def forward_of_inverse(box, p):
    """f of the inverse of x is x: every image has a latent."""
    U_x, _ = p.of_x
    U_z, usable = p.of_z
    moved = p.spread(box.image, p.z, np.where(usable.reshape(-1, *(1,) * len(box.event)), ALLOWED * U_z.reshape(p.z.shape), 0))
    z = np.where(usable.reshape(-1, *(1,) * len(box.event)), box.origin(p.x), p.z)
    p.held_to("forward(inverse(x))", box.image(box.held(z)), p.x, ALLOWED * U_x + moved, usable, at=p.x)


@law("log-det is the determinant of differences", "log_det")
def determinant(box, p):
    """log|det| of the Jacobian, by central differences and Ridders' extrapolation, is the log-det."""
    if not RUNGS[box.dtype]:
        raise Skipped(f"differences have no digits in {box.dtype}")
    if p.x[0].size != p.size:
        raise Skipped("events and images have different numbers of entries")
    U, usable = p.of_log_det
    found, e = agreed(*(determinant_of_differences(box, p, h) for h in FIRST_STEPS))
    bound = 10 * e[:, None] + ALLOWED * U
    usable = usable & (e <= DIFFERENCE) & np.isfinite(found) & ~kinked(box, p)
    p.held_to("log-det", p.log_det, found, bound, usable)


def kinked(box, p):
    """Marks of the points where the slopes to either side differ by a sixteenth of the larger, at the smallest step.

    There all central differences may agree on a mean of the two.
    """
    h = FIRST_STEPS[0] * 2.0 ** (1 - RUNGS[box.dtype])
    move = np.eye(p.size)[None, :, :] * h * p.delta.reshape(len(p.z), -1)[:, None, :]
    z = p.z.reshape(len(p.z), 1, -1)
    plus, minus = (box.image(box.held((z + side * move).reshape(-1, *box.event))) for side in (1, -1))
    x = p.x.reshape(len(p.z), 1, -1)
    right, left = np.abs(plus.reshape(*move.shape[:2], -1) - x), np.abs(x - minus.reshape(*move.shape[:2], -1))
    rounding = 4 * p.of_x[0][:, None, :]
    return (np.abs(right - left) > np.maximum(right, left) / 16 + rounding).any((1, 2))


def agreed(one, other):
    """One of two extrapolations (value, e), whose error is the larger of both and of their difference."""
    return one[0], np.maximum(np.maximum(one[1], other[1]), np.abs(one[0] - other[0]))


def determinant_of_differences(box, p, h):
    """(log|det J|, e) at every point."""
    steps = h * 2.0 ** -np.arange(RUNGS[box.dtype])
    z, delta = p.z.reshape(len(p.z), -1), p.delta.reshape(len(p.z), -1)
    move = np.eye(p.size)[None, :, None] * (steps[:, None, None] * delta)[:, None, :, :, ]
    plus, minus = (box.held((z + side * move).reshape(-1, *box.event)) for side in (1, -1))
    values = [box.image(v).reshape(*move.shape[:3], -1) for v in (plus, minus)]
    width = np.moveaxis(np.diagonal((plus - minus).reshape(move.shape), axis1=1, axis2=3), -1, 1)[..., None]
    slopes = np.moveaxis((values[0] - values[1]) / width, 1, -1)
    sign, log_det = np.linalg.slogdet(np.where(np.isfinite(slopes), slopes, 0))
    moved = p.u * np.moveaxis(np.maximum(*map(np.abs, values)) / np.abs(width), 1, -1)              # of each slope, by rounding
    inverse = np.linalg.inv(np.where((sign != 0)[..., None, None], slopes, np.eye(p.size)))
    rounding = 2 * (np.abs(inverse.mT) * moved).sum((-2, -1))
    return ridders(np.where(sign != 0, log_det, np.nan), rounding)


@law("inverse log-det is minus log-det", "inverse", "log_det", "inverse_log_det")
def inverse_log_det(box, p):
    """The log-det of the inverse at x = f(z) is minus the log-det of f at z, the same point."""
    U, usable = p.of_log_det
    U_z, narrow = p.of_z
    move = np.where(np.isfinite(U_z), ALLOWED * U_z, 0).reshape(p.z.shape)
    bound = ALLOWED * 2 * U + p.spread(lambda z: box.log_slope(z), p.z, move)
    p.held_to("minus the inverse log-det", -box.answer_back(p.x)[1], p.log_det, bound, usable & narrow)


@law("fused is separate", "log_det")
def fused(box, p):
    """The log-det that comes with the image is the log-det by itself."""
    if box.log_det is None or p.answer[1] is None:
        raise Skipped("there is one way to the log-det alone")
    U, usable = p.of_log_det
    p.held_to("the log-det with the image", p.answer[1], p.log_det, 32 * U, usable)


@law("batch is the stack of singles")
def batch(box, p):
    """An event has the same image alone as in a batch: events are independent."""
    U, usable = p.of_x
    alone = np.concatenate([box.image(z[None]) for z in p.z])
    p.held_to("the image of an event alone", alone, p.x, 32 * U, usable)
    if has(box, "log_det"):
        U, usable = p.of_log_det
        alone = np.concatenate([box.log_slope(z[None]) for z in p.z])
        p.held_to("the log-det of an event alone", alone, p.log_det, 32 * U, usable)


@law("a batch of tails is the stack of its events")
def tails(box, p):
    """A batch in which every event lies far out has images that are numbers, equal to the images of its events alone."""
    q = Points(box)
    far = p.rng.choice([-1.0, 1.0], p.z.shape) * p.rng.uniform(6, TAIL[box.dtype], p.z.shape)
    q.z = p.z if p.given else box.held(far)
    if np.isnan(q.x).any():
        i = int(np.argwhere(np.isnan(q.x))[0][0])
        raise Found(f"the image at {q.z[i].tolist()} is {q.x[i].tolist()}", q.z[i])
    U, usable = q.of_x
    alone = np.concatenate([box.image(z[None]) for z in q.z])
    q.held_to("the image of an event alone", alone, q.x, 32 * U, usable)


@law("an empty batch is empty")
def empty(box, p):
    """No events have no images; their log-dets have shape (0,)."""
    x, log_det = box.answer(np.zeros((0, *box.event)))
    if x.shape[0] != 0 or log_det is not None and log_det.shape != (0,):
        shape = "" if log_det is None else f", a log-det of {log_det.shape}"
        raise Found(f"an empty batch has an image of shape {x.shape}{shape}")


@law("log-det shape", "log_det")
def log_det_shape(box, p):
    """The log-det is one number for each event."""
    if np.shape(p.log_det) != (len(p.z),):
        raise Found(f"the log-det of a batch of {len(p.z)} events of shape {box.event} has shape {np.shape(p.log_det)}")


@law("inputs are not written to")
def not_written(box, p):
    """A map changes neither its argument nor, in the inverse, its image."""
    for name, event in (("forward", p.z), ("inverse", p.x if box.inverse is not None else None)):
        if event is not None:
            given = box.given(event)
            before = as_numpy(given).copy()
            getattr(box, name)(given)
            if not np.array_equal(as_numpy(given), before, equal_nan=True):
                raise Found(f"{name} changed its argument")


@law("deterministic")
def deterministic(box, p):
    """The same call gives the same bits."""
    if not np.array_equal(box.image(p.z), box.image(p.z), equal_nan=True):
        raise Found("forward of the same batch gave another image")


@law("finite")
def finite(box, p):
    """Images and log-dets of moderate latents are finite."""
    for what, values in (("image", p.x), ("log-det", p.log_det if has(box, "log_det") else None)):
        if values is not None and not np.isfinite(values).all():
            i = int(np.argwhere(~np.isfinite(values))[0][0])
            raise Found(f"the {what} at {p.z[i].tolist()} is {values[i].tolist()}", p.z[i])


@law("monotone")
def monotone(box, p):
    """A bijector of one number rises everywhere or falls everywhere."""
    if p.size != 1 or p.x[0].size != 1:
        raise Skipped("the event is not one number")
    U, usable = p.of_x
    order = np.argsort(p.z.ravel())
    x, U = p.x.ravel()[order], U.ravel()[order]
    steps, room = np.diff(x), ALLOWED * (U[1:] + U[:-1])
    if (steps > room).any() and (steps < -room).any():
        i = int(np.argmax(steps < -room)) if np.median(steps) > 0 else int(np.argmax(steps > room))
        z = p.z.ravel()[order]
        raise Found(f"it rises and falls: f({z[i]!r}) = {x[i]!r} and f({z[i + 1]!r}) = {x[i + 1]!r}")


@law("every parameter reaches the image", "log_det", "parameters")
def parameters_move(box, p):
    """A parameter that moves the log-det moves the image: the log-det is a function of the map."""
    arrays = box.trained()
    for k, array in enumerate(arrays):
        held = as_numpy(array).copy()
        try:
            written(array, held + 0.125 * np.maximum(np.abs(held), 1))
            moved_x, moved_l = box.image(p.z), box.log_slope(p.z)
        finally:
            written(array, held)
        if np.array_equal(moved_x, p.x) and not np.array_equal(moved_l, p.log_det):
            raise Found(f"parameter {k}, of shape {held.shape}, moves the log-det and not the image")


@law("pullback is the gradient", "pullback", "log_det")
def gradient(box, p):
    """The pullback at (x_bar, l_bar) is the gradient of <x_bar, x> + <l_bar, log-det>, along a random direction."""
    if not RUNGS[box.dtype]:
        raise Skipped(f"differences have no digits in {box.dtype}")
    x_bar, l_bar = p.rng.standard_normal(p.x.shape), p.rng.standard_normal(len(p.z))
    z_bar = as_numpy(first_of(box.pullback(box.given(p.z), box.given(x_bar), box.given(l_bar))))
    # no step reaches 0, where maps have kinks
    direction = p.rng.uniform(0.5, 1, p.z.shape) * p.rng.choice([-1, 1], p.z.shape) * np.abs(p.z)

    def loss(z):
        x, l = box.image(z), box.log_slope(z)
        terms = (x_bar * x).reshape(len(z), -1)
        return terms.sum(-1) + l_bar * l, np.abs(terms).sum(-1) + np.abs(l_bar * l)

    def difference(first):
        steps = first * 2.0 ** -np.arange(RUNGS[box.dtype])
        values = [(*loss(box.held(p.z + h * direction)), *loss(box.held(p.z - h * direction))) for h in steps]
        slopes = np.stack([(plus - minus) / (2 * h) for h, (plus, _, minus, _) in zip(steps, values)])
        return ridders(slopes, np.stack([4 * p.u * (a + b + 1) / h for h, (_, a, _, b) in zip(steps, values)]))

    best, e = agreed(*map(difference, FIRST_STEPS))
    expected, size = (z_bar * direction).reshape(len(p.z), -1).sum(-1), np.abs(z_bar * direction).reshape(len(p.z), -1).sum(-1)
    bound = 10 * e + ALLOWED * p.u * size
    usable = (e <= DIFFERENCE * (1 + np.abs(best)))
    p.held_to("the gradient along a direction", expected, best, bound[:, None], usable)


@law("mass is one", "inverse", "log_det", "inverse_log_det")
def mass(box, p):
    """The density of x = f(z), z normal, between two images has the mass of the latents between them."""
    if p.size != 1 or p.x[0].size != 1:
        raise Skipped("the event is not one number")
    nodes, weights = np.polynomial.legendre.leggauss(20)
    ends = box.image(box.held(np.linspace(-5, 5, 201).reshape(-1, *box.event))).ravel()
    middle, half = (ends[1:] + ends[:-1]) / 2, (ends[1:] - ends[:-1]) / 2
    x = box.held((middle[:, None] + half[:, None] * nodes).reshape(-1, *p.x.shape[1:]))
    z, log_det = box.answer_back(x)
    if not (np.abs(half) > 2.0**10 * p.u * np.abs(middle)).all() or not np.isfinite(z).all():
        raise Skipped("the images of -5 to 5 are not all apart")
    density = np.exp(-z.ravel()**2 / 2 + log_det) / np.sqrt(2 * np.pi)
    total = (density.reshape(len(middle), -1) * weights * np.abs(half[:, None])).sum()
    expected, room = 0.9999994266968563, 2.0**10 * p.u + 1e-6
    if not abs(total - expected) <= room:
        raise Found(f"the density between f(-5) and f(5) integrates to {total!r}, not {expected!r} +- {room:.2g}")


@law("log_prob is the base and the log-det", "log_prob", "inverse", "inverse_log_det")
def log_prob(box, p):
    """log p(x) = log N(z; 0, I) + log|det dz/dx| at z, the inverse of x."""
    U, usable = p.of_log_det
    z, log_det = box.answer_back(p.x)
    base = -(z**2).reshape(len(z), -1).sum(-1) / 2 - p.size * np.log(2 * np.pi) / 2
    U_z, narrow = p.of_z
    bound = ALLOWED * (2 * U + (U_z * np.abs(z.reshape(len(z), -1))).sum(-1, keepdims=True) + p.u * np.abs(base)[:, None])
    p.held_to("log_prob", as_numpy(box.log_prob(box.given(p.x))), base + log_det, bound, usable & narrow, at=p.x)
