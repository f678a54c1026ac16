"""The schemas of messages and of files of vectors, and the check of JSON values against them.

They ship as JSON Schema, draft 2020-12, for validators of every language.  They use only the few keywords of it that the check
below understands, which a test asserts.
"""

from __future__ import annotations

import functools
import json
import re
from pathlib import Path

SCHEMAS = Path(__file__).parents[1] / "schemas"
TYPES = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "null": type(None)}
WORDS = {"$schema", "$defs", "title", "description"}        # which only tell


@functools.cache
def schema(name) -> dict:
    """A schema that ships with refflow: "protocol" or "vectors"."""
    return json.loads((SCHEMAS / f"{name}.json").read_text(encoding="utf-8"))


def violation(value, name, definition) -> str | None:
    """Where and how a JSON value breaks a definition of a schema, in words; None if it keeps it."""
    root = schema(name)
    return broken(value, root["$defs"][definition], root, "")


def broken(value, part, root, where):
    """The first violation of a part of a schema by the value at the path `where`."""
    found = (check(value, part[keyword], part, root, where) for keyword, check in KEYWORDS.items() if keyword in part)
    return next((violated for violated in found if violated is not None), None)


def says(where, text):
    return f"{where.removeprefix('.') or 'the message'} {text}"


def shown(value):
    """The beginning of a value."""
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


def first_line(told):
    """The first line of a text, or of an exception, behind the name of its class."""
    text = f"{type(told).__name__}: {told}" if isinstance(told, Exception) else told
    return (text.strip().splitlines() or [""])[0]


def resolved(part, root):
    return root["$defs"][part["$ref"].removeprefix("#/$defs/")] if "$ref" in part else part


def follow(value, demand, part, root, where):
    return broken(value, resolved(part, root), root, where)


def any_of(value, demand, part, root, where):
    """If none is kept, the violation of the first whose required fields are all there, or of the first."""
    found = [broken(value, one, root, where) for one in demand]
    meant = [required(value, resolved(one, root).get("required", []), one, root, where) for one in demand] \
        if isinstance(value, dict) else found
    return None if None in found else found[meant.index(None) if None in meant else 0]


def of_type(value, demand, part, root, where):
    names = [demand] if isinstance(demand, str) else demand
    if any(isinstance(value, TYPES[n]) and (n != "integer" or not isinstance(value, bool)) for n in names):
        return None
    return says(where, f"must be of type {' or '.join(names)}, not {shown(value)}")


def constant(value, demand, part, root, where):
    return None if value == demand else says(where, f"must be {shown(demand)}, not {shown(value)}")


def one_of(value, demand, part, root, where):
    return None if value in demand else says(where, f"must be one of {', '.join(demand)}, not {shown(value)}")


def pattern(value, demand, part, root, where):
    if not isinstance(value, str) or re.fullmatch(demand, value):
        return None
    return says(where, f"must match {demand}, not {shown(value)}")


def minimum(value, demand, part, root, where):
    return None if value >= demand else says(where, f"must be at least {demand}, not {shown(value)}")


def properties(value, demand, part, root, where):
    kept = (broken(value[key], one, root, f"{where}.{key}") for key, one in demand.items() if key in value)
    return next((found for found in kept if found is not None), None)


def required(value, demand, part, root, where):
    missing = [key for key in demand if key not in value]
    return says(where, f"lacks the field {missing[0]!r}") if missing else None


def others(value, demand, part, root, where):
    rest = [key for key in value if key not in part.get("properties", {})]
    if demand is False:
        return says(where, f"has an unknown field {rest[0]!r}") if rest else None
    kept = (broken(value[key], demand, root, f"{where}.{key}") for key in rest)
    return next((found for found in kept if found is not None), None)


def items(value, demand, part, root, where):
    kept = (broken(entry, demand, root, f"{where}[{i}]") for i, entry in enumerate(value))
    return next((found for found in kept if found is not None), None)


KEYWORDS = {"type": of_type, "const": constant, "enum": one_of, "pattern": pattern, "minimum": minimum,          # in this order
            "properties": properties, "required": required, "additionalProperties": others, "items": items, "$ref": follow,
            "anyOf": any_of}
