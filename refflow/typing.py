"""Types for annotations: of arrays, of parameters and of pullbacks, as the methods of values return them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats: TypeAlias = NDArray[np.floating[Any]]                   # float32 or float64
Numbers: TypeAlias = ArrayLike | Sequence[Any]               # lists may mix whole numbers with others
Params: TypeAlias = dict[str, Any]                              # arrays by the names of fields, nested as components are
Shape: TypeAlias = tuple[int, ...]
Pullback: TypeAlias = Callable[[Numbers, Numbers], tuple[Floats, Params]]
