"""nflows: every transform leads from data to latents."""

from __future__ import annotations

import numpy as np

from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS
from refflow.maps.parametrisations import BATCH_NORMS, CUBIC_SPLINES, LINEAR_SPLINES, QUADRATIC_SPLINES, SPLINES, TRIANGULAR
from refflow.maps.splines import CubicSpline, LinearSpline, QuadraticSpline, RationalQuadraticSpline

from ..loading import (autoregressive, coupling, dense, masked_dense, normalisation, permutation, plu, relu, residual,
                       sequential, to_latents)


def load(m):
    stages = [TRANSFORMS[kind](m, f"_transform._transforms.{i}.") for i, kind in enumerate(m.config["transforms"])]
    return to_latents(stages, m.answers["x"].shape[-1])


def passes(m, prefix):
    size = m.answers["x"].shape[-1]
    return np.isin(np.arange(size), m.buffers[f"{prefix}identity_features"])


def residual_net(m, prefix):
    block = f"{prefix}blocks.0.linear_layers."
    inner = residual(relu(), dense(m, f"{block}0."), relu(), dense(m, f"{block}1."))
    return sequential(dense(m, f"{prefix}initial_layer."), inner, dense(m, f"{prefix}final_layer."))


def made(m, prefix):
    def layer(name):
        return masked_dense(m, f"{prefix}{name}.", m.buffers[f"{prefix}{name}.mask"])

    return sequential(layer("initial_layer"), residual(relu(), layer("blocks.0.linear_layers.0"), relu(),
                                                       layer("blocks.0.linear_layers.1")), layer("final_layer"))


def spline(m, hidden):
    return Family(RationalQuadraticSpline, SPLINES["nflows"](m.config["bins"], m.config["bound"], hidden))


def spline_coupling(m, prefix):
    """Its network knows its width, by which nflows scales the numbers of widths and heights."""
    return coupling(passes(m, prefix), residual_net(m, f"{prefix}transform_net."), spline(m, m.config["hidden"]))


def other_spline_coupling(page, convention):
    """Quadratic and cubic splines are scaled by the network's width, linear ones are not."""
    def load(m, prefix):
        scaled = {} if page is LinearSpline else {"hidden": m.config["hidden"]}
        family = Family(page, convention(m.config["bins"], m.config["bound"], **scaled))
        return coupling(passes(m, prefix), residual_net(m, f"{prefix}transform_net."), family)

    return load


def spline_autoregressive(m, prefix):
    """Its network does not say its width, so nflows 0.14 scales nothing."""
    return autoregressive(made(m, f"{prefix}autoregressive_net."), spline(m, None))


def affine_autoregressive(m, prefix):
    return autoregressive(made(m, f"{prefix}autoregressive_net."), affine_family(CONVENTIONS["nflows AR"]))


def affine_coupling(m, prefix):
    family = affine_family(CONVENTIONS["nflows coupling, normflows AR"], ("shift", "scale"))
    return coupling(passes(m, prefix), residual_net(m, f"{prefix}transform_net."), family, "halves")


def lu_linear(m, prefix):
    names = [f"{prefix}{name}" for name in ("lower_entries", "upper_entries", "unconstrained_upper_diag")]
    return plu(m, names, f"{prefix}bias", TRIANGULAR["nflows, normflows, SurVAE"])


def batch_norm(m, prefix):
    moments = [m.buffers[f"{prefix}running_{moment}"].astype(float) for moment in ("mean", "var")]
    return normalisation(m, BATCH_NORMS["nflows"], *moments, f"{prefix}unconstrained_weight", f"{prefix}bias")


TRANSFORMS = {
    "BatchNorm": batch_norm,
    "PiecewiseLinearCouplingTransform": other_spline_coupling(LinearSpline, LINEAR_SPLINES["nflows"]),
    "PiecewiseQuadraticCouplingTransform": other_spline_coupling(QuadraticSpline, QUADRATIC_SPLINES["nflows"]),
    "PiecewiseCubicCouplingTransform": other_spline_coupling(CubicSpline, CUBIC_SPLINES["nflows"]),
    "PiecewiseRationalQuadraticCouplingTransform": spline_coupling,
    "MaskedPiecewiseRationalQuadraticAutoregressiveTransform": spline_autoregressive,
    "MaskedAffineAutoregressiveTransform": affine_autoregressive,
    "AffineCouplingTransform": affine_coupling,
    "Permutation": lambda m, prefix: permutation(m.buffers[f"{prefix}_permutation"]),
    "LULinear": lu_linear,
}
