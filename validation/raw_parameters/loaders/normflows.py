"""normflows: flows lead from latents to data; spline flows and linear maps hold the map from data to latents."""

from __future__ import annotations

from refflow.maps.coupling import Family, affine_family
from refflow.maps.elementwise import CONVENTIONS
from refflow.maps.parametrisations import SPLINES, TRIANGULAR
from refflow.maps.splines import RationalQuadraticSpline

from ..loading import autoregressive, chain, constant_spline, coupling, inverted, permutation, plu, to_data
from .nflows import made, passes, residual_net


def load(m):
    stages = [FLOWS[kind](m, f"flows.{i}.") for i, kind in enumerate(m.config["flows"])]
    return to_data(stages, m.answers["x"].shape[-1])


def spline(m, hidden=None):
    convention = SPLINES["normflows"](m.config["bins"], m.config["bound"]) if hidden is None else \
        SPLINES["nflows"](m.config["bins"], m.config["bound"], hidden)
    return Family(RationalQuadraticSpline, convention)


def coupled_spline(m, prefix):
    """The part that passes goes through splines of its own, which the network does not see."""
    prefix, own = f"{prefix}prqct.", f"{prefix}prqct.unconditional_transform.unnormalized_"
    through = passes(m, prefix)
    part = coupling(through, residual_net(m, f"{prefix}transform_net."), spline(m, m.config["hidden"]))
    return inverted(chain(part, constant_spline(m, ~through, spline(m), [f"{own}{name}" for name in NUMBERS])))


NUMBERS = ("widths", "heights", "derivatives")


def autoregressive_spline(m, prefix):
    return inverted(autoregressive(made(m, f"{prefix}mprqat.autoregressive_net."), spline(m)))


def affine_autoregressive(m, prefix):
    family = affine_family(CONVENTIONS["nflows coupling, normflows AR"])
    return autoregressive(made(m, f"{prefix}autoregressive_net."), family)


def lu_and_permutation(m, prefix):
    names = [f"{prefix}linear.{name}" for name in ("lower_entries", "upper_entries", "unconstrained_upper_diag")]
    linear = plu(m, names, f"{prefix}linear.bias", TRIANGULAR["nflows, normflows, SurVAE"])
    return inverted(chain(permutation(m.buffers[f"{prefix}permutation._permutation"]), linear))


FLOWS = {
    "CoupledRationalQuadraticSpline": coupled_spline,
    "AutoregressiveRationalQuadraticSpline": autoregressive_spline,
    "MaskedAffineAutoregressive": affine_autoregressive,
    "LULinearPermute": lu_and_permutation,
}
