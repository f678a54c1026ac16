"""The check: refflow's own pages compared with golden truth, or other code with refflow.

Other people's code may err by 16 units; it is not measured where the truth overflows.  At drawn points the truth is
refflow's float64 method, whose own certified error is allowed on top when the code under test is float64 too.  refflow's
own pages may err by what their certificate allows.  A quantity that is not returned is skipped by name; one that raises, or
has the wrong shape, has failed.
"""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..accuracy.drawing import SIDES, Point
from ..accuracy.kappa import constant_of
from ..accuracy.quantities import distinct, forward_quantities, inverse_quantities, truth_name
from ..core import Bijector
from ..core.declarations import Field
from ..core.registry import REGISTRY
from ..core.tree import flatten
from ..core.version import VERSION
from . import golden
from .adapter import DTYPES, Answers, Raised, ask, load
from .diagnosis import diagnose, shape_diagnosis
from .pages import CannotRun, bijectors, page_named
from .parametrised import parametrised
from .points import (LETTER, LOG_DET, VALUE, VJP, Truth, chart_truth, composite_points, drawn_points, points_at,
                     fields_of, run_time_truth, steady, without_structural_zeros)
from .shrink import complexity, shrunk
from .verdict import KINDS, Finding, Passed, Report, Skipped, kind_of, pasteable

ALLOWED = 16.0
CERTIFICATE = Path(__file__).parent / "certificate.json"
CANDIDATES, MORE = 8, 4     # failing points of each symptom that are kept, to choose the simplest; and worse ones after these


def check(target=None, *, page=None, dtypes=None, progress=None) -> Report:
    """Check `target`: None for refflow's own pages; else a file of adapters, the name of a shipped peer, a decorated function.

    `page` and `dtypes` restrict it; `progress(done, total, name)` is called before each part.  Raises CannotRun if there
    is nothing to check.
    """
    if page is not None:
        page_named(page)
    dtypes = DTYPES if dtypes is None else tuple(np.dtype(d).name for d in dtypes)
    return check_own(page, dtypes, progress) if target is None else check_theirs(target, page, dtypes, progress)


def certified() -> dict:
    """{page: {quantity: {dtype: {"C", "allowed"}}}}; empty if no certificate is shipped."""
    return pages_of(CERTIFICATE) if CERTIFICATE.is_file() else {}


@functools.cache
def pages_of(path):
    return json.loads(path.read_text(encoding="utf-8"))["pages"]


# -- refflow's own pages ----------------------------------------------------------------------------------------------

def check_own(page, dtypes, progress):
    report, certificate = Report("refflow", VERSION), certified()
    names = [page] if page else list(bijectors())
    for done, name in enumerate(names):
        if progress:
            progress(done, len(names), name)
        points = golden.points(name, dtypes)
        for dtype in dtypes:
            subject = Subject(name, "refflow", dtype, own_answers, own=True)
            for point in (p for p in points if p.dtype == dtype):
                subject.compare(point, own_answers(point), point.truth, own_allowance(certificate, name, dtype))
            skip = {} if subject.asked else {"all": "no golden points are shipped for this page"}
            subject.conclude(report, skip)
        if name not in certificate:
            report.notes.append(f"{name} has no certificate: 4 units are allowed, and 1/2 for each entry of a sum")
    if page is None:
        report.notes.append(f"{len(names)} of {len(REGISTRY)} pages have golden points, the bijectors without components; the "
                            "certificate measures all of them: python -m validation.certify --check")
    return report.sort()


def own_allowance(certificate, name, dtype):
    return lambda quantity, point: own_allowed(certificate, name, quantity, dtype, point)


def own_answers(point) -> Answers:
    quantities = forward_quantities if point.side == "forward" else inverse_quantities
    return Answers(distinct(quantities(point.f, point.event, point.image_bar, point.log_det_bar)))


def own_allowed(certificate, name, quantity, dtype, point):
    """What the certificate allows; without an entry there, the target of the design."""
    entry = certificate.get(name, {}).get(quantity, {}).get(dtype)
    return float(entry["allowed"]) if entry else constant_of(point.f, largest_size(point))


def largest_size(point):
    rank = point.f.event_ndim[SIDES[point.side]]
    return max(1, int(np.prod(point.event.shape[point.event.ndim - rank:])))


# -- somebody else's code ---------------------------------------------------------------------------------------------

def check_theirs(target, page, dtypes, progress):
    loaded = load(target)
    report, certificate = Report(loaded.name, loaded.version), certified()
    chosen = [(a, d) for a in loaded.adapters for d in a.dtypes if d in dtypes and page in (None, a.page)]
    if not chosen:
        raise CannotRun(f"{loaded.name} has no adapter for {page or 'any page'} in {' or '.join(dtypes)}")
    for done, (adapter, dtype) in enumerate(chosen):
        if progress:
            progress(done, len(chosen), f"{adapter.theirs} {dtype}")
        check_adapter(adapter, dtype, certificate, report)
    return report.sort()


def check_adapter(adapter, dtype, certificate, report):
    subject = Subject(adapter.name, adapter.theirs, dtype, lambda point: ask(adapter, point), adapter.flush_to_zero,
                      adapter.chart_gradient)
    outside = count = 0
    for drawn in points_for(adapter, dtype):
        point, count = adapter.limited(drawn), count + 1
        if point is None:
            outside += 1
            continue
        answers = subject.answer(point)
        truths = subject.truths(point)
        subject.compare(point, answers, truths, lambda q, p: allowed(certificate, adapter.name, q, p))
        if answers.values_at_image is not None:
            subject.compare_round_trip(point, *answers.values_at_image, certificate, adapter)
    if outside:
        report.notes.append(f"{adapter.theirs} {dtype}: {outside} of {count} points are outside the limits that it declares")
    subject.conclude(report, {})


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
        yield from composite_points(adapter.page, np.dtype(dtype))
        return
    yield from drawn_points(page_named(adapter.page), np.dtype(dtype), adapter.broadcast)
    for point in golden.points(adapter.page, (dtype,)):
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
    """16 units, plus refflow's own error at drawn float64 points."""
    if point.truth is not None or point.dtype == np.float32:
        return ALLOWED
    return ALLOWED + own_allowed(certificate, name, quantity, "float64", point)


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
        given, true = np.asarray(self.given, np.float64), self.truth.high
        if np.isnan(given).any():
            return "NaN"
        if np.isinf(given).any():
            return "infinite"
        return "0" if np.any((given == 0) & (true != 0)) else "another number"


@dataclass
class Subject:
    """Somebody's code for one page in one dtype, and everything measured of it."""

    bijector: str
    theirs: str
    dtype: str
    answer: object
    flush_to_zero: bool = False
    chart_gradient: bool = False
    own: bool = False
    asked: set = field(default_factory=set)
    best: dict = field(default_factory=dict)
    count: dict = field(default_factory=dict)
    failures: dict = field(default_factory=dict)

    def truths(self, point):
        """Recorded or at run time; the inverse's event cotangent in the chart if theirs is a function of the chart."""
        truths = dict(point.truth.items()) if point.truth is not None else run_time_truth(point, derivatives=True)
        if self.chart_gradient and point.side == "inverse":
            truths.pop("inverse_vjp.x_bar", None)
            if point.truth is None and point.image_bar is not None:
                truths |= chart_truth(point)
        return truths if self.own else without_structural_zeros(point, truths)

    def compare(self, point, answers, truths, allowance):
        """Compare every answer with its truth."""
        self.asked |= set(truths)
        beyond = not self.own and (self.overflows(point, truths) or misshapen(point, answers, truths))
        for name, given in answers.found.items():
            quantity = truth_name(name)
            if beyond and quantity.startswith(VJP[point.side] + "."):
                continue                # a cotangent at an infinity, or of another shape, has no truth
            if isinstance(given, Raised):
                message = "raised " + given.message
                self.fail(Failure(point, name, np.inf, allowance(name, point), None, truths.get(quantity), message))
            elif quantity in truths:
                self.measure(point, name, given, truths[quantity], allowance(name, point))

    def overflows(self, point, truths):
        image = truths.get(VALUE[point.side])
        return image is not None and not image.representable(point.dtype).all()

    def measure(self, point, name, given, truth, allowance):
        if given.shape != truth.high.shape:
            message = shape_diagnosis(point, name, given, truth)
            self.fail(Failure(point, f"{name} shape", np.inf, allowance, given, truth, message))
            return
        C, known = self.errors(point, given, truth)
        if not known.any():
            return
        worst = float(C.max())
        self.count[name] = self.count.get(name, 0) + int(known.sum())
        if worst <= allowance:
            C_before, allowed_before = self.best.get(name, (0.0, allowance))
            if worst / allowance >= C_before / allowed_before:
                self.best[name] = worst, allowance
            return
        if not point.lead:
            self.fail(Failure(point, name, worst, allowance, given, truth))
            return
        for index in np.argsort(-C, kind="stable"):
            if C[index] > allowance:
                self.fail(Failure(point.single(index), name, float(C[index]), allowance, given[index], part(truth, index)))

    def errors(self, point, given, truth):
        """(C, known) for each leading index, or for the one event; C is 0 where no truth is known."""
        C, known = truth.error(given, point.dtype, self.flush_to_zero), truth.known()
        if not self.own:
            known = known & truth.representable(point.dtype)
        if C.shape != known.shape:
            known = known.all(axis=tuple(range(C.ndim, known.ndim)))
        C = np.where(known, C, 0.0)
        if not point.lead:
            return np.array([C.max(initial=0.0)]), np.array([known.any()])
        count = point.event.shape[0]
        return C.reshape(count, -1).max(-1, initial=0.0), known.reshape(count, -1).any(-1)

    def fail(self, failure):
        """Keep a failure, a few of each symptom; a wrong number is not counted where rounding may move the truth far."""
        alike = self.failures.setdefault(failure.quantity, {}).setdefault(failure.symptom, [])
        if len(alike) < CANDIDATES * MORE and (len(alike) < CANDIDATES or failure.error > alike[-1].error) \
                and self.is_asked(failure):
            alike.append(failure)

    def is_asked(self, failure):
        """Is this a number that kappa, which is first-order, can judge, or not a number at all?"""
        if self.own or failure.symptom not in ("another number", "0"):
            return True
        if failure.point.truth is not None:
            return failure.truth.first_order
        return steady(failure.point, truth_name(failure.quantity))

    def compare_round_trip(self, point, image, values, certificate, adapter):
        """An inverse given as values belongs to the image that theirs returned."""
        side = {"forward": "inverse", "inverse": "forward"}[point.side]
        image = image.astype(point.dtype, copy=False)
        where, rank = (point.f.domain, point.f.codomain)[SIDES[side]], point.f.event_ndim[SIDES[side]]
        try:
            if not np.all(where.members(image, rank)) or not np.isfinite(image).all():
                return
            again = point.changed(side=side, event=image, image_bar=None, log_det_bar=None)
            truths = run_time_truth(again)
        except ValueError:
            return                      # a wrong image is the forward quantity's failure
        self.compare(again, Answers(values), truths, lambda q, p: allowed(certificate, adapter.name, q, p))

    # -- the verdict ---------------------------------------------------------------------------------------------------

    def conclude(self, report, skip):
        for name, by_symptom in self.failures.items():
            report.failed += self.findings(name, [failures for failures in by_symptom.values() if failures])
        failed = {found.quantity for found in report.failed if found.theirs == self.theirs and found.dtype == self.dtype}
        for name, (C, allowance) in self.best.items():
            if not {name, f"{name} shape"} & failed:
                report.passed.append(Passed(self.bijector, self.theirs, name, self.dtype, C, allowance, self.count[name]))
        shapes = {name.removesuffix(" shape") for name in self.failures}
        missing = [name for name in sorted(self.asked, key=in_order) if name not in self.best and name not in shapes]
        for name in skip or missing:
            reason = skip.get(name, "not returned")
            report.skipped.append(Skipped(self.bijector, self.theirs, name, self.dtype, reason))

    def findings(self, name, groups):
        """One finding for each symptom; of two that are explained alike, the worse."""
        found = sorted((self.finding(name, failures) for failures in groups), key=lambda one: -one.worst)
        explained = {}
        for one in found:
            explained.setdefault(one.diagnosis or id(one), one)
        return list(explained.values())

    def finding(self, name, failures):
        chosen, worst = self.chosen(failures), max(failures, key=lambda f: f.error)
        diagnosis = chosen.message or diagnose(chosen, (worst, failures[0]), None if self.own else self.answer)
        point = chosen.point
        true = None if chosen.truth is None else rounded(chosen.truth.high, self.dtype)
        given = None if chosen.given is None else np.asarray(chosen.given)
        return Finding(self.bijector, self.theirs, name, self.dtype, chosen.error, chosen.allowed,
                       max(chosen.error, worst.error), conditioning(chosen), pasteable(point.event),
                       pasteable(fields_of(point.f)), pasteable(given), pasteable(true), case_text(point), diagnosis,
                       cotangents_of(point, name))

    def chosen(self, failures):
        """The simplest failure.

        Among wrong numbers: one that costs half of the digits, if there is one, and that is infinite if the worst is.
        """
        worst = max(failures, key=lambda f: f.error)
        if self.own:                                # the truth at other points would be its own answer
            return min(failures, key=lambda f: complexity(f.point))
        if failures[0].given is not None and failures[0].message:
            return failures[0]                      # a wrong shape is the same everywhere: the first point is the simplest
        half = (np.finfo(self.dtype).eps / 2) ** -0.5
        threshold = np.inf if np.isinf(worst.error) else min(worst.error, float(half))
        clear = [self.narrowed(f) for f in failures if f.error >= threshold]
        return shrunk(clear, threshold, self.again)

    def narrowed(self, failure):
        """In a batch that made theirs raise, the first event that does so alone."""
        point = failure.point
        alone = (self.again(point.single(i), failure) for i in range(len(point.event) if point.lead else 0))
        return next((f for f in alone if f is not None), failure)

    def again(self, point, failure):
        """The same kind of failure, a number or an exception, at another point, or None; its truth is computed at run time."""
        name = failure.quantity
        try:
            truth = self.truths(point).get(truth_name(name))
        except ValueError:
            return None
        given = self.answer(point).found.get(name)
        if name.startswith(VJP[point.side] + ".") and not self.own and self.overflows(point, run_time_truth(point)):
            return None
        if isinstance(given, Raised) and failure.message:
            return Failure(point, name, np.inf, failure.allowed, None, truth, "raised " + given.message)
        if truth is None or not isinstance(given, np.ndarray) or failure.message or given.shape != truth.high.shape:
            return None
        C, known = self.errors(point, given, truth)
        if not known.all() or not C[0] > failure.allowed:
            return None
        found = Failure(point, name, float(C[0]), failure.allowed, given, truth)
        return found if found.symptom == failure.symptom and self.is_asked(found) else None


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


def part(truth, index):
    return Truth(truth.high[index], truth.low[index], truth.unit[index], truth.conditioning[index],
                 max(0, truth.batch_ndim - 1), truth.normwise)


@np.errstate(over="ignore")
def rounded(true, dtype):
    return true.astype(dtype)


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
