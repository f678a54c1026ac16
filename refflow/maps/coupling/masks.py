"""Splits for couplings, which papers call masks: boolean arrays, True where the event passes through.

A mask of shape `(D,)` is for vectors; `(C, T)`, `(C, H, W)` for events of that shape, entry by entry; `(C, 1)`, `(C, 1, 1)`
for whole channels of events of any length or size.
"""

from __future__ import annotations

import numpy as np


def checked_size(name, size):
    if not isinstance(size, (int, np.integer)) or size < 1:
        raise ValueError(f"{name}: size must be an int >= 1, not {size!r}")
    return int(size)


def halves(size, first=None, flip=False):
    """(size,): True on the first `first` entries, by default size // 2; `flip` exchanges the two parts."""
    size = checked_size("halves", size)
    first = size // 2 if first is None else first
    if not 0 <= first <= size:
        raise ValueError(f"halves: first must be in 0 .. {size}, not {first!r}")
    return (np.arange(size) < first) ^ bool(flip)


def alternating(size, flip=False):
    """(size,): True, False, True, ...; `flip` exchanges the two parts."""
    return (np.arange(checked_size("alternating", size)) % 2 == 0) ^ bool(flip)


def checkerboard(*shape, flip=False):
    """(H, W) or (C, H, W): True where i + j is even, the same in every channel; `flip` exchanges the two parts."""
    if len(shape) not in (2, 3):
        raise ValueError(f"checkerboard: the shape must be (H, W) or (C, H, W), not {shape}")
    shape = tuple(checked_size("checkerboard", n) for n in shape)
    i, j = np.indices(shape[-2:])
    return np.broadcast_to(((i + j) % 2 == 0) ^ bool(flip), shape).copy()


def channels(mask, ndim):
    """(C, 1, ..., 1) with `ndim` axes: the mask (C,) on whole channels, for events (C, T) or (C, H, W) of any T, H, W."""
    mask = np.asarray(mask)
    if mask.dtype != bool or mask.ndim != 1:
        raise ValueError(f"channels: mask must be a boolean vector, not {mask.dtype} of shape {mask.shape}")
    if ndim < 1:
        raise ValueError(f"channels: ndim must be >= 1, not {ndim}")
    return mask.reshape(-1, *(1,) * (ndim - 1))


class Split:
    """The two parts of an event that a mask makes, as views if the positions have a constant step.

    A mask of channels splits the first event axis, and the parts are (*batch, n, *rest); any other mask splits the event as
    a vector, and the parts are (*batch, n).
    """

    def __init__(self, mask):
        self.ndim, self.shape = mask.ndim, mask.shape
        self.by_channel = all(n == 1 for n in mask.shape[1:])
        self.rest = mask.ndim - 1 if self.by_channel else 0
        self.axis = -1 - self.rest
        self.axes = tuple(range(self.axis, 0))
        flat = mask.ravel()
        self.sizes = int(flat.sum()), int(flat.size - flat.sum())
        self.a, self.b = (self._positions(np.flatnonzero(m)) for m in (flat, ~flat))
        self.in_order = flat[:self.sizes[0]].all(), flat[self.sizes[1]:].all()

    def _positions(self, index):
        """Positions over the channel axis, as a slice if they have a constant step."""
        steps = np.unique(np.diff(index))
        if index.size and steps.size <= 1:
            step = int(steps[0]) if steps.size else 1
            index = slice(int(index[0]), int(index[-1]) + 1, step)
        return (Ellipsis, index, *(slice(None),) * self.rest)

    def channels(self):
        """(the number of each entry's channel among the channels in which the part b has entries, how many these are).

        The numbers broadcast with b.
        """
        numbers = np.indices(self.shape)[0].reshape(-1)[self.b[1]]
        distinct, numbers = np.unique(numbers, return_inverse=True)
        return numbers.reshape(-1, *(1,) * self.rest), len(distinct)

    def fits(self, shape):
        """Raise ValueError if an event's shape differs from the array's."""
        if len(shape) != self.ndim or (shape[0] != self.shape[0] if self.by_channel else tuple(shape) != self.shape):
            raise ValueError(f"its split is for events of shape {self.shape}" + (" (channels first)" if self.rest else ""))

    def part_shapes(self, shape):
        """Event shapes of the two parts."""
        return tuple((n, *shape[self.ndim - self.rest:]) for n in self.sizes)

    def parts(self, event):
        """(a, b): the part that passes through and the part that is transformed."""
        if not self.by_channel:
            event = event.reshape(*event.shape[:event.ndim - self.ndim], sum(self.sizes))
        return event[self.a], event[self.b]

    def merged(self, a, b, shape):
        """The event of the full shape `shape` from its parts."""
        if any(self.in_order):
            joined = np.concatenate((a, b) if self.in_order[0] else (b, a), self.axis)
        else:
            joined = np.empty((*a.shape[:a.ndim + self.axis], sum(self.sizes), *a.shape[a.ndim + self.axis + 1:]), b.dtype)
            joined[self.a], joined[self.b] = a, b
        return joined.reshape(shape)

    def entries(self, shape):
        """Flat indices of the entries of the two parts, for an event shape."""
        a, b = self.parts(np.arange(int(np.prod(shape))).reshape(shape))
        return a.ravel(), b.ravel()
