"""Edits of a syntax tree that keep its meaning but for one thing. Each asserts that it found what it changes."""

import ast
from collections.abc import Iterator

from tests.shm.interleavings.source import Edit


def _function(tree: ast.Module, name: str) -> ast.FunctionDef:
    """The function `name`, or the method `Class.name`."""
    body: list[ast.stmt] = tree.body
    for part in name.split("."):
        found = [node for node in body if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == part]
        assert len(found) == 1, f"{len(found)} functions are called {name}"
        body = found[0].body
    assert isinstance(found[0], ast.FunctionDef)
    return found[0]


def together(*edits: Edit) -> Edit:
    """All of them, one after the other."""

    def edit(tree: ast.Module) -> None:
        for each in edits:
            each(tree)

    return edit


def replace(function: str, old: str, new: str) -> Edit:
    """Replace the text `old`, as `ast.unparse` writes it, everywhere in `function`."""

    def edit(tree: ast.Module) -> None:
        node = _function(tree, function)
        text = ast.unparse(node)
        assert old in text, f"{function} does not say {old!r}:\n{text}"
        changed = ast.parse(text.replace(old, new)).body[0]
        assert isinstance(changed, ast.FunctionDef)
        node.body = changed.body

    return edit


def move_before(function: str, moved: str, target: str) -> Edit:
    """Put the statement that contains `moved` before the one that contains `target`, in the body that holds both."""

    def edit(tree: ast.Module) -> None:
        for body in _bodies(_function(tree, function)):
            texts = [ast.unparse(statement) for statement in body]
            sources = [index for index, text in enumerate(texts) if moved in text]
            targets = [index for index, text in enumerate(texts) if target in text and index not in sources]
            if sources and targets and sources[-1] > targets[0]:
                body.insert(targets[0], body.pop(sources[-1]))
                return
        raise AssertionError(f"{function}: {moved!r} does not stand after {target!r}")

    return edit


def _bodies(function: ast.FunctionDef) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(function):
        if isinstance(node, ast.FunctionDef | ast.If | ast.For | ast.While | ast.With):
            yield node.body


ORDERED = {"load_acquire": "load_relaxed", "store_release": "store_relaxed"}
FENCES = {"fence_acquire", "fence_release", "fence_seq_cst"}


def orderings(tree: ast.Module) -> list[tuple[str, str]]:
    """(function, text) of every access or fence of `tree` that orders anything, in their order."""
    return [
        (function.name, ast.unparse(call))
        for function in tree.body if isinstance(function, ast.FunctionDef)
        for call in _ordering_calls(function)
    ]  # fmt: skip


def weaken(function: str, index: int) -> Edit:
    """Take the ordering away from the `index`-th access or fence of `function` that has any."""

    def edit(tree: ast.Module) -> None:
        node = _function(tree, function)
        call = _ordering_calls(node)[index]
        assert isinstance(call.func, ast.Name)
        if call.func.id in FENCES:
            _Drop(call).visit(node)
        else:
            call.func.id = ORDERED[call.func.id]
        # The weaker name may not be among the module's imports.
        tree.body.insert(0, ast.parse("from shm.atomics import load_relaxed, store_relaxed").body[0])

    return edit


def _ordering_calls(function: ast.FunctionDef) -> list[ast.Call]:
    return [
        node
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ORDERED.keys() | FENCES
    ]


class _Drop(ast.NodeTransformer):
    def __init__(self, call: ast.Call) -> None:
        self._call = call

    def visit_Expr(self, node: ast.Expr) -> ast.stmt:
        return ast.Pass() if node.value is self._call else node
