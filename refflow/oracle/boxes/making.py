"""A black box that can be asked: made of a seed, and tried at a few events; what is wrong with its use is told in one line."""

from __future__ import annotations

import contextlib
import itertools

import numpy as np

from ...core.sets import real
from ...core.source import RandomSource
from ..asking.adapter import file_of, first_line
from ..asking.arrays import UNITS, as_numpy, coarsest
from ..asking.exits import at_line
from ..asking.time_limits import in_time
from ..asking.whose import blame
from ..points.pages import CannotRun
from .black_box import BlackBox, both_of, first_of

TRIED = "tried"                         # of a box that was tried before
CLOSE = 2.0**8                          # roundings by which an event's image may be another one in a batch
AXES = "nmkl"
LETTERS = {"float64": "d", "float32": "f", "float16": "e"}
WRAPPED = {"numpy": "numpy.vectorize({name}, {types!r}, {passed}signature={signature!r})", "torch": "torch.vmap({name})",
           "jax": "jax.vmap({name})", "tensorflow": "lambda events: tf.vectorized_map({name}, events)"}
WRAPPED_WITH_PARAMETERS = "jax.vmap({name}, in_axes=(0, None))"


def made(make, seed=0):
    """The box of a seed.  CannotRun if it cannot be made, or cannot be asked at plain events."""
    if isinstance(make, BlackBox):
        return tried(make, file_of(make.forward))
    if not callable(make):
        raise CannotRun(f"a BlackBox is needed, or a function of a seed that returns one, not {make!r}")
    with use_of(f"the function that makes the box raised, for seed {seed},", file_of(make)):
        box = in_time(make, lambda: f"the function that makes the box, for seed {seed}", seed)
    if not isinstance(box, BlackBox):
        raise CannotRun(f"a BlackBox is needed, or a function of a seed that returns one, not {box!r}")
    return tried(box, file_of(make))


def tried(box, file):
    """The box itself.  CannotRun if it takes single events alone, or raises at two plain events."""
    if TRIED in box.__dict__:
        return box
    with np.errstate(all="ignore"):
        z = box.plain(2)
        takes_batches("forward", box, box.forward, events_of(box, box.domain))
        with use_of(f"forward of a batch of two plain events, of shape {z.shape}, raised", file, box):
            x = as_numpy(first_of(box.called(box.forward, box.given(z))))
        if x.shape[:1] != (2,):
            raise CannotRun(f"forward of a batch of two events, of shape {z.shape}, has shape {x.shape}: batch axes come first")
        if box.inverse is not None:
            takes_batches("inverse", box, box.inverse, box.image(events_of(box, box.domain)))
    box.__dict__[TRIED] = True
    return box


@contextlib.contextmanager
def use_of(what, file, box=None):
    """An exception is an error of use, with its line in the user's file."""
    try:
        yield
    except CannotRun:
        raise
    except Exception as error:
        blame(error)
        names = named_parameters(box) if isinstance(error, KeyError) and box is not None else ""
        raise CannotRun(f"{what} {first_line(error)}{names}{at_line(error, file)}") from error


def named_parameters(box):
    held = box.passed[0] if box.passed else None
    return f"; the parameters are named {', '.join(map(repr, held))}" if isinstance(held, dict) else ""


# -- batches ----------------------------------------------------------------------------------------------------------

def events_of(box, where):
    """A batch of different events, of a length that no axis of an event has."""
    where, count = where or real, next(n for n in itertools.count(2) if n not in box.event)
    dtype = np.float32 if box.dtype == "float32" else np.float64
    drawn = box.held(where.draw(RandomSource(np.random.default_rng(0)), (count, *box.event), dtype, 1))
    return where.completed(drawn, where.members(drawn, len(box.event)).reshape(count, *(1,) * len(box.event)))


def takes_batches(name, box, function, events):
    """CannotRun for a function of one event: right for each by itself, wrong for a batch of several, and for a batch of one."""
    singles = [answered(box, function, event) for event in events]
    if any(isinstance(one, Exception) or one[0].ndim != len(box.event) or np.shape(one[1]) != () for one in singles):
        return
    expected = tuple(None if part[0] is None else np.stack(part) for part in zip(*singles))
    several, one = answered(box, function, events), answered(box, function, events[:1])
    first = tuple(None if part is None else part[:1] for part in expected)
    summed = not isinstance(several, Exception) and several[0].ndim == 0
    if summed or agree(box, several, expected, only_images=True) or agree(box, one, first):
        return
    how = f"it raised {first_line(several)}" if isinstance(several, Exception) else \
        f"it returned {shapes(several)}, which are not the answers to the events"
    raise CannotRun(f"{name} takes one event, and a box is asked batches, with the batch axis first: of one event, of shape "
                    f"{events.shape[1:]}, it returned {shapes(singles[0])}; of {len(events)} events, {events.shape}, {how}. "
                    f"Wrap it: BlackBox({name}={wrapped(name, box, singles[0])}, ...)")


def answered(box, function, events):
    """(image, log-det or None), or the exception."""
    try:
        return both_of(box.called(function, box.given(events)))
    except Exception as error:
        blame(error)
        return error


def agree(box, answer, expected, only_images=False):
    """Is an answer the expected one, to a few roundings?"""
    if isinstance(answer, Exception):
        return False
    pairs, close = list(zip(answer, expected))[:1 if only_images else 2], CLOSE * UNITS[coarsest(box.dtype, "float32")]
    return all((given is None) == (right is None) and (given is None or given.shape == right.shape and np.allclose(
        given, right, close, close, equal_nan=True)) for given, right in pairs)


def shapes(answer):
    image, log_det = answer
    return f"an image of shape {image.shape}" + ("" if log_det is None else f" and a log-det of shape {as_numpy(log_det).shape}")


def wrapped(name, box, answer):
    axes = f"({','.join(AXES[:len(box.event)])})"
    signature = f"{axes}->{axes}" + ("" if answer[1] is None else ",()")
    form = WRAPPED_WITH_PARAMETERS if box.passed and box.library == "jax" else WRAPPED[box.library]
    types = LETTERS.get(box.dtype, "O") * (1 if answer[1] is None else 2)
    return form.format(name=name, signature=signature, types=types, passed="excluded={1}, " if box.passed else "")
