"""Calls that show a recorded row, to paste into Python."""

from __future__ import annotations

import numpy as np

from refflow.core import Value
from refflow.core.registry import REGISTRY
from refflow.saving import read_value
from refflow.truth.measure import ADAPTERS

from ..points.recorded import number

LETTERS = {"forward": ("z", "x_bar"), "inverse": ("x", "z_bar")}


def call(name, params):
    """The call that makes a page's value, from its parameters' JSON."""
    def shown(value):
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return f"({', '.join(map(shown, value))},)"
        if isinstance(value, dict) and "class" in value:
            return expression(read_value(value, "", None, 0))
        return repr(number(value) if isinstance(value, dict) else value)

    return f"{name}({', '.join(f'{key}={shown(value)}' for key, value in params.items())})"


def expression(held):
    """The same for a value."""
    if isinstance(held, Value):
        fields = {key: getattr(held, key) for key in held.declared}
        return f"{type(held).__name__}({', '.join(f'{k}={expression(v)}' for k, v in fields.items() if v is not None)})"
    if isinstance(held, tuple):
        return f"({', '.join(map(expression, held))},)"
    return held.__name__ if isinstance(held, type) else repr(held.tolist() if isinstance(held, np.ndarray) else held)


def pasted(name, dtype, worst):
    """A call of `measure` that shows the row."""
    adapter = ADAPTERS.get(REGISTRY[name].kind) if name in REGISTRY else None
    event, bar = adapter.letters if adapter else LETTERS[worst["side"]]
    text = f"measure({call(name, worst['params'])}, {event}={number(worst['event'])}"
    if worst["image_bar"]:
        text += f", {bar}={number(worst['image_bar'])}"
    if worst["log_det_bar"]:
        text += f", log_det_bar={float.fromhex(worst['log_det_bar'])}"
    return f"{text}, dtype=np.{dtype})"


def rounded(x):
    """Three digits, or 0 if below the truth's own 50 digits; a number that JSON lacks becomes a string."""
    if not np.isfinite(x):
        return str(float(x))
    return float(f"{x:.3g}") if x > 1e-30 else 0.0
