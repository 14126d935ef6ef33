"""What a stage logs stands in its page: found by anybody, after its process is gone too."""

import logging

import numpy as np
import pytest

from shm.errorlog import observed
from stages.agent import page_dtype
from stages.errors import PageErrors

PAGE = page_dtype((), ())


def _seen(page: np.ndarray) -> list[tuple[str, int, int]]:
    return [(each.text, each.severity, each.count) for each in observed(page["errors"].ctypes.data)]


def test_warnings_and_errors_go_to_the_page_of_the_agent_that_speaks() -> None:
    pages = {name: np.zeros(1, PAGE) for name in ("feed", "risk")}
    with PageErrors(pages):
        for port in (1, 2):
            logging.getLogger("stages.feed.agent").warning("lost port %d", port)
        logging.getLogger("stages.risk.agent").error("denied: %s", "all")
        logging.getLogger("stages.risk.agent").info("nothing of note")
        logging.getLogger("stages.duty").critical("the loop")
        logging.getLogger("somebody.else").error("else")
    logging.getLogger("stages.feed.agent").warning("after it was over")
    assert _seen(pages["feed"]) == [
        ("stages.feed.agent: lost port 1", 30, 2), ("stages.duty: the loop", 50, 1), ("somebody.else: else", 40, 1),
    ]  # fmt: skip
    assert _seen(pages["risk"]) == [("stages.risk.agent: denied: all", 40, 1)]


def test_an_exception_that_is_logged_or_ends_the_process_is_named() -> None:
    pages = {"feed": np.zeros(1, PAGE)}

    def work() -> None:
        try:
            raise KeyError("x")
        except KeyError:
            logging.getLogger("stages.feed.agent").exception("odd")
        raise ValueError("port=1")

    with pytest.raises(ValueError, match="port=1"), PageErrors(pages):
        work()
    assert _seen(pages["feed"]) == [
        ("stages.feed.agent: odd (KeyError('x'))", 40, 1), ("ValueError: port=1", 50, 1),
    ]  # fmt: skip
