r"""Block neural autoregressive map: a network whose `D` outputs rise each with its own input and see the inputs before it.

The map.  The layers `k = 1, ..., K` have block triangular weights `W_k`, biases `b_k` and, for each entry, `A_k` units, where
`A_0 = A_K = 1`.  With `h_0 = z`,
    u_k = W_k h_(k-1) + b_k,   x = u_K                                              (1)
    h_k = phi(u_k),   phi(u) = tanh u + c u,   c = leak >= 0                        (2)
    J = W_K diag(phi'(u_(K-1))) W_(K-1) ... diag(phi'(u_1)) W_1                     (3)
    phi' = r^2 + c,   r = sech u                                                    (4)
`x_d` depends on `z_1, ..., z_d` alone.  It rises with `z_d`, because the block `V_k` of `W_k` that belongs to entry `d` is
positive, and so is `phi'`.  The slopes of `u_k` and of `h_k` along entry `d` are `omega_k` and `eta_k`,
    omega_k,i = sum_j V_k,ij eta_{k-1,j},   eta_0 = 1,   eta_k,j = phi'(u_k,j) omega_k,j           (5)
    log|det J| = sum_d log omega_K,d                                                (6)
The inverse goes entry after entry.  With the entries before `d` known, a bisection finds `z_d`, in an interval that is doubled
until it holds this root.  The log-det of the inverse map is
    log|det J^-1| = -log|det J|                                                     (7)

The reverse rule.  With the cotangent `l_bar` of (6), the last layer starts from `u_K_bar = x_bar` and
`omega_K_bar = l_bar/omega_K`.  In every layer, the blocks `V_k` on the diagonal, the blocks `U_k` below it and the biases have
    V_k_bar_ij = u_k_bar_i h_{k-1,j} + omega_k_bar_i eta_{k-1,j}                    (8)
    U_k_bar_ij = u_k_bar_i h_{k-1,j},   b_k_bar = u_k_bar                           (9)
    h_(k-1)_bar = W_k^T u_k_bar,   eta_(k-1)_bar_j = sum_i V_k,ij omega_k_bar_i,   z_bar = h_0_bar             (10)
    u_k_bar = h_k_bar phi' + eta_k_bar omega_k phi'',   omega_k_bar = eta_k_bar phi',   phi'' = -2 t r^2,   t = tanh u      (11)
For the inverse map, whose log-det (7) has the cotangent `l_bar`,
    x_bar = J^-T (z_bar - l_bar grad log|det J|)                                    (12)
where the gradient is `z_bar` of (10) for `x_bar = 0` and `l_bar = 1`, and the fields have the cotangents (8) to (11) for `-x_bar`
and `-l_bar` in the place of `x_bar` and `l_bar`.                                   (13)

Source: De Cao, Aziz & Titov, arXiv:1904.04676; with c = 0.01, the block autoregressive network of FlowJAX.
"""

from __future__ import annotations

import math

import numpy as np

from ...core import Bijector, bijector, case, children, plain, real, refusal
from ...core.rules import AT_LEAST_0
from ...core.pairs import Pair, chosen, exp, nearest, pair
from ...core.products import event_sum, outer_sum
from ...core.words import log_2
from ..conditioners import BlockDense, Dense
from ..conditioners.tanh_activation import sech
from ..conditioners.block_dense import block_dense
from ..conditioners.dense import affine
from ..elementwise.solve import increasing_root

SATURATED = 20                          # tanh of it rounds to 1
WIDER = 2.0**-10
NEAR_0 = 2.0**-27                       # tanh u rounds to u below it


class textbook:
    """(1) to (13) as they are printed, for one event."""

    def placed(blocks, below):
        """A matrix with blocks on its diagonal, and below them the entries of another matrix."""
        _, A, B = blocks.shape
        return np.array([[blocks[i // A, i % A, j % B] if j // B == i // A else below[i, j] if j // B < i // A else 0
                          for j in range(below.shape[1])] for i in range(len(below))])

    def passed(z, layers, leak):
        """W_k, h_(k-1), eta_(k-1), u_k and omega_k of each layer."""
        h, eta, found = z, 1 + 0 * z, []                                            # (5)
        for layer in layers:
            W, V = textbook.placed(layer.within, layer.below), layer.within
            u = W @ h + layer.b                                                     # (1)
            omega = np.concatenate([V_d @ eta_d for V_d, eta_d in zip(V, eta.reshape(len(V), -1))])     # (5)
            found.append((W, h, eta, u, omega))
            h, eta = np.tanh(u) + leak * u, (1 / np.cosh(u) ** 2 + leak) * omega    # (2) (4) (5)
        return found

    def forward(z, layers, leak):
        return textbook.passed(z, layers, leak)[-1][3]                              # (1)

    def entry(d, z_d, z, layers, leak):
        """x_d, where z_d is given apart."""
        return textbook.forward(np.array([*z[:d], z_d, *z[d + 1:]]), layers, leak)[d]

    def inverse(x, layers, leak):
        z = 0 * x
        for d in range(len(x)):
            below, above = -1 + 0 * x[d], 1 + 0 * x[d]
            while textbook.entry(d, below, z, layers, leak) > x[d]:
                below = 2 * below
            while textbook.entry(d, above, z, layers, leak) < x[d]:
                above = 2 * above
            z[d] = (below + above) / 2
            while below < z[d] < above:
                below, above = (z[d], above) if textbook.forward(z, layers, leak)[d] < x[d] else (below, z[d])
                z[d] = (below + above) / 2
        return z

    def jacobian(z, layers, leak):
        (J, *_, u, _), *others = textbook.passed(z, layers, leak)
        for W, *_, next_u, _ in others:
            J, u = W @ ((1 / np.cosh(u) ** 2 + leak)[:, None] * J), next_u          # (3) (4)
        return J

    def log_det(z, layers, leak):
        return np.sum(np.log(textbook.passed(z, layers, leak)[-1][4]))              # (6)

    def inverse_log_det(x, layers, leak):
        return -textbook.log_det(textbook.inverse(x, layers, leak), layers, leak)   # (7)

    def vjp(z, layers, leak, x_bar, l_bar):
        passed, bars = textbook.passed(z, layers, leak), {}
        u_bar, omega_bar = x_bar, l_bar / passed[-1][4]                             # (6)
        for k, layer in reversed(list(enumerate(layers))):
            (W, h, eta, _, _), V, D = passed[k], layer.within, len(layer.within)
            rows = [v.reshape(D, -1) for v in (u_bar, h, omega_bar, eta)]
            blocks = [np.outer(u_d, h_d) + np.outer(omega_d, eta_d) for u_d, h_d, omega_d, eta_d in zip(*rows)]         # (8)
            below = textbook.placed(0 * V, np.outer(u_bar, h))                      # (9)
            bars |= {f"layers.{k}.within": np.array(blocks), f"layers.{k}.below": below, f"layers.{k}.b": u_bar}        # (9)
            h_bar = W.T @ u_bar                                                     # (10)
            eta_bar = np.concatenate([V_d.T @ omega_d for V_d, omega_d in zip(V, rows[2])])         # (10)
            if k > 0:
                *_, u, omega = passed[k - 1]
                t, r = np.tanh(u), 1 / np.cosh(u)                                   # (4) (11)
                u_bar = h_bar * (r ** 2 + leak) - eta_bar * omega * 2 * t * r ** 2  # (11)
                omega_bar = eta_bar * (r ** 2 + leak)                               # (11)
        return h_bar, bars

    def inverse_vjp(x, layers, leak, z_bar, l_bar):
        z = textbook.inverse(x, layers, leak)
        J, D, (gradient, _) = textbook.jacobian(z, layers, leak), len(x), textbook.vjp(z, layers, leak, 0 * z, 1)
        x_bar = z_bar - l_bar * gradient
        for d in reversed(range(D)):
            x_bar[d] = (x_bar[d] - sum(J[i, d] * x_bar[i] for i in range(d + 1, D))) / J[d, d]          # (12)
        return x_bar, textbook.vjp(z, layers, leak, -x_bar, -l_bar)[1]              # (13)


r"""In floating point.

In (5) and (6), the slopes leave the floats where their logarithms do not.  As logarithms, with `lambda_0 = 0`, they are
    mu_k,i = log sum_j V_k,ij exp(lambda_{k-1,j})                                   of u_k      (14)
    lambda_k,i = mu_k,i + log phi'(u_k,i)                                           of h_k      (15)
    log|det J| = sum_d mu_K,d                                                       (16)

In (4), `r^2` underflows where the logarithm of `phi'` is moderate, and the logarithm of a sum near 1 loses digits:
    log phi' = log(1 + (c - t^2))                              for |u| <= 1         (17)
             = log(exp(2 log r) + c),   log r = log 2 - |u| - log(1 + exp(-2|u|))   for |u| > 1         (18)
(18) is a sum of exponentials, and so keeps its digits where `r^2` underflows.

In (7), doubling has no end where `x_d` is not an image.  Let `F` be (1) and (2) along block `d`.  It rises, so `x_d - F(z_d) = 0`
has at most one root.  If `c > 0` or `K = 1`, the slope of `F` is nowhere below
    s = s_K,   s_1 = V_1,   s_k = V_k c s_(k-1)                                     (19)
so that there is a root, between 0 and `(x_d - F(0))/s`.  The rounding of `F(0)` is small beside
    e = (|x_d| + T_K)/1024,   T_k = |r_k| + (1 + c) V_k T_(k-1),   T_0 = 0          (20)
where `r_k` is the part of `u_k` that comes from `b_k` and the entries before; the interval is widened by `e/s` on either side.
If `c = 0` and `K > 1`, `F` is bounded: where all units of the first layer have saturated,
    |z_d| = max_i (20 + |r_1,i|)/V_1,i                                              (21)
`F` has reached its limits to within rounding, and an `x_d` that is not between them is not an image.

In (7), (12) and (13), the digits of `u_1` are needed, but `z_d` may have lost them where it and the entries before it are large.
So the unknown is `y = z_d - m_j`, where `m_j` is the nearest of the points at which a unit of the first layer is 0,
    m_i = -r_1,i/V_1,i,   u_1,i = V_1,i (y + (m_j - m_i))                           (22)
`y` and `m_j - m_i` are at most twice `z_d - m_i`.  With the `m_i` in increasing order, `j` is found before `z_d`,
    j = number of i with F((m_i + m_(i+1))/2) < x_d                                 (23)

In (8), (10) and (11), the slopes and their cotangents leave the floats where their products do not.  With the logarithms of (14)
and (15), `mu_k_bar = omega_k omega_k_bar` and `lambda_k_bar = eta_k eta_k_bar`.  The terms of `lambda_{k-1,j} - mu_k,i` may be
large, and its exponential would lose digits.  So let `s_k,j` be the slope of `h_k,j` in units of the largest of its entry and
layer, `s_0 = 1`, and `w_k,i` the slope of `u_k,i` in the units of `s_{k-1}`,
    exp(lambda_{k-1,j} - mu_k,i) = s_{k-1,j}/w_k,i,   w_k,i = sum_j V_k,ij s_{k-1,j}            (24)
    s_k,j = v_k,j/max_n v_k,n,   v_k,j = w_k,j phi'(u_k,j)                     for c > 0        (25)
    v_k,j = w_k,j exp(2 (min_n |u_k,n| - |u_k,j|))/(1 + exp(-2 |u_k,j|))^2     for c = 0        (26)
A `v_k,j` of (26) that underflows is small beside the `v` of other units.  From the last layer to the first, with the shares
`rho_ij = V_k,ij s_{k-1,j}/w_k,i`, which sum to 1 over `j`, and `mu_K_bar = l_bar`,
    lambda_(k-1)_bar_j = sum_i mu_k_bar_i rho_ij = mu_(k-1)_bar_j                   (27)
    V_k_bar_ij = u_k_bar_i h_{k-1,j} + mu_k_bar_i s_{k-1,j}/w_k,i                   (28)
    u_k_bar = h_k_bar phi' + lambda_k_bar phi''/phi',   phi''/phi' = -2 t r^2/(r^2 + c)         (29)
and the other cotangents of `W_k` and `b_k` as in `block_dense`.

In (8), the terms may cancel where the inputs hardly move their sum: with one unit and without a bias the sum is
`l_bar (1 + u phi''/phi')/V_1`, and at `u = 1.3516`, `c = 0.3210` both this and its derivative are 0.  There the rounding of `u`,
`t` or `r` alone is larger than what is left.  So, along each entry, (1), (2) and (24) to (29) are computed with pairs of
floats, of twice the digits; only the part that comes from `b_k` and from other entries is a sum of floats.  With `p = exp(-|u|)`,
    |t| = (1 - p^2)/(1 + p^2),   r = 2 p/(1 + p^2)                                  (30)
and where `1 - p^2` has few digits, `t` rounds to `u`.

In (13), terms of (8) to (11) cancel: the bias of an entry with one unit moves `z`, but not the log-det at a given `x`.  Let
`sigma_k,i` be the share of `exp(mu_K)` that passes through unit `i` of layer `k`,
    sigma_K = 1,   sigma_{k-1,j} = sum_i sigma_k,i rho_ij                           (31)
and `a_k,i` the cotangent of `u_k,i` at a given `x`.  The rule goes from the last entry to the first, so the `a` of later entries
are known.  With `omega` of (5) and sums over units `i` of later entries,
    q_0 = sum_i W_1,ij a_1,i/omega_K
    q_k,j = (omega_k,j/omega_K) (phi' sum_i W_{k+1,ij} a_{k+1,i} - l_bar sigma_k,j phi''/phi'),   0 < k < K         (32)
is the cotangent that reaches unit `j` otherwise than through units of its own entry, in units of `x_d_bar`.  Along the entry,
    c_k,j = q_k,j + sum_i rho_ij c_{k+1,i},   c_K = 0                               (33)
and with `g_k`, the sum of `z_d_bar/omega_K` and of all `q_m` with `m < k`,
    (omega_k,i/omega_K) a_k,i = -sigma_k,i g_k + sum_n (sigma_k,n c_k,i - sigma_k,i c_k,n)      (34)
The differences, over the units `n` of the same layer and entry, no longer contain the terms that cancel; with one unit they are
exactly 0.  Then
    x_bar = -a_K,   b_k_bar = a_k                                                   (35)
    V_k_bar_ij = a_k,i h_{k-1,j} - l_bar sigma_k,i s_{k-1,j}/w_k,i                  (36)
and below the blocks the cotangent of `W_k,ij` is `a_k,i h_{k-1,j}`.
"""


@bijector(source="arXiv:1904.04676", domain=real, codomain=real, solver=True, textbook=textbook)
class BlockAutoregressive(Bijector):
    """x = the output of block triangular `layers`, with tanh(u) + leak u between them; the inverse uses a bracketing solver.

    `layers`: `BlockDense`, the first with one input for each entry, the last with one output.  With leak = 0 the image is
    bounded; ValueError for an x outside it, for layers that do not fit, and for a negative leak.
    """

    layers: tuple = children()
    leak: float = plain(0.01, AT_LEAST_0)
    event_ndim = (1, 1)
    event_shape = ("D",)
    terms = property(lambda self: max(layer.fixed_shape[0] for layer in self.layers))       # in its sums

    def _validate(self):
        if not self.layers or not all(isinstance(layer, BlockDense) for layer in self.layers):
            raise ValueError("BlockAutoregressive: layers must be BlockDense, at least one")
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

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        for layer in self.layers[:-1]:
            z = self.phi(layer.forward(z))                                          # (1) (2)
        return self.layers[-1].forward(z)                                           # (1)

    def forward_and_log_det(self, z):
        x, log_det, _ = self.passed(z)
        return x, log_det

    def jacobian(self, z):
        h, J = z, None
        for layer in self.layers:
            W, u = layer.jacobian(h), layer.forward(h)
            J = W if J is None else W @ (self.slope_of(before)[1][..., None] * J)   # (3)
            h, before = self.phi(u), u
        return J

    def inverse(self, x):
        return self.solved(x)[0]

    def inverse_and_log_det(self, x):
        z, units = self.solved(x)
        return z, -self.passed(z, units)[1]

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        x, log_det, layers = self.passed(z)

        def pullback(x_bar, log_det_bar):
            blocks, bars, u_bar = self.along_entries(layers, in_pairs=True), {}, pair(x_bar[..., None])
            mu_bar = pair(np.broadcast_to(log_det_bar[..., None, None], u_bar.shape))
            for k in reversed(range(len(layers))):
                block, rounded_bar = blocks[k], u_bar.reshaped(layers[k].u.shape).astype(z.dtype)
                bars[str(k)] = layers[k].bars(rounded_bar, block.bar(u_bar, mu_bar).astype(z.dtype))
                from_later = self.along(np.matvec(layers[k].below.mT, rounded_bar), k - 1)
                h_bar = (block.V * u_bar[..., None]).sum(-2) + from_later           # (10)
                if k:
                    mu_bar, u = (mu_bar[..., None] * block.rho).sum(-2), blocks[k - 1].u        # (27)
                    u_bar = h_bar * self.slope_of(u)[1] + self.of_curvature(mu_bar, u)  # (11) (29)
            return h_bar[..., 0].astype(z.dtype), {"layers": in_order(bars)}        # (10)

        return (x, log_det), pullback

    def inverse_vjp(self, x):
        z, units = self.solved(x)
        _, log_det, layers = self.passed(z, units)
        blocks, shares = self.along_entries(layers, in_pairs=False), [np.ones_like(z)[..., None]]
        for block in reversed(blocks[1:]):
            shares.insert(0, (shares[0][..., None] * block.rho).sum(-2))            # (31)

        def pullback(z_bar, log_det_bar):
            a = [np.zeros(of_layer.u.shape, z.dtype) for of_layer in layers]
            for d in reversed(range(z.shape[-1])):
                entry = EntryPullback(self, layers, blocks, shares, a, d)
                entry.fill(a, z_bar[..., d], log_det_bar[..., None])
            bars, l_bar = {}, log_det_bar[..., None, None]
            for k, (of_layer, block, share) in enumerate(zip(layers, blocks, shares)):
                bars[str(k)] = of_layer.bars(a[k], block.bar(self.along(a[k], k), -l_bar * share))      # (35) (36)
            return -a[-1], {"layers": bars}                                         # (35)

        return (z, -log_det), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    def phi(self, u):
        return tanh_and_sech(u)[0] + self.leak * u                                  # (2)

    def along(self, event, k):
        """The units after layer k, by entry; for k = -1, z."""
        size = self.layers[k].blocks[1] if k >= 0 else 1
        return event.reshape(*event.shape[:-1], event.shape[-1] // size, size)

    def log_slope(self, u):
        c, a = u.dtype.type(self.leak), np.abs(u)
        near = np.log1p(c - np.tanh(np.minimum(a, 1)) ** 2)                         # (17)
        twice_log_r = 2 * (log_2(a) - a - np.log1p(np.exp(-2 * a)))                 # (18)
        far = np.logaddexp(twice_log_r, np.log(c)) if c else twice_log_r            # (18)
        return np.where(a <= 1, near, far)

    def slope_of(self, u):
        """(r, phi')."""
        r = tanh_and_sech(u)[1]
        return r, r * r + self.leak                                                 # (4)

    def solved(self, x):
        """(z, the u_k of each layer), entry after entry."""
        batch, D = x.shape[:-1], x.shape[-1]
        n = math.prod(batch)
        matrices = [of_events(layer.weights(), batch, 2) for layer in self.layers]
        biases = [of_events(layer.b, batch, 1) for layer in self.layers]
        hidden = [np.zeros((n, D * layer.blocks[2]), x.dtype) for layer in self.layers]             # the h_(k-1)
        units = [np.zeros((n, D * layer.blocks[1]), x.dtype) for layer in self.layers]
        x = x.reshape(n, D)
        for d in range(D):
            path = Path(self, matrices, biases, hidden, d)
            hidden[0][:, d], found = path.root(x[:, d])
            for k, u in enumerate(found):
                units[k][:, d * u.shape[-1]:(d + 1) * u.shape[-1]] = u
                if k + 1 < len(hidden):
                    hidden[k + 1][:, d * u.shape[-1]:(d + 1) * u.shape[-1]] = self.phi(u)   # (2)
        return hidden[0].reshape(*batch, D), [u.reshape(*batch, u.shape[-1]) for u in units]

    def passed(self, z, units=None):
        """(x, log-det, the `Passed` of each layer), with the u_k of the layers if they are known."""
        h, slopes, found = z, np.zeros_like(z)[..., None], []
        for k, layer in enumerate(self.layers):
            u = layer.forward(h) if units is None else units[k]                     # (1)
            mu = log_sums(layer.within, slopes)                                     # (14)
            found.append(Passed(layer, h, u))
            h, slopes = self.phi(u), mu + self.log_slope(self.along(u, k))          # (2) (15)
        return u, mu[..., 0].sum(-1), found                                         # (16)

    def of_curvature(self, bar, u):
        """bar phi''/phi'; r^2 may lose digits, or be 0, where the product does neither."""
        r, slope = self.slope_of(u)
        return -2 * tanh_and_sech(u)[0] * (bar * (r / slope) * r if self.leak else bar)     # (11) (29)

    def along_entries(self, layers, in_pairs):
        """The `Block` of each layer: in pairs from z, or around the floats that have passed."""
        found, s = [], np.ones_like(layers[0].h)[..., None]
        for k, of_layer in enumerate(layers):
            h, u, V = self.along(of_layer.h, k - 1), self.along(of_layer.u, k), of_layer.layer.within
            if found:
                s = self.relative_slopes(found[-1])
            if in_pairs:
                h = self.phi(found[-1].u) if found else pair(h)                     # (2)
                u = (V * h[..., None, :]).sum(-1) + self.along(of_layer.from_before(), k)       # (1)
            found.append(Block(V, h, u, s))
        return found

    def relative_slopes(self, block):
        """The slopes of the h of each entry, in units of the largest."""
        if self.leak:
            s = block.w * self.slope_of(block.u)[1]                                 # (25)
        else:
            a = block.u * signs(block.u)
            s = block.w * exp(2 * (nearest(a).min(-1, keepdims=True) - a)) / squared(1 + exp(-2 * a))       # (26)
        return s / nearest(s).max(-1, keepdims=True)                                # (25)

    @classmethod
    def examples(cls, source):
        """Two layers with up to three units for each entry, or three with two; positive weights from 1/2 to 2.

        Where small weights and a small leak multiply, z is so large that sech u has thousands of zeros.
        """
        deep = source.chance(0.125)
        D, sizes = source.choice((1, 2, 2, 3)), (1, 2, 2, 1) if deep else (1, source.count(1, 3), 1)
        layers = [block_dense(source, D, A, B, -1) for B, A in zip(sizes, sizes[1:])]
        return cls(layers, 0.25 if deep else source.choice((0.01, 0.25))), (D,)

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
        case("Far", "z is 100 times as large as what is left of it in the second entry's units", z=[[100.0, -70.0]],
             x=[[3.0, 0.0625]], leak=0.01,
             layers=(BlockDense([[[1.5], [0.75]], [[1.25], [0.5]]], [[0.0, 0.0]] * 2 + [[0.7, 0.0], [-0.07, 0.0]],
                                [-0.07, -0.09, 1.0, -0.2]),
                     BlockDense([[[0.5, 0.6]], [[1.5, 0.5]]], [[0.0] * 4, [0.1, -0.1, 0.0, 0.0]], [0.4, 0.25]))),
        case("ThreeEntries", "an entry is moved by two before it", z=[[0.5, -1.0, 2.0]], x=[[0.75, -0.5, 1.5]], leak=0.25,
             layers=(BlockDense([[[1.5]], [[0.75]], [[1.25]]], [[0.0] * 3, [0.5, 0.0, 0.0], [-1.0, 0.75, 0.0]],
                                [0.25, -0.5, 0.125]),
                     BlockDense([[[0.75]], [[1.25]], [[1.5]]], [[0.0] * 3, [-0.5, 0.0, 0.0], [1.0, -0.25, 0.0]],
                                [0.5, 0.0, -0.25]))),
        case("Stationary", "a weight's cotangent has two terms that cancel, and its inputs hardly move it",
             z=[[1.3516], [1.35], [-1.3516]], x=[[1.25]], leak=0.32,
             layers=(BlockDense([[[1.0]]], [[0.0]], [0.0]), BlockDense([[[1.0]]], [[0.0]], [0.0]))),
        case("NearZero", "the log-det is near 0: c - t^2 is small", z=[[2.0**-20]], x=[[2.0**-20]], leak=0.0,
             layers=(BlockDense([[[1.0]]], [[0.0]], [0.0]), BlockDense([[[1.0]]], [[0.0]], [0.0]))),
    )
    refused = (
        refusal("layers must be BlockDense, at least one", layers=()),
        refusal("layers must be BlockDense, at least one", layers=(BlockDense([[[1.0]]], [[0.0]]), Dense([[1.0]], [0.0]))),
    )


def tanh_and_sech(u):
    """(tanh u, sech u) of an array or a pair."""
    if not isinstance(u, Pair):
        return np.tanh(u), sech(u)
    p = exp(-(u * signs(u)))
    q = p * p
    return chosen(np.abs(u.high) < NEAR_0, u, (1 - q) / (1 + q) * signs(u)), 2 * p / (1 + q)        # (30)


def signs(u):
    return np.where(nearest(u) < 0, -1, 1).astype(nearest(u).dtype)


def squared(v):
    return v * v


def log_sums(V, slopes):
    """log sum_j V_ij exp(slopes_j), for each entry."""
    top = slopes.max(-1, keepdims=True)
    return top + np.log((V * np.exp(slopes - top)[..., None, :]).sum(-1))           # (14)


class Passed:
    """A layer k of a pass: its input h_(k-1) and its u_k."""

    def __init__(self, layer, h, u):
        self.layer, self.h, self.u = layer, h, u
        self.W, self.below = layer.weights(), np.where(layer.before(), layer.below, 0)

    def from_before(self):
        """The part of u_k that comes from b_k and the entries before."""
        return affine(self.below, self.layer.b, self.h)

    def bars(self, u_bar, within_bar):
        """The layer's cotangents from the cotangents of u and of the positive blocks at each event."""
        below_bar = self.layer.parts(outer_sum(u_bar, self.h, self.W))["below"]
        return self.layer.reduce({"within": within_bar, "below": below_bar, "b": event_sum(u_bar, self.layer.b)})


class Block:
    """A layer k along every entry: V_k, h_(k-1), u_k, the slopes w of u_k, exp(lambda_{k-1,j} - mu_k,i) and rho, from s."""

    def __init__(self, V, h, u, s):
        self.V, self.h, self.u = V, h, u
        self.w = (V * s[..., None, :]).sum(-1)                                      # (24)
        self.quotients = s[..., None, :] / self.w[..., None]                        # (24)
        self.rho = V * self.quotients

    def bar(self, u_bar, mu_bar):
        return u_bar[..., None] * self.h[..., None, :] + mu_bar[..., None] * self.quotients         # (28)


class EntryPullback:
    """The cotangents `a` of the units of entry d at a given x, where the cotangents of later entries are known."""

    def __init__(self, page, layers, blocks, shares, a, d):
        self.page, self.rows = page, [slice(d * share.shape[-1], (d + 1) * share.shape[-1]) for share in shares]
        self.rho, self.sigma = [block.rho[..., d, :, :] for block in blocks], [share[..., d, :] for share in shares]
        self.u = [block.u[..., d, :] for block in blocks]
        omegas, self.from_later, slopes_of_h = [], [], np.ones(1, a[0].dtype)
        for k, (of_layer, block) in enumerate(zip(layers, blocks)):
            A, B = of_layer.layer.blocks[1:]
            later = slice((d + 1) * A, None)
            self.from_later.append(np.matvec(of_layer.W[..., later, d * B:(d + 1) * B].mT, a[k][..., later]))
            omegas.append(np.matvec(block.V[..., d, :, :], slopes_of_h))            # (5)
            slopes_of_h = omegas[-1] * page.slope_of(self.u[k])[1]                  # (5)
        self.last, self.sizes = omegas[-1], [omega / omegas[-1] for omega in omegas]

    def reaching(self, l_bar):
        """[q_0, ..., q_(K-1)]."""
        q = [self.from_later[0] / self.last]                                        # (32)
        for u, size, sigma, from_later in zip(self.u, self.sizes, self.sigma, self.from_later[1:]):
            slope = self.page.slope_of(u)[1]
            q.append(size * slope * from_later - self.page.of_curvature(size * l_bar * sigma, u))   # (32)
        return q

    def fill(self, a, z_bar, l_bar):
        q = self.reaching(l_bar)
        g, c = [z_bar / self.last[..., 0] + q[0][..., 0]], [np.zeros_like(self.u[-1])]
        for k in reversed(range(1, len(q))):
            c.insert(0, q[k] + np.matvec(self.rho[k].mT, c[0]))                     # (33)
        for q_k in q[1:]:
            g.append(g[-1] + q_k.sum(-1))
        for k, (sigma, size) in enumerate(zip(self.sigma, self.sizes)):
            apart = (sigma[..., None, :] * c[k][..., :, None] - sigma[..., :, None] * c[k][..., None, :]).sum(-1)
            a[k][..., self.rows[k]] = (apart - sigma * g[k][..., None]) / size      # (34)


def in_order(bars):
    return {key: bars[key] for key in sorted(bars, key=int)}


def of_events(array, batch, core):
    """An array for each event of a batch, as a flat batch; without one, the array alone."""
    if array.ndim == core:
        return array
    full = np.broadcast_to(array, batch + array.shape[array.ndim - core:])
    return full.reshape(math.prod(batch), *array.shape[array.ndim - core:])


class Path:
    """The units of entry d for n events, from z_d to x_d: `blocks`, the V_k, and `rest`, the r_k of (20)."""

    def __init__(self, page, matrices, biases, hidden, d):
        self.page, self.d, self.c = page, d, hidden[0].dtype.type(page.leak)
        self.sizes = [layer.blocks[1:] for layer in page.layers]
        self.blocks, self.rest = [], []
        for W, b, h, (A, B) in zip(matrices, biases, hidden, self.sizes):
            rows, before = slice(d * A, (d + 1) * A), slice(0, d * B)
            self.blocks.append(W[..., rows, d * B:(d + 1) * B])
            self.rest.append(np.matvec(W[..., rows, before], h[:, before]) + b[..., rows])         # (1)
        self.m = -self.rest[0] / self.blocks[0][..., 0]                             # (22)

    def block(self, k, i):
        V = self.blocks[k]
        return V if V.ndim == 2 else V[i]

    def units(self, distances, i):
        """[u_1, ..., u_K] of the events numbered i, from the distances z_d - m_i."""
        found = [self.block(0, i)[..., 0] * distances]                              # (22)
        for k in range(1, len(self.blocks)):
            found.append(self.rest[k][i] + np.matvec(self.block(k, i), self.page.phi(found[-1])))       # (1) (2)
        return found

    def F(self, z, i):
        return self.units(z[:, None] - self.m[i], i)[-1][:, 0]

    def nearest(self, x, i):
        """m_j."""
        m = np.sort(self.m, -1)
        passed = [self.F(middle, i) < x for middle in ((m[:, 1:] + m[:, :-1]) / 2).T]       # (23)
        return np.take_along_axis(m, np.sum(passed, 0, int).reshape(-1, 1), -1)[:, 0] if passed else m[:, 0]

    def root(self, x):
        """(z_d, [u_1, ..., u_K])."""
        everything = np.arange(len(x))
        lower, upper = (self.limits if self.c == 0 and len(self.blocks) > 1 else self.bracket)(x, everything)
        nearest = self.nearest(x, everything)
        apart = nearest[:, None] - self.m                                           # (22)

        def function(y, i):
            return self.units(y[:, None] + apart[i], i)[-1][:, 0] - x[i]

        y = increasing_root(function, lower - nearest, upper - nearest)
        return nearest + y, self.units(y[:, None] + apart, everything)

    def bracket(self, x, i):
        s, T, n = np.ones((1, 1), x.dtype), np.zeros((1, 1), x.dtype), len(x)
        for k in range(len(self.blocks)):
            s = np.matvec(self.block(k, i), s if k == 0 else self.c * s)            # (19)
            T = np.abs(self.rest[k]) + (1 + self.c) * np.matvec(self.block(k, i), T)        # (20)
        nearest = (x - self.F(np.zeros(n, x.dtype), i)) / s[:, 0]
        e = WIDER * (np.abs(x) + T[:, 0]) / s[:, 0]                                 # (20)
        return np.minimum(nearest, 0) - e, np.maximum(nearest, 0) + e

    def limits(self, x, i):
        far = ((SATURATED + np.abs(self.rest[0])) / self.block(0, i)[..., 0]).max(-1)       # (21)
        outside = ~((self.F(-far, i) < x) & (x < self.F(far, i)))
        if outside.any():
            k = int(np.argmax(outside))
            raise ValueError(f"BlockAutoregressive: x must be in the image, which is bounded without a leak; entry {self.d} of "
                             f"event {k} is {x[k]}, not between {self.F(-far, i)[k]} and {self.F(far, i)[k]}")
        return -far, far
