"""Matrices as patterns of squares, which are darker where an entry is larger; zeros are empty."""

from __future__ import annotations

import numpy as np

from .drawing import WIDTH, Drawing, path, short, text

GAP, TOP, LARGEST = 14, 20, 22
SHADES = 8


def pattern(*given, titles=()) -> Drawing:
    """One or several matrices, such as the Jacobian of one event or a mask, side by side."""
    matrices = [np.abs(np.asarray(matrix, float)) for matrix in given]
    if not matrices or any(matrix.ndim != 2 for matrix in matrices):
        raise ValueError(f"pattern: matrices must have two axes each; the shapes are {[matrix.shape for matrix in matrices]}")
    columns, rows = sum(matrix.shape[1] for matrix in matrices), max(len(matrix) for matrix in matrices)
    side = min(LARGEST, (WIDTH - 8 - GAP * (len(matrices) - 1)) / columns, 200 / rows)
    left, parts = (WIDTH - side * columns - GAP * (len(matrices) - 1)) / 2, []
    for i, matrix in enumerate(matrices):
        if i < len(titles):
            parts.append(text(left, TOP - 7, titles[i]))
        parts += [*squares(matrix, left, side),
                  path(f"M{short(left)} {TOP}h{short(side * matrix.shape[1])}v{short(side * len(matrix))}H{short(left)}z", "thin")]
        left += side * matrix.shape[1] + GAP
    sizes = " and ".join(f"{len(matrix)} by {matrix.shape[1]}" for matrix in matrices)
    return Drawing(tuple(parts), f"The pattern of a matrix of {sizes}: squares are darker where an entry is larger, and zeros are empty.",
                   TOP + side * rows + 6, numbers={"matrices": matrices})


def squares(matrix, left, side):
    """A path for each shade."""
    most = matrix[np.isfinite(matrix)].max(initial=0)
    share = np.sqrt(np.minimum(matrix / most, 1)) if most else matrix
    level = np.ceil(SHADES * np.where(np.isnan(share), 1, share)).astype(int)
    for shade in range(1, SHADES + 1):
        steps = "".join(f"M{short(left + side * j + 0.5)} {short(TOP + side * i + 0.5)}h{short(side - 1)}v{short(side - 1)}h-{short(side - 1)}z"
                        for i, j in zip(*np.nonzero(level == shade)))
        yield path(steps, f'squares" fill-opacity="{0.1 + 0.9 * shade / SHADES:.2f}')
