"""One question asked again: the witness of a finding, {"input", "params", "cotangents"}, as it is printed to be pasted."""

from __future__ import annotations

import numpy as np

from ...accuracy.drawing import SIDES, Point
from ...core import Bijector
from ...report import number
from ..check import certified, measure_points, subject_of
from ..judging.verdict import kind_of, leaves
from ..points.golden import NARROW
from ..points.page_points import LETTER
from ..points.pages import CannotRun, page_named
from ..points.parameters import field_at
from ..points.parametrised import Parametrised

KEYS = ("input", "params", "cotangents")


def witness_of(adapter, found) -> dict | None:
    """The witness of a finding; None if it does not show the finding alone, as where an inverse is given as values."""
    witness = {"input": found.input, "params": found.params, "cotangents": found.cotangents}
    if isinstance(adapter.page, Bijector):
        del witness["params"]                       # they are in the declaration
    witness = {key: value for key, value in witness.items() if key == "input" or value}
    pasted = all(np.isfinite(v) for v in leaves(list(witness.values())) if isinstance(v, float))
    quantity = found.quantity.removesuffix(" shape")
    return witness if pasted and failure_at(adapter, quantity, found.dtype, witness) else None


def failure_at(adapter, quantity, dtype, witness) -> str | None:
    """In what way a quantity is wrong at a witness, in words; None if it is right there.

    CannotRun for a witness that the adapter cannot be asked.
    """
    subject, point = subject_of(adapter, dtype), question(adapter, quantity, dtype, witness)
    measure_points(subject, adapter, certified(), [point])
    by_symptom = {name: found for name, found in subject.failures.items() if name.removesuffix(" shape") == quantity}
    failure = next((one for found in by_symptom.values() for alike in found.values() for one in alike), None)
    if failure is None:
        return None
    return failure.message or f"{number(failure.error)} units at {witness['input']}, {number(failure.allowed)} are allowed"


def question(adapter, quantity, dtype, witness) -> Point:
    """The question of a witness."""
    side = "inverse" if kind_of(quantity).startswith("inverse") else "forward"
    form = dtype if dtype in NARROW else ""
    real = np.dtype("float32" if form else dtype)
    image = LETTER[next(other for other in SIDES if other != side)]
    try:
        f, event = map_of(adapter, witness.get("params", {}), real), np.array(witness["input"], real)
        if "cotangents" not in witness:
            return Point(f, side, event, form=form)
        image_bar, log_det_bar = (np.array(witness["cotangents"][key], real) for key in (f"{image}_bar", "log_det_bar"))
        return Point(f, side, event, image_bar, log_det_bar, form=form)
    except (KeyError, TypeError, ValueError) as error:
        raise CannotRun(f"{adapter.theirs}: the witness of {quantity}-{dtype} cannot be asked of {adapter.name}: "
                        f"{type(error).__name__}: {error}") from error


def map_of(adapter, params, real):
    """The bijector with the parameters of a witness."""
    if isinstance(adapter.page, Bijector):
        return adapter.page.astype(real)
    if adapter.family is not None:
        return Parametrised(np.array(params["h"], real), adapter.family)
    page = page_named(adapter.page)
    return page(**{key: field_at(page.declared[key], value, real) for key, value in params.items()})
