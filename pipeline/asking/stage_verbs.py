"""What `restart`, `stop` and `start` of a stage have in common."""

import json
from typing import Any

import click

from pipeline.asking.question import ask_run


def act(action: str, stage: str, run: str, *, as_json: bool) -> int:
    """Ask for it, wait until it is done, say what came of it. Raises PipelineError."""
    result = ask_run(run, action, stage=stage)
    if as_json:
        click.echo(json.dumps(result))
    else:
        click.echo(_words(action, stage, result), err=True)
    return 0


def _words(action: str, stage: str, result: dict[str, Any]) -> str:
    done = {"restart": "restarted", "stop": "stopped", "start": "started"}[action]
    gap_ns, pid = result.get("restart_gap_ns"), result.get("pid")
    took = f" in {gap_ns / 1e6:.1f} ms" if gap_ns is not None else ""
    process = f", process {pid}" if pid is not None else ""
    following = f"; `pipeline start {stage}` brings it back" if action == "stop" else ""
    return f"{result.get('stage', stage)} {done}{took}{process}{following}"
