"""Defects of zuko."""

from __future__ import annotations

from .entry import SHIPPED, finding

finding("zuko", "1.6.0", "GaussianizationTransform saturates at 4.89", ("forward", "log_det"),
        SHIPPED + "zuko.transforms.GaussianizationTransform")
finding("zuko", "1.6.0", "BoundedBernsteinTransform jumps at its bounds",
        ("inverse of forward", "forward of inverse", "log-det is the determinant of differences",
         "images differ by the integral of the slope"), """
import torch
from zuko.transforms import BoundedBernsteinTransform
from refflow.testing import BlackBox

t = BoundedBernsteinTransform(torch.zeros(3, dtype=torch.float64))
box = BlackBox(t.call_and_ladj, t.inv, backend="torch")
""")
