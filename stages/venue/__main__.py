"""`python -m stages.venue --notify-fd N`: the paper exchange as a process of its own.

Its configuration is one JSON document on standard input (no secret appears in argv). What its starter must know
goes to file descriptor N as JSON lines: `ready`, `replay_finished`, `error`. Words go to stderr. SIGTERM ends it
with exit code 0; a bad configuration or replay file with 2. When its parent dies it lives on for a few seconds,
so that orders can still be cancelled.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from typing import Any

from pydantic import ValidationError

from stages.domain.captures.binance import CaptureError
from stages.venue.errors import VenueConfigurationError
from stages.venue.server import Venue
from stages.venue.settings import VenueSettings

EXIT_CONFIGURATION = 2
PARENT_POLL_S = 1.0
log = logging.getLogger("venue")


class Notifier:
    """Writes JSON lines to the starter's file descriptor; nobody reading there is no reason to stop."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def __call__(self, event: dict[str, Any]) -> None:
        line = json.dumps(event, separators=(",", ":")) + "\n"
        with contextlib.suppress(BrokenPipeError):
            os.write(self._descriptor, line.encode())


def read_settings(text: str) -> VenueSettings:
    """Settings from the JSON document; raises VenueConfigurationError naming each bad key."""
    try:
        return VenueSettings.model_validate_json(text)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, item['loc'])) or 'document'}: {item['msg']}" for item in error.errors()
        )
        raise VenueConfigurationError(
            f"venue configuration: {problems}", "see stages/venue/settings.py for names and ranges"
        ) from None


async def _parent_is_gone(parent: int, grace_s: float) -> None:
    while os.getppid() == parent:
        await asyncio.sleep(PARENT_POLL_S)
    log.warning("parent %d is gone, closing in %g s", parent, grace_s)
    await asyncio.sleep(grace_s)


async def serve(settings: VenueSettings, notify: Notifier, parent: int) -> None:
    terminated = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminated.set)
    venue = Venue(settings, notify)
    host, port = await venue.start()
    log.info("listening on %s:%d", host, port)
    notify({"event": "ready", "host": host, "port": port, "warnings": venue.warnings})
    market = asyncio.create_task(venue.run())
    stops = [
        asyncio.create_task(terminated.wait()),
        asyncio.create_task(_parent_is_gone(parent, settings.parent_grace_s)),
    ]
    try:
        await asyncio.wait([market, *stops], return_when=asyncio.FIRST_COMPLETED)
        if market.done():
            market.result()  # a replay that has ended; or raises what went wrong
            await asyncio.wait(stops, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in (market, *stops):
            task.cancel()
        await venue.stop()


def main() -> int:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # until the event loop takes it over
    parser = argparse.ArgumentParser(prog="python -m stages.venue", description=__doc__)
    parser.add_argument("--notify-fd", type=int, required=True, help="descriptor for JSON lines")
    parser.add_argument(
        "--parent-pid", type=int, default=os.getppid(), help="when that is not the parent any more, it leaves too"
    )
    options = parser.parse_args()
    notify = Notifier(options.notify_fd)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    try:
        asyncio.run(serve(read_settings(sys.stdin.read()), notify, options.parent_pid))
    except (VenueConfigurationError, CaptureError) as error:
        log.error("%s\nhint: %s", error.message, error.hint)
        notify({"event": "error", "message": error.message, "hint": error.hint})
        return EXIT_CONFIGURATION
    return 0


if __name__ == "__main__":
    exit_code = main()
    logging.shutdown()
    # Taking the interpreter apart would take a sixth of a second, for which the run that ends waits.
    os._exit(exit_code)
