"""Bytes on the sockets: compact JSON, WebSocket frames (RFC 6455 5.2, server to client: unmasked), connections.

aiohttp does the handshakes, reads requests and frames, and answers close frames. Outgoing frames are written by
us, straight to the transport: writing is then a plain call (an execution report leaves in the very call that
caused it), and a replay can put many frames into one write. TCP_NODELAY is set by aiohttp on every connection.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

from aiohttp import ClientError, web

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA
_connection_numbers = itertools.count(1)
_encoder = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)


def to_json(value: Any) -> bytes:
    """Compact JSON as Binance sends it: no spaces, keys in the order given."""
    return _encoder.encode(value).encode()


def frame(payload: bytes, opcode: int = TEXT) -> bytes:
    """One unmasked, final WebSocket frame."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 65536:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload


def wrapped(stream: str, payload: bytes) -> bytes:
    """The combined-stream form of a payload."""
    return b'{"stream":"%s","data":%s}' % (stream.encode(), payload)


class Connection:
    """One WebSocket client. All writes are whole frames and never wait; `drain` is for who must not run ahead."""

    def __init__(self, request: web.Request, socket: web.WebSocketResponse, buffer_limit_bytes: int | None) -> None:
        assert request.transport is not None, "connection lost before it was made"
        self.number = next(_connection_numbers)
        self.opened_ms = time.time_ns() // 1_000_000
        self.stream_messages = 0
        self.streams: dict[str, None] = {}
        self.combined = False
        self._socket = socket
        self._protocol = request.protocol
        self._transport: asyncio.Transport = request.transport
        self._buffer_limit_bytes = buffer_limit_bytes
        self._pings: dict[bytes, float] = {}
        self._ping_number = 0

    @property
    def is_closing(self) -> bool:
        return self._transport.is_closing() or self._socket.closed

    def send_text(self, payload: bytes) -> None:
        self.write(frame(payload))

    def write(self, frames: bytes) -> None:
        """Write whole frames. A client that lets more than the limit pile up is cut off."""
        if self._transport.is_closing():
            return
        self._transport.write(frames)
        limit = self._buffer_limit_bytes
        if limit is not None and self._transport.get_write_buffer_size() > limit:
            self._transport.abort()

    async def drain(self) -> None:
        """Wait until the socket has taken enough (back-pressure by TCP)."""
        try:
            # aiohttp has no public call for this; its own senders end in this one.
            await self._protocol._drain_helper()
        except (ConnectionError, ClientError):  # it has gone: nothing to wait for
            return

    async def drain_all(self) -> None:
        """Wait until the kernel has taken every byte."""
        if not self._transport.is_closing():
            self._transport.set_write_buffer_limits(high=0)
            await self.drain()

    async def close(self, code: int, reason: str) -> None:
        await self._socket.close(code=code, message=reason.encode())

    def abort(self) -> None:
        self._transport.abort()

    def ping(self, now: float) -> None:
        self._ping_number += 1
        payload = b"%d" % (time.time_ns() // 1_000_000 * 1000 + self._ping_number % 1000)
        self._pings[payload] = now
        self.write(frame(payload, PING))

    def on_ping(self, payload: bytes) -> None:
        self.write(frame(payload, PONG))

    def on_pong(self, payload: bytes) -> None:
        """Only a pong that copies a ping's payload counts; it answers the older pings too."""
        if payload in self._pings:
            answered = self._pings[payload]
            self._pings = {key: sent for key, sent in self._pings.items() if sent > answered}

    def unanswered_since(self) -> float | None:
        """When the oldest unanswered ping was sent."""
        return min(self._pings.values(), default=None)
