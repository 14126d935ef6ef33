"""Private memory for documents that compiled code parses in place: guard bytes stand before and after them."""

import numpy as np

from stages.domain.codecs.json_scan import GUARD_BYTES


class Guarded:
    """Room for one document of up to `capacity_bytes`."""

    def __init__(self, capacity_bytes: int) -> None:
        self._memory = np.zeros(capacity_bytes + 2 * GUARD_BYTES, np.uint8)
        self.capacity_bytes = capacity_bytes
        self.address = self._memory.ctypes.data + GUARD_BYTES
        """Where a document begins."""

    def place(self, document: bytes) -> None:
        """Copy `document` in; zeros follow it. The caller has checked its length."""
        assert len(document) <= self.capacity_bytes, f"{len(document)} bytes do not fit {self.capacity_bytes}"
        end = GUARD_BYTES + len(document)
        self._memory[GUARD_BYTES:end] = np.frombuffer(document, np.uint8)
        self._memory[end : end + GUARD_BYTES] = 0
