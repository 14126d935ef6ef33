"""Standard error that is not read: whoever says something goes on."""

import contextlib
import os
import pty
import re
import select
import tty
from collections.abc import Callable

import pytest

from pipeline.words import Words

MANY = 4_000
LAST = b"last words\n"
LINE = "trading goes on, whoever listens\n"


def pipe() -> tuple[int, int]:
    return os.pipe()


def terminal() -> tuple[int, int]:
    reading, writing = pty.openpty()
    tty.setraw(writing)
    return reading, writing


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", [pipe, terminal])
def test_a_reader_that_stands_still_is_not_waited_for_and_told_what_it_has_missed(
    kind: Callable[[], tuple[int, int]],
) -> None:
    reading, writing = kind()
    with open(writing, "w") as stream:  # noqa: PTH123 - a descriptor
        words = Words(stream)
        for _ in range(MANY):
            assert words.write(LINE) == len(LINE)
        said, heard = len(LINE) * MANY, b""
        while not heard.endswith(LAST):
            heard += available(reading)
            said += words.write(LAST.decode())
            heard += available(reading)
        first, *_ = heard.partition(b"\n[")
        assert (LINE * MANY).encode().startswith(first)
        notes = list(re.finditer(rb"\n\[(\d+) bytes of words are lost: nobody read them\]\n", heard))
        assert notes
        assert len(heard) - sum(len(note[0]) for note in notes) + sum(int(note[1]) for note in notes) == said
        assert os.get_blocking(writing), "others share this description"
        words.close()
    os.close(reading)


def available(descriptor: int) -> bytes:
    """What can be read by now; waits for some of it, since a terminal passes on with a delay what it has taken."""
    select.select([descriptor], [], [], 1)
    os.set_blocking(descriptor, False)
    found = b""
    with contextlib.suppress(BlockingIOError):
        while chunk := os.read(descriptor, 65_536):
            found += chunk
    return found
