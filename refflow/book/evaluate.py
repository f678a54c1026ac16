"""Values of the notation's tree: what a printed formula gives, where its letters are numbers.

`value(node, scope)` is a number, an array, a row vector or a multiple of the identity matrix.  It raises Unknown wherever the
notation leaves open what is meant, or a letter has no value.  A vector is a column and has one axis; `v^T` is a row.  Beside each
other, a matrix and a vector or a matrix are multiplied as matrices, two columns entry by entry.  Capital letters are matrices:
`A^2` is a product of matrices, `t^2` of a vector is taken entry by entry.  Arrays are indexed from 1, those in `scope.first` from there.
"""

from __future__ import annotations

import dataclasses
import keyword
import operator

import numpy as np
import scipy.linalg
import scipy.special

from .algebra import Identity, Row, Unknown, added, contracted, times
from .functions import CONSTANTS, INVERSES, LETTERS, OF_ARRAYS, OF_NUMBERS
from .letters import Known, Name, commas, first_of, is_matrix, name_of, names_in, spelled, subscripts
from .notation import (Apply, Big, Call, Code, Differential, Dots, Fraction, Gap, Group, Infix, Matrix, Number, Product, Punctuation,
                       Relation, Scripted, Sum, Text, Word)

DEPTH = 12
COMPARED = {"=": operator.eq, "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt,
            ">=": operator.ge}


@dataclasses.dataclass
class Record:
    """What an evaluation met: the largest term of any sum, the definitions it used, and whether a doubtful letter was read."""
    largest: float = 0.0
    used: list = dataclasses.field(default_factory=list)
    doubtful: bool = False


@dataclasses.dataclass
class Scope:
    """Where letters have values: bound indices first, then `layers` of names, then definitions, then doubtful names.

    A definition has `name`, a Name, `parameters`, the words in its bracket, and `chosen(scope)`, its right side.
    """
    layers: tuple = ()
    definitions: dict = dataclasses.field(default_factory=dict)
    doubtful: dict = dataclasses.field(default_factory=dict)
    first: dict = dataclasses.field(default_factory=dict)
    bound: dict = dataclasses.field(default_factory=dict)
    busy: tuple = ()
    record: Record = dataclasses.field(default_factory=Record)

    def changed(self, **fields):
        made = object.__new__(Scope)
        made.__dict__.update(self.__dict__, **fields)
        return made

    def binding(self, **indices):
        return self.changed(bound=self.bound | indices)

    def held(self, name):
        """What the layers hold under a name."""
        name = name + "_" if keyword.iskeyword(name) else name
        return [layer[name] for layer in self.layers if name in layer]

    def found(self, name):
        """The first of them, or None."""
        return next(iter(self.held(name)), None)


def value(node, scope):
    rule = RULES.get(type(node))
    if rule is None:
        raise Unknown("words" if isinstance(node, (Text, Code)) else "dots" if isinstance(node, Dots) else "notation", str(node)[:60])
    return rule(node, scope)


# -- names: where a letter has its value ---------------------------------------------------------------------------------

def word(node, scope):
    return named(Name(node.text), scope)


def named(name, scope):
    if not name.below and name.letter in scope.bound:
        return float(scope.bound[name.letter])
    found = looked_up(name, scope)
    if found is not None:
        array, indices = found
        first = first_of(name.letter, scope.first)
        at = [whole(index, scope, array.shape[axis] - 1 + first) - first for axis, index in enumerate(indices)]
        if all(0 <= index < size for index, size in zip(at, array.shape)):
            return entry(array, at)
        try:
            return defined(name, (), scope)             # x_0 = 0, before the entries of x
        except Unknown as unknown:
            raise Unknown("index", f"{name.letter} has no entry {at}") from unknown
    try:
        return defined(name, (), scope)
    except Unknown as unknown:
        if not name.below and name.letter in CONSTANTS:
            return CONSTANTS[name.letter]
        if name == Name("I"):
            return Identity()
        held = looked_up(name, scope.changed(layers=(scope.doubtful,))) if scope.doubtful else None
        if held is None:
            raise unknown
        scope.record.doubtful = True
        return named(name, scope.changed(layers=(*scope.layers, scope.doubtful), doubtful={}))


def looked_up(name, scope, index=None):
    """(array, indices that are left) of a name in the layers, or None; `index` is bound too."""
    for kept in range(len(name.below), -1, -1):
        named = subscripts(name.below[:kept])
        if any(isinstance(one, Word) and (one.text in scope.bound or one.text == index) or not isinstance(one, (Word, Number))
               for one in named):
            continue
        left = subscripts(name.below[kept:])
        for spelling in spelled(name, kept):
            for held in scope.held(spelling):
                if is_numeric(held) and np.ndim(held) >= len(left):
                    return np.asarray(held, float), left
    return None


def is_numeric(held):
    if isinstance(held, (list, tuple)):
        try:
            held = np.asarray(held)
        except ValueError:
            return False
    return isinstance(held, (bool, int, float, np.number, np.ndarray, np.bool_)) and np.asarray(held).dtype.kind in "bifu"


def entry(array, at):
    held = array[tuple(at)]
    return float(held) if held.ndim == 0 else held


def whole(index, scope, last):
    """The number that an index is; a capital letter without a value is the last entry."""
    if isinstance(index, Word) and index.text.isupper() and scope.found(index.text) is None and index.text not in scope.bound:
        if last is None:
            raise Unknown("index", index.text)
        return last
    held = value(index, scope.changed(doubtful={}))
    if np.ndim(held) or held != int(held):
        raise Unknown("index", str(index)[:40])
    return int(held)


def defined(name, arguments, scope):
    """The value of a name by the first of its definitions that fits its subscripts and whose condition holds."""
    for definition in scope.definitions.get(name.letter, ()):
        if definition in scope.busy or len(scope.busy) > DEPTH or len(definition.parameters) != len(arguments):
            continue
        written, given = subscripts(definition.name.below), subscripts(name.below)
        if len(written) != len(given) or not all(isinstance(one, (Word, Number)) for one in written):
            continue
        bound, fits = {}, True
        for own, one in zip(written, given):
            if isinstance(own, Word) and own.text.islower() and own.text not in bound:
                bound[own.text] = whole(one, scope, None)
            else:
                fits &= own == one or isinstance(own, Number) and whole(one, scope, None) == int(own.text) or \
                    isinstance(own, Word) and bound.get(own.text, value_or_none(own, scope)) == value_or_none(one, scope) is not None
        if not fits:
            continue
        inner = scope.changed(bound=bound, busy=(*scope.busy, definition),
                              layers=({word: held for word, held in zip(definition.parameters, arguments)}, *scope.layers))
        right = definition.chosen(inner)
        if right is not None:
            held = value(right, inner)
            scope.record.used.append((definition, inner, held))
            return held
    raise Unknown("letter", name.letter)


def value_or_none(node, scope):
    try:
        return value(node, scope)
    except Unknown:
        return None


# -- sums and products ---------------------------------------------------------------------------------------------------

def total(node, scope):
    held = None
    for sign, term in expanded(node.terms, scope, lambda one: one[1], lambda one, made: (one[0], made)):
        if sign == "+-":
            raise Unknown("notation", "+-")
        one = value(term, scope)
        seen = one.entries if isinstance(one, Row) else one.factor if isinstance(one, Identity) else one
        scope.record.largest = max(scope.record.largest, float(np.max(np.abs(seen), initial=0)))
        one = times(-1.0, one) if sign == "-" else one
        held = one if held is None else added(held, one)
    return 0.0 if held is None else held


def product(node, scope):
    factors = list(expanded(node.factors, scope, lambda one: one, lambda one, made: made))
    for i, factor in enumerate(factors):
        if isinstance(factor, Big):
            factors[i:] = [Known(summed(factor.sign, factors[i + 1:], scope))]
            break
    while any(isinstance(factor, Infix) for factor in factors):
        at = next(i for i, factor in enumerate(factors) if isinstance(factor, Infix))
        of_numbers = isinstance(factors[at - 1], Number) and isinstance(factors[at + 1], Number)
        if factors[at].sign != "mod" and not (factors[at].sign == "x" and of_numbers):
            raise Unknown("notation", factors[at].sign)
        operate = np.mod if factors[at].sign == "mod" else np.multiply
        factors[at - 1:at + 2] = [Known(operate(value(factors[at - 1], scope), value(factors[at + 1], scope)))]
    held = [(value(factor, scope), is_matrix(factor)) for factor in factors]
    held = contracted(held)
    made, capital = held.pop() if held else (1.0, False)
    while held:
        one, is_one = held.pop()
        made, capital = times(one, made, is_one or capital), is_one or capital
    return made


def summed(sign, factors, scope):
    """A sum or a product over its indices of the factors behind its sign; over all entries if it has no index."""
    below, above = (sign.below, sign.above) if isinstance(sign, Scripted) else ((), None)
    kind = (sign.base if isinstance(sign, Scripted) else sign).text
    if kind not in ("sum", "prod"):
        raise Unknown("integral" if kind == "int" else "notation", kind)
    if not factors:
        raise Unknown("notation", "nothing is summed")
    body = factors[0] if len(factors) == 1 else Product(tuple(factors))
    if not below:
        held = value(body, scope)
        if np.ndim(held) == 0 or isinstance(held, (Row, Identity)) or above is not None:
            raise Unknown("index", f"{kind} without an index")
        return float(np.sum(held) if kind == "sum" else np.prod(held))
    held = None
    for inner in indexed(below, above, body, scope):
        one = value(body, inner)
        if not isinstance(one, (Row, Identity)):
            scope.record.largest = max(scope.record.largest, float(np.max(np.abs(one), initial=0)) if kind == "sum" else 0)
        held = one if held is None else added(held, one) if kind == "sum" else times(held, one)
    return float(kind == "prod") if held is None else held


def indexed(below, above, body, scope):
    """A scope for each value of the indices below a sum's sign."""
    script = below[0] if len(below) == 1 else None
    items = [item for item in script.items if not isinstance(item, Gap)] if isinstance(script, Group) else None
    if items and any(isinstance(item, Relation) for item in items):
        if above is not None or items[1] == Relation("=") and len(items) == 3 and above is not None:
            if len(items) != 3 or items[1] != Relation("=") or not isinstance(items[0], Word):
                raise Unknown("index", "bounds")
            first, end = whole(items[2], scope, None), last_of(items[0].text, body, scope)
            last = whole(bare_script(above), scope, end)
            return [scope.binding(**{items[0].text: k}) for k in range(first, last + 1)]
        used = {index.text for name in names_in(body) for index in subscripts(name.below) if isinstance(index, Word)}
        letters = [item.text for item in items if isinstance(item, Word) and item.text not in scope.bound and item.text in used]
        letters = letters or [item.text for item in items[:1] if isinstance(item, Word)]
        return [inner for inner in over(letters, body, scope) if holds(items, inner)]
    indices = subscripts(below)
    if above is not None or not indices or not all(isinstance(index, Word) for index in indices):
        raise Unknown("index", "bounds")
    return over([index.text for index in indices], body, scope)


def over(letters, body, scope):
    scopes = [scope]
    for letter in letters:
        first, last = axis_of(letter, body, scope)
        scopes = [one.binding(**{letter: k}) for one in scopes for k in range(first, last + 1)]
    return scopes


def axis_of(index, body, scope):
    """(first, last) of an index: the entries that every array has at which it stands alone."""
    ends = list(axes(index, body, scope))
    if not ends:
        raise Unknown("index", f"{index} without a range")
    return max(first for first, _ in ends), min(last for _, last in ends)


def axes(index, node, scope):
    for name in names_in(node):
        found = looked_up(name, scope, index)
        if found is not None:
            array, indices = found
            first = first_of(name.letter, scope.first)
            yield from ((first, array.shape[axis] - 1 + first) for axis, one in enumerate(indices) if one == Word(index))
            continue
        given = subscripts(name.below)
        for definition in scope.definitions.get(name.letter, ()):
            own = subscripts(definition.name.below)
            if definition in scope.busy or len(scope.busy) > DEPTH or len(own) != len(given):
                continue
            inner, found_one = scope.changed(busy=(*scope.busy, definition), bound={}), False
            for one, letter in zip(given, own):
                if one == Word(index) and isinstance(letter, Word):
                    for end in axes(letter.text, definition.sides, inner):
                        found_one = True
                        yield end
            if found_one:
                break


def last_of(letter, body, scope):
    try:
        return axis_of(letter, body, scope)[1]
    except Unknown:
        return None


def bare_script(node):
    return node.items[0] if isinstance(node, Group) and len(node.items) == 1 else node


def holds(items, scope):
    """Does a chain of relations hold?"""
    sides, signs, run = [], [], []
    for item in (*items, None):
        if item is None or isinstance(item, Relation):
            if len(run) != 1:
                raise Unknown("words", "a condition")
            sides.append(value(run[0], scope))
            signs += [item.sign] if item else []
            run = []
        else:
            run.append(item)
    if any(np.ndim(side) or isinstance(side, (Row, Identity)) for side in sides) or not signs or not set(signs) <= set(COMPARED):
        raise Unknown("words", "a condition")
    return all(COMPARED[sign](a, b) for sign, a, b in zip(signs, sides, sides[1:]))


# -- dots ----------------------------------------------------------------------------------------------------------------

def expanded(row, scope, node_of, remade):
    """The members of a sum or product, with those that dots between two of them stand for."""
    at = [i for i, one in enumerate(row) if isinstance(node_of(one), Dots)]
    if not at:
        return row
    if len(at) > 1 or not 0 < at[0] < len(row) - 1:
        raise Unknown("dots", "without an end")
    before, after = row[at[0] - 1], row[at[0] + 1]
    pairs = set()
    between(node_of(before), node_of(after), scope, pairs)
    numbers = {(a, b) for a, b, _ in pairs}
    if len(numbers) != 1:
        raise Unknown("dots", "of more than one index")
    (first, last), falls = numbers.pop(), all(down for _, _, down in pairs)
    steps = range(first, last - 1, -1) if falls else range(first, last + 1)
    if not steps and last != first - 1:
        raise Unknown("dots", "without a direction")
    made = [remade(after, between(node_of(before), node_of(after), scope, set(), k)) for k in steps]
    if made and len(steps) > 1:
        made[0] = before
    return [*row[:at[0] - 1], *(made if len(steps) != 1 else [before]), *row[at[0] + 2:]]


def between(a, b, scope, pairs, k=None, last=()):
    """The member k between two members; `pairs` gets the numbers in which their subscripts differ, and whether they fall."""
    if a == b:
        return a
    if last:
        pairs.add((whole(a, scope, *last), whole(b, scope, *last), isinstance(b, Number) and not isinstance(a, Number)))
        return Number(str(k))
    if isinstance(a, tuple) and isinstance(b, tuple) and len(a) == len(b):
        return tuple(between(one, other, scope, pairs, k) for one, other in zip(a, b))
    if type(a) is not type(b) or not dataclasses.is_dataclass(a):
        raise Unknown("dots", "between unlike members")
    if isinstance(a, Scripted):
        own, other = subscripts(a.below), subscripts(b.below)
        if len(own) != len(other):
            raise Unknown("dots", "between unlike members")
        held = looked_up(Name(name_of(a).letter), scope) if name_of(a) else None
        ends = [size - 1 + first_of(name_of(a).letter, scope.first) for size in held[0].shape] if held else []
        ends += [None] * (len(own) - len(ends))
        below = tuple(between(one, two, scope, pairs, k, (end,)) for one, two, end in zip(own, other, ends))
        rest = {field.name: between(getattr(a, field.name), getattr(b, field.name), scope, pairs, k)
                for field in dataclasses.fields(a) if field.name != "below"}
        return Scripted(below=below, **rest)
    return type(a)(**{field.name: between(getattr(a, field.name), getattr(b, field.name), scope, pairs, k)
                      for field in dataclasses.fields(a)})


# -- powers, fractions, brackets -----------------------------------------------------------------------------------------

def scripted(node, scope):
    if node.star:
        raise Unknown("notation", "a star")
    name = name_of(node)
    if name is not None:
        base = named(name, scope)
    elif node.below:
        held, indices = value(node.base, scope), subscripts(node.below)
        if isinstance(held, (Row, Identity)) or len(indices) > np.ndim(held):
            raise Unknown("shape", "subscripts")
        at = [whole(index, scope, size) - 1 for index, size in zip(indices, held.shape)]
        if not all(0 <= index < size for index, size in zip(at, held.shape)):
            raise Unknown("index", "beyond a bracket")
        base = entry(held, at)
    elif node.primes or node.accents:
        raise Unknown("notation", "a stroke")
    else:
        base = value(node.base, scope)
    return base if node.above is None else power(base, node.above, is_matrix(node.base), scope)


def power(base, above, capital, scope):
    sign, script = above.terms[0] if isinstance(above, Sum) and len(above.terms) == 1 else ("", above)
    if script == Word("T"):
        if isinstance(base, Row) or np.ndim(base) == 0 and not isinstance(base, Identity):
            raise Unknown("shape", "the transpose of a number or a row")
        base = power(base, Sum((("-", Number("1")),)), capital, scope) if sign == "-" else base
        return base if isinstance(base, Identity) else Row(base) if np.ndim(base) == 1 else base.T
    by = value(bare_script(script), scope)
    by = -by if sign == "-" else by
    if np.ndim(by) or isinstance(by, (Row, Identity)) or isinstance(base, (Row, Identity)):
        raise Unknown("shape", "a power")
    if np.ndim(base) == 2 and (capital or by < 0):
        if base.shape[0] != base.shape[1] or by != int(by) or not capital:
            raise Unknown("shape", "a power of a matrix")
        if by < 0 and np.linalg.matrix_rank(base) < len(base):
            raise Unknown("not finite", "the inverse of a singular matrix")
        made = np.linalg.matrix_power(base, int(by))
        scope.record.largest = max(scope.record.largest, float(np.max(np.abs(made), initial=0)))
        return made
    return np.power(base, by)


def fraction(node, scope):
    if node.form == "derivative":
        name = name_of(node)
        if name is None:
            raise Unknown("derivative")
        try:
            return named(name, scope)
        except Unknown as unknown:
            raise Unknown("derivative", name.letter) from unknown
    top, bottom = value(node.top, scope), value(node.bottom, scope)
    if node.form == "floor":
        return np.floor_divide(top, bottom)
    if isinstance(bottom, (Row, Identity)) or np.ndim(bottom) == 2:
        raise Unknown("shape", "a matrix below a stroke")
    return times(top, 1 / np.asarray(bottom, float)[()])


def group(node, scope):
    items = [item for item in node.items if not isinstance(item, Gap)]
    if node.opening == "[" and any(isinstance(item, Relation) for item in items):
        return float(holds(items, scope))
    if node.opening == "<" and len(items) == 3 and items[1] == Punctuation(","):
        a, b = value(items[0], scope), value(items[2], scope)
        if np.shape(a) != np.shape(b) or np.ndim(a) == 0:
            raise Unknown("shape", "an inner product")
        return float(np.sum(a * b))
    if len(items) != 1 or node.opening not in ("(", "[", "|", "||", ""):
        raise Unknown("shape", "a bracket")
    held = value(items[0], scope)
    if node.opening in ("|", "||"):
        if isinstance(held, (Row, Identity)):
            raise Unknown("shape", "a norm")
        return abs(held) if np.ndim(held) == 0 else float(np.sqrt(np.sum(held * held)))
    return held


def blocks(node, scope):
    """A matrix of numbers, or of blocks among which 0 and I take the size of their neighbours."""
    if any(len(entry) != 1 for row in node.rows for entry in row):
        raise Unknown("shape", "an entry of a matrix")
    held = [[value(entry[0], scope) for entry in row] for row in node.rows]
    if all(np.ndim(one) == 0 and not isinstance(one, (Row, Identity)) for row in held for one in row):
        return np.array(held, float)

    def sizes(lines, axis):
        known = [{one.shape[axis] for one in line if np.ndim(one) == 2} for line in lines]
        return [known[i] or {one.shape[1 - axis] for one in other if np.ndim(one) == 2 and isinstance(lines[i][i] if i < len(lines[i])
                else None, Identity)} for i, other in enumerate(zip(*lines))]

    rows, columns = sizes(held, 0), sizes(list(zip(*held)), 1)
    if any(len(size) != 1 for size in (*rows, *columns)):
        raise Unknown("shape", "blocks of unknown size")
    return np.block([[np.eye(*shape) * one.factor if isinstance(one, Identity) else np.broadcast_to(one, shape)
                      for one, shape in zip(row, [(min(r), min(c)) for c in columns])] for row, r in zip(held, rows)])


# -- functions -----------------------------------------------------------------------------------------------------------

def call(node, scope):
    if isinstance(node.function, (Group, Call)) or isinstance(node.function, Scripted) and name_of(node.function) is None:
        return times(value(node.function, scope), value(node.arguments, scope), is_matrix(node))
    return applied(node.function, [one for one in commas(node.arguments.items)], scope)


def apply(node, scope):
    name = name_of(node)
    if name is not None and name.letter.startswith("log|") or name == Name("log_prob"):
        return named(name, scope)
    return applied(node.function, [node.argument], scope)


def applied(function, arguments, scope):
    """The value of a function: one of the scope's, else as the page defines it, else as everybody does."""
    name, above = name_of(function), getattr(function, "above", None)
    if name is None:
        raise Unknown("notation", "a function")
    letter = name.letter
    if letter in ("min", "max") and name.below and len(arguments) == 1:
        held = [value(arguments[0], inner) for inner in indexed(name.below, None, arguments[0], scope)]
        return (min if letter == "min" else max)(held)
    given = [value(argument, scope) for argument in arguments]
    if any(isinstance(one, (Row, Identity)) for one in given):
        raise Unknown("shape", f"{letter} of a row")
    inverse = above == Sum((("-", Number("1")),))
    held = INVERSES.get(letter) if inverse else None
    if held is not None:
        return getattr(scipy.special, held)(*given)
    if inverse:
        raise Unknown("letter", f"the inverse of {letter}")
    made = evaluated(name, given, any(is_matrix(argument) for argument in arguments), scope)
    return made if above is None else power(made, above, False, scope)


def called(function, given):
    try:
        made = function(*given)
    except Exception as error:                  # whatever a caller's function raises for numbers that are not meant for it
        raise Unknown("letter", "a function that fails") from error
    if not is_numeric(made):
        raise Unknown("shape", "a function of several values")
    return np.asarray(made, float)[()]


def evaluated(name, given, capital, scope):
    try:
        return defined(name, given, scope)
    except Unknown as unknown:
        if name.below or unknown.reason != "letter" or name.letter in LETTERS and name.letter in scope.definitions:
            raise
    matrix = capital and any(np.ndim(one) == 2 for one in given)
    if name.letter in OF_ARRAYS:
        return called(OF_ARRAYS[name.letter], [int(one) if np.ndim(one) == 0 else one for one in given])
    if name.letter in OF_NUMBERS and not (matrix and name.letter != "exp"):
        return called(scipy.linalg.expm if matrix else OF_NUMBERS[name.letter], given)
    held = scope.found(name.letter)
    if not callable(held):
        raise Unknown("shape" if matrix else "letter", f"the function {name.letter}")
    return called(held, given)


def reject(reason):
    raise Unknown(reason)


RULES = {Number: lambda node, scope: float(node.text), Word: word, Scripted: scripted, Sum: total, Product: product, Group: group,
         Matrix: blocks, Fraction: fraction, Call: call, Apply: apply, Known: lambda node, scope: node.value,
         Differential: lambda node, scope: reject("derivative"), Big: lambda node, scope: reject("notation")}
