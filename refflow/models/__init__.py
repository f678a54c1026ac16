"""Models of the papers: one paper, one file, composition only.

`BUILDERS`: {name: builder}; `builder(D, rng)` makes a flow of vectors of D entries of moderate size, as the command line
trains it.
"""

from .nice import nice
from .realnvp import realnvp

BUILDERS = {"nice": lambda D, rng: nice(rng, D, 64, (2, 2, 2, 2)), "realnvp": lambda D, rng: realnvp(rng, D, (64, 64))}

__all__ = ["BUILDERS", "nice", "realnvp"]
