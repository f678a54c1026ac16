"""Rules of plain fields, and the pages that list what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refflow import (Affine, AlphaSigmoid, BatchNorm, Chain, Coupling, Dense, GlowActNorm, Inverse, LayerNorm, SigmoidScale,
                     SkipSum, SoftplusScale, Squeeze, Transposed, affine_family)
from refflow.core import RandomSource, of_kind
from refflow.core.declarations import Plain
from refflow.core.rules import ABOVE_0, AT_LEAST_0, BELOW_1, FINITE, FLAG, NOT_0, count, number, one_of, optional
from refflow.laws.bijector_laws import EXTREME, LAWS
from refflow.laws.composition_laws import some
from refflow.maps import load_all

load_all()
RULES = {"finite": FINITE, "above 0": ABOVE_0, "from 0": AT_LEAST_0, "below 1": BELOW_1, "not 0": NOT_0, "flag": FLAG, "count": count(),
         "count from 0": count(0), "word": one_of("a", "b"), "rank": one_of(1, 2, 3), "or none": optional(count()),
         "closed": number(0, 1, True, True), "half": number(0, 1, low_included=True), "or infinite": number(0, high_included=True)}
HELD = {"finite": (-1, 0.5, np.float32(2)), "above 0": (5e-324, 3), "from 0": (0, 0.0), "below 1": (0.5,), "flag": (True, np.False_),
        "not 0": (-5e-324,), "count": (1, np.int64(7)), "count from 0": (0,), "word": ("a", np.str_("b")),
        "rank": (1, np.int8(3)), "or none": (None, 2),
        "closed": (0, 1), "half": (0, np.nextafter(1, 0)), "or infinite": (math.inf,)}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_holds_what_it_says(name):
    for given in HELD[name]:
        kept = RULES[name].checked("Page", "field", given)
        assert kept == given and type(kept) in (int, float, bool, str, type(None))


@pytest.mark.parametrize("name", RULES)
def test_every_broken_value_is_refused(name):
    rule = RULES[name]
    assert rule.broken
    for given in rule.broken:
        with pytest.raises(ValueError, match="^Page: field must ") as raised:
            rule.checked("Page", "field", given)
        assert str(raised.value) == f"Page: field must {rule.text}, not {given!r}"


def test_texts():
    texts = {name: rule.text for name, rule in RULES.items()}
    assert texts == {
        "finite": "be finite", "above 0": "be finite and > 0", "from 0": "be finite and >= 0", "below 1": "be in (0, 1)",
        "flag": "be True or False", "not 0": "be finite and not 0", "count": "be an int >= 1", "count from 0": "be an int >= 0",
        "word": "be one of ('a', 'b')", "rank": "be 1, 2 or 3", "or none": "be an int >= 1, or None",
        "closed": "be in [0, 1]", "half": "be in [0, 1)",
        "or infinite": "be > 0"}


REFUSING = [page for kind in ("scale", "density", "parametrisation", "conditioner", "bijector")
            for page in of_kind(kind).values() if page.refused]


@pytest.mark.parametrize("page", REFUSING, ids=lambda page: page.__name__)
def test_what_a_page_lists_is_refused(page):
    LAWS["refusals are named"](object.__new__(page), None)


def has_numbers(page):
    rules = [held.rule for held in page.declared.values() if isinstance(held, Plain) and held.rule]
    return any(rule.holds(number) for rule in rules for number in EXTREME)


NUMBERED = [page for kind in ("scale", "density", "parametrisation", "conditioner", "bijector")
            for page in of_kind(kind).values() if has_numbers(page)]


@pytest.mark.parametrize("page", NUMBERED, ids=lambda page: page.__name__)
def test_a_constant_that_float32_cannot_hold_is_refused_there(page):
    LAWS["constants fit the dtype"](some(page, RandomSource(np.random.default_rng(0)), 2), None)


@pytest.mark.parametrize("make, field", [
    (lambda: SoftplusScale(floor=1e308), "SoftplusScale: floor"), (lambda: SoftplusScale(floor=1e-60), "SoftplusScale: floor"),
    (lambda: Chain([Affine(), AlphaSigmoid(low=1e-60)]), "AlphaSigmoid: low"),
    (lambda: Coupling([True, False], Dense(np.zeros((2, 1)), np.zeros(2)), affine_family(SigmoidScale(floor=1e-60))),
     "SigmoidScale: floor"), (lambda: LayerNorm([1.0, 1.0], [0.0, 0.0], eps=1e-60), "LayerNorm: eps"),
    (lambda: Inverse(BatchNorm([0.0], [1.0], eps=1e60)), "BatchNorm: eps")])
def test_a_constant_is_refused_at_the_call_that_cannot_hold_it(make, field):
    f, event = make(), np.full(() if field[0] == "S" and "Sig" not in field else (2,), 0.5)
    event = event[:1] if field[0] == "B" else event
    assert np.isfinite(f.forward(event)).all()
    message = f"^{field} must be a number that float32 holds, not 1e[+-]?(308|60), which is (inf|0.0) there$"
    with pytest.raises(ValueError, match=message):
        f.astype(np.float32).forward(event.astype(np.float32))


def test_constants_that_float32_rounds_or_that_are_infinite_are_used():
    """0, a subnormal number, the largest one, and no ceiling."""
    for f in (SoftplusScale(floor=0.0), SoftplusScale(floor=1e-44), SoftplusScale(floor=3.4e38), SoftplusScale(ceiling=math.inf)):
        assert f.forward(np.float32(0.5)).dtype == np.float32


@pytest.mark.parametrize("make, message", [
    (lambda: LayerNorm([1.0], [0.0], eps=True), "LayerNorm: eps must be finite and > 0, not True"),
    (lambda: LayerNorm([1.0], [0.0], eps=math.nan), "LayerNorm: eps must be finite and > 0, not nan"),
    (lambda: GlowActNorm([1.0], direct=1), "GlowActNorm: direct must be True or False, not 1"),
    (lambda: Squeeze(order=["interleaved"]), r"Squeeze: order must be one of .*, not \['interleaved'\]"),
    (lambda: Transposed(1.0), "Transposed: inner must be a component: a bijector, density, network or scale, not 1.0"),
    (lambda: Chain(Squeeze()), "Chain: stages must be bijectors, at least one, not Squeeze"),
    (lambda: SkipSum(Dense([[1.0]], [0.0]), ()), "SkipSum: blocks must be components, in a tuple or a list, not Dense"),
    (lambda: Chain([Squeeze(), 3]), "Chain: stages must be bijectors, at least one, not 3")])
def test_bad_fields_of_pages(make, message):
    with pytest.raises(ValueError, match=f"^{message}"):
        make()
