"""The matching book against a slow, obvious oracle; the queue model of a replay by its rules, one by one."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.domain.matching.ladder import Ladder, Side
from stages.domain.matching.order_book import OrderBook
from stages.domain.matching.orders import Order
from stages.domain.matching.queue_model import QueueModel


@dataclass
class Resting:
    order_id: int
    side: Side
    price: int
    quantity: int


class NaiveBook:
    """All resting orders in one list, in order of arrival; the best match is searched for each time."""

    def __init__(self) -> None:
        self.resting: list[Resting] = []

    def submit(self, order_id: int, side: Side, price: int, quantity: int, rest: bool) -> list[tuple[int, int, int]]:
        trades = []
        while quantity:
            candidates = [o for o in self.resting if o.side is not side and (o.price - price) * int(side) <= 0]
            if not candidates:
                break
            maker = min(candidates, key=lambda o: (o.price * int(side), self.resting.index(o)))
            step = min(quantity, maker.quantity)
            quantity -= step
            maker.quantity -= step
            trades.append((maker.order_id, maker.price, step))
            if not maker.quantity:
                self.resting.remove(maker)
        if quantity and rest:
            self.resting.append(Resting(order_id, side, price, quantity))
        return trades

    def cancel(self, order_id: int) -> int | None:
        for order in self.resting:
            if order.order_id == order_id:
                self.resting.remove(order)
                return order.quantity
        return None

    def levels(self, side: Side) -> list[tuple[int, int]]:
        prices = sorted({o.price for o in self.resting if o.side is side}, reverse=side is Side.BUY)
        return [(p, sum(o.quantity for o in self.resting if o.side is side and o.price == p)) for p in prices]


ACTIONS = st.one_of(
    st.tuples(st.just("submit"), st.sampled_from(Side), st.integers(90, 110), st.integers(1, 20), st.booleans()),
    st.tuples(st.just("cancel"), st.integers(0, 60)),
)


@given(st.lists(ACTIONS, max_size=60))
def test_book_trades_and_rests_exactly_as_the_oracle(actions: list[tuple]) -> None:  # type: ignore[type-arg]
    book, oracle = OrderBook(), NaiveBook()
    for number, action in enumerate(actions):
        before = book.update_id
        if action[0] == "submit":
            _, side, price, quantity, rest = action
            order = Order(number, side, price, quantity)
            fills = [(f.maker.order_id, f.price, f.quantity) for f in book.submit(order, rest=rest) if f.maker]
            assert fills == oracle.submit(number, side, price, quantity, rest)
            assert order.remaining == quantity - sum(step for _, _, step in fills)
            changed = len(fills) + (1 if order.remaining and rest else 0)
        else:
            cancelled = book.cancel(action[1])
            assert (cancelled.remaining if cancelled else None) == oracle.cancel(action[1])
            changed = 1 if cancelled else 0
        assert book.update_id == before + changed
        for side in Side:
            assert list(book.levels(side)) == oracle.levels(side)
        bid, ask = book.best_price(Side.BUY), book.best_price(Side.SELL)
        assert bid is None or ask is None or bid < ask


@given(st.lists(st.tuples(st.integers(0, 20), st.booleans())))
def test_ladder_is_a_sorted_dict(steps: list[tuple[int, bool]]) -> None:
    for side in Side:
        ladder, plain = Ladder[int](side), dict[int, int]()
        for number, (price, is_put) in enumerate(steps):
            if is_put:
                ladder.put(price, number)
                plain[price] = number
            else:
                ladder.remove(price)
                plain.pop(price, None)
            assert list(ladder.best_first()) == sorted(plain.items(), reverse=side is Side.BUY)
            assert ladder.best_price() == (next(iter(dict(ladder.best_first())), None))


def test_a_partly_filled_order_keeps_its_place() -> None:
    book = OrderBook()
    book.submit(Order(1, Side.SELL, 100, 5), rest=True)
    book.submit(Order(2, Side.SELL, 100, 5), rest=True)
    book.submit(Order(3, Side.BUY, 100, 2), rest=False)
    assert [order.order_id for order in book.queue(Side.SELL, 100)] == [1, 2]
    fills = book.submit(Order(4, Side.BUY, 101, 4), rest=False)
    assert [(f.maker.order_id, f.quantity) for f in fills if f.maker] == [(1, 3), (2, 1)]


def test_a_book_refuses_an_order_id_twice() -> None:
    book = OrderBook()
    book.submit(Order(1, Side.BUY, 100, 5), rest=True)
    with pytest.raises(AssertionError, match="order_id=1"):
        book.submit(Order(1, Side.BUY, 100, 5), rest=True)


def model(bids: list[tuple[int, int]], asks: list[tuple[int, int]]) -> QueueModel:
    found = QueueModel()
    found.seed(bids, asks)
    return found


def quantities(fills: list) -> list[tuple[int, int]]:  # type: ignore[type-arg]
    return [(fill.price, fill.quantity) for fill in fills]


def test_trades_at_our_price_consume_the_queue_ahead_before_us() -> None:
    market, order = model([(100, 10)], [(102, 10)]), Order(1, Side.BUY, 100, 5)
    assert market.submit(order, rest=True) == []
    assert market.trade(100, 4, buyer_is_maker=True) == []
    assert order.ahead == 6
    assert quantities(market.trade(100, 8, buyer_is_maker=True)) == [(100, 2)]
    assert quantities(market.trade(100, 8, buyer_is_maker=True)) == [(100, 3)]
    assert market.order_count == 0
    assert market.trade(100, 8, buyer_is_maker=True) == []


def test_the_queue_ahead_is_never_more_than_what_is_displayed() -> None:
    market, order = model([(100, 10)], [(102, 10)]), Order(1, Side.BUY, 100, 5)
    market.submit(order, rest=True)
    market.apply([(100, 3)], [])
    assert order.ahead == 3
    market.apply([(100, 30)], [])  # those who came later stand behind us
    assert order.ahead == 3
    market.apply([(100, 0)], [])
    assert order.ahead == 0


def test_buyers_trades_do_not_fill_our_bids() -> None:
    market = model([(100, 1)], [(102, 10)])
    market.submit(Order(1, Side.BUY, 101, 5), rest=True)
    assert market.trade(101, 9, buyer_is_maker=False) == []
    assert quantities(market.trade(101, 2, buyer_is_maker=True)) == [(101, 2)]


def test_a_trade_through_our_price_fills_us_at_our_price_for_what_traded() -> None:
    market = model([(100, 10)], [(102, 10)])
    market.submit(Order(1, Side.SELL, 102, 5), rest=True)
    market.submit(Order(2, Side.SELL, 103, 5), rest=True)
    assert quantities(market.trade(104, 7, buyer_is_maker=False)) == [(102, 5), (103, 2)]


def test_two_of_our_orders_at_one_price_share_a_trade_in_order() -> None:
    market = model([(100, 4)], [])
    first, second = Order(1, Side.BUY, 100, 2), Order(2, Side.BUY, 100, 2)
    market.submit(first, rest=True)
    market.apply([(100, 7)], [])  # three more between our two
    market.submit(second, rest=True)
    fills = market.trade(100, 8, buyer_is_maker=True)
    assert [(f.maker.order_id, f.quantity) for f in fills if f.maker] == [(1, 2)]
    assert (second.ahead, second.remaining) == (1, 2)
    assert quantities(market.trade(100, 2, buyer_is_maker=True)) == [(100, 1)]


def test_a_book_that_crosses_our_price_fills_us_against_what_it_displays() -> None:
    market = model([(100, 10)], [(105, 10)])
    market.submit(Order(1, Side.BUY, 102, 5), rest=True)
    assert quantities(market.apply([], [(101, 2), (102, 1)])) == [(102, 2), (102, 1)]
    assert market.apply([(99, 1)], []) == []  # the same liquidity is not sold twice
    assert quantities(market.apply([], [(101, 2)])) == [(102, 2)]
    assert market.order_count == 0


def test_takers_take_displayed_levels_and_remember_it_until_the_level_changes() -> None:
    market = model([(100, 10)], [(101, 3), (102, 3)])
    order = Order(1, Side.BUY, 102, 5)
    assert quantities(market.submit(order, rest=False)) == [(101, 3), (102, 2)]
    assert list(market.available(Side.SELL)) == [(102, 1)]
    assert list(market.levels(Side.SELL)) == [(101, 3), (102, 3)]  # published data never change
    market.apply([], [(101, 2)])
    assert list(market.available(Side.SELL)) == [(101, 2), (102, 1)]
    late = Order(2, Side.BUY, 101, 5)
    assert quantities(market.submit(late, rest=True)) == [(101, 2)]
    assert late.remaining == 3
    assert market.cancel(2) is late
    assert market.cancel(2) is None


LEVELS = st.lists(st.tuples(st.integers(90, 110), st.integers(0, 9)), max_size=5)
EVENTS = st.one_of(
    st.tuples(st.just("diff"), LEVELS, LEVELS),
    st.tuples(st.just("trade"), st.integers(90, 110), st.integers(1, 9), st.booleans()),
    st.tuples(st.just("submit"), st.sampled_from(Side), st.integers(90, 110), st.integers(1, 9), st.booleans()),
)


@given(st.lists(EVENTS, max_size=40))
def test_our_orders_never_change_displayed_data_and_never_fill_beyond_their_terms(
    events: list[tuple],  # type: ignore[type-arg]
) -> None:
    market = QueueModel()
    displayed: dict[Side, dict[int, int]] = {Side.BUY: {}, Side.SELL: {}}
    orders: dict[int, tuple[Order, int]] = {}
    filled: dict[int, int] = {}
    for number, event in enumerate(events):
        if event[0] == "diff":
            for side, levels in zip((Side.BUY, Side.SELL), event[1:], strict=True):
                displayed[side].update(levels)
            fills = market.apply(event[1], event[2])
        elif event[0] == "trade":
            fills = market.trade(event[1], event[2], buyer_is_maker=event[3])
            assert sum(fill.quantity for fill in fills) <= event[2]
        else:
            order = Order(number, event[1], event[2], event[3])
            orders[number] = (order, event[3])
            fills = market.submit(order, rest=event[4])
        for fill in fills:
            ours = fill.maker or fill.taker
            assert ours is not None
            assert (fill.price - ours.price) * int(ours.side) <= 0
            assert fill.taker is not None or fill.price == ours.price
            filled[ours.order_id] = filled.get(ours.order_id, 0) + fill.quantity
        for order_id, (order, quantity) in orders.items():
            assert order.remaining == quantity - filled.get(order_id, 0) >= 0
        for side in Side:
            shown = {price: size for price, size in displayed[side].items() if size}
            assert dict(market.levels(side)) == shown
            assert all(0 < left <= shown[price] for price, left in market.available(side))
