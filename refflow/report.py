"""What several commands print: tables, numbers, parameters, log-likelihoods, certificates, progress.

The JSON is standard: numbers that are not finite are the strings "inf", "-inf" and "nan".
"""

from __future__ import annotations

import json
import shutil
import sys
import textwrap

import numpy as np

from .core.declarations import Child, Field
from .maps.dequantisation import bits_per_dim

DTYPES = ("float64", "float32")
MEASURES = {"nats": "nats", "bits_per_dim": "bits/dim"}
PARAMETER = ("parameter", "shape", "constraint", "default")
PARTS = {"train": "to train", "validation": "held out", "test": "to test"}
DENSITIES = {"before": "before", "after": "after", "gaussian": "a Gaussian"}


# -- words ------------------------------------------------------------------------------------------------------------

def aligned(rows):
    """Rows of text in columns."""
    rows = list(rows)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in rows)


def columns() -> int:
    """The width of the terminal; 100 where the output goes elsewhere, unless the environment's COLUMNS says another number."""
    return shutil.get_terminal_size((100, 24)).columns


def fitted(rows, width):
    """(rows of text with as many of their first columns as the width holds, the first rows' cells that are left out).

    A column is there whole, or not at all; the first one always is there.
    """
    rows = list(rows)
    count = next((n for n in range(len(rows[0]), 1, -1) if longest(aligned(row[:n] for row in rows)) <= width), 1)
    return aligned(row[:count] for row in rows), rows[0][count:]


def longest(text):
    """The length of its longest line."""
    return max(map(len, text.splitlines()))


def wrapped(line, width):
    """The line, broken at its spaces where it is longer than the width; further lines have four spaces more in front."""
    indent = line[:len(line) - len(line.lstrip())]
    return textwrap.fill(line, max(width, 40), subsequent_indent=f"{indent}    ", break_long_words=False, break_on_hyphens=False)


def number(value):
    """A short decimal, for people to read."""
    if not np.isfinite(value):
        return str(float(value))
    return f"{value:.3g}"


def magnitude(value):
    """One digit and a power of ten, for people to read."""
    return f"{value:.0e}".replace("e+0", "e").replace("e+", "e")


def counted(n, word):
    """"1 row", "2 rows"."""
    return f"{n} {word}{'s' * (n != 1)}"


def column_text(names, j):
    """"column 2", "column 2 ('height')"."""
    return f"column {j + 1}" + (f" ({names[j]!r})" if names else "")


LONG = 120                  # characters of an array in a text; a longer one is shown by its first numbers


def shortened(text, longest=LONG):
    """A text whose long arrays, in brackets, are shown by their first numbers and their count."""
    found, at = [], 0
    while (start := text.find("[", at)) >= 0:
        end = closing(text, start)
        whole = text[start:end]
        found += [text[at:start], whole if len(whole) <= longest else beginning_of(whole, longest)]
        at = end
    return "".join(found) + text[at:]


def closing(text, start):
    """Where the bracket at `start` is closed."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"[": 1, "]": -1}.get(text[i], 0)
        if not depth:
            return i + 1
    return len(text)


def beginning_of(array, longest):
    """The first numbers of an array as a text, and how many there are."""
    cut = array[:longest].rfind(", ")
    kept = array[:cut if cut > 0 else longest]
    opened = kept.count("[") - kept.count("]")
    return f"{kept}, ...{']' * opened} ({array.count(',') + 1} numbers)"


# -- parameters -------------------------------------------------------------------------------------------------------

def parameters(page):
    """A row of PARAMETER for each declared field of a page."""
    rows = []
    for key, declared in page.declared.items():
        if isinstance(declared, Field):
            shape = f"({', '.join(map(str, declared.shape))}{',' if len(declared.shape) == 1 else ''})"
            default = f"{declared.default:g}" if declared.default is not None else "None" if declared.optional else ""
            rows.append((key, shape, declared.set.rule, default))
        elif isinstance(declared, Child):
            rows.append((key, "", "components" if declared.many else f"a {annotation(page, key)}", ""))
        else:
            rows.append((key, "", "plain value", repr(getattr(page, key, ""))))
    return rows


def annotation(page, key):
    """The type that a page annotates a field with."""
    return next(found[key] for cls in page.__mro__ if key in (found := vars(cls).get("__annotations__", {})))


# -- JSON -------------------------------------------------------------------------------------------------------------

def plain(value):
    """The value with strings in place of numbers that are not finite, lists in place of tuples."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, float) and not np.isfinite(value):
        return str(value)
    return value


def json_text(value, indent=1):
    return json.dumps(plain(value), indent=indent, allow_nan=False)


# -- log-likelihoods --------------------------------------------------------------------------------------------------

def likelihood(log_prob, size):
    """Mean log-likelihood of events of `size` entries: in nats for an event, in bits for an entry."""
    mean = float(np.mean(log_prob))
    return {"nats": mean, "bits_per_dim": float(bits_per_dim(mean, size, bins=1))}


def loss_in(measure, size):
    """A function that formats a loss, the mean -log p of events of `size` entries, in a measure."""
    return lambda loss: f"{likelihood(-loss, size)[measure]:.4f} {MEASURES[measure]}"


def parts_text(sizes, word):
    """"455 rows to train, 57 held out", of {part: how many}."""
    return ", ".join(f"{counted(n, word) if name == 'train' else n} {PARTS[name]}" for name, n in sizes.items())


def likelihood_table(found, measures):
    """A row for each density, and columns for the parts of the data, in each of `measures`; at most 80 characters wide.

    `found`: {"before", "after", "gaussian": {part: a likelihood or None}, "gain": {part: {"nats", "error"} or None}}.
    """
    parts = list(found["after"])
    heads = [MEASURES[measure] for measure in measures]
    single = len(measures) == 1
    rows = [[heads[0] if single else "log-likelihood", *(PARTS[part] if single else part for part in parts)]]
    rows += [] if single else [["", *[abreast(heads)] * len(parts)]]
    for key, name in DENSITIES.items():
        each = [found[key][part] for part in parts]
        rows.append([name, *("-" if one is None else abreast([f"{one[measure]:.3f}" for measure in measures]) for one in each)])
    if "nats" in measures:
        rows.append(["gain over it", *(gain_text(found["gain"][part]) for part in parts)])
    return aligned(rows)


def abreast(cells):
    """Numbers of one part, each but the last padded to the width of a column."""
    *first, last = cells
    return "".join(f"{cell:<10}" for cell in first) + last


def gain_text(gain):
    return "-" if gain is None or gain["error"] is None else f"{gain['nats']:.3f} +- {gain['error']:.3f}"


# -- certificates -----------------------------------------------------------------------------------------------------

def certificate_table(quantities):
    """The error of each quantity of a page and the allowed error, in units of rounding, for each dtype; "" for no quantity."""
    rows = [("certificate", *DTYPES)]
    for quantity, dtypes in quantities.items():
        cells = [f"{number(dtypes[d]['C'])} of {number(dtypes[d]['allowed'])}" if d in dtypes else "" for d in DTYPES]
        rows.append((quantity, *cells))
    return aligned(rows) if quantities else ""


def largest_error(quantities):
    """The largest certified error of a page, in units of rounding; "-" if none is certified."""
    errors = [entry["C"] for dtypes in quantities.values() for entry in dtypes.values()]
    return number(max(errors)) if errors else "-"


# -- progress ---------------------------------------------------------------------------------------------------------

def progress_line(done, total, name):
    """Show a command's progress on the terminal, replacing the previous line."""
    print(f"\r\033[K{done + 1}/{total} {name}", end="", file=sys.stderr, flush=True)


def progress_cleared():
    print("\r\033[K", end="", file=sys.stderr, flush=True)
