"""From fields to Hypothesis: values of pages, points and cotangents drawn from a page's declarations.

Numbers are sign * mantissa * 2^exponent, read from drawn bytes, so that Hypothesis shrinks them: all bytes 0 is 1.0, small
bytes are powers of 2, larger ones fill the mantissa.
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from ..accuracy.drawing import drawn_fields, event_shapes, example, has_examples, plain_choices
from ..accuracy.points import Points, nets_of, stays_inside
from ..accuracy.valid import at_valid
from ..core import Source

POINTS = 32
SIZES = (1, 2, 3, 4)
SPREAD = 6                      # parameters and cotangents: 2^-6 to 2^6
LEAST_SPREAD = 2                # of parameters that are drawn again
NEAR_THE_MIDDLE = 1             # images, where none of SPREAD is of use
EVENT_SPREAD = 9                # events: 2^-9 to 2^9, about 1e-3 to 1e3
MARGIN = 2.0**-18               # an image moved by this much stays inside: it has not saturated, even in float32
LOST = 2.0**-20                 # a slope that is smaller beside a shift is lost in differences
THIN = 2.0**-12                 # the smallest entry of a structured image, for the same reason
MODERATE = 2.0**100             # images beyond this, or below its reciprocal, are left to the certificate
BYTES = 3
BELOW = (1, 4, 16, 256, 256, 256)          # what random bytes are below


class OfBytes(Source):
    """A source that asks for `bytes(shape, each)`: its simplest answers are 1.0, 0, True and the identity."""

    def numbers(self, shape, low, high):
        """m 2^e from three bytes, which run through the exponents, from the one nearest to 0, and then through mantissas."""
        k = (self.bytes(shape, BYTES).reshape(-1, BYTES) @ np.array([65536, 256, 1])).reshape(shape)
        high = np.maximum(np.subtract(high, 1), low)
        step, rest = k % (high - low + 1), k // (high - low + 1)
        start = np.clip(0, low, high)
        both = np.minimum(start - low, high - start)
        near = np.where(step % 2 == 0, -step // 2, (step + 1) // 2)
        far = np.where(high - start > both, step - both, both - step)
        mantissa = 1 + rest * 0.6180339887498949 % 1 * 0.95     # a sequence that fills all digits, starting at 1
        return np.ldexp(mantissa, start + np.where(step <= 2 * both, near, far))

    def choices(self, shape, count):
        return self.bytes(shape).reshape(shape) % count

    def booleans(self, shape, share=0.5):
        return self.bytes(shape).reshape(shape) < 256 * share

    def orders(self, shape):
        return np.argsort(self.bytes(shape).reshape(shape), -1, kind="stable")


class DrawnSource(OfBytes):
    """It asks Hypothesis."""

    def __init__(self, draw):
        self.draw = draw

    def bytes(self, shape, each=1):
        size = each * int(np.prod(shape))
        return np.frombuffer(self.draw(st.binary(min_size=size, max_size=size)) if size else b"", np.uint8).astype(np.int64)


class RandomBytes(OfBytes):
    """It asks a NumPy generator for what Hypothesis tends to draw: bytes that are all 0, small, or anything."""

    def __init__(self, rng):
        self.rng = rng

    def bytes(self, shape, each=1):
        return self.rng.integers(0, self.rng.choice(BELOW), each * int(np.prod(shape)))


# -- values -----------------------------------------------------------------------------------------------------------

@st.composite
def bijectors(draw, page, dtype=np.float64, batch=POINTS, spread=SPREAD):
    """Values of one page, bijectors or conditioners, with drawn sizes and parameters.

    A field has batch axes (batch,), (1,) or none; a page with components draws itself.
    """
    return value_of(DrawnSource(draw), page, dtype, batch, spread)[0]


def value_of(source, page, dtype, batch=POINTS, spread=SPREAD):
    """(a value of the page, the shapes of its events)."""
    if has_examples(page):
        f, shape = example(page, source, dtype)
        return f, [shape]
    plain = source.choice(plain_choices(page))
    fields = drawn_fields(page, source, dtype, spread, lambda letter: source.choice(SIZES), plain,
                          lambda: source.choice([(), (), (batch,), (1,)]), optional=0.5)
    f = page(**plain | fields)
    again = steep(f) or spread > LEAST_SPREAD and hidden(f)
    return value_of(source, page, dtype, batch, spread - 2) if again else (f, event_shapes(f, SIZES))


def steep(f):
    """Is a constant slope not MODERATE, or lost beside a shift?  With small events the image would not show it."""
    if not getattr(f, "constant_log_det", False) or f.normwise or not f.domain.entrywise:
        return False
    g, event = f.astype(np.float64), f.domain.plainest(event_shapes(f, SIZES)[0])
    slopes = np.abs(g.jacobian(event))
    shifts = np.abs(g.forward(event)).reshape(*slopes.shape[:-1], 1)
    return bool(np.any((slopes > MODERATE) | (slopes < np.maximum(1 / MODERATE, LOST * shifts)) & (slopes != 0)))


def hidden(f):
    """Is a map between bounded intervals flat at the middle of its domain, and not MODERATE where its image is the middle?

    No event is then drawn whose image has not saturated.
    """
    ends = f.domain.lower, f.domain.upper, f.codomain.lower, f.codomain.upper
    if f.event_ndim != (0, 0) or f.components() or not (f.domain.alike and f.codomain.alike and np.isfinite(ends).all()):
        return False
    g, width = f.astype(np.float64), f.domain.upper - f.domain.lower
    middle, image = (np.full(f.parameter_batch, where.middle(())) for where in (g.domain, g.codomain))
    with np.errstate(all="ignore"):
        flat = width * np.exp(g.log_det(middle)) < LOST * np.abs(g.forward(middle))
        return bool((flat & ~(np.abs(g.log_det(g.inverse(image))) <= np.log(MODERATE))).any())


# -- points -----------------------------------------------------------------------------------------------------------

@st.composite
def points(draw, f, dtype=np.float64, count=POINTS, event_shape=None):
    """`Points` of f: events, cotangents of value, latent and log-det."""
    source = DrawnSource(draw)
    return points_of(source, f, dtype, count, source.choice(event_shapes(f, SIZES)) if event_shape is None else event_shape)


def points_of(source, f, dtype, count, event_shape):
    event_shape = tuple(event_shape)
    out_shape = tuple(f.output_shape(event_shape))
    z = rounded_inside(f, events_of(source, f, dtype, count, event_shape).astype(dtype), len(event_shape))
    bars = [source.signed(shape, -SPREAD, SPREAD).astype(dtype)
            for shape in ((count, *out_shape), (count, *event_shape), (count,))]
    return Points(f, z, *bars)


def rounded_inside(f, z, rank):
    """Rounded events; a member stands for each that rounding has moved to an end of the domain."""
    inside = f.domain.members(z, rank)
    return f.domain.completed(z, inside.reshape(inside.shape + (1,) * rank))


@st.composite
def drawn(draw, page, dtype=np.float64, count=POINTS):
    """`drawn_of`, asking Hypothesis."""
    return drawn_of(DrawnSource(draw), page, dtype, count)


def drawn_of(source, page, dtype=np.float64, count=POINTS):
    """(bijector of a page, its points); if it has a mask, the map of its valid entries."""
    f, shapes = value_of(source, page, dtype, count)
    f, shape = at_valid(f, source.choice(shapes))
    return f, points_of(source, f, dtype, count, shape)


def events_of(source, f, dtype, count, shape):
    """Events whose image has not saturated.

    The others are replaced by inverses of drawn images, where f is scalar or the domain is of lower dimension, or else moved
    towards the anchor of the domain.
    """
    where, free = f.domain, f.domain.entrywise and f.domain.rank == 0 and not f.domain.thin
    together = 1 if f.moderate or nets_of(f) else SPREAD        # networks may overflow where their maps do not
    z = where.draw(source, (count, *shape), dtype, EVENT_SPREAD - SPREAD if shape and free else EVENT_SPREAD)
    if shape and free:                                          # entries of one event are of similar size
        sized = z * source.numbers((count,) + (1,) * len(shape), -together, together).astype(dtype)
        z = np.where(where.outside(sized), z, sized)
    g = f.astype(np.float64)
    z = z.astype(np.float64)
    bad = saturated(g, z)
    for spread in (SPREAD, NEAR_THE_MIDDLE) if f.event_ndim == (0, 0) and not f.components() else ():
        if bad.any():
            from_image = g.inverse(g.codomain.draw(source, (count,), np.float64, spread))
            usable = where.members(from_image, 0)
            z = np.where(bad & usable & ~saturated(g, np.where(usable, from_image, z)), from_image, z)
            bad = saturated(g, z)
    if where.thin and not where.narrow and bad.any() and not f.components():
        from_image = g.inverse(g.codomain.draw(source, (count, *g.output_shape(shape)), np.float64, SPREAD))
        z = np.where((bad & where.members(from_image, len(shape))).reshape(bad.shape + (1,) * len(shape)), from_image, z)
    if free:
        for _ in range(20):
            if not bad.any():
                break
            z = np.where(bad.reshape(bad.shape + (1,) * len(shape)), (z + where.middle(shape)) / 2, z)
            bad = saturated(g, z)
    return off_breaks(g, z) if f.event_ndim == (0, 0) else z


def off_breaks(f, z):
    """Events of a scalar map, moved off its breaks: differences say nothing there, and the certificate asks there."""
    moved = z * 1.25
    at = (z[..., None] == f.breaks()).any(-1) & (moved != z) & ~saturated(f, moved) & ~f.domain.outside(moved)
    return np.where(at, moved, z)


def saturated(f, z):
    """One mark for each event: an image, moved by MARGIN, leaves its codomain, or is out of range, or the slope of a scalar map is.

    So is an event that is lost in its image: moved by LOST of itself, an image would move z by more than z.  All are marked if a
    component refuses an event that another hands it.
    """
    try:
        marks = ~stays_inside(f, z, MARGIN, MODERATE)
        if f.event_ndim == (0, 0):
            log_det = f.log_det(z)
            with np.errstate(all="ignore"):
                lost = np.abs(z) * np.exp(log_det) < LOST * np.abs(f.forward(z))
            marks = marks | (np.abs(log_det) > np.log(MODERATE)) | lost
    except ValueError:
        return np.ones(z.shape[:z.ndim - f.event_ndim[0]], bool)
    if f.codomain.rank == 1 and not f.codomain.narrow:            # neighbours moved apart, or together
        x = f.forward(z)
        marks = marks | f.codomain.outside(x * (1 - MARGIN * (-1.0) ** np.arange(x.shape[-1])))
        marks = marks | f.codomain.outside(x * (1 + MARGIN * (-1.0) ** np.arange(x.shape[-1])))
    if f.codomain.narrow:
        x = f.forward(z)
        marks = marks | ((x != 0) & (x < THIN) & (x > -THIN)).any(axis=tuple(range(-f.event_ndim[1], 0)))
    return marks
