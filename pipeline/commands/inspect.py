"""`pipeline inspect`: the shared memory of every run, as it stands now: segments, counters, errors."""

import json
from typing import TYPE_CHECKING, Any

import click

from pipeline.commands.options import as_json as json_option

if TYPE_CHECKING:
    from shm.catalogue import Reading
    from shm.inspection import Found


@click.command()
@click.argument("run", default="")
@click.option("--counters", is_flag=True, help="Every counter, with unit, kind, meaning and who writes it.")
@click.option("--errors", is_flag=True, help="What went wrong: each distinct error once, how often and when.")
@json_option
def inspect(run: str, counters: bool, errors: bool, as_json: bool) -> int:
    """Look into the shared memory of every run, dead or alive, or of those whose id begins with RUN.

    Without an option it lists the segments: layout, cursors, lag, age. Reads only; a live run does not notice.
    """
    from shm.inspection import find
    from shm.segment import NAME_PREFIX

    if counters or errors:
        return _inspect_catalogues(run, counters, errors, as_json)
    segments = find(f"{NAME_PREFIX}{run}")
    if as_json:
        click.echo(json.dumps({"segments": [_entry(segment) for segment in segments]}))
    elif segments:
        _print_table(segments)
    else:
        click.echo(f"no segments of {_which(run)}", err=True)
    return 0


def _which(run: str) -> str:
    return f"a run {run}…" if run else "any run"


def _inspect_catalogues(run: str, counters: bool, errors: bool, as_json: bool) -> int:
    from pipeline.reports.catalogue import counter_rows, counter_table, error_rows, error_table

    tables = []
    if counters:
        tables.append(("counters", counter_rows, counter_table, "no counters"))
    if errors:
        tables.append(("errors", error_rows, error_table, "no errors, no warnings"))
    runs = _read_catalogues(run)
    if as_json:
        document = {
            name: [{"run": of, **row} for of, readings in runs.items() for row in rows(readings)]
            for name, rows, _, _ in tables
        }
        click.echo(json.dumps(document))
        return 0
    from pipeline.terminal import data_console

    console = data_console()
    for of, readings in runs.items():
        for _, rows, table, nothing in tables:
            found = rows(readings)
            console.print(table(f"Run {of}", found) if found else f"run {of}: {nothing}")
    if not runs:
        click.echo(f"no catalogue of {_which(run)}", err=True)
    return 0


def _read_catalogues(run: str) -> "dict[str, list[Reading]]":
    from shm import catalogue
    from shm.segment import NAME_PREFIX, SegmentError

    runs = {}
    for name in catalogue.find(f"{NAME_PREFIX}{run}"):
        try:
            runs[name.removeprefix(NAME_PREFIX).removesuffix(f".{catalogue.NAME}")] = catalogue.read(name)
        except SegmentError as error:
            click.echo(str(error), err=True)
    return runs


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
