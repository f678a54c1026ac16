"""Training flows with batch normalisation: steps use the statistics of their batch, the flow itself has moving ones."""

from __future__ import annotations

from ..core.tree import nest
from ..maps.normalization.batch_norm import moved, norms, of_batch
from .unconstrained import Unconstrained


class MovingStatistics(Unconstrained):
    """The trained parameters of a flow with batch normalisation.

    `quick(vector)` normalises by the statistics of the batch at hand, with gradients through them; `stepped()` lets the
    moving statistics follow, which `value_at(vector)` has.  They are no parameters, and are not trained.
    """

    def __init__(self, value, fixed=()):
        super().__init__(value, fixed)
        self.statistics = {(*path, key): getattr(norm, key) for path, norm in norms(value) for key in ("mean", "var")}
        self.record = {}
        self.used = of_batch(value, self.record)

    def value_at(self, vector):
        return self.original.replace(**nest(self.fields(vector) | self.statistics))

    def stepped(self):
        for path, batch in self.record.items():
            for key, statistic in zip(("mean", "var"), batch):
                self.statistics[(*path, key)] = moved(self.statistics[(*path, key)], statistic)


def space_of(flow, fixed):
    """The space in which a flow is trained by its likelihood."""
    return MovingStatistics(flow, fixed) if norms(flow) else Unconstrained(flow, fixed)
