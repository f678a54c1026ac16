"""zuko: every transform leads from data to latents; a masked network has its outputs for an entry side by side."""

from __future__ import annotations

from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS
from refflow.maps.parametrisations import SPLINES
from refflow.maps.splines import RationalQuadraticSpline

from ..loading import autoregressive, coupling, dense, masked_dense, relu, sequential, to_latents


def load(m):
    stages = [TRANSFORMS[kind](m, f"transform.transforms.{i}.") for i, kind in enumerate(m.config["transforms"])]
    return to_latents(stages, m.answers["x"].shape[-1])


def family(m):
    if m.config["spline"]:
        return Family(RationalQuadraticSpline, SPLINES["zuko"](m.config["bins"]))
    return affine_family(CONVENTIONS["zuko"], ("shift", "scale"))


def layers(m, prefix, layer):
    """Layers 0, 2, 4 with a ReLU between them."""
    parts = [part for i in (0, 2, 4) for part in (layer(f"{prefix}hyper.{i}."), relu())]
    return sequential(*parts[:-1])


def masked_autoregressive(m, prefix):
    return autoregressive(layers(m, prefix, lambda name: masked_dense(m, name, m.buffers[f"{name}mask"])), family(m))


def general_coupling(m, prefix):
    return coupling(m.buffers[f"{prefix}mask"], layers(m, prefix, lambda name: dense(m, name)), family(m))


TRANSFORMS = {"MaskedAutoregressiveTransform": masked_autoregressive, "GeneralCouplingTransform": general_coupling}
