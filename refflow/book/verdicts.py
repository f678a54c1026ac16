"""A report of a check as one file of HTML: verdicts, findings with their equations and reproductions, pictures of the errors.

Like a leaf, the file is well-formed XML and needs no other file; its one script copies a reproduction.
"""

from __future__ import annotations

import functools
from html import escape
from pathlib import Path

from ..core.version import VERSION
from ..oracle.judging.verdict import KINDS, Finding, Passed, equations_text, grouped, has_failed, kind_of, last_name, severity
from ..oracle.naming.reproduction import reproduction
from ..report import counted, number
from .display import display
from .docstring import Display, document
from .leaf import Setter, page_of
from .notation import NotationError, Relation
from .pages import pages, source_of
from .picture import picture

FEW = 3                                 # subjects whose pictures are shown at once
MANY = 6                                # equations that are folded away
SCRIPT = """
for (const button of document.querySelectorAll("button.copy")) button.onclick = async () => {
  const code = button.parentElement.querySelector("pre");
  try { await navigator.clipboard.writeText(code.textContent); }
  catch { getSelection().selectAllChildren(code); document.execCommand("copy"); }
  button.textContent = "copied";
  setTimeout(() => { button.textContent = "copy"; }, 1500);
};
"""


def report_page(report) -> str:
    """The text of the file; pictures are drawn of the errors that the report has kept."""
    sections = (overview(report), findings(report), remarks(report), domains(report), skipped(report))
    extra = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    name = Path(report.target).name
    return page_of(f"{f'{name} {report.version}'.rstrip()}: refflow check", f"""\
<header><nav><span>refflow check</span><span>refflow {VERSION}</span></nav>
<h1>{escape(name)}</h1><p class="facts">{facts(report)}</p></header>
<main class="report">
{"".join(section for section in sections if section)}
</main>
<script>{SCRIPT}</script>""", extra, scripts="")


def facts(report):
    verdict = "findings" if report.failed else "passes" if report.passed else "nothing measured"
    counts = [f"{counted(len(report.passed), 'check')} pass", f"{len(report.failed)} fail",
              f"{len(report.skipped)} skipped"]
    return (f'{escape(report.version)} <span class="badge {verdict.split()[0]}">{verdict}</span> {", ".join(counts)}')


# -- the table --------------------------------------------------------------------------------------------------------

def overview(report):
    """The largest error of each kind of quantity of each subject; a failure is a link to its finding."""
    kinds = [kind for kind in KINDS if any(kind_of(e.quantity) == kind for e in (*report.passed, *report.failed))]
    head = "".join(f"<th>{text}</th>" for text in ("map", "dtype", *kinds))
    rows = []
    for name, dtype, entries in report.subjects():
        cells = "".join(cell_of(report, kind, [e for e in entries if kind_of(e.quantity) == kind]) for kind in kinds)
        rows.append(f"<tr><td><code>{escape(name)}</code></td><td>{dtype}</td>{cells}</tr>")
    table = f'<table class="errors"><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody></table>'
    return f'<section><h2>Largest errors <small>in units of rounding</small></h2><div class="wide">{table}</div></section>'


def cell_of(report, kind, entries):
    if not has_failed(entries):
        errors = [entry.error for entry in entries if isinstance(entry, Passed)]
        return f'<td data-kind="{kind}">{units(max(errors)) if errors else "–"}</td>'
    failed = [entry for entry in entries if isinstance(entry, Finding)]
    worst = max(failed, key=severity)
    return f'<td class="fails" data-kind="{kind}"><a href="#f{report.failed.index(worst)}">{units(severity(worst))}</a></td>'


def units(value):
    """An error for people to read; less than a hundredth of a unit is 0."""
    return "0" if value < 0.01 else number(value).replace("inf", "∞").replace("e+", "e")


# -- findings ---------------------------------------------------------------------------------------------------------

def findings(report):
    made = [finding(report, found, i) for i, found in enumerate(report.failed)]
    return f'<section><h2>Findings <small>{len(made)}, the worst first</small></h2>{"".join(made)}</section>' if made else ""


def finding(report, found, i):
    known = {"given": found.given, "true": found.true}
    rows = [(word, f"<code>{escape(repr(value))}</code>") for word, value in known.items() if value is not None]
    rows += [("κ/|q|", units(found.conditioning)), ("case", escape(found.case))]
    rows += [("layer", escape(found.layer))] if found.layer else []
    listed = "".join(f"<dt>{word}</dt><dd>{text}</dd>" for word, text in rows)
    errors = next((e for e in report.errors if same_subject(e, found)), None)
    drawn = f'<figure>{picture(errors, letter_of(found.quantity), found)}</figure>' if errors and errors.points else ""
    return f"""<article class="finding" id="f{i}">
<h3><code>{escape(last_name(found.theirs))}</code> <b>{escape(found.quantity)}</b> <span class="of">{found.dtype}</span></h3>
{f'<p class="diagnosis">{escape(found.diagnosis)}</p>' if found.diagnosis else ""}
<p class="verdict">{verdict(found)}</p>
<div class="columns"><div>{equation(found)}<dl>{listed}</dl></div>
<div>{drawn}<div class="code"><button class="copy" type="button">copy</button>
<pre>{escape(reproduction(found))}</pre></div></div></div>
</article>"""


def verdict(found):
    worst = f", at worst {units(found.worst)}" if found.worst != found.error else ""
    return (f"{units(found.error)} units at the input below{worst}; {number(found.allowed)} are allowed. "
            f"Wrong at {found.failing} of {counted(found.points, 'point')}.")


def same_subject(errors, found):
    return (errors.bijector, errors.theirs, errors.dtype, errors.quantity) == \
        (found.bijector, found.theirs, found.dtype, found.quantity)


def letter_of(quantity):
    return "x" if quantity.startswith("inverse") else "z"


def equation(found):
    """The equations that state the quantity, typeset; only their numbers where the page cannot be typeset."""
    if not found.equations:
        return ""
    title = f"E{escape(equations_text(found)[1:])}"
    shown = "".join(typeset(found.page, found.equations))
    if not shown:
        return f'<p class="states">{title}</p>'
    opened = "" if len(found.equations) > MANY else ' open="open"'
    return f'<details class="states"{opened}><summary>{title}</summary>{shown}</details>'


def typeset(name, numbers):
    """The displays of a page, each with only the rows of these numbers and the rows that these continue."""
    page = pages().get(name)
    for block in blocks_of(page.__module__) if page else ():
        if isinstance(block, Display):
            chosen = {i for i, row in enumerate(block.rows) if set(row.numbers) & set(numbers)}
            chosen |= {before for i in chosen for before in begun(block.rows, i)}
            if chosen:
                rows = [block.rows[i] for i in sorted(chosen)]
                yield display(rows, lambda n: f"({n})", lambda n: f'<span class="eq">({n})</span>')
        elif set(getattr(block, "numbers", ())) & set(numbers):
            yield f"<p>{Setter(names_of(page.__module__)).prose(block.text)}</p>"


def begun(rows, i):
    """The rows above that row i continues: it begins with a relation sign, and so on up to the row that does not."""
    while i and isinstance(rows[i].items[0], Relation):
        i -= 1
        yield i


@functools.cache
def typeset_of(module):
    try:
        return document(source_of(module))
    except NotationError:
        return (), frozenset()


def blocks_of(module):
    return typeset_of(module)[0]


def names_of(module):
    return typeset_of(module)[1]


# -- the rest ---------------------------------------------------------------------------------------------------------

def remarks(report):
    lines = [f"<li>{escape(str(suggestion))}</li>" for suggestion in report.suggestions]
    lines += [f"<li>{escape(note)}</li>" for note in report.notes]
    return f'<section><h2>Remarks</h2><ul>{"".join(lines)}</ul></section>' if lines else ""


LEGEND = """<p class="legend">Each dot is the worst point nearby: its error in units of rounding against the event, both
logarithmic, with far decades drawn closer. <svg viewBox="0 0 10 10"><circle class="fails" cx="5" cy="5" r="3"/></svg> more than
allowed, <svg viewBox="0 0 10 10"><circle class="unjudged" cx="5" cy="5" r="3"/></svg> not judged, because rounding the input
moves the truth too far.</p>"""


def domains(report):
    """The pictures of all quantities, a part for each subject and dtype."""
    subjects = {}
    for errors in report.errors:
        if errors.points:
            subjects.setdefault((errors.bijector, errors.theirs, errors.dtype), []).append(errors)
    opened = ' open="open"' if len(subjects) <= FEW else ""
    made = []
    for (bijector, theirs, dtype), group in subjects.items():
        name = bijector if theirs == "refflow" else last_name(theirs)
        drawn = "".join(f"<figure><figcaption><b>{escape(e.quantity)}</b> {measured(report, e)}</figcaption>"
                        f"{picture(e, letter_of(e.quantity))}</figure>" for e in group)
        made.append(f"<details{opened}><summary><code>{escape(name)}</code> {dtype}</summary>"
                    f'<div class="pictures">{drawn}</div></details>')
    return f'<section><h2>Errors over the domain</h2>{LEGEND}{"".join(made)}</section>' if made else ""


def measured(report, errors):
    """The verdict on a quantity, with its counts."""
    entry = next((e for e in (*report.failed, *report.passed) if same_subject(errors, e)), None)
    if isinstance(entry, Passed):
        return f"{units(entry.error)} of {number(entry.allowed)} at {counted(entry.points, 'point')}"
    return f'<span class="fails">fails at {entry.failing} of {counted(entry.points, "point")}</span>' if entry else "not judged"


def skipped(report):
    lines = [f"<li>{escape(reason)}: {escape(names)}</li>" for names, reason in grouped(report.skipped)]
    return f'<section><h2>Skipped</h2><ul>{"".join(lines)}</ul></section>' if lines else ""
