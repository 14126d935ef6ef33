"""Distinct-error log: what went wrong, each different thing once, with how often and when; in a page of shared memory.

A log file grows with every repetition and belongs to its process. This one is of a fixed size, can be read by anybody
at any time, and outlives its writer. The idea is Aeron's.

Byte picture (offsets from the log's base address, a multiple of 8; all zero when fresh):

      0  dropped         observations that found no entry free
    128  ENTRY_COUNT entries of ENTRY_BYTES:

      0  length          of the text in bytes, 1 to TEXT_BYTES; 0: not an entry yet, and none comes after it
      8  severity        as Python's logging counts: 30 warning, 40 error, 50 critical
     16  first_ns        CLOCK_REALTIME of the first observation
     24  last_ns         of the newest one
     32  count           observations
     40  text            UTF-8, the first observation's; cut to fit

One process writes all of it, one thread at a time; any number of others map it read-only. Nobody waits for anybody.
Two observations are of one error when their texts differ in numbers only (`sameness`).

Order. The words of a new entry are stored first and `length` last, by a release store: whoever loads a length with
acquire sees a whole entry, whose text never changes. `last_ns` and `count` of an old entry are stored untorn and
relaxed, in that order, and may be seen a moment apart.

What a writer that dies leaves behind: before the store of `length` no entry, and its successor begins the same one
anew; between `last_ns` and `count` an observation that is dated and not counted; else nothing that disagrees. The
successor finds the entries and goes on counting in them. Entries are never taken back. What can be lost: the
observation at a kill, and the texts that found all entries taken; these are counted, in `dropped`.
"""

import re
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from shm.atomics import load_acquire, load_relaxed, load_word, peek, poke, store_relaxed, store_release, store_word
from shm.kernel import kernel, primitive

DROPPED = 0
ENTRIES = 128
ENTRY_COUNT = 32
ENTRY_BYTES = 512

LENGTH = 0
SEVERITY = 8
FIRST_NS = 16
LAST_NS = 24
COUNT = 32
TEXT = 40
TEXT_BYTES = ENTRY_BYTES - TEXT

ERROR_LOG_BYTES = ENTRIES + ENTRY_COUNT * ENTRY_BYTES
ERROR_LOG: np.dtype[Any] = np.dtype([("words", "<i8", (ERROR_LOG_BYTES // 8,))])

_NUMBER = re.compile(r"0x[0-9a-fA-F]+|\d+")
_SAME_CHARACTERS = 160
"""Of the beginning: behind it a text may have been cut."""


@primitive
def append(entry: int, text: int, length: int, severity: int, now_ns: int) -> None:
    """Writer: make the entry at address `entry`, the first that is none. The text is readable in whole words."""
    for offset in range(0, length, 8):
        store_word(entry + TEXT + offset, load_word(text + offset))
    store_word(entry + SEVERITY, severity)
    store_word(entry + FIRST_NS, now_ns)
    store_relaxed(entry + LAST_NS, now_ns)
    store_relaxed(entry + COUNT, 1)
    store_release(entry + LENGTH, length)


@primitive
def repeat(entry: int, now_ns: int) -> None:
    """Writer: the error of this entry was observed once more."""
    store_relaxed(entry + LAST_NS, now_ns)
    store_relaxed(entry + COUNT, load_word(entry + COUNT) + 1)


@primitive
def copy_entry(entry: int, target: int) -> int:
    """Anybody: copy the entry to address `target`; returns its text's length, 0 (and nothing copied) if it is none."""
    length = load_acquire(entry + LENGTH)
    if length < 1 or length > TEXT_BYTES:
        return 0
    for offset in range(SEVERITY, TEXT + length, 8):
        store_word(target + offset, load_relaxed(entry + offset))
    return length


@kernel
def _append(entry: int, text: int, length: int, severity: int, now_ns: int) -> None:
    append(entry, text, length, severity, now_ns)


@kernel
def _repeat(entry: int, now_ns: int) -> None:
    repeat(entry, now_ns)


@kernel
def _copy_entry(entry: int, target: int) -> int:
    return copy_entry(entry, target)


@dataclass(frozen=True)
class Observed:
    """One distinct error. Times are CLOCK_REALTIME in ns."""

    text: str
    severity: int
    count: int
    first_ns: int
    last_ns: int


def sameness(text: str) -> str:
    """What two texts of one error have in common: all but the numbers, and but for what a cut may have taken."""
    return _NUMBER.sub("#", text)[:_SAME_CHARACTERS]


def observed(base: int) -> list[Observed]:
    """The distinct errors in the log at address `base`, oldest first, while its writer may be writing."""
    copy = np.zeros(ENTRY_BYTES // 8, np.int64)
    found = []
    for index in range(ENTRY_COUNT):
        length = int(_copy_entry(base + ENTRIES + index * ENTRY_BYTES, copy.ctypes.data))
        if length == 0:
            break
        severity, first_ns, last_ns, count = (int(copy[at // 8]) for at in (SEVERITY, FIRST_NS, LAST_NS, COUNT))
        text = copy.tobytes()[TEXT : TEXT + length].decode(errors="replace")
        found.append(Observed(text, severity, count, first_ns, last_ns))
    return found


def dropped(base: int) -> int:
    """Observations of errors for which there was no entry left."""
    return peek(base + DROPPED)


class ErrorLog:
    """The writer's end. It goes on with what a predecessor left."""

    def __init__(self, base: int) -> None:
        """The log at address `base`; the mapping must outlive the object."""
        self._base = base
        self._entries = {sameness(each.text): self._entry(index) for index, each in enumerate(observed(base))}

    def _entry(self, index: int) -> int:
        return self._base + ENTRIES + index * ENTRY_BYTES

    def observe(self, text: str, severity: int) -> None:
        """Count an error; one thread at a time."""
        now_ns = time.time_ns()
        same = sameness(text)
        if same in self._entries:
            _repeat(self._entries[same], now_ns)
        elif len(self._entries) < ENTRY_COUNT:
            entry = self._entry(len(self._entries))
            content = (text or "no words").encode(errors="replace")[:TEXT_BYTES]
            words = np.zeros(TEXT_BYTES // 8, np.int64)
            words.view(np.uint8)[: len(content)] = np.frombuffer(content, np.uint8)
            _append(entry, words.ctypes.data, len(content), severity, now_ns)
            self._entries[same] = entry
        else:
            poke(self._base + DROPPED, peek(self._base + DROPPED) + 1)


def compile_ahead() -> None:
    """Compile what a writer and a reader need, or load it: before a fork, so that no stage does it when it fails."""
    memory = np.zeros(1, ERROR_LOG)
    log = ErrorLog(memory.ctypes.data)
    for _ in range(2):
        log.observe("compiled", 0)
    observed(memory.ctypes.data)
