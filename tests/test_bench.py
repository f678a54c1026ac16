"""The benchmarks: the libraries compute the same, tables and JSON have the right content.  Nothing here measures speed."""

from __future__ import annotations

import ast
import itertools
import json
import os
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest

from refflow import cli
from refflow.core import Chain, Flow
from refflow.core.tree import flatten, walk
from refflow.maps.linear import Permutation
from refflow.models.alignment import best_path as refflow_path
from validation.bench import __main__ as command
from refflow.saving import read
from refflow.training import Unconstrained
from validation.bench import alignment, glow, maf, memory, nsf, planar, realnvp, tarflow, threads, typed
from validation.bench.rounds import BLAS, environment, kernels, machine, table, timed, timing_rows
from validation.defects.environments import folder_of
from validation.readme import sections


def leaves(bars):
    return [np.asarray(bar) for _, bar in flatten(bars)] if isinstance(bars, dict) else [np.asarray(bar) for bar in bars]


def agree(one, other, tolerance):
    """Losses and gradients of two libraries."""
    (loss, bars), (other_loss, other_bars) = one(), other()
    bars, other_bars = leaves(bars), leaves(other_bars)
    assert loss == pytest.approx(float(other_loss), rel=tolerance)
    assert [bar.shape for bar in bars] == [bar.shape for bar in other_bars]
    for bar, other_bar in zip(bars, other_bars):
        np.testing.assert_allclose(bar, other_bar, rtol=0, atol=tolerance * np.abs(other_bar).max())


@pytest.mark.parametrize("size", realnvp.SIZES)
def test_pages_and_tuned_agree(size):
    agree(realnvp.refflow_step(size, 1), realnvp.page_step(size, 1), 1e-11)
    agree(memory.reversible_step(size, 1, 16, 32), realnvp.page_step(size, 1, 16, 32), 1e-11)


@pytest.mark.parametrize("size", realnvp.SIZES)
def test_torch_agrees(size):
    pytest.importorskip("torch")
    agree(realnvp.refflow_step(size, 2), realnvp.torch_step(size, 1), 1e-9)


@pytest.mark.parametrize("size", realnvp.SIZES)
def test_jax_agrees(size):
    pytest.importorskip("jax")
    agree(realnvp.refflow_step(size, 1), realnvp.jax_step(size, 1), 1e-9)


@pytest.mark.parametrize("size", [2, 5])
def test_splines_agree(size):
    """The tuned gradient, the pages, torch and jax."""
    agree(nsf.refflow_step(size, 1), nsf.page_step(size, 1), 1e-10)
    pytest.importorskip("torch")
    agree(nsf.refflow_step(size, 2), nsf.torch_step(size, 1), 1e-9)
    pytest.importorskip("jax")
    agree(nsf.refflow_step(size, 1), nsf.jax_step(size, 1), 1e-9)


@pytest.mark.parametrize("library", ["torch", "jax", "refflow page"])
def test_maf_agrees(library):
    """At one size, since compiling a loop takes long."""
    pytest.importorskip(library.split()[0])
    (one, samples), (other, others) = maf.WORK["refflow"](6), maf.WORK[library](6)
    agree(one, other, 1e-9)
    np.testing.assert_allclose(samples(), np.asarray(others()), rtol=1e-9)


def in_normflows_parameters(kind, stages):
    """Gradients in the pages' fields as gradients in normflows' parameters."""
    _, convention, held = planar.parametrised(kind)
    bars = [convention.unchecked(h.dtype).vjp(h)[1](stage)[0] for h, stage in zip(held, stages)]
    parts = {"planar": lambda bar: (bar[2:4], bar[:2], bar[4:]), "radial": lambda bar: (bar[3:], bar[2:3], bar[:2])}[kind]
    return [part for bar in bars for part in parts(bar)]


@pytest.mark.parametrize("kind", planar.KINDS)
def test_planar_flows_agree(kind):
    """The tuned flow and its page, and both their inverses."""
    one, inverse = planar.WORK["refflow"](kind)
    other, inverse_of_page = planar.WORK["refflow page"](kind)
    (loss, bars), (other_loss, other_bars) = one(), other()
    agree(lambda: (loss, nest(bars)), lambda: (other_loss, nest(other_bars)), 1e-11)
    np.testing.assert_allclose(inverse(), inverse_of_page(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", planar.KINDS)
def test_normflows_agrees(kind):
    pytest.importorskip("torch")
    if not (folder_of(*planar.LIBRARY) / "complete").exists():
        pytest.skip("normflows is not installed")
    (loss, stages), normflows = planar.WORK["refflow"](kind)[0](), planar.WORK["normflows"](kind)[0]
    agree(lambda: (loss, in_normflows_parameters(kind, stages)), lambda: as_vectors(*normflows()), 1e-9)


def nest(stages):
    return {str(i): stage for i, stage in enumerate(stages)}


def as_vectors(loss, bars):
    return loss, [np.ravel(bar) for bar in bars]


def test_the_recorded_output_of_planar_flows():
    """Tuned planar and radial flows take at most 0.7 of normflows' time, as recorded; normflows has no inverse."""
    document = json.loads((Path(planar.__file__).with_name("planar.json")).read_text())
    rows = {row["case"]: row for row in document["rows"]}
    assert document["benchmark"] == "planar" and document["threads"] == 1 and document["what"] == planar.WHAT
    assert list(rows) == [f"{kind}{case}" for kind in planar.KINDS for case in ("", ", inverse")]
    for kind in planar.KINDS:
        assert rows[kind]["CPU / normflows"] <= 0.7 and rows[f"{kind}, inverse"]["CPU / normflows"] is None


def test_the_recorded_output_of_threads():
    """Two threads are at least 1.5 times faster for the gradients of images."""
    document = json.loads((Path(threads.__file__).with_name("threads.json")).read_text())
    rows = {row["case"]: row["/ refflow by one thread"] for row in document["rows"]}
    assert document["benchmark"] == "threads" and document["threads"] == 2 and document["what"] == threads.WHAT
    assert list(rows) == [f"{case}: {what}" for case in threads.cases() for what in ("gradient", "densities", "samples")]
    assert all(ratio <= 1 / 1.5 for case, ratio in rows.items() if case.startswith(("Glow", "TarFlow")) and "gradient" in case)


def test_glow_agrees():
    pytest.importorskip("torch")
    agree(glow.refflow_step(2, 1), glow.torch_step(2, 1), 1e-4)
    agree(glow.refflow_step(2, 1, "reversible", 3), glow.refflow_step(2, 1), 1e-4)


def test_glow_agrees_with_jax():
    pytest.importorskip("jax")
    agree(glow.refflow_step(1, 1), glow.jax_step(1, 1), 1e-4)


@pytest.mark.parametrize("library", ["torch", "refflow page"])
def test_tarflow_agrees(library):
    """At two blocks, one of which turns the tokens."""
    pytest.importorskip(library.split()[0])
    (one, samples), (other, *others) = tarflow.WORK["refflow"](2), tarflow.WORK[library](2)
    agree(one, other, 1e-4)
    for other_samples in others:
        np.testing.assert_allclose(samples(), np.asarray(other_samples()), rtol=0, atol=1e-4)


def test_tarflow_recomputed_agrees():
    agree(tarflow.refflow_work(2, "reversible")[0], tarflow.refflow_work(2)[0], 1e-6)


def test_the_recorded_output_of_tarflow():
    """A gradient takes at most 1.2 of torch's time, samples 0.8, and a gradient of 8 blocks 0.3 of its memory."""
    document = json.loads((Path(tarflow.__file__).with_name("tarflow.json")).read_text())
    rows = {row["library"]: row for row in document["rows"]}
    assert document["benchmark"] == "tarflow" and document["threads"] == 1 and document["what"] == tarflow.WHAT
    assert list(rows) == list(tarflow.WORKERS)
    assert rows["torch"]["refflow's / its (loss and gradients)"] <= 1.2 and rows["torch"]["refflow's / its (samples)"] <= 0.8
    assert rows["torch"]["refflow's MiB / its"] <= 0.3


def test_the_compiled_loop_agrees():
    if "compiled" not in alignment.WORKERS:
        pytest.skip(alignment.WHAT)
    best_path = alignment.compiled()
    for scores, texts, frames in alignment.batches().values():
        assert (best_path(scores, texts, frames) == refflow_path(scores, texts, frames)).all()


@pytest.mark.parametrize(("libraries", "said"), [
    ((("openblas", "SkylakeX"), ("openblas", "SkylakeX"), ("openmp", None)), "SkylakeX"), ((("mkl", None),), "none"),
    ((("openblas", "Zen"), ("openblas", "Haswell")), "Haswell, Zen"), (None, "not known without threadpoolctl")])
def test_the_kernels_of_products_are_named(monkeypatch, libraries, said):
    found = [{"internal_api": name, "architecture": kernel} for name, kernel in libraries or ()]
    fake_module = None if libraries is None else types.SimpleNamespace(threadpool_info=lambda: found)
    monkeypatch.setitem(sys.modules, "threadpoolctl", fake_module)
    assert kernels() == said and f"OpenBLAS kernels {said}, " in machine()


def fake(bench):
    """The workers' results, with made-up numbers: refflow takes 1 s, the others 2."""
    def timing(library):
        return {"wall": 1.0 if library == "refflow" else 2.0, "cpu": 1.0 if library == "refflow" else 4.0}

    def of(library):
        if bench is memory:
            size = 2**20 * (1 if library == "refflow" else 60)
            return {str(depth): timing(library) | {"peak": depth * size} for depth in memory.DEPTHS}
        if bench is tarflow:
            return dict.fromkeys(tarflow.REPETITIONS, timing(library)) | {"peak": 2**20 * (1 if library == "refflow" else 5)}
        if bench is glow:
            return {f"K = {glow.STEPS}": timing(library)} | {f"peak, K = {K}": K * 2**20 for K in (glow.STEPS, glow.DEEP)}
        return {case: timing(library) for case in ("one", "two")}

    return [{library: of(library) for library in bench.WORKERS}] * 2


@pytest.mark.parametrize("name", command.BENCHMARKS)
def test_tables_and_json(name, monkeypatch, capsys):
    bench = command.BENCHMARKS[name]
    first = fake(bench)[0]
    monkeypatch.setattr(command, "measured", lambda given, library, threads: first[library])
    command.main([name, "--rounds", "2", "--threads", "2", "--json"])
    made = json.loads(capsys.readouterr().out)
    assert made["benchmark"] == name and made["threads"] == made["rounds"] == 2 and made["machine"] == machine()
    rows = made["rows"]
    if bench is memory:
        assert [(row["couplings"], row["library"]) for row in rows] == list(itertools.product(memory.DEPTHS, bench.WORKERS))
        deep = rows[len(bench.WORKERS)]
        assert deep["MiB"] == 256 and deep["torch's MiB / its"] == 60 and deep["s"] == 1
        assert deep["time / torch"] == deep["time / refflow stored"] == 0.5 and deep["CPU / refflow page"] == 0.25
        assert deep["growth"] == pytest.approx(2**20 / (2 * 8 * (33 * 128 + 129 * 128 + 129 * 64)))
    elif bench is tarflow:
        assert rows[1]["samples, CPU ms"] == 4000 and rows[1]["refflow's / its (samples)"] == 0.25
        assert rows[1]["MiB, 8 blocks"] == 5 and rows[1]["refflow's MiB / its"] == 0.2
    elif bench is glow:
        assert rows[1]["refflow's time / its"] == 0.5 and rows[1]["refflow's CPU / its"] == 0.25
    else:
        assert [row["case"] for row in rows] == ["one", "two"]
        for other in list(bench.WORKERS)[1:]:
            assert rows[0][f"/ {other}"] == 0.5 and rows[0][f"CPU / {other}"] == 0.25 and rows[0][f"{other} ms"] == 2000
    command.main([name, "--rounds", "1"])
    printed = capsys.readouterr().out.splitlines()
    assert machine() in printed[0] and "threads: 1" in printed[0] and len(printed) == 2 + len(rows)


def test_a_worker_prints_its_times(monkeypatch, capsys):
    monkeypatch.setitem(realnvp.WORKERS, "refflow", lambda threads: {"D = 6": {"wall": threads, "cpu": 0}})
    command.main(["realnvp", "--worker", "refflow", "--threads", "2"])
    assert json.loads(capsys.readouterr().out) == {"D = 6": {"wall": 2, "cpu": 0}}


def test_environment():
    assert environment("refflow", 2)["OMP_NUM_THREADS"] == "1" and environment("torch", 2)["OMP_NUM_THREADS"] == "2"
    assert "intra_op_parallelism_threads=1" in environment("jax", 1)["XLA_FLAGS"]


def test_timed_and_table():
    calls = []
    found = timed(lambda: calls.append(1), 5)
    assert len(calls) == 8 and set(found) == {"wall", "cpu"} and found["wall"] >= 0
    assert table([{"case": "a", "x": 1.0}, {"case": "bcd", "x": 22.345}]) == "case      x\na      1.00\nbcd   22.34"
    assert table([{"case": "a", "x": None}]) == "case  x\na     -"


def test_what_a_library_does_not_have_is_none():
    both = {"wall": 1.0, "cpu": 2.0}
    rows = timing_rows([{"refflow": {"one": both, "two": both}, "other": {"one": {"wall": 4.0, "cpu": 4.0}}}])
    assert rows == [{"case": "one", "refflow ms": 1000, "other ms": 4000, "/ other": 0.25, "CPU / other": 0.5},
                    {"case": "two", "refflow ms": 1000, "other ms": None, "/ other": None, "CPU / other": None}]


def test_extra_peak():
    size = 64 * 2**20
    peak, kept = memory.extra_peak(lambda: np.ones(size // 8))
    assert kept.nbytes == size and 0.9 * size < peak < 1.2 * size


# -- whole commands ---------------------------------------------------------------------------------------------------

SETTING_THREADS = (*BLAS, "OPENBLAS_CORETYPE", "OMP_PROC_BIND", "OMP_WAIT_POLICY", "KMP_AFFINITY", "GOMP_SPINCOUNT", "GOTO_NUM_THREADS",
                   "MKL_DYNAMIC", "BLIS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "NUMEXPR_MAX_THREADS", "XLA_FLAGS", "RAYON_NUM_THREADS")


@pytest.mark.parametrize("library", typed.COMMANDS)
def test_a_typed_command_has_a_default_environment(library, monkeypatch):
    for name in SETTING_THREADS:
        monkeypatch.setenv(name, "1")
    assert environment_of(library, monkeypatch) == typed.COMMANDS[library]


def test_a_variable_that_is_left_is_found(monkeypatch):
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")
    monkeypatch.setattr(typed, "default_environment", lambda: dict(os.environ))
    assert environment_of("refflow", monkeypatch)["OPENBLAS_NUM_THREADS"] == "1"


def environment_of(library, monkeypatch):
    """The variables of threads that a command of this library gets; the others, such as PATH, are there."""
    given = []

    def watched(command, environment):
        given.append(environment)
        return [(1.0, "0/2  validation 3.0\n"), (2.0, "2/2  validation 1.0\n")], {}

    monkeypatch.setattr(typed, "watched", watched)
    monkeypatch.setattr(typed, "losses_of", lambda *of: [[0, 3.0], [2, 1.0]])
    typed.measured("maf", library, "folder", 0)
    assert given[0]["PATH"] == os.environ["PATH"]
    return {name: given[0][name] for name in SETTING_THREADS if name in given[0]}


@pytest.fixture(scope="module")
def typed_data(tmp_path_factory):
    pytest.importorskip("sklearn")
    folder = tmp_path_factory.mktemp("typed")
    typed.prepared(folder, 0)
    np.save(folder / "digits.npy", np.load(folder / "digits.npy")[:40])        # all of them take seconds
    return folder


def at_the_start(case, folder):
    """(the flow with which the command starts, its note)."""
    command, out = typed.command_of(case, "refflow", folder, 0)
    assert command[1:3] == ["-m", "refflow"] and cli.main([*command[3:], "--steps", "0"]) == 0
    return read(out)


def moved(flow, size):
    space, rng = Unconstrained(flow), np.random.default_rng(1)
    return space.value_at((space.vector + size * rng.standard_normal(space.vector.size)).astype(space.vector.dtype))


def carried(torch, model, flow):
    """The torch model, in float64, with the flow's weights and permutations."""
    held = [array for path, array in flatten(flow.params()) if path[-2:] != ("net", "W")]      # which a mask hides
    orders = [torch.tensor(value.order) for _, value in walk(flow) if isinstance(value, Permutation)]
    with torch.no_grad():
        for parameter, array in zip(model.double().parameters(), held, strict=True):
            parameter.copy_(torch.tensor(array))
        for theirs, order in zip([layer.order for layer in model.modules() if hasattr(layer, "order")], orders):
            theirs.copy_(order)
    return model


@pytest.mark.parametrize("case", ["realnvp", "maf", "nsf"])
def test_the_script_has_the_flow_of_rows_of_the_command(case, typed_data):
    """At the sizes that the command takes; the command has held out the rows that the script gets."""
    torch, script = pytest.importorskip("torch"), pytest.importorskip("validation.bench.torch_scripts.fit")
    flow, note = at_the_start(case, typed_data)
    files = [typed_data / f"moons-{part}.csv" for part in ("train", "validation")]
    rows = np.loadtxt(files[1], delimiter=",", skiprows=1)
    assert note["history"]["validation"] == [pytest.approx(-flow.log_prob(rows).mean(), rel=1e-12)]
    model, _, held_out, nll = script.vectors(case, *files)
    assert nll(model, held_out).mean().item() == pytest.approx(note["history"]["validation"][0], abs=0.01)
    ours = moved(Flow(flow.bijector.stages[0], flow.base), 0.1)
    z, log_det = carried(torch, model, ours)(torch.tensor(rows))
    np.testing.assert_allclose((log_det - (z * z).sum(-1) / 2 - np.log(2 * np.pi)).detach(), ours.log_prob(rows), rtol=1e-9)


@pytest.mark.parametrize("case", ["glow", "tarflow"])
def test_the_script_has_the_flow_of_images_of_the_command(case, typed_data):
    torch, script = pytest.importorskip("torch"), pytest.importorskip("validation.bench.torch_scripts.fit")
    flow = at_the_start(case, typed_data)[0].astype(np.float64)
    model_of_flow, *units = flow.bijector.stages
    ours = moved(Flow(model_of_flow, flow.base), 0.01)
    files = [typed_data / f"digits-{part}.npy" for part in ("train", "validation")]
    model, train, _, nll = script.images(case, *files, typed.VALUES)
    y = train[:8].double() + 0.5
    if case == "glow":
        with torch.no_grad():
            nll(model.double(), y)                      # it chooses its normalisations, which the flow's replace
        carried(torch, model, ours)
    else:
        from validation.bench.torch_scripts.images import Block
        from validation.bench.torch_scripts.torch_tarflow import of_flow
        model.double().blocks = of_flow(ours, Block).blocks
    in_pixels = Flow(Chain([ours.bijector, *units]), flow.base)
    np.testing.assert_allclose(nll(model, y).detach(), -in_pixels.log_prob(y.numpy()), rtol=1e-9)


def test_a_script_in_torch_waits_for_nothing_but_torch():
    """Its time counts imports: at the top of a file only Python's own modules, NumPy, torch and the files beside it."""
    for path in Path(typed.__file__).with_name("torch_scripts").glob("*.py"):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level != 1:
                names = {(node.module or "").split(".")[0] if node.level == 0 else "a folder above"}
            else:
                continue
            assert names <= sys.stdlib_module_names | {"numpy", "torch"}, f"{path.name} imports {names}"


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_busy_process_ends_with_what_it_is_beside():
    with typed.busy("nothing") as process:
        assert process is None
    with pytest.raises(KeyboardInterrupt), typed.busy("a busy process") as process:
        assert is_running(process.pid)
        raise KeyboardInterrupt
    assert process.returncode is not None and not is_running(process.pid)


def test_a_busy_process_ends_with_a_bench_that_is_killed():
    code = ("import time\nfrom validation.bench import typed\nwith typed.busy('a busy process') as process:\n"
            "    print(process.pid, flush=True)\n    time.sleep(60)")
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=typed.ROOT) as bench:
        pid = int(bench.stdout.readline())
        assert is_running(pid)
        bench.kill()
    deadline = time.monotonic() + 20
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(pid)


def test_a_target_is_reached_by_every_run():
    """A twentieth of the fall above the larger of the lowest losses."""
    one, other = [[1.0, 5.0], [2.0, 1.0], [3.0, 2.0]], [[1.0, 6.0], [2.0, 4.0], [3.0, 3.0]]
    assert typed.target([one, other]) == typed.target([other, one]) == 3.0 + (5.0 - 3.0) / 20
    assert typed.time_to(3.1, one) == 2.0 and typed.time_to(3.1, other) == 3.0 and typed.time_to(2.9, other) is None
    assert typed.time_to(1.0, one) == 2.0                       # at the target


def test_times_of_steps_are_read_from_the_terminal():
    """From refflow's progress bar, which may be cut off anywhere when it is read, and from the lines of the script."""
    bar = [(0.5, "\r\x1b[K[...] 1/30  train 2.0 nats  validation 3.0 nats (step 0)\r\x1b[K[#..] 11/"),
           (1.5, "30  train 1.5 nats"), (3.0, "\r\x1b[K"), (4.0, "moons.csv: 30/30 rows")]
    seen = typed.seen_steps(bar, 30)
    assert seen == [(1, 0.5), (11, 1.5), (30, 3.0)]
    assert [typed.seconds_at(step, seen) for step in (0, 1, 6, 11, 30)] == [0.5, 0.5, 1.0, 1.5, 3.0]
    lines = [(1.0, "0/20  validation 2.5\r\n"), (2.0, "10/20  validation -1.25\r\n20/20  vali"), (3.0, "dation nan\r\n")]
    assert typed.seen_steps(lines, 20) == [(0, 1.0), (10, 2.0), (20, 3.0)]
    assert typed.losses_of("torch", lines, None)[:2] == [[0, 2.5], [10, -1.25]]


def test_what_a_command_used_is_measured():
    code = "import sys; x = bytearray(2**26); print(sys.stderr.isatty()); sum(range(10**6))"
    chunks, used = typed.watched([sys.executable, "-c", code], typed.default_environment())
    assert "".join(text for _, text in chunks) == "True\r\n" and 0 < chunks[0][0] <= used["wall"]
    assert used["cpu"] > 0 and used["peak"] > 2**26
    with pytest.raises(SystemExit, match="ended with 3:\nwhy"):
        typed.watched([sys.executable, "-c", "print('why'); raise SystemExit(3)"], typed.default_environment())


def test_a_command_ends_with_a_bench_that_is_interrupted(monkeypatch):
    started = []

    def interrupted(pid, options):
        started.append(pid)
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "wait4", interrupted)
    code = "import os, time; print(1, flush=True); os.close(0); os.close(1); os.close(2); time.sleep(60)"
    with pytest.raises(KeyboardInterrupt):
        typed.watched([sys.executable, "-c", code], typed.default_environment())
    assert not is_running(started[0])


def fake_round(number, only):
    """refflow takes 2 s, torch 4 s, and refflow in one thread 1 s; the target is 1 + 4/20."""
    seconds = dict.fromkeys(typed.COMMANDS, 2.0) | {"torch": 4.0, "refflow, OMP_NUM_THREADS=1": 1.0}

    def of(library):
        t = seconds[library]
        return {"wall": 2 * t, "cpu": 3 * t, "peak": 2**20 * t, "step": t / 100, "losses": [[0.1, 5.0], [t, 1.1], [2 * t, 1.0]]}

    return {case: {beside: {library: of(library) for library in libraries} for beside, libraries in typed.BESIDE.items()}
            for case in ([only] if only else typed.CASES)}


def test_the_table_of_typed_commands(monkeypatch, capsys):
    monkeypatch.setattr(typed, "one_round", fake_round)
    command.main(["typed", "--rounds", "2", "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["threads"] == typed.THREADS and document["rounds"] == 2 and document["machine"] == machine()
    rows = {(row["case"], row["beside"], row["command"]): row for row in document["rows"]}
    assert list(rows) == [(case, *pair) for case in typed.CASES for beside in typed.BESIDE
                          for pair in itertools.product([beside], typed.BESIDE[beside])]
    ours, torch, own = (rows["nsf", "nothing", library] for library in ("refflow", "torch", "refflow, OMP_NUM_THREADS=1"))
    assert ours["loss, nats"] == 1.2 and [row["s to the loss"] for row in (ours, torch, own)] == [2.0, 4.0, 1.0]
    assert torch["refflow's / its"] == 0.5 and own["refflow's / its"] == 2.0 and own["goal, at most"] == 1.1
    assert (ours["dtype"], torch["dtype"]) == ("float64", "float32") and torch["CPU s"] == 12 and torch["MiB"] == 4
    assert [rows[case, "nothing", "torch"]["goal, at most"] for case in typed.CASES] == [0.9, 0.9, 0.9, 0.7, 0.7]
    text = typed.summary(document)
    assert ("| nsf | nothing | 1.20 | 2.00 | 4.00 | 0.50 | at most 0.9 | 2.00 | at most 1.1 | 6 | 12 | 2 | 4 |" in text
            and "| glow | a busy process | 1.20 | 2.00 | 4.00 | 0.50 | at most 0.7 | - | - | 6 | 12 | 2 | 4 |" in text)
    command.main(["typed", "--rounds", "1", "--only", "maf"])
    printed = capsys.readouterr().out.splitlines()
    assert typed.THREADS in printed[0] and len(printed) == 2 + 6 and printed[2].startswith("maf ")


@pytest.mark.parametrize("arguments", [["typed", "--threads", "2"], ["maf", "--only", "maf"]])
def test_options_of_other_benches_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        command.main(arguments)
    assert f"{arguments[1]}: " in capsys.readouterr().err


def test_the_recorded_table_of_typed_commands():
    """README.md shows typed.json, which is of this bench as it stands."""
    folder = Path(typed.__file__).parent
    assert sections((folder / "README.md").read_text())["typed"] == typed.section()
    if (folder / "typed.json").exists():
        document = json.loads((folder / "typed.json").read_text())
        assert document["what"] == typed.WHAT and {row["case"] for row in document["rows"]} == set(typed.CASES)
