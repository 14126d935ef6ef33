"""How deep idle cores may sleep, for the whole machine and for as long as one process holds a file open."""

import os
import struct
from pathlib import Path

from launch.knobs.knob import Knob

DEVICE = Path("/dev/cpu_dma_latency")
MOST_US = 3
"""Leaves C1 (1 to 2 µs to wake from) and forbids what is deeper. With 0, idle cores poll, and an SMT sibling that was
left empty for a stage's sake takes issue slots from it."""


class CpuLatency(Knob):
    """Held open by the supervisor alone, and gone with it, however it ends."""

    name = "cpu_latency"
    wanted = "a wake-up latency of at most {value} µs (/dev/cpu_dma_latency)"
    cost = "cores that idle for a moment sleep deeper, and take 50 to 200 µs to wake"
    grants = 'run as root, or give the run\'s group the device: a udev rule with KERNEL=="cpu_dma_latency", GROUP, MODE'

    def __init__(self, device: Path = DEVICE) -> None:
        self._device = device
        self._descriptor = -1
        self._value = -1

    def read(self) -> int:
        """What this process asks for; -1 for nothing."""
        return self._value

    def check(self, value: int) -> str | None:
        """Whether the device is there and may be written."""
        if not self._device.exists():
            return f"no {self._device}: this kernel or container has none"
        return None if os.access(self._device, os.W_OK) else f"{self._device} may not be written"

    def apply(self, value: int) -> None:
        """Hold it open."""
        descriptor = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, struct.pack("=i", value))
        except OSError:
            os.close(descriptor)
            raise
        self.undo(-1)
        self._descriptor, self._value = descriptor, value

    def undo(self, before: int) -> None:
        """Let go; what others ask for stays."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
        self._descriptor = self._value = -1
