"""The cold side of synchronisation: asks for the snapshots that the kernel wants, and hands them over one at a time."""

import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from stages.domain.codecs.binance_market import UNRECOGNISED
from stages.feed.context import ASKED, NO_SYMBOL, NOT_ASKED, OVERTAKEN, TAKEN, TOO_OLD, UNSYNCED, WANTED, Context
from stages.feed.settings import FeedSettings
from stages.feed.streams import patient_parser
from stages.feed.streams.guarded import Guarded
from stages.feed.streams.samples import Samples
from stages.feed.streams.snapshots import (
    SNAPSHOT_BYTES_MAX,
    Backoff,
    Snapshot,
    SnapshotError,
    WeightBudget,
    fetch,
    new_pool,
    weight_of,
)
from stages.helper import Result

log = logging.getLogger(__name__)

FIRST_DIFF_PATIENCE_NS = 1_000_000_000
"""A symbol without a diff for this long is asked for without waiting for one: it may be quiet for hours."""

UNLIMITED = 2**62
"""Weight that a replay may spend: its venue holds at each gap, but not for ever, until a snapshot is asked for."""

Submit = Callable[[int, str, Callable[[], Any]], None]
"""submit(symbol, tag, job): run `job` on a helper thread."""


class SnapshotDesk:
    """Snapshots of all symbols: wanted by the kernel, asked for within the weight limit, brought, concluded.

    timeout_s   None: in a replay, as long as it takes, and as often
    """

    def __init__(
        self, context: Context, names: Sequence[str], settings: FeedSettings, rest_url: str, timeout_s: float | None
    ) -> None:
        self.context = context
        self._names, self._levels = names, settings.snapshot_levels
        self._rest_url, self._timeout_s = rest_url, timeout_s
        self._budget = WeightBudget(settings.rest_weight_per_minute if timeout_s is not None else UNLIMITED)
        self._retries = [Backoff() for _ in names]
        self._arrived: deque[Snapshot] = deque()
        self._taking: Snapshot | None = None
        self._pool = new_pool()
        self._samples = Samples(log)
        self._memory = Guarded(SNAPSHOT_BYTES_MAX)
        state = context.state[0]
        state["snapshot_at"], state["snapshot_symbol"] = self._memory.address, NO_SYMBOL

    def request(self, now_ns: int, connected_ns: int, submit: Submit) -> None:
        """Ask for what is wanted, as weight and back-off allow; the streams are connected since `connected_ns`."""
        sync = self.context.sync
        if now_ns - connected_ns > FIRST_DIFF_PATIENCE_NS:
            sync["snapshot_state"][(sync["status"] == UNSYNCED) & (sync["snapshot_state"] == NOT_ASKED)] = WANTED
        for symbol in np.flatnonzero(sync["snapshot_state"] == WANTED).tolist():
            if now_ns < self._retries[symbol].not_before_ns:
                continue
            if not self._budget.try_spend(weight_of(self._levels), now_ns):
                return
            sync[symbol]["snapshot_state"] = ASKED
            self.context.counters[0]["snapshots"] += 1
            submit(symbol, str(symbol), self._job(symbol, int(sync[symbol]["generation"])))

    def _job(self, symbol: int, generation: int) -> Callable[[], Snapshot]:
        name = self._names[symbol]
        return lambda: fetch(self._pool, self._rest_url, name, symbol, generation, self._levels, self._timeout_s)

    def take_result(self, result: Result, now_ns: int) -> None:
        """What became of a request."""
        if result.error is None:
            self._arrived.append(result.value)
            return
        if isinstance(result.error, SnapshotError) and result.error.retry_after_ns:
            self._budget.block(now_ns + result.error.retry_after_ns)
        self._retry(int(result.tag), str(result.error), now_ns)

    def offer(self, symbol: int, body: bytes) -> None:
        """Hand in a depth reply as if it had just been fetched: stepped runs and tests."""
        generation = int(self.context.sync[symbol]["generation"])
        self._arrived.append(Snapshot(symbol, generation, body.strip(), time.monotonic_ns()))
        self.hand_over()

    def hand_over(self) -> None:
        """Give the kernel the oldest snapshot that is still wanted, when it has none."""
        state = self.context.state[0]
        while self._arrived and self._taking is None:
            snapshot = self._arrived.popleft()
            sync = self.context.sync[snapshot.symbol]
            if sync["generation"] != snapshot.generation or sync["status"] != UNSYNCED:
                continue  # sync was lost again while it was on its way; another is asked for
            self._memory.place(snapshot.body)
            state["snapshot_bytes"], state["snapshot_read_ns"] = len(snapshot.body), snapshot.read_ns
            state["snapshot_symbol"] = snapshot.symbol
            self._taking = snapshot

    def conclude(self, now_ns: int) -> None:
        """Look at what the kernel did with the snapshot it was given."""
        state = self.context.state[0]
        if self._taking is None or not state["snapshot_code"]:
            return
        snapshot, self._taking = self._taking, None
        code, state["snapshot_code"] = int(state["snapshot_code"]), 0
        name = self._names[snapshot.symbol]
        if code == TAKEN:
            self._retries[snapshot.symbol].succeed()
            log.info("%s: book synchronised from a snapshot of %d bytes", name, len(snapshot.body))
        elif code == UNRECOGNISED:
            self._rewrite(snapshot, now_ns)
        elif code != OVERTAKEN:
            why = "older than the first diff held" if code == TOO_OLD else f"not usable, code {code}"
            self._retry(snapshot.symbol, f"depth snapshot of {name}: {why}", now_ns)

    def _rewrite(self, snapshot: Snapshot, now_ns: int) -> None:
        """A snapshot that is not written as the venue writes it: once more, in canonical form."""
        why = "the canonical form is not usable either"
        try:
            body = patient_parser.rewrite_snapshot(snapshot.body)
        except patient_parser.MalformedMessageError as error:
            body, why = snapshot.body, str(error)
        if body != snapshot.body and len(body) <= SNAPSHOT_BYTES_MAX:
            self._arrived.appendleft(Snapshot(snapshot.symbol, snapshot.generation, body, snapshot.read_ns))
            return
        self.context.counters[0]["malformed"] += 1
        self._samples.show(now_ns, "malformed snapshot", why, snapshot.body)
        self._retry(snapshot.symbol, f"depth snapshot of {self._names[snapshot.symbol]}: malformed", now_ns)

    def _retry(self, symbol: int, why: str, now_ns: int) -> None:
        self.context.counters[0]["snapshot_failures"] += 1
        pause_ns = self._retries[symbol].fail(now_ns)
        log.warning("%s; asking again in %.1f s", why, pause_ns / 1e9)
        sync = self.context.sync[symbol]
        if sync["status"] == UNSYNCED:
            sync["snapshot_state"] = WANTED
