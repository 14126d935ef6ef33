"""`pipeline export`: the run in the words of other programs."""

import json
import sys
from pathlib import Path

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import config_file


@click.group()
def export() -> None:
    """Render the run for other programs."""


@export.command()
@config_file
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), metavar="DIR",
    help="Write the files there; by default they go to standard output.",
)  # fmt: skip
@click.option(
    "--reference", is_flag=True,
    help="For a plain machine of 6 cores with /opt/tickpipe/bin/pipeline, not for this one: as kept in ops/systemd.",
)  # fmt: skip
@json_option
def systemd(file: Path | None, output: Path | None, reference: bool, as_json: bool) -> int:
    """Units of the run that `pipeline up -c FILE` would be on this machine: cores, limits, deadlines from its plan."""
    from launch.host.topology import Topology, read_topology
    from pipeline.config.tree import load
    from pipeline.exporters.systemd import REFERENCE_CORES, REFERENCE_PROGRAM, render
    from pipeline.line.placement import placed
    from pipeline.reports.dry_run import plan_of

    config = load(file).config
    # Whoever renders the units may lack what they grant: what is required is refused at the start, not here.
    cores = placed(config, Topology(tuple(range(REFERENCE_CORES)), swap=True) if reference else read_topology())
    program = REFERENCE_PROGRAM if reference else Path(sys.executable).with_name("pipeline")
    units = render(config, cores, plan_of(config, cores), program, file.resolve() if file is not None else None)
    if output is not None:
        _write(output, units)
    if as_json:
        click.echo(json.dumps({"units": units}))
    elif output is None:
        click.echo("\n".join(f"# {name}\n{text}" for name, text in units.items()), nl=False)
    return 0


@export.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--output", type=click.Path(file_okay=False, path_type=Path), default=Path(), metavar="DIR",
    help="Where the files go; by default the current folder.",
)  # fmt: skip
@json_option
def parquet(files: tuple[Path, ...], output: Path, as_json: bool) -> int:
    """Captures as Parquet, each table a file: depth, trades and tickers; of ITCH and raw, one for each type of message.

    Needs tickpipe[parquet].
    """
    from pipeline.errors import UsageError
    from pipeline.exporters.parquet import export as write

    done = []
    for file in files:
        try:
            written, problems = write(file, output)
        except OSError as error:
            raise UsageError(f"{file} to {output}: {error}", "name a folder with room that may be written") from None
        done.append({"file": str(file), "rows": {str(path): rows for path, rows in written.items()},
                     "problems": problems})  # fmt: skip
        for problem in problems:
            click.echo(problem, err=True)
        if not as_json:
            for path, rows in written.items():
                click.echo(f"{path}  {rows:,} rows")
    if as_json:
        click.echo(json.dumps({"files": done}))
    return 0


def _write(folder: Path, units: dict[str, str]) -> None:
    from pipeline.errors import UsageError

    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in units.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}", "name a folder that may be written") from None
    click.echo(f"wrote {', '.join(units)} to {folder}; next: copy them to /etc/systemd/system, daemon-reload", err=True)
