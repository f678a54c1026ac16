r"""Deep dense sigmoidal flow, `R -> R`: layers of sigmoids, each of which sees means of all units of the layer before.

The map.  Layer `l = 1, ..., L` has `K` sigmoids with the rates `a_lk > 0` and the biases `b_lk`.  Their arguments are `c_lk`.
The units `h_lo` of the layer are logits of weighted means of its sigmoids, and the next layer takes weighted means `m_lk` of
these units.  With the logistic function `S(c) = 1/(1 + exp(-c))`,
    c_lk = a_lk m_lk + b_lk,   m_1k = z                                             (1)
    h_lo = log(P_lo/Q_lo),   P_lo = sum_k w_lok S(c_lk),   Q_lo = sum_k w_lok S(-c_lk)          (2)
    m_lk = sum_o u_lko h_{l-1,o} / sum_o u_lko    for l > 1                        (3)
    x = h_L1                                                                        (4)
The last layer has one unit, all others have K.  `P + Q` is the sum of the weights, so (2) is the logit of the mean `P/(P + Q)`.
The weights of a mean sum to 1 up to rounding; `P/Q`, and the quotient in (3), do not depend on their sum.

With `gamma`, `eta` and `mu` for the derivatives of `c`, `h` and `m` by `z`,
    gamma_lk = a_lk mu_lk,   mu_1k = 1,   mu_lk = sum_o u_lko eta_{l-1,o} / sum_o u_lko    for l > 1           (5)
    eta_lo = sum_k omega_lok gamma_lk,   omega_lok = w_lok S(c_lk) S(-c_lk) (1/P_lo + 1/Q_lo)      (6)
    dx/dz = g = eta_L1,   log|dx/dz| = log g                                        (7)
For the inverse map, a bisection finds the root `z`.  A unit lies between the least and the largest argument of its layer, and so do
means of units.  So `z` lies between two numbers.  Both start as `v = x`.  From the last layer to the first, one becomes the least
and the other the largest over k of
    (v - b_lk)/a_lk                                                                 (8)
    log|dz/dx| = -log g   at the root                                               (9)

The reverse rule.  With the cotangent `l_bar` of (7), the last layer starts from `h_bar = x_bar` and `eta_bar = l_bar/g`.  In
every layer,
    c_k_bar = sum_o omega_ok (h_o_bar + eta_o_bar (gamma_k (1 - 2 S(c_k)) + eta_o (P_o - Q_o)/(P_o + Q_o))),
    gamma_k_bar = sum_o omega_ok eta_o_bar                                          (10)
    w_ok_bar = h_o_bar (S(c_k)/P_o - S(-c_k)/Q_o)
               + eta_o_bar (omega_ok gamma_k/w_ok - eta_o (S(c_k) Q_o/P_o + S(-c_k) P_o/Q_o)/(P_o + Q_o))      (11)
    b_k_bar = c_k_bar,   a_k_bar = c_k_bar m_k + gamma_k_bar mu_k                   (12)
    u_ko_bar = a_k (c_k_bar (h_o - m_k) + gamma_k_bar (eta_o - mu_k))/sum_i u_ki    (13)
where `h_o` and `eta_o` belong to the layer before.  Their cotangents, and the cotangent of `z` in the first layer, are
    h_o_bar = sum_k c_k_bar a_k u_ko/sum_i u_ki,   eta_o_bar = sum_k gamma_k_bar a_k u_ko/sum_i u_ki           (14)
    z_bar = sum_k c_k_bar a_k                                                       (15)
For the inverse map, whose log-det has the cotangent `l_bar`,
    x_bar = (z_bar - l_bar g'/g)/g                                                  (16)
where `g'/g` is (15) for `x_bar = 0` and `l_bar = 1`, and the fields have the cotangents (10) to (14) with the signs of `x_bar` and
`l_bar` reversed.                                                                   (17)

Source: Huang, Krueger, Lacoste and Courville, Neural Autoregressive Flows, arXiv:1804.00779, deep dense sigmoidal flow.
"""

from __future__ import annotations

import numpy as np

from ...core import Array, Bijector, bijector, case, chosen, pair, positive, real, refusal, simplex
from ...core.arrays import doubled, rounded
from ...core.pairs import Pair, exp, log
from ..elementwise.solve import increasing_root, newton_step
from .mixture import SCALE, with_unit_weights
from .mixture import gaps
from .sigmoid_mixture import SigmoidMixture

SIZES = ((2, 1), (2, 2), (2, 2), (3, 1))            # of L and K in examples: truths of many weights are slow
STEPS = 2                                           # of Newton's method in pairs
LIMITS = np.finfo(np.float64).min, np.finfo(np.float64).max                         # (21)


class textbook:
    """(1) to (17) as they are printed, for one event."""

    def passed(z, rate, bias, mixing, averaging, weights):
        """a, m, mu, gamma, w, S(c), S(-c), P, Q, omega, h and eta of each layer; P, Q and eta are columns."""
        m, mu, found = z + 0 * weights, 1 + 0 * weights, []                         # (1) (5)
        for l, (a, b) in enumerate(zip(rate, bias)):
            w = weights[None] if l == len(mixing) else mixing[l]
            c, gamma = a * m + b, a * mu                                            # (1) (5)
            S, opposite = 1 / (1 + np.exp(-c)), 1 / (1 + np.exp(c))                 # (2)
            P, Q = (w @ S)[:, None], (w @ opposite)[:, None]                        # (2)
            omega, h = w * S * opposite * (1 / P + 1 / Q), np.log(P / Q)[:, 0]      # (2) (6)
            eta = (omega @ gamma)[:, None]                                          # (6)
            found.append((a, m, mu, gamma, w, S, opposite, P, Q, omega, h, eta))
            if l < len(mixing):
                u = averaging[l]
                m, mu = u @ h / np.sum(u, -1), u @ eta[:, 0] / np.sum(u, -1)        # (3) (5)
        return found

    def forward(z, rate, bias, mixing, averaging, weights):
        *_, h, _ = textbook.passed(z, rate, bias, mixing, averaging, weights)[-1]
        return h[0]                                                                 # (4)

    def inverse(x, rate, bias, mixing, averaging, weights):
        below = above = x
        for a, b in zip(rate[::-1], bias[::-1]):
            below, above = min((below - b) / a), max((above - b) / a)               # (8)
        z = (below + above) / 2
        while below < z < above:
            lower = textbook.forward(z, rate, bias, mixing, averaging, weights) < x
            below, above = (z, above) if lower else (below, z)
            z = (below + above) / 2
        return z

    def slope(z, rate, bias, mixing, averaging, weights):
        *_, eta = textbook.passed(z, rate, bias, mixing, averaging, weights)[-1]
        return eta[0, 0]                                                            # (7)

    def log_det(z, rate, bias, mixing, averaging, weights):
        return np.log(textbook.slope(z, rate, bias, mixing, averaging, weights))    # (7)

    def inverse_log_det(x, rate, bias, mixing, averaging, weights):
        z = textbook.inverse(x, rate, bias, mixing, averaging, weights)
        return -textbook.log_det(z, rate, bias, mixing, averaging, weights)         # (9)

    def vjp(z, rate, bias, mixing, averaging, weights, x_bar, l_bar):
        layers, found = textbook.passed(z, rate, bias, mixing, averaging, weights), []
        h_bar, eta_bar = np.array([[x_bar]]), l_bar / layers[-1][-1]                # columns, as P, Q and eta
        for l in reversed(range(len(layers))):
            a, m, mu, gamma, w, S, opposite, P, Q, omega, _, eta = layers[l]
            bend = gamma * (1 - 2 * S) + eta * (P - Q) / (P + Q)
            c_bar, gamma_bar = np.sum(omega * (h_bar + eta_bar * bend), 0), np.sum(omega * eta_bar, 0)      # (10)
            through = omega * gamma / w - eta * (S * Q / P + opposite * P / Q) / (P + Q)
            w_bar, u_bar = h_bar * (S / P - opposite / Q) + eta_bar * through, None         # (11)
            if l > 0:
                u, h, eta = averaging[l - 1], layers[l - 1][-2], layers[l - 1][-1][:, 0]
                to_m, to_mu = ((a * bar / np.sum(u, -1))[:, None] for bar in (c_bar, gamma_bar))
                u_bar = to_m * (h - m[:, None]) + to_mu * (eta - mu[:, None])       # (13)
                h_bar, eta_bar = u.T @ to_m, u.T @ to_mu                            # (14)
            found.insert(0, (c_bar * m + gamma_bar * mu, c_bar, w_bar, u_bar))      # (12)
        a_bar, b_bar, w_bar, u_bar = zip(*found)
        return np.sum(c_bar * a), {                                                 # (15)
            "rate": np.array(a_bar), "bias": np.array(b_bar), "mixing": np.array(w_bar[:-1]),
            "averaging": np.array(u_bar[1:]), "weights": w_bar[-1][0]}

    def inverse_vjp(x, rate, bias, mixing, averaging, weights, z_bar, l_bar):
        fields = rate, bias, mixing, averaging, weights
        z = textbook.inverse(x, *fields)
        bend, _ = textbook.vjp(z, *fields, 0, 1)
        x_bar = (z_bar - l_bar * bend) / textbook.slope(z, *fields)                 # (16)
        return x_bar, textbook.vjp(z, *fields, -x_bar, -l_bar)[1]                   # (17)


r"""In floating point.

In (1) to (17), `P` and `Q` underflow in the tails, and the part that all units share cancels.  `sigmoid_mixture` gives each `h_lo`,
its log-slope, and the derivatives of both, with all digits in either tail, from the arguments and their rates, in float64, for
float32 too.                                                                        (18)
The page is certified at moderate events and parameters, `2^-4` to `2^4`, and at the hard cases.

In (5) to (7), the slopes of many layers leave the floats where their logarithms do not.  Let `t_l` be the largest logarithm of
the slopes of a layer's units, and `e_lo` their slopes relative to the largest:
    eta_lo = exp(t_l) e_lo,   mu_lk = exp(t_(l-1)) s_lk,   gamma_lk = exp(t_(l-1)) rho_lk,   rho_lk = a_lk s_lk         (19)
    log|dx/dz| = t_L                                                                (20)

In (8), rounding may move an end beyond the root.  So each end is moved outwards by
    (1 + |v| + |b_lk|)/(1024 a_lk)                                                  (21)
and stays within the floats; a root beyond them is infinite.

In (9), (16) and (17), a rounded `z` and rounded units may have lost digits that the arguments need.  So two steps of Newton's
method take the solver's root `z` of `f(z) = x` to
    z - (f(z) - x)/f'(z)                                                            (22)
with (1) to (4) in pairs of floats, of twice the digits.  The arguments at the last `z` are rounded, and all that follows is
computed from them as for the forward map.

In (10) to (14), the slopes' cotangents leave the floats too.  With the cotangents `l_o_bar = eta_o eta_o_bar` of the log-slopes
and `rho_k_bar = exp(t_(l-1)) gamma_k_bar`,
    a_k_bar = c_k_bar m_k + rho_k_bar s_k,   l_o_bar = e_o sum_k rho_k_bar a_k u_ko/sum_i u_ki,
    u_ko_bar = a_k (c_k_bar (h_o - m_k) + rho_k_bar (e_o - s_k))/sum_i u_ki         (23)

In (13), means of differences of two units cancel.  All units grow alike in a tail, and are nearly the same where their rows of
weights are: the part that they share must not be subtracted.  With sums over pairs of sigmoids,
    h_o - h_i = log(1 + N_oi/(P_i Q_o))     for N_oi >= 0,   -(h_i - h_o)   elsewhere,
    N_oi = P_o Q_i - P_i Q_o = sum_(k<j) (w_ok w_ij - w_oj w_ik) (S(c_k) - S(c_j))              (24)
where the differences of `S` are (8) of `sigmoid_mixture`, and all units of a layer share the exponents of `P` and `Q`.
The derivatives `omega_ok` of `h_o` by `c_k` sum to `1 - d_o`, where `d_o` is small in a tail.  So with any fixed j
    e_o - e_i = exp(-T) (sum_k (omega_ok - omega_ik) (rho_k - rho_j) - rho_j (d_o - d_i)),   T = t_l - t_(l-1)  (25)
(25) is used where all `d_o` are below 1/2, with the j whose sum of `omega_oj` is largest; elsewhere `e_o` and `e_i` are
subtracted.

In (17), the two parts of `c_k_bar` nearly cancel in a tail, where one argument leads: at a given `x`, this argument moves `z` and
nothing else.  But the cotangents that reach `z` through any layer sum to `-z_bar`.  So where the terms of (26) are
smaller than the terms of (10), the leading argument j has
    c_j_bar = -(z_bar + sum_o l_o_bar dl_o/dz + sum_(k != j) c_k_bar dc_k/dz)/(dc_j/dz),
    dc_k/dz = exp(t_(l-1)) rho_k                                                    (26)
with the sum over the units o of the layer before.  With the derivatives `beta_ok` of a unit's log-slope by `c_k`, and the
shares `r_ok` of the components in its slope, as `sigmoid_mixture` has them,
    dl_o/dz = sum_k (beta_ok dc_k/dz + r_ok (sum_i u_ki e_i dl_i/dz)/(sum_i u_ki e_i))          (27)
where i counts the units of the layer before.
"""


@bijector(source="arXiv:1804.00779", domain=real, codomain=real, increasing=True, solver=True, moderate=True, textbook=textbook)
class DenseSigmoid(Bijector):
    """Layers of sigmoids whose logits are mixed by row-stochastic matrices; the inverse uses a bracketing solver.

    For L layers of K sigmoids: `rate` and `bias` have shape (*batch, L, K), `mixing` (*batch, L-1, K, K), from the sigmoids of
    a layer to its units, `averaging` (*batch, L-1, K, K), from these units to the arguments of the next layer, and `weights`
    (*batch, K) of the last layer.  Raises ValueError for fewer than 2 layers: one layer is a `DeepSigmoid`.
    """

    rate: Array = positive("L", "K")
    bias: Array = real("L", "K")
    mixing: Array = simplex("L-1", "K", "K")
    averaging: Array = simplex("L-1", "K", "K")
    weights: Array = simplex("K")
    event_ndim = (0, 0)
    terms = property(lambda self: self.rate.shape[-1] * self.rate.shape[-2])        # in its sums

    def _validate(self):
        super()._validate()
        if self.rate.shape[-2] < 2:
            raise ValueError("DenseSigmoid: rate must have at least 2 layers")

    def cast(self, dtype):
        """Its fields in another precision."""
        return with_unit_weights(super().cast(dtype), ("mixing", "averaging", "weights"))

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return self.layers(z)[-1].image().astype(z.dtype)

    def log_det(self, z):
        return self.layers(z)[-1].top.astype(z.dtype)                               # (20)

    def forward_and_log_det(self, z):
        last = self.layers(z)[-1]
        return rounded((last.image(), last.top), z.dtype)                           # (20)

    def slope(self, z):
        return np.exp(self.layers(z)[-1].top).astype(z.dtype)                       # (20)

    def inverse(self, x):
        return self.root(x).astype(x.dtype)

    def inverse_and_log_det(self, x):
        z = self.root(x)
        return rounded((z, -self.layers_at(z)[-1].top), x.dtype)                    # (20)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        layers = with_derivatives(self.layers(z))

        def pullback(x_bar, log_det_bar):
            return rounded(pulled_back(layers, *doubled(x_bar, log_det_bar)), z.dtype)  # (18)

        return rounded((layers[-1].image(), layers[-1].top), z.dtype), pullback     # (20)

    def inverse_vjp(self, x):
        z = self.root(x)
        layers = with_derivatives(self.layers_at(z))
        bend, _ = pulled_back(layers, np.zeros_like(z.high), np.ones_like(z.high))  # (16)

        def pullback(z_bar, log_det_bar):
            z_bar, l_bar = doubled(z_bar, log_det_bar)                              # (18)
            through = z_bar - l_bar * bend                                          # (16)
            x_bar = np.where(through == 0, through, through * np.exp(-layers[-1].top))          # (16)
            return rounded((x_bar, pulled_back(layers, -x_bar, -l_bar, z_bar)[1]), x.dtype)

        return rounded((z, -layers[-1].top), x.dtype), pullback                     # (20)

    # -- in floating point --------------------------------------------------------------------------------------------

    def parameters(self):
        """[(a, b, w, u) of each layer], of float64; the last layer has the weights of one unit, and no u."""
        a, b, w, u, last = doubled(self.rate, self.bias, self.mixing, self.averaging, self.weights)  # (18)
        inner = [(a[..., l, :], b[..., l, :], w[..., l, :, :], u[..., l, :, :]) for l in range(w.shape[-3])]
        return [*inner, (a[..., -1, :], b[..., -1, :], last[..., None, :], None)]

    def layers(self, z):
        return passed(self.parameters(), *doubled(z))                               # (18)

    def root(self, x):
        """z as a pair."""
        given, (x,) = self.parameters(), doubled(x)                                 # (18)
        lower, upper = (v.ravel() for v in bracket(given, x))
        flat, of_events = x.ravel(), [[at_events(v, x.shape, core) for v, core in zip(layer, (1, 1, 2, 2))] for layer in given]

        def excess(z, i):
            return passed([[None if v is None else v[i] for v in layer] for layer in of_events], z)[-1].image() - flat[i]

        z = pair(increasing_root(excess, lower, upper).reshape(x.shape))
        for _ in range(STEPS):
            image, arguments = in_pairs(given, z)
            z = newton_step(z, (image - x) / np.exp(passed(given, z.high, arguments)[-1].top))      # (22)
        return z

    def layers_at(self, z):
        """The layers at a pair."""
        given = self.parameters()
        rounded_once = [layer.v.u[..., 0, :] for layer in passed(given, z.high)]
        arguments = in_pairs(given, z)[1]
        return passed(given, z.high, [np.where(np.isfinite(c), c, u) for c, u in zip(arguments, rounded_once)])

    @classmethod
    def examples(cls, source):
        L, K = source.choice(SIZES)
        squares = (simplex.draw(source, (L - 1, K, K)) for _ in range(2))
        return cls(positive.draw(source, (L, K)), real.draw(source, (L, K)), *squares, simplex.draw(source, (K,))), ()

    hard_cases = (
        case("One", "one sigmoid in each layer is affine: the log-det is constant, and no cotangent reaches a weight",
             z=[1.0, -300.0, 1e-12], x=[1e-12, 300.0], rate=[[2.0], [0.5]], bias=[[0.0], [1.0]], mixing=[[[1.0]]],
             averaging=[[[1.0]]], weights=[1.0]),
        case("FarUnits", "the units of the first layer have lost digits that the arguments of the second have", z=[0.5],
             x=[0.25, -1.0], rate=[[1.0, 2.0], [1.0, 2.0]], bias=[[0.0, 1.0], [1e6, 1e6]], mixing=[[[0.5, 0.5], [0.25, 0.75]]],
             averaging=[[[0.5, 0.5], [0.75, 0.25]]], weights=[0.5, 0.5]),
        case("Tails", "the means underflow, their logarithms do not", z=[-1000.0, 1000.0, -40.0, 40.0],
             x=[-80.0, 80.0, -40.0, 40.0], rate=[[1.0, 2.0], [0.5, 1.0]], bias=[[-1.0, 1.0], [0.0, 2.0]],
             mixing=[[[0.5, 0.5], [0.25, 0.75]]], averaging=[[[0.5, 0.5], [0.75, 0.25]]], weights=[0.25, 0.75]),
        case("Plateau", "between far components every unit is nearly the logit of a weight", z=[0.5, 3.0], x=[-0.25, 0.3],
             rate=[[1.0, 2.0], [1.0, 1.0]], bias=[[30.0, -30.0], [1.0, -1.0]], mixing=[[[0.5, 0.5], [0.25, 0.75]]],
             averaging=[[[0.5, 0.5], [0.75, 0.25]]], weights=[0.5, 0.5]),
        case("Equal", "units that are one: no cotangent reaches the matrix between them", z=[0.5, -3.0], x=[0.5, 0.9],
             rate=[[2.0, 1.0], [1.0, 1.0]], bias=[[1.0, -1.0], [0.5, 0.5]], mixing=[[[0.25, 0.75], [0.25, 0.75]]],
             averaging=[[[0.5, 0.5], [0.75, 0.25]]], weights=[0.25, 0.75]),
    )
    refused = (
        refusal("rate must have at least 2 layers", rate=[[1.0]], bias=[[0.0]], mixing=np.zeros((0, 1, 1)),
                averaging=np.zeros((0, 1, 1)), weights=[1.0]),
    )


def bracket(parameters, x):
    """Two numbers between which the root lies."""
    lower = upper = x
    for a, b, *_ in reversed(parameters):
        below, above = ((v - b + side * (1 + np.abs(v) + np.abs(b)) / 1024) / a             # (8) (21)
                        for v, side in ((lower[..., None], -1), (upper[..., None], 1)))
        lower, upper = np.clip(below.min(-1), *LIMITS), np.clip(above.max(-1), *LIMITS)         # (8) (21)
    return lower, upper


def at_events(v, batch, core):
    """An array with `core` axes for each event of a batch, as a flat batch."""
    return None if v is None else np.broadcast_to(v, batch + v.shape[v.ndim - core:]).reshape(-1, *v.shape[v.ndim - core:])


def in_pairs(parameters, z):
    """(x, the arguments of each layer, rounded), from z and with means and units as pairs."""
    means, arguments = z[..., None], []
    for a, b, w, u in parameters:
        c = means * a + b                                                           # (1)
        h = units_in_pairs(w, c)
        arguments.append(c.high)
        means = None if u is None else (h[..., None, :] * u).sum(-1) / pair(u).sum(-1)          # (3)
    return h[..., 0], arguments                                                     # (4)


def units_in_pairs(w, c):
    """(2), with the exponential of the largest exponent taken out of P and out of Q."""
    zero = 0 * c
    below, above = chosen(c.high < 0, c, zero), chosen(c.high < 0, zero, -c)
    top_P, top_Q, q = largest(below), largest(above), 1 + exp(below + above)
    P, Q = ((exp(v - top[..., None]) / q)[..., None, :] * w for v, top in ((below, top_P), (above, top_Q)))
    return (top_P - top_Q)[..., None] + log(P.sum(-1) / Q.sum(-1))            # (2)


def largest(v):
    """The largest of pairs along the last axis: the largest second term of the pairs whose first term is the largest."""
    first = v.high.max(-1)
    return Pair(first, np.where(v.high == first[..., None], v.low, -np.inf).max(-1))


def passed(parameters, z, arguments=None):
    """The `Layer` of each l, from z, or from the arguments of every layer if they are known."""
    m, s, top, found = z[..., None], np.ones_like(z)[..., None], 0.0, []            # (1) (19)
    for l, given in enumerate(parameters):
        layer = Layer(*given, m, s, None if arguments is None else arguments[l])
        layer.top = top = top + layer.highest                                       # (19)
        if layer.u is not None:
            m, s = layer.mean(layer.h), layer.mean(layer.e)                         # (3) (19)
        found.append(layer)
    return found


def with_derivatives(layers):
    for before, layer in zip([None, *layers], layers):
        layer.v.add_derivatives()
        layer.bend = layer.log_slope_rate(before)
    return layers


def pulled_back(layers, x_bar, l_bar, known=None):
    """(z_bar, {field: its cotangent}); for an inverse map, `known` is -z_bar."""
    h_bar, l_bar, found = x_bar[..., None], l_bar[..., None], []
    for before, layer in reversed(list(zip([None, *layers], layers))):
        _, c_bar, rho_bar = layer.v.pulled_back(h_bar, l_bar)
        w_bar, c_bar, rho_bar = layer.v.weights_bar(h_bar, l_bar), c_bar.sum(-2), rho_bar.sum(-2)
        to_s = rho_bar * layer.a / SCALE
        l_bar_before = None if before is None else before.e * before.spread(to_s)   # (23)
        if known is not None:
            c_bar = layer.balanced(c_bar, h_bar, l_bar, known, before, l_bar_before)
        u_bar, to_m, l_bar = None, c_bar * layer.a / SCALE, l_bar_before
        if before is not None:
            u_bar, h_bar = before.matrix_bar(to_m, to_s), before.spread(to_m)       # (14) (23)
        found.insert(0, ((c_bar * layer.m + rho_bar * layer.s) / SCALE, c_bar / SCALE, w_bar, u_bar))          # (12) (23)
    a_bar, b_bar, w_bar, u_bar = zip(*found)
    return to_m.sum(-1), {                                                          # (15)
        "rate": np.stack(a_bar, -2), "bias": np.stack(b_bar, -2), "mixing": np.stack(w_bar[:-1], -3),
        "averaging": np.stack(u_bar[1:], -3), "weights": w_bar[-1][..., 0, :]}


class Layer:
    """The letters of a layer: a, m and s of (*batch, K), u, and of (*batch, units) h, e and the mixtures v of (2)."""

    def __init__(self, a, b, w, u, m, s, arguments=None):
        self.a, self.u, self.m, self.s = a, u, m, s
        c = a * m + b if arguments is None else arguments                           # (1)
        self.v = SigmoidMixture(w, (a * s)[..., None, :], c[..., None, :])
        self.h, self.highest = self.v.image(), self.v.log_slope().max(-1)           # (2)
        self.e = self.v.G / self.v.G.max(-1, keepdims=True)                         # (19), the units share their exponents

    def image(self):
        return self.h[..., 0]                                                       # (4)

    def mean(self, units):
        return (self.u * units[..., None, :]).sum(-1) / self.u.sum(-1)              # (3) (19)

    def log_slope_rate(self, before):
        """dl_o/dz of its units."""
        v, rate = self.v, self.argument_rate(before)
        found = (v.b * (rate / SCALE)[..., None, :]).sum(-1)                        # (27)
        return found if before is None else (
            found + (v.r / SCALE * (before.mean(before.e * before.bend) / self.s)[..., None, :]).sum(-1))       # (27)

    def argument_rate(self, before):
        """dc_k/dz."""
        return self.a * self.s if before is None else np.exp(before.top)[..., None] * self.a * self.s           # (26)

    def balanced(self, c_bar, h_bar, l_bar, z_bar, before, l_bar_before):
        """c_bar, in which the leading argument's cotangent is what all others leave of -z_bar."""
        v, rate, k = self.v, self.argument_rate(before), np.arange(c_bar.shape[-1])
        known = z_bar[..., None]
        if before is not None:
            known = np.concatenate((known, l_bar_before * before.bend), -1)         # (26)
        terms = (np.abs(h_bar)[..., None] * (v.r / v.a * v.slope()[..., None]) + np.abs(l_bar)[..., None] * np.abs(v.b)).sum(-2)
        j = (terms * rate).argmax(-1)[..., None]
        parts = np.concatenate((known * SCALE, np.where(k == j, 0, c_bar * rate)), -1)
        rate_j = np.take_along_axis(rate, j, -1)
        left, size = -parts.sum(-1, keepdims=True) / rate_j, np.abs(parts).sum(-1, keepdims=True) / rate_j      # (26)
        return np.where((k == j) & (size < terms), left, c_bar)

    def spread(self, bar):
        """The adjoint of `mean`."""
        return (self.u * (bar / self.u.sum(-1))[..., None]).sum(-2)                 # (14) (23)

    def matrix_bar(self, to_m, to_s):
        """The cotangent of u, from a_k times the cotangents of the arguments and of the rates."""
        h, e = (mean_differences(self.u, d) for d in (self.unit_differences(), self.slope_differences()))
        return (to_m[..., None] * h + to_s[..., None] * e) / self.u.sum(-1, keepdims=True)  # (13) (23)

    def unit_differences(self):
        """h_o - h_i on axes o, i."""
        v = self.v
        w_o, w_i = v.w[..., :, None, :], v.w[..., None, :, :]
        minors = w_o[..., :, None] * w_i[..., None, :] - w_o[..., None, :] * w_i[..., :, None]
        N = (minors * v.steps()[..., :1, None, :, :]).sum((-2, -1)) / 2             # (24)
        ahead = np.log1p(np.maximum(N, 0) / (v.P[..., None, :] * v.Q[..., :, None]))            # (24)
        return ahead - ahead.mT                                                     # (24)

    def slope_differences(self):
        """e_o - e_i on axes o, i."""
        v, scale = self.v, np.exp(-self.highest)[..., None, None]
        omega, rho = v.r / v.a * (self.e[..., None] / SCALE), v.a[..., 0, :]
        j = omega.sum(-2).argmax(-1)[..., None]
        rho_j = np.take_along_axis(rho, j, -1)
        by_shares = gaps((omega * (rho - rho_j)[..., None, :]).sum(-1)) - rho_j[..., None] * gaps(v.d) * scale
        return np.where((v.d < 0.5).all(-1)[..., None, None], by_shares, gaps(self.e))          # (25)


def mean_differences(u, differences):
    """h_o minus the mean k of all units, on axes k, o."""
    return (u[..., :, None, :] * differences[..., None, :, :]).sum(-1) / u.sum(-1, keepdims=True)
