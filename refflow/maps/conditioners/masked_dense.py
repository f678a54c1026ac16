r"""Dense layer with a mask, `R^N -> R^M`: an output sees the inputs that the mask lets through.

The map.  With a matrix `W` of weights, a mask `M = connects`, and `b` a number for each output,
    h_i = sum_j M_ij W_ij a_j + b_i,   M_ij = 0 or 1                                (1)
    dh_i/da_j = M_ij W_ij                                                           (2)
so that `h_i` does not depend on `a_j` where `M_ij = 0`, whatever the weights.

The reverse rule.  From (1), `dh_i = sum_j M_ij (dW_ij a_j + W_ij da_j) + db_i`, hence
    a_bar_j = sum_i M_ij W_ij h_bar_i                                               (3)
    W_bar_ij = M_ij h_bar_i a_j       b_bar_i = h_bar_i                             (4)
summed over the batch if `W` and `b` have no batch.

Source: Germain, Gregor, Murray & Larochelle, arXiv:1502.03509, section 3.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, constant, real, refusal
from .dense import affine
from ...core.products import event_sum, outer_sum, product


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def forward(a, W, connects, b):
        return (connects * W) @ a + b                                               # (1)

    def jacobian(a, W, connects, b):
        return connects * W                                                         # (2)

    def vjp(a, W, connects, b, h_bar):
        a_bar = (connects * W).T @ h_bar                                            # (3)
        return a_bar, {"W": connects * np.outer(h_bar, a), "b": h_bar}              # (4)


r"""In floating point.

In (1), a partial sum may overflow where `h_i` does not.  For `2^-e a`, whose largest entry is in `[1/2, 1)`, it does not, as in
`Dense`:
    h_i = 2^e sum_j M_ij W_ij (2^-e a_j) + b_i                                      (5)

In (4), `h_bar_i a_j` may overflow where `M_ij = 0`.  There, `W_bar_ij` is 0.                                   (6)
"""


@conditioner(source="arXiv:1502.03509", textbook=textbook)
class MaskedDense(Conditioner):
    """h = (W * connects) a + b; a (*batch, N), h (*batch, M), W (M, N) or (*batch, M, N), b (M,).

    `connects`: a boolean array (M, N), True where an output sees an input.
    """

    W: Array = real("M", "N")
    connects: Array = constant("M", "N")
    b: Array = real("M", default=0.0)
    event_shape = ("N",)

    fixed_shape = property(lambda self: self.W.shape[-1:])

    def _validate(self):
        if self.connects.ndim != 2:
            raise ValueError(f"MaskedDense: connects must have shape (M, N), without a batch, not {self.connects.shape}")
        super()._validate()

    def output_shape(self, shape):
        if shape != self.fixed_shape:
            raise ValueError(f"its events have N={self.fixed_shape[0]} entries")
        return self.W.shape[-2:-1]

    def depends(self, shape):
        return self.connects                                                        # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def weights(self):
        """The matrix that multiplies a."""
        return self.W * self.connects                                               # (2)

    def forward(self, a):
        return affine(self.weights(), self.b, a)                                    # (1) (5)

    def jacobian(self, a):
        W = self.weights()
        return np.broadcast_to(W, a.shape[:-1] + W.shape[-2:])                      # (2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        W = self.weights()

        def pullback(h_bar):
            W_bar, b_bar = outer_sum(h_bar, a, W), event_sum(h_bar, self.b)         # (4)
            return product(W.mT, h_bar), {"W": np.where(self.connects, W_bar, 0), "b": b_bar}       # (3) (4) (6)

        return affine(W, self.b, a), pullback                                       # (1) (5)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Nothing", "no output sees an input: h is b, its Jacobian 0", z=[[1.0, -2.0]], W=[[3.0, 1.0], [2.0, -1.0]],
             connects=[[False, False], [False, False]], b=[0.5, -1.5]),
        case("Everything", "the dense layer", z=[[1.0, -2.0]], W=[[3.0, 1.0], [2.0, -1.0]],
             connects=[[True, True], [True, True]], b=[0.5, -1.5]),
        case("Triangle", "an entry for each of those before it", z=[[1.0, -2.0, 4.0]],
             W=[[3.0, 1.0, 2.0], [2.0, -1.0, 0.5], [1.0, 0.3, 7.0]],
             connects=[[False, False, False], [True, False, False], [True, True, False]], b=[0.0, 0.5, -1.0]),
        case("Cancelling", "what is masked would cancel what is not", z=[[1.0, 1.0, 1.0]], W=[[1e5, -1e5, 1e-5]],
             connects=[[True, False, True]], b=[0.0]),
        case("Huge", "the product that overflows is masked", z=[[2.0**1000, 1.0]], W=[[2.0**60, 3.0]],
             connects=[[False, True]], b=[0.0]),
        case("OneRow", "a row's sum overflows on its way; scaled so that it does not, the other row's would be 0",
             z=[[2.0**1000, 2.0**1000, 2.0**-1000]],
             W=[[2.0**30, 2.0**-1 - 2.0**30, 1.0], [1.0, 1.0, 0.3]],
             connects=[[True, True, False], [False, False, True]], b=[0.0, 0.0]),
    )
    refused = (
        refusal("connects must have shape (M, N), without a batch", W=[[1.0]], connects=[[[True]]], b=[0.0]),
    )
