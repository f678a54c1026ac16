r"""Monotone network of one number, `R -> R`: positive weights and exponential linear units of two directions.

The map.  Layer `l = 1, ..., L + 1` has the weights `W_lki > 0` and the biases `b_lk`, of any sign.  The first layer reads
`h_01 = z`.  The last has one argument, which is `x`; every other layer has `K >= 2` arguments `c_lk`, and a unit `h_lk` of each:
    c_lk = b_lk + sum_i W_lki h_{l-1,i},   x = c_{L+1,1}                            (1)
    h_lk = E_k(c_lk),   E_k(c) = c                          for s_k c > 0
                               = s_k (exp(s_k c) - 1)       for s_k c <= 0          (2)
`s_k` is 1 for the first half of the units, which are bounded below by -1, and -1 for the other half, which are bounded above by
1.  If `K` is odd, the unit in the middle belongs to the first half.  The page's rate and weights are `W_1` and `W_{L+1}`, its
hidden weights `W_2` to `W_L`, its shift `b_{L+1}`.

With `gamma` and `eta` for the derivatives of `c` and `h` by `z`,
    gamma_lk = sum_i W_lki eta_{l-1,i},   eta_01 = 1                                (3)
    eta_lk = E_k'(c_lk) gamma_lk,   E_k'(c) = exp(min(s_k c, 0))                    (4)
    dx/dz = g = gamma_{L+1,1},   log|dx/dz| = log g                                 (5)
For the inverse map, a bisection finds the root `z`.  If all arguments of a layer are at least `y >= 0`, the units of its first
half are at least `y` and the others at least 0.  So `z` lies below a number `y`, and in the same way above another.  Both start as
`y = x`; from the last layer to the first they become
    max(0, max_k (y - b_lk)/P_lk)    and    min(0, min_k (y - b_lk)/Q_lk),
    P_lk = sum_i W_lki [s_i = 1],   Q_lk = sum_i W_lki [s_i = -1]                   (6)
In the first layer, both `P` and `Q` are the weight of `z`.
    log|dz/dx| = -log g   at the root                                               (7)

The reverse rule.  With the cotangent `l_bar` of (5), the last layer starts from `c_bar = x_bar` and `gamma_bar = l_bar/g`.  From
(1) and (3), in every layer,
    b_k_bar = c_k_bar,   W_ki_bar = c_k_bar h_i + gamma_k_bar eta_i                 (8)
where `h_i` and `eta_i` belong to the layer before.  Their cotangents, where the cotangent of `h` in the first layer is `z_bar`, are
    h_i_bar = sum_k W_ki c_k_bar,   eta_i_bar = sum_k W_ki gamma_k_bar              (9)
From (2) and (4), the arguments of the layer before have
    gamma_bar = E'(c) eta_bar,   c_bar = E'(c) h_bar + r gamma gamma_bar,
    r = E''(c)/E'(c) = s [s c <= 0]                                                 (10)
For the inverse map, the second derivative `g'` of `x` is `gamma'` of the last layer, with
    gamma'_lk = sum_i W_lki eta'_{l-1,i},   eta'_01 = 0,
    eta'_lk = E_k'(c_lk) (gamma'_lk + r_lk gamma_lk^2)                              (11)
and with the cotangent `l_bar` of (7),
    x_bar = (z_bar - l_bar g'/g)/g                                                  (12)
The fields have the cotangents (8) with the signs of `x_bar` and `l_bar` reversed.      (13)

Source: zuko, the class `MonotonicMLP` of its neural autoregressive flow, which takes the magnitudes of its weights; after Huang,
Krueger, Lacoste and Courville, Neural Autoregressive Flows, arXiv:1804.00779.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, chosen, pair, positive, real, refusal
from ...core.arrays import doubled, rounded
from ...core.declarations import Field
from ...core.pairs import Pair, exp, expm1, log, nearest
from ..elementwise.solve import increasing_root, newton_step

SIZES = ((1, 2), (1, 3), (2, 2), (2, 2))            # of L and K in examples: truths of many weights are slow
STEPS = 2                                           # of Newton's method in pairs
LIMITS = np.finfo(np.float64).min, np.finfo(np.float64).max                         # (19)


class textbook:
    """(1) to (13) as they are printed, for one event."""

    def layers(rate, bias, weights, hidden, shift):
        """[(W, b)], the first with one column, the last with one row, and s."""
        ones, first = 1 + 0 * weights, 2 * np.arange(len(weights)) < len(weights)
        inner = [(rate[:, None], bias[0]), *zip([] if hidden is None else hidden, bias[1:])]
        return [*inner, (weights[None], shift + 0 * weights[:1])], ones * first - ones * ~first

    def passed(z, *fields):
        """(W, h, eta, c, gamma, E', r, gamma') of each layer; h and eta belong to the layer before."""
        layers, s = textbook.layers(*fields)
        h, eta, bent, found = z + 0 * fields[0][:1], 1 + 0 * fields[0][:1], 0 * fields[0][:1], []       # (3) (11)
        for W, b in layers:
            c, gamma, bend = b + W @ h, W @ eta, W @ bent                           # (1) (3) (11)
            s_c = s[:len(c)] * c
            rise, r = np.exp(s_c * (s_c <= 0)), s[:len(c)] * (s_c <= 0)             # (4) (10)
            found.append((W, h, eta, c, gamma, rise, r, bend))
            h = c * (s_c > 0) + s[:len(c)] * (rise - 1)                             # (2)
            eta, bent = rise * gamma, rise * (bend + r * gamma * gamma)             # (4) (11)
        return found

    def forward(z, rate, bias, weights, hidden, shift):
        return textbook.passed(z, rate, bias, weights, hidden, shift)[-1][3][0]     # (1)

    def inverse(x, rate, bias, weights, hidden, shift):
        layers, s = textbook.layers(rate, bias, weights, hidden, shift)
        below = above = x
        for W, b in layers[::-1]:
            first, other = (np.sum(W * (s == way) if W.shape[1] > 1 else W, 1) for way in (1, -1))
            below, above = min(0, *((below - b) / other)), max(0, *((above - b) / first))           # (6)
        z = (below + above) / 2
        while below < z < above:
            lower = textbook.forward(z, rate, bias, weights, hidden, shift) < x
            below, above = (z, above) if lower else (below, z)
            z = (below + above) / 2
        return z

    def slope(z, rate, bias, weights, hidden, shift):
        return textbook.passed(z, rate, bias, weights, hidden, shift)[-1][4][0]     # (5)

    def log_det(z, rate, bias, weights, hidden, shift):
        return np.log(textbook.slope(z, rate, bias, weights, hidden, shift))        # (5)

    def inverse_log_det(x, rate, bias, weights, hidden, shift):
        z = textbook.inverse(x, rate, bias, weights, hidden, shift)
        return -textbook.log_det(z, rate, bias, weights, hidden, shift)             # (7)

    def vjp(z, rate, bias, weights, hidden, shift, x_bar, l_bar):
        layers, found = textbook.passed(z, rate, bias, weights, hidden, shift), []
        h_bar, eta_bar = x_bar + 0 * weights[:1], l_bar / layers[-1][4]             # of the last layer's argument
        for l, (W, h, eta, _, gamma, rise, r, _) in reversed(list(enumerate(layers))):
            last = l == len(layers) - 1
            gamma_bar = eta_bar if last else rise * eta_bar                         # (10)
            c_bar = h_bar if last else rise * h_bar + r * gamma * gamma_bar         # (10)
            found.insert(0, (c_bar[:, None] * h + gamma_bar[:, None] * eta, c_bar))         # (8)
            h_bar, eta_bar = W.T @ c_bar, W.T @ gamma_bar                           # (9)
        W_bar, b_bar = zip(*found)
        return h_bar[0], {                                                          # (9)
            "rate": W_bar[0][:, 0], "bias": np.array(b_bar[:-1]), "weights": W_bar[-1][0], "shift": b_bar[-1][0]
        } | ({} if hidden is None else {"hidden": np.array(W_bar[1:-1])})

    def inverse_vjp(x, rate, bias, weights, hidden, shift, z_bar, l_bar):
        fields = rate, bias, weights, hidden, shift
        z = textbook.inverse(x, *fields)
        *_, (_, _, _, _, g, _, _, bend) = textbook.passed(z, *fields)
        x_bar = (z_bar - l_bar * bend[0] / g[0]) / g[0]                             # (12)
        return x_bar, textbook.vjp(z, *fields, -x_bar, -l_bar)[1]                   # (13)


r"""In floating point.

In (1) to (13), arguments and cotangents are sums whose terms may cancel, and the sign of an argument decides which row of (2)
holds.  Where that sign is wrong, so is `r` in (10), which jumps.  Everything is computed in pairs of floats, of twice the
digits of float64, for float32 too, and rounded once.                               (14)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases.

In (2), the difference cancels for a small `c`:
    E_k(c) = s_k expm1(s_k c)    for s_k c <= 0                                     (15)

In (3) to (5), the slopes may leave the floats where their logarithm does not.  Let `m_l` be the largest `min(s_k c_lk, 0)` of a layer.
With the slopes relative to `exp(t_l)`, where `t_l = m_1 + ... + m_l`,
    gamma_lk = exp(t_(l-1)) rho_lk,   eta_lk = exp(t_l) e_lk,   e_lk = f_lk rho_lk,
    f_lk = exp(min(s_k c_lk, 0) - m_l)                                              (16)
    log|dx/dz| = t_L + log rho_{L+1,1}                                              (17)
With the cotangents of `rho` and `e` in the place of `gamma_bar` and `eta_bar`, with `f` in the place of `E'` of `gamma_bar`, and
with `l_bar/rho` in the place of `l_bar/g`, (8) to (10) keep their form.  In (11), with `gamma' = exp(t_(l-1)) delta`,
    delta_lk = sum_i W_lki eps_{l-1,i},   eps_lk = f_lk (delta_lk + r_lk gamma_lk rho_lk),   g'/g = delta_{L+1,1}/rho_{L+1,1}       (18)

In (6), rounding may move an end beyond the root.  So each end is moved outwards by
    (1 + |y| + |b_lk|)/(1024 P_lk)    or    (1 + |y| + |b_lk|)/(1024 Q_lk)          (19)
and stays within the floats; a root beyond them is infinite.

In (7), (12) and (13), the rounding of `z` counts.  So two steps of Newton's method in pairs of floats take the solver's root `z`
of `f(z) = x` to
    z - (f(z) - x)/g(z)                                                             (20)

In (13), where one unit of a layer leads and all others have saturated, its argument is known at a given `x`.  So the cotangent of
this argument is small, and the terms of (9) and (10) nearly cancel.  But the cotangents that reach `z` through any layer sum to
`-z_bar`.  So where the terms of (21) are smaller, the leading argument j has
    c_j_bar = -(z_bar + sum_k rho_k_bar delta_k + sum_(k != j) c_k_bar gamma_k)/gamma_j             (21)
"""


@bijector(source="zuko", domain=real, codomain=real, increasing=True, solver=True, moderate=True, textbook=textbook)
class MonotoneNetwork(Bijector):
    """A network of one number with positive weights and exponential linear units; the inverse uses a bracketing solver.

    For L layers of K units: `rate` (*batch, K) are the weights of z, `bias` (*batch, L, K) the biases, `weights` (*batch, K) the
    weights of the last layer's units in x, `hidden` (*batch, L-1, K, K) the weights from the units of a layer to the arguments of
    the next, a row for each argument, or None for one layer, and `shift` (*batch) is added.  Raises ValueError for fewer than 2
    units, with which x would be bounded, and for a `hidden` that does not fit the number of layers.
    """

    rate: Array = positive("K")
    bias: Array = real("L", "K")
    weights: Array = positive("K")
    hidden: Array = Field(positive, ("L-1", "K", "K"), optional=True)  # type: ignore[assignment]
    shift: Array = real(default=0.0)
    event_ndim = (0, 0)
    rounded_breaks = True                                           # zeros of arguments are roots
    terms = property(lambda self: self.bias.shape[-1] * self.bias.shape[-2] + 1)    # in its sums

    def _validate(self):
        super()._validate()
        if self.weights.shape[-1] < 2:
            raise ValueError("MonotoneNetwork: weights must have at least 2 entries")
        if (self.hidden is None) != (self.bias.shape[-2] == 1):
            raise ValueError("MonotoneNetwork: hidden must be None for one layer, and only then")

    @staticmethod
    def definition(m, z, rate, bias, weights, hidden, shift):
        def unit(k, c):
            s = 1 if 2 * k < len(weights) else -1
            return c if s * c > 0 else s * m.expm1(s * c)                           # (2)

        h = [unit(k, b + a * z) for k, (a, b) in enumerate(zip(rate, bias[0]))]     # (1)
        for W, b in zip([] if hidden is None else hidden, bias[1:]):
            c = [b_k + sum(w * h_i for w, h_i in zip(row, h)) for b_k, row in zip(b, W)]            # (1)
            h = [unit(k, c_k) for k, c_k in enumerate(c)]
        return shift + sum(v * h_k for v, h_k in zip(weights, h))                   # (1)

    @np.errstate(all="ignore")                                      # a zero may lie beyond the floats
    def breaks(self):
        """The zeros of its arguments, where the second derivative jumps; there it is the exponential's."""
        layers, s = self.parameters()
        found = [-layers[0][1] / layers[0][0][..., 0]]                              # (1)
        for l, (W, b) in enumerate(layers[1:-1], 1):
            before = [(V[..., None, :, :], a[..., None, :]) for V, a in layers[:l]]
            part = [*before, (W[..., :, None, :], b[..., :, None])]                 # an argument is a network
            batch = np.broadcast_shapes(*(V.shape[:-2] for V, _ in part), *(a.shape[:-1] for _, a in part))
            found.append(root(part, s, np.zeros(batch)).high)
        return np.concatenate(np.broadcast_arrays(*found), -1)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.values(z).image().astype(z.dtype)

    def log_det(self, z):
        return self.values(z).log_slope().astype(z.dtype)

    def forward_and_log_det(self, z):
        v = self.values(z)
        return rounded((v.image(), v.log_slope()), z.dtype)

    def slope(self, z):
        return self.values(z).gamma[-1][..., 0].astype(z.dtype)                     # (5)

    def inverse(self, x):
        return self.root(x).z.astype(x.dtype)

    def inverse_and_log_det(self, x):
        v = self.root(x)
        return rounded((v.z, -v.log_slope()), x.dtype)                              # (7)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        v = self.values(z)

        def pullback(x_bar, log_det_bar):
            return rounded(v.pulled_back(*doubled(x_bar, log_det_bar)), z.dtype)    # (14)

        return rounded((v.image(), v.log_slope()), z.dtype), pullback

    def inverse_vjp(self, x):
        v = self.root(x)

        def pullback(z_bar, log_det_bar):
            z_bar, l_bar = doubled(z_bar, log_det_bar)                              # (14)
            x_bar = (z_bar - l_bar * v.delta[-1][..., 0] / v.rho[-1][..., 0]) / v.gamma[-1][..., 0]             # (12) (18)
            return rounded((x_bar, v.pulled_back(-x_bar, -l_bar, z_bar)[1]), x.dtype)           # (13)

        return rounded((v.z, -v.log_slope()), x.dtype), pullback                    # (7)

    # -- in floating point --------------------------------------------------------------------------------------------

    def parameters(self):
        """([(W, b) of each layer], s) of float64; the first layer has one column, the last one row."""
        a, b, v, t = doubled(self.rate, self.bias, self.weights, self.shift)        # (14)
        inner = [(np.float64(self.hidden[..., l, :, :]), b[..., l + 1, :]) for l in range(b.shape[-2] - 1)]
        K = v.shape[-1]
        return [(a[..., None], b[..., 0, :]), *inner, (v[..., None, :], t[..., None])], np.where(2 * np.arange(K) < K, 1.0, -1.0)

    def values(self, z):
        return Letters(*self.parameters(), pair(np.float64(z)))                     # (14)

    def root(self, x):
        layers, s = self.parameters()
        return Letters(layers, s, root(layers, s, np.float64(x)))                   # (14)

    @classmethod
    def examples(cls, source):
        L, K = source.choice(SIZES)
        return cls(positive.draw(source, (K,)), real.draw(source, (L, K)), positive.draw(source, (K,)),
                   positive.draw(source, (L - 1, K, K)) if L > 1 else None, real.draw(source, ())), ()

    hard_cases = (
        case("Zeros", "arguments are 0, in the first layer and in the second", z=[0.0, -0.5, 1e-300, -1e-300], x=[0.0, 0.25],
             rate=[1.0, 2.0], bias=[[0.0, 0.0], [0.0, 0.5]], hidden=[[[1.0, 0.5], [0.5, 0.5]]], weights=[1.0, 0.25], shift=0.0),
        case("Zero", "-b/a is rounded: the float beside it is on one side", z=[-1 / 3, np.nextafter(-1 / 3, 0)], x=[0.25],
             rate=[3.0, 3.0], bias=[[1.0, 1.0]], weights=[2.0, 0.5], shift=0.0),
        case("Plateau", "every unit has saturated: the slope is tiny, its logarithm is not", z=[0.5, -1.0], x=[0.25],
             rate=[1.0, 2.0], bias=[[-30.0, 30.0]], weights=[0.5, 1.5], shift=-1.0),
        case("Beyond", "the slope has left the floats, its logarithm has not", z=[0.5, -1.0], rate=[1.0, 2.0],
             bias=[[-1000.0, 900.0]], weights=[0.5, 1.5], shift=0.0),
        case("Far", "one unit of each layer is a line, the other has saturated", z=[1000.0, -1000.0], x=[1e6, -1e6],
             rate=[1.0, 2.0], bias=[[1.0, -1.0], [0.5, 2.0]], hidden=[[[1.0, 0.5], [0.25, 2.0]]], weights=[0.5, 1.5], shift=1.0),
        case("NearOne", "the slope is near 1, its logarithm near 0", z=[2.0**-20, -(2.0**-30)], x=[2.0**-20], rate=[1.0, 1.0],
             bias=[[0.0, 0.0]], weights=[0.5, 0.5], shift=0.0),
        case("Cancelling", "arguments of the second layer cancel", z=[0.5], x=[0.25, -1.0], rate=[1.0, 2.0],
             bias=[[0.0, 1.0], [-1e6, 1e6]], hidden=[[[1e6, 1e6], [2e6, 1e6]]], weights=[0.5, 0.5], shift=0.0),
        case("Odd", "of three units, two belong to the first half", z=[0.5, -2.0], x=[0.5, -3.0], rate=[1.0, 0.5, 2.0],
             bias=[[0.25, -1.0, 0.5]], weights=[1.0, 0.5, 2.0], shift=-0.25),
    )
    refused = (
        refusal("weights must have at least 2 entries", rate=[1.0], bias=[[0.0]], weights=[1.0]),
        refusal("hidden must be None for one layer, and only then", rate=[1.0, 2.0], bias=[[0.0, 0.0], [0.0, 0.0]], weights=[1.0, 1.0]),
        refusal("hidden must be None for one layer, and only then", rate=[1.0, 2.0], bias=[[0.0, 0.0]], weights=[1.0, 1.0],
                hidden=np.ones((0, 2, 2))),
    )


def units(s, c):
    """h, of arguments that are an array or pairs."""
    q = below(s, c)
    return chosen(nearest(s * c) > 0, c, s * (expm1(q) if isinstance(q, Pair) else np.expm1(q)))    # (2) (15)


def below(s, c):
    """min(s c, 0)."""
    c = s * c
    return chosen(nearest(c) > 0, 0.0, c)


def passed(layers, s, z):
    """(h_0 to h_L, c_1 to c_(L+1)), arrays or pairs."""
    h, c = [], []
    for W, b in layers:
        h.append(units(s, c[-1]) if c else z[..., None])                            # (2)
        c.append((h[-1][..., None, :] * W).sum(-1) + b)                             # (1)
    return h, c


def bracket(layers, s, x):
    """Two numbers between which the root lies."""
    ends = []
    for way in (-1, 1):
        y = x
        for W, b in reversed(layers):
            total = (W * (s == way) if W.shape[-1] > 1 else W).sum(-1)
            out = way * (y[..., None] - b) + (1 + np.abs(y)[..., None] + np.abs(b)) / 1024          # (6) (19)
            y = np.clip(way * np.maximum(0, (out / total).max(-1)), *LIMITS)        # (6) (19)
        ends.append(y)
    return ends


def root(layers, s, x):
    """z as pairs."""
    flat, ends = x.ravel(), [np.broadcast_to(end, x.shape).ravel() for end in bracket(layers, s, x)]
    of_events = [tuple(np.broadcast_to(v, x.shape + v.shape[v.ndim - core:]).reshape(-1, *v.shape[v.ndim - core:])
                       for v, core in zip(layer, (2, 1))) for layer in layers]

    def excess(z, i):
        return passed([(W[i], b[i]) for W, b in of_events], s, z)[1][-1][..., 0] - flat[i]

    z = pair(increasing_root(excess, *ends).reshape(x.shape))
    for _ in range(STEPS):
        v = Letters(layers, s, z)
        z = newton_step(z, (v.image() - x) / v.gamma[-1][..., 0])                   # (20)
    return z


class Letters:
    """The letters of each layer at z (*batch), pairs of (*batch, units); m and `top`, which is t_L, are arrays of (*batch, 1)."""

    def __init__(self, layers, s, z):
        self.layers, self.s, self.z, self.top = layers, s, z, np.zeros(z.shape + (1,))
        self.h, self.c = passed(layers, s, z)
        self.e, self.f, self.m, self.r, self.rho, self.gamma, self.delta = [pair(np.ones(z.shape + (1,)))], [], [], [], [], [], []     # (3)
        eps = pair(np.zeros(z.shape + (1,)))                                        # (11)
        for l, (W, _) in enumerate(layers):
            rho, delta = ((unit[..., None, :] * W).sum(-1) for unit in (self.e[-1], eps))       # (3) (16) (18)
            gamma = exp(pair(self.top)) * rho                                       # (16)
            for held, letter in zip((self.rho, self.gamma, self.delta), (rho, gamma, delta)):
                held.append(letter)
            if l + 1 < len(layers):
                eps = self.add_units(below(s, self.c[l]), s * (nearest(s * self.c[l]) <= 0))    # (10)

    def add_units(self, q, r):
        """eps of a layer's units."""
        self.m.append(q.high.max(-1, keepdims=True))                                # (16)
        self.r.append(r)
        self.f.append(exp(q - self.m[-1]))                                          # (16)
        self.e.append(self.f[-1] * self.rho[-1])                                    # (4) (16)
        self.top = self.top + self.m[-1]
        return self.f[-1] * (self.delta[-1] + r * self.gamma[-1] * self.rho[-1])    # (18)

    def image(self):
        return self.c[-1][..., 0]                                                   # (1)

    def log_slope(self):
        return log(self.rho[-1][..., 0]) + self.top[..., 0]                         # (5) (17)

    def pulled_back(self, x_bar, l_bar, of_root=None):
        """(z_bar, {field: its cotangent}); `of_root` is the cotangent of the inverse map's z."""
        c_bar, rho_bar, W_bar, b_bar = pair(x_bar)[..., None], pair(l_bar)[..., None] / self.rho[-1], [], []    # (18)
        for l in reversed(range(len(self.layers))):
            W_bar.insert(0, c_bar[..., None] * self.h[l][..., None, :] + rho_bar[..., None] * self.e[l][..., None, :])          # (8)
            b_bar.insert(0, c_bar)                                                  # (8)
            before = c_bar, rho_bar
            h_bar, e_bar = ((bar[..., None] * self.layers[l][0]).sum(-2) for bar in before)         # (9)
            if l > 0:
                rho_bar = self.f[l - 1] * e_bar                                     # (10) (18)
                rise, bend = self.f[l - 1] * exp(pair(self.m[l - 1])), self.r[l - 1] * self.rho[l - 1] * self.f[l - 1]          # (10)
                c_bar = rise * h_bar + bend * e_bar                                 # (10) (18)
                if of_root is not None:
                    h_size, e_size = ((np.abs(bar.high)[..., None] * self.layers[l][0]).sum(-2) for bar in before)
                    terms = rise.high * h_size + np.abs(bend.high) * e_size
                    c_bar = self.balanced(l - 1, c_bar, rho_bar, terms, self.f[l - 1].high * e_size, of_root)
        inner = [bar.high for bar in W_bar[1:-1]]
        return h_bar[..., 0], {                                                     # (9)
            "rate": W_bar[0][..., 0], "bias": np.stack([bar.high for bar in b_bar[:-1]], -2), "weights": W_bar[-1][..., 0, :],
            **({"hidden": np.stack(inner, -3)} if inner else {}), "shift": b_bar[-1][..., 0]}

    def balanced(self, l, c_bar, rho_bar, c_terms, rho_terms, z_bar):
        """c_bar, in which the leading argument's cotangent is what all others leave of -z_bar.

        `c_terms` and `rho_terms` are the sums of the sizes of the terms of c_bar and rho_bar.
        """
        gamma, delta = self.gamma[l], self.delta[l]
        moved, bent = c_terms * gamma.high, rho_terms * np.abs(delta.high)
        leads = np.arange(len(self.s)) == moved.argmax(-1)[..., None]
        left = chosen(leads, 0.0, c_bar * gamma).sum(-1) + (rho_bar * delta).sum(-1) + z_bar            # (21)
        size = np.abs(z_bar) + np.where(leads, bent, moved + bent).sum(-1)
        return chosen(leads & (size[..., None] < moved), -left[..., None] / gamma, c_bar)           # (21)
