"""The printed equations of pages, executed where a line of the textbook cites them.

    python -m validation.equations [NAME...]    counts them: executed, not executed by reason, contradicted; and tells what is wrong
    --write                                     lists those that are not executed, with their reasons, in equations.json
    --json                                      prints JSON

Each function of a page's textbook runs at a few moderate points.  For each statement that cites (n), the names before it and
after it, and what it returns, are kept.  A printed `left = right` of display (n) is executed if, for one such line, the value of
`right` by the notation is the line's value of `left` at every point at which both are known, and at one at least; or if an
executed one used it as a definition.  It is contradicted if no line executes it, and one gives its left side, under its own name, another value.
Exit status 1 if one is contradicted, or is not as it is listed.
"""

from __future__ import annotations

import argparse
import ast
import functools
import inspect
import itertools
import json
import re
import sys
import types
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from refflow.book.algebra import Identity, Row, Unknown
from refflow.book.docstring import Display, Paragraph, document
from refflow.book.evaluate import Record, Scope, is_numeric, value
from refflow.book.letters import first_of, names_in, spelled, subscripts
from refflow.book.notation import Number, Word
from refflow.book.statements import Statement, of_document

from .certify import GENERATORS, PAGES, SIDES, Draw, sides
from .points.recorded import written
from .records.textbooks import METHODS, fields_of

POINTS, SCALARS, TRIED, EVENTS = 4, 8, 8, 16
NEAR, OF_TERMS = 1e-9, 1e-13
CITED = re.compile(r"#((?:\s*\(\d+\))+)\s*$")
MAIN = {name for methods in METHODS.values() for name in (*methods.values, methods.vjp)} | {"slope"}
THIRD = "In floating point"
LISTED = Path(__file__).with_suffix(".json")
REASONS = {
    "prose": "it stands in a sentence, or is none",
    "integral": "it is an integral",
    "limit": "its value is not finite at every point that is drawn",
    "dots": "its dots stand for more than one index",
    "derivative": "it has a derivative that no line gives",
    "not called": "no line cites it that is run under its condition",
    "letter": "one of its letters has another name in the textbook, or none",
    "shape": "its indices or its products are not those of the arrays",
    "words": "its condition, or a part of it, is in words or in a sign of its own"}
OF_READING = {"index": "shape", "value": "letter", "notation": "words", "not finite": "limit"}      # what the evaluator says


# -- a page's text --------------------------------------------------------------------------------------------------------

def source_of(page):
    return inspect.getsource(sys.modules[page.__module__])


@dataclass(eq=False)
class Unit:
    """One printed `left = right`: a right side of one case of a statement."""
    statement: Statement
    case: int
    right: int
    numbers: tuple
    found: dict = field(default_factory=dict)           # {line: {(side, point): True, False, or a reason}}
    own: set = field(default_factory=set)               # (line, point) at which the line has the left side's own name
    uses: dict = field(default_factory=dict)            # {line: definitions that its values came by}
    used: bool = False
    told: dict = field(default_factory=dict)            # {(line, point): what a value was, and what it should be}
    why: str = ""

    def agrees(self, line):
        """At all points of one side: the other side may have the same line with other letters."""
        sides = [{one for (side, _), one in self.found[line].items() if side == own} for own in SIDES]
        return any(True in outcomes and not outcomes & {False, "value"} for outcomes in sides)

    @property
    def state(self):
        """"executed", "contradicted", or the reason why it is unknown."""
        if self.used or any(map(self.agrees, self.found)):
            return "executed"
        if any(self.found[line].get(point) is False for line, point in self.own):
            return "contradicted"
        reasons = Counter(one for points in self.found.values() for one in points.values() if isinstance(one, str))
        reason = reasons.most_common(1)[0][0] if reasons else "letter" if self.found else "not called"
        return OF_READING.get(reason, reason)


class Text:
    """What the first two parts of a page print: statements, in their order, and which numbers stand in prose alone."""

    def __init__(self, page, source=None):
        blocks, names = document(source or source_of(page))
        end = next((i for i, block in enumerate(blocks) if isinstance(block, Paragraph) and block.text.startswith(THIRD)), len(blocks))
        self.statements = of_document(blocks[:end], names | set(page.declared))
        self.numbers = sorted({n for block in blocks[:end] for n in numbers_of(block)})
        self.units = [Unit(one, i, j, case.numbers or one.numbers) for one in self.statements if not one.in_prose
                      for i, case in enumerate(one.cases) for j, _ in enumerate(case.rights)]
        self.names = {name for one in self.statements for name in names_in((one.left, *one.sides))}
        self.first = first_indices(self.statements, self.names)
        self.image, self.event = letters_of(page, self.statements)
        self.lefts = {one.name.letter for one in self.statements if one.name}
        prose = Counter((one.name, one.line) for one in self.statements if one.in_prose)
        self.rivals = [one for one in self.statements if one.in_prose and prose[one.name, one.line] > 1]
        self.letters = {one.name.letter: right.text for one in self.statements if one.name and not one.name.below
                        for right in one.sides if isinstance(right, Word) and right.text in page.declared}

    def definitions(self, statement, cited, side, other):
        """{letter: its statements}: first what the function has `cited`, then its side; the nearest before a statement, then behind.

        A cotangent's equation of the other side alone is left out, and so are equations of one name in one paragraph.
        """
        found = {}
        for one in sorted(self.statements, key=lambda one: (cited.isdisjoint(one.numbers), side.isdisjoint(one.numbers),
                                                            one.order > statement.order, abs(one.order - statement.order))):
            of_other = one.name and "_bar" in one.name.letter and side.isdisjoint(one.numbers) and not other.isdisjoint(one.numbers)
            if one.name is not None and one is not statement and not of_other and one not in self.rivals:
                found.setdefault(one.name.letter, []).append(one)
        return found

    def apart(self, unit):
        """The entries of a left side that have an equation of their own."""
        name, found = unit.statement.name, set()
        for one in self.statements if name else ():
            if one is not unit.statement and one.name and one.name.letter == name.letter and not one.in_prose:
                own = subscripts(one.name.below)
                plain = [index for index in own if isinstance(index, (Word, Number))]
                if len(own) == len(subscripts(name.below)) and any(isinstance(one, Number) or one.text.isupper() for one in plain):
                    found.add(own)
        return found


def letters_of(page, statements):
    """The letters of image and event, as the page's log-det or else its derivative has them."""
    own = (page.letters[1], page.letters[0]) if len(page.letters) > 1 else ("", page.letters)
    named = (re.fullmatch(r"log\|d(\w+)/d(\w+)\|", one.name.letter) for one in statements if one.name)
    image, event = next((match.groups() for match in named if match), own)
    return (event, image) if image == own[1] else (image, event)


def first_indices(statements, names):
    """{letter: the first index}: 0 if an entry 0 is printed that is not a number before the others, or what a range begins with."""
    before = {one.name.letter for one in statements if one.name and starts_at_0(one.name) and isinstance(one.sides[-1], Number)}
    found = {name.letter: 0 for name in names if starts_at_0(name) and name.letter not in before}
    for one in statements:
        for condition in one.cases[0].conditions if one.name else ():
            if len(condition) == 5 and condition[0] in subscripts(one.name.below)[:1] and isinstance(condition[2], Number):
                found.setdefault(one.name.letter.removesuffix("_bar"), int(condition[2].text))
    ones = {name.letter for name in names if subscripts(name.below)[:1] == (Number("1"),)}
    return {letter: first for letter, first in found.items() if first < 1 or letter not in ones}


def starts_at_0(name):
    return subscripts(name.below)[:1] == (Number("0"),)


def numbers_of(block):
    return [n for row in block.rows for n in row.numbers] if isinstance(block, Display) else getattr(block, "numbers", ())


# -- what the lines of a textbook give ------------------------------------------------------------------------------------

@dataclass
class Event:
    """One run of a statement that cites equations: names before it, names that it assigned, all values, and what it returned."""
    function: str
    line: int
    cites: tuple
    before: dict
    assigned: dict
    values: list
    returned: dict
    point: int = 0
    side: str = "forward"
    given: dict = field(default_factory=dict)


class Lines:
    """The simple statements of a textbook that cite equations."""

    def __init__(self, page):
        book = page.textbook
        source, first = inspect.getsourcelines(book)
        self.book, self.file = book, inspect.getsourcefile(book)
        self.by_line = {}
        for node in ast.walk(ast.parse("".join(source).replace("\t", "    ") if not source[0].startswith(" ") else
                                       "if 1:\n" + "".join(source))):
            if isinstance(node, ast.stmt) and not hasattr(node, "body"):
                cites = tuple(int(n) for line in source[node.lineno - 1:node.end_lineno] if (found := CITED.search(line))
                              for n in re.findall(r"\d+", found[1]))
                for line in range(node.lineno, node.end_lineno + 1):
                    self.by_line[line + first - 1] = (node, cites)
        self.codes = {}
        for function in vars(book).values():
            if isinstance(function, types.FunctionType):
                self.add(function.__code__)

    def add(self, code):
        self.codes[code] = {line for _, _, line in code.co_lines() if self.by_line.get(line, (None, ()))[1]}
        for inner in code.co_consts:
            if isinstance(inner, types.CodeType) and not inner.co_name.startswith("<"):
                self.add(inner)

    def others(self, met):
        """(function, names of its parameters) of those that cite equations and that nobody called, on no side."""
        return [(function, set(inspect.signature(function).parameters)) for name, function in vars(self.book).items()
                if isinstance(function, types.FunctionType) and self.codes[function.__code__] and name not in MAIN | met]

    def traced(self, function, *given, **named):
        """(what a function gives, its events, the last value of each name anywhere)."""
        events, last, pending, counts = [], {}, {}, Counter()

        def finish(frame, result=None):
            node, cites, before, line = pending.pop(frame, (None,) * 4)
            if node is not None:
                events.append(event_of(frame, node, cites, before, line, result))

        def local(frame, kind, arg):
            node, cites = self.by_line.get(frame.f_lineno, (None, ()))
            if kind == "line":
                if frame in pending and pending[frame][0] is node:
                    return local
                finish(frame)
                if cites and counts[frame.f_lineno] < EVENTS:
                    counts[frame.f_lineno] += 1
                    pending[frame] = node, cites, copied(frame.f_locals), frame.f_lineno
            elif kind == "return":
                finish(frame, arg)
                last.update(copied(frame.f_locals))
            return local

        def called(frame, kind, arg):
            lines = self.codes.get(frame.f_code)
            return None if lines is None or lines and all(counts[line] >= EVENTS for line in lines) else local

        previous = sys.gettrace()
        sys.settrace(called)
        try:
            result = function(*given, **named)
        finally:
            sys.settrace(previous)
        return result, events, last


def copied(names):
    return {name: held.copy() if isinstance(held, np.ndarray) else list(held) if isinstance(held, list) else held
            for name, held in names.items()}


def event_of(frame, node, cites, before, line, result):
    after, assigned, values = frame.f_locals, {}, []
    for target in getattr(node, "targets", None) or [getattr(node, "target", None)]:
        for one in ast.walk(target) if target is not None else ():
            if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store) and one.id in after:
                assigned[one.id] = copied({"": after[one.id]})[""]
            elif isinstance(one, ast.Subscript) and isinstance(one.ctx, ast.Store):
                values += [held(one, frame), copied({"": held(one.value, frame)})[""]]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and getattr(node.value.func, "attr", "") == "append":
        grown = node.value.func.value
        assigned |= {ast.unparse(grown): list(held(grown, frame))}
    values += [one for name in assigned for one in flat(assigned[name])]
    if isinstance(node, ast.Return):
        values += flat(result)
    returned = {"": result} if isinstance(node, ast.Return) else {}
    if returned and isinstance(result, dict) and frame.f_code.co_name.endswith("_vjp"):
        returned |= {f"{name}_bar": held for name, held in result.items()}      # a sample's cotangents, by field
    return Event(frame.f_code.co_name, line, cites, before, assigned, [one for one in values if is_numeric(one)], returned)


def held(node, frame):
    """The value of a target, read again."""
    made = ast.fix_missing_locations(ast.Expression(ast.parse(ast.unparse(node), mode="eval").body))
    return eval(compile(made, "<target>", "eval"), frame.f_globals, dict(frame.f_locals))


def flat(result):
    """The parts of what a function returned, and the whole where it is numbers."""
    own = [result] if is_numeric(result) else []
    if isinstance(result, dict):
        result = list(result.values())
    return own + [part for one in result for part in flat(one)] if isinstance(result, (list, tuple)) else own


# -- points ---------------------------------------------------------------------------------------------------------------

def points_of(page, side):
    """A few moderate points with all cotangents, the larger ones first."""
    draw = GENERATORS.get(page.kind, Draw)(page, "float64", side)
    draw.with_one_of, draw.rhythm = lambda point: point, lambda: ["moderate"]
    found = [point for point in itertools.islice(draw.drawn_points(), TRIED) if point.image_bar is not None]
    if not found:
        return []
    count = SCALARS if found[0].event.ndim == 0 else POINTS
    found.sort(key=lambda point: min(point.event.shape, default=3) < 2)
    return found[:count]


def taken(page, lines, text):
    """The events of a page at its points, with what else is given there."""
    found, number = [], 0
    for side in sides(page):
        for point in points_of(page, side):
            with np.errstate(all="ignore"):
                try:
                    events, last = of_point(page, lines, text, point, side)
                except (ArithmeticError, ValueError, LookupError):
                    continue
            for one in events:
                one.point, one.side = number, side
                one.given["doubtful"] = last
            found += events
            number += 1
    return found


def of_point(page, lines, text, point, side):
    book, methods = page.textbook, METHODS[page.kind, side]
    fields, event = fields_of(point.f), point.event[()]
    given = Given(page, text, point, fields)
    events, last = [], {}

    def run(name, *more):
        asked = "slope" if name == "jacobian" and hasattr(book, "slope") else name
        result, own, names = lines.traced(getattr(book, asked), event, *fields.values(), *more)
        last.update(names)
        roles = given.roles(asked, result, more)
        for one in own:
            if one.function == asked and one.returned:
                one.returned = roles
            one.given |= given.layers(event)
        events.extend(own)

    for name in methods.values:
        run(name)
    bars = methods.bars(point)
    if point.image_bar is not None:
        if page.kind == "scale":
            run(methods.vjp, 0 * bars[0], 1 + 0 * bars[1])
        run(methods.vjp, *bars)
    given.complete(side, event)
    met, known = {one.function for one in events}, given.for_others(event, point.image_bar)
    for function, asks in lines.others(met):
        if asks <= known.keys():
            try:
                _, own, _ = lines.traced(function, **{name: known[name] for name in asks})
            except (ArithmeticError, ValueError, LookupError):
                continue                                    # an argument of this name is another thing there
            for one in own:
                one.given |= given.layers(event) | {"results": {name: known[name] for name in asks}}
            events += own
    return events, last


class Given:
    """What the textbook's functions give at a point, under the letters that the page prints."""

    def __init__(self, page, text, point, fields):
        self.page, self.text = page, text
        self.fields = fields | {letter: fields[name] for letter, name in text.letters.items()}
        self.from_1 = {name: held + 1 for name, held in fields.items() if str(getattr(page.declared[name], "set", "")) == "permutation"}
        self.dims = {key: size for key, size in point.f.dims.items()}
        self.dims |= {letter: size for letter, size in zip(getattr(point.f, "event_shape", None) or (), point.event.shape)
                      if str(letter).isalpha()}
        self.functions = {name: function for name, function in vars(page.textbook).items()
                          if isinstance(function, types.FunctionType) and name not in MAIN}
        self.names = {text.image if point.side == "inverse" else text.event: point.event[()]}
        if point.image_bar is not None and page.kind != "parametrisation":
            self.names |= {f"{text.event if point.side == 'inverse' else text.image}_bar": point.image_bar[()]}
        if getattr(point, "log_det_bar", None) is not None:
            self.names["l_bar"] = point.log_det_bar[()]

    def layers(self, event):
        return {"event": event, "results": self.names, "fields": self.fields, "dims": self.dims, "functions": self.functions,
                "from 1": self.from_1}

    def for_others(self, event, image_bar):
        """Arguments of functions that no method calls: noise `e`, `values` to begin from, tangents of an event and their cotangents."""
        pair = np.array([1.0, -0.5])
        more = {"e": event, "values": event, "y": event, "z": event, "z_bar": event}
        if is_numeric(image_bar) and np.ndim(event):
            more |= {"A_dot": np.multiply.outer(event, pair), "h_bar": image_bar[()],
                     "H_bar": np.multiply.outer(image_bar, pair[::-1])}
        return more | self.names | self.fields

    def roles(self, function, result, more):
        """What a main function returned, under its letters."""
        text, kind = self.text, self.page.kind
        image, event = text.image, text.event
        if function in ("slope", "jacobian"):
            found = {f"d{image}/d{event}": result}
            if f"d{image}/d{event}" not in text.lefts:
                found["J"] = result                         # else it may be another Jacobian
        elif function == "log_det":
            found = {f"log|d{image}/d{event}|": result, "log|J|": result}
        elif function == "inverse_log_det":
            found = {f"log|d{event}/d{image}|": result, "log|J^-1|": result}
        elif function == "log_prob":
            found = {"log_prob": result}
        elif function == "log":
            found = {"log sigma": result}
        elif function == "forward":
            found = {"sigma" if kind == "scale" else image: result}
        elif function == "inverse":
            found = {event: result}
        elif function == "fields":
            found = dict(result)
        elif kind == "scale" and more[0] == 0:
            found = {"dlog sigma/ds": result[0]}
        else:
            own = image if function == "inverse_vjp" else event
            bars = {name: bar for name, bar in result[1].items() if is_numeric(bar)}
            found = {f"{own}_bar": result[0]} | {f"{name}_bar": bar for name, bar in bars.items()}
            found |= {f"{letter}_bar": bars[name] for letter, name in text.letters.items() if name in bars}
        self.names |= {name: held for name, held in found.items() if name not in self.names}
        return found

    def complete(self, side, event):
        """The derivative and the log-det, which the reverse rule of the inverse map asks for; and the sizes K of x_K."""
        book, fields = self.page.textbook, {name: self.fields[name] for name in self.page.declared}
        if side == "inverse":
            try:
                z = book.inverse(event, **fields)
                for name in ("slope", "jacobian", "log_det"):
                    if hasattr(book, name):
                        self.roles(name, getattr(book, name)(z, **fields), ())
            except (ArithmeticError, ValueError, LookupError):
                pass
        for name in self.text.names:
            array, indices = self.names.get(name.letter), subscripts(name.below)
            if np.ndim(array) == len(indices) if is_numeric(array) else False:
                for index in indices:
                    if isinstance(index, Word) and index.text.isupper() and index.text not in self.fields:
                        size = min(size for one, size in zip(indices, np.shape(array)) if one == index)
                        size += first_of(name.letter, self.text.first) - 1
                        self.dims[index.text] = max(size, self.dims.get(index.text, 0))


# -- the comparison -------------------------------------------------------------------------------------------------------

def judged(text, events, units=None):
    """Compare each unit with the lines that cite it."""
    by_line, cited = {}, {"forward": set(), "inverse": set()}
    for event in events:
        by_line.setdefault(event.line, []).append(event)
        cited.setdefault((event.function,), set()).update(event.cites)
        cited[event.side].update(event.cites)
    units = text.units if units is None else units
    for unit in units:
        apart = text.apart(unit)
        known = {side: functools.cache(lambda function, side=side, other=other: text.definitions(
            unit.statement, cited[function,], cited[side], cited[other])) for side, other in (SIDES, SIDES[::-1])}
        for line, own in by_line.items():
            if set(unit.numbers) & set(own[0].cites):
                of_line(unit, own, known, apart, text.first)
    return units


def of_line(unit, events, known, apart, first):
    points = unit.found.setdefault(events[0].line, {})
    for point, at_point in itertools.groupby(events, key=lambda event: (event.side, event.point)):
        if any(one in (False, "value") for (side, _), one in points.items() if side == point[0]):
            continue                            # the line cannot agree at all points of this side
        outcomes = []
        for event in at_point:
            outcomes.append(outcome_of(unit, event, known[event.side](event.function), apart, first))
            if outcomes[-1] is True:
                break
        points[point] = next((one for one in (True, False) if one in outcomes), outcomes[-1])


def outcome_of(unit, event, definitions, apart, first):
    layers = (event.given["from 1"], event.before, event.assigned, event.given["fields"], event.given["results"], event.given["functions"],
              event.given["dims"])
    try:
        with np.errstate(all="ignore"):
            return compared(unit, event, Scope(layers, definitions, event.given["doubtful"], first), apart)
    except Unknown as unknown:
        unit.why = str(unknown)
        return unknown.reason


def compared(unit, event, scope, apart):
    """True, False or a reason: does a line's value of the left side agree with the right side?"""
    name, outcomes = unit.statement.name, []
    if name is None:
        return of_sides(unit, event.line, scope)
    rights = functools.cache(lambda *bound: right_of(unit, scope.changed(bound=dict(bound), record=Record())))
    for array, indices, own in candidates(name, unit.statement.parameters, event, scope):
        try:
            one = entries_agree(unit, array, indices, scope, rights, apart, event, own)
        except Unknown as unknown:
            one = unknown.reason
            unit.why = str(unknown)
        if one is True and (own or False not in outcomes):
            return True
        if own and isinstance(one, str):
            outcomes.insert(0, one)
        if own and one is False:
            unit.own.add((event.line, (event.side, event.point)))
        outcomes.append(one if own or isinstance(one, str) else "value")
    return False if False in outcomes else "value" if "value" in outcomes else outcomes[0] if outcomes else "value"


def candidates(name, parameters, event, scope):
    """(array, indices, whether it has the left side's own name): what a line may mean by the left side."""
    if parameters:
        if event.function == name.letter and "" in event.returned:
            yield np.asarray(event.returned[""], float), (), True
        return
    named = event.assigned | {key: held for key, held in event.returned.items() if key}
    for kept in range(len(name.below), -1, -1):
        indices = subscripts(name.below[kept:])
        for spelling in (*spelled(name, kept), *((name.letter,) if not kept else ())):
            if is_numeric(named.get(spelling)) and (np.ndim(named[spelling]) == len(indices) or not indices):
                yield np.asarray(named[spelling], float), indices, True
    for held in event.values:
        for kept in range(len(name.below), -1, -1):
            indices = subscripts(name.below[kept:])
            if np.ndim(held) == len(indices) or not indices:
                yield np.asarray(held, float), indices, False


def right_of(unit, scope):
    """(the value of a unit's right side, its record), None where another case holds, or the Unknown that it met."""
    try:
        case = unit.statement.case(scope)
        return case is unit.statement.cases[unit.case] and (value(case.rights[unit.right], scope), scope.record) or None
    except Unknown as unknown:
        return unknown


def entries_agree(unit, array, indices, scope, rights, apart, event, is_own):
    """Compare an array with the right side, entry by entry where the left side has indices."""
    first, records = first_of(unit.statement.name.letter, scope.first), []
    letters = dict.fromkeys(index.text for index in indices if isinstance(index, Word) and index.text.islower())
    ranges = {}
    for axis, index in enumerate(indices):
        if isinstance(index, Word) and index.text in letters:
            ranges[index.text] = min(ranges.get(index.text, 10**6), array.shape[axis])
        elif not isinstance(index, (Number, Word)):
            raise Unknown("index", "on the left")
    for at in itertools.product(*(range(first, size + first) for size in ranges.values())):
        inner = scope.binding(**dict(zip(ranges, at)))
        place = []
        for axis, index in enumerate(indices):
            last = array.shape[axis] - 1 + first
            place.append(inner.bound[index.text] if isinstance(index, Word) and index.text in ranges else
                         int(index.text) if isinstance(index, Number) else last)
        if any(matches(own, place, array.shape, first) for own in apart):
            continue
        found = rights(*inner.bound.items())
        if found is None:
            continue
        if isinstance(found, Unknown):
            raise found
        own, (right, record) = array[tuple(k - first for k in place)] if indices else array, found
        of_log = float(unit.statement.name.letter.startswith("log"))        # it is off by what its argument is off by, relatively
        if not near(own, right, max(record.largest, of_log)):
            if record.doubtful:
                raise Unknown("letter", "by a value from elsewhere")
            if is_own:
                unit.told.setdefault((event.line, event.point), (event.function, event.given["event"], own, right))
            return False
        records.append(record)
    if not records:
        raise Unknown("not called")
    unit.uses.setdefault(event.line, []).extend(one for record in records for one in record.used)
    return True


def matches(own, place, shape, first):
    """Is a place one at which an equation of its own stands?  A name with its subscripts, `z_0`, has no place."""
    def at(index, k, size):
        if isinstance(index, Number):
            return int(index.text) == k
        return isinstance(index, Word) and (index.text.islower() or k == size - 1 + first)

    return len(own) == len(place) and all(map(at, own, place, shape))


def near(own, right, largest):
    """Are two values equal up to rounding?"""
    if isinstance(right, Row):
        right = right.entries
    own = np.asarray(own, float)
    if isinstance(right, Identity):
        right = right.factor * np.eye(len(own)) if own.ndim == 2 else right.factor
    right = np.asarray(right, float)
    if own.shape != right.shape and own.size == right.size == 1:
        own, right = own.ravel(), right.ravel()
    if own.shape != right.shape and not (right.ndim == 0 and np.all(own == right)):
        raise Unknown("shape", f"{own.shape} and {right.shape}")
    if not (np.all(np.isfinite(own)) and np.all(np.isfinite(right))):
        raise Unknown("not finite")
    return bool(np.all(np.abs(own - right) <= NEAR * np.maximum(np.abs(own), np.abs(right)) + OF_TERMS * largest))


def of_sides(unit, line, scope):
    """An equation whose left side is not a letter: both sides by the names of the line."""
    case = unit.statement.case(scope)
    if case is not unit.statement.cases[unit.case]:
        raise Unknown("not called")
    left, right = value(unit.statement.left, scope), value(case.rights[unit.right], scope)
    left = left.entries if isinstance(left, Row) else left
    if not near(left, right, scope.record.largest):
        raise Unknown("value")
    unit.uses.setdefault(line, []).extend(scope.record.used)
    return True


def of_page(name, source=None):
    """The Text of a page, its units judged; `source` in the place of the module's text."""
    page = PAGES[name]
    text = Text(page, source)
    events = taken(page, Lines(page), text)
    mark_definitions(judged(text, events))
    return text, events


def mark_definitions(units):
    """What an executed statement used as a definition is executed, too."""
    for statement, scope, held in [use for unit in units for line, uses in unit.uses.items() if unit.agrees(line) for use in uses]:
        case = statement.case(scope)
        for unit in units:
            if unit.statement is statement and statement.cases[unit.case] is case and not unit.used:
                try:
                    unit.used = case.rights[unit.right] is case.rights[-1] or near(held, value(case.rights[unit.right], scope),
                                                                                   scope.record.largest)
                except Unknown:
                    pass


def told(name, text, unit):
    """One line on a statement that is contradicted."""
    number = unit.numbers[0] if unit.numbers else "?"
    (line, _), (function, event, own, right) = next(iter(unit.told.items()))
    return (f"{name} ({number}), printed `{printed(name, text, unit)}`: {right} at {text.event} = {event}; "
            f"`{function}`, line {line}, gives {own}")


def printed(name, text, unit):
    """A statement as its row prints it."""
    row = source_of(PAGES[name]).splitlines()[unit.statement.line - 1].strip()
    pieces = [piece for piece in re.split(r",?\s{2,}", re.sub(r"(\s*\(\d+\))+$", "", row)) if piece]
    place = [one for one in text.statements if one.line == unit.statement.line].index(unit.statement)
    return pieces[place] if place < len(pieces) else row


def counted(text):
    """{number: "executed", "contradicted" or a reason} of a page's equations; of several statements, what is least."""
    found = {}
    for n in text.numbers:
        states = [unit.state for unit in text.units if n in unit.numbers]
        left = [state for state in states if state != "executed"]
        found[n] = "prose" if not states else "contradicted" if "contradicted" in left else left[0] if left else "executed"
    return found


def listed():
    """{page: {reason: numbers}} of the equations that are known not to be executed."""
    return json.loads(LISTED.read_text())


def to_list(states):
    """{reason: numbers} of a page's equations that are not executed."""
    found = {}
    for n, state in states.items():
        if state != "executed":
            found.setdefault(state, []).append(n)
    return found


def unlisted(name, states):
    """One line for each equation whose state is not the one that is listed."""
    known = {n: reason for reason, numbers in listed().get(name, {}).items() for n in numbers}
    return [f"{name} ({n}) is {say(state)}, and is listed as {say(known.get(n, 'executed'))}"
            for n, state in states.items() if state != known.get(n, "executed")]


def say(state):
    return state if state in ("executed", "contradicted") else f"not executed: {state}, {REASONS[state]}"


def with_textbook():
    return sorted(name for name, page in PAGES.items() if page.textbook)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.equations", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="pages; without names, all that have a textbook")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--write", action="store_true", help="list what is not executed, if nothing is contradicted")
    chosen, found, lines = parser.parse_args(arguments), {}, []
    names = chosen.names or with_textbook()
    if unknown := [name for name in names if name not in with_textbook()]:
        parser.error(f"no page with a textbook is called {unknown[0]!r}")
    for name in names:
        text, _ = of_page(name)
        found[name] = counted(text)
        lines += [told(name, text, unit) for unit in text.units if unit.state == "contradicted"]
        lines += [] if chosen.write else unlisted(name, found[name])
    counts = Counter(state for states in found.values() for state in states.values())
    if chosen.write and not lines:
        pages = (listed() if LISTED.exists() else {}) | {name: to_list(states) for name, states in found.items()}
        rows = ",\n".join(f" {json.dumps(name)}: {json.dumps(pages[name])}" for name in with_textbook() if pages.get(name))
        written(LISTED, f"{{\n{rows}\n}}\n")
    if chosen.json:
        print(json.dumps({"counts": counts, "pages": found, "wrong": lines}, indent=1))
    else:
        print(*lines, *(f"{count:5} {state}" for state, count in counts.most_common()), sep="\n")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
