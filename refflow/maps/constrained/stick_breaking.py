r"""Stick breaking, `R^(K-1)` -> the simplex in `R^K`: each `z_k` breaks the fraction `a_k` off what remains of a stick of
length 1.

The map.  With `n_k = K - k`, so that `z = 0` gives `x = (1/K, ..., 1/K)`, and `t_k = z_k - log n_k`, for `k = 1 .. K-1`,
    a_k = 1 / (1 + exp(-t_k)),   b_k = 1 - a_k = 1 / (1 + exp(t_k))                 (1)
    r_k = prod_{j<k} b_j         the rest before break k                            (2)
    x_k = a_k r_k,   x_K = r_K                                                      (3)
    z_k = log(x_k / r_{k+1}) + log n_k,   r_k = sum_{j>=k} x_j                      (4)
where the sums in (4) equal (2) if `x` sums to 1.  From `da/dz = a b` and `db/dz = -a b`,
    dx_k/dz_k = x_k b_k,   dx_k/dz_i = -x_k a_i  for i < k,   all else 0            (5)
The chart is `x_1 .. x_{K-1}`, whose block is triangular with diagonal `a_k b_k r_k`; the product of these is `x_1 ... x_K`:
    log|det J| = sum_{k<=K} log x_k                                                 (6)
For the inverse map, as a function of all `K` entries, (4) in (6) telescopes:
    log|det dz/dx| = K log r_1 - sum_{k<=K} log x_k                                 (7)

The reverse rule.  From (5), and from `dl/dz_k = b_k - n_k a_k`, as `b_k` is a factor of all `n_k` later entries, where `l` is (6) and
has the cotangent `l_bar`,
    z_k_bar = b_k x_k x_k_bar - a_k sum_{j>k} x_j x_j_bar + l_bar (b_k - n_k a_k)   (8)
For the inverse map, with the cotangent `l_bar` of (7), and with `z_K_bar = 0`,
    x_k_bar = (z_k_bar - l_bar) / x_k - sum_{j<k} z_j_bar / r_{j+1} + l_bar K / r_1         (9)

Source: the Stan reference manual, "Unit simplex"; the log-det is that of the first `K - 1` entries.
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, real, simplex


class textbook:
    """(1) to (9) as they are printed, for one event."""

    def fractions(z):
        """n, a and b."""
        n = np.arange(len(z), 0, -1, z.dtype)
        t = z - np.log(n)
        return n, 1 / (1 + np.exp(-t)), 1 / (1 + np.exp(t))                         # (1)

    def rests(x):
        return np.cumsum(x[::-1])[::-1]                                             # (4)

    def forward(z):
        x, rest = [], 1
        for a, b in zip(*textbook.fractions(z)[1:]):
            x, rest = [*x, a * rest], rest * b                                      # (2) (3)
        return np.array([*x, rest])                                                 # (3)

    def inverse(x):
        n, r = np.arange(len(x) - 1, 0, -1, x.dtype), textbook.rests(x)
        return np.log(x[:-1] / r[1:]) + np.log(n)                                   # (4)

    def jacobian(z):
        (_, a, b), x = textbook.fractions(z), textbook.forward(z)
        return np.array([[x[k] * b[k] if i == k else -x[k] * a[i] if i < k else 0 for i in range(len(z))]
                         for k in range(len(x))])                                   # (5)

    def log_det(z):
        return np.sum(np.log(textbook.forward(z)))                                  # (6)

    def inverse_log_det(x):
        return len(x) * np.log(np.sum(x)) - np.sum(np.log(x))                       # (7)

    def vjp(z, x_bar, l_bar):
        (n, a, b), x = textbook.fractions(z), textbook.forward(z)
        later = textbook.rests(x * x_bar)[1:]
        return b * x[:-1] * x_bar[:-1] - a * later + l_bar * (b - n * a), {}        # (8)

    def inverse_vjp(x, z_bar, l_bar):
        K, r, bars = len(x), textbook.rests(x), [*z_bar, 0]
        return np.array([(bars[k] - l_bar) / x[k] - np.sum(z_bar[:k] / r[1:k + 1]) + l_bar * K / r[0]
                         for k in range(K)]), {}                                    # (9)


r"""In floating point.

In (1), `log n_k` is rounded, and an exponential may overflow.  With `e = exp(-|z|)`,
    a = 1 / d,   b = n e / d,   d = 1 + n e                  for z >= 0             (10)
    a = e / d,   b = n / d,     d = e + n                    for z <  0             (11)
in float64, for float32 too, whose exponential may be off by 2.5 units, because `dx_K/dz_i` is a product of `K` fractions.
No difference is taken in (2), (3), (10) and (11), so every `x_k` keeps its relative accuracy; as all factors are `<= 1`, `r_k`
underflows only where `x_k` and all later entries do.

In (4), the quotient overflows if the rest is subnormal, but a quotient of roots does not:
    z_k = 2 log(sqrt(x_k) / sqrt(r_{k+1})) + log n_k                                (12)
`1 - x_1 - ... - x_k` would lose every digit of a small rest.  A rest of 0 that is broken again `(x_k = r_{k+1} = 0)` fits every
`z_k`; the result is NaN.

In (6), `x_k` may underflow where its logarithm is far from the ends of the floats:
    log a = min(t, 0) - log(1 + exp(-|t|)),   log b = -max(t, 0) - log(1 + exp(-|t|))       (13)
    log x_k = log a_k + sum_{j<k} log b_j                                           (14)
All terms of (6) and (14) are `<= 0`.

In (8), `b_k` and `n_k a_k` are equal at `z = 0`, and cancel near it:
    b_k - n_k a_k = n_k (exp(-|z_k|) - 1) sign(z_k) / d_k                           (15)
A product of a cotangent `c` and `p in {a, b, x}` may be representable where `p` has underflowed; there
    c p = c exp(log(p) / 2) exp(log(p) / 2)                                         (16)
with the logarithms (13), (14).  Elsewhere the product itself is more accurate.

In (9), `1/x_k` of a subnormal `x_k` overflows before the terms are added.  (4) and (7) do not change when `x` is multiplied by a
number, so (9) is computed at
    y = c x,   x_bar = c y_bar,   c the square root of the largest power of 2       (17)
"""


@bijector(source="Stan reference manual, unit simplex", domain=real, codomain=simplex, textbook=textbook)
class StickBreaking(Bijector):
    """x_k = a_k prod_{j<k} (1 - a_j), x_K the rest, a_k = sigmoid(z_k - log(K - k)).

    z is (*batch, K-1) and real, x is (*batch, K) with entries >= 0 that sum to 1, K >= 1
    (K = 1: an empty z and x = 1).  The log-det is that of the first K - 1 entries.  ValueError for z that is not finite and
    for x outside the simplex.
    """

    event_ndim = (1, 1)

    def output_shape(self, shape):
        return (shape[0] + 1,)

    def input_shape(self, shape):
        if shape[0] < 1:
            raise ValueError("a point of the simplex needs K >= 1 entries")
        return (shape[0] - 1,)

    @staticmethod
    def inverse_definition(m, x):
        K = len(x)
        return [m.log(x[k - 1] / sum(x[k:])) + m.log(K - k) for k in range(1, K)]   # (4)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        a, b, _ = fractions(z)
        return sticks(a, b)                                                         # (3)

    def inverse(self, x):
        rest = tail_sums(x)[..., 1:]
        log_n = np.log(breaks(x.shape[-1], x.dtype))
        return 2 * np.log(np.sqrt(x[..., :-1]) / np.sqrt(rest)) + log_n             # (4) (12)

    def log_det(self, z):
        return logarithms(z)[2].sum(-1)                                             # (6)

    def inverse_and_log_det(self, x):
        r_1 = tail_sums(x)[..., 0]
        log_det = x.shape[-1] * np.log(r_1) - np.log(x).sum(-1)                     # (7)
        return self.inverse(x), log_det

    def jacobian(self, z):
        a, b, _ = fractions(z)
        x = sticks(a, b)
        J = np.tril(-x[..., :, None] * a[..., None, :], -1)                         # (5)
        k = np.arange(z.shape[-1])
        J[..., k, k] = x[..., :-1] * b                                              # (5)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        n = breaks(z.shape[-1] + 1, z.dtype)
        a, b, d = fractions(z)
        x = sticks(a, b)
        log_a, log_b, log_x = logarithms(z)

        def pullback(x_bar, log_det_bar):
            weighted = product_with_root(x_bar, x, log_x)                           # (16)
            own = product_with_root(weighted[..., :-1], b, log_b)
            after = product_with_root(tail_sums(weighted)[..., 1:], a, log_a)
            step = np.copysign(np.expm1(-np.abs(z)), -z)                            # (15)
            return own - after + log_det_bar[..., None] * n / d * step, {}          # (8) (15)

        return (x, log_x.sum(-1)), pullback

    def inverse_vjp(self, x):
        K = x.shape[-1]
        c = np.ldexp(x.dtype.type(1), np.finfo(x.dtype).maxexp // 2)                # (17)
        y = c * x                                                                   # (17)
        r = tail_sums(y)

        def pullback(z_bar, log_det_bar):
            l_bar, none = log_det_bar[..., None], np.zeros(z_bar.shape[:-1] + (1,), z_bar.dtype)
            own = (np.concatenate((z_bar, none), -1) - l_bar) / y
            before = np.concatenate((none, np.cumsum(z_bar / r[..., 1:], -1)), -1)
            y_bar = own - before + l_bar * (K / r[..., :1])                         # (9)
            return c * y_bar, {}                                                    # (17)

        return self.inverse_and_log_det(x), pullback

    hard_cases = (
        case("Centre", "z = 0 is the centre: dl/dz is exactly 0, b - n a is not", z=[[0.0, 0.0, 0.0], [1e-9, -1e-160, 0.0]]),
        case("ThinRest", "the rest is far below u: 1 - sum x_k has no digit of it",
             z=[[40.0, 40.0, 40.0], [60.0, 3.0, -3.0]]),
        case("Underflow", "a fraction underflows, log-det stays -n z or z", z=[[800.0, -1.0], [2.0**120, -(2.0**120)]]),
        case("UnderflowTimesCotangent", "x_k and a_k underflow, a cotangent times them does not",
             z=[[-92.0, 50.0, 55.0], [-750.0, 370.0, 400.0], [110.0, -1.0, 0.0]]),
        case("Shift", "z_k = log n_k: both fractions are 1/2, z - log n cancels",
             z=[[1.3862943611198906, 1.0986122886681098, 0.6931471805599453, 0.0]]),
        case("SubnormalRest", "x_k / r_{k+1} overflows, its logarithm is about 740",
             x=[[1.0, 2.0**-149], [1.0, 2.0**-1074], [2.0**-149, 1.0]]),
        case("ManySmall", "x_1 = x_2 = tiny: their quotient is 1, a difference of logarithms loses it",
             x=[[2.0**-140, 2.0**-140, 1.0], [1.0, 2.0**-140, 2.0**-140]]),
    )


def breaks(K, dtype):
    """n_k = K - k for k = 1 .. K-1."""
    return np.arange(K - 1, 0, -1, dtype=dtype)


def tail_sums(values):
    """sum_{j>=k} v_j for each k."""
    return np.cumsum(values[..., ::-1], -1)[..., ::-1]


def fractions(z):
    """(a, b, d): the fraction broken off, the fraction that remains, and their denominator."""
    n, e, up = breaks(z.shape[-1] + 1, np.float64), np.exp(-np.abs(np.float64(z))), z >= 0
    d = np.where(up, 1 + n * e, e + n)
    a = np.where(up, 1, e) / d                                                      # (10) (11)
    b = n * np.where(up, e, 1) / d                                                  # (10) (11)
    return tuple(part.astype(z.dtype) for part in (a, b, d))


def sticks(a, b):
    """x from the fractions."""
    one = np.ones(a.shape[:-1] + (1,), a.dtype)
    r = np.concatenate((one, np.cumprod(b, -1)), -1)                                # (2)
    return np.concatenate((a, one), -1) * r                                         # (3)


def logarithms(z):
    """(log a, log b, log x)."""
    t = z - np.log(breaks(z.shape[-1] + 1, z.dtype))
    shared, zero = np.log1p(np.exp(-np.abs(t))), np.zeros(z.shape[:-1] + (1,), z.dtype)     # (13)
    log_a, log_b = np.minimum(t, 0) - shared, -np.maximum(t, 0) - shared            # (13)
    log_r = np.concatenate((zero, np.cumsum(log_b, -1)), -1)
    return log_a, log_b, np.concatenate((log_a, zero), -1) + log_r                  # (14)


def product_with_root(c, p, log_p):
    """c p, where p may underflow and c p does not."""
    half = np.exp(log_p / 2)
    return np.where(p < np.finfo(p.dtype).smallest_normal, c * half * half, c * p)  # (16)
