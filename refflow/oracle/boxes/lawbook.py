"""The register of the laws of a black box, and what comes of asking one."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from ...counts import counts_text
from ...report import aligned, json_text
from ..judging.suites import SUITES

LAWS: dict = {}
NEEDS: dict = {}
SINCE: dict = {}


class Skipped(Exception):
    """Why a law was not asked."""


class Compared(NamedTuple):
    """Answers at latents z with what was expected; marks of the points that could be asked, and of the wrong entries."""

    z: Any
    given: Any
    expected: Any
    bound: Any
    usable: Any
    wrong: Any


class Found(AssertionError):
    """A law that is broken: at what point, what is given and what was expected; `event`: the latent there, if there is one.

    `events`: the simplest batch that shows it, if it was searched.  `compared`: all answers, if they were compared at latents.
    `latents`, `images`: the places of the numbers that disagree.
    """

    def __init__(self, text, event=None, compared=None, latents=None, images=None):
        super().__init__(text)
        self.event, self.events, self.compared = event, None, compared
        self.latents, self.images = latents, images

    def of_the_inverse(self):
        """The same, found at a box whose latents are the images of another one."""
        return Found(str(self), images=self.places["latents"])

    @property
    def places(self):
        """{"latents", "images"}: lists of events."""
        latents = [self.event] if self.latents is None and self.event is not None else self.latents
        return {name: [] if at is None else np.asarray(at, np.float64).tolist()
                for name, at in (("latents", latents), ("images", self.images))}


class Verdict(NamedTuple):
    """What came of one law: "pass", "FAIL" or "skip", and why; at how many points it was asked; a failure's known kind.

    `places`: {"latents", "images"}, the events at which a failure shows.
    """

    law: str
    status: str
    text: str
    points: int = 0
    diagnosis: str = ""
    places: Any = None

    @property
    def theorem(self):
        """What the law says, in a sentence."""
        return " ".join(LAWS[self.law].__doc__.split("\n\n")[0].split())


SCHEMA = "refflow/verdicts/1"
HINT = ("these laws hold for every invertible map; to ask whether it is the map that it is called, name its page: "
        "refflow.check(box, page=...), or check FILE --page NAME --parameters FILE")


class Verdicts(list):
    """One `Verdict` for each law of a black box, notes, and what was asked, {"latents", "low", "high", "lower", "upper", ...}.

    Printed, it is a table with the counts, the range of the latents, the notes, and a hint where everything holds.
    """

    def __init__(self, found=(), notes=(), asked=None):
        super().__init__(found)
        self.notes, self.asked = list(notes), asked

    @property
    def failed(self) -> list:
        return [one for one in self if one.status == "FAIL"]

    @property
    def status(self) -> int:
        """The exit status: 0 if every law that was asked holds, 1 if one is broken, 2 if none could be asked."""
        return 1 if self.failed else 0 if any(one.status == "pass" for one in self) else 2

    def counts(self) -> str:
        """"15 laws ran, 2 skipped: monotone, mass is one (the event is not one number)"."""
        return counts_text("law", [(one.law, one.status, one.text) for one in self])

    def __str__(self):
        rows = [(one.status, one.law, "; ".join(filter(None, (one.text, one.diagnosis)))) for one in self]
        lines = [f"{aligned(rows)}\n\n{self.counts()}", *self.range_text(), *(f"note: {note}" for note in self.notes)]
        return "\n".join([*lines, *([f"consistent: {HINT}"] if self.status == 0 else [])])

    def range_text(self):
        """"asked: 43 latents with entries on [-19.9, 17.3] of (-inf, inf)"."""
        if self.asked is not None:
            one = self.asked
            yield f"asked: {one['latents']} latents with entries on [{one['low']:.3g}, {one['high']:.3g}] of {one['whole']}"

    def as_dict(self) -> dict:
        return {"laws": [one._asdict() | {"theorem": one.theorem} for one in self], "counts": self.counts(), "notes": self.notes,
                "asked": self.asked, "status": self.status, "hint": HINT if self.status == 0 else ""}

    def to_json(self) -> str:
        return json_text({"schema": SCHEMA, "boxes": [{"name": "box"} | self.as_dict()]})


def law(name, *needs, since=SUITES[0]):
    """Register a law under its name, and the suite it came with; without the quantities `needs` it is skipped."""
    def register(function):
        LAWS[name], NEEDS[name], SINCE[name] = function, needs, since
        return function

    return register
