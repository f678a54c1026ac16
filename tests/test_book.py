"""The book: every leaf is well formed, complete, linked both ways, and needs no other file."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections import Counter
from xml.etree import ElementTree

import pytest

from refflow import coverage
from refflow.book import BadPage, NotABook, write_book
from refflow.book import elsewhere, library
from refflow.book.chapter import chapters
from refflow.book.elsewhere import finding
from refflow.book.leaf import AROUND, leaf
from refflow.book.pages import entries, file_of, pages
from refflow.book.shown import MOVING
from refflow.core.docstrings import joined_text
from refflow.core.registry import REGISTRY
from refflow.laws.pages import CITED, DEFINED, numbered
from refflow.oracle.check import certified
from validation import book as opened
from validation.peers.findings import FINDINGS

XHTML, SVG = "{http://www.w3.org/1999/xhtml}", "{http://www.w3.org/2000/svg}"
ENTRIES = entries()
ONE = ("Tanh.html", "book.js", "index.js", "index.html")


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    directory = tmp_path_factory.mktemp("book")
    write_book(directory)
    return directory


def tree_of(text):
    return ElementTree.fromstring(text.removeprefix("<!DOCTYPE html>"))


def test_every_page_has_a_leaf(book):
    wanted = {name for name, page in REGISTRY.items() if page.__module__.startswith("refflow.")} | {"Chain", "Inverse", "glow"}
    assert wanted <= set(ENTRIES)
    files = {*map(file_of, [*ENTRIES, *chapters(), "index"]), "book.js", "index.js"}
    assert {path.name for path in book.iterdir()} == files
    listed = (book / "index.html").read_text()
    assert all(f'href="{file_of(name)}"' in listed for name in (*ENTRIES, *chapters()))


def alike(names):
    """The names that a file system that ignores case takes for another of them."""
    counts = Counter(map(str.casefold, names))
    return sorted(name for name in names if counts[name.casefold()] > 1)


def test_no_two_files_differ_by_case_alone(book):
    assert alike([path.name for path in book.iterdir()]) == []
    assert {"Planar.html", "planar.html"} <= set(alike([f"{name}.html" for name in ENTRIES]))
    files = {path.name for path in book.iterdir()}
    for path in book.glob("*.html"):
        assert {link.partition("#")[0] for link in re.findall('href="([^"#]+)', path.read_text())} <= files
    assert {file.partition("#")[0] for file in re.findall(r'\["[^"]*","([^"]+html[^"]*)"', (book / "index.js").read_text())} <= files


@pytest.mark.parametrize("name", ["Planar", "planar", "sylvester", "Autoregressive"])
def test_a_name_that_differs_by_case_alone_is_its_own_leaf(name, book, tmp_path):
    assert write_book(tmp_path, name)[0].name == file_of(name)
    assert f"<title>{name}</title>" in (tmp_path / file_of(name)).read_text()


@pytest.mark.parametrize("name", ENTRIES)
def test_leaf(name):
    """That the files of a book are its leaves, `test_every_page_has_a_leaf` sees."""
    text = leaf(ENTRIES[name], certified().get(name, {}), *library.neighbours(ENTRIES)[name])
    root = tree_of(text)
    ids = [element.get("id") for element in root.iter() if element.get("id")]
    links = [element.get("href") for element in root.iter(f"{XHTML}a")]
    assert len(ids) == len(set(ids))
    assert all(link[1:] in ids for link in links if link.startswith("#"))
    assert {link for link in links if not link.startswith("#")} <= {*map(file_of, ENTRIES), "index.html"}
    assert text.count("<script") == 2 and all(f'<script src="{name}.js" defer="defer"></script>' in text for name in ("index", "book"))
    assert not re.search(r"https?://(?!www\.w3\.org/)|<link|<img|@import|url\(", text)
    assert len(list(root.iter(f"{XHTML}main"))) == 1
    check_equations(ENTRIES[name], root, set(ids))
    check_signs(root)


def check_signs(root):
    """Prose has arrows, and no line of code is filled with dashes, which a narrow column would break."""
    prose = ["".join(text for part in p.iter() if part.tag != f"{XHTML}code" for text in (part.text or "", part.tail or ""))
             for p in root.iter(f"{XHTML}p")]
    assert not [text for text in prose if "->" in text]
    lines = [e for e in root.iter(f"{XHTML}div") if "line" in (e.get("class") or "").split()]
    assert not [line for line in lines if re.search("# --.*-{4}", "".join(line.itertext()))]


def check_equations(entry, root, ids):
    """Every number has an anchor and its mathematics; every citation links to it, and it links to every line that cites it."""
    defined = set(numbered(DEFINED, joined_text(entry.source)))
    assert {f"e{n}" for n in defined} <= ids
    rows = [e for e in root.iter() if e.get("data-n") and "line" not in (e.get("class") or "").split()]
    for n in defined:
        own = [row for row in rows if str(n) in row.get("data-n").split()]
        assert own and all(row.tag == f"{XHTML}p" or row.get("class") == "row" for row in own), n
        assert all("".join(row.find(f"{XHTML}div").itertext()).strip() for row in own if row.get("class") == "row"), n
    lines = [e for e in root.iter(f"{XHTML}div") if "line" in (e.get("class") or "").split()]
    shown = {int(line.get("id")[1:]) for line in lines}
    cited = {i: numbered(CITED, line) for i, line in enumerate(entry.source.splitlines(), 1) if i in shown}
    for line in lines:
        wanted = cited[int(line.get("id")[1:])]
        assert [a.get("href") for a in line.iter(f"{XHTML}a")] == [f"#e{n}" for n in wanted]
        assert all(any(a.get("href") == f"#{line.get('id')}" for row in rows if str(n) in row.get("data-n").split()
                       for a in row.iter(f"{XHTML}a")) for n in wanted if n in defined)


def test_a_leaf_shows_its_own_class_and_not_its_neighbours():
    text = leaf(ENTRIES["Chain"], {})
    assert '<span class="defined">Chain</span>' in text and '<span class="defined">Inverse</span>' not in text


def test_parameters_certificate_and_cases():
    entry = ENTRIES["Affine"]
    text = leaf(entry, {"forward": {"float64": {"C": 1.25, "allowed": 4}}})
    assert "must be finite and not 0" in text and "1.2" in text and "of 4" in text
    assert all(case.name in text for case in entry.page.hard_cases)
    assert "Certificate" not in leaf(entry, {})


def test_a_broken_page_is_named():
    entry = ENTRIES["Tanh"]
    broken = dataclasses.replace(entry, source=entry.source.replace("x = tanh z  ", "x = (tanh z ", 1))
    with pytest.raises(BadPage, match=r"refflow.maps.elementwise.tanh, line 4, column 16: expected '\)'"):
        leaf(broken, {})


def test_only_a_book_is_written_over(tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    with pytest.raises(NotABook, match="not empty and not a book"):
        write_book(tmp_path, "Tanh")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
    write_book(tmp_path, "Tanh", force=True)
    assert write_book(tmp_path, "tanh") == [tmp_path / name for name in ONE]
    assert (tmp_path / "thesis.txt").read_text() == "years"
    with pytest.raises(NotABook, match="is a file"):
        write_book(tmp_path / "thesis.txt")


def test_nothing_is_written_where_one_leaf_fails(tmp_path, monkeypatch):
    def fails(entry, *rest):
        if entry.name == "Tanh":
            raise BadPage("Tanh")
        return "leaf"

    monkeypatch.setattr(library, "leaf", fails)
    with pytest.raises(BadPage):
        write_book(tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_progress(tmp_path):
    seen = []
    write_book(tmp_path, "Tanh", progress=lambda *what: seen.append(what))
    assert seen == [(0, 1, "Tanh")]


def test_command(run, tmp_path):
    out = tmp_path / "book"
    status, printed, _ = run("book", "--out", str(out), "--page", "Tanh", "--json")
    assert status == 0 and json.loads(printed) == [str(out / name) for name in ONE]
    assert sorted(path.name for path in out.iterdir()) == sorted(ONE)
    status, printed, _ = run("book", "--out", str(out), "--page", "Exp")
    assert status == 0 and "4 files" in printed
    status, _, error = run("book", "--out", str(out), "--page", "Tahn")
    assert status == 2 and "no page 'Tahn'" in error and "Tanh" in error
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "file").write_text("")
    status, _, error = run("book", "--out", str(tmp_path / "other"), "--page", "Exp")
    assert status == 2 and "--force" in error
    assert run("book", "--out", str(tmp_path / "other"), "--page", "Exp", "--force")[0] == 0


def test_pages_come_in_reading_order():
    names = list(pages())
    assert names[0] == "Chain" and names.index("Tanh") < names.index("DenseLinear") < names.index("Dense")


# -- opened in a browser --------------------------------------------------------------------------------------------------

BROWSER = pytest.mark.skipif(opened.chromium() is None, reason="no Chromium: `apt-get install chromium` measures leaves in one")
PLANTED = {
    "an opaque number over its row": (".rows .n { margin-left: -200px; padding-left: 200px; position: relative; "
                                      "background: var(--paper) }", "covers it"),
    "a column of no width": (".rows .right { max-width: 0; overflow: visible } .n { position: sticky; right: 0; width: 100%; "
                             "background: var(--paper) }", "covers it"),
    "a row that is not shown": (".row { display: none }", "its row is not shown"),
    "a row of no height": (".row { height: 0; overflow: hidden }", "it is cut"),
    "a cut row": (".equation, .rows .right { overflow: hidden; max-width: 60px }", "it is cut"),
    "a row without a bar": (".equation, .rows .right { max-width: 60px } ::-webkit-scrollbar { height: 0 }", "no bar shows"),
    "a title that does not fit": ("h1 { font-size: 190px; overflow-wrap: normal }", "it leaves its column"),
    "a title over its facts": (".facts { position: absolute; top: 40px; left: 40px }", "covers it"),
    "rows over one another": (".row + .row { margin-top: -12px }", "it lies over"),
    "a comma that begins a line": (".joined { white-space: normal }", "a line begins with its punctuation"),
    "code beyond the window": (".line > .text { white-space: pre; overflow-wrap: normal }", "the page scrolls sideways"),
}


TABLE = """<style>.mathtable { width: 100%; table-layout: fixed } .mathtable td.whole { width: 0; padding: 0; white-space: nowrap }
.mathtable td.n { position: sticky; right: 0; width: 100%; text-align: right; background: var(--paper) }</style>
<table class="mathtable"><tbody><tr data-n="77"><td class="whole"><math><mi>x</mi><mo>=</mo><mi>y</mi></math></td>
<td class="n">(77)</td></tr></tbody></table></article>"""        # the number covers the row, whose cell has no width


WHOLE = ("index", "glow", "DenseSigmoid", "Planar", "PiecewisePlanar", "Radial", "Sylvester")


@pytest.fixture(scope="module")
def planted(book):
    """{name: its findings} of a leaf with each mistake in its style, and of files without one, at 400 and 1400 pixels."""
    leaves = {name: "realnvp_images" if "joined" in css else "Tanh" for name, (css, _) in PLANTED.items()}
    texts = {name: (book / f"{leaf}.html").read_text().replace("</style>", f"{PLANTED[name][0]}</style>")
             for name, leaf in leaves.items()}
    texts["a table"] = (book / "Tanh.html").read_text().replace("</article>", TABLE)
    texts |= {name: (book / f"{name}.html").read_text() for name in WHOLE}
    found = {name: [] for name in texts}
    for one in opened.measured(texts, (400, 1400)):
        assert one["looked_at"] > 10
        found[one["leaf"]] += opened.lines_of([one])
    return found


@BROWSER
@pytest.mark.parametrize("name", PLANTED)
def test_a_browser_finds_what_is_hidden_or_cut(name, planted):
    assert any(PLANTED[name][1] in line for line in planted[name]), planted[name][:9]
    assert all(re.match(r".+ (\(\d+\)|line \d+|\w+).* at (400|1400) px: ", line) for line in planted[name])


@BROWSER
def test_a_browser_finds_a_row_under_its_number(planted):
    assert any(re.match(r"a table \(77\) at 1400 px: it leaves its column, <td>", line) for line in planted["a table"]), planted["a table"]


@BROWSER
@pytest.mark.parametrize("name", WHOLE)
def test_a_browser_shows_everything(name, planted):
    assert planted[name] == []


@BROWSER
@pytest.mark.parametrize("css, status", [("", 0), (".row { display: none }", 1)])
def test_the_command_that_opens_them(css, status, book, monkeypatch, capsys):
    text = (book / "Exp.html").read_text().replace("</style>", f"{css}</style>")
    monkeypatch.setattr(opened, "texts_of", lambda page: {"Exp": text})
    assert opened.main(["--page", "Exp", "--width", "800", "--json"]) == status
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["leaf"], one["width"], bool(one["found"])) == ("Exp", 800, bool(status))


DRIVEN = """<script>addEventListener("load", () => {
  const input = document.querySelector("#search"), told = {};
  for (const query of ["artanh", "TanhTransform", "1605.08803", "tanh", "AffineCoup", "zzzz"]) {
    input.value = query;
    input.oninput();
    told[query] = [...document.querySelectorAll("#results b")].map((name) => name.textContent);
  }
  const slider = document.querySelector(".slider"), range = slider.querySelector("input");
  range.value = 3;
  range.dispatchEvent(new Event("input"));
  const frames = [...slider.querySelectorAll("g.frame")];
  told.shown = frames.flatMap((frame, i) => getComputedStyle(frame).display === "none" ? [] : [i]);
  told.path = frames[told.shown[0]].querySelector("path:not([class])").getAttribute("d");
  told.output = slider.querySelector("output").textContent;
  told.hidden = slider.querySelector("label").hidden;
  document.body.append(Object.assign(document.createElement("pre"), {id: "told", textContent: JSON.stringify(told)}));
});</script></body>"""


@pytest.fixture(scope="module")
def told(book, tmp_path_factory):
    """What a leaf whose search is typed into and whose slider is moved shows, opened from the disk."""
    file = book / "driven.html"
    file.write_text((book / "Affine.html").read_text().replace("</body>", DRIVEN))
    shown = opened.shown_in_chromium(file, tmp_path_factory.mktemp("profile"))
    file.unlink()
    return json.loads(html.unescape(re.search(r'<pre id="told">(.*?)</pre>', shown, re.S)[1]))


@BROWSER
@pytest.mark.parametrize("query, leaf", [("artanh", "Tanh"), ("TanhTransform", "Tanh"), ("1605.08803", "AffineCoupling"),
                                         ("tanh", "Tanh"), ("AffineCoup", "AffineCoupling")])
def test_search_finds(query, leaf, told):
    assert leaf in told[query] and len(told[query]) <= 12
    assert query != "tanh" or told[query][0] == "Tanh"
    assert told["zzzz"] == []


@BROWSER
def test_a_slider_shows_one_frame_and_its_path_is_of_refflow(told):
    name, values, draw = MOVING["Affine"]
    graph = next(part for part in draw(values[3]).parts if part.startswith("<path d="))
    assert told["shown"] == [3] and f'd="{told["path"]}"' in graph and not told["hidden"]
    assert float(told["output"]) == pytest.approx(values[3])


PRINTED = """<script>addEventListener("load", () => {
  const shown = (part) => part.checkVisibility({contentVisibilityAuto: true}), all = [...document.body.querySelectorAll("*")];
  const grey = (color) => new Set(color.match(/[\\d.]+/g).slice(0, 3)).size === 1;
  const told = {
    folded: all.filter((part) => part.closest("details") &&
      !part.closest("button.copy, .n small") && !part.matches(".equation") && !shown(part)).length,
    controls: all.filter((part) => part.matches("input, button, header nav") && shown(part)).length,
    coloured: all.filter((part) => shown(part) && !part.closest("svg") && !grey(getComputedStyle(part).color)).length,
    paper: getComputedStyle(document.documentElement).backgroundColor, text: getComputedStyle(document.body).color};
  document.body.append(Object.assign(document.createElement("pre"), {id: "told", textContent: JSON.stringify(told)}));
});</script></body>"""
ON_PAPER = {"folded": 0, "controls": 0, "coloured": 0, "paper": "rgb(255, 255, 255)", "text": "rgb(0, 0, 0)"}


def printed(book, name, profile, *removed):
    """What a file of the book shows on paper, in a browser that prefers the dark, without some of its rules of style."""
    text = (book / f"{name}.html").read_text()
    for rule in removed:
        assert rule in text
        text = text.replace(rule, "")
    file = book / "printed.html"
    file.write_text(text.replace("@media print", "@media all").replace("</body>", PRINTED))
    shown = opened.shown_in_chromium(file, profile, opened.SCHEMES["dark"])
    file.unlink()
    return json.loads(html.unescape(re.search(r'<pre id="told">(.*?)</pre>', shown, re.S)[1]))


@BROWSER
@pytest.mark.parametrize("name", ["Affine", "Planar", "05_one_entry_after_another", "index"])
def test_paper_is_black_on_white_and_nothing_is_folded(name, book, tmp_path):
    assert printed(book, name, tmp_path) == ON_PAPER


@BROWSER
@pytest.mark.parametrize("removed, what", [("details:not([open]) > * { display: block; }", "folded"),
                                           (".searched, .slider label, button.copy,", "controls"),
                                           ("--link: #000;", "coloured"), ("--paper: #fff;", "paper"), ("--ink: #000;", "text")])
def test_a_rule_that_paper_misses_is_found(removed, what, book, tmp_path):
    removed = AROUND.sub(r"\1", removed)
    more = ["details::details-content { content-visibility: visible; display: block; block-size: auto; }"] if what == "folded" else []
    assert printed(book, "Affine", tmp_path, removed, *(AROUND.sub(r"\1", one) for one in more))[what] != ON_PAPER[what]


@BROWSER
@pytest.mark.skipif(opened.axe_script() is None, reason="no axe-core: `pip install axe-core-python` asks it")
def test_axe_finds_what_is_planted_and_nothing_else(book):
    """Grey on white, in the dark alone; a picture without words; a page without a main."""
    text = (book / "Softsign.html").read_text()
    dark = "<style>@media (prefers-color-scheme: dark) { .facts { color: #333 } }</style></head>"
    planted = text.replace("</head>", dark).replace(' role="img" aria-label="', ' role="img" data-label="', 1)
    found = {one["leaf"]: {violation["row"] for violation in one["found"]}
             for one in opened.accessible({"as it is": text, "planted": re.sub("</?main>", "", planted)}, (800,))}
    assert found["as it is, light"] == found["as it is, dark"] == set()
    assert {"svg-img-alt", "region"} <= found["planted, light"] and "color-contrast" not in found["planted, light"]
    assert {"svg-img-alt", "region", "color-contrast"} <= found["planted, dark"]


def test_without_a_script_a_slider_stands_still(book):
    """Its label is hidden, and one frame is shown."""
    root = tree_of((book / "Affine.html").read_text())
    slider = next(e for e in root.iter(f"{XHTML}div") if e.get("class") == "slider")
    assert slider.find(f"{XHTML}label").get("hidden") and sum(g.get("style") is None for g in slider.iter(f"{SVG}g")) == 1


def test_the_index_of_the_search_is_small(book):
    assert len((book / "index.js").read_bytes()) < 150_000
    assert sum(path.stat().st_size for path in book.iterdir()) < 20_000_000


def test_without_a_browser_the_command_says_so(monkeypatch, capsys):
    monkeypatch.setattr(opened, "chromium", lambda: None)
    with pytest.raises(SystemExit):
        opened.main([])
    assert "apt-get install chromium" in capsys.readouterr().err


def wrong_peers(name):
    """The rows of a leaf's table of other libraries that do not say what asked.json holds of this library and this name."""
    recorded, wrong = coverage.held("asked.json"), []
    made = leaf(entries()[name], {}).partition('<section class="peers">')[2].partition("</section>")[0]
    for row in re.findall(r"<tr>(<td>.*?)</tr>", made):
        whose, theirs, *errors = [html.unescape(re.sub("<.*?>", "", cell)) for cell in re.findall("<td>(.*?)</td>", row)]
        which, version = whose.split(" ", 1)
        held = recorded[which]["maps"].get(theirs, {})
        if version != recorded[which]["version"] or errors != [held.get(dtype, "") for dtype in elsewhere.DTYPES]:
            wrong.append((whose, theirs))
    return wrong, made.count("<tr>") - 1


@pytest.mark.parametrize("name", ["Tanh", "Affine", "Sigmoid", "RationalQuadraticSpline"])
def test_a_leaf_shows_each_library_s_own_errors(name, monkeypatch):
    wrong, rows = wrong_peers(name)
    assert wrong == [] and 0 < rows <= elsewhere.MOST
    listed = elsewhere.peers()[name]
    other = next(row for row in listed if row[2] != listed[0][2])
    exchanged = {name: [(*listed[0][:2], other[2]), (*other[:2], listed[0][2])]}
    monkeypatch.setattr(elsewhere, "peers", lambda: exchanged)
    assert len(wrong_peers(name)[0]) == 2


def shown_findings(name):
    """{title: (code, what it prints, what is true)} of the findings on a leaf."""
    root = tree_of(leaf(ENTRIES[name], {}))
    parts = [part for section in root.iter(f"{XHTML}section") if section.get("class") == "findings" for part in section]
    found = {}
    for part in parts[1:]:
        cells = ["".join(cell.itertext()) for cell in part.iter(f"{XHTML}td")]
        found[part[0].text.strip()] = part.find(f"{XHTML}pre").text, cells[::2], cells[1::2]
    return found


def misplaced_findings():
    """What is wrong with the findings on the leaves: each stands on all leaves that it names, with its code and its numbers."""
    every, wrong = coverage.held("findings.json"), []
    shown = {name: shown_findings(name) for name in ENTRIES if any(name in one["leaves"] for one in every) or name in ("Exp", "planar")}
    wrong += [one["name"] for one in every for name in one["leaves"]
              if shown.get(name, {}).pop(f"{one['library']} {one['version']}: {one['name']}", None) != (one["code"], one["printed"], one["true"])]
    return wrong + [title for titles in shown.values() for title in titles]


def test_every_finding_stands_on_its_leaves(monkeypatch):
    every = coverage.held("findings.json")
    assert misplaced_findings() == []
    assert [(one["library"], one["name"], tuple(one["leaves"])) for one in every] == [(f.library, f.name, f.leaves) for f in FINDINGS]
    assert {leaf for one in every for leaf in one["leaves"]} <= set(ENTRIES)
    assert {one["library"] for one in every if not one["leaves"]} == {"surjectors", "bijx"}         # funnels, and a theory of fields
    monkeypatch.setitem(every[0], "leaves", ["Tahn"])
    assert misplaced_findings() == [every[0]["name"]]
    monkeypatch.undo()
    monkeypatch.setattr(elsewhere, "finding", lambda one, table: finding(one | {"true": one["printed"]}, table))
    assert len(misplaced_findings()) > 90
