"""From free vectors onto a set: the page that the set names, or the chain of pages.

    biject_to(where, like)          the bijector from R^n onto the part of a set in which `like` lies

Some sets have two parts, such as the nonzero numbers, and the orthogonal matrices of either determinant.  The bijector reaches
only the part that contains `like`.
"""

from __future__ import annotations

from ...core import Chain
from .. import found

__all__ = ["biject_to"]


def biject_to(where, like):
    """The bijector from free vectors onto the part of the set `where` that contains the members `like`.

    None if the entries of a member are themselves free.  Entries may have ends of their own, as arrays: all of them bounded
    intervals, or all of them half lines.  ValueError if some are bounded and others are not: map these apart.
    """
    if where.biject_to is None:
        return None
    if isinstance(where.biject_to, tuple):
        return Chain([found(name)() for name in where.biject_to])
    page = found(where.biject_to)
    reaching = getattr(page, "reaching", None)
    return page() if reaching is None else reaching(where, like)
