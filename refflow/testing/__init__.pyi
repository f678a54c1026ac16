"""The types of the laws' public names, which are loaded when they are first used."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, overload

from numpy.typing import DTypeLike

from ..core import Bijector
from ..oracle.asking.adapter import Adapter
from ..oracle.judging.verdict import Report
from ..typing import Numbers
from ..oracle.boxes.black_box import BlackBox as BlackBox
from ..oracle.items.item import Known as Known
from ..oracle.boxes.lawbook import Verdict as Verdict
from ..oracle.judging.suites import SUITES as SUITES, SuiteWarning as SuiteWarning

class Verdicts(list[Verdict]):
    notes: list[str]
    asked: dict[str, Any] | None
    def __init__(self, found: Iterable[Verdict] = ..., notes: Iterable[str] = ...,
                 asked: dict[str, Any] | None = ...) -> None: ...
    @property
    def failed(self) -> list[Verdict]: ...
    @property
    def status(self) -> int: ...
    def counts(self) -> str: ...
    def as_dict(self) -> dict[str, Any]: ...
    def to_json(self) -> str: ...

def verdicts(box: BlackBox | Callable[[int], BlackBox], seed: int = ..., time_limit: float | None = ...) -> Verdicts: ...

@overload
def check(target: BlackBox, *, page: None = ..., dtypes: Sequence[DTypeLike] | None = ..., parameters: None = ...,
          seed: int = ..., time_limit: float | None = ...) -> Verdicts: ...
@overload
def check(target: BlackBox, *, page: str | Bijector, dtypes: Sequence[DTypeLike] | None = ...,
          parameters: Mapping[str, Numbers] | None = ..., seed: int = ..., time_limit: float | None = ...) -> Report: ...
@overload
def check(target: str | Path | ModuleType | Sequence[Callable[..., Any] | Adapter] | None = ..., *, page: str | None = ...,
          dtypes: Sequence[DTypeLike] | None = ..., parameters: Mapping[str, Numbers] | None = ..., seed: int = ...,
          time_limit: float | None = ...) -> Report: ...
@overload
def check(target: Callable[..., Any], *, page: str | Bijector, dtypes: Sequence[DTypeLike] | None = ...,
          parameters: Mapping[str, Numbers] | None = ..., seed: int = ..., time_limit: float | None = ...,
          **options: Any) -> Report: ...
@overload
def check(target: Callable[..., Any], *, page: None = ..., dtypes: Sequence[DTypeLike] | None = ...,
          parameters: Mapping[str, Numbers] | None = ..., seed: int = ...,
          time_limit: float | None = ...) -> Report | Verdicts: ...

def law_tests(box: BlackBox | Callable[[int], BlackBox], *, suite: str | None = ..., require: str | Iterable[str] = ...,
              expected: Mapping[str, Known] | None = ...) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...
def page_tests(page: str | Bijector, *, suite: str | None = ..., require: str | Iterable[str] = ...,
               expected: Mapping[str, Known] | None = ..., baseline: str | None = ...,
               **options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]: ...

def torch_pullback(forward: Callable[..., Any], parameters: Any = ...) -> Callable[..., Any]: ...
def jax_pullback(forward: Callable[..., Any]) -> Callable[..., Any]: ...
def tensorflow_pullback(forward: Callable[..., Any], variables: Any = ...) -> Callable[..., Any]: ...
