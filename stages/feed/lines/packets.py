"""MoldUDP64 packets of redundant lines: arbitrated, and each message handed to the decoder of blocks.

A gap stays open, and what comes behind it is kept, until the other line or the request server has filled it or until
it has been open for too long and nothing is left to be read: what waits in a socket while this process had to wait is
not late. Then its messages are lost, and with them every book: no snapshot of such a feed says what they did. A new
session begins with empty books.
"""

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_word
from shm.kernel import primitive, routine
from stages.domain.codecs.arbitration import (
    EXPECTED,
    GAP_AT,
    GAP_SINCE_NS,
    GAPS,
    KNOWN_END,
    LOST,
    SESSIONS,
    abandon,
    offer,
    take,
)
from stages.domain.codecs.big_endian import load_big_u16
from stages.domain.codecs.itch_frames import LENGTH_BYTES
from stages.domain.messages import MarketKind
from stages.feed.blocks import begin_block, begin_session, take_message
from stages.feed.context import Context
from stages.feed.lines.datagrams import NOTHING, receive
from stages.feed.streams.sync import stage_event

RESET = int(MarketKind.RESET)


@routine
def take_packets(
    context: Context,
    packets: NDArray[np.void] | None,
    lines: NDArray[np.void] | None,
    directory: int | None,
    now_ns: int,
    limit: int,
) -> int:
    """Stage the events of up to `limit` messages, reading one datagram at most. Returns 0 when there was nothing."""
    if packets is None:
        return 0
    if lines is None:
        return 0
    if directory is None:
        return 0
    state, arbiter = context.state[0], packets[0]["arbiter"]
    handled, reads = 0, 0
    while handled < limit:
        block = take(arbiter)
        _tell_losses(context, packets, arbiter)
        if block != 0:
            state["messages"] = load_word(arbiter + EXPECTED) - 2  # which is that of the message before
            begin_block(context, block, LENGTH_BYTES + load_big_u16(block))
            take_message(context, directory)
            state["block_end"] = 0
            context.counters[0]["frames"] += 1
            handled += 1
        elif reads == 1:
            break
        else:
            size = receive(context, lines)
            if size != NOTHING:
                reads = 1
                offer(arbiter, lines[0]["line"], state["buffer"], state["buffer"] + size, now_ns)
                if load_word(arbiter + SESSIONS) != packets[0]["sessions"]:
                    _tell_losses(context, packets, arbiter)
                    _tell_session(context, packets, directory)
            elif not abandon(arbiter, now_ns, packets[0]["patience_ns"]):
                break
    _watch(packets, now_ns)
    return handled + reads


@primitive
def _tell_losses(context: Context, packets: NDArray[np.void], arbiter: int) -> None:
    """Messages were given up: before anything that follows, every book hears that it has missed some."""
    if load_word(arbiter + GAPS) != packets[0]["gaps"]:
        _stage_losses(context, packets)


@routine
def _stage_losses(context: Context, packets: NDArray[np.void]) -> None:
    counters, arbiter = context.counters[0], packets[0]["arbiter"]
    gaps, lost = load_word(arbiter + GAPS), load_word(arbiter + LOST)
    counters["gaps"] += gaps - packets[0]["gaps"]
    counters["lost"] += lost - packets[0]["lost"]
    counters["frames"] += lost - packets[0]["lost"]
    packets[0]["gaps"], packets[0]["lost"] = gaps, lost
    for symbol in range(len(context.sync)):
        stage_event(context, RESET, symbol)


@routine
def _tell_session(context: Context, packets: NDArray[np.void], directory: int) -> None:
    """Another session has begun; before the first one there was nothing to forget."""
    if packets[0]["sessions"] > 0:
        begin_session(context, directory)
    packets[0]["sessions"] = load_word(packets[0]["arbiter"] + SESSIONS)


@primitive
def _watch(packets: NDArray[np.void], now_ns: int) -> None:
    """Let the cold side ask for what has been missing for a while, and again when that has brought nothing."""
    arbiter, interval_ns = packets[0]["arbiter"], packets[0]["request_interval_ns"]
    expected = load_word(arbiter + EXPECTED)
    is_open = load_word(arbiter + KNOWN_END) > expected and load_word(arbiter + GAP_AT) == expected
    if not is_open or interval_ns == 0:
        return
    if now_ns - max(load_word(arbiter + GAP_SINCE_NS), packets[0]["requested_ns"]) >= interval_ns:
        packets[0]["requested_ns"] = now_ns
        packets[0]["is_request_wanted"] = 1


@primitive
def is_request_wanted(packets: NDArray[np.void] | None) -> int:
    """1: the cold side is to ask for what is missing."""
    return 0 if packets is None else packets[0]["is_request_wanted"]
