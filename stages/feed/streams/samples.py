"""Samples of what could not be read, for the log: bounded in length and in number."""

import logging

SAMPLE_BYTES = 200
INTERVAL_NS = 10_000_000_000


class Samples:
    """Logs the first sample of each kind at once, then at most one per kind every ten seconds, with how many came."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._next_ns: dict[str, int] = {}
        self._silent: dict[str, int] = {}

    def show(self, now_ns: int, kind: str, what: str, payload: bytes) -> None:
        """A message of `kind` could not be used: `what` says why."""
        if now_ns < self._next_ns.get(kind, now_ns):
            self._silent[kind] = self._silent.get(kind, 0) + 1
            return
        self._next_ns[kind] = now_ns + INTERVAL_NS
        more = self._silent.pop(kind, 0)
        self._log.warning(
            "%s: %s%s; %d bytes: %r%s",
            kind,
            what,
            f" (and {more} before it)" if more else "",
            len(payload),
            payload[:SAMPLE_BYTES],
            "..." if len(payload) > SAMPLE_BYTES else "",
        )
