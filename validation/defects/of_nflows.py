"""Defects of nflows."""

from __future__ import annotations

from .entry import SHIPPED, defect, finding

finding("0.14", "LeakyReLU's log-det is a float32 constant", "log_det", SHIPPED + "nflows.transforms.LeakyReLU")
finding("0.14", "PiecewiseQuadraticCDF has no inverse where two heights are equal", "inverse of forward", """
import torch
from nflows.transforms import PiecewiseQuadraticCDF
from refflow.testing import BlackBox

t = PiecewiseQuadraticCDF([1], num_bins=4, tails="linear").double()
for p in t.parameters():
    p.data.zero_()
box = BlackBox(t.forward, t.inverse, event=(1,), parameters=t.parameters)
""")
finding("0.14", "Tanh's log-det is -inf from 19.1 on", "log_det", SHIPPED + "nflows.transforms.Tanh")
