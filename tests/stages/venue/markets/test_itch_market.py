"""The recorded book of single orders, against the obvious one, and our orders in it."""

import asyncio
import json
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.domain.captures import itch as capture
from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Fill, Order
from stages.venue.fixed import SCALE
from stages.venue.markets.itch_market import PRICE_SCALE, ItchMarket
from stages.venue.markets.itch_replay import stock
from tests.oracle import itch as oracle
from tests.stages.domain.codecs.itch_messages import order_stream


def market() -> ItchMarket:
    return ItchMarket(stock("STOCK1"))


def play(of: ItchMarket, *messages: bytes) -> list[tuple[Fill, int]]:
    fills: list[tuple[Fill, int]] = []
    for message in messages:
        fills += of.play(chr(message[0]), capture.fields(message))
    return fills


def levels(of: ItchMarket, limit: int = 1_000) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(asyncio.run(of.depth(limit)))
    return found


def add(number: int, side: bytes, shares: int, price: int) -> bytes:
    return oracle.pack("A", 1, 0, 1, number, side, shares, b"STOCK1  ", price)


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 150))
def test_levels_are_those_of_the_recorded_orders(seed: int, count: int) -> None:
    messages = [message[:1] + b"\0\1" + message[3:] for message in order_stream(seed, count)]
    messages = [message for message in messages if chr(message[0]) in "AFECXDUP"]
    of, books = market(), oracle.Books()
    play(of, *messages)
    for message in messages:
        books.apply(message)
    found = levels(of)
    for side, name in enumerate(("bids", "asks")):
        expected = [(price * PRICE_SCALE, left * SCALE) for price, left in books.levels(1, side).items()]
        assert [(int(Decimal(p) * SCALE), int(Decimal(q) * SCALE)) for p, q in found[name]] == expected


def test_our_order_waits_behind_the_recorded_ones_and_fills_when_they_have_traded() -> None:
    of = market()
    play(of, add(1, b"B", 100, 100_0000), add(2, b"S", 100, 101_0000))
    ours = Order(9, Side.BUY, 100_0000 * PRICE_SCALE, 50 * SCALE)
    assert of.submit(ours, rest=True) == []
    play(of, add(3, b"B", 100, 100_0000))
    assert play(of, oracle.pack("E", 1, 0, 2, 1, 60, 1)) == []
    assert play(of, oracle.pack("E", 1, 0, 2, 1, 40, 2)) == []
    ((fill, _),) = play(of, oracle.pack("E", 1, 0, 3, 3, 30, 3))
    assert (fill.price, fill.quantity) == (100_0000 * PRICE_SCALE, 30 * SCALE)


def test_our_taking_order_meets_the_recorded_levels_and_leaves_them_as_they_were() -> None:
    of = market()
    play(of, add(1, b"B", 100, 100_0000), add(2, b"S", 100, 101_0000))
    before = levels(of)
    ((fill, _),) = of.submit(Order(9, Side.BUY, 101_0000 * PRICE_SCALE, 50 * SCALE), rest=False)
    assert (fill.price, fill.quantity) == (101_0000 * PRICE_SCALE, 50 * SCALE)
    assert levels(of) == before
    assert list(of.takeable(Side.BUY)) == [(101_0000 * PRICE_SCALE, 50 * SCALE)]


def test_another_day_begins_without_the_orders_of_the_day_before() -> None:
    of = market()
    play(of, add(1, b"B", 100, 99), add(2, b"S", 100, 101))
    of.begin_day()
    assert (levels(of)["bids"], levels(of)["asks"]) == ([], [])
    play(of, add(1, b"B", 300, 98))
    assert len(levels(of)["bids"]) == 1
