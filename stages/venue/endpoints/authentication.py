"""Who may do what: API key, signature and timing of signed requests (binance.md 1.8)."""

from __future__ import annotations

import re
import time

from stages.venue import errors
from stages.venue.endpoints.params import Params
from stages.venue.endpoints.signing import KeyType, Verifier
from stages.venue.settings import VenueSettings

_API_KEY = re.compile(r"^[A-Za-z0-9_-]{1,64}$")
AHEAD_MAX_US = 1_000_000


class Authenticator:
    """Checks requests of the one account."""

    def __init__(self, settings: VenueSettings) -> None:
        self._api_key = settings.api_key
        self._verifier = Verifier(settings.ed25519_public_key, settings.hmac_secret)

    def check_api_key(self, api_key: str | None) -> None:
        """-2014 when there is none or it cannot be one, -2015 when it is not ours."""
        if api_key is None or not _API_KEY.match(api_key):
            raise errors.bad_api_key_format()
        if api_key != self._api_key:
            raise errors.rejected_api_key()

    def check_signature(self, payload: str, signature: str | None) -> KeyType:
        if not signature:
            raise errors.missing("signature")
        key_type = self._verifier.verify(payload, signature)
        if key_type is None:
            raise errors.bad_signature()
        return key_type

    def check_time(self, params: Params) -> None:
        """-1021 unless timestamp < server time + 1 s and server time - timestamp <= recvWindow."""
        timestamp_us, window_us = params.timestamp_us(), params.recv_window_us()
        now_us = time.time_ns() // 1000
        if timestamp_us >= now_us + AHEAD_MAX_US:
            raise errors.ahead_of_server()
        if now_us - timestamp_us > window_us:
            raise errors.outside_recv_window()
