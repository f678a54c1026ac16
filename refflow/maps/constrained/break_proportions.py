r"""Parts of a stick of length 1 from its break proportions, `(0, 1)^(K-1)` -> the simplex in `R^K`: break `k` takes the proportion
`z_k` of what remains.

The map.  For `k = 1 .. K-1`,
    x_k = z_k r_k,   x_K = r_K,   r_k = (1 - z_1) ... (1 - z_{k-1})                 (1)
    z_k = x_k / S_k,   S_k = x_k + ... + x_K                                        (2)
    dx_k/dz_k = r_k  for k < K,   dx_k/dz_i = -x_k / (1 - z_i)  for i < k,   all else 0     (3)
The block of (3) for the coordinates `x_1 .. x_{K-1}` is triangular, with the diagonal `r_1 .. r_{K-1}`:
    log|det dx/dz| = sum_k (K - 1 - k) log(1 - z_k)                                 (4)
For the inverse map, as a function of all `K` entries, `r_k = S_k / S_1`:
    log|det dz/dx| = (K - 1) log S_1 - sum_(k < K) log S_k                          (5)
A map of the real line onto `(0, 1)` before it, such as a `Sigmoid` or the `NormalCDF`, makes a map of free vectors.  A vector of
locations chooses the image of the free vector 0.  `StickBreaking` is the map with `Sigmoid` and the locations `log(K - k)`, without a loss
of digits where a proportion is near 1.  `AngularProportion` makes the free numbers angles of a point of a sphere.  Powers of a distribution
function `F` give `z_k = 1 - F^(1/(K - k))`, which is a `WeibullCDF` of `-log F` with the scale `K - k` and the concentration 1.  Then
`x` is uniform on the simplex if the values of `F` are independent and uniform.

The reverse rule.  From (3), and with the cotangent `l_bar` of (4),
    z_i_bar = r_i x_i_bar - (sum_(k > i) x_k x_k_bar + l_bar (K - 1 - i)) / (1 - z_i)       (6)
For the inverse map, from (2), and with the cotangent `l_bar` of (5), with `z_K_bar = 0` and `c = min(j, K - 1)`,
    x_j_bar = z_j_bar S_{j+1} / S_j^2 - sum_(k < j) z_k_bar z_k / S_k + l_bar ((K - 1) / S_1 - sum_(k <= c) 1 / S_k)       (7)

Source: Connor & Mosimann (1969), "Concepts of independence for proportions".
"""

from __future__ import annotations

import numpy as np

from ...core import Bijector, bijector, case, interval, simplex
from ...core.arithmetic import quotient
from .stick_breaking import sticks, tail_sums


class textbook:
    """(1) to (7) as they are printed, for one event."""

    def rests(z):
        return np.array([np.prod(1 - z[:k]) for k in range(len(z) + 1)])            # (1)

    def forward(z):
        return np.array([*z, 1]) * textbook.rests(z)                                # (1)

    def sums(x):
        return np.array([np.sum(x[k:]) for k in range(len(x))])                     # (2)

    def inverse(x):
        return (x / textbook.sums(x))[:-1]                                          # (2)

    def jacobian(z):
        r, x, K = textbook.rests(z), textbook.forward(z), len(z) + 1
        J = [r[k] if i == k else -x[k] / (1 - z[i]) if i < k else 0 for k in range(K) for i in range(K - 1)]        # (3)
        return np.reshape(J, (K, K - 1))

    def log_det(z):
        return np.sum(np.arange(len(z) - 1, -1, -1) * np.log(1 - z))                # (4)

    def inverse_log_det(x):
        S = textbook.sums(x)
        return (len(x) - 1) * np.log(S[0]) - np.sum(np.log(S[:-1]))                 # (5)

    def vjp(z, x_bar, l_bar):
        r, x, n = textbook.rests(z), textbook.forward(z), len(z)
        later = [np.sum((x * x_bar)[i + 1:]) + l_bar * (n - 1 - i) for i in range(n)]
        return r[:-1] * x_bar[:-1] - np.array(later) / (1 - z), {}                  # (6)

    def inverse_vjp(x, z_bar, l_bar):
        S, K, bars = np.array([*textbook.sums(x), 0]), len(x), np.array([*z_bar, 0])
        before = bars * x / S[:-1]**2
        return np.array([bars[j] * S[j + 1] / S[j]**2 - np.sum(before[:j]) + l_bar * ((K - 1) / S[0] - np.sum(1 / S[:min(j + 1, K - 1)]))
                         for j in range(K)]), {}                                    # (7)


r"""In floating point.

In (3) and (6), the division by `1 - z_i` removes a factor of `x_k`, but `x_k` may have underflowed with that factor.  A recurrence
forms the products without it:
    sum_(k > i) x_k x_k_bar / (1 - z_i) = r_i U_i,   U_{i-1} = z_i x_i_bar + (1 - z_i) U_i,   U_{K-1} = x_K_bar     (8)

In (4), `1 - z_k` has lost the digits of a small `z_k`:
    log(1 - z_k) = log1p(-z_k)                                                      (9)

In (5), logarithms near 0 cancel.  No term is negative in
    log|det dz/dx| = sum_k (K - 1 - k) log(S_k / S_{k+1})                           (10)
    log(S_k / S_{k+1}) = log1p(x_k / S_{k+1})                    for x_k <= S_{k+1}         (11)
                       = 2 log(sqrt(S_k) / sqrt(S_{k+1}))        for x_k >  S_{k+1}, where the quotient may overflow        (12)

In (7), `1 / S_1` and `1 / S_k` cancel where both are near 1, and quotients overflow before they are added:
    1 / S_1 - 1 / S_k = -(x_1 + ... + x_{k-1}) / (S_1 S_k)                          (13)
    y = c x,   x_bar = c y_bar,   c the square root of the largest power of 2       (14)
because (2) and (5) do not change when `x` is multiplied by a number.
"""


@bijector(source="Connor & Mosimann (1969)", domain=interval(0, 1), codomain=simplex, textbook=textbook)
class BreakProportions(Bijector):
    """x_k = z_k prod_{j<k} (1 - z_j), x_K the rest.

    z is (*batch, K-1) with entries in (0, 1), x is (*batch, K) with entries >= 0 that sum to 1, K >= 1 (K = 1: an empty z and x = 1).
    The log-det is by the first K - 1 entries of x.  ValueError for z and x that are not in these sets.
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
        return [x[k] / sum(x[k:]) for k in range(len(x) - 1)]                       # (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def forward(self, z):
        return sticks(z, 1 - z)                                                     # (1)

    def inverse(self, x):
        return (x / tail_sums(x))[..., :-1]                                         # (2)

    def log_det(self, z):
        return (counts(z) * np.log1p(-z))[..., :-1].sum(-1)                         # (4) (9)

    def inverse_and_log_det(self, x):
        S = tail_sums(x)
        q = x[..., :-2] / S[..., 1:-1]
        steep = 2 * np.log(np.sqrt(S[..., :-2]) / np.sqrt(S[..., 1:-1]))            # (12)
        terms = np.where(q <= 1, np.log1p(q), steep)                                # (11)
        return self.inverse(x), (counts(x[..., 1:])[..., :-1] * terms).sum(-1)      # (5) (10)

    def jacobian(self, z):
        b, k = 1 - z, np.arange(z.shape[-1])
        later = np.cumprod(np.where(k[:, None] > k, b[..., :, None], 1), -2)        # (8)
        between = np.concatenate((np.ones_like(later[..., :1, :]), later), -2)
        parts = with_last(z, 1)[..., None] * between * rests(b)[..., None, :]       # (8)
        J = np.tril(-parts, -1)                                                     # (3)
        J[..., k, k] = rests(b)                                                     # (3)
        return J

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, z):
        b = 1 - z

        def pullback(x_bar, log_det_bar):
            U = np.empty_like(z * x_bar[..., 1:])
            later = x_bar[..., -1]
            for i in range(z.shape[-1] - 1, -1, -1):
                U[..., i] = later
                later = z[..., i] * x_bar[..., i] + b[..., i] * later               # (8)
            own = rests(b) * (x_bar[..., :-1] - U)                                  # (6) (8)
            return own - quotient(log_det_bar[..., None] * counts(z), b), {}        # (6)

        return self.forward_and_log_det(z), pullback

    def inverse_vjp(self, x):
        K = x.shape[-1]
        c = np.ldexp(x.dtype.type(1), np.finfo(x.dtype).maxexp // 2)                # (14)
        y = c * x                                                                   # (14)
        S, z = tail_sums(y), self.inverse(x)
        S_k, first = S[..., :-1], S[..., :1]
        head = np.concatenate((np.zeros_like(first), np.cumsum(y, -1)), -1)[..., :K - 1]
        lost = np.cumsum(head / first / S_k, -1)                                    # (13)
        slope = with_last(counts(z) / first - lost, 0)
        slope[..., -1:] = -lost[..., -1:] if K > 1 else 0

        def pullback(z_bar, log_det_bar):
            own = with_last(z_bar * (S[..., 1:] / S_k) / S_k, 0)
            before = np.concatenate((np.zeros_like(first), np.cumsum(z_bar * z / S_k, -1)), -1)
            y_bar = own - before + log_det_bar[..., None] * slope                   # (7) (13)
            return c * y_bar, {}                                                    # (14)

        return self.inverse_and_log_det(x), pullback

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Tiny", "logarithms of numbers near 1: log-det is of the order of z", z=[[1e-9, 1e-20, 0.5], [2.0**-140, 2.0**-149]],
             x=[[1e-9, 0.25, 0.75], [1e-20, 1e-30, 1.0]]),
        case("WithoutFactor", "x_3 underflows, x_3 / (1 - z_1) does not", z=[[1 - 2.0**-24, 0.5, 2.0**-146], [1 - 2.0**-53, 2.0**-1070]]),
        case("Last", "nearly all is taken at once", z=[[1 - 2.0**-20, 0.5], [0.5, 1 - 2.0**-24]],
             x=[[1.0, 2.0**-60, 2.0**-80], [1.0, 2.0**-140, 2.0**-149]]),
        case("Switch", "(11) and (12) meet", x=[[0.5, 0.25, 0.25], [0.25, 0.375, 0.375]]),
        case("SubnormalRest", "x_k / S_{k+1} overflows", x=[[1.0, 2.0**-149, 2.0**-148], [1.0, 2.0**-1074, 2.0**-1073]]),
        case("Ends", "(4) has no term of the last proportion", z=[[0.5, 0.25, 1e-30]]),
    )


def counts(z):
    """K - 1 - k."""
    return np.arange(z.shape[-1] - 1, -1, -1, dtype=z.dtype)


def rests(b):
    """r_1 .. r_{K-1}."""
    one = np.ones(b.shape[:-1] + (1,), b.dtype)
    return np.concatenate((one, np.cumprod(b, -1)), -1)[..., :-1]                   # (1)


def with_last(v, last):
    return np.concatenate((v, np.full(v.shape[:-1] + (1,), last, v.dtype)), -1)
