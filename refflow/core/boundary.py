"""The boundary between users and pages: arguments are checked once, then the page's own functions run on a copy.

A page's functions are written without checks.  Its class publishes each of them in a checked form.  On a user's value this
form checks dtypes, shapes and domain, refuses bad input by name, and calls the function on `value.unchecked(dtype)`; on such
a copy it is the function itself.  There is one class, whose methods show the page's own signatures and docstrings.

Memory has one owner.  A page's results may be views of its arguments, and its pullback may keep its argument and its results.
The checked form copies where that would show: a result shares no memory with an argument or with another result, and a
pullback reads arrays that no caller can reach.  So an array may be changed in place as soon as the call is over.
"""

from __future__ import annotations

import functools
import inspect

import numpy as np

from . import tree
from .arrays import as_floating, sum_to_shape

BLOCK = 16384
LETTERS = {0: (), 1: ("D",), 2: ("C", "T"), 3: ("C", "H", "W")}


def own_function(page, name):
    """The class's function of this name, as written on the page."""
    return inspect.unwrap(getattr(page, name))


def published(function, outside, doc):
    """A page's function with the boundary in front of it."""

    @functools.wraps(function)
    def method(self, *given, **named):
        if self.checked:
            return outside(function, self, *given, **named)
        return function(self, *given, **named)

    method.__doc__ = function.__doc__ or doc
    return method


# -- events -----------------------------------------------------------------------------------------------------------

def checked_event(self, given, side):
    """(unchecked copy, event, original shape): dtype, shape, broadcasting and domain, each refused by name.

    side 0 is z for forward, 1 is x for inverse.
    """
    name, letter = type(self).__name__, self.letters[side]
    event, _ = as_floating(f"{name}: {letter}", given)
    whole = (self.codomain if side else self.domain).whole
    dtype = np.result_type(event.dtype if not whole else self.dtype or event.dtype, self.dtype or event.dtype)
    event = event if whole else event.astype(dtype, copy=False)
    core = checked_shape(self, event, side)
    original = event.shape
    try:
        batch = np.broadcast_shapes(original[:event.ndim - len(core)], self.parameter_batch)
    except ValueError:
        raise ValueError(f"{name}: {letter} has batch shape {original[:event.ndim - len(core)]}, which does not broadcast "
                         f"with the parameters' batch {self.parameter_batch}") from None
    full = batch + core
    event = np.broadcast_to(event, full) if full != original else event
    event = without_masked(self, event, side)
    checked_domain(self, event, side)
    return self.unchecked(dtype), event, original


def checked_shape(self, event, side):
    """The event's core shape, checked against the fields' letters and the page's own rule."""
    name, letter = type(self).__name__, self.letters[side]
    ndim = self.event_ndim[side]
    if event.ndim < ndim:
        raise ValueError(f"{name}: {letter} must have at least {ndim} axes, not shape {event.shape}")
    core = event.shape[event.ndim - ndim:]
    try:
        inner = core if side == 0 else tuple(self.input_shape(core))
        held_to_letters(self, inner)
        self.output_shape(inner)
    except ValueError as error:
        raise ValueError(f"{name}: {letter} has event shape {core}: {error}") from None
    return core


def held_to_letters(self, shape):
    """The event shape of z, refused if a letter has another size in the fields."""
    for symbol, size in zip(self.event_shape or LETTERS.get(len(shape), ()), shape):
        if self.dims.get(symbol, size) != size:
            raise ValueError(f"the fields of {type(self).__name__} have {symbol}={self.dims[symbol]}")
    return shape


def checked_domain(self, event, side):
    """Refuse the first event outside the set; a finite boundary belongs to the set."""
    where = self.codomain if side else self.domain
    refusal = where.refusal(self.letters[side], event, closed=True)
    if refusal is not None:
        raise ValueError(f"{type(self).__name__}: {refusal}")


def over_positions(mask, ndim) -> np.ndarray:
    """A mask (*batch, T) shaped to multiply events (*batch, ..., T) of `ndim` axes."""
    return mask.reshape(mask.shape[:-1] + (1,) * (ndim - 1) + mask.shape[-1:])


def valid_positions(self, side):
    """The mask of a side's events, shaped to multiply them: its own, or the mask of the component that meets them first."""
    for key, field in self.own_fields().items():
        if field.role == "mask":
            mask = getattr(self, key)
            return None if mask is None else over_positions(mask, self.event_ndim[side])
    first = self.meets_first(side)
    return None if first is None else valid_positions(*first)


def without_masked(self, event, side):
    """Set to 0 the positions that a mask (*batch, T) calls invalid; they are never read."""
    valid = valid_positions(self, side)
    return event if valid is None else np.where(valid, event, event.dtype.type(0))


def checked_cotangent(self, name, given, like):
    bar, _ = as_floating(f"{type(self).__name__}: {name}", given)
    try:
        return np.broadcast_to(bar.astype(like.dtype, copy=False), like.shape)
    except ValueError:
        raise ValueError(f"{type(self).__name__}: {name} has shape {bar.shape}, which does not broadcast to "
                         f"{like.shape}") from None


# -- whose memory -----------------------------------------------------------------------------------------------------

def apart(array, *others):
    """The array, or a copy of it if it may share memory with one of the others."""
    shares = any(np.may_share_memory(array, other) for other in others)
    return array.copy(order="K") if shares else array


def all_apart(found, *others):
    """A result, a tuple of results or a nested dictionary of them: each shares no memory with the others."""
    if isinstance(found, dict):
        return {key: all_apart(part, *others) for key, part in found.items()}
    if isinstance(found, tuple):
        return tuple(apart(part, *found[:i], *others) for i, part in enumerate(found))
    return apart(found, *others)


def handed_out(values):
    """Copies of what a pullback may keep, for the caller."""
    return tuple(value.copy(order="K") for value in values)


# -- the public forms -------------------------------------------------------------------------------------------------

def in_blocks(function, view, event):
    """An elementwise function of a large array, block by block, so that its temporaries stay in the cache."""
    flat = event.reshape(-1)
    pieces = function(block_of(view, event.shape, slice(0, BLOCK)), flat[:BLOCK])
    several = isinstance(pieces, tuple)
    outputs = [np.empty(flat.shape, piece.dtype) for piece in (pieces if several else (pieces,))]
    for start in range(0, flat.size, BLOCK):
        block = slice(start, start + BLOCK)
        pieces = function(block_of(view, event.shape, block), flat[block])
        for output, piece in zip(outputs, pieces if several else (pieces,)):
            output[block] = piece
    outputs = tuple(output.reshape(event.shape) for output in outputs)
    return outputs if several else outputs[0]


def batch_of(field, array):
    """The leading axes of a field's array."""
    return array.shape[:array.ndim - len(field.shape)]


def block_of(view, shape, block):
    """The view for a block of the flat events of this shape: fields that differ from event to event are cut likewise."""
    if view.parameter_batch == ():
        return view

    def cut(path, field, array, _):
        lead = batch_of(field, array)
        return array.reshape(-1, *array.shape[len(lead):])[block] if lead else array

    return tree.mapped(view, cut)


def cut_into_blocks(view, event):
    """Is a map of numbers applied to so many that blocks are faster, with fields that are single or belong to single events?"""
    if event.size <= 2 * BLOCK or view.event_ndim != (0, 0):
        return False
    return view.parameter_batch == () or all(
        batch_of(owner.declared[key], array) in ((), event.shape)
        for _, owner in tree.walk(view) for key, array in tree.arrays(owner).items())


def of_event(side, entrywise=False):
    """The public form of a function of an event; `entrywise`: large arrays may be cut into blocks if the page maps numbers."""

    def outside(function, self, event):
        copy, event, _ = checked_event(self, event, side)
        with np.errstate(all="ignore"):
            if entrywise and cut_into_blocks(copy, event):
                return in_blocks(function, copy, event)
            return all_apart(function(copy, event), event)

    return outside


def vjp_of_event(side, *names):
    """The public form of a vjp.

    It checks the cotangents, which have these names, when the pullback is called, and sums the event's to its own shape.
    Where the image is itself an event, cotangents at masked positions are ignored.  The pullback keeps an event and results of
    its own.
    """

    def outside(function, self, event):
        copy, event, original = checked_event(self, event, side)
        with np.errstate(all="ignore"):
            found, pullback = function(copy, event.copy(order="K"))
        several = isinstance(found, tuple)
        values = found if several else (found,)

        def checked_pullback(*given):
            if len(given) != len(names):
                raise TypeError(f"{type(self).__name__}: the pullback takes {', '.join(names)}")
            bars = [checked_cotangent(self, name, bar, value) for name, bar, value in zip(names, given, values)]
            if len(self.event_ndim) == 2:
                bars[0] = without_masked(self, bars[0], 1 - side)
            with np.errstate(all="ignore"):
                event_bar, params_bar = pullback(*bars)
            event_bar = apart(sum_to_shape(event_bar, original), *bars)
            return event_bar, all_apart(params_bar, event_bar, *bars)

        return handed_out(values) if several else handed_out(values)[0], checked_pullback

    return outside


def reducing(page_vjp):
    """A page's vjp with its parameters' cotangents summed over the axes that broadcast."""

    @functools.wraps(page_vjp)
    def vjp(self, *given):
        values, pullback = page_vjp(self, *given)

        def reduced(*bars):
            event_bar, params_bar = pullback(*bars)
            return event_bar, self.reduce(params_bar)

        return values, reduced

    return vjp
