"""Addresses are numbers: LLVM must not take a part of a sum for a pointer, or it may prove that branches never run."""

import re

import numpy as np
import pytest

from shm.atomics import JIT, load_word
from shm.kernel import kernel, primitive


@primitive
def _level_at(row: int, level: int, side: int) -> int:
    return row + 32 * level + (16 if side == 0 else 0)


@kernel
def _is_deeper(row: int, key: int, levels: int, side: int) -> bool:
    at = _level_at(row, levels - 1, side)
    return load_word(at + 8) > 0 and key < load_word(at)


@pytest.mark.skipif(not JIT, reason="about compiled code")
def test_no_sum_becomes_an_offset_within_an_object() -> None:
    row = np.array([10, 1, 20, 1])
    assert [_is_deeper(row.ctypes.data, 15, 1, side) for side in (0, 1)] == [True, False]
    (code,) = _is_deeper.inspect_llvm().values()  # as its machine code was made, which is what callers get
    body = re.search(r"^define [^\n]*_is_deeper[^\n]*i64 [^\n]*\{.*?^\}", code, re.DOTALL | re.MULTILINE)
    assert body is not None
    assert "inttoptr" in body[0]
    assert "getelementptr inbounds" not in body[0]
