"""The generated tables of the documentation, and the comparison of printed text.

    python -m validation.readme [NAME ...]            writes them, or some of them
    python -m validation.readme --check [NAME ...]    makes them again, and exits with 1 if one differs

Tables are files, validation/tables/NAME.md: `pages` and `certificate` read the files that are checked in; `torch` runs
`refflow check torch` (a minute); `training`, `models` and `conditional` run the commands that they show (the extra `data`;
minutes).  Sections of README.md: `systems` reads a file that is checked in, `check` and `adapter` run the code above them
there, `findings` are rows of the table `torch`, and `peers` are of the table that `python -m validation.peers` makes.

Another machine rounds differently.  Words and whole numbers are compared exactly; two numbers, if one of them has a decimal
point or an exponent, may differ by one unit of the last printed place of the coarser one; the width of the spaces
that align columns is not compared.
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
from decimal import Decimal
from importlib import resources
from pathlib import Path

import refflow
from refflow.core.registry import REGISTRY, chapter
from refflow.maps import load_all
from refflow.report import magnitude

from .peers.pages import head, records

load_all()
ROOT = Path(__file__).parent.parent
README, TABLES = ROOT / "README.md", ROOT / "validation" / "tables"
SECTION = re.compile(r"(<!-- begin (\w+): [^\n]* -->\n)(.*?)(<!-- end \2 -->)", re.S)
NUMBER = re.compile(r"(?<![\w.])[-+]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w|\.\d)")
DTYPES = ("float64", "float32")


# -- comparing --------------------------------------------------------------------------------------------------------

def difference(standing, made):
    """The first difference of two printed texts that rounding cannot explain, as a line for people, or None."""
    ours, theirs = standing.splitlines(), made.splitlines()
    for i, (a, b) in enumerate(zip(ours, theirs), 1):
        if not alike(a, b):
            return f"line {i}: {b!r}, not {a!r}"
    return None if len(ours) == len(theirs) else f"{len(theirs)} lines, not {len(ours)}"


def alike(a, b):
    """Are two lines the same except for the last printed place of numbers with a fraction or an exponent?"""
    a, b = (re.sub("-{4,}", "---", " ".join(line.split())) for line in (a, b))
    return NUMBER.split(a) == NUMBER.split(b) and all(map(near, NUMBER.findall(a), NUMBER.findall(b)))


def near(a, b):
    return a == b or abs(Decimal(a) - Decimal(b)) <= max(last_place(a), last_place(b))


def last_place(number):
    """One unit of the last printed place; 0 for a whole number."""
    return Decimal(1).scaleb(Decimal(number).as_tuple().exponent) if set(number) & set(".e") else Decimal(0)


# -- tables from the files that are checked in ------------------------------------------------------------------------

def row(cells):
    return "| " + " | ".join(str(c).replace("|", "\\|") for c in cells) + " |"


def table(head, rows):
    return "\n".join([row(head), row(["---"] * len(head)), *map(row, rows)]) + "\n"


def certificate():
    """The largest C of each page, and the allowance there."""
    stored = json.loads((resources.files(refflow) / "oracle" / "certificate.json").read_text(encoding="utf-8"))
    rows = []
    for name in REGISTRY:
        page = stored["pages"][name]
        worst = [max(((float(q[dtype]["C"]), q[dtype]["allowed"], key) for key, q in page.items() if dtype in q),
                     key=lambda found: found[0] / found[1]) for dtype in DTYPES]
        rows.append([name, len(page), *(f"{C:.2f} of {allowed:g} ({key})" for C, allowed, key in worst)])
    made, elsewhere = stored["fingerprint"], ", ".join(stored["elsewhere"])
    return ("The error of every quantity in units of u·κ, the rounding error that the inputs' own rounding causes anyway: "
            f"the largest over the certified range. Made on {made['machine']}, NumPy {made['numpy']}, {made['simd']}"
            + (f" (on another machine: {elsewhere})" if elsewhere else "")
            + "; the whole table is in [certificate.md](../certificate.md).\n\n"
            + table(["page", "quantities", *DTYPES], rows))


def pages():
    """Every page with what it is, chapter by chapter."""
    rows = []
    for name, page in REGISTRY.items():
        module = sys.modules[page.__module__]
        path = "../../" + page.__module__.replace(".", "/") + ".py"
        title = module.__doc__.strip().split("\n")[0].rstrip(".:")
        rows.append([f"[{name}]({path})", chapter(page), page.kind, title])
    return ("Chapters stand in the order of [refflow/maps](../../refflow/maps/README.md#chapters), from the simplest, and pages by the names "
            "of their files.\n\n" + table(["page", "chapter", "kind", "what it is"], rows))


def systems():
    """What the systems agree to, and on which processor: other ones add up in another order."""
    found = json.loads((resources.files(refflow) / "oracle" / "agreement.json").read_text(encoding="utf-8"))
    names = ", ".join(f"{name} {one['largest']:.0e}" for name, one in found.items())
    files, (of, *_) = sum(one["files"] for one in found.values()), [one["processor"].partition(",")[0] for one in found.values()]
    return ("These systems are here whole, and agree to 1e-9, relatively, with numbers that the authors' code, or a port of it, computed "
            f"({files} files,\n`python -m validation.original --write`). The largest differences on one processor, {of}: {names}.\n")


# -- torch ------------------------------------------------------------------------------------------------------------

def torch():
    """The findings of `check torch`: the worst for each transform and quantity, with the input that shows it."""
    done = subprocess.run([sys.executable, "-m", "refflow", "check", "torch", "--json"], capture_output=True, text=True,
                          env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=ROOT)
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
                         in_units(found["error"]), in_units(found["worst"]), shortened(found["diagnosis"]) or "-"])
    passed, failed = len(report["passed"]), len(report["failed"])
    return (f"With torch {report['version']}, {passed} checks pass and {failed} fail. The table has one row for each transform "
            "and quantity that fails, the worst first. A row shows the simplest input where the quantity is wrong, what torch "
            "gives there, and the true value, which is computed with 50 digits and then rounded. `error` is the error at that "
            "input and `worst` the largest error that was seen, both in units of u·κ; 16 units are allowed.\n\n"
            + table(["transform", "quantity", "dtype", "input", "given", "true", "error", "worst", "what it is"], rows))


def written(params, event):
    given = ", ".join(f"{k}={short(v, 17)}" for k, v in params.items())
    return f"{short(event, 17)}" + (f"; {given}" if given else "")


def told_apart(given, true):
    """Both, with as few digits as distinguish them."""
    pairs = [(short(given, digits), short(true, digits)) for digits in (5, 9, 13, 17)]
    return next((pair for pair in pairs if pair[0] != pair[1]), pairs[-1])


def short(value, digits):
    """A number, or nested lists of them, to so many digits, or fewer if they give the same number back."""
    if isinstance(value, list):
        return "[" + ", ".join(short(v, digits) for v in value) + "]"
    if isinstance(value, float):
        rounded = f"{value:.{digits}g}"
        return min((rounded, repr(value)), key=len) if digits == 17 else rounded
    return "-" if value is None else str(value)


def shortened(text, width=90):
    return text if len(text) <= width else text[:width].rsplit(" ", 1)[0] + " ..."


def in_units(error):
    """An error of the report, which has words for infinite ones."""
    return magnitude(error) if isinstance(error, (int, float)) else error


SHOWN = (("TanhTransform", "log_det"), ("SigmoidTransform", "log_det"))


def findings():
    """The first line and a few rows of the table `torch`."""
    first, *lines = (TABLES / "torch.md").read_text(encoding="utf-8").split("\n\n", 2)[2].splitlines()
    rows = [[cell.strip().replace("\\|", "|") for cell in line.strip("| ").split(" | ")]
            for line in lines if line.startswith("|")]
    chosen = [found for key in SHOWN for found in rows[2:] if (found[0].strip("`"), found[1]) == key]
    kept = [[*found[:7], found[8]] for found in chosen]
    return first.split(". The table")[0] + "; among them:\n\n" + table([*rows[0][:7], rows[0][8]], kept)


# -- transcripts ------------------------------------------------------------------------------------------------------

TRAINING = ("python -m refflow data breast_cancer --out cancer.csv",
            "python -m refflow fit cancer.csv --model realnvp --test 0.1 --out cancer.npz",
            "python -m refflow score cancer.npz cancer.csv --out scores.csv",
            "python -m refflow sample cancer.npz --n 200 --out new.csv",
            "python -m refflow data digits --out digits.npy",
            "python -m refflow fit digits.npy --model realnvp --dequantise --test 0.1 --steps 500 --out digits.npz",
            "python -m refflow data wine --out wine.csv",
            "python -m refflow fit wine.csv --model realnvp --dequantise --test 0.1 --out wine.npz")
CONDITIONAL = ("python -m validation.conditional --seeds 5",)


DATA = ("python -m refflow data breast_cancer --out cancer.csv",
        "python -m refflow data breast_cancer --labels --out classes.csv", "python -m refflow data hues --out hues.csv")
MODELS = {"cancer.csv": ("nice --steps 600", "realnvp --steps 600", "maf --steps 600", "naf --steps 300",
                         "bnaf --learning-rate 0.01 --steps 400", "nsf --couplings 2 --steps 200",
                         "nsf-ar --layers 2 --steps 200", "iaf --learning-rate 0.005 --steps 400", "sospf --steps 300",
                         "bpf --steps 300", "umnn --steps 100", "flow++ --steps 300",
                         "gaussianization --learning-rate 0.02 --steps 300"),
          "classes.csv": ("realnvp --context class --steps 600", "maf --context class --steps 600",
                          "naf --context class --steps 300", "nsf --context class --couplings 2 --steps 200",
                          "nsf-ar --context class --layers 2 --steps 200",
                          "iaf --context class --learning-rate 0.005 --steps 400", "sospf --context class --steps 300",
                          "bpf --context class --steps 300", "flow++ --context class --steps 200"),
          "hues.csv": ("circular-nsf --steps 500",)}


def transcript(commands, directory):
    """Commands and their standard output, each in `directory`."""
    lines = ["```text"]
    for command in commands:
        lines += [f"$ {command}", *outcome(command, directory).splitlines()]
    return "\n".join([*lines, "```"]) + "\n"


def outcome(command, directory):
    """The standard output of a command."""
    done = subprocess.run([sys.executable, *shlex.split(command)[1:]], capture_output=True, text=True, cwd=directory,
                          env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    if done.returncode:
        raise SystemExit(f"{command}: {done.stderr}")
    return done.stdout


def training():
    """The command line on real data."""
    with tempfile.TemporaryDirectory() as directory:
        return transcript(TRAINING, directory)


def models():
    """Every model of the command line on rows that it has not seen, next to the best Gaussian."""
    rows, log = [], "mean log p of the test rows"
    with tempfile.TemporaryDirectory() as directory:
        transcript(DATA, directory)
        for data, given in MODELS.items():
            for options in given:
                command = f"python -m refflow fit {data} --test 0.2 --out flow.npz --force --model {options}"
                report = json.loads(outcome(f"{command} --json", directory))
                test, gaussian, gain = (report[key]["test"] for key in ("after", "gaussian", "gain"))
                rows.append([data, f"`{options}`", f"{test['nats']:.1f}", f"{gaussian['nats']:.1f}",
                             f"{gain['nats']:.1f} +- {gain['error']:.1f}"])
    return (", ".join(f"`{command}`" for command in DATA) + " write the data. A row is what "
            "`python -m refflow fit DATA --test 0.2 --model MODEL` says of the test rows, a fifth of all, which choose nothing: "
            "densities in nats, in the units of the data; all random numbers are those of seed 0. With `--context class` "
            "they are densities given the class, and the Gaussian's mean is a linear function of it.\n\n"
            + table(["data", "model", log, "a Gaussian", "gain over it"], rows))


def conditional():
    """A conditional flow on real data."""
    return transcript(CONDITIONAL, ROOT)


def peers():
    """A few rows of the table of other libraries."""
    return head(records())


def check():
    """The last lines of `refflow check`."""
    return text_block(printed(["check", "--workers", str(os.cpu_count())]).rsplit("\n\n", 1)[1])


def adapter():
    """The finding in the README's own example."""
    code = next(code for code in re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.M | re.S)
                if "@adapter" in code)
    with tempfile.TemporaryDirectory() as directory:
        Path(directory, "adapters.py").write_text(code, encoding="utf-8")
        return text_block(printed(["check", "adapters.py"], directory, 1).split("\n\n")[0])


def printed(arguments, directory=ROOT, status=0):
    done = subprocess.run([sys.executable, "-m", "refflow", *arguments], capture_output=True, text=True, cwd=directory,
                          env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)})
    if done.returncode != status:
        raise SystemExit(f"refflow {' '.join(arguments)}: {done.stdout}{done.stderr}")
    return done.stdout


def text_block(text):
    return f"```text\n{text.strip()}\n```\n"


# -- files ------------------------------------------------------------------------------------------------------------

TITLES = {pages: "The pages, in reading order", certificate: "The certificate, the worst quantity of each page",
          torch: "What `refflow check torch` finds", training: "Flows trained on real data, from the command line",
          models: "Every model on rows that it has not seen",
          conditional: "A flow that is given the class"}
GENERATORS = {make.__name__: make for make in (*TITLES, systems, check, adapter, findings, peers)}


def whole(name, body):
    """The file of a table."""
    return f"# {TITLES[GENERATORS[name]]}\n\n`python -m validation.readme {name}` writes this file.\n\n{body}"


def standing(name):
    """The text that is checked in: a table's file, or for another name its section of the README."""
    if GENERATORS[name] not in TITLES:
        return sections(README.read_text(encoding="utf-8"))[name]
    path = TABLES / f"{name}.md"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def stale(name):
    """How the text that is checked in differs from its command's output, or None."""
    body = GENERATORS[name]()
    return difference(standing(name), whole(name, body) if GENERATORS[name] in TITLES else body)


def sections(text):
    """{name: the text that stands in the README}."""
    return {name: body for _, name, body, _ in SECTION.findall(text)}


def write(name, body=None):
    """Write a table, or a section of the README: what its command gives, or `body`."""
    body = GENERATORS[name]() if body is None else body
    if GENERATORS[name] in TITLES:
        path, text = TABLES / f"{name}.md", whole(name, body)
    else:
        path, text = README, SECTION.sub(lambda m: m[1] + (body if m[2] == name else m[3]) + m[4],
                                         README.read_text(encoding="utf-8"))
    temporary = path.with_suffix(".md.new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def main():
    parser = argparse.ArgumentParser(prog="python -m validation.readme", description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(GENERATORS)}; all if none is named")
    options = parser.parse_args()
    names = options.names or list(GENERATORS)
    if set(names) - set(GENERATORS):
        parser.error(f"there is no {', '.join(sorted(set(names) - set(GENERATORS)))}; there are {', '.join(GENERATORS)}")
    if not options.check:
        for name in names:
            write(name)
        return
    found = {name: stale(name) for name in names}
    for name, text in found.items():
        print(f"{name}: " + ("fresh" if text is None else f"stale: its command gives {text}"))
    raise SystemExit(any(found.values()))


if __name__ == "__main__":
    main()
