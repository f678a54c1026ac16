"""A defect of somebody else's library: where it is told, what it prints and should print, and how a user would check it.

`code` prints one value for each line; `true(m)` returns the same values, from the equation alone.  `check` is what a user
writes from refflow/oracle/README.md: a file that defines `box`, or functions with `@adapter`; or, of a map that ships with
refflow, the name of its adapter, as "shipped: nflows.transforms.Tanh".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from validation.peers.findings import FINDINGS

SHIPPED = "shipped: "
OWN = "refflow's own finding"


@dataclass(frozen=True)
class Defect:
    """One defect.  `says`: laws or quantities; it is found for what it is if one of these fails."""

    library: str
    version: str
    name: str
    source: str                         # owner/repository#number, or OWN
    says: tuple
    code: str
    check: str
    true: Callable
    port: str = ""                      # of code that cannot be imported here: the file and the version it was taken from
    missed: str = ""                    # why check does not find it, where that is known


DEFECTS: list[Defect] = []


def defect(library, version, name, source, says, code, check, port="", missed=""):
    """A decorator of the true values of a defect."""
    def add(true):
        says_all = (says,) if isinstance(says, str) else tuple(says)
        DEFECTS.append(Defect(library, version, name, source, says_all, code, check, true, port, missed))
        return true

    return add


def finding(library, version, name, says, check, source=OWN, missed=""):
    """A defect whose reproduction is one of `validation.peers`' findings."""
    found = next(one for one in FINDINGS if (one.library, one.name) == (library, name))
    defect(library, version, name, source, says, found.code, check, missed=missed)(found.true)
