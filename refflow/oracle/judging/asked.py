"""What was asked of somebody's code, and what was not: the range of events, its share of the whole, and why answers were left out."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...accuracy.drawing import SIDES, set_of
from ...report import counted

LETTERS = {"forward": "z", "inverse": "x"}
FLOATS = {"float64": np.int64, "float32": np.int32}
UNSTEADY, OVERFLOWS = "rounding the input moves the truth too far", "the truth overflows, or there is none"
ENOUGH = "wrong, as many others that are known already"
MOST_SHAPES = 6             # that a table shows
LEAVES = "moved for its truth, it leaves the set of a stage"


@dataclass
class Asked:
    """The events of one subject on one side: the smallest and the largest number, of the set from `lower` to `upper`, in words `whole`.

    `share` is the share of the set's floating-point numbers that lie between the two; for vectors, the share of their entries.
    `shapes` are the shapes of the events, in the order in which they were met.
    """

    bijector: str
    theirs: str
    dtype: str
    side: str
    lower: float
    upper: float
    whole: str
    low: float = np.inf
    high: float = -np.inf
    events: int = 0
    left_out: dict = field(default_factory=dict)
    shapes: list = field(default_factory=list)

    @property
    def share(self):
        whole = floats_between(self.lower, self.upper, self.dtype)
        return min(1.0, floats_between(self.low, self.high, self.dtype) / whole) if whole > 0 else 1.0

    def add(self, event, count, shape=()):
        self.shapes += [list(shape)] * (list(shape) not in self.shapes)
        finite = event[np.isfinite(event)]
        self.events += count
        if finite.size:
            self.low, self.high = min(self.low, float(finite.min())), max(self.high, float(finite.max()))

    def leave_out(self, reason, count):
        if count:
            self.left_out[reason] = self.left_out.get(reason, 0) + int(count)

    def as_dict(self):
        return {**vars(self), "share": self.share}

    def range_text(self):
        if self.low > self.high:
            return f"{LETTERS[self.side]} nowhere"
        return (f"{LETTERS[self.side]} on [{self.low:.3g}, {self.high:.3g}] of {self.whole}, "
                f"{share_text(self.share)} of its numbers{self.shapes_text()}")

    def shapes_text(self):
        """", in events of shape (3, 1, 1), (3, 2, 4)" where they have axes."""
        told = [str(tuple(shape)) for shape in self.shapes if shape]
        more = f" and {len(told) - MOST_SHAPES} more" if len(told) > MOST_SHAPES else ""
        return f", in events of shape {', '.join(told[:MOST_SHAPES])}{more}" if told else ""


def asked_of(subject, point) -> Asked:
    """A record without events, for events like the point's."""
    where = set_of(point.f, point.side)
    return Asked(subject.bijector, subject.theirs, subject.dtype, point.side, *whole_of(where))


def whole_of(where):
    """(lower end, upper end, the set in words) of the entries of a set, None for the whole line; vectors have no ends."""
    if where is None or where.rank:
        return -np.inf, np.inf, "(-inf, inf)" if where is None else repr(where)
    lower, upper = (float(fold(end)) for fold, end in ((np.min, where.lower), (np.max, where.upper)))
    opened, closed = (bool(np.all(np.isinf(end)) or np.all(where.outside(np.asarray(end)))) for end in (where.lower, where.upper))
    return lower, upper, f"{'(' if opened else '['}{lower:.3g}, {upper:.3g}{')' if closed else ']'}"


def add(records, subject, point):
    """Add the events of a point to the records, {side: Asked}."""
    if point.side not in records:
        records[point.side] = asked_of(subject, point)
    rank = point.f.event_ndim[SIDES[point.side]]
    event = np.asarray(point.event, np.float64)
    batch, shape = event.shape[:event.ndim - rank], event.shape[event.ndim - rank:]
    records[point.side].add(event, int(np.prod(batch)), shape)


def floats_between(low, high, dtype):
    """How many steps lie between two numbers of a dtype, from each to the next; for bfloat16 and float16, of float32."""
    real = np.dtype(dtype if dtype in FLOATS else "float32")
    largest = np.finfo(real).max
    ends = np.clip(np.array([low, high], np.float64), -float(largest), float(largest)).astype(real)
    bits = ends.view(FLOATS[real.name]).astype(object)
    ordinals = [b if b >= 0 else np.iinfo(FLOATS[real.name]).min - b for b in map(int, bits)]
    return max(0, int(ordinals[1] - ordinals[0]))


def share_text(share):
    return "all" if share > 0.995 else f"{share:.0%}" if share >= 0.01 else "less than 1%"


def lines(records, most):
    """Text for people: the ranges, of few subjects by name, then what was left out."""
    groups = {}
    for one in records:
        groups.setdefault((one.bijector if one.theirs == "refflow" else one.theirs, one.dtype), []).append(one)
    if len(groups) > most:
        yield f"asked: the ranges of {len(groups)} subjects are in --json"
    else:
        for (name, dtype), found in groups.items():
            yield f"asked, {name} {dtype}: {'; '.join(one.range_text() for one in found)}"
    left = {}
    for one in records:
        for reason, count in one.left_out.items():
            left[reason] = left.get(reason, 0) + count
    yield from (f"not asked, {reason}: {counted(count, 'answer')}" for reason, count in left.items())
