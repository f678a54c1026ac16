"""A page's module as text and as code: its functions as they were written, their code objects, its constants."""

from __future__ import annotations

import ast
import inspect
import types

BELIEVED = {"definition", "inverse_definition", "examples"}


def plain_function(module, name):
    """The function of a qualified name as it was written, None where what stands there is no function of this file."""
    owner, _, method = name.rpartition(".")
    held = vars(vars(module)[owner]).get(method) if owner else vars(module).get(method)
    held = getattr(held, "__func__", None) or getattr(held, "fget", None) or getattr(held, "func", None) or held
    held = inspect.unwrap(held) if callable(held) else held
    return held if isinstance(held, types.FunctionType) and held.__module__ == module.__name__ else None


def code_of(code, name):
    """The code object of a qualified name inside that of a module."""
    for part in name.split("."):
        code = next(c for c in code.co_consts if isinstance(c, types.CodeType) and c.co_name == part)
    return code


def module_constants(tree):
    """{name: the assignment} of the constants of a module that hold numbers."""
    return {node.targets[0].id: node for node in tree.body
            if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id.isupper()}
