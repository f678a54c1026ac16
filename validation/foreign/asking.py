"""Asks the maps of each library in an environment and a process of its own, and keeps the answers, so that a run that stops resumes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from validation.defects.environments import CACHE, ROOT, Process, made
from validation.raw_parameters.environments import NotInstalled

VERSIONS = {"torch": "2.13.0", "scipy": "1.17.1", "zuko": "1.6.0", "nflows": "0.14", "normflows": "1.7.3", "freia": "0.2",
            "distrax": "0.1.9", "flowjax": "17.2.1", "numpyro": "0.22.0", "tfp": "0.26.0.dev20261027", "bijx": "1.3.2"}
LIMIT = 600                             # seconds for one map in one dtype, of a machine that may be busy
JUDGES = ("refflow/oracle/boxes", "refflow/accuracy", "refflow/core", "validation/foreign")


def answers(library, seed, only=None, again=False, limit=LIMIT, cache=CACHE):
    """The answers of one library at one seed, or of its map `only`: those that are kept, then new ones."""
    kept = Path(cache) / "foreign" / f"{library}-{seed}-{digest(library)}.jsonl"
    kept.parent.mkdir(parents=True, exist_ok=True)
    if again:
        kept.unlink(missing_ok=True)
    found = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()] if kept.exists() else []
    yield from (one for one in found if only in (None, one["box"]))
    try:
        where = made(library, VERSIONS[library], cache)
    except NotInstalled as refused:
        yield {"box": "every map", "dtype": "", "seed": seed, "unmade": f"{library} cannot be installed: {refused}", "seconds": 0}
        return
    for answer in fresh(library, seed, where, [[one["box"], one["dtype"]] for one in found], limit, only):
        if "unmade" not in answer:
            with kept.open("a", encoding="utf-8") as file:
                print(json.dumps(answer), file=file)
        yield answer


def kept_answers(library, cache=CACHE):
    """{seed: the answers that are kept} of a library, by these laws."""
    paths = (Path(cache) / "foreign").glob(f"{library}-*-{digest(library)}.jsonl")
    found = {int(path.name.split("-")[1]): path.read_text(encoding="utf-8").splitlines() for path in paths}
    return {seed: [json.loads(line) for line in found[seed]] for seed in sorted(found)}


def digest(library):
    """What the answers depend on: the laws, and the maps."""
    maps = ROOT / "validation" / "foreign" / f"maps_of_{library}.py"
    used = maps.read_text(encoding="utf-8")
    parts = [VERSIONS[library].encode(), maps.read_bytes()]
    for folder in JUDGES:
        parts += [path.read_bytes() for path in sorted((ROOT / folder).rglob("*.py"))
                  if path.parent.name != "foreign" or path.stem == "witness" or f"from .{path.stem} import" in used]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:12]


def fresh(library, seed, where, done, limit, only=None):
    """Answers of new processes: where one ends before its last map, another one goes on after it."""
    while True:
        begun = None
        with Process(where, "validation.foreign.asked", library, str(seed), *([only] if only else []), given=done) as process:
            while (line := process.line(limit)) is not None:
                if "begun" in line:
                    begun = line["begun"]
                else:
                    done.append(begun)
                    begun = None
                    yield line
        if begun is None:
            if process.reason:
                yield {"box": "every map", "dtype": "", "seed": seed, "unmade": f"{library}: {process.reason}", "seconds": 0}
            return
        done.append(begun)
        yield {"box": begun[0], "dtype": begun[1], "seed": seed, "unmade": process.reason or "the process ended", "seconds": 0}
