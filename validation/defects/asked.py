"""Run by `validation.defects` in a library's environment: reproductions and checks, JSON in, a line for each out."""

from __future__ import annotations

import json
import runpy
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import refflow
from refflow.oracle.asking.adapter import load
from validation.peers.reproduced import printed

from .entry import SHIPPED

LONG = 300                              # characters of a text that are worth recording


def report_of(check, library, seconds=None):
    """What refflow.check says of a shipped adapter, or of a file that a user writes; each answer may take some seconds."""
    if check.startswith(SHIPPED):
        every, name = load(library), check.removeprefix(SHIPPED)
        chosen = tuple(one for one in every.adapters if one.theirs == name)
        if not chosen:
            raise ValueError(f"no adapter is called {name}: {sorted({one.theirs for one in every.adapters})}")
        return refflow.check(replace(every, adapters=chosen), time_limit=seconds)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mine.py"
        path.write_text(check, encoding="utf-8")
        if "@adapter" in check:
            return refflow.check(str(path), time_limit=seconds)
        return refflow.check(runpy.run_path(str(path))["box"], time_limit=seconds)


def findings(report):
    """[{"what", "text", "diagnosis"}] of what failed."""
    return [{"what": getattr(one, "law", None) or one.quantity, "text": text(one), "diagnosis": one.diagnosis[:LONG]}
            for one in report.failed]


def text(failed):
    if hasattr(failed, "law"):
        return failed.text[:LONG]
    return f"{failed.dtype}: {failed.given} where {failed.true} is true, at {failed.input}"[:LONG]


def asked(library, code, check, seconds=None):
    answer = {"printed": printed(code)}
    clock, started = time.perf_counter(), time.process_time()
    try:
        report = report_of(check, library, seconds)
        answer |= {"findings": findings(report), "counts": report.counts() if hasattr(report, "counts") else ""}
    except Exception as error:
        answer |= {"findings": [], "error": f"{type(error).__name__}: {error}"[:LONG]}
    return answer | {"seconds": round(time.process_time() - started, 1), "clock": round(time.perf_counter() - clock, 1)}


if __name__ == "__main__":
    out, sys.stdout = sys.stdout, sys.stderr
    for given in json.load(sys.stdin):
        print(json.dumps(asked(**given)), file=out, flush=True)
