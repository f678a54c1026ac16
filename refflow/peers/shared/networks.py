"""Couplings and autoregressive maps whose network is one layer, h = W a + b, with the same numbers in refflow and in a library.

Where `tanh` is chosen, the layer is W tanh(a) + b, which keeps the numbers moderate at every event.  Every number is a small multiple
of 1/8, exact in float32.  A spline without tanh gets numbers that do not depend on the event, W = 0 (`weights=False`): at an event of
1000 they would be so uneven that nobody's knots, which are sums of bins, keep a digit.
"""

from __future__ import annotations

import functools

import numpy as np

from ...core import Chain
from ...maps.autoregressive import Autoregressive, BlockAutoregressive
from ...maps.conditioners import BlockDense, Dense, MaskedDense, Sequential, TanhActivation
from ...maps.coupling import Coupling

SIZE = 3
PASSES = np.array([True, False, False])


def numbers(*shape):
    """The same ones each time."""
    return np.random.default_rng(len(shape) + sum(shape)).integers(-8, 9, shape) / 8


def layer(outputs, inputs, weights=True):
    """(W, b) of a layer."""
    return weights * numbers(outputs, inputs), numbers(outputs)


def network(dense, tanh, weights):
    """The layer; without weights it stands alone, where `declare` holds its W fixed."""
    return Sequential((TanhActivation(), dense) if tanh else (dense,)) if weights else dense


def network_of(passes, count, tanh=False, weights=True):
    """From the entries that pass to `count` numbers for each of the others."""
    return network(Dense(*layer(count * int(np.sum(~passes)), int(np.sum(passes)), weights)), tanh, weights)


def coupling(family, layout="interleaved", passes=PASSES, tanh=False, weights=True):
    """The entries that do not pass, by the numbers that the network makes of those that do."""
    return Coupling(passes, network_of(passes, family.size, tanh, weights), family, layout)


def connects(size, count, layout="interleaved"):
    """Which of `size` entries each of `count` numbers of each entry may read: the entries before it."""
    before = np.tril(np.ones((size, size), bool), -1)
    return np.tile(before, (count, 1)) if layout == "halves" else np.repeat(before, count, 0)


def autoregressive(family, layout="interleaved", size=SIZE, tanh=False, weights=True):
    """Each entry by the numbers that the network, whose weights are masked, makes of the entries before it."""
    W, b = layer(family.size * size, size, weights)
    return Autoregressive(network(MaskedDense(W, connects(size, family.size, layout), b), tanh, weights), family, layout)


# -- in a library -----------------------------------------------------------------------------------------------------

def layer_of(p):
    """(W, b) in the parameters of a composite, or of its network."""
    net = p.get("net", p)
    net = net["layers"][str(len(net["layers"]) - 1)] if "layers" in net else net
    return net["W"], net["b"]


def outputs(p, units=None):
    """a -> W a + b of arrays of a framework; with `units`, of (*batch, units, numbers)."""
    W, b = layer_of(p)

    def call(a):
        h = a @ W.T + b
        return h if units is None else h.reshape(*h.shape[:-1], units, -1)

    return call


def masked_layer(p, tril):
    """(W, b) of an autoregressive map in layout "interleaved", with the `tril` of a framework: a gradient reaches only the entries
    of W that are read.
    """
    W, b = layer_of(p)
    D = W.shape[1]
    return tril(W.reshape(D, -1, D).swapaxes(0, 1), -1).swapaxes(0, 1).reshape(len(W), D), b


def masked_outputs(p, tril, units=None):
    """As `outputs` of a network whose weights are masked."""
    W, b = masked_layer(p, tril)
    return outputs({"W": W, "b": b}, units)


def by_entry(h, *counts):
    """Outputs in layout "interleaved" as arrays (*batch, entries, count), one for each kind of numbers of an entry."""
    P, ends = sum(counts), np.cumsum((0, *counts))
    each = h.reshape(*h.shape[:-1], h.shape[-1] // P, P)
    return [each[..., a:b] for a, b in zip(ends, ends[1:])]


# -- block autoregressive networks ------------------------------------------------------------------------------------

def block_autoregressive():
    """Of two entries, with two units for each, and the leak of the libraries."""
    return BlockAutoregressive([
        BlockDense([[[0.5], [1.5]], [[0.75], [2.0]]], [[0, 0], [0, 0], [-0.5, 0], [1.25, 0]], [0.25, -0.5, 1.0, 0.0]),
        BlockDense([[[1.5, 0.5]], [[0.25, 1.0]]], [[0, 0, 0, 0], [0.75, -1.0, 0, 0]], [0.5, -0.25])], leak=0.01)


def block_matrix(of, array=np.asarray):
    """(the matrix of a block triangular layer, marks of its blocks on the diagonal); `array` makes the marks a framework's."""
    D, A, B = of["within"].shape
    same, before, block = np.eye(D, dtype=bool), np.tri(D, k=-1, dtype=bool), np.ones((A, B), bool)
    blocks = (array(same[:, None, :, None]) * of["within"][:, :, None, :]).reshape(D * A, D * B)
    return blocks + of["below"] * array(np.kron(before, block)), array(np.kron(same, block))


# -- a page as a composite --------------------------------------------------------------------------------------------

def alone(page):
    """A page as a composite, so that it is asked at its own fields."""
    return page if page.components() else Chain([page])


def of_stage(build):
    """As `declare` wants it for a page `alone`, from build(its fields)."""
    @functools.wraps(build)                             # of the library's module, by which its adapters are found
    def of_fields(params):
        return build(params["stages"]["0"])

    return of_fields
