"""The public maps of each library, what was asked of them, and the table of what answers for them.

    python -m validation.coverage                    asked.json and findings.json from the records of validation.peers, and the table
    python -m validation.coverage --public           the names of public maps, too, from every library in its environment
    python -m validation.coverage --public torch     of some libraries
    --check                                          only say what is not as it would be made; exit status 1

Exit status: 0; 1 for a public map without a row, or with --check for a file that is out of date; 2 if a library cannot be asked.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

from refflow import coverage
from refflow.cli.coverage import counts
from refflow.report import json_text
from refflow.saving import write_atomically
from validation.peers.__main__ import interpreter, version_of
from validation.peers.findings import FINDINGS
from validation.peers.pages import DTYPES, cell, decimal, is_run, records, short, truths
from validation.peers.remedies import REMEDIES
from validation.raw_parameters.environments import CACHE, NotInstalled

from .public import WHERE

HERE = Path(__file__).parent
DATA = Path(coverage.__file__).parent
TABLE = HERE.parent / "tables" / "coverage.md"
HEAD = """# The maps of other libraries

Made by `python -m validation.coverage`. For each map: the code that makes it here, with the letters of `refflow.coverage.letters`, and
the libraries that have it, under their own names. A name in bold is asked by an adapter; `refflow coverage LIBRARY` tells the
errors. A map without an answer is missing, or outside the contract of a bijector, with the reason.
"""


def asked():
    """{library: version, and the worst errors of each adapter} of the records."""
    return {library: {"version": record["version"], "maps": worst(record["rows"])} for library, record in records().items()}


def findings():
    """What `refflow finding` shows of each finding whose reproduction has been run."""
    held = records()
    return [{"library": f.library, "version": held[f.library]["version"], "name": f.name, "kind": f.kind, "equation": f.equation,
             "text": f.text.strip(), "code": f.code.strip(), "printed": held[f.library]["reproductions"][f.name],
             "true": [decimal(value) for value in truths(f)], "remedy": REMEDIES.get((f.library, f.name), ""),
             "leaves": list(f.leaves)}
            for f in FINDINGS if is_run(f, held)]


def worst(rows):
    """{adapter: {dtype: its worst error as the table of libraries shows it}}."""
    by_map = {}
    for row in rows:
        by_map.setdefault(short(row["theirs"]).replace("\\|", "|"), {}).setdefault(row["dtype"], []).append(row)
    return {theirs: {dtype: cell(some[dtype]).strip("*") for dtype in DTYPES if dtype in some} for theirs, some in sorted(by_map.items())}


def public(library, cache):
    """The names of a library's public maps, asked in its environment."""
    python = interpreter(library, cache)
    apart = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(HERE.parents[1])}
    done = subprocess.run([str(python), "-W", "ignore", "-m", "validation.coverage.public", library], env=apart, check=True,
                          capture_output=True, text=True)
    return {"version": version_of(python, library), "names": json.loads(done.stdout.splitlines()[-1])}


def table():
    lines = [HEAD, "| library | version | maps | answered | asked | absent | missing | outside |", "|" + " --- |" * 8]
    lines += ["| " + " | ".join(str(value) for value in counts(library).values()) + " |" for library in coverage.libraries()]
    lines += ["", f"{coverage.pairs()} pairs of a map and a library are asked."]
    for chapter in coverage.CHAPTERS:
        lines += ["", f"## {chapter.__doc__.split(',')[0]}", "", "| map | equation | answer | libraries |", "|" + " --- |" * 4]
        lines += [line(row) for row in chapter.ROWS]
    return "\n".join(lines) + "\n"


def line(row):
    answer = f"`{row.answer}`" + (f"; {row.remark}" if row.remark else "") if row.answer else \
        f"missing: {row.missing}" if row.missing else f"outside: {row.outside}"
    theirs = ", ".join(f"{library} {bold(row, library)}" for library in sorted(row.theirs))
    return "| " + " | ".join(part.replace("|", "\\|") for part in (row.map, row.equation, answer, theirs)) + " |"


def bold(row, library):
    name = row.theirs[library].replace("*", "\\*").replace("_", "\\_")
    return f"**{name}**" if coverage.asked(row, library) else name


def made(libraries, cache):
    """({file: its text}, the libraries that could not be asked); what is known of these stays."""
    files, failed = {DATA / "asked.json": json_text(asked()) + "\n", DATA / "findings.json": json_text(findings()) + "\n"}, []
    if libraries is not None:
        held = dict(coverage.held("public.json"))
        for library in libraries or sorted(WHERE):
            try:
                held[library] = public(library, cache)
            except (NotInstalled, subprocess.CalledProcessError) as error:
                print(f"coverage: {library}: {error}", file=sys.stderr)
                failed.append(library)
        files[DATA / "public.json"] = json_text(dict(sorted(held.items()))) + "\n"
    return files, failed


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.coverage", description=__doc__.split("\n")[0])
    parser.add_argument("--public", metavar="LIBRARY", nargs="*", help="list the public maps of these libraries, or of all")
    parser.add_argument("--cache", metavar="DIRECTORY", default=CACHE, type=Path, help="where the environments are kept")
    parser.add_argument("--check", action="store_true", help="only say what is out of date")
    options = parser.parse_args(arguments)
    files, failed = made(options.public, options.cache)
    stale = written(files, options.check)
    coverage.held.cache_clear()
    stale += written({TABLE: table()}, options.check)
    strangers = {library: coverage.without_a_row(library) for library in coverage.held("public.json")}
    for library, found in strangers.items():
        if found:
            print(f"{library}: no row names {', '.join(found)}")
    return 2 if failed else int(bool(any(strangers.values()) or options.check and stale))


def written(files, check):
    stale = [path for path, text in files.items() if not path.is_file() or path.read_text(encoding="utf-8") != text]
    for path in stale:
        if check:
            print(f"{path.name} is out of date: python -m validation.coverage")
        else:
            write_atomically(path, files[path].encode())
    return stale


if __name__ == "__main__":
    sys.exit(main())
