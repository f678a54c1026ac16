"""The VITS spline of piper-tts 1.8.0, as an adapter: `refflow check piper`."""

from piper.train.vits.transforms import unconstrained_rational_quadratic_spline as spline

from .shared import pinned
from .shared.torch import declaring
from .shared.vits import directions, vits_splines

version = pinned("piper-tts", "1.8.0")
declare = declaring("piper.train.vits.transforms.")

for like, coupling in vits_splines():
    declare(coupling, f"unconstrained_rational_quadratic_spline [{like} numbers]",
            lambda p: directions(spline, p, "inverse", tails="linear"))
