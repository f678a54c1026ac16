r"""Words of the maps `x = f(u_1, ..., u_K)` whose arguments `u_k` rise linearly with `z`, at the rates `a_k > 0`.

`f` is a mean of the arguments: it rises with each of them, and `f(u, ..., u) = link(u)`.  For a mixture's logit, `link(u) = u`; for
its distribution function, `link` is the distribution function of a component.

Let `omega_k` be the derivative of `x` with respect to `u_k`.  The slope and the shares of the components in it are
    dx/dz = g = sum_k omega_k a_k = G h^2,   r_k = omega_k a_k/g                    (1)
where `h^2` holds an exponential that may leave the floats, with `log h = M/2`, so that
    l = log|dx/dz| = M + log G                                                      (2)
With the derivatives `b_k` of `l` with respect to `u_k`, the cotangents of `z` and of the arguments are
    z_bar = x_bar g + l_bar l',   l' = sum_k a_k b_k                                (3)
    u_k_bar = x_bar g r_k/a_k + l_bar b_k                                           (4)
with `l_bar = log_det_bar`, and for the inverse map and its log-det `-l`,
    x_bar = (z_bar - l_bar l')/g                                                    (5)
    u_k_bar = -z_bar r_k/a_k + l_bar sum_i (r_k a_i b_i - r_i a_k b_k)/a_k          (6)
(6) no longer contains the parts of `r_k l' - a_k b_k` that cancel: with one component its sum is 0.  A field on which `a_k` depends
also receives `l_bar` through `a_k`.  For the forward map it is multiplied by the derivative of `l` with respect to `a_k` at
constant `u_k`,
    r_k/a_k                                                                         (7)
and with the opposite sign for the inverse map.  For arguments `(z - m_k)/s_k`, whose rates are `1/s_k`, with this share
`a_k_bar`,
    m_k_bar = -u_k_bar/s_k,   s_k_bar = -(u_k_bar u_k + a_k_bar/s_k)/s_k            (8)

Inverse.  Let `y` be the number with `link(y) = x`.  It lies between the least and the largest argument at the root; so the root
lies between the places where one argument is `y`.  The log-det and the cotangents need the digits of `u_k`, which `z` itself
may have lost.  So the unknown is `d`, the distance of `z` from the zero of the argument `u_j` whose zero is nearest to the
root:
    u_k = a_k d + e_k,   e_k = u_k where u_j = 0                                    (9)
    min_k (y - e_k)/a_k <= d <= max_k (y - e_k)/a_k                                 (10)
This interval is widened by moving `y` by `(1 + |y| + |e_k|)/1024` to either side, so that the root stays inside in spite of
rounding.  With the zeros `c_i` of the arguments in increasing order,
    j = number of i with f < x at (c_i + c_(i+1))/2                                 (11)
Everything is computed in float64, for float32 events too, and rounded once: the exponentials of float32 would underflow at
`|u_k| = 87`, before their products with cotangents do.
The root errs by a few units of its kappa: where `f` is computed with an error of a few units of its own kappa, the sign of
`f - x` is right outside an interval of a few units of the kappa of `z`.
"""

from __future__ import annotations

import numpy as np

from ..elementwise.solve import increasing_root

SCALE = 2.0**200
SIZES = (1, 2, 2, 3)                                # of K in examples: each truth is a root to 50 digits with its derivatives


class Arguments:
    """The letters that cotangents need: a, r and b of (*batch, K), G, M and h of (*batch).

    r and b are held times SCALE: a subnormal share would lose digits that its products with cotangents need.
    """

    @property
    def h(self):
        return np.exp(self.M / 2)                                                   # (1)

    def slope(self):
        return self.h * self.G * self.h                                             # (1)

    def log_slope(self):
        return self.M + np.log(self.G)                                              # (2)

    @property
    def bend(self):
        return (self.a * self.b).sum(-1) / SCALE                                    # (3)

    def pulled_back(self, x_bar, l_bar):
        """(z_bar, u_bar times SCALE, the part of a_bar for constant u times SCALE)."""
        of_g, h, of_l = x_bar * self.h * self.G, self.h, l_bar[..., None]
        u_bar = of_g[..., None] * (self.r / self.a) * h[..., None] + of_l * self.b  # (4)
        return of_g * h + l_bar * self.bend, u_bar, of_l * self.r / self.a          # (3) (7)

    def inverse_pulled_back(self, z_bar, l_bar):
        """(x_bar, SCALE u_bar, SCALE times the part of a_bar for constant u) of the inverse map."""
        of_l = l_bar[..., None]
        through = z_bar - l_bar * self.bend
        x_bar = np.where(through == 0, through, through / self.h / self.G / self.h) # (5)
        u_bar = (of_l * (crossed(self.r, self.a * self.b) / SCALE) - z_bar[..., None] * self.r) / self.a        # (6)
        return x_bar, u_bar, -of_l * self.r / self.a                                # (7)


def loc_scale_bars(v, u_bar, a_bar):
    """The cotangents of loc and scale, from cotangents times SCALE."""
    return {"loc": -u_bar * v.a / SCALE, "scale": -(u_bar * v.u + a_bar * v.a) * v.a / SCALE}       # (8)


def scaled_exp(x):
    """exp(x) times SCALE, in two factors so that it has its digits where exp(x) is subnormal."""
    root = np.exp(x / 2)
    return root * SCALE * root


def crossed(v, w):
    """sum_i (v_k w_i - v_i w_k)."""
    return (v[..., :, None] * w[..., None, :] - v[..., None, :] * w[..., :, None]).sum(-1)


def gaps(v):
    """v_k - v_i on axes k, i."""
    return v[..., :, None] - v[..., None, :]


def with_unit_weights(fields, names=("weights",)):
    """The fields of a mixture after a change of precision: float32 weights must sum to 1 in float64 too."""
    return fields | {name: fields[name] / fields[name].sum(-1, keepdims=True) for name in names}


def flattened(x, *fields):
    """x as (n,), and fields (*batch, K) as (n, K)."""
    return x.reshape(-1), *(np.broadcast_to(v, x.shape + v.shape[-1:]).reshape(-1, v.shape[-1]) for v in fields)


class RootProblem:
    """The equation for x (n,), given by y (n,), the rates and the zeros of the arguments (n, K).

    `offsets(j)` are the e_k (n, K); `excess(u, i)` is positive where f is above x, at arguments u of the problems numbered i.
    """

    def __init__(self, y, a, zeros, offsets, excess):
        self.y, self.a, self.zeros, self.offsets, self.excess = y, a, zeros, offsets, excess

    def nearest(self):
        """j of (11)."""
        everything, passed = np.arange(self.y.size), np.zeros(self.y.size, int)
        order = np.argsort(self.zeros, -1)
        ordered = np.take_along_axis(self.zeros, order, -1)
        for i in range(self.zeros.shape[-1] - 1):
            half = (ordered[:, i + 1] - ordered[:, i]) / 2
            u = self.a * half[:, None] + self.offsets(order[:, i])
            passed += self.excess(u, everything) < 0                                # (11)
        return np.take_along_axis(order, passed[:, None], -1)[:, 0]

    def solved(self):
        """(j, d, the arguments there)."""
        j = self.nearest()
        e, y = self.offsets(j), self.y[:, None]
        margin = (1 + np.abs(y) + np.abs(e)) / 1024
        lower, upper = ((y - e + side * margin) / self.a for side in (-1, 1))       # (10)
        d = increasing_root(lambda d, i: self.excess(self.a[i] * d[:, None] + e[i], i), lower.min(-1), upper.max(-1))
        return j, d, self.a * d[:, None] + e                                        # (9)
