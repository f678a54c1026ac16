"""Sets of numbers: the real line, what is left of it without 0, intervals, and whole numbers."""

from __future__ import annotations

import numpy as np

from .membership import no_room, not_finite, Set


def in_interval(lower, upper):
    """`make` of the open interval (lower, upper): numbers at a drawn distance from 0 or from one of its finite ends."""
    ends = [(end, side) for end, side in ((lower, 1.0), (upper, -1.0)) if np.isfinite(end)]
    ends += [(0.0, 1.0), (0.0, -1.0)] if lower < 0 < upper else []
    from_end, side = np.array(ends).T
    widest = int(np.floor(np.log2(upper - lower))) - 1 if np.isfinite(upper - lower) else None

    def make(source, shape, dtype, low, high):
        which = source.choices(shape, len(ends))
        end = from_end[which].astype(dtype)
        step = np.log2(np.spacing(np.abs(end), dtype=dtype)).astype(int)
        low, high = (low, high) if widest is None else (min(low, widest - 1), min(high, widest))
        low = np.where(end == 0, low, np.maximum(low, step - 1))                # nearer than that, they round to the end
        distance = source.numbers(shape, low, high).astype(dtype)
        inner = np.nextafter(dtype.type([lower, upper]), dtype.type([upper, lower]))
        return np.clip(end + side[which].astype(dtype) * distance, *inner)

    return make


real = Set("real", "must be finite", not_finite, not_finite, in_interval(-np.inf, np.inf))

extended_real = Set("extended_real", "must not be NaN", np.isnan, np.isnan, real.make)

nonzero = Set("nonzero", "must be finite and not 0", lambda v: not_finite(v) | (v == 0), not_finite, real.make, spare=np.abs,
              anchor=1.0, biject_to="HalfLine", scalable=True)


def interval(lower, upper) -> Set:
    """The open interval (lower, upper); an end may be infinite."""
    lower, upper = float(lower), float(upper)
    ends, bounded = f"({lower:g}, {upper:g})", np.isfinite(upper - lower)
    half = np.isfinite([lower, upper]).any()
    anchor = (lower + upper) / 2 if bounded else lower + 1 if np.isfinite(lower) else upper - 1 if half else 0.0
    return Set(f"interval{ends}", f"must be in {ends}", lambda v: ~((v > lower) & (v < upper)),
               lambda v: not_finite(v) | ~((v >= lower) & (v <= upper)), in_interval(lower, upper), lower=lower, upper=upper,
               anchor=anchor, biject_to="OpenInterval" if bounded else "HalfLine" if half else None)


def intervals(lower, upper):
    """The open intervals of arrays of ends, one for each entry that broadcasts with them; one end of each is finite.

    It is reached by OpenInterval if both ends of each are finite, else by HalfLine, which refuses it if only some are half lines.
    """
    if np.size(lower) == np.size(upper) == 1:
        return interval(np.asarray(lower).item(), np.asarray(upper).item())

    def make(source, shape, dtype, low, high):
        left, right = np.broadcast_to(lower, shape), np.broadcast_to(upper, shape)
        up = np.isinf(right) | np.isfinite(left) & source.booleans(shape)
        end = np.where(up, left, right).astype(dtype)
        with np.errstate(all="ignore"):
            widest = np.where(np.isfinite(right - left), np.floor(np.log2(right - left)) - 1, high).astype(int)
            nearest = np.where(end == 0, low, np.log2(np.spacing(np.abs(end))).astype(int) - 1)     # nearer, they round to it
            low = np.minimum(np.maximum(low, nearest), widest - 1)
        distance = source.numbers(shape, low, np.minimum(high, widest)).astype(dtype)
        inner = (np.nextafter(dtype.type(a), dtype.type(b)) for a, b in ((left, right), (right, left)))
        return np.clip(end + np.where(up, distance, -distance), *inner)

    with np.errstate(invalid="ignore"):
        middle = np.where(np.isinf(upper), lower + 1, np.where(np.isinf(lower), upper - 1, (lower + upper) / 2))
    bounded = np.isfinite(lower).all() and np.isfinite(upper).all()
    return Set("intervals", "must lie between its ends", lambda v: ~((v > lower) & (v < upper)),
               lambda v: not_finite(v) | ~((v >= lower) & (v <= upper)), make, lower=np.nan, upper=np.nan, alike=False,
               each=(np.asarray(lower), np.asarray(upper)), spare=lambda v: np.minimum(v - lower, upper - v), anchor=middle,
               biject_to="OpenInterval" if bounded else "HalfLine")


positive = Set("positive", "must be finite and > 0", lambda v: not_finite(v) | ~(v > 0), lambda v: not_finite(v) | ~(v >= 0),
               in_interval(0.0, np.inf), lower=0.0, anchor=1.0, biject_to="HalfLine", scalable=True)

nonnegative = Set("nonnegative", "must be finite and >= 0", positive.outside_closed, positive.outside_closed, positive.make,
                  lower=0.0, anchor=1.0, biject_to="HalfLine", scalable=True)


def below(count):
    """The whole numbers 0 .. count - 1."""
    def outside(v):
        return ~((v >= 0) & (v < count) & (v == np.floor(v)))

    return Set(f"below({count})", f"must be a whole number from 0 to {count - 1}", outside, outside,
               lambda source, shape, dtype, low, high: source.choices(shape, count).astype(dtype), spare=no_room, whole=True)
