"""Speed beside other libraries, in one thread.

    python -m validation.bench elementwise [--rounds 5] [--json]

One process per library, rounds interleaved (A B A B ...), so that a drift of the machine meets both; each process takes the
median of its repetitions, the table the median over rounds of refflow's time / torch's.  refflow runs its public methods,
checks included.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time

SIZE = 1_000_000
REPETITIONS = 15
ONE_THREAD = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}


def median_time(work):
    work()
    times = []
    for _ in range(REPETITIONS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def latents():
    """The same 1e6 standard normal numbers for every library."""
    import numpy as np
    return np.random.default_rng(0).standard_normal(SIZE)


def refflow_elementwise():
    import numpy as np

    import refflow
    z = latents()
    a = np.abs(z)
    pages = {
        "sigmoid": (refflow.Sigmoid(), z), "softplus": (refflow.Softplus(), z), "tanh": (refflow.Tanh(), z),
        "exp": (refflow.Exp(), z), "affine": (refflow.Affine(shift=0.5, scale=2.0), z),
        "power": (refflow.Power(exponent=1.5), a), "normal CDF": (refflow.NormalCDF(), z),
        "Weibull CDF": (refflow.WeibullCDF(scale=1.5, concentration=2.0), a)}
    return {name: median_time(lambda f=f, v=v: f.forward_and_log_det(v)) for name, (f, v) in pages.items()}


def torch_elementwise():
    import torch
    import torch.distributions as d
    from torch.distributions import transforms as t
    torch.set_num_threads(1)
    z = torch.from_numpy(latents())
    a = z.abs()
    scalar = torch.tensor(1.5, dtype=torch.float64)
    normal, weibull = d.Normal(0 * scalar, 1.0), d.Weibull(scalar, torch.tensor(2.0, dtype=torch.float64))
    maps = {
        "sigmoid": (t.SigmoidTransform(), z), "softplus": (t.SoftplusTransform(), z), "tanh": (t.TanhTransform(), z),
        "exp": (t.ExpTransform(), z), "affine": (t.AffineTransform(0.5, 2.0), z), "power": (t.PowerTransform(scalar), a),
        "normal CDF": (t.CumulativeDistributionTransform(normal), z),
        "Weibull CDF": (t.CumulativeDistributionTransform(weibull), a)}

    def forward_and_log_det(f, v):
        x = f(v)
        return x, f.log_abs_det_jacobian(v, x)

    with torch.no_grad():
        return {name: median_time(lambda f=f, v=v: forward_and_log_det(f, v)) for name, (f, v) in maps.items()}


WORKERS = {"elementwise": {"refflow": refflow_elementwise, "torch": torch_elementwise}}


def measured(bench, library):
    command = [sys.executable, "-m", "validation.bench", bench, "--worker", library]
    done = subprocess.run(command, env=os.environ | ONE_THREAD, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{library} could not run:\n{done.stderr}")
    return json.loads(done.stdout)


def machine():
    with open("/proc/cpuinfo") as info:
        model = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.processor())
    return f"{model}, {os.cpu_count()} cores, Python {platform.python_version()}"


def main():
    parser = argparse.ArgumentParser(prog="python -m validation.bench", description=__doc__.splitlines()[0])
    parser.add_argument("bench", choices=WORKERS)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    workers = WORKERS[options.bench]
    if options.worker:
        print(json.dumps(workers[options.worker]()))
        return
    rounds = []
    for i in range(options.rounds):
        print(f"round {i + 1} of {options.rounds}", file=sys.stderr, flush=True)
        rounds.append({library: measured(options.bench, library) for library in workers})
    rows = [{"map": name, "refflow_ms": 1e3 * statistics.median(r["refflow"][name] for r in rounds),
             "torch_ms": 1e3 * statistics.median(r["torch"][name] for r in rounds),
             "ratio": statistics.median(r["refflow"][name] / r["torch"][name] for r in rounds)} for name in rounds[0]["torch"]]
    if options.json:
        print(json.dumps({"machine": machine(), "size": SIZE, "dtype": "float64", "threads": 1, "rows": rows}, indent=1))
        return
    print(f"forward + log-det, {SIZE} float64, one thread; {machine()}")
    print(f"{'map':14}{'refflow ms':>12}{'torch ms':>12}{'ratio':>8}")
    for row in rows:
        print(f"{row['map']:14}{row['refflow_ms']:12.2f}{row['torch_ms']:12.2f}{row['ratio']:8.2f}")


if __name__ == "__main__":
    main()
