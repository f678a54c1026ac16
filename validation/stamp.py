"""Records that were of the code of the last commit are said to be of the code that is here.

    python -m validation.stamp "why"            after a change, not yet committed, by which no number can change

Digests see the text of code, and a function that is renamed is another text.  What was stale stays stale.  The reason is kept in
stamps.json; a wrong stamp is found within ten days, by the tenth of the pages that `--check --tenth` asks every day.
Exit status 2 if the records themselves have changed since the last commit.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from . import certify, golden
from .peers import __main__ as peers
from .points.recorded import written
from .records import reached

STAMPS = Path(__file__).parent / "stamps.json"
RECORDS = (certify.CERTIFICATE, certify.EXHAUSTIVE, reached.RECORD, golden.RECORD, peers.RECORDED)


def current() -> dict:
    """What is of the code that is here: {"rows": pages, "golden": pages, "peers": {library: {"adapters": bool, "maps": names}}}."""
    pages, certificate = sorted(reached.record()), json.loads(certify.CERTIFICATE.read_text())
    bijectors, libraries = sorted(golden.recorded()), sorted(path.stem for path in peers.RECORDED.glob("*.json"))
    stale = {"rows": reached.changed(pages), "golden": golden.stale(bijectors, certificate)}
    return {"rows": [name for name in pages if name not in stale["rows"]],
            "golden": [name for name in bijectors if name not in stale["golden"]],
            "peers": {library: of_library(library) for library in libraries}}


def of_library(library):
    record = peers.held(library)
    outdated = peers.outdated(record)
    return {"adapters": record["adapters"] == peers.adapters_digest(library),
            "maps": [name for name in record["asks"] if name not in outdated]}


def at_the_last_commit() -> dict:
    """`current` as the code of the last commit finds it, in a checkout of its own."""
    with tempfile.TemporaryDirectory() as folder:
        git("worktree", "add", "--detach", "--quiet", folder, "HEAD")
        try:
            (Path(folder) / "validation" / "stamp.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
            code = "import json; from validation.stamp import current; print(json.dumps(current()))"
            found = subprocess.run([sys.executable, "-c", code], cwd=folder, env=os.environ | {"PYTHONPATH": folder}, check=True,
                                   capture_output=True, text=True)
        finally:
            git("worktree", "remove", "--force", folder)
    return json.loads(found.stdout)


def git(*arguments):
    return subprocess.run(["git", *arguments], cwd=reached.ROOT, check=True, capture_output=True, text=True).stdout


def stamp(was):
    """Write the digests of this code into the records that were current."""
    known = reached.record()
    reached.write({name: known[name]["reached"] for name in was["rows"]})
    certificate, reaches = json.loads(certify.CERTIFICATE.read_text()), reached.record()
    golden.keep({name: golden.recorded()[name] | {"of": golden.depends_on(name, certificate, reaches)} for name in was["golden"]})
    for library, of in was["peers"].items():
        record = peers.held(library)
        adapters = {"adapters": peers.adapters_digest(library)} if of["adapters"] else {}
        maps = {name: peers.pages_digest(record["asks"][name]) for name in of["maps"]}
        peers.kept(library, record | adapters | {"pages": record["pages"] | maps})


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.stamp", description=__doc__.splitlines()[0])
    parser.add_argument("why", help="why no number can change")
    chosen = parser.parse_args(arguments)
    if changed := git("status", "--porcelain", "--", *map(str, RECORDS)):
        parser.error(f"records have changed since the last commit:\n{changed}")
    was = at_the_last_commit()
    stamp(was)
    of = was["peers"].values()
    counts = {"why": chosen.why, "rows": len(was["rows"]), "golden": len(was["golden"]), "libraries": sum(one["adapters"] for one in of),
              "maps": sum(len(one["maps"]) for one in of)}
    kept = json.loads(STAMPS.read_text()) if STAMPS.exists() else []
    written(STAMPS, json.dumps([*kept, counts], indent=1) + "\n")
    print(json.dumps(counts))
    return 0


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        sys.exit(main())
