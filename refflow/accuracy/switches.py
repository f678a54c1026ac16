"""Where code switches: neighbouring numbers between which one of its comparisons changes its result.

A threshold needs no list: code names it by comparing with it.  `comparisons` runs code on arrays that keep the result of each
<, <=, > and >=, and each choice of np.minimum, np.maximum and np.clip.  Where a result differs between two neighbours of a ladder
of numbers, `switches` asks the numbers between them too, and so on down to two neighbouring floats.

A comparison that changes its result twice between two neighbours of the ladder is only found if another one changes between them.
"""

from __future__ import annotations

import numpy as np

BITS = {np.dtype(np.float64): np.int64, np.dtype(np.float32): np.int32}
ORDERED = np.less, np.less_equal, np.greater, np.greater_equal
CHOICES = np.minimum, np.maximum, np.clip
PARTS = 33                          # numbers of an interval that are asked at once; no axis of a parameter is as long
AT_ONCE = 10                        # intervals


# -- recording --------------------------------------------------------------------------------------------------------

class Marked(np.ndarray):
    """An array that appends to `results` how each number compares; what is made of it does so too."""

    results = None

    def __array_finalize__(self, source):
        self.results = getattr(source, "results", None)

    def __array_ufunc__(self, ufunc, method, *inputs, **options):
        inputs, options = plain(inputs), plain(options)
        found = getattr(ufunc, method)(*inputs, **options)
        if method == "__call__" and ufunc in ORDERED:
            self.results.append(found)
        elif method == "__call__" and ufunc in CHOICES:
            self.results.append(found == inputs[0])
        return self.marked(found)

    def __array_function__(self, function, types, arguments, options):
        return self.marked(function(*plain(arguments), **plain(options)))

    def marked(self, found):
        """The arrays in what was found, marked like this one."""
        if isinstance(found, (tuple, list)):
            return type(found)(map(self.marked, found)) if type(found) in (tuple, list) else found
        return marked(found, self.results) if type(found) is np.ndarray else found


def marked(array, results):
    found = array.view(Marked)
    found.results = results
    return found


def plain(given):
    """Arguments with plain arrays in place of marked ones."""
    if isinstance(given, Marked):
        return given.view(np.ndarray)
    if type(given) in (tuple, list):
        return type(given)(map(plain, given))
    return {key: plain(value) for key, value in given.items()} if type(given) is dict else given


def comparisons(answer, events):
    """{place: marks (count, ...)}: every comparison that `answer(events)` makes of its events (count, ...), in their order."""
    results = []
    answer(marked(events, results))
    return {place: by_event(np.asarray(result), len(events)) for place, result in enumerate(results)
            if len(events) in np.shape(result)}


def by_event(result, count):
    """A result with the axis of events first, flat otherwise."""
    return np.moveaxis(result, result.shape.index(count), 0).reshape(count, -1)


# -- searching --------------------------------------------------------------------------------------------------------

def switches(results_at, ladders, source):
    """{place: [(below, above)]}: neighbouring floats between which a comparison changes its result.

    `results_at(numbers)` gives {place: marks (count, ...)}, the results of comparisons at each number; a ladder holds increasing
    numbers.
    """
    intervals, found = [ladder for ladder in ladders if len(ladder)], {}
    while intervals:
        wide = {}
        for place, below, above in changes(results_at, intervals):
            if above == np.nextafter(below, above):
                found.setdefault(place, set()).add((below, above))
            else:
                wide[below, above] = place
        intervals = [between(*ends) for ends in some(wide, source)]
    return {place: sorted(pairs) for place, pairs in found.items()}


def changes(results_at, intervals):
    """(place, below, above): neighbours in an interval of numbers at which a comparison has different results."""
    numbers, ends = np.concatenate(intervals), np.cumsum([len(interval) for interval in intervals])
    for place, marks in results_at(numbers).items():
        differ = (marks[1:] != marks[:-1]).any(-1)
        differ[ends[:-1] - 1] = False
        yield from ((place, numbers[i], numbers[i + 1]) for i in np.flatnonzero(differ))


def some(wide, source):
    """At most AT_ONCE intervals, of every place in turn."""
    by_place = {}
    for interval, place in wide.items():
        by_place.setdefault(place, []).append(interval)
    queues = [[held[i] for i in source.orders((len(held),))] for held in by_place.values()]
    in_turn = [queue[i] for i in range(max(map(len, queues), default=0)) for queue in queues if i < len(queue)]
    return in_turn[:AT_ONCE]


def between(below, above):
    """At most PARTS floats from one number to another, evenly by their order."""
    kind = BITS[below.dtype]
    first, last = (order_of(end, kind) for end in (below, above))
    steps = sorted({first + (last - first) * i // (PARTS - 1) for i in range(PARTS)})
    return np.array([float_of(step, below.dtype, kind) for step in steps])


def order_of(number, kind):
    """The number of a float, counted from 0."""
    bits = int(np.abs(number).view(kind))
    return -bits if number < 0 else bits


def float_of(order, dtype, kind):
    size = np.asarray(abs(order), kind).view(dtype)[()]
    return -size if order < 0 else size
