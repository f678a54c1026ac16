"""Run by `asking` in a library's environment: asks its maps the laws of a black box, and prints a line of JSON for each.

    python -m validation.foreign.asked LIBRARY SEED [NAME]      on stdin, a list of the [name, dtype] to leave out
"""

from __future__ import annotations

import json
import sys
from importlib import import_module

from .witness import answer_of


def answers(boxes, seed, done):
    """For each dtype of a map: first {"begun"}, then its answer; of a map that cannot be made, the reason."""
    for name, dtypes, make in boxes:
        for dtype in dtypes:
            if [name, dtype] not in done:
                yield {"begun": [name, dtype]}
                try:
                    yield answer_of(name, dtype, seed, make)
                except Exception as error:
                    yield {"box": name, "dtype": dtype, "seed": seed, "unmade": f"raised {type(error).__name__}: {error}"[:300],
                           "seconds": 0}


if __name__ == "__main__":
    library, seed, *only = sys.argv[1:]
    maps = import_module(f"validation.foreign.maps_of_{library}").maps()
    out, sys.stdout = sys.stdout, sys.stderr
    for answer in answers((one for one in maps if not only or one[0] in only), int(seed), json.load(sys.stdin)):
        print(json.dumps(answer), file=out, flush=True)
