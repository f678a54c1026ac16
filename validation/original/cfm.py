"""Conditional flow matching, compared with the numbers of torchcfm (Tong et al.).

Its network is of a point and then the time, with SELU between dense layers.  The loss is the mean of |v - u|^2 over events and entries.
Its Schroedinger bridge divides by 2 t (1 - t) + 1e-8, where ours divides by 2 t (1 - t): its velocity is ours with the part of the
noise times the quotient of the two.
"""

from __future__ import annotations

import re

import numpy as np
from scipy.integrate import solve_ivp

from refflow import SELU, Dense, Sequential
from refflow.maps.continuous import DiscreteFlow
from refflow.training import flow_matching

from .comparison import PRACTICE, Lacking, answered, gradients, numbers, pair, read_as
from .steps import steps_of

PREFIX = "cfm"
FILES = tuple(sorted(path.stem for path in PRACTICE.glob("cfm_*.npz")))
PATHS = {"TargetConditionalFlowMatcher": "conditional", "ConditionalFlowMatcher": "independent",
         "ExactOptimalTransportConditionalFlowMatcher": "independent",
         "VariancePreservingConditionalFlowMatcher": "variance preserving",
         "SchrodingerBridgeConditionalFlowMatcher": "schroedinger bridge"}
BESIDE = 1e-8                       # what they add to the variance of a Schroedinger bridge
SCHEMES = {"euler": "euler", "midpoint": "midpoint", "heun2": "heun", "rk4": "three-eighths"}         # torchdiffeq's names
TIGHT = 3e-14                       # the tolerance of the solver that stands for theirs


def network(params):
    """Their network of velocities, from {"net.0.weight": array, ...}."""
    places = sorted({int(re.search(r"\d+", name)[0]) for name in params})
    layers = []
    for i, place in enumerate(places):
        layers += [SELU()] * (i > 0) + [Dense(params[f"net.{place}.weight"], params[f"net.{place}.bias"])]
    return Sequential(layers), places


def named(params_bar, places):
    """Our cotangents under their names."""
    return {f"net.{place}.{theirs}": params_bar["layers"][str(2 * i)][ours]
            for i, place in enumerate(places) for theirs, ours in (("weight", "W"), ("bias", "b"))}


def on_path(kind, sigma, theirs):
    """(x_t, u, t) of their path."""
    if kind not in PATHS:
        raise Lacking(f"the paths of {kind!r} are not built")
    x_0, x_1, t, noise = theirs["in/x0"], theirs["in/x1"], theirs["in/t"][:, None], theirs["in/eps"]
    x_t, u = flow_matching.PATHS[PATHS[kind]](x_0, x_1, t, noise, sigma)
    if PATHS[kind] == "schroedinger bridge":
        straight, variance = x_1 - x_0, 2 * t * (1 - t)
        u = straight + (u - straight) * variance / (variance + BESIDE)
    return x_t, u, t


def spread_of(kind, sigma, t):
    """Their deviation around the mean of a path at t."""
    return {"conditional": 1 - (1 - sigma) * t, "schroedinger bridge": sigma * np.sqrt(t * (1 - t))}.get(PATHS[kind], sigma)


def compared(config, theirs):
    """{quantity: Pair} of all paths of a file, and of training and samples where it has them."""
    params = answered("param/", theirs)
    net, places = network(params)
    found = {}
    for matcher in config["matchers"]:
        found |= of_path(matcher, theirs, net, places)
    kind, sigma = trained_on(config)
    if kind:
        def loss_and_gradients(now):
            x_t, u, t = on_path(kind, sigma, theirs)
            loss, pullback = flow_matching.matching_vjp(network(now)[0], x_t, t, u)
            return loss, named(pullback(), places)

        found |= steps_of(config, theirs, params, loss_and_gradients)
    return found | samples(theirs)


def of_path(matcher, theirs, net, places):
    prefix, kind, sigma = matcher["prefix"], matcher["matcher"], float(matcher["sigma"])
    x_t, u, t = on_path(kind, sigma, theirs)
    loss, pullback = flow_matching.matching_vjp(net, x_t, t, u)
    grad = answered(f"{prefix}/grad/", theirs)
    ours = {"xt": x_t, "ut": u, "v": net.forward(np.concatenate([x_t, t], -1)), "loss": loss}
    spread = spread_of(kind, sigma, t)
    ours |= {"mu_t": x_t - spread * theirs["in/eps"], "sigma_t": np.squeeze(spread)}
    theirs.leave([f"{prefix}/out/lambda"], "a weight of scores, which flow matching does not fit")
    found = {f"{prefix}: {name}": pair(value, theirs[f"{prefix}/out/{name}"]) for name, value in ours.items()
             if theirs.has(f"{prefix}/out/{name}")}
    return found | ({f"{prefix}: gradients": gradients(named(pullback(), places), grad)} if grad else {})


def trained_on(config):
    """(matcher, sigma) of the steps of training, as "with ConditionalFlowMatcher(0.1)" in the notes; (None, None) without."""
    said = re.search(r"with (\w+Matcher)\(([\d.]+)\)", str(config.get("notes", "")))
    return (said[1], float(said[2])) if said else (None, None)


def samples(theirs):
    """{quantity: Pair} of the paths that points in/z take, with the weights after training, by their schemes."""
    found, after = {}, answered("after_steps/", theirs)
    for key in [key for key in theirs if key.startswith("out/sample_")]:
        said = re.fullmatch(r"out/sample_([a-z]+2?)(\d+)", key)
        if said and said[1] in SCHEMES:
            flow = DiscreteFlow(network(after)[0], SCHEMES[said[1]], int(said[2]))
        elif key == "out/sample_tight":
            found["sample_tight"] = pair(carried(network(after)[0], theirs["in/z"]), theirs[key])
            continue
        else:
            theirs.leave([key], "the scheme of its steps is not built")
            continue
        found[key.removeprefix("out/")] = pair(flow.forward(theirs["in/z"]), theirs[key])
    return found


def carried(net, z):
    """z at time 1, one event at a time, along the velocity; its second derivatives jump, where a scheme in equal steps loses its order."""
    def velocity(t, z):
        return net.forward(np.append(z, t))

    return np.array([solve_ivp(velocity, (0, 1), one, "DOP853", rtol=TIGHT, atol=TIGHT).y[:, -1] for one in z])


def holds(config, keys):
    return config.get("system") == "flow matching"


KINDS = {"torchcfm's flow matching": (holds, compared)}


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
