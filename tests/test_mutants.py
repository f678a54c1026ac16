"""The mutator: which mistakes it plants, that they are planted everywhere, and that its recorded verdicts are found again."""

from __future__ import annotations

import ast
import json
import math
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import refflow
from refflow.maps.elementwise import rescaled_tanh_exp_scale
from validation.certify import PAGES
from validation.mutants import __main__ as command
from validation.mutants import asking, judging, outside, records
from validation.mutants.judging import Bench, in_fork
from validation.mutants.mutations import Source, is_mutated, mutants_of
from validation.mutants.sweep import Sweep
from validation.mutants.records import OF_FILES, OF_PAGES, Record, Row, recorded, score

# Judging forks, of which JAX warns where another test has imported it: the fork does not use its threads.
pytestmark = pytest.mark.filterwarnings("ignore:os.fork.. was called:RuntimeWarning")

SAMPLE, EACH, EVERY = "Exp", 2, 10              # a page, how many mutants of each verdict, one in so many points

FUNCTION = '''
def f(self, x, axis=7):
    """Docstring with a number 5."""
    if x < 3 and axis is None:
        raise ValueError(f"no {x + 1}")
    x[0] = -np.where(x > 0, np.expm1(x), g(x, 0.1))
    x *= 2
    return x.mT - np.exp(x + 1) if x else np.minimum(x, 0)
'''


def changes(text):
    return {mutant.key.removeprefix("f: ") for mutant in mutants_of("f", ast.parse(text).body[0])}


@pytest.mark.parametrize("change", [
    "x < 3 -> x <= 3", "x < 3 -> x > 3", "3 -> 4", "3 -> 1.5", "x < 3 and axis is None -> x < 3 or axis is None",
    "x < 3 and axis is None -> x < 3", "axis is None -> axis is not None",
    "-np.where(x > 0, np.expm1(x), g(x, 0.1)) -> np.where(x > 0, np.expm1(x), g(x, 0.1))",
    "np.where(x > 0, np.expm1(x), g(x, 0.1)) -> np.where(x > 0, g(x, 0.1), np.expm1(x))",
    "np.where(x > 0, np.expm1(x), g(x, 0.1)) -> g(x, 0.1)", "np.expm1(x) -> np.exp(x)", "np.expm1(x) -> np.exp(x) - 1",
    "g(x, 0.1) -> g(0.1, x)", "0.1 -> 0.10000000149011612", "x[0] = -np.where(x > 0, np.expm1(x), g(x, 0.1)) -> nothing",
    "x *= 2 -> x /= 2", "x *= 2 -> nothing", "x.mT -> x", "x.mT - np.exp(x + 1) -> x.mT + np.exp(x + 1)",
    "x.mT - np.exp(x + 1) -> x.mT", "x.mT - np.exp(x + 1) -> -np.exp(x + 1)", "np.exp(x + 1) -> np.exp(x) * np.exp(1)",
    "x + 1 -> x - 1", "x + 1 -> 1", "np.minimum(x, 0) -> np.maximum(x, 0)",
    "if x < 3 and axis is None -> if not (x < 3 and axis is None)",
    "x.mT - np.exp(x + 1) if x else np.minimum(x, 0) -> np.minimum(x, 0) if x else x.mT - np.exp(x + 1)"])
def test_a_kind_of_mistake(change):
    assert change in changes(FUNCTION)


def test_messages_defaults_and_docstrings_stay():
    assert not [change for change in changes(FUNCTION) if "no {" in change or change.startswith(("7 ", "5 "))]


def test_equal_changes_in_several_places_are_told_apart():
    assert {"2 -> 3", "2 -> 3 (1)"} <= changes("def f(x):\n    return 2 * x + 2 * x")


@pytest.mark.parametrize("name", sorted(PAGES))
def test_every_page_has_mutants(name):
    mutants = Source(PAGES[name]).mutants()
    assert mutants and len({mutant.key for mutant in mutants}) == len(mutants)
    assert not [m for m in mutants if m.function.endswith((".definition", ".inverse_definition", ".examples"))]
    assert all(m.before != m.after for m in mutants)


def test_helpers_of_a_definition_stay():
    assert not is_mutated(ast.parse("def helper(m, z): return m.exp(z)").body[0])
    source = Source(PAGES["GroupedLinear"])
    assert source.what_is_believed() == {"channel"} and not [m for m in source.mutants() if m.function == "channel"]


def test_what_serves_helpers_of_a_definition_stays():
    """exponential_of calls times; the map itself calls others."""
    source = Source(refflow.ExponentialLinear)
    assert source.what_is_believed() == {"exponential_of", "times"}
    assert {"moved", "series", "outer"} <= {mutant.function for mutant in source.mutants()}


def test_constants_of_examples_alone_stay():
    """Only `examples` reads SIZES; the page itself takes STEPS."""
    source = Source(refflow.MonotoneNetwork)
    assert source.what_is_believed() == {"SIZES"}
    assert {"SIZES", "STEPS"} & {mutant.function for mutant in source.mutants()} == {"STEPS"}


def mutant_of(name, key):
    source = Source(PAGES[name])
    return source, next(mutant for mutant in source.mutants() if mutant.key == key)


def planted(name, key, work):
    """What `work` gives in a process in which the mutant is planted."""
    source, mutant = mutant_of(name, key)

    def there():
        source.plant(mutant)
        return work()

    return in_fork(there, 60)


@pytest.mark.parametrize("name, key, work", [
    ("Exp", "Exp.log_det: the method -> np.log(np.abs(self.slope(z)))", lambda: float(PAGES["Exp"]().log_det(-1000.0))),
    ("Tanh", "Tanh.slope: 4 * q / (1 + q) ** 2 -> 4 * q", lambda: float(PAGES["Tanh"]().jacobian(0.5)[0, 0])),
    ("TanhExpScale", "tanh_slope: -2 -> -1", lambda: float(rescaled_tanh_exp_scale.tanh_slope(3.0)[0]))])
def test_a_mutant_is_planted_wherever_the_function_is_used_and_in_a_fork_alone(name, key, work):
    before = work()
    assert planted(name, key, work) != before and work() == before


def test_a_constant_is_planted():
    source = Source(PAGES["SiLU"])
    mutant = next(m for m in source.mutants() if m.key == "DEEP: -12 -> -11")

    def deep():
        source.plant(mutant)
        return source.module.DEEP

    assert in_fork(deep, 60) == -11 and source.module.DEEP == -12


def test_a_constant_is_planted_where_it_is_a_default():
    source = outside.source_of("models.all_in_one")
    mutant = next(m for m in source.mutants() if m.key == "GLOBAL_SCALE: 5 -> 6")
    function, right = source.module.all_in_one, (2.0, False, 2 * math.log(math.expm1(5)), 0.0)

    def default():
        source.plant(mutant)
        return [float(held) for held in function.__defaults__]

    assert in_fork(default, 60) == [2.0, 0.0, 2 * math.log(math.expm1(6)), 0.0] and function.__defaults__ == right
    lines, first = asking.statements(source), next(node for node in source.tree.body if isinstance(node, ast.FunctionDef))
    assert lines[id(first.args.defaults[2])] == first.body[0].lineno > first.lineno


def test_a_probe_says_whether_a_place_is_met():
    source, mutant = mutant_of("Tanh", "Tanh.slope: 4 -> 5")

    def met(call):
        source.plant_probe(mutant)
        try:
            call(PAGES["Tanh"]())
        except NameError:
            return True
        return False

    assert in_fork(lambda: met(lambda f: f.jacobian(1.0)), 60) is True
    assert in_fork(lambda: met(lambda f: f.forward(1.0)), 60) is False


# -- verdicts ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def bench():
    made = Bench(PAGES[SAMPLE], EVERY)
    assert not any(f.computed & vars(f).keys() for f in held_by(made))      # a mutant may compute it otherwise
    return made


def held_by(bench):
    """The values of a batch, of a single point, of a golden point and of a draw of the laws."""
    return [bench.certificate.batches[0].point.f, bench.certificate.singles[0][0].f, bench.golden[0].f, bench.laws[0][1]]


@pytest.fixture
def changed(bench, monkeypatch):
    """The bench with some of its stages changed for a test."""
    def change(**stages):
        for name, value in stages.items():
            monkeypatch.setattr(bench, name, value)
        return bench

    return change


def test_the_page_itself_fails_nothing(bench):
    assert not any(bench.aside.values()) and not bench.rejecting
    assert bench.golden and bench.laws and len(bench.certificate.groups) == len(bench.fresh.groups) == 4


def test_recorded_verdicts_are_found_again(bench):
    record, seen = Record(SAMPLE), {}
    assert record.unjudged() == []
    for key, (verdict, by, *_) in record.verdicts.items():
        seen.setdefault((verdict, by), []).append(key)
    for keys in seen.values():
        for key in keys[:EACH]:
            found = bench.verdict(record.source, record.mutants[key])
            assert [found["verdict"], found["by"]] == record.verdicts[key][:2], (key, found)


NOTHING = Sweep([])


def forward_only(sweep):
    return Sweep([[p for p in group if p.side == "forward"] for group in sweep.groups])


INVERSE_VJP = "Exp.inverse_vjp: (z_bar - log_det_bar) / x -> z_bar - log_det_bar"


def test_without_the_points_of_a_method_its_mutants_survive(changed):
    """Points from another seed show the hole."""
    source = Source(PAGES[SAMPLE])
    mutants = [m for m in source.mutants() if m.function == "Exp.inverse_vjp" and m.before != "the method"]
    whole = changed(laws=[])
    assert mutants and {whole.verdict(source, mutant)["verdict"] for mutant in mutants} == {"killed"}
    hole = changed(golden=[p for p in whole.golden if p.side == "forward"],
                   certificate=forward_only(whole.certificate))
    assert {(v["verdict"], v["by"]) for v in (hole.verdict(source, m) for m in mutants)} == {("survived", "fresh")}


def test_what_nothing_measures_survives(changed):
    """Of fresh points too: no error is seen, but no point meets the place either."""
    source = Source(PAGES[SAMPLE])
    mutant = next(m for m in source.mutants() if m.function == "Exp.inverse_vjp")
    forward = forward_only(changed().certificate)
    found = changed(laws=[], golden=[], certificate=forward, fresh=NOTHING, edges=[]).verdict(source, mutant)
    assert (found["verdict"], found["by"]) == ("survived", "nothing")


def test_a_mutant_that_differs_at_an_end_is_not_equivalent(changed):
    """log 0 is -inf: the page says so, and no point of the certificate is there."""
    bench, source = changed(), Source(PAGES[SAMPLE])
    mutant = next(m for m in source.mutants() if m.function == "Exp.inverse")
    found = changed(golden=[], certificate=NOTHING, laws=[], fresh=NOTHING).verdict(source, mutant)
    assert bench.edges and (found["verdict"], found["by"]) == ("survived", "edges")


@pytest.mark.parametrize("given, expected, alike", [
    (np.nan, np.nan, True), (np.inf, np.inf, True), (-np.inf, np.inf, False), (0.0, np.nan, False), (1.0001, 1.0, True),
    (1.01, 1.0, False), (0.0, 1e-300, False)])
def test_answers_at_an_end_are_compared_roughly(given, expected, alike):
    assert judging.alike(np.asarray(given), np.asarray(expected)) == alike


def test_laws_kill_what_points_of_one_event_cannot_see(changed):
    source, mutant = mutant_of(SAMPLE, "Exp.inverse: np.log(x) -> np.log1p(x)")
    found = changed(golden=[], certificate=NOTHING).verdict(source, mutant)
    assert (found["verdict"], found["by"]) == ("killed", "laws")


def endless():
    while True:
        pass


@pytest.mark.parametrize("work, by", [(endless, "time"), (lambda: np.ones(2**33), "memory"), (lambda: 1 / 0, "crash")])
def test_a_stage_is_ended(changed, monkeypatch, work, by):
    monkeypatch.setattr(judging, "SECONDS", 0.2)
    source = Source(PAGES[SAMPLE])
    bench = changed(of_golden=work, seconds=dict.fromkeys(judging.STAGES, 0.0))
    found = bench.verdict(source, source.mutants()[0])
    assert (found["verdict"], found["by"]) == ("killed", by)


def test_a_process_that_does_not_answer_is_ended():
    start = time.monotonic()
    assert in_fork(lambda: time.sleep(60), 0.2)["by"] == "time" and time.monotonic() - start < 30


# -- records ----------------------------------------------------------------------------------------------------------

def test_values_compute_again_what_a_mutant_may_change(bench):
    for f in held_by(bench):
        assert f.parameter_batch is vars(f)["parameter_batch"]
    bench.forget()
    assert not any(f.computed & vars(f).keys() for f in held_by(bench))


@pytest.fixture(scope="module")
def every_record():
    return {name: Record(name) for name in (*OF_PAGES.names, *OF_FILES.names)}


def test_records_are_of_the_code_as_it_is(every_record):
    """A page's code changed: `python -m validation.mutants NAME` judges its mutants anew; --outside FILE, a file's."""
    names = (*OF_PAGES.names, *recorded(OF_FILES))
    assert [name for name in names if not every_record[name].verdicts or every_record[name].stale] == []


@pytest.mark.parametrize("kind", [OF_PAGES, OF_FILES], ids=["pages", "files"])
def test_the_table_is_generated_from_the_records(every_record, monkeypatch, kind):
    monkeypatch.setattr(records, "Record", every_record.get)
    assert kind.path.read_text() == records.recorded_table(kind)


def test_a_page_that_is_not_judged_whole_has_no_score():
    lines = records.table([row("killed")], {SAMPLE: 3, "Tanh": 2}, OF_PAGES).splitlines()
    ends = {name: line.split("|")[-3:-1] for line in lines for name in [line.split("|")[1:2]] and [line.split(" ")[1:2]] if name
            for name in name}
    assert [ends[name] for name in (SAMPLE, "Tanh", "all")] == [[" 3 ", "  "], [" 2 ", "  "], [" 5 ", "  "]]


def test_a_file_has_a_score_where_little_waits():
    def shown(judged, left):
        lines = records.table([row("killed")] * judged, {SAMPLE: left}, OF_FILES).splitlines()
        return next(line for line in lines if line.startswith(f"| {SAMPLE} ")).split("|")[-2].strip()

    assert shown(38, 2) == shown(1, 0) == "100.0%" and shown(37, 3) == ""


def test_a_reason_belongs_to_a_mutant_that_was_not_killed():
    for name, entries in records.reasons().items():
        record = Record(name)
        for key, entry in entries.items():
            assert key in record.mutants and record.verdicts.get(key, ["not judged"])[0] != "killed"
            assert set(entry) == {"proves", "reason"} and entry["reason"]
            assert entry["proves"] in ("equivalent", "nothing")


def row(verdict, by="laws"):
    return Row(SAMPLE, mutant_of(SAMPLE, INVERSE_VJP)[1], verdict, by)


def test_the_score_leaves_out_what_is_equivalent():
    rows = [row("killed")] * 3 + [row("survived", "fresh"), row("equivalent", "certificate")]
    assert score(rows) == 0.75 and score([]) == 1.0


def test_a_proof_makes_a_survivor_equivalent():
    def reasons(proves):
        return {SAMPLE: {INVERSE_VJP: {"proves": proves, "reason": "because"}}}

    assert row("survived").with_reason(reasons("equivalent")).verdict == "equivalent"
    assert row("survived").with_reason(reasons("nothing")).verdict == "survived"
    assert row("killed").with_reason(reasons("equivalent")).verdict == "killed"


def test_records_are_kept_forgotten_and_stale(tmp_path, monkeypatch):
    record = Record(SAMPLE, tmp_path)
    record.add(record.unjudged()[0], {"verdict": "killed", "by": "golden", "why": "x"})
    record.save()
    assert len(Record(SAMPLE, tmp_path).verdicts) == 1
    record.add(record.unjudged()[0], {"verdict": "survived", "by": "fresh", "why": "x"})
    record.save()
    record.add(record.unjudged()[0], {"verdict": "survived", "by": "fresh", "why": "x"})
    record.save()
    proved = {list(record.verdicts)[2]: {"proves": "equivalent", "reason": "because"}}
    monkeypatch.setattr(records, "reasons", lambda: {SAMPLE: proved})
    Record(SAMPLE, tmp_path).forget(alive=True)
    assert [verdict for verdict, *_ in Record(SAMPLE, tmp_path).verdicts.values()] == ["killed", "survived"]


def identity(text):
    source = Source(PAGES["Exp"])
    source.text = text
    return source.identity()


def test_the_order_of_a_page_is_not_its_code():
    """Its methods and helpers may stand in any order; what they do may not change."""
    first, second = "    def forward(self, z):\n        return z + 1\n", "    def inverse(self, x):\n        return x - 1\n"
    page, helper = "class Page:\n", "def helper():\n    return 2\n"
    assert identity(page + first + second + helper) == identity(helper + page + second + first)
    assert identity(page + first + second) != identity(page + first + second.replace("1", "2"))
    assert identity(page + first + helper) != identity(page + first + second)


def test_a_string_that_stands_alone_is_not_code():
    """Wherever it stands in a module: what keeps the digits is told below the docstring."""
    page, text = "class Page:\n    def f(self):\n        return 1\n", '"""What keeps the digits."""\n'
    assert identity(text + page) == identity(text + "import numpy\n" + text + page) == identity(text + page + text)
    assert identity(text + page) != identity(text + page + "x = 1\n")


def test_killed_mutants_of_unchanged_functions_stay_killed(tmp_path):
    """Where a module has changed, what survived is judged again, and all of a function whose text has changed."""
    record = Record(SAMPLE, tmp_path)
    for mutant, verdict in zip(record.unjudged(), ["killed"] * 12 + ["survived"] * 100):
        record.add(mutant, {"verdict": verdict, "by": "golden", "why": "x"})
    record.save()
    path, first = tmp_path / f"{SAMPLE}.json", next(iter(record.mutants.values())).function
    assert not Record(SAMPLE, tmp_path).stale and Record(SAMPLE, tmp_path).verdicts == record.verdicts
    path.write_text(path.read_text().replace(record.head["source"], "0" * 16))
    killed = [key for key, found in record.verdicts.items() if found[0] == "killed"]
    assert Record(SAMPLE, tmp_path).stale and list(Record(SAMPLE, tmp_path).verdicts) == killed
    path.write_text(path.read_text().replace(record.texts[first], "0" * 16))
    kept = [key for key in killed if record.mutants[key].function != first]
    assert list(Record(SAMPLE, tmp_path).verdicts) == kept != killed
    path.write_text(path.read_text().replace("refflow/mutants/1", "refflow/mutants/0"))
    assert Record(SAMPLE, tmp_path).verdicts == {}


@pytest.mark.parametrize("judge", [command.judge_all, command.ask_all])
def test_a_record_is_written_where_all_mutants_are_still_killed(tmp_path, monkeypatch, judge):
    """The code has changed, though in no function that has a mutant."""
    record = Record(SAMPLE, tmp_path)
    for mutant in record.unjudged():
        record.add(mutant, {"verdict": "killed", "by": "golden", "why": "x"})
    record.save()
    record.path.write_text(record.path.read_text().replace(record.head["source"], "0" * 16))
    stale = Record(SAMPLE, tmp_path)
    assert stale.stale and stale.verdicts == record.verdicts and not stale.unjudged() and not stale.is_done()
    monkeypatch.setattr(command, "Record", lambda name: Record(name, tmp_path))
    monkeypatch.setattr(command, "JUDGES", {SAMPLE: ("small",)})
    found = {command.judge: (0, 0.0, stale.found()), command.ask: [stale.found()]}
    judge([SAMPLE], 0.0, SimpleNamespace(results=lambda work, waiting: [(given, found[work]) for given in iter(waiting, None)]))
    assert Record(SAMPLE, tmp_path).is_done() and Record(SAMPLE, tmp_path).verdicts == record.verdicts


def test_a_budget_is_kept_and_the_rest_goes_on_from_there(tmp_path, monkeypatch, bench):
    monkeypatch.setattr(command, "Bench", lambda page: bench)
    monkeypatch.setattr(bench, "verdict", lambda *of: {"verdict": "killed", "by": "golden", "why": ""})
    ticks = iter(range(1000))
    monkeypatch.setattr(command.time, "time", lambda: next(ticks))
    done, *_ = command.judge(SAMPLE, 10, tmp_path)
    left = len(Record(SAMPLE, tmp_path).unjudged())
    assert 0 < done and left == len(Record(SAMPLE, tmp_path).mutants) - done > 0
    assert command.judge(SAMPLE, 1e9, tmp_path)[0] == left and Record(SAMPLE, tmp_path).unjudged() == []


def test_command_line(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "OF_PAGES", replace(OF_PAGES, path=tmp_path / "table.md"))
    monkeypatch.setattr(command, "recorded_table", lambda kind: "the table")
    assert command.main([SAMPLE, "--json"]) == 0 and (tmp_path / "table.md").read_text() == "the table"
    found = json.loads(capsys.readouterr().out)
    assert found["pages"][SAMPLE]["mutants"] == len(Record(SAMPLE).mutants) and found["unjudged"] == 0
    monkeypatch.setattr(command, "rows_of", lambda records: [row("killed"), row("survived", "fresh")])
    assert command.main([SAMPLE]) == 1 and "survived: Exp line" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        command.main(["NoPage"])


def test_a_mutant_that_is_recorded_as_killed_and_is_not_is_found(capsys, monkeypatch, bench):
    """An instrument that has become blind: it kills no mutant of `inverse_vjp` any more."""
    monkeypatch.setattr(command, "Bench", lambda page: bench)
    judged = []

    def verdict(source, mutant):
        judged.append(mutant.key)
        blind = mutant.function == "Exp.inverse_vjp"
        return {"verdict": "survived" if blind else "killed", "by": "fresh" if blind else "golden", "why": "C = 9"}

    monkeypatch.setattr(bench, "verdict", verdict)
    before = Record(SAMPLE).path.read_bytes()
    assert command.main(["--check", SAMPLE]) == 1 and Record(SAMPLE).path.read_bytes() == before
    told = capsys.readouterr().out
    assert f"{SAMPLE} {INVERSE_VJP}: recorded as killed; survived, fresh C = 9" in told
    assert sorted(judged) == sorted(key for key, found in Record(SAMPLE).verdicts.items() if found[0] == "killed")
    monkeypatch.setattr(bench, "verdict", lambda *of: {"verdict": "killed", "by": "laws", "why": ""})
    assert command.main(["--check", SAMPLE]) == 0 and "0 that were killed are not" in capsys.readouterr().out
    monkeypatch.setattr(command.reached, "in_turn", lambda names: [SAMPLE])
    assert command.main(["--check", "--tenth"]) == 0 and "of 1 pages" in capsys.readouterr().out
    judged.clear()
    monkeypatch.setattr(bench, "verdict", verdict)
    monkeypatch.setattr(command, "OF_A_PAGE", 3)
    command.main(["--check", "--tenth"])
    assert len(judged) == len(set(judged)) == 3
    for wrong in (["--tenth"], ["--check", "--outside"], ["--check", "--again", "all"]):
        with pytest.raises(SystemExit, match="2"):
            command.main(wrong)


def test_what_the_clock_of_a_machine_killed_is_not_asked_of_another():
    assert command.is_promised(["killed", "golden"]) and command.is_promised(["killed", "crash"])
    assert not command.is_promised(["killed", "time"]) and not command.is_promised(["survived", "fresh", "why"])


# -- files outside pages ----------------------------------------------------------------------------------------------

FILE = "training.schedules"


def test_every_file_of_equations_is_asked_about_and_its_tests_are_there():
    package = Path(refflow.__file__).parent
    whole = "training", "fast", "models", "accuracy"                    # of the other folders, the files with the most algebra
    files = [path for folder in whole for path in sorted((package / folder).glob("*.py"))]
    names = [f"{path.parent.name}.{path.stem}" for path in files if path.stem != "__init__"]
    assert set(names) == {name for name in outside.JUDGES if name.startswith(tuple(f"{folder}." for folder in whole))}
    assert all((asking.TESTS / f"test_{test}.py").exists() for tests in outside.JUDGES.values() for test in tests)


@pytest.mark.parametrize("name", sorted(outside.JUDGES))
def test_each_function_of_a_file_gives_mutants_in_turn(name):
    mutants = outside.source_of(name).mutants()
    chosen = outside.sample(name, mutants)
    assert [m.key for m in chosen] == [m.key for m in outside.sample(name, mutants)]
    there = Counter(m.function for m in mutants if m.function.split(".")[0] not in outside.SHOWN)
    taken = Counter(m.function for m in chosen)
    assert len(chosen) == min(outside.SIZE, there.total())
    most = max(taken.values(), default=0)
    assert all(taken[function] >= min(count, most - 1) for function, count in there.items())


NAMED = '''
import time
import pytest
from refflow.training import Cosine, Exponential, Noam, WarmUp

def test_noam():
    assert [Noam(4, 4)(t) for t in (1, 16)] == [0.0625, 0.125]

def test_exponential():
    assert Exponential(0.5)(1) == 1

def test_cosine():
    while Cosine(4)(1) != 1:
        pass

def test_that_fails_without_a_mutant():
    assert WarmUp(4)(2) == 7

@pytest.mark.skip(reason="skipped")
def test_skipped():
    pass

def test_slow():
    start = time.process_time()
    while time.process_time() < start + 0.3:
        pass
    assert WarmUp(4)(2) == 0.5
'''


@pytest.fixture(scope="module")
def asked(tmp_path_factory):
    """The record of some schedules' mutants, as three small tests judge them."""
    place = tmp_path_factory.mktemp("asked")
    (place / "test_small.py").write_text(NAMED)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("TESTS", place), ("JUDGES", {FILE: ("small",)}), ("LONGEST", 0.2), ("SECONDS", 0.5)):
            patch.setattr(asking, name, value)
        before = Path(outside.source_of(FILE).path).read_bytes()
        asking.ask([FILE], time.time() + 600, place)
        assert Path(outside.source_of(FILE).path).read_bytes() == before
    return Record(FILE, place)


def test_a_mutant_is_killed_by_a_test_that_fails_and_else_survives(asked):
    assert asked.unjudged() == [] and len(asked.verdicts) == outside.SIZE
    for key, (verdict, by, *why) in asked.verdicts.items():
        if key.startswith(("Noam.__call__", "Exponential.__call__")):
            assert (verdict, by) == ("killed", "tests"), key
        elif key.startswith(("MomentumRamp", "WarmUp", "Constant")):        # tests that fail, or are slow, are not asked
            assert (verdict, by, why) == ("survived", "nothing", ["no named test meets it"]), key
    assert asked.verdicts["Cosine.__call__: 1 -> 2 (1)"] == ["killed", "time"]      # the loop of its test never ends
    assert asked.verdicts["Cosine.__call__: 1 - self.lowest -> 1"] == ["survived", "tests", "1 tests meet it"]


def test_the_statement_of_a_mutant_is_the_innermost_one():
    source = outside.source_of("training.unconstrained")
    lines, text = asking.statements(source), source.text.splitlines()
    for mutant in source.mutants():
        if mutant.function.rpartition(".")[2] == "free":
            assert "return v.ravel() if self.f is None" in text[lines[id(mutant.place.node)] - 1]


def test_recorded_verdicts_of_files_are_kept_by_their_kind(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(command, "OF_FILES", replace(OF_FILES, path=tmp_path / "outside.md"))
    monkeypatch.setattr(command, "recorded_table", lambda kind: "the table")
    monkeypatch.setattr(command, "ask", lambda names, deadline: [Record(name).found() for name in names])
    command.main(["--outside", FILE, "--json"])
    found = json.loads(capsys.readouterr().out)
    assert list(found["pages"]) == [FILE] and (tmp_path / "outside.md").read_text() == "the table"
    with pytest.raises(SystemExit, match="2"):
        command.main(["--outside", SAMPLE])
    with pytest.raises(SystemExit, match="2"):
        command.main([FILE])
