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


finding("torchflows", "1.2.1", "Planar folds space where w^T u < -4", "monotone", """
import torch
from refflow.testing import BlackBox
from torchflows.bijections.finite.residual.planar import Planar

layer = Planar((1,)).double()
layer.w.data.fill_(1.0); layer.u.data.fill_(-8.0); layer.b.data.fill_(0.0)
box = BlackBox(layer.inverse, event=(1,), parameters=layer.parameters)
""")
finding("torchflows", "1.2.1", "Radial has the log-det of neither map", "log-det is the determinant of differences", """
import torch
from refflow.testing import BlackBox
from torchflows.bijections.finite.residual.radial import Radial

torch.manual_seed(0)
layer = Radial((3,)).double()
box = BlackBox(layer.inverse, event=(3,), parameters=layer.parameters)
""")
