r"""Invertible residual block, `R^D -> R^D`: an event, and what a contracting network makes of it.

The map.  With a network `net` whose Lipschitz bound `L`, in the 2-norm, is less than 1,
    x = z + net(z)                                                                  (1)
    dx/dz = I + J,   J = dnet/dz at z                                               (2)
    log|det dx/dz| = log det(I + J)                                                 (3)
Since `|J| <= L < 1`, `I + s J` is not singular for any `s` from 0 to 1.  So the determinant keeps the sign that it has at `s = 0`:
it is positive.  For the inverse map, the iteration
    z <- x - net(z)                                                                 (4)
contracts, and converges to the one `z` that (1) takes to `x`, wherever it starts.
    log|det dz/dx| = -log det(I + J)   at that z                                    (5)

The reverse rule.  The derivative of (3) is the sum of `M_ij dJ_ij`, where
    M = (I + J)^-T                                                                  (6)
`jvp` of the network, with the tangents `I`, gives `net(z)` and `J`; its pullback, `jvp*`, takes a cotangent of each to cotangents of `z` and
of the parameters.  With the cotangent `l_bar` of (3),
    z_bar = x_bar + d_bar,   (d_bar, net_bar) = jvp*(x_bar, l_bar M)                (7)
For the inverse map, `z` moves with `x` by `(I + J)^-1`.  With the cotangent `l_bar` of (5),
    x_bar = M (z_bar - d_bar),   (d_bar, .) = jvp*(0, l_bar M)                      (8)
    (., net_bar) = jvp*(-x_bar, -l_bar M)                                           (9)

Source: Behrmann, Grathwohl, Chen, Duvenaud and Jacobsen, Invertible Residual Networks, arXiv:1811.00995, theorem 1 and algorithm 1; the
log-det as here, not as a series.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, Conditioner, bijector, case, child, real, refusal
from ...core.arrays import rounded
from ...core.elimination import log_det_1_plus
from ...core.words import each, passed_on
from ..conditioners import Dense, LayerNorm, ReLU, Sequential, SiLU, SoftplusActivation, TanhActivation
from ..conditioners.dense import largest_singular_value
from ..conditioners.examples import WIDTHS, weights
from .hyperplane import rounded_vjp

HALVINGS = 8                                    # 1, 1/2, ..., 2^-7


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def solved(A, B):
        """A^-1 B, and det A, by elimination."""
        A, B, det = A.copy(), B.copy(), 1
        for k in range(len(A)):
            det = det * A[k, k]
            for i in range(len(A)):
                if i != k:
                    factor = A[i, k] / A[k, k]
                    A[i], B[i] = A[i] - factor * A[k], B[i] - factor * B[k]
        return (B.T / np.diag(A)).T, det

    def at(z, net):
        """I + J, and its determinant."""
        dx = np.eye(len(z), dtype=z.dtype) + net.jacobian(z)                        # (2)
        return dx, textbook.solved(dx, dx)[1]

    def forward(z, net):
        return z + net.forward(z)                                                   # (1)

    def inverse(x, net):
        z, step = x, np.inf
        while True:
            moved = x - net.forward(z)                                              # (4)
            before, step = step, np.max(np.abs(moved - z))
            if not step < before:
                return z
            z = moved

    def jacobian(z, net):
        return textbook.at(z, net)[0]                                               # (2)

    def log_det(z, net):
        return np.log(textbook.at(z, net)[1])                                       # (3)

    def inverse_log_det(x, net):
        return -np.log(textbook.at(textbook.inverse(x, net), net)[1])               # (5)

    def cotangents(z, net):
        """M, and the pullback of net(z) and J."""
        one = np.eye(len(z), dtype=z.dtype)
        return textbook.solved(textbook.at(z, net)[0].T, one)[0], net.jvp(z, one)[1]        # (6)

    def vjp(z, net, x_bar, l_bar):
        M, jvp_pullback = textbook.cotangents(z, net)
        d_bar, _, net_bar = jvp_pullback(x_bar, l_bar * M)                          # (7)
        return x_bar + d_bar, {"net": net_bar}                                      # (7)

    def inverse_vjp(x, net, z_bar, l_bar):
        M, jvp_pullback = textbook.cotangents(textbook.inverse(x, net), net)
        x_bar = M @ (z_bar - jvp_pullback(0 * z_bar, l_bar * M)[0])                 # (8)
        return x_bar, {"net": jvp_pullback(-x_bar, -l_bar * M)[2]}                  # (9)


r"""In floating point.

In (3), `1 + J_ii` loses the digits of a small `J`.  Elimination without exchange of rows, in `J` itself, keeps them: its pivots
are `1 + p_k`, and
    log det(I + J) = sum_k log1p(p_k)                                               (10)
No rows need an exchange, since `v^T (I + J) v >= (1 - L) v^T v`: all pivots are at least `1 - L`.

In (4), many steps are needed if `L` is near 1.  Let `r = z + net(z) - x` be the residual.  The step is Newton's, or else a half,
a quarter and so on of it, to `t = 2^-7`: the longest of these steps that leaves at most `L |r|`:
    z <- z - t (I + J)^-1 r    for the largest such t,   z <- z - r    if there is none             (11)
The second form is (4), and leaves the residual `net(z - r) - net(z)`, which is at most `L |r|`.  So every step takes the residual
to `L |r|` or less, wherever it starts, and Newton's step takes it to a multiple of `|r|^2` near the root.  The steps end when
rounding keeps the residual from falling further; `z` is then within `|r|/(1 - L)` of the root.

In (8) and (9), the network is evaluated at a root, which has the digits of a float and no more.  Where `L` is near 1, its
cotangents may change with the root more than with `x`.  The unit of error therefore counts the root as an input of the network.

In (1) to (9), everything is computed in float64, for float32 too, and rounded once.           (12)
"""


@bijector(source="arXiv:1811.00995", domain=real, codomain=real, solver=True, moderate=True, textbook=textbook)
class InvertibleResidual(Bijector):
    """x = z + net(z), for a network of vectors whose Lipschitz bound is less than 1; z and x are (*batch, D).

    ValueError for a network that is not differentiable everywhere, that changes the size of its events, that has no proved bound
    (`lipschitz`), or a bound of 1 or more.
    """

    net: Conditioner = child()
    event_ndim = (1, 1)

    def _validate(self):
        if not isinstance(self.net, Conditioner) or self.net.event_ndim != (1, 1):
            raise ValueError(f"InvertibleResidual: net must be a network of vectors, not {self.net!r}")
        if not self.net.smooth:
            raise ValueError(f"InvertibleResidual: net must be differentiable everywhere, and a layer of {self.net!r} is not")
        try:
            bound = self.net.lipschitz()
        except NotImplementedError as error:
            raise ValueError(f"InvertibleResidual: net must have a Lipschitz bound < 1, but {error}") from None
        if not bound < 1:
            raise ValueError(f"InvertibleResidual: net must have a Lipschitz bound < 1, not {bound!r}")
        super()._validate()

    def output_shape(self, shape):
        out = tuple(self.net.output_shape(shape))
        if out != tuple(shape):
            raise ValueError(f"net must keep the size of an event, but it makes {shape} to {out}")
        return out

    def input_shape(self, shape):
        return self.output_shape(shape)

    @staticmethod
    def definition(m, z, net):
        handed = each(lambda z_i: passed_on(m, z_i), z)
        return each(lambda z_i, h_i: z_i + h_i, z, net.definition(m, handed))       # (1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        wide = z.astype(np.float64)                                                 # (12)
        return (wide + self.net.unchecked(np.float64).forward(wide)).astype(z.dtype)        # (1)

    def forward_and_log_det(self, z):
        at = Block(self.net, z)
        return rounded((at.z + at.h, at.log_det()), z.dtype)                        # (1) (3)

    def jacobian(self, z):
        return Block(self.net, z).dx.astype(z.dtype)                                # (2)

    def inverse_and_log_det(self, x):
        at = Block(self.net, root(self.net, x))
        return rounded((at.z, -at.log_det()), x.dtype)                              # (5)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        at = Block(self.net, z)

        def pullback(x_bar, l_bar):
            d_bar, _, net_bar = at.pullback(x_bar, l_bar[..., None, None] * at.M())         # (7)
            return x_bar + d_bar, {"net": net_bar}                                  # (7)

        return rounded_vjp((at.z + at.h, at.log_det()), pullback, z.dtype)          # (1) (3)

    def inverse_vjp(self, x):
        at = Block(self.net, root(self.net, x))

        def pullback(z_bar, l_bar):
            M = at.M()
            J_bar = l_bar[..., None, None] * M
            x_bar = np.matvec(M, z_bar - at.pullback(np.zeros_like(z_bar), J_bar)[0])       # (8)
            return x_bar, {"net": at.pullback(-x_bar, -J_bar)[2]}                   # (9)

        return rounded_vjp((at.z, -at.log_det()), pullback, x.dtype)                # (5)

    # -- in floating point --------------------------------------------------------------------------------------------

    @classmethod
    def examples(cls, source):
        size, width = source.count(1, 3), source.choice(WIDTHS)
        middle = source.choice((TanhActivation, SiLU, SoftplusActivation))()
        return cls(Sequential((contraction(source, width, size), middle, contraction(source, size, width)))), (size,)

    hard_cases = (
        case("Line", "D = 1: an increasing map of one number", z=[[0.5], [-3.0]], x=[[0.25], [7.0]],
             net=Sequential((Dense([[2.0]], [0.5]), TanhActivation(), Dense([[-0.4375]], [1.0])))),
        case("Nothing", "J = 0: the log-det is 0, its gradient is not", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=Sequential((Dense([[0.0, 0.0], [0.0, 0.0]], [0.5, -1.0]), TanhActivation(), Dense([[0.5, 0.25], [0.0, 0.5]], [0.0, 0.0])))),
        case("Small", "a small J, whose digits 1 + J loses", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=Dense([[2.0**-30, 2.0**-32], [3 * 2.0**-31, 2.0**-33]], [0.0, 0.0])),
        case("Traceless", "tr J = 0: the log-det is of the second order", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=Dense([[2.0**-10, 2.0**-11], [3 * 2.0**-12, -(2.0**-10)]], [0.0, 0.0])),
        case("Turned", "a rotation: all pivots but the first depend on what is off the diagonal", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             net=Dense([[0.0, -0.9375], [0.9375, 0.0]], [0.5, 0.25])),
        case("Near", "the bound is 1 - 2^-10, and so is the slope at 0, where the map is nearly flat", z=[[0.0], [0.0546875], [-2.0]],
             x=[[2.0**-14], [2.0**-12], [-0.5]],
             net=Sequential((Dense([[1.0]], [0.0]), TanhActivation(), Dense([[2.0**-10 - 1]], [0.0])))),
        case("Steep", "the slope changes within a short way: Newton's step leads astray", z=[[0.5, 0.03125], [0.0, -0.03125]],
             x=[[1.0009765625, -0.0302734375]],
             net=Sequential((Dense([[32.0, 0.0], [0.0, 32.0]], [0.0, 1.0]), TanhActivation(),
                             Dense([[-0.029296875, 0.0], [0.0, -0.029296875]], [1.0, 0.0])))),
    )
    refused = (
        refusal("net must have a Lipschitz bound < 1, not 1.0", net=Dense([[0.0, 1.0], [-1.0, 0.0]], [0.0, 0.0])),
        refusal("net must have a Lipschitz bound < 1, but LayerNorm has no lipschitz", net=LayerNorm([0.5, 0.5], [0.0, 0.0])),
        refusal("net must be a network of vectors", net=TanhActivation()),
        refusal("net must be differentiable everywhere", net=Sequential((Dense([[0.5]], [0.0]), ReLU()))),
    )


class Block:
    """z, h = net(z), I + J and the pullback of h and J, in float64."""

    def __init__(self, net, z):
        self.z, D = z.astype(np.float64), z.shape[-1]                               # (12)
        (self.h, self.J), self.pullback = net.unchecked(np.float64).jvp(self.z, np.broadcast_to(np.eye(D), z.shape + (D,)))
        self.dx = self.J + np.eye(D)                                                # (2)

    def log_det(self):
        """log det(I + J)."""
        return log_det_1_plus(self.J)                                               # (10)

    def M(self):
        return np.linalg.inv(self.dx).mT                                            # (6)


def root(net, x):
    """The z that (1) takes to x."""
    L, net, x = net.lipschitz(), net.unchecked(np.float64), x.astype(np.float64)    # (12)
    z, r, one = x, net.forward(x), np.eye(x.shape[-1])                              # (11)
    while True:
        newton = np.linalg.solve(net.jacobian(z) + one, r[..., None])[..., 0]       # (11)
        share = longest(lambda t: length(residual(net, z - t * newton, x)) <= L * length(r), length(r))     # noqa: B023  (11)
        moved = np.where(share > 0, z - share * newton, z - r)                      # (11)
        left = residual(net, moved, x)
        falls = length(left) < length(r)
        if not falls.any():
            return z
        z, r = np.where(falls, moved, z), np.where(falls, left, r)


def longest(leads, like):
    """The largest share t of a step, 1 or its half, its fourth and so on, at which `leads(t)` holds, for each event; 0 without one."""
    t = np.ones_like(like)
    for _ in range(HALVINGS):
        led = leads(t)                                                              # (11)
        if led.all():
            break
        t = np.where(led, t, t / 2)
    return np.where(led, t, 0)                                                      # (11)


def residual(net, z, x):
    """z + net(z) - x."""
    return (z - x) + net.forward(z)                                                 # (11)


def length(v):
    return np.linalg.norm(v, axis=-1, keepdims=True)


def contraction(source, rows, columns):
    """A dense layer with norm 0.9 and biases up to 1."""
    W = weights(source, (rows, columns))
    return Dense(W * (0.9 / largest_singular_value(W)), weights(source, (rows,)))
