r"""A page at a library's raw parameters: `x = f(z; fields(h))`, where a table of conventions gives the map `fields`.

    x = f(z; fields(h))                                                             (1)
    z_bar, fields_bar = f*(x_bar, l_bar),   h_bar = fields*(fields_bar)             (2)

Others form knots as sums of bins, so that each is as far off as a rounding of the largest moves it: in the unit of error,
every knot counts with the size of the largest.
"""

from __future__ import annotations

import difflib

import numpy as np

from ...core import Array, Bijector, Value, bijector, child, plain, real, tree
from ...core.values import declare
from ...maps.coupling import Family, affine_family
from ...maps.elementwise import CONVENTIONS
from ...maps.parametrisations import Map
from ...maps.parametrisations.conventions import OF_PAGES as TABLES
from .pages import CannotRun, page_named

COUNT = 24
SIZES = (0.0, 0.5, 2.0, 8.0)            # of the raw parameters: equal bins, as at the start of training, to very unequal ones
ENTRIES = 3                             # of an event that is a vector, where a library's name is given
DRAWS = 2                               # of raw parameters of one size, of a page of vectors


@declare
class BySums(Map):
    """The fields of `map`, whose knots others form by sums."""

    map: Map = child()
    in_norm = ("input_knots", "output_knots")

    size = property(lambda self: self.map.size)
    names = property(lambda self: self.map.names)
    cores = property(lambda self: self.map.cores)

    @staticmethod
    def definition(m, h, map):
        return map.definition(m, h)

    def vjp(self, h):
        fields, map_pullback = self.map.vjp(h)

        def pullback(bars):
            h_bar, map_bar = map_pullback(bars)
            return h_bar, {"map": map_bar}

        return fields, pullback


@declare
class OfVectors(Value):
    """A page of vectors, indexed by h through a map, as a `Family` is of a page of numbers."""

    bijector: type = plain()
    map: Map = child()

    size = property(lambda self: self.map.size)
    domain = property(lambda self: self.bijector.domain)
    codomain = property(lambda self: self.bijector.codomain)
    entries = property(lambda self: next(core[0] for core in self.map.cores if core))           # of an event

    @staticmethod
    def definition(m, z, h, *, bijector, map):
        return bijector.definition(m, z, **map.definition(m, h))

    def at_values(self, h, ndim):
        """(f, pullback) at h (*batch, P), as of a `Family`."""
        fields, map_pullback = self.map.vjp(h)

        def pullback(fields_bar):
            h_bar, map_bar = map_pullback(fields_bar)
            return h_bar, {"map": map_bar}

        return tree.bare(self.bijector, **{key: np.asarray(held, h.dtype) for key, held in fields.items()}), pullback


@bijector(source="definition", register=False)
class Parametrised(Bijector):
    """x = f(z; fields(h)) of a family, at one h."""

    h: Array = real("P")
    family: Value = child()

    event_ndim = property(lambda self: self.family.bijector.event_ndim)
    domain = property(lambda self: self.family.domain)
    codomain = property(lambda self: self.family.codomain)
    solver = property(lambda self: self.family.bijector.solver)
    normwise = property(lambda self: self.family.bijector.normwise)

    @property
    def f(self):
        return self.family.at_values(self.h, 0)[0]

    @staticmethod
    def definition(m, z, h, family):
        return family.definition(m, z, h)                                           # (1)

    def forward_and_log_det(self, z):
        return self.f.forward_and_log_det(z)                                        # (1)

    def inverse_and_log_det(self, x):
        return self.f.inverse_and_log_det(x)

    def jacobian(self, z):
        return self.f.jacobian(z)

    def vjp(self, z):
        f, fields_pullback = self.family.at_values(self.h, 0)
        return self.pulled(f.vjp(z), fields_pullback)

    def inverse_vjp(self, x):
        f, fields_pullback = self.family.at_values(self.h, 0)
        return self.pulled(f.inverse_vjp(x), fields_pullback)

    @staticmethod
    def pulled(found, fields_pullback):
        image_and_log_det, f_pullback = found

        def pullback(image_bar, log_det_bar):
            event_bar, fields_bar = f_pullback(image_bar, log_det_bar)              # (2)
            h_bar, family_bar = fields_pullback(fields_bar)                         # (2)
            return event_bar, {"h": h_bar, "family": family_bar}

        return image_and_log_det, pullback


def family_named(page, name):
    """The family of a page with raw parameters, of a library's name in its table, or of a map.

    Raises CannotRun for a page without a table, and for an unknown library.
    """
    bijector = page_named(page)
    if page not in TABLES:
        raise CannotRun(f"{page} has no table of parametrisations; {', '.join(TABLES)} have one")
    table = TABLES[page]
    if not isinstance(name, Map) and name not in table:
        close = difflib.get_close_matches(str(name), table, 1, 0.5)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise CannotRun(f"{page} has no parametrisation {name!r}{hint}; it has {', '.join(map(repr, table))}")
    if table is CONVENTIONS:
        return affine_family(table[name])
    if bijector.event_ndim == (1, 1):
        return OfVectors(bijector, name if isinstance(name, Map) else table[name](ENTRIES))
    return Family(bijector, BySums(name if isinstance(name, Map) else table[name]()))


def parametrised(family, dtype):
    """(f, events z): the family's bijector at drawn raw parameters of several sizes; the same each time."""
    rng = np.random.default_rng(family.size)
    for size in SIZES:
        for f in taken(family, size, rng, dtype):
            yield f, drawn_latents(f, rng).astype(dtype)


def taken(family, size, rng, dtype):
    """The family's bijectors at parameters of one size that its page takes.

    Of a page of vectors there are several.  The signs of the later half are turned, so that products with the earlier half have
    both signs.
    """
    vectors = isinstance(family, OfVectors)
    for _ in range(DRAWS if vectors else 1):
        h = (size * rng.standard_normal(family.size)).astype(dtype)
        later = np.where(2 * np.arange(family.size) < family.size - 1, 1, -1).astype(dtype)
        for signed in (h, later * h) if vectors else (h,):
            f = Parametrised(signed, family)
            if not vectors or is_taken(f):
                yield f


def is_taken(f):
    """Does the page take the fields?"""
    try:
        f.astype(np.float64).f._validate()
    except ValueError:
        return False
    return True


def drawn_latents(f, rng):
    """Latents in the domain, of all bins of a spline and from beyond its ends; else normal ones."""
    if isinstance(f.family, OfVectors):
        return 2 * rng.standard_normal((COUNT, f.family.entries))
    knots = getattr(f.f, "input_knots", None)
    if knots is None:
        return 2 * rng.standard_normal(COUNT)
    low, high = knots[0], knots[-1]
    z = low + (high - low) * rng.uniform(-0.125, 1.125, COUNT)
    return z[f.domain.members(z.astype(np.float32), 0)]
