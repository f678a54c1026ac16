"""The notation of the docstrings: plain text that a parser reads.

    row         := { statement | text | "," | ";" | ":" | "." | gap }
    statement   := [sum] { relation [sum] }             a row that goes on may begin with a relation or with + or -
    sum         := ["+" | "-" | "+-"] product { ("+" | "-" | "+-") product }
    product     := factor { [" " | "*" | "x" | "mod"] factor | "/" factor | "//" factor }
    factor      := atom { "_" script | "^" script | "'" | "*" | arguments }
    atom        := number | word | "..." | (row) | [row] | {row} | <row> | |row| | ||row|| | matrix

Rules that resolve ambiguities:
  - A gap, two spaces or more, between two operands ends a statement; elsewhere spaces align and mean nothing.
  - A word of several letters is a name if the word table has it, if the caller's `names` have it (these are what a page
  declares,
    and what its docstring uses as a name), or if it has a subscript, a prime or arguments; `d` in front of a name makes a
    differential.  All other words are text.
  - A term ends at +, -, a relation sign, a comma or a gap.  `sum`, `prod`, `int` and `union` take the rest of their term, `prod`
    only up to a spaced stroke: sum_i a_i b_i + c is (sum_i (a_i b_i)) + c.
  - " / " between spaces is a stacked fraction: above it are the factors since the last sum or integral sign or fraction; below,
    one factor.  "a/b" without spaces joins only its two neighbours, and is a derivative if both are differentials.
    Below either stroke, a `sum` takes the rest of its term: a/sum_i u_i v_i is a/(sum_i (u_i v_i)).
  - A function without brackets takes the factors up to the next function, a spaced stroke or the end of the term: log a/b c is
    log((a/b) c), log a / b is (log a)/b, and sin a cos b is (sin a) (cos b).
  - Bars pair from the left in the bracket in which they stand; a single one means "given".
  - "<" directly before an operand, after a space, is an angle bracket.
  - A script is a number, a word, a bracket, or letters and numbers joined by commas (`x_ij`, `k_m,c`), which from the second
    on may be sums (`x_i,i+r`).  Other sums in scripts stand in brackets: x_i+r is refused, it may mean x_{i+r} or x_i + r.
    So is what touches the bracket of a script: h_(l-1)o and h_(l-1),o may mean h_{l-1,o} or h_{l-1} and o.
  - `[ a  b ; c  d ]`, with gaps between the entries, is a matrix; rows may stand on consecutive lines, each in its own
    brackets, one under the other.
"""

from __future__ import annotations

import dataclasses
import re

from .vocabulary import ACCENTS, BIG, FUNCTIONS, GREEK, PRODUCTS, RELATIONS, SUMS, SYMBOLS


class NotationError(ValueError):
    """Text that the parser cannot read: the place, and what it expected there."""

    def __init__(self, line, column, expected, found):
        super().__init__(f"line {line}, column {column}: expected {expected}, found {found}")
        self.line, self.column, self.expected, self.found = line, column, expected, found


# -- the tree -----------------------------------------------------------------------------------------------------------

def node(cls):
    return dataclasses.dataclass(frozen=True)(cls)


@node
class Number:
    text: str


@node
class Word:
    """A letter, a Greek letter, a symbol of the table, or a name of several letters."""
    text: str


@node
class Dots:
    """"...", or ".." from a number up to another."""
    sign: str


@node
class Text:
    """Words of a language."""
    text: str


@node
class Code:
    """A name of the program."""
    text: str


@node
class Reference:
    """The number of an equation."""
    number: int


@node
class Scripted:
    base: object
    below: tuple = ()               # subscripts, in order
    above: object = None
    accents: tuple = ()
    primes: int = 0
    star: bool = False


@node
class Group:
    """Items between brackets, as written."""
    opening: str
    items: tuple
    closing: str


@node
class Matrix:
    rows: tuple


@node
class Call:
    """f(x): a bracket directly behind a name."""
    function: object
    arguments: Group


@node
class Apply:
    """log x: a function before its argument, without brackets."""
    function: object
    argument: object


@node
class Big:
    """A sum, product or integral sign, before the rest of its term."""
    sign: object


@node
class Differential:
    of: object                      # None in d/dx


@node
class Product:
    factors: tuple


@node
class Infix:
    """A written sign of multiplication, between two factors of a product."""
    sign: str


@node
class Fraction:
    top: object
    bottom: object
    form: str                       # "stacked", "derivative", "line", "floor"


@node
class Sum:
    terms: tuple                    # (sign, term), the first sign is "" if none is written


@node
class Relation:
    sign: str


@node
class Punctuation:
    sign: str


@node
class Gap:
    pass


# -- tokens -------------------------------------------------------------------------------------------------------------

@node
class Token:
    kind: str                       # number, word, text, quote, code, script, sign, open, close, rows, end
    text: str
    line: int
    column: int
    spaces: int                     # in front of it


PATTERN = re.compile(r"""
    (?P<dots>\.\.\.?)
  | (?P<size>\d+x\d+(?:x\d+)*)
  | (?P<number>\d+(?:\.\d+)?(?:e[+-]?\d+)?)
  | (?P<quote>"[^"]*")
  | (?P<tick>`[^`]*`)
  | (?P<code>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+(?:'s)?)
  | (?P<text>[A-Za-z]+'s\b | [A-Za-z]{2,}(?:-[A-Za-z]{2,})+)
  | (?P<word>[A-Za-z]+(?:\d+[a-z]+)?\d*)
  | (?P<script>_(?:[A-Za-z0-9]+(?:,[A-Za-z0-9]+(?:[+-][A-Za-z0-9]+)*)*)?)
  | (?P<sign><-|<=|>=|!=|->|:=|=:|==|\+-|\|\||//|[-+*/^'=<>~,;:.!?|&])
  | (?P<open>[(\[{])
  | (?P<close>[)\]}])
""", re.X)


def tokens(text, line=1, column=1):
    """The tokens of one line; `line` and `column` are where it begins."""
    found, at, spaces = [], 0, 0
    while at < len(text):
        if text[at] == " ":
            at, spaces = at + 1, spaces + 1
            continue
        match = PATTERN.match(text, at)
        if match is None:
            raise NotationError(line, column + at, "a sign of the notation", repr(text[at]))
        found.append(Token(match.lastgroup, match.group(), line, column + at, spaces))
        at, spaces = match.end(), 0
    return found


def joined(lines):
    """The tokens of consecutive lines ((text, line, column), ...) whose first ends in a row of a matrix: one matrix."""
    all_tokens = []
    for text, line, column in lines:
        own = tokens(text, line, column)
        if all_tokens:                          # "] [" becomes a break between rows
            all_tokens[-1] = Token("rows", ";", line, column, 2)
            own = [dataclasses.replace(own[1], spaces=2), *own[2:]]
        all_tokens += own
    return all_tokens


# -- the parser ---------------------------------------------------------------------------------------------------------

CLOSING = {"(": ")]", "[": "])", "{": "}", "<": ">", "|": "|", "||": "||"}
ARTICLES = ("a", "an")
NEVER_AFTER_AN_ARTICLE = ("and", "as", "at", "for", "from", "in", "is", "of", "or", "to", "where", "with")


def parse(text, names=(), line=1, column=1):
    """The items of a row: a tuple of expressions, Relation, Punctuation, Text, Code, Reference and Gap.

    `names` are words of several letters that are names here.  Raises NotationError.
    """
    return parsed(tokens(text, line, column), names)


def parsed(row, names=()):
    return Parser(row, names).row()


class Parser:
    """Recursive descent over the tokens of one row."""

    def __init__(self, row, names):
        end = row[-1] if row else Token("end", "", 1, 0, 0)
        self.tokens = split_differentials(row, names) + [Token("end", "", end.line, end.column + len(end.text), 0)]
        self.names, self.at, self.depth = names, 0, 0
        self.bars = paired_bars(self.tokens)
        self.inside = []                        # the opening signs of the enclosing brackets

    @property
    def token(self):
        return self.tokens[self.at]

    @property
    def next(self):
        return self.tokens[min(self.at + 1, len(self.tokens) - 1)]

    def take(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def fail(self, expected):
        found = repr(self.token.text) if self.token.kind != "end" else "the end"
        raise NotationError(self.token.line, self.token.column, expected, found)

    # rows

    def row(self):
        items = self.items()
        if self.token.kind != "end":
            self.fail("an operand, a relation sign or the end")
        return items

    def items(self, matrix=False):
        """Everything up to a closing bracket or the end."""
        items = []
        while not self.closes():
            if matrix and self.token.text == ";":
                break
            if items and self.token.spaces >= 2 and not isinstance(items[-1], Gap):
                if matrix:
                    break
                if not isinstance(items[-1], Relation) and not self.is_relation():
                    items.append(Gap())
            before = self.at
            items += self.item(items)
            if self.at == before:
                self.fail("an operand or a relation sign")
        return tuple(items)

    def item(self, before):
        last = next((item for item in reversed(before) if not isinstance(item, Gap)), None)
        after_text = isinstance(last, (Text, Code, Reference)) and not isinstance(before[-1], Gap)
        if after_text and self.is_reference():
            self.take()
            number = int(self.take().text)
            self.take()
            return [Reference(number)]
        if self.is_text(after_text):
            return [self.text()]
        if self.token.kind in ("code", "tick"):
            return [Code(self.take().text.strip("`"))]
        if self.is_relation() or self.token.text in ("|", "||") and self.bars.get(self.at) == "given":
            return self.relation()
        if self.token.kind == "sign" and self.token.text in ",;:.":
            return [Punctuation(self.take().text)]
        if self.starts_sum():
            return [self.sum()]
        return []

    def relation(self):
        sign = self.take()
        if not (self.starts_sum() or self.is_text(False) or self.token.kind in ("code", "tick")):
            self.fail(f"an expression after {sign.text!r}")
        return [Relation(sign.text)]

    def text(self):
        """A run of words of a language."""
        words = [self.word_of_text(self.take())]
        while self.token.spaces < 2 and self.is_text(True):
            words.append(self.word_of_text(self.take()))
        return Text(" ".join(words))

    def word_of_text(self, token):
        word = f"“{token.text[1:-1]}”" if token.kind == "quote" else token.text
        while self.token.text == "'" and self.token.spaces == 0:
            word += self.take().text
        return word

    # what stands here

    def closes(self):
        token = self.token
        if token.kind in ("end", "rows"):
            return True
        if token.kind == "close":
            if not self.inside or token.text not in CLOSING[self.inside[-1]]:
                self.fail(f"{CLOSING[self.inside[-1]][0]!r}" if self.inside else "no closing bracket")
            return True
        if self.inside and self.inside[-1] in ("|", "||"):
            return self.bars.get(self.at) == "close"
        return bool(self.inside) and self.inside[-1] == "<" and token.text == ">"

    def is_relation(self):
        token = self.token
        if token.kind == "word":
            return token.text == "in" and self.in_is_a_sign()
        return token.kind == "sign" and token.text in RELATIONS and not self.is_angle()

    def in_is_a_sign(self):
        """`in` between two operands is a relation; after a gap, before an equation's number or text, it is a word."""
        if self.token.spaces >= 2:
            return False
        kept, self.at = self.at, self.at + 1
        operand = self.starts_sum() and not self.is_reference()
        self.at = kept - 1
        after_words = kept == 0 or self.is_text(False)
        self.at = kept
        before = self.tokens[kept - 1]
        return operand and not after_words and \
            (before.kind in ("number", "word", "differential", "script", "close") or before.text in ("'", ">", "|", "*"))

    def is_angle(self):
        """Does an angle bracket open here?"""
        before = self.tokens[self.at - 1] if self.at else None
        return self.token.text == "<" and self.next.spaces == 0 and (
            before is None or self.token.spaces > 0 or before.kind in ("open", "sign"))

    def is_reference(self):
        ahead = self.tokens[self.at:self.at + 3]
        return [t.text for t in ahead[::2]] == ["(", ")"] and ahead[1].kind == "number" and ahead[1].text.isdigit()

    def tight(self, *signs):
        return self.token.spaces == 0 and self.token.text in signs

    def is_text(self, after_text):
        """Is the word here one of a language?"""
        token, then = self.token, self.next
        if token.kind in ("quote", "text"):
            return True
        if token.kind != "word":
            return False
        word = token.text
        if word in ARTICLES:
            after_sign = self.at and self.tokens[self.at - 1].text in ("+", "-", "/", "*")
            before_word = then.kind in ("word", "text") and then.spaces == 1 and then.text not in NEVER_AFTER_AN_ARTICLE
            if after_sign:
                return False
            return word == "an" or before_word and (after_text or self.plain(self.at + 1))
        if word == "in":
            return not self.in_is_a_sign()
        if len(word) == 1:
            return False
        if self.plain(self.at) or then.kind == "quote":
            return True
        among_words = after_text and token.spaces < 2 and then.spaces >= 1 and self.plain(self.at + 1)
        return among_words and word in self.names and word not in FUNCTIONS          # "up to the order of entries"

    def plain(self, index):
        """A word of several letters that no table has and that is not used as a name."""
        token, then, after = (*self.tokens[index:index + 3], *[self.tokens[-1]] * 2)[:3]
        if token.kind in ("text", "quote"):
            return True
        if token.kind != "word" or len(token.text) == 1 or known(token.text, self.names):
            return False
        if then.spaces == 0 and (then.kind == "script" or then.text in ("^", "(", "[", "*")):
            return False
        possessive = after.spaces > 0 or after.kind == "end"            # the parts' pullbacks
        return then.text != "'" or then.spaces > 0 or possessive

    def starts_operand(self):
        token = self.token
        if token.kind in ("number", "size", "dots", "open", "differential"):
            return True
        if token.kind == "word":
            return not self.is_text(False) and not (token.text == "in" and self.is_relation())
        if token.text in ("|", "||"):
            return self.bars.get(self.at) == "open"
        return self.is_angle()

    def starts_sum(self):
        return self.token.text in SUMS or self.starts_operand()

    # expressions

    def sum(self):
        terms, sign = [], self.take().text if self.token.text in SUMS else ""
        while True:
            terms.append((sign, self.product(sign)))
            if self.token.text not in SUMS:
                break
            if self.tokens[self.at - 1].kind == "script" and self.token.spaces == self.next.spaces == 0:
                self.fail("a space, or brackets around the sum in a script,")
            sign = self.take().text
        return terms[0][1] if len(terms) == 1 and not terms[0][0] else Sum(tuple(terms))

    def product(self, sign=""):
        if not self.starts_operand():
            self.fail(f"an operand after {sign!r}" if sign else "an operand")
        factors = [self.factor()]
        while True:
            token = self.token
            if token.text in ("/", "//") and token.kind == "sign":
                self.divide(factors)
            elif token.text in PRODUCTS and self.is_infix(factors):
                factors.append(self.infix())
                if not self.starts_operand():
                    self.fail(f"an operand after {token.text!r}")
                factors.append(self.factor())
            elif self.continues():
                factors.append(self.factor())
            elif isinstance(factors[-1], Big):
                self.fail("what is summed")
            else:
                return factors[0] if len(factors) == 1 else Product(tuple(factors))

    def continues(self):
        """Does a factor follow without a sign?"""
        return self.starts_operand() and self.token.spaces < 2

    def infix(self):
        sign = self.take()
        if self.token.spaces == 0 and self.token.kind == "script":
            return self.scripts(Infix(sign.text))
        return Infix(sign.text)

    def is_infix(self, factors):
        if self.token.text == "x":
            same = isinstance(factors[-1], Word) and self.next.text == factors[-1].text           # k x k
            return self.next.spaces > 0 and (same or isinstance(factors[-1], Number) and self.next.kind == "number")
        return self.token.text in ("*", "mod")

    def divide(self, factors):
        sign = self.take()
        spaced = sign.spaces > 0
        if not self.starts_operand() and not self.is_text(False):
            self.fail(f"an operand after {sign.text!r}")
        if self.is_text(False):
            factors.append(Fraction(factors.pop(), self.text(), "line"))
        elif sign.text == "//":
            factors.append(Fraction(factors.pop(), self.factor(), "floor"))
        elif not spaced:
            bottom = self.denominator()
            if isinstance(bottom, Differential) and is_differential(factors[-1]):
                factors.append(Fraction(differential(factors.pop()), bottom, "derivative"))
            else:
                factors.append(Fraction(factors.pop(), bottom, "line"))
        else:
            start = max((i + 1 for i, factor in enumerate(factors) if ends_numerator(factor)), default=0)
            if start == len(factors):                       # a fraction divided once more
                factors.append(Fraction(factors.pop(), self.factor(), "line"))
                return
            top = factors[start:]
            factors[start:] = [Fraction(top[0] if len(top) == 1 else Product(tuple(top)), self.denominator(), "stacked")]

    def denominator(self):
        """One factor, or a sum with the rest of its term."""
        return self.product() if self.token.text in BIG else self.factor()

    def factor(self):
        token = self.token
        if token.kind == "word" and token.text == "d" and self.differs():
            self.take()
            if self.token.text == "/":
                return Differential(None)
            return Differential(self.factor())
        base = self.scripts(self.atom())
        word = base.base if isinstance(base, Scripted) else base
        if isinstance(word, Word) and word.text in BIG:
            return Big(base)
        while True:
            if self.tight("(", "[") and isinstance(base, (Word, Code, Group, Scripted, Call)):
                base = self.scripts(Call(base, self.group()))
            elif isinstance(word, Word) and self.is_function(word) and not called(base) and self.continues():
                return Apply(base, self.argument())
            else:
                return base

    def is_function(self, word):
        return word.text in FUNCTIONS and word.text not in self.names

    def differs(self):
        """Does this d begin a differential?"""
        then = self.next
        if "d" in self.names:
            return then.kind == "differential"
        if then.text == "/" and then.spaces == 0:
            after = self.tokens[min(self.at + 2, len(self.tokens) - 1)]
            return after.kind == "word" and after.text == "d" and after.spaces == 0
        return then.kind == "differential" or then.spaces == 0 and then.text in ("(", "[") or \
            then.spaces == 1 and then.kind == "word" and (len(then.text) > 1) and not self.plain(self.at + 1)

    def argument(self):
        """The argument of a function without brackets: factors up to a sign, or to a derivative's stroke."""
        factors = [self.factor()]
        while True:
            if self.token.text in FUNCTIONS and not isinstance(factors[0], Big):
                return factors[0] if len(factors) == 1 else Product(tuple(factors))
            if self.tight("/") and (self.next.text != "d" or is_differential(factors[-1])):
                self.divide(factors)
            elif self.continues():
                factors.append(self.factor())
            else:
                return factors[0] if len(factors) == 1 else Product(tuple(factors))

    def atom(self):
        token = self.token
        if token.kind == "number":
            return Number(self.take().text)
        if token.kind == "size":
            return Text(self.take().text.replace("x", "×"))
        if token.kind == "dots":
            return Dots(self.take().text)
        if token.kind in ("word", "differential"):
            return Word(self.take().text)
        if token.kind == "open" or token.text in ("|", "||") or self.is_angle():
            return self.group()
        self.fail("an operand")

    def group(self):
        opening = self.take()
        self.inside.append(opening.text)
        first = self.items(matrix=False) if opening.text != "[" else self.items_of_matrix()
        if not isinstance(first, Matrix):
            if self.token.kind == "end" or not self.closes():
                self.fail(f"{CLOSING[opening.text][0]!r}")
        self.inside.pop()
        closing = self.take()
        return first if isinstance(first, Matrix) else Group(opening.text, first, closing.text)

    def items_of_matrix(self):
        """The items of a square bracket, or the rows of a matrix if it has gaps in it."""
        level, gaps = 0, False
        for token in self.tokens[self.at:]:
            gaps |= level == 0 and token.spaces >= 2 and token.kind not in ("close", "end") and \
                token is not self.tokens[self.at] or token.kind == "rows"
            level += (token.kind == "open") - (token.kind == "close")
            if level < 0:
                break
        if not gaps:
            return self.items()
        rows, row = [], []
        while True:
            row.append(self.items(matrix=True))
            if self.token.kind == "rows" or self.token.text == ";":
                self.take()
                rows.append(tuple(row))
                row = []
            elif self.token.kind == "close":
                rows.append(tuple(row))
                if len({len(r) for r in rows}) > 1:
                    self.fail(f"a row of {len(rows[0])} entries, as the first has,")
                return Matrix(tuple(rows))
            elif self.token.kind == "end":
                self.fail("']'")

    def scripts(self, base):
        """`base` with its sub- and superscripts, accents, primes and star."""
        below, accents, above, primes, star = [], [], None, 0, False
        while self.token.spaces == 0:
            token = self.token
            if token.kind == "script":
                run = self.take().text[1:]
                if not run:
                    if self.token.spaces or self.token.text not in ("(", "{", "|"):
                        self.fail("a subscript after '_'")
                    below.append(self.script_group())
                elif run in ACCENTS:
                    accents.append(run)
                elif isinstance(base, Word) and not below and f"{base.text}_{run}" in SYMBOLS:
                    base = Word(f"{base.text}_{run}")
                elif isinstance(base, Word) and is_program_name(base.text, run):
                    return Code("_".join([base.text, *(script.text for script in below), run]) + self.rest_of_name())
                else:
                    below.append(Text(run.replace("x", "×")) if re.fullmatch(r"\d+x\d+", run) else Word(run))
            elif token.text == "^" and self.next.spaces == 0 and (self.next.kind in ("word", "number", "size") or
                                                                self.next.text in ("(", "{", "-", "+")):
                if above is not None:
                    self.fail("one superscript")
                self.take()
                above = self.superscript()
            elif token.text == "^":
                if self.next.kind not in ("end", "close") and self.next.spaces == 0:
                    self.fail("a superscript after '^'")
                self.take()
                accents.append("hat")
            elif token.text == "~" and isinstance(base, Word) and (self.next.spaces > 0 or self.next.text in "()"):
                self.take()
                accents.append("tilde")
            elif token.text == "'":
                self.take()
                primes += 1
            elif token.text == "*" and isinstance(base, (Word, Group)):
                self.take()
                star = True
            else:
                break
        if not (below or accents or above is not None or primes or star):
            return base
        return Scripted(base, tuple(below), above, tuple(accents), primes, star)

    def rest_of_name(self):
        rest = ""
        while self.token.spaces == 0 and self.token.kind == "script":
            rest += self.take().text
        return rest

    def script_group(self):
        group = self.group()
        in_list = self.token.text == "," and self.next.spaces == 0 and self.next.kind != "end"
        if self.token.spaces == 0 and (in_list or self.token.kind in ("word", "number")):
            self.fail("a space, or brackets around all of the script,")
        return group if group.opening not in "({" else Group("", group.items, "")

    def superscript(self):
        sign = self.take().text if self.token.text in ("-", "+") else ""
        if self.token.spaces:
            self.fail("a superscript")
        if self.token.text in ("(", "{"):
            inner = self.script_group()
        elif self.token.kind == "number":
            inner = Number(self.take().text)
        elif self.token.kind == "word":
            inner = Word(self.take().text)
            while self.tight("'") and self.next.kind != "word":
                inner = Scripted(inner, primes=1)
                self.take()
            if self.token.spaces == 0 and self.token.kind == "script" and len(self.token.text) > 1:
                inner = Scripted(inner, (Word(self.take().text[1:]),))
        else:
            self.fail("a superscript")
        return Sum(((sign, inner),)) if sign else inner


# -- small predicates ---------------------------------------------------------------------------------------------------

def known(word, names):
    """Do the word table or the names contain this word, perhaps with d in front or digits behind?"""
    stem = word.rstrip("0123456789")
    return word in names or word in FUNCTIONS or word in BIG or word in SYMBOLS or stem in GREEK or \
        word == "mod" or len(stem) == 1 or is_d(word, names)


def is_d(word, names):
    """Is the word d and a name?"""
    if len(word) < 2 or word[0] != "d" or word in names or word in FUNCTIONS or word in GREEK or word in BIG:
        return False
    rest = word[1:]
    return len(rest.rstrip("0123456789")) == 1 or rest in names or rest in GREEK or rest in ("log", "exp")


def split_differentials(row, names):
    """The tokens with each word such as dx as d and x."""
    found = []
    for before, token in zip((None, *row), row):
        below = before is not None and before.text == "/" and token.spaces == 0 and token.text[0] == "d" and \
            any(t.kind == "differential" for t in found[-4:]) and not known(token.text, names)          # dz/dparams
        if token.kind == "word" and (is_d(token.text, names) or below):
            found.append(dataclasses.replace(token, text="d"))
            found.append(Token("differential", token.text[1:], token.line, token.column + 1, 0))
        else:
            found.append(token)
    return found


def paired_bars(row):
    """{index of a bar: "open", "close" or "given"}, bracket by bracket."""
    roles, levels = {}, [[]]

    def settle(bars):
        for sign in ("|", "||"):
            own = [i for i in bars if row[i].text == sign]
            for first, second in zip(own[::2], own[1::2]):
                roles[first], roles[second] = "open", "close"
            if len(own) % 2:
                roles[own[-1]] = "given"

    for i, token in enumerate(row):
        if token.kind == "open":
            levels.append([])
        elif token.kind in ("close", "rows") and len(levels) > 1:
            settle(levels.pop())
            if token.kind == "rows":
                levels.append([])
        elif token.text in ("|", "||"):
            levels[-1].append(i)
    while levels:
        settle(levels.pop())
    return roles


def is_program_name(word, run):
    """Is a word with this behind its underscore a name of the program (kaiming_normal), and not a letter with a subscript?"""
    return len(word) > 1 and word not in GREEK and len(run) > 3 and run.isalpha()


def called(e):
    return isinstance(e, Call) or isinstance(e, Scripted) and called(e.base)


def ends_numerator(factor):
    """Does a numerator begin only after this factor?"""
    if isinstance(factor, Big):
        return (factor.sign.base if isinstance(factor.sign, Scripted) else factor.sign).text != "prod"
    return isinstance(factor, Fraction) and factor.form == "stacked"


def is_differential(factor):
    return isinstance(factor, Differential) or factor == Word("d")


def differential(factor):
    return Differential(None) if isinstance(factor, Word) else factor
