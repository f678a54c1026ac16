"""What code prints, draws and gives when it is run: of chapters, and of the recorded inputs that `refflow textbook` pastes."""

from __future__ import annotations

import ast
import contextlib
import io
import traceback

from .leaf import BadPage


def run(chapter):
    """Runs the blocks of a chapter, from top to bottom; yields (block, what it prints, drawing or None, namespace) below each.

    All share one namespace, and displayed equations can be evaluated in it; exercises run in copies.  Raises BadPage: file,
    line, and the error that stops it.
    """
    namespace, above = {"__name__": chapter.name}, None
    for block in chapter.blocks:
        made = "", None
        if block.kind == "python":
            made = execute(chapter.file, block, namespace)
        elif block.kind == "python answer":
            made = solved(chapter.file, block, above, namespace)        # its check stands above it
        above = block
        yield block, *made, namespace


def solved(file, block, checking, namespace):
    """What a starter or an answer prints, followed by its check.  Raises BadPage where the check fails."""
    own = dict(namespace)
    shown = execute(file, block, own)
    execute(file, checking, own)
    return shown


def execute(file, block, namespace):
    """(what a block prints, the drawing that its last line is or None)."""
    printed, value = io.StringIO(), None
    try:
        tree = ast.parse("\n" * (block.line - 1) + block.text, file)
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        with contextlib.redirect_stdout(printed):
            exec(compile(tree, file, "exec"), namespace)
            if isinstance(last, ast.Expr):
                value = eval(compile(ast.Expression(last.value), file, "eval"), namespace)
    except Exception as error:
        raise BadPage(f"{file}, line {place(error, file) or block.line}: {type(error).__name__}: {error}") from error
    return printed.getvalue(), value if hasattr(value, "_repr_svg_") else None


def answer(statements, namespace):
    """The value of the last statement, after the others have run."""
    *first, last = statements
    exec("\n".join(first), namespace)
    return eval(last, namespace)


def place(error, file):
    """The line of a file at which an error was raised."""
    if isinstance(error, SyntaxError):
        return error.lineno
    return next((frame.lineno for frame in reversed(traceback.extract_tb(error.__traceback__)) if frame.filename == file), None)
