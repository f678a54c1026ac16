"""The one generator: values of any page, events and cotangents, drawn from a `Source`.

The laws ask it through Hypothesis, the certificate and the oracle through a NumPy generator.  A page without components is
drawn from its declaration; a page with components says how to draw them in `examples(source)`.
"""

from __future__ import annotations

import itertools
from dataclasses import MISSING, dataclass, replace
from typing import Any

import numpy as np

from ..core import Conditioner, Plainest
from ..core.boundary import LETTERS
from ..core.declarations import Child, Field, Plain, bind, letter_of, size_of
from .formats import format_of

SIDES = {"forward": 0, "inverse": 1}
MATRICES = 10                   # for a page with a square matrix, whose scales multiply: 2^+-10 at most, or half the spread
OPTIONAL = 0.7                  # the share of cases in which an optional field is present


@dataclass(frozen=True, eq=False)
class Point:
    """One question: a bijector or conditioner with its parameters, events of one side, cotangents, and why it is asked.

    The event is z for the side "forward", x for "inverse".  `truth` is recorded for golden points, and None otherwise; `lead`
    counts the leading axes that are only repetition, each of whose entries is a question of its own.  `form` names the format
    of the code under test where it is narrower than the arrays, which then hold numbers of it.
    """

    f: Any
    side: str
    event: np.ndarray
    image_bar: np.ndarray | None = None
    log_det_bar: np.ndarray | None = None
    case: str = "drawn"
    reason: str = ""
    truth: dict | None = None
    id: str = ""
    lead: int = 0
    form: str = ""

    @property
    def dtype(self):
        return self.event.dtype

    @property
    def format(self):
        """The format in which the answer is computed."""
        return format_of(self.form or self.dtype)

    def single(self, index):
        """The question at one leading index; questions with cotangents have no leading axes."""
        return replace(self, event=self.event[index], truth=None, lead=0)

    def changed(self, **changes):
        """The same question with some parts changed; its truth is computed at run time."""
        return replace(self, truth=None, **changes)


def set_of(f, side):
    return f.domain if side == "forward" else f.codomain


def image_shape(f, side, shape):
    """The event shape of the other side."""
    return tuple(f.output_shape(shape) if side == "forward" else f.input_shape(shape))


# -- values -----------------------------------------------------------------------------------------------------------

def spread_of(page, spread):
    """The spread of a page's fields: their numbers lie in 2^-spread to 2^spread."""
    matrix = any(isinstance(field, Field) and field.set.rank == 2 and len(set(field.shape[-2:])) == 1
                 for field in page.declared.values())
    return min(spread // 2, MATRICES) if matrix else spread


def plain_choices(page):
    """The values that plain fields may take: their defaults and the values in the hard cases."""
    names = [key for key, field in page.declared.items() if isinstance(field, Plain)]
    cases = [{key: case.params[key] for key in names if key in case.params} for case in page.hard_cases]
    defaults = [] if any(page.declared[key].default is MISSING for key in names) else [{}]
    choices = defaults + [given for given in cases if given]
    return [given for i, given in enumerate(choices) if given not in choices[:i]]


def shape_of(field, dims, size):
    """The core shape of a field; `size(letter)` for letters that `dims` does not know, which learns them."""
    for symbol in field.shape:
        if size_of(symbol, dims) is None:
            dims[letter_of(symbol)] = size(letter_of(symbol))
    return tuple(size_of(symbol, dims) for symbol in field.shape)


def drawn_fields(page, source, dtype, spread, size, given=None, lead=tuple, optional=OPTIONAL):
    """The fields of a page without components, drawn except for those in `given`.

    `size(letter)` answers for each letter; `lead()` gives the batch axes of a field; an optional field is present in a share
    of cases, a field that `at` fills in and a constant without a shape never.
    """
    spread, fields, dims = spread_of(page, spread), dict(given or {}), {}
    missing = [key for key, declared in page.declared.items() if isinstance(declared, Child) and key not in fields]
    if missing:
        raise NotImplementedError(f"{page.__name__}: say in `examples` how its component {missing[0]} is drawn")
    for key, value in fields.items():
        declared = page.declared[key]
        if isinstance(declared, Field) and value is not None:
            core = np.shape(value)
            for symbol, n in zip(declared.shape, core[len(core) - len(declared.shape):]):
                bind(symbol, n, dims)
    for key, declared in page.declared.items():
        if not isinstance(declared, Field) or key in fields:
            continue
        possible = not declared.optional or declared.role is None and bool(declared.shape or not declared.constant)
        if possible and (not declared.optional or source.chance(optional)):
            shape = (() if declared.constant else lead()) + shape_of(declared, dims, size)
            fields[key] = declared.drawn(source, shape, dtype, spread)
        else:
            fields[key] = None
    return fields


def is_scaled(declared):
    """Is it a field whose members may be scaled, entry by entry or row by row?"""
    return isinstance(declared, Field) and declared.set.scalable


def with_opposite_scales(f, source, spread):
    """The value with the entries, or the rows, of its fields times numbers whose product is near 1 while they are far from it.

    They lie between 2^-spread and 2^spread; the logarithms of a determinant cancel.
    """
    scaled = {}
    for key, declared in f.declared.items():
        held = getattr(f, key) if is_scaled(declared) else None
        if held is not None and held.ndim:
            matrix = declared.set.rank == 2
            numbers = opposite_numbers(source, held.shape[-2 if matrix else -1], min(spread, MATRICES) if matrix else spread)
            scaled[key] = (held * (numbers[:, None] if matrix else numbers)).astype(held.dtype)
    return f.replace(**scaled)


def opposite_numbers(source, count, spread):
    """Large numbers and the reciprocals of their neighbours, in any order, and a 1 if the count is odd."""
    large = source.numbers((count // 2,), 3 * spread // 4, spread)
    return np.concatenate((large, 1 / (large * source.numbers(large.shape, 0, 1)), np.ones(count % 2)))[source.orders((count,))]


def plainest(page, dtype, size):
    """The value of a page with the simplest parameters that its declarations allow: defaults and anchors; or its example."""
    if has_examples(page):
        return example(page, Plainest(), dtype)[0]
    fields, dims = {}, {}
    for key, declared in page.declared.items():
        if isinstance(declared, Field) and declared.usual:
            value = plainest_of(declared, shape_of(declared, dims, lambda letter: size))
            fields[key] = value.astype(declared.dtype if declared.constant else dtype)
    return page(**fields)


def plainest_of(field, shape):
    """A field's default, or the simplest member of its set."""
    return np.full(shape, field.default) if field.default is not None else field.set.plainest(shape)


def has_examples(page):
    """Does a page itself say how to draw it?"""
    return page.examples is not None


def example(page, source, dtype):
    """(value, event shape of its z) of a page that itself says how to draw it, in `dtype`."""
    value, shape = page.examples(source)
    return value.astype(dtype) if value.dtype is not None else value, tuple(shape)


# -- events -----------------------------------------------------------------------------------------------------------

def event_shapes(f, sizes):
    """Event shapes of z that fit f: its letters known from the fields, the others of any of `sizes`."""
    letters = f.event_shape or LETTERS[f.event_ndim[0]]
    fixed = getattr(f, "fixed_shape", None)
    axes = [[f.dims[s]] if s in f.dims else dict.fromkeys(sizes) for s in letters]
    candidates = [fixed] if fixed else itertools.product(*axes)
    return [tuple(shape) for shape in candidates if fits(f, shape)]


def fits(f, shape):
    try:
        f.output_shape(tuple(shape))
    except ValueError:
        return False
    return True


def drawn_event(source, f, side, shape, dtype, spread, lead=()):
    """Events of one side, inside the set of that side."""
    return set_of(f, side).draw(source, (*lead, *shape), dtype, spread)


def binade(where, source, dtype, exponent, parts=1):
    """Members of a set of rank 0, one from each of its ends in each part of the binade 2^exponent to 2^(exponent + 1).

    If an array of fields moves the ends, there is one number from a drawn end.
    """
    dtype, ends = np.dtype(dtype), where.ends()
    if not ends:
        return [where.draw(source, (), dtype, (exponent, exponent + 1))]
    found = []
    for part in range(parts):
        for end, way in ends:
            within = np.ldexp(source.numbers((), exponent, exponent + 1), -exponent) - 1
            with np.errstate(over="ignore"):
                found.append((end, dtype.type(end + way * np.ldexp(1 + (part + within) / parts, exponent))))
    return [event for end, event in found if event != end and where.members(event, 0)]


def with_cotangents(point, source, spread):
    """The same question, with cotangents of magnitude 2^-spread to 2^spread; a conditioner has no log-det cotangent."""
    f, rank = point.f, point.f.event_ndim[SIDES[point.side]]
    split = point.event.ndim - rank
    batch = np.broadcast_shapes(point.event.shape[:split], f.parameter_batch)
    image = image_shape(f, point.side, point.event.shape[split:])
    bars = [source.signed(shape, -spread, spread).astype(point.dtype) for shape in (batch + image, batch)]
    return replace(point, image_bar=bars[0], log_det_bar=None if isinstance(f, Conditioner) else bars[1])


def neighbours(point, eps=None):
    """The moved points whose events are still members."""
    return (p for p in moved(point, eps) if set_of(p.f, p.side).members(p.event, p.f.event_ndim[SIDES[p.side]]).all())


def moved(point, eps=None):
    """The point with its event, or all its parameters, moved by a relative eps either way, if the parameters are members.

    By default it is the dtype's eps.
    """
    eps, vector = float(np.finfo(point.dtype).eps) if eps is None else eps, point.f.ravel()
    for factor in (1 - eps, 1 + eps):
        yield point.changed(event=(point.event * factor).astype(point.dtype))
        if vector.size:
            try:
                yield point.changed(f=point.f.unravel((vector * factor).astype(vector.dtype)))
            except ValueError:                      # the parameters have left their set
                pass
