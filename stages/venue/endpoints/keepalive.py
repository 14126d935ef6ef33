"""Server pings and the 5-messages-a-second rule (binance-spot-api-docs web-socket-streams.md, "WebSocket
limits")."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from stages.venue.endpoints.wire import Connection

POLICY_VIOLATION = 1008


async def ping_forever(connection: Connection, interval_s: float, timeout_s: float | None) -> None:
    """Ping at the interval; cut the client off when a ping stays unanswered for longer than the time-out.

    No time-out in a replay: a reader that is slow for whatever reason must not get a gap (replay rule (e)).
    """
    next_ping = time.monotonic() + interval_s
    while not connection.is_closing:
        deadline = next_ping
        oldest = connection.unanswered_since()
        if timeout_s is not None and oldest is not None:
            deadline = min(deadline, oldest + timeout_s)
        await asyncio.sleep(max(0.0, deadline - time.monotonic()))
        now = time.monotonic()
        oldest = connection.unanswered_since()
        if timeout_s is not None and oldest is not None and now >= oldest + timeout_s:
            connection.abort()
            return
        if now >= next_ping:
            connection.ping(now)
            next_ping = now + interval_s


class MessageBudget:
    """Counts a client's incoming messages (pings, pongs and requests alike) over the last second."""

    def __init__(self, per_second_max: int) -> None:
        self._times: deque[float] = deque(maxlen=per_second_max)

    def spend(self) -> bool:
        """Count one message; False when it is one too many."""
        now = time.monotonic()
        if len(self._times) == self._times.maxlen and now - self._times[0] < 1.0:
            return False
        self._times.append(now)
        return True
