"""Each map of each library, with the page or the composition that makes it here: `refflow coverage`, and validation/tables/coverage.md.

A row is one map with the names that the libraries give it, see `row`.  What was asked of the libraries' own code, and with which
error, is in asked.json, and what was found in findings.json: `python -m validation.coverage` makes both from the records of
`python -m validation.peers`, and public.json from the libraries themselves.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import resources

from . import (autoregressive, combinators, constrained, continuous, couplings, distribution_functions, elementwise, linear,
               manifolds, models, multiscale, normalization, residual, shape, splines, surjections)
from .row import Row

CHAPTERS = (elementwise, distribution_functions, shape, linear, normalization, couplings, autoregressive, splines, constrained,
            residual, continuous, multiscale, surjections, manifolds, models, combinators)
ROWS: tuple[Row, ...] = tuple(row for chapter in CHAPTERS for row in chapter.ROWS)
NOT_HERE = {                                                # libraries with rows and without adapters
    "bijectors_jl": "Bijectors.jl", "invertible_networks_jl": "InvertibleNetworks.jl", "survae": "SurVAE"}
KINDS = {"defect": "defect", "range": "right in part of the range", "choice": "a choice, not a defect", "right": "right"}


def libraries():
    """All that have rows."""
    return sorted({library for row in ROWS for library in row.theirs})


def rows_of(library):
    return [row for row in ROWS if library in row.theirs]


def names(row, library):
    """The library's names of a map, one by one: a comma inside brackets does not part them."""
    return [name.strip() for name in re.split(r",(?![^(\[]*[)\]])", row.theirs[library])]


@functools.cache
def held(file):
    return json.loads((resources.files(__name__) / file).read_text(encoding="utf-8"))


def absent(row, library):
    """"not in 0.2" and the like, if the library's release has none of the map's names."""
    notes = [re.search(r"\((not [io]n [^)]*)\)", name) for name in names(row, library)]
    return notes[0][1] if all(notes) else None


def asked(row, library):
    """{name of an adapter: its worst errors, float32 and float64} of the library's map."""
    heads = {head(name) for name in names(row, library)}
    return {theirs: errors for theirs, errors in held("asked.json").get(library, {"maps": {}})["maps"].items()
            if head(theirs) in heads}


def head(name):
    """The class that a name begins with, or the function of a constraint or a distribution with what it is of."""
    return re.match(r"(?:\w+\.)*((?:biject_to|CumulativeDistributionTransform)\((?:[^()]|\([^()]*\))*\)|\w*)", name)[1]


def pairs():
    """How many distinct pairs of a map and a library were asked."""
    return sum(bool(asked(row, library)) for row in ROWS for library in row.theirs)


def without_a_row(library):
    """The library's public maps that no row names."""
    known = {word for row in rows_of(library) for word in re.findall(r"\w+", row.theirs[library])}
    return [name for name in held("public.json").get(library, {"names": []})["names"] if name not in known]
