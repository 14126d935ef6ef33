"""Places where a setting stands: a file of the kernel, but for two that are named by a path and changed by a call.

/proc/swaps   the areas that memory is swapped to, given back and taken
/dev/shm      the option `huge=` of the tmpfs that is mounted there, changed by mounting it anew
"""

import ctypes
import os
import re
import subprocess

from launch.errors import UnreadableError
from launch.host.machine import Machine
from launch.host.mounts import SHM, SHMEM_ENABLED, mount_at
from launch.tuning.setting import SWAPS, normal

SWAP_FLAG_PREFER, SWAP_PRIORITY_MASK = 0x8000, 0x7FFF
"""include/linux/swap.h"""
MOUNT_TIMEOUT_S = 10

_libc = ctypes.CDLL(None, use_errno=True)


class Place:
    """A file with one value, or several words."""

    def __init__(self, machine: Machine, path: str) -> None:
        self.machine, self.path = machine, path

    def lacking(self) -> str:
        """Why this machine has no such place, or nothing."""
        return "" if self.machine.path(self.path).exists() else "this kernel has no such file"

    def read(self) -> str:
        """What stands there, in the form in which it is compared and kept. Raises UnreadableError."""
        return normal(self.machine.text(self.path))

    def write(self, text: str) -> None:
        """One write call, which is how the kernel takes a value; never creates a file. Raises OSError."""
        descriptor = os.open(self.machine.path(self.path), os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC)
        try:
            os.write(descriptor, f"{text}\n".encode())
        finally:
            os.close(descriptor)

    def one_way(self, text: str) -> str:
        """Why this value could not be restored once it is changed, or nothing."""
        return ""


class SwapAreas(Place):
    """As one line: `/dev/vda2@-2 /swapfile@5`, the numbers are priorities."""

    def read(self) -> str:
        fields = [line.split() for line in self.machine.text(self.path).splitlines()[1:]]
        return " ".join(f"{words[0]}@{words[-1]}" for words in fields if len(words) >= 5)

    def write(self, text: str) -> None:
        """Give areas back that are not wanted, take those that are and are missing. Raises OSError, ValueError."""
        now, then = self.read().split(), text.split()
        for area in now:
            if area not in then:
                self._call("swapoff", area)
        for area in then:
            if area not in now:
                priority = int(area.rpartition("@")[2])
                # A negative priority is one that the kernel chose, and will choose again in this order.
                flags = SWAP_FLAG_PREFER | (priority & SWAP_PRIORITY_MASK) if priority >= 0 else 0
                self._call("swapon", area, flags)

    def one_way(self, text: str) -> str:
        return "a swap file was deleted while in use: given back, it could not return" if "(deleted)" in text else ""

    def _call(self, call: str, area: str, *flags: int) -> None:
        # /proc/swaps writes blanks and the like as three octal digits
        name = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), area.rpartition("@")[0])
        if getattr(_libc, call)(os.fsencode(self.machine.path(name)), *flags):
            number = ctypes.get_errno()
            raise OSError(number, f"{call} {name}: {os.strerror(number)}")


class HugeOption(Place):
    """`huge=never`, also where the mount has no such option; what it has besides stays as it is."""

    def lacking(self) -> str:
        if not self.machine.path(SHMEM_ENABLED).exists():
            return "this kernel has no huge pages in a tmpfs"
        mount = mount_at(self.machine, self.path)
        return "" if mount is not None and mount.kind == "tmpfs" else f"no tmpfs is mounted on {self.path}"

    def read(self) -> str:
        mount = mount_at(self.machine, self.path)
        if mount is None or mount.kind != "tmpfs":
            raise UnreadableError(self.path, "no tmpfs is mounted there")
        return mount.huge

    def write(self, text: str) -> None:
        """By mount(8): it repeats the other options to the kernel, which would forget them. Raises OSError."""
        command = ["mount", "-o", f"remount,{text}", str(self.machine.path(self.path))]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=MOUNT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise OSError(0, f"mount did not end within {MOUNT_TIMEOUT_S} s") from None
        if done.returncode:
            raise OSError(0, " ".join(done.stderr.split()) or f"mount ended with {done.returncode}")


def place_at(machine: Machine, path: str) -> Place:
    """The place that this path names."""
    return {SWAPS: SwapAreas, SHM: HugeOption}.get(path, Place)(machine, path)
