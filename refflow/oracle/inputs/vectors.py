"""Golden vectors as files, for code that cannot be called: exact questions, their truth, and the allowance of every number.

    export("vectors")           manifest.json, vectors.schema.json, and a file for each page
    verify("vectors")           what in such a directory is not as its manifest says

    allowance = allowed max(u kappa, s)                                                 (1)

u is the unit roundoff of the format, s its smallest number.  A quantity with `tangents` F is compared along them alone: what may
be off by (1), with |F|^T kappa, is F^T (answer - true), row by row.  Questions are hex floats, so that every bit is kept; the truth is
decimal, of 30 digits.  Plain fields of a page (an eps) and its constants are the same doubles in every
format.  The points are refflow's golden points, each in its dtype, and the exact ones, whose every number is a
bfloat16 number: their one truth serves code of all formats.  The same version of refflow writes the same bytes.
"""

from __future__ import annotations

import decimal
import functools
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...accuracy.formats import FORMATS
from ...core.declarations import Field, Plain
from ...core.version import VERSION
from ...report import parameters
from ...saving import write_atomically
from ..check import ALLOWED
from ..points import golden
from ..points.golden import EXACT
from ..points.page_points import without_structural_zeros
from ..points.pages import CannotRun, page_named
from ..points.schema import SCHEMAS, first_line, violation

SCHEMA, MANIFEST, SCHEMA_FILE = "refflow/vectors/1", "manifest.json", "vectors.schema.json"
DIGITS = decimal.Context(prec=8, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)
FLAGS = {
    "not_first_order": "kappa, which is first-order, does not tell how far rounding an input moves this quantity: a finite "
                       "answer beyond the allowance is not an error",
    "overflows": "an entry is larger than the largest number of the format: the quantity is not compared",
    "subnormal": "an entry is smaller than the smallest normal number: hardware that flushes to zero answers 0",
    "beyond": "an entry beyond 10^(+-30000) is written as +-1e+30000 or 0",
}


def export(directory, pages=None, formats=None) -> dict:
    """Write the vectors of some pages, all of them by default, and return the manifest.

    `formats` keeps the points that are asked in at least one of these.  CannotRun if the directory is not empty, or a page is
    unknown.
    """
    directory = Path(directory)
    names = golden.recorded() if pages is None else list(dict.fromkeys(pages))
    for name in names:
        page_named(name)
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise CannotRun(f"{directory} must be a new or an empty directory")
    directory.mkdir(parents=True, exist_ok=True)
    files = [written(directory, name, formats) for name in names]
    schema = (SCHEMAS / "vectors.json").read_bytes()
    write_atomically(directory / SCHEMA_FILE, schema, replace=False)
    manifest = {"schema": SCHEMA, "kind": "manifest", "refflow": VERSION, "allowed": int(ALLOWED),
                "formats": {name: facts(form) for name, form in FORMATS.items()}, "flags": FLAGS,
                "schema_file": {"name": SCHEMA_FILE, "sha256": digest(schema)}, "files": files}
    write_atomically(directory / MANIFEST, (json.dumps(manifest, indent=1) + "\n").encode(), replace=False)
    return manifest


def written(directory, name, formats):
    """Write the file of one page; its entry in the manifest."""
    points = [p for p in page_points(name) if formats is None or set(formats) & set(p["formats"])]
    page = page_named(name)
    fields = [{"name": key, "shape": shape, "rule": rule} for key, shape, rule, _ in parameters(page)]
    head = json.dumps({"schema": SCHEMA, "kind": "page", "page": name, "normwise": bool(page.normwise), "fields": fields})
    lines = ",\n".join(json.dumps(point, separators=(",", ":")) for point in points)
    text = f'{head[:-1]}, "points": [\n{lines}\n]}}\n'.encode()
    write_atomically(directory / f"{name}.json", text, replace=False)
    return {"name": f"{name}.json", "points": len(points), "sha256": digest(text)}


def digest(content):
    return hashlib.sha256(content).hexdigest()


def facts(form):
    return {key: getattr(form, key).hex() for key in ("unit", "smallest", "normal", "largest")}


# -- points -----------------------------------------------------------------------------------------------------------

def page_points(name) -> list[dict]:
    """The vectors of one page: its golden points, then the exact ones."""
    stored = golden.stored(name) + golden.stored(name, golden.EXACT_DIRECTORY, golden.EXACT_SCHEMA)
    found: dict = {}
    for one in stored:
        vector = as_vector(name, one)
        found.setdefault(vector["id"], vector)
    return list(found.values())


def as_vector(name, stored):
    formats = stored.get("exact_in", [stored.get("dtype")])
    point = golden.decoded(page_named(name), stored, stored.get("dtype", "float64"))
    truths = without_structural_zeros(point, dict(point.truth.items()))
    quantities = {key: quantity(one, formats, truths[key], point.f.normwise) for key, one in stored["quantities"].items()}
    question = {"formats": formats, "side": stored["side"], "params": exact_params(stored["params"]),
                **{key: stored[key] for key in ("event", "image_bar", "log_det_bar")}}
    return {"id": identity(name, question), "case": stored["case"], "reason": stored["reason"], **question,
            "quantities": quantities}


def exact_params(params):
    """Plain real numbers are arrays of hex floats too."""
    return {key: golden.hexes(value) if isinstance(value, float) else value for key, value in params.items()}


def identity(name, point) -> str:
    """A name for a point that depends on nothing but its question."""
    question = {key: point[key] for key in ("formats", "side", "params", "event", "image_bar", "log_det_bar")}
    text = json.dumps(question, sort_keys=True, separators=(",", ":"))
    return f"{name}-{digest(text.encode())[:16]}"


def quantity(stored, formats, truth, normwise):
    true, kappa = ([decimal.Decimal(v) for v in stored[key]] for key in ("true", "kappa"))
    found = {"shape": stored["shape"], "true": stored["true"], "kappa": stored["kappa"],
             "allowance": {name: allowances(along(kappa, stored), FORMATS[name], normwise) for name in formats}}
    found |= {"tangents": stored["tangents"]} if "tangents" in stored else {}
    flags = {name: flags_of(stored, true, name) for name in formats}
    found |= {"flags": flags} if any(flags.values()) else {}
    compared = np.broadcast_to(truth.asked, truth.high.shape).ravel().tolist()
    return found | ({} if all(compared) or "tangents" in found else {"compared": compared})


def along(kappa, stored):
    """|F|^T kappa of each row; kappa itself of a quantity without tangents."""
    F = [[decimal.Decimal(entry).copy_abs() for entry in row] for row in stored.get("tangents", ())]
    rows = [kappa[i:i + len(F)] for i in range(0, len(kappa), len(F))] if F else []
    return [total(EXACT.multiply(f[j], k) for f, k in zip(F, row)) for row in rows for j in range(len(F[0]))] if F else kappa


def total(terms):
    return functools.reduce(EXACT.add, terms, decimal.Decimal(0))


def allowances(kappa, form, normwise):
    """(1) for each entry; for a normwise page the largest."""
    unit, floor = (decimal.Decimal(value) for value in (form.unit, form.smallest))
    found = [max(EXACT.multiply(k, unit), floor) * int(ALLOWED) for k in kappa]                             # (1)
    if normwise:
        found = [max(found, default=floor * int(ALLOWED))]
    return [text_of(DIGITS.plus(value)) for value in found]


def text_of(value):
    return str(value).lower().replace("infinity", "inf")


def flags_of(stored, true, name):
    form, first_order = FORMATS[name], stored.get("first_order", True)
    ordinary = [abs(v) for v in true if v.is_finite() and v]
    marks = {"not_first_order": first_order is False or first_order is not True and name not in first_order,
             "overflows": any(v.is_infinite() or abs(v) > decimal.Decimal(form.largest) for v in true),
             "subnormal": any(v < decimal.Decimal(form.normal) for v in ordinary),
             "beyond": any(v >= decimal.Decimal("1e30000") for v in ordinary)}
    return [flag for flag, marked in marks.items() if marked]


# -- reading them back ------------------------------------------------------------------------------------------------

@dataclass
class Verified:
    """How many pages and points were read, and what is not as the manifest says."""

    pages: int = 0
    points: int = 0
    problems: list = field(default_factory=list)


def verify(directory) -> Verified:
    """Read a directory of vectors back: every file, every number of every point.

    Files that are missing, changed or unknown, and points whose id, numbers or allowances are not what they should be, are
    problems.  CannotRun for what this version of refflow does not know: another schema, a field, a page.
    """
    directory = Path(directory)
    manifest = read(directory / MANIFEST, "manifest")
    found = Verified()
    expected = {MANIFEST, SCHEMA_FILE, *(entry["name"] for entry in manifest["files"])}
    if directory.is_dir():
        unknown = sorted(path.name for path in directory.iterdir() if path.name not in expected)
        found.problems += [f"{name}: the manifest does not list it" for name in unknown]
    for entry in (manifest["schema_file"], *manifest["files"]):
        path = directory / entry["name"]
        if not path.is_file():
            found.problems.append(f"{entry['name']}: missing")
        elif digest(path.read_bytes()) != entry["sha256"]:
            found.problems.append(f"{entry['name']}: its sha256 is not the manifest's")
        elif "points" in entry:
            check_page(read(path, "page"), entry, manifest, found)
    return found


def read(path, kind):
    """A file that keeps the schema."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CannotRun(f"there is no file {path}") from None
    except (ValueError, RecursionError) as error:
        raise CannotRun(f"{path} is not JSON: {error}") from None
    schema = document.get("schema") if isinstance(document, dict) else None
    if schema != SCHEMA:
        raise CannotRun(f"{path} has schema {schema!r}; this version of refflow reads {SCHEMA!r}")
    broken = violation(document, "vectors", kind)
    if broken is not None:
        raise CannotRun(f"{path}: {broken}")
    return document


def check_page(document, entry, manifest, found):
    page, points = page_named(document["page"]), document["points"]
    found.pages, found.points = found.pages + 1, found.points + len(points)
    if entry["name"] != f"{document['page']}.json" or entry["points"] != len(points):
        found.problems.append(f"{entry['name']}: the manifest says {entry['points']} points of that page; it has {len(points)} "
                              f"of {document['page']}")
    ids = [point["id"] for point in points]
    found.problems += [f"{entry['name']}: {name} stands there twice" for name in sorted({i for i in ids if ids.count(i) > 1})]
    for point in points:
        reason = wrong(page, document, point, manifest)
        if reason is not None:
            found.problems.append(f"{entry['name']}: {point['id']}: {reason}")


def wrong(page, document, point, manifest):
    """What is wrong with a point, or None."""
    if point["id"] != identity(document["page"], point):
        return "its id is not the id of its question"
    dtype = np.float32 if point["formats"] == ["float32"] else np.float64
    try:
        page(**{key: field_of(page, key, value, dtype) for key, value in point["params"].items()})
        numbers = [golden.array(value, np.float64) for value in real_arrays(page, point)]
    except ValueError as error:
        return first_line(str(error))
    beyond = [name for name in point["formats"] if not all(FORMATS[name].holds(v) for v in numbers)]
    if beyond:
        return f"{beyond[0]} does not hold its numbers"
    found = (wrong_quantity(one, point["formats"], document["normwise"], manifest) for one in point["quantities"].values())
    return next((f"{name}: {reason}" for name, reason in zip(point["quantities"], found) if reason is not None), None)


def field_of(page, key, value, dtype):
    if key not in page.declared:
        raise CannotRun(f"{page.__name__} has no field {key!r}")
    found = golden.field_value(page.declared[key], value, dtype)
    return found.tolist() if isinstance(page.declared[key], Plain) and isinstance(found, np.ndarray) else found


def real_arrays(page, point):
    """What code is given in the format: the event, the cotangents, the real fields."""
    bar = point["log_det_bar"]
    return [point["event"], *([point["image_bar"]] if point["image_bar"] else []),
            *([{"shape": [], "values": [bar]}] if bar else []),
            *(value for key, value in point["params"].items() if is_real(page.declared[key]) and value is not None)]


def is_real(declared):
    return isinstance(declared, Field) and not declared.constant


def wrong_quantity(one, formats, normwise, manifest):
    unknown = sorted({flag for flags in one.get("flags", {}).values() for flag in flags} - set(manifest["flags"]))
    if unknown:
        raise CannotRun(f"the manifest does not explain the flag {unknown[0]!r}")
    size = int(np.prod(one["shape"]))
    if {len(one["true"]), len(one["kappa"]), len(one.get("compared", one["true"]))} != {size}:
        return f"it does not have an entry for each of {one['shape']}"
    F = one.get("tangents")
    if F is not None and (not F or size % len(F) or len({len(row) for row in F}) != 1):
        return "its tangents do not have a row for each entry of the event"
    kappa = along([decimal.Decimal(v) for v in one["kappa"]], one)
    right = {name: allowances(kappa, FORMATS[name], normwise) for name in formats}
    return None if one["allowance"] == right else "an allowance is not the one that kappa gives"
