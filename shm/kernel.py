"""How kernels are compiled, and where the compiled code is kept.

A `kernel` is entered from Python, without the interpreter lock. Only compiled code calls the other two: a `routine`
as LLVM sees fit, a `primitive` is inlined into its caller, so a ring push costs no call. All are kept in Numba's disk
cache, raise nothing and check no bounds: what they are given is checked before the line runs.

Numba notices a change of the file that holds a function, not of the files it calls into, and would silently run old
code. So the cache folder is named by a hash of everything compiled code can come from: our sources and the versions of
Python, Numba and llvmlite. A folder per hash; `prune_caches` removes the ones not used for long.
"""

import fcntl
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar, cast

import llvmlite.binding
import numba
from numba.core import caching

from shm.intermediate import IntermediateCompiler, without_entry
from shm.processor import identity
from shm.user_folders import user_folder

F = TypeVar("F", bound=Callable[..., Any])

KERNEL_PACKAGES = ("shm", "stages")
"""The packages, beside each other on disk, that hold compiled functions."""

KEEP_CACHE_S = 14 * 86_400


def hash_files(files: Iterable[Path], salt: str = "") -> str:
    """16 hex digits over the names and contents of `files`."""
    digest = hashlib.sha256(salt.encode())
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def sources_hash() -> str:
    """Hash of our kernel packages' sources, the versions that compile them, and the machine they are compiled for."""
    root = Path(__file__).parent.parent
    files = (file for package in KERNEL_PACKAGES for file in sorted((root / package).rglob("*.py")))
    versions = [sys.version, version("numba"), version("llvmlite"), version("numpy"), identity()]
    return hash_files(files, "|".join(versions))


def cache_root() -> Path:
    """$XDG_CACHE_HOME/tickpipe, by default ~/.cache/tickpipe. Raises FileNotFoundError when no home is known."""
    return user_folder("XDG_CACHE_HOME", ".cache") / "tickpipe"


def prune_caches() -> None:
    """Remove cache folders that no process has used for two weeks."""
    for folder in cache_root().glob("*/"):
        if time.time() - folder.stat().st_mtime > KEEP_CACHE_S:
            shutil.rmtree(folder, ignore_errors=True)


SOURCES_HASH = sources_hash()

if "NUMBA_CACHE_DIR" not in os.environ:
    numba.config.CACHE_DIR = str(cache_root() / SOURCES_HASH)  # type: ignore[attr-defined]  # set by a loader


def _write_cache_indexes_one_at_a_time() -> None:
    """Put Numba's cache updates under a file lock.

    Numba reads a function's index, picks a free file name and writes both back. Two processes doing that at once (two
    runs starting, or the compile workers of one) could give two signatures one file, and a later run the wrong code.
    """
    save = caching.IndexDataCacheFile.save

    def locked_save(self: Any, key: Any, data: Any) -> None:
        Path(self._cache_path).mkdir(parents=True, exist_ok=True)
        with (Path(self._cache_path) / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            save(self, key, data)  # type: ignore[no-untyped-call]

    caching.IndexDataCacheFile.save = locked_save  # type: ignore[method-assign]


_write_cache_indexes_one_at_a_time()


class _OwnCache(caching.FunctionCache):
    """Loads compiled code without what only compiling needs: all that Numba knows of types and functions.

    Numba imports and registers it first, for a third of a warm start, and with it starts its runtime, which our code is
    compiled without. That of others is not: a strategy's own functions may be cached too, and allocate.
    """

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        return self._load_overload(signature, target_context)  # type: ignore[no-untyped-call]


# When LLVM makes a function's machine code it may first rewrite an address `base + offset`, a number to us, as one
# "inbounds" of a pointer, and take `offset` for the pointer. Where that may be 0, its rules say that nobody gets there.
# Numba links what was rewritten into callers and optimises again, and the branch that leads there is gone: code around
# `row + (16 if side == BUY else 0)` was compiled as if every side were BUY. So addresses stay numbers.
llvmlite.binding.set_option("tickpipe", "-addr-sink-using-gep=false")


_OPTIONS = {
    "nogil": True, "cache": True, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": False, "forceinline": False,
}  # fmt: skip
"""Without Numba's runtime: kernels allocate nothing, and it would count a reference, atomically, for every array that
is passed on or looked at. Those calls were half of the code and of the time of the book, risk and router.

What is not to be inlined says so: else it is where it happens to be compiled for a caller that is. The book's poll was
three times as large, and took twice as long to compile, when a `primitive` was the first to call the depth of a book.
"""

_WITHOUT_ENTRY = {"no_cpython_wrapper": True, "pipeline_class": IntermediateCompiler}
"""For what is never called from Python. Unpacking a context in wrappers took a third of all compile time."""

_njit: Any = numba.njit  # its stubs do not know the options that leave wrappers out


def _compiled(function: F, **options: Any) -> Any:
    compiled = _njit(**_OPTIONS | options)(function)
    if compiled is not function:  # as it is with the JIT off
        compiled._cache.__class__ = _OwnCache
    return compiled


def primitive(function: F) -> F:
    """Compile `function` to be inlined into every compiled caller; ordinary Python cannot call it."""
    return cast(F, without_entry(_compiled(function, **_WITHOUT_ENTRY, forceinline=True)))


def routine(function: F) -> F:
    """Compile `function` to be called from kernels; LLVM decides on inlining. Ordinary Python cannot call it."""
    return cast(F, without_entry(_compiled(function, **_WITHOUT_ENTRY)))


def kernel(function: F) -> F:
    """Compile `function` as a kernel, entered from Python: no interpreter lock, cached on disk."""
    return cast(F, _compiled(function))


def checked(function: F) -> F:
    """Compile code that is not ours: a wrong index raises IndexError instead of writing into our memory."""
    return cast(F, _compiled(function, boundscheck=True))
