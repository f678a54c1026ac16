"""A map with a mask of sequences, as a map of the vectors of an event's entries at valid positions.

What a masked map does with these entries is a map like any other: it has an inverse, a Jacobian and a log-det, and every law
applies to it.  All other entries are 0 going in and coming out.
"""

from __future__ import annotations

import numpy as np

from ..core import Bijector, bijector, child, plain


def is_masked(f):
    """Has a map, or a component, a mask that is filled in?"""
    return bool(f.held("mask"))


def valid_entries(f, shape):
    """Flat indices of the valid entries of an event (C, T) of a masked map; the mask has no batch axes."""
    return np.flatnonzero(np.broadcast_to(f.held("mask")[0], shape))


def placed(entries, where, shape, fill=0):
    """Events (*batch, *shape) with the given entries (*batch, k) at the flat indices `where`, all others `fill`."""
    events = np.full((*entries.shape[:-1], int(np.prod(shape))), fill, entries.dtype)
    events[..., where] = entries
    return events.reshape(*entries.shape[:-1], *shape)


def taken(events, where, ndim):
    """The entries (*batch, k) of events of `ndim` axes at the flat indices `where`."""
    batch = events.shape[:events.ndim - ndim]
    return events.reshape(*batch, int(np.prod(events.shape[events.ndim - ndim:])))[..., where]


@bijector(register=False)
class AtValid(Bijector):
    """`inner`, whose masks (T,) are filled in, on the entries at valid positions of events of z of `shape`."""

    inner: Bijector = child()
    shape: tuple = plain()
    event_ndim = (1, 1)

    domain = property(lambda self: self.inner.domain)
    codomain = property(lambda self: self.inner.codomain)
    constant_log_det = property(lambda self: self.inner.constant_log_det)
    solver = property(lambda self: self.inner.solver)
    normwise = property(lambda self: self.inner.normwise)

    def event_shape_of(self, side):
        return tuple(self.inner.output_shape(self.shape)) if side else tuple(self.shape)

    def where(self, side):
        return valid_entries(self.inner, self.event_shape_of(side))

    def placed(self, entries, side, fill=0):
        return placed(entries, self.where(side), self.event_shape_of(side), fill)

    def taken(self, events, side):
        return taken(events, self.where(side), len(self.event_shape_of(side)))

    def _fits(self, shape, side):
        if tuple(shape) != self.where(side).shape:
            raise ValueError(f"it has {len(self.where(side))} valid entries")
        return self.where(1 - side).shape

    def output_shape(self, shape):
        return self._fits(shape, 0)

    def input_shape(self, shape):
        return self._fits(shape, 1)

    def applied_at(self, shape):
        return [(self.event_shape_of(0), ())]

    def forward(self, z):
        return self.taken(self.inner.forward(self.placed(z, 0)), 1)

    def inverse(self, x):
        return self.taken(self.inner.inverse(self.placed(x, 1)), 0)

    def log_det(self, z):
        return self.inner.log_det(self.placed(z, 0))

    def forward_and_log_det(self, z):
        x, log_det = self.inner.forward_and_log_det(self.placed(z, 0))
        return self.taken(x, 1), log_det

    def inverse_and_log_det(self, x):
        z, log_det = self.inner.inverse_and_log_det(self.placed(x, 1))
        return self.taken(z, 0), log_det

    def jacobian(self, z):
        return self.inner.jacobian(self.placed(z, 0))[..., self.where(1)[:, None], self.where(0)]

    def vjp(self, z):
        return self._reversed(self.inner.vjp(self.placed(z, 0)), 0)

    def inverse_vjp(self, x):
        return self._reversed(self.inner.inverse_vjp(self.placed(x, 1)), 1)

    def initialised(self, data, rng):
        return self.replace(inner=self.inner.initialised(self.placed(data, 0), rng))

    def inverse_initialised(self, data, rng):
        return self.replace(inner=self.inner.inverse_initialised(self.placed(data, 1), rng))

    def _reversed(self, found, side):
        (image, log_det), inner_pullback = found

        def pullback(image_bar, log_det_bar):
            event_bar, inner_bar = inner_pullback(self.placed(image_bar, 1 - side), log_det_bar)
            return self.taken(event_bar, side), {"inner": inner_bar}

        return (self.taken(image, 1 - side), log_det), pullback


def at_valid(f, shape):
    """(f, the shape of its z), or if f has a mask the map of its valid entries."""
    if not is_masked(f):
        return f, tuple(shape)
    g = AtValid(f, tuple(shape))
    return g, g.where(0).shape
