"""What the recipes refuse: sizes that are not counts."""

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
