"""The synthetic market: one seed is one market; its book is deep, its spread narrow, quotes get filled."""

from __future__ import annotations

import random

from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Fill
from stages.venue.account import Account
from stages.venue.endpoints.hub import Hub
from stages.venue.exchange import Exchange
from stages.venue.instruments import from_settings
from stages.venue.markets.synthetic import Crowd
from stages.venue.markets.synthetic_market import SyntheticMarket
from stages.venue.settings import VenueSettings, default_instruments


def make(seed: int) -> tuple[Exchange, list[Crowd], list[SyntheticMarket]]:
    items = [from_settings(item) for item in default_instruments()]
    exchange = Exchange(items, Account({}), maker_fee_bps=10, taker_fee_bps=10)
    rng, crowds, markets = random.Random(seed), [], []
    for item in items:
        market = SyntheticMarket(item, Hub(), first_update_id=1000, first_trade_id=1)
        exchange.markets[item.symbol] = market
        crowd = Crowd(item, market, exchange, rng)
        crowd.open_book()
        crowds.append(crowd)
        markets.append(market)
    return exchange, crowds, markets


def state(market: SyntheticMarket) -> list[list[tuple[int, int]]]:
    return [list(market.book.levels(side)) for side in Side]


def test_one_seed_is_one_market() -> None:
    runs = []
    for seed in (7, 7, 8):
        _, crowds, markets = make(seed)
        for _ in range(3_000):
            for crowd in crowds:
                crowd.act()
        runs.append([(market.book.update_id, state(market)) for market in markets])
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_the_book_is_deep_and_the_spread_a_few_ticks() -> None:
    exchange, crowds, markets = make(1)
    spreads: list[int] = []
    fills: list[tuple[Fill, int]] = []
    for market in markets:
        assert all(market.book.level_count(side) >= 200 for side in Side)
    for _ in range(10 * VenueSettings().events_per_second):
        for crowd, market in zip(crowds, markets, strict=True):
            crowd.act()
            fills += market._trades
            exchange.flush()
            bid, ask = (market.book.best_price(side) for side in Side)
            assert bid is not None
            assert ask is not None
            spreads.append((ask - bid) // market.instrument.tick)
    spreads.sort()
    assert spreads[0] == 1
    assert 1 < spreads[len(spreads) // 2] <= 6
    assert spreads[-1] < 40
    assert len(fills) > 300
    for market in markets:
        assert all(market.book.level_count(side) >= 100 for side in Side)
