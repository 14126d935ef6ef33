"""The market data parser against the json module: what it accepts is right to the last digit."""

import json
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shm import ring
from shm.kernel import kernel
from stages.domain.codecs import binance_market as codec
from stages.domain.messages import MARKET, MarketFlag, MarketKind
from tests.entered import entered
from tests.stages.domain.guarded import Document
from tests.stages.feed.stepped import diff, snapshot, ticker, trade

SYMBOLS = np.array([b"BTCUSDT", b"ETHUSDT", b"1000SATSUSDTTEST"], "S16")
READ_NS = 12_345


class Staging:
    """A private ring that takes events; an event that is not committed leaves no trace."""

    def __init__(self, capacity: int = 64) -> None:
        self._memory = np.zeros(ring.ring_bytes(capacity, MARKET.itemsize) // 8 + 16, np.int64)
        self.base = -(-self._memory.ctypes.data // 128) * 128
        ring.format_ring(self.base, capacity, MARKET.itemsize)
        offset = (self.base + ring.RECORDS - self._memory.ctypes.data) // 8
        self.slots = self._memory[offset:][: capacity * MARKET.itemsize // 8].view(MARKET)

    def parse(self, body: bytes, behind: bytes = b"") -> tuple[int, np.ndarray]:
        document = Document(body, behind)
        code, records = entered(codec.parse_message)(
            document.at, document.end, SYMBOLS.ctypes.data, len(SYMBOLS), self.base, READ_NS
        )
        return code, self.slots[:records].copy()

    def parse_snapshot(self, body: bytes, symbol: int = 1) -> tuple[int, np.ndarray]:
        document = Document(body)
        code, records = entered(codec.parse_snapshot)(document.at, document.end, symbol, self.base, READ_NS)
        return code, self.slots[:records].copy()


STAGING = Staging()


@kernel
def _commit(base: int, count: int) -> None:
    ring.commit(base, count)


def event_levels(records: np.ndarray) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(bids, asks) of a staged event."""
    bids, asks = [], []
    for record in records:
        for index in range(int(record["level_count"])):
            level = (int(record["price"][index]), int(record["quantity"][index]))
            (bids if index < record["bid_count"] else asks).append(level)
    return bids, asks


def mantissas(pairs: list[tuple[str, str]]) -> list[tuple[int, int]]:
    return [(int(Decimal(price).scaleb(8)), int(Decimal(quantity).scaleb(8))) for price, quantity in pairs]


prices = st.decimals("0.00000001", "9999999", places=8).map(lambda value: f"{value:.8f}")
quantities = st.decimals("0", "99999", places=8).map(lambda value: f"{value:.8f}")
sides = st.lists(st.tuples(prices, quantities), max_size=13)


@given(first=st.integers(0, 2**62), count=st.integers(0, 1000), bids=sides, asks=sides, wrapped=st.booleans())
def test_diff_is_staged_level_by_level(first: int, count: int, bids: list, asks: list, wrapped: bool) -> None:
    body = diff(first, first + count, bids, asks, "ETHUSDT")
    if not wrapped:
        body = json.dumps(json.loads(body)["data"], separators=(",", ":")).encode()
    code, records = STAGING.parse(body, behind=b"9")
    assert code == MarketKind.DIFF
    assert event_levels(records) == (mantissas(bids), mantissas(asks))
    assert len(records) == max(1, -(-(len(bids) + len(asks)) // 4))
    for field, value in {
        "kind": MarketKind.DIFF, "symbol": 1, "first_id": first, "last_id": first + count, "read_ns": READ_NS,
        "exchange_time_ns": 1_723_161_255_208_000_000, "event_levels": len(bids) + len(asks),
    }.items():  # fmt: skip
        assert records[field].tolist() == [value] * len(records), field
    flags = [int(flag) for flag in records["flags"]]
    assert [bool(flag & MarketFlag.FIRST) for flag in flags] == [True] + [False] * (len(records) - 1)
    assert [bool(flag & MarketFlag.END) for flag in flags] == [False] * (len(records) - 1) + [True]


@given(last=st.integers(0, 2**62), bids=sides, asks=sides)
def test_snapshot_is_staged_level_by_level(last: int, bids: list, asks: list) -> None:
    code, records = STAGING.parse_snapshot(snapshot(last, bids, asks))
    assert code == MarketKind.SNAPSHOT
    assert event_levels(records) == (mantissas(bids), mantissas(asks))
    assert set(records["last_id"].tolist()) == {last}
    assert set(records["symbol"].tolist()) == {1}


def test_ticker_trade_and_aggregate_are_staged() -> None:
    code, (record,) = STAGING.parse(ticker(7, ("61837.63000000", "3.78826000"), ("61837.64000000", "1.5")))
    assert (code, int(record["kind"]), int(record["last_id"])) == (MarketKind.TICKER, MarketKind.TICKER, 7)
    assert record["price"][:2].tolist() == [6_183_763_000_000, 6_183_764_000_000]
    assert record["quantity"][:2].tolist() == [378_826_000, 150_000_000]
    assert (int(record["bid_count"]), int(record["level_count"])) == (1, 2)

    code, (record,) = STAGING.parse(trade(3_735_683_259, "61837.63000000", "0.02000000"))
    assert (code, int(record["first_id"])) == (MarketKind.TRADE, 3_735_683_259)
    assert (int(record["price"][0]), int(record["quantity"][0])) == (6_183_763_000_000, 2_000_000)
    assert int(record["flags"]) == MarketFlag.FIRST | MarketFlag.END | MarketFlag.SELLER_AGGRESSED
    assert int(record["exchange_time_ns"]) == 1_723_161_255_342_000_000

    code, (record,) = STAGING.parse(trade(5, "1.0", "2.0", seller=False, kind="aggTrade"))
    assert (code, int(record["first_id"])) == (MarketKind.TRADE, 5)
    assert int(record["flags"]) == MarketFlag.FIRST | MarketFlag.END | MarketFlag.AGGREGATE


def test_recorded_trades_with_order_ids_and_times_in_microseconds_are_understood() -> None:
    body = b'{"e":"trade","E":1,"s":"BTCUSDT","t":12,"p":"1.5","q":"2","b":88,"a":99,"T":1723161255342123,"m":false}'
    code, (record,) = STAGING.parse(body)
    assert code == MarketKind.TRADE
    assert (int(record["first_id"]), int(record["exchange_time_ns"])) == (12, 1_723_161_255_342_123_000)


@given(order=st.permutations(["e", "E", "s", "U", "u", "b", "a"]))
def test_keys_may_come_in_any_order(order: list[str]) -> None:
    value = json.loads(diff(10, 12, [("1.5", "2")], [("2.5", "3")]))["data"]
    code, records = STAGING.parse(json.dumps({key: value[key] for key in order}, separators=(",", ":")).encode())
    if order.index("b") < order.index("a"):
        assert code == MarketKind.DIFF
        assert event_levels(records) == (mantissas([("1.5", "2")]), mantissas([("2.5", "3")]))
    else:
        assert code == codec.UNRECOGNISED


SAMPLES = [
    diff(10, 12, [("61837.63000000", "1.00000000"), ("5", "0.5")], [("61838.00000000", "0.00000000")] * 4),
    ticker(7, ("61837.63000000", "3.78826000"), ("61837.64000000", "1.5")),
    trade(12, "61837.63000000", "0.02000000"),
    trade(12, "61837.63000000", "0.02000000", kind="aggTrade"),
]


@pytest.mark.parametrize("body", SAMPLES)
@pytest.mark.parametrize("behind", [b"", b'"', b"0", b"]", b"}"])
def test_a_message_cut_short_anywhere_gives_no_event(body: bytes, behind: bytes) -> None:
    for size in range(len(body)):
        assert STAGING.parse(body[:size], behind)[0] < 0, size


@given(
    body=st.sampled_from(SAMPLES),
    changes=st.lists(st.tuples(st.integers(0, 400), st.integers(0, 255)), min_size=1, max_size=4),
)
@example(body=SAMPLES[0], changes=[(3, 0xFF)])
def test_a_damaged_message_gives_what_it_says_or_nothing(body: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(body)
    for at, byte in changes:
        damaged[at % len(body)] = byte
    code, records = STAGING.parse(bytes(damaged))
    if code < 0:
        assert code in (
            codec.UNRECOGNISED, codec.OVERFLOW, codec.TOO_MANY_DECIMALS, codec.UNKNOWN_SYMBOL, codec.NO_ROOM,
        )  # fmt: skip
        return
    value: dict[str, Any] = json.loads(damaged.decode())
    value = value.get("data", value)
    assert SYMBOLS[int(records[0]["symbol"])] == value["s"].encode()
    if code == MarketKind.DIFF:
        assert (int(records[0]["first_id"]), int(records[0]["last_id"])) == (value["U"], value["u"])
        assert event_levels(records) == (mantissas(value["b"]), mantissas(value["a"]))
    elif code == MarketKind.TRADE:
        assert mantissas([(value["p"], value["q"])]) == [(int(records[0]["price"][0]), int(records[0]["quantity"][0]))]


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except ValueError:
        return False
    return True


@given(body=st.binary(max_size=300))
@example(body=b'{"lastUpdateId":0,"bids":[],"asks":[')
def test_noise_gives_no_event(body: bytes) -> None:
    assume(not _is_json(body))  # Hypothesis draws the byte strings of our sources too: some are whole messages
    assert STAGING.parse(body)[0] < 0
    assert STAGING.parse_snapshot(body)[0] < 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (diff(1, 2, [("92233720368.54775808", "1")]), codec.OVERFLOW),
        (diff(1, 2, [("1", "99999999999999999999")]), codec.OVERFLOW),
        (diff(1, 2**63), codec.OVERFLOW),
        (diff(1, 2, [("1.123456789", "1")]), codec.TOO_MANY_DECIMALS),
        (diff(1, 2, symbol="DOGEUSDT"), codec.UNKNOWN_SYMBOL),
        (diff(1, 2, [("1", "1")] * 257), codec.NO_ROOM),
        (diff(2, 1), codec.UNRECOGNISED),
        (diff(1, 2, [("0.00000000", "1")]), codec.UNRECOGNISED),
        (diff(1, 2, [("-1.00000000", "1")]), codec.UNRECOGNISED),
        (diff(1, 2).replace(b'"U":1', b'"U":1,"U":1'), codec.UNRECOGNISED),
        (trade(1, "1.0", "0.0"), codec.UNRECOGNISED),
        (b'{"result":null,"id":1}', codec.UNRECOGNISED),
        (b'{"e":"kline","E":1,"s":"BTCUSDT"}', codec.UNRECOGNISED),
        (diff(1, 2) + b" ", codec.UNRECOGNISED),
        (diff(1, 2).replace(b"btcusdt@", b"\xff\xfe@"), codec.UNRECOGNISED),
    ],
)
def test_what_cannot_be_used_is_told_apart(body: bytes, code: int) -> None:
    assert STAGING.parse(body)[0] == code


def test_an_event_is_staged_behind_what_is_committed_and_leaves_that_alone() -> None:
    staging = Staging(4)
    code, records = staging.parse(diff(1, 1, [("1", "1")]))
    _commit(staging.base, len(records))
    kept = staging.slots[0].copy()
    code, _ = staging.parse(diff(2, 2, [("7", "7")] * 13))
    assert code == codec.NO_ROOM
    assert staging.slots[0] == kept
    code, _ = staging.parse(diff(2, 2, [("7", "7")] * 12))
    assert code == MarketKind.DIFF
    assert staging.slots[0] == kept
