"""By what a log-det counts volumes on a set of lower dimension: by its coordinates ("chart") or by its own volume ("intrinsic").

Libraries differ in it.  A map that is counted otherwise is the page, followed by IntrinsicVolume or its inverse: its log-det differs
by the logarithm of the ratio, and by nothing else.
"""

from __future__ import annotations

from ...core import Bijector, Chain, Independent, Inverse
from ...core.declarations import Field
from ...core.sets import TWICE_MEASURED
from ...core.tree import flatten
from ...maps.constrained import IntrinsicVolume
from .pages import CannotRun, page_named

MEASURES = ("chart", "intrinsic")
WITHOUT_MEASURE = ("forward", "jacobian", "inverse")                            # quantities that do not depend on it
WORDS = ("by coordinates, where the truth is by own volume", "by own volume, where the truth is by coordinates")


class Counted(Chain):
    """One page, followed by a change of measure; it has the parameters of the page."""

    page = property(lambda self: self.stages[0])


def ratio_in_words(where, to_own):
    """The logarithm of the ratio of volumes as a reader would write it: to own volume, or to coordinates."""
    sign, words = where.ratio_in_words[0], where.ratio_in_words[1:]
    return (sign if to_own else {"+": "-", "-": "+"}[sign]) + words


def ratio(f, measure):
    """The map that changes the measure of the codomain of f to `measure`; None if it has that one, or has no other."""
    where = f.codomain
    if where.name not in TWICE_MEASURED or where.measure == measure:
        return None
    step = IntrinsicVolume(where.name)
    step = step if measure == "intrinsic" else Inverse(step)
    lifted = f.event_ndim[1] - where.rank
    return Independent(step, lifted) if lifted else step


def counted(f, measure):
    """f, with volumes on its codomain counted by `measure`."""
    step = None if measure is None else ratio(f, measure)
    if step is None:
        return f
    return Chain([*f.stages, step]) if isinstance(f, Chain) else Counted([f, step])


def refuse_measure(page, measure):
    """Refuse a measure where volumes of the codomain can be counted in one way only, or where parameters would change their names."""
    if measure is None:
        return
    if measure not in MEASURES:
        raise CannotRun(f"adapter: measure must be one of {', '.join(MEASURES)}, not {measure!r}")
    f = page if isinstance(page, Bijector) else page_named(page)
    where = f.codomain
    if not isinstance(where, property) and where.name not in TWICE_MEASURED:
        raise CannotRun(f"adapter: measure is for maps onto {', '.join(TWICE_MEASURED)}; volumes on {where} are counted in one way")
    own = flatten(f.params()) if isinstance(page, Bijector) else [d for d in f.declared.values() if isinstance(d, Field)]
    if own and not isinstance(f, Chain):
        raise CannotRun("adapter: measure is for a page without parameters, or for a Chain: give Chain([...]) of it")
