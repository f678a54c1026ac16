"""The walk over values: what a value holds, in order of declaration, and new values made from old ones.

A value holds arrays, plain values and components, which are themselves values.  A path names what it holds, as in `params()`:
("net", "layers", "0", "W").  A component that stands in several places is one component: every walk meets it once, at its
first path, and every new value holds the new component in all its places.
"""

from __future__ import annotations

# -- what a value holds -----------------------------------------------------------------------------------------------


def components(value) -> list:
    """[(path, component)] of the value's own components."""
    found = []  # type: list
    for key, declared in value.component_fields.items():
        held = getattr(value, key)
        found += [((key, str(i)), c) for i, c in enumerate(held)] if declared.many else [((key,), held)]
    return found


def walk(value, path=(), met=None):
    """(path, value) of the value itself and of all components below it, each once."""
    met = set() if met is None else met
    if id(value) not in met:
        met.add(id(value))
        yield path, value
        for here, component in components(value):
            yield from walk(component, path + here, met)


def arrays(value) -> dict:
    """{name: array} of the value's own fields that are present."""
    return {key: array for key in value.array_fields if (array := getattr(value, key)) is not None}


def leaves(value) -> list:
    """[(path, owner, field, array)] of all real fields, constants left out."""
    return [((*path, key), owner, owner.declared[key], array) for path, owner in walk(value)
            for key, array in arrays(owner).items() if not owner.declared[key].constant]


def repeated(value) -> list:
    """[(first path, further path)] of the components that stand in several places below a value."""
    first, found = {}, []  # type: dict, list

    def visit(owner, path):
        for here, component in components(owner):
            place = path + here
            if id(component) in first:
                found.append((first[id(component)], place))
            else:
                first[id(component)] = place
                visit(component, place)

    visit(value, ())
    return found


def leaf_at(nested, path):
    """What stands at a path of a nested dictionary, {} if nothing does."""
    for key in path:
        nested = nested.get(key, {}) if isinstance(nested, dict) else {}
    return nested if isinstance(nested, dict) else {}


def at_path(nested, path):
    """What stands at a path in a value or in a nested dictionary."""
    for key in path:
        if isinstance(nested, dict):
            nested = nested[key]
        else:
            nested = nested[int(key)] if isinstance(nested, tuple) else getattr(nested, key)
    return nested


# -- new values from old ----------------------------------------------------------------------------------------------

def bare(cls, **attributes):
    """A value of a class with these attributes and no others, whose methods are the pages' own functions."""
    new = object.__new__(cls)
    new.__dict__.update({"checked": False} | attributes)
    return new


def copied(value, cls=None, **changes):
    """A copy of a value with some of its attributes exchanged, without checks; of another class, if one is given.

    What the value has computed of itself is not handed on, since it may depend on what is exchanged.
    """
    held = {key: one for key, one in vars(value).items() if key not in value.computed}
    return bare(cls or type(value), **({"checked": value.checked} | held | changes))


def mapped(value, exchange, state=None, into=None, also=None, path=(), made=None):
    """A copy of a value, without checks, with `exchange(path, field, array, state)` for each array, constants included.

    `into(value, state)` is the list of the states of its components, by default its own; `also(value, path, state)` holds
    further attributes of the copy, by name.
    """
    made, known = {} if made is None else made, (id(value), state)
    if known in made:
        return made[known]
    new = {key: exchange((*path, key), value.declared[key], array, state) for key, array in arrays(value).items()}
    parts = components(value)
    states = [state] * len(parts) if into is None else into(value, state)
    for (here, component), inner in zip(parts, states):
        component = mapped(component, exchange, inner, into, also, path + here, made)
        new[here[0]] = component if len(here) == 1 else (*new.get(here[0], ()), component)
    made[known] = copied(value, **(new | (also(value, path, state) if also else {})))
    return made[known]


def replaced(value, new, context=None, masks=None):
    """A copy of a value, without checks, with the arrays of {path: array} in place of its own, another context, and other
    masks, {path: mask} as `masks_below` gives them.
    """
    def filled(value, path, _):
        given = {"context": context, "mask": masks and masks[path]}
        roles = {key: field.role for key, field in value.own_fields().items()}
        return {key: given[role] for key, role in roles.items() if role and given[role] is not None}

    return mapped(value, lambda path, field, array, _: new.get(path, array), also=filled)


def remade(value, exchange, path=(), made=None):
    """The value that its class makes from `exchange(path, value)`, {name: new field}; its components are remade first.

    A component whose fields do not change is kept.
    """
    made = {} if made is None else made
    if id(value) in made:
        return made[id(value)]
    new = dict(exchange(path, value))
    for key, declared in value.component_fields.items():
        if key not in new:
            held = getattr(value, key)
            again = tuple(remade(c, exchange, (*path, key, str(i)), made) for i, c in enumerate(held)) if declared.many \
                else remade(held, exchange, (*path, key), made)
            same = all(a is b for a, b in zip(again, held)) if declared.many else again is held
            new |= {} if same else {key: again}
    fields = {key: getattr(value, key) for key in value.declared}
    made[id(value)] = type(value)(**(value.weakened(fields, new) | new)) if new else value
    return made[id(value)]


def with_components(value, new):
    """The value with the components {path: component} in place of its own; itself, if they are its own."""
    if all(new[path] is component for path, component in components(value)):
        return value
    fields = {}
    for (key, *index), component in new.items():
        fields[key] = (*fields.get(key, ()), component) if index else component
    return value.replace(**fields)


def along(f, side, path=()):
    """(path, step, side) of the steps of a map in the order in which an event meets them, on side 0 of z or 1 of x.

    A composition says in `in_turn(side)` to which maps it hands an event; any other map is one step.
    """
    turn = f.in_turn(side)
    if not turn:
        yield path, f, side
    for here, component, way in turn:
        yield from along(component, way, path + here)


# -- nested dictionaries of parameters and cotangents -----------------------------------------------------------------

def flatten(nested, path=()):
    """[(path, array)] of a nested dictionary, in its order."""
    if not isinstance(nested, dict):
        return [(path, nested)]
    return [leaf for key, value in nested.items() for leaf in flatten(value, (*path, key))]


def nest(leaves):
    """The nested dictionary of {path: array}."""
    nested = {}
    for path, leaf in leaves.items():
        level = nested
        for key in path[:-1]:
            level = level.setdefault(key, {})
        level[path[-1]] = leaf
    return nested


def moved(nested, old, new):
    """The nested dictionary with the entry at the path `old` added to the entry at `new`."""
    found = leaf_at(nested, old)
    return exchanged(exchanged(nested, new, added(leaf_at(nested, new), found)), old, {}) if found else nested


def exchanged(nested, path, leaf):
    """The nested dictionary with another leaf at a path."""
    return nested | {path[0]: exchanged(nested[path[0]], path[1:], leaf)} if path else leaf


def added(a, b):
    """The sum of two nested dictionaries of cotangents; a key that one lacks counts as 0."""
    return {key: added(a[key], b[key]) if isinstance(a[key], dict) else a[key] + b[key] for key in a if key in b} | \
           {key: c[key] for c, other in ((a, b), (b, a)) for key in c if key not in other}
