"""Declarations: what a page says about its fields, said once.

From one declaration come the validation message, the parameter dictionary, the flat vector, the initial draw and the
documentation table.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

from numpy import ndarray as Array

from .rules import Rule

__all__ = ["Array", "Child", "Field", "Plain", "bind", "child", "children", "plain", "size_of"]


@dataclasses.dataclass(frozen=True)
class Field:
    """One declared array: the set its values lie in and its trailing core shape, in symbols ("D", "K+1") or numbers.

    `constant` fields (masks, permutations) are not parameters.  A field with a `role`, "context" or "mask" (of sequences),
    is what `at` fills in.  An `optional` field may be None: it is then absent, also from the parameters, unless `at` fills
    it.  A `default` number fills the whole core of a field that is omitted.  If the field is also optional, omitting it gives
    the default; None removes it.
    """

    set: Any
    shape: tuple = ()
    default: Any = None
    constant: bool = False
    optional: bool = False
    dtype: Any = None
    role: str | None = None

    @property
    def usual(self):
        """Is the field present unless the caller removes it?"""
        return self.default is not None or not self.optional

    def drawn(self, source, shape, dtype, spread):
        """A member of the set from a `Source`, of the full shape, in `dtype`; a constant keeps its own dtype."""
        if self.constant:
            return self.set.draw(source, shape).astype(self.dtype)
        return self.set.draw(source, shape, dtype, spread)


@dataclasses.dataclass(frozen=True)
class Child:
    """A declared component that is itself a value (`many`: a tuple of them)."""

    many: bool = False


def child() -> Any:         # what stands for a component is one to type checkers
    """A field that holds another bijector, base or conditioner."""
    return Child()


def children() -> Any:
    """A field that holds a tuple of components."""
    return Child(many=True)


@dataclasses.dataclass(frozen=True)
class Plain:
    """A field that is not an array and not a parameter (a shape, a name): kept as given, or as its rule says."""

    default: Any = dataclasses.MISSING
    rule: Rule | None = None


def plain(default=dataclasses.MISSING, rule=None) -> Any:
    """A field that holds a plain Python value, which the rule, if there is one, must accept."""
    return Plain(default, rule)


def letter_of(symbol):
    """The letter of "D" or "K+1"."""
    return re.fullmatch(r"(\w+?)([+-]\d+)?", symbol).group(1)


def size_of(symbol, dims):
    """The number that "D", "K+1" or 3 stands for, or None while its letter is unknown."""
    if isinstance(symbol, int):
        return symbol
    letter, offset = re.fullmatch(r"(\w+?)([+-]\d+)?", symbol).groups()
    return dims[letter] + int(offset or 0) if letter in dims else None


def bind(symbol, size, dims):
    """Learn the letter of `symbol` from `size`; False if the two contradict each other."""
    known = size_of(symbol, dims)
    if known is None:
        letter, offset = re.fullmatch(r"(\w+?)([+-]\d+)?", symbol).groups()
        dims[letter] = size - int(offset or 0)
        return dims[letter] >= 0
    return known == size
