"""Run by `validation.peers` in a library's environment: what `refflow check LIBRARY` finds, in short, as JSON.

    python -m validation.peers.asked LIBRARY FILE [THEIRS ...]      of all its maps, or of some
"""

from __future__ import annotations

import platform
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from refflow import Inverse
from refflow.core import Bijector, tree
from refflow.maps.coupling import Coupling
from refflow.oracle import check
from refflow.oracle.asking.adapter import described, load
from refflow.oracle.check import NOT_ASKED
from refflow.report import json_text

SCHEMA = "refflow/peers/1"
LONG = 160                                  # characters of parameters that are worth recording


def map_of(page):
    """The page that an adapter is about: of a composite, the page inside."""
    if isinstance(page, str):
        return page
    if isinstance(page, Coupling):
        return page.family.bijector.__name__
    inner = [part for part in page.components() if isinstance(part, Bijector)]
    return map_of(inner[0]) if len(inner) == 1 and not isinstance(page, Inverse) else described(page)


def rows(report, maps):
    """The worst of each map, quantity and dtype; a passed one has its C, a failed one its simplest input too."""
    found = {}
    for failed in report.failed:                                    # worst first
        row = common(failed, maps) | {"C": failed.worst, "allowed": failed.allowed, "shown": shown(failed)}
        found.setdefault((failed.theirs, failed.quantity, failed.dtype), row)
    for passed in report.passed:
        found[passed.theirs, passed.quantity, passed.dtype] = common(passed, maps) | {
            "C": passed.error, "allowed": passed.allowed, "points": passed.points}
    return [found[key] for key in sorted(found)]


def common(entry, maps):
    return {"map": maps[entry.theirs], "theirs": entry.theirs, "quantity": entry.quantity, "dtype": entry.dtype}


def shown(failed):
    """What reproduces a finding."""
    params = str(failed.params | failed.cotangents)
    parts = {"C": failed.error, "input": text(failed.input), "params": params if len(params) <= LONG else "",
             "given": text(failed.given), "true": text(failed.true), "diagnosis": failed.diagnosis}
    return {key: value for key, value in parts.items() if value not in ("", "{}")}


def text(value):
    written = str(value)
    return written if len(written) <= LONG else written[:LONG].rsplit(" ", 1)[0] + " ..."


def pages_of(page):
    """The names of the pages that an adapter's answers are compared with: of a composite, all that it is made of."""
    if isinstance(page, str):
        return [page]
    return sorted({type(part).__name__ for _, part in tree.walk(page)})


def asked(library, theirs=(), progress=None):
    """The record of a library, without its reproductions; of all its maps, or of `theirs` alone."""
    every = load(library)
    chosen = replace(every, adapters=tuple(a for a in every.adapters if not theirs or a.theirs in theirs))
    report = check(chosen, progress=progress)
    return {"schema": SCHEMA, "library": library, "version": report.version, "numpy": np.__version__,
            "python": platform.python_version(), "machine": platform.machine(),
            "asks": {a.theirs: pages_of(a.page) for a in every.adapters},
            "skipped": Counter(skipped.theirs for skipped in report.skipped if not is_raised(skipped)), "raised": raised(report),
            "rows": rows(report, {a.theirs: map_of(a.page) for a in chosen.adapters})}


def raised(report):
    """{map: {dtype: what its adapter raised}}, where the library itself was not asked."""
    found = {}
    for one in filter(is_raised, report.skipped):
        found.setdefault(one.theirs, {})[one.dtype] = one.reason
    return found


def is_raised(skipped):
    return skipped.reason.startswith(NOT_ASKED)


def told(done, total, name):
    """Names of maps begin with their library's."""
    print(f"  {done + 1}/{total} {name}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(json_text(asked(sys.argv[1], sys.argv[3:], told)), encoding="utf-8")
