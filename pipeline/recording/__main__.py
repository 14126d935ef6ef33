"""`python -m pipeline.recording --notify-fd N`: the recorder as a process of a run that records itself.

Its configuration is one JSON document on standard input; what its starter must know goes to file descriptor N as JSON
lines: `ready` when it observes, `recorded` with what came of it when it ends by SIGTERM or with the run, `error`.
"""

import argparse
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from pipeline.recording.recorder import Recorder
from shm.segment import SegmentError

log = logging.getLogger("record")


def main() -> int:
    """Record until told to stop."""
    over = threading.Event()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal group
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    parser = argparse.ArgumentParser(prog="python -m pipeline.recording", description=__doc__)
    parser.add_argument("--notify-fd", type=int, required=True)
    descriptor = parser.parse_args().notify_fd

    def notify(event: dict[str, Any]) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(descriptor, json.dumps(event).encode() + b"\n")

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    given = json.load(sys.stdin)
    try:
        recorder = Recorder(given["run"], Path(given["folder"]), given["rotate_bytes"], given["market"], log.warning)
        notify({"event": "ready"})
        recorder.record(over.is_set)
    except (OSError, SegmentError) as error:
        log.error("%s", error)
        notify({"event": "error", "message": str(error)})
        return 1
    notify({"event": "recorded", **recorder.document()})
    return 0


if __name__ == "__main__":
    sys.exit(main())
