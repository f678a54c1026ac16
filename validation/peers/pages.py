"""The pages made from the records: table.md, constraints.md and findings.md."""

from __future__ import annotations

import json
from pathlib import Path

import mpmath

from refflow.maps.constrained.biject_to import biject_to
from refflow.maps.constrained.conventions import CONSTRAINTS
from refflow.oracle.asking.adapter import described

from .findings import FINDINGS, KINDS

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
ADAPTERS = HERE.parents[1] / "refflow" / "peers"
COLUMNS = ("forward", "log_det", "vjp", "inverse", "inverse_log_det", "inverse_vjp")
DTYPES = ("float32", "float64")
DIGITS = 50                                             # of the truth of a finding; 20 are shown


def library_names():
    """The libraries that have adapters."""
    return sorted(path.stem for path in ADAPTERS.glob("*.py") if path.stem != "__init__")


def records():
    """{library: record} of the libraries that are recorded."""
    paths = sorted(RECORDED.glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}


def write_pages():
    for name, text in pages().items():
        (HERE / name).write_text(text, encoding="utf-8")


def pages():
    held = records()
    return {"table.md": table(held), "constraints.md": constraints(held), "findings.md": findings(held)}


# -- the table --------------------------------------------------------------------------------------------------------

def table(held):
    """A row for each map and each library's map."""
    by_map = {}
    for library, record in held.items():
        for row in record["rows"]:
            key = row["map"], library, row["theirs"]
            by_map.setdefault(key, {}).setdefault((column(row["quantity"]), row["dtype"]), []).append(row)
    lines = ["# Maps of other libraries", "", TABLE, "", which(held), "",
             "| map | library | theirs | " + " | ".join(COLUMNS) + " |", "|" + " --- |" * (3 + len(COLUMNS))]
    for (name, library, theirs), cells in sorted(by_map.items()):
        shown = [" / ".join(cell(cells.get((quantity, dtype), [])) for dtype in DTYPES) for quantity in COLUMNS]
        lines.append(f"| {name} | {library} | `{short(theirs)}` | " + " | ".join(shown) + " |")
    return "\n".join(lines) + "\n"


def head(held):
    """A few rows for the README: the worst of all that a library has for the map."""
    lines = ["| log-det of | " + " | ".join(SHOWN) + " |", "|" + " --- |" * (1 + len(SHOWN))]
    for name, quantity in ROWS:
        rows = [[row for row in held[library]["rows"] if row["map"] == name and column(row["quantity"]) == quantity]
                for library in SHOWN]
        cells = (" / ".join(cell([row for row in some if row["dtype"] == dtype]) for dtype in DTYPES) for some in rows)
        inverse = "the inverse of " if quantity.startswith("inverse") else ""
        lines.append(f"| {inverse}{name} | " + " | ".join("-" if shown == "- / -" else shown for shown in cells) + " |")
    return "\n".join(lines) + "\n"


SHOWN = ("torch", "distrax", "flowjax", "bijx", "numpyro", "nflows", "zuko")
ROWS = (("Sigmoid", "log_det"), ("Tanh", "log_det"), ("RationalQuadraticSpline", "inverse_log_det"))

TABLE = """Made by `python -m validation.peers` from adapters in [refflow/peers](../../refflow/peers). A cell holds the
worst error in units of u·κ, float32 / float64. Other people's code may err by 16 units; at float64 points whose
truth is refflow's own method, refflow's own certified error is allowed on top. A number in bold is more than
that. It was met at the worst of some hundreds of points, which reach from subnormal to huge numbers:
[findings.md](findings.md) says what is a defect and what is not. "raised" is an exception, "shape" a wrong
shape, "-" was not asked. `vjp` is the worst of all gradients."""


def which(held):
    """The libraries that are in the table, and the others."""
    checked = [f"{library} {record['version']}" for library, record in held.items() if record["rows"]]
    others = [library for library in library_names() if not held.get(library, {}).get("rows")]
    note = f" Adapters that have not been run over all points: {', '.join(others)}." if others else ""
    return f"Checked: {', '.join(checked)}.{note}"


def column(quantity):
    name = quantity.removesuffix(" shape")
    return {"vjp": "vjp", "inverse_vjp": "inverse_vjp"}.get(name.split(".")[0], name)


def cell(rows):
    if not rows:
        return "-"
    worst = max(rows, key=lambda row: ("shown" in row, number(row["C"])))
    if "shown" not in worst:
        return f"{number(worst['C']):.2g}"
    if worst["quantity"].endswith(" shape"):
        return "**shape**"
    if worst["shown"].get("diagnosis", "").startswith("raised"):
        return "**raised**"
    return f"**{magnitude(number(worst['C']))}**"


def number(value):
    return float(value)                                 # "inf" is a string


def magnitude(C):
    return f"{C:.0e}".replace("e+0", "e").replace("e+", "e") if C < float("inf") else "inf"


def short(theirs):
    """The name without the modules of the library."""
    head, _, rest = theirs.partition(" ")
    inner = head.split("(")[0].rfind(".") + 1
    return (head[inner:] + (" " + rest if rest else "")).replace("|", "\\|")


# -- the constraints --------------------------------------------------------------------------------------------------

def constraints(held):
    """A row for each constraint of a library: the set, refflow's bijector, and how far the library's own is from it."""
    lines = ["# Constraints of other libraries", "", OF_CONSTRAINTS, "",
             "| set | library | its name | refflow's bijector | forward | log_det |", "|" + " --- |" * 6]
    rows = [(convention.kind, library, convention) for library, of in CONSTRAINTS.items() for convention in of]
    for kind, library, convention in sorted(rows, key=lambda row: (row[0] != "real", row[0])):
        f = example_of(convention, library)
        found = [row for row in held.get(library, {}).get("rows", []) if answers(row, convention, library)]
        cells = (" / ".join(cell([row for row in found if (row["quantity"], row["dtype"]) == (quantity, dtype)]) for dtype in DTYPES)
                 for quantity in ("forward", "log_det"))
        lines.append(f"| {SETS.get(kind, kind)} | {library} | `{convention.name}` | {described(f) if f else 'none: free entries'} | "
                     + " | ".join("-" if shown == "- / -" else shown for shown in cells) + " |")
    return "\n".join(lines) + "\n"


def example_of(convention, library):
    ends, like = convention.example()
    return biject_to(convention.name, like, library, ends)


def answers(row, convention, library):
    """Is a recorded row about the bijector of this constraint?  Of constraints with the same bijector, one is asked."""
    alike = [f"biject_to({other.name})" for other in CONSTRAINTS[library]
             if (other.kind, other.stages) == (convention.kind, convention.stages)]
    return short(row["theirs"]) in alike or convention.stages == (row["map"],)


SETS = {"real": "all numbers", "above": "numbers above an end", "below": "numbers below an end", "unit": "(0, 1)",
        "circle": "(-pi, pi)"}
OF_CONSTRAINTS = """Made by `python -m validation.peers` from [conventions.py](../../refflow/maps/constrained/conventions.py).
`biject_to(name, like, library)` is the bijector of a row: its free numbers, its image and its log-det are the library's. The first
row of a set and a library is the library's default, `biject_to(set, like, library)`. A cell holds the library's worst error in units
of u·κ, float32 / float64, as in [table.md](table.md); a number in bold is more than is allowed, "-" was not asked. Stan's bijectors are
held to the formulas of its manual by tests/test_conventions.py. The names of TFP are distributions, whose default bijectors these are.
Left out are constraints without a bijector from free numbers of the same count, as the sphere's."""


# -- the findings -----------------------------------------------------------------------------------------------------

def findings(held):
    """A section for each finding of a library that is recorded, in the order of kinds."""
    lines = ["# Findings", "", INTRODUCTION]
    for kind, heading in KINDS.items():
        chosen = [f for f in FINDINGS if f.kind == kind and is_run(f, held)]
        lines += ["", f"## {heading}"] if chosen else []
        for finding in chosen:
            lines += ["", *section(finding, held[finding.library])]
    return "\n".join(lines) + "\n"


INTRODUCTION = """Every reproduction needs only the library that it names; `python -m validation.peers` ran it, with the version
that stands beside it. `true` is the equation's value, computed by mpmath with 50 digits from the equation
itself, not by refflow. An error is relative to it, or absolute where it is 0. A documented choice is not a
defect, nor is a loss that the rounding of the input explains."""


def is_run(finding, held):
    """Has its reproduction been run?"""
    return finding.name in held.get(finding.library, {}).get("reproductions", {})


def section(finding, record):
    given = record["reproductions"][finding.name]
    rows = [["given", "true", "error"], ["---"] * 3]
    rows += [[a, decimal(b), apart(a, b)] for a, b in zip(given, truths(finding), strict=True)]
    return [f"### {finding.library} {record['version']}: {finding.name}", "", finding.text.strip(), "",
            f"Equation: `{finding.equation}`.", "", "```python", finding.code.strip(), "```", "",
            *("| " + " | ".join(row) + " |" for row in rows)]


def truths(finding):
    """The true values, with 50 digits; they do not change if there are 100."""
    with mpmath.workdps(2 * DIGITS):
        more = [mpmath.mpf(v) for v in finding.true(mpmath)]
    with mpmath.workdps(DIGITS):
        values = [mpmath.mpf(v) for v in finding.true(mpmath)]
        for value, better in zip(values, more):
            if abs(value - better) > mpmath.mpf(10) ** (-DIGITS // 2) * abs(better):
                raise ValueError(f"{finding.library}, {finding.name}: {DIGITS} digits are not enough")
        return more


def decimal(value):
    return mpmath.nstr(value, 20, strip_zeros=True)


def apart(given, true):
    """The relative error; the text itself where no number was given."""
    try:
        number = mpmath.mpf(given.strip())
    except ValueError:
        return "-"
    if not mpmath.isfinite(number):
        return "no number" if mpmath.isnan(number) else "infinite"
    with mpmath.workdps(DIGITS):
        error = abs(number - true) / abs(true) if true else abs(number)
        return mpmath.nstr(error * (1 + mpmath.mpf(10) ** -9), 1)       # up from a tie, which releases of mpmath round either way
