"""Real defects of released libraries: reproduces each one, and asks `refflow check` to find it.

    python -m validation.defects                    every defect: installs, reproduces, checks, records, writes the table
    python -m validation.defects --only NAME        defects whose name contains NAME
    --library L                                     of this library alone
    --again                                         also what is recorded
    --recorded                                      nothing is run: the counts of what is recorded
    --time-limit S                                  seconds for one defect, by default 120
    --json                                          an object for each defect, and one of counts

A defect that has an answer to the same text is not run again, so that a run that stops is resumed.  `--again` runs it, as is due
when refflow's laws have changed.  Exit status: 0; 1 if a defect does not show or is not found; 2 if one could not be run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys

from refflow.report import json_text
from validation.raw_parameters.environments import NotInstalled

from . import pages
from .all import DEFECTS
from .environments import Process, made


def main(arguments=None) -> int:
    options = parser().parse_args(arguments)
    chosen = [one for one in DEFECTS if options.library in (None, one.library) and (options.only or "") in one.name]
    if not chosen:
        print("no defect has that name", file=sys.stderr)
        return 2
    due = [] if options.recorded else chosen if options.again else [one for one in chosen if not answered(one)]
    for (library, version), group in itertools.groupby(sorted(due, key=environment), environment):
        print(f"{library} {version}", file=sys.stderr, flush=True)
        for one, record in run(list(group), options.time_limit):
            keep(one, record | {"digest": pages.digest(one)})
            print(f"  {one.name}: {pages.verdict(one, record)}", file=sys.stderr, flush=True)
    for one in chosen:
        show(one, options.json)
    pages.write()
    return told(chosen, options.json)


def answered(defect):
    record = pages.record_of(defect)
    return record is not None and "error" not in record


def environment(defect):
    return defect.library, defect.version


def parser():
    one = argparse.ArgumentParser(prog="python -m validation.defects", description=__doc__.split("\n")[0])
    one.add_argument("--only", metavar="NAME", help="only defects with NAME in their names")
    one.add_argument("--library", metavar="L", help="only defects of this library")
    one.add_argument("--again", action="store_true", help="also what is recorded")
    one.add_argument("--recorded", action="store_true", help="run nothing")
    one.add_argument("--time-limit", type=float, default=120, metavar="S", help="seconds for one defect")
    one.add_argument("--json", action="store_true", help="print JSON, an object for each line")
    return one


def run(group, limit):
    """Yields (defect, record) for defects of one library and version, asked by one process; another one goes on where it ends."""
    while group:
        done, reason = 0, "no answer"
        try:
            asked = [{"library": one.library, "code": one.code, "check": one.check, "seconds": limit / 2} for one in group]
            with Process(made(group[0].library, group[0].version), "validation.defects.asked", given=asked) as process:
                for one in group:
                    record = process.line(limit)
                    if record is None:
                        reason = process.reason or reason
                        break
                    yield one, record
                    done += 1
        except NotInstalled as refused:
            reason = f"cannot be installed: {refused}"
        if done < len(group):
            yield group[done], {"printed": [], "findings": [], "seconds": 0, "error": reason}
        group = group[done + 1:]


def keep(defect, record):
    """The record, written to the library's file; what is not in the list of defects is dropped from it."""
    names = {one.name for one in DEFECTS if one.library == defect.library}
    every = {name: of for name, of in pages.held(defect.library).items() if name in names} | {defect.name: record}
    target = pages.RECORDED / f"{defect.library}.json"
    target.parent.mkdir(exist_ok=True)
    partial = target.with_suffix(".partial")
    partial.write_text(json_text({"schema": pages.SCHEMA, "library": defect.library, "defects": dict(sorted(every.items()))})
                       + "\n", encoding="utf-8")
    partial.replace(target)


def show(defect, as_json):
    record = pages.record_of(defect)
    kind = pages.verdict(defect, record)
    if as_json:
        print(json.dumps({"library": defect.library, "version": defect.version, "defect": defect.name, "source": defect.source,
                          "verdict": kind, "record": record}), flush=True)
        return
    shown = "" if record is None or record.get("error") or pages.reproduced(defect, record) else "; THE DEFECT DOES NOT SHOW"
    print(f"{defect.library} {defect.version}, {defect.name}: {pages.said(defect, record, kind)}{shown}", flush=True)


def told(chosen, as_json):
    """Prints the counts; the exit status."""
    of = [(one, record, kind) for one, record, kind in pages.rows() if one in chosen]
    counted = pages.counts(of)
    print(json.dumps({"counts": counted}) if as_json else ", ".join(f"{count} {kind}" for kind, count in counted.items()))
    if "not run" in counted:
        return 2
    return 0 if set(counted) == {"found"} and all(pages.reproduced(one, record) for one, record, _ in of) else 1


if __name__ == "__main__":
    sys.exit(main())
