"""Memory: the extra peak of the gradients of deep RealNVPs, by reconstruction, and the time relative to the gradient with
storage.

The peak is the memory of the whole process while one gradient is computed, minus the memory before: /proc/self/status, reset by
/proc/self/clear_refs.  Everything is first compiled, loaded and tried on a few events.  `growth` is how much one more coupling
adds to the peak, in units of its parameters and their gradient together.  "refflow page" and "torch" store what they need
for all events, "refflow stored" for 512 at a time.
"""

from __future__ import annotations

import ctypes
import statistics
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from .realnvp import jax_step, page_step, refflow_step, torch_step
from .rounds import timed

SIZE, BATCH, DEPTHS = 64, 4096, (64, 256)
WHAT = f"gradients of RealNVPs, D = {SIZE}, 2 x 128, batch {BATCH}, float64: extra peak memory, seconds"
MEBIBYTE = 2**20


def reversible_step(size, threads, couplings, batch):
    return refflow_step(size, threads, couplings, batch, memory="reversible")


STEPS = {"refflow": reversible_step, "refflow stored": refflow_step, "refflow page": page_step, "torch": torch_step,
         "jax": jax_step}
STORING = ("refflow stored", "refflow page", "torch")


def status(key):
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def extra_peak(work):
    """(bytes that `work` needs at its worst, beyond what the process held before; its result)."""
    ctypes.CDLL(None).malloc_trim(0)                    # memory freed before is returned to the system
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = status("VmRSS:")
    kept = work()
    return status("VmHWM:") - before, kept


def in_new_process(f, *arguments):
    """f(*arguments), in a state where memory freed before cannot be reused."""
    with ProcessPoolExecutor(1, get_context("spawn")) as process:
        return process.submit(f, *arguments).result()


def measured(library, couplings, threads):
    STEPS[library](SIZE, threads, couplings, 8)()
    step = STEPS[library](SIZE, threads, couplings, BATCH)
    peak, _ = extra_peak(step)
    return {"peak": peak} | timed(step, 3, warm=0)


def worker(library):
    return lambda threads: {str(couplings): in_new_process(measured, library, couplings, threads) for couplings in DEPTHS}


WORKERS = {library: worker(library) for library in STEPS}


def parameter_bytes():
    """The parameters of one coupling."""
    half = SIZE // 2
    return 8 * (128 * half + 128 + 128 * 128 + 128 + SIZE * 128 + SIZE)


def rows(rounds):
    """For each depth and library the peak, the time and their ratios, medians over the rounds."""
    median, made = statistics.median, []
    peaks = {library: [median(r[library][str(depth)]["peak"] for r in rounds) for depth in DEPTHS] for library in STEPS}
    for i, depth in enumerate(DEPTHS):
        found = [{library: r[library][str(depth)] for library in STEPS} for r in rounds]
        for library in STEPS:
            row = {"library": library, "couplings": depth, "MiB": peaks[library][i] / MEBIBYTE}
            row["torch's MiB / its"] = median(r["torch"]["peak"] / r[library]["peak"] for r in found)
            row["s"] = median(r[library]["wall"] for r in found)
            for clock, name in (("wall", "time / "), ("cpu", "CPU / ")):
                for other in STORING:
                    row[name + other] = median(r[library][clock] / r[other][clock] for r in found)
            row["growth"] = (peaks[library][1] - peaks[library][0]) / (DEPTHS[1] - DEPTHS[0]) / (2 * parameter_bytes())
            made.append(row)
    return made
