"""Mutants: how many small mistakes in a page golden points, certificate and laws find, and in other files their tests.

    python -m validation.mutants                judge what is not judged yet, of all pages
    python -m validation.mutants Tanh Exp       of these
    --outside [FILE]                            files whose equations stand outside pages, as training.fit
    --budget SECONDS                            stop after so long; the next run goes on from there
    --workers N, --scheduler ADDRESS            so many pages at a time, in processes or on a Dask cluster
    --again {all,alive}                         judge anew what is recorded too, or what neither is killed nor proved equivalent
    --json                                      print JSON instead of a table

Verdicts are recorded in validation/mutants/records, a file for each page, which is stale when the code of the page changes.
Exit status 1 where less than 99 % of the mutants of these pages that are not equivalent are killed, or some are not judged; of
other files, where less than 97 % of what is judged is killed, or more than 5 % is not judged.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time

from refflow.cli import sweeps
from validation.certify import PAGES, written

from .asking import ask
from .judging import Bench
from .outside import JUDGES
from .records import OF_FILES, OF_PAGES, RECORDS, Record, document, recorded_table, rows_of, score, summary, tell

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


def ask_all(names, deadline, sweep):
    """All files outside pages, those with the same tests together."""
    groups, start, done = {}, time.monotonic(), 0
    for name in names:
        if Record(name).unjudged():
            groups.setdefault(JUDGES[name], []).append(name)
    waiting = sweeps.each_of((group, deadline) for group in groups.values())
    for done, ((group, _), found) in enumerate(sweep.results(ask, waiting), 1):
        for name, mine in zip(group, found):
            Record(name).merge(mine)
        tell(f"{', '.join(group)}: {sum(len(Record(name).unjudged()) for name in group)} mutants are left; {done}/{len(groups)} "
             f"groups, {sweeps.time_left(time.monotonic() - start, done, len(groups))}")


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", metavar="PAGE", help="these pages, or files, only")
    parser.add_argument("--outside", action="store_true", help="files outside pages")
    parser.add_argument("--budget", type=float, default=float("inf"), metavar="SECONDS", help="stop after so long")
    sweeps.add_options(parser)
    parser.add_argument("--again", choices=("all", "alive"), help="judge anew what is recorded too, or what was not killed")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    kind, all_of_them = (OF_FILES, ask_all) if chosen.outside else (OF_PAGES, judge_all)
    unknown = [name for name in chosen.name if name not in kind.names]
    if unknown:
        parser.error(f"no {'file outside pages' if chosen.outside else 'page'} is called {unknown[0]!r}")
    names = chosen.name or list(kind.names)
    for name in names if chosen.again else ():
        Record(name).forget(chosen.again == "alive")
    with sweeps.sweep(chosen.workers, chosen.scheduler) as sweep:
        all_of_them(names, time.time() + chosen.budget, sweep)
    records = [Record(name) for name in names]
    rows, unjudged = rows_of(records), sum(len(record.unjudged()) for record in records)
    written(kind.path, recorded_table(kind))
    print(json.dumps(document(rows, unjudged, kind), indent=1) if chosen.json else summary(rows, unjudged, kind))
    return 0 if score(rows) >= kind.target and unjudged <= kind.waiting * (len(rows) + unjudged) else 1


if __name__ == "__main__":
    sys.exit(sweeps.run("validation.mutants.__main__"))
