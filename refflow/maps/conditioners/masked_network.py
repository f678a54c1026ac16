r"""Masked dense networks: `P` outputs for each of `D` entries; the outputs of an entry see only the entries before it.

Every hidden unit `u` has a set `S_u` of entries that it may see, and the outputs of entry `k` have the set `A_k` of entries
before it.  With 1 where a unit sees another and 0 elsewhere,
    M_uj = 1   where S_u contains j                                                 (1)
    M_uv = 1   where S_u contains S_v                                               (2)
    M_kv = 1   where A_k contains S_v                                               (3)
(1) holds in the first layer, (2) between hidden layers, (3) in the last layer.  Every hidden unit sees the context.

In an order the entries stand in places `1, ..., L`; `L = D` unless several entries share a place.  A hidden unit has a degree
`m` and sees the entries in the first `m` places; the outputs of an entry see the entries in the places before its own.  A unit of
degree `m'` thus sees a unit of degree `m`, and the outputs of place `m'` see this unit, where
    m' >= m        in (2),   m' > m   in (3)                                        (4)
Degrees of the hidden units `i = 0, ..., H - 1` run from `m_0` to `L - 1`.  `m_0` is 0 if the context is one of the inputs, and
otherwise 1, or 0 if `L = 1`:
    m_i = m_0 + (i mod (L - m_0))                                                   "sequential"    (5)
    m_0 <= m_i < L          uniform, m_0 here the least degree in the layer before  "random"        (6)
    m_i = max(m_0, ceil((i + 1) (L - 1)/(H + 1)))                                   "equal"         (7)
    m_i = m_0 - 1 + round(1 + i (L - 1 - m_0)/(H - 1)),   halves to even            "rounded"       (8)

In place of an order, any graph without cycles may give the `A_k`.  The sets of hidden units are the distinct `A_k` that see
anything in the layer before, in turn or drawn at random.                           (9)

Source: (4) (6) Germain, Gregor, Murray & Larochelle, arXiv:1502.03509, sections 3 and 4.  nflows, normflows, SurVAE, FlowJAX
and torchflows count degrees as in (5), TensorFlow Probability as in (7), Pyro, NumPyro and FlowTorch as in (8), zuko as in (9).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ...core.products import boolean_product
from .added_context import AddedContext
from .contextual import Contextual
from .dense import Dense
from .gated_context import GatedContext
from .initialisers import kaiming_uniform, uniform, xavier_uniform, zero
from .masked_dense import MaskedDense
from .network import ACTIVATIONS
from .residual import Residual
from .sequential import Sequential
from .skip_sum import SkipSum

__all__ = ["masked_dense_network"]

ORDERS = ("left-to-right", "right-to-left", "random")
DEGREES = ("sequential", "random", "equal", "rounded")
RESIDUALS = (False, True, "pre-activation")
CONTEXTS = ("input", "first layer", "every layer", "added", "gated")
SMALL = 1e-3                                # weights at the end of a residual block, as in nflows


def masked_dense_network(rng, size, hidden, outputs_per_entry, order="left-to-right", degrees="sequential", layout="halves",
                         activation="relu", residual=False, zero_last=True, context=0, dtype=np.float64, context_as="input",
                         skip=False):
    """A network of masked dense layers from `size` entries to `outputs_per_entry` for each, with activations between them.

    `order`: "left-to-right", "right-to-left", "random", or the entries in their order, where the outputs of entry order[0] see
    no other entry; a list of entries in place of one entry puts them in one place, so that none of them sees another.  A
    boolean array (D, D) is a graph: the outputs of entry k see entry j where it is True.  `degrees` of the hidden units:
    "sequential", "random", "equal", "rounded", in a graph one of the first two, or an array for each hidden layer.  With
    fewer than L - 1 units, sequential degrees leave out the last entries.  `layout` of the outputs: "halves", P blocks of D,
    or "interleaved", P neighbours for each entry.

    `activation`, `zero_last` and the draw of weights are as in `dense_network`; weights that the masks hide are 0.  With
    `residual`, a hidden layer after the first that keeps the width is h + layer(h); each unit's set must contain the set of the
    unit that is added to it.  With "pre-activation" the first hidden layer has no activation, and each further one is a block
    h + W' act(W act(h)).  With `skip` a masked layer from the entries directly to the outputs is added.

    `context` is the number of entries of a context, which the network takes through `at(context=...)`; `context_as` says how:
    "input", as further inputs of degree 0; "first layer" or "every layer", by a matrix that no mask hides; "added", by
    act(V c + d) added to the first layer, and by V c + d added to the first layer of each block; "gated", by the same in the
    first layer, and in each block by a factor sigmoid(V c + d).  Unless it is an input, or enters every layer, the outputs of
    the first entry do not depend on it.

    ValueError for sizes that are not counts, an unknown word, an order that is not a permutation, a graph with a cycle,
    degrees that do not fit.
    """
    checked(size=(size, 1), outputs_per_entry=(outputs_per_entry, 1), context=(context, 0),
            **{f"hidden[{i}]": (width, 1) for i, width in enumerate(hidden)})
    for name, given, words in (("activation", activation, sorted(ACTIVATIONS)), ("layout", layout, ["halves", "interleaved"]),
                               ("residual", residual, list(RESIDUALS)), ("context_as", context_as, list(CONTEXTS))):
        if given not in words:
            raise ValueError(f"masked_dense_network: {name} must be one of {words}, not {given!r}")
    made = Made(rng, ACTIVATIONS[activation], xavier_uniform if activation == "tanh" else kaiming_uniform, dtype,
                context, context_as)
    before, sets = sets_of(rng, order, degrees, hidden, size, context and context_as == "input")
    outputs = np.tile(before, (outputs_per_entry, 1)) if layout == "halves" else np.repeat(before, outputs_per_entry, 0)
    if context and context_as in ("added", "gated") and not sets:
        raise ValueError(f"masked_dense_network: context_as {context_as!r} needs a hidden layer")
    layers = made.hidden_layers(sets, residual)
    connects = contains(outputs, sets[-1]) if sets else outputs                     # (3)
    initialiser = zero if zero_last else xavier_uniform
    last = made.layer(connects, initialiser, not sets or context_as == "every layer")
    if skip and sets:
        direct = made.layer(outputs, initialiser, context_as in ("input", "every layer"))
        net = SkipSum((Sequential(layers),), (direct, last))
    else:
        net = Sequential((*layers, last))
    return Contextual(net) if context and context_as == "input" else net


def checked(**counts):
    for name, (given, least) in counts.items():
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
            raise ValueError(f"masked_dense_network: {name} must be an int >= {least}, not {given!r}")


# -- layers -----------------------------------------------------------------------------------------------------------

class Made(NamedTuple):
    """What the layers of a network have in common."""

    rng: np.random.Generator
    activation: type
    initialiser: object
    dtype: object
    context: int
    context_as: str

    def layer(self, connects, initialiser=None, sees_context=False):
        """A masked layer; with `sees_context` its matrix has columns for the context, which no mask hides."""
        joined = sees_context and self.context and self.context_as in ("input", "first layer", "every layer")
        if joined:
            connects = np.concatenate((connects, np.ones((len(connects), self.context), bool)), 1)
        W = (initialiser or self.initialiser)(self.rng, connects.shape, self.dtype)
        layer = MaskedDense(W * connects, connects)
        return Contextual(layer) if joined and self.context_as != "input" else layer

    def of_context(self, width):
        """V c + d."""
        return Dense(self.initialiser(self.rng, (width, self.context), self.dtype))

    def hidden_layers(self, sets, residual):
        layers, before = [], None
        for here in sets:
            if before is None:
                layers += self.first_layer(here, residual)
            elif residual == "pre-activation":
                layers.append(self.block(before, here))
            else:
                both = [self.layer(contains(here, before), None, self.context_as == "every layer"), self.activation()]   # (2)
                layers += [self.residual(before, here, both)] if residual and len(here) == len(before) else both
            before = here
        return layers

    def first_layer(self, here, residual):
        first = self.layer(here, None, True)                                        # (1)
        if self.context and self.context_as in ("added", "gated"):
            first = AddedContext(first, Sequential((self.of_context(len(here)), self.activation())))
        return [first] if residual == "pre-activation" else [first, self.activation()]

    def block(self, before, here):
        """h + W' act(W act(h))."""
        if len(here) != len(before):
            raise ValueError(f"masked_dense_network: residual blocks keep the width, hidden layers have {len(before)} and "
                             f"{len(here)} units")
        first = self.layer(contains(here, before), None, self.context_as == "every layer")          # (2)
        last = self.layer(contains(here, here), lambda rng, shape, dtype: uniform(rng, shape, SMALL, dtype))    # (2)
        if self.context and self.context_as == "added":
            first = AddedContext(first, self.of_context(len(here)))
        inner = Sequential((self.activation(), first, self.activation(), last))
        if self.context and self.context_as == "gated":
            inner = GatedContext(inner, self.of_context(len(here)))
        return self.residual(before, here, [inner])

    def residual(self, before, here, layers):
        """The sum of a layer and the one before it; ValueError if a unit would be added to a unit that may see less."""
        fits = (here >= before).all(1)
        if not fits.all():
            k = int(np.argmin(fits))
            raise ValueError(f"masked_dense_network: residual adds unit {k}, which sees entries {np.flatnonzero(before[k])}, "
                             f"to unit {k} of the next layer, which may see {np.flatnonzero(here[k])}")
        return Residual(layers[0] if len(layers) == 1 else Sequential(layers))


# -- sets of entries --------------------------------------------------------------------------------------------------

def contains(outer, inner):
    """Which sets, rows of booleans, contain which others."""
    return ~boolean_product(~outer, inner.T)


def sets_of(rng, order, degrees, hidden, size, context):
    """(the A_k, [the S_u of each hidden layer]): rows of booleans, one for each entry; `context`: is it an input?"""
    if isinstance(order, np.ndarray) and order.dtype == bool:
        A = acyclic(order, size)
        return A, sets_of_graph(rng, degrees, hidden, A, context)
    places = places_of(rng, order, size)
    layers = hidden_degrees(rng, degrees, hidden, max(places), context)
    return places[:, None] > places, [here[:, None] >= places for here in layers]   # (4)


def places_of(rng, order, size):
    """The place of each entry, 1 to L."""
    if isinstance(order, str):
        if order not in ORDERS:
            raise ValueError(f"masked_dense_network: order must be one of {ORDERS}, or the entries in order, not {order!r}")
        order = rng.permutation(size) if order == "random" else np.arange(size)[::1 if order == ORDERS[0] else -1]
    groups = [np.atleast_1d(group) for group in order if np.size(group)]
    flat = np.concatenate(groups) if groups else np.zeros(0, int)
    if flat.dtype.kind not in "iu" or not np.array_equal(np.sort(flat), np.arange(size)):
        raise ValueError(f"masked_dense_network: order must hold each of 0 .. {size - 1} once, not {order!r}")
    places = np.empty(size, int)
    for place, group in enumerate(groups):
        places[group] = place + 1
    return places


def hidden_degrees(rng, degrees, hidden, L, context):
    """The degrees of the units of each hidden layer."""
    if isinstance(degrees, str) and degrees not in DEGREES:
        raise ValueError(f"masked_dense_network: degrees must be one of {DEGREES}, or an array for each hidden layer, not "
                         f"{degrees!r}")
    if not isinstance(degrees, str):
        return given_degrees(degrees, hidden, L)
    least, layers = 0 if context else min(1, L - 1), []
    for width in hidden:
        i = np.arange(width)
        if degrees == "random":
            layers.append(rng.integers(least, L, width))                            # (6)
            least = layers[-1].min()
        elif degrees == "sequential":
            layers.append(least + i % (L - least))                                  # (5)
        elif degrees == "equal":
            layers.append(np.maximum(least, -(-(i + 1) * (L - 1) // (width + 1))))  # (7)
        else:
            layers.append(least - 1 + np.rint(1 + i * (L - 1 - least) / max(1, width - 1)).astype(int))     # (8)
    return layers


def given_degrees(degrees, hidden, L):
    layers = [np.asarray(here) for here in degrees]
    if len(layers) != len(hidden):
        raise ValueError(f"masked_dense_network: degrees must be {len(hidden)} arrays, one for each hidden layer, not "
                         f"{len(layers)}")
    for i, (here, width) in enumerate(zip(layers, hidden)):
        if here.shape != (width,) or here.dtype.kind not in "iu" or ((here < 0) | (here >= L)).any():
            raise ValueError(f"masked_dense_network: degrees[{i}] must be {width} ints in 0 .. {L - 1}, not {here!r}")
    return layers


def acyclic(graph, size):
    """The graph, if its entries have an order."""
    if graph.shape != (size, size):
        raise ValueError(f"masked_dense_network: a graph in place of order must have shape ({size}, {size}), not {graph.shape}")
    reach = graph
    for _ in range(size.bit_length()):
        reach = reach | boolean_product(reach, reach)
    if reach.diagonal().any():
        raise ValueError(f"masked_dense_network: the graph in place of order must not have a circle; entry "
                         f"{int(np.argmax(reach.diagonal()))} is in one")
    return graph


def sets_of_graph(rng, degrees, hidden, A, context):
    if degrees not in DEGREES[:2]:
        raise ValueError(f"masked_dense_network: degrees in a graph must be one of {DEGREES[:2]}, not {degrees!r}")
    distinct, layers = np.unique(A, axis=0), []
    possible = distinct if context else distinct[distinct.any(1)]
    for width in hidden:
        if not len(possible):
            raise ValueError("masked_dense_network: in the graph no entry sees another, so that hidden units see nothing")
        chosen = rng.integers(0, len(possible), width) if degrees == "random" else np.arange(width) % len(possible)     # (9)
        layers.append(possible[chosen])
        possible = distinct[contains(distinct, layers[-1]).any(1)]
    return layers
