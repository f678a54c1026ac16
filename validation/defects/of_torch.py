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
box = BlackBox(lambda z: t(z)[..., :-1], event=(4,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), backend="torch")
""")


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
