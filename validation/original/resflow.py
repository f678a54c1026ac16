"""Residual flows, compared with the numbers of their authors' code.

A block is y = x + g(x), and `delta_logp` is minus its log-det, or minus an estimate of it from recorded noise and numbers of terms.
With Neumann's series, the value that the source returns is `sum_k (-1)^k w_k e^T J^(k+1) e`.  It is not an estimate of the log-det,
but its gradient is one of the log-det's.  In evaluation, D = 2 is always exact, and other sizes take 20 terms with a weight of 1.

The loss of a block is `sum(y wz) + sum(delta_logp wl)`, that of a layer `sum(y w)`.
"""

from __future__ import annotations

import math
import re

import numpy as np

from refflow import InvertibleResidual, LipSwish, MixedNormDense, Sequential, SpectralConv2d, SpectralDense
from refflow.core.tree import flatten
from refflow.maps.residual.series import neumann_gradient, power_series_vjp, roulette_weights

from .comparison import PRACTICE, Lacking, answered, gradients, numbers, of_system, pair, read_as

PREFIX = "resflow"
FILES = tuple(sorted(path.stem for path in PRACTICE.glob("resflow_*.npz")))
ITERATIONS = 5                          # of a layer with a spectral norm, in each pass of training
EVALUATED = 20                          # terms with a weight of 1 in evaluation
THEIRS = {"n_dist": "geometric", "geom_p": 0.5, "lamb": 2.0, "n_exact_terms": 2, "neumann_grad": True, "exact_trace": False,
          "brute_force": False, "n_power_series": None}         # what their class takes where a variant does not say
CLOSE = 1e-5                            # of their inverse: it stops at squares of changes below CLOSE (1 + |y|)
DENSE = {"SpectralNormLinear", "InducedNormLinear"}
CONVOLUTIONS = {"SpectralNormConv2d", "InducedNormConv2d"}
NOT_BUILT = {"LopLinear": "the largest entry with its sign, which bounds no norm, is not built", "lcube": "the activation LipschitzCube is not built",
             "fullsort": "the activation FullSort is not built", "maxmin": "the activation MaxMin is not built"}


# -- layers -----------------------------------------------------------------------------------------------------------

def lip_swish(raw):
    """Their activation; its beta is the softplus of their number."""
    return LipSwish(np.logaddexp(0, raw[0]))


def of_raw(beta_bar, raw):
    """The cotangent of their number."""
    return np.reshape(beta_bar, 1) / (1 + np.exp(-raw))


def network(config, params, buffers, training):
    """Their g, from {"nnet.0.beta": array, "nnet.1.weight": array, ...}."""
    said = re.search(r"iterates (\d+) times", str(config.get("notes", "")))
    steps = (int(said[1]) if said else ITERATIONS) if training and config["layer"] == "spectral" else 0
    layers = []
    for place in places(params):
        if f"{place}.beta" in params:
            layers.append(lip_swish(params[f"{place}.beta"]))
        else:
            layers.append(SpectralDense(params[f"{place}.weight"], params[f"{place}.bias"], buffers[f"{place}.u"], buffers[f"{place}.v"],
                                        float(config["coeff"])).iterated(steps))
    return Sequential(layers)


def places(params):
    """"nnet.0", "nnet.1" and so on.  Lacking for a layer without parameters, which is not their swish."""
    numbers = sorted({int(re.search(r"\d+", name)[0]) for name in params})
    if numbers != list(range(len(numbers))):
        raise Lacking(f"nnet has the parameters of its layers {numbers} alone, and activations other than swish are not built")
    return [f"nnet.{i}" for i in numbers]


def named(net_bar, params):
    """Our cotangents of g under their names."""
    found = {}
    for (place, own) in zip(places(params), net_bar["layers"].values()):
        if "beta" in own:
            found[f"{place}.beta"] = of_raw(own["beta"], params[f"{place}.beta"])
        else:
            found |= {f"{place}.weight": own["W"], f"{place}.bias": own["b"]}
    return found


# -- log-dets ---------------------------------------------------------------------------------------------------------

def tail_of(variant):
    """P(N >= k) as a function of k."""
    if variant["n_dist"] == "geometric":
        p = float(variant["geom_p"])
        return lambda k: (1 - p) ** (k - 1)
    if variant["n_dist"] != "poisson":
        raise Lacking(f"numbers of terms of the distribution {variant['n_dist']!r} are not built")
    mean = float(variant["lamb"])
    return lambda k: 1 - math.exp(-mean) * sum(mean**i / math.factorial(i) for i in range(k))


def weights_of(variant, theirs):
    """w_1 to w_n: the mean of the weights over the numbers of terms that were drawn."""
    if variant["training"] and variant["n_power_series"] is not None:
        return np.ones(int(variant["n_power_series"]))
    exact = int(variant["n_exact_terms"]) if variant["training"] else EVALUATED
    drawn = theirs["in/n_samples0"]
    of_each = [roulette_weights(exact, int(n), tail_of(variant)) for n in drawn]
    return sum(np.pad(one, (0, exact + drawn.max() - len(one))) for one in of_each) / len(drawn)


def log_det_vjp(net, x, variant, theirs):
    """(what they return as the log-det, its pullback to x_bar and the cotangents of g) of a variant."""
    D = x.shape[-1]
    if variant["brute_force"] or D == 2 and not variant["training"]:
        (_, log_det), pullback = InvertibleResidual(net).vjp(x)
        return log_det, lambda bar: with_net(pullback(np.zeros_like(x), bar))
    weights = weights_of(variant, theirs)
    if variant["training"] and variant["exact_trace"]:
        return power_series_vjp(net, x, math.sqrt(D) * np.eye(D), np.append(1.0, weights[1:]))
    noise = theirs["in/vareps0"][..., None]
    if not variant["training"] or not variant["neumann_grad"]:
        return power_series_vjp(net, x, noise, weights)
    w = np.append(1.0, weights)
    value, _ = power_series_vjp(net, x, noise, w * np.arange(1, len(w) + 1))
    return value, lambda bar: neumann_gradient(net, x, noise, w, bar)


def with_net(bars):
    x_bar, params_bar = bars
    return x_bar, params_bar["net"]


# -- kinds of files ---------------------------------------------------------------------------------------------------

def block(config, theirs):
    """{quantity: Pair} of all variants of a block, and of its inverse."""
    params, buffers = answered("param/", theirs), answered("buffer/", theirs)
    x, found = theirs["in/x"], {}
    for variant in [THEIRS | given for given in config["variants"]]:
        net = network(config, params, buffers, variant["training"])
        of_one = of_variant(theirs, theirs.below(f"{variant['prefix']}/"), net, x, variant, params)
        found |= {f"{variant['prefix']}: {name}": held for name, held in of_one.items()}
    f = InvertibleResidual(network(config, params, buffers, training=False))
    ours = {"truth/y": f.forward(x), "truth/logdet": f.log_det(x)}
    if "in/u" in theirs:
        ours |= {"truth/inverse": f.inverse(theirs["in/u"]), "out/inverse_fixed_point_code": their_inverse(f.net, theirs["in/u"])}
    return found | {name: pair(value, theirs[name]) for name, value in ours.items() if name in theirs}


def of_variant(whole, theirs, net, x, variant, params):
    """{quantity: Pair} of one way to find the log-det."""
    h, of_h = net.vjp(x)
    log_det, of_log_det = log_det_vjp(net, x, variant, theirs)
    wz, wl = whole["in/wz"], whole["in/wl"]
    ours = {"y": x + h, "delta_logp": -log_det[:, None]}
    ours["loss"] = (ours["y"] * wz).sum() + (ours["delta_logp"] * wl).sum()
    found = {name: pair(value, theirs[f"out/{name}"]) for name, value in ours.items() if theirs.has(f"out/{name}")}
    for layer, place in zip(net.layers, places(params)):
        if f"buffer_after_forward/{place}.u" in theirs:
            found |= state_of(layer, theirs, f"buffer_after_forward/{place}.")
    grad = answered("grad/", theirs)
    if grad:
        (x_bar, net_bar), (of_x, of_net) = of_h(wz), of_log_det(-wl[:, 0])
        more = dict(flatten(of_net))
        total = {path: bar + more[path] for path, bar in flatten(net_bar)}
        found["gradients of parameters"] = gradients(named(nested(total), params), grad)
        found["gradient of x"] = pair(wz + x_bar + of_x, theirs["gradin/x"])
    return found


def nested(table):
    """{"layers": {i: {name: bar}}} from {("layers", i, name): bar}."""
    layers = {}
    for (_, i, name), bar in table.items():
        layers.setdefault(i, {})[name] = bar
    return {"layers": layers}


def their_inverse(net, y):
    """x from their iteration, which stops early."""
    before, x = y, y - net.forward(y)
    while not ((x - before) ** 2 < CLOSE * (1 + np.abs(y))).all():
        before, x = x, y - net.forward(x)
    return x


def state_of(layer, theirs, prefix):
    """{quantity: Pair} of the vectors and the norm that a pass leaves."""
    ours = {"u": layer.u.ravel(), "v": layer.v.ravel(), "scale": layer.bounded().s.squeeze()}
    return {f"{prefix}{name}": pair(value, theirs[f"{prefix}{name}"]) for name, value in ours.items() if f"{prefix}{name}" in theirs}


def layers(config, theirs):
    """{quantity: Pair} of all layers of a file, as far as they are built."""
    found = {}
    for layer in config["layers"]:
        prefix, kind = f"{layer['prefix']}/", layer["cls"]
        orders = tuple(str(layer.get(side, 2)) for side in ("domain", "codomain"))
        if kind in DENSE and orders == ("2", "2"):
            of_one = dense(layer, theirs.below(prefix))
        elif kind in CONVOLUTIONS and orders == ("2", "2"):
            of_one = convolution(layer, theirs.below(prefix))
        elif kind == "LopLinear" and orders != ("1", "inf"):
            of_one = mixed(layer, theirs.below(prefix))
        elif kind == "swish":
            of_one = activation(theirs.below(prefix))
        else:
            reason = NOT_BUILT.get(kind, "norms with learned orders are not built" if kind in DENSE | CONVOLUTIONS else f"{kind} is not built")
            theirs.leave([key for key in theirs if key.startswith(prefix)], reason)
            continue
        found |= {f"{prefix}{name}": held for name, held in of_one.items()}
    return found


def dense(layer, theirs):
    """{quantity: Pair} of a dense layer whose norm is bounded by power iteration."""
    params, buffers = answered("param/", theirs), answered("buffer/", theirs)
    net = SpectralDense(params["weight"], params["bias"], buffers["u"], buffers["v"], float(layer.get("coeff", 0.97)))
    net, found = net.iterated(int(layer.get("n_iterations", 0))), {}
    found |= state_of(net, theirs, "buffer_after_forward/")
    for steps in {match[1] for key in theirs if (match := re.match(r"update(\d+)/", key))}:
        update = f"update{steps}/"
        turned = SpectralDense(net.W.T, 0 * net.W[0], theirs[f"{update}v_before"], theirs[f"{update}u_before"]).iterated(int(steps))  # u first
        found |= state_of(net.replace(u=turned.v, v=turned.u), theirs, update)
    return found | of_network(net, theirs)


def convolution(layer, theirs):
    """{quantity: Pair} of a convolution whose norm is bounded by power iteration; vectors of a matrix are images of one position."""
    params, buffers = answered("param/", theirs), answered("buffer/", theirs)
    W = params["weight"]
    sides = (1, 1) if W.shape[-2:] == (1, 1) else theirs["in/x"].shape[-2:]
    u, v = buffers["u"].reshape(-1, *sides), buffers["v"].reshape(-1, *sides)
    net = SpectralConv2d(W, params["bias"], u, v, float(layer.get("coeff", 0.97))).iterated(int(layer.get("n_iterations", 0)))
    return state_of(net, theirs, "buffer_after_forward/") | of_network(net, theirs)


def mixed(layer, theirs):
    """{quantity: Pair} of a dense layer with a bounded norm from p to q."""
    params, _ = answered("param/", theirs), answered("buffer/", theirs)
    net = MixedNormDense(params["weight"], params["bias"], str(layer["domain"]), str(layer["codomain"]), bool(layer["local"]),
                         float(layer["coeff"]))
    ours = {"buffer_after_forward/scale": net.bounded().s.max()}
    return {name: pair(value, theirs[name]) for name, value in ours.items()} | of_network(net, theirs)


def of_network(net, theirs):
    """{quantity: Pair} of values and gradients."""
    y, pullback = net.vjp(theirs["in/x"])
    x_bar, bars = pullback(theirs["in/w"])
    parameters = gradients({"weight": bars["W"], "bias": bars["b"]}, answered("grad/", theirs))
    return of_layer(theirs, y, x_bar) | {"gradients of parameters": parameters}


def activation(theirs):
    """{quantity: Pair} of their swish."""
    raw = theirs["param/beta"]
    y, pullback = lip_swish(raw).vjp(theirs["in/x"])
    x_bar, bars = pullback(theirs["in/w"])
    return of_layer(theirs, y, x_bar) | {"grad/beta": pair(of_raw(bars["beta"], raw), theirs["grad/beta"])}


def of_layer(theirs, y, x_bar):
    ours = {"out/y": y, "out/loss": (y * theirs["in/w"]).sum(), "gradin/x": x_bar}
    return {name: pair(value, theirs[name]) for name, value in ours.items() if theirs.has(name)}


KINDS = {"a residual block": (of_system("residual flows", "iResBlock"), block),
         "Lipschitz layers": (of_system("residual flows", "lipschitz layers"), layers)}


def holds(config, keys):
    return config.get("system") == "residual flows"


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
