"""The loop with the strategy in it: a small generated module, one per placement and strategy.

It imports the polls by name: a closure over kernels, or a kernel passed as an argument, is never found in Numba's disk
cache by a new process, an importing module is. Its folder is named by a hash of our sources, the versions, the strategy
file and every module that the strategy imports from outside site-packages, because Numba sees changes only in the file
that holds a function and would run an old strategy without a word. The other loops of a dedicated line are in
pipeline/line/loops.py. A second start with nothing changed compiles nothing.
"""

import importlib
import importlib.util
import logging
import sys
import time
from collections.abc import Sequence
from types import ModuleType
from typing import Literal

import numba

from pipeline.line.placement import PACKED_PROCESS, STAGES
from shm.kernel import SOURCES_HASH, cache_root, hash_files
from stages.strategy.compose import poll_source
from stages.strategy.loader import Strategy

log = logging.getLogger(__name__)

Placement = Literal["dedicated", "packed"]


def import_line(placement: Placement, strategy: Strategy) -> ModuleType:
    source = _line_source(placement, strategy)
    key = hash_files(strategy.files, source)
    folder = cache_root() / SOURCES_HASH / f"line-{strategy.path.stem}-{key}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"tickpipe_line_{placement}.py"
    if not path.exists() or path.read_text(encoding="utf-8") != source:
        # Numba's cache compares the file's time: an unchanged module is not written again.
        path.write_text(source, encoding="utf-8")
    for used in (cache_root() / SOURCES_HASH, folder):
        used.touch()
    for stage in STAGES:
        # Before the cache moves: their compiled code is every strategy's, and stays under the hash of our sources.
        importlib.import_module(f"stages.{stage}.kernel")
    numba.config.CACHE_DIR = str(folder)  # type: ignore[attr-defined]  # the strategy's own functions are cached here too, under the same key
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # Numba finds the globals of cached functions by the module's name
    started = time.monotonic()
    spec.loader.exec_module(module)
    log.debug("imported %s in %.2f s", path, time.monotonic() - started)
    return module


_HEAD = '''"""The compiled loop of a {placement} line with strategy {strategy}. Generated; edits are lost."""

from shm.clock import now_ns
from shm.kernel import kernel
from stages.book.kernel import poll as poll_book
from stages.duty import FAULT_AGENT, FAULT_CODE, turn
from stages.feed.kernel import poll as poll_feed
from stages.rehearsal import finish, is_due
from stages.risk.kernel import poll as poll_risk
from stages.router.kernel import poll as poll_router

{poll_strategy}
'''

_LOOP = """
@kernel
def run_{process}({contexts}, duty, attention, slice_ns):
    end = now_ns(duty.clock) + slice_ns
    while True:
        now = now_ns(duty.clock)
        handled = 0
{polls}
{rehearsal}
        if turn(duty, attention, now, handled) or now >= end:
            return 0
"""

_POLL = """
        result = poll_{stage}({stage}, now)
        if result < 0:
            duty.words[FAULT_AGENT] = {index}
            duty.words[FAULT_CODE] = result
            return result
        handled += result"""


_REHEARSAL = """
        if handled == 0 and is_due(rehearsal, now):
{polls}
            finish(rehearsal)"""


def _line_source(placement: Placement, strategy: Strategy) -> str:
    source = _HEAD.format(placement=placement, strategy=strategy.path.stem, poll_strategy=poll_source(strategy))
    if placement == "dedicated":
        return source + "\n" + _loop("strategy", ("strategy",), rehearses=False)
    return source + "\n" + _loop(PACKED_PROCESS, STAGES, rehearses=True)


def _loop(process: str, stages: Sequence[str], *, rehearses: bool) -> str:
    polls = "".join(_POLL.format(stage=stage, index=index) for index, stage in enumerate(stages)).lstrip("\n")
    contexts, rehearsal = list(stages), ""
    if rehearses:
        contexts += [*(f"{stage}_twin" for stage in stages), "rehearsal"]
        rehearsal = _REHEARSAL.format(
            polls="\n".join(f"            poll_{stage}({stage}_twin, now)" for stage in stages)
        ).lstrip("\n")
    return _LOOP.format(process=process, contexts=", ".join(contexts), polls=polls, rehearsal=rehearsal)
