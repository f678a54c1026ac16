"""Which numbered equations of a page state a quantity: the equations that the lines of its method cite."""

from __future__ import annotations

import ast
import functools
import inspect
import re
from pathlib import Path

from ...accuracy.quantities import truth_name
from ...core.docstrings import joined_text

CITED = re.compile(r"#((?:\s*\(\d+\))+)\s*$")
NUMBERED = re.compile(r"^(.*?)(?:\s{2,})((?:\(\d+\)\s*)+)$")
METHODS = {"forward": ("forward", "forward_and_log_det"), "log_det": ("log_det", "forward_and_log_det"),
           "jacobian": ("jacobian", "slope"), "vjp": ("vjp",), "inverse": ("inverse", "inverse_and_log_det"),
           "inverse_log_det": ("inverse_and_log_det", "log_det", "forward_and_log_det"), "inverse_vjp": ("inverse_vjp", "vjp")}


def equations(page, quantity) -> tuple:
    """The numbers of the equations of a page that state a quantity, in order; () if it has none.

    If some of a pullback's equations begin with the cotangent's name, these alone.
    """
    name = truth_name(quantity.removesuffix(" shape"))
    kind, _, cotangent = name.partition(".")
    try:
        functions, lines = code_of(page)
    except (OSError, TypeError):        # a page typed in at a prompt
        return ()
    choices = [f"{page.__name__}.{m}" for m in METHODS[kind] if f"{page.__name__}.{m}" in functions]
    believed = [name for name in (f"{page.__name__}.definition", "textbook.forward") if name in functions]
    choices = choices[:1] + believed[:1] * (kind == "forward")
    numbers = {n for choice in choices if choice in functions for n in cited(choice, page.__name__, functions, lines)}
    named = {n for n in numbers if begins_with(page, n, cotangent.rpartition(".")[2])} if cotangent else set()
    return tuple(sorted(named or numbers))


@functools.cache
def code_of(page):
    """({name: its node} of the functions of a page's module, a method as Class.method; the module's lines)."""
    source, functions = source_of(page), {}
    for statement in ast.parse(source).body:
        prefix = f"{statement.name}." if isinstance(statement, ast.ClassDef) else ""
        for inner in statement.body if prefix else [statement]:
            if isinstance(inner, ast.FunctionDef):
                functions[prefix + inner.name] = inner
    return functions, source.splitlines()


@functools.cache
def source_of(page):
    return Path(inspect.getsourcefile(page)).read_text(encoding="utf-8")


def cited(name, page, functions, lines, seen=frozenset()):
    """The equations that the lines of a function cite, or the functions of the module that it calls."""
    function = functions[name]
    numbers = {int(n) for line in lines[function.lineno - 1:function.end_lineno] if (found := CITED.search(line))
               for n in re.findall(r"\d+", found[1])}
    for called in sorted(called_by(function, page) & set(functions) - seen - {name}):
        numbers |= cited(called, page, functions, lines, seen | {name})
    return numbers


def called_by(function, page):
    calls = [node.func for node in ast.walk(function) if isinstance(node, ast.Call)]
    own = {f"{page}.{f.attr}" for f in calls if isinstance(f, ast.Attribute) and getattr(f.value, "id", "") == "self"}
    return own | {f.id for f in calls if isinstance(f, ast.Name)}


def begins_with(page, number, name):
    """Is an equation's left side that name?"""
    for line in joined_text(source_of(page)).splitlines():
        found = NUMBERED.match(line)
        if found and f"({number})" in found[2]:
            return bool(re.match(rf"\s*{re.escape(name)}(\b|_)[^=]*=", found[1]))
    return False
