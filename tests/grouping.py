"""The grouping of an equation made explicit, in two ways: printed from the parser's tree, and read from the text itself.

Both give the text without its spaces, "·" between factors, and angle brackets around whatever an operator takes:
`a/sum_i u_i v` is `⟨a/sum_i⟨u_i·v⟩⟩`, `log x y` is `log⟨x·y⟩`.  The reader follows the rules of the notation's documentation
and shares with the parser only how text is cut into words and which of them are names.
"""

from __future__ import annotations

import dataclasses

from refflow.book.notation import (Apply, Big, Call, Code, Differential, Dots, Fraction, Gap, Group, Infix, Matrix, Number,
                                   Parser, Product, Punctuation, Reference, Relation, Scripted, Sum, Text, Word, tokens)
from refflow.book.vocabulary import ACCENTS, BIG, FUNCTIONS, RELATIONS, SUMS, SYMBOLS

STROKES = {"stacked": "÷", "line": "/", "derivative": "/", "floor": "//"}


# -- from the tree ------------------------------------------------------------------------------------------------------

def printed(items):
    """The items of a row."""
    made, before = "", None
    for item in items:
        separates = isinstance(item, (Relation, Punctuation, Gap))
        made += "·" if made and not separates and not isinstance(before, (Relation, Punctuation, Gap, type(None))) else ""
        made += "  " if isinstance(item, Gap) else item.sign if separates else PRINTERS[type(item)](item)
        before = item
    return made


def printed_one(e):
    return PRINTERS[type(e)](e)


def printed_scripts(e):
    accents = "".join(f"_{accent}" for accent in e.accents)
    below = "".join(f"_{in_script(script)}" for script in e.below)
    above = f"^{in_script(e.above)}" if e.above is not None else ""
    return f"{printed_one(e.base)}{accents}{below}{above}{chr(39) * e.primes}{'*' * e.star}"


def in_script(e):
    return f"⟨{printed(e.items)}⟩" if isinstance(e, Group) and not e.opening else printed_one(e)


def printed_product(e):
    """A big operator takes all factors that follow it; one that nothing follows has lost what it is to sum."""
    for i, factor in enumerate(e.factors):
        if isinstance(factor, Big):
            head = "".join(f"{printed_one(f)}·" for f in e.factors[:i])
            return f"{head}{printed_one(factor.sign)}⟨{printed_product(Product(e.factors[i + 1:]))}⟩"
    return "·".join(map(printed_one, e.factors))


def printed_matrix(e):
    return "[" + ";".join("  ".join(printed(cell) for cell in row) for row in e.rows) + "]"


PRINTERS = {
    Number: lambda e: e.text,
    Word: lambda e: e.text,
    Dots: lambda e: e.sign,
    Text: lambda e: "·".join(e.text.replace("“", '"').replace("”", '"').replace("×", "x").split()),
    Code: lambda e: e.text,
    Reference: lambda e: f"({e.number})",
    Scripted: printed_scripts,
    Group: lambda e: f"{e.opening}{printed(e.items)}{e.closing}",
    Matrix: printed_matrix,
    Call: lambda e: printed_one(e.function) + printed_one(e.arguments),
    Apply: lambda e: f"{printed_one(e.function)}⟨{printed_one(e.argument)}⟩",
    Big: lambda e: f"{printed_one(e.sign)}⟨⟩",
    Differential: lambda e: f"d⟨{printed_one(e.of)}⟩" if e.of is not None else "d",
    Product: printed_product,
    Infix: lambda e: e.sign,
    Fraction: lambda e: f"⟨{printed_one(e.top)}{STROKES[e.form]}{printed_one(e.bottom)}⟩",
    Sum: lambda e: "".join(sign + printed_one(term) for sign, term in e.terms),
    Relation: lambda e: e.sign,
}


# -- from the text ------------------------------------------------------------------------------------------------------

@dataclasses.dataclass(frozen=True)
class Unit:
    """A word or sign, or a bracket with all that is in it; a bracket's `text` is its canonical text."""

    kind: str                   # word, number, text, sign, script, bracket, gap, ...
    text: str
    spaces: int = 0


def read(text, names=()):
    """The canonical text of a row as it is written."""
    row = tokens(text) if isinstance(text, str) else list(text)
    parser = Parser(row, names)
    units, after_text = [], False
    for at, token in enumerate(parser.tokens[:-1]):
        parser.at, parser.inside = at, []
        after_text = token.spaces < 2 and bool(units) and (units[-1].kind == "text" or units[-1].kind == "code")
        kind = "text" if parser.is_text(after_text) else "differ" if is_d_before(parser, at, units) else token.kind
        if kind in ("word", "differential"):
            kind = "sign" if token.text == "in" else "big" if token.text in BIG else \
                "function" if token.text in FUNCTIONS and token.text not in names else kind
        units.append(Unit("code" if kind == "tick" else kind, token.text.strip("`"), token.spaces))
    return sequence(nested(units))


def is_d_before(parser, at, units):
    """Is this word the d of a differential?"""
    token = parser.tokens[at]
    return token.kind == "word" and token.text == "d" and parser.differs()


def nested(units):
    """The units with every pair of round, square and curly brackets as one unit."""
    levels = [[]]
    for unit in units:
        if unit.kind == "open":
            levels.append([unit])
        elif unit.kind == "close":
            opening, *inner = levels.pop()
            levels[-1].append(Unit("bracket", opening.text + inside(barred(inner), opening.text) + unit.text, opening.spaces))
        else:
            levels[-1].append(unit)
    return barred(levels[0])


def barred(units):
    """The units with every pair of bars, and of angle brackets, as one unit."""
    for sign in ("||", "|"):
        at = [i for i, unit in enumerate(units) if unit.kind == "sign" and unit.text == sign]
        for first, last in reversed(list(zip(at[::2], at[1::2]))):
            inner = sequence(barred(units[first + 1:last]))
            units = [*units[:first], Unit("bracket", sign + inner + sign, units[first].spaces), *units[last + 1:]]
    for i in reversed(range(len(units) - 1)):
        after_space = i == 0 or units[i].spaces > 0 or units[i - 1].kind == "sign"
        opens = units[i].text == "<" and units[i + 1].spaces == 0 and after_space
        last = next((j for j in range(i, len(units)) if units[j].text == ">"), None)
        if units[i].kind == "sign" and opens and last:
            inner = sequence(units[i + 1:last])
            units = [*units[:i], Unit("bracket", f"<{inner}>", units[i].spaces), *units[last + 1:]]
    return units


def inside(units, opening):
    """What stands in a bracket: a row, or the rows of a matrix if it is square and has gaps."""
    if opening != "[" or not any(unit.spaces >= 2 for unit in units[1:]) and not any(unit.kind == "rows" for unit in units):
        return sequence(units)
    rows = [[]]
    for unit in units:
        if unit.text == ";":
            rows.append([])
        else:
            rows[-1].append(dataclasses.replace(unit, spaces=unit.spaces if rows[-1] else 0))
    return ";".join("  ".join(sequence(cell) for cell in parted(row, lambda unit: unit.spaces >= 2)) for row in rows)


def parted(units, begins):
    """The units in runs; a run begins where `begins` says so."""
    runs = [[]]
    for unit in units:
        if begins(unit) and runs[-1]:
            runs.append([])
        runs[-1].append(unit)
    return runs


def separates(unit):
    return is_relation(unit) or unit.kind == "sign" and unit.text in ",;:.!"


def is_relation(unit):
    return unit.kind == "sign" and unit.text in (*RELATIONS, "|", "||")


def sequence(units):
    """A row: relation signs, punctuation, gaps and words separate its sums."""
    runs = [[]]
    for before, unit in zip((None, *units), suffixed(units)):
        gap = before is not None and unit.spaces >= 2 and not is_relation(unit) and not is_relation(runs[-1][-1])
        alone = separates(unit) or unit.kind in ("text", "code")
        divides = runs[-1] and runs[-1][-1].kind == "sign" and runs[-1][-1].text == "/"
        runs += [[Unit("gap", "  ")]] if gap else []
        after_one = runs[-1] and (runs[-1][-1].kind in ("gap", "text", "code") or separates(runs[-1][-1]))
        if not divides and (alone or gap or after_one):
            runs.append([])
        runs[-1].append(unit)
    made, operand = "", False
    for run in filter(None, runs):
        joint = run[0].kind == "gap" or separates(run[0])
        made += "·" * (operand and not joint) + (run[0].text if joint else summed(run))
        operand = not joint
    return made


def suffixed(units):
    """The units with scripts, accents, primes, stars and arguments joined to what they belong to."""
    made, i = [], 0
    while i < len(units):
        unit = units[i]
        i += 1
        if unit.kind not in ("word", "function", "big", "differential", "number", "bracket") and unit.text != "*":
            made.append(unit)
            continue
        unit, i = with_scripts(units, i, unit)
        while i < len(units) and units[i].spaces == 0 and units[i].kind == "bracket" and units[i].text[0] in "([" and \
                unit.kind not in ("number", "big"):
            unit, i = with_scripts(units, i + 1, dataclasses.replace(unit, kind="bracket", text=unit.text + units[i].text))
        made.append(unit)
    return made


def with_scripts(units, i, unit):
    """(a unit with its scripts, where they end)."""
    base, accents, below, above, after = unit.text, "", "", "", ""
    while i < len(units) and units[i].spaces == 0:
        sign, then = units[i], units[i + 1] if i + 1 < len(units) else Unit("end", "", 1)
        if sign.kind == "script" and sign.text == "_":
            below, i = f"{below}_{script(then)}", i + 2
        elif sign.kind == "script" and sign.text[1:] in ACCENTS:
            accents, i = accents + sign.text, i + 1
        elif sign.kind == "script":
            symbol = unit.kind in ("word", "function") and not below and base + sign.text in SYMBOLS
            base, below, i = (base + sign.text, below, i + 1) if symbol else (base, below + sign.text, i + 1)
            unit = dataclasses.replace(unit, kind="word") if symbol else unit
        elif sign.text == "^" and then.spaces == 0 and \
                (then.kind in ("word", "number", "size") or then.text[:1] in tuple("({-+")):
            signed = then.text in "-+"
            exponent = units[i + 2] if signed else then
            above, i = f"^{then.text if signed else ''}{script(exponent)}", i + 2 + signed
            while exponent.kind == "word" and i < len(units) and units[i].spaces == 0 and units[i].text == "'":
                above, i = above + "'", i + 1
            if exponent.kind == "word" and i < len(units) and units[i].spaces == 0 and units[i].kind == "script":
                above, i = above + units[i].text, i + 1
        elif sign.text in ("^", "~") and sign.kind == "sign" and (sign.text == "^" or then.spaces or then.text[:1] in ("", "(")):
            accents, i = accents + {"^": "_hat", "~": "_tilde"}[sign.text], i + 1
        elif sign.text == "'" or sign.text == "*" and unit.kind in ("word", "function", "bracket"):
            after, i = after + sign.text, i + 1
        else:
            break
    return dataclasses.replace(unit, text=base + accents + below + above + after), i


def script(unit):
    return f"⟨{unit.text[1:-1]}⟩" if unit.kind == "bracket" and unit.text[0] in "({" else unit.text


def summed(units):
    """A sum: + and - separate its terms."""
    made = ""
    for run in parted(units, lambda unit: unit.kind == "sign" and unit.text in SUMS):
        sign = run[0].text if run[0].kind == "sign" and run[0].text in SUMS else ""
        made += sign + "·".join(factors(run[bool(sign):]))
    return made


def stroke(units, i, spaced):
    return i < len(units) and units[i].kind == "sign" and units[i].text in ("/", "//") and (units[i].spaces > 0) == spaced


def factors(units):
    """The factors of a term."""
    made, start, i = [], 0, 0                   # where the numerator of the next stacked fraction begins
    while i < len(units):
        if stroke(units, i, True):
            bottom, i = operand(units, i + 1)
            again = start == len(made)
            made[start - again:] = [f"⟨{'·'.join(made[start - again:])}{'/' if again else '÷'}{bottom}⟩"]
            start = len(made)
        elif stroke(units, i, False):
            sign = units[i].text
            bottom, i = operand(units, i + 1)
            made[-1] = f"⟨{made[-1]}{sign}{bottom}⟩"
        elif units[i].kind == "big" and not units[i].text.startswith("prod"):
            return [*made, f"{units[i].text}⟨{'·'.join(factors(units[i + 1:]))}⟩"]
        elif units[i].kind == "big":
            end = next((j for j in range(i, len(units)) if stroke(units, j, True)), len(units))
            made, i = [*made, f"{units[i].text}⟨{'·'.join(factors(units[i + 1:end]))}⟩"], end
        else:
            factor, i = operand(units, i)
            made.append(factor)
    return made


def operand(units, i):
    """(one factor, where it ends): a function with its argument, a differential, a sum with the rest of the term, or a unit."""
    unit = units[i]
    if unit.kind == "big":
        return "·".join(factors(units[i:])), len(units)
    if unit.kind == "differ" and i + 1 < len(units) and not stroke(units, i + 1, False):
        of, end = operand(units, i + 1)
        return f"d⟨{of}⟩", end
    end = i + 1
    while unit.kind == "function" and end < len(units) and not ends_argument(units, end):
        end += 1
    if end == i + 1:
        return unit.text, end
    return f"{unit.text}⟨{'·'.join(factors(units[i + 1:end]))}⟩", end


def ends_argument(units, i):
    """A spaced stroke or a sign ends the argument of a function, and so does the stroke of a derivative."""
    of_derivative = stroke(units, i, False) and units[i + 1].kind == "differ" and units[i - 1].kind != "differential"
    begun = units[i - 1].kind not in ("function", "big") and not any(unit.kind == "big" for unit in units[:i])
    another = units[i].kind == "function" and begun
    sign = units[i].kind == "sign" and not stroke(units, i, False)
    return another or stroke(units, i, True) or of_derivative or sign
