"""Defects of normflows."""

from __future__ import annotations

from .entry import OWN, defect, finding

finding("normflows", "1.7.3", "transforms.Shift writes to its input", "inputs are not written to", """
from normflows.transforms import Shift
from refflow.testing import BlackBox

t = Shift(-0.5)
box = BlackBox(t.forward, t.inverse, event=(2,), backend="torch")
""")
finding("normflows", "1.7.3", "transforms.Logit is not the map of its docstring", ("forward", "inverse"), """
import refflow
import torch
from normflows.transforms import Logit
from refflow.oracle import adapter

@adapter(refflow.AlphaSigmoid(low=0.05, high=1.0), dtype="float64", direction="inverse")
def as_documented(params, x):
    z, log_det = Logit(alpha=0.05).inverse(torch.as_tensor(x).reshape(-1, 1))
    return {"forward": z.numpy().reshape(x.shape), "log_det": log_det.numpy().reshape(x.shape)}
""")


@defect("normflows", "1.4", "Planar's inverse with leaky_relu is another map than its forward's inverse", OWN,
        ("inverse of forward", "forward of inverse", "inverse log-det is minus log-det"), """
import torch
from normflows.flows import Planar
u, w, b = (torch.tensor([v], dtype=torch.float64) for v in ([1.0, 0.5], [0.5, 1.0], 0.25))
t = Planar((2,), act="leaky_relu", u=u, w=w, b=b)
z = torch.tensor([[0.5, -1.5]], dtype=torch.float64)
print(t.inverse(t(z)[0])[0][0, 0].item())
""", """
import torch
from normflows.flows import Planar
from refflow.testing import BlackBox

torch.manual_seed(0)
t = Planar((2,), act="leaky_relu").double()
box = BlackBox(t.forward, t.inverse, event=(2,), parameters=t.parameters)
""")
def planar(m):
    return [m.mpf("0.5")]


@defect("normflows", "1.6", "forward_and_log_det of a flow has the sign of the inverse's log-det",
        "VincentStimper/normalizing-flows#27", "log-det is the determinant of differences", """
import torch, normflows
q = normflows.distributions.DiagGaussian(2, trainable=False)
f = normflows.flows.AffineConstFlow((2,))
f.s.data.fill_(0.5)
flow = normflows.NormalizingFlow(q, [f])
print(flow.forward_and_log_det(torch.zeros(3, 2))[1][0].item())
""", """
import normflows, torch
from refflow.testing import BlackBox

torch.manual_seed(0)
net = normflows.nets.MLP([1, 8, 2])
torch.nn.init.normal_(net.net[-1].weight)
flow = normflows.NormalizingFlow(normflows.distributions.DiagGaussian(2), [normflows.flows.AffineCouplingBlock(net)]).double()
box = BlackBox(flow.forward_and_log_det, flow.inverse_and_log_det, event=(2,), backend="torch")
""")
def sum_of_logs(m):
    return [1]


finding("normflows", "1.7.3", "Planar is infinite or NaN for large w^T u", ("forward", "log_det"), """
import torch
from normflows.flows import Planar
from refflow.oracle import adapter

@adapter("Planar", parametrisation="paper, normflows, Pyro, Bijectors.jl", dtype="float32")
def planar(params, z):
    w, u, b = torch.split(torch.as_tensor(params["h"]), [3, 3, 1])
    with torch.no_grad():
        x, log_det = Planar((3,), u=u[None], w=w[None], b=b).forward(torch.as_tensor(z).reshape(-1, 3))
    return {"forward": x.numpy().reshape(z.shape), "log_det": log_det.numpy().reshape(z.shape[:-1])}
""")
finding("normflows", "1.7.3", "Planar with leaky_relu has a slope of float32 digits",
        ("inverse of forward", "log-det is the determinant of differences"), """
import torch
from normflows.flows import Planar
from refflow.testing import BlackBox

torch.manual_seed(0)
t = Planar((2,), act="leaky_relu").double()
box = BlackBox(t.forward, t.inverse, event=(2,), parameters=t.parameters)
""")
