r"""The unit of error of a chain, with the part that its intermediate events add: each is rounded before it enters the rest.

A rest is the chain from one of its stages on, with the event e that arrives there.  The sensitivities of the chain and of all
its rests come from one pass: a cotangent of the image, sent back through the stages, is on its way the cotangent of each e.
What a rest hands on from stage to stage are the events e' of later rests; a relative change of an entry j moves a quantity q by
    dq/de'_j e'_j                                                                   (1)
"""

from __future__ import annotations

import numpy as np

from ...accuracy.drawing import SIDES
from ...accuracy.kappa import Sensitivity, flat, hands_on, normwise, passes_thin_sets, per_event, slopes_between, slopes_of
from ...core import Chain
from ...core.compose import unit_cotangent
from ...core.sets import real
from ...core.tree import flatten

METHOD = {"forward": "vjp", "inverse": "inverse_vjp"}


class Rest:
    """The part of a chain from a stage on, in the order in which an event meets the stages.

    `term` is the log-det of its first stage, `back` that stage's pullback, `start` the number in f of its stage 0.
    """

    def __init__(self, f, side, passed, event):
        self.start = passed if side == "forward" else 0
        self.f, self.side = Chain(f.stages[self.start:len(f.stages) - passed + self.start]), side
        self.view, self.event = per_event(self.f, event, SIDES[side])
        self.bars = []

    def pass_on(self, stage):
        """The event that enters the next rest, through the first stage, which stands in another view."""
        (event, self.term), self.back = getattr(stage, METHOD[self.side])(self.event)
        return event

    def send_back(self, number, bars, log_det_bar, event_bar):
        """The cotangent of its event, which is kept with its stages' cotangents; `bars` gets the first stage's."""
        event_bar, bars[number] = self.back(event_bar, log_det_bar)
        own = {str(k): bars[self.start + k] for k in range(len(self.f.stages))}
        self.bars.append((event_bar, self.view.reduce({"stages": own})))
        return event_bar

    def slopes(self, batch):
        """[{block: slopes} of the image, of the log-det], and {block: inputs}."""
        inputs = {"event": flat(self.event, batch)} | {path: flat(v, batch) for path, v in flatten(self.view.params())}
        return [slopes_of(bars, batch, inputs) for bars in (self.bars[:-1], self.bars[-1:])], inputs


@np.errstate(all="ignore")
def of_chain(f, event, side, u):
    """[(Sensitivity of the image, of the log-det)] of a chain and of each of its rests."""
    view, event = per_event(f, event, SIDES[side])
    image, log_det = asked_for_both(view, side, event)
    batch, rests = log_det.shape, []
    order = list(range(len(f.stages)))[::1 if side == "forward" else -1]
    for number in order:
        rests.append(Rest(f, side, len(rests), event))
        event = rests[-1].pass_on(view.stages[number])
    size = int(np.prod(image.shape[len(batch):]))
    units = [(unit_cotangent(image, batch, i), np.zeros_like(log_det)) for i in range(size)]
    for event_bar, log_det_bar in (*units, (np.zeros_like(image), np.ones_like(log_det))):
        bars = {}
        for rest, number in zip(rests[::-1], order[::-1]):
            event_bar = rest.send_back(number, bars, log_det_bar, event_bar)
    return sensitivities(rests, image, batch, u)


def asked_for_both(view, side, event):
    return (view.forward_and_log_det if side == "forward" else view.inverse_and_log_det)(event)


def sensitivities(rests, image, batch, u):
    """[(Sensitivity of the image, of the log-det)] of every rest, the last one first: others hand on its event."""
    found, later = [], [np.zeros((*batch, bars, 0)) for bars in (len(rests[0].bars) - 1, 1)]
    apart = not may_be_moved(rests[0])
    for k in range(len(rests) - 1, -1, -1):
        rest, terms = rests[k], [one.term for one in rests[k:]]
        slopes, inputs = rest.slopes(batch)
        between = slopes_between(rest.view, rest.event, METHOD[rest.side], batch, u) if apart else later
        later = [np.concatenate((times(own["event"], inputs["event"]), more), -1) for own, more in zip(slopes, later)]    # (1)
        slopes = [own | {"between": more} for own, more in zip(slopes, between)]
        inputs["between"] = np.ones((*batch, between[0].shape[-1]))
        if passes_thin_sets(rest.view):
            inputs["terms"] = np.stack(terms, -1)
            slopes[1]["terms"] = np.ones((*batch, 1, len(terms)))
        values = flat(image, batch), log_det_of(rest, sum(terms))[..., None]
        normal = normwise(rest.f)
        units = normal, normal and not getattr(rest.view, "entrywise_log_det", False)
        found.append(tuple(Sensitivity(value, own, inputs, unit) for value, own, unit in zip(values, slopes, units)))
    return found[::-1]


def may_be_moved(whole):
    """May an event between stages move anywhere, and is it all that is handed on?

    Elsewhere slopes come from differences, which know where a rounding leaves a set.
    """
    sets = [stage.domain if whole.side == "forward" else stage.codomain for stage in whole.view.stages]
    return all(where.name == real.name for where in sets) and not any(map(hands_on, whole.view.stages))


def times(slopes, event):
    """(1), 0 for an entry that is 0."""
    event = event[..., None, :]
    return np.where(event == 0, 0, slopes * event)


def log_det_of(rest, total):
    """The sum of the log-dets of the stages; where it has infinite terms of both signs, their limit, which the chain knows."""
    return asked_for_both(rest.view, rest.side, rest.event)[1] if np.isnan(total).any() else total
