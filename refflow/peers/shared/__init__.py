"""What the adapter files share: the version for which a file is written, and adapters of functions of a framework."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np


def pinned(distribution, written_for):
    """The version to report: the installed one; if the file is written for another, also how to install that one.

    What follows a "+" names a build, not a version.
    """
    installed = version(distribution).split("+")[0]
    if installed == written_for:
        return installed
    return f"{installed} (the adapters are written for {written_for}: pip install {distribution}=={written_for})"


def by_rows(call, event, event_ndim=1):
    """call(event) for a library that wants one batch axis in front and sums a log-det over all other axes.

    A scalar event becomes a row with one entry.  `call` returns (image, log_det).
    """
    split = event.ndim - event_ndim
    batch, core = tuple(event.shape[:split]), tuple(event.shape[split:])
    image, log_det = call(event.reshape((-1, *(core or (1,)))))
    if not hasattr(log_det, "shape") or tuple(log_det.shape) not in ((), (image.shape[0],)):
        return image.reshape(batch + tuple(image.shape[1:] if core else ())), log_det       # a wrong shape is a finding
    log_det = log_det.reshape(batch) if log_det.shape else log_det
    return image.reshape(batch + (tuple(image.shape[1:]) if core else ())), log_det


class Lazily(dict[str, Any]):
    """A dictionary whose `log_det` is computed when it is read, so that an exception there belongs to it alone."""

    def __init__(self, found: dict[str, Any], **later: Callable[[], Any]) -> None:
        super().__init__(found | dict.fromkeys(later))
        self.later = later

    def __getitem__(self, key: str) -> Any:
        return self.later[key]() if key in self.later else super().__getitem__(key)


def is_real(value):
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def evaluated(pair):
    image, log_det = pair
    return image, log_det() if callable(log_det) else log_det


def directions(transform):
    """(forward, inverse) of a transform as torch.distributions has them."""
    return image_and_log_det(transform), image_and_log_det(transform.inv)


def image_and_log_det(of):
    def both(event):
        image = of(event)
        return image, lambda: of.log_abs_det_jacobian(event, image)

    return both


def summed(call):
    """Its log-dets, one for each entry, summed over the last axis."""

    def both(event):
        image, log_det = call(event)
        return image, evaluated((image, log_det))[1].sum(-1)

    return both
