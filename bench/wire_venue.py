"""The far end of the wire benchmark: just enough of Binance Spot for a pipeline to connect, synchronise and log on.

Handshakes and REST are ordinary Python; once both connections stand, the benchmark drives the raw sockets itself.
"""

import base64
import hashlib
import json
import queue
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import simplejson

SYMBOL = "BTCUSDT"
FIRST_ID = 1000
_ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3

EXCHANGE_INFO = {
    "timezone": "UTC",
    "serverTime": 0,
    "rateLimits": [],
    "exchangeFilters": [],
    "symbols": [
        {
            "symbol": SYMBOL,
            "status": "TRADING",
            "baseAsset": "BTC",
            "quoteAsset": "USDT",
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": "0.01", "maxPrice": "1000000.00", "tickSize": "0.01"},
                {"filterType": "LOT_SIZE", "minQty": "0.00001", "maxQty": "9000.0", "stepSize": "0.00001"},
                {"filterType": "NOTIONAL", "minNotional": "5.0"},
            ],
        }
    ],
}


def snapshot() -> dict[str, Any]:
    """A book of 1,000 levels a side around 60,000."""
    levels = range(1, 1001)
    return {
        "lastUpdateId": FIRST_ID,
        "bids": [[f"{60000 - step / 100:.8f}", "1.00000000"] for step in levels],
        "asks": [[f"{60000 + step / 100:.8f}", "1.00000000"] for step in levels],
    }


class _Server(ThreadingHTTPServer):
    """Leaves upgraded connections open when their handler returns."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.upgraded: set[socket.socket] = set()

    def shutdown_request(self, request: Any) -> None:
        if request not in self.upgraded:
            super().shutdown_request(request)


class WireVenue:
    """Listens on loopback; `market` and `orders` deliver the upgraded sockets, in order of connection."""

    def __init__(self) -> None:
        self.market: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self.orders: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        venue = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.headers.get("Upgrade", "").lower() == "websocket":
                    venue._upgrade(self)
                    return
                body = json.dumps(snapshot() if "/depth" in self.path else EXCHANGE_INFO).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def _upgrade(self, handler: BaseHTTPRequestHandler) -> None:
        key = handler.headers["Sec-WebSocket-Key"] + _ACCEPT_GUID
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        handler.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        handler.wfile.flush()
        handler.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handler.close_connection = True
        self._server.upgraded.add(handler.connection)
        (self.orders if "ws-api" in handler.path else self.market).put(handler.connection)

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


def text_frame(text: str) -> bytes:
    """An unmasked server text frame."""
    payload = text.encode()
    if len(payload) < 126:
        return bytes([0x81, len(payload)]) + payload
    return bytes([0x81, 126]) + len(payload).to_bytes(2, "big") + payload


def client_frame_text(frame: bytes) -> str:
    """The text of one complete masked client frame of up to 64 KiB."""
    length, at = frame[1] & 127, 2
    if length == 126:
        length, at = int.from_bytes(frame[2:4], "big"), 4
    mask, payload = frame[at : at + 4], frame[at + 4 : at + 4 + length]
    return bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload)).decode()


def read_client_frame(connection: socket.socket) -> str:
    """Read exactly one masked client frame, blocking."""
    head = connection.recv(2, socket.MSG_WAITALL)
    if len(head) < 2:
        raise ConnectionError("the pipeline closed its order connection")
    extended = connection.recv(2, socket.MSG_WAITALL) if head[1] & 127 == 126 else b""
    length = int.from_bytes(extended, "big") if extended else head[1] & 127
    rest = connection.recv(4 + length, socket.MSG_WAITALL)
    return client_frame_text(head + extended + rest)


def log_on(connection: socket.socket) -> None:
    """Answer session.logon and what follows until the user data stream is subscribed."""
    while True:
        request = simplejson.loads(read_client_frame(connection))
        result: dict[str, Any] = {"subscriptionId": 0} if request["method"].startswith("userDataStream") else {}
        connection.sendall(text_frame(json.dumps({"id": request["id"], "status": 200, "result": result})))
        if request["method"].startswith("userDataStream"):
            return
