"""Whole commands as a user types them: `refflow fit` beside a script in torch that trains the same model.

Both run in a default environment, from which every variable that sets threads is removed, on all cores, each in a terminal, once
alone and once beside a process that keeps a core busy.  The scripts are in `torch_scripts`.  A script has the model, the sizes, the
batches, the optimiser, the schedule, the average of the parameters and the held-out rows of the command, starts from a Gaussian as
it does, without its shrinkage, and computes the held-out loss at the same steps.  It draws its own weights, batches and noise of
pixels.  torch computes in float32; `refflow fit` computes in float64 for rows and in float32 for images.  The optimiser is Adam for
rows, AdaMax for Glow and AdamW for TarFlow.

The time to the loss is the wall time from the start of the process, imports included, until the held-out loss is first at or below a
target.  Of each run, L is the lowest loss and S the loss before the first step; with the largest L and the smallest S of all runs
of a case in a round,
    target = L + (S - L)/20                                                         (1)
so that every run reaches it.  Each round has a seed of its own, and therefore a target of its own.

refflow shows its progress in the terminal ten times a second, the script each loss.  Times of steps between two that are shown are
interpolated.  refflow's losses come from the history in its file.  "ms a step" includes the held-out losses, "wall s" everything.
"refflow, OMP_NUM_THREADS=1" and "=2" are refflow's own time at settings that a user has to know; of these the better one counts.

    python -m validation.bench.typed            writes the table of typed.json into README.md
"""

from __future__ import annotations

import bisect
import contextlib
import json
import os
import pty
import re
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from .memory import MEBIBYTE, in_new_process

ROOT = Path(__file__).parents[2]
THREADS = "the default of each library"
ROWS, HELD_OUT, VALUES = 1500, 0.1, 17
NOT_DEFAULT = re.compile(r"^(OMP|GOMP|KMP|MKL|OPENBLAS|GOTO|BLIS|VECLIB|NUMEXPR|XLA)_|THREADS$|^PYTHONDONTWRITEBYTECODE$")
SHOWN = re.compile(r"(\d+)/\d+  (?:train|validation) ")
LOSS = re.compile(r"(\d+)/\d+  validation (\S+)\s")
CLEARED = "\r\x1b[K"                    # refflow's bar ends with it
SPIN = "import os, sys\nwhile os.getppid() == int(sys.argv[1]): sum(range(10000))"
PART = 20                               # of the fall of the loss is left at the target (1)
OWN_GOAL = 1.1                          # of refflow's own time at its best setting


@dataclass(frozen=True)
class Case:
    """A model: what it is fitted to, options of `refflow fit` and of the script, and the goal for refflow's time / torch's."""

    data: str
    options: str
    goal: float
    dtype: str


CASES = {
    "realnvp": Case("moons.csv", "--steps 150 --batch-size 256 --learning-rate 0.005 --average 0.9", 0.9, "float64"),
    "maf": Case("moons.csv", "--steps 150 --batch-size 256 --learning-rate 0.005 --average 0.9", 0.9, "float64"),
    "nsf": Case("moons.csv", "--steps 60 --batch-size 256 --learning-rate 0.005 --average 0.9", 0.9, "float64"),
    "glow": Case("digits.npy", f"--steps 60 --batch-size 64 --learning-rate 0.005 --average 0.9 --values {VALUES}", 0.7, "float32"),
    "tarflow": Case("digits.npy", f"--steps 60 --batch-size 64 --learning-rate 0.005 --average 0.9 --values {VALUES}", 0.7, "float32")}
OWN = {f"refflow, OMP_NUM_THREADS={count}": {"OMP_NUM_THREADS": str(count)} for count in (1, 2)}
COMMANDS = {"refflow": {}, "torch": {}} | OWN
BESIDE = {"nothing": ("refflow", "torch", *OWN), "a busy process": ("refflow", "torch")}
WHAT = (f"refflow fit, and a torch script of the same model, as typed: two moons ({ROWS} rows) and digits (8 x 8), part {HELD_OUT} "
        "held out; torch in float32")


# -- data -------------------------------------------------------------------------------------------------------------

def prepared(folder, seed):
    """Write the data of refflow's commands, and the parts into which they divide it for the scripts."""
    import numpy as np

    from refflow.data import load_images, scikit_learn
    moons = scikit_learn().make_moons(ROWS, noise=0.1, random_state=0)[0]
    digits = load_images("digit_images")
    written_table(Path(folder, "moons.csv"), moons)
    np.save(Path(folder, "digits.npy"), digits)
    for name, part in divided(moons, seed).items():
        written_table(Path(folder, f"moons-{name}.csv"), part)
    for name, part in divided(digits, seed).items():
        np.save(Path(folder, f"digits-{name}.npy"), part)


def written_table(path, x):
    path.write_text("x,y\n" + "".join(f"{float(a)!r},{float(b)!r}\n" for a, b in x))


def divided(values, seed):
    """{"train": values, "validation": values} as `refflow fit --seed` divides them."""
    import argparse

    import numpy as np

    from refflow.cli import fit
    options = argparse.Namespace(validation=HELD_OUT, held_out=None, test=0.0)
    return fit.divided(options, None, values, np.random.default_rng(seed))


# -- a command --------------------------------------------------------------------------------------------------------

def default_environment(environment=os.environ):
    """Without what sets threads or kernels of linear algebra, and with compiled modules kept, as Python does."""
    return {name: value for name, value in environment.items() if not NOT_DEFAULT.search(name)}


def command_of(case, library, folder, seed):
    """(the command, the file it writes)."""
    data, options = Path(folder, CASES[case].data), [*CASES[case].options.split(), "--seed", str(seed)]
    if library == "torch":
        parts = [str(data.with_stem(f"{data.stem}-{part}")) for part in ("train", "validation")]
        out = str(Path(folder, "model.pt"))
        return [sys.executable, "-m", "validation.bench.torch_scripts.fit", case, *parts, *options, "--out", out], out
    out = str(Path(folder, "flow.npz"))
    held_out = ["--validation", str(HELD_OUT), "--patience", "0", "--force"]
    return [sys.executable, "-m", "refflow", "fit", str(data), "--model", case, *options, *held_out, "--out", out], out


@contextlib.contextmanager
def busy(beside):
    """A process that keeps a core busy, if that is what stands beside; it also ends where this process is killed."""
    process = subprocess.Popen([sys.executable, "-c", SPIN, str(os.getpid())]) if beside == "a busy process" else None
    try:
        yield process
    finally:
        if process is not None:
            process.kill()
            process.wait()


def watched(command, environment):
    """What a command prints in a terminal, [(seconds since its start, text)], and what it used."""
    terminal, end = pty.openpty()
    start, chunks = time.monotonic(), []
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=end, stderr=end, env=environment, cwd=ROOT)
    os.close(end)
    try:
        with contextlib.suppress(OSError), open(terminal, "rb", 0) as lines:    # a terminal that all have left is an error
            while text := lines.read(65536):
                chunks.append((time.monotonic() - start, text.decode(errors="replace")))
        _, status, used = os.wait4(process.pid, 0)
        wall, process.returncode = time.monotonic() - start, os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
    if process.returncode:
        raise SystemExit(f"{' '.join(command)}\nended with {process.returncode}:\n{''.join(text for _, text in chunks)}")
    return chunks, {"wall": wall, "cpu": used.ru_utime + used.ru_stime, "peak": 1024 * used.ru_maxrss}


def seen_steps(chunks, last):
    """[(step, seconds)] of the steps that the terminal has shown; refflow's bar is cleared after the last."""
    ends, text = [], ""
    for _, part in chunks:
        text += part
        ends.append(len(text))

    def at(position):
        return chunks[bisect.bisect_left(ends, position)][0]

    seen = [(int(found[1]), at(found.end())) for found in SHOWN.finditer(text)]
    cleared = text.rfind(CLEARED)
    if seen[-1][0] < last and cleared >= 0:
        seen.append((last, at(cleared + len(CLEARED))))
    return seen


def seconds_at(step, seen):
    """When a step was done, interpolated."""
    i = bisect.bisect_left(seen, (step,))
    if i == 0 or i == len(seen) or seen[i][0] == step:
        return seen[min(i, len(seen) - 1)][1]
    (step_0, t_0), (step_1, t_1) = seen[i - 1:i + 1]
    return t_0 + (t_1 - t_0) * (step - step_0) / (step_1 - step_0)


def losses_of(library, chunks, out):
    """[[step, held-out loss]]: refflow's from its file, the script's as it prints them."""
    if library == "torch":
        return [[int(step), float(loss)] for step, loss in LOSS.findall("".join(text for _, text in chunks))]
    from refflow.saving import about
    history = about(out)["history"]
    return [list(pair) for pair in zip(history["step"], history["validation"])]


def measured(case, library, folder, seed):
    command, out = command_of(case, library, folder, seed)
    chunks, found = watched(command, default_environment() | COMMANDS[library])
    losses = losses_of(library, chunks, out)
    seen = seen_steps(chunks, losses[-1][0])
    (first, began), (last, ended) = seen[0], seen[-1]
    return found | {"step": (ended - began) / (last - first),
                    "losses": [[seconds_at(step, seen), loss] for step, loss in losses]}


def one_round(number, only=None):
    """{case: {beside: {command: what was measured}}}; the libraries take turns."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        in_new_process(prepared, folder, number)        # a process started by one with much memory counts it as its peak
        for case in [only] if only else CASES:
            found[case] = {}
            for beside, libraries in BESIDE.items():
                print(f"{case}, beside {beside}", file=sys.stderr, flush=True)
                with busy(beside):
                    found[case][beside] = {library: measured(case, library, folder, number) for library in libraries}
    return found


# -- the table --------------------------------------------------------------------------------------------------------

def target(runs):
    """(1), of [losses] of runs, [[seconds, loss]]."""
    lowest = max(min(loss for _, loss in losses) for losses in runs)
    return lowest + (min(losses[0][1] for losses in runs) - lowest) / PART          # (1)


def time_to(loss, losses):
    """The seconds until a run has reached a loss; None if it has not."""
    return next((seconds for seconds, reached in losses if reached <= loss), None)


def targets_of(round_of_case):
    return target([run["losses"] for found in round_of_case.values() for run in found.values()])


def rows(rounds):
    """For each case, and what stood beside it, its commands; medians over the rounds."""
    made = []
    for case in rounds[0]:
        targets = [targets_of(found[case]) for found in rounds]
        for beside in rounds[0][case]:
            runs = [found[case][beside] for found in rounds]
            ours = [time_to(loss, run["refflow"]["losses"]) for loss, run in zip(targets, runs)]
            for library in runs[0]:
                made.append(row(case, beside, library, targets, [run[library] for run in runs], ours))
    return made


def row(case, beside, library, targets, runs, ours):
    median, goal = statistics.median, CASES[case].goal if library == "torch" else OWN_GOAL if library in OWN else None
    times = [time_to(loss, run["losses"]) for loss, run in zip(targets, runs)]
    return {"case": case, "beside": beside, "command": library, "dtype": "float32" if library == "torch" else CASES[case].dtype,
            "loss, nats": median(targets), "s to the loss": median(times),
            "refflow's / its": median(our / its for our, its in zip(ours, times)), "goal, at most": goal,
            "ms a step": 1e3 * median(run["step"] for run in runs), "wall s": median(run["wall"] for run in runs),
            "CPU s": median(run["cpu"] for run in runs), "MiB": median(run["peak"] for run in runs) / MEBIBYTE}


def summary(document):
    """The section of README.md, from the document that `--json` prints: a row for each case and what stood beside it."""
    from ..readme import table
    head = ["case", "beside", "loss, nats", "refflow, s", "torch, s", "refflow / torch", "goal", "refflow / its best", "goal",
            "CPU s, refflow", "torch", "MiB, refflow", "torch"]
    found = {(row["case"], row["beside"], row["command"]): row for row in document["rows"]}
    made = []
    for case, beside in dict.fromkeys((case, beside) for case, beside, _ in found):
        ours, theirs = (found[case, beside, library] for library in ("refflow", "torch"))
        own = [found[case, beside, library]["refflow's / its"] for library in OWN if (case, beside, library) in found]
        made.append([case, beside, *(f"{row:.2f}" for row in (ours["loss, nats"], ours["s to the loss"], theirs["s to the loss"],
                                                              theirs["refflow's / its"])), f"at most {theirs['goal, at most']}",
                     *((f"{max(own):.2f}", f"at most {OWN_GOAL}") if own else ("-", "-")),
                     *(f"{row[key]:.0f}" for key in ("CPU s", "MiB") for row in (ours, theirs))])
    return (f"What `python -m validation.bench typed --json` printed is [typed.json](typed.json): {document['machine']}, medians of "
            f"{document['rounds']} rounds.\n\n{table(head, made)}")


def section():
    """What stands in README.md: the table of typed.json, where that is."""
    recorded = Path(__file__).with_suffix(".json")
    return summary(json.loads(recorded.read_text())) if recorded.exists() else "Nothing is recorded yet.\n"


def write_section():
    from ..readme import SECTION
    path = Path(__file__).with_name("README.md")
    path.write_text(SECTION.sub(lambda found: found[1] + section() + found[4], path.read_text()))


if __name__ == "__main__":
    write_section()
