"""Replays through the real server: order, bytes, the hold at the snapshot, our fills."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import json
import threading
import time
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import websocket
from hypothesis import example, given, settings
from hypothesis import strategies as st

from stages.domain.captures import binance as capture
from stages.domain.captures.binance import Kind, Record
from stages.domain.captures.binance_description import describe
from stages.domain.matching.ladder import Side
from stages.domain.matching.orders import Order
from stages.venue.fixed import SCALE
from stages.venue.instruments import infer
from stages.venue.markets.replay_market import ReplayMarket
from tests.oracle.binance_sync import Diff, NaiveSync
from tests.stages.domain.captures.test_binance import SNAPSHOT, TRADE, diff, write
from tests.stages.venue.venue_process import PUBLIC_KEY, SECRET, ApiClient, VenueProcess, payloads, running

STREAMS = "btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@trade"


class DepthRequest(threading.Thread):
    """A depth request that may have to wait for its answer."""

    def __init__(self, venue: VenueProcess, symbol: str) -> None:
        super().__init__(daemon=True)
        self._venue, self._symbol = venue, symbol
        self.answer: Any = None
        self.start()

    def run(self) -> None:
        self.answer = self._venue.rest("GET", "depth", f"symbol={self._symbol}&limit=5000")

    def result(self) -> Any:
        self.join(20)
        assert self.answer is not None, "the depth request was not answered"
        assert self.answer[0] == 200
        return self.answer[1]


def recorded(folder: Path, name: str) -> list[bytes]:
    with gzip.open(folder / "binance" / name) as lines:
        return [line.rstrip(b"\n").partition(b" ")[2] for line in lines]


@pytest.mark.parametrize("combined", [True, False])
def test_the_recorded_day_comes_out_byte_for_byte(recorded_data: Path, combined: bool) -> None:
    file = "btcusdt_20240808.gz"
    lines = recorded(recorded_data, file)
    snapshot = lines.pop(7)
    expected = lines if combined else [line.partition(b'"data":')[2][:-1] for line in lines]
    with running(replay=[str(recorded_data / "binance" / file)], speed="max") as venue:
        info = venue.rest("GET", "exchangeInfo")[1]
        assert [item["symbol"] for item in info["symbols"]] == ["BTCUSDT"]
        early = DepthRequest(venue, "BTCUSDT")  # asked before the snapshot's line is reached
        socket = venue.connect(f"/stream?streams={STREAMS}" if combined else f"/ws/{STREAMS}")
        for number, (line, payload) in enumerate(zip(expected, payloads(socket), strict=False)):
            assert payload == line, f"message {number}"
        assert early.result() == json.loads(snapshot)
        event = venue.wait_event()
        assert (event["event"], event["stream_messages"]) == ("replay_finished", len(lines))
        assert [item["stream_messages"] for item in event["per_connection"]] == [len(lines)]
        final = venue.rest("GET", "depth", "symbol=BTCUSDT&limit=5000")[1]
        assert final["lastUpdateId"] == 50093421584
        assert (len(final["bids"]), len(final["asks"])) == (1209, 2196)
        assert (final["bids"][0][0], final["asks"][0][0]) == ("61685.99000000", "61686.00000000")
        socket.shutdown()


def test_two_days_that_join_are_one_stream(recorded_data: Path) -> None:
    files = [str(recorded_data / "binance" / f"btcusdt_2024080{day}.gz") for day in (8, 9)]
    with running(replay=files, speed="max") as venue:
        socket = venue.connect(f"/stream?streams={STREAMS}")
        request = DepthRequest(venue, "BTCUSDT")
        last_u, gaps = 0, 0
        for text in islice(payloads(socket), 41_248 + 58_325):
            if text.startswith(b'{"stream":"btcusdt@depth'):
                data = json.loads(text)["data"]
                gaps += last_u not in (0, data["U"] - 1)
                last_u = data["u"]
        assert gaps == 0
        assert venue.wait_event()["stream_messages"] == 99_573
        request.result()
        socket.shutdown()


def test_play_waits_for_all_streams_and_holds_at_the_snapshot(tmp_path: Path) -> None:
    file = write(tmp_path, "small", diff(10, 11), SNAPSHOT, diff(12, 14), TRADE)
    with running(replay=[file], speed="max") as venue:
        diffs = venue.connect("/ws/ab@depth@100ms")
        diffs.settimeout(0.2)
        with pytest.raises(websocket.WebSocketTimeoutException):
            diffs.recv()  # the trade stream has no subscriber yet
        diffs.settimeout(20)
        trades = venue.connect("/stream?streams=ab@trade")
        assert json.loads(diffs.recv())["u"] == 11
        diffs.settimeout(0.2)
        with pytest.raises(websocket.WebSocketTimeoutException):
            diffs.recv()  # held until the snapshot has been fetched
        diffs.settimeout(20)
        held = venue.rest("GET", "depth", "symbol=AB&limit=5000")[1]
        assert held == json.loads(SNAPSHOT.partition(b" ")[2])
        assert json.loads(diffs.recv())["u"] == 14
        assert json.loads(trades.recv())["data"]["t"] == 7
        event = venue.wait_event()
        assert event["stream_messages"] == 3
        assert [item["stream_messages"] for item in event["per_connection"]] == [2, 1]
        later = venue.rest("GET", "depth", "symbol=AB&limit=5000")[1]
        assert later == {
            "lastUpdateId": 14,
            "bids": [["100.00000000", "1.50000000"]],
            "asks": [["101.00000000", "2.00000000"]],
        }


def test_after_a_gap_it_holds_again_at_the_next_snapshot(tmp_path: Path) -> None:
    second = SNAPSHOT.replace(b":12,", b":21,")
    file = write(tmp_path, "gap", diff(10, 11), SNAPSHOT, diff(13, 14), diff(20, 21), second, diff(22, 23))
    with running(replay=[file], speed="max") as venue:
        socket = venue.connect("/ws/ab@depth@100ms")
        assert DepthRequest(venue, "AB").result()["lastUpdateId"] == 12
        assert [json.loads(socket.recv())["u"] for _ in range(3)] == [11, 14, 21]
        assert DepthRequest(venue, "AB").result()["lastUpdateId"] == 21
        assert json.loads(socket.recv())["u"] == 23
        assert venue.wait_event()["event"] == "replay_finished"


def test_after_a_gap_with_no_snapshot_behind_it_it_holds_until_the_replayed_book_has_been_fetched(
    tmp_path: Path,
) -> None:
    """So that what is fetched is the book right behind the gap, however late a reader asks."""
    file = write(tmp_path, "gap", diff(10, 11), SNAPSHOT, diff(13, 14), diff(13, 13), diff(20, 21), diff(22, 23))
    with running(replay=[file], speed="max") as venue:
        socket = venue.connect("/ws/ab@depth@100ms")
        assert DepthRequest(venue, "AB").result()["lastUpdateId"] == 12
        assert [json.loads(socket.recv())["u"] for _ in range(4)] == [11, 14, 13, 21]
        socket.settimeout(0.2)
        with pytest.raises(websocket.WebSocketTimeoutException):
            socket.recv()
        assert venue.rest("GET", "depth", "symbol=AB&limit=5000")[1]["lastUpdateId"] == 21
        socket.settimeout(20)
        assert json.loads(socket.recv())["u"] == 23
        assert venue.wait_event()["event"] == "replay_finished"


def test_play_goes_on_when_nobody_asks_for_a_snapshot_after_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("stages.venue.markets.replay_market.GAP_PATIENCE_S", 0.01)
    second = SNAPSHOT.replace(b":12,", b":21,")
    file = write(tmp_path, "gap", SNAPSHOT, diff(13, 14), diff(20, 21), second, diff(22, 23), diff(25, 25))
    market = ReplayMarket(infer("AB", [], []), 2)

    async def play() -> list[str]:
        asked = asyncio.ensure_future(market.depth(5))
        for record in capture.records(file, pytest.fail):
            if record.kind is Kind.SNAPSHOT:
                await market.hold_at(record)
            else:
                market.play(record)
            if market.holds_at_gap:
                await market.hold_at_gap()
        return [(await asked).decode(), (await market.depth(5)).decode()]

    assert [json.loads(depth)["lastUpdateId"] for depth in asyncio.run(play())] == [12, 25]
    assert caplog.text.count("nobody asked for a snapshot") == 2
    assert "update ids 15 to 19 are missing" in caplog.text


def _record(kind: Kind, first_id: int, last_id: int) -> Record:
    """A snapshot, or a diff, which sets a level of its own."""
    level = [[str(last_id), "1"]]
    ids = {"lastUpdateId": last_id, "bids": level, "asks": []} if kind is Kind.SNAPSHOT else {"b": level, "a": []}
    raw = json.dumps(ids).encode()
    return Record(0, 0, kind, "ab@depth", raw, raw, first_id, last_id, 0)


async def _read_through(records: list[Record], lateness: list[int]) -> tuple[list[int], int, int, int | None, Any]:
    """What a reader makes of a play who reads, and is answered, later than he could: the snapshots used and more."""
    market = ReplayMarket(infer("AB", [], []), sum(record.kind is Kind.SNAPSHOT for record in records))
    reader, late = NaiveSync(), itertools.cycle(lateness)
    sent: asyncio.Queue[Record | None] = asyncio.Queue()
    used: list[int] = []

    async def ask() -> None:
        while True:
            answer = json.loads(await market.depth(5_000))
            for _ in range(next(late)):
                await asyncio.sleep(0)
            bids = [(int(float(price)), 1) for price, _ in answer["bids"]]
            assert reader.on_snapshot(answer["lastUpdateId"], bids, []), "a snapshot of no use"
            used.append(answer["lastUpdateId"])
            if reader.book_id is not None:
                return

    async def read() -> None:
        asking: asyncio.Task[None] | None = None
        while (record := await sent.get()) is not None:
            for _ in range(next(late)):
                await asyncio.sleep(0)
            reader.on_diff(Diff(record.first_id, record.last_id, ((record.last_id, 1),), ()))
            if reader.book_id is None and (asking is None or asking.done()):
                asking = asyncio.create_task(ask())
        if asking is not None:
            await asking

    reading = asyncio.ensure_future(read())
    for record in records:
        if record.kind is Kind.SNAPSHOT:
            await market.hold_at(record)
        else:
            market.play(record)
            sent.put_nowait(record)
            for _ in range(4):  # who reads at once has read it
                await asyncio.sleep(0)
            if market.holds_at_gap:
                await market.hold_at_gap()
    market.end()
    sent.put_nowait(None)
    await reading
    return used, reader.gaps, reader.stale, reader.book_id, reader.book.bid_levels()


@settings(max_examples=60)
@given(
    steps=st.lists(st.tuples(st.sampled_from([0, 0, 0, 1]), st.integers(-1, 2), st.integers(-9, 2)), max_size=20),
    lateness=st.lists(st.integers(0, 40), min_size=1, max_size=7),
)
@example(steps=[(0, 0, 0), (0, 1, 0), (0, 0, 0), (1, 0, -5), *[(0, 0, 0)] * 9], lateness=[9])  # a gap before its line
@example(steps=[(0, 0, 0), (1, 0, -3), *[(0, 0, 0)] * 9], lateness=[9])  # a snapshot that is too old
def test_what_a_reader_gets_does_not_depend_on_when_it_asks(
    steps: list[tuple[int, int, int]], lateness: list[int]
) -> None:
    """Diffs that overlap, join and leave gaps, with snapshots of any id between them."""
    records, newest = [_record(Kind.DIFF, 10, 10)], 10
    for is_snapshot, offset, age in steps:
        if is_snapshot:
            records.append(_record(Kind.SNAPSHOT, 0, max(1, newest + age)))
        else:
            records.append(_record(Kind.DIFF, newest + 1 + offset, max(newest, newest + 1 + offset) + 1))
            newest = records[-1].last_id
    at_once = asyncio.run(_read_through(records, [0]))
    assert at_once[3] is not None
    assert at_once[3] >= newest
    assert asyncio.run(_read_through(records, lateness)) == at_once


def test_a_snapshot_recorded_before_the_diff_that_shows_the_gap_heals_it() -> None:
    """As when a recorder has connected again, and the snapshot came sooner than the first diff."""
    before = [_record(Kind.DIFF, 11, 12), _record(Kind.SNAPSHOT, 0, 12), _record(Kind.DIFF, 13, 14)]
    passed_over = [_record(Kind.SNAPSHOT, 0, 14), _record(Kind.SNAPSHOT, 0, 19)]
    records = [*before, *passed_over, _record(Kind.DIFF, 20, 21)]
    for more in ([], [_record(Kind.DIFF, 30, 31)], [_record(Kind.DIFF, 30, 31), _record(Kind.SNAPSHOT, 0, 31)]):
        used = asyncio.run(_read_through([*records, *more], [0]))[0]
        assert used == [12, 19] + [31] * bool(more)


def test_a_snapshot_from_before_a_gap_does_not_take_the_place_of_the_book() -> None:
    before = [_record(Kind.DIFF, 11, 12), _record(Kind.SNAPSHOT, 0, 12), _record(Kind.DIFF, 13, 14)]
    behind = [_record(Kind.DIFF, 20, 21), _record(Kind.SNAPSHOT, 0, 12), _record(Kind.DIFF, 22, 23)]
    used, _, _, _, bids = asyncio.run(_read_through([*before, *behind], [0]))
    assert (used, [price for price, _ in bids]) == ([12, 23], [23, 21, 14, 12])


def test_recorded_pace_and_speed(tmp_path: Path) -> None:
    late = diff(15, 16).replace(b"1016 ", b"2000001005 ")
    file = write(tmp_path, "slow", SNAPSHOT, diff(12, 14), late)
    with running(replay=[file], speed="4") as venue:
        socket = venue.connect("/ws/ab@depth@100ms")
        DepthRequest(venue, "AB").result()
        socket.recv()
        start = time.monotonic()
        socket.recv()
        assert 0.4 < time.monotonic() - start < 2.0  # two recorded seconds at four times the pace
        assert venue.wait_event()["event"] == "replay_finished"


def test_our_orders_fill_against_recorded_data_and_never_change_it(tmp_path: Path) -> None:
    """The recorded trade of 0.30 at 100.50 goes to our bid there; a taker takes the displayed ask once."""
    pause = TRADE.replace(b"1013 ", b"500001013 ")
    file = write(tmp_path, "fills", SNAPSHOT, diff(12, 14), pause, diff(15, 16).replace(b"1016", b"500001016"))
    balances = {"B": "10", "XAB": "1000", "AB": "1000"}
    symbols = [
        {
            "symbol": "AB",
            "base_asset": "AA",
            "quote_asset": "BB",
            "tick_size": "0.01",
            "step_size": "0.01",
            "min_qty": "0.01",
        }
    ]
    with running(replay=[file], speed="1", symbols=symbols, balances={**balances, "BB": "10000"}) as venue:
        client = ApiClient(venue)
        client.call("userDataStream.subscribe")
        socket = venue.connect("/stream?streams=ab@depth@100ms/ab@trade")
        DepthRequest(venue, "AB").result()
        assert json.loads(socket.recv())["data"]["u"] == 14
        bid = client.place(symbol="AB", price="100.50", quantity="0.50")["result"]
        taken = client.place(symbol="AB", price="101.00", quantity="3.00", timeInForce="IOC")["result"]
        assert (taken["status"], taken["executedQty"]) == ("EXPIRED", "2.00000000")
        again = client.place(symbol="AB", price="101.00", quantity="1.00", timeInForce="IOC")["result"]
        assert again["executedQty"] == "0.00000000"
        fill = client.wait_event(lambda e: e.get("i") == bid["orderId"] and e["x"] == "TRADE")
        assert (fill["l"], fill["L"], fill["m"], fill["X"]) == (
            "0.30000000",
            "100.50000000",
            True,
            "PARTIALLY_FILLED",
        )
        assert b"%s" % socket.recv().encode() == TRADE.partition(b" ")[2].strip()
        asks = venue.rest("GET", "depth", "symbol=AB")[1]["asks"]
        assert asks == [["101.00000000", "2.00000000"]]
        client.close()


def test_a_reader_that_leaves_does_not_stop_the_play(recorded_data: Path) -> None:
    with running(replay=[str(recorded_data / "binance" / "btcusdt_20240808.gz")], speed="max") as venue:
        leaving = venue.connect("/stream?streams=btcusdt@trade")  # one stream alone does not start the play
        staying = venue.connect(f"/stream?streams={STREAMS}")
        DepthRequest(venue, "BTCUSDT").result()
        for _ in range(50):
            leaving.recv()
        leaving.shutdown()
        assert len(list(islice(payloads(staying), 41_248))) == 41_248
        counts = [item["stream_messages"] for item in venue.wait_event()["per_connection"]]
        assert max(counts) == 41_248
        staying.shutdown()


def test_it_can_be_stopped_while_it_holds(tmp_path: Path) -> None:
    file = write(tmp_path, "held", diff(10, 11), SNAPSHOT, diff(12, 14))
    with running(replay=[file], speed="max") as venue:
        socket = venue.connect("/ws/ab@depth@100ms")
        assert json.loads(socket.recv())["u"] == 11


def test_a_replay_that_cannot_start_ends_with_two_and_a_hint(tmp_path: Path) -> None:
    file = write(tmp_path, "none", diff(10, 11))
    settings = {"ed25519_public_key": PUBLIC_KEY, "hmac_secret": SECRET, "replay": [file], "speed": "max"}
    venue = VenueProcess(settings)
    assert venue.first_event["event"] == "error"
    assert "no snapshot" in venue.first_event["message"]
    assert "precedes" in venue.first_event["hint"]
    assert venue.finish() == 2
    assert "hint:" in venue.stderr


def test_streams_of_other_names_go_to_the_readers_of_todays(tmp_path: Path) -> None:
    """Recorded were depth each second, aggregate trades, and what no reader here knows."""
    depth, aggregate = (line.replace(b"@depth@100ms", b"@depth").replace(b"@trade", b"@aggTrade")
                        for line in (diff(10, 11), TRADE))  # fmt: skip
    kline = b'1014 {"stream":"ab@kline_1m","data":{"e":"kline","s":"AB"}}\n'
    file = write(tmp_path, "old", depth, kline, SNAPSHOT, aggregate)
    with running(replay=[file], speed="max") as venue:
        socket = venue.connect("/stream?streams=ab@depth@100ms/ab@trade")
        request = DepthRequest(venue, "AB")
        sent = [line.partition(b" ")[2].strip() for line in (depth, aggregate)]
        assert list(islice(payloads(socket), 2)) == sent
        assert request.result()["lastUpdateId"] == 12


def test_what_cannot_be_read_is_played_and_leaves_the_venues_own_book(tmp_path: Path) -> None:
    broken = [
        diff(13, 14).replace(b'["100.00","1.5"]', b'["x"]'),
        b'1014 {"stream":"ab@depth@100ms","data":{"U":15,"u":15,xx]}}\n',
        TRADE.replace(b'"p":"100.50",', b""),
    ]
    file = write(tmp_path, "broken", diff(10, 11), SNAPSHOT, *broken, b"garbage\n", diff(16, 17))
    described = describe([file])
    market = ReplayMarket(infer("AB", [], []), len(described.symbols["AB"].snapshot_ids))
    market.submit(Order(1, Side.BUY, 50 * SCALE, SCALE), rest=True)
    for record in capture.records(file, lambda damage: None):
        if record.kind is Kind.SNAPSHOT:
            market._seed(record)
            market.is_synchronised = True
        else:
            assert market.play(record) == []
    assert market.last_price == 0
    depth = json.loads(asyncio.run(market.depth(5)))
    assert (depth["lastUpdateId"], depth["bids"][0]) == (17, ["100.00000000", "1.50000000"])


def test_of_a_file_only_the_chosen_symbols_are_played_and_waited_for(tmp_path: Path) -> None:
    file = write(tmp_path, "two", diff(10, 13), diff(900, 901, b"CD"), SNAPSHOT, SNAPSHOT.replace(b":12,", b":901,"))
    with running(replay=[file], replay_symbols=["CD"], speed="max") as venue:
        socket = venue.connect("/stream?streams=cd@depth@100ms")
        request = DepthRequest(venue, "CD")
        assert b'"CD"' in next(iter(payloads(socket)))
        assert request.result()["lastUpdateId"] == 901
