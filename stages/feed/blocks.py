"""Blocks of binary messages: one stream frame, or packet, taken apart over as many polls as it needs."""

import numpy as np
from numpy.typing import NDArray

from shm.atomics import store_word
from shm.clock import now_ns as read_clock
from shm.kernel import primitive, routine
from stages.domain.codecs import itch, itch_frames
from stages.domain.codecs.itch_market import NOT_TRADED, TOO_LARGE, forget_locates, stage_message
from stages.domain.codecs.raw import MESSAGE_BYTES, TRUNCATED, UNKNOWN_TYPE, problem_count, take_datagram
from stages.domain.codecs.raw_market import stage_raw
from stages.domain.messages import MarketKind
from stages.domain.samples import note
from stages.feed.context import Context
from stages.feed.streams.sync import commit_event, stage_event

START = int(MarketKind.START)


@primitive
def begin_block(context: Context, at: int, size: int) -> None:
    """The `size` bytes at `at` are the block under way; they stay until it is done with."""
    state = context.state[0]
    store_word(state["framer"] + itch_frames.POSITION, at)
    state["block_at"], state["message_at"], state["block_end"] = at, at, at + size


@primitive
def take_block(context: Context, limit: int) -> int:
    """Stage the events of up to `limit` messages of the block under way. Returns how many messages that were.

    With its last message the block is done with: `block_end` is 0. A stream of documents has no blocks: 0.
    """
    return _take_itch(context, context.directory, limit) + _take_raw(context, context.raw, limit)


@primitive
def has_blocks(context: Context) -> bool:
    """Whether a binary frame is a block of messages."""
    return context.directory is not None or context.raw is not None


@routine
def _take_itch(context: Context, directory: int | None, limit: int) -> int:
    if directory is None:
        return 0
    handled = 0
    while handled < limit:
        if take_message(context, directory) == 0:
            context.state[0]["block_end"] = 0
            context.counters[0]["frames"] += 1
            break
        handled += 1
    return handled


@routine
def take_message(context: Context, directory: int) -> int:
    """Stage the event of the block's next message, if it makes one. Returns 1; 0 when the block has no more."""
    state, counters = context.state[0], context.counters[0]
    begin_ns = read_clock(context.clock)
    message = itch_frames.next_message(state["framer"], state["block_end"], True)
    if message == 0:
        counters["malformed"] = itch_frames.problem_count(state["framer"])
        return 0
    _watch_day(context, context.packets, directory, message)
    state["messages"] += 1
    code = stage_message(directory, message, state["staging"], state["messages"], state["read_ns"])
    finish_message(context, code, begin_ns)
    return 1


@primitive
def _watch_day(context: Context, packets: NDArray[np.void] | None, directory: int, message: int) -> None:
    """A stream may go on with another day: files put together. Of packets, sessions have names that say so."""
    if packets is not None:
        return
    state = context.state[0]
    if itch.begins_day(message, state["day_ns"]):
        begin_session(context, directory)
    state["day_ns"] = itch.time_ns(message)


@routine
def begin_session(context: Context, directory: int) -> None:
    """Another session, or day, begins: with empty books, and stock locates of its own."""
    forget_locates(directory)
    for symbol in range(len(context.sync)):
        stage_event(context, START, symbol)


@routine
def _take_raw(context: Context, raw: NDArray[np.void] | None, limit: int) -> int:
    if raw is None:
        return 0
    state = context.state[0]
    handled = 0
    while handled < limit and state["message_at"] < state["block_end"]:
        take_raw_message(context, raw)
        handled += 1
    if state["message_at"] >= state["block_end"]:
        state["block_end"] = 0
        context.counters[0]["frames"] += 1
    return handled


@routine
def take_raw_message(context: Context, raw: NDArray[np.void]) -> None:
    """Stage the event of the next message up to `block_end`, if it makes one."""
    state, counters, reader = context.state[0], context.counters[0], raw[0]["reader"]
    begin_ns = read_clock(context.clock)
    message = take_datagram(reader, state["message_at"], state["block_end"])
    state["message_at"] += MESSAGE_BYTES
    if message == 0:
        counters["short_datagrams"] = problem_count(reader, TRUNCATED)
        counters["unknown_types"] = problem_count(reader, UNKNOWN_TYPE)
        return
    state["messages"] += 1
    code = stage_raw(raw[0]["table"], message, state["staging"], state["messages"], state["read_ns"])
    finish_message(context, code, begin_ns)


@primitive
def finish_message(context: Context, code: int, begin_ns: int) -> None:
    """Commit the event that a binary message made, if it made one, and count what it was by the decoder's `code`."""
    state, counters = context.state[0], context.counters[0]
    if code > 0:
        commit_event(context, 1)
    elif code == NOT_TRADED:
        counters["unknown_symbol"] += 1
    elif code == TOO_LARGE:
        counters["overflowed"] += 1
    else:
        counters["other_messages"] += 1
    counters["messages_in"] += 1
    note(context.samples, state["parse_hop"], read_clock(context.clock) - begin_ns)
