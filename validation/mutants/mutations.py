"""Small mistakes of a page, or of another file of equations: which there are, and how one is planted.

A mutant differs from its page in one place of one function: an operator, a sign, a constant, a threshold, a dropped term or
factor, swapped branches or arguments, a neighbouring function, a statement left out, a stable form replaced by its naive one,
a whole method replaced by what follows from the others.  Believed equations, hard cases, examples and declarations stay.

It is planted by giving the function the code of the changed module: every class, component and importing module then sees it.
"""

from __future__ import annotations

import ast
import copy
import hashlib
import inspect
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from refflow.core import has_components
from refflow.core.docstrings import is_string

from ..points.code import BELIEVED, code_of, module_constants, plain_function

OPERATORS = 1               # the version of this list of mistakes: records of another one are stale
CASES = {"hard_cases", "refused"}
DECLARED = {"domain", "codomain", "event_ndim", "event_shape", "fixed_shape", "increasing", "constant_log_det", "normwise"}
UNREACHED = "__unreached__"

BINARY = {ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div], ast.Div: [ast.Mult], ast.Pow: [ast.Mult],
          ast.FloorDiv: [ast.Mult], ast.Mod: [ast.FloorDiv], ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd],
          ast.BitXor: [ast.BitOr], ast.LShift: [ast.RShift], ast.RShift: [ast.LShift]}
DROPPING = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.BitAnd, ast.BitOr)
COMPARED = {ast.Lt: [ast.LtE, ast.Gt], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.Lt], ast.GtE: [ast.Gt, ast.Lt],
            ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Is: [ast.IsNot], ast.IsNot: [ast.Is], ast.In: [ast.NotIn],
            ast.NotIn: [ast.In]}
NEIGHBOURS = {"exp": "expm1", "expm1": "exp", "exp2": "exp", "log": "log1p", "log1p": "log", "log2": "log", "sin": "cos",
              "cos": "sin", "tan": "tanh", "sinh": "cosh", "cosh": "sinh", "tanh": "arctan", "arcsinh": "arctanh",
              "arctan": "tanh", "arctanh": "arcsinh", "minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min",
              "floor": "ceil", "ceil": "floor", "zeros_like": "ones_like", "ones_like": "zeros_like", "zeros": "ones",
              "ones": "zeros", "cumsum": "cumprod", "cumprod": "cumsum", "sum": "mean", "mean": "sum", "prod": "sum",
              "any": "all", "all": "any", "argmax": "argmin", "argmin": "argmax", "triu": "tril", "tril": "triu",
              "erf": "erfc", "erfc": "erf", "ndtr": "log_ndtr", "log_ndtr": "ndtr", "logical_and": "logical_or",
              "logical_or": "logical_and", "isnan": "isinf", "isinf": "isnan", "sqrt": "square", "square": "sqrt",
              "signbit": "isnan", "sign": "abs"}
PASSED_ON = {"abs", "sqrt", "log1p", "cumsum", "flip", "swapaxes", "ascontiguousarray", "logical_not"}     # f(a) -> a
PASSED_ON_ATTRIBUTES = {"T", "mT"}
SYMMETRIC = {"maximum", "minimum", "logical_and", "logical_or", "add", "multiply", "hypot", "logaddexp", "max", "min",
             "isinstance", "getattr", "hasattr", "zip", "broadcast_shapes", "broadcast_arrays", "result_type", "range"}


@dataclass(frozen=True)
class Place:
    """Where a node stands in the tree of a module."""

    parent: ast.AST
    field: str
    index: int | None

    @property
    def node(self):
        held = getattr(self.parent, self.field)
        return held if self.index is None else held[self.index]

    def put(self, node):
        if self.index is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.index] = node


@dataclass(frozen=True)
class Mutant:
    """One mistake: in which function, what stands there and what instead; `number` tells equal ones apart."""

    function: str
    before: str
    after: str
    number: int
    line: int
    place: Place = field(repr=False, compare=False)
    node: ast.AST = field(repr=False, compare=False)

    @property
    def key(self):
        again = f" ({self.number})" if self.number else ""
        return f"{self.function}: {self.before} -> {self.after}{again}"


def unannotated(tree):
    """A module's tree without the types that its functions and names are said to have; fields of a class keep them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            node.annotation = None
        if isinstance(node, ast.FunctionDef):
            node.returns = None
    tree.body = [ast.copy_location(ast.Assign([node.target], node.value), node) if isinstance(node, ast.AnnAssign) and node.value
                 else node for node in tree.body]
    return tree


def without_unused_imports(tree):
    """A module's tree without the imports of names that it does not use: once types are left out, of those that only these use."""
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))
               and getattr(node, "module", None) != "__future__"]
    for node in imports:
        node.names = [one for one in node.names if (one.asname or one.name).partition(".")[0] in used]
    tree.body = [node for node in tree.body if node not in imports or node.names]
    return tree


def without_texts(tree):
    """A tree whose docstrings are empty, without the strings that stand alone further down."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body:
            if is_string(body[0]):
                body[0].value.value = ""
            node.body = [body[0], *(part for part in body[1:] if not is_string(part))]
    return tree


def hashed(node):
    """A hash of the text of a function or statement, without a docstring and types."""
    plain = unannotated(without_texts(ast.parse(ast.unparse(node))))
    return hashlib.sha256(ast.unparse(plain).encode()).hexdigest()[:16]


class Source:
    """The module of a page, or without a page a whole `module`, as text that can be changed in one place."""

    def __init__(self, page, module=None):
        self.module, self.page = module or sys.modules[page.__module__], page
        self.path = Path(inspect.getsourcefile(self.module))
        self.text = self.path.read_text(encoding="utf-8")
        self.tree = without_textbooks(ast.parse(self.text))
        pages = [held for held in vars(self.module).values() if is_page(held, self.module)] if page else []
        self.others = [held.__name__ for held in pages if held is not page]
        self.first = page is None or page is pages[0]

    def identity(self):
        """A hash of the code that runs, without comments, docstrings, types, order and lists of cases: a longer list kills no fewer.

        What is believed is left out, too: a mutant is held to the truth, whoever writes it.
        """
        plain = without_unused_imports(unannotated(without_textbooks(without_texts(ast.parse(self.text)))))
        for node in ast.walk(plain):
            if isinstance(node, ast.ClassDef):
                node.body = sorted((part for part in node.body if not lists_cases(part) and not is_believed(part)), key=ast.unparse)
        return hashlib.sha256("\n".join(sorted(map(ast.unparse, plain.body))).encode()).hexdigest()[:16]

    def texts(self):
        """{function or constant: the hash of its text without its docstring}, of all that mutants stand in."""
        found = {name: function for name, function, _ in self.functions()}
        found |= {mutant.function: node for node in self.tree.body if self.first for mutant in mutants_of_constant(node)}
        return {name: hashed(node) for name, node in found.items()}

    def functions(self):
        """(name, function, its class or None) of what is mutated; helpers belong to the first page of their module."""
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef) and self.first:
                yield node.name, node, None
            if isinstance(node, ast.ClassDef) and self.owns(node.name):
                yield from ((f"{node.name}.{inner.name}", inner, node) for inner in node.body
                            if isinstance(inner, ast.FunctionDef))

    def owns(self, name):
        """Is a class of the module the page itself, or a helper with the first page?"""
        return name not in self.others if self.first else name == self.page.__name__

    def mutants(self) -> list[Mutant]:
        """All mutants, each change once."""
        found = []
        believed = self.what_is_believed()
        for name, function, owner in self.functions():
            if is_mutated(function) and name not in believed and plain_function(self.module, name):
                found += mutants_of(name, function, whole_methods(function, owner, self.page) if owner and self.page else ())
        constants = [node for node in self.tree.body if self.first for mutant in mutants_of_constant(node)[:1]
                     if mutant.function not in believed]
        return found + [mutant for node in constants for mutant in mutants_of_constant(node)]

    def what_is_believed(self):
        """The module's functions and constants that serve believed equations, or examples, alone: a change would change the truth."""
        own = {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)} | module_constants(self.tree)
        classes = [node for node in self.tree.body if isinstance(node, ast.ClassDef)]
        parts = [part for node in classes for part in (*node.body, *node.decorator_list)]
        equations = [part for part in parts if getattr(part, "name", None) in BELIEVED]
        served = reached_from(equations, own)
        others = [part for part in parts if part not in equations] + [node for name, node in own.items() if name not in served]
        return served - reached_from(others, own)

    def plant(self, mutant, node=None):
        """Make the running module that of a mutant, or of another node in its place."""
        was = mutant.place.node
        mutant.place.put(ast.fix_missing_locations(ast.copy_location(copy.deepcopy(node or mutant.node), was)))
        constants = module_constants(self.tree)
        try:
            code = compile(self.tree, str(self.path), "exec")
            text = ast.unparse(constants[mutant.function].value) if mutant.function in constants else None
        finally:
            mutant.place.put(was)
        if text is not None:
            plant_constant(self.module, mutant, node or mutant.node, text)
            self.plant_defaults(mutant.function)
        else:
            function = plain_function(self.module, mutant.function)
            function.__code__ = code_of(code, mutant.function)
            getattr(function, "cache_clear", lambda: None)()

    def plant_defaults(self, constant):
        """Give functions the value of a constant that is a default of theirs, which they got when they were made."""
        for name, node, _ in self.functions():
            function, given = plain_function(self.module, name), node.args.defaults
            if function is not None and function.__defaults__ is not None:
                function.__defaults__ = tuple(
                    vars(self.module)[constant] if isinstance(default, ast.Name) and default.id == constant else held
                    for default, held in zip(given, function.__defaults__, strict=True))

    def plant_probe(self, mutant):
        """Put in the place of a mutant what raises NameError when it is met."""
        was, probe = mutant.place.node, ast.Name(UNREACHED, ast.Load())
        if isinstance(was, ast.FunctionDef):
            probe = with_body(was, [ast.Expr(probe)])
        elif isinstance(was, ast.stmt):
            probe = ast.Expr(probe)
        self.plant(mutant, probe)


def reached_from(nodes, functions):
    """The names of the functions that some nodes mention, or functions that they mention, and so on."""
    found = {name for node in nodes for name in mentioned(node)} & functions.keys()
    while (further := {name for known in found for name in mentioned(functions[known])} & functions.keys() - found):
        found |= further
    return found


def without_textbooks(tree):
    """A module's tree without the textbooks of its pages, which nothing calls."""
    calls = [call for node in tree.body if isinstance(node, ast.ClassDef) for call in node.decorator_list
             if isinstance(call, ast.Call)]
    textbooks = {given.value.id for call in calls for given in call.keywords if given.arg == "textbook"}
    for call in calls:
        call.keywords = [given for given in call.keywords if given.arg != "textbook"]
    tree.body = [node for node in tree.body if getattr(node, "name", None) not in textbooks]
    return tree


def mentioned(function):
    """The names that a function mentions."""
    return {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}


def is_page(held, module):
    return isinstance(held, type) and "declared" in vars(held) and held.__module__ == module.__name__


def is_believed(node):
    """Is it the page's equation, of which the truth is made?"""
    return getattr(node, "name", None) == "definition"


def lists_cases(node):
    return isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in CASES


def is_mutated(function):
    """Not a believed equation, nor a helper of one, whose first argument is the namespace m; not a declaration."""
    first = function.args.args[0].arg if function.args.args else ""
    return function.name not in BELIEVED | DECLARED and first != "m"


# -- constants of a module --------------------------------------------------------------------------------------------

def mutants_of_constant(node):
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name) or not node.targets[0].id.isupper():
        return []
    if any(isinstance(inner, (ast.Lambda, ast.JoinedStr)) for inner in ast.walk(node.value)):
        return []
    return numbered(node.targets[0].id, places(node, "value"))


def plant_constant(module, mutant, node, text):
    """Give a module's constant the value of a changed text, in every module that holds it."""
    old, name = vars(module)[mutant.function], mutant.function
    value = Probe() if isinstance(node, ast.Name) and node.id == UNREACHED else eval(text, vars(module))    # noqa: S307
    for other in list(sys.modules.values()):
        if getattr(other, "__name__", "").startswith("refflow") and vars(other).get(name) is old:
            setattr(other, name, value)


class Probe:
    """A constant that cannot be used."""

    def refuse(self, *_):
        raise NameError(UNREACHED)

    __getattr__ = __array__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = refuse
    __rtruediv__ = __pow__ = __neg__ = __abs__ = __lt__ = __le__ = __gt__ = __ge__ = __eq__ = __ne__ = refuse
    __getitem__ = __iter__ = __len__ = __contains__ = __float__ = __int__ = __index__ = __bool__ = __hash__ = refuse


# -- what a function offers -------------------------------------------------------------------------------------------

def mutants_of(name, function, instead=()):
    """All mutants of one function, each change of a place once."""
    body = [place for index in range(len(function.body)) if not is_string(function.body[index])
            for place in places(function, "body", index)]
    return numbered(name, body, instead)


def numbered(name, where, more=()):
    counts, seen, found = {}, set(), []
    for place in where:
        node = place.node
        for new in replacements(place):
            before, after = shown(node), shown(new)
            identity = (id(node), after)
            if before == after or identity in seen:
                continue
            seen.add(identity)
            number = counts.get((before, after), 0)
            counts[before, after] = number + 1
            found.append(Mutant(name, before, after, number, node.lineno, place, new))
    for what, place, new in more:
        what = what.removeprefix("__import__('validation.mutants.literal').mutants.literal.")
        found.append(Mutant(name, "the method", what, 0, place.node.lineno, place, new))
    return found


def shown(node):
    """One line of text of a node."""
    text = f"if {ast.unparse(node.test)}" if isinstance(node, ast.If) else ast.unparse(node)
    text = "nothing" if isinstance(node, ast.Pass) else text
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:70]} ... {text[-25:]}"


def places(parent, name, index=None):
    """The places at and below one that may be mutated."""
    place = Place(parent, name, index)
    node = place.node
    if isinstance(node, (ast.Raise, ast.JoinedStr, ast.Import, ast.ImportFrom)):
        return
    yield place
    for child, held in ast.iter_fields(node):
        if child in ("annotation", "returns", "decorator_list", "defaults", "kw_defaults", "ctx", "op", "ops"):
            continue
        if isinstance(held, ast.AST) and not isinstance(held, ast.arguments):
            yield from places(node, child)
        elif isinstance(held, list):
            for i, inner in enumerate(held):
                if isinstance(inner, ast.AST) and not is_string(inner):
                    yield from places(node, child, i)


def replacements(place):
    """The nodes that may stand in a place instead of its own."""
    node = place.node
    return MISTAKES.get(type(node), lambda node, place: ())(node, place)


def of_binary(node, place):
    for op in BINARY.get(type(node.op), ()):
        yield ast.BinOp(node.left, op(), node.right)
    if isinstance(node.op, ast.MatMult):
        yield ast.BinOp(node.right, ast.MatMult(), node.left)
    if isinstance(node.op, ast.Sub):
        yield ast.UnaryOp(ast.USub(), node.right)
    elif isinstance(node.op, DROPPING):
        yield node.right if not isinstance(node.op, (ast.Pow, ast.Div)) else node.left
    if isinstance(node.op, (ast.Add, ast.Sub, ast.Mult, ast.BitAnd, ast.BitOr)):
        yield node.left


def of_unary(node, place):
    yield node.operand
    if isinstance(node.operand, ast.Constant) and isinstance(node.op, ast.USub) and is_number(node.operand.value):
        yield ast.Constant(-node.operand.value + 1)


def is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def of_constant(node, place):
    value = node.value
    if isinstance(value, bool):
        yield ast.Constant(not value)
    if not is_number(value) or isinstance(place.parent, ast.UnaryOp) and isinstance(value, int):
        return
    index = isinstance(place.parent, (ast.Subscript, ast.Slice, ast.keyword))
    yield ast.Constant(value + 1)
    if value == 1:
        yield ast.Constant(0)
    elif value and not index:
        yield ast.Constant(value // 2 if isinstance(value, int) and value % 2 == 0 else value / 2)
    if isinstance(value, float) and abs(value) < 1e30 and float(np.float32(value)) != value:
        yield ast.Constant(float(np.float32(value)))


def of_comparison(node, place):
    for i, op in enumerate(node.ops):
        for other in COMPARED.get(type(op), ()):
            yield ast.Compare(node.left, [*node.ops[:i], other(), *node.ops[i + 1:]], node.comparators)


def of_call(node, place):
    """A neighbouring function, the argument itself, swapped branches or arguments, the naive form."""
    name = called(node)
    given = node.args
    starred = any(isinstance(argument, ast.Starred) for argument in given)
    if name in NEIGHBOURS:
        yield renamed(node, NEIGHBOURS[name])
    if name in PASSED_ON and given and not starred:
        yield given[0]
    if name in NAIVE and given and not starred:
        yield NAIVE[name](node)
    if name == "where" and len(given) == 3:
        yield from (ast.Call(node.func, [given[0], given[2], given[1]], node.keywords), given[1], given[2])
    elif len(given) >= 2 and not starred and name not in SYMMETRIC:
        yield ast.Call(node.func, [given[1], given[0], *given[2:]], node.keywords)


def called(node):
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def renamed(node, name):
    if isinstance(node.func, ast.Attribute):
        return ast.Call(ast.Attribute(node.func.value, name, ast.Load()), node.args, node.keywords)
    return ast.Call(ast.Name(name, ast.Load()), node.args, node.keywords)


def one():
    return ast.Constant(1)


NAIVE = {"expm1": lambda node: ast.BinOp(renamed(node, "exp"), ast.Sub(), one()),
         "log1p": lambda node: renamed(ast.Call(node.func, [ast.BinOp(one(), ast.Add(), node.args[0])], []), "log"),
         "exp": lambda node: split_exponential(node)}


def split_exponential(node):
    """exp(a) exp(b) of exp(a + b), exp(a) / exp(b) of exp(a - b); exp(a) of any other."""
    inner = node.args[0]
    if not isinstance(inner, ast.BinOp) or type(inner.op) not in (ast.Add, ast.Sub):
        return node
    op = ast.Mult() if isinstance(inner.op, ast.Add) else ast.Div()
    return ast.BinOp(*(ast.Call(node.func, [part], []) if part is not op else op for part in (inner.left, op, inner.right)))


def of_attribute(node, place):
    if node.attr in PASSED_ON_ATTRIBUTES:
        yield node.value


def of_choice(node, place):
    yield ast.IfExp(node.test, node.orelse, node.body)


def of_boolean(node, place):
    yield ast.BoolOp(ast.And() if isinstance(node.op, ast.Or) else ast.Or(), node.values)
    if len(node.values) == 2:
        yield from node.values


def of_if(node, place):
    yield ast.If(ast.UnaryOp(ast.Not(), node.test), node.body, node.orelse)


def of_update(node, place):
    for op in BINARY.get(type(node.op), ()):
        yield ast.AugAssign(node.target, op(), node.value)
    yield ast.Pass()


def of_assignment(node, place):
    if isinstance(node.targets[0], ast.Subscript):
        yield ast.Pass()


MISTAKES = {ast.BinOp: of_binary, ast.UnaryOp: of_unary, ast.Constant: of_constant, ast.Compare: of_comparison,
            ast.Call: of_call, ast.Attribute: of_attribute, ast.IfExp: of_choice, ast.BoolOp: of_boolean, ast.If: of_if,
            ast.AugAssign: of_update, ast.Assign: of_assignment}


# -- whole methods ----------------------------------------------------------------------------------------------------

# method: {what stands for it: the methods that the class must have written}, right in exact arithmetic, but naive
LITERAL = "__import__('validation.mutants.literal').mutants.literal.of_definition(self, z)"
GENERIC = "__import__('validation.mutants.literal').mutants.literal.generic_inverse_vjp(self, x)"
INSTEAD = {
    "forward": {LITERAL: ()},
    "log_det": {"np.log(np.abs(self.slope(z)))": ("slope",),
                "np.linalg.slogdet(self.jacobian(z))[1]": ("jacobian",),
                "-self.inverse_and_log_det(self.forward(z))[1]": ("inverse_and_log_det",)},
    "slope": {"np.exp(self.log_det(z))": ("log_det",)},
    "forward_and_log_det": {"(self.forward(z), self.log_det(z))": ("forward", "log_det"),
                            "(self.forward(z), np.log(np.abs(self.slope(z))))": ("forward", "slope")},
    "inverse_and_log_det": {"(self.inverse(x), -self.log_det(self.inverse(x)))": ("inverse", "log_det"),
                            "(self.inverse(x), -np.log(np.abs(self.slope(self.inverse(x)))))": ("inverse", "slope")},
    "inverse_vjp": {GENERIC: ("vjp",)},
}


def whole_methods(function, owner, page):
    """[(text, place, node)] of what can stand for a method of a page: others of its methods, or its definition."""
    if owner.name != page.__name__:
        return []
    written = {node.name: node for node in owner.body if isinstance(node, ast.FunctionDef)}
    place, found = Place(owner, "body", owner.body.index(function)), []
    for text, needed in INSTEAD.get(function.name, {}).items():
        circular = any(f"self.{function.name}(" in ast.unparse(written[name]) for name in needed if name in written)
        if set(needed) <= set(written) and not circular and (text != LITERAL or has_literal_forward(page)):
            found.append((text, place, with_body(function, [ast.Return(ast.parse(text, mode="eval").body)])))
    return found


def has_literal_forward(page):
    """Is it a map of one number whose fields are numbers?"""
    numbers = all(not getattr(field, "shape", ()) for field in page.declared.values())
    return page.kind == "bijector" and page.event_ndim == (0, 0) and numbers and not has_components(page)


def with_body(function, body):
    new = copy.copy(function)
    new.body = body
    return new
