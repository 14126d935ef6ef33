"""`pipeline positions`: what a live run holds, and what it has gained."""

import json

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@run_name
@json_option
def positions(run: str, as_json: bool) -> int:
    """Quantity, average price, realized and unrealized profit and fees of each symbol."""
    from pipeline.asking.question import ask_run

    report = ask_run(run, "status")
    if as_json:
        click.echo(json.dumps({"run": report["run"], "positions": report["positions"]}))
    else:
        from pipeline.reports.text import positions_table
        from pipeline.terminal import data_console

        data_console().print(positions_table(report))
    return 0
