"""Load a strategy: find its files, import them, check what it declares, hand its functions to the compiler.

    StrategyError       names the file, says what is wrong and what to do

A strategy's files are the strategy file and every module it imports, directly or not, from outside the standard
library, site-packages and our own packages (those are in the hash of our sources already). They are found by reading
the import statements, without running anything, so that the cache folder's key is known before the code is loaded.
They are then compiled from source, never from a .pyc: Python trusts one whose source has the same size and was changed
within the same second, and an old strategy would trade.
"""

import ast
import difflib
import importlib.abc
import importlib.machinery
import importlib.util
import keyword
import site
import sys
import sysconfig
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.kernel import KERNEL_PACKAGES, checked
from stages.agent import AgentError
from stages.strategy.api import Parameter

SHIPPED = Path(__file__).parent / "shipped"
HANDLERS = {"on_book": "ctx, book", "on_trade": "ctx, trade", "on_report": "ctx, report", "on_restart": "ctx"}
"""Handler: its arguments."""
MODULE_NAME = "tickpipe_strategy"
PARAMETERS_TYPE = "ParameterValues"
_OURS = (*KERNEL_PACKAGES, "launch", "pipeline")


class StrategyError(AgentError):
    """A strategy cannot be used: `file`, `what` is wrong with it, and a `hint`."""

    def __init__(self, file: Path | str, what: str, hint: str) -> None:
        super().__init__(f"{file}: {what}; hint: {hint}")
        self.file, self.what, self.hint = file, what, hint


@dataclass(frozen=True)
class Strategy:
    """A loaded strategy; its handlers are compiled when the line first calls them."""

    path: Path
    files: list[Path]
    module: ModuleType
    handlers: tuple[str, ...]
    """Those of HANDLERS that the file defines."""
    parameters: dict[str, Parameter]
    state_dtype: np.dtype


def shipped_strategies() -> list[str]:
    """Names of the strategies that come with the system."""
    return sorted(path.stem for path in SHIPPED.glob("*.py") if path.stem != "__init__")


def strategy_path(name: str) -> Path:
    """The file of a shipped strategy's name or of a path ending in .py. Raises StrategyError when there is none."""
    if name in shipped_strategies():
        return SHIPPED / f"{name}.py"
    path = Path(name).expanduser()
    if path.suffix != ".py":
        close = difflib.get_close_matches(name, shipped_strategies(), 1)
        hint = f"did you mean {close[0]}?" if close else f"shipped are {', '.join(shipped_strategies())}; or FILE.py"
        raise StrategyError(name, "is neither a shipped strategy nor a Python file", hint)
    if not path.is_file():
        raise StrategyError(path, "no such file", f"give a path, or one of {', '.join(shipped_strategies())}")
    return path.resolve()


def strategy_files(path: Path) -> list[Path]:
    """The strategy's files: itself first, then the modules it imports. Raises StrategyError for bad syntax."""
    return [path, *_local_modules(path).values()]


def load(path: Path) -> Strategy:
    """Import and check a strategy file. Raises StrategyError."""
    helpers = _local_modules(path)
    module = _import(path, helpers)
    _compile_functions([module, *(sys.modules[name] for name in helpers if name in sys.modules)])
    handlers = tuple(name for name in HANDLERS if _is_handler(path, module, name))
    if "on_book" not in handlers and "on_trade" not in handlers:
        raise StrategyError(path, "defines neither on_book nor on_trade", "add `def on_book(ctx, book):`")
    parameters = _parameters(path, module)
    # Named within the module, because Numba's cache names the type of ctx.parameters by module and name.
    names = tuple(parameters) or ("unused",)
    setattr(module, PARAMETERS_TYPE, namedtuple(PARAMETERS_TYPE, names, module=MODULE_NAME))
    return Strategy(
        path=path,
        files=[path, *helpers.values()],
        module=module,
        handlers=handlers,
        parameters=parameters,
        state_dtype=_state_dtype(path, module),
    )


def parameter_values(strategy: Strategy, given: Mapping[str, int]) -> NDArray[np.int64]:
    """A value for each declared parameter, in the order of the declarations. Raises StrategyError."""
    declared = strategy.parameters
    for name in given:
        if name not in declared:
            close = difflib.get_close_matches(name, declared, 1)
            hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(declared) or 'none'}"
            raise StrategyError(strategy.path, f"parameter {name}: the strategy declares no such parameter", hint)
    for name, parameter in declared.items():
        value = given.get(name, parameter.default)
        if not parameter.minimum <= value <= parameter.maximum:
            raise StrategyError(
                strategy.path,
                f"parameter {name}={value} is outside {parameter.minimum} to {parameter.maximum}",
                parameter.help,
            )
    return np.array([given.get(name, declared[name].default) for name in declared] or [0], np.int64)


# ---- which files


def _local_modules(path: Path) -> dict[str, Path]:
    """{module name: file} of everything `path` imports from outside libraries, in the order found."""
    found: dict[str, Path] = {}
    search = [str(path.parent), *(entry for entry in sys.path if not _is_library(Path(entry or ".").resolve()))]
    queue = [path]
    while queue:
        file = queue.pop(0)
        for name in _imported_names(file):
            target = None if name in found else _find(name, search)
            if target is not None:
                found[name] = target
                queue.append(target)
    return found


def _imported_names(file: Path) -> Iterator[str]:
    """Dotted names that a file's import statements may mean as modules, parents before children."""
    try:
        tree = ast.parse(file.read_bytes(), str(file))
    except SyntaxError as error:
        raise StrategyError(file, f"line {error.lineno}: {error.msg}", "correct the syntax") from error
    except (OSError, ValueError) as error:
        raise StrategyError(file, f"cannot be read: {error}", "give a readable Python file") from error
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise StrategyError(
                    file, f"line {node.lineno}: relative import", "import modules beside the strategy by name"
                )
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            parts = name.split(".")
            yield from (".".join(parts[: count + 1]) for count in range(len(parts)))


def _find(name: str, search: Sequence[str]) -> Path | None:
    """File of module `name` when it is found on `search` and is neither a library's nor ours."""
    parts = name.split(".")
    if parts[0] in _OURS or parts[0] in sys.stdlib_module_names:
        return None
    where: Sequence[str] = search
    spec = None
    for count in range(len(parts)):
        spec = importlib.machinery.PathFinder.find_spec(".".join(parts[: count + 1]), where)
        if spec is None:
            return None
        where = list(spec.submodule_search_locations or ())
    if spec is None or spec.origin is None or not spec.origin.endswith(".py"):
        return None
    origin = Path(spec.origin).resolve()
    return None if _is_library(origin) else origin


def _library_folders() -> list[Path]:
    paths = sysconfig.get_paths()
    folders = [paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")]
    return [Path(folder).resolve() for folder in (*folders, *site.getsitepackages(), site.getusersitepackages())]


def _is_library(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _library_folders())


# ---- import


class _SourceLoader(importlib.machinery.SourceFileLoader):
    """Compiles the source it finds now; reads and writes no .pyc."""

    def get_code(self, fullname: str) -> Any:
        return self.source_to_code(self.get_data(self.path), self.path)


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the strategy's own modules, before anything of the same name."""

    def __init__(self, files: dict[str, Path]) -> None:
        self._files = files

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        file = self._files.get(fullname)
        return None if file is None else _spec(fullname, file)


def _spec(name: str, file: Path) -> importlib.machinery.ModuleSpec | None:
    folders = [str(file.parent)] if file.name == "__init__.py" else None
    return importlib.util.spec_from_file_location(
        name, file, loader=_SourceLoader(name, str(file)), submodule_search_locations=folders
    )


@contextmanager
def _finding(files: dict[str, Path]) -> Iterator[None]:
    for name in files:
        sys.modules.pop(name, None)  # of an earlier load, perhaps from another folder
    finder = _Finder(files)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _import(path: Path, helpers: dict[str, Path]) -> ModuleType:
    spec = _spec(MODULE_NAME, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[MODULE_NAME] = module
    try:
        with _finding(helpers):
            spec.loader.exec_module(module)
    except StrategyError:
        raise
    except Exception as error:
        where = _last_line(error, [path, *helpers.values()])
        raise StrategyError(
            path, f"{where}{type(error).__name__}: {error}", "the file must import without error"
        ) from error
    return module


def _last_line(error: BaseException, files: Sequence[Path]) -> str:
    """`line N: ` of the innermost frame that is in one of the strategy's files."""
    place, trace = "", error.__traceback__
    while trace is not None:
        file = Path(trace.tb_frame.f_code.co_filename)
        if file in files:
            place = f"line {trace.tb_lineno}: " if file == files[0] else f"{file.name} line {trace.tb_lineno}: "
        trace = trace.tb_next
    return place


# ---- what it declares


def _compile_functions(modules: Sequence[ModuleType]) -> None:
    """Replace every plain function of `modules`, wherever it is named, by one compiled on its first call.

    With bounds checks: a strategy is not ours, and a wrong index must stop trading, not write into our memory.
    """
    own = {module.__name__ for module in modules}
    compiled: dict[FunctionType, Any] = {}
    for module in modules:
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__module__ in own:
                if value not in compiled:
                    compiled[value] = checked(value)
                setattr(module, name, compiled[value])


def _is_handler(path: Path, module: ModuleType, name: str) -> bool:
    handler = getattr(module, name, None)
    if handler is None:
        return False
    function = getattr(handler, "py_func", handler)
    if not isinstance(function, FunctionType):
        raise StrategyError(path, f"{name} is a {type(handler).__name__}", f"make it a function: def {name}(ctx, ...)")
    expected = HANDLERS[name].count(",") + 1
    if function.__code__.co_argcount != expected:
        raise StrategyError(
            path,
            f"line {function.__code__.co_firstlineno}: {name} takes {function.__code__.co_argcount} arguments",
            f"it takes {expected}: def {name}({HANDLERS[name]})",
        )
    return True


def _parameters(path: Path, module: ModuleType) -> dict[str, Parameter]:
    declared = getattr(module, "PARAMETERS", {})
    hint = 'PARAMETERS = {"name": Parameter(default=1, minimum=0, maximum=10, help="what, in which unit")}'
    if not isinstance(declared, dict):
        raise StrategyError(path, f"PARAMETERS is a {type(declared).__name__}", hint)
    for name, parameter in declared.items():
        if not isinstance(name, str) or not _is_plain_name(name) or not isinstance(parameter, Parameter):
            raise StrategyError(path, f"PARAMETERS[{name!r}] is not a Parameter with a plain name", hint)
        numbers = (parameter.default, parameter.minimum, parameter.maximum)
        if not all(type(number) is int and abs(number) < 2**63 for number in numbers):
            raise StrategyError(path, f"parameter {name}: default, minimum and maximum must be integers", hint)
        if not parameter.minimum <= parameter.default <= parameter.maximum:
            raise StrategyError(path, f"parameter {name}: default={parameter.default} is outside its range", hint)
    return dict(declared)


def _is_plain_name(name: str) -> bool:
    return name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_")


def _state_dtype(path: Path, module: ModuleType) -> np.dtype:
    state = getattr(module, "STATE", None)
    if state is None:
        return np.dtype([("unused", "<i8")])
    if not isinstance(state, np.dtype) or not state.names or state.hasobject:
        raise StrategyError(path, "STATE is not a record of numbers", 'STATE = state_record("order_id", "count")')
    return state
