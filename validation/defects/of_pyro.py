"""Defects of pyro.  Its releases before 1.9 ask for a torch 1: they are told that they have one."""

from __future__ import annotations

from .entry import defect, finding

finding("pyro", "1.9.2", "Spline evaluates the wrong bin within 1e-6 above a knot",
        ("log-det is the determinant of differences", "inverse of forward", "inverse log-det is minus log-det",
         "images differ by the integral of the slope"), """
import torch
from pyro.distributions.transforms import Spline
from refflow.testing import BlackBox

torch.manual_seed(0)
t = Spline(1, count_bins=4, bound=3.0, order="quadratic").double()
box = BlackBox(t, t.inv, event=(1,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)).sum(-1), parameters=t.parameters)
""", missed="No point lies within 1e-6 of a knot.")
finding("pyro", "1.9.2", "ELUTransform's inverse adds 1e-8", ("inverse of forward",), """
from pyro.distributions.transforms import ELUTransform
from refflow.testing import BlackBox

t = ELUTransform()
box = BlackBox(t, t.inv, log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), codomain=(-1, float("inf")), backend="torch")
""")


@defect("pyro", "1.8.2", "the quadratic spline's inverse raises beyond its bound", "pyro-ppl/pyro#3139",
        ("inverse of forward", "forward of inverse"), """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import Spline
torch.manual_seed(5)
t = Spline(1, count_bins=8, bound=3.0, order="quadratic").double()
print(t.inv(torch.tensor([[50.0], [-50.0], [500.0]], dtype=torch.float64))[0].item())
""", """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import Spline
from refflow.testing import BlackBox

torch.manual_seed(5)
t = Spline(1, count_bins=8, bound=3.0, order="quadratic").double()
box = BlackBox(t, t.inv, event=(1,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)).sum(-1), parameters=t.parameters)
""")
def beyond(m):
    return [50]


@defect("pyro", "1.3.0", "AffineAutoregressive(stable=True) takes a scale for its logarithm after an inverse",
        "pyro-ppl/pyro#2503", ("inverse log-det is minus log-det", "log-det shape"), """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import AffineAutoregressive
class Constant:
    permutation = [0, 1]
    def __call__(self, x):
        return torch.zeros_like(x), torch.zeros_like(x)
t = AffineAutoregressive(Constant(), stable=True, sigmoid_bias=0.0)
y = torch.ones(1, 2, dtype=torch.float64)
x = t.inv(y)
print(t.log_abs_det_jacobian(x, y).item())
""", """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import affine_autoregressive
from refflow.testing import BlackBox

torch.manual_seed(0)
t = affine_autoregressive(2, stable=True)

def inverse(y):
    x = t.inv(y)
    return x, -t.log_abs_det_jacobian(x, y)

box = BlackBox(t, inverse, event=(2,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), parameters=t.parameters)
""", missed="The inverse's log-det is one number for the batch: its law is skipped for that, and no law asks its shape.")
def half(m):
    return [2 * m.log(m.mpf(1) / 2)]


@defect("pyro", "1.3.0", "a transform's log-det is of the event that was asked last", "pyro-ppl/pyro#2384",
        ("fused is separate", "batch is the stack of singles", "log-det is the determinant of differences",
         "deterministic", "log-det shape"), """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import Planar
t = Planar(1).double()
t.bias.data.zero_(); t.u.data.fill_(1.0); t.w.data.fill_(1.0)
z = torch.zeros(1, 1, dtype=torch.float64)
y = t(z)
t(z + 3.0)
print(t.log_abs_det_jacobian(z, y).item())
""", """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import Planar
from refflow.testing import BlackBox

torch.manual_seed(0)
t = Planar(2).double()
box = BlackBox(t, event=(2,), log_det=lambda z: t.log_abs_det_jacobian(z, None), parameters=t.parameters)
""")
def planar_at_0(m):
    u = m.mpf(1) + (-1 + m.log(1 + m.exp(1)) - 1)
    return [m.log(1 + u)]


@defect("pyro", "0.5.1", "the inverse of HouseholderFlow reflects in the order of its forward", "pyro-ppl/pyro#1932",
        ("inverse of forward", "forward of inverse"), """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import HouseholderFlow
t = HouseholderFlow(2, 2).double()
t.u_unnormed.data.copy_(torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
z = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
y = t(z).clone()
print(t.inv(y)[0, 0].item())
""", """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import HouseholderFlow
from refflow.testing import BlackBox

torch.manual_seed(0)
t = HouseholderFlow(3, 2).double()
box = BlackBox(t, t.inv, event=(3,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), parameters=t.parameters)
""")
def reflected(m):
    return [1]


@defect("pyro", "0.5.1", "the inverse of AffineCoupling calls a network that it does not have", "pyro-ppl/pyro#2084",
        ("inverse of forward", "forward of inverse"), """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import AffineCoupling
t = AffineCoupling(1, lambda x: (torch.zeros_like(x), torch.zeros_like(x)))
z = torch.tensor([[1.0, 2.0]], dtype=torch.float64)
print(t.inv(t(z).clone())[0, 1].item())
""", """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import AffineCoupling
from pyro.nn import DenseNN
from refflow.testing import BlackBox

torch.manual_seed(0)
t = AffineCoupling(1, DenseNN(1, [8], [1, 1]).double())
box = BlackBox(t, t.inv, event=(2,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), backend="torch")
""")
def passed(m):
    return [2]


@defect("pyro", "1.0.0", "Planar divides by a norm instead of its square, and may fold the line", "pyro-ppl/pyro#2192",
        ("monotone", "log-det is the determinant of differences", "all laws at moved parameters"), """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import Planar
t = Planar(1).double()
t.bias.data.zero_(); t.w.data.fill_(0.25); t.u.data.fill_(-20.0)
z = torch.tensor([[0.5]], dtype=torch.float64)
print(t(z).item() - t(-z).item())
""", """
import torch
torch.__version__ = "1.13.0"
from pyro.distributions.transforms import Planar
from refflow.testing import BlackBox

torch.manual_seed(0)
t = Planar(1).double()
t.w.data.fill_(0.25); t.u.data.fill_(-20.0)
box = BlackBox(t, event=(1,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), parameters=t.parameters)
""")
def unfolded(m):
    w, u, z = m.mpf("0.25"), m.mpf(-20), m.mpf("0.5")
    u = u + (-1 + m.log(1 + m.exp(w * u)) - w * u) / w
    return [2 * (z + u * m.tanh(w * z))]


finding("pyro", "1.9.2", "Sylvester's log-det is not the determinant of its map", "log-det is the determinant of differences", """
import torch
from pyro.distributions.transforms import Sylvester
from refflow.testing import BlackBox

torch.manual_seed(0)
t = Sylvester(3, 2).double()
box = BlackBox(t, event=(3,), log_det=lambda z: t.log_abs_det_jacobian(z, t(z)), parameters=t.parameters)
""")
