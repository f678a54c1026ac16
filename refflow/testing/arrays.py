"""Arrays of NumPy, torch, JAX and TensorFlow: made, read, and written to."""

from __future__ import annotations

import contextlib
from importlib import import_module

import numpy as np

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
    """Any array as NumPy's float64."""
    if hasattr(array, "detach"):
        array = array.detach().cpu()
        array = array.double() if array.dtype.is_floating_point else array
    return np.asarray(array, np.float64)


# -- parameters ---------------------------------------------------------------------------------------------------------

def leaves(held, like=None):
    """The arrays of a nested dict, list or tuple, in order; dicts in the order of `like`, of the same structure."""
    if isinstance(held, dict):
        parts = [(held[key], None if like is None else like[key]) for key in (held if like is None else like)]
    elif isinstance(held, (list, tuple)) or is_iterator(held):
        held = list(held)
        parts = zip(held, [None] * len(held) if like is None else like)
    else:
        yield held
        return
    for part, alike in parts:
        yield from leaves(part, alike)


def is_iterator(held):
    return hasattr(held, "__next__")


def rebuilt(held, values):
    """The same nested structure with other leaves, taken from an iterator."""
    if isinstance(held, dict):
        return type(held)({key: rebuilt(part, values) for key, part in held.items()})
    if isinstance(held, (list, tuple)):
        parts = [rebuilt(part, values) for part in held]
        return type(held)(*parts) if hasattr(held, "_fields") else type(held)(parts)
    return next(values)


def trained_marks(arrays):
    """For each of somebody's parameters: is it trained?  A frozen one, such as a permutation's matrix, stays where it is.

    torch says so by requires_grad; plain tensors, none of which requires a gradient, say nothing.
    """
    frozen = [getattr(array, "requires_grad", True) is False for array in arrays]
    if arrays and all(frozen) and not any(isinstance(array, import_module("torch").nn.Parameter) for array in arrays):
        return [True] * len(arrays)
    return [not one for one in frozen]


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
