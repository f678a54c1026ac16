"""The printed equation of a page, run on the numbers of the truth, is its definition."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from flint import arb, ctx

from refflow.core.registry import of_kind
from refflow.maps import load_all
from refflow.testing.pages import KINDS
from refflow.truth.balls import Dual, constant, m
from refflow.truth.engine import NEGLIGIBLE, TruthNotFound
from validation.certify import truth
from validation.kinds import GENERATORS
from validation.points import Draw
from validation.printed import Number, Numbers, believed, numbers, printed

load_all()
PAGES = {name: page for name, page in of_kind(*KINDS).items() if page.textbook}
INTERMEDIATE = "its definition marks intermediates, whose spacing counts where they are subnormal"
APART = {                       # pages whose printed equation is not the definition at some point: why
    "AngularProportion": "the printed quotient leaves the range of the inverse cosine",
    "BoxCox": "the printed quotient has no value at power 0, where the definition has its limit",
    "GumbelCDF": "the printed exponential has a truth where the definition has none",
    "CubicSpline": INTERMEDIATE, "LinearRationalSpline": INTERMEDIATE, "RationalQuadraticSpline": INTERMEDIATE,
    "CrossAttention": INTERMEDIATE, "RelativeAttention": INTERMEDIATE,
    "UnconstrainedMonotonic": "the printed integral branches inside the boxes of a proof",
    "InvertibleResidual": "its definition hands the root on, whose rounding counts",
    "ExponentialLinear": "the printed series ends at the precision of floats",
    "RotationLinear": "the printed series ends at the precision of floats",
    "PLULinear": "the printed matrices are not cut to their triangles",
    "BlockAutoregressive": "the printed matrices are not cut to their blocks",
    "CentredSoftmax": "the printed e/sum(e) has no log-det for one entry", "Softmax": "the printed e/sum(e) has no truth far out"}
SLOW = {"OrthonormalColumns": "the printed iteration goes on to the limit of floats, a hundred times as long"}
MODERATE = 4                    # points beside the hard cases
FLOOR = arb(2) ** NEGLIGIBLE["float64"]         # below it, the truth counts as 0


def points(page):
    draw = GENERATORS.get(page.kind, Draw)(page, np.float64, "forward")
    found = list(draw.hard_points())
    wanted = len(found) + MODERATE
    while len(found) < wanted:
        f, shape = draw.value(False)
        found += draw.point(f, draw.event(f, shape, "moderate"), False, "", "")
    return [replace(point, image_bar=None, log_det_bar=None) for point in found]


def settled(point):
    """{quantity: its truth}; nothing where the equation cannot be run."""
    try:
        return truth(point)
    except TruthNotFound as partly:
        return partly.settled
    except (ArithmeticError, ValueError):
        return {}


def apart(page, monkeypatch):
    """Where the truth of the printed equation is not that of the definition: its case, quantity, values and units of error."""
    asked = points(page)
    true = [settled(point) for point in asked]
    monkeypatch.setattr(page, "definition", staticmethod(functools.partial(printed, page)))
    return [(point.case, *found) for point, of_page in zip(asked, true) for found in differing(of_page, settled(point))]


def differing(a, b):
    if set(a) != set(b):
        return [("settled", sorted(a), sorted(b))]
    with ctx.workdps(100):
        return [(name, v, w, k, l) for name in a for v, w, k, l in zip(a[name].value, b[name].value, a[name].kappa, b[name].kappa, strict=True)
                if not (abs(v - w).mid() <= arb(10) ** -40 * k.mid() + FLOOR and abs(k - l).mid() <= arb(10) ** -6 * k.mid() + FLOOR)]


@pytest.mark.parametrize("name", sorted(set(PAGES) - set(SLOW)))
def test_a_printed_equation_is_the_definition(name, monkeypatch):
    """Values to 40 digits, units of error to 6; a page that is said to be apart is."""
    found = apart(PAGES[name], monkeypatch)
    assert bool(found) == (name in APART), found[:3]


def test_few_pages_are_apart():
    assert set(APART) | set(SLOW) <= set(PAGES) and len(APART) + len(SLOW) <= 17


def test_the_definition_is_believed_where_a_page_has_one():
    f = PAGES["WeibullCDF"](scale=2.0, concentration=1.5)
    assert believed(f) == f.definition
    without = type("WithoutDefinition", (), {"textbook": PAGES["WeibullCDF"].textbook, "kind": "bijector"})()
    with ctx.workdps(60):
        given = [constant(number) for number in (0.5, 2.0, 1.5)]
        assert abs((believed(without)(m, *given) - f.definition(m, *given)).value) < 1e-50


# -- the four rules -------------------------------------------------------------------------------------------------------

def test_an_array_takes_over():
    assert [x.value.value for x in Number(2) * numbers(np.array([3, 4]))] == [6, 8]


def test_numbers_near_1_keep_their_digits():
    np_, w = Numbers(), Number(constant(arb(2) ** -5000))
    small = w.value.value
    for near in (1 + w, np_.exp(w), np_.sqrt((1 + w) ** 2), (1 + w) ** 1.0, (1 + w) ** -1, np_.exp(w) ** Number(constant(0.5))):
        for less_1 in (near - 1, -(1 - near), np_.log(near)):
            assert 0.4 < abs(float((less_1.value.value / small).mid())) < 1.1
    assert (1 - np_.tanh(Number(constant(5000)))).value.value > 0


def test_a_mask_takes_the_derivatives_too():
    x = Number(Dual(arb(3), {0: 1}, 1))
    assert (x * False).value.partials == {} and (x * np.True_).value.partials == {0: 1}


def test_the_derivative_of_a_modulus_at_0_is_from_above():
    assert abs(Number(Dual(arb(0), {0: 1}, 1))).value.partials == {0: 1}
