"""Layers that a law puts in place of a network's own, to see what the network does with any layer."""

from __future__ import annotations

import math

import numpy as np

from ..core import Array, Bijector, Conditioner, bijector, child, conditioner, plain, real
from ..core.tree import components, with_components
from ..maps.conditioners import BijectorLayer


@bijector(register=False)
class AsMap(Bijector):
    """A conditioner as the forward half of a map, with log-det 0."""

    net: Conditioner = child()

    event_ndim = property(lambda self: self.net.event_ndim)
    domain = codomain = property(lambda self: self.net.domain)

    def meets_first(self, side):
        return self.net, side

    def output_shape(self, shape):
        return self.net.output_shape(shape)

    def forward(self, a):
        return self.net.forward(a)

    def log_det(self, a):
        return np.zeros(a.shape[:a.ndim - self.event_ndim[0]], a.dtype)

    def jacobian(self, a):
        return self.net.jacobian(a)

    def vjp(self, a):
        h, net_pullback = self.net.vjp(a)

        def pullback(h_bar, log_det_bar):
            a_bar, net_bar = net_pullback(h_bar)
            return a_bar, {"net": net_bar}

        return (h, self.log_det(a)), pullback

    def initialised(self, data, rng):
        return self.replace(net=self.net.initialised(data, rng))


@conditioner(register=False)
class Tangents(Conditioner):
    """A network and its tangents as a network: (h, dh/da A_dot) from a, as one vector.

    `forward` takes the network's Jacobian; the pullback is that of its `jvp`.
    """

    net: Conditioner = child()
    A_dot: Array = real("S", "K")

    event_ndim = property(lambda self: (self.net.event_ndim[0], 1))
    domain = property(lambda self: self.net.domain)
    fixed_shape = property(lambda self: self.net.fixed_shape)
    smooth = property(lambda self: self.net.smooth)

    def meets_first(self, side):
        return self.net, side

    def output_shape(self, shape):
        return (math.prod(self.net.output_shape(shape)) * (1 + self.dims["K"]),)

    def joined(self, a, h, H_dot):
        """The vector of h and of its tangents."""
        batch = a.shape[:a.ndim - self.event_ndim[0]]
        return np.concatenate([h.reshape(*batch, -1), H_dot.reshape(*batch, -1)], -1)

    def forward(self, a):
        return self.joined(a, self.net.forward(a), self.net.jacobian(a) @ self.A_dot)

    def jacobian(self, a):
        v, pullback = self.vjp(a)
        ones = np.eye(v.shape[-1], dtype=v.dtype)
        return np.stack([pullback(np.broadcast_to(one, v.shape))[0].reshape(*v.shape[:-1], -1) for one in ones], -2)

    def vjp(self, a):
        tangents = np.broadcast_to(self.A_dot, a.shape[:a.ndim - self.event_ndim[0]] + self.A_dot.shape[-2:])
        (h, H_dot), net_pullback = self.net.jvp(a, tangents.reshape(*a.shape, -1))

        def pullback(bar):
            split = bar.shape[-1] // (1 + self.dims["K"])
            a_bar, A_dot_bar, net_bar = net_pullback(bar[..., :split].reshape(h.shape), bar[..., split:].reshape(H_dot.shape))
            return a_bar, {"net": net_bar, "A_dot": A_dot_bar.reshape(tangents.shape)}

        return self.joined(a, h, H_dot), pullback


@conditioner(register=False)
class Noting(Conditioner):
    """`layer`, which notes what it is initialised on and what it meets; once initialised, half of it.

    `begun`, `met`: dictionaries; they get an entry under `name`.
    """

    layer: Conditioner = child()
    name: tuple = plain()
    begun: dict = plain()
    met: dict = plain()
    factor: float = plain(1.0)

    event_ndim = property(lambda self: self.layer.event_ndim)
    domain = property(lambda self: self.layer.domain)
    fixed_shape = property(lambda self: self.layer.fixed_shape)

    def output_shape(self, shape):
        return self.layer.output_shape(shape)

    def forward(self, a):
        self.met[self.name] = np.array(a)
        return self.factor * self.layer.forward(a)

    def vjp(self, a):
        h, layer_pullback = self.layer.vjp(a)

        def pullback(h_bar):
            a_bar, layer_bar = layer_pullback(self.factor * h_bar)
            return a_bar, {"layer": layer_bar}

        return self.factor * h, pullback

    def initialised(self, data, rng):
        self.begun[self.name] = np.array(data), rng
        return self.replace(factor=0.5)


def noting(net):
    """(the network with a `Noting` around each of its layers, what these are initialised on, what they meet)."""
    begun, met = {}, {}

    def around(path, layer):
        if isinstance(layer, Bijector):
            return AsMap(Noting(BijectorLayer(layer), path, begun, met))
        return Noting(layer, path, begun, met) if isinstance(layer, Conditioner) else layer

    return with_components(net, {path: around(path, layer) for path, layer in components(net)}), begun, met


@conditioner(register=False)
class Connected(Conditioner):
    """h = W a for events of the shapes `shape` and `image`, row-major: W is positive where `connects` holds, else 0."""

    shape: tuple = plain()
    image: tuple = plain()
    connects: object = plain()

    event_ndim = property(lambda self: (len(self.shape), len(self.image)))
    fixed_shape = property(lambda self: self.shape or None)

    def output_shape(self, shape):
        if tuple(shape) != self.shape:
            raise ValueError(f"its events have shape {self.shape}")
        return self.image

    def depends(self, shape):
        return self.connects

    def weights(self, dtype):
        return self.connects.astype(dtype) / max(1, self.connects.shape[-1])

    def jacobian(self, a):
        W = self.weights(a.dtype)
        return np.broadcast_to(W, a.shape[:a.ndim - len(self.shape)] + W.shape)

    def vjp(self, a):
        W, batch = self.weights(a.dtype), a.shape[:a.ndim - len(self.shape)]

        def pullback(h_bar):
            return (h_bar.reshape(*batch, len(W)) @ W).reshape(a.shape), {}

        return (a.reshape(*batch, W.shape[-1]) @ W.T).reshape(*batch, *self.image), pullback


def connected(net, event, rng, by_positions=False):
    """The network with a `Connected` of a random pattern in place of each layer that meets an event.

    Of signals, either entries or, `by_positions` and in a network of vectors, which sees no more of it, positions are connected.
    """
    noted, _, met = noting(net)
    noted.forward(event)

    def instead(path, layer):
        if path not in met:
            return layer
        rank = layer.event_ndim[0]
        shape = met[path].shape[met[path].ndim - rank:]
        image = tuple(layer.output_shape(shape))
        drawn = np.ones((math.prod(image), math.prod(shape)), bool)
        if rank == 2 and (by_positions or net.event_ndim[0] < 2):
            drawn = np.tile(rng.random((image[1], shape[1])) < 0.5, (image[0], shape[0]))
        elif rank and not by_positions:
            drawn = rng.random(drawn.shape) < 0.5
        return Connected(shape, image, drawn)

    return with_components(net, {path: instead(path, layer) for path, layer in components(net)})
