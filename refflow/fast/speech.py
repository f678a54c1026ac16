r"""The gradient of Glow-TTS's losses: a tuned decoder, whose pullback may reconstruct what it needs.

The decoder's inverse, from a mel to latents, is a line of stages between a squeeze and its inverse.  "stored" keeps what the
pullback of each stage needs; "reversible" recomputes it from the latents, as `likelihood` says, so that memory does not grow
with the number of blocks, apart from the parameters themselves and their gradient.
"""

from __future__ import annotations

import itertools

import numpy as np

from ..core import Inverse, tree
from ..core.arrays import masked
from ..core.tree import nest
from ..maps.coupling.coupling import MaskedBijector
from ..maps.linear import GroupedLinear, Pointwise
from .couplings import Workspace
from .likelihood import MODES, Line, Sums, first_places, places_of, steps_along
from .wave_net import TunedNetwork, with_tuned_layers


class SpeechGradient:
    """(losses, params_bar) of a model and a batch, as `GlowTTS.loss_vjp`, one model after another.

    `memory`: "stored" or "reversible".  After a call, `drifted` says for how many decoders reconstruction was abandoned.
    """

    def __init__(self, memory: str = "stored") -> None:
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
        """The model with a tuned decoder and tuned layers of its networks of texts."""
        squeezed = model.decoder.inner
        chain = tree.copied(squeezed.inner, stages=tuple(map(tuned, squeezed.inner.stages)))
        decoder = tree.copied(model.decoder, TunedDecoder, inner=tree.copied(squeezed, inner=chain), gradient=self)
        text = {key: with_tuned_layers(getattr(model, key)) for key in ("encoder", "mean", "durations")}
        return tree.copied(model, decoder=decoder, **text)


class TunedGroups(Pointwise):
    """A matrix for groups of channels at every position, by one product for all groups."""

    def grouped(self, signals):
        """(B, C, T) as (B, S, C/S T)."""
        B, C, T = signals.shape
        S = len(self.inner.W)
        return signals.reshape(B, 2, C // S, S // 2, T).swapaxes(2, 3).reshape(B, S, C // S * T)

    def signals(self, groups, like):
        B, C, T = like.shape
        S = len(self.inner.W)
        return groups.reshape(B, 2, S // 2, C // S, T).swapaxes(2, 3).reshape(B, C, T)

    def inverse(self, x):
        return self.signals(np.linalg.inv(self.inner.W) @ self.grouped(x), x)

    def forward_and_log_det(self, z):
        return self.vjp(z)[0]

    def vjp(self, z):
        W, h = self.inner.W, self.grouped(z)
        B, C, T = z.shape
        valid = np.full(B, T) if self.mask is None else np.broadcast_to(self.mask, (B, T)).sum(1)
        count = (valid * (C // len(W))).astype(z.dtype)

        def pullback(x_bar, log_det_bar):
            h_bar = self.grouped(masked(x_bar, self.mask))
            W_bar = (h_bar @ h.mT).sum(0) + (log_det_bar * count).sum() * np.linalg.inv(W).T
            return self.signals(W.T @ h_bar, z), {"inner": {"W": W_bar}}

        return (self.signals(W @ h, z), count * np.linalg.slogdet(W)[1]), pullback


def tuned(stage):
    """The tuned form of a stage, or the stage itself."""
    if type(stage) is Pointwise and type(stage.inner) is GroupedLinear and stage.inner.W.ndim == 2:
        return tree.copied(stage, TunedGroups)
    if isinstance(stage, MaskedBijector) and TunedNetwork.takes(stage.net):
        return tree.copied(stage, net=tree.copied(stage.net, TunedNetwork))
    return stage


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
