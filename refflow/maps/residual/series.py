r"""The log-det of a residual block by its power series, estimated as residual flows do, as a function of the noise that is drawn.

For `x = z + net(z)` with the Jacobian `J` of the network and a Lipschitz bound `L < 1`,
    log det(I + J) = sum_(k >= 1) (-1)^(k+1) tr(J^k)/k                              (1)
For columns `e` of noise whose mean `e e^T` is `I`, the mean of `e^T A e` is `tr A`.  This holds for single columns of random signs
or normal numbers, in the mean over their draws; for the `D` rows of a Hadamard matrix; and for all columns of signs.  With weights
`w_k`, the estimate is
    S = sum_k w_k (-1)^(k+1)/k mean_e e^T v_k,   v_0 = e,   v_k = J v_(k-1)         (2)
which is differentiated as it stands: from the last product to the first, with the cotangent `S_bar`, each `jvp*` of the network takes
    v_k_bar + S_bar w_k (-1)^(k+1)/k e   to the cotangents of v_(k-1), z and the parameters         (3)
Without the terms beyond `n`, with weights of 1, the sum differs from (1) by at most
    D L^(n+1)/((n + 1) (1 - L))                                                     (4)
since `|tr J^k| <= D L^k`.  The roulette draws the number of terms: `m + N` of them, with
    w_k = 1 for k <= m,   w_k = 1/P(N >= k - m) for m < k <= m + N                  (5)
The mean of `w_k` over `N` is 1, so the mean of (2) is (1).  The gradient of (1) has a series of its own, Neumann's, which needs a
single pullback: `d log det = tr (I + J)^-1 dJ`, and with `y` held constant,
    d S = mean_e y^T dJ e,   y = sum_(k >= 0) (-1)^k w_k (J^T)^k e                  (6)
Its mean with `n` weights is the gradient of the first `n` terms of (1).  The function whose gradient (6) is, `mean_e y^T J e`, is
not a log-det.

Source: Chen, Behrmann, Duvenaud and Jacobsen, Residual Flows for Invertible Generative Modeling, arXiv:1906.02735, sections 3.1 and 3.2.
"""

from __future__ import annotations

import numpy as np

from ...core.tree import flatten, nest


def power_series_vjp(net, z, noise, weights):
    """(S, pullback) of (2) at events z (*batch, D); `pullback(S_bar)` -> (z_bar, net_bar).

    `noise`: columns (*batch, D, K) or (D, K); `weights`: w_1 to w_n.
    """
    e = columns_of(noise, z)
    v, S, pullbacks = e, 0, []
    factors = [w * (-1) ** (k + 1) / (k * e.shape[-1]) for k, w in enumerate(weights, 1)]       # (1) (2)
    for factor in factors:
        (h, v), jvp_pullback = net.jvp(z, v)                                        # (2)
        S = S + factor * (e * v).sum((-2, -1))                                      # (2)
        pullbacks.append(jvp_pullback)

    def pullback(S_bar):
        bar, v_bar, z_bar, net_bars = np.asarray(S_bar)[..., None, None], np.zeros_like(e), np.zeros_like(z), []
        for factor, jvp_pullback in zip(reversed(factors), reversed(pullbacks)):
            of_z, v_bar, of_net = jvp_pullback(np.zeros_like(z), v_bar + factor * bar * e)      # (3)
            z_bar = z_bar + of_z                                                    # (3)
            net_bars.append(of_net)
        return z_bar, total(net_bars)

    return S, pullback


def neumann_gradient(net, z, noise, weights, S_bar):
    """(z_bar, net_bar) of (6), for the cotangents S_bar (*batch) of the log-dets; `weights`: w_0 to w_(n-1)."""
    e = columns_of(noise, z)
    _, jvp_pullback = net.jvp(z, e)
    power, y = e, np.zeros_like(e)
    for k, w in enumerate(weights):
        y = y + w * (-1) ** k * power                                               # (6)
        power = jvp_pullback(np.zeros_like(z), power)[1]                            # (6)
    z_bar, _, net_bar = jvp_pullback(np.zeros_like(z), np.asarray(S_bar)[..., None, None] * y / e.shape[-1])        # (6)
    return z_bar, net_bar


def roulette_weights(exact, drawn, tail):
    """The weights (5), of `exact + drawn` terms; `tail(k)` is the probability that the number drawn is k or more."""
    return np.array([1.0] * exact + [1 / tail(k) for k in range(1, drawn + 1)])     # (5)


def truncation_bound(size, bound, terms):
    """(4), for events of `size` entries and a network with a Lipschitz bound."""
    return size * bound ** (terms + 1) / ((terms + 1) * (1 - bound))                # (4)


def columns_of(noise, z):
    """Columns of noise for each event."""
    noise = np.asarray(noise, z.dtype)
    return np.broadcast_to(noise, z.shape + noise.shape[-1:])


def total(nested):
    """The sum of nested dictionaries of one form."""
    tables = [dict(flatten(one)) for one in nested]
    return nest({path: sum(table[path] for table in tables) for path in tables[0]})
