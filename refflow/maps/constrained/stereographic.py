r"""Inverse stereographic projection, `R^n` -> the sphere in `R^(n+1)` without its pole: `x` is where the line from the pole through
`z`, in the plane of the equator, meets the sphere.

The map.  With `q = z_1^2 + ... + z_n^2`, and with the height `h` as the last entry of `x`,
    x_k = w z_k  for k <= n,   h = (q - 1) / (q + 1),   w = 2 / (1 + q)             (1)
    z_k = g x_k,   g = 1 / (r - h),   r = sqrt(x_1^2 + ... + x_n^2 + h^2)           (2)
where `r = 1` on the sphere; (2) is the inverse of `x / r`.
    dx_i/dz_j = w ([i = j] - x_i z_j)  for i <= n,   dh/dz_j = w x_j                (3)
The columns of (3) are orthogonal and have length `w`: the map keeps angles.  By the sphere's own area,
    log|det dx/dz| = n log w                                                        (4)
    log|det dz/dx| = n (log r - log(r - h))                                         (5)
No point of `R^n` reaches the pole `(0, .., 0, 1)`.

The reverse rule.  From (3), and with the cotangents `h_bar = x_{n+1}_bar` of the height and `l_bar` of (4),
    z_j_bar = w (x_j_bar - z_j sum_i x_i x_i_bar + h_bar x_j) - n l_bar x_j         (6)
with a sum over `i <= n`.  For the inverse map, with the cotangent `l_bar` of (5) and `A = sum_k z_k z_k_bar`,
    x_j_bar = g (z_j_bar - A x_j / r) - n l_bar z_j h / r^2                         (7)
    h_bar = A / r + n l_bar (r + h) / r^2                                           (8)

Source: the stereographic projection; TensorFlow Probability has it as `UnitVector`.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, log_2, real
from ...core.arithmetic import quotient, times
from ...core.sets import sphere
from .centred_softmax import sum_of_others


class textbook:
    """(1) to (8) as they are printed, for one event."""

    def width(z):
        return 2 / (1 + np.sum(z**2))                                               # (1)

    def forward(z):
        q = np.sum(z**2)
        return np.array([*(textbook.width(z) * z), (q - 1) / (q + 1)])              # (1)

    def letters(x):
        """r, h and g."""
        r, h = np.sqrt(np.sum(x**2)), x[-1]                                         # (2)
        return r, h, 1 / (r - h)                                                    # (2)

    def inverse(x):
        _, _, g = textbook.letters(x)
        return g * x[:-1]                                                           # (2)

    def jacobian(z):
        w, x, n = textbook.width(z), textbook.forward(z), len(z)
        return np.array([[w * ((i == j) - x[i] * z[j]) if i < n else w * x[j] for j in range(n)] for i in range(n + 1)])    # (3)

    def log_det(z):
        return len(z) * np.log(textbook.width(z))                                   # (4)

    def inverse_log_det(x):
        r, h, _ = textbook.letters(x)
        return (len(x) - 1) * (np.log(r) - np.log(r - h))                           # (5)

    def vjp(z, x_bar, l_bar):
        w, x, n = textbook.width(z), textbook.forward(z)[:-1], len(z)
        return w * (x_bar[:-1] - z * np.sum(x * x_bar[:-1]) + x_bar[-1] * x) - n * l_bar * x, {}        # (6)

    def inverse_vjp(x, z_bar, l_bar):
        (r, h, g), z, n = textbook.letters(x), textbook.inverse(x), len(x) - 1
        A = np.sum(z * z_bar)
        x_bar = g * (z_bar - A * x[:-1] / r) - n * l_bar * z * h / r**2             # (7)
        return np.array([*x_bar, A / r + n * l_bar * (r + h) / r**2]), {}           # (8)


r"""In floating point.

In (1), (3), (4) and (6), `q` overflows where `x` does not underflow.  With the least `k >= 0` for which all `|a_j| < 1`,
    a = 2^-k z,   m = 4^-k,   Q = a_1^2 + ... + a_n^2,   b = 2 / (m + Q)            (9)
    w = b m,   x_k = 2^-k b a_k,   x_i z_j = b a_i a_j,   h = (Q - m) / (Q + m)     (10)
    log w = log b - 2 k log 2                                                       (11)
In (3) and (6), `1 - x_j z_j` cancels, and nothing is left of its digits where a step of `z_j` does not change `x_j`:
    1 - x_j z_j = (m + sum_(i != j) a_i^2 - a_j^2) / (m + Q)                        (12)

In (2), `r - h` has no digit left near the pole, and its other form none near the opposite pole.  With the length `t` of `x_1 .. x_n`,
    (r - h) (r + h) = t^2                                                           (13)
gives the small factor from the large one, and a `hypot` takes `r` from `t` and `h`.  For `h > 0`, with the direction `e_k = x_k / t`,
    z_k = e_k (r + h) / t                                                           (14)

In (5), `log(r - h)` loses the digits of a small `h`.  With (13),
    log r - log(r - h) = -log(1 - h / r)                          for h <= r / 2            (15)
                       = log r + log(r + h) - 2 log t             for h >  r / 2            (16)

In (7), the own entry of `A` nearly cancels `z_j_bar` where the height is small.  Without it, and with `c = r + h`,
    z_j_bar - A x_j / r = (z_j_bar (c sum_(k != j) e_k^2 - h) - c e_j sum_(k != j) e_k z_k_bar) / r         (17)

At the ends, the pole `x = (0, .., 0, 1)` has no direction; the result is NaN.
"""


@bijector(source="the stereographic projection", domain=real, codomain=sphere, textbook=textbook)
class Stereographic(Bijector):
    """x = (2 z, |z|^2 - 1) / (|z|^2 + 1), from R^n to the sphere in R^(n+1) without the pole (0, .., 0, 1).

    z is (*batch, n) and real, x is (*batch, n+1) and has length 1, n >= 1.  The log-det is by the sphere's own area.  ValueError for z
    that is not finite and for x that has another length.
    """

    event_ndim = (1, 1)

    def output_shape(self, shape):
        if shape[0] < 1:
            raise ValueError("a point of a plane needs n >= 1 entries")
        return (shape[0] + 1,)

    def input_shape(self, shape):
        if shape[0] < 2:
            raise ValueError("a point of a sphere needs n + 1 >= 2 entries")
        return (shape[0] - 1,)

    @staticmethod
    def inverse_definition(m, x):
        r = m.sqrt(sum(x_k * x_k for x_k in x))
        return [x_k / (r - x[-1]) for x_k in x[:-1]]                                # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        a, k, m, Q = scaled_down(z)
        return np.concatenate((entries(a, k, m, Q), (Q - m) / (Q + m)), -1)         # (1) (10)

    def inverse(self, x):
        t, e = length(x[..., :-1])
        h, _, below, above = factors(x, t)
        return np.where(h > 0, e * (above / t), x[..., :-1] / below)                # (2) (13) (14)

    def log_det(self, z):
        _, k, m, Q = scaled_down(z)
        return z.shape[-1] * (np.log(2 / (m + Q)) - 2 * k.astype(z.dtype) * log_2(z))[..., 0]       # (4) (11)

    def inverse_and_log_det(self, x):
        t, _ = length(x[..., :-1])
        h, r, _, above = factors(x, t)
        far = np.log(r) + np.log(above) - 2 * np.log(t)                             # (16)
        log_ratio = np.where(h <= r / 2, -np.log1p(-np.minimum(h / r, 0.5)), far)   # (5) (15)
        return self.inverse(x), (x.shape[-1] - 1) * log_ratio[..., 0]

    def jacobian(self, z):
        a, k, m, Q = scaled_down(z)
        b, j = 2 / (m + Q), np.arange(z.shape[-1])
        rows = -b[..., None] * (a[..., :, None] * a[..., None, :])                  # (3) (10)
        rows[..., j, j] = own_entries(a, m, Q)                                      # (3) (12)
        J = np.concatenate((rows, entries(a, k, m, Q)[..., None, :]), -2)
        return np.ldexp(b[..., None] * J, -2 * k[..., None])                        # (3) (10)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        a, k, m, Q = scaled_down(z)
        b, x = 2 / (m + Q), entries(a, k, m, Q)

        def pullback(x_bar, log_det_bar):
            first, last = x_bar[..., :-1], x_bar[..., -1:]
            steps = first * own_entries(a, m, Q) - b * a * sum_of_others(a * first) + last * x      # (6) (10) (12)
            return np.ldexp(b * steps, -2 * k) - z.shape[-1] * log_det_bar[..., None] * x, {}       # (6) (10)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        n = x.shape[-1] - 1
        t, e = length(x[..., :-1])
        h, r, below, above = factors(x, t)
        z, size = self.inverse(x), np.where(h > 0, above / t, t / below)            # (14)
        others = sum_of_others(e * e)

        def pullback(z_bar, log_det_bar):
            l_bar = log_det_bar[..., None]
            steps = (z_bar * (above * others - h) - above * e * sum_of_others(e * z_bar)) / r       # (17)
            grown = np.where(h > 0, times(steps, above / t, 1 / t), steps / below)          # (13)
            x_bar = grown - n * times(l_bar * (h / r / r), z)                       # (7)
            A = times((e * z_bar).sum(-1, keepdims=True), size)
            return np.concatenate((x_bar, A / r + n * l_bar * (above / r / r)), -1), {}             # (8)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Origin", "z = 0 has no direction; it goes to the pole opposite", z=[[0.0, 0.0], [2.0**-149, 0.0], [1e-160, -1e-170]],
             x=[[0.0, 0.0, -1.0], [2.0**-100, 2.0**-140, -1.0]]),
        case("Equator", "|z| = 1: height and log-det cancel", z=[[0.6, 0.8], [1.0], [np.nextafter(1, 2), 0.0]],
             x=[[0.6, -0.8, 0.0], [1.0, 2.0**-60], [0.6, 0.8, -(2.0**-60)]]),
        case("Far", "|z|^2 overflows, x does not underflow", z=[[2.0**100, -(2.0**101)], [2.0**600, 1.0]]),
        case("Pole", "r - h has no digit left", x=[[2.0**-40, 2.0**-41, 1.0], [2.0**-140, 1.0], [2.0**-120, 2.0**-121, 1.0]]),
        case("Switch", "(15) and (16) meet", x=[[0.75**0.5, 0.5], [0.5, 0.5**0.5, 0.5]]),
    )


def length(z):
    """(p, d): |z| and z / |z|, which is 0 for z = 0."""
    largest = np.abs(z).max(-1, keepdims=True)
    scaled = quotient(z, largest)
    s = np.sqrt((scaled * scaled).sum(-1, keepdims=True))
    return largest * s, quotient(scaled, s)


def scaled_down(z):
    """(a, k, m, Q)."""
    k = np.maximum(np.frexp(np.abs(z).max(-1, keepdims=True))[1], 0)                # (9)
    a = np.ldexp(z, -k)                                                             # (9)
    return a, k, np.ldexp(z.dtype.type(1), -2 * k), (a * a).sum(-1, keepdims=True)  # (9)


def entries(a, k, m, Q):
    """x_1 .. x_n."""
    return np.ldexp(2 / (m + Q) * a, -k)                                            # (10)


def own_entries(a, m, Q):
    """1 - x_j z_j."""
    return (m + sum_of_others(a * a) - a * a) / (m + Q)                             # (12)


def factors(x, t):
    """(h, r, r - h, r + h), with the smaller factor from (13)."""
    h = x[..., -1:]
    r = np.hypot(t, h)                                                              # (2) (13)
    large = r + np.abs(h)
    small = t * (t / large)                                                         # (13)
    return h, r, np.where(h > 0, small, large), np.where(h > 0, large, small)
