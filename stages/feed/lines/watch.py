"""What befalls the lines, in words: silence where there should be heartbeats at least, errors, full buffers."""

import logging
import os
import socket
from collections.abc import Sequence

import numpy as np

from stages.domain.lines import drop_count

log = logging.getLogger(__name__)

SILENCE_NS = 5_000_000_000
"""MoldUDP64 servers send a heartbeat every second when there is nothing else."""
LOOK_NS = 250_000_000


class LineWatch:
    """Looks at the sockets of lines and at the LINES record; says once what changes."""

    def __init__(self, names: Sequence[str], sockets: Sequence[socket.socket]) -> None:
        self._names, self._sockets = names, sockets
        self._datagrams = [0] * len(names)
        self._heard_ns = [0] * len(names)
        self._is_silent = [False] * len(names)
        self._drops, self._next_look_ns = 0, 0
        self._errors: set[tuple[int, int]] = set()

    def look(self, lines: np.void, now_ns: int) -> int:
        """Datagrams that the sockets have dropped so far."""
        if lines["error"]:
            self._tell_error(int(lines["error_line"]), int(lines["error"]))
            lines["error"] = 0
        if now_ns < self._next_look_ns:
            return self._drops
        self._next_look_ns = now_ns + LOOK_NS
        for line in range(len(self._names)):
            self._listen(line, int(lines["datagrams"][line]), now_ns)
        drops = sum(map(drop_count, self._sockets))
        if drops and not self._drops:
            log.warning("datagrams were lost because a socket's buffer was full; raise feed.socket_buffer_bytes")
        self._drops = drops
        return drops

    def _listen(self, line: int, datagrams: int, now_ns: int) -> None:
        if datagrams != self._datagrams[line] or not self._heard_ns[line]:
            if self._is_silent[line]:
                log.info("line %s is back", self._names[line])
            self._datagrams[line], self._heard_ns[line], self._is_silent[line] = datagrams, now_ns, False
        elif now_ns - self._heard_ns[line] > SILENCE_NS and not self._is_silent[line]:
            self._is_silent[line] = True
            log.warning("line %s has been silent for %d s", self._names[line], SILENCE_NS // 10**9)

    def _tell_error(self, line: int, error: int) -> None:
        if (line, error) not in self._errors:
            self._errors.add((line, error))
            name = self._names[line] if line < len(self._names) else "the request server"
            log.warning("cannot receive from %s: %s", name, os.strerror(error))
