"""python -m validation.chapters [NAME ...]: runs the chapters of the book and compares what they print with what is recorded.

--write records what this machine prints.  Numbers may differ by one unit of their last printed place, as in the README.
Exits with 1 if a chapter differs or raises.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path

from refflow.book import BadPage
from refflow.book import chapter as of_chapter
from refflow.book.running import run

from .readme import difference

DIRECTORY = Path(of_chapter.__file__).with_name("chapters")
RECORDED = re.compile(r"^(```python(?: \w+)?\n.*?^```\n)(\n```text\n.*?^```\n)?", re.M | re.S)


def differences(chapter, made):
    """["file, below line n: ..."] of the blocks that print something else than what is recorded; `made` is what `run` yields."""
    found = [(block.line, difference(block.printed, printed)) for block, printed, *_ in made]
    return [f"{chapter.file}, below line {line}: {text}" for line, text in found if text]


def recorded(text, made):
    """The text of a chapter with what its blocks print."""
    printed = iter([printed for _, printed, *_ in made])

    def with_output(found):
        shown = next(printed)
        return found[1] + (f"\n```text\n{shown}```\n" if shown else "")

    return RECORDED.sub(with_output, text)


def write(path, text):
    temporary = path.with_suffix(".md.new")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.chapters", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="record what this machine prints")
    parser.add_argument("names", nargs="*", metavar="NAME", help="the beginnings of files, as 04; all if none is named")
    options = parser.parse_args(arguments)
    failed = False
    for path in sorted(DIRECTORY.glob("*.md")):
        if options.names and not path.name.startswith(tuple(options.names)):
            continue
        text, start = path.read_text(encoding="utf-8"), time.process_time()
        try:
            chapter = of_chapter.read(path.name, text)
            made = list(run(chapter))
        except BadPage as error:
            print(error)
            failed = True
            continue
        if options.write:
            write(path, recorded(text, made))
        found = [] if options.write else differences(chapter, made)
        print(*found, f"{path.name}: {time.process_time() - start:.1f} CPU seconds", sep="\n")
        failed |= bool(found)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
