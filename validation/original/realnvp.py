"""RealNVP, against its authors' numbers.

Their names: "coupling_2/resnet/block_0/bn_in/beta"; their images are (N, H, W, C), their kernels (H, W, in, out).  A file
holds one coupling with its output's normalisation, or a whole model.  Differences are relative to the largest entry of an
array; of gradients, some of which are 0 in exact arithmetic, at least to 1e-6 of the largest of all.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from refflow.maps.conditioners import BijectorLayer, Conv2d, Residual, SkipSum, WeightNormConv2d
from refflow.core import Chain, Flow, Inverse
from refflow.maps.densities import StandardNormal
from refflow.core.tree import flatten, nest
from refflow.maps.coupling import Coupling, MaskedInput
from refflow.models import realnvp_images
from refflow.maps.normalization import BatchNorm
from refflow.maps.shape import FactorOut, Reshape, Squeeze
from refflow.training import Adam, ClipNorm, SquaredNorm, fit
from refflow.training.penalty import with_penalty
from refflow.training.batch_norm import of_batch, with_statistics
from refflow.core.tree import at_path

from .comparison import PRACTICE, numbers, under

FILES = tuple(sorted(path.stem for path in PRACTICE.glob("realnvp_*.npz")))
FLOOR = 1e-6


# -- layouts ----------------------------------------------------------------------------------------------------------

def channels_first(images):
    return np.moveaxis(images, -1, -3)


def channels_last(images):
    return np.moveaxis(images, -3, -1)


def from_theirs(key, array):
    return array.transpose(3, 2, 0, 1) if key == "weights" else array


def as_theirs(key, array):
    return array.transpose(2, 3, 1, 0) if key == "weights" else array


def flat_latents(z, shape, scales, recursion_type):
    """Their latents, an image, as one vector: the inverse of `full_resolution`."""
    order = realnvp_images.full_resolution(np.arange(math.prod(shape)), shape, scales, recursion_type)
    return z.reshape(len(z), -1)[:, np.argsort(order.ravel())]


# -- names ------------------------------------------------------------------------------------------------------------

def names(flow, scopes):
    """{their name: (path in params(), channels of it that are theirs)}; `scopes`: those of their couplings, in order."""
    scopes, found = iter(scopes), {}
    for path, stages in chains(flow.bijector, ("bijector",)):
        scope = None
        for i, stage in enumerate(stages):
            here = (*path, "stages", str(i))
            if hasattr(stage, "net"):
                scope = next(scopes)
                found |= of_coupling(stage, here, scope)
            elif isinstance(stage, BatchNorm):
                changed = ... if stage.passes.shape[0] == 1 else ~stage.passes.ravel()
                found |= {f"{scope}/bn_out/{key}": ((*here, key), changed) for key in ("mean", "var")}
    return found


def chains(f, path):
    """(path, stages) of the chain of each scale."""
    if isinstance(f, Inverse):
        yield from chains(f.inner, (*path, "inner"))
    elif isinstance(f, Chain):
        yield path, f.stages
        last = f.stages[-1]
        if isinstance(last, FactorOut):
            yield from chains(last.rest, (*path, "stages", str(len(f.stages) - 1), "rest"))


def of_coupling(coupling, path, scope):
    checkerboard = isinstance(coupling.net, MaskedInput)
    net, net_path = (coupling.net.net, (*path, "net", "net")) if checkerboard else (coupling.net, (*path, "net"))
    found = of_network(net.layers, (*net_path, "layers"), scope)
    if isinstance(coupling, Coupling):
        scale = (*path, *coupling.affine_form.path)
        found[f"{scope}/{'rescaling_scale' if checkerboard else 'scale'}"] = (*scale, "gain"), ...
        if coupling.affine_form.scale.shift is not None:
            found[f"{scope}/scale_shift"] = (*scale, "shift"), ...
    return found


def of_network(layers, path, scope):
    """The names of a whole network, whose first layers are those of (8) or (9)."""
    start = next(i for i, layer in enumerate(layers) if isinstance(layer, (Conv2d, WeightNormConv2d)))
    found = of_layers(layers[:start], path, scope, (), ("bn_in",))
    deep = any(isinstance(layer, (SkipSum, Residual)) for layer in layers)
    resnet, convolutions = f"{scope}/resnet", sum(isinstance(layer, (Conv2d, WeightNormConv2d)) for layer in layers)
    if not deep:
        return found | of_layers(layers, path, resnet, inner(convolutions), ("bn_0", "bn_1"), start)
    found |= of_layers(layers, path, resnet, ("h_in", "out"), ("bn_pre_out",), start)
    k = 0
    for i, layer in enumerate(layers):
        blocks = layer.blocks if isinstance(layer, SkipSum) else [layer] if isinstance(layer, Residual) else []
        for j, block in enumerate(blocks):
            here = (*path, str(i), "blocks", str(j)) if isinstance(layer, SkipSum) else (*path, str(i))
            inside, here = block.inner.layers, (*here, "inner", "layers")
            count = sum(isinstance(layer, (Conv2d, WeightNormConv2d)) for layer in inside)
            found |= of_layers(inside, here, f"{resnet}/block_{k}", inner(count), ("bn_in", "bn_0", "bn_1"))
            k += 1
        if isinstance(layer, SkipSum):
            skips = ("skip_in", *(f"skip_{j}" for j in range(len(layer.blocks))))
            found |= of_layers(layer.skips, (*path, str(i), "skips"), resnet, skips, ())
    return found


def inner(count):
    return (*(f"h_{i}" for i in range(count - 1)), "out")


def of_layers(layers, path, scope, convolutions, norms, start=0):
    """The names of the convolutions and normalisations among layers, in order."""
    convolutions, norms, found = iter(convolutions), iter(norms), {}
    for i, layer in enumerate(layers[start:], start):
        here = (*path, str(i))
        if isinstance(layer, BijectorLayer):
            name, keys = next(norms), {"beta": ("f", "bias"), "mean": ("f", "mean"), "var": ("f", "var")}
        elif isinstance(layer, (Conv2d, WeightNormConv2d)):
            kernels = "v" if isinstance(layer, WeightNormConv2d) else "W"
            name, keys = next(convolutions), {"weights": (kernels,), "magnitude": ("g",), "biases": ("b",)}
        else:
            continue
        for theirs, ours in keys.items():
            if len(ours) == 2 or getattr(layer, ours[0], None) is not None:
                found[f"{scope}/{name}/{theirs}"] = (*here, *ours), ...
    return found


def scopes(config, prefix="model"):
    """The scopes of a model's couplings, in the order in which images pass them."""
    for i in range(config["n_scale"]):
        last = i == config["n_scale"] - 1
        yield from (f"{prefix}/scale_{i}/coupling_{k}" for k in ((0, 1, 2, 3) if last else (0, 1, 2, 4, 5, 6)))


# -- flows ------------------------------------------------------------------------------------------------------------

def switches(theirs, scope) -> dict:
    """The settings of the authors' code that show in the names of its variables, `scope` being that of a first coupling."""
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
    networks = realnvp_images.Networks(np.random.default_rng(0), config["residual_blocks"], **chosen, eps=1e-4,
                                       norm_gain=False, dtype=np.float64)
    build = realnvp_images.Couplings(networks, additive, True, True, True, False)
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
    """The flow with their parameters and moving statistics.  ValueError where names do not match."""
    given = under("param/", theirs) | {k: v for k, v in under("buffer/", theirs).items() if not k.endswith("/step")}
    if given.keys() != named.keys():
        raise ValueError(f"names without a counterpart: {sorted(given.keys() ^ named.keys())}")
    arrays = {}
    for name, (path, changed) in named.items():
        array = np.array(at_path(flow.params(), path))
        array[changed] = from_theirs(name.split("/")[-1], given[name])
        arrays[path] = array
    if {path for path, _ in flatten(flow.params())} != arrays.keys():
        raise ValueError("a parameter of the flow has no counterpart in the authors' code")
    return flow.replace(**nest(arrays))


def by_their_names(nested, named, wanted):
    """{their name: array} of the names `wanted`."""
    return {name: as_theirs(name.split("/")[-1], at_path(nested, named[name][0])[named[name][1]]) for name in wanted}


# -- differences ------------------------------------------------------------------------------------------------------

def difference(given, theirs, floor=0.0):
    """The largest difference beside the largest entry of theirs, or `floor`; infinite where the shapes differ."""
    given, theirs = np.asarray(given), np.asarray(theirs)
    if given.shape != theirs.shape:
        return np.inf
    error = np.abs(given - theirs).max(initial=0)
    return float(error / max(np.abs(theirs).max(initial=0), floor)) if error else 0.0


def largest(given, theirs):
    """The largest difference over two dictionaries of arrays; infinite where their keys differ."""
    if given.keys() != theirs.keys() or not given:
        return np.inf
    floor = FLOOR * max(np.abs(array).max(initial=0) for array in theirs.values())
    return float(np.max([difference(given[key], theirs[key], floor) for key in theirs]))


def gradient(flow, x, scale):
    """(log p(x), x_bar, params_bar) of L = -scale sum log p(x)."""
    log_prob, pullback = flow.log_prob_vjp(x)
    return log_prob, *pullback(np.full(len(x), -scale))


def squeezes(name="realnvp_tf_squeeze") -> dict:
    """{quantity: difference} of their two squeezes."""
    _, theirs = numbers(name)
    x, found = channels_first(theirs["in/x"]), {}
    for key, order, back in (("squeeze", "interleaved", "unsqueeze"), ("ordered", "diagonal", "unordered")):
        f = Squeeze(order=order)
        found[key] = difference(channels_last(f.forward(x)), theirs[f"out/{key}"])
        found[back] = difference(channels_last(f.inverse(channels_first(theirs[f"out/{key}"]))), theirs[f"out/{back}"])
    return found


def couplings(name) -> dict:
    """{quantity: difference} of a file of one coupling."""
    config, theirs = numbers(name)
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
        grad = under(f"{mode}_grad/", theirs)
        of_data = grad.pop("x")
        found |= {f"{mode} latents": difference(channels_last(z.reshape(x.shape)), theirs[f"{mode}/z"]),
                  f"{mode} log-det": difference(log_det, theirs[f"{mode}/log_diff"].sum((1, 2, 3))),
                  f"{mode} loss": difference(-log_prob.sum(), theirs[f"{mode}/nll"]),
                  f"{mode} gradients of parameters": largest(by_their_names(params_bar, named, grad), grad),
                  f"{mode} gradient of data": difference(channels_last(x_bar), of_data)}
    z = channels_first(theirs["eval/z"]).reshape(len(x), -1)
    back, log_det = flow.bijector.forward_and_log_det(z)
    found |= {"inverse": difference(channels_last(back), theirs["eval/reverse_of_z"]),
              "inverse log-det": difference(log_det, theirs["eval/reverse_log_diff"].sum((1, 2, 3)))}
    after = {k: v for k, v in under("buffer_after_train/", theirs).items() if not k.endswith("/step")}
    if after:
        moved = with_statistics(flow, record)
        found["moving statistics"] = largest(by_their_names(moved.params(), named, after), after)
    return found


def model(name="realnvp_tf_model_s2") -> dict:
    """{quantity: difference} of a file of a whole model."""
    config, theirs = numbers(name)
    x = channels_first(theirs["in/x"])
    flow = model_flow(config, theirs, x.shape[1:])
    named = names(flow, scopes(config))
    flow = filled(flow, named, theirs)
    layout = {"shape": x.shape[1:], "scales": config["n_scale"], "recursion_type": config["recursion_type"]}
    D, logit = x[0].size, flow.bijector.inner.stages[0]
    y, cost_of_logit = logit.forward_and_log_det(x)
    found = {"logit": difference(channels_last(y), theirs["out/logit_x"]),
             "cost of logit": difference(cost_of_logit, theirs["out/logit_cost"])}
    for mode, at in (("eval", flow), ("train", of_batch(flow))):
        z, log_det = at.bijector.inner.forward_and_log_det(x)
        prior = at.base.log_prob(z)
        cost = -np.mean(prior + log_det)
        laid_out = channels_last(realnvp_images.full_resolution(z, **layout))
        found |= {f"{mode} latents": difference(laid_out, theirs[f"{mode}/z"]),
                  f"{mode} log-prior": difference(prior, theirs[f"{mode}/prior_ll"]),
                  f"{mode} log-det": difference(log_det, theirs[f"{mode}/log_det_total"]),
                  f"{mode} cost": difference(cost, theirs[f"{mode}/cost"]),
                  f"{mode} bits/dim": difference((cost + D * np.log(256)) / (D * np.log(2)), theirs[f"{mode}/bits_per_dim"])}
        found |= gradients(mode, at, x, config, theirs, named)
    after_logit = Chain(flow.bijector.inner.stages[1:])
    for key, given, back in (("inverse", "eval/z", "eval/decoded_logit_x"), ("samples", "sample/z", "sample/logit_x")):
        z = flat_latents(channels_first(theirs[given]), **layout)
        found[key] = difference(channels_last(after_logit.inverse(z)), theirs[back])
    return found | {"optimiser step": stepped(flow, x, config, theirs, named)}


def gradients(mode, flow, x, config, theirs, named):
    """Differences of the loss with its penalty, and of its gradients."""
    penalty = SquaredNorm(config["l2_coeff"], realnvp_images.penalised(flow))
    log_prob, _, params_bar = gradient(flow, x, 1 / len(x))
    loss, params_bar = with_penalty(-np.mean(log_prob), params_bar, penalty, flow.params())
    grad = under(f"{mode}_grad/", theirs)
    found = {f"{mode} loss": difference(loss, theirs[f"{mode}/loss"]),
             f"{mode} gradients": largest(by_their_names(params_bar, named, grad), grad)}
    squares = penalty(flow.params())[0] / config["l2_coeff"]
    return found | {f"{mode} sum of squares": difference(squares, theirs[f"{mode}/l2_reg"])}


def stepped(flow, x, config, theirs, named):
    """The largest difference of the parameters after one step of training, beside the largest of their array."""
    given = config["adam"]
    adam = Adam(given["lr"], given["beta1"], given["beta2"], given["eps"], uncorrected_eps=True)
    settings = {"optimiser": in_single_precision(adam), "clip": ClipNorm(config["clip"]), "batch_size": None,
                "penalty": SquaredNorm(config["l2_coeff"], realnvp_images.penalised(flow))}
    after = under("after_step/", theirs)
    found = by_their_names(fit(flow, x, **settings, steps=1, validation=0).flow.params(), named, after)
    return max(difference(found[name], after[name]) for name in after)


def in_single_precision(adam):
    """The optimiser whose numbers TensorFlow holds as float32, also where parameters are float64."""
    numbers = {key: float(np.float32(getattr(adam, key))) for key in ("learning_rate", "beta1", "beta2", "eps")}
    return dataclasses.replace(adam, **numbers)


def differences() -> dict:
    """{file: {quantity: difference}}."""
    return {name: squeezes(name) if "squeeze" in name else model(name) if "model" in name else couplings(name)
            for name in FILES}
