"""The search index, a script that holds for each leaf what it may be looked for by.

An entry is [name, file, title, other names, words]: names of the same map in libraries, and the words of its docstring that fewer
than a quarter of the leaves have.
"""

from __future__ import annotations

import json
import re
from collections import Counter

from .. import coverage
from .chapter import Heading, chapters
from .pages import file_of

COMMON = 4                              # a word that one in so many leaves has tells nothing
WORD = re.compile(r"\d{4}\.\d{4,5}|[A-Za-z][a-z]{3,}(?:[A-Z][a-z]+)*")
IDENTIFIER = re.compile(r"[A-Za-z_]\w*")


def index_script(every, others=()) -> str:
    """The text of index.js for the leaves, and `others`: [name, file, title, other names, words] of chapters and their sections."""
    words = {name: words_of(entry) for name, entry in every.items()}
    often = Counter(word for found in words.values() for word in found)
    theirs = names_elsewhere(every)
    entries = [[name, file_of(name), first_sentence(entry.source).replace("`", ""), " ".join(theirs.get(name, ())),
                " ".join(sorted(word for word in words[name] if COMMON * often[word] < len(every)))]
               for name, entry in every.items()]
    return f"const INDEX = {json.dumps([*others, *entries], ensure_ascii=False, separators=(',', ':'))};\n"


def sections() -> list:
    """The entries of the chapters and their sections: [name, file, title, other names, words]."""
    found = []
    for chapter in chapters().values():
        found.append([chapter.title, f"{chapter.name}.html", f"chapter {chapter.number}", "", ""])
        headings = [part for part in chapter.parts[1:] if isinstance(part, Heading)]
        found += [[heading.text.replace("`", ""), f"{chapter.name}.html#s{i}", f"in chapter {chapter.number}", "", ""]
                  for i, heading in enumerate(headings, 1) if heading.level == 2]
    return found


def first_sentence(source):
    """Of a module's docstring, on one line."""
    paragraph = re.split(r"\n(?=\s)", source.split('"""')[1])[0]
    return re.split(r"\.(?:\s|$)", " ".join(paragraph.split()))[0]


def words_of(entry):
    """The words of a leaf's docstring and of its source, in lower case."""
    text = entry.source.split('"""')[1] + f" {getattr(entry.page, 'source', '')}"
    return {word.lower() for word in WORD.findall(text)}


def names_elsewhere(every):
    """{leaf: names of the same map in libraries, and what it is called}: the first leaf that a row's answer names."""
    found = {}
    for row in coverage.ROWS:
        leaf = next((name for name in IDENTIFIER.findall(row.answer) if name in every), None)
        if leaf:
            names = [name for listed in row.theirs.values() for name in IDENTIFIER.findall(listed) if len(name) > 2]
            found.setdefault(leaf, {}).update(dict.fromkeys([*row.map.split(), *names]))
    return found
