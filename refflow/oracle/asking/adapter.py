"""Adapters: somebody else's code, presented as a page's quantities.

    @adapter("Tanh", dtype="float64")
    def mine(params, z):
        return {"forward": np.tanh(z), "log_det": ..., "inverse": np.arctanh}

`params` holds the page's fields by name, `z` one event or a batch of them, all NumPy arrays of the dtype.  The values returned
may be anything that `np.asarray` accepts.  The keys, all optional:

    forward, log_det, jacobian              values at z
    inverse, inverse_log_det                functions of x, or values at the x that `forward` returned
    vjp                                     (x_bar, log_det_bar) -> (z_bar, {field: bar})
    inverse_vjp                             (x, z_bar, log_det_bar) -> (x_bar, {field: bar})
    stages                                  of a Chain, to find its wrong stage: the image after each, or (image, log-det)

With direction="inverse", their forward is the page's inverse: `mine(params, x)` returns its own forward, log_det, ... under
the same names.  An adapter is loaded from a file, or by the name of a peer that ships with refflow.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any, TypeAlias, TypeVar
from uuid import uuid4

import numpy as np
from numpy.typing import DTypeLike

from ...accuracy.drawing import SIDES, plainest_of
from ...accuracy.formats import FORMATS, name_of
from ...core import Bijector, Chain
from ...core.declarations import Field
from ...core.tree import flatten
from ...maps.parametrisations import Map
from ...report import shortened
from ..judging.verdict import pasteable
from ..points.golden import NARROW, exact_points
from ..points.measures import refuse_measure
from ..points.page_points import LETTER, LOG_DET, VALUE, VJP, fields_of, members, writable
from ..points.pages import CannotRun, bijectors, page_named
from ..points.parameters import page_at
from ..points.parametrised import family_named
from ..points.schema import first_line
from .exits import at_line, no_exit
from .global_state import put_back
from .time_limits import asking, in_time
from .whose import blame, theirs

DTYPES = ("float32", "float64")
ACCUMULATION = {"float32": 2.0**-24, "bfloat16": 2.0**-8, "float16": 2.0**-11}      # and its unit roundoff
KEYS = ("forward", "log_det", "jacobian", "inverse", "inverse_log_det", "vjp", "inverse_vjp", "stages")
MISTAKES = (NameError, AttributeError, KeyError, TypeError, ImportError)        # in an adapter's own line
PEERS = Path(__file__).parents[2] / "peers"
DECLARED: list[Adapter] = []
Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(frozen=True)
class Adapter:
    """One declaration: what is checked, against which page or composite bijector, and within which limits."""

    function: Callable | None
    page: str | Bijector
    dtypes: Any = DTYPES                    # one or several; once made, a tuple of names
    direction: str = "forward"
    theirs: str = ""
    params: dict = field(default_factory=dict)
    flush_to_zero: bool = False
    broadcast: bool = False
    chart_gradient: bool = False
    accumulation: str | None = None
    parametrisation: str | Map | None = None
    fits: Callable | None = None            # of a point: can they be asked it at all?
    measure: str | None = None
    event: tuple | None = None              # the one shape of z that theirs takes

    def __post_init__(self):
        given = tuple(self.dtypes) if isinstance(self.dtypes, (tuple, list, set, frozenset)) else (self.dtypes,)
        dtypes = tuple(map(format_named, given))
        if not dtypes or not set(dtypes) <= set(FORMATS):
            known = (name.rsplit(".", 1)[-1] for name in dtypes if name not in FORMATS)     # "torch.float64"
            hint = next((f"; did you mean {name!r}?" for name in known if name in FORMATS), "")
            raise CannotRun(f"adapter: dtype must be one or several of {', '.join(FORMATS)}, not {self.dtypes!r}{hint}")
        if self.direction not in SIDES:
            raise CannotRun(f"adapter: direction must be 'forward' or 'inverse', not {self.direction!r}")
        if self.accumulation is not None and self.accumulation not in ACCUMULATION:
            raise CannotRun(f"adapter: accumulation must be one of {', '.join(ACCUMULATION)}, not {self.accumulation!r}")
        declared = page_named(self.page).declared if isinstance(self.page, str) else self.page.declared
        unknown = sorted(set(self.params) - set(declared))
        if unknown:
            raise CannotRun(f"adapter: {self.page} has no field {unknown[0]!r}; it has {list(declared)}")
        object.__setattr__(self, "dtypes", dtypes)
        refuse_measure(self.page, self.measure)
        object.__setattr__(self, "family", self.family_of_page())
        self.held_to_exact_points()

    def family_of_page(self):
        """The page's maps at raw parameters, if a parametrisation is named."""
        if self.parametrisation is None:
            return None
        if not isinstance(self.page, str) or self.params or self.broadcast or self.measure:
            raise CannotRun("adapter: parametrisation is for a page by name, without limits, broadcast and measure, not "
                            f"{self.page}")
        return family_named(self.page, self.parametrisation)

    def held_to_exact_points(self):
        """Narrow formats are asked of a page by name, which has points that are exact in them, and bfloat16 is not mixed with
        float32: NumPy has no bfloat16, and both stand in float32 arrays.
        """
        narrow = [name for name in self.dtypes if name in NARROW]
        for name in narrow:
            if not isinstance(self.page, str) or self.family is not None or not exact_points(self.page, name):
                raise CannotRun(f"adapter: {self.name} has no points that are exact in {name}: only a page by name has them, "
                                "without parametrisation")
        if {"bfloat16", "float32"} <= set(self.dtypes):
            raise CannotRun("adapter: bfloat16 and float32 both come in float32 arrays: declare a function for each")

    @property
    def name(self):
        if self.family is not None:
            return f"{self.page} of {self.parametrisation}"
        name = self.page if isinstance(self.page, str) else described(self.page)
        return name + {None: "", "chart": " by coordinates", "intrinsic": " by own volume"}[self.measure]

    def of(self, function):
        """The same declaration of a function, which it is named after if it has no name yet."""
        return replace(self, function=function, theirs=self.theirs or getattr(function, "__qualname__", repr(function)))

    def limited(self, point):
        """The point, in which every event with its own parameters has some within the declared limits; None if there are none.

        If only some rows of a parameter batch are within the limits, the first of them replaces the rows outside.  If no row is,
        a drawn field takes its simplest value: where the limit is "scale is 1", other shifts are still asked.
        """
        if self.fits is not None and not self.fits(point):
            return None
        point = point if point.truth is not None else self.simplified(point)
        f = point.f
        inside = np.broadcast_to(True, f.parameter_batch)
        for key, allowed in self.params.items():
            inside = inside & self.marks(key, allowed, f)
        if not inside.any():
            return None
        if not inside.all():
            rows = np.where(inside.ravel(), np.arange(inside.size), np.argmax(inside))
            point = point.changed(f=with_rows(f, rows.reshape(inside.shape)))
        return point if self.keeps(point) else None

    def simplified(self, point):
        """The point with the simplest field in place of each that is nowhere within its limits."""
        f, outside = point.f, [key for key, allowed in self.params.items() if not np.any(self.marks(key, allowed, point.f))]
        simple = {key: simplest_like(f.declared[key], getattr(f, key)) for key in outside
                  if isinstance(f.declared[key], Field) and f.declared[key].usual}
        try:
            simpler = point.changed(f=f.replace(**simple)) if simple else point
        except ValueError:                      # refused together with the other fields
            return point
        return simpler if members(simpler).all() else point

    def marks(self, key, allowed, f):
        """One mark for each row of the parameter batch; a predicate that raises is an error of use."""
        value = getattr(f, key)
        if value is None:
            return True
        core = len(f.declared[key].shape) if isinstance(f.declared[key], Field) else np.ndim(value)
        rows = np.reshape(value, (-1, *np.shape(value)[np.ndim(value) - core:])) if np.ndim(value) > core else [value]
        try:
            found = [bool(np.all(theirs(allowed, row[()] if isinstance(row, np.ndarray) else row))) for row in rows]
        except Exception as error:
            raise CannotRun(f"{self.theirs}: its limit of {key} raised {type(error).__name__}: {error}") from error
        return np.reshape(found, np.shape(value)[:np.ndim(value) - core])

    def keeps(self, point):
        """Can the hardware represent the point's numbers?"""
        arrays = [point.event, *(leaf for _, leaf in flatten(point.f.params()))] if self.flush_to_zero else []
        return not any(np.any((np.abs(a) < point.format.normal) & (a != 0)) for a in arrays)


def simplest_like(declared, value):
    """The simplest value of a field, without batch axes."""
    return plainest_of(declared, value.shape[value.ndim - len(declared.shape):]).astype(value.dtype)


def format_named(dtype):
    """The name of a dtype; for anything else, its text."""
    try:
        return name_of(dtype)
    except TypeError:
        return str(dtype)


def adapter(page: str | Bijector, *, dtype: DTypeLike | Sequence[DTypeLike] = DTYPES, direction: str = "forward",
            theirs: str | None = None, params: Mapping[str, Callable[[Any], Any]] | None = None, flush_to_zero: bool = False,
            broadcast: bool = False, chart_gradient: bool = False, accumulation: str | None = None,
            parametrisation: str | Map | None = None, measure: str | None = None) -> Callable[[Function], Function]:
    """Declare that a function computes the quantities of `page`: a name from `refflow list`, or a bijector.

    `theirs` is the name to report.  `params` are limits {field: predicate}: a point whose fields do not satisfy them is
    asked with the simplest values of these fields, or not at all. `flush_to_zero` says that the hardware has no subnormal numbers,
    `broadcast` that parameters may carry batch axes, each its own, which broadcast with each other and with the events,
    `chart_gradient` that the inverse is a function of only the chart's entries (where D_out > D_in), or has other values off
    the set than the page: its event cotangent is compared along the set; `accumulation`, one of float32, bfloat16 and float16,
    that log-dets and cotangents of fields are summed in that dtype. With `parametrisation`, a library's name in the page's
    table of conventions or a map, `params` holds only raw parameters, "h". `measure` says how it counts volumes on a set of
    lower dimension, if not as the page does: by coordinates, "chart", or by own volume, "intrinsic". A `dtype` of float16 or
    bfloat16 is asked at the points of a page that are exact in it; a function of bfloat16 is given float32 arrays that hold
    bfloat16 numbers. A function may be declared several times. Raises CannotRun, a ValueError, for
    an unknown page, dtype, direction, accumulation, parametrisation or measure.
    """
    declared = Adapter(None, page, dtype, direction, theirs or "", dict(params or {}), flush_to_zero, broadcast, chart_gradient,
                       accumulation, parametrisation, measure=measure)

    def declare(function: Function) -> Function:
        DECLARED.append(declared.of(function))
        return function

    return declare


def with_rows(f, rows):
    """A page with other rows in its parameter batch."""
    fields = {}
    for key, declared in f.declared.items():
        value = getattr(f, key)
        if isinstance(declared, Field) and not declared.constant and value is not None:
            core = value.shape[value.ndim - len(declared.shape):]
            full = np.broadcast_to(value, f.parameter_batch + core).reshape(-1, *core)
            fields[key] = full[rows]
    return f.replace(**fields)


def described(f):
    """A composite's name: Chain(Affine, Tanh)."""
    inner = [described(c) for c in f.components()]
    return type(f).__name__ + (f"({', '.join(inner)})" if inner else "")


# -- asking -----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class Raised:
    """Theirs raised instead of answering."""

    message: str


@dataclass(frozen=True)
class Answers:
    """{quantity: array or Raised}, and the inverse given as values: (x they belong to, {quantity: values}).

    `stages` are the stages of a chain in the order in which they are applied: (image,) or (image, log-det) of each.
    """

    found: dict
    values_at_image: tuple | None = None
    stages: list | None = None


def ask(adapter, point) -> Answers:
    """All of their answers to one question."""
    with asking(lambda: question_in_words(adapter, point)):
        return asked(adapter, point)


def question_in_words(adapter, point):
    fields = ", ".join(f"{key}={shortened(repr(pasteable(value)))}" for key, value in fields_of(point.f).items())
    return f"{adapter.theirs}, for {adapter.name}{f' with {fields}' if fields else ''}, {point.dtype}, at " \
           f"{shortened(repr(pasteable(point.event)))}"


def asked(adapter, point):
    side, params = point.side, fields_of(point.f)
    if point.form == "float16":
        point, params = in_float16(point), narrowed(params)
    own = side == adapter.direction
    call_side = side if own else {"forward": "inverse", "inverse": "forward"}[side]
    event = point.event if own else starting_event(point, call_side)
    result = attempt(lambda: theirs(adapter.function, params, writable(np.asarray(event))), adapter, "its function")
    if isinstance(result, Raised):
        return Answers({VALUE[call_side]: result})
    if not isinstance(result, dict):
        raise CannotRun(f"{adapter.theirs}: the adapter returned {type(result).__name__}, not a dictionary of quantities")
    for key in result:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, 1, 0.5)
            hint = f"; did you mean {close[0]!r}?" if close else ""
            raise CannotRun(f"{adapter.theirs}: the adapter returned an unknown key {key!r}{hint} (the keys are "
                            f"{', '.join(KEYS)})")
    return own_answers(adapter, point, result) if own else other_answers(adapter, point, result)


def in_float16(point):
    """The question in arrays of its own format."""
    arrays = {key: getattr(point, key) for key in ("event", "image_bar", "log_det_bar")}
    return replace(point, **{key: narrowed(array) for key, array in arrays.items() if array is not None})


def narrowed(held):
    """Real arrays as float16; what is not an array, and constants, as they are."""
    if isinstance(held, dict):
        return {key: narrowed(value) for key, value in held.items()}
    is_real = isinstance(held, (np.ndarray, np.generic)) and held.dtype.kind == "f"
    return held.astype(np.float16) if is_real else held


def attempt(call, adapter, key):
    """The result of a call, which answers `key`, or Raised: any exception from their code is a finding.

    A mistake of the adapter itself, such as a misspelt name, is an error of use.
    """
    try:
        return in_time(call, lambda: key)
    except CannotRun:
        raise
    except Exception as error:
        blame(error)
        if isinstance(error, MISTAKES) and raised_in(error, adapter.function):
            names = f"; params has {', '.join(names_of_fields(adapter))}" if isinstance(error, KeyError) else ""
            raise CannotRun(f"{adapter.theirs}: the adapter itself raised {first_line(error)}"
                            f"{at_line(error, file_of(adapter.function))}{names}") from error
        return Raised(first_line(error))


def names_of_fields(adapter):
    """The names in `params`, with dots between the levels."""
    if adapter.family is not None:
        return ["h"]
    if isinstance(adapter.page, str):
        return list(page_named(adapter.page).declared)
    return [".".join(path) for path, _ in flatten(adapter.page.params())] or list(adapter.page.declared)


def file_of(function):
    """The file of a function, or of the function that it wraps."""
    function = inspect.unwrap(function)
    return Path(function.__code__.co_filename) if hasattr(function, "__code__") else None


def raised_in(error, function):
    """Was it raised by a line of the file that contains a function, and not by something that the line calls?"""
    step = error.__traceback__
    while step.tb_next is not None and step.tb_next.tb_frame.f_code.co_name != "__getattr__":       # a module's
        step = step.tb_next
    return Path(step.tb_frame.f_code.co_filename) == file_of(function)


def as_array(call, adapter, key):
    found = attempt(lambda: theirs(known_to_numpy, call()), adapter, key)
    wrong = not isinstance(found, Raised) and found.dtype.kind not in "fiu"
    return Raised(f"returned an array of dtype {found.dtype}") if wrong else found


def known_to_numpy(given):
    """An array: tensors without their gradients, bfloat16, which NumPy does not have, in float32."""
    if hasattr(given, "detach"):
        given = given.detach().cpu()
        given = given.float() if str(given.dtype) == "torch.bfloat16" else given
    found = np.asarray(given)
    return found.astype(np.float32) if found.dtype.name == "bfloat16" else found


def read(adapter, result, key):
    """What was returned for a key."""
    found = theirs(result.__getitem__, key)
    if found is None:
        raise CannotRun(f"{adapter.theirs}: the adapter returned None for {key!r}: what you do not have is left out")
    return found


def own_answers(adapter, point, result):
    side, found, values = point.side, {}, {}
    other = {"forward": "inverse", "inverse": "forward"}[side]
    if "forward" in result:
        found[VALUE[side]] = as_array(lambda: read(adapter, result, "forward"), adapter, "forward")
    if "log_det" in result:
        found[LOG_DET[side]] = as_array(lambda: read(adapter, result, "log_det"), adapter, "log_det")
    if "jacobian" in result and side == "forward":
        found["jacobian"] = slope_as_matrix(point, as_array(lambda: read(adapter, result, "jacobian"), adapter, "jacobian"))
    if "vjp" in result and point.image_bar is not None:
        found |= cotangents(adapter, point, attempt(lambda: theirs(read(adapter, result, "vjp"), *bars(point)), adapter, "vjp"))
    for key, name in (("inverse", VALUE[other]), ("inverse_log_det", LOG_DET[other])):
        if key in result and not callable(result[key]):
            values[name] = as_array(lambda key=key: read(adapter, result, key), adapter, key)
    image = found.get(VALUE[side])
    keep = values and isinstance(image, np.ndarray)
    return Answers(found, (image, values) if keep else None, stages_of(adapter, result))


def stages_of(adapter, result):
    """The images of a chain's stages, or None if they are not given; what is not of that form is an error of use."""
    if "stages" not in result:
        return None
    if not isinstance(adapter.page, Chain):
        raise CannotRun(f"{adapter.theirs}: the adapter returned stages, but {adapter.name} is not a Chain")
    if adapter.measure:
        raise CannotRun(f"{adapter.theirs}: the adapter returned stages, which are not asked together with measure")
    if not isinstance(result["stages"], (list, tuple)):
        raise CannotRun(f"{adapter.theirs}: stages must be a list: the image after each stage, or (image, log-det)")
    stages = []
    for answers in result["stages"]:
        answers = answers if isinstance(answers, tuple) else (answers,)
        arrays = [as_array(lambda value=value: value, adapter, "stages") for value in answers]
        if len(arrays) > 2 or any(isinstance(array, Raised) for array in arrays):
            raise CannotRun(f"{adapter.theirs}: stages must be a list: the image after each stage, or (image, log-det)")
        stages.append(tuple(arrays))
    return stages


def other_answers(adapter, point, result):
    side, found = point.side, {}
    event = point.event
    if callable(result.get("inverse")):
        found[VALUE[side]] = as_array(lambda: theirs(read(adapter, result, "inverse"), np.array(event)), adapter, "inverse")
    if callable(result.get("inverse_log_det")):
        found[LOG_DET[side]] = as_array(lambda: theirs(read(adapter, result, "inverse_log_det"), np.array(event)), adapter,
                                         "inverse_log_det")
    if "inverse_vjp" in result and point.image_bar is not None:
        found |= cotangents(adapter, point, attempt(lambda: theirs(read(adapter, result, "inverse_vjp"), np.array(event), *bars(point)),
                                                    adapter, "inverse_vjp"))
    return Answers(found)


def bars(point):
    return np.array(point.image_bar), np.array(point.log_det_bar)


def cotangents(adapter, point, found):
    """{quantity: array or Raised} from what a pullback returned."""
    prefix, letter = VJP[point.side], LETTER[point.side]
    name = f"{prefix}.{letter}_bar"
    if isinstance(found, Raised):
        return {name: found}
    if not (isinstance(found, tuple) and len(found) == 2 and isinstance(found[1], dict)):
        return {name: Raised(f"{prefix} must return ({letter}_bar, {{field: bar}})")}
    event_bar, params_bar = found
    known = [path for path, _ in flatten(fields_of(point.f))]
    unknown = [path for path, _ in flatten(params_bar) if path not in known]
    if unknown:
        raise CannotRun(f"{adapter.theirs}: {prefix} returned a cotangent of {'.'.join(unknown[0])!r}; the fields are "
                        f"{', '.join(map('.'.join, known)) or 'none'}")
    named = {f"{prefix}.{'.'.join(path)}_bar": leaf for path, leaf in flatten(params_bar)}
    return {key: as_array(lambda leaf=leaf: leaf, adapter, key) for key, leaf in ({name: event_bar} | named).items()}


def slope_as_matrix(point, given):
    """A scalar map may return its derivative in the shape of the event."""
    if isinstance(given, Raised) or point.f.event_ndim != (0, 0) or given.shape != point.event.shape:
        return given
    return given[..., None, None]


def starting_event(point, call_side):
    """An unremarkable event of the other side, in a batch like the point's: used only to obtain the functions."""
    f, side = point.f, SIDES[call_side]
    rank = f.event_ndim[SIDES[point.side]]
    batch, core = point.event.shape[:point.event.ndim - rank], point.event.shape[point.event.ndim - rank:]
    where = (f.domain, f.codomain)[side]
    shape = tuple((f.input_shape, f.output_shape)[side](core))
    start = where.plainest(shape)
    start = point.format.rounded(start) if point.form else start            # the middle of an interval, or of a simplex
    return np.broadcast_to(start.astype(point.dtype), batch + shape)


# -- loading ----------------------------------------------------------------------------------------------------------

@dataclass(frozen=True)
class AdapterSet:
    """The adapters of one target, its name and its version."""

    name: str
    version: str
    adapters: tuple[Adapter, ...]


Target: TypeAlias = str | Path | ModuleType | Callable[..., Any] | AdapterSet


def load(target: Target | Iterable[Target | Adapter]) -> AdapterSet:
    """The adapters of a file, a shipped peer, a module, a function, or a list of them; a set of adapters is itself.

    Raises CannotRun if the target does not exist, cannot be imported, or declares no adapter.
    """
    if isinstance(target, AdapterSet):
        return target
    if isinstance(target, (str, Path)):
        as_file = Path(target).suffix == ".py" or Path(target).is_file()
        return from_file(Path(target)) if as_file else from_peer(str(target))
    if isinstance(target, ModuleType):
        return adapter_set(target.__name__, target, [a for a in DECLARED if a.function.__module__ == target.__name__])
    if callable(target):
        return adapter_set(target.__qualname__, target, [a for a in DECLARED if a.function is target])
    found = tuple(a for part in target for a in ([part] if isinstance(part, Adapter) else load(part).adapters))  # type: ignore[union-attr]
    return adapter_set("adapters", target, found)


class Sent:
    """A target and its adapters.  Functions of a user's file cannot be sent to another process, which loads the target anew."""

    def __init__(self, target, loaded, time_limit=None, parameters=None):
        self.target, self.loaded, self.check = target, loaded, uuid4().hex
        self.time_limit, self.parameters = time_limit, parameters

    def adapter(self, index):
        """One of them, with the page at the given parameters, if there are any."""
        found = self.loaded.adapters[index]
        if self.parameters is None:
            return found
        return replace(found, page=page_at(found.page, json.loads(self.parameters)), broadcast=False)

    def __reduce__(self):
        if not isinstance(self.target, (str, Path)):
            raise CannotRun("another process can load a file of adapters, or a library by its name, and nothing else")
        path = Path(self.target)
        return arrived, (str(path.resolve() if path.is_file() else path), self.time_limit, self.parameters, self.check)


@functools.lru_cache(1)
def arrived(target, time_limit, parameters, check):
    """The same in another process, once for each check: the file may have changed since the last one."""
    return Sent(target, load(target), time_limit, parameters)


def adapter_set(name, module, adapters):
    if not adapters:
        raise CannotRun(f"{name} declares no adapter: decorate a function with @refflow.oracle.adapter(\"NAME\"), or name a BlackBox")
    return AdapterSet(name, str(getattr(module, "version", None) or ""), tuple(adapters))


def from_file(path):
    return adapter_set(str(path), *imported(path))


def imported(path):
    """(the module, its adapters) of a file.  CannotRun if it cannot be imported."""
    if not path.is_file():
        raise CannotRun(f"there is no file {path}")
    if path.suffix != ".py":
        raise CannotRun(f"{path}: a file of adapters is Python code, and its name ends in .py")
    before = len(DECLARED)
    spec = importlib.util.spec_from_file_location(f"refflow_adapters_{path.stem}_{before}", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    folder = str(path.parent.resolve())
    sys.path.append(folder)
    with no_exit(path, path), put_back():
        try:
            theirs(spec.loader.exec_module, module)
        except Exception as error:
            raise CannotRun(f"{path} cannot be imported: {first_line(error)}{at_line(error, path)}") from error
        finally:
            with contextlib.suppress(ValueError):               # they have removed it themselves
                sys.path.remove(folder)
    return module, DECLARED[before:]


def peers() -> list[str]:
    """The libraries whose adapters ship with refflow."""
    return sorted(p.stem for p in PEERS.glob("*.py") if p.stem != "__init__")


def requirement(name):
    """What to install for a peer: the version for which its file is written."""
    pinned = re.search(r'pinned\("([^"]+)", "([^"]+)"\)', (PEERS / f"{name}.py").read_text(encoding="utf-8"))
    return "==".join(pinned.groups())


def from_peer(name):
    if name not in peers():
        close = difflib.get_close_matches(name, [*peers(), *bijectors()], 1, 0.6)
        hint = f"; did you mean {close[0]}?" if close and close[0] in peers() else ""
        hint = hint or (f"; to check one of refflow's own pages: refflow check {close[0]}" if close else "")
        raise CannotRun(f"unknown target {name!r}: give a file of adapters (a path ending in .py), or one of the peers "
                        f"{', '.join(peers())}{hint}")
    try:
        with no_exit(f"the import of {name}"), put_back():
            module = theirs(importlib.import_module, f"refflow.peers.{name}")
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] == "refflow":
            raise
        raise CannotRun(f"{error.name} is not installed; install it with `pip install {requirement(name)}`") from error
    except CannotRun:
        raise
    except Exception as error:
        raise CannotRun(f"the adapters of {name} cannot be imported: {first_line(error)}; install the version for which they are "
                        f"written with `pip install {requirement(name)}`") from error
    return adapter_set(name, module, [a for a in DECLARED if a.function.__module__ == module.__name__])
