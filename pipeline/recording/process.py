"""The recorder of a run that records itself: started with it, never a reason to stop trading."""

import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from launch.errors import ProcessFailedError
from launch.supervision.service import Service
from pipeline.errors import PipelineError, UsageError

START_S, END_S = 20.0, 10.0
BYTES_PER_MB = 1_000_000


def start_recording(
    run: str, folder: Path, rotate_mb: int, market: Mapping[str, Any], log_path: Path, cpu: int,
    wait: Callable[[float], object],
) -> Service:  # fmt: skip
    """Start it and wait until it observes; `market` as Recorder has it. Raises UsageError for a folder that it cannot
    write to.
    """
    given = {
        "run": run, "folder": str(folder), "rotate_bytes": rotate_mb * BYTES_PER_MB, "market": dict(market),
    }  # fmt: skip
    service = Service("record", [sys.executable, "-m", "pipeline.recording"], given, log_path, cpu)
    try:
        service.wait_for("ready", START_S, wait)
    except ProcessFailedError as error:
        service.take_messages()
        service.end()
        if refused := service.latest.get("error"):
            raise UsageError(f"record.folder: {refused['message']}", "give a folder that may be written") from None
        raise PipelineError(f"{error}\n{error.log_tail}", error.hint) from None
    return service


def end_recording(service: Service) -> dict[str, Any]:
    """Let it write the rest; what came of it, or {"error": ...}."""
    try:
        if service.poll() is None:
            os.kill(service.pid, signal.SIGTERM)
        return {name: value for name, value in service.wait_for("recorded", END_S).items() if name != "event"}
    except ProcessFailedError as error:
        return {"error": str(service.latest.get("error", {}).get("message", error))}
    finally:
        service.end()
