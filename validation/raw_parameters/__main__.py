"""Raw parameters of other libraries, really loaded: a line for each quantity of each model.

    python -m validation.raw_parameters                 every library: makes its environment, draws models, compares
    python -m validation.raw_parameters nflows zuko     some of them
    --recorded                                          the recorded files, without the libraries
    --write                                             also write what was exported over the recorded files
    --cache DIRECTORY                                   where the environments are kept, by default ~/.cache/refflow/libraries
    --json                                              one object for each line

A library's models are drawn with random raw parameters in float64, in an environment of its own; it gives log_prob at drawn x,
samples from recorded noise, and the gradients of the sum of log_prob by x and by every raw parameter.  refflow loads the same
raw parameters by its parametrisations.  `comparison` says in which units errors are measured.

The exit status is 1 if there is a finding: a difference of more than 16 units, or a model that the library cannot sample from.
It is printed with the versions, the input, what the library gives and what refflow gives.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from .comparison import compared
from .environments import CACHE, REQUIREMENTS, exported
from .loading import models

RECORDED = Path(__file__).parent / "recorded"


def loader(library):
    return import_module(f"{__package__}.loaders.{library}").load


def lines_of(path):
    """(model, its lines) for every model of a file."""
    return [(m, compared(m, loader(m.library))) for m in models(path)]


def printed(m, lines):
    """The text of a model."""
    text = [f"{m.library:12}{m.name:34}{line.quantity:26}{line.error:10.3g} {line.unit}" for line in lines]
    text += [finding(m, line) for line in lines if line.finding]
    if "sample failed" in m.config:
        text.append(f"FINDING {m.library} {m.name}: no sample: {m.config['sample failed']}\n    {versions(m)}")
    return "\n".join(text)


def finding(m, line):
    where = ", ".join(f"{key} {value}" for key, value in line.at.items())
    return f"FINDING {m.library} {m.name}: {line.quantity} is {line.error:.3g} {line.unit} off\n    {where}\n    {versions(m)}"


def versions(m):
    return ", ".join(f"{name} {version}" for name, version in m.versions.items())


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.raw_parameters", description=__doc__.split("\n")[0])
    parser.add_argument("libraries", nargs="*", choices=[[], *REQUIREMENTS], help="all, if none is named")
    parser.add_argument("--recorded", action="store_true", help="compare the recorded files")
    parser.add_argument("--write", action="store_true", help="write the recorded files")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where environments are kept")
    parser.add_argument("--json", action="store_true", help="print JSON, an object a line")
    chosen = parser.parse_args(arguments)
    bad = False
    for library in chosen.libraries or REQUIREMENTS:
        with tempfile.TemporaryDirectory() as folder:
            path = RECORDED / f"{library}.npz"
            if not chosen.recorded:
                path = exported(library, path if chosen.write else Path(folder) / path.name, chosen.cache)
            for m, lines in lines_of(path):
                bad |= "sample failed" in m.config or any(line.finding for line in lines)
                print("\n".join(json.dumps(asdict(line) | {"finding": line.finding, "versions": m.versions}) for line in lines)
                      if chosen.json else printed(m, lines), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
