"""refflow truth NAME --z VALUE: what a page's definition gives there, to 50 digits, beside the page's own answers.

A page of any kind takes its parameters as options of their names, or from a file; a value with components comes from a file
that `refflow.save` has written.  Numbers are rounded to floats first: the truth is that of the float.

refflow truth FLOW.npz --x ROWS.csv prints the true log-density of each row beside the flow's own.  It also prints the true log-det of
each stage, at the float that the stage gets.  An event z of a flow's file is that of its bijector.

Exit status: 0 done; 2 could not run, or nothing has a truth within reach; 130 interrupted.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np

from ..core import Flow, Inverse, tree
from ..core.declarations import Child, Plain
from ..core.registry import REGISTRY, has_components
from ..maps import load_all
from ..oracle import CannotRun
from ..oracle.points.pages import page_named, spelled
from ..oracle.points.parameters import field_at, parameters_in
from ..report import DTYPES, aligned, json_text, number, parameters
from .files import TABLES, is_npy, read_npy, read_saved
from .options import number_that
from .rows import Rows
from .show import of_another_kind

SCHEMA = "refflow/truth/1"
MOST = 50                               # digits that are proved
LOG_DETS = ("log_det", "inverse_log_det")
EVENTS = ("a number", "a vector", "a matrix, or the channels of a sequence", "an image")         # by their number of axes
NUMBERS = "a number, nested lists such as [1, 2.5] of numbers of one length, or a file of them"
UNKNOWN = "not within reach"
HEAD = ("", "truth", "the page", "units of error")

digit_count = number_that(int, lambda n: 1 <= n <= MOST, f"count of digits, 1 to {MOST}")


def add_command(commands):
    one = commands.add_parser("truth", help="what a page's definition gives at one point, to 50 digits", prepare=prepared,
                              allow_abbrev=False, description=(
        "What a page's definition gives at one point, to 50 digits, beside the page's own answers with their errors in units of "
        "rounding.  VALUE is a number, [nested lists] of numbers, or a .npy or .json file that holds them.  Needs python-flint: "
        'pip install "refflow[validation]".  `refflow truth NAME --help` lists the parameters of a page.'))
    one.add_argument("name", metavar="NAME", help="a page of any kind, or a file that refflow.save has written")
    event = one.add_mutually_exclusive_group(required=True)
    event.add_argument("--z", metavar="VALUE", help="the event of the forward map, of a density, a scale or a network")
    event.add_argument("--x", metavar="VALUE", help="the event of the inverse map")
    one.add_argument("--log-det", action="store_true", help="the log-det alone")
    one.add_argument("--digits", type=digit_count, default=MOST, metavar="N", help=f"significant digits ({MOST})")
    one.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], help=f"of event, parameters and answers ({DTYPES[0]})")
    one.add_argument("--parameters", metavar="FILE", help="parameters, {field: value} as .json, or arrays by name as .npz")
    one.add_argument("--json", action="store_true", help="the report as JSON")
    one.set_defaults(run=run, fields=[])


def prepared(parser, arguments):
    """The arguments, once the parser has an option for each field of the page that they name."""
    load_all()
    page = next((REGISTRY[spelled(one)] for one in arguments if spelled(one) in REGISTRY), None)
    group = parser.add_argument_group(f"parameters of {page.__name__}") if page and page.declared else None
    for key, shape, rule, default in parameters(page) if group else ():
        if not isinstance(page.declared[key], Child):
            said = " ".join(filter(None, (shape, rule, f"({default})" if default else "")))
            group.add_argument(*dict.fromkeys((f"--{key.replace('_', '-')}", f"--{key}")), dest="fields", action="append",
                               type=lambda text, key=key: (key, text), metavar="VALUE", help=said.replace("%", "%%"))
    return joined(arguments)


def joined(arguments):
    """The arguments, with a negative number after an option made part of it: argparse takes -1e-9 for an option."""
    found = [""]
    for one in arguments:
        if found[-1].startswith("--") and "=" not in found[-1] and one.startswith("-") and isinstance(read(one), (int, float)):
            found[-1] += f"={one}"
        else:
            found.append(one)
    return found[1:]


def run(options):
    try:
        from ..truth.answers import answers_of, beside
    except ImportError as error:
        raise CannotRun(str(error)) from None
    if options.x is not None and isinstance(flow := flow_named(options), Flow):
        return run_on_flow(flow, options)
    f, side = value_named(options), "forward" if options.x is None else "inverse"
    event = event_of(f, side, options)
    try:
        answers = answers_of(f, side, event)
    except ValueError as error:                                 # what the page refuses
        raise CannotRun(str(error)) from None
    answers = {name: np.asarray(given) for name, given in answers.items() if name in LOG_DETS or not options.log_det}
    if not answers:
        raise CannotRun(f"--log-det: {type(f).__name__} is a {f.kind}, which has none")
    found = beside(f, side, event, answers, options.digits)
    if not found:
        raise CannotRun(f"{type(f).__name__}: no truth within reach at {event.tolist()}")
    print(json_text(report(f, side, event, answers, found, options.digits)) if options.json else table(answers, found))
    return 0


# -- flows ------------------------------------------------------------------------------------------------------------

def flow_named(options):
    """What a file holds; None if the name is not that of a file."""
    name = spelled(options.name)
    return read_saved(name)[0] if name not in REGISTRY and Path(name).suffix == ".npz" and Path(name).exists() else None


def run_on_flow(flow, options):
    from ..truth.engine import TruthNotFound
    from ..truth.stages import truth_of_flow, why_not
    if options.fields or options.parameters is not None:
        raise CannotRun(f"{options.name}: a file has its own parameters; leave out {', '.join(dict(options.fields)) or '--parameters'}")
    if options.log_det:
        raise CannotRun(f"--log-det: {options.name} holds a flow, and the log-dets of its stages are always printed")
    if (reason := why_not(flow)):
        raise CannotRun(f"{options.name}: {reason}")
    flow, found = flow.astype(options.dtype), []
    for i, x in enumerate(rows_of(flow, options)):
        try:
            whole, stages = truth_of_flow(flow, x, options.digits)
        except (TruthNotFound, ValueError) as error:
            raise CannotRun(f"{options.name}: no truth within reach at row {i}: {error}") from None
        found.append({"event": x.tolist(), "log_prob": whole, "stages": stages})
    held = {"schema": SCHEMA, "file": options.name, "kind": "flow", "dtype": options.dtype, "digits": options.digits, "rows": found}
    print(json_text(held) if options.json else "\n\n".join(table_of_row(i, row, len(found) > 1) for i, row in enumerate(found)))
    return 0


def rows_of(flow, options):
    """The events of a table, or the one that was typed."""
    if Path(options.x).suffix in TABLES - {"", ".npy"}:
        if len(flow.event_shape) != 1:
            raise CannotRun(f"--x: {options.name} is a flow of events of shape {flow.event_shape}, and a table has rows")
        values = Rows.of_flow(flow, read_saved(spelled(options.name))[1] or {}).read(options.x).values
    else:
        values = value_of("--x", options.x)
    try:
        with np.errstate(over="ignore"):
            x = np.asarray(values, options.dtype)
    except (TypeError, ValueError):
        raise CannotRun(f"--x must be {NUMBERS}, not {options.x!r}") from None
    x = x[None] if x.ndim == len(flow.event_shape) else x
    if x.shape[1:] != tuple(flow.event_shape):
        raise CannotRun(f"--x: {options.name} takes events of shape {flow.event_shape}, not {x.shape[1:]}")
    if not np.isfinite(x).all():
        raise CannotRun(f"--x must be finite in {options.dtype}, not {options.x}")
    return x


def table_of_row(i, row, several):
    lines = [(f"row {i}" if several else "", "truth", "the flow", "units of error")]
    lines.append(line_of("log_prob", row["log_prob"]))
    for stage in row["stages"]:
        inverse = "^-1" * (stage["side"] == "inverse")
        lines.append(line_of(f"log_det of {stage['page']}{inverse}, {stage['path']}", stage))
    return aligned(lines)


def line_of(label, found):
    return label, found.get("truth", UNKNOWN), str(found["given"]), number(found["error"]) if "error" in found else ""


# -- the question -----------------------------------------------------------------------------------------------------

def value_named(options):
    """The page with its parameters, or the value in a file; of a flow its bijector."""
    given, name = dict(options.fields), spelled(options.name)
    if options.parameters is not None:
        given = parameters_in(options.parameters) | given
    if name not in REGISTRY and Path(name).suffix == ".npz":
        return value_in(name, given, options.dtype)
    if name not in REGISTRY and (other := of_another_kind(name)):
        raise CannotRun(f"{name} is not a page: it is {other['text'] if other['kind'] == 'alias' else 'a ' + other['kind']}")
    page = page_named(name, REGISTRY)
    if has_components(page):
        raise CannotRun(f"{name} has components: save one with refflow.save(value, \"NAME.npz\"), and name that file")
    unknown = [key for key in given if key not in page.declared]
    if unknown:
        raise CannotRun(f"{name} has no parameter {unknown[0]!r}; it has {', '.join(page.declared) or 'none'}")
    needed = [key for key, one in inspect.signature(page).parameters.items() if one.default is one.empty and key not in given]
    if needed:
        raise CannotRun(f"{name} needs {', '.join(f'--{key}' for key in needed)}")
    values = {key: field_of(page.declared[key], key, value, options.dtype) for key, value in given.items()}
    try:
        f = page(**values)
    except ValueError as error:
        raise CannotRun(str(error)) from None
    return one_event(f)


def value_in(path, given, dtype):
    """The value in a file, or the bijector of the flow there."""
    if given:
        raise CannotRun(f"{path}: a file has its own parameters; leave out {', '.join(given)}")
    held = read_saved(path)[0]
    f = held.bijector if isinstance(held, Flow) else held
    if not hasattr(f, "kind"):
        raise CannotRun(f"{path}: it holds no page, but {type(held).__name__}")
    refuse_without_equation(path, f)
    return one_event(f.astype(dtype))


def refuse_without_equation(path, f):
    """CannotRun if a part is an inverse that no page defines, or a map of numbers with the parameters of several."""
    for _, part in tree.walk(f):
        if isinstance(part, Inverse) and getattr(part.inner, "inverse_definition", None) is None:
            raise CannotRun(f"{path}: it holds Inverse({type(part.inner).__name__}), and no page defines this inverse; save what is "
                            "inside, refflow.save(value.inner, \"NAME.npz\"), and ask that with --x")
        if part is not f and getattr(part, "event_ndim", None) == (0, 0) and part.parameter_batch:
            raise CannotRun(f"{path}: {type(part).__name__} is a map of numbers and has the parameters of several; a page defines the map of "
                            "one")


def field_of(declared, key, given, dtype):
    """A field's array or a plain value, of an option's text or of what a file holds."""
    if isinstance(declared, Plain) and declared.rule and isinstance(given, str) and declared.rule.holds(given):
        return given                                            # a word, also one that looks like a number
    value = value_of(f"--{key}", given) if isinstance(given, str) else given
    try:
        with np.errstate(over="ignore"):                        # an infinite one is refused where it must be finite
            return None if value is None else field_at(declared, value, dtype)
    except (TypeError, ValueError):
        raise CannotRun(f"--{key} must be {NUMBERS}, not {given!r}") from None


def one_event(f):
    """The value.  CannotRun if it has the parameters of several events."""
    if f.parameter_batch:
        raise CannotRun(f"{type(f).__name__}: the parameters must belong to one event; they are a batch, {f.parameter_batch}")
    return f


def event_of(f, side, options):
    """The event as an array; CannotRun if it is not one event of finite numbers."""
    letter = "z" if side == "forward" else "x"
    text, name = getattr(options, letter), type(f).__name__
    if letter == "x" and f.kind != "bijector":
        raise CannotRun(f"--x: {name} is a {f.kind}, which has no inverse; --z is its event")
    value = value_of(f"--{letter}", text)
    try:
        held = np.asarray(value)
    except ValueError:                                          # lists of different lengths
        held = None
    if held is None or held.dtype.kind not in "iuf":
        raise CannotRun(f"--{letter} must be {NUMBERS}, not {text!r}")
    with np.errstate(over="ignore"):
        event = held.astype(options.dtype)
    axes = f.event_ndim[side == "inverse"] if hasattr(f, "event_ndim") else 1
    if event.ndim != axes and f.kind != "scale":                # which takes the numbers of several channels, too
        raise CannotRun(f"--{letter}: {name} takes {EVENTS[axes]}, not an array of shape {event.shape}")
    if not np.isfinite(event).all():
        raise CannotRun(f"--{letter} must be finite in {options.dtype}, not {text}")
    return event


def value_of(option, text):
    """What an option says: a number, nested lists of numbers, a word, or what a file holds.  CannotRun if there is none."""
    if not is_npy(text) and Path(text).suffix != ".json":
        return read(text)
    try:
        return read_npy(text) if is_npy(text) else numbers(json.loads(Path(text).read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise CannotRun(f"{option}: there is no file {text}") from None
    except ValueError as error:
        raise CannotRun(f"{option}: {text} cannot be read: {error}") from None


def read(text):
    """Numbers for a text of JSON, or for a number that JSON lacks, as inf or a hex float; else the text."""
    try:
        return numbers(json.loads(text))
    except ValueError:
        return numbers(text)


def numbers(value):
    if isinstance(value, list):
        return [numbers(one) for one in value]
    try:
        return value if not isinstance(value, str) else float.fromhex(value) if "0x" in value.lower() else float(value)
    except ValueError:
        return value


# -- the report -------------------------------------------------------------------------------------------------------

def table(answers, found):
    """A line for each entry of each quantity; the error of a quantity is that of its worst entry."""
    lines = [HEAD]
    for name, given in answers.items():
        row = found.get(name, {"truth": [UNKNOWN] * given.size, "error": None})
        for i, (place, truth, entry) in enumerate(zip(np.ndindex(given.shape), row["truth"], given.ravel())):
            label = f"{name}[{', '.join(map(str, place))}]" if given.size > 1 else name
            lines.append((label, truth, str(entry), "" if i or row["error"] is None else number(row["error"])))
    return aligned(lines)


def report(f, side, event, answers, found, digits):
    """The same for a program; a quantity without a truth within reach has its answer alone."""
    quantities = {name: nested(found[name], given.shape) if name in found else {} for name, given in answers.items()}
    return {"schema": SCHEMA, "page": type(f).__name__, "kind": f.kind, "side": side, "dtype": event.dtype.name,
            "event": event.tolist(), "parameters": held_by(f), "digits": digits,
            "quantities": {name: {"given": given.tolist()} | quantities[name] for name, given in answers.items()}}


def nested(row, shape):
    return row | {"truth": np.array(row["truth"], object).reshape(shape).tolist()}


def held_by(f):
    """{field: its numbers, or its plain value}, and the components as they print themselves."""
    found = {key: getattr(f, key) for key in f.declared}
    return {key: value.tolist() if isinstance(value, np.ndarray) else value if is_plain(value) else repr(value)
            for key, value in found.items() if value is not None}


def is_plain(value):
    return isinstance(value, (bool, int, float, str)) or isinstance(value, tuple) and all(map(is_plain, value))
