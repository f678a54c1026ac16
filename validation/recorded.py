"""Points as JSON: exact numbers, components as `refflow.save` writes them; files that are moved into place whole."""

from __future__ import annotations

import os

import numpy as np

from refflow.accuracy.drawing import Point
from refflow.core.declarations import Child, Field
from refflow.saving import written as as_document


def hexes(array):
    array = np.asarray(array)
    values = array.ravel().tolist()
    return {"shape": list(array.shape), "values": [v.hex() if isinstance(v, float) else v for v in values]}


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
    infinite = isinstance(value, float) and np.isinf(value)                 # which JSON does not have
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
    """Moved into place whole: a reader never sees half a file."""
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(path.name + ".new")
    beside.write_text(text)
    os.replace(beside, path)
