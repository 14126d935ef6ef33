"""`pipeline up`: start the line, run it, stop it in order, report."""

from pathlib import Path

import click

from pipeline.commands.options import Duration, configured
from pipeline.commands.options import as_json as json_option


@click.command()
@configured
@click.option("--placement", type=click.Choice(["dedicated", "packed"]), help="A process per stage, or one for all.")
@click.option(
    "--replay", type=click.Path(exists=True, dir_okay=False, path_type=Path), multiple=True, metavar="FILE",
    help="Play a recorded session; repeat for files that follow each other.",
)  # fmt: skip
@click.option("--speed", metavar="X|max", help="Replay speed: a multiple of the recorded pace, or max.")
@click.option("--strategy", metavar="NAME|FILE.py", help="A shipped strategy, or a file of your own.")
@click.option("--duration", type=Duration(), metavar="10s", help="Stop after this long; by default run until stopped.")
@click.option("--detach", is_flag=True, help="Run in the background; return when trading has started.")
@click.option("--notify-fd", type=int, hidden=True)
@click.option("--dry-run", is_flag=True, help="Print what would run where, and start nothing.")
@json_option
def up(
    file: Path | None,
    assignments: tuple[str, ...],
    placement: str | None,
    replay: tuple[Path, ...],
    speed: str | None,
    strategy: str | None,
    duration: float | None,
    detach: bool,
    notify_fd: int | None,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Start the pipeline. Without options: the embedded paper exchange, BTCUSDT and ETHUSDT, market_maker.

    Ctrl-C stops in order and exits 0; a second one forces and exits 130. With --detach, `pipeline down` stops it.
    """
    if detach and notify_fd is None and not dry_run:
        from pipeline.run.detach import start_detached

        return start_detached(as_json=as_json)
    try:
        from pipeline.config.sources import Tree, put
        from pipeline.config.tree import load

        options: Tree = {}
        for path, value in (
            ("launch.placement", placement),
            ("venue.replay", [str(item) for item in replay] or None),
            ("venue.speed", speed),
            ("strategy.name", strategy),
            ("run.duration_s", duration),
        ):
            if value is not None:
                put(options, path.split("."), value)
        loaded = load(file, assignments, options)
        if dry_run:
            from pipeline.reports.dry_run import print_plan

            return print_plan(loaded, as_json=as_json)
        from pipeline.run.detach import Launcher
        from pipeline.run.session import run_session

        return run_session(loaded, as_json=as_json, launcher=None if notify_fd is None else Launcher(notify_fd))
    except KeyboardInterrupt:  # before the run was there to count it
        click.echo("interrupted before trading started", err=True)
        return 0
