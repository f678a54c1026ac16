"""The register of the laws of a black box, and what comes of asking one."""

from __future__ import annotations

from typing import Any, NamedTuple

from ..report import aligned
from .counts import counts_text
from .suites import SUITES

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
    """

    def __init__(self, text, event=None, compared=None):
        super().__init__(text)
        self.event, self.events, self.compared = event, None, compared


class Verdict(NamedTuple):
    """What came of one law: "pass", "FAIL" or "skip", and why; at how many points it was asked; a failure's known kind."""

    law: str
    status: str
    text: str
    points: int = 0
    diagnosis: str = ""

    @property
    def theorem(self):
        """What the law says, in a sentence."""
        return " ".join(LAWS[self.law].__doc__.split("\n\n")[0].split())


class Verdicts(list):
    """One `Verdict` for each law of a black box, and notes; printed, it is a table with the counts and the notes below."""

    def __init__(self, found=(), notes=()):
        super().__init__(found)
        self.notes = list(notes)

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
        return "\n".join([f"{aligned(rows)}\n\n{self.counts()}", *(f"note: {note}" for note in self.notes)])


def law(name, *needs, since=SUITES[0]):
    """Register a law under its name, and the suite it came with; without the quantities `needs` it is skipped."""
    def register(function):
        LAWS[name], NEEDS[name], SINCE[name] = function, needs, since
        return function

    return register
