"""What all exporters share: points, and the file of raw parameters, values and gradients.  It needs NumPy alone."""

import json
import sys

import numpy as np

EVENTS, SIZE = 8, 3
SCALES = np.array([0.25, 0.5, 1.0, 1.0, 1.5, 2.0, 4.0, 8.0])        # the last lie beyond the knots of most splines


def generator(name):
    return np.random.default_rng(list(name.encode()))


def events(rng):
    """(x, z): data and recorded noise, some of it in the tails."""
    return tuple(SCALES[:, None] * rng.standard_normal((EVENTS, SIZE)) for _ in range(2))


def record(config, raw, buffers, found):
    """The record of one model: settings, raw parameters, buffers of whole numbers, {quantity: array}; gradients as "grad"."""
    buffers = {name: array for name, array in buffers.items() if np.all(np.asarray(array) == np.rint(array))}
    return {"config": config, "raw": raw, "buffers": buffers, **found}


def save(library, versions, models):
    """Write the records to the file that is the command's argument.

    Each dictionary of arrays is one vector; the document "meta", in JSON, has the names and shapes of its parts.
    """
    arrays, meta = {}, {"schema": "refflow/raw/1", "library": library, "versions": versions, "models": {}}
    for model, held in models.items():
        parts = {kind: value for kind, value in held.items() if isinstance(value, dict) and kind != "config"}
        meta["models"][model] = {"config": held["config"],
                                 "parts": {kind: [[name, list(np.shape(part))] for name, part in value.items()]
                                           for kind, value in parts.items()}}
        for kind, value in parts.items():
            flat = [np.ravel(part) for part in value.values()]
            arrays[f"{model}/{kind}"] = np.concatenate(flat).astype(np.int16 if kind == "buffers" else float) if flat else []
        arrays |= {f"{model}/{kind}": value for kind, value in held.items() if kind not in (*parts, "config")}
    np.savez_compressed(sys.argv[1], meta=np.frombuffer(json.dumps(meta).encode(), np.uint8), **arrays)
