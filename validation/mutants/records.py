"""Verdicts on mutants, as they are kept: one file for each page, and the table that is generated from all."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from validation.certify import PAGES, written

from .mutations import OPERATORS, Mutant, Source

HERE = Path(__file__).parent
RECORDS, REASONS, TABLE = HERE / "records", HERE / "reasons.json", HERE / "table.md"
SCHEMA = "refflow/mutants/1"
TARGET = 0.99
KILLERS = ("golden", "certificate", "laws", "crash", "time", "memory")
HOLES = ("fresh", "edges", "nothing")           # by what a survivor shows
COLUMNS = ("mutants", "golden", "certificate", "laws", "raises", "equivalent", "at fresh", "at edges", "unmeasured")


class Record:
    """The verdicts on one page's mutants, {key: [verdict, by, why]}; empty where the page or the list of mistakes changed."""

    def __init__(self, name, directory=RECORDS):
        self.name, self.path, self.source = name, Path(directory) / f"{name}.json", Source(PAGES[name])
        self.mutants = {mutant.key: mutant for mutant in self.source.mutants()}
        self.head = {"schema": SCHEMA, "page": name, "source": self.source.identity(), "operators": OPERATORS}
        stored = json.loads(self.path.read_text()) if self.path.exists() else {}
        current = all(stored.get(key) == value for key, value in self.head.items())
        self.verdicts = dict(stored["verdicts"]) if current else {}
        self.aside = stored["aside"] if current else {}

    def unjudged(self) -> list[Mutant]:
        return [mutant for key, mutant in self.mutants.items() if key not in self.verdicts]

    def add(self, mutant, found):
        why = [] if found["verdict"] == "killed" else [found["why"]]
        self.verdicts[mutant.key] = [found["verdict"], found["by"], *why]

    def found(self):
        """What another process needs to record the same."""
        return self.head, self.aside, self.verdicts

    def merge(self, found):
        """Record what another process has found, if it is of the same code."""
        head, aside, verdicts = found
        if head != self.head:
            raise RuntimeError(f"{self.name} was judged with another version of its code")
        if verdicts != self.verdicts:
            self.aside, self.verdicts = aside, self.verdicts | verdicts
            self.save()

    def forget(self, alive=False):
        """Drop all verdicts, or those on mutants that were not killed: more points, or sharper laws, may kill them."""
        if self.verdicts:
            self.verdicts = {key: found for key, found in self.verdicts.items() if alive and found[0] == "killed"}
            self.save()

    def save(self):
        """One line for each mutant, in the order of the source."""
        lines = ",\n".join(f"{json.dumps(key)}: {json.dumps(self.verdicts[key])}" for key in self.mutants
                           if key in self.verdicts)
        head = json.dumps(self.head | {"aside": self.aside})
        written(self.path, f'{head[:-1]}, "verdicts": {{\n{lines}}}}}\n')

    def rows(self) -> list:
        return [Row(self.name, self.mutants[key], *verdict) for key, verdict in self.verdicts.items() if key in self.mutants]


@dataclass(frozen=True)
class Row:
    """One verdict; a survivor that a written reason proves to be equivalent is "equivalent" by "proof"."""

    page: str
    mutant: Mutant
    verdict: str
    by: str
    why: str = ""

    def with_reason(self, reasons):
        entry = reasons.get(self.page, {}).get(self.mutant.key)
        if entry is None or self.verdict == "killed":
            return self
        proved = self.verdict == "survived" and entry["proves"] == "equivalent"
        verdict, by = ("equivalent", "proof") if proved else (self.verdict, self.by)
        return Row(self.page, self.mutant, verdict, by, "; ".join(filter(None, (self.why, entry["reason"]))))

    def line(self):
        why = f"   [{self.by}{': ' if self.why else ''}{self.why}]"
        return f"{self.page} line {self.mutant.line}, {self.mutant.key}{why}"


def reasons():
    """{page: {mutant: {"proves": "equivalent" or "nothing", "reason"}}}: what was found out about survivors, by hand."""
    return json.loads(REASONS.read_text())


def rows_of(records):
    known = reasons()
    return [row.with_reason(known) for record in records for row in record.rows()]


def score(rows):
    """Killed among those that are not equivalent; 1 where there are none."""
    counts = Counter(row.verdict for row in rows)
    judged = counts["killed"] + counts["survived"]
    return counts["killed"] / judged if judged else 1.0


def recorded_pages(directory=RECORDS):
    return [name for name in PAGES if (Path(directory) / f"{name}.json").exists()]


# -- what is shown ----------------------------------------------------------------------------------------------------

def counted(rows):
    by_page = {}
    for row in rows:
        by_page.setdefault(row.page, []).append(row)
    return by_page


def columns(rows):
    """The numbers of COLUMNS: killed by what, equivalent, survived where."""
    killed, survived = (Counter(row.by for row in rows if row.verdict == verdict) for verdict in ("killed", "survived"))
    return [len(rows), *(killed[by] for by in KILLERS[:3]), sum(killed[by] for by in KILLERS[3:]),
            sum(row.verdict == "equivalent" for row in rows), *(survived[by] for by in HOLES)]


def recorded_table() -> str:
    """The table of all pages that have a record."""
    records = [Record(name) for name in recorded_pages()]
    return table(rows_of(records), {record.name: len(record.unjudged()) for record in records})


def table(rows, unjudged) -> str:
    """Verdicts to read, with the number of mutants of each page that have none; generated."""
    lines = ["# Mutants", "",
             "Generated by `python -m validation.mutants`: small mistakes planted in each page, one at a time, and what finds",
             "them first: golden points, the certificate, the laws, or an exception (also endless loops and memory).",
             "Equivalent mutants stay within what is allowed at all points of the certificate and at fresh ones, and answer as",
             "the page does at the ends of its sets; or a reason in reasons.json proves it. The score is the part of the",
             "others that is killed. The rest survives: it is seen at fresh points, or at the ends of the sets, though not by",
             "what is checked in; or nothing that golden points and certificate ask meets it.", "",
             f"| page | {' | '.join(COLUMNS)} | not judged | score |", "|---|" + "---:|" * (len(COLUMNS) + 2)]
    for name, mine in [*counted(rows).items(), ("all", rows)]:
        left = sum(unjudged.values()) if name == "all" else unjudged[name]
        lines.append(f"| {name} | {' | '.join(map(str, columns(mine)))} | {left} | {'' if left else f'{score(mine):.1%}'} |")
    for title, verdict in (("Survived", "survived"), ("Equivalent", "equivalent")):
        lines += ["", f"## {title}", ""]
        lines += [f"- `{row.page}` `{row.mutant.key}`" + (f": {row.by}, {row.why}" if row.why else "")
                  for row in rows if row.verdict == verdict]
    return "\n".join(lines) + "\n"


def summary(rows, unjudged):
    """What a terminal shows: counts, then what was not killed."""
    widths = "{:26}" + "{:>12}" * (len(COLUMNS) + 1)
    lines = [widths.format("page", *COLUMNS, "score")]
    for name, mine in [*counted(rows).items(), ("all", rows)]:
        lines.append(widths.format(name, *columns(mine), f"{score(mine):.1%}"))
    for verdict in ("equivalent", "survived"):
        lines += [f"{verdict}: {row.line()}" for row in rows if row.verdict == verdict]
    return "\n".join(lines + ([f"{unjudged} mutants are not judged yet"] if unjudged else []))


def document(rows, unjudged):
    """The same as plain data."""
    pages = {name: dict(zip(COLUMNS, columns(mine))) | {"score": round(score(mine), 4)} for name, mine in counted(rows).items()}
    listed = {verdict: [{"page": row.page, "line": row.mutant.line, "mutant": row.mutant.key, "by": row.by, "why": row.why}
                        for row in rows if row.verdict == verdict] for verdict in ("survived", "equivalent")}
    return {"schema": SCHEMA, "score": round(score(rows), 4), "unjudged": unjudged, "pages": pages} | listed
