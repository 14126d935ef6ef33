"""A router in private memory, cranked by hand; and the paper exchange as the real process it is."""

import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from shm.clock import calibrate, read_now_ns
from stages.agent import Attention
from stages.domain.edges import POSITION_TABLE, RISK_TO_ROUTER, ROUTER_TO_RISK
from stages.domain.messages import ORDER, POSITION, REPORT, OrderKind, OrderType, Origin, ReportKind, TimeInForce
from stages.router.agent import RouterAgent
from stages.router.credentials import Credentials
from stages.router.kernel import poll_once
from stages.router.settings import RouterSettings
from tests.stages.private_memory import PrivateSegments, attach, instruments

CLOCK = calibrate(0.01)
CREDENTIALS = Credentials.generate()
DEADLINE_S = 20.0


class Router:
    """The router stage, its poll and its service called in turn as the duty cycle does."""

    def __init__(
        self,
        url: str,
        capacities: dict[str, int] | None = None,
        *,
        journal: Path | None = None,
        after: "Router | None" = None,
        **settings: Any,
    ) -> None:
        """`after`: a router of the same run that was killed, whose rings this one takes over."""
        self.run_start_ms = after.run_start_ms if after else time.time_ns() // 1_000_000
        self.agent = RouterAgent(
            instruments(), RouterSettings(**settings), url, CREDENTIALS, self.run_start_ms, journal_folder=journal
        )
        self.segments = after.segments if after else PrivateSegments([self.agent], capacities)
        self.page = attach(self.agent, self.segments, CLOCK)
        self.attention = Attention()
        self.reports: list[np.void] = []
        self.seq = after.seq if after else 0
        self._serviced_ns = 0

    def start(self) -> "Router":
        self.agent.start(self.attention)
        self.until(lambda: self.agent.context.state[0]["fd"] >= 0)
        return self

    def turn(self, take_reports: bool = True) -> int:
        now_ns = int(read_now_ns(CLOCK))
        code = int(poll_once(self.agent.context, now_ns))
        if code < 0 or self.attention.word[0] or now_ns - self._serviced_ns > 20_000_000:
            self.attention.clear()
            self.agent.service(now_ns)
            self._serviced_ns = now_ns
        if take_reports:
            self.reports += self.segments.pop_all(ROUTER_TO_RISK, REPORT)
        return code

    def until(self, condition: Callable[[], Any]) -> None:
        """Crank until `condition` holds; fails after DEADLINE_S."""
        end = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < end, [self.show(report) for report in self.reports]
            self.turn()

    def order(self, order_id: int, side: int, price_ticks: int, lots: int, **fields: int) -> None:
        record = np.zeros(1, ORDER)
        self.seq += 1
        now_ns = int(read_now_ns(CLOCK))
        values: dict[str, int] = {
            "kind": OrderKind.NEW, "side": side, "order_type": OrderType.LIMIT, "time_in_force": TimeInForce.GTC,
            "origin": Origin.MARKET_DATA, "order_id": order_id, "price_ticks": price_ticks, "quantity_lots": lots,
            "read_ns": now_ns, "publish_ns": now_ns, "seq": self.seq,
        }  # fmt: skip
        for name, value in (values | fields).items():
            record[name] = value
        assert self.segments.push(RISK_TO_ROUTER, record)

    def cancel(self, order_id: int, **fields: int) -> None:
        self.order(order_id, 0, 0, 0, kind=OrderKind.CANCEL, **fields)

    def kinds(self, order_id: int) -> list[ReportKind]:
        return [ReportKind(int(r["kind"])) for r in self.reports if r["order_id"] == order_id]

    def final(self, order_id: int) -> np.void | None:
        return next((r for r in self.reports if r["order_id"] == order_id and r["final"]), None)

    def position(self, symbol: int) -> np.void:
        return self.segments.read_row(POSITION_TABLE, symbol, POSITION)

    def count(self, name: str) -> int:
        return int(self.page["counters"][name][0])

    @staticmethod
    def show(report: np.void) -> str:
        names = ("order_id", "reason", "cumulative_lots", "leaves_lots", "final", "venue_code")
        return f"{ReportKind(int(report['kind'])).name} " + " ".join(f"{name}={report[name]}" for name in names)

    def close(self) -> None:
        self.agent.close()

    def die(self) -> None:
        """As by SIGKILL: the connection is gone, nothing is written or said any more."""
        session = self.agent._session
        if session is not None:
            session.sock.close()


@contextmanager
def venue(port: int = 0, **settings: Any) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """The paper exchange in a process of its own; yields it and its port."""
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "stages.venue", "--notify-fd", str(write_end)],
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(write_end,),
    )
    os.close(write_end)
    try:
        assert process.stdin is not None
        configuration = {"port": port, "ed25519_public_key": CREDENTIALS.public_key_base64()} | settings
        process.stdin.write(json.dumps(configuration).encode())
        process.stdin.close()
        ready, _, _ = select.select([read_end], [], [], DEADLINE_S)
        assert ready, "the paper exchange did not say that it is ready"
        event = json.loads(os.read(read_end, 4_096).splitlines()[0])
        assert event["event"] == "ready", event
        yield process, int(event["port"])
    finally:
        process.kill()
        process.wait()
        os.close(read_end)


def url(port: int) -> str:
    return f"ws://127.0.0.1:{port}/ws-api/v3?returnRateLimits=false"
