"""Feed and book of ITCH over lines of datagrams, turned by hand; the datagrams go through real sockets on loopback."""

import contextlib
import socket
from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np

from pipeline.line.stepped import SteppedLine, pop
from stages.agent import Attention
from stages.book.settings import BookSettings
from stages.domain.edges import BBO_TABLE, BOOK_TO_STRATEGY, DEPTH_TABLE
from stages.domain.lines import open_sender, parse_address
from stages.domain.messages import BookState
from stages.feed.context import Format
from stages.feed.lines.agent import LinesAgent
from stages.feed.settings import FeedSettings
from tests.stages.domain.test_lines import free_port
from tests.stages.feed.stepped import instruments

MS = 1_000_000


class Lines(SteppedLine):
    """`send` sends a datagram over a line and turns the crank until it has been taken."""

    def __init__(
        self, *stocks: str, source: str = "itch", lines: int = 2, multicast: bool = False, **feed: Any
    ) -> None:
        host, interface = ("239.255.77.2", "?interface=127.0.0.1") if multicast else ("127.0.0.1", "")
        self.addresses = tuple(f"udp://{host}:{free_port()}{interface}" for _ in range(lines))
        feed = {"gap_window_messages": 64, "gap_timeout_ms": 100, "socket_buffer_bytes": 262_144} | feed
        self.table = instruments(*(stocks or ("STOCK1", "STOCK3")))
        super().__init__(
            self.table,
            delivery="conflate",
            stream_format=Format.ITCH if source == "itch" else Format.BINANCE,
            feed=FeedSettings(source=source, lines=self.addresses, **feed),  # type: ignore[arg-type]
            book=BookSettings(orders_max=1_000),
        )
        self.feed.context.state["descriptor"] = -1  # of memory, which stepped lines begin with
        self.senders = [open_sender(parse_address(address)) for address in self.addresses]
        self.feed.start(Attention())
        self.serve()
        self.notices: list[np.void] = []
        self.now_ns = 1
        self.rest()

    def _new_feed(self, table: Any, settings: FeedSettings, delivery: str, stream_format: Format) -> Any:
        return LinesAgent(table, settings)

    def restart_feed(self) -> None:
        """The feed was killed; one that knows only what is in shared memory takes its place."""
        self.feed.close()
        self.feed = self._new_feed(self.table, self.feed._settings, "", Format.ITCH)
        self._attach(self.feed)
        self.feed.start(Attention())
        self.serve()
        self.rest()

    def __enter__(self) -> "Lines":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: TracebackType | None) -> None:
        self.feed.close()
        for sender in self.senders:
            sender.close()

    def send(self, datagram: bytes, line: int = 0) -> None:
        self.senders[line].send(datagram)
        self.turn()

    def turn(self, later_ns: int = 0) -> None:
        """Until nothing moves any more, `later_ns` after the last time."""
        self.now_ns += later_ns
        idle = 0
        while idle < 3:
            moved = [self.step_feed(), self.step_book()]
            while pop(self.segments[BOOK_TO_STRATEGY].address, self.notice.ctypes.data):
                self.notices.append(self.notice[0].copy())
                moved.append(1)
            idle = 0 if any(moved) else idle + 1
        self.serve()

    def count(self, name: str) -> int:
        return int(self.counters("feed")[name])

    def state(self, symbol: int = 0) -> BookState:
        return BookState(int(self.row(BBO_TABLE, symbol)[1]["state"]))

    def levels(self, symbol: int, side: str) -> list[tuple[int, int]]:
        """(price, quantity) as the depth table shows them."""
        depth = self.row(DEPTH_TABLE, symbol)[1]
        shown = int(depth[f"{side}_levels"])
        return list(zip(depth[f"{side}_price"].tolist(), depth[f"{side}_quantity"].tolist(), strict=True))[:shown]


@contextlib.contextmanager
def bound() -> Iterator[tuple[socket.socket, str]]:
    """A socket on loopback, and its address as a setting."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        sock.setblocking(False)
        yield sock, f"udp://127.0.0.1:{sock.getsockname()[1]}"
