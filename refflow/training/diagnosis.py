"""Finds where the first number that is not finite arises in a flow.

The stages of a flow are followed one by one, forwards and then back through their reverse rules, and the first stage whose
result is NaN or infinite is named by its path in `params()`: "bijector.stages.3".
"""

from __future__ import annotations

import numpy as np

from ..core.compose import Independent, single_steps
from ..core.flow import Flow, OwnBase
from ..maps.shape import FactorOut

NAMES = {0: ("value", "log-det", "vjp"), 1: ("latent", "log-det", "inverse_vjp")}


def title(path, f):
    while isinstance(f, Independent):
        f = f.inner
    return f"{'.'.join(path)} ({type(f).__name__})"


def first_row(marks):
    """The index of the first event that is marked bad."""
    return int(np.flatnonzero(marks.reshape(len(marks), -1).any(1))[0])


def wrong_in(what, array, events):
    """"what is nan for event i", or None if all are finite."""
    bad = ~np.isfinite(array)
    if not bad.any():
        return None
    i = first_row(bad)
    entry = np.asarray(array[i])[np.atleast_1d(bad[i]).reshape(np.shape(array[i]))].ravel()[0]
    return f"its {what} is {entry}{'' if events is None else f' for x[{events[i]}]'}"


class Trace:
    """One pass through the stages, kept for the pass back."""

    def __init__(self, dtype, events):
        self.dtype, self.events, self.pullbacks = dtype, events, []

    def through(self, f, path, event, side):
        """(event after all stages, what is wrong or None)."""
        for name, stage, way in single_steps(f, side, path):
            where = stage.codomain if way else stage.domain
            rank = stage.event_ndim[way]
            outside = ~where.members(event, rank)
            if outside.any():
                i = "" if self.events is None else f"x[{self.events[first_row(outside)]}]: "
                return event, f"{title(name, stage)}: {i}it is given an event outside its domain, which {where.rule}"
            before = event
            (event, log_det), pullback = getattr(stage.unchecked(self.dtype), NAMES[way][2])(event)
            self.pullbacks.append((title(name, stage), pullback, log_det))
            for what, array in zip(NAMES[way], (event, log_det)):
                wrong = wrong_in(what, array, self.events)
                if wrong:
                    return event, self.within(stage, name, before, way) or f"{title(name, stage)}: {wrong}"
        return event, None

    def within(self, stage, name, event, way):
        """What is wrong in the stages after a FactorOut; None for another stage."""
        if not isinstance(stage, FactorOut):
            return None
        kept = (stage._split_latent if way else stage._split)(event)[1]
        return Trace(self.dtype, self.events).through(stage.rest, (*name, "rest"), kept, way)[1]

    def back(self, bar, b):
        """What is wrong in the reverse rules, from the cotangent of the last event and b, the cotangent of all log-dets."""
        for name, pullback, log_det in reversed(self.pullbacks):
            bar, params_bar = pullback(bar, np.broadcast_to(b, log_det.shape))
            wrong = wrong_in("cotangent", bar, self.events) or wrong_parameter(params_bar)
            if wrong:
                return f"{name}: {wrong}"
        return None


def wrong_parameter(bars, path=""):
    for key, bar in bars.items():
        if isinstance(bar, dict):
            found = wrong_parameter(bar, f"{path}{key}.")
            if found:
                return found
        elif not np.isfinite(bar).all():
            return f"the gradient of its {path}{key} is not finite"
    return None


def unlikely(flow, x, events):
    """What makes log p(x) or its gradient not finite, or None; `events` are the indices of x in the user's data."""
    with np.errstate(all="ignore"):
        return explored(flow, np.asarray(x), events, (), 1)


def explored(flow, x, events, path, b):
    """The same for a flow at `path`."""
    dtype = np.result_type(x.dtype, flow.dtype or x.dtype)
    trace = Trace(dtype, events)
    z, wrong = trace.through(flow.bijector, (*path, "bijector"), x.astype(dtype), 1)
    if wrong:
        return wrong
    base = flow.base
    if isinstance(base, Flow):
        wrong = explored(base, z, events, (*path, "base"), b)
        if wrong:
            return wrong
    name = type(base.given if isinstance(base, OwnBase) else base).__name__
    log_pi, pullback = base.log_prob_vjp(z)
    z_bar, base_bar = pullback(np.full_like(log_pi, b))
    wrong = wrong_in("log density", log_pi, events) or wrong_in("gradient", z_bar, events) or wrong_parameter(base_bar)
    return f"{'.'.join((*path, 'base'))} ({name}): {wrong}" if wrong else trace.back(z_bar, z_bar.dtype.type(b))
