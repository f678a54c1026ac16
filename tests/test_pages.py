"""Every page is complete, and the completeness test names what one lacks."""

from __future__ import annotations

import importlib
import sys
import textwrap

import pytest

from refflow.core.registry import of_kind
from refflow.maps import load_all
from refflow.testing.pages import lacks


load_all()
PAGES = of_kind("bijector")


@pytest.mark.parametrize("name", PAGES)
def test_page_is_complete(name):
    assert lacks(PAGES[name]) == []


COMPLETE = '''\
r"""Shift by one.

    x = z + 1                                       (1)
    z = x - 1                                       (2)
    dx/dz = 1,   log|dx/dz| = 0                     (3)
    z_bar = x_bar                                   (4)
"""
import numpy as np
from refflow.core import Bijector, bijector, case, real

@bijector(source="definition", domain=real, codomain=real, register=False)
class Shift(Bijector):
    """x = z + 1."""
    event_ndim = (0, 0)

    def definition(m, z):
        return z + 1                                # (1)

    def forward(self, z):
        return z + 1                                # (1)

    def inverse(self, x):
        return x - 1                                # (2)

    def log_det(self, z):
        return np.zeros_like(z)                     # (3)

    def slope(self, z):
        return np.ones_like(z)                      # (3)

    def vjp(self, z):
        return self.forward_and_log_det(z), lambda x_bar, log_det_bar: (x_bar, {})      # (4)

    hard_cases = (case("Zero", "x is 1", z=[0.0]),)
'''


@pytest.fixture
def page_of(tmp_path, monkeypatch):
    """The page in a module of the given text."""
    monkeypatch.syspath_prepend(tmp_path)

    def make(source):
        (tmp_path / "page_under_test.py").write_text(textwrap.dedent(source))
        sys.modules.pop("page_under_test", None)
        importlib.invalidate_caches()
        return importlib.import_module("page_under_test").Shift

    yield make
    sys.modules.pop("page_under_test", None)


def test_a_complete_page_lacks_nothing(page_of):
    assert lacks(page_of(COMPLETE)) == []


def without(function):
    """COMPLETE without one of its functions."""
    start = COMPLETE.index(f"    def {function}(")
    end = COMPLETE.index("    def ", start + 1) if "    def " in COMPLETE[start + 1:] else COMPLETE.index("    hard_cases")
    return COMPLETE[:start] + COMPLETE[end:]


BROKEN = [
    (without("definition"), "Shift: no definition, the believed equation"),
    (without("forward"), "Shift: no forward"),
    (without("log_det"), "Shift: no log_det"),
    (without("inverse"), "Shift: no inverse"),
    (without("slope"), "Shift: no slope"),
    (without("vjp"), "Shift: no vjp, the hand-written reverse rule"),
    (COMPLETE.replace("event_ndim = (0, 0)", "event_ndim = (1, 1)"), "Shift: no jacobian"),
    (COMPLETE.replace('source="definition"', 'source=""'), "Shift: no source"),
    (COMPLETE.replace(", codomain=real", ""), "Shift: no domain or codomain"),
    (COMPLETE.replace('    """x = z + 1."""\n', ""), "Shift: no docstring"),
    (COMPLETE.replace('case("Zero", "x is 1", z=[0.0]),', ""), "Shift: no hard_cases"),
    (COMPLETE.replace('"x is 1"', '" "'), "Shift: hard case 'Zero' has no reason"),
    (COMPLETE.replace(", z=[0.0]", ""), "Shift: hard case 'Zero' has no event"),
    (COMPLETE.replace("# (4)", ""), "Shift: equation (4) is cited by no line"),
    (COMPLETE.replace("# (4)", "# (4) (5)"), "Shift: a line cites (5), which is no equation"),
    (COMPLETE.replace("x_bar                                   (4)", "x_bar                                   (3)"),
     "Shift: equation (3) stands twice"),
    (COMPLETE.replace("    z = x - 1                                       (2)\n", ""), "Shift: equation (2) is left out"),
    (COMPLETE.replace("    z = x - 1                                       (2)\n", ""),
     "Shift: a line cites (2), which is no equation"),
    (COMPLETE.replace("class Shift(Bijector):", "class Base(Bijector):\n    pass\n\n@bijector(source='x', domain=real, "
                      "codomain=real, register=False)\nclass Shift(Base):").replace(
        '@bijector(source="definition", domain=real, codomain=real, register=False)\nclass Base', "class Base"),
     "Shift: inheritance is not of depth 1: its base must be Bijector, or one that couplings share"),
    (COMPLETE.replace("class Shift(Bijector):", "class Base(Bijector):\n    pass\n\n@bijector(source='x', domain=real, "
                      "codomain=real, register=False)\nclass Shift(Base):").replace(
        '@bijector(source="definition", domain=real, codomain=real, register=False)\nclass Base', "class Base").replace(
        "    event_ndim", "    inner: Bijector = child()\n    event_ndim").replace("Bijector, bij", "Bijector, child, bij"),
     "Shift: hard case 'Zero' has no inner"),
    (COMPLETE.replace("    event_ndim", "    def output_shape(self, shape):\n        return shape\n\n    event_ndim"),
     "Shift: no inverse_definition, though its dimensions differ"),
    (COMPLETE[COMPLETE.index("import numpy"):], "Shift: no numbered equation in the module docstring"),
]


def test_pages_with_components_may_share_a_base(page_of):
    (source,) = (source for source, complaint in BROKEN if complaint.endswith("has no inner"))
    assert lacks(page_of(source)) == ["Shift: hard case 'Zero' has no inner"]


@pytest.mark.parametrize("source, complaint", BROKEN, ids=[complaint for _, complaint in BROKEN])
def test_what_a_page_lacks_is_named(page_of, source, complaint):
    assert complaint in lacks(page_of(source))
