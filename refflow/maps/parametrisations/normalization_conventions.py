"""Who parametrises batch normalisation how: functions of the number of channels that return the map to `gain`, beside `eps`."""

from __future__ import annotations

from ..elementwise import ExpScale, ReLUScale, SoftplusScale
from .entries import Entries
from .free import Free
from .per_part import PerPart

__all__ = ["BATCH_NORMS"]


def batch_norm_fields(scale, channels, eps):
    """The gain of each channel through a scale, and eps."""
    return PerPart(("gain",), (Entries(scale, channels),), (("eps", eps),))


def nflows(channels, eps=1e-5):
    """The gain is softplus of its number, plus eps."""
    return batch_norm_fields(SoftplusScale(floor=eps), channels, eps)


def survae(channels, eps=1e-5):
    """The gain is the exponential of its number."""
    return batch_norm_fields(ExpScale(), channels, eps)


def pyro(channels, eps=1e-5):
    """The gain is the number, or 0 if it is negative, plus 1e-6."""
    return batch_norm_fields(ReLUScale(1e-6), channels, eps)


def tfp(channels, eps=1e-3):
    """The number is the gain: training, not the map, keeps it positive."""
    return batch_norm_fields(Free(), channels, eps)


BATCH_NORMS = {"nflows": nflows, "SurVAE, Bijectors.jl": survae, "Pyro": pyro, "TFP": tfp}
