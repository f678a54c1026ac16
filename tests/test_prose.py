"""The prose of docstrings, comments and messages avoids constructions at which a reader stops."""

from __future__ import annotations

import ast
import io
import itertools
import re
import tokenize
from pathlib import Path

import pytest

from refflow.core.docstrings import is_string

ROOT = Path(__file__).parents[1]
FILES = [path for package in ("refflow", "validation", "tests") for path in sorted((ROOT / package).rglob("*.py"))
         if path != Path(__file__).resolve()]
BANNED = {                                      # pattern: what to write instead
    r"(?<!here )\bis no (?!longer\b)": "is not a",
    r"(?<!here )\bare no (?!longer\b)": "are not",
    r"\bthose of\b": "name them again",
    r"\bthough \w+(?: \w+)? be\b": "even if ... is",
    r"\bknows no\b": "is independent of",
    r"\bto which is\b": "name it again",
    r"\bsuch as have\b": "that have",
    r"\bbrings it\b": "installs it",
    r"\ba line of names\b": "a header row",
    r"\bbut for\b": "except",
    r"\bbe it\b": "even if it is",
    r"\bNone is an answer\b": "None removes it",
}

ANY_BANNED = re.compile("|".join(BANNED))


def documented(nodes):
    """The docstrings and the other strings that stand alone, as nodes."""
    return [node.value for node in nodes if is_string(node)]


def messages(nodes):
    """The strings that `raise` statements, warnings and `help` of options show."""
    shown = [node for node in nodes if isinstance(node, ast.Raise)]
    shown += [node.value for node in nodes if isinstance(node, ast.keyword) and node.arg == "help"]
    return [node for part in shown for node in ast.walk(part) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def prose(source):
    """[(line, text)] of the docstrings, comments and messages of a module; a docstring's lines are joined by spaces."""
    nodes = list(ast.walk(ast.parse(source)))
    found = [(node.lineno, " ".join(node.value.split())) for node in documented(nodes) + messages(nodes)]
    return found + comments(source)


def comments(source):
    """[(line, text)] of the comments; of none, since tokens take long, if no line with a # has a banned construction."""
    if not any(ANY_BANNED.search(line) for line in source.splitlines() if "#" in line):
        return []
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]


def stops(source):
    """["line 3: 'those of' in '...'; write: ..."] for each banned construction in a module."""
    return [f"line {line}: {match[0].strip()!r} in {text[max(0, match.start() - 40):match.end() + 40]!r}; write: {better}"
            for line, text in prose(source) for pattern, better in BANNED.items()
            for match in re.finditer(pattern, text)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_reader_stops(path):
    assert stops(path.read_text()) == []


PLANTED = [
    '"""The gradients are those of the pages."""', "x = 1      # which is no number",
    "def f():\n    '''0, though h be infinite.'''", 'raise ValueError("a value is no number")',
    'raise ValueError(f"{1}: they are no images")', '"""All rows, but\nfor the first."""',
    'parser.add_argument("--names", help="a line of names comes first")', '"""A term that knows no a."""']


@pytest.mark.parametrize("source", PLANTED)
def test_a_planted_construction_is_found(source):
    assert len(stops(source)) == 1


def test_plain_english_passes():
    assert stops('"""If there is no inverse, there are no steps; it is no longer there."""') == []


# -- the words of the code -------------------------------------------------------------------------------------------------

WORDS = (ROOT / "refflow" / "README.md").read_text(encoding="utf-8")


def test_the_words_of_the_code_are_few_in_order_and_in_use():
    """Each stands in the names, docstrings or comments of several modules."""
    words = re.findall(r"^\| ([^|]+) \|", WORDS.partition("## Words")[2], re.M)[2:]
    assert 0 < len(words) <= 40 and words == sorted(words, key=str.lower)
    texts = [path.read_text(encoding="utf-8") for path in FILES]
    assert [word for word in words if len(list(itertools.islice(uses(word, texts), 3))) < 3] == []


def uses(word, texts):
    """The texts in which a word stands, one after another, in the plural, too."""
    return (text for text in texts if re.search(rf"(?i)(?:\b|_){word}(?:s|d)?(?:\b|_)", text))


def test_the_folders_of_the_package_are_listed():
    listed = re.findall(r"^\| `(\w+)/` \|", WORDS, re.M)
    assert sorted(listed) == sorted(path.parent.name for path in (ROOT / "refflow").glob("*/__init__.py"))
    assert all((ROOT / "refflow" / link).exists() for link in re.findall(r"\]\(([^)]+)\)", WORDS))
