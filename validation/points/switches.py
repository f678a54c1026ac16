"""Where a page's own code switches: the events at which one of its comparisons changes its result.

A page names its thresholds by comparing with them: nothing else is written down, and nothing can be forgotten.  While a
value's methods run at many events at once, every result of <, <=, > and >=, and every choice of np.minimum, np.maximum and
np.clip, is recorded with its place, in its page and in the arithmetic on which it stands, on arrays that are made of the event and
on all others.  `refflow.accuracy.switches` finds the floats between which a result changes.

What a solver asks on its way is left out.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import sys
import warnings
from functools import cache
from pathlib import Path

import numpy as np

from refflow.accuracy import switches as search
from refflow.core import tree

from .code import BELIEVED, code_of, plain_function

FOUNDATIONS = ("refflow.core.arithmetic", "refflow.core.pairs", "refflow.core.products")
ORDERED = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
CHOICES, SOLVER = {"minimum", "maximum", "clip"}, "find_root"
SEEN, CHOSEN, UNSEEN = "__seen__", "__chosen__", "__unseen__"


# -- recording --------------------------------------------------------------------------------------------------------

class Recorded(ast.NodeTransformer):
    """Code whose comparisons and choices report their results, each under the place where it stands."""

    def visit_Compare(self, node):
        self.generic_visit(node)
        if not any(isinstance(operator, ORDERED) for operator in node.ops):
            return node
        return reporting(node, SEEN, node)

    def visit_Call(self, node):
        self.generic_visit(node)
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if name == SOLVER or name in CHOICES and ast.unparse(node.func.value) == "np":
            return reporting(node, UNSEEN if name == SOLVER else CHOSEN, node.func, *node.args, keywords=node.keywords)
        return node


def reporting(node, name, *arguments, keywords=()):
    """A call of a reporting function in the place of a node, with the text that stands there."""
    place = ast.Constant(ast.unparse(node))
    return ast.copy_location(ast.Call(ast.Name(name, ast.Load()), [place, *arguments], [*keywords]), node)


class Recording:
    """{place: [marks of the events, (count, ...)]} of one run at `count` events."""

    def __init__(self):
        self.results, self.count, self.awake = {}, 0, True

    def seen(self, place, result):
        if self.awake and isinstance(result, np.ndarray) and result.dtype == bool and self.count in result.shape:
            events_first = np.moveaxis(result, result.shape.index(self.count), 0)
            self.results.setdefault(place, []).append(events_first.reshape(self.count, -1))
        return result

    def chosen(self, place, choice, first, *others, **options):
        found = choice(first, *others, **options)
        self.seen(place, np.asarray(found == first))
        return found

    def unseen(self, place, solver, *given, **options):
        self.awake = False
        try:
            return solver(*given, **options)
        finally:
            self.awake = True


@cache
def reporting_code(name):
    """{function of a module: its code with reports}."""
    module = sys.modules[name]
    syntax = ast.parse(Path(inspect.getsourcefile(module)).read_text(encoding="utf-8"))
    names = [node.name for node in syntax.body if isinstance(node, ast.FunctionDef)]
    names += [f"{node.name}.{inner.name}" for node in syntax.body if isinstance(node, ast.ClassDef)
              for inner in node.body if isinstance(inner, ast.FunctionDef)]
    code = compile(ast.fix_missing_locations(Recorded().visit(syntax)), str(module.__file__), "exec")
    functions = {name: plain_function(module, name) for name in names if name.rpartition(".")[2] not in BELIEVED}
    return {function: code_of(code, name) for name, function in functions.items() if function is not None}


def modules_of(value):
    """The modules with the code of a value's methods: of its class, of its components, what these import, and the arithmetic."""
    waiting, found = {type(part).__module__ for _, part in tree.walk(value)}, set(FOUNDATIONS)
    while waiting:
        name = waiting.pop()
        found.add(name)
        imported = {getattr(held, "__module__", None) or getattr(held, "__name__", "") for held in vars(sys.modules[name]).values()}
        waiting |= {name for name in imported if name.startswith("refflow.maps.")} - found
    return sorted(found)


@contextlib.contextmanager
def recording(modules):
    """The functions of some modules report to a Recording."""
    made = Recording()
    reports = {SEEN: made.seen, CHOSEN: made.chosen, UNSEEN: made.unseen}
    codes = {function: code for name in modules for function, code in reporting_code(name).items()}
    before = {function: function.__code__ for function in codes}
    globals_of = {id(function.__globals__): function.__globals__ for function in codes}.values()
    try:
        for names in globals_of:
            names.update(reports)
        for function, code in codes.items():
            function.__code__ = code
        yield made
    finally:
        for function, code in before.items():
            function.__code__ = code
        for names in globals_of:
            for name in reports:
                names.pop(name, None)


# -- searching --------------------------------------------------------------------------------------------------------

def switches(answer, ladders, source, modules=FOUNDATIONS):
    """{place: [(below, above)]}: neighbouring floats between which a comparison changes its result.

    `answer(numbers)` asks a value's methods at events that differ in one entry; a ladder holds increasing numbers.
    `modules` hold the code that is asked.
    """
    with recording(modules) as made, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")

        def results_at(numbers):
            made.results, made.count = {}, len(numbers)
            answer(numbers)
            return {place: np.concatenate(marks, -1) for place, marks in made.results.items()}

        return search.switches(results_at, ladders, source)
