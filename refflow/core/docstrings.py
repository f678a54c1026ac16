"""The text of a module: its docstring, and its third part, which may stand further down.

The docstring of a page states the map and the reverse rule.  The third part says how digits are kept in floating point.  It is a
string of its own, above the class that it is about.  Whoever reads the text finds it before "Source:", the end of the docstring.
"""

from __future__ import annotations

import ast
import functools
import inspect
import re
import sys

SOURCE = "Source: "
FIRST_PART = re.compile(r"^The map\.  .*?(?=^The reverse rule\.  |\Z)", re.M | re.S)


def joined_text(source):
    """The docstring of a module, with the third part in its place; "" if there is none."""
    docstring, third = strings(source)
    if third:
        return "\n".join(line for line, _ in written(source)) + "\n"
    return docstring.value if docstring else ""


def written(source):
    """[(line, its number in the module)] of the same text."""
    above, third = map(lines_of, strings(source))
    if not third:
        return above
    at = next((i for i, (line, _) in enumerate(above) if line.startswith(SOURCE)), len(above))
    ending = [("", third[-1][1] + 1), *above[at:]] if above[at:] else []
    beginning = above[:at] if not above[at - 1][0] else [*above[:at], ("", third[0][1])]
    return [*beginning, *third, *ending]


def with_the_map(page):
    """The docstring of a page with the first part of its module's."""
    found = FIRST_PART.search(sys.modules[page.__module__].__doc__ or "") if page.__doc__ else None
    if found is None:
        return page.__doc__
    rest = f"\n\n`refflow show {page.__name__}` has the rest." if page.__module__.startswith("refflow.") else ""
    return f"{inspect.cleandoc(page.__doc__)}\n\n{found[0].rstrip()}{rest}"


def third_part(source):
    """[(line, its number in the module)] of the string that stands alone below the docstring; [] if there is none."""
    return lines_of(strings(source)[1])


@functools.cache
def strings(source):
    """(the docstring of a module, the first string that stands alone below it), as nodes, None where there is none."""
    first, *others = ast.parse(source).body or [None]
    third = next(filter(is_string, others), None)
    return first.value if is_string(first) else None, third and third.value


def is_string(statement):
    """Is the statement a string alone?"""
    return isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) and isinstance(statement.value.value, str)


def lines_of(held):
    return [(line, held.lineno + i) for i, line in enumerate(held.value.splitlines())] if held else []
