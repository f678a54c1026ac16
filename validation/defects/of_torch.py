"""Defects of torch.distributions."""

from __future__ import annotations

from .entry import SHIPPED, defect, finding

DETERMINANT = "log-det is the determinant of differences"

finding("torch", "2.13.0", "AffineTransform counts one scale for a whole event", (DETERMINANT, "log-det shape"), """
import torch
from torch.distributions.transforms import AffineTransform
from refflow.testing import BlackBox

t = AffineTransform(0.0, torch.tensor(3.0, dtype=torch.float64), event_dim=1)
box = BlackBox(t, t.inv, event=(2,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), backend="torch")
""")
finding("torch", "2.13.0", "the normal quantile in float32 is -inf from 1.5e-8 down", ("inverse", "inverse_log_det"),
        SHIPPED + "torch.distributions.transforms.CumulativeDistributionTransform(Normal)")
finding("torch", "2.13.0", "StickBreakingTransform clips its log-det", "log_det",
        SHIPPED + "torch.distributions.transforms.StickBreakingTransform", source="pytorch/pytorch#20288")
finding("torch", "2.13.0", "StickBreakingTransform takes the last part as 1 minus the others", "forward",
        SHIPPED + "torch.distributions.transforms.StickBreakingTransform")
finding("torch", "2.13.0", "a scale after StickBreakingTransform counts one dimension too many", (DETERMINANT,), """
import torch
from torch.distributions.transforms import AffineTransform, ComposeTransform, StickBreakingTransform
from refflow.testing import BlackBox

t = ComposeTransform([StickBreakingTransform(), AffineTransform(0.0, 2.0)])
box = BlackBox(t, t.inv, event=(4,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), backend="torch")
""", missed="Twice a simplex is not a set with a name, and no law asks the volume of an image on a set that is not declared.")


@defect("torch", "2.13.0", "the log-det of StackTransform is not summed over its event", "pytorch/pytorch#121220",
        ("log-det shape",), """
import torch
from torch.distributions.transforms import ExpTransform, StackTransform
t = StackTransform([ExpTransform(), ExpTransform()], dim=-1)
z = torch.ones(3, 2, dtype=torch.float64)
print(t.log_abs_det_jacobian(z, t(z)).numel())
""", """
from torch.distributions.transforms import ExpTransform, StackTransform
from refflow.testing import BlackBox

t = StackTransform([ExpTransform(), ExpTransform()], dim=-1)
box = BlackBox(t, t.inv, event=(2,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), backend="torch")
""")
def one_for_each(m):
    return [3]


@defect("torch", "2.13.0", "Kumaraswamy's way to a sample loses small samples to 1 - u", "pytorch/pytorch#139019",
        ("inverse of forward", "forward of inverse", "log-det is the determinant of differences",
         "images differ by the integral of the slope", "monotone", "log-det is the determinant of the gradient"), """
import torch
from torch.distributions import Kumaraswamy
from torch.distributions.transforms import ComposeTransform
k = Kumaraswamy(torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64))
t = ComposeTransform(k.transforms)
print(1.0 - t(torch.tensor(1e-40, dtype=torch.float64)).item())
print(t.inv(torch.tensor(1e-20, dtype=torch.float64)).item() - 1.0)
print(t(t.inv(torch.tensor(1e-20, dtype=torch.float64))).item())
""", """
import torch
from torch.distributions import Kumaraswamy
from torch.distributions.transforms import ComposeTransform
from refflow.testing import BlackBox

one, two = torch.tensor(1.0, dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
t = ComposeTransform(Kumaraswamy(one, two).transforms)
box = BlackBox(t.inv, t, log_det=lambda x: t.inv.log_abs_det_jacobian(x, t.inv(x)), domain=(0, 1), codomain=(0, 1),
               backend="torch")
""", missed="The map is right to the unit: beside 1, floats are 1e-16 apart. What is wrong is to sample from them.")
def kumaraswamy(m):
    u = (1 - m.mpf(1e-20)) ** 2                                 # 1 - x = u^(1/2)
    return [m.sqrt(m.mpf(1e-40)), u - 1, m.mpf(1e-20)]
