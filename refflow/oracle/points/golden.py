"""Golden points: questions whose answers are recorded to 30 digits, shipped as JSON.

Events, parameters and cotangents are hex floats, so that every bit is kept; the truth is decimal, rounded from 50
digits, and so are its unit kappa and the tangents along which it is compared.  Nothing in the files is executed.
The points of `exact` are moderate, and exact in bfloat16.
"""

from __future__ import annotations

import decimal
import json
from pathlib import Path

import numpy as np

from ...accuracy.drawing import Point
from ...accuracy.formats import FORMATS, name_of
from .page_points import Truth, along_tangents
from .pages import CannotRun, page_named

SCHEMA, EXACT_SCHEMA = "refflow/golden/1", "refflow/exact/1"
DIRECTORY, EXACT_DIRECTORY = Path(__file__).parents[1] / "golden", Path(__file__).parents[1] / "exact"
NARROW = tuple(name for name in FORMATS if FORMATS[name].bits < FORMATS["float32"].bits)    # formats of theirs, not of pages
EXACT = decimal.Context(prec=60, Emin=decimal.MIN_EMIN, Emax=decimal.MAX_EMAX)


def recorded(directory=DIRECTORY) -> list[str]:
    """The pages that have golden points."""
    return sorted(path.stem for path in Path(directory).glob("*.json"))


def points(name, dtypes=None, directory=DIRECTORY) -> list[Point]:
    """The golden points of one page, for the named dtypes; none if it has no file.

    Raises CannotRun for a file of another schema or another bijector.
    """
    wanted = [p for p in stored(name, directory) if dtypes is None or p["dtype"] in dtypes]
    page = page_named(name) if wanted else None
    return [decoded(page, p, p["dtype"]) for p in wanted]


def exact_points(name, form, directory=EXACT_DIRECTORY) -> list[Point]:
    """Points of one page whose every number is a bfloat16 number, for code of a format that holds them; the truth is the same
    for all.  Numbers of a format narrower than float32 stand in float32 arrays.
    """
    wanted = [p for p in stored(name, directory, EXACT_SCHEMA) if form in p["exact_in"]]
    page = page_named(name) if wanted else None
    return [decoded(page, p, form) for p in wanted]


def own_points(name, dtypes) -> list[Point]:
    """What refflow's own page is asked: its golden points, and the exact ones in float64, where their truth is seen best."""
    return points(name, dtypes) + (exact_points(name, "float64") if "float64" in dtypes else [])


def stored(name, directory=DIRECTORY, schema=SCHEMA) -> list[dict]:
    """The points of one page's file, as JSON."""
    path = Path(directory) / f"{name}.json"
    if not path.exists():
        return []
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CannotRun(f"{path} is not JSON: {error}") from None
    found = document.get("schema") if isinstance(document, dict) else None
    if found != schema:
        raise CannotRun(f"{path} has schema {found!r}; this version of refflow reads {schema!r}")
    if document["bijector"] != name:
        raise CannotRun(f"{path} holds points of {document['bijector']!r}")
    return document["points"]


def decoded(page, stored, form) -> Point:
    form = name_of(form)
    dtype = np.dtype("float32" if form in NARROW else form)
    f = page(**{key: field_value(page.declared[key], value, dtype) for key, value in stored["params"].items()})
    bar = stored.get("image_bar")
    log_det_bar = stored.get("log_det_bar")
    truth = Lazy(stored["quantities"], form, f.normwise)
    return Point(f, stored["side"], array(stored["event"], dtype), None if bar is None else array(bar, dtype),
                 None if log_det_bar is None else dtype.type(number(log_det_bar)), stored["case"], stored["reason"], truth,
                 stored.get("id", ""), form=form if form in NARROW else "")


def field_value(declared, value, dtype):
    """A field's array, or a plain value (a list stands for a tuple)."""
    if isinstance(value, dict) and set(value) == {"shape", "values"}:
        return array(value, getattr(declared, "dtype", None) or dtype)
    return tuple(value) if isinstance(value, list) else value


def number(stored):
    return float.fromhex(stored) if isinstance(stored, str) else stored


def hexes(values):
    """An array as JSON: its shape and its exact numbers, hex floats for real ones, which `array` reads back."""
    values = np.asarray(values)
    flat = values.ravel().tolist()
    return {"shape": list(values.shape), "values": [v.hex() if isinstance(v, float) else v for v in flat]}


def array(stored, dtype):
    return np.array([number(v) for v in stored["values"]], dtype).reshape(stored["shape"])


class Lazy(dict):
    """{quantity: Truth}, decoded on first use."""

    def __init__(self, stored, form, normwise):
        super().__init__(stored)
        self.form, self.normwise = form, normwise

    def __getitem__(self, name):
        found = super().__getitem__(name)
        if not isinstance(found, Truth):
            found = truth(found, self.form, self.normwise)
            self[name] = found
        return found

    def items(self):
        return [(name, self[name]) for name in self]


def truth(stored, form, normwise) -> Truth:
    """The decimals of one quantity as high + low, and u kappa."""
    shape, u = stored["shape"], decimal.Decimal(FORMATS[form].unit)
    high, low, unit, conditioning = [], [], [], []
    for true, kappa in zip(stored["true"], stored["kappa"]):
        true, kappa = decimal.Decimal(true), decimal.Decimal(kappa)
        nearest = float(true)
        high.append(nearest)
        low.append(float(EXACT.subtract(true, decimal.Decimal(nearest))) if np.isfinite(nearest) else 0.0)
        unit.append(float(EXACT.multiply(kappa, u)))
        ordinary = true != 0 and true.is_finite() and kappa.is_finite()
        conditioning.append(float(EXACT.divide(kappa, true.copy_abs())) if ordinary else 1.0)
    arrays = (np.array(v, np.float64).reshape(shape) for v in (high, low, unit, conditioning))
    first_order = stored.get("first_order", True)           # of exact points, the formats in which it is
    found = Truth(*arrays, 0, normwise, first_order if isinstance(first_order, bool) else form in first_order)  # type: ignore[call-arg, arg-type]
    return along_tangents(found, np.array(stored["tangents"], np.float64), float(u)) if "tangents" in stored else found
