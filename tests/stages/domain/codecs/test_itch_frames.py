"""Frames of ITCH messages: all of a good stream in pieces of any size, and what is said of a bad one."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm.kernel import kernel
from stages.domain.codecs.itch_frames import (
    GARBAGE,
    LOOKAHEAD_BYTES,
    PROBLEMS,
    TRUNCATED,
    UNKNOWN_TYPE,
    WRONG_LENGTH,
    new_framer,
    next_message,
)
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import any_message, order_stream
from tests.stages.domain.codecs.pieces import PieceReader


@kernel
def _next(framer: int, end: int, is_last: bool) -> int:
    return next_message(framer, end, is_last)


def read(stream: bytes, *cuts: int) -> PieceReader:
    """All of a stream, cut at these offsets."""
    return PieceReader(new_framer(), _next, PROBLEMS).read(stream, *cuts)


GOOD = order_stream(seed=1, count=200)
STREAM = oracle.framed(*GOOD)


@given(st.lists(any_message(), max_size=20), st.lists(st.integers(0, 1_000), max_size=5))
def test_good_streams_come_out_whole_however_they_are_cut(messages: list[bytes], cuts: list[int]) -> None:
    reader = read(oracle.framed(*messages), *cuts)
    assert reader.messages == messages
    assert (reader.problems(), reader.rest) == ({}, b"")
    counts = reader.words["count"][0]
    assert {chr(kind): int(counts[kind]) for kind in np.flatnonzero(counts)} == Counter(
        message[:1].decode() for message in messages
    )


def offset_of(index: int) -> int:
    """Where the frame of message `index` begins in STREAM."""
    return len(oracle.framed(*GOOD[:index]))


@pytest.mark.parametrize("left", [1, 2, 3, 20])
def test_a_stream_that_ends_within_a_frame_says_where(left: int) -> None:
    reader = read(STREAM[: offset_of(150) + left])
    assert reader.messages == GOOD[:150]
    assert reader.problems() == {"truncated": (1, offset_of(150))}
    assert len(reader.rest) == left


def test_a_message_of_the_wrong_length_is_left_out() -> None:
    bad = GOOD[50][:-3]
    reader = read(oracle.framed(*GOOD[:50], bad, *GOOD[51:]))
    assert reader.messages == GOOD[:50] + GOOD[51:]
    assert reader.problems() == {"wrong_length": (1, offset_of(50))}
    framer = reader.words[0]
    assert int(framer["problem_length"][WRONG_LENGTH]) == len(bad)
    assert chr(int(framer["problem_type"][WRONG_LENGTH])) == GOOD[50][:1].decode()


def test_messages_of_unknown_type_are_left_out_even_in_a_row() -> None:
    strangers = [b"z" + b"\1" * 9, b"!" * 70, b"a"]
    reader = read(oracle.framed(*GOOD[:50], *strangers, *GOOD[50:]))
    assert reader.messages == GOOD
    assert reader.problems() == {"unknown_type": (3, offset_of(50))}
    assert int(reader.words["problem_type"][0][UNKNOWN_TYPE]) == ord("z")


@given(st.binary(min_size=1, max_size=300), st.integers(0, len(GOOD)))
def test_garbage_between_frames_costs_no_message(garbage: bytes, place: int) -> None:
    reader = read(oracle.framed(*GOOD[:place]) + garbage + oracle.framed(*GOOD[place:]))
    # Its last bytes may happen to be the length of what follows: hypothesis finds that, chance hardly ever.
    found = [message for message in reader.messages if message in GOOD]
    assert found == GOOD or found == GOOD[:place] + GOOD[len(GOOD) - (len(found) - place) :]
    assert len(found) >= len(GOOD) - 12
    assert min(offset for _, offset in reader.problems().values()) == offset_of(place)


def test_a_region_of_zeros_is_passed_over() -> None:
    for zeros in (1, 3, 100, 4_096):
        reader = read(STREAM[: offset_of(70)] + bytes(zeros) + STREAM[offset_of(70) :])
        assert reader.messages == GOOD, zeros
        assert reader.problems() == {"garbage": (1, offset_of(70))}
        assert int(reader.words["garbage_bytes"][0]) == zeros


def test_frames_of_length_0_are_left_out() -> None:
    reader = read(b"".join(oracle.framed(message) + b"\0\0" for message in GOOD) + oracle.framed(GOOD[0]))
    assert reader.messages == [*GOOD, GOOD[0]]
    assert reader.problems() == {"wrong_length": (len(GOOD), 2 + len(GOOD[0]))}


def test_garbage_that_is_longer_than_a_piece_is_one_piece_of_garbage() -> None:
    garbage = b"\xff" * (3 * LOOKAHEAD_BYTES)
    stream = STREAM[: offset_of(70)] + garbage + STREAM[offset_of(70) :]
    reader = read(stream, *range(0, len(stream), LOOKAHEAD_BYTES // 2))
    assert reader.messages == GOOD
    assert reader.problems() == {"garbage": (1, offset_of(70))}
    assert int(reader.words["garbage_bytes"][0]) == len(garbage)


def test_garbage_at_the_end_is_left_over() -> None:
    reader = read(STREAM + b"\xee" * 500)
    assert reader.messages == GOOD
    assert reader.problems() == {"garbage": (1, len(STREAM))}
    assert reader.rest == b"\xee" * 500


def test_the_mark_at_the_end_of_a_session_is_no_problem() -> None:
    reader = read(STREAM + b"\0\0")
    assert reader.messages == GOOD
    assert (reader.problems(), reader.rest, int(reader.words["end_marks"][0])) == ({}, b"", 1)


@given(st.binary(max_size=2_000), st.lists(st.integers(0, 2_000), max_size=4))
def test_no_bytes_at_all_upset_it(content: bytes, cuts: list[int]) -> None:
    reader = read(content, *cuts)
    whole = sum(2 + len(message) for message in reader.messages) + int(reader.words["garbage_bytes"][0])
    assert whole + len(reader.rest) <= len(content)
    assert {TRUNCATED, WRONG_LENGTH, UNKNOWN_TYPE, GARBAGE} == set(range(len(PROBLEMS)))
