"""The spline of the VITS stochastic duration predictor, which several libraries have copied."""

from __future__ import annotations

import torch

import refflow

from ...maps.parametrisations import SPLINES
from .numbers import raw, splines
from .torch import second_entry

BINS, BOUND = 10, 5.0


def vits_splines():
    """(what the raw numbers are like, refflow's composite).

    Networks divide the numbers of widths and heights by the root of their channels before they call the function.
    """
    return splines(refflow.RationalQuadraticSpline, SPLINES["nflows"](BINS, BOUND))


def directions(spline, p, backwards, **settings):
    """Both directions of spline(inputs, widths, heights, slopes, ...), whose option `backwards` asks for the inverse."""
    parts = torch.split(raw(p), [BINS, BINS, BINS - 1])

    def of(inverse):
        def column(event):
            each = [part.expand(*event.shape, -1) for part in parts]
            image, log_det = spline(event, *each, tail_bound=BOUND, **{backwards: inverse}, **settings)
            return image, log_det.sum(-1)

        return second_entry(column)

    return of(False), of(True)
