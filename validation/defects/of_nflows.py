"""Defects of nflows."""

from __future__ import annotations

from .entry import OWN, SHIPPED, defect, finding

finding("nflows", "0.14", "LeakyReLU's log-det is a float32 constant", "log_det", SHIPPED + "nflows.transforms.LeakyReLU")
finding("nflows", "0.14", "PiecewiseQuadraticCDF has no inverse where two heights are equal", "inverse of forward", """
import torch
from nflows.transforms import PiecewiseQuadraticCDF
from refflow.testing import BlackBox

t = PiecewiseQuadraticCDF([1], num_bins=4, tails="linear").double()
for p in t.parameters():
    p.data.zero_()
box = BlackBox(t.forward, t.inverse, event=(1,), parameters=t.parameters)
""")
finding("nflows", "0.14", "PiecewiseQuadraticCDF jumps in density at the tails", "the slope does not jump", """
import torch
from nflows.transforms import PiecewiseQuadraticCDF
from refflow.testing import BlackBox

t = PiecewiseQuadraticCDF([1], num_bins=4, tails="linear").double()
box = BlackBox(t.forward, t.inverse, event=(1,), parameters=t.parameters, smooth=True)
""")
finding("nflows", "0.14", "PiecewiseLinearCDF's inverse uses other knots than its forward",
        ("inverse of forward", "forward of inverse", "inverse log-det is minus log-det"), """
import torch
from nflows.transforms import PiecewiseLinearCDF
from refflow.testing import BlackBox

t = PiecewiseLinearCDF([1], num_bins=3, tails="linear").double()
box = BlackBox(t.forward, t.inverse, event=(1,), parameters=t.parameters)
""")
finding("nflows", "0.14", "Tanh's log-det is -inf from 19.1 on", "log_det", SHIPPED + "nflows.transforms.Tanh")
finding("nflows", "0.14", "LogTanh's slope jumps at its cut point", "the slope does not jump", """
import torch
from nflows.transforms import LogTanh
from refflow.testing import BlackBox

t = LogTanh(1)
box = BlackBox(t.forward, t.inverse, event=(1,), backend="torch", smooth=True)
""")
finding("nflows", "0.14", "NaiveLinear has no inverse with a torch of today", ("inverse", "inverse of forward"),
        SHIPPED + "nflows.transforms.NaiveLinear")


@defect("nflows", "0.14", "SqueezeTransform has no inverse for a factor of 3", OWN, "inverse of forward", """
import torch
from nflows.transforms import SqueezeTransform
t = SqueezeTransform(3)
z = torch.arange(36.0).reshape(1, 1, 6, 6)
print(t.inverse(t.forward(z)[0])[0][0, 0, 5, 5].item())
""", """
from nflows.transforms import SqueezeTransform
from refflow.testing import BlackBox

t = SqueezeTransform(3)
box = BlackBox(t.forward, t.inverse, event=(1, 6, 6), backend="torch")
""")
def last_pixel(m):
    return [35]


@defect("nflows", "0.14", "the rational quadratic spline's inverse raises where a rounded discriminant is negative",
        "bayesiains/nflows#87", ("inverse of forward", "forward of inverse", "inverse", "inverse_log_det"), """
import torch
from nflows.transforms import PiecewiseRationalQuadraticCDF
torch.manual_seed(24)
t = PiecewiseRationalQuadraticCDF([1], num_bins=8, tails="linear", tail_bound=3.0)
for p in t.parameters():
    torch.nn.init.normal_(p, std=10)
x, _ = t.forward(torch.linspace(-3, 3, 20001)[:, None])
print(t.inverse(x)[0][0].item())
""", """
import torch
from nflows.transforms import PiecewiseRationalQuadraticCDF
from refflow.testing import BlackBox

torch.manual_seed(24)
t = PiecewiseRationalQuadraticCDF([1], num_bins=8, tails="linear", tail_bound=3.0)
for p in t.parameters():
    torch.nn.init.normal_(p, std=10)
box = BlackBox(t.forward, t.inverse, event=(1,), parameters=t.parameters)
""", missed="One in a million points: the discriminant is negative in the middle of a steep bin alone.")
def negative_discriminant(m):
    return [-3]


@defect("nflows", "0.13", "a batch whose entries are all beyond the spline's bound raises", "sbi-dev/sbi#373",
        ("a batch of tails is the stack of its events", "batch is the stack of singles"), """
import torch
from nflows.transforms.splines import unconstrained_rational_quadratic_spline as spline
h, d = torch.zeros(2, 8), torch.zeros(2, 7)
print(spline(torch.full((2,), 6.0), h, h, d, tails="linear", tail_bound=3.0)[0][0].item())
""", """
from nflows.transforms import PiecewiseRationalQuadraticCDF
from refflow.testing import BlackBox

t = PiecewiseRationalQuadraticCDF([2], num_bins=8, tails="linear", tail_bound=3.0).double()
box = BlackBox(t.forward, t.inverse, event=(2,), parameters=t.parameters)
""")
def beyond(m):
    return [6]
