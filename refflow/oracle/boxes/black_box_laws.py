r"""The laws of a black box: theorems that any invertible map obeys, held to how far its own answers spread.

The first sentence of a law's docstring is its theorem; `black_box_points` derives the units of error.
"""

from __future__ import annotations

import contextlib
import functools
from dataclasses import replace
from itertools import zip_longest

import numpy as np

from ...accuracy.differences import balanced, ridders
from ...core.sets import real
from ...report import shortened
from ..asking.global_state import put_back
from ..asking.time_limits import asking, limited
from ..asking.whose import Defect, blame, theirs
from ..judging.asked import whole_of
from ..points.pages import CannotRun
from . import model_laws
from ..asking.arrays import NORMAL, UNITS, as_numpy, dtype_of, mask_made
from ..naming.of_laws import named
from .black_box import BlackBox, first_of, of_each
from .black_box_charts import Frame
from .black_box_ends import PRECISIONS, EndPoints, reversed_box
from .black_box_infinities import is_singular, not_outgrown, outgrown
from .black_box_kinks import neither_side, of_one_float
from .black_box_pieces import along_lines, hold_integrals, integrals, piece_by_piece, suspect_points, with_neighbours
from .black_box_points import ALLOWED, BoxPoints, answers, of_inverse, raised
from .lawbook import LAWS, NEEDS, SINCE, Found, Skipped, Verdict, Verdicts, law
from .making import made, use_of
from .simplest import simplest

__all__ = ["LAWS", "NEEDS", "SINCE", "BoxPoints", "Found", "Skipped", "Verdict", "has", "run_law", "verdict", "verdicts"]

RUNGS = {"float64": 14, "float32": 6, "float16": 0, "bfloat16": 0}
LONG = 400                              # characters of an event in a text
TAIL = {"float64": 38.0, "float32": 13.0, "float16": 9.0, "bfloat16": 9.0}
FIRST_STEPS = (2.0**-4, 2.0**-4 / 3)    # of two tables of differences: a kink betrays itself by their disagreement
DIFFERENCE = 1e-2                       # differences with a larger error of their own are rejected
SPECIAL = np.array([0.0, -0.0, 1.0, -1.0])
SPECIAL_ENTRIES = 3                     # of an event, which are special in turn
SHARP = 16                              # a jump of the log-det is a kink if the log-det moves by so much less beside it
ENTRIES = 2**24                         # of the difference quotients of all points
FARTHEST = 2.0**40                      # latents beyond it need not come back
LOST_LATENTS = 8                        # latents that are asked one by one
DOUBLINGS = 3                           # of the smallest step, at which second differences are compared
BENDS = 3 / 8                           # between 1/4, the ratio of second differences of a smooth map, and 1/2, at a jump
NEARBY = 2.0**-4                        # of the reach of an event: images there are other images, unless they have saturated
COLUMNS = 16                            # the most entries of an event of which gradients are asked one by one
MOVE = 0.125                            # of parameters
MULTIPLES = 1, 4, 10                    # of its size, by which an array of parameters is moved far
ARRAYS, TOGETHER = 8, 32                # that are moved far alone, and moves of all together
OF_A_SIGN = 4                           # points of each sign of a determinant that are looked at again
ALONE = 16                              # the most entries of parameters that are moved alone
STACK = "batch is the stack of singles"
AS_GIVEN = ("all laws at moved parameters", "every parameter reaches the image", "float64 agrees", "compiled is eager",
            "a loaded model is the saved one")      # laws that are asked at the given parameters alone


def run_law(name, box, seed=0, events=None):
    """Run one law on a box, at drawn latents or at `events`.  Raises Found if it is broken, Skipped if it cannot be asked."""
    with np.errstate(all="ignore"):
        ask(name, box, points_of(box, seed, events))


def ask(name, box, points):
    lacking = [what for what in NEEDS[name] if not has(box, what)]
    if lacking:
        raise Skipped(f"no `{lacking[0]}` is given")
    with asking(lambda: f"law `{name}`"):
        try:
            LAWS[name](box, points)
        except Exception as error:
            blame(error)
            raise


def verdicts(box, seed=0, time_limit=None) -> Verdicts:
    """One `Verdict` for each law, of a box or of a function of a seed that makes one.

    `time_limit`: the seconds that each answer may take.  CannotRun, a ValueError, for a box that cannot be asked, or is late.
    """
    with limited(time_limit), put_back(directory=True), np.errstate(all="ignore"):
        box = made(box, seed)
        points = points_of(box, seed)
        return Verdicts([verdict(name, box, seed, points) for name in LAWS], notes_of(box), range_of(points))


def range_of(p):
    """What was asked: the latents, and the set that they are drawn from."""
    lower, upper, whole = whole_of(p.box.domain)
    every = [p.z, *([] if p.ends is None else [p.ends.z])]
    return {"latents": sum(map(len, every)), "low": min(float(z.min()) for z in every), "high": max(float(z.max()) for z in every),
            "lower": lower, "upper": upper, "whole": whole}


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


def points_of(box, seed, events=None):
    """Moderate latents and, beside them, those at the ends; or `events`, with the units of both."""
    with use_of("at its first events, the box raised", None, box):
        return both_points(box, seed, events)


def both_points(box, seed, events):
    points = BoxPoints(box, seed, events)
    of_numbers = all(where.rank == 0 and where.alike and not where.thin for where in (box.domain or real, box.codomain or real))
    if box.precision in PRECISIONS and points.size and of_numbers:
        points.ends = EndPoints(box, seed, events)
    return points


def at_the_ends(ask):
    """A law that is asked at the ends, too; there, it is not skipped."""
    @functools.wraps(ask)
    def everywhere(box, p):
        skipped = None
        try:
            ask(box, p)
        except Skipped as reason:
            skipped = reason
        if p.ends is not None:
            with contextlib.suppress(Skipped):
                ask(box, p.ends)
        if skipped:
            raise skipped

    return everywhere


def verdict(name, box, seed=0, points=None):
    """The verdict of one law; a failure is told at the simplest event that shows it."""
    try:
        with np.errstate(all="ignore"):
            points = points_of(box, seed) if points is None else points
            points.asked = 0
            ask(name, box, points)
    except Skipped as reason:
        return Verdict(name, "skip", str(reason))
    except (CannotRun, Defect):
        raise
    except Exception as found:
        diagnosis = named(name, box, found)
        found = simplest(found, lambda events: failure(name, box, seed, events))
        return Verdict(name, "FAIL", told(found), points.asked, diagnosis, getattr(found, "places", None))
    return Verdict(name, "pass", "", points.asked or len(points.z))


def failure(name, box, seed, events):
    """The exception by which a law fails at some events of the domain, or None: a defect of refflow there shows nothing of the box.

    Of a batch of one event, whose images may not be numbers, the law of batches alone is asked then: it hides nothing else.
    """
    with np.errstate(all="ignore"):
        if len(events) == 1 and name != STACK and not answers_alone(box):
            return None
        members = events if box.dtype == "float64" else events.astype(np.float32)
        if not (box.domain or real).members(members, len(box.event)).all():
            return None
        with contextlib.suppress(Defect, CannotRun):
            return broken_by(name, box, points_of(box, seed, events))
        return None


def answers_alone(box):
    """Is the image of a batch of one event made of numbers, if the images of two events are?  The variance of one may be NaN."""
    return not np.isfinite(answers(box.image, box.plain(2))).all() or np.isfinite(answers(box.image, box.plain(1))).all()


def told(found):
    return shortened(str(found) if isinstance(found, Found) else f"raised {type(found).__name__}: {found}", LONG)


def has(box, what):
    """Does the box give a quantity?"""
    if what == "parameters":
        return bool(box.trained())
    if what == "log_det":
        return box.log_det is not None or isinstance(box.called(box.forward, box.given(box.plain(2))), tuple)
    if what == "inverse_log_det":
        x = box.image(box.plain(2))
        return box.inverse is not None and isinstance(of_inverse(lambda x: box.called(box.inverse, box.given(x)), x), tuple)
    if what == "smooth":
        return box.smooth
    if what == "latents":                   # z and log|det dz/dx| of data
        return has(box, "inverse_log_det" if box.direction == "forward" else "log_det")
    return getattr(box, what) is not None


# -- round trips ------------------------------------------------------------------------------------------------------

@law("inverse of forward", "inverse")
@at_the_ends
def inverse_of_forward(box, p):
    """The inverse of f(z) is z: a bijector has one latent for each image."""
    answer_of("inverse", box.origin, p.x[p.finite], p.z[p.finite])
    has_latents(box, p)
    round_trip(box, p, "inverse(forward(z))")
    if p.least == 0 and p.alone and not p.given:
        has_latents_everywhere(box, p)


def round_trip(box, p, what):
    U, usable = p.of_z
    p.held_to(what, p.back[0], p.z, ALLOWED * U, usable)


def has_latents(box, p):
    """The inverse of an image is a number, unless the image is an end to which others round: then images nearby are equal."""
    moderate = (np.abs(p.z).reshape(len(p.z), -1) <= FARTHEST).all(-1)
    if box.codomain is not None and box.codomain.rank:
        x = images_as_given(p)
        inside, closed = (~marks(x).reshape(len(x), -1).any(-1) for marks in (box.codomain.outside, box.codomain.outside_closed))
        moderate &= inside | ~closed
    for i in np.flatnonzero(p.finite & moderate & ~np.isfinite(p.back[0].reshape(len(p.z), -1)).all(-1)):
        frame = Frame(box.domain, p.z[i:i + 1])
        move = np.eye(frame.dimensions)[:, None, :] * frame.steps(np.minimum(NEARBY * p.reach[i], p.room[i] / 2))
        images = answers(box.image, box.held(np.concatenate((frame.moved(move), frame.moved(-move)))[:, 0]))
        if (images != p.x[i]).reshape(len(images), -1).any(-1).all():
            raise Found(f"the inverse at {p.x[i].tolist()}, the image of {p.z[i].tolist()}, is {p.back[0][i].tolist()}", p.z[i])


def has_latents_everywhere(box, p):
    """The same of many more images in every piece of the domain: a discriminant may be negative at few of them."""
    z = p.dense()
    lost = np.isfinite(p.images(z)) & np.isnan(answers(box.origin, box.held(p.images(z)).reshape(-1, *box.event)).ravel())
    if lost.any():
        has_latents(box, BoxPoints(box, p.seed, z[lost][:LOST_LATENTS]))


@law("forward of inverse", "inverse")
def forward_of_inverse(box, p):
    """f of the inverse of x is x: every x of the codomain has a latent.

    x is an image or, if a codomain is declared, also any member of it.
    """
    at_the_ends(images_return)(box, p)
    if box.codomain is not None and not p.given:
        onto(box, p)
        if p.ends is not None:
            back = reversed_box(box, p.x.shape[1:])
            q = EndPoints(back, p.seed)
            try:
                numbers_or_outgrown(back, q, "latent")
                round_trip(back, q, "forward(inverse(x))")
            except Skipped:
                pass
            except Found as found:
                raise found.of_the_inverse() from None


def images_return(box, p):
    U_x, _ = p.of_x
    U_z, usable = p.of_z
    marks = usable.reshape(-1, *(1,) * len(box.event))
    moved = p.spread(box.image, p.z, np.where(marks, ALLOWED * U_z.reshape(p.z.shape), 0))
    z = np.where(marks, p.back[0], p.z)
    p.held_to("forward(inverse(x))", box.image(box.held(z)), p.x, ALLOWED * U_x + moved, usable, at=p.x)


def onto(box, p):
    """Drawn members of the codomain have latents."""
    drawn = BoxPoints(box_of_members(box, p.x.shape[1:] if box.codomain.rank else box.event), p.seed)
    x = drawn.z.reshape(len(drawn.z), *p.x.shape[1:]) if drawn.z[0].size == p.x[0].size else p.x
    z = answers(box.origin, x)
    if not np.isfinite(z).all():
        i = int(np.argwhere(~np.isfinite(z))[0][0])
        raise Found(f"the inverse at {x[i].tolist()}, which is in the codomain, is {z[i].tolist()}", images=x[i:i + 1])
    q = BoxPoints(box, p.seed, z)
    U_x, usable = q.of_x
    U_z, narrow = q.of_z
    moved = q.spread(box.image, q.z, np.where(np.isfinite(U_z), ALLOWED * U_z, 0).reshape(q.z.shape))
    q.held_to("forward(inverse(x))", q.x, x, ALLOWED * U_x + moved, usable & narrow, at=x)


def box_of_members(box, event):
    """A box whose points are members of the codomain of another one."""
    return BlackBox(lambda x: x, event=event, domain=box.codomain, dtype=box.dtype, backend=box.backend)


# -- log-dets ---------------------------------------------------------------------------------------------------------

@law("log-det is the determinant of differences", "log_det")
@at_the_ends
def determinant(box, p):
    """log|det| of the Jacobian, by central differences and Ridders' extrapolation, is the log-det; det has one sign."""
    if not RUNGS[box.precision]:
        raise Skipped(f"differences have no digits in {box.precision}")
    square(p)
    if p.least == 0:
        at_dense_points(box, p)
        return
    if p.ends is not None and p.scored and not p.given:
        between_neighbours(box, p)
        of_one_side(box, p)
    p = fewer(p, ENTRIES // (RUNGS[box.precision] * p.size**2))
    found, bound, usable, signs = by_differences(box, p)
    p.held_to("log-det", p.log_det, found, bound, usable, but="and of differences of forward")
    if not p.structured and p.size > 1:
        unfolded(p, signs, usable)


def by_differences(box, p):
    """(log|det| of differences, its bound, marks of the points that can be asked, the sign of det or None)."""
    U, usable = p.of_log_det
    of_steps = determinant_in_coordinates if p.structured else determinant_of_differences
    (one, signs), (other, _) = (of_steps(box, p, h) for h in FIRST_STEPS)
    found, e = agreed(one, other)
    usable = usable & (e <= DIFFERENCE) & np.isfinite(found) & ~kinked(box, p)
    return found, 10 * e[:, None] + ALLOWED * U, usable, signs


def at_dense_points(box, p):
    """Where moderate latents do not come: an event of several numbers is asked at many more points."""
    if p.given or not p.scored or p.alone:
        return
    q = suspect_points(box, p)
    if q is not None:
        found, bound, usable, _ = by_differences(box, q)
        wrong = usable & (np.abs(q.log_det - found) > bound[:, 0])
        q.held_to("log-det", q.log_det, found, bound, with_neighbours(wrong), but="and of differences of forward")


def unfolded(p, signs, usable):
    """The determinant of a bijector of a connected set has one sign; its logarithm does not tell.  Of one number, see `monotone`."""
    up, down = (p.z[usable & (signs == sign)] for sign in (1, -1))
    if len(up) and len(down):
        raise Found(f"it folds space: the determinant of differences is positive at {up[0].tolist()} and negative at {down[0].tolist()}",
                    latents=np.stack((up[0], down[0])))


def between_neighbours(box, p):
    """Where one entry is 0, -0 or +-1, at which formulas have special cases, the log-det lies between its neighbours'.

    At a kink it is one of these two, of the side that the pullback takes there, and at 0 the inverse.
    """
    step = 4 * p.E * p.u
    events = special_events(p, step * np.array([-2.0, -1.0, 0.0, 1.0, 2.0]))
    if not len(events):
        return
    l = answers(box.log_slope, events.reshape(-1, *box.event)).reshape(-1, 5)
    at, here, left, right = events[:, 2], l[:, 2], l[:, 1], l[:, 3]
    room = ALLOWED * p.u * (p.size + np.abs(here)) + np.abs(l[:, 0] - left) + np.abs(l[:, 4] - right)
    low, high = np.minimum(left, right) - room, np.maximum(left, right) + room
    jump = np.where(np.abs(right - left) > SHARP * room, np.abs(right - left), np.inf)
    neither = np.minimum(np.abs(here - left), np.abs(here - right)) > jump / SHARP
    wrong = (here < low) | (here > high) | neither
    if wrong.any():
        i = int(np.argmax(wrong))
        raise Found(f"the log-det at {at[i].tolist()} is {float(here[i])!r}, and at its neighbours {float(left[i])!r} and "
                    f"{float(right[i])!r}", at[i])
    one_side_at_kinks(box, p, at[jump < np.inf], here[jump < np.inf], jump[jump < np.inf])


def of_one_side(box, p):
    """At the floats of kinks that are found behind other stages, the log-det is that of one of their sides.

    Roundings move an inner value from one side to the other: the pullback and the inverse may take either.
    """
    found = None if p.structured else neither_side(box, p)
    if found is not None:
        event, here, left, right = found
        raise Found(f"the log-det at {event.tolist()} is {here!r}, and at its neighbours {left!r} and {right!r}", event)


def special_events(p, steps):
    """Moderate events one of whose first entries is a special number, and their neighbours inside the domain: (n, steps, *event)."""
    numbers = np.where(steps == 0, SPECIAL[:, None], SPECIAL[:, None] + steps)          # -0 + 0 is 0
    numbers = numbers[~p.ends.where_outside(numbers).any(-1)]
    entries = np.arange(min(p.size, SPECIAL_ENTRIES))
    events = np.tile(p.z[len(p.z) // 2].ravel(), (len(entries), *numbers.shape, 1))
    events[entries, :, :, entries] = numbers
    return p.box.held(events).reshape(len(entries) * len(numbers), len(steps), *p.box.event)


def one_side_at_kinks(box, p, at, l, jump):
    """The pullback and, at 0, the inverse take the side of the log-det."""
    found = {}
    if box.pullback is not None and p.size <= COLUMNS and len(at):
        found["of the gradient"] = log_abs_det(jacobian(box, p, at))[0]
    if len(at) and has(box, "inverse_log_det"):
        found["of the inverse, with the other sign,"] = np.where(is_special_of_inverse(box, at, jump), -back_at(box, at), l)
    for whose, other in found.items():
        wrong = np.abs(other - l) > jump / SHARP
        if wrong.any():
            i = int(np.argmax(wrong))
            raise Found(f"at {at[i].tolist()} slopes on two sides meet: the log-det is {float(l[i])!r}, and that {whose} is "
                        f"{float(other[i])!r}", at[i])


def back_at(box, z):
    """The log-dets of the inverse at the images of z."""
    return answers(lambda x: of_inverse(box.answer_back, x)[1], box.image(z))


def is_special_of_inverse(box, at, jump):
    """Marks of the events, one entry of which is 0, that come back with their signs, and where the inverse has its kink too.

    The least numbers beside 0 are on two sides.
    """
    tiny, back = NORMAL[box.precision], answers(lambda x: of_inverse(box.answer_back, x)[0], box.image(at)).reshape(at.shape)
    same = (back == at) & (np.signbit(back) == np.signbit(at)) | (at != 0)
    beside = [box.held(np.where(at == 0, way * tiny, at)) for way in (-1, 1)]
    here = [answers(box.log_slope, z) for z in beside]
    apart = np.abs(here[0] - here[1]) > jump / 2
    return np.all([apart, same.reshape(len(at), -1).all(-1), *(np.abs(back_at(box, z) + there) < jump / SHARP for z, there in zip(beside, here))], 0)


def fewer(p, count):
    """At most `count` of the points; Skipped if that is none."""
    if count < 1:
        raise Skipped(f"the Jacobian has {p.size**2} entries")
    return p if len(p.z) <= count else BoxPoints(p.box, p.seed, p.z[::len(p.z) // count + 1])


def square(p):
    if p.structured and p.frame.dimensions != p.frame_of_images.dimensions:
        raise Skipped(f"events have {p.frame.dimensions} coordinates, images {p.frame_of_images.dimensions}")
    if not p.structured and p.x[0].size != p.size:
        raise Skipped("events and images have different numbers of entries")


def kinked(box, p):
    """Marks of the points near which slopes jump: second differences at steps h, 2 h, 4 h and 8 h, from the smallest h on.

    Where a map is smooth, each is a quarter of the next.  A jump at a distance up to h adds a multiple of the step minus the
    distance, so that the last is about twice the one before.  All central differences may agree there on a mean of two slopes.
    """
    if p.structured:
        return np.zeros(len(p.z), bool)
    h = FIRST_STEPS[0] * 2.0 ** (1 - RUNGS[box.precision])
    move = np.eye(p.size)[None, :, :] * h * p.reach.reshape(len(p.z), -1)[:, None, :]
    z, x = p.z.reshape(len(p.z), 1, -1), p.x.reshape(len(p.z), 1, -1)

    def second(step):
        plus, minus = (box.image(box.held((z + side * step * move).reshape(-1, *box.event))) for side in (1, -1))
        return np.abs(plus.reshape(*move.shape[:2], -1) - 2 * x + minus.reshape(*move.shape[:2], -1))

    return jumps([second(2.0**k) for k in range(DOUBLINGS + 1)], 4 * p.of_x[0][:, None, :]).any((1, 2))


def jumps(second, rounding):
    """Does a slope jump, where second differences at steps h, 2 h, 4 h, ... do not fall as h^2?"""
    return np.any([near > BENDS * far + rounding for near, far in zip(second, second[1:])], 0)


def agreed(one, other):
    """One of two extrapolations (value, e), whose error is the larger of both and of their difference."""
    return one[0], np.maximum(np.maximum(one[1], other[1]), np.abs(one[0] - other[0]))


def determinant_of_differences(box, p, h):
    """((log|det J|, e), the sign of det J or 0 where steps disagree) at every point."""
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
    return ridders(np.where(sign != 0, log_det, np.nan), rounding), np.where((sign == sign[0]).all(0), sign[0], 0)


def determinant_in_coordinates(box, p, h):
    """((log|det|, e), None) at every point of the derivative of coordinates of x by coordinates of z, where a set is structured."""
    frame, n = p.frame, p.frame.dimensions
    steps = h * 2.0 ** -np.arange(RUNGS[box.precision])
    move = np.eye(n)[:, None, :] * steps[:, None, None, None] * frame.steps(p.reach)
    plus, minus = (box.held(frame.moved(side * move)) for side in (1, -1))
    values = [answers(box.image, v.reshape(-1, *box.event)).reshape(*move.shape[:3], -1) for v in (plus, minus)]
    widths = frame.coordinates((plus - minus).reshape(*move.shape[:3], -1)).swapaxes(1, 2)
    changes = p.frame_of_images.coordinates(values[0] - values[1]).swapaxes(1, 2)
    known = np.maximum(p.u * np.maximum(*map(np.abs, values)), np.where(np.isfinite(p.of_x[0]), p.of_x[0], 0))
    moved = (np.abs(p.frame_of_images.C).mT @ known[..., None])[..., 0].swapaxes(1, 2)
    sign, log_det = np.linalg.slogdet(np.where(np.isfinite(changes), changes, 0))
    inverse = np.linalg.inv(np.where((sign != 0)[..., None, None], changes, np.eye(n)))
    rounding = 2 * (np.abs(inverse.mT) * moved).sum((-2, -1))
    return ridders(np.where(sign != 0, log_det - np.linalg.slogdet(widths)[1], np.nan), rounding), None


@law("log-det is the determinant of the gradient", "log_det", "pullback")
def determinant_of_gradient(box, p):
    """log|det| of the Jacobian, row by row from the pullback, is the log-det."""
    square(p)
    if p.size > COLUMNS:
        raise Skipped(f"events have more than {COLUMNS} entries")
    U, usable = p.of_log_det

    def log_det(z):
        return log_abs_det(jacobian(box, p, z))[0]

    J = jacobian(box, p, p.z)
    found, rounding = log_abs_det(J)
    own = p.u * (np.abs(found) + p.size)[:, None]
    U_j = raised(own + p.spread(log_det, p.z, p.E * p.u * p.delta) / p.E, p.noise(log_det), np.inf)
    bound = ALLOWED * (U + U_j + p.u * rounding[:, None])
    p.held_to("log-det", p.log_det, found, bound, usable & resolved(p, J) & np.isfinite(bound[:, 0]) & np.isfinite(found))


def jacobian(box, p, z):
    """The Jacobian, row by row from the pullback; in coordinates, where a set is structured."""
    shape = (len(z), *p.x.shape[1:])
    unit = np.eye(p.x[0].size).reshape(-1, *p.x.shape[1:])
    bars = [box.gradients(z, np.broadcast_to(one, shape), np.zeros(len(z)))[0] for one in unit]
    J = np.stack([bar.reshape(len(z), -1) for bar in bars], 1)
    return Frame(box.codomain, box.image(z)).C.mT @ J @ Frame(box.domain, z).F if p.structured else J


def resolved(p, J):
    """Marks of the points whose slopes are normal numbers and move the images by roundings in the steps of N.

    Where a map has saturated, N does not see the noise of its slope.
    """
    if p.structured:
        steps = p.frame.steps(p.delta) * np.sqrt(p.u) / 128
        # an entry that is a root of 1 less squares has the rounding of 1
        x = np.maximum(np.abs(p.x).reshape(len(J), -1, 1), float(p.frame_of_images.curved))
        sign = np.linalg.slogdet(np.where(np.isfinite(J), J, 0))[0]
        inverse = np.linalg.inv(np.where((sign != 0)[:, None, None], J, np.eye(J.shape[-1])))
        rounded = (np.abs(inverse) @ (np.abs(p.frame_of_images.C).mT @ x))[..., 0]
        return (sign != 0) & (steps >= 4 * p.u * rounded).all(-1)
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
@at_the_ends
def integral(box, p):
    """f(b) - f(a) is the integral of exp(log-det) from a to b, up to its sign: the fundamental theorem of calculus.

    Pieces of the whole domain are asked, too.  Of several numbers, an entry is asked that moves one entry of the image alone.
    """
    if p.size > 1 and p.ends is not None and not p.given and p.scored:
        p.asked = along_lines(box, p.ends)
        if not p.asked:
            raise Skipped("no entry moves one entry of the image alone")
        return
    model_laws.one_number(p)
    left, right = p.intervals()
    p.asked = hold_integrals(box, p, left, right, integrals(box, p, left, right, p.rough))
    if p.least == 0 and not p.given:
        piece_by_piece(box, p)


@law("inverse log-det is minus log-det", "inverse", "log_det", "inverse_log_det")
@at_the_ends
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
@at_the_ends
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
        x = p.x[p.finite]
        given = np.shape(of_inverse(box.answer_back, x)[1])
        if given != (len(x),):
            raise Found(f"the log-det of the inverse, of a batch of {len(x)} images, has shape {given}")
    if not has(box, "log_det"):
        return
    given = box.log_slope(p.z)
    if np.shape(given) != (len(p.z),):
        raise Found(f"the log-det of a batch of {len(p.z)} events of shape {box.event} has shape {np.shape(given)}"
                    f"{shape_of_terms(box, p, given)}")


def shape_of_terms(box, p, given):
    """What is wrong with the shape: a sum over the event that is missing, wholly or in part, an axis, or the batch; and with its sum."""
    size = int(np.prod(np.shape(given)[1:]))
    if np.shape(given)[:1] != (len(p.z),):
        return ": one number for the batch" if np.size(given) == 1 else ""
    text = ": an axis is left behind the batch" if size == 1 else ": it is not summed over the event"
    law, summed = "log-det is the determinant of differences", replace(box, forward=lambda *given: with_sum(box, given), log_det=None)
    try:
        ask(law, summed, BoxPoints(summed, p.seed, p.z))
    except Found as found:
        mistake = named(law, summed, found)
        return f"{text}, and its {'value' if size == 1 else 'sum'} is wrong, too" + (f": {mistake}" if mistake else "")
    except Exception:
        return text
    return text + (", and its sum is right" if size > 1 else "")


def with_sum(box, given):
    """(image, the sum over the event of what stands for its log-det)."""
    answer = theirs(box.forward, *given)
    terms = as_numpy(answer[1] if box.log_det is None else theirs(box.log_det, *given))
    return first_of(answer), terms.reshape(len(terms), -1).sum(-1)


# -- batches ----------------------------------------------------------------------------------------------------------

@law(STACK)
@at_the_ends
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
    except Found:
        raise
    except Exception as error:
        blame(error)
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
    if np.isnan(q.x).any():
        numbers_or_outgrown(box, q, "image")
    log_dets_are_numbers(q)
    if answers_alone(box):
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
        return theirs(box.masked, z, mask_made(np.ones((len(z), n), bool), box.library), *passed)

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
@at_the_ends
def finite(box, p):
    """Images and log-dets are numbers, and infinite only where they outgrow their dtype, or log-dets where slopes are 0 or infinite.

    `black_box_infinities` says when an infinity is the truth.
    The log-det of an image that has underflowed is not asked.
    """
    numbers_or_outgrown(box, p, "image")
    log_dets_are_numbers(p)
    at_kinks = of_one_float(box, p) if p.ends is not None and p.scored and not p.given and not p.structured else None
    if at_kinks is not None:
        log_dets_are_numbers(at_kinks)


def numbers_or_outgrown(box, p, what):
    """Every image is finite, or all that are not are preceded by images near the largest number."""
    wrong = not_outgrown(box.image, p, ~p.finite)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise Found(f"the {what} at {p.z[i].tolist()} is {p.x[i].tolist()}", p.z[i])


def log_dets_are_numbers(p):
    """Where images are finite and, at the ends, have not underflowed; infinite log-dets may have outgrown their dtype, or be the truth."""
    wrong = p.finite & ~np.isfinite(p.log_det) if p.scored else np.zeros(len(p.z), bool)
    if p.least == 0:
        wrong &= (np.abs(p.x) >= NORMAL[p.box.precision]).reshape(len(p.z), -1).all(-1)
    if wrong.any():
        wrong &= np.isnan(p.log_det) | not_outgrown(p.box.log_slope, p, wrong)
    i = next((i for i in np.flatnonzero(wrong) if np.isnan(p.log_det[i]) or not is_singular(p, i)), None)
    if i is not None:
        raise Found(f"the log-det at {p.z[i].tolist()} is {p.log_det[i].tolist()}", p.z[i])


@law("monotone")
@at_the_ends
def monotone(box, p):
    """A bijector of one number rises everywhere or falls everywhere."""
    model_laws.one_number(p)
    model_laws.connected(p)
    U, usable = p.of_x
    order = np.flatnonzero(usable)[np.argsort(p.z.ravel()[usable])]
    z, x, U = p.z.ravel()[order], p.x.ravel()[order], U.ravel()[order]
    steps, room = np.diff(x), ALLOWED * (U[1:] + U[:-1])
    if (steps > room).any() and (steps < -room).any():
        i = int(np.argmax(steps < -room)) if np.median(steps) > 0 else int(np.argmax(steps > room))
        raise Found("it rises and falls: " + " and ".join(f"f({float(z[k])!r}) = {float(x[k])!r}" for k in (i, i + 1)),
                    latents=z[i:i + 2].reshape(-1, *box.event))
    if p.least == 0 and len(steps):
        turns_back(box, p, np.median(steps) > 0)


def turns_back(box, p, rises):
    """At a place, no image jumps against the others by more than its unit and what its neighbours on one side show."""
    a, b, jump, beside = p.jumps(lambda z: answers(box.image, z))
    if not len(a):
        return
    sides = [type(p)(box, p.seed, at.reshape(-1, *box.event)).unit_away(way) for at, way in ((a, -1), (b, 1))]
    wrong = (jump if not rises else -jump) > ALLOWED * (sum(sides) + beside)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise Found(f"it {'rises' if rises else 'falls'}, and jumps back by {abs(jump[i]):.3g} from {float(a[i])!r} to {float(b[i])!r}",
                    np.full(box.event, a[i]), latents=np.reshape((a[i], b[i]), (-1, *box.event)))


@law("the slope does not jump", "smooth", "log_det")
def smooth(box, p):
    """The log-det of a map that is declared smooth is the same on both sides of every latent.

    It is halved along lines, where it bends most; a jump stays as large as it was, and a slope does not.
    """
    if p.ends is None:
        raise Skipped("the ends are not asked")
    at, jump, beside, l = p.ends.jumps_along_lines()
    room = ALLOWED * (p.u * (p.size + np.abs(l)) + beside)
    wrong = np.abs(jump) > room
    p.asked = len(at)
    if wrong.any():
        i = int(np.argmax(np.where(wrong, np.abs(jump), 0)))
        raise Found(f"the log-det jumps by {float(jump[i])!r}, at {at[i].tolist()}")


@law("the image is in the codomain", "codomain")
@at_the_ends
def in_codomain(box, p):
    """Every image is a member of the codomain, or an end that it rounds to."""
    x, room = p.x.reshape(len(p.z), -1), ALLOWED * p.of_x[0]
    if box.codomain.rank:
        outside = p.finite & not_members(box, p)
    else:
        outside = (p.finite[:, None] & ((box.codomain.lower - x > room) | (x - box.codomain.upper > room))).any(-1)
    if outside.any():
        i = int(np.argmax(outside))
        raise Found(f"the image at {p.z[i].tolist()} is {p.x[i].tolist()}: it {box.codomain.rule}", p.z[i])


def images_as_given(p):
    """In a dtype whose rounding explains what is left of equations."""
    return p.x if p.box.precision == "float64" else p.x.astype(np.float32)


def not_members(box, p):
    """Marks of the images that miss an equation of the codomain by more than 16 D u of its terms, or one of its inequalities."""
    where, x = box.codomain, images_as_given(p)
    outside, missed = where.outside_closed(x), np.zeros(len(x), bool)
    if where.equations is not None:
        left, bound = (part.reshape(len(x), -1) for part in np.broadcast_arrays(*where.equations(x)))
        missed = (left > 4 * bound).any(-1)
        outside = outside & (left <= bound).all(-1)
    return (outside if outside.ndim == 1 else outside.reshape(len(x), -1).any(-1)) | missed


# -- parameters and gradients -----------------------------------------------------------------------------------------

@law("every parameter reaches the image", "log_det", "parameters")
def parameters_move(box, p):
    """A parameter that moves the log-det by more than its unit moves the image: the log-det is a function of the map.

    Arrays are moved as a whole, and some of their entries alone.  What is added to all entries of a softmax moves roundings alone.
    """
    U, usable = p.of_log_det
    values = [as_numpy(array).copy() for array in box.trained()]
    for k, index in [*((k, ...) for k in range(len(values))), *entries_alone(values, p.seed)]:
        moved = values[k].copy()
        moved[index] += MOVE * np.maximum(np.abs(moved[index]), 1)
        with box.moved([*values[:k], moved, *values[k + 1:]]):
            moved_x, moved_l = answers(box.image, p.z), answers(box.log_slope, p.z)
        if np.array_equal(moved_x, p.x, equal_nan=True) and (usable & (np.abs(moved_l - p.log_det) > 2 * ALLOWED * U[:, 0])).any():
            raise Found(f"{entry_named(k, values[k], index)} moves the log-det and not the image")


def entries_alone(values, seed):
    """[(number of an array, index)]: entries of arrays that have several, drawn in turn from each; at most `ALONE` in all."""
    rng = np.random.default_rng(seed)
    orders = [[(k, np.unravel_index(i, value.shape)) for i in rng.permutation(value.size)[:ALONE]]
              for k, value in enumerate(values) if value.size > 1]
    return [entry for turn in zip_longest(*orders) for entry in turn if entry is not None][:ALONE]


def entry_named(k, value, index):
    entry = "" if index is ... else f"entry {tuple(map(int, index))} of "
    return f"{entry}parameter {k}, of shape {value.shape},"


@law("all laws at moved parameters", "parameters")
def laws_at_moved_parameters(box, p):
    """Every law that holds at the given parameters holds at all others: what is initialised to 0 hides nothing.

    A law that is broken at the given parameters hides none of the others.  Far from the given parameters it is asked only whether
    the map is a bijection.
    """
    rng = np.random.default_rng(p.seed)
    values = [as_numpy(array).copy() for array in box.trained()]
    sizes = [np.abs(v) if v.any() else np.ones_like(v) for v in values]
    moved = [v + MOVE * size * rng.uniform(0.5, 1, v.shape) * rng.choice([-1, 1], v.shape) for v, size in zip(values, sizes)]
    with box.moved(moved):
        if not np.isfinite(answers(box.image, box.plain(2))).all():
            raise Skipped("the parameters are not free: at moved ones, images are not numbers")
        q = BoxPoints(box, p.seed, p.z if p.given else None)
        broken = {name: found for name in LAWS if name not in AS_GIVEN and (found := broken_by(name, box, q))}
    new = {name: found for name, found in broken.items() if not broken_by(name, box, p)}
    if new:
        raise Found("; ".join(f"{name}: {told(found)}" for name, found in new.items())
                    + ", where every parameter is moved by an eighth at most", getattr(next(iter(new.values())), "event", None))
    a_bijection_far_away(box, p, values)


def a_bijection_far_away(box, p, values):
    """Arrays of parameters are moved by several times their size, alone and together; nowhere does that fold space."""
    if not_injective(box, p):
        return                              # as other laws show
    for words, moved in far_moves(values, np.random.default_rng(p.seed)):
        with box.moved(moved):
            found = not_injective(box, p)
        if found:
            raise Found(f"no bijection at other parameters, {words}: {told(found)}", latents=found.latents)


def far_moves(values, rng):
    """(words, all arrays) of each move: one array by a multiple of itself; all of them, with a sign for each entry.

    What is 0 is moved as if it were +-1.
    """
    sizes = [value if value.any() else rng.choice([-1.0, 1.0], value.shape) for value in values]
    factors = [way * factor for factor in MULTIPLES for way in (1.0, -1.0)]
    for k in sorted(rng.permutation(len(values))[:ARRAYS]):
        for factor in factors:
            moved = [value + factor * size * (i == k) for i, (value, size) in enumerate(zip(values, sizes))]
            yield f"parameter {k}, of shape {values[k].shape}, moved by {factor:g} times its size", moved
    for _ in range(TOGETHER if len(values) > 1 else 0):
        drawn = rng.choice(MULTIPLES, len(values))
        yield (f"the parameters moved by {', '.join(f'{factor:g}' for factor in drawn[:ARRAYS])} times their sizes, up or down",
               [value + factor * size * rng.choice([-1.0, 1.0], value.shape) for factor, value, size in zip(drawn, values, sizes)])


def not_injective(box, p):
    """What shows that a map is not injective, or None: determinants of both signs; of many entries, two latents of one image."""
    z = p.z[::2]
    x = answers(box.image, z)
    if not np.isfinite(x).all() or not RUNGS[box.precision]:
        return None
    if p.size <= COLUMNS and not p.structured and x[0].size == p.size:
        return folded(box, p, z)
    return None if box.inverse is None or p.structured else two_latents(box, z, x)


def folded(box, p, z):
    """Found if determinants have both signs by one difference and, where they do, by extrapolation too."""
    h = np.cbrt(p.u) * np.maximum(np.abs(z), 1).reshape(len(z), 1, -1) * np.eye(p.size)
    plus, minus = (answers(box.image, box.held((z.reshape(len(z), 1, -1) + way * h).reshape(-1, *box.event))) for way in (1, -1))
    J = (plus - minus).reshape(len(z), p.size, p.size)
    signs = np.linalg.slogdet(np.where(np.isfinite(J).all((1, 2), keepdims=True), J, 0))[0]
    chosen = np.concatenate([np.flatnonzero(signs == sign)[:OF_A_SIGN] for sign in (1, -1)])
    if len(set(signs[chosen])) < 2:
        return None
    q = BoxPoints(box, p.seed, z[chosen])
    (one, signs), (other, _) = (determinant_of_differences(box, q, h) for h in FIRST_STEPS)
    found, e = agreed(one, other)
    try:
        unfolded(q, signs, q.of_x[1] & (e <= DIFFERENCE) & np.isfinite(found) & ~kinked(box, q))
    except Found as shown:
        return shown
    return None


def two_latents(box, z, x):
    """Found if the inverse leads to other latents of the same images, and latents between them have other images."""
    other = answers(lambda x: of_inverse(box.origin, x), x)
    if other.size != z.size:
        return None                         # it refuses all of them
    other = other.reshape(z.shape)
    inside = np.isfinite(other).reshape(len(z), -1).all(-1) & (box.domain or real).members(other, len(box.event))
    other = box.held(np.where(inside.reshape(-1, *(1,) * len(box.event)), other, z))
    there, between = (answers(box.image, box.held(at)).reshape(len(z), -1) for at in (other, (z + other) / 2))
    here, size = x.reshape(len(z), -1), np.abs(x).reshape(len(z), -1).max(-1)
    same = np.abs(there - here).max(-1) <= ALLOWED * box.unit * size
    apart = (np.abs(other - z).reshape(len(z), -1).max(-1) > NEARBY) & (np.abs(between - here).max(-1) > NEARBY * size)
    if (same & apart).any():
        i = int(np.argmax(same & apart))
        return Found("two latents have one image, and latents between them another", latents=np.stack((z[i], other[i])))
    return None


def broken_by(name, box, p):
    """The exception by which a law fails, or None."""
    try:
        ask(name, box, p)
    except Skipped:
        return None
    except (CannotRun, Defect):
        raise
    except Exception as found:
        return found


@law("pullback is the gradient", "pullback", "log_det")
def gradient(box, p):
    """The pullback at (x_bar, l_bar) is the gradient of <x_bar, x> + <l_bar, log-det>, along a random direction."""
    if not RUNGS[box.precision]:
        raise Skipped(f"differences have no digits in {box.precision}")
    (U, _, _), (_, usable) = p.of_forward, p.of_log_det
    x_bar, l_bar = cotangents(p)
    z_bar, _ = box.gradients(p.z, x_bar, l_bar)
    # no step reaches 0, where maps have kinks, and none is large beside 1, the size at which they bend
    rng = np.random.default_rng(p.seed)
    signs = rng.uniform(0.5, 1, p.z.shape) * rng.choice([-1, 1], p.z.shape)
    tied = box.domain is not None and box.domain.rank
    if tied:
        t = signs.reshape(len(p.z), -1)[:, :p.frame.dimensions] * p.frame.steps(np.minimum(p.room, 1))
        direction = (p.frame.F @ t[..., None]).reshape(p.z.shape)
    else:
        direction = signs * np.minimum(np.minimum(np.abs(p.z), 1), p.room)
        t = direction.reshape(len(p.z), -1)

    # steps may be small beside the rounding of z, and images noisier than their sizes say
    noise = unit_of_loss(U, x_bar, l_bar)
    rounded = np.abs(z_bar * p.z).reshape(len(p.z), -1).sum(-1) + noise / p.u

    def loss(h):
        if not p.structured:
            return losses(box, box.held(p.z + h * direction), x_bar, l_bar)
        value, size = losses(box, box.held(p.frame.moved(h * t)), x_bar, l_bar)
        return value, size + rounded

    best, e = differences(loss, p.u, RUNGS[box.precision], noise)
    terms = (z_bar * direction).reshape(len(p.z), -1)
    bound = 10 * e + ALLOWED * p.u * np.abs(terms).sum(-1)
    usable = usable & (e <= DIFFERENCE * (1 + np.abs(best)))
    if p.structured and p.frame.dimensions == p.frame_of_images.dimensions and p.size <= COLUMNS:
        usable = usable & resolved(p, jacobian(box, p, p.z))
    p.held_to("the gradient along a direction", terms.sum(-1), best, bound[:, None], usable)


@law("pullback is the gradient by the parameters", "pullback", "log_det", "parameters")
def parameter_gradient(box, p):
    """What the pullback says of the parameters is the gradient by them, along random directions of one array at a time.

    A direction moves no two entries alike.  Some entries are moved alone, each at one event: nothing is summed that may cancel.
    """
    if not RUNGS[box.precision]:
        raise Skipped(f"differences have no digits in {box.precision}")
    x_bar, l_bar = cotangents(p)
    marks = p.of_log_det[1] & (np.abs(p.z).reshape(len(p.z), -1).max(-1) <= 4)
    if not marks.any():
        raise Skipped("no point can be asked")
    z, x_bar, l_bar, U = p.z[marks], x_bar[marks], l_bar[marks], p.of_forward[0][marks]
    values = [as_numpy(array).copy() for array in box.trained()]
    rng = np.random.default_rng(p.seed)
    for k, value in enumerate(values):
        direction = rng.uniform(0.5, 1, value.shape) * rng.choice([-1, 1], value.shape) * np.where(value == 0, 1, np.abs(value))
        along_parameter(box, values, k, direction, (z, x_bar, l_bar), U)
    for k, index in entries_alone(values, p.seed):
        direction = np.zeros(values[k].shape)
        direction[index] = abs(values[k][index]) or 1
        i = rng.integers(len(z), size=1)
        along_parameter(box, values, k, direction, (z[i], x_bar[i], l_bar[i]), U[i], index)


def along_parameter(box, values, k, direction, at, U, index=...):
    """The gradient by one array along a direction, at the events and cotangents `at`; Found if it is not the pullback's."""
    _, bars = box.gradients(*at)
    if not bars:
        raise Skipped("the pullback does not return the gradients of parameters")
    if [np.size(bar) for bar in bars] != [value.size for value in values]:
        raise Found(f"the gradients of the parameters have shapes {[np.shape(bar) for bar in bars]}, the parameters "
                    f"{[value.shape for value in values]}")

    def loss(h):
        with box.moved([*values[:k], values[k] + h * direction, *values[k + 1:]]):
            return tuple(np.sum(part, keepdims=True) for part in losses(box, *at))

    terms = bars[k].reshape(values[k].shape) * direction
    found, size = np.sum(terms), np.sum(np.abs(terms))

    def off(best, e):
        bound = 10 * e[0] + ALLOWED * box.unit * size * len(at[0])
        return e[0] <= DIFFERENCE * (1 + abs(best[0])) and not abs(found - best[0]) <= bound and (best[0], bound)

    tables = extrapolations(loss, box.unit, RUNGS[box.precision], unit_of_loss(U, *at[1:]).sum(keepdims=True))
    # what one table does not show, both do not, whose error is at least as large
    first = next(tables)
    shown = off(*first) and off(*agreed(first, next(tables)))
    if shown:
        raise Found(f"the gradient of {entry_named(k, values[k], index)} along a direction is {float(found)!r}, not "
                    f"{float(shown[0])!r} +- {shown[1]:.3g}")


def cotangents(p):
    rng = np.random.default_rng(p.seed)
    return rng.standard_normal(p.x.shape), rng.standard_normal(len(p.z))


def losses(box, z, x_bar, l_bar):
    """(<x_bar, x> + l_bar l, the sum of the sizes of its terms) of every event."""
    x, l = box.values(z)
    terms = (x_bar * x).reshape(len(z), -1)
    return terms.sum(-1) + l_bar * l, np.abs(terms).sum(-1) + np.abs(l_bar * l)


def unit_of_loss(U, x_bar, l_bar):
    """The unit of error of every event's loss, from the units of its image and log-det."""
    return (np.abs(x_bar).reshape(len(U), -1) * U[:, :-1]).sum(-1) + np.abs(l_bar) * U[:, -1]


def differences(loss, u, rungs, noise):
    """(derivative of loss(h) at h = 0, e), from two tables of steps."""
    return agreed(*extrapolations(loss, u, rungs, noise))


def extrapolations(loss, u, rungs, noise):
    """(derivative of loss(h) at h = 0, e) of one table of steps after the other; e is infinite where the derivative jumps, as in `kinked`.

    `noise`: the unit of error of a loss.
    """
    here = loss(0.0)[0]
    for first in FIRST_STEPS:
        steps = first * 2.0 ** -np.arange(rungs)
        values = [(*loss(h), *loss(-h)) for h in steps]
        slopes = np.stack([(plus - minus) / (2 * h) for h, (plus, _, minus, _) in zip(steps, values)])
        best, e = ridders(slopes, np.stack([4 * u * (a + b + 1) / h for h, (_, a, _, b) in zip(steps, values)]))
        last = values[:-DOUBLINGS - 2:-1]
        rounding = 4 * (noise + u * np.max([a + b + 1 for _, a, _, b in last], 0))
        yield best, np.where(jumps([np.abs(plus - 2 * here + minus) for plus, _, minus, _ in last], rounding), np.inf, e)


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
    usable = usable & (np.abs(q.x) < outgrown(box)).reshape(len(p.z), -1).all(-1)
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
    image = of_each("compiled image", as_numpy(first_of(answer)), p.z, box.shape_of_image)
    p.held_to("the compiled image", image, p.x, 2 * ALLOWED * U, usable)
    if isinstance(answer, tuple) and p.scored:
        U, usable = p.of_log_det
        p.held_to("the compiled log-det", as_numpy(answer[1]), p.log_det, 2 * ALLOWED * U, usable)
