r"""How many points a law may reject before it counts as not asked.

The points of one draw have their parameters in common, so that the draws are independent and the points are not.  Let r_i in
[0, 1] be the share of points that a law rejects at draw i of n.  A law asks a page if E r_i <= p, with p = 1/10.  Then, by
Hoeffding's theorem (1963, Theorem 1), whatever else the distribution of r_i is,
    P(r_1 + ... + r_n >= n a) <= exp(-n D(a, p))   for a >= p,
    D(a, p) = a log(a/p) + (1 - a) log((1 - a)/(1 - p))                                         (1)
A law rejects too many if the sum exceeds `allowed(n)`, the smallest n a at which the chance of a right page is at most LEVEL:
    n D(a, p) >= -log LEVEL                                                                     (2)
No sum exceeds n, so that fewer draws than log LEVEL / log p never fail.  If a law rejects more, E r_i = q > a, the same theorem
of 1 - r_i bounds the chance that it passes:
    P(r_1 + ... + r_n <= n a) <= exp(-n D(a, q))                                                (3)
With DRAWS draws, a law that rejects 6 of 10 points in the mean passes by a chance below 1e-8.

(1) needs draws that were not chosen by what they gave.  Those of Hypothesis depend on each other.  They only say which laws to
suspect, whose mean share is above p.  `excess` asks these laws again, at DRAWS draws of a generator of its own; the verdict is
of these alone, and (1) holds for them whatever raised the suspicion.
"""

from __future__ import annotations

import numpy as np
import scipy

REJECTED = 0.1              # p: the share that may be rejected, in the mean
LEVEL = 1e-6                # of a right page that fails
DRAWS = 100                 # of a law that is asked again


def divergence(a, p):
    """D(a, p)."""
    return float(scipy.special.rel_entr(a, p) + scipy.special.rel_entr(1 - a, 1 - p))           # (1)


def allowed(n):
    """The largest sum of the shares of n draws that passes."""
    beyond = lambda a: n * divergence(a, REJECTED) + np.log(LEVEL)                              # noqa: E731
    return n * scipy.optimize.brentq(beyond, REJECTED, 1) if beyond(1) > 0 else n               # (2)


class Tally:
    """The shares of points that each law has rejected, draw by draw; a draw without points for a law does not count."""

    def __init__(self):
        self.shares = {}

    def add(self, found):
        """Add what `run_laws` and its like return of one draw."""
        for law, (rejected, tried) in found.items():
            if tried:
                self.shares.setdefault(law, []).append(rejected / tried)

    def suspects(self):
        """The laws whose mean share is above p."""
        return {law for law, shares in self.shares.items() if sum(shares) > REJECTED * len(shares)}

    def excess(self):
        """The laws that have rejected too many, each with a sentence; the draws must be independent."""
        return {law: f"{law}: {sum(shares) / len(shares):.0%} of the points of {len(shares)} draws were rejected, and "
                     f"{allowed(len(shares)) / len(shares):.0%} may be"
                for law, shares in self.shares.items() if sum(shares) > allowed(len(shares))}


def excess(tally, ask):
    """The laws that reject too many: the suspects of a tally, asked again.

    `ask(rng, wanted)` draws from the generator and asks the laws for which `wanted(name)` is true.
    """
    suspects, again, rng = tally.suspects(), Tally(), np.random.default_rng(0)
    for _ in range(DRAWS if suspects else 0):
        again.add(ask(rng, suspects.__contains__))
    return again.excess()
