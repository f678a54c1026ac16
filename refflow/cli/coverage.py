"""refflow coverage [LIBRARY]: the maps of a library, what answers for each here, and how far the library's own is from it.

Exit status: 0; 2 if it could not run.
"""

from __future__ import annotations

import refflow.coverage as coverage
from ..oracle.points.pages import CannotRun
from ..report import aligned, json_text

HEAD = ("theirs", "map", "answer", "asked as", "float32", "float64")
COUNTS = ("library", "version", "maps", "answered", "asked", "absent", "missing", "outside")


def add_command(commands):
    one = commands.add_parser("coverage", help="the maps of other libraries, and what answers for each", description=(
        "Without LIBRARY: how many maps each library has, and how many of them have an answer here.  With it: for each of its maps "
        "the code that makes it, the adapters that ask the library's own, and their worst errors in units of rounding; then the "
        "maps without an answer, with the reason.  Absent is what the library's release does not have.  The letters in "
        "the code have values in refflow.coverage.letters."))
    one.add_argument("library", metavar="LIBRARY", nargs="?", help="a library, as torch or nflows")
    one.add_argument("--json", action="store_true", help="one object for each row")
    one.set_defaults(run=run)


def run(options):
    if options.library is None:
        found = [counts(library) for library in coverage.libraries()]
        print(json_text(found) if options.json else aligned([COUNTS, *([str(one[key]) for key in COUNTS] for one in found)]))
        return 0
    library = options.library.lower()
    if library not in coverage.libraries():
        raise CannotRun(f"coverage: no library {options.library!r}; there are {', '.join(coverage.libraries())}")
    found = [facts(row, library) for row in coverage.rows_of(library)]
    print(json_text(found) if options.json else text(found, library))
    return 0


def counts(library):
    rows = coverage.rows_of(library)
    states = [row.state for row in rows]
    version = coverage.held("asked.json").get(library, {}).get("version", "-")
    return {"library": library, "version": version, "maps": len(rows), "answered": states.count("answered"),
            "asked": sum(bool(coverage.asked(row, library)) for row in rows),
            "absent": sum(bool(coverage.absent(row, library)) for row in rows if row.answer), "missing": states.count("missing"),
            "outside": states.count("outside")}


def facts(row, library):
    return {"theirs": row.theirs[library], "map": row.map, "equation": row.equation, "state": row.state,
            "answer": row.answer or None, "reason": row.missing or row.outside or None, "remark": row.remark or None,
            "absent": coverage.absent(row, library), "asked": coverage.asked(row, library)}


def text(found, library):
    """The answers in a table, then what has none."""
    lines = [aligned([HEAD, *(line for one in found if one["answer"] for line in lines_of(one))])]
    for state, title in (("missing", "Missing:"), ("outside", "Outside the contract:")):
        some = [(one["theirs"], one["map"], one["reason"]) for one in found if one["state"] == state]
        if some:
            lines += ["", title, aligned(some)]
    if library in coverage.NOT_HERE:
        lines += ["", f"{coverage.NOT_HERE[library]} has no adapters: none of its maps has been asked."]
    return "\n".join(lines)


def lines_of(one):
    """A line for each adapter, the first with the map."""
    first = one["theirs"], one["map"], one["answer"]
    adapters = [(theirs, errors.get("float32", "-"), errors.get("float64", "-")) for theirs, errors in one["asked"].items()]
    rows = adapters or [(one["absent"] or "not asked", "-", "-")]
    return [(*(first if k == 0 else ("", "", "")), *row) for k, row in enumerate(rows)]
