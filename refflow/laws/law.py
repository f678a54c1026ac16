"""What a law is, and how it compares: a function law(f, points) that raises AssertionError if f breaks it.

A message names the law, the class, the quantity, the smallest offending event, the error and the bound.  Where a bound is
infinite or NaN, nothing is measured: the law returns these entries as rejected.
"""

from __future__ import annotations

import functools
from contextvars import ContextVar

import numpy as np

LAWS: dict = {}
ONCE: set = set()          # laws that ask the page alone, and not the value or its points
MANY = 64                   # events of data for an initialisation
BOUNDS: ContextVar = ContextVar("bounds", default=None)     # [(entries without a finite bound, entries)] of the law that is asked


class Broken(Exception):
    """What a law found; `law` adds the names."""


def law(name, laws=LAWS, once=False):
    """Register a law under its name, which its errors carry; `once`: its answer does not depend on what is drawn."""

    def register(function):
        @functools.wraps(function)
        def named(f, points):
            bounds: list = []
            asked = BOUNDS.set(bounds)
            try:
                return rejected(function(f, points), bounds)
            except Broken as found:
                raise AssertionError(f"{name}: {type(f).__name__}: {found}") from None
            except Exception as error:
                raise AssertionError(f"{name}: {type(f).__name__}: raised {type(error).__name__}: {error}") from error
            finally:
                BOUNDS.reset(asked)

        laws[name] = named
        ONCE.update([name] if once else [])
        return named

    return register


def rejected(counted, bounds):
    """(rejected, tried): what a law returned, or its entries without a finite bound, whichever is the larger share."""
    unbounded = tuple(map(sum, zip(*bounds))) or (0, 0)
    found = [count for count in (counted, unbounded) if count is not None and count[1]]
    return max(found, key=lambda count: count[0] / count[1], default=counted)


def every(name):
    """Ask this law?  Yes, any."""
    return True


def asked(questions, wanted=every) -> dict:
    """Ask the wanted laws of [(name, law, value, points)]; {name: (rejected, tried)} for the laws that may reject points.

    Raises AssertionError with one line for each law that is broken.
    """
    tally, broken = {}, []
    for name, check, value, points in (question for question in questions if wanted(question[0])):
        try:
            counted = check(value, points)
        except AssertionError as error:
            broken.append(" ".join(str(error).split()))
            continue
        if counted is not None:
            tally[name] = counted
    if broken:
        raise AssertionError("\n".join(broken))
    return tally


# -- comparing --------------------------------------------------------------------------------------------------------

def hold(p, what, error, bound, where=True):
    """Refuse events, along axis 0, whose error exceeds its bound, as NaN does.  The smallest event is shown.

    A bound that is NaN says as little as an infinite one.
    """
    error, bound = np.broadcast_arrays(np.asarray(error, np.float64), np.asarray(bound, np.float64))
    bounded(bound, where)
    bound = np.where(np.isnan(bound), np.inf, bound)
    beyond = ~(error <= bound)
    broken = beyond.reshape(len(beyond), -1).any(-1) & where
    if broken.any():
        size = np.abs(p.z64).reshape(len(p.z64), -1).max(-1, initial=0)
        i = int(np.argmin(np.where(broken, size, np.inf)))
        entry = np.argmax(beyond[i])
        raise Broken(f"{what}: error {error[i].flat[entry]:.3g}, bound {bound[i].flat[entry]:.3g} at z[{i}] = "
                     f"{p.z64[i].tolist()!r} ({p.dtype}); {p.f!r}")


def bounded(bound, where=True):
    """Count the entries whose bound is not finite, of events, along axis 0, or of one of them."""
    if BOUNDS.get() is not None:
        bound = np.atleast_1d(bound)
        asked = np.broadcast_to(np.reshape(where, np.shape(where) + (1,) * (bound.ndim - np.ndim(where))), bound.shape)
        BOUNDS.get().append((int(np.sum(asked & ~np.isfinite(bound))), int(np.sum(asked))))


def distance(given, reference, normal=False):
    """|given - reference|, 0 for equal infinities, 0 where the reference is infinite or both are NaN; in norm if `normal`."""
    given, reference = np.asarray(given, np.float64), np.asarray(reference, np.float64)
    with np.errstate(invalid="ignore"):
        alike = (given == reference) | np.isinf(reference) | np.isnan(given) & np.isnan(reference)
        apart = np.where(alike, 0, np.abs(given - reference))
    return np.broadcast_to(np.linalg.norm(apart, axis=-1, keepdims=True), apart.shape) if normal else apart


def unit(p, kappa):
    """C (u kappa + s), where s is the subnormal spacing."""
    with np.errstate(all="ignore"):
        kappa = np.where(np.isnan(kappa), np.inf, kappa)
        return p.C * (p.u * kappa + p.spacing)


def close(p, what, given, reference, bound, where=True):
    hold(p, what, distance(given, reference, p.normwise), bound, where)


def same(what, given, expected):
    """The arrays must be bitwise the same."""
    for a, b in zip(given, expected, strict=True):
        if np.shape(a) != np.shape(b) or np.asarray(a).tobytes() != np.asarray(b).tobytes():
            raise Broken(f"{what}: {np.asarray(a)!r} is not {np.asarray(b)!r}")


def equal(what, given, expected):
    """The numbers must be the same, whatever the sign of 0."""
    for a, b in zip(given, expected, strict=True):
        if not np.array_equal(a, b, equal_nan=True):
            raise Broken(f"{what}: {np.asarray(a)!r} is not {np.asarray(b)!r}")


def expect(true, message):
    if not true:
        raise Broken(message)


def refusal(call, what):
    """The message of the ValueError that `call` raises."""
    try:
        call()
    except ValueError as error:
        return str(error)
    raise Broken(f"{what} was accepted")
