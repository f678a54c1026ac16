"""Flows in torch, exported to ONNX: what ONNX Runtime makes of them, held against torch and against their pages.

    python -m validation.onnx_models                    the table
    python -m validation.onnx_models --out DIRECTORY    also the exported models

Each flow is checked twice, as torch computes it and as ONNX Runtime does, against the same page: what only the second fails is
due to the export or to the runtime, and is listed.  "apart" is the largest difference of the two at 256 normal latents, in
units of rounding.  Needs the extras `onnx` and `peers`, and onnx and onnxscript.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch
from torch import nn

import refflow
from refflow import AffineCoupling
from refflow.accuracy.drawing import Point
from refflow.core.tree import flatten
from refflow.maps.conditioners.network import dense_network
from refflow.maps.coupling import masks
from refflow.oracle import CannotRun, check
from refflow.oracle.asking.adapter import Adapter
from refflow.oracle.inputs.onnx_model import Model
from refflow.oracle.points.page_points import run_time_truth
from refflow.report import aligned, number

DTYPES, LATENTS = ("float32", "float64"), 256
OUTPUTS = ("forward", "log_det", "inverse", "inverse_log_det")


class Affine(nn.Module):
    """The fields are inputs of the model."""

    def forward(self, z, x, shift, scale):
        log_det = torch.log(torch.abs(scale))
        return scale * z + shift, log_det.expand(z.shape), (x - shift) / scale, -log_det.expand(x.shape)


class Tanh(nn.Module):
    """Each log-det in the form that loses no digits."""

    def forward(self, z, x):
        near = -torch.log1p(torch.sinh(torch.clamp(z, -1, 1)) ** 2)
        far = 2 * (np.log(2) - torch.abs(z) - torch.log1p(torch.exp(-2 * torch.abs(z))))
        inverse_near, inverse_far = -torch.log1p(-x * x), -torch.log((1 - x) * (1 + x))
        return (torch.tanh(z), torch.where(torch.abs(z) < 0.5, near, far), torch.atanh(x),
                torch.where(torch.abs(x) < 0.5, inverse_near, inverse_far))


class Softplus(nn.Module):
    """By torch's own functions."""

    def forward(self, z, x):
        log_slope = torch.where(x < 0.5, torch.log(-torch.expm1(-x)), torch.log1p(-torch.exp(-x)))
        return nn.functional.softplus(z), nn.functional.logsigmoid(z), x + log_slope, -log_slope


class Coupling(nn.Module):
    """The affine coupling of a bijector, with its weights inside."""

    def __init__(self, f, dtype):
        super().__init__()
        held = {".".join(path[-2:]): torch.tensor(np.asarray(array), dtype=dtype) for path, array in flatten(f.params())}
        self.weights = nn.ParameterDict({key.replace(".", "_"): nn.Parameter(value) for key, value in held.items()})

    def scale_and_shift(self, a):
        w = self.weights
        return (nn.functional.silu(a @ w["0_W"].T + w["0_b"]) @ w["2_W"].T + w["2_b"]).chunk(2, -1)

    def forward(self, z, x):
        s, t = self.scale_and_shift(z[..., :2])
        s_x, t_x = self.scale_and_shift(x[..., :2])
        return (torch.cat([z[..., :2], z[..., 2:] * torch.exp(s) + t], -1), s.sum(-1),
                torch.cat([x[..., :2], (x[..., 2:] - t_x) * torch.exp(-s_x)], -1), -s_x.sum(-1))


def coupling():
    return AffineCoupling(masks.halves(4), dense_network(np.random.default_rng(0), (2, 8, 4), "silu", zero_last=False))


def flows(dtype):
    """[(name, module, page, inputs besides z and x, event shape)]."""
    f = coupling()
    return [("Affine", Affine(), "Affine", ("shift", "scale"), ()), ("Tanh", Tanh(), "Tanh", (), ()),
            ("Softplus", Softplus(), "Softplus", (), ()), ("AffineCoupling", Coupling(f, dtype), f, (), (4,))]


def exported(path, module, fields, event, dtype):
    """Export a module with a batch of any length."""
    drawn = torch.Generator().manual_seed(0)
    events = [torch.rand((3, *event), dtype=dtype, generator=drawn) * 0.5 + 0.25 for _ in "zx"]
    inputs = (*events, *(torch.tensor(0.5 + i, dtype=dtype) for i, _ in enumerate(fields)))
    batch = torch.export.Dim("N")
    shapes = ({0: batch}, {0: batch}, *(None for _ in fields))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, inputs, dynamo=True, input_names=["z", "x", *fields], output_names=list(OUTPUTS),
                          dynamic_shapes=shapes, verbose=False).save(path)


def in_torch(name, module, page, dtype) -> Adapter:
    """The module itself as an adapter."""
    def mine(params, z):
        fields = [torch.as_tensor(value) for value in params.values() if isinstance(value, np.ndarray)] \
            if isinstance(page, str) else []

        def answer(i, event):
            event = torch.tensor(np.asarray(event))
            with torch.no_grad():
                return module(event, event, *fields)[i].numpy()

        return {"forward": answer(0, z), "log_det": answer(1, z), "inverse": lambda x: answer(2, x),
                "inverse_log_det": lambda x: answer(3, x)}

    return Adapter(mine, page, (dtype,), theirs=name)


def apart(module, model, page, event, dtype):
    """The largest difference of ONNX Runtime from torch, in units of rounding, at latents where both answer."""
    own = {"shift": 0.5, "scale": 1.5} if page == "Affine" else {}
    f = getattr(refflow, page)(**own) if isinstance(page, str) else page
    z = np.random.default_rng(1).standard_normal((LATENTS, *event)).astype(dtype)
    fields = {key: np.asarray(getattr(f, key), dtype) for key in ("shift", "scale") if key in model.inputs}
    theirs = model.run(["forward", "log_det"], {"z": z, "x": z}, dict.fromkeys("zx", len(event)), fields)
    with torch.no_grad():
        source = module(*(torch.tensor(a) for a in (z, z, *fields.values())))
    truths = run_time_truth(Point(f.astype(np.dtype(dtype)), "forward", z, lead=1))
    return max(float(np.max(np.abs(theirs[key].astype(float) - source[i].numpy()) / truths[key].unit))
               for i, key in enumerate(theirs))


def told(report):
    """The largest error in units of rounding, or the quantities that fail."""
    if report.failed:
        return f"FAIL {', '.join(dict.fromkeys(one.quantity for one in report.failed))}"
    return number(max(one.error for one in report.passed))


def compared(directory):
    """The rows of the table, and {what ONNX Runtime alone fails: how}."""
    rows, alone = [("flow", "dtype", "torch", "ONNX Runtime", "apart")], {}
    for dtype in DTYPES:
        kind = getattr(torch, dtype)
        for name, module, page, fields, event in flows(kind):
            path = directory / f"{name}_{dtype}.onnx"
            exported(path, module, fields, event, kind)
            source = check([in_torch(name, module, page, dtype)])
            try:
                model = Model(path)
            except CannotRun as reason:
                rows.append((name, dtype, told(source), "cannot run it", ""))
                alone[f"{name} {dtype}"] = str(reason).split(" : ")[-1]
                continue
            found = check(model.adapters(page))
            rows.append((name, dtype, told(source), told(found), number(apart(module, model, page, event, dtype))))
            known = {(one.quantity, one.diagnosis.split(":")[0]) for one in source.failed}
            alone |= {f"{name} {dtype} {one.quantity} at {one.input}": one.diagnosis for one in found.failed
                      if (one.quantity, one.diagnosis.split(":")[0]) not in known}
    return rows, alone


def main(arguments=None) -> int:
    parser = argparse.ArgumentParser(prog="python -m validation.onnx_models", description=__doc__.splitlines()[0])
    parser.add_argument("--out", metavar="DIRECTORY", type=Path, help="keep the exported models")
    chosen = parser.parse_args(arguments)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        directory = chosen.out or Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        rows, alone = compared(directory)
    print(aligned(rows))
    print("\nwhat torch does right or can run:")
    print("\n".join(f"  {where}: {what}" for where, what in alone.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
