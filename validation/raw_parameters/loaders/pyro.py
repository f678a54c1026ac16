"""Pyro: transforms lead from latents to data.  A DenseNN has all widths of all entries first; an AutoRegressiveNN has a block
for each number of an entry.
"""

from __future__ import annotations

import numpy as np

from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS, ScaledAffine
from refflow.maps.parametrisations import BATCH_NORMS, LINEAR_RATIONAL_SPLINES, SPLINES, GatedLocationScale
from refflow.maps.splines import LinearRationalSpline, RationalQuadraticSpline

from ..loading import (autoregressive, chain, constant_spline, coupling, dense, inverted, masked_dense, normalisation,
                       permutation, relu, sequential, to_data)

ORDER = ("shift", "scale")
NUMBERS = ("widths", "heights", "derivatives", "lambdas")
SPLINE_ORDERS = {"quadratic": (RationalQuadraticSpline, SPLINES), "linear": (LinearRationalSpline, LINEAR_RATIONAL_SPLINES)}


def load(m):
    stages = [TRANSFORMS[kind](m, f"{i}.") for kind, i in m.config["transforms"]]
    return to_data(stages, m.answers["x"].shape[-1])


def splits(m):
    """True where an entry passes."""
    return np.arange(m.answers["x"].shape[-1]) < m.config["split"]


def spline(m):
    page, conventions = SPLINE_ORDERS[m.config["order"]]
    return Family(page, conventions["Pyro, FlowTorch"](m.config["bins"]))


def kinds(m):
    """(name, count for an entry) of the numbers of a spline, in turn."""
    bins = m.config["bins"]
    return list(zip(NUMBERS, (bins, bins, bins - 1, bins)))[:4 if m.config["order"] == "linear" else 3]


def by_entry(entries, counts):
    """The places of the numbers of each entry, where numbers of one kind stand together, entry by entry."""
    starts = np.cumsum([0, *(entries * count for count in counts)])
    return np.concatenate([starts[i] + j * count + np.arange(count) for j in range(entries) for i, count in enumerate(counts)])


def dense_net(m, prefix, rows=None):
    return sequential(dense(m, f"{prefix}layers.0."), relu(), dense(m, f"{prefix}layers.1.", rows=rows))


def masked_net(m, prefix):
    first, last = (masked_dense(m, name, m.buffers[f"{name}mask"]) for name in (f"{prefix}layers.0.", f"{prefix}layers.1."))
    return sequential(first, relu(), last)


def spline_coupling(m, prefix):
    """The part that passes goes through splines of its own, which the network does not see, unless `identity` says not."""
    through = splits(m)
    rows = by_entry(int((~through).sum()), [count for _, count in kinds(m)])
    part = coupling(through, dense_net(m, f"{prefix}upper_spline.nn.", rows), spline(m))
    names = [f"{prefix}lower_spline.unnormalized_{name}" for name, _ in kinds(m)]
    if not m.used(names[0]):
        return part
    return chain(part, constant_spline(m, ~through, spline(m), names))


def spline_autoregressive(m, prefix):
    return autoregressive(masked_net(m, f"{prefix}arn."), spline(m), "halves")


def affine_autoregressive(m, prefix):
    return autoregressive(masked_net(m, f"{prefix}arn."), affine_family(CONVENTIONS["Pyro, NumPyro"], ORDER), "halves")


def stable_autoregressive(m, prefix):
    return autoregressive(masked_net(m, f"{prefix}arn."), Family(ScaledAffine, GatedLocationScale(2.0, ORDER)), "halves")


def affine_coupling(m, prefix):
    return coupling(splits(m), dense_net(m, f"{prefix}nn."), affine_family(CONVENTIONS["Pyro, NumPyro"], ORDER), "halves")


def batch_norm(m, prefix):
    """Its inverse normalises."""
    moments = [m.buffers[f"{prefix}moving_{name}"].astype(float) for name in ("mean", "variance")]
    return inverted(normalisation(m, BATCH_NORMS["Pyro"], *moments, f"{prefix}gamma", f"{prefix}beta"))


TRANSFORMS = {
    "SplineCoupling": spline_coupling,
    "SplineAutoregressive": spline_autoregressive,
    "AffineAutoregressive": affine_autoregressive,
    "AffineAutoregressive, stable": stable_autoregressive,
    "AffineCoupling": affine_coupling,
    "BatchNorm": batch_norm,
    "Permute": lambda m, prefix: permutation([1, 2, 0]),
}
