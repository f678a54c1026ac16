"""The VITS spline of transformers 5.24.0, as an adapter: `refflow check transformers`."""

from transformers.models.vits.modeling_vits import _unconstrained_rational_quadratic_spline as spline

from .shared import pinned
from .shared.torch import declaring
from .shared.vits import directions, vits_splines

version = pinned("transformers", "5.24.0")
declare = declaring("transformers.models.vits.modeling_vits.")

for like, coupling in vits_splines():
    declare(coupling, f"_unconstrained_rational_quadratic_spline [{like} numbers]", lambda p: directions(spline, p, "reverse"))
