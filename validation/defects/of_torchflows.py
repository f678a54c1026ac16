"""Defects of torchflows."""

from __future__ import annotations

from .entry import finding

finding("torchflows", "1.2.1", "RationalQuadratic with raw numbers 0 is not the identity", ("forward", "log_det"), """
import refflow
import torch
from refflow.oracle import adapter
from torchflows.bijections.finite.autoregressive.transformers.spline.rational_quadratic import RationalQuadratic

@adapter(refflow.Affine(shift=0.0, scale=1.0), dtype="float64")
def raw_numbers_of_0(params, z):
    rows = torch.as_tensor(z).reshape(-1, 1)
    x, log_det = RationalQuadratic((1,)).forward(rows, torch.zeros(len(rows), 1, 23).double())
    return {"forward": x.numpy().reshape(z.shape), "log_det": log_det.numpy().reshape(z.shape)}
""")
