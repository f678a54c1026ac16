"""The book: the pages as leaves of HTML, their docstrings' notation set as mathematics."""

from .library import NotABook, write_book
from .leaf import BadPage
from .verdicts import report_page

__all__ = ["BadPage", "NotABook", "report_page", "write_book"]
