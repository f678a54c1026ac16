"""Where a definition branches, and whether a page's `breaks` say so.

A ball of events that holds a branch point cannot decide the branch, and a ball without one can.  So a definition branches
exactly at given numbers if small balls around them are undecided, and balls that fill the gaps are decided.
"""

from __future__ import annotations

from flint import arb, ctx

from refflow.truth.balls import Ambiguous, constant, m
from refflow.truth.engine import exact_fields

NEAR, FAR = arb(2) ** -80, arb(2) ** 80         # relative to the number: a small ball, and how far the outer gaps reach
WIDER = arb(3) / 2                              # the far end of a ball in a gap, in units of its near end's distance
DIGITS = 200


def branches_at(problem, numbers, near=NEAR):
    """Does the definition branch at these numbers, or within `near` of them if they are rounded, and nowhere else?"""
    with ctx.workdps(DIGITS):
        breaks, fields = [arb(number) for number in sorted(numbers)], exact_fields(problem)
        if not breaks:
            return not undecided(problem, fields, arb(0), FAR)
        return (all(undecided(problem, fields, number, near * size(number)) for number in breaks)
                and not any(undecided(problem, fields, *ball) for ball in filling(breaks, near)))


def size(number):
    return max(arb(1), abs(number))


def filling(breaks, near):
    """Balls (centre, radius) on both sides of every break, from near it to the middle of the gap, or far out."""
    gaps = [FAR * size(breaks[0]), *(b - a for a, b in zip(breaks, breaks[1:])), FAR * size(breaks[-1])]
    for number, below, above in zip(breaks, gaps, gaps[1:]):
        for way, gap in ((-1, below), (1, above)):
            distance = near * size(number)
            while distance < gap / 2:
                yield number + way * distance * (1 + WIDER) / 2, distance * (WIDER - 1) / 2
                distance = distance * WIDER


def undecided(problem, fields, centre, radius):
    """Does a branch of the definition depend on the number in a ball?"""
    try:
        problem.definition(m, constant(arb(centre.mid(), radius)), **fields)
    except Ambiguous:
        return True
    except ZeroDivisionError:
        pass
    return False
