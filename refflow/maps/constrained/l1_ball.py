r"""Signed stick breaking, `R^n` -> the ball `|x_1| + ... + |x_n| < 1`: each `z_k` takes a signed part of what is left of 1.

The map.  For `k = 1 .. n`,
    t_k = tanh z_k,   b_k = 1 - |t_k| = 2 / (1 + exp(2 |z_k|))                      (1)
    x_k = t_k P_k,   P_k = b_1 ... b_{k-1}                                          (2)
    z_k = artanh(x_k / R_k),   R_k = 1 - |x_1| - ... - |x_{k-1}|                    (3)
where `R_k` is `P_k`.  With `v_k = 1` for `z_k >= 0` and `-1` for `z_k < 0`, and with the slope `s_k = 1 - t_k^2 = b_k (1 + |t_k|)`,
    dx_k/dz_k = s_k P_k,   dx_k/dz_j = -v_j (1 + |t_j|) x_k  for j < k,   all else 0        (4)
    log|det dx/dz| = sum_k (log s_k + (n - k) log b_k)                              (5)
From (3), `dz_k/dx_k = R_k / (R_{k+1} (R_k + |x_k|))`, and the sum of the logarithms telescopes:
    log|det dz/dx| = -log R_{n+1} - sum_k log(R_k + |x_k|)                          (6)
The map has a break at every plane `z_k = 0` except the last: there (4) is the derivative from the right.

The reverse rule.  From (4), as `log s_k` has the derivative `-2 t_k`, and with the cotangent `l_bar` of (5),
    z_j_bar = x_j_bar s_j P_j - 2 l_bar t_j - v_j (1 + |t_j|) (sum_(k > j) x_k x_k_bar + l_bar (n - j))     (7)
For the inverse map, with `e_k = 1 / (R_{k+1} (R_k + |x_k|))` and the cotangent `l_bar` of (6),
    dz_k/dx_k = R_k e_k,   dz_k/dx_j = v_j x_k e_k  for j < k                       (8)
    f_j = 1 / R_{n+1} - 1 / (R_j + |x_j|) + sum_(k > j) 1 / (R_k + |x_k|)           (9)
    x_j_bar = z_j_bar R_j e_j + v_j (sum_(k > j) z_k_bar x_k e_k + l_bar f_j)       (10)

Source: NumPyro, `L1BallTransform`.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, real
from ...core.sets import l1_ball, what_is_left
from .correlation_cholesky import log_sech
from .stick_breaking import product_with_root, tail_sums


class textbook:
    """(1) to (10) as they are printed, for one event."""

    def side(v):
        return np.array([1 if entry >= 0 else -1 for entry in v], v.dtype)

    def letters(z):
        """t, b, s and P."""
        t, b = np.tanh(z), 2 / (1 + np.exp(2 * np.abs(z)))                          # (1)
        return t, b, b * (1 + np.abs(t)), np.array([np.prod(b[:k]) for k in range(len(z))])        # (2)

    def forward(z):
        t, _, _, P = textbook.letters(z)
        return t * P                                                                # (2)

    def rests(x):
        """R_1 .. R_{n+1}."""
        return np.array([1 - np.sum(np.abs(x[:k])) for k in range(len(x) + 1)])     # (3)

    def inverse(x):
        return np.arctanh(x / textbook.rests(x)[:-1])                               # (3)

    def jacobian(z):
        (t, _, s, P), x, v = textbook.letters(z), textbook.forward(z), textbook.side(z)
        return np.array([[s[k] * P[k] if j == k else -v[j] * (1 + abs(t[j])) * x[k] if j < k else 0 for j in range(len(z))]
                         for k in range(len(z))])                                   # (4)

    def log_det(z):
        (_, b, s, _), n = textbook.letters(z), len(z)
        return np.sum(np.log(s) + np.arange(n - 1, -1, -1, z.dtype) * np.log(b))             # (5)

    def inverse_log_det(x):
        R = textbook.rests(x)
        return -np.log(R[-1]) - np.sum(np.log(R[:-1] + np.abs(x)))                  # (6)

    def vjp(z, x_bar, l_bar):
        (t, _, s, P), v, n = textbook.letters(z), textbook.side(z), len(z)
        weighted = textbook.forward(z) * x_bar
        later = np.array([np.sum(weighted[j + 1:]) + l_bar * (n - 1 - j) for j in range(n)])
        return x_bar * s * P - 2 * l_bar * t - v * (1 + np.abs(t)) * later, {}      # (7)

    def inverse_vjp(x, z_bar, l_bar):
        R, v, n = textbook.rests(x), textbook.side(x), len(x)
        sums = R[:-1] + np.abs(x)
        e = 1 / (R[1:] * sums)                                                      # (8)
        f = np.array([1 / R[-1] - 1 / sums[j] + np.sum(1 / sums[j + 1:]) for j in range(n)])        # (9)
        later = np.array([np.sum((z_bar * x * e)[j + 1:]) for j in range(n)])
        return z_bar * R[:-1] * e + v * (later + l_bar * f), {}                     # (10)


r"""In floating point.

In (1), `1 - |t_k|` has no digit left for a large `z_k`, and `exp(2 |z_k|)` overflows where `b_k` is not 0:
    b_k = 2 q_k / (1 + q_k),   s_k = 4 q_k / (1 + q_k)^2,   q_k = exp(-2 |z_k|)     (11)
All factors of (2) are `<= 1`, so that no difference is taken on the way to `x`.

In (3), `x_k / R_k` rounds to 1 near the face of the ball:
    z_k = sign(x_k) log(1 + 2 |x_k| / R_{k+1}) / 2                                  (12)
What rounding takes from each `R_k` is carried to the next.

In (5), `s_k` and `b_k` may underflow where their logarithms are moderate, and near 1 they lose the digits of their logarithms:
    log s_k = -log(1 + sinh^2 z_k)  for |z_k| <= 1,   2 log 2 - 2 |z_k| - 2 log(1 + q_k)  for |z_k| > 1     (13)
    log b_k = -2 |z_k| - log(1 + (q_k - 1) / 2)                                     (14)
All terms of (5) are `<= 0`.

In (6), terms cancel near `x = 0`.  No term is negative in
    log|det dz/dx| = sum_k (log(1 + x_k^2 e_k) + (n - k) log(1 + |x_k| / R_{k+1}))  (15)

In (7), `P_k` and `s_k P_k` may underflow where a product with a cotangent `c` does not; there
    c p = c exp(log(p) / 2) exp(log(p) / 2)                                         (16)
with sums of (13) and (14).

In (9), terms cancel where `x_j` is small.  No term is negative in
    f_j = 2 |x_j| e_j + sum_(k > j) (|x_k| / (R_k R_{k+1}) + 1 / (R_k + |x_k|))     (17)

At the ends, a rounded `x` may lie on the face or beyond it; there `R_{n+1} = 0`, and `z` is infinite.
"""


@bijector(source="NumPyro, L1BallTransform", domain=real, codomain=l1_ball, textbook=textbook)
class L1Ball(Bijector):
    """x_k = tanh(z_k) prod_{j<k} (1 - |tanh z_j|), from R^n to the vectors whose sum of magnitudes is below 1.

    ValueError for z that is not finite and for x that is not in the ball.
    """

    event_ndim = (1, 1)

    @staticmethod
    def inverse_definition(m, x):
        z, R = [], 1
        for x_k in x:
            z.append(m.atanh(x_k / R))                                              # (3)
            R = R - (x_k if x_k >= 0 else -x_k)                                     # (3)
        return z

    # -- the map ------------------------------------------------------------------------------------------------------

    def breaks(self):
        """The break 0, of every entry but the last; the derivative there is the one from the right."""
        return np.zeros(1)

    def forward(self, z):
        return np.tanh(z) * lefts(z)                                                # (1) (2) (11)

    def inverse(self, x):
        R = rests(x)
        return np.copysign(np.log1p(2 * np.abs(x) / R[..., 1:]) / 2, x)             # (3) (12)

    def log_det(self, z):
        return (2 * log_sech(z) + counts(z) * log_b(z)).sum(-1)                     # (5) (13) (14)

    def inverse_and_log_det(self, x):
        R, a = rests(x), np.abs(x)
        q = a / R[..., 1:]
        terms = np.log1p(q * (a / (R[..., :-1] + a))) + counts(x) * np.log1p(q)     # (6) (15)
        return self.inverse(x), terms.sum(-1)

    def jacobian(self, z):
        t, P, k = np.tanh(z), lefts(z), np.arange(z.shape[-1])
        J = np.tril((t * P)[..., :, None] * (-side(z) * (1 + np.abs(t)))[..., None, :], -1)         # (4)
        J[..., k, k] = slopes(z) * P                                                # (4)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        t, P, s, n = np.tanh(z), lefts(z), slopes(z), counts(z)
        log_P = np.cumsum(np.concatenate((np.zeros_like(z[..., :1]), log_b(z)[..., :-1]), -1), -1)          # (16)
        log_s = 2 * log_sech(z)                                                     # (13)

        def pullback(x_bar, log_det_bar):
            l_bar, weighted = log_det_bar[..., None], t * product_with_root(x_bar, P, log_P)        # (16)
            own = product_with_root(x_bar, s * P, log_s + log_P)                    # (16)
            later = after(weighted) + l_bar * n
            return own - 2 * l_bar * t - side(z) * (1 + np.abs(t)) * later, {}      # (7)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        R, a = rests(x), np.abs(x)
        R_k, R_next = R[..., :-1], R[..., 1:]
        growth = a / R_k / R_next + 1 / (R_k + a)

        def pullback(z_bar, log_det_bar):
            l_bar = log_det_bar[..., None]
            later = after(z_bar * x / R_next / (R_k + a)) + l_bar * after(growth)   # (8) (17)
            own = z_bar * (R_k / (R_k + a)) / R_next + l_bar * (2 * x / R_next / (R_k + a))         # (8) (17)
            return own + side(x) * later, {}                                        # (10)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Centre", "log-det is -z_3^2 beside terms of the first order", z=[[1e-9, -1e-20, 1e-160], [0.0, 0.0, 1e-9]],
             x=[[1e-20, -1e-9, 1e-9], [0.0, 1e-160, -1e-9], [1e-30, 2.0**-30]]),
        case("Break", "z_1 = 0: the derivative is the one from the right", z=[[0.0, 1.0, -2.0], [2.0, 0.0]], x=[[0.0, 0.5, -0.25]]),
        case("Saturated", "t_k rounds to 1, what is left does not round to 0", z=[[20.0, -40.0, 30.0], [3.0, -60.0, 1.0]]),
        case("Underflow", "a part underflows, the log-det stays finite", z=[[800.0, -1.0, 2.0**100], [60.0, -50.0, 3.0]]),
        case("UnderflowTimesCotangent", "P_k and s_k underflow, a cotangent times them does not",
             z=[[-47.0, 4.0, 0.25], [200.0, -173.0, 1.0], [2.0, 51.0], [2.0**60, 2.0**120]]),
        case("Switch", "the two forms of (13) meet", z=[[np.nextafter(1, 0), 1.0, -np.nextafter(1, 2)]]),
        case("Face", "what is left has few digits, and x_k / R_k rounds to 1",
             x=[[0.5, -(0.5 - 2.0**-24)], [1 - 2.0**-20, 2.0**-60], [0.25, -0.25, 0.5 - 2.0**-20]]),
    )


def side(z):
    """v."""
    return np.where(z >= 0, 1, -1).astype(z.dtype)


def counts(z):
    """n - k."""
    return np.arange(z.shape[-1] - 1, -1, -1, dtype=z.dtype)


def lefts(z):
    """P."""
    q = np.exp(-2 * np.abs(z))
    b = 2 * q / (1 + q)                                                             # (1) (11)
    return np.concatenate((np.ones_like(b[..., :1]), np.cumprod(b[..., :-1], -1)), -1)      # (2)


def slopes(z):
    """s."""
    q = np.exp(-2 * np.abs(z))
    return 4 * q / (1 + q) / (1 + q)                                                # (11)


def log_b(z):
    a = np.abs(z)
    return -2 * a - np.log1p(np.expm1(-2 * a) / 2)                                  # (14)


def rests(x):
    """R_1 .. R_{n+1}, none of them below 0."""
    R = what_is_left(x)                                                             # (3)
    return np.where(R < 0, 0, R)


def after(w):
    """sum_(k > j) w_k for each j."""
    return np.concatenate((tail_sums(w)[..., 1:], np.zeros_like(w[..., :1])), -1)
