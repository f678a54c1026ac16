"""Every page is complete, and the completeness test names what a page lacks."""

from __future__ import annotations

import importlib
import sys
import textwrap

import pytest

from refflow.core.registry import REGISTRY, of_kind
from refflow.laws.pages import KINDS, equations, lacks
from refflow.maps import load_all, modules


load_all()
PAGES = of_kind(*KINDS)


def test_every_page_is_of_a_kind():
    assert set(PAGES) == {name for name, page in REGISTRY.items() if page.__module__.startswith("refflow.")}
    assert all(of_kind(kind) for kind in KINDS)


@pytest.mark.parametrize("name", PAGES)
def test_page_is_complete(name):
    assert lacks(PAGES[name]) == []


@pytest.mark.parametrize("name", modules())
def test_citations_of_a_module(name):
    """Modules without a page have equations too: contracts, helpers with a derivation of their own."""
    assert equations(sys.modules[name]) in ([], [NOTHING])


NOTHING = "no numbered equation in the module docstring"


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
    (without("definition"), "Shift: no textbook and no definition, the believed equation"),
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
    (COMPLETE.replace("# (4)", "# (4) (5)"), "Shift: a line cites (5), but no equation has that number"),
    (COMPLETE.replace("x_bar                                   (4)", "x_bar                                   (3)"),
     "Shift: equation (3) stands twice"),
    (COMPLETE.replace("    z = x - 1                                       (2)\n", ""), "Shift: equation (2) is left out"),
    (COMPLETE.replace("    z = x - 1                                       (2)\n", ""),
     "Shift: a line cites (2), but no equation has that number"),
    (COMPLETE.replace("class Shift(Bijector):", "class Base(Bijector):\n    pass\n\n@bijector(source='x', domain=real, "
                      "codomain=real, register=False)\nclass Shift(Base):").replace(
        '@bijector(source="definition", domain=real, codomain=real, register=False)\nclass Base', "class Base"),
     "Shift: inheritance is not of depth 1: its base must be Bijector, or one that pages with components share"),
    (COMPLETE.replace("class Shift(Bijector):", "class Base(Bijector):\n    pass\n\n@bijector(source='x', domain=real, "
                      "codomain=real, register=False)\nclass Shift(Base):").replace(
        '@bijector(source="definition", domain=real, codomain=real, register=False)\nclass Base', "class Base").replace(
        "    event_ndim", "    inner: Bijector = child()\n    event_ndim").replace("Bijector, bij", "Bijector, child, bij"),
     "Shift: hard case 'Zero' has no inner"),
    (COMPLETE.replace("    event_ndim", "    def output_shape(self, shape):\n        return shape\n\n    event_ndim"),
     "Shift: no inverse_definition, although its shapes differ"),
    (COMPLETE[COMPLETE.index("import numpy"):], "Shift: no numbered equation in the module docstring"),
]


def test_a_set_of_lower_dimension_is_needed_where_sizes_differ(page_of):
    reshaping = "    def output_shape(self, shape):\n        return (2, *shape)\n\n    hard_cases"
    source = COMPLETE.replace("    hard_cases", reshaping)
    assert "Shift: no codomain of lower dimension, although its dimensions differ" in lacks(page_of(source))
    assert not any("dimension" in complaint for complaint in lacks(page_of(source.replace("(2, *shape)", "shape"))))


def test_pages_with_components_may_share_a_base(page_of):
    (source,) = (source for source, complaint in BROKEN if complaint.endswith("has no inner"))
    assert lacks(page_of(source)) == ["Shift: hard case 'Zero' has no inner"]


@pytest.mark.parametrize("source, complaint", BROKEN, ids=[complaint for _, complaint in BROKEN])
def test_what_a_page_lacks_is_named(page_of, source, complaint):
    assert complaint in lacks(page_of(source))


# -- other kinds ------------------------------------------------------------------------------------------------------

OTHERS = {
    "conditioner": '''\
r"""Doubling.

    h = 2 a                                         (1)
    dh/da = 2                                       (2)
    a_bar = 2 h_bar                                 (3)
"""
import numpy as np
from refflow.core import Conditioner, case, conditioner

@conditioner(source="definition", register=False)
class Shift(Conditioner):
    """h = 2 a."""
    event_ndim = (0, 0)

    def definition(m, a):
        return 2 * a                                # (1)

    def forward(self, a):
        return 2 * a                                # (1)

    def slope(self, a):
        return np.full_like(a, 2)                   # (2)

    def vjp(self, a):
        return self.forward(a), lambda h_bar: (2 * h_bar, {})       # (3)

    hard_cases = (case("Zero", "h is 0", z=[0.0]),)
''',
    "density": '''\
r"""Exponential density.

    log p = -z                                      (1)
    z_bar = -b                                      (2)
    z = e                                           (3)
"""
from refflow.core import Density, case, density, plain, positive

@density(source="definition", register=False)
class Shift(Density):
    """p(z) = exp(-z)."""
    shape: tuple = plain(())
    support = positive

    def definition(m, z, shape):
        return -z                                   # (1)

    def log_prob_vjp(self, z):
        return -z, lambda b: (-b, {})               # (1) (2)

    def sample_vjp(self, rng, lead):
        return rng.exponential(size=lead), lambda z_bar: {}     # (3)

    hard_cases = (case("Large", "p underflows", z=[800.0]),)
''',
    "scale": '''\
r"""A trained multiple of exp.

    log sigma = w = gain s,   m = 1                 (1)
    d(log sigma)/ds = gain                          (2)
    d(log sigma)/dgain = s                          (3)
"""
import numpy as np
from refflow.core import Array, case, real
from refflow.maps.elementwise.scale import Scale, scale

@scale(source="definition", register=False)
class Shift(Scale):
    """sigma = exp(gain s)."""
    gain: Array = real()

    def definition(m, s, gain):
        return m.exp(gain * s)                      # (1)

    def evaluate(self, s):
        return 1, self.gain * s, self.gain * s      # (1)

    def log_slope(self, s):
        return self.gain, np.zeros_like(s)          # (2)

    def field_slopes(self, s):
        return {"gain": (s, np.zeros_like(s))}      # (3)

    hard_cases = (case("Zero", "log sigma is 0", z=[0.0]),)
''',
    "parametrisation": '''\
r"""One number as it is.

    shift = h_0                                     (1)
    h_bar_0 = shift_bar                             (2)
"""
from refflow.core import case
from refflow.maps.parametrisations.parametrisation import Map, parametrisation

@parametrisation(source="definition", register=False)
class Shift(Map):
    """(shift,)."""
    size, names = 1, ("shift",)

    def definition(m, h):
        return {"shift": h[0]}                      # (1)

    def vjp(self, h):
        return {"shift": h[..., 0]}, lambda bars: (bars["shift"][..., None], {})        # (1) (2)

    hard_cases = (case("Zero", "the shift is 0", z=[[0.0]]),)
'''}
OWN = {"conditioner": {"slope": "slope", "vjp": "vjp, the hand-written reverse rule"},
       "density": {"log_prob_vjp": "log_prob_vjp, the value and its hand-written reverse rule", "sample_vjp": "sample_vjp"},
       "scale": {"evaluate": "evaluate", "log_slope": "log_slope", "field_slopes": "field_slopes, although it has parameters"},
       "parametrisation": {"vjp": "vjp, the hand-written reverse rule"}}
PLANTED = [(kind, "definition", "textbook and no definition, the believed equation") for kind in OWN] + \
          [(kind, function, what) for kind, functions in OWN.items() for function, what in functions.items()]


def with_renamed(source, function):
    return source.replace(f"    def {function}(", f"    def another_{function}(")


@pytest.mark.parametrize("kind", OTHERS)
def test_a_complete_page_of_another_kind_lacks_nothing(page_of, kind):
    assert page_of(OTHERS[kind]).kind == kind and lacks(page_of(OTHERS[kind])) == []


@pytest.mark.parametrize("kind, function, what", PLANTED, ids=[f"{kind} {function}" for kind, function, _ in PLANTED])
def test_a_function_of_another_kind_is_missed(page_of, monkeypatch, kind, function, what):
    try:
        page = page_of(with_renamed(OTHERS[kind], function))
    except (KeyError, AttributeError) as refused:       # the kind's decorator wraps this function
        assert function in str(refused)
    else:
        assert f"Shift: no {what}" in lacks(page)


@pytest.mark.parametrize("kind", OTHERS)
def test_what_a_page_of_another_kind_lacks_is_named(page_of, kind):
    source = OTHERS[kind]
    planted = [(source.replace('source="definition"', 'source=""'), "no source"),
               (source.replace("# (1)", "#"), "equation (1) is cited by no line"),
               (source.replace("# (1)", "# (9) (1)"), "a line cites (9), but no equation has that number"),
               (source.replace("hard_cases", "other_cases"), "no hard_cases")]
    for text, complaint in planted:
        assert f"Shift: {complaint}" in lacks(page_of(text)), complaint
    base = {"conditioner": "Conditioner", "density": "Density", "scale": "Scale", "parametrisation": "Map"}[kind]
    deeper = source.replace(f"class Shift({base}):", f"class Shift(type('Between', ({base},), {{}})):")
    assert any("inheritance is not of depth 1" in complaint for complaint in lacks(page_of(deeper)))
