"""The loops of the book benchmark that C++ has too: messages one behind the other, with and without the clock."""

from shm.atomics import cycles, load_word, prefetch, store_word
from shm.kernel import kernel, primitive
from stages.domain.orderbook import batch, l2_book, top
from stages.domain.orderbook.batch import AHEAD_LEVEL, AHEAD_TABLE, MESSAGE_BYTES, PRICE, QUANTITY

AHEAD_BOOK, AHEAD_SIDE, AHEAD_BLOCK = 16, 12, 7
"""How many messages ahead a book of levels, its side's directory, and the level's block are asked for."""


@kernel
def apply_orders(engine: int, messages: int, count: int, samples: int) -> int:
    """`batch.apply_batch`, with the cycles of each message written to `samples` unless that is 0."""
    if samples == 0:
        return batch.apply_batch(engine, messages, count)
    refused = 0
    batch.look_ahead(engine, messages, count)
    last = cycles()
    for index in range(count):
        message = messages + MESSAGE_BYTES * index
        if index + AHEAD_TABLE < count:
            batch.look_for(engine, message + MESSAGE_BYTES * AHEAD_TABLE)
        if index + AHEAD_LEVEL < count:
            batch.look_around(engine, message + MESSAGE_BYTES * AHEAD_LEVEL)
        refused += int(batch.apply_looked(engine, message) < 0)
        now = cycles()
        store_word(samples + 8 * index, now - last)
        last = now
    return refused


@kernel
def apply_orders_singly(engine: int, messages: int, count: int, samples: int) -> int:
    """The same by a caller that knows one message at a time."""
    refused, last = 0, cycles()
    for index in range(count):
        refused += int(batch.apply(engine, messages + MESSAGE_BYTES * index) < 0)
        if samples != 0:
            now = cycles()
            store_word(samples + 8 * index, now - last)
            last = now
    return refused


@primitive
def _book(books: int, message: int) -> int:
    return books + top.BOOK_BYTES * (load_word(message) >> 32)


@primitive
def _side(message: int) -> int:
    return load_word(message) >> 8 & 0xFF


@primitive
def _look_for(books: int, message: int) -> None:
    prefetch(_book(books, message))
    prefetch(_book(books, message) + top.SEQUENCE)


@primitive
def _look_at(books: int, message: int) -> None:
    l2_book.prefetch_directory(_book(books, message), _side(message))


@primitive
def _look_in(books: int, message: int) -> None:
    l2_book.prefetch_block(_book(books, message), _side(message), load_word(message + PRICE))


@primitive
def _event(books: int, message: int) -> bool:
    book = _book(books, message)
    top.begin_update(book)
    l2_book.set_level(book, _side(message), load_word(message + PRICE), load_word(message + QUANTITY))
    return l2_book.end_event(book)


@kernel
def apply_levels(books: int, messages: int, count: int, samples: int) -> int:
    """Each message is an event of one level: mark, level, top, mark gone. Returns how often a book was crossed."""
    for index in range(min(AHEAD_BOOK, count)):
        _look_for(books, messages + MESSAGE_BYTES * index)
    for index in range(min(AHEAD_SIDE, count)):
        _look_at(books, messages + MESSAGE_BYTES * index)
    for index in range(min(AHEAD_BLOCK, count)):
        _look_in(books, messages + MESSAGE_BYTES * index)
    crossed, last = 0, cycles()
    for index in range(count):
        message = messages + MESSAGE_BYTES * index
        if index + AHEAD_BOOK < count:
            _look_for(books, message + MESSAGE_BYTES * AHEAD_BOOK)
        if index + AHEAD_SIDE < count:
            _look_at(books, message + MESSAGE_BYTES * AHEAD_SIDE)
        if index + AHEAD_BLOCK < count:
            _look_in(books, message + MESSAGE_BYTES * AHEAD_BLOCK)
        crossed += int(_event(books, message))
        if samples != 0:
            now = cycles()
            store_word(samples + 8 * index, now - last)
            last = now
    return crossed
