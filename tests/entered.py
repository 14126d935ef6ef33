"""Routines called from Python: only kernels enter them, so each gets one of its own."""

import functools
from collections.abc import Callable
from typing import Any

import numba


@functools.cache
def entered(routine: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel around `routine`, compiled for what it is called with; the routine itself when the JIT is off."""

    def enter(*arguments: Any) -> Any:
        return routine(*arguments)

    return numba.njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)(enter)  # type: ignore[no-any-return]
