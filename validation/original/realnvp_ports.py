"""RealNVP of images in two ports, chrischute/real-nvp and fmu2/realNVP, against numbers that they computed.

Their arrays are laid out as ours.  A file holds one coupling with its output's normalisation, or a whole model; what its
configuration does not say is read from the names and shapes of its variables.
"""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np

from refflow.core import Chain, Flow, Inverse
from refflow.core.tree import at_path, flatten, nest
from refflow.maps.densities import StandardNormal
from refflow.maps.elementwise import alpha_logit
from refflow.maps.shape import Reshape
from refflow.models import realnvp_images
from refflow.models.realnvp_images import PORTS
from refflow.training.batch_norm import of_batch, with_statistics

from .comparison import Numbers, Pair, answered, gradients, pair, under
from .realnvp_names import Chrischute, Fmu2, by_their_names, names

DIALECTS = {"chrischute": Chrischute(), "fmu2": Fmu2()}
TESTS = {"chrischute": "rescale.weight_g", "fmu2": "in_bn.weight"}      # the end of a name that a coupling of each has
COUNTS, NOISE = "num_batches_tracked", ("in/u", "in/noise", "in/uniform")
NEWER = (".parametrizations.weight.original0", ".weight_g"), (".parametrizations.weight.original1", ".weight_v")


def port_of(theirs):
    """The port whose names a file's parameters have; None for another code's."""
    return next((port for port, end in TESTS.items() if any(name.endswith(end) for name in under("param/", theirs))), None)


# -- configurations ---------------------------------------------------------------------------------------------------

def scopes_of(given, port):
    """What stands in front of the names of each coupling, in the order in which images pass them: one list for each scale.

    A coupling by itself is one scale of one.
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
    """What the variables of a coupling say of it."""

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
        self.width = len(kernel)
        self.checkerboard = len(self.given[f"{norm}.weight"]) == channels

    def networks(self):
        return {"residual_blocks": self.blocks, "bottleneck": self.bottleneck, "skip": self.skip,
                "weight_norm": self.weight_norm, "additive": "all" if self.additive else False}


def flipped(config, port, checkerboard):
    """Does the part pass that does not in the first coupling of the port's models?"""
    if port == "chrischute":
        return bool(config["reverse_mask"])
    mask = config["mask_config"] if "mask_config" in config else config["args"][-1]
    return bool(mask) ^ checkerboard


def normalised_outputs(config, theirs):
    """Is there a normalisation behind the couplings?"""
    if "coupling_bn" in config:
        return bool(config["coupling_bn"])
    before, after = under("buffer/", theirs), under("buffer_after_train/", theirs)
    moved = [name for name in after if "out_bn.running" in name and name in before]
    return any(not np.array_equal(before[name], after[name]) for name in moved)


def settings_of(port, given, shape):
    """The settings of `image_realnvp` that the port has in common, and those that the variables show."""
    chosen = dict(PORTS[port], **shape.networks(), batch_norm=True)
    return chosen | {"kernel_gains": shape.weight_norm and "weight_g" in " ".join(given)}


def of_class(cls, settings):
    """Those settings that are fields of a class."""
    return {field.name: settings[field.name] for field in dataclasses.fields(cls) if field.name in settings}


def with_outputs(chosen, config, theirs, port):
    """The settings, without a normalisation of outputs where a file's couplings have none."""
    without = port == "fmu2" and not normalised_outputs(config, theirs)
    return chosen | {"output_norm": False} if without else chosen


def coupling_flow(config, theirs, port, image, scopes):
    """The flow of a file of one coupling."""
    given = under("param/", theirs)
    shape = Shape(given, scopes[0][0], port, image[0])
    chosen = with_outputs(settings_of(port, given, shape), config, theirs, port)
    networks = realnvp_images.Networks(np.random.default_rng(0), **of_class(realnvp_images.Networks, chosen))
    build = realnvp_images.Couplings(networks, **of_class(realnvp_images.Couplings, chosen))
    make = build.checkerboard if shape.checkerboard else build.channelwise
    stages = make(image, shape.width, flipped(config, port, shape.checkerboard), shape.additive)
    return Flow(Inverse(Chain([*stages, Reshape(image, (math.prod(image),))])), StandardNormal(math.prod(image)))


def model_flow(config, theirs, port, image, scopes, logit=None):
    """The flow of a file of a model."""
    given, widths = under("param/", theirs), []
    for i, scale in enumerate(scopes):
        shapes = [Shape(given, scope, port, image[0] * 2**i) for scope in scale]
        kinds = [shape.checkerboard for shape in shapes]
        last = i == len(scopes) - 1
        if kinds != [True] * 3 + ([True] if last else [False] * 3):
            raise ValueError(f"scale {i + 1} of {len(scopes)}: couplings of checkerboards and channels in the order {kinds}")
        widths.append((shapes[0].width, shapes[-1].width))
    chosen = with_outputs(settings_of(port, given, shapes[0]), config, theirs, port)
    return realnvp_images.image_realnvp(np.random.default_rng(0), image, len(scopes), widths=widths, logit=logit, **chosen)


def inputs_of(config, theirs, port):
    """[(what the flow takes, the logit in front of it)] that a file of a model may mean: real numbers, or pixels with noise."""
    x = theirs["in/x"]
    found = [(x, None)]
    if port == "chrischute" and 0 <= x.min() and x.max() <= 1:
        margin = (1 - float(np.ravel(theirs.get("buffer/data_constraint", 0.9))[0])) / 2
        noise = [theirs[key] for key in NOISE if key in theirs]
        pixels = [(255 * x + u) / 256 for u in noise] + [x]
        found += [(p, alpha_logit(margin, 1 - margin)) for p in pixels]
    return found


def flow_of(config, theirs, port):
    """(the flow with their numbers, {their name: Entry}, what it takes, the number of scales)."""
    x = theirs["in/x"]
    scopes, image = scopes_of(under("param/", theirs), port), x.shape[1:]
    in_turn = [scope for scale in scopes for scope in scale]
    if len(in_turn) == 1:
        flow = coupling_flow(config, theirs, port, image, scopes)
        named = names(flow, in_turn, DIALECTS[port])
        return filled(flow, named, theirs, port), named, x, 1
    meant = []
    for data, logit in inputs_of(config, theirs, port):
        flow = model_flow(config, theirs, port, image, scopes, logit)
        named = names(flow, in_turn, DIALECTS[port])
        flow = filled(flow, named, theirs, port)
        z = realnvp_images.full_resolution(flow.bijector.inverse(data), image, len(scopes))
        meant.append((np.abs(z - theirs["eval/z"]).max(), len(meant), flow, named, data))
    _, _, flow, named, data = min(meant)
    return flow, named, data, len(scopes)


# -- parameters -------------------------------------------------------------------------------------------------------

def read_names(theirs):
    """The numbers with the names of torch's older weight normalisation."""
    found = {}
    for name, array in theirs.items():
        for newer, older in NEWER:
            name = name.replace(newer, older)
        found[name] = array
    return Numbers(found)


def is_unused(name, named):
    """Counts of batches, statistics of a normalisation that the couplings leave out, and the margin of the logit."""
    return name.endswith((COUNTS, "data_constraint")) or ("out_bn.running" in name and name not in named)


def filled(flow, named, theirs, port):
    """The flow with their parameters and moving statistics.  ValueError where names do not match."""
    given = answered("param/", theirs)
    given |= answered("buffer/", theirs, [name for name in under("buffer/", theirs) if not is_unused(name, named)])
    directions = {name for name in given if port == "chrischute" and name.endswith("rescale.weight_v")}
    left = given.keys() - named.keys() - directions
    if left or named.keys() - given.keys():
        raise ValueError(f"names without a counterpart: {sorted(left | (named.keys() - given.keys()))}")
    arrays = {}
    for name, (path, part, ours, _) in named.items():
        array = np.array(at_path(flow.params(), path))
        array[part] = ours(name, given[name] * sign_of(name, given), array[part])
        arrays[path] = array
    lacking = {path for path, _ in flatten(flow.params())} - arrays.keys()
    if lacking:
        raise ValueError(f"parameters of the flow have no counterpart in the port's code: {sorted(lacking)}")
    return flow.replace(**nest(arrays))


def sign_of(name, given):
    """g v / |v| of a single number v is g or -g."""
    return np.sign(given[name.removesuffix("_g") + "_v"]) if name.endswith("rescale.weight_g") else 1


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
    port, image = port_of(theirs), theirs["in/x"].shape[1:]
    flow, named, x, scales = flow_of(config, theirs, port)
    levels = float(found[1]) if (found := re.search(r"\(k=(\d+)\)", config.get("loss", ""))) else 256
    discrete = x[0].size * math.log(levels) if port == "chrischute" else 0
    record, found = {}, {}
    for mode, at in (("eval", flow), ("train", of_batch(flow, record))):
        if f"{mode}/z" in theirs:
            found |= of_mode(mode, at, x, theirs, named, scales, discrete)
    found["inverse"] = pair(inverted(flow, theirs["eval/z"], scales), theirs["eval/reverse_of_z"])
    after = answered("buffer_after_train/", theirs, named)
    if after:
        moved = with_statistics(flow, record)
        found["moving statistics"] = Pair(by_their_names(moved.params(), named, after), after)
    return found


def of_mode(mode, flow, x, theirs, named, scales, discrete):
    z, log_det = flow.bijector.inner.forward_and_log_det(x)
    log_prob, pullback = flow.log_prob_vjp(x)
    x_bar, params_bar = pullback(np.full(len(x), -1 / len(x)))
    grad = answered(f"{mode}_grad/", theirs)
    found = {f"{mode} latents": pair(realnvp_images.full_resolution(z, x.shape[1:], scales), theirs[f"{mode}/z"]),
             f"{mode} log-det": pair(log_det, theirs[f"{mode}/logdet"].reshape(len(x), -1).sum(-1)),
             f"{mode} loss": pair(discrete - log_prob.mean(), theirs[f"{mode}/nll"]),
             f"{mode} gradients of parameters": gradients(by_names(params_bar, named, under("param/", theirs), grad), grad)}
    if f"{mode}_gradin/x" in theirs:
        found[f"{mode} gradient of data"] = pair(x_bar, theirs[f"{mode}_gradin/x"])
    return found


def inverted(flow, z, scales):
    """The image of latents, which the ports leave as logits."""
    order = realnvp_images.full_resolution(np.arange(z[0].size), z.shape[1:], scales)
    stages = flow.bijector.inner.stages
    after_logit = Chain([stage for stage in stages if stage.event_ndim != (0, 0)])
    return after_logit.inverse(z.reshape(len(z), -1)[:, np.argsort(order.ravel())])
