"""What the three kinds of compiled functions become, and what is loaded of them from the cache."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shm.atomics import JIT
from shm.kernel import kernel, primitive, routine
from tests.conftest import REPOSITORY


@routine
def _called(number: int) -> int:
    return number * 3


@primitive
def _between(number: int) -> int:
    return _called(number) + 1


@kernel
def _entered(number: int) -> int:
    return _between(number)


@pytest.mark.skipif(not JIT, reason="looks at compiled code")
def test_a_routine_that_a_primitive_is_the_first_to_call_is_not_inlined_by_force() -> None:
    assert _entered(2) == 7
    (compiled,) = _called.overloads.values()  # type: ignore[attr-defined]
    (function,) = (each for each in compiled.library._final_module.functions if "_called" in each.name)
    assert not [attribute for attribute in function.attributes if b"alwaysinline" in attribute]


_OURS_AND_NOT = """
import sys, numba, numpy as np
from shm.kernel import kernel

@kernel
def ours(number):
    return number + 1

@numba.njit(cache=True)
def theirs(count):
    return np.empty(count)

print(ours(2), "numba.np.arrayobj" in sys.modules, len(theirs(3)))
print(*(sum(function.stats.cache_hits.values()) for function in (ours, theirs)))
"""


@pytest.mark.skipif(not JIT, reason="looks at compiled code")
def test_our_code_is_loaded_without_the_compiler_and_that_of_others_with_the_runtime_that_it_needs(
    tmp_path: Path,
) -> None:
    file = tmp_path / "ours_and_not.py"
    file.write_text(_OURS_AND_NOT)
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": str(REPOSITORY)}
    said = [
        subprocess.run([sys.executable, file], env=environment, capture_output=True, text=True, timeout=60, check=True)
        for _ in range(2)
    ]
    assert [process.stdout.split() for process in said] == [["3", "True", "3", "0", "0"], ["3", "False", "3", "1", "1"]]
