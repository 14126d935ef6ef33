"""`pipeline status`: the run report of a live run, as of now."""

import json

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@run_name
@json_option
def status(run: str, as_json: bool) -> int:
    """How a run stands: stages, latencies, market data, orders, books, positions. The shape of the run report."""
    from pipeline.asking.question import ask_run

    report = ask_run(run, "status")
    if as_json:
        click.echo(json.dumps(report))
    else:
        from pipeline.reports.text import print_report
        from pipeline.terminal import data_console

        print_report(report, data_console())
    return 0
