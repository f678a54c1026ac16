"""The certificate: how far every page is from the truth, in units of rounding, at points drawn from its declaration.

Pages of every kind are drawn from their declarations or, with components, by their own `examples`.  Every public method is
measured by itself: `forward` is not read from `vjp`.  From the worst point of each quantity a search climbs to worse ones
nearby (`climb`).

    python -m validation.certify                certify all pages; writes certificate.json and certificate.md
    python -m validation.certify --check        recompute the pages whose code changed since they were measured, and compare with
                                                the certificate
    --tenth                                     with --check: also a tenth of the other pages, another one every day
    --all                                       with --check: all pages
    python -m validation.certify --page Tanh    one page; writes nothing, or with --write only its rows of the certificate
    --climb N                                   N times as many steps of the search; writes nothing
    --json                                      print the certificate as JSON instead of a table
    --workers N, --scheduler ADDRESS            in so many processes, or on a Dask cluster

A run over all pages that is interrupted keeps its results in validation/unfinished; the next one goes on from there, if
nothing has changed.

The exit status is 1, and the failing rows are printed, if an error exceeds the allowance, a method raises or warns, or fewer
than half of a quantity's points are well conditioned: the unit of error would then hide defects.  With --check, also if an
error exceeds 1.1 times the recorded one on the same machine; on another machine only the allowance counts.

The truth of a quantity q is its value to 50 digits, derived from the page's `definition` alone (`refflow.truth`).  The unit
of error is u kappa: u is the unit roundoff of the dtype, and kappa = |q| + sum |dq/d input| |input| is how far q moves, to
first order, under relative changes of its inputs.  The certificate records C, the largest error in this unit.

kappa is first order.  If kappa, or the distance by which it lets the truth move, is off by more than an eighth from one
float of the event to the next, as where a distribution function is flat to within rounding, then a larger error makes the
quantity unsettled; an infinite error fails there too.  The Jacobian of a chain is also unsettled if the Jacobian of a stage has
a subnormal entry: the product has then lost its digits.
A quantity is also unsettled at a point where 44800 digits (6400 for float32) do not give its truth, or three doublings of the
digits gain nothing, as for derivatives that are ratios of numbers like exp(-10^50000).  There it must not be NaN, and at most
a tenth of a quantity's points may be unsettled.  The sweep over the binades ends where four points in a row have no truth
within reach.

The allowance is 4 units for a scalar map, 8 for an inverse found by a solver, and D/2 more for sums of up to D terms (D is the
longest axis of the event, its image, or a row of a network's matrices, or the number of `terms` that a page declares).  A page
may declare `allowed`, up to 16, with the proof in its docstring.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import platform
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy

from refflow import oracle
from refflow.accuracy.drawing import image_shape, neighbours
from refflow.accuracy.quantities import distinct, forward_quantities, inverse_quantities, truth_name
from refflow.cli import sweeps
from refflow.core import Conditioner, Value, tree
from refflow.core.registry import REGISTRY, of_kind
from refflow.maps import load_all
from refflow.oracle import CannotRun
from refflow.saving import read_value
from refflow.truth.ends import is_end, truth_at_end
from refflow.truth.engine import TruthNotFound
from refflow.truth.measure import ADAPTERS, claims_of_kind, compared, problem, truth_at_x, truth_at_z, truth_of_kind

from .points.branches import NEAR, branches_at
from .points.climb import climbed
from .points.drawn import BINADE, BREAK, Draw
from .points.kinds import GENERATORS
from .points.recorded import EXHAUSTIVE, encoded, exhaustive, number, percent, seen, written
from .records import reached, textbooks
from .records.calls import pasted, rounded
from .records.reached import EVERY, Trace, merged
from .records.unfinished import Unfinished

ORACLE = Path(oracle.__file__).parent
CERTIFICATE, TABLE = ORACLE / "certificate.json", Path(__file__).parent / "certificate.md"
DTYPES, SIDES = ("float64", "float32"), ("forward", "inverse")
WELL_CONDITIONED = 2.0**10                          # kappa/|q|
ROUNDED = 32                                        # in units of eps: how far a rounded break may lie from its own
LEAST_ALLOWED = 4.0                                 # units of any quantity
NOISE = 0.5                                         # recorded errors below this are not compared
SHOWN = 6                                           # numbers of an array in a failure's text
FAILURES = (ArithmeticError, ValueError, LookupError, TypeError, RuntimeWarning)
load_all()
PAGES = of_kind("bijector", *ADAPTERS)


# -- one page ---------------------------------------------------------------------------------------------------------

def sides(page):
    """Only bijectors have an inverse."""
    return SIDES if page.kind == "bijector" else SIDES[:1]


def points(page, dtype, side):
    """All points of one page, dtype and side, the same ones every time."""
    return GENERATORS.get(page.kind, Draw)(page, dtype, side).points()


def claims(point):
    """The page's answers at a point."""
    if point.f.kind in ADAPTERS:
        return claims_of_kind(point.f, point.event, point.image_bar)
    quantities = forward_quantities if point.side == "forward" else inverse_quantities
    return quantities(point.f, point.event, point.image_bar, point.log_det_bar)


def truth(point, claim=None):
    """{quantity: its truth}, without the unsettled ones; `claim` is the page's inverse, if it is known."""
    try:
        if point.f.kind in ADAPTERS:
            return truth_of_kind(point.f, point.event, point.image_bar)
        if is_end(point.f, point.side, point.event):
            return truth_at_end(problem(point.f), point.f, point.side, point.event, (point.image_bar, point.log_det_bar))
        if point.side == "forward":
            return truth_at_z(point.f, point.event, point.image_bar, point.log_det_bar)
        return truth_at_x(point.f, point.event, point.image_bar, point.log_det_bar, claim)
    except TruthNotFound as partly:
        return partly.settled


def errors(point, true=None, breaks=None, costs=None):
    """{quantity: (C, kappa/|q|)}, (None, None) where unsettled; a failure has an infinite error under its own name.

    `true` is the truth at the point, if it is known; `costs` learns it; `breaks` are those that are known to be right.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            given = distinct(claims(point))
            true = truth(point, given.get("inverse")) if true is None else true
            if costs is not None:
                costs.add(point, true)
            unsettled = {name: (np.inf if np.isnan(given[name]).any() else None, None) for name in given
                         if truth_name(name) not in true}
            found = compared(given, true, point.event.dtype)
            if point.f.kind in ("bijector", "conditioner", "scale"):
                beyond = [name for name, (C, _) in found.items() if LEAST_ALLOWED < C < np.inf and C > allowed(point, name)]
                excused = [name for name in beyond if not first_order(point, truth_name(name), true)
                           or name == "jacobian" and has_subnormal_slope(point)]
                unsettled |= dict.fromkeys(excused, (None, None))
            if point.f.kind == "bijector":
                found |= breaks_of(point, breaks)
            return by_field(found | unsettled)
        except FAILURES as failure:
            return {type(failure).__name__: (np.inf, 1.0)}


def explained(point, quantity):
    """What the page gives at a point where it fails, and what is true there; or the exception."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            given = distinct(claims(point))
            true = truth(point, given.get("inverse"))
        except FAILURES as failure:
            return f"raises {type(failure).__name__}: {failure}"
    found = {name: error for name, error in compared(given, true, point.dtype).items() if quantity in by_field({name: error})}
    if not found:
        return f"given {written_out(given[quantity])}, without a truth" if quantity in given else ""
    name = max(found, key=lambda name: found[name][0])
    return f"given {written_out(given[name])}, true {written_out([float(v.mid()) for v in true[truth_name(name)].value])}"


def written_out(numbers):
    """Numbers in as many digits as they need, the first few of many."""
    first = np.ravel(numbers)[:SHOWN].tolist()
    return f"{first[0]!r}" if np.size(numbers) == 1 else f"{first}{'' if np.size(numbers) <= SHOWN else ' ...'}"


def breaks_of(point, known=None):
    """{"breaks": C} at a break of a page that says where it breaks: 0 if its definition branches there, and nowhere else.

    A page whose breaks are computed says so by `rounded_breaks`.
    """
    if point.reason != BREAK or point.side != "forward":
        return {}
    near = ROUNDED * float(np.finfo(point.dtype).eps) if point.f.rounded_breaks else NEAR
    breaks = said_breaks(point.f)
    right = breaks == known or branches_at(problem(point.f), breaks, near)
    return {"breaks": (0.0 if right else np.inf, 1.0)}


def said_breaks(f):
    """The breaks of a page, each once; a NaN is not one."""
    numbers = np.unique(f.breaks())
    return numbers[~np.isnan(numbers)].tolist()


def nearby(point, unit=None):
    """The truths at the neighbouring floats, those that have one; `unit` is the eps of floats that the point's dtype is not."""
    for beside in neighbours(point, float(np.finfo(point.event.dtype).eps) if unit is None else unit):
        try:
            yield truth(beside)
        except TruthNotFound:
            continue


def first_order(point, name, true, unit=None, near=None):
    """Does kappa tell, within an eighth, how far the truth moves from an input to its neighbouring floats, and stay the same
    there?

    The truth itself may change by more than an eighth: passing through 0 does not cost it digits.  `near`: what `nearby`
    gives, if it is known.
    """
    eps, here = float(np.finfo(point.event.dtype).eps) if unit is None else unit, true[name]
    for there in nearby(point, unit) if near is None else near:
        beside = there.get(name)
        for q, q_near, kappa, kappa_near in zip(here.value, beside.value, here.kappa, beside.kappa) if beside else ():
            if abs(kappa_near - kappa) * 8 > kappa or abs(q_near - q) * 8 > kappa * eps * 9:
                return False
    return True


def has_subnormal_slope(point):
    """Is an entry of the Jacobian of one of a chain's stages subnormal, so that the product has few digits?"""
    event, tiny = point.event, np.finfo(point.event.dtype).tiny
    for stage in getattr(point.f, "stages", ()):
        size = np.abs(stage.jacobian(event))
        if np.any((size > 0) & (size < tiny)):
            return True
        event = stage.forward(event)
    return False


def by_field(found):
    """Cotangents of a component's parameters as one quantity: vjp.net_bar for vjp.net.layers.0.W_bar and all others."""
    groups = {}
    for quantity, error in found.items():
        groups.setdefault(textbooks.of_field(quantity), []).append(error)
    return {key: largest_error(errors) for key, errors in groups.items()}


def largest_error(errors):
    """(C, kappa/|q|), the largest of each; a NaN where there is no truth takes precedence, then unsettled values."""
    unsettled = [C for C, ratio in errors if ratio is None]
    if unsettled:
        return np.inf if np.inf in unsettled else None, None
    return tuple(map(max, zip(*errors)))


def allowed(point, quantity):
    """The largest C of a quantity at a point."""
    f, own = point.f, getattr(point.f, "allowed", None)
    own = own.get(quantity) if isinstance(own, dict) else own
    if own is not None:
        if own > 16:
            raise ValueError(f"{type(f).__name__}: the allowance must be at most 16")
        return float(own)
    image = image_shape(f, point.side, point.event.shape) if f.kind in ("bijector", "conditioner") else ()
    terms = getattr(f, "terms", 1)
    sizes = (*point.event.shape, *image, *row_lengths(f), *((terms,) if terms > 1 else ()))
    base = 8.0 if point.side == "inverse" and f.solver else LEAST_ALLOWED
    return base + max(sizes) / 2 if sizes else base


def row_lengths(value):
    """The lengths of the rows of all matrices of a value's networks."""
    networks = [part for _, part in tree.walk(value) if isinstance(part, Conditioner)]
    return [array.shape[-1] for network in networks for array in tree.arrays(network).values() if array.ndim > 1]


def certified(page, dtype, side, longer=1, trace=None, costs=None):
    """{quantity: row} of one page, dtype and side: the worst point, the share of well-conditioned ones; and how many points.

    `trace` learns which functions are reached, `costs` what the textbook gives.
    """
    rows, reach, count, right_breaks, trace = {}, Reach(), 0, {}, trace or Trace()
    for point in points(page, dtype, side):
        if reach.beyond(point):
            continue
        with trace.on(count % EVERY == 0 or bool(point.case or point.f.components())):
            found, count = errors(point, breaks=right_breaks.get(id(point.f)), costs=costs), count + 1
        reach.learn(point, found)
        if found.get("breaks", (np.inf,))[0] == 0:
            right_breaks[id(point.f)] = said_breaks(point.f)
        for quantity, (C, ratio) in found.items():
            rows.setdefault(quantity, Row()).add(point, quantity, C, ratio)
    climb(rows, f"{page.__name__} {dtype} {side}", longer)
    kept = {quantity: row for quantity, row in rows.items() if row.points or truth_name(quantity) == quantity}
    return {quantity: row.finished(quantity) for quantity, row in kept.items()}, count


def climb(rows, seed, longer):
    """Search on from the worst point of every quantity; a break moved to a nearby number tells nothing new."""
    def measure(point):
        return errors(point, breaks=said_breaks(point.f) if point.reason == BREAK else None)

    for start in {id(row.worst): row.worst for row in rows.values() if row.worst is not None}.values():
        aims = [quantity for quantity, row in rows.items() if row.worst is start]
        for point, found in climbed(start, measure, lambda point, found: excess(point, found, aims), seed, longer):
            for quantity in set(found) & set(rows):
                if found[quantity][0] is not None:
                    rows[quantity].keep(point, quantity, *found[quantity])


def excess(point, found, quantities):
    """The largest C of some quantities, in units of the allowance."""
    settled = [(q, found[q][0]) for q in quantities if found.get(q, (None,))[0] is not None]
    return max((C / allowed(point, q) for q, C in settled), default=0.0)


class Reach:
    """The range of the sweep over the binades: if a few points in a row have no truth, those further out have none."""

    FEW = 4

    def __init__(self):
        self.missed = {}

    def key(self, point):
        return bool(point.event < 0)

    def beyond(self, point):
        return point.reason.startswith(BINADE) and self.missed.get(self.key(point), 0) >= self.FEW

    def learn(self, point, found):
        if point.reason.startswith(BINADE):
            nothing = all(C is None for C, _ in found.values())
            self.missed[self.key(point)] = self.missed.get(self.key(point), 0) + 1 if nothing else 0


class Row:
    """The record of one quantity: counts its points and keeps the worst."""

    def __init__(self):
        self.points = self.unsettled = self.well_conditioned = 0
        self.excess, self.worst, self.example = -1.0, None, None
        self.C, self.allowed, self.kappa_over_q = np.inf, 0.0, None         # a quantity of which nothing is known fails

    def add(self, point, quantity, C, ratio):
        if C is None:
            self.unsettled, self.example = self.unsettled + 1, point
            return
        self.points += 1
        rounded_zero = quantity.endswith("log_det") and getattr(point.f, "unit_determinant", False)     # has no digits
        self.well_conditioned += bool(rounded_zero or ratio is not None and ratio <= WELL_CONDITIONED)
        self.keep(point, quantity, C, ratio)

    def keep(self, point, quantity, C, ratio):
        if C / LEAST_ALLOWED <= self.excess:
            return
        limit = allowed(point, quantity)
        if C / limit > self.excess:
            self.excess, self.C, self.allowed, self.kappa_over_q, self.worst = C / limit, C, limit, ratio, point

    def finished(self, quantity):
        """The row as JSON; of one that fails, also what the page gives, in words."""
        found = {"C": rounded(self.C), "allowed": self.allowed, "points": self.points, "unsettled": self.unsettled,
                 "share": round(self.well_conditioned / max(self.points, 1), 3),
                 "kappa_over_q": rounded(self.kappa_over_q or 1.0), "worst": encoded(self.worst or self.example)}
        fails = self.worst is not None and not self.C <= self.allowed
        return found | ({"why": f"{case_of(self.worst)}{explained(self.worst, quantity)}"} if fails else {})


def case_of(point):
    return f"{point.case}, {point.reason}: " if point.case else ""


# -- all pages --------------------------------------------------------------------------------------------------------

@functools.cache
def fingerprint():
    """The versions and hardware on which the last digits may depend."""
    blas = np.show_config(mode="dicts")["Build Dependencies"]["blas"]
    simd = np.show_config(mode="dicts")["SIMD Extensions"]
    return {"machine": f"{platform.system()} {platform.machine()}, {processor()}", "numpy": np.__version__,
            "simd": " ".join(simd.get("baseline", []) + simd.get("found", [])), "python": platform.python_version(),
            "scipy": scipy.__version__, "blas": f"{blas['name']} {blas['version']}"}


def processor():
    """Its name, family and model: BLAS chooses its kernels by these, and sums in another order."""
    cpuinfo = Path("/proc/cpuinfo")
    pairs = (line.partition(":")[::2] for line in cpuinfo.read_text().splitlines()) if cpuinfo.exists() else ()
    first = {}
    for key, value in pairs:
        first.setdefault(key.strip(), value.strip())
    if "model name" not in first:
        return platform.processor()
    return ", ".join([first["model name"], *(f"{key} {first[key]}" for key in ("cpu family", "model") if key in first)])


@dataclass(frozen=True)
class Done:
    """What a task gives, as plain data."""

    rows: dict                          # what `certified` gives
    points: int
    costs: dict                         # of the textbook
    reached: dict                       # the functions that were reached
    seconds: float
    where: dict                         # the fingerprint of the machine


def task(name, dtype, side, longer=1):
    start, trace, costs = time.perf_counter(), Trace(), textbooks.Costs(PAGES[name])
    rows, count = certified(PAGES[name], dtype, side, longer, trace, costs)
    return Done(rows, count, costs.finished(dtype), trace.functions(), time.perf_counter() - start, fingerprint())


def certificate(names, sweep, results, keep, longer=1):
    """The whole document: tasks that are not among `results` run, and `keep` adds what they give; progress goes to stderr."""
    tasks = [(name, dtype, side) for dtype in DTYPES for name in names for side in sides(PAGES[name])]  # the short ones last
    waiting, start = [key for key in tasks if key not in results], time.perf_counter()
    found = sweep.results(functools.partial(task, longer=longer), sweeps.each_of(waiting))
    for done, (key, one) in enumerate(found, 1):
        if one.where != fingerprint():
            raise CannotRun(f"a certificate is of one machine, and {' '.join(key)} was computed on another: {one.where}")
        keep(key, vars(one))
        elapsed = time.perf_counter() - start
        print(f"{len(tasks) - len(waiting) + done}/{len(tasks)} {' '.join(key)}: {one.points} points in {one.seconds:.1f} s, "
              f"{elapsed:.0f} s in all, {sweeps.time_left(elapsed, done, len(waiting))}", file=sys.stderr, flush=True)
    pages, counts, costs_of, functions_of = ({name: {} for name in names} for _ in range(4))
    for name, dtype, side in tasks:
        one = Done(**results[name, dtype, side])
        counts[name].setdefault(dtype, {})[side] = one.points
        costs_of[name].setdefault(dtype, {}).update(one.costs)
        functions_of[name] = merged([functions_of[name], one.reached])
        for quantity, row in one.rows.items():
            pages[name].setdefault(quantity, {})[dtype] = row
    return {"schema": "refflow/certificate/2", "fingerprint": fingerprint(), "elsewhere": {}, "points": counts, "pages": pages,
            "reached": functions_of, "textbooks": {name: costs for name, costs in costs_of.items() if PAGES[name].textbook}}


def identity():
    """All that a certificate depends on."""
    recorded = hashlib.sha256(EXHAUSTIVE.read_bytes()).hexdigest() if EXHAUSTIVE.exists() else None
    return {"code": sweeps.digest(sweeps.PACKAGE, Path(__file__).parent), "exhaustive": recorded, "machine": fingerprint()}


def certificate_of(names, workers, scheduler, longer=1):
    """The whole document; of all pages, with the usual number of steps, one that goes on from a run that was interrupted."""
    with sweeps.sweep(workers, scheduler) as sweep:
        if len(names) == 1 or longer > 1:
            results = {}
            return certificate(names, sweep, results, results.__setitem__, longer)
        unfinished = Unfinished("certify", identity())
        document = certificate(names, sweep, unfinished.results, unfinished.add)
        unfinished.finish()
        return document


def with_rows(recorded, found):
    """The recorded certificate with pages of another one added or replaced; pages of another machine say so."""
    merged = {key: recorded[key] | found[key] for key in ("points", "pages")}
    elsewhere = {name: made_on(recorded, name) for name in recorded["pages"]} | dict.fromkeys(found["pages"], found["fingerprint"])
    elsewhere = {name: machine for name, machine in sorted(elsewhere.items()) if machine != recorded["fingerprint"]}
    return recorded | {key: {name: merged[key][name] for name in sorted(merged[key])} for key in merged} | {"elsewhere": elsewhere}


def made_on(document, name):
    """The fingerprint of the machine on which the rows of a page were made: of most pages, the document's own."""
    return document.get("elsewhere", {}).get(name, document["fingerprint"])


def rows_of(document):
    return [(name, quantity, dtype, row) for name, quantities in document["pages"].items()
            for quantity, dtypes in quantities.items() for dtype, row in dtypes.items()]


def failures(document, names, recorded=None):
    """[reason] for everything that a certificate may not contain, with the input to paste."""
    found = [f"{name}: missing" for name in names if not document["pages"].get(name)]
    for name, quantity, dtype, row in rows_of(document):
        same = recorded is not None and made_on(recorded, name) == document["fingerprint"]
        where, C = f"{name} {dtype} {quantity}: ", float(row["C"])
        if not C <= row["allowed"]:
            found.append(f"{where}C = {row['C']} > {row['allowed']} allowed, kappa/|q| = {row['kappa_over_q']}\n"
                         f"    {pasted(name, dtype, row['worst'])}" + (f"\n    {row['why']}" if row.get("why") else ""))
        if row["unsettled"] > (row["points"] + row["unsettled"]) / 10:
            found.append(f"{where}no truth at {row['unsettled']} points")
        alone = truth_name(quantity) == quantity            # a fused value is measured only if it differs from the separate one
        if alone and row["share"] < 0.5:
            found.append(f"{where}only {row['share']:.0%} of its {row['points']} points have kappa/|q| <= 2^10")
        before = recorded and recorded["pages"].get(name, {}).get(quantity, {}).get(dtype)
        if recorded and alone and not before:
            found.append(f"{where}not in the certificate")
        elif same and before and C > 1.1 * max(float(before["C"]), NOISE):
            found.append(f"{where}C = {row['C']}, recorded {before['C']}\n    {pasted(name, dtype, row['worst'])}")
    here = {name: costs for name, costs in document.get("textbooks", {}).items() if recorded and made_on(recorded, name) == fingerprint()}
    return found + textbooks.changed(here, textbooks.stored())


# -- what is printed --------------------------------------------------------------------------------------------------

def on(machine):
    """A machine's fingerprint as a sentence."""
    return (f"{machine['machine']}. NumPy {machine['numpy']}, SciPy {machine['scipy']}, Python {machine['python']}, "
            f"{machine['blas']}. SIMD: {machine['simd']}.")


def table(document):
    """The certificate as a table to read; generated."""
    counts = {dtype: sum(sum(by_dtype[dtype].values()) for by_dtype in document["points"].values()) for dtype in DTYPES}
    lines = [
        "# Certificate", "",
        "Generated by `python -m validation.certify`. C is the largest error over the points, in units of rounding u times",
        "kappa = |q| + sum |dq/d input| |input|, against a truth of 50 digits; share is the part of the points with",
        "kappa <= 2^10 |q|; unsettled counts points whose truth is out of reach; a value that a fused method returns has a row",
        "where it differs from the value alone. The worst inputs are exact, and call `validation.measure.measure`.", "",
        f"Machine: {on(document['fingerprint'])}", "",
        *(line for name, machine in document["elsewhere"].items() for line in (f"{name} was measured on {on(machine)}", "")),
        "Points: " + ", ".join(f"{counts[dtype]} {dtype}" for dtype in DTYPES) + ".", "",
        "Of float32, `sweep` is the largest C that `python -m validation.exhaustive` has found, and in parentheses the share of all",
        "numbers that it has seen: only 100% is exhaustive.", "",
        "| page | quantity | dtype | C | sweep | allowed | share | unsettled | worst input |",
        "|---|---|---|---:|---:|---:|---:|---:|---|"]
    swept = {name: seen(entry) for name, entry in exhaustive().items()}
    for name, quantity, dtype, row in rows_of(document):
        C, part = swept.get(name, {}).get(quantity, (None, None)) if dtype == "float32" else (None, None)
        whole = "" if C is None else f"{C:.3g} ({percent(part)})"
        worst = pasted(name, dtype, row["worst"])
        shown = f"`{worst}`" if len(worst) <= 220 else "see certificate.json"
        lines.append(f"| {name} | {quantity} | {dtype} | {row['C']} | {whole} | {row['allowed']:g} | {row['share']:.0%} | "
                     f"{row['unsettled']} | {shown} |")
    return "\n".join(lines) + "\n"


def summary(document):
    """The table for a terminal, one line for each page, quantity and dtype."""
    lines = [f"{'page':26}{'quantity':34}{'dtype':9}{'C':>9}{'allowed':>9}{'share':>7}"]
    for name, quantity, dtype, row in rows_of(document):
        mark = "" if float(row["C"]) <= row["allowed"] and row["share"] >= 0.5 else "  <--"
        lines.append(f"{name:26}{quantity[:33]:34}{dtype:9}{row['C']:>9}{row['allowed']:>9g}{row['share']:>7.0%}{mark}")
    return "\n".join(lines)


def as_json(document):
    """One line for each row."""
    pages = [f'"{name}": {{\n' + ",\n".join(f'"{q}": {json.dumps(row)}' for q, row in quantities.items()) + "}"
             for name, quantities in document["pages"].items()]
    head = json.dumps({key: value for key, value in document.items() if key not in ("pages", "reached", "textbooks")})
    return head[:-1] + ',\n"pages": {\n' + ",\n".join(pages) + "}}\n"


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.certify", description="The error of every page.")
    parser.add_argument("--check", action="store_true", help="compare with the certificate that is checked in")
    parser.add_argument("--tenth", action="store_true", help="with --check: also a tenth of the pages that did not change")
    parser.add_argument("--all", action="store_true", help="with --check: all pages")
    parser.add_argument("--page", choices=sorted(PAGES), help="one page only")
    parser.add_argument("--write", action="store_true", help="with --page: write its rows into the certificate")
    parser.add_argument("--climb", type=int, default=1, metavar="N", help="N times as many steps of the search; writes nothing")
    parser.add_argument("--json", action="store_true", help="print JSON")
    sweeps.add_options(parser, os.cpu_count())
    chosen = parser.parse_args(arguments)
    if chosen.climb < 1 or chosen.climb > 1 and (chosen.check or chosen.write):
        parser.error("--climb takes a number from 1 on, and neither --check nor --write: the certificate is of one search")
    names, start = [chosen.page] if chosen.page else sorted(PAGES), time.perf_counter()
    recorded = json.loads(CERTIFICATE.read_text()) if chosen.check else None
    if chosen.check and not (chosen.page or chosen.all):
        names = to_ask(names, recorded, chosen.tenth)
    document = certificate_of(names, chosen.workers, chosen.scheduler, chosen.climb)
    failed = failures(document, names, recorded)
    print(as_json(document) if chosen.json else summary(document))
    print(f"{time.perf_counter() - start:.0f} s", file=sys.stderr)
    for reason in failed:
        print(f"FAILED {reason}", file=sys.stderr if chosen.json else sys.stdout)
    if not chosen.check and chosen.climb == 1 and (chosen.write or not chosen.page):
        if failed and chosen.page:
            print("nothing is written: its rows fail", file=sys.stderr)
        else:
            write(document, chosen.page)
    return 1 if failed else 0


def to_ask(names, recorded, tenth=False):
    """The pages whose rows are not of this code, and, if it is wanted, a tenth of the others; says so on stderr."""
    new = {name for name in names if name not in recorded["pages"]} | set(reached.changed(names))
    turn = set(reached.in_turn(set(names) - new)) if tenth else set()
    elsewhere = sum(made_on(recorded, name) != fingerprint() for name in names)
    print(f"{len(new) + len(turn)} of {len(names)} pages are asked: {len(new)} whose code changed since they were measured, and "
          f"{len(turn)} of the others" + (", as every day a tenth" if tenth else ""), file=sys.stderr)
    if elsewhere:
        print(f"{elsewhere} of {len(names)} pages were measured on another machine: of them only the allowance counts", file=sys.stderr)
    return [name for name in names if name in new | turn]


def write(document, page=None):
    """The certificate, its table and what it depends on; of one page, its rows among those that are checked in."""
    reached.write(document["reached"])
    textbooks.write(document["textbooks"], [name for name in PAGES if PAGES[name].textbook])
    document = with_rows(json.loads(CERTIFICATE.read_text()), document) if page else document
    written(CERTIFICATE, as_json(document))
    written(TABLE, table(json.loads(as_json(document))))


if __name__ == "__main__":
    sys.exit(sweeps.run("validation.certify"))
