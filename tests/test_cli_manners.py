"""How commands end: exit status 2 with one line if one could not run, no file written over, no traceback, no warning."""

from __future__ import annotations

import builtins
import importlib
import itertools
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from forking import forked
from refflow.audio import MelSettings
from refflow.cli import list_pages, main
from refflow.cli.speech import Speech
from refflow import Affine, Flow, StandardNormal, realnvp
from refflow.models import glow_tts
from refflow.report import counted, parts_text
from refflow.saving import about, load, save

training = importlib.import_module("refflow.training.fit")      # in the package this name is the function's
ELSEWHERE, LONG = training.Progress.ELSEWHERE, training.Progress.LONG
posix = pytest.mark.skipif(os.name != "posix", reason="FIFOs, signals, /dev/full, forks")


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("data.npy", np.random.default_rng(0).normal(size=(60, 2)))
    save(Flow(Affine(np.zeros(2), 1.0), StandardNormal(2)), "flow.npz")
    sizes = {"filters": 4, "duration_filters": 4, "layers": 1, "blocks": 1, "hidden": 4, "wave_layers": 1}
    voice = glow_tts(np.random.default_rng(0), 2, 80, 4, **sizes)
    save(voice, "voice.npz", Speech(("a", "b"), ("",), "characters", MelSettings()).note())


def ended(*arguments, anew=False, stdout=None, encoding="utf-8"):
    """(exit status, stdout, stderr) of a separate process, in which warnings are errors: a fork, or one that starts `anew`."""
    arguments = [str(a) for a in arguments]
    if not anew:
        return forked(lambda: main(arguments), stdout, encoding)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[1]), *sys.path]),
                                "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-W", "error", "-m", "refflow", *arguments], env=environment, timeout=120,
                          stdout=stdout or subprocess.PIPE, stderr=subprocess.PIPE)
    return done.returncode, (done.stdout or b"").decode(), done.stderr.decode()


# -- files ------------------------------------------------------------------------------------------------------------

WRITING = {"sample": ("sample", "flow.npz"), "score": ("score", "flow.npz", "data.npy"), "data": ("data", "wine"),
           "fit": ("fit", "data.npy", "--steps", 2), "speak": ("speak", "voice.npz", "abaabbab")}
SUFFIX = {"fit": "npz", "speak": "wav"}


def target(name):
    return f"out.{SUFFIX.get(name, 'csv')}"


@posix
@pytest.mark.parametrize("name", WRITING)
def test_only_regular_files_are_written_over(run, files, name):
    out = target(name)
    os.mkfifo(out)
    for force in ((), ("--force",)):
        status, text, err = run(*WRITING[name], "--out", out, *force)
        assert status == 2 and not text and err == f"refflow: {out}: it is not a regular file\n"
    assert Path(out).is_fifo()
    if name not in SUFFIX:
        assert run(*WRITING[name], "--out", "/dev/null", "--force")[0] == 2 and Path("/dev/null").is_char_device()
    Path("link" + out).symlink_to(out)
    assert run(*WRITING[name], "--out", "link" + out, "--force")[0] == 2 and Path(out).is_fifo()


@posix
@pytest.mark.parametrize("name", WRITING)
def test_a_file_that_is_written_over_keeps_its_mode(run, files, name):
    if name == "data":
        pytest.importorskip("sklearn")
    out, before = Path(target(name)), os.umask(0o027)
    try:
        assert run(*WRITING[name], "--out", out)[0] == 0 and out.stat().st_mode & 0o777 == 0o640
        out.chmod(0o604)
        assert run(*WRITING[name], "--out", out, "--force")[0] == 0 and out.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", WRITING)
def test_a_file_that_has_come_into_being_is_left_as_it_is(run, files, name, monkeypatch):
    """Something else that writes the file while the command runs."""
    if name == "data":
        pytest.importorskip("sklearn")
    out, link = target(name), os.link

    def late(new, path):
        if Path(path).name == out and not Path(path).exists():
            Path(path).write_text("theirs")
        link(new, path)

    monkeypatch.setattr(os, "link", late)
    beside = out.replace(".", "-2.")
    status, _, err = run(*WRITING[name], "--out", out)
    assert status == 0 and Path(out).read_text() == "theirs" and Path(beside).stat().st_size > 10
    assert err.endswith(f"refflow: {out} has come into being meanwhile, and is left as it is; {beside} is written\n")


# -- exit status ------------------------------------------------------------------------------------------------------

@posix
@pytest.mark.parametrize("arguments", [("--help",), ("check", "--json", "--page", "Exp"), ("list",), ("show", "Tanh"),
                                       ("sample", "flow.npz"), ("sample", "flow.npz", "--n", 9999), ("score", "flow.npz", "data.npy")],
                         ids=lambda given: " ".join(map(str, given)))
def test_a_full_disk(files, arguments):
    with open("/dev/full", "w") as full:
        status, _, err = ended(*arguments, stdout=full, anew=arguments == ("--help",))
    assert status == 2 and err == "refflow: standard output: No space left on device\n"


@posix
@pytest.mark.parametrize("arguments", [("list",), ("show", "Tanh"), ("show", "Tanh", "--all"), ("textbook", "Tanh"), ("truth", "--help"),
                                       ("check", "--page", "Exp"), ("sample", "flow.npz", "--n", 9999)],
                         ids=lambda given: " ".join(map(str, given)))
def test_a_closed_pipe_is_quiet(files, arguments):
    """As before `head`, which ends when it has its lines."""
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed:
        status, _, err = ended(*arguments, stdout=closed)
    assert status == 0 and all(line.startswith("refflow: ") for line in err.splitlines())


@posix
def test_a_command_without_standard_output_is_quiet(monkeypatch):
    """Python has None for it after `>&-`."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", None)
        status = main(["show", "Tanh"])
        sys.stdout.close()
    assert status == 0


@posix
def test_a_full_disk_under_a_file_names_the_file(run, files, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    words = f"refflow: {Path('s.csv').resolve()}: No space left on device\n"
    assert run("sample", "flow.npz", "--out", "s.csv") == (2, "", words)


def test_a_crash_is_not_a_finding(run, files, monkeypatch):
    def broken(options):
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(list_pages, "facts", broken)
    status, out, err = run("list")
    assert status == 2 and not out and err.startswith("Traceback") and err.endswith(
        "refflow: crashed by TypeError: this is a defect of refflow\n")


def test_a_file_that_is_not_of_adapters(run, files):
    Path("ok.csv").write_text("a,b\n1,2\n")
    assert run("check", "ok.csv") == (2, "", "refflow: ok.csv: a file of adapters is Python code, and its name ends in .py\n")


def test_not_enough_memory(run, files, monkeypatch):
    for n in (10**12, 10**18, 10**30):
        status, out, err = run("sample", "flow.npz", "--n", n)
        assert status == 2 and not out
        assert re.fullmatch(rf"refflow: --n {n}: these are .* GB, and this machine has .* GB .*\n", err)

    def broken(options):
        raise MemoryError("Unable to allocate 5 GB")

    monkeypatch.setattr(list_pages, "load_all", lambda: broken(None))
    assert run("list") == (2, "", "refflow: there is not enough memory: Unable to allocate 5 GB\n")


@posix
def test_ctrl_c_in_check(files):
    def check():
        signal.signal(signal.SIGINT, signal.default_int_handler)        # a shell may have started us with interruptions ignored
        sys.modules["refflow.oracle.check"].own_answers = lambda *_: os.kill(os.getpid(), signal.SIGINT)
        return main(["check"])

    assert forked(check) == (130, "", "refflow: interrupted\n")


# -- characters and numbers -------------------------------------------------------------------------------------------

@posix
def test_names_that_standard_output_lacks(run, files):
    Path("data.csv").write_text("\u6e29\u5ea6,b\n1,2.5\n2,1\n4,4.5\n3,7\n", encoding="utf-8")
    assert run("fit", "data.csv", "--out", "named.npz", "--steps", 2)[0] == 0
    for command in (("sample", "named.npz"), ("score", "named.npz", "data.csv", "--out", "-")):
        status, out, err = ended(*command, encoding="cp1252", anew=command[0] == "sample")
        assert status == 2 and not out and err == (
            "refflow: standard output is cp1252, which has no '\\u6e29'; --out writes UTF-8, as does PYTHONIOENCODING=utf-8\n")
    for command in (("sample", "named.npz", "--json"), ("score", "named.npz", "data.csv"), ("show", "Tanh"),
                    ("fit", "data.csv", "--out", "again.npz", "--steps", 2), ("sample", "named.npz", "--out", "s.csv"),
                    ("check", "--page", "Tanh")):
        status, _, err = ended(*command, encoding="cp1252")
        assert status == 0 and "Traceback" not in err, command
    assert Path("s.csv").read_text(encoding="utf-8").startswith("\u6e29\u5ea6,b\n")
    Path("bad.csv").write_text("\u6e29\u5ea6,b\nx,2.5\n", encoding="utf-8")
    assert ended("score", "named.npz", "bad.csv", encoding="cp1252")[0] == 2


def test_numbers_of_any_size(run, files):
    """The suite turns warnings into errors."""
    pytest.importorskip("matplotlib")
    x = np.random.default_rng(0).normal(size=(60, 2))
    large = {"signs": np.copysign(1e308, x), "one": np.where(x > 2, 1.7e308, x), "same": 1.7e308 - 1e300 * abs(x)}
    for name, values in large.items():
        np.save(f"{name}.npy", values)
        for model in ("gaussian", "realnvp"):
            status, out, err = run("fit", f"{name}.npy", "--model", model, "--out", "large.npz", "--steps", 2)
            assert status == 2 and not out and "which is too large to train on (at most 1.07e+301); divide the column" in err
        assert run("score", "flow.npz", f"{name}.npy")[0] == 0
        status, _, err = run("plot", "flow.npz", f"{name}.npy", "--what", "density", "--out", "p.png")
        assert status == 2 and "density: data must be at most 1.07e+301 in magnitude" in err
    np.save("large.npy", x * 1e300)
    assert run("fit", "large.npy", "--model", "realnvp", "--out", "large.npz", "--steps", 2)[0] == 0
    save(Flow(Affine(np.zeros(2), 1e308), Flow(Affine(0.0, 1e3), StandardNormal(2))), "over.npz")
    assert run("plot", "over.npz", "--what", "density", "--out", "p.png")[0] == 2


def test_one_of_a_kind(run, files):
    np.save("one.npy", np.random.default_rng(0).normal(size=(3, 1)))
    out = run("fit", "one.npy", "--out", "one.npz", "--steps", 1, "--validation", 0.7)[1]
    assert out.startswith("one.npy: 1 column, 2 rows to train, 1 held out\n")
    assert parts_text({"train": 1, "test": 1}, "row") == "1 row to train, 1 to test" and counted(2, "column") == "2 columns"


def test_tables_fit_a_terminal(run, files):
    """The likelihoods of three parts in both measures, for 30 columns as for 2."""
    np.save("wide.npy", np.random.default_rng(0).normal(size=(400, 30)) * 1e-5 @ np.random.default_rng(1).normal(size=(30, 30)))
    status, out, err = run("fit", "wide.npy", "--test", 0.2, "--out", "wide.npz", "--steps", 2)
    assert status == 0 and not err and max(map(len, out.splitlines())) <= 80
    head, measures, before = (line.split() for line in out.splitlines()[1:4])
    assert head == ["log-likelihood", "train", "validation", "test"] and measures == ["nats", "bits/dim"] * 3
    assert before[0] == "before" and len(before) == 7
    assert all(line.index("validation") == out.splitlines()[2].index("nats", 20) for line in out.splitlines()[1:2])


@pytest.mark.parametrize("text, looks", [
    ("a;b\n1,5;2,5\n3,5;4,1\n", "this looks like semicolons and decimal commas"),
    ("1,5;2,5\n3,5;4,1\n", "semicolons and decimal commas"), ("a;b\n1;2\n3;4\n", "this looks like semicolons\n"),
    ("a\tb\n1\t2\n", "this looks like tabs"), ("1,2\n3,x\n", "'x' is not a number\n")])
def test_tables_with_other_separators(run, files, text, looks):
    Path("data.csv").write_text(text)
    status, _, err = run("fit", "data.csv", "--out", "f.npz")
    assert status == 2 and looks in err and err.count("\n") == 1


# -- what fit and score say -------------------------------------------------------------------------------------------

def test_the_names_of_models_in_the_guide(run, files):
    np.save("images.npy", np.random.default_rng(0).integers(0, 4, (30, 1, 4, 4)))
    command = ("fit", "images.npy", "--values", 4, "--levels", 1, "--depth", 0, "--hidden", 2, "--steps", 3, "--out")
    assert run(*command, "a.npz", "--model", "image_realnvp")[0] == 0
    assert run(*command, "b.npz", "--model", "realnvp")[0] == 0 and load("a.npz").equals(load("b.npz"))
    guide = (Path(__file__).parents[1] / "refflow" / "cli" / "README.md").read_text(encoding="utf-8")
    assert "`image_realnvp`" in guide
    words = "--model image_realnvp is for images; data.npy is not an array"
    assert words in run("fit", "data.npy", "--model", "image_realnvp", "--out", "c.npz")[2]


class Terminal:
    """stderr that keeps what is written; `terminal`: whether it claims to be one."""

    def __init__(self, terminal):
        self.terminal, self.text = terminal, ""

    def isatty(self):
        return self.terminal

    def write(self, text):
        self.text += text

    def flush(self):
        pass


@pytest.fixture
def shown(monkeypatch):
    """shown(seconds a step, terminal): standard error from now on, with every step taking so long."""
    def start(seconds, terminal):
        clock = itertools.count(0.0, seconds)
        monkeypatch.setattr(training.time, "monotonic", lambda: next(clock))
        monkeypatch.setattr(sys, "stderr", Terminal(terminal))
        return sys.stderr

    return start


LINE = re.compile(r"(\d+)/(\d+)  train (-?[\d.]+) nats  validation (-?[\d.]+) nats(?: \(step (\d+)\))?(?:  (.+) left)?(?:  \((\d+ threads?.*)\))?")


def test_without_a_terminal_a_line_every_half_minute(run, files, shown, monkeypatch):
    monkeypatch.setattr(training.Progress, "ELSEWHERE", ELSEWHERE)          # which the fixture `run` disables
    stderr = shown(4.0, False)
    report = run("fit", "data.npy", "--model", "realnvp", "--hidden", 4, "--out", "f.npz", "--steps", 40, "--patience", 0,
                 "--checkpoint-every", 0)
    lines = [LINE.fullmatch(line) for line in stderr.text.splitlines()]
    assert report[0] == 0 and all(lines)
    steps = [0, *(int(line[1]) for line in lines), 40]
    assert max(b - a for a, b in zip(steps, steps[1:])) * 4.0 <= 30 and len(lines) >= 5
    left = [line[6] for line in lines if line[1] != "40"]
    assert left == [training.time_text(4.0 * (40 - n)) for n in steps[1:len(left) + 1]] and left[0] == "2 min"


def test_times():
    seconds = {0.4: "0 s", 89.4: "89 s", 90: "2 min", 5340: "89 min", 5400: "1 h 30 min", 86400: "24 h 0 min"}
    assert {given: training.time_text(given) for given in seconds} == seconds


def test_progress_is_in_the_units_of_the_table_and_its_validation_value_is_fresh(run, files, shown):
    stderr = shown(1.0, True)
    out = run("fit", "data.npy", "--out", "f.npz", "--steps", 30, "--patience", 0, "--learning-rate", 0.05,
              "--checkpoint-every", 0)[1]
    lines = [LINE.search(part) for part in stderr.text.split("\r") if "/30" in part]
    assert [int(line[1]) for line in lines] == list(range(1, 31))
    history = about("f.npz")["history"]
    history = dict(zip(history["step"], history["validation"]))
    for line in lines:
        step = int(line[1])
        at = step - step % 10                        # where it was measured last, possibly at this very step
        assert line[5] == (None if at == step else str(at))
        assert float(line[4]) == pytest.approx(-history[at], abs=1e-4)
    after = next(line for line in out.splitlines() if line.startswith("after")).split()
    assert float(after[3]) == pytest.approx(max(float(line[4]) for line in lines), abs=1e-3)


def test_images_are_in_bits(run, files, shown):
    np.save("images.npy", np.random.default_rng(0).integers(0, 4, (30, 1, 4, 4)))
    stderr = shown(1.0, True)
    out = run("fit", "images.npy", "--values", 4, "--model", "glow", "--levels", 1, "--depth", 1, "--hidden", 2, "--steps", 4,
              "--out", "f.npz", "--checkpoint-every", 0)[1]
    assert re.search(r"4/4  train [\d.]+ bits/dim  validation [\d.]+ bits/dim", stderr.text) and "bits/dim" in out


def test_progress_of_the_library_is_the_loss(files, shown):
    stderr = shown(1.0, True)
    x = np.load("data.npy")
    flow = realnvp(np.random.default_rng(0), 2, hidden=(4,), couplings=2)
    training.fit(flow, x, steps=3, validation=0)
    assert "3/3  loss " in stderr.text
    stderr = shown(60.0, False)
    training.fit(flow, x, steps=3, validation=0)
    assert not stderr.text


def test_ctrl_c_during_imports_prints_no_traceback(monkeypatch, capsys):
    """Also where it comes before the command line is imported."""
    from refflow.__main__ import run

    def interrupted(name, *more):
        if "cli" in name or "cli" in str(more):
            raise KeyboardInterrupt
        return imported(name, *more)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", interrupted)
    status = run()
    monkeypatch.undo()
    assert status == 130 and capsys.readouterr() == ("", "refflow: interrupted\n")


def test_a_name_of_two_columns_is_refused_as_a_context(run):
    Path("data.csv").write_text("a,b,a\n" + "".join(f"{i % 7}.5,{i * i % 11}.25,{i % 5}.125\n" for i in range(30)))
    status, _, err = run("fit", "data.csv", "--context", "a", "--out", "f.npz")
    assert status == 2 and err == "refflow: --context: data.csv has 2 columns named 'a', the columns 1, 3; give each its own name\n"


@pytest.mark.parametrize("target", ["Tanh", "tanh", "AffineCoupling"])
def test_a_page_is_checked_by_its_name_alone(run, target):
    status, out, err = run("check", target)
    assert (status, out.splitlines()[1].split()[0]) == (0, "Tanh") if target != "AffineCoupling" else status == 2 and "golden points" in err


def test_a_page_is_found_whatever_its_case(run):
    assert run("show", "relative-attention")[1] == run("show", "RelativeAttention")[1]
    assert run("textbook", "tanh") == run("textbook", "Tanh")


def test_a_long_fit_says_early_how_long_it_takes(run, files, shown, monkeypatch):
    """After 20 steps, where no terminal shows a bar; a short one says nothing."""
    monkeypatch.setattr(training.Progress, "LONG", LONG)                    # which the fixture `run` disables
    stderr = shown(0.5, False)
    run("fit", "data.npy", "--out", "f.npz", "--steps", 400, "--patience", 0, "--checkpoint-every", 0)
    first = LINE.fullmatch(stderr.text.splitlines()[0])
    assert first[1] == "21" and first[6] == training.time_text(0.5 * 379) and first[7] == "1 thread"
    stderr = shown(0.001, False)
    run("fit", "data.npy", "--out", "g.npz", "--steps", 400, "--patience", 0, "--checkpoint-every", 0)
    assert stderr.text == ""
