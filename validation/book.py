"""python -m validation.book: opens every leaf of the book, its index and a report in Chromium and measures what is shown.

    --axe       ask axe-core instead, with the book's script, light and dark: pip install axe-core-python

At 400, 800 and 1400 pixels each piece of text and each sign of a formula must be shown, stand in its column or in a part that
scrolls and has a visible bar, be covered by nothing and lie over nothing.  Prints what is wrong with which row of which leaf, and
exits with 1.
"""

from __future__ import annotations

import argparse
import html
import importlib.util
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

import refflow
from refflow.book import report_page, write_book
from refflow.oracle import adapter, check
from refflow.report import counted, progress_cleared, progress_line

WIDTHS = (400, 800, 1400)
HEIGHT = 40_000                         # of the window: everything is in it at once
TOGETHER = 12                           # leaves that one Chromium measures
SECONDS = 300                           # that it may take
SCHEMES = {"light": "--blink-settings=preferredColorScheme=1", "dark": "--blink-settings=preferredColorScheme=0"}
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
         "--disable-background-networking", "--disable-component-update")
DRIVER = """<!DOCTYPE html><html><head><meta charset="utf-8"></head><body>
<iframe style="border:0"></iframe><pre id="results"></pre><script>{script}
measure_all({texts}, {widths}, {height}, {axe});</script></body></html>"""


def chromium():
    """The path of an installed Chromium, or None."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def shown_in_chromium(file, profile, *flags):
    """The document of a file after its scripts have run, as HTML."""
    ran = subprocess.run([chromium(), *FLAGS, *flags, f"--user-data-dir={profile}", "--virtual-time-budget=1000000", "--dump-dom",
                          file.as_uri()], capture_output=True, text=True, timeout=SECONDS)
    if ran.returncode:
        raise RuntimeError(f"Chromium ended with {ran.returncode}: {ran.stderr}")
    return ran.stdout


def axe_script():
    """axe-core, from the Python package that ships it; None if it is not installed."""
    found = importlib.util.find_spec("axe_core_python")
    return found and (Path(found.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")


def accessible(texts, widths=WIDTHS):
    """The same of the violations that axe-core finds, light and dark, with the script of the book in each file."""
    book = Path(write_book.__code__.co_filename).with_name("book.js").read_text(encoding="utf-8")
    inside = "".join(f"<script>{script}</script>" for script in (axe_script(), "const INDEX = [];", book))
    texts = {name: text.replace("</body>", f"{inside}</body>") for name, text in texts.items()}
    return [one | {"leaf": f"{one['leaf']}, {scheme}"} for scheme, flag in SCHEMES.items()
            for one in measured(texts, widths, True, flag)]


def measured(texts, widths=WIDTHS, with_axe=False, *flags):
    """[{leaf, width, found, looked_at}] of {name: text of an HTML file}, by one Chromium; what a leaf folds is unfolded."""
    texts = {name: text.replace("<details><summary>", '<details open=""><summary>') for name, text in texts.items()}
    script = Path(__file__).with_name("book.js").read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "driver.html"
        quoted = json.dumps(texts).replace("</", "<\\/").replace("<!--", "<\\!--")
        file.write_text(DRIVER.format(script=script, texts=quoted, widths=list(widths), height=HEIGHT,
                                      axe=str(with_axe).lower()), encoding="utf-8")
        shown = shown_in_chromium(file, Path(directory) / "profile", *flags)
    results = re.search(r'<pre id="results">(.*?)</pre>', shown, re.S)[1]
    if not results:
        raise RuntimeError(f"Chromium did not finish with {', '.join(texts)}")
    return json.loads(html.unescape(results))


def wrong_report():
    """A report with findings of many sizes, pictures and equations, as `refflow check --html` writes it."""
    def tanh(params, z):
        return {"forward": np.tanh(z), "log_det": np.log(1 - np.tanh(z)**2), "inverse": np.arctanh}

    def affine(params, z):
        return {"forward": params["scale"] * z + params["shift"] + 1e-9, "log_det": 2 * np.log(np.abs(params["scale"]))}

    return report_page(check([adapter(refflow.Tanh(), theirs="a_library.transforms.hyperbolic.TanhTransform")(tanh),
                              adapter(refflow.Affine(shift=0.5, scale=2.0))(affine)], keep_errors=True))


def texts_of(page=None):
    """{name: HTML} of the book, or of one page, with its index, and of a report."""
    with tempfile.TemporaryDirectory() as directory:
        texts = {path.stem: path.read_text(encoding="utf-8") for path in write_book(Path(directory) / "book", page)
                 if path.suffix == ".html"}
    return texts | {"report": wrong_report()}


def all_measured(texts, widths=WIDTHS, progress=None, measure=measured):
    """The results of `measure` for all texts; `progress(done, total, name)` is called before each Chromium."""
    names, results = list(texts), []
    for at in range(0, len(names), TOGETHER):
        if progress:
            progress(at, len(names), names[at])
        results += measure({name: texts[name] for name in names[at:at + TOGETHER]}, widths)
    return results


def lines_of(results):
    """A line for each finding."""
    return [f"{one['leaf']} {found['row']} at {one['width']} px: {found['wrong']}: {found['text']}"
            for one in results for found in one["found"]]


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.book", description=__doc__)
    parser.add_argument("--page", metavar="NAME", help="only this page, the index and a report")
    parser.add_argument("--width", type=int, action="append", metavar="PIXELS", help=f"instead of {WIDTHS}; may be repeated")
    parser.add_argument("--json", action="store_true", help="print the measurements as JSON")
    parser.add_argument("--axe", action="store_true", help="ask axe-core, light and dark")
    options = parser.parse_args(arguments)
    if chromium() is None:
        parser.error("there is no Chromium: apt-get install chromium")
    if options.axe and axe_script() is None:
        parser.error("there is no axe-core: pip install axe-core-python")
    begun, shown = time.monotonic(), progress_line if sys.stderr.isatty() else None
    results = all_measured(texts_of(options.page), tuple(options.width or WIDTHS), shown, accessible if options.axe else measured)
    if shown:
        progress_cleared()
    lines = lines_of(results)
    looked_at = sum(one["looked_at"] for one in results)
    summary = (f"{counted(len({one['leaf'] for one in results}), 'file')}, {looked_at} pieces of text and signs of formulas looked at in "
               f"{time.monotonic() - begun:.0f} seconds: {len(lines)} wrong")
    print(json.dumps(results) if options.json else "\n".join([*lines, summary]))
    return int(bool(lines))


if __name__ == "__main__":
    sys.exit(main())
