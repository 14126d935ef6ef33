"""The feed's hot side: bytes in, market records out.

    read --> receive buffer --> cut --> parse --> staging (private ring) --> ring to the book

An event is made in the staging ring and published from there as the book's ring has room; as long as something waits
there, nothing more is parsed and the rest stays in the socket. Live, when that lasts too long, messages are dropped
up to now, at an event's boundary, and every symbol is marked as having a gap.

What compiled code does not do itself (control frames, messages it does not recognise, a lost connection, asking for
snapshots) is left in `state` for the cold side: the poll returns Poll.SERVICE. It never does so twice in a row, so
that in a packed line a venue that sends nonsense cannot keep the other agents from their turn.
"""

import numpy as np
from numpy.typing import NDArray

from shm import ring
from shm.atomics import load_word, store_word
from shm.clock import now_ns as read_clock
from shm.kernel import kernel, primitive, routine
from stages.agent import Poll
from stages.domain.codecs import websocket_frames
from stages.domain.codecs.binance_market import (
    END,
    FIRST,
    NO_ROOM,
    OVERFLOW,
    PUBLISH_NS,
    TOO_MANY_DECIMALS,
    UNKNOWN_SYMBOL,
    UNRECOGNISED,
    parse_message,
)
from stages.domain.codecs.itch_market import stage_message
from stages.domain.codecs.websocket_frames import BINARY, CLOSE, INCOMPLETE, PONG, TEXT
from stages.domain.samples import WARM_SAMPLES_BYTES, count_noted, note
from stages.domain.tap import show
from stages.domain.warming import warm, warm_records
from stages.feed.blocks import begin_block, has_blocks, take_block
from stages.feed.context import NO_SYMBOL, OVERTAKEN, SYNCED, TAKEN, Context
from stages.feed.lines.packets import is_request_wanted, take_packets
from stages.feed.lines.raw_datagrams import take_raw
from stages.feed.streams.reader import read_bytes
from stages.feed.streams.sync import RECORD_BYTES, accept, lose_sync, release_hold, stage_reset, take_snapshot

MESSAGES_PER_POLL = 1
"""One, so that in a packed line the others act on a message before the next one behind it is parsed."""

SKIPPED_PER_POLL = 64
"""Most messages dropped in one poll while skipping."""

WARM_RECORDS = 8
"""Slots kept warm ahead of both rings: a diff of 32 levels."""

SERVICE = int(Poll.SERVICE)


@routine
def poll(context: Context, now_ns: int) -> int:
    """Publish what waits; then read, cut and parse. Returns how many, or Poll.SERVICE."""
    state = context.state[0]
    handled = _drain(context)
    if ring.available(state["staging"], 1) > 0:
        handled += _wait_for_room(context, context.names, now_ns)
    else:
        if state["is_skipping"] != 0:
            _end_skip(context)
        if state["reset_wanted"] != 0:
            state["reset_wanted"] = 0
            _reset_all(context)
        elif not _take_handed_in(context, context.names) and state["is_quiesced"] == 0:
            handled += _take_frames(context, context.message)
            handled += take_packets(
                context, context.packets, context.lines, context.directory, now_ns, MESSAGES_PER_POLL
            )
            handled += take_raw(context, context.raw, context.lines, MESSAGES_PER_POLL)
        handled += _drain(context)
    if _needs_service(context):
        if state["was_served"] == 0:
            return SERVICE
        state["was_served"] = 0
    elif handled == 0:
        if context.samples[0] > 0:
            count_noted(context.samples)
        if ring.reader_epoch(state["output"]) != state["reader_epoch"]:  # a book that starts anew knows nothing
            state["reset_wanted"] = state["reader_epoch"] > 0
            state["reader_epoch"] = ring.reader_epoch(state["output"])
        if now_ns >= state["next_rehearsal_ns"]:
            state["next_rehearsal_ns"] = now_ns + state["rehearsal_interval_ns"]
            rehearse(context)
    return handled


@kernel
def poll_once(context: Context, now_ns: int) -> int:
    """One `poll`, entered from Python: for lines that are stepped by hand, and to set up rehearsals."""
    return poll(context, now_ns)


@routine
def rehearse(context: Context) -> None:
    """Parse a message of our own into free slots and publish nothing: only the caches and branch predictors notice.

    Between two ticks other code, and other guests of the machine, take the core's caches: without this the first
    message after a few idle ms takes four times as long.
    """
    state = context.state[0]
    staging, output = state["staging"], state["output"]
    if ring.available(staging, 1) > 0:
        return
    _rehearse_document(context, context.names)
    _rehearse_block(context, context.directory)
    warm(ring.claim(staging, 0), WARM_RECORDS * RECORD_BYTES)
    warm(ring.claim(output, 0), WARM_RECORDS * RECORD_BYTES)
    warm_records(context.counters)
    warm_records(context.sync)
    warm(context.samples.ctypes.data, WARM_SAMPLES_BYTES)


@primitive
def _rehearse_document(context: Context, names: int | None) -> None:
    if names is not None:
        state = context.state[0]
        at, count = state["rehearsal_at"], state["symbol_count"]
        parse_message(at, at + state["rehearsal_bytes"], names, count, state["staging"], state["read_ns"])


@primitive
def _rehearse_block(context: Context, directory: int | None) -> None:
    if directory is not None:
        state = context.state[0]
        stage_message(directory, state["rehearsal_at"], state["staging"], 0, state["read_ns"])


@primitive
def _needs_service(context: Context) -> bool:
    state = context.state[0]
    return (
        state["lost"]
        | state["control_opcode"]
        | state["refused_code"]
        | state["snapshot_code"]
        | state["snapshot_wanted"]
        | state["hold_is_full"]
        | _lines_need_service(context.lines)
        | is_request_wanted(context.packets)
    ) != 0


@primitive
def _lines_need_service(lines: NDArray[np.void] | None) -> int:
    return 0 if lines is None else lines[0]["error"]


@primitive
def _is_waiting(context: Context) -> bool:
    """The cold side must deal with something before the next message may be looked at."""
    state = context.state[0]
    return (state["lost"] | state["control_opcode"] | state["refused_code"] | state["canonical_bytes"]) != 0


@routine
def _drain(context: Context) -> int:
    """Staging to the book's ring as far as there is room, in one release store. Returns the events completed."""
    state = context.state[0]
    staging, output = state["staging"], state["output"]
    staged = ring.available(staging, 1)
    if staged == 0:
        return 0
    count = min(staged, ring.room(output, staged))
    if count == 0:
        return 0
    publish_ns = read_clock(context.clock)
    head = load_word(staging + ring.HEAD)
    events = 0
    for index in range(count):
        source, target = ring.slot(staging, head + index), ring.claim(output, index)
        ring.copy_record(target, source, RECORD_BYTES)
        store_word(target + PUBLISH_NS, publish_ns)
        events += 1 if load_word(source) >> 8 & END else 0
    ring.commit(output, count)
    ring.advance(staging, count)
    context.counters[0]["messages_out"] += events
    return events


@primitive
def _next_frame(context: Context, may_read: bool) -> int:
    """Opcode of the next message or control frame, reading once if allowed; INCOMPLETE when there is none."""
    state = context.state[0]
    code = websocket_frames.cut(state["cutter"], state["fill"], state["frame_bytes_max"])
    if code == INCOMPLETE and may_read and read_bytes(context) > 0:
        code = websocket_frames.cut(state["cutter"], state["fill"], state["frame_bytes_max"])
    return code


@routine
def _take_frames(context: Context, message: NDArray[np.void] | None) -> int:
    """Handle messages of a stream until there is none, MESSAGES_PER_POLL are done, or something stands in the way."""
    if message is None:
        return 0
    state = context.state[0]
    handled = 0
    reads = state["reads"]
    while handled < MESSAGES_PER_POLL and state["hold_is_full"] == 0 and not _is_waiting(context):
        if state["block_end"] != 0:
            end = state["block_end"]
            handled += take_block(context, MESSAGES_PER_POLL)
            _drain(context)
            if state["block_end"] == 0:
                _tap(context, state["block_at"], end - state["block_at"])  # when the book has it
            if ring.available(state["staging"], 1) > 0:
                context.counters[0]["backpressure"] += 1
                break
            continue
        code = _next_frame(context, state["reads"] == reads and state["descriptor"] != -1)
        if code == INCOMPLETE:
            break
        if code < 0 or code >= CLOSE:
            _take_control(context, code)
            continue
        at = load_word(state["cutter"] + websocket_frames.PAYLOAD)
        count = load_word(state["cutter"] + websocket_frames.PAYLOAD_BYTES)
        if code == BINARY and has_blocks(context):
            begin_block(context, at, count)
            continue
        begin_ns = read_clock(context.clock)
        code = _take_message(context, context.names, at, count) if code == TEXT else UNRECOGNISED
        if code < 0:
            _refuse(context, code, at, count)
            _tap(context, at, count)
            break
        note(context.samples, state["parse_hop"], read_clock(context.clock) - begin_ns)
        handled += 1
        _drain(context)
        _tap(context, at, count)  # when the book has it
        if ring.available(state["staging"], 1) > 0:
            context.counters[0]["backpressure"] += 1
            break
    return handled


@primitive
def _tap(context: Context, at: int, size: int) -> None:
    """Show a raw frame to whoever observes."""
    show(context.state[0]["tap"], at, size, context.state[0]["read_ns"], 0)


@primitive
def _take_control(context: Context, code: int) -> None:
    """Note a control frame or a protocol error for the cold side; a pong needs no answer."""
    state = context.state[0]
    if code < 0:
        state["lost"] = code
    elif code != PONG:
        state["control_opcode"] = code
        state["control_at"] = load_word(state["cutter"] + websocket_frames.PAYLOAD)
        state["control_bytes"] = load_word(state["cutter"] + websocket_frames.PAYLOAD_BYTES)


@primitive
def _take_handed_in(context: Context, names: int | None) -> bool:
    """What the cold side has brought, if there is something: a snapshot, or a document that it has rewritten.

    What a snapshot releases comes before anything else.
    """
    if names is None:
        return False
    state = context.state[0]
    if state["releasing"] != NO_SYMBOL:
        release_hold(context)
        return True
    if state["snapshot_symbol"] != NO_SYMBOL:
        take_snapshot(context)
        if state["snapshot_code"] == TAKEN:
            _tap(context, state["snapshot_at"], state["snapshot_bytes"])
        return True
    if state["canonical_bytes"] > 0:
        _take_canonical(context)
        return True
    return False


@routine
def _take_message(context: Context, names: int | None, at: int, count: int) -> int:
    """Parse and sort in one document. Returns its kind or an error code."""
    if names is None:
        return UNRECOGNISED
    state, counters = context.state[0], context.counters[0]
    code, records = parse_message(at, at + count, names, state["symbol_count"], state["staging"], state["read_ns"])
    if code > 0:
        counters["frames"] += 1
        counters["messages_in"] += 1
        accept(context, code, records)
    return code


@routine
def _refuse(context: Context, code: int, at: int, count: int) -> None:
    """Count a message that gave no event; the cold side says so, or reads it with more patience."""
    state, counters = context.state[0], context.counters[0]
    if code == UNRECOGNISED:
        counters["unrecognised"] += 1  # the cold side counts the frame: it may be an answer to a request
    else:
        counters["frames"] += 1
        if code == OVERFLOW:
            counters["overflowed"] += 1
        elif code == TOO_MANY_DECIMALS:
            counters["too_many_decimals"] += 1
        elif code == UNKNOWN_SYMBOL:
            counters["unknown_symbol"] += 1
        elif code == NO_ROOM:
            counters["oversized"] += 1
    state["refused_code"], state["refused_at"], state["refused_bytes"] = code, at, count


@routine
def _take_canonical(context: Context) -> None:
    """A message that the cold side has rewritten takes its turn in the order in which it came."""
    state = context.state[0]
    code = _take_message(context, context.names, state["canonical_at"], state["canonical_bytes"])
    if code < 0:
        if code == UNRECOGNISED:
            context.counters[0]["malformed"] += 1
            context.counters[0]["frames"] += 1
        else:
            _refuse(context, code, state["canonical_at"], state["canonical_bytes"])
    state["canonical_bytes"] = 0


@primitive
def _wait_for_room(context: Context, names: int | None, now_ns: int) -> int:
    """Events wait for the book. Live, when the oldest unread byte gets too old, drop documents up to now."""
    if names is None:
        return 0  # of binary messages nothing is dropped: no snapshot would mend it
    state = context.state[0]
    if state["is_skipping"] == 0:
        if state["must_deliver"] != 0 or now_ns - state["read_ns"] <= state["backlog_limit_ns"]:
            return 0
        _begin_skip(context)
    dropped = 0
    reads = state["reads"]
    while dropped < SKIPPED_PER_POLL and not _is_waiting(context):
        code = _next_frame(context, state["reads"] == reads and state["descriptor"] != -1)
        if code == INCOMPLETE:
            break
        if code < 0 or code >= CLOSE:
            _take_control(context, code)
        else:
            dropped += 1
            payload = load_word(state["cutter"] + websocket_frames.PAYLOAD)
            _tap(context, payload, load_word(state["cutter"] + websocket_frames.PAYLOAD_BYTES))
    state["skipped"] += dropped
    context.counters[0]["frames"] += dropped
    context.counters[0]["dropped"] += dropped
    return dropped


@primitive
def _begin_skip(context: Context) -> None:
    """Drop what is staged, but for the rest of an event that the book has begun to receive."""
    state = context.state[0]
    staging = state["staging"]
    head, tail = load_word(staging + ring.HEAD), load_word(staging + ring.TAIL)
    kept = head
    while kept < tail and load_word(ring.slot(staging, head)) >> 8 & FIRST == 0:
        kept += 1
        if load_word(ring.slot(staging, kept - 1)) >> 8 & END:
            break
    events = 0
    for number in range(kept, tail):
        events += 1 if load_word(ring.slot(staging, number)) >> 8 & END else 0
    store_word(staging + ring.TAIL, kept)
    store_word(staging + ring.CACHED_TAIL, kept)
    context.counters[0]["dropped"] += events
    state["is_skipping"], state["skipped"] = 1, events


@primitive
def _end_skip(context: Context) -> None:
    """There is room again: every book has missed something."""
    state = context.state[0]
    state["is_skipping"] = 0
    if state["skipped"] > 0:
        for symbol in range(len(context.sync)):
            context.counters[0]["gaps"] += 1 if context.sync[symbol]["status"] == SYNCED else 0
        state["reset_wanted"] = 1


@primitive
def _reset_all(context: Context) -> None:
    """Tell the book that no book is valid."""
    for symbol in range(len(context.sync)):
        stage_reset(context, symbol)
    _lose_all(context, context.names)


@primitive
def _lose_all(context: Context, names: int | None) -> None:
    """Of documents: wait for a snapshot of each symbol."""
    if names is None:
        return
    for symbol in range(len(context.sync)):
        lose_sync(context, symbol)
    state = context.state[0]
    if state["snapshot_symbol"] != NO_SYMBOL:
        state["snapshot_symbol"], state["snapshot_code"] = NO_SYMBOL, OVERTAKEN
