"""Adapter files of other libraries, run where these are installed; the table and the findings that follow.

    python -m validation.peers                      every library: makes its environment, checks, records, writes the pages
    python -m validation.peers torch nflows         some of them
    --again                                         also what is recorded
    --findings                                      only the reproductions, which take seconds
    --workers N                                     so many libraries at a time, by default as many as there are processors
    --cache DIRECTORY                               where the environments are kept, by default ~/.cache/refflow/libraries
    --json                                          print the records, an object for each line

If the record of a library in `recorded/` is of the same adapters, oracle and requirements, a run checks only the maps whose pages or
golden points have changed, so that the same command resumes a run that stopped.  It runs reproductions again if their code has
changed.  A line tells what pip refuses, and another one what an adapter raises.  Exit status: 0; 1 if an adapter raised; 2 if a
library that was asked for could not be run.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from refflow.report import json_text
from validation.records import reached
from validation.raw_parameters.environments import CACHE, CHECKED, NotInstalled, python_of

from .asked import SCHEMA
from .findings import FINDINGS
from .pages import RECORDED, library_names, write_pages

ROOT = Path(__file__).parents[2]
ORACLE = ("oracle", "oracle/points", "oracle/judging", "oracle/asking", "oracle/naming", "accuracy")      # what an adapter's answers meet
PEERS, GOLDEN = ROOT / "refflow" / "peers", ROOT / "refflow" / "oracle" / "golden"
ENVIRONMENTS = {"flowjax": "flowjax_19"}                    # a library whose environment has another name


def requirements(library):
    return CHECKED[ENVIRONMENTS.get(library, library)]


def digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def adapters_digest(library):
    """Of what all rows of a record depend on: the adapters, what they take from shared files, and the oracle."""
    adapters = PEERS / f"{library}.py"
    shared = [path for path in sorted((PEERS / "shared").glob("*.py"))
              if path.stem == "__init__" or f".shared.{path.stem} " in adapters.read_text(encoding="utf-8")]
    oracle = [path for folder in ORACLE for path in sorted((ROOT / "refflow" / folder).glob("*.py"))]
    return digest(*requirements(library), *sorted(map(reached.code_of, [adapters, *shared, *oracle])))


def pages_digest(names):
    """Of what the rows of one map depend on further: the code that its pages reach, and their golden points."""
    known, points = reached.record(), [GOLDEN / f"{name}.json" for name in names]
    return digest(*sorted(reached.reached_text(path, of) for name in names if name in known
                          for path, of in known[name]["reached"].items()),
                  *(path.read_text(encoding="utf-8") for path in points if path.exists()))


def outdated(record):
    """The maps of a library whose pages have changed since they were recorded."""
    return [theirs for theirs, names in record["asks"].items() if record["pages"].get(theirs) != pages_digest(names)]


def codes(library):
    return {finding.name: finding.code for finding in FINDINGS if finding.library == library}


def held(library):
    """The record of a library, {} if there is none."""
    path = RECORDED / f"{library}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def kept(library, record):
    """The record, written to its file."""
    target = RECORDED / f"{library}.json"
    partial = target.with_suffix(".partial")
    partial.write_text(json_text(record) + "\n", encoding="utf-8")
    partial.replace(target)
    return record


def recorded(library, cache, again=False, only_findings=False):
    """The record of a library; only what has changed is run again."""
    record = {} if again and not only_findings else held(library)
    adapters, code = adapters_digest(library), digest(*requirements(library), *codes(library).values())
    python, whole = None, record.get("adapters") != adapters
    theirs = [] if whole else outdated(record)
    if only_findings and not record:
        python = interpreter(library, cache)
        record = {"schema": SCHEMA, "library": library, "version": version_of(python, library), "rows": [], "skipped": {}}
    elif not only_findings and (whole or theirs):
        python = interpreter(library, cache)
        record = kept(library, asked(python, library, {} if whole else record, theirs) | {"adapters": adapters})
    if record.get("code") != code:
        python = python or interpreter(library, cache)
        done = run(python, "-m", "validation.peers.reproduced", input=json.dumps(codes(library)), text=True,
                   stdout=subprocess.PIPE)
        record = kept(library, record | {"reproductions": json.loads(done.stdout), "code": code})
    return record


def asked(python, library, record, theirs):
    """The record of all maps; with `theirs`, their rows in the old record are replaced."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "record.json"
        run(python, "-m", "validation.peers.asked", library, str(path), *theirs)
        found = json.loads(path.read_text(encoding="utf-8"))
    still = found["asks"].keys() - set(theirs)
    rows = [row for row in record.get("rows", []) if row["theirs"] in still] + found["rows"]
    skipped, raised = ({name: of for name, of in record.get(key, {}).items() if name in still} for key in ("skipped", "raised"))
    return record | found | {"rows": sorted(rows, key=lambda row: (row["theirs"], row["quantity"], row["dtype"])),
                             "skipped": skipped | found["skipped"], "raised": raised | found["raised"],
                             "pages": {name: pages_digest(pages) for name, pages in found["asks"].items()}}


def version_of(python, library):
    distribution = requirements(library)[-1].split("==")[0].split("[")[0]
    code = f"from importlib.metadata import version; print(version({distribution!r}))"
    return run(python, "-c", code, capture_output=True, text=True).stdout.strip()


def interpreter(library, cache):
    print(f"{library}: {' '.join(requirements(library))}", file=sys.stderr, flush=True)
    return python_of(ENVIRONMENTS.get(library, library), cache, with_refflow=True)


def run(python, *arguments, **options):
    settings = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    return subprocess.run([str(python), "-W", "ignore", *arguments], check=True, cwd=ROOT, env=os.environ | settings, **options)


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.peers", description=__doc__.split("\n")[0])
    parser.add_argument("libraries", nargs="*", choices=[[], *library_names()], help="all, if none is named")
    parser.add_argument("--again", action="store_true", help="also what is recorded")
    parser.add_argument("--findings", action="store_true", help="only the reproductions")
    parser.add_argument("--workers", type=int, default=os.cpu_count(), help="so many libraries at a time")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where environments are kept")
    parser.add_argument("--json", action="store_true", help="print JSON, an object for each line")
    chosen = parser.parse_args(arguments)
    with ThreadPoolExecutor(chosen.workers) as pool:
        statuses = list(pool.map(lambda library: told(library, chosen), dearest_first(chosen.libraries or library_names())))
    write_pages()
    return max(statuses)


def dearest_first(libraries):
    """Libraries with many recorded answers before the others, so that no processor is idle at the end."""
    return sorted(libraries, key=lambda library: -len(held(library).get("rows", [])))


def told(library, chosen):
    """Print a library's record, or why there is none; 0, 1 if an adapter raised, or 2 if there is no record."""
    try:
        record = recorded(library, chosen.cache, chosen.again, chosen.findings)
    except NotInstalled as refused:
        print(f"{library}: cannot be installed: {refused}", file=sys.stderr)
    except subprocess.CalledProcessError as failed:
        print(f"{library}: could not be run, exit status {failed.returncode}", file=sys.stderr)
    else:
        print(json.dumps(record) if chosen.json else summary(record), flush=True)
        raised = record.get("raised", {})
        for theirs, dtype in ((theirs, dtype) for theirs in raised for dtype in raised[theirs]):
            print(f"{theirs} {dtype}: {raised[theirs][dtype]}", file=sys.stderr, flush=True)
        return 1 if raised else 0
    return 2


def summary(record):
    failed = sum("shown" in row for row in record["rows"])
    return (f"{record['library']} {record['version']}: {len(record['rows']) - failed} pass, {failed} are off, "
            f"{sum(record['skipped'].values())} skipped")


if __name__ == "__main__":
    sys.exit(main())
