"""Memory: the extra peak of the gradients of deep RealNVPs, by reconstruction, and its time beside that with storage.

The peak is that of the whole process while one gradient is computed, beyond what it held before: /proc/self/status, reset by
/proc/self/clear_refs.  Everything is compiled, loaded and tried on a few events first.  `growth` is what one more coupling
adds to the peak, in units of its parameters and their gradient together.
"""

from __future__ import annotations

import ctypes
import statistics
import time

from .realnvp import jax_step, page_step, refflow_step, torch_step

SIZE, BATCH, DEPTHS = 64, 4096, (64, 256)
WHAT = f"gradients of RealNVPs, D = {SIZE}, 2 x 128, batch {BATCH}, float64: extra peak memory, seconds"
MEBIBYTE = 2**20


def reversible_step(size, threads, couplings, batch):
    return refflow_step(size, threads, couplings, batch, memory="reversible")


STEPS = {"refflow": reversible_step, "refflow stored": refflow_step, "refflow page": page_step, "torch": torch_step,
         "jax": jax_step}


def status(key):
    """A line of /proc/self/status, in bytes."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) * 1024


def extra_peak(work):
    """(bytes that `work` needs at its worst, beyond what the process holds before it; its result)."""
    ctypes.CDLL(None).malloc_trim(0)                    # what was freed before is held by nobody
    with open("/proc/self/clear_refs", "w") as reset:
        reset.write("5")
    before = status("VmRSS:")
    kept = work()
    return status("VmHWM:") - before, kept


def worker(library):
    def measure(threads):
        found = {}
        for couplings in DEPTHS:
            STEPS[library](SIZE, threads, couplings, 8)()
            step = STEPS[library](SIZE, threads, couplings, BATCH)
            peak, _ = extra_peak(step)
            wall, cpu = [], []
            for _ in range(2):
                start, used = time.perf_counter(), time.process_time()
                step()
                wall.append(time.perf_counter() - start)
                cpu.append(time.process_time() - used)
            found[str(couplings)] = {"peak": peak, "wall": min(wall), "cpu": min(cpu)}
        return found

    return measure


WORKERS = {library: worker(library) for library in STEPS}


def parameter_bytes():
    """Those of one coupling."""
    half = SIZE // 2
    return 8 * (128 * half + 128 + 128 * 128 + 128 + SIZE * 128 + SIZE)


def rows(rounds):
    median, made = statistics.median, []
    for library in rounds[0]:
        peaks = [median(r[library][str(depth)]["peak"] for r in rounds) for depth in DEPTHS]
        row = {"library": library}
        for depth, peak in zip(DEPTHS, peaks):
            row[f"{depth}: MiB"] = peak / MEBIBYTE
            row[f"{depth}: s"] = median(r[library][str(depth)]["wall"] for r in rounds)
            for clock, name in (("wall", "time / refflow page"), ("cpu", "CPU / refflow page")):
                row[f"{depth}: {name}"] = median(r[library][str(depth)][clock] / r["refflow page"][str(depth)][clock]
                                                 for r in rounds)
            row[f"{depth}: torch's MiB / its"] = median(r["torch"][str(depth)]["peak"] / r[library][str(depth)]["peak"]
                                                        for r in rounds)
        row["growth"] = (peaks[1] - peaks[0]) / (DEPTHS[1] - DEPTHS[0]) / (2 * parameter_bytes())
        made.append(row)
    return made
