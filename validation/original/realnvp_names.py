"""The places of an image RealNVP's parameters, by the names in three codes: the authors' and two ports'.

A role says what a layer does in a network: ("in",) the normalisation of its input; ("first",), ("skip", k), ("block", k,
"norm", j), ("block", k, "conv", j, last), ("pre_out",) and ("out",) of a network with residual blocks; ("norm", j) and
("conv", j, last) of a network without them.  A dialect names roles, and the variables inside them.
"""

from __future__ import annotations

from collections import namedtuple

import numpy as np

from refflow.core import Chain, Inverse
from refflow.core.tree import at_path
from refflow.maps.conditioners import BijectorLayer, Conv2d, Residual, SkipSum, WeightNormConv2d
from refflow.maps.coupling import Coupling, MaskedInput
from refflow.maps.normalization import BatchNorm
from refflow.maps.shape import FactorOut

# path in params(); part: the channels that belong to theirs; ours from theirs, and theirs from ours given an array of theirs
Entry = namedtuple("Entry", "path part ours theirs")
CONVOLUTIONS = Conv2d, WeightNormConv2d


# -- dialects ---------------------------------------------------------------------------------------------------------

class Authors:
    """tensorflow/models; kernels are (H, W, in, out)."""

    norm = {"beta": ("bias",), "mean": ("mean",), "var": ("var",)}
    kernel = {"weights": ("v", "W"), "magnitude": ("g",), "biases": ("b",)}

    def module(self, scope, role):
        match role:
            case ("in",):
                return f"{scope}/bn_in"
            case ("first",):
                return f"{scope}/resnet/h_in"
            case ("skip", k):
                return f"{scope}/resnet/skip_{k - 1 if k else 'in'}"
            case ("block", k, *inside):
                return f"{scope}/resnet/block_{k}/{self.inside(inside, first_norm=-1)}"
            case ("pre_out",):
                return f"{scope}/resnet/bn_pre_out"
            case ("out",):
                return f"{scope}/resnet/out"
        return f"{scope}/resnet/{self.inside(role, first_norm=0)}"

    @staticmethod
    def inside(role, first_norm):
        match role:
            case ("norm", j):
                return f"bn_{j + first_norm}" if j + first_norm >= 0 else "bn_in"
            case ("conv", j, last):
                return "out" if last else f"h_{j}"

    def inner(self, module, key):
        return f"{module}/{key}"

    def of_norm(self, scope):
        return {f"{scope}/bn_out/{key}": key for key in ("mean", "var")}

    def of_scale(self, scope, checkerboard):
        return {f"{scope}/{'rescaling_scale' if checkerboard else 'scale'}": "gain", f"{scope}/scale_shift": "shift"}

    def ours(self, name, array, like):
        return array.transpose(3, 2, 0, 1) if name.endswith("/weights") else array

    def theirs(self, name, array, like):
        return array.transpose(2, 3, 1, 0) if name.endswith("/weights") else array


class Port:
    """PyTorch modules, laid out like ours except for axes of length 1."""

    norm = {"weight": ("gain",), "bias": ("bias",), "running_mean": ("mean",), "running_var": ("var",)}
    kernel = {"weight_v": ("v",), "weight": ("W",), "weight_g": ("g",), "bias": ("b",)}

    def inner(self, module, key):
        return f"{module}.{key}"

    def of_norm(self, scope):
        return {f"{scope}out_bn.running_{key}": key for key in ("mean", "var")}

    def ours(self, name, array, like):
        return array.reshape(like.shape)

    def theirs(self, name, array, like):
        return array if like is None else array.reshape(like.shape)


class Chrischute(Port):
    """chrischute/real-nvp; the gains of channels are normalised, g v / |v|, see `realnvp_ports.gains`."""

    def module(self, scope, role):
        inside = {("norm", 0): "in_norm", ("norm", 1): "out_norm", ("conv", 0): "in_conv.conv", ("conv", 1): "out_conv.conv"}
        match role:
            case ("in",):
                return f"{scope}st_net.in_norm"
            case ("first",):
                return f"{scope}st_net.in_conv.conv"
            case ("skip", k):
                return f"{scope}st_net.skips.{k - 1}.conv" if k else f"{scope}st_net.in_skip.conv"
            case ("block", k, kind, j, *_):
                return f"{scope}st_net.blocks.{k}.{inside[kind, j]}"
            case ("pre_out",):
                return f"{scope}st_net.out_norm"
            case ("out",):
                return f"{scope}st_net.out_conv.conv"
        raise ValueError("a network without residual blocks has no counterpart in this port")

    def of_scale(self, scope, checkerboard):
        return {f"{scope}rescale.weight_g": "gains"}


class Fmu2(Port):
    """fmu2/realNVP."""

    def module(self, scope, role):
        block = f"{scope}block.1"
        match role:
            case ("in",):
                return f"{scope}in_bn"
            case ("first",):
                return f"{block}.in_block.conv"
            case ("skip", k):
                return f"{block}.core_skips.{k - 1}.conv" if k else f"{block}.in_skip.conv"
            case ("block", k, "norm", 0):
                return f"{block}.core_block.{k}.in_block.0"
            case ("block", k, "norm", j):
                return f"{block}.core_block.{k}.res_block.{3 * j - 2}"
            case ("block", k, "conv", j, _):
                return f"{block}.core_block.{k}.res_block.{3 * j}.conv"
            case ("pre_out",):
                return f"{block}.out_block.0"
            case ("out",):
                return f"{block}.out_block.2.conv"
            case ("norm", j):
                return f"{block}.block.{3 * j + 1}"
            case ("conv", j, _):
                return f"{block}.block.{3 * j}.conv"

    def of_scale(self, scope, checkerboard):
        return {f"{scope}scale": "gain", f"{scope}scale_shift": "shift"}


# -- the walk ---------------------------------------------------------------------------------------------------------

def names(flow, scopes, dialect=Authors()):
    """{their name: Entry} for everything in params(); `scopes`: the scopes of their couplings, in order."""
    scopes, found = iter(scopes), {}
    for path, stages in chains(flow.bijector, ("bijector",)):
        scope = None
        for i, stage in enumerate(stages):
            here = (*path, "stages", str(i))
            if hasattr(stage, "net"):
                scope = next(scopes)
                found |= of_coupling(stage, here, scope, dialect)
            elif isinstance(stage, BatchNorm):
                changed = ... if stage.passes.shape[0] == 1 else ~stage.passes.ravel()
                found |= {name: ((*here, key), changed) for name, key in dialect.of_norm(scope).items()}
    return {name: Entry(where, part, dialect.ours, dialect.theirs) for name, (where, part) in found.items()}


def chains(f, path):
    """(path, stages) of the chain of each scale."""
    if isinstance(f, Inverse):
        yield from chains(f.inner, (*path, "inner"))
    elif isinstance(f, Chain):
        yield path, f.stages
        last = f.stages[-1]
        if isinstance(last, FactorOut):
            yield from chains(last.rest, (*path, "stages", str(len(f.stages) - 1), "rest"))


def of_coupling(coupling, path, scope, dialect):
    checkerboard = isinstance(coupling.net, MaskedInput)
    net, net_path = (coupling.net.net, (*path, "net", "net")) if checkerboard else (coupling.net, (*path, "net"))
    found = {}
    for role, here, layer in modules(net.layers, (*net_path, "layers")):
        found |= of_module(layer, here, dialect.module(scope, role), dialect)
    if isinstance(coupling, Coupling):
        scale = coupling.affine_form.scale
        found |= {name: ((*path, *coupling.affine_form.path, key), ...)
                  for name, key in dialect.of_scale(scope, checkerboard).items() if getattr(scale, key) is not None}
    return found


def of_module(layer, path, module, dialect):
    """The names of a normalisation's or convolution's arrays."""
    norm = isinstance(layer, BijectorLayer)
    held, path = (layer.f, (*path, "f")) if norm else (layer, path)
    return {dialect.inner(module, theirs): ((*path, key), ...)
            for theirs, ours in (dialect.norm if norm else dialect.kernel).items()
            for key in ours if getattr(held, key, None) is not None}


def modules(layers, path):
    """(role, path, layer) of the normalisations and convolutions of a network, whose first layers belong to its input."""
    layers = list(enumerate(layers))
    first = next(i for i, layer in layers if isinstance(layer, CONVOLUTIONS))
    for i, layer in layers[:first]:
        if isinstance(layer, BijectorLayer):
            yield ("in",), (*path, str(i)), layer
    if not any(isinstance(layer, (SkipSum, Residual)) for _, layer in layers):
        yield from numbered([(path, i, layer) for i, layer in layers[first:]], ())
        return
    k, convolutions = 0, iter((("first",), ("out",)))
    for i, layer in layers[first:]:
        here = (*path, str(i))
        if isinstance(layer, CONVOLUTIONS):
            yield next(convolutions), here, layer
        elif isinstance(layer, BijectorLayer):
            yield ("pre_out",), here, layer
        elif isinstance(layer, (SkipSum, Residual)):
            skips = isinstance(layer, SkipSum)
            for j, block in enumerate(layer.blocks if skips else [layer]):
                inside = (*here, "blocks", str(j), "inner", "layers") if skips else (*here, "inner", "layers")
                yield from numbered([(inside, i, one) for i, one in enumerate(block.inner.layers)], ("block", k))
                k += 1
            for j, skip in enumerate(layer.skips if skips else ()):
                yield ("skip", j), (*here, "skips", str(j)), skip


def numbered(layers, role):
    """Roles of the normalisations and of the convolutions among layers, each kind numbered."""
    norms, last = 0, sum(isinstance(layer, CONVOLUTIONS) for *_, layer in layers) - 1
    convolutions = 0
    for path, i, layer in layers:
        if isinstance(layer, BijectorLayer):
            yield (*role, "norm", norms), (*path, str(i)), layer
            norms += 1
        elif isinstance(layer, CONVOLUTIONS):
            yield (*role, "conv", convolutions, convolutions == last), (*path, str(i)), layer
            convolutions += 1


# -- arrays -----------------------------------------------------------------------------------------------------------

def by_their_names(nested, named, wanted):
    """{their name: array} for the names `wanted`, laid out like theirs if `wanted` holds arrays of theirs."""
    like = wanted if isinstance(wanted, dict) else {}
    found = {}
    for name in wanted:
        path, part, _, theirs = named[name]
        array = like.get(name)
        found[name] = theirs(name, np.asarray(at_path(nested, path))[part], array if isinstance(array, np.ndarray) else None)
    return found
