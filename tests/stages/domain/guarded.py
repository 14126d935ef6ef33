"""Bytes in memory that compiled scanners may look around in."""

import numpy as np

from stages.domain.codecs.json_scan import GUARD_BYTES


class Document:
    """A document between guard bytes; what stands after it is `behind` (stale data of an earlier message, say)."""

    def __init__(self, body: bytes, behind: bytes = b"") -> None:
        self._memory = np.zeros(len(body) + 2 * GUARD_BYTES, np.uint8)
        self._memory[GUARD_BYTES : GUARD_BYTES + len(body)] = np.frombuffer(body, np.uint8)
        stale = (behind * GUARD_BYTES)[:GUARD_BYTES]
        if stale:
            self._memory[GUARD_BYTES + len(body) :] = np.frombuffer(stale, np.uint8)
        self.at = self._memory.ctypes.data + GUARD_BYTES
        self.end = self.at + len(body)
