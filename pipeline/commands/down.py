"""`pipeline down`: stop a run in order, and wait for its end."""

import json
import os
import select
import signal
from typing import Any

import click

from pipeline.asking.find_run import find_live
from pipeline.asking.question import ask_live, hung_hint
from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name
from pipeline.errors import PipelineError

END_S = 15.0
"""Between a run's last word and the end of its process: the paper exchange leaves, memory is given back."""


@click.command()
@run_name
@json_option
def down(run: str, as_json: bool) -> int:
    """Stop a run in order: working orders are cancelled, the rings drain, the report is written. Waits for its end."""
    result = _stop(run)
    if as_json:
        click.echo(json.dumps(result))
        return 0
    for note in result["notes"]:
        click.echo(f"while stopping: {note}", err=True)
    kept = f"; report kept in {result['report']}" if result["report"] else ""
    click.echo(f"run {result['run']} stopped: {result['reason']}, {result['exit']}{kept}", err=True)
    return 0


def _stop(run: str) -> dict[str, Any]:
    live = find_live(run)
    process = _open_process(live.pid)
    if process is None:
        live = find_live(live.run)  # it ended meanwhile, and this says so
        raise PipelineError(f"{live.words}, is not among the processes that can be seen from here")
    try:
        live = find_live(live.run)  # it still holds its name, so the descriptor is its process's
        if live.control is not None:
            result = ask_live(live, "down")
        else:
            signal.pidfd_send_signal(process, signal.SIGINT)
            result = {"run": live.run, "exit": "clean", "exit_code": 0, "reason": "interrupted before trading started",
                      "notes": [], "report": None}  # fmt: skip
        if not select.select([process], [], [], END_S)[0]:
            raise PipelineError(f"{live.words}, has not ended after {END_S:g} s", hung_hint(live))
        return result
    finally:
        os.close(process)


def _open_process(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    except OSError as error:  # before Linux 5.3, or forbidden by a container
        raise PipelineError(
            f"the end of process {pid} cannot be waited for here: pidfd_open: {error.strerror}",
            f"kill -INT {pid} stops it in order",
        ) from None
