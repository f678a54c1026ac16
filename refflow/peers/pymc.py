"""PyMC 5.28.5, as adapters: `refflow check pymc`.

Its transforms lead from constrained values forward to free ones; their `backward`, and log_jac_det of the free value, are the
page's forward.  Expressions of pytensor are evaluated one by one.  Transforms of random variables lead from latents to data;
the log_jac_det of these is the inverse's.

Left out: CoshTransform, ErfcxTransform and their inverses, which have no page.
"""

from __future__ import annotations

from math import isqrt

import numpy as np
import pymc.distributions.transforms as t
import pymc.logprob.transforms as of_variables
import pytensor.tensor as pt

import refflow
from refflow.oracle import adapter

from .shared import pinned
from .shared.constraints import declare_constraints

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
declare("SumTo1", "SumTo1", t.SumTo1())


# -- transforms of random variables -----------------------------------------------------------------------------------

def declare_measurable(page, name, transform_of):
    @adapter(page, theirs=f"pymc.logprob.transforms.{name}", direction="inverse")
    def mine(params, x):
        transform = transform_of(params)
        return {"forward": values(transform.backward(pt.as_tensor(x))),
                "log_det": values(transform.log_jac_det(pt.as_tensor(x))),
                "inverse": lambda z: values(transform.forward(pt.as_tensor(z)))}


def first(p, name):
    """A function that gives a field of a chain's first stage, as transforms of random variables take their arguments."""
    return lambda *inputs: pt.as_tensor(p["stages"]["0"][name])


CUBE = 3.0
declare_measurable(refflow.Chain([refflow.Affine(shift=0.75)]), "LocTransform", lambda p: of_variables.LocTransform(first(p, "shift")))
declare_measurable(refflow.Chain([refflow.Affine(scale=-1.5)]), "ScaleTransform",
                   lambda p: of_variables.ScaleTransform(first(p, "scale")))
declare_measurable("Exp", "ExpTransform", lambda p: of_variables.ExpTransform())
declare_measurable("Erf", "ErfTransform", lambda p: of_variables.ErfTransform())
declare_measurable(refflow.erfc(), "ErfcTransform", lambda p: of_variables.ErfcTransform())
declare_measurable("Tanh", "TanhTransform", lambda p: of_variables.TanhTransform())
declare_measurable("Sinh", "SinhTransform", lambda p: of_variables.SinhTransform())
declare_measurable(refflow.Inverse(refflow.Sinh()), "ArcsinhTransform", lambda p: of_variables.ArcsinhTransform())
declare_measurable(refflow.Chain([refflow.Power(CUBE)]), "PowerTransform", lambda p: of_variables.PowerTransform(CUBE))
declare_measurable(refflow.Chain([refflow.Affine(scale=0.75), refflow.Exp()]), "ChainedTransform",
                   lambda p: of_variables.ChainedTransform([of_variables.ScaleTransform(first(p, "scale")), of_variables.ExpTransform()]))


# -- the constraints --------------------------------------------------------------------------------------------------

class Unpacked:
    """CholeskyCovPacked, of matrices in the place of their packed triangles."""

    def backward(self, z):
        D = isqrt(2 * z.type.shape[-1])
        empty = pt.zeros((*z.type.shape[:-1], D, D), z.dtype)
        return pt.set_subtensor(empty[..., *np.tril_indices(D)], t.CholeskyCovPacked(D).backward(z))

    def forward(self, L):
        D = L.type.shape[-1]
        return t.CholeskyCovPacked(D).forward(L[..., *np.tril_indices(D)])

    def log_jac_det(self, z):
        return t.CholeskyCovPacked(isqrt(2 * z.type.shape[-1])).log_jac_det(z)


NAMED = {"Ordered(positive)": t.Ordered(positive=True), "ZeroSumTransform([-1])": t.ZeroSumTransform([-1]),
         "ZeroSumTransform([-2, -1])": t.ZeroSumTransform([-2, -1]), "CholeskyCovPacked": Unpacked()}


def transform(name, ends):
    """The transform of this name, or an interval with these ends."""
    if ends is not None:
        return t.Interval(*ends)
    return NAMED[name] if name in NAMED else getattr(t, name)


def declare_built(page, name, build, **of_gradients):
    declare(page, name, build(None))


declare_constraints("pymc", declare_built, transform)
