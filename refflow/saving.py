"""Flows and bijectors as files.

    save(flow, "flow.npz")      load("flow.npz")

Two forms of one document, {"schema", "refflow", "about", "value", "arrays", "checksum"}.  `about` is the caller's note, which
`about(path)` reads; `arrays` names the arrays that the caller stores with the value; the checksum is the SHA-256 of everything
else, so that a file with a changed bit is refused.  A value is {"class", "weak", "fields"}, with its class and its fields by
name, or {"same": path} if it stands there for a second time.  A .json file holds arrays as {"dtype", "shape", "values"}, with
floats in hexadecimal; a .npz file is a zip archive with the document as `refflow.json` and one .npy entry for each array, named
by its path.  Nothing is pickled, and only known classes are built: a class is looked up among the classes registered by
refflow, or by `@bijector` in the user's code, and its constructor checks its arguments as for any other caller.

Loading gives the same bits back: `load(path).equals(flow)`.  A field that the file lacks takes the default that its class
declares, so that a file stays readable after its class has gained a field.  Documents of earlier schemas are translated
into the present schema before they are read (`UPGRADES`).
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import secrets
import socket
import stat
import zipfile
from collections.abc import Callable
from dataclasses import MISSING
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .core import REGISTRY
from .core.declarations import Child, Field, Plain
from .core.values import Value
from .core.version import VERSION
from .maps import load_all
from .models import GlowTTS

SCHEMA, EARLIER = "refflow/flow/3", ("refflow/flow/2", "refflow/flow/1")
KEYS: dict[str, tuple[str, ...]] = {SCHEMA: ("schema", "refflow", "about", "value", "arrays", "checksum")}
KEYS |= dict.fromkeys(EARLIER, ("schema", "refflow", "about", "value"))
DOCUMENT = "refflow.json"
DTYPES = ("float32", "float64", "bool", "int64")
HEADER = re.compile(rb"\x93NUMPY\x01\x00..\{'descr': '(<f4|<f8|\|b1|<i8)', 'fortran_order': False, "
                    rb"'shape': \(([0-9, ]*)\), \} *\n", re.DOTALL)
OWN = tuple(f"{__package__}.{package}." for package in ("core", "maps"))
DEEPEST = 200                           # components inside components; Python's own limit is about 1000
EPOCH = (1980, 1, 1, 0, 0, 0)           # so that the same flow gives the same file
BESIDE = "beside/"                      # prefix of the caller's arrays; names of the value's arrays have no stroke
MARK = ".refflow-"
WRITER = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname()[:40])
LEFT = re.compile(rf"\..*{re.escape(MARK + WRITER)}-(\d+)-[0-9a-f]{{8}}\.tmp")


def save(value: Any, path: str | PathLike[str], about: Any = None, arrays: dict[str, NDArray[Any]] | None = None,
         replace: bool = True, ready: Callable[[Path], object] | None = None) -> None:
    """Write a flow, bijector, density or conditioner to a .npz or .json file, replacing an existing file.

    `about`: anything that JSON can hold (names of columns, how the flow was trained), and `arrays`: {name: array}, only for a
    .npz file, are stored with the value.  The file is never incomplete: it is written under a temporary name in the same
    directory and then renamed; `ready(path)`, if given, is called with the file under that name.  With `replace` False an existing
    file is left unchanged: FileExistsError.  ValueError for another suffix, and for a value that contains something that cannot be
    stored (a user's own base object).
    """
    if not isinstance(value, Value):
        raise ValueError(f"save: a flow, bijector, density or conditioner is needed, not {type(value).__name__}")
    path = Path(path)
    stored: dict[str, NDArray[Any]] | None = {} if suffix(path) == ".npz" else None
    if arrays and stored is None:
        raise ValueError(f"save: arrays stored with the value need a .npz file; {path}")
    beside = {f"{BESIDE}{name}": array for name, array in (arrays or {}).items()}
    document = {"schema": SCHEMA, "refflow": VERSION, "about": about, "value": written(value, "", stored),
                "arrays": list(arrays or {})}
    document = json.loads(json.dumps(document, allow_nan=False))         # in the form in which it will be read
    document["checksum"] = checksum(document, (stored or {}) | beside)
    text = json.dumps(document, indent=1, allow_nan=False)
    content = text.encode() + b"\n" if stored is None else archive(text, stored | beside)
    write_atomically(path, content, replace, ready)


def load(path: str | PathLike[str]) -> Any:
    """The value in a file written by `save`.

    ValueError, naming the file and the rule, for anything else: another schema, an unknown class, entries that are missing,
    superfluous or damaged, and fields that the class refuses.
    """
    return read(path)[0]


def about(path: str | PathLike[str]) -> Any:
    """The note that `save` was given with the value in a file; ValueError as for `load`."""
    return read(path)[1]


def read(path: str | PathLike[str]) -> tuple[Any, Any]:
    """(value, note) of a file."""
    return read_all(path)[:2]


def read_all(path: str | PathLike[str]) -> tuple[Any, Any, dict[str, NDArray[Any]]]:
    """(value, note, arrays stored with the value) of a file."""
    path = Path(path)
    form = suffix(path)
    raw = path.read_bytes()
    try:
        text, arrays = (raw, None) if form == ".json" else unpacked(raw)
        document = json.loads(text, parse_constant=refuse_constant)
        checked_document(document, arrays or {})
        beside = {name: (arrays or {}).pop(f"{BESIDE}{name}") for name in document.get("arrays", ())}
        value = read_document(document, arrays)
        if arrays:
            raise ValueError(f"the array {min(arrays)!r} belongs to no value")
        return value, document["about"], beside
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        raise ValueError(f"load: {path}: {error}") from None


def checksum(document: dict[str, Any], arrays: dict[str, NDArray[Any]]) -> str:
    """SHA-256, in hexadecimal, of a document without its checksum and of its arrays, in the order of their names."""
    content = {key: part for key, part in document.items() if key != "checksum"}
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype.name} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def suffix(path):
    if path.suffix not in (".npz", ".json"):
        raise ValueError(f"the name of a flow's file must end in .npz or .json; {path}")
    return path.suffix


def write_atomically(path: str | PathLike[str], content: bytes, replace: bool = True,
                     ready: Callable[[Path], object] | None = None) -> None:
    """Write a file completely or not at all, with the mode of the file that it replaces.

    `ready(path)`, if given, is called with the complete file under its temporary name, before it is renamed.
    FileExistsError if `path` exists and is not a regular file and, without `replace`, if it exists at all.
    """
    path = Path(os.path.realpath(path))
    remove_abandoned(path.parent)
    beside = path.with_name(f".{path.name[:50]}{MARK}{WRITER}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(beside, "xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if ready is not None:
            ready(beside)
        if replace:
            take_mode(path, beside)
            os.replace(beside, path)
        else:
            name_exclusively(beside, path)
    except OSError as error:
        if error.filename in (None, str(beside)):                   # Python gives none for a full disk
            error.filename = str(path)
        raise
    finally:
        with contextlib.suppress(FileNotFoundError):
            beside.unlink()


def take_mode(path, new):
    """Give a new file the mode of the file that it will replace."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "it is not a regular file", str(path))
    new.chmod(stat.S_IMODE(mode))


def name_exclusively(new, path):
    """Give a new file the name `path`, which must not exist."""
    try:
        os.link(new, path)
    except FileExistsError:
        raise
    except OSError:                             # a file system without links: an empty file reserves the name meanwhile
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        os.replace(new, path)


def remove_abandoned(directory):
    """Remove half-written files that killed processes of this machine have left."""
    if os.name != "posix":
        return
    for found in directory.glob(f".*{MARK}{WRITER}-*.tmp"):
        pid = LEFT.fullmatch(found.name)
        if pid and is_gone(int(pid[1])) and found.is_file() and not found.is_symlink():
            with contextlib.suppress(OSError):
                found.unlink()


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:                             # somebody else's
        return False
    return False


# -- classes ----------------------------------------------------------------------------------------------------------

def below(cls):
    for sub in cls.__subclasses__():
        yield sub
        yield from below(sub)


def declares(cls):
    """Is it a class that users construct, rather than a base class?"""
    return "declared" in vars(cls)


def known_classes() -> dict:
    """{name: class}: the register, and what is not registered: the parts of pages, and the one model that is not a flow."""
    load_all()
    own = {cls.__name__: cls for cls in below(Value) if cls.__module__.startswith(OWN) and declares(cls)}
    return REGISTRY | own | {"GlowTTS": GlowTTS}


def class_named(name, path):
    found = known_classes().get(name) if isinstance(name, str) else None
    if found is None:
        raise ValueError(f"{path or 'value'}: there is no class {name!r}")
    return found


# -- writing ----------------------------------------------------------------------------------------------------------

def joined(path, key):
    return f"{path}.{key}" if path else str(key)


def written(value, path, arrays, met=None):
    """A value as stored in the document; if `arrays` is given, arrays are put there, by path.

    A value in `met`, {id: path}, has already been written and is named by its first path.
    """
    met, name = {} if met is None else met, type(value).__name__
    if id(value) in met:
        return {"same": met[id(value)]}
    met[id(value)] = path
    if known_classes().get(name) is not type(value):
        raise ValueError(f"save: {path or 'the value'} is a {name}, which is not registered")
    fields = {}
    for key, field in value.declared.items():
        held, here = getattr(value, key), joined(path, key)
        if isinstance(field, Child):
            fields[key] = ([written(c, joined(here, i), arrays, met) for i, c in enumerate(held)] if field.many
                           else written(held, here, arrays, met))
        elif isinstance(field, Field):
            fields[key] = None if held is None else written_array(held, here, arrays)
        else:
            fields[key] = written_plain(held, here)
    return {"class": name, "weak": value.dtype is None, "fields": fields}


def written_array(array, path, arrays):
    array = array.astype(np.int64) if array.dtype.kind == "i" else array
    if arrays is not None:
        arrays[path] = array
        return {"array": path}
    values = [x.hex() for x in array.ravel().tolist()] if array.dtype.kind == "f" else array.ravel().tolist()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "values": values}


def written_plain(held, path):
    held = held.item() if isinstance(held, np.generic) else held
    if held is None or isinstance(held, (bool, int, str)):
        return held
    if isinstance(held, float):
        return {"float": held.hex()}
    if isinstance(held, (tuple, list)):
        return {type(held).__name__: [written_plain(part, path) for part in held]}
    if isinstance(held, type) and known_classes().get(held.__name__) is held:
        return {"type": held.__name__}
    raise ValueError(f"save: {path} is {held!r}, which cannot be saved")


def archive(text, arrays):
    """The bytes of a .npz file: nothing compressed, every entry with the same date."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as file:
        file.writestr(zipfile.ZipInfo(DOCUMENT, EPOCH), text)
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array.astype(array.dtype.newbyteorder("<")), allow_pickle=False)
            file.writestr(zipfile.ZipInfo(f"{name}.npy", EPOCH), entry.getvalue())
    return out.getvalue()


# -- reading ----------------------------------------------------------------------------------------------------------

def refuse_constant(name):
    raise ValueError(f"{name} is not a JSON number")


def unpacked(raw):
    """(text of the document, {name: array}) of a .npz file."""
    text, arrays = None, {}
    for filename, content in entries_of(raw):
        name = filename.removesuffix(".npy")
        if filename == DOCUMENT and text is None:
            text = content
        elif filename.endswith(".npy") and name not in arrays:
            arrays[name] = read_npy(content, filename)
        else:
            raise ValueError(f"the entry {filename!r} does not belong to a flow")
    if text is None:
        raise ValueError(f"there is no entry {DOCUMENT}: it is not the file of a flow")
    return text, arrays


def entries_of(raw):
    """[(name, content)] of a zip archive whose entries are stored uncompressed."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as file:
            packed = [info for info in file.infolist() if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1]
            if not packed:
                return [(info.filename, file.read(info)) for info in file.infolist()]
    except Exception as error:                  # zipfile raises errors of many kinds for a damaged archive
        raise ValueError(f"it is not a .npz file, or a damaged one: {error}") from None
    raise ValueError(f"the entry {packed[0].filename!r} is compressed or encrypted")


def read_npy(raw, name):
    """An array in the one form that `save` writes; its header must agree with the bytes that follow."""
    header = HEADER.match(raw)
    if header is None:
        raise ValueError(f"{name}: it is not a .npy array of {', '.join(DTYPES)}")
    dtype, shape = np.dtype(header[1].decode()), tuple(int(n) for n in header[2].split(b",") if n.strip())
    if math.prod(shape) * dtype.itemsize != len(raw) - header.end():
        raise ValueError(f"{name}: its size does not match its shape {shape}")
    return np.frombuffer(raw, dtype, offset=header.end()).reshape(shape).astype(dtype.newbyteorder("="))


def with_keys(given, keys, path):
    if not isinstance(given, dict) or set(given) != set(keys):
        raise ValueError(f"{path or 'value'}: an object with {', '.join(map(repr, keys))} is needed")
    return given


def checked_document(document, arrays):
    """Refuse another schema, keys that do not belong to the schema, and a wrong checksum."""
    found = document.get("schema") if isinstance(document, dict) else None
    if found not in KEYS:
        raise ValueError(f"its schema is {found!r}; this refflow reads {', '.join(map(repr, KEYS))}")
    with_keys(document, KEYS[found], "the document")
    if found != SCHEMA:
        return
    if document["checksum"] != checksum(document, arrays):
        raise ValueError("its checksum does not match its content: the file is damaged, or was changed by hand")
    names = document["arrays"]
    named = isinstance(names, list) and all(isinstance(name, str) and f"{BESIDE}{name}" in arrays for name in names)
    if not named or len(set(names)) != len(names):
        raise ValueError("the document: arrays must name exactly the arrays stored with the value")


def read_document(document, arrays):
    value = document["value"]
    return read_value(upgraded(value) if document["schema"] == EARLIER[-1] else value, "", arrays, 0)


def read_value(given, path, arrays, depth, made=None):
    """The value of a document; `made`, {path: component}, holds the components that other places may refer to."""
    made = {} if made is None else made
    if isinstance(given, dict) and set(given) == {"same"}:
        if given["same"] not in made:
            raise ValueError(f"{path or 'value'}: there is no component {given['same']!r} before it")
        return made[given["same"]]
    given = with_keys(given, ("class", "weak", "fields"), path)
    cls = class_named(given["class"], path)
    if depth > DEEPEST:
        raise ValueError(f"components are nested more than {DEEPEST} deep")
    if not isinstance(given["weak"], bool):
        raise ValueError(f"{joined(path, 'weak')}: true or false is needed")
    fields = fields_of(cls, given["fields"], path)
    new = {key: read_field(cls.declared[key], part, joined(path, key), arrays, given["weak"], depth, made)
           for key, part in fields.items()}
    try:
        value = cls(**new)
    except (ValueError, TypeError, AttributeError, IndexError, KeyError) as error:  # parts that do not fit
        raise ValueError(f"{path or 'value'}: {error}") from None
    if (value.dtype is None) != given["weak"]:
        raise ValueError(f"{joined(path, 'weak')}: it says {given['weak']}, its fields do not")
    made[path] = value
    return value


def fields_of(cls, given, path):
    """The fields that a file must hold for a class: all declared ones, except those with a default."""
    where = path or "value"
    if not isinstance(given, dict):
        raise ValueError(f"{where}: fields must be an object")
    unknown = [key for key in given if key not in cls.declared]
    missing = [key for key, field in cls.declared.items() if key not in given and not has_default(field)]
    if unknown or missing:
        what = f"has no field {unknown[0]!r}" if unknown else f"needs the field {missing[0]!r}, which is not there"
        raise ValueError(f"{where}: {cls.__name__} {what}")
    return given


def has_default(field):
    """Can a class be constructed without this field?"""
    if isinstance(field, Plain):
        return field.default is not MISSING
    return isinstance(field, Field) and (field.optional or field.default is not None)


def read_field(field, given, path, arrays, weak, depth, made):
    if isinstance(field, Child):
        if not field.many:
            return read_value(given, path, arrays, depth + 1, made)
        if not isinstance(given, list):
            raise ValueError(f"{path}: a list is needed")
        return tuple(read_value(part, joined(path, i), arrays, depth + 1, made) for i, part in enumerate(given))
    if isinstance(field, Field):
        if given is None:
            return None
        array = read_array(given, path, arrays)
        if not field.constant and array.dtype.kind != "f":
            raise ValueError(f"{path}: it must be float32 or float64, not {array.dtype}")
        return weakened(array) if weak and array.dtype.kind == "f" and not field.constant else array
    return read_plain(given, path)


def weakened(array):
    """Python numbers, which take the dtype of their neighbours; if there are no neighbours, integers."""
    return array.tolist() if array.size else array.astype(np.int64)


def read_array(given, path, arrays):
    if arrays is not None:
        name = with_keys(given, ("array",), path)["array"]
        if not isinstance(name, str) or name not in arrays:
            raise ValueError(f"{path}: there is no array {name!r}")
        return arrays.pop(name)
    given = with_keys(given, ("dtype", "shape", "values"), path)
    dtype, shape, values = given["dtype"], given["shape"], given["values"]
    right_shape = isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape)
    if dtype not in DTYPES or not right_shape or not isinstance(values, list) or math.prod(shape) != len(values):
        raise ValueError(f"{path}: dtype, shape and values do not make an array")
    wanted = {"b": bool, "i": int, "f": str}[np.dtype(dtype).kind]
    if any(type(v) is not wanted for v in values):
        raise ValueError(f"{path}: the values are not all {'hexadecimal strings' if wanted is str else wanted.__name__}")
    exact = [float.fromhex(v) for v in values] if wanted is str else values
    with np.errstate(over="ignore"):
        array = np.array(exact, dtype).reshape(shape)
    if wanted is str and array.ravel().tolist() != exact and not np.isnan(array).any():
        raise ValueError(f"{path}: a value is not a {dtype}")
    return array


def read_plain(given, path):
    if given is None or isinstance(given, (bool, int, str)):
        return given
    kind, inner = next(iter(given.items())) if isinstance(given, dict) and len(given) == 1 else (None, None)
    if kind == "float" and isinstance(inner, str):
        return float.fromhex(inner)
    if kind in ("tuple", "list") and isinstance(inner, list):
        return {"tuple": tuple, "list": list}[kind](read_plain(part, path) for part in inner)
    if kind == "type":
        return class_named(inner, path)
    raise ValueError(f"{path}: {given!r} is not a plain value")


# -- earlier schemas ---------------------------------------------------------------------------------------

def upgraded(given):
    """A document of schema 1 translated into the present schema, component by component, from the inside out."""
    if isinstance(given, list):
        return [upgraded(part) for part in given]
    if not isinstance(given, dict):
        return given
    given = {key: upgraded(part) for key, part in given.items()}
    upgrade = UPGRADES.get(given["class"]) if isinstance(given.get("class"), str) else None
    return upgrade(given) if upgrade and isinstance(given.get("fields"), dict) else given


def with_fields(given, fields):
    return {**given, "fields": fields}


def with_passes(given):
    """The split of a coupling was called `mask`."""
    return with_fields(given, {"passes" if key == "mask" else key: part for key, part in given["fields"].items()})


def without_record(given):
    """Training used to keep its notes in the normalisation by a batch's statistics."""
    return with_fields(given, {key: part for key, part in given["fields"].items() if key not in ("record", "key")})


def of_family(given):
    """An affine coupling with its own scale, order or layout, unlike the paper's, is now a `Coupling`."""
    given = with_passes(given)
    fields = dict(given["fields"])
    options = {key: fields.pop(key, usual) for key, usual in AFFINE.items()}
    scale = fields.pop("scale", None)
    if options == AFFINE and scale == EXPONENTIAL:
        return with_fields(given, fields)
    weak = isinstance(scale, dict) and scale.get("weak")
    located = {"class": "LocationScale", "weak": weak, "fields": {"scale": scale, "order": options["order"]}}
    elementwise = {"type": "ScaledShift" if options["shift_first"] else "ScaledAffine"}
    family = {"class": "Family", "weak": weak, "fields": {"bijector": elementwise, "map": located}}
    return {**given, "class": "Coupling", "fields": {**fields, "family": family, "layout": options["layout"]}}


AFFINE = {"order": {"tuple": ["scale", "shift"]}, "layout": "halves", "shift_first": False}
EXPONENTIAL = {"class": "ExpScale", "weak": True, "fields": {"offset": {"float": "0x0.0p+0"}}}
UPGRADES = {"AdditiveCoupling": with_passes, "AffineCoupling": of_family, "VolumePreservingCoupling": with_passes,
            "Coupling": with_passes, "MaskedInput": with_passes, "BatchStatisticsNorm": without_record}
