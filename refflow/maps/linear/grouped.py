r"""One small matrix for groups of channels, `R^C -> R^C`: the near-diagonal convolution of Glow-TTS.

The map.  The `C` channels stand in `G = C/S` groups of `S`, `S` even.  Each group has half of its members in each half of the
channels, as a coupling splits them.  Member `s = h S/2 + j` of group `g`, with `h` the half and `0 <= j < S/2`, is the channel
    c(s, g) = h C/2 + g S/2 + j                                                     (1)
All groups share one matrix `W`, whose determinant may have either sign.  With `z_sg` and `x_sg` for the entries of channel
`c(s, g)`,
    x_sg = sum_t W_st z_tg                                                          (2)
    z_sg = sum_t V_st x_tg,   V = W^-1                                              (3)
    dx_sg/dz_tk = W_st for k = g, else 0                                            (4)
    log|det dx/dz| = G log|det W|                                                   (5)
Every group is an event of a dense linear map `f` without a shift.  Its page says how `W` is factored, and how many digits the
solution of (3) keeps.

The reverse rule.  By (5), each group adds its own `log|det W|` to the log-det, so each receives the whole `l_bar`.  All groups
share `W`.  With the pullbacks of `f` and of its inverse, at each group's own event,
    z_bar_g = f*(x_bar_g, l_bar),   W_bar = the sum over the groups                 (6)
    x_bar_g = (f^-1)*(z_bar_g, l_bar),   W_bar = the sum over the groups            (7)
The unit of error is normwise, as for the dense map.

Source: Kim, Kim, Kong & Yoon, arXiv:2005.11129, section 3.2; the order (1) is in the authors' code, `InvConvNear`.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, invertible, real, refusal, tree
from .dense import DenseLinear


def channel(s, g, S, C):
    """c(s, g) of (1)."""
    h, j = divmod(s, S // 2)
    return h * (C // 2) + g * (S // 2) + j                                          # (1)


@bijector(source="arXiv:2005.11129", domain=real, codomain=real, constant_log_det=True, normwise=True, infinite_events=True)
class GroupedLinear(Bijector):
    """x = W z in each group of S channels; z and x (*batch, C), W (S, S) and invertible.

    ValueError if S is odd, and for events whose C is not a multiple of S.
    """

    W: Array = invertible("S", "S")
    event_ndim = (1, 1)
    event_shape = ("C",)

    def _validate(self):
        if self.W.shape[-1] % 2 or not self.W.shape[-1]:
            raise ValueError(f"GroupedLinear: W must have an even number of rows, not {self.W.shape[-1]}")
        super()._validate()

    def output_shape(self, shape):
        if shape[0] % self.W.shape[-1]:
            raise ValueError(f"the number of channels must be a multiple of S = {self.W.shape[-1]}")
        return shape

    input_shape = output_shape

    @staticmethod
    def definition(m, z, W):
        S, C = len(W), len(z)
        x = [m.mpf(0)] * C
        for g in range(C // S):
            for s in range(S):
                x[channel(s, g, S, C)] = sum(W[s][t] * z[channel(t, g, S, C)] for t in range(S))    # (2)
        return x

    def group(self):
        """The map of one group; a batch of matrices gets an axis for the groups."""
        W = self.W if self.W.ndim == 2 else self.W[..., None, :, :]
        return tree.copied(self, DenseLinear, W=W, shift=None)

    def groups(self, event):
        """(*batch, C) as (*batch, G, S)."""
        *batch, C = event.shape
        S = self.W.shape[-1]
        return event.reshape(*batch, 2, C // S, S // 2).swapaxes(-3, -2).reshape(*batch, C // S, S)      # (1)

    def channels(self, groups):
        """(*batch, G, S) as (*batch, C)."""
        *batch, G, S = groups.shape
        return groups.reshape(*batch, G, 2, S // 2).swapaxes(-3, -2).reshape(*batch, G * S)              # (1)

    def total(self, log_det):
        return log_det.shape[-1] * log_det[..., :1].sum(-1)                         # (5)

    def forward(self, z):
        return self.channels(self.group().forward(self.groups(z)))                  # (2)

    def log_det(self, z):
        return self.total(self.group().log_det(self.groups(z)))

    def jacobian(self, z):
        C, S = z.shape[-1], self.W.shape[-1]
        at, W = self.groups(np.arange(C)), self.W[..., None, :, :]
        J = np.zeros((*z.shape[:-1], C, C), z.dtype)
        J[..., at[:, :, None], at[:, None, :]] = np.broadcast_to(W, (*z.shape[:-1], C // S, S, S))      # (4)
        return J

    def inverse_and_log_det(self, x):
        z, log_det = self.group().inverse_and_log_det(self.groups(x))               # (3)
        return self.channels(z), self.total(log_det)

    def vjp(self, z):
        return self.of_groups(*self.group().vjp(self.groups(z)))                    # (6)

    def inverse_vjp(self, x):
        return self.of_groups(*self.group().inverse_vjp(self.groups(x)))            # (7)

    def of_groups(self, image_and_log_det, group_pullback):
        image, log_det = image_and_log_det

        def pullback(image_bar, log_det_bar):
            each = np.broadcast_to(log_det_bar[..., None], log_det.shape)
            event_bar, group_bar = group_pullback(self.groups(image_bar), each)
            W_bar = group_bar["W"]
            return self.channels(event_bar), {"W": W_bar if self.W.ndim == 2 else W_bar[..., 0, :, :]}

        return (self.channels(image), self.total(log_det)), pullback

    @classmethod
    def examples(cls, source):
        """A matrix of two or four rows, of one or more groups."""
        S, spread = source.choice((2, 2, 4)), source.choice((1, 1, 2, 10))
        return cls(invertible.draw(source, (S, S), spread=spread)), (S * source.choice((1, 2, 3) if S == 2 else (1,)),)

    hard_cases = (
        case("Order", "two groups: channels 0, 2 and 1, 3", z=[[1.0, 2.0, 4.0, 8.0]], x=[[1.0, 2.0, 4.0, 8.0]],
             W=[[1.0, 3.0], [-0.5, 0.25]]),
        case("HalfOfFour", "two groups of four: channels 0, 1, 4, 5 and 2, 3, 6, 7",
             z=[[1.0, -1.0, 2.0, 0.5, 3.0, -0.25, 1.0, 4.0]], x=[[1.0, -1.0, 2.0, 0.5, 3.0, -0.25, 1.0, 4.0]],
             W=[[1.0, 2.0, 0.0, 0.5], [0.0, 1.0, -1.0, 0.0], [3.0, 0.0, 1.0, 0.0], [0.25, 0.0, 0.0, -2.0]]),
        case("Reflected", "a negative determinant: log-det is of its magnitude", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             W=[[0.0, 2.0], [3.0, 1.0]]),
        case("RowScaled", "a huge row is pivoted first although it is the worst", z=[[1.0, 1.0]], x=[[2.0**20, 2.0]],
             W=[[2.0, 2.0**20], [1.0, 1.0]]),
        case("UnitDeterminant", "log-det is 0, where the logarithms of the pivots, +-20 log 2, cancel",
             z=[[1.0, 1.0, 1.0, 1.0]], x=[[1.0, 1.0, 1.0, 1.0]], W=[[2.0**20, 0.0], [1.0, 2.0**-20]]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], x=[[2.0**-1070, 2.0**-1074]],
             W=[[3.0, 1.0], [1.0, 0.3]]),
    )
    refused = (
        refusal("W must have an even number of rows, not 1", W=[[2.0]]),
        refusal("W must have an even number of rows, not 1", W=[[[2.0]], [[3.0]]]),
        refusal("W must have an even number of rows, not 0", W=np.zeros((1, 2, 0, 0))),
        refusal("W must have an even number of rows, not 3", W=np.zeros((2, 2, 3, 3))),
        refusal("the number of channels must be a multiple of S = 2", [1.0, 2.0, 3.0], W=[[1.0, 0.0], [0.0, 2.0]]),
    )
