"""Nested dictionaries of parameters and cotangents."""

from __future__ import annotations


def share_context(nested, combine):
    """Lift `context` entries of components to the top, combined; components keep the rest."""
    found = [nested["context"]] if "context" in nested else []

    def lifted(inner):
        if not isinstance(inner, dict):
            return inner
        inner = dict(inner)
        if "context" in inner:
            found.append(inner.pop("context"))
        return inner

    out = {}
    for key, value in nested.items():
        if key == "context":
            continue
        many = isinstance(value, dict) and all(k.isdigit() for k in value)
        out[key] = {k: lifted(v) for k, v in value.items()} if many else lifted(value)
    if found:
        out["context"] = combine(found)
    return out


def flatten(nested, path=()):
    """[(path, array)] of a nested dictionary, in its order."""
    if not isinstance(nested, dict):
        return [(path, nested)]
    return [leaf for key, value in nested.items() for leaf in flatten(value, (*path, key))]


def nest(leaves):
    """The nested dictionary of {path: array}."""
    nested = {}
    for path, leaf in leaves.items():
        level = nested
        for key in path[:-1]:
            level = level.setdefault(key, {})
        level[path[-1]] = leaf
    return nested
