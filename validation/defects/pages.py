"""The table of defects, made from the records."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import mpmath

from validation.peers.pages import DIGITS, apart

from .entry import DEFECTS, SHIPPED
from .environments import LIBRARIES

HERE = Path(__file__).parent
RECORDED = HERE / "recorded"
TABLE = HERE / "table.md"
LIMIT = 20                              # seconds of a check
SCHEMA = "refflow/defects/1"


def digest(defect):
    """Of what a record answers: the library, the reproduction, and the check."""
    parts = defect.library, defect.version, defect.code, defect.check, *LIBRARIES[defect.library][2]
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def held(library):
    """{name: record} of a library."""
    path = RECORDED / f"{library}.json"
    return json.loads(path.read_text(encoding="utf-8"))["defects"] if path.is_file() else {}


def record_of(defect):
    """The record of a defect; None if there is none, or it is of another text."""
    record = held(defect.library).get(defect.name)
    return record if record and record["digest"] == digest(defect) else None


def truths(defect):
    with mpmath.workdps(DIGITS):
        return [mpmath.mpf(value) for value in defect.true(mpmath)]


def verdict(defect, record):
    """"found", "found as something else", "not found", "not run" or "too long"."""
    if record is None or record.get("error"):
        return "not run"
    failed = {one["what"] for one in record["findings"]}
    if failed & set(defect.says):
        return "found" if record["seconds"] <= LIMIT else "too long"
    return "found as something else" if failed else "not found"


def rows():
    """(defect, record, verdict) of all, by library."""
    known = [(one, record_of(one)) for one in sorted(DEFECTS, key=lambda one: one.library)]
    return [(one, record, verdict(one, record)) for one, record in known]


def counts(of):
    """{verdict: how many}."""
    kinds = [kind for _, _, kind in of]
    return {kind: kinds.count(kind) for kind in dict.fromkeys(kinds)}


def reproduced(defect, record):
    """Does a reproduction print something other than the truth?"""
    given, true = record["printed"], truths(defect)
    if len(given) != len(true):
        return True                     # it raised
    off = [apart(a, b) for a, b in zip(given, true)]
    return not all(text[0].isdigit() and float(text) < 1e-14 for text in off)


def table():
    of = rows()
    libraries = {one.library for one, _, _ in of}
    ports = sum(bool(one.port) for one, _, _ in of)
    shown = ", ".join(f"{count} {kind}" for kind, count in counts(of).items())
    lines = ["# Defects of other libraries, and what `refflow check` says of them", "",
             f"{len(of)} defects of {len(libraries)} libraries: {shown}.", "", TEXT.format(ports=ports or "None"), "",
             "| library | defect | source | given | true | check | what it says | seconds |", "|" + " --- |" * 8]
    lines += [row(*one) for one in of]
    lines += ["", "## Not found for what they are", ""]
    lines += [f"- **{one.library} {one.version}, {one.name}**: {kind}. {why(one, record)}"
              for one, record, kind in of if kind != "found"]
    return "\n".join(lines) + "\n"


TEXT = """Made by `python -m validation.defects`, which installs each library in the version that has the defect. `given` is what
the library answers where the defect shows, `true` what the equation gives with 50 digits. The check is a shipped adapter of
refflow, an adapter or a box of a few lines; all parameters of the check are the default. A defect counts as found if the law
or the quantity that it breaks fails within 20 seconds, and as "found as something else" if other laws alone fail. A port is the
formula of code that cannot be imported here. {ports} of the defects are ports. Reproductions and boxes stand in
`validation/defects/of_*.py`."""


def row(defect, record, kind):
    version = f"{defect.library} {defect.version}" + (f" (port of {defect.port})" if defect.port else "")
    given, true = worst(defect, record) if record else ("-", "-")
    how = "shipped" if defect.check.startswith(SHIPPED) else "adapter" if "@adapter" in defect.check else "box"
    seconds = f"{record['seconds']:.0f}" if record else "-"
    cells = version, defect.name, defect.source, given, true, how, cell(said(defect, record, kind)), seconds
    return "| " + " | ".join(cells) + " |"


def worst(defect, record):
    """The first line that is off: what is given, and what is true."""
    given, true = record["printed"], truths(defect)
    pairs = list(zip(given, true)) or [("nothing", true[0])]
    off = next(((a, b) for a, b in pairs if not (text := apart(a, b))[0].isdigit() or float(text) > 1e-14), pairs[0])
    return cell(off[0])[:60], mpmath.nstr(off[1], 12)


def said(defect, record, kind):
    """The verdict, the law that fails, and the diagnosis."""
    if record is None:
        return "-"
    chosen = [one for one in record["findings"] if one["what"] in defect.says] or record["findings"]
    if not chosen:
        return kind
    first = max(chosen, key=lambda one: bool(one["diagnosis"]))
    return f"{kind}: {first['what']}" + (f" - {first['diagnosis']}" if first["diagnosis"] else "")


def why(defect, record):
    error = record["error"] + ". " if record and record.get("error") else ""
    return error + defect.missed or "The reason is not known."


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def write():
    TABLE.write_text(table(), encoding="utf-8")
