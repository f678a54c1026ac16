"""Models of the papers: one paper, one file, composition only.

`BUILDERS`: {name: builder}; `builder(D, rng)` makes a flow of vectors of D entries of moderate size, as trained by the command
line.  A builder may take `hidden`, the widths of the hidden layers, and `couplings`, their number.
"""

from .all_in_one import all_in_one
from .gaussian import gaussian
from .glow import glow
from .glow_tts import GlowTTS, glow_tts
from .nice import nice
from .realnvp import realnvp
from .realnvp_images import image_realnvp


def small_nice(D, rng, hidden=(64, 64), couplings=4):
    if len(set(hidden)) != 1:
        raise ValueError(f"nice: all hidden layers have the same width, not {hidden}")
    return nice(rng, D, hidden[0], (len(hidden),) * couplings)


def small_realnvp(D, rng, hidden=(64, 64), couplings=4):
    return realnvp(rng, D, hidden, couplings, "tanh")


BUILDERS = {"gaussian": gaussian, "nice": small_nice, "realnvp": small_realnvp}

__all__ = ["BUILDERS", "GlowTTS", "all_in_one", "gaussian", "glow", "glow_tts", "image_realnvp", "nice", "realnvp"]
