"""What the rows of a page in the certificate depend on: the code that measuring it reaches, its float32 sweep, and the machine.

Which functions of refflow a page reaches is traced while its rows are made, at its hard cases and every tenth point.  The
record keeps their names; their text, without docstrings, comments, annotations and the place where it stands, is hashed anew
whenever the record is read.  With each function goes what its module holds outside functions: constants, declarations, lists of
hard cases, names of methods.  Which module a name is imported from does not count, nor where a module stands.  Whole modules count in
`refflow/maps` and `refflow/core/sets`, where a branch that no traced point takes would be a hole, and where they draw points or
measure, and so do textbooks, of which the truth is made.  The digest of the rows has the module, too, that measures what they cost.

`changed` names the pages whose record is not of the code that is here; `in_turn` adds a tenth of the others by the date, so
that what a trace has missed is asked within ten days, and a wrong stamp (`validation.stamp`) too.
"""

from __future__ import annotations

import ast
import contextlib
import datetime
import functools
import hashlib
import json
import sys
from pathlib import Path

from refflow.core.docstrings import is_string

from ..points.recorded import EXHAUSTIVE, exhaustive, written

ROOT = Path(__file__).parents[2]
RECORD, SCHEMA = Path(__file__).parent / "reached.json", "refflow/reached/1"
WHOLE, PACKAGE, OUTSIDE = ("refflow/maps/", "refflow/core/sets/"), "refflow/", "outside functions"
TEXTBOOK, COSTING = "textbook", "validation/records/textbooks.py"
TANGENTS, ALONG = "refflow/core/sets/tangents.py", "refflow/truth/along.py"        # of what comes from a set of lower dimension
TRUTH = "refflow/truth/"
MEASURING = ("validation/certify.py", *(f"validation/points/{name}.py" for name in ("branches", "climb", "drawn", "kinds", "recorded",
                                                                                  "solvers", "switches")),
             *(f"{TRUTH}{name}.py" for name in ("balls", "ends", "engine", "measure")),
             *(f"refflow/{name}.py" for name in ("accuracy/drawing", "accuracy/kappa", "core/printed", "core/source")))
EVERY, TURNS = 10, 10                               # one in so many points is traced; days until each page has had its turn
EMPTY = {"show_empty": True} if sys.version_info >= (3, 13) else {}             # in the text of a tree: before, no option


# -- tracing ----------------------------------------------------------------------------------------------------------

class Trace:
    """The functions of refflow that were called while it was on, as {module's path: names}.

    What computes the truth is left out: each page's digest has these modules whole.
    """

    def __init__(self):
        self.codes = set()

    def seen(self, frame, event, argument):
        if event == "call":
            self.codes.add(frame.f_code)

    @contextlib.contextmanager
    def on(self, wanted=True):
        """Trace inside this context, if it is wanted; a trace that was on before goes on afterwards."""
        before = sys.getprofile()
        sys.setprofile(self.seen if wanted else before)
        try:
            yield
        finally:
            sys.setprofile(before)

    def functions(self):
        found = {}
        for code in self.codes:
            path = Path(code.co_filename)
            if path.is_relative_to(ROOT / PACKAGE) and not path.is_relative_to(ROOT / TRUTH):
                found.setdefault(str(path.relative_to(ROOT)), set()).add(code.co_qualname.partition(".<locals>")[0])
        return {path: sorted(names) for path, names in sorted(found.items())}


def merged(traces):
    """{module's path: names} of several traces."""
    found = {}
    for trace in traces:
        for path, names in trace.items():
            found.setdefault(path, set()).update(names)
    return {path: sorted(names) for path, names in sorted(found.items())}


# -- the text of functions --------------------------------------------------------------------------------------------

@functools.cache
def module(path):
    """{function's name: the hash of its text} of a module, of what stands outside functions, and of its textbook."""
    tree = bare(ast.parse((ROOT / path).read_text(encoding="utf-8")))
    textbooks = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == TEXTBOOK]
    tree.body = [node for node in tree.body if node not in textbooks]
    found = {name: hashed(text_of(node)) for name, node in functions(tree)}
    tree.body = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    for _, method in functions(tree):
        method.body, method.decorator_list = [], []
    return found | {OUTSIDE: hashed(text_of(tree))} | {TEXTBOOK: hashed(text_of(node)) for node in textbooks}


def code_of(path):
    """The hash of a file's code, whatever its docstrings and comments say."""
    return hashed(text_of(bare(ast.parse(Path(path).read_text(encoding="utf-8")))))


def text_of(tree):
    """The tree as text, the same in every version of Python."""
    return ast.dump(tree, **EMPTY)


def hashed(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def bare(tree):
    """The code without docstrings and annotations, which compute nothing, nor the list of type parameters, new in Python 3.12.

    Strings that stand alone further down are text, too.
    """
    for node in ast.walk(tree):
        if getattr(node, "type_params", None) == []:
            del node.type_params
        for word in {"annotation", "returns"} & set(getattr(node, "_fields", ())):
            setattr(node, word, None)
        body = getattr(node, "body", None)
        if isinstance(body, list) and body:
            if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
                body[0].value.value = ""
            node.body = without_places([body[0], *(part for part in body[1:] if not is_string(part))])
    return tree


def without_places(body):
    """Statements, with the names that they import in the place of the imports."""
    imports = [node for node in body if isinstance(node, (ast.Import, ast.ImportFrom))]
    names = sorted(f"{one.name} as {one.asname or one.name}" for node in imports for one in node.names)
    return [ast.Expr(ast.Constant(names))] * bool(names) + [node for node in body if node not in imports]


def functions(node, prefix=""):
    """(name, function) of a module and its classes; what is defined inside a function belongs to it."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef):
            yield prefix + part.name, part
        elif isinstance(part, ast.ClassDef):
            yield from functions(part, f"{prefix}{part.name}.")


def digest(page, reached):
    """The hash of all that the rows of a page and the costs of its textbook depend on, but the machine."""
    costed = any((ROOT / path).exists() and TEXTBOOK in module(path) for path in reached)
    return hashed("\n".join([digest_of_code(page, reached), *[str(module(COSTING))] * costed]))


def digest_of_code(page, reached):
    """The same without the costs."""
    measuring = (*MEASURING, ALONG) if "frame" in reached.get(TANGENTS, ()) else MEASURING
    return hashed("\n".join([json.dumps(sweeps(changed_at(EXHAUSTIVE)).get(page)), *sorted(str(module(path)) for path in measuring),
                             *sorted(map(reached_text, reached, reached.values()))]))


def changed_at(path):
    return path.stat().st_mtime_ns if path.exists() else None


@functools.lru_cache(1)
def sweeps(at):
    """The float32 sweeps, which are read once as long as their file changed at the same time."""
    return exhaustive()


def reached_text(path, names):
    """The hashes of a module's functions that are reached, as text; a function that is gone changes it."""
    if not (ROOT / path).exists():
        return "gone"
    texts = module(path)
    return str(sorted(texts.items())) if path.startswith(WHOLE) else str([texts[OUTSIDE], *(texts.get(name) for name in names)])


# -- the record -------------------------------------------------------------------------------------------------------

def record():
    """{page: {"reached", "digest"}}; functions that all pages reach stand once."""
    if not RECORD.exists():
        return {}
    document = json.loads(RECORD.read_text())
    if document["schema"] != SCHEMA:
        raise SystemExit(f"{RECORD} has schema {document['schema']!r}, not {SCHEMA!r}")
    return {name: one | {"reached": merged([document["all"], one["reached"]])} for name, one in document["pages"].items()}


def write(found):
    """Add {page: what it reaches} to the record."""
    pages = record() | {name: {"reached": reached, "digest": digest(name, reached)} for name, reached in found.items()}
    every = [{(path, name) for path, names in one["reached"].items() for name in names} for one in pages.values()]
    common = set.intersection(*every) if every else set()
    shared = merged({path: [name]} for path, name in common)
    lines = [f'"{name}": ' + json.dumps({"digest": one["digest"], "reached": left(one["reached"], common)})
             for name, one in sorted(pages.items())]
    head = f'{{"schema": "{SCHEMA}", "all": {json.dumps(shared)}, "pages": {{'
    written(RECORD, head + "\n" + ",\n".join(lines) + "}}\n")


def left(reached, common):
    """What a page reaches beyond what all do."""
    found = {path: [name for name in names if (path, name) not in common] for path, names in reached.items()}
    return {path: names for path, names in found.items() if names}


def changed(names):
    """The pages whose rows were not made by the code that is here."""
    known = record()
    return [name for name in names if name not in known or digest(name, known[name]["reached"]) != known[name]["digest"]]


def in_turn(names, day=None):
    """A tenth of the pages, another one every day."""
    day = datetime.date.today().toordinal() if day is None else day
    return [name for i, name in enumerate(sorted(names)) if i % TURNS == day % TURNS]
