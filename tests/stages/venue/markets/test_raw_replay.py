"""What the exchange makes of recorded raw messages: symbols with a grid, and trades that fill our orders."""

import asyncio
import json

import pytest

from stages.domain.captures.raw import RawDescription
from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Order
from stages.venue.fixed import SCALE
from stages.venue.markets.raw_replay import RawMarket, listed


@pytest.mark.parametrize(
    ("step", "tick"), [(0, SCALE // 100), (7, 1), (2_500_000, 100_000), (3 * SCALE, SCALE), (1_000 * SCALE, SCALE)]
)
def test_a_tick_is_what_all_trades_are_multiples_of(step: int, tick: int) -> None:
    (item,) = listed(RawDescription(["file"], {"ID7": 1}, {"ID7": step} if step else {}), {})
    assert (item.symbol, item.base_asset, item.quote_asset, item.tick, item.lot) == ("ID7", "ID7", "USD", tick, SCALE)


def test_a_trade_fills_our_order_at_its_price_or_better_and_there_is_no_depth() -> None:
    market = RawMarket(listed(RawDescription(["file"], {"ID7": 1}), {})[0])
    order = Order(1, Side.SELL, 100 * SCALE, 5 * SCALE)
    assert market.submit(order, rest=True) == []
    assert market.trade(99 * SCALE, 3) == []
    ((fill, number),) = market.trade(101 * SCALE, 3)
    assert (fill.quantity, number, market.last_price) == (3 * SCALE, 1, 101 * SCALE)
    assert json.loads(asyncio.run(market.depth(5))) == {"lastUpdateId": 0, "bids": [], "asks": []}
