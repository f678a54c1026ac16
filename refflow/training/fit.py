r"""Training: maximum likelihood and reverse Kullback-Leibler divergence.

Maximum likelihood of data `x_i` with weights `w_i`, by default 1, over a batch `B` of `|B|` events, and with `w` for the
mean weight of all events:
    L = -1/|B| sum_{i in B} (w_i / w) log p(x_i)                                    (1)
    log_prob_bar_i = -(w_i / w) / |B|                                               (2)
so that over all data `L = -sum w_i log p(x_i) / sum w_i`.  An event given twice counts as one event of weight 2.

Reverse KL, from the flow `q` to a target density `p~ = c p` known up to its constant `c`, over `n` samples `x_i` of `q`:
    L = 1/n sum_i log q(x_i) - beta log p~(x_i)     for beta = 1, KL(q, p) - log c is its mean      (3)
    x_bar_i = -beta grad log p~(x_i) / n,   log_prob_bar_i = 1/n                    (4)
with `x_i` reparameterised: a function of the parameters and of fixed noise.  A power `beta < 1` makes the density flatter, so that
in the first steps the flow finds all of it.
"""

from __future__ import annotations

import copy
import functools
import sys
import time
from dataclasses import dataclass

import numpy as np
import scipy

from ..core.boundary import checked_event
from ..core.arrays import as_floating
from ..core.flow import Flow
from ..fast import tuned
from ..fast.likelihood import LikelihoodGradient
from ..fast.threads import on_one_thread
from .batch_norm import space_of
from .diagnosis import unlikely
from .formula import refuse_other_gradient
from .optimisers import LBFGS, Adam, norm
from .penalty import with_penalty
from .schedules import Constant
from .unconstrained import Unconstrained

EVALUATED = 2**18                       # numbers passed at a time to a density
KEPT = 100                              # after so many steps the flow is the best so far, where nothing measures it
COLUMNS = ("step", "loss", "gradient_norm", "learning_rate", "validation_step", "validation_loss")


@dataclass(frozen=True, eq=False)
class Result:
    """What training found.

    `flow`: the best flow.  `history`: arrays `step`, `loss`, `gradient_norm`, `learning_rate`, one entry for each step, the
    loss is the one before the step; `validation_step`, `validation_loss`, one entry for each evaluation.  `step`: the number
    of steps after which `flow` was reached.  `stopped`: "steps", "patience", "converged", "callback", "interrupted" or
    "failed".
    `state`: the state after the last whole step of this call, or None if there was none, and for LBFGS.
    """

    flow: Flow
    history: dict
    step: int
    stopped: str
    message: str = ""
    state: State | None = None


@dataclass(frozen=True, eq=False)
class State:
    """The state of training after a whole number of steps; `fit(..., resume=state)` continues from it with the same bits.

    `best`: the best flow so far.  `arrays`: {name: array} and `numbers`: {name: a JSON value} hold everything else that later
    steps depend on: parameters, the optimiser's state, averages, moving statistics, the order of the events, the generator's
    state, the history.
    """

    step: int
    best: Flow
    arrays: dict
    numbers: dict


class TrainingError(ArithmeticError):
    """Training met a loss, gradient or parameter that it cannot use.  `result` holds the best flow so far."""

    def __init__(self, message, result):
        super().__init__(message)
        self.result = result


class Failed(Exception):
    """Why the loop ends; becomes a TrainingError."""


class Progress:
    """The progress of training: on a terminal a bar of `WIDTH` cells on one line, elsewhere a line now and then.

    `wanted`: True or False; None for True if stderr is a terminal; or a function that formats a loss.  `note`: a function of what
    the first line says besides, and the bar always.
    """

    WIDTH = 20
    TERMINAL, ELSEWHERE = 0.1, 20.0     # seconds from one line to the next
    SAMPLE, LONG = 20, 5.0              # after so many steps a first line says how long it will take, if it is so many seconds

    def __init__(self, wanted, steps, note=str):
        terminal = sys.stderr.isatty()
        self.shown = terminal if wanted is None else bool(wanted)
        self.text, self.name = (wanted, "train") if callable(wanted) else ("{:.4f}".format, "loss")
        self.bar = terminal or not callable(wanted)
        self.steps, self.last, self.first, self.note = steps, -np.inf if self.bar else time.monotonic(), None, note

    def show(self, step, loss, validation, measured):
        """`validation`: the loss of the validation data after `measured` steps, or None."""
        now = time.monotonic()
        self.first = self.first or (step, now)
        early = step == self.first[0] + self.SAMPLE and self.seconds_left(step, now) >= self.LONG
        if not self.shown or not early and now - self.last < (self.TERMINAL if self.bar else self.ELSEWHERE):
            return
        at = "" if measured == step else f" (step {measured})"
        tail = f"  validation {self.text(validation)}{at}" if validation is not None else ""
        note = f"  ({self.note()})" if self.note() else ""
        line = f"{step}/{self.steps}  {self.name} {self.text(loss)}{tail}{self.left(step, now)}{note}"
        done = self.WIDTH * step // max(self.steps, 1)
        cells = "#" * done + "." * (self.WIDTH - done)
        print(f"\r\033[K[{cells}] {line}" if self.bar else line, end="" if self.bar else "\n", file=sys.stderr, flush=True)
        self.last, self.note = now, self.note if self.bar else str

    def left(self, step, now):
        """How long it will still take at the pace since the first step shown."""
        return "" if step in (self.first[0], self.steps) else f"  {time_text(self.seconds_left(step, now))} left"

    def seconds_left(self, step, now):
        first, start = self.first
        return (now - start) / (step - first) * (self.steps - step)

    def close(self):
        if self.shown and self.bar:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def time_text(seconds):
    """"45 s", "12 min", "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


class Likelihood:
    """(1) and (2) over batches in an order drawn from `rng`, and the validation loss."""

    def __init__(self, flow, space, data, validation, batch_size, rng, penalty, gradient, transform):
        self.flow, self.space, self.rng, self.penalty, self.transform = flow, space, rng, penalty, transform
        self.gradient = gradient
        self.log_prob_and_gradient = whole_batch if gradient is None else functools.partial(gradient.filled, form=space)
        self.x, self.weights, self.context, self.index = data
        self.validation = validation
        self.size = len(self.x) if batch_size is None else min(batch_size, len(self.x))
        self.per_epoch = -(-len(self.x) // self.size)
        self.order, self.batch, self.events = np.arange(len(self.x)), None, None

    def next_batch(self, step):
        """Draw the events of step 1, 2, ..."""
        k = (step - 1) % self.per_epoch
        if k == 0 and self.per_epoch > 1:
            self.order = self.rng.permutation(len(self.x))
        self.batch = self.order[k * self.size:(k + 1) * self.size] if self.per_epoch > 1 else slice(None)
        self.events = self.x[self.batch]
        if self.transform is not None:
            self.events = transformed(self.events, self.transform, self.rng)

    def parts(self):
        return self.events, self.weights[self.batch], None if self.context is None else self.context[self.batch]

    def loss_and_gradient(self, vector):
        x, weights, context = self.parts()
        flow = self.space.quick(vector, context)
        each = (weights / len(x)).reshape(-1, *(1,) * len(self.flow.parameter_batch))
        log_prob, params_bar = self.log_prob_and_gradient(flow, x, -each, context)          # (2)
        with np.errstate(all="ignore"):
            loss = -float(np.where(each == 0, 0, each * log_prob).sum(dtype=np.float64))    # (1)
        if not np.isfinite(loss):
            return loss, None
        if self.penalty is not None:
            loss, params_bar = with_penalty(loss, params_bar, self.penalty, flow.params())
        return loss, self.space.gradient(vector, params_bar)

    def threads(self):
        """How many threads share a batch, "" while that is not known."""
        known = self.gradient is not None and self.gradient.pace is not None
        return self.gradient.pace.text() if known else ""

    def explain(self, vector):
        x, weights, context = self.parts()
        used = weights != 0
        context = None if context is None else context[used]
        return unlikely(self.space.quick(vector, context), x[used], self.index[self.batch][used])

    def explain_validation(self, flow):
        x, _, context, index = self.validation
        x, context, index = (None if a is None else a[self.validation[1] != 0] for a in (x, context, index))
        return unlikely(flow if context is None else flow.at(context=context), x, index) or "no single stage shows why"

    def evaluate(self, flow):
        """The validation loss, or None without validation data."""
        if self.validation is None:
            return None
        x, weights, context, _ = self.validation
        total, rows = 0.0, max(1, min(4096, EVALUATED // x[0].size))
        for start in range(0, len(x), rows):
            part = slice(start, start + rows)
            at = flow if context is None else flow.at(context=context[part])
            log_prob = at.log_prob(x[part])
            each = weights[part].reshape(-1, *(1,) * (log_prob.ndim - 1))
            with np.errstate(all="ignore"):
                total -= float(np.where(each == 0, 0, each * log_prob).sum(dtype=np.float64))
        return total / len(x)


class ReverseKL:
    """(3) and (4) over fresh samples."""

    per_epoch = 10

    def __init__(self, flow, space, log_density, gradient, samples, rng, annealing, compared):
        self.flow, self.space, self.rng, self.samples = flow, space, rng, samples
        self.log_density, self.density_gradient, self.annealing = log_density, gradient, annealing
        self.before, self.compared, self.beta, self.order = None, compared, 1.0, np.arange(0)

    def next_batch(self, step):
        self.before = copy.deepcopy(self.rng)
        self.beta = 1.0 if self.annealing is None else self.annealing(step)

    def loss_and_gradient(self, vector):
        (x, log_q), pullback = tuned(self.space.quick(vector)).sample_and_log_prob_vjp(self.rng, self.samples)
        log_p = user_array("log_density", self.log_density(x), log_q)
        with np.errstate(all="ignore"):
            loss = float((log_q - self.beta * log_p).sum(dtype=np.float64) / len(x))        # (3)
        if not np.isfinite(loss):
            return loss, None
        slope = user_array("gradient", self.density_gradient(x), x)
        if not self.compared and np.isfinite(slope).all():
            refuse_other_gradient("fit_reverse_kl", self.log_density, self.density_gradient, x)
            self.compared = True
        n = len(x)
        return loss, self.space.gradient(vector, pullback(-self.beta * slope / n, np.full_like(log_q, 1 / n)))      # (4)

    def explain(self, vector):
        flow = self.space.quick(vector)
        x = flow.sample(self.before, self.samples)
        if not np.isfinite(x).all():
            return "a sample of the flow is not finite"
        wrong = unlikely(flow, x, None)
        if wrong:
            return wrong
        for name, found in (("log_density", self.log_density(x)), ("gradient", self.density_gradient(x))):
            if not np.isfinite(found).all():
                return f"{name} is not finite at the sample {x[~np.isfinite(found).reshape(len(x), -1).all(1)][0]}"
        return None

    def evaluate(self, flow):
        return None


def whole_batch(flow, x, b, context):
    """log p(x) and the gradient of sum_i b_i log p(x_i) where events depend on each other."""
    log_prob, pullback = flow.log_prob_vjp(x)
    return log_prob, pullback(np.broadcast_to(b, log_prob.shape).astype(log_prob.dtype, copy=False))[1]


def transformed(x, transform, rng):
    """The events x after `transform`, checked for shape and dtype."""
    found = np.asarray(transform(x, rng))
    if found.shape != x.shape or found.dtype != x.dtype:
        raise ValueError(f"fit: transform must return an array of shape {x.shape} and {x.dtype}, like its input, not of "
                         f"shape {found.shape} and {found.dtype}")
    return found


def user_array(name, given, like):
    given = np.asarray(given)
    if given.shape != like.shape:
        raise ValueError(f"fit_reverse_kl: {name} returned shape {given.shape}, not {like.shape}")
    return given.astype(like.dtype, copy=False)


# -- the loop ---------------------------------------------------------------------------------------------------------

@dataclass(frozen=True, eq=False)
class Position:
    """The state of a descent after a step; `lowest`: the parameters with the lowest loss, and the step that reached them."""

    step: int
    vector: np.ndarray
    optimiser: dict
    average: np.ndarray
    lowest: tuple


class Record:
    """History, and the best flow so far: the one with the lowest validation loss, or without validation the last usable one.

    `best()` makes it when it is asked for.
    """

    def __init__(self, problem, space, every, patience, flat, callback, progress):
        self.problem, self.space, self.every, self.patience, self.flat = problem, space, every, patience, flat
        self.callback, self.progress = callback, progress
        self.columns = {name: [] for name in COLUMNS}
        self.best, self.best_step, self.lowest, self.since, self.mark = self.start, 0, np.inf, 0, np.inf
        self.validation, self.state = None, None

    def measured(self, vector, step):
        """Evaluate the parameters reached after `step` steps; True when patience has run out."""
        flow, best = checked_value(self.space, vector, step) if step else (self.problem.flow, self.start)
        loss = self.problem.evaluate(flow)
        if loss is None:
            self.best, self.best_step = best, step
            return False
        if not step and not np.isfinite(loss):
            raise Failed(f"before the first step: the validation loss is {loss}; {self.problem.explain_validation(flow)}")
        self.columns["validation_step"].append(step)
        self.columns["validation_loss"].append(loss)
        self.validation = loss
        if loss < self.lowest:
            self.best, self.best_step, self.lowest = best, step, loss
        lower = loss < self.mark - self.flat
        self.mark, self.since = (loss, 0) if lower else (self.mark, self.since + 1)
        return self.patience is not None and self.since >= self.patience

    def start(self):
        """The flow that training starts from."""
        return self.problem.flow

    def keep(self, vector, step):
        """Without validation, these parameters are the best so far."""
        if self.validation is None:
            self.best, self.best_step = functools.partial(self.space.value_at, vector) if step else self.start, step

    def stepped(self, step, loss, gradient_norm, rate):
        for name, value in zip(COLUMNS, (step, loss, gradient_norm, rate)):
            self.columns[name].append(value)

    def called(self, vector, step):
        """Show the user a step; True if the callback asks to stop."""
        columns = self.columns
        self.progress.show(step, columns["loss"][-1], self.validation, max(columns["validation_step"], default=None))
        if self.callback is None:
            return False
        info = {"step": step, "loss": columns["loss"][-1], "gradient_norm": columns["gradient_norm"][-1],
                "learning_rate": columns["learning_rate"][-1], "validation_loss": self.validation, "state": self.state}
        return bool(self.callback(info, lambda: self.space.value_at(vector)))

    def result(self, stopped, message=""):
        history = {key: column_array(key, column) for key, column in self.columns.items()}
        return Result(self.best(), history, self.best_step, stopped, message, self.state and self.state())

    def reached(self, at):
        """Keep everything that a `State` needs; none of it changes later, except that columns grow."""
        problem, space = self.problem, self.space
        lengths = {key: len(column) for key, column in self.columns.items()}
        order, statistics, best = problem.order, dict(space.statistics), self.best
        numbers = {"best_step": self.best_step, "lowest": self.lowest if np.isfinite(self.lowest) else None,
                   "since": self.since, "mark": self.mark if np.isfinite(self.mark) else None, "validation": self.validation,
                   "lowest_step": at.lowest[1],
                   "generator": None if problem.rng is None else problem.rng.bit_generator.state,
                   "optimiser": {key: v for key, v in at.optimiser.items() if not isinstance(v, np.ndarray)}}

        def state():
            arrays = {"vector": at.vector, "average": at.average, "lowest": at.lowest[0], "order": order}
            arrays |= {f"optimiser.{key}": v for key, v in at.optimiser.items() if isinstance(v, np.ndarray)}
            arrays |= {".".join(("statistics", *path)): array for path, array in statistics.items()}
            arrays |= {f"history.{key}": column_array(key, self.columns[key][:n]) for key, n in lengths.items()}
            return State(at.step, best(), arrays, numbers)

        self.state = state

    def resumed(self, given, start):
        """The position of a State, after bringing this record and its problem there; `start` is the position at step 0."""
        arrays, numbers, problem, space = given.arrays, given.numbers, self.problem, self.space
        prefix = "optimiser."
        state = {key.removeprefix(prefix): array for key, array in arrays.items() if key.startswith(prefix)}
        state |= numbers["optimiser"]
        alike = arrays["vector"].shape == start.vector.shape and arrays["order"].shape == problem.order.shape
        if not alike or arrays["vector"].dtype != start.vector.dtype or state.keys() != start.optimiser.keys():
            raise ValueError("fit: resume must be the state of a fit with the same arguments")
        self.best, self.best_step = (lambda: given.best), numbers["best_step"]
        marks = numbers["lowest"], numbers.get("mark", numbers["lowest"])
        self.lowest, self.mark = (np.inf if loss is None else loss for loss in marks)
        self.since, self.validation = numbers["since"], numbers["validation"]
        self.columns = {key: arrays[f"history.{key}"].tolist() for key in COLUMNS}
        space.statistics = {path: arrays[".".join(("statistics", *path))] for path in space.statistics}
        problem.order = arrays["order"]
        if problem.rng is not None:
            problem.rng.bit_generator.state = numbers["generator"]
        at = Position(given.step, arrays["vector"], state, arrays["average"], (arrays["lowest"], numbers["lowest_step"]))
        self.reached(at)
        return at


def column_array(key, column):
    return np.array(column, np.int64 if key.endswith("step") else np.float64)


def checked_value(space, vector, step):
    """(the flow to be evaluated, a function that gives it as a value of its own)."""
    try:
        return space.evaluated(vector)
    except ValueError as error:
        raise Failed(f"step {step} leaves the constraints of the flow: {error}") from None


def checked_gradient(problem, vector, step, first):
    """(loss, gradient), all finite, at the parameters before a step; an error at the `first` ones is the user's."""
    try:
        loss, gradient = problem.loss_and_gradient(vector)
    except ValueError as error:
        if first:
            raise
        raise Failed(f"step {step}: {error}") from None
    if gradient is None or not np.isfinite(gradient).all():
        what = f"the loss is {loss}" if gradient is None else "the gradient is not finite"
        raise Failed(f"step {step}: {what}; {problem.explain(vector) or 'no single stage shows why'}")
    return loss, gradient


def descend(record, optimiser, schedule, steps, clip, averaging, resume):
    """Steps of an optimiser; returns the reason for stopping."""
    problem, vector = record.problem, record.space.vector
    at = Position(0, vector, optimiser.start(vector), vector, (vector, 0))
    if resume is not None:
        at = record.resumed(resume, at)
    vector, state, average, lowest = at.vector, at.optimiser, at.average, at.lowest
    usable = average, at.step
    try:
        if resume is None:
            record.measured(vector, 0)
        for step in range(at.step + 1, steps + 1):
            problem.next_batch(step)
            loss, gradient = checked_gradient(problem, vector, step, step == 1)
            usable = average, step - 1
            lowest = usable if loss <= min(record.columns["loss"], default=np.inf) else lowest
            length, factor = norm(gradient), schedule(step)
            record.stepped(step, loss, length, optimiser.learning_rate * factor)
            with np.errstate(all="ignore"):
                vector, state = optimiser.step(vector, gradient if clip is None else clip(gradient), state, factor)
                average = vector if averaging is None else averaging.update(average, vector, step)
                record.space.stepped()
            overflown = [k for k, v in state.items() if not np.isfinite(v).all()]
            if overflown or not np.isfinite(vector).all():
                raise Failed(f"step {step}: {type(optimiser).__name__} gives {(overflown or ['parameters'])[0]} that are "
                             f"not finite, for a gradient of norm {length:.3g}")
            if (step % record.every == 0 or step == steps) and record.measured(average, step):
                return "patience"
            record.reached(Position(step, vector, state, average, lowest))
            if record.called(average, step):
                record.measured(average, step)
                return "callback"
        return "steps"
    except Failed:
        record.keep(*lowest)
        raise
    except KeyboardInterrupt:
        record.keep(*usable)
        raise


def minimise(record, optimiser, steps):
    """scipy's L-BFGS-B; returns the reason for stopping."""
    problem, space, found = record.problem, record.space, {}
    problem.next_batch(1)
    stop = []

    def objective(vector):
        step = len(record.columns["step"]) + 1
        if not np.isfinite(vector).all():
            raise Failed(f"step {step}: the parameters that LBFGS tries are not finite")
        loss, gradient = checked_gradient(problem, vector.astype(space.vector.dtype), step, step == 1 and not found)
        found[vector.tobytes()] = loss, norm(gradient)
        return loss, gradient.astype(np.float64)

    def iterate(intermediate_result):
        vector = intermediate_result.x
        step = len(record.columns["step"]) + 1
        record.stepped(step, *found.get(vector.tobytes(), (float(intermediate_result.fun), np.nan)), np.nan)
        found.clear()
        own = vector.astype(space.vector.dtype)
        if record.measured(own, step):
            stop.append("patience")
        elif record.called(own, step):
            stop.append("callback")
        if stop:
            raise StopIteration

    record.measured(space.vector, 0)
    if not steps:
        return "steps"
    options = {"maxiter": steps, "maxfun": 20 * steps + 20, "maxcor": optimiser.memory, "ftol": optimiser.tolerance,
               "gtol": optimiser.gradient_tolerance}
    done = scipy.optimize.minimize(objective, space.vector.astype(np.float64), jac=True, method="L-BFGS-B",
                                   callback=iterate, options=options)
    return stop[0] if stop else "converged" if done.status == 0 else "steps"


@on_one_thread
def trained(record, optimiser, schedule, steps, clip, averaging, resume=None):
    """Run to the end, an interruption or a failure."""
    try:
        if isinstance(optimiser, LBFGS):
            stopped = minimise(record, optimiser, steps)
        else:
            stopped = descend(record, optimiser, schedule, steps, clip, averaging, resume)
        return record.result(stopped)
    except KeyboardInterrupt:
        return record.result("interrupted", "interrupted; this is the best flow so far")
    except Failed as error:
        raise TrainingError(str(error), record.result("failed", str(error))) from None
    finally:
        record.progress.close()


# -- what users call --------------------------------------------------------------------------------------------------

def fit(flow, x, *, weights=None, context=None, optimiser=None, schedule=None, steps=None, epochs=None, batch_size=None,
        clip=None, averaging=None, penalty=None, validation=0.1, patience=None, flat=0.0, every=None, fixed=(), rng=None,
        callback=None, progress=None, gradient=None, transform=None, resume=None) -> Result:
    """The flow with the largest likelihood of data x, found by gradient steps from `flow`.

    `x`: (N, *event), for a flow with a parameter batch (N, *batch, *event); `weights`: (N,), >= 0; `context`: (N, C), passed
    with its events to `flow.at`.

    `optimiser`: `Adam()` (the default), `AdaMax`, `RMSPropMomentum`, or `LBFGS`; `schedule(step)`: the factor of its
    learning rate; `steps` (1000) or `epochs`; `batch_size`: events for each step, all of them by default, in an order drawn
    again from `rng` for every epoch; `clip`: `ClipNorm` or `ClipValue`; `averaging`: `EMA` or `Polyak`, whose average is
    the result; `penalty`: `SquaredNorm`, added to the loss of the training data.

    Batch normalisations use the statistics of each batch, with equal weights for its events and with gradients through them;
    their moving statistics follow, are not trained, and belong to the result.

    `validation`: a fraction of x to set aside, chosen by `rng`, or data: an array x or a tuple (x, context); 0 for none.  Every
    `every` steps (an epoch, at least 10 steps) its loss is computed, and the flow with the lowest loss is the result; after
    `patience` evaluations in which it has fallen by no more than `flat`, training stops.  Without validation the last flow is the result; if
    training fails, the flow with the lowest loss.

    `transform(events, rng)`: applied to a batch before each step, for instance `dequantised` with fresh noise for integers;
    it returns an array of the same shape and dtype.  Validation data are not transformed.

    `gradient`: how gradients are computed, a `LikelihoodGradient`: with or without stored activations, with how many events
    at a time, in how many threads; not for flows with batch normalisation, which need all events at once.  By default, threads share
    large batches if the first steps are faster so, which the first line of the progress says; the linear algebra library runs on one
    thread, unless the user has set a number in the environment (`refflow.fast.threads`), and then goes on as before.

    `fixed`: patterns of parameters that are not trained, by path ("base", "*.shift").  `callback(info, flow)`: called after
    each step with a dictionary and a function that makes the current flow; training stops if it returns a true value.
    `progress`: a line on stderr, by default if that is a terminal; a function that formats a loss gives lines in its units,
    every 20 seconds if stderr is not a terminal.  Ctrl-C ends training with the best flow so far.

    `resume`: a `State`, from the callback's `info["state"]()` or a result's `state`, from which training continues; all other
    arguments must be the same as in the original call, and the bits are then the same as without interruption.  Not for
    LBFGS, whose state belongs to scipy.

    Parameters are trained as free numbers (`Unconstrained`).  The same arguments and seed give the same bits.  ValueError
    for arguments that do not fit; TrainingError, with the best flow so far, if a loss, gradient or parameter is not
    finite or leaves its constraint: it names the step, the stage and the event.
    """
    optimiser, schedule = checked_settings("fit", flow, optimiser, schedule, clip, averaging, every, patience, flat)
    x, weights, context = checked_data(flow, x, weights, context)
    checked_count("batch_size", batch_size, 1)
    if np.isscalar(validation) and (isinstance(validation, (bool, str)) or not 0 <= validation < 1):  # type: ignore[operator]
        raise ValueError(f"fit: validation must be a fraction in [0, 1) or data, not {validation!r}")
    needs_rng = np.isscalar(validation) and validation > 0 or batch_size is not None and batch_size < len(x)  # type: ignore[operator]
    checked_rng("fit", rng, needs_rng or transform is not None)
    if transform is not None and not callable(transform):
        raise ValueError(f"fit: transform must be callable, not {transform!r}")
    if isinstance(optimiser, LBFGS) and (batch_size is not None or clip is not None or averaging is not None
                                         or schedule != Constant()):
        raise ValueError("fit: LBFGS takes no batch_size, schedule, clip or averaging")
    data, held_out = divided(flow, (x, weights, context, np.arange(len(x))), validation, rng)
    if patience is not None and held_out is None:
        raise ValueError("fit: patience needs validation data")
    checked_resume("fit", resume, isinstance(optimiser, LBFGS))
    space = space_of(flow, fixed)
    if isinstance(optimiser, LBFGS) and type(space) is not Unconstrained:
        raise ValueError("fit: LBFGS takes no flow with batch normalisation, whose statistics follow steps")
    if gradient is not None and not isinstance(gradient, LikelihoodGradient):
        raise ValueError(f"fit: gradient must be a LikelihoodGradient, not {gradient!r}")
    if gradient is not None and type(space) is not Unconstrained:
        raise ValueError("fit: gradient must be None for a flow with batch normalisation, which needs all events at once")
    if gradient is None and type(space) is Unconstrained:
        gradient = LikelihoodGradient(threads=None)
    problem = Likelihood(flow, space, data, held_out, batch_size, rng, penalty, gradient, transform)
    if steps is not None and epochs is not None:
        raise ValueError("fit: give steps or epochs, not both")
    checked_count("steps", steps, 0)
    checked_count("epochs", epochs, 0)
    steps = steps if steps is not None else 1000 if epochs is None else epochs * problem.per_epoch
    every = every or max(10, problem.per_epoch)
    record = Record(problem, problem.space, every, patience, flat, callback, Progress(progress, steps, problem.threads))
    return trained(record, optimiser, schedule, steps, clip, averaging, resume)


def fit_reverse_kl(flow, log_density, gradient, *, samples=256, optimiser=None, schedule=None, annealing=None, steps=1000,
                   clip=None, averaging=None, fixed=(), rng, callback=None, progress=None, resume=None) -> Result:
    """The flow with the smallest Kullback-Leibler divergence to a density known up to its constant.

    `log_density(x)` -> (n, *batch) and `gradient(x)` -> the shape of x, at x = `samples` events drawn again from the flow for
    every step.  The loss is an estimate of KL(q, p) minus the logarithm of the density's integral.  `annealing(step)`: the power
    of the density at a step, such as `Annealing()`.  The result is the last flow; batch normalisations keep their moving
    statistics; everything else is as in `fit`.  At the first step `gradient` is compared with differences of `log_density`:
    ValueError if it is not its gradient, with the entry that is wrong, or if `log_density` jumps between two samples.
    """
    optimiser, schedule = checked_settings("fit_reverse_kl", flow, optimiser, schedule, clip, averaging, None, None)
    if isinstance(optimiser, LBFGS):
        raise ValueError("fit_reverse_kl: LBFGS needs a loss without noise")
    checked_rng("fit_reverse_kl", rng, True)
    checked_count("samples", samples, 1)
    checked_count("steps", steps, 0)
    if annealing is not None and (not callable(annealing) or isinstance(annealing, type)):
        raise ValueError(f"fit_reverse_kl: annealing must be callable, not {annealing!r}")
    checked_resume("fit_reverse_kl", resume)
    space = Unconstrained(flow, fixed)
    problem = ReverseKL(flow, space, log_density, gradient, samples, rng, annealing, resume is not None)
    record = Record(problem, space, KEPT, None, 0.0, callback, Progress(progress, steps))
    return trained(record, optimiser, schedule, steps, clip, averaging, resume)


def checked_settings(name, flow, optimiser, schedule, clip, averaging, every, patience, flat=0.0, kind=Flow):
    """(optimiser, schedule)."""
    if not isinstance(flow, kind):
        what = "flow" if kind is Flow else "model"
        raise ValueError(f"{name}: {what} must be a {kind.__name__}, not {type(flow).__name__}")
    optimiser = Adam() if optimiser is None else optimiser
    steps = all(hasattr(optimiser, m) for m in ("start", "step", "learning_rate"))
    if isinstance(optimiser, type) or not (isinstance(optimiser, LBFGS) or steps):
        raise ValueError(f"{name}: optimiser must be an optimiser, such as Adam(), not {optimiser!r}")
    for key, value in (("schedule", schedule), ("clip", clip)):
        if value is not None and (not callable(value) or isinstance(value, type)):
            raise ValueError(f"{name}: {key} must be callable, not {value!r}")
    if averaging is not None and (not hasattr(averaging, "update") or isinstance(averaging, type)):
        raise ValueError(f"{name}: averaging must be EMA() or Polyak(), not {averaging!r}")
    checked_count("every", every, 1)
    checked_count("patience", patience, 1)
    if not isinstance(flat, (int, float)) or isinstance(flat, bool) or not 0 <= flat < np.inf:
        raise ValueError(f"{name}: flat must be a number >= 0, not {flat!r}")
    return optimiser, Constant() if schedule is None else schedule


def checked_count(name, value, least):
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least):
        raise ValueError(f"fit: {name} must be an int >= {least}, not {value!r}")


def checked_resume(name, resume, refused=False):
    if resume is not None and (refused or not isinstance(resume, State)):
        raise ValueError(f"{name}: resume must be a State, and LBFGS must not be the optimiser, not {type(resume).__name__}")


def checked_rng(name, rng, needed):
    if needed and not isinstance(rng, np.random.Generator):
        raise ValueError(f"{name}: rng must be a numpy.random.Generator, not {type(rng).__name__}")


def checked_data(flow, x, weights, context, name="x"):
    """(x, weights, context) of one length; x and context checked by the flow itself."""
    x, _ = as_floating(f"fit: {name}", x)
    lead = x.ndim - flow.rank - len(flow.parameter_batch)
    if lead != 1:
        batch = "*batch, " if flow.parameter_batch else ""
        raise ValueError(f"fit: {name} must have shape (N, {batch}*event), with events of {flow.rank} axes, not {x.shape}")
    if len(x) < 1:
        raise ValueError(f"fit: {name} holds no event")
    if context is not None:
        context, _ = as_floating("fit: context", context)
        if context.shape[:1] != x.shape[:1]:
            raise ValueError(f"fit: context must hold a row for each of the {len(x)} events of {name}, not have shape "
                             f"{context.shape}")
        flow = flow.at(context=context)
    checked_event(flow, x, 1)
    if weights is None:
        return x, np.ones(len(x)), context
    weights, _ = as_floating("fit: weights", weights)
    if weights.shape != (len(x),):
        raise ValueError(f"fit: weights must have shape ({len(x)},), not {weights.shape}")
    bad = ~(np.isfinite(weights) & (weights >= 0))
    if bad.any():
        i = int(np.flatnonzero(bad)[0])
        raise ValueError(f"fit: weights must be finite and >= 0; weights[{i}] = {weights[i]}")
    return x, weights.astype(np.float64), context


def divided(flow, data, validation, rng):
    """(training data, validation data or None), each as (x, weights of mean 1, context, indices)."""
    x, context = data[0], data[2]
    if np.isscalar(validation):
        count = min(round(validation * len(x)), len(x) - 1)
        if not count:
            return mean_one(data, "x"), None
        order = rng.permutation(len(x))
        parts = [tuple(None if a is None else a[rows] for a in data) for rows in (np.sort(order[count:]), order[:count])]
        return mean_one(parts[0], "the training part of x"), mean_one(parts[1], "the validation part of x")
    if validation is None:
        return mean_one(data, "x"), None
    paired = isinstance(validation, tuple)
    if paired != (context is not None) or paired and len(validation) != 2:
        raise ValueError("fit: validation must be a tuple (x, context) if, and only if, there is a context")
    own, own_context = validation if paired else (validation, None)
    own, own_weights, own_context = checked_data(flow, own, None, own_context, "validation")
    return mean_one(data, "x"), (own, own_weights, own_context, np.arange(len(own)))


def mean_one(data, what):
    x, weights, context, index = data
    mean = weights.mean()
    if not mean > 0:
        raise ValueError(f"fit: all weights of {what} are 0")
    return x, weights / mean, context, index
