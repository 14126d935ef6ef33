"""Standard error for words that nobody has to read.

Its reader may leave: a pipe is closed, or a terminal. Or it stands still: Ctrl-S, a pager, a pipe that nobody empties.
Trading must not end by the one nor wait for the other. Of words that are not taken at once the rest is lost; how much
that was is said when they are taken again.
"""

import contextlib
import os
import stat
from typing import Any, TextIO


class Words:
    """A text stream over standard error. Pipes and terminals are written to without waiting, files as ever."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._own = _reopened(stream.fileno())
        self._lost_bytes = 0

    def write(self, text: str) -> int:
        """All of it, or as much as is taken at once."""
        data = text.encode(self._stream.encoding, "backslashreplace")
        if self._lost_bytes:
            left = self._put(f"\n[{self._lost_bytes} bytes of words are lost: nobody read them]\n".encode())
            self._lost_bytes = self._lost_bytes + len(data) if left else 0
            if left:
                return len(text)
        self._lost_bytes = self._put(data)
        return len(text)

    def _put(self, data: bytes) -> int:
        """Returns how many bytes were not taken."""
        try:
            while data:
                data = data[os.write(self._stream.fileno() if self._own is None else self._own, data) :]
        except BlockingIOError:
            return len(data)
        except OSError:
            self._give_up()
        return 0

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Hold the pipe or terminal no longer."""
        if self._own is not None:
            os.close(self._own)
            self._own = None

    def _give_up(self) -> None:
        """All that follows goes nowhere, and the interpreter does not complain at its end."""
        self.close()
        with contextlib.suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(null, self._stream.fileno())
            os.close(null)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _reopened(descriptor: int) -> int | None:
    """The same pipe or terminal, not to be waited for; None for anything else, and where it may not be opened.

    A description of our own: others share the one that was inherited, and its flags; a shell does not expect them.
    """
    if not (os.isatty(descriptor) or stat.S_ISFIFO(os.fstat(descriptor).st_mode)):
        return None
    with contextlib.suppress(OSError):
        return os.open(f"/proc/self/fd/{descriptor}", os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    return None
