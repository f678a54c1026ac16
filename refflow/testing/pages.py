"""What a page lacks.

A page is its module docstring with numbered equations, fields, the believed `definition`, the functions of the contract,
hard cases, and for every numbered equation a line of code that ends in its number.
"""

from __future__ import annotations

import inspect
import re
import sys

from ..core import Bijector
from ..core.declarations import Child

NUMBERS = re.compile(r"\((\d+)\)")
DEFINED = re.compile(r"(?:^|\s{2,})((?:\(\d+\)\s*)+)$")          # at the end of a line, apart from its text
CITED = re.compile(r"#((?:\s*\(\d+\))+)\s*$")
REQUIRED = (
    (("definition",), "definition, the believed equation"),
    (("forward", "forward_and_log_det"), "forward"),
    (("log_det", "forward_and_log_det"), "log_det"),
    (("inverse", "inverse_and_log_det"), "inverse"),
    (("vjp",), "vjp, the hand-written reverse rule"),
)
UNEQUAL = ("input_shape", "chart", "inverse_definition")        # of a page that defines output_shape


def lacks(page) -> list[str]:
    """Everything the page lacks, in words; an empty list if it is complete."""
    name, own = page.__name__, vars(page)
    found = [f"no {what}" for choices, what in REQUIRED if not any(writes(page, choice) for choice in choices)]
    derivative = "slope" if own.get("event_ndim") == (0, 0) else "jacobian"
    if not writes(page, derivative):
        found.append(f"no {derivative}")
    if writes(page, "output_shape"):
        found += [f"no {part}, though its dimensions differ" for part in UNEQUAL if not writes(page, part)]
    if page.domain is None or page.codomain is None:
        found.append("no domain or codomain")
    if not page.source:
        found.append("no source")
    if not (page.__doc__ or "").strip() or page.__doc__.startswith(f"{name}("):     # a dataclass writes its own
        found.append("no docstring")
    if not shallow(page):
        found.append("inheritance is not of depth 1: its base must be Bijector, or one that couplings share")
    found += cases(page) + equations(sys.modules[page.__module__])
    return [f"{name}: {what}" for what in found]


def shallow(own):
    """Is its only base Bijector, or, of a page with components, a class that is no page and has that base?"""
    (base, *others), shared = own.__bases__, any(isinstance(field, Child) for field in own.declared.values())
    return not others and (base is Bijector or shared and base.__bases__ == (Bijector,) and "declared" not in vars(base))


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
    """Numbered equations of the module docstring held against the numbers at the ends of its code lines."""
    docstring = module.__doc__ or ""
    code = inspect.getsource(module).split(docstring, 1)[-1] if docstring else inspect.getsource(module)
    defined, cited = numbered(DEFINED, docstring), numbered(CITED, code)
    if not defined:
        return ["no numbered equation in the module docstring"]
    missing = sorted(set(range(1, max(defined) + 1)) - set(defined))
    return [f"equation ({n}) is cited by no line" for n in sorted(set(defined) - set(cited))] + \
           [f"a line cites ({n}), which is no equation" for n in sorted(set(cited) - set(defined))] + \
           [f"equation ({n}) stands twice" for n in sorted({n for n in defined if defined.count(n) > 1})] + \
           [f"equation ({n}) is left out" for n in missing]


def numbered(pattern, text):
    ends = (pattern.search(line.rstrip()) for line in text.splitlines())
    return [int(n) for end in ends if end for n in NUMBERS.findall(end.group(1))]
