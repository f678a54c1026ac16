"""Code in other languages: harnesses in C++ and JavaScript, the protocol, and processes that break it."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from refflow import oracle
from refflow.oracle import CannotRun
from refflow.oracle.inputs.command import Process, check_command
from refflow.oracle.points.schema import KEYWORDS, SCHEMAS, WORDS, broken, schema, violation

HARNESSES = Path(oracle.__file__).parent / "harnesses"
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="a C++ compiler is needed: apt-get install g++")
needs_node = pytest.mark.skipif(shutil.which("node") is None, reason="node is needed: apt-get install nodejs")


@pytest.fixture
def few(monkeypatch):
    """A part of the points, evenly chosen: to ask a process for all of them takes seconds."""
    module = sys.modules["refflow.oracle.check"]
    everything = module.points_for
    monkeypatch.setattr(module, "points_for", lambda *of: itertools.islice(everything(*of), 0, None, 8))


def changed(name, directory, changes):
    """A copy of a harness with some of its lines changed."""
    text = (HARNESSES / name).read_text()
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = directory / name
    path.write_text(text)
    return path


def compiled(directory, **changes):
    source, program = changed("harness.cpp", directory, changes), directory / "harness"
    subprocess.run(["g++", "-std=c++17", source, "-o", program], check=True, timeout=60)
    return shlex.quote(str(program))


@pytest.mark.parametrize("name", ["harness.cpp", "harness.mjs"])
def test_harnesses_are_short(name):
    assert len((HARNESSES / name).read_text().splitlines()) < 60


# -- harnesses that keep the protocol ---------------------------------------------------------------------------------

@needs_compiler
def test_a_harness_in_cpp(tmp_path, few):
    command = compiled(tmp_path)
    report = check_command(command, dtypes=["float64"])
    assert report.status == 0 and not report.notes, report.table()
    assert refusals(shlex.split(command)) == len(UNKNOWN)
    assert {(p.bijector, p.quantity) for p in report.passed} == {
        (page, quantity) for page in ("Softplus", "Affine") for quantity in ("forward", "log_det", "inverse")}


@needs_compiler
def test_mistakes_in_cpp_are_found(tmp_path, few):
    """A softplus that becomes the identity beyond 20, and the log-det of the other direction."""
    command = compiled(tmp_path, **{
        "return std::max(v, T(0)) + small;": "return v > 20 ? v : std::log1p(std::exp(v));",
        "return std::log(std::abs(p[\"scale\"]));": "return -std::log(std::abs(p[\"scale\"]));"})
    report = check_command(command, dtypes=["float64"])
    found = {(f.bijector, f.quantity): f for f in report.failed}
    assert report.status == 1 and set(found) == {("Softplus", "forward"), ("Affine", "log_det")}
    assert found["Softplus", "forward"].input > 20 or np.isinf(found["Softplus", "forward"].error)
    assert "negated" in found["Affine", "log_det"].diagnosis


UNKNOWN = [{"requst": "start"}, {"request": "start", "schema": "refflow/protocol/2"}, {"request": "stop", "now": True},
           ["stop"]]


def refusals(command):
    """To how many messages that it cannot know a harness answers that it refuses them."""
    lines = "".join(json.dumps(message) + "\n" for message in UNKNOWN)
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=True, timeout=60)
    return sum(violation(json.loads(line), "protocol", "refused_answer") is None for line in done.stdout.splitlines())


@needs_node
def test_a_harness_in_javascript(few):
    assert refusals(["node", HARNESSES / "harness.mjs"]) == len(UNKNOWN)
    report = check_command(f"node {HARNESSES / 'harness.mjs'}")
    assert report.status == 0 and not report.notes, report.table()
    assert {(p.bijector, p.quantity) for p in report.passed} == {
        (page, quantity) for page in ("Tanh", "Affine") for quantity in ("forward", "log_det", "inverse", "inverse_log_det")}


@needs_node
def test_mistakes_in_javascript_are_found(tmp_path, few):
    """A log-det that cancels at 0, and an inverse log-det at the wrong point."""
    path = changed("harness.mjs", tmp_path, {
        "(Math.abs(z) < 0.5 ? -Math.log1p(Math.sinh(z) ** 2) : -2 * logCosh(z))": "-2 * logCosh(z)",
        "(Math.abs(x) < 0.5 ? -Math.log1p(-x * x) : -Math.log((1 - x) * (1 + x)))": "2 * logCosh(x)"})
    report = check_command(f"node {path}", page="Tanh")
    assert report.status == 1 and {f.quantity for f in report.failed} == {"log_det", "inverse_log_det"}


PYTHON = """
import json, sys

def answer(**fields):
    print(json.dumps(fields), flush=True)

def start(**page):
    pages = [{"page": "Tanh", "dtypes": ["float64"], "quantities": ["forward"], **page}]
    answer(answer="start", schema="refflow/protocol/1", name="theirs", pages=pages)
"""


def python(directory, loop, before=PYTHON):
    """A command that runs Python: `loop` is done for each request, which is called q."""
    path = directory / "harness.py"
    body = "q = json.loads(line)\n" + textwrap.dedent(loop)
    path.write_text(f"{before}\nfor line in sys.stdin:\n" + textwrap.indent(body, "    "))
    return f"{shlex.quote(sys.executable)} -S {shlex.quote(str(path))}"


def test_every_quantity_of_a_process(tmp_path, monkeypatch, few):
    """Affine with both pullbacks, within limits: the same verdict as a function's in this process."""
    quantities = ["forward", "log_det", "jacobian", "vjp", "inverse", "inverse_log_det", "inverse_vjp"]
    page = {"page": "Affine", "quantities": quantities,
            "limits": {"scale": {"low": "0x1p-4", "high": "0x1p+4"}}}
    command = python(tmp_path, """
        if q["request"] != "run":
            start(**PAGE) if q["request"] == "start" else answer(answer="stop")
            continue
        from math import log
        a, c = (float.fromhex(q["params"][key]["values"][0]) for key in ("scale", "shift"))
        v = [float.fromhex(t) for t in q["event"]["values"]]
        bars = [float.fromhex(q[key]["values"][0]) for key in ("image_bar", "log_det_bar") if key in q]
        def array(values, shape=q["event"]["shape"]):
            return {"shape": shape, "values": [float(t).hex() for t in values]}
        of = {"forward": lambda: array(a * z + c for z in v), "log_det": lambda: array(log(a) for z in v),
              "jacobian": lambda: array((a for z in v), q["event"]["shape"] + [1, 1]),
              "inverse": lambda: array((x - c) / a for x in v), "inverse_log_det": lambda: array(-log(a) for x in v),
              "vjp": lambda: {"z_bar": array([a * bars[0]]), "shift_bar": array(bars[:1]),
                              "scale_bar": array([v[0] * bars[0] + bars[1] / a])},
              "inverse_vjp": lambda: {"x_bar": array([bars[0] / a]), "shift_bar": array([-bars[0] / a])}}
        answer(answer="run", id=q["id"], value=of[q["quantity"]]())
        """, PYTHON + f"PAGE = {page!r}\n")
    seen = recorded(monkeypatch)
    report = check_command(command, page="Affine")
    assert report.status == 0, report.table()
    assert {p.quantity for p in report.passed} == {
        "forward", "log_det", "jacobian", "vjp.z_bar", "vjp.shift_bar", "vjp.scale_bar", "inverse", "inverse_log_det",
        "inverse_vjp.x_bar", "inverse_vjp.shift_bar"}
    assert [s.quantity for s in report.skipped] == ["inverse_vjp.scale_bar"]
    assert any("outside the limits" in note for note in report.notes)
    assert {message.get("request", message.get("answer")) for message in seen.values()} == {"start", "run", "stop"}
    assert all(broken(message, schema("protocol"), schema("protocol"), "") is None for message in seen.values())


def recorded(monkeypatch):
    """The messages that are exchanged, one of each kind."""
    seen, exchanged = {}, Process.exchanged

    def heard(self, line, about):
        answer = exchanged(self, line, about)
        for message in map(json.loads, (line, answer)):
            seen.setdefault((*message, message.get("quantity"), *message.get("value", ())), message)
        return answer

    monkeypatch.setattr(Process, "exchanged", heard)
    return seen


def test_what_the_code_says_is_a_finding(tmp_path, few):
    """An error that it reports, and a wrong shape."""
    report = check_command(python(tmp_path, """
        if q["request"] == "stop":
            answer(answer="stop")
        elif q["request"] == "start":
            start(quantities=["forward", "log_det"])
        elif q["quantity"] == "forward":
            answer(answer="run", id=q["id"], error="no root found\\nin 100 steps")
        else:
            answer(answer="run", id=q["id"], value={"shape": [1], "values": ["0x0p+0"]})
        """))
    assert {(f.quantity, f.diagnosis.split(":")[0]) for f in report.failed} >= {("forward", "raised HarnessError")}
    assert "no root found" in report.failed[0].diagnosis + report.failed[1].diagnosis
    assert {f.quantity for f in report.failed} == {"forward", "log_det shape"}


# -- processes that break it ------------------------------------------------------------------------------------------

RIGHT = """
start() if q["request"] == "start" else answer(answer="stop") if q["request"] == "stop" else """
BREAKS = {
    "answer(answer='run', id=q['id'], value={'shape': [], 'values': ['1.5']})": "value.values[0] must match",
    "answer(answer='run', id=q['id'], value={'shape': [], 'values': [1.5]})": "value.values[0] must be of type string, not 1.5",
    "answer(answer='run', id=q['id'], value={'shape': [2], 'values': ['inf']})": "1 values for the shape [2]",
    "answer(answer='run', id=q['id'], value=q['event'], more=1)": "has an unknown field 'more'",
    "answer(answer='run', id=q['id'], value=q['event'] | {'more': 1})": "value has an unknown field 'more'",
    "answer(answer='run', id=q['id'], value={'z_bar': q['event']})": "value must be an array",
    "answer(answer='run', id=q['id'])": "either value or error is needed",
    "answer(answer='run', id=q['id'] + 1, value=q['event'])": "gave the answer to request 2 where request 1",
    "answer(answer='stop')": "answer must be \"run\", not \"stop\"",
    "answer(answer='refused', reason='what?')": "refused request 1 (Tanh forward, float64): what?",
    "print('hello', flush=True)": "with a line that is not JSON: \"hello\"",
    "print('[' * 5000, flush=True)": "with a line that is not JSON",
    "print('{\"answer\": NaN}', flush=True)": "with a line that is not JSON",
    "sys.stdout.buffer.write(b'\\xff\\n') and sys.stdout.flush()": "with a line that is not JSON",
    "q['nothing']": "ended with exit status 1 (its last words: KeyError: 'nothing') at request 1",
    "sys.exit(3)": "ended with exit status 3 at request 1",
    "__import__('os').kill(__import__('os').getpid(), 9)": "was ended by SIGKILL at request 1",
    "__import__('time').sleep(100)": "did not answer request 1 (Tanh forward, float64) within",
    "(print('{', end='', flush=True), sys.exit())": "gave an unfinished or too long line",
}


@pytest.mark.parametrize("what, words", BREAKS.items(), ids=BREAKS)
def test_a_process_that_breaks_the_protocol_is_one_line(what, words, tmp_path, run):
    limit = 0.5 if "sleep" in what else 20
    status, out, err = run("check", "--command", python(tmp_path, RIGHT.strip() + " " + what), "--time-limit", limit)
    assert (status, out) == (2, "") and err.startswith("refflow: ") and err.count("\n") == 1 and words in err


STARTS = {
    "print('{}')": "answered the request to start against the protocol: the message lacks the field 'answer'",
    "answer(answer='start', schema='refflow/protocol/2', name='x', pages=[])": "schema must be \"refflow/protocol/1\"",
    "answer(answer='start', schema='refflow/protocol/1', name='x', pages=[])": "has no pages",
    "start(page='Tahn')": "there is no page 'Tahn'; did you mean Tanh or LogTanh?",
    "start(dtypes=['float16'])": "must be one of float32, float64, not \"float16\"",
    "start(quantities=['forwards'])": "pages[0].quantities[0] must be one of forward, log_det",
    "start(limits={'scale': {}})": "Tanh has no real field 'scale'",
    "start(limit={})": "pages[0] has an unknown field 'limit'",
}


@pytest.mark.parametrize("what, words", STARTS.items(), ids=STARTS)
def test_what_a_harness_may_say_that_it_has(what, words, tmp_path):
    with pytest.raises(CannotRun) as refused:
        check_command(python(tmp_path, what))
    assert words in str(refused.value)


@pytest.mark.parametrize("command, words", [
    ("./nothing", "./nothing cannot be started: No such file or directory"), ("", "the command is empty"),
    ("'open", "No closing quotation")])
def test_a_command_that_cannot_be_started(command, words, run):
    status, out, err = run("check", "--command", command)
    assert (status, out, err.count("\n")) == (2, "", 1) and words in err


def test_what_ends_a_process_is_said_again(tmp_path):
    """The search for a simpler input passes over errors at inputs; the end of the process is not one of them."""
    with Process(python(tmp_path, "start(); sys.exit(3)")) as process:
        process.ask({"request": "start", "schema": "refflow/protocol/1"}, "the first request")
        for _ in range(2):
            with pytest.raises(CannotRun, match="ended with exit status 3 at the second request"):
                process.ask({"request": "stop"}, "the second request")
        with pytest.raises(CannotRun, match="at the second request"):
            process.stop()


def test_the_end_of_a_process_is_noted(tmp_path, few):
    report = check_command(python(tmp_path, """
        if q["request"] == "stop":
            answer(answer="stop")
            sys.exit("a leak")
        start() if q["request"] == "start" else answer(answer="run", id=q["id"], value=q["event"])
        """))
    assert report.status == 1 and report.notes[-1].endswith("ended with exit status 1 (its last words: a leak)")


# -- the schemas ------------------------------------------------------------------------------------------------------

ARRAY = {"shape": [1], "values": ["0x1.8p+0"]}
RUN = {"request": "run", "id": 1, "page": "Affine", "dtype": "float64", "quantity": "vjp", "params": {"scale": ARRAY},
       "event": ARRAY, "image_bar": ARRAY, "log_det_bar": ARRAY}
CHANGES = [lambda m: m.update(more=1), lambda m: m.pop("id"), lambda m: m.update(id="1"), lambda m: m.update(id=0),
           lambda m: m.update(id=True), lambda m: m.update(dtype="float16"), lambda m: m.update(request="stop"),
           lambda m: m["params"].update(scale=1.5), lambda m: m["params"].update(scale={"shape": [1], "values": [1]}),
           lambda m: m["params"].update(tails="linear", sizes=[1, [2, False]]), lambda m: m.update(event=[1]),
           lambda m: m.update(event={"shape": [-1], "values": []}), lambda m: m.update(event={"shape": [1], "values": ["0x1"]}),
           lambda m: m.update(event={"shape": [1], "values": ["0x1p+0\n"]}),
           lambda m: m.update(event=ARRAY | {"dtype": "float64"})]
KEPT = {8, 9}


def test_the_schema_refuses_what_it_does_not_know():
    assert violation(RUN, "protocol", "run_request") is None
    for i, change in enumerate(CHANGES):
        message = json.loads(json.dumps(RUN))
        change(message)
        assert (violation(message, "protocol", "run_request") is None) == (i in KEPT), message


def test_the_conversation_of_the_document_keeps_the_schema():
    text = (Path(oracle.__file__).parent / "README.md").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in re.search(r"^```json\n(.*?)^```", text, re.M | re.S)[1].splitlines()]
    assert len(lines) == 8 and all(broken(line, schema("protocol"), schema("protocol"), "") is None for line in lines)


def test_the_schemas_have_known_keywords_only():
    """So that the check of this package is the check of every validator."""
    def keywords(part):
        for key, value in part.items():
            yield key
            parts = {"properties": lambda v: v.values(), "$defs": lambda v: v.values(), "anyOf": lambda v: v}.get(key)
            for inner in parts(value) if parts else [value] if isinstance(value, dict) else ():
                yield from keywords(inner)

    for path in SCHEMAS.glob("*.json"):
        assert set(keywords(schema(path.stem))) <= set(KEYWORDS) | WORDS


def test_the_check_agrees_with_jsonschema():
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is needed: pip install jsonschema")
    of_requests = schema("protocol") | {"anyOf": [{"$ref": "#/$defs/run_request"}]}
    validator = jsonschema.Draft202012Validator(of_requests)
    jsonschema.Draft202012Validator.check_schema(of_requests)
    for change in (lambda m: None, *CHANGES[:-2], CHANGES[-1]):         # in Python's `re`, $ matches before a last newline
        message = json.loads(json.dumps(RUN))
        change(message)
        assert validator.is_valid(message) == (violation(message, "protocol", "run_request") is None), message
