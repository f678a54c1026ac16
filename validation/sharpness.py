r"""How sharp each law is: the smallest planted bug that it finds.

    python -m validation.sharpness                      the laws of `refflow.laws.bijector_laws`, a line for each
    python -m validation.sharpness --law NAME ...       some of them
    --json                                              all of it as JSON

A bug moves one answer of a right map, at the events of a draw, by k = 1, 2, 4 .. 1024 units of that answer,
    C (u kappa + s)                                                                 (1)
in one entry of each event, whatever the law itself compares with; of what is not an answer of a map, such as the statistics of a
batch, a unit is a rounding.  The sharpness of a law is the smallest k at which it finds the bug at one of the draws of a page:
shown are the page where it is smallest, and where it is largest.  The maps answer in float32, and their reference in float64
stays right, as it is where a page rounds badly.  A further bug is NaN, at one event.

A law that compares no numbers, or all their digits, is exact: it has no unit.  `ROUGH` says why others are not sharp.  The exit
status is 1 if a law with units finds no bug of `SHARP` units, or not its NaN.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np

from refflow import ActNorm, Affine, BatchNorm, IntrinsicVolume, KumaraswamyCDF, NormalCDF, StickBreaking
from refflow.accuracy.points import Points
from refflow.cli import sweeps
from refflow.core import RandomSource, sets
from refflow.core.tree import copied, flatten, nest
from refflow.laws import bijector_laws as laws
from refflow.laws.bijector_laws import LAWS
from refflow.report import aligned
from refflow.training import batch_norm as training

from .questions import Question

SCHEMA = "refflow/sharpness/1"
UNITS = tuple(2**i for i in range(11))
SHARP = 32                          # units: a law that finds no bug of so many is dull
DRAWS = 3                           # of each page
DTYPE = "float32"
SCALARS, VECTORS = ("Affine", "Softplus", "Tanh"), ("DenseLinear", "ActNorm", "Planar")


# -- maps with a mistake ----------------------------------------------------------------------------------------------

ANSWERS = {"forward": ("x",), "log_det": ("log_det",), "forward_and_log_det": ("x", "log_det"), "jacobian": ("jacobian",),
           "inverse": ("z",), "inverse_and_log_det": ("z", "inverse log_det")}
COTANGENTS = {"vjp": ("x", "log_det", "z_bar", "params_bar"), "inverse_vjp": ("z", "inverse log_det", "x_bar", "params_bar of x")}


def mistaken(f, change):
    """f with other answers: `change(map, method, event, answer, value)`."""
    functions = {method: answering(type(f), method, answers, change) for method, answers in ANSWERS.items()}
    functions |= {method: pulling(type(f), method, answers, change) for method, answers in COTANGENTS.items()}
    return copied(f, type(type(f).__name__, (type(f),), functions))


def answering(page, method, answers, change):
    def asked(self, event):
        values = getattr(copied(self, page), method)(event)
        if len(answers) == 1:
            return change(self, method, event, answers[0], values)
        return tuple(change(self, method, event, *one) for one in zip(answers, values))

    return asked


def pulling(page, method, answers, change):
    def asked(self, event):
        values, pullback = getattr(copied(self, page), method)(event)

        def changed(*bars):
            event_bar, params_bar = pullback(*bars)
            params_bar = {path: change(self, method, event, f"{answers[3]} {'.'.join(path)}", bar)
                          for path, bar in flatten(params_bar)}
            return change(self, method, event, answers[2], event_bar), nest(params_bar)

        return tuple(change(self, method, event, *one) for one in zip(answers[:2], values)), changed

    return asked


class Moved:
    """A change that moves one answer by `sizes` (n, Q), at events (n, *event), where `where(map, method, event, value)` holds."""

    def __init__(self, answer, events, sizes, where, dtypes):
        self.answer, self.where, self.dtypes, self.shape = answer, where, dtypes, sizes.shape[1:]
        self.of = {event.tobytes(): size for event, size in zip(events, sizes)}
        self.nothing = np.zeros_like(sizes[0])

    def __call__(self, f, method, event, answer, value):
        event = np.asarray(event)
        if answer != self.answer or event.dtype not in self.dtypes or not self.where(f, method, event, value):
            return value
        rank, event = f.event_ndim[int(method.startswith("inverse"))], event.astype(DTYPE)
        rows = event.reshape(-1, *event.shape[event.ndim - rank:])
        sizes = np.stack([self.of.get(row.tobytes(), self.nothing) for row in rows]) if len(rows) else np.zeros((0, *self.shape))
        sizes = sizes if sizes.size == np.size(value) else sizes.sum(0)             # a cotangent that is a sum over the events
        return (value + sizes.reshape(np.shape(value))).astype(np.asarray(value).dtype)[()]


# -- bugs -------------------------------------------------------------------------------------------------------------

def units(p):
    """{name: (the answer, its events, (1) for each entry)}."""
    (x, log_det), of_J = p.forward_sensitivities, p.forward_derivatives["jacobian"].kappa
    of_x_bar = np.abs(p.bars64[0]).reshape(*p.batch, p.size_out, 1) * of_J.reshape(*p.batch, p.size_out, p.size_in)
    found = {"x": ("x", p.z, x.kappa), "log_det": ("log_det", p.z, log_det.kappa), "jacobian": ("jacobian", p.z, of_J),
             "z_bar": ("z_bar", p.z, p.forward_derivatives["event"].kappa), "z_bar of x_bar": ("z_bar", p.z, of_x_bar.sum(-2))}
    found |= {answer: (answer, p.z, p.forward_derivatives[path].kappa) for path, _ in flatten(p.f.params())
              for answer in [f"params_bar {'.'.join(path)}"]}
    if p.interior.any():
        (z, of_x), again = p.inverse_sensitivities, p.f.inverse(p.inner_x)
        found |= {"z": ("z", p.inner_x, z.kappa), "inverse log_det": ("inverse log_det", p.inner_x, of_x.kappa),
                  "x_bar": ("x_bar", p.inner_x, p.inverse_derivatives["event"].kappa), "x again": ("x", again, x.kappa)}
    return {name: (answer, events, p.C * (p.u * kappa + p.spacing)) for name, (answer, events, kappa) in found.items()}    # (1)


def always(f, method, event, value):
    return True


def asked_by(*methods):
    """Only answers of these methods."""
    return lambda f, method, event, value: method in methods


def in_a_batch(f, method, event, value):
    return np.ndim(event) > f.event_ndim[int(method.startswith("inverse"))]


def strided(f, method, event, value):
    return not event.flags.c_contiguous


def summed(f, method, event, value):
    return f.checked


@dataclass(frozen=True)
class Bug:
    """What a law is asked: maps of some pages, one of whose answers is moved."""

    answer: str
    pages: tuple = SCALARS + VECTORS
    where: Callable = always
    dtypes: tuple = (DTYPE,)

    def found(self, law, k):
        """{page: does the law find the bug of k units, or NaN, at one of its draws?}"""
        return {page: any(self.found_at(law, k, f, p) for f, p in draws(page)) for page in self.pages}

    def found_at(self, law, k, f, p):
        for name, (answer, events, sizes) in units(p).items():
            if name == self.answer or name.startswith(f"{self.answer} ") and answer == name:
                new = ~np.isin(rows_of(events), rows_of(p.z)) if name == "x again" else np.ones(len(events), bool)
                bug = mistaken(f, Moved(answer, events[new], planted(sizes[new], k, p.interior[new]), self.where,
                                        self.dtypes))
                if broken(law, bug, Points(bug, p.z, p.x_bar, p.z_bar, p.log_det_bar)):
                    return True
        return False


def rows_of(events):
    """Each event as one value that can be compared."""
    return np.array([event.tobytes().hex() for event in events])


def draws(page):
    """(map, points) with the same parameters for all events; the same for each bug."""
    question, rng = Question("page", page, DTYPE), np.random.default_rng(0)
    found = [question.drawn(RandomSource(rng)) for _ in range(DRAWS)]
    return [(f, p) for f, p in found if f.parameter_batch in ((), (1,)) and p.size_in]


def planted(sizes, k, interior):
    """k units in one entry of each event, or NaN at the first event that lies inside."""
    rows, only = np.arange(len(sizes)), np.zeros_like(sizes)
    if np.isnan(k):
        only[np.argmax(interior):][:1, :1] = np.nan
    elif sizes.size:
        entries = rows % sizes.shape[1]
        only[rows, entries] = k * np.where(np.isfinite(sizes), sizes, 0)[rows, entries]
    return only


def broken(law, f, p):
    """Does the law say that f breaks it?  An exception that the map raises does not count."""
    try:
        LAWS[law](f, p)
    except AssertionError as said:
        return ": raised " not in str(said)
    return False


@dataclass(frozen=True)
class Elsewhere:
    """A bug of k roundings in what is not an answer of a map: `value(k)` holds it, or `patched(k)` while the law is asked.

    Maps refuse NaN there, by themselves.
    """

    value: Callable
    patched: Callable = lambda k: contextlib.nullcontext()

    def found(self, law, k):
        f, rng = self.value(k), np.random.default_rng(0)
        event = tuple(f.dims.values())[:1] or (2,)
        z, x_bar = (rng.normal(size=(8, *shape)).astype(DTYPE) for shape in (event, f.output_shape(event)))
        with self.patched(k):
            return {type(f).__name__: np.isnan(k) or broken(law, f, Points(f, z, x_bar, z, x_bar[:, 0]))}


def rounded(k, dtype=DTYPE):
    """1, moved by k roundings."""
    return np.dtype(dtype).type(1 + k * np.finfo(dtype).eps / 2)


def with_methods(page, **methods):
    return type(page.__name__, (page,), methods)


def channels(k):
    return BatchNorm(*np.array([[0.5, -1.0], [2.0, 0.25]], DTYPE), gain=np.array([1, -2], DTYPE))


def variances_off(k):
    right = training.batch_statistics

    def off(*given):
        (mean, var), pullback = right(*given)
        return (mean, var * rounded(k)), pullback

    return patch.object(training, "batch_statistics", off)


def moved_off(k):
    right = laws.with_statistics

    def off(*given):
        made = right(*given)
        return made.replace(var=made.var * rounded(k))

    return patch.object(laws, "with_statistics", off)


def ratio_off(k):
    """In float64, as the law of it asks."""
    where = dataclasses.replace(sets.simplex, log_ratio=lambda x: (sets.simplex.log_ratio(x)[0] * rounded(k, "float64"), None))
    return with_methods(StickBreaking, codomain=where)()


def log_ratio_off(k):
    right = IntrinsicVolume.log_det
    return patch.object(IntrinsicVolume, "log_det", lambda self, z: right(self, z) * rounded(k))


def leaves_its_set(k):
    """The Jacobian in float64, whose first row is off."""
    def jacobian(self, z):
        return StickBreaking.jacobian(self, z) * np.array([rounded(k, "float64"), 1, 1])[:, None]

    return with_methods(StickBreaking, jacobian=jacobian)()


def deviations_off(k):
    def statistics(self, data, side):
        mean, deviation, e = ActNorm.statistics(self, data, side)
        return mean, deviation * rounded(k), e

    return with_methods(ActNorm, statistics=statistics)(np.ones(2, DTYPE))


def cast_off(k):
    def cast(self, dtype):
        return {key: (array * (1 + k * 2.0**-24)).astype(dtype) for key, array in Affine.cast(self, dtype).items()}

    return with_methods(Affine, cast=cast)(*np.array([[0.5, -1.0], [2.0, 0.25]], DTYPE))


def ends_off(k):
    def forward_and_log_det(self, z):
        x, log_det = KumaraswamyCDF.forward_and_log_det(self, z)
        return x / rounded(k), log_det

    return with_methods(KumaraswamyCDF, forward_and_log_det=forward_and_log_det)(np.float32(2), np.float32(3))


def complement_off(k):
    """In float32 alone: the law compares with float64."""
    def complement(self, z):
        q = NormalCDF.complement(self, z)
        return q * rounded(k) if z.dtype == DTYPE else q

    return with_methods(NormalCDF, complement=complement)()


BUGS = {
    "inverse of forward": Bug("z"),
    "forward of inverse": Bug("x again"),
    "a composition breaks where its steps do": Bug("z", SCALARS, dtypes=(DTYPE, "float64")),
    "monotone": Bug("x", ("Softplus", "Tanh", "Exp")),
    "log-det is the finite-difference determinant": Bug("log_det"),
    "log-det is slogdet of the Jacobian": Bug("log_det"),
    "inverse log-det is minus log-det": Bug("inverse log_det"),
    "fused is separate": Bug("x", where=asked_by("forward")),
    "jacobian is the derivative": Bug("jacobian"),
    "pullback is the transposed Jacobian": Bug("z_bar of x_bar"),
    "pullback is the gradient": Bug("params_bar", ("Affine", *VECTORS)),
    "Taylor remainder falls as h^2": Bug("z_bar"),
    "inverse pullback is the generic one": Bug("x_bar"),
    "batch is the stack of singles": Bug("x", where=in_a_batch),
    "cotangents sum over what broadcast": Bug("params_bar", ("Affine", *VECTORS), summed),
    "any layout": Bug("x", where=strided),
}
ELSEWHERE = {
    "the statistics of a batch are exact": Elsewhere(channels, variances_off),
    "moving statistics follow": Elsewhere(channels, moved_off),
    "another measure is refused": Elsewhere(lambda k: StickBreaking(), log_ratio_off),
    "the ratio of two measures is 1/2 log det T^T T": Elsewhere(ratio_off),
    "images move along the tangents of their set": Elsewhere(leaves_its_set),
    "initialisation is exact": Elsewhere(deviations_off),
    "ends are taken to ends": Elsewhere(ends_off),
    "the complement is what is left": Elsewhere(complement_off),
    "the same in another precision": Elsewhere(cast_off),
}
ROUGH = {
    "coordinates are independent": "tells coordinates from others, to 2^-6; their digits are slogdet's",
    "lower dimensions are left to their maps": "tells a dimension from another, to 2^-6; digits are slogdet's",
    "each stage is initialised on what it meets": "tells data from other data, to 2^-4; digits are `initialisation is exact`'s",
    "initialisation standardises": "tells mean 0 and variance 1 of huge data, to 2^-8; digits are `initialisation is exact`'s",
    "initialisation is settled": "data that are standardised again have moved by their own rounding",
    "gradients pass through the statistics of a batch": "finite differences in float64, to 1e-6",
    "mass is one": "an integral, to ten times its own error",
    "infinite events have the limits of the inverse matrix": "asks the signs of infinities",
    "sets are reached": "tells a set's map from another, to 2^-16; its digits are asked of its page",
}
EXACT = ("an inverse is the map read from the other side", "a chain refuses what a stage cannot take",
         "a composition is its steps in turn", "a composition has the parts of its ends", "a slope of 0 stays 0",
         "rounding makes no infinity", "composition", "infinite cotangents are limits",
         "infinite cotangents of hard cases are limits", "membership", "dtype is kept", "padding changes nothing",
         "nothing is mutated", "deterministic", "threads may share", "pickles",
         "one vector", "bad parameters are refused",
         "bad plain fields are refused", "constants fit the dtype", "refusals are named", "hard cases are accepted",
         "bad events are refused", "event shapes are those of the events", "parts fill the event",
         "initialisation refuses what it cannot standardise")


# -- the command ------------------------------------------------------------------------------------------------------

def sharpness(law) -> dict:
    """{"law", "units": {page: the smallest bug that is found}, "nan": pages that do not find theirs, "note"}."""
    bug, row = BUGS.get(law) or ELSEWHERE.get(law), {"law": law, "units": {}, "nan": [], "note": ROUGH.get(law, "")}
    if bug is None:
        return row | {"note": row["note"] or "exact"}
    for k in UNITS:
        row["units"] |= {page: k for page, found in bug.found(law, k).items() if found and page not in row["units"]}
        if len(row["units"]) == len(bug.found(law, 0)):
            break
    row["units"] = {page: row["units"].get(page) for page in bug.found(law, 0)}
    row["nan"] = [page for page, found in bug.found(law, np.nan).items() if not found]
    return row


def is_dull(row):
    """Has a law with units no page where it finds a bug of `SHARP` units, or none where it finds NaN?"""
    found = [k for k in row["units"].values() if k is not None]
    return bool(row["units"]) and (not found or min(found) > SHARP or len(row["nan"]) == len(row["units"]))


def line(row):
    """("1 to 4", "inverse of forward", the pages that find less than others)."""
    if not row["units"]:
        return "", row["law"], row["note"]
    found = [k or np.inf for k in row["units"].values()]
    least, most = (f"> {UNITS[-1]}" if np.isinf(k) else str(k) for k in (min(found), max(found)))
    duller = [page for page, k in row["units"].items() if (k or np.inf) > SHARP]
    notes = {"duller at": duller, "NaN is not found at": row["nan"]}
    note = "; ".join(f"{said} {', '.join(pages)}" for said, pages in notes.items() if pages)
    return least if least == most else f"{least} to {most}", row["law"], note


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.sharpness", description=__doc__.split("\n")[0])
    parser.add_argument("--law", nargs="+", default=list(LAWS), metavar="NAME", help="only these laws")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    if unknown := [law for law in chosen.law if law not in LAWS]:
        parser.error(f"there is no law {unknown[0]!r}")
    start, rows = time.perf_counter(), []
    for done, law in enumerate(chosen.law, 1):
        rows.append(sharpness(law))
        left = sweeps.time_left(time.perf_counter() - start, done, len(chosen.law))
        print(f"{done} of {len(chosen.law)} laws, {left}", file=sys.stderr, end="\r" if sys.stderr.isatty() else "\n", flush=True)
    dull = [row["law"] for row in rows if is_dull(row)]
    if chosen.json:
        print(json.dumps({"schema": SCHEMA, "laws": rows, "dull": dull}, indent=1))
    else:
        print(aligned([("units", "law", ""), *map(line, rows)]), *(f"DULL {law}" for law in dull), sep="\n")
    return 1 if dull else 0


if __name__ == "__main__":
    sys.exit(sweeps.run("validation.sharpness"))
