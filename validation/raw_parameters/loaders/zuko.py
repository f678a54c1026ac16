"""zuko: every transform leads from data to latents; a masked network has its outputs for an entry side by side."""

from __future__ import annotations

from refflow import Affine, Chain, Softsign, Transposed
from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS
from refflow.maps.monotone import BernsteinPolynomial, SumOfSquares
from refflow.maps.parametrisations import BERNSTEIN_POLYNOMIALS, SPLINES, SUMS_OF_SQUARES, TRIANGULAR
from refflow.maps.splines import RationalQuadraticSpline

from ..loading import (autoregressive, coupling, dense, masked_dense, plu, relu, sequential, to_latents, whole,
                       without_parameters)

SOFTCLIP = 11.0                     # between the polynomials of a SOSPF
BORDER = 5                          # numbers of a bounded Bernstein polynomial beyond those for its degree


def load(m):
    stages = [TRANSFORMS[kind](m, f"transform.transforms.{i}.") for i, kind in enumerate(m.config["transforms"])]
    return to_latents(stages, m.answers["x"].shape[-1])


FAMILIES = {
    "NSF": lambda config: Family(RationalQuadraticSpline, SPLINES["zuko"](config["bins"])),
    "SOSPF": lambda config: Family(SumOfSquares, SUMS_OF_SQUARES["zuko"](config["polynomials"], config["degree"])),
    "BPF": lambda config: Family(BernsteinPolynomial, BERNSTEIN_POLYNOMIALS["zuko BPF"](config["degree"] + BORDER)),
}


def family(m):
    return FAMILIES.get(m.config["family"], lambda config: affine_family(CONVENTIONS["zuko"], ("shift", "scale")))(m.config)


def layers(m, prefix, layer):
    """Layers 0, 2, 4 with a ReLU between them."""
    parts = [part for i in (0, 2, 4) for part in (layer(f"{prefix}hyper.{i}."), relu())]
    return sequential(*parts[:-1])


def masked_autoregressive(m, prefix):
    return autoregressive(layers(m, prefix, lambda name: masked_dense(m, name, m.buffers[f"{name}mask"])), family(m))


def general_coupling(m, prefix):
    return coupling(m.buffers[f"{prefix}mask"], layers(m, prefix, lambda name: dense(m, name)), family(m))


def linear(m, prefix):
    return whole(Transposed, inner=plu(m, [f"{prefix}_0"], None, TRIANGULAR["zuko"]))


def softclip(m, prefix):
    return without_parameters(Chain([Affine(0.0, 1 / SOFTCLIP), Softsign(), Affine(0.0, SOFTCLIP)]))


TRANSFORMS = {
    "MaskedAutoregressiveTransform": masked_autoregressive,
    "GeneralCouplingTransform": general_coupling,
    "LULinearTransform": linear,
    "SoftclipTransform": softclip,
}
