"""`refflow.check`: a black box held to the laws, or somebody's code held against a page, without pytest."""

from __future__ import annotations

import inspect

from ..oracle import check as oracle_check
from ..oracle.adapter import DECLARED, Adapter, adapter, file_of
from ..oracle.exits import no_exit
from ..oracle.pages import CannotRun
from .black_box import BlackBox, close_to
from .black_box_laws import verdicts


def check(target=None, *, page=None, dtypes=None, seed=0, time_limit=None, **options):
    """Check a black box, or code that computes the quantities of a page; with no target, refflow's own pages.

    A `BlackBox`, or a function of a seed that makes one: `Verdicts`, one for each law.  A function (params, z) -> {key: value}
    with `page`, a name or a bijector; a decorated function; a file of adapters; the name of a peer: the oracle's `Report`, of
    `dtypes` only if given; `time_limit`: the seconds that their code may take for each answer; `options` are the options of `adapter`, for a function with `page`.  Both have `failed`, `status`,
    and a text for people.  Raises CannotRun, a ValueError, for what cannot be checked.
    """
    if isinstance(target, BlackBox) or callable(target) and page is None and not is_declared(target) and not options:
        with no_exit("the black box", file_of(getattr(target, "forward", target))):
            return verdicts(target, seed, time_limit)
    if callable(target) and not is_declared(target) and page is not None:
        return oracle_check([declared(page, options).of(target)], dtypes=dtypes, time_limit=time_limit)
    if options:
        raise CannotRun(f"the option {next(iter(options))!r} is for a function (params, z) with page=")
    return oracle_check(target, page=page, dtypes=dtypes, time_limit=time_limit)


def declared(page, options) -> Adapter:
    """The declaration that `adapter(page, **options)` makes; CannotRun for an option that it does not have."""
    known = list(inspect.signature(adapter).parameters)[1:]
    unknown = next((name for name in options if name not in known), None)
    if unknown:
        raise CannotRun(f"there is no option {unknown!r}{close_to(unknown, known)}; the options are {', '.join(known)}")
    return Adapter(None, page, **{"dtypes" if name == "dtype" else name: value for name, value in options.items()})


def is_declared(target):
    return any(one.function is target for one in DECLARED)
