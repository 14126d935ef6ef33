"""Signatures against Binance's published example values (recomputed facts, binance.md 1.8)."""

from __future__ import annotations

import pytest

from stages.venue.endpoints.signing import KeyType, Verifier, hmac_signature, rest_payload, websocket_payload
from stages.venue.errors import VenueConfigurationError
from tests.stages.venue.venue_process import PRIVATE_KEY, PUBLIC_KEY, SECRET, ed25519_base64, hmac_hex

EXAMPLE_SECRET = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
REST = "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
REST_SIGNATURE = "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71"
NON_ASCII = (
    "symbol=%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96&side=BUY&type=LIMIT&timeInForce=GTC"
    "&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559"
)
NON_ASCII_SIGNATURE = "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3"
WEBSOCKET = {
    "symbol": "BTCUSDT",
    "side": "SELL",
    "type": "LIMIT",
    "timeInForce": "GTC",
    "quantity": "0.01000000",
    "price": "52000.00",
    "recvWindow": "100",
    "timestamp": "1645423376532",
    "apiKey": "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
    "signature": "to be left out",
}
WEBSOCKET_SIGNATURE = "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24"


@pytest.mark.parametrize(("payload", "signature"), [(REST, REST_SIGNATURE), (NON_ASCII, NON_ASCII_SIGNATURE)])
def test_rest_hmac_has_the_published_value(payload: str, signature: str) -> None:
    assert hmac_signature(EXAMPLE_SECRET, payload) == signature
    assert Verifier("", EXAMPLE_SECRET).verify(payload, signature.upper()) is KeyType.HMAC


def test_websocket_hmac_has_the_published_value() -> None:
    assert hmac_signature(EXAMPLE_SECRET, websocket_payload(WEBSOCKET)) == WEBSOCKET_SIGNATURE


@pytest.mark.parametrize(
    ("query", "body", "payload"),
    [
        ("a=1&b=2&signature=s%3D", "", "a=1&b=2"),
        ("signature=s%3D&a=1&b=2", "", "a=1&b=2"),
        ("a=1&signature=s%3D&b=2", "", "a=1&b=2"),
        ("a=1", "b=2&signature=s%3D", "a=1b=2"),
        ("", "a=%2B1&signature=s%3D", "a=%2B1"),
    ],
)
def test_a_rest_payload_is_query_then_body_as_sent(query: str, body: str, payload: str) -> None:
    assert rest_payload(query, body) == (payload, "s=")


def test_an_ed25519_signature_is_told_from_an_hmac_one() -> None:
    verifier = Verifier(PUBLIC_KEY, SECRET)
    assert verifier.verify("x=1", ed25519_base64("x=1")) is KeyType.ED25519
    assert verifier.verify("x=1", hmac_hex("x=1")) is KeyType.HMAC
    for forged in (ed25519_base64("x=2"), hmac_hex("x=2"), "", "ä", "A" * 88):
        assert verifier.verify("x=1", forged) is None


def test_a_public_key_may_be_pem() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    pem = PRIVATE_KEY.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    assert Verifier(pem, "").verify("x", ed25519_base64("x")) is KeyType.ED25519
    with pytest.raises(VenueConfigurationError, match="ed25519_public_key"):
        Verifier("not a key", "")
