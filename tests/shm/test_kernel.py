"""What the three kinds of compiled functions become."""

import pytest

from shm.atomics import JIT
from shm.kernel import kernel, primitive, routine


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
