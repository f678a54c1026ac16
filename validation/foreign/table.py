"""table.md: how often the laws of a black box were asked of right maps of other libraries, and why they alarmed."""

from __future__ import annotations

import collections
from pathlib import Path

TABLE = Path(__file__).parent / "table.md"
HEAD = """# Right maps of other libraries, and the laws of a black box

{draws} latents were drawn for {maps} maps of {libraries} libraries. False alarms: {alarms}. True alarms: {true}, for {reasons} reasons.

Made by `python -m validation.black_box --write` from the answers that `python -m validation.black_box --kind foreign` keeps. Each seed
draws the parameters and the latents of every map anew, in float64 and mostly in float32 too. The laws of distributions, of tails and of
ends ask more latents, which are not counted. An alarm is true if one of the library's numbers at the failing place is more than 16 units
from the truth, which the equation of the map gives at 50 digits, or if its reason is of another kind, such as an exception.

| library | version | maps | seeds | latents in float64 | in float32 | verdicts | false alarms | true alarms |
| --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def text(versions, found):
    """The page, from {library: (its summary, how many seeds, how many maps)}."""
    draws = sum(sum(of["draws"].values()) for of, _, _ in found.values())
    every = [alarm for of, _, _ in found.values() for alarm in of["true alarms"]]
    head = HEAD.format(draws=f"{draws:,}", maps=sum(maps for _, _, maps in found.values()), libraries=len(found),
                       alarms=sum(len(of["alarms"]) for of, _, _ in found.values()), true=len(every),
                       reasons=len({(alarm["library"], alarm["reason"]) for alarm in every}))
    rows = [row(library, versions[library], *of) for library, of in found.items()]
    return "\n".join([*[head + rows[0]], *rows[1:], "", *reasons(every)]) + "\n"


def row(library, version, of, seeds, maps):
    asked = sum(count.get("pass", 0) + count.get("FAIL", 0) for count in of["verdicts"].values())
    cells = (library, version, maps, seeds, *(of["draws"].get(dtype, 0) for dtype in ("float64", "float32")), asked, len(of["alarms"]),
             len(of["true alarms"]))
    return "| " + " | ".join(map(str, cells)) + " |"


def reasons(alarms):
    """A line for each reason: the maps that alarm, and the first number that shows it."""
    by_reason = collections.defaultdict(list)
    for alarm in alarms:
        by_reason[alarm["library"], alarm["reason"]].append(alarm)
    lines = ["## Reasons of true alarms", "", "| library | reason | maps | a number |", "| --- | --- | --- | --- |"]
    for (library, reason), of in by_reason.items():
        shown = next((f"{alarm['box']}: {alarm['judgement']}" for alarm in of if "judgement" in alarm), "")
        boxes = ", ".join(dict.fromkeys(alarm["box"] for alarm in of))
        lines.append("| " + " | ".join(part.replace("|", "\\|") for part in (library, reason, boxes, shown)) + " |")
    return lines
