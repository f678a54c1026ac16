"""Code that never answers ends the check with one line: what was asked of it."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import refflow
from refflow.oracle import CannotRun, adapter
from refflow.oracle import check as oracle_check
from refflow.oracle.asking.time_limits import LIMIT, in_time, limited
from refflow.testing import BlackBox, verdicts

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there is no alarm")
SHORT = 0.05


def for_ever(*arguments):
    while True:
        time.sleep(0.001)


def stubborn():
    """Code that takes any exception for its own."""
    while True:
        with contextlib.suppress(Exception):
            for_ever()


def test_a_box_that_never_returns():
    """Made, at once, and in a law: the message names the law, the quantity and the point."""
    with pytest.raises(CannotRun, match="within 0.05 seconds: the function that makes the box, for seed 0"):
        refflow.check(lambda seed: for_ever(), time_limit=SHORT)
    with pytest.raises(CannotRun, match=r"there was no answer within 0.05 seconds: forward of 2 events, the first of which is"):
        refflow.check(BlackBox(for_ever), time_limit=SHORT)

    def far(x):
        return x if len(x) < 40 else stubborn()

    with pytest.raises(CannotRun, match=r"law `inverse of forward`, inverse of 43 events, the first of which is \[0\.0"):
        verdicts(BlackBox(lambda z: z, far, event=(2,)), time_limit=SHORT)


def test_an_adapter_that_never_returns():
    """The function itself, and a function that it returns, at one point."""
    def mine(params, z):
        return {"forward": params["scale"] * z + params["shift"], "inverse": for_ever}

    with pytest.raises(CannotRun, match=r"mine, for Affine with shift=.*, scale=.*, float64, at .*, inverse$"):
        refflow.check(mine, page="Affine", dtype="float64", time_limit=SHORT)
    with pytest.raises(CannotRun, match="for Tanh, float32, at .*, its function"):
        refflow.check(lambda params, z: for_ever(), page="Tanh", time_limit=SHORT)


def test_a_long_event_is_told_in_short():
    with pytest.raises(CannotRun) as late:
        refflow.check(BlackBox(lambda z: z if len(z) < 40 else for_ever(), event=(3, 8, 8)), time_limit=SHORT)
    assert "(192 numbers)" in str(late.value) and len(str(late.value)) < 400


def test_the_limit_is_of_each_answer():
    """Many answers in time take longer together."""
    calls = []

    def forward(z):
        calls.append(time.sleep(0.002))
        return 2 * z

    assert verdicts(BlackBox(forward), time_limit=0.2).status == 0
    assert len(calls) * 0.002 > 0.2


def test_nothing_is_left_behind():
    """No alarm, no limit, and the handler of the user's own."""
    def heard(number, frame):
        raise AssertionError

    before = signal.signal(signal.SIGALRM, heard)
    try:
        with contextlib.suppress(CannotRun):
            refflow.check(BlackBox(for_ever), time_limit=SHORT)
        assert signal.getsignal(signal.SIGALRM) is heard and signal.getitimer(signal.ITIMER_REAL) == (0, 0)
        assert LIMIT.seconds is None and not LIMIT.running and LIMIT.asked == ()
    finally:
        signal.signal(signal.SIGALRM, before)


def test_it_is_told_where_it_cannot_be_kept():
    """On another thread, and on a system without alarms."""
    told = []

    def run():
        try:
            refflow.check(BlackBox(np.exp), time_limit=SHORT)
        except CannotRun as error:
            told.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert told == ["time_limit cannot be kept on a thread other than the main one: use processes, as --workers does"]
    with ThreadPoolExecutor(1) as executor, pytest.raises(CannotRun, match="other than the main one"):
        oracle_check(adapter("Exp", dtype="float64")(lambda params, z: {"forward": np.exp(z)}), time_limit=1, executor=executor)


def test_a_system_without_alarms(monkeypatch):
    monkeypatch.delattr(signal, "setitimer")
    with pytest.raises(CannotRun, match="this system has no alarm"), limited(1):
        pass


@pytest.mark.parametrize("seconds", [0, -1.0])
def test_a_limit_is_positive(seconds):
    with pytest.raises(CannotRun, match="time_limit must be a number of seconds above 0"), limited(seconds):
        pass


def test_without_a_limit_nothing_is_armed(monkeypatch):
    monkeypatch.setattr(signal, "setitimer", None)
    assert in_time(lambda: 3, lambda: "a number") == 3


@pytest.mark.parametrize("workers", ["1", "2"])
def test_on_the_command_line(run, tmp_path, workers):
    path = tmp_path / "mine.py"
    path.write_text("from refflow.oracle import adapter\nimport time\n\n@adapter('Exp', dtype='float64')\n"
                    "def mine(params, z):\n    while True:\n        time.sleep(0.001)\n")
    status, out, err = run("check", path, "--time-limit", "0.1", "--workers", workers)
    assert status == 2 and not out
    assert "refflow: there was no answer within 0.1 seconds: mine, for Exp, float64, at " in err and err.endswith("its function\n")


def test_boxes_on_the_command_line(run, tmp_path):
    path = tmp_path / "boxes.py"
    path.write_text("from refflow.testing import BlackBox\nimport time\n\ndef late(z):\n    time.sleep(0.4)\n    raise ValueError\n\n"
                    "first, second = BlackBox(lambda z: z), BlackBox(late)\n")
    status, out, err = run("check", path, "--time-limit", "0.1")
    assert status == 2 and not out and err.startswith("refflow: there was no answer within 0.1 seconds: forward of 2 events")
