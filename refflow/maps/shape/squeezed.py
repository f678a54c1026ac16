r"""A map of squeezed sequences, as a map of sequences: the one place where the length of masks changes.

The map.  With `S` the squeeze of `n = factor` neighbouring positions, and `f` a map of squeezed sequences,
    x = S^-1(f(S(z)))                                                               (1)
    z = S^-1(f^-1(S(x)))                                                            (2)
    log|det dx/dz| = log|det df|                                                    (3)
    dx/dz = P^-1 J_f P,   P the permutation matrix of S                             (4)
A group is valid if its last position is, and positions of other groups are invalid, as in Glow-TTS, which rounds lengths down to
whole groups.  The mask of `f` comes from the mask of the sequence, and then replaces it:
    mask' = (mask_(n-1), mask_(2n-1), ...) for f                                    (5)
    mask_t <- mask'_i for t = n i, ..., n i + n - 1                                 (6)

The reverse rule.  The pullback of `S` is its inverse, so the pullback `f*` stands between squeezes, as `f` does:
    z_bar = S^-1(f*(S(x_bar), l_bar))                                               (7)
and for the inverse map likewise, with the pullback of the inverse of `f`.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, Chain, Independent, bijector, case, child, plain, refusal, sequence_mask
from ...core.compose import refuse_padding_counted
from ...core.rules import count
from ...core.arrays import locked, masked
from ...core.words import zero_where_invalid
from ..constrained import Ordered
from ..elementwise import Exp, ExpScale, Tanh
from ..linear import DenseLinear, Pointwise
from .concatenate import Concatenate
from .squeeze_time import SqueezeTime, squeezed, unsqueezed


@bijector(source="arXiv:2005.11129")
class Squeezed(Bijector):
    """`inner`, a bijector of sequences (factor C, T/factor), on sequences (*batch, C, T).

    `mask`: the valid positions, (*batch, T); `at` gives inner the mask of the groups.  The mask that it keeps has no incomplete
    groups.  ValueError for a factor that is not an int >= 1 or does not divide the length, an inner that is not a bijector of
    sequences, a mask in which the last position of a group is valid and another one is not, and a mask without one of inner.
    """

    inner: Bijector = child()
    factor: int = plain(2, count())
    mask: Array = sequence_mask("T")
    event_ndim = (2, 2)

    domain = property(lambda self: self.inner.domain)
    codomain = property(lambda self: self.inner.codomain)
    constant_log_det = property(lambda self: self.inner.constant_log_det)
    solver = property(lambda self: self.inner.solver)
    normwise = property(lambda self: self.inner.normwise)

    def _validate(self):
        if getattr(self.inner, "event_ndim", None) != (2, 2):
            raise ValueError(f"Squeezed: inner must be a bijector of sequences, event ranks (2, 2), not {self.inner!r}")
        for side in (self.inner.domain, self.inner.codomain):
            if not (side.entrywise and side.alike) or side.thin:
                raise ValueError(f"Squeezed: inner must map sequences whose entries are alike, not {side}")
        if self.mask is not None:
            self._set("mask", locked(self.whole_groups()))
            refuse_padding_counted("Squeezed", self, self.inner)
        super()._validate()

    def whole_groups(self):
        """The mask without incomplete groups."""
        T, n = self.mask.shape[-1], self.factor
        if T % n:
            raise ValueError(f"Squeezed: the length of mask must be a multiple of factor = {n}, not {T}")
        whole = np.repeat(self.mask_inside(self.mask), n, -1)                       # (6)
        if (whole & ~self.mask).any():
            index = np.argwhere(whole & ~self.mask)[0].tolist()
            raise ValueError("Squeezed: mask must hold at every position of a group if it holds at the last one; "
                             f"mask{index} = False")
        return whole

    def mask_inside(self, mask):
        return mask[..., self.factor - 1::self.factor]                              # (5)

    def output_shape(self, shape):
        squeeze = SqueezeTime(self.factor)
        return squeeze.input_shape(self.inner.output_shape(squeeze.output_shape(shape)))

    def input_shape(self, shape):
        squeeze = SqueezeTime(self.factor)
        return squeeze.input_shape(self.inner.input_shape(squeeze.output_shape(shape)))

    def applied_at(self, shape):
        return [(SqueezeTime(self.factor).output_shape(shape), ())]

    @staticmethod
    def definition(m, z, inner, factor, mask):
        x = inner.definition(m, SqueezeTime.definition(m, zero_where_invalid(m, z, mask), factor))
        return SqueezeTime.inverse_definition(m, x, factor)                         # (1)

    def squeezed(self, event):
        return squeezed(masked(event, self.mask), self.factor)

    def unsqueezed(self, event):
        return masked(unsqueezed(event, self.factor), self.mask)

    def forward_and_log_det(self, z):
        x, log_det = self.inner.forward_and_log_det(self.squeezed(z))
        return self.unsqueezed(x), log_det                                          # (1) (3)

    def inverse_and_log_det(self, x):
        z, log_det = self.inner.inverse_and_log_det(self.squeezed(x))
        return self.unsqueezed(z), log_det                                          # (2) (3)

    def forward(self, z):
        return self.unsqueezed(self.inner.forward(self.squeezed(z)))                # (1)

    def inverse(self, x):
        return self.unsqueezed(self.inner.inverse(self.squeezed(x)))                # (2)

    def log_det(self, z):
        return self.inner.log_det(self.squeezed(z))                                 # (3)

    def jacobian(self, z):
        inner = self.inner.jacobian(self.squeezed(z))
        size = inner.shape[-1]
        P = squeezed(np.arange(size).reshape(z.shape[-2:]), self.factor).ravel()
        J = np.zeros((*z.shape[:-2], size, size), inner.dtype)
        J[..., P[:, None], P] = inner                                               # (4)
        return J

    def vjp(self, z):
        return self.reversed(*self.inner.vjp(self.squeezed(z)))

    def inverse_vjp(self, x):
        return self.reversed(*self.inner.inverse_vjp(self.squeezed(x)))

    def reversed(self, image_and_log_det, inner_pullback):
        image, log_det = image_and_log_det

        def pullback(image_bar, log_det_bar):
            event_bar, inner_bar = inner_pullback(self.squeezed(image_bar), log_det_bar)
            return self.unsqueezed(event_bar), {"inner": inner_bar}                 # (7)

        return (self.unsqueezed(image), log_det), pullback

    def initialised(self, data, rng):
        return self.replace(inner=self.inner.initialised(self.squeezed(np.asarray(data)), rng))

    def inverse_initialised(self, data, rng):
        return self.replace(inner=self.inner.inverse_initialised(self.squeezed(np.asarray(data)), rng))

    @classmethod
    def examples(cls, source):
        """A matrix for the channels of groups of two or three positions, with or without a mask."""
        n, groups = source.choice((2, 2, 3)), source.count(1, 2)
        entries = source.signed((n, n), -2, 2) / 4
        inner = Pointwise(DenseLinear(entries + 4 * np.eye(n), source.signed((n,), -4, 4)), 2)
        f, mask = cls(inner, n), source.orders((groups,)) < source.count(1, groups)
        return f.at(mask=np.repeat(mask, n)) if source.chance(0.7) else f, (1, n * groups)

    hard_cases = (
        case("TwoGroups", "two groups of two positions", z=[[[1.0, 2.0, -0.5, 3.0]]], x=[[[1.0, 2.0, -0.5, 3.0]]],
             inner=Pointwise(DenseLinear([[2.0, 1.0], [-1.0, 0.5]], [0.5, 0.0]), 2), factor=2),
        case("Padding", "the second group is incomplete, and 0", z=[[[1.0, 2.0, -0.5, 3.0]]], x=[[[1.0, 2.0, -0.5, 3.0]]],
             inner=Pointwise(DenseLinear([[2.0, 1.0], [-1.0, 0.5]], [0.5, 0.0]), 2, [True, False]), factor=2,
             mask=[True, True, True, False]),
    )
    refused = (
        refusal("inner must be a bijector of sequences", inner=DenseLinear([[2.0]])),
        refusal("inner must be a bijector of sequences", inner=ExpScale()),
        refusal("the length of mask must be a multiple of factor = 2, not 3", inner=Pointwise(DenseLinear(2 * np.eye(2)), 2),
                mask=[True] * 3),
        refusal("mask must hold at every position of a group if it holds at the last one; mask[2] = False",
                inner=Pointwise(DenseLinear(2 * np.eye(2)), 2), mask=[True, True, False, True]),
        refusal("Squeezed: DenseLinear has no mask and would count the padding", mask=[True, True],
                inner=Chain((Independent(DenseLinear([[2.0]]), 1), Tanh()))),
        refusal("inner must map sequences whose entries are alike", inner=Concatenate((Tanh(), Exp()), (1, 1), -2)),
        refusal("inner must map sequences whose entries are alike", inner=Independent(Ordered(), 1)),
    )
