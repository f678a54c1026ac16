"""refflow fit --resume: a fit that was killed or interrupted ends in the same file as one that was not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from forking import forked
from interruptions import at_step, in_call
from refflow.audio import write_wav
from refflow.cli import checkpoint, fit as cli, main
from refflow.cli.images import Images
from refflow.oracle import CannotRun
from refflow.saving import about, load, save

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals")

ROWS = ("--steps", "40", "--batch-size", "32", "--patience", "0")
IMAGES = ("images.npy", "--values", "8", "--levels", "1", "--depth", "1", "--hidden", "4", "--steps", "14", "--batch-size",
          "16")
FITS = {
    "gaussian": ("data.npy", *ROWS),
    "realnvp": ("data.npy", "--model", "realnvp", "--hidden", "8", "--couplings", "2", *ROWS),
    "no validation": ("data.npy", "--model", "nice", "--validation", "0", *ROWS),
    "json": ("data.npy", "--model", "realnvp", "--hidden", "4", *ROWS),
    "patience": ("data.npy", "--model", "realnvp", "--hidden", "8", "--learning-rate", "0.05", "--patience", "2",
                 "--steps", "200"),
    "noise": ("counts.npy", "--dequantise", "--model", "realnvp", "--hidden", "4", *ROWS),
    "glow": (*IMAGES, "--model", "glow"),
    "image_realnvp": (*IMAGES, "--model", "realnvp"),
    "glow_tts": ("wavs", "--table", "table.csv", "--model", "glow_tts", "--hidden", "4", "--depth", "1", "--layers", "1",
                 "--batch-size", "4", "--steps", "14", "--dropout"),
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    u, v = rng.normal(size=(2, 100))
    np.save("data.npy", np.stack([u, u**2 + 0.3 * v], 1))
    np.save("counts.npy", np.stack([rng.binomial(8, 0.5, 100), v], 1))
    np.save("images.npy", rng.integers(0, 8, (60, 1, 4, 4)).astype(np.uint8))
    Path("wavs").mkdir()
    Path("table.csv").write_text("id,text,speaker\n" + "".join(f"{n},{'abcde'[n % 3:]},{n % 2}\n" for n in range(10)))
    for n in range(10):
        write_wav(f"wavs/{n}.wav", 0.2 * rng.standard_normal(3000 + 300 * n).clip(-4, 4), 22050)


def dying(number, last, *arguments):
    """(exit status, stderr) of a fit that gets a signal after a step, when its checkpoint, if one is due, is written."""
    class Dying(checkpoint.Checkpoints):
        def stepped(self, info, flow):
            super().stepped(info, flow)
            if info["step"] == last:
                os.kill(os.getpid(), number)

    def fit():
        signal.signal(signal.SIGINT, signal.default_int_handler)        # a shell may have started us with interruptions ignored
        signal.signal(signal.SIGHUP, signal.SIG_DFL)                    # and nohup with hang-ups
        checkpoint.Checkpoints = cli.Checkpoints = Dying
        return main(["fit", *arguments])

    status, _, err = forked(fit)
    return status, err


def out_of(name):
    return "flow.json" if name == "json" else "flow.npz"


@pytest.mark.parametrize("name", FITS)
def test_a_fit_that_is_killed_and_resumed_gives_the_same_file(run, files, name):
    out, arguments = out_of(name), FITS[name]
    status, text, err = run("fit", *arguments, "--out", out)
    assert status == 0 and not Path("flow.checkpoint.npz").exists()
    whole = Path(out).read_bytes()
    Path(out).unlink()
    killed, _ = dying(signal.SIGKILL, 9, *arguments, "--out", out, "--checkpoint-every", "1e-9")
    assert killed == -signal.SIGKILL and not Path(out).exists() and load("flow.checkpoint.npz").params()
    assert run("fit", *arguments, "--out", out, "--resume") == (0, text, err)
    assert Path(out).read_bytes() == whole and not Path("flow.checkpoint.npz").exists()


def test_killed_twice_and_after_the_last_step(run, files):
    arguments = FITS["realnvp"]
    assert run("fit", *arguments, "--out", "whole.npz")[0] == 0
    for last, more in ((36, ()), (40, ("--resume",))):
        assert dying(signal.SIGKILL, last, *arguments, "--out", "flow.npz", "--checkpoint-every", "1e-9", *more)[0] == -9
    assert run("fit", *arguments, "--out", "flow.npz", "--resume")[0] == 0
    assert Path("flow.npz").read_bytes() == Path("whole.npz").read_bytes()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_as_ctrl_c(run, files, number):
    """The best flow so far is saved; the checkpoint belongs to the last whole step, whenever the previous one was written."""
    arguments = FITS["realnvp"]
    assert run("fit", *arguments, "--out", "whole.npz")[0] == 0
    status, err = dying(number, 25, *arguments, "--out", "flow.npz")
    assert status == 128 + number
    assert err == "refflow: interrupted; flow.npz holds the best flow so far; --resume continues from step 25\n"
    assert about("flow.npz")["stopped"] == "interrupted" and load("flow.npz").equals(load("flow.checkpoint.npz"))
    assert run("fit", *arguments, "--out", "flow.npz", "--resume")[0] == 0
    assert Path("flow.npz").read_bytes() == Path("whole.npz").read_bytes()


def test_a_checkpoint_is_a_flow(run, files):
    dying(signal.SIGKILL, 9, *FITS["noise"], "--out", "flow.npz", "--checkpoint-every", "1e-9")
    status, out, _ = run("sample", "flow.checkpoint.npz", "--n", 3)
    assert status == 0 and all(line.split(",")[0].isdigit() for line in out.splitlines())
    dying(signal.SIGKILL, 9, *FITS["glow"], "--out", "glow.npz", "--checkpoint-every", "1e-9")
    assert run("score", "glow.checkpoint.npz", "images.npy")[0] == 0


def killed(name="realnvp", out="flow.npz"):
    assert dying(signal.SIGKILL, 9, *FITS[name], "--out", out, "--checkpoint-every", "1e-9")[0] == -signal.SIGKILL


def test_other_data_and_options_are_refused_by_name(run, files):
    killed()
    before = Path("flow.checkpoint.npz").read_bytes()
    for more, words in ((("--seed", 1), "--seed is 1, that of flow.checkpoint.npz 0"), (("--steps", 41), "--steps is 41"),
                        (("--hidden", "8,8"), "--hidden is [8, 8], that of flow.checkpoint.npz [8]"),
                        (("--model", "nice"), "--model is nice, that of flow.checkpoint.npz realnvp"),
                        (("--average", 0.5), "--average is 0.5, that of flow.checkpoint.npz None"),
                        (("--validation", 0.2), "--validation is 0.2")):
        status, out, err = run("fit", *FITS["realnvp"], "--out", "flow.npz", "--resume", *more)
        assert status == 2 and not out and words in err and err.count("\n") == 1, err
    np.save("data.npy", np.load("data.npy") * [1, 1 + 1e-15])
    status, _, err = run("fit", *FITS["realnvp"], "--out", "flow.npz", "--resume")
    assert status == 2 and err == "refflow: --resume: data.npy does not hold the data of flow.checkpoint.npz\n"
    assert Path("flow.checkpoint.npz").read_bytes() == before


def test_the_held_out_file_is_among_the_data(run, files):
    np.save("other.npy", np.load("images.npy")[:8])
    arguments = (*FITS["glow"], "--held-out", "other.npy")
    assert dying(signal.SIGKILL, 9, *arguments, "--out", "flow.npz", "--checkpoint-every", "1e-9")[0] == -9
    np.save("other.npy", np.load("images.npy")[1:9])
    assert "does not hold the data of" in run("fit", *arguments, "--out", "flow.npz", "--resume")[2]


def test_a_checkpoint_is_not_written_over(run, files):
    killed()
    status, _, err = run("fit", *FITS["realnvp"], "--out", "flow.npz")
    assert status == 2 and "--resume continues it, --force begins anew" in err
    assert run("fit", *FITS["realnvp"], "--out", "flow.npz", "--force")[0] == 0 and not Path("flow.checkpoint.npz").exists()


def test_what_cannot_be_resumed(run, files):
    arguments = (*FITS["realnvp"], "--out", "flow.npz", "--resume")
    assert run("fit", *arguments) == (2, "", "refflow: --resume: there is no checkpoint flow.checkpoint.npz\n")
    killed()
    good = Path("flow.checkpoint.npz").read_bytes()
    Path("flow.npz").write_text("mine")
    status, _, err = run("fit", *arguments)
    assert status == 2 and "flow.npz exists, and is not what the fit of flow.checkpoint.npz has left" in err
    assert Path("flow.npz").read_text() == "mine"
    Path("flow.npz").unlink()
    Path("flow.checkpoint.npz").write_bytes(good[:-100])
    assert "flow.checkpoint.npz: it is not a .npz file, or a damaged one" in run("fit", *arguments)[2]
    Path("flow.checkpoint.npz").write_bytes(good)
    save(load("flow.checkpoint.npz"), "flow.checkpoint.npz", {"columns": None})
    assert run("fit", *arguments) == (2, "", "refflow: flow.checkpoint.npz: it is not a checkpoint\n")


def test_another_file_that_has_come_into_being(run, files, monkeypatch):
    """A long fit ends after a short one has written the file: both stay, and the name of the second is printed."""
    original = cli.trained

    def meanwhile(*arguments):
        found = original(*arguments)
        Path("flow.npz").write_text("theirs")
        return found

    monkeypatch.setattr(cli, "trained", meanwhile)
    status, out, err = run("fit", *FITS["gaussian"], "--out", "flow.npz")
    assert status == 0 and Path("flow.npz").read_text() == "theirs" and out.splitlines()[-1].startswith("flow-2.npz: ")
    assert err == "refflow: flow.npz has come into being meanwhile, and is left as it is; flow-2.npz is written\n"
    assert load("flow-2.npz").event_shape == (2,)
    Path("flow.npz").unlink()
    report = json.loads(run("fit", *FITS["gaussian"], "--out", "flow.npz", "--json")[1])
    assert report["out"] == "flow-3.npz" and load("flow-3.npz").equals(load("flow-2.npz"))


def test_a_second_interruption_does_not_lose_the_fit(run, files, monkeypatch):
    signal.signal(signal.SIGINT, signal.default_int_handler)
    original, stepped = cli.save, checkpoint.Checkpoints.stepped

    def impatient(*arguments, **named):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments, **named)

    def first(self, info, flow):
        if info["step"] == 20:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(cli, "save", impatient)
    status, out, err = run("fit", *FITS["realnvp"], "--out", "whole.npz")         # while a fit that has ended is saved
    assert status == 128 + signal.SIGTERM and not out and err == "refflow: interrupted; whole.npz is written\n"
    assert about("whole.npz")["stopped"] == "steps"
    monkeypatch.setattr(checkpoint.Checkpoints, "stepped", first)
    status, out, err = run("fit", *FITS["realnvp"], "--out", "flow.npz")          # while one that was interrupted is
    assert status == 128 + signal.SIGTERM and not out and "--resume continues from step 20" in err
    assert about("flow.npz")["stopped"] == "interrupted" and "flow.npz is written" in err
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    monkeypatch.setattr(cli, "save", original)
    monkeypatch.setattr(checkpoint.Checkpoints, "stepped", stepped)
    assert run("fit", *FITS["realnvp"], "--out", "flow.npz", "--resume")[0] == 0
    assert Path("flow.npz").read_bytes() == Path("whole.npz").read_bytes()


def test_ignored_signals_stay_ignored(run, files, monkeypatch):
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(checkpoint.Checkpoints, "stepped", lambda self, info, flow: os.kill(os.getpid(), signal.SIGHUP))
    try:
        assert run("fit", *FITS["gaussian"], "--out", "flow.npz")[0] == 0
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_checkpoints(run, files, monkeypatch):
    monkeypatch.setattr(checkpoint.Checkpoints, "stepped", at_step(20))
    status, _, err = run("fit", *FITS["realnvp"], "--out", "flow.npz", "--checkpoint-every", 0)
    assert status == 130 and err == "refflow: interrupted; flow.npz holds the best flow so far\n"
    assert not Path("flow.checkpoint.npz").exists()


def test_a_checkpoint_that_cannot_be_written_does_not_end_the_fit(run, files, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save", full)
    status, _, err = run("fit", *FITS["gaussian"], "--out", "flow.npz", "--checkpoint-every", 1e-9)
    assert status == 0 and err == "refflow: flow.checkpoint.npz: No space left on device; there is no checkpoint\n"


def test_a_resumed_interruption_keeps_the_noise(run, files, monkeypatch):
    """For images, noise is drawn in every step: an interruption in the middle of one does not change what follows."""
    assert run("fit", *FITS["glow"], "--out", "whole.npz")[0] == 0
    monkeypatch.setattr(Images, "with_noise", in_call(Images.with_noise, 8))
    assert run("fit", *FITS["glow"], "--out", "flow.npz")[0] == 130
    assert run("fit", *FITS["glow"], "--out", "flow.npz", "--resume")[0] == 0
    assert Path("flow.npz").read_bytes() == Path("whole.npz").read_bytes()


def test_a_fit_that_is_at_work_is_not_taken_over(run, files, monkeypatch):
    """Neither by one that would continue it, nor by one that would begin anew; when it has ended, its checkpoint is free."""
    arguments, seen = ("fit", *FITS["realnvp"], "--out", "flow.npz"), []

    class Watched(checkpoint.Checkpoints):
        def stepped(self, info, flow):
            super().stepped(info, flow)
            if info["step"] in (3, 6) and not seen[info["step"] // 3 - 1:]:
                seen.append([main([*arguments, how]) for how in ("--resume", "--force")])
            if info["step"] == 8:
                raise KeyboardInterrupt

    monkeypatch.setattr(cli, "Checkpoints", Watched)
    status, _, err = run(*arguments, "--checkpoint-every", "1e-9")
    assert status == 130 and seen == [[2, 2], [2, 2]]
    assert err.count("flow.checkpoint.npz: another fit is at work on it") == 4
    monkeypatch.setattr(cli, "Checkpoints", checkpoint.Checkpoints)
    assert run(*arguments, "--resume")[0] == 0


def test_a_checkpoint_is_never_free_while_a_fit_is_at_work(run, files, monkeypatch):
    """Nor between the renaming of a new one and anything that comes after."""
    rename, free = os.replace, []

    def watched(new, path):
        for moment in ("before", "after"):
            if str(path).endswith(".checkpoint.npz") and Path(path).exists():
                try:
                    checkpoint.locked(Path(path)).close()
                    free.append(moment)
                except CannotRun:
                    free.append(None)
            if moment == "before":
                rename(new, path)

    monkeypatch.setattr("refflow.saving.os.replace", watched)
    assert run("fit", *FITS["gaussian"], "--out", "flow.npz", "--checkpoint-every", "1e-9")[0] == 0
    assert len(free) > 10 and not any(free)
