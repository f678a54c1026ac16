"""How many points the laws reject over several draws, and of how many."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from refflow.accuracy.points import Points
from refflow.testing.laws import REJECTED, run_laws


class Tally:
    """The points that each law has rejected, and all that it was given."""

    def __init__(self):
        self.rejected, self.tried = Counter(), Counter()

    def add(self, found):
        """Add what `run_laws` and its like return."""
        for law, (out, of) in found.items():
            self.rejected[law] += out
            self.tried[law] += of

    def excess(self):
        """The laws that have rejected too many."""
        return [f"{law}: {self.rejected[law]} of {of} points were rejected" for law, of in self.tried.items()
                if self.rejected[law] > REJECTED * of]

    def check(self):
        excess = self.excess()
        assert not excess, "; ".join(excess)


def check_laws_by_seeds(draws, points):
    """Every law on `points(rng)`, of so many seeds."""
    tally = Tally()

    @settings(max_examples=draws, phases=(Phase.explicit, Phase.reuse, Phase.generate))          # seeds do not shrink
    @given(st.integers(0, 2**16))
    def every_law(seed):
        p = points(np.random.default_rng(seed))
        tally.add(run_laws(p.f, p))

    every_law()
    tally.check()


def points_at(f, z, rng, dtype):
    """Points at the events z (n, *event), or at their exponentials if the domain is positive, with cotangents that are drawn."""
    z = np.exp(z) if f.domain.lower == 0 else z
    bars = (rng.standard_normal(shape).astype(dtype) for shape in (z.shape, z.shape, z.shape[:1]))
    return Points(f.astype(dtype), z.astype(dtype), *bars)
