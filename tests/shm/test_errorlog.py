"""The distinct-error log: each error once, counted and dated, whoever reads meanwhile and whenever its writer dies."""

import itertools
import mmap
import os
import random
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from shm import errorlog
from shm.atomics import JIT, peek, poke
from shm.errorlog import ENTRY_COUNT, ERROR_LOG, TEXT_BYTES, ErrorLog, dropped, observed, sameness
from shm.segment import Segment, record_layout, unlink
from tests.shm.processes import Children, Deadline, cores

KILLS = 60
TEXTS = ENTRY_COUNT + 3
SEVERITY = 40


def _memory() -> tuple[np.ndarray, int]:
    memory = np.zeros(1, ERROR_LOG)
    return memory, int(memory.ctypes.data)


class ErrorLogMachine(RuleBasedStateMachine):
    """The log against a dict; its writer is replaced at any time, and killed before an entry's length is stored."""

    @initialize()
    def make(self) -> None:
        self.memory, self.base = _memory()
        self.log = ErrorLog(self.base)
        self.model: dict[str, list[object]] = {}
        self.dropped = 0

    def _observe(self, text: str, severity: int) -> None:
        before_ns = time.time_ns()
        self.log.observe(text, severity)
        same = sameness(text)
        if same in self.model:
            self.model[same][2] = int(str(self.model[same][2])) + 1
        elif len(self.model) < ENTRY_COUNT:
            shown = (text or "no words").encode(errors="replace")[:TEXT_BYTES].decode(errors="replace")
            self.model[same] = [shown, severity, 1, before_ns]
        else:
            self.dropped += 1

    @rule(text=st.text(max_size=12) | st.sampled_from(["lost 10.0.0.1", "lost 10.0.0.2"]), severity=st.integers(0, 50))
    def observe(self, text: str, severity: int) -> None:
        if text:
            self._observe(text, severity)

    @rule(text=st.text("äb€", min_size=TEXT_BYTES - 3, max_size=TEXT_BYTES + 3))
    def observe_what_is_too_long(self, text: str) -> None:
        self._observe(text, 30)

    @rule(first=st.integers(0, 26**2 - 1))
    def observe_many(self, first: int) -> None:
        for index in range(first, first + 9):
            self._observe(chr(97 + index % 26) * (1 + index // 26), 30)

    @rule()
    def a_successor_goes_on(self) -> None:
        self.log = ErrorLog(self.base)

    @rule(words=st.integers(0, TEXT_BYTES // 8))
    def killed_before_the_length_is_stored(self, words: int) -> None:
        if len(self.model) < ENTRY_COUNT:
            entry = self.base + errorlog.ENTRIES + len(self.model) * errorlog.ENTRY_BYTES
            for word in range(words):
                poke(entry + errorlog.TEXT + 8 * word, 0x2121212121212121)
            poke(entry + errorlog.COUNT, 77)
        self.log = ErrorLog(self.base)

    @invariant()
    def everything_is_there(self) -> None:
        found = observed(self.base)
        assert [[each.text, each.severity, each.count] for each in found] == [each[:3] for each in self.model.values()]
        for each, (_, _, _, before_ns) in zip(found, self.model.values(), strict=True):
            assert int(str(before_ns)) <= each.first_ns <= each.last_ns <= time.time_ns()
        assert dropped(self.base) == self.dropped


def test_the_log_does_what_its_model_does() -> None:
    some = settings(max_examples=60 if JIT else 10, stateful_step_count=30)
    run_state_machine_as_test(ErrorLogMachine, settings=some)  # type: ignore[no-untyped-call]


def test_what_differs_in_numbers_only_is_one_error_with_the_first_text() -> None:
    memory, base = _memory()
    log = ErrorLog(base)
    for port in (8080, 9):
        log.observe(f"lost ws://127.0.0.1:{port}: object at {hex(port << 20)}", 30)
    (found,) = observed(base)
    assert (found.text, found.count) == ("lost ws://127.0.0.1:8080: object at 0x1f9000000", 2)
    assert memory is not None


def test_a_log_of_nonsense_is_read_without_a_fault() -> None:
    memory, base = _memory()
    memory["words"][:] = -1
    assert observed(base) == []
    memory["words"][:] = 2**40
    assert observed(base) == []


def _text(index: int, number: int) -> str:
    """Whole or not is plain to see: one letter throughout, a length of its own, numbers that do not count."""
    return f"{number} " + chr(0x61 + index % 26) * (20 + 9 * index)


def _is_whole(text: str) -> bool:
    number, _, word = text.partition(" ")
    return number.isdigit() and any(word == _text(index, 0)[2:] for index in range(TEXTS))


@pytest.fixture
def segment() -> Iterator[Segment]:
    name = f"tickpipe.test-{os.getpid()}.errors"
    with Segment.create(name, record_layout(ERROR_LOG)) as made:
        yield made
    unlink(name)


@pytest.mark.timeout(120)
def test_readers_see_whole_entries_and_no_observation_is_lost_when_writers_are_killed(segment: Segment) -> None:
    errorlog.compile_ahead()
    base, deadline, chance = segment.address, Deadline(100.0), random.Random(7)
    tallies = mmap.mmap(-1, 4096)
    words = int(np.frombuffer(tallies, np.int64).ctypes.data)
    begun, done = words, words + 8

    def write() -> None:
        log = ErrorLog(Segment.attach(segment.name, segment.layout, writable=True).address)
        number = peek(begun)
        while True:
            number += 1
            poke(begun, peek(begun) + 1)
            log.observe(_text(number % TEXTS, number), SEVERITY)
            poke(done, peek(done) + 1)

    extra, fewest = 0, 10**9
    with Children() as children, Segment.attach(segment.name, segment.layout) as watched:
        for kill in itertools.count():
            if kill >= KILLS and fewest < ENTRY_COUNT:  # a kill came while the log had room
                break
            if kill % 5 == 0:  # an empty log, so that kills find entries being made
                segment.view(np.dtype("u1"), segment.layout.payload_bytes)[:] = 0
                poke(begun, 0)
                poke(done, 0)
                extra = 0
            before = peek(begun)
            writer = children.fork("writer", cores()[-1], write)
            counts: list[int] = []
            end = time.monotonic() + chance.random() * 1e-3
            while peek(begun) == before or time.monotonic() < end:
                found = observed(watched.address)
                assert all(_is_whole(each.text) for each in found), [each.text for each in found]
                now = [each.count for each in found]
                assert len(now) >= len(counts)
                assert all(later >= earlier >= 1 for earlier, later in zip(counts, now, strict=False))
                counts = now
                deadline.check("the writer writes")
            children.kill(writer)
            found = observed(watched.address)
            assert all(_is_whole(each.text) for each in found)
            assert len({sameness(each.text) for each in found}) == len(found)
            counted = sum(each.count for each in found) + dropped(watched.address)
            # One in hand at each kill so far: counted or not.
            extra += peek(begun) - peek(done)
            poke(done, peek(begun))
            assert peek(begun) - extra <= counted <= peek(begun)
            fewest = min(fewest, len(found))
    assert dropped(base) == 0 or len(observed(base)) == ENTRY_COUNT
