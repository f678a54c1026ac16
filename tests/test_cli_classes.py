"""Images with classes on the command line, by both transformers: fits that are resumed, images that packages ship, notes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from classed_images import SIZES, fitted
from interruptions import in_call
from refflow.cli.images import Images
from refflow.saving import about, load

every_model = pytest.mark.parametrize("model", SIZES)


@pytest.mark.parametrize("model, context", [("jet", ("--context", "kind")), ("jet", ()), ("tarflow", ("--context", "kind"))])
def test_a_fit_that_was_interrupted_is_resumed_to_the_same_bits(run, monkeypatch, model, context):
    assert fitted(model, run, out="whole.npz", context=context)[0] == 0
    with monkeypatch.context() as patch:
        patch.setattr(Images, "with_noise", in_call(Images.with_noise, 8))
        assert fitted(model, run, "--json", context=context)[0] == 130 and Path("flow.checkpoint.npz").exists()
    status, out, _ = fitted(model, run, "--resume", "--json", context=context)
    assert status == 0 and json.loads(out)["stopped_at"] == 6
    assert load("flow.npz").equals(load("whole.npz")) and not Path("flow.checkpoint.npz").exists()


@every_model
@pytest.mark.parametrize("name", ["digit_images", "photographs"])
def test_images_that_packages_ship(run, name, model):
    """Trained, loaded, scored, sampled."""
    pytest.importorskip("sklearn")
    small = ("--stride", 160) if name == "photographs" else ()
    values = 256 if name == "photographs" else 17
    assert run("data", name, *small, "--out", "v.npy")[0] == 0
    sizes = ("--patch", 4, "--hidden", 8, "--layers", 1, *(("--couplings", 5) if model == "jet" else ("--depth", 2)))
    status, out, _ = run("fit", "v.npy", "--model", model, *sizes, "--values", values, "--steps", 2, "--batch-size", 8, "--test", 0.2,
                         "--out", "flow.npz", "--json")
    bits = [json.loads(out)[key]["test"]["bits_per_dim"] for key in ("before", "after")]
    assert status == 0 and np.isfinite(bits).all() and bits[0] != bits[1]
    assert run("sample", "flow.npz", "--n", 2, "--out", "s.npy")[0] == 0 and np.load("s.npy").shape == (2, *np.load("v.npy").shape[1:])
    assert np.isfinite(json.loads(run("score", "flow.npz", "v.npy", "--json")[1])["bits_per_dim"])


@every_model
def test_a_note_that_does_not_fit_is_not_believed(run, model):
    assert fitted(model, run, steps=1)[0] == 0
    flow, note = load("flow.npz"), about("flow.npz")
    assert Images.of_flow(flow, note).context.count == 3
    for wrong in ({"name": "kind", "classes": 4}, {"name": 3, "classes": 3}, {"name": "kind"}, None):
        assert Images.of_flow(flow, note | {"images": note["images"] | {"context": wrong}}).context is None
