"""Small images with classes, and how the command line fits models to them."""

from __future__ import annotations

from pathlib import Path

import numpy as np

SIZES = {"jet": ("--hidden", 8, "--couplings", 5, "--layers", 1), "tarflow": ("--hidden", 8, "--depth", 2, "--layers", 1)}


def slopes(n=90, H=4, W=4, seed=0):
    """(images that fall or rise from left to right, their class 0, 1, 2: falling, even, rising)."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    v = 3.5 + (labels - 1)[:, None, None] * (np.arange(W) - 1.5) * 2 + rng.normal(0, 0.3, (n, H, W))
    return np.clip(np.rint(v), 0, 7).astype(np.uint8)[:, None], labels


def write(name="data.npz", labels=None, v=None, **more):
    found, classes = slopes()
    np.savez(name, images=found if v is None else v, **({"kind": classes if labels is None else labels} | more))
    return name


def fitted(model, run, *more, data="data.npz", out="flow.npz", steps=6, context=("--context", "kind")):
    """What `refflow fit` returns of a few steps."""
    if not Path(data).exists():
        write(data)
    return run("fit", data, "--model", model, *SIZES[model], "--values", 8, "--steps", steps, "--batch-size", 16, "--learning-rate",
               0.01, "--average", 0, *context, "--out", out, *more)
