r"""A vector divided by its length, `R^N -> R^N`.

The map.  A vector is divided by its length, or by `eps` where that is larger:
    h = a / max(|a|, eps)                                                           (1)
      = a / |a| for |a| > eps,   a / eps for |a| <= eps                             (2)
    dh/da = (I - h h^T) / |a| for |a| > eps,   I / eps for |a| <= eps               (3)
`eps > 0` comes from the source and is not a parameter; with it, 0 is an event.

The reverse rule.  The matrix (3) is symmetric:
    a_bar = (h_bar - h <h, h_bar>) / |a| for |a| > eps,   h_bar / eps for |a| <= eps        (4)
The unit of error is normwise: (4) projects onto the orthogonal complement of `h`.

Source: the embeddings of speakers in the code of Glow-TTS (Kim, Kim, Kong & Yoon, arXiv:2005.11129).
"""

from __future__ import annotations


import numpy as np

from ...core import Conditioner, case, conditioner, plain
from ...core.rules import ABOVE_0
from .weight_norm import Directions


class textbook:
    """(1) to (4) as they are printed, for one event."""

    def length(a):
        return np.sqrt((a ** 2).sum())

    def forward(a, eps):
        return a / max(textbook.length(a), eps)                                     # (1)

    def jacobian(a, eps):
        length, h, one = textbook.length(a), textbook.forward(a, eps), np.eye(len(a), dtype=a.dtype)
        return (one - np.outer(h, h)) / length if length > eps else one / eps       # (3)

    def vjp(a, eps, h_bar):
        length, h = textbook.length(a), textbook.forward(a, eps)
        return (h_bar - h * (h * h_bar).sum()) / length if length > eps else h_bar / eps, {}        # (4)


r"""In floating point.

In (1), (3) and (4), squares of the entries of `a` may overflow or vanish where `|a|` does not.  With the largest entry of
`2^-e a` in `[1/2, 1)`, none does, as in `WeightNormDense`:
    |a| = 2^e s,   s = |2^-e a|,   h = 2^-e a / s                                   (5)
"""


@conditioner(source="arXiv:2005.11129", normwise=True, smooth=False, textbook=textbook)
class UnitVector(Conditioner):
    """h = a / max(|a|, eps); a (*batch, N), eps > 0 a plain number."""

    eps: float = plain(1e-12, ABOVE_0)
    event_shape = ("N",)

    @staticmethod
    def definition(m, a, eps):
        square = sum(a_i * a_i for a_i in a)
        if square > m.mpf(eps) * m.mpf(eps):
            norm = m.sqrt(square)
            return [a_i / norm for a_i in a]                                        # (1) (2)
        return [a_i / m.mpf(eps) for a_i in a]                                      # (1) (2)

    # -- the map ------------------------------------------------------------------------------------------------------

    def directions(self, a):
        """(a / |a|, with the length apart; marks of |a| <= eps)."""
        directions = Directions(a, None)                                            # (5)
        return directions, ~(np.ldexp(directions.s, directions.e) > self.eps)       # (2) (5)

    def forward(self, a):
        directions, short = self.directions(a)
        return np.where(short, a / self.eps, directions.u)                          # (2)

    def jacobian(self, a):
        directions, short = self.directions(a)
        one, h = np.eye(a.shape[-1], dtype=a.dtype), directions.u
        projection = (one - h[..., :, None] * h[..., None, :]) / directions.s[..., None]
        across = np.ldexp(projection, -np.asarray(directions.e)[..., None])         # (3) (5)
        return np.where(short[..., None], one / self.eps, across)                   # (3)

    # -- the reverse rule ---------------------------------------------------------------------------------------------

    def vjp(self, a):
        directions, short = self.directions(a)

        def pullback(h_bar):
            across = directions.pullback(h_bar, 0)["v"]                             # (4) (5)
            return np.where(short, h_bar / self.eps, across), {}                    # (4)

        return np.where(short, a / self.eps, directions.u), pullback                # (2)

    # -- in floating point --------------------------------------------------------------------------------------------

    hard_cases = (
        case("Number", "N = 1: h is 1 or -1, and a_bar is 0", z=[[3.0], [-0.3]]),
        case("Outweighed", "one entry outweighs the others: its own a_bar is a small difference", z=[[2.0**20, 1.0, -1.0]]),
        case("Short", "vectors shorter than eps, and 0", z=[[1e-13, -2e-13], [5e-324, 0.0], [0.0, 0.0]]),
        case("Switch", "just longer than eps", z=[[1.0625e-12, 0.0]]),
        case("Huge", "the square of the length overflows, and so does the length", z=[[2.0**1000, 2.0**999, -2.0**1000]]),
    )
