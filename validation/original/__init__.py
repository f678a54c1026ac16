"""Agreement with numbers computed by the authors' own code, and by other people's ports of it.

    python -m validation.original nice            print the largest relative difference of each quantity
    python -m validation.original glow            if a model has several files of numbers, a line for each: its largest, and
    python -m validation.original realnvp         the quantity's name
    python -m validation.original --write         record the largest difference of each system in refflow/oracle/agreement.json
    python -m validation.original realnvp PATH    the files, or folders of files, instead of those in validation/practice/
    --all                                         every quantity of every file
    --json                                        all of it as JSON

The exit status is 1 if a difference exceeds 1e-9, 2 if a file cannot be read: one line says so, and the other files are
still read.  A relative difference is |given - theirs| / |theirs|, entry by entry, 0 where both are equal.  If an entry is 0
in exact arithmetic, so that both hold only rounding errors, or is so ill-conditioned that rounding alone exceeds 1e-9, a
line says what it is measured by and why.  Keys of a RealNVP file that are not compared with anything are listed.

The numbers lie in validation/practice/, with the commit of the code that computed them.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from refflow import oracle
from validation.recorded import written

from . import glow, glow_tts, nice, realnvp, vits
from .comparison import ALLOWED, Difference

MODELS = {"nice": nice, "realnvp": realnvp, "glow": glow, "glow_tts": glow_tts, "vits": vits}
SYSTEMS = {"NICE": ("nice", "nice"), "RealNVP": ("realnvp", "image_realnvp"), "Glow": ("glow", "glow"),
           "Glow-TTS": ("glow_tts", "glow_tts")}                # the files' name here, and the model in refflow
AGREEMENT = Path(oracle.__file__).parent / "agreement.json"


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.original", description=__doc__.splitlines()[0])
    parser.add_argument("model", nargs="?", choices=sorted(MODELS))
    parser.add_argument("--write", action="store_true", help="record what all systems agree to")
    parser.add_argument("paths", nargs="*", type=Path, metavar="PATH", help="files of numbers, or folders of them")
    parser.add_argument("--all", action="store_true", help="every quantity of every file")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_intermixed_args(arguments)             # options may stand anywhere
    if chosen.write and chosen.model is None:
        written(AGREEMENT, json.dumps(agreement(), indent=1) + "\n")
        return 0
    if chosen.write or chosen.model is None:
        parser.error("name a model, or give --write alone")
    found = [answer(MODELS[chosen.model], file) for file in files_of(chosen.model, chosen.paths)]
    print(as_json(chosen.model, found) if chosen.json else "\n".join(table(found, chosen.all)))
    if not found or any("error" in one for one in found):
        return 2
    return int(not all(passes(value) for one in found for value in one["quantities"].values()))


def agreement() -> dict:
    """{system: the model, how many files there are, and the largest relative difference of all their quantities}."""
    made = {}
    for system, (name, model) in SYSTEMS.items():
        found = [answer(MODELS[name], file)["quantities"] for file in MODELS[name].FILES]
        largest = max(as_difference(value).measure for quantities in found for value in quantities.values())
        made[system] = {"model": model, "files": len(found), "largest": float(f"{largest:.1e}")}
    return made


def files_of(model, paths):
    """The names of the files in validation/practice/, or the files of the model among these paths."""
    if not paths:
        return MODELS[model].FILES
    prefix = getattr(MODELS[model], "PREFIX", model)
    return [file for path in paths for file in (sorted(path.glob(f"{prefix}_*.npz")) if path.is_dir() else [path])]


def answer(module, file) -> dict:
    """{"file", "quantities": {name: Difference}, "not compared"} of a file, or {"file", "error"}."""
    name = file.stem if isinstance(file, Path) else file
    try:
        quantities, unanswered = module.read(file)
    except Exception as error:              # whatever is wrong with one file, the others are still read
        reason = f"there is no {error} in it" if isinstance(error, KeyError) else f"{type(error).__name__}: {error}"
        return {"file": name, "error": " ".join(reason.split())}
    return {"file": name, "quantities": {key: as_difference(value) for key, value in quantities.items()},
            "not compared": unanswered}


def as_difference(value):
    return value if isinstance(value, Difference) else Difference(value, value)


def passes(value):
    return as_difference(value).measure <= ALLOWED


def worst_of(quantities):
    """The quantity furthest from theirs; NaN counts as further than any number."""
    measures = {name: as_difference(value).measure for name, value in quantities.items()}
    return max(measures, key=lambda name: math.inf if math.isnan(measures[name]) else measures[name])


# -- printing ---------------------------------------------------------------------------------------------------------

def table(found, every):
    """The lines of all files."""
    if not found:
        yield "there is no file of numbers"
    for one in found:
        yield from lines_of(one, every or len(found) == 1, len(found) > 1)


def lines_of(one, every, named):
    if "error" in one:
        yield f"{one['file']}  cannot be read: {one['error']}"
        return
    quantities = one["quantities"]
    if every:
        for quantity, value in quantities.items():
            yield line(f"{one['file']}  {quantity}" if named else quantity, value)
    else:
        quantity = worst_of(quantities)
        yield f"{line(one['file'], quantities[quantity])}  {quantity}"
    for quantity, value in quantities.items():
        if value.reason:
            yield f"    {quantity}: {value.reason}; entry by entry {value.entrywise:.1e}"
    if one["not compared"]:
        yield f"    not compared: {', '.join(kinds(one['not compared']))}"


def kinds(names):
    """Names, with those that end alike combined into one."""
    ends = {}
    for name in names:
        ends.setdefault(name.replace(".", "/").rsplit("/", 1)[-1], []).append(name)
    return [group[0] if len(group) == 1 else f"{end} ({len(group)} of them)" for end, group in ends.items()]


def line(name, value):
    value = as_difference(value).measure
    return f"{name:24} {value:8.1e}{'' if value <= ALLOWED else f'  exceeds {ALLOWED:.0e}'}"


def as_json(model, found):
    def written(one):
        if "error" in one:
            return one
        rows = {name: {"measure": number(value.measure), "entrywise": number(value.entrywise), "reason": value.reason,
                       "passes": bool(passes(value))} for name, value in one["quantities"].items()}
        return one | {"quantities": rows}

    return json.dumps({"model": model, "allowed": ALLOWED, "files": [written(one) for one in found]}, indent=1)


def number(value):
    """A number, or the word for a number that JSON lacks."""
    value = float(value)
    return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
