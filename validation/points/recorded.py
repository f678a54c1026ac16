"""Points as JSON: exact numbers, components as `refflow.save` writes them; files that are moved into place when complete.

Also the results of `validation.exhaustive` for all float32 events, which other modules read.
"""

from __future__ import annotations

import functools
import json
import os
from pathlib import Path

import numpy as np

from refflow.accuracy.drawing import Point
from refflow.core.declarations import Child, Field
from refflow.oracle.points.golden import hexes
from refflow.saving import written as as_document

EXHAUSTIVE = Path(__file__).parent / "exhaustive.json"
EXHAUSTIVE_SCHEMA = "refflow/exhaustive/1"
PASSES = 2**18                                      # over the float32 numbers; each sees every 2^18-th number


def encoded(point):
    """A point as JSON: exact numbers, components as `refflow.save` writes them."""
    params = {key: parameter(field, getattr(point.f, key)) for key, field in point.f.declared.items()
              if getattr(point.f, key) is not None or getattr(field, "default", None) is not None}
    return {"side": point.side, "params": params, "event": hexes(point.event),
            "image_bar": None if point.image_bar is None else hexes(point.image_bar),
            "log_det_bar": None if point.log_det_bar is None else float(point.log_det_bar).hex()}


def parameter(field, value):
    if isinstance(field, Child):
        return [as_document(c, "", None) for c in value] if field.many else as_document(value, "", None)
    if value is None:
        return None
    infinite = isinstance(value, float) and np.isinf(value)                 # which JSON lacks
    return hexes(value) if isinstance(field, Field) or infinite else value


def number(values):
    """Nested lists of exact numbers from their JSON."""
    plain = [float.fromhex(v) if isinstance(v, str) else v for v in values["values"]]
    return np.array(plain).reshape(values["shape"]).tolist()


def decoded(page, dtype, worst, reason):
    """The point of a page without components."""
    params = {key: np.array(number(value)) if isinstance(value, dict) else value for key, value in worst["params"].items()}
    params = {key: value.astype(dtype) if getattr(value, "dtype", None) == np.float64 else value
              for key, value in params.items()}
    bars = [worst["image_bar"], worst["log_det_bar"]]
    image_bar = None if bars[0] is None else np.array(number(bars[0]), dtype)
    log_det_bar = None if bars[1] is None else np.array(float.fromhex(bars[1]), dtype)
    return Point(page(**params), worst["side"], np.array(number(worst["event"]), dtype), image_bar, log_det_bar, "", reason)


def written(path, text):
    """Moved into place when complete: a reader never sees half a file."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    os.replace(beside, path)


# -- all float32 events -----------------------------------------------------------------------------------------------

def exhaustive() -> dict:
    """{page: its sets of parameters, with the rows of either side}; empty if nothing is recorded."""
    return pages_in(EXHAUSTIVE) if EXHAUSTIVE.exists() else {}


def pages_in(path):
    document = json.loads(path.read_text())
    if document["schema"] != EXHAUSTIVE_SCHEMA:
        raise SystemExit(f"{path} has schema {document['schema']!r}, not {EXHAUSTIVE_SCHEMA!r}")
    return document["pages"]


@functools.lru_cache(1)
def standing(path, changed):
    """What `pages_in` gives of a file that was changed then, to be read alone."""
    return pages_in(path)


def records(entry, side=None):
    """[(the record of a side, quantity, rows)] of one page."""
    return [(one[name], quantity, rows) for one in entry for name in ("forward", "inverse") if side in (None, name)
            for quantity, rows in one[name]["rows"].items()]


def seen(entry) -> dict:
    """{quantity: (the largest C that is settled, the share of events seen)} of one page."""
    found = {}
    for record, quantity, rows in records(entry):
        passes = min(record["passes"], PASSES // 64) if quantity.endswith("_bar") else record["passes"]
        C, share = found.get(quantity, (0.0, 1.0))
        found[quantity] = max([C, *(row["true"] for row in rows if row.get("true") is not None)]), min(share, passes / PASSES)
    return found


def percent(share) -> str:
    """A share of all numbers, which may be one in a million."""
    return f"{100 * share:.2g}%"


def exhaustive_points(page, dtype, side) -> list[Point]:
    """The worst recorded float32 events of a page."""
    if np.dtype(dtype) != np.float32:
        return []
    pages = standing(EXHAUSTIVE, EXHAUSTIVE.stat().st_mtime_ns) if EXHAUSTIVE.exists() else {}
    return [decoded(page, dtype, row["point"], "the worst float32 event of a sweep")
            for _, _, rows in records(pages.get(page.__name__, []), side) for row in rows[:1] if "point" in row]
