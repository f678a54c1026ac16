"""Agreement with numbers that the authors' own code computed.

    python -m validation.original nice      print the largest relative difference of each quantity; exit status 1 if one
                                            exceeds 1e-9
    python -m validation.original glow      where a model has several files of numbers, a line for each: its largest, and
                                            the quantity's name
    --all                                   every quantity of every file

The numbers lie in validation/practice/, with the commit of the code that computed them.  A relative difference is
|given - theirs| / |theirs|, entry by entry, 0 where both are 0; of RealNVP, relative to the largest entry of the array.
Quantities named "..., absolute" are |given - theirs|, and may be 1e-7: parameters after a step of an optimiser whose
constants the authors' framework holds in float32.
"""

from __future__ import annotations

import argparse

from . import glow, nice, realnvp

MODELS = {"nice": nice.differences, "realnvp": realnvp.differences, "glow": glow.differences}
ALLOWED, ALLOWED_ABSOLUTE = 1e-9, 1e-7


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.original", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--all", action="store_true", help="every quantity of every file")
    chosen = parser.parse_args(arguments)
    found = MODELS[chosen.model]()
    for file, quantities in found.items():
        if len(found) == 1 or chosen.all:
            for quantity, value in quantities.items():
                print(line(f"{file}  {quantity}" if len(found) > 1 else quantity, quantity, value))
        else:
            quantity = worst_of(quantities)
            print(f"{line(file, quantity, quantities[quantity])}  {quantity}")
    return int(not all(passes(*pair) for quantities in found.values() for pair in quantities.items()))


def allowed(quantity):
    return ALLOWED_ABSOLUTE if quantity.endswith(", absolute") else ALLOWED


def passes(quantity, value):
    return value <= allowed(quantity)


def worst_of(quantities):
    """The quantity that is furthest from what is allowed; NaN is further than any number."""
    excess = {quantity: value / allowed(quantity) for quantity, value in quantities.items()}
    return max(excess, key=lambda quantity: float("inf") if excess[quantity] != excess[quantity] else excess[quantity])


def line(name, quantity, value):
    return f"{name:24} {value:8.1e}{'' if passes(quantity, value) else f'  exceeds {allowed(quantity):.0e}'}"
