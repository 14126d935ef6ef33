"""Either side of a ring is killed at random instants, thousands of times, and every message is accounted for.

The victims are real processes: forked from this one, which has all kernels compiled, they attach the segments by name
and go on by the delivery contract from what stands there. A writer goes on after the last published record, a reader at
the head; a stage between two rings first adopts what its predecessor published. After each kill this process, the
auditor, looks at what the victim left, and follows the sink's ledger:

- every seq reached the sink, whole, in order, written by the life whose turn it was: nothing is lost or torn;
- it was acted on once, or once more for each kill that found it begun and in the sink's hand: nothing is doubled but
  that, and nothing beyond what can be in hand is ever begun;
- with a stage between, the records at the sink are, input by input, one outcome each: none lost, none doubled.

Kills come after a random time, some of them while the victim still starts. Two victims of three linger at one of their
lines, so that all others come to wait for them, and kills find each line.
"""

import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType

import numpy as np
import pytest

from shm import adopt, ring
from shm.atomics import JIT
from shm.layout import bytes_at
from shm.segment import Layout, Segment, record_layout, ring_layout, unlink
from tests.shm import lives
from tests.shm.messages import CAUSE_SEQ, MESSAGE, MESSAGE_BYTES, MIXED, SEQ, difference
from tests.shm.processes import Children, Deadline, cores

pytestmark = pytest.mark.skipif(not JIT, reason="a life is milliseconds: too short for uncompiled code")

SEED = 20_240_711
CALL = 20_000
"""Most messages of one call of a kernel."""
PAUSES = (0, 40, 300)
"""Of some 20 ns each, at the line at which the next victim lingers."""
KILL_WITHIN_S = 400e-6
KILL_AT_START = 0.15
LAST_INPUTS = 1_000
LIVES_MAX = 50_000
NOT_YET = np.iinfo(np.int64).max

SOURCE, MIDDLE, SINK = "source", "middle", "sink"
LINGER = {SOURCE: lives.LINGER_OF_SOURCE, MIDDLE: lives.LINGER_OF_MIDDLE, SINK: lives.LINGER_OF_SINK}
LINES = (lives.BEFORE, lives.AFTER)


@dataclass(frozen=True)
class Style:
    """How the messages pass."""

    capacity: int
    batch: int = 1
    is_built_in_place: bool = False
    is_popped: bool = False
    has_middle: bool = False


@dataclass
class Tally:
    """What happened."""

    kills: Counter[str] = field(default_factory=Counter)
    phases: Counter[tuple[str, str]] = field(default_factory=Counter)
    acted_again: int = 0
    adopted: int = 0
    messages: int = 0

    def text(self, what: str, seconds: float) -> str:
        kills = ", ".join(f"{side} {count}" for side, count in sorted(self.kills.items()))
        lines = [
            f"{what}, seed {SEED}: {self.kills.total()} kills ({kills}) in {seconds:.1f} s; {self.messages} messages, "
            f"all accounted for; {self.acted_again} acted on again, {self.adopted} outcomes adopted"
        ]
        lines += [f"  {side:6} {count:6}  {phase}" for (side, phase), count in sorted(self.phases.items())]
        return "\n".join(lines)


class Line:
    """A source, a sink, between them a ring, or two rings and a middle; and this process, which kills and audits."""

    def __init__(self, style: Style, deadline: Deadline) -> None:
        self._style, self._deadline = style, deadline
        self._random = random.Random(SEED)
        self.tally = Tally()
        self._sides = [SOURCE, MIDDLE, SINK] if style.has_middle else [SOURCE, SINK]
        usable = cores()
        self._core = {side: usable[(index + 1) % len(usable)] for index, side in enumerate(self._sides)}
        self._spins = 200 if len(usable) >= len(self._sides) else 0
        self._prefix = f"tickpipe.test-{os.getpid()}.kills-"
        self._layouts: dict[str, Layout] = {"in": ring_layout(MESSAGE, style.capacity)}
        if style.has_middle:
            assert style.capacity > lives.OUTCOME_MAX
            self._layouts["out"] = ring_layout(MESSAGE, style.capacity)
        self._layouts["ledger"] = record_layout(np.dtype("<i8"), lives.LEDGER_BYTES // 8)
        self._scratch = np.zeros(lives.BATCH_MAX, MESSAGE)
        self._births = np.full(LIVES_MAX, NOT_YET)
        self._births[0] = 0
        self._walk = np.zeros(lives.WALK_WORDS, np.int64)
        self._begun_again: dict[int, int] = {}
        """Seq: how often it was begun by lives that were killed with it in hand."""
        self._adopted = 0
        self._life = dict.fromkeys(self._sides, 0)
        self._pid: dict[str, int] = {}
        self._progress: dict[str, int] = {}

    def __enter__(self) -> "Line":
        self._stack = ExitStack()
        with self._stack:  # undoes what was done when a step fails
            segments = {}
            for name, layout in self._layouts.items():
                self._stack.callback(unlink, self._prefix + name)
                segments[name] = self._stack.enter_context(Segment.create(self._prefix + name, layout))
            self._first = segments["in"].address
            self._last = segments["out" if self._style.has_middle else "in"].address
            self._ledger = segments["ledger"].address
            self._entries = segments["ledger"].view(lives.ENTRY, lives.ENTRY_COUNT, lives.ENTRIES)
            self._children = self._stack.enter_context(Children())
            self._compile()
            self._audit()
            for side in self._sides:
                self._fork(side)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._entries
        self._stack.close()

    def kill(self, sides: list[str]) -> None:
        """Kill these sides at a random instant, look at what they left, audit, and fork their successors."""
        for side in sides:
            lives.set_linger(self._ledger, LINGER[side] + self._random.choice(LINES), self._random.choice(PAUSES))
        if self._random.random() >= KILL_AT_START:
            self._wait(self._are_all_at_work, "every side does something")
        with _preempting():
            time.sleep(self._random.random() * KILL_WITHIN_S)
            self._before_kill = {base: ring.cursors(base) for base in (self._first, self._last)}
            self._children.kill(*(self._pid[side] for side in sides))
        for side in sides:
            for line in LINES:
                lives.set_linger(self._ledger, LINGER[side] + line, 0)
        for side in sides:
            self.tally.kills[side] += 1
            self.tally.phases[side, self._autopsy(side)] += 1
        self._audit()
        for side in sides:
            self._fork(side)

    def finish(self) -> None:
        """Let a last source send some more, and all arrive; then end all sides and audit the last message."""
        self._children.kill(self._pid[SOURCE])
        limit = ring.cursors(self._first)[1] + LAST_INPUTS
        lives.set_limit(self._ledger, limit)
        self._fork(SOURCE)
        self._wait(lambda: ring.cursors(self._first) == (limit, limit), f"{limit} inputs are through", audit=False)
        self._wait(lambda: self._count(SINK) == ring.cursors(self._last)[1], "the sink has all", audit=False)
        self._children.kill(*self._pid.values())
        self._audit()
        head, tail = ring.cursors(self._last)
        assert head == tail == self._walk[lives.WALK_SEQ]
        assert self._walk[lives.WALK_CAUSE] == limit
        assert lives.has_whole_outcome(self._walk, self._style.has_middle), f"the last outcome ends early: {self._walk}"
        assert not self._begun_again
        assert not self._entries["begun"].any(), "something was acted on that was never sent"
        self.tally.messages = tail

    # --- lives

    def _attach(self, name: str, *, writable: bool = True) -> int:
        return Segment.attach(self._prefix + name, self._layouts[name], writable=writable).address

    def _compile(self) -> None:
        """Compile what children run, so that they inherit it."""
        lives.push(self._first, self._ledger, 1, 0, 0, 0, self._scratch.ctypes.data)
        lives.build(self._first, self._ledger, 1, 0, 0, 0, self._scratch.ctypes.data)
        lives.judge(self._first, self._last, self._ledger, 1, 0, 0, 0)
        lives.act_in_place(self._last, self._ledger, 1, 0, 0)
        lives.pop_and_act(self._last, self._ledger, 1, 0, 0)
        adopt.adopt(self._first, SEQ, self._last, CAUSE_SEQ)

    def _fork(self, side: str) -> None:
        self._life[side] += 1
        self._progress[side] = self._count(side)
        if side == (MIDDLE if self._style.has_middle else SOURCE):
            self._births[self._life[side]] = ring.cursors(self._last)[1] + 1
        life = {SOURCE: self._source, MIDDLE: self._middle, SINK: self._sink}[side]
        self._pid[side] = self._children.fork(side, self._core[side], life)

    def _source(self) -> None:
        base, ledger = self._attach("in"), self._attach("ledger", writable=False)
        style, life, scratch = self._style, self._life[SOURCE], int(self._scratch.ctypes.data)
        write = lives.build if style.is_built_in_place else lives.push
        while True:
            if write(base, ledger, style.batch, life, CALL, self._spins, scratch) == 0:
                os.sched_yield()

    def _middle(self) -> None:
        inputs, outputs, ledger = self._attach("in"), self._attach("out"), self._attach("ledger", writable=False)
        adopt.adopt(inputs, SEQ, outputs, CAUSE_SEQ)
        style, life = self._style, self._life[MIDDLE]
        while True:
            got = lives.judge(inputs, outputs, ledger, style.batch, life, CALL, self._spins)
            if got < 0:
                raise AssertionError(difference(self._in_ring(inputs, -got), -got))
            if got == 0:
                os.sched_yield()

    def _sink(self) -> None:
        base, ledger = self._attach("out" if self._style.has_middle else "in"), self._attach("ledger")
        style = self._style
        sink = lives.pop_and_act if style.is_popped else lives.act_in_place
        while True:
            got = sink(base, ledger, style.batch, CALL, self._spins)
            if got < 0 and style.is_popped:
                raise AssertionError(difference(_message(lives.in_hand(ledger, -got - 1, style.batch)), -got))
            if got < 0:
                raise AssertionError(difference(self._in_ring(base, -got), -got))
            if got == 0:
                os.sched_yield()

    def _in_ring(self, base: int, seq: int) -> np.ndarray:
        return _message(base + ring.RECORDS + (seq - 1) % self._style.capacity * MESSAGE_BYTES)

    # --- what the auditor sees

    def _count(self, side: str) -> int:
        """What a side has done, as far as others can see."""
        if side == SINK:
            return int(lives.settled(self._last, self._ledger, self._style.is_popped))
        return ring.cursors(self._first if side == SOURCE else self._last)[1]

    def _are_all_at_work(self) -> bool:
        return all(self._count(side) > self._progress[side] for side in self._sides)

    def _wait(self, condition: Callable[[], bool], what: str, *, audit: bool = True) -> None:
        while not condition():
            for side, pid in self._pid.items():
                assert not self._children.has_exited(pid), f"the {side} ended by itself; its traceback is in stderr"
            self._deadline.check(what)
            if audit:
                self._audit()  # which lets the source go on
            os.sched_yield()

    def _audit(self) -> None:
        """Check what the sink has done with, and let the source send as much more."""
        last = self._count(SINK)
        for seq in [seq for seq in self._begun_again if seq <= last]:
            entry = self._entries[seq % lives.ENTRY_COUNT]
            again = self._begun_again.pop(seq)
            assert entry["begun"] == again + 1, (
                f"seq={seq} begun={entry['begun']}, killed with it in hand {again} times"
            )
            entry["begun"] = 1
            self.tally.acted_again += again
        wrong = lives.audit(self._ledger, last, self._walk, self._births, self._style.has_middle)
        assert wrong == 0, (
            f"seq={wrong}: entry {self._entries[wrong % lives.ENTRY_COUNT]}, after seq, cause, part, life {self._walk}"
        )
        self._limit = int(self._walk[lives.WALK_CAUSE]) + lives.ENTRY_COUNT // (lives.OUTCOME_MAX + 1)
        lives.set_limit(self._ledger, self._limit)

    def _autopsy(self, side: str) -> str:
        """Where the kill found a side, as seen in what it left."""
        if side == SINK:
            return self._autopsy_of_sink()
        if side == SOURCE:
            return self._autopsy_of_writer(self._first, side, self._style.batch)
        return self._autopsy_of_middle()

    def _autopsy_of_sink(self) -> str:
        style = self._style
        head = ring.cursors(self._last)[0]
        done = self._count(SINK)
        begun = [int(self._entries[(done + 1 + index) % lives.ENTRY_COUNT]["begun"]) for index in range(64)]
        # One that pops notes each act; one in place hands back whole batches: its successor acts on all of one again.
        in_hand = min(1, head - done) if style.is_popped else style.batch
        assert not any(begun[in_hand:]), f"acted on records after {done}, of which {in_hand} were in hand: {begun}"
        for index in range(in_hand):
            if begun[index]:
                self._begun_again[done + 1 + index] = begun[index]
        if any(begun):
            return "acted on, not noted yet" if style.is_popped else "acted on, not advanced yet"
        if head > done:
            return "popped, not acted on yet"
        return "waiting for a record" if self._unread(self._last) == 0 else "between two records, or in one"

    def _autopsy_of_writer(self, base: int, side: str, records: int) -> str:
        """Of a side that publishes up to `records` at once."""
        head, tail = ring.cursors(base)
        free = min(self._style.capacity - (tail - head), records)
        written = [lives.words_written(base, tail + index, self._life[side]) for index in range(free)]
        if any(0 < words <= MIXED for words in written):
            return "a record half written"
        if any(written):
            return "records written, not published yet"
        if side == SOURCE and tail == self._limit:
            return "waiting for the auditor"
        needed = lives.OUTCOME_MAX if side == MIDDLE else 1
        return "waiting for room" if self._style.capacity - self._unread(base) < needed else "between two records"

    def _autopsy_of_middle(self) -> str:
        head, tail = ring.cursors(self._first)[0], ring.cursors(self._last)[1]
        answered = int(self._in_ring(self._last, tail)["cause_seq"][0]) if tail else 0
        pending = answered - head
        assert 0 <= pending <= self._style.batch, f"answered up to {answered}, inputs unread after {head}"
        if pending:
            self.tally.adopted += answered - max(head, self._adopted)
            self._adopted = answered  # the successor may be killed before it has adopted
            return "published, not advanced yet"
        if self._unread(self._first) == 0:
            return "waiting for an input"
        return self._autopsy_of_writer(self._last, MIDDLE, self._style.batch * lives.OUTCOME_MAX)

    def _unread(self, base: int) -> int:
        """Records that were unread at the kill, or a moment before it: the other side has gone on since."""
        head, tail = self._before_kill[base]
        return tail - head


@contextmanager
def _preempting() -> Iterator[None]:
    """Let this process, where it may, preempt the victim when it wakes.

    Otherwise a victim on the same core is often let go on until it yields, and it yields between two records.
    """
    policy, param = os.sched_getscheduler(0), os.sched_getparam(0)
    with suppress(PermissionError):
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, policy, param)


def _message(address: int) -> np.ndarray:
    return np.frombuffer(bytes_at(address, MESSAGE_BYTES), MESSAGE)


def kill_line(what: str, style: Style, kills: int, deadline: Deadline) -> Tally:
    start = time.monotonic()
    victims = [[MIDDLE]] * 7 + [[SOURCE], [SINK], [SOURCE, MIDDLE, SINK]]
    if not style.has_middle:
        victims = [[SOURCE]] * 4 + [[SINK]] * 4 + [[SOURCE, SINK]]
    choice = random.Random(SEED)
    with Line(style, deadline) as line:
        while line.tally.kills.total() < kills:
            line.kill(choice.choice(victims))
        line.finish()
    print(line.tally.text(what, time.monotonic() - start))
    return line.tally


RING_STYLES = {
    "try_push, peek and advance": Style(capacity=64),
    "try_push, try_pop": Style(capacity=4, is_popped=True),
    "push_batch, pop_batch": Style(capacity=64, batch=8, is_popped=True),
    "claim and commit, batches in place": Style(capacity=64, batch=8, is_built_in_place=True),
}
ORDER_STYLES = {
    "an outcome at a time": Style(capacity=1024, has_middle=True),
    "an outcome at a time, in the smallest ring": Style(capacity=4, has_middle=True, is_popped=True),
    "outcomes of up to eight inputs at a time": Style(capacity=1024, batch=8, has_middle=True, is_built_in_place=True),
}


@pytest.mark.parametrize("what", RING_STYLES)
def test_no_message_is_lost_torn_or_doubled_when_either_side_is_killed(what: str) -> None:
    kill_line(what, RING_STYLES[what], 100, Deadline(60.0))


@pytest.mark.parametrize("what", ORDER_STYLES)
def test_every_input_has_one_outcome_when_the_stage_between_two_rings_is_killed(what: str) -> None:
    kill_line(what, ORDER_STYLES[what], 100, Deadline(60.0))


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", RING_STYLES)
def test_no_message_is_lost_torn_or_doubled_in_ten_thousand_kills(what: str) -> None:
    tally = kill_line(what, RING_STYLES[what], 10_000 // len(RING_STYLES), Deadline(1000.0))
    assert tally.acted_again > 0, "no kill came between an act and its note"


@pytest.mark.long
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("what", ORDER_STYLES)
def test_every_input_has_one_outcome_in_ten_thousand_kills(what: str) -> None:
    tally = kill_line(what, ORDER_STYLES[what], -(-10_000 // len(ORDER_STYLES)), Deadline(1000.0))
    assert tally.adopted > 0, "no kill came between publishing and advancing"
