"""Fields to Hypothesis: bijectors, points and cotangents drawn from what a page declares.

Numbers are sign * mantissa * 2^exponent, read from drawn bytes, so that Hypothesis shrinks them: all bytes 0 is 1.0, small
bytes are signs and powers of 2, larger ones fill the mantissa.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
from hypothesis import strategies as st

from ..core import constant, permutation, sets
from ..core.boundary import LETTERS
from ..core.declarations import Child, Field, Plain, size_of
from ..accuracy.points import Points, stays_inside

POINTS = 32
SIZES = (1, 2, 3, 4)
SPREAD = 6                      # parameters and cotangents: 2^-6 to 2^6
EVENT_SPREAD = 9                # events: 2^-9 to 2^10, about 1e-3 to 1e3
MARGIN = 2.0**-18               # an image that is moved by this much stays inside: it has not saturated, in float32 either
THIN = 2.0**-12                # the smallest entry of a structured image, for the same reason
MODERATE = 2.0**100             # images beyond this, or below its reciprocal, are the certificate's
BYTES = 3


# -- numbers ----------------------------------------------------------------------------------------------------------

def numbers(data, shape, spread):
    """An array of sign * mantissa * 2^exponent, |exponent| <= spread, from three bytes each."""
    k = np.frombuffer(data, np.uint8).astype(np.int64).reshape(-1, BYTES) @ np.array([65536, 256, 1])
    levels = 2 * spread + 1
    sign, step, rest = 1.0 - 2.0 * (k & 1), (k >> 1) % levels, (k >> 1) // levels
    exponent = np.where(step % 2 == 0, -step // 2, (step + 1) // 2)
    mantissa = 1 + rest * 0.6180339887498949 % 1 * 0.95         # a sequence that fills all digits, starting at 1
    return (sign * np.ldexp(mantissa, exponent)).reshape(shape)


def draw_numbers(draw, shape, spread=SPREAD):
    size = BYTES * int(np.prod(shape))
    return numbers(draw(st.binary(min_size=size, max_size=size)), shape, spread)


# -- members of sets --------------------------------------------------------------------------------------------------

def draw_orthogonal(draw, shape):
    """Orthogonal matrices: the identity for the simplest draw."""
    free = draw_numbers(draw, shape, 1) - 1
    q, r = np.linalg.qr(free + 3 * np.eye(shape[-1]))
    return q * np.sign(np.diagonal(r, axis1=-2, axis2=-1))[..., None, :]


def draw_invertible(draw, shape, spread):
    """Row scale x orthogonal x column scale."""
    rows = draw_numbers(draw, (*shape[:-1], 1), spread)
    columns = draw_numbers(draw, (*shape[:-2], 1, shape[-1]), spread)
    return rows * draw_orthogonal(draw, shape) * columns


def draw_simplex(draw, shape, spread):
    weights = np.abs(draw_numbers(draw, shape, spread))
    return weights / weights.sum(-1, keepdims=True)


def draw_correlation(draw, shape, spread):
    rows = np.tril(draw_numbers(draw, shape, spread), -1) + np.eye(shape[-1])
    return rows / np.sqrt((rows * rows).sum(-1, keepdims=True))


def draw_permutation(draw, shape, spread):
    keys = draw(st.binary(min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return np.argsort(np.frombuffer(keys, np.uint8).reshape(shape), -1, kind="stable")


def draw_mask(draw, shape, spread):
    keys = draw(st.binary(min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    return np.frombuffer(keys, np.uint8).reshape(shape) % 2 == 0


STRUCTURED = {
    "invertible": draw_invertible, "simplex": draw_simplex, "correlation_cholesky": draw_correlation,
    "orthogonal": lambda draw, shape, spread: draw_orthogonal(draw, shape),
    permutation("D").set.name: draw_permutation, constant().set.name: draw_mask,
    "strictly_lower": lambda draw, shape, spread: np.tril(draw_numbers(draw, shape, spread // 3), -1),
    "strictly_upper": lambda draw, shape, spread: np.triu(draw_numbers(draw, shape, spread // 3), 1),
}


def draw_member(draw, where, shape, spread=SPREAD):
    """Members of a set: scalars from their ends, structured sets from free entries, others by the set's own draw."""
    if where.name in STRUCTURED:
        return STRUCTURED[where.name](draw, shape, spread)
    if where.rank or not where.entrywise:
        return where.draw(np.random.default_rng(draw(st.integers(0, 2**32 - 1))), shape, spread)
    values = draw_numbers(draw, shape, spread)
    size = np.abs(values)
    if np.isinf(where.lower) and np.isinf(where.upper):
        return values
    if np.isinf(where.upper):
        return where.lower + size
    if np.isinf(where.lower):
        return where.upper - size
    fraction = np.where(values > 0, size, 1 / size) / (1 + np.where(values > 0, size, 1 / size))
    return where.lower + (where.upper - where.lower) * fraction


# -- bijectors --------------------------------------------------------------------------------------------------------

@st.composite
def bijectors(draw, page, dtype=np.float64, batch=POINTS, spread=SPREAD):
    """Bijectors of one page with drawn sizes and parameters; a field has batch axes (batch,), (1,) or none."""
    letters = {s for f in page.declared.values() if isinstance(f, Field) for s in f.shape if isinstance(s, str)}
    letters = {s.split("+")[0].split("-")[0] for s in letters}
    sizes = {letter: draw(st.sampled_from(SIZES)) for letter in sorted(letters)}
    fields = {}
    for key, field in page.declared.items():
        if isinstance(field, Plain):
            fields[key] = draw(st.sampled_from(plain_values(page, key, field)))
        elif isinstance(field, Child):
            raise TypeError(f"{page.__name__}: {key} is a component; draw it, and build the composition from it")
        elif not field.optional or not field.constant and key != "context" and draw(st.booleans()):
            lead = () if field.constant else draw(st.sampled_from([(), (), (batch,), (1,)]))
            shape = lead + tuple(size_of(symbol, sizes) for symbol in field.shape)
            value = draw_member(draw, field.set, shape, spread)
            fields[key] = value.astype(field.dtype if field.constant else dtype)
        else:
            fields[key] = None
    f = page(**fields)
    return draw(bijectors(page, dtype, batch, spread - 2)) if steep(f) else f


def steep(f):
    """Does a constant slope leave what is MODERATE?  Events that are small enough may hide that from the image."""
    if not getattr(f, "constant_log_det", False) or f.normwise or not f.domain.entrywise:
        return False
    slopes = np.abs(f.astype(np.float64).jacobian(np.full(event_shapes(f)[0], f.domain.anchor)))
    return bool(np.any((slopes > MODERATE) | (slopes < 1 / MODERATE) & (slopes != 0)))


def plain_values(page, key, field):
    """What a plain field may be: its default and what the hard cases give it."""
    values = [case.params[key] for case in page.hard_cases if key in case.params]
    return list(dict.fromkeys(([] if field.default is dataclasses.MISSING else [field.default]) + values))


def event_shapes(f):
    """Event shapes of z that fit f: its letters known from the fields, the others of 1 to 4."""
    letters = f.event_shape or LETTERS[f.event_ndim[0]]
    free = [[f.dims[s]] if s in f.dims else SIZES for s in letters]
    return [shape for shape in itertools.product(*free) if has_output(f, shape)]


def has_output(f, shape):
    try:
        f.output_shape(shape)
    except ValueError:
        return False
    return True


# -- points -----------------------------------------------------------------------------------------------------------

@st.composite
def points(draw, f, dtype=np.float64, count=POINTS, event_shape=None):
    """`Points` of f: events, cotangents of value, latent and log-det."""
    event_shape = draw(st.sampled_from(event_shapes(f))) if event_shape is None else tuple(event_shape)
    out_shape = tuple(f.output_shape(event_shape))
    z = draw_events(draw, f, count, event_shape).astype(dtype)
    bars = [draw_numbers(draw, shape).astype(dtype) for shape in ((count, *out_shape), (count, *event_shape), (count,))]
    return Points(f, z, *bars)


@st.composite
def drawn(draw, page, dtype=np.float64, count=POINTS):
    """(bijector of a page, its points)."""
    f = draw(bijectors(page, dtype, count))
    return f, draw(points(f, dtype, count))


def draw_events(draw, f, count, shape):
    """Events whose image has not saturated.

    Those whose image has are replaced by inverses of drawn images, where f is scalar, or else moved towards the anchor of
    the domain.
    """
    if f.domain.name in STRUCTURED or f.domain.rank:
        z = draw_member(draw, f.domain, (count, *shape))
    elif shape:
        size = np.abs(draw_numbers(draw, (count,) + (1,) * len(shape), SPREAD))
        z = spread_over(f.domain, size * draw_numbers(draw, (count, *shape), EVENT_SPREAD - SPREAD))
    else:
        z = spread_over(f.domain, draw_numbers(draw, (count,), EVENT_SPREAD))
    g = f.astype(np.float64)
    bad = saturated(g, z)
    if f.event_ndim == (0, 0) and bad.any() and not f.components():
        from_image = g.inverse(draw_member(draw, f.codomain, (count,)))
        usable = f.domain.members(from_image, 0)
        z = np.where(bad & usable & ~saturated(g, np.where(usable, from_image, z)), from_image, z)
        bad = saturated(g, z)
    if f.domain.entrywise and f.domain.rank == 0:
        for _ in range(20):
            if not bad.any():
                break
            z = np.where(bad.reshape(bad.shape + (1,) * len(shape)), (z + f.domain.anchor) / 2, z)
            bad = saturated(g, z)
    return z


def spread_over(domain, values):
    """Signed numbers as members of a scalar set."""
    if np.isinf(domain.lower) and np.isinf(domain.upper):
        return values
    if np.isinf(domain.upper):
        return domain.lower + np.abs(values)
    if np.isinf(domain.lower):
        return domain.upper - np.abs(values)
    fraction = np.where(values > 0, values, -1 / values) / (1 + np.where(values > 0, values, -1 / values))
    return domain.lower + (domain.upper - domain.lower) * np.clip(fraction, MARGIN, 1 - MARGIN)


def saturated(f, z):
    """One mark for each event: an image, moved by MARGIN, leaves its codomain, or is out of range.

    All are marked where a component refuses what another hands it.
    """
    try:
        marks = ~stays_inside(f, z, MARGIN, MODERATE)
    except ValueError:
        return np.ones(z.shape[:z.ndim - f.event_ndim[0]], bool)
    if f.codomain in (sets.simplex, sets.correlation_cholesky):
        x = f.forward(z)
        marks = marks | ((x != 0) & (x < THIN) & (x > -THIN)).any(axis=tuple(range(-f.event_ndim[1], 0)))
    return marks
