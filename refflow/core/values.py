"""Values: a frozen set of declared fields: a bijector, a density, a conditioner."""

from __future__ import annotations

import dataclasses

import numpy as np

from .arrays import FLOATS, as_floating, at_index, locked, sum_to_shape
from .declarations import Child, Field, Plain, bind, size_of
from .tree import flatten, nest, share_context


class Value:
    """A frozen dataclass of arrays.  `params()` are its real fields as a nested dictionary; everything else follows."""

    declared: dict = {}
    letters = "zx"
    untrained: tuple = ("context",)         # real fields that training leaves alone

    # -- construction ------------------------------------------------------------------------------------------------

    def __post_init__(self):
        name = type(self).__name__
        given = {key: getattr(self, key) for key, field in self.declared.items() if isinstance(field, Field)}
        arrays, strong, dims = {}, [], {}
        for key, value in given.items():
            field = self.declared[key]
            if value is field or value is None and (field.optional or field.default is not None):
                continue
            if field.constant:
                arrays[key] = self._constant(key, value)
            else:
                arrays[key], is_strong = as_floating(f"{name}: {key}", value)
                strong += [arrays[key].dtype] if is_strong else []
            self._bind_core(key, arrays[key].shape, dims)
        strong += [c.dtype for c in self._children() if c.dtype is not None]
        dtype = np.result_type(*strong) if strong else None
        for key, value in given.items():
            field = self.declared[key]
            if key not in arrays:
                core = tuple(size_of(symbol, dims) for symbol in field.shape)
                empty = field.optional and value is None or None in core
                arrays[key] = None if empty else np.full(core, field.default, field.dtype or np.float64)
            if arrays[key] is not None and not field.constant:
                arrays[key] = arrays[key].astype(dtype or np.float64, copy=False)
            self._set(key, arrays[key] if arrays[key] is None else locked(arrays[key]))
        for key, field in self.declared.items():
            if isinstance(field, Child) and field.many:
                self._set(key, tuple(getattr(self, key)))
        self._set("dims", dims)
        self._set("dtype", dtype)
        self._validate()

    def _set(self, key, value):
        object.__setattr__(self, key, value)

    def __setattr__(self, key, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {key!r}")

    def __delattr__(self, key):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {key!r}")

    def _constant(self, key, value):
        array, field = np.asarray(value), self.declared[key]
        wanted = np.dtype(field.dtype)
        if array.dtype.kind != wanted.kind and not (wanted.kind == "i" and array.dtype.kind == "u"):
            raise ValueError(f"{type(self).__name__}: {key} must be of dtype {wanted}, not {array.dtype}")
        return array.astype(wanted)

    def _bind_core(self, key, shape, dims):
        core = self.declared[key].shape
        actual = shape[len(shape) - len(core):] if len(shape) >= len(core) else None
        fits = actual is not None and all(bind(symbol, n, dims) for symbol, n in zip(core, actual))
        if not fits:
            wanted = ", ".join(f"{s}={size_of(s, dims)}" if isinstance(s, str) and size_of(s, dims) is not None else str(s)
                               for s in core)
            raise ValueError(f"{type(self).__name__}: {key} must have trailing shape ({wanted}), not {shape}")

    def _validate(self):
        for key, field in self.declared.items():
            value = getattr(self, key)
            if isinstance(field, Field) and value is not None:
                wrong = field.set.first_outside(value)
                if wrong is not None:
                    index, entry = wrong
                    raise ValueError(f"{type(self).__name__}: {key} {field.set.rule}; {at_index(key, index)} = {entry}")
        try:
            self.parameter_batch
        except ValueError:
            shapes = {k: v.shape for k, v in self._arrays().items()}
            raise ValueError(f"{type(self).__name__}: the leading axes of its fields do not broadcast: {shapes}") from None

    # -- what it holds -----------------------------------------------------------------------------------------------

    def _arrays(self):
        return {key: getattr(self, key) for key, field in self.declared.items()
                if isinstance(field, Field) and getattr(self, key) is not None}

    def _children(self):
        for key, field in self.declared.items():
            if isinstance(field, Child):
                value = getattr(self, key)
                yield from value if field.many else (value,)

    @property
    def parameter_batch(self):
        """The leading axes that the fields carry, broadcast together."""
        shapes = {array.shape[:array.ndim - len(self.declared[k].shape)] for k, array in self._arrays().items()}
        shapes.update(component.parameter_batch for component in self._children())
        return np.broadcast_shapes(*shapes) if any(shapes) else ()

    def params(self) -> dict:
        """The real fields as a nested dictionary; a context shared by components stands once, at the top."""
        nested = {}
        for key, field in self.declared.items():
            value = getattr(self, key)
            if isinstance(field, Field) and not field.constant and value is not None:
                nested[key] = value
            elif isinstance(field, Child):
                inner = {str(i): c.params() for i, c in enumerate(value)} if field.many else value.params()
                nested[key] = inner
        return share_context(nested, lambda found: found[0])

    def reduce(self, params_bar):
        """Cotangents summed over the axes along which each field was broadcast; a shared context's are added up."""
        reduced = {}
        for key, bar in params_bar.items():
            field = self.declared.get(key)
            reduced[key] = sum_to_shape(bar, getattr(self, key).shape) if isinstance(field, Field) else bar
        return share_context(reduced, sum)

    def at_end(self, side):
        """(component, its side) that meets this value's events first on a side, or None if they meet no component first."""
        return None

    # -- new values from old -----------------------------------------------------------------------------------------

    def replace(self, **changes):
        """A new value with these fields; a nested dictionary reaches into components."""
        if "context" in changes and "context" not in self.declared:
            return self.at(context=changes.pop("context")).replace(**changes)
        unknown = set(changes) - set(self.declared)
        if unknown:
            raise ValueError(f"{type(self).__name__}: no field {sorted(unknown)[0]!r}; it has {list(self.declared)}")
        fields = {key: getattr(self, key) for key in self.declared}
        for key, new in changes.items():
            old, field = fields[key], self.declared[key]
            if isinstance(field, Child) and isinstance(new, dict):
                new = (tuple(c.replace(**new.get(str(i), {})) for i, c in enumerate(old)) if field.many
                       else old.replace(**new))
            fields[key] = new
        return type(self)(**self._weakened(fields, changes))

    def _weakened(self, fields, changes):
        """Fields that were given as Python numbers stay so: they follow the dtype of what replaces their neighbours."""
        if self.dtype is not None:
            return fields
        return {k: v.tolist() if k not in changes and isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
                for k, v in fields.items()}

    def astype(self, dtype):
        """The same value with its real fields in float32 or float64."""
        if np.dtype(dtype) not in FLOATS:
            raise ValueError(f"{type(self).__name__}: dtype must be float32 or float64, not {np.dtype(dtype)}")
        fields = {}
        for key, field in self.declared.items():
            value = getattr(self, key)
            if isinstance(field, Child):
                value = tuple(c.astype(dtype) for c in value) if field.many else value.astype(dtype)
            elif isinstance(field, Field) and not field.constant and value is not None:
                value = value.astype(dtype)
            fields[key] = value
        return type(self)(**fields)

    def at(self, **filled):
        """The value with `context=` and `mask=` filled in, in itself and in every component that declares them."""
        unknown = set(filled) - {"context", "mask"}
        if unknown:
            raise ValueError(f"{type(self).__name__}: at() fills context and mask, not {sorted(unknown)[0]!r}")
        if not any(self._declares(key) for key in filled):
            raise ValueError(f"{type(self).__name__}: neither it nor a component declares {' or '.join(filled)}")
        return self._filled(filled)

    def needs(self, key):
        """Does it, or a component, declare the field `key`, "context" or "mask", which `at` has not filled in?"""
        return key in self.declared and getattr(self, key) is None or any(c.needs(key) for c in self._children())

    def _declares(self, key):
        return key in self.declared or any(c._declares(key) for c in self._children())

    def _filled(self, filled):
        fields = {}
        for key, field in self.declared.items():
            value = getattr(self, key)
            if isinstance(field, Child):
                value = tuple(c._filled(filled) for c in value) if field.many else value._filled(filled)
            fields[key] = filled.get(key, value)
        return type(self)(**fields)

    # -- parameters as one flat vector -------------------------------------------------------------------------------

    def ravel(self):
        """All parameters as one vector, in the order of `params()`."""
        leaves = [leaf.ravel() for _, leaf in flatten(self.params())]
        return np.concatenate(leaves) if leaves else np.zeros(0)

    def unravel(self, vector):
        """The value whose parameters are the entries of `vector`, in the order of `ravel`."""
        return self.replace(**self.unravel_params(vector))

    def unravel_params(self, vector):
        """The nested dictionary, shaped as `params()`, that holds the entries of `vector`."""
        vector = np.asarray(vector)
        leaves = flatten(self.params())
        size = sum(leaf.size for _, leaf in leaves)
        if vector.shape != (size,):
            raise ValueError(f"{type(self).__name__}: a vector of {size} parameters is needed, not shape {vector.shape}")
        ends = np.cumsum([leaf.size for _, leaf in leaves])
        pieces = np.split(vector, ends[:-1]) if leaves else []
        return nest({path: piece.reshape(leaf.shape) for (path, leaf), piece in zip(leaves, pieces)})

    # -- comparison, display, pickling -------------------------------------------------------------------------------

    def equals(self, other) -> bool:
        """Same class and bitwise the same fields."""
        return self._agrees(other, False)

    def same_form(self, other) -> bool:
        """Does another value differ in nothing but the numbers of real fields, as after a step of training?"""
        return self._agrees(other, True)

    def _agrees(self, other, in_form):
        if type(self) is not type(other) or not in_form and self.dtype != other.dtype:
            return False
        for key, field in self.declared.items():
            mine, theirs = getattr(self, key), getattr(other, key)
            if mine is theirs:
                continue
            if isinstance(field, Child):
                mine, theirs = (mine, theirs) if field.many else ((mine,), (theirs,))
                if len(mine) != len(theirs) or not all(a._agrees(b, in_form) for a, b in zip(mine, theirs)):
                    return False
            elif isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray):
                if mine.shape != theirs.shape or mine.dtype != theirs.dtype:
                    return False
                if not (in_form and isinstance(field, Field) and not field.constant) and mine.tobytes() != theirs.tobytes():
                    return False
            elif mine is None or theirs is None or mine != theirs:
                return False
        return True

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={shown(getattr(self, k))}' for k in self.declared)})"

    def __reduce__(self):
        return rebuild, (type(self), self._weakened({k: getattr(self, k) for k in self.declared}, {}))


def rebuild(cls, fields):
    return cls(**fields)


def shown(value):
    if isinstance(value, np.ndarray):
        return f"{value:.6g}" if value.ndim == 0 and value.dtype.kind == "f" else f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple) and value and isinstance(value[0], Value):
        return "[" + ", ".join(map(repr, value)) + "]"
    return repr(value)


def declare(cls):
    """Make `cls` a frozen dataclass from its annotations; fields declared by Field, Child and Plain."""
    declared = {}
    for key in cls.__dict__.get("__annotations__", {}):
        field = cls.__dict__.get(key)
        if isinstance(field, (Field, Child, Plain)):
            declared[key] = field
            optional = isinstance(field, Field) and (field.optional or field.default is not None)
            if optional:                        # the declaration itself stands for what was not given, if None is an answer
                setattr(cls, key, field if field.optional and field.usual else None)
            elif isinstance(field, Plain) and field.default is not dataclasses.MISSING:
                setattr(cls, key, field.default)
            else:
                delattr(cls, key)
    cls.declared = declared
    return dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)


def with_checks(page, methods):
    """The class that users construct: the page with checked methods in place of its own.  The page is its unchecked view."""
    about = {"__doc__": page.__doc__, "__module__": page.__module__, "__qualname__": page.__qualname__}
    page.page = page
    return type(page.__name__, (page,), methods | about)
