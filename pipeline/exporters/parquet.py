"""Captures as Parquet, for research: the tables of what was captured, a file each.

Prices and quantities of Binance are exact decimals with 8 places, prices of ITCH and raw messages with the places that
they have there. What a table's columns are stands with its reader: `parquet_binance`, `parquet_binary`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import UsageError
from pipeline.exporters import parquet_binance, parquet_binary
from pipeline.exporters.parquet_binary import Columns
from stages.domain.captures.binance import CaptureError
from stages.domain.captures.itch import is_itch
from stages.domain.captures.raw import is_raw

if TYPE_CHECKING:
    import pyarrow

DIGITS = 19
"""Of what an int64 mantissa holds."""

Reader = Callable[[str, list[str]], Iterator[tuple[str, Columns]]]
"""Of a file: (table, some of its rows) as long as there are any; what cannot be read goes to the list, in words."""


def export(file: Path, folder: Path) -> tuple[dict[Path, int], list[str]]:
    """({file written: rows}, what could not be read, in words). Raises UsageError."""
    try:
        import pyarrow.parquet
    except ImportError:
        raise UsageError("Parquet needs pyarrow, which is not installed", 'pip install "tickpipe[parquet]"') from None
    folder.mkdir(parents=True, exist_ok=True)
    stem = file.name.removesuffix(".gz")
    problems: list[str] = []
    written: dict[Path, int] = {}
    writers: dict[str, Any] = {}
    try:
        for name, columns in _reader_of(str(file))(str(file), problems):
            table = _table(pyarrow, columns)
            path = folder / f"{stem}.{name}.parquet"
            if name not in writers:
                writers[name] = pyarrow.parquet.ParquetWriter(path, table.schema)
            writers[name].write_table(table)
            written[path] = written.get(path, 0) + table.num_rows
    except CaptureError as error:
        raise UsageError(error.message, error.hint) from None
    finally:
        for writer in writers.values():
            writer.close()
    if not written:
        raise UsageError(
            f"{file}: holds no market data" + (f"; {problems[0]}" if problems else ""),
            "give a capture (lines of `<receive ns> <raw JSON>`), ITCH 5.0 or raw messages, or packets of these",
        )
    return written, problems


def _reader_of(file: str) -> Reader:
    if is_itch(file):
        return parquet_binary.itch
    return parquet_binary.raw if is_raw(file) else parquet_binance.tables


def _table(arrow: "Any", columns: Columns) -> "pyarrow.Table":
    return arrow.table({name: _array(arrow, kind, values) for name, (kind, values) in columns.items()})


def _array(arrow: "Any", kind: str, values: Any) -> "pyarrow.Array":
    if kind.startswith("decimal"):
        return _decimals(arrow, np.asarray(values).astype(np.int64), int(kind.split()[1]))
    return arrow.array(values, kind)


def _decimals(arrow: "Any", mantissas: NDArray[np.int64], places: int) -> "pyarrow.Array":
    """128-bit decimals, little-endian, of int64 mantissas."""
    words = np.stack([mantissas, mantissas >> 63], axis=1)
    return arrow.Array.from_buffers(
        arrow.decimal128(DIGITS, places), len(mantissas), [None, arrow.py_buffer(words.tobytes())]
    )
