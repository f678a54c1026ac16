"""Misprints of printed equations: each small mistake in a formula that is executed must be noticed.

    python -m validation.misprints [NAME...]    plants them and says which live

A mistake is planted in the tree of one right side: a sign, an exponent, a number, a function, a letter, a subscript, a stroke, a factor,
a transpose.  It lives if the equation is executed all the same.  The result of each page is kept in misprints.json; a page is asked
again where its text, or the evaluator, has changed.  Exit status 1 if more than one in fifty lives.
"""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import sys
from pathlib import Path

from refflow.book import algebra, evaluate, functions, letters, statements
from refflow.book.letters import names_in
from refflow.book.notation import Fraction, Number, Product, Scripted, Sum, Word

from . import equations
from .equations import Unit, judged, mark_definitions, source_of
from .points.recorded import written
from .records.reached import hashed

RECORD = Path(__file__).with_suffix(".json")
ALLOWED = 1 / 50
FUNCTIONS = {"exp": "expm1", "expm1": "exp", "log": "log1p", "log1p": "log", "sin": "cos", "cos": "sin", "tanh": "arctan", "sinh": "cosh",
             "cosh": "sinh", "sqrt": "exp", "min": "max", "max": "min", "tril": "triu", "triu": "tril", "arctan": "tanh", "Phi": "phi",
             "phi": "Phi", "erf": "erfc", "erfc": "erf", "sech": "cosh", "arsinh": "arctan", "artanh": "arsinh"}


def misprints(node, others, place="letter"):
    """(what is wrong, the tree with the mistake) for each mistake in a tree; `others` are the letters to take for one."""
    yield from own(node, others, place)
    for field in dataclasses.fields(node) if dataclasses.is_dataclass(node) else ():
        at = {"below": "subscript", "above": "exponent"}.get(field.name, "function" if field.name == "function" else place)
        for what, made in of_part(getattr(node, field.name), others, at):
            yield what, dataclasses.replace(node, **{field.name: made})


def of_part(part, others, place):
    if isinstance(part, tuple):
        for i, one in enumerate(part):
            for what, made in of_part(one, others, place):
                yield what, (*part[:i], made, *part[i + 1:])
    elif dataclasses.is_dataclass(part):
        yield from misprints(part, others, place)


def own(node, others, place):
    """The mistakes at the root of a tree."""
    if isinstance(node, Sum):
        for i, (sign, term) in enumerate(node.terms):
            other = "+" if sign == "-" else "-"
            yield f"sign of term {i + 1}", Sum((*node.terms[:i], (other, term), *node.terms[i + 1:]))
    elif isinstance(node, Number) and node.text.isdigit():
        kind = "number" if place in ("letter", "function") else place
        yield f"{kind} {node.text}", Number(str(int(node.text) + 1))
    elif isinstance(node, Word) and place == "function":
        if node.text in FUNCTIONS:
            yield f"function {node.text}", Word(FUNCTIONS[node.text])
    elif isinstance(node, Word) and place == "subscript" and node.text.isalpha():
        yield f"subscript {node.text}", Number("1") if len(node.text) == 1 else Word(node.text[::-1])
    elif isinstance(node, Word) and place == "letter" and node.text not in FUNCTIONS:
        yield from ((f"letter {node.text}, {other}", Word(other)) for other in others if other != node.text)
    elif isinstance(node, Fraction) and node.form != "derivative":
        yield "stroke of a fraction", Product((node.top, node.bottom))
    elif isinstance(node, Product):
        yield from ((f"factor {i + 1}", Product((*node.factors[:i], *node.factors[i + 1:]))) for i in range(len(node.factors)))
    elif isinstance(node, Scripted):
        if node.primes:
            yield "stroke", dataclasses.replace(node, primes=node.primes - 1)
        if node.above == Word("T"):
            yield "transpose", dataclasses.replace(node, above=None)


def others_of(right):
    """Two letters of a formula, to stand for others: the first and the last."""
    found = [name.letter for name in names_in(right) if not name.below and name.letter.isidentifier() and "_" not in name.letter]
    return list(dict.fromkeys((*found[:1], *found[-1:])))


def of_page(name):
    """{"misprints": how many are planted in a page, "alive": those with which the equation is executed}."""
    text, events = equations.of_page(name)
    planted, alive = 0, []
    for unit in [one for one in text.units if one.state == "executed"]:
        right = unit.statement.cases[unit.case].rights[unit.right]
        alone = any(map(unit.agrees, unit.found))
        for what, made in misprints(right, others_of(right)):
            planted += 1
            if lives(text, events, unit, made, alone):
                alive.append(f"({unit.numbers[0]}) {what}: {equations.printed(name, text, unit)}")
    return {"misprints": planted, "alive": alive}


def lives(text, events, unit, made, alone):
    """Is a unit with another right side executed?"""
    statement, case = unit.statement, unit.statement.cases[unit.case]
    rights = (*case.rights[:unit.right], made, *case.rights[unit.right + 1:])
    statement.cases[unit.case] = dataclasses.replace(case, rights=rights)
    statement.__dict__.pop("sides", None)
    again = [Unit(one.statement, one.case, one.right, one.numbers) for one in text.units if not alone or one is unit]
    mark_definitions(judged(text, events, again))
    statement.cases[unit.case] = case
    statement.__dict__.pop("sides", None)
    return any(one.state == "executed" for one in again if (one.statement, one.case, one.right) == (statement, unit.case, unit.right))


def digest(name):
    """Of what decides about a page's misprints."""
    modules = algebra, evaluate, functions, letters, statements, equations
    return hashed("\n".join([source_of(equations.PAGES[name]), *map(inspect.getsource, modules), Path(__file__).read_text()]))


def recorded():
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def keep(name, found):
    """A page's result, from which a run that stops goes on."""
    record = recorded() | {name: {"of": digest(name), **found}}
    written(RECORD, json.dumps(dict(sorted(record.items())), indent=1) + "\n")


def run(names, tell=print):
    """Ask the pages that are not on record; whether too many misprints live."""
    for name in names:
        if recorded().get(name, {}).get("of") != digest(name):
            keep(name, of_page(name))
            found = recorded()[name]
            tell(f"{name}: {found['misprints']} misprints, {len(found['alive'])} live", *found["alive"], sep="\n    ")
    found = [recorded()[name] for name in names]
    planted, alive = sum(one["misprints"] for one in found), sum(len(one["alive"]) for one in found)
    tell(f"{planted} misprints of {len(names)} pages, {alive} live")
    return alive > ALLOWED * planted


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.misprints", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="pages; without names, all that have a textbook")
    names = parser.parse_args(arguments).names or equations.with_textbook()
    if unknown := [name for name in names if name not in equations.with_textbook()]:
        parser.error(f"no page with a textbook is called {unknown[0]!r}")
    return int(run(names))


if __name__ == "__main__":
    sys.exit(main())
