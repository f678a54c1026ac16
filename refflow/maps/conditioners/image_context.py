r"""A context `c` in a network for images: the same at every position.

The map.  The network `net` gives one number for each output channel `m`, which is added at every pixel `(y, x)`:
    h_m(y, x) = net_m(c) + sum_k layer_k,m(a)(y, x)                                 (1)
    dh/da = sum_k d layer_k/da,   0 without layers                                  (2)

The reverse rule.  In (1), all pixels of a channel share one output of `net`, whose cotangent is therefore a sum over pixels.
With the pullbacks `layer_k*` at `a` and `net*` at `c`,
    a_bar = sum_k layer_k*(h_bar),   c_bar = net*(sum_yx h_bar_yx)                  (3)

Source: the class-conditional prior of Glow's code (Kingma & Dhariwal, arXiv:1807.03039).
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, child, children, conditioner, context
from ...core.arrays import sum_to_shape
from .conv2d import Conv2d
from .dense import Dense
from .examples import WIDTHS, convolution, dense


@conditioner(source="arXiv:1807.03039")
class ImageContext(Conditioner):
    """h = net(context) + the sum of layers(a), h (*batch, M, H, W).

    `net`: from the context (*batch, K), filled in by `at(context=...)`, to M numbers; `layers`: conditioners of images,
    (*batch, C, H, W) to (*batch, M, H, W), or none.
    """

    net: Conditioner = child()
    layers: tuple = children()
    context: Array = context("K")
    event_ndim = (3, 3)

    normwise = property(lambda self: any(c.normwise for c in self.components()))
    smooth = property(lambda self: all(c.smooth for c in self.components()))

    def output_shape(self, shape):
        size = self.net.fixed_shape if self.context is None else self.context.shape[-1:]
        if size is None:
            raise ValueError("there is no context; fill it in with at(context=...)")
        wanted = (*self.net.output_shape(size), *shape[1:])
        for layer in self.layers:
            given = tuple(layer.output_shape(shape))
            if given != wanted:
                raise ValueError(f"{type(layer).__name__} gives images of shape {given}, its net gives numbers for {wanted}")
        return wanted

    def depends(self, shape):
        pattern = np.zeros_like(super().depends(shape))
        for layer in self.layers:
            pattern = pattern | layer.depends(shape)
        return pattern

    @staticmethod
    def definition(m, a, net, layers, context):
        biases = net.definition(m, context)
        images = [layer.definition(m, a) for layer in layers]
        H, W = len(a[0]), len(a[0][0])
        return [[[bias + sum(image[k][y][x] for image in images) for x in range(W)] for y in range(H)]
                for k, bias in enumerate(biases)]                                   # (1)

    def of_context(self):
        if self.context is None:
            raise ValueError("ImageContext: there is no context; fill it in with at(context=...)")
        return self.context

    def over_positions(self, biases, a):
        """net(c) at every position of a, over the batch of both."""
        batch = np.broadcast_shapes(a.shape[:-3], biases.shape[:-1])
        return np.broadcast_to(biases[..., None, None], (*batch, biases.shape[-1], *a.shape[-2:]))

    def forward(self, a):
        h = self.over_positions(self.net.forward(self.of_context()), a)
        for layer in self.layers:
            h = h + layer.forward(a)                                                # (1)
        return h

    def jacobian(self, a):
        h = self.forward(a)
        batch = h.shape[:-3]
        J = np.zeros((*batch, int(np.prod(h.shape[-3:])), int(np.prod(a.shape[-3:]))), h.dtype)
        for layer in self.layers:
            J = J + layer.jacobian(a)                                               # (2)
        return J

    def vjp(self, a):
        biases, net_pullback = self.net.vjp(self.of_context())
        h, pullbacks = self.over_positions(biases, a), []
        for layer in self.layers:
            part, layer_pullback = layer.vjp(a)
            pullbacks.append(layer_pullback)
            h = h + part                                                            # (1)

        def pullback(h_bar):
            pulled = [layer_pullback(h_bar) for layer_pullback in pullbacks]        # (3)
            a_bar = sum((bar for bar, _ in pulled), np.zeros(a.shape, h_bar.dtype))
            context_bar, net_bar = net_pullback(sum_to_shape(h_bar.sum((-2, -1)), biases.shape))    # (3)
            layers_bar = {str(k): bar for k, (_, bar) in enumerate(pulled)}
            return a_bar, {"net": net_bar, "layers": layers_bar, "context": context_bar}

        return h, pullback

    def initialised(self, data, rng):
        """Its layers, initialised on `data`."""
        return self.replace(layers=tuple(layer.initialised(data, rng) for layer in self.layers))

    @classmethod
    def examples(cls, source):
        channels, outputs, size = (source.choice(WIDTHS) for _ in range(3))
        layers = [convolution(source, outputs, channels) for _ in range(source.count(0, 2))]
        return cls(dense(source, outputs, size), layers, source.signed((size,), -4, 4)), (channels, 2, 1)

    hard_cases = (
        case("ContextAlone", "no layer sees the image", z=[[[[1.0]]]], net=Dense([[2.0]], [0.5]), layers=(), context=[0.25]),
        case("Cancelling", "the context and the image cancel", z=[[[[1.0, 2.0]]]], net=Dense([[-1.0]], [0.0]),
             layers=(Conv2d([[[[1.0]]]], [0.0]),), context=[1.0]),
    )
