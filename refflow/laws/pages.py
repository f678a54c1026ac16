"""Checks that a page is complete.

A page is its module docstring with numbered equations, fields, its `textbook` or `definition`, the functions of its kind, hard
cases, and for every numbered equation a line of code that ends in its number.
"""

from __future__ import annotations

import inspect
import re
import sys
from dataclasses import dataclass

import numpy as np

from ..core import Bijector, Conditioner, Density
from ..core.declarations import Child, Field
from ..core.docstrings import joined_text
from ..core.registry import has_components
from ..maps.elementwise import Scale
from ..maps.parametrisations import Map

NUMBERS = re.compile(r"\((\d+)\)")
DEFINED = re.compile(r"(?:^|\s{2,})((?:\(\d+\)\s*)+)$")          # at the end of a line, apart from its text
CITED = re.compile(r"#((?:\s*\(\d+\))+)\s*$")
RESHAPING = ("input_shape", "inverse_definition")               # of a page without components that defines output_shape
VJP = (("vjp",), "vjp, the hand-written reverse rule")


@dataclass(frozen=True)
class Kind:
    """What a page of a kind must itself define: (any of these functions, its description), and its base class."""

    base: type
    required: tuple


KINDS = {
    "bijector": Kind(Bijector, ((("forward", "forward_and_log_det"), "forward"),
                                (("log_det", "forward_and_log_det"), "log_det"),
                                (("inverse", "inverse_and_log_det"), "inverse"), VJP)),
    "conditioner": Kind(Conditioner, ((("forward", "vjp"), "forward"), VJP)),
    "density": Kind(Density, ((("log_prob_vjp",), "log_prob_vjp, the value and its hand-written reverse rule"),
                              (("sample_vjp", "sample"), "sample_vjp"))),       # sample, if it has no gradients
    "scale": Kind(Scale, ((("evaluate",), "evaluate"), (("log_slope",), "log_slope"))),
    "parametrisation": Kind(Map, (VJP,)),
}


def lacks(page) -> list[str]:
    """Everything the page lacks, in words; an empty list if it is complete."""
    name, kind = page.__name__, KINDS[page.kind]
    found = [f"no {what}" for choices, what in kind.required if not any(writes(page, choice) for choice in choices)]
    if page.textbook is None and not writes(page, "definition"):
        found.append("no textbook and no definition, the believed equation")
    found += OF_A_KIND.get(page.kind, lambda page: [])(page)
    if not page.source:
        found.append("no source")
    if not (page.__doc__ or "").strip() or page.__doc__.startswith(f"{name}("):     # a dataclass writes its own
        found.append("no docstring")
    if not shallow(page, kind.base):
        found.append(f"inheritance is not of depth 1: its base must be {kind.base.__name__}, or one that pages with "
                     "components share")
    found += cases(page) + equations(sys.modules[page.__module__])
    return [f"{name}: {what}" for what in found]


def of_bijector(page):
    found = derivative(page)
    if writes(page, "output_shape") and not has_components(page) and not keeps_shapes(page):
        found += [f"no {part}, although its shapes differ" for part in RESHAPING if not writes(page, part)]
        found += ["no codomain of lower dimension, although its dimensions differ"] if resizes_onto_all(page) else []
    if page.domain is None or page.codomain is None:
        found.append("no domain or codomain")
    return found


def keeps_shapes(page):
    """Is one rule for both sides, `input_shape = output_shape`?"""
    return inspect.unwrap(page.input_shape) is inspect.unwrap(page.output_shape)


def resizes_onto_all(page):
    """Does the image of a hard case have another number of entries, while neither set is said to be of lower dimension?"""
    given = [(page(**case.params), np.shape(event)) for case in page.hard_cases for event in case.z]
    return any(np.prod(f.output_shape(shape)) != np.prod(shape) and not (f.domain.thin or f.codomain.thin) for f, shape in given)


def derivative(page):
    """A scalar map defines its slope, any other map its Jacobian."""
    wanted = "slope" if vars(page).get("event_ndim") == (0, 0) else "jacobian"
    return [] if writes(page, wanted) else [f"no {wanted}"]


def of_scale(page):
    trained = any(isinstance(field, Field) and not field.constant for field in page.declared.values())
    return ["no field_slopes, although it has parameters"] if trained and not writes(page, "field_slopes") else []


OF_A_KIND = {"bijector": of_bijector, "conditioner": derivative, "scale": of_scale}


def shallow(own, contract):
    """Is its only base the contract, or, for a page with components, a class that is not a page and has that base?"""
    (base, *others), shared = own.__bases__, any(isinstance(field, Child) for field in own.declared.values())
    return not others and (base is contract or shared and base.__bases__ == (contract,) and "declared" not in vars(base))


def writes(page, name):
    """Does the page have its own function of this name?"""
    function = vars(page).get(name)
    inherited = [vars(base).get(name) for base in page.__mro__[1:]]
    return function is not None and inspect.unwrap(function) not in inherited


def cases(page) -> list[str]:
    if not page.hard_cases:
        return ["no hard_cases"]
    components = [key for key, field in page.declared.items() if isinstance(field, Child)]
    lacking = [(case, key) for case in page.hard_cases for key in components if key not in case.params]
    return [f"hard case {case.name!r} has no reason" for case in page.hard_cases if not case.reason.strip()] + \
           [f"hard case {case.name!r} has no event" for case in page.hard_cases if not (case.z or case.x)] + \
           [f"hard case {case.name!r} has no {key}" for case, key in lacking]


def equations(module) -> list[str]:
    """Numbered equations of the module's text compared with the numbers at the ends of its code lines."""
    source = inspect.getsource(module)
    defined, cited = numbered(DEFINED, joined_text(source)), numbered(CITED, source)
    missing = sorted(set(range(1, max(defined, default=0) + 1)) - set(defined))
    return ([] if defined else ["no numbered equation in the module docstring"]) + \
           [f"equation ({n}) is cited by no line" for n in sorted(set(defined) - set(cited))] + \
           [f"a line cites ({n}), but no equation has that number" for n in sorted(set(cited) - set(defined))] + \
           [f"equation ({n}) stands twice" for n in sorted({n for n in defined if defined.count(n) > 1})] + \
           [f"equation ({n}) is left out" for n in missing]


def numbered(pattern, text):
    ends = (pattern.search(line.rstrip()) for line in text.splitlines())
    return [int(n) for end in ends if end for n in NUMBERS.findall(end.group(1))]
