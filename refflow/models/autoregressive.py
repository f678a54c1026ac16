"""Autoregressive layers from data to latents, as models of several papers share them."""

from __future__ import annotations

import numpy as np

from ..core import Chain, Flow, Inverse
from ..maps.autoregressive import Autoregressive
from ..maps.conditioners import Contextual, Sequential, masked_dense_network, uniform
from ..maps.densities import StandardNormal

ORDERS = ("left-to-right", "right-to-left")


def autoregressive_flow(rng, size, hidden, families, start, spread, activation, context, dtype):
    """The flow from data through autoregressive maps, one of each family, to N(0, I), in alternating orders of the entries.

    At the start, the network of every layer gives nearly the numbers `start` of its family for every entry: the weights of its
    last layer are drawn from U(-spread, spread).
    """
    stages, b = [], np.repeat(start, size)
    for l, family in enumerate(families):
        net = masked_dense_network(rng, size, hidden, family.size, ORDERS[l % 2], activation=activation, context=context,
                                   dtype=dtype)
        stages.append(Autoregressive(starting(rng, net, spread, b), family))
    return Flow(Inverse(Chain(stages)), StandardNormal(size))


def starting(rng, net, spread, b=None):
    """The network with the weights of its last layer drawn and, if given, its biases b."""
    inner = net.inner if isinstance(net, Contextual) else net
    *layers, last = inner.layers
    W = uniform(rng, last.W.shape, spread, last.W.dtype) * getattr(last, "connects", 1)
    drawn = Sequential((*layers, last.replace(W=W, b=last.b if b is None else np.asarray(b, last.W.dtype))))
    return drawn if inner is net else Contextual(drawn)
