"""Defects of PyMC."""

from __future__ import annotations

from .entry import SHIPPED, finding

finding("pymc", "5.28.5", "logodds' log-det is -inf from 37 on", "log_det", SHIPPED + "pymc.distributions.transforms.logodds")
finding("pymc", "5.28.5", "Interval with numbers as bounds has a float32 constant in its log-det",
        ("log-det is the determinant of differences", "images differ by the integral of the slope"), """
import pytensor
import pytensor.tensor as pt
from pymc.distributions.transforms import Interval
from refflow.testing import BlackBox

t, z = Interval(-1.0, 3.0), pt.dvector()
backward = pytensor.function([z], [t.backward(z), t.log_jac_det(z)], mode="FAST_COMPILE")
forward = pytensor.function([z], t.forward(z), mode="FAST_COMPILE")
box = BlackBox(lambda z: tuple(backward(z)), forward, codomain=(-1, 3))
""")
