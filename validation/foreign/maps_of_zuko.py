"""Maps of zuko: its transforms, and whole flows at random weights, which lead from data to latents.

Bernstein polynomials, sums of squares, neural and Gaussianization flows have an inverse by bisection to 1e-6 in a bounded interval,
as their documentation says: that inverse is not asked.  Continuous flows and UNAF, which
are integrated to a tolerance, are left out.  A signed power has
the slope 0 or infinity at 0, and is asked on one side.
"""

from __future__ import annotations

import torch
from zuko import flows
from zuko import transforms as t

from .entry import HALF_LINE, normal
from .in_torch import module, one

HIDDEN = (16, 16)


def both(transform):
    return transform.call_and_ladj, transform.inv.call_and_ladj


def summed(transform):
    """Of a transform of each entry by itself, as one of vectors."""
    return both(t.DependentTransform(transform, 1))


def forward_alone(transform):
    return transform.call_and_ladj, None


def flow(name, make, size=3):
    """A whole flow, whose forward leads from data to latents."""
    return module(name, make, (size,), lambda net, x: net().transform.call_and_ladj(x),
                  lambda net, z: net().transform.inv.call_and_ladj(z), direction="inverse", log_prob=lambda net, x: net().log_prob(x),
                  sample=lambda net, count: net().sample((count,)))


def half_a_flow(name, make, size):
    """One whose inverse is not asked, and from which nothing is sampled."""
    return module(name, make, (size,), lambda net, x: net().transform.call_and_ladj(x), False, direction="inverse",
                  log_prob=lambda net, x: net().log_prob(x))


def maps():
    yield one("IdentityTransform", lambda: both(t.IdentityTransform()))
    yield one("SoftclipTransform", lambda: both(t.SoftclipTransform(3.0)), codomain=(-3, 3))
    yield one("SignedPowerTransform", lambda a: both(t.SignedPowerTransform(a)), normal(), domain=HALF_LINE, codomain=HALF_LINE)
    yield one("CosTransform", lambda: both(t.CosTransform()), domain=(0, torch.pi), codomain=(-1, 1))
    yield one("SinTransform", lambda: both(t.SinTransform()), domain=(-torch.pi / 2, torch.pi / 2), codomain=(-1, 1))
    yield one("AdditiveTransform", lambda a: summed(t.AdditiveTransform(a)), normal(3), event=(3,))
    yield one("MonotonicAffineTransform", lambda a, b: summed(t.MonotonicAffineTransform(a, b)), normal(3), normal(3), event=(3,))
    yield one("MonotonicRQSTransform", lambda w, h, s: both(t.MonotonicRQSTransform(w, h, s)), normal(8), normal(8), normal(7))
    yield one("MonotonicRQSTransform of vectors", lambda w, h, s: summed(t.MonotonicRQSTransform(w, h, s)), normal(3, 5),
              normal(3, 5), normal(3, 4), event=(3,))
    yield one("BernsteinTransform", lambda a: forward_alone(t.BernsteinTransform(a)), normal(7))
    yield one("SOSPolynomialTransform", lambda a: forward_alone(t.SOSPolynomialTransform(a)), normal(2, 4))
    yield one("RotationTransform", lambda a: both(t.RotationTransform(a)), normal(3, 3), event=(3,))
    yield one("LULinearTransform", lambda a: both(t.LULinearTransform(a)), normal(3, 3), event=(3,))
    yield one("PermutationTransform", lambda: both(t.PermutationTransform(torch.tensor([2, 0, 1]))), event=(3,))
    yield one("ComposedTransform", lambda a, b, c: both(t.ComposedTransform(t.DependentTransform(
        t.MonotonicAffineTransform(a, b), 1), t.RotationTransform(c))), normal(3), normal(3), normal(3, 3), event=(3,))
    yield one("AutoregressiveTransform", lambda a, b: both(t.AutoregressiveTransform(
        lambda x: t.DependentTransform(t.MonotonicAffineTransform(torch.tanh(x) @ a.triu(1), torch.tanh(x) @ b.triu(1)), 1), 3)),
        normal(3, 3), normal(3, 3), event=(3,))
    yield one("CouplingTransform", lambda a, b: both(t.CouplingTransform(
        lambda x: t.DependentTransform(t.MonotonicAffineTransform(torch.sin(x) @ a, torch.cos(x) @ b), 1),
        torch.tensor([True, False, True, False]))), normal(2, 2), normal(2, 2), event=(4,))
    yield flow("flows.NSF", lambda: flows.NSF(3, transforms=2, hidden_features=HIDDEN))
    yield flow("flows.MAF", lambda: flows.MAF(3, transforms=3, hidden_features=HIDDEN))
    yield flow("flows.MAF of 8 [randperm]", lambda: flows.MAF(8, transforms=2, randperm=True, hidden_features=HIDDEN), 8)
    yield flow("flows.NICE", lambda: flows.NICE(4, transforms=3, hidden_features=HIDDEN), 4)
    yield flow("flows.RealNVP", lambda: flows.RealNVP(4, transforms=4, hidden_features=HIDDEN), 4)
    yield half_a_flow("flows.SOSPF", lambda: flows.SOSPF(2, transforms=2, hidden_features=HIDDEN), 2)
    yield half_a_flow("flows.NAF", lambda: flows.NAF(2, transforms=1, hidden_features=HIDDEN), 2)
