"""Agreement with numbers computed by the authors' own code, and by other people's ports of it.

    python -m validation.original PATH       find the system of each file, or of each file of a folder, by what it holds, and
                                             print its largest relative difference, and the name of the quantity
    python -m validation.original            the files in validation/practice/
    python -m validation.original glow       these files as far as they are of one system (nice, realnvp, glow, glow_tts, vits,
                                             planar, sylvester, starflow, tarflow, jet, cfm, resflow, ffjord); for a single file, a line
                                             for each quantity; with a PATH, its files are of it
    python -m validation.original --write    record the largest difference of each system in refflow/oracle/agreement.json
    --schema SYSTEM                          what its files here hold: the configuration, and every array with its shape; the
                                             README of this folder says how they are read, and which other names they may have
    --all                                    every quantity of every file
    --json                                   all of it as JSON

The exit status is 1 if a difference exceeds what is allowed, 2 if a file cannot be read: one line says what is missing, and
the other files are still read.  A file of a system that refflow does not have is named, and does not count as a failure.
A relative difference is |given - theirs| / |theirs|, entry by entry, 0 where both are equal;
1e-9 is allowed.  If an entry is 0 in exact arithmetic, so that both hold only rounding errors, or is so ill-conditioned that
rounding alone exceeds 1e-9, a line says what it is measured by and why.  Where the source itself computed in float32, the
absolute difference is measured, and a line says so.  Every array of a file is compared, goes in, or is named with the reason
why it is not compared.

The numbers lie in validation/practice/, with the commit of the code that computed them.
"""

from __future__ import annotations

import argparse
import json
import math
import re
from pathlib import Path

from refflow import oracle
from validation.certify import processor
from validation.points.recorded import written

from . import cfm, ffjord, glow, glow_tts, jet, nice, planar, realnvp, resflow, starflow, sylvester, tarflow, vits
from .comparison import ALLOWED, LACKS, PRACTICE, Difference, Lacking, contents, kind_of, listed, numbers

MODELS = {"jet": jet, "starflow": starflow, "tarflow": tarflow, "nice": nice, "realnvp": realnvp, "glow": glow,
          "glow_tts": glow_tts, "vits": vits, "planar": planar, "sylvester": sylvester, "cfm": cfm,
          "resflow": resflow, "ffjord": ffjord}
# The files' name here, and the model in refflow.
SYSTEMS = {"NICE": ("nice", "nice"), "RealNVP": ("realnvp", "image_realnvp"), "Glow": ("glow", "glow"),
           "Glow-TTS": ("glow_tts", "glow_tts"), "TarFlow": ("tarflow", "tarflow"), "Jet": ("jet", "jet"),
           "STARFlow": ("starflow", "starflow"), "Sylvester flows": ("sylvester", "sylvester_vae"),
           "VITS": ("vits", "stochastic_durations"), "flow matching": ("cfm", "cnf"),
           "residual flows": ("resflow", "residual_flow"), "FFJORD": ("ffjord", "ffjord")}
TITLES = {name: title for title, (name, _) in SYSTEMS.items()} | {"planar": "planar and radial flows"}
# How the "system" or the source of a configuration names systems that have no files here, and what is said of them.
ELSEWHERE = {"idf|integer_discrete_flows": "integer discrete flows (IDF) are not built in refflow",
             "survae(_flows)?": "SurVAE flows are not built in refflow",
             "spheres?|flows-on-sphere|sdflows": "flows on spheres are not built in refflow",
             "tori|torus": "circular_nsf is built in refflow, but the names of flows on tori are not read"}
WIDTH = 40                              # of names of files
AGREEMENT = Path(oracle.__file__).parent / "agreement.json"


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.original", description=__doc__.splitlines()[0])
    parser.add_argument("paths", nargs="*", metavar="PATH", help="files of numbers, or folders of them; before them perhaps "
                        f"a system, one of {', '.join(sorted(MODELS))}")
    parser.add_argument("--write", action="store_true", help="record what all systems agree to")
    parser.add_argument("--all", action="store_true", help="every quantity of every file")
    parser.add_argument("--schema", choices=sorted(MODELS), metavar="SYSTEM", help="print what files of a system hold")
    parser.add_argument("--json", action="store_true", help="print JSON")
    chosen = parser.parse_intermixed_args(arguments)             # options may stand anywhere
    if chosen.schema:
        print("\n".join(schema(MODELS[chosen.schema])))
        return 0
    model = chosen.paths[0] if chosen.paths and chosen.paths[0] in MODELS else None
    paths = [Path(path) for path in chosen.paths[model is not None:]]
    if chosen.write:
        if chosen.paths:
            parser.error("give --write alone")
        written(AGREEMENT, json.dumps(agreement(), indent=1) + "\n")
        return 0
    found = [answer(MODELS[name], file) | {"system": name} if name else {"file": file.stem, "error": reason, "system": None}
             for file, name, reason in files_of(model, paths)]
    print(as_json(model, found) if chosen.json else "\n".join([*table(found, chosen.all), *summary(found, model)]))
    if not found or any("error" in one and not is_elsewhere(one) for one in found):
        return 2
    return int(not all(passes(value) for one in found for value in one.get("quantities", {}).values()))


def schema(module):
    """The lines of what files of a system hold: for each file here, its configuration, and its arrays with their shapes."""
    for name in module.FILES:
        config, theirs = numbers(name)
        what, _ = kind_of(module.KINDS, config, theirs.keys())
        yield f"{name}: {what}"
        yield from (f"    cfg {key}: {json.dumps(value)}" for key, value in config.items())
        yield from (f"    {key}  {' x '.join(map(str, array.shape)) or 'a number'}" for key, array in sorted(theirs.items()))


def agreement() -> dict:
    """{system: the model, the number of its files, the largest relative difference of all quantities, and the processor}."""
    made = {}
    for system, (name, model) in SYSTEMS.items():
        found = [answer(MODELS[name], file)["quantities"] for file in MODELS[name].FILES]
        every = [as_difference(value) for quantities in found for value in quantities.values()]
        largest = max(value.measure for value in every if value.relative)
        made[system] = {"model": model, "files": len(found), "largest": float(f"{largest:.1e}"), "processor": processor()}
    return made


def files_of(model, paths):
    """[(file, the name of its system or None, why none is found)] of files in validation/practice/, or among these paths.

    A folder's files of other systems than `model` are left out; a file that is named must be of it.
    """
    if model and not paths:
        return [(file, model, "") for file in MODELS[model].FILES]
    found = []
    for path in paths or [PRACTICE]:
        for file in sorted(path.glob("*.npz")) if path.is_dir() else [path]:
            name, reason = system_of(file)
            if model and path.is_dir() and name != model and (name or not file.stem.startswith(prefix_of(model))):
                continue
            found.append((file, name if model in (None, name) else None, reason or f"it is a file of {TITLES[name]}"))
    return found


def prefix_of(model):
    """How the names of a system's files begin, by which a folder's unreadable files are ascribed to a system."""
    return f"{getattr(MODELS[model], 'PREFIX', model)}_"


def elsewhere(config):
    """What is said of a file whose configuration names a system that has no files here, or None."""
    named = str(config.get("system") or config.get("source", config.get("repo", ""))).lower()
    return next((said for pattern, said in ELSEWHERE.items() if re.search(rf"(?<![a-z])({pattern})(?![a-z])", named)), None)


def system_of(file):
    """(the system of a file, ""), or (None, why it has none)."""
    try:
        config, keys = contents(file)
        if elsewhere(config):
            return None, elsewhere(config)
        name = next((name for name, module in MODELS.items() if module.holds(config, keys)), None)
        if config.get("system") in MODELS.keys() - {name}:
            kinds = getattr(MODELS[config["system"]], "KINDS", ())
            return None, f"it says that it is of {TITLES[config['system']]}, of which it is none of the kinds {', '.join(kinds)}"
    except Exception as error:              # whatever is wrong with one file, the others are still read
        return None, reason_of(error)
    held = config.get("cls", config.get("fn", config.get("what", config.get("source", config.get("repo", "")))))
    return name, "" if name else f"it holds nothing of the systems that are compared: {str(held)[:60]!r}, {listed(keys)}"


def reason_of(error):
    plain = isinstance(error, (Lacking, ValueError))
    return " ".join((str(error) if plain else f"{type(error).__name__}: {error}").split())


def answer(module, file) -> dict:
    """{"file", "quantities": {name: Difference}, "not compared"} of a file, or {"file", "error"}."""
    name = file.stem if isinstance(file, Path) else file
    try:
        quantities, unanswered = module.read(file)
    except Exception as error:              # whatever is wrong with one file, the others are still read
        return {"file": name, "error": reason_of(error)}
    return {"file": name, "quantities": {key: as_difference(value) for key, value in quantities.items()},
            "not compared": unanswered}


def as_difference(value):
    return value if isinstance(value, Difference) else Difference(value, value)


def is_elsewhere(one):
    """Is a file of a system that has no files here?  It does not count as a failure."""
    return one.get("error") in ELSEWHERE.values()


def passes(value):
    value = as_difference(value)
    return value.measure <= value.allowed


def worst_of(quantities):
    """The quantity furthest from theirs, beside what is allowed; NaN counts as further than any number.

    What is measured absolutely has a line of its own, and counts here only if it exceeds what is allowed.
    """
    values = {name: as_difference(value) for name, value in quantities.items()}
    counting = {name: value for name, value in values.items() if value.relative or not passes(value)} or values
    shares = {name: value.measure / value.allowed for name, value in counting.items()}
    return max(shares, key=lambda name: math.inf if math.isnan(shares[name]) else shares[name])


# -- printing ---------------------------------------------------------------------------------------------------------

def table(found, every):
    """The lines of all files."""
    if not found:
        yield "there is no file of numbers"
    for one in found:
        yield from lines_of(one, every or len(found) == 1, len(found) > 1)


def lines_of(one, every, named):
    if "error" in one:
        yield f"{one['file']}  {'not compared' if is_elsewhere(one) else 'cannot be read'}: {one['error']}"
        return
    quantities = one["quantities"]
    if every:
        for quantity, value in quantities.items():
            yield line(f"{one['file']}  {quantity}" if named else quantity, value)
    else:
        quantity = worst_of(quantities)
        yield f"{line(one['file'], quantities[quantity], WIDTH)}  {quantity}"
    for quantity, value in quantities.items():
        if not value.relative:
            yield f"    {quantity}: {value.measure:.1e}, {value.reason}"
        elif value.reason:
            yield f"    {quantity}: {value.reason}; entry by entry {value.entrywise:.1e}"
    for reason in dict.fromkeys(left.reason for left in one["not compared"]):
        keys = [left.key for left in one["not compared"] if left.reason == reason]
        yield f"    not compared: {', '.join(kinds(keys))}: {reason}"


def summary(found, model):
    """How many files were read, and the largest relative difference of each system; nothing for one file."""
    if len(found) < 2:
        return
    read = [one for one in found if "error" not in one]
    unread, others = sum(bool(unread_arrays(one)) for one in read), sum(map(is_elsewhere, found))
    refused = len(found) - len(read) - others
    yield (f"{len(read)} of {len(found)} files read" + (f", {others} of systems that are not compared" if others else "")
           + (f", {refused} refused" if refused else "")
           + (f"; {unread} hold arrays that nothing reads" if unread else "; every array is compared or goes in"))
    for name, title in TITLES.items():
        of_system = [(one["file"], quantity, value) for one in read if one["system"] == name
                     for quantity, value in one["quantities"].items()]
        if of_system:
            file, quantity, value = max((entry for entry in of_system if entry[2].relative), key=lambda entry: severity(entry[2]))
            files = len({file for file, *_ in of_system})
            yield f"{line(f'{title}, {files} file' + 's' * (files > 1), value, WIDTH)}  {file}: {quantity}"


def severity(value):
    return math.inf if math.isnan(value.measure) else value.measure


def unread_arrays(one):
    return [left.key for left in one["not compared"] if left.reason != LACKS]


def kinds(names):
    """Names, with those that end alike combined into one."""
    ends = {}
    for name in names:
        ends.setdefault(name.replace(".", "/").rsplit("/", 1)[-1], []).append(name)
    return [group[0] if len(group) == 1 else f"{end} ({len(group)} of them)" for end, group in ends.items()]


def line(name, value, width=24):
    value = as_difference(value)
    return f"{name:{width}} {value.measure:8.1e}{'' if passes(value) else f'  exceeds {value.allowed:.0e}'}"


def as_json(model, found):
    def written(one):
        if "error" in one:
            return one
        rows = {name: {"measure": number(value.measure), "entrywise": number(value.entrywise), "reason": value.reason,
                       "passes": bool(passes(value))} | ({} if value.relative else {"allowed": value.allowed})
                for name, value in one["quantities"].items()}
        return one | {"quantities": rows, "not compared": {left.key: left.reason for left in one["not compared"]}}

    return json.dumps({"model": model, "allowed": ALLOWED, "read": sum("error" not in one for one in found),
                       "refused": sum("error" in one for one in found), "largest": largest_of_systems(found),
                       "files": [written(one) for one in found]}, indent=1)


def largest_of_systems(found):
    """{system: the largest relative difference of its files}."""
    largest = {}
    for one in found:
        for value in one.get("quantities", {}).values():
            if value.relative:
                largest[one["system"]] = max(largest.get(one["system"], 0.0), severity(value))
    return {name: number(value) for name, value in largest.items()}


def number(value):
    """A number, or the word for a number that JSON lacks."""
    value = float(value)
    return value if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
