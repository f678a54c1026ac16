"""`refflow.check`: a black box held to the laws, or somebody's code held against a page, without pytest."""

from __future__ import annotations

from ..oracle import check as oracle_check
from ..oracle.adapter import DECLARED, Adapter, file_of
from ..oracle.exits import no_exit
from ..oracle.pages import CannotRun
from .black_box import BlackBox
from .black_box_laws import verdicts


def check(target=None, *, page=None, dtypes=None, seed=0, **options):
    """Check a black box, or code that computes the quantities of a page; with no target, refflow's own pages.

    A `BlackBox`, or a function of a seed that makes one: `Verdicts`, one for each law.  A function (params, z) -> {key: value}
    with `page`, a name or a bijector; a decorated function; a file of adapters; the name of a peer: the oracle's `Report`, of
    `dtypes` only if given; `options` are the options of `adapter`, for a function with `page`.  Both have `failed`, `status`,
    and a text for people.  Raises CannotRun, a ValueError, for what cannot be checked.
    """
    if isinstance(target, BlackBox) or callable(target) and page is None and not is_declared(target) and not options:
        with no_exit("the black box", file_of(getattr(target, "forward", target))):
            return verdicts(target, seed)
    if callable(target) and not is_declared(target) and page is not None:
        return oracle_check([Adapter(None, page, **options).of(target)], dtypes=dtypes)
    if options:
        raise CannotRun(f"the option {next(iter(options))!r} is for a function (params, z) with page=")
    return oracle_check(target, page=page, dtypes=dtypes)


def is_declared(target):
    return any(one.function is target for one in DECLARED)
