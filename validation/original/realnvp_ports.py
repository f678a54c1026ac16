"""RealNVP of images in two ports, chrischute/real-nvp and fmu2/realNVP, compared with numbers that they computed.

Their arrays are laid out like ours.  A file holds one coupling with its output's normalisation, or a whole model; what its
configuration does not say is read from the names and shapes of its variables.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import NamedTuple

import numpy as np

from refflow.core import Chain, Flow, Inverse
from refflow.core.tree import at_path, flatten, nest
from refflow.maps.coupling import masks
from refflow.maps.coupling.coupling import MaskedBijector
from refflow.maps.densities import StandardNormal
from refflow.maps.elementwise import alpha_logit
from refflow.maps.shape import Reshape, Squeeze
from refflow.models import realnvp_images
from refflow.models.realnvp_images import PORTS
from refflow.training.batch_norm import norms, of_batch, with_statistics

from .comparison import Numbers, Pair, answered, gradients, pair, under
from .realnvp_names import Chrischute, Fmu2, by_their_names, names

DIALECTS = {"chrischute": Chrischute(), "fmu2": Fmu2()}
TESTS = {"chrischute": "rescale.weight_g", "fmu2": "in_bn.weight"}      # the end of a name that each port's couplings have
COUNTS, NOISE = "num_batches_tracked", ("in/u", "in/noise", "in/uniform")
NEWER = (".parametrizations.weight.original0", ".weight_g"), (".parametrizations.weight.original1", ".weight_v")


def port_of(theirs):
    """The port whose names a file's parameters have; None for another code."""
    return next((port for port, end in TESTS.items() if any(name.endswith(end) for name in under("param/", theirs))), None)


# -- configurations ---------------------------------------------------------------------------------------------------

def scopes_of(given, port):
    """The prefix of each coupling's names, in the order that images pass them: one list for each scale.

    A single coupling is one scale with one coupling.
    """
    alone = sorted({name.removesuffix(TESTS[port]) for name in given if name.endswith(TESTS[port])}, key=in_order)
    scales = {}
    for scope in alone:
        scales.setdefault(scale_of(scope), []).append(scope)
    return [scales[i] for i in sorted(scales)]


def scale_of(scope):
    found = re.match(r"(?:.*\.)?s(\d+)_(?:ckbd|chan)\.", scope)
    return int(found[1]) if found else scope.count("next_block.")


def in_order(scope):
    """Checkerboards come before channels, then numbers."""
    return scale_of(scope), "_chan." in scope or "out_couplings." in scope, [int(n) for n in re.findall(r"\.(\d+)\.", scope)]


class Shape:
    """What the variables of a coupling say about it."""

    def __init__(self, given, scope, port, channels):
        self.given, self.scope = {k.removeprefix(scope): v for k, v in given.items() if k.startswith(scope)}, scope
        names = self.given.keys()
        if port == "chrischute":
            self.blocks = len({name.split(".")[2] for name in names if name.startswith("st_net.blocks.")})
            self.bottleneck, self.skip, self.additive, norm, first = False, True, False, "st_net.in_norm", "st_net.in_conv"
        else:
            self.blocks = len({name.split(".")[3] for name in names if name.startswith("block.1.core_block.")})
            self.bottleneck = any(".res_block.6." in name or name.startswith("block.1.block.6.") for name in names)
            self.skip = not self.blocks or any(".in_skip." in name for name in names)
            self.additive = "scale" not in names
            norm, first = "in_bn", "block.1.in_block" if self.blocks else "block.1.block.0"
        self.weight_norm = any(name.endswith(".weight_v") for name in names)
        kernel = self.given[f"{first}.conv.weight{'_v' if self.weight_norm else ''}"]
        self.width, self.kernel_gains = len(kernel), f"{first}.conv.weight_g" in names
        self.checkerboard = len(self.given[f"{norm}.weight"]) == channels

    def networks(self):
        return {"residual_blocks": self.blocks, "bottleneck": self.bottleneck, "skip": self.skip,
                "weight_norm": self.weight_norm, "kernel_gains": self.kernel_gains,
                "additive": "all" if self.additive else False}


def flips(config, port, checkerboard):
    """[Does the part pass that does not pass in the first coupling of the port's models?], both if a file does not say."""
    if port == "chrischute":
        return [bool(config["reverse_mask"])] if "reverse_mask" in config else [False, True]
    given = config.get("mask_config", (config.get("args") or [None])[-1])
    return [False, True] if given is None else [bool(given) ^ checkerboard]


def normalised_outputs(config, theirs):
    """[Is there a normalisation after the couplings?], both answers if a file does not say."""
    if "coupling_bn" in config:
        return [bool(config["coupling_bn"])]
    before, after = under("buffer/", theirs), under("buffer_after_train/", theirs)
    moved = [not np.array_equal(before[name], after[name]) for name in after if "out_bn.running" in name and name in before]
    return [any(moved)] if moved else [True, False]


def settings_of(config, theirs, port, shape):
    """[settings of `image_realnvp`] that the port has and that a file and its variables show, with all possible values."""
    chosen = PORTS[port] | shape.networks()
    if port != "fmu2":
        return [chosen]
    return [chosen if normalised else chosen | {"output_norm": False} for normalised in normalised_outputs(config, theirs)]


def of_class(cls, settings):
    """Those settings that are fields of a class."""
    return {field.name: settings[field.name] for field in dataclasses.fields(cls) if field.name in settings}


def coupling_flows(config, theirs, port, scope):
    """[(flow, Input)] that a file of one coupling may mean."""
    x, found = theirs["in/x"], []
    image, D = x.shape[1:], x[0].size
    shape = Shape(under("param/", theirs), scope, port, image[0])
    for chosen in settings_of(config, theirs, port, shape):
        networks = realnvp_images.Networks(np.random.default_rng(0), **of_class(realnvp_images.Networks, chosen))
        build = realnvp_images.Couplings(networks, **of_class(realnvp_images.Couplings, chosen))
        make = build.checkerboard if shape.checkerboard else build.channelwise
        for flip in flips(config, port, shape.checkerboard):
            chain = Chain([*make(image, shape.width, flip, shape.additive), Reshape(image, (D,))])
            found.append((Flow(Inverse(chain), StandardNormal(D)), Input(x)))
    return found


def model_flows(config, theirs, port, scopes):
    """[(flow, Input)] that a file of a model may mean."""
    given, image, widths = under("param/", theirs), theirs["in/x"].shape[1:], []
    for i, scale in enumerate(scopes):
        shapes = [Shape(given, scope, port, image[0] * 2**i) for scope in scale]
        kinds = [shape.checkerboard for shape in shapes]
        last = i == len(scopes) - 1
        if kinds != [True] * 3 + ([True] if last else [False] * 3):
            raise ValueError(f"scale {i + 1} of {len(scopes)}: couplings of checkerboards and channels in the order {kinds}")
        widths.append((shapes[0].width, shapes[-1].width))
    return [(realnvp_images.image_realnvp(np.random.default_rng(0), image, len(scopes), widths=widths, logit=given.logit,
                                          **chosen), given)
            for chosen in settings_of(config, theirs, port, shapes[0]) for given in inputs_of(theirs, port)]


class Input(NamedTuple):
    """The flow's input for the data x, its slope in x, and the logit before it."""

    data: np.ndarray
    slope: float = 1.0
    logit: object = None


def inputs_of(theirs, port):
    """[Input] that a file of a model may mean: real numbers, or pixels, with noise or without."""
    x = theirs["in/x"]
    found = [Input(x)]
    if port == "chrischute" and 0 <= x.min() and x.max() <= 1:
        constraint = theirs["buffer/data_constraint"] if "buffer/data_constraint" in theirs else 0.9
        margin = (1 - float(np.ravel(constraint)[0])) / 2
        logit = alpha_logit(margin, 1 - margin)
        found.append(Input(x, 1.0, logit))
        found += [Input((255 * x + theirs[key]) / 256, 255 / 256, logit) for key in NOISE if key in theirs]
    return found


def flow_of(config, theirs, port):
    """(the flow with their numbers, {their name: Entry}, Input, the number of scales).

    Among the flows and inputs that a file may mean, the ones that come nearest to its latents.
    """
    image, scopes = theirs["in/x"].shape[1:], scopes_of(under("param/", theirs), port)
    in_turn, meant = [scope for scale in scopes for scope in scale], []
    possible = (coupling_flows(config, theirs, port, *in_turn) if len(in_turn) == 1
                else model_flows(config, theirs, port, scopes))
    for flow, given in possible:
        named = names(flow, in_turn, DIALECTS[port])
        flow = filled(flow, named, theirs, port)
        z = realnvp_images.full_resolution(flow.bijector.inverse(given.data), image, len(scopes))
        meant.append((np.abs(z - theirs["eval/z"]).max(), flow, named, given))
    return (*min(meant, key=lambda one: one[0])[1:], len(scopes))


# -- parameters -------------------------------------------------------------------------------------------------------

def read_names(theirs):
    """The numbers with the names of torch's older weight normalisation."""
    return Numbers({older_name(name): array for name, array in theirs.items()})


def older_name(name):
    for newer, older in NEWER:
        name = name.replace(newer, older)
    return name


def is_unused(name, named):
    """Counts of batches, statistics of a normalisation that the couplings leave out, and the margin of the logit."""
    return name.endswith((COUNTS, "data_constraint")) or ("out_bn.running" in name and name not in named)


def filled(flow, named, theirs, port):
    """The flow with their parameters and moving statistics.  ValueError if names do not match."""
    given = answered("param/", theirs)
    given |= answered("buffer/", theirs, [name for name in under("buffer/", theirs) if not is_unused(name, named)])
    directions = {name for name in given if port == "chrischute" and name.endswith("rescale.weight_v")}
    left = given.keys() - named.keys() - directions
    if left or named.keys() - given.keys():
        raise ValueError(f"names without a counterpart: {sorted(left | (named.keys() - given.keys()))}")
    params, arrays = flow.params(), {}
    for name, (path, part, ours, _) in named.items():
        array = np.array(at_path(params, path))
        array[part] = ours(name, given[name] * sign_of(name, given), array[part])
        arrays[path] = array
    lacking = {path for path, _ in flatten(params)} - arrays.keys()
    if lacking:
        raise ValueError(f"parameters of the flow have no counterpart in the port's code: {sorted(lacking)}")
    return flow.replace(**nest(arrays))


def sign_of(name, given):
    """g v / |v| of a single number v is g or -g."""
    return np.sign(given[name.removesuffix("_g") + "_v"]) if name.endswith("rescale.weight_g") else 1


def counted(theirs, count, statistic, named):
    """{quantity: Pair}: their counts of batches, which names that end in `count` hold, are whole numbers, and grow by 1 in a
    step of training where the couplings use a normalisation.
    """
    before, after = (answered(prefix, theirs, [name for name in under(prefix, theirs) if name.endswith(count)])
                     for prefix in ("buffer/", "buffer_after_train/"))
    odd = [name for name, n in before.items() if n != int(n) or n < 0]
    if odd:
        raise ValueError(f"buffer/{odd[0]} is not a count of batches")
    ours = {name: before[name] + (name.removesuffix(count) + statistic in named) for name in after if name in before}
    return {"counts of batches": Pair(ours, after)} if after else {}


def by_names(nested, named, given, wanted):
    """{their name: gradient} of the names `wanted`."""
    found = by_their_names(nested, named, {name: array for name, array in wanted.items() if name in named})
    for name, array in wanted.items():
        if name.endswith("rescale.weight_v"):
            found[name] = np.zeros_like(array)                  # g v / |v| does not change with |v|
        elif name in found:
            found[name] = found[name] * sign_of(name, given)
    return found


# -- differences ------------------------------------------------------------------------------------------------------

def compared(config, theirs) -> dict:
    """{quantity: Pair} of a file of one coupling or of a model."""
    port, x = port_of(theirs), theirs["in/x"]
    flow, named, given, scales = flow_of(config, theirs, port)
    levels = float(found[1]) if (found := re.search(r"\(k=(\d+)\)", config.get("loss", ""))) else 256
    discrete = x[0].size * math.log(levels) if port == "chrischute" else 0
    alone = sum(isinstance(stage, MaskedBijector) for stage in flow.bijector.inner.stages) == 1
    record, found = {}, {}
    for mode, at in (("eval", flow), ("train", of_batch(flow, record))):
        if theirs.has(f"{mode}/z"):
            found |= of_mode(mode, at, given, theirs, named, scales, discrete)
            if f"{mode}/logdet" in theirs and theirs[f"{mode}/logdet"].shape == x.shape and alone:
                each = log_scales(flow, x, mode == "train")
                found[f"{mode} log-det of each entry"] = pair(each, theirs[f"{mode}/logdet"])
    if theirs.has("eval/reverse_of_z"):
        found["inverse"] = pair(inverted(flow, given.logit, theirs["eval/z"], scales), theirs["eval/reverse_of_z"])
    after = answered("buffer_after_train/", theirs, named)
    if after:
        moved = with_statistics(flow, record)
        found["moving statistics"] = Pair(by_their_names(moved.params(), named, after), after)
    unused = [name for name in under("buffer_after_train/", theirs)
              if is_unused(name, named) and "running" in name and f"buffer/{name}" in theirs]
    if unused:
        before, after = (answered(prefix, theirs, unused) for prefix in ("buffer/", "buffer_after_train/"))
        found["statistics of no coupling"] = Pair(before, after)
    return found | counted(theirs, f".{COUNTS}", ".running_mean", named)


def squeezes(config, theirs) -> dict:
    """{quantity: Pair} of chrischute's squeezes and checkerboards; the top left entry of a mask is 0, and 1 reversed."""
    x, found = theirs["in/x" if "in/x" in theirs else "out/x"], {}
    for key, order, back in (("squeeze", "interleaved", "unsqueeze"), ("alt", "diagonal", "unalt")):
        f = Squeeze(order=order)
        found[key] = pair(f.forward(x), theirs[f"out/{key}"])
        found[back] = pair(f.inverse(theirs[f"out/{key}"]), theirs[f"out/{back}"])
    for key, top_left in (("mask", False), ("mask_rev", True)):
        if f"out/{key}" in theirs:
            passes = masks.checkerboard(*theirs[f"out/{key}"].shape[-2:], flip=not top_left)
            found[key] = pair(passes[None, None], theirs[f"out/{key}"])
    return found


def of_mode(mode, flow, given, theirs, named, scales, discrete):
    x = given.data
    z, log_det = flow.bijector.inner.forward_and_log_det(x)
    log_prob, pullback = flow.log_prob_vjp(x)
    x_bar, params_bar = pullback(np.full(len(x), -1 / len(x)))
    found = {f"{mode} latents": pair(realnvp_images.full_resolution(z, x.shape[1:], scales), theirs[f"{mode}/z"])}
    if theirs.has(f"{mode}/logdet"):
        found[f"{mode} log-det"] = pair(log_det, theirs[f"{mode}/logdet"].reshape(len(x), -1).sum(-1))
    if theirs.has(f"{mode}/nll"):
        found[f"{mode} loss"] = pair(discrete - log_prob.mean(), theirs[f"{mode}/nll"])
    grad = answered(f"{mode}_grad/", theirs)
    if grad:
        of_theirs = by_names(params_bar, named, under("param/", theirs), grad)
        found[f"{mode} gradients of parameters"] = gradients(of_theirs, grad)
    if theirs.has(f"{mode}_gradin/x"):
        found[f"{mode} gradient of data"] = pair(given.slope * x_bar, theirs[f"{mode}_gradin/x"])
    return found


def log_scales(flow, x, train):
    """log|dz_i/dx_i| of each entry of the event of one coupling, whose Jacobian is triangular; its sum is the log-det."""
    f = (at_statistics_of(flow, x) if train else flow).bijector.inner
    diagonal = np.diagonal(f.jacobian(x), axis1=-2, axis2=-1)
    return np.log(np.abs(diagonal)).reshape(x.shape)


def at_statistics_of(flow, x):
    """The flow with the statistics of the batch x as its moving statistics."""
    biased, record = flow.replace(**nest({(*path, "unbiased"): False for path, _ in norms(flow)})), {}
    of_batch(biased, record).log_prob(x)
    return with_statistics(biased, record, 1.0)


def inverted(flow, logit, z, scales):
    """The image of latents, which the ports leave as logits."""
    order = realnvp_images.full_resolution(np.arange(z[0].size), z.shape[1:], scales)
    after_logit = Chain(flow.bijector.inner.stages[0 if logit is None else 1:])
    return after_logit.inverse(z.reshape(len(z), -1)[:, np.argsort(order.ravel())])
