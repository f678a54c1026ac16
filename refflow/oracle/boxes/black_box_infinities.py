r"""Where an infinite answer of a black box is the truth: the finite answers on the way to it run to the end of the range.

A value that outgrows its dtype is preceded by numbers near the largest one.  On the way from a moderate latent, let v be the
last value that is finite, found by halving, and M the largest number.  It has outgrown the dtype if
    |v| >= s M                                                                      (1)
where s leaves room for factors such as the 1/2 of a hyperbolic sine.  log(1 + exp z) is infinite where v is 709, and
exp(2z)/exp(z) where v is the root of M: both end too early.

A log-det is infinite where the slope is 0 or infinite.  At the distance d from such an event a slope c d^q has
    l = log c + q log d                                                             (2)
so that from each distance to its half l moves by q log 2, as far as there are numbers.  A slope like log d has l = log|log d|,
which from the distances 2^-k0 .. 2^-k1 to 2^-k1 .. 2^-k2, of as many halvings, moves by
    log(k2/k1) / log(k1/k0)                                                         (3)
times as much: by 0.58 from the second to the last third.  Where the slope is a number other than 0, l has a limit, and moves by
less with each halving until only its rounding moves.
"""

from __future__ import annotations

import numpy as np

from .black_box_points import answers

SHARE = {"float64": 2.0**-16, "float32": 2.0**-16, "float16": 2.0**-4, "bfloat16": 2.0**-16}       # s of (1)
HALVINGS = 60
DISTANCES, FEWEST = 256, 6              # at which log-dets are asked, at most; and at least, of those that move the image
SLOWEST = 0.5                           # just below (3)
RAYS = 4                                # on which events of several numbers are approached, and their opposites


def outgrown(box):
    """The size beyond which a value may be infinite."""
    return SHARE[box.precision] * box.largest


def not_outgrown(function, p, marks):
    """Which of the marked points, where a function is not finite, are not preceded on the way to them by values near the largest number?"""
    box, z = p.box, p.z[marks]
    low, high = np.zeros(len(z)), np.ones(len(z))

    def values(share):
        found = answers(function, box.held(p.path(z, share.reshape(-1, *(1,) * len(box.event)))))
        return np.abs(found).reshape(len(found), -1)

    for _ in range(HALVINGS if len(z) else 0):
        middle = (low + high) / 2
        fine = np.isfinite(values(middle)).all(-1)
        low, high = np.where(fine, middle, low), np.where(fine, high, middle)
    wrong = np.array(marks)
    if len(z):
        last = values(low).max(-1)
        wrong[marks] = ~(np.isfinite(last) & (last >= outgrown(box)))                               # (1)
    return wrong


def is_singular(p, i):
    """Is the infinite log-det at an event the truth?  On every ray to it, log-dets grow as (2) says, or as slowly as (3)."""
    if p.structured:
        return False
    approached = rays(p, i)
    values = answers(p.forward_values, p.box.held(approached.reshape(-1, *p.box.event))).reshape(*approached.shape[:2], -1)
    moved = (values[..., :-1] != p.x[i].ravel()).any(-1).all(0)
    l = values[:, moved, -1] * np.sign(p.log_det[i])
    third = l.shape[1] // 3
    if l.shape[1] < FEWEST or not np.isfinite(l).all():
        return False
    l = l[:, -2 * third - 1:]
    before, last = l[:, third] - l[:, 0], l[:, -1] - l[:, third]
    return bool((np.diff(l) > 0).all() and (last >= SLOWEST * before).all())                        # (2), (3)


def rays(p, i):
    """Events (rays, distances, *event) on lines through an event, from both sides: at halves of its size, or at 0 of 1, down to the spacing."""
    z, box = p.z[i], p.box
    size = np.minimum(np.where(z == 0, 1, np.abs(z)), p.room[i] / 2)
    halvings = int(-np.log2(2 * p.u if z.any() else box.smallest))
    step = -(-halvings // DISTANCES)
    distances = 2.0 ** -np.arange(step, halvings + 1, step).reshape(-1, *(1,) * z.ndim)
    signs = np.random.default_rng(p.seed).choice([-1.0, 1.0], (RAYS, 1, *z.shape)) if p.size > 1 else np.ones((1, 1, *z.shape))
    return z + np.concatenate((signs, -signs)) * distances * size
