r"""Transformers: compositions of pages for signals `(C, T)`, one position for each token.

With LN the normalisation of the channels at each position, and every `W` a dense layer at each position, a layer is
    h <- h + W_o attention(W_qkv LN(h))                                             (1)
    h <- h + W_2 gelu(W_1 LN(h))                                                    (2)
where `W_qkv` makes queries, then keys, then values, of one head after the other, `W_1` makes `expansion` times as many channels, and
`gelu` is exact, unless there is another `activation`.  With `causal`, no output depends on a later position.  At the start, weights
and biases are drawn as in PyTorch, and every LN has gain 1 and bias 0.

At a temperature `tau`, the scores of attention are divided by `tau`.  Scores are linear in the queries, and so are the queries in the
rows of their weights and biases:
    W_q <- W_q / tau,   b_q <- b_q / tau                                            (3)

Source: Vaswani et al., arXiv:1706.03762; the order of LN and attention, Xiong et al., arXiv:2002.04745.
"""

from __future__ import annotations

import numpy as np

from ...core import tree
from ...core.rules import ABOVE_0
from .dense import Dense
from .gelu import GELU
from .layer_norm import LayerNorm
from .positionwise import Positionwise
from .relative_attention import RelativeAttention
from .residual import Residual
from .sequential import Sequential
from .speech_networks import Drawn

__all__ = ["at_temperature", "transformer"]


def transformer(rng, channels, heads=1, layers=1, expansion=4, causal=False, eps=1e-5, activation=GELU(), dtype=np.float64):
    """A Sequential of layers (1) and (2), from (channels, T) to (channels, T).

    `eps`: of LN.  Weights are drawn from the Generator `rng`.  ValueError for sizes that are not counts, and for channels that are
    not a multiple of `heads`.
    """
    draw = Drawn("transformer", rng, dtype)
    draw.counts(channels=channels, heads=heads, layers=layers, expansion=expansion)
    if channels % heads:
        raise ValueError(f"transformer: channels must be a multiple of heads = {heads}, not {channels}")

    def dense(outputs, inputs):
        return Dense(*draw.weights(outputs, inputs))

    def norm():
        return LayerNorm(np.ones(channels, dtype), eps=eps)

    def layer():
        mixed = (Positionwise(norm()), Positionwise(dense(3 * channels, channels)), RelativeAttention(heads=heads, causal=causal),
                 Positionwise(dense(channels, channels)))
        own = (norm(), dense(expansion * channels, channels), activation, dense(channels, expansion * channels))
        return Residual(Sequential(mixed)), Residual(Positionwise(Sequential(own)))         # (1) (2)

    return Sequential([part for _ in range(layers) for part in layer()])


def at_temperature(net, temperature):
    """A network, or a flow with networks, at a temperature: (3).

    ValueError unless the temperature is above 0, and for attention that does not follow a dense layer at each position.
    """
    tau = ABOVE_0.checked("at_temperature", "temperature", temperature)
    changed = {}
    for path, value in tree.walk(net):
        if isinstance(value, RelativeAttention):
            where, layer = dense_before(net, path)
            for key in ("W", "b"):
                array = np.array(getattr(layer, key))
                array[:len(array) // 3] /= tau                                      # (3)
                changed[(*where, key)] = array
    return net.replace(**tree.nest(changed)) if tau != 1 else net


def dense_before(net, path):
    """(path, layer): the dense layer before the attention at a path."""
    *above, place = path or ("",)
    layers = tree.at_path(net, above)
    before = layers[int(place) - 1] if isinstance(layers, tuple) and place != "0" else None
    if not isinstance(before, Positionwise) or not isinstance(before.layer, Dense):
        raise ValueError(f"at_temperature: attention must follow a dense layer at each position; {'.'.join(path) or 'the network'} does not")
    return (*above, str(int(place) - 1), "layer"), before.layer
