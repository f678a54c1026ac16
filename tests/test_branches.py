"""Whether a definition branches exactly where a page says that it breaks."""

import numpy as np
import pytest

from refflow import LeakyReLU, RationalQuadraticSpline, Softsign
from refflow.accuracy.drawing import Point
from refflow.truth.measure import problem
from validation import certify
from validation.points.branches import branches_at
from validation.points.drawn import BREAK, Draw

SPLINE = RationalQuadraticSpline([-1.0, 0.25, 2.0**-10 + 0.25, 3.0], [-1.0, 1.0, 2.0, 4.0], [1.0, 2.0, 0.5, 1.0])


@pytest.mark.parametrize("f", [Softsign(), LeakyReLU(0.5), SPLINE], ids=lambda f: type(f).__name__)
def test_pages_break_where_their_definitions_branch(f):
    breaks = f.breaks().tolist()
    assert branches_at(problem(f), breaks)
    assert not branches_at(problem(f), breaks[1:]), "one is missing"
    assert not branches_at(problem(f), [*breaks, 1.5]), "one is too many"
    assert not branches_at(problem(f), [b + 2.0**-50 for b in breaks]), "all have moved"


def test_the_certificate_finds_a_planted_break(monkeypatch):
    point = Point(Softsign(), "forward", np.float64(0), np.float64(1), np.float64(1), reason=BREAK)
    assert certify.errors(point)["breaks"] == (0.0, 1.0)
    for planted in ([0.0, 1.0], [1.0], []):
        monkeypatch.setattr(Softsign, "breaks", lambda self: np.array(planted))         # noqa: B023
        assert certify.errors(point)["breaks"][0] == np.inf


def test_a_page_with_planted_breaks_is_not_certified(monkeypatch):
    """Every bijector is asked, and what is known of one does not answer for another."""
    right = LeakyReLU.breaks
    monkeypatch.setattr(certify, "points", lambda *of: list(Draw(*of).break_points()))
    assert certify.certified(LeakyReLU, "float32", "forward")[0]["breaks"]["C"] == 0
    monkeypatch.setattr(LeakyReLU, "breaks", lambda self: right(self) + (self.negative_slope > 2))      # wrong for some of them
    assert certify.certified(LeakyReLU, "float32", "forward")[0]["breaks"]["C"] == "inf"
