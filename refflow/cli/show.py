"""refflow show NAME: one page, of any kind: its equations, parameters, certificate and hard cases.

Of a page in three parts, the map, its textbook, which is the printed equations as code, what these cost in floats, and the
reverse rule; `--all` adds what keeps the digits in floating point.

What is not a page, such as a model, is shown with its docstring; of a name that other people use, which page it is.
"""

from __future__ import annotations

from ..book.pages import source_of
from ..book.lost import sentence
from ..book.parts import COSTS, HEADINGS, cost_rows, moderate_text, parts, textbook
from ..core.docstrings import joined_text
from ..core.registry import REGISTRY
from ..maps import load_all
from ..oracle.check import certified
from ..oracle.points.pages import page_named, spelled
from ..report import PARAMETER, aligned, certificate_table, json_text, parameters
from .list_pages import facts
from .names import also_called, described, elsewhere


def add_command(commands):
    one = commands.add_parser("show", help="one page: equations, parameters, certificate, hard cases")
    one.add_argument("name", metavar="NAME")
    one.add_argument("--all", action="store_true", help="with the equations that keep digits in floating point")
    one.add_argument("--json", action="store_true", help="the page as JSON")
    one.set_defaults(run=run)


def run(options):
    load_all()
    name = spelled(options.name)
    if name not in REGISTRY and (other := of_another_kind(name)):
        print(json_text(other) if options.json else shown(**other))
        return 0
    page = page_named(name, REGISTRY)
    quantities = certified().get(page.__name__, {})
    text, fields = joined_text(source_of(page.__module__)).strip(), parameters(page)
    cases = [(case.name, case.reason) for case in getattr(page, "hard_cases", ())]
    if options.json:
        lists = {"parameters": [dict(zip(PARAMETER, row)) for row in fields],
                 "hard_cases": [{"name": name, "reason": reason} for name, reason in cases]}
        print(json_text(facts(page, quantities) | {"text": text} | lists))
    else:
        sections = (*printed(page, text, options.all), table(("used by",), [(name,) for name in facts(page, {})["used_by"]]),
                    table(PARAMETER, fields), certificate_table(quantities), table(("hard case", "reason"), cases))
        print("\n\n".join(section for section in sections if section))
    return 0


def printed(page, text, everything):
    """The title, the map, the textbook, what it costs, the reverse rule; the third part or what it is called; the source."""
    found = parts(text)
    title, map_, reverse = (found.get(key, "").rstrip() for key in ("title", *HEADINGS[:2]))
    floating = found.get(HEADINGS[2], "").rstrip()
    if floating and not everything:
        floating = f"{HEADINGS[2]}  `refflow show {page.__name__} --all` prints the equations that keep the digits."
    elif floating:
        floating = "\n\n".join("\n".join(filter(None, (one, sentence(page, one)))) for one in floating.split("\n\n"))
    costs = "\n\n".join(filter(None, (table(COSTS, cost_rows(page.__name__)), moderate_text(page.__name__))))
    return f"{page.__name__}: {title}", map_, textbook(page).rstrip(), costs, reverse, floating, found.get("Source:", "")


def of_another_kind(name):
    """What is known of a name that is not a page's; None if nothing is."""
    if (known := elsewhere(name)):
        return described(*known)
    text = also_called(name)
    return text and {"name": name, "kind": "alias", "text": text}


def shown(name, kind, text, module=None, signature=None):
    if kind == "alias":
        return f"refflow has no page named {name}: it is {text} (`refflow show` shows each of them)"
    return f"{name}: a {kind} of {module}, not a page\n\n{signature}\n\n{text}"


def table(head, rows):
    return aligned([head, *rows]) if rows else ""
