r"""Finite differences that know their own error.

Central differences at steps h_k = h_0 / 2^k have errors in even powers of h, so that Ridders' table
    T_0[k] = (q(h_k) - q(-h_k)) / (2 h_k)                                                       (1)
    T_m[k] = (4^m T_(m-1)[k+1] - T_(m-1)[k]) / (4^m - 1)                                        (2)
removes one power after another.  The error of an entry is how far it lies from its two parents and from its neighbour at
the larger step (agreement with the parents alone may be chance), and the rounding of q at its smallest step,
    e = max(|T_m[k] - T_(m-1)[k+1]|, |T_m[k] - T_(m-1)[k]|, |T_m[k] - T_m[k-1]|) + u kappa / h_(k+m)        (3)
The entry with the smallest e is the answer.  No step reaches a break of the map.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ..core.declarations import Child
from ..core.sets import real
from ..core.tree import flatten
from .kappa import flat, spread_fields, with_leaf

RUNGS = 10
STEPS_INSIDE = 16
HALVINGS = 60
U = 2.0**-53


def ridders(values, rounding):
    """(extrapolated, e) of values (K, ...) at halving steps, with the rounding of each."""
    with np.errstate(all="ignore"):
        best, error = values[-1], np.full(values.shape[1:], np.inf)
        table = values
        for m in range(1, len(values)):
            new = (4**m * table[1:] - table[:-1]) / (4**m - 1)                                  # (2)
            parents = np.maximum(np.abs(new - table[1:]), np.abs(new - table[:-1]))
            e = np.maximum(parents[1:], np.abs(np.diff(new, axis=0))) + rounding[m + 1:]        # (3)
            for entry, e_entry in zip(new[1:], e):
                better = e_entry < error
                best, error = np.where(better, entry, best), np.where(better, e_entry, error)
            table = new
    return best, error


def largest_step(where, values, relative=False):
    """h_0: a sixteenth of the room that an entry has in its set, or of max(|value|, 1) if smaller; of |value| if `relative`.

    An entry without room, tied to others by an equation, moves by a sixteenth of its value: formulas in all entries extend
    beyond the equation.
    """
    room, own = where.room(values), np.abs(values)
    free = own if relative else np.maximum(own, 1)
    return np.where(room > 0, np.minimum(room, free), own) / STEPS_INSIDE


def to_breaks(view, z, batch):
    """The distance of every entry of z to the nearest break of the map, (*batch, S)."""
    distance = np.abs(z[..., None] - view.breaks())
    return flat(np.where(np.isnan(distance), np.inf, distance).min(-1, initial=np.inf), batch)


def steps_down(h):
    """(K, *h.shape): h, halved repeatedly."""
    return h * (2.0 ** -np.arange(RUNGS)).reshape(-1, *(1,) * h.ndim)


def moved_alone(values, h, tangents=None):
    """(plus, minus), each (K, d, n, S): every event moved along one entry, or one of its tangents (n, S, d), by the k-th step."""
    directions = np.eye(values.shape[-1])[:, None, :] if tangents is None else np.moveaxis(tangents, -1, 0)
    move = directions * np.moveaxis(steps_down(h), -1, 1)[..., None]
    return values + move, values - move


def step_along(p, h):
    """The largest steps along the tangents that move no entry of z further than `h` says.

    An entry that is tied to others and that does not show how near the boundary is may move as far as the largest one; where all
    are 0, by a sixteenth.
    """
    if p.tangents is None:
        return h
    if not p.f.domain.narrow:
        tied = flat(p.f.domain.room(p.z64), p.batch) == 0
        largest = h.max(-1, keepdims=True, initial=0)
        h = np.where(tied, np.where(largest > 0, largest, 1 / STEPS_INSIDE), h)
    with np.errstate(all="ignore"):
        within = h[..., None] / np.abs(p.tangents)
    return np.where(p.tangents == 0, np.inf, within).min(-2)


class EventDifferences:
    """Derivatives of the forward map at the points along the tangents of its domain, J F, and log|det C J F|."""

    def __init__(self, p):
        self.p, z = p, flat(p.z64, p.batch)
        distance = to_breaks(p.g, p.z64, p.batch)
        steps = flat(largest_step(p.f.domain, p.z64), p.batch)
        self.h, self.at_break = step_along(p, np.minimum(steps, distance / STEPS_INSIDE)), (distance == 0).any(-1)
        plus, minus = moved_alone(z, self.h, p.tangents)
        view = spread_fields(p.g, plus.shape[:2] + p.batch)
        with np.errstate(all="ignore"):
            x_plus, x_minus = (flat(view.forward(v.reshape(v.shape[:-1] + p.event_in)), v.shape[:-1]) for v in (plus, minus))
            width = widths(plus - minus, self.h, p.tangents)                                    # (K, n, d)
            slopes = np.moveaxis(x_plus - x_minus, 1, -1) / width[..., None, :]                 # (1)
            kappa = componentwise(p.forward_sensitivities[0])
            size = np.maximum(kappa, np.moveaxis(np.maximum(np.abs(x_plus), np.abs(x_minus)), 1, -1).max(-1, initial=0))
            rounding = 2 * U * size[..., None] / width[..., None, :]
            self.slopes, self.rounding = slopes, rounding
            far = self.h * STEPS_INSIDE
            self.scale = kappa[..., None] / (np.maximum(np.abs(z), far) if p.tangents is None else far)[..., None, :]
        self.jacobian, self.error = ridders(slopes, rounding)

    @cached_property
    def log_det_and_error(self):
        """Of a map; a network's Jacobian need not be square, so that it has no log-det."""
        return log_det_extrapolated(self.p.rows(self.slopes), self.p.rows(self.rounding, room=True))

    log_det = property(lambda self: self.log_det_and_error[0])
    log_det_error = property(lambda self: self.log_det_and_error[1])


def widths(apart, h, tangents):
    """(K, n, d): how far apart the moved events are; a single entry is moved by what rounding leaves of the step."""
    return np.diagonal(apart, axis1=1, axis2=3) if tangents is None else 2 * steps_down(h)


def componentwise(s):
    return np.abs(s.value) + sum(s.part(b) for b in s.slopes)


def balanced(matrices, axis):
    """(matrices whose largest entries along an axis are in [1/2, 1), the powers of two that were removed)."""
    exponents = np.frexp(np.abs(matrices).max(axis, keepdims=True, initial=0))[1]
    return np.ldexp(matrices, -exponents), exponents


def log_det_extrapolated(matrices, rounding):
    r"""`ridders` for log|det M|, M = diag(2^r) S diag(2^c) where the rows and columns of S are of similar size, since
    elimination in M itself would let a large row round a small one away:

        log|det M| = log|det S| + (sum r + sum c) log 2,                                        (4)
        rounding = sum |S^-T| |dS| + 4 n u |S^-1| |S|.                                          (5)
    """
    finite = np.isfinite(matrices).all((-2, -1))
    n = matrices.shape[-1]
    S, r = balanced(np.where(finite[..., None, None], matrices, 0), -1)
    S, c = balanced(S, -2)
    sign, log_det = np.linalg.slogdet(S)
    usable = sign != 0
    with np.errstate(all="ignore"):
        S_inverse = np.linalg.inv(np.where(usable[..., None, None], S, np.eye(n)))
        values = np.where(usable, log_det + (r.sum((-2, -1)) + c.sum((-2, -1))) * np.log(2), np.nan)    # (4)
        moved = (np.abs(np.swapaxes(S_inverse, -1, -2)) * np.ldexp(rounding, -r - c)).sum((-2, -1))
        eliminated = 4 * n * U * np.linalg.norm(S_inverse, axis=(-2, -1)) * np.linalg.norm(S, axis=(-2, -1))
    return ridders(values, np.where(usable, moved + eliminated, np.inf))                                # (5)


def field_at(f, path):
    """The declared field of a parameter, by its path in `params()`."""
    field = f.declared.get(path[0])
    if isinstance(field, Child):
        held = getattr(f, path[0])
        return field_at(held[int(path[1])], path[2:]) if field.many else field_at(held, path[1:])
    return field


class LossDifferences:
    """Derivatives of L = <x_bar, x> + l_bar l with respect to every input entry, and L along a line."""

    def __init__(self, p):
        self.p = p
        self.shapes = {"event": p.z64.shape} | {path: v.shape for path, v in flatten(p.g.params())}
        self.inputs = {"event": flat(p.z64, p.batch)} | {path: flat(v, p.batch) for path, v in flatten(p.g.params())}
        near = to_breaks(p.g, p.z64, p.batch) / STEPS_INSIDE
        self.h = {"event": step_along(p, np.minimum(flat(largest_step(p.f.domain, p.z64), p.batch), near))}
        for path, values in flatten(p.g.params()):
            field = field_at(p.f, path)
            self.h[path] = flat(largest_step(field.set if field else real, values, relative=True), p.batch)
            self.h[path] = self.clear_of_breaks(path) if np.isfinite(near).any() else self.h[path]
        of_x, of_log_det = p.forward_sensitivities
        x_bar, l_bar = p.bars64
        self.kappa = (np.abs(flat(x_bar, p.batch)) * componentwise(of_x)).sum(-1) \
            + np.abs(l_bar) * componentwise(of_log_det)[..., 0]

    def clear_of_breaks(self, path):
        """The steps of one parameter, halved until 15 of them do not move a break past an entry of z; 16 may leave an open set."""
        p, h, values = self.p, self.h[path], self.inputs[path]
        before = np.sign(p.z64[..., None] - p.g.breaks())
        for _ in range(HALVINGS):
            move = np.eye(values.shape[-1])[:, None, :] * (STEPS_INSIDE - 1) * h
            moved = np.stack((values + move, values - move))
            view = spread_fields(p.g, moved.shape[:2] + p.batch)
            view = with_leaf(view, path, moved.reshape(moved.shape[:2] + self.shapes[path]))
            now = np.sign(p.z64[..., None] - view.breaks())
            still = (now == before) | np.isnan(now) & np.isnan(before)             # NaN means that there is no break
            passed = np.broadcast_to(~still, moved.shape[:2] + before.shape)
            passed = np.moveaxis(passed.any((0, *range(2 + len(p.batch), passed.ndim))), 0, -1)
            if not passed.any():
                break
            h = np.where(passed, h / 2, h)
        return h

    def loss(self, moved):
        """(L, sum of its terms' magnitudes) with inputs (*lead, n, S); inputs that are not given keep their values."""
        p = self.p
        lead = next(iter(moved.values())).shape[:-1 - len(p.batch)]
        view = spread_fields(p.g, lead + p.batch)
        for path, values in moved.items():
            if path != "event":
                view = with_leaf(view, path, values.reshape(lead + self.shapes[path]))
        z = moved.get("event", np.broadcast_to(self.inputs["event"], lead + self.inputs["event"].shape))
        with np.errstate(all="ignore"):
            x, log_det = view.forward_and_log_det(z.reshape(lead + p.z64.shape))
            terms = flat(p.bars64[0], p.batch) * flat(x, lead + p.batch)
            l_term = p.bars64[1] * log_det
        return terms.sum(-1) + l_term, np.abs(terms).sum(-1) + np.abs(l_term)

    def gradient(self, name):
        """(dL/dinput (n, S), e, the scale relative to which e is small), for one block of inputs; of the event, along tangents."""
        tangents = self.p.tangents if name == "event" else None
        plus, minus = moved_alone(self.inputs[name], self.h[name], tangents)
        (L_plus, size_plus), (L_minus, size_minus) = self.loss({name: plus}), self.loss({name: minus})
        with np.errstate(all="ignore"):
            width = np.moveaxis(widths(plus - minus, self.h[name], tangents), -1, 1)            # (K, d, n)
            slopes = (L_plus - L_minus) / width                                                 # (1)
            rounding = 2 * U * np.maximum(self.kappa, np.maximum(size_plus, size_minus)) / width
            best, error = ridders(slopes, rounding)
            scale = self.kappa / (STEPS_INSIDE * np.moveaxis(self.h[name], -1, 0))
        return tuple(np.moveaxis(a, 0, -1) for a in (best, error, scale))

    def direction(self):
        """A direction in which all inputs move, the event along its tangents."""
        found = {b: h * np.cos(1 + 2 * np.arange(h.shape[-1])) for b, h in self.h.items()}
        if self.p.tangents is not None:
            found["event"] = (self.p.tangents @ found["event"][..., None])[..., 0]
        return found

    def along(self, direction, ts):
        """L (len(ts), n) at inputs + t direction."""
        return self.loss({b: v + np.reshape(ts, (-1, *(1,) * v.ndim)) * direction[b] for b, v in self.inputs.items()})[0]
