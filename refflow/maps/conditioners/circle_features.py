r"""Angles as points of the unit circle, `R^D -> R^(2 D)`.

The map.  Each angle `a_k` becomes the two coordinates of a point:
    h_k = cos a_k,   h_(D + k) = sin a_k               k = 1, ..., D                (1)
    dh_k/da_k = -sin a_k,   dh_(D + k)/da_k = cos a_k,   all else 0                 (2)
A network that begins with (1) gives the same outputs for `a` and for `a + 2 pi`.

The reverse rule.  From (2), each angle gets its cotangent from its own two coordinates:
    a_bar_k = h_bar_(D + k) cos a_k - h_bar_k sin a_k                               (3)

Source: Rezende, Papamakarios, Racaniere, Albergo, Kanwar, Shanahan and Cranmer, Normalizing Flows on Tori and Spheres,
arXiv:2002.02428, on autoregressive flows and couplings of circles.
"""

from __future__ import annotations

import numpy as np

from ...core import Conditioner, case, conditioner


@conditioner(source="arXiv:2002.02428")
class CircleFeatures(Conditioner):
    """h = (cos a, sin a); a (*batch, D), h (*batch, 2 D)."""

    event_ndim = (1, 1)

    def output_shape(self, shape):
        return (2 * shape[0],)

    def depends(self, shape):
        return np.concatenate([np.eye(shape[0], dtype=bool)] * 2)

    @staticmethod
    def definition(m, a):
        return [m.cos(a_k) for a_k in a] + [m.sin(a_k) for a_k in a]                # (1)

    def forward(self, a):
        return np.concatenate((np.cos(a), np.sin(a)), -1)                           # (1)

    def jacobian(self, a):
        D = a.shape[-1]
        J, k = np.zeros((*a.shape[:-1], 2 * D, D), a.dtype), np.arange(D)
        J[..., k, k], J[..., D + k, k] = -np.sin(a), np.cos(a)                      # (2)
        return J

    def vjp(self, a):
        cos, sin = np.cos(a), np.sin(a)

        def pullback(h_bar):
            of_cos, of_sin = np.split(h_bar, 2, -1)
            return of_sin * cos - of_cos * sin, {}                                  # (3)

        return np.concatenate((cos, sin), -1), pullback                             # (1)

    hard_cases = (
        case("Axes", "a sine or a cosine nearly vanishes", z=[[0.0, np.pi / 2, np.pi, -np.pi]]),
        case("Tiny", "the sine is the angle", z=[[1e-300, -1e-9]]),
        case("Turns", "many turns", z=[[1e6, -123456.789]]),
    )
