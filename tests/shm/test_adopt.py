"""Adoption, against a stage that is killed between any two of its stores."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shm import adopt
from shm.atomics import load_word
from shm.kernel import kernel
from shm.layout import align_up
from shm.ring import HEAD, Ring, format_ring, ring_bytes, slot

RECORD = np.dtype([("word", "<i8", (2,)), ("seq", "<i8"), ("part", "<i8"), ("cause_seq", "<i8")])
assert RECORD.fields is not None
SEQ, CAUSE_SEQ = RECORD.fields["seq"][1], RECORD.fields["cause_seq"][1]


@kernel
def _claimable(outputs: int) -> int:
    return adopt.claimable(outputs)


@kernel
def _last_record(outputs: int) -> int:
    return adopt.last_record(outputs)


@kernel
def _answered(outputs: int, cause_offset: int) -> int:
    return adopt.answered(outputs, cause_offset)


@kernel
def _skip_answered(inputs: int, seq_offset: int, last_answered: int) -> int:
    return adopt.skip_answered(inputs, seq_offset, last_answered)


@kernel
def _unread_seq(inputs: int, index: int) -> int:
    return load_word(slot(inputs, load_word(inputs + HEAD) + index) + SEQ)


class Channel:
    """A ring and its memory."""

    def __init__(self, capacity: int) -> None:
        self._memory = np.zeros(ring_bytes(capacity, RECORD.itemsize) // 8 + 16, np.int64)
        self.base = align_up(int(self._memory.ctypes.data), 128)
        format_ring(self.base, capacity, RECORD.itemsize)
        self.ring = Ring(self.base, RECORD)

    def push(self, *records: tuple[int, int]) -> None:
        """Publish records of (seq, cause_seq), all at once."""
        batch = np.zeros(len(records), RECORD)
        batch["seq"], batch["cause_seq"] = np.array(records).T
        assert self.ring.push_batch(batch) == len(records)

    def seqs(self) -> list[int]:
        """Consume all."""
        return [int(seq) for seq in self.ring.pop_batch(self.ring.capacity)["seq"]]


def _adopt(inputs: Channel, outputs: Channel) -> int:
    return int(adopt.adopt(inputs.base, SEQ, outputs.base, CAUSE_SEQ))


def test_nothing_is_adopted_from_a_ring_into_which_nothing_was_published() -> None:
    inputs, outputs = Channel(4), Channel(4)
    inputs.push((1, 0), (2, 0))
    assert _last_record(outputs.base) == 0
    assert _answered(outputs.base, CAUSE_SEQ) == adopt.NOTHING
    assert _adopt(inputs, outputs) == 0
    assert inputs.seqs() == [1, 2]


@pytest.mark.parametrize("is_consumed", [False, True])
def test_an_input_with_its_outcome_is_skipped_once(is_consumed: bool) -> None:
    inputs, outputs = Channel(4), Channel(4)
    inputs.push((41, 0), (43, 0), (44, 0))
    outputs.push((7, 41), (8, 43), (9, 43))
    if is_consumed:
        assert outputs.seqs() == [7, 8, 9]
    assert _answered(outputs.base, CAUSE_SEQ) == 43
    assert _adopt(inputs, outputs) == 2
    assert _adopt(inputs, outputs) == 0
    assert inputs.seqs() == [44]


def test_an_answer_to_an_input_that_is_gone_skips_nothing() -> None:
    inputs, outputs = Channel(2), Channel(2)
    outputs.push((1, 5))
    assert _adopt(inputs, outputs) == 0
    inputs.push((6, 0))
    assert _adopt(inputs, outputs) == 0
    assert inputs.seqs() == [6]


def test_all_unread_inputs_may_have_their_outcome_across_the_end_of_the_ring() -> None:
    inputs, outputs = Channel(4), Channel(2)
    inputs.push((1, 0), (2, 0), (3, 0))
    inputs.seqs()
    inputs.push((4, 0), (5, 0), (6, 0), (7, 0))
    outputs.push((1, 7))
    assert _adopt(inputs, outputs) == 4
    assert inputs.ring.is_empty


def test_begun_records_up_to_claimable_leave_the_newest_published_one_whole_and_one_more_does_not() -> None:
    outputs = Channel(4)
    outputs.push((1, 1), (2, 2))
    outputs.seqs()
    assert _claimable(outputs.base) == 3
    for index in range(4):
        assert _answered(outputs.base, CAUSE_SEQ) == 2
        record = outputs.ring.claim(index)
        assert record is not None
        record["cause_seq"] = 9
    assert _answered(outputs.base, CAUSE_SEQ) == 9


# --- a stage that dies between any two stores -------------------------------------------------------------------------

RECORDS_MAX = 3


def _outcome(seq: int) -> int:
    """How many records answer an input in a ring."""
    return 1 + seq % RECORDS_MAX


class Stage:
    """Answers inputs in one ring, in either of two or in both of them; each `yield` is a moment to die at."""

    def __init__(self, rule: str, inputs: Channel, outputs: list[Channel], batch: int) -> None:
        self._rule, self._inputs, self._outputs = rule, inputs, outputs
        self._batch = batch if rule == "one" else 1

    def rings_for(self, seq: int) -> list[Channel]:
        """Where the outcome of an input belongs."""
        return [self._outputs[seq % len(self._outputs)]] if self._rule == "either" else self._outputs

    def life(self) -> Iterator[None]:
        """From the start to the kill, after which nobody goes on here."""
        answered = [int(_answered(each.base, CAUSE_SEQ)) for each in self._outputs]
        _skip_answered(self._inputs.base, SEQ, max(answered) if self._rule == "either" else min(answered))
        yield
        while True:
            handled = 0
            begun = dict.fromkeys(self._outputs, 0)
            for index in range(min(self._batch, len(self._inputs.ring))):
                seq = int(_unread_seq(self._inputs.base, index))
                lacking = self.rings_for(seq)
                if self._rule == "both":  # its predecessor may have published in one of them
                    lacking = [each for each in lacking if _answered(each.base, CAUSE_SEQ) < seq]
                if not all(_fits(each, begun[each] + _outcome(seq)) for each in lacking):
                    break
                for each in lacking:
                    yield from _build(each, begun[each], seq)
                    begun[each] += _outcome(seq)
                handled += 1
            for each, records in begun.items():
                each.ring.commit(records)
                yield
            self._inputs.ring.advance(handled)
            yield


def _fits(outputs: Channel, records: int) -> bool:
    return records <= _claimable(outputs.base) and outputs.ring.claim(records - 1) is not None


def _build(outputs: Channel, begun: int, seq: int) -> Iterator[None]:
    for part in range(_outcome(seq)):
        record = outputs.ring.claim(begun + part)
        assert record is not None
        for field, value in (("cause_seq", seq), ("part", part)):
            record[field] = value
            yield


class Neighbours:
    """Who sends the inputs and takes the outcomes."""

    def __init__(self, rule: str, capacity_in: int, capacity_out: int, batch: int) -> None:
        assert capacity_out > RECORDS_MAX
        self._inputs = Channel(capacity_in)
        self._outputs = [Channel(capacity_out) for _ in range(1 if rule == "one" else 2)]
        self.stage = Stage(rule, self._inputs, self._outputs, batch)
        self._sent = 0
        self._arrived: dict[Channel, list[tuple[int, int]]] = {each: [] for each in self._outputs}

    def send(self, most: int) -> None:
        for _ in range(min(most, self._inputs.ring.capacity - len(self._inputs.ring))):
            self._sent += 1
            self._inputs.push((self._sent, 0))

    def take(self, most: int) -> None:
        for each, arrived in self._arrived.items():
            arrived += [(int(record["cause_seq"]), int(record["part"])) for record in each.ring.pop_batch(most)]

    def check(self, what: str) -> None:
        """Let the stage live to the end of its work: every input has one outcome, in order."""
        life = self.stage.life()
        for _ in range(300):
            next(life)
            self.take(8)
        assert self._inputs.ring.is_empty
        for each, arrived in self._arrived.items():
            answered = [seq for seq in range(1, self._sent + 1) if each in self.stage.rings_for(seq)]
            assert arrived == [(seq, part) for seq in answered for part in range(_outcome(seq))], what


@pytest.mark.parametrize(("rule", "batch"), [("one", 1), ("one", 4), ("either", 1), ("both", 1)])
def test_every_input_has_one_outcome_whatever_the_step_at_which_the_stage_dies(rule: str, batch: int) -> None:
    for steps in range(1, 60):
        line = Neighbours(rule, 4, 4, batch)
        for _ in range(2):
            life = line.stage.life()
            for _ in range(steps):
                line.send(4)
                next(life)
                line.take(8)
        line.check(f"killed after {steps} steps")


@given(
    rule=st.sampled_from(["one", "either", "both"]),
    batch=st.integers(1, 4),
    capacity_in=st.sampled_from([1, 2, 4]),
    capacity_out=st.sampled_from([4, 8]),
    lives=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 30), st.integers(0, 8)), max_size=20),
)
def test_every_input_has_one_outcome_however_often_the_stage_dies(
    rule: str, batch: int, capacity_in: int, capacity_out: int, lives: list[tuple[int, int, int]]
) -> None:
    line = Neighbours(rule, capacity_in, capacity_out, batch)
    for sends, steps, takes in lives:
        line.send(sends)
        life = line.stage.life()
        for _ in range(steps):
            next(life)
        line.take(takes)
    line.check(f"killed {len(lives)} times")
