"""Golden points: the truth at a few points of every page, for code in any language.

    python -m validation.golden                 write the points of the bijectors without components whose record is of other code
    --all                                       of all of them
    --page Tanh                                 of one page
    --check                                     write nothing: make the files anew whose record is of other code, and compare
    --tenth                                     with --check: also a tenth of the others, another one every day
    --workers N                                 in so many processes

What a file depends on, its page, the modules that draw and measure points, and the page's rows of the certificate, is hashed in
golden_of.json, beside the machine: the floats at which a page's code switches may be others on another one.  The exit status is 1
if --check finds a file that its code does not make, or one of other code that was made on another machine.

One file for each page, refflow/oracle/golden/NAME.json: for each dtype and side it holds all hard cases, the worst points of
the certificate, for a scalar page points in every moderate binade from every end, some where its code switches, where scales are
opposite or where a loose solver errs most, and some others.
Where kappa, which is first-order, does not tell how far rounding moves a quantity, `first_order` is false, and other
people's numbers are not compared with it.  Inputs are exact (hexadecimal floats), truth is decimal: 30 digits of each
entry and 8 of its kappa.  Numbers beyond 10^(+-30000), whose exponents would not end, are written +-1e+30000 and 0.
Where the events of a map lie in a set of lower dimension, its Jacobian and the cotangent of its event also have `tangents`, the
rows of F at the event, one for each entry: only what they do along F is a claim, see `truth`.

A second file, refflow/oracle/exact/NAME.json, holds points whose every real number is a bfloat16 number, so that one truth
serves code of every precision: the hard cases whose numbers are, and moderate points, rounded.  `exact_in` lists the
formats that hold the numbers of a point.  Where kappa does not tell in each of them how far rounding moves a quantity, its
`first_order` lists the formats in which it does.  A page whose parameters or events satisfy equations (an orthogonal matrix, a
simplex) has only points whose rounded numbers satisfy them too.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
from flint import arb, ctx

from refflow import REGISTRY
from refflow.accuracy import formats
from refflow.accuracy.drawing import Point, image_shape, plainest, set_of
from refflow.accuracy.formats import FORMATS
from refflow.cli import sweeps
from refflow.cli.options import positive_count
from refflow.core import tree
from refflow.oracle.points.pages import bijectors
from refflow.truth.ends import is_end
from refflow.truth.engine import FIRST_DIGITS, decimal

from .certify import CERTIFICATE, DTYPES, ORACLE, SIDES, errors, fingerprint, first_order, nearby, truth
from .points.drawn import BINADE, LOOSE, OPPOSITE, PARAMETERS, SWITCH, SWITCH_IMAGE, Draw, belongs, is_small, points
from .points.recorded import decoded, encoded, written
from .records import reached

GOLDEN, EXACT, RECORD = ORACLE / "golden", ORACLE / "exact", Path(__file__).parent / "golden_of.json"
WORST, SPREAD, AT_LEAST = 4, 16, 6                  # points from the certificate; points in all; at least this many others
SEARCHED, FEW = (SWITCH, SWITCH_IMAGE, OPPOSITE, LOOSE), 6       # reasons of points that were searched for; this many of them
LARGEST = 30000                                     # exponent of 10
EVERY = "float64"                                   # the dtype in which exact points are drawn, as its truth serves all
ROUNDED, ONE_CASE = 6, 1                            # exact points of a side that are rounded, and of one hard case


def golden_points(page, dtype, side, certificate) -> list[Point]:
    """Hard cases, worst points, and some others, evenly chosen from the drawn ones; events at ends are the certificate's."""
    drawn = [point for point in points(page, dtype, side) if not is_end(point.f, side, point.event)]
    hard = [point for point in drawn if point.case]
    worst = worst_points(page, dtype, side, certificate)[:WORST]
    binades = list(Draw(page, dtype, side).moderate_points())
    searched = [point for point in drawn if point.reason in SEARCHED]
    searched = searched[len(searched) // FEW // 2::max(1, len(searched) // FEW)][:FEW]
    small = [point for point in drawn if not point.case and is_small(point.event)
             and not point.reason.startswith(BINADE) and point.reason not in SEARCHED]
    large = [point for point in drawn if not point.case and not is_small(point.event)][:1]
    count = max(AT_LEAST, SPREAD - len(hard) - len(worst) - len(large))
    step = max(1, len(small) // count)
    chosen = hard + worst + small[step // 2::step][:count] + large + binades + searched
    return list({json.dumps(encoded(point)): point for point in reversed(chosen)}.values())[::-1]


def worst_points(page, dtype, side, certificate):
    """The points at which the certificate found the largest errors, the largest first; only small ones, none at an end."""
    rows = [(quantity, row[dtype]) for quantity, row in certificate["pages"].get(page.__name__, {}).items() if dtype in row]
    rows = [(quantity, row) for quantity, row in rows if row["worst"]["side"] == side]
    rows.sort(key=lambda named: -float(named[1]["C"]))
    found = [decoded(page, dtype, row["worst"], f"largest error of {quantity}") for quantity, row in rows]
    return [point for point in found if is_small(point.event) and not is_end(point.f, side, point.event)]


def printed(x, digits):
    if x.abs_lower() > arb(10) ** LARGEST:
        return f"{'' if x > 0 else '-'}1e+{LARGEST}"
    return "0" if x.abs_upper() < arb(10) ** -LARGEST else decimal(x, digits)


def asked(point):
    """{quantity: (truth, is kappa of the first order there?)} of the settled quantities that the certificate has."""
    unsettled, true = {name for name, (C, _) in errors(point).items() if C is None}, truth(point)
    near = list(nearby(point))
    return {name: (quantity, first_order(point, name, true, near=near)) for name, quantity in true.items()
            if name not in unsettled}


def answer(quantity):
    """The truth of a quantity as the files hold it."""
    found = {"shape": list(quantity.shape), "true": [printed(v, 30) for v in quantity.value],
             "kappa": [printed(k, 8) for k in quantity.kappa]}
    F = quantity.tangents
    return found | ({"tangents": [[printed(entry, 30) for entry in row] for row in F]} if F else {})


def record(identity, dtype, point):
    """One point of the file, with the quantities whose truth is settled."""
    with ctx.workdps(FIRST_DIGITS[dtype]):
        quantities = {name: answer(q) | ({} if first else {"first_order": False}) for name, (q, first) in asked(point).items()}
    inputs = encoded(point)
    return {"id": identity, "dtype": dtype, "side": inputs.pop("side"), "case": point.case, "reason": point.reason,
            **inputs, "quantities": quantities}


def lines(name, dtype, side, certificate) -> list[str]:
    """The lines of one dtype and side in the file of a page."""
    return [json.dumps(record(f"{name}-{dtype}-{side}-{i:03}", dtype, point), separators=(",", ":"))
            for i, point in enumerate(golden_points(REGISTRY[name], dtype, side, certificate))]


def document(name, certificate, run=map) -> str:
    """The file of one page, one line for each point; `run` maps over its dtypes and sides."""
    return joined("golden", name, run(functools.partial(lines, name, certificate=certificate),
                                      *zip(*itertools.product(DTYPES, SIDES))))


# -- points that are exact in bfloat16 -----------------------------------------------------------------------------------

def exact_points(page, side) -> list[Point]:
    """Hard cases, and moderate points that are rounded to bfloat16."""
    drawn = Draw(page, EVERY, side)
    hard, cases = [], {}
    for point in drawn.hard_points():
        exact = rounded(point) if is_exact_case(page, point) and is_small(point.event) and is_for_all(point) else None
        if exact is not None and np.array_equal(exact.event, point.event) and cases.get(point.case, 0) < ONE_CASE:
            cases[point.case] = cases.get(point.case, 0) + 1
            hard.append(exact)
    chosen = (point for point in drawn.drawn_points() if point.reason == "moderate" and is_small(point.event))
    moderate = [exact for exact in map(rounded, chosen) if exact is not None][:ROUNDED]
    simple = [exact for exact in map(rounded, map(with_plainest, drawn.drawn_points())) if exact is not None][:ROUNDED] \
        if not moderate else []
    return list({json.dumps(encoded(point)): point for point in reversed(hard + moderate + simple)}.values())[::-1]


def is_for_all(point):
    """Are the parameters in the range that float32 certifies?"""
    sizes = [np.abs(value) for value in tree.arrays(point.f).values() if is_real(value)]
    low, high = (2.0**(sign * PARAMETERS["float32"]) for sign in (-1, 1))
    return all(np.all((size == 0) | (size >= low) & (size <= high)) for size in sizes)


def is_exact_case(page, point):
    """Are the parameters that a hard case names bfloat16 numbers?"""
    given = [value for case in page.hard_cases if case.name == point.case for value in case.params.values()]
    return all(FORMATS["bfloat16"].holds(value) for value in given if is_real(value))


def kept(value, rounded_value):
    """A plain value stays one."""
    return rounded_value if isinstance(value, np.ndarray) else type(value)(rounded_value.tolist())


def with_plainest(point):
    """The point with the simplest parameters of its page, and the simplest event of a set whose members satisfy equations."""
    where = set_of(point.f, point.side)
    try:
        f = plainest(type(point.f), EVERY, point.f.dims.get("D", 2))
        shape = image_shape(f, point.side, point.event.shape)
    except (ValueError, TypeError):
        return None
    if point.image_bar is None or point.image_bar.shape != shape:
        return None
    event = where.plainest(point.event.shape) if where.rank else point.event
    return point.changed(f=f, event=np.asarray(event, EVERY), case="", reason="the simplest parameters")


def is_real(value):
    return np.asarray(value).dtype.kind == "f"


def rounded(point):
    """The point with bfloat16 numbers; None if these are not a member of the page or of its events."""
    to = FORMATS["bfloat16"].rounded
    if point is None or point.image_bar is None:
        return None
    fields = {key: getattr(point.f, key) for key in point.f.declared if getattr(point.f, key) is not None}
    try:
        f = type(point.f)(**{key: kept(value, to(value)) if is_real(value) else value for key, value in fields.items()})
    except ValueError:
        return None
    event = to(point.event)
    if not belongs(set_of(f, point.side), event):
        return None
    return Point(f, point.side, event, to(point.image_bar), to(point.log_det_bar), point.case, point.reason)


def exact_in(point):
    """The formats that hold all numbers of a point."""
    numbers = [point.event, point.image_bar, point.log_det_bar,
               *(value for key in point.f.declared if is_real(value := getattr(point.f, key)))]
    return [key for key, form in FORMATS.items() if all(form.holds(value) for value in numbers)]


def exact_record(point):
    true, formats, quantities = truth(point), exact_in(point), {}
    units = {key: 2 * FORMATS[key].unit for key in formats}
    near = {key: list(nearby(point, unit)) for key, unit in units.items()}
    with ctx.workdps(FIRST_DIGITS[EVERY]):
        for name, q in true.items():
            first = [key for key in formats if first_order(point, name, true, units[key], near[key])]
            marked = {} if first == formats else {"first_order": first}
            quantities[name] = answer(q) | marked
    inputs = encoded(point)
    return {"side": inputs.pop("side"), "exact_in": formats, "case": point.case, "reason": point.reason, **inputs,
            "quantities": quantities}


def exact_lines(name, side) -> list[str]:
    return [json.dumps(exact_record(point), separators=(",", ":")) for point in exact_points(REGISTRY[name], side)]


def exact_document(name, run=map) -> str:
    """The file of exact points of one page, one line for each point."""
    return joined("exact", name, run(exact_lines, [name] * len(SIDES), SIDES))


# -- the files --------------------------------------------------------------------------------------------------------

def joined(kind, name, parts):
    """The file of a page, whose lines come in parts."""
    body = ",\n".join(line for part in parts for line in part)
    return f'{{"schema":"refflow/{kind}/1","bijector":"{name}","points":[\n{body}\n]}}\n'


def files(name, certificate, run=map):
    """{path: text} of one page."""
    return {GOLDEN / f"{name}.json": document(name, certificate, run), EXACT / f"{name}.json": exact_document(name, run)}


def depends_on(name, certificate, reaches):
    """The hash of what the files of a page depend on; `reaches` is the record of what pages reach."""
    own = [Path(__file__), Path(formats.__file__)]
    code = reached.digest_of_code(name, reaches.get(name, {"reached": {}})["reached"])
    return reached.hashed("\n".join([code, json.dumps(certificate["pages"].get(name)),
                                     *(str(reached.module(str(path.relative_to(reached.ROOT)))) for path in own)]))


def machine():
    return reached.hashed(json.dumps(fingerprint()))


def recorded():
    """{page: {"of": what its files depended on when they were written, "machine"}}."""
    return json.loads(RECORD.read_text()) if RECORD.exists() else {}


def stale(names, certificate):
    """The pages whose files were not made by the code that is here."""
    known, reaches = recorded(), reached.record()
    return [name for name in names if known.get(name, {}).get("of") != depends_on(name, certificate, reaches)]


def elsewhere(names):
    """The pages whose files another machine made."""
    known = recorded()
    return [name for name in names if known.get(name, {}).get("machine", machine()) != machine()]


def write_all(names, workers=1):
    certificate, reaches = json.loads(CERTIFICATE.read_text()), reached.record()
    with sweeps.sweep(workers) as sweep:
        run = sweep.executor.map if sweep.executor else map
        for done, name in enumerate(names, 1):
            for path, text in files(name, certificate, run).items():
                written(path, text)
            keep({name: {"of": depends_on(name, certificate, reaches), "machine": machine()}})
            print(f"{done}/{len(names)} {name}", file=sys.stderr, flush=True)


def keep(found):
    """Add {page: what its files depend on} to the record."""
    known = recorded() | found
    lines = ",\n".join(f'"{key}": {json.dumps(known[key])}' for key in sorted(set(known) & set(bijectors())))
    written(RECORD, f"{{\n{lines}}}\n")


def wrong(names, workers):
    """{path: why} of the files of pages that are not what their code makes; what another machine made is not made anew."""
    certificate, foreign = json.loads(CERTIFICATE.read_text()), elsewhere(names)
    here = [name for name in names if name not in foreign]
    with sweeps.sweep(workers) as sweep:
        made = [files(name, certificate, sweep.executor.map if sweep.executor else map) for name in here]
    found = {path: "is not what its code makes" for texts in made for path, text in texts.items()
             if not path.exists() or path.read_text() != text}
    return found | {GOLDEN / f"{name}.json": "was made by other code, on another machine" for name in stale(foreign, certificate)}


def main(arguments=None) -> int:
    names = sorted(bijectors())
    parser = argparse.ArgumentParser(prog="python -m validation.golden", description=__doc__.splitlines()[0])
    parser.add_argument("--page", choices=names, metavar="NAME", help="one page only")
    parser.add_argument("--all", action="store_true", help="all pages, not only what changed")
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    parser.add_argument("--tenth", action="store_true", help="with --check: also a tenth of the pages that did not change")
    parser.add_argument("--workers", type=positive_count, default=os.cpu_count(), metavar="N", help="processes")
    chosen = parser.parse_args(arguments)
    asked = [chosen.page] if chosen.page else names if chosen.all else stale(names, json.loads(CERTIFICATE.read_text()))
    asked += reached.in_turn(set(names) - set(asked)) if chosen.check and chosen.tenth else []
    if not chosen.check:
        write_all(asked, chosen.workers)
        return 0
    found = wrong(asked, chosen.workers)
    print(f"{len(asked)} of {len(names)} pages asked, {len(found)} files are wrong; another machine made those of {len(elsewhere(asked))}, "
          "whose code is compared alone")
    for path, why in found.items():
        print(f"{path.name} {why}: python -m validation.golden --page {path.stem} writes it")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
