"""Mutants: how many small mistakes in a page golden points, certificate and laws find, and in other files their tests.

    python -m validation.mutants                judge what is not judged yet, of all pages
    python -m validation.mutants Tanh Exp       of these
    --outside [FILE]                            files whose equations stand outside pages, as training.fit
    --budget SECONDS                            stop after so long; the next run goes on from there
    --workers N, --scheduler ADDRESS            so many pages at a time, in processes or on a Dask cluster
    --again {all,alive}                         judge anew what is recorded too, or what neither is killed nor proved equivalent
    --check                                     record nothing: judge anew what is recorded as killed, and compare
    --tenth                                     with --check: of a tenth of the pages, another one every day, 25 of each,
                                                drawn by the date: mutants that are not drawn today are met another day
    --json                                      print JSON instead of a table

Verdicts are recorded in validation/mutants/records, a file for each page, which is stale when the code of the page changes.
Exit status 1 where less than 99 % of the mutants of these pages that are not equivalent are killed, or some are not judged; of
other files, where less than 97 % of what is judged is killed, or more than 5 % is not judged.  With --check, 1 where a mutant
that is recorded as killed is not; one that the clock or the memory of a machine killed is not asked.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import json
import random
import sys
import tempfile
import time

from refflow.cli import sweeps
from validation.records import reached
from validation.certify import PAGES, written

from .asking import ask
from .judging import Bench
from .outside import JUDGES
from .records import OF_FILES, OF_PAGES, RECORDS, Record, document, recorded_table, rows_of, score, summary, tell

EVERY = 20                          # seconds between two saves of a page, and two words about it
OF_A_PAGE = 25                      # mutants that a tenth asks of a page, so that a day's tenth is judged to its end in minutes


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
    todo = {record.name: len(record.unjudged()) for record in map(Record, names) if not record.is_done()}
    total, done, start = sum(todo.values()), 0, time.monotonic()
    waiting = sweeps.each_of((name, deadline) for name in todo)
    for (name, _), (judged, seconds, found) in sweep.results(judge, waiting):
        Record(name).merge(found)
        done += judged
        tell(f"{name}: {judged} mutants in {seconds:.0f} s; {done}/{total} in all, "
             f"{sweeps.time_left(time.monotonic() - start, done, total)}")


def judge_again(name, deadline, most=None):
    """(how many mutants of one page were judged, {mutant: [verdict, by, why]} of those that are recorded as killed and are not).

    With `most`, no more than so many are judged, others every day.
    """
    record = Record(name)
    chosen = drawn_today([key for key, found in record.verdicts.items() if is_promised(found)], most)
    with tempfile.TemporaryDirectory() as directory:
        trial = Record(name, directory)
        trial.verdicts = {key: found for key, found in record.verdicts.items() if key not in chosen}
        trial.verdicts |= {mutant.key: ["not judged", ""] for mutant in record.unjudged()}
        trial.save()
        judged, _, (_, _, found) = judge(name, deadline, directory)
    return judged, {key: found[key] for key, recorded in record.verdicts.items()
                    if is_promised(recorded) and key in found and found[key][0] != "killed"}


def is_promised(found):
    """Is a mutant recorded as killed by what another machine finds as well?"""
    verdict, by, *_ = found
    return verdict == "killed" and by not in ("time", "memory")


def drawn_today(keys, most):
    """The set of these keys, or as many of them as are asked for, drawn by the date."""
    drawn = random.Random(datetime.date.today().toordinal())
    return set(keys if most is None or len(keys) <= most else drawn.sample(keys, most))


def check(names, deadline, sweep, most=None):
    """Judge anew what is recorded as killed, and print what is not; the exit status."""
    judged = wrong = 0
    waiting = sweeps.each_of((name, deadline, most) for name in names)
    for done, ((name, *_), (asked, alive)) in enumerate(sweep.results(judge_again, waiting), 1):
        judged, wrong = judged + asked, wrong + len(alive)
        tell(f"{name}: {asked} mutants; {done}/{len(names)} pages")
        for key, (verdict, by, *why) in alive.items():
            print(f"{name} {key}: recorded as killed; {verdict}, {by} {' '.join(why)}")
    print(f"{judged} mutants of {len(names)} pages judged anew, {wrong} that were killed are not")
    return int(bool(wrong))


def ask_all(names, deadline, sweep):
    """All files outside pages, those with the same tests together."""
    groups, start, done = {}, time.monotonic(), 0
    for name in names:
        if not Record(name).is_done():
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
    parser.add_argument("--check", action="store_true", help="judge anew what is recorded as killed, and record nothing")
    parser.add_argument("--tenth", action="store_true", help=f"with --check: of a tenth of the pages, another one every day, "
                        f"{OF_A_PAGE} mutants of each")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_args(arguments)
    kind, all_of_them = (OF_FILES, ask_all) if chosen.outside else (OF_PAGES, judge_all)
    unknown = [name for name in chosen.name if name not in kind.names]
    if unknown:
        parser.error(f"no {'file outside pages' if chosen.outside else 'page'} is called {unknown[0]!r}")
    if chosen.check and (chosen.outside or chosen.again) or chosen.tenth and not chosen.check:
        parser.error("--check is of pages and recorded verdicts alone, and --tenth belongs to it")
    names = chosen.name or list(kind.names)
    if chosen.check:
        with sweeps.sweep(chosen.workers, chosen.scheduler) as sweep:
            deadline = time.time() + chosen.budget
            return check(reached.in_turn(names), deadline, sweep, OF_A_PAGE) if chosen.tenth else check(names, deadline, sweep)
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
