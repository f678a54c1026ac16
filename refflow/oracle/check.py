"""The check: refflow's own pages compared with golden truth, or other code with refflow.

Other people's code may err by 16 units; it is not measured where the truth overflows.  At drawn points the truth is
refflow's float64 method, whose own certified error is allowed on top when the code under test is float64 too.  refflow's
own pages may err by what their certificate allows.  A quantity that is not returned is skipped by name; one that raises, or
has the wrong shape, has failed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from ..accuracy.drawing import SIDES, Point
from ..accuracy.formats import FORMATS, format_of, name_of
from ..accuracy.kappa import constant_of
from ..accuracy.quantities import distinct, forward_quantities, inverse_quantities, truth_name
from ..core import Bijector, has_components
from ..core.declarations import Field
from ..core.registry import REGISTRY
from ..core.tree import flatten
from ..core.version import VERSION
from ..typing import Numbers
from .asking.adapter import ACCUMULATION, DTYPES, Adapter, Answers, Raised, Sent, Target, ask, file_of, load
from .asking.exits import no_exit
from .asking.global_state import put_back
from .asking.time_limits import limited
from .judging import asked
from .judging.errors import FAILS, NOT_JUDGED, PASSES, errors_of, place_of
from .judging.steadiness import is_steady, steady_among
from .judging.suggestions import suggestions
from .judging.verdict import KINDS, Finding, Passed, Report, Skipped, kind_of, pasteable
from .naming.diagnosis import diagnose, shape_diagnosis
from .naming.equations import equations
from .naming.layers import first_wrong
from .naming.shrink import complexity, shrunk
from .points import golden
from .points.instances import instance_points
from .points.measures import WITHOUT_MEASURE, Counted, counted
from .points.page_points import (
    LETTER, LOG_DET, VALUE, VJP, Truth, along_tangents, chart_truth, drawn_points, fields_of, is_derivative, names_of_derivatives, parameters_of,
    points_at, run_time_truths, together, with_accumulation, without_structural_zeros)
from .points.pages import CannotRun, bijectors, page_named, spelled
from .points.parametrised import parametrised
from .points.pieces import piecewise_points

ALLOWED = 16.0
CERTIFICATE = Path(__file__).parent / "certificate.json"
UNSTEADY, NOT_ASKED = f"{asked.UNSTEADY} at every point", "it could not be asked"
AS_VALUES = "an inverse given as values is not asked in {}, an inverse given as a function is"
CANDIDATES, MORE = 8, 4     # failing points of each symptom that are kept, to choose the simplest; and worse ones after these
LOOKED_AT = 2**14           # numbers that may be computed to see how far rounding moves the truth at wrong events


def check(target: Target | Iterable[Target | Adapter] | None = None, *, page: str | None = None,
          dtypes: Sequence[DTypeLike] | None = None, parameters: Mapping[str, Numbers] | None = None,
          time_limit: float | None = None, progress: Callable[[int, int, str], object] | None = None,
          executor: Executor | None = None, keep_errors: bool = False) -> Report:
    """Check `target`: None for refflow's own pages; else a file of adapters, the name of a shipped peer, a decorated function.

    `page` and `dtypes` restrict it; refflow's own pages have float32 and float64.  `parameters`, {field: value}, belong
    to somebody's own map: its page is asked at these alone, in place of many.  `time_limit`: the seconds that their code may
    take for each answer, else CannotRun says what was asked; it needs the main thread of a process.
    `progress(done, total, name)` is called before each part.  The parts run on an `executor` of `concurrent.futures`, if one is
    given, and the report is the same; another process can load only a target that is a file or a name.  With `keep_errors` the report
    keeps the worst points in every part of the domain, for pictures.  Raises CannotRun if there is nothing to check.
    """
    if page is not None:
        page = page_named(spelled(page)).__name__
    dtypes = tuple(map(name_of, dtypes if dtypes is not None else DTYPES if target is None else FORMATS))
    if target is None and parameters is not None:
        raise CannotRun("parameters belong to somebody else's map: give the code that is to be checked")
    if target is None:
        return check_own(page, dtypes, progress, executor, keep_errors)
    return check_theirs(target, page, dtypes, (time_limit, parameters), progress, executor, keep_errors)


def add_parts(report, part, arguments, names, progress, executor):
    """Add what each part finds, in their order."""
    run = map if executor is None else executor.map
    show = progress or (lambda *of: None)
    show(0, len(names), names[0])
    for done, found in enumerate(run(part, *zip(*arguments)), 1):
        report.add(found)
        if done < len(names):
            show(done, len(names), names[done])
    return report


def certified() -> dict:
    """{page: {quantity: {dtype: {"C", "allowed"}}}}; empty if no certificate is shipped."""
    return pages_of(CERTIFICATE) if CERTIFICATE.is_file() else {}


@functools.cache
def pages_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["pages"]


# -- refflow's own pages ----------------------------------------------------------------------------------------------

def check_own(page, dtypes, progress, executor, keep_errors):
    if not set(dtypes) <= set(DTYPES):
        raise CannotRun(f"refflow's own pages compute in {' and '.join(DTYPES)}, not in {', '.join(set(dtypes) - set(DTYPES))}")
    names = [page] if page else list(bijectors())
    report = Report("refflow", VERSION)
    add_parts(report, check_page, [(name, dtypes, keep_errors) for name in names], names, progress, executor)
    if page is None:
        report.notes.append(f"{len(names)} of {len(REGISTRY)} pages have golden points, the bijectors without components; the "
                            "certificate measures all of them: python -m validation.certify --check")
    return report.sort()


def check_page(name, dtypes, keep_errors):
    """The part of the report on one of refflow's own pages."""
    report, certificate, points = Report("refflow", VERSION), certified(), golden.own_points(name, dtypes)
    for dtype in dtypes:
        subject = Subject(name, "refflow", dtype, own_answer, own=True, keep_errors=keep_errors)
        chosen = [point for point in points if point.dtype == dtype]
        for point, answers in zip(chosen, own_answers(chosen)):
            asked.add(subject.records, subject, point)
            subject.compare([point], [answers], [point.truth], own_allowance(certificate, name, dtype))
        skip = {} if subject.asked else {"all": "no golden points are shipped for this page"}
        subject.conclude(report, skip)
        report.asked += subject.records.values()
    if name not in certificate:
        report.notes.append(f"{name} has no certificate: 4 units are allowed, and 1/2 for each entry of a sum")
    return report


def own_allowance(certificate, name, dtype):
    return lambda quantity, point: own_allowed(certificate, name, quantity, dtype, point)


def own_answer(point) -> Answers:
    quantities = forward_quantities if point.side == "forward" else inverse_quantities
    return Answers(distinct(quantities(point.f, point.event, point.image_bar, point.log_det_bar)))


def own_answers(points) -> list[Answers]:
    """The answers at points of one page.  Points of one form are asked in one batch, each with its own parameters."""
    groups: dict[tuple, list[int]] = {}
    found: dict[int, Answers] = {}
    for i, point in enumerate(points):
        groups.setdefault(form_of(point), []).append(i)
    for members in groups.values():
        found |= zip(members, answers_in_batch([points[i] for i in members]))
    return [found[i] for i in range(len(points))]


def form_of(point):
    """What points share that can be asked in one batch: their shapes, and every field that is not a parameter."""
    f, params = point.f, point.f.params()
    fields = tuple(np.shape(params[key]) if key in params else plain_form(getattr(f, key)) for key in f.declared)
    return point.side, point.event.shape, point.image_bar is None, fields


def plain_form(value):
    return (value.shape, value.tobytes()) if isinstance(value, np.ndarray) else value


def answers_in_batch(points):
    """The answers of each of several points of one form."""
    first = points[0]
    parts = {key: [getattr(point, key) for point in points] for key in ("event", "image_bar", "log_det_bar")}
    f = first.f.replace(**{key: np.stack([point.f.params()[key] for point in points]) for key in first.f.params()})
    found = own_answer(replace(first, f=f, **{key: None if of[0] is None else np.stack(of) for key, of in parts.items()})).found
    return [Answers(distinct({name: answer[i] for name, answer in found.items()})) for i in range(len(points))]


def own_allowed(certificate, name, quantity, dtype, point):
    """What the certificate allows; without an entry there, the target of the design."""
    entry = certificate.get(name, {}).get(quantity, {}).get(dtype)
    return float(entry["allowed"]) if entry else constant_of(point.f, largest_size(point))


def largest_size(point):
    rank = point.f.event_ndim[SIDES[point.side]]
    return max(1, int(np.prod(point.event.shape[point.event.ndim - rank:])))


# -- somebody else's code ---------------------------------------------------------------------------------------------

@put_back(directory=True)
@np.errstate(all="ignore")
def check_theirs(target, page, dtypes, given, progress, executor, keep_errors):
    target = target.resolve() if isinstance(target, Path) else target
    loaded = load(target)
    chosen = [(i, d) for i, a in enumerate(loaded.adapters) for d in a.dtypes if d in dtypes and page in (None, a.page)]
    if not chosen:
        raise CannotRun(f"{loaded.name} has no adapter for {page or 'any page'} in {' or '.join(dtypes)}")
    sent = Sent(target, loaded, given[0], None if given[1] is None else in_json(loaded, {i for i, _ in chosen}, given[1]))
    arguments = [(sent, *one, keep_errors) for one in chosen]
    names = [f"{loaded.adapters[i].theirs} {d}" for i, d in chosen]
    return add_parts(Report(loaded.name, loaded.version), check_part, arguments, names, progress, executor).sort()


def in_json(loaded, chosen, parameters):
    """Parameters as they are sent, for the one page that is checked."""
    pages = {str(loaded.adapters[i].page) for i in chosen}
    if len(pages) > 1:
        raise CannotRun(f"parameters belong to one page; {loaded.name} has {', '.join(sorted(pages))}: name one")
    if not isinstance(loaded.adapters[min(chosen)].page, str):
        raise CannotRun(f"{pages.pop()} has its own parameters: leave `parameters` out")
    return json.dumps(pasteable({key: np.asarray(value) if isinstance(value, list) and value else value
                                 for key, value in parameters.items()}))


def check_part(sent, index, dtype, keep_errors):
    """The part of the report on one adapter in one dtype; one of many that raises ends its own part alone."""
    report, adapter = Report(sent.loaded.name, sent.loaded.version), sent.adapter(index)
    with no_exit(adapter.theirs, file_of(adapter.function)), limited(sent.time_limit):
        try:
            check_adapter(adapter, dtype, certified(), report, keep_errors)
        except (ValueError, ArithmeticError) as error:                  # CannotRun is a ValueError
            if not is_shipped(adapter):
                raise
            report = Report(sent.loaded.name, sent.loaded.version)
            report.skipped.append(Skipped(adapter.name, adapter.theirs, "all", dtype, f"{NOT_ASKED}: {error}"))
    return report


def is_shipped(adapter):
    """Is it one of refflow's own adapters of a library?  Of a user's, an exception is an error of use."""
    return (adapter.function.__module__ or "").startswith("refflow.peers.")


def check_adapter(adapter, dtype, certificate, report, keep_errors=False):
    """Add everything found of one adapter in one dtype to the report, and what declaration would allow it."""
    before = len(report.failed)
    subject, count, outside = measured(adapter, dtype, certificate, keep_errors)
    if outside:
        report.notes.append(f"{adapter.theirs} {dtype}: {outside} of {count} points are outside the limits that it declares")
    if dtype in golden.NARROW:
        report.notes.append(f"{adapter.theirs} {dtype}: only the {count} points that are exact in {dtype} were asked, one "
                            "event each; drawn points, batches and broadcasting are asked in float32 and float64")
    if subject.wide:
        report.notes.append(f"{adapter.theirs} {dtype}: {', '.join(subject.wide)} of {' and '.join(sorted(set(subject.wide.values())))} "
                            f"came where {dtype} was given; held to the unit of {dtype}")
    subject.conclude(report, {})
    report.asked += subject.records.values()
    report.suggestions += suggestions(adapter, dtype, report.failed[before:],
                                      lambda changed: measured(changed, dtype, certificate)[0].passing())


def measured(adapter, dtype, certificate, keep_errors=False):
    """(everything measured of an adapter in a dtype, the number of its points, how many are outside its limits)."""
    subject, drawn = subject_of(adapter, dtype, keep_errors), list(points_for(adapter, dtype))
    within = [point for point in map(adapter.limited, drawn) if point is not None]
    for points in together(within):
        for point in points:
            asked.add(subject.records, subject, point)
            if point.truth is not None and by_measure(adapter, point) is not point:
                compare_values(subject, adapter, certificate, point)
        points = [by_measure(adapter, point) for point in points]
        for point, answers in zip(points, measure_points(subject, adapter, certificate, points)):
            if answers.values_at_image is not None and point.form:
                subject.reasons |= dict.fromkeys(answers.values_at_image[1], AS_VALUES.format(dtype))
            elif answers.values_at_image is not None:
                subject.compare_round_trip(point, *answers.values_at_image, certificate, adapter)
    return subject, len(drawn), len(drawn) - len(within)


def subject_of(adapter, dtype, keep_errors=False):
    return Subject(adapter.name, adapter.theirs, dtype, lambda point: ask(adapter, point), adapter.flush_to_zero,
                   adapter.chart_gradient, adapter.accumulation, isinstance(adapter.page, Bijector), adapter.event is not None,
                   keep_errors=keep_errors)


def measure_points(subject, adapter, certificate, points):
    """Their answers at some points, compared with the truth."""
    every = [subject.answer(point) for point in points]
    derivatives = any(is_derivative(name) for answers in every for name in answers.found)
    if subject.fixed and not derivatives and points[0].image_bar is not None and not any(map(has_raised, every)):
        subject.asked |= names_of_derivatives(points[0])
        return every                    # the values there were asked before, without cotangents
    try:
        known = subject.truths(points, derivatives)
    except (ValueError, ArithmeticError):
        measure_apart(subject, adapter, certificate, points)
        return every
    for point, answers in zip(points, every):
        subject.wide |= {name: given.dtype.name for name, given in answers.found.items() if is_wider(given, point)}
        subject.asked |= names_of_derivatives(point) if point.truth is None else set()
    subject.compare(points, every, known, lambda q, p: allowed(certificate, adapter.name, q, p))
    return every


def has_raised(answers):
    return any(isinstance(given, Raised) for given in answers.found.values())


def measure_apart(subject, adapter, certificate, points):
    """The same, one part of the points after the other: together they have no truth.  Moved events that leave a stage's set fall out."""
    if len(points) > 1:
        parts = [[point] for point in points]
    elif points[0].lead and len(points[0].event) > 1:
        parts = [[points[0].changed(event=events)] for events in np.array_split(points[0].event, 2)]
    else:
        subject.records[points[0].side].leave_out(asked.LEAVES, 1)
        return
    for part in parts:
        measure_points(subject, adapter, certificate, part)


def is_wider(given, point):
    """Has an answer more digits than what was asked with?"""
    asked = np.dtype(np.float16) if point.form == "float16" else point.dtype
    return isinstance(given, np.ndarray) and given.dtype.kind == "f" and given.dtype.itemsize > asked.itemsize


def compare_values(subject, adapter, certificate, point):
    """Compare what does not depend on a measure with what is recorded: the image and the Jacobian."""
    found = {name: given for name, given in subject.answer(point).found.items() if truth_name(name) in WITHOUT_MEASURE}
    subject.compare([point], [Answers(found)], subject.truths([point]), lambda q, p: allowed(certificate, adapter.name, q, p))


def by_measure(adapter, point):
    """The same question of the page by theirs' measure; what is recorded then has no truth for it."""
    f = counted(point.f, adapter.measure)
    return point if f is point.f else point.changed(f=f)


def points_for(adapter, dtype):
    """Drawn points, the simple ones first, then golden points; for a composite, which is not a page, only drawn points.

    If theirs is a function of the chart, the inverse is only asked at images of refflow's forward: another rounding
    of the entries outside the chart would be a different point to it.
    """
    if adapter.family is not None:
        for f, z in parametrised(adapter.family, dtype):
            yield from points_at(f, z)
        return
    if isinstance(adapter.page, Bijector):
        yield from instance_points(adapter.page, np.dtype(dtype), adapter.event, adapter.broadcast)
        return
    if dtype not in golden.NARROW:
        yield from drawn_points(page_named(adapter.page), np.dtype(dtype), adapter.broadcast)
        yield from piecewise_points(page_named(adapter.page), np.dtype(dtype))
    for point in golden.exact_points(adapter.page, dtype) if dtype in golden.NARROW else golden.points(adapter.page, (dtype,)):
        if point.side == "forward" or not adapter.chart_gradient:
            yield point


def quantities(adapter) -> list[str]:
    """The names of everything that an adapter can be asked for, in order."""
    if adapter.family is not None:
        fields = ["h"]
    elif isinstance(adapter.page, str):
        declared = page_named(adapter.page).declared
        fields = [key for key, one in declared.items() if isinstance(one, Field) and not one.constant]
    else:
        fields = [".".join(path) for path, _ in flatten(adapter.page.params())]
    both = adapter.direction == "forward"
    return ["forward", "log_det", *["jacobian"] * both, *(f"vjp.{name}_bar" for name in ("z", *fields)),
            "inverse", "inverse_log_det", *(f"inverse_vjp.{name}_bar" for name in ("x", *fields))]


def allowed(certificate, name, quantity, point):
    """16 units, of a composition as many as its parts may have together, plus refflow's own error at drawn float64 points."""
    f = point.f
    composed = type(f).__name__ in REGISTRY and has_components(type(f))
    units = max(ALLOWED, constant_of(f, largest_size(point))) if composed else ALLOWED
    if point.truth is not None or point.dtype == np.float32:
        return units
    return units + own_allowed(certificate, name, quantity, "float64", point)


def has_coordinates(point):
    """Are some entries of the image coordinates of its set?  On a sphere none are."""
    return point.f.codomain.coordinates(point.event.shape[point.event.ndim - point.f.event_ndim[1]:]) is not None


def tangents_at(point):
    """Along which the inverse's event cotangents of all functions with the same values on the codomain are the same."""
    f = point.f
    return f.codomain.basis(np.asarray(point.event, np.float64), f.event_ndim[1])


# -- one subject in one dtype -----------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Failure:
    """A quantity that is wrong at one point: C there, the given and the true values; or the message of an exception."""

    point: Point
    quantity: str
    error: float
    allowed: float
    given: object
    truth: Truth | None
    message: str = ""

    @property
    def symptom(self):
        """Failures of one quantity with different symptoms are different findings."""
        if self.message:
            return self.message.split(":")[0]
        given, truth = self.truth.compared(np.asarray(self.given, np.float64))
        if np.isnan(given).any():
            return "NaN"
        if np.isinf(given).any():
            return "infinite"
        return "0" if np.any((given == 0) & (truth.high != 0)) else "another number"


@dataclass(frozen=True)
class Claim:
    """An answer and its truth, with C at each leading index and marks that say where a truth is known."""

    given: np.ndarray
    truth: Truth
    allowed: float
    C: np.ndarray
    known: np.ndarray

    @functools.cached_property
    def wrong(self):
        return self.known & (self.C > self.allowed)

    @functools.cached_property
    def wrong_numbers(self):
        """Marks of the wrong answers all of whose entries are finite."""
        if not self.wrong.any():
            return self.wrong
        return self.wrong & np.isfinite(np.asarray(self.given, np.float64).reshape(len(self.wrong), -1)).all(-1)

    def failure(self, point, name, index):
        """The failure at a leading index, or at the one event."""
        C = float(self.C[index])
        if not point.lead:
            return Failure(point, name, C, self.allowed, self.given, self.truth)
        return Failure(point.single(index), name, C, self.allowed, self.given[index], self.truth.part(index))


def wrong_numbers(claims):
    """{quantity: for each point, marks of the leading indices at which some answer for the quantity is a wrong number}."""
    found = {}
    for i, made in enumerate(claims):
        for name, claim in made.items():
            marks = found.setdefault(truth_name(name), np.full((len(claims), len(claim.wrong)), False))
            marks[i] |= claim.wrong_numbers
    return found


@dataclass
class Subject:
    """Somebody's code for one page in one dtype, and everything measured of it.

    `fixed`: it has parameters of its own; `shaped`: its events have one shape.
    """

    bijector: str
    theirs: str
    dtype: str
    answer: object
    flush_to_zero: bool = False
    chart_gradient: bool = False
    accumulation: str | None = None
    fixed: bool = False
    shaped: bool = False
    own: bool = False
    keep_errors: bool = False
    asked: set = field(default_factory=set)
    best: dict = field(default_factory=dict)
    count: dict = field(default_factory=dict)
    failing: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)
    unjudged: set = field(default_factory=set)
    reasons: dict = field(default_factory=dict)
    kept: dict = field(default_factory=dict)
    wide: dict = field(default_factory=dict)
    records: dict = field(default_factory=dict)

    def truths(self, points, derivatives=True):
        """Of each point, recorded or at run time."""
        known = [point.truth for point in points]
        found = run_time_truths(points, derivatives) if known == [None] * len(points) else known
        return [self.as_claimed(point, dict(truths.items()), derivatives) for point, truths in zip(points, found)]

    def as_claimed(self, point, truths, derivatives):
        """The inverse's event cotangent along the set if theirs is one in the chart, or another extension; in their accumulation."""
        if self.chart_gradient and point.side == "inverse":
            own = truths.pop("inverse_vjp.x_bar", None)
            if point.truth is None and point.image_bar is not None and derivatives:
                known = chart_truth(point) if has_coordinates(point) else {"inverse_vjp.x_bar": own}
                truths |= {name: along_tangents(truth, tangents_at(point), point.format.unit) for name, truth in known.items()}
        if self.accumulation:
            truths = with_accumulation(point, truths, ACCUMULATION[self.accumulation])
        return truths if self.own else without_structural_zeros(point, truths)

    def compare(self, points, answers, truths, allowance):
        """Compare every answer at one point, or at several that are alike, with its truth."""
        claims = [self.claims(*of, allowance) for of in zip(points, answers, truths)]
        for point, made, judged in zip(points, claims, self.judged(points, claims)):
            for name, claim in made.items():
                self.count_claim(point, name, claim, *judged[name])

    def claims(self, point, answers, truths, allowance):
        """{name: Claim} of the answers at a point that are compared; what raised, or has another shape, has failed."""
        self.asked |= set(truths)
        beyond, found = not self.own and (self.overflows(point, truths) or misshapen(point, answers, truths)), {}
        for name, given in answers.found.items():
            quantity, units = truth_name(name), allowance(name, point)
            truth = truths[quantity] if quantity in truths else None
            if beyond and quantity.startswith(VJP[point.side] + "."):
                continue                # a cotangent at an infinity, or of another shape, has no truth
            if isinstance(given, Raised):
                self.add(name, 1, 1)
                self.fail(Failure(point, name, np.inf, units, None, truth, "raised " + given.message))
            elif truth is not None and given.shape != truth.high.shape:
                self.add(f"{name} shape", 1, 1)
                message = shape_diagnosis(point, name, given, truth)
                self.fail(Failure(point, f"{name} shape", np.inf, units, given, truth, message))
            elif truth is not None:
                found[name] = Claim(given, truth, units, *self.errors(point, given, truth))
        return found

    def overflows(self, point, truths):
        image = truths.get(VALUE[point.side])
        return image is not None and not image.representable(point.format).all()

    def judged(self, points, claims):
        """For each point, {name: (marks of the leading indices at which its answer counts, marks of those that are not examined)}.

        A wrong number does not count where rounding may move the truth far.  Once enough are known to be wrong, others are not examined.
        """
        if self.own:
            return [{name: (claim.known, False) for name, claim in made.items()} for made in claims]
        judges, over = self.where_kappa_judges(points, claims)

        def marks(i, quantity, claim):
            return claim.known & (~claim.wrong_numbers | judges[quantity][i]), claim.wrong_numbers & over[quantity][i]

        return [{name: marks(i, truth_name(name), claim) for name, claim in made.items()} for i, made in enumerate(claims)]

    def where_kappa_judges(self, points, claims):
        """Two dictionaries {quantity: for each point, marks}: where a wrong number counts as wrong, and where it is not examined."""
        if points[0].truth is not None:
            marks = {truth_name(name): [claim.truth.first_order] for name, claim in claims[0].items()}
            return marks, {name: [False] for name in marks}
        wrong = {quantity: marks.ravel() for quantity, marks in wrong_numbers(claims).items()}
        most = {quantity: self.most_looked_at(points[0], quantity) for quantity in wrong}
        return ({quantity: marks.reshape(len(points), -1) for quantity, marks in found.items()}
                for found in steady_among(points, wrong, most))

    def most_looked_at(self, point, quantity):
        """How many more wrong events of a quantity are asked how far rounding moves their truth: of a dear map, a few in all."""
        entries = point.event[0].size if point.lead else point.event.size
        known = max((failing for name, failing in self.failing.items() if truth_name(name) == quantity), default=0)
        return max(0, max(CANDIDATES, LOOKED_AT // max(1, entries * (entries + parameters_of(point)))) - known)

    def count_claim(self, point, name, claim, judged, unexamined):
        """Count an answer where it is judged, and keep its failures."""
        wrong, known, C = claim.wrong, claim.known, claim.C
        if point.side in self.records:
            self.records[point.side].leave_out(asked.UNSTEADY, (known & ~judged & ~np.asarray(unexamined)).sum())
            self.records[point.side].leave_out(asked.ENOUGH, np.sum(known & unexamined))
            self.records[point.side].leave_out(asked.OVERFLOWS, (~known).sum())
        if self.keep_errors:
            self.keep(point, name, C, claim.allowed, known, judged)
        if not judged.any():
            self.unjudged |= {name} if known.any() else set()
            return
        self.add(name, judged.sum(), (wrong & judged).sum())
        passing = float(C.max(where=judged & ~wrong, initial=0.0))
        C_before, allowed_before = self.best.get(name, (0.0, claim.allowed))
        if not wrong[judged].all() and passing / claim.allowed >= C_before / allowed_before:
            self.best[name] = passing, claim.allowed
        for index in np.argsort(-C, kind="stable"):
            if wrong[index] and judged[index]:
                self.fail(claim.failure(point, name, index))

    def add(self, name, points, failing):
        """Count the points at which a quantity was judged, and at how many of them it failed."""
        self.count[name] = self.count.get(name, 0) + int(points)
        self.failing[name] = self.failing.get(name, 0) + int(failing)

    def keep(self, point, name, C, allowance, known, judged):
        kept = self.kept.setdefault(name, errors_of(self, name, point))
        for index in np.flatnonzero(known):
            verdict = NOT_JUDGED if not judged[index] else FAILS if C[index] > allowance else PASSES
            place = place_of(kept, point.event[index] if point.lead else point.event)
            kept.keep(place, float(C[index]), allowance, verdict, case_text(point))

    def errors(self, point, given, truth):
        """(C, known) for each leading index, or for the one event; C is 0 where no truth is known."""
        C, known = truth.error(given, point.format, self.flush_to_zero), truth.known()
        if not self.own:
            known = known & truth.representable(point.format)
        if C.shape != known.shape:
            known = known.all(axis=tuple(range(C.ndim, known.ndim)))
        C = np.where(known, C, 0.0)
        if not point.lead:
            return np.array([C.max(initial=0.0)]), np.array([known.any()])
        count = point.event.shape[0]
        return C.reshape(count, -1).max(-1, initial=0.0), known.reshape(count, -1).any(-1)

    def fail(self, failure):
        """Keep a failure, a few of each symptom."""
        alike = self.failures.setdefault(failure.quantity, {}).setdefault(failure.symptom, [])
        if len(alike) < CANDIDATES * MORE and (len(alike) < CANDIDATES or failure.error > alike[-1].error):
            alike.append(failure)

    def compare_round_trip(self, point, image, values, certificate, adapter):
        """An inverse given as values belongs to the image that theirs returned."""
        side = {"forward": "inverse", "inverse": "forward"}[point.side]
        image = image.astype(point.dtype, copy=False)
        where, rank = (point.f.domain, point.f.codomain)[SIDES[side]], point.f.event_ndim[SIDES[side]]
        try:
            if not np.all(where.members(image, rank)) or not np.isfinite(image).all():
                return
            again = point.changed(side=side, event=image, image_bar=None, log_det_bar=None)
            truths = self.truths([again])
        except ValueError:
            return                      # a wrong image is the forward quantity's failure
        self.compare([again], [Answers(values)], truths, lambda q, p: allowed(certificate, adapter.name, q, p))

    # -- the verdict ---------------------------------------------------------------------------------------------------

    def conclude(self, report, skip):
        for name, by_symptom in self.failures.items():
            report.failed += self.findings(name, [failures for failures in by_symptom.values() if failures])
        for name in self.passing():
            report.passed.append(Passed(self.bijector, self.theirs, name, self.dtype, *self.best[name], self.count[name]))
        shapes = {name.removesuffix(" shape") for name in self.failures}
        missing = [name for name in sorted(self.asked, key=in_order) if name not in self.best and name not in shapes]
        for name in skip or missing:
            reason = skip.get(name, UNSTEADY if name in self.unjudged else self.reasons.get(name, "not returned"))
            report.skipped.append(Skipped(self.bijector, self.theirs, name, self.dtype, reason))
        report.errors += self.kept.values()

    def passing(self):
        """The names of the quantities that were measured and never failed."""
        return [name for name in self.best if not {name, f"{name} shape"} & set(self.failures)]

    def findings(self, name, groups):
        """One finding for each symptom; of two that are explained alike, the worse."""
        found = sorted((self.finding(name, failures) for failures in groups), key=lambda one: -one.worst)
        explained = {}
        for one in found:
            explained.setdefault(one.diagnosis or id(one), one)
        return list(explained.values())

    def finding(self, name, failures):
        chosen, worst = self.chosen(failures), max(failures, key=lambda f: f.error)
        more = None if self.own or chosen.point.form else self.answer
        diagnosis = chosen.message or diagnose(chosen, failures, more)
        point, (layer, page) = chosen.point, self.layer(chosen, failures)
        true = None if chosen.truth is None else rounded(chosen.truth.high, self.dtype)
        given = None if chosen.given is None else np.asarray(chosen.given)
        return Finding(self.bijector, self.theirs, name, self.dtype, chosen.error, chosen.allowed,
                       max(chosen.error, worst.error), conditioning(chosen), pasteable(point.event),
                       pasteable(fields_of(point.f)), pasteable(given), pasteable(true), case_text(point), diagnosis,
                       cotangents_of(point, name), self.count[name], self.failing[name], page.__name__,
                       equations(page, name), layer)

    def layer(self, chosen, failures):
        """(the first wrong stage of a chain in words, "" where it is not known; the page whose equations are concerned)."""
        found = None if self.own else first_wrong(chosen, failures, self.answer, chosen.allowed)
        f = chosen.point.f
        return ("", type(f.page if isinstance(f, Counted) else f)) if found is None else (found.text, found.page)

    def chosen(self, failures):
        """The simplest failure.

        Among wrong numbers: one that costs half of the digits, if there is one, and that is infinite if the worst is.
        """
        worst = max(failures, key=lambda f: f.error)
        if self.own or failures[0].point.form:      # the truth at other points would be its own answer, or is not known there
            return min(failures, key=lambda f: complexity(f.point))
        if failures[0].given is not None and failures[0].message:
            return failures[0]                      # a wrong shape is the same everywhere: the first point is the simplest
        half = format_of(self.dtype).unit ** -0.5
        threshold = np.inf if np.isinf(worst.error) else min(worst.error, float(half))
        clear = [self.narrowed(f) for f in failures if f.error >= threshold]
        return shrunk(clear, threshold, self.again, self.fixed)

    def narrowed(self, failure):
        """In a batch that made theirs raise, the first event that does so alone."""
        point = failure.point
        alone = (self.again(point.single(i), failure) for i in range(len(point.event) if point.lead else 0))
        return next((f for f in alone if f is not None), failure)

    def again(self, point, failure, threshold=0):
        """The same kind of failure, a number or an exception, at another point, or None; its truth is computed at run time.

        `threshold`: the least error that counts as a failure.
        """
        name = failure.quantity
        if self.shaped and point.event.shape != failure.point.event.shape:
            return None
        given = self.answer(point).found.get(name)
        if isinstance(given, Raised) != bool(failure.message) or not isinstance(given, (Raised, np.ndarray)):
            return None                 # before the truth, which may take long
        try:
            truths, = self.truths([point], is_derivative(name))
        except ValueError:
            return None
        truth = truths.get(truth_name(name))
        if name.startswith(VJP[point.side] + ".") and not self.own and self.overflows(point, truths):
            return None
        if failure.message:
            return Failure(point, name, np.inf, failure.allowed, None, truth, "raised " + given.message)
        if truth is None or given.shape != truth.high.shape:
            return None
        C, known = self.errors(point, given, truth)
        if not known.all() or not C[0] > failure.allowed or C[0] < threshold:
            return None
        found = Failure(point, name, float(C[0]), failure.allowed, given, truth)
        if found.symptom != failure.symptom:
            return None
        number = not self.own and found.symptom in ("another number", "0")
        return None if number and not is_steady(point, truth_name(name)) else found


def cotangents_of(point, name):
    """The cotangents that a pullback's failure needs, by name."""
    if not name.startswith((VJP["forward"], VJP["inverse"])) or point.image_bar is None:
        return {}
    image = LETTER["inverse" if point.side == "forward" else "forward"]
    return {f"{image}_bar": pasteable(point.image_bar), "log_det_bar": pasteable(point.log_det_bar)}


def misshapen(point, answers, truths):
    """Has the image or its log-det another shape?"""
    names = [name for name in (VALUE[point.side], LOG_DET[point.side]) if name in truths]
    given = [(answers.found.get(name), truths[name].high.shape) for name in names]
    return any(isinstance(a, np.ndarray) and a.shape != shape for a, shape in given)


@np.errstate(over="ignore")
def rounded(true, dtype):
    return format_of(dtype).rounded(true) if dtype in golden.NARROW else true.astype(dtype)


def conditioning(failure):
    """kappa/|q| of the worst entry."""
    truth = failure.truth
    if truth is None or not truth.conditioning.size:
        return np.nan
    return float(np.max(truth.conditioning, initial=0.0, where=~np.isnan(truth.conditioning)))


def case_text(point):
    return ": ".join(part for part in (point.case, point.reason) if part)


def in_order(name):
    """Quantities in a page's order."""
    return KINDS.index(kind_of(name)), name
