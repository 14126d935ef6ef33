"""Books of levels and of orders, streams of documents and of blocks: a poll has the code of one kind alone."""

from typing import Any

import numba
import pytest

from pipeline.line.stepped import SteppedLine
from shm.atomics import JIT
from stages.book import kernel as book
from stages.book.settings import BookSettings
from stages.feed import kernel as feed
from stages.feed.context import Format
from tests.stages.feed.stepped import instruments

pytestmark = pytest.mark.skipif(not JIT, reason="looks at compiled code")

MODULES = {
    (feed, Format.BINANCE): {"json_scan", "binance_market"},
    (feed, Format.ITCH): {"itch_market", "itch_frames"},
    (book, Format.BINANCE): {"l2", "l2_book"},
    (book, Format.ITCH): {"l3", "tree", "table"},
}
"""What is to be found in a poll, but not in the same stage's of the other kind."""
SHARED = {"binance_market"}
"""Of the feed: it has the writer of records of both kinds."""


def modules_of(stage: Any, stream_format: Format) -> set[str]:
    """Names of the modules of which the stage's poll has functions."""
    line = SteppedLine(instruments("STOCK1"), stream_format=stream_format, book=BookSettings(orders_max=1_000))
    agent = line.feed if stage is feed else line.book
    types = numba.typeof(agent.context), numba.types.int64
    stage.poll.compile(types)
    library = stage.poll.overloads[types].library
    names = " ".join(function.name for function in library._final_module.functions)
    return {module for found in MODULES.values() for module in found if f"{len(module)}{module}" in names}


@pytest.mark.parametrize("stage", [feed, book])
@pytest.mark.parametrize("stream_format", [Format.BINANCE, Format.ITCH])
def test_a_poll_has_the_code_of_its_own_kind_alone(stage: Any, stream_format: Format) -> None:
    found = modules_of(stage, stream_format)
    others = set().union(*(MODULES[of] for of in MODULES if of[0] is stage and of[1] is not stream_format))
    assert MODULES[stage, stream_format] <= found
    assert not (others - SHARED) & found
