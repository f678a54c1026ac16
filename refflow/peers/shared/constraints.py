"""The constraints of a library, each asked as the bijector that `biject_to` has for it."""

from __future__ import annotations

import functools
import math

from ...core import Chain
from ...core.tree import flatten
from ...maps.constrained.biject_to import biject_to
from ...maps.constrained.conventions import CONSTRAINTS
from ...oracle.asking.adapter import DECLARED
from . import is_real


def declare_constraints(library, declare, directions_of):
    """Declare each bijector that is not declared yet; `directions_of(name, ends)` is (forward, inverse) of the library's.

    A page without fields is asked by name, anything else at the fields that the convention gives it, which are numbers to the
    library.
    """
    asked = {of.page for of in DECLARED}
    for convention in CONSTRAINTS[library]:
        ends, like = convention.example()
        f = biject_to(convention.name, like, library, ends)
        if f is None:
            continue
        fields = any(is_real(value) for _, value in flatten(f.params()))
        by_name = not fields and not f.components()
        same = type(f).__name__ if by_name else (convention.kind, convention.stages)
        if same not in asked:
            asked.add(same)
            page = same if by_name else f if f.components() else Chain([f])
            declare(page, f"biject_to({convention.name})", of_any_parameters(directions_of, convention.name, ends),
                    gradients=not fields, chart_gradient=has_coordinates(f.codomain, like))


def with_ends(constraint, ends):
    """A constraint, or the class of one that is made of its finite ends."""
    return constraint if ends is None else constraint(*(end for end in ends if math.isfinite(end)))


def has_coordinates(where, member):
    return where.thin and where.coordinates(member.shape) is not None


def of_any_parameters(directions_of, name, ends):
    """As `declare` wants it, and of the library's module, by which its adapters are found."""
    @functools.wraps(directions_of)
    def build(params):
        return directions_of(name, ends)

    return build
