"""`pipeline latency`: every hop of a live run, beside its budget."""

import json

import click

from pipeline.commands.options import as_json as json_option
from pipeline.commands.options import run_name


@click.command()
@run_name
@json_option
def latency(run: str, as_json: bool) -> int:
    """Percentiles of every hop since the run began, beside its budget."""
    from pipeline.asking.question import ask_run

    report = ask_run(run, "status")
    if as_json:
        click.echo(json.dumps({"run": report["run"], "hops": report["hops"]}))
    else:
        from pipeline.reports.text import hops_table
        from pipeline.terminal import data_console

        data_console().print(hops_table(report))
    return 0
