"""Samples and densities of a flow in time by another scheme than the file's, or by none: the exact flow of its velocity.

The file's scheme leads from data to noise, and its samples undo these steps by Newton's method.  Another scheme, or another number of
steps, leads from noise to samples along the same velocity.  With y_n the samples of n steps and y their limit,
    |y_n - y| <= |y_n - y_2n| + |y_2n - y|                                          (1)
where the last term is smaller than the left side by a factor of nearly 2^order, once the steps are short enough: the difference from
twice as many steps measures the scheme's error.  The exact flow takes as many steps as leave less than a rounding of it.
"""

from __future__ import annotations

import sys

import numpy as np

from ..core import Chain, Flow, Inverse
from ..core.compose import single_steps
from ..maps.continuous import ContinuousFlow, DiscreteFlow
from ..maps.continuous.schemes import SCHEMES
from ..oracle import CannotRun
from .options import positive_count

EXACT = "exact"


def add_schemes(command):
    one = command.add_argument_group("flows in time", "FLOW is a cnf, ffjord or flow-matching; standard error says the scheme's error")
    one.add_argument("--scheme", choices=[*SCHEMES, EXACT], help=(
        "the scheme that leads from noise to samples, or the exact flow of the velocity (the file's, undone by a solver)"))
    one.add_argument("--steps", type=positive_count, metavar="N", help="how many steps it takes (as many as in the file)")


def add_exact(command):
    command.add_argument("--scheme", choices=[EXACT], help=(
        "for a cnf, ffjord or flow-matching: the exact flow of the velocity, not the file's scheme"))


def along_scheme(options, flow):
    """What the options ask for: [the flow by a scheme, the same by twice the steps], or [the exact flow]; without options, [flow].

    CannotRun, with the name of the option, for a flow that does not have one `DiscreteFlow`.
    """
    given = {name: getattr(options, name, None) for name in ("scheme", "steps") if getattr(options, name, None) is not None}
    if not given:
        return [flow]
    if given.get("scheme") == EXACT and "steps" in given:
        raise CannotRun(f"--steps is for a scheme; --scheme {EXACT} takes as many as it needs")
    stages = list(single_steps(flow.bijector, 0))
    places = [i for i, (_, f, _) in enumerate(stages) if isinstance(f, DiscreteFlow)]
    if len(places) != 1:
        found = f"{len(places)} flows" if places else "no flow"
        raise CannotRun(f"--{next(iter(given))} is for a flow in time, cnf, ffjord or flow-matching; {options.flow} holds {found} in time")
    maps = [Inverse(f) if side else f for _, f, side in stages]
    _, f, backwards = stages[places[0]]
    towards = f.replace(start=f.end, end=f.start) if backwards else f
    if options.scheme == EXACT:
        found = [ContinuousFlow(towards.net, towards.start, towards.end)]
    else:
        once = towards.replace(**given)
        found = [once, once.replace(steps=2 * once.steps)]
    return [Flow(Chain([*maps[:places[0]], one, *maps[places[0] + 1:]]), flow.base) for one in found]


def measured_error(options, samples):
    """The samples of the first flow of `along_scheme`, and what a report says of their error, (1); standard error has it too.

    CannotRun for samples that are not finite.
    """
    y, *more = samples
    if not more:
        return y, {"scheme": options.scheme} if options.scheme else {}
    name = " ".join(f"--{key} {getattr(options, key)}" for key in ("scheme", "steps") if getattr(options, key) is not None)
    if not all(np.isfinite(found).all() for found in samples):
        raise CannotRun(f"{name}: its steps, or twice as many, leave the range of {y.dtype}; more --steps are shorter ones")
    error = float(np.abs(y - more[0]).max(initial=0.0))
    print(f"refflow: {name}: no entry differs by more than {error:.2g} from its value by twice as many steps", file=sys.stderr)
    return y, {"scheme": options.scheme, "scheme_steps": options.steps, "scheme_error": error}
