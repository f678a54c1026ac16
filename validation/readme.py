"""The generated tables of the README.

    python -m validation.readme            writes them
    python -m validation.readme --check    compares them, and exits with 1 where one differs

`torch` runs `refflow check torch`; `certificate` and `pages` read what is checked in; `training` and `conditional` run the
commands that they show (extra `data`).
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from importlib import resources
from pathlib import Path

import refflow
from refflow.core.registry import REGISTRY, chapter
from refflow.maps import load_all

load_all()
README = Path(__file__).parent.parent / "README.md"
SECTION = re.compile(r"(<!-- begin (\w+): [^\n]* -->\n)(.*?)(<!-- end \2 -->)", re.S)
DTYPES = ("float64", "float32")


def row(cells):
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"


def table(head, rows):
    return "\n".join([row(head), row(["---"] * len(head)), *map(row, rows)]) + "\n"


def certificate():
    """The largest C of each page, and what is allowed there."""
    stored = json.loads((resources.files(refflow) / "oracle" / "certificate.json").read_text(encoding="utf-8"))
    rows = []
    for name in REGISTRY:
        page = stored["pages"][name]
        worst = [max(((q[dtype]["C"], q[dtype]["allowed"], key) for key, q in page.items() if dtype in q),
                     key=lambda found: found[0] / found[1]) for dtype in DTYPES]
        rows.append([name, len(page), *(f"{C:.2f} of {allowed:g} ({key})" for C, allowed, key in worst)])
    made = stored["fingerprint"]
    return ("The error of every quantity in units of u·κ, the rounding error that the inputs' own rounding causes anyway: "
            f"the largest over the certified range. Made on {made['machine']}, NumPy {made['numpy']}, {made['simd']}; the "
            "whole table is in [validation/certificate.md](validation/certificate.md).\n\n"
            + table(["page", "quantities", *DTYPES], rows))


def pages():
    """Every page with what it is, chapter by chapter."""
    rows = []
    for name, page in REGISTRY.items():
        module = sys.modules[page.__module__]
        path = page.__module__.replace(".", "/") + ".py"
        title = module.__doc__.strip().split("\n")[0].rstrip(".:")
        rows.append([f"[{name}]({path})", chapter(page), page.kind, title])
    return table(["page", "chapter", "kind", "what it is"], rows)


def torch():
    """What `check torch` finds: for each transform and quantity the worst, with the input that shows it."""
    done = subprocess.run([sys.executable, "-m", "refflow", "check", "torch", "--json"], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=README.parent)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    report = json.loads(done.stdout)
    seen, rows = set(), []
    for found in report["failed"]:
        key = found["theirs"], found["quantity"]
        if key not in seen:
            seen.add(key)
            rows.append([f"`{found['theirs'].removeprefix('torch.distributions.transforms.')}`", found["quantity"],
                         found["dtype"], written(found["params"] | found["cotangents"], found["input"]),
                         *told_apart(found["given"], found["true"]),
                         magnitude(found["error"]), magnitude(found["worst"]), shortened(found["diagnosis"])])
    return (f"torch {report['version']}: {len(report['passed'])} checks pass, {len(report['failed'])} fail. For each "
            "transform and quantity, worst first: the simplest input that shows it, what torch gives and what is true "
            "(50-digit truth, rounded), the error there and the worst seen, in units of u·κ, of which 16 are allowed.\n\n"
            + table(["transform", "quantity", "dtype", "input", "given", "true", "error", "worst", "what it is"], rows))


def written(params, event):
    given = ", ".join(f"{k}={short(v, 17)}" for k, v in params.items())
    return f"{short(event, 17)}" + (f"; {given}" if given else "")


def told_apart(given, true):
    """Both with as few digits as tell one from the other."""
    pairs = [(short(given, digits), short(true, digits)) for digits in (5, 9, 13, 17)]
    return next((pair for pair in pairs if pair[0] != pair[1]), pairs[-1])


def short(value, digits):
    """A number, or nested lists of them, to so many digits, or fewer where they give the same number back."""
    if isinstance(value, list):
        return "[" + ", ".join(short(v, digits) for v in value) + "]"
    if isinstance(value, float):
        rounded = f"{value:.{digits}g}"
        return min((rounded, repr(value)), key=len) if digits == 17 else rounded
    return "-" if value is None else str(value)


def shortened(text, width=90):
    return text if len(text) <= width else text[:width].rsplit(" ", 1)[0] + " ..."


def magnitude(error):
    return f"{error:.0e}".replace("e+0", "e").replace("e+", "e") if isinstance(error, (int, float)) else error


TRAINING = ("python -m refflow data breast_cancer --out cancer.csv",
            "python -m refflow fit cancer.csv --model realnvp --test 0.1 --out cancer.npz",
            "python -m refflow score cancer.npz cancer.csv --out scores.csv",
            "python -m refflow sample cancer.npz --n 200 --out new.csv",
            "python -m refflow data digits --out digits.npy",
            "python -m refflow fit digits.npy --model realnvp --dequantise --test 0.1 --steps 500 --out digits.npz",
            "python -m refflow data wine --out wine.csv",
            "python -m refflow fit wine.csv --model realnvp --dequantise --test 0.1 --out wine.npz")
CONDITIONAL = ("python -m validation.conditional --seeds 5",)


def transcript(commands, directory):
    """Commands and what they print on standard output, each in `directory`."""
    lines = ["```text"]
    for command in commands:
        done = subprocess.run([sys.executable, *shlex.split(command)[1:]], capture_output=True, text=True, cwd=directory,
                              env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(README.parent)})
        if done.returncode:
            raise SystemExit(f"{command}: {done.stderr}")
        lines += [f"$ {command}", *done.stdout.splitlines()]
    return "\n".join([*lines, "```"]) + "\n"


def training():
    """The command line on real data."""
    with tempfile.TemporaryDirectory() as directory:
        return transcript(TRAINING, directory)


def conditional():
    """A conditional flow on real data."""
    return transcript(CONDITIONAL, README.parent)


GENERATORS = {"torch": torch, "certificate": certificate, "pages": pages, "training": training, "conditional": conditional}


def sections(text):
    """{name: the text that stands in the README}."""
    return {name: body for _, name, body, _ in SECTION.findall(text)}


def main():
    parser = argparse.ArgumentParser(prog="python -m validation.readme", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("names", nargs="*", choices=list(GENERATORS) + [[]], help="sections; all of them if none is named")
    options = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    made = {name: GENERATORS[name]() for name in options.names or GENERATORS}
    if options.check:
        standing = sections(text)
        stale = [name for name, body in made.items() if standing.get(name) != body]
        for name in stale:
            print(f"README section {name!r} is not what its command gives; it gives:\n{made[name]}")
        print("stale: " + ", ".join(stale) if stale else "the README's tables are what their commands give")
        raise SystemExit(bool(stale))
    new = SECTION.sub(lambda m: m[1] + made.get(m[2], m[3]) + m[4], text)
    temporary = README.with_suffix(".md.new")
    temporary.write_text(new, encoding="utf-8")
    temporary.replace(README)


if __name__ == "__main__":
    main()
