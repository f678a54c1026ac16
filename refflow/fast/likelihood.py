r"""The gradient of a weighted log-likelihood, chunk by chunk of events, with or without stored activations.

    L = sum_i b_i log p(x_i)                                                        (1)
In the flow's inverse map, `h_0 = x, h_k = f_k(h_(k-1)), z = h_K`, the pullbacks need `h_(k-1)` and what `f_k` computed from
it.  Both are stored for one chunk of events at a time ("stored"), or recomputed on the way back ("reversible"), where
    h'_K = z,   h'_(k-1) = f_k^-1(h'_k)                                             (2)
so that memory does not grow with `K`, apart from the parameters themselves.  A coupling knows the part of the event that its
network sees from either side: one pass of the network serves (2) and the pullback.  An autoregressive map of tokens, whose inverse
takes many passes, keeps `h_(k-1)` instead, and recomputes what its network found there.

`h'_k` equals `h_k` up to rounding, which a chain can amplify without bound.  For each stage and event the forward pass keeps
    s_k = sum_j w_j h_kj,   w_j = 1 + (j golden mod 1),   golden = (sqrt 5 - 1)/2   (3)
and h'_k is used only while for every event of the chunk
    |sum_j w_j h'_kj - s_k| <= (A + D) u sum_j w_j |h'_kj|                          (4)
where `u` is the unit roundoff, `D` the number of entries (each sum (3) is itself rounded by at most `D u`), and
`A = 2^10` roundings is the allowed drift: the gradient of stage `k` then belongs to an event within that distance.  Where (4)
fails, the stages up to `k` are applied to `x` once more and their inputs are kept; from there back nothing is
reconstructed: the chunk gives the stored gradient.  The `w_j` differ so that errors that cancel in a plain
sum do not cancel here.

Chunks that hold an event outside the support, or numbers outside the range of plain formulas, are left to the page of `Flow`;
so is a batch that is normalised by its own statistics, which is never split.
"""

from __future__ import annotations

import copy
import functools
import itertools
import time

import numpy as np

from ..core import sets
from ..core.boundary import checked_domain, checked_event
from ..core.arrays import as_floating
from ..core.tree import copied, flatten, repeated, replaced, walk
from ..core.compose import Chain
from ..core.flow import Flow
from ..core.tracks import Run
from ..maps.coupling.coupling import MaskedBijector
from ..maps.normalization.batch_norm import BatchStatisticsNorm
from ..maps.shape import FactorOut
from . import products
from .couplings import Unusual, Workspace, with_numbers_of
from .flows import WORK, work_of
from .table import tuned, tuned_base, twin
from .threads import Pace, Threads, available

ALLOWED = 2**10
GOLDEN = (np.sqrt(5) - 1) / 2
MODES = ("stored", "reversible")
MOST_PARTS, FEWEST = 8, 32             # the most parts, and the fewest events in a part: each part adds up a gradient of its own


# -- where cotangents of parameters are summed ------------------------------------------------------------------------

class Sums:
    """One vector of all parameters' cotangents, and the cotangent of a chunk's context; the first term of a sum overwrites."""

    def __init__(self, places, first_place, size, dtype):
        self.vector, self.context_bar, self.begun, self.targets = np.empty(size, dtype), None, set(), {}
        self.first_place = first_place
        self.views = {path: self.vector[part].reshape(shape) for path, (part, shape) in places.items()}

    def add(self, path, bar):
        path = self.first_place.get(path, path)
        if path not in self.views:
            self.context_bar += bar
        elif path in self.begun:
            self.views[path] += bar
        else:
            self.begun.add(path)
            self.views[path][...] = bar

    def add_all(self, prefix, bars):
        for path, bar in flatten(bars):
            self.add(".".join((prefix, *path) if prefix else path), bar)

    def add_taken(self, path, flat, index):
        """Add the entries of a flat array at these places."""
        path = self.first_place.get(path, path)
        if path in self.begun:
            self.views[path] += flat.take(index)
        else:
            self.begun.add(path)
            flat.take(index, out=self.views[path], mode="clip")                     # without a copy, as `index` is in range

    def add_product(self, path, g, a):
        """Add g @ a, or the blocks of a matrix (2) of `products`."""
        path = self.first_place.get(path, path)
        key = path, g.shape[-2], a.shape[-1]
        total = self.targets.get(key)
        if total is None:
            view = self.views[path]
            total = self.targets[key] = products.blocks(view, g.shape[2], a.shape[3]) if g.ndim == 4 else view
        if path in self.begun:
            total += g @ a
        else:
            self.begun.add(path)
            np.matmul(g, a, out=total)

    def finish(self):
        for path in self.views.keys() - self.begun:
            self.views[path][...] = 0


def paths_of(params, prefix=""):
    """The nested dictionary of `params` with paths in place of arrays."""
    return {key: paths_of(inner, f"{prefix}{key}.") if isinstance(inner, dict) else prefix + key
            for key, inner in params.items()}


def shaped(paths, views):
    """The same with cotangents in place of paths, or None."""
    bars = {}
    for key, inner in paths.items():
        bars[key] = shaped(inner, views) if type(inner) is dict else views.get(inner)
    return bars


# -- the stages of a flow as steps ------------------------------------------------------------------------------------
#
# forward(event)           -> (event after the step, log-det of the map applied, what `reversed` needs later)
# stored(event)            -> ((event after the step, log-det), pullback)
# reversed(after, memory)  -> (event before the step, pullback)
# at(event, after, memory) -> pullback, where the event before the step is known
# renewed(stage)           -> the step of a stage that differs in numbers alone
#
# pullback(bar, b, sums, wanted) -> the event's cotangent, if wanted; the parameters' cotangents go into `sums`.

class Step:
    """A stage by its own page; side 0 applies the map, side 1 its inverse."""

    renewed = with_numbers_of

    def __init__(self, stage, side, path):
        self.side, self.path = side, path
        self.take(stage)

    def take(self, stage):
        self.stage = tuned(stage)
        self.set = self.stage.codomain if self.side else self.stage.domain

    def entering(self, event):
        """The event, if the stage accepts all of the chunk."""
        if self.set is not sets.real and not self.set.members(event, self.stage.event_ndim[self.side]).all():
            raise Unusual
        return event

    def forward(self, event):
        apply = self.stage.inverse_and_log_det if self.side else self.stage.forward_and_log_det
        return *apply(self.entering(event)), None

    def stored(self, event):
        return self.with_pullback(self.stage, self.entering(event))

    def with_pullback(self, stage, event):
        image, page_pullback = (stage.inverse_vjp if self.side else stage.vjp)(event)

        def pullback(bar, b, sums, wanted=True):
            event_bar, bars = page_pullback(bar, b)
            sums.add_all(self.path, bars)
            return event_bar

        return image, pullback

    def reversed(self, after, memory):
        stage = with_one_pass(self.stage) if isinstance(self.stage, MaskedBijector) else self.stage
        before = stage.forward(after) if self.side else stage.inverse(after)        # (2)
        return before, self.with_pullback(stage, before)[1]

    def at(self, event, after, memory):
        return self.with_pullback(self.stage, event)[1]


class RunStep(Step):
    """Leaves of a chain that lead through an interval, by the chain's own step."""

    def take(self, stage):
        self.stage, self.set = stage, stage.codomain if self.side else stage.domain

    def with_pullback(self, stage, event):
        image, pullbacks = (stage.inverse_vjp if self.side else stage.vjp)(event)

        def pullback(bar, b, sums, wanted=True):
            for path, leaf_pullback in reversed(pullbacks):
                bar, bars = leaf_pullback(bar, b)
                sums.add_all(".".join((self.path, *path)), bars)
            return bar

        return image, pullback


class OnePass:
    """A coupling's network that is called twice with the same part of an event and computes once."""

    def __init__(self, net):
        self.net, self.found = net, None

    def vjp(self, a):
        self.found = self.found or self.net.vjp(a)
        return self.found

    def forward(self, a):
        return self.vjp(a)[0]


def with_one_pass(stage):
    """A coupling's view for one event, first from one side, then from the other."""
    return copied(stage, net=OnePass(stage.net))


class FactorStep:
    """`FactorOut` from images to latents: its `rest` is a line of steps, whose first event is kept."""

    def __init__(self, stage, path, space, numbers):
        self.stage, self.path = stage, f"{path}.rest"
        self.line = Line(self.stages(), space, numbers)

    def stages(self):
        return steps_along(self.stage.rest, self.path, 0)

    def renewed(self, stage):
        new = copy.copy(self)
        new.stage = stage
        new.line = self.line.renewed(new.stages())
        return new

    def forward(self, event):
        factored, kept = self.stage._split(event)
        latent, log_det, memory = self.line.forward(kept)
        return self.stage._join_latent(factored, latent), log_det, memory

    def stored(self, event):
        factored, kept = self.stage._split(event)
        (latent, log_det), rest_pullback = self.line.stored(kept)
        return (self.stage._join_latent(factored, latent), log_det), self.joining(rest_pullback)

    def joining(self, rest_pullback):
        def pullback(bar, b, sums, wanted=True):
            factored_bar, latent_bar = self.stage._split_latent(bar)
            factored_bar = factored_bar.copy()                          # the other pullbacks may overwrite `bar`
            return self.stage._join(factored_bar, rest_pullback(latent_bar, b, sums, True))

        return pullback

    def reversed(self, after, memory):
        factored, _ = self.stage._split_latent(after)
        return self.stage._join(factored, memory[0]), self.at(None, after, memory)

    def at(self, event, after, memory):
        _, latent = self.stage._split_latent(after)
        return self.joining(lambda bar, b, sums, wanted: self.line.backward(latent, memory, bar, b, sums, wanted))


class Line:
    """A sequence of steps; `drifted` counts how often (4) failed."""

    def __init__(self, stages, space, numbers):
        self.steps, self.drifted = [step_of(*found, space, numbers) for found in stages], 0

    def renewed(self, stages):
        """The line of other stages, which differ from its own in numbers alone."""
        new = copy.copy(self)
        new.drifted = 0
        new.steps = [step.renewed(stage) for step, (_, stage, _) in zip(self.steps, stages)]
        return new

    def stored(self, event):
        pullbacks, total = [], None
        for step in self.steps:
            (event, log_det), step_pullback = step.stored(event)
            total = log_det if total is None else total + log_det
            pullbacks.append(step_pullback)

        def pullback(bar, b, sums, wanted=True):
            for k in reversed(range(len(pullbacks))):
                bar = pullbacks[k](bar, b, sums, wanted or k > 0)
            return bar

        return (event, total), pullback

    def forward(self, event):
        start, marks, memories, total = event, [None], [], None
        for step in self.steps:
            event, log_det, memory = step.forward(event)
            total = log_det if total is None else total + log_det
            marks.append(weighted(event))
            memories.append(memory)
        return event, total, (start, marks, memories)

    def backward(self, after, memory, bar, b, sums, wanted=True):
        start, marks, memories = memory
        known = [start] if len(self.steps) else []
        for k in reversed(range(len(self.steps))):
            step = self.steps[k]
            if k >= len(known):
                before, pullback = step.reversed(after, memories[k])                # (2)
                if drifted(before, marks[k]):
                    self.drifted += 1
                    known = self.inputs(start, k)
            if k < len(known):
                before, pullback = known[k], step.at(known[k], after, memories[k])
            bar = pullback(bar, b, sums, wanted or k > 0)
            after = before
        return bar

    def inputs(self, start, k):
        """[h_0, ..., h_k]."""
        events = [start]
        for step in self.steps[:k]:
            event = step.forward(events[-1])[0]
            events.append(event.copy(order="K"))
        return events

    def gave_up(self):
        """How often (4) failed since the last call."""
        count, self.drifted = self.drifted, 0
        return count + sum(step.line.gave_up() for step in self.steps if isinstance(step, FactorStep))


def line_of(f, space):
    """The inverse of a flow's bijector as a line."""
    return Line(steps_of(f), space, itertools.count(1))


def steps_of(f):
    return steps_along(f, "bijector", 1)


def steps_along(f, path, side):
    """(path, stage, side) of the stages of a map in the order that an event meets them; a chain's runs are stages."""
    turn = f.steps[side] if isinstance(f, Chain) and f.has_runs else () if isinstance(f, Run) else f.in_turn(side)
    if not turn:
        yield path, f, side
    for here, stage, way in turn:
        yield from steps_along(stage, ".".join((path, *here)), way)


def step_of(path, stage, side, space, numbers):
    """The step of a stage at this place."""
    if side == 0 and type(stage) is FactorOut:
        return FactorStep(stage, path, space, numbers)
    if isinstance(stage, Run):
        return RunStep(stage, side, path)
    number, found = next(numbers), twin(stage, side)
    return Step(stage, side, path) if found is None else found(stage, side, path, number, space)


def weighted(event):
    """sum_j w_j h_j of each event."""
    rows = event.reshape(len(event), int(np.prod(event.shape[1:])))
    return rows @ weights(rows.shape[1]).astype(event.dtype, copy=False)


@functools.cache
def weights(size):
    return 1 + np.arange(size) * GOLDEN % 1                                         # (3)


def drifted(event, known):
    """Does (4) fail for an event of the chunk?  Numbers that are not finite count as a failure."""
    D, u = event.size // len(event), np.finfo(event.dtype).eps / 2
    return not (np.abs(weighted(event) - known) <= (ALLOWED + D) * u * weighted(np.abs(event))).all()       # (4)


# -- the whole --------------------------------------------------------------------------------------------------------

class LikelihoodGradient:
    """log p(x_i) and the gradient of L = sum_i b_i log p(x_i) in all parameters, for one flow after another.

    `memory`: "stored" keeps what the pullbacks need for `rows` events at a time, "reversible" recomputes it from latents.
    `parts`: into how many parts the events are divided, each with its own sum; by default as many as the numbers of events and
    parameters are worth.  `threads`: how many threads share the parts; None for the number, up to the cores that are there, that the
    first calls find to be fastest, as `pace` says.  The bits do not depend on the number of threads: sums of parts are added in their
    order.  After a call, `drifted` says for how many chunks and lines of stages reconstruction was
    abandoned, `by_page` how many chunks were left to `Flow.log_prob_vjp`.

    An object keeps its working arrays, and must be used by one thread at a time.  ValueError for other settings.
    """

    def __init__(self, memory: str = "stored", rows: int = 512, threads: int | None = 1, parts: int | None = None) -> None:
        if memory not in MODES:
            raise ValueError(f"LikelihoodGradient: memory must be one of {MODES}, not {memory!r}")
        for name, value in (("rows", rows), ("threads", threads), ("parts", parts)):
            optional = name != "rows" and value is None
            if not optional and (not isinstance(value, (int, np.integer)) or value < 1):
                raise ValueError(f"LikelihoodGradient: {name} must be an int >= 1, not {value!r}")
        self.memory, self.rows, self.parts = memory, rows, parts
        self.measures, most = threads is None, min(available(), parts or MOST_PARTS) if threads is None else threads
        self.spaces, self.pool = [Workspace() for _ in range(most)], Threads(most)
        self.paces: dict = {}
        self.drifted = self.by_page = 0
        self.prepared = self.pace = None

    def __call__(self, flow, x, b, context=None):
        """(log_prob, params_bar); x (N, *event), b (N,), context (N, C), filled in as by `flow.at`.

        Bad input is refused as by `flow.log_prob_vjp`.
        """
        if not isinstance(flow, Flow):
            raise ValueError(f"LikelihoodGradient: flow must be a Flow, not {type(flow).__name__}")
        return self.filled(flow if context is None else flow.at(context=context), x, b, context)

    def filled(self, flow, x, b, context, form=None):
        """The same for a flow whose context has been filled in; flows that are given with the same `form` differ in numbers alone."""
        x = self.checked_events(flow, x, form)
        view, batch = self.prepared.view, x.shape[:x.ndim - flow.rank]
        b = self.checked_weights(b, batch, x.dtype)
        wanted = () if context is None else batch
        if len(batch) != 1 or not len(x) or self.prepared.parameter_batch != wanted or self.prepared.together:
            return self.at_once(view, x, b)
        log_prob = np.empty(len(x), x.dtype)
        return log_prob, self.gradient(x, b, context, log_prob)

    def checked_events(self, flow, x, form=None):
        """The events, checked; what depends only on the flow is prepared again when the flow changes."""
        known = self.prepared
        if known is None or not known.takes(x) or not known.is_of(flow, form):
            view, x, _ = checked_event(flow, x, 1)
            self.prepared = Prepared(flow, view, x, self.spaces, form)
            return x
        checked_domain(flow, x, 1)
        if known.flow is not flow:
            self.prepared = known.renewed(flow)
        return x

    def parts_of(self, x):
        """Into how many parts the events are divided."""
        if self.parts is not None:
            return min(self.parts, len(x))
        worth = min(MOST_PARTS, len(x) * self.prepared.work // WORK, len(x) // FEWEST)
        return 2 ** (max(1, worth).bit_length() - 1)                                # which most numbers of cores share evenly

    def workers(self, parts):
        """How many threads compute so many parts; where this is measured, each number in turn."""
        most = min(self.pool.count, parts)
        if parts not in self.paces:
            self.paces[parts] = Pace([count for count in sorted({1, 2, most}) if count <= most] if self.measures else [most])
        self.pace = self.paces[parts]
        return self.pace.next()

    def gradient(self, x, b, context, log_prob):
        """The gradient, from the `Part`s of the events, which fill log_prob; worker i takes parts i, i + workers, ..."""
        count = self.parts_of(x)
        ends = [len(x) * i // count for i in range(count + 1)]
        shares, workers, start = [slice(*pair) for pair in itertools.pairwise(ends)], self.workers(count), time.perf_counter()

        def run(worker):
            return [Part(self, worker, i).run(x[shares[i]], b[shares[i]], None if context is None else context[shares[i]],
                                              log_prob[shares[i]]) for i in range(worker, count, workers)]

        found = self.pool.run(run, workers)
        self.pace.took(workers, time.perf_counter() - start)
        first, *others = parts = [found[i % workers][i // workers] for i in range(count)]
        for part in others:
            first.sums.vector += part.sums.vector
        params_bar = shaped(self.prepared.paths, first.sums.views)
        if first.context_bar is not None:
            params_bar["context"] = added([part.context_bar for part in parts], context is not None)
        self.drifted, self.by_page = sum(part.drifted for part in parts), sum(part.by_page for part in parts)
        return params_bar

    def checked_weights(self, b, batch, dtype):
        given, _ = as_floating("LikelihoodGradient: b", b)
        if given.shape == batch and given.dtype == dtype:
            return given
        try:
            return np.broadcast_to(given.astype(dtype, copy=False), batch)
        except ValueError:
            raise ValueError(f"LikelihoodGradient: b has shape {given.shape}, which does not broadcast to {batch}") from None

    def at_once(self, view, x, b):
        """All events at once, by the page's own code."""
        self.drifted, self.by_page = 0, 1
        with np.errstate(all="ignore"):
            log_prob, pullback = view.log_prob_vjp(x)
            return log_prob, pullback(b)[1]


class Prepared:
    """Everything that depends only on a flow and on the dtype and shape of its events."""

    def __init__(self, flow, view, x, spaces, form):
        self.dtype, self.shape, self.form = x.dtype, x.shape[x.ndim - flow.rank:], form
        params, self.parameter_batch = flow.params(), flow.parameter_batch
        self.context, self.paths, (self.places, self.size) = params.get("context"), paths_of(params), places_of(params)
        self.first_place, self.work = first_places(flow, self.places), work_of(flow, self.shape)
        self.together = any(isinstance(found, BatchStatisticsNorm) for _, found in walk(flow))      # events interact
        self.sums = {}
        self.bind(flow, view, [line_of(view.bijector, space) for space in spaces])

    def sums_of(self, i):
        """Where part i adds up; the caller gets what the first has found, the others' are used again."""
        if i == 0:
            return Sums(self.places, self.first_place, self.size, self.dtype)
        if i not in self.sums:
            self.sums[i] = Sums(self.places, self.first_place, self.size, self.dtype)
        self.sums[i].begun.clear()
        return self.sums[i]

    def bind(self, flow, view, lines):
        self.flow, self.view, self.lines = flow, view, lines

    def renewed(self, flow):
        """The same for a flow of the same form, such as the flow after a step of training."""
        new, view = copy.copy(self), flow.unchecked(self.dtype)
        new.context = flow.params().get("context") if self.context is not None else None
        new.bind(flow, view, [line.renewed(steps_of(view.bijector)) for line in self.lines])
        return new

    def is_of(self, flow, form):
        """Does a flow differ in numbers alone from the one that is prepared?"""
        return self.flow is flow or self.form is not None and self.form is form or self.flow.same_form(flow)

    def takes(self, x):
        return (isinstance(x, np.ndarray) and x.dtype == self.dtype and x.ndim == 1 + len(self.shape)
                and x.shape[1:] == self.shape)

    def with_context(self, context, space):
        """(view, line) for the context of a chunk."""
        view = replaced(self.flow, {}, context).unchecked(self.dtype)
        return view, line_of(view.bijector, space)


def places_of(params):
    """({path: (slice of the vector, shape)} of all parameters but the context, the size of the vector)."""
    places, size = {}, 0
    for path, array in flatten(params):
        if path[-1] != "context":
            places[".".join(path)] = slice(size, size + array.size), array.shape
            size += array.size
    return places, size


def first_places(flow, places):
    """{further path: first path} of the parameters of components that stand in several places."""
    both = [(".".join(first), ".".join(further)) for first, further in repeated(flow)]
    return {further + path[len(first):]: path for first, further in both for path in places if path.startswith(f"{first}.")}


class Part:
    """The i-th part of the events, chunk by chunk, in the space of a thread."""

    def __init__(self, whole, thread, i):
        self.memory, self.rows, self.space = whole.memory, whole.rows, whole.spaces[thread]
        self.prepared, self.line, self.sums = whole.prepared, whole.prepared.lines[thread], whole.prepared.sums_of(i)
        self.drifted = self.by_page = 0

    def run(self, x, b, context, log_prob):
        view, line, own = self.prepared.view, self.line, self.prepared.context if context is None else context
        self.context_bar = None if self.prepared.context is None else np.zeros_like(own)
        count = -(-len(x) // self.rows)
        ends = [len(x) * i // count for i in range(count + 1)]
        with np.errstate(all="ignore"):
            for start, end in zip(ends, ends[1:]):
                rows = slice(start, end)
                self.sums.context_bar = self.context_bar if context is None else self.context_bar[rows]
                if context is not None:
                    view, line = self.prepared.with_context(context[rows], self.space)
                log_prob[rows] = self.chunk(view, line, x[rows], b[rows])
        self.sums.finish()
        return self

    def chunk(self, view, line, x, b):
        """log p(x); the gradient goes into the sums."""
        try:
            if self.memory == "stored":
                (z, log_det), pullback = line.stored(x)
            else:
                z, log_det, memory = line.forward(x)
            log_pi, base_pullback = tuned_base(view.base, z, self.space).log_prob_vjp(z)
            log_prob = log_pi + log_det
            if not np.isfinite(log_prob).all():                 # as it is outside the support
                raise Unusual
        except Unusual:
            self.by_page += 1
            log_prob, pullback = view.log_prob_vjp(x)
            self.sums.add_all("", pullback(b)[1])
            return log_prob
        z_bar, base_bar = base_pullback(b)                                          # (1)
        self.sums.add_all("base", base_bar)
        if self.memory == "stored":
            pullback(z_bar, b, self.sums, False)
        else:
            line.backward(z, memory, z_bar, b, self.sums, False)
            self.drifted += line.gave_up()
        return log_prob


def added(bars, in_rows):
    """The cotangent of a context: each event's own, or the sum."""
    if bars[0] is None:
        return None
    return np.concatenate(bars) if in_rows else sum(bars)
