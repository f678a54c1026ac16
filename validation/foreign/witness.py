"""The answer of one box: the verdicts of the laws and, of a failure, the library's numbers there, which `judged` holds to the truth.

It runs where the library is.
"""

from __future__ import annotations

import contextlib
import time

import numpy as np

from refflow.core.sets import real
from refflow.oracle.boxes.black_box import BlackBox
from refflow.oracle.boxes.black_box_laws import verdicts
from refflow.oracle.boxes.black_box_points import BoxPoints
from refflow.oracle.boxes.model_laws import gauss

from .entry import drawn

THERE, BACK = ("forward",), ("forward", "inverse")
NUMBERS = {                             # that each law compares, or is derived from
    "inverse of forward": BACK, "forward of inverse": BACK, "float64 agrees": (*BACK, "log_det"),
    "log-det is the determinant of differences": (*THERE, "log_det"), "log-det is the determinant of the gradient": ("log_det", "slope"),
    "images differ by the integral of the slope": (*THERE, "log_det"),
    "inverse log-det is minus log-det": (*THERE, "log_det", "inverse_log_det"),
    "finite": (*THERE, "log_det"), "monotone": THERE, "a batch of tails is the stack of its events": (*THERE, "log_det"),
    "pullback is the gradient": (*THERE, "log_det", "slope"), "mass is one": BACK + ("inverse_log_det",),
}


def answer_of(name, dtype, seed, make):
    """{"box", "dtype", "seed", "precision", "draws", "verdicts": [[law, status, text, witness]], "seconds"} of a box; or "unmade": why.

    Only failures have a witness.
    """
    start, box = time.process_time(), make(seed, dtype)
    answer = {"box": name, "dtype": dtype, "seed": seed}
    if not isinstance(box, BlackBox):
        return answer | {"unmade": str(box), "seconds": 0}
    found = [(one.law, one.status, one.text, *([witness(make, box, one.law, one.places, seed)] if one.status == "FAIL" else []))
             for one in verdicts(box, seed)]
    return answer | {"precision": box.precision, "draws": len(BoxPoints(box, seed).z), "verdicts": found,
                     "seconds": round(time.process_time() - start, 2)}


def witness(make, box, law, places, seed):
    """{"parameters", "domain", "codomain", "numbers": [[quantity, event, value]]}; None where numbers do not show the failure."""
    if places is None or law not in NUMBERS or not hasattr(make, "draws"):
        return None
    asked = Asked(box, NUMBERS[law])
    with np.errstate(all="ignore"):
        for z in events_of(places["latents"], law):
            asked.latent(z)
        for x in places["images"]:
            asked.image(x)
    return {"parameters": [value.tolist() for value in drawn(make.draws, seed, make.name, "float64", box.dtype, "numpy")],
            "domain": ends(box.domain), "codomain": ends(box.codomain), "numbers": asked.numbers}


def events_of(latents, law):
    """The latents; between the ends of an interval over which slopes are integrated, the nodes, too."""
    if law.startswith("images differ") and len(latents) == 2:
        a, b = np.sort(np.ravel(latents))
        nodes = gauss(np.array([a]), np.array([b - a]))[0]
        return [*latents, *np.reshape(nodes, (-1, *np.shape(latents)[1:])).tolist()]
    return latents


def ends(where):
    """[lower, upper]; None for a structure."""
    where = where or real
    return None if where.rank else [float(where.lower), float(where.upper)]


class Asked:
    """The answers of a box at single events, as far as they can be asked."""

    def __init__(self, box, quantities):
        self.box, self.quantities, self.numbers = box, quantities, []

    def keep(self, quantity, event, value):
        if quantity in self.quantities and value is not None:
            self.numbers.append([quantity, np.asarray(event, np.float64).tolist(), np.asarray(value, np.float64).tolist()])

    def latent(self, event):
        z = self.box.held(np.asarray(event)[None])
        x, log_det = self.box.values(z)
        self.keep("forward", z[0], x[0])
        self.keep("log_det", z[0], None if log_det is None else log_det[0])
        if "slope" in self.quantities and self.box.pullback is not None:
            self.keep("slope", z[0], slopes(self.box, z, x))
        if np.isfinite(x).all() and self.box.inverse is not None and {"inverse", "inverse_log_det"} & set(self.quantities):
            self.image(x[0], further=False)

    def image(self, event, further=True):
        """The inverse at an image; and, from there, forward."""
        x = self.box.held(np.asarray(event)[None])
        with contextlib.suppress(Exception):
            z, log_det = self.box.answer_back(x)
            self.keep("inverse", x[0], z[0])
            self.keep("inverse_log_det", x[0], None if log_det is None else log_det[0])
            if further and np.isfinite(z).all():
                z = self.box.held(z)
                self.keep("forward", z[0], self.box.image(z)[0])


def slopes(box, z, x):
    """The Jacobian at one event, row by row from the pullback."""
    units = np.eye(x[0].size).reshape(-1, *x.shape)
    return np.stack([box.gradients(z, one, np.zeros(1))[0].ravel() for one in units])
