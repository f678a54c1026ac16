"""RealNVP, compared with its authors' numbers.

Their names: "coupling_2/resnet/block_0/bn_in/beta"; their images are (N, H, W, C), their kernels (H, W, in, out).  A file
holds one coupling with its output's normalisation, or a whole model, the authors' or a port's (`realnvp_ports`).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from refflow.core import Chain, Flow, Inverse
from refflow.maps.densities import StandardNormal
from refflow.core.tree import flatten, nest
from refflow.models import realnvp_images
from refflow.maps.shape import Reshape, Squeeze
from refflow.training import Adam, ClipNorm, SquaredNorm, fit
from refflow.training.penalty import with_penalty
from refflow.training.batch_norm import of_batch, with_statistics
from refflow.core.tree import at_path

from . import realnvp_ports
from .comparison import PRACTICE, Pair, answered, gradients, kind_of, numbers, pair, read_as, under
from .realnvp_names import by_their_names, names

FILES = tuple(sorted(path.stem for path in PRACTICE.glob("realnvp_*.npz")))
COUNT = "/step"                         # the end of the name of a count of batches, kept with moving statistics
STEP = 1e-7                             # of a parameter, absolute, where a step of training is of order 1e-3


# -- layouts ----------------------------------------------------------------------------------------------------------

def channels_first(images):
    return np.moveaxis(images, -1, -3)


def channels_last(images):
    return np.moveaxis(images, -3, -1)


def flat_latents(z, shape, scales, recursion_type):
    """Their latents, an image, as one vector: the inverse of `full_resolution`."""
    order = realnvp_images.full_resolution(np.arange(math.prod(shape)), shape, scales, recursion_type)
    return z.reshape(len(z), -1)[:, np.argsort(order.ravel())]


# -- names ------------------------------------------------------------------------------------------------------------

def scopes(config, prefix="model"):
    """The scopes of a model's couplings, in the order that images pass them."""
    for i in range(config["n_scale"]):
        last = i == config["n_scale"] - 1
        yield from (f"{prefix}/scale_{i}/coupling_{k}" for k in ((0, 1, 2, 3) if last else (0, 1, 2, 4, 5, 6)))


# -- flows ------------------------------------------------------------------------------------------------------------

def switches(theirs, scope) -> dict:
    """The settings of the authors' code that show in the names of its variables; `scope` is the scope of a first coupling."""
    found = under("param/", theirs)
    return {"batch_norm": any("/bn_in/" in name for name in found),
            "weight_norm": any(name.endswith("/magnitude") for name in found),
            "skip": any("/skip_in/" in name for name in found),
            "bottleneck": any("/h_1/" in name for name in found),
            "additive": not {f"{scope}/rescaling_scale", f"{scope}/scale"} & found.keys()}


def coupling_flow(config, theirs, shape):
    """The flow of a file of one coupling."""
    chosen = switches(theirs, "m/c")
    additive = chosen.pop("additive")
    networks = realnvp_images.Networks(np.random.default_rng(0), config["residual_blocks"], **chosen)
    build = realnvp_images.Couplings(networks, additive)
    if config["fn"].startswith("masked"):
        stages = build.checkerboard(shape, config["dim"], config["mask_in"] == 0, additive)
    else:
        stages = build.channelwise(shape, config["dim"], not config["change_bottom"], additive)
    return Flow(Inverse(Chain([*stages, Reshape(shape, (math.prod(shape),))])), StandardNormal(math.prod(shape)))


def model_flow(config, theirs, shape):
    """The flow of a file of a model."""
    alpha = (1 - config["data_constraint"]) / 2
    return realnvp_images.image_realnvp(
        np.random.default_rng(0), shape, config["n_scale"], config["base_dim"], config["residual_blocks"],
        recursion_type=config["recursion_type"], logit=realnvp_images.alpha_logit(alpha, 1 - alpha),
        **switches(theirs, "model/scale_0/coupling_0"))


def filled(flow, named, theirs):
    """The flow with their parameters and moving statistics.  ValueError if names do not match."""
    statistics = [key for key in under("buffer/", theirs) if not key.endswith(COUNT)]
    given = answered("param/", theirs) | answered("buffer/", theirs, statistics)
    if given.keys() != named.keys():
        raise ValueError(f"names without a counterpart: {sorted(given.keys() ^ named.keys())}")
    params, arrays = flow.params(), {}
    for name, (path, part, ours, _) in named.items():
        array = np.array(at_path(params, path))
        array[part] = ours(name, given[name], array[part])
        arrays[path] = array
    if {path for path, _ in flatten(params)} != arrays.keys():
        raise ValueError("a parameter of the flow has no counterpart in the authors' code")
    return flow.replace(**nest(arrays))


# -- differences ------------------------------------------------------------------------------------------------------

def gradient(flow, x, scale):
    """(log p(x), x_bar, params_bar) of L = -scale sum log p(x)."""
    log_prob, pullback = flow.log_prob_vjp(x)
    return log_prob, *pullback(np.full(len(x), -scale))


def squeezes(config, theirs) -> dict:
    """{quantity: Pair} of their two squeezes."""
    x, found = channels_first(theirs["in/x"]), {}
    for key, order, back in (("squeeze", "interleaved", "unsqueeze"), ("ordered", "diagonal", "unordered")):
        f = Squeeze(order=order)
        found[key] = pair(channels_last(f.forward(x)), theirs[f"out/{key}"])
        found[back] = pair(channels_last(f.inverse(channels_first(theirs[f"out/{key}"]))), theirs[f"out/{back}"])
    return found


def couplings(config, theirs) -> dict:
    """{quantity: Pair} of a file of one coupling."""
    x = channels_first(theirs["in/x"])
    shape = x.shape[1:]
    flow = coupling_flow(config, theirs, shape)
    named = names(flow, ["m/c"])
    flow = filled(flow, named, theirs)
    record, found = {}, {}
    for mode, at in (("eval", flow), ("train", of_batch(flow, record))):
        f = at.bijector.inner
        z, log_det = f.forward_and_log_det(x)
        log_prob, x_bar, params_bar = gradient(at, x, 1)
        grad = answered(f"{mode}_grad/", theirs)
        of_data = grad.pop("x")
        found |= {f"{mode} latents": pair(channels_last(z.reshape(x.shape)), theirs[f"{mode}/z"]),
                  f"{mode} log-det": pair(log_det, theirs[f"{mode}/log_diff"].sum((1, 2, 3))),
                  f"{mode} log-det of each entry": pair(channels_last(realnvp_ports.log_scales(flow, x, mode == "train")),
                                                        theirs[f"{mode}/log_diff"]),
                  f"{mode} loss": pair(-log_prob.sum(), theirs[f"{mode}/nll"]),
                  f"{mode} gradients of parameters": gradients(by_their_names(params_bar, named, grad), grad),
                  f"{mode} gradient of data": pair(channels_last(x_bar), of_data)}
    z = channels_first(theirs["eval/z"]).reshape(len(x), -1)
    back, log_det = flow.bijector.forward_and_log_det(z)
    found |= {"inverse": pair(channels_last(back), theirs["eval/reverse_of_z"]),
              "inverse log-det": pair(log_det, theirs["eval/reverse_log_diff"].sum((1, 2, 3)))}
    after = answered("buffer_after_train/", theirs, named)
    if after:
        moved = with_statistics(flow, record)
        found["moving statistics"] = Pair(by_their_names(moved.params(), named, after), after)
    return found | realnvp_ports.counted(theirs, COUNT, "/mean", named)


def model(config, theirs) -> dict:
    """{quantity: Pair} of a file of a whole model."""
    x = channels_first(theirs["in/x"])
    flow = model_flow(config, theirs, x.shape[1:])
    named = names(flow, scopes(config))
    flow = filled(flow, named, theirs)
    layout = {"shape": x.shape[1:], "scales": config["n_scale"], "recursion_type": config["recursion_type"]}
    D, logit = x[0].size, flow.bijector.inner.stages[0]
    y, cost_of_logit = logit.forward_and_log_det(x)
    found = {"logit": pair(channels_last(y), theirs["out/logit_x"]),
             "cost of logit": pair(cost_of_logit, theirs["out/logit_cost"])}
    if theirs.has("in/x_int") and theirs.has("in/uniform"):
        found["data"] = pair((theirs["in/x_int"] + theirs["in/uniform"]) / 256, theirs["in/x"])
    for mode, at in (("eval", flow), ("train", of_batch(flow))):
        z, log_det = at.bijector.inner.forward_and_log_det(x)
        prior = at.base.log_prob(z)
        cost = -np.mean(prior + log_det)
        laid_out = channels_last(realnvp_images.full_resolution(z, **layout))
        found |= {f"{mode} latents": pair(laid_out, theirs[f"{mode}/z"]),
                  f"{mode} log-prior": pair(prior, theirs[f"{mode}/prior_ll"]),
                  f"{mode} log-det": pair(log_det, theirs[f"{mode}/log_det_total"]),
                  f"{mode} cost": pair(cost, theirs[f"{mode}/cost"]),
                  f"{mode} bits/dim": pair((cost + D * np.log(256)) / (D * np.log(2)), theirs[f"{mode}/bits_per_dim"])}
        if theirs.has(f"{mode}/log_diff"):
            found[f"{mode} log-det after the logit"] = pair(log_det - cost_of_logit, theirs[f"{mode}/log_diff"].sum((1, 2, 3)))
        found |= loss_and_gradients(mode, at, x, config, theirs, named)
    after_logit = Chain(flow.bijector.inner.stages[1:])
    for key, given, back in (("inverse", "eval/z", "eval/decoded_logit_x"), ("samples", "sample/z", "sample/logit_x")):
        z = flat_latents(channels_first(theirs[given]), **layout)
        found[key] = pair(channels_last(after_logit.inverse(z)), theirs[back])
    of_step = found["train gradients"]
    if theirs.has("train/grad_norm"):
        norm = np.sqrt(sum((bar**2).sum() for bar in of_step.given.values()))
        found["norm of gradients"] = pair(norm, theirs["train/grad_norm"])
    found["optimiser step"] = stepped(flow, x, config, theirs, named)
    return found | realnvp_ports.counted(theirs, COUNT, "/mean", named)


def loss_and_gradients(mode, flow, x, config, theirs, named):
    """The loss with its penalty, and its gradients."""
    penalty = SquaredNorm(config["l2_coeff"], realnvp_images.penalised(flow))
    log_prob, _, params_bar = gradient(flow, x, 1 / len(x))
    loss, params_bar = with_penalty(-np.mean(log_prob), params_bar, penalty, flow.params())
    grad = answered(f"{mode}_grad/", theirs)
    squares = penalty(flow.params())[0] / config["l2_coeff"]
    return {f"{mode} loss": pair(loss, theirs[f"{mode}/loss"]),
            f"{mode} gradients": gradients(by_their_names(params_bar, named, grad), grad),
            f"{mode} sum of squares": pair(squares, theirs[f"{mode}/l2_reg"])}


def stepped(flow, x, config, theirs, named):
    """The parameters after one step of training, which is of order lr; TensorFlow holds Adam's constants as float32."""
    given = config["adam"]
    adam = Adam(given["lr"], given["beta1"], given["beta2"], given["eps"], uncorrected_eps=True)
    settings = {"optimiser": in_single_precision(adam), "clip": ClipNorm(config["clip"]), "batch_size": None,
                "penalty": SquaredNorm(config["l2_coeff"], realnvp_images.penalised(flow))}
    after = answered("after_step/", theirs)
    found = by_their_names(fit(flow, x, **settings, steps=1, validation=0).flow.params(), named, after)
    return Pair(found, after, absolute=STEP, beside="Adam's constants are float32 in the source")


def in_single_precision(adam):
    """The optimiser whose numbers TensorFlow holds as float32, even if parameters are float64."""
    numbers = {key: float(np.float32(getattr(adam, key))) for key in ("learning_rate", "beta1", "beta2", "eps")}
    return dataclasses.replace(adam, **numbers)


# -- files ------------------------------------------------------------------------------------------------------------

def is_of_a_port(config, keys):
    return realnvp_ports.port_of(dict.fromkeys(keys)) is not None


def is_of_the_authors(scope):
    return lambda config, keys: not is_of_a_port(config, keys) and any(
        key.startswith(f"param/{scope}") and "/resnet/" in key for key in keys)


KINDS = {"a port's coupling or model": (is_of_a_port, realnvp_ports.compared),
         "a port's squeezes": (lambda config, keys: {"out/squeeze", "out/alt"} <= keys, realnvp_ports.squeezes),
         "the authors' squeezes": (lambda config, keys: {"out/squeeze", "out/ordered"} <= keys, squeezes),
         "a whole model of the authors'": (is_of_the_authors("model/"), model),
         "a coupling of the authors'": (is_of_the_authors("m/c/"), couplings)}


def holds(config, keys):
    return kind_of(KINDS, config, set(map(realnvp_ports.older_name, keys))) is not None


def read(name) -> tuple:
    """({quantity: Difference}, keys that nothing reads) of a file, a path or a name."""
    config, theirs = numbers(name)
    return read_as(KINDS, config, realnvp_ports.read_names(theirs))


def differences() -> dict:
    """{file: {quantity: Difference}} for the files in validation/practice/."""
    return {name: read(name)[0] for name in FILES}
