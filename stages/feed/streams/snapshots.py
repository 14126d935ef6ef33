"""Depth snapshots by REST: when to ask for which, within the venue's weight limit, and the request itself.

Several symbols may lose their books at once, so all share one budget: requests whose weights sum up to the limit in any
60 seconds (a sliding window: a bucket that refills would allow nearly twice the limit across a boundary).
"""

import time
from collections import deque
from dataclasses import dataclass, field

import urllib3

SNAPSHOT_BYTES_MAX = 2_000_000
"""5000 levels per side take about 340,000."""
WINDOW_NS = 60_000_000_000
RETRY_MIN_NS = 100_000_000
RETRY_MAX_NS = 10_000_000_000
_WEIGHTS = ((100, 5), (500, 25), (1_000, 50), (5_000, 250))


class SnapshotError(Exception):
    """The venue gave no snapshot. `retry_after_ns` is how long it told us to stay away, 0 when it did not."""

    def __init__(self, message: str, retry_after_ns: int = 0) -> None:
        super().__init__(message)
        self.retry_after_ns = retry_after_ns


@dataclass(frozen=True)
class Snapshot:
    """A depth reply, not yet parsed."""

    symbol: int
    generation: int
    body: bytes
    read_ns: int


def weight_of(levels: int) -> int:
    """Request weight of a depth snapshot with `levels` per side (binance.md 1.5)."""
    return next(weight for limit, weight in _WEIGHTS if levels <= limit)


class WeightBudget:
    """At most `limit` weight in any window of 60 s."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._spent: deque[tuple[int, int]] = deque()
        self._total = 0
        self._blocked_until_ns = 0

    def try_spend(self, weight: int, now_ns: int) -> bool:
        """Take `weight` if the window has room for it."""
        while self._spent and self._spent[0][0] <= now_ns - WINDOW_NS:
            self._total -= self._spent.popleft()[1]
        if now_ns < self._blocked_until_ns or self._total + weight > self._limit:
            return False
        self._spent.append((now_ns, weight))
        self._total += weight
        return True

    def block(self, until_ns: int) -> None:
        """Spend nothing before `until_ns` (Retry-After)."""
        self._blocked_until_ns = max(self._blocked_until_ns, until_ns)


@dataclass
class Backoff:
    """A pause that doubles with each failure."""

    min_ns: int = RETRY_MIN_NS
    max_ns: int = RETRY_MAX_NS
    failures: int = field(default=0, init=False)
    not_before_ns: int = field(default=0, init=False)

    def fail(self, now_ns: int) -> int:
        """Note a failure; returns the pause in ns."""
        pause_ns = min(self.min_ns << min(self.failures, 40), self.max_ns)
        self.failures += 1
        self.not_before_ns = now_ns + pause_ns
        return pause_ns

    def succeed(self) -> None:
        self.failures = self.not_before_ns = 0


def new_pool() -> urllib3.PoolManager:
    """Connections to the venue's REST endpoint, kept open; used by helper threads only."""
    return urllib3.PoolManager(num_pools=2, maxsize=4, retries=False)


def fetch(
    pool: urllib3.PoolManager, url: str, name: str, symbol: int, generation: int, levels: int, timeout_s: float | None
) -> Snapshot:
    """Ask for a snapshot and wait for it (`timeout_s` None: as long as it takes). Raises SnapshotError."""
    try:
        response = pool.request(
            "GET",
            f"{url}/api/v3/depth",
            fields={"symbol": name, "limit": str(levels)},
            timeout=urllib3.Timeout(connect=timeout_s or 10.0, read=timeout_s),
            preload_content=False,
        )
        try:
            body = response.read(SNAPSHOT_BYTES_MAX + 1)
            response.drain_conn()
        finally:
            response.release_conn()
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise SnapshotError(f"depth snapshot of {name} from {url}: {error}") from error
    if response.status != 200:
        seconds = response.headers.get("Retry-After", "0")
        retry_after_ns = int(seconds) * 1_000_000_000 if seconds.isdecimal() else 0
        raise SnapshotError(
            f"depth snapshot of {name} from {url}: HTTP {response.status}: {body[:120]!r}", retry_after_ns
        )
    if len(body) > SNAPSHOT_BYTES_MAX:
        raise SnapshotError(f"depth snapshot of {name} from {url}: more than {SNAPSHOT_BYTES_MAX} bytes")
    return Snapshot(symbol, generation, body.strip(), time.monotonic_ns())
