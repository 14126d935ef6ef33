"""Reading captures, and saying clearly what is wrong with a bad one."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from stages.domain.captures import binance as capture
from stages.domain.captures.binance import CaptureError, Damage, Kind
from stages.domain.captures.binance_description import describe

SNAPSHOT = b'1005 {"lastUpdateId":12,"bids":[["100.00","1.0"]],"asks":[["101.00","2.0"]]}\n'


def diff(first: int, last: int, symbol: bytes = b"AB") -> bytes:
    return (
        b'%d {"stream":"%s@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"%s","U":%d,"u":%d,'
        b'"b":[["100.00","1.5"]],"a":[]}}\n' % (1000 + last, symbol.lower(), symbol, first, last)
    )


TRADE = b'1013 {"stream":"ab@trade","data":{"e":"trade","E":1,"s":"AB","t":7,"p":"100.50","q":"0.30","T":1,"m":true}}\n'


def write(folder: Path, name: str, *lines: bytes) -> str:
    path = folder / name
    path.write_bytes(gzip.compress(b"".join(lines)) if name.endswith(".gz") else b"".join(lines))
    return str(path)


@pytest.mark.parametrize("name", ["plain.log", "packed.gz"])
def test_lines_come_out_unchanged(tmp_path: Path, name: str) -> None:
    file = write(tmp_path, name, diff(10, 11), SNAPSHOT, b"\n", TRADE)
    found = list(capture.records(file, pytest.fail))
    assert [(r.line, r.kind, r.first_id, r.last_id) for r in found] == [
        (1, Kind.DIFF, 10, 11),
        (2, Kind.SNAPSHOT, 0, 12),
        (4, Kind.TRADE, 0, 0),
    ]
    assert found[0].receive_ns == 1011
    assert b"%d %s\n" % (1011, found[0].raw) == diff(10, 11)
    assert found[0].raw == b'{"stream":"ab@depth@100ms","data":%s}' % found[0].data
    assert list(capture.trades(file, ["AB"])) == [("AB", "100.50", "0.30")]


def test_files_whose_ids_join_are_one_stream(tmp_path: Path) -> None:
    one = write(tmp_path, "1", diff(10, 11), SNAPSHOT, diff(12, 14), TRADE)
    two = write(tmp_path, "2.gz", diff(15, 16))
    found = describe([one, two])
    summary = found.symbols["AB"]
    assert (summary.first_update_id, summary.last_update_id, summary.gaps) == (10, 16, 0)
    assert summary.messages == {"depthUpdate": 3, "trade": 1, "snapshot": 1}
    assert (found.streams, found.stream_messages) == (["ab@depth@100ms", "ab@trade"], 4)
    assert found.snapshot_symbols == {(one, 2): "AB"}


def test_a_snapshot_is_told_its_symbol_by_its_id(tmp_path: Path) -> None:
    other = SNAPSHOT.replace(b":12,", b":901,")
    file = write(tmp_path, "two", SNAPSHOT, diff(900, 901, b"CD"), diff(13, 14), other)
    found = describe([file])
    assert {item.symbol: item.snapshot_ids for item in found.symbols.values()} == {"AB": [12], "CD": [901]}
    assert found.snapshot_symbols == {(file, 1): "AB", (file, 4): "CD"}


def test_where_ids_of_symbols_overlap_a_snapshot_is_of_the_symbol_that_was_there(tmp_path: Path) -> None:
    others = [diff(1, 5, b"CD"), diff(14, 15, b"EF"), diff(6, 30, b"CD")]
    file = write(tmp_path, "overlap", *others[:2], SNAPSHOT, diff(11, 12), others[2], diff(13, 20), diff(11, 16, b"EF"))
    assert describe([file], ["AB"]).snapshot_symbols == {(file, 3): "AB"}


def test_a_gap_inside_a_file_is_counted(tmp_path: Path) -> None:
    file = write(tmp_path, "gap", diff(10, 11), SNAPSHOT, diff(20, 21))
    assert describe([file]).symbols["AB"].gaps == 1


@pytest.mark.parametrize("second", [(16, 17), (10, 11)])
def test_a_file_that_does_not_join_is_refused(tmp_path: Path, second: tuple[int, int]) -> None:
    one = write(tmp_path, "1", diff(10, 11), SNAPSHOT, diff(12, 14))
    with pytest.raises(CaptureError, match=r"2:1: AB does not join .*1: .*ends at u=14"):
        describe([one, write(tmp_path, "2", diff(*second))])


def test_a_file_without_a_snapshot_and_nothing_before_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="AB has no snapshot") as error:
        describe([write(tmp_path, "1", diff(10, 11))])
    assert "precedes" in error.value.hint


@pytest.mark.parametrize(
    ("line", "what"),
    [
        (b"hello\n", "it does not start with a receive time"),
        (b"12 {\n", "not valid JSON"),
        (diff(12, 13)[:90] + b"\n", "not valid JSON"),
        (b"12 []\n", "neither a stream message nor a depth snapshot"),
        (b'12 {"lastUpdateId":1}\n', "a snapshot without bids and asks"),
        (b'12 {"stream":"ab@depth@100ms","data":{"e":"depthUpdate"}}\n', "a depth diff without U and u"),
        (b"12 \xff\xfe\n", "not valid JSON"),
    ],
)
def test_malformed_lines_are_left_out_and_told_with_file_and_line(tmp_path: Path, line: bytes, what: str) -> None:
    found = describe([write(tmp_path, "bad", diff(10, 11), SNAPSHOT, line, diff(12, 13), line)])
    assert (found.symbols["AB"].last_update_id, found.symbols["AB"].gaps) == (13, 0)
    (warning,) = found.warnings
    assert f"bad:3: {what}" in warning
    assert warning.endswith("left out, as are 1 more places")


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="no such file"):
        describe([str(tmp_path / "absent")])
    with pytest.raises(CaptureError, match="holds no market data"):
        describe([write(tmp_path, "empty")])
    cut = tmp_path / "cut.gz"
    cut.write_bytes(gzip.compress(diff(10, 11) * 2000)[:20])
    with pytest.raises(CaptureError, match="holds no market data"):
        describe([str(cut)])


def test_a_torn_tail_is_left_out_and_told(tmp_path: Path) -> None:
    whole = diff(10, 11) + SNAPSHOT + diff(12, 13)
    file = write(tmp_path, "torn", whole, diff(14, 15)[:-20])
    found = describe([file])
    (damage,) = found.damage[file]
    assert (found.symbols["AB"].last_update_id, damage.line, damage.offset) == (13, 4, len(whole))
    assert "torn:4: not valid JSON" in found.warnings[0]
    assert describe([write(tmp_path, "whole", whole)]).warnings == []


def test_the_good_part_of_a_damaged_file_is_used(tmp_path: Path) -> None:
    found: list[Damage] = []
    pieces = [diff(10, 11), b"\xff\xfe garbage\n", SNAPSHOT, diff(12, 14)[:-30]]
    file = write(tmp_path, "bad", *pieces)
    assert [record.line for record in capture.records(file, found.append)] == [1, 3]
    assert [(damage.line, damage.offset) for damage in found] == [
        (2, len(pieces[0])),
        (4, len(b"".join(pieces[:3]))),
    ]
    assert found[0].what.startswith("it does not start with a receive time")

    found.clear()
    cut = tmp_path / "cut.gz"
    packed = gzip.compress(diff(10, 11) * 2000)
    cut.write_bytes(packed[:-40])
    lines = [record.line for record in capture.records(str(cut), found.append)]
    assert lines == list(range(1, len(lines) + 1))
    assert [(damage.line, damage.what) for damage in found] == [(len(lines) + 1, "the gzip data is cut short")]
    assert found[0].offset >= len(diff(10, 11)) * len(lines)


def test_a_payload_without_wrapper_gets_the_one_it_would_have_had(tmp_path: Path) -> None:
    wrapped = [
        diff(10, 11),
        TRADE,
        b'12 {"stream":"ab@bookTicker","data":{"u":11,"s":"AB","b":"1","B":"1","a":"2","A":"1"}}\n',
    ]
    bare = [
        line.partition(b'{"stream"')[0] + line.partition(b'"data":')[2].replace(b"}}\n", b"}\n").replace(b"]}}", b"]}")
        for line in wrapped
    ]
    assert b"stream" not in b"".join(bare)
    expected = [r._replace(offset=0) for r in capture.records(write(tmp_path, "wrapped", *wrapped), pytest.fail)]
    assert [r._replace(offset=0) for r in capture.records(write(tmp_path, "bare", *bare), pytest.fail)] == expected


BOOK = b'"bids":[["100.00","1.0"]],"asks":[["101.00","2.0"]]'


@pytest.mark.parametrize(
    ("stamp", "receive_ns"),
    [
        (b"1723161255208123456 ", 1_723_161_255_208_123_456),
        (b"1723161255208123 ", 1_723_161_255_208_123_000),
        (b"1723161255208 ", 1_723_161_255_208_000_000),
        (b"1723161255.208123 ", 1_723_161_255_208_123_000),
        (b"1723161255208.5\t", 1_723_161_255_208_500_000),
        (b"1723161255208,", 1_723_161_255_208_000_000),
        (b"1723161255 ", 1_723_161_255_000_000_000),
        (b"7 ", 7),
        (b"", 1_723_161_255_343_000_000),
    ],
)
def test_receive_times_come_in_every_unit(tmp_path: Path, stamp: bytes, receive_ns: int) -> None:
    sent = TRADE.partition(b" ")[2].replace(b'"E":1,', b'"E":1723161255343,')
    (record,) = capture.records(write(tmp_path, "times", stamp + sent), pytest.fail)
    assert (record.receive_ns, record.raw + b"\n") == (receive_ns, sent)


def test_without_any_time_a_line_has_that_of_the_line_before(tmp_path: Path) -> None:
    ticker = b'{"u":11,"s":"AB","b":"1","B":"1","a":"2","A":"1"}\n'
    found = list(capture.records(write(tmp_path, "times", TRADE, ticker), pytest.fail))
    assert [record.receive_ns for record in found] == [1013, 1013]


@pytest.mark.parametrize(
    "data",
    [
        b'{"e": "depthUpdate", "E": 1, "s": "AB", "U": 12, "u": 14, "b": [], "a": []}',
        b'{"a":[],"b":[],"u":14,"U":12,"s":"AB","e":"depthUpdate"}',
        b'{"e":"depthUpdate","s":"AB","U":3,"u":14,"pu":11,"b":[],"a":[]}',
        b'{"pu":11,"e":"depthUpdate","s":"AB","b":[],"a":[],"U":3,"u":14}',
    ],
)
def test_a_diff_is_known_in_any_spacing_and_order_and_of_futures(tmp_path: Path, data: bytes) -> None:
    wrappers = (
        b'{"stream":"ab@depth@100ms","data":%s}', b'{ "stream": "ab@depth@100ms", "data": %s }', b"%s",
        b'{"data":%s,"stream":"ab@depth@100ms"}',
    )  # fmt: skip
    for wrapper in wrappers:
        (record,) = capture.records(write(tmp_path, "diff", b"5 " + wrapper % data), pytest.fail)
        assert (record.kind, record.stream, record.data) == (Kind.DIFF, "ab@depth@100ms", data)
        assert (record.first_id, record.last_id) == (12, 14)


@pytest.mark.parametrize(
    ("body", "stream"),
    [
        (b'{"lastUpdateId":12,%s}', ""),
        (b'{"symbol":"AB","lastUpdateId":12,%s}', "ab@snapshot"),
        (b'{"stream":"ab@depth","data":{"lastUpdateId":12,%s}}', "ab@snapshot"),
        (b'{"id":1,"status":200,"result":{"lastUpdateId":12,%s},"rateLimits":[]}', ""),
    ],
)
def test_snapshots_are_known_in_every_wrapper(tmp_path: Path, body: bytes, stream: str) -> None:
    file = write(tmp_path, "snapshot", diff(900, 901, b"CD"), diff(10, 11), b"5 %s\n" % (body % BOOK))
    *_, record = capture.records(file, pytest.fail)
    assert (record.kind, record.stream, record.last_id) == (Kind.SNAPSHOT, stream, 12)
    assert record.raw.startswith(b"{")
    assert b"stream" not in record.raw
    assert b"result" not in record.raw


def test_a_snapshot_that_names_its_symbol_is_that_ones_whatever_its_id(tmp_path: Path) -> None:
    named = b'5 {"symbol":"CD","lastUpdateId":12,%s}\n' % BOOK
    found = describe([write(tmp_path, "two", diff(10, 13), SNAPSHOT, diff(10, 13, b"CD"), named)])
    assert {item.symbol: item.snapshot_ids for item in found.symbols.values()} == {"AB": [12], "CD": [12]}


def test_readers_take_recorded_streams_by_todays_names(tmp_path: Path) -> None:
    def other(stream: bytes, line: bytes = TRADE) -> bytes:
        return line.replace(b"ab@trade", stream).replace(b"ab@depth@100ms", stream)

    kline = b'6 {"stream":"cd@kline_1m","data":{"e":"kline","s":"CD"}}\n'
    found = describe([write(tmp_path, "1", other(b"AB@depth", diff(10, 11)), SNAPSHOT, other(b"ab@aggTrade"), kline)])
    assert found.needed_streams == {"AB@depth": "ab@depth@100ms", "ab@aggTrade": "ab@trade"}
    assert list(found.symbols) == ["AB"]
    found = describe([write(tmp_path, "2", diff(10, 11), SNAPSHOT, other(b"ab@aggTrade"), TRADE)])
    assert found.needed_streams == {"ab@depth@100ms": "ab@depth@100ms", "ab@trade": "ab@trade"}


def test_trades_that_are_none_teach_no_grid(tmp_path: Path) -> None:
    broken = [
        b'7 {"stream":"ab@trade","data":{xx}}\n',
        TRADE.replace(b'"100.50"', b'"x"'),
        TRADE.replace(b'"p"', b'"r"'),
    ]
    assert list(capture.trades(write(tmp_path, "trades", *broken, TRADE), ["AB"])) == [("AB", "100.50", "0.30")]


def test_only_chosen_symbols_are_described_and_snapshots_stay_with_their_own(tmp_path: Path) -> None:
    file = write(tmp_path, "two", diff(10, 13), diff(900, 901, b"CD"), SNAPSHOT, SNAPSHOT.replace(b":12,", b":901,"))
    found = describe([file], ["CD"])
    assert {item.symbol: item.snapshot_ids for item in found.symbols.values()} == {"CD": [901]}
    assert (found.streams, found.stream_messages) == (["cd@depth@100ms"], 1)
    alone = write(tmp_path, "no snapshot of the other", diff(10, 13), SNAPSHOT, diff(900, 901, b"CD"))
    assert list(describe([alone], ["AB"]).symbols) == ["AB"]
    with pytest.raises(CaptureError, match="nothing of it is played, they hold AB, CD") as error:
        describe([file], ["EF"])
    assert "market.symbols" in error.value.hint


def test_symbols_that_no_venue_lists_are_left_out_and_said(tmp_path: Path) -> None:
    names = ("币安人生USDT".encode(), b"A" * 17)
    file = write(tmp_path, "three", *[diff(900, 901, name) for name in names], diff(10, 13), SNAPSHOT)
    found = describe([file])
    assert list(found.symbols) == ["AB"]
    assert "币安人生USDT, AAAAAAAAAAAAAAAAA" in found.warnings[0]
    with pytest.raises(CaptureError, match="nothing of it is played, they hold 币安人生USDT"):
        describe([write(tmp_path, "one", diff(900, 901, names[0]))])


def test_ids_that_go_back_gaps_and_snapshots_of_no_use_are_said(tmp_path: Path) -> None:
    (warning,) = describe([write(tmp_path, "back", diff(10, 13), SNAPSHOT, diff(5, 6), diff(7, 8))]).warnings
    assert "back:3: AB goes back to u=6 after u=13" in warning
    (warning,) = describe([write(tmp_path, "gap", diff(10, 13), SNAPSHOT, diff(15, 16), diff(19, 20))]).warnings
    assert "gap:3: AB lacks the update ids 14 to 14" in warning
    assert "2 gaps in all" in warning
    (warning,) = describe([write(tmp_path, "old", SNAPSHOT, diff(15, 16))]).warnings
    assert "AB: its snapshots end at 12, before its diffs begin with U=15" in warning


@pytest.mark.parametrize("symbol", ["BTCUSDT_240927", "币安人生USDT"])
def test_payloads_of_any_symbol_get_their_wrapper(tmp_path: Path, symbol: str) -> None:
    ticker = json.dumps({"u": 11, "s": symbol, "b": "1", "B": "1", "a": "2", "A": "1"}, ensure_ascii=False)
    (record,) = capture.records(write(tmp_path, "bare", f"12 {ticker}\n".encode()), pytest.fail)
    assert (record.kind, record.stream) == (Kind.TICKER, f"{symbol.lower()}@bookTicker")


@pytest.mark.parametrize(
    ("stamps", "expected"),
    [(("1723161253", "1723161254"), (1723161253 * 10**9, 1723161254 * 10**9)), (("5", "1723161254"), (5, 1723161254))],
)
def test_whole_seconds_are_told_from_ns_since_the_beginning(
    tmp_path: Path, stamps: tuple[str, str], expected: tuple[int, int]
) -> None:
    lines = [b"%s %s\n" % (stamp.encode(), TRADE.partition(b" ")[2].strip()) for stamp in stamps]
    found = capture.records(write(tmp_path, "s", *lines), pytest.fail)
    assert tuple(record.receive_ns for record in found) == expected
