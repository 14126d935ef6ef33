"""Where a user's files go: the folders of the XDG base directory specification."""

import errno
import os
from pathlib import Path


def user_folder(variable: str, default: str) -> Path:
    """The folder that an environment variable names, or `default` in the user's home. Raises FileNotFoundError."""
    named = os.environ.get(variable)
    if named:
        return Path(named)
    try:
        return Path.home() / default
    except RuntimeError:
        raise FileNotFoundError(errno.ENOENT, f"no home folder is known: set HOME, or {variable}", "~") from None
