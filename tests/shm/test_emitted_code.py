"""What the compiler made of the primitives: the machine code itself, here and for aarch64, is what is judged."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shm.atomics import JIT
from shm.doorbell import LATE_POSTS_MAX
from tests.shm.emitted_code import (
    AARCH64,
    BROADCAST_PATHS,
    COUNTER_READS,
    HISTOGRAM_PATHS,
    HOST,
    PAYLOAD_BYTES,
    POOL_PATHS,
    RING_PATHS,
    SEQLOCK_PATHS,
    SPINS,
    Code,
    like,
    matching,
    never,
)

pytestmark = pytest.mark.skipif(not JIT, reason="there is no machine code with the JIT off")

MACHINES = list(dict.fromkeys([HOST, AARCH64]))
PATHS = [function.__name__ for function in RING_PATHS + SEQLOCK_PATHS + BROADCAST_PATHS + HISTOGRAM_PATHS + POOL_PATHS]
PAYLOAD_WORDS = PAYLOAD_BYTES // 8
RINGS = [function.__name__ for function in RING_PATHS]
ACQUIRE, RELEASE, FENCE, LOAD_FENCE = r"lda(p|pu)?r ", r"stlu?r ", r"dmb ish$", r"dmb ish(ld)?$"

CodeOf = Callable[[str, str], Code]


@pytest.fixture(scope="module")
def code_of(tmp_path_factory: pytest.TempPathFactory) -> CodeOf:
    """code_of(machine, subject): compiled in a process of its own that finds nothing in a cache."""
    if HOST not in ("x86_64", AARCH64):
        pytest.skip(f"no rules for the machine code of {HOST}")
    done = subprocess.run(
        [sys.executable, "-m", "tests.shm.emitted_code"],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"XDG_CACHE_HOME": str(tmp_path_factory.mktemp("cache"))},
        check=True,
        capture_output=True,
    )
    texts: dict[str, Any] = json.loads(done.stdout)
    return lambda machine, subject: Code(machine, texts[machine][subject])


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("subject", PATHS)
def test_a_primitive_calls_nothing_and_locks_nothing(code_of: CodeOf, machine: str, subject: str) -> None:
    code = code_of(machine, subject)
    assert code.matching("ret")
    assert code.calls() == []
    assert code.locked() == []


@pytest.mark.parametrize("subject", RINGS)
def test_a_ring_operation_is_one_acquire_and_one_release_on_weak_memory(code_of: CodeOf, subject: str) -> None:
    code = code_of(AARCH64, subject)
    assert len(code.matching(ACQUIRE)) == 1, "the other side's cursor"
    assert len(code.matching(RELEASE)) == 1, "one release store, of a batch too"
    assert code.matching("dmb") == []
    assert not any(matching(RELEASE, loop) for loop in code.loops())


def kinds(code: Code, patterns: dict[str, str]) -> list[str]:
    """The names of the patterns that the instructions match, in order."""
    return [name for text in code.instructions for name, pattern in patterns.items() if matching(pattern, [text])]


def test_a_seqlock_write_fences_between_its_odd_mark_and_the_payload(code_of: CodeOf) -> None:
    found = kinds(code_of(AARCH64, "write"), {"store": "st[rp] ", "release": RELEASE, "fence": FENCE})
    assert found == ["store", "fence", *["store"] * PAYLOAD_WORDS, "release", "release", "store"], "last: the result"


def test_a_seqlock_read_fences_between_the_payload_and_its_second_look(code_of: CodeOf) -> None:
    found = kinds(code_of(AARCH64, "read"), {"load": "ld[rp] ", "acquire": ACQUIRE, "fence": LOAD_FENCE})
    assert found == ["acquire", "acquire", *["load"] * PAYLOAD_WORDS, "fence", "load"]


STORE, CLAIM = r"st[rp] ", r"str \w+, \[\w+, #128\]"


def is_word_store(instruction: str) -> bool:
    """Of a register's value: the other stores say how the call ended."""
    return re.match(r"st[rp] x\d+,|movq %\w+, .*\(", instruction) is not None


def test_a_broadcast_fences_between_its_claim_and_the_records(code_of: CodeOf) -> None:
    code = code_of(AARCH64, "publish")
    assert code.reaches(like(CLAIM), like(STORE))
    assert not code.reaches(like(CLAIM), like(STORE), without=like(FENCE))
    assert not code.reaches(like(CLAIM), like(RELEASE), without=like(FENCE))
    assert code.reaches(like(STORE), like(RELEASE))
    assert not code.reaches(is_word_store, like("ret"), without=like(RELEASE))
    assert code.matching(ACQUIRE) == []


def test_an_observer_fences_between_the_records_and_its_look_at_the_claim(code_of: CodeOf) -> None:
    code = code_of(AARCH64, "observe")
    copied = {load for loop in code.loops() for load in code.loads(loop)}
    assert copied
    assert len(code.matching(ACQUIRE)) == len(code.matching(LOAD_FENCE)) == 1
    assert not code.reaches(None, copied.__contains__, without=like(ACQUIRE))
    assert not code.reaches(copied.__contains__, like("ret"), without=like(LOAD_FENCE))
    assert not code.reaches(like(LOAD_FENCE), like("ret"), without=like(r"ldr \w+, \[\w+, #128\]"))
    assert code.matching(RELEASE) == code.matching(FENCE) == []


@pytest.mark.parametrize("machine", MACHINES)
def test_a_ringer_fences_before_it_looks_at_the_door_and_calls_nothing_but_the_post(
    code_of: CodeOf, machine: str
) -> None:
    code = code_of(machine, "ring_bell")
    assert len([text for text in code.instructions if code.is_full_fence(text)]) == 1
    loads = {load for load in code.loads(code.instructions) if not code.is_full_fence(load)}
    assert code.reaches(code.is_full_fence, loads.__contains__)
    if machine == AARCH64:
        assert not code.reaches(None, like(ACQUIRE), without=code.is_full_fence)
        assert code.locked() == []
    else:
        assert not code.reaches(None, loads.__contains__, without=code.is_full_fence)
        assert len(code.locked()) == 1
    assert code.called() == ["sem_post"]


@pytest.mark.parametrize("machine", MACHINES)
def test_a_look_at_an_edge_fences_only_when_the_cursor_has_moved_and_before_it_looks_at_the_other_side(
    code_of: CodeOf, machine: str
) -> None:
    code = code_of(machine, "ring_if_moved")
    assert code.reaches(None, like("ret"), without=code.is_full_fence)
    assert not code.reaches(None, lambda text: text in code.calls(), without=code.is_full_fence)
    if machine == AARCH64:
        assert len(code.matching(ACQUIRE)) >= 2, "the tail, and the door"
        assert not code.reaches(None, like(ACQUIRE), without=code.is_full_fence)
    assert set(code.called()) == {"sem_post"}


@pytest.mark.parametrize("machine", MACHINES)
def test_a_sleeper_fences_after_its_announcement_and_calls_nothing(code_of: CodeOf, machine: str) -> None:
    code = code_of(machine, "announce_sleep")
    assert code.reaches(is_word_store, code.is_full_fence)
    assert not code.reaches(is_word_store, like("ret"), without=code.is_full_fence)
    assert not code.reaches(code.is_full_fence, is_word_store)
    assert len(code.locked()) == (machine != AARCH64)
    assert code.calls() == []


@pytest.mark.parametrize("machine", MACHINES)
def test_a_sleeper_waits_and_wakes_by_the_semaphores_calls_alone(code_of: CodeOf, machine: str) -> None:
    waits, wakes = code_of(machine, "wait_ring"), code_of(machine, "end_sleep")
    assert waits.called() == ["clock_gettime", "sem_clockwait"]
    assert set(wakes.called()) == {"sem_trywait"}
    assert len(wakes.calls()) <= LATE_POSTS_MAX
    for code in (waits, wakes):
        assert code.locked() == []
        assert not any(map(code.is_full_fence, code.instructions))


@pytest.mark.parametrize("subject", [function.__name__ for function in HISTOGRAM_PATHS])
def test_a_histograms_total_is_released_after_its_counters_and_once(code_of: CodeOf, subject: str) -> None:
    code = code_of(AARCH64, subject)
    assert code.matching(RELEASE)
    assert not any(matching(RELEASE, loop) for loop in code.loops())
    assert not code.reaches(like(RELEASE), like(RELEASE))
    # What a merge returns is stored where its caller wants it, at the address itself.
    returns = like(r"str x\d+, \[x\d+\]$") if subject == "merge" else never
    assert not code.reaches(like(RELEASE), lambda text: is_word_store(text) and not returns(text))
    assert code.matching(ACQUIRE) == code.matching("dmb") == []


@pytest.mark.parametrize("subject", [function.__name__ for function in POOL_PATHS])
def test_a_pool_orders_nothing(code_of: CodeOf, subject: str) -> None:
    code = code_of(AARCH64, subject)
    assert code.matching(ACQUIRE) == code.matching(RELEASE) == code.matching("dmb") == []
    assert code.loops() == []


@pytest.mark.parametrize("machine", MACHINES)
def test_a_counter_is_read_by_one_instruction_and_an_ordered_one_waits_first(code_of: CodeOf, machine: str) -> None:
    names = {
        "rdtscp": "rdtscp",
        "rdtsc": r"rdtsc$",
        "lfence": "lfence",
        "isb": "isb",
        "mrs": r"mrs \w+, (?i:cntvct_el0)",
    }
    expected = {
        "x86_64": {
            "cycles": ["rdtsc"], "cycles_ordered": ["rdtscp"], "cycles_ordered without rdtscp": ["lfence", "rdtsc"],
            "pause": [],
        },
        AARCH64: {"cycles": ["mrs"], "cycles_ordered": ["isb", "mrs"], "pause": ["isb"]},
    }[machine]  # fmt: skip
    assert expected.keys() == COUNTER_READS[machine].keys()
    for subject, instructions in expected.items():
        code = code_of(machine, subject)
        assert kinds(code, names) == instructions, subject
        assert code.calls() == code.locked() == []
    if machine == "x86_64":
        assert code_of(machine, "pause").matching("pause")


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("subject", [function.__name__ for function in SPINS])
def test_a_spin_looks_again_in_every_turn(code_of: CodeOf, machine: str, subject: str) -> None:
    code = code_of(machine, subject)
    assert code.loops()
    assert all(code.loads(loop) for loop in code.loops())
    if machine == AARCH64:
        assert any(matching(ACQUIRE, loop) for loop in code.loops())
    assert code.calls() == []
    assert code.locked() == []


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("control", ["spin_on_a_plain_word", "spin_on_an_array"])
def test_the_checks_see_a_load_that_left_its_loop(code_of: CodeOf, machine: str, control: str) -> None:
    code = code_of(machine, control)
    assert any(not code.loads(loop) for loop in code.loops())


@pytest.mark.parametrize("machine", MACHINES)
def test_the_checks_see_a_call_and_a_full_fence(code_of: CodeOf, machine: str) -> None:
    assert code_of(machine, "push_that_calls").calls()
    fenced = code_of(machine, "push_with_a_full_fence")
    assert fenced.locked() if machine == "x86_64" else fenced.matching(FENCE)


def test_the_checks_see_a_missing_release_and_a_missing_fence(code_of: CodeOf) -> None:
    assert not code_of(AARCH64, "push_without_release").matching(RELEASE)
    assert not code_of(AARCH64, "read_without_fence").matching(LOAD_FENCE)
    unfenced = code_of(AARCH64, "publish_without_fence")
    assert unfenced.reaches(like(CLAIM), like(STORE), without=like(FENCE))
    assert not code_of(AARCH64, "observe_without_fence").matching(LOAD_FENCE)
    assert code_of(AARCH64, "record_counter_last").reaches(like(RELEASE), is_word_store)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_checks_see_an_announcement_that_is_not_fenced(code_of: CodeOf, machine: str) -> None:
    code = code_of(machine, "announce_without_fence")
    assert code.reaches(is_word_store, like("ret"), without=code.is_full_fence)


@pytest.mark.parametrize("machine", MACHINES)
def test_the_checks_see_what_is_called(code_of: CodeOf, machine: str) -> None:
    assert code_of(machine, "push_that_calls").called() == ["sched_yield"]
