"""MoldUDP64 packets of redundant lines: arbitrated, and each message handed to the decoder of blocks.

A gap stays open, and what comes behind it is kept, until the other line or the request server has filled it or until
it has been open for too long and nothing is left to be read: what waits in a socket while this process had to wait is
not late. Then its messages are lost, and with them every book: no snapshot of such a feed says what they did. So are
those that were sent before this feed listened, and those that are damaged. A new session begins with empty books.
"""

import numpy as np
from numpy.typing import NDArray

from shm.atomics import load_u8, load_word
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
from stages.domain.codecs.itch_frames import LENGTH_BYTES, size_of_type
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
    handled, reads, is_told = 0, 0, False
    while handled < limit and not is_told:  # what every book was told of fills most of the staging ring
        block = take(arbiter)
        is_told = _tell_losses(context, packets, arbiter)
        if block != 0:
            state["messages"] = load_word(arbiter + EXPECTED) - 2  # which is that of the message before
            begin_block(context, block, LENGTH_BYTES + load_big_u16(block))
            if take_message(context, directory) == 0 and _is_damaged(state["framer"], block):
                is_told = _lose(context, packets, 1) or is_told
            state["block_end"] = 0
            context.counters[0]["frames"] += 1
            handled += 1
        elif reads == 1 or is_told:
            break
        else:
            size = receive(context, lines)
            if size != NOTHING:
                reads = 1
                offer(arbiter, lines[0]["line"], state["buffer"], state["buffer"] + size, now_ns)
                if load_word(arbiter + SESSIONS) != packets[0]["sessions"]:
                    is_told = _tell_session(context, packets, directory)
            elif not abandon(arbiter, now_ns, packets[0]["patience_ns"]):
                break
    _watch(packets, now_ns)
    return handled + reads


@primitive
def _tell_losses(context: Context, packets: NDArray[np.void], arbiter: int) -> bool:
    """Messages were given up: before anything that follows, every book hears that it has missed some.

    Once a session: it is stale until the end. Of thousands of books hearing of each of many gaps a feed that is late
    already would be later still, and lose more.
    """
    if load_word(arbiter + GAPS) == packets[0]["gaps"]:
        return False
    _count_losses(context, packets)
    return _make_stale(context, packets)


@routine
def _make_stale(context: Context, packets: NDArray[np.void]) -> bool:
    if packets[0]["is_stale"] != 0:
        return False
    packets[0]["is_stale"] = 1
    _tell_all(context, RESET)
    return True


@routine
def _lose(context: Context, packets: NDArray[np.void], messages: int) -> bool:
    """So many messages are lost that the arbiter knows nothing of."""
    context.counters[0]["gaps"] += 1
    context.counters[0]["lost"] += messages
    return _make_stale(context, packets)


@primitive
def _is_damaged(framer: int, block: int) -> bool:
    """Whether a message that cannot be read should be one; a letter that is no type yet may become one, as O did."""
    letter = load_u8(block + LENGTH_BYTES) | 0x20
    is_letter = letter >= 0x61 and letter <= 0x7A
    return load_big_u16(block) == 0 or not is_letter or size_of_type(framer, block + LENGTH_BYTES) != 0


@routine
def _tell_all(context: Context, kind: int) -> None:
    for symbol in range(len(context.sync)):
        stage_event(context, kind, symbol)


@routine
def _count_losses(context: Context, packets: NDArray[np.void]) -> None:
    counters, arbiter = context.counters[0], packets[0]["arbiter"]
    gaps, lost = load_word(arbiter + GAPS), load_word(arbiter + LOST)
    counters["gaps"] += gaps - packets[0]["gaps"]
    counters["lost"] += lost - packets[0]["lost"]
    counters["frames"] += lost - packets[0]["lost"]
    packets[0]["gaps"], packets[0]["lost"] = gaps, lost


@routine
def _tell_session(context: Context, packets: NDArray[np.void], directory: int) -> bool:
    """Another session has begun, whatever was lost of the one before; before the first there was nothing to forget.

    What the first one has sent before this feed listened is lost to it. Returns whether the books were told.
    """
    _count_losses(context, packets)
    arbiter, is_another = packets[0]["arbiter"], packets[0]["sessions"] > 0
    packets[0]["sessions"] = load_word(arbiter + SESSIONS)
    if is_another:
        packets[0]["is_stale"] = 0
        begin_session(context, directory)
    elif packets[0]["is_joining"] != 0 and load_word(arbiter + EXPECTED) > 1:
        return _lose(context, packets, load_word(arbiter + EXPECTED) - 1)
    return is_another


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
