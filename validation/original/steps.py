"""Steps of an optimiser in files: `after_steps/` or `after_step/`, `step0/`, `step1/`, ..., and `out/losses` before each step.

The configuration says which optimiser, under "optimiser" or "optimizer", or in the words of its "notes".
"""

from __future__ import annotations

import json
import math
import re
from typing import NamedTuple

import numpy as np

from refflow.training import Adam, AdaMax, ClipNorm

from .comparison import ALLOWED, ZERO, Lacking, Pair, pair, under

NUMBER = r"([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)"
LAST = ("after_steps/", "after_step/")


def words_of(config):
    """What the configuration says of its optimiser."""
    said = [config[key] for key in ("optimiser", "optimizer", "notes", "note") if config.get(key)]
    return re.sub(r"[\"\[\]{}:=]+", " ", " ".join(one if isinstance(one, str) else json.dumps(one) for one in said)).lower()


def numbers_after(text, *names, count=1):
    """The numbers behind the first of these names in a text, or None."""
    for name in names:
        match = re.search(rf"{name}[ _(]*" + r"[ ,(]+".join([NUMBER] * count), text)
        if match:
            return [float(number) for number in match.groups()]
    return None


def optimiser_of(config):
    """(optimiser at the learning rate 1, clip or None, learning rate or None).  Lacking if the configuration names none."""
    text = words_of(config)
    kind = re.search(r"adamax|adamw?", text)
    if kind is None:
        raise Lacking("the configuration names no optimiser")
    inside = numbers_after(text, rf"{kind[0]} ?\(", count=3)        # adam(beta1, beta2, eps)
    single = [(numbers_after(text, f"beta{i}") or [default])[0] for i, default in ((1, 0.9), (2, 0.999))]
    betas = numbers_after(text, "betas?", count=2) or single
    beta1, beta2, eps = inside or [*betas, (numbers_after(text, "eps(?:ilon)?") or [1e-8])[0]]
    decay = numbers_after(text, "weight[ _]decay", r"\bwd\b")
    clip = numbers_after(text, "clip_by_global_norm", "clip_grad_norm", "clip(?:ping)?")
    rate = numbers_after(text, r"\blr\b", "learning[ _]rate", r"\* ?-")
    if decay and decay[0] and kind[0] != "adamw":
        raise Lacking(f"weight decay inside the gradients of {kind[0]} is not built")
    given = {"weight_decay": decay[0]} if decay and decay[0] else {}
    optimiser = (AdaMax if kind[0] == "adamax" else Adam)(1.0, beta1, beta2, eps, **given)
    return optimiser, clip and ClipNorm(clip[0]), rate and rate[0]


def schedule_of(config, n):
    """The authors' rates of n steps, from the words "CosineLRSchedule(warmup 2, total 6, min 1e-3, max 1e-2)", or None.

    The rate of the step after the warm-up is the one before it, once more: their code sets none there.  Behind the total, the
    cosine goes on.
    """
    found = re.search(rf"cosinelrschedule\(warmup {NUMBER}, total {NUMBER}, min {NUMBER}, max {NUMBER}", words_of(config))
    if found is None:
        return None
    warm, total, low, high = map(float, found.groups())
    rates = [low]
    for step in range(1, n):
        if step < warm:
            rates.append(low + step / warm * (high - low))
        elif step == warm:
            rates.append(rates[-1])
        else:
            rates.append(low + (1 + math.cos(math.pi * (step - warm) / (total - warm))) / 2 * (high - low))
    return np.array(rates)


def rates_compared(config, theirs):
    """{quantity: Pair} of the rates of the steps, `out/lrs` and longer schedules."""
    found = {}
    for key in [key for key in theirs if re.fullmatch(r"out/(lrs?|lr_schedule|rates|learning_rates)(_\d+)?", key)]:
        rates = schedule_of(config, theirs.get(key).size)
        if rates is None:
            theirs.leave([key], "the configuration does not say the schedule")
        else:
            found[key.removeprefix("out/")] = pair(rates, theirs[key])
    return found


def steps_of(config, theirs, params, loss_and_gradients, frozen=()):
    """{quantity: Pair} of training: losses before each step, rates, and parameters after them.

    `params`: {their name: array} at the start; `loss_and_gradients(params)` -> (loss, {name: gradient}); `frozen`: names that
    are not trained.
    """
    after = {int(match[1]): match[0] for match in (re.match(r"step_?(\d+)/", key) for key in theirs) if match}
    last = next((prefix for prefix in LAST if under(prefix, theirs)), None)
    losses = next((key for key in ("out/losses", "out/step_losses", "out/train_losses", "out/adam_losses") if key in theirs), None)
    found = rates_compared(config, theirs)
    if not after and last is None and losses is None:
        return found
    keys = [key for key in theirs if key == losses or key.startswith((*LAST, *after.values()))]
    try:
        optimiser, clip, rate = optimiser_of(config)
        count = number_of_steps(config, theirs, losses, after)
        rates = rates_of(config, theirs, rate, count)
    except Lacking as lacking:
        theirs.leave(keys, f"{lacking}")
        return found
    names = [name for name in params if name not in frozen]
    steps = list(training(optimiser, clip, rates, params, names, loss_and_gradients))
    if losses:
        found["losses"] = pair(np.array([step.loss for step in steps]), theirs[losses])
    first = min(after, default=0)
    for k, prefix in after.items():
        found |= compared_after(theirs, prefix, steps[k - first])
    return found | (compared_after(theirs, last, steps[-1]) if last else {})


class Step(NamedTuple):
    """The loss before a step, the parameters after it, and, by name, where rounding alone has moved them, by how much, and the
    magnitudes of what they were added up from.
    """

    loss: float
    params: dict
    still: dict
    moved: float
    terms: dict


def training(optimiser, clip, rates, params, names, loss_and_gradients):
    """Each `Step`.

    Where a gradient is 0 in exact arithmetic, rounding leaves at most ZERO of the largest one; the optimiser divides it by eps.
    """
    vector = joined(params, names)
    state, still, moved, terms = optimiser.start(vector), np.ones(vector.size), 0.0, np.abs(vector)
    for rate in rates:
        loss, bars = loss_and_gradients(params)
        gradient = joined({name: bars.get(name, np.zeros_like(params[name])) for name in names}, names)
        gradient = clip(gradient) if clip else gradient
        before, (vector, state) = vector, optimiser.step(vector, gradient, state, rate)
        params, terms = params | parted(vector, params, names), terms + np.abs(vector - before)
        rounding = ZERO * np.abs(gradient).max()
        still, moved = still * (np.abs(gradient) <= rounding), moved + min(rate * rounding / optimiser.eps, 2 * rate)
        yield Step(loss, params, parted(still, params, names), moved, parted(terms, params, names))


def number_of_steps(config, theirs, losses, after):
    """As many as there are losses, or steps with parameters, or as the configuration's words say; else `after_step/` is 1."""
    said = numbers_after(words_of(config), "after") or re.findall(rf"{NUMBER} (?:updates|steps)", words_of(config))
    if losses:
        return theirs.get(losses).size
    if after:
        return len(after)
    if under("after_step/", theirs):
        return 1
    if not said:
        raise Lacking("the configuration does not say how many steps there are")
    return int(float(said[0]))


def rates_of(config, theirs, rate, count):
    key = next((key for key in ("out/lrs", "out/lr", "in/lrs", "in/lr") if key in theirs), None)
    held = schedule_of(config, count)
    if key is not None:
        return np.broadcast_to(theirs[key], count)
    if held is None and rate is None:
        raise Lacking("the configuration does not say the learning rate")
    return held if held is not None else np.full(count, rate)


def compared_after(theirs, prefix, step):
    """Parameters after a step; those that only rounding moves are measured by how far it may move them."""
    held = under(prefix, theirs)
    theirs.answer(prefix, held)
    still = {name: where > 0.5 for name, where in step.still.items() if name in held}
    ours = {name: step.params[name] for name in held if name in step.params}
    beside = "1e9 times the step that the optimiser makes of their rounding"
    return {f"parameters in {prefix.rstrip('/')}": Pair(ours, held, still, step.moved / ALLOWED, beside, terms=step.terms)}


def joined(arrays, names):
    return np.concatenate([np.ravel(arrays[name]) for name in names])


def parted(vector, arrays, names):
    ends = np.cumsum([arrays[name].size for name in names])[:-1]
    return {name: part.reshape(arrays[name].shape) for name, part in zip(names, np.split(vector, ends))}
