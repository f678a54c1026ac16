"""The first contact: seven lines to the verdict on a spline flow of three numbers, ten to that on a spline held to its page."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SECONDS = 60                            # of processor time, with the imports
SEVEN = """
import refflow
from refflow.testing import BlackBox
from validation.foreign.torch_flows import FLOWS
flow = FLOWS["neural spline flow of 3"]().double()
print(refflow.check(BlackBox(flow.forward, flow.inverse, event=(3,), parameters=flow.parameters)))
"""
TEN = """
import numpy as np, refflow, torch
from validation.foreign.torch_flows import SplineCoupling
def mine(params, z):
    coupling = SplineCoupling(1, bins=params["input_knots"].shape[-1] - 1)
    coupling.splines = lambda a: tuple(torch.tensor(params[key]).expand(*a.shape, -1)
                                       for key in ("input_knots", "output_knots", "slopes"))
    x, log_det = coupling(torch.tensor(z)[..., None])
    return {"log_det": log_det}
print(refflow.check(mine, page="RationalQuadraticSpline", dtypes=["float64"]).table())
"""


@pytest.mark.parametrize("text, most, verdict", [(SEVEN, 7, "14 laws ran"), (TEN, 10, "RationalQuadraticSpline")],
                         ids=["seven lines", "ten lines"])
def test_the_first_verdict_comes_soon(text, most, verdict):
    pytest.importorskip("torch", reason="torch is missing: pip install -e '.[peers]'")
    assert len(text.strip().splitlines()) <= most
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", text], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and verdict in done.stdout, done.stderr
    assert resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < SECONDS
