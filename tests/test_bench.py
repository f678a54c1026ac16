"""The benchmarks: the libraries compute the same, tables and JSON have the right content.  Nothing here measures speed."""

from __future__ import annotations

import itertools
import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from refflow.core.tree import flatten
from refflow.models.alignment import best_path as refflow_path
from validation.bench import __main__ as command
from validation.bench import alignment, glow, maf, memory, nsf, planar, realnvp, tarflow
from validation.bench.rounds import environment, kernels, machine, table, timed, timing_rows
from validation.defects.environments import folder_of


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
    """Tuned planar flows take at most 0.7 of normflows' time, as recorded; normflows has no inverse."""
    document = json.loads((Path(planar.__file__).with_name("planar.json")).read_text())
    rows = {row["case"]: row for row in document["rows"]}
    assert document["benchmark"] == "planar" and document["threads"] == 1 and document["what"] == planar.WHAT
    assert list(rows) == [f"{kind}{case}" for kind in planar.KINDS for case in ("", ", inverse")]
    assert rows["planar"]["CPU / normflows"] <= 0.7 and rows["planar, inverse"]["CPU / normflows"] is None


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
