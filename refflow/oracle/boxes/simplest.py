"""From the event at which a law fails to the simplest one found that still shows the failure.

Simpler means: alone in its batch, else with one plain neighbour; entries 0; then numbers with few digits.
"""

from __future__ import annotations

import time
from itertools import takewhile

import numpy as np

from .lawbook import Found

TRIES = 80
SECONDS = 8
DIGITS = (1, 2, 3)


def simplest(found, again):
    """`found`, or the failure at a simpler batch; `again(events)` is the failure there or None."""
    event = getattr(found, "event", None)
    if not isinstance(found, Found) or event is None:
        return found
    search = Search(found, again)
    for neighbours in ([], [np.zeros_like(event)], [np.ones_like(event)]):
        if search.alone(event, neighbours):
            search.fewer_digits()
            break
    return search.best


class Search:
    """A greedy walk: `best` is the simplest failure so far, at `event` with `neighbours`."""

    def __init__(self, found, again):
        self.best, self.again, self.left, self.until = found, again, TRIES, time.monotonic() + SECONDS
        self.event, self.neighbours = None, []

    def alone(self, event, neighbours):
        self.neighbours = neighbours
        return self.attempt(event)

    def attempt(self, event):
        """Does the law fail at this event too?"""
        if self.left <= 0 or time.monotonic() > self.until:
            return False
        self.left -= 1
        events = np.stack([event, *self.neighbours])
        found = self.again(events)
        if not isinstance(found, Found):
            return False
        self.best, self.event, found.events = found, event, events
        return True

    def fewer_digits(self):
        """All entries alike; then each by itself: only numbers that are simpler than the entry, which stand before it."""
        whole = (np.full_like(self.event, value) for value in (0.0, 1.0))
        any(map(self.attempt, takewhile(lambda event: not np.array_equal(event, self.event), whole)))
        for index in np.ndindex(self.event.shape):
            value = float(self.event[index])
            rounded = [0.0, 1.0, -1.0, *(float(f"{value:.{digits}g}") for digits in DIGITS)]
            simpler = takewhile(lambda simple, value=value: simple != value, rounded)
            any(self.attempt(self.changed(index, simple)) for simple in simpler)

    def changed(self, index, value):
        event = np.array(self.event)
        event[index] = value
        return event
