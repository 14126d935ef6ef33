"""Code that is only ever called by compiled code stays LLVM's intermediate code until a kernel has taken it in.

Numba optimises and assembles each function on its own, with everything that it calls, and its callers do it again: what
lies five calls deep was made into machine code five times, four of them for nobody. So the functions without an entry
from Python are kept as they were before that, and optimised once, as parts of the kernel that is entered.
"""

from typing import Any

import llvmlite.binding
from numba.core.codegen import CPUCodegen, JITCodeLibrary, JITCPUCodegen
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import LoweringPass, PassManager, register_pass
from numba.core.dispatcher import Dispatcher
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import AnnotateTypes

KIND = "intermediate"
"""How the cache tells these libraries from Numba's own."""


class IntermediateLibrary(JITCodeLibrary):
    """A function and all that it calls, for linking only: it has no machine code, so no pointer leads to it."""

    def _optimize_final_module(self) -> None:
        """Leave it to the kernel that this becomes a part of. Numba has simplified each function by itself already."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()  # type: ignore[no-untyped-call]
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """No function is there to be pointed to."""
        return 0

    def serialize_using_object_code(self) -> tuple[str, str, bytes]:
        """What the cache keeps."""
        self._ensure_finalized()  # type: ignore[no-untyped-call]
        return self.name, KIND, self._final_module.as_bitcode()

    @classmethod
    def _unserialize(cls, codegen: CPUCodegen, state: tuple[str, str, bytes]) -> "IntermediateLibrary":
        name, _, bitcode = state
        library = cls(codegen, name)
        library._final_module = llvmlite.binding.parse_bitcode(bitcode)
        library._finalize_final_module()
        return library


@register_pass(mutates_CFG=False, analysis_only=False)
class _KeepIntermediate(LoweringPass):
    _name = "keep_intermediate"

    def __init__(self) -> None:
        LoweringPass.__init__(self)

    def run_pass(self, state: Any) -> bool:
        codegen = state.targetctx.codegen()
        state.library = IntermediateLibrary(codegen, state.func_id.func_qualname)  # type: ignore[no-untyped-call]
        return True


class IntermediateCompiler(CompilerBase):
    """Numba's compiler, but for what becomes of the code in the end."""

    def define_pipelines(self) -> list[PassManager]:
        """The usual passes, with our library given before the last of them fill it."""
        passes = DefaultPassBuilder.define_nopython_pipeline(self.state)
        passes.add_pass_after(_KeepIntermediate, AnnotateTypes)
        passes.finalize()
        return [passes]


class WithoutEntry(CPUDispatcher):
    """A compiled function that ordinary Python cannot enter."""

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(f"{self.py_func.__qualname__} has no entry from Python: call it from a kernel")


def without_entry(dispatcher: Any) -> Any:
    """`dispatcher`, refusing to be called from Python (with the JIT off it is a plain function, which stays one)."""
    if isinstance(dispatcher, Dispatcher):
        dispatcher.__class__ = WithoutEntry
    return dispatcher


def _teach_numba() -> None:
    """Let Numba load these libraries from its cache, and give an environment only to functions that are there.

    The environment is where a function finds Python objects; kernels have none.
    """
    load: Any = CPUCodegen.unserialize_library
    set_env: Any = JITCPUCodegen.set_env

    def unserialize_library(self: Any, serialized: Any) -> Any:
        return IntermediateLibrary._unserialize(self, serialized) if serialized[1] == KIND else load(self, serialized)

    def set_env_if_there(self: Any, env_name: str, env: Any) -> None:
        if self._engine.get_global_value_address(env_name):
            set_env(self, env_name, env)

    CPUCodegen.unserialize_library = unserialize_library  # type: ignore[method-assign]
    JITCPUCodegen.set_env = set_env_if_there  # type: ignore[method-assign]


_teach_numba()
