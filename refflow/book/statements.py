"""The statements of a display: `left = right`, with the conditions under which it holds.

    x = z                            for d <= 0      two cases of one statement
      = sign(z) (t + log(1 + d))     for d >  0
    z_k = log d_k,   d_k = x_k - x_(k-1)             two statements
    x = (z^c - 1)/c,   log z  for c = 0              two cases: the first holds where the second does not
    dx/dz = g = sum_k u_k                            two right sides, each of which is the left

A row without a number belongs to the next number below it in its display, or else to the last above.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass, field

from .docstring import Display, Paragraph
from .algebra import Unknown
from .evaluate import holds
from .letters import Name, commas, name_of
from .notation import Apply, Call, Code, Dots, Gap, NotationError, Punctuation, Reference, Relation, Sum, Text, Word, parse

EQUALS = ("=", ":=", "==")
CONDITIONS = ("for", "if", "where", "when")
OTHERWISE = ("else", "elsewhere", "otherwise")


@dataclass(frozen=True)
class Case:
    """Right sides that are equal, and the relations under which they hold; None is what is left by the other cases."""
    rights: tuple
    conditions: tuple = ()              # of items, or of words where it is not a relation
    otherwise: bool = False
    numbers: tuple = ()


@dataclass(eq=False)
class Statement:
    """One left side with its cases, the numbers of its equation and the line at which its row begins."""
    left: object
    cases: list
    numbers: tuple
    line: int
    order: int = 0
    in_prose: bool = False
    name: Name | None = field(init=False)
    parameters: tuple = field(init=False)

    def __post_init__(self):
        called = isinstance(self.left, (Call, Apply)) and name_of(self.left) is None
        self.name = name_of(self.left.function if called else self.left)
        arguments = list(arguments_of(self.left)) if called else []
        self.parameters = tuple(one.text for one in arguments if isinstance(one, Word))
        if len(self.parameters) != len(arguments) or getattr(self.left, "above", None) is not None:
            self.name = None                # `Q^T = 2 M^T - I` says nothing of the letter `Q`

    @functools.cached_property
    def sides(self):
        return tuple(right for case in self.cases for right in case.rights)

    def case(self, scope):
        """The case that holds, or None where no case does."""
        left_over = None
        for case in self.cases:
            if case.otherwise or not case.conditions:
                left_over = case
            elif all(true(condition, scope) for condition in case.conditions):
                return case
        return left_over

    def chosen(self, scope):
        """The last right side that holds, the one that is worked out most."""
        case = self.case(scope)
        return case and case.rights[-1]


def arguments_of(call):
    if isinstance(call, Apply):
        return [call.argument]
    try:
        return list(commas(call.arguments.items))
    except Unknown:
        return [None]


def true(condition, scope):
    """Does a condition hold?  A range `k = 2, ..., K` has three members."""
    if any(isinstance(item, (Text, Code, Reference)) for item in condition):
        raise Unknown("words", "a condition")
    if any(isinstance(item, Dots) for item in condition):
        index, _, first, _, last = condition
        return holds((first, Relation("<="), index), scope) and holds((index, Relation("<="), last), scope)
    return holds(condition, scope)


def of_document(blocks, names):
    """All statements of a docstring's blocks, displayed or in backticks, in their order."""
    found = []
    for block in blocks:
        made = of_display(block.rows) if isinstance(block, Display) else of_prose(block, names) if isinstance(block, Paragraph) else []
        for one in made:
            one.order = len(found)
            found.append(one)
    return found


def of_display(rows):
    found, numbers = [], [()] * len(rows)
    for i, row in reversed(list(enumerate(rows))):
        numbers[i] = row.numbers or (numbers[i + 1] if i + 1 < len(rows) else ())
    for row, own in zip(rows, numbers):
        read(row.items, found, own or (found[-1].numbers if found else ()), row.line)
    return found


def of_prose(block, names):
    """The equations that stand in backticks in a paragraph."""
    found = []
    for text in re.findall(r"`([^`]*)`", block.text):
        try:
            items = parse(text, names)
        except NotationError:
            continue
        if any(isinstance(item, Relation) and item.sign in EQUALS for item in items):
            read(items, found, block.numbers, block.line)
            found[-1:] = found[-1:]
    for one in found:
        one.in_prose = True
    return found


def read(items, found, numbers, line):
    """Add the statements of one row, or what it adds to the last one."""
    for piece in pieces(items):
        at = next((i for i, item in enumerate(piece) if isinstance(item, (Text, Code, Reference))), len(piece))
        head, tail = piece[:at], piece[at:]
        signs = [i for i, item in enumerate(head) if isinstance(item, Relation)]
        if any(isinstance(item, Dots) for item in head) and len(head) == 5:
            condition(found, tuple(head))
        elif signs and head[signs[0]].sign in EQUALS and signs[0] <= 1:
            assign(found, head, signs, numbers, line)
        elif signs:
            condition(found, tuple(head))
        elif len(head) == 1 and found and isinstance(head[0], Sum) and head[0].terms[0][0]:
            more(found, head[0])
        elif len(head) == 1 and found and tail and word_of(tail[0]) in (*CONDITIONS, *OTHERWISE):
            found[-1].cases.append(Case((head[0],)))
        remark(found, tail)


def pieces(items):
    """What commas, semicolons and gaps separate; a range with dots is one."""
    run, found = [], []
    for item in (*items, Gap()):
        if isinstance(item, Gap) or isinstance(item, Punctuation):
            if run:
                found.append(run)
            run = []
        else:
            run.append(item)
    at = 1
    while at < len(found) - 1:
        if len(found[at]) == 1 and isinstance(found[at][0], Dots) and found[at - 1][-2:-1] == [Relation("=")] and len(found[at + 1]) == 1:
            found[at - 1:at + 2] = [[*found[at - 1], found[at][0], *found[at + 1]]]
        at += 1
    return found


def assign(found, head, signs, numbers, line):
    stops = [i for i in signs if head[i].sign not in EQUALS][:1] or [len(head)]
    sides = [head[a + 1:b] for a, b in zip(signs, [*signs[1:], len(head)]) if a < stops[0]]
    if any(len(side) != 1 for side in sides):
        found.append(Statement(Text("several"), [Case((Text("several"),))], numbers, line))
        return
    rights = tuple(side[0] for side in sides)
    if signs[0] == 1 and found and found[-1].left == head[0] and found[-1].cases[-1].conditions:
        found[-1].cases.append(Case(rights))
    elif signs[0] == 1:
        found.append(Statement(head[0], [Case(rights)], numbers, line))
    elif found and (found[-1].cases[-1].conditions or found[-1].cases[-1].otherwise):
        found[-1].cases.append(Case(rights))
        found[-1].numbers += tuple(n for n in numbers if n not in found[-1].numbers)
    elif found:
        last = found[-1].cases[-1]
        found[-1].cases[-1] = Case(last.rights + rights, last.conditions, last.otherwise)


def more(found, terms):
    """A row that begins with + or - goes on with the sum above it."""
    last = found[-1].cases[-1]
    above = last.rights[-1]
    joined = Sum((*(above.terms if isinstance(above, Sum) else (("", above),)), *terms.terms))
    found[-1].cases[-1] = Case((*last.rights[:-1], joined), last.conditions, last.otherwise)


def condition(found, items):
    if found:
        last = found[-1].cases[-1]
        found[-1].cases[-1] = Case(last.rights, (*last.conditions, items), last.otherwise)


def word_of(item):
    return item.text.split()[0] if isinstance(item, Text) else ""


def remark(found, tail):
    """What words say behind a statement: a condition, the rest of the cases, or nothing that is a number."""
    if not tail or not found:
        return
    word = word_of(tail[0])
    if word in OTHERWISE:
        last = found[-1].cases[-1]
        if len(tail) == 2 and not isinstance(tail[1], Text):
            found[-1].cases.append(Case((tail[1],), (), True))
        elif not last.conditions:
            found[-1].cases[-1] = Case(last.rights, (), True)
    elif word == "or":
        condition(found, (tail[0],))
    elif word in CONDITIONS:
        joined = split_at_words(tail[1:]) if tail[0].text == word else [tail]
        for items in joined:
            condition(found, tuple(items))


def split_at_words(items):
    """Relations that "and" joins; other words make the whole a condition in words."""
    found = [[]]
    for item in items:
        if isinstance(item, Text) and item.text == "and":
            found.append([])
        else:
            found[-1].append(item)
    if not all(any(isinstance(item, Relation) for item in run) for run in found):
        return [[Text("words")]]
    return found
