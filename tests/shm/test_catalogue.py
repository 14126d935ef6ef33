"""The catalogue: a tool that knows nothing but its segment finds and reads every counter, run dead or alive."""

import os
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from shm import catalogue
from shm.atomics import poke
from shm.catalogue import Entry, catalogue_layout
from shm.counters import Counter, counters_dtype
from shm.errorlog import ERROR_LOG, ErrorLog
from shm.layout import field_offset
from shm.segment import Segment, SegmentError, record_layout, unlink
from tests.shm.processes import Children, cores

COUNTERS = (Counter("orders", "orders sent", "orders"), Counter("open", "open now", kind="gauge"))
PAGE = np.dtype([("counters", counters_dtype(COUNTERS)), ("errors", ERROR_LOG)])
ENTRIES = [
    Entry(0, 0, "orders", "orders", "counter", "router", "page.router", "orders sent"),
    Entry(1, 8, "open", "1", "gauge", "router", "page.router", "open now: é"),
    Entry(2, field_offset(PAGE, "errors"), "errors", "errors", "errors", "router", "page.router", "what went wrong"),
]


@pytest.fixture
def run() -> Iterator[str]:
    prefix = f"tickpipe.test-{os.getpid()}-run."
    yield prefix
    for name in (catalogue.NAME, "page.router"):
        unlink(prefix + name)


def test_a_number_is_printed_with_its_meaning_after_its_writer_was_killed(run: str) -> None:
    page = Segment.create(f"{run}page.router", record_layout(PAGE))
    Segment.create(f"{run}{catalogue.NAME}", catalogue_layout(ENTRIES))

    def write() -> None:
        attached = Segment.attach(page.name, page.layout, writable=True)
        poke(attached.address, 7)
        poke(attached.address + 8, -3)
        ErrorLog(attached.address + field_offset(PAGE, "errors")).observe("lost connection 1", 40)
        poke(attached.address, 8)
        while True:
            pass

    with Children() as children:
        writer = children.fork("writer", cores()[-1], write)
        while catalogue.read(f"{run}{catalogue.NAME}")[0].value != 8:
            assert not children.has_exited(writer)
        children.kill(writer)
    assert catalogue.find(run) == [f"{run}{catalogue.NAME}"]
    orders, open_now, errors = catalogue.read(f"{run}{catalogue.NAME}")
    assert [each.entry for each in (orders, open_now, errors)] == ENTRIES
    assert (orders.value, open_now.value, errors.value) == (8, -3, 1)
    assert [(each.text, each.count) for each in errors.observed] == [("lost connection 1", 1)]


def test_a_page_that_is_gone_or_too_short_has_no_numbers(run: str) -> None:
    entries = [*ENTRIES, replace(ENTRIES[0], id=3, name="beyond", offset=PAGE.itemsize - 7)]
    entries += [replace(ENTRIES[2], id=4, name="errors too", offset=8), replace(ENTRIES[0], id=5, name="b", offset=-8)]
    Segment.create(f"{run}{catalogue.NAME}", catalogue_layout(entries))
    assert {each.value for each in catalogue.read(f"{run}{catalogue.NAME}")} == {None}
    Segment.create(f"{run}page.router", record_layout(counters_dtype(COUNTERS)))
    values = [each.value for each in catalogue.read(f"{run}{catalogue.NAME}")]
    assert values == [0, 0, None, None, None, None]


def test_what_is_no_catalogue_is_refused(run: str) -> None:
    with pytest.raises(SegmentError, match="not found"):
        catalogue.read(f"{run}{catalogue.NAME}")
    Segment.create(f"{run}{catalogue.NAME}", record_layout(PAGE))
    with pytest.raises(SegmentError, match="kind=records"):
        catalogue.read(f"{run}{catalogue.NAME}")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"id": 1}, "repeat"),
        ({"name": "open", "id": 9}, "repeat"),
        ({"help": "h" * 177}, "help"),
        ({"segment": "s" * 41}, "segment"),
    ],
)
def test_what_cannot_be_told_apart_or_does_not_fit_is_refused(change: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        catalogue_layout([replace(ENTRIES[0], **change), *ENTRIES[1:]])  # type: ignore[arg-type]
