"""The laws asked of a question at drawn values, and of too many points that they reject."""

from __future__ import annotations

import numpy as np
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from refflow.accuracy.points import Points
from refflow.core import RandomSource
from refflow.laws.bijector_laws import run_laws
from refflow.laws.law import ONCE
from refflow.laws.rejections import Tally, excess
from refflow.laws.strategies import DrawnSource


def check_question(question):
    """Every law at the usual number of draws, or the question's part of it; once, if the law asks the page alone."""
    tally = Tally()

    def asked(source, wanted):
        return question.ask(question.drawn(source), wanted)

    @settings(max_examples=max(1, settings.default.max_examples // question.part))
    @given(st.data())
    def every_law(data):
        tally.add(asked(DrawnSource(data.draw), lambda law: law not in ONCE))

    asked(RandomSource(np.random.default_rng(0)), ONCE.__contains__)
    every_law()
    check(tally, lambda rng, wanted: asked(RandomSource(rng), wanted))


def check_laws_by_seeds(draws, points):
    """Every law on `points(rng)`, of so many seeds."""
    tally = Tally()

    def asked(rng, *wanted):
        p = points(rng)
        return run_laws(p.f, p, *wanted)

    @settings(max_examples=draws, phases=(Phase.explicit, Phase.reuse, Phase.generate))          # seeds do not shrink
    @given(st.integers(0, 2**16))
    def every_law(seed):
        tally.add(asked(np.random.default_rng(seed)))

    every_law()
    check(tally, asked)


def check(tally, ask):
    """Refuse laws that reject too many points, as `rejections.excess` asks them again."""
    found = excess(tally, ask)
    assert not found, "; ".join(found.values())


def points_at(f, z, rng, dtype):
    """Points at the events z (n, *event), or at their exponentials if the domain is positive, with cotangents that are drawn."""
    z = np.exp(z) if f.domain.lower == 0 else z
    bars = (rng.standard_normal(shape).astype(dtype) for shape in (z.shape, z.shape, z.shape[:1]))
    return Points(f.astype(dtype), z.astype(dtype), *bars)
