"""What the certificate's rows depend on: traced functions, their text, and which pages are asked again."""

from __future__ import annotations

import ast
import json
import re

import pytest

from validation import certify, golden, stamp
from validation.records import reached
from validation.certify import PAGES, certified, to_ask
from validation.records.reached import Trace, changed, digest, digest_of_code, in_turn, merged, record, write

CORE = '''
"""Helpers."""
from .numbers import two, one
LIMIT = 2
COUNT: int = 3

def used(x: float):
    """Doubles."""
    return LIMIT * x    # twice

def unused(x):
    return x

class Base:
    fact = 1

    def method(self):
        return [x for x in range(3)]
'''
PAGE = '''
def forward(x):
    return used(x)

def rare(x):
    return x + 1

class textbook:
    def forward(x):
        return x + x
'''
OF_TOY = {"refflow/core/helpers.py": ["Base.method", "used"], "refflow/core/sets/toy.py": ["<lambda>"],
          "refflow/maps/toy.py": ["forward", "textbook.forward"]}


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A small checkout; change(path, old, new) edits it."""
    monkeypatch.setattr(reached, "ROOT", tmp_path)
    monkeypatch.setattr(reached, "RECORD", tmp_path / "reached.json")
    for path in (*reached.MEASURING, reached.COSTING, reached.ALONG, reached.TANGENTS, "refflow/core/sets/toy.py"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("MEASURED = 1\n")
    for path, text in (("refflow/core/helpers.py", CORE), ("refflow/maps/toy.py", PAGE)):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    def change(path, old, new):
        text = (tmp_path / path).read_text()
        assert old in text
        (tmp_path / path).write_text(text.replace(old, new))
        reached.module.cache_clear()

    reached.module.cache_clear()
    yield change
    reached.module.cache_clear()


def test_the_functions_that_a_page_reaches_are_traced(monkeypatch):
    trace, every = Trace(), certify.points
    monkeypatch.setattr(certify, "points", lambda *of: every(*of)[:20])
    monkeypatch.setattr(certify, "climb", lambda *of: None)
    certified(PAGES["Softsign"], "float64", "inverse", trace=trace)
    found = trace.functions()
    assert {"Softsign.inverse", "Softsign.inverse_vjp", "side"} <= set(found["refflow/maps/elementwise/softsign.py"])
    assert "quotient" in found["refflow/core/arithmetic.py"] and "times" not in found["refflow/core/arithmetic.py"]
    assert "refflow/maps/elementwise/tanh.py" not in found
    assert not any(path.startswith(reached.TRUTH) for path in found)            # the digest has them whole


def test_a_trace_that_is_not_wanted_sees_nothing():
    trace = Trace()
    with trace.on(False):
        PAGES["Softsign"]().forward(1.0)
    assert trace.functions() == {}


@pytest.mark.parametrize("path, old, new", [
    ("refflow/core/helpers.py", "LIMIT * x", "LIMIT + x"), ("refflow/core/helpers.py", "LIMIT = 2", "LIMIT = 3"),
    ("refflow/core/helpers.py", "range(3)", "range(4)"), ("refflow/core/helpers.py", "fact = 1", "fact = 2"),
    ("refflow/core/helpers.py", "def used", "def renamed"), ("refflow/core/helpers.py", "two, one", "two, three as one"),
    ("refflow/core/helpers.py", "def method", "def other(self):\n        return 1\n\n    def method"), ("refflow/maps/toy.py", "x + 1", "x + 2"),
    ("refflow/truth/engine.py", "1", "2"), ("refflow/core/sets/toy.py", "1", "2")])
def test_a_change_of_what_is_reached_is_seen(tree, path, old, new):
    write({"Toy": OF_TOY})
    assert changed(["Toy"]) == []
    tree(path, old, new)
    assert changed(["Toy"]) == ["Toy"]


@pytest.mark.parametrize("path, old, new", [
    ("refflow/core/helpers.py", "Doubles", "Multiplies by two"), ("refflow/core/helpers.py", "# twice", "# two times"),
    ("refflow/core/helpers.py", "Helpers", "Two helpers"), ("refflow/core/helpers.py", "return x\n", "return 5 * x\n"),
    ("refflow/core/helpers.py", "LIMIT = 2\n", "LIMIT = 2\n\n\n\n"),
    ("refflow/core/helpers.py", "LIMIT = 2\n", 'LIMIT = 2\n"""What keeps the digits."""\n'),
    ("refflow/maps/toy.py", "class textbook", 'r"""What keeps the digits."""\nclass textbook'),
    ("refflow/core/helpers.py", "class Base", "def new(x):\n    return used(x)\n\nclass Base"),
    ("refflow/core/helpers.py", "from .numbers import two, one", "from ..core.constants import one, two"),
    ("refflow/core/helpers.py", ": int", ": float"), ("refflow/core/helpers.py", "x: float)", "x: int) -> int")])
def test_a_change_of_anything_else_is_not(tree, path, old, new):
    write({"Toy": OF_TOY})
    tree(path, old, new)
    assert changed(["Toy"]) == []


@pytest.mark.parametrize("path, old, new, kept", [("refflow/maps/toy.py", "x + x", "2 * x", False),
                                                  ("validation/records/textbooks.py", "1", "2", True)])
def test_a_textbook_is_a_part_of_the_code_and_what_it_costs_is_not(tree, path, old, new, kept):
    """Golden points, mutants and peers ask the truth, which is made of a textbook."""
    write({"Toy": OF_TOY})
    before = digest_of_code("Toy", OF_TOY)
    tree(path, old, new)
    assert (digest_of_code("Toy", OF_TOY) == before) == kept and changed(["Toy"]) == ["Toy"]


def test_what_measures_along_tangents_counts_where_an_event_has_them(tree):
    write({"Toy": OF_TOY, "Thin": merged([OF_TOY, {reached.TANGENTS: ["frame"]}])})
    assert changed(["Toy", "Thin"]) == []
    tree(reached.ALONG, "1", "2")
    assert changed(["Toy", "Thin"]) == ["Thin"]


def test_a_module_that_is_gone_and_a_page_without_a_record_are_changes(tree, tmp_path):
    write({"Toy": OF_TOY})
    (tmp_path / "refflow/maps/toy.py").unlink()
    reached.module.cache_clear()
    assert changed(["Toy", "New"]) == ["Toy", "New"]


def test_a_module_that_moves_is_the_same(tree, tmp_path):
    write({"Toy": OF_TOY})
    before, moved = record()["Toy"]["digest"], {"refflow/maps/elsewhere/toy.py": OF_TOY["refflow/maps/toy.py"]}
    (tmp_path / "refflow/maps/elsewhere").mkdir()
    (tmp_path / "refflow/maps/toy.py").rename(tmp_path / "refflow/maps/elsewhere/toy.py")
    assert digest("Toy", {path: names for path, names in OF_TOY.items() if path != "refflow/maps/toy.py"} | moved) == before


def test_a_stamp_is_for_what_was_current(monkeypatch, tmp_path, capsys):
    """A page that was stale stays so, and the reason is kept."""
    was = {"rows": ["Tanh"], "golden": ["Exp"], "peers": {"nflows": {"adapters": False, "maps": []}}}
    for module, name, content in ((reached, "RECORD", reached.RECORD.read_text()), (golden, "RECORD", golden.RECORD.read_text()),
                                  (stamp, "STAMPS", "[]")):
        (tmp_path / f"{module.__name__}.json").write_text(content)
        monkeypatch.setattr(module, name, tmp_path / f"{module.__name__}.json")
    monkeypatch.setattr(stamp.peers, "kept", lambda library, given: None)
    monkeypatch.setattr(stamp, "at_the_last_commit", lambda: was)
    monkeypatch.setattr(stamp, "git", lambda *arguments: "")
    for name in ("digest_of_code", "digest"):
        monkeypatch.setattr(reached, name, lambda page, of, was=getattr(reached, name): was(page, of) + "!")
    assert {"Tanh", "Exp"} <= set(changed(list(PAGES)))
    assert stamp.main(["names alone"]) == 0 and "Tanh" not in changed(list(PAGES)) and "Exp" in changed(list(PAGES))
    certificate = json.loads(certify.CERTIFICATE.read_text())
    assert "Exp" not in golden.stale(["Exp", "Tanh"], certificate) and "Tanh" in golden.stale(["Exp", "Tanh"], certificate)
    assert json.loads((tmp_path / "validation.stamp.json").read_text())[0]["why"] == "names alone"
    monkeypatch.setattr(stamp, "git", lambda *arguments: " M certificate.json")
    with pytest.raises(SystemExit):
        stamp.main(["after the records"])
    assert "records have changed since the last commit" in capsys.readouterr().err


def test_a_float32_sweep_belongs_to_its_page(tree, monkeypatch):
    write({"Toy": OF_TOY, "Other": OF_TOY})
    monkeypatch.setattr(reached, "exhaustive", lambda: {"Toy": [{"passes": 1}]})
    monkeypatch.setattr(reached, "changed_at", lambda path: "now")
    assert changed(["Toy", "Other"]) == ["Toy"]


def test_what_all_pages_reach_stands_once(tree):
    other = {"refflow/core/helpers.py": ["used"]}
    write({"Toy": OF_TOY})
    write({"Other": other})
    document = json.loads(reached.RECORD.read_text())
    assert document["all"] == other and document["pages"]["Other"]["reached"] == {}
    assert {name: one["reached"] for name, one in record().items()} == {"Toy": merged([OF_TOY]), "Other": other}
    assert record()["Toy"]["digest"] == digest("Toy", OF_TOY)


def test_each_page_has_its_turn_within_ten_days():
    asked = [name for day in range(700, 710) for name in in_turn(PAGES, day)]
    assert sorted(asked) == sorted(PAGES)


@pytest.fixture(params=["here", "on another machine"])
def recorded(request):
    """A certificate that was made here, or on another machine."""
    machine = certify.fingerprint() if request.param == "here" else {"machine": "another"}
    return {"fingerprint": machine, "elsewhere": {}, "pages": dict.fromkeys(PAGES)}


@pytest.mark.parametrize("tenth", [False, True])
def test_what_is_asked(recorded, tenth, monkeypatch, capsys):
    """On any machine: a page that changed, one without rows and, if it is wanted, a tenth of the others; why is told."""
    monkeypatch.setattr(reached, "changed", lambda names: ["Tanh"])
    del recorded["pages"]["Exp"]
    found, told = to_ask(sorted(PAGES), recorded, tenth), capsys.readouterr().err
    count, every, new, turn = map(int, re.match(r"(\d+) of (\d+) pages are asked: (\d+) whose code .*, and (\d+) of", told).groups())
    others = len(PAGES) - 2
    assert {"Exp", "Tanh"} <= set(found) and (len(found), len(PAGES), 2) == (count, every, new) and count == new + turn
    assert turn in ((others // 10, others // 10 + 1) if tenth else (0,))
    foreign = recorded["fingerprint"] != certify.fingerprint()
    assert (f"{len(PAGES)} of {len(PAGES)} pages were measured on another machine" in told) == foreign


def test_pages_that_reach_a_function_that_changed_are_asked(recorded, monkeypatch):
    """On any machine they, and no others."""
    path, name = "refflow/core/arithmetic.py", "quotient"
    known = {page: one | {"digest": digest(page, one["reached"])} for page, one in record().items()}
    monkeypatch.setattr(reached, "record", lambda: known)
    assert to_ask(sorted(PAGES), recorded) == []
    planted = reached.module(path) | {name: "another text"}
    monkeypatch.setattr(reached, "module", lambda asked, was=reached.module: planted if asked == path else was(asked))
    reaching = sorted(page for page, one in known.items() if name in one["reached"].get(path, ()))
    assert to_ask(sorted(PAGES), recorded) == reaching and 0 < len(reaching) < len(PAGES)


def test_code_has_the_same_text_in_every_version_of_python():
    """Python 3.12 and 3.13 would write it in other words: with type parameters, and without empty lists."""
    code = reached.bare(ast.parse("class Page(Base):\n    def f(self): return 1"))
    assert reached.text_of(code) == (
        "Module(body=[ClassDef(name='Page', bases=[Name(id='Base', ctx=Load())], keywords=[], body=[FunctionDef(name='f', "
        "args=arguments(posonlyargs=[], args=[arg(arg='self')], kwonlyargs=[], kw_defaults=[], defaults=[]), "
        "body=[Return(value=Constant(value=1))], decorator_list=[])], decorator_list=[])], type_ignores=[])")
