"""Shared by the benchmarks: timing, one process per library, the machine's name, tables."""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time

BLAS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
ONE_XLA_THREAD = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"


def compiled_step(loss, parameters, x):
    """A function that gives the loss at x, and its gradients in the parameters, a list, by JAX; it is compiled here."""
    import jax
    compiled = jax.jit(jax.value_and_grad(loss)).lower(parameters, x).compile()

    def step():
        value, bars = jax.block_until_ready(compiled(parameters, x))
        return float(value), jax.tree_util.tree_leaves(bars)

    return step


def timed(work, repetitions, warm=3):
    """The median seconds of a repetition, by the wall clock and of the processor, after `warm` other repetitions."""
    for _ in range(warm):
        work()
    wall, cpu = [], []
    for _ in range(repetitions):
        start, used = time.perf_counter(), time.process_time()
        work()
        wall.append(time.perf_counter() - start)
        cpu.append(time.process_time() - used)
    return {"wall": statistics.median(wall), "cpu": statistics.median(cpu)}


def environment(library, threads):
    """refflow divides events among threads itself, with single-threaded linear algebra."""
    count = 1 if library.startswith("refflow") else threads
    flags = {"XLA_FLAGS": ONE_XLA_THREAD} if threads == 1 else {}
    return os.environ | {name: str(count) for name in BLAS} | flags


def measured(bench, library, threads):
    command = [sys.executable, "-m", "validation.bench", bench, "--worker", library, "--threads", str(threads)]
    done = subprocess.run(command, env=environment(library, threads), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{library} could not run:\n{done.stderr}")
    return json.loads(done.stdout)


def machine():
    """The processor and the kernels of OpenBLAS, on which the speed of products of matrices depends, cores and the version of Python."""
    from ..certify import processor
    return f"{processor()}, OpenBLAS kernels {kernels()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def kernels():
    """The processor for which NumPy's OpenBLAS computes: it recognises it, or `OPENBLAS_CORETYPE` names it."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        return "not known without threadpoolctl"
    return ", ".join(sorted({one["architecture"] for one in threadpool_info() if one["internal_api"] == "openblas"})) or "none"


def timing_rows(rounds):
    """For each case the times in ms and refflow's ratios, medians over the rounds; None where a library has no such thing."""
    rows, libraries = [], list(rounds[0])

    def median(case, library, of_round):
        return statistics.median(map(of_round, rounds)) if case in rounds[0][library] else None

    for case in rounds[0]["refflow"]:
        row = {"case": case}
        for library in libraries:
            row[f"{library} ms"] = median(case, library, lambda r: 1e3 * r[library][case]["wall"])
        for clock, name in (("wall", "/ "), ("cpu", "CPU / ")):
            for other in libraries[1:]:
                row[name + other] = median(case, other, lambda r: r["refflow"][case][clock] / r[other][case][clock])
        rows.append(row)
    return rows


def table(rows):
    """Rows as aligned text, numbers with two decimals, a dash for None."""
    head = list(rows[0])
    cells = [head] + [[f"{v:.2f}" if isinstance(v, float) else "-" if v is None else str(v) for v in row.values()] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(head))]
    return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths)))
                     for line in cells)
