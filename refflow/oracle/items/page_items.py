"""Quantities of a page as pytest items: somebody's code held against 50-digit truth.

    @page_tests("RationalQuadraticSpline", parametrisation="zuko", suite="2026.12", baseline="tests/refflow.toml")
    def test_rqs(params, z):    # one item for each quantity and dtype
        return {"forward": ..., "log_det": ..., "inverse": ...}
"""

from __future__ import annotations

import functools

import numpy as np

from .. import check
from . import replay
from ...report import number
from ..asking.adapter import DECLARED, adapter, file_of
from ..check import quantities
from ..judging import baseline as baselines
from ..judging.suites import SUITES, suite_named
from ..judging.verdict import KINDS, finding_text, kind_of, severity
from ..points.pages import CannotRun
from .item import OF_A_QUANTITY, Item, decorated, expectations, only_named

SINCE = dict.fromkeys(KINDS, SUITES[0])     # the suite that each kind of quantity came with
GROWTH = 1.5                                # of the error that a baseline records, beyond which a quantity fails
TESTED: dict = {}                           # the functions of pages that are tests: {function: PageTest}


def page_tests(page, *, suite=None, require=(), expected=None, baseline=None, **options):
    """A decorator that makes one pytest item of each quantity of `page` and each dtype, whose id is "quantity-dtype".

    The function, (params, z) -> {key: value}, and `options` are as for `refflow.oracle.adapter`.  `suite`: the date of the
    quantities that must be right, the newest if None; `require`: quantities, or kinds of them such as "vjp", that must be
    returned, else they fail in place of being skipped; `expected`: {"quantity-dtype": Known(where, witness)}, items that must
    fail; `baseline`: a file that `refflow baseline` wrote, beside the test's
    file or in a directory above it: a quantity that it records fails only where its error grows by half, and beyond the
    allowance.  ValueError for an unknown suite or quantity, and for what `adapter` refuses.
    """
    suite, declare = suite_named(suite, "page_tests"), adapter(page, **options)
    require = (require,) if isinstance(require, str) else tuple(require)

    def decorate(function):
        own = PageTest(page_adapter(declare, function), suite, require, expected, baseline)
        TESTED[function] = own
        return decorated(named_after(function), "quantity", own.items(), "quantity")

    return decorate


def page_adapter(declare, function):
    declare(function)
    return DECLARED[-1]


def named_after(function):
    """A test of that name and place, whose argument is an item."""
    def test(quantity):
        quantity()

    for attribute in ("__name__", "__qualname__", "__module__", "__doc__"):
        setattr(test, attribute, getattr(function, attribute))
    test.place_as = function            # where pytest says that it stands
    return test


class PageTest:
    """One decorated function: what is measured of it in each dtype, once, and which items it has."""

    def __init__(self, own, suite, require, expected, baseline):
        self.adapter, self.suite, self.require, self.baseline = own, suite, require, baseline
        self.quantities = quantities(own)
        only_named("page_tests", "require", require, [*dict.fromkeys(map(kind_of, self.quantities)), *self.quantities])
        names = [name_of(quantity, dtype) for dtype in own.dtypes for quantity in self.quantities]
        self.expected = expectations("page_tests", expected, names, OF_A_QUANTITY)

    @property
    def name(self):
        """Under which a baseline records it: the file and the function."""
        return file_of(self.adapter.function).stem, self.adapter.function.__qualname__

    def items(self):
        return [Quantity(self, quantity, dtype) for dtype in self.adapter.dtypes for quantity in self.quantities]

    @functools.cache
    def report(self, dtype):
        return check([self.adapter], dtypes=(dtype,))

    @functools.cache
    def recorded(self):
        """{(quantity, dtype): C} of the baseline."""
        if self.baseline is None:
            return {}
        path = baselines.found(self.baseline, file_of(self.adapter.function))
        held = baselines.read(path).get(self.name, {})
        unknown = sorted(set(held) - {(q, d) for q in self.quantities for d in self.adapter.dtypes})
        if unknown:
            raise CannotRun(f"{path}: {'.'.join(self.name)} has no quantity {unknown[0][0]!r} in {unknown[0][1]}")
        return held

    def entries(self, quantity, dtype):
        """(findings, passes, skipped) of one quantity; a wrong shape is a finding of the quantity."""
        report = self.report(dtype)
        return tuple([one for one in found if one.quantity.removesuffix(" shape") == quantity]
                     for found in (report.failed, report.passed, report.skipped))


def name_of(quantity, dtype):
    """The id of an item."""
    return f"{quantity}-{dtype}"


def error_of(findings, passed):
    """The largest C seen, infinite for an exception or a wrong shape."""
    return max([*map(severity, findings), *(one.error for one in passed)])


class Quantity(Item):
    """One quantity of a page in one dtype."""

    word = "quantity"

    def __init__(self, own, quantity, dtype):
        name = name_of(quantity, dtype)
        super().__init__(name, own.suite, SINCE[kind_of(quantity)], own.expected.get(name))
        self.own, self.quantity, self.dtype, self.file = own, quantity, dtype, file_of(own.adapter.function)

    def question(self):
        recorded = self.own.recorded().get((self.quantity, self.dtype))
        findings, passed, skipped = self.own.entries(self.quantity, self.dtype)
        if not findings and not passed:
            self.is_not_asked("was not measured", skipped[0].reason if skipped else "not asked at these points",
                              {self.quantity, kind_of(self.quantity)} & set(self.own.require))
            return
        C, one = error_of(findings, passed), (findings or passed)[0]
        facts = {"dtype": self.dtype, "C": number(C), "allowed": number(one.allowed)}
        if recorded is not None and recorded > max(one.allowed, GROWTH * C):
            facts["hint"] = f"the error is {number(C)} units, and was {number(recorded)}: `refflow baseline` records it anew"
        hints = [f"suggestion: {one}" for one in self.own.report(self.dtype).suggestions if one.quantity == self.quantity]
        text = "\n\n".join([*map(finding_text, findings), *hints])
        if not findings:
            self.holds(**facts)
        elif recorded is None or self.known:
            self.is_broken(text, replay.witness_of(self.own.adapter, findings[0]), **facts)
        elif C <= GROWTH * recorded:
            self.is_known(f"the error is {number(C)} units, and the baseline records {number(recorded)}", **facts)
        else:
            self.fails(f"the error has grown to {number(C)} units, more than half again as much as the baseline records, "
                       f"{number(recorded)}\n{text}", **facts)

    def shown_by(self, witness):
        return replay.failure_at(self.own.adapter, self.quantity, self.dtype, witness)


def errors(own) -> dict:
    """{(quantity, dtype): C} of everything that was measured of a decorated function."""
    asked = [(q, d, own.entries(q, d)) for d in own.adapter.dtypes for q in own.quantities]
    return {(q, d): float(np.float64(error_of(*found[:2]))) for q, d, found in asked if found[0] or found[1]}
