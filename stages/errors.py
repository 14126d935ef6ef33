"""What goes wrong in a stage's process, from Python's logging into the distinct-error log of the page it concerns."""

import logging
from collections.abc import Mapping
from types import TracebackType

from shm.errorlog import ErrorLog
from stages.agent import Array


class PageErrors(logging.Handler):
    """While it is entered, records every warning and error of this process, and the exception that ends it.

    A logger `stages.NAME...` speaks for agent NAME; what concerns no agent of this process stands in the first one's
    page. Logging calls a handler by one thread at a time, so the log has one writer.
    """

    def __init__(self, pages: Mapping[str, Array]) -> None:
        """`pages`: of each agent that the process hosts, by name; at least one."""
        super().__init__(logging.WARNING)
        self._logs = {name: ErrorLog(page["errors"].ctypes.data) for name, page in pages.items()}

    def emit(self, record: logging.LogRecord) -> None:
        """Count one record of the logging module."""
        text = f"{record.name}: {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            text = f"{text} ({record.exc_info[1]!r})"
        self._log_of(record.name).observe(text, record.levelno)

    def _log_of(self, logger: str) -> ErrorLog:
        package, _, rest = logger.partition(".")
        name = rest.partition(".")[0]
        if package == "stages" and name in self._logs:
            return self._logs[name]
        return next(iter(self._logs.values()))

    def __enter__(self) -> "PageErrors":
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self)
        if isinstance(error, Exception):
            words = f"{type(error).__name__}: {error}"
            next(iter(self._logs.values())).observe(words, logging.CRITICAL)
