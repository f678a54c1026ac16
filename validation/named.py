"""Named compositions against the equation of the whole: how many units a composition loses between its stages.

    python -m validation.named                 all of them: the worst error of each quantity, and its input
    python -m validation.named erfc            one

The equation of the whole is written here a second time, for numbers of mpmath; its truth has 50 digits, and its unit `u kappa`
counts the event and the parameters of the whole, not what stages hand to one another.  A composition that loses more than `LEAST`
units has its input and figure in the docstring, and in `LOSES`.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np

import refflow
from refflow.accuracy.quantities import distinct, forward_quantities, inverse_quantities, truth_name
from refflow.truth.engine import Problem, TruthNotFound, forward_truth, inverse_truth
from refflow.truth.measure import compared, inside


LEAST = 4.0                         # units that a page may lose
BARS = ((1.25, 0.0), (0.0, -0.75), (1.25, -0.75))
REACH = (-1000, -300, -60, -40, -27, -13, -5, -2, -1, 0, 1, 2, 3, 5, 9)      # exponents of 2


@dataclass(frozen=True)
class Whole:
    """A composition's equation, the parameters at which it is asked, and where its events begin."""

    definition: object
    given: tuple = ({},)
    start: float | None = None      # the end from which events are counted; None: on both sides of 0


def softplus(m, v):
    return m.log1p(m.exp(v))


def generalised_t(m, z, loc, scale, concentration):
    s = (z - loc) / scale
    return s if concentration == 0 else m.log1p(concentration * s) / concentration


WHOLES = {
    "exponential_cdf": Whole(lambda m, z, rate: -m.expm1(-rate * z), ({"rate": 1.0}, {"rate": 2.0**-30}, {"rate": 3.0}), 0.0),
    "rayleigh_cdf": Whole(lambda m, z, scale: -m.expm1(-(z / scale) ** 2 / 2), ({"scale": 1.0}, {"scale": 2.0**30}), 0.0),
    "frechet_cdf": Whole(lambda m, z, loc, scale, concentration: m.exp(-m.power((z - loc) / scale, -concentration)),
                         ({"loc": 0.0, "scale": 1.0, "concentration": 1.0}, {"loc": 0.0, "scale": 1e9, "concentration": 0.125},
                          {"loc": 2.0, "scale": 3.0, "concentration": 5.0}), 0.0),
    "log_normal_cdf": Whole(lambda m, z, loc, scale: m.ncdf((m.log(z) - loc) / scale),
                            ({"loc": 0.0, "scale": 1.0}, {"loc": -3.0, "scale": 0.25}), 0.0),
    "moyal_cdf": Whole(lambda m, z, loc, scale: m.erfc(m.exp(-(z - loc) / (2 * scale)) / m.sqrt(2)),
                       ({"loc": 0.0, "scale": 1.0}, {"loc": 3.0, "scale": 0.5})),
    "gompertz_cdf": Whole(lambda m, z, rate, concentration: -m.expm1(-concentration * m.expm1(rate * z)),
                          ({"rate": 1.0, "concentration": 1.0}, {"rate": 0.125, "concentration": 2.0**-20}), 0.0),
    "generalised_pareto_cdf": Whole(lambda m, z, **given: -m.expm1(-generalised_t(m, z, **given)),
                                    tuple({"loc": 0.0, "scale": 2.0, "concentration": c} for c in (0.0, 2.0**-50, 0.5, 3.0, -0.5)),
                                    0.0),
    "generalised_extreme_value_cdf": Whole(
        lambda m, z, **given: m.exp(-m.exp(-generalised_t(m, z, **given))),
        tuple({"loc": 0.0, "scale": 2.0, "concentration": c} for c in (0.0, 2.0**-50, -(2.0**-50), 1e-9, 0.25, -0.25))),
    "erfc": Whole(lambda m, z: m.erfc(z)),
    "beta_stretch": Whole(lambda m, z, power: 1 / (1 + m.power((1 - z) / z, power)), ({"power": 2.0}, {"power": 0.125}), 0.0),
    "softclip": Whole(lambda m, z, bound: z / (1 + abs(z) / bound), ({"bound": 1.0}, {"bound": 5.0})),
    "softplus_clip": Whole(lambda m, z, low, high: high - softplus(m, high - low - softplus(m, z - low)) * (high - low)
                           / softplus(m, high - low), ({"low": -1.0, "high": 1.0}, {"low": 0.5, "high": 8.0})),
}
INF = np.inf
# {composition: {quantity: units}} of what loses more than LEAST, rounded up; inf: every digit
LOSES = {
    "moyal_cdf": {"forward": 5, "vjp.z_bar": INF},
    "generalised_pareto_cdf": {"log_det": 10, "inverse_log_det": 22},
    "generalised_extreme_value_cdf": {"vjp.z_bar": INF},
    "erfc": {"log_det": 7},
    "beta_stretch": {"jacobian": INF, "vjp.z_bar": INF},
    "softclip": {"log_det": INF},
    "softplus_clip": {"forward": 5},
}


# -- points -----------------------------------------------------------------------------------------------------------

def events(where, start):
    """Events of a set at the distances `REACH` from its start, and from its other end."""
    sizes = np.ldexp(1.25, REACH)
    ends = [(start, 1.0)] if start is not None else [(0.0, 1.0), (0.0, -1.0)]
    ends += [(float(np.max(where.upper)), -1.0)] if np.isfinite(np.max(where.upper)) else []
    found = np.concatenate([end + way * sizes for end, way in ends])
    return np.unique(found[np.isfinite(found) & ~where.outside(found) & (found != 0)])


def asked(name, given):
    """(composition, side, event, bars) of all points."""
    f, start = getattr(refflow, name)(**given), WHOLES[name].start
    start = start if start is None else start + given.get("loc", 0.0)
    for side, where, first in (("forward", f.domain, start), ("inverse", f.codomain, float(np.max(f.codomain.lower)))):
        for event in events(where, first):
            for bars in BARS:
                yield f, side, event, bars


def errors(name, given, f, side, event, bars):
    """{quantity: C} at one point; the stages' own cotangents are not quantities of the whole."""
    problem = Problem(WHOLES[name].definition, given, inside=inside(f.domain))
    try:
        ask = forward_quantities if side == "forward" else inverse_quantities
        found = distinct(ask(f, np.float64(event), *map(np.float64, bars)))
    except ValueError:                      # not an event of a later stage
        return {}
    try:
        if side == "forward":
            true = forward_truth(problem, event, *bars)
        else:
            true = inverse_truth(problem, event, *bars, found["inverse"])
    except TruthNotFound as partly:
        true = partly.settled
    except (ArithmeticError, ValueError):
        return {}
    found = {key: value for key, value in found.items() if not key.endswith("_bar") or key.endswith((".z_bar", ".x_bar"))}
    found = {key: value for key, value in found.items() if truth_name(key) in true}
    return {key: C for key, (C, _) in compared(found, true, np.dtype(np.float64)).items()}


def worst(name):
    """{quantity: (C, parameters, event)}, the largest of all points."""
    found = {}
    for given in WHOLES[name].given:
        for f, side, event, bars in asked(name, given):
            for quantity, C in errors(name, given, f, side, event, bars).items():
                if quantity not in found or not C <= found[quantity][0]:
                    found[quantity] = C, given, float(event)
    return found


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.named", description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="*", metavar="NAME", choices=[[], *WHOLES], help="a composition")
    failed = 0
    for name in parser.parse_args(arguments).name or WHOLES:
        for quantity, (C, given, event) in worst(name).items():
            allowed = LOSES.get(name, {}).get(quantity, LEAST)
            failed += not C <= allowed
            print(f"{name:30}{quantity:32}{C:10.3g} of {allowed:g}  at {event!r} {given}{'' if C <= allowed else '  <--'}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
