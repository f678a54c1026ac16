"""Shared by the densities: sums and products over the entries of an event, and draws."""

from __future__ import annotations

import math

import numpy as np

from ...core.arithmetic import log_abs_product

HALF_LOG_2_PI = math.log(2 * math.pi) / 2


def entries(nested, shape):
    """The numbers of nested lists, broadcast to an event of `shape`, as definitions see them."""
    return np.broadcast_to(np.array(nested, object), shape).ravel().tolist()


def over_entries(values, rank):
    """The sum over the last `rank` axes."""
    return values.sum(axis=tuple(range(-rank, 0)))


def log_product(values, batch, shape):
    """log prod of positive values over an event of `shape`, for each element of the parameters' batch."""
    return log_abs_product(np.broadcast_to(values, batch + shape).reshape(*batch, math.prod(shape)))


def times_quotient(a, d, scale):
    """a t with t = d / scale, where t may overflow although a t does not; 0 where a is 0."""
    t = d / scale
    return np.where(np.isfinite(t), a * t, a * d / scale)


def drawn(standard, lead, shape, dtype):
    """Draws in float64 from a method of the Generator, in `dtype`."""
    return standard(size=lead + shape).astype(dtype)


def location_scale(page, standard, lead):
    """(z, pullback) of loc + scale e."""
    e = drawn(standard, lead, page.event_shape, page.scale.dtype)
    z = page.loc + page.scale * e
    return z, lambda z_bar: {"loc": z_bar, "scale": z_bar * e}
