"""The instrument table: exact, or refused; from the venue, from settings, or from nothing but a name."""

import gzip
import json
import os
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.domain.instrument_settings import InstrumentSettings
from stages.domain.instruments import (
    INSTRUMENT,
    LARGEST,
    InstrumentError,
    decimal_string,
    default_instruments,
    instruments_from_exchange_info,
    mantissa,
)


def entry(symbol: str = "BTCUSDT", **changes: str) -> dict[str, Any]:
    """Of exchangeInfo."""
    told = {"tickSize": "0.01", "maxPrice": "1000000.00", "stepSize": "0.00001", "minQty": "0.00001"} | changes
    price = {name: told[name] for name in ("tickSize", "maxPrice")}
    lot = {name: told[name] for name in ("stepSize", "minQty")} | {"maxQty": told.get("maxQty", "9000.00000")}
    filters = [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01", **price},
        {"filterType": "LOT_SIZE", **lot},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000"},
    ]
    return {"symbol": symbol, "status": "TRADING", "baseAsset": "BTC", "quoteAsset": "USDT", "filters": filters}


def row_of(info: dict[str, Any], **settings: Any) -> dict[str, Any]:
    own = {info["symbol"]: InstrumentSettings(**settings)}
    (row,) = instruments_from_exchange_info({"symbols": [info]}, [info["symbol"]], own)
    return dict(zip(INSTRUMENT.names or (), row.tolist(), strict=True))


def test_the_venues_word_becomes_exact_integers() -> None:
    assert row_of(entry()) == {
        "symbol": b"BTCUSDT", "venue": b"BINANCE", "base_asset": b"BTC", "quote_asset": b"USDT",
        "price_exponent": -8, "quantity_exponent": -8, "tick": 1_000_000, "lot": 1_000,
        "minimum_lots": 1, "maximum_lots": 900_000_000, "minimum_notional": 5 * 10**7,
        "maximum_price_ticks": 100_000_000, "price_decimals": 2, "quantity_decimals": 5,
    }  # fmt: skip


def test_settings_go_before_the_venues_word() -> None:
    row = row_of(entry(), tick_size="0.05", quantity_max="1.000015", price_max="70000.04", notional_min="5.0000001")
    assert [row[name] for name in ("tick", "price_decimals", "maximum_lots", "maximum_price_ticks")] == [
        5_000_000, 2, 100_001, 1_400_000,
    ]  # fmt: skip
    assert row["minimum_notional"] == 10_000_001  # of 0.05 x 0.00001 each: rounded up


def test_a_filter_of_zero_is_switched_off() -> None:
    row = row_of(entry(tickSize="0.00000000", maxPrice="0.00000000", stepSize="0.00000000"))
    assert (row["tick"], row["lot"], row["maximum_price_ticks"]) == (1, 1, LARGEST)


@pytest.mark.parametrize(
    ("info", "settings", "words"),
    [
        (entry(tickSize="0.000000001"), {}, "more than 8 decimals"),
        (entry(stepSize="100000000000"), {}, "does not fit 64 bits"),
        (entry(symbol="A" * 17), {}, "17 bytes, at most 16 fit"),
        (entry(), {"price_exponent": -4}, "exponents of BINANCE are -8"),
        (entry() | {"status": "BREAK"}, {}, "status=BREAK"),
        (entry() | {"filters": []}, {}, "lacks 'PRICE_FILTER'"),
    ],
)
def test_what_cannot_be_represented_is_refused_with_its_symbol(
    info: dict[str, Any], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InstrumentError, match=words) as refusal:
        row_of(info, **settings)
    assert info["symbol"] in str(refusal.value)


def test_symbols_of_which_nothing_is_known_have_default_exponents_no_grid_and_no_limits() -> None:
    table = default_instruments([f"S{number}" for number in range(9_000)], "NASDAQ", -4, 0)
    assert len(table) == 9_000
    row = dict(zip(INSTRUMENT.names or (), table[8_999].tolist(), strict=True))
    assert row == {
        "symbol": b"S8999", "venue": b"NASDAQ", "base_asset": b"", "quote_asset": b"", "price_exponent": -4,
        "quantity_exponent": 0, "tick": 1, "lot": 1, "minimum_lots": 0, "maximum_lots": LARGEST, "minimum_notional": 0,
        "maximum_price_ticks": LARGEST, "price_decimals": 4, "quantity_decimals": 0,
    }  # fmt: skip
    (own,) = default_instruments(["X"], "RAW", settings={"X": InstrumentSettings(price_exponent=-2, tick_size="0.05")})
    assert (own["price_exponent"], own["quantity_exponent"], own["tick"], own["price_decimals"]) == (-2, -8, 5, 2)


@given(value=st.integers(-(2**70), 2**70), exponent=st.integers(-12, 0))
def test_a_mantissa_is_the_number_or_refused(value: int, exponent: int) -> None:
    text = decimal_string(value, exponent)
    assert Decimal(text) == Decimal(value).scaleb(exponent)
    if -(2**63) <= value < 2**63:
        assert mantissa(text, exponent) == value
    else:
        with pytest.raises(ValueError, match="does not fit 64 bits"):
            mantissa(text, exponent)


def test_all_instruments_of_a_recorded_exchange_info_are_exact() -> None:
    path = Path(os.environ.get("TICKPIPE_DATA", "")) / "binance/exchangeInfo.json.gz"
    if not path.is_file():
        pytest.skip("no recorded exchangeInfo: set TICKPIPE_DATA")
    text = gzip.decompress(path.read_bytes()).decode()
    info, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    traded = [item for item in info["symbols"] if item["status"] == "TRADING"]
    assert len(traded) > 1_000
    for item in traded:
        (row,) = instruments_from_exchange_info(info, [item["symbol"]])
        steps = {found["filterType"]: found for found in item["filters"]}
        assert decimal_string(int(row["tick"])) == decimal_string(mantissa(steps["PRICE_FILTER"]["tickSize"]))
        assert Decimal(int(row["minimum_lots"]) * int(row["lot"])).scaleb(-8) == Decimal(steps["LOT_SIZE"]["minQty"])
