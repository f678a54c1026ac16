"""The letters of the notation's tree: names with their accents and subscripts, and how a program may spell them."""

from __future__ import annotations

import dataclasses
import functools

from .algebra import Identity, Row, Unknown
from .notation import (Apply, Call, Fraction, Gap, Group, Matrix, Number, Punctuation, Scripted, Sum, Text, Word)

PRIME = "_prime"
MADE_MATRICES = ("diag", "tril", "triu")


@dataclasses.dataclass(frozen=True)
class Name:
    """A letter with its accents, strokes and subscripts; a derivative and a log-det of one are letters too."""
    letter: str
    below: tuple = ()


@dataclasses.dataclass(frozen=True)
class Known:
    """A node that has its value."""
    value: object


def kept(function):
    """A function of one node, asked once for each node: trees are asked the same again for every entry of every array."""
    found = {}

    @functools.wraps(function)
    def asked(node):
        held = found.get(id(node))
        if held is None or held[0] is not node:
            held = found[id(node)] = node, function(node)
        return held[1]

    return asked


@kept
def name_of(node):
    """The Name that a node is, or None."""
    if isinstance(node, Word):
        return Name(node.text)
    if isinstance(node, Scripted) and not node.star:
        inner = name_of(node.base)
        return inner and Name(inner.letter + "".join(f"_{accent}" for accent in node.accents) + PRIME * node.primes,
                              inner.below + node.below)
    if isinstance(node, Fraction) and node.form == "derivative" and node.top.of is not None:
        top, bottom = name_of(bare(node.top.of)), name_of(node.bottom.of)
        return Name(f"d{top.letter}/d{bottom.letter}", top.below + bottom.below) if top and bottom else None
    if isinstance(node, Apply) and node.function == Word("log"):
        inner = node.argument
        if isinstance(inner, Call) and inner.function == Word("p"):
            return Name("log_prob")
        if isinstance(inner, Group) and inner.opening == "|" and len(inner.items) == 1:
            item = inner.items[0]
            is_det = isinstance(item, Apply) and item.function == Word("det")
            of = name_of(item.argument if is_det else item)
            if of and (is_det and not of.below or "/" in of.letter):
                power = getattr(item.argument if is_det else item, "above", None)
                return Name(f"log|{of.letter}{'^-1' if power else ''}|")
        of = name_of(inner)
        return of and Name(f"log {of.letter}", of.below)
    return None


def bare(node):
    return node.items[0] if isinstance(node, Group) and len(node.items) == 1 and node.opening == "(" else node


@functools.cache
def subscripts(below):
    """The indices that subscripts hold, one node each: `_ij` is two, `_k,i+1` too, `_12` is entry 1, 2."""
    found = []
    for script in below:
        if isinstance(script, Word):
            for piece in script.text.split(","):
                found += split(piece)
        elif isinstance(script, Group):
            run = []
            for item in (*script.items, Punctuation(",")):
                if isinstance(item, Punctuation):
                    found += run if len(run) == 1 else [Text("several")] if run else []
                    run = []
                elif not isinstance(item, Gap):
                    run.append(item)
        else:
            found.append(script)
    return tuple(found)


def split(piece):
    signs = [i for i, sign in enumerate(piece) if sign in "+-"]
    if not signs:
        return [Number(sign) if sign.isdigit() else Word(sign) for sign in piece]
    terms, start, sign = [], 0, ""
    for i in (*signs, len(piece)):
        text = piece[start:i]
        terms.append((sign, Number(text) if text.isdigit() else Word(text)))
        start, sign = i + 1, piece[i:i + 1]
    return [Sum(tuple(terms))]


@functools.cache
def spelled(name, own):
    """How a program may spell a name with `own` of its subscripts in it."""
    if not all(isinstance(script, (Word, Number)) for script in name.below[:own]):
        return ()
    below = "".join(f"_{script.text}" for script in name.below[:own])
    stem, bar, rest = name.letter.replace("/", "_").partition("_bar")          # dl/dz is dl_dz
    return dict.fromkeys((stem + below + bar + rest, name.letter + below, stem + below.replace("_", "") + bar + rest))


@kept
def names_in(node):
    """The names in a tree, in their order."""
    return tuple(names_of(node))


def names_of(node):
    name = name_of(node)
    if name is not None and (name.below or isinstance(node, Word)):
        yield name
        if not isinstance(node, Apply):
            for script in subscripts(name.below):
                if not isinstance(script, (Word, Number)):
                    yield from names_of(script)
            return
    for child in node if isinstance(node, tuple) else children(node):
        yield from names_of(child)


def first_of(letter, first):
    """The index of an array's first entry; a cotangent's is that of its letter."""
    return first.get(letter.removesuffix("_bar"), 1)


@kept
def is_matrix(node):
    """Is a node made of matrices: of capital letters, or of a column and a row?"""
    if isinstance(node, Word):
        return node.text[:1].isupper()
    if isinstance(node, (Call, Apply)) and getattr(node.function, "text", None) in MADE_MATRICES:
        return True
    if isinstance(node, Scripted) and (node.above == Word("T") or isinstance(node.base, Matrix)):
        return True
    return any(is_matrix(child) for child in children(node))


def children(node):
    if dataclasses.is_dataclass(node) and not isinstance(node, (Known, Identity, Row)):
        for field in dataclasses.fields(node):
            yield from parts(getattr(node, field.name))


def parts(held):
    if isinstance(held, tuple):
        for one in held:
            yield from parts(one)
    elif dataclasses.is_dataclass(held):
        yield held


def commas(items):
    run = []
    for item in (*items, Punctuation(",")):
        if isinstance(item, Punctuation):
            if len(run) != 1:
                raise Unknown("shape", "an argument")
            yield run.pop()
        elif not isinstance(item, Gap):
            run.append(item)
