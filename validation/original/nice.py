"""NICE, compared with its authors' numbers."""

from __future__ import annotations

import numpy as np

from refflow.core.tree import flatten, nest
from refflow.models import nice
from refflow.training import RMSPropMomentum, Unconstrained

from .comparison import PRACTICE, Pair, answered, gradient_in, gradients, numbers, pair, read_as

NEAR = 2.0**-10                         # data that are further from their pixels have been transformed otherwise
FILES = tuple(sorted(path.stem for path in PRACTICE.glob("nice_*.npz")))


def paths_of(config):
    """{their name: (path in params(), transposed)}; their weights are [in, out]."""
    first, paths = int(config["reorder_tile"]), {}
    for k, depth in enumerate(config["hidden_layers_per_coupling"]):
        for i in range(depth + 1):
            theirs = f"coupling_{k + 1}_" + ("out" if i == depth else f"h{i + 1}")
            ours = ("bijector", "inner", "stages", str(first + 2 * k), "net", "layers", str(2 * i))
            paths |= {f"{theirs}_W": ((*ours, "W"), True), f"{theirs}_b": ((*ours, "b"), False)}
    last = first + 2 * len(config["hidden_layers_per_coupling"])
    return paths | {"z_D": (("bijector", "inner", "stages", str(last), "inner", "s"), False)}


def as_theirs(params, paths):
    """The nested arrays of a flow, under their names."""
    flat = dict(flatten(params))
    if flat.keys() != {path for path, _ in paths.values()}:
        raise ValueError("a parameter of the flow has no counterpart in the authors' code")
    return {name: flat[path].T if transposed else flat[path] for name, (path, transposed) in paths.items()}


def flow_of(config, theirs):
    """The flow with the parameters of their file."""
    priors = {"StandardLogistic": "logistic", "StandardNormal": "normal"}
    flow = nice(np.random.default_rng(0), config["D"], config["nhid"], tuple(config["hidden_layers_per_coupling"]),
                priors[config["prior"]], config["reorder_tile"])
    given = {path: theirs[name].T if transposed else theirs[name] for name, (path, transposed) in paths_of(config).items()}
    return flow.replace(**nest(given))


def gradient_of_mean(flow, x):
    """(log p(x), x_bar, params_bar) of L = -mean log p(x)."""
    log_prob, pullback = flow.log_prob_vjp(x)
    return log_prob, *pullback(np.full(len(x), -1 / len(x)))


def differences() -> dict:
    """{file: {quantity: Difference}}."""
    return {name: differences_of(name) for name in FILES}


def differences_of(name) -> dict:
    """{quantity: Difference}."""
    return read(name)[0]


NAMES = {"log-likelihood": "loglik", "latents": "z", "log-det": "logdet", "loss": "nll", "inverse": "inverse_of_z"}
SPELLINGS = {"loss": ("loss",), "log-likelihood": ("log_prob", "log_likelihood"), "inverse": ("reverse_of_z",)}


def compared(config, theirs) -> dict:
    """{quantity: Pair} of a flow, as far as the file has them."""
    paths, x = paths_of(config), theirs["in/x"]
    flow = flow_of(config, answered("param/", theirs, paths))
    log_prob, x_bar, params_bar = gradient_of_mean(flow, x)
    z, log_det = flow.bijector.inverse_and_log_det(x)
    given = {"log-likelihood": log_prob, "latents": z, "log-det": log_det, "loss": -log_prob.mean(), "inverse": x}
    if "out/z" in theirs:
        given["inverse"] = flow.bijector.forward(theirs.get("out/z"))
    made = {quantity: pair(value, np.broadcast_to(theirs[f"out/{name}"], np.shape(value))) for quantity, value in given.items()
            for name in (NAMES[quantity], *SPELLINGS.get(quantity, ())) if f"out/{name}" in theirs}
    made["gradients of parameters"] = gradients(as_theirs(params_bar, paths), answered("grad/", theirs, paths))
    made |= gradient_in(theirs, "x", x_bar)
    if {"sample/z", "sample/x"} <= theirs.keys():
        made["samples"] = pair(flow.bijector.forward(theirs["sample/z"]), theirs["sample/x"])
    if {"rmsprop/lr", "rmsprop/momentum"} <= theirs.keys():
        made |= training(theirs, flow, paths)
    return made | further(config, theirs, flow)


def training(theirs, flow, paths):
    """{quantity: Pair} of the losses of training, and of the parameters after each step."""
    steps = steps_of(flow, theirs)
    made = {"losses of training": pair([loss for loss, _ in steps], theirs["rmsprop/cost"])} if "rmsprop/cost" in theirs else {}
    ours, held = {}, {}
    for k, (_, stepped) in enumerate(steps):
        after = answered(f"rmsprop_step{k}/", theirs, paths)
        held |= {f"{k}: {name}": array for name, array in after.items()}
        ours |= {f"{k}: {name}": array for name, array in as_theirs(stepped.params(), paths).items() if after}
    return made | {"optimiser steps": Pair(ours, held)}


def further(config, theirs, flow):
    """What some files hold: pixels and their noise, the order in which features start."""
    found, x = {}, theirs["in/x"]
    if "in/x_int" in theirs and "in/uniform" in theirs:
        of_pixels = (theirs.get("in/x_int") + theirs.get("in/uniform")) / 256
        near = [of for of in (of_pixels, 2 * of_pixels - 1) if np.abs(of - x).max() < NEAR]         # CIFAR-10's in [-1, 1]
        if near:
            theirs.answer("in/", ("x_int", "uniform"))
            found["data"] = pair(near[0], x)
    if "perm/tile" in theirs and config["reorder_tile"]:
        found["order of features"] = pair(flow.bijector.inner.stages[0].order, theirs["perm/tile"])
    return found


def holds(config, keys):
    return "hidden_layers_per_coupling" in config or "param/z_D" in keys


KINDS = {"a flow of the authors'": (holds, compared)}


def read(name):
    """({quantity: Difference}, [Unread])."""
    return read_as(KINDS, *numbers(name))


def steps_of(flow, theirs):
    """[(the loss before the step, the flow after it)]."""
    momenta, x = theirs["rmsprop/momentum"], theirs["in/x"]
    optimiser = RMSPropMomentum(float(theirs["rmsprop/lr"]), momentum=lambda t: float(momenta[t - 1]))
    space, steps = Unconstrained(flow), []
    vector, state = space.vector, optimiser.start(space.vector)
    for _ in momenta:
        log_prob, _, params_bar = gradient_of_mean(space.value_at(vector), x)
        vector, state = optimiser.step(vector, space.gradient(vector, params_bar), state)
        steps.append((-log_prob.mean(), space.value_at(vector)))
    return steps
