r"""The exponential of a trained multiple of a hyperbolic tangent as a scale, `R -> (0, inf)`.

The map.  With one gain, or one for each channel of `s`,
    sigma = exp(gain tanh s + shift)                                                (1)

The reverse rule.  With the slope of `tanh s` as in `TanhExpScale`,
    d(log sigma)/ds = gain d(tanh s)/ds                                             (2)
    d(log sigma)/dgain = tanh s,   d(log sigma)/dshift = 1                          (3)
"""

from __future__ import annotations

import numpy as np

from ...core import Array, case, real, refusal
from ...core.declarations import Field
from ...core.values import shown
from .scale import Scale, scale
from .tanh_exp_scale import tanh_slope


@scale(source="arXiv:1605.08803, the authors' code")
class RescaledTanhExpScale(Scale):
    """sigma = exp(gain tanh(s) + shift), with trained gain and shift; a `shift` of None is 0 and not a parameter.

    `gain` is one number for all s.  If it is None, `gains` (C,) has one for each channel of s (*batch, C); in a `Coupling`, these
    are the channels in which b has entries.  A port of RealNVP writes the gain of each channel as a normalised weight, g v / |v|.
    For a single number v this is g or -g, and the gradient of v is 0: the gain trains as a free number does.
    """

    gain: Array = Field(real, (), default=1.0, optional=True)  # type: ignore[assignment]
    shift: Array = Field(real, (), optional=True)  # type: ignore[assignment]
    gains: Array = Field(real, ("C",), optional=True)  # type: ignore[assignment]

    event_ndim = property(lambda self: (0, 0) if self.gains is None else (1, 1))
    event_shape = property(lambda self: None if self.gains is None else ("C",))

    def _validate(self):
        super()._validate()
        if (self.gain is None) == (self.gains is None):
            raise ValueError(f"RescaledTanhExpScale: give either gain or gains, not both and not neither; "
                             f"gain = {shown(self.gain)}, gains = {shown(self.gains)}")

    @staticmethod
    def definition(m, s, gain, shift, gains):
        def sigma(s, gain):
            w = gain * m.tanh(s)
            return m.exp(w if shift is None else w + shift)                         # (1)

        return sigma(s, gain) if gains is None else [sigma(*channel) for channel in zip(s, gains)]

    def gain_of(self):
        """The gain of each s."""
        return self.gain if self.gains is None else self.gains

    def evaluate(self, s):
        w = self.gain_of() * np.tanh(s)
        w = w if self.shift is None else w + self.shift                             # (1)
        return 1, w, w

    def log_slope(self, s):
        n, q = tanh_slope(s)
        return self.gain_of() * n, q                                                # (2)

    def field_slopes(self, s):
        t, nothing = np.tanh(s), np.zeros_like(s)
        slopes = {"gain": t, "shift": np.ones_like(s), "gains": t}                  # (3)
        return {key: (slope, nothing) for key, slope in slopes.items() if getattr(self, key) is not None}

    hard_cases = (
        case("Saturated", "tanh rounds to 1, the slope in s does not round to 0", z=[19.1, -40.0], gain=0.5, shift=0.25),
        case("NoShift", "the shift is 0 and no parameter", z=[1.0, -3.0], gain=-2.0, shift=None),
        case("Steep", "the gain moves sigma out of the floats, log sigma stays", z=[2.0, -2.0], gain=2.0**10, shift=0.0),
    )
    refused = (
        refusal("give either gain or gains", gain=None, gains=None),
        refusal("give either gain or gains", gain=1.0, gains=[1.0]),
    )
