"""A map that libraries have, and what answers for it here."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """`answer`: code that makes the map, from the letters in `coverage.letters`.  Without one, `missing` or `outside` says why."""

    map: str
    equation: str
    answer: str = ""
    remark: str = ""
    missing: str = ""
    outside: str = ""
    theirs: dict[str, str] = field(default_factory=dict)        # library: the names of its maps, separated by commas

    @property
    def state(self):
        return "outside" if self.outside else "missing" if self.missing else "answered"


def row(name, equation, answer="", remark="", missing="", outside="", **theirs):
    return Row(name, equation, answer, remark, missing, outside, theirs)
