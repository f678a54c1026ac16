"""What the textbooks of pages give: the equations as they are printed, run in floats, or with other numbers for the floats.

A textbook is a class of plain functions of one event, which `@bijector(..., textbook=textbook)` attaches to its page:
    bijector       forward(z), inverse(x), slope(z) or jacobian(z), log_det(z), inverse_log_det(x), vjp(z), inverse_vjp(x)
    conditioner    forward(a), jacobian(a), vjp(a)
All take the fields by name as `definition` does, then the cotangents, and a vjp gives (event_bar, {field: bar}).
"""

from __future__ import annotations

import types

import numpy as np

from refflow.core.declarations import Field

FUNCTIONS = {"bijector": ("forward", "inverse", "log_det", "inverse_log_det", "vjp", "inverse_vjp"),
             "conditioner": ("forward", "jacobian", "vjp")}


def with_numbers(cls, namespace):
    """A class of functions whose code sees `namespace` in the place of NumPy."""
    made, functions = type(cls.__name__, (), {}), {}
    for name, function in vars(cls).items():
        if isinstance(function, types.FunctionType):
            known = function.__globals__ | {"np": namespace, cls.__name__: made}
            functions[name] = types.FunctionType(function.__code__, known, name, function.__defaults__)
    for name, function in functions.items():
        setattr(made, name, remembering(function) if name == "inverse" else function)
    return made


def remembering(inverse):
    """An inverse that is computed once for one event: it may be a bisection, and its log-det and vjp ask for it again."""
    last = [None, None]

    def remembered(x, *fields, **named):
        if last[0] is not x:
            last[:] = x, inverse(x, *fields, **named)
        return last[1]

    return remembered


def fields_of(f, number=lambda held: held):
    """The fields as `definition` sees them; `number` is applied to the arrays of a bijector of one event."""
    return {key: number(getattr(f, key)) if isinstance(field, Field) and not field.constant and getattr(f, key) is not None
            else getattr(f, key) for key, field in f.declared.items()}


def answers(point, book, number=lambda held: held) -> dict:
    """{quantity: what the textbook gives at a point}, under the names of the truth."""
    f, fields, event = point.f, fields_of(point.f, number), number(point.event)
    back, letter = point.side == "inverse", f.letters[point.side == "inverse"]
    found = {point.side: getattr(book, point.side)(event, **fields)}
    if f.kind == "bijector":
        name = "inverse_log_det" if back else "log_det"
        found[name] = getattr(book, name)(event, **fields)
    if not back:
        found["jacobian"] = [[book.slope(event, **fields)]] if hasattr(book, "slope") else book.jacobian(event, **fields)
    if point.image_bar is not None:
        bars = [number(bar) for bar in (point.image_bar, point.log_det_bar) if bar is not None]
        name = "inverse_vjp" if back else "vjp"
        event_bar, bars = getattr(book, name)(event, *fields.values(), *bars)
        found |= {f"{name}.{letter}_bar": event_bar} | {f"{name}.{key}_bar": bar for key, bar in bars.items()}
    return {name: np.asarray(held) for name, held in found.items()}
