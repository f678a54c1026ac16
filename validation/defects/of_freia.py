"""Defects of FrEIA."""

from __future__ import annotations

from .entry import SHIPPED, finding

finding("freia", "0.2", "InvertibleSigmoid sums its log-det over one axis", "log-det shape", """
from FrEIA.modules import InvertibleSigmoid
from refflow.testing import BlackBox

t = InvertibleSigmoid([(1, 2, 2)])
box = BlackBox(lambda z: (lambda x, log_det: (x[0], log_det))(*t([z])), event=(1, 2, 2), codomain=(0, 1), backend="torch")
""", source="vislearn/FrEIA#176")
finding("freia", "0.2", "InvertibleSigmoid's log-det is -inf from 89 on in float32", "log_det",
        SHIPPED + "FrEIA.modules.InvertibleSigmoid")
finding("freia", "0.2", "Fixed1x1Conv multiplies by the transpose of its matrix", "forward", """
import numpy as np
import refflow
import torch
from FrEIA.modules import Fixed1x1Conv
from refflow.oracle import adapter

page = refflow.Pointwise(refflow.DenseLinear(W=[[1.0, 2.0], [0.5, -1.0]], shift=[0.0, 0.0]))

@adapter(page, dtype="float32")
def mine(params, z):
    t = Fixed1x1Conv([(2, 1, 1)], M=torch.tensor([[1.0, 2.0], [0.5, -1.0]]))
    rows = torch.as_tensor(z).reshape(-1, 2, 1, 1)
    (x,), log_det = t([rows])
    return {"forward": x.reshape(z.shape).numpy()}
""")
