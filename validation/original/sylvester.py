"""The variational autoencoder of Sylvester flows, compared with its authors' numbers.

All five flows are read.  The sizes follow from the arrays and the configuration.  The authors' amortised numbers have the number
of the step last, for triangles, diagonals and offsets, or first, for bases and planar flows; ours are grouped by step.
"""

from __future__ import annotations

import re

import numpy as np

from refflow.core import tree
from refflow.maps.conditioners import Dense, MaskedDense, Sequential, TanhActivation
from refflow.models.sylvester import AmortisedFlow, MaskedFlow, SylvesterVAE, connections, inverse_autoregressive, parametrised

from .comparison import ALLOWED, PRACTICE, Lacking, Pair, answered, gradient_in, gradients, numbers, pair, read_as

FILES = tuple(sorted(path.stem for path in PRACTICE.glob("sylvester_*.npz")))
FLOWS = {"PlanarVAE": "planar", "OrthogonalSylvesterVAE": "orthogonal", "HouseholderSylvesterVAE": "householder",
         "TriangularSylvesterVAE": "triangular", "IAFVAE": "iaf"}


# -- where their numbers stand ----------------------------------------------------------------------------------------

def last(K, *shape):
    """Rows (K, numbers) of an array whose rows are (*shape, K)."""
    return np.arange(K * int(np.prod(shape))).reshape(-1, K).T


def first(K, *shape):
    """Rows (K, numbers) of an array whose rows are (K, *shape)."""
    return np.arange(K * int(np.prod(shape))).reshape(K, -1)


def rows_of(flow, K, D, M, vectors):
    """[(their layer, its rows for each step)], in our order; M is the number of units, `vectors` of each basis."""
    if flow == "planar":
        return [("amor_w", first(K, D)), ("amor_u", first(K, D)), ("amor_b", first(K))]
    found = [("amor_d", last(K, M, M)), ("amor_diag1.0", last(K, M)), ("amor_diag2.0", last(K, M)), ("amor_b", last(K, M))]
    return found if flow == "triangular" else [*found, ("amor_q", first(K, vectors, D))]


def layers_of(params, stem):
    """The names of a Sequential's dense layers."""
    matches = (re.fullmatch(rf"{stem}\.(\d+)\.weight", name) for name in params)
    found = {int(match[1]): match[0][:-len(".weight")] for match in matches if match}
    if not found:
        raise Lacking(f"there is no layer {stem + '.0.weight'!r} in it")
    return [found[i] for i in sorted(found)]


class Weights:
    """Their arrays as ours, and our gradients as theirs: {their name: (our path, from ours to theirs)}."""

    def __init__(self, params):
        self.params, self.back = params, {}

    def dense(self, name, path):
        for theirs, ours in (("weight", "W"), ("bias", "b")):
            self.back[f"{name}.{theirs}"] = ((*path, ours), lambda bar: bar)
        return Dense(self.params[f"{name}.weight"], self.params[f"{name}.bias"])

    def stack(self, names, path, between):
        """Dense layers in turn, with tanh after each, or between them."""
        layers = []
        for i, name in enumerate(names):
            layers += [self.dense(name, (*path, "layers", str(2 * i))), TanhActivation()]
        return Sequential(layers[:-1] if between else layers)

    def amortised(self, rows, path):
        """One dense layer for all numbers of all steps, grouped by step."""
        start, counts = 0, [places.shape[1] for _, places in rows]
        K, P = len(rows[0][1]), sum(counts)
        weights = {ours: [] for ours in ("W", "b")}
        for (name, places), n in zip(rows, counts):
            ours = (np.arange(K)[:, None] * P + start + np.arange(n)).ravel()
            order = ours[np.argsort(places.ravel())]
            for key, theirs in (("W", "weight"), ("b", "bias")):
                array = self.params[f"{name}.{theirs}"]
                if len(array) != K * n:
                    raise ValueError(f"{name}.{theirs} must have {K} x {n} rows, not {len(array)}")
                weights[key].append(array[places])
                self.back[f"{name}.{theirs}"] = ((*path, key), lambda bar, order=order: bar[order])
            start += n
        W, b = (np.concatenate(weights[key], 1) for key in ("W", "b"))
        return Dense(W.reshape(K * P, -1), b.ravel())

    def masked(self, i, path, strict=False):
        """Their masked layer whose weight is number i; weights are [in, out]."""
        W, b = (self.params[f"flow.param_list.{j}"] for j in (i, i + 1))
        for j, key, turn in ((i, "W", np.transpose), (i + 1, "b", np.asarray)):
            self.back[f"flow.param_list.{j}"] = ((*path, key), turn)
        return MaskedDense(W.T, connections(*W.T.shape, strict), b)

    def gates(self, i, path, D):
        """Their last two layers, first of m and then of the gate, as one whose first half is of the gate."""
        mean, gate = (self.masked(j, path, strict=True) for j in (i, i + 2))
        for j, half in ((i, slice(D, None)), (i + 2, slice(D))):
            self.back[f"flow.param_list.{j}"] = ((*path, "W"), lambda bar, half=half: bar[half].T)
            self.back[f"flow.param_list.{j + 1}"] = ((*path, "b"), lambda bar, half=half: bar[half])
        return MaskedDense(*(np.concatenate((getattr(gate, key), getattr(mean, key))) for key in ("W", "connects", "b")))


def flow_of(config, weights, D):
    flow, K, params = FLOWS[config["kind"]], config["num_flows"], weights.params
    if flow == "iaf":
        net, per_map = weights.dense("h_context", ("flow", "net")), len([name for name in params if "param_list" in name]) // K
        maps = []
        for k in range(K):
            path, start = ("flow", "maps", str(k), "net", "layers"), k * per_map
            above = weights.masked(start, (*path, "0", "inner", "layers", "0"))
            hidden = [weights.masked(start + 2 * j, (*path, str(2 * j - 1))) for j in range(1, per_map // 2 - 2)]
            gates = weights.gates(start + per_map - 4, (*path, str(1 + 2 * len(hidden))), D)
            maps.append(inverse_autoregressive(above, hidden, gates))
        return MaskedFlow(net, maps)
    M, vectors = len(params["amor_b.bias"]) // K, len(params["amor_q.bias"]) // (K * D) if "amor_q.bias" in params else 0
    net = weights.amortised(rows_of(flow, K, D, M, vectors), ("flow", "net"))
    return AmortisedFlow(net, **parametrised(flow, D, M, vectors), steps=K)


def model_of(config, params):
    """(the model, `Weights`)."""
    weights = Weights(params)
    encoder = weights.stack(layers_of(params, "q_z_nn"), ("encoder",), False)
    mean, variance = weights.dense("q_z_mean", ("mean",)), weights.dense("q_z_var.0", ("variance",))
    decoder = weights.stack(layers_of(params, "p_x_nn"), ("decoder",), True)
    return SylvesterVAE(encoder, mean, variance, decoder, flow_of(config, weights, mean.W.shape[0])), weights


# -- what is compared -------------------------------------------------------------------------------------------------

def autoencoder(config, theirs) -> dict:
    """{quantity: Pair} of an autoencoder."""
    model, weights = model_of(config, answered("param/", theirs))
    theirs.only("param/", weights.back)
    grad, x, beta = answered("grad/", theirs, weights.back), theirs["in/x"], config["beta"]
    noise = theirs[next((key for key in ("in/noise", "in/epsilon") if key in theirs), "in/eps")]
    found = model.posterior(x, noise)
    terms, pullback = model.loss_vjp(x, noise, beta)
    x_bar, bars = pullback(1 / len(x))
    losses = np.array([(terms.reconstruction + beta * terms.divergence).mean(),
                       terms.reconstruction.mean(), terms.divergence.mean()])
    log_dets = np.array(found.log_dets[1:])
    ours = {"z_mu": found.mean, "z_var": found.variance, "z_0": found.start, "z_k": found.images[-1],
            "log_det_j": log_dets.sum(0), "x_mean": model.decode(found.images[-1])} | dict(zip(("loss", "bce", "kl"), losses))
    for k, (image, log_det) in enumerate(zip(found.images, log_dets), 1):
        ours |= {f"z{k}": image, f"ldj{k}": log_det}
    made = {name: log_dets_pair(ours[name], theirs[f"out/{name}"], noise.shape[1]) if name.startswith(("ldj", "log_det"))
            else pair(ours[name], theirs[f"out/{name}"]) for name in ours if f"out/{name}" in theirs}
    gradient = {name: turn(tree.at_path(bars, path)) for name, (path, turn) in weights.back.items() if name in grad}
    made["gradients of parameters"] = gradients(gradient, grad)
    return made | gradient_in(theirs, "x", x_bar)


def log_dets_pair(ours, theirs, D):
    """Theirs are sums of D logarithms of numbers near 1, and hold the roundings of 1: an entry of fewer than nine digits above
    these is measured relative to the smallest one that has nine.
    """
    least = 4 * D * 2.0**-53 / ALLOWED
    small = (np.abs(theirs) < least) & (np.abs(ours) < 2 * least)
    return Pair({"log-dets": ours}, {"log-dets": theirs}, {"log-dets": small}, least, f"{least:.0e}",
                why="are logarithms of numbers that the source rounds near 1")


def holds(config, keys):
    return config.get("kind") in FLOWS


KINDS = {"a variational autoencoder with a flow": (holds, autoencoder)}


def read(name):
    """({quantity: Difference}, keys that nothing reads)."""
    return read_as(KINDS, *numbers(name))
