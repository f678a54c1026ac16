"""Training flows with batch normalisation: steps use the statistics of their batch, the flow itself keeps moving statistics."""

from __future__ import annotations

from ..core.tree import components, nest, walk, with_components
from ..maps.normalization.batch_norm import BatchNorm, BatchStatisticsNorm, batch_statistics, moved, unbiased
from .unconstrained import Unconstrained


def norms(value):
    """[(path in params(), BatchNorm)] of a value and its components."""
    return [(path, found) for path, found in walk(value) if isinstance(found, BatchNorm)]


def of_batch(value, record=None, path=(), made=None):
    """A flow, map or network in which each BatchNorm uses the statistics of the batch at hand.

    For each, the statistics of the last batch, which its moving statistics follow, are recorded in `record` under its path;
    `with_statistics` reads it.
    """
    made = {} if made is None else made             # a component that stands in several places stays one component
    if id(value) not in made:
        made[id(value)] = measuring(value, record, path) if isinstance(value, BatchNorm) else with_components(
            value, {here: of_batch(inner, record, (*path, *here), made) for here, inner in components(value)})
    return made[id(value)]


def measuring(norm, record, path):
    if norm.parameter_batch:
        raise ValueError(f"of_batch: a BatchNorm must have no batch axes, not {norm.parameter_batch}")
    measure = None if record is None else noting(record, path, norm.unbiased)
    return BatchStatisticsNorm(norm.gain, norm.bias, norm.passes, norm.eps, norm.rank, measure, norm.statistics)


def noting(record, path, without_bias):
    """`batch_statistics` that records, under a path, the statistics that moving statistics follow."""
    def measured(z, rank, passes):
        (mean, var), pullback = batch_statistics(z, rank, passes)
        record[path] = mean, unbiased(var, z.size // mean.size) if without_bias else var
        return (mean, var), pullback

    return measured


def with_statistics(value, record, decay=0.1):
    """A flow whose moving statistics have followed the statistics of one batch, as recorded by `of_batch`."""
    changes = {}
    for path, norm in norms(value):
        for key, batch in zip(("mean", "var"), record[path]):
            changes[(*path, key)] = moved(getattr(norm, key), batch, decay)
    return value.replace(**nest(changes)) if changes else value


class MovingStatistics(Unconstrained):
    """The trained parameters of a flow with batch normalisation.

    `quick(vector)` normalises by the statistics of the batch at hand, with gradients through them; `stepped()` lets the
    moving statistics follow; `value_at(vector)` has them.  They are not parameters and are not trained.
    """

    def __init__(self, value, fixed=()):
        super().__init__(value, fixed)
        self.statistics = {(*path, key): getattr(norm, key) for path, norm in norms(value) for key in ("mean", "var")}
        self.record = {}
        self.used = of_batch(value, self.record)

    def value_at(self, vector):
        return self.original.replace(**nest(self.fields(vector) | self.statistics))

    def evaluated(self, vector):
        """The value with the moving statistics of now."""
        value = self.value_at(vector)
        return value, lambda: value

    def stepped(self):
        for path, batch in self.record.items():
            for key, statistic in zip(("mean", "var"), batch):
                self.statistics[(*path, key)] = moved(self.statistics[(*path, key)], statistic)


def space_of(flow, fixed):
    """The space in which a flow is trained by its likelihood."""
    return MovingStatistics(flow, fixed) if norms(flow) else Unconstrained(flow, fixed)
