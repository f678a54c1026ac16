"""Rules of plain fields, and the pages that list what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest

from refflow import Chain, Dense, GlowActNorm, LayerNorm, SkipSum, Squeeze, Transposed
from refflow.core import of_kind
from refflow.core.rules import ABOVE_0, AT_LEAST_0, BELOW_1, FINITE, FLAG, NOT_0, count, number, one_of, optional
from refflow.maps import load_all
from refflow.testing.laws import LAWS

load_all()
RULES = {"finite": FINITE, "above 0": ABOVE_0, "from 0": AT_LEAST_0, "below 1": BELOW_1, "not 0": NOT_0, "flag": FLAG, "count": count(),
         "count from 0": count(0), "word": one_of("a", "b"), "rank": one_of(1, 2, 3), "or none": optional(count()),
         "closed": number(0, 1, True, True), "half": number(0, 1, low_included=True), "or infinite": number(0, high_included=True)}
HELD = {"finite": (-1, 0.5, np.float32(2)), "above 0": (5e-324, 3), "from 0": (0, 0.0), "below 1": (0.5,), "flag": (True, np.False_), "not 0": (-5e-324,),
        "count": (1, np.int64(7)), "count from 0": (0,), "word": ("a", np.str_("b")), "rank": (1, np.int8(3)), "or none": (None, 2),
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
        "flag": "be True or False", "not 0": "be finite and not 0", "count": "be an int >= 1", "count from 0": "be an int >= 0", "word": "be one of ('a', 'b')",
        "rank": "be 1, 2 or 3", "or none": "be an int >= 1, or None", "closed": "be in [0, 1]", "half": "be in [0, 1)",
        "or infinite": "be > 0"}


REFUSING = [page for kind in ("scale", "density", "parametrisation", "conditioner", "bijector")
            for page in of_kind(kind).values() if page.refused]


@pytest.mark.parametrize("page", REFUSING, ids=lambda page: page.__name__)
def test_what_a_page_lists_is_refused(page):
    LAWS["refusals are named"](object.__new__(page), None)


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
