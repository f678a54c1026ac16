"""The certificate of conditioners: as of bijectors, for maps without inverse and log-det.

    python -m validation.conditioners               every page; prints the table
    python -m validation.conditioners --page Dense
    --json                                          rows in the form of the certificate

    from refflow.conditioners import ReLU
    measure(ReLU(), a=0.5, h_bar=1.0)

Quantities: forward, jacobian, vjp.a_bar and vjp.<field>_bar, at events a and cotangents h_bar.  Pages of numbers, vectors
and matrices are drawn over the whole range (validation/points.py).  Compositions (Sequential, Residual, Contextual) are
certified on small networks with every activation, at moderate events and parameters: beyond, intermediate results
overflow where the output does not.  `certified(page, dtype)` gives the same rows as validation.certify.certified.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings

import numpy as np

from refflow import conditioners
from refflow.core import CONDITIONERS
from refflow.core.fields import Child, Plain, flatten

from .certify import DTYPES, WELL_CONDITIONED, finished, hexes
from .couplings import bound, gathered
from .measure import compared
from .points import KINDS, MODERATE, PARAMETERS, SIZES, Draw
from .truth import Problem, TruthNotFound, forward_truth

COUNTS = {"scalar": 400, "structured": 200, "composed": 40}
WIDTHS = (1, 2, 2, 3)
PLAIN_KINDS = [kind for kind in KINDS if not kind.startswith("image") and kind != "moderate"]
RHYTHM = [kind for other in PLAIN_KINDS for kind in ("moderate", other)]


# -- one net at one event ---------------------------------------------------------------------------------------------

def problem(net) -> Problem:
    """The believed equation of a net at one event's parameters; fields of components by their paths ("layers.0.W")."""
    fields, constants = gathered(net)
    return Problem(lambda m, a, **given: net.definition(m, a, **bound(net, given)), fields, frozenset(constants),
                   normwise=net.normwise, has_log_det=False)


def truth(net, a, h_bar=None):
    found = forward_truth(problem(net), a, h_bar, None, a.dtype)
    return {name.replace("vjp.z_bar", "vjp.a_bar"): quantity for name, quantity in found.items()}


def claims(net, a, h_bar=None):
    h, pullback = net.vjp(a)
    found = {"forward": h, "jacobian": net.jacobian(a)}
    if h_bar is None:
        return found
    a_bar, params_bar = pullback(h_bar)
    return found | {"vjp.a_bar": a_bar} | {f"vjp.{'.'.join(path)}_bar": bar for path, bar in flatten(params_bar)}


def measure(net, a, h_bar=None, dtype=np.float64) -> dict:
    """{quantity: (C, kappa/|q|)} of one conditioner at an event; the parameters are those of one event."""
    net, a = net.astype(dtype), np.asarray(a, dtype)
    return compared(claims(net, a, h_bar), truth(net, a, h_bar), dtype)


# -- points -----------------------------------------------------------------------------------------------------------

class NetDraw(Draw):
    """The generator of a conditioner's points."""

    def __init__(self, page, dtype):
        super().__init__(page, np.dtype(dtype), "forward")
        self.composed = any(isinstance(field, Child) for field in page.declared.values())

    def drawn_points(self):
        structured = "structured" if self.page.event_ndim != (0, 0) else "scalar"
        kinds = ["moderate"] if self.composed else RHYTHM
        for i in range(COUNTS["composed" if self.composed else structured]):
            magnitudes, wide = KINDS[kinds[i % len(kinds)]]
            f, shape = self.drawn_bijector(wide)
            yield from self.point(f, self.drawn_event(f, shape, magnitudes), wide, "", kinds[i % len(kinds)])

    def end_points(self):
        return [] if self.composed else super().end_points()

    def drawn_bijector(self, wide):
        if self.composed:
            return self.composition()
        size = int(self.rng.choice(SIZES))
        given = self.plain_values()
        if self.page.__name__ == "WeightNormDense" and self.rng.random() < 0.7:
            width = int(self.rng.choice(WIDTHS))
            given["g"] = self.signed((width,), -MODERATE, MODERATE)
        f = self.bijector(given, PARAMETERS[self.dtype.name] if wide else MODERATE, size)
        return f, f.fixed_shape or ()

    def field(self, field, spread, dims, D):
        for symbol in field.shape:
            if symbol == "M" and "M" not in dims:           # rectangular matrices
                dims["M"] = int(self.rng.choice(WIDTHS))
        return super().field(field, spread, dims, D)

    def bijector(self, given, spread, D):
        return super().bijector({key: value for key, value in given.items() if value is not None}, spread, D)

    def composition(self):
        """A small network of the composition, with drawn layers and parameters, and the shape of its events."""
        size, width = (int(self.rng.choice(WIDTHS)) for _ in range(2))
        smooth = [conditioners.TanhActivation, conditioners.GELU, conditioners.SiLU, conditioners.SoftplusActivation]
        activation = [conditioners.ReLU, *smooth][self.rng.integers(5)]()
        if self.page is conditioners.Residual:
            net = conditioners.Residual(conditioners.Sequential((self.dense(size, size), activation)))
        elif self.page is conditioners.Contextual:
            inner = conditioners.Sequential((self.dense(width, size + 2), activation))
            net = conditioners.Contextual(inner, context=self.signed((2,), -MODERATE, MODERATE))
        else:
            keep = conditioners.Dropout(self.rng.random(width) < 0.75, 0.25)
            net = conditioners.Sequential((self.dense(width, size), activation, keep, self.dense(2, width)))
        return net.astype(self.dtype), (size,)

    def dense(self, rows, columns):
        return conditioners.Dense(self.signed((rows, columns), -2, 2), self.signed((rows,), -2, 2))


def points(page, dtype):
    """All points of one page and dtype, always the same ones."""
    draw = NetDraw(page, dtype)
    return [*draw.hard_points(), *draw.end_points(), *draw.drawn_points()]


# -- one page ---------------------------------------------------------------------------------------------------------

def errors(point):
    """{quantity: (C, kappa/|q|)}, (None, None) where unsettled; a failure has an infinite error under its own name."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            given = claims(point.f, point.event, point.image_bar)
            try:
                true = truth(point.f, point.event, point.image_bar)
            except TruthNotFound as partly:
                true = {name.replace("vjp.z_bar", "vjp.a_bar"): q for name, q in partly.settled.items()}
            unsettled = {name: (np.inf if np.isnan(given[name]).any() else None, None) for name in given if name not in true}
            return compared(given, true, point.event.dtype) | unsettled
        except (ArithmeticError, ValueError, LookupError, TypeError, RuntimeWarning) as failure:
            return {type(failure).__name__: (np.inf, 1.0)}


def allowed(net, size):
    """4 units for a map of one number, 4 + N/2 for sums of up to N terms, the longest of all layers."""
    inner = [allowed(layer, size) for layer in net._children()]
    longest = max([size, *(array.shape[-1] for array in net._arrays().values() if array.ndim)])
    return max(inner, default=4.0 if net.event_ndim == (0, 0) else 4 + longest / 2)


def certified(page, dtype):
    """{quantity: row} of one page and dtype, and the number of points."""
    rows, drawn = {}, points(page, dtype)
    for point in drawn:
        limit = allowed(point.f, max(point.event.shape, default=1))
        for quantity, (C, ratio) in errors(point).items():
            row = rows.setdefault(quantity, {"points": 0, "unsettled": 0, "well_conditioned": 0, "excess": -1.0})
            if C is None:
                row["unsettled"] += 1
                continue
            row["points"] += 1
            row["well_conditioned"] += bool(ratio is not None and ratio <= WELL_CONDITIONED)
            if C / limit > row["excess"]:
                row |= {"excess": C / limit, "C": C, "allowed": limit, "kappa_over_q": ratio, "worst": encoded(point)}
    return {quantity: finished(row) for quantity, row in rows.items()}, len(drawn)


def encoded(point):
    """A point as JSON: exact numbers, the fields of components by their paths."""
    fields, _ = gathered(point.f)
    plain = {key: getattr(point.f, key) for key, field in point.f.declared.items() if isinstance(field, Plain)}
    params = {path: hexes(value) for path, value in fields.items()} | plain
    image_bar = None if point.image_bar is None else hexes(point.image_bar)
    return {"side": "forward", "params": params, "net": repr(point.f), "event": hexes(point.event), "image_bar": image_bar,
            "log_det_bar": None}


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.conditioners", description="The error of every conditioner.")
    parser.add_argument("--page", choices=sorted(CONDITIONERS), help="one page only")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    names = [chosen.page] if chosen.page else sorted(CONDITIONERS)
    document = {name: {dtype: certified(CONDITIONERS[name], dtype)[0] for dtype in DTYPES} for name in names}
    rows = [(name, quantity, dtype, row) for name, dtypes in document.items()
            for dtype, quantities in dtypes.items() for quantity, row in quantities.items()]
    print(json.dumps(document) if chosen.json else "\n".join(line(*entry) for entry in rows))
    return 1 if any(fails(row) for *_, row in rows) else 0


def fails(row):
    too_far = not float(row["C"]) <= row["allowed"]
    return too_far or row["share"] < 0.5 or row["unsettled"] > (row["points"] + row["unsettled"]) / 10


def line(name, quantity, dtype, row):
    """One row of the table; a failing one with its worst input."""
    text = f"{name:20}{quantity:26}{dtype:9}{row['C']:>9}{row['allowed']:>7g}{row['share']:>6.0%} of {row['points']}"
    return text + (f"  <-- {row['worst']}" if fails(row) else "")


if __name__ == "__main__":
    sys.exit(main())
