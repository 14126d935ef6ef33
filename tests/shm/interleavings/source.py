"""The real source as coroutines: each call of `shm.atomics` or `shm.libc` becomes a `yield` of what it would do.

A module's functions are parsed, every call of an atomic becomes `(yield (name, arguments...))`, every call of a
function that contains such calls becomes `(yield from ...)`, and the rest is Python as it stands. So what is explored
is what Numba compiles, not a transcription of it, and a mutant is an edit of the same syntax tree.
"""

import ast
import importlib
import inspect
from collections.abc import Callable, Generator, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

Event = tuple[Any, ...]
"""(name of the atomic or libc call, its arguments...)"""

Coroutine = Generator[Event, int, Any]
Edit = Callable[[ast.Module], None]
"""Changes a module's syntax tree in place; asserts that it found what it changes."""

_LEAVES = {"shm.atomics", "shm.libc"}


def _store_line(address: int, *words: int) -> Coroutine:
    """`store_line` word by word: at least as many orders as the machine's wide stores have."""
    for index, word in enumerate(words):
        yield "store_word", address + 8 * index, word


class Program:
    """Modules as coroutines, some of them edited. `program("shm.ring", "try_push")` is a generator function."""

    def __init__(self, edits: Mapping[str, Edit] | None = None) -> None:
        """`edits`: what to change, by module."""
        self._edits = dict(edits or {})
        self._modules: dict[str, dict[str, Any]] = {}

    def __call__(self, module: str, name: str) -> Callable[..., Coroutine]:
        function = self._load(module)[name]
        assert inspect.isgeneratorfunction(function), f"{module}.{name} touches no shared memory"
        return function

    def _load(self, module_name: str) -> dict[str, Any]:
        if module_name not in self._modules:
            module = importlib.import_module(module_name)
            tree = ast.parse(inspect.getsource(module))
            if module_name in self._edits:
                self._edits[module_name](tree)
            if module_name == "shm.segment":
                derive_publication(tree)
            self._modules[module_name] = self._translate(module, tree)
        return self._modules[module_name]

    def _translate(self, module: ModuleType, tree: ast.Module) -> dict[str, Any]:
        namespace = dict(vars(module))
        leaves: set[str] = set()
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module is not None:
                for alias in node.names:
                    self._import(node.module, alias.name, alias.asname or alias.name, namespace, leaves)
        functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
        coroutines = {name for name, value in namespace.items() if inspect.isgeneratorfunction(value)}
        coroutines -= functions.keys()
        found = True
        while found:
            found = False
            for name, node in functions.items():
                if name not in coroutines and _Rewriter(namespace, leaves, coroutines).would_change(node):
                    coroutines.add(name)
                    found = True
        # All of them: a compiled primitive cannot be called from Python, even one that touches no memory.
        rewritten = [_Rewriter(namespace, leaves, coroutines).rewrite(node) for node in functions.values()]
        code = ast.fix_missing_locations(ast.Module(body=list(rewritten), type_ignores=[]))
        exec(compile(code, f"<{module.__name__} as coroutines>", "exec"), namespace)
        return namespace

    def _import(self, source: str, name: str, bound: str, namespace: dict[str, Any], leaves: set[str]) -> None:
        if f"{source}.{name}" in _LEAVES:
            leaves.add(f"{bound}.")
        elif name == "store_line":
            namespace[bound] = _store_line
        elif source in _LEAVES:
            leaves.add(bound)
        elif source == "shm":
            namespace[bound] = SimpleNamespace(**self._load(f"shm.{name}"))
        elif source.startswith("shm.") and source not in ("shm.kernel", "shm.layout"):
            namespace[bound] = self._load(source)[name]


def derive_publication(tree: ast.Module) -> None:
    """Add `publish(header, payload)` and `attach(header, payload)`: what `Segment` does to memory, in its order.

    The header is written and read with `struct`, which says nothing about memory, so each of the statements that touch
    shared memory is replaced by accesses of one word that it touches; their order is the source's. `attach` returns -1
    for a segment that is not ready, else the sum of the words it read: 1 + 2 + 1 for a complete one.
    """
    writes = {
        "_HEADER.pack_into(": "store_word(header, 1); store_word(header + _READY_OFFSET, 0)",
        "memory[_DESCRIPTION_OFFSET": "store_word(header + _DESCRIPTION_OFFSET, 2)",
        "layout.format(": "format_ring(payload, 1, 64)",
        "_publish_ready(": "_publish_ready(header + _READY_OFFSET)",
    }
    reads = {
        "_is_ready(": "if not _is_ready(header + _READY_OFFSET): return -1",
        "_HEADER.unpack_from(": "found += load_word(header)",
        "json.loads(": "found += load_word(header + _DESCRIPTION_OFFSET)",
    }
    lines = ["from shm.atomics import load_word, store_word", "def publish(header, payload):"]
    lines += [f"    {line}" for line in _accesses(_method(tree, "Segment", "create"), writes)]
    lines += ["def attach(header, payload):", "    found = 0"]
    lines += [f"    {line}" for line in _accesses(_method(tree, None, "_read_header"), reads)]
    lines += ["    return found + load_word(payload)"]
    tree.body += ast.parse("\n".join(lines)).body


def _method(tree: ast.Module, of: str | None, name: str) -> ast.FunctionDef:
    bodies = [tree.body] if of is None else [node.body for node in tree.body if getattr(node, "name", "") == of]
    return next(node for body in bodies for node in body if isinstance(node, ast.FunctionDef) and node.name == name)


def _accesses(function: ast.FunctionDef, replacements: Mapping[str, str]) -> list[str]:
    statements = [ast.unparse(statement) for statement in function.body]
    found = [(text, line) for statement in statements for text, line in replacements.items() if text in statement]
    assert sorted(text for text, _ in found) == sorted(replacements), f"{function.name} touches memory in another way"
    return [line for _, line in found]


class _Rewriter(ast.NodeTransformer):
    def __init__(self, namespace: dict[str, Any], leaves: set[str], coroutines: set[str]) -> None:
        self._namespace, self._leaves, self._coroutines = namespace, leaves, coroutines
        self._changed = False

    def would_change(self, node: ast.FunctionDef) -> bool:
        return any(self._kind(call.func) for call in ast.walk(node) if isinstance(call, ast.Call))

    def rewrite(self, node: ast.FunctionDef) -> ast.FunctionDef:
        node.decorator_list = []
        node.returns = None
        for argument in [*node.args.args, *node.args.kwonlyargs]:
            argument.annotation = None
        node.body = [self.visit(statement) for statement in node.body]
        return node

    def _kind(self, function: ast.expr) -> str:
        """`leaf` for an atomic or libc call, `coroutine` for one of our functions that has such calls, or ''."""
        if isinstance(function, ast.Name):
            if function.id in self._leaves:
                return "leaf"
            return "coroutine" if function.id in self._coroutines else ""
        if isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name):
            owner = function.value.id
            if f"{owner}." in self._leaves:
                return "leaf"
            attribute = getattr(self._namespace.get(owner), function.attr, None)
            return "coroutine" if inspect.isgeneratorfunction(attribute) else ""
        return ""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        kind = self._kind(node.func)
        self.generic_visit(node)
        if kind == "leaf":
            name = node.func.id if isinstance(node.func, ast.Name) else node.func.attr  # type: ignore[attr-defined]
            return ast.Yield(ast.Tuple([ast.Constant(name), *node.args], ast.Load()))
        return ast.YieldFrom(node) if kind == "coroutine" else node
