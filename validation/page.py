"""One page, from its first draft to everything that is generated from it, in one command.

    python -m validation.page NAME              checks the page, and writes what is generated from it
    --all                                       goes on after the first failure
    --again                                     asks anew what is on record for the code that is here
    --mutants                                   judges its mutants, too; a run that stops is resumed
    --json                                      prints the verdict as JSON
    --workers N                                 processes of the certificate, of `refflow check` and of the mutants

The steps stand in the order in which mistakes are found soonest: names, completeness, the printed equations, the form of the page, the
hard cases alone, the laws, the certificate, golden points, tables, and the tests that read what was written.  A step is not asked anew
where its result stands: where all code that it depends on is as it was, whatever its comments and docstrings say.  Nothing of a page
that fails is written but its name in the index.  Exit status 1 if a step fails.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import time
import traceback
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest

from refflow.cli import sweeps
from refflow.cli.options import positive_count

from . import of_page
from .points import recorded
from .records import reached

ROOT = Path(__file__).parent.parent
MAPS, PASSED = ROOT / "refflow" / "maps", Path(__file__).parent / "unfinished" / "laws.json"
GUIDE = "refflow/maps/README.md, What the certificate asks"
FORM = ("pages", "parts", "notation", "prose")
LAWS = ("laws", "values", "branches", "ends", "parametrisations", "conditioners", "density")
WRITTEN = ("certificate", "vectors", "black_box", "book")


@dataclass
class Step:
    """One step: its name, whether it passed, what it found, and the seconds it took."""

    name: str
    status: str
    text: str
    seconds: float


class Failed(Exception):
    """What a step found, and what to do next."""


# -- the steps --------------------------------------------------------------------------------------------------------

def names(name, workers):
    """The index of names and the types, written first: a new page is not known without it."""
    from validation import generated
    generated.main([])


def completeness(name, workers):
    from refflow.laws.pages import lacks
    missing = lacks(page_named(name))
    if missing:
        raise Failed("\n".join(missing))


def printed_equations(name, workers):
    """The equations that it prints, run where its textbook cites them."""
    from validation import equations
    if not page_named(name).textbook:
        return "none: it has no textbook"
    text, _ = equations.of_page(name)
    states = equations.counted(text)
    wrong = [equations.told(name, text, unit) for unit in text.units if unit.state == "contradicted"]
    wrong += equations.unlisted(name, {n: state for n, state in states.items() if state != "contradicted"})
    if wrong:
        raise Failed("\n".join([*wrong, f"python -m validation.equations {name} --write lists what is not executed"]))
    return f"{list(states.values()).count('executed')} of {len(states)} executed"


def hard_cases(name, workers):
    """The page's own hard cases, before all other points."""
    from validation.records.calls import pasted
    from validation.certify import DTYPES, allowed, case_of, encoded, errors, explained, sides, GENERATORS, Draw
    page, count = page_named(name), 0
    for dtype in DTYPES:
        for side in sides(page):
            for point in GENERATORS.get(page.kind, Draw)(page, dtype, side).hard_points():
                count += 1
                for quantity, (C, _) in errors(point).items():
                    if C is not None and not C <= allowed(point, quantity):
                        raise Failed(f"{dtype} {quantity}: C = {C:.3g} > {allowed(point, quantity):g} allowed\n"
                                     f"{pasted(name, dtype, encoded(point))}\n{case_of(point)}{explained(point, quantity)}\n"
                                     f"see {GUIDE}")
    return f"{count} points"


def form(name, workers):
    """What is asked of its text."""
    return tests_of(name, FORM)


def laws(name, workers):
    return tests_of(name, LAWS)


def certificate(name, workers):
    """All its points, and the search; its rows are written where none fails."""
    from validation import certify
    document = certify.certificate_of([name], workers, None)
    failed = certify.failures(document, [name])
    if failed:
        raise Failed("\n".join([*failed, f"see {GUIDE}"]))
    certify.write(document, name)
    return f"{sum(sum(by_side.values()) for by_side in document['points'][name].values())} points"


def golden_points(name, workers):
    """The page's golden points, and its checks at them; the README's count of checks, where the page may have changed it."""
    from refflow.oracle import check
    from refflow.oracle.points.pages import bijectors
    from validation import golden, readme
    if name not in bijectors():
        return "none: it has components, or is not a bijector"
    before = counted(name)
    golden.write_all([name], workers)
    report = check(page=name)
    if report.failed:
        raise Failed("\n".join(report.table().splitlines()[-3:]))
    standing = readme.standing("check")
    if leads(report, standing):
        readme.write("check")
    elif counted(name) != before:
        readme.write("check", recounted(standing, len(counted(name)) - len(before), len(bijectors())))
    return f"{len(report.passed)} checks pass"


def counted(name):
    """The checks of a page that the README counts: its quantities, by dtype."""
    from refflow.oracle.points import golden
    path = golden.DIRECTORY / f"{name}.json"
    if not path.exists():
        return set()
    return {(point["dtype"], key) for point in json.loads(path.read_text())["points"] for key in point["quantities"]}


def recounted(standing, more, pages):
    """What the README says of `refflow check`, with so many more checks, and so many pages with golden points."""
    from refflow import REGISTRY
    found = re.sub(r"(\d+) checks pass", lambda count: f"{int(count[1]) + more} checks pass", standing)
    return re.sub(r"\d+ of \d+ pages", f"{pages} of {len(REGISTRY)} pages", found)


def leads(report, standing):
    """Is the largest error that passes, which the README names, of this page, or may it be now?"""
    largest, allowed, page = re.search(r"passes: (\S+) of (\S+) units \((\w+)", standing).groups()
    own = max(one.error / one.allowed for one in report.passed)
    return page in {one.bijector for one in report.passed} or own >= float(largest) / float(allowed)


def tables(name, workers):
    """The tables of all pages."""
    from validation import readme
    for table in ("pages", "certificate"):
        readme.write(table)


def written(name, workers):
    """The tests of what was written."""
    return tests_of(name, WRITTEN)


def mutants(name, workers):
    from validation.mutants import __main__ as command
    if command.main([name, "--workers", str(workers)]):
        raise Failed(f"too few of its mutants are killed, or some are not judged: python -m validation.mutants {name}")


STEPS = {"names": names, "completeness": completeness, "equations": printed_equations, "form": form, "hard cases": hard_cases,
         "laws": laws, "certificate": certificate, "golden points": golden_points, "tables": tables, "tests": written}


def tests_of(name, files):
    """Run the page's tests in some files, in a new process, which has cached nothing."""
    paths = [str(test_file(file)) for file in files]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rN", "-p", "no:cacheprovider", "-p", "validation.of_page",
                           "-o", "verbosity_assertions=2", *paths],             # a comparison is told whole
                          capture_output=True, text=True, cwd=ROOT, env=os.environ | {"REFFLOW_PAGE": name})
    lines = (done.stdout + done.stderr).splitlines()
    if done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
        _, found, told = done.stdout.partition(of_page.HEAD)
        raise Failed("\n".join(told.strip().splitlines()[:-1] if found else lines[-5:]))
    return lines[-1]


def test_file(name):
    return ROOT / "tests" / f"test_{name}.py"


# -- what is on record ------------------------------------------------------------------------------------------------

def standing(name):
    """The steps whose results are on record for the code that is here."""
    rows, points = rows_stand(name), golden_points_stand(name)
    stand = {"hard cases": rows, "laws": laws_stand(name), "certificate": rows, "golden points": points, "tables": rows and points,
             "tests": rows and points}
    return {step for step, stands in stand.items() if stands}


def rows_stand(name):
    return not reached.changed([name])


def golden_points_stand(name):
    from refflow.oracle.points.pages import bijectors
    from validation import certify, golden
    return name not in bijectors() or not golden.stale([name], json.loads(certify.CERTIFICATE.read_text()))


def laws_stand(name):
    return rows_stand(name) and passed_laws().get(name) == digest_of_laws(name)


def passed_laws():
    """{page: the digest of the code with which it passed its laws}, of this checkout."""
    return json.loads(PASSED.read_text()) if PASSED.exists() else {}


def digest_of_laws(name):
    files = [*sorted((ROOT / "refflow" / "laws").glob("*.py")), *map(test_file, LAWS)]
    return reached.hashed("\n".join([reached.digest(name, reached.record()[name]["reached"]), *map(reached.code_of, files)]))


def keep_laws(name):
    """Laws that a page has passed stand until its code, or theirs, changes."""
    PASSED.parent.mkdir(exist_ok=True)
    recorded.written(PASSED, json.dumps(passed_laws() | {name: digest_of_laws(name)}, indent=0, sort_keys=True) + "\n")


def stands(name, workers):
    return "stands"


# -- the command ------------------------------------------------------------------------------------------------------

def page_named(name):
    from validation.certify import PAGES
    return PAGES[name]


def taken(step, function, name, workers):
    """A step, and what came of it; an exception of the page's own is a failure too."""
    start = time.perf_counter()
    try:
        status, text = "pass", function(name, workers) or ""
    except Failed as failure:
        status, text = "FAIL", str(failure)
    except Exception as failure:                    # of the page's own code: said, with the step that met it
        status, text = "FAIL", f"{type(failure).__name__}: {failure}{at_line(failure)}"
    return Step(step, status, text, round(time.perf_counter() - start, 1))


def at_line(error):
    """Where the code of a page raised it, in which statement."""
    lines = [line for line in traceback.extract_tb(error.__traceback__) if Path(line.filename).is_relative_to(MAPS)]
    return f"\n{Path(lines[-1].filename).relative_to(ROOT)}, line {lines[-1].lineno}: {lines[-1].line}" if lines else ""


def run(name, steps, workers, go_on, tell):
    """The steps until the first failure, or all; what is generated from a page that fails is not written."""
    found = []
    for step, function in steps.items():
        if any(one.status == "FAIL" for one in found) and (not go_on or function in (golden_points, tables, written)):
            found.append(Step(step, "not asked", "", 0.0))
            continue
        found.append(taken(step, function, name, workers))
        tell(found[-1])
    return found


def shown(step):
    indented = "".join(f"\n    {line}" for line in step.text.splitlines()) if "\n" in step.text else f"  {step.text}"
    return f"{step.status:5} {step.name:14}{step.seconds:6.1f} s{indented}".rstrip()


def verdict(name, found, seconds):
    failed = [step.name for step in found if step.status == "FAIL"]
    left = [step.name for step in found if step.status == "not asked"]
    if failed:
        return f"{name} fails: {', '.join(failed)}" + (f"; not asked: {', '.join(left)}" if left else "")
    return f"{name} passes, in {seconds:.0f} s; next: git add what was written, python -m validation.mutants {name}"


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.page", description=__doc__.splitlines()[0])
    parser.add_argument("page", metavar="NAME", help="the name of its class")
    parser.add_argument("--all", action="store_true", help="go on after the first failure")
    parser.add_argument("--again", action="store_true", help="ask anew what is on record for the code that is here")
    parser.add_argument("--mutants", action="store_true", help="judge its mutants, too")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--workers", type=positive_count, default=os.cpu_count(), metavar="N", help="processes")
    chosen, start = parser.parse_args(arguments), time.perf_counter()

    def tell(step):
        print(shown(step), file=sys.stderr if chosen.json else sys.stdout, flush=True)

    found = [taken("names", names, chosen.page, 1)]
    tell(found[0])
    if found[0].status == "pass":
        from validation.certify import PAGES
        if chosen.page not in PAGES:
            parser.error(f"no page is called {chosen.page!r}")
        kept = set() if chosen.again else standing(chosen.page)
        steps = STEPS | ({"mutants": mutants} if chosen.mutants else {})
        steps = {step: stands if step in kept else function for step, function in steps.items() if step != "names"}
        found += run(chosen.page, steps, chosen.workers, chosen.all, tell)
        if any(step.name == "laws" and step.status == "pass" for step in found) and rows_stand(chosen.page):
            keep_laws(chosen.page)
    text = verdict(chosen.page, found, time.perf_counter() - start)
    print(json.dumps({"page": chosen.page, "verdict": text, "steps": [asdict(step) for step in found]}, indent=1)
          if chosen.json else text)
    return int(any(step.status == "FAIL" for step in found))


if __name__ == "__main__":
    sys.exit(sweeps.run("validation.page"))
