r"""The logit of a mixture of sigmoids, as a map of the arguments that `mixture` describes.

With weights `w_k > 0, W = sum_k w_k`, arguments `u_k` and the logistic function `S`,
    x = log(P/Q),   P = sum_k w_k S(u_k),   Q = sum_k w_k S(-u_k),   P + Q = W      (1)
`P` and `Q` are both kept, without the exponents that let them underflow.  Near `x = 0`, where their quotient rounds to 1, their
difference is kept:
    P = P' exp(M_P),   M_P = max_k min(u_k, 0),   Q = Q' exp(M_Q),   M_Q = max_k min(-u_k, 0)               (2)
    p_k = exp(min(u_k, 0) - M_P)/(1 + exp(-|u_k|)),   n_k = exp(min(-u_k, 0) - M_Q)/(1 + exp(-|u_k|)),
    P' = sum_k w_k p_k,   Q' = sum_k w_k n_k                                        (3)
    x = 2 artanh D,   D = (P - Q)/W = sum_k w_k tanh(u_k/2)/W      for |D| < 1/2    (4)
      = M_P - M_Q + log(P'/Q')                                     elsewhere        (5)
The derivative with respect to `u_k` is `W w_k S(u_k) S(-u_k)/(P Q)`, so that in the letters of `mixture`
    G = W sum_k w_k a_k F_k/(P' Q'),   F_k = exp(E_k - M)/(1 + exp(-|u_k|))^2,
    E_k = -|u_k| - M_P - M_Q,   M = max_k E_k                                       (6)
With `r_k = w_k a_k F_k / sum_i w_i a_i F_i`, `g = dx/dz` and the derivatives of `x`,
    omega_k = r_k g/a_k = W w_k S(u_k) S(-u_k)/(P Q)                                (7)
the derivative of the log-det with respect to `u_k` is `omega_k D - r_k tanh(u_k/2)`, and the derivative with respect to
`w_k` is `r_k/w_k - S(u_k)/P - S(-u_k)/Q + 1/W`.  With one component both are 0.  The following forms no longer contain the terms
that then cancel:
    X_k = sum_i w_i (S(u_k) - S(u_i))/(P Q)
        = sum_i s w_i p_1 n_0 (1 - exp(-|u_k - u_i|))/(P' Q'),   s = sign(u_k - u_i)            (8)
    Z_k = sum_i w_i (S(u_k) - S(u_i))/W = S(u_k) - P/W                              (9)
    d = 1 - sum_k omega_k = sum_(i<j) w_i w_j (S(u_i) - S(u_j))^2/(P Q)             (10)
    v_k = r_k - omega_k = (r_k/a_k) (sum_j omega_j (a_k - a_j) + d a_k)             (11)
    b_k = -v_k tanh(u_k/2) - 2 omega_k Z_k                                          (12)
    Y_k = (p_k/(P' B)) sum_i pi_i (T_k a_k - T_i a_i) + X_k P/W,   T_i = S(-u_i),
    pi_i = w_i p_i/P',   B = sum_i pi_i T_i a_i                                     (13)
The index 1 stands for the larger of `u_k` and `u_i`, 0 for the smaller.  `X_k` and `Y_k` are the derivatives of `x` and of the
log-det with respect to `w_k`.  The difference in (13) is the smaller `T` times `a_k - a_i`, plus a multiple of `S(u_k) - S(u_i)`.
(13) is for `P <= Q`; elsewhere all `u_k` and `X_k` change their signs:
    w_k_bar = x_bar X_k + l_bar Y_k                                                 (14)
For the inverse map, (14) holds with `-x_bar` and `-l_bar`, where `x_bar` is the cotangent that it returns.
"""

from __future__ import annotations

import numpy as np

from .mixture import SCALE, Arguments, gaps, scaled_exp


class SigmoidMixture(Arguments):
    """The letters at arguments u, with weights w and rates a, all (*batch, K)."""

    def __init__(self, w, a, u):
        self.w, self.a, self.u = np.broadcast_arrays(w, a, u)
        self.W = self.w.sum(-1)                                                     # (1)
        below, above, self.q = np.minimum(u, 0), np.minimum(-u, 0), np.exp(-np.abs(u))
        self.M_P, self.M_Q = below.max(-1), above.max(-1)                           # (2)
        E_P, E_Q = under(below, self.M_P), under(above, self.M_Q)
        self.p, self.n = (np.exp(v) / (1 + self.q) for v in (E_P, E_Q))             # (3)
        self.P, self.Q = (self.w * self.p).sum(-1), (self.w * self.n).sum(-1)       # (3)
        E = E_P + E_Q                                                               # (6)
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
        """b, X, Y and d."""
        steps, size = self.steps(), np.exp(self.M_P + self.M_Q)                     # (2)
        PQ = self.P * self.Q
        w_k, w_i = self.w[..., :, None], self.w[..., None, :]
        self.X = (w_i * steps).sum(-1) / PQ[..., None]                              # (8)
        Z = (w_i * steps).sum(-1) * (size / self.W)[..., None]                      # (9)
        self.d = (w_k * w_i * steps * steps).sum((-2, -1)) / 2 / PQ * size          # (10)
        omega = self.r / self.a * self.slope()[..., None]                           # (7)
        apart = (omega[..., None, :] * gaps(self.a)).sum(-1) / SCALE + self.d[..., None] * self.a   # (11)
        v = self.r / self.a * apart                                                 # (11)
        self.b = -v * np.tanh(self.u / 2) - 2 * omega * Z                           # (12)
        left = (self.D <= 0)[..., None]
        tail, P, T = np.where(left, self.p, self.n), np.where(left[..., 0], self.P, self.Q)[..., None], self.other_side(left)
        pi, side = self.w * tail / P, np.where(left, 1, -1)[..., None]
        T_k, T_i = T[..., :, None], T[..., None, :]
        of_larger = np.where(T_k >= T_i, self.a[..., :, None], self.a[..., None, :])
        terms = np.minimum(T_k, T_i) * gaps(self.a) - of_larger * side * steps * size[..., None, None]      # (13)
        shares = tail / P / (pi * T * self.a).sum(-1, keepdims=True) * (pi[..., None, :] * terms).sum(-1)       # (13)
        whole = P * np.exp(np.where(left[..., 0], self.M_P, self.M_Q))[..., None] / self.W[..., None]           # (2)
        self.Y = shares + self.X * side[..., 0] * whole                             # (13)
        return self

    def other_side(self, left):
        """S(-u_k) where P <= Q, else S(u_k)."""
        return np.exp(np.minimum(np.where(left, -self.u, self.u), 0)) / (1 + self.q)

    def steps(self):
        """S(u_k) - S(u_i) on axes k, i, without exp(M_P + M_Q)."""
        u_k, u_i = self.u[..., :, None], self.u[..., None, :]
        larger = u_k >= u_i
        p = np.where(larger, self.p[..., :, None], self.p[..., None, :])
        n = np.where(larger, self.n[..., None, :], self.n[..., :, None])
        apart = -np.expm1(-np.abs(np.where(u_k == u_i, 0, u_k - u_i)))
        return p * n * np.where(larger, apart, -apart)                              # (8)

    def weights_bar(self, x_bar, l_bar):
        return x_bar[..., None] * self.X + l_bar[..., None] * self.Y                # (14)


def under(v, top):
    """v - top, along the last axis of v; 0 where they are equal, even if both have overflowed."""
    return np.where(v == top[..., None], 0, v - top[..., None])
