"""The suites: each is the set of laws of one date, which a user's file can name.

A law that came with the newest suite warns, in files that name an older one, for as long as that suite is the newest; then it
fails there too.  A file that names no suite means the newest.
"""

from __future__ import annotations

from ..points.pages import CannotRun

SUITES = ("2026.12",)       # oldest first


class SuiteWarning(UserWarning):
    """Something is broken that the suite named by the user's file does not hold yet."""


def suite_named(name, where):
    """A known suite, the newest for None.  ValueError, with the known suites, for any other name."""
    if name is None:
        return SUITES[-1]
    if name not in SUITES:
        newer = "; a newer refflow may know it" if str(name) > SUITES[-1] else ""
        raise CannotRun(f"{where}: suite must be one of {', '.join(SUITES)}, not {name!r}{newer}")
    return name


def only_warns(since, suite):
    """Is what came with the suite `since` too new to fail in a file that names `suite`?"""
    return since == SUITES[-1] != suite
