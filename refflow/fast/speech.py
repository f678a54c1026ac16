r"""The gradient of Glow-TTS's losses: a tuned decoder, whose pullback may reconstruct what it needs.

The decoder's inverse, from a mel to latents, is a line of stages between a squeeze and its inverse.  "stored" keeps what the
pullback of each stage needs; "reversible" recomputes it from the latents, as `likelihood` says, so that memory does not grow
with the number of blocks, apart from the parameters themselves and their gradient.
"""

from __future__ import annotations

import itertools

from ..core import Inverse, tree
from ..core.tree import nest
from .couplings import Workspace
from .likelihood import MODES, Line, Sums, first_places, places_of, steps_along


class SpeechGradient:
    """(losses, params_bar) of a model and a batch, as `GlowTTS.loss_vjp`, one model after another.

    `memory`: "stored" or "reversible".  After a call, `drifted` says for how many decoders reconstruction was abandoned.
    """

    def __init__(self, memory="stored"):
        if memory not in MODES:
            raise ValueError(f"SpeechGradient: memory must be one of {MODES}, not {memory!r}")
        self.memory, self.space, self.drifted = memory, Workspace(), 0

    def __call__(self, model, batch, keeps=None):
        """`batch`: the arguments of `loss_vjp` up to the speakers."""
        terms, pullback = model.terms_vjp(*batch, keeps=keeps, twin=self.twin)
        self.drifted = 0
        return terms.losses, pullback(1.0, 1.0)[1]

    def terms(self, model, batch):
        """The `Terms` of a batch, without a gradient."""
        return model.terms_vjp(*batch, twin=self.twin)[0]

    def twin(self, model):
        """The model with a tuned decoder."""
        return tree.copied(model, decoder=tree.copied(model.decoder, TunedDecoder, gradient=self))


class TunedDecoder(Inverse):
    """The decoder, with its own `inverse_vjp`; `gradient`: the `SpeechGradient` that has made it."""

    def inverse_vjp(self, mel):
        squeezed, gradient = self.inner, self.gradient
        line = Line(steps_along(squeezed.inner, "inner.inner", 0), gradient.space, itertools.count(1))
        h = squeezed.squeezed(mel)
        if gradient.memory == "stored":
            (z, log_det), line_pullback = line.stored(h)
        else:
            z, log_det, memory = line.forward(h)

        def pullback(z_bar, log_det_bar):
            sums, h_bar = self.sums(), squeezed.squeezed(z_bar)
            if gradient.memory == "stored":
                h_bar = line_pullback(h_bar, log_det_bar, sums)
            else:
                h_bar = line.backward(z, memory, h_bar, log_det_bar, sums)
                gradient.drifted += line.gave_up()
            sums.finish()
            bars = nest({tuple(path.split(".")): bar for path, bar in sums.views.items()})
            return squeezed.unsqueezed(h_bar), bars if sums.context_bar is None else bars | {"context": sums.context_bar}

        return (squeezed.unsqueezed(z), log_det), pullback

    def sums(self):
        """Where cotangents of the decoder's parameters are added."""
        params = self.params()
        places, size = places_of(params)
        sums = Sums(places, first_places(self, places), size, self.dtype)
        sums.context_bar = None if "context" not in params else 0 * params["context"]
        return sums
