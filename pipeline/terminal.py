"""Words and progress on standard error; standard output is for data alone.

No thread refreshes anything (the supervisor forks, so it has none): progress and the status line are drawn when told.
On a terminal they are drawn in place; without one each is a plain line, and few of them.
"""

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

from pipeline.words import Words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.progress import Progress

PLAIN_FIRST_S = 10.0
"""Without a terminal: a status line a second for this long, then one every ten."""


PLAIN_COLUMNS = 140
"""Width of tables where standard output is no terminal: every figure is there in full."""


def data_console() -> "Console":
    """Standard output: as wide as the terminal, or PLAIN_COLUMNS."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_COLUMNS)


def _words() -> TextIO | Words | None:
    """Standard error; as it is where it has no descriptor."""
    try:
        return Words(sys.stderr) if sys.stderr is not None else None
    except OSError:
        return sys.stderr


class Terminal:
    """Standard error of the command."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._open()
        self._quiet = quiet
        self._progress: Progress | None = None
        self._live: Live | None = None
        self._started_s = self._last_s = time.monotonic()

    def _open(self) -> None:
        from rich.console import Console

        self._words = _words()
        self.console = Console(file=cast("TextIO | None", self._words), stderr=True, highlight=False, soft_wrap=True)
        self.data = data_console()
        self.is_terminal = self.console.is_terminal and os.environ.get("TERM") != "dumb"

    def move_to(self, path: Path) -> None:
        """From now on words and data go to the end of the file at `path`: nobody sits at the terminal any more."""
        self.end_drawing()
        sys.stdout.flush()
        log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.close(log)
        if isinstance(self._words, Words):
            self._words.close()
        self._open()

    def say(self, text: str) -> None:
        """One line of words."""
        self.console.print(text, markup=False)

    def warn(self, text: str, hint: str = "") -> None:
        """Something is not as it should be; what to do about it."""
        self.console.print(text, style="yellow", markup=False)
        if hint:
            self.console.print(f"hint: {hint}", markup=False)

    def error(self, text: str, hint: str = "") -> None:
        """Why the command ends."""
        self.console.print(f"error: {text}", style="red", markup=False)
        if hint:
            self.console.print(f"hint: {hint}", markup=False)

    def progress(self, title: str) -> Callable[[str, int, int], None]:
        """A function (name of what comes next, done, total) that draws a bar, or plain lines without a terminal."""
        if not self.is_terminal:
            return lambda name, done, total: self.say(f"{title} {done}/{total}{f': {name}' if name else ''}")
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        bar = RichProgress(
            TextColumn(title), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("{task.fields[what]}"), console=self.console, auto_refresh=False, transient=True,
        )  # fmt: skip
        self._progress = bar
        task = bar.add_task(title, total=None, what="")
        bar.start()

        def draw(name: str, done: int, total: int) -> None:
            bar.update(task, completed=done, total=total, what=name)
            bar.refresh()
            if done >= total:
                self.end_drawing()

        return draw

    def status(self, line: Callable[[], str]) -> None:
        """Draw the status line, made by `line`, when it is time to."""
        now_s = time.monotonic()
        period_s = 1.0 if self.is_terminal or now_s - self._started_s < PLAIN_FIRST_S else 10.0
        if now_s - self._last_s < period_s:
            return
        self._last_s = now_s
        if not self.is_terminal:
            self.say(line())
            return
        if self._live is None:
            from rich.live import Live as RichLive

            self._live = RichLive(console=self.console, auto_refresh=False, transient=True)
            self._live.start()
        self._live.update(line(), refresh=True)

    def begin_status(self) -> None:
        """The line runs from now on."""
        self._started_s = self._last_s = time.monotonic()

    def end_drawing(self) -> None:
        """Leave the terminal as it was: nothing drawn in place any more."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None
        if self._live is not None:
            self._live.stop()
            self._live = None
