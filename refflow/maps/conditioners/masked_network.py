r"""Masked dense networks: `P` outputs for each of `D` entries; the outputs of an entry see only the entries before it.

Every input, hidden unit and output has a degree `m`.  In an order of the entries, the k-th entry and its `P` outputs have
degree `k`, from 1 to `D`; a context has degree 0.  A unit of degree `m'` sees a unit of degree `m` in the layer before it if
    m' >= m                                 in a hidden layer                       (1)
    m' > m                                  in the last layer                       (2)
Thus a hidden unit of degree `m` sees the first `m` entries, and the outputs of the k-th entry see the first `k - 1`.

Degrees of hidden units run from `m_0`, the least degree of an input but at most `D - 1`, to `D - 1`.  A unit of degree 0
sees only the context, if there is one.
    m_i = m_0 + (i mod (D - m_0)),   i = 0, 1, ...                                  "sequential"    (3)
    m_0 <= m_i < D                          uniform, m_0 here the least degree in the layer before, "random"    (4)

Source: (1) (2) (4) Germain, Gregor, Murray & Larochelle, arXiv:1502.03509, sections 3 and 4; (3) as in nflows.
"""

from __future__ import annotations

import numpy as np

from .contextual import Contextual
from .initialisers import kaiming_uniform, xavier_uniform, zero
from .masked_dense import MaskedDense
from .network import ACTIVATIONS
from .residual import Residual
from .sequential import Sequential

__all__ = ["masked_dense_network"]

ORDERS = ("left-to-right", "right-to-left")
DEGREES = ("sequential", "random")


def masked_dense_network(rng, size, hidden, outputs_per_entry, order="left-to-right", degrees="sequential", layout="halves",
                         activation="relu", residual=False, zero_last=True, context=0, dtype=np.float64):
    """A Sequential of masked dense layers from `size` entries to `outputs_per_entry` for each, with activations between them.

    `order`: "left-to-right", "right-to-left", or the entries in their order, where the outputs of entry order[0] see no
    other entry; `degrees` of the hidden units: "sequential", "random", or an array for each hidden layer, for other
    conventions.  With fewer than D - 1 units, sequential degrees leave out the last entries.  `layout` of the outputs:
    "halves", P blocks of D, or "interleaved", P neighbours for each entry.

    `activation`, `zero_last`, `context` and the draw of weights are as in `dense_network`; weights that the masks hide are
    0.  With `residual`, a hidden layer after the first that keeps the width is h + layer(h); each unit's degree must be at
    least that of the unit that is added to it.  ValueError for sizes that are not counts, an unknown word, an order that is
    not a permutation, degrees that do not fit.
    """
    for name, given, least in (("size", size, 1), ("outputs_per_entry", outputs_per_entry, 1), ("context", context, 0),
                               *((f"hidden[{i}]", width, 1) for i, width in enumerate(hidden))):
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
            raise ValueError(f"masked_dense_network: {name} must be an int >= {least}, not {given!r}")
    for name, given, words in (("activation", activation, sorted(ACTIVATIONS)), ("layout", layout, ["halves", "interleaved"])):
        if given not in words:
            raise ValueError(f"masked_dense_network: {name} must be one of {words}, not {given!r}")
    entries = entry_degrees(order, size)
    initialiser = xavier_uniform if activation == "tanh" else kaiming_uniform
    layers, before = [], np.concatenate((entries, np.zeros(context, int)))
    for i, here in enumerate(hidden_degrees(rng, degrees, hidden, size, before)):
        connects = here[:, None] >= before                                          # (1)
        block = [masked_layer(rng, connects, initialiser, dtype), ACTIVATIONS[activation]()]
        kept = residual and len(here) == len(before) and i > 0
        if kept and (here < before).any():
            k = int(np.argmax(here < before))
            raise ValueError(f"masked_dense_network: residual adds unit {k} of degree {before[k]} to one of a lower degree "
                             f"in hidden layer {i}, {here[k]}")
        layers += [Residual(Sequential(block))] if kept else block
        before = here
    outputs = np.tile(entries, outputs_per_entry) if layout == "halves" else np.repeat(entries, outputs_per_entry)
    layers.append(masked_layer(rng, outputs[:, None] > before, zero if zero_last else xavier_uniform, dtype))       # (2)
    net = Sequential(layers)
    return Contextual(net) if context else net


def masked_layer(rng, connects, initialiser, dtype):
    return MaskedDense(initialiser(rng, connects.shape, dtype) * connects, connects)


def entry_degrees(order, size):
    """The degree of each entry, 1 to D."""
    if isinstance(order, str):
        if order not in ORDERS:
            raise ValueError(f"masked_dense_network: order must be one of {ORDERS}, or the entries in order, not {order!r}")
        order = np.arange(size)[::1 if order == ORDERS[0] else -1]
    if not np.array_equal(np.sort(order), np.arange(size)):
        raise ValueError(f"masked_dense_network: order must hold each of 0 .. {size - 1} once, not {order!r}")
    return np.argsort(order) + 1


def hidden_degrees(rng, degrees, hidden, size, inputs):
    """The degrees of the units of each hidden layer."""
    if isinstance(degrees, str) and degrees not in DEGREES:
        raise ValueError(f"masked_dense_network: degrees must be one of {DEGREES}, or an array for each hidden layer, not "
                         f"{degrees!r}")
    if not isinstance(degrees, str):
        return given_degrees(degrees, hidden, size)
    least, layers = min(inputs.min(), size - 1), []
    for width in hidden:
        if degrees == "random":
            layers.append(rng.integers(least, size, width))                         # (4)
            least = layers[-1].min()
        else:
            layers.append(least + np.arange(width) % (size - least))                # (3)
    return layers


def given_degrees(degrees, hidden, size):
    layers = [np.asarray(here) for here in degrees]
    if len(layers) != len(hidden):
        raise ValueError(f"masked_dense_network: degrees must be {len(hidden)} arrays, one for each hidden layer, not "
                         f"{len(layers)}")
    for i, (here, width) in enumerate(zip(layers, hidden)):
        if here.shape != (width,) or here.dtype.kind not in "iu" or ((here < 0) | (here >= size)).any():
            raise ValueError(f"masked_dense_network: degrees[{i}] must be {width} ints in 0 .. {size - 1}, not {here!r}")
    return layers
