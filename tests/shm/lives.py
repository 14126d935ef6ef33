"""The sides of a ring that is being killed at: a source, a middle, a sink, and the ledger in which the sink acts.

Each kernel goes on from what stands in shared memory alone; a life has no memory of its own. All are bounded: they
return how many messages they handled, or -seq of a message that was not what it should be.

The ledger, one segment:

      0  limit                     the auditor's: the source publishes no seq above it
     16  (before, after) a side    the auditor's: how long a side is to stay at two of its lines, in pauses
    128  acted                     the sink's, if it pops: messages it has acted on
    256  records in hand           the sink's, if it pops: where it pops them to, so that they outlive it
     ..  entries of (begun, digest), one a seq, used again when audited

To act on a message is to count it in `begun` of its entry and to write its digest: done twice it has the same effect,
and is seen.
"""

import numpy as np

from shm import adopt, ring
from shm.atomics import load_acquire, load_relaxed, load_word, pause, store_relaxed, store_release, store_word
from shm.kernel import kernel, primitive
from tests.shm.messages import (
    MESSAGE_BYTES,
    MIXED,
    SEQ,
    WORD,
    digest,
    fill,
    fill_head,
    fill_mixed,
    is_whole,
    mixed,
    mixed_digest,
)

LIMIT = 0
LINGER_OF_SOURCE, LINGER_OF_MIDDLE, LINGER_OF_SINK = 16, 32, 48
BEFORE, AFTER = 0, 8
ACTED = 128
IN_HAND = 256
BATCH_MAX = 16
ENTRIES = IN_HAND + BATCH_MAX * 128
ENTRY = np.dtype([("begun", "<i8"), ("digest", "<i8")])
BEGUN, DIGEST, ENTRY_BYTES = 0, 8, 16
ENTRY_COUNT = 1 << 18
LEDGER_BYTES = ENTRIES + ENTRY_COUNT * ENTRY_BYTES

OUTCOME_MAX = 3
"""Most records that answer one input."""


@primitive
def linger(ledger: int, line: int) -> None:
    """Stay a while at this line, when the auditor wants to kill here."""
    for _ in range(load_relaxed(ledger + line)):
        pause()


@primitive
def outcome_records(cause_seq: int) -> int:
    """How many records answer an input: 1 to OUTCOME_MAX."""
    return 1 + (mixed(cause_seq, 0, 0) & 0xFFFF) % OUTCOME_MAX


# --- the source: writes seqs in order, each message its own cause ----------------------------------------------------


@kernel
def push(base: int, ledger: int, batch: int, life: int, most: int, spins: int, scratch: int) -> int:
    """Push up to `batch` messages at a time, by `try_push` when it is 1; lingers before and after."""
    done = 0
    vain = 0
    while done < most and vain <= spins:
        tail = load_word(base + ring.TAIL)
        wanted = min(batch, load_acquire(ledger + LIMIT) - tail)
        pushed = 0
        if wanted > 0:
            for index in range(wanted):
                seq = tail + index + 1
                fill(scratch + index * MESSAGE_BYTES, seq, seq, life)
            linger(ledger, LINGER_OF_SOURCE + BEFORE)
            if batch > 1:
                pushed = ring.push_batch(base, scratch, wanted)
            elif ring.try_push(base, scratch):
                pushed = 1
            linger(ledger, LINGER_OF_SOURCE + AFTER)
        done += pushed
        vain = vain + 1 if pushed == 0 else 0
    return done


@kernel
def build(base: int, ledger: int, batch: int, life: int, most: int, spins: int, scratch: int) -> int:
    """Build up to `batch` messages where they will be read, and publish them; lingers within and after building."""
    done = 0
    vain = 0
    while done < most and vain <= spins:
        tail = load_word(base + ring.TAIL)
        wanted = min(batch, load_acquire(ledger + LIMIT) - tail)
        claimed = 0
        if wanted > 0:
            claimed = min(wanted, ring.room(base, wanted))
        for index in range(claimed):
            record = ring.claim(base, index)
            seq = tail + index + 1
            fill_head(record, seq, seq, life)
            linger(ledger, LINGER_OF_SOURCE + BEFORE)
            fill_mixed(record, seq, life)
        if claimed > 0:
            linger(ledger, LINGER_OF_SOURCE + AFTER)
            ring.commit(base, claimed)
        done += claimed
        vain = vain + 1 if claimed == 0 else 0
    return done


# --- the middle: answers each input by one outcome, of one record or several ------------------------------------------


@kernel
def judge(inputs: int, outputs: int, ledger: int, batch: int, life: int, most: int, spins: int) -> int:
    """Answer up to `batch` inputs by one publication, then advance them; lingers before and after publishing."""
    done = 0
    vain = 0
    while done < most and vain <= spins:
        head = load_word(inputs + ring.HEAD)
        tail = load_word(outputs + ring.TAIL)
        unread = min(batch, ring.available(inputs, batch))
        answered = 0
        claimed = 0
        while answered < unread:
            record = ring.slot(inputs, head + answered)
            cause_seq = head + answered + 1
            if not is_whole(record, cause_seq):
                return -cause_seq
            wanted = claimed + outcome_records(cause_seq)
            if wanted > adopt.claimable(outputs) or ring.room(outputs, wanted) < wanted:
                break
            while claimed < wanted:
                fill(ring.claim(outputs, claimed), tail + claimed + 1, cause_seq, life)
                claimed += 1
            answered += 1
        if answered > 0:
            linger(ledger, LINGER_OF_MIDDLE + BEFORE)
            ring.commit(outputs, claimed)
            linger(ledger, LINGER_OF_MIDDLE + AFTER)
            ring.advance(inputs, answered)
        done += answered
        vain = vain + 1 if answered == 0 else 0
    return done


# --- the sink: acts on every message ---------------------------------------------------------------------------------


@primitive
def act(ledger: int, record: int, seq: int) -> None:
    """Act on a message."""
    entry = ledger + ENTRIES + (seq & ENTRY_COUNT - 1) * ENTRY_BYTES
    store_relaxed(entry + BEGUN, load_relaxed(entry + BEGUN) + 1)
    store_relaxed(entry + DIGEST, digest(record))


@kernel
def in_hand(ledger: int, number: int, batch: int) -> int:
    """Address in the ledger at which a sink that pops has record `number`."""
    return ledger + IN_HAND + number % batch * MESSAGE_BYTES


@kernel
def act_in_place(base: int, ledger: int, batch: int, most: int, spins: int) -> int:
    """Act on up to `batch` records where they stand, then advance them together: killed between, they come again.

    Lingers before and after acting on each.
    """
    done = 0
    vain = 0
    while done < most and vain <= spins:
        head = load_word(base + ring.HEAD)
        unread = 0
        if batch > 1:
            unread = min(batch, ring.available(base, batch))
        elif ring.peek_record(base) != 0:
            unread = 1
        for index in range(unread):
            record = ring.slot(base, head + index)
            seq = head + index + 1
            if not is_whole(record, seq):
                return -seq
            linger(ledger, LINGER_OF_SINK + BEFORE)
            act(ledger, record, seq)
            linger(ledger, LINGER_OF_SINK + AFTER)
        if unread > 0:
            ring.advance(base, unread)
        done += unread
        vain = vain + 1 if unread == 0 else 0
    return done


@kernel
def pop_and_act(base: int, ledger: int, batch: int, most: int, spins: int) -> int:
    """Pop up to `batch` records, by `try_pop` when it is 1, into memory that outlives this process; act on them.

    What is consumed and not acted on is in hand there: record `number` at `number` modulo `batch`. While `acted` is
    behind the head nothing is popped, so a pop that was killed half-way has spoilt only what was acted on. Lingers
    before and after acting on each.
    """
    done = 0
    vain = 0
    while done < most and vain <= spins:
        head = load_word(base + ring.HEAD)
        acted = load_word(ledger + ACTED)
        while acted < head:
            record = in_hand(ledger, acted, batch)
            if not is_whole(record, acted + 1):
                return -(acted + 1)
            linger(ledger, LINGER_OF_SINK + BEFORE)
            act(ledger, record, acted + 1)
            linger(ledger, LINGER_OF_SINK + AFTER)
            acted += 1
            store_release(ledger + ACTED, acted)
            done += 1
        popped = 0
        if batch > 1:
            popped = ring.pop_batch(base, in_hand(ledger, head, batch), batch - head % batch)
        elif ring.try_pop(base, in_hand(ledger, head, 1)):
            popped = 1
        vain = vain + 1 if popped == 0 else 0
    return done


# --- the auditor: never killed ---------------------------------------------------------------------------------------

WALK_SEQ, WALK_CAUSE, WALK_PART, WALK_LIFE, WALK_WORDS = 0, 1, 2, 3, 4
"""The auditor's place: the last seq audited, the input it answers, which of that input's records it is, its life."""


@kernel
def settled(base: int, ledger: int, is_popping: int) -> int:
    """Messages that the sink has done with: it will not act on them again."""
    return load_acquire(ledger + ACTED) if is_popping != 0 else load_acquire(base + ring.HEAD)


@kernel
def audit(ledger: int, last: int, walk: np.ndarray, births: np.ndarray, has_middle: int) -> int:
    """Check seqs up to `last`: begun once, right digest, the right life, causes in order and complete. 0, or a bad seq.

    births[n] is the first seq that a writer of life n may have written. Entries are cleared, to be used again.
    """
    while walk[WALK_SEQ] < last:
        seq = walk[WALK_SEQ] + 1
        while births[walk[WALK_LIFE] + 1] <= seq:
            walk[WALK_LIFE] += 1
        records = 1
        if has_middle != 0 and walk[WALK_CAUSE] > 0:
            records = outcome_records(walk[WALK_CAUSE])
        if walk[WALK_PART] == records or walk[WALK_CAUSE] == 0:
            walk[WALK_CAUSE] += 1
            walk[WALK_PART] = 0
        walk[WALK_PART] += 1
        entry = ledger + ENTRIES + (seq & ENTRY_COUNT - 1) * ENTRY_BYTES
        if load_word(entry + BEGUN) != 1:
            return seq
        if load_word(entry + DIGEST) != mixed_digest(seq, walk[WALK_CAUSE], walk[WALK_LIFE]):
            return seq
        store_word(entry + BEGUN, 0)
        store_word(entry + DIGEST, 0)
        walk[WALK_SEQ] = seq
    return 0


@kernel
def has_whole_outcome(walk: np.ndarray, has_middle: int) -> bool:
    """Whether the last seq audited ends the outcome of its input."""
    return walk[WALK_PART] == (outcome_records(walk[WALK_CAUSE]) if has_middle != 0 else 1)


@kernel
def set_limit(ledger: int, limit: int) -> None:
    """Let the source go on, up to this seq."""
    store_release(ledger + LIMIT, limit)


@kernel
def set_linger(ledger: int, line: int, pauses: int) -> None:
    """Have a side stay at one of its lines from now on."""
    store_relaxed(ledger + line, pauses)


@kernel
def words_written(base: int, number: int, life: int) -> int:
    """How many of the words that tell are in the slot of record `number` already, written by `life`: 0 to 1 + MIXED."""
    record = ring.slot(base, number)
    seq = number + 1
    count = 1 if load_word(record + SEQ) == seq else 0
    for word in range(MIXED):
        if load_word(record + WORD + 8 * word) == mixed(seq, life, word):
            count += 1
    return count
