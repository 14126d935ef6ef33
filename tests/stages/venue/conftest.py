"""One synthetic venue for all tests that do not need their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.stages.venue.venue_process import ApiClient, VenueProcess, running


@pytest.fixture(scope="package")
def venue() -> Iterator[VenueProcess]:
    with running(max_stream_messages_per_second_in=50, balances={"USDT": "100000", "BTC": "100"}) as process:
        yield process


@pytest.fixture
def api(venue: VenueProcess) -> Iterator[ApiClient]:
    """A logged-on session with user data; it leaves no open orders."""
    client = ApiClient(venue)
    assert client.call("userDataStream.subscribe")["result"] == {"subscriptionId": 0}
    yield client
    for symbol in ("BTCUSDT", "ETHUSDT"):
        client.trade("openOrders.cancelAll", symbol=symbol)
    client.close()
