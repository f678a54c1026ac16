"""What a check found: a report of passes, findings and skipped quantities, as a table and as JSON."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ...accuracy.quantities import truth_name
from ...core.version import VERSION
from ...report import aligned, counted, json_text, number, shortened
from .asked import lines as asked_lines

SCHEMA = "refflow/report/3"
LONG = 400                  # characters of an array in a table; the JSON has all of them
MANY = 24                   # entries of an array of which a table shows one
MOST = 6                    # subjects whose ranges of events a table shows
KINDS = ("forward", "log_det", "jacobian", "vjp", "inverse", "inverse_log_det", "inverse_vjp")


@dataclass(frozen=True)
class Finding:
    """One quantity that is wrong: the simplest input found that shows it, and the value given there.

    `error` is C at that input, `worst` the largest C seen anywhere, `conditioning` kappa/|q|.  The quantity was judged at
    `points` points and fails at `failing` of them.  `equations` are the numbers of the equations of `page` that state it;
    `layer` is the first wrong stage of a chain, where it is known.
    """

    bijector: str
    theirs: str
    quantity: str
    dtype: str
    error: float
    allowed: float
    worst: float
    conditioning: float
    input: object
    params: dict
    given: object
    true: object
    case: str
    diagnosis: str
    cotangents: dict = field(default_factory=dict)
    points: int = 0
    failing: int = 0
    page: str = ""
    equations: tuple = ()
    layer: str = ""


@dataclass(frozen=True)
class Passed:
    """One quantity whose largest error over all points is allowed."""

    bijector: str
    theirs: str
    quantity: str
    dtype: str
    error: float
    allowed: float
    points: int


@dataclass(frozen=True)
class Skipped:
    """One quantity that was not measured, and why."""

    bijector: str
    theirs: str
    quantity: str
    dtype: str
    reason: str


@dataclass(frozen=True)
class Suggestion:
    """A declaration under which all findings of one quantity, `findings` of them, would be allowed: it was judged again so."""

    theirs: str
    quantity: str
    dtype: str
    declaration: str
    findings: int

    def is_of(self, found):
        return (self.theirs, self.quantity, self.dtype) == (found.theirs, found.quantity, found.dtype)

    def __str__(self):
        these = "this finding" if self.findings == 1 else f"these {self.findings} findings"
        return f"{self.theirs} {self.quantity} {self.dtype}: declared with {self.declaration}, {these} would be allowed"


@dataclass
class Report:
    """Everything a check found, worst first.

    `version` is the target's, "" if its file names none.  `asked` holds the ranges of events, and how many answers were left
    out.  `errors` holds the errors over the domain where the check was asked to keep them; it is not part of the JSON.
    """

    target: str
    version: str
    passed: list[Passed] = field(default_factory=list)
    failed: list[Finding] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    suggestions: list[Suggestion] = field(default_factory=list)
    errors: list = field(default_factory=list)
    asked: list = field(default_factory=list)

    @property
    def status(self) -> int:
        """The exit status: 0 if everything passes, 1 if something is found, 2 if nothing could be measured."""
        return 1 if self.failed else 0 if self.passed else 2

    def add(self, part):
        """Add what a part of the same check found."""
        for kind in ("passed", "failed", "skipped", "notes", "suggestions", "errors", "asked"):
            getattr(self, kind).extend(getattr(part, kind))

    def sort(self):
        self.failed.sort(key=lambda found: (-severity(found), extremity(found), found.theirs, found.quantity, found.dtype))
        return self

    def to_json(self) -> str:
        kinds = ("passed", "failed", "skipped", "suggestions")
        entries = {kind: [vars(entry) for entry in getattr(self, kind)] for kind in kinds}
        return json_text({"schema": SCHEMA, "target": self.target, "version": self.version, "refflow": VERSION, **entries,
                          "notes": self.notes, "asked": [one.as_dict() for one in self.asked]})

    def table(self) -> str:
        """For people: findings with their input, then one row for each subject and dtype, then a summary of a few lines."""
        parts = [finding_text(found) for found in self.failed if found not in self.repeated()]
        parts += [aligned(self.rows()), "\n".join(self.summary())]
        return "\n\n".join(parts)

    def explained(self) -> dict:
        """{declaration in words: findings that it would allow}, where it would allow several of one subject in a dtype."""
        groups: dict[tuple[str, str, str], list[Finding]] = {}
        for one in self.suggestions:
            found = [finding for finding in self.failed if one.is_of(finding)]
            groups.setdefault((one.theirs, one.dtype, one.declaration), []).extend(found)
        return {f"{theirs} {dtype}: declared with {declaration}, these {len(found)} findings would be allowed: "
                f"{', '.join(dict.fromkeys(f.quantity for f in found))}": found
                for (theirs, dtype, declaration), found in groups.items() if len({f.quantity for f in found}) > 1}

    def repeated(self) -> list:
        """The findings that a declaration explains, except the first of each, which shows what it is."""
        return [found for group in self.explained().values() for found in group[1:]]

    def markdown(self) -> str:
        """For a README: a row for each map, with the largest error of each kind of quantity, and the verdict."""
        met = {kind_of(one.quantity) for one in self.passed} | {kind_of(one.quantity) for one in self.failed}
        kinds = [kind for kind in KINDS if kind in met]
        rows = [("library", "version", "map", "dtype", *kinds, "verdict")]
        for name, dtype, entries in self.subjects():
            verdict = counted(sum(isinstance(e, Finding) for e in entries), "finding") if has_failed(entries) else \
                "passes" if any(isinstance(e, Passed) for e in entries) else "not measured"
            cells = (bold_cell([e for e in entries if kind_of(e.quantity) == kind]) for kind in kinds)
            rows.append((Path(self.target).name, self.version or "-", f"`{name}`", dtype, *cells, verdict))
        lines = [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]
        lines.insert(1, f"| {' | '.join(['---'] * len(rows[0]))} |")
        head = f"Largest errors in units of rounding, measured by refflow {VERSION}; **bold** where more than allowed."
        return "\n".join([head, "", *lines, "", *list(self.summary())[:1]])

    def subjects(self):
        """(name, dtype, entries) of each subject, in the order in which the subjects were met."""
        found = {}
        for entry in (*self.passed, *self.failed, *self.skipped):
            name = entry.bijector if entry.theirs == "refflow" else last_name(entry.theirs)
            found.setdefault((name, entry.dtype), []).append(entry)
        order = list(dict.fromkeys(name for name, _ in found))
        for (name, dtype), entries in sorted(found.items(), key=lambda row: (order.index(row[0][0]), row[0][1])):
            yield name, dtype, entries

    def rows(self):
        """The largest error of each kind of quantity: a number of units, FAIL, or - if nothing was measured."""
        yield ("units of error", "dtype", *KINDS)
        for name, dtype, entries in self.subjects():
            yield (name, dtype, *(cell([entry for entry in entries if kind_of(entry.quantity) == kind]) for kind in KINDS))

    def summary(self):
        name = f"{self.target} {self.version}" if self.version else f"{self.target}, by refflow {VERSION}"
        head = f"{name}: {len(self.passed)} checks pass, {len(self.failed)} fail"
        yield head + (f", {len(self.skipped)} quantities skipped" if self.skipped else "")
        worst = max(self.passed, key=lambda p: p.error / p.allowed, default=None)
        if worst is not None:
            yield (f"largest error that passes: {number(worst.error)} of {number(worst.allowed)} units "
                   f"({worst.theirs if worst.theirs != 'refflow' else worst.bijector} {worst.quantity}, {worst.dtype})")
        yield from (f"skipped, {reason}: {names}" for names, reason in grouped(self.skipped))
        groups = self.explained()
        alone = [one for one in self.suggestions if not any(one.is_of(found) for group in groups.values() for found in group)]
        yield from (f"suggestion: {suggestion}" for suggestion in (*groups, *alone))
        yield from asked_lines(self.asked, MOST)
        yield from (f"note: {note}" for note in self.notes)


def kind_of(quantity):
    """The column of a quantity."""
    return truth_name(quantity.removesuffix(" shape")).split(".")[0]


def last_name(dotted):
    """"package.module.Class(Weibull) [dim=-1]" without the package and the module."""
    return dotted[dotted.split("(")[0].split(" ")[0].rfind(".") + 1:]


def has_failed(entries):
    return any(isinstance(entry, Finding) for entry in entries)


def bold_cell(entries):
    """The cell of a table in Markdown: a failure with its largest error."""
    if not has_failed(entries):
        return cell(entries)
    return f"**{number(max(severity(entry) for entry in entries if isinstance(entry, Finding)))}**"


def cell(entries):
    if has_failed(entries):
        return "FAIL"
    errors = [entry.error for entry in entries if isinstance(entry, Passed)]
    return number(max(errors)) if errors else "-"


def severity(found):
    """Findings without a number of units (a wrong shape, an exception) are listed with the infinite ones."""
    return found.worst if not np.isnan(found.worst) else np.inf


def extremity(found):
    """How far the input's and the parameters' numbers are from 1, in decades: of two findings, the nearer one is worse."""
    numbers = [abs(v) for v in leaves([found.input, found.params]) if isinstance(v, float) and np.isfinite(v) and v]
    return max((abs(float(np.log10(v))) for v in numbers), default=0.0)


def leaves(value):
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, (list, tuple)) else [value]


def grouped(skipped):
    """[(names, reason)]: the quantities skipped for one reason, with the subjects that lack them if these are few."""
    groups = {}
    for s in skipped:
        groups.setdefault(s.reason, {}).setdefault(s.quantity, {})[s.theirs] = None
    for reason, quantities in groups.items():
        names = [f"{quantity} ({', '.join(theirs) if len(theirs) <= 2 else f'{len(theirs)} subjects'})"
                 for quantity, theirs in quantities.items()]
        yield ", ".join(names), reason


def finding_text(found):
    title = f"{found.theirs}  {found.quantity}  {found.dtype}"
    lines = [f"FAIL  {title}   error {number(found.error)} units, allowed {number(found.allowed)}"
             + (f", worst seen {number(found.worst)}" if found.worst != found.error else "")
             + f", wrong at {found.failing} of {counted(found.points, 'point')}"]
    where = "; ".join(part for part in (found.case, equations_text(found)) if part)
    lines += [f"      {word:<14}{text}" for word, text in (("diagnosis", found.diagnosis), ("layer", found.layer)) if text]
    shown = {"input": found.input, "params": found.params} | ({"cotangents": found.cotangents} if found.cotangents else {})
    lines += [f"      {word:<14}{shortened(str(value), LONG)}" for word, value in (shown | at_the_worst_entry(found)).items()]
    lines += [f"      kappa/|q|     {number(found.conditioning)}", f"      case          {where}"]
    return "\n".join(lines)


@np.errstate(all="ignore")
def at_the_worst_entry(found):
    """The given and the true value; of arrays of many entries, those at the entry where they are farthest apart."""
    given, true = (np.asarray(value) for value in (found.given, found.true))
    if given.shape != true.shape or given.size <= MANY or given.dtype.kind not in "fi" or true.dtype.kind not in "fi":
        return {"given": found.given, "true": found.true}
    apart = np.where(given == true, 0, np.abs(given - true))
    at = tuple(map(int, np.unravel_index(int(np.argmax(np.where(np.isnan(apart), np.inf, apart))), given.shape)))
    return {name: f"{value[at].item()!r} at entry {at} of {given.shape}" for name, value in (("given", given), ("true", true))}


def equations_text(found):
    """The equations that state the quantity: "equations (4) (5) of Tanh"."""
    numbers = " ".join(f"({n})" for n in found.equations)
    return f"equation{'s' * (len(found.equations) > 1)} {numbers} of {found.page}" if numbers else ""


def pasteable(value):
    """Arrays as nested lists of the shortest decimals that give the same bits back in their dtype."""
    if isinstance(value, dict):
        return {k: pasteable(v) for k, v in value.items()}
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.asarray(value)
        if array.dtype == np.float32:
            return np.array([float(str(v)) for v in array.ravel()], np.float64).reshape(array.shape).tolist()
        return array.tolist()
    return list(value) if isinstance(value, tuple) else value
