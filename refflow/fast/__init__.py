"""Tuned twins of pages: the same map and the same reverse rule, faster.

`table` says which page has which twin; pages do not know about their twins.  Nobody needs to read these modules to
understand a flow: a law checks that each twin equals its page.

Training uses twins by itself.  `tuned(flow)` is a flow that uses them for samples and inverses as well.
"""

from .table import tuned

__all__ = ["tuned"]
