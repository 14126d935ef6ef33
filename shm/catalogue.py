"""Catalogue: what a run counts, one entry each, so that any tool can print it from shared memory, run dead or alive.

An entry says what a number means (id, name, unit, kind, help), who writes it, and in which segment, at which offset, it
stands. The supervisor writes all entries once, before the segment is ready; nobody writes to it afterwards. The numbers
are the writers', in their pages; each is an aligned int64 and stored untorn. Whoever reads knows nothing of the stages:
segments say what they hold in their headers, and the catalogue says the rest.

Byte picture: ENTRY records, one after the other; as many as the segment's header says (`count`).

Kinds: `counter` only grows while its page stands, `gauge` goes both ways, `errors` is a distinct-error log
(`shm.errorlog`), whose number is how many different errors it holds.

A writer that dies leaves its last numbers, and a successor goes on from them. Nothing here can be lost or torn: what is
constant was complete before it could be attached to.
"""

import glob
from collections.abc import Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from typing import Literal

import numpy as np

from shm.atomics import peek
from shm.errorlog import ERROR_LOG_BYTES, Observed, dropped, observed
from shm.segment import SHM_DIRECTORY, Layout, Segment, SegmentError, dtype_fields

NAME = "catalogue"
"""The logical name of a run's catalogue: its segment stands beside those it speaks of."""

Kind = Literal["counter", "gauge", "errors"]

ENTRY = np.dtype(
    [
        ("id", "<i8"),
        ("offset", "<i8"),
        ("name", "S40"),
        ("unit", "S24"),
        ("kind", "S16"),
        ("writer", "S24"),
        ("segment", "S40"),
        ("help", "S176"),
    ]
)


@dataclass(frozen=True)
class Entry:
    """One line of the catalogue; `segment` is a logical name, `offset` one in its payload, in bytes."""

    id: int
    offset: int
    name: str
    unit: str
    kind: Kind
    writer: str
    segment: str
    help: str


@dataclass(frozen=True)
class Reading:
    """An entry, and what stands there now: None when its segment is gone or too short."""

    entry: Entry
    value: int | None
    observed: tuple[Observed, ...] = ()
    """Of an error log: its distinct errors, oldest first."""
    dropped: int = 0
    """Of an error log: observations that found it full."""


def catalogue_layout(entries: Sequence[Entry]) -> Layout:
    """The segment that holds `entries`. Raises ValueError when ids or names repeat, or a text does not fit."""
    keys = [str(entry.id) for entry in entries] + [f"{entry.writer}.{entry.name}" for entry in entries]
    if len(set(keys)) != len(keys):
        raise ValueError(f"catalogue: ids or names repeat: {sorted({key for key in keys if keys.count(key) > 1})}")
    records = np.zeros(len(entries), ENTRY)
    for record, entry in zip(records, entries, strict=True):
        for field, value in zip(fields(entry), astuple(entry), strict=True):
            stored = value.encode() if isinstance(value, str) else value
            record[field.name] = stored
            if record[field.name] != stored:
                raise ValueError(f"catalogue: {field.name}={value!r} takes {len(stored)} bytes: {ENTRY[field.name]}")
    description = {"kind": NAME, "count": str(len(entries)), **dtype_fields(ENTRY)}
    return Layout(description, records.nbytes, initial=records.tobytes())


def find(prefix: str) -> list[str]:
    """Segments that are catalogues of runs whose segments' names begin with `prefix`, by name."""
    return sorted(path.name for path in SHM_DIRECTORY.glob(f"{glob.escape(prefix)}*") if path.name.endswith(f".{NAME}"))


def read(catalogue: str) -> list[Reading]:
    """Every entry of the catalogue in segment `catalogue` with what stands there. Raises SegmentError."""
    run = catalogue.removesuffix(NAME)
    with Segment.observe(catalogue) as segment:
        if segment.layout.payload_bytes % ENTRY.itemsize or segment.layout.kind != NAME:
            raise SegmentError(f"segment {catalogue}: kind={segment.layout.kind}, expected {NAME}")
        entries = list(_entries(segment.view(ENTRY, segment.layout.payload_bytes // ENTRY.itemsize).copy()))
    pages: dict[str, Segment | None] = {}
    for entry in entries:
        if entry.segment not in pages:
            pages[entry.segment] = _observe(run + entry.segment)
    try:
        return [_reading(entry, pages[entry.segment]) for entry in entries]
    finally:
        for page in pages.values():
            if page is not None:
                page.close()


def _entries(records: np.ndarray) -> Iterator[Entry]:
    for record in records:
        values = (record[field.name] for field in fields(Entry))
        yield Entry(*(value.decode(errors="replace") if isinstance(value, bytes) else int(value) for value in values))  # type: ignore[arg-type]  # as `catalogue_layout` wrote them


def _observe(name: str) -> Segment | None:
    try:
        return Segment.observe(name)
    except SegmentError:
        return None  # the run is ending: its segments go one by one


def _reading(entry: Entry, page: Segment | None) -> Reading:
    size = ERROR_LOG_BYTES if entry.kind == "errors" else 8
    if page is None or not 0 <= entry.offset <= page.layout.payload_bytes - size or entry.offset % 8:
        return Reading(entry, None)
    address = page.address + entry.offset
    if entry.kind != "errors":
        return Reading(entry, peek(address))
    errors = tuple(observed(address))
    return Reading(entry, len(errors), errors, dropped(address))
