"""TensorFlow Probability: bijectors lead from latents to data.

A masked autoregressive flow goes from data to latents in one pass, z = (x - shift) exp(-log_scale), which is `ScaledShift`
with the signs of both numbers exchanged.
"""

from __future__ import annotations

import numpy as np

from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import ExpScale, ScaledShift
from refflow.maps.parametrisations import SPLINES, TRIANGULAR, LocationScale, Premultiplied
from refflow.maps.splines import RationalQuadraticSpline

from ..loading import autoregressive, coupling, dense, inverted, masked_dense, permutation, plu, sequential, tanh, to_data

ORDER = ("shift", "scale")


def load(m):
    if m.config["kind"] == "LU linear":
        order = np.argsort(m.config["permutation"])
        return to_data([plu(m, ["lower_upper"], "shift", TRIANGULAR["distrax, TFP, Pyro"], order)], m.answers["x"].shape[-1])
    first, second = (KINDS[m.config["kind"]](m, f"{name}/") for name in ("first", "second"))
    return to_data([first, permutation(m.config["permutation"]), second], m.answers["x"].shape[-1])


def passes(m):
    return np.arange(m.answers["x"].shape[-1]) < m.config["first"]


def net(m, prefix):
    return sequential(dense(m, prefix, transposed=True, names=("w0", "b0")), tanh(),
                      dense(m, prefix, transposed=True, names=("w1", "b1")))


def spline_coupling(m, prefix):
    return coupling(passes(m), net(m, prefix), Family(RationalQuadraticSpline, SPLINES["TFP"](m.config["bins"])))


def affine_coupling(m, prefix):
    return coupling(passes(m), net(m, prefix), affine_family(ExpScale(), ORDER), "halves")


def masked_autoregressive(m, prefix):
    layers = [masked_dense(m, prefix, m.buffers[f"mask{i}"].T, transposed=True, names=(f"w{i}", f"b{i}")) for i in (0, 1)]
    family = Family(ScaledShift, Premultiplied(LocationScale(ExpScale(), ORDER), -np.eye(2)))
    return inverted(autoregressive(sequential(layers[0], tanh(), layers[1]), family))


KINDS = {"spline coupling": spline_coupling, "affine coupling": affine_coupling, "affine autoregressive": masked_autoregressive}
