"""Writes the numbers of the ports of VITS' stochastic duration predictor into validation/practice/.

    python -m validation.original.ports                     both libraries
    python -m validation.original.ports transformers        one of them
    --cache DIRECTORY                                       where the environments are kept, as for validation.raw_parameters
    --out DIRECTORY                                         where the files are written instead
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

from validation.raw_parameters.environments import CACHE, python_of

from ..comparison import PRACTICE

SCRIPT = Path(__file__).with_name("durations.py")
LIBRARIES = ("piper", "transformers")


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.original.ports", description=__doc__.splitlines()[0])
    parser.add_argument("libraries", nargs="*", choices=[[], *LIBRARIES], help="both, if none is named")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where environments are kept")
    parser.add_argument("--out", type=Path, default=PRACTICE, help="where the files are written")
    chosen = parser.parse_args(arguments)
    apart = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    for library in chosen.libraries or LIBRARIES:
        command = [str(python_of(library, chosen.cache)), "-W", "ignore", str(SCRIPT), library, str(chosen.out)]
        subprocess.run(command, check=True, env=apart)
    return 0


if __name__ == "__main__":
    sys.exit(main())
