"""The shape of events."""

from .concatenate import Concatenate, stack
from .reshape import Reshape
