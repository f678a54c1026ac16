"""What refflow says of a loaded model, compared with the library's answers.

Units, with u = 2^-53:
    log_prob, sample     u (kappa + S), kappa = |q| + sum |dq/d input| |input| over the event and all raw parameters
    gradients            u (T + S), for each array: T the largest sum of magnitudes over the events
S is a spread: the largest derivative, in 12 draws of signs, by relative changes of all fields that families make from numbers
(`shaken`), and for gradients of x and all raw parameters too.  A difference of more than FINDING units is a finding.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from .loading import Loaded, Model
from .shaken import shaken

U = 2.0**-53
STEP, DRAWS = 2.0**-38, 12              # of the relative changes
FINDING = 16.0


@dataclass
class Line:
    """The comparison of one quantity of a model: the largest error in its unit, and where it is."""

    library: str
    model: str
    quantity: str
    error: float
    unit: str
    at: dict

    @property
    def finding(self):
        return not self.error <= FINDING


def compared(m: Model, load) -> list[Line]:
    """The lines of one model."""
    loaded = load(m)
    if m.unread():
        raise ValueError(f"{m.library} {m.name}: raw parameters are not read: {m.unread()}")
    x, flow = m.answers["x"], loaded.value
    by_event = [gradient(loaded, x[i]) for i in range(len(x))]
    kappa = kappas(m, flow.log_prob(x), x, by_event) + moved(flow, lambda f: f.log_prob(x))
    lines = [of_values(m, "log_prob", m.answers["log_prob"], flow.log_prob(x), kappa, x)]
    if "sample" in m.answers:
        lines.append(of_samples(m, loaded))
    spread = spreads(m, load)
    by_x = np.stack([g_x for g_x, _ in by_event])
    lines.append(of_gradients(m, "gradient by x", {"x": m.answers["grad_x"]}, {"x": by_x}, {"x": np.abs(by_x)}, spread))
    terms = {name: np.stack([bars[name] for _, bars in by_event]) for name in by_event[0][1]}
    lines.append(of_gradients(m, "gradient by parameters", m.grad, {name: part.sum(0) for name, part in terms.items()},
                              {name: np.abs(part).sum(0) for name, part in terms.items()}, spread))
    return lines


def spreads(m, load):
    """{"x" or raw name: how far the gradient moves under relative changes of all inputs, divided by their size}."""
    rng, found = np.random.default_rng(0), {}
    for seed in range(DRAWS):
        signs = {name: rng.choice((-1.0, 1.0), np.shape(array)) for name, array in ({"x": m.answers["x"]} | m.raw).items()}
        sides = [all_gradients(m, load, way * STEP, signs, seed) for way in (1, -1)]
        for name in sides[0]:
            found[name] = np.maximum(found.get(name, 0), np.abs(sides[0][name] - sides[1][name]) / (2 * STEP))
    return found


def moved(flow, function):
    """How far a function of the flow moves under relative changes of its families' fields, divided by their size."""
    draws = [np.abs(function(shaken(flow, STEP, seed)) - function(shaken(flow, -STEP, seed))) for seed in range(DRAWS)]
    return np.max(draws, 0) / (2 * STEP)


def all_gradients(m, load, step, signs, seed):
    """The gradients of the sum of log_prob, with relative changes of x, all raw parameters and all fields."""
    raw = {name: array * (1 + step * signs[name]) for name, array in m.raw.items()}
    loaded = load(dataclasses.replace(m, raw=raw, read=set()))
    log_prob, pullback = shaken(loaded.value, step, seed).log_prob_vjp(m.answers["x"] * (1 + step * signs["x"]))
    x_bar, bars = pullback(np.ones_like(log_prob))
    return loaded.pull(bars) | {"x": x_bar}


def gradient(loaded: Loaded, x):
    """(by x, {raw name: by the parameter}) of log_prob at one event."""
    _, pullback = loaded.value.log_prob_vjp(x)
    x_bar, bars = pullback(np.ones(()))
    return x_bar, loaded.pull(bars)


def kappas(m, values, events, by_event):
    """kappa of each value, from its gradients."""
    return np.array([abs(value) + np.abs(g_x * x).sum() + sum(np.abs(bar * m.raw[name]).sum() for name, bar in bars.items())
                     for value, x, (g_x, bars) in zip(values, events, by_event)])


def of_values(m, quantity, given, values, kappa, events):
    error = np.abs(given - values) / (U * kappa)
    error = np.where(np.isnan(error), np.inf, error)
    worst = np.unravel_index(np.argmax(error), error.shape)
    at = {"input": events[worst[0]].tolist(), "given": float(given[worst]), "refflow": float(values[worst])}
    return Line(m.library, m.name, quantity, float(error[worst]), "u (kappa + S)", at)


def of_samples(m, loaded):
    """Every entry of x = f(z) is a value of its own."""
    f, z = loaded.value.bijector, m.answers["z"]
    x, kappa = f.forward(z), moved(loaded.value, lambda flow: flow.bijector.forward(z))
    for i, event in enumerate(z):
        (_, log_det), pullback = f.vjp(event)
        for j in range(len(event)):
            z_bar, bars = pullback(np.eye(len(event))[j], np.zeros_like(log_det))
            pulled = loaded.pull({"bijector": bars, "base": {}})
            by_raw = sum(np.abs(bar * m.raw[name]).sum() for name, bar in pulled.items())
            kappa[i, j] += abs(x[i, j]) + np.abs(z_bar * event).sum() + by_raw
    return of_values(m, "sample", m.answers["sample"], x, kappa, z)


def of_gradients(m, quantity, given, values, sizes, spread):
    """Each array in the unit of its largest entry."""
    given = {name: given[name] for name in values}
    unit = {name: max(U * (sizes[name].max(initial=0) + spread[name].max(initial=0)), np.finfo(float).tiny) for name in given}
    apart = {name: np.abs(given[name] - values[name]).max(initial=0) for name in given}
    errors = {name: difference and difference / unit[name] for name, difference in apart.items()}       # 0 for equal ones
    worst = max(errors, key=lambda name: errors[name] if np.isfinite(errors[name]) else np.inf)
    i = np.unravel_index(np.argmax(np.nan_to_num(np.abs(given[worst] - values[worst]), nan=np.inf)), given[worst].shape)
    at = {"array": worst, "entry": [int(k) for k in i], "given": float(given[worst][i]), "refflow": float(values[worst][i])}
    return Line(m.library, m.name, quantity, float(errors[worst]), "u (T + S)", at)
