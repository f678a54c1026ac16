"""From free vectors onto a set: the page that the set names.

    biject_to(where, like)          the bijector from R^n onto the part of a set in which `like` lies

A set in two parts, as the numbers that are not 0, or the orthogonal matrices of either determinant, is reached in the part
of `like` alone.
"""

from __future__ import annotations

from .. import found

__all__ = ["biject_to"]


def biject_to(where, like):
    """The bijector from free vectors onto the part of the set `where` in which the members `like` lie.

    None where the entries of a member are free themselves.
    """
    if where.biject_to is None:
        return None
    page = found(where.biject_to)
    reaching = getattr(page, "reaching", None)
    return page() if reaching is None else reaching(where, like)
