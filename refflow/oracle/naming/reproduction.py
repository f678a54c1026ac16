"""A finding as a few lines of Python to paste: the input, what was given, and refflow's own answer in float64."""

from __future__ import annotations

import numpy as np

from ...accuracy.quantities import truth_name
from ...core.registry import REGISTRY

CALLS = {"forward": "f.forward({e})", "log_det": "f.log_det({e})", "jacobian": "f.jacobian({e})", "inverse": "f.inverse({e})",
         "inverse_log_det": "f.inverse_and_log_det({e})[1]"}


def reproduction(found) -> str:
    """The lines; for a composite, which cannot be written down by name, its parameters in place of the bijector."""
    quantity = truth_name(found.quantity.removesuffix(" shape"))
    side = "inverse" if quantity.startswith("inverse") else "forward"
    letter = "x" if side == "inverse" else "z"
    lines = ["import numpy as np"]
    if found.bijector in REGISTRY:
        fields = ", ".join(f"{key}={literal(value, found.dtype)}" for key, value in found.params.items())
        lines += ["import refflow", "", f"f = refflow.{found.bijector}({fields}).astype(np.float64)"]
    else:
        lines += ["", f"params = {literal(found.params, found.dtype)}"]
    lines.append(f"{letter} = {literal(found.input, found.dtype)}")
    lines += [f"{name} = {literal(value, found.dtype)}" for name, value in found.cotangents.items()]
    if found.given is not None:
        lines.append(f"given = {literal(found.given, found.dtype)}")
    if found.bijector in REGISTRY and found.true is not None:
        lines += ["", *answer(quantity, letter, list(found.cotangents))]
    elif found.true is not None:
        lines.append(f"true = {literal(found.true, found.dtype)}")
    return "\n".join(lines)


def answer(quantity, letter, bars):
    """The lines that print refflow's answer; float64 of the same numbers."""
    wide = f"{letter}.astype(np.float64)"
    kind, _, cotangent = quantity.partition(".")
    if kind not in ("vjp", "inverse_vjp"):
        return [f"print({CALLS[kind].format(e=wide)})"]
    event_bar = f"{letter}_bar"
    lines = [f"_, pullback = f.{kind}({wide})", f"{event_bar}, params_bar = pullback({', '.join(bars)})"]
    field = "".join(f'["{part}"]' for part in cotangent.removesuffix("_bar").split("."))
    return [*lines, f"print({event_bar if cotangent == event_bar else f'params_bar{field}'})"]


def literal(value, dtype):
    """An expression for a value of a finding; its lists of numbers are arrays, real ones in the dtype."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {literal(inner, dtype)}" for key, inner in value.items()) + "}"
    if isinstance(value, float) or isinstance(value, list) and np.asarray(value).dtype.kind == "f":
        return f"np.array({text(value)}, np.{dtype})"
    return f"np.array({text(value)})" if isinstance(value, list) else repr(value)


def text(value):
    if isinstance(value, list):
        return f"[{', '.join(map(text, value))}]"
    return repr(value) if not isinstance(value, float) or np.isfinite(value) else f"np.{value}".replace("np.-", "-np.")
