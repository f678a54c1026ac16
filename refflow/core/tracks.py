r"""Runs: maps of a chain that lead through an interval (0, b), near whose upper end numbers have no digits.

The map.  `f` leads onto (0, b), `h` from there to another such interval, through any number of maps, and `g` onto that one:
    x = g^-1(h(f(z)))                                                               (1)
    log|dx/dz| = log|df/dz| + log|dh/df| + log|dg^-1/dh|                            (2)
Let `M` mirror a set, as `-z` on R and `a + b - z` on (a, b), and let `f' = M f M` be the mirrored map.  Then
    x = M g'^-1(h'(q)),   q = b - f(z)                                              (3)
    log|dx/dz| = log|df/dz| + log|dh'/dq| + log|dg'^-1/dh'|                         (4)
`f` computes `q`, its complement, without cancellation, and `g` has an inverse that is given the complement.

The reverse rule.  The pullbacks of (1) or (3) follow each other from the last map to the first, and as `dq = -df`,
    z_bar = f*(f_bar, l_bar)      of (1)
          = f*(-q_bar, l_bar)     of (3)                                            (5)

In floating point.  Numbers near 0 keep their digits, and numbers near an upper end have lost as many as they are nearer to it than
to 0.  Of all numbers `v` between two maps, and of `z` too if it lies in such an interval, each in units of its interval,
    (1) and (2) are used where the least v is at most the least 1 - v, (3) and (4) elsewhere, entry by entry        (6)
Entries on one track are the middle of the interval on the other one, with cotangents 0.                        (7)
In float32, `q` underflows where `x` does not, and so do slopes:
    all of this is computed in float64, for float32 too, and rounded once           (8)
Where `z` is not at an end of its set, a number between two maps that is 0 has rounded to 0, and a subnormal one has fewer digits
than a normal `z`.  What follows is not known there, and neither are its gradients:
    x = NaN,   log|dx/dz| = NaN                                                     (9)
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import numpy as np

from .arithmetic import is_normal
from .arrays import doubled, rounded
from .bijector import over_event
from .tree import added


class Leaf(NamedTuple):
    """A map of numbers that stands at a path, is read from a side, and is lifted by so many axes."""

    path: tuple
    page: object
    side: int
    axes: int

    @property
    def sets(self):
        """Where it leads from, and where to."""
        return (self.page.domain, self.page.codomain)[::1 - 2 * self.side]


class Run:
    """Leaves that lead through intervals, as one step of a chain.

    `between(key, numbers)` is called with the numbers that one leaf hands to the next, and says what arrives.
    """

    def __init__(self, leaves, between):
        self.leaves, self.between, self.ndim = leaves, between, leaves[0].axes
        self.domain, self.codomain = leaves[0].page.domain, leaves[-1].page.domain
        self.event_ndim = self.ndim, self.ndim

    def entered_by(self, side):
        """(map, its side) that meets an event first."""
        return self.leaves[-side].page, 0

    def image_of(self, where, side=0):
        return self.leaves[-side].page.image_of(where) and (self.codomain, self.domain)[side]

    def forward(self, z):
        return self.forward_and_log_det(z)[0]

    def inverse(self, x):
        return self.inverse_and_log_det(x)[0]

    def forward_and_log_det(self, z):
        return self._read(z, 0, False)[0]

    def inverse_and_log_det(self, x):
        return self._read(x, 1, False)[0]

    def vjp(self, z):
        """((x, log-det), [(path, pullback)] of the leaves in the order in which z meets them)."""
        return self._read(z, 0, True)

    def inverse_vjp(self, x):
        return self._read(x, 1, True)

    @functools.cached_property
    def wide(self):
        """The leaves in float64, as side 0 and side 1 meet them."""
        there = [leaf._replace(page=leaf.page.unchecked(np.float64)) for leaf in self.leaves]       # (8)
        return there, [leaf._replace(side=1 - leaf.side) for leaf in reversed(there)]

    def _read(self, event, side, pulled):
        """((image, log-det), pullbacks) from a side; they may be called if `pulled`."""
        first, *others = self.wide[side]
        z = event.astype(np.float64)                                                # (8)
        (v, total), of_first = read(first.page, 0, z, pulled)
        upper = nearer_an_upper_end(z, v, first, others)
        v = np.where(upper, first.page.complement(z), v) if upper.any() else v      # (3) (6)
        inside, lost = ~first.page.domain.outside(z), np.zeros(z.shape, bool)

        def to_event(bar, each):
            z_bar, own = of_first(np.where(upper, -bar, bar), each)                 # (5)
            return np.where(np.isnan(bar), np.nan, z_bar), own                      # (9)

        pullbacks = [(first.path, to_event)]
        for leaf in others:
            v = self.between((leaf.path, side), v)
            lost = lost | inside & has_lost_digits(v, z)                            # (9)
            (v, log_det), pullback = on_tracks(leaf, leaf is others[-1], v, upper, pulled)
            total = total + log_det                                                 # (2) (4)
            pullbacks.append((leaf.path, pullback))
        v, total = np.where(lost, np.nan, v), np.where(lost, np.nan, total).sum(axis=tuple(range(-self.ndim, 0)))       # (9)
        *before, (path, of_last) = pullbacks
        pullbacks = [*before, (path, lambda bar, each: of_last(np.where(lost & (bar != 0), np.nan, bar), each))]        # (9)
        dtypes = [event.dtype] + len(others) * [np.float64]
        steps = [(path, self.of_events(pullback, dtype, event.dtype)) for (path, pullback), dtype in zip(pullbacks, dtypes)]
        return rounded((v, total), event.dtype), steps

    def of_events(self, pullback, dtype, own_dtype):
        """The pullback of a leaf for one cotangent of the log-det of each event; it gives these dtypes."""
        def of_each(bar, log_det_bar):
            each = np.broadcast_to(over_event(log_det_bar, self.ndim), bar.shape)
            v_bar, own = pullback(*doubled(bar, each))                              # (8)
            return v_bar.astype(dtype), rounded(own, own_dtype)                     # (8)

        return of_each


def has_lost_digits(v, z):
    """Marks of numbers on a track that have rounded to 0, or are subnormal where the event is not."""
    return (v == 0) | ~is_normal(v) & is_normal(np.abs(z))


def nearer_an_upper_end(z, v, first, others):
    """Marks of events z with images v: does some number on the way come nearer to its upper end than any number comes to 0?"""
    least, left = shares(z, first.sets[0]) if is_bounded(first.sets[0]) else (1, 1)
    for leaf in others:
        of_v, of_q = shares(v, leaf.sets[0])
        least, left = np.minimum(least, of_v), np.minimum(left, of_q)
        if leaf is not others[-1]:
            v = leaf.page.inverse(v) if leaf.side else leaf.page.forward(v)
    return left < least                                                             # (6)


def shares(v, where):
    """(v, 1 - v) in units of an interval (0, b)."""
    _, b = ends_of(where)
    return v / b, (b - v) / b


def is_bounded(where):
    """Is a set an interval (0, b)?"""
    lower, upper = ends_of(where)
    return not np.any(lower) and np.isfinite(upper).all()


def on_tracks(leaf, is_last, v, upper, pulled):
    """((image, log-det), pullback) of the numbers v that enter a leaf, complements where they are on the upper track."""
    above = read_complement if is_last else read_mirrored
    if upper.all() or not upper.any():
        return above(leaf, v, pulled) if upper.any() else read(leaf.page, leaf.side, v, pulled)
    middle = leaf.sets[0].middle(v.shape)
    found, lower_pullback = read(leaf.page, leaf.side, np.where(upper, middle, v), pulled)          # (7)
    others, upper_pullback = above(leaf, np.where(upper, v, middle), pulled)        # (7)

    def pullback(bar, log_det_bar):
        v_bar, own = lower_pullback(np.where(upper, 0, bar), np.where(upper, 0, log_det_bar))       # (7)
        q_bar, more = upper_pullback(np.where(upper, bar, 0), np.where(upper, log_det_bar, 0))      # (7)
        return np.where(upper, q_bar, v_bar), added(own, more)

    return [np.where(upper, other, here) for here, other in zip(found, others)], pullback


def read(page, side, event, pulled):
    """((image, log-det), pullback) of a map read from a side; the pullback is None unless it is asked for."""
    if pulled:
        return page.inverse_vjp(event) if side else page.vjp(event)
    return page.inverse_and_log_det(event) if side else page.forward_and_log_det(event), None


def read_mirrored(leaf, q, pulled):
    """The same of the mirrored map; its pullback gives the cotangents of the map's own parameters."""
    page, own = leaf.page.mirrored()
    found, mirrored_pullback = read(page, leaf.side, q, pulled)

    def pullback(bar, log_det_bar):
        q_bar, params_bar = mirrored_pullback(bar, log_det_bar)
        return q_bar, own(params_bar)

    return found, pullback


def read_complement(leaf, q, pulled):
    """The same of the inverse of a map, given the complement of its argument."""
    if not pulled:
        return leaf.page.inverse_and_log_det_of_complement(q), None
    found, page_pullback = leaf.page.inverse_vjp_of_complement(q)

    def pullback(bar, log_det_bar):
        q_bar, params_bar = page_pullback(bar, log_det_bar)
        return q_bar, leaf.page.reduce(params_bar)

    return found, pullback


# -- where they are ---------------------------------------------------------------------------------------------------

def runs_among(leaves, between):
    """The leaves, with a `Run` in place of the leaves that make one: from a leaf read forwards to the last one read backwards."""
    found, i = [], 0
    while i < len(leaves):
        stop = end_of_run(leaves, i)
        found.append(Run(leaves[i:stop], between) if stop else leaves[i])
        i = stop or i + 1
    return found


def end_of_run(leaves, start):
    """Where the run ends that begins at a leaf; None if none does."""
    if leaves[start].side or not leaves[start].page.two_sided:
        return None
    stop = None
    for i in range(start + 1, len(leaves)):
        if not leaves[i].page.two_sided or not joined(leaves[i - 1], leaves[i]):
            break
        stop = i + 1 if leaves[i].side else stop
    return stop


def joined(leaf, following):
    """Does a leaf lead onto an interval (0, b) that is the set of the next one?"""
    (lower, upper), (again, once_more) = ends_of(leaf.sets[1]), ends_of(following.sets[0])
    return np.all(lower == again) and np.all(upper == once_more) and leaf.axes == following.axes and is_bounded(leaf.sets[1])


def ends_of(where):
    return where.each or (where.lower, where.upper)
