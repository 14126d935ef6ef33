"""Facts of this machine, read from files under a root: `/`, or a folder that stands in for it.

All names are absolute, as in the kernel's documentation (`/proc/sys/vm/swappiness`). What cannot be read, or does not
say what such a file says, is an UnreadableError with the reason; callers turn it into words, nobody crashes.
"""

import gzip
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from launch.errors import UnreadableError
from launch.host import network_card
from launch.host.cpu_lists import parse_cpu_list

IPC_LOCK, SYS_NICE = 14, 23
"""Numbers of capabilities (include/uapi/linux/capability.h)."""


@dataclass(frozen=True)
class Machine:
    """Where to read. `root` and `ethtool` are replaced in tests."""

    root: Path = Path("/")
    ethtool: Callable[[str, bytes], bytes] = network_card.ask

    def path(self, name: str) -> Path:
        """Where the file that is called `name` on the machine really lies."""
        return self.root / name.lstrip("/")

    def names(self, pattern: str) -> list[str]:
        """The absolute names that match, in the order of their numbers (cpu2 before cpu10)."""
        found = (f"/{path.relative_to(self.root)}" for path in self.root.glob(pattern.lstrip("/")))
        return sorted(found, key=lambda name: [int(part) if part.isdigit() else 0 for part in re.split(r"(\d+)", name)])

    def data(self, name: str) -> bytes:
        """A file's bytes. Raises UnreadableError."""
        try:
            return self.path(name).read_bytes()
        except OSError as error:
            raise UnreadableError(name, error.strerror or str(error)) from None
        except ValueError as error:  # a name that was read somewhere, and is none
            raise UnreadableError(name, str(error)) from None

    def text(self, name: str) -> str:
        """A file's text, stripped. Raises UnreadableError."""
        return self.data(name).decode("utf-8", "replace").strip()

    def text_or(self, name: str, otherwise: str = "") -> str:
        """A file's text, or `otherwise` when it cannot be read."""
        try:
            return self.text(name)
        except UnreadableError:
            return otherwise

    def number(self, name: str) -> int:
        """A file that holds one integer. Raises UnreadableError."""
        text = self.text(name)
        try:
            return int(text)
        except ValueError:
            raise UnreadableError(name, f"{text[:40]!r} is not a number") from None

    def chosen(self, name: str) -> str:
        """The word in brackets, of a file like `always [madvise] never`. Raises UnreadableError."""
        text = self.text(name)
        match = re.search(r"\[(\S+)\]", text)
        if match is None:
            raise UnreadableError(name, f"{text[:40]!r} has no word in brackets")
        return match[1]

    def cpus(self, name: str) -> frozenset[int]:
        """A list of cores, `0-3,7`; empty for an empty file and for `(null)`. Raises UnreadableError."""
        text = self.text(name)
        if text == "(null)":  # nohz_full, when the kernel could but was not asked to
            return frozenset()
        try:
            return parse_cpu_list(text)
        except ValueError:
            raise UnreadableError(name, f"{text[:40]!r} is not a list of cores") from None

    def cpus_or(self, name: str, otherwise: frozenset[int] = frozenset()) -> frozenset[int]:
        """A list of cores, or `otherwise` when it cannot be read."""
        try:
            return self.cpus(name)
        except UnreadableError:
            return otherwise

    # -- the kernel ------------------------------------------------------------------------------------------------

    @property
    def release(self) -> str:
        """`6.12.1-amd64`. Raises UnreadableError."""
        return self.text("/proc/sys/kernel/osrelease")

    @property
    def version(self) -> tuple[int, int]:
        """(6, 12). Raises UnreadableError."""
        match = re.match(r"(\d+)\.(\d+)", self.release)
        if match is None:
            raise UnreadableError("/proc/sys/kernel/osrelease", f"{self.release[:40]!r} is not a version")
        return int(match[1]), int(match[2])

    def kernel_option(self, name: str) -> str | None:
        """What the kernel was built with: `y`, a number, or `n`; None when its configuration is kept nowhere."""
        for file in ("/proc/config.gz", f"/boot/config-{self.text_or('/proc/sys/kernel/osrelease')}"):
            try:
                data = self.data(file)
                text = (gzip.decompress(data) if file.endswith(".gz") else data).decode("utf-8", "replace")
            except (UnreadableError, OSError, EOFError):
                continue
            match = re.search(rf"^CONFIG_{name}=(.*)$", text, re.MULTILINE)
            return match[1].strip('"') if match else "n"
        return None

    @property
    def boot_arguments(self) -> list[str]:
        """The kernel's command line, in words. Raises UnreadableError."""
        return self.text("/proc/cmdline").split()

    @property
    def is_virtual(self) -> bool:
        """The processor says that a hypervisor runs it (x86; elsewhere it is not said)."""
        return re.search(r"^flags\s*:.*\bhypervisor\b", self.text_or("/proc/cpuinfo"), re.MULTILINE) is not None

    # -- this process ----------------------------------------------------------------------------------------------

    def status_field(self, name: str) -> str:
        """A line of /proc/self/status. Raises UnreadableError."""
        match = re.search(rf"^{name}:\s*(.*)$", self.text("/proc/self/status"), re.MULTILINE)
        if match is None:
            raise UnreadableError("/proc/self/status", f"no {name}")
        return match[1]

    def may(self, capability: int) -> bool:
        """Whether this process has a capability, by its number. Raises UnreadableError."""
        field = self.status_field("CapEff")
        try:
            return bool(int(field, 16) >> capability & 1)
        except ValueError:
            raise UnreadableError("/proc/self/status", f"CapEff {field[:40]!r} is not hexadecimal") from None

    def limit(self, name: str) -> int | None:
        """The soft limit of this process, by its name in /proc/self/limits; None is unlimited.

        Raises UnreadableError.
        """
        match = re.search(rf"^{name}\s+(\d+|unlimited)\s", self.text("/proc/self/limits"), re.MULTILINE)
        if match is None:
            raise UnreadableError("/proc/self/limits", f"no {name}")
        return None if match[1] == "unlimited" else int(match[1])


THIS_MACHINE = Machine()
