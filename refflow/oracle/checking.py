"""`refflow.check`: a black box held to the laws, or somebody's code held against a page, without pytest."""

from __future__ import annotations

import inspect
import math

import numpy as np

from ..core import Bijector
from . import check as oracle_check
from .asking.adapter import ACCUMULATION, DECLARED, Adapter, adapter, file_of
from .asking.exits import no_exit
from .boxes.black_box import BlackBox, close_to
from .boxes.black_box_laws import has, verdicts
from .boxes.making import made
from .points.page_points import LONGEST
from .points.pages import CannotRun, page_named
from .points.parameters import page_at


def check(target=None, *, page=None, dtypes=None, parameters=None, seed=0, time_limit=None, **options):
    """Check a black box, or code that computes the quantities of a page; with no target, refflow's own pages.

    A `BlackBox`, or a function of a seed that makes one: `Verdicts`, one for each law.  A box with `page`, a bijector or a name: the
    oracle's `Report`, of the box held against that map.  A function (params, z) -> {key: value} with `page`; a decorated function; a
    file of adapters; the name of a peer: the `Report` too, of `dtypes` only if given.  `parameters`, {field: value}: at which a page
    by name is asked; `time_limit`: the seconds that their code may take for each answer; `options` are the options of `adapter`, for
    a function with `page`.  Both have `failed`, `status`, and a text for people.  Raises CannotRun, a ValueError, for what cannot be
    checked.
    """
    of_page = {"dtypes": dtypes, "parameters": parameters, "time_limit": time_limit}
    if isinstance(target, BlackBox) and page is not None and not options:
        return oracle_check([of_box(target, page, parameters)], dtypes=dtypes, time_limit=time_limit)
    if isinstance(target, BlackBox) or callable(target) and page is None and not is_declared(target) and not options:
        if parameters is not None:
            raise CannotRun("parameters belong to a page: name it, page=")
        with no_exit("the black box", file_of(getattr(target, "forward", target))):
            return verdicts(target, seed, time_limit)
    if callable(target) and not is_declared(target) and page is not None:
        return oracle_check([declared(page, options).of(target)], **of_page)
    if options:
        raise CannotRun(f"the option {next(iter(options))!r} is for a function (params, z) with page=")
    return oracle_check(target, page=page, **of_page)


def of_box(box, page, parameters=None, theirs="box") -> Adapter:
    """A black box as an adapter of a page, which has the box's parameters: a bijector, or a name with `parameters`."""
    fields = [] if isinstance(page, Bijector) else list(page_named(page).declared)
    if fields and parameters is None:
        raise CannotRun(f"a box has parameters of its own, and {page} has {', '.join(fields)}: give page={page}(...), or parameters=")
    page = page_at(page, parameters) if parameters is not None or isinstance(page, str) else page
    made(box)
    return Adapter(lambda params, z: answers_of(box, page, z), page, (box.dtype,), box.direction, theirs, event=event_of(box, page),
                   flush_to_zero=box.flush_to_zero, accumulation=box.accumulation if box.accumulation in ACCUMULATION else None)


def event_of(box, page):
    """The shape of the page's z at which the box is asked: that of its own events, behind the batch of the page's parameters."""
    backwards = box.direction == "inverse"
    split = len(box.event) - page.event_ndim[backwards]
    if split < 0 or box.event[:split] not in ((), page.parameter_batch):
        raise CannotRun(f"events of the box have shape {box.event}; events of {type(page).__name__} have "
                        f"{page.event_ndim[backwards]} axes: lift it to the box's, page=Independent(page, axes)")
    shape = box.event[split:]
    if math.prod(shape) > LONGEST:
        raise CannotRun(f"events of the box have shape {box.event}: a page is asked in events of up to {LONGEST} numbers; give the "
                        "same map of smaller ones")
    try:
        z = tuple(page.input_shape(shape)) if backwards else shape
        page.output_shape(z)
    except ValueError as error:
        raise CannotRun(f"events of the box have shape {box.event}: {error}") from None
    return z


def answers_of(box, page, z):
    """What a box has of a page's quantities, at events behind any batch axes."""
    def batched(function, event):
        rank = len(box.event)
        batch = event.shape[:event.ndim - rank] if rank else event.shape
        found = function(np.reshape(event, (-1, *event.shape[len(batch):])))
        return [None if part is None else part.reshape(batch + part.shape[1:]).astype(event.dtype) for part in found]

    image, log_det = batched(box.values, z)
    found = {"forward": image} | ({} if log_det is None else {"log_det": log_det})
    if box.inverse is not None:
        found["inverse"] = lambda x: batched(box.answer_back, x)[0]
        if has(box, "inverse_log_det"):
            found["inverse_log_det"] = lambda x: batched(box.answer_back, x)[1]
    return found


def declared(page, options) -> Adapter:
    """The declaration that `adapter(page, **options)` makes; CannotRun for an option that it does not have."""
    known = list(inspect.signature(adapter).parameters)[1:]
    unknown = next((name for name in options if name not in known), None)
    if unknown:
        raise CannotRun(f"there is no option {unknown!r}{close_to(unknown, known)}; the options are {', '.join(known)}")
    return Adapter(None, page, **{"dtypes" if name == "dtype" else name: value for name, value in options.items()})


def is_declared(target):
    return any(one.function is target for one in DECLARED)
