r"""Block neural autoregressive map: a network whose `D` outputs rise each with its own input and see the inputs before it.

The layers `k = 1, ..., K` are block triangular, with `A_k` units for each entry, `A_0 = A_K = 1`.  With `h_0 = z`,
    u_k = W_k h_(k-1) + b_k,   x = u_K                                              (1)
    h_k = phi(u_k),   phi(u) = tanh u + c u,   c >= 0 the leak                      (2)
`x_d` depends on `z_1, ..., z_d` alone and rises with `z_d`.  Let `V_k` be the positive block of `W_k` that belongs to entry
`d`, and write `t = tanh u, r = sech u`.  The slopes along entry `d`, as logarithms, are `lambda_0 = 0` and
    mu_k,i = log sum_j V_k,ij exp(lambda_(k-1),j)                                   of u_k      (3)
    lambda_k,i = mu_k,i + log phi'(u_k,i)                                           of h_k      (4)
    log|det J| = sum_d mu_K,d                                                       (5)
    phi' = r^2 + c                                                                  (6)
    log phi' = log(1 + (c - t^2))                              for |u| <= 1         (7)
             = log(exp(2 log r) + c),   log r = log 2 - |u| - log(1 + exp(-2|u|))   for |u| > 1         (8)
    J = W_K diag(phi'(u_(K-1))) W_(K-1) ... diag(phi'(u_1)) W_1                     (9)
(8) is a sum of exponentials, and so keeps its digits where `r^2` underflows.

Inverse, entry after entry: with the entries before `d` known, `x_d - F(z_d) = 0` has one root, since `F`, (1) and (2) along
block `d`, rises.  If `c > 0` or `K = 1`, its slope is nowhere below
    s = s_K,   s_1 = V_1,   s_k = V_k c s_(k-1)                                     (10)
so that the root lies between 0 and `(x_d - F(0))/s`.  The rounding of `F(0)` is small beside
    e = (|x_d| + T_K)/1024,   T_k = |r_k| + (1 + c) V_k T_(k-1),   T_0 = 0          (11)
where `r_k` is what `u_k` owes to `b_k` and to the entries before; the interval is widened by `e/s` on either side.  If `c = 0`
and `K > 1`, `F` is bounded: where all units of the first layer have saturated,
    |z_d| = max_i (20 + |r_1,i|)/V_1,i                                              (12)
it has its limits to within rounding, and an `x_d` that is not between them is not an image.

Reverse rule, from the last layer to the first.  With the shares `rho_ij = V_k,ij exp(lambda_(k-1),j - mu_k,i)`, which sum to 1
over `j`, and `mu_K_bar = l_bar, u_K_bar = x_bar`,
    lambda_(k-1)_bar_j = sum_i mu_k_bar_i rho_ij = mu_(k-1)_bar_j                   (13)
    V_k_bar_ij = u_k_bar_i h_(k-1),j + mu_k_bar_i exp(lambda_(k-1),j - mu_k,i)      (14)
    h_(k-1)_bar = W_k^T u_k_bar,   z_bar = h_0_bar                                  (15)
    u_k_bar = h_k_bar phi' + lambda_k_bar phi''/phi',   phi''/phi' = -2 t r^2/(r^2 + c)         (16)
and the other cotangents of `W_k` and `b_k` as in `block_dense`.  For the inverse map
    w = J^-T (z_bar - l_bar grad log|det J|)                                        by substitution         (17)
    x_bar = w,   params_bar from the rule above at (-w, -l_bar)                     (18)

Source: De Cao, Aziz & Titov, arXiv:1904.04676; with c = 0.01, the block autoregressive network of FlowJAX.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Bijector, bijector, case, children, plain, real
from ...core.arithmetic import scaled, solve_upper
from ...core.words import log_2
from ..conditioners import BlockDense
from ..conditioners.block_dense import block_dense
from ..monotone.solve import increasing_root

SATURATED = 20                          # tanh of it rounds to 1
WIDER = 2.0**-10


@bijector(source="arXiv:1904.04676", domain=real, codomain=real, solver=True)
class BlockAutoregressive(Bijector):
    """x = the output of block triangular `layers`, with tanh(u) + leak u between them; the inverse uses a bracketing solver.

    `layers`: `BlockDense`, the first with one input for each entry, the last with one output.  With leak = 0 the image is
    bounded; ValueError for an x outside it, for layers that do not fit, and for a negative leak.
    """

    layers: tuple = children()
    leak: float = plain(0.01)
    event_ndim = (1, 1)
    event_shape = ("D",)
    terms = property(lambda self: max(layer.fixed_shape[0] for layer in self.layers))       # in its sums

    def _validate(self):
        if not self.layers or not all(isinstance(layer, BlockDense) for layer in self.layers):
            raise ValueError("BlockAutoregressive: layers must be BlockDense, at least one")
        if not 0 <= self.leak < math.inf:
            raise ValueError(f"BlockAutoregressive: leak must be finite and >= 0, not {self.leak!r}")
        D, size = self.layers[0].blocks[0], 1
        for i, layer in enumerate(self.layers):
            if (layer.blocks[0], layer.blocks[2]) != (D, size):
                raise ValueError(f"BlockAutoregressive: layers[{i}] must have {D} blocks of {size} inputs, not "
                                 f"{layer.blocks[0]} of {layer.blocks[2]}")
            size = layer.blocks[1]
        if size != 1:
            raise ValueError(f"BlockAutoregressive: the last layer must have 1 output for each entry, not {size}")
        super()._validate()
        self.dims["D"] = D

    @staticmethod
    def definition(m, z, layers, leak):
        u = layers[0].definition(m, z)                                              # (1)
        for layer in layers[1:]:
            u = layer.definition(m, [m.tanh(v) + leak * v for v in u])              # (1) (2)
        return u

    # -- forward ------------------------------------------------------------------------------------------------------

    def phi(self, u):
        return np.tanh(u) + u.dtype.type(self.leak) * u                             # (2)

    def along(self, event, k):
        """The units after layer k, or before the first, by entry."""
        size = self.layers[k].blocks[1] if k >= 0 else 1
        return event.reshape(*event.shape[:-1], event.shape[-1] // size, size)

    def forward(self, z):
        for layer in self.layers[:-1]:
            z = self.phi(layer.forward(z))                                          # (1) (2)
        return self.layers[-1].forward(z)                                           # (1)

    def forward_and_log_det(self, z):
        h, slopes = z, np.zeros_like(z)[..., None]
        for k, layer in enumerate(self.layers):
            u, mu = layer.forward(h), log_sums(layer.within, slopes)                # (1) (3)
            h, slopes = self.phi(u), mu + self.log_slope(self.along(u, k))          # (2) (4)
        return u, mu[..., 0].sum(-1)                                                # (5)

    def log_slope(self, u):
        c, a = u.dtype.type(self.leak), np.abs(u)
        near = np.log1p(c - np.tanh(np.minimum(a, 1)) ** 2)                         # (7)
        twice_log_r = 2 * (log_2(a) - a - np.log1p(np.exp(-2 * a)))
        far = np.logaddexp(twice_log_r, np.log(c)) if c else twice_log_r            # (8)
        return np.where(a <= 1, near, far)

    def slope_of(self, u):
        """(r^2, phi')."""
        p = np.exp(-np.abs(u))
        r = 2 * p / (1 + p * p)
        return r * r, r * r + u.dtype.type(self.leak)                               # (6)

    def jacobian(self, z):
        h, J = z, None
        for layer in self.layers:
            W, u = layer.jacobian(h), layer.forward(h)
            J = W if J is None else W @ (self.slope_of(before)[1][..., None] * J)   # (9)
            h, before = self.phi(u), u
        return J

    # -- inverse ------------------------------------------------------------------------------------------------------

    def inverse_and_log_det(self, x):
        z = self.inverse(x)
        return z, -self.forward_and_log_det(z)[1]

    def inverse(self, x):
        batch, D = x.shape[:-1], x.shape[-1]
        n = math.prod(batch)
        matrices = [of_events(layer.weights(), batch, 2) for layer in self.layers]
        biases = [of_events(layer.b, batch, 1) for layer in self.layers]
        hidden = [np.zeros((n, D * layer.blocks[2]), x.dtype) for layer in self.layers]             # the h_(k-1)
        x = x.reshape(n, D)
        for d in range(D):
            path = Path(self, matrices, biases, hidden, d)
            hidden[0][:, d] = path.root(x[:, d])
            path.fill(hidden)
        return hidden[0].reshape(*batch, D)

    # -- reverse ------------------------------------------------------------------------------------------------------

    def vjp(self, z):
        h, slopes, passed = z, np.zeros_like(z)[..., None], []
        for k, layer in enumerate(self.layers):
            u, layer_pullback = layer.vjp(h)                                        # (1)
            mu = log_sums(layer.within, slopes)                                     # (3)
            passed.append((layer, layer_pullback, np.exp(slopes[..., None, :] - mu[..., None]), u))
            h, slopes = self.phi(u), mu + self.log_slope(self.along(u, k))          # (2) (4)

        def pullback(x_bar, log_det_bar):
            u_bar, bars = x_bar, {}
            mu_bar = np.broadcast_to(log_det_bar[..., None, None], (*x_bar.shape, 1))
            for k in reversed(range(len(passed))):
                layer, layer_pullback, quotients, _ = passed[k]
                h_bar, bars[str(k)] = layer_pullback(u_bar)                         # (14) (15)
                within_bar = mu_bar[..., None] * quotients
                bars[str(k)]["within"] = bars[str(k)]["within"] + layer.reduce({"within": within_bar})["within"]    # (14)
                mu_bar = (within_bar * layer.within).sum(-2)                        # (13)
                u_bar = h_bar if k == 0 else self.through(passed[k - 1][3], h_bar, mu_bar)
            return u_bar, {"layers": {str(k): bars[str(k)] for k in range(len(passed))}}            # (15)

        return (u, mu[..., 0].sum(-1)), pullback                                    # (5)

    def through(self, u, h_bar, slopes_bar):
        """u_k_bar."""
        squared, slope = self.slope_of(u)
        bend = -2 * np.tanh(u) * (squared / slope if self.leak else 1)
        return h_bar * slope + slopes_bar.reshape(u.shape) * bend                   # (16)

    def inverse_vjp(self, x):
        z = self.inverse(x)
        (x_again, log_det), forward_pullback = self.vjp(z)
        J = self.jacobian(z)

        def pullback(z_bar, log_det_bar):
            grad_l, _ = forward_pullback(np.zeros_like(x_again), np.ones_like(log_det_bar))
            w = scaled(*solve_upper(J.mT, z_bar - log_det_bar[..., None] * grad_l))         # (17)
            return w, forward_pullback(-w, -log_det_bar)[1]                         # (18)

        return (z, -log_det), pullback

    @classmethod
    def examples(cls, source):
        """Two or three layers with up to three units for each entry."""
        D = source.count(1, 3)
        sizes = (1, *(source.count(1, 3) for _ in range(source.count(1, 2))), 1)
        layers = [block_dense(source, D, A, B) for B, A in zip(sizes, sizes[1:])]
        return cls(layers, source.choice((0.01, 0.25))), (D,)

    hard_cases = (
        case("OneLayer", "a triangular matrix", z=[[1.0, -2.0]], x=[[1.0, -2.0]],
             layers=(BlockDense([[[3.0]], [[0.5]]], [[0.0, 0.0], [-4.0, 0.0]], [0.5, -1.0]),), leak=0.01),
        case("Saturated", "tanh rounds to 1, its slope does not round to 0; without a leak the log-det is -2 |u|", z=[[30.0]],
             x=[[0.5]], layers=(BlockDense([[[1.0]]], [[0.0]], [0.0]), BlockDense([[[1.0]]], [[0.0]], [0.0])), leak=0.0),
        case("Leaking", "the leak alone is left of the slope", z=[[40.0]], x=[[1.75]], leak=0.01,
             layers=(BlockDense([[[1.0]]], [[0.0]], [0.0]), BlockDense([[[1.0]]], [[0.0]], [0.0]))),
        case("TwoScales", "two units that saturate at different distances", z=[[0.5]], x=[[1.25]], leak=0.01,
             layers=(BlockDense([[[8.0], [0.125]]], [[0.0], [0.0]], [1.0, -0.5]),
                     BlockDense([[[1.0, 1.0]]], [[0.0, 0.0]], [0.25]))),
        case("NearZero", "the log-det is near 0: c - t^2 is small", z=[[2.0**-20]], x=[[2.0**-20]], leak=0.0,
             layers=(BlockDense([[[1.0]]], [[0.0]], [0.0]), BlockDense([[[1.0]]], [[0.0]], [0.0]))),
    )


def log_sums(V, slopes):
    """log sum_j V_ij exp(slopes_j), for each entry."""
    top = slopes.max(-1, keepdims=True)
    return top + np.log((V * np.exp(slopes - top)[..., None, :]).sum(-1))           # (3)


def of_events(array, batch, core):
    """An array for each event of a batch, as a flat batch; without one, the array alone."""
    if array.ndim == core:
        return array
    full = np.broadcast_to(array, batch + array.shape[array.ndim - core:])
    return full.reshape(math.prod(batch), *array.shape[array.ndim - core:])


class Path:
    """The units of entry d for n events, from z_d to x_d: `blocks`, the V_k, and `rest`, the r_k of (11)."""

    def __init__(self, page, matrices, biases, hidden, d):
        self.page, self.d, self.c = page, d, hidden[0].dtype.type(page.leak)
        self.sizes = [layer.blocks[1:] for layer in page.layers]
        self.blocks, self.rest = [], []
        for W, b, h, (A, B) in zip(matrices, biases, hidden, self.sizes):
            rows, before = slice(d * A, (d + 1) * A), slice(0, d * B)
            self.blocks.append(W[..., rows, d * B:(d + 1) * B])
            self.rest.append(np.matvec(W[..., rows, before], h[:, before]) + b[..., rows])         # (1)

    def block(self, k, i):
        V = self.blocks[k]
        return V if V.ndim == 2 else V[i]

    def units(self, z, i):
        """[u_1, ..., u_K] of the events numbered i."""
        h, found = z[:, None], []
        for k in range(len(self.blocks)):
            u = self.rest[k][i] + np.matvec(self.block(k, i), h)                    # (1)
            found.append(u)
            h = self.page.phi(u)                                                    # (2)
        return found

    def F(self, z, i):
        return self.units(z, i)[-1][:, 0]

    def root(self, x):
        everything = np.arange(len(x))
        lower, upper = (self.limits if self.c == 0 and len(self.blocks) > 1 else self.bracket)(x, everything)
        return increasing_root(lambda z, i: self.F(z, i) - x[i], lower, upper)

    def bracket(self, x, i):
        s, T, n = np.ones((1, 1), x.dtype), np.zeros((1, 1), x.dtype), len(x)
        for k in range(len(self.blocks)):
            s = np.matvec(self.block(k, i), s if k == 0 else self.c * s)            # (10)
            T = np.abs(self.rest[k]) + (1 + self.c) * np.matvec(self.block(k, i), T)        # (11)
        nearest = (x - self.F(np.zeros(n, x.dtype), i)) / s[:, 0]
        e = WIDER * (np.abs(x) + T[:, 0]) / s[:, 0]                                 # (11)
        return np.minimum(nearest, 0) - e, np.maximum(nearest, 0) + e

    def limits(self, x, i):
        far = ((SATURATED + np.abs(self.rest[0])) / self.block(0, i)[..., 0]).max(-1)       # (12)
        outside = ~((self.F(-far, i) < x) & (x < self.F(far, i)))
        if outside.any():
            k = int(np.argmax(outside))
            raise ValueError(f"BlockAutoregressive: x must be in the image, which is bounded without a leak; entry {self.d} of "
                             f"event {k} is {x[k]}, not between {self.F(-far, i)[k]} and {self.F(far, i)[k]}")
        return -far, far

    def fill(self, hidden):
        """The units h_k of entry d, from z_d."""
        n, d = len(hidden[0]), self.d
        for h, u in zip(hidden[1:], self.units(hidden[0][:, d], np.arange(n))):
            A = u.shape[-1]
            h[:, d * A:(d + 1) * A] = self.page.phi(u)                              # (2)
