"""`refflow.check`: a black box held to the laws, or somebody's code held against a page, without pytest."""

from __future__ import annotations

from ..oracle import check as oracle_check
from ..oracle.adapter import DECLARED, Adapter, file_of
from ..oracle.exits import no_exit
from ..oracle.pages import CannotRun
from ..report import aligned
from .black_box import BlackBox
from .black_box_laws import verdicts
from .counts import counts_text
from .law_items import made


class Verdicts(list):
    """One `Verdict` for each law of a black box; printed, it is a table with the counts below."""

    @property
    def failed(self) -> list:
        return [one for one in self if one.status == "FAIL"]

    @property
    def status(self) -> int:
        """The exit status: 0 if every law that was asked holds, 1 if one is broken, 2 if none could be asked."""
        return 1 if self.failed else 0 if any(one.status == "pass" for one in self) else 2

    def counts(self) -> str:
        """"15 laws ran, 2 skipped: monotone, mass is one (the event is not one number)"."""
        return counts_text("law", [(one.law, one.status, one.text) for one in self])

    def __str__(self):
        rows = [(one.status, one.law, "; ".join(filter(None, (one.text, one.diagnosis)))) for one in self]
        return f"{aligned(rows)}\n\n{self.counts()}"


def check(target=None, *, page=None, dtypes=None, seed=0, **options):
    """Check a black box, or code that computes the quantities of a page; with no target, refflow's own pages.

    A `BlackBox`, or a function of a seed that makes one: `Verdicts`, one for each law.  A function (params, z) -> {key: value}
    with `page`, a name or a bijector; a decorated function; a file of adapters; the name of a peer: the oracle's `Report`, of
    `dtypes` only if given; `options` are the options of `adapter`, for a function with `page`.  Both have `failed`, `status`,
    and a text for people.  Raises CannotRun, a ValueError, for what cannot be checked.
    """
    if isinstance(target, BlackBox) or callable(target) and page is None and not is_declared(target) and not options:
        with no_exit("the black box", file_of(getattr(target, "forward", target))):
            return Verdicts(verdicts(made(target, seed), seed))
    if callable(target) and not is_declared(target) and page is not None:
        return oracle_check([Adapter(None, page, **options).of(target)], dtypes=dtypes)
    if options:
        raise CannotRun(f"the option {next(iter(options))!r} is for a function (params, z) with page=")
    return oracle_check(target, page=page, dtypes=dtypes)


def is_declared(target):
    return any(one.function is target for one in DECLARED)
