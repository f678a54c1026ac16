"""The types of what training offers."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..core import Flow, Value
from ..fast.likelihood import LikelihoodGradient as LikelihoodGradient
from ..fast.speech import SpeechGradient as SpeechGradient
from ..models.glow_tts import GlowTTS
from ..typing import Numbers
from . import gaussians as gaussians
from . import recipes as recipes
from .optimisers import EMA as EMA
from .optimisers import LBFGS as LBFGS
from .optimisers import Adam as Adam
from .optimisers import AdaMax as AdaMax
from .optimisers import ClipNorm as ClipNorm
from .optimisers import ClipValue as ClipValue
from .optimisers import Polyak as Polyak
from .optimisers import RMSPropMomentum as RMSPropMomentum
from .penalty import SquaredNorm as SquaredNorm
from .schedules import Annealing as Annealing
from .schedules import Constant as Constant
from .schedules import Cosine as Cosine
from .schedules import Exponential as Exponential
from .schedules import MomentumRamp as MomentumRamp
from .schedules import Noam as Noam
from .schedules import WarmedCosine as WarmedCosine
from .schedules import WarmUp as WarmUp

_Value = TypeVar("_Value", bound=Value)

class State:
    step: int
    best: Flow
    arrays: dict[str, NDArray[Any]]
    numbers: dict[str, Any]
    def __init__(self, step: int, best: Flow, arrays: dict[str, NDArray[Any]], numbers: dict[str, Any]) -> None: ...

class Result:
    flow: Flow
    history: dict[str, NDArray[Any]]
    step: int
    stopped: str
    message: str
    state: State | None
    def __init__(self, flow: Flow, history: dict[str, NDArray[Any]], step: int, stopped: str, message: str = ...,
                 state: State | None = ...) -> None: ...

class TrainingError(ArithmeticError):
    result: Result
    def __init__(self, message: str, result: Result) -> None: ...

class Unconstrained:
    def __init__(self, value: Value, fixed: Iterable[str] = ...) -> None: ...
    def value_at(self, vector: NDArray[Any]) -> Any: ...
    def gradient(self, vector: NDArray[Any], params_bar: dict[str, Any]) -> NDArray[Any]: ...

def fit(flow: Flow, x: Numbers, *, weights: Numbers | None = ..., context: Numbers | None = ..., optimiser: Any = ...,
        schedule: Callable[[int], float] | None = ..., steps: int | None = ..., epochs: int | None = ...,
        batch_size: int | None = ..., clip: ClipNorm | ClipValue | Callable[..., Any] | None = ...,
        averaging: EMA | Polyak | None = ..., penalty: SquaredNorm | Callable[..., Any] | None = ...,
        validation: float | Numbers | tuple[Numbers, Numbers] | None = ..., patience: int | None = ..., flat: float = ...,
        every: int | None = ..., fixed: Iterable[str] = ..., rng: np.random.Generator | None = ...,
        callback: Callable[[dict[str, Any], Callable[[], Flow]], object] | None = ...,
        progress: bool | Callable[[float], str] | None = ..., gradient: LikelihoodGradient | None = ...,
        transform: Callable[[Any, np.random.Generator], Numbers] | None = ..., resume: State | None = ...) -> Result: ...

def fit_reverse_kl(flow: Flow, log_density: Callable[[Any], Numbers], gradient: Callable[[Any], Numbers], *,
                   samples: int = ..., optimiser: Any = ..., schedule: Callable[[int], float] | None = ...,
                   annealing: Callable[[int], float] | None = ..., steps: int = ...,
                   clip: ClipNorm | ClipValue | Callable[..., Any] | None = ..., averaging: EMA | Polyak | None = ...,
                   fixed: Iterable[str] = ..., rng: np.random.Generator,
                   callback: Callable[[dict[str, Any], Callable[[], Flow]], object] | None = ...,
                   progress: bool | Callable[[float], str] | None = ..., resume: State | None = ...) -> Result: ...

def fit_flow_matching(flow: Flow, x: Numbers, *, path: str = ..., sigma: float = ..., transport: bool = ..., optimiser: Any = ...,
                      schedule: Callable[[int], float] | None = ..., steps: int | None = ..., batch_size: int | None = ...,
                      clip: ClipNorm | ClipValue | Callable[..., Any] | None = ..., averaging: EMA | Polyak | None = ...,
                      validation: float | Numbers | None = ..., patience: int | None = ..., flat: float = ...,
                      every: int | None = ..., rng: np.random.Generator | None = ...,
                      callback: Callable[[dict[str, Any], Callable[[], Flow]], object] | None = ...,
                      progress: bool | Callable[[float], str] | None = ...,
                      transform: Callable[[Any, np.random.Generator], Numbers] | None = ..., resume: State | None = ...) -> Result: ...

def of_batch(value: _Value, record: dict[Any, Any] | None = ..., path: tuple[str, ...] = ...,
             made: dict[int, Any] | None = ...) -> _Value: ...
def with_statistics(value: _Value, record: dict[Any, Any], decay: float = ...) -> _Value: ...

# The `flow` of the result is the model, so that its type is not that of `Result`.
def fit_speech(model: GlowTTS, corpus: Any, *, optimiser: Any = ..., schedule: Callable[[int], float] | None = ...,
               steps: int | None = ..., epochs: int | None = ..., batch_size: int = ...,
               clip: ClipNorm | ClipValue | Callable[..., Any] | None = ..., averaging: EMA | Polyak | None = ...,
               dropout: bool = ..., validation: Any = ..., patience: int | None = ..., flat: float = ..., every: int | None = ...,
               fixed: Iterable[str] = ..., rng: np.random.Generator,
               callback: Callable[[dict[str, Any], Callable[[], Any]], object] | None = ...,
               progress: bool | Callable[[float], str] | None = ..., gradient: SpeechGradient | None = ...,
               resume: Any = ...) -> Any: ...
