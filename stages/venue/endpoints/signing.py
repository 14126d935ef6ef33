"""Checking signatures (binance.md 1.8; binance-spot-api-docs rest-api.md and web-socket-api.md, SIGNED).

REST signs the query string followed by the body, as sent, percent-encoded, without the signature parameter. The
WebSocket API signs all params except the signature, sorted by name, `name=value` joined by `&`, as they are.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from enum import Enum
from urllib.parse import unquote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from stages.venue.errors import VenueConfigurationError

_SIGNATURE = re.compile(r"(?:^|&)signature=([^&]*)")


class KeyType(Enum):
    HMAC = "HMAC"
    ED25519 = "ED25519"


def hmac_signature(secret: str, payload: str) -> str:
    """Hex HMAC-SHA256 of the payload."""
    return hmac.new(secret.encode(), payload.encode(), hashlib.sha256).hexdigest()


def rest_payload(query: str, body: str) -> tuple[str, str | None]:
    """(what was signed, the signature) of a REST request; the signature is None when there is none.

    The payload is the query string and the body one after the other, without a separator (rest-api.md, mixed
    example). The signature may stand anywhere; the rest is taken as sent.
    """
    signature: str | None = None
    parts = []
    for part in (query, body):
        found = _SIGNATURE.search(part)
        if found is not None:
            signature = unquote(found.group(1))
            part = part[: found.start()] + part[found.end() :]
            part = part.removeprefix("&") if not part[: found.start()] else part
        parts.append(part)
    return "".join(parts), signature


def websocket_payload(params: Mapping[str, str]) -> str:
    """What a WebSocket API request signs."""
    return "&".join(f"{name}={params[name]}" for name in sorted(params) if name != "signature")


class Verifier:
    """The keys of the one account."""

    def __init__(self, ed25519_public_key: str, hmac_secret: str) -> None:
        self._secret = hmac_secret
        self._public_key = _load(ed25519_public_key) if ed25519_public_key else None

    def verify(self, payload: str, signature: str) -> KeyType | None:
        """The kind of key that made `signature` over `payload`; None when neither did."""
        if self._secret and hmac.compare_digest(
            hmac_signature(self._secret, payload).encode(), signature.lower().encode()
        ):
            return KeyType.HMAC
        if self._public_key is not None:
            try:
                self._public_key.verify(base64.b64decode(signature, validate=True), payload.encode())
            except (InvalidSignature, binascii.Error, ValueError):
                return None
            return KeyType.ED25519
        return None


def _load(text: str) -> Ed25519PublicKey:
    hint = "give ed25519_public_key as base64 of the 32 raw bytes, or as PEM"
    try:
        if text.lstrip().startswith("-----BEGIN"):
            key = load_pem_public_key(text.encode())
            if not isinstance(key, Ed25519PublicKey):
                raise VenueConfigurationError("ed25519_public_key: PEM of another kind of key", hint)
            return key
        return Ed25519PublicKey.from_public_bytes(base64.b64decode(text, validate=True))
    except (ValueError, binascii.Error) as error:
        raise VenueConfigurationError(f"ed25519_public_key cannot be read: {error}", hint) from error
