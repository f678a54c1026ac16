r"""Transformers: compositions of pages for signals `(C, T)`, one position for each token.

With LN the normalisation of the channels at each position, and every `W` a dense layer at each position, a layer is
    h <- h + W_o attention(W_qkv LN(h))                                             (1)
    h <- h + W_2 gelu(W_1 LN(h))                                                    (2)
where `W_qkv` makes queries, then keys, then values, of one head after the other, `W_1` makes `expansion` times as many channels, and
`gelu` is exact, unless there is another `activation`.  With `causal`, no output depends on a later position.  At the start, weights
and biases are drawn as in PyTorch, and every LN has gain 1 and bias 0.

Language models add parts to (1) and (2).  A network has only the parts that are asked for:
    h <- h + N_o W_o attention(G R Q W_qkv N(h))                                    (3)
    h <- h + N_2 W_2 (f(W_1 N(h)) W_3 N(h))                                         (4)
`N` is LN, the normalisation by the root mean square, or nothing; `Q` normalises queries and keys, head by head (`QueryKeyNorm`); `R`
turns their pairs of channels by the angles of the positions (`Rotary`); `G` repeats heads of keys and values that several heads of
queries share (`RepeatedHeads`); `N_o` and `N_2` normalise by the root mean square; and a gated unit with the activation `f` takes the
place of (2) (`GatedLinearUnit`), its `W_1` and `W_3` the rows of one dense layer.  `R` turns neighbours.  Some networks turn the
entries `i` and `i + d/2` of a head of `d` entries; for them, `split_pairs` rearranges queries and keys alike before `R`, which
changes no score:
    a_(2i) <- a_i,   a_(2i+1) <- a_(i+d/2)                                          (5)

A temperature `tau` divides the scores of attention.  Scores are linear in the queries, and so are the queries in the
rows of their weights and biases, or, after `Q`, in the parameters of `Q`:
    W_q <- W_q / tau,   b_q <- b_q / tau                                            (6)
    gain_q <- gain_q / tau                  with Q                                  (7)

A soft clip bounds the outputs of a network by `c`:
    h <- c tanh(h/c)                                                                (8)

`R` turns pair `i` at position `t` by the angle `w_it`.  Positions with several coordinates `y_kt`, as rows and columns of an image, or
places in a text, have the angles
    w_it = sum_k y_kt f_ki                                                          (9)
with a frequency for each coordinate and pair, 0 for the pairs that another coordinate turns.  A coordinate's `n` pairs have
    f_j = base^(-j/n)   for j = 0, ..., n - 1                                       (10)

Source: Vaswani et al., arXiv:1706.03762; the order of LN and attention, Xiong et al., arXiv:2002.04745; (3) to (5), the authors' code
of STARFlow, Gu et al., arXiv:2506.06276; (9) and (10), Su, Lu, Pan, Murtadha, Wen & Liu, arXiv:2104.09864.
"""

from __future__ import annotations

import numpy as np

from ...core import tree
from ...core.rules import ABOVE_0
from ..linear import Permutation
from .bijector_layer import BijectorLayer
from .dense import Dense
from .gated_linear_unit import GatedLinearUnit
from .gelu import GELU
from .layer_norm import LayerNorm
from .positionwise import Positionwise
from .query_key_norm import QueryKeyNorm
from .relative_attention import RelativeAttention
from .repeated_heads import RepeatedHeads
from .residual import Residual
from .rms_norm import RMSNorm
from .rotary import Rotary
from .sequential import Sequential
from .speech_networks import Drawn
from .tanh_activation import TanhActivation
from .times import Times

__all__ = ["at_temperature", "rotary_angles", "soft_clip", "transformer"]

NORMS = ("layer", "root mean square", "none")


def transformer(rng, channels, heads=1, layers=1, expansion=4, causal=False, eps=1e-5, activation=GELU(), dtype=np.float64, *,
                head_size=None, key_heads=None, norm="layer", query_key_norm=False, norm_after=False, gated=False, angles=None,
                split_pairs=False, sees=None):
    """A Sequential of layers (1) and (2), or (3) and (4), from (channels, T) to (channels, T).

    `eps`: of LN; `head_size`: d, channels/heads for None; `key_heads`: G, as many as `heads` for None; `norm`: N, "layer", "root mean
    square" or "none"; `query_key_norm`: Q; `norm_after`: N_o and N_2; `gated`: (4) with the activation f; `angles` (d/2, T): R;
    `split_pairs`: (5); `sees` (T, T): the keys that each query sees.  Weights are drawn from the Generator `rng`.  ValueError for sizes
    that are not counts, for channels that are not a multiple of `heads` if there is no head size, and for another norm.
    """
    draw = Drawn("transformer", rng, dtype)
    draw.counts(channels=channels, heads=heads, layers=layers, key_heads=key_heads or heads, head_size=head_size or 1)
    if head_size is None and channels % heads:
        raise ValueError(f"transformer: channels must be a multiple of heads = {heads}, not {channels}")
    if norm not in NORMS:
        raise ValueError(f"transformer: norm must be one of {NORMS}, not {norm!r}")
    d, G, inside = head_size or channels // heads, key_heads or heads, widened(channels, expansion)
    grouped = [RepeatedHeads(heads, G, d)] if G != heads else []

    def dense(outputs, inputs):
        return Dense(*draw.weights(outputs, inputs))

    def before():
        """[N]"""
        return {"layer": [LayerNorm(np.ones(channels, dtype), eps=eps)], "root mean square": [root_mean_square(channels)], "none": []}[norm]

    def after():
        """[N_o] or [N_2]."""
        return [root_mean_square(channels)] if norm_after else []

    def root_mean_square(n):
        return RMSNorm(np.ones(n, dtype))

    def layer():
        read = [*before(), dense((heads + 2 * G) * d, channels)]
        read += [QueryKeyNorm(root_mean_square(d), root_mean_square(d), heads, G)] if query_key_norm else []
        read += [BijectorLayer(Permutation(neighbours(d, heads + G, G)))] if split_pairs else []        # (5)
        mixed = [Positionwise(part) for part in read]
        mixed += [Rotary(angles, (heads + G) * d)] if angles is not None else []
        mixed += [*grouped, RelativeAttention(heads=heads, causal=causal, sees=sees), Positionwise(dense(channels, heads * d))]
        mixed += [Positionwise(part) for part in after()]
        wide = [dense(2 * inside, channels), GatedLinearUnit(activation)] if gated else [dense(inside, channels), activation]
        own = (*before(), *wide, dense(channels, inside), *after())
        return Residual(Sequential(mixed)), Residual(Positionwise(Sequential(own)))         # (1) (2) (3) (4)

    return Sequential([part for _ in range(layers) for part in layer()])


def widened(channels, expansion):
    """int(channels expansion).  ValueError unless that is at least 1."""
    inside = int(channels * ABOVE_0.checked("transformer", "expansion", expansion))
    if inside < 1:
        raise ValueError(f"transformer: expansion must give at least one channel, not {expansion} of {channels}")
    return inside


def neighbours(d, turned, still):
    """The order (5) of the entries of `turned` heads of queries and keys, and of `still` heads of values."""
    own = np.arange(d).reshape(2, d // 2).T.ravel()                                 # (5)
    return np.concatenate([n * d + (own if n < turned else np.arange(d)) for n in range(turned + still)])


def rotary_angles(positions, pairs, base=1e4):
    """The angles (P, T) of (9) and (10): `positions` (K, T), a row for each coordinate, which turns its number of `pairs`, in order.

    ValueError unless there is a number of pairs, an int of at least 0, for each coordinate.
    """
    positions = np.asarray(positions, np.float64)
    if positions.ndim != 2 or len(positions) != len(pairs):
        raise ValueError(f"rotary_angles: pairs must hold a number for each of the coordinates, positions (K, T), not {pairs!r} for "
                         f"shape {positions.shape}")
    for k, n in enumerate(pairs):
        if isinstance(n, bool) or not isinstance(n, (int, np.integer)) or n < 0:
            raise ValueError(f"rotary_angles: pairs[{k}] must be an int >= 0, not {n!r}")
    frequencies = [float(base) ** (-np.arange(n) / max(n, 1)) for n in pairs]       # (10)
    return np.concatenate([f[:, None] * row for f, row in zip(frequencies, positions)])         # (9)


def soft_clip(net, bound):
    """(8): a network with its outputs h bounded by `bound` > 0."""
    bound = ABOVE_0.checked("soft_clip", "bound", bound)
    return Times(Sequential((Times(net, 1 / bound), TanhActivation())), bound)      # (8)


def at_temperature(net, temperature):
    """A network, or a flow with networks, at a temperature: (6) or (7).

    ValueError unless the temperature is above 0, and for attention whose queries do not come from a dense layer at each position.
    """
    tau = ABOVE_0.checked("at_temperature", "temperature", temperature)
    changed = {}
    for path, value in tree.walk(net):
        if isinstance(value, RelativeAttention):
            changed |= cooled(net, path, tau)
    return net.replace(**tree.nest(changed)) if tau != 1 else net


def cooled(net, path, tau):
    """{path: array}: what makes the queries of the attention at a path, divided by tau."""
    *above, place = path or ("",)
    layers, share = tree.at_path(net, above), 1 / 3
    for i in reversed(range(int(place) if isinstance(layers, tuple) else 0)):
        layer, where = layers[i], (*above, str(i), "layer")
        inner = layer.layer if isinstance(layer, Positionwise) else layer
        if isinstance(inner, RepeatedHeads):
            share = inner.heads / (inner.heads + 2 * inner.key_heads)
        elif isinstance(inner, QueryKeyNorm):
            return {(*where, "queries", key): held / tau for key, held in inner.queries.params().items()}       # (7)
        elif isinstance(layer, Positionwise) and isinstance(inner, Dense):
            rows = np.arange(len(inner.W)) < round(share * len(inner.W))
            return {(*where, "W"): np.where(rows[:, None], inner.W / tau, inner.W),         # (6)
                    (*where, "b"): np.where(rows, inner.b / tau, inner.b)}          # (6)
        elif not isinstance(inner, (Rotary, BijectorLayer)):
            break
    raise ValueError(f"at_temperature: attention must follow a dense layer at each position; {'.'.join(path) or 'the network'} does not")
