"""NICE, compared with its authors' numbers."""

from __future__ import annotations

import numpy as np

from refflow.core.tree import flatten, nest
from refflow.models import nice
from refflow.training import RMSPropMomentum, Unconstrained

from .comparison import PRACTICE, answered, difference, largest, numbers, read_as, worst

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
    """{file: {quantity: the largest relative difference}}."""
    return {name: differences_of(name) for name in FILES}


def differences_of(name) -> dict:
    """{quantity: the largest relative difference}."""
    return read(name)[0]


def compared(config, theirs) -> dict:
    """{quantity: the largest relative difference} of a flow."""
    paths, x = paths_of(config), theirs["in/x"]
    flow = flow_of(config, answered("param/", theirs, paths))
    log_prob, x_bar, params_bar = gradient_of_mean(flow, x)
    f, steps = flow.bijector, steps_of(flow, theirs)
    z, log_det = f.inverse_and_log_det(x)
    return {
        "log-likelihood": difference(log_prob, theirs["out/loglik"]),
        "latents": difference(z, theirs["out/z"]),
        "log-det": difference(log_det, np.broadcast_to(theirs["out/logdet"], log_det.shape)),
        "gradients of parameters": largest(as_theirs(params_bar, paths), answered("grad/", theirs)),
        "gradient of data": difference(x_bar, theirs["gradin/x"]),
        "inverse": difference(f.forward(theirs["out/z"]), theirs["out/inverse_of_z"]),
        "samples": difference(f.forward(theirs["sample/z"]), theirs["sample/x"]),
        "losses of training": difference([loss for loss, _ in steps], theirs["rmsprop/cost"]),
        "optimiser steps": worst(largest(as_theirs(stepped.params(), paths), answered(f"rmsprop_step{k}/", theirs))
                                 for k, (_, stepped) in enumerate(steps)),
        **further(config, theirs, flow, log_prob)}


def further(config, theirs, flow, log_prob):
    """What some files hold: the mean loss, pixels and their noise, the order in which features start."""
    found, x = {}, theirs["in/x"]
    if "out/nll" in theirs:
        found["loss"] = difference(-log_prob.mean(), theirs["out/nll"])
    if "in/x_int" in theirs and "in/uniform" in theirs:
        of_pixels = (theirs.get("in/x_int") + theirs.get("in/uniform")) / 256
        near = [of for of in (of_pixels, 2 * of_pixels - 1) if np.abs(of - x).max() < NEAR]         # CIFAR-10's in [-1, 1]
        if near:
            theirs.answer("in/", ("x_int", "uniform"))
            found["data"] = difference(near[0], x)
    if "perm/tile" in theirs and config["reorder_tile"]:
        found["order of features"] = difference(flow.bijector.inner.stages[0].order, theirs["perm/tile"])
    return found


def holds(config, keys):
    return "hidden_layers_per_coupling" in config or "param/z_D" in keys


KINDS = {"a flow of the authors'": (holds, compared)}


def read(name):
    """({quantity: the largest relative difference} of a file, its keys that nothing reads)."""
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
