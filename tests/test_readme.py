"""The README and the files it links: links lead somewhere, Python blocks run, and print the text that follows them."""

import configparser
import contextlib
import inspect
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from refflow.cli import parser
from refflow.core.version import VERSION
from refflow.oracle import adapter, check
from refflow.oracle.asking.adapter import KEYS, MISTAKES
from refflow.oracle.points import golden
from validation import readme
from validation.original import AGREEMENT, ALLOWED, agreement
from validation.readme import GENERATORS, TABLES, TITLES, difference, stale

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
TEXT = README.read_text(encoding="utf-8")
DOCUMENTS = sorted(path for path in (README, *ROOT.glob("refflow/**/*.md"), *ROOT.glob("validation/**/*.md"),
                                      *ROOT.glob(".github/*.md"))
                   if (path.name != "certificate.md" or path.parent == TABLES) and path.parent.name != "chapters")


def blocks(kind, text=TEXT):
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def examples():
    """(code, what it prints or None) of each Python block."""
    pattern = r"^```python\n(.*?)^```\n(?:\n(?:It prints\n\n)?```text\n(.*?)^```$)?"
    own = [path for path in DOCUMENTS if path.parent.name != "peers"]          # `validation.peers --findings` runs the others
    return [pytest.param(code, shown or None, id=f"{path.relative_to(ROOT)} {i}") for path in own
            for i, (code, shown) in enumerate(re.findall(pattern, path.read_text(encoding="utf-8"), re.M | re.S))]


# -- words ------------------------------------------------------------------------------------------------------------

def test_the_front_door_is_short():
    assert len(TEXT.splitlines()) <= 150


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path):
    prose = re.sub(r"^```.*?^```$", "", path.read_text(encoding="utf-8"), flags=re.M | re.S)
    prose = re.sub(r"`[^`\n]*`", "", prose)            # code may look like a link
    links = [link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link]
    assert [link for link in links if not (path.parent / link.split("#")[0]).exists()] == []


def test_every_document_is_linked_from_the_readme():
    """In one step or several."""
    reached, new = set(), {README}
    while new:
        reached |= new
        found = {(path.parent / link).resolve() for path in new
                 for link in re.findall(r"\]\(([^)\s]+\.md)\)", path.read_text(encoding="utf-8"))}
        new = {path for path in found if path in DOCUMENTS} - reached
    assert set(DOCUMENTS) == reached


def test_versions_are_those_of_setup_cfg():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg", encoding="utf-8")
    needs = dict(line.split(">=") for line in setup["options"]["install_requires"].split())
    python = setup["options"]["python_requires"].removeprefix(">=")
    assert f"Python {python} or later, NumPy {needs['numpy']} or later, SciPy {needs['scipy']} or later" in TEXT
    assert f"version = {{{VERSION}}}" in TEXT and setup["metadata"]["version"] == VERSION


def test_every_key_and_option_of_an_adapter_is_documented():
    text = (ROOT / "refflow" / "oracle" / "README.md").read_text(encoding="utf-8")
    keys, options = (part.split("\n## ")[0] for part in text.split("\n## The ")[1:])
    first_cells = re.compile(r"^\| `(\w+)` \|", re.M)
    assert tuple(first_cells.findall(keys)) == KEYS
    assert first_cells.findall(options) == list(inspect.signature(adapter).parameters)
    assert all(mistake.__name__ in text for mistake in MISTAKES)


def test_every_command_is_documented():
    text = (ROOT / "refflow" / "cli" / "README.md").read_text(encoding="utf-8")
    commands = next(action.choices for action in parser()._actions if action.choices)
    assert {name for cell in re.findall(r"^\| (`.*?) \|", text, re.M) for name in re.findall(r"`([a-z]+)", cell)} >= set(commands)


def test_the_picture_is_small():
    picture = ROOT / re.search(r"!\[[^\]]+\]\(([^)]+)\)", TEXT)[1]
    assert picture.read_bytes().startswith(b"\x89PNG") and picture.stat().st_size < 150_000


# -- code -------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("code, shown", examples())
def test_python_blocks_run(code, shown):
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(code, "README.md", "exec"), {"__name__": "readme"})
    if shown is not None:
        assert difference(shown, printed.getvalue()) is None


def with_libraries():
    """(the library, code, what it prints) of each Python block that needs one."""
    pattern = r"^```python (\w+)\n(.*?)^```\n\n```text\n(.*?)^```$"
    return [found for path in DOCUMENTS for found in re.findall(pattern, path.read_text(encoding="utf-8"), re.M | re.S)]


@pytest.mark.parametrize("library, code, shown", with_libraries(), ids=lambda text: text.split()[0])
def test_python_blocks_of_libraries_run(library, code, shown):
    """In a process of their own: a library's settings are of the whole process."""
    pytest.importorskip(library, reason=f"{library} is missing: pip install {library}")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert difference(shown, done.stdout) is None


def test_there_is_a_block_for_each_promise():
    assert len(blocks("sh")) == 3 and len(blocks("python")) == 2 and len(examples()) == 26
    assert all(len(block.strip().splitlines()) == 1 for block in blocks("sh"))


def test_ci_runs_the_sh_blocks():
    ci = (ROOT / ".ci" / "run").read_text()
    assert "$(block 1)" in ci and "$(block 2)" in ci and "validation.readme --check" in ci
    assert blocks("sh")[0].endswith("&& python -m refflow check\n")
    assert blocks("sh")[1].endswith(quick := "python -m pytest -q -n auto\n") and f"\n{quick.strip()} --slow\n" in ci
    assert blocks("sh")[2] == "python -m refflow check torch\n"         # which `validation.readme --check torch` runs
    assert set(GENERATORS) - {"models"} == set(re.search(r"validation\.readme --check ([a-z ]+)", ci)[1].split())


def test_the_commands_that_documents_name_exist():
    """Of the modules of validation, and of refflow's commands."""
    command = re.compile(r"python -m (validation(?:\.\w+)+|refflow [a-z]+)")
    names = {name for path in DOCUMENTS for name in command.findall(path.read_text(encoding="utf-8"))}
    for name in names:
        package, *parts = re.split(r"[. ]", name)
        if package == "validation":
            path = ROOT.joinpath(package, *parts)
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), name
        else:
            with pytest.raises(SystemExit) as ended:
                parser().parse_args([*parts, "--help"])
            assert ended.value.code == 0, name


# -- what is generated ------------------------------------------------------------------------------------------------

def test_the_systems_agree_to_what_is_recorded():
    """Other machines round differently: the same files, all within the bound, and no difference ten times as large."""
    recorded, found = json.loads(AGREEMENT.read_text()), agreement()
    assert recorded.keys() == found.keys()
    for name, one in found.items():
        assert (one["model"], one["files"]) == (recorded[name]["model"], recorded[name]["files"])
        assert one["largest"] <= min(ALLOWED, 10 * recorded[name]["largest"]) and recorded[name]["largest"] <= ALLOWED


@pytest.mark.parametrize("name", ["certificate", "pages", "systems", "adapter", "findings", "peers"])
def test_generated_text_is_fresh(name):
    """What takes longer is compared by `.ci/run`, through `validation.readme --check`."""
    assert stale(name) is None


def one_in_eight(points):
    """And the first of the others that has a quantity in its dtype."""
    def asked(point):
        return {(name, point.dtype) for name in point.truth}

    kept = points[::8]
    seen = set().union(*map(asked, kept))
    for point in points:
        if not asked(point) <= seen:
            kept.append(point)
            seen |= asked(point)
    return kept


def test_one_in_eight_golden_points_pass_as_many_checks(monkeypatch):
    """Every page, quantity and dtype has points among them; `.ci/run` asks all points."""
    every = golden.own_points
    monkeypatch.setattr(golden, "own_points", lambda *of: one_in_eight(every(*of)))
    made, standing = ([line for line in text.splitlines() if line.startswith(("refflow ", "note: "))]
                      for text in (check().table(), readme.sections(TEXT)["check"]))
    assert made == standing and len(made) == 2


def test_the_users_example_is_caught():
    """The finding names the defect of the README's own adapter."""
    section = readme.sections(TEXT)["adapter"]
    assert section.startswith("```text\nFAIL  mine  inverse  float64")


def test_every_table_is_there():
    """Three are made by modules of their own: `validation.coverage`, `validation.bfloat16`, `validation.solvers`."""
    assert {path.stem for path in TABLES.glob("*.md")} == {make.__name__ for make in TITLES} | {"coverage", "bfloat16", "solvers"}
    assert set(readme.sections(TEXT)) == set(GENERATORS) - {make.__name__ for make in TITLES}


# -- the comparison ---------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("standing, made", [
    ("after   43.608  -2.097", "after 43.609 -2.096"), ("error 3e11", "error 4e11"),
    ("[-1.101601 0.41423]", "[-1.101602 0.41422]"), ("3.94 of 4", "3.95 of 4"), ("21 or 21.000000001", "21 or 21.000000002"),
    ("x  y\n1", "x y\n1"), ("2.5", "2.54"),
])
def test_the_last_place_may_differ(standing, made):
    assert difference(standing, made) is None


@pytest.mark.parametrize("standing, made, words", [
    ("after 43.608", "after 43.610", "line 1"), ("566 checks pass", "567 checks pass", "line 1"),
    ("torch 2.13.0", "torch 2.13.1", "line 1"),
    ("error 3e11", "error 3e12", "line 1"), ("error 3e11", "error 5e11", "line 1"),
    ("a\nnats 1.0", "a\nbits 1.0", "line 2"),
    ("float64", "float32", "line 1"),
    ("1.0\n2.0", "1.0", "1 lines, not 2"), ("inf", "1e308", "line 1"), ("-0.5", "0.5", "line 1"),
    ("4 of 4", "4.5 of 4", "line 1"),
])
def test_what_rounding_cannot_explain_is_seen(standing, made, words):
    assert words in difference(standing, made)


def test_a_stale_section_is_seen(monkeypatch):
    """Its command gives something else."""
    monkeypatch.setattr(readme, "standing", lambda name: readme.whole("pages", readme.pages()).replace("Tanh", "Tahn"))
    assert "Tanh" in stale("pages")
