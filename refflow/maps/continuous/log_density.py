r"""What is integrated beside a point that follows a velocity: the change of its log-density, and penalties of the velocity.

A network gives the velocity `v(z, t)`, with `A = dv/dz`.  Along the path of a point `z` in `R^D`,
    dz/dt = v(z, t)                                                                 (1)
    dl/dt = -tr A,   l = log p_t(z(t)) - log p_0(z(0))                              (2)
Hutchinson's estimate draws noise `e` with the second moment `I`, once for a path, and has
    <e, A e>    in the place of tr A                                                (3)
Penalties keep the velocity simple.  Their rates, over a batch of `n` points, are
    1/(n D) sum_i sum_d |v_id|                          "size"                      (4)
    1/n sum_i |v_i|/D^(1/2)                             "speed"                     (5)
    1/n sum_i |A_i^T v_i|/D^(1/2)                       "acceleration"              (6)
    1/n sum_i |A_i|_F/D                                 "Jacobian"                  (7)

With the cotangents `r` of the rates, the network's pullback for tangents is given `v_bar` and `A_bar`, the sums of
    z_bar's r;   -l_r I, or -l_r e e^T;   for the penalties, with the unit vectors of what they are norms of,        (8)
    sign v_id/(n D),   v_i/(n D^(1/2) |v_i|),   A_i/(n D |A_i|_F),   and of (6), with w = A_i^T v_i and u = w/(n D^(1/2) |w|),
    v_i_bar = A_i u,   A_i_bar = v_i u^T                                            (9)

Source: Chen et al., arXiv:1806.07366, (1), (2); Grathwohl et al., arXiv:1810.01367, (3); the penalties, the code of FFJORD, and
Finlay et al., arXiv:2002.02798.
"""

from __future__ import annotations

import numpy as np

PENALTIES = ("size", "speed", "acceleration", "Jacobian")


def refuse_other_ranks(name, net):
    """Refuse a network of other events than vectors; `name` has the argument net."""
    if net.event_ndim != (1, 1):
        raise ValueError(f"{name}: net must be of vectors, event ranks (1, 1), not {net.event_ndim}")


def refuse_no_velocity(net, shape):
    """Refuse the shape of a point for which a network gives no velocity."""
    given = net.output_shape((shape[0] + 1,))
    if tuple(given) != tuple(shape):
        raise ValueError(f"its net must give {shape[0]} entries from {shape[0]} entries and the time, not {given[0]}")


class LogDensity:
    """The rates (1) to (7) of a batch (n, D), as vectors [z, l, penalties]; in float64.

    `net`: a conditioner from (z, t) to D entries; `noise`: e (n, D) of (3), or None for (2).
    """

    def __init__(self, net, shape, noise=None, penalties=()):
        self.net, self.shape, self.noise, self.penalties = net.unchecked(np.dtype(np.float64)), shape, noise, tuple(penalties)
        n, D = shape
        sizes = [n * D, n, *(1 for _ in penalties)]
        ends = np.cumsum(sizes)
        self.parts = [slice(end - size, end) for end, size in zip(ends, sizes)]

    def state(self, z, log_density=0.0):
        """The vector of points, their log-densities so far, and penalties of 0."""
        l = np.broadcast_to(np.float64(log_density).reshape(-1), len(z))
        return np.concatenate([np.float64(z).reshape(-1), l, np.zeros(len(self.penalties))])

    def read(self, state):
        """(z, l, penalties) of a vector."""
        z, l, *rest = (state[part] for part in self.parts)
        return z.reshape(self.shape), l, [float(one[0]) for one in rest]

    def rates_vjp(self, t, state):
        """(rates, pullback); `pullback(bar)` -> (t_bar, state_bar, params_bar)."""
        z, _, _ = self.read(state)
        n, D = z.shape
        tangents = np.broadcast_to(np.eye(D), (n, D, D))
        timeless = np.concatenate([tangents, np.zeros((n, 1, D))], 1)
        (v, A), of_net = self.net.jvp(np.concatenate([z, np.full((n, 1), t)], 1), timeless)
        traced = np.eye(D) if self.noise is None else self.noise[:, :, None] * self.noise[:, None]         # (2) (3)
        found = [penalty(name, v, A) for name in self.penalties]
        rates = np.concatenate([v.reshape(-1), -(traced * A).sum((1, 2)), [value for value, _ in found]])          # (1) (2) (3)

        def pullback(bar):
            v_bar, l_bar, *rest = (bar[part] for part in self.parts)
            v_bar, A_bar = v_bar.reshape(n, D), -l_bar[:, None, None] * traced      # (8)
            for (_, back), one in zip(found, rest):
                of_v, of_A = back(one)
                v_bar, A_bar = v_bar + of_v, A_bar + of_A                           # (9)
            y_bar, _, params_bar = of_net(v_bar, A_bar)
            nothing = np.zeros(n + len(rest))
            return y_bar[:, D].sum(), np.concatenate([y_bar[:, :D].reshape(-1), nothing]), params_bar

        return rates, pullback


def penalty(name, v, A):
    """(rate, pullback) of a penalty; the pullback gives the cotangents of v and A."""
    n, D = v.shape
    if name == "size":
        return np.abs(v).mean(), lambda bar: (bar * np.sign(v) / (n * D), 0.0)                      # (4) (9)
    if name == "speed":
        norms, units = lengths(v)
        return norms.mean() / D**0.5, lambda bar: (bar * units / (n * D**0.5), 0.0)                 # (5) (9)
    if name == "acceleration":
        norms, units = lengths(np.vecmat(v, A))
        u = units / (n * D**0.5)
        return norms.mean() / D**0.5, lambda bar: (bar * np.matvec(A, u), bar * v[:, :, None] * u[:, None])         # (6) (9)
    if name == "Jacobian":
        norms, units = lengths(A.reshape(n, -1))
        return norms.mean() / D, lambda bar: (0.0, bar * units.reshape(A.shape) / (n * D))          # (7) (9)
    raise ValueError(f"LogDensity: penalties must be of {', '.join(PENALTIES)}, not {name!r}")


def lengths(vectors):
    """(|w|, w/|w|) of rows, 0 for a row of 0."""
    norms = np.linalg.norm(vectors, axis=-1)
    return norms, vectors / np.where(norms == 0, 1, norms)[:, None]
