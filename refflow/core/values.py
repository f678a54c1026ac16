"""Values: a frozen set of declared fields: a bijector, a density, a conditioner."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from . import tree
from .arrays import FLOATS, as_floating, locked, sum_to_shape
from .declarations import Child, Field, Plain, bind, size_of
from .printed import printed
from .rules import refuse_beyond
from .tree import flatten, nest

ROLES = ("context", "mask")
# What a page may define anew of the names that every value has; all others are used by the methods of values.
CONTRACT = {"__post_init__", "_validate", "cast", "changed", "definition", "examples", "straight_far_out", "in_turn", "mask_inside",
            "meets_first", "moderate", "own_params", "parameter_batch", "refused", "untrained"}
MADE = {"__annotations__", "__dict__", "__doc__", "__module__", "__weakref__", "computed"}      # by Python, or for each class


class Value:
    """A frozen dataclass of arrays.  `params()` are its real fields as a nested dictionary; everything else follows."""

    declared: dict = {}                     # {name: Field, Child or Plain}, in order; and of these
    array_fields: dict = {}                 # the Fields,
    component_fields: dict = {}             # and the Childs
    letters = "zx"
    shared = ()                             # (first path, further path) of each component that stands in several places
    checked = True                          # False for the copy that pages work on
    untrained: tuple = ("context",)         # real fields that training leaves alone
    examples = None                         # (source) -> (value, event shape of z): how a page with components is drawn
    refused: tuple = ()                     # `Refusal`s: what rules that relate several fields, or components, refuse
    moderate = False                        # is it certified only at moderate events?
    straight_far_out = False                # is it a line far out? Then fewer binades are certified
    textbook = None                         # its equations as they are printed, for one event: a class that is never called
    computed = frozenset()  # type: frozenset  # the names of what it computes of itself once, its cached properties

    def __init_subclass__(cls, **options):
        super().__init_subclass__(**options)
        cls.computed = frozenset(name for base in cls.__mro__ for name, held in vars(base).items()
                                 if isinstance(held, functools.cached_property))

    @classmethod
    def definition(cls, m, event, *given, **fields):
        """The believed equation, in the numbers of m: for a page that does not write it, what its textbook says of an event."""
        return printed(cls, m, event, *given, **fields)

    # -- construction ------------------------------------------------------------------------------------------------

    def __post_init__(self):
        name = type(self).__name__
        for key, field in self.declared.items():
            if isinstance(field, Plain) and field.rule is not None:
                self._set(key, field.rule.checked(name, key, getattr(self, key)))
            elif isinstance(field, Child):
                self._check_components(key, field)
        given = {key: getattr(self, key) for key in self.array_fields}
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
        strong += [c.dtype for c in self.components() if c.dtype is not None]
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
        self._set("dims", dims)
        self._set("dtype", dtype)
        self._set("shared", self._shared())
        self._validate()

    def _shared(self):
        """(first path, further path) of each component that stands in several places below it."""
        if not self.components():
            return ()
        ends = {path: len(path) for path, _ in tree.components(self)}

        def top(path):
            return next(here for here in ends if path[:len(here)] == here)

        return tuple((first, further) for first, further in tree.repeated(self) if top(first) != top(further))

    def _set(self, key, value):
        object.__setattr__(self, key, value)

    def __setattr__(self, key, value):
        raise dataclasses.FrozenInstanceError(f"cannot assign to field {key!r}")

    def __delattr__(self, key):
        raise dataclasses.FrozenInstanceError(f"cannot delete field {key!r}")

    def _check_components(self, key, field):
        held = getattr(self, key)
        parts = tuple(held) if field.many and np.iterable(held) else (held,)
        wrong = [part for part in parts if not isinstance(part, Value)] or [held] * (field.many and not np.iterable(held))
        if wrong:
            wanted = "components, in a tuple or a list" if field.many else "a component: a bijector, density, network or scale"
            raise ValueError(f"{type(self).__name__}: {key} must be {wanted}, not {wrong[0]!r}")
        if field.many:
            self._set(key, parts)

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
                refusal = field.set.refusal(key, value)
                if refusal is not None:
                    raise ValueError(f"{type(self).__name__}: {refusal}")
        try:
            self.parameter_batch
        except ValueError:
            shapes = {k: v.shape for k, v in tree.arrays(self).items()}
            raise ValueError(f"{type(self).__name__}: the leading axes of its fields do not broadcast: {shapes}") from None

    # -- what it holds -----------------------------------------------------------------------------------------------

    def components(self):
        """The components, in the order of the declaration."""
        return [component for _, component in tree.components(self)]

    @functools.cached_property
    def parameter_batch(self):
        """The leading axes that the fields carry, broadcast together."""
        shapes = {array.shape[:array.ndim - len(self.declared[k].shape)] for k, array in tree.arrays(self).items()}
        shapes.update(component.parameter_batch for component in self.components())
        return np.broadcast_shapes(*shapes) if any(shapes) else ()

    def params(self) -> dict:
        """The real fields as a nested dictionary: what has a cotangent, and no mask or other constant.

        A context is a real field: once `at` has filled it in, it stands here, once and last, at the top, though training leaves it
        alone.  A component that stands in several places stands at the first.
        """
        nested = self.own_params(set())
        contexts = self.held("context")
        return nested | {"context": contexts[0]} if contexts else nested

    def own_params(self, met):
        """The same without a context and without the components in `met`; its own components are added to `met`."""
        nested = {}
        for key, declared in self.declared.items():
            value = getattr(self, key)
            if isinstance(declared, Child):
                inner = [self.met_params(c, met) for c in (value if declared.many else (value,))]
                nested[key] = {str(i): params for i, params in enumerate(inner)} if declared.many else inner[0]
            elif isinstance(declared, Field) and not declared.constant and declared.role is None and value is not None:
                nested[key] = value
        return nested

    def met_params(self, component, met):
        """The parameters of a component, nothing if it has been met before."""
        if id(component) in met:
            return {}
        met.add(id(component))
        return component.own_params(met)

    def held(self, role):
        """The arrays of all fields with a role, "context" or "mask", that are present: its own and its components'."""
        found = [getattr(owner, key) for _, owner in tree.walk(self) for key, field in owner.own_fields().items()
                 if field.role == role]
        return [array for array in found if array is not None]

    def reduce(self, params_bar):
        """The cotangents of a pullback in the form of `params()`.

        Each is summed over the axes along which its field was broadcast; the cotangents of a component that stands in
        several places are added.
        """
        reduced, contexts = {}, []
        for key, bar in params_bar.items():
            declared = self.declared.get(key)
            if isinstance(declared, Field):
                bar = sum_to_shape(bar, getattr(self, key).shape)
                if declared.role == "context":
                    contexts.append(bar)
                    continue
            elif isinstance(declared, Child):
                parts = bar if declared.many else {key: bar}
                contexts += [part["context"] for part in parts.values() if "context" in part]
                parts = {i: {k: v for k, v in part.items() if k != "context"} for i, part in parts.items()}
                bar = parts if declared.many else parts[key]
            reduced[key] = bar
        for first, further in self.shared:
            reduced = tree.moved(reduced, further, first)
        return reduced | {"context": sum(contexts)} if contexts else reduced

    def in_turn(self, side):
        """[(path, component, its side)]: the components to which a map hands events of a side, in order.

        The list is empty for a map that is one step.
        """
        return []

    def meets_first(self, side):
        """(component, its side) that meets this value's events first on a side, or None."""
        turn = self.in_turn(side)
        return turn[0][1:] if turn else None

    # -- new values from old -----------------------------------------------------------------------------------------

    def replace(self, **changes):
        """A new value with these fields; a nested dictionary reaches into components.

        ValueError for a field that the value does not have, and for a component that stands in several places, replaced at
        another place than the first.
        """
        if "context" in changes and not any(field.role == "context" for field in self.own_fields().values()):
            return self.at(context=changes.pop("context")).replace(**changes)
        for first, further in tree.repeated(self):
            if tree.leaf_at(changes, further):
                raise ValueError(f"{type(self).__name__}: {'.'.join(further)} is {'.'.join(first)}, where it is to be replaced")
        return tree.remade(self, lambda path, value: value.changed(tree.leaf_at(changes, path)))

    def own_fields(self):
        """{name: Field} of its array fields."""
        return self.array_fields

    def changed(self, changes) -> dict:
        """The new values of its own fields, from a dictionary that may also reach into components."""
        unknown = set(changes) - set(self.declared)
        if unknown:
            raise ValueError(f"{type(self).__name__}: no field {sorted(unknown)[0]!r}; it has {list(self.declared)}")
        return {key: new for key, new in changes.items()
                if not (isinstance(self.declared[key], Child) and isinstance(new, dict))}

    def weakened(self, fields, changes):
        """Fields given as Python numbers remain Python numbers: they follow the dtype of what replaces their neighbours."""
        if self.dtype is not None:
            return fields
        return {k: v.tolist() if k not in changes and isinstance(v, np.ndarray) and v.dtype.kind == "f" else v
                for k, v in fields.items()}

    def astype(self, dtype):
        """The same value with its real fields in float32 or float64."""
        if np.dtype(dtype) not in FLOATS:
            raise ValueError(f"{type(self).__name__}: dtype must be float32 or float64, not {np.dtype(dtype)}")
        return self if self.dtype == dtype else tree.remade(self, lambda path, value: value.cast(np.dtype(dtype)))

    def cast(self, dtype) -> dict:
        """Its own real fields in another precision; a page whose constraint rounding would break overrides it."""
        return {key: array.astype(dtype) for key, array in tree.arrays(self).items() if not self.declared[key].constant}

    def unchecked(self, dtype):
        """A copy in `dtype`, components included, whose methods are the pages' own functions, without checks.

        The copy that holds the same arrays is made once.
        """
        own = self.dtype or np.dtype(np.float64)
        return self.unchecked_copy if dtype == own else self.unchecked_in(np.dtype(dtype))

    @functools.cached_property
    def unchecked_copy(self):
        """The unchecked copy in its own dtype."""
        return self.unchecked_in(self.dtype or np.dtype(np.float64))

    def unchecked_in(self, dtype):
        """A new unchecked copy in a dtype.  ValueError for a plain constant that the dtype cannot hold."""
        for _, owner in tree.walk(self) if dtype != np.float64 else ():
            for key, declared in owner.declared.items():
                if isinstance(declared, Plain):
                    refuse_beyond(type(owner).__name__, key, getattr(owner, key), dtype)
        return tree.mapped(self, lambda path, field, array, _: array if field.constant else array.astype(dtype, copy=False),
                           also=lambda value, path, _: {"checked": False, "dtype": dtype})

    def at(self, **filled):
        """The value with `context=` and `mask=` filled in, in itself and in every component, by the roles of their fields.

        A component gets the mask that `mask_inside` of what holds it gives.
        """
        unknown = set(filled) - set(ROLES)
        if unknown:
            raise ValueError(f"{type(self).__name__}: at() fills context and mask, not {sorted(unknown)[0]!r}")
        if not any(field.role in filled for _, owner in tree.walk(self) for field in owner.own_fields().values()):
            raise ValueError(f"{type(self).__name__}: neither it nor a component declares {' or '.join(filled)}")
        masks = self.masks_below(filled["mask"]) if "mask" in filled else {}

        def fields(path, owner):
            given = {key: field.role for key, field in owner.own_fields().items() if field.role in filled}
            return {key: masks[path] if role == "mask" else filled[role] for key, role in given.items()}

        return tree.remade(self, fields)

    def mask_inside(self, mask):
        """The mask (*batch, T) that its components get where it gets `mask`; None if they meet single positions."""
        return mask

    def masks_below(self, mask):
        """{path: the mask at which a value and each of its components stand}."""
        masks = {(): mask if mask is None else np.asarray(mask)}
        for path, owner in tree.walk(self):
            inner = None if masks[path] is None else owner.mask_inside(masks[path])
            masks |= {path + here: inner for here, _ in tree.components(owner)}
        return masks

    def needs(self, role):
        """Does it, or a component, declare a field with the role "context" or "mask" that `at` has not yet filled in?"""
        return any(field.role == role and getattr(owner, key) is None
                   for _, owner in tree.walk(self) for key, field in owner.own_fields().items())

    # -- parameters as one flat vector -------------------------------------------------------------------------------

    def ravel(self):
        """All of `params()` as one vector, in their order; a context that `at` has filled in comes last."""
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
        """Does another value differ only in the numbers of real fields, as after a step of training?"""
        return self._agrees(other, True)

    def _agrees(self, other, in_form):
        if type(self) is not type(other) or not in_form and self.dtype != other.dtype:
            return False
        mine, theirs = tree.components(self), tree.components(other)
        if [path for path, _ in mine] != [path for path, _ in theirs]:
            return False
        return (all(self._agrees_in(other, key, in_form) for key, declared in self.declared.items()
                    if not isinstance(declared, Child))
                and all(a is b or a._agrees(b, in_form) for (_, a), (_, b) in zip(mine, theirs)))

    def _agrees_in(self, other, key, in_form):
        """Does a field agree in both, in value or in form?"""
        mine, theirs, declared = getattr(self, key), getattr(other, key), self.declared[key]
        if mine is theirs or not (isinstance(mine, np.ndarray) and isinstance(theirs, np.ndarray)):
            return mine is theirs or mine is not None and theirs is not None and mine == theirs
        free = in_form and isinstance(declared, Field) and not declared.constant
        return mine.shape == theirs.shape and mine.dtype == theirs.dtype and (free or mine.tobytes() == theirs.tobytes())

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={shown(getattr(self, k))}' for k in self.declared)})"

    def __reduce__(self):
        return rebuild, (type(self), self.weakened({k: getattr(self, k) for k in self.declared}, {}))


def rebuild(cls, fields):
    return cls(**fields)


def shown(value):
    if isinstance(value, np.ndarray):
        return f"{value:.6g}" if value.ndim == 0 and value.dtype.kind == "f" else f"{value.dtype}{list(value.shape)}"
    if isinstance(value, tuple) and value and isinstance(value[0], Value):
        return "[" + ", ".join(map(repr, value)) + "]"
    return repr(value)


def declare(cls):
    """Make `cls` a frozen dataclass from its annotations; fields declared by Field, Child and Plain.

    Raises TypeError if it replaces a name that the methods of values use.
    """
    replaced = sorted(name for name in set(vars(cls)) & set(vars(Value)) - CONTRACT - MADE if not name.startswith("__"))
    if replaced:
        raise TypeError(f"{cls.__name__}: {replaced[0]} is a name that every value has and uses; choose another one")
    declared = {}
    for key in cls.__dict__.get("__annotations__", {}):
        field = cls.__dict__.get(key)
        if isinstance(field, (Field, Child, Plain)):
            declared[key] = field
            optional = isinstance(field, Field) and (field.optional or field.default is not None)
            if optional:                        # the declaration itself stands for an omitted field, since None removes it
                setattr(cls, key, field if field.optional and field.usual else None)
            elif isinstance(field, Plain) and field.default is not dataclasses.MISSING:
                setattr(cls, key, field.default)
            else:
                delattr(cls, key)
    cls.declared = declared
    cls.array_fields = {key: field for key, field in declared.items() if isinstance(field, Field)}
    cls.component_fields = {key: field for key, field in declared.items() if isinstance(field, Child)}
    return dataclasses.dataclass(frozen=True, eq=False, repr=False)(cls)
