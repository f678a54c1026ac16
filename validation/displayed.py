"""The displayed equations of the book's chapters, executed where a line of the chapter cites them, and misprints planted in them.

    python -m validation.displayed [NAME...]     tells, by chapter: equations, executed, misprints, alive; and what is wrong
    --write                                      keeps this in displayed.json

A chapter runs as the book runs it.  An equation is executed, and a misprint lives, as in `equations` and `misprints`, with the lines of
the chapter in the place of a textbook's.  Exit status 1 if an equation is contradicted, or something is not as it is kept.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
from pathlib import Path

import numpy as np

from refflow.book.chapter import chapters
from refflow.book.docstring import Display, Paragraph
from refflow.book.evaluate import is_numeric
from refflow.book.functions import OF_ARRAYS, OF_NUMBERS
from refflow.book.letters import names_in
from refflow.book.running import run
from refflow.book.statements import of_document

from . import equations, misprints
from .equations import CITED, Unit, counted, first_indices, judged, mark_definitions, numbers_of
from .points.recorded import written

RECORD = Path(__file__).with_suffix(".json")
COLUMNS = ("chapter", "equations", "executed", "misprints", "alive")


class Text(equations.Text):
    """What a chapter displays: its statements, in their order."""

    def __init__(self, chapter):
        blocks = [part for part in chapter.parts if isinstance(part, (Display, Paragraph))]
        self.statements, self.rivals, self.firsts = of_document(blocks, chapter.names), [], {}
        self.numbers = sorted({n for block in blocks for n in numbers_of(block)})
        self.units = [Unit(one, i, j, case.numbers or one.numbers) for one in self.statements if not one.in_prose
                      for i, case in enumerate(one.cases) for j, _ in enumerate(case.rights)]
        self.first = first_indices(self.statements, {name for one in self.statements for name in names_in((one.left, *one.sides))})
        for one in self.statements:
            if one.name and (one.name.letter in (*OF_ARRAYS, *OF_NUMBERS) or one.name.letter.startswith("log|")):
                one.name = None                     # it says what a function gives, and defines none: both sides are computed

    def apart(self, unit):
        """None: `z_1` and `z_2` are names of their own in a chapter."""
        return set()


class From0(dict):
    """First indices of arrays that a chapter indexes as Python does."""

    def get(self, letter, default=None):
        return 0


class Lines(equations.Lines):
    """The simple statements of a chapter's blocks that cite equations; answers of exercises are left out."""

    def __init__(self, chapter):
        self.file, self.by_line, self.codes = chapter.file, {}, self
        for block in chapter.blocks:
            rows = [""] * (block.line - 1) + block.text.splitlines()
            for node in ast.walk(ast.parse("\n".join(rows))) if block.kind == "python" else ():
                if isinstance(node, ast.stmt) and not hasattr(node, "body"):
                    cites = tuple(int(n) for row in rows[node.lineno - 1:node.end_lineno] if (found := CITED.search(row))
                                  for n in re.findall(r"\d+", found[1]))
                    self.by_line.update(dict.fromkeys(range(node.lineno, node.end_lineno + 1), (node, cites)))

    def get(self, code):
        """The lines of some code that cite equations; None for code that is not the chapter's own."""
        if code.co_filename != self.file or code.co_name.startswith("<") and code.co_name != "<module>":
            return None
        return {line for *_, line in code.co_lines() if self.by_line.get(line, (None, ()))[1]}


def of_chapter(chapter):
    """The Text of a chapter and its events, its units judged."""
    text, lines, running, events = Text(chapter), Lines(chapter), run(chapter), []
    while True:
        made, found, _ = lines.traced(next, running, None)
        if made is None:
            break
        namespace = made[-1]
        numbers = {name: held for name, held in namespace.items() if is_numeric(held)}
        functions = {name: held for name, held in namespace.items() if callable(held)}
        for event in found:
            event.point = len(events)
            event.given = dict.fromkeys(("fields", "dims", "from 1"), {}) | {"event": event.line, "functions": functions, "doubtful": numbers}
            event.given["results"] = volumes(numbers | event.before | event.assigned)
            events.append(event)
    units = judged(text, events)
    again = [Unit(one.statement, one.case, one.right, one.numbers) for one in units]
    first, text.first = text.first, From0()
    for i, one in enumerate(judged(text, events, again)):
        better = units[i].state != "executed" == one.state
        text.units[i], text.firsts[one if better else units[i]] = (one, From0()) if better else (units[i], first)
    mark_definitions(text.units)
    return text, events


def volumes(names):
    """{"log|J|": log|det J|} of the square matrices."""
    matrices = {name: np.asarray(held) for name, held in names.items() if is_numeric(held) and np.ndim(held) == 2}
    return {f"log|{name}|": np.linalg.slogdet(held)[1] for name, held in matrices.items() if len(set(held.shape)) == 1}


def planted(text, events):
    """{"misprints": how many are planted, "alive": those with which the equation is executed} in what a chapter displays."""
    made, alive = 0, []
    for unit in [one for one in text.units if one.state == "executed" and one.numbers]:
        right = unit.statement.cases[unit.case].rights[unit.right]
        alone, text.first = any(map(unit.agrees, unit.found)), text.firsts[unit]
        for what, wrong in misprints.misprints(right, misprints.others_of(right)):
            made += 1
            alive += [f"({unit.numbers[0]}) {what}"] if misprints.lives(text, events, unit, wrong, alone) else []
    return {"misprints": made, "alive": alive}


def result(chapter):
    """What is kept of a chapter: its equations that are not executed, with reasons, and its misprints."""
    text, events = of_chapter(chapter)
    states = counted(text)
    return {"equations": len(states), "not executed": {str(n): state for n, state in states.items() if state != "executed"},
            **planted(text, events)}


def kept():
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def table(found):
    """The lines of the table, with a line for all chapters."""
    rows = [(name, one["equations"], one["equations"] - len(one["not executed"]), one["misprints"], len(one["alive"]))
            for name, one in found.items()]
    rows.append(("all", *(sum(column) for column in list(zip(*rows))[1:])))
    return [f"{name:28}" + "".join(f"{count!s:>11}" for count in counts) for name, *counts in (COLUMNS, *rows)]


def wrong(name, one):
    """What is contradicted in a chapter, and what is not as it is kept."""
    lines = [f"{name} ({n}) is contradicted" for n, state in one["not executed"].items() if state == "contradicted"]
    return lines + ([] if kept().get(name) == one else [f"{name} is not as it is kept: python -m validation.displayed --write"])


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.displayed", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="the beginnings of files, as 04; all if none is named")
    parser.add_argument("--write", action="store_true", help="keep what is found")
    options = parser.parse_args(arguments)
    found = {name: result(chapter) for name, chapter in chapters().items() if name.startswith(tuple(options.names or [""]))}
    if options.write:
        written(RECORD, json.dumps(dict(sorted((kept() | found).items())), indent=1) + "\n")
    lines = [line for name, one in found.items() for line in wrong(name, one)]
    details = [f"{name} ({n}): {reason}" for name, one in found.items() for n, reason in one["not executed"].items()]
    details += [f"{name} {what} lives" for name, one in found.items() for what in one["alive"]]
    print(*table(found), *details, *lines, sep="\n")
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
