"""Alarms that are defects of a library, or limits that it does not declare: each with its reason, and the seed that shows it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Reason:
    """Why an alarm is right, and a seed at which the map alarms."""

    text: str
    seed: int = 0


TRUE_ALARMS = {}                        # {(library, map, dtype, law): Reason}
