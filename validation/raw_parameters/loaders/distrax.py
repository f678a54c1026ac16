"""distrax: bijectors lead from latents to data; a masked coupling's network sees the whole event with zeros, and gives numbers
for all entries, of which the entries that do not pass use their own.
"""

from __future__ import annotations

import numpy as np

from refflow.maps.coupling import Family
from refflow.maps.parametrisations import SPLINES, TRIANGULAR
from refflow.maps.splines import RationalQuadraticSpline

from ..loading import coupling, dense, plu, sequential, tanh, to_data


def load(m):
    size = m.answers["x"].shape[-1]
    if not m.config["mode"]:
        return to_data([plu(m, ["matrix"], "bias", TRIANGULAR["distrax, TFP, Pyro"])], size)
    masks = [np.array(mask) for mask in m.config["masks"]]
    return to_data([masked_coupling(m, f"{name}/", mask) for name, mask in zip(("first", "second"), masks)], size)


def masked_coupling(m, prefix, passes):
    bound = m.config["bound"]
    family = Family(RationalQuadraticSpline, SPLINES["distrax"](m.config["bins"], -bound, bound, m.config["mode"]))
    rows = np.arange(len(passes) * family.size).reshape(len(passes), family.size)[~passes].ravel()
    net = sequential(dense(m, prefix, columns=np.flatnonzero(passes), transposed=True, names=("w0", "b0")), tanh(),
                     dense(m, prefix, rows=rows, transposed=True, names=("w1", "b1")))
    return coupling(passes, net, family)
