"""refflow finding [NAME]: what was found in other libraries, as a text that their maintainers can be sent.

Exit status: 0; 2 for a name that none or several findings have.
"""

from __future__ import annotations

import refflow.coverage as coverage
from ..oracle.points.pages import CannotRun
from ..report import aligned, json_text


def add_command(commands):
    one = commands.add_parser("finding", help="what was found in other libraries, as the text of an issue", description=(
        "Without NAME: the findings, a line for each.  NAME is a part of a finding's name, or of its library and name, in any case."))
    one.add_argument("name", metavar="NAME", nargs="?", help="as 'nflows: Tanh'")
    one.add_argument("--json", action="store_true", help="one object for each finding")
    one.set_defaults(run=run)


def run(options):
    found = chosen(options.name)
    if options.json:
        print(json_text(found))
    elif options.name is None:
        print(aligned([("library", "version", "kind", "finding"), *map(line, found)]))
    else:
        print(issue(*found))
    return 0


def line(one):
    return one["library"], one["version"], coverage.KINDS[one["kind"]], one["name"]


def chosen(name):
    """All findings, or the one of this name."""
    every = coverage.held("findings.json")
    if name is None:
        return every
    wanted = name.casefold()
    titles = [f"{one['library']}: {one['name']}".casefold() for one in every]
    found = [one for one, title in zip(every, titles) if title == wanted] or \
        [one for one, title in zip(every, titles) if wanted in title]
    if len(found) == 1:
        return found
    if not found:
        raise CannotRun(f"finding: none has {name!r} in its name; `refflow finding` lists them")
    raise CannotRun(f"finding: {len(found)} have {name!r} in their names: " + "; ".join(f"{one['library']}: {one['name']}" for one in found))


def issue(one):
    """A title, what happens, a reproduction, what it prints beside the truth, the equation, and what would be right."""
    rows = [("printed", "true"), *zip(one["printed"], one["true"])]
    lines = [f"# {one['name']}", "", one["text"], "", f"With {one['library']} {one['version']},", "", "```python", one["code"], "```", "",
             "prints", "", *(f"| {a} | {b} |" for a, b in (rows[0], ("---", "---"), *rows[1:])), "",
             f"The true values follow from `{one['equation']}`, computed with 50 digits by mpmath."]
    if one["remedy"]:
        lines += ["", f"Suggestion: {one['remedy']}"]
    return "\n".join(lines)
