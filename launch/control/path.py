"""Where a control socket lies: in $XDG_RUNTIME_DIR or the temporary folder, at a path that fits a socket's address.

The name ends in random digits and `bind` refuses a name that is taken, so nobody can lie in wait for it in a shared
folder; only folders are used in which nobody else can put another file in its place. The mode is 0600 from the first
moment.
"""

import errno
import os
import secrets
import socket
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

from launch.errors import LaunchError

PATH_BYTES_MOST = 107
"""sun_path holds 108, the last of them 0."""
MODE = 0o600
PREFIX, SUFFIX = "tickpipe-", ".sock"
BACKLOG = 16
NAME_TRIES = 8


def create_socket(name: str) -> tuple[socket.socket, Path]:
    """A listening, non-blocking socket for the run `name`, and where it lies. Raises LaunchError."""
    problems = []
    for folder in _folders():
        path = folder / f"{PREFIX}{name}-{'0' * 8}{SUFFIX}"
        if len(os.fsencode(path)) > PATH_BYTES_MOST:
            problems.append(f"{folder}: longer than the {PATH_BYTES_MOST} bytes of a socket's address allow")
        elif not _is_ours_alone(folder):
            problems.append(f"{folder}: others may replace files there")
        else:
            try:
                return _bind(folder, name)
            except OSError as error:
                problems.append(f"{folder}: {error.strerror or error}")
    raise LaunchError(
        f"no control socket: {'; '.join(problems)}", "point XDG_RUNTIME_DIR at a folder of yours, mode 0700"
    )


def remove_socket(path: Path) -> bool:
    """Unlink a control socket of ours; whatever else stands there stays. Says whether there was one."""
    with suppress(OSError):
        found = path.lstat()
        if stat.S_ISSOCK(found.st_mode) and found.st_uid == os.geteuid() and path.name.startswith(PREFIX):
            path.unlink()
            return True
    return False


def _folders() -> list[Path]:
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    wanted = [given] if given.startswith("/") else []
    with suppress(OSError):
        wanted.append(tempfile.gettempdir())
    return list(dict.fromkeys(Path(os.path.realpath(folder)) for folder in (*wanted, "/tmp")))


def _is_ours_alone(folder: Path) -> bool:
    """Whether only we (and root) can rename or remove what we put there."""
    try:
        found = folder.stat()
    except OSError:
        return False
    others_write = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
    return found.st_uid in (os.geteuid(), 0) and (not others_write or bool(found.st_mode & stat.S_ISVTX))


def _bind(folder: Path, name: str) -> tuple[socket.socket, Path]:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    mask = os.umask(0o777 & ~MODE)
    try:
        for tries_left in reversed(range(NAME_TRIES)):
            path = folder / f"{PREFIX}{name}-{secrets.token_hex(4)}{SUFFIX}"
            try:
                listener.bind(os.fsencode(path))
                break
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not tries_left:
                    raise
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener, path
