"""The shape of events."""

from .concatenate import Concatenate, stack
from .factor_out import FactorOut
from .reshape import Reshape
from .squeeze import Squeeze
