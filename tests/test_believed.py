"""The printed equation of a page, run on the numbers of the truth, is its definition."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from flint import arb, ctx

from refflow.core.registry import of_kind
from refflow.laws.pages import KINDS
from refflow.maps import load_all
from refflow.truth.balls import Dual, m
from refflow.truth.engine import NEGLIGIBLE, TruthNotFound
from validation.certify import truth
from validation.points.kinds import GENERATORS
from validation.points.drawn import Draw
from validation.points.recorded import decoded
from refflow.core.printed import Number, Numbers, numbers, printed

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
DECIMALS = json.loads(Path(__file__).with_name("definitions.json").read_text())         # {page: points, and what is true there}
ANOTHER = {                     # pages whose definition has what the textbook does not: why
    "BernsteinPolynomial": "the textbook's slopes are not those of the ends",
    "Conv2d": "the textbook has (2), which follows from the definition, (1)",
    "GatedLocationScale": "its definition gives a scale, which a coupling asks",
    "MonotoneNetwork": "the textbook branches inside the boxes of a proof",
    "GompertzCDF": "where 1 - x is known to be 0 alone, the definition says so, and sweeps end",
    "ReLUScale": "the side of the kink on which 0 lies",
    "SpectralDense": "the textbook takes the singular vectors of floats",
    "Sylvester": "the textbook's matrices are not cut to their triangles", "WishartCholesky": "so are its",
    "UnitVector": "the textbook has (1), the definition (2)"}
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


def differing(a, b):
    if set(a) != set(b):
        return [("settled", sorted(a), sorted(b))]
    with ctx.workdps(100):
        return [(name, v, w, k, l) for name in a for v, w, k, l in zip(a[name].value, b[name].value, a[name].kappa, b[name].kappa, strict=True)
                if not (abs(v - w).mid() <= arb(10) ** -40 * k.mid() + FLOOR and abs(k - l).mid() <= arb(10) ** -6 * k.mid() + FLOOR)]


def test_pages_with_a_definition_beside_a_textbook_are_listed():
    """A page that is not listed is defined by its textbook."""
    assert {name for name, page in PAGES.items() if "definition" in vars(page)} == {*APART, *SLOW, *ANOTHER}
    assert len(APART) + len(SLOW) + len(ANOTHER) <= 27


@pytest.mark.parametrize("name", sorted(APART))
def test_a_page_that_is_said_to_be_apart_is(name, monkeypatch):
    """Its textbook does not give the values of its definition to 40 digits, or its units of error to 6."""
    asked = points(PAGES[name])
    true = [settled(point) for point in asked]
    monkeypatch.setattr(PAGES[name], "definition", staticmethod(functools.partial(printed, PAGES[name])))
    assert any(differing(of_page, settled(point)) for point, of_page in zip(asked, true))


@pytest.mark.parametrize("name", sorted(DECIMALS))
def test_a_textbook_says_what_was_written_twice(name):
    """In decimals, what the definition gave that this page had beside its textbook, in other words."""
    for stored in DECIMALS[name]:
        point = decoded(PAGES[name], "float64", {"image_bar": None, "log_det_bar": None} | stored["point"], "")
        true = settled(point)
        for quantity, decimals in stored["true"].items():
            with ctx.workdps(100):
                off = [abs(value - arb(one)).mid() for value, one in zip(true[quantity].value, decimals, strict=True)]
                assert all(one <= arb(10) ** -40 * kappa.mid() for one, kappa in zip(off, true[quantity].kappa)), quantity


def test_a_textbook_that_says_another_thing_is_found(monkeypatch):
    monkeypatch.setattr(PAGES["Softsign"].textbook, "forward", lambda z: z / (1 + abs(z)) + z * 1e-38)
    with pytest.raises(AssertionError, match="forward"):
        test_a_textbook_says_what_was_written_twice("Softsign")


# -- the four rules -------------------------------------------------------------------------------------------------------

def test_an_array_takes_over():
    assert [x.value.value for x in Number(m, 2) * numbers(m, np.array([3, 4]))] == [6, 8]


def test_numbers_near_1_keep_their_digits():
    np_, w = Numbers(m), Number(m, arb(2) ** -5000)
    small = w.value.value
    for near in (1 + w, np_.exp(w), np_.sqrt((1 + w) ** 2), (1 + w) ** 1.0, (1 + w) ** -1, np_.exp(w) ** Number(m, 0.5)):
        for less_1 in (near - 1, -(1 - near), np_.log(near)):
            assert 0.4 < abs(float((less_1.value.value / small).mid())) < 1.1
    assert (1 - np_.tanh(Number(m, 5000))).value.value > 0


def test_a_mask_takes_the_derivatives_too():
    x = Number(m, Dual(arb(3), {0: 1}, 1))
    assert (x * False).value.partials == {} and (x * np.True_).value.partials == {0: 1}


def test_the_derivative_of_a_modulus_at_0_is_from_above():
    assert abs(Number(m, Dual(arb(0), {0: 1}, 1))).value.partials == {0: 1}
