"""The laws that every bijector obeys, and the points on which they run; and the laws of a black box, somebody else's flow.

`laws.run_laws(f, points)` runs them; `strategies` draws bijectors and points with Hypothesis, from a page's declarations;
`kappa` is the unit of error at run time; `pages.lacks(page)` names what a page lacks.

`BlackBox` is anything with a forward; `law_tests` makes a pytest item of each law; `verdicts` runs them without pytest.
"""

from __future__ import annotations

from .black_box import BlackBox
from .black_box_laws import Verdict, verdicts
from .law_tests import Known, law_tests

__all__ = ["BlackBox", "Known", "Verdict", "law_tests", "verdicts"]
