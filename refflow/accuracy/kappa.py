r"""The unit of error at run time: kappa from a bijector's own hand-written derivatives, in float64.

    kappa(q) = |q| + sum_j |dq/d input_j| |input_j|                                             (1)
             = ||q|| + sum_b ||dq/d block_b|| ||block_b||        for normwise pages             (2)

over the event's entries, all parameters, and, if q is a cotangent, over the cotangents it depends on.  q is a value for one
event with its own parameters, so parameters are first given to every event separately; and to every position of an event at
which one map is applied, since each rounds separately: in a sum over positions, derivatives of opposite sign cancel,
roundings do not.  The events between the stages of a chain are rounded as well, and so are vectors that a family makes of a
network's outputs, as knots, so their entries count as inputs too, moved one at a time; if others form them by sums, by a
rounding of the largest.  So do the log-dets of stages that lead through sets of lower dimension.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from ..core import tree
from ..core.compose import Chain, nested_bars, pulled, stepped, unit_cotangent
from ..core.declarations import Field
from ..core.tree import flatten
from ..maps.coupling import Family

DELTA = 2.0**-20        # relative step of differences: a unit of error needs few digits
ROUNDINGS = 32          # a step of so many roundings leaves five binary digits


def normwise(f) -> bool:
    """Does f or a component solve or factor a matrix?"""
    return bool(getattr(f, "normwise", False)) or any(normwise(c) for c in f.components())


def constant_of(f, size) -> float:
    """The constant C of the unit of error: 4, or 8 for a solver's inverse, with 1/2 for each term of a sum.

    A composition's constant is the sum of its components' constants.
    """
    inner = [constant_of(c, size) for c in f.components()]
    if inner:
        return sum(inner)
    base, size = 8.0 if getattr(f, "solver", False) else 4.0, max(size, getattr(f, "terms", 1))
    return base + (size / 2 if size > 1 else 0.0)


def spreads(field, held):
    """Does every event get its own copy of this array?  Constants are copied if they have batch axes before a declared core."""
    return isinstance(field, Field) and held is not None and (not field.constant or 0 < len(field.shape) < held.ndim)


def spread_fields(value, batch):
    """`value`, an unchecked copy, with each real field, and each constant that has batch axes, repeated for every event.

    A field's own batch axes are the last of (*batch, *lifted axes); the lifted axes are those that Independent moved into the
    event.
    """
    def spread(path, field, held, lifted):
        if not spreads(field, held):
            return held
        split = held.ndim - len(field.shape)
        lead = (1,) * (len(batch) + lifted - split) + held.shape[:split]
        shape = batch + lead[len(batch):] + held.shape[split:]
        return np.broadcast_to(held.reshape(lead + held.shape[split:]), shape)

    def inner(value, lifted):
        return [lifted + getattr(value, "lifted_axes", 0)] * len(value.components())

    return tree.mapped(value, spread, 0, inner)


def at_positions(value, shape, batch_ndim):
    """`value`, spread over events, with each real field repeated at every position of an event at which it is applied.

    The terms of a sum over positions then round independently, even if log-det is constant.  `shape` is the shape of an event
    z; if a component's shape is not known, its fields stay shared.
    """
    def repeat(path, field, held, state):
        if field.constant:
            return held
        split = held.ndim - len(field.shape)
        lead = held.shape[:batch_ndim] + np.broadcast_shapes(held.shape[batch_ndim:split], state[1])
        return np.broadcast_to(held, lead + held.shape[split:])

    def inner(value, state):
        shape, sizes = state
        if shape is None or not hasattr(value, "applied_at"):
            return [(None, sizes + (1,) * getattr(value, "lifted_axes", 0))] * len(value.components())
        return [(found, sizes + more) for found, more in value.applied_at(shape)]

    def differing(value, path, state):
        return {"constant_log_det": False} if np.prod(state[1]) > 1 else {}

    return tree.mapped(value, repeat, (shape, ()), inner, differing)


def event_of(value, i):
    """The copy of `spread_fields` with only the fields of event i."""
    return tree.mapped(value, lambda path, field, held, _: held[i] if spreads(field, held) else held)


def with_leaf(value, path, array):
    """An unchecked copy with one parameter replaced; a shared context is replaced in all components that use it."""
    return tree.replaced(value, {}, array) if path == ("context",) else tree.replaced(value, {path: array})


def per_event(f, event, side=0, dtype=np.float64):
    """(view, event): f's unchecked view in `dtype`; every event, and each position of one, has its own parameters."""
    core = np.shape(event)[np.ndim(event) - f.event_ndim[side]:]
    batch = np.broadcast_shapes(np.shape(event)[:np.ndim(event) - len(core)], f.parameter_batch)
    view, shape = spread_fields(f.unchecked(dtype), batch), tuple(f.input_shape(core)) if side else core
    return at_positions(view, shape, len(batch)), np.broadcast_to(np.asarray(event, dtype), batch + core)


class Lanes:
    """The entries that chains and families hand on, each moved by a relative step in a lane (axis 0) of its own."""

    def __init__(self, batch_ndim, step=DELTA):
        self.batch_ndim, self.step, self.found, self.first = batch_ndim, step, {}, None

    @property
    def count(self):
        return sum(self.found.values())

    def pass_on(self, key, event, in_norm=False):
        """The event, its own entry moved in each of its lanes: by a step of the entry, or of the largest one if `in_norm`."""
        entries = event.reshape(event.shape[:1 + self.batch_ndim] + (-1,))
        size = entries.shape[-1]
        if self.first is None:
            self.found[key] = size
            return event
        moved, own = entries.copy(), np.arange(size)
        before = list(self.found).index(key)
        lanes = self.first + sum(list(self.found.values())[:before]) + own
        sizes = np.abs(entries).max(-1, keepdims=True) if in_norm else entries
        moved[lanes, ..., own] += self.step * np.broadcast_to(sizes, entries.shape)[lanes, ..., own]
        return moved.reshape(event.shape)


class OpenChain(Chain):
    """The unchecked copy of a chain whose events and cotangents pass through lanes on their way from stage to stage."""

    def _entering(self, i, side, event):
        event = super()._entering(i, side, event)
        return self.lanes.pass_on((self.node, i, side), event) if i else event

    def _within(self, key, numbers):
        return self.lanes.pass_on((self.node, *key), numbers)

    def _reversed(self, event, side):
        total, pullbacks = None, []
        for i, (path, step, way) in enumerate(self.steps[side]):
            (event, log_det), found = pulled(path, step, way, self._entering(i, side, event))
            total = log_det if total is None else total + log_det
            pullbacks += found

        def pullback(event_bar, log_det_bar):
            bars = {}
            for i, (path, step_pullback) in reversed(list(enumerate(pullbacks))):
                event_bar, bars[path] = step_pullback(event_bar, log_det_bar)
                if i:
                    event_bar = self.lanes.pass_on((self.node, i, side, "bar"), event_bar)
            return event_bar, nested_bars(self, bars)

        return (event, total), pullback


class OpenFamily(Family):
    """The unchecked copy of a family whose fields pass through lanes on their way to the bijector."""

    def handed_on(self, fields):
        vectors = {name: fields[name] for name, core in zip(self.map.names, self.map.cores) if core}
        in_norm = getattr(self.map, "in_norm", ())
        return fields | {name: self.lanes.pass_on((self.node, name, held.shape[1:]), held, name in in_norm)
                         for name, held in vectors.items()}


OPEN = {Chain: OpenChain, Family: OpenFamily}


def opened(view, lanes):
    """`view` with its chains and families open."""
    def open_one(value, path, _):
        return {"lanes": lanes, "node": path} | ({"cls": OPEN[type(value)]} if type(value) in OPEN else {})

    return tree.mapped(view, lambda path, field, held, _: held, also=open_one)


def hands_on(view) -> bool:
    """Does one part of it hand rounded values to the next?"""
    return any(isinstance(value, Chain) or isinstance(value, Family) and any(value.map.cores) for _, value in tree.walk(view))


@dataclass(frozen=True)
class Sensitivity:
    """q (*batch, Q) and its derivatives {block: (*batch, Q, size)} with respect to the inputs {block: (*batch, size)}."""

    value: np.ndarray
    slopes: dict
    inputs: dict
    normwise: bool = False

    @functools.cached_property
    def kappa(self):
        if not self.normwise:
            return np.abs(self.value) + sum(self.part(b) for b in self.slopes)                  # (1)
        total = np.linalg.norm(self.value, axis=-1)
        for block, slope in self.slopes.items():
            finite = np.where(np.isfinite(slope).all((-2, -1), keepdims=True), slope, 0)
            norm = np.linalg.norm(finite, 2, (-2, -1)) if slope.size else np.zeros(total.shape)
            norm = np.where(np.isfinite(slope).all((-2, -1)), norm, np.inf)
            total = total + norm * np.linalg.norm(self.inputs[block], axis=-1)                  # (2)
        return np.broadcast_to(total[..., None], self.value.shape)

    def part(self, block):
        """sum_j |dq/d input_j| |input_j| over one block; an input of 0 contributes 0."""
        slope, given = np.abs(self.slopes[block]), np.abs(self.inputs[block])[..., None, :]
        return np.where(given == 0, 0, slope * given).sum(-1)

    def moved(self, block, by):
        """How far q moves when the entries of a block move by |by|: |dq/dblock| |by|, in norm for normwise pages."""
        slope = self.slopes[block]
        if not self.normwise:
            return np.where(by[..., None, :] == 0, 0, np.abs(slope) * np.abs(by)[..., None, :]).sum(-1)
        total = np.linalg.norm(slope, 2, (-2, -1)) * np.linalg.norm(by, axis=-1)
        return np.broadcast_to(total[..., None], self.value.shape)


def flat(array, batch):
    return np.reshape(array, (*batch, int(np.prod(np.shape(array)[len(batch):]))))


def value_and_log_det(g, event, method, normal, u=DELTA):
    """Sensitivities of the image and of its log-det, from g's own pullback at unit cotangents.

    With the unit roundoff u of the answers, kappa is also known where a step of DELTA leaves the set of a chain's next stage and
    a step of `ROUNDINGS` does not; where that leaves it too, rounding may.
    """
    with np.errstate(all="ignore"):
        (image, log_det), pullback = getattr(g, method)(event)
        batch = log_det.shape
        inputs = {"event": flat(event, batch)} | {p: flat(v, batch) for p, v in flatten(g.params())}
        size, nothing = int(np.prod(image.shape[len(batch):])), np.zeros_like(image)
        bars = [pullback(unit_cotangent(image, batch, i), np.zeros_like(log_det)) for i in range(size)]
        of_log_det = [pullback(nothing, np.ones_like(log_det))]
        values = flat(image, batch), log_det[..., None]
        slopes = [slopes_of(found, batch, inputs) for found in (bars, of_log_det)]
        if hands_on(g):
            between = slopes_between(g, event, method, batch, u)
            slopes = [own | {"between": more} for own, more in zip(slopes, between)]
            inputs["between"] = np.ones((*batch, between[0].shape[-1]))
        if passes_thin_sets(g):
            inputs["terms"] = np.stack(terms_of_log_det(g, event, method), -1)
            slopes[1]["terms"] = np.ones((*batch, 1, inputs["terms"].shape[-1]))
        units = normal, normal and not getattr(g, "entrywise_log_det", False)
        return tuple(Sensitivity(value, found, inputs, unit) for value, found, unit in zip(values, slopes, units))


def passes_thin_sets(g) -> bool:
    """Does a chain lead through a set of lower dimension?  There the stages' log-dets, of terms that no input moves, may cancel."""
    return isinstance(g, Chain) and any(stage.domain.thin or stage.codomain.thin for stage in g.stages)  # type: ignore[attr-defined]


def terms_of_log_det(g, event, method):
    """The log-dets of a chain's stages; each is rounded by itself."""
    found, side = [], int(method == "inverse_vjp")
    for _, stage, way in g.in_turn(side):
        event, log_det = stepped(stage, way, event)
        found.append(log_det)
    return found


def slopes_between(g, event, method, batch, u):
    """Derivatives of (image, log_det) with respect to relative changes of what chains hand on."""
    slopes = moved_between(g, event, method, batch, DELTA)
    if ROUNDINGS * u >= DELTA or all(np.isfinite(slope).all() for slope in slopes):
        return slopes
    nearer = moved_between(g, event, method, batch, ROUNDINGS * u)
    return [np.where(np.isfinite(slope), slope, near) for slope, near in zip(slopes, nearer)]


def moved_between(g, event, method, batch, step):
    """The same by differences of one relative step."""
    lanes = Lanes(len(batch), step)
    for count in (0, None):
        copies = 1 + (lanes.count if count is None else 0)
        lanes.first = 1 if count is None else None
        view = opened(spread_fields(g, (copies, *batch)), lanes)
        image, log_det = getattr(view, method)(np.repeat(event[None], copies, 0))[0]
    return [np.moveaxis((q[1:] - q[0]) / step, 0, -1) for q in (flat(image, (copies, *batch)), log_det[..., None])]


def slopes_of(bars, batch, inputs):
    tables = [{"event": flat(event_bar, batch)} | {p: flat(v, batch) for p, v in flatten(params_bar)}
              for event_bar, params_bar in bars]
    return {b: np.stack([t[b] for t in tables], -2) if tables else np.zeros((*batch, 0, v.shape[-1]))
            for b, v in inputs.items()}


def kappa(f, z, u=DELTA) -> dict:
    """{"forward": kappa of each entry of x, "log_det": kappa of log|det dx/dz|} at z, in float64."""
    g, z = per_event(f, z)
    x, log_det = value_and_log_det(g, z, "vjp", normwise(f), u)
    return {"forward": x.kappa.reshape(image_shape(f, z, 0)), "log_det": log_det.kappa[..., 0]}


def kappa_inverse(f, x, u=DELTA) -> dict:
    """{"inverse": kappa of each entry of z, "inverse_log_det": kappa of log|det dz/dx|} at x, in float64."""
    g, x = per_event(f, x, 1)
    z, log_det = value_and_log_det(g, x, "inverse_vjp", normwise(f), u)
    return {"inverse": z.kappa.reshape(image_shape(f, x, 1)), "inverse_log_det": log_det.kappa[..., 0]}


def image_shape(f, event, side):
    split = event.ndim - f.event_ndim[side]
    rule = f.output_shape if side == 0 else f.input_shape
    return event.shape[:split] + tuple(rule(event.shape[split:]))


def differenced(quantities, g, event, bars, normal) -> dict:
    """{name: Sensitivity} of quantities(view, event, bars) -> {name: (*batch, Q)}, by differences in all inputs.

    Every input entry is moved by a relative DELTA along a new leading axis.  This serves derivatives: pages have no
    functions for the derivatives of derivatives.
    """
    batch, lanes = bars[-1].shape, Lanes(bars[-1].ndim)
    blocks = {"event": event} | dict(flatten(g.params())) | {"image_bar": bars[0], "log_det_bar": bars[1]}
    inputs = {b: flat(v, batch) for b, v in blocks.items()}
    with np.errstate(all="ignore"):
        if hands_on(g):
            quantities(opened(spread_fields(g, (1, *batch)), lanes), event[None], tuple(bar[None] for bar in bars))
        lanes.first = 1 + sum(v.shape[-1] for v in inputs.values())
        view, moved = moved_one_by_one(g, blocks, inputs, batch, lanes.first + lanes.count)
        view = opened(view, lanes) if lanes.count else view
        found = quantities(view, moved["event"], (moved["image_bar"], moved["log_det_bar"]))
    if lanes.count:
        inputs["between"] = np.ones((*batch, lanes.count))
    return {name: differences(q, inputs, normal) for name, q in found.items()}


def moved_one_by_one(g, blocks, inputs, batch, count):
    """(view, blocks) with `count` copies along axis 0, where copy i moves input entry i."""
    moved, first, view = {}, 1, spread_fields(g, (count, *batch))
    for b, v in inputs.items():
        table = np.repeat(v[None], count, 0)
        own = np.arange(v.shape[-1])
        table[first + own, ..., own] *= 1 + DELTA
        moved[b] = table.reshape(count, *np.shape(blocks[b]))
        first += v.shape[-1]
    for path, _ in flatten(g.params()):
        view = with_leaf(view, path, moved[path])
    return view, moved


def differences(q, inputs, normal):
    slopes, first = {}, 1
    with np.errstate(all="ignore"):
        for b, v in inputs.items():
            change = (q[first:first + v.shape[-1]] - q[0]) / DELTA
            slope = np.moveaxis(change, 0, -1) / v[..., None, :]
            slopes[b] = np.where(v[..., None, :] == 0, 0, slope)
            first += v.shape[-1]
    return Sensitivity(q[0], slopes, inputs, normal)
