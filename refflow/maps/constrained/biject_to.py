"""From free vectors onto a set: the page that the set names, or a library's own bijector.

    biject_to(where, like)                      the bijector from R^n onto the part of a set in which `like` lies
    biject_to(where, like, "tfp")               the library's default bijector onto this set
    biject_to("simplex", like, "pymc")          the bijector of a library's own name; `conventions` has all names
    biject_to("interval", like, "torch", ends=(0, [1, 2, 3]))       with ends, numbers or arrays

Some sets have two parts, such as the nonzero numbers, and the orthogonal matrices of either determinant.  The bijector reaches
only the part that contains `like`.
"""

from __future__ import annotations

import numpy as np

from ...core import Chain, Inverse
from .. import found
from .conventions import convention_of

__all__ = ["biject_to"]

INVERSE = "inverse of "


def biject_to(constraint, like, library=None, ends=None):
    """The bijector from free vectors onto the part of a set that contains the members `like`.

    `constraint` is a Set or, with one of the libraries torch, pyro, numpyro, tfp, pymc and stan, its own name of a constraint.
    With a library, the bijector is the library's: the same free numbers have the same image and the same log-det.  `ends` are
    the ends (lower, upper) of a named constraint that has some, numbers or arrays.

    None if the entries of a member are themselves free.  Entries may have ends of their own, as arrays: all of them bounded
    intervals, or all of them half lines.  ValueError if some are bounded and others are not: map these apart.  ValueError for
    what a library does not have, and for members `like` that are not in the set.
    """
    where, stages = chosen(constraint, library, ends)
    if stages is None:
        return None
    if library is not None:
        refuse_strangers(where, like)
    built = [named(stage, where, like) if isinstance(stage, str) else stage(where, like) for stage in stages]
    return built[0] if len(built) == 1 else Chain(built)


def chosen(constraint, library, ends):
    """(set, the stages of the bijector onto it, None for free entries)."""
    if library is None:
        if isinstance(constraint, str):
            raise ValueError(f"biject_to: library must say whose constraint {constraint!r} is; it is None")
        names = constraint.biject_to
        return constraint, (names,) if isinstance(names, str) else names
    convention = convention_of(constraint, library)
    if not isinstance(constraint, str):
        return constraint, convention.stages
    if (ends is None) == (convention.has_ends):
        raise ValueError(f"biject_to: {constraint!r} of {library} {'needs' if ends is None else 'has no'} ends")
    return convention.where(ends), convention.stages


def refuse_strangers(where, like):
    refusal = where.refusal("like", like)
    if refusal is not None:
        raise ValueError(f"biject_to: {refusal}")


def named(stage, where, like):
    """The bijector of a page, or "inverse of" one."""
    if stage.startswith(INVERSE):
        return Inverse(found(stage.removeprefix(INVERSE))())
    page = found(stage)
    return page.reaching(where, like) if hasattr(page, "reaching") else page()
