"""The spline and the layers of VITS, which several libraries have copied."""

from __future__ import annotations

import numpy as np
import torch

import refflow

from ...maps.conditioners import Dense
from ...maps.parametrisations import SPLINES
from . import by_rows
from .numbers import raw, splines
from .torch import holding, second_entry

BINS, BOUND = 10, 5.0


def vits_splines():
    """(what the raw numbers are like, refflow's composite).

    Networks divide the numbers of widths and heights by the root of their channels before they call the function: by 1 here.
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


# -- layers -----------------------------------------------------------------------------------------------------------

CHANNELS = 2
affine = refflow.Independent(refflow.Affine(shift=[0.5, -2.0], scale=[0.5, 1.5]), 1)
shift = refflow.AdditiveCoupling(np.array([True, False]), Dense(np.zeros((1, 1)), [0.75]))
flip = refflow.Permutation([1, 0])
block = refflow.Chain([shift, flip])


def layer(module, backwards="reverse"):
    """Both directions of a layer of sequences of two channels, of one position here, which takes a mask.

    Its log-dets are of its forward alone: the inverse has the forward's, with its sign changed, at the image.
    """
    def forward(rows):
        image, log_det = module(rows[..., None], rows.new_ones(len(rows), 1, 1))
        return image[..., 0], log_det

    def inverse(rows):
        image = module(rows[..., None], rows.new_ones(len(rows), 1, 1), **{backwards: True})
        image = (image[0] if isinstance(image, tuple) else image)[..., 0]
        return image, -forward(image)[1]

    return (lambda event: by_rows(forward, event)), (lambda event: by_rows(inverse, event))


def drawn(module, *sizes, **settings):
    """A module whose layers are drawn the same each time."""
    torch.manual_seed(0)
    return module(*sizes, **settings)


def with_biases(module, last, biases):
    """The module with a last layer of biases alone."""
    holding(getattr(module, last), weight=torch.zeros_like(getattr(module, last).weight, dtype=biases.dtype), bias=biases)
    return module.to(biases.dtype).eval()
