"""Broken primitives that the checker must catch: an edit of the real source each.

Two kinds: `weakenings` takes the ordering away from one access or fence after the other, wherever the source has any;
`MISTAKES` are what people get wrong: published before the copy, fences on the wrong side, no second look.
"""

import ast
import importlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass

from tests.shm.interleavings.edits import move_before, orderings, replace, together, weaken
from tests.shm.interleavings.scenarios import (
    CALLERS,
    abandoned_seqlock_scenario,
    broadcast_scenario,
    doorbell_scenario,
    ring_scenario,
    segment_scenario,
    seqlock_scenario,
)
from tests.shm.interleavings.search import Scenario
from tests.shm.interleavings.source import Edit

SCENARIOS: dict[str, list[Scenario]] = {
    "shm.ring": [
        ring_scenario(1, 3, kills=2),
        ring_scenario(2, 4),
        ring_scenario(2, 5, batch=2),
        ring_scenario(1, 3, acts=True, kills=2),
    ],
    "shm.broadcast": [
        broadcast_scenario(1, 3),
        broadcast_scenario(2, 4),
        broadcast_scenario(4, 6, batch=2, taken=2),
    ],
    "shm.seqlock": [seqlock_scenario(4, 2), abandoned_seqlock_scenario()],
    "shm.doorbell": [
        doorbell_scenario(2, 1),
        doorbell_scenario(1, 2, kills=0),
        doorbell_scenario(2, 2, kills=0),
    ],
    "shm.segment": [segment_scenario()],
}
"""What each module's source is run through: small enough for every run of the suite."""


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


def _in_caller(what: str, edit: Edit) -> Mutant:
    return Mutant(f"doorbell: {what}", "shm.doorbell", edit, CALLERS)


def _in_segment(what: str, edit: Edit) -> Mutant:
    return Mutant(f"segment: {what}", "shm.segment", edit)


_ODD, _EVEN = "store_relaxed(cell, 2 * version + 1)", "store_release(cell, 2 * version)"
_SECOND_LOOK = "if load_relaxed(base + CLAIMED) - cursor <= capacity:"
_FENCES = "from shm.atomics import fence_acquire, fence_release"

MISTAKES: Sequence[Mutant] = (
    _in_ring("tail published before the copy", move_before("try_push", "commit(", "copy_record(")),
    _in_ring("tail published before the copies of a batch", move_before("push_batch", "commit(", "copy_record(")),
    _in_ring("head published before the copy", move_before("try_pop", "advance(", "copy_record(")),
    _in_ring("head published before the copies of a batch", move_before("pop_batch", "advance(", "copy_record(")),
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
    _in_broadcast("goes on at a record not yet published", replace("observe", "resume = oldest", "resume = oldest + 1")),
    _in_broadcast("the loss is counted one short", replace("observe", "+ resume - cursor", "+ resume - cursor - 1")),
    _in_seqlock(
        "odd mark by a release store, no fence",
        replace("write", f"{_ODD}\n    fence_release()", "store_release(cell, 2 * version + 1)"),
    ),
    _in_seqlock("fence before the odd mark", move_before("write", "fence_release()", _ODD)),
    _in_seqlock("even mark before the payload", move_before("write", _EVEN, "for offset")),
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
    _in_segment("ready stored first", move_before("create", "_publish_ready(", "_HEADER.pack_into(")),
    _in_segment("ready stored before the description", move_before("create", "_publish_ready(", "memory[")),
    _in_segment("ready stored before the ring's header", move_before("create", "_publish_ready(", "format_ring(")),
    _in_segment(
        "ready stored without any order", together(weaken("_publish_ready", 1), weaken("_publish_ready", 0))
    ),
    _in_segment("header read before the ready word", move_before("attach", "_HEADER.unpack_from(", "_is_ready(")),
)
