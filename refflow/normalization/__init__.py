"""Maps that standardise channels."""

from .actnorm import ActNorm
