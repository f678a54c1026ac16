"""What the recipes refuse: sizes that are not counts, and images that patches do not divide."""

from __future__ import annotations

import numpy as np


def check_sizes(model, hidden=(), /, **counts):
    """ValueError unless `hidden` holds widths, and each of the counts, name=(value, least), is a large enough int."""
    if np.ndim(hidden) != 1:
        raise ValueError(f"{model}: hidden must be the widths of the hidden layers, such as (128, 128), not {hidden!r}")
    widths = {f"hidden[{i}]": (width, 1) for i, width in enumerate(hidden)}
    for name, (given, least) in (counts | widths).items():
        if isinstance(given, bool) or not isinstance(given, (int, np.integer)) or given < least:
            raise ValueError(f"{model}: {name} must be an int >= {least}, not {given!r}")


def grid_of_patches(model, shape, patch, /, **counts):
    """(C, rows, columns): how many channels images of this shape have, and how many patches, `patch` pixels high and wide.

    ValueError unless `shape` is (C, H, W), the patch divides H and W, and these and each of the counts are ints >= 1.
    """
    if np.ndim(shape) != 1 or len(shape) != 3:
        raise ValueError(f"{model}: shape must be (C, H, W), not {shape!r}")
    sizes = {f"shape[{i}]": size for i, size in enumerate(shape)} | {"patch": patch} | counts
    check_sizes(model, **{name: (size, 1) for name, size in sizes.items()})
    C, H, W = (int(size) for size in shape)
    for name, size in (("height", H), ("width", W)):
        if size % patch:
            raise ValueError(f"{model}: {name} must be a multiple of patch = {patch}, not {size}")
    return C, H // patch, W // patch
