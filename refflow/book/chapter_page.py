"""A chapter as a file of HTML: its parts in their order, figures with captions, and the leaves that it cites."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from . import code
from .chapter import LEAF, Block, Chapter, Heading, cited
from .docstring import Display, Paragraph
from .leaf import Setter, neighbour, page_of
from .pages import entries, file_of
from .running import run

CAPTION = re.compile(r"Figure \d+\. ")


def chapter_page(chapter: Chapter, before=None, after=None) -> str:
    """The text of a chapter, which is run.  Raises BadPage, as `run` does."""
    made, ran = [], {block: (printed, drawing) for block, printed, drawing, _ in run(chapter)}
    reader = Reader(chapter)
    for part in chapter.parts[1:]:
        made.append(reader.block_of_code(part, *ran[part]) if isinstance(part, Block) else
                    reader.heading(part) if isinstance(part, Heading) else reader.part(part))
    body = "\n".join([*made, reader.finished()])
    leaves = ", ".join(f'<a href="{file_of(name)}">{name}</a>' for name in cited(chapter))
    return page_of(f"{chapter.number}. {chapter.title}", f"""\
<header><nav>{neighbour(before, "←")}<a href="index.html">The book of refflow</a>{neighbour(after, "→")}</nav>
<h1>{chapter.number}. {escape(chapter.title)}</h1></header>
<main class="chapter"><nav class="contents" aria-label="Contents">{reader.contents()}</nav>
<article>{body}
<p class="notes">Leaves that it cites: {leaves}</p>{reader.notes()}</article></main>""",
                   Path(__file__).with_name("chapter.css").read_text(encoding="utf-8") + reader.lights())


class Reader(Setter):
    """Typesets the parts of a chapter; code lines are numbered on from block to block."""

    def __init__(self, chapter):
        self.listings, at = {}, 0
        for block in chapter.blocks:
            self.listings[block] = code.lines("\n" * at + block.text)
            at = max([line.number for line in self.listings[block]], default=at)
        own = [line for block, lines in self.listings.items() if block.kind == "python" for line in lines]
        super().__init__(chapter.names, own, chapter.numbers)
        self.leaves, self.headings, self.exercises, self.drawn = entries(), [], 0, ""

    def tick(self, text):
        """As in a docstring; the name of a leaf, and of its equations, is a link."""
        match = LEAF.fullmatch(text)
        if not match or match[1] not in self.leaves:
            return super().tick(text)
        numbers = [int(n) for n in re.findall(r"\d+", match[2])]
        links = "".join(f' <a class="ref" href="{file_of(match[1])}#e{n}">({n})</a>' for n in numbers)
        return f'<a href="{file_of(match[1])}"><code>{match[1]}</code></a>{links}'

    def heading(self, part):
        title = self.prose(part.text)
        if part.level == 3:
            self.exercises += 1
            title = f"Exercise {self.exercises}. {title}"
        self.headings.append(title)
        return f'{self.finished()}<h{part.level} id="s{len(self.headings)}">{title}</h{part.level}>'

    def contents(self):
        return "".join(f'<a href="#s{i}">{title}</a>' for i, title in enumerate(self.headings, 1))

    def part(self, part: Paragraph | Display):
        if isinstance(part, Paragraph) and CAPTION.match(part.text) and self.drawn:
            return self.finished(self.prose(part.text))
        return self.finished() + self.block(part, 1)

    def block_of_code(self, block, printed, drawing):
        """Code and what it prints; a block that only draws is folded under its figure."""
        lines = f'<div class="lines">\n{self.code(self.listings[block])}\n</div>'
        shown = f'{lines}<pre class="printed">{escape(printed)}</pre>' if printed else lines
        kind = block.kind.removeprefix("python").strip()
        before = self.finished()
        if drawing is not None:
            made = drawing._repr_html_() if hasattr(drawing, "_repr_html_") else drawing._repr_svg_()
            folded = not printed and not block.cites
            self.drawn = made + (f"\0<details><summary>the code of the figure</summary>{lines}</details>" if folded else "\0")
            return before if folded else before + shown
        if kind == "answer":
            return f"{before}<details><summary>answer</summary>{shown}</details>"
        return before + (f'<p class="kind">{kind}</p>{shown}' if kind else shown)

    def finished(self, caption=""):
        """The figure that waits for its caption, if one does."""
        figure, _, folded = self.drawn.partition("\0")
        self.drawn = ""
        words = f"<figcaption>{caption}</figcaption>" if caption else ""
        return f"<figure>{figure}{words}</figure>{folded}" if figure else ""
