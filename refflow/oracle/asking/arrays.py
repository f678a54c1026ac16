"""Arrays of NumPy, torch, JAX and TensorFlow: made, read, and written to."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Mapping
from importlib import import_module

import numpy as np

from ..points.pages import CannotRun
from .whose import theirs

UNITS = {"float64": 2.0**-53, "float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}
SUBNORMAL = {"float64": 2.0**-1074, "float32": 2.0**-149, "float16": 2.0**-24, "bfloat16": 2.0**-133}
NORMAL = {"float64": 2.0**-1022, "float32": 2.0**-126, "float16": 2.0**-14, "bfloat16": 2.0**-126}
LARGEST = {"float64": 2.0**1023, "float32": 2.0**127, "float16": 2.0**15, "bfloat16": 2.0**127}
BACKENDS = ("numpy", "torch", "jax", "tensorflow")
HOMES = {"jaxlib": "jax"}               # packages whose arrays belong to another one


def backend_of(array):
    """The library of an array; "numpy" for anything that is not of the others."""
    home = type(array).__module__.split(".")[0]
    home = HOMES.get(home, home)
    if home not in BACKENDS and hasattr(array, "detach"):
        return "torch"                  # a subclass of somebody's
    return home if home in BACKENDS else "numpy"


def dtype_of(array):
    """The name of an array's floating dtype, or None."""
    kind = getattr(array, "dtype", None)
    name = getattr(kind, "name", None) or str(kind).rsplit(".", 1)[-1]
    return name if name in UNITS else None


def coarsest(*names):
    """The dtype of the largest unit."""
    return max((name for name in names if name), key=UNITS.get)


def made(array, dtype, backend):
    """A fresh writable array; NumPy's float64 rounded to a dtype."""
    if backend == "numpy":
        return np.array(array, numpy_dtype(dtype))
    library, make = maker(backend)
    found = make(np.array(array), dtype=getattr(library, dtype))
    if dtype_of(found) != dtype:
        raise ValueError(f"BlackBox: {backend} makes {dtype_of(found)} of {dtype}; of JAX, set jax_enable_x64")
    return found


def maker(backend):
    """(the module of a library that is not NumPy, its function that makes an array)."""
    library = import_module({"jax": "jax.numpy"}.get(backend, backend))
    return library, getattr(library, {"torch": "tensor", "jax": "array", "tensorflow": "constant"}[backend])


def mask_made(mask, backend):
    """A Boolean array."""
    return np.array(mask) if backend == "numpy" else maker(backend)[1](np.array(mask))


def numpy_dtype(name):
    """NumPy's dtype; bfloat16 is ml_dtypes'.  ValueError where that is missing."""
    if name == "bfloat16":
        try:
            import_module("ml_dtypes")
        except ImportError:
            raise ValueError("BlackBox: NumPy has no bfloat16; give the backend, or pip install ml_dtypes") from None
    return np.dtype(name)


def as_numpy(array):
    """Any array of theirs as NumPy's float64."""
    return theirs(converted, array)


def converted(array):
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.double() if array.dtype.is_floating_point else array
    return np.asarray(array, np.float64)


# -- parameters ---------------------------------------------------------------------------------------------------------

def parts_of(held):
    """(the parts of a nested structure, a function that makes the same of other parts); None for what has no parts.

    Dicts, lists, tuples and iterators; and where JAX is imported, its pytrees, such as Equinox's modules and Flax's states.
    """
    if isinstance(held, dict):
        return list(held.values()), lambda parts: type(held)(zip(held, parts))
    if isinstance(held, (list, tuple)):
        return list(held), lambda parts: type(held)(*parts) if hasattr(held, "_fields") else type(held)(parts)
    if hasattr(held, "__next__"):
        return theirs(list, held), list
    jax = sys.modules.get("jax")
    if jax is None or held is None:
        return None
    parts, structure = jax.tree_util.tree_flatten(held, is_leaf=lambda one: one is not held)
    return None if len(parts) == 1 and parts[0] is held else (parts, structure.unflatten)


def is_parameter(leaf):
    """Is it an array or a number?  A structure may hold functions and None too."""
    return hasattr(leaf, "dtype") or isinstance(leaf, (int, float)) and not isinstance(leaf, bool)


def leaves(held):
    """The leaves of a nested structure, in order."""
    inner = parts_of(held)
    if inner is None:
        yield held
    for part in inner[0] if inner else ():
        yield from leaves(part)


def leaves_like(held, like):
    """The leaves of `held` that belong to the parameters of `like`, of the same structure, in the order of `like`."""
    inner = parts_of(like)
    if inner is None:
        yield from [held] if is_parameter(like) else ()
    elif isinstance(like, dict):
        lacking = [key for key in like if key not in held]
        if lacking:
            raise CannotRun(f"BlackBox: {lacking[0]!r} of the parameters is missing among {list(held)}, which were returned")
        for key in like:
            yield from leaves_like(held[key], like[key])
    else:
        for part, alike in zip(parts_of(held)[0], inner[0]):
            yield from leaves_like(part, alike)


def rebuilt(held, values):
    """The same nested structure with other parameters, taken from an iterator."""
    inner = parts_of(held)
    if inner is None:
        return next(values) if is_parameter(held) else held
    parts, made_of = inner
    return made_of([rebuilt(part, values) for part in parts])


# -- frozen parameters --------------------------------------------------------------------------------------------------

def trained_marks(held, declared=True):
    """For each of somebody's parameters: is it trained?  A frozen one, such as a permutation's matrix, stays where it is.

    `declared`: True, a function of an array, or a structure of these, like `held` or like the upper part of it.  What the
    libraries themselves say is in `frozen`; plain tensors, none of which requires a gradient, say nothing.
    """
    arrays = [leaf for leaf in leaves(held) if is_parameter(leaf)]
    silent = not any(getattr(array, "requires_grad", True) or is_torch_parameter(array) for array in arrays)
    return list(marks(collections_of(held), declared, silent))


def marks(held, declared, silent):
    if isinstance(held, Frozen) or frozen(held, silent):
        held, declared = getattr(held, "held", held), False
    inner, of = parts_of(held), parts_of(declared)
    if inner is None:
        if is_parameter(held):
            yield bool(theirs(declared, held) if callable(declared) else declared)
        return
    each = [declared] * len(inner[0]) if of is None else declared_in_order(held, declared)
    for part, one in zip(inner[0], each):
        yield from marks(part, one, silent)


def declared_in_order(held, declared):
    if isinstance(held, dict) and isinstance(declared, dict):
        if set(held) != set(declared):
            raise CannotRun(f"BlackBox: trainable has the names {list(declared)}, the parameters {list(held)}")
        return [declared[key] for key in held]
    found, parts = parts_of(declared)[0], parts_of(held)[0]
    if len(found) != len(parts):
        raise CannotRun(f"BlackBox: trainable has {len(found)} parts where the parameters have {len(parts)}")
    return found


class Frozen:
    """A part of a structure that is not trained, whatever its leaves say."""

    def __init__(self, held):
        self.held = held


def collections_of(held):
    """Flax's variables {"params": ..., "batch_stats": ...}: what is not in "params" is frozen."""
    if not isinstance(held, Mapping) or "flax" not in sys.modules or "params" not in held:
        return held
    if not all(isinstance(part, Mapping) for part in held.values()):
        return held
    return {key: part if key == "params" else Frozen(part) for key, part in held.items()}


def frozen(held, silent):
    """Does a library say that this is not trained?

    torch: `requires_grad=False`.  TensorFlow and Keras: `trainable=False`.  Flax: an `nnx.Variable` that is not an `nnx.Param`.
    paramax, which FlowJAX uses: `NonTrainable`.  And integers, such as a permutation or the key of random numbers.
    """
    if getattr(held, "trainable", True) is False or type(held).__name__ == "NonTrainable":
        return True
    if not silent and getattr(held, "requires_grad", True) is False:
        return True
    nnx, kind = sys.modules.get("flax.nnx"), getattr(held, "type", type(held))
    if nnx is not None and isinstance(kind, type) and issubclass(kind, nnx.Variable):
        return not issubclass(kind, nnx.Param)
    return str(getattr(held, "dtype", "")).rsplit(".", 1)[-1].startswith(("int", "uint", "bool", "key"))


def is_torch_parameter(array):
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.nn.Parameter)


def can_be_written(array):
    """Is it an array whose numbers can be changed?"""
    return hasattr(array, "detach") or isinstance(array, np.ndarray) and array.flags.writeable \
        or hasattr(array, "assign")


def written(array, values):
    """Write values into somebody's parameter, in place."""
    if hasattr(array, "detach"):
        data = array.detach()
        data.copy_(import_module("torch").as_tensor(np.asarray(values), dtype=data.dtype))
    elif hasattr(array, "assign"):
        array.assign(np.asarray(values).astype(array.dtype.as_numpy_dtype))
    else:
        array[...] = values


# -- chance -------------------------------------------------------------------------------------------------------------

@contextlib.contextmanager
def seeded(backend, seed):
    """The global random states of NumPy and of the backend, set for a while and given back."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        if backend == "torch":
            torch = import_module("torch")
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                yield
        else:
            if backend == "tensorflow":
                import_module("tensorflow").random.set_seed(seed)
            yield
    finally:
        np.random.set_state(state)
