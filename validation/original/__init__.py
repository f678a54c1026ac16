"""Agreement with numbers that the authors' own code computed.

    python -m validation.original nice      print the largest relative difference of each quantity; exit status 1 if one
                                            exceeds 1e-9
    python -m validation.original glow      where a model has several files of numbers, a line for each: its largest, and
                                            the quantity's name
    --all                                   every quantity of every file

The numbers lie in validation/practice/, with the commit of the code that computed them.  A relative difference is
|given - theirs| / |theirs|, entry by entry, 0 where both are 0; of RealNVP's gradients, relative to the largest entry of the
array.
"""

from __future__ import annotations

import argparse

from . import glow, nice, realnvp

MODELS = {"nice": nice.differences, "realnvp": realnvp.differences, "glow": glow.differences}
ALLOWED = 1e-9


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.original", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(MODELS))
    parser.add_argument("--all", action="store_true", help="every quantity of every file")
    chosen = parser.parse_args(arguments)
    found = MODELS[chosen.model]()
    for file, quantities in found.items():
        if len(found) == 1 or chosen.all:
            for quantity, value in quantities.items():
                print(line(f"{file}  {quantity}" if len(found) > 1 else quantity, value))
        else:
            quantity = worst_of(quantities)
            print(f"{line(file, quantities[quantity])}  {quantity}")
    return int(not all(passes(value) for quantities in found.values() for value in quantities.values()))


def passes(value):
    return value <= ALLOWED


def worst_of(quantities):
    """The quantity that is furthest from theirs; NaN is further than any number."""
    return max(quantities, key=lambda name: float("inf") if quantities[name] != quantities[name] else quantities[name])


def line(name, value):
    return f"{name:24} {value:8.1e}{'' if passes(value) else f'  exceeds {ALLOWED:.0e}'}"
