"""Code under test can neither end a check, whose status would then be its own, nor write into its report."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import refflow
from refflow.oracle import CannotRun, adapter, check
from refflow.oracle.asking.exits import no_exit
from refflow.testing import BlackBox

ROOT = Path(__file__).parent.parent
DECLARED = """import os, sys, ctypes
import numpy as np
from refflow.oracle import adapter
"""
ENDING = {
    "while it is imported": ("import sys\nsys.exit(0)\n", "sys.exit(0) (line 2)"),
    "by os._exit": ("import os\nos._exit(0)\n", "os._exit(0) (line 2)"),
    "after an adapter": (DECLARED + "@adapter('Tanh')\ndef mine(params, z):\n    return {}\nraise SystemExit\n", "sys.exit(None)"),
    "in the adapter": (DECLARED + "@adapter('Tanh')\ndef mine(params, z):\n    sys.exit(0)\n", "sys.exit(0) (line 6)"),
    "in a function of it": (DECLARED + "@adapter('Tanh')\ndef mine(params, z):\n"
                            "    return {'forward': np.tanh(z), 'inverse': lambda x: os._exit(0)}\n", "os._exit(0) (line 6)"),
    "in a limit": (DECLARED + "@adapter('Affine', params={'scale': lambda s: exit()})\ndef mine(params, z):\n"
                   "    return {'forward': z}\n", "sys.exit(None) (line 4)"),
    "by another exception": (DECLARED + "@adapter('Tanh')\ndef mine(params, z):\n    raise GeneratorExit\n",
                             "raise(GeneratorExit) (line 6)"),
}


def run(*arguments, cwd):
    given = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, *arguments], cwd=cwd, env=given, capture_output=True, text=True)


@pytest.mark.parametrize("how", ENDING)
def test_code_that_ends_the_process_is_an_error_of_use(how, tmp_path):
    text, words = ENDING[how]
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(CannotRun) as refused:
        check(tmp_path / "mine.py")
    assert words in str(refused.value)


def test_the_exit_status_is_two(tmp_path):
    (tmp_path / "mine.py").write_text(ENDING["in a function of it"][0])
    for workers in ("1", "2"):
        found = run("-m", "refflow", "check", "mine.py", "--workers", workers, cwd=tmp_path)
        assert found.returncode == 2 and found.stderr.strip().splitlines()[-1].endswith("os._exit(0) (line 6)"), found


def test_an_interruption_stays_one():
    def mine(params, z):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check(adapter("Tanh")(mine))


def test_os_exit_is_given_back():
    own = os._exit
    with no_exit("this"), no_exit("that"):
        assert os._exit is not own
    assert os._exit is own


def test_a_process_that_is_forked_may_end():
    with no_exit("this"):
        process = os.fork()
        if not process:
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 7


def test_a_box_that_ends_the_process_is_an_error_of_use():
    def forward(z):
        sys.exit(0)

    with pytest.raises(CannotRun, match=r"sys\.exit\(0\) \(line \d+\)"):
        refflow.check(BlackBox(forward, event=(2,)))
    with pytest.raises(CannotRun, match=r"os\._exit\(0\)"):
        refflow.check(lambda seed: os._exit(0))


def test_items_of_pytest_are_errors(tmp_path):
    """One of each function, and the exit status is 2."""
    (tmp_path / "test_mine.py").write_text("""import os, sys
from refflow.testing import BlackBox, law_tests, page_tests

@law_tests(BlackBox(lambda z: sys.exit(0), event=(2,)))
def test_flow(law):
    law()

@page_tests("Tanh", dtype="float64")
def test_tanh(params, z):
    os._exit(0)
""")
    found = run("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_mine.py", cwd=tmp_path)
    assert found.returncode == 2 and "2 errors" in found.stdout and "passed" not in found.stdout, found.stdout


PRINTING = DECLARED + """print("at import")
os.system("echo a program")
libc = ctypes.CDLL(None)

@adapter("Exp")
def mine(params, z):
    print("called")
    sys.__stdout__.write("by its old name\\n")
    libc.puts(b"from C")
    return {"forward": np.exp(z)}
"""


@pytest.mark.parametrize("options", [["--json"], ["--markdown"], [], ["--json", "--workers", "2"]], ids=" ".join)
def test_what_code_prints_is_not_in_the_report(options, tmp_path):
    (tmp_path / "mine.py").write_text(PRINTING)
    found = run("-m", "refflow", "check", "mine.py", *options, cwd=tmp_path)
    assert found.returncode == 0, found.stderr
    for words in ("at import", "a program", "called", "by its old name", "from C"):
        assert words in found.stderr and words not in found.stdout
    if "--json" in options:
        assert json.loads(found.stdout)["passed"]


def test_what_code_prints_is_not_in_the_lines_of_baseline(tmp_path):
    (tmp_path / "test_mine.py").write_text("""import numpy as np
from refflow.testing import page_tests
print("at import")

@page_tests("Exp", dtype="float64")
def test_exp(params, z):
    print("called")
    return {"forward": np.exp(z)}
""")
    found = run("-m", "refflow", "baseline", "test_mine.py", "--out", "base.toml", cwd=tmp_path)
    assert found.returncode == 0 and "called" in found.stderr, found
    assert len(found.stdout.splitlines()) == 1 and "base.toml: 1 error of 1 function" in found.stdout
