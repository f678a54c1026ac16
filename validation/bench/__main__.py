"""Speed and memory compared with other libraries.

    python -m validation.bench NAME [--rounds 5] [--threads 1] [--json]

NAME is elementwise, spline, realnvp, maf, nsf, planar, memory, glow, glow_tts, tarflow, alignment or threads.

One process per library, on as many cores as threads, rounds interleaved (A B C A B C ...), so that a drift of the machine
affects all; each process takes the median of its repetitions, and the table the median over rounds, of times and of refflow's
time / the other library's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from . import alignment, elementwise, glow, glow_tts, maf, memory, nsf, planar, realnvp, spline, tarflow, threads
from .rounds import machine, measured, table

BENCHMARKS = {"elementwise": elementwise, "spline": spline, "realnvp": realnvp, "maf": maf, "nsf": nsf, "planar": planar, "memory": memory,
              "glow": glow, "glow_tts": glow_tts, "tarflow": tarflow, "alignment": alignment, "threads": threads}


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m validation.bench", description=__doc__.splitlines()[0])
    parser.add_argument("bench", choices=BENCHMARKS)
    parser.add_argument("--rounds", type=int, help="(5, of memory 1)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    bench = BENCHMARKS[options.bench]
    if options.worker:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:options.threads])
        print(json.dumps(bench.WORKERS[options.worker](options.threads)))
        return
    rounds, count = [], options.rounds or (1 if options.bench == "memory" else 5)
    for i in range(count):
        print(f"round {i + 1} of {count}", file=sys.stderr, flush=True)
        rounds.append({library: measured(options.bench, library, options.threads) for library in bench.WORKERS})
    rows = bench.rows(rounds)
    if options.json:
        made = {"benchmark": options.bench, "what": bench.WHAT, "machine": machine(), "threads": options.threads,
                "rounds": count, "rows": rows}
        print(json.dumps(made, indent=1))
        return
    print(f"{bench.WHAT}; threads: {options.threads}; {machine()}")
    print(table(rows))


if __name__ == "__main__":
    main()
