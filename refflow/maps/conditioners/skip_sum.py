r"""A chain of blocks; each block's output has its own path to the output.

The map.  The blocks follow one another, and every `a_k` contributes to the output:
    a_0 = a,   a_k = block_k(a_(k-1))          k = 1, ..., K                        (1)
    h = sum_(k=0)^K skip_k(a_k)                                                     (2)
    dh/da = sum_k S_k A_k,   A_0 = I,   A_k = B_k A_(k-1)                           (3)
where `S_k` is the Jacobian of `skip_k` at `a_k`, and `B_k` the Jacobian of `block_k` at `a_(k-1)`.

The reverse rule.  By (1) and (2), `h` depends on `a_(k-1)` through the next block and through `skip_(k-1)`.  From the last
block to the first,
    a_K_bar = skip_K*(h_bar),   a_(k-1)_bar = block_k*(a_k_bar) + skip_(k-1)*(h_bar)    (4)
and `a_bar = a_0_bar`.

Source: the residual networks of RealNVP's code, Dinh, Sohl-Dickstein & Bengio, arXiv:1605.08803.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Conditioner, case, children, conditioner, refusal
from ...core.products import boolean_product
from ...core.words import each
from .dense import Dense
from .examples import WIDTHS, dense
from .network import network


@conditioner(source="arXiv:1605.08803")
class SkipSum(Conditioner):
    """h = skip_0(a) + skip_1(block_1(a)) + skip_2(block_2(block_1(a))) + ...; there is one skip more than there are blocks."""

    blocks: tuple = children()
    skips: tuple = children()

    event_ndim = property(lambda self: self.skips[0].event_ndim)
    fixed_shape = property(lambda self: self.skips[0].fixed_shape)
    normwise = property(lambda self: any(c.normwise for c in self.components()))
    smooth = property(lambda self: all(c.smooth for c in self.components()))

    def _validate(self):
        if len(self.skips) != len(self.blocks) + 1:
            raise ValueError(f"SkipSum: there must be one skip more than there are blocks, not {len(self.skips)} skips and "
                             f"{len(self.blocks)} blocks")
        super()._validate()

    def output_shape(self, shape):
        outputs = [tuple(self.skips[0].output_shape(shape))]
        for block, skip in zip(self.blocks, self.skips[1:]):
            shape = tuple(block.output_shape(shape))
            outputs.append(tuple(skip.output_shape(shape)))
        if len(set(outputs)) > 1:
            raise ValueError(f"its skips give different shapes, {outputs}")
        return outputs[0]

    def depends(self, shape):
        pattern, through = self.skips[0].depends(shape), np.eye(math.prod(shape), dtype=bool)
        for block, skip in zip(self.blocks, self.skips[1:]):
            through = boolean_product(block.depends(shape), through)
            shape = tuple(block.output_shape(shape))
            pattern = pattern | boolean_product(skip.depends(shape), through)
        return pattern

    @staticmethod
    def definition(m, a, blocks, skips):
        h = skips[0].definition(m, a)                                               # (2)
        for block, skip in zip(blocks, skips[1:]):
            a = block.definition(m, a)                                              # (1)
            h = each(lambda h_i, s_i: h_i + s_i, h, skip.definition(m, a))          # (2)
        return h

    def forward(self, a):
        h = self.skips[0].forward(a)                                                # (2)
        for block, skip in zip(self.blocks, self.skips[1:]):
            a = block.forward(a)                                                    # (1)
            h = h + skip.forward(a)                                                 # (2)
        return h

    def jacobian(self, a):
        A, J = None, self.skips[0].jacobian(a)
        for block, skip in zip(self.blocks, self.skips[1:]):
            B = block.jacobian(a)
            A = B if A is None else B @ A                                           # (3)
            a = block.forward(a)
            J = J + skip.jacobian(a) @ A                                            # (3)
        return J

    def vjp(self, a):
        h, pullback = self.skips[0].vjp(a)                                          # (2)
        skip_pullbacks, block_pullbacks = [pullback], []
        for block, skip in zip(self.blocks, self.skips[1:]):
            a, pullback = block.vjp(a)                                              # (1)
            block_pullbacks.append(pullback)
            part, pullback = skip.vjp(a)
            skip_pullbacks.append(pullback)
            h = h + part                                                            # (2)

        def pullback(h_bar):
            K = len(block_pullbacks)
            blocks, skips = {}, {}
            a_bar, skips[str(K)] = skip_pullbacks[K](h_bar)                         # (4)
            for k in reversed(range(K)):
                through, blocks[str(k)] = block_pullbacks[k](a_bar)                 # (4)
                direct, skips[str(k)] = skip_pullbacks[k](h_bar)
                a_bar = through + direct                                            # (4)
            return a_bar, {"blocks": in_order(blocks), "skips": in_order(skips)}

        return h, pullback

    def initialised(self, data, rng):
        """Each block, initialised on the output of the blocks before it, and each skip on its input."""
        blocks, skips = [], [self.skips[0].initialised(data, rng)]
        for block, skip in zip(self.blocks, self.skips[1:]):
            blocks.append(block.initialised(data, rng))
            data = blocks[-1].forward(data)
            skips.append(skip.initialised(data, rng))
        return self.replace(blocks=tuple(blocks), skips=tuple(skips))

    @classmethod
    def examples(cls, source):
        outputs, sizes = source.choice(WIDTHS), [source.choice(WIDTHS) for _ in range(source.count(1, 3))]
        blocks = [network(source, *of_block) for of_block in zip(sizes, sizes[1:])]
        return cls(blocks, [dense(source, outputs, size) for size in sizes]), (sizes[0],)

    hard_cases = (
        case("NoBlock", "one skip alone", z=[[1.0, -2.0]], blocks=(), skips=(Dense([[1.0, 0.5]], [0.25]),)),
        case("Cancelling", "two skips cancel but for their last digits", z=[[1.0]], blocks=(Dense([[1.0]], [0.0]),),
             skips=(Dense([[1.0]], [0.0]), Dense([[2.0**-20 - 1]], [0.0]))),
    )
    refused = (
        refusal("one skip more than there are blocks, not 1 skips and 1 blocks", blocks=(Dense([[1.0]], [0.0]),),
                skips=(Dense([[1.0]], [0.0]),)),
        refusal("its skips give different shapes", [1.0], blocks=(Dense([[1.0]], [0.0]),),
                skips=(Dense([[1.0]], [0.0]), Dense([[1.0], [2.0]], [0.0, 0.0]))),
    )


def in_order(bars):
    return {key: bars[key] for key in sorted(bars, key=int)}
