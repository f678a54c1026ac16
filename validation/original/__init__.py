"""Agreement with numbers that the authors' own code computed.

    python -m validation.original nice      print the largest relative difference of each quantity; exit status 1 if one
                                            exceeds 1e-9

The numbers lie in validation/practice/, with the commit of the code that computed them.  A relative difference is
|given - theirs| / |theirs|, entry by entry, 0 where both are 0.
"""

from __future__ import annotations

import argparse

from . import nice

MODELS = {"nice": nice.differences}
ALLOWED = 1e-9


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.original", description=__doc__.splitlines()[0])
    parser.add_argument("model", choices=sorted(MODELS))
    found = MODELS[parser.parse_args(arguments).model]()
    for quantity, value in found.items():
        print(f"{quantity:24} {value:8.1e}{'' if value <= ALLOWED else f'  exceeds {ALLOWED:.0e}'}")
    return int(not all(value <= ALLOWED for value in found.values()))
