"""Adoption: a restarted stage finds which of its inputs have their outcome already, and does not decide them again.

A stage that may neither lose nor double an input takes records from an input ring and answers them in an output ring;
each output carries the seq of the input that it answers. It publishes all outputs of an input with one release store,
and only then advances the input. Killed between the two it leaves an input that is unread and answered. Its successor
asks the output ring: what is published was decided.

    in:   .. 41 42 | 43 44 45          head stands before 43: unread
    out:  .. 41 42 43 |                43 was published: it is adopted, 44 is the next to decide

The newest published record says it all, whether or not the output's reader has consumed it: its slot is written to
again by the stage itself only, and not before it has run round the whole ring. So at no time may a stage have begun
more records than `claimable`, one less than the capacity: one more would stand in the slot of the newest published
record, and a stage killed there would leave nothing whole to adopt from. A ring of capacity 1 cannot be adopted from.

What the caller sees to:

- Seqs start at 1; in the input ring they ascend, and so do the seqs answered in the output ring.
- The predecessor was reaped before its successor attaches; both are then, in turn, the same one writer and reader.
- A stage that has several inputs, or several rings for its outcomes, holds one input at a time. `answered` is then
  asked of each ring: inputs up to the highest are decided if an outcome is in one of the rings, up to the lowest if it
  is in all of them (and for the one input between, only the rings that lack it are completed). Where a ring holds
  answers to several input rings, `last_record` shows whose the newest is.
- With one input and one output ring many inputs may be answered by one publication and advanced together.

Order. The predecessor stored outputs, then `tail` of the output, then `head` of the input: both cursors by release
stores, below which no earlier store can sink. (LLVM lets no later one rise above them either: the next record's words
stay out of the ring until this one is published.) A kill falls between two instructions: all before it are done, none
after it. Dying and being reaped pass through the kernel's locks, so the successor reads the final value of every word,
on any machine, and plain loads do. A `tail` that is there has whole records below it, and a `head` that is there has
its outcome published. The input's records are made visible by the acquire load of its `tail`.

Dying in here. The only store is the `head` of the input, once, over inputs that all have their outcome. Killed before
it nothing has happened and the next successor does the same; killed after it, nothing is left to skip.
"""

from numba import int64

from shm.atomics import load_word
from shm.kernel import kernel, primitive
from shm.ring import CAPACITY, HEAD, TAIL, advance, available, slot

NOTHING = 0
"""Answered by a ring into which nothing was ever published: seqs start at 1."""


@primitive
def claimable(outputs: int) -> int:
    """Writer: the most records that may be begun and not yet published, room or not."""
    return load_word(outputs + CAPACITY) - 1


@primitive
def last_record(outputs: int) -> int:
    """Writer: address of the newest record it ever published, consumed or not; 0 when there is none.

    Whole as long as no more than `claimable` records were begun after it.
    """
    tail = load_word(outputs + TAIL)
    if tail == 0:
        return 0
    return slot(outputs, tail - 1)


@primitive
def answered(outputs: int, cause_offset: int) -> int:
    """Writer: the seq that the newest published record answers, the int64 at `cause_offset` in it; NOTHING if none."""
    record = last_record(outputs)
    if record == 0:
        return NOTHING
    return load_word(record + cause_offset)


@primitive
def skip_answered(inputs: int, seq_offset: int, last_answered: int) -> int:
    """Reader: consume the unread records whose seq, the int64 at `seq_offset`, is up to `last_answered`.

    All at once, with one release store. Returns how many there were.
    """
    unread = available(inputs, load_word(inputs + CAPACITY))
    head = load_word(inputs + HEAD)
    count = 0
    while count < unread and load_word(slot(inputs, head + count) + seq_offset) <= last_answered:
        count += 1
    if count > 0:
        advance(inputs, count)
    return count


@kernel
def adopt(inputs: int, seq_offset: int, outputs: int, cause_offset: int) -> int:
    """For a stage of one input and one output ring, before its first poll: skip what has its outcome. Returns how many.

    Both fields are int64; their offsets are those of the dtypes (`ORDER.fields["seq"][1]`).
    """
    return skip_answered(inputs, seq_offset, answered(outputs, cause_offset))


@kernel
def skip(inputs: int, seq_offset: int, last_answered: int) -> int:
    """`skip_answered` for cold code: of a stage that knows the last input answered from several rings."""
    return skip_answered(inputs, seq_offset, last_answered)


COLD_KERNEL = (skip, (int64, int64, int64))
"""What stages that adopt have compiled before the fork: compiling it in a restarted one would hold it up."""
