"""A knob: one thing the operating system can be asked for. Read, check, apply, undo; refused ones become findings.

`check` says whether `apply` would be refused, and changes nothing: a run that requires a knob is refused before it
starts. `apply` still finds out by itself, because what a process may do can change between the two. All values are
integers, so that a plan is plain data.
"""

import ctypes
import functools
import os
import resource
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

from launch.errors import UnreadableError
from launch.findings import Finding
from launch.host.machine import THIS_MACHINE

libc = ctypes.CDLL(None, use_errno=True)


class Knob(ABC):
    """One knob of the calling process."""

    name: str
    """Of the knob, of its setting in `launch`, and of the finding when it is refused."""
    unit: str
    wanted: str
    """What is asked for, in words; {value} stands for the value."""
    cost: str
    """What its absence costs."""
    grants: str
    """What would grant it; {value} stands for the value."""
    early = False
    """Applied before memory is touched."""

    @abstractmethod
    def read(self) -> int:
        """The value as it is."""

    @abstractmethod
    def check(self, value: int) -> str | None:
        """Why `apply` would be refused; None when nothing is known to be in its way."""

    @abstractmethod
    def apply(self, value: int) -> None:
        """Ask for it. Raises OSError."""

    @abstractmethod
    def undo(self, before: int) -> None:
        """Put back what `read` said before `apply`. Raises OSError."""

    def attempt(self, value: int) -> Finding | None:
        """Check and apply; the finding when it is refused."""
        why = self.check(value)
        if why is None:
            try:
                self.apply(value)
            except OSError as error:
                why = error.strerror or str(error)
        return self.refused(value, why) if why is not None else None

    @contextmanager
    def held(self, value: int | None) -> Iterator[None]:
        """Applied inside the `with` where it is granted, and put back after it. None: not even asked for."""
        if value is None or self.check(value) is not None:
            yield
            return
        before = self.read()
        is_applied = self.attempt(value) is None
        try:
            yield
        finally:
            if is_applied:
                self.undo(before)

    def refused(self, value: int, why: str) -> Finding:
        """The finding for a refusal."""
        return Finding(
            self.name,
            f"{self.wanted.format(value=value)} was refused: {why}",
            self.cost,
            self.grants.format(value=value),
        )


def call(function: str, *arguments: object) -> int:
    """A libc function that sets errno. Raises OSError."""
    result = int(getattr(libc, function)(*arguments))
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result


@functools.cache
def has_capability(number: int) -> bool:
    """Whether this process may do what it covers. Read once: a forked stage knows it from the supervisor."""
    try:
        return THIS_MACHINE.may(number)
    except UnreadableError:
        return False


def soft_limit(which: int) -> int | None:
    """A resource limit of this process; None for none."""
    soft, _ = resource.getrlimit(which)
    return None if soft == resource.RLIM_INFINITY else soft
