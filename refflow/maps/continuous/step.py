r"""One step of a Runge-Kutta scheme along a network's velocity `v(z, t)`: its Jacobian, its inverse and its pullback, in float64.

A step of the length `h` from `z` at time `t` has the stages `i = 1, ..., s` of the scheme,
    y_i = z + h sum_(j < i) a_ij k_j,   k_i = v(y_i, t + c_i h)                     (1)
    x = z + h sum_i b_i k_i                                                         (2)
and its Jacobian follows stage by stage, with `A_i = dv/dy` at `(y_i, t + c_i h)`:
    M_i = I + h sum_(j < i) a_ij N_j,   N_i = A_i M_i                               (3)
    J = I + E,   E = h sum_i b_i N_i                                                (4)
In `I + E`, the digits of a small `E` are rounded away.  Elimination in `E` itself keeps them, as
`refflow.core.elimination` derives:
    log|det J| = log det(I + E)    for |E| < 1/2                                    (5)
Newton's method finds the `z` of an `x`, from the scheme's step back, from `t + h` to `t`:
    z - J^-1 (z + h sum_i b_i k_i - x)    in the place of z                         (6)
until the difference no longer becomes smaller.

With the cotangents `x_bar` of (2) and `l_bar` of `log|det J|`, whose derivative by `E` is `J^-T`,
    k_i_bar = h b_i x_bar,   N_i_bar = h b_i l_bar J^-T                             (7)
From the last stage to the first, the network's pullback for tangents takes `k_i_bar` and `N_i_bar` to the cotangents `y_i_bar` of the
place, `M_i_bar` of the tangents, and of its parameters, which are summed over all stages.  By (1) and (3), for `j < i`,
    k_j_bar + h a_ij y_i_bar   and   N_j_bar + h a_ij M_i_bar                       (8)
are then in the place of `k_j_bar` and `N_j_bar`, and
    z_bar = x_bar + sum_i y_i_bar                                                   (9)
"""

from __future__ import annotations

import numpy as np

from ...core.elimination import log_det_1_plus
from ...core.tree import added

NEAR = 0.5              # of the norm of E: elimination needs no exchange of rows there
ROUNDING = 2.0**-30     # of the larger of x and z
ITERATIONS = 50         # of Newton's method, which takes four or five


class Step:
    """One step from the time `t` to `t + h`, in float64."""

    def __init__(self, net, tableau, t, h):
        self.net, self.tableau, self.t, self.h = net, tableau, t, h
        self.a, self.b, c = tableau
        self.times = t + c * h

    def back(self):
        """The scheme's step from t + h to t, which is not the inverse, but near it."""
        return Step(self.net, self.tableau, self.t + self.h, -self.h)

    def at(self, y, i):
        """The network's input: y and then the time of stage i."""
        return np.concatenate([y, np.full((*y.shape[:-1], 1), self.times[i])], -1)

    def image(self, z):
        """x of (2)."""
        return z + self.increment(z)                                                # (2)

    def increment(self, z):
        """What a step adds to z."""
        k, h = [], self.h
        for i, row in enumerate(self.a):
            y = z + h * sum(row[j] * k_j for j, k_j in enumerate(k))                # (1)
            k.append(self.net.forward(self.at(y, i)))                               # (1)
        return h * sum(b_i * k_i for b_i, k_i in zip(self.b, k))                    # (2)

    def increment_vjp(self, z):
        """The increment, and a pullback from its cotangent to the cotangents of z and of the parameters."""
        k, h, pullbacks = [], self.h, []
        for i, row in enumerate(self.a):
            y = z + h * sum(row[j] * k_j for j, k_j in enumerate(k))                # (1)
            k_i, pullback = self.net.vjp(self.at(y, i))                             # (1)
            k.append(k_i), pullbacks.append(pullback)

        def pullback_of_increment(bar):
            k_bar, z_bar, bars = [h * b_i * bar for b_i in self.b], 0.0, {}         # (7)
            for i in reversed(range(len(self.b))):
                y_bar, of_net = pullbacks[i](k_bar[i])
                y_bar, bars = y_bar[..., :-1], added(bars, of_net)
                z_bar = z_bar + y_bar                                               # (9)
                for j, a_ij in enumerate(self.a[i][:i]):
                    k_bar[j] = k_bar[j] + h * a_ij * y_bar                          # (8)
            return z_bar, bars

        return h * sum(b_i * k_i for b_i, k_i in zip(self.b, k)), pullback_of_increment         # (2)

    def with_tangents(self, z):
        """x, E, and a pullback from the cotangents of x and of the log-det, and the parameters' so far, to z_bar and theirs."""
        D, h, k, N, pullbacks = z.shape[-1], self.h, [], [], []
        for i, row in enumerate(self.a):
            y = z + h * sum(row[j] * k_j for j, k_j in enumerate(k))                # (1)
            M = np.eye(D) + h * sum((row[j] * N_j for j, N_j in enumerate(N)), np.zeros((*z.shape, D)))        # (3)
            (k_i, N_i), pullback = self.net.jvp(self.at(y, i), timeless(M))         # (1) (3)
            k.append(k_i), N.append(N_i), pullbacks.append(pullback)
        E = h * sum(b_i * N_i for b_i, N_i in zip(self.b, N))                       # (4)
        x = z + h * sum(b_i * k_i for b_i, k_i in zip(self.b, k))                   # (2)

        def pullback_of_step(x_bar, log_det_bar, bars):
            E_bar = log_det_bar[..., None, None] * np.linalg.inv(np.eye(D) + E).mT  # (7)
            k_bar, N_bar = [h * b_i * x_bar for b_i in self.b], [h * b_i * E_bar for b_i in self.b]         # (7)
            z_bar = x_bar
            for i in reversed(range(len(self.b))):
                y_bar, M_bar, of_net = pullbacks[i](k_bar[i], N_bar[i])
                y_bar, M_bar, bars = y_bar[..., :D], M_bar[..., :D, :], added(bars, of_net)
                z_bar = z_bar + y_bar                                               # (9)
                for j, a_ij in enumerate(self.a[i][:i]):
                    k_bar[j], N_bar[j] = k_bar[j] + h * a_ij * y_bar, N_bar[j] + h * a_ij * M_bar           # (8)
            return z_bar, bars

        return x, E, pullback_of_step

    def root(self, x):
        """z of x, by (6)."""
        z = best = self.back().image(x)
        least = np.full(x.shape[:-1], np.inf)
        for _ in range(ITERATIONS):
            image, E, _ = self.with_tangents(z)
            off = image - x
            far = np.abs(off).max(-1, initial=0)
            better = far < least
            if not better.any():
                break
            best, least = np.where(better[..., None], z, best), np.where(better, far, least)
            z = z - np.linalg.solve(np.eye(z.shape[-1]) + E, off[..., None])[..., 0]            # (6)
        self.refuse_other(best, x, least)
        return best

    def refuse_other(self, z, x, far):
        """ArithmeticError for a z whose image is farther from x than rounding explains."""
        lost = far > ROUNDING * np.maximum(np.abs(z), np.abs(x)).max(-1, initial=0)
        if lost.any():
            raise ArithmeticError(f"DiscreteFlow: no z is found for x = {x[lost][0]}: its steps of {self.h} are too long; take more")


def timeless(M):
    """Tangents of the network's input, whose time does not move."""
    return np.concatenate([M, np.zeros((*M.shape[:-2], 1, M.shape[-1]))], -2)


def log_abs_det_1_plus(E):
    """log|det(I + E)|."""
    small = (np.sqrt((E * E).sum((-2, -1))) < NEAR)[..., None, None]
    near = log_det_1_plus(np.where(small, E, 0))                                    # (5)
    return np.where(small[..., 0, 0], near, np.linalg.slogdet(np.where(small, 0, E) + np.eye(E.shape[-1]))[1])
