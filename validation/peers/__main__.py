"""Adapter files of other libraries, run where these are installed; the table and the findings that follow.

    python -m validation.peers                      every library: makes its environment, checks, records, writes the pages
    python -m validation.peers torch nflows         some of them
    --again                                         also where adapters and library are the recorded ones
    --findings                                      only the reproductions, which take seconds
    --cache DIRECTORY                               where the environments are kept, by default ~/.cache/refflow/libraries
    --json                                          print the records, an object for each line

A library whose record in `recorded/` is of the same adapters and requirements is not checked again, so that a run that stops is
resumed; reproductions are run again if their code has changed.  What pip refuses is told in a line.  Exit status: 0; 2 if a
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
from pathlib import Path

from refflow.report import json_text
from validation.raw_parameters.environments import CACHE, CHECKED, NotInstalled, python_of

from .asked import SCHEMA
from .findings import FINDINGS
from .pages import RECORDED, library_names, write_pages

ROOT = Path(__file__).parents[2]
PEERS = ROOT / "refflow" / "peers"
ENVIRONMENTS = {"flowjax": "flowjax_19"}                    # a library whose environment has another name


def requirements(library):
    return CHECKED[ENVIRONMENTS.get(library, library)]


def digest(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


def adapters_digest(library):
    """Of everything that a record depends on but refflow itself: the adapters, and what they take from shared files."""
    adapters = (PEERS / f"{library}.py").read_text(encoding="utf-8")
    shared = [text for path in sorted((PEERS / "shared").glob("*.py")) for text in [path.read_text(encoding="utf-8")]
              if path.stem == "__init__" or f".shared.{path.stem} " in adapters]
    return digest(*requirements(library), adapters, *shared)


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
    """The record of a library, of which only what has changed is run again."""
    record = {} if again and not only_findings else held(library)
    adapters, code = adapters_digest(library), digest(*requirements(library), *codes(library).values())
    python = None
    if only_findings and not record:
        python = interpreter(library, cache)
        record = {"schema": SCHEMA, "library": library, "version": version_of(python, library), "rows": [], "skipped": 0}
    elif record.get("adapters") != adapters and not only_findings:
        python = interpreter(library, cache)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "record.json"
            run(python, "-m", "validation.peers.asked", library, str(path))
            record = json.loads(path.read_text(encoding="utf-8")) | {"adapters": adapters}
        kept(library, record)
    if record.get("code") != code:
        python = python or interpreter(library, cache)
        done = run(python, "-m", "validation.peers.reproduced", input=json.dumps(codes(library)), text=True,
                   stdout=subprocess.PIPE)
        record = kept(library, record | {"reproductions": json.loads(done.stdout), "code": code})
    return record


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
    parser.add_argument("--cache", type=Path, default=CACHE, help="where environments are kept")
    parser.add_argument("--json", action="store_true", help="print JSON, an object for each line")
    chosen = parser.parse_args(arguments)
    status = 0
    for library in chosen.libraries or library_names():
        try:
            record = recorded(library, chosen.cache, chosen.again, chosen.findings)
        except NotInstalled as refused:
            print(f"{library}: cannot be installed: {refused}", file=sys.stderr)
            status = 2
        except subprocess.CalledProcessError as failed:
            print(f"{library}: could not be run, exit status {failed.returncode}", file=sys.stderr)
            status = 2
        else:
            print(json.dumps(record) if chosen.json else summary(record), flush=True)
    write_pages()
    return status


def summary(record):
    failed = sum("shown" in row for row in record["rows"])
    return (f"{record['library']} {record['version']}: {len(record['rows']) - failed} pass, {failed} are off, "
            f"{record['skipped']} skipped")


if __name__ == "__main__":
    sys.exit(main())
