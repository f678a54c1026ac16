"""PyMC 5.28.5, as adapters: `refflow check pymc`.

Its transforms lead from constrained values forward to free ones; their `backward`, and log_jac_det of the free value, are the
page's forward.  Expressions of pytensor are evaluated one by one.
"""

from __future__ import annotations

import numpy as np
import pymc.distributions.transforms as t
import pytensor.tensor as pt

import refflow
from refflow.oracle import adapter

from .shared import pinned

version = pinned("pymc", "5.28.5")


def declare(page, name, transform):
    @adapter(page, theirs=f"pymc.distributions.transforms.{name}")
    def mine(params, z):
        return {"forward": values(transform.backward(pt.as_tensor(z))),
                "log_det": values(transform.log_jac_det(pt.as_tensor(z))),
                "inverse": lambda x: values(transform.forward(pt.as_tensor(x)))}


def values(expression):
    return np.asarray(expression.eval(mode="FAST_COMPILE"))


declare("Exp", "log", t.log)
declare("Sigmoid", "logodds", t.logodds)
declare("Ordered", "ordered", t.ordered)
declare(refflow.Chain([refflow.OpenInterval(ends=[-1.0, 3.0])]), "Interval(-1, 3)", t.Interval(-1.0, 3.0))
