"""The truth of a flow's log-density at an event, stage by stage.

A flow that is fitted holds chains and inverses, and no one equation defines such a composition both ways.  Its stages have one
each: the exact image of a stage, a ball, is the event of the next, and

    log p(x) = log p_base(z) + sum_i l_i                                            (1)
    kappa = |log p| + sum_j |d log p / d input_j| |input_j|                         (2)

where the l_i are the log-dets of the stages on the way from x to z, and the inputs are x, every parameter, and the event that each
stage hands to the next.  Derivatives in (2) are the flow's own, in floats: kappa is a unit, and needs few digits.
Beside it, each stage is asked at the float that it gets from the one before.
"""

from __future__ import annotations

import numpy as np
from flint import arb, ctx

from ..core import Chain, Inverse
from ..core.tree import flatten, walk
from .answers import answers_of, beside, decimals
from .balls import ball
from .engine import forward_truth, inverse_truth, nest
from .measure import ADAPTERS, on_sets, problem

SIDES = "forward", "inverse"
LOG_DETS = "log_det", "inverse_log_det"


def stages_of(f, side=1, path=""):
    """[(path, stage, its side)] in the order in which an event on this side meets them; chains and inverses are opened."""
    if not isinstance(f, (Chain, Inverse)):
        return [(path or "bijector", f, side)]
    return [found for keys, inner, way in f.in_turn(side)
            for found in stages_of(inner, way, ".".join([path, *keys] if path else keys))]


def why_not(flow):
    """Why a flow has no truth here, in words; None if it has."""
    if flow.needs("context"):
        return "its networks need a context"
    for path, stage, _ in stages_of(flow.bijector):
        if not callable(getattr(stage, "definition", None)):
            return f"no equation defines {type(stage).__name__} at {path}"
        several = [part for _, part in walk(stage) if getattr(part, "event_ndim", None) == (0, 0) and part.parameter_batch]
        if several or stage.event_ndim == (0, 0) and np.prod(flow.event_shape) > 1:
            return f"{type((several or [stage])[0]).__name__} at {path} is a map of numbers; a page defines the map of one"
        if stage.domain.thin or stage.codomain.thin:
            return f"{type(stage).__name__} at {path} has a set of lower dimension, where an event is not known as a ball"
    return None if flow.base.kind in ADAPTERS and callable(getattr(flow.base, "definition", None)) else (
        f"no equation defines its base, {type(flow.base).__name__}")


def truth_of_flow(flow, x, digits):
    """({"given", "truth", "error", "conditioning"} of the log-density at x, [the same of each stage with its path and page])."""
    events, stages, kappa = in_floats(flow, x)
    rows = []
    for (path, stage, side), event in zip(stages, events):
        name = LOG_DETS[side]
        given = {name: np.asarray(answers_of(stage, SIDES[side], event)[name])}
        found = beside(stage, SIDES[side], event, given, digits).get(name, {})
        rows.append({"path": path, "page": type(stage).__name__, "side": SIDES[side], "given": given[name].item()}
                    | found | ({"truth": found["truth"][0]} if found else {}))
    given, true = flow.log_prob(x), exact(flow, x, stages, events[1:])
    with ctx.workdps(100):
        unit = ball(np.finfo(x.dtype).eps) / 2
        error = float((abs(ball(given.item()) - true) / (unit * ball(kappa))).mid()) if np.isfinite(given) else float("inf")
        whole = {"given": given.item(), "truth": decimals(true, digits), "error": error, "conditioning": float(kappa / abs(given))}
    return whole, rows


def exact(flow, x, stages, claims):
    """The log-density (1) as a ball.  TruthNotFound where a stage has none within reach."""
    event, total = x, arb(0)
    for (_, stage, side), claim in zip(stages, claims):
        shape = claim.shape if side else np.shape(event) or x.shape
        p = on_sets(stage, problem(stage), shape)
        found = inverse_truth(p, event, guess=claim, dtype=x.dtype) if side else forward_truth(p, event, dtype=x.dtype)
        with ctx.workdps(100):
            total = total + found[LOG_DETS[side]].value[0]
            event = nest(found[SIDES[side]].value, found[SIDES[side]].shape)
    with ctx.workdps(100):
        return total + forward_truth(problem(flow.base), event, dtype=x.dtype)["forward"].value[0]


@np.errstate(all="ignore")
def in_floats(flow, x):
    """([the events of the stages, then z], the stages, kappa) of (2)."""
    stages, events, pullbacks = stages_of(flow.bijector), [x], []
    for _, stage, side in stages:
        (image, _), pullback = (stage.inverse_vjp if side else stage.vjp)(events[-1])
        events.append(np.asarray(image))
        pullbacks.append(pullback)
    log_prob, pullback = flow.base.log_prob_vjp(events[-1])
    bar, bars = pullback(np.ones_like(log_prob))
    kappa = abs(flow.log_prob(x)) + np.sum(abs(bar * events[-1])) + of_parameters(flow.base, bars)
    for (_, stage, _), event, pullback in reversed(list(zip(stages, events, pullbacks))):
        bar, bars = pullback(bar, np.ones_like(log_prob))
        kappa = kappa + np.sum(abs(bar * event)) + of_parameters(stage, bars)
    return events, stages, float(kappa)


def of_parameters(f, bars):
    """sum |bar| |parameter|; an entry of 0 counts as nothing, even if its cotangent is infinite."""
    held = dict(flatten(f.params))
    return sum(np.sum(abs(np.where(held[path] == 0, 0, bar) * held[path])) for path, bar in flatten(bars) if path in held)
