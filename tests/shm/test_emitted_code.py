"""What the compiler made of the primitives: the machine code itself, here and for aarch64, is what is judged."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shm.atomics import JIT
from tests.shm.emitted_code import AARCH64, HOST, PAYLOAD_BYTES, RING_PATHS, SEQLOCK_PATHS, SPINS, Code, matching

pytestmark = pytest.mark.skipif(not JIT, reason="there is no machine code with the JIT off")

MACHINES = list(dict.fromkeys([HOST, AARCH64]))
PATHS = [function.__name__ for function in RING_PATHS + SEQLOCK_PATHS]
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
