"""FlowJAX 17 differs from 19 in the numbers of splines, which are chosen by the library's name."""

from .flowjax_19 import load

__all__ = ["load"]
