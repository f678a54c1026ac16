"""Code under test that forks, crashes, or changes the state of the process: the check goes on, says what happened, and writes where it was told."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import refflow
from refflow.oracle import adapter, check
from refflow.oracle.global_state import put_back
from refflow.testing import BlackBox, verdicts

ROOT = Path(__file__).parent.parent
HEAD = "import os, signal, sys\nimport numpy as np\nfrom refflow.oracle import adapter\nfrom refflow.testing import BlackBox\n"
EXP = "\n@adapter('Exp', dtype='float64')\ndef mine(params, z):\n    x = np.exp(z)\n    {before}\n    return {{'forward': x}}\n"
BOX = "\ndef forward(z):\n    x = np.sinh(z)\n    {before}\n    return x\n\nmine = BlackBox(forward, np.arcsinh, event=())\n"
# at most 20 forks in all, and so at most 21 processes, whatever becomes of a child
FORKING = """
def fork():
    open("asking", "a").write(f"{os.getpid()}\\n")
    if not os.path.exists("forks") or os.path.getsize("forks") < 20:
        open("forks", "a").write(".")
        os.fork()
"""


def refflow_in(cwd, *arguments):
    given = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run([sys.executable, "-m", "refflow", *arguments], cwd=cwd, env=given, capture_output=True, text=True, timeout=300)


# -- forks ------------------------------------------------------------------------------------------------------------

@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.parametrize("text", ["fork()\n" + EXP.format(before="pass"), EXP.format(before="fork()"), BOX.format(before="fork()")],
                         ids=["import", "adapter", "box"])
def test_a_child_of_a_fork_does_not_check_again(text, tmp_path):
    """One process asks, and one reports."""
    (tmp_path / "mine.py").write_text(HEAD + FORKING + text)
    found = refflow_in(tmp_path, "check", "mine.py")
    assert found.returncode == 0, found.stderr
    assert len(set((tmp_path / "asking").read_text().split())) == 1 and (tmp_path / "forks").exists()
    assert found.stdout.count("0 fail" if "BlackBox(" not in text else "laws ran") == 1


# -- the state of the process -----------------------------------------------------------------------------------------

CHANGES = {"NumPy's errors": "np.seterr(all='raise')", "its printing": "np.set_printoptions(precision=1, legacy='1.13')",
           "recursion": "sys.setrecursionlimit(150)", "an interruption": "signal.signal(signal.SIGINT, signal.SIG_IGN)",
           "a stream": "sys.stderr = None", "the path": "sys.path.clear()"}


@pytest.mark.parametrize("where", ["import", "adapter", "box"])
@pytest.mark.parametrize("what", CHANGES)
def test_what_is_changed_is_put_back(run, tmp_path, what, where, monkeypatch):
    """A report is the same as without the change, and so is the state of the process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    form, change = BOX if where == "box" else EXP, CHANGES[what]
    changed = HEAD + (change + "\n" + form.format(before="pass") if where == "import" else form.format(before=change))
    states = [np.geterr(), np.get_printoptions(), sys.getrecursionlimit(), signal.getsignal(signal.SIGINT)]
    reports = []
    for text in (changed, HEAD + form.format(before="pass")):
        (tmp_path / "mine.py").write_text(text)
        status, out, err = run("check", tmp_path / "mine.py")
        assert status == 0, err
        reports.append(out)
    assert reports[0] == reports[1]
    assert states == [np.geterr(), np.get_printoptions(), sys.getrecursionlimit(), signal.getsignal(signal.SIGINT)]


def test_numpy_raises_where_the_caller_has_said_so():
    """In the program that calls refflow: what refflow computes by itself is not the caller's."""
    with np.errstate(all="raise"):
        assert check(adapter("Exp", dtype="float64")(lambda params, z: {"forward": np.exp(z)})).status == 0
        assert verdicts(BlackBox(np.sinh, np.arcsinh)).status == 0
        assert refflow.check(lambda params, z: {"forward": np.exp(z)}, page="Exp", dtype="float32").status == 0


def test_the_directory_is_put_back_after_an_exception(tmp_path):
    here = os.getcwd()
    with pytest.raises(KeyError), put_back(directory=True):
        os.chdir(tmp_path)
        raise KeyError
    assert os.getcwd() == here


@pytest.mark.parametrize("text", ["os.chdir('elsewhere')\n" + EXP.format(before="pass"), EXP.format(before="os.chdir('/')")], ids=["import", "adapter"])
def test_the_report_lies_where_it_is_said(text, run, tmp_path):
    """Written in the directory in which the command began."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "mine.py").write_text(HEAD + text)
    status, out, err = run("check", "mine.py", "--html", "report.html")
    assert status == 0 and "report.html is written" in err
    assert (tmp_path / "report.html").is_file() and not list((tmp_path / "elsewhere").iterdir()) and os.getcwd() == str(tmp_path)


def test_a_baseline_lies_where_it_is_said(run, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "test_mine.py").write_text(
        "import os\nimport numpy as np\nfrom refflow.testing import page_tests\nos.chdir('elsewhere')\n\n"
        "@page_tests('Exp', dtype='float64')\ndef test_exp(params, z):\n    return {'forward': np.exp(z)}\n")
    assert run("baseline", "test_mine.py", "--out", "base.toml")[0] == 0
    assert (tmp_path / "base.toml").is_file() and not list((tmp_path / "elsewhere").iterdir())
