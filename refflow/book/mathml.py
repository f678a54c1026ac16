"""The tree of the notation as MathML, built from the elements that browsers support (MathML Core), between words in HTML."""

from __future__ import annotations

import dataclasses
import itertools
from html import escape
from xml.etree import ElementTree

from .notation import (Apply, Big, Call, Code, Differential, Dots, Fraction, Gap, Group, Infix, Matrix, Number, Product,
                       Punctuation, Reference, Relation, Scripted, Sum, Text, Word)
from .vocabulary import ACCENTS, BIG, FUNCTIONS, GREEK, LETTERS, PRODUCTS, RELATIONS, SUMS, SYMBOLS

NAMESPACE = "http://www.w3.org/1998/Math/MathML"
BREAK = "\0"                            # where a formula may be broken
SHORT = 12                              # em
WIDTHS = {"∑": 1.6, "∏": 1.5, "∫": 0.9, "+": 1.2, "−": 1.2, "±": 1.2, ",": 0.5, "\u2061": 0, "\u2062": 0, "…": 1.2, "=": 0.8,
          "→": 1, "←": 1}
THIN, WIDE = '<mspace width="0.17em"/>', '<mspace width="1.6em"/>'
BRACKETS = {"<": "⟨", ">": "⟩", "||": "‖"}
APPLY = "<mo>&#x2061;</mo>"


def inline(items):
    """A formula within a sentence."""
    return flowed(items, style="inline")


def flowed(items, link=None, style="display"):
    """Items that follow one another as HTML: words, and formulas; `link(n)` is the mark of a reference."""
    made = ""
    for are_words, run in itertools.groupby(items, lambda item: isinstance(item, (Text, Code, Reference))):
        run = tuple(run)
        while not are_words and made and run and isinstance(run[0], Punctuation):
            made, run = made + run[0].sign, run[1:]
        made += " " if made and run else ""
        made += " ".join(map(word_of(link), run)) if are_words else formula(run, style)
    return made


def word_of(link):
    """A function that sets words, names of the program and references within a line of HTML."""
    def made(item):
        if isinstance(item, Reference):
            return link(item.number) if link else f"({item.number})"
        return f"<code>{escape(item.text)}</code>" if isinstance(item, Code) else escape(item.text)

    return made


def formula(items, style="display"):
    """Mathematics that may be broken where `parts` says so, unless it is short."""
    made = "".join(parts(items, style, BREAK))
    if size(made.replace(BREAK, "")) <= SHORT:
        made = made.replace(BREAK, "")
    shown = ' displaystyle="true"' if style == "display" else ""
    return "<wbr/>".join(f'<math xmlns="{NAMESPACE}"{shown}>{mrow(piece)}</math>' for piece in made.split(BREAK) if piece)


def row(items):
    """Items side by side."""
    return mrow("".join(parts(items)))


def relation(item):
    return f'<math xmlns="{NAMESPACE}">{relation_sign(item)}</math>'


def reals(item):
    """R next to an arrow or a sign of membership: the real numbers."""
    return dataclasses.replace(item, base=Word("ℝ")) if isinstance(item, Scripted) else Word("ℝ")


def is_space(item):
    """Is it R^n by itself, and not a power or transpose of a matrix R?"""
    return is_reals(item) and isinstance(item, Scripted) and isinstance(item.above, (Group, Word)) and item.above != Word("T")


def is_reals(item):
    base = item.base if isinstance(item, Scripted) else item
    return base == Word("R")


def parts(items, style="display", mark=""):
    """The parts of a row, `mark` in front of its relation, plus and minus signs; in a sentence, quotients stay on the line."""
    sets = [i for i, item in enumerate(items) if isinstance(item, Relation) and item.sign in ("->", "in")]
    items = tuple(reals(item) if is_reals(item) and (i - 1 in sets or i + 1 in sets or is_space(item)) else item
                  for i, item in enumerate(items))
    made = []
    for before, item, after in zip((None, *items), items, (*items[1:], None)):
        if isinstance(item, (Text, Code, Reference)):
            made.append(words(item, before, after))
        elif isinstance(item, Gap):
            made.append(mark + WIDE)
        elif isinstance(item, Punctuation):
            made.append(f'<mo separator="true">{escape(item.sign)}</mo>{mark}' if item.sign != "." else "<mtext>.</mtext>")
        elif isinstance(item, Relation):
            made.append((mark if before else "") + relation_sign(item))
        elif isinstance(item, Sum):
            made.append(sum_(item, style, mark))
        else:
            made.append(expression(item, style))
    return made


def relation_sign(item):
    sign = "|" if item.sign == "|" else RELATIONS[item.sign]
    return f'<mo lspace="0.28em" rspace="0.28em">{escape(sign)}</mo>'


def words(item, before, after):
    """Text within mathematics, with the spaces that separate it."""
    left = "&#160;" if before is not None and not isinstance(before, (Gap, Punctuation)) else ""
    right = "&#160;" if after is not None and not isinstance(after, (Gap, Punctuation, Text, Code, Reference)) else ""
    kind, text = (' class="code"', item.text) if isinstance(item, Code) else \
        ("", f"({item.number})" if isinstance(item, Reference) else item.text)
    return f"<mtext{kind}>{left}{escape(text)}{right}</mtext>"


def mrow(inside):
    return f"<mrow>{inside}</mrow>"


# -- expressions --------------------------------------------------------------------------------------------------------

def expression(e, style="text"):
    """MathML of one expression; `style` is "display", "text", "inline" or "script"."""
    return MAKERS[type(e)](e, style)


def number(e, style):
    mantissa, _, exponent = e.text.partition("e")
    if exponent:
        return mrow(f"<mn>{mantissa}</mn><mo>·</mo><msup><mn>10</mn>{signed(exponent)}</msup>")
    return f"<mn>{e.text}</mn>"


def signed(text):
    return mrow(f"<mo>−</mo><mn>{text[1:]}</mn>") if text[0] == "-" else f"<mn>{text.lstrip('+')}</mn>"


def word(e, style):
    text = e.text
    letters = text.rstrip("0123456789")
    if text in FUNCTIONS or text in BIG or text in SYMBOLS:
        return f"<mi>{BIG.get(text) or SYMBOLS.get(text, text)}</mi>"
    if letters != text and (len(letters) == 1 or letters in GREEK):
        return f"<msub>{word(Word(letters), style)}<mn>{text[len(letters):]}</mn></msub>"
    if text in GREEK:
        return f"<mi>{GREEK[text]}</mi>"
    if len(text) == 1:
        return f"<mi>{LETTERS.get(text, text)}</mi>"
    return f'<mi class="name">{escape(text)}</mi>'


def run(text):
    """A subscript of letters and numbers: ij is i, j; in and out are words."""
    if text in GREEK or text in SYMBOLS or text in ("in", "out", "max", "min") or text.isdigit():
        return f"<mn>{text}</mn>" if text.isdigit() else word(Word(text), "script")
    if len(text) >= 3 and text.islower() and any(c in "aeou" for c in text) and "," not in text:
        return f'<mi class="name">{text}</mi>'
    made = "".join(f"<mn>{c}</mn>" if c.isdigit() else '<mo separator="true" rspace="0">,</mo>' if c == "," else f"<mi>{c}</mi>"
                   for c in text)
    return made if len(text) == 1 else mrow(made)


def script(e):
    if isinstance(e, Word) and e.text not in GREEK and not (len(e.text) == 1):
        return run(e.text)
    if isinstance(e, Group) and not e.opening:
        return mrow("".join(parts_of_script(e.items)))
    if isinstance(e, Text):
        return f"<mtext>{escape(e.text)}</mtext>"
    if isinstance(e, Word):
        return f"<mi>{GREEK.get(e.text, e.text)}</mi>" if not e.text.isdigit() else f"<mn>{e.text}</mn>"
    return expression(e, "script")


def parts_of_script(items):
    """The items of a script, set closely."""
    for i, item in enumerate(items):
        if isinstance(item, Relation):
            yield f'<mo lspace="0.1em" rspace="0.1em">{escape(RELATIONS.get(item.sign, item.sign))}</mo>'
        elif isinstance(item, Punctuation):
            yield f'<mo separator="true" lspace="0" rspace="0.15em">{item.sign}</mo>'
        elif isinstance(item, Word):
            yield script(item) if len(item.text) == 1 else word(item, "script")
        elif isinstance(item, (Text, Code)):
            yield f"<mtext>&#160;{escape(item.text)}&#160;</mtext>"
        elif not isinstance(item, Gap):
            yield expression(item, "script")


def scripted(e, style):
    base = e.base
    if isinstance(base, Word) and base.text in BIG:
        return big(Big(e), style)
    if isinstance(base, Word) and base.text == "log_det" and "bar" in e.accents:
        base = Word("l")                        # the cotangent of the log-det, as l_bar is
    if isinstance(base, Infix):
        made = infix_sign(base)
    else:
        made = expression(base, style)
    for accent in e.accents:
        long = not (isinstance(base, Word) and is_letter(base))
        if long and accent == "bar":
            made = f'<mrow class="barred">{made}</mrow>'
        else:
            made = f'<mover accent="true">{made}<mo stretchy="false">{ACCENTS[accent]}</mo></mover>'
    below = [script(s) for s in e.below]
    above = ["<mo>′</mo>" * e.primes] if e.primes else []
    above += ["<mo>∗</mo>"] if e.star else []
    above += [script(e.above)] if e.above is not None else []
    if len(below) > 1:
        below = [mrow('<mo separator="true" rspace="0">,</mo>'.join(below))]
    if len(above) > 1 or e.primes > 1:
        above = [mrow("".join(above))]
    if below and above:
        return f"<msubsup>{made}{below[0]}{above[0]}</msubsup>"
    if below:
        return f"<msub>{made}{below[0]}</msub>"
    return f"<msup>{made}{above[0]}</msup>" if above else made


def big(e, style):
    scripts = e.sign if isinstance(e.sign, Scripted) else Scripted(e.sign)
    sign = BIG[scripts.base.text]
    made = f'<mo largeop="true" movablelimits="{"false" if style == "display" else "true"}" rspace="0.17em">{sign}</mo>'
    if style != "display" or sign == "∫":
        made = f'<mo largeop="{"true" if style == "display" else "false"}" movablelimits="true" rspace="0.1em">{sign}</mo>'
    below = "".join(script(s) for s in scripts.below)
    below = mrow(below) if len(scripts.below) > 1 else below
    above = script(scripts.above) if scripts.above is not None else ""
    kind = ("munder", "mover", "munderover") if style == "display" and sign != "∫" else ("msub", "msup", "msubsup")
    if below and above:
        return f"<{kind[2]}>{made}{below}{above}</{kind[2]}>"
    if below:
        return f"<{kind[0]}>{made}{below}</{kind[0]}>"
    return f"<{kind[1]}>{made}{above}</{kind[1]}>" if above else made


def dots(e, style):
    if e.sign == "..":
        return '<mo separator="true" lspace="0" rspace="0.2em">,</mo><mo>…</mo><mo separator="true" rspace="0.2em">,</mo>'
    return "<mo>…</mo>"


def text_node(e, style):
    return f"<mtext>{escape(e.text)}</mtext>"


def code(e, style):
    return f'<mtext class="code">{escape(e.text)}</mtext>'


def group(e, style):
    inner = lower(style) if e.opening in ("(", "[", "{", "<", "|", "||") else style
    tall = any(is_tall(item, inner) for item in e.items)
    made = "".join(expression(item, inner) if not isinstance(item, (Text, Code, Reference, Gap, Punctuation, Relation))
                   else "".join(parts_between(e.items, i)) for i, item in enumerate(e.items))
    if not e.opening:
        return mrow(made)
    return mrow(fence(e.opening, "prefix", tall) + made + fence(e.closing, "postfix", tall))


def parts_between(items, i):
    """A sign or words between the expressions of a bracket."""
    before, after = (items[i - 1] if i else None), (items[i + 1] if i + 1 < len(items) else None)
    item = items[i]
    if isinstance(item, Punctuation):
        return ['<mo separator="true" rspace="0.25em">' + item.sign + "</mo>"] if item.sign != "." else ["<mo>·</mo>"]
    if isinstance(item, Relation):
        return ['<mo lspace="0.17em" rspace="0.17em">|</mo>' if item.sign == "|" else relation_sign(item)]
    return [WIDE] if isinstance(item, Gap) else [words(item, before, after)]


def fence(sign, form, tall):
    sign = escape(BRACKETS.get(sign, sign))
    space = ' lspace="0" rspace="0"'
    return f'<mo fence="true" form="{form}" stretchy="{"true" if tall else "false"}"{space}>{sign}</mo>'


def lower(style):
    return "text" if style == "display" else style


def is_tall(e, style):
    """Does it rise above a line of text?"""
    if isinstance(e, Fraction):
        on_line = is_line(e, style) or style in ("inline", "script")
        return not on_line or is_tall(e.top, style) or is_tall(e.bottom, style)
    if isinstance(e, Matrix):
        return True
    children = {Product: lambda: e.factors, Sum: lambda: [term for _, term in e.terms], Group: lambda: e.items,
                Call: lambda: [e.function, e.arguments], Apply: lambda: [e.function, e.argument],
                Scripted: lambda: [e.base], Differential: lambda: [e.of]}.get(type(e), tuple)()
    return any(is_tall(child, style) for child in children)


def matrix(e, style):
    made = "".join("<mtr>" + "".join(f"<mtd>{row(cell)}</mtd>" for cell in cells) + "</mtr>" for cells in e.rows)
    return mrow(fence("(", "prefix", True) + f'<mtable class="matrix">{made}</mtable>' + fence(")", "postfix", True))


def call(e, style):
    if e.function == Word("sqrt"):
        return f"<msqrt>{expression(bare(e.arguments), lower(style))}</msqrt>"
    return mrow(expression(e.function, style) + APPLY + group(e.arguments, style))


def apply(e, style):
    if e.function == Word("sqrt"):
        return f"<msqrt>{expression(e.argument, lower(style))}</msqrt>"
    fenced = isinstance(e.argument, Group) and e.argument.opening in ("|", "||", "(")
    return mrow(expression(e.function, style) + APPLY + ("" if fenced else THIN) + expression(e.argument, style))


def differential(e, style):
    d = '<mi mathvariant="normal">d</mi>'
    if e.of is None:
        return d
    loose = isinstance(e.of, Apply) or is_named(e.of)
    return mrow(d + (THIN if loose else "") + expression(e.of, style))


def product(e, style):
    made = ""
    for before, factor, after in zip((None, *e.factors), e.factors, (*e.factors[1:], None)):
        made += between(before, factor) if before is not None else ""
        alone = after is None or isinstance(after, Infix) or style == "script"
        made += expression(factor, style) if alone or not is_line(factor, style) else small(factor)
    return mrow(made)


def is_line(e, style):
    """Is it a quotient written on the line?  Before another factor it would be misread."""
    if not isinstance(e, Fraction) or e.form not in ("line", "stacked"):
        return False
    return e.form == "line" or style == "inline" or style == "text" and isinstance(e.bottom, Number)


def small(e):
    return (f'<mstyle displaystyle="false"><mfrac>{mrow(expression(bare(e.top), "script"))}'
            f'{mrow(expression(bare(e.bottom), "script"))}</mfrac></mstyle>')


def between(left, right):
    """The space between two factors."""
    if isinstance(left, Dots) or isinstance(right, Dots):
        return THIN
    if isinstance(left, Big) or isinstance(base_of(left), Infix) or isinstance(base_of(right), Infix):
        return ""
    loose = is_named(left) or is_named(right) or isinstance(left, (Apply, Call, Fraction)) or \
        isinstance(right, (Apply, Call, Fraction, Big))
    return "<mo>&#x2062;</mo>" + (THIN if loose else "")


def is_named(e):
    """Is it, or is its base, a word of several letters?"""
    e = base_of(e)
    if isinstance(e, Call):
        return is_named(e.function)
    return isinstance(e, (Code, Text, Differential)) or isinstance(e, Word) and not is_letter(e)


def is_letter(word):
    """Is the word set as one letter, perhaps with a number?"""
    stem = word.text.rstrip("0123456789")
    return len(GREEK.get(stem, stem)) == 1


def base_of(e):
    return base_of(e.base) if isinstance(e, Scripted) else e


def infix_sign(e):
    return f"<mo>{PRODUCTS[e.sign]}</mo>"


def infix(e, style):
    if e.sign == "mod":
        return '<mo lspace="0.3em" rspace="0.3em">mod</mo>'
    return infix_sign(e)


def bare(e):
    """An expression without the brackets that a fraction bar makes unnecessary."""
    if isinstance(e, Group) and e.opening == "(" and e.closing == ")":
        return Group("", e.items, "")
    return e


def slash(e, style):
    stroke = '<mo lspace="0.08em" rspace="0.08em" stretchy="false">/</mo>'
    return expression(e.top, style) + stroke + expression(e.bottom, style)


def fraction(e, style):
    if e.form == "floor":
        return mrow(fence("⌊", "prefix", False) + slash(e, style) + fence("⌋", "postfix", False))
    if style == "script" or style == "inline" and e.form == "derivative":
        return mrow(slash(e, style))
    if is_line(e, style):
        numbers = isinstance(e.top, Number) and isinstance(e.bottom, Number)
        return small(e) if numbers or isinstance(e.bottom, Product) else mrow(slash(e, style))
    made = f"<mfrac>{mrow(expression(bare(e.top), 'text'))}{mrow(expression(bare(e.bottom), 'text'))}</mfrac>"
    return f'<mstyle displaystyle="{"true" if style == "display" else "false"}">{made}</mstyle>'


def sum_(e, style, mark=""):
    made = ""
    for i, (sign, term) in enumerate(e.terms):
        if sign:
            form = ' form="prefix"' if i == 0 else ' form="infix"'
            made += f"{mark if i else ''}<mo{form}>{SUMS[sign]}</mo>"
        made += expression(term, style)
    return made if mark else mrow(made)


MAKERS = {Number: number, Word: word, Scripted: scripted, Group: group, Matrix: matrix, Call: call, Apply: apply, Big: big,
          Differential: differential, Product: product, Infix: infix, Fraction: fraction, Sum: sum_, Dots: dots,
          Text: text_node, Code: code}


# -- widths -------------------------------------------------------------------------------------------------------------

def width(items):
    """About how wide a row of items is, in em."""
    return size("".join(parts(items)))


def size(made):
    """About how wide some MathML is, in em."""
    return size_of(ElementTree.fromstring(f"<mrow>{made}</mrow>"))


def size_of(element):
    tag, inside = element.tag, [size_of(child) for child in element]
    if tag in ("mi", "mn", "mtext"):
        return 0.56 * len(element.text or "")
    if tag == "mo":
        spaces = (element.get(side, "").rstrip("em") for side in ("lspace", "rspace"))
        return WIDTHS.get(element.text, 0.4) + sum(float(space or 0) for space in spaces)
    if tag == "mspace":
        return float(element.get("width")[:-2])
    if tag in ("mfrac", "mover", "munder", "munderover"):
        return max(inside) + 0.1
    if tag in ("msub", "msup", "msubsup"):
        return inside[0] + 0.7 * max(inside[1:])
    return sum(inside)
