"""The key that logs on: Ed25519, because only such a session needs no signature per order (binance.md 1.9)."""

import base64
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


@dataclass(frozen=True)
class Credentials:
    """An API key's name and its private key, which no text ever shows."""

    api_key: str
    private_key: Ed25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, api_key: str = "paper") -> "Credentials":
        """A key for one run against the paper exchange."""
        return cls(api_key, Ed25519PrivateKey.generate())

    def public_key_base64(self) -> str:
        """The 32 raw bytes of the public key in base64: what the paper exchange is configured with."""
        return base64.b64encode(self.private_key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode()

    def sign(self, params: dict[str, str]) -> str:
        """Signature in base64 over a WebSocket API request's params: sorted by name, `k=v&...`, not percent-encoded."""
        payload = "&".join(f"{name}={params[name]}" for name in sorted(params))
        return base64.b64encode(self.private_key.sign(payload.encode())).decode()
