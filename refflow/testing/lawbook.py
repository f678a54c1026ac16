"""The register of the laws of a black box, and what comes of asking one."""

from __future__ import annotations

from typing import NamedTuple

from .suites import SUITES

LAWS: dict = {}
NEEDS: dict = {}
SINCE: dict = {}


class Skipped(Exception):
    """Why a law was not asked."""


class Found(AssertionError):
    """A law that is broken: at what point, what is given and what was expected; `event`: the latent there, if there is one.

    `events`: the simplest batch that shows it, if it was searched.
    """

    def __init__(self, text, event=None):
        super().__init__(text)
        self.event, self.events = event, None


class Verdict(NamedTuple):
    """What came of one law: "pass", "FAIL" or "skip", and why; at how many points it was asked."""

    law: str
    status: str
    text: str
    points: int = 0

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
