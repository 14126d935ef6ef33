"""Order among a symbol's events: Binance's book synchronisation (binance.md 1.5), in compiled code.

    UNSYNCED   diffs and tickers are held back (in a replay trades too: the order of events then does not depend on how
               long a snapshot takes); the first diff held asks for a snapshot
    SYNCED     a diff is passed on when U <= last_id + 1; the only test for a gap is U > last_id + 1; u <= last_id is
               stale and ignored

A gap tells the book to forget what it has (RESET), holds the diff that showed it, and asks for a snapshot. A snapshot
older than the first diff held is fetched again; else it goes to the book, then what is held, without the stale diffs,
as far as the staging ring has room at a time, and nothing else is read before that is done. A gap among what is held
shows only then: what comes before it is the book's, what is behind it stays held for the next snapshot.

The hold is bounded: live, a hold that overflows starts anew, which the next snapshot will be too old for. In a replay
the cold side makes it larger, and nothing is read until it has.
"""

from shm import ring
from shm.atomics import load_word, store_word
from shm.kernel import primitive, routine
from stages.domain.codecs.binance_market import (
    DIFF,
    END,
    FIRST_ID,
    LAST_ID,
    SEQ,
    TICKER,
    parse_snapshot,
    stage_headers,
)
from stages.domain.messages import MARKET, MarketKind
from stages.feed.context import NO_SYMBOL, NOT_ASKED, SYNCED, TAKEN, TOO_OLD, UNSYNCED, WANTED, Context

RESET = int(MarketKind.RESET)
RECORD_BYTES = MARKET.itemsize


@primitive
def commit_event(context: Context, records: int) -> None:
    """The event in the staging slots is to be published: number it and make it visible to the drain."""
    state = context.state[0]
    staging = state["staging"]
    state["event_seq"] += 1
    for index in range(records):
        store_word(ring.claim(staging, index) + SEQ, state["event_seq"])
    ring.commit(staging, records)
    context.counters[0]["events"] += 1


@routine
def accept(context: Context, kind: int, records: int) -> None:
    """Decide on the parsed event in the staging slots: publish it, hold it back, or leave it out."""
    state = context.state[0]
    event = ring.claim(state["staging"], 0)
    symbol = load_word(event) >> 16 & 0xFFFF
    sync = context.sync[symbol]
    if sync["status"] == UNSYNCED:
        if kind in (DIFF, TICKER) or state["must_deliver"] != 0:
            _hold(context, symbol, kind, event, records)
        else:
            commit_event(context, records)
        return
    if kind == DIFF:
        last_id = load_word(event + LAST_ID)
        if last_id <= sync["last_id"]:
            context.counters[0]["stale"] += 1
            return
        if load_word(event + FIRST_ID) > sync["last_id"] + 1:
            context.counters[0]["gaps"] += 1
            lose_sync(context, symbol)
            _hold(context, symbol, kind, event, records)
            stage_reset(context, symbol)
            return
        sync["last_id"] = last_id
    commit_event(context, records)


@primitive
def lose_sync(context: Context, symbol: int) -> None:
    """Wait for a new snapshot of `symbol`; what is held, if anything, is given up."""
    _unsync(context, symbol)
    _drop_held(context, symbol)


@primitive
def _unsync(context: Context, symbol: int) -> None:
    state, sync = context.state[0], context.sync[symbol]
    sync["status"], sync["last_id"] = UNSYNCED, 0
    sync["snapshot_state"] = NOT_ASKED
    sync["generation"] += 1
    if state["releasing"] == symbol:
        state["releasing"] = NO_SYMBOL


@primitive
def stage_reset(context: Context, symbol: int) -> None:
    """Publish a RESET of `symbol`."""
    stage_event(context, RESET, symbol)


@routine
def stage_event(context: Context, kind: int, symbol: int) -> None:
    """Publish an event of `symbol` that is all said with its kind."""
    state = context.state[0]
    commit_event(context, stage_headers(state["staging"], kind, 0, symbol, 0, 0, 0, 0, 0, state["read_ns"]))


@primitive
def _drop_held(context: Context, symbol: int) -> None:
    """Give up what is held, if anything."""
    sync, counters = context.sync[symbol], context.counters[0]
    counters["dropped"] += sync["held_messages"]
    counters["holding"] -= sync["held_messages"]
    sync["hold_begin"] = sync["hold_end"] = sync["held_messages"] = sync["first_held_id"] = 0


@routine
def _hold(context: Context, symbol: int, kind: int, event: int, records: int) -> None:
    """Keep a copy of the event until the symbol's snapshot comes."""
    state, sync, counters = context.state[0], context.sync[symbol], context.counters[0]
    if sync["hold_end"] + records > sync["hold_records"]:
        counters["hold_overflows"] += 1
        _drop_held(context, symbol)
        if records > sync["hold_records"]:
            counters["dropped"] += 1
            return
    for index in range(records):
        target = _held(context, symbol, sync["hold_end"] + index)
        ring.copy_record(target, ring.claim(state["staging"], index), RECORD_BYTES)
    sync["hold_end"] += records
    sync["held_messages"] += 1
    counters["held"] += 1
    counters["holding"] += 1
    event_records_max = load_word(state["staging"] + ring.CAPACITY)
    if state["hold_grows"] != 0 and sync["hold_records"] - sync["hold_end"] < event_records_max:
        state["hold_is_full"] = 1
    if kind == DIFF:
        _want_snapshot(context, symbol, load_word(event + FIRST_ID))


@primitive
def _held(context: Context, symbol: int, index: int) -> int:
    """Address of a record that is held."""
    return context.sync[symbol]["hold"] + index * RECORD_BYTES


@primitive
def _want_snapshot(context: Context, symbol: int, first_id: int) -> None:
    """A diff that begins with `first_id` is held."""
    sync = context.sync[symbol]
    if sync["first_held_id"] == 0:
        sync["first_held_id"] = first_id
    if sync["snapshot_state"] == NOT_ASKED:
        sync["snapshot_state"] = WANTED
        context.state[0]["snapshot_wanted"] = 1


@routine
def take_snapshot(context: Context) -> None:
    """Publish the snapshot that the cold side has brought; staging must be empty. What is held is released behind it.

    `snapshot_code` says what became of it: TAKEN, or why it was not used.
    """
    state, counters = context.state[0], context.counters[0]
    symbol, at = state["snapshot_symbol"], state["snapshot_at"]
    sync = context.sync[symbol]
    staging = state["staging"]
    state["snapshot_symbol"] = NO_SYMBOL
    code, records = parse_snapshot(at, at + state["snapshot_bytes"], symbol, staging, state["snapshot_read_ns"])
    if code < 0:
        state["snapshot_code"] = code
        return
    last_id = load_word(ring.claim(staging, 0) + LAST_ID)
    if sync["first_held_id"] > last_id + 1:
        counters["snapshots_too_old"] += 1
        state["snapshot_code"] = TOO_OLD
        return
    commit_event(context, records)
    counters["resyncs"] += sync["was_synced"]
    sync["last_id"] = last_id
    sync["status"], sync["was_synced"], sync["snapshot_state"] = SYNCED, 1, NOT_ASKED
    state["snapshot_code"] = TAKEN
    state["releasing"] = symbol
    release_hold(context)


@routine
def release_hold(context: Context) -> None:
    """Publish what is held of the symbol that has its snapshot, without the diffs that the snapshot contains.

    Until staging is full, a gap shows, or nothing is held; `releasing` is NO_SYMBOL when it need not be gone on with.
    """
    state, counters = context.state[0], context.counters[0]
    symbol, staging = state["releasing"], state["staging"]
    sync = context.sync[symbol]
    while sync["hold_begin"] < sync["hold_end"]:
        begin = sync["hold_begin"]
        event = _held(context, symbol, begin)
        records = 1
        while load_word(_held(context, symbol, begin + records - 1)) >> 8 & END == 0:
            records += 1
        if load_word(event) & 0xFF == DIFF and load_word(event + LAST_ID) <= sync["last_id"]:
            counters["stale"] += 1
        elif ring.room(staging, records) < records:
            return
        elif load_word(event) & 0xFF == DIFF and load_word(event + FIRST_ID) > sync["last_id"] + 1:
            counters["gaps"] += 1
            _unsync(context, symbol)
            sync["first_held_id"] = 0
            _want_snapshot(context, symbol, load_word(event + FIRST_ID))
            stage_reset(context, symbol)
            return
        else:
            if load_word(event) & 0xFF == DIFF:
                sync["last_id"] = load_word(event + LAST_ID)
            for index in range(records):
                ring.copy_record(ring.claim(staging, index), _held(context, symbol, begin + index), RECORD_BYTES)
            commit_event(context, records)
        sync["hold_begin"] += records
        sync["held_messages"] -= 1
        counters["holding"] -= 1
    _drop_held(context, symbol)  # nothing is left of it
    state["releasing"] = NO_SYMBOL
