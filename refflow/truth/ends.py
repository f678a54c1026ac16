"""The truth at a finite end of a set of numbers, where an event may lie: the limit of the truth at events that approach it.

Three exact numbers approach the end, nearer than any float; from each to the next their logarithms grow by the same factor.
A quantity that does not change from the second to the third has that limit.  If its second change is larger than the first
by a fifth or more, it goes to infinity; else, if it shrinks by a fifth or more twice, to 0.  Where three numbers do not tell,
others may; where none do, there is no truth.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from flint import arb, ctx

from ..core import Bijector

from .balls import constant, m, mid_ball
from .engine import TruthNotFound, exact_fields, flatten, forward_truth, inverse_truth

# Exponents of 2: of the distances from an end at 0, and from another one.
TO_ZERO, TO_END = ((-2**1098, -2**1100, -2**1102),), ((-62, -250, -1000),)
# A z that grows without bound as its image approaches 0: exponents of 2 for powers, sizes for exponentials and for
# exponentials of squares.
GROWING, SIZES = (2**1098, 2**1100, 2**1102), ((256, 512, 1024), (2**13, 2**14, 2**15), (21, 30, 42))
NEAR = arb(2) ** -300                   # an image that is near 0
DIGITS = 2000                           # of the exact numbers
SAME = arb(2) ** -80                    # relative
MORE = arb(6) / 5
INFINITE = arb(2) ** 4000               # beyond every number of a dtype
NOTHING = arb(2) ** -1200               # below every one


def is_end(f, side, event):
    """Is the event a number at a finite end of its set?

    Whole numbers only, because another end may itself be rounded.
    """
    scalar = isinstance(f, Bijector) and f.event_ndim == (0, 0) and not np.ndim(event)
    if not scalar or np.isinf(event) or event != np.trunc(event):
        return False
    where = f.domain if side == "forward" else f.codomain
    return bool(np.any(event == where.lower) or np.any(event == where.upper))


def truth_at_end(problem, f, side, event, bars):
    """The limits of the quantities of `forward_truth` or `inverse_truth`; TruthNotFound holds them if some have none."""
    found, names = {}, set()
    with ctx.workdps(DIGITS):
        end, asked = float(event), list(approaching(problem, f, side, float(event)))
    for events in asked:
        nearer = [quantities(problem, side, *near, bars) for near in events]
        names = names.union(*nearer)
        limits = {name: limit(*(one[name] for one in nearer)) for name in nearer[0] if all(name in one for one in nearer)}
        found = {name: value for name, value in limits.items()
                 if value is not None and not outgrown(name, value, end, bars)} | found
    if names - set(found) or not found:
        raise TruthNotFound(f"no limit of {', '.join(sorted(names - set(found))) or 'anything'}", found)
    return found


def outgrown(name, value, end, bars):
    """May one of the two terms of an infinite cotangent outgrow the other only nearer to the end than 2^-1000?"""
    return bool(end and name.endswith("_bar") and all(map(np.any, bars)) and max(map(abs, value.value)) >= INFINITE)


def approaching(problem, f, side, end):
    """Triples of (event, z or None): exact numbers that approach the end and, for the inverse map, their z where it is known.

    Numbers that approach 0 are images of numbers z that approach an end: a solver does not find z from them.
    """
    if side == "forward" or end:
        where = f.domain if side == "forward" else f.codomain
        yield from (tuple((event, None) for event in three) for three in numbers(end, 1 if np.any(end == where.lower) else -1))
        return
    for z_end, way in ((float(np.max(f.domain.lower)), 1), (float(np.min(f.domain.upper)), -1)):
        for three in numbers(z_end, way):
            images = [image(problem, z) for z in three]
            if all(x is not None and 0 < abs(x) <= NEAR for x in images):
                yield tuple(zip(images, three))


def numbers(end, way):
    """Triples of numbers that approach an end, or infinity."""
    if np.isinf(end):
        sizes = (tuple(arb(2) ** exponent for exponent in GROWING), *SIZES)
        return [tuple(arb(-way) * size for size in three) for three in sizes]
    return [tuple(end + way * arb(2) ** exponent for exponent in three) for three in (TO_END if end else TO_ZERO)]


def quantities(problem, side, event, z, bars):
    """{quantity: truth} at an exact event, without the unsettled ones.

    Forward with the precisions of float32: what they do not settle, as 1 - exp(-2^-2^1100), others do not settle either.
    """
    try:
        if side == "forward":
            return forward_truth(problem, event, *bars, np.float32)
        return inverse_truth(problem, event, *bars, z)
    except TruthNotFound as partly:
        return partly.settled
    except (ArithmeticError, ValueError):
        return {}


def image(problem, z):
    """The midpoint of f(z), the inverse map's event; None if it cannot be had."""
    try:
        return mid_ball(flatten(problem.definition(m, constant(z), **exact_fields(problem)))[0][0]).mid()
    except (ArithmeticError, ValueError):
        return None


def limit(first, second, third):
    """The limit of a quantity at three events, the third the nearest; None if these do not tell."""
    values = [limit_of(*three) for three in zip(first.value, second.value, third.value)]
    if None in values:
        return None
    kappa = [k if value is c else arb(0) for value, c, k in zip(values, third.value, third.kappa)]
    return replace(third, value=values, kappa=kappa)


def limit_of(a, b, c):
    """The same of one number."""
    if b == c or abs(c - b) <= SAME * abs(c):
        return c
    if max(abs(b), abs(c)) < NOTHING:
        return arb(0)
    if abs(c - b) >= MORE * abs(b - a):
        return INFINITE if c > b else -INFINITE
    return arb(0) if abs(a) >= MORE * abs(b) and abs(b) >= MORE * abs(c) else None
