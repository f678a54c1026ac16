"""NumPyro: transforms lead from latents to data; layers keep (inputs, outputs), outputs stand in a block for each number."""

from __future__ import annotations

from refflow.maps.coupling import affine_family
from refflow.maps.elementwise import CONVENTIONS

from ..loading import autoregressive, masked_dense, relu, sequential, to_data


def load(m):
    return to_data([inverse_autoregressive(m, f"{i}/") for i in range(m.config["transforms"])], m.answers["x"].shape[-1])


def inverse_autoregressive(m, prefix):
    def layer(i):
        return masked_dense(m, f"{prefix}{i}/", m.buffers[f"{prefix}{i}/mask"].T, transposed=True, names=("W", "b"))

    family = affine_family(CONVENTIONS["Pyro, NumPyro"], ("shift", "scale"))
    return autoregressive(sequential(layer(0), relu(), layer(2)), family, "halves")
