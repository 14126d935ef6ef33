"""What stood there before the first `tune --apply`: a text file for root alone, read by `--revert` and by the script.

    # what `pipeline tune --revert` restores
    boot 5f0c2c1e-...
    /proc/sys/vm/swappiness 60
    /proc/sys/net/ipv4/tcp_rmem 4096 131072 6291456

It lies in /run, and names the boot it belongs to: a reboot undoes all of these settings, so what was saved before one
says nothing any more. It is replaced as a whole (written aside, synced, renamed): a crash leaves the old or the new.
"""

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from launch.errors import MachineError, UnreadableError
from launch.host.machine import Machine

SAVED = "/run/tickpipe/tune.saved"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
TITLE = "# what `pipeline tune --revert` restores"


@contextlib.contextmanager
def locked(machine: Machine) -> Iterator[None]:
    """One apply or revert at a time. Raises MachineError when this user may not keep anything there."""
    folder = machine.path(SAVED).parent
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _closed(folder, error) from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def load(machine: Machine) -> dict[str, str]:
    """Path: text, in the order of saving; empty when nothing is saved for this boot. Raises MachineError."""
    path = machine.path(SAVED)
    try:
        status = path.stat()
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise _closed(path, error) from None
    if status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise MachineError(
            f"{path}: owner {status.st_uid}, mode {status.st_mode & 0o777:o}: not written by this user alone",
            "look at it, and remove it: what it says would be written into the kernel",
        )
    if lines[:2] != [TITLE, f"boot {boot_id(machine)}"]:
        return {}
    return dict(line.split(" ", 1) for line in lines[2:] if " " in line)


def save(machine: Machine, values: Mapping[str, str]) -> None:
    """Replace what is saved; an empty mapping removes it. Raises MachineError, and then the old file stands."""
    path = machine.path(SAVED)
    aside = path.with_name(f"{path.name}.new")
    lines = [TITLE, f"boot {boot_id(machine)}", *(f"{name} {text}" for name, text in values.items())]
    try:
        if not values:
            path.unlink(missing_ok=True)
            return
        aside.unlink(missing_ok=True)
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
            file.flush()
            os.fsync(descriptor)
        aside.rename(path)
    except OSError as error:
        raise _closed(path, error) from None


def boot_id(machine: Machine) -> str:
    """This boot's name; `unknown` where the kernel does not tell."""
    try:
        return machine.text(BOOT_ID)
    except UnreadableError:
        return "unknown"


def _closed(path: Path, error: OSError) -> MachineError:
    return MachineError(
        f"{path}: {error.strerror}: without a place for the present values nothing is changed", "run it as root: sudo"
    )
