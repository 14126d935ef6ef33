"""ITCH messages out of a stream of frames: each is a 2-byte big-endian length and the message.

A frame is good when its length is that of its message's type. Everything else is counted with the offset where it
first happened, and the messages after it are used:

    WRONG_LENGTH   a frame of a known type with another length, or of length 0, whose length leads to a good frame or
                   to the end, at most over a few more like it: left out
    UNKNOWN_TYPE   the same of a letter that no type has
    GARBAGE        bytes that are no frame: left out up to the next two good frames in a row
    TRUNCATED      the stream ends within a frame: its bytes are left over

A frame of length 0 at the end is the end-of-session mark of Nasdaq's files.

A framer is FRAMER bytes of private words. The stream may come in pieces: where a piece ends within a frame, what is
unread (from POSITION) is put before the next one. Only the last piece can end badly.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_u8, load_word, store_word
from shm.kernel import primitive, routine
from shm.layout import record_dtype
from stages.domain.codecs.big_endian import load_big_u16
from stages.domain.codecs.itch import MESSAGE_BYTES_MAX, lengths_by_type

LENGTH_BYTES = 2
BAD_BYTES_MAX = 256
BAD_FRAMES_MAX = 8
"""A bad frame of up to so many bytes can be left out, and so many of them in a row; all else is garbage."""
LOOKAHEAD_BYTES = (BAD_FRAMES_MAX + 1) * BAD_BYTES_MAX + 3 * (LENGTH_BYTES + MESSAGE_BYTES_MAX)
"""With fewer bytes than these behind a bad frame, and more to come, nothing is decided yet."""

PROBLEMS = ("truncated", "wrong_length", "unknown_type", "garbage")
TRUNCATED, WRONG_LENGTH, UNKNOWN_TYPE, GARBAGE = range(4)

FRAMER = record_dtype(
    [
        ("position", "<i8"),  # address of the first byte not yet read
        ("origin", "<i8"),  # address at which offset 0 of the stream would be
        ("is_lost", "<i8"),  # 1: within garbage that began in an earlier piece
        ("garbage_bytes", "<i8"),
        ("end_marks", "<i8"),
        ("problem_count", "<i8", len(PROBLEMS)),
        ("problem_offset", "<i8", len(PROBLEMS)),  # of the first
        ("problem_length", "<i8", len(PROBLEMS)),  # what the first one's length field said
        ("problem_type", "<i8", len(PROBLEMS)),  # and its type byte
        ("length", "<i8", 256),  # of a message, by type byte; 0: no such type
        ("count", "<i8", 256),  # messages by type byte
    ],
    4288,
)


def _offset(field: str) -> int:
    assert FRAMER.fields is not None
    return int(FRAMER.fields[field][1])


POSITION, COUNT = _offset("position"), _offset("count")
_ORIGIN, _IS_LOST, _GARBAGE_BYTES, _END_MARKS = (
    _offset(name) for name in ("origin", "is_lost", "garbage_bytes", "end_marks")
)
_PROBLEM_COUNT, _PROBLEM_OFFSET = _offset("problem_count"), _offset("problem_offset")
_PROBLEM_LENGTH, _PROBLEM_TYPE = _offset("problem_length"), _offset("problem_type")
_LENGTH = _offset("length")


def new_framer() -> NDArray[Any]:
    """A framer that has read nothing, shape (1,)."""
    framer = np.zeros(1, FRAMER)
    framer["length"] = lengths_by_type()
    return framer


@primitive
def size_of_type(framer: int, message: int) -> int:
    """Bytes of a message of the type that stands at `message`, 0 if there is no such type."""
    return load_word(framer + _LENGTH + 8 * load_u8(message))


@primitive
def problem_count(framer: int) -> int:
    """How often something was no good frame, of all PROBLEMS together."""
    total = 0
    for problem in range(len(PROBLEMS)):
        total += load_word(framer + _PROBLEM_COUNT + 8 * problem)
    return total


@primitive
def next_message(framer: int, end: int, is_last: bool) -> int:
    """Address of the next good message before `end`, which is counted; 0 when there is none.

    is_last   the stream ends at `end`
    """
    at = load_word(framer + POSITION)
    message = at + LENGTH_BYTES
    if message < end:
        size = load_big_u16(at)
        if size == size_of_type(framer, message) and size != 0 and message + size <= end:
            _take(framer, message, size)
            return message
    return _next_after_problem(framer, end, is_last)


@primitive
def _take(framer: int, message: int, size: int) -> None:
    counter = framer + COUNT + 8 * load_u8(message)
    store_word(counter, load_word(counter) + 1)
    store_word(framer + POSITION, message + size)


@routine
def _next_after_problem(framer: int, end: int, is_last: bool) -> int:
    """`next_message` where no good frame begins at POSITION."""
    while is_last or end - load_word(framer + POSITION) >= LOOKAHEAD_BYTES:
        at = load_word(framer + POSITION)
        if at == end:
            return 0
        size = load_big_u16(at) if end - at >= LENGTH_BYTES else 0
        message = at + LENGTH_BYTES
        if load_word(framer + _IS_LOST) == 0:
            if size == 0 and message == end:
                store_word(framer + _END_MARKS, load_word(framer + _END_MARKS) + 1)
                store_word(framer + POSITION, end)
                return 0
            if _begins_frame(framer, at, end):
                if message + size > end or message >= end:
                    _note(framer, TRUNCATED, at, end)
                    return 0
                _take(framer, message, size)
                return message
            if _is_bad_frame(framer, at, size, end):
                is_known = size == 0 or size_of_type(framer, message) != 0
                _note(framer, WRONG_LENGTH if is_known else UNKNOWN_TYPE, at, end)
                store_word(framer + POSITION, message + size)
                continue
            _note(framer, GARBAGE, at, end)
        if not _skip_garbage(framer, at, end, is_last):
            break
    return 0


@primitive
def _begins_frame(framer: int, at: int, end: int) -> bool:
    """Whether a good frame begins at `at`, as far as the stream goes; its end counts as one."""
    if at >= end:
        return at == end
    if end - at < LENGTH_BYTES:
        return load_u8(at) == 0
    size = load_big_u16(at)
    if end - at == LENGTH_BYTES:
        return 0 <= size <= MESSAGE_BYTES_MAX
    return size != 0 and size == size_of_type(framer, at + LENGTH_BYTES)


@primitive
def _begins_pair(framer: int, at: int, end: int) -> bool:
    """Whether two good frames follow each other from `at` on."""
    if end - at <= LENGTH_BYTES or not _begins_frame(framer, at, end):
        return False
    behind = at + LENGTH_BYTES + load_big_u16(at)
    return behind <= end and _begins_frame(framer, behind, end)


@primitive
def _is_bad_frame(framer: int, at: int, size: int, end: int) -> bool:
    """Whether what begins at `at` has a length that leads to a good frame, and is not garbage before good ones."""
    behind = at + LENGTH_BYTES + size
    if size > BAD_BYTES_MAX - LENGTH_BYTES or not _leads_to_frame(framer, behind, end):
        return False
    at += 1
    while at < behind and not _begins_pair(framer, at, end):
        at += 1
    return at == behind


@primitive
def _leads_to_frame(framer: int, at: int, end: int) -> bool:
    """Whether a good frame begins at `at`, or behind a few bad ones there."""
    for _ in range(BAD_FRAMES_MAX):
        if _begins_frame(framer, at, end):
            return True
        if end - at <= LENGTH_BYTES or load_big_u16(at) > BAD_BYTES_MAX - LENGTH_BYTES:
            return False
        at += LENGTH_BYTES + load_big_u16(at)
    return False


@primitive
def _skip_garbage(framer: int, at: int, end: int, is_last: bool) -> bool:
    """Move POSITION to the next place where two good frames follow each other. False: there is none before `end`."""
    last = end - LENGTH_BYTES - 1 if is_last else end - LOOKAHEAD_BYTES
    begin = at
    while at <= last and not _begins_pair(framer, at, end):
        at += 1
    is_found = at <= last
    if is_found or not is_last:  # at the stream's end the bytes are left over
        store_word(framer + _GARBAGE_BYTES, load_word(framer + _GARBAGE_BYTES) + at - begin)
        store_word(framer + POSITION, at)
    store_word(framer + _IS_LOST, 0 if is_found else 1)
    return is_found


@primitive
def _note(framer: int, problem: int, at: int, end: int) -> None:
    count = load_word(framer + _PROBLEM_COUNT + 8 * problem)
    store_word(framer + _PROBLEM_COUNT + 8 * problem, count + 1)
    if count == 0:
        store_word(framer + _PROBLEM_OFFSET + 8 * problem, at - load_word(framer + _ORIGIN))
        has_length, has_type = end - at >= LENGTH_BYTES, end - at > LENGTH_BYTES
        store_word(framer + _PROBLEM_LENGTH + 8 * problem, load_big_u16(at) if has_length else -1)
        store_word(framer + _PROBLEM_TYPE + 8 * problem, load_u8(at + LENGTH_BYTES) if has_type else -1)
