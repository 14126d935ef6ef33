"""Missing messages are asked for at a MoldUDP64 request server: exactly those of the first hole."""

import logging
import socket

import numpy as np

from stages.domain.codecs import moldudp64
from stages.domain.codecs.arbitration import SLOT_BYTES, Arbiter

log = logging.getLogger(__name__)

REQUEST_MESSAGES_MAX = 8_192
"""Most of one request: its answer, of some 300 KB, fits a receive buffer."""


class RequestDesk:
    """Asks for what `arbiter` lacks, from `server`; the answers arrive at its own socket."""

    def __init__(self, arbiter: Arbiter, server: socket.socket, name: str) -> None:
        self._arbiter, self._server, self._name = arbiter, server, name
        self._is_refused = False

    def hole(self) -> tuple[int, int]:
        """(first sequence number that is missing, how many are missing from it on)."""
        words = self._arbiter.words[0]
        expected, slots = int(words["expected"]), int(words["slots"])
        end = min(int(words["known_end"]), expected + slots, expected + REQUEST_MESSAGES_MAX)
        following = np.arange(expected, end)
        tags = self._arbiter.window.reshape(slots, SLOT_BYTES // 8)[following & (slots - 1), 0]
        held = np.flatnonzero(tags == following + 1)
        return expected, int(held[0]) if len(held) else len(following)

    def ask(self) -> bool:
        """Send a request for the first hole, if there is still one. Never blocks."""
        first, count = self.hole()
        if count <= 0:
            return False
        try:
            self._server.send(moldudp64.header(self._arbiter.session, first, count))
        except OSError as error:
            if not self._is_refused:
                log.warning("messages %d to %d cannot be asked for at %s: %s", first, first + count - 1, self._name,
                            error.strerror)  # fmt: skip
            self._is_refused = True
            return False
        if self._is_refused:
            log.info("requests go to %s again", self._name)
        self._is_refused = False
        log.debug("asked for messages %d to %d at %s", first, first + count - 1, self._name)
        return True
