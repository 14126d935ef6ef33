"""Layouts: a dtype, its description in words, its fingerprint, and the difference between two of them."""

import ctypes
import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

CACHE_LINE_BYTES = 64
WRITER_SEPARATION_BYTES = 128
"""Hot fields of different writers stand this far apart: x86 prefetches lines in pairs."""


def record_dtype(fields: list[tuple[str, str] | tuple[str, str, int | tuple[int, ...]]], size_bytes: int) -> np.dtype:
    """A record of `fields` in order, padded to `size_bytes`, which must be a multiple of a cache line.

    Raises ValueError when the fields do not fit or a field would be misaligned.
    """
    dtype = np.dtype(fields, align=True)
    if size_bytes % CACHE_LINE_BYTES or dtype.itemsize > size_bytes:
        raise ValueError(f"record of {dtype.itemsize} bytes does not fit size_bytes={size_bytes}, a multiple of 64")
    assert dtype.fields is not None
    offsets = [dtype.fields[name][1] for name in dtype.names or ()]
    formats = [dtype.fields[name][0] for name in dtype.names or ()]
    spec = {
        "names": dtype.names,
        "formats": formats,
        "offsets": offsets,
        "itemsize": size_bytes,
        "aligned": True,
    }
    return np.dtype(spec)  # type: ignore[call-overload]  # numpy types this form too narrowly


def describe(dtype: np.dtype) -> dict[str, str]:
    """{field: "format@offset"} of a record dtype, with `itemsize`; nested records are flattened by dots."""
    fields: dict[str, str] = {"itemsize": str(dtype.itemsize)}
    for name in dtype.names or ():
        assert dtype.fields is not None
        field, offset = dtype.fields[name][:2]
        if field.names:
            for inner, text in describe(field).items():
                fields[f"{name}.{inner}"] = f"{text}+{offset}"
        else:
            fields[name] = f"{field.base.str}{list(field.shape) or ''}@{offset}"
    return fields


def field_offset(dtype: np.dtype, *path: str) -> int:
    """Offset in bytes of a field of `dtype`, or of a field of that field, and so on. Raises KeyError."""
    offset = 0
    for name in path:
        if dtype.fields is None:
            raise KeyError(name)
        dtype, at = dtype.fields[name][:2]
        offset += at
    return offset


def word_of(records: NDArray[np.void], field: str, value: int) -> tuple[int, int]:
    """(address, value) of a field of the first record: a word to be set later."""
    return int(records.ctypes.data) + field_offset(records.dtype, field), value


def fingerprint(description: dict[str, str]) -> bytes:
    """32 bytes that differ when the description differs."""
    return hashlib.sha256(json.dumps(description, sort_keys=True).encode()).digest()


def differences(expected: dict[str, str], found: dict[str, str]) -> list[str]:
    """One line per field that differs, both sides shown."""
    return [
        f"{name}: expected {expected.get(name, 'absent')}, found {found.get(name, 'absent')}"
        for name in sorted(expected.keys() | found.keys())
        if expected.get(name) != found.get(name)
    ]


def align_up(value: int, multiple: int) -> int:
    """The least multiple of `multiple` that is >= `value`."""
    return -(-value // multiple) * multiple


def padded(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """A record whose one field `record` has `dtype`, of whole 8-byte words: how primitives keep records of any size."""
    size = align_up(dtype.itemsize, 8)
    return np.dtype({"names": ["record"], "formats": [dtype], "itemsize": size})


def bytes_at(address: int, size: int) -> memoryview:
    """The `size` bytes at `address`, which the caller keeps mapped, to read and write."""
    return memoryview((ctypes.c_uint8 * size).from_address(address))


def record_at(address: int, dtype: np.dtype[Any]) -> np.void:
    """A copy of the record of `dtype` at `address`, which the caller keeps mapped."""
    record: np.void = np.frombuffer(bytes_at(address, dtype.itemsize), dtype)[0].copy()
    return record
