"""Who parametrises planar and radial flows how: functions of D that return the map from numbers to the fields of a page.

A planar flow has numbers for the normal w, the vector u and the offset b; a radial flow for the centre, alpha and beta.  Each
library adds to u a multiple of w, and each makes something else of `w^T u`.  For `tanh`, Bijectors.jl inverts by a root finder, Pyro
returns only an inverse that it has cached, and normflows and FlowJAX raise.
"""

from __future__ import annotations

import numpy as np

from ..elementwise import AbsScale, Log1pSoftplusScale, SoftplusScale
from .entries import Entries
from .free import Free
from .hyperplane_fields import HyperplaneFields
from .one_plus import OnePlus
from .per_field import PerField
from .per_part import PerPart
from .premultiplied import Premultiplied

__all__ = ["PIECEWISE_PLANARS", "PLANARS", "RADIALS"]


def paper(size):
    """The slack is softplus of w^T u; normflows writes log(1 + exp t), which overflows where it need not."""
    return HyperplaneFields(SoftplusScale(), size)


def flowjax(size):
    """The slack is log(1 + softplus t): one logarithm more than in the paper."""
    return HyperplaneFields(Log1pSoftplusScale(), size)


def torchflows(size):
    """All numbers are halved, as sigmoid(a) = (1 + tanh(a/2))/2: its map also adds u/2.  Nothing keeps the slack 1 + t positive."""
    return Premultiplied(HyperplaneFields(OnePlus(), size), np.eye(2 * size + 1) / 2)


def normflows_leaky(size):
    """The paper's slack, with the negative slope 0.2."""
    return HyperplaneFields(SoftplusScale(), size, (("negative_slope", 0.2),))


def flowjax_leaky(size, negative_slope=0.2):
    """FlowJAX's slack.  It takes every slope > 0; the page refuses those above 1/(1 - slack), where the map folds space."""
    return HyperplaneFields(Log1pSoftplusScale(), size, (("negative_slope", negative_slope),))


def radial(size, alpha):
    """alpha through a scale; the slack alpha + beta is softplus of its number."""
    slack = PerField(("slack",), (SoftplusScale(),))
    return PerPart(("centre", "alpha", "slack"), (Entries(Free(), size), PerField(("alpha",), (alpha,)), slack))


def softplus_radial(size):
    """alpha and alpha + beta are softplus of their numbers; Bijectors.jl has the inverse, Pyro has no inverse."""
    return radial(size, SoftplusScale())


def normflows_radial(size):
    """alpha is the magnitude of its number, which may become 0, and alpha + beta is softplus; it has no inverse."""
    return radial(size, AbsScale())


PLANARS = {"paper, normflows, Pyro, Bijectors.jl": paper, "FlowJAX": flowjax, "torchflows": torchflows}
PIECEWISE_PLANARS = {"normflows": normflows_leaky, "FlowJAX": flowjax_leaky}
RADIALS = {"Pyro, Bijectors.jl": softplus_radial, "normflows": normflows_radial}
