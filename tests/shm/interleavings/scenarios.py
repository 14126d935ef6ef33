"""Who does what, on how little, and what must never happen.

Records and payloads are two words wide, wherever the primitive's words really stand: a torn record shows in two words
already. Words hold `content(number, word, life)`, so a word tells whose it is; `life` counts the writer's restarts, for
a record that a killed writer had begun is not the one its successor writes in its place.
"""

import contextlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from shm import broadcast, doorbell, histogram, ring, seqlock
from tests.shm.interleavings.operations import PRIVATE, Operation, Outcome, WrongError
from tests.shm.interleavings.search import Scenario
from tests.shm.interleavings.source import Program

BASE = 1 << 20
DOOR = 1 << 21
SEMAPHORE = 1 << 22
RECORD = PRIVATE + (1 << 20)
OBSERVER = PRIVATE + (1 << 21)
BELL = PRIVATE + (1 << 22)
CALLERS = "tests.shm.interleavings.callers"

RING_RECORD_BYTES = 64
LAST_WORD = RING_RECORD_BYTES - 8


def content(number: int, word: int, life: int = 0) -> int:
    """What word 0 or 1 of record `number` holds; never 0, which is what fresh memory holds."""
    return 100 * (number + 1) + 10 * life + word


def read_content(words: tuple[int, int], what: str) -> tuple[int, int]:
    """(number, life) of a record. Raises WrongError for one that no writer ever wrote."""
    number, life = words[0] // 100 - 1, words[0] // 10 % 10
    if words != (content(number, 0, life), content(number, 1, life)):
        raise WrongError(f"{what} is torn: its words are {words[0]} and {words[1]}")
    return number, life


def prepared(*operations: Operation) -> Callable[[Program], dict[int, int]]:
    """Memory as these operations leave it, before anybody starts."""

    def run(program: Program) -> dict[int, int]:
        memory: dict[int, int] = {}
        for operation in operations:
            memory |= operation.private
            coroutine, value = program(operation.module, operation.name)(*operation.args), None
            with contextlib.suppress(StopIteration):
                while True:
                    name, *args = coroutine.send(value)  # type: ignore[arg-type]  # None starts it
                    value = memory.get(args[0], 0) if name.startswith("load") else 0
                    if name.startswith("store") or name == "poke":
                        memory[args[0]] = args[1]
        return memory

    return run


def names(base: int, **offsets: int) -> Callable[[int], str]:
    """Names for addresses: the nearest named offset below, and the distance."""

    def name(address: int) -> str:
        known = {base + offset: text for text, offset in offsets.items()} | {DOOR: "door", SEMAPHORE: "semaphore"}
        nearest = max((at for at in known if at <= address), default=0)
        return known.get(nearest, "") + (f"+{address - nearest}" if address != nearest else "")

    return name


# --- the SPSC ring ---------------------------------------------------------------------------------------------------


def ring_elided(address: int) -> bool:
    """Of a ring's records only the first and the last word are looked at."""
    offset = address - BASE - ring.RECORDS
    return 0 <= offset < 1 << 16 and offset % RING_RECORD_BYTES not in (0, LAST_WORD)


def ring_last_word(address: int) -> bool:
    """Where one word is enough: the ring has scenarios of its own."""
    offset = address - BASE - ring.RECORDS
    return 0 <= offset < 1 << 16 and offset % RING_RECORD_BYTES == LAST_WORD


def ring_words(first: int, count: int) -> tuple[tuple[int, int], ...]:
    """`count` records in private memory, number `first` on."""
    return tuple(
        chain.from_iterable(
            ((RECORD + index * RING_RECORD_BYTES, content(first + index, 0)),
             (RECORD + index * RING_RECORD_BYTES + LAST_WORD, content(first + index, 1)))
            for index in range(count)
        )
    )  # fmt: skip


@dataclass(frozen=True)
class Pusher:
    """Pushes records 0, 1, ... `total` - 1; a successor goes on with the first that is not in the ring."""

    total: int
    batch: int = 0
    """0: one by one."""
    in_place: bool = False
    name: str = "writer"
    start: Hashable = 0
    restarts: bool = True

    def operation(self, state: Any) -> Operation | None:
        if state is None:
            return Operation("shm.ring", "cursors", (BASE,))
        if state == self.total:
            return None
        if self.in_place:
            return Operation(CALLERS, "build", (BASE, RECORD), ring_words(state, 1))
        if not self.batch:
            return Operation("shm.ring", "try_push", (BASE, RECORD), ring_words(state, 1))
        count = min(self.batch, self.total - state)
        return Operation("shm.ring", "push_batch", (BASE, RECORD, count), ring_words(state, count))

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        return outcome.result[1] if state is None else state + outcome.result

    def restart(self, state: Any) -> Hashable:
        return None


@dataclass(frozen=True)
class Popper:
    """Expects all records once and in order; a successor goes on with the first that is still in the ring."""

    total: int
    batch: int = 0
    name: str = "reader"
    start: Hashable = 0
    restarts: bool = True

    def operation(self, state: Any) -> Operation | None:
        if state is None:
            return Operation("shm.ring", "cursors", (BASE,))
        if state == self.total:
            return None
        if not self.batch:
            return Operation("shm.ring", "try_pop", (BASE, RECORD))
        return Operation("shm.ring", "pop_batch", (BASE, RECORD, self.batch))

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        if state is None:
            return outcome.result[0]
        for index in range(outcome.result):
            at = RECORD + index * RING_RECORD_BYTES
            expect_record(state + index, (outcome.private.get(at, 0), outcome.private.get(at + LAST_WORD, 0)))
        return state + outcome.result

    def restart(self, state: Any) -> Hashable:
        return None


def expect_record(number: int, words: tuple[int, int]) -> None:
    """Raises WrongError unless `words` are those of record `number`."""
    if words != (content(number, 0), content(number, 1)):
        raise WrongError(f"record {number} popped with words {words[0]} and {words[1]}")


@dataclass(frozen=True)
class Actor:
    """Acts on a record while it is in the ring, then advances: acted on at least once each, whatever dies.

    The state is (records acted on, ever; acting: whether the last one is still to be handed back).
    """

    total: int
    name: str = "reader"
    start: Hashable = (0, False)
    restarts: bool = True

    def operation(self, state: Any) -> Operation | None:
        acted, handing_back = state
        if handing_back:
            return Operation("shm.ring", "advance", (BASE, 1))
        # A successor does not know that the last record was handed back: it looks.
        return Operation(CALLERS, "look", (BASE, RECORD)) if acted < self.total else None

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        acted, handing_back = state
        if handing_back:
            return acted, False
        if not outcome.result:
            return state
        words = (outcome.private.get(RECORD, 0), outcome.private.get(RECORD + LAST_WORD, 0))
        number, _ = read_content(words, "a record in the ring")
        if number not in (acted - 1, acted):
            raise WrongError(f"record {number} met after {acted} were acted on")
        return max(acted, number + 1), True

    def restart(self, state: Any) -> Hashable:
        return state[0], False


def ring_scenario(capacity: int, total: int, *, batch: int = 0, acts: bool = False, kills: int = 1) -> Scenario:
    """`total` records through a ring of `capacity`, by push and pop or, `acts`, by claim, commit, peek and advance."""
    style = "built and acted on in place" if acts else f"batches of {batch}" if batch else "one by one"
    reader = Actor(total) if acts else Popper(total, batch)
    return Scenario(
        f"ring of {capacity}, {total} records, {style}", (Pusher(total, batch, acts), reader),
        prepared(Operation("shm.ring", "format_ring", (BASE, capacity, RING_RECORD_BYTES))),
        names(BASE, header=0, tail=ring.TAIL, head=ring.HEAD, records=ring.RECORDS), kills, ring_elided,
    )  # fmt: skip


# --- the broadcast ring ----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Publisher:
    """Publishes `total` records. The state is (next record or None: not known yet, life)."""

    total: int
    batch: int
    name: str = "writer"
    start: Hashable = (0, 0)
    restarts: bool = True

    def operation(self, state: Any) -> Operation | None:
        number, life = state
        if number is None:
            return Operation(CALLERS, "published", (BASE,))
        # A successor's batches are shorter: that is what tells whether `claimed` may fall.
        count = min(1 if life else self.batch, self.total - number)
        if count <= 0:
            return None
        words = tuple(
            (RECORD + 16 * index + 8 * word, content(number + index, word, life))
            for index in range(count) for word in (0, 1)
        )  # fmt: skip
        return Operation("shm.broadcast", "publish", (BASE, RECORD, count), words)

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        number, life = state
        if number is None:
            return outcome.result, life
        return number + min(1 if life else self.batch, self.total - number), life

    def restart(self, state: Any) -> Hashable:
        return None, state[1] + 1


@dataclass(frozen=True)
class Watcher:
    """Reads until it stands at `total`. The state is (cursor, lost, records got)."""

    total: int
    batch: int
    name: str = "observer"
    start: Hashable = (0, 0, 0)
    restarts: bool = False
    """Its state is private and dies with it; its death touches nobody."""

    def operation(self, state: Any) -> Operation | None:
        cursor, lost, _ = state
        if cursor == self.total:
            return None
        words = ((OBSERVER + broadcast.CURSOR, cursor), (OBSERVER + broadcast.LOST, lost))
        return Operation("shm.broadcast", "observe", (BASE, OBSERVER, RECORD, self.batch), words)

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        cursor, _, got = state
        for index in range(max(0, outcome.result)):
            at = RECORD + 16 * index
            words = outcome.private.get(at, 0), outcome.private.get(at + 8, 0)
            number, _ = read_content(words, f"record {cursor + index}")
            if number != cursor + index:
                raise WrongError(f"record {number} returned as record {cursor + index}")
            got += 1
        new, lost = outcome.private[OBSERVER + broadcast.CURSOR], outcome.private[OBSERVER + broadcast.LOST]
        if new != got + lost:
            raise WrongError(f"{got} records got and {lost} counted as lost, but the cursor is at {new}")
        if new > self.total:
            raise WrongError(f"the cursor is at {new}, {self.total} were published at most")
        return new, lost, got

    def restart(self, state: Any) -> Hashable:
        raise AssertionError("it has no successor")


def broadcast_scenario(capacity: int, total: int, *, batch: int = 1, taken: int = 1, kills: int = 1) -> Scenario:
    """`total` records past one observer that takes `taken` at a time."""
    return Scenario(
        f"broadcast of {capacity}, {total} records, batches of {batch} and {taken}",
        (Publisher(total, batch), Watcher(total, taken)),
        prepared(Operation("shm.broadcast", "format_broadcast", (BASE, capacity, 16))),
        names(BASE, header=0, claimed=broadcast.CLAIMED, published=broadcast.PUBLISHED, records=broadcast.RECORDS),
        kills,
    )  # fmt: skip


# --- the seqlock -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CellWriter:
    """Writes versions up to `total`. The state is (last version or None: not known yet, life)."""

    total: int
    start: Hashable = (0, 0)
    restarts: bool = True
    name: str = "writer"

    def operation(self, state: Any) -> Operation | None:
        version, life = state
        if version is None:
            return Operation(CALLERS, "version", (BASE,))
        if version >= self.total:
            return None
        words = ((RECORD, content(version + 1, 0, life)), (RECORD + 8, content(version + 1, 1, life)))
        return Operation("shm.seqlock", "write", (BASE, RECORD, 16), words)

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        return outcome.result, state[1]

    def restart(self, state: Any) -> Hashable:
        return None, state[1] + 1


@dataclass(frozen=True)
class CellReader:
    """Reads `tries` times; versions never go back. The state is (tries left, newest version)."""

    tries: int
    start: Hashable
    insists: bool = False
    """Whether only a read that returns a value counts as one."""
    name: str = "reader"
    restarts: bool = False
    """It writes nothing: its death touches nobody."""

    def operation(self, state: Any) -> Operation | None:
        return Operation("shm.seqlock", "try_read", (BASE, RECORD, 16)) if state[0] else None

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        left, newest = state
        version = outcome.result
        if version <= 0:
            return left - (not self.insists), newest
        number, _ = read_content((outcome.private.get(RECORD, 0), outcome.private.get(RECORD + 8, 0)), "a value")
        if number != version:
            raise WrongError(f"version {version} read with the words of version {number}")
        if version < newest:
            raise WrongError(f"version {version} read after version {newest}")
        return left - 1, version

    def restart(self, state: Any) -> Hashable:
        raise AssertionError("it has no successor")


def seqlock_scenario(versions: int, reads: int, *, kills: int = 1) -> Scenario:
    """One row of two words."""
    return Scenario(
        f"seqlock, {versions} versions, {reads} reads", (CellWriter(versions), CellReader(reads, (reads, 0))),
        prepared(), names(BASE, version=seqlock.VERSION, cells=seqlock.CELLS), kills,
    )  # fmt: skip


def abandoned_seqlock_scenario() -> Scenario:
    """A row with a value, and a writer that is killed for good: readers must still get a value."""
    first = Operation(
        "shm.seqlock", "write", (BASE, RECORD, 16), ((RECORD, content(1, 0)), (RECORD + 8, content(1, 1)))
    )
    return Scenario(
        "seqlock whose writer is not replaced", (CellWriter(3, (1, 0), False), CellReader(1, (1, 0), True)),
        prepared(first), names(BASE, version=seqlock.VERSION, cells=seqlock.CELLS),
    )  # fmt: skip


# --- the doorbell ----------------------------------------------------------------------------------------------------

BELL_WORDS = ((BELL + doorbell.DOOR, DOOR), (BELL + doorbell.SEMAPHORE, SEMAPHORE))


@dataclass(frozen=True)
class Ringer:
    """Pushes `total` records and rings after each. The state is (next record or None, sleep last rung for).

    A successor rings first: its predecessor may have died between push and ring.
    """

    total: int
    name: str = "ringer"
    start: Hashable = (0, 0)
    restarts: bool = True

    def operation(self, state: Any) -> Operation | None:
        number, rung = state
        words = (*BELL_WORDS, (BELL + doorbell.RUNG, rung))
        if number is None:
            return Operation(CALLERS, "ring_first", (BASE, BELL), words)
        if number == self.total:
            return None
        return Operation(CALLERS, "send", (BASE, RECORD, BELL), (*words, *ring_words(number, 1)))

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        number = outcome.result if state[0] is None else state[0] + outcome.result
        return number, outcome.private[BELL + doorbell.RUNG]

    def restart(self, state: Any) -> Hashable:
        return None, 0


@dataclass(frozen=True)
class Sleeper:
    """Pops all records, asleep whenever there is none. Its waits have no time-out here: a lost ring is a hang."""

    total: int
    name: str = "sleeper"
    start: Hashable = 0
    restarts: bool = True

    def operation(self, state: Any) -> Operation | None:
        if state is None:
            return Operation("shm.ring", "cursors", (BASE,))
        if state == self.total:
            return None
        return Operation(CALLERS, "receive", (BASE, RECORD, BELL), BELL_WORDS)

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        if state is None:
            return outcome.result[0]
        word = outcome.private.get(RECORD)
        if outcome.result and word != content(state, 0):
            raise WrongError(f"record {state} popped with word {word}")
        return state + outcome.result

    def restart(self, state: Any) -> Hashable:
        return None


def doorbell_scenario(capacity: int, total: int, *, kills: int = 1, victims: tuple[int, ...] = (0, 1)) -> Scenario:
    """`total` records through a ring of `capacity` to a reader that sleeps; `victims` may be killed."""
    return Scenario(
        f"doorbell, ring of {capacity}, {total} records, {kills} of {victims} killed", (Ringer(total), Sleeper(total)),
        prepared(Operation("shm.ring", "format_ring", (BASE, capacity, RING_RECORD_BYTES))),
        names(BASE, header=0, tail=ring.TAIL, head=ring.HEAD, records=ring.RECORDS), kills,
        lambda address: ring_elided(address) or ring_last_word(address), victims=victims,
    )  # fmt: skip


# --- the histogram ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recorder:
    """Records sample after sample; a successor goes on after the one that the killed writer was at."""

    samples: tuple[tuple[str, int, int], ...]
    """(primitive, value, expected interval or 0: the primitive takes none)"""
    name: str = "writer"
    start: Hashable = 0
    restarts: bool = True

    def operation(self, state: Any) -> Operation | None:
        if state == len(self.samples):
            return None
        name, value, interval = self.samples[state]
        return Operation("shm.histogram", name, (BASE, value, interval)[: 3 if interval else 2])

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        return state + 1

    def restart(self, state: Any) -> Hashable:
        return min(state + 1, len(self.samples))


@dataclass(frozen=True)
class Summer:
    """Sums the counters after it has seen a total. The state is the number of tries left."""

    most: int
    """Samples that there can be."""
    below: int
    start: Hashable
    name: str = "reader"
    restarts: bool = False

    def operation(self, state: Any) -> Operation | None:
        return Operation(CALLERS, "recorded", (BASE, self.below)) if state else None

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        total, counted = outcome.result
        if not total <= counted <= self.most:
            raise WrongError(f"a total of {total} of at most {self.most}, but {counted} are counted")
        return state - 1

    def restart(self, state: Any) -> Hashable:
        raise AssertionError("it has no successor")


def histogram_scenario(samples: tuple[tuple[str, int, int], ...], most: int, *, kills: int = 1) -> Scenario:
    """`samples` recorded while a reader looks twice. Values are small: a counter each, next to each other."""
    below = max(value for _, value, _ in samples) + 1
    return Scenario(
        f"histogram, {' '.join(str(value) for _, value, _ in samples)}, {most} samples",
        (Recorder(samples), Summer(most, below, 2)), prepared(),
        names(BASE, total=0, min=8, max=16, saturated=24, counts=histogram.COUNTS), kills,
    )  # fmt: skip


# --- the segment's header --------------------------------------------------------------------------------------------

HEADER = 1 << 18


@dataclass(frozen=True)
class Creator:
    """Writes the header of a segment that holds a ring."""

    name: str = "creator"
    start: Hashable = True
    restarts: bool = False
    """A half-built segment stays half-built."""

    def operation(self, state: Any) -> Operation | None:
        return Operation("shm.segment", "publish", (HEADER, BASE)) if state else None

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        return False

    def restart(self, state: Any) -> Hashable:
        raise AssertionError("it has no successor")


@dataclass(frozen=True)
class Attacher:
    """Attaches twice, ready or not. The state is the number of tries left."""

    name: str = "attacher"
    start: Hashable = 2
    restarts: bool = False

    def operation(self, state: Any) -> Operation | None:
        return Operation("shm.segment", "attach", (HEADER, BASE)) if state else None

    def finish(self, state: Any, outcome: Outcome) -> Hashable:
        if outcome.result not in (-1, 4):
            raise WrongError(f"attached to a half-built segment: words 1, 2 and 1 add up to {outcome.result}")
        return state - 1

    def restart(self, state: Any) -> Hashable:
        raise AssertionError("it has no successor")


def segment_scenario() -> Scenario:
    """A segment is attached while it is made."""
    return Scenario(
        "segment header", (Creator(), Attacher()), prepared(),
        names(HEADER, magic=0, ready=72, description=80, payload=BASE - HEADER),
    )  # fmt: skip
