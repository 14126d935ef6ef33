"""Broken primitives that the checker must catch: an edit of the real source each.

Two kinds: `weakenings` takes the ordering away from one access or fence after the other, wherever the source has any;
`MISTAKES` are what people get wrong: published before the copy, fences on the wrong side, no second look.
"""

import ast
import importlib
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from tests.shm.interleavings.edits import move_before, orderings, replace, together, weaken
from tests.shm.interleavings.error_scenarios import error_scenario
from tests.shm.interleavings.neighbour_scenarios import READER, WRITER, neighbour_scenario
from tests.shm.interleavings.places import Places
from tests.shm.interleavings.scenarios import (
    CALLERS,
    abandoned_seqlock_scenario,
    broadcast_scenario,
    doorbell_scenario,
    histogram_scenario,
    ring_scenario,
    segment_scenario,
    seqlock_scenario,
)
from tests.shm.interleavings.search import Model, Scenario, explore
from tests.shm.interleavings.source import Edit, Program
from tests.shm.interleavings.tso import Tso
from tests.shm.interleavings.weak import Weak

SCENARIOS: dict[str, list[Scenario]] = {
    "shm.ring": [
        ring_scenario(2, 5, batch=2),
        ring_scenario(1, 3, kills=2),
        ring_scenario(1, 3, acts=True, kills=2),
        ring_scenario(2, 4),
    ],
    "shm.broadcast": [
        broadcast_scenario(1, 3),
        broadcast_scenario(2, 4),
        broadcast_scenario(4, 6, batch=2, taken=2),
    ],
    "shm.seqlock": [abandoned_seqlock_scenario(), seqlock_scenario(3, 2)],
    "shm.doorbell": [
        doorbell_scenario(1, 1),
        doorbell_scenario(1, 2, kills=0),
        doorbell_scenario(2, 2, victims=(1,)),
    ],
    "shm.neighbour": [
        neighbour_scenario(1, 1, sleepers=(READER,), kills=1),
        neighbour_scenario(3, 2, sleepers=(WRITER, READER), ready=1),
        neighbour_scenario(3, 4, sleepers=(WRITER,), most=3, ready=1),
        neighbour_scenario(4, 5, sleepers=(WRITER,), wanted=2, most=2, ready=1),
        neighbour_scenario(1, 2, sleepers=(WRITER,), ready=1, kills=1, victims=(READER,)),
        neighbour_scenario(2, 2, sleepers=(WRITER, READER)),
    ],
    "shm.histogram": [
        histogram_scenario((("record", 1, 0), ("record", 0, 0), ("record", 1, 0)), 3),
        histogram_scenario((("record", 1, 0), ("record_corrected", 3, 1)), 4),
    ],
    "shm.segment": [segment_scenario()],
    "shm.errorlog": [error_scenario(3), error_scenario(2, kills=2)],
}
"""What each module's source is run through: small enough for every run of the suite."""

LONG_SCENARIOS: list[Scenario] = [
    ring_scenario(2, 4, kills=2),
    ring_scenario(4, 9, batch=3),
    ring_scenario(2, 5, acts=True, kills=2),
    broadcast_scenario(2, 4, kills=2),
    broadcast_scenario(4, 7, batch=3, taken=2),
    seqlock_scenario(4, 3),
    seqlock_scenario(4, 2, kills=2),
    doorbell_scenario(2, 2, victims=(0,)),
    doorbell_scenario(4, 3, kills=0),
    neighbour_scenario(2, 2, sleepers=(READER,), kills=1, victims=(WRITER,)),
    neighbour_scenario(1, 2, sleepers=(WRITER, READER)),
    neighbour_scenario(4, 5, sleepers=(WRITER,), wanted=2, most=2, ready=3, kills=1, victims=(READER,)),
    neighbour_scenario(4, 6, sleepers=(WRITER,), wanted=2, most=1),
]
"""Larger ones, for once in a while."""


@dataclass(frozen=True)
class Mutant:
    """An edit, and the module whose scenarios must notice it."""

    what: str
    scenarios_of: str
    edit: Edit
    edited: str = ""
    """The module edited, when it is another one."""

    @property
    def edits(self) -> dict[str, Edit]:
        return {self.edited or self.scenarios_of: self.edit}


def weakenings() -> list[Mutant]:
    """One mutant for each acquire, release and fence in the primitives."""
    return [
        Mutant(f"{function}: {text} without its order", module, weaken(function, index))
        for module in SCENARIOS
        for function, index, text in _sites(module)
    ]


def _sites(module: str) -> list[tuple[str, int, str]]:
    found: list[tuple[str, int, str]] = []
    for function, text in orderings(ast.parse(inspect.getsource(importlib.import_module(module)))):
        found.append((function, sum(known == function for known, _, _ in found), text))
    return found


def _in_ring(what: str, edit: Edit) -> Mutant:
    return Mutant(f"ring: {what}", "shm.ring", edit)


def _in_broadcast(what: str, edit: Edit) -> Mutant:
    return Mutant(f"broadcast: {what}", "shm.broadcast", edit)


def _in_seqlock(what: str, edit: Edit) -> Mutant:
    return Mutant(f"seqlock: {what}", "shm.seqlock", edit)


def _in_doorbell(what: str, edit: Edit) -> Mutant:
    return Mutant(f"doorbell: {what}", "shm.doorbell", edit)


def _in_neighbour(what: str, edit: Edit, edited: str = "") -> Mutant:
    return Mutant(f"neighbour: {what}", "shm.neighbour", edit, edited)


def _in_histogram(what: str, edit: Edit) -> Mutant:
    return Mutant(f"histogram: {what}", "shm.histogram", edit)


def _in_caller(what: str, edit: Edit) -> Mutant:
    return Mutant(f"doorbell: {what}", "shm.doorbell", edit, CALLERS)


def _in_segment(what: str, edit: Edit) -> Mutant:
    return Mutant(f"segment: {what}", "shm.segment", edit)


def _in_errorlog(what: str, edit: Edit) -> Mutant:
    return Mutant(f"error log: {what}", "shm.errorlog", edit)


def _ready_before(statement: str) -> Edit:
    return move_before("Segment.create", "_publish_ready(", statement)


_HEADER_READ_FIRST = move_before("_read_header", "_HEADER.unpack_from(", "_is_ready(")
_ODD, _EVEN = "store_relaxed(cell, 2 * version + 1)", "store_release(cell, 2 * version)"
_SECOND_LOOK = "if load_relaxed(base + CLAIMED) - cursor <= capacity:"
_NOTHING, _WRITES = "neighbour.NOTHING_SEEN", "load_word(edge + neighbour.IS_WRITER) != 0"
_SEEN_BY_WRITER = f"load_word(base + ring.TAIL) if {_WRITES} else {_NOTHING}"
_SEEN_BY_READER = f"{_NOTHING} if {_WRITES} else load_word(base + ring.HEAD)"
_FENCES = "from shm.atomics import fence_acquire, fence_release"

MISTAKES: Sequence[Mutant] = (
    _in_ring("tail published before the copy", move_before("try_push", "store_release(", "copy_fresh(")),
    _in_ring(
        "tail published before the copies of a batch", move_before("push_batch", "store_release(", "copy_record(")
    ),
    _in_ring("head published before the copy", move_before("try_pop", "store_release(", "copy_record(")),
    _in_ring("head published before the copies of a batch", move_before("pop_batch", "HEAD, head", "copy_record(")),
    _in_broadcast("fence before the claim", move_before("publish", "fence_release()", "CLAIMED")),
    _in_broadcast("claim after the copy", move_before("publish", "for index", "CLAIMED")),
    _in_broadcast(
        "published before the copy",
        replace("publish", "fence_release()", "fence_release(); store_release(base + PUBLISHED, published + batch)"),
    ),
    _in_broadcast(
        "a successor lowers the claim",
        replace("publish", "if published + batch - load_word(base + CLAIMED) > 0:", "if True:"),
    ),
    _in_broadcast("no second look", replace("observe", _SECOND_LOOK, "if True:")),
    _in_broadcast(
        "second look at what is published, not at what is claimed",
        replace("observe", _SECOND_LOOK, _SECOND_LOOK.replace("CLAIMED", "PUBLISHED")),
    ),
    _in_broadcast(
        "fence after the second look",
        replace(
            "observe",
            f"fence_acquire()\n        {_SECOND_LOOK}",
            "claimed = load_relaxed(base + CLAIMED)\n        fence_acquire()\n        if claimed - cursor <= capacity:",
        ),
    ),
    _in_broadcast("the loss is counted one short", replace("observe", "+ resume - cursor", "+ resume - cursor - 1")),
    _in_seqlock(
        "odd mark by a release store, no fence",
        replace("write", f"{_ODD}\n    fence_release()", "store_release(cell, 2 * version + 1)"),
    ),
    _in_seqlock("fence before the odd mark", move_before("write", "fence_release()", _ODD)),
    _in_seqlock("nothing released", together(weaken("write", 2), weaken("write", 1))),
    _in_seqlock("version before the payload", move_before("write", "row + VERSION, version", "for offset")),
    _in_seqlock("version before the even mark", move_before("write", "row + VERSION, version", _EVEN)),
    _in_seqlock("no second look", replace("try_read", "if load_relaxed(cell) != 2 * version", "if False")),
    _in_seqlock("fence after the second look", move_before("try_read", "if load_relaxed(cell)", "fence_acquire()")),
    _in_seqlock("one cell", replace("_cell", "version & 1", "0")),
    _in_doorbell(
        "acquire and release fences instead of full ones",
        together(
            replace("ring", "fence_seq_cst()", "fence_acquire()"),
            replace("announce_sleep", "fence_seq_cst()", "fence_release()"),
            lambda tree: tree.body.insert(0, ast.parse(_FENCES).body[0]),
        ),
    ),
    _in_doorbell("fence before the announcement", move_before("announce_sleep", "fence_seq_cst", "store_relaxed")),
    _in_doorbell("fence after the look at the door", move_before("ring", "sleeps = load_acquire", "fence_seq_cst")),
    _in_doorbell("a killed sleeper's number is used again", replace("announce_sleep", "+ 1 | 1", "| 1")),
    _in_doorbell(
        "posts taken away after the look at the inputs",
        replace("wait_ring", "return libc", "libc.sem_trywait(load_word(bell + SEMAPHORE))\n    return libc"),
    ),
    _in_caller(
        "announced after the look at the inputs",
        together(
            replace("receive", "if ring.available(base, 1) == 0:", "if empty:"),
            replace("receive", "doorbell.announce", "empty = ring.available(base, 1) == 0\n    doorbell.announce"),
        ),
    ),
    _in_caller("no second look at the inputs", replace("receive", "if ring.available(base, 1) == 0:", "if True:")),
    _in_caller("rung before the push", move_before("send", "doorbell.ring(bell)", "ring.try_push")),
    _in_caller("a successor does not ring first", replace("ring_first", "doorbell.ring(bell)", "pass")),
    _in_neighbour("what is left unread counts, not what was", replace("ring_if_moved", "- seen", "- cursor")),
    _in_neighbour("only a full ring rings for room", replace("ring_if_moved", "2 * (", "(")),
    _in_neighbour("a writer's successor has seen its tail", replace("begin", _NOTHING, _SEEN_BY_WRITER), CALLERS),
    _in_neighbour("a reader's successor has seen its head", replace("begin", _NOTHING, _SEEN_BY_READER), CALLERS),
    _in_histogram("total stored before the counter", move_before("record", "_complete(", "store_relaxed(address")),
    _in_histogram("total stored before the counters", move_before("record_corrected", "_complete(", "while left")),
    _in_segment("ready stored first", _ready_before("_HEADER.pack_into(")),
    _in_segment("ready stored before the description", _ready_before("memory[")),
    _in_segment("ready stored before the ring's header", _ready_before("layout.format(")),
    _in_segment("ready stored without any order", together(weaken("_publish_ready", 1), weaken("_publish_ready", 0))),
    _in_segment("header read before the ready word", _HEADER_READ_FIRST),
    _in_errorlog("length before the text", move_before("append", "store_release(", "for offset")),
    _in_errorlog("length before the count", move_before("append", "store_release(", "entry + COUNT")),
    _in_errorlog("an entry is made anew", replace("repeat", "load_word(entry + COUNT) + 1", "1")),
)


NOT_NEEDED: dict[str, str] = {
    "write: store_release(cell, 2 * version) without its order": "the release store of the version comes after it",
    "write: store_release(row + VERSION, version) without its order": "the release store of the even mark comes before",
    "try_read: load_acquire(cell) without its order": "the acquire load of the version comes before it",
    "_publish_ready: fence_release() without its order": "the store after it is a release store",
    "_publish_ready: store_release(address, 1) without its order": "the fence before it is a release fence",
}
"""Weakenings that change nothing, and why: each is a second guard of what another one guards. Both gone is caught."""


@dataclass(frozen=True)
class Death:
    """How a mutant was caught."""

    model: str
    scenario: str
    wrong: str
    trace: tuple[str, ...]


WEAK_VALUES = partial(Weak, races=False)
MODELS: dict[str, Callable[[Places, int], Model]] = {"TSO": Tso, "weak": WEAK_VALUES, "weak, races": Weak}
"""The second looks at what is read only; the third also takes a data race for an error, as C11 does."""


def unreduced(model: str) -> Callable[[Places, int], Model]:
    """The model without its knowledge of which steps commute: the search tries everything in every order."""

    def make(places: Places, sides: int) -> Model:
        made = MODELS[model](places, sides)
        made.is_local = lambda side, event: False  # type: ignore[method-assign]
        return made

    return make


def hunt(mutant: Mutant, model: str, *, reduced: bool = True) -> Death | None:
    """Run the mutant through its module's scenarios under `model`; the first death, None when it survives them all."""
    for scenario in SCENARIOS[mutant.scenarios_of]:
        verdict = explore(scenario, MODELS[model] if reduced else unreduced(model), Program(mutant.edits))
        if verdict.wrong is not None:
            return Death(model, scenario.name, verdict.wrong, verdict.trace)
    return None
