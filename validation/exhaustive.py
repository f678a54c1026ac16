"""The float32 events of the scalar pages, all of them or a part, compared with the page's own float64.

    python -m validation.exhaustive                     all such pages, for ten minutes
    python -m validation.exhaustive Tanh Softplus       only these pages
    --budget SECONDS    how long to run; the passes done are recorded, and the next run continues from there
    --workers N, --scheduler ADDRESS    in so many processes, or on a Dask cluster
    --json              the recorded results of the pages as JSON, without running

Float32 has 2^32 numbers.  They are taken in 2^18 passes of 2^14, each spread evenly over all of them, so that a
run that is cut off has seen every n-th number.  Every pass measures values, log-dets and slopes, also at the floats next to
its worst events, since rounding errors change from float to float.  The first 2^12 passes, which see every 64th number, also
measure cotangents: of the image alone, of the log-det alone, and both, in turn.  Certified events are
the events up to 2^126 inside the open set.  A page with parameters is measured at three sets of parameters: one moderate,
two wide.

The reference is float64, whose own certified error is 2^-29 of a unit of float32; kappa comes from the page's derivatives.
The largest errors are measured again against the truth of 50 digits, and become points of the certificate, so that
`certify --check` sees them.  The results are stored in exhaustive.json, and in a column of certificate.md.

The exit status is 1 if an error exceeds the certificate's allowance.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import sys
import time

import numpy as np

from refflow.accuracy.drawing import SIDES, Point, example, has_examples, plain_choices, set_of
from refflow.accuracy.kappa import per_event, value_and_log_det
from refflow.accuracy.quantities import distinct, forward_quantities, inverse_quantities, truth_name
from refflow.cli import sweeps
from refflow.core import RandomSource, has_components
from refflow.core.declarations import Field
from refflow.oracle.points.page_points import LETTER, LOG_DET, VALUE, VJP, drawn_bijector, run_time_truth, truth_of

from .certify import PAGES, allowed, errors, fingerprint
from .mutants.mutations import Source
from .points.drawn import EVENTS, PARAMETERS
from .points.recorded import EXHAUSTIVE, EXHAUSTIVE_SCHEMA, PASSES, decoded, encoded, exhaustive, percent, seen, written

WITH_COTANGENTS = PASSES // 64                      # passes
SPREADS = (2, 4, PARAMETERS["float32"])             # of the three sets of parameters
ENTRIES = 3                                         # entries of fields that are vectors
SAVE_EVERY = 60.0                                   # seconds: a killed run loses at most this much
NEIGHBOURS = 2**9                                   # floats on either side of a worst event
KEPT = 3                                            # candidates for each quantity, some of which may turn out unsettled
FLOAT32 = np.dtype(np.float32)


# -- measuring --------------------------------------------------------------------------------------------------------

def scalar_pages() -> list[str]:
    """Scalar bijectors without components."""
    return [name for name, page in PAGES.items()
            if page.kind == "bijector" and page.event_ndim == (0, 0) and not has_components(page)]


@functools.cache
def values_of(page) -> list:
    """The page with its recorded sets of parameters; one value if it has none."""
    source = RandomSource(np.random.default_rng(list(hashlib.sha256(page.__name__.encode()).digest())))
    if has_examples(page):
        return [example(page, source, FLOAT32)[0] for _ in SPREADS]
    trained = any(isinstance(declared, Field) for declared in page.declared.values())
    spreads, plain = SPREADS if trained else SPREADS[:1], plain_choices(page)
    return [drawn_bijector(page, FLOAT32, source, ENTRIES, spread, given) for given in plain for spread in spreads]


def events_of(f, side, number):
    """The certified events of a pass."""
    start = int(f"{number:0{PASSES.bit_length() - 1}b}"[::-1], 2)    # bits reversed: the first passes are spread evenly too
    return certified(f, side, np.arange(start, 2**32, PASSES))


def neighbours(f, side, found):
    """The certified events around the worst ones."""
    worst_events = np.unique(np.array([rows[0][1] for rows in found.values()], FLOAT32)).view(np.uint32)
    bits = (worst_events.astype(np.int64)[:, None] + np.arange(-NEIGHBOURS, NEIGHBOURS + 1)).ravel()
    return certified(f, side, np.unique(bits[(bits >= 0) & (bits < 2**32)]))


def certified(f, side, bits):
    """The certified events among the floats with these bits."""
    events = bits.astype(np.uint32).view(FLOAT32)
    with np.errstate(invalid="ignore"):
        inside = np.abs(events) <= 2.0 ** EVENTS["wide"]["float32"][1]
    events = events[inside]
    return events[set_of(f, side).members(events, 0)]


def measured(name, index, side, number):
    """({quantity: [(C, event, cotangents)]}, the number of events, the seconds) of one pass."""
    start, f = time.perf_counter(), values_of(PAGES[name])[index]
    events = events_of(f, side, number)
    found = of_values(f, side, events) if len(events) else {}
    if found:
        for quantity, rows in of_values(f, side, neighbours(f, side, found)).items():
            found[quantity] = sorted({*found[quantity], *rows}, key=lambda row: -row[0])[:KEPT]
    if found and number < WITH_COTANGENTS:
        found |= of_cotangents(f, side, events, number)
    return found, len(events), time.perf_counter() - start


@np.errstate(all="ignore")
def of_values(f, side, events):
    """Values, log-dets and slopes, from each method that returns them."""
    g, z = per_event(f, events, SIDES[side])
    image, log_det = value_and_log_det(g, z, VJP[side], False)
    u = float(np.finfo(FLOAT32).eps) / 2
    slope = np.abs(image.slopes["event"][..., 0, 0])
    kappa = {VALUE[side]: image.kappa[..., 0], LOG_DET[side]: log_det.kappa[..., 0],
             "jacobian": slope * (1 + log_det.kappa[..., 0] - np.abs(log_det.value[..., 0]))}
    true = {VALUE[side]: image.value[..., 0], LOG_DET[side]: log_det.value[..., 0], "jacobian": image.slopes["event"][..., 0, 0]}
    found = {}
    for quantity, given in distinct((forward_quantities if side == "forward" else inverse_quantities)(f, events)).items():
        named = truth_name(quantity)
        truth = truth_of(true[named], kappa[named], u, 1, False)
        found[quantity] = worst(truth, np.reshape(given, events.shape), events)
    return found


def of_cotangents(f, side, events, number):
    """All cotangents, where each event has its own parameters."""
    rng = np.random.default_rng([number, SIDES[side]])
    spread = PARAMETERS["float32"] if number % 2 else 4
    bars = [np.ldexp(rng.uniform(1, 2, len(events)) * rng.choice([-1, 1], len(events)), rng.integers(-spread, spread, len(events)))
            for _ in range(2)]
    image_bar, log_det_bar = ((bar * (np.arange(len(events)) % 3 != i)).astype(FLOAT32) for i, bar in enumerate(bars))
    fields = {key: getattr(f, key) for key, declared in f.declared.items()
              if isinstance(declared, Field) and getattr(f, key) is not None}
    each = f.replace(**{key: np.broadcast_to(value, (len(events), *np.shape(value))) for key, value in fields.items()})
    point = Point(each, side, events, image_bar, log_det_bar)
    truths = run_time_truth(point, derivatives=True)
    given = (forward_quantities if side == "forward" else inverse_quantities)(each, events, image_bar, log_det_bar)
    names = [name for name in given if name.startswith(VJP[side] + ".") and name.endswith("_bar")]
    return {name: worst(truths[name], given[name], events, (image_bar, log_det_bar)) for name in names}


def worst(truth, given, events, bars=None):
    """The largest errors of one quantity: [(C, event, cotangents)]."""
    C = np.where(truth.known(), truth.error(given, FLOAT32), 0).reshape(len(events), -1).max(-1)
    first = np.argsort(-C, kind="stable")[:KEPT]
    return [(float(C[i]), float(events[i]), None if bars is None else tuple(float(bar[i]) for bar in bars)) for i in first]


# -- recording --------------------------------------------------------------------------------------------------------
#
# {page: [{"params", "forward": {"passes", "events", "seconds", "rows"}, "inverse": the same}]}, one for each set.

def write(pages):
    ordered = {name: pages[name] for name in sorted(pages)}
    body = ",\n".join(f'"{name}": {json.dumps(sets)}' for name, sets in ordered.items())
    written(EXHAUSTIVE, f'{{"schema": "{EXHAUSTIVE_SCHEMA}", "fingerprint": {json.dumps(fingerprint())}, "pages": {{\n{body}}}}}\n')


def started(name):
    """The entry of a page before its first pass."""
    return [{"params": encoded(Point(f, "forward", np.zeros((), FLOAT32)))["params"],
             **{side: {"passes": 0, "events": 0, "seconds": 0.0, "rows": {}} for side in SIDES}} for f in values_of(PAGES[name])]


def current(name, recorded):
    """The recorded entry of a page, or a new one if its source or its parameters have changed."""
    entry, new = recorded.get(name), started(name)
    same = entry and [s["params"] for s in entry] == [s["params"] for s in new] and entry[0].get("source") == source(name)
    new[0]["source"] = source(name)
    return entry if same else new


def source(name):
    """The identity of a page: a digest of its module's code, whatever its prose says."""
    return Source(PAGES[name]).identity()


def keep(record, found, count, seconds):
    """Adds a pass to the record; its candidates are not yet measured against the truth."""
    record["passes"] += 1
    record["events"] += count
    record["seconds"] = round(record["seconds"] + seconds, 3)
    for quantity, candidates in found.items():
        kept = record["rows"].setdefault(quantity, [])
        kept += [{"C": C, "event": event.hex(), "bars": bars and [b.hex() for b in bars]} for C, event, bars in candidates]
        kept.sort(key=lambda row: -row["C"])
        del kept[KEPT:]


def settle(name, index, side, record):
    """Measures each candidate against the truth of 50 digits: its `true` C, or None if unsettled; also stores it as a point."""
    for quantity, rows in record["rows"].items():
        for row in rows:
            if "true" not in row:
                point = point_of(name, index, side, row)
                C, _ = errors(point).get(quantity, (None, None))
                row["true"], row["point"] = C if C is None else float(f"{C:.3g}"), encoded(point)


def point_of(name, index, side, row):
    bars = [None, None] if row["bars"] is None else [FLOAT32.type(float.fromhex(b)) for b in row["bars"]]
    event = np.asarray(float.fromhex(row["event"]), FLOAT32)
    return Point(values_of(PAGES[name])[index], side, event, *map(as_array, bars), "", "")


def as_array(bar):
    return None if bar is None else np.asarray(bar)


# -- running ----------------------------------------------------------------------------------------------------------

class Passes:
    """The next pass: the first sets of all pages, then the second ones, then of the page that has had the least time, in order,
    so that a killed run leaves no gap.
    """

    def __init__(self, records, until):
        self.records, self.until, self.running = records, until, set()

    def following(self):
        """(name, the number of its parameters, side, the number of the pass), or None if none can begin now."""
        open_passes = [key for key, record in self.records.items() if record["passes"] < PASSES and key not in self.running]
        if not open_passes or time.monotonic() > self.until:
            return None
        key = min(open_passes, key=self.order)
        self.running.add(key)
        return *key, self.records[key]["passes"]

    def order(self, key):
        record = self.records[key]
        begun = record["passes"] > 0
        return begun, 0 if begun else key[1], record["seconds"], record["passes"]


def run(names, budget, sweep, show):
    """Passes, until the budget is used up or all passes are done; an interrupted run is recorded too."""
    pages = exhaustive()
    pages |= {name: current(name, pages) for name in names}
    start = time.monotonic()
    records = {(name, i, side): one[side] for name in names for i, one in enumerate(pages[name]) for side in SIDES}
    passes, begun, saved = Passes(records, start + budget), total_of(records), start
    try:
        for (*key, _), found in sweep.results(measured, passes.following):
            keep(records[tuple(key)], *found)
            passes.running.remove(tuple(key))
            if time.monotonic() - saved > SAVE_EVERY:
                save(names, pages)
                saved = time.monotonic()
            show(total_of(records), begun, len(records) * PASSES, time.monotonic() - start, budget)
    finally:
        save(names, pages)
    return {name: pages[name] for name in names}


def total_of(records):
    """All passes that are recorded."""
    return sum(record["passes"] for record in records.values())


def save(names, pages):
    """Write the results of some pages, with their candidates settled, and keep the records of the others."""
    for name in names:
        for i, one in enumerate(pages[name]):
            for side in SIDES:
                settle(name, i, side, one[side])
    write(pages | {name: entry for name, entry in exhaustive().items() if name not in names})


class Progress:
    """A line to stderr: always on a terminal, else every half minute."""

    def __init__(self):
        self.last = 0.0

    def __call__(self, done, begun, total, seconds, budget):
        if time.monotonic() - self.last < (0.2 if sys.stderr.isatty() else 30):
            return
        self.last = time.monotonic()
        left = sweeps.time_left(seconds, done - begun, total - begun)
        print(f"exhaustive: {done} of {total} passes, {seconds:.0f} of {budget:.0f} s; {left} for all of them",
              file=sys.stderr, end="\r" if sys.stderr.isatty() else "\n", flush=True)


def failures(pages) -> list[str]:
    """Errors beyond the allowance."""
    found = []
    for name, entry in pages.items():
        for one in entry:
            for side in SIDES:
                for quantity, rows in one[side]["rows"].items():
                    for row in (row for row in rows if row.get("true") is not None):
                        point = decoded(PAGES[name], FLOAT32, row["point"], "")
                        if not row["true"] <= allowed(point, quantity):
                            found.append(f"{name} {quantity}: C = {row['true']} > {allowed(point, quantity):g} allowed, of {point.f!r} "
                                         f"at {LETTER[side]} = {float(point.event)!r}")
    return found


def table(pages) -> str:
    lines = [f"{'page':26}{'quantity':34}{'C':>9}{'seen':>10}"]
    for name, entry in pages.items():
        lines += [f"{name:26}{quantity[:33]:34}{C:>9.3g}{percent(share):>10}" for quantity, (C, share) in seen(entry).items()]
    return "\n".join(lines)


def main(arguments=None) -> int:
    names = scalar_pages()
    parser = argparse.ArgumentParser(prog="python -m validation.exhaustive", description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help="scalar pages; by default all of them")
    parser.add_argument("--budget", type=float, default=600.0, metavar="SECONDS", help="how long to run (600)")
    sweeps.add_options(parser, os.cpu_count())
    parser.add_argument("--json", action="store_true", help="print the recorded results as JSON, without running")
    chosen = parser.parse_args(arguments)
    for name in chosen.pages:
        if name not in names:
            parser.error(f"{name} is not a scalar page; the scalar pages are {', '.join(names)}")
    names = chosen.pages or names
    if chosen.json:
        recorded = exhaustive()
        pages = {name: recorded[name] for name in names if name in recorded}
        print(json.dumps(pages, indent=1))
    else:
        with sweeps.sweep(chosen.workers, chosen.scheduler) as sweep:
            pages = run(names, chosen.budget, sweep, Progress())
        print(table(pages))
    failed = failures(pages)
    for reason in failed:
        print(f"FAILED {reason}", file=sys.stderr if chosen.json else sys.stdout)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(sweeps.run("validation.exhaustive"))
