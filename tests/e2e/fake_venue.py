"""A venue that misbehaves on command: Binance Spot for one symbol, as far as a pipeline needs it to start and trade.

It keeps a book of its own, so that a test can compare; every byte of a market connection is the test's to send.
Orders are acknowledged and expire at once.
"""

import base64
import hashlib
import json
import queue
import socket
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from bench.wire_venue import EXCHANGE_INFO, SYMBOL, log_on, read_client_frame, text_frame

_ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
DATA_TIMEOUT_S = 30.0


def frame(payload: bytes, opcode: int = 1, *, final: bool = True, reserved: int = 0) -> bytes:
    """An unmasked frame, for better or worse."""
    first = (0x80 if final else 0) | reserved << 4 | opcode
    if len(payload) < 126:
        return bytes([first, len(payload)]) + payload
    return bytes([first, 126]) + len(payload).to_bytes(2, "big") + payload


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def shutdown_request(self, request: Any) -> None:
        """Close our descriptor only: an upgraded connection lives on in its copy."""
        self.close_request(request)


class FakeVenue:
    """Holds a loopback port from the beginning, and answers nothing there until `open`.

    `market` delivers market connections in order; `orders` the parameters of every order that came in; a test sends
    on the newest order connection, `order_line`, what it likes.
    """

    def __init__(self, *, refused_upgrades: int = 0) -> None:
        self.refused_upgrades = refused_upgrades
        """WebSocket handshakes still to be answered by 503."""
        self.market: queue.SimpleQueue[socket.socket] = queue.SimpleQueue()
        self.orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self.order_line: socket.socket | None = None
        self.bids = {f"{60000 - step / 100:.8f}": "1.00000000" for step in range(1, 101)}
        self.asks = {f"{60001 + step / 100:.8f}": "1.00000000" for step in range(1, 101)}
        self.last_id = 1000
        self._lock = threading.Lock()
        self._connections: list[socket.socket] = []
        self._server = _Server(("127.0.0.1", 0), self._handler(), bind_and_activate=False)
        self._server.server_bind()  # bound and not listening: connecting is refused, and the port is nobody else's
        self.port = int(self._server.server_address[1])
        self._is_open = False

    def __enter__(self) -> "FakeVenue":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_open:
            self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            connection.close()

    def open(self) -> "FakeVenue":
        """From now on it answers."""
        self._is_open = True
        self._server.server_activate()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def settings(self) -> list[str]:
        """Arguments of `pipeline up` that make this the venue."""
        place = f"127.0.0.1:{self.port}"
        values = (
            'market.venue="binance"', f'market.symbols=["{SYMBOL}"]', f'market.rest_url="http://{place}"',
            f'market.stream_url="ws://{place}"', f'market.order_url="ws://{place}/ws-api/v3"',
            "risk.order_rate_max=10000", "feed.reconnect_min_ms=20", "feed.reconnect_max_ms=50",
        )  # fmt: skip
        return [argument for value in values for argument in ("-s", value)]

    def diff(self, bids: dict[str, str], asks: dict[str, str] | None = None) -> bytes:
        """The text of the next depth update, which the venue's own book has taken already."""
        with self._lock:
            first, self.last_id = self.last_id + 1, self.last_id + 3
            for side, changes in ((self.bids, bids), (self.asks, asks or {})):
                for price, quantity in changes.items():
                    if float(quantity):
                        side[price] = quantity
                    else:
                        side.pop(price, None)
            return depth_update(first, self.last_id, list(bids.items()), list((asks or {}).items()))

    def best(self) -> dict[str, Any]:
        """Of its own book: what `books` of the report must say."""
        bid, ask = max(self.bids, key=float), min(self.asks, key=float)
        return {
            "bid": float(bid), "bid_qty": float(self.bids[bid]), "ask": float(ask), "ask_qty": float(self.asks[ask]),
            "bid_levels": len(self.bids), "ask_levels": len(self.asks), "last_update_id": self.last_id,
        }  # fmt: skip

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        venue = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                if self.headers.get("Upgrade", "").lower() == "websocket":
                    venue._upgrade(self)
                    return
                body = json.dumps(venue._snapshot() if "/depth" in self.path else EXCHANGE_INFO).encode()
                self._answer(200, body)

            def _answer(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _snapshot(self) -> dict[str, Any]:
        with self._lock:
            return {"lastUpdateId": self.last_id, "bids": [*self.bids.items()], "asks": [*self.asks.items()]}

    def _upgrade(self, handler: Any) -> None:
        if self.refused_upgrades > 0:
            self.refused_upgrades -= 1
            handler._answer(503, b"not yet")
            return
        key = handler.headers["Sec-WebSocket-Key"] + _ACCEPT_GUID
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        handler.wfile.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
        )
        handler.wfile.flush()
        own = socket.socket(fileno=socket.dup(handler.connection.fileno()))
        own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        own.settimeout(DATA_TIMEOUT_S)
        handler.close_connection = True
        self._connections.append(own)
        if "ws-api" in handler.path:
            threading.Thread(target=self._take_orders, args=(own,), daemon=True).start()
        else:
            self.market.put(own)

    def _take_orders(self, line: socket.socket) -> None:
        line.settimeout(None)
        with suppress(OSError):  # its other end has gone
            log_on(line)
            self.order_line = line
            while True:
                text = read_client_frame(line)
                if '"order.place"' in text:  # no pong, no other request
                    request = json.loads(text)
                    line.sendall(_ack_and_expiry(request))
                    self.orders.put(request["params"])


def depth_update(first: int, last: int, bids: list[Any], asks: list[Any], symbol: str = SYMBOL) -> bytes:
    """The text of a depth update in its combined-stream wrapper."""
    data = {"e": "depthUpdate", "E": time.time_ns() // 10**6, "s": symbol, "U": first, "u": last, "b": bids, "a": asks}
    return json.dumps({"stream": f"{symbol.lower()}@depth@100ms", "data": data}, separators=(",", ":")).encode()


def _ack_and_expiry(request: dict[str, Any]) -> bytes:
    order, now_ms = request["params"], time.time_ns() // 10**6
    result = {
        "symbol": SYMBOL, "orderId": now_ms, "orderListId": -1, "clientOrderId": order["newClientOrderId"],
        "transactTime": now_ms,
    }  # fmt: skip
    report = {
        "e": "executionReport", "E": now_ms, "s": SYMBOL, "c": order["newClientOrderId"], "S": order["side"],
        "o": "LIMIT", "f": "IOC", "q": order["quantity"], "p": order["price"], "P": "0.00000000", "F": "0.00000000",
        "g": -1, "C": "", "x": "EXPIRED", "X": "EXPIRED", "r": "NONE", "i": now_ms, "l": "0.00000000",
        "z": "0.00000000", "L": "0.00000000", "n": "0", "N": None, "T": now_ms, "t": -1, "I": now_ms, "w": False,
        "m": False, "M": False, "O": now_ms, "Z": "0.00000000", "Y": "0.00000000", "Q": "0.00000000", "W": now_ms,
        "V": "NONE",
    }  # fmt: skip
    answers = [{"id": request["id"], "status": 200, "result": result}, {"subscriptionId": 0, "event": report}]
    return b"".join(text_frame(json.dumps(answer, separators=(",", ":"))) for answer in answers)
