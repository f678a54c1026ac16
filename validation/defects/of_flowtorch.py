"""Defects of flowtorch."""

from __future__ import annotations

from .entry import OWN, defect


@defect("flowtorch", "0.5", "the log-det after an inverse of Spline has the wrong sign", "facebookincubator/flowtorch#100",
        "inverse log-det is minus log-det", """
import torch
from flowtorch.bijectors import Spline
torch.manual_seed(0)
t = Spline(shape=torch.Size([1]))
z = torch.full((1, 1), 0.3)
y = t.forward(z)
here = t.log_abs_det_jacobian(z, y).item()
y = y.detach().clone()
x = t.inverse(y)
print(t.log_abs_det_jacobian(x, y).item() / here)
""", """
import torch
from flowtorch.bijectors import Spline
from refflow.testing import BlackBox

torch.manual_seed(0)
t = Spline(shape=torch.Size([1]))

def forward(z):
    x = t.forward(z)
    return x.detach().clone(), t.log_abs_det_jacobian(z, x).sum(-1)

def inverse(x):
    z = t.inverse(x)
    return z.detach().clone(), -t.log_abs_det_jacobian(z, x).sum(-1)

box = BlackBox(forward, inverse, event=(1,), parameters=t.parameters)
""")
def the_same(m):
    return [1]


@defect("flowtorch", "0.8", "the inverse of ELU adds an eps", OWN, "inverse of forward", """
import torch
from flowtorch.bijectors import ELU
t = ELU(shape=torch.Size([1]))
z = torch.full((1, 1), -15.0, dtype=torch.float64)
print(t.inverse(t.forward(z).detach().clone()).item())
""", """
import torch
from flowtorch.bijectors import ELU
from refflow.testing import BlackBox

t = ELU(shape=torch.Size([1]))
box = BlackBox(lambda z: t.forward(z).detach().clone(), lambda x: t.inverse(x).detach().clone(), event=(1,),
               codomain=(-1, float("inf")), backend="torch")
""")
def elu(m):
    return [-15]
