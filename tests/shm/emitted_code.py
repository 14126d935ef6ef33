"""Emit the machine code of the primitives, for this machine and for aarch64, and take it apart.

Run as a module it prints {machine: {subject: assembly of the kernel's own symbol}} as JSON; it wants a process of its
own, because code found in a cache has no unoptimised module to cross-compile, and LLVM aborts on mixed targets. What is
another instruction on each machine (`COUNTER_READS`) is emitted from small modules of its own.

This machine's text is what Numba's own pipeline emits. For aarch64 the unoptimised module of every function is given
the other triple and data layout, linked, optimised as Numba does it and emitted.
"""

import json
import platform
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
from llvmlite import binding as llvm
from llvmlite import ir
from numba.core.codegen import CPUCodeLibrary

from shm import broadcast, doorbell, histogram, neighbour, pool, ring, seqlock
from shm.atomics import (
    emit_ordered_read,
    emit_pause,
    emit_read,
    fence_seq_cst,
    load_acquire,
    load_relaxed,
    load_word,
    store_relaxed,
    store_release,
    store_word,
)
from shm.libc import sched_yield

AARCH64 = "aarch64"
HOST = "x86_64" if platform.machine() == "AMD64" else platform.machine()
TRIPLES = {"x86_64": "x86_64-unknown-linux-gnu", AARCH64: "aarch64-unknown-linux-gnu"}
PAYLOAD_BYTES = 104


def push(base: int, record: int) -> bool:
    return ring.try_push(base, record)


def pop(base: int, record: int) -> bool:
    return ring.try_pop(base, record)


def push_batch(base: int, records: int, count: int) -> int:
    return ring.push_batch(base, records, count)


def pop_batch(base: int, records: int, count: int) -> int:
    return ring.pop_batch(base, records, count)


def push_in_place(base: int, word: int) -> bool:
    if ring.room(base, 1) < 1:
        return False
    store_word(ring.claim(base, 0), word)
    ring.commit(base, 1)
    return True


def pop_in_place(base: int) -> int:
    record = ring.peek_record(base)
    if record == 0:
        return 0
    word = load_word(record)
    ring.advance(base, 1)
    return word


def write(row: int, source: int) -> int:
    return seqlock.write(row, source, PAYLOAD_BYTES)


def read(row: int, target: int) -> int:
    return seqlock.read(row, target, PAYLOAD_BYTES)


def publish(base: int, records: int, count: int) -> None:
    broadcast.publish(base, records, count)


def observe(base: int, observer: int, records: int, count: int) -> int:
    return broadcast.observe(base, observer, records, count)


def ring_bell(bell: int) -> None:
    doorbell.ring(bell)


def ring_if_moved(edge: int) -> None:
    neighbour.ring_if_moved(edge)


def announce_sleep(bell: int) -> None:
    doorbell.announce_sleep(bell)


def wait_ring(bell: int, timeout_ns: int) -> bool:
    return doorbell.wait_ring(bell, timeout_ns)


def end_sleep(bell: int) -> None:
    doorbell.end_sleep(bell)


def record(base: int, value: int) -> None:
    histogram.record(base, value)


def record_corrected(base: int, value: int, expected_interval: int) -> None:
    histogram.record_corrected(base, value, expected_interval)


def merge(base: int, source: int) -> int:
    return histogram.add(base, source)


def acquire(base: int) -> int:
    return pool.acquire(base)


def release(base: int, handle: int) -> bool:
    return pool.release(base, handle)


def spin_until_nonempty(base: int) -> int:
    while ring.available(base, 1) < 1:
        pass
    return load_word(ring.slot(base, 0))


def spin_until_room(base: int) -> None:
    while ring.room(base, 1) < 1:
        pass


def spin_until_popped(base: int, records: int) -> None:
    while ring.pop_batch(base, records, 8) == 0:
        pass


def spin_until_newer(row: int, target: int, version: int) -> None:
    while seqlock.try_read(row, target, PAYLOAD_BYTES) <= version:
        pass


# Controls: what the checks must flag.


def spin_on_a_plain_word(base: int) -> None:
    while load_word(base + ring.TAIL) == 0:
        pass


def spin_on_an_array(words: np.ndarray) -> None:
    while words[0] == 0:
        pass


def push_that_calls(base: int, record: int) -> bool:
    if not ring.try_push(base, record):
        sched_yield()
        return False
    return True


def push_with_a_full_fence(base: int, record: int) -> bool:
    pushed = ring.try_push(base, record)
    fence_seq_cst()
    return pushed


def push_without_release(base: int, record: int) -> bool:
    if ring.room(base, 1) < 1:
        return False
    ring.copy_record(ring.claim(base, 0), record, 64)
    store_word(base + ring.TAIL, load_word(base + ring.TAIL) + 1)
    return True


def publish_without_fence(base: int, records: int) -> None:
    published = load_word(base + broadcast.PUBLISHED)
    store_relaxed(base + broadcast.CLAIMED, published + 1)
    for offset in range(0, PAYLOAD_BYTES, 8):
        store_relaxed(base + broadcast.RECORDS + offset, load_word(records + offset))
    store_release(base + broadcast.PUBLISHED, published + 1)


def observe_without_fence(base: int, records: int) -> bool:
    published = load_acquire(base + broadcast.PUBLISHED)
    for offset in range(0, load_word(base), 8):
        store_word(records + offset, load_relaxed(base + broadcast.RECORDS + offset))
    return load_relaxed(base + broadcast.CLAIMED) <= published


def announce_without_fence(bell: int) -> None:
    door = load_word(bell + doorbell.DOOR)
    store_relaxed(door, load_word(door) + 1)


def record_counter_last(base: int) -> None:
    store_release(base + histogram.TOTAL, load_word(base + histogram.TOTAL) + 1)
    store_word(base + histogram.COUNTS, load_word(base + histogram.COUNTS) + 1)


def read_without_fence(row: int, target: int) -> int:
    version = load_acquire(row)
    for offset in range(0, PAYLOAD_BYTES, 8):
        store_word(target + offset, load_word(row + seqlock.CELLS + 8 + offset))
    return version


RING_PATHS = (push, pop, push_batch, pop_batch, push_in_place, pop_in_place)
SEQLOCK_PATHS = (write, read)
BROADCAST_PATHS = (publish, observe)
DOORBELL_PATHS = (ring_bell, ring_if_moved, announce_sleep, wait_ring, end_sleep)
HISTOGRAM_PATHS = (record, record_corrected, merge)
POOL_PATHS = (acquire, release)
SPINS = (spin_until_nonempty, spin_until_room, spin_until_popped, spin_until_newer)
CONTROLS = (
    spin_on_a_plain_word, spin_on_an_array, push_that_calls, push_with_a_full_fence, push_without_release,
    read_without_fence, publish_without_fence, observe_without_fence, announce_without_fence, record_counter_last,
)  # fmt: skip
SUBJECTS: tuple[Callable[..., Any], ...] = (
    RING_PATHS + SEQLOCK_PATHS + BROADCAST_PATHS + DOORBELL_PATHS + HISTOGRAM_PATHS + POOL_PATHS + SPINS + CONTROLS
)

COUNTER_READS: dict[str, dict[str, Callable[[ir.IRBuilder], ir.Value | None]]] = {
    "x86_64": {
        "cycles": lambda builder: emit_read(builder, x86=True),
        "cycles_ordered": lambda builder: emit_ordered_read(builder, "rdtscp"),
        "cycles_ordered without rdtscp": lambda builder: emit_ordered_read(builder, "lfence"),
        "pause": lambda builder: emit_pause(builder, x86=True),
    },
    AARCH64: {
        "cycles": lambda builder: emit_read(builder, x86=False),
        "cycles_ordered": lambda builder: emit_ordered_read(builder, "isb"),
        "pause": lambda builder: emit_pause(builder, x86=False),
    },
}


def own_symbol(assembly: str, symbol: str) -> str:
    """The text of one function: not the wrapper for Python, not the runtime's helpers."""
    start = assembly.index(f"\n{symbol}:") + len(symbol) + 2
    return assembly[start : assembly.index(".Lfunc_end", start)]


def emit() -> dict[str, dict[str, str]]:
    """Compile every subject for this machine and for aarch64."""
    modules: list[str] = []
    add_ir_module = CPUCodeLibrary.add_ir_module

    def keep_text(library: Any, module: Any) -> None:
        modules.append(str(module))
        add_ir_module(library, module)

    CPUCodeLibrary.add_ir_module = keep_text  # type: ignore[method-assign]
    symbols, texts = {}, {HOST: {}}
    for subject in SUBJECTS:
        arguments = [
            numba.int64[::1] if name == "words" else numba.int64
            for name in subject.__code__.co_varnames[: subject.__code__.co_argcount]
        ]
        function = numba.njit(
            nogil=True, error_model="numpy", no_cfunc_wrapper=True, no_cpython_wrapper=True, _nrt=False
        )(subject)
        function.compile(tuple(arguments))
        compiled = function.overloads[function.signatures[0]]
        symbols[subject.__name__] = compiled.fndesc.llvm_func_name
        texts[HOST][subject.__name__] = own_symbol(compiled.library.get_asm_str(), symbols[subject.__name__])
    if HOST != AARCH64:
        assembly = cross_compile(modules, TRIPLES[AARCH64])
        texts[AARCH64] = {name: own_symbol(assembly, symbol) for name, symbol in symbols.items()}
    for machine, found in texts.items():
        found |= {name: emit_alone(emitter, TRIPLES[machine]) for name, emitter in COUNTER_READS[machine].items()}
    return texts


def emit_alone(emitter: Callable[[ir.IRBuilder], ir.Value | None], triple: str) -> str:
    """Assembly of a function that holds what `emitter` emits, and returns its value."""
    module = ir.Module()
    module.triple = triple
    function = ir.Function(module, ir.FunctionType(ir.IntType(64), ()), "alone")
    builder = ir.IRBuilder(function.append_basic_block())
    builder.ret(emitter(builder) or ir.IntType(64)(0))
    return own_symbol(cross_compile([str(module)], triple), "alone")


def cross_compile(modules: list[str], triple: str) -> str:
    """Assembly of all unoptimised `modules`, linked and optimised for `triple`."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    cpu = "generic" if triple == TRIPLES[AARCH64] else "x86-64"
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    linked = llvm.parse_assembly("")
    linked.triple, linked.data_layout = triple, str(machine.target_data)
    for text in dict.fromkeys(modules):
        text = re.sub(r'(target triple = )".*"', rf'\1"{triple}"', text)
        text = re.sub(r'(target datalayout = )".*"', rf'\1"{machine.target_data}"', text)
        linked.link_in(llvm.parse_assembly(text))
    tuning = llvm.create_pipeline_tuning_options(speed_level=3)
    tuning.loop_vectorization = tuning.slp_vectorization = True
    builder = llvm.create_pass_builder(machine, tuning)
    # Twice, as Numba does it (a cheap and a full run of the O3 pipeline): once alone leaves calls inside loops.
    cheap = builder.getModulePassManager()
    cheap.add_loop_rotate_pass()
    cheap.add_instruction_combine_pass()
    cheap.add_jump_threading_pass()
    cheap.run(linked, builder)
    builder.getModulePassManager().run(linked, builder)
    return machine.emit_assembly(linked)


Test = Callable[[str], bool]
"""A question about one instruction."""


def like(pattern: str) -> Test:
    """Whether it begins with `pattern`."""
    return lambda instruction: re.match(pattern, instruction) is not None


def never(instruction: str) -> bool:
    """No instruction."""
    return False


def matching(pattern: str, instructions: list[str]) -> list[str]:
    """Those of `instructions` that begin with `pattern`."""
    return [instruction for instruction in instructions if re.match(pattern, instruction)]


@dataclass
class Block:
    """A basic block: its instructions, and the labels it may go to."""

    instructions: list[str]
    successors: list[str]


class Code:
    """One function's assembly as basic blocks, with the questions the tests ask of it."""

    def __init__(self, machine: str, text: str) -> None:
        self.machine = machine
        self.blocks: dict[str, Block] = {}
        self._split(text)

    def _split(self, text: str) -> None:
        label, falls_through, has_branched = "entry", True, False
        self.blocks[label] = Block([], [])
        for line in text.splitlines():
            line = line.partition("#" if self.machine == "x86_64" else "//")[0].strip()
            named = re.fullmatch(r"(\.L\w+):", line)
            is_instruction = bool(line) and not line.startswith(".")
            if named or (is_instruction and has_branched):
                following = named[1] if named else f"after {label}"
                if falls_through:
                    self.blocks[label].successors.append(following)
                label, falls_through, has_branched = following, True, False
                self.blocks[label] = Block([], [])
            if is_instruction and not named:
                instruction = re.sub(r"\s+", " ", line)
                self.blocks[label].instructions.append(instruction)
                target = re.search(r"(\.L\w+)$", instruction)
                has_branched = target is not None and self._branches(instruction)
                if target and has_branched:
                    self.blocks[label].successors.append(target[1])
                falls_through = not re.match(r"(jmp|ret|retq|b|br|ud2|brk)\b(?!\.)", instruction)

    def _branches(self, instruction: str) -> bool:
        pattern = r"j\w+ " if self.machine == "x86_64" else r"(b|b\.\w+|cbn?z|tbn?z) "
        return re.match(pattern, instruction) is not None

    @property
    def instructions(self) -> list[str]:
        """All of them, in the order of the text."""
        return [instruction for block in self.blocks.values() for instruction in block.instructions]

    def calls(self) -> list[str]:
        """Instructions that leave the function other than by returning: calls, tail calls, indirect jumps."""
        if self.machine == "x86_64":
            leaves = r"(notrack )?(call\w*|jmp\w* (?!\.L)|syscall|int3?\b)"
        else:
            leaves = r"(blr?|br|svc)\b(?!\.)|b (?!\.L)"
        return [instruction for instruction in self.instructions if re.match(leaves, instruction)]

    def called(self) -> list[str]:
        """The names that `calls` go to; on x86-64 an external function's address comes in a register."""
        names, registers = [], {}
        for instruction in self.instructions:
            if address := re.match(r"movabsq \$([A-Za-z_]\w*), %(\w+)", instruction):
                registers[address[2]] = address[1]
            elif instruction in self.calls():
                target = re.split(r"[ *%]+", instruction)[-1]
                names.append(registers.get(target, target).removesuffix("@PLT"))
        return names

    def is_full_fence(self, instruction: str) -> bool:
        """Whether it orders a store before a later load. (LLVM's choice on x86-64: a locked no-op on the stack.)"""
        fence = r"mfence|lock orl \$0, .*\(%[er]sp\)$" if self.machine == "x86_64" else r"dmb ish$"
        return re.match(fence, instruction) is not None

    def locked(self) -> list[str]:
        """Read-modify-write instructions and full store-load fences: what makes a core wait for its store buffer."""
        if self.machine == "x86_64":
            slow = r"lock\b|mfence|xchg\w* .*\("
        else:
            slow = r"(ld|st)(a|l)?xr|stlxr|cas|swp|ld(add|clr|set|eor|[su]max|[su]min)"
        return [instruction for instruction in self.instructions if re.match(slow, instruction)]

    def matching(self, pattern: str) -> list[str]:
        """Instructions that begin with `pattern`."""
        return matching(pattern, self.instructions)

    def loops(self) -> list[list[str]]:
        """The instructions of each cycle: of the blocks that reach each other."""
        reach = {label: self._reachable(label) for label in self.blocks}
        cycles: dict[frozenset[str], list[str]] = {}
        for label in self.blocks:
            cycle = frozenset(other for other in reach[label] if label in reach[other])
            if cycle:
                cycles[cycle] = [
                    text for name in self.blocks if name in cycle for text in self.blocks[name].instructions
                ]
        return list(cycles.values())

    def reaches(self, start: Test | None, end: Test, without: Test = never) -> bool:
        """Whether a run may come from a `start` (None: from the entry) to an `end` and meet nothing of `without`."""
        waiting = [
            (label, index + 1)
            for label, block in self.blocks.items()
            for index, instruction in enumerate(block.instructions)
            if start is not None and start(instruction)
        ]
        waiting += [("entry", 0)] if start is None else []
        seen = set(waiting)
        while waiting:
            label, index = waiting.pop()
            block = self.blocks[label]
            following = [(label, index + 1)]
            if index == len(block.instructions):
                following = [(successor, 0) for successor in block.successors]
            elif end(block.instructions[index]):
                return True
            elif without(block.instructions[index]):
                continue
            waiting += [place for place in following if place not in seen]
            seen.update(following)
        return False

    def _reachable(self, label: str) -> set[str]:
        seen: set[str] = set()
        waiting = list(self.blocks[label].successors)
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting += self.blocks[name].successors
        return seen

    def loads(self, instructions: list[str]) -> list[str]:
        """Those of `instructions` that read memory."""
        return [instruction for instruction in instructions if self._is_load(instruction)]

    def _is_load(self, instruction: str) -> bool:
        if self.machine != "x86_64":
            return re.match(r"ld", instruction) is not None
        if "(" not in instruction or re.match(r"lea|nop|prefetch", instruction):
            return False
        return not re.match(r"v?mov", instruction) or not instruction.endswith(")")


if __name__ == "__main__":
    json.dump(emit(), sys.stdout)
