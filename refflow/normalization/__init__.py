"""Maps that standardise channels."""

from .actnorm import ActNorm
from .batch_norm import BatchNorm, batch_statistics, of_batch, with_statistics
from .glow_actnorm import GlowActNorm
