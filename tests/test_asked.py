"""A report ends with what was asked and what was not, and shows long events in short."""

from __future__ import annotations

import json
from ast import literal_eval

import numpy as np
import pytest

import refflow
from refflow.core.sets import extended_real, interval, positive, simplex
from refflow.oracle import adapter, check
from refflow.oracle.boxes.black_box_laws import verdict
from refflow.oracle.judging import asked
from refflow.oracle.judging.asked import OVERFLOWS, UNSTEADY, Asked, floats_between, share_text, whole_of
from refflow.report import shortened
from refflow.testing import BlackBox, verdicts


def logarithm(params, x):
    return {"forward": np.log(x), "inverse": np.exp}


def test_a_report_ends_with_the_ranges():
    report = check(adapter("Exp", dtype="float64", direction="inverse")(logarithm))
    by_side = {one.side: one for one in report.asked}
    assert set(by_side) == {"forward", "inverse"}
    x, z = by_side["inverse"], by_side["forward"]
    assert (x.lower, x.upper, x.whole, z.whole) == (0, np.inf, "(0, inf)", "(-inf, inf)")
    assert 0 < x.low < 1e-300 and x.high > 1e300 and 0.9 < x.share <= 1 and x.events > 1000
    last = report.table().splitlines()[-2:]
    assert last[0].startswith("asked, logarithm float64: z on [") and "; x on [4.94e-324, " in last[0] and " of (0, inf), " in last[0]
    assert last[1].startswith(f"not asked, {OVERFLOWS}: ")
    stored = json.loads(report.to_json())
    assert stored["schema"] == "refflow/report/3" and len(stored["asked"]) == 2
    assert {"side", "low", "high", "lower", "upper", "share", "events", "left_out"} <= set(stored["asked"][0])


def test_the_range_is_of_what_was_asked():
    """A box with hardware that has no subnormal numbers is not asked at them, and the range says so."""
    def mine(params, x):
        return {"forward": np.log(x)}

    every, normal = ({one.side: one for one in check(adapter("Exp", dtype="float64", direction="inverse", flush_to_zero=flushed)(
        mine)).asked}["inverse"] for flushed in (False, True))
    assert every.low < np.finfo(float).tiny <= normal.low and normal.share < every.share


def test_what_a_rounding_moves_too_far_is_counted():
    def mine(params, z):
        return {"inverse": lambda x: 0 * x}

    report = check(adapter("WeibullCDF", dtype="float64")(mine))
    assert any(UNSTEADY in one.left_out for one in report.asked)
    assert f"not asked, {UNSTEADY}: " in report.table()


def test_refflows_own_pages_say_it_too():
    report = check(page="Exp")
    assert {(one.dtype, one.side) for one in report.asked} == {(d, s) for d in ("float32", "float64") for s in ("forward", "inverse")}
    assert "asked, Exp float64: z on [" in report.table()
    report.asked = [Asked(f"Page {k}", "refflow", "float64", "forward", -1.0, 1.0, "[-1, 1]") for k in range(9)]
    assert "asked: the ranges of 9 subjects are in --json" in report.table()


def test_many_subjects_are_counted():
    mine = [adapter("Exp", dtype="float64", theirs=f"mine {k}")(lambda params, z: {"forward": np.exp(z)}) for k in range(2)]
    assert check(mine[:1]).table().count("asked, mine") == 1
    functions = [adapter("Exp", dtype="float64", theirs=f"mine {k}")(lambda params, z: {"forward": np.exp(z)}) for k in range(7)]
    assert "asked: the ranges of 7 subjects are in --json" in check(functions).table()


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_shares_are_of_floating_point_numbers(dtype):
    """From 1 to 2 there are as many as from 2 to 4; and half of all are negative."""
    between = [floats_between(low, high, dtype) for low, high in ((1, 2), (2, 4), (-2, -1), (-1, 1), (0, 1))]
    bits = 2 ** (np.finfo(dtype).nmant)
    assert between[:3] == [bits] * 3 and between[3] == 2 * between[4]
    assert floats_between(-np.inf, np.inf, dtype) == 2 * floats_between(0, np.inf, dtype)
    one = Asked("Exp", "mine", dtype, "inverse", 0.0, np.inf, "(0, inf)")
    assert one.range_text() == "x nowhere"
    one.add(np.array([1.0, 4.0, np.inf]), 3)
    assert (one.low, one.high, one.events) == (1, 4, 3) and one.share == 2 * bits / floats_between(0, np.inf, dtype)


def test_shares_in_words():
    told = [share_text(share) for share in (1, 0.996, 0.54, 0.01, 0.009, 0.001)]
    assert told == ["all", "all", "54%", "1%", "less than 1%", "less than 1%"]


def record(lower=-np.inf, upper=np.inf, whole="(-inf, inf)"):
    return Asked("Exp", "mine", "float64", "inverse", lower, upper, whole)


def test_one_number_may_be_all_of_a_set():
    one = record(2.0, 2.0, "[2, 2]")
    one.add(np.array([2.0]), 1)
    assert one.share == 1 and one.range_text() == "x on [2, 2] of [2, 2], all of its numbers"


@pytest.mark.parametrize("count, told", [
    (1, "(2, 3)"), (6, "(2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3)"),
    (7, "(2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3) and 1 more"),
    (9, "(2, 3), (3, 3), (4, 3), (5, 3), (6, 3), (7, 3) and 3 more")])
def test_a_range_tells_six_shapes_of_events(count, told):
    one = record()
    for rows in [*range(2, 2 + count), 2]:                      # the first one is met again
        one.add(np.ones((1, rows, 3)), 1, (rows, 3))
    assert one.range_text().endswith(f" of its numbers, in events of shape {told}")


def test_numbers_have_no_shape_to_tell():
    one = record()
    one.add(np.array([1.0, 2.0]), 2)
    assert one.range_text().endswith(" of its numbers")


@pytest.mark.parametrize("where, told", [
    (None, (-np.inf, np.inf, "(-inf, inf)")), (extended_real, (-np.inf, np.inf, "(-inf, inf)")),
    (positive, (0, np.inf, "(0, inf)")), (interval(-1, 2), (-1, 2, "(-1, 2)")), (simplex, (-np.inf, np.inf, "simplex"))], ids=str)
def test_a_set_in_words(where, told):
    """An infinite end is an open one, even where it is a member; the entries of vectors have no ends of their own."""
    assert whole_of(where) == told


def test_what_was_left_out_is_added_up():
    one, other = record(), record()
    one.leave_out(UNSTEADY, 2)
    one.leave_out(UNSTEADY, np.int64(3))
    one.leave_out(OVERFLOWS, 0)
    other.leave_out(UNSTEADY, 4)
    other.leave_out(OVERFLOWS, 1)
    assert one.left_out == {UNSTEADY: 5} and other.left_out == {UNSTEADY: 4, OVERFLOWS: 1}
    assert list(asked.lines([one, other], 1))[1:] == [f"not asked, {UNSTEADY}: 9 answers", f"not asked, {OVERFLOWS}: 1 answer"]


# -- boxes ------------------------------------------------------------------------------------------------------------

def test_a_box_ends_with_its_range():
    found = verdicts(BlackBox(lambda z: (np.log(z), -np.log(z)), np.exp, domain=(0, np.inf)))
    assert (found.asked["lower"], found.asked["upper"]) == (0, np.inf) and found.asked["latents"] > 42
    assert "latents with entries on [" in str(found) and " of (0, inf)" in str(found) and "skipped: " in str(found)
    line = next(one for one in str(verdicts(BlackBox(lambda z: 2 * z))).splitlines() if one.startswith("asked: "))
    assert line.endswith("of (-inf, inf)")
    stored = json.loads(found.to_json())
    assert stored["schema"] == "refflow/verdicts/1" and stored["boxes"][0]["asked"]["upper"] == "inf"
    assert {one["status"] for one in stored["boxes"][0]["laws"]} == {"pass", "skip"}


# -- long events ------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("text, told", [
    ("at [1.0, 2.] is 3", "at [1.0, 2.] is 3"),
    (f"at {list(range(100))} is {[0] * 100}!", "at [0, 1, 2, ...] (100 numbers) is [0, 0, 0, ...] (100 numbers)!"),
    (f"{[[0.5] * 30] * 2}", "[[0.5, 0.5, ...]] (60 numbers)"), ("an open [1, 2", "an open [1, 2"), ("no array", "no array")])
def test_long_arrays_are_shown_by_their_first_numbers(text, told):
    assert shortened(text, 12) == told


def test_a_long_event_of_a_box():
    """A message of a line, whatever the event."""
    found = verdict("batch is the stack of singles", BlackBox(lambda z: z if len(z) > 1 else z + 1, event=(9, 10)))
    assert found.status == "FAIL" and "at an event of shape (9, 10) filled with 0.0 is 1.0, not 0.0" in found.text


def test_a_long_event_of_an_adapter():
    """The table shows the beginning; the JSON has all, to be pasted."""
    f = refflow.Independent(refflow.Affine(shift=0.0, scale=np.linspace(0.5, 2, 85)), 1)
    report = check(adapter(f, dtype="float64")(lambda params, z: {"log_det": 0 * z.sum(-1) + 1.5}))
    shown = next(line for line in report.table().splitlines() if line.strip().startswith("input "))
    assert shown.endswith("(85 numbers)") and len(shown) < 500
    params = next(line for line in report.table().splitlines() if line.strip().startswith("params "))
    assert "'scale': [0.5, " in params and "(85 numbers)" in params
    assert len(json.loads(report.to_json())["failed"][0]["input"]) == 85
    assert len(literal_eval(str(report.failed[0].input))) == 85


def test_the_worst_entry_of_an_image_is_shown():
    """By its place, in place of all numbers."""
    f = refflow.Independent(refflow.Affine(shift=np.zeros((3, 4, 4)), scale=2.0), 3)

    def mine(params, z):
        x = f.forward(z)
        x[..., 1, 2, 3] += 1
        return {"forward": x}

    table = check(adapter(f, dtype="float64")(mine)).table()
    given, true = (next(line.split()[1:] for line in table.splitlines() if line.strip().startswith(word)) for word in ("given", "true"))
    assert given[1:] == true[1:] == "at entry (1, 2, 3) of (3, 4, 4)".split() and abs(float(given[0]) - float(true[0]) - 1) < 1e-12
