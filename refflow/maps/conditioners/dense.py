r"""Dense layer, `R^N -> R^M`.

The map.  With a matrix `W` of weights, and `b` a number for each output,
    h = W a + b                                                                     (1)
    dh/da = W                                                                       (2)

The reverse rule.  From (1), `dh = dW a + W da + db`, hence
    a_bar = W^T h_bar                                                               (3)
    W_bar = h_bar a^T       b_bar = h_bar                                           (4)
summed over the batch if `W` and `b` have no batch.  With events as the rows of a matrix `A` and
the cotangents `h_bar` as the rows of `G`, (1) is `A W^T + b`, (3) is `G W` and (4) is `G^T A`, one matrix product each.
Tangents `A_dot` become `W A_dot`, by (2).  With the cotangent `H_bar` of these, beside (3) and (4),
    A_dot_bar = W^T H_bar       W_bar = H_bar A_dot^T                               (5)

Source: the definition.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Conditioner, case, conditioner, real
from ...core.arithmetic import unit_scaled
from ...core.products import event_sum, outer_sum, product


class textbook:
    """(1) to (5) as they are printed, for one event."""

    def forward(a, W, b):
        return W @ a + b                                                            # (1)

    def jacobian(a, W, b):
        return W                                                                    # (2)

    def vjp(a, W, b, h_bar):
        a_bar = W.T @ h_bar                                                         # (3)
        return a_bar, {"W": np.outer(h_bar, a), "b": h_bar}                         # (4)

    def jvp(a, A_dot, W, b, h_bar, H_bar):
        a_bar, bars = textbook.vjp(a, W, b, h_bar)
        return a_bar, W.T @ H_bar, bars | {"W": bars["W"] + H_bar @ A_dot.T}        # (5)


r"""In floating point.

In (1), a partial sum may overflow where `h` does not.  For `2^-e a`, whose largest entry is in `[1/2, 1)`, it does not:
    h = 2^e W (2^-e a) + b                                                          (6)
"""


@conditioner(source="definition", textbook=textbook)
class Dense(Conditioner):
    """h = W a + b; a (*batch, N), h (*batch, M), W (M, N) or (*batch, M, N), b (M,)."""

    W: Array = real("M", "N")
    b: Array = real("M", default=0.0)
    event_shape = ("N",)

    @property
    def fixed_shape(self):
        return self.W.shape[-1:]

    def output_shape(self, shape):
        if shape != self.fixed_shape:
            raise ValueError(f"its events have N={self.fixed_shape[0]} entries")
        return self.W.shape[-2:-1]

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, a):
        return affine(self.W, self.b, a)                                            # (1) (6)

    def jacobian(self, a):
        return np.broadcast_to(self.W, a.shape[:-1] + self.W.shape[-2:])            # (2)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        def pullback(h_bar):
            W_bar, b_bar = outer_sum(h_bar, a, self.W), event_sum(h_bar, self.b)    # (4)
            return product(self.W.mT, h_bar), {"W": W_bar, "b": b_bar}              # (3)

        return self.forward(a), pullback

    def jvp(self, a, A_dot):
        def pullback(h_bar, H_bar):
            W_bar = h_bar[..., None] * a[..., None, :] + H_bar @ A_dot.mT           # (4) (5)
            return product(self.W.mT, h_bar), self.W.mT @ H_bar, {"W": W_bar, "b": h_bar}       # (3) (4) (5)

        return (self.forward(a), self.W @ A_dot), pullback                          # (2)

    def lipschitz(self):
        """The largest singular value of W."""
        return largest_singular_value(self.W)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Number", "N = M = 1: a scalar affine map", z=[[3.0]], W=[[-0.3]], b=[0.7]),
        case("Wide", "more entries out than in", z=[[2.0, -1.0]], W=[[1.0, 2.0], [0.5, 1.0], [-1.0, 3.0]],
             b=[0.0, 0.0, 1.0]),
        case("Narrow", "more entries in than out", z=[[1.0, 2.0, 3.0]], W=[[0.1, 0.2, 0.3]], b=[0.5]),
        case("Zero", "a last layer that starts at 0: its cotangent of W is not", z=[[1.0, 2.0]], W=[[0.0, 0.0]], b=[0.0]),
        case("Cancelling", "the sum is small beside its terms", z=[[1.0, 1.0, 1.0]], W=[[1e5, -1e5, 1e-5]], b=[0.0]),
        case("Huge", "both products overflow, their sum does not", z=[[2.0**123, 2.0**123], [2.0**1005, 2.0**1005]],
             W=[[2.0**20, 2.0**-1 - 2.0**20], [2.0**-20, 2.0**20]], b=[0.0, 0.0]),
        case("Subnormal", "an event of subnormal numbers", z=[[2.0**-1070, 2.0**-1074]], W=[[3.0, 1.0], [1.0, 0.3]],
             b=[0.0, 0.0]),
    )


def largest_singular_value(W):
    """That of a matrix; the largest one of a batch of them."""
    return float(np.linalg.svd(W.astype(np.float64), compute_uv=False).max(initial=0))


def affine(W, b, a):
    """W a + b."""
    h = product(W, a)
    h += b                                                                          # (1)
    finite = np.isfinite(h)
    return h if finite.all() else np.where(finite, h, scaled_product(W, a) + b)     # (6)


def scaled_product(W, a):
    """W a = 2^e W (2^-e a), so that no partial sum overflows."""
    a, e = unit_scaled(a)                                                           # (6)
    return np.ldexp(product(W, a), e)                                               # (6)
