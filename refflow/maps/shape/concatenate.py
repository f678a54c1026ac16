r"""Parts of an event, each through its own map.

The map.  The event is cut along an axis, and part `i` has the map `f_i`:
    z = (z_1, ..., z_K) along an axis,   x = (f_1(z_1), ..., f_K(z_K))              (1)
    log|det| = sum_i log|det df_i/dz_i|,   J block diagonal up to the order of entries                  (2)

The reverse rule.  By (2), the log-dets of the parts are added, so each part receives the whole `l_bar` and its own `x_i_bar`:
    z_i_bar = f_i*(x_i_bar, l_bar),   z_bar = (z_1_bar, ..., z_K_bar)               (3)
and for the inverse map likewise, with the pullbacks of the inverses.
"""

from __future__ import annotations

import functools

import numpy as np

from ...core import Bijector, Independent, bijector, case, children, plain, refusal
from ...core.sets import product
from ..elementwise import Exp, Sigmoid, Softplus, Tanh
from ..normalization import ActNorm
from .reshape import Reshape

__all__ = ["Concatenate", "stack"]


@bijector(source="definition")
class Concatenate(Bijector):
    """Part i acts on the i-th block, of `sizes[i]` entries along event axis `axis` (negative), of the event.

    All parts are lifted to one event rank.  Raises ValueError when sizes and parts do not match.
    """

    parts: tuple[Bijector, ...] = children()
    sizes: tuple = plain()
    axis: int = plain(-1)

    def __post_init__(self):
        parts, sizes = tuple(self.parts), tuple(int(n) for n in self.sizes)
        if not parts or len(parts) != len(sizes):
            raise ValueError(f"Concatenate: {len(parts)} parts need as many sizes, at least one, not {sizes}")
        uneven = [p for p in parts if p.event_ndim[0] != p.event_ndim[1]]
        if uneven:
            raise ValueError(f"Concatenate: part {uneven[0]} changes the rank of its events; reshape it first")
        rank = max(-self.axis, *(p.event_ndim[0] for p in parts))
        lifted = tuple(Independent(p, rank - p.event_ndim[0]) if p.event_ndim[0] < rank else p for p in parts)
        self._set("parts", lifted)
        self._set("sizes", sizes)
        super().__post_init__()

    event_ndim = property(lambda self: self.parts[0].event_ndim)

    @functools.cached_property
    def domain(self):
        return product([p.domain for p in self.parts], self._sizes, self.axis, self.event_ndim[0])

    @functools.cached_property
    def codomain(self):
        return product([p.codomain for p in self.parts], self._output_sizes, self.axis, self.event_ndim[1])

    def image_of(self, where, side=0):
        """Block by block, if `where` consists of such blocks and is of lower dimension."""
        if not (where.thin and where.parts):
            return super().image_of(where, side)
        here, there = (self._sizes, self._output_sizes)[::1 - 2 * side]
        images = [part.image_of(block, side) for part, block in zip(self.parts, where.parts)]
        fits = len(images) == len(where.parts) == len(self.parts) and None not in images and self._cuts(where, side, here)
        return product(images, there, self.axis, self.event_ndim[1 - side]) if fits else None

    def _cuts(self, where, side, sizes):
        """Has a set the blocks of this map?  Their lengths are known for vectors; for others they are seen when an event comes."""
        if where.axes != self.event_ndim[side] or where.axes > 1:
            return where.axes == self.event_ndim[side]
        shape = self.output_shape((sum(self.sizes),)) if side else (sum(self.sizes),)
        return [block for _, _, block in where.blocks(shape)] == [(n,) for n in sizes(shape)]

    constant_log_det = property(lambda self: all(p.constant_log_det for p in self.parts))
    solver = property(lambda self: any(p.solver for p in self.parts))
    normwise = property(lambda self: any(p.normwise for p in self.parts))

    def _split(self, event, sizes):
        return np.split(event, np.cumsum(sizes)[:-1], self.axis)

    def _cut(self, x):
        return self._split(x, self._output_sizes(self._event(x, 1)))

    def _input_shapes(self, shape):
        return [(*shape[:self.axis], n, *shape[len(shape) + self.axis + 1:]) for n in self.sizes]

    def _output_shapes(self, shape):
        return [p.output_shape(s) for p, s in zip(self.parts, self._input_shapes(shape))]

    def _sizes(self, shape):
        """The lengths of the blocks of an event z."""
        return self.sizes

    def _output_sizes(self, shape):
        """The lengths of the blocks of an event x."""
        return [s[self.axis] for s in self._output_shapes(shape)]

    def output_shape(self, shape):
        if shape[self.axis] != sum(self.sizes):
            raise ValueError(f"its parts take {sum(self.sizes)} entries along axis {self.axis}")
        outputs = self._output_shapes(shape)
        total = sum(s[self.axis] for s in outputs)
        return (*shape[:self.axis], total, *shape[len(shape) + self.axis + 1:])

    def input_shape(self, shape):
        inner = (*shape[:self.axis], sum(self.sizes), *shape[len(shape) + self.axis + 1:])
        if self.output_shape(inner) != tuple(shape):
            raise ValueError(f"its parts give {self.output_shape(inner)[self.axis]} entries along axis {self.axis}")
        return inner

    def _entries(self, shape, sizes):
        index = np.arange(int(np.prod(shape))).reshape(shape)
        return [block.ravel() for block in self._split(index, sizes)]

    @staticmethod
    def definition(m, z, parts, sizes, axis):
        starts, depth = [sum(sizes[:i]) for i in range(len(sizes))], nesting(z) + axis
        blocks = [taken(z, depth, start, start + size) for start, size in zip(starts, sizes)]
        return joined([part.definition(m, block) for part, block in zip(parts, blocks)], depth)     # (1)

    def _each(self, name, blocks):
        return [getattr(p, name)(block) for p, block in zip(self.parts, blocks)]

    def forward(self, z):
        return np.concatenate(self._each("forward", self._split(z, self.sizes)), self.axis)              # (1)

    def inverse(self, x):
        return np.concatenate(self._each("inverse", self._cut(x)), self.axis)                            # (1)

    def log_det(self, z):
        return sum(self._each("log_det", self._split(z, self.sizes)))                                    # (2)

    def inverse_and_log_det(self, x):
        pairs = self._each("inverse_and_log_det", self._cut(x))
        return np.concatenate([z for z, _ in pairs], self.axis), sum(log_det for _, log_det in pairs)    # (2)

    def jacobian(self, z):
        shape = z.shape[z.ndim - self.event_ndim[0]:]
        batch = z.shape[:z.ndim - len(shape)]
        outputs = self._output_shapes(shape)
        rows = self._entries(self.output_shape(shape), [s[self.axis] for s in outputs])
        columns = self._entries(shape, self.sizes)
        J = np.zeros((*batch, sum(map(len, rows)), sum(map(len, columns))), z.dtype)
        for row, column, block in zip(rows, columns, self._each("jacobian", self._split(z, self.sizes))):
            J[..., row[:, None], column] = block                                                         # (2)
        return J

    def vjp(self, z):
        return self._side_by_side("vjp", self._split(z, self.sizes))

    def inverse_vjp(self, x):
        return self._side_by_side("inverse_vjp", self._cut(x))

    def initialised(self, data, rng):
        return self._initialised("initialised", self._split(np.asarray(data), self.sizes), rng)

    def inverse_initialised(self, data, rng):
        data = np.asarray(data)
        return self._initialised("inverse_initialised", self._cut(data), rng)

    def _initialised(self, name, blocks, rng):
        return self.replace(parts=tuple(getattr(p, name)(block, rng) for p, block in zip(self.parts, blocks)))

    def _side_by_side(self, name, blocks):
        results = self._each(name, blocks)
        images = [image for (image, _), _ in results]
        sizes = [image.shape[self.axis] for image in images]

        def pullback(image_bar, log_det_bar):
            bars = [part(bar, log_det_bar) for (_, part), bar in zip(results, self._split(image_bar, sizes))]
            params_bar = {str(i): bar for i, (_, bar) in enumerate(bars)}
            return np.concatenate([bar for bar, _ in bars], self.axis), {"parts": params_bar}            # (3)

        log_det = sum(log_det for (_, log_det), _ in results)                                            # (2)
        return (np.concatenate(images, self.axis), log_det), pullback

    @classmethod
    def examples(cls, source):
        """A scale and a shift of each entry, side by side with maps of one number, or above one of them."""
        size = source.count(1, 2)
        affine = ActNorm(source.signed((size,), -4, 4), source.signed((size,), -4, 4))
        if source.chance(0.25):
            return stack((affine, Tanh())), (2, size)
        others = source.choice(((Tanh(),), (Sigmoid(), Exp()), (Softplus(),)))
        return cls((affine, *others), (size,) + (1,) * len(others)), (size + len(others),)

    hard_cases = (
        case("Parts", "a part of two entries and one of one", z=[[1.0, -2.0, 0.5]], x=[[1.0, -2.0, 0.5]],
             parts=(ActNorm([2.0, -0.5], [1.0, 0.0]), Tanh()), sizes=(2, 1)),
        case("Empty", "a part of no entries", z=[[0.5]], x=[[0.5]], parts=(Exp(), Tanh()), sizes=(0, 1)),
        case("Lifted", "a map of one number acts on a block of images", z=[[[[0.5]], [[-1.0]]]], x=[[[[0.5]], [[-1.0]]]],
             parts=(ActNorm([2.0], [1.0], rank=3), Tanh()), sizes=(1, 1), axis=-3),
        case("Rows", "a map of vectors acts on one row of a matrix", z=[[[1.0, -2.0], [0.5, 0.25]]], x=[[[1.0, -2.0], [0.5, 0.25]]],
             parts=(ActNorm([2.0, -0.5], [1.0, 0.0]), Tanh()), sizes=(1, 1), axis=-2),
    )
    refused = (
        refusal("0 parts need as many sizes, at least one", parts=(), sizes=()),
        refusal("1 parts need as many sizes", parts=(Tanh(),), sizes=(1, 1)),
        refusal("changes the rank of its events; reshape it first", parts=(Tanh(), Reshape((1, 1), (1,))), sizes=(1, 1)),
        refusal("its parts take 2 entries along axis -1", [1.0, 2.0, 3.0], parts=(Tanh(), Exp()), sizes=(1, 1)),
    )


def nesting(nested):
    return 1 + nesting(nested[0]) if isinstance(nested, list) else 0


def taken(nested, depth, start, stop):
    """Entries start .. stop - 1 along the axis number `depth` of nested lists."""
    return nested[start:stop] if depth == 0 else [taken(part, depth - 1, start, stop) for part in nested]


def joined(blocks, depth):
    """Nested lists side by side along an axis."""
    return sum(blocks, []) if depth == 0 else [joined(rows, depth - 1) for rows in zip(*blocks)]


def stack(parts):
    """Part i on the i-th entry of a new leading event axis: Concatenate with blocks of one."""
    parts = tuple(parts)
    rank = 1 + max((p.event_ndim[0] for p in parts), default=0)
    return Concatenate(parts, (1,) * len(parts), -rank)
