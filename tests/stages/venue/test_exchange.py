"""Balances under random trading: nothing negative, nothing created, nothing left locked."""

from __future__ import annotations

import random

import pytest

from stages.domain.matching.ladder import Side
from stages.venue.account import Account
from stages.venue.endpoints.hub import Hub
from stages.venue.errors import BinanceError
from stages.venue.exchange import Exchange
from stages.venue.instruments import Instrument, from_settings, infer
from stages.venue.markets.synthetic import Crowd
from stages.venue.markets.synthetic_market import SyntheticMarket
from stages.venue.order_request import OrderRequest
from stages.venue.orders import OrderType, ResponseType, TimeInForce
from stages.venue.settings import default_instruments

COIN = 10**8
START = {"USDT": 50_000 * COIN, "BTC": COIN, "ETH": 0}


def random_order(rng: random.Random, item: Instrument, mid: int) -> OrderRequest:
    kind = rng.choice(list(OrderType))
    by_value = kind is OrderType.MARKET and rng.randrange(2) == 0
    return OrderRequest(
        symbol=item.symbol,
        side=rng.choice(list(Side)),
        kind=kind,
        time_in_force=rng.choice(list(TimeInForce)) if kind is OrderType.LIMIT else TimeInForce.GTC,
        price=None if kind is OrderType.MARKET else mid + rng.randrange(-8, 9) * item.tick,
        quantity=None if by_value else rng.randrange(1, 30_000) * item.lot,
        quote_quantity=rng.randrange(10, 5_000) * COIN if by_value else None,
        client_order_id=None,
        response=ResponseType.FULL,
        strategy_id=None,
        strategy_type=None,
    )


@pytest.mark.parametrize("seed", range(4))
def test_random_trading_keeps_the_balances_in_order(seed: int) -> None:
    rng = random.Random(seed)
    item = from_settings(default_instruments()[0])
    account = Account(START)
    exchange = Exchange([item], account, maker_fee_bps=10, taker_fee_bps=20)
    market = SyntheticMarket(item, Hub(), first_update_id=1, first_trade_id=1)
    exchange.markets[item.symbol] = market
    crowd = Crowd(item, market, exchange, rng)
    crowd.open_book()
    events: list[bytes] = []
    refused: set[int] = set()
    exchange.listeners.append(events.append)
    for _ in range(1_500):
        crowd.act()
        mid = (market.book.best_price(Side.BUY) or 0) // item.tick * item.tick
        action = rng.randrange(10)
        try:
            if action < 3:
                exchange.place(random_order(rng, item, mid))
            elif action == 3 and exchange.open_orders(None):
                order = rng.choice(exchange.open_orders(None))
                exchange.cancel(item.symbol, order.order_id, None)
        except BinanceError as error:
            refused.add(error.code)
        exchange.flush()
        for asset, spent_by in (("USDT", Side.BUY), ("BTC", Side.SELL)):
            balance = account.balance(asset)
            assert balance.free >= 0
            assert balance.locked == sum(o.locked for o in exchange.open_orders(None) if o.side is spent_by)
        for order in exchange.open_orders(None):
            assert order.order_id in market.book
            assert order.book_order.remaining == order.quantity - order.executed > 0
    for order in exchange.open_orders(None):
        exchange.cancel(item.symbol, order.order_id, None)
    base, quote = START["BTC"], START["USDT"]
    for order in exchange.all_orders(item.symbol):
        for fill in order.fills:
            base += int(order.side) * fill.quantity - (fill.commission if order.side is Side.BUY else 0)
            quote -= int(order.side) * fill.quote + (fill.commission if order.side is Side.SELL else 0)
            assert fill.quote == fill.price * fill.quantity // COIN
    assert (account.balance("BTC").free, account.balance("BTC").locked) == (base, 0)
    assert (account.balance("USDT").free, account.balance("USDT").locked) == (quote, 0)
    assert len(events) > 300
    assert refused <= {-1013, -2010}


def test_an_unknown_symbol_gets_its_grid_from_its_trades() -> None:
    item = infer("ADAFDUSD", ["0.3410", "0.34250000"], ["10.0", "12.5"])
    assert (item.base_asset, item.quote_asset) == ("ADA", "FDUSD")
    assert (item.tick, item.lot) == (COIN // 10_000, COIN // 10)
