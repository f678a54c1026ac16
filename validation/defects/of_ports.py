"""Ports: formulas of code that is not released, or cannot be imported here, with the mistake that the source has."""

from __future__ import annotations

from .entry import OWN, defect


@defect("pytorch-normalizing-flows", "port", "a coupling splits even from odd entries, and joins halves",
        "karpathy/pytorch-normalizing-flows#10", ("inverse of forward", "forward of inverse"), """
import torch
def call(x, sign):
    even, odd = x[:, ::2], x[:, 1::2]
    return torch.cat([even, odd + sign * even.sin()], 1)
z = torch.tensor([[1.0, 2.0, 3.0, 4.0]], dtype=torch.float64)
print(call(call(z, 1), -1)[0, 1].item())
""", """
import torch
from refflow.testing import BlackBox

torch.manual_seed(0)
net = torch.nn.Linear(2, 4).double()

def half(x, sign):
    even, odd = x[:, ::2], x[:, 1::2]
    log_scale, shift = net(even).chunk(2, 1)
    moved = odd * log_scale.exp() + shift if sign > 0 else (odd - shift) * (-log_scale).exp()
    return torch.cat([even, moved], 1), sign * log_scale.sum(1)

box = BlackBox(lambda z: half(z, 1), lambda x: half(x, -1), event=(4,), parameters=net.parameters)
""", port="nflib/flows.py of b60e119")
def second(m):
    return [2]


@defect("pytorch-flows", "port", "MADE's log-det has the same sign in both directions", "ikostrikov/pytorch-flows#16",
        "inverse log-det is minus log-det", """
import torch
a = torch.full((1, 2), 0.5, dtype=torch.float64)
def direct(x):
    return x * (-a).exp(), -a.sum(-1)
def inverse(u):
    return u * a.exp(), -a.sum(-1)
z = torch.ones(1, 2, dtype=torch.float64)
print(inverse(direct(z)[0])[1].item())
""", """
import torch
from refflow.testing import BlackBox

torch.manual_seed(0)
net = torch.nn.Linear(1, 2).double()

def of_first(first):
    return torch.cat([torch.zeros_like(first), net(first)[:, :1]], 1), torch.cat([torch.zeros_like(first), net(first)[:, 1:]], 1)

def direct(x):
    m, a = of_first(x[:, :1])
    return (x - m) * (-a).exp(), -a.sum(-1)

def inverse(u):
    m, a = of_first(u[:, :1])
    return u * a.exp() + m, -a.sum(-1)

box = BlackBox(direct, inverse, event=(2,), parameters=net.parameters)
""", port="flows.py of 34a34a0")
def of_made(m):
    return [1]


@defect("normalizing-flows", "port", "the log-det of a planar flow has an eps and a slope of the wrong sign",
        OWN, ("log-det is the determinant of differences", "images differ by the integral of the slope"), """
import torch
x, w, u = (torch.tensor(v, dtype=torch.float64) for v in (-1.0, 1.0, 0.5))
slope = -0.01 if (x * w).item() < 0 else 1.0
print(torch.log(torch.abs(1 + u * w * slope) + 1e-4).item())
""", """
import torch
from torch.nn.functional import leaky_relu
from refflow.testing import BlackBox

w, u, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in ([0.5, -0.25], [0.75, 0.5], 0.125))

def forward(x):
    inner = x @ w + b
    slope = torch.where(inner < 0, -0.01, 1.0)
    return x + u * leaky_relu(inner)[:, None], torch.log(torch.abs(1 + slope * (u @ w)) + 1e-4)

box = BlackBox(forward, event=(2,), parameters=[w, u, b])
""", port="tonyduan/normalizing-flows, nf/flows.py of 03e2770")
def of_leak(m):
    return [m.log(1 + m.mpf("0.005"))]


@defect("normalizing-flows", "port", "a radial flow takes the norm of the whole batch",
        OWN, ("batch is the stack of singles",), """
import torch
def forward(x, alpha=1.0, beta=0.5):
    r = torch.norm(x)
    return x + beta / (alpha + r) * x
print(forward(torch.tensor([[3.0, 4.0], [6.0, 8.0]], dtype=torch.float64))[0, 0].item())
""", """
import torch
from refflow.testing import BlackBox

def forward(x, alpha=1.0, beta=0.5):
    r = torch.norm(x)
    h = beta / (alpha + r)
    return x + h * x, (torch.log(1 + h) + torch.log(1 + h - beta * r / (alpha + r) ** 2)).expand(len(x))

box = BlackBox(forward, event=(2,), backend="torch")
""", port="tonyduan/normalizing-flows, nf/flows.py of 03e2770")
def of_radius(m):
    return [3 + m.mpf("0.5") / 6 * 3]


@defect("NuX", "port", "the log-det of CenterAndScale has the same sign in both directions",
        "Information-Fusion-Lab-Umass/NuX#10", "inverse log-det is minus log-det", """
import math
s = 0.5
print(math.log(s) * 2)
""", """
import numpy as np
from refflow.testing import BlackBox

s, b = 0.5, 0.25

def forward(x):
    return x * s + b, np.full(len(x), 2 * np.log(s))

def inverse(z):
    return (z - b) / s, np.full(len(z), 2 * np.log(s))

box = BlackBox(forward, inverse, event=(2,))
""", port="nux/flows/affine.py of 1.0.3")
def of_scale(m):
    return [-2 * m.log(m.mpf("0.5"))]


@defect("GPflow", "port", "the softplus of GPflow overflows, and its inverse too", "GPflow/GPflow#302",
        ("forward", "inverse"), """
import numpy as np
print(float(np.log(1 + np.exp(800.0))))
""", """
import numpy as np
from refflow.oracle import adapter

@adapter("Softplus", dtype="float64")
def log_1p_e(params, z):
    return {"forward": np.log(1 + np.exp(z)), "inverse": lambda x: np.log(np.exp(x) - 1)}
""", port="GPflow/transforms.py of 0.3, without its lower end")
def of_800(m):
    return [m.log(1 + m.exp(800))]


@defect("bayesflow", "port", "bayesflow's inverse of softplus takes beta out of the wrong function",
        OWN, ("inverse of forward", "forward of inverse"), """
import numpy as np
def inverse(x, beta):
    return np.log(beta * np.expm1(x)) / beta
print(float(inverse(np.log1p(np.exp(2.0 * 0.5)) / 2.0, 2.0)))
""", """
import numpy as np
from refflow.testing import BlackBox

beta = 2.0

def forward(z):
    return np.where(beta * z > 20, z, np.log1p(np.exp(beta * z)) / beta)

def inverse(x):
    return np.where(beta * x > 20, x, np.log(beta * np.expm1(x)) / beta)

box = BlackBox(forward, inverse, codomain=(0, float("inf")))
""", port="the code quoted in bayesflow-org/bayesflow#270")
def of_beta(m):
    return [m.mpf("0.5")]
