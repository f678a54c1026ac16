r"""The laws of a black box: theorems that any invertible map obeys, held to how far its own answers spread.

The first sentence of a law's docstring is its theorem; `black_box_points` derives the units of error.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace

import numpy as np

from ..accuracy.differences import balanced, ridders
from ..oracle.asked import whole_of
from ..oracle.pages import CannotRun
from ..oracle.time_limits import asking, limited
from ..report import shortened
from . import model_laws
from .arrays import NORMAL, UNITS, as_numpy, dtype_of, mask_made
from .black_box import BlackBox, first_of
from .black_box_points import ALLOWED, BoxPoints, answers, of_inverse, raised
from .lawbook import LAWS, NEEDS, SINCE, Found, Skipped, Verdict, Verdicts, law
from .making import made
from .naming import named
from .simplest import simplest

__all__ = ["LAWS", "NEEDS", "SINCE", "BoxPoints", "Found", "Skipped", "Verdict", "has", "run_law", "verdict", "verdicts"]

RUNGS = {"float64": 14, "float32": 6, "float16": 0, "bfloat16": 0}
LONG = 400                              # characters of an event in a text
TAIL = {"float64": 38.0, "float32": 13.0, "float16": 9.0, "bfloat16": 9.0}
FIRST_STEPS = (2.0**-4, 2.0**-4 / 3)    # of two tables of differences: a kink betrays itself by their disagreement
DIFFERENCE = 1e-2                       # differences with a larger error of their own are rejected
OUTGROWN = 2.0**-16                     # an image beyond this share of the largest number may be infinite
HALVINGS = 60
ENTRIES = 2**24                         # of the difference quotients of all points
DOUBLINGS = 3                           # of the smallest step, at which second differences are compared
BENDS = 3 / 8                           # between 1/4, the ratio of second differences of a smooth map, and 1/2, at a jump
NEARBY = 2.0**-4                        # of the reach of an event: images there are other images, unless they have saturated
COLUMNS = 16                            # the most entries of an event of which gradients are asked one by one
MOVE = 0.125                            # of parameters
AS_GIVEN = ("all laws at moved parameters", "every parameter reaches the image", "float64 agrees", "compiled is eager",
            "a loaded model is the saved one")      # laws that are asked at the given parameters alone


def run_law(name, box, seed=0, events=None):
    """Run one law on a box, at drawn latents or at `events`.  Raises Found if it is broken, Skipped if it cannot be asked."""
    with np.errstate(all="ignore"):
        ask(name, box, BoxPoints(box, seed, events))


def ask(name, box, points):
    lacking = [what for what in NEEDS[name] if not has(box, what)]
    if lacking:
        raise Skipped(f"no `{lacking[0]}` is given")
    with asking(lambda: f"law `{name}`"):
        LAWS[name](box, points)


def verdicts(box, seed=0, time_limit=None) -> Verdicts:
    """One `Verdict` for each law, of a box or of a function of a seed that makes one.

    `time_limit`: the seconds that each answer may take.  CannotRun, a ValueError, for a box that cannot be asked, or is late.
    """
    with limited(time_limit), np.errstate(all="ignore"):
        box = made(box, seed)
        points = BoxPoints(box, seed)
        return Verdicts([verdict(name, box, seed, points) for name in LAWS], notes_of(box), range_of(points))


def range_of(p):
    """What was asked: the latents, and the set that they are drawn from."""
    lower, upper, whole = whole_of(p.box.domain)
    return {"latents": len(p.z), "low": float(p.z.min()), "high": float(p.z.max()), "lower": lower, "upper": upper, "whole": whole,
            "tail": TAIL[p.box.precision] if p.box.domain is None else 0.0}


def notes_of(box):
    """What is right, and is better known."""
    given = {name: dtype_of(value) for name, value in zip(("an image", "a log-det"), raw_answer(box))}
    wide = [(name, dtype) for name, dtype in given.items() if dtype is not None and UNITS[dtype] < UNITS[box.dtype]]
    return [f"{name} of {dtype} is returned where {box.dtype} is given; it is held to the unit of {box.precision}"
            for name, dtype in wide]


def raw_answer(box):
    """(the image, the log-det if it comes with it) as forward returns them."""
    answer = box.called(box.forward, box.given(box.plain(2)))
    return answer if isinstance(answer, tuple) else (answer,)


def verdict(name, box, seed=0, points=None):
    """The verdict of one law; a failure is told at the simplest event that shows it."""
    points = BoxPoints(box, seed) if points is None else points
    points.asked = 0
    try:
        with np.errstate(all="ignore"):
            ask(name, box, points)
    except Skipped as reason:
        return Verdict(name, "skip", str(reason))
    except CannotRun:
        raise
    except Exception as found:
        diagnosis = named(name, box, found)
        found = simplest(found, lambda events: failure(name, box, seed, events))
        return Verdict(name, "FAIL", told(found), points.asked, diagnosis)
    return Verdict(name, "pass", "", points.asked or len(points.z))


def failure(name, box, seed, events):
    """The exception by which a law fails at some events, or None."""
    try:
        run_law(name, box, seed, events)
    except Skipped:
        return None
    except Exception as found:
        return found


def told(found):
    return shortened(str(found) if isinstance(found, Found) else f"raised {type(found).__name__}: {found}", LONG)


def has(box, what):
    """Does the box give a quantity?"""
    if what == "parameters":
        return bool(box.trained())
    if what == "log_det":
        return box.log_det is not None or isinstance(box.called(box.forward, box.given(box.plain(1))), tuple)
    if what == "inverse_log_det":
        x = box.image(box.plain(1))
        return box.inverse is not None and isinstance(of_inverse(lambda x: box.called(box.inverse, box.given(x)), x), tuple)
    if what == "latents":                   # z and log|det dz/dx| of data
        return has(box, "inverse_log_det" if box.direction == "forward" else "log_det")
    return getattr(box, what) is not None


# -- round trips ------------------------------------------------------------------------------------------------------

@law("inverse of forward", "inverse")
def inverse_of_forward(box, p):
    """The inverse of f(z) is z: a bijector has one latent for each image."""
    answer_of("inverse", box.origin, p.x[p.finite], p.z[p.finite])
    has_latents(box, p)
    U, usable = p.of_z
    p.held_to("inverse(forward(z))", p.back[0], p.z, ALLOWED * U, usable)


def has_latents(box, p):
    """The inverse of an image is a number, unless the image is an end to which others round: then images nearby are equal."""
    for i in np.flatnonzero(p.finite & ~np.isfinite(p.back[0].reshape(len(p.z), -1)).all(-1)):
        move = np.eye(p.size).reshape(p.size, *box.event) * np.minimum(NEARBY * p.reach[i], p.room[i] / 2)
        images = box.image(box.held(np.concatenate((p.z[i] + move, p.z[i] - move))))
        if (images != p.x[i]).reshape(2 * p.size, -1).any(-1).all():
            raise Found(f"the inverse at {p.x[i].tolist()}, the image of {p.z[i].tolist()}, is {p.back[0][i].tolist()}", p.z[i])


@law("forward of inverse", "inverse")
def forward_of_inverse(box, p):
    """f of the inverse of x is x: every x of the codomain has a latent.

    x is an image or, if a codomain is declared, also any member of it.
    """
    U_x, _ = p.of_x
    U_z, usable = p.of_z
    marks = usable.reshape(-1, *(1,) * len(box.event))
    moved = p.spread(box.image, p.z, np.where(marks, ALLOWED * U_z.reshape(p.z.shape), 0))
    z = np.where(marks, p.back[0], p.z)
    p.held_to("forward(inverse(x))", box.image(box.held(z)), p.x, ALLOWED * U_x + moved, usable, at=p.x)
    if box.codomain is not None and not p.given:
        onto(box, p)


def onto(box, p):
    """Drawn members of the codomain have latents."""
    drawn = BoxPoints(box_of_members(box), p.seed)
    x = drawn.z.reshape(len(drawn.z), *p.x.shape[1:]) if drawn.z[0].size == p.x[0].size else p.x
    z = answers(box.origin, x)
    if not np.isfinite(z).all():
        i = int(np.argwhere(~np.isfinite(z))[0][0])
        raise Found(f"the inverse at {x[i].tolist()}, which is in the codomain, is {z[i].tolist()}")
    q = BoxPoints(box, p.seed, z)
    U_x, usable = q.of_x
    U_z, narrow = q.of_z
    moved = q.spread(box.image, q.z, np.where(np.isfinite(U_z), ALLOWED * U_z, 0).reshape(q.z.shape))
    q.held_to("forward(inverse(x))", q.x, x, ALLOWED * U_x + moved, usable & narrow, at=x)


def box_of_members(box):
    """A box whose points are members of the codomain of another one."""
    return BlackBox(lambda x: x, event=box.event, domain=box.codomain, dtype=box.dtype, backend=box.backend)


# -- log-dets ---------------------------------------------------------------------------------------------------------

@law("log-det is the determinant of differences", "log_det")
def determinant(box, p):
    """log|det| of the Jacobian, by central differences and Ridders' extrapolation, is the log-det."""
    if not RUNGS[box.precision]:
        raise Skipped(f"differences have no digits in {box.precision}")
    square(p)
    p = fewer(p, ENTRIES // (RUNGS[box.precision] * p.size**2))
    U, usable = p.of_log_det
    found, e = agreed(*(determinant_of_differences(box, p, h) for h in FIRST_STEPS))
    bound = 10 * e[:, None] + ALLOWED * U
    usable = usable & (e <= DIFFERENCE) & np.isfinite(found) & ~kinked(box, p)
    p.held_to("log-det", p.log_det, found, bound, usable, but="and of differences of forward")


def fewer(p, count):
    """At most `count` of the points; Skipped if that is none."""
    if count < 1:
        raise Skipped(f"the Jacobian has {p.size**2} entries")
    return p if len(p.z) <= count else BoxPoints(p.box, p.seed, p.z[::len(p.z) // count + 1])


def square(p):
    if p.x[0].size != p.size:
        raise Skipped("events and images have different numbers of entries")


def kinked(box, p):
    """Marks of the points near which slopes jump: second differences at steps h, 2 h, 4 h and 8 h, from the smallest h on.

    Where a map is smooth, each is a quarter of the next.  A jump at a distance up to h adds a multiple of the step minus the
    distance, so that the last is about twice the one before.  All central differences may agree there on a mean of two slopes.
    """
    h = FIRST_STEPS[0] * 2.0 ** (1 - RUNGS[box.precision])
    move = np.eye(p.size)[None, :, :] * h * p.reach.reshape(len(p.z), -1)[:, None, :]
    z, x = p.z.reshape(len(p.z), 1, -1), p.x.reshape(len(p.z), 1, -1)

    def second(step):
        plus, minus = (box.image(box.held((z + side * step * move).reshape(-1, *box.event))) for side in (1, -1))
        return np.abs(plus.reshape(*move.shape[:2], -1) - 2 * x + minus.reshape(*move.shape[:2], -1))

    rounding, found = 4 * p.of_x[0][:, None, :], [second(2.0**k) for k in range(DOUBLINGS + 1)]
    return np.any([(near > BENDS * far + rounding).any((1, 2)) for near, far in zip(found, found[1:])], 0)


def agreed(one, other):
    """One of two extrapolations (value, e), whose error is the larger of both and of their difference."""
    return one[0], np.maximum(np.maximum(one[1], other[1]), np.abs(one[0] - other[0]))


def determinant_of_differences(box, p, h):
    """(log|det J|, e) at every point."""
    steps = h * 2.0 ** -np.arange(RUNGS[box.precision])
    z, reach = p.z.reshape(len(p.z), -1), p.reach.reshape(len(p.z), -1)
    move = np.eye(p.size)[None, :, None] * (steps[:, None, None] * reach)[:, None, :, :, ]
    plus, minus = (box.held((z + side * move).reshape(-1, *box.event)) for side in (1, -1))
    values = [box.image(v).reshape(*move.shape[:3], -1) for v in (plus, minus)]
    width = np.moveaxis(np.diagonal((plus - minus).reshape(move.shape), axis1=1, axis2=3), -1, 1)[..., None]
    slopes = np.moveaxis((values[0] - values[1]) / width, 1, -1)
    sign, log_det = np.linalg.slogdet(np.where(np.isfinite(slopes), slopes, 0))
    U_x = p.of_x[0]
    sizes = np.maximum(*map(np.abs, values))
    noise = p.relative_noise * sizes.max(-1, keepdims=True)
    known = np.maximum(np.maximum(p.u * sizes, noise), np.where(np.isfinite(U_x), U_x, 0))
    moved = np.moveaxis(known / np.abs(width), 1, -1)                                               # of each slope, by rounding
    inverse = np.linalg.inv(np.where((sign != 0)[..., None, None], slopes, np.eye(p.size)))
    rounding = 2 * (np.abs(inverse.mT) * moved).sum((-2, -1))
    return ridders(np.where(sign != 0, log_det, np.nan), rounding)


@law("log-det is the determinant of the gradient", "log_det", "pullback")
def determinant_of_gradient(box, p):
    """log|det| of the Jacobian, row by row from the pullback, is the log-det."""
    square(p)
    if p.size > COLUMNS:
        raise Skipped(f"events have more than {COLUMNS} entries")
    U, usable = p.of_log_det

    def rows(z):
        shape = (len(z), *p.x.shape[1:])
        unit = np.eye(p.size).reshape(p.size, *p.x.shape[1:])
        bars = [box.gradients(z, np.broadcast_to(one, shape), np.zeros(len(z)))[0] for one in unit]
        return np.stack([bar.reshape(len(z), -1) for bar in bars], 1)

    def log_det(z):
        return log_abs_det(rows(z))[0]

    J = rows(p.z)
    found, rounding = log_abs_det(J)
    own = p.u * (np.abs(found) + p.size)[:, None]
    U_j = raised(own + p.spread(log_det, p.z, p.E * p.u * p.delta) / p.E, p.noise(log_det), np.inf)
    bound = ALLOWED * (U + U_j + p.u * rounding[:, None])
    p.held_to("log-det", p.log_det, found, bound, usable & resolved(p, J) & np.isfinite(bound[:, 0]) & np.isfinite(found))


def resolved(p, J):
    """Marks of the points whose slopes are normal numbers and move the images by roundings in the steps of N.

    Where a map has saturated, N does not see the noise of its slope.
    """
    moved = (np.abs(J) * p.delta.reshape(len(J), 1, -1)).sum(-1) * np.sqrt(p.u) / 128
    seen = moved >= 4 * p.u * np.abs(p.x).reshape(len(J), -1)
    return (seen & (np.abs(J).max(-1) > NORMAL[p.box.precision])).all(-1)


def log_abs_det(J):
    """(log|det J|, its error by elimination in units of rounding): 4 n |S^-1| |S| of the balanced matrix S."""
    S, r = balanced(np.where(np.isfinite(J), J, 0), -1)
    S, c = balanced(S, -2)
    sign, found = np.linalg.slogdet(S)
    inverse = np.linalg.inv(np.where((sign != 0)[:, None, None], S, np.eye(S.shape[-1])))
    eliminated = 4 * S.shape[-1] * np.linalg.norm(inverse, axis=(-2, -1)) * np.linalg.norm(S, axis=(-2, -1))
    return np.where(sign != 0, found + (r.sum((-2, -1)) + c.sum((-2, -1))) * np.log(2), np.nan), eliminated


@law("images differ by the integral of the slope", "log_det")
def integral(box, p):
    """f(b) - f(a) is the integral of exp(log-det) from a to b, up to its sign: the fundamental theorem of calculus."""
    model_laws.one_number(p)
    edges = np.unique(p.z)
    left, width = edges[:-1], np.diff(edges)
    nodes, integrated = model_laws.gauss(left, width)
    q, ends = (BoxPoints(box, p.seed, box.held(at.reshape(-1, *box.event))) for at in (nodes, edges))
    U, usable = q.of_log_det
    slope = np.exp(q.log_det).reshape(nodes.shape)
    found, e = integrated(slope)
    # a node is rounded, and the slope there is not the slope at the node
    moved = integrated(slope * (ALLOWED * U.reshape(nodes.shape)))[0]
    U_x, at_ends = ends.of_x
    x, U_x = ends.x.ravel(), U_x.ravel()
    bound = ALLOWED * (U_x[1:] + U_x[:-1]) + moved + 10 * e + ALLOWED * p.u * found
    usable = usable.reshape(nodes.shape).all(-1) & at_ends[1:] & at_ends[:-1] & (e <= DIFFERENCE * found)
    held = BoxPoints(box, p.seed, left[:0])
    held.held_to("the difference of images of ends of an interval", np.abs(np.diff(x)), found, bound[:, None], usable,
                 at=np.stack((left, edges[1:]), -1))
    p.asked = held.asked


@law("inverse log-det is minus log-det", "inverse", "log_det", "inverse_log_det")
def inverse_log_det(box, p):
    """The log-det of the inverse at x = f(z) is minus the log-det of f at z, the same point."""
    U, usable = p.of_log_det
    both, narrow = p.of_inverse
    U_z, U_k = both[:, :p.size], both[:, p.size:]
    if not U_k.shape[1]:
        raise Skipped("the log-det of the inverse is not one number for each event")
    move = np.where(np.isfinite(U_z), ALLOWED * U_z, 0).reshape(p.z.shape)
    bound = ALLOWED * (U + U_k) + p.spread(lambda z: box.log_slope(z), p.z, move)
    p.held_to("minus the inverse log-det", -p.back[1], p.log_det, bound, usable & narrow)


@law("fused is separate", "log_det")
def fused(box, p):
    """The log-det that comes with the image is the log-det by itself."""
    if box.log_det is None or p.answer[1] is None:
        raise Skipped("there is one way to the log-det alone")
    U, usable = p.of_log_det
    p.held_to("the log-det with the image", p.answer[1], p.log_det, 2 * ALLOWED * U, usable)


@law("log-det shape")
def log_det_shape(box, p):
    """The log-det is one number for each event, in both directions."""
    if not has(box, "log_det") and not has(box, "inverse_log_det"):
        raise Skipped("no `log_det` is given")
    if has(box, "inverse_log_det"):
        given, x = np.shape(box.answer_back(p.x[p.finite])[1]), p.x[p.finite]
        if given != (len(x),):
            raise Found(f"the log-det of the inverse, of a batch of {len(x)} images, has shape {given}")
    if not has(box, "log_det"):
        return
    given = box.log_slope(p.z)
    if np.shape(given) != (len(p.z),):
        raise Found(f"the log-det of a batch of {len(p.z)} events of shape {box.event} has shape {np.shape(given)}"
                    f"{shape_of_terms(box, p, given)}")


def shape_of_terms(box, p, given):
    """What is wrong with the shape: a sum over the event that is missing, wholly or in part, an axis, or the batch."""
    size = int(np.prod(np.shape(given)[1:]))
    if np.shape(given)[:1] != (len(p.z),):
        return ": one number for the batch" if np.size(given) == 1 else ""
    if size == 1:
        return ": an axis is left behind the batch"
    summed = replace(box, forward=lambda *given: with_sum(box, given), log_det=None)
    with contextlib.suppress(Exception):
        ask("log-det is the determinant of differences", summed, BoxPoints(summed, p.seed, p.z))
        return ": it is not summed over the event, and its sum is right"
    return ": it is not summed over the event"


def with_sum(box, given):
    """(image, the sum over the event of what stands for its log-det)."""
    answer = box.forward(*given)
    terms = as_numpy(answer[1] if box.log_det is None else box.log_det(*given))
    return first_of(answer), terms.reshape(len(terms), -1).sum(-1)


# -- batches ----------------------------------------------------------------------------------------------------------

@law("batch is the stack of singles")
def batch(box, p):
    """An event has the same image alone as in a batch: events are independent."""
    same_alone(box, p)


def same_alone(box, p):
    U, usable = p.of_x
    alone = each_alone("image", box.image, p)
    p.held_to("the image of an event alone", alone, p.x, 2 * ALLOWED * U, usable)
    if has(box, "log_det"):
        U, usable = p.of_log_det
        alone = each_alone("log-det", box.log_slope, p)
        p.held_to("the log-det of an event alone", alone, p.log_det, 2 * ALLOWED * U, usable)


def each_alone(what, function, p):
    """The answers of batches of one, whose shape is that of a larger batch."""
    found, expected = [], (1, *np.shape(function(p.box.plain(2)))[1:])
    for z in p.z:
        found.append(answer_of(what, function, z[None]))
        if np.shape(found[-1]) != expected:
            raise Found(f"the {what} of a batch of one event, {z.tolist()}, has shape {np.shape(found[-1])}, not {expected}", z)
    return np.concatenate(found)


def answer_of(what, function, events, latents=None):
    """The answer of a batch, which may not raise: Found at the first event that raises alone, or at all of them."""
    try:
        return function(events)
    except Exception as error:
        alone = next((i for i in range(len(events)) if raises(function, events[i:i + 1])), None)
        whose = f"a batch of {len(events)} events" if alone is None else f"a batch of one event, {events[alone].tolist()},"
        found = Found(f"the {what} of {whose} raised {type(error).__name__}: {error}".splitlines()[0])
        if alone is not None:
            found.event = (events if latents is None else latents)[alone]
        raise found from error


def raises(function, events):
    try:
        function(events)
    except Exception:
        return True
    return False


@law("a batch of tails is the stack of its events")
def tails(box, p):
    """A batch in which every event lies far out has images and log-dets that are numbers, the same as when its events are alone."""
    if box.domain is not None:
        raise Skipped("the domain has ends")
    rng = np.random.default_rng(p.seed)
    far = rng.choice([-1.0, 1.0], p.z.shape) * rng.uniform(6, TAIL[box.precision], p.z.shape)
    q = BoxPoints(box, p.seed, p.z if p.given else far)
    answer_of("image", box.image, q.z)
    if np.isnan(q.x).any() and not outgrown(box, q):
        i = int(np.argwhere(np.isnan(q.x))[0][0])
        raise Found(f"the image at {q.z[i].tolist()} is {q.x[i].tolist()}", q.z[i])
    log_dets_are_numbers(q)
    same_alone(box, q)


@law("an empty batch is empty")
def empty(box, p):
    """No events have no images; their log-dets have shape (0,)."""
    x, log_det = box.answer(np.zeros((0, *box.event)))
    if x.shape[0] != 0 or p.scored and log_det is not None and log_det.shape[:1] != (0,):
        shape = "" if log_det is None else f", a log-det of {log_det.shape}"
        raise Found(f"an empty batch has an image of shape {x.shape}{shape}")


@law("padding changes nothing", "masked")
def padding(box, p):
    """Positions that a mask leaves out are not read: the others have the images of the shorter sequence, and the log-det."""
    T = box.event[-1]
    rng = np.random.default_rng(p.seed)
    lengths = rng.integers(1, T + 1, len(p.z))
    mask = np.arange(T) < lengths[:, None]
    inside = mask.reshape(len(p.z), *(1,) * (len(box.event) - 1), T)
    other = np.where(inside, p.z, rng.standard_normal(p.z.shape) * 3)
    x, log_det = masked_answer(box, p.z, mask)
    x_other, log_det_other = masked_answer(box, other, mask)
    changed = (np.where(inside, x, 0) != np.where(inside, x_other, 0)).reshape(len(p.z), -1).any(-1)
    if log_det is not None:
        changed |= log_det != log_det_other
    if changed.any():
        i = int(np.argmax(changed))
        raise Found(f"what stands after position {lengths[i]} of {p.z[i].tolist()} changes the image before it, or the log-det",
                    p.z[i])
    for n in np.unique(lengths):
        i = np.flatnonzero(lengths == n)
        short = BoxPoints(box_of_length(box, int(n)), p.seed, p.z[i][..., :n])
        U, usable = short.of_x
        padded = f"of a sequence of {n}, padded to {T},"
        short.held_to(f"the image {padded}", x[i][..., :n], short.x, 2 * ALLOWED * U, usable)
        if log_det is not None:
            U, usable = short.of_log_det
            short.held_to(f"the log-det {padded}", log_det[i], short.log_det, 2 * ALLOWED * U, usable)


def masked_answer(box, z, mask):
    answer = box.called(box.masked, box.given(z), mask_made(mask, box.library))
    return (as_numpy(first_of(answer)), as_numpy(answer[1])) if isinstance(answer, tuple) else (as_numpy(answer), None)


def box_of_length(box, n):
    """The same map of sequences of n positions, all of them valid."""
    def forward(z, *passed):
        return box.masked(z, mask_made(np.ones((len(z), n), bool), box.library), *passed)

    return replace(box, forward=forward, event=(*box.event[:-1], n), log_det=None)


# -- what a function may not do ---------------------------------------------------------------------------------------

@law("inputs are not written to")
def not_written(box, p):
    """A map changes neither its argument nor, in the inverse, its image."""
    for name, event in (("forward", p.z), ("inverse", p.x[p.finite] if box.inverse is not None else None)):
        if event is not None:
            given = box.given(event)
            before = as_numpy(given).copy()
            asked = box.called if name == "forward" else lambda *of: of_inverse(lambda _: box.called(*of), event)
            asked(getattr(box, name), given)
            if not np.array_equal(as_numpy(given), before, equal_nan=True):
                i = int(np.argmax((as_numpy(given) != before).reshape(len(before), -1).any(-1)))
                raise Found(f"{name} changed its argument {before[i].tolist()} to {as_numpy(given)[i].tolist()}", p.z[i])


@law("deterministic")
def deterministic(box, p):
    """The same call gives the same bits, whatever was called in between."""
    first, second = p.x, box.image(p.z)
    if not np.array_equal(first, second, equal_nan=True):
        i = int(np.argmax((first != second).reshape(len(first), -1).any(-1)))
        raise Found(f"forward of the same batch gave another image: at {p.z[i].tolist()}, {first[i].tolist()} and "
                    f"{second[i].tolist()}", p.z[i])


@law("finite")
def finite(box, p):
    """Images and log-dets of moderate latents are numbers, and infinite only where images have outgrown their dtype."""
    if not p.finite.all() and not outgrown(box, p):
        i = int(np.argmin(p.finite))
        raise Found(f"the image at {p.z[i].tolist()} is {p.x[i].tolist()}", p.z[i])
    log_dets_are_numbers(p)


def log_dets_are_numbers(p):
    """Where images are finite."""
    wrong = p.finite & ~np.isfinite(p.log_det) if p.scored else np.zeros(len(p.z), bool)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise Found(f"the log-det at {p.z[i].tolist()} is {p.log_det[i].tolist()}", p.z[i])


def outgrown(box, p):
    """Are all images that are not finite preceded, on the way to them, by images near the largest number?"""
    z, start = p.z[~p.finite], box.plain(1)
    low, high = np.zeros(len(z)), np.ones(len(z))

    def images(share):
        x = box.image(box.held(start + share.reshape(-1, *(1,) * len(box.event)) * (z - start)))
        return np.abs(x).reshape(len(x), -1)

    for _ in range(HALVINGS):
        middle = (low + high) / 2
        fine = np.isfinite(images(middle)).all(-1)
        low, high = np.where(fine, middle, low), np.where(fine, high, middle)
    last = images(low).max(-1)
    return bool((np.isfinite(last) & (last >= OUTGROWN * box.largest)).all())


@law("monotone")
def monotone(box, p):
    """A bijector of one number rises everywhere or falls everywhere."""
    model_laws.one_number(p)
    U, usable = p.of_x
    order = np.flatnonzero(usable)[np.argsort(p.z.ravel()[usable])]
    z, x, U = p.z.ravel()[order], p.x.ravel()[order], U.ravel()[order]
    steps, room = np.diff(x), ALLOWED * (U[1:] + U[:-1])
    if (steps > room).any() and (steps < -room).any():
        i = int(np.argmax(steps < -room)) if np.median(steps) > 0 else int(np.argmax(steps > room))
        raise Found("it rises and falls: "
                    + " and ".join(f"f({float(z[k])!r}) = {float(x[k])!r}" for k in (i, i + 1)))


@law("the image is in the codomain", "codomain")
def in_codomain(box, p):
    """Every image is a member of the codomain, or an end that it rounds to."""
    x, room = p.x.reshape(len(p.z), -1), ALLOWED * p.of_x[0]
    outside = (p.finite[:, None] & ((box.codomain.lower - x > room) | (x - box.codomain.upper > room))).any(-1)
    if outside.any():
        i = int(np.argmax(outside))
        raise Found(f"the image at {p.z[i].tolist()} is {p.x[i].tolist()}: it {box.codomain.rule}", p.z[i])


# -- parameters and gradients -----------------------------------------------------------------------------------------

@law("every parameter reaches the image", "log_det", "parameters")
def parameters_move(box, p):
    """A parameter that moves the log-det moves the image: the log-det is a function of the map."""
    values = [as_numpy(array).copy() for array in box.trained()]
    for k, value in enumerate(values):
        with box.moved([*values[:k], value + MOVE * np.maximum(np.abs(value), 1), *values[k + 1:]]):
            moved_x, moved_l = answers(box.image, p.z), answers(box.log_slope, p.z)
        if np.array_equal(moved_x, p.x, equal_nan=True) and not np.array_equal(moved_l, p.log_det, equal_nan=True):
            raise Found(f"parameter {k}, of shape {value.shape}, moves the log-det and not the image")


@law("all laws at moved parameters", "parameters")
def laws_at_moved_parameters(box, p):
    """Every law that holds at the given parameters holds at all others: what is initialised to 0 hides nothing."""
    rng = np.random.default_rng(p.seed)
    values = [as_numpy(array).copy() for array in box.trained()]
    sizes = [np.abs(v) if v.any() else np.ones_like(v) for v in values]
    moved = [v + MOVE * size * rng.uniform(0.5, 1, v.shape) * rng.choice([-1, 1], v.shape) for v, size in zip(values, sizes)]
    with box.moved(moved):
        if not np.isfinite(answers(box.image, box.plain(2))).all():
            raise Skipped("the parameters are not free: at moved ones, images are not numbers")
        q = BoxPoints(box, p.seed, p.z if p.given else None)
        broken = first_broken(box, q)
    if broken and holds(broken[0], box, p):
        raise Found(f"{broken[0]}: {told(broken[1])}, where every parameter is moved by an eighth at most",
                    getattr(broken[1], "event", None))


def first_broken(box, p):
    """(name, exception) of the first law that is broken, or None."""
    for name in (name for name in LAWS if name not in AS_GIVEN):
        with contextlib.suppress(Skipped):
            try:
                ask(name, box, p)
            except (Skipped, CannotRun):
                raise
            except Exception as found:
                return name, found
    return None


def holds(name, box, p):
    try:
        ask(name, box, p)
    except Skipped:
        return True
    except Exception:
        return False
    return True


@law("pullback is the gradient", "pullback", "log_det")
def gradient(box, p):
    """The pullback at (x_bar, l_bar) is the gradient of <x_bar, x> + <l_bar, log-det>, along a random direction."""
    if not RUNGS[box.precision]:
        raise Skipped(f"differences have no digits in {box.precision}")
    _, usable = p.of_log_det
    x_bar, l_bar = cotangents(p)
    z_bar, _ = box.gradients(p.z, x_bar, l_bar)
    # no step reaches 0, where maps have kinks, and none is large beside 1, the size at which they bend
    rng = np.random.default_rng(p.seed)
    direction = rng.uniform(0.5, 1, p.z.shape) * rng.choice([-1, 1], p.z.shape) * np.minimum(np.minimum(np.abs(p.z), 1), p.room)

    def loss(h):
        return losses(box, box.held(p.z + h * direction), x_bar, l_bar)

    best, e = differences(loss, p.u, RUNGS[box.precision])
    terms = (z_bar * direction).reshape(len(p.z), -1)
    bound = 10 * e + ALLOWED * p.u * np.abs(terms).sum(-1)
    usable = usable & (e <= DIFFERENCE * (1 + np.abs(best)))
    p.held_to("the gradient along a direction", terms.sum(-1), best, bound[:, None], usable)


@law("pullback is the gradient by the parameters", "pullback", "log_det", "parameters")
def parameter_gradient(box, p):
    """What the pullback says of the parameters is the gradient by them, along random directions of one array at a time."""
    if not RUNGS[box.precision]:
        raise Skipped(f"differences have no digits in {box.precision}")
    x_bar, l_bar = cotangents(p)
    marks = p.of_log_det[1] & (np.abs(p.z).reshape(len(p.z), -1).max(-1) <= 4)
    if not marks.any():
        raise Skipped("no point can be asked")
    z, x_bar, l_bar = p.z[marks], x_bar[marks], l_bar[marks]
    _, bars = box.gradients(z, x_bar, l_bar)
    values = [as_numpy(array).copy() for array in box.trained()]
    if not bars:
        raise Skipped("the pullback does not return the gradients of parameters")
    if [np.size(bar) for bar in bars] != [value.size for value in values]:
        raise Found(f"the gradients of the parameters have shapes {[np.shape(bar) for bar in bars]}, the parameters "
                    f"{[value.shape for value in values]}")
    rng = np.random.default_rng(p.seed)
    for k, (value, bar) in enumerate(zip(values, bars)):
        direction = rng.choice([-1.0, 1.0], value.shape) * np.where(value == 0, 1, np.abs(value))

        def loss(h, k=k, value=value, direction=direction):
            with box.moved([*values[:k], value + h * direction, *values[k + 1:]]):
                return tuple(np.sum(part, keepdims=True) for part in losses(box, z, x_bar, l_bar))

        best, e = differences(loss, p.u, RUNGS[box.precision])
        found, size = np.sum(bar.reshape(value.shape) * direction), np.sum(np.abs(bar.reshape(value.shape) * direction))
        bound = 10 * e[0] + ALLOWED * p.u * size * len(z)
        if e[0] <= DIFFERENCE * (1 + abs(best[0])) and not abs(found - best[0]) <= bound:
            raise Found(f"the gradient of parameter {k}, of shape {value.shape}, along a direction is {float(found)!r}, not "
                        f"{float(best[0])!r} +- {bound:.3g}")


def cotangents(p):
    rng = np.random.default_rng(p.seed)
    return rng.standard_normal(p.x.shape), rng.standard_normal(len(p.z))


def losses(box, z, x_bar, l_bar):
    """(<x_bar, x> + l_bar l, the sum of the sizes of its terms) of every event."""
    x, l = box.values(z)
    terms = (x_bar * x).reshape(len(z), -1)
    return terms.sum(-1) + l_bar * l, np.abs(terms).sum(-1) + np.abs(l_bar * l)


def differences(loss, u, rungs):
    """(derivative of loss(h) at h = 0, e), from two tables of steps."""
    def extrapolated(first):
        steps = first * 2.0 ** -np.arange(rungs)
        values = [(*loss(h), *loss(-h)) for h in steps]
        slopes = np.stack([(plus - minus) / (2 * h) for h, (plus, _, minus, _) in zip(steps, values)])
        return ridders(slopes, np.stack([4 * u * (a + b + 1) / h for h, (_, a, _, b) in zip(steps, values)]))

    return agreed(*map(extrapolated, FIRST_STEPS))


# -- the same map by other means --------------------------------------------------------------------------------------

@law("float64 agrees", "wider")
def wider(box, p):
    """The same code in float64 has the same images, log-dets and inverses, within what rounding in the narrow dtype explains.

    The float64 answers, spread by the narrow dtype's rounding, give the units: formulas that cancel do not excuse
    themselves.
    """
    if box.trained() and not box.wider.trained():
        raise Skipped("the box in float64 is given without its `parameters`, whose rounding is part of the unit")
    q = BoxPoints(box.wider, p.seed, p.z)
    q.E, q.u, q.quiet = p.E, p.u, True
    U_x, usable = q.of_x
    usable = usable & (np.abs(q.x) < OUTGROWN * box.largest).reshape(len(p.z), -1).all(-1)
    p.held_to("the image", p.x, q.x, ALLOWED * np.maximum(U_x, box.smallest), usable)
    if p.scored and q.scored:
        U, usable = q.of_log_det
        p.held_to("the log-det", p.log_det, q.log_det, ALLOWED * U, usable)
    if box.inverse is not None and box.wider.inverse is not None:
        x = box.held(p.x)
        U, narrow = q.of_inverse
        # an image that is rounded to the narrow dtype may leave a surface
        z = p.asked_where(lambda x: answers(box.wider.origin, x), x, p.finite)
        known = ~np.isnan(z.reshape(len(x), -1)).any(-1)
        z = np.broadcast_to(z.reshape(len(x), *z.shape[1:] or (1,) * len(box.event)), p.z.shape)
        p.held_to("the inverse", p.back[0], z, ALLOWED * U[:, :p.size], narrow & p.finite & known, at=x)


@law("compiled is eager", "compiled")
def compiled(box, p):
    """A compiled map is the map."""
    answer = box.called(box.compiled, box.given(p.z))
    U, usable = p.of_x
    p.held_to("the compiled image", as_numpy(first_of(answer)), p.x, 2 * ALLOWED * U, usable)
    if isinstance(answer, tuple) and p.scored:
        U, usable = p.of_log_det
        p.held_to("the compiled log-det", as_numpy(answer[1]), p.log_det, 2 * ALLOWED * U, usable)
