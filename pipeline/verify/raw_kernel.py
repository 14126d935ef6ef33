"""Raw messages counted, their times watched, their symbols noted, in compiled code."""

from shm.atomics import load_word, store_word
from shm.kernel import kernel, primitive
from shm.layout import record_dtype
from stages.domain.codecs import raw

SYMBOL_SLOTS = 1 << 20
"""Of the table of symbol ids, a power of two; it takes half as many."""

TALLY = record_dtype(
    [
        ("origin", "<i8"),
        ("ids", "<i8"),  # address of SYMBOL_SLOTS words: an id + 1, or 0
        ("symbols", "<i8"),
        ("uncounted", "<i8"),  # messages of ids for which there was no room
        ("messages", "<i8"),
        ("last_time_ns", "<i8"),
        ("time_back", "<i8"),
        ("time_back_offset", "<i8"),
        ("time_before_ns", "<i8"),
        ("time_after_ns", "<i8"),
    ],
    128,
)


def _offset(field: str) -> int:
    assert TALLY.fields is not None
    return int(TALLY.fields[field][1])


_ORIGIN, _IDS, _SYMBOLS, _UNCOUNTED, _MESSAGES = (
    _offset(name) for name in ("origin", "ids", "symbols", "uncounted", "messages")
)
_LAST_TIME_NS, _TIME_BACK, _TIME_BACK_OFFSET, _TIME_BEFORE_NS, _TIME_AFTER_NS = (
    _offset(name) for name in ("last_time_ns", "time_back", "time_back_offset", "time_before_ns", "time_after_ns")
)
_MULTIPLIER = 0x9E3779B1
_MASK_32 = (1 << 32) - 1


@kernel
def take_piece(reader: int, tally: int, end: int, is_last: bool) -> None:
    """Take all messages up to `end`, as far as they are whole."""
    message = raw.next_message(reader, end, is_last)
    while message != 0:
        store_word(tally + _MESSAGES, load_word(tally + _MESSAGES) + 1)
        _note_symbol(tally, raw.symbol_id(message))
        _watch_time(tally, message)
        message = raw.next_message(reader, end, is_last)


@primitive
def _note_symbol(tally: int, symbol_id: int) -> None:
    ids = load_word(tally + _IDS)
    slot = (symbol_id * _MULTIPLIER & _MASK_32) >> 12
    while load_word(ids + 8 * slot) != 0 and load_word(ids + 8 * slot) != symbol_id + 1:
        slot = (slot + 1) & (SYMBOL_SLOTS - 1)
    if load_word(ids + 8 * slot) != 0:
        return
    symbols = load_word(tally + _SYMBOLS)
    if symbols == SYMBOL_SLOTS // 2:
        store_word(tally + _UNCOUNTED, load_word(tally + _UNCOUNTED) + 1)
        return
    store_word(ids + 8 * slot, symbol_id + 1)
    store_word(tally + _SYMBOLS, symbols + 1)


@primitive
def _watch_time(tally: int, message: int) -> None:
    time_ns, before_ns = raw.timestamp_ns(message), load_word(tally + _LAST_TIME_NS)
    if time_ns < before_ns:
        if load_word(tally + _TIME_BACK) == 0:
            store_word(tally + _TIME_BACK_OFFSET, message - load_word(tally + _ORIGIN))
            store_word(tally + _TIME_BEFORE_NS, before_ns)
            store_word(tally + _TIME_AFTER_NS, time_ns)
        store_word(tally + _TIME_BACK, load_word(tally + _TIME_BACK) + 1)
    store_word(tally + _LAST_TIME_NS, time_ns)
