"""The book: the pages as leaves of HTML, their docstrings' notation set as mathematics."""

from .library import NotABook, write_book
from .leaf import BadPage

__all__ = ["BadPage", "NotABook", "write_book"]
