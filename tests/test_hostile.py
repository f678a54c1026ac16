"""Code under test that forks, crashes, or changes the state of the process: the check goes on, says what happened, and writes where it was told."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import refflow
from refflow.cli import isolation
from refflow.cli.isolation import can_isolate, outcome, value_of
from refflow.cli.sweeps import WorkerEnded
from refflow.oracle import CannotRun, adapter, check
from refflow.oracle.asking.global_state import put_back
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


@pytest.mark.parametrize("text", ["os.chdir('elsewhere')\n" + EXP.format(before="pass"), EXP.format(before="os.chdir('/')")],
                         ids=["import", "adapter"])
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


# -- crashes ----------------------------------------------------------------------------------------------------------

CRASH = "import ctypes\n"
SEGFAULT, EXIT = "ctypes.string_at(0)", "ctypes.CDLL(None)._exit(3)"
CRASHES = {
    "import": (SEGFAULT + EXP.format(before="pass"), "by SIGSEGV: while it was imported"),
    "adapter": (EXP.format(before=f"z.min() < -5 and {SEGFAULT}"), r"by SIGSEGV: mine, for Exp, float64, at .*-\d.*, its function"),
    "box": (BOX.format(before=f"len(z) > 40 and {SEGFAULT}"), r"by SIGSEGV: .*forward of \d+ events, the first of which is"),
    "an exit of C's": (EXP.format(before=EXIT), "with exit status 3: mine, for Exp, float64, at"),
    "lack of memory": (EXP.format(before="os.kill(os.getpid(), signal.SIGKILL)"), r"by SIGKILL \(perhaps for lack of memory\)"),
    "not every time": (EXP.format(before="os.path.exists('once') or (open('once', 'w'), os.abort())"),
                       "by SIGABRT, and has not when everything was asked again")}


@pytest.mark.skipif(not can_isolate(), reason="there are no forks")
@pytest.mark.parametrize("how", CRASHES)
def test_a_crash_names_map_and_point(how, tmp_path):
    """With the exit status of what could not run, and one line."""
    text, words = CRASHES[how]
    (tmp_path / "mine.py").write_text(HEAD + CRASH + text)
    found = refflow_in(tmp_path, "check", "mine.py")
    line = found.stderr.splitlines()[-1]
    assert found.returncode == 2 and not found.stdout, found
    assert re.search(f"^refflow: mine.py has ended the process {words}", line), line


@pytest.mark.skipif(not can_isolate(), reason="there are no forks")
@pytest.mark.parametrize("how", ["adapter", "lack of memory", "not every time"])
def test_a_crash_of_a_worker_names_the_same(how, tmp_path):
    """As without workers, whose process is the command's."""
    text, words = CRASHES[how]
    words = r"of --workers \(perhaps for lack of memory\), and has not" if how == "not every time" else words
    (tmp_path / "mine.py").write_text(HEAD + CRASH + text)
    found = refflow_in(tmp_path, "check", "mine.py", "--workers", "2")
    line = found.stderr.splitlines()[-1]
    assert found.returncode == 2 and not found.stdout, found
    assert re.search(f"^refflow: mine.py has ended the process {words}", line), line


def test_what_comes_back_of_a_process_is_plain():
    """Texts and numbers, no objects that are built from what was sent; an error comes back as itself."""
    def raising(error):
        raise error

    for error in (CannotRun("why"), WorkerEnded("early"), KeyboardInterrupt(15), MemoryError("much"), BrokenPipeError(errno.EPIPE, "gone"),
                  FileNotFoundError(errno.ENOENT, "there is none", "a.npz")):
        sent = json.loads(json.dumps(outcome(lambda error=error: raising(error))))
        with pytest.raises(type(error)) as raised:
            value_of(sent)
        assert str(raised.value) == str(error)
    assert value_of(json.loads(json.dumps(outcome(lambda: {"text": "é", "status": 1})))) == {"text": "é", "status": 1}
    assert "pickle" not in Path(isolation.__file__).read_text(encoding="utf-8")


@pytest.mark.skipif(not can_isolate(), reason="there are no forks")
def test_what_a_process_of_its_own_says_is_said(tmp_path):
    """The report, an error of use, and a defect of refflow; what is left for the end of the process is not waited for."""
    (tmp_path / "mine.py").write_text(HEAD + "import atexit\natexit.register(os._exit, 0)\n" + EXP.format(before="print('said')"))
    found = refflow_in(tmp_path, "check", "mine.py", "--html", "report.html")
    assert found.returncode == 0 and "0 fail" in found.stdout and "said" in found.stderr and (tmp_path / "report.html").is_file()
    (tmp_path / "mine.py").write_text(HEAD + EXP.format(before="unknown"))
    found = refflow_in(tmp_path, "check", "mine.py", "--json")
    assert found.returncode == 2 and found.stderr.startswith("refflow: mine: the adapter itself raised NameError"), found
    (tmp_path / "mine.py").write_text(HEAD + "import refflow.oracle.asking.adapter\nimport sys\n"
                                      "sys.modules['refflow.oracle.asking.adapter'].read = None\n"
                                      + EXP.format(before="pass"))
    found = refflow_in(tmp_path, "check", "mine.py")
    assert found.returncode == 2 and "this is a defect of refflow" in found.stderr.splitlines()[-1] and "Traceback" in found.stderr


@pytest.mark.skipif(not can_isolate(), reason="there are no forks")
def test_a_process_of_its_own_is_ended_with_the_command(tmp_path):
    (tmp_path / "mine.py").write_text(HEAD + "import time\nopen('began', 'w').write(str(os.getpid()))\ntime.sleep(60)\n" + EXP.format(before="pass"))
    command = subprocess.Popen([sys.executable, "-m", "refflow", "check", "mine.py"], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)},
                               stderr=subprocess.PIPE, text=True)
    while command.poll() is None and not ((tmp_path / "began").exists() and (tmp_path / "began").read_text()):
        time.sleep(0.05)
    command.send_signal(signal.SIGTERM)
    assert command.communicate(timeout=30)[1].splitlines()[-1] == "refflow: interrupted" and command.returncode == 130
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "began").read_text()), 0)
