"""FlowJAX: a layer is a bijection and a permutation; a flow is the inverse of its layers, or with `invert=False` the layers."""

from __future__ import annotations

import numpy as np

from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS
from refflow.maps.parametrisations import SPLINES
from refflow.maps.splines import RationalQuadraticSpline

from ..loading import autoregressive, chain, coupling, dense, inverted, masked_dense, permutation, relu, sequential, to_data


def load(m):
    layers = chain(*(layer(m, i) for i in range(m.config["layers"])))
    return to_data([inverted(layers) if m.config["inverted"] else layers], m.answers["x"].shape[-1])


def layer(m, i):
    first = (coupled if m.config["coupling"] else masked)(m, f"{i}.bijections[0].")
    return chain(first, permutation(m.buffers[f"{i}.bijections[1].permutation[0]"]))


def family(m):
    if not m.config["spline"]:
        return affine_family(CONVENTIONS["FlowJAX"], ("shift", "scale"))
    convention, bound = SPLINES[m.library.replace("flowjax_", "FlowJAX ")], m.config["bound"]
    return Family(RationalQuadraticSpline, convention(m.config["knots"], -bound, bound))


def coupled(m, prefix):
    size = m.answers["x"].shape[-1]
    first, last = (f"{prefix}conditioner.layers[{i}]." for i in (0, 1))
    net = sequential(dense(m, first), relu(), dense(m, last))
    return coupling(np.arange(size) < size // 2, net, family(m))


def masked(m, prefix):
    def layer(i):
        name = f"{prefix}masked_autoregressive_mlp.layers[{i}]."
        return masked_dense(m, name, m.buffers[f"{name}weight.args[0]"], names=("weight.args[1]", "bias"))

    return autoregressive(sequential(layer(0), relu(), layer(1)), family(m))
