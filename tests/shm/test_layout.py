"""Layouts, counters and the difference between two of them."""

import numpy as np
import pytest

from shm.counters import Counter, counters_dtype
from shm.layout import align_up, describe, differences, fingerprint, record_dtype


def test_a_record_is_padded_to_whole_cache_lines_and_aligned() -> None:
    dtype = record_dtype([("kind", "u1"), ("price", "<i8")], 64)
    assert dtype.itemsize == 64
    assert dtype.fields is not None
    assert dtype.fields["price"][1] == 8


@pytest.mark.parametrize("size", [8, 72])
def test_a_size_that_does_not_hold_the_fields_in_whole_lines_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match=f"size_bytes={size}"):
        record_dtype([("a", "<i8"), ("b", "<i8")], size)


def test_the_difference_names_both_sides_of_each_field() -> None:
    one = describe(np.dtype([("a", "<i8"), ("b", "<i4")]))
    two = describe(np.dtype([("a", "<i8"), ("c", "<i4")]))
    assert fingerprint(one) != fingerprint(two)
    assert differences(one, two) == ["b: expected <i4@8, found absent", "c: expected absent, found <i4@8"]
    assert differences(one, one) == []


def test_counters_with_one_name_twice_are_refused() -> None:
    with pytest.raises(ValueError, match="events"):
        counters_dtype([Counter("events", "a"), Counter("events", "b")])


def test_align_up_goes_to_the_next_multiple() -> None:
    assert [align_up(value, 64) for value in (0, 1, 64, 65)] == [0, 64, 64, 128]
