"""Files of the authors' numbers, and how far ours are from them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

PRACTICE = Path(__file__).parents[1] / "practice"


def numbers(name):
    """(the configuration, {key: array}) of a file of numbers."""
    with np.load(PRACTICE / f"{name}.npz") as file:
        found = {key: file[key] for key in file}
    return json.loads(str(found.pop("cfg"))), found


def under(prefix, found):
    """{key without the prefix: array}."""
    return {key.removeprefix(prefix): value for key, value in found.items() if key.startswith(prefix)}


def difference(given, theirs):
    """The largest relative difference of two arrays; infinite where the shapes differ."""
    given, theirs = np.asarray(given), np.asarray(theirs)
    if given.shape != theirs.shape:
        return np.inf
    with np.errstate(all="ignore"):
        return float(np.where(given == theirs, 0, np.abs(given - theirs) / np.abs(theirs)).max(initial=0))


def largest(given, theirs):
    """The largest difference over two dictionaries of arrays; infinite where their keys differ."""
    if given.keys() != theirs.keys():
        return np.inf
    return worst(difference(given[key], theirs[key]) for key in theirs)


def worst(differences):
    """The largest of them; NaN if one is."""
    return float(np.max(list(differences)))
