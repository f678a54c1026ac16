r"""Events in another shape.

The map.  The entries stay the same, in C order, and only the shape changes:
    x = z with the same entries in C order and another shape                        (1)
    dx/dz = I,   log|det| = 0                                                       (2)

The reverse rule.  By (2), cotangents are unchanged and go back to the other shape:
    z_bar = x_bar with the shape of z                                               (3)
and likewise for the inverse map.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, plain, real
from ...core.sets import reshaped


def nested(flat, shape):
    """A flat list as nested lists of `shape`."""
    if not shape:
        return flat[0]
    step = len(flat) // shape[0] if shape[0] else 0
    return [nested(flat[i * step:(i + 1) * step], shape[1:]) for i in range(shape[0])]


def flattened(nest):
    return [entry for part in nest for entry in flattened(part)] if isinstance(nest, list) else [nest]


@bijector(domain=real, codomain=real, source="definition", constant_log_det=True)
class Reshape(Bijector):
    """Events of shape `input` as events of shape `output`.  Raises ValueError when the sizes differ."""

    input: tuple = plain()
    output: tuple = plain()

    def __post_init__(self):
        self._set("input", tuple(int(n) for n in self.input))
        self._set("output", tuple(int(n) for n in self.output))
        if np.prod(self.input) != np.prod(self.output):
            raise ValueError(f"Reshape: {self.input} and {self.output} have different sizes")
        super().__post_init__()

    event_ndim = property(lambda self: (len(self.input), len(self.output)))

    def image_of(self, where, side=0):
        """The same members in another shape."""
        before, after = (self.input, self.output)[::1 - 2 * side]
        if not where.thin:
            return super().image_of(where, side)
        return reshaped(where, before, after) if len(before) >= where.member_ndim else None

    def output_shape(self, shape):
        if tuple(shape) != self.input:
            raise ValueError(f"it reshapes events of shape {self.input}")
        return self.output

    def input_shape(self, shape):
        if tuple(shape) != self.output:
            raise ValueError(f"its inverse reshapes events of shape {self.output}")
        return self.input

    def part_shapes(self, shape, side):
        """A vector is the flattened event of the other side."""
        here, other = (self.input, self.output) if side == 0 else (self.output, self.input)
        return [other if len(here) == 1 else here]

    @staticmethod
    def definition(m, z, input, output):
        return nested(flattened(z), output)                                         # (1)

    @staticmethod
    def inverse_definition(m, x, input, output):
        return nested(flattened(x), input)                                          # (1)

    def _batch(self, event, side):
        return event.shape[:event.ndim - self.event_ndim[side]]

    def forward(self, z):
        return z.reshape(self._batch(z, 0) + self.output)                           # (1)

    def inverse(self, x):
        return x.reshape(self._batch(x, 1) + self.input)                            # (1)

    def log_det(self, z):
        return np.zeros(self._batch(z, 0), z.dtype)                                 # (2)

    def jacobian(self, z):
        size = int(np.prod(self.input))
        return np.broadcast_to(np.eye(size, dtype=z.dtype), (*self._batch(z, 0), size, size))       # (2)

    def vjp(self, z):
        return self.forward_and_log_det(z), lambda x_bar, log_det_bar: (self.inverse(x_bar), {})    # (3)

    def inverse_vjp(self, x):
        return self.inverse_and_log_det(x), lambda z_bar, log_det_bar: (self.forward(z_bar), {})    # (3)

    @classmethod
    def examples(cls, source):
        here, there = source.choice((((2, 3), (6,)), ((4,), (2, 2)), ((2, 1, 2), (4,)), ((3,), (3,)), ((2,), (1, 2, 1)),
                                    ((2, 3), (3, 2))))
        return cls(here, there), here

    hard_cases = (
        case("Flatten", "an image as a vector, in C order", z=[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]],
             x=[[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]], input=(2, 3), output=(6,)),
        case("Axes", "axes of one entry come and go", z=[[1.0, -2.0]], x=[[[1.0], [-2.0]]], input=(2,), output=(2, 1)),
    )
