r"""The fields of a planar flow: a normal, a free vector and an offset, and a slack from the product of the two vectors.

The map.  With `h = (w, u, b)`, the slack is what a scale makes of one number:
    slack = scale(t),   t = w^T u                                                   (1)
The page `Planar` adds to `u` the multiple of `w` that makes their product `slack - 1`.  In the source, `scale` is a softplus: then
their product becomes nearly `t - 1` where `t` is large, and nearly -1 where `-t` is.  The page is certified at moderate h: the rounding
of a huge `t` moves an exponential further than any derivative tells.

The reverse rule.  Besides their own cotangents, both vectors get a part of the cotangent of `t`:
    t_bar = slack_bar dslack/dt,   w_bar <- w_bar + t_bar u,   u_bar <- u_bar + t_bar w         (2)

Source: Rezende and Mohamed, Variational Inference with Normalizing Flows, arXiv:1505.05770, appendix A.1.
"""

from __future__ import annotations

import numpy as np

from ...core import Value, case, child, plain, refusal
from ...core.rules import count
from ..elementwise import ExpScale, Log1pSoftplusScale, RescaledTanhExpScale, SoftplusScale
from ..elementwise.scale import elementwise
from .one_plus import OnePlus
from .parametrisation import Map, parametrisation


@parametrisation(source="arXiv:1505.05770", moderate=True)
class HyperplaneFields(Map):
    """`w` (D,), `u` (D,), `b` and `slack` of 2 D + 1 numbers, in this order: the normal, the free vector, the offset.

    `constants`: pairs of a name and a plain value, fields that do not depend on h.
    """

    scale: Value = child()
    dimension: int = plain(rule=count())
    constants: tuple = plain(())
    names = ("w", "u", "b", "slack")

    size = property(lambda self: 2 * self.dimension + 1)
    cores = property(lambda self: ((self.dimension,), (self.dimension,), (), ()))

    def _validate(self):
        super()._validate()
        self._set("constants", tuple(map(tuple, self.constants)))
        elementwise("HyperplaneFields", self.scale)

    @classmethod
    def examples(cls, source):
        f = cls(source.choice((SoftplusScale(), Log1pSoftplusScale(), OnePlus())), source.count(1, 3))
        return f, (f.size,)

    @staticmethod
    def definition(m, h, scale, dimension, constants):
        w, u, b = h[:dimension], h[dimension:-1], h[-1]
        t = sum(w_i * u_i for w_i, u_i in zip(w, u))                                # (1)
        return {"w": w, "u": u, "b": b, "slack": scale.definition(m, t)} | dict(constants)      # (1)

    def vjp(self, h):
        w, u, b = h[..., :self.dimension], h[..., self.dimension:-1], h[..., -1]
        (slack, _), scale_pullback = self.scale.vjp((w * u).sum(-1))                # (1)

        def pullback(bars):
            t_bar, scale_bar = scale_pullback(bars["slack"], np.zeros_like(bars["slack"]))      # (2)
            w_bar, u_bar = bars["w"] + t_bar[..., None] * u, bars["u"] + t_bar[..., None] * w   # (2)
            return np.concatenate((w_bar, u_bar, bars["b"][..., None]), -1), {"scale": scale_bar}

        return {"w": w, "u": u, "b": b, "slack": slack} | dict(self.constants), pullback

    hard_cases = (
        case("Line", "D = 1", z=[[2.0, -3.0, 0.5]], scale=SoftplusScale(), dimension=1),
        case("Tight", "w^T u is far below -1: the slack is exp(w^T u)", z=[[4.0, -4.0, -8.0, 2.0, 1.0]], scale=SoftplusScale(),
             dimension=2),
        case("Cancelling", "w^T u cancels", z=[[1.0, 2.0, 2.0, -1.0 + 2.0**-20, 0.0]], scale=Log1pSoftplusScale(), dimension=2),
        case("Unconstrained", "the slack cancels", z=[[1.0, 1.0, -0.5, -0.5 + 2.0**-20, 0.0]], scale=OnePlus(), dimension=2),
    )
    refused = (
        refusal("scale must be elementwise", scale=RescaledTanhExpScale(None, 0.0, [1.0]), dimension=1),
        refusal("dimension must be an int >= 1", scale=ExpScale(), dimension=0),
    )
