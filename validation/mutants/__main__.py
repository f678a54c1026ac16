"""Mutants: how many small mistakes in a page golden points, certificate and laws find.

    python -m validation.mutants                judge what is not judged yet, of all pages
    python -m validation.mutants Tanh Exp       of these
    --budget SECONDS                            stop after so long; the next run goes on from there
    --workers N, --scheduler ADDRESS            so many pages at a time, in processes or on a Dask cluster
    --again {all,alive}                         judge anew what is recorded too, or only what was not killed
    --json                                      print JSON instead of a table

Verdicts are recorded in validation/mutants/records, a file for each page, which is stale when the code of the page changes.
Exit status 1 where less than 99 % of the mutants of these pages that are not equivalent are killed, or some are not judged.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time

from refflow.cli import sweeps
from validation.certify import PAGES, written

from .judging import Bench
from .records import RECORDS, TABLE, TARGET, Record, document, recorded_table, rows_of, score, summary

EVERY = 20                          # seconds between two saves of a page, and two words about it


def judge(name, deadline, directory=RECORDS):
    """Judge the mutants of one page until the deadline, by the clock; (judged now, seconds, what is recorded then)."""
    record, start = Record(name, directory), time.time()
    waiting = record.unjudged()
    if not waiting or start > deadline:
        return 0, 0.0, record.found()
    bench, told, done = Bench(PAGES[name]), time.time(), 0
    record.aside = {stage: count for stage, count in bench.aside.items() if count}
    gc.freeze()                     # forks need not copy what a collection would touch
    try:
        for mutant in waiting:
            if time.time() > deadline:
                break
            record.add(mutant, bench.verdict(record.source, mutant))
            done += 1
            if time.time() - told > EVERY:
                told = time.time()
                record.save()
                tell(f"{name}: {done}/{len(waiting)}, {sweeps.time_left(told - start, done, len(waiting))} for this page")
    finally:                        # an interrupted run is gone on with, too
        record.save()
        gc.unfreeze()
    return done, time.time() - start, record.found()


def judge_all(names, deadline, sweep):
    """All pages, some at a time; a worker saves as it goes, and what it found is merged here if its disk is another."""
    todo = {name: len(Record(name).unjudged()) for name in names}
    total, done, start = sum(todo.values()), 0, time.monotonic()
    waiting = sweeps.each_of((name, deadline) for name in names if todo[name])
    for (name, _), (judged, seconds, found) in sweep.results(judge, waiting):
        Record(name).merge(found)
        done += judged
        tell(f"{name}: {judged} mutants in {seconds:.0f} s; {done}/{total} in all, "
             f"{sweeps.time_left(time.monotonic() - start, done, total)}")


def tell(text):
    print(text, file=sys.stderr, flush=True)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("page", nargs="*", metavar="PAGE", help="these pages only")
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS", help="stop after so long")
    sweeps.add_options(parser)
    parser.add_argument("--again", choices=("all", "alive"), help="judge anew what is recorded too, or what was not killed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    unknown = [name for name in chosen.page if name not in PAGES]
    if unknown:
        parser.error(f"no page is called {unknown[0]!r}")
    names = chosen.page or list(PAGES)
    for name in names if chosen.again else ():
        Record(name).forget(chosen.again == "alive")
    with sweeps.sweep(chosen.workers, chosen.scheduler) as sweep:
        judge_all(names, time.time() + chosen.budget, sweep)
    records = [Record(name) for name in names]
    rows, unjudged = rows_of(records), sum(len(record.unjudged()) for record in records)
    written(TABLE, recorded_table())
    print(json.dumps(document(rows, unjudged), indent=1) if chosen.json else summary(rows, unjudged))
    return 0 if score(rows) >= TARGET and not unjudged else 1


if __name__ == "__main__":
    sys.exit(sweeps.run("validation.mutants.__main__"))
