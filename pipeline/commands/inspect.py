"""`pipeline inspect`: the shared memory of every run, as it stands now."""

import json
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import as_json as json_option

if TYPE_CHECKING:
    from shm.inspection import Found


@click.command()
@click.argument("run", default="")
@json_option
def inspect(run: str, as_json: bool) -> int:
    """List the segments of every run, or of those whose id begins with RUN: layout, cursors, lag, age.

    Reads only; a live run does not notice.
    """
    from shm.inspection import find
    from shm.segment import NAME_PREFIX

    segments = find(f"{NAME_PREFIX}{run}")
    if as_json:
        click.echo(json.dumps({"segments": [_entry(segment) for segment in segments]}))
    elif segments:
        _print_table(segments)
    else:
        click.echo(f"no segments of {f'a run {run}…' if run else 'any run'}", err=True)
    return 0


def _names(segment: "Found") -> tuple[str, str]:
    """(run, segment) of tickpipe.RUN.SEGMENT."""
    _, run, *rest = [*segment.name.split(".", 2), ""]
    return run, rest[0]


def _entry(segment: "Found") -> dict[str, Any]:
    run, name = _names(segment)
    return {
        "name": segment.name, "run": run, "segment": name, "status": segment.status, "owner_pid": segment.owner_pid,
        "bytes": segment.size_bytes, "kind": segment.description.get("kind"), "layout": dict(segment.description),
        "cursors": dict(segment.cursors), "lag": segment.lag, "age_ns": segment.age_ns,
        "problem": segment.problem or None,
    }  # fmt: skip


def _print_table(segments: "list[Found]") -> None:
    from pipeline.reports.text import nanoseconds, new_table
    from pipeline.terminal import data_console

    console = data_console()
    for run in dict.fromkeys(_names(segment)[0] for segment in segments):
        drawn = new_table(f"Run {run}", "segment", "kind", "of", "bytes", "owner", "cursors", "lag", "age")
        for segment in segments:
            if _names(segment)[0] != run:
                continue
            says = segment.description
            size = says.get("capacity") or says.get("rows") or says.get("count") or says.get("bytes", "")
            record = says.get("record.itemsize")
            owner = f"{segment.owner_pid or '?'}" + ("" if segment.status == "live" else f" {segment.status}")
            drawn.add_row(
                _names(segment)[1], says.get("kind", "-"), f"{size} x {record} B" if record else size or "-",
                f"{segment.size_bytes:,}", owner,
                " ".join(f"{name} {value:,}" for name, value in segment.cursors.items() if value) or "-",
                "-" if segment.lag is None else f"{segment.lag:,}", nanoseconds(segment.age_ns),
            )  # fmt: skip
        console.print(drawn)
    for segment in segments:
        if segment.problem:
            click.echo(segment.problem, err=True)
