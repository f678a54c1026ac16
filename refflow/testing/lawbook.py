"""The register of the laws of a black box, and what comes of asking one."""

from __future__ import annotations

from typing import Any, NamedTuple

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


def law(name, *needs, since=SUITES[0]):
    """Register a law under its name, and the suite it came with; without the quantities `needs` it is skipped."""
    def register(function):
        LAWS[name], NEEDS[name], SINCE[name] = function, needs, since
        return function

    return register
