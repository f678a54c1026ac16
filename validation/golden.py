"""Golden points: the truth at a few points of every page, for code in any language.

    python -m validation.golden                 write the points of all bijectors without components
    python -m validation.golden --page Tanh     the points of one page

One file for each page, refflow/oracle/golden/NAME.json: for each dtype and side it holds all hard cases, the worst points of
the certificate, for a scalar page points in every moderate binade from every end, and some others.
Where kappa, which is first-order, does not tell how far rounding moves a quantity, `first_order` is false, and other
people's numbers are not compared with it.  Inputs are exact (hexadecimal floats), truth is decimal: 30 digits of each
entry and 8 of its kappa.  Numbers beyond 10^(+-30000), whose exponents would not end, are written +-1e+30000 and 0.
"""

from __future__ import annotations

import argparse
import json
import sys

from flint import arb, ctx

from refflow import REGISTRY
from refflow.accuracy.drawing import Point
from refflow.oracle.pages import bijectors

from .certify import CERTIFICATE, DTYPES, ORACLE, SIDES, errors, first_order, truth
from .points import BINADE, LIMIT, Draw, is_small, points
from .recorded import decoded, encoded, written
from .truth import FIRST_DIGITS, decimal

GOLDEN = ORACLE / "golden"
WORST, SPREAD, AT_LEAST = 4, 16, 6                  # points from the certificate; points in all; at least this many others
LARGEST = 30000                                     # exponent of 10


def golden_points(page, dtype, side, certificate) -> list[Point]:
    """Hard cases, worst points, and some others, evenly chosen from the drawn ones."""
    drawn = points(page, dtype, side)
    hard = [point for point in drawn if point.case]
    worst = worst_points(page, dtype, side, certificate)[:WORST]
    binades = list(Draw(page, dtype, side).moderate_points())
    small = [point for point in drawn if not point.case and is_small(point.event)
             and not point.reason.startswith(BINADE) and point.reason != LIMIT]
    large = [point for point in drawn if not point.case and not is_small(point.event)][:1]
    count = max(AT_LEAST, SPREAD - len(hard) - len(worst) - len(large))
    step = max(1, len(small) // count)
    chosen = hard + worst + small[step // 2::step][:count] + large + binades
    return list({json.dumps(encoded(point)): point for point in reversed(chosen)}.values())[::-1]


def worst_points(page, dtype, side, certificate):
    """The points at which the certificate found the largest errors, the largest first; only small points."""
    rows = [(quantity, row[dtype]) for quantity, row in certificate["pages"].get(page.__name__, {}).items() if dtype in row]
    rows = [(quantity, row) for quantity, row in rows if row["worst"]["side"] == side]
    rows.sort(key=lambda named: -float(named[1]["C"]))
    found = [decoded(page, dtype, row["worst"], f"largest error of {quantity}") for quantity, row in rows]
    return [point for point in found if is_small(point.event)]


def printed(x, digits):
    if x.abs_lower() > arb(10) ** LARGEST:
        return f"{'' if x > 0 else '-'}1e+{LARGEST}"
    return "0" if x.abs_upper() < arb(10) ** -LARGEST else decimal(x, digits)


def asked(point):
    """{quantity: (truth, is kappa of the first order there?)} of the settled quantities that the certificate has."""
    unsettled, true = {name for name, (C, _) in errors(point).items() if C is None}, truth(point)
    return {name: (quantity, first_order(point, name, true)) for name, quantity in true.items() if name not in unsettled}


def record(identity, dtype, point):
    """One point of the file, with the quantities whose truth is settled."""
    with ctx.workdps(FIRST_DIGITS[dtype]):
        quantities = {name: {"shape": list(q.shape), "true": [printed(v, 30) for v in q.value],
                             "kappa": [printed(k, 8) for k in q.kappa]} | ({} if first else {"first_order": False})
                      for name, (q, first) in asked(point).items()}
    inputs = encoded(point)
    return {"id": identity, "dtype": dtype, "side": inputs.pop("side"), "case": point.case, "reason": point.reason,
            **inputs, "quantities": quantities}


def document(page, certificate) -> str:
    """The file of one page, one line for each point."""
    name, records = page.__name__, []
    for dtype in DTYPES:
        for side in SIDES:
            records += [record(f"{name}-{dtype}-{side}-{i:03}", dtype, point)
                        for i, point in enumerate(golden_points(page, dtype, side, certificate))]
    lines = ",\n".join(json.dumps(r, separators=(",", ":")) for r in records)
    return f'{{"schema":"refflow/golden/1","bijector":"{name}","points":[\n{lines}\n]}}\n'


def write_all(names):
    certificate = json.loads(CERTIFICATE.read_text())
    for name in names:
        written(GOLDEN / f"{name}.json", document(REGISTRY[name], certificate))


def main(arguments=None) -> int:
    names = sorted(bijectors())
    parser = argparse.ArgumentParser(prog="python -m validation.golden", description=__doc__.splitlines()[0])
    parser.add_argument("--page", choices=names, metavar="NAME", help="one page only")
    chosen = parser.parse_args(arguments)
    write_all([chosen.page] if chosen.page else names)
    return 0


if __name__ == "__main__":
    sys.exit(main())
