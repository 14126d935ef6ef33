"""`pipeline logs`: what the processes of a run have written."""

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@click.argument("stage", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on as lines are written, until the run ends.")
@click.option(
    "-n", "--lines", type=click.IntRange(0, 10**9), metavar="N", help="Only the last N lines of each process."
)
@run_name
@json_option
def logs(stage: str | None, follow: bool, lines: int | None, run: str, as_json: bool) -> int:
    """What the processes of a run, or of STAGE, have written. A run that has ended will do, too.

    With --json one document; with --follow and --json a document for each line.
    """
    from pipeline.asking.log_reading import show

    return show(stage, run, follow=follow, lines=lines, as_json=as_json)
