r"""The logit of a mixture of sigmoids, as a map of the arguments that `mixture` describes.

With weights `w_k > 0, W = sum_k w_k`, arguments `u_k` and the logistic function `S`,
    x = log(P/Q),   P = sum_k w_k S(u_k),   Q = sum_k w_k S(-u_k),   P + Q = W      (1)
Both `P` and `Q` are kept, without the exponents that let them underflow, and near `x = 0`, where their quotient rounds to 1,
their difference is:
    P = P' exp(M_P),   M_P = max_k min(u_k, 0),   Q = Q' exp(M_Q),   M_Q = max_k min(-u_k, 0)               (2)
    p_k = exp(min(u_k, 0) - M_P)/(1 + exp(-|u_k|)),   n_k = exp(min(-u_k, 0) - M_Q)/(1 + exp(-|u_k|)),
    P' = sum_k w_k p_k,   Q' = sum_k w_k n_k                                        (3)
    x = 2 artanh D,   D = (P - Q)/W = sum_k w_k tanh(u_k/2)/W      for |D| < 1/2    (4)
      = M_P - M_Q + log(P'/Q')                                     elsewhere        (5)
The derivative with respect to `u_k` is `W w_k S(u_k) S(-u_k)/(P Q)`, so that in the letters of `mixture`
    G = W sum_k w_k a_k F_k/(P' Q'),   F_k = exp(E_k - M)/(1 + exp(-|u_k|))^2,
    E_k = -|u_k| - M_P - M_Q,   M = max_k E_k                                       (6)
Three ways to share 1 among the components,
    pi_k = w_k p_k/P',   rho_k = w_k n_k/Q',   r_k = w_k a_k F_k / sum_i w_i a_i F_i            (7)
give the derivative of the log-det with respect to `u_k`:
    b_k = -r_k tanh(u_k/2) - pi_k S(-u_k) + rho_k S(u_k)                            (8)
        = S(-u_k) sum_i (r_k pi_i - r_i pi_k) - S(u_k) sum_i (r_k rho_i - r_i rho_k)            (9)
(9) is without the parts due to `k` alone, which cancel: with one component, the log-det is constant.  The derivatives of `x`
and of the log-det with respect to `w_k`, with `S(u_k) - S(u_i)` from both tails, are
    X_k = sum_i w_i (S(u_k) - S(u_i))/(P Q)
        = sum_i s w_i p_1 n_0 (1 - exp(-|u_k - u_i|))/(P' Q'),   s = sign(u_k - u_i)            (10)
    Y_k = (r_k - pi_k)/w_k + X_k P/W       for P <= Q
        = (r_k - rho_k)/w_k - X_k Q/W      elsewhere                                (11)
where 1 is the index of the larger of `u_k` and `u_i` and 0 of the other, and `r_k - pi_k` is a sum as in (9).
    w_k_bar = x_bar X_k + l_bar Y_k                                                 (12)
and the inverse map has it with `-x_bar` and `-l_bar`, where `x_bar` is its result.
"""

from __future__ import annotations

import numpy as np

from .mixture import SCALE, Arguments, crossed, scaled_exp


class SigmoidMixture(Arguments):
    """The letters at arguments u, with weights w and rates a, all (*batch, K)."""

    def __init__(self, w, a, u):
        self.w, self.a, self.u = np.broadcast_arrays(w, a, u)
        self.W = self.w.sum(-1)                                                     # (1)
        below, above, self.q = np.minimum(u, 0), np.minimum(-u, 0), np.exp(-np.abs(u))
        self.M_P, self.M_Q = below.max(-1), above.max(-1)                           # (2)
        self.E_P, self.E_Q = under(below, self.M_P), under(above, self.M_Q)
        self.p, self.n = (np.exp(v) / (1 + self.q) for v in (self.E_P, self.E_Q))   # (3)
        self.P, self.Q = (self.w * self.p).sum(-1), (self.w * self.n).sum(-1)       # (3)
        E = self.E_P + self.E_Q                                                               # (6)
        self.M = E.max(-1)                                                          # (6)
        shares = self.w * self.a * scaled_exp(under(E, self.M)) / (1 + self.q) ** 2     # (6)
        total = shares.sum(-1) / SCALE
        self.G, self.r = self.W * total / (self.P * self.Q), shares / total[..., None]          # (6) (7)

    @property
    def D(self):
        return (self.w * np.tanh(self.u / 2)).sum(-1) / self.W                      # (4)

    def image(self):
        near = np.abs(self.D) < 0.5
        far = self.M_P - self.M_Q + np.log(self.P / self.Q)                         # (1) (5)
        return np.where(near, 2 * np.arctanh(np.where(near, self.D, 0)), far)       # (4)

    def add_derivatives(self):
        """b, X and Y."""
        P, Q, q = self.P[..., None], self.Q[..., None], self.q
        S, T = (scaled_exp(np.minimum(v, 0)) / (1 + q) for v in (self.u, -self.u))
        pi, rho = (self.w * scaled_exp(v) / (1 + q) for v in (self.E_P, self.E_Q))
        over_pi, over_rho = crossed(self.r, pi / P) / SCALE, crossed(self.r, rho / Q) / SCALE       # (7) (9)
        self.b = (T * over_pi - S * over_rho) / SCALE                               # (8) (9)
        self.X, left = self.of_weights(), (self.D <= 0)[..., None]
        P, Q = P * np.exp(self.M_P)[..., None], Q * np.exp(self.M_Q)[..., None]     # (2)
        share = np.where(left, over_pi, over_rho) / SCALE / self.w
        self.Y = share + self.X * np.where(left, P, -Q) / self.W[..., None]         # (11)
        return self

    def of_weights(self):
        """X_k."""
        u_k, u_i = self.u[..., :, None], self.u[..., None, :]
        larger = u_k >= u_i
        p = np.where(larger, self.p[..., :, None], self.p[..., None, :])
        n = np.where(larger, self.n[..., None, :], self.n[..., :, None])
        apart = -np.expm1(-np.abs(np.where(u_k == u_i, 0, u_k - u_i)))
        terms = self.w[..., None, :] * p * n * np.where(larger, apart, -apart)
        return terms.sum(-1) / (self.P * self.Q)[..., None]                         # (10)

    def weights_bar(self, x_bar, l_bar):
        return x_bar[..., None] * self.X + l_bar[..., None] * self.Y                # (12)


def under(v, top):
    """v - top, along the last axis of v; 0 where they are equal, even if both have overflowed."""
    return np.where(v == top[..., None], 0, v - top[..., None])
